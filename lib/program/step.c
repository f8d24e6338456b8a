/* What surrounds the passes of a step: buckets of gradients, their reduction, the norm, the agreement, the update. */
#include "program/build.h"
#include <stdlib.h>

/* ---- Buckets */

static bool are_alike(const dsc_shard *x, const dsc_shard *y)
{
    return x->chunk == y->chunk && x->is_replicated == y->is_replicated;
}

/* Whether a bucket that now begins at shard i takes the one before too: it is not full, and one that alone is over the
 * size does not hold back the smaller ones. */
static bool takes_more(const dsc_builder *b, int64_t i, int64_t elems)
{
    const dsc_shard *shards = b->stage->shards;
    int64_t most = b->plan->config.strategy.bucket_elems;

    return i > 0 && are_alike(&shards[i - 1], &shards[i]) && elems < most && shards[i - 1].elems < most;
}

/* Consecutive shards from the flat order's end, where backward begins, until a bucket is full; then in ascending order,
 * as the flat buffers are. */
dsc_status dsc_build_buckets(dsc_builder *b)
{
    const dsc_shard *shards = b->stage->shards;
    int64_t capacity = 0, end = b->stage->shard_count;

    b->bucket_of = malloc((size_t)(end + 1) * sizeof *b->bucket_of);
    if (b->bucket_of == NULL) return DSC_FAIL(DSC_ENOMEM, "program: buckets of %lld shards", (long long)end);
    for (int64_t i = end - 1; i >= 0; i--) {
        int64_t elems = shards[end - 1].first + shards[end - 1].elems - shards[i].first;
        dsc_bucket bucket = {.first = i, .end = end, .first_elem = shards[i].first, .elems = elems, .missing = end - i,
                             .is_replicated = shards[i].is_replicated};

        if (takes_more(b, i, elems)) continue;
        if (DSC_PUSH(b->buckets, b->bucket_count, capacity, bucket) != DSC_OK) return DSC_ENOMEM;
        end = i;
    }
    for (int64_t i = 0, j = b->bucket_count - 1; i < j; i++, j--) {
        dsc_bucket swap = b->buckets[i];

        b->buckets[i] = b->buckets[j];
        b->buckets[j] = swap;
    }
    for (int64_t i = 0; i < b->bucket_count; i++)
        for (int64_t s = b->buckets[i].first; s < b->buckets[i].end; s++) b->bucket_of[s] = i;
    return DSC_OK;
}

static dsc_span gradients_of(const dsc_builder *b, int64_t first, int64_t elems)
{
    return dsc_span_elems(b->program->gradients, b->gradient_type, first, elems);
}

static void reduce(dsc_builder *b, dsc_axis axis, dsc_span span)
{
    dsc_build_collective(b, DSC_OP_ALL_REDUCE, axis, -1, DSC_NO_SPAN, span, b->gradient_type);
}

/* Under sequence parallelism the gradients of what is replicated are parts, and summed over tensor ranks first. */
static bool waits_for_rest(const dsc_builder *b, const dsc_bucket *bucket)
{
    return bucket->is_replicated && b->is_sequence_cut;
}

void dsc_build_complete(dsc_builder *b, int64_t layer, dsc_role role)
{
    const dsc_shard *shard = dsc_build_shard(b, layer, role);
    dsc_bucket *bucket;

    if (!b->is_reducing || shard == NULL) return;
    bucket = &b->buckets[b->bucket_of[shard - b->stage->shards]];
    if (--bucket->missing > 0 || waits_for_rest(b, bucket)) return;
    reduce(b, DSC_AXIS_DP, gradients_of(b, bucket->first_elem, bucket->elems));
}

/* ---- After the passes */

/* The embedding that the first and the last stage share: NULL when this one does not. */
static const dsc_shard *tied_shard(const dsc_builder *b)
{
    int64_t pp = b->plan->config.strategy.pp, stage = b->program->stage;

    if (dsc_plan_degree(b->plan, DSC_AXIS_TIED) < 2 || (stage != 0 && stage != pp - 1)) return NULL;
    for (int64_t i = 0; i < b->stage->shard_count; i++)
        if (b->plan->tensors[b->stage->shards[i].tensor].role == DSC_ROLE_WTE) return &b->stage->shards[i];
    return NULL;
}

