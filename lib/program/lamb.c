/* LAMB's steps (You et al. 2020; compressed: Li et al. 2021, algorithm 1). A tensor goes by the ratio of its norm to
 * its update's: so an op makes moments and norms of a bucket, tensor ranks that have cut it gather each other's, and an
 * op that updates makes ratios of all of them. In a compressed step a ratio is the mean of those of exact steps times
 * what a variance that goes on tells of the frozen one.
 *
 * That variance moves by the gradient that made the momentum which replicas have agreed on, for which it takes the last
 * such momentum too. So exp_avg stays that until the next is there: a replica's own momentum, and the one that is
 * expanded, are in buffers that live as long as their op. (What the own gradient made of exp_avg could be taken out
 * again, but to another rounding on each replica, and replicas would part.) */
#include "kernel/held.h"
#include "program/build.h"

static int64_t tensors_of(const dsc_bucket *bucket) { return bucket->end - bucket->first; }

/* ---- Lists of tensors */

static int64_t list_bytes(const dsc_bucket *bucket) { return tensors_of(bucket) * (int64_t)sizeof(dsc_held); }

/* Where the lists of all buckets up to one, in its space, end before it; of all of them for bucket == bucket_count. */
static int64_t lists_before(const dsc_stage *stage, int space, int64_t bucket)
{
    int64_t bytes = 0;

    for (int64_t i = 0; i < bucket; i++)
        if ((int)dsc_space_of(&stage->buckets[i]) == space) bytes += list_bytes(&stage->buckets[i]);
    return bytes;
}

void dsc_build_held(dsc_builder *b)
{
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        const int64_t bytes = lists_before(b->stage, space, b->bucket_count);

        b->program->held[space] = -1;
        if (bytes > 0 && b->plan->has_trust)
            b->program->held[space] = dsc_build_static(b, space, "tensors", DSC_CLASS_BUFFERS, bytes);
    }
}

void dsc_program_fill_held(const dsc_program *program, int space, int64_t tp_index, void *out)
{
    const dsc_stage *stage = &program->plan->stages[program->stage];

    for (int64_t i = 0; i < stage->bucket_count; i++)
        if ((int)dsc_space_of(&stage->buckets[i]) == space)
            dsc_bucket_held(program->plan, stage, &stage->buckets[i], tp_index,
                            (dsc_held *)((char *)out + lists_before(stage, space, i)));
}

static dsc_span held_of(const dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];

    return (dsc_span){b->program->held[dsc_space_of(bucket)], lists_before(b->stage, dsc_space_of(bucket), index),
                      list_bytes(bucket), 0};
}

/* ---- A bucket's step */

static dsc_span buffer_of(dsc_builder *b, int64_t index, const char *name, int64_t bytes)
{
    return dsc_span_whole(b, dsc_build_for_bucket(b, dsc_space_of(&b->buckets[index]), name, DSC_CLASS_BUFFERS, index,
                                                  bytes));
}

static int64_t ranks_of(const dsc_builder *b, int64_t index) { return b->buckets[index].is_replicated ? 1 : b->tp; }

/* By a gradient, or, frozen, by the momentum that replicas have agreed on. */
static void norms(dsc_builder *b, int64_t index, dsc_span from, dsc_dtype type, int flags)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const dsc_shape shape = {.kernel = DSC_K_LAMB_NORMS, .type = (int8_t)type, .out = (int8_t)type, .flags = flags,
                             .d = {bucket->elems, tensors_of(bucket)}};
    dsc_span sums = buffer_of(b, index, "norms", dsc_operand_bytes(&shape, 6));

    b->states[index].norms = sums.buffer;
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
        from, dsc_kept_of(b, index, DSC_KEPT_MASTER), dsc_kept_of(b, index, DSC_KEPT_EXP_AVG),
        dsc_kept_of(b, index, DSC_KEPT_EXP_AVG_SQ), dsc_kept_of(b, index, DSC_KEPT_FRESH), held_of(b, index), sums});
}

