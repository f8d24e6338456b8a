/* Weights and optimizer states: their first values, and the way in and out for checkpoints. */
#include "exec/internal.h"
#include <string.h>

void dsc_run_state_get(const dsc_run *run, dsc_run_state *out)
{
    *out = (dsc_run_state){.optimizer_step = run->optimizer_step,
                           .samples_seen = run->samples_seen,
                           .scaler_iteration = run->scaler.iteration,
                           .scaler_last_overflow = run->scaler.last_overflow,
                           .scaler_hysteresis = run->scaler.hysteresis,
                           .loss_scale = run->scaler.scale};
}

void dsc_run_state_set(dsc_run *run, const dsc_run_state *state)
{
    run->optimizer_step = state->optimizer_step;
    run->samples_seen = state->samples_seen;
    run->scaler.iteration = state->scaler_iteration;
    run->scaler.last_overflow = state->scaler_last_overflow;
    run->scaler.hysteresis = state->scaler_hysteresis;
    run->scaler.scale = state->loss_scale;
}

/* ---- Pieces: what of the stage's tensors this rank updates */

static float *part_of(dsc_run *run, int which, const dsc_bucket *bucket)
{
    static const dsc_kept kept[] = {DSC_KEPT_MASTER, DSC_KEPT_EXP_AVG, DSC_KEPT_EXP_AVG_SQ};

    return exec_address(run, dsc_program_kept(run->o.program, bucket, kept[which]), NULL);
}

/* A vector is one row. */
static int64_t columns_of(const dsc_plan *plan, const dsc_shard *shard)
{
    return plan->tensors[shard->tensor].dims < 2 ? shard->elems : shard->shape[1];
}

dsc_status dsc_run_each_piece(dsc_run *run, const dsc_shard *shard, dsc_piece_visit *visit, void *context)
{
    const dsc_plan *plan = run->o.plan;
    const dsc_bucket *bucket = &plan->stages[run->o.program->stage].buckets[shard->bucket];
    const int64_t columns = columns_of(plan, shard), part = dsc_plan_part(plan, run->rank);
    dsc_overlap overlap = dsc_part_overlap(bucket, plan->parts, part, shard);
    dsc_block block, runs[DSC_RUN_BLOCKS];
    dsc_status status = DSC_OK;

    for (int64_t b = 0; overlap.elems > 0 && dsc_shard_block(plan, shard, run->tp_index, b, &block); b++) {
        int pieces = dsc_block_run(&block, columns, overlap.in_shard, overlap.elems, runs);

        for (int i = 0; i < pieces * DSC_RUN_STATES; i++) {
            const dsc_block *r = &runs[i / DSC_RUN_STATES];
            int64_t in_shard = r->shard_row * columns + r->shard_column;
            float *values = part_of(run, i % DSC_RUN_STATES, bucket) + overlap.in_part + in_shard - overlap.in_shard;
            dsc_piece piece = {i % DSC_RUN_STATES, shard->tensor, *r, values, columns};

            DSC_TRY(visit(context, &piece));
        }
    }
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
        DSC_TRY(dsc_run_each_piece(run, &stage->shards[i], init_piece, run));
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
