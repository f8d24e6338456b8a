/* What ends a step's passes: the norm of the gradients that are on the device, and what all ranks agree on. */
#include "program/build.h"

static void square_sum(dsc_builder *b, dsc_span sums, int scalar)
{
    dsc_dtype type = b->plan->gradient_type;
    const dsc_shape shape = {.kernel = DSC_K_SQUARE_SUM, .type = (int8_t)type, .out = (int8_t)type,
                             .flags = DSC_ACCUMULATE, .d = {sums.bytes / dsc_dtype_bytes(type)}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){sums, dsc_span_scalar(b, scalar, 2)});
}

/* Every gradient once: not the last stage's copy of the embedding. */
static bool counts(const dsc_bucket *bucket, bool is_replicated)
{
    return bucket->space[DSC_KEPT_SUMS] == DSC_SPACE_DEVICE && bucket->is_replicated == is_replicated &&
           !bucket->is_copy;
}

/* Buckets whose sums stand one behind another are one call. */
static void count_on_device(dsc_builder *b, bool is_replicated, int scalar)
{
    dsc_span run = DSC_NO_SPAN;

    for (int64_t i = 0; i < b->bucket_count; i++) {
        dsc_span sums = dsc_span_own(b, dsc_program_kept(b->program, &b->buckets[i], DSC_KEPT_SUMS));

        if (!counts(&b->buckets[i], is_replicated)) continue;
        if (sums.parts == 0 && run.buffer == sums.buffer && run.offset + run.bytes == sums.offset) {
            run.bytes += sums.bytes;
            continue;
        }
        if (run.buffer >= 0) square_sum(b, run, scalar);
        run = sums;
    }
    if (run.buffer >= 0) square_sum(b, run, scalar);
}

static bool has_counted(const dsc_builder *b, bool is_replicated)
{
    for (int64_t i = 0; i < b->bucket_count; i++)
        if (counts(&b->buckets[i], is_replicated)) return true;
    return false;
}

void dsc_build_norm(dsc_builder *b)
{
    dsc_build_template(b, "norm");
    if (!has_counted(b, false) && !has_counted(b, true)) return;
    dsc_build_op(b, DSC_OP_GRAD_NORM, -1);
    count_on_device(b, false, DSC_SCALAR_SQUARES);
    count_on_device(b, true, DSC_SCALAR_REPLICATED_SQUARES);
    dsc_build_end(b);
}

static void variance_norm(dsc_builder *b, dsc_space space, int scalar)
{
    dsc_span all = dsc_span_whole(b, b->program->kept[DSC_KEPT_EXP_AVG_SQ][space]);
    int64_t elems = b->stage->kept_elems[DSC_KEPT_EXP_AVG_SQ][space];
    const dsc_shape shape = {.kernel = DSC_K_SQUARE_SUM, .flags = DSC_ACCUMULATE, .d = {elems}};

    if (elems == 0) return;
    dsc_build_op_in(b, space, DSC_OP_VARIANCE_NORM, -1);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){all, dsc_span_scalar(b, scalar, 2)});
    dsc_build_end(b);
}

void dsc_build_variance_norm(dsc_builder *b)
{
    dsc_build_template(b, "variance");
    if (!b->plan->compresses || b->plan->has_own_steps || b->plan->config.freeze_step != DSC_AUTO) return;
    variance_norm(b, DSC_SPACE_DEVICE, DSC_SCALAR_VARIANCE);
    variance_norm(b, DSC_SPACE_HOST, DSC_SCALAR_HOST_VARIANCE);
}

/* Ranks sum the scalars in place: of what a rank does not count itself it would bring the last sum along. */
void dsc_build_clear(dsc_builder *b)
{
    const dsc_shape shape = {.kernel = DSC_K_CLEAR, .type = DSC_FP64, .out = DSC_FP64, .d = {DSC_SCALAR_COUNT}};

    dsc_build_template(b, "clear");
    dsc_build_op(b, DSC_OP_CLEAR, -1);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){dsc_span_whole(b, b->program->scalars)});
    dsc_build_end(b);
}

/* A single rank has nobody to agree with. */
void dsc_build_agree(dsc_builder *b)
{
    dsc_build_template(b, "agree");
    if (b->plan->ranks > 1)
        dsc_build_transfer(b, DSC_OP_AGREE, DSC_AXIS_WORLD, -1, DSC_NO_SPAN, dsc_span_whole(b, b->program->scalars),
                           DSC_FP64);
}

/* Of one kind of scalar that the device's lane and the host's count apart: what tensor ranks hold alike the sum over
 * ranks has tp times. */
static double count_of(const double *scalars, int which, double tp)
{
    const double *host = scalars + DSC_SCALAR_HOST - DSC_SCALAR_SQUARES;
    const int replicated = which + DSC_SCALAR_REPLICATED_SQUARES - DSC_SCALAR_SQUARES;

    return scalars[which] + host[which] + (scalars[replicated] + host[replicated]) / tp;
}

/* The sum over ranks has the loss once for each tensor rank, and gradients that replicas hold alike once for each. */
dsc_counts dsc_counts_of(const dsc_plan *plan, int segment, const double scalars[DSC_SCALAR_COUNT])
{
    const double tp = (double)plan->config.strategy.tp, dp = (double)dsc_plan_degree(plan, DSC_AXIS_DP);
    const double copies = dsc_plan_scatters(plan) ? 1 : (double)plan->intra;
    const double own = copies / (double)plan->workers; /* a worker's square counts workers^2 / workers */
    const double alike = dsc_segment_is_local(segment) ? own : dp / (double)plan->parts;

    return (dsc_counts){.loss = scalars[DSC_SCALAR_LOSS] / tp,
                        .squares = count_of(scalars, DSC_SCALAR_SQUARES, tp) / alike,
                        .variance = scalars[DSC_SCALAR_VARIANCE] + scalars[DSC_SCALAR_HOST_VARIANCE],
                        .is_finite = count_of(scalars, DSC_SCALAR_NONFINITE, tp) == 0,
                        .is_stopping = scalars[DSC_SCALAR_STOP] > 0};
}
