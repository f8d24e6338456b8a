/* The kernels of a GPU as a set that works on this process' memory: a call's operands are copied to the device, between
 * guards and at addresses as aligned as here, and what they hold after it is copied back. So every test that knows
 * sets of kernels runs on a GPU's too. */
#include "base/array.h"
#include "tests/kernels/call.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_CUDA
#include "device/cuda.h"

enum { GUARD = 256, MARK = 0x5a };

typedef struct area { char *block; int64_t offset, bytes; } area;

/* No failure of the device's is a test's: it is broken, or has run out of memory. */
static void must(cudaError_t error)
{
    if (error == cudaSuccess) return;
    printf("Bail out! CUDA: %s\n", cudaGetErrorString(error));
    exit(1);
}

static area take(const void *from, int64_t bytes)
{
    area a = {.offset = GUARD + (int64_t)((uintptr_t)from % 64), .bytes = bytes};

    must(cudaMalloc((void **)&a.block, (size_t)(a.offset + bytes + GUARD)));
    must(cudaMemset(a.block, MARK, (size_t)(a.offset + bytes + GUARD)));
    must(cudaMemcpy(a.block + a.offset, from, (size_t)bytes, cudaMemcpyHostToDevice));
    return a;
}

static bool is_marked(const char *block, int64_t bytes)
{
    char guard[2 * GUARD];

    must(cudaMemcpy(guard, block, (size_t)bytes, cudaMemcpyDeviceToHost));
    for (int64_t i = 0; i < bytes; i++)
        if (guard[i] != MARK) return false;
    return true;
}

/* Whether nothing outside was written. */
static bool give_back(area *a, void *to)
{
    const bool holds = is_marked(a->block, a->offset) && is_marked(a->block + a->offset + a->bytes, GUARD);

    must(cudaMemcpy(to, a->block + a->offset, (size_t)a->bytes, cudaMemcpyDeviceToHost));
    must(cudaFree(a->block));
    return holds;
}

/* Operands given twice are in one place there too. */
static int find_same(void *const *operands, int operand)
{
    for (int i = 0; i < operand; i++)
        if (operands[i] == operands[operand]) return i;
    return operand;
}

static dsc_status run(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int count = dsc_kernel_operands((dsc_kernel)shape->kernel);
    const int64_t scratch_bytes = dsc_kernel_workspace_bytes(shape);
    void *addresses[DSC_KERNEL_OPERANDS] = {0};
    void *scratch = aligned_alloc(64, (size_t)dsc_round_up(scratch_bytes + 1, 64));
    area areas[DSC_KERNEL_OPERANDS] = {0}, scalars = take(step, sizeof *step), spare;
    dsc_step after;
    bool holds = true;
    dsc_status status;

    (void)workspace;
    if (scratch == NULL) abort();
    memset(scratch, 0xff, (size_t)scratch_bytes); /* NaN: nobody may count on zeros */
    spare = take(scratch, scratch_bytes);
    for (int i = 0; i < count; i++) {
        if (operands[i] == NULL) continue;
        const int same = find_same(operands, i);

        if (same == i) areas[i] = take(operands[i], dsc_operand_bytes(shape, i));
        addresses[i] = areas[same].block + areas[same].offset;
    }
    status = dsc_kernels_cuda()->run[shape->kernel](shape, addresses, spare.block + spare.offset,
                                                    (const dsc_step *)(scalars.block + scalars.offset));
    must(cudaDeviceSynchronize());
    for (int i = 0; i < count; i++)
        if (areas[i].block != NULL) holds &= give_back(&areas[i], operands[i]);
    holds &= give_back(&spare, scratch);
    holds &= give_back(&scalars, &after);
    free(scratch);
    if (status == DSC_OK && !(holds && memcmp(&after, step, sizeof after) == 0))
        status = DSC_FAIL(DSC_EINTERNAL, "cuda: %s wrote outside of what it was given",
                          dsc_kernel_name((dsc_kernel)shape->kernel));
    return status;
}

static bool has_device(void)
{
    int count = 0;

    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

const dsc_kernel_set *call_staged(void)
{
    static dsc_kernel_set set;
    const dsc_kernel_set *cuda = dsc_kernels_cuda();

    if (set.name != NULL) return &set;
    if (!has_device()) return NULL;
    for (int i = 0; i < DSC_KERNEL_COUNT; i++) set.run[i] = cuda->run[i] != NULL ? run : NULL;
    set.prepare = cuda->prepare;
    set.name = cuda->name;
    return &set;
}
#else
const dsc_kernel_set *call_staged(void) { return NULL; }
#endif
