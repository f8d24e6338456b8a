/* Sums over rows and over elements: of parts first, which the shape alone cuts (kernel/workspace.h), then of these in
 * their order. */
#include "kernels/cuda/device.cuh"

/* ---- Over rows: a warp has 256 columns of some rows, eight warps share a part's rows in turns */

enum { WARPS = THREADS / WARP, SPAN = WARP * PACK };

typedef struct part { int64_t column, first, end; } part;

__device__ static part find_part(int64_t rows, int64_t chunks)
{
    const int64_t each = dsc_ceil_div(rows, chunks), first = blockIdx.y * each;

    return (part){(int64_t)blockIdx.x * SPAN + threadIdx.x % WARP * PACK, first, DSC_MIN(rows, first + each)};
}

/* Adds up the warps' packs of each column, into partial[chunk, cols]. */
__device__ static void put_partial(const pack &sum, int64_t column, int64_t cols, float *partial)
{
    __shared__ pack sums[WARPS][WARP];
    const int lane = threadIdx.x % WARP;
    pack all = {};

    __syncthreads();
    sums[threadIdx.x / WARP][lane] = sum;
    __syncthreads();
    if (threadIdx.x >= WARP) return;
    for (int w = 0; w < WARPS; w++)
#pragma unroll
        for (int k = 0; k < PACK; k++) all.v[k] += sums[w][lane].v[k];
    store_pack(partial, blockIdx.y * cols + column, cols - column, DSC_FP32, all);
}

__global__ static void column_parts(dsc_shape s, int64_t chunks, const void *x, float *partial)
{
    const int64_t cols = s.d[1];
    const part at = find_part(s.d[0], chunks);
    pack sum = {};

#pragma unroll 4
    for (int64_t row = at.first + threadIdx.x / WARP; row < at.end; row += WARPS) {
        const pack p = load_pack(x, row * cols + at.column, cols - at.column, s.type);

#pragma unroll
        for (int k = 0; k < PACK; k++) sum.v[k] += p.v[k];
    }
    put_partial(sum, at.column, cols, partial);
}

/* Of the gradients of gamma and beta: dy z and dy, z the normalized row. */
__global__ static void norm_parts(dsc_shape s, int64_t chunks, const void *dy, const void *x, const float *stats,
                                  float *gamma, float *beta)
{
    const int64_t cols = s.d[1];
    const part at = find_part(s.d[0], chunks);
    pack gamma_sum = {}, beta_sum = {};

#pragma unroll 2
    for (int64_t row = at.first + threadIdx.x / WARP; row < at.end; row += WARPS) {
        const float mean = stats[2 * row], inverse = stats[2 * row + 1];
        const pack p = load_pack(x, row * cols + at.column, cols - at.column, s.type);
        const pack d = load_pack(dy, row * cols + at.column, cols - at.column, s.type);

#pragma unroll
        for (int k = 0; k < PACK; k++) {
            gamma_sum.v[k] += d.v[k] * ((p.v[k] - mean) * inverse);
            beta_sum.v[k] += d.v[k];
        }
    }
    put_partial(gamma_sum, at.column, cols, gamma);
    if (beta != NULL) put_partial(beta_sum, at.column, cols, beta);
}

__global__ static void join_parts(int64_t cols, int64_t chunks, int32_t flags, int type, const float *partial,
                                  void *out)
{
    const int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    double sum;

    if (j >= cols) return;
    sum = flags & DSC_ACCUMULATE ? load(out, j, type) : 0;
    for (int64_t i = 0; i < chunks; i++) sum += partial[i * cols + j];
    store(out, j, type, (float)sum);
}

static dsc_status launch_join(const dsc_shape *s, int64_t chunks, const float *partial, void *out)
{
    return LAUNCH(join_parts, blocks_for(s->d[1], 64), 64, 0, s->d[1], chunks, s->flags, s->out, partial, out);
}

static dim3 parts_of(const dsc_shape *s, int64_t chunks) { return dim3(blocks_for(s->d[1], SPAN), (unsigned)chunks); }

dsc_status dsc_cuda_column_sum(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t chunks = dsc_row_chunks(s->d[0], s->d[1]);
    float *partial = (float *)workspace;
    dsc_status status = DSC_OK;

    (void)step;
    DSC_TRY(LAUNCH(column_parts, parts_of(s, chunks), THREADS, 0, *s, chunks, o[0], partial));
    DSC_TRY(launch_join(s, chunks, partial, o[1]));
out:
    return status;
}

dsc_status dsc_cuda_norm_bwd_w(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t chunks = dsc_row_chunks(s->d[0], s->d[1]);
    float *gamma = (float *)workspace, *beta = o[4] == NULL ? NULL : gamma + chunks * s->d[1];
    dsc_status status = DSC_OK;

    (void)step;
    DSC_TRY(LAUNCH(norm_parts, parts_of(s, chunks), THREADS, 0, *s, chunks, o[0], o[1], (const float *)o[2], gamma,
                   beta));
    DSC_TRY(launch_join(s, chunks, gamma, o[3]));
    if (beta != NULL) DSC_TRY(launch_join(s, chunks, beta, o[4]));
out:
    return status;
}

/* ---- Over elements */

__global__ static void square_parts(int64_t n, int64_t each, int type, const void *x, double *partial)
{
    const int64_t first = blockIdx.x * each, end = DSC_MIN(n, first + each);
    double sum = 0, non_finite = 0;

    for (int64_t i = first + threadIdx.x * PACK; i < end; i += THREADS * PACK) {
        const pack p = load_pack(x, i, end - i, type);

#pragma unroll
        for (int k = 0; k < PACK; k++) {
            const bool is_number = isfinite(p.v[k]);

            sum += is_number ? (double)p.v[k] * (double)p.v[k] : 0;
            non_finite += is_number ? 0 : 1;
        }
    }
    sum = block_sum(sum);
    non_finite = block_sum(non_finite);
    if (threadIdx.x > 0) return;
    partial[2 * blockIdx.x] = sum;
    partial[2 * blockIdx.x + 1] = non_finite;
}

__global__ static void join_squares(int32_t flags, const double *partial, double *out)
{
    double sum = 0, non_finite = 0;

    for (int i = threadIdx.x; i < DSC_DEVICE_CHUNKS; i += THREADS) {
        sum += partial[2 * i];
        non_finite += partial[2 * i + 1];
    }
    sum = block_sum(sum);
    non_finite = block_sum(non_finite);
    if (threadIdx.x > 0) return;
    out[0] = (flags & DSC_ACCUMULATE ? out[0] : 0) + sum;
    out[1] = (flags & DSC_ACCUMULATE ? out[1] : 0) + non_finite;
}

dsc_status dsc_cuda_square_sum(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t each = dsc_round_up(dsc_ceil_div(s->d[0], DSC_DEVICE_CHUNKS), PACK);
    double *partial = (double *)workspace;
    dsc_status status = DSC_OK;

    (void)step;
    DSC_TRY(LAUNCH(square_parts, DSC_DEVICE_CHUNKS, THREADS, 0, s->d[0], each, s->out, o[0], partial));
    DSC_TRY(LAUNCH(join_squares, 1, THREADS, 0, s->flags, partial, (double *)o[1]));
out:
    return status;
}
