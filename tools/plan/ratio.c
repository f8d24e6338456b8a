/* How much of the optimizer's states goes to the host. The device updates what it keeps, the host the rest: the step is
 * shortest where both end together, longer on either side, so that a search by halves finds it. */
#include "base/log.h"
#include "tools/plan/plan.h"
#include <stdlib.h>

enum { PARTS = 16 };

/* What is known of a ratio. */
typedef struct probe { bool is_known, feasible, lacks_device; int64_t step_ns; } probe;

typedef struct search {
    const tool_inputs *inputs;
    plan_options options;
    probe probes[PARTS + 1];
} search;

static dsc_status look_at(search *s, int64_t part)
{
    probe *p = &s->probes[part];
    dsc_status status = DSC_OK;
    tool_inputs *inputs = NULL;
    evaluation *e = NULL;

    if (p->is_known) return DSC_OK;
    inputs = malloc(sizeof *inputs);
    e = calloc(1, sizeof *e);
    if (inputs == NULL || e == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "--offload-ratio auto: %zu bytes", sizeof *inputs + sizeof *e);
        goto out;
    }
    *inputs = *s->inputs;
    inputs->config.strategy.offload_ratio = (double)part / PARTS;
    status = evaluate(inputs, &s->options, e);
    if (status == DSC_OK)
        *p = (probe){true, e->feasible,
                     e->worst[DSC_SPACE_DEVICE].ledger.arena_bytes + e->plan->libraries_bytes[DSC_SPACE_DEVICE] >
                         e->plan->capacity_bytes[DSC_SPACE_DEVICE],
                     e->timing.step_ns};
    evaluation_fini(e);
out:
    free(e);
    free(inputs);
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

static dsc_status narrow(search *s)
{
    dsc_status status = DSC_OK;
    int64_t low = 0, high = PARTS;

    DSC_TRY(look_at(s, low));
    DSC_TRY(look_at(s, high));
    while (low < high) {
        int64_t middle = (low + high) / 2;

        DSC_TRY(look_at(s, middle));
        DSC_TRY(look_at(s, middle + 1));
        if (is_better_above(&s->probes[middle], &s->probes[middle + 1])) low = middle + 1;
        else high = middle;
    }
out:
    return status;
}

/* The best of all that were looked at, the least share of equals. */
static int64_t best_of(const search *s)
{
    int64_t best = 0;

    for (int64_t part = 1; part <= PARTS; part++)
        if (s->probes[part].is_known && is_better_above(&s->probes[best], &s->probes[part])) best = part;
    return best;
}

dsc_status choose_ratio(const tool_inputs *inputs, const plan_options *options, double *out)
{
    const dsc_strategy *strategy = &inputs->config.strategy;
    search s = {.inputs = inputs, .options = *options};
    dsc_status status = DSC_OK;

    *out = strategy->offload_ratio;
    if (strategy->offload_ratio >= 0) return DSC_OK;
    *out = strategy->offload == DSC_OFFLOAD_OPTIMIZER ? 1 : 0; /* 0 without --offload optimizer the plan refuses */
    if (strategy->offload != DSC_OFFLOAD_OPTIMIZER || strategy->delay_update > 0) return DSC_OK;
    s.options.trace[0] = '\0';
    dsc_log_to(NULL, NULL, DSC_WARNING);
    DSC_TRY(narrow(&s));
    *out = (double)best_of(&s) / PARTS;
out:
    return status;
}
