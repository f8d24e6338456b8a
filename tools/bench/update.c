/* Adam on the CPU beside a loop that reads and writes the same streams and computes nothing: how near the update is to
 * what memory gives. In turn, in one call, the best of many rounds each, since others may want memory too. */
#include "base/json.h"
#include "device/device.h"
#include "kernel/step.h"
#include "kernels/kernels.h"
#include "tools/bench/bench.h"
#include <stdlib.h>

enum { ROUNDS = 25 };

typedef struct streams { dsc_arena gradient, param, exp_avg, exp_avg_sq, copy; int64_t elems; } streams;

/* What is compared: a kernel's call by its types; bytes of a parameter, each stream read or written once. */
typedef struct row { const char *name; dsc_dtype type, gradient; int64_t bytes; double adam_s, stream_s; } row;

#ifdef __x86_64__
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

/* Elements [first, end): every stream that is updated is read and written, 16 bits as integers, the copy only written.
 * */
#define TOUCH(name, element, copies)                                                                             \
    WIDEST static void name(const streams *s, int64_t first, int64_t end)                                        \
    {                                                                                                            \
        float *restrict p = (float *)s->param.base, *restrict m = (float *)s->exp_avg.base;                      \
        float *restrict v = (float *)s->exp_avg_sq.base;                                                         \
        const element *restrict g = (const element *)s->gradient.base;                                           \
        uint16_t *restrict copy = (uint16_t *)s->copy.base;                                                      \
                                                                                                                 \
        _Pragma("omp simd") for (int64_t i = first; i < end; i++)                                                \
        {                                                                                                        \
            p[i] += (float)g[i];                                                                                 \
            m[i] += (float)g[i];                                                                                 \
            v[i] += (float)g[i];                                                                                 \
            if (copies) copy[i] = (uint16_t)first;                                                               \
        }                                                                                                        \
    }

TOUCH(touch_wide, float, false)
TOUCH(touch_wide_and_copy, float, true)
TOUCH(touch_half_and_copy, uint16_t, true)

static void stream(const streams *s, const row *r)
{
    enum { BLOCK = 1 << 14 };
    void (*touch)(const streams *, int64_t, int64_t) = r->type == DSC_FP32       ? touch_wide
                                                       : r->gradient == DSC_FP32 ? touch_wide_and_copy
                                                                                 : touch_half_and_copy;

#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < s->elems; first += BLOCK) touch(s, first, DSC_MIN(first + BLOCK, s->elems));
}

static dsc_status adam(const streams *s, const row *r, const dsc_kernel_set *set)
{
    const dsc_shape shape = {.kernel = DSC_K_ADAM, .type = (int8_t)r->type, .out = (int8_t)r->gradient,
                             .flags = DSC_DECOUPLED, .d = {s->elems}};
    const dsc_step step = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01,
                           .bias_correction1 = 1, .bias_correction2 = 1, .gradient_scale = 1};
    void *operands[DSC_KERNEL_OPERANDS] = {s->gradient.base, s->param.base, s->exp_avg.base, s->exp_avg_sq.base,
                                           r->type == DSC_FP32 ? NULL : s->copy.base};

    return set->run[DSC_K_ADAM](&shape, operands, NULL, &step);
}

/* Zeroes, touched by the threads that will work there. */
static void first_touch(const streams *s)
{
    float *p = (float *)s->param.base, *m = (float *)s->exp_avg.base, *v = (float *)s->exp_avg_sq.base;
    float *g = (float *)s->gradient.base;
    uint16_t *copy = (uint16_t *)s->copy.base;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s->elems; i++) {
        p[i] = m[i] = v[i] = g[i] = 0;
        copy[i] = 0;
    }
}

static dsc_status measure(const streams *s, row *r)
{
    const dsc_kernel_set *set = dsc_kernels_cpu();
    dsc_status status = DSC_OK;

    r->adam_s = r->stream_s = 1e30;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t start = dsc_clock_ns(), middle;

        DSC_TRY(adam(s, r, set));
        middle = dsc_clock_ns();
        stream(s, r);
        r->adam_s = DSC_MIN(r->adam_s, (double)(middle - start) * 1e-9);
        r->stream_s = DSC_MIN(r->stream_s, (double)(dsc_clock_ns() - middle) * 1e-9);
    }
out:
    return status;
}

static void print(const row *r, const streams *s, bool json, dsc_text *out)
{
    double gigabytes = (double)(s->elems * r->bytes) * 1e-9;

    dsc_text_add(out,
                 json ? "{\"name\":\"%s\",\"parameters\":%lld,\"bytes_per_parameter\":%lld,\"adam_s\":%.6f,"
                        "\"adam_GB_per_s\":%.2f,\"stream_s\":%.6f,\"stream_GB_per_s\":%.2f,\"ratio\":%.3f}\n"
                      : "%-34s %lld parameters of %lld bytes: Adam %.6f s, %.2f GB/s; streams alone %.6f s, %.2f GB/s; "
                        "%.3f of them\n",
                 r->name, (long long)s->elems, (long long)r->bytes, r->adam_s, gigabytes / r->adam_s, r->stream_s,
                 gigabytes / r->stream_s, r->stream_s / r->adam_s);
}

dsc_status bench_update(int64_t elems, int64_t threads, bool json, dsc_text *out)
{
    row rows[] = {{"fp32 gradients", DSC_FP32, DSC_FP32, 28, 0, 0},
                  {"fp32 gradients, bf16 weights too", DSC_BF16, DSC_FP32, 30, 0, 0},
                  {"bf16 gradients, bf16 weights too", DSC_BF16, DSC_BF16, 28, 0, 0}};
    streams s = {.elems = elems};
    dsc_arena *const wide[] = {&s.gradient, &s.param, &s.exp_avg, &s.exp_avg_sq};
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(wide); i++) DSC_TRY(dsc_arena_create(elems * 4, wide[i]));
    DSC_TRY(dsc_arena_create(elems * 2, &s.copy));
    dsc_kernels_threads((int)threads);
    first_touch(&s);
    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        DSC_TRY(measure(&s, &rows[i]));
        print(&rows[i], &s, json, out);
    }
out:
    for (int64_t i = 0; i < DSC_COUNT(wide); i++) dsc_arena_destroy(wide[i]);
    dsc_arena_destroy(&s.copy);
    return status;
}
