/* Which devices there are, and the CPU: its memory is the process' own, and nothing of it is left to do when a call
 * returns. */
#include "device/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void close_cpu(dsc_device *device) { (void)device; }

static dsc_status cpu_room(dsc_device *device, int64_t *bytes)
{
    (void)device;
    *bytes = dsc_memory_room("");
    return DSC_OK;
}

static dsc_status create_arena(dsc_device *device, dsc_memory memory, int64_t bytes, dsc_arena *out)
{
    (void)device, (void)memory;
    return dsc_arena_create(bytes, out);
}

static void destroy_arena(dsc_device *device, dsc_memory memory, dsc_arena *arena)
{
    (void)device, (void)memory;
    dsc_arena_destroy(arena);
}

static dsc_status copy(dsc_device *device, dsc_queue *queue, void *to, const void *from, int64_t bytes)
{
    (void)device, (void)queue;
    memcpy(to, from, (size_t)bytes);
    return DSC_OK;
}

static dsc_status fill(dsc_device *device, dsc_queue *queue, void *to, int value, int64_t bytes)
{
    (void)device, (void)queue;
    memset(to, value, (size_t)bytes);
    return DSC_OK;
}

static const dsc_device_calls cpu = {.kind = "cpu", .close = close_cpu, .room = cpu_room, .create_arena = create_arena,
                                     .destroy_arena = destroy_arena, .copy = copy, .fill = fill};

static dsc_status open_cpu(int index, dsc_device *out)
{
    (void)index;
    *out = (dsc_device){.calls = &cpu, .name = "cpu"};
    return DSC_OK;
}

#ifndef HAVE_CUDA
int dsc_cuda_count(void) { return 0; }

dsc_status dsc_cuda_open(int index, dsc_device *out)
{
    (void)index, (void)out;
    return DSC_FAIL(DSC_EINVAL, "this build has no CUDA; use cpu");
}
#endif

static int count_cpu(void) { return 1; }

static const struct {
    const char *kind;
    int (*count)(void);
    dsc_status (*open)(int index, dsc_device *out);
} kinds[] = {{"cpu", count_cpu, open_cpu}, {"cuda", dsc_cuda_count, dsc_cuda_open}};

static int64_t find_kind(const char *kind)
{
    int64_t i = 0;

    while (i < DSC_COUNT(kinds) && strcmp(kinds[i].kind, kind) != 0) i++;
    return i;
}

int dsc_device_count(const char *kind)
{
    const int64_t i = find_kind(kind);

    return i < DSC_COUNT(kinds) ? kinds[i].count() : 0;
}

dsc_status dsc_device_open(const char *kind, int index, dsc_device **out)
{
    const int64_t i = find_kind(kind);
    dsc_device *device = calloc(1, sizeof *device);
    dsc_status status = DSC_OK;

    if (device == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "device: %zu bytes", sizeof *device));
    if (i == DSC_COUNT(kinds)) DSC_TRY(DSC_FAIL(DSC_EINVAL, "device %s: is none of cpu, cuda", kind));
    DSC_TRY(kinds[i].open(index, device));
    *out = device;
    device = NULL;
out:
    free(device);
    return status;
}

void dsc_device_close(dsc_device *device)
{
    if (device == NULL) return;
    device->calls->close(device);
    free(device);
}
