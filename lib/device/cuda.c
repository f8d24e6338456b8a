/* CUDA's devices, by the runtime's calls. A queue is a stream, an event an event, a graph an executable graph: our
 * opaque pointers are theirs. */
#include "device/cuda.h"
#include "device/internal.h"
#include <stdio.h>
#include <string.h>

static _Thread_local cudaStream_t entered;

cudaStream_t dsc_cuda_stream(void) { return entered; }

dsc_status dsc_cuda_status(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return DSC_OK;
    return DSC_FAIL(error == cudaErrorMemoryAllocation ? DSC_ENOMEM : DSC_EIO, "CUDA: %.100s: %s (%s)", what,
                    cudaGetErrorString(error), cudaGetErrorName(error));
}

static cudaStream_t stream_of(dsc_queue *queue) { return (cudaStream_t)queue; }
static cudaEvent_t event_of(dsc_event *event) { return (cudaEvent_t)event; }

/* The runtime's current device is each thread's own. */
static dsc_status choose(const dsc_device *device)
{
    static _Thread_local int chosen = -1;
    dsc_status status = DSC_OK;

    if (chosen == device->index) goto out;
    DSC_TRY(DSC_CUDA(cudaSetDevice(device->index)));
    chosen = device->index;
out:
    return status;
}

static void close_device(dsc_device *device) { (void)device; } /* the process' end gives all back */

static dsc_status room(dsc_device *device, int64_t *bytes)
{
    size_t free_bytes, all;
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaMemGetInfo(&free_bytes, &all)));
    *bytes = (int64_t)free_bytes;
out:
    return status;
}

/* ---- Memory */

static dsc_status refused(dsc_device *device, dsc_memory memory, int64_t bytes, cudaError_t error)
{
    int64_t left = 0;

    cudaGetLastError(); /* it does not stick */
    if (error != cudaErrorMemoryAllocation) return dsc_cuda_status(error, "an arena");
    if (memory == DSC_MEMORY_HOST) left = dsc_memory_room("");
    else if (room(device, &left) != DSC_OK) left = 0;
    return DSC_FAIL(DSC_ENOMEM, "no %smemory for an arena of %lld bytes: %lld are free",
                    memory == DSC_MEMORY_HOST ? "pinned " : "", (long long)bytes, (long long)left);
}

static void destroy_arena(dsc_device *device, dsc_memory memory, dsc_arena *arena)
{
    if (arena->base == NULL || choose(device) != DSC_OK) return;
    if (memory == DSC_MEMORY_HOST) cudaFreeHost(arena->base);
    else cudaFree(arena->base);
    *arena = (dsc_arena){0};
}

static dsc_status create_arena(dsc_device *device, dsc_memory memory, int64_t bytes, dsc_arena *out)
{
    dsc_arena arena = {.bytes = bytes};
    void *base = NULL;
    cudaError_t error;
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    if (bytes > 0) {
        error = memory == DSC_MEMORY_HOST ? cudaHostAlloc(&base, (size_t)bytes, cudaHostAllocPortable)
                                          : cudaMalloc(&base, (size_t)bytes);
        if (error != cudaSuccess) DSC_TRY(refused(device, memory, bytes, error));
        arena.base = base;
        if (memory == DSC_MEMORY_HOST) memset(base, 0, (size_t)bytes);
        else DSC_TRY(DSC_CUDA(cudaMemset(base, 0, (size_t)bytes)));
    }
    *out = arena;
    arena = (dsc_arena){0};
out:
    destroy_arena(device, memory, &arena);
    return status;
}

/* Streams that do not wait for the default one: so a copy that is to be over is one of theirs that is waited for. */
static dsc_status copy(dsc_device *device, dsc_queue *queue, void *to, const void *from, int64_t bytes)
{
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDefault, stream_of(queue))));
    if (queue == NULL) DSC_TRY(DSC_CUDA(cudaStreamSynchronize(NULL)));
out:
    return status;
}

static dsc_status fill(dsc_device *device, dsc_queue *queue, void *to, int value, int64_t bytes)
{
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaMemsetAsync(to, value, (size_t)bytes, stream_of(queue))));
    if (queue == NULL) DSC_TRY(DSC_CUDA(cudaStreamSynchronize(NULL)));
out:
    return status;
}

/* ---- Queues and events */

static dsc_status create_queue(dsc_device *device, dsc_queue **out)
{
    cudaStream_t stream;
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
    *out = (dsc_queue *)stream;
out:
    return status;
}

static void destroy_queue(dsc_device *device, dsc_queue *queue)
{
    if (queue != NULL && choose(device) == DSC_OK) cudaStreamDestroy(stream_of(queue));
}

static void enter(dsc_device *device, dsc_queue *queue)
{
    if (choose(device) == DSC_OK) entered = stream_of(queue);
}

static dsc_status sync(dsc_device *device, dsc_queue *queue)
{
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaStreamSynchronize(stream_of(queue))));
out:
    return status;
}

