/* Storage types, one element at a time: exact widening to fp32, narrowing rounded to nearest even. NaN stays NaN. */
#ifndef DSC_KERNEL_CONVERT_H
#define DSC_KERNEL_CONVERT_H

#include "kernel/kernel.h"

static inline uint32_t dsc_float_bits(float value)
{
    union { float value; uint32_t bits; } both = {.value = value};

    return both.bits;
}

static inline float dsc_bits_float(uint32_t bits)
{
    union { uint32_t bits; float value; } both = {.bits = bits};

    return both.value;
}

static inline float dsc_bf16_float(uint16_t half) { return dsc_bits_float((uint32_t)half << 16); }

static inline uint16_t dsc_float_bf16(float value)
{
    const uint32_t bits = dsc_float_bits(value);
    const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    const uint32_t quiet_nan = bits | 0x400000; /* rounding could carry a NaN into infinity */

    return (uint16_t)((value != value ? quiet_nan : rounded) >> 16);
}

/* fp16 is 1 sign, 5 exponent and 10 fraction bits. Shifted into place, its exponent counts 112 less than a float's: a
 * product by 2^112 mends that, subnormals included. */
static inline float dsc_fp16_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7fff) << 13;
    const uint32_t number = dsc_float_bits(dsc_bits_float(rest) * 0x1p112f), no_number = 0x7f800000 | rest;

    return dsc_bits_float(sign | ((half & 0x7c00) == 0x7c00 ? no_number : number));
}

static inline uint16_t dsc_float_fp16(float value)
{
    const uint32_t bits = dsc_float_bits(value), magnitude = bits & 0x7fffffff;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);

    if (magnitude > 0x7f800000) return sign | 0x7e00;  /* NaN */
    if (magnitude >= 0x477ff000) return sign | 0x7c00; /* rounds past the largest, 65504 */
    if (magnitude < 0x38800000)                        /* below 2^-14: the fp32 adder rounds at units of 2^-24 */
        return sign | (uint16_t)(dsc_float_bits(dsc_bits_float(magnitude) + 0.5f) - dsc_float_bits(0.5f));
    return sign | (uint16_t)((magnitude - ((127 - 15) << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

static inline float dsc_load(const void *from, int64_t index, int type)
{
    if (type == DSC_FP32) return ((const float *)from)[index];
    if (type == DSC_BF16) return dsc_bf16_float(((const uint16_t *)from)[index]);
    return dsc_fp16_float(((const uint16_t *)from)[index]);
}

static inline void dsc_store(void *to, int64_t index, int type, double value)
{
    if (type == DSC_FP32) ((float *)to)[index] = (float)value;
    else if (type == DSC_BF16) ((uint16_t *)to)[index] = dsc_float_bf16((float)value);
    else ((uint16_t *)to)[index] = dsc_float_fp16((float)value);
}

#endif
