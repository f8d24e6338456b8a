/* The way of a bucket's gradients, from the pass that completes them to the sums that the update reads: over the
 * replicas (ZeRO: each keeps its part), over the stages that share the embedding, to the host's memory, onto what
 * earlier micro-batches left there. */
#include "program/build.h"

dsc_dtype dsc_build_gradient_type(const dsc_builder *b, const dsc_shard *shard)
{
    return b->buckets[shard->bucket].is_streamed ? b->plan->stream_type : b->plan->gradient_type;
}

/* ---- What no pass writes: between shards, and positions past the sequence. What is kept is zero from the start. */

static void clear_gap(dsc_builder *b, int64_t index, int64_t first, int64_t end)
{
    const dsc_shape shape = {.kernel = DSC_K_CLEAR, .type = (int8_t)b->plan->stream_type,
                             .out = (int8_t)b->plan->stream_type, .d = {end - first}};
    dsc_span span = dsc_span_elems(b->states[index].gradients, b->plan->stream_type,
                                   first - b->buckets[index].first_elem, end - first);

    if (end > first) dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){span});
}

static int64_t written_end(const dsc_builder *b, const dsc_shard *shard)
{
    bool are_positions = b->plan->tensors[shard->tensor].role == DSC_ROLE_WPE;

    return shard->first + (are_positions && !b->is_cut ? b->seq * b->hidden : shard->elems);
}

/* Calls of the op that is the first to write into the bucket. */
static void clear_gaps(dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    int64_t end = bucket->first_elem;

    for (int64_t s = bucket->first; s < bucket->end; s++) {
        clear_gap(b, index, end, b->stage->shards[s].first);
        end = written_end(b, &b->stage->shards[s]);
    }
    clear_gap(b, index, end, bucket->first_elem + bucket->elems);
}

/* All of a bucket's gradients, as passes make them. */
static dsc_span whole_of(dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    int64_t bytes = bucket->elems * dsc_dtype_bytes(b->plan->stream_type);
    int32_t *made = &b->states[index].gradients;

    if (!bucket->is_streamed) return dsc_program_kept(b->program, bucket, DSC_KEPT_GRADIENTS);
    if (*made < 0) {
        *made = dsc_build_for_bucket(b, DSC_SPACE_DEVICE, "gradients", DSC_CLASS_GRADIENTS, index, bytes);
        clear_gaps(b, index);
    }
    return dsc_span_whole(b, *made);
}

dsc_span dsc_build_gradients(dsc_builder *b, const dsc_shard *shard)
{
    dsc_span whole = whole_of(b, shard->bucket);
    int64_t each = dsc_dtype_bytes(dsc_build_gradient_type(b, shard));
    int64_t first = shard->first - b->buckets[shard->bucket].first_elem;

    return (dsc_span){whole.buffer, whole.offset + first * each, shard->elems * each, 0};
}

/* ---- From the whole to the sum */

static bool is_in_host(const dsc_bucket *bucket) { return bucket->space[DSC_KEPT_SUMS] == DSC_SPACE_HOST; }

/* What a micro-batch leaves is the sum itself where there was none before, and no other type is kept. */
static bool is_sum(const dsc_builder *b, const dsc_bucket *bucket)
{
    return !bucket->is_streamed || (b->pass.is_first_w && b->plan->stream_type == b->plan->gradient_type);
}

static dsc_span sums_of(const dsc_builder *b, const dsc_bucket *bucket)
{
    return dsc_span_own(b, dsc_program_kept(b->program, bucket, DSC_KEPT_SUMS));
}

/* Where momenta are compressed: over the replicas that are one worker, each of which has the sum of what it compresses,
 * in place, or, where it steps by itself, of all. */
static dsc_span over_worker(dsc_builder *b, dsc_span whole, dsc_dtype type)
{
    const dsc_span own = dsc_span_own(b, whole);

    if (b->plan->intra == 1) return whole;
    if (own.parts == 0) dsc_build_transfer(b, DSC_OP_ALL_REDUCE, DSC_AXIS_INTRA, -1, DSC_NO_SPAN, whole, type);
    else dsc_build_transfer(b, DSC_OP_REDUCE_SCATTER, DSC_AXIS_INTRA, -1, whole, own, type);
    return own;
}

/* Over the replicas: each has the sum of its part, or, without ZeRO, of all. */
static dsc_span over_replicas(dsc_builder *b, int64_t index, dsc_span whole, dsc_dtype type)
{
    const dsc_bucket *bucket = &b->buckets[index];
    bool ends_here = !is_in_host(bucket) && is_sum(b, bucket);
    dsc_span part;

    if (dsc_plan_degree(b->plan, DSC_AXIS_DP) == 1) return whole;
    if (b->is_local) return over_worker(b, whole, type);
    if (b->plan->parts == 1) {
        dsc_build_transfer(b, DSC_OP_ALL_REDUCE, DSC_AXIS_DP, -1, DSC_NO_SPAN, whole, type);
        return whole;
    }
    part = ends_here ? dsc_program_kept(b->program, bucket, DSC_KEPT_SUMS)
                     : dsc_build_part(b, DSC_SPACE_DEVICE, "part of gradients", DSC_CLASS_GRADIENTS, index, type);
    dsc_build_transfer(b, DSC_OP_REDUCE_SCATTER, DSC_AXIS_DP, -1, whole, part, type);
    return part;
}

