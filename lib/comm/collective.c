/* The collectives and messages as flows. Letters: N ranks, r this rank; chunks, segments and rounds as in
 * doc/comm.md. */
#include "comm/internal.h"
#include <string.h>

enum {
    SMALL = 16 * 1024,           /* all-reduces up to here go in log2(N) rounds rather than 2(N - 1) */
    PART = 1 << 30,              /* largest message of a point-to-point transfer: MPI counts in int */
    SEQUENCES = 1 << 20,         /* collectives of a group that tags tell apart */
    TREE_FANOUT = 2, CHAIN = 1
};

static int wrapped(int64_t rank, int size)
{
    return (int)((rank % size + size) % size);
}

/* ---- Ring: all-reduce (2(N - 1) rounds), reduce-scatter and all-gather (N - 1).
 *
 * The elements are cut into N chunks, each into segments; `pipes` segments of every chunk travel around the ring
 * together and are followed by the next. In round s rank r sends its segment of chunk r - s - shift to r + 1 and
 * receives that of chunk r - s - shift - 1. Message k is pipe k % pipes of round k / pipes % rounds of batch k /
 * (pipes rounds).
 *
 * A chunk's sum begins at one rank and takes in one rank's elements a round, always in the same order. */

typedef struct step { int64_t batch, round, pipe; } step;

static step step_of(const dsc_transfer *t, int64_t k)
{
    return (step){k / t->pipes / t->rounds, k / t->pipes % t->rounds, k % t->pipes};
}

/* Where part i of n nearly equal ones begins. */
static int64_t split(int64_t total, int64_t n, int64_t i)
{
    return total / n * i + DSC_MIN(i, total % n);
}

static int64_t segments_of(const dsc_transfer *t)
{
    return t->recvs / t->rounds;
}

/* Offset and length, in elements, of the segment that the ring passes at this step. */
static void find_segment(const dsc_transfer *t, step at, bool incoming, int64_t *first, int64_t *count)
{
    int size = t->group->size, chunk = wrapped(t->group->rank - at.round - t->shift - incoming, size);
    int64_t begin = split(t->elems, size, chunk), length = split(t->elems, size, chunk + 1) - begin;
    int64_t segment = at.batch * t->pipes + at.pipe, low = split(length, segments_of(t), segment);

    *first = begin + low;
    *count = split(length, segments_of(t), segment + 1) - low;
}

static char *slot_of(const dsc_transfer *t, int64_t k)
{
    return (char *)t->scratch + k % DSC_WINDOW * DSC_SEGMENT;
}

static dsc_piece ring_piece(const dsc_transfer *t, int64_t k, bool incoming, char *slot)
{
    int64_t first, count;

    find_segment(t, step_of(t, k), incoming, &first, &count);
    return (dsc_piece){slot != NULL ? slot : t->out + first * t->elem_bytes, count * t->elem_bytes,
                       wrapped(t->group->rank + (incoming ? -1 : 1), t->group->size)};
}

static dsc_piece ring_outgoing(const dsc_transfer *t, int64_t k)
{
    return ring_piece(t, k, false, NULL);
}

static dsc_piece ring_incoming(const dsc_transfer *t, int64_t k)
{
    return ring_piece(t, k, true, NULL);
}

/* From the second round on, what is sent came in the round before. */
static bool ring_may_send(const dsc_transfer *t, int64_t k)
{
    return step_of(t, k).round == 0 || k - t->pipes < t->landed;
}

static bool is_summing(const dsc_transfer *t, int64_t k)
{
    return step_of(t, k).round < t->group->size - 1;
}

static dsc_piece all_reduce_incoming(const dsc_transfer *t, int64_t k)
{
    return ring_piece(t, k, true, is_summing(t, k) ? slot_of(t, k) : NULL);
}

/* A finished segment overwrites the partial sum that was sent N - 1 rounds before. */
static bool all_reduce_may_receive(const dsc_transfer *t, int64_t k)
{
    return is_summing(t, k) || k - (t->group->size - 1) * t->pipes < t->sent;
}

static void all_reduce_land(dsc_transfer *t, int64_t k)
{
    int64_t first, count;

    if (!is_summing(t, k)) return;
    find_segment(t, step_of(t, k), true, &first, &count);
    t->reduce(t->out + first * t->elem_bytes, slot_of(t, k), count);
}

static const dsc_flow ring_all_reduce = {
    .name = "all-reduce", .outgoing = ring_outgoing, .incoming = all_reduce_incoming, .may_send = ring_may_send,
    .may_receive = all_reduce_may_receive, .land = all_reduce_land,
};

