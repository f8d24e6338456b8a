/* Updates, element by element: memory decides, so a thread has a pack. */
#include "kernels/cuda/device.cuh"

/* In fp32, in the order of the reference. */
__global__ static void adam(dsc_shape s, const void *gradient, float *param, float *exp_avg, float *exp_avg_sq,
                            void *copy, const dsc_step *step)
{
    const int64_t i = pack_index(), count = s.d[0] - i;
    const float beta1 = (float)step->beta1, rest1 = (float)(1 - step->beta1);
    const float beta2 = (float)step->beta2, rest2 = (float)(1 - step->beta2);
    const float eps = (float)step->eps, correction2 = (float)step->bias_correction2;
    const float rate = (float)(step->lr / step->bias_correction1), scale = step->gradient_scale;
    const float decay = (float)step->weight_decay, shrink = (float)(step->lr * step->weight_decay);
    const bool decoupled = s.flags & DSC_DECOUPLED, frozen = s.flags & DSC_FROZEN;
    pack g = {};

    if (count <= 0) return;
    if (!frozen) g = load_pack(gradient, i, count, s.out);
    pack p = load_pack(param, i, count, DSC_FP32), m = load_pack(exp_avg, i, count, DSC_FP32);
    pack v = load_pack(exp_avg_sq, i, count, DSC_FP32);
#pragma unroll
    for (int k = 0; k < PACK; k++) {
        g.v[k] *= scale;
        if (decoupled) p.v[k] -= shrink * p.v[k];
        else g.v[k] += decay * p.v[k];
        if (!frozen) {
            m.v[k] = beta1 * m.v[k] + rest1 * g.v[k];
            v.v[k] = beta2 * v.v[k] + rest2 * g.v[k] * g.v[k];
        }
        p.v[k] -= rate * (m.v[k] / (sqrtf(v.v[k]) * correction2 + eps));
    }
    store_pack(param, i, count, DSC_FP32, p);
    if (!frozen) {
        store_pack(exp_avg, i, count, DSC_FP32, m);
        store_pack(exp_avg_sq, i, count, DSC_FP32, v);
    }
    if (copy != NULL) store_pack(copy, i, count, s.type, p);
}

dsc_status dsc_cuda_adam(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace;
    return LAUNCH(adam, blocks_of_packs(s->d[0]), THREADS, 0, *s, o[0], (float *)o[1], (float *)o[2], (float *)o[3],
                  o[4], step);
}

__global__ static void momentum(dsc_shape s, const void *gradient, float *exp_avg, const dsc_step *step)
{
    const int64_t i = pack_index(), count = s.d[0] - i;
    const float beta1 = (float)step->beta1, rest1 = (float)(1 - step->beta1);
    const float scale = s.flags & DSC_SCALED ? 1 : step->gradient_scale * (float)s.d[1];
    pack m = {};

    if (count <= 0) return;
    const pack g = load_pack(gradient, i, count, s.type);
    if (!(s.flags & DSC_FIRST)) m = load_pack(exp_avg, i, count, DSC_FP32);
#pragma unroll
    for (int k = 0; k < PACK; k++)
        m.v[k] = s.flags & DSC_FIRST ? g.v[k] * scale : beta1 * m.v[k] + rest1 * (g.v[k] * scale);
    store_pack(exp_avg, i, count, DSC_FP32, m);
}

dsc_status dsc_cuda_momentum(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace;
    return LAUNCH(momentum, blocks_of_packs(s->d[0]), THREADS, 0, *s, o[0], (float *)o[1], step);
}

__global__ static void drift(int64_t n, const float *param, const float *anchor, const float *exp_avg_sq,
                             float *exp_avg, const dsc_step *step)
{
    const int64_t i = pack_index();
    const float eps = (float)step->eps;

    if (i >= n) return;
    const pack from = load_pack(anchor, i, n - i, DSC_FP32), v = load_pack(exp_avg_sq, i, n - i, DSC_FP32);
    pack p = load_pack(param, i, n - i, DSC_FP32);
#pragma unroll
    for (int k = 0; k < PACK; k++) p.v[k] = (p.v[k] - from.v[k]) * (sqrtf(v.v[k]) + eps);
    store_pack(exp_avg, i, n - i, DSC_FP32, p);
}

dsc_status dsc_cuda_drift(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace;
    return LAUNCH(drift, blocks_of_packs(s->d[0]), THREADS, 0, s->d[0], (const float *)o[0], (const float *)o[1],
                  (const float *)o[2], (float *)o[3], step);
}

__global__ static void rejoin(dsc_shape s, float *exp_avg, const float *exp_avg_sq, float *anchor, float *param,
                              void *copy, const dsc_step *step)
{
    const int64_t i = pack_index(), count = s.d[0] - i;
    const float eps = (float)step->eps, share = (float)(-1 / step->rates);

    if (count <= 0) return;
    const pack v = load_pack(exp_avg_sq, i, count, DSC_FP32);
    pack m = load_pack(exp_avg, i, count, DSC_FP32), p = load_pack(anchor, i, count, DSC_FP32);
#pragma unroll
    for (int k = 0; k < PACK; k++) {
        p.v[k] += m.v[k] / (sqrtf(v.v[k]) + eps);
        m.v[k] *= share;
    }
    store_pack(param, i, count, DSC_FP32, p);
    store_pack(anchor, i, count, DSC_FP32, p);
    store_pack(exp_avg, i, count, DSC_FP32, m);
    if (copy != NULL) store_pack(copy, i, count, s.type, p);
}

dsc_status dsc_cuda_rejoin(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace;
    return LAUNCH(rejoin, blocks_of_packs(s->d[0]), THREADS, 0, *s, (float *)o[0], (const float *)o[1], (float *)o[2],
                  (float *)o[3], o[4], step);
}
