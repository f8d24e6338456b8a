#include "kernels/cuda/device.cuh"

/* Rows of packs, so that none is of two rows. */
typedef struct place { int64_t row, column; } place;

__device__ static place find_place(int64_t cols)
{
    const int64_t packs = dsc_ceil_div(cols, PACK), i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

    return (place){i / packs, i % packs * PACK};
}

__global__ static void join(int64_t rows, int64_t cols, int type, const void *x, const void *bias, const void *residual,
                            void *y)
{
    const place at = find_place(cols);
    const int64_t i = at.row * cols + at.column, count = cols - at.column;
    pack p, other;

    if (at.row >= rows) return;
    p = load_pack(x, i, count, type);
    if (bias != NULL) {
        other = load_pack(bias, at.column, count, type);
#pragma unroll
        for (int j = 0; j < PACK; j++) p.v[j] += other.v[j];
    }
    if (residual != NULL) {
        other = load_pack(residual, i, count, type);
#pragma unroll
        for (int j = 0; j < PACK; j++) p.v[j] += other.v[j];
    }
    store_pack(y, i, count, type, p);
}

dsc_status dsc_cuda_join(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t packs = s->d[0] * dsc_ceil_div(s->d[1], PACK);

    (void)workspace, (void)step;
    return LAUNCH(join, blocks_for(packs, THREADS), THREADS, 0, s->d[0], s->d[1], s->type, o[0], o[1], o[2], o[3]);
}
