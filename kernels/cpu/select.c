#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"
#include <omp.h>
#include <stdio.h>
#include <string.h>

/* The reference alone computes in fp64, for tests; overlays would take it for fp32. Scalars are fp64 everywhere. */
static dsc_status refuse_wide(const dsc_shape *shape)
{
    if (shape->type != DSC_FP64 || shape->kernel == DSC_K_CLEAR) return DSC_OK;
    return DSC_FAIL(DSC_ENOTSUP, "%s in fp64: only kernels ref have it",
                    dsc_kernel_name((dsc_kernel)shape->kernel));
}

/* ---- Products by oneDNN, over a set's own */

#ifdef HAVE_DNNL
static dsc_kernel_fn *own_gemm;

static dsc_status gemm(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    bool done;
    const dsc_status status = dsc_onednn_gemm(shape, operands, workspace, &done);

    return status != DSC_OK || done ? status : own_gemm(shape, operands, workspace, step);
}

static dsc_status prepare(const dsc_shape *shape)
{
    return shape->kernel == DSC_K_GEMM ? dsc_onednn_prepare(shape) : refuse_wide(shape);
}

static void use_onednn(dsc_kernel_set *set)
{
    static char name[32];

    snprintf(name, sizeof name, "%s+onednn", set->name);
    set->name = name;
    own_gemm = set->run[DSC_K_GEMM];
    set->run[DSC_K_GEMM] = gemm;
    set->prepare = prepare;
}

static void forget(void) { dsc_onednn_forget(); }
#else
static void use_onednn(dsc_kernel_set *set) { (void)set; }
static void forget(void) {}
#endif

/* ---- Sets, from the plainest to the best: each is the reference with its overlay */

static bool runs_everywhere(void) { return true; }
static void no_overlay(dsc_kernel_set *set) { (void)set; }

#ifdef HAVE_X86_64
static bool has_avx2(void) { return __builtin_cpu_supports("x86-64-v3"); }
static bool has_avx512(void) { return __builtin_cpu_supports("x86-64-v4"); }
static bool has_avx512_bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

static struct {
    const char *name;
    bool (*runs)(void);
    void (*overlay)(dsc_kernel_set *);
    dsc_kernel_set set;
} sets[] = {
    {"ref", runs_everywhere, no_overlay, {0}},
#ifdef HAVE_X86_64
    {"cpu-avx2", has_avx2, dsc_avx2_overlay, {0}},
    {"cpu-avx512", has_avx512, dsc_avx512_overlay, {0}},
    {"cpu-avx512bf16", has_avx512_bf16, dsc_avx512bf16_overlay, {0}},
#endif
};

static const dsc_kernel_set *make(int index)
{
    dsc_kernel_set *set = &sets[index].set;

    if (set->name == NULL) {
        *set = *dsc_kernels_ref();
        set->name = sets[index].name;
        sets[index].overlay(set);
        if (index > 0) set->prepare = refuse_wide;
    }
    return set;
}

const dsc_kernel_set *dsc_kernels_cpu(void)
{
    static dsc_kernel_set best;
    int index = (int)DSC_COUNT(sets) - 1;

    if (best.name == NULL) {
        while (!sets[index].runs()) index--;
        best = *make(index);
        use_onednn(&best);
    }
    return &best;
}

#ifndef HAVE_CUDA
const dsc_kernel_set *dsc_kernels_cuda(void) { return NULL; }
#endif

dsc_status dsc_kernels_find(const char *name, const dsc_kernel_set **out)
{
    if (name == NULL || strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0) {
        *out = dsc_kernels_cpu();
        return DSC_OK;
    }
    for (int i = 0; i < DSC_COUNT(sets); i++) {
        if (strcmp(name, sets[i].name) != 0) continue;
        if (!sets[i].runs())
            return DSC_FAIL(DSC_ENOTSUP, "kernels %s need instructions that this processor lacks", name);
        *out = make(i);
        return DSC_OK;
    }
    return DSC_FAIL(DSC_EINVAL, "kernels \"%s\" do not exist: auto, cpu, ref, cpu-avx2, cpu-avx512 or cpu-avx512bf16",
                    name);
}

void dsc_kernels_threads(int threads)
{
    if (threads != omp_get_max_threads()) forget(); /* primitives are compiled for a number of threads */
    omp_set_num_threads(threads);
}
