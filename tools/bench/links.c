#include "tools/bench/bench.h"
#include "device/device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_REPEATS = 3, MAX_REPEATS = 100 }; /* over a slow link one takes seconds */

static const int64_t slot_ns = 60000000, quick_slot_ns = 10000000; /* for one size */
static const int64_t sizes[] = {8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 2 << 20, 16 << 20, 64 << 20};

typedef struct transfer {
    dsc_comm *comm;
    dsc_group *group;
    char *in, *out;
    int64_t bytes;    /* n of the rules for wire_bytes */
} transfer;

/* ---- One row a kind. Each transfers once, from start to end. */

static dsc_status wait_for(const transfer *t, dsc_status status, dsc_request *request)
{
    return status == DSC_OK ? dsc_request_wait(t->comm, request) : status;
}

static dsc_status all_reduce(const transfer *t)
{
    dsc_request r;

    return wait_for(t, dsc_all_reduce_start(t->group, t->in, t->bytes / 4, DSC_FP32, DSC_SUM, &r), &r);
}

static dsc_status reduce_scatter(const transfer *t)
{
    dsc_request r;
    const int64_t each = t->bytes / 4 / dsc_group_size(t->group);

    return wait_for(t, dsc_reduce_scatter_start(t->group, t->in, t->out, each, DSC_FP32, &r), &r);
}

static dsc_status all_gather(const transfer *t)
{
    dsc_request r;

    return wait_for(t, dsc_all_gather_start(t->group, t->in, t->out, t->bytes / dsc_group_size(t->group), &r), &r);
}

static dsc_status all_to_all(const transfer *t)
{
    dsc_request r;

    return wait_for(t, dsc_all_to_all_start(t->group, t->in, t->out, t->bytes / dsc_group_size(t->group), &r), &r);
}

static dsc_status broadcast(const transfer *t)
{
    dsc_request r;

    return wait_for(t, dsc_broadcast_start(t->group, t->in, t->bytes, 0, &r), &r);
}

/* There and back between two. */
static dsc_status ping_pong(const transfer *t)
{
    const int rank = dsc_group_rank(t->group);
    dsc_request r;
    dsc_status status = DSC_OK;

    if (rank == 1) DSC_TRY(wait_for(t, dsc_recv_start(t->group, t->out, t->bytes, 0, 0, &r), &r));
    DSC_TRY(wait_for(t, dsc_send_start(t->group, t->in, t->bytes, !rank, 0, &r), &r));
    if (rank == 0) DSC_TRY(wait_for(t, dsc_recv_start(t->group, t->out, t->bytes, 1, 0, &r), &r));
out:
    return status;
}

static const struct { const char *name; dsc_status (*run)(const transfer *); int trips; } kinds[] = {
    {"all_reduce", all_reduce, 1},
    {"reduce_scatter", reduce_scatter, 1},
    {"all_gather", all_gather, 1},
    {"all_to_all", all_to_all, 1},
    {"broadcast", broadcast, 1},
    {"send", ping_pong, 2},
};

/* ---- Timing */

/* Nodes on which ranks 0, stride, ... run, so many. */
static int count_nodes(const dsc_comm *comm, int count, int stride)
{
    int most = 0;

    for (int i = 0; i < count; i++) most = DSC_MAX(most, dsc_comm_node_of(comm, i * stride));
    return DSC_MIN(most + 1, count);
}

/* From when the last member is ready until the last is through, on rank 0's clock, as programs have it: in a tight loop
 * none would have to be woken. */
static dsc_status time_all(const transfer *t, dsc_status (*run)(const transfer *), int64_t repeats, int64_t *out)
{
    int64_t starts[MAX_REPEATS] = {0}, ends[MAX_REPEATS] = {0}, offset, uncertainty;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_clock_align(t->comm, &offset, &uncertainty));
    for (int64_t i = 0; i < repeats; i++) {
        DSC_TRY(dsc_comm_barrier(t->comm));
        if (t->group == NULL) continue;
        starts[i] = dsc_clock_ns() + offset;
        DSC_TRY(run(t));
        ends[i] = dsc_clock_ns() + offset;
    }
    DSC_TRY(dsc_comm_max(t->comm, starts, (int)repeats));
    DSC_TRY(dsc_comm_max(t->comm, ends, (int)repeats));
    for (int64_t i = 0; i < repeats; i++) out[i] = DSC_MAX(ends[i] - starts[i], 1);
out:
    return status;
}

/* The median over repetitions, on rank 0, which is in a group: a transfer waits for the slowest of its members, so that
 * what is late now and then is a part of it. */
static dsc_status time_kind(const transfer *t, int kind, int64_t slot, int64_t *out)
{
    int64_t times[MAX_REPEATS], found = 0;
    dsc_status status = DSC_OK;

    DSC_TRY(time_all(t, kinds[kind].run, 1, times));
    DSC_TRY(dsc_comm_max(t->comm, times, 1));
    const int64_t repeats = DSC_MAX(MIN_REPEATS, DSC_MIN(slot / times[0], MAX_REPEATS));
    DSC_TRY(time_all(t, kinds[kind].run, repeats, times));
    if (dsc_comm_rank(t->comm) == 0) found = bench_median(times, repeats) / kinds[kind].trips;
    DSC_TRY(dsc_comm_max(t->comm, &found, 1));
    *out = DSC_MAX(found, 1);
out:
    return status;
}

/* Ranks of a machine that are in groups of so many. */
static int count_at_work(const dsc_comm *comm, int count)
{
    const int all = dsc_comm_size(comm);

    return (int)dsc_ceil_div((int64_t)(all / count * count) * dsc_comm_machine_size(comm), all);
}

