#include "kernels/cuda/device.cuh"

__device__ static float sigmoid(float z) { return 1 / (1 + __expf(-z)); }

__global__ static void swiglu_fwd(int64_t n, int type, const void *u, const void *gate, void *y)
{
    const int64_t i = pack_index();
    pack p, z;

    if (i >= n) return;
    p = load_pack(u, i, n - i, type);
    z = load_pack(gate, i, n - i, type);
#pragma unroll
    for (int j = 0; j < PACK; j++) p.v[j] *= z.v[j] * sigmoid(z.v[j]);
    store_pack(y, i, n - i, type, p);
}

/* silu'(z) = sigmoid(z) (1 + z (1 - sigmoid(z))) */
__global__ static void swiglu_bwd(int64_t n, int type, const void *dy, const void *u, const void *gate, void *du,
                                  void *dgate)
{
    const int64_t i = pack_index();
    pack g, p, z;

    if (i >= n) return;
    g = load_pack(dy, i, n - i, type);
    p = load_pack(u, i, n - i, type);
    z = load_pack(gate, i, n - i, type);
#pragma unroll
    for (int j = 0; j < PACK; j++) {
        const float s = sigmoid(z.v[j]), slope = s * (1 + z.v[j] * (1 - s));

        p.v[j] *= g.v[j] * slope;
        g.v[j] *= z.v[j] * s;
    }
    store_pack(du, i, n - i, type, g);
    store_pack(dgate, i, n - i, type, p);
}

dsc_status dsc_cuda_swiglu_fwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(swiglu_fwd, blocks_of_packs(s->d[0]), THREADS, 0, s->d[0], s->type, o[0], o[1], o[2]);
}

dsc_status dsc_cuda_swiglu_bwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(swiglu_bwd, blocks_of_packs(s->d[0]), THREADS, 0, s->d[0], s->type, o[0], o[1], o[2], o[3], o[4]);
}
