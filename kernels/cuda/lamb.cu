/* LAMB (You et al. 2020; compressed steps: Li et al. 2021). Parts of a tensor are summed by blocks, then in order. */
extern "C" {
#include "kernel/held.h"
}
#include "kernels/cuda/device.cuh"

enum { SUMS = 4, STATE = 2 };

/* ---- Moments of all elements; then, tensor by tensor, what is summed */

__global__ static void moments(dsc_shape s, const void *gradient, float *exp_avg, float *exp_avg_sq, float *fresh,
                               const dsc_step *step)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const float beta1 = (float)step->beta1, rest1 = (float)(1 - step->beta1);
    const float beta2 = (float)step->beta2, rest2 = (float)(1 - step->beta2);

    if (i >= s.d[0]) return;
    if (s.flags & DSC_FROZEN) {
        const float m = ((const float *)gradient)[i], g = (m - beta1 * exp_avg[i]) / rest1;

        exp_avg[i] = m;
        fresh[i] = beta2 * fresh[i] + rest2 * g * g;
    } else {
        const float g = load(gradient, i, s.out) * step->gradient_scale;

        exp_avg[i] = beta1 * exp_avg[i] + rest1 * g;
        fresh[i] = exp_avg_sq[i] = beta2 * exp_avg_sq[i] + rest2 * g * g;
    }
}

__device__ static double block_max(double value)
{
    __shared__ double largest[THREADS / WARP];

    for (int step = WARP / 2; step > 0; step /= 2) value = fmax(value, __shfl_xor_sync(0xffffffff, value, step));
    if (threadIdx.x % WARP == 0) largest[threadIdx.x / WARP] = value;
    __syncthreads();
    for (int w = 0; w < THREADS / WARP; w++) value = fmax(value, largest[w]);
    return value;
}

__global__ static void norm_parts(dsc_shape s, const float *param, const float *exp_avg, const float *exp_avg_sq,
                                  const float *fresh, const dsc_held *held, double *partial, const dsc_step *step)
{
    const float eps = (float)step->eps, decay = (float)step->weight_decay;
    const float correction1 = (float)(1 / step->bias_correction1), correction2 = (float)step->bias_correction2;
    const float fresh2 = (float)step->fresh_correction2;
    const dsc_held tensor = held[blockIdx.y];
    const int64_t each = dsc_ceil_div(tensor.elems, DSC_SUM_CHUNKS), begin = blockIdx.x * each;
    double all[SUMS] = {0};

    for (int64_t k = begin + threadIdx.x; k < DSC_MIN(tensor.elems, begin + each); k += THREADS) {
        const int64_t i = tensor.first + k;
        const float size = sqrtf(exp_avg_sq[i]) * correction2 + eps;
        const float u0 = exp_avg[i] * correction1 / size, u = u0 + decay * param[i];

        all[0] += (double)param[i] * (double)param[i];
        all[1] += (double)u * (double)u;
        all[2] += (double)u0 * (double)u0;
        if (s.flags & DSC_FROZEN && k < tensor.real)
            all[3] = fmax(all[3], (double)(size / (sqrtf(fresh[i]) * fresh2 + eps)));
    }
    for (int n = 0; n < SUMS; n++) all[n] = n < 3 ? block_sum(all[n]) : block_max(all[n]);
    if (threadIdx.x > 0) return;
    for (int n = 0; n < SUMS; n++) partial[(blockIdx.y * DSC_SUM_CHUNKS + blockIdx.x) * SUMS + n] = all[n];
}

__global__ static void join_norms(int64_t tensors, const double *partial, double *sums)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, n = i % SUMS;
    double all = 0;

    if (i >= tensors * SUMS) return;
    for (int chunk = 0; chunk < DSC_SUM_CHUNKS; chunk++) {
        const double one = partial[(i / SUMS * DSC_SUM_CHUNKS + chunk) * SUMS + n];

        all = n < 3 ? all + one : fmax(all, one);
    }
    sums[i] = all;
}

dsc_status dsc_cuda_lamb_norms(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const dim3 parts(DSC_SUM_CHUNKS, (unsigned)s->d[1]);
    double *partial = (double *)workspace;
    dsc_status status = DSC_OK;

    DSC_TRY(LAUNCH(moments, blocks_for(s->d[0], THREADS), THREADS, 0, *s, o[0], (float *)o[2], (float *)o[3],
                   (float *)o[4], step));
    DSC_TRY(LAUNCH(norm_parts, parts, THREADS, 0, *s, (const float *)o[1], (const float *)o[2], (const float *)o[3],
                   (const float *)o[4], (const dsc_held *)o[5], partial, step));
    DSC_TRY(LAUNCH(join_norms, blocks_for(s->d[1] * SUMS, THREADS), THREADS, 0, s->d[1], partial, (double *)o[6]));
out:
    return status;
}