static dsc_status measure_kinds(transfer *t, const bench_request *request, int ranks, int stride, dsc_calibration *out)
{
    const int64_t slot = request->quick ? quick_slot_ns : slot_ns;
    dsc_status status = DSC_OK;

    for (int kind = 0; kind < DSC_COUNT(kinds); kind++)
        for (int i = 0; i < DSC_COUNT(sizes) && (ranks == 2 || kinds[kind].run != ping_pong); i++) {
            dsc_collective_sample sample = {.ranks = ranks, .nodes = count_nodes(t->comm, ranks, stride),
                                            .at_work = count_at_work(t->comm, ranks), .bytes = sizes[i]};

            t->bytes = sizes[i];
            if (sizes[i] / 4 % ranks != 0) t->bytes = sample.bytes = dsc_round_up(sizes[i], 4 * ranks);
            snprintf(sample.kind, sizeof sample.kind, "%s", kinds[kind].name);
            DSC_TRY(time_kind(t, kind, slot, &sample.time_ns));
            DSC_TRY(DSC_PUSH(out->collectives, out->collective_count, out->collective_capacity, sample));
            bench_progress(request, kinds[kind].name, i + 1, DSC_COUNT(sizes));
        }
out:
    return status;
}

/* The rank's group of `count` ranks that are `stride` apart; *out is NULL where fewer are left. */
static dsc_status create_group(dsc_comm *comm, int count, int stride, dsc_group **out)
{
    const int rank = dsc_comm_rank(comm), block = count * stride, first = rank / block * block + rank % stride;
    int *ranks = malloc((size_t)count * sizeof *ranks);
    dsc_status status = DSC_OK;

    *out = NULL;
    if (ranks == NULL) return DSC_FAIL(DSC_ENOMEM, "%d ranks", count);
    for (int i = 0; i < count; i++) ranks[i] = first + i * stride;
    if (rank / block * block + block <= dsc_comm_size(comm)) status = dsc_group_create(comm, ranks, count, out);
    free(ranks);
    return status;
}

/* Of groups of so many ranks, all at once: so it is in training, where each replica and each stage has its own. */
static dsc_status measure_groups(transfer *t, const bench_request *request, int ranks, int stride, dsc_calibration *out)
{
    dsc_status status = DSC_OK;

    DSC_TRY(create_group(t->comm, ranks, stride, &t->group));
    DSC_TRY(measure_kinds(t, request, ranks, stride, out));
    dsc_group_destroy(t->group);
    t->group = NULL;
out:
    return status;
}

/* Ranks of a node, where all have as many, one node's behind another's; else 1. */
static int count_each(const dsc_comm *comm)
{
    const int each = dsc_comm_node_size(comm), all = dsc_comm_size(comm);

    for (int rank = 0; rank < all; rank++)
        if (all % each != 0 || dsc_comm_node_of(comm, rank) != rank / each) return 1;
    return each;
}

dsc_status bench_collectives(dsc_comm *comm, const bench_request *request, dsc_calibration *out)
{
    const int64_t room = sizes[DSC_COUNT(sizes) - 1] + 4 * dsc_comm_size(comm);
    const int all = dsc_comm_size(comm), each = count_each(comm);
    transfer t = {.comm = comm, .in = calloc(1, (size_t)room), .out = calloc(1, (size_t)room)};
    dsc_status status = DSC_OK;

    if (t.in == NULL || t.out == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "collectives: %lld bytes", (long long)room));
    for (int ranks = DSC_MIN(2, all); ranks > 1; ranks = ranks == all ? 0 : DSC_MIN(2 * ranks, all))
        DSC_TRY(measure_groups(&t, request, ranks, 1, out));
    /* what replicas of a node do each by themselves: those of one place in all nodes are a group */
    if (each > 1 && all > each) DSC_TRY(measure_groups(&t, request, all / each, each, out));
out:
    free(t.in);
    free(t.out);
    return status;
}

/* ---- Copies: on a CPU the spaces are one memory, and a copy is a thread that copies */

static dsc_status measure_copies(const dsc_arena *arena, const bench_request *request, dsc_calibration *out)
{
    enum { ROUNDS = 7 };
    static const char *const spaces[] = {"device", "host"};
    const int64_t half = arena->bytes / 2;
    int64_t at = 0;

    for (int64_t bytes = 64 << 10; bytes <= 16 << 20; bytes *= 4)
        for (int direction = 0; direction < 2; direction++) {
            dsc_copy_sample sample = {.bytes = bytes};
            int64_t times[ROUNDS];

            for (int i = 0; i < ROUNDS; i++, at = (at + bytes) % (half - bytes)) {
                const int64_t start = dsc_clock_ns();

                memcpy(arena->base + half + at, arena->base + at, (size_t)bytes);
                times[i] = dsc_clock_ns() - start;
            }
            sample.time_ns = DSC_MAX(bench_quartile(times, ROUNDS), 1);
            snprintf(sample.from, sizeof sample.from, "%s", spaces[direction]);
            snprintf(sample.to, sizeof sample.to, "%s", spaces[!direction]);
            if (DSC_PUSH(out->copies, out->copy_count, out->copy_capacity, sample) != DSC_OK) return DSC_ENOMEM;
        }
    bench_progress(request, "copies", 1, 1);
    return DSC_OK;
}

dsc_status bench_copies(dsc_comm *comm, const bench_request *request, dsc_calibration *out)
{
    dsc_arena arena = {0};
    dsc_status status = DSC_OK;

    if (dsc_comm_rank(comm) == 0) {
        DSC_TRY(dsc_arena_create(128 << 20, &arena));
        memset(arena.base, 1, (size_t)arena.bytes);
        DSC_TRY(measure_copies(&arena, request, out));
    }
    DSC_TRY(dsc_comm_barrier(comm));
out:
    dsc_arena_destroy(&arena);
    return status;
}
