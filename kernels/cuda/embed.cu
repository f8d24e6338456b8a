extern "C" {
#include "kernels/shard.h"
}
#include "kernels/cuda/device.cuh"

/* ---- Forward: a thread has a pack of a row */

__device__ static pack row_pack(const void *table, int64_t row, int64_t cols, int64_t column, int type)
{
    return row < 0 ? (pack){} : load_pack(table, row * cols + column, cols - column, type);
}

/* A token outside the vocabulary makes NaN of its row: it must be no access, and nobody is there to be told. */
__global__ static void embed_fwd(dsc_shape s, int64_t limit, const int32_t *tokens, const void *wte, const void *wpe,
                                 void *x, const dsc_step *step)
{
    const int64_t cols = s.d[2], packs = dsc_ceil_div(cols, PACK);
    const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = index / packs;
    const int64_t column = index % packs * PACK, t = row % s.d[1];

    if (row >= s.d[0] * s.d[1]) return;
    const int64_t token = tokens[row + row / s.d[1]];
    const bool is_token = token >= 0 && token < limit;
    pack p = row_pack(wte, is_token ? dsc_own_token(&s, step, token) : -1, cols, column, s.type);

    if (!(s.flags & DSC_NO_POSITIONS)) {
        const pack at = row_pack(wpe, dsc_own_position(&s, step, t), cols, column, s.type);

#pragma unroll
        for (int k = 0; k < PACK; k++) p.v[k] += at.v[k];
    }
    if (!is_token)
#pragma unroll
        for (int k = 0; k < PACK; k++) p.v[k] = NAN;
    store_pack(x, row * cols + column, cols - column, s.type, p);
}

dsc_status dsc_cuda_embed_fwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t packs = s->d[0] * s->d[1] * dsc_ceil_div(s->d[2], PACK);

    (void)workspace;
    return LAUNCH(embed_fwd, blocks_for(packs, THREADS), THREADS, 0, *s, dsc_token_limit(s), (const int32_t *)o[0],
                  o[1], o[2], o[3], step);
}

/* ---- Backward: a block has some rows of the table and looks through all tokens for theirs. A thread has a column of
 * them, and adds what rows of dx belong there in their order: so every sum has one owner and one order. */

enum { TABLE_ROWS = 64, SCAN = 2048, AHEAD = 8 };

typedef struct matches { int count; int32_t row[SCAN]; uint8_t to[SCAN]; } matches;

/* Those of the tokens first .. first + SCAN that belong to the block's rows, in order. */
__device__ static void find_matches(const dsc_shape &s, const dsc_step *step, const int32_t *tokens, int first,
                                    int64_t low, matches *found)
{
    __shared__ int counts[THREADS / WARP];
    enum { EACH = SCAN / THREADS };
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, rows = (int)(s.d[0] * s.d[1]), t = (int)s.d[1];
    const int64_t high = DSC_MIN(low + TABLE_ROWS, s.d[3]);
    int to[EACH], own = 0, before = 0, all = 0;

#pragma unroll
    for (int i = 0; i < EACH; i++) { /* a thread's are neighbours */
        const int row = first + threadIdx.x * EACH + i;
        const int64_t token = row < rows ? dsc_own_token(&s, step, tokens[row + row / t]) : -1;

        to[i] = token >= low && token < high ? (int)(token - low) : -1;
        own += to[i] >= 0;
    }
    int sum = own;
    for (int step_ = 1; step_ < WARP; step_ *= 2) {
        const int other = __shfl_up_sync(0xffffffff, sum, step_);

        if (lane >= step_) sum += other;
    }
    __syncthreads(); /* the last matches are done with */
    if (lane == WARP - 1) counts[warp] = sum;
    __syncthreads();
    for (int w = 0; w < THREADS / WARP; w++) {
        before += w < warp ? counts[w] : 0;
        all += counts[w];
    }
    before += sum - own;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        if (to[i] < 0) continue;
        found->row[before] = first + threadIdx.x * EACH + i;
        found->to[before++] = (uint8_t)to[i];
    }
    if (threadIdx.x == 0) found->count = all;
    __syncthreads();
}

