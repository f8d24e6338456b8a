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
static bool has_fp8(const dsc_plan *plan) { return plan->config.strategy.precision == DSC_FP8; }
static bool cuts_other_attention(const dsc_plan *plan)
{
    return has_cp(plan) && !dsc_equal(plan->config.strategy.attention, "dense");
}
static bool compresses_cut_sequences(const dsc_plan *plan) { return plan->compresses && has_cp(plan); }
static bool has_cp_apart_from_dp(const dsc_plan *plan) { return !dsc_plan_order_is_legal(plan); }
static bool has_sp_alone(const dsc_plan *plan)
{
    return plan->config.strategy.sequence_parallel && plan->config.strategy.tp == 1;
}
static bool has_zero_in_halves(const dsc_plan *plan)
{
    return plan->config.strategy.zero >= 2 && dsc_plan_splits(plan);
}
static bool has_whole_parameters_elsewhere(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;

    return s->offload == DSC_OFFLOAD_PARAMS && dsc_plan_degree(plan, DSC_AXIS_DP) > 1 && (s->zero == 1 || s->zero == 2);
}
static bool gathers_nothing_late(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;

    return s->late_gather && (s->zero == 0 || s->zero == 3 || dsc_plan_degree(plan, DSC_AXIS_DP) == 1);
}
static bool gathers_from_host_late(const dsc_plan *plan)
{
    return plan->config.strategy.late_gather && plan->config.strategy.offload != DSC_OFFLOAD_NONE;
}
static bool has_open_ratio(const dsc_plan *plan) { return plan->config.strategy.offload_ratio < 0; }
static bool has_ratio_alone(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;

    return s->offload_ratio < 1 && s->offload != DSC_OFFLOAD_OPTIMIZER;
}
static bool has_delay_alone(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;

    return s->delay_update > 0 && (s->offload != DSC_OFFLOAD_OPTIMIZER || s->offload_ratio < 1);
}
static bool has_trust_by_reference(const dsc_plan *plan)
{
    return plan->has_trust && plan->config.strategy.semantics == DSC_SEMANTICS_REFERENCE;
}
static bool compresses_parts(const dsc_plan *plan) { return plan->compresses && plan->config.strategy.zero > 0; }
static bool compresses_late(const dsc_plan *plan) { return plan->compresses && plan->config.strategy.delay_update > 0; }
static bool compresses_decay(const dsc_plan *plan) { return plan->compresses && plan->config.strategy.l2_decay; }
static bool is_frozen_at_once(const dsc_plan *plan)
{
    return plan->compresses && !plan->has_own_steps && plan->config.freeze_step == 0 &&
           plan->config.strategy.semantics == DSC_SEMANTICS_PAPER;
}

static const refusal REFUSALS[] = {
    {cuts_other_attention,
     "--cp: keys are gathered for attention that stores no scores and has no layout; use --attention dense"},
    {compresses_cut_sequences, "--cp: compression is between replicas, of which each has whole sequences; use --cp 1"},
    {has_cp_apart_from_dp,
     "--rank-order: gradients are summed over cp and dp at once, so these two have to follow one another"},
    {has_sp_alone, "--sequence-parallel shards what tensor parallelism replicates, and tp is 1"},
    {has_zero_in_halves,
     "--zero 2 and 3 reduce a bucket's gradients after each backward pass, and --schedule zb-h1 makes them in two "
     "passes far apart; use --zero 1, or --schedule 1f1b"},
    {has_whole_parameters_elsewhere,
     "--offload params: a rank's host holds the weights that it updates, with --zero 1 and 2 a part of what it "
     "computes with; use --zero 3, which gathers the parts"},
    {gathers_from_host_late,
     "--late-gather finds the updated parts on the device, and --offload makes them in host memory; leave one out"},
    {gathers_nothing_late,
     "--late-gather is of updated weights that several replicas hold whole and update in parts: it takes --zero 1 or 2 "
     "and more than one replica"},
    {has_open_ratio,
     "--offload-ratio auto is for dsc-plan, which finds the ratio by prices: give the number that it prints"},
    {has_ratio_alone,
     "--offload-ratio divides the optimizer's states between host and device: it takes --offload optimizer"},
    {has_delay_alone,
     "--delay-update overlaps updates in host memory with the next step: it takes --offload optimizer, with all of the "
     "states there (--offload-ratio 1)"},
    {has_trust_by_reference,
     "--onebit-semantics reference: there is no run of DeepSpeed's OneBitLamb on record to be equal to; use paper, or "
     "--optimizer onebit-adam"},
    {compresses_parts,
     "--zero: compression spares the traffic of gradients, and a replica needs all of the momentum that it sends; with "
     "the states cut in parts each step would gather whole weights instead, as many bytes as it has spared; use "
     "--zero 0"},
    {compresses_late,
     "--delay-update: compressed updates wait for the other replicas' momenta; use --delay-update 0"},
    {compresses_decay, "--l2-decay: where momenta are compressed the decay is not in them; leave it out"},
    {is_frozen_at_once, "--freeze-step 0: no variance would be known to divide by; at least one step has to be exact"},
};

