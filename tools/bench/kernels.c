#include "tools/bench/bench.h"
#include "base/log.h"
#include "device/device.h"
#include "kernel/held.h"
#include "kernel/step.h"
#include "kernel/units.h"
#include "kernels/kernels.h"
#include "model/sparsity.h"
#include "sim/measured.h"
#include <stdlib.h>
#include <string.h>

/* In a step a kernel meets operands in two states: the one that the kernel before it has just written, in the caches as
 * far as it fits, and others that lie where the last micro-batch or step left them, in memory. So operands move through
 * pools larger than the caches from call to call, and the fresh one is written right before the call; not on a GPU,
 * whose cache has no room for what a kernel writes there.
 *
 * What operands hold is made in this process' memory and copied to the device's. */

enum { POOL_BYTES = BENCH_BYTES + (8 << 20), GPU_POOL_BYTES = BENCH_GPU_BYTES + (8 << 20), LINE = 64, MAX_REPEATS = 32,
       MIN_REPEATS = 3, FULL_ROUNDS = 2, ROUNDS_IN_DOUBT = 4 };

static const int64_t slot_ns = 4000000, quick_slot_ns = 1000000; /* for a shape in a round */
static const int64_t limit_ns = 24000000000;                     /* for all shapes: what is larger is left out */

typedef struct pool { dsc_arena arena; int64_t at; } pool;

typedef struct bench {
    dsc_comm *comm;
    dsc_device *device;
    dsc_queue *queue;      /* of a device that has them, and events before and behind a call */
    dsc_event *from, *to;
    const dsc_kernel_set *set;
    pool read, written;    /* operands that are only read keep sane values */
    dsc_arena workspace, tokens, lists, step;
    dsc_arena image;       /* what is to be copied there */
    int64_t slot_ns, end_ns;
    dsc_shape *shapes; int64_t count;
    double *times;         /* [count] ns, the best so far; 0: none */
} bench;

/* The operand that a kernel shortly before wrote; -1: none is fresh. */
static int fresh_operand(const dsc_shape *shape)
{
    switch ((dsc_kernel)shape->kernel) {
    case DSC_K_GEMM: return shape->flags & DSC_TRANS_A ? 1 : 0; /* dy beside an old x; x or dy beside a weight */
    case DSC_K_EMBED_FWD:
    case DSC_K_SQUARE_SUM:
    case DSC_K_DRIFT:
    case DSC_K_CLEAR:
    case DSC_K_LOAD: return -1;
    case DSC_K_MOMENTUM: return shape->flags & DSC_SCALED ? 0 : -1; /* a gradient, which was expanded */
    case DSC_K_ADAM: return shape->flags & DSC_FROZEN ? 2 : -1; /* momentum, which was expanded */
    case DSC_K_LAMB_NORMS: return shape->flags & DSC_FROZEN ? 0 : -1;
    case DSC_K_EMBED_BWD:
    case DSC_K_CROSS_ENTROPY:
    case DSC_K_CROSS_ENTROPY_PART: return 1; /* dx, logits */
    case DSC_K_CROSS_ENTROPY_JOIN: return 2; /* logits, which part read */
    default: return 0;
    }
}

/* ---- Operands */

static void *take(pool *p, int64_t bytes)
{
    char *address;

    if (p->at + bytes > p->arena.bytes) p->at = 0;
    address = p->arena.base + p->at;
    p->at += dsc_round_up(bytes, LINE);
    return address;
}

/* The image's first bytes. */
static dsc_status put(const bench *b, const dsc_arena *to, int64_t bytes)
{
    return b->device->calls->copy(b->device, NULL, to->base, b->image.base, bytes);
}

/* Numbers between 1/128 and 1/64 whether read as fp32 or bf16 (in fp16: about 1), all different. */
static dsc_status fill(const bench *b, const dsc_arena *to)
{
    uint16_t *values = (uint16_t *)b->image.base;

#pragma omp parallel for
    for (int64_t i = 0; i < to->bytes / 2; i++) values[i] = (uint16_t)(0x3c00 + (i * 7919 >> 3) % 128);
    return put(b, to, to->bytes);
}

