/* 0/1 Adam's steps (Lu et al. 2022, algorithm 1, as DeepSpeed has it). As long as the variance moves, replicas share
 * their gradients in steps that leave it as it is; when it is frozen, each steps by its own gradients, and now and then
 * all meet: the sum of rate times momentum since they last did, of which the mean is compressed, brings them to one
 * place, and is a momentum for all.
 *
 * They go on from an anchor, the weights at which they last met, and not from their own weights less their own steps,
 * which in floating point is another place for each: so replicas' weights are the same bits whenever they are read. */
#include "program/build.h"

/* ---- Gradients */

static void make_gradient(dsc_builder *b, int64_t index, dsc_span x)
{
    dsc_build_momentum(b, index, DSC_KEPT_SUMS, x, DSC_FIRST);
}

static void use_gradient(dsc_builder *b, int64_t index, dsc_span weights)
{
    dsc_build_momentum(b, index, DSC_KEPT_ANCHOR, dsc_kept_of(b, index, DSC_KEPT_EXP_AVG), DSC_SCALED);
    dsc_build_adam(b, index, weights, DSC_FROZEN);
}

void dsc_build_share(dsc_builder *b)
{
    const dsc_sharing gradients = {"share", DSC_KEPT_ANCHOR, make_gradient, NULL, NULL, use_gradient};

    dsc_build_sharing(b, &gradients);
}

/* ---- Own steps */

static void anchor(dsc_builder *b, int64_t index)
{
    const dsc_shape shape = {.kernel = DSC_K_CAST, .d = {b->buckets[index].elems}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){dsc_kept_of(b, index, DSC_KEPT_MASTER),
                                                                    dsc_kept_of(b, index, DSC_KEPT_ANCHOR)});
}

void dsc_build_anchor_bucket(dsc_builder *b, int64_t index)
{
    dsc_build_op_in(b, b->buckets[index].space[DSC_KEPT_MASTER], DSC_OP_ANCHOR, -1);
    anchor(b, index);
    dsc_build_end(b);
}

/* What was left out of gradients is no part of momenta. */
static void clear(dsc_builder *b, int64_t index, dsc_kept which)
{
    const dsc_span span = dsc_kept_of(b, index, which);
    const dsc_shape shape = {.kernel = DSC_K_CLEAR, .d = {span.bytes / dsc_dtype_bytes(DSC_FP32)}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){span});
}

void dsc_build_anchor(dsc_builder *b)
{
    dsc_build_template(b, "anchor");
    for (int64_t i = b->bucket_count - 1; i >= 0; i--) {
        dsc_build_op_in(b, b->buckets[i].space[DSC_KEPT_MASTER], DSC_OP_ANCHOR, -1);
        anchor(b, i);
        if (b->plan->workers > 1) clear(b, i, DSC_KEPT_WORKER_ERROR);
        if (b->plan->workers > 1) clear(b, i, DSC_KEPT_SERVER_ERROR);
        dsc_build_end(b);
    }
}

void dsc_build_step(dsc_builder *b) { dsc_build_alone(b, &DSC_SHARING_MOMENTA, "step"); }

static void make_drift(dsc_builder *b, int64_t index, dsc_span x)
{
    const dsc_shape shape = {.kernel = DSC_K_DRIFT, .d = {b->buckets[index].elems}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
        dsc_kept_of(b, index, DSC_KEPT_MASTER), dsc_kept_of(b, index, DSC_KEPT_ANCHOR),
        dsc_kept_of(b, index, DSC_KEPT_EXP_AVG_SQ), x});
}

static void use_drift(dsc_builder *b, int64_t index, dsc_span weights)
{
    const dsc_shape shape = {.kernel = DSC_K_REJOIN, .type = (int8_t)b->type, .out = (int8_t)b->type,
                             .d = {b->buckets[index].elems}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
        dsc_kept_of(b, index, DSC_KEPT_EXP_AVG), dsc_kept_of(b, index, DSC_KEPT_EXP_AVG_SQ),
        dsc_kept_of(b, index, DSC_KEPT_ANCHOR), dsc_kept_of(b, index, DSC_KEPT_MASTER), weights});
}

void dsc_build_sync(dsc_builder *b)
{
    const dsc_sharing drifts = {"sync", DSC_KEPT_EXP_AVG, make_drift, NULL, NULL, use_drift};

    dsc_build_sharing(b, &drifts);
}