static const dsc_flow ring_all_gather = {
    .name = "all-gather", .outgoing = ring_outgoing, .incoming = ring_incoming, .may_send = ring_may_send,
};

/* Reduce-scatter leaves `in` as it is: partial sums live in the slots where they arrive, and leave from there. */
static dsc_piece reduce_scatter_outgoing(const dsc_transfer *t, int64_t k)
{
    int64_t first, count;
    dsc_piece piece = ring_piece(t, k, false, slot_of(t, k - t->pipes + DSC_WINDOW));

    find_segment(t, step_of(t, k), false, &first, &count);
    if (step_of(t, k).round == 0) piece.address = (char *)t->in + first * t->elem_bytes;
    return piece;
}

static dsc_piece reduce_scatter_incoming(const dsc_transfer *t, int64_t k)
{
    return ring_piece(t, k, true, slot_of(t, k));
}

/* The slot's last user came as message k - DSC_WINDOW and was sent on a round later. */
static bool reduce_scatter_may_receive(const dsc_transfer *t, int64_t k)
{
    return k - DSC_WINDOW + t->pipes < t->sent;
}

static void reduce_scatter_land(dsc_transfer *t, int64_t k)
{
    int64_t first, count, own = split(t->elems, t->group->size, t->group->rank);

    find_segment(t, step_of(t, k), true, &first, &count);
    t->reduce(slot_of(t, k), t->in + first * t->elem_bytes, count);
    if (step_of(t, k).round == t->rounds - 1)
        memcpy(t->out + (first - own) * t->elem_bytes, slot_of(t, k), (size_t)(count * t->elem_bytes));
}

static const dsc_flow ring_reduce_scatter = {
    .name = "reduce-scatter", .outgoing = reduce_scatter_outgoing, .incoming = reduce_scatter_incoming,
    .may_send = ring_may_send, .may_receive = reduce_scatter_may_receive, .land = reduce_scatter_land,
};

/* ---- Small all-reduce: everybody's elements to everybody (Bruck et al., IEEE TPDS 8(11), 1997), then summed in the
 * order of ranks. Block j of scratch is rank r + j's; in round s the first 2^s blocks go to r - 2^s. With no elements
 * it is a barrier. */

static dsc_piece bruck_piece(const dsc_transfer *t, int64_t round, bool incoming)
{
    int size = t->group->size;
    int64_t distance = (int64_t)1 << round, block_bytes = t->elems * t->elem_bytes;

    return (dsc_piece){(char *)t->scratch + (incoming ? distance * block_bytes : 0),
                       DSC_MIN(distance, size - distance) * block_bytes,
                       wrapped(t->group->rank + (incoming ? distance : -distance), size)};
}

static dsc_piece bruck_outgoing(const dsc_transfer *t, int64_t k)
{
    return bruck_piece(t, k, false);
}

static dsc_piece bruck_incoming(const dsc_transfer *t, int64_t k)
{
    return bruck_piece(t, k, true);
}

static bool bruck_may_send(const dsc_transfer *t, int64_t k)
{
    return k <= t->landed;
}

static void bruck_finish(dsc_transfer *t)
{
    int size = t->group->size;
    int64_t block_bytes = t->elems * t->elem_bytes;

    if (block_bytes == 0) return;
    for (int rank = 0; rank < size; rank++) {
        const char *block = t->scratch + wrapped(rank - t->group->rank, size) * block_bytes;

        if (rank == 0)
            memcpy(t->out, block, (size_t)block_bytes);
        else
            t->reduce(t->out, block, t->elems);
    }
}

static const dsc_flow bruck_all_reduce = {
    .name = "all-reduce", .outgoing = bruck_outgoing, .incoming = bruck_incoming, .may_send = bruck_may_send,
    .finish = bruck_finish,
};

/* ---- Broadcast down a tree in segments: a chain for large buffers, where the wire is what counts, a binary tree for
 * small ones, where rounds do. Positions count from the root. */

static int position_of(const dsc_transfer *t)
{
    return wrapped(t->group->rank - t->root, t->group->size);
}

static int children_of(const dsc_transfer *t)
{
    int first = position_of(t) * t->fanout + 1;

    return DSC_MAX(0, DSC_MIN(t->fanout, t->group->size - first));
}

static dsc_piece tree_piece(const dsc_transfer *t, int64_t segment, int position)
{
    return (dsc_piece){t->out + segment * DSC_SEGMENT, DSC_MIN(DSC_SEGMENT, t->elems - segment * DSC_SEGMENT),
                       wrapped(t->root + position, t->group->size)};
}

