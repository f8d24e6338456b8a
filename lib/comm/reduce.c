#include "comm/reduce.h"
#include "base/array.h"
#include <string.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static float from_bf16(uint16_t half)
{
    return float_of((uint32_t)half << 16);
}

static uint16_t to_bf16(float value)
{
    uint32_t bits = bits_of(value);

    if (value != value) return (uint16_t)(bits >> 16 | 0x40); /* quiet, and no infinity when the low bits are cut */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Shifted into place, an fp16's exponent counts 112 less than a float's: a product by 2^112 mends that, subnormals
 * included. */
static float from_fp16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7fff) << 13;
    bool is_finite = (half & 0x7c00) != 0x7c00;

    return is_finite ? float_of(sign | bits_of(float_of(rest) * 0x1p112f)) : float_of(sign | 0x7f800000 | rest);
}

/* A value below fp16's smallest normal number is rounded by adding 0.5, whose last bit has the weight of fp16's last
 * bit there; above, the 13 bits that go are rounded by hand, and a carry moves the exponent as it should. */
static uint16_t to_fp16(float value)
{
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;

    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (rest >= bits_of(65520.0f)) return (uint16_t)(sign | 0x7c00);
    if (rest < bits_of(0x1p-14f)) return (uint16_t)(sign | (bits_of(float_of(rest) + 0.5f) - bits_of(0.5f)));
    return (uint16_t)(sign | (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13);
}

#define ADD(a, b) ((a) + (b))
#define LARGER(a, b) ((a) > (b) || (a) != (a) ? (a) : (b)) /* a NaN on either side stays: x > NaN is false */
#define SAME(x) (x)

/* The build has OpenMP, whose simd makes vectors of these loops where -O2 alone would not. */
#define REDUCTION(name, type, load, combine, store)                                                 \
    static void name(void *into, const void *from, int64_t elems)                                   \
    {                                                                                               \
        type *restrict a = into;                                                                    \
        const type *restrict b = from;                                                              \
                                                                                                    \
        _Pragma("omp simd")                                                                         \
        for (int64_t i = 0; i < elems; i++) a[i] = store(combine(load(a[i]), load(b[i])));          \
    }

REDUCTION(sum_fp32, float, SAME, ADD, SAME)
REDUCTION(max_fp32, float, SAME, LARGER, SAME)
REDUCTION(sum_fp64, double, SAME, ADD, SAME)
REDUCTION(max_fp64, double, SAME, LARGER, SAME)
REDUCTION(sum_bf16, uint16_t, from_bf16, ADD, to_bf16)
REDUCTION(max_bf16, uint16_t, from_bf16, LARGER, to_bf16)
REDUCTION(sum_fp16, uint16_t, from_fp16, ADD, to_fp16)
REDUCTION(max_fp16, uint16_t, from_fp16, LARGER, to_fp16)

void dsc_reduce_max_int64(void *into, const void *from, int64_t elems)
{
    int64_t *restrict a = into;
    const int64_t *restrict b = from;

    for (int64_t i = 0; i < elems; i++) a[i] = DSC_MAX(a[i], b[i]);
}

dsc_reduce_fn *dsc_reduce_find(dsc_dtype type, dsc_reduction reduction)
{
    static dsc_reduce_fn *const functions[DSC_DTYPE_COUNT][2] = {
        [DSC_FP32] = {sum_fp32, max_fp32},
        [DSC_FP64] = {sum_fp64, max_fp64},
        [DSC_BF16] = {sum_bf16, max_bf16},
        [DSC_FP16] = {sum_fp16, max_fp16},
    };

    return functions[type][reduction];
}
