/* The optimizer on the parts of a rank, and the way of new weights from there to where passes look for them. */
#include "program/build.h"

/* Where a part of new weights in the training type is made: in the parameters themselves, where the rank keeps no more
 * of them than its part and in the same space, or where they wait there until they are gathered; in host memory's copy;
 * else for a moment. In fp32 it is the master. */
dsc_span dsc_build_new_weights(dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const dsc_span parameters = dsc_program_kept(b->program, bucket, DSC_KEPT_PARAMETERS);
    bool is_own = b->plan->parts == 1 || bucket->is_gathered;

    if (b->type == DSC_FP32) return dsc_program_kept(b->program, bucket, DSC_KEPT_MASTER);
    if (bucket->home[DSC_KEPT_COPY] >= 0) return dsc_program_kept(b->program, bucket, DSC_KEPT_COPY);
    if (is_own) return parameters;
    if (b->plan->config.strategy.late_gather) return dsc_span_part(b->plan, parameters);
    return dsc_build_part(b, DSC_SPACE_DEVICE, "new weights", DSC_CLASS_PARAMETERS, index, b->type);
}

void dsc_build_adam(dsc_builder *b, int64_t index, dsc_span weights, int flags)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const dsc_program *program = b->program;
    const int32_t wide = b->states[index].wide;
    const dsc_dtype type = wide >= 0 ? DSC_FP32 : b->plan->gradient_type;
    const dsc_shape shape = {.kernel = DSC_K_ADAM, .type = (int8_t)b->type, .out = (int8_t)type,
                             .flags = flags | (b->plan->config.strategy.l2_decay ? 0 : DSC_DECOUPLED),
                             .d = {dsc_plan_part_elems(b->plan, bucket)}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
        wide >= 0 ? dsc_span_whole(b, wide) : dsc_program_kept(program, bucket, DSC_KEPT_SUMS),
        dsc_program_kept(program, bucket, DSC_KEPT_MASTER), dsc_program_kept(program, bucket, DSC_KEPT_EXP_AVG),
        dsc_program_kept(program, bucket, DSC_KEPT_EXP_AVG_SQ), weights});
}

/* As optimizers of mixed precision do that know fp32 alone; what the host updates is widened as it is read. */
static void widen(dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const dsc_span sums = dsc_program_kept(b->program, bucket, DSC_KEPT_SUMS);
    const dsc_shape shape = {.kernel = DSC_K_CAST, .type = (int8_t)b->plan->gradient_type, .out = DSC_FP32,
                             .d = {dsc_plan_part_elems(b->plan, bucket)}};
    dsc_span wide;

    if (b->plan->gradient_type == DSC_FP32 || dsc_space_of(bucket) == DSC_SPACE_HOST) return;
    wide = dsc_build_part(b, DSC_SPACE_DEVICE, "fp32 gradients", DSC_CLASS_GRADIENTS, index, DSC_FP32);
    b->states[index].wide = wide.buffer;
    dsc_build_op(b, DSC_OP_WIDEN, -1);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){sums, wide});
    dsc_build_end(b);
}

static void update(dsc_builder *b, int64_t index, dsc_span weights)
{
    dsc_build_op_in(b, dsc_space_of(&b->buckets[index]), DSC_OP_UPDATE, -1);
    dsc_build_adam(b, index, weights, 0);
    dsc_build_end(b);
}

static void round_weights(dsc_builder *b, int64_t index, dsc_span weights)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const dsc_shape shape = {.kernel = DSC_K_CAST, .type = DSC_FP32, .out = (int8_t)b->type,
                             .d = {dsc_plan_part_elems(b->plan, bucket)}};

    if (b->type == DSC_FP32) return;
    dsc_build_op_in(b, dsc_space_of(bucket), DSC_OP_ROUND, -1);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
        dsc_program_kept(b->program, bucket, DSC_KEPT_MASTER), weights});
    dsc_build_end(b);
}

/* Into the device's memory, and to the replicas that pass over them whole. */
void dsc_build_spread_bucket(dsc_builder *b, int64_t index, dsc_span weights)
{
    const dsc_bucket *bucket = &b->buckets[index];
    dsc_span parameters = dsc_program_kept(b->program, bucket, DSC_KEPT_PARAMETERS);
    bool is_gathered_here = b->plan->parts > 1 && !bucket->is_gathered;
    bool is_away = bucket->space[DSC_KEPT_MASTER] != bucket->space[DSC_KEPT_PARAMETERS];

    if (is_away) {
        dsc_span here = parameters;

        if (is_gathered_here)
            here = dsc_build_part(b, DSC_SPACE_DEVICE, "part of weights", DSC_CLASS_PARAMETERS, index, b->type);
        dsc_build_transfer(b, DSC_OP_COPY_IN, -1, -1, weights, here, b->type);
        weights = here;
    }
    if (is_gathered_here) dsc_build_transfer(b, DSC_OP_ALL_GATHER, DSC_AXIS_DP, -1, weights, parameters, b->type);
}

/* Buckets in the order in which backward completes them: where updates overlap the next step's passes, each is over
 * before that step's gradients come. */
typedef enum what { UPDATES = 1, ROUNDS = 2, SPREADS = 4 } what;

static void build(dsc_builder *b, const char *name, int steps)
{
    const bool widens = steps & UPDATES && b->plan->config.strategy.widens_gradients;

    dsc_build_template(b, name);
    for (int64_t i = 0; i < b->bucket_count && widens; i++) widen(b, i);
    for (int64_t i = b->bucket_count - 1; i >= 0; i--) {
        dsc_span weights = dsc_build_new_weights(b, i);

        if (steps & UPDATES) update(b, i, weights);
        if (steps & ROUNDS) round_weights(b, i, weights);
        if (steps & ROUNDS && b->plan->has_own_steps) dsc_build_anchor_bucket(b, i);
        if (steps & SPREADS) dsc_build_spread_bucket(b, i, weights);
    }
}

void dsc_build_update(dsc_builder *b)
{
    build(b, "update", b->plan->config.strategy.late_gather ? UPDATES : UPDATES | SPREADS);
}

void dsc_build_update_alone(dsc_builder *b) { build(b, "update before", UPDATES); }
void dsc_build_spread_alone(dsc_builder *b) { build(b, "spread after", SPREADS); }
void dsc_build_spread(dsc_builder *b) { build(b, "spread", ROUNDS | SPREADS); }