static dsc_piece tree_outgoing(const dsc_transfer *t, int64_t k)
{
    int children = children_of(t);

    return tree_piece(t, k / children, position_of(t) * t->fanout + 1 + (int)(k % children));
}

static dsc_piece tree_incoming(const dsc_transfer *t, int64_t k)
{
    return tree_piece(t, k, (position_of(t) - 1) / t->fanout);
}

static bool tree_may_send(const dsc_transfer *t, int64_t k)
{
    return t->recvs == 0 || k / children_of(t) < t->landed;
}

static const dsc_flow tree_broadcast = {
    .name = "broadcast", .outgoing = tree_outgoing, .incoming = tree_incoming, .may_send = tree_may_send,
};

/* ---- All-to-all: message k is a segment of what goes to the rank k % (N - 1) + 1 further on, so that at any time each
 * rank sends to one and receives from one. */

static dsc_piece all_to_all_piece(const dsc_transfer *t, int64_t k, bool incoming)
{
    int64_t others = t->group->size - 1, round = k % others + 1;
    int peer = wrapped(t->group->rank + (incoming ? -round : round), t->group->size);
    int64_t at = k / others * DSC_SEGMENT;
    char *base = incoming ? t->out : (char *)t->in;

    return (dsc_piece){base + peer * t->elems + at, DSC_MIN(DSC_SEGMENT, t->elems - at), peer};
}

static dsc_piece all_to_all_outgoing(const dsc_transfer *t, int64_t k) { return all_to_all_piece(t, k, false); }
static dsc_piece all_to_all_incoming(const dsc_transfer *t, int64_t k) { return all_to_all_piece(t, k, true); }

static const dsc_flow all_to_all = {
    .name = "all-to-all", .outgoing = all_to_all_outgoing, .incoming = all_to_all_incoming,
};

/* ---- Point to point: one message, or parts of it when it is more than MPI can count. */

static dsc_piece message_part(const dsc_transfer *t, int64_t k)
{
    return (dsc_piece){t->out + k * PART, DSC_MIN(PART, t->elems - k * PART), t->peer};
}

static const dsc_flow sending = {.name = "send", .outgoing = message_part};
static const dsc_flow receiving = {.name = "receive", .incoming = message_part};

/* The same through the slots, a segment each: MPI never sees the caller's buffer, which so may go after a failure. */
static dsc_piece slot_part(const dsc_transfer *t, int64_t k)
{
    return (dsc_piece){slot_of(t, k), DSC_MIN(DSC_SEGMENT, t->elems - k * DSC_SEGMENT), t->peer};
}

static dsc_piece copied_outgoing(const dsc_transfer *t, int64_t k)
{
    dsc_piece piece = slot_part(t, k);

    if (piece.bytes > 0) memcpy(piece.address, t->out + k * DSC_SEGMENT, (size_t)piece.bytes);
    return piece;
}

static void copied_land(dsc_transfer *t, int64_t k)
{
    dsc_piece piece = slot_part(t, k);

    if (piece.bytes > 0) memcpy(t->out + k * DSC_SEGMENT, piece.address, (size_t)piece.bytes);
}

static const dsc_flow sending_copy = {.name = "send", .outgoing = copied_outgoing};
static const dsc_flow receiving_copy = {.name = "receive", .incoming = slot_part, .land = copied_land};

/* ---- Starting */

/* After a failure the request stays active: some of it may be under way. */
static dsc_status begin(dsc_transfer *transfer, int64_t payload_bytes, dsc_request *request)
{
    bool done;
    dsc_status status = dsc_transfer_progress(transfer, &done);

    *request = (dsc_request){transfer, payload_bytes, true};
    if (status != DSC_OK) {
        dsc_transfer_abandon(transfer);
        return status;
    }
    if (done) dsc_transfer_give_back(transfer);
    transfer->group->comm->wire_bytes += payload_bytes;
    *request = (dsc_request){done ? NULL : transfer, payload_bytes, !done};
    return DSC_OK;
}

static dsc_status nothing_travels(dsc_request *request)
{
    *request = (dsc_request){0};
    return DSC_OK;
}

/* A collective's transfer with the next tag of the group; odd ones, so that no message's is among them. */
static dsc_status take_collective(dsc_group *group, const dsc_flow *flow, dsc_transfer **out)
{
    dsc_status status = dsc_transfer_take(group, flow, out);

    if (status == DSC_OK) (*out)->tag = 2 * (group->sequence++ % SEQUENCES) + 1;
    return status;
}

