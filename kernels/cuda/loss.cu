/* A block has a row of logits, over which it passes twice. Rows of 16 bits that fit stay in shared memory from the
 * first pass to the second, others in the caches as well as they can: logits are read once, and become their gradient
 * there. */
extern "C" {
#include "kernels/shard.h"
}
#include "kernels/cuda/device.cuh"

enum { ROW_THREADS = 512, STEP = ROW_THREADS * PACK, MOST_KEPT = 112 << 10 /* two blocks of a multiprocessor */ };

/* What 16 bits hold of a logit needs no more than the short form, whose error is below theirs. */
__device__ static float exponential(float x, int type) { return type == DSC_FP32 ? expf(x) : __expf(x); }

/* The largest of some logits (of none: the lowest number), and the sum of exponentials relative to it. */
typedef struct softmax { float largest, sum; } softmax;

__device__ static softmax join(softmax a, softmax b)
{
    const float largest = fmaxf(a.largest, b.largest);

    return (softmax){largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest)};
}

__device__ static softmax add_pack(softmax all, const pack &p, int64_t count, int type)
{
    float largest = all.largest, sum;

    if (count >= PACK) {
#pragma unroll
        for (int k = 0; k < PACK; k++) largest = fmaxf(largest, p.v[k]);
        sum = all.sum * exponential(all.largest - largest, type);
#pragma unroll
        for (int k = 0; k < PACK; k++) sum += exponential(p.v[k] - largest, type);
        return (softmax){largest, sum};
    }
#pragma unroll
    for (int k = 0; k < PACK; k++) largest = k < count ? fmaxf(largest, p.v[k]) : largest;
    sum = all.sum * exponential(all.largest - largest, type);
#pragma unroll
    for (int k = 0; k < PACK; k++) sum += k < count ? exponential(p.v[k] - largest, type) : 0;
    return (softmax){largest, sum};
}

/* A row's packs, of which a thread keeps its own: kept[i] is that of its turn i, NULL: none is kept. */
typedef struct logits_row { void *logits; int64_t first, stride; int type; uint4 *kept; } logits_row;

