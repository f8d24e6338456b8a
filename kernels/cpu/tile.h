/* Products of small fp32 matrices in the caches: what attention and the overlays' own matrix product are made of. */
#ifndef DSC_KERNELS_TILE_H
#define DSC_KERNELS_TILE_H

#include "kernels/cpu/vector.h"

typedef float dsc_vec __attribute__((vector_size(DSC_WIDTH * sizeof(float)), may_alias));

/* The register block: 6 rows of 4 vectors of 16 (AVX-512) or 2 of 8 (AVX2) leave registers for an operand of each
 * kind; where one vector is all there is, 12 rows keep the multipliers busy. */
enum { DSC_TILE_ROWS = 12, DSC_TILE_VECS = DSC_WIDTH == 16 ? 4 : 2, DSC_TILE_COLS = DSC_TILE_VECS * DSC_WIDTH };

/* A word of a: an fp32, or a pair of bf16. */
typedef float dsc_word __attribute__((may_alias, aligned(2)));

/* sum + a * b of fp32; of pairs the sum of both products, which are exact. */
DSC_INLINE dsc_vec dsc_multiply_add(bool pairs, dsc_vec sum, dsc_word a, dsc_vec b)
{
#ifdef __AVX512BF16__
    if (pairs) return (dsc_vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(a), (__m512bh)b);
#endif
    (void)pairs;
    return sum + a * b;
}

/* c[rows, vecs * WIDTH] += a[rows, k] * b[k, vecs * WIDTH], with `rows` and `vecs` known to the compiler. k counts
 * words, of `pairs` each two terms. */
DSC_INLINE void dsc_tile_block(bool pairs, int rows, int vecs, int64_t k, const dsc_word *a, int64_t a_row,
                               int64_t a_step, const float *b, int64_t b_row, float *c, int64_t c_row)
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
                sum[i][v] = dsc_multiply_add(pairs, sum[i][v], a[i * a_row + l * a_step],
                                             *(const dsc_vec *)(b + l * b_row + v * DSC_WIDTH));
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vecs; v++) *(dsc_vec *)(c + i * c_row + v * DSC_WIDTH) = sum[i][v];
}

/* One panel of columns, in blocks of rows. */
DSC_INLINE void dsc_tile_panel(bool pairs, int vecs, int64_t m, int64_t k, const dsc_word *a, int64_t a_row,
                               int64_t a_step, const float *b, int64_t b_row, float *c, int64_t c_row)
{
    int64_t i = 0;

#define BLOCK(rows) dsc_tile_block(pairs, rows, vecs, k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row)
    for (; vecs == 1 && i + 12 <= m; i += 12) BLOCK(12);
    for (; i + 6 <= m; i += 6) BLOCK(6);
    switch (m - i) {
    case 5: BLOCK(5); break;
    case 4: BLOCK(4); break;
    case 3: BLOCK(3); break;
    case 2: BLOCK(2); break;
    case 1: BLOCK(1); break;
    default: break;
    }
#undef BLOCK
}

DSC_INLINE void dsc_tile_any(bool pairs, int64_t m, int64_t n, int64_t k, const dsc_word *a, int64_t a_row,
                             int64_t a_step, const float *b, int64_t b_row, float *c, int64_t c_row)
{
    int64_t j = 0;

    for (; j + DSC_TILE_COLS <= n; j += DSC_TILE_COLS)
        dsc_tile_panel(pairs, DSC_TILE_VECS, m, k, a, a_row, a_step, b + j, b_row, c + j, c_row);
    for (; j + 2 * DSC_WIDTH <= n; j += 2 * DSC_WIDTH)
        dsc_tile_panel(pairs, 2, m, k, a, a_row, a_step, b + j, b_row, c + j, c_row);
    for (; j < n; j += DSC_WIDTH)
        dsc_tile_panel(pairs, 1, m, k, a, a_row, a_step, b + j, b_row, c + j, c_row);
}

/* c[m,n] += a[m,k] * b[k,n]. Element (i, l) of a is a[i * a_row + l * a_step]; rows of b and c are contiguous,
 * aligned to a vector and padded to whole ones: n is rounded up, and what stands in the padding of c afterwards is of
 * no use. */
static void dsc_tile_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_step,
                             const float *b, int64_t b_row, float *c, int64_t c_row)
{
    dsc_tile_any(false, m, n, k, a, a_row, a_step, b, b_row, c, c_row);
}

#ifdef __AVX512BF16__
/* The same of pairs of bf16 along k, of which there are k pairs: a word of a holds (i, 2l) and (i, 2l + 1), one of b
 * (2l, j) and (2l + 1, j). */
static void dsc_pair_product(int64_t m, int64_t n, int64_t k, const dsc_word *a, int64_t a_row, int64_t a_step,
                             const float *b, int64_t b_row, float *c, int64_t c_row)
{
    dsc_tile_any(true, m, n, k, a, a_row, a_step, b, b_row, c, c_row);
}
#endif

/* to[8][to_row] = scale * from[8][from_row], transposed, in registers: pairs, quarters, then halves change places. A
 * scale of 1 leaves the bits alone, whatever they mean. */
DSC_INLINE void dsc_transpose_8(const float *from, int64_t from_row, float scale, float *to, int64_t to_row)
{
    __m256 row[8], pair[8], quad[8];

#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) row[i] = _mm256_loadu_ps(from + i * from_row);
#pragma GCC unroll 8
    for (int i = 0; i < 8 && scale != 1; i++) row[i] = _mm256_mul_ps(row[i], _mm256_set1_ps(scale));
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
DSC_INLINE void dsc_transpose(int64_t rows, int64_t columns, const float *from, int64_t from_row, float scale,
                              float *to, int64_t to_row)
{
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8)
            dsc_transpose_8(from + i * from_row + j, from_row, scale, to + j * to_row + i, to_row);
}

#endif