static dsc_span to_host(dsc_builder *b, int64_t index, dsc_span part, dsc_dtype type)
{
    const dsc_bucket *bucket = &b->buckets[index];
    dsc_span there;

    if (!is_in_host(bucket)) return part;
    if (is_sum(b, bucket)) there = sums_of(b, bucket);
    else there = dsc_span_whole(b, dsc_build_for_bucket(b, DSC_SPACE_HOST, "arrived gradients", DSC_CLASS_GRADIENTS,
                                                        index, part.bytes));
    dsc_build_transfer(b, DSC_OP_COPY_OUT, -1, -1, part, there, type);
    return there;
}

static void add_to_sum(dsc_builder *b, const dsc_arrival *arrival)
{
    const dsc_bucket *bucket = &b->buckets[arrival->bucket];
    const dsc_shape shape = {.kernel = DSC_K_CAST, .type = (int8_t)arrival->type,
                             .out = (int8_t)b->plan->gradient_type, .flags = b->pass.is_first_w ? 0 : DSC_ACCUMULATE,
                             .d = {arrival->span.bytes / dsc_dtype_bytes(arrival->type)}};

    dsc_build_op_in(b, bucket->space[DSC_KEPT_SUMS], DSC_OP_ACCUMULATE, -1);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){arrival->span, sums_of(b, bucket)});
    dsc_build_end(b);
}

/* Host memory's squares are counted bucket by bucket, beside the passes. */
static void count_in_host(dsc_builder *b, const dsc_bucket *bucket)
{
    int pair = DSC_SCALAR_HOST + (bucket->is_replicated ? DSC_SCALAR_REPLICATED_SQUARES - DSC_SCALAR_SQUARES : 0);
    const dsc_span sums = sums_of(b, bucket);
    const dsc_shape shape = {.kernel = DSC_K_SQUARE_SUM, .type = (int8_t)b->plan->gradient_type,
                             .out = (int8_t)b->plan->gradient_type, .flags = DSC_ACCUMULATE,
                             .d = {sums.bytes / dsc_dtype_bytes(b->plan->gradient_type)}};

    if (!is_in_host(bucket) || bucket->is_copy) return;
    dsc_build_op_in(b, DSC_SPACE_HOST, DSC_OP_GRAD_NORM, -1);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){sums, dsc_span_scalar(b, pair, 2)});
    dsc_build_end(b);
}

void dsc_build_arrived(dsc_builder *b)
{
    dsc_arrival arrival = b->arrival;

    b->arrival.bucket = -1;
    if (arrival.bucket < 0) return;
    add_to_sum(b, &arrival);
    if (b->pass.is_last) count_in_host(b, &b->buckets[arrival.bucket]);
}

/* What has arrived is added when the next bucket is on its way, so that no lane waits for what it just asked for. */
static void leave(dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    dsc_dtype type = bucket->is_streamed ? b->plan->stream_type : b->plan->gradient_type;
    dsc_span span;

    span = over_replicas(b, index, whole_of(b, index), type);
    if (bucket->is_tied) dsc_build_transfer(b, DSC_OP_ALL_REDUCE, DSC_AXIS_TIED, -1, DSC_NO_SPAN, span, type);
    span = to_host(b, index, span, type);
    dsc_build_arrived(b);
    if (!is_sum(b, bucket)) b->arrival = (dsc_arrival){index, span, type};
    else if (b->pass.is_last) count_in_host(b, bucket);
}

/* Under sequence parallelism the gradients of what is replicated are parts, and summed over tensor ranks first; those
 * of the embedding that two stages share are complete when both have come to their end. */
static bool waits_for_rest(const dsc_builder *b, const dsc_bucket *bucket)
{
    return bucket->is_tied || (bucket->is_replicated && b->is_sequence_cut);
}

void dsc_build_complete(dsc_builder *b, int64_t layer, dsc_role role)
{
    const dsc_shard *shard = dsc_build_shard(b, layer, role);
    const dsc_bucket *bucket = shard == NULL ? NULL : &b->buckets[shard->bucket];

    if (bucket == NULL || --b->states[shard->bucket].missing > 0 || waits_for_rest(b, bucket)) return;
    if (bucket->is_streamed || b->pass.is_last) leave(b, shard->bucket);
}

/* What tensor ranks sum stands behind all else, in one piece. */
static void sum_replicated(dsc_builder *b)
{
    dsc_span all = DSC_NO_SPAN;

    for (int64_t i = 0; i < b->bucket_count && b->is_sequence_cut; i++) {
        dsc_span whole;

        if (!b->buckets[i].is_replicated) continue;
        whole = whole_of(b, i);
        if (all.buffer < 0) all = whole;
        else all.bytes = whole.offset + whole.bytes - all.offset;
    }
    if (all.buffer >= 0)
        dsc_build_transfer(b, DSC_OP_ALL_REDUCE, DSC_AXIS_TP, -1, DSC_NO_SPAN, all, b->plan->gradient_type);
}

void dsc_build_rest(dsc_builder *b)
{
    dsc_build_template(b, "rest");
    b->pass = (dsc_backward){.is_last = true};
    sum_replicated(b);
    for (int64_t i = b->bucket_count - 1; i >= 0; i--)
        if (waits_for_rest(b, &b->buckets[i])) leave(b, i);
}