__device__ static pack open_pack(uint4 raw, int type)
{
    const float2 a = widen(raw.x, type), b = widen(raw.y, type), c = widen(raw.z, type), d = widen(raw.w, type);

    return (pack){{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}

__device__ static pack first_pack(const logits_row &r, int64_t v, int turn)
{
    if (r.kept == NULL) return load_pack(r.logits, r.first + v, r.stride - v, r.type);
    r.kept[turn * ROW_THREADS] = *(const uint4 *)address_of(r.logits, r.first + v, r.type);
    return open_pack(r.kept[turn * ROW_THREADS], r.type);
}

__device__ static pack second_pack(const logits_row &r, int64_t v, int turn)
{
    if (r.kept == NULL) return load_pack(r.logits, r.first + v, r.stride - v, r.type);
    return open_pack(r.kept[turn * ROW_THREADS], r.type);
}

/* What is kept is whole packs at whole addresses. */
__device__ static logits_row find_row(const dsc_shape &s, void *logits, bool is_kept)
{
    extern __shared__ uint4 kept[];

    return (logits_row){logits, blockIdx.x * s.d[3], s.d[3], s.type, is_kept ? kept + threadIdx.x : NULL};
}

/* Of the block's row; every thread has the result. */
__device__ static softmax row_softmax(const logits_row &r, int64_t columns)
{
    __shared__ softmax of_warp[ROW_THREADS / WARP];
    softmax all = {-FLT_MAX, 0};
    int turn = 0;

#pragma unroll 4
    for (int64_t v = threadIdx.x * PACK; v < r.stride; v += STEP, turn++) {
        const pack p = first_pack(r, v, turn);

        if (v < columns) all = add_pack(all, p, columns - v, r.type);
    }
    for (int step = WARP / 2; step > 0; step /= 2)
        all = join(all, (softmax){__shfl_xor_sync(0xffffffff, all.largest, step),
                                  __shfl_xor_sync(0xffffffff, all.sum, step)});
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = all;
    __syncthreads();
    all = of_warp[0];
    for (int w = 1; w < ROW_THREADS / WARP; w++) all = join(all, of_warp[w]);
    return all;
}

/* (p - onehot) * scale, and zero from `columns` to `stride`. target lies outside of them where another rank owns it. */
__device__ static void differentiate(const logits_row &r, int64_t columns, int64_t target, softmax all, float scale)
{
    const float inverse = 1 / all.sum;
    int turn = 0;

#pragma unroll 2
    for (int64_t v = threadIdx.x * PACK; v < r.stride; v += STEP, turn++) {
        const int at = target >= v && target < v + PACK ? (int)(target - v) : PACK;
        const int real = (int)DSC_MAX(0, DSC_MIN(columns - v, PACK));
        pack p = second_pack(r, v, turn);

#pragma unroll
        for (int k = 0; k < PACK; k++) {
            const float probability = exponential(p.v[k] - all.largest, r.type) * inverse;

            p.v[k] = k < real ? (probability - (k == at)) * scale : 0;
        }
        store_pack(r.logits, r.first + v, r.stride - v, r.type, p);
    }
}

/* Log-probabilities in place of that: the first of the steps that stand apart (DSC_APART). */
__device__ static void normalize(const logits_row &r, int64_t columns, double log_sum, float *log_p)
{
    for (int64_t v = threadIdx.x; v < columns; v += ROW_THREADS)
        log_p[r.first + v] = (float)(((const float *)r.logits)[r.first + v] - log_sum);
}

__device__ static int64_t token_of(const int32_t *tokens, int64_t row, int64_t t_max)
{
    return tokens[row + row / t_max + 1];
}

/* A target outside the vocabulary makes NaN of the loss. */
__global__ static void loss_rows(dsc_shape s, bool is_kept, const int32_t *tokens, void *logits, double *losses,
                                 float *log_p, const dsc_step *step)
{
    const int64_t row = blockIdx.x, target = token_of(tokens, row, s.d[1]);
    const logits_row r = find_row(s, logits, is_kept);
    const bool is_token = target >= 0 && target < s.d[2];
    const float target_logit = is_token ? load(logits, r.first + target, s.type) : NAN;
    const softmax all = row_softmax(r, s.d[2]); /* and a barrier before the logits are written */

    const double log_sum = log((double)all.sum) + all.largest;

    if (s.flags & DSC_APART) normalize(r, s.d[2], log_sum, log_p);
    else differentiate(r, s.d[2], is_token ? target : -1, all, step->loss_gradient);
    if (threadIdx.x == 0) losses[row] = log_sum - target_logit;
}

__global__ static void sum_losses(int64_t rows, int32_t flags, const double *losses, double *loss)
{
    double sum = 0;

    for (int64_t i = threadIdx.x; i < rows; i += 1024) sum += losses[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss = flags & DSC_ACCUMULATE ? *loss + sum : sum;
}

/* ---- The other steps that stand apart, each for all rows before the next; a thread has an element of a row */

__global__ static void by_target(dsc_shape s, const int32_t *tokens, float *out, const dsc_step *step)
{
    const int64_t v = (int64_t)blockIdx.y * THREADS + threadIdx.x, row = blockIdx.x;

    if (v < s.d[3])
        out[row * s.d[3] + v] = v == dsc_target_column(&s, step, tokens, row) ? -step->loss_gradient : 0;
}

__global__ static void by_sum(dsc_shape s, const float *log_p, float *out, const dsc_step *step)
{
    const int64_t v = (int64_t)blockIdx.y * THREADS + threadIdx.x, i = blockIdx.x * s.d[3] + v;

    if (v < s.d[3]) out[i] = v < dsc_real_columns(&s, step) ? expf(log_p[i]) * step->loss_gradient : 0;
}

__global__ static void add_both(dsc_shape s, const float *by_sum, const float *by_target, float *logits)
{
    const int64_t v = (int64_t)blockIdx.y * THREADS + threadIdx.x, i = blockIdx.x * s.d[3] + v;

    if (v < s.d[3]) logits[i] = by_sum[i] + by_target[i];
}

static dsc_status differentiate_apart(const dsc_shape *s, const int32_t *tokens, void *workspace, float *logits,
                                      const dsc_step *step)
{
    const dim3 blocks((unsigned)(s->d[0] * s->d[1]), blocks_for(s->d[3], THREADS));
    float *log_p = dsc_loss_step(s, workspace, 0), *target = dsc_loss_step(s, workspace, 1);
    float *sum = dsc_has_all_logits(s) ? logits : dsc_loss_step(s, workspace, 2);
    dsc_status status = DSC_OK;

    DSC_TRY(LAUNCH(by_target, blocks, THREADS, 0, *s, tokens, target, step));
    DSC_TRY(LAUNCH(by_sum, blocks, THREADS, 0, *s, log_p, sum, step));
    DSC_TRY(LAUNCH(add_both, blocks, THREADS, 0, *s, sum, target, logits));
out:
    return status;
}

/* Of a row; 0: it is not kept. */
static int kept_bytes(const dsc_shape *s, const void *logits)
{
    const int64_t bytes = dsc_ceil_div(s->d[3], STEP) * ROW_THREADS * (int64_t)sizeof(uint4);
    const bool is_whole = s->d[3] % PACK == 0 && (uintptr_t)logits % sizeof(uint4) == 0;

    return s->type != DSC_FP32 && is_whole && bytes <= MOST_KEPT ? (int)bytes : 0;
}

dsc_status dsc_cuda_cross_entropy(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t rows = s->d[0] * s->d[1];
    const int bytes = kept_bytes(s, o[1]);
    const int32_t *tokens = (const int32_t *)o[0];
    double *losses = dsc_loss_rows(workspace);
    float *log_p = dsc_loss_step(s, workspace, 0); /* with DSC_APART */
    dsc_status status = DSC_OK;

    DSC_TRY(DSC_CUDA(cudaFuncSetAttribute(loss_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)));
    DSC_TRY(LAUNCH(loss_rows, (unsigned)rows, ROW_THREADS, bytes, *s, bytes > 0, tokens, o[1], losses, log_p, step));
    if (s->flags & DSC_APART) DSC_TRY(differentiate_apart(s, tokens, workspace, (float *)o[1], step));
    DSC_TRY(LAUNCH(sum_losses, 1, 1024, 0, rows, s->flags, losses, (double *)o[2]));
out:
    return status;
}

/* ---- Over tensor ranks */

__global__ static void part_rows(dsc_shape s, const int32_t *tokens, const void *logits, float *part,
                                 const dsc_step *step)
{
    const int64_t row = blockIdx.x, token = token_of(tokens, row, s.d[1]);
    const int64_t target = dsc_own_row(token, s.d[4], step->tp_index);
    const logits_row r = find_row(s, (void *)logits, false);
    const softmax all = row_softmax(r, dsc_real_columns(&s, step));

    if (threadIdx.x > 0) return;
    part[3 * row] = all.largest;
    part[3 * row + 1] = all.sum;
    part[3 * row + 2] = token < 0 || token >= s.d[2] ? NAN : target < 0 ? 0 : load(logits, r.first + target, s.type);
}

/* Ranks' parts joined in their order, in double: so all of them have the same bits. The logarithm of the sum of all
 * exponentials. */
__device__ static double join_parts(const float *parts, int64_t step, int64_t ranks, softmax *all)
{
    double sum = 0;

    all->largest = parts[0];
    for (int64_t i = 1; i < ranks; i++) all->largest = fmaxf(all->largest, parts[i * step]);
    for (int64_t i = 0; i < ranks; i++) sum += parts[i * step + 1] * exp((double)parts[i * step] - all->largest);
    all->sum = (float)sum;
    return log(sum) + all->largest;
}

__global__ static void join_rows(dsc_shape s, const int32_t *tokens, const float *parts, void *logits, double *losses,
                                 float *log_p, const dsc_step *step)
{
    const int64_t row = blockIdx.x, rows = gridDim.x, token = token_of(tokens, row, s.d[1]);
    const bool is_token = token >= 0 && token < s.d[2];
    const int64_t columns = dsc_real_columns(&s, step), owner = is_token ? token / s.d[4] : 0;
    const logits_row r = find_row(s, logits, false);
    softmax all;
    const double log_sum = join_parts(parts + 3 * row, 3 * rows, s.d[5], &all);
    const double loss = log_sum - parts[3 * (owner * rows + row) + 2];

    if (s.flags & DSC_APART) normalize(r, columns, log_sum, log_p);
    else differentiate(r, columns, dsc_own_row(token, s.d[4], step->tp_index), all, step->loss_gradient);
    if (threadIdx.x == 0) losses[row] = is_token ? loss : NAN;
}

dsc_status dsc_cuda_cross_entropy_part(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace;
    return LAUNCH(part_rows, (unsigned)(s->d[0] * s->d[1]), ROW_THREADS, 0, *s, (const int32_t *)o[0], o[1],
                  (float *)o[2], step);
}

dsc_status dsc_cuda_cross_entropy_join(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t rows = s->d[0] * s->d[1];
    const int32_t *tokens = (const int32_t *)o[0];
    double *losses = dsc_loss_rows(workspace);
    float *log_p = dsc_loss_step(s, workspace, 0); /* with DSC_APART */
    dsc_status status = DSC_OK;

    DSC_TRY(LAUNCH(join_rows, (unsigned)rows, ROW_THREADS, 0, *s, tokens, (const float *)o[1], o[2], losses, log_p,
                   step));
    if (s->flags & DSC_APART) DSC_TRY(differentiate_apart(s, tokens, workspace, (float *)o[2], step));
    DSC_TRY(LAUNCH(sum_losses, 1, 1024, 0, rows, s->flags, losses, (double *)o[3]));
out:
    return status;
}
