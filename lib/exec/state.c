/* Weights and optimizer states: their first values, and the way in and out for checkpoints. */
#include "exec/internal.h"
#include "kernel/units.h"
#include <stdlib.h>
#include <string.h>

void dsc_run_state_get(const dsc_run *run, dsc_run_state *out)
{
    *out = (dsc_run_state){.optimizer_step = run->optimizer_step,
                           .samples_seen = run->samples_seen,
                           .scaler_iteration = run->scaler.iteration,
                           .scaler_last_overflow = run->scaler.last_overflow,
                           .scaler_hysteresis = run->scaler.hysteresis,
                           .loss_scale = run->scaler.scale,
                           .frozen_updates = run->frozen_updates,
                           .frozen_at = dsc_freezer_found(&run->freezer, run->optimizer_step),
                           .variance_norm = run->freezer.norm};
    if (!run->o.plan->has_own_steps) return;
    out->variance_interval = run->intervals.variance;
    out->variance_updates = run->intervals.variances;
    out->sync_interval = run->intervals.sync;
    out->own_steps = run->intervals.steps;
}

void dsc_run_state_set(dsc_run *run, const dsc_run_state *state)
{
    run->optimizer_step = state->optimizer_step;
    run->samples_seen = state->samples_seen;
    run->scaler.iteration = state->scaler_iteration;
    run->scaler.last_overflow = state->scaler_last_overflow;
    run->scaler.hysteresis = state->scaler_hysteresis;
    run->scaler.scale = state->loss_scale;
    run->frozen_updates = state->frozen_updates;
    dsc_freezer_resume(&run->freezer, state->frozen_at, state->variance_norm);
    dsc_intervals_resume(&run->intervals, state->variance_interval, state->variance_updates, state->sync_interval,
                         state->own_steps);
}

bool dsc_run_is_frozen(const dsc_run *run) { return dsc_freezer_is_frozen(&run->freezer, run->optimizer_step); }

/* ---- Pieces: what of the stage's tensors this rank updates */

/* Whoever looks at states, and whether to change them. */
typedef struct visitor { bool writes; dsc_piece_visit *visit; void *context; } visitor;

static dsc_span part_of(const dsc_run *run, int which, const dsc_bucket *bucket)
{
    static const dsc_kept kept[DSC_RUN_STATES] = {DSC_KEPT_MASTER, DSC_KEPT_EXP_AVG, DSC_KEPT_EXP_AVG_SQ,
                                                  DSC_KEPT_WORKER_ERROR, DSC_KEPT_SERVER_ERROR, DSC_KEPT_FRESH,
                                                  DSC_KEPT_TRUST};

    return dsc_program_kept(run->o.program, bucket, kept[which]);
}

/* A vector is one row. */
static int64_t columns_of(const dsc_plan *plan, const dsc_shard *shard)
{
    return plan->tensors[shard->tensor].dims < 2 ? shard->elems : shard->shape[1];
}

/* Stretch `index` of what this rank keeps of a shard's errors, and where; padding, which has none, is left out. */
static bool error_stretch(const dsc_run *run, int which, const dsc_shard *shard, int64_t index, dsc_overlap *out)
{
    const dsc_plan *plan = run->o.plan;
    const dsc_stage *stage = &plan->stages[run->o.program->stage];
    const int64_t n = plan->workers, part = run->dp_index % plan->intra, server = run->dp_index / plan->intra;
    int64_t in_shard, chunk, first;
    dsc_unit unit;

    if (!dsc_shard_unit(plan, stage, shard, part, run->tp_index, index, &unit, &in_shard)) return false;
    chunk = unit.padded / n;
    first = server * chunk;
    *out = which == DSC_RUN_WORKER_ERROR
               ? (dsc_overlap){unit.real, in_shard, unit.place}
               : (dsc_overlap){DSC_MAX(0, DSC_MIN(chunk, unit.real - first)), in_shard + first, unit.place / n};
    return true;
}

