#include "kernels/cuda/device.cuh"

/* tanh(sqrt(2/pi) (u + 0.044715 u^3)) = 1 - 2 / (1 + exp(2 ...)), which loses nothing of 1 + tanh. */
#define ROOT_2_PI 0.79788456080286535588f
#define CUBIC 0.044715f

__device__ static float tanh_of(float u)
{
    return 1 - __fdividef(2, 1 + __expf(2 * ROOT_2_PI * (u + CUBIC * u * u * u)));
}

__global__ static void gelu_fwd(int64_t n, int type, const void *u, void *y)
{
    const int64_t i = pack_index();
    pack p;

    if (i >= n) return;
    p = load_pack(u, i, n - i, type);
#pragma unroll
    for (int j = 0; j < PACK; j++) p.v[j] *= 0.5f * (1 + tanh_of(p.v[j]));
    store_pack(y, i, n - i, type, p);
}

__global__ static void gelu_bwd(int64_t n, int type, const void *dy, const void *u, void *du)
{
    const int64_t i = pack_index();
    pack p, g;

    if (i >= n) return;
    p = load_pack(u, i, n - i, type);
    g = load_pack(dy, i, n - i, type);
#pragma unroll
    for (int j = 0; j < PACK; j++) {
        const float t = tanh_of(p.v[j]), slope = ROOT_2_PI * (1 + 3 * CUBIC * p.v[j] * p.v[j]);

        g.v[j] *= 0.5f * (1 + t + p.v[j] * (1 - t * t) * slope);
    }
    store_pack(du, i, n - i, type, g);
}

dsc_status dsc_cuda_gelu_fwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(gelu_fwd, blocks_of_packs(s->d[0]), THREADS, 0, s->d[0], s->type, o[0], o[1]);
}

dsc_status dsc_cuda_gelu_bwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(gelu_bwd, blocks_of_packs(s->d[0]), THREADS, 0, s->d[0], s->type, o[0], o[1], o[2]);
}