static bool is_loss(int kernel) { return kernel >= DSC_K_CROSS_ENTROPY && kernel <= DSC_K_CROSS_ENTROPY_JOIN; }

/* Token tables hold valid tokens of the shape's vocabulary, other ranks' among them. */
static dsc_status fill_tokens(const bench *b, const dsc_shape *shape)
{
    const int64_t held = is_loss(shape->kernel) ? shape->d[2] : shape->d[3];
    const int64_t vocab = shape->flags & DSC_SHARD ? BENCH_SHARDS * held : held;
    int32_t *tokens = (int32_t *)b->image.base;

    for (int64_t i = 0; i < shape->d[0] * (shape->d[1] + 1); i++) tokens[i] = (int32_t)(i * 7919 % vocab);
    return put(b, &b->tokens, dsc_operand_bytes(shape, 0));
}

bool bench_has_units(int kernel) { return kernel >= DSC_K_SIGN_COMPRESS && kernel <= DSC_K_SIGN_EXPAND; }

void bench_fill_units(const dsc_shape *shape, void *operand)
{
    const int64_t *d = shape->d + (shape->kernel == DSC_K_SIGN_AVERAGE ? 0 : 1);
    const int64_t lists = shape->kernel == DSC_K_SIGN_EXPAND ? d[3] : 1, each = d[0] / d[2];

    for (int64_t l = 0; l < lists; l++) {
        dsc_units *list = (dsc_units *)((int64_t *)operand + l * dsc_units_elems(d[2]));

        *list = (dsc_units){.count = d[2]};
        for (int64_t u = 0; u < d[2]; u++)
            list->unit[u] = (dsc_unit){.first = l * d[0] + u * each, .real = each, .place = u * each, .padded = each};
    }
}

/* Tensors of one size, one behind another. */
static void fill_held(const dsc_shape *shape, void *operand)
{
    const int64_t each = shape->d[0] / shape->d[1];
    dsc_held *held = operand;

    for (int64_t t = 0; t < shape->d[1]; t++) held[t] = (dsc_held){.first = t * each, .elems = each, .real = each};
}

/* The lists of a window. */
static dsc_status fill_window(const dsc_shape *shape, void *operand)
{
    const dsc_blocks blocks = dsc_blocks_of(shape, operand);
    const int64_t window = bench_window(shape);
    int64_t *heads = calloc((size_t)blocks.heads, sizeof *heads);
    dsc_status status = DSC_OK;
    dsc_layout *layout = NULL;

    if (heads == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "%lld heads", (long long)blocks.heads));
    DSC_TRY(dsc_layout_make(blocks.side, blocks.n, 1, &layout));
    for (int64_t row = 0; row < blocks.n; row++)
        for (int64_t column = DSC_MAX(row - window + 1, 0); column <= row; column++)
            dsc_layout_add(layout, 0, row, column);
    DSC_TRY(dsc_layout_list(layout, heads, &blocks));
out:
    free(heads);
    dsc_layout_destroy(layout);
    return status;
}

/* The operand that lists blocks, units or tensors; -1: there is none. */
static int list_operand(const dsc_shape *shape)
{
    if (bench_has_units(shape->kernel)) return 1;
    if (shape->kernel == DSC_K_LAMB_NORMS) return 5;
    if (shape->kernel == DSC_K_LAMB_STEP) return 2;
    if (!(shape->flags & DSC_HAS_LAYOUT)) return -1;
    return shape->kernel == DSC_K_ATTENTION_FWD ? 3 : 5;
}

static dsc_status fill_lists(const bench *b, const dsc_shape *shape)
{
    void *image = b->image.base;
    dsc_status status = DSC_OK;

    if (shape->flags & DSC_HAS_LAYOUT) DSC_TRY(fill_window(shape, image));
    else if (bench_has_units(shape->kernel)) bench_fill_units(shape, image);
    else fill_held(shape, image);
    DSC_TRY(put(b, &b->lists, dsc_operand_bytes(shape, list_operand(shape))));
out:
    return status;
}

