/* Our own product, for any types, addresses and what is added: slow and simple. A block makes a tile of 64 x 64 from
 * strips of 16 of the sum, a thread 4 x 4 of it. */
#include "kernels/cuda/device.cuh"

enum { TILE = 64, STRIP = 16, EACH = TILE / 16 };

/* Strip l .. l + STRIP of 64 rows from `first` of a matrix[rows, k] as to[STRIP][TILE]. Neighbours in memory are read
 * by neighbouring threads. */
__device__ static void read_strip(const void *from, int type, int64_t first, int64_t rows, int64_t row, int64_t l,
                                  int64_t k, int64_t step, float to[STRIP][TILE + 4])
{
    for (int i = threadIdx.x; i < TILE * STRIP; i += THREADS) {
        const int r = step == 1 ? i / STRIP : i % TILE, at = step == 1 ? i % STRIP : i / TILE;
        const bool is_there = first + r < rows && l + at < k;

        to[at][r] = is_there ? load(from, (first + r) * row + (l + at) * step, type) : 0;
    }
}

__global__ static void product(dsc_shape s, const void *a, const void *b, const void *bias, const void *residual,
                               void *out)
{
    __shared__ float x[STRIP][TILE + 4], y[STRIP][TILE + 4];
    const int64_t m = s.d[0], n = s.d[1], k = s.d[2];
    const int64_t first_i = (int64_t)blockIdx.x * TILE, first_j = (int64_t)blockIdx.y * TILE;
    const bool trans_a = s.flags & DSC_TRANS_A, trans_b = s.flags & DSC_TRANS_B;
    const int down = threadIdx.x / 16 * EACH, across = threadIdx.x % 16 * EACH;
    float sum[EACH][EACH] = {};

    for (int64_t l = 0; l < k; l += STRIP) {
        __syncthreads();
        read_strip(a, s.type, first_i, m, trans_a ? 1 : k, l, k, trans_a ? m : 1, x);
        read_strip(b, s.type, first_j, n, trans_b ? k : 1, l, k, trans_b ? 1 : n, y);
        __syncthreads();
#pragma unroll
        for (int at = 0; at < STRIP; at++)
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int j = 0; j < EACH; j++) sum[i][j] += x[at][down + i] * y[at][across + j];
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const int64_t row = first_i + down + i, column = first_j + across + j, at = row * n + column;

            if (row >= m || column >= n) continue;
            if (bias != NULL) sum[i][j] += load(bias, column, s.type);
            if (residual != NULL) sum[i][j] += load(residual, at, s.type);
            if (s.flags & DSC_ACCUMULATE) sum[i][j] += load(out, at, s.out);
            store(out, at, s.out, sum[i][j]);
        }
}

dsc_status dsc_cuda_product(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const dim3 tiles(blocks_for(s->d[0], TILE), blocks_for(s->d[1], TILE));

    (void)workspace, (void)step;
    return LAUNCH(product, tiles, THREADS, 0, *s, o[0], o[1], o[2], o[3], o[4]);
}