/* What a collective puts on the wire in all, counted once, by the group's first rank. */
static int64_t payload_of(const dsc_group *group, int64_t factor, int64_t bytes)
{
    return group->rank == 0 ? factor * (group->size - 1) * bytes : 0;
}

static void plan_ring(dsc_transfer *t, int64_t elems, int64_t elem_bytes, int64_t rounds, int64_t shift)
{
    int64_t chunk_elems = dsc_ceil_div(elems, t->group->size), segment_elems = DSC_SEGMENT / elem_bytes;
    int64_t segments = DSC_MAX(1, dsc_ceil_div(chunk_elems, segment_elems));

    t->elems = elems;
    t->elem_bytes = elem_bytes;
    t->rounds = rounds;
    t->shift = shift;
    t->pipes = DSC_MIN(segments, DSC_PIPES);
    t->sends = t->recvs = dsc_round_up(segments, t->pipes) * rounds;
}

static void plan_bruck(dsc_transfer *t, int64_t elems, int64_t elem_bytes)
{
    t->elems = elems;
    t->elem_bytes = elem_bytes;
    while ((int64_t)1 << t->sends < t->group->size) t->sends++;
    t->recvs = t->sends;
    if (elems > 0) memcpy(t->scratch, t->out, (size_t)(elems * elem_bytes));
}

dsc_status dsc_all_reduce_with(dsc_group *group, void *buffer, int64_t elems, int64_t elem_bytes, dsc_reduce_fn *reduce,
                               dsc_request *out)
{
    int64_t bytes = elems * elem_bytes;
    bool is_small = bytes <= SMALL && bytes * group->size <= DSC_WINDOW * DSC_SEGMENT;
    dsc_transfer *transfer;
    dsc_status status;

    if (group->size == 1) return nothing_travels(out);
    status = take_collective(group, is_small ? &bruck_all_reduce : &ring_all_reduce, &transfer);
    if (status != DSC_OK) return status;
    transfer->out = buffer;
    transfer->reduce = reduce;
    if (is_small)
        plan_bruck(transfer, elems, elem_bytes);
    else
        plan_ring(transfer, elems, elem_bytes, 2 * (group->size - 1), 0);
    return begin(transfer, payload_of(group, 2, bytes), out);
}

static dsc_status find_reduction(dsc_dtype type, dsc_reduction reduction, dsc_reduce_fn **out)
{
    *out = dsc_reduce_find(type, reduction);
    if (*out != NULL) return DSC_OK;
    return DSC_FAIL(DSC_ENOTSUP, "no %s over %s between ranks", reduction == DSC_SUM ? "sum" : "maximum",
                    dsc_dtype_name(type));
}

dsc_status dsc_all_reduce_start(dsc_group *group, void *buffer, int64_t elems, dsc_dtype type, dsc_reduction reduction,
                                dsc_request *out)
{
    dsc_reduce_fn *reduce;
    dsc_status status = find_reduction(type, reduction, &reduce);

    if (status != DSC_OK) return status;
    return dsc_all_reduce_with(group, buffer, elems, dsc_dtype_bytes(type), reduce, out);
}

dsc_status dsc_reduce_scatter_start(dsc_group *group, const void *in, void *out, int64_t elems_each, dsc_dtype type,
                                    dsc_request *request)
{
    int64_t bytes_each = elems_each * dsc_dtype_bytes(type);
    dsc_transfer *transfer;
    dsc_reduce_fn *reduce;
    dsc_status status = find_reduction(type, DSC_SUM, &reduce);

    if (status != DSC_OK) return status;
    if (group->size == 1) {
        if (in != out) memcpy(out, in, (size_t)bytes_each);
        return nothing_travels(request);
    }
    status = take_collective(group, &ring_reduce_scatter, &transfer);
    if (status != DSC_OK) return status;
    transfer->in = in;
    transfer->out = out;
    transfer->reduce = reduce;
    plan_ring(transfer, group->size * elems_each, dsc_dtype_bytes(type), group->size - 1, 1);
    return begin(transfer, payload_of(group, 1, group->size * bytes_each), request);
}