static bool has_tokens(int kernel)
{
    return kernel == DSC_K_EMBED_FWD || kernel == DSC_K_EMBED_BWD || is_loss(kernel);
}

static void place_operands(bench *b, const dsc_shape *shape, void *operands[DSC_KERNEL_OPERANDS])
{
    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++) {
        const bool is_there = i < dsc_kernel_operands((dsc_kernel)shape->kernel) && dsc_operand_present(shape, i);

        operands[i] = NULL;
        if (!is_there) continue;
        if (i == 0 && has_tokens(shape->kernel)) operands[i] = b->tokens.base;
        else if (i == list_operand(shape)) operands[i] = b->lists.base;
        else operands[i] = take(dsc_operand_is_written(shape, i) ? &b->written : &b->read, dsc_operand_bytes(shape, i));
    }
}

/* Writes a word of each line, by the threads that kernels use. */
static void freshen(const dsc_shape *shape, void *const *operands)
{
    const int fresh = fresh_operand(shape);
    const int64_t bytes = fresh < 0 ? 0 : dsc_operand_bytes(shape, fresh);
    volatile char *lines = fresh < 0 ? NULL : operands[fresh];

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < bytes; i += LINE) lines[i] = lines[i];
}

/* ---- Timing */

static dsc_status run(const bench *b, const dsc_shape *shape, void *const *operands)
{
    return b->set->run[shape->kernel](shape, operands, b->workspace.base, (const dsc_step *)b->step.base);
}

/* By the device's own clock. */
static dsc_status time_in_queue(const bench *b, const dsc_shape *shape, void *const *operands, int64_t *out)
{
    const dsc_device_calls *calls = b->device->calls;
    dsc_status status = DSC_OK;

    DSC_TRY(calls->record(b->device, b->queue, b->from));
    DSC_TRY(run(b, shape, operands));
    DSC_TRY(calls->record(b->device, b->queue, b->to));
    DSC_TRY(calls->sync(b->device, b->queue));
    DSC_TRY(calls->elapsed(b->device, b->from, b->to, out));
out:
    return status;
}

static dsc_status time_once(bench *b, const dsc_shape *shape, int64_t *out)
{
    void *operands[DSC_KERNEL_OPERANDS];
    dsc_status status = DSC_OK;

    place_operands(b, shape, operands);
    if (b->queue != NULL) DSC_TRY(time_in_queue(b, shape, operands, out));
    else {
        freshen(shape, operands);
        const int64_t start = dsc_clock_ns();
        DSC_TRY(run(b, shape, operands));
        *out = dsc_clock_ns() - start;
    }
    *out = DSC_MAX(*out, 1);
out:
    return status;
}

/* The lower quartile of as many calls as the slot has time for. */
static dsc_status time_shape(bench *b, const dsc_shape *shape, int64_t *out)
{
    int64_t times[MAX_REPEATS], first;
    dsc_status status = DSC_OK;

    if (has_tokens(shape->kernel)) DSC_TRY(fill_tokens(b, shape));
    if (list_operand(shape) >= 0) DSC_TRY(fill_lists(b, shape));
    if (b->set->prepare != NULL) DSC_TRY(b->set->prepare(shape));
    DSC_TRY(time_once(b, shape, &first));
    const int64_t repeats = DSC_MAX(MIN_REPEATS, DSC_MIN(b->slot_ns / first, MAX_REPEATS));
    for (int64_t i = 0; i < repeats; i++) DSC_TRY(time_once(b, shape, &times[i]));
    *out = bench_quartile(times, repeats);
out:
    return status;
}

/* Every shape that is not `settled` once more, its calls on all ranks at the same time. times keeps the least of all
 * rounds, which others who use the machine disturbed least. */
static dsc_status measure_round(bench *b, const bench_request *request, const bool *settled)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < b->count; i++) {
        int64_t is_late = dsc_clock_ns() > b->end_ns, time;

        if (settled[i]) continue;
        DSC_TRY(dsc_comm_max(b->comm, &is_late, 1)); /* also the barrier */
        if (is_late) break;
        DSC_TRY(time_shape(b, &b->shapes[i], &time));
        b->times[i] = b->times[i] == 0 ? (double)time : DSC_MIN(b->times[i], (double)time);
        bench_progress(request, "kernels", i + 1, b->count);
    }
