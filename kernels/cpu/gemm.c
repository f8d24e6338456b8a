#include "kernels/cpu/overlay.h"
#include "kernels/cpu/tile.h"

/* Our own product, for any types and any machine: tiles of out are computed one a thread at a time from blocks of a
 * and b that are widened to fp32 on the thread's stack. Goto and van de Geijn 2008, with the packing of BLIS left
 * out: a block of a stays as it was stored, since the register block reads it one element at a time. */
enum { TILE_M = 192, TILE_N = 64, TILE_K = 256 };

typedef struct tile {
    int64_t i, j, rows, cols;
} tile;

/* Widens rows x cols of a matrix into to[rows][to_row]. */
DSC_INLINE void pack(const void *from, int64_t first, int64_t from_row, int64_t rows, int64_t cols, int type, float *to,
                     int64_t to_row)
{
    for (int64_t i = 0; i < rows; i++) dsc_widen(from, first + i * from_row, cols, type, to + i * to_row);
}

/* The same, transposed: to[j][i], from strips of 16 rows so that both sides keep to few cache lines. */
DSC_INLINE void pack_transposed(const void *from, int64_t first, int64_t from_row, int64_t rows, int64_t cols, int type,
                                float *to, int64_t to_row)
{
    enum { STRIP = 16 };
    float strip[STRIP][TILE_K];

    for (int64_t i = 0; i < rows; i += STRIP) {
        const int64_t height = DSC_MIN(rows - i, STRIP);

        pack(from, first + i * from_row, from_row, height, cols, type, strip[0], TILE_K);
        for (int64_t j = 0; j < cols; j++)
            for (int64_t r = 0; r < height; r++) to[j * to_row + i + r] = strip[r][j];
    }
}

/* The sum starts from what is added to the product. */
DSC_INLINE void start(const dsc_shape *s, void *const *operands, tile at, float *sum)
{
    const int64_t n = s->d[1];
    float row[TILE_N];

    for (int64_t i = 0; i < at.rows; i++, sum += TILE_N) {
        memset(sum, 0, TILE_N * sizeof *sum);
        if (s->flags & DSC_HAS_BIAS) {
            dsc_widen(operands[2], at.j, at.cols, s->type, row);
            for (int64_t j = 0; j < at.cols; j++) sum[j] += row[j];
        }
        if (s->flags & DSC_HAS_RESIDUAL) {
            dsc_widen(operands[3], (at.i + i) * n + at.j, at.cols, s->type, row);
            for (int64_t j = 0; j < at.cols; j++) sum[j] += row[j];
        }
        if (s->flags & DSC_ACCUMULATE) {
            dsc_widen(operands[4], (at.i + i) * n + at.j, at.cols, s->out, row);
            for (int64_t j = 0; j < at.cols; j++) sum[j] += row[j];
        }
    }
}

static void compute(const dsc_shape *s, void *const *operands, tile at)
{
    const int64_t m = s->d[0], n = s->d[1], k = s->d[2];
    float a[TILE_M * TILE_K] __attribute__((aligned(64)));
    float b[TILE_K * TILE_N] __attribute__((aligned(64)));
    float sum[TILE_M * TILE_N] __attribute__((aligned(64)));

    start(s, operands, at, sum);
    for (int64_t l = 0; l < k; l += TILE_K) {
        const int64_t depth = DSC_MIN(k - l, TILE_K);

        if (s->flags & DSC_TRANS_A) pack(operands[0], l * m + at.i, m, depth, at.rows, s->type, a, TILE_M);
        else pack(operands[0], at.i * k + l, k, at.rows, depth, s->type, a, TILE_K);
        if (s->flags & DSC_TRANS_B) pack_transposed(operands[1], at.j * k + l, k, at.cols, depth, s->type, b, TILE_N);
        else pack(operands[1], l * n + at.j, n, depth, at.cols, s->type, b, TILE_N);
        if (s->flags & DSC_TRANS_A) dsc_tile_product(at.rows, at.cols, depth, a, 1, TILE_M, b, TILE_N, sum, TILE_N);
        else dsc_tile_product(at.rows, at.cols, depth, a, TILE_K, 1, b, TILE_N, sum, TILE_N);
    }
    for (int64_t i = 0; i < at.rows; i++)
        dsc_narrow(sum + i * TILE_N, at.cols, s->out, operands[4], (at.i + i) * n + at.j);
}

dsc_status DSC_OVERLAY(gemm)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t m = s->d[0], n = s->d[1], across = dsc_ceil_div(n, TILE_N), down = dsc_ceil_div(m, TILE_M);

    (void)workspace, (void)step;
#pragma omp parallel for schedule(dynamic)
    for (int64_t index = 0; index < across * down; index++) {
        const int64_t i = index % down * TILE_M, j = index / down * TILE_N;

        compute(s, operands, (tile){i, j, DSC_MIN(m - i, TILE_M), DSC_MIN(n - j, TILE_N)});
    }
    return DSC_OK;
}
