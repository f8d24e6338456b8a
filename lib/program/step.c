/* What surrounds the passes of a step: buckets of gradients, their reduction, the norm, the agreement, the update. */
#include "program/build.h"
#include <stdlib.h>

/* Consecutive shards from the flat order's end, where backward begins, until a bucket is full. */
dsc_status dsc_build_buckets(dsc_builder *b)
{
    const dsc_stage *stage = b->stage;
    int64_t capacity = 0, end = stage->shard_count;

    for (int64_t i = stage->shard_count - 1; i >= 0; i--) {
        const dsc_shard *first = &stage->shards[i], *last = &stage->shards[end - 1];
        int64_t elems = last->first + last->elems - first->first;
        /* A tensor that alone is over the size does not hold back the smaller ones after it. */
        bool next_is_large = i > 0 && stage->shards[i - 1].elems >= b->plan->config.strategy.bucket_elems;

        if (i > 0 && elems < b->plan->config.strategy.bucket_elems && !next_is_large) continue;
        dsc_bucket bucket = {.first = i, .first_elem = first->first, .elems = elems};
        if (DSC_PUSH(b->buckets, b->bucket_count, capacity, bucket) != DSC_OK) return DSC_ENOMEM;
        end = i;
    }
    /* Ascending, as the flat buffers are. */
    for (int64_t i = 0, j = b->bucket_count - 1; i < j; i++, j--) {
        dsc_bucket swap = b->buckets[i];

        b->buckets[i] = b->buckets[j];
        b->buckets[j] = swap;
    }
    return DSC_OK;
}

void dsc_build_reduce(dsc_builder *b, int64_t complete)
{
    for (; b->next_bucket >= 0 && b->buckets[b->next_bucket].first >= complete; b->next_bucket--) {
        const dsc_bucket *bucket = &b->buckets[b->next_bucket];

        dsc_build_collective(b, DSC_OP_ALL_REDUCE, DSC_AXIS_DP,
                             dsc_span_elems(b->program->gradients, b->gradient_type, bucket->first_elem, bucket->elems),
                             b->gradient_type);
    }
}

void dsc_build_norm(dsc_builder *b)
{
    dsc_shape shape = {.kernel = DSC_K_SQUARE_SUM, .type = (int8_t)b->gradient_type, .out = (int8_t)b->gradient_type,
                       .d = {b->stage->flat_elems}};

    dsc_build_template(b, "norm");
    dsc_build_op(b, DSC_OP_GRAD_NORM, -1);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){dsc_span_whole(b, b->program->gradients),
                                                                    dsc_span_scalar(b, DSC_SCALAR_SQUARES, 2)});
    dsc_build_end(b);
}

/* A single rank has nobody to agree with. */
void dsc_build_agree(dsc_builder *b)
{
    dsc_build_template(b, "agree");
    if (b->plan->ranks > 1)
        dsc_build_collective(b, DSC_OP_AGREE, DSC_AXIS_WORLD, dsc_span_whole(b, b->program->scalars), DSC_FP64);
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