static void gather(dsc_builder *b, int64_t index)
{
    dsc_span own = dsc_span_whole(b, b->states[index].norms), all;

    if (ranks_of(b, index) == 1) return;
    all = buffer_of(b, index, "norms of all ranks", ranks_of(b, index) * own.bytes);
    dsc_build_transfer(b, DSC_OP_ALL_GATHER, DSC_AXIS_TP, -1, own, all, DSC_FP64);
    b->states[index].norms = all.buffer;
}

static void step(dsc_builder *b, int64_t index, dsc_span weights, int flags)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const dsc_shape trust = {.kernel = DSC_K_LAMB_TRUST, .flags = flags,
                             .d = {tensors_of(bucket), ranks_of(b, index)}};
    const dsc_shape update = {.kernel = DSC_K_LAMB_STEP, .type = (int8_t)b->type, .out = (int8_t)b->type,
                              .d = {bucket->elems, tensors_of(bucket)}};
    dsc_span ratios = buffer_of(b, index, "trust ratios", dsc_operand_bytes(&trust, 2));

    dsc_build_call(b, &trust, (const dsc_span[DSC_KERNEL_OPERANDS]){
        dsc_span_whole(b, b->states[index].norms), dsc_kept_of(b, index, DSC_KEPT_TRUST), ratios});
    dsc_build_call(b, &update, (const dsc_span[DSC_KERNEL_OPERANDS]){
        dsc_kept_of(b, index, DSC_KEPT_EXP_AVG), dsc_kept_of(b, index, DSC_KEPT_EXP_AVG_SQ), held_of(b, index), ratios,
        dsc_kept_of(b, index, DSC_KEPT_MASTER), weights});
}

/* ---- Exact steps: a bucket's norms are gathered while those of the next are made */

static void weigh(dsc_builder *b, int64_t index)
{
    dsc_build_op_in(b, dsc_space_of(&b->buckets[index]), DSC_OP_WEIGH, -1);
    norms(b, index, dsc_kept_of(b, index, DSC_KEPT_SUMS), b->plan->gradient_type, 0);
    dsc_build_end(b);
    gather(b, index);
}

static void update(dsc_builder *b, int64_t index)
{
    dsc_span weights = dsc_build_new_weights(b, index);

    dsc_build_op_in(b, dsc_space_of(&b->buckets[index]), DSC_OP_UPDATE, -1);
    step(b, index, weights, 0);
    dsc_build_end(b);
    dsc_build_spread_bucket(b, index, weights);
}

void dsc_build_lamb(dsc_builder *b)
{
    const int64_t last = b->bucket_count - 1;

    dsc_build_template(b, "update");
    for (int64_t i = last; i >= -1; i--) {
        if (i >= 0) weigh(b, i);
        if (i + 1 <= last) update(b, i + 1);
    }
}

/* ---- Compressed steps */

static void make_momentum(dsc_builder *b, int64_t index, dsc_span x)
{
    const dsc_shape copy = {.kernel = DSC_K_CAST, .d = {x.bytes / dsc_dtype_bytes(DSC_FP32)}};

    dsc_build_call(b, &copy, (const dsc_span[DSC_KERNEL_OPERANDS]){
        dsc_span_own(b, dsc_kept_of(b, index, DSC_KEPT_EXP_AVG)), x});
    dsc_build_momentum(b, index, DSC_KEPT_SUMS, x, 0);
}

static void weigh_momentum(dsc_builder *b, int64_t index, dsc_span x)
{
    norms(b, index, x, DSC_FP32, DSC_FROZEN);
}

static void use_momentum(dsc_builder *b, int64_t index, dsc_span weights) { step(b, index, weights, DSC_FROZEN); }

const dsc_sharing DSC_SHARING_BY_TRUST = {"exchange", DSC_KEPT_COUNT, make_momentum, weigh_momentum, gather,
                                          use_momentum};