/* Rounds after each addition, as the table would. */
__global__ static void add_tokens(dsc_shape s, const int32_t *tokens, const void *dx, void *dwte, const dsc_step *step)
{
    extern __shared__ float sums[]; /* [TABLE_ROWS][THREADS] */
    __shared__ matches found;
    const int64_t cols = s.d[2], low = (int64_t)blockIdx.x * TABLE_ROWS;
    const int64_t column = (int64_t)blockIdx.y * THREADS + threadIdx.x;
    const bool is_mine = column < cols;
    uint64_t is_there = 0;

    for (int first = 0; first < (int)(s.d[0] * s.d[1]); first += SCAN) {
        find_matches(s, step, tokens, first, low, &found);
        for (int i = 0; is_mine && i < found.count; i += AHEAD) {
            float value[AHEAD];

#pragma unroll
            for (int k = 0; k < AHEAD; k++)
                value[k] = i + k < found.count ? load(dx, found.row[i + k] * cols + column, s.type) : 0;
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                if (i + k >= found.count) break;
                const int to = found.to[i + k];
                float *sum = &sums[to * THREADS + threadIdx.x];

                if (!(is_there >> to & 1))
                    *sum = s.flags & DSC_FIRST ? 0 : load(dwte, (low + to) * cols + column, s.out);
                is_there |= UINT64_C(1) << to;
                *sum = stored(*sum + value[k], s.out);
            }
        }
    }
    for (int to = 0; is_mine && to < TABLE_ROWS && low + to < s.d[3]; to++) {
        if (is_there >> to & 1) store(dwte, (low + to) * cols + column, s.out, sums[to * THREADS + threadIdx.x]);
        else if (s.flags & DSC_FIRST) store(dwte, (low + to) * cols + column, s.out, 0);
    }
}

__global__ static void sum_positions(dsc_shape s, const void *dx, void *dwpe, const dsc_step *step)
{
    const int64_t cols = s.d[2], packs = dsc_ceil_div(cols, PACK);
    const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = index / packs;
    const int64_t column = index % packs * PACK, t = dsc_first_position(&s, step) + row;
    pack sum = {};

    if (row >= dsc_position_rows(&s)) return;
    if (s.flags & DSC_ACCUMULATE) sum = load_pack(dwpe, row * cols + column, cols - column, s.out);
#pragma unroll 4
    for (int64_t b = 0; b < (t < s.d[1] ? s.d[0] : 0); b++) {
        const pack p = load_pack(dx, (b * s.d[1] + t) * cols + column, cols - column, s.type);

#pragma unroll
        for (int k = 0; k < PACK; k++) sum.v[k] += p.v[k];
    }
    store_pack(dwpe, row * cols + column, cols - column, s.out, sum);
}

dsc_status dsc_cuda_embed_bwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int shared_bytes = TABLE_ROWS * THREADS * (int)sizeof(float);
    const dim3 blocks(blocks_for(s->d[3], TABLE_ROWS), blocks_for(s->d[2], THREADS));
    const int64_t packs = dsc_position_rows(s) * dsc_ceil_div(s->d[2], PACK);
    dsc_status status = DSC_OK;

    (void)workspace;
    DSC_TRY(DSC_CUDA(cudaFuncSetAttribute(add_tokens, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes)));
    DSC_TRY(LAUNCH(add_tokens, blocks, THREADS, shared_bytes, *s, (const int32_t *)o[0], o[1], o[2], step));
    if (!(s->flags & DSC_NO_POSITIONS))
        DSC_TRY(LAUNCH(sum_positions, blocks_for(packs, THREADS), THREADS, 0, *s, o[1], o[3], step));
out:
    return status;
}