void dsc_build_rest(dsc_builder *b)
{
    const dsc_stage *stage = b->stage;
    const dsc_shard *tied = tied_shard(b);
    int64_t first = stage->replicated_first;

    dsc_build_template(b, "rest");
    if (b->is_sequence_cut && first < stage->flat_elems)
        reduce(b, DSC_AXIS_TP, gradients_of(b, first, stage->flat_elems - first));
    for (int64_t i = b->bucket_count - 1; i >= 0 && b->plan->config.strategy.dp > 1; i--)
        if (waits_for_rest(b, &b->buckets[i]))
            reduce(b, DSC_AXIS_DP, gradients_of(b, b->buckets[i].first_elem, b->buckets[i].elems));
    if (tied != NULL) reduce(b, DSC_AXIS_TIED, gradients_of(b, tied->first, tied->elems));
}

/* ---- Norm and agreement */

static void square_sum(dsc_builder *b, int64_t first, int64_t end, int scalar, int flags)
{
    dsc_shape shape = {.kernel = DSC_K_SQUARE_SUM, .type = (int8_t)b->gradient_type, .out = (int8_t)b->gradient_type,
                       .flags = flags, .d = {end - first}};

    if (end > first)
        dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){gradients_of(b, first, end - first),
                                                                        dsc_span_scalar(b, scalar, 2)});
}

static void clear(dsc_builder *b, int scalar, int count)
{
    dsc_shape shape = {.kernel = DSC_K_CLEAR, .d = {count}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){dsc_span_scalar(b, scalar, count)});
}

/* Every gradient once: not the last stage's copy of the embedding. */
void dsc_build_norm(dsc_builder *b)
{
    const dsc_stage *stage = b->stage;
    const dsc_shard *tied = tied_shard(b), *copy = tied != NULL && tied->is_copy ? tied : NULL;
    int64_t end = stage->replicated_first, split = copy == NULL ? end : copy->first;
    int64_t after = copy == NULL ? end : DSC_MIN(end, copy->first + copy->elems);

    dsc_build_template(b, "norm");
    dsc_build_op(b, DSC_OP_GRAD_NORM, -1);
    square_sum(b, 0, split, DSC_SCALAR_SQUARES, 0);
    square_sum(b, after, end, DSC_SCALAR_SQUARES, split > 0 ? DSC_ACCUMULATE : 0);
    if (split == 0 && after == end) clear(b, DSC_SCALAR_SQUARES, 2);
    square_sum(b, end, stage->flat_elems, DSC_SCALAR_REPLICATED_SQUARES, 0);
    if (end == stage->flat_elems) clear(b, DSC_SCALAR_REPLICATED_SQUARES, 2);
    dsc_build_end(b);
}

void dsc_build_clear_loss(dsc_builder *b)
{
    dsc_build_template(b, "clear");
    dsc_build_op(b, DSC_OP_CLEAR_LOSS, -1);
    clear(b, DSC_SCALAR_LOSS, 1);
    dsc_build_end(b);
}

/* A single rank has nobody to agree with. */
void dsc_build_agree(dsc_builder *b)
{
    dsc_build_template(b, "agree");
    if (b->plan->ranks > 1)
        dsc_build_collective(b, DSC_OP_AGREE, DSC_AXIS_WORLD, -1, DSC_NO_SPAN, dsc_span_whole(b, b->program->scalars),
                             DSC_FP64);
}

void dsc_build_update(dsc_builder *b)
{
    const dsc_program *program = b->program;

    dsc_build_template(b, "update");
    for (int64_t i = b->bucket_count - 1; i >= 0; i--) {
        const dsc_bucket *bucket = &b->buckets[i];
        int64_t first = bucket->first_elem, elems = bucket->elems;
        dsc_shape shape = {.kernel = DSC_K_ADAM, .type = (int8_t)b->type, .out = (int8_t)b->gradient_type,
                           .flags = b->plan->config.strategy.l2_decay ? 0 : DSC_DECOUPLED, .d = {elems}};

        dsc_build_op(b, DSC_OP_UPDATE, -1);
        dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
            dsc_span_elems(program->gradients, b->gradient_type, first, elems),
            dsc_span_elems(program->master, DSC_FP32, first, elems),
            dsc_span_elems(program->exp_avg, DSC_FP32, first, elems),
            dsc_span_elems(program->exp_avg_sq, DSC_FP32, first, elems),
            dsc_span_elems(program->parameters, b->type, first, elems)});
        dsc_build_end(b);
    }
}
