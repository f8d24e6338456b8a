#include "comm/reduce.h"
#include "base/array.h"
#include "kernel/convert.h"

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
REDUCTION(sum_bf16, uint16_t, dsc_bf16_float, ADD, dsc_float_bf16)
REDUCTION(max_bf16, uint16_t, dsc_bf16_float, LARGER, dsc_float_bf16)
REDUCTION(sum_fp16, uint16_t, dsc_fp16_float, ADD, dsc_float_fp16)
REDUCTION(max_fp16, uint16_t, dsc_fp16_float, LARGER, dsc_float_fp16)

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