dsc_status dsc_all_gather_start(dsc_group *group, const void *in, void *out, int64_t bytes_each, dsc_request *request)
{
    char *own = (char *)out + group->rank * bytes_each;
    dsc_transfer *transfer;
    dsc_status status;

    if (in != own && bytes_each > 0) memcpy(own, in, (size_t)bytes_each);
    if (group->size == 1) return nothing_travels(request);
    status = take_collective(group, &ring_all_gather, &transfer);
    if (status != DSC_OK) return status;
    transfer->out = out;
    plan_ring(transfer, group->size * bytes_each, 1, group->size - 1, 0);
    return begin(transfer, payload_of(group, 1, group->size * bytes_each), request);
}

dsc_status dsc_all_to_all_start(dsc_group *group, const void *in, void *out, int64_t bytes_each, dsc_request *request)
{
    int64_t own = group->rank * bytes_each;
    dsc_transfer *transfer;
    dsc_status status;

    if (bytes_each > 0) memcpy((char *)out + own, (const char *)in + own, (size_t)bytes_each);
    if (group->size == 1 || bytes_each == 0) return nothing_travels(request);
    status = take_collective(group, &all_to_all, &transfer);
    if (status != DSC_OK) return status;
    transfer->in = in;
    transfer->out = out;
    transfer->elems = bytes_each;
    transfer->sends = transfer->recvs = dsc_ceil_div(bytes_each, DSC_SEGMENT) * (group->size - 1);
    return begin(transfer, payload_of(group, group->size, bytes_each), request);
}

dsc_status dsc_broadcast_start(dsc_group *group, void *buffer, int64_t bytes, int root, dsc_request *request)
{
    int64_t segments = dsc_ceil_div(bytes, DSC_SEGMENT);
    dsc_transfer *transfer;
    dsc_status status;

    if (group->size == 1 || bytes == 0) return nothing_travels(request);
    status = take_collective(group, &tree_broadcast, &transfer);
    if (status != DSC_OK) return status;
    transfer->out = buffer;
    transfer->elems = bytes;
    transfer->root = root;
    transfer->fanout = segments == 1 ? TREE_FANOUT : CHAIN;
    transfer->sends = segments * children_of(transfer);
    transfer->recvs = group->rank == root ? 0 : segments;
    return begin(transfer, payload_of(group, 1, bytes), request);
}

static dsc_status start_message(dsc_group *group, const dsc_flow *flow, void *buffer, int64_t bytes, int peer, int tag,
                                dsc_request *request)
{
    bool is_send = flow->outgoing != NULL, is_copied = flow == &sending_copy || flow == &receiving_copy;
    int64_t parts = DSC_MAX(1, dsc_ceil_div(bytes, is_copied ? DSC_SEGMENT : PART));
    dsc_transfer *transfer;
    dsc_status status;

    if (peer < 0 || peer >= group->size || peer == group->rank || tag < 0 || tag >= DSC_TAGS)
        return DSC_FAIL(DSC_EINTERNAL, "%s: peer %d and tag %d in a group of %d, as its rank %d", flow->name, peer, tag,
                        group->size, group->rank);
    status = dsc_transfer_take(group, flow, &transfer);
    if (status != DSC_OK) return status;
    transfer->out = buffer;
    transfer->elems = bytes;
    transfer->peer = peer;
    transfer->tag = 2 * tag;
    transfer->sends = is_send ? parts : 0;
    transfer->recvs = is_send ? 0 : parts;
    return begin(transfer, is_send ? bytes : 0, request);
}

dsc_status dsc_send_start(dsc_group *group, const void *buffer, int64_t bytes, int peer, int tag, dsc_request *request)
{
    return start_message(group, &sending, (void *)buffer, bytes, peer, tag, request);
}

dsc_status dsc_recv_start(dsc_group *group, void *buffer, int64_t bytes, int peer, int tag, dsc_request *request)
{
    return start_message(group, &receiving, buffer, bytes, peer, tag, request);
}

dsc_status dsc_send_copy_start(dsc_group *group, const void *buffer, int64_t bytes, int peer, int tag,
                               dsc_request *request)
{
    return start_message(group, &sending_copy, (void *)buffer, bytes, peer, tag, request);
}

dsc_status dsc_recv_copy_start(dsc_group *group, void *buffer, int64_t bytes, int peer, int tag, dsc_request *request)
{
    return start_message(group, &receiving_copy, buffer, bytes, peer, tag, request);
}

dsc_status dsc_request_test(dsc_request *request, bool *done)
{
    dsc_status status;

    *done = !request->active;
    if (*done) return DSC_OK;
    status = dsc_transfer_progress(request->transfer, done);
    if (status != DSC_OK || !*done) return status;
    dsc_transfer_give_back(request->transfer);
    request->transfer = NULL;
    request->active = false;
    return DSC_OK;
}