/* Stretch `index` of what this rank keeps of a shard's state: its part, at once, but errors unit by unit. */
static bool stretch_of(const dsc_run *run, int which, const dsc_shard *shard, int64_t index, dsc_overlap *out)
{
    const dsc_plan *plan = run->o.plan;
    const dsc_bucket *bucket = &plan->stages[run->o.program->stage].buckets[shard->bucket];

    if (which == DSC_RUN_WORKER_ERROR || which == DSC_RUN_SERVER_ERROR)
        return error_stretch(run, which, shard, index, out);
    *out = dsc_part_overlap(bucket, plan->parts, dsc_plan_part(plan, run->rank), shard);
    return index == 0;
}

/* The rectangles of the tensor that the stretch fills. */
static dsc_status visit_stretch(const dsc_run *run, int which, const dsc_shard *shard, const dsc_overlap *stretch,
                                float *values, const visitor *v)
{
    const dsc_plan *plan = run->o.plan;
    const int64_t columns = columns_of(plan, shard);
    dsc_block block, runs[DSC_RUN_BLOCKS];
    dsc_status status = DSC_OK;

    for (int64_t b = 0; stretch->elems > 0 && dsc_shard_block(plan, shard, run->tp_index, b, &block); b++) {
        int pieces = dsc_block_run(&block, columns, stretch->in_shard, stretch->elems, runs);

        for (int i = 0; i < pieces; i++) {
            int64_t at = stretch->in_part + runs[i].shard_row * columns + runs[i].shard_column - stretch->in_shard;
            dsc_piece piece = {which, shard->tensor, runs[i], values + at, columns};

            DSC_TRY(v->visit(v->context, &piece));
        }
    }
out:
    return status;
}

/* Values that may be a device's, as the host can touch them: *out is them, or a copy, which give_back takes back. */
static dsc_status borrow(dsc_run *run, dsc_span span, int64_t first, int64_t elems, float **out)
{
    float *values = (float *)exec_address(run, span, NULL) + first, *copy = NULL;
    const int64_t bytes = elems * (int64_t)sizeof *copy;
    dsc_status status = DSC_OK;

    if (!exec_is_away(run, span)) {
        *out = values;
        return DSC_OK;
    }
    if ((copy = malloc((size_t)bytes + 1)) == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "executor: %lld bytes of a tensor's state", (long long)bytes));
    DSC_TRY(run->o.device->calls->copy(run->o.device, NULL, copy, values, bytes));
    *out = copy;
    copy = NULL;
out:
    free(copy);
    return status;
}

static dsc_status give_back(dsc_run *run, dsc_span span, int64_t first, int64_t elems, bool is_changed, float *borrowed)
{
    float *values = (float *)exec_address(run, span, NULL) + first;
    dsc_status status = DSC_OK;

    if (borrowed == values) return DSC_OK;
    if (is_changed)
        status = run->o.device->calls->copy(run->o.device, NULL, values, borrowed, elems * (int64_t)sizeof *values);
    free(borrowed);
    return status;
}

static dsc_status each_piece_of(dsc_run *run, int which, const dsc_shard *shard, const visitor *v)
{
    const dsc_bucket *bucket = &run->o.plan->stages[run->o.program->stage].buckets[shard->bucket];
    const dsc_span span = part_of(run, which, bucket);
    dsc_overlap stretch;
    dsc_status status = DSC_OK;

    for (int64_t i = 0; stretch_of(run, which, shard, i, &stretch); i++) {
        const int64_t first = stretch.in_part;
        dsc_status returned;
        float *values;

        DSC_TRY(borrow(run, span, first, stretch.elems, &values));
        stretch.in_part = 0;
        status = visit_stretch(run, which, shard, &stretch, values, v);
        returned = give_back(run, span, first, stretch.elems, v->writes && status == DSC_OK, values);
        if (status == DSC_OK) status = returned;
        if (status != DSC_OK) break;
    }
out:
    return status;
}

