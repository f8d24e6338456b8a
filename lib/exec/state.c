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

/* A shard's values in a static fp32 buffer. */
static float *values_of(dsc_run *run, int32_t buffer, const dsc_shard *shard)
{
    return (float *)exec_address(run, (dsc_span){buffer, 0, 0}, NULL) + shard->first;
}

float *dsc_run_tensor(dsc_run *run, int which, int64_t tensor)
{
    const dsc_program *program = run->o.program;
    const dsc_stage *stage = &run->o.plan->stages[program->stage];
    const int32_t buffers[] = {program->master, program->exp_avg, program->exp_avg_sq};

    const int64_t *shape = run->o.plan->tensors[tensor].shape;

    for (int64_t i = 0; i < stage->shard_count; i++) {
        const dsc_shard *shard = &stage->shards[i];
        bool is_whole =
            shard->shape[0] == shape[0] && (run->o.plan->tensors[tensor].dims < 2 || shard->shape[1] == shape[1]);

        if (shard->tensor == tensor) return is_whole ? values_of(run, buffers[which], shard) : NULL;
    }
    return NULL;
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

dsc_status dsc_run_init_weights(dsc_run *run)
{
    const dsc_program *program = run->o.program;
    const dsc_stage *stage = &run->o.plan->stages[program->stage];

    for (int64_t i = 0; i < stage->shard_count; i++) {
        const dsc_shard *shard = &stage->shards[i];
        const dsc_tensor *tensor = &run->o.plan->tensors[shard->tensor];

        dsc_tensor_init(tensor, run->o.plan->config.seed, 0, dsc_tensor_elems(tensor),
                        values_of(run, program->master, shard));
    }
    return dsc_run_round(run);
}