out:
    return status;
}

/* Adds what was measured so far: the mean over ranks, since one that is slower now is not the one that is slower next
 * time. Shapes that no time was left for are not there. */
static dsc_status collect(const bench *b, dsc_calibration *out)
{
    double *times = malloc(((size_t)b->count + 1) * sizeof *times);
    dsc_status status = DSC_OK;

    if (times == NULL) return DSC_FAIL(DSC_ENOMEM, "%lld times", (long long)b->count);
    memcpy(times, b->times, (size_t)b->count * sizeof *times);
    DSC_TRY(dsc_comm_sum(b->comm, times, (int)b->count));
    for (int64_t i = 0; i < b->count; i++) {
        const int64_t time_ns = (int64_t)(times[i] / dsc_comm_size(b->comm) + 0.5);
        const dsc_kernel_sample sample = {b->shapes[i], dsc_comm_node_size(b->comm), time_ns};

        if (time_ns > 0) DSC_TRY(DSC_PUSH(out->kernels, out->kernel_count, out->kernel_capacity, sample));
    }
out:
    free(times);
    return status;
}

/* A time that is much longer than its neighbours let one expect was disturbed, or is a matter of that shape: measuring
 * it again tells. All others are settled; the same on all ranks. */
static dsc_status settle(const bench *b, bool *settled)
{
    static const double DOUBT = -0.06; /* the price by neighbours over the time, less 1 */
    dsc_calibration so_far;
    dsc_measured *measured = NULL;
    double *misses = calloc((size_t)b->count + 1, sizeof *misses);
    dsc_status status = DSC_OK;
    int64_t sample = 0;

    dsc_calibration_init(&so_far);
    if (misses == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "%lld shapes", (long long)b->count));
    DSC_TRY(collect(b, &so_far));
    DSC_TRY(dsc_measured_create(&so_far, &measured));
    DSC_TRY(dsc_measured_misses(measured, misses));
    for (int64_t i = 0; i < b->count; i++) settled[i] = b->times[i] > 0 && misses[sample++] > DOUBT;
out:
    dsc_measured_destroy(measured);
    dsc_calibration_fini(&so_far);
    free(misses);
    return status;
}

static dsc_status measure_rounds(bench *b, const bench_request *request)
{
    bool *settled = calloc((size_t)b->count + 1, sizeof *settled);
    dsc_status status = DSC_OK;

    if (settled == NULL) return DSC_FAIL(DSC_ENOMEM, "%lld shapes", (long long)b->count);
    for (int round = 0; round < (request->quick ? 1 : FULL_ROUNDS + ROUNDS_IN_DOUBT); round++) {
        if (round >= FULL_ROUNDS) DSC_TRY(settle(b, settled));
        DSC_TRY(measure_round(b, request, settled));
    }
out:
    free(settled);
    return status;
}

/* ---- All of it */

static int64_t largest_workspace(const bench *b)
{
    int64_t largest = 0;

    for (int64_t i = 0; i < b->count; i++)
        largest = DSC_MAX(largest, dsc_kernel_workspace_bytes(&b->shapes[i]));
    return largest;
}

static int64_t largest_list(const bench *b)
{
    int64_t largest = 0;

    for (int64_t i = 0; i < b->count; i++)
        if (list_operand(&b->shapes[i]) >= 0)
            largest = DSC_MAX(largest, dsc_operand_bytes(&b->shapes[i], list_operand(&b->shapes[i])));
    return largest;
}

static int64_t largest_tokens(const bench *b)
{
    int64_t largest = 0;

    for (int64_t i = 0; i < b->count; i++)
        if (has_tokens(b->shapes[i].kernel)) largest = DSC_MAX(largest, dsc_operand_bytes(&b->shapes[i], 0));
    return largest;
}

static dsc_status open_queue(bench *b)
{
    const dsc_device_calls *calls = b->device->calls;
    dsc_status status = DSC_OK;

    DSC_TRY(calls->create_queue(b->device, &b->queue));
    DSC_TRY(calls->create_event(b->device, true, &b->from));
    DSC_TRY(calls->create_event(b->device, true, &b->to));
    calls->enter(b->device, b->queue);
out:
    return status;
}