/* What the planner prices, and no interpreter here runs. */
static const refusal NOT_RUN[] = {
    {has_cp,
     "--cp: context parallelism can be planned, and not run: this version has no kernels that attend to gathered keys; "
     "use --cp 1"},
    {has_fp8, "--precision fp8 can be planned, and not run: this version has no fp8 products; use bf16"},
};

/* Heads and inner columns are cut in equal parts, and rows of activations where the sequence is. Rows of the vocabulary
 * need not be, but a rank beyond them would have nothing to do. */
static dsc_status check_tensor_parallel(const dsc_plan *plan)
{
    const dsc_model *model = &plan->model;
    const dsc_strategy *s = &plan->config.strategy;
    const struct { const char *name; int64_t count; } cut[] = {
        {"heads", model->heads}, {"kv_heads", model->kv_heads}, {"ffn", model->ffn}};
    int64_t rows = s->micro_batch * dsc_plan_tokens(plan);

    for (int64_t i = 0; i < DSC_COUNT(cut); i++)
        if (cut[i].count % s->tp != 0)
            return DSC_FAIL(DSC_EINVAL, "--tp %" PRId64 " does not divide the model's %s, %" PRId64, s->tp, cut[i].name,
                            cut[i].count);
    if (s->tp > model->vocab)
        return DSC_FAIL(DSC_EINVAL, "--tp %" PRId64 " is more than the vocabulary's %" PRId64 " rows", s->tp,
                        model->vocab);
    if (s->sequence_parallel && rows % s->tp != 0)
        return DSC_FAIL(DSC_EINVAL,
                        "--sequence-parallel: tp %" PRId64 " does not divide a micro-batch's %" PRId64 " x %" PRId64
                        " = %" PRId64 " tokens",
                        s->tp, s->micro_batch, dsc_plan_tokens(plan), rows);
    return DSC_OK;
}

static dsc_status check_interleaved(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;

    if (s->virtual_stages < 2)
        return DSC_FAIL(DSC_EINVAL,
                        "--schedule interleaved: --virtual-stages is %" PRId64 ", and it takes 2 to interleave",
                        s->virtual_stages);
    if (plan->micro_batches % s->pp != 0)
        return DSC_FAIL(DSC_EINVAL,
                        "--schedule interleaved: %" PRId64 " micro-batches of a replica are no multiple of pp %" PRId64,
                        plan->micro_batches, s->pp);
    return DSC_OK;
}

/* Other schedules hold few micro-batches at a time, and sizes of one are bounded (resolve.c). */
static dsc_status check_gpipe(const dsc_plan *plan)
{
    const double most_bytes = 0x1p62;
    const double bytes = dsc_plan_pass_bytes(plan) / (double)plan->config.strategy.pp * (double)plan->micro_batches;

    if (bytes <= most_bytes) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "--schedule gpipe holds all %" PRId64 " micro-batches at once: about %.3g bytes, at "
                    "most %.3g can be planned", plan->micro_batches, bytes, most_bytes);
}

/* That each chunk has a layer is seen when layers are cut; here, that there are not so many that it cannot be. */
static dsc_status check_pipeline(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;
    int64_t most = plan->model.layers + 2;

    if (s->virtual_stages > 1 && s->pp == 1)
        return DSC_FAIL(DSC_EINVAL, "--schedule interleaved by --virtual-stages %" PRId64 " is of a pipeline's stages, "
                        "and pp is 1", s->virtual_stages);
    if (s->virtual_stages > 1 && s->schedule != DSC_INTERLEAVED)
        return DSC_FAIL(DSC_EINVAL, "--virtual-stages %" PRId64 ": only --schedule interleaved takes more than 1",
                        s->virtual_stages);
    if (s->pp > most || s->virtual_stages > most / s->pp)
        return DSC_FAIL(DSC_EINVAL,
                        "--pp %" PRId64 " x --virtual-stages %" PRId64 " are more chunks than %" PRId64
                        " layers, an embedding and a head can fill",
                        s->pp, s->virtual_stages, plan->model.layers);
    if (s->schedule == DSC_GPIPE) return check_gpipe(plan);
    return s->schedule == DSC_INTERLEAVED ? check_interleaved(plan) : DSC_OK;
}

dsc_status dsc_plan_check_runs(const dsc_plan *plan)
{
    for (int64_t i = 0; i < DSC_COUNT(NOT_RUN); i++)
        if (NOT_RUN[i].applies(plan)) return DSC_FAIL(DSC_ENOTSUP, "%s", NOT_RUN[i].sentence);
    return DSC_OK;
}

dsc_status dsc_plan_check_legal(const dsc_plan *plan)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(REFUSALS); i++)
        if (REFUSALS[i].applies(plan)) return DSC_FAIL(DSC_ENOTSUP, "%s", REFUSALS[i].sentence);
    DSC_TRY(check_tensor_parallel(plan));
    DSC_TRY(check_pipeline(plan));
out:
    return status;
}
