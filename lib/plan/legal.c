/* What cannot be, each with the sentence that the user reads. A pair of techniques that no equivalence test covers has
 * its row here: there is no third state. */
#include "plan/parts.h"
#include <inttypes.h>

/* Refusals by a property of the plan alone: the word that the user can change, and why. */
typedef struct refusal {
    bool (*applies)(const dsc_plan *plan);
    const char *sentence;
} refusal;

static bool has_cp(const dsc_plan *plan) { return plan->config.strategy.cp > 1; }
static bool has_zero(const dsc_plan *plan) { return plan->config.strategy.zero > 0; }
static bool has_offload(const dsc_plan *plan) { return plan->config.strategy.offload != DSC_OFFLOAD_NONE; }
static bool has_fp8(const dsc_plan *plan) { return plan->config.strategy.precision == DSC_FP8; }
static bool is_compressed(const dsc_plan *plan) { return plan->config.strategy.optimizer >= DSC_ONEBIT_ADAM; }
static bool is_sparse(const dsc_plan *plan) { return plan->attention_kernel == NULL; }
static bool is_no_gpt2(const dsc_plan *plan)
{
    const dsc_model *model = &plan->model;

    return model->gated || model->norm != DSC_NORM_LAYER || model->pos != DSC_POS_LEARNED || !model->causal ||
           !model->tied || model->kv_heads != model->heads;
}

static const refusal REFUSALS[] = {
    {has_cp, "--cp: this version's programs do not split the sequence"},
    {has_zero, "--zero: this version's programs replicate gradients and optimizer states; use --zero 0"},
    {has_offload, "--offload: this version's programs keep all states on the device; use --offload none"},
    {has_fp8, "--precision fp8: this version has no fp8 kernels; use bf16"},
    {is_compressed, "--optimizer: this version's programs update with adam or adamw only"},
    {is_sparse, "--attention: this version's programs compute dense and dense-unfused attention only"},
    {is_no_gpt2,
     "--model: this version's programs are GPT-2's (LayerNorm, learned positions, biases, causal, tied head, "
     "kv_heads = heads, no gate)"},
};

dsc_status dsc_plan_check_legal(const dsc_plan *plan)
{
    for (int64_t i = 0; i < DSC_COUNT(REFUSALS); i++)
        if (REFUSALS[i].applies(plan)) return DSC_FAIL(DSC_ENOTSUP, "%s", REFUSALS[i].sentence);
    return DSC_OK;
}
