/* A warp has a row. It passes over it two or three times, of which only the first comes from memory. */
#include "kernels/cuda/device.cuh"

enum { ROWS = THREADS / WARP }; /* of a block */

#define NORM_EPSILON 1e-5f

#define EACH_PACK(j) for (int64_t j = threadIdx.x % WARP * PACK; j < cols; j += WARP * PACK)

__device__ static int64_t find_row() { return (int64_t)blockIdx.x * ROWS + threadIdx.x / WARP; }

__device__ static float sum_of(const pack &p)
{
    return ((p.v[0] + p.v[1]) + (p.v[2] + p.v[3])) + ((p.v[4] + p.v[5]) + (p.v[6] + p.v[7]));
}

/* y = (x - mean) / sqrt(variance + epsilon) * gamma + beta (RMSNorm: mean 0, no beta). */
__global__ static void norm_fwd(dsc_shape s, const void *x, const void *gamma, const void *beta, void *y, float *stats)
{
    const int64_t row = find_row(), cols = s.d[1], first = row * cols;
    float mean = 0, square = 0;

    if (row >= s.d[0]) return;
    if (!(s.flags & DSC_RMS)) {
        EACH_PACK(j) mean += sum_of(load_pack(x, first + j, cols - j, s.type));
        mean = warp_sum(mean) / (float)cols;
    }
    EACH_PACK(j) {
        const pack p = load_pack(x, first + j, cols - j, s.type);

#pragma unroll
        for (int k = 0; k < PACK; k++) square += j + k < cols ? (p.v[k] - mean) * (p.v[k] - mean) : 0;
    }
    const float inverse = 1 / sqrtf(warp_sum(square) / (float)cols + NORM_EPSILON);
    EACH_PACK(j) {
        const pack g = load_pack(gamma, j, cols - j, s.type);
        pack p = load_pack(x, first + j, cols - j, s.type), b = {};

        if (beta != NULL) b = load_pack(beta, j, cols - j, s.type);
#pragma unroll
        for (int k = 0; k < PACK; k++) p.v[k] = (p.v[k] - mean) * inverse * g.v[k] + b.v[k];
        store_pack(y, first + j, cols - j, s.type, p);
    }
    if (threadIdx.x % WARP == 0) {
        stats[2 * row] = mean;
        stats[2 * row + 1] = inverse;
    }
}

/* With z the normalized row and g = dy * gamma: dx = (g - mean(g) - z mean(g z)) / deviation (RMSNorm: no mean(g)). */
__global__ static void norm_bwd_x(dsc_shape s, const void *dy, const void *x, const float *stats, const void *gamma,
                                  const void *residual, void *dx)
{
    const int64_t row = find_row(), cols = s.d[1], first = row * cols;
    float sum_g = 0, sum_gz = 0;

    if (row >= s.d[0]) return;
    const float mean = stats[2 * row], inverse = stats[2 * row + 1];
    EACH_PACK(j) {
        const pack g = load_pack(gamma, j, cols - j, s.type), p = load_pack(x, first + j, cols - j, s.type);
        const pack d = load_pack(dy, first + j, cols - j, s.type);

#pragma unroll
        for (int k = 0; k < PACK; k++) {
            sum_g += d.v[k] * g.v[k];
            sum_gz += d.v[k] * g.v[k] * ((p.v[k] - mean) * inverse);
        }
    }
    const float mean_g = s.flags & DSC_RMS ? 0 : warp_sum(sum_g) / (float)cols;
    const float mean_gz = warp_sum(sum_gz) / (float)cols;
    EACH_PACK(j) {
        const pack g = load_pack(gamma, j, cols - j, s.type), p = load_pack(x, first + j, cols - j, s.type);
        pack d = load_pack(dy, first + j, cols - j, s.type), r = {};

        if (residual != NULL) r = load_pack(residual, first + j, cols - j, s.type);
#pragma unroll
        for (int k = 0; k < PACK; k++)
            d.v[k] = (d.v[k] * g.v[k] - mean_g - (p.v[k] - mean) * inverse * mean_gz) * inverse + r.v[k];
        store_pack(dx, first + j, cols - j, s.type, d);
    }
}

dsc_status dsc_cuda_norm_fwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(norm_fwd, blocks_for(s->d[0], ROWS), THREADS, 0, *s, o[0], o[1], o[2], o[3], (float *)o[4]);
}

dsc_status dsc_cuda_norm_bwd_x(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(norm_bwd_x, blocks_for(s->d[0], ROWS), THREADS, 0, *s, o[0], o[1], (const float *)o[2], o[3], o[4],
                  o[5]);
}
