#include "kernels/cuda/device.cuh"

/* A thread turns the pair i of all heads of a row: one angle for all of them. Sines of fp32 would be wrong past some
 * thousand positions. */
__global__ static void rope(dsc_shape s, void *qkv)
{
    const int64_t half = s.d[4] / 2, turned = s.d[2] + s.d[3], width = (turned + s.d[3]) * s.d[4];
    const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = index / half, i = index % half;
    double sine, cosine;

    if (row >= s.d[0] * s.d[1]) return;
    sincos((double)(row % s.d[1]) * pow((double)s.d[5], -(double)i / (double)half), &sine, &cosine);
    const float c = (float)cosine, n = (float)(s.flags & DSC_INVERSE ? -sine : sine);
#pragma unroll 4
    for (int64_t head = 0; head < turned; head++) {
        const int64_t at = row * width + head * s.d[4] + i;
        const float x = load(qkv, at, s.type), y = load(qkv, at + half, s.type);

        store(qkv, at, s.type, x * c - y * n);
        store(qkv, at + half, s.type, y * c + x * n);
    }
}

dsc_status dsc_cuda_rope(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(rope, blocks_for(s->d[0] * s->d[1] * s->d[4] / 2, THREADS), THREADS, 0, *s, o[0]);
}
