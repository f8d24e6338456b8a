/* Products of small fp32 matrices in the caches: what attention and the overlays' own matrix product are made of. */
#ifndef DSC_KERNELS_TILE_H
#define DSC_KERNELS_TILE_H

#include "kernels/cpu/vector.h"

typedef float dsc_vec __attribute__((vector_size(DSC_WIDTH * sizeof(float)), may_alias));

/* The register block: 6 rows of 4 vectors of 16 (AVX-512) or 2 of 8 (AVX2) leave registers for an operand of each
 * kind; where one vector is all there is, 12 rows keep the multipliers busy. */
enum { DSC_TILE_ROWS = 12, DSC_TILE_VECS = DSC_WIDTH == 16 ? 4 : 2, DSC_TILE_COLS = DSC_TILE_VECS * DSC_WIDTH };

/* c[rows, vecs * WIDTH] += a[rows, k] * b[k, vecs * WIDTH], with `rows` and `vecs` known to the compiler. */
DSC_INLINE void dsc_tile_block(int rows, int vecs, int64_t k, const float *a, int64_t a_row, int64_t a_step,
                               const float *b, int64_t b_row, float *c, int64_t c_row)
{
    dsc_vec sum[DSC_TILE_ROWS][DSC_TILE_VECS];

#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) sum[i][v] = *(const dsc_vec *)(c + i * c_row + v * DSC_WIDTH);
    for (int64_t l = 0; l < k; l++)
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vecs; v++)
                sum[i][v] += a[i * a_row + l * a_step] * *(const dsc_vec *)(b + l * b_row + v * DSC_WIDTH);
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) *(dsc_vec *)(c + i * c_row + v * DSC_WIDTH) = sum[i][v];
}

/* One panel of columns, in blocks of rows. */
DSC_INLINE void dsc_tile_panel(int vecs, int64_t m, int64_t k, const float *a, int64_t a_row, int64_t a_step,
                               const float *b, int64_t b_row, float *c, int64_t c_row)
{
    int64_t i = 0;

    for (; vecs == 1 && i + 12 <= m; i += 12)
        dsc_tile_block(12, 1, k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row);
    for (; i + 6 <= m; i += 6) dsc_tile_block(6, vecs, k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row);
    switch (m - i) {
    case 5: dsc_tile_block(5, vecs, k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row); break;
    case 4: dsc_tile_block(4, vecs, k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row); break;
    case 3: dsc_tile_block(3, vecs, k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row); break;
    case 2: dsc_tile_block(2, vecs, k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row); break;
    case 1: dsc_tile_block(1, vecs, k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row); break;
    default: break;
    }
}

/* c[m,n] += a[m,k] * b[k,n]. Element (i, l) of a is a[i * a_row + l * a_step]; rows of b and c are contiguous,
 * aligned to a vector and padded to whole ones: n is rounded up, and what stands in the padding of c afterwards is of
 * no use. */
static void dsc_tile_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_step,
                             const float *b, int64_t b_row, float *c, int64_t c_row)
{
    int64_t j = 0;

    for (; j + DSC_TILE_COLS <= n; j += DSC_TILE_COLS)
        dsc_tile_panel(DSC_TILE_VECS, m, k, a, a_row, a_step, b + j, b_row, c + j, c_row);
    for (; j + 2 * DSC_WIDTH <= n; j += 2 * DSC_WIDTH)
        dsc_tile_panel(2, m, k, a, a_row, a_step, b + j, b_row, c + j, c_row);
    for (; j < n; j += DSC_WIDTH) dsc_tile_panel(1, m, k, a, a_row, a_step, b + j, b_row, c + j, c_row);
}

/* to[8][to_row] = scale * from[8][from_row], transposed, in registers: pairs, quarters, then halves change places. */
DSC_INLINE void dsc_transpose_8(const float *from, int64_t from_row, float scale, float *to, int64_t to_row)
{
    __m256 row[8], pair[8], quad[8];

#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) row[i] = _mm256_mul_ps(_mm256_loadu_ps(from + i * from_row), _mm256_set1_ps(scale));
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 8; i++) {
        const __m256 low = pair[i / 4 * 4 + i % 4 / 2], high = pair[i / 4 * 4 + 2 + i % 4 / 2];

        quad[i] = i % 2 == 0 ? _mm256_shuffle_ps(low, high, 0x44) : _mm256_shuffle_ps(low, high, 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * to_row, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_row, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
    }
}

/* to[columns][to_row] = scale * from[rows][from_row], transposed; both are multiples of 8. */
DSC_INLINE void dsc_transpose(int64_t rows, int64_t columns, const float *from, int64_t from_row, float scale, float *to,
                              int64_t to_row)
{
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8)
            dsc_transpose_8(from + i * from_row + j, from_row, scale, to + j * to_row + i, to_row);
}

#endif
