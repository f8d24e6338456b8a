/* Blocks of elements in fp32, and the functions that the vector loops of the overlays share. Every kernel works on fp32
 * blocks in the first-level cache; storage types exist at their edges only. */
#ifndef DSC_KERNELS_VECTOR_H
#define DSC_KERNELS_VECTOR_H

#include "kernel/convert.h"
#include <immintrin.h>
#include <string.h>

#define DSC_INLINE static inline __attribute__((always_inline))

enum {
#ifdef __AVX512F__
    DSC_WIDTH = 16, /* floats in a vector register */
#else
    DSC_WIDTH = 8,
#endif
    DSC_BLOCK = 1024 /* elements converted at a time */
};

/* Eight elements, as dsc_float_bf16 rounds them. */
DSC_INLINE __m256i dsc_round_bf16(__m256 x)
{
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);

    return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(is_nan)), 16);
}

/* to[i] = from[first + i]. */
DSC_INLINE void dsc_widen(const void *from, int64_t first, int64_t count, int type, float *to)
{
    const uint16_t *half = (const uint16_t *)from + first;
    int64_t i = 0;

    if (type == DSC_FP32) {
        memcpy(to, (const float *)from + first, (size_t)count * sizeof *to);
    } else if (type == DSC_BF16) {
        for (; i + 8 <= count; i += 8)
            _mm256_storeu_ps(to + i, _mm256_castsi256_ps(_mm256_slli_epi32(
                                         _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(half + i))), 16)));
        for (; i < count; i++) to[i] = dsc_bf16_float(half[i]);
    } else {
        for (; i + 8 <= count; i += 8)
            _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(half + i))));
        for (; i < count; i++) to[i] = dsc_fp16_float(half[i]);
    }
}

/* to[first + i] = from[i], rounded to nearest even. */
DSC_INLINE void dsc_narrow(const float *from, int64_t count, int type, void *to, int64_t first)
{
    uint16_t *half = (uint16_t *)to + first;
    int64_t i = 0;

    if (type == DSC_FP32) {
        memcpy((float *)to + first, from, (size_t)count * sizeof *from);
    } else if (type == DSC_BF16) {
        for (; i + 16 <= count; i += 16) {
            const __m256i low = dsc_round_bf16(_mm256_loadu_ps(from + i));
            const __m256i high = dsc_round_bf16(_mm256_loadu_ps(from + i + 8));

            _mm256_storeu_si256((__m256i *)(half + i),
                                _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), _MM_SHUFFLE(3, 1, 2, 0)));
        }
        for (; i < count; i++) half[i] = dsc_float_bf16(from[i]);
    } else {
        for (; i + 8 <= count; i += 8)
            _mm_storeu_si128((__m128i *)(half + i),
                             _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
        for (; i < count; i++) half[i] = dsc_float_fp16(from[i]);
    }
}

/* Copies past the caches, which saves reading what is then overwritten. Whoever hands the target on ends with an
 * _mm_sfence. */
DSC_INLINE void dsc_stream_out(const uint16_t *from, int64_t count, uint16_t *to)
{
    int64_t i = 0;

    for (; i < count && ((uintptr_t)(to + i) & 63) != 0; i++) to[i] = from[i];
    for (; i + 32 <= count; i += 32) { /* a line of the cache */
        _mm256_stream_si256((__m256i *)(to + i), _mm256_loadu_si256((const __m256i *)(from + i)));
        _mm256_stream_si256((__m256i *)(to + i + 16), _mm256_loadu_si256((const __m256i *)(from + i + 16)));
    }
    for (; i < count; i++) to[i] = from[i];
}

/* The elements themselves when they are fp32, else a copy of them in `block`. */
DSC_INLINE const float *dsc_view(const void *from, int64_t first, int64_t count, int type, float *block)
{
    if (type == DSC_FP32) return (const float *)from + first;
    dsc_widen(from, first, count, type, block);
    return block;
}

/* Where to compute elements that dsc_put then stores: in place when they are fp32, else in `block`. */
DSC_INLINE float *dsc_place(void *to, int64_t first, int type, float *block)
{
    return type == DSC_FP32 ? (float *)to + first : block;
}

DSC_INLINE void dsc_put(const float *from, int64_t count, int type, void *to, int64_t first)
{
    if (type != DSC_FP32) dsc_narrow(from, count, type, to, first);
}

/* exp(x) to 2 units in the last place: 2^n times a polynomial on [-ln(2)/2, ln(2)/2]. Below -87.33 it is 0 (results
 * would be subnormal), above 88.37 it stays at exp(88.37); NaN stays NaN. */
DSC_INLINE float dsc_exp(float x)
{
    const float low = -87.33f, high = 88.37f, round = 0x1.8p23f; /* adding `round` leaves the integer in the low bits */
    const float inside = x < low ? low : x > high ? high : x;
    const float shifted = inside * 1.44269504f + round;
    const float n = shifted - round;
    const float r = (inside - n * 0.693359375f) + n * 2.12194440e-4f;
    const float power = dsc_bits_float((dsc_float_bits(shifted) + 127) << 23);
    const float p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r +
                     1.6666665459e-1f) * r + 5.0000001201e-1f;

    return x < low ? 0 : (p * r * r + r + 1) * power;
}

#endif
