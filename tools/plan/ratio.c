/* How much of the optimizer's states goes to the host: the device updates what it keeps, the host the rest, and the
 * step is shortest where both end together. Buckets are not divided: ratios between two steps of that make one plan. */
#include "base/log.h"
#include "tools/plan/plan.h"
#include <stdlib.h>

enum { PARTS = 16 };

/* What is known of a ratio. */
typedef struct probe { bool feasible, lacks_device; int64_t step_ns; } probe;

static dsc_status look_at(const tool_inputs *inputs, plan_options *options, double ratio, probe *out)
{
    dsc_status status = DSC_OK;
    tool_inputs *tried = malloc(sizeof *tried);
    evaluation *e = calloc(1, sizeof *e);

    if (tried == NULL || e == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "--offload-ratio auto: %zu bytes", sizeof *tried + sizeof *e);
        goto out;
    }
    *tried = *inputs;
    tried->config.strategy.offload_ratio = ratio;
    status = evaluate(tried, options, e);
    if (status == DSC_OK)
        *out = (probe){e->feasible,
                       e->worst[DSC_SPACE_DEVICE].ledger.arena_bytes + e->plan->libraries_bytes[DSC_SPACE_DEVICE] >
                           e->plan->capacity_bytes[DSC_SPACE_DEVICE],
                       e->timing.step_ns};
    evaluation_fini(e);
out:
    free(e);
    free(tried);
    return status;
}

/* Whether a larger share on the host is better than a smaller one: what does not fit the device wants it, what does not
 * fit the host does not. */
static bool is_better_above(const probe *below, const probe *above)
{
    if (below->feasible && above->feasible) return above->step_ns < below->step_ns;
    if (below->feasible || above->feasible) return above->feasible;
    return below->lacks_device;
}

/* The least share of equals. */
dsc_status choose_ratio(const tool_inputs *inputs, const plan_options *options, double *out)
{
    const dsc_strategy *strategy = &inputs->config.strategy;
    plan_options quiet = *options;
    dsc_status status = DSC_OK;
    probe best, next;

    *out = strategy->offload_ratio;
    if (strategy->offload_ratio >= 0) return DSC_OK;
    *out = strategy->offload == DSC_OFFLOAD_OPTIMIZER ? 1 : 0; /* 0 without --offload optimizer the plan refuses */
    if (strategy->offload != DSC_OFFLOAD_OPTIMIZER || strategy->delay_update > 0) return DSC_OK;
    quiet.trace[0] = quiet.html[0] = '\0';
    dsc_log_to(NULL, NULL, DSC_WARNING);
    DSC_TRY(look_at(inputs, &quiet, 0, &best));
    *out = 0;
    for (int part = 1; part <= PARTS; part++) {
        DSC_TRY(look_at(inputs, &quiet, (double)part / PARTS, &next));
        if (!is_better_above(&best, &next)) continue;
        best = next;
        *out = (double)part / PARTS;
    }
out:
    return status;
}
