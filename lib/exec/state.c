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

float *dsc_run_shard(dsc_run *run, int which, const dsc_shard *shard)
{
    const dsc_program *program = run->o.program;
    const int32_t buffers[] = {program->master, program->exp_avg, program->exp_avg_sq};

    return (float *)exec_address(run, (dsc_span){buffers[which], 0, 0}, NULL) + shard->first;
}

dsc_status dsc_run_round(dsc_run *run)
{
    const dsc_program *program = run->o.program;
    int64_t elems = run->o.plan->stages[program->stage].flat_elems;
    dsc_shape shape = {.kernel = DSC_K_CAST, .type = DSC_FP32, .out = (int8_t)run->o.plan->type, .d = {elems}};
    void *operands[DSC_KERNEL_OPERANDS] = {exec_address(run, (dsc_span){program->master, 0, 0}, NULL),
                                           exec_address(run, (dsc_span){program->parameters, 0, 0}, NULL)};

    if (program->master == program->parameters) return DSC_OK;
    return run->o.kernels->run[DSC_K_CAST](&shape, operands, NULL, &run->step);
}

/* Element numbers are those of the whole tensor, so that no layout changes a weight. A vector is one row. */
static void init_block(const dsc_tensor *tensor, uint64_t seed, const dsc_block *block, int64_t stride, float *shard)
{
    int64_t columns = tensor->dims < 2 ? tensor->shape[0] : tensor->shape[1];

    for (int64_t i = 0; i < block->rows; i++)
        dsc_tensor_init(tensor, seed, (block->row + i) * columns + block->column, block->columns,
                        shard + (block->shard_row + i) * stride + block->shard_column);
}

/* Padding is zero since the arena was mapped. */
dsc_status dsc_run_init_weights(dsc_run *run)
{
    const dsc_plan *plan = run->o.plan;
    const dsc_stage *stage = &plan->stages[run->o.program->stage];
    dsc_block blocks[DSC_SHARD_BLOCKS];

    for (int64_t i = 0; i < stage->shard_count; i++) {
        const dsc_shard *shard = &stage->shards[i];
        int count = dsc_shard_blocks(plan, shard, run->tp_index, blocks);

        for (int b = 0; b < count; b++)
            init_block(&plan->tensors[shard->tensor], plan->config.seed, &blocks[b], shard->shape[1],
                       dsc_run_shard(run, 0, shard));
    }
    return dsc_run_round(run);
}