/* ---- Trust ratios, a tensor a thread */

__device__ static double within(double value, double low, double high) { return fmax(low, fmin(value, high)); }

/* a share + b (1 - share), each operation rounded as on the host: all ranks' trust has the same bits, and so has the
 * reference's. */
__device__ static double mixed_of(double a, double b, double share)
{
    return __dadd_rn(__dmul_rn(share, a), __dmul_rn(1 - share, b));
}

__device__ static double ratio_of(const double norms[SUMS], const dsc_trust *trust)
{
    if (!(norms[0] > 0 && norms[1] > 0)) return 1;
    return within(sqrt(norms[0] / norms[1]), trust->min_coeff, trust->max_coeff);
}

__device__ static double factor_of(const double norms[SUMS], double last, const dsc_step *step)
{
    const dsc_trust *trust = &step->trust;
    const double share = norms[1] > 0 ? fmin(1.0, sqrt(norms[2] / norms[1])) : 1, most = trust->factor_threshold;
    const double factor = norms[3], decayed = mixed_of(factor, 1, share);
    const double mixed = step->weight_decay > 0 ? decayed : factor;

    return within(within(mixed, trust->factor_min, trust->factor_max), last * (1 - most), last * (1 + most));
}

__global__ static void lamb_trust(dsc_shape s, const double *sums, float *state, float *trust, const dsc_step *step)
{
    const int64_t t = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, tensors = s.d[0];
    const double beta = step->trust.coeff_beta;
    const bool frozen = s.flags & DSC_FROZEN;
    double norms[SUMS] = {0};

    if (t >= tensors) return;
    for (int64_t r = 0; r < s.d[1]; r++)
        for (int n = 0; n < SUMS; n++) {
            const double one = sums[(r * tensors + t) * SUMS + n];

            norms[n] = n < 3 ? norms[n] + one : fmax(norms[n], one);
        }
    const double ratio = ratio_of(norms, &step->trust);
    const double factor = frozen ? factor_of(norms, state[t * STATE + 1], step) : 1;
    double mean = state[t * STATE];
    if (!frozen && fabs(ratio - 1) > 0) mean = mixed_of(mean, ratio, beta);
    state[t * STATE] = (float)mean;
    state[t * STATE + 1] = (float)factor;
    trust[t] = (float)(frozen ? mean * factor : ratio);
}

dsc_status dsc_cuda_lamb_trust(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace;
    return LAUNCH(lamb_trust, blocks_for(s->d[0], THREADS), THREADS, 0, *s, (const double *)o[0], (float *)o[1],
                  (float *)o[2], step);
}

/* ---- Steps */

__global__ static void move(const float *exp_avg, const float *exp_avg_sq, const dsc_held *held, const float *trust,
                            float *param, const dsc_step *step)
{
    const float eps = (float)step->eps, correction2 = (float)step->bias_correction2;
    const dsc_held tensor = held[blockIdx.y];
    const double lr = step->lr * (double)trust[blockIdx.y];
    const float rate = (float)(lr / step->bias_correction1), shrink = (float)(lr * step->weight_decay);

    for (int64_t k = (int64_t)blockIdx.x * THREADS + threadIdx.x; k < tensor.elems; k += (int64_t)gridDim.x * THREADS) {
        const int64_t i = tensor.first + k;

        param[i] -= shrink * param[i] + rate * (exp_avg[i] / (sqrtf(exp_avg_sq[i]) * correction2 + eps));
    }
}

__global__ static void copy_all(int64_t n, int type, const float *param, void *copy)
{
    const int64_t i = pack_index();

    if (i < n) store_pack(copy, i, n - i, type, load_pack(param, i, n - i, DSC_FP32));
}

dsc_status dsc_cuda_lamb_step(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const dim3 parts(DSC_SUM_CHUNKS, (unsigned)s->d[1]);
    dsc_status status = DSC_OK;

    (void)workspace;
    DSC_TRY(LAUNCH(move, parts, THREADS, 0, (const float *)o[0], (const float *)o[1], (const dsc_held *)o[2],
                   (const float *)o[3], (float *)o[4], step));
    if (o[5] != NULL)
        DSC_TRY(LAUNCH(copy_all, blocks_of_packs(s->d[0]), THREADS, 0, s->d[0], s->type, (const float *)o[4], o[5]));
out:
    return status;
}
