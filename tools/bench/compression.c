/* What 1-bit Adam's step runs over a bucket, beside a copy of as many bytes: how near compression is to what memory
 * gives. In turn, in one call, the best of many rounds each. */
#include "base/json.h"
#include "device/device.h"
#include "kernel/step.h"
#include "kernels/kernels.h"
#include "tools/bench/bench.h"
#include <string.h>

enum { ROUNDS = 15, WORKERS = 4, UNIT = 1 << 20, COPY_BLOCK = 1 << 18 };

typedef struct row {
    dsc_shape shape;
    int64_t unit; /* elements */
    dsc_arena operands[DSC_KERNEL_OPERANDS], workspace, from, to; /* from, to: half of the kernel's bytes each */
    double kernel_s, copy_s;
} row;

/* Small numbers of both signs, all bytes of them touched by the threads that will work there. */
static void fill(const dsc_arena *arena, bool is_positive)
{
    float *values = (float *)arena->base;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < arena->bytes / 4; i++)
        values[i] = (float)(i * 7919 % 255 + 1) * (!is_positive && i * 104729 % 3 == 0 ? -1e-3f : 1e-3f);
}

static dsc_status open_row(row *r)
{
    const int64_t half = dsc_kernel_bytes(&r->shape) / 2;
    dsc_status status = DSC_OK;

    for (int i = 0; i < dsc_kernel_operands((dsc_kernel)r->shape.kernel); i++) {
        if (!dsc_operand_present(&r->shape, i)) continue;
        DSC_TRY(dsc_arena_create(dsc_operand_bytes(&r->shape, i), &r->operands[i]));
        if (bench_has_units(r->shape.kernel) && i == 1) bench_fill_units(&r->shape, r->operands[i].base);
        else fill(&r->operands[i], r->shape.kernel == DSC_K_ADAM); /* no variance is negative */
    }
    DSC_TRY(dsc_arena_create(DSC_MAX(dsc_kernel_workspace_bytes(&r->shape), 1), &r->workspace));
    DSC_TRY(dsc_arena_create(half, &r->from));
    DSC_TRY(dsc_arena_create(half, &r->to));
    fill(&r->from, true);
    fill(&r->to, true);
out:
    return status;
}

static void close_row(row *r)
{
    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++) dsc_arena_destroy(&r->operands[i]);
    dsc_arena_destroy(&r->workspace);
    dsc_arena_destroy(&r->from);
    dsc_arena_destroy(&r->to);
}

static void copy(const row *r)
{
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < r->from.bytes; at += COPY_BLOCK)
        memcpy(r->to.base + at, r->from.base + at, (size_t)DSC_MIN(COPY_BLOCK, r->from.bytes - at));
}

static dsc_status measure(row *r)
{
    static const dsc_step step = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .bias_correction1 = 1,
                                  .bias_correction2 = 1, .gradient_scale = 1};
    void *operands[DSC_KERNEL_OPERANDS];
    dsc_status status = DSC_OK;

    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++) operands[i] = r->operands[i].base;
    r->kernel_s = r->copy_s = 1e30;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t start = dsc_clock_ns(), middle;

        DSC_TRY(dsc_kernels_cpu()->run[r->shape.kernel](&r->shape, operands, r->workspace.base, &step));
        middle = dsc_clock_ns();
        copy(r);
        r->kernel_s = DSC_MIN(r->kernel_s, (double)(middle - start) * 1e-9);
        r->copy_s = DSC_MIN(r->copy_s, (double)(dsc_clock_ns() - middle) * 1e-9);
    }
out:
    return status;
}

static void print(const row *r, bool json, dsc_text *out)
{
    const double bytes = (double)dsc_kernel_bytes(&r->shape), gigabytes = bytes * 1e-9;
    const char *kernel = dsc_kernel_name((dsc_kernel)r->shape.kernel);

    dsc_text_add(out,
                 json ? "{\"kernel\":\"%s\",\"unit\":%lld,\"bytes\":%.0f,\"kernel_s\":%.7f,\"kernel_GB_per_s\":%.2f,"
                        "\"copy_s\":%.7f,\"copy_GB_per_s\":%.2f,\"ratio\":%.3f}\n"
                      : "%-14s units of %8lld, %.0f bytes: %.6f s, %.2f GB/s; copy %.6f s, %.2f GB/s; %.3f of it\n",
                 kernel, (long long)r->unit, bytes, r->kernel_s,
                 gigabytes / r->kernel_s, r->copy_s, gigabytes / r->copy_s, r->copy_s / r->kernel_s);
}

static dsc_status compare(const dsc_shape *shape, int64_t unit, bool json, dsc_text *out)
{
    row r = {.shape = *shape, .unit = unit};
    dsc_status status = DSC_OK;

    DSC_TRY(open_row(&r));
    DSC_TRY(measure(&r));
    print(&r, json, out);
out:
    close_row(&r);
    return status;
}

dsc_status bench_compression(int64_t elems, int64_t threads, bool json, dsc_text *out)
{
    const int64_t units[] = {UNIT / 4, UNIT, elems};
    const dsc_shape whole[] = {{.kernel = DSC_K_MOMENTUM, .d = {elems, WORKERS}},
                               {.kernel = DSC_K_ADAM, .flags = DSC_DECOUPLED | DSC_FROZEN, .d = {elems}}};
    dsc_status status = DSC_OK;

    if (elems % UNIT != 0)
        return DSC_FAIL(DSC_EINVAL, "--compression %lld: no multiple of %d", (long long)elems, UNIT);
    dsc_kernels_threads((int)threads);
    for (int64_t i = 0; i < DSC_COUNT(units); i++) {
        const int64_t n = elems / units[i];
        const dsc_shape packed[] = {{.kernel = DSC_K_SIGN_COMPRESS, .d = {elems, elems, WORKERS, n}},
                                    {.kernel = DSC_K_SIGN_AVERAGE, .d = {elems, WORKERS, n}},
                                    {.kernel = DSC_K_SIGN_EXPAND, .d = {elems, elems, WORKERS, n, 1}}};

        for (int64_t k = 0; k < DSC_COUNT(packed); k++) DSC_TRY(compare(&packed[k], units[i], json, out));
    }
    for (int64_t k = 0; k < DSC_COUNT(whole); k++) DSC_TRY(compare(&whole[k], elems, json, out));
out:
    return status;
}