static dsc_status create_event(dsc_device *device, bool is_timed, dsc_event **out)
{
    cudaEvent_t event;
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaEventCreateWithFlags(&event, is_timed ? cudaEventDefault : cudaEventDisableTiming)));
    *out = (dsc_event *)event;
out:
    return status;
}

static void destroy_event(dsc_device *device, dsc_event *event)
{
    if (event != NULL && choose(device) == DSC_OK) cudaEventDestroy(event_of(event));
}

static dsc_status record(dsc_device *device, dsc_queue *queue, dsc_event *event)
{
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaEventRecord(event_of(event), stream_of(queue))));
out:
    return status;
}

static dsc_status wait_for(dsc_device *device, dsc_queue *queue, dsc_event *event)
{
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaStreamWaitEvent(stream_of(queue), event_of(event), 0)));
out:
    return status;
}

static dsc_status test(dsc_device *device, dsc_event *event, bool *is_over)
{
    cudaError_t error;
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    error = cudaEventQuery(event_of(event));
    *is_over = error != cudaErrorNotReady;
    if (*is_over) status = dsc_cuda_status(error, "what was begun");
out:
    return status;
}

static dsc_status elapsed(dsc_device *device, dsc_event *from, dsc_event *to, int64_t *ns)
{
    float ms;
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaEventElapsedTime(&ms, event_of(from), event_of(to))));
    *ns = (int64_t)((double)ms * 1e6);
out:
    return status;
}

/* ---- Graphs */

/* Relaxed: what other threads do meanwhile is of no graph, and no concern of it. */
static dsc_status begin_graph(dsc_device *device, dsc_queue *queue)
{
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaStreamBeginCapture(stream_of(queue), cudaStreamCaptureModeRelaxed)));
out:
    return status;
}

static dsc_status end_graph(dsc_device *device, dsc_queue *queue, dsc_graph **out)
{
    cudaGraph_t noted = NULL;
    cudaGraphExec_t graph;
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaStreamEndCapture(stream_of(queue), &noted)));
    DSC_TRY(DSC_CUDA(cudaGraphInstantiate(&graph, noted, 0)));
    *out = (dsc_graph *)graph;
out:
    if (noted != NULL) cudaGraphDestroy(noted);
    return status;
}

static dsc_status launch(dsc_device *device, dsc_queue *queue, dsc_graph *graph)
{
    dsc_status status = DSC_OK;

    DSC_TRY(choose(device));
    DSC_TRY(DSC_CUDA(cudaGraphLaunch((cudaGraphExec_t)graph, stream_of(queue))));
out:
    return status;
}

static void destroy_graph(dsc_device *device, dsc_graph *graph)
{
    if (graph != NULL && choose(device) == DSC_OK) cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

/* ---- Which there are */

static const dsc_device_calls calls = {
    .kind = "cuda", .close = close_device, .room = room, .create_arena = create_arena, .destroy_arena = destroy_arena,
    .copy = copy, .fill = fill, .create_queue = create_queue, .destroy_queue = destroy_queue, .enter = enter,
    .sync = sync, .create_event = create_event, .destroy_event = destroy_event, .record = record, .wait = wait_for,
    .test = test, .elapsed = elapsed, .begin_graph = begin_graph, .end_graph = end_graph, .launch = launch,
    .destroy_graph = destroy_graph};

int dsc_cuda_count(void)
{
    int count;

    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

static int64_t attribute(int index, enum cudaDeviceAttr which)
{
    int value;

    return cudaDeviceGetAttribute(&value, which, index) == cudaSuccess ? value : 0;
}

/* Memory moves twice a clock. */
static dsc_status describe(int index, dsc_device *out)
{
    struct cudaDeviceProp properties;
    dsc_status status = DSC_OK;

    *out = (dsc_device){.calls = &calls, .has_queues = true, .is_apart = true, .index = index};
    DSC_TRY(DSC_CUDA(cudaGetDeviceProperties(&properties, index)));
    DSC_TRY(DSC_CUDA(cudaDeviceGetPCIBusId(out->bus, sizeof out->bus, index)));
    snprintf(out->name, sizeof out->name, "%.63s", properties.name);
    out->memory_bytes = (int64_t)properties.totalGlobalMem;
    out->multiprocessors = properties.multiProcessorCount;
    out->clock_hz = 1000 * attribute(index, cudaDevAttrClockRate);
    out->bandwidth_bytes_per_s = 2e3 * (double)attribute(index, cudaDevAttrMemoryClockRate) *
                                 (double)attribute(index, cudaDevAttrGlobalMemoryBusWidth) / 8;
out:
    return status;
}

dsc_status dsc_cuda_open(int index, dsc_device *out)
{
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    dsc_status status = DSC_OK;

    if (error != cudaSuccess)
        return DSC_FAIL(DSC_EINVAL, "no CUDA device here: %s", cudaGetErrorString(error));
    if (index >= count) return DSC_FAIL(DSC_EINVAL, "CUDA device %d: this machine has %d", index, count);
    DSC_TRY(describe(index, out));
out:
    return status;
}