static dsc_status open_memory(bench *b)
{
    static const dsc_step step = {.number = 1, .optimizer_step = 1, .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999,
                                  .eps = 1e-8, .bias_correction1 = 0.1, .bias_correction2 = 30, .rates = 1e-3,
                                  .fresh_correction2 = 30, .trust = {10, 0.01, 0.9, 4, 0.5, 0.1},
                                  .loss_scale = 1, .loss_gradient = 1e-3f, .gradient_scale = 1};
    const int64_t pool_bytes = b->device->has_queues ? GPU_POOL_BYTES : POOL_BYTES;
    const struct { dsc_arena *arena; int64_t bytes; } arenas[] = {
        {&b->read.arena, pool_bytes}, {&b->written.arena, pool_bytes}, {&b->tokens, largest_tokens(b)},
        {&b->lists, largest_list(b)}, {&b->workspace, largest_workspace(b)}, {&b->step, sizeof step}};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_arena_create(DSC_MAX(pool_bytes, largest_list(b)), &b->image));
    for (int64_t i = 0; i < DSC_COUNT(arenas); i++)
        DSC_TRY(b->device->calls->create_arena(b->device, DSC_MEMORY_DEVICE, arenas[i].bytes, arenas[i].arena));
    DSC_TRY(fill(b, &b->read.arena));
    DSC_TRY(fill(b, &b->written.arena));
    memcpy(b->image.base, &step, sizeof step);
    DSC_TRY(put(b, &b->step, sizeof step));
out:
    return status;
}

static dsc_status open_bench(bench *b, const bench_request *request)
{
    dsc_status status = DSC_OK;

    b->device = request->device;
    DSC_TRY(bench_grid(request, &b->shapes, &b->count));
    b->set = b->device->has_queues ? dsc_kernels_cuda() : dsc_kernels_cpu();
    b->slot_ns = request->quick ? quick_slot_ns : slot_ns;
    b->end_ns = dsc_clock_ns() + limit_ns;
    b->times = calloc((size_t)b->count + 1, sizeof *b->times);
    if (b->times == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "%lld times", (long long)b->count));
    if (b->device->has_queues) DSC_TRY(open_queue(b));
    DSC_TRY(open_memory(b));
out:
    return status;
}

static void close_bench(bench *b)
{
    dsc_arena *const arenas[] = {&b->read.arena, &b->written.arena, &b->tokens, &b->lists, &b->workspace, &b->step};
    const dsc_device_calls *calls = b->device->calls;

    for (int64_t i = 0; i < DSC_COUNT(arenas); i++) calls->destroy_arena(b->device, DSC_MEMORY_DEVICE, arenas[i]);
    dsc_arena_destroy(&b->image);
    if (b->from != NULL) calls->destroy_event(b->device, b->from);
    if (b->to != NULL) calls->destroy_event(b->device, b->to);
    if (b->queue != NULL) calls->enter(b->device, NULL);
    if (b->queue != NULL) calls->destroy_queue(b->device, b->queue);
    free(b->times);
    free(b->shapes);
}

static void report_left_out(const bench *b)
{
    int64_t left_out = 0;

    for (int64_t i = 0; i < b->count; i++) left_out += b->times[i] == 0;
    if (left_out > 0 && dsc_comm_rank(b->comm) == 0)
        dsc_log(DSC_WARNING, "%lld of %lld shapes left out: the machine is too slow for them in %.0f s",
                (long long)left_out, (long long)b->count, (double)limit_ns / 1e9);
}

dsc_status bench_kernels(dsc_comm *comm, const bench_request *request, dsc_calibration *out)
{
    bench b = {.comm = comm};
    dsc_status status = DSC_OK;

    DSC_TRY(open_bench(&b, request));
    DSC_TRY(measure_rounds(&b, request));
    DSC_TRY(collect(&b, out));
    report_left_out(&b);
out:
    close_bench(&b);
    return status;
}
