/* Rows of bf16 as pairs, which one instruction multiplies where the processor has it (AVX512-BF16). A pair is a word of
 * 32 bits, the first of the two in its low half. */
#ifndef DSC_KERNELS_PAIRS_H
#define DSC_KERNELS_PAIRS_H

#include "kernels/cpu/tile.h"

#ifdef __AVX512BF16__
enum { DSC_HAS_PAIRS = 1 };

DSC_INLINE void dsc_store_pairs(__m256i even, __m256i odd, float *to)
{
    const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16);

    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_cvtepu16_epi32(even), high));
}

/* to[count] = pairs of two rows of bf16, odd NULL: of zeros; count is rounded up to 16 with zeros. */
DSC_INLINE void dsc_pair_rows(const uint16_t *even, const uint16_t *odd, int64_t count, float *to)
{
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = count - i >= 16 ? 0xffff : (__mmask16)((1 << (count - i)) - 1);
        const __m256i zero = _mm256_setzero_si256();

        dsc_store_pairs(_mm256_maskz_loadu_epi16(mask, even + i),
                        odd == NULL ? zero : _mm256_maskz_loadu_epi16(mask, odd + i), to + i);
    }
}

/* to[rows / 2, rounded up][width] = pairs of rows 2i and 2i + 1 of x[rows][width], rounded; width is a multiple of
 * 16. */
DSC_INLINE void dsc_round_to_pairs(int width, int64_t rows, const float *x, float *to)
{
    for (int64_t i = 0; i < rows; i += 2, x += 2 * width, to += width)
        for (int j = 0; j < width; j += 16) {
            const __m256i even = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + j));
            const __m256i zero = _mm256_setzero_si256();

            dsc_store_pairs(even, i + 1 == rows ? zero : (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + width + j)),
                            to + j);
        }
}

/* to[count] = x, rounded; a multiple of 16. */
DSC_INLINE void dsc_round_row(int64_t count, const float *x, uint16_t *to)
{
    for (int64_t i = 0; i < count; i += 16)
        _mm256_storeu_si256((__m256i *)(to + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
}
#else
enum { DSC_HAS_PAIRS = 0 };
#endif

#endif