/* Of the tensor itself. */
static dsc_status visit_trust(dsc_run *run, const dsc_shard *shard, const visitor *v)
{
    const dsc_stage *stage = &run->o.plan->stages[run->o.program->stage];
    const dsc_bucket *bucket = &stage->buckets[shard->bucket];
    const int64_t place = shard - &stage->shards[bucket->first], values = 2;
    const dsc_span span = part_of(run, DSC_RUN_TRUST, bucket);
    dsc_piece piece = {DSC_RUN_TRUST, shard->tensor, {.rows = 1, .columns = values}, NULL, values};
    dsc_status status = DSC_OK, returned;

    DSC_TRY(borrow(run, span, place * values, values, &piece.values));
    status = v->visit(v->context, &piece);
    returned = give_back(run, span, place * values, values, v->writes && status == DSC_OK, piece.values);
    if (status == DSC_OK) status = returned;
out:
    return status;
}

static bool has_state(const dsc_plan *plan, int which)
{
    if (which == DSC_RUN_WORKER_ERROR || which == DSC_RUN_SERVER_ERROR) return plan->workers > 1;
    return which < DSC_RUN_WORKER_ERROR || (which == DSC_RUN_FRESH && plan->has_trust);
}

dsc_status dsc_run_each_piece(dsc_run *run, const dsc_shard *shard, bool writes, dsc_piece_visit *visit, void *context)
{
    const visitor v = {writes, visit, context};
    dsc_status status = DSC_OK;

    for (int which = 0; which < DSC_RUN_TRUST; which++)
        if (has_state(run->o.plan, which)) DSC_TRY(each_piece_of(run, which, shard, &v));
    if (run->o.plan->has_trust) DSC_TRY(visit_trust(run, shard, &v));
out:
    return status;
}

/* Element numbers are those of the whole tensor, so that no layout changes a weight. Moments, and padding, are zero
 * since the arena was mapped. */
static dsc_status init_piece(void *context, const dsc_piece *piece)
{
    const dsc_run *run = context;
    const dsc_tensor *tensor = &run->o.plan->tensors[piece->tensor];
    int64_t columns = tensor->dims < 2 ? tensor->shape[0] : tensor->shape[1];

    for (int64_t i = 0; i < piece->block.rows && piece->which == 0; i++)
        dsc_tensor_init(tensor, run->o.plan->config.seed, (piece->block.row + i) * columns + piece->block.column,
                        piece->block.columns, piece->values + i * piece->stride);
    return DSC_OK;
}

dsc_status dsc_run_init_weights(dsc_run *run)
{
    const dsc_stage *stage = &run->o.plan->stages[run->o.program->stage];
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < stage->shard_count; i++)
        DSC_TRY(dsc_run_each_piece(run, &stage->shards[i], true, init_piece, run));
out:
    return status;
}

dsc_status dsc_run_spread(dsc_run *run)
{
    run->is_traced = false;
    return exec_run_segment(run, DSC_SEGMENT_SPREAD);
}

/* Zero as it is; divided among threads as kernels divide it. */
static void touch(char *base, int64_t bytes)
{
    enum { PAGE = 4096 };

#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < bytes; at += PAGE) ((volatile char *)base)[at] = 0;
}

void exec_touch_host(dsc_run *run)
{
    const dsc_program *program = run->o.program;
    const dsc_stage *stage = &run->o.plan->stages[program->stage];

    for (int64_t i = 0; i < stage->bucket_count * DSC_KEPT_COUNT; i++) {
        const dsc_bucket *bucket = &stage->buckets[i / DSC_KEPT_COUNT];
        int kept = (int)(i % DSC_KEPT_COUNT);
        dsc_span span;

        if (bucket->home[kept] < 0 || bucket->space[kept] != DSC_SPACE_HOST) continue;
        span = dsc_program_kept(program, bucket, kept);
        touch(exec_address(run, span, NULL), span.bytes);
    }
}
