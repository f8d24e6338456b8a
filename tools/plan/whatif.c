/* What if one thing of the cluster were otherwise: each row is planned, checked and simulated anew, with the ranks in
 * the order that the cluster as described has them. */
#include "base/log.h"
#include "tools/plan/plan.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* is_better: nothing gets slower by it. */
typedef struct change { const char *name; int aspect; double factor; bool is_better; } change;

enum { NOTHING = -1 };

static const change changes[] = {
    {"as described", NOTHING, 1, false},
    {"links between devices x 2", DSC_ASPECT_LINKS, 2, true},
    {"links between devices / 2", DSC_ASPECT_LINKS, 0.5, false},
    {"network x 2", DSC_ASPECT_NETWORK, 2, true},
    {"network / 2", DSC_ASPECT_NETWORK, 0.5, false},
    {"links to the host x 2", DSC_ASPECT_HOST, 2, true},
    {"peak rate x 2", DSC_ASPECT_PRODUCTS, 2, true},
    {"memory's rate x 2", DSC_ASPECT_MEMORY_RATE, 2, true},
    {"launches / 2", DSC_ASPECT_LAUNCH, 0.5, true},
    {"memory + 50 %", DSC_ASPECT_MEMORY_SIZE, 1.5, false},
    {"memory - 50 %", DSC_ASPECT_MEMORY_SIZE, 0.5, false},
};

typedef struct answer {
    int64_t step_ns, peak_bytes, capacity_bytes;
    double tokens_per_s;
    bool is_feasible;
    char reason[1024], order[32];
} answer;

/* Capacities of the command line stand for what the cluster has. */
static void scale_given(const change *c, dsc_strategy *strategy)
{
    if (c->aspect == DSC_ASPECT_MEMORY_SIZE)
        strategy->device_memory_bytes = (int64_t)((double)strategy->device_memory_bytes * c->factor + 0.5);
}

static void take_answer(const evaluation *e, answer *out)
{
    *out = (answer){.step_ns = e->timing.step_ns,
                    .peak_bytes = e->worst[DSC_SPACE_DEVICE].ledger.arena_bytes +
                                  e->plan->libraries_bytes[DSC_SPACE_DEVICE],
                    .capacity_bytes = e->plan->capacity_bytes[DSC_SPACE_DEVICE],
                    .tokens_per_s = tokens_per_s(e),
                    .is_feasible = e->feasible};
    memcpy(out->reason, e->reason, sizeof out->reason);
    write_order(e->plan, out->order);
}

static dsc_status ask(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *given,
                      const plan_options *options, const change *c, answer *out)
{
    evaluation *e = calloc(1, sizeof *e);
    dsc_config config = *given;
    dsc_status status = DSC_OK;

    if (e == NULL) return DSC_FAIL(DSC_ENOMEM, "--what-if: %zu bytes", sizeof *e);
    evaluation_init(e);
    e->model = *model;
    DSC_TRY(dsc_cluster_copy(cluster, &e->cluster));
    if (c->aspect != NOTHING) dsc_cluster_scale(e->cluster, (dsc_aspect)c->aspect, c->factor);
    if (c->aspect == DSC_ASPECT_LAUNCH) e->launches = c->factor;
    scale_given(c, &config.strategy);
    DSC_TRY(evaluate_on(&config, options, e));
    take_answer(e, out);
out:
    evaluation_fini(e);
    free(e);
    return status;
}

/* ---- Shown */

static double ratio_of(const answer *a, const answer *base) { return (double)a->step_ns / (double)base->step_ns; }

static void print_row(const change *c, const answer *a, const answer *base)
{
    printf("%-26s %10s %+7.1f %% %10s tokens/s  %10s of %10s  %s\n", c->name, dsc_ns_str(a->step_ns).str,
           100 * (ratio_of(a, base) - 1), dsc_count_str(a->tokens_per_s).str, dsc_bytes_str(a->peak_bytes).str,
           dsc_bytes_str(a->capacity_bytes).str, a->is_feasible ? "fits" : "DOES NOT FIT");
}

static json_t *answer_json(const change *c, const answer *a, const answer *base)
{
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:I, s:I, s:b, s:o}", "change", c->name, "factor", c->factor, "step_s",
                     (double)a->step_ns / 1e9, "step_ratio", ratio_of(a, base), "tokens_per_s", a->tokens_per_s,
                     "peak_bytes", (json_int_t)a->peak_bytes, "capacity_bytes", (json_int_t)a->capacity_bytes,
                     "feasible", a->is_feasible, "reason", a->is_feasible ? json_null() : json_string(a->reason));
}

static dsc_status print_answers(const answer *answers, bool json)
{
    json_t *list = json_array();
    dsc_status status = DSC_OK;

    if (!json)
        printf("%-26s %10s %9s %19s  %24s\n", "what if", "step", "changed by", "speed", "memory of the worst rank");
    for (int64_t i = 0; i < DSC_COUNT(changes); i++)
        if (json) json_array_append_new(list, answer_json(&changes[i], &answers[i], &answers[0]));
        else print_row(&changes[i], &answers[i], &answers[0]);
    if (json && (json_dumpf(list, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF))
        status = DSC_FAIL(DSC_EIO, "standard output cannot be written");
    json_decref(list);
    return status;
}

/* Faster parts change who is first at a link that several share, and a step may lose by it: that is said. */
static void report_losses(const answer *answers)
{
    for (int64_t i = 0; i < DSC_COUNT(changes); i++)
        if (changes[i].is_better && answers[i].step_ns > answers[0].step_ns)
            dsc_log(DSC_WARNING, "%s makes the step slower, by %.2f %%: messages meet otherwise on links that they "
                    "share", changes[i].name, 100 * (ratio_of(&answers[i], &answers[0]) - 1));
}

dsc_status show_what_if(const tool_inputs *inputs, const plan_options *options)
{
    answer answers[DSC_COUNT(changes)];
    dsc_config config = inputs->config;
    dsc_cluster *cluster = NULL;
    dsc_status status = DSC_OK;
    dsc_model model;

    DSC_TRY(dsc_model_load(inputs->model, &model));
    DSC_TRY(dsc_plan_load_cluster(inputs->cluster, &inputs->config, &cluster));
    for (int64_t i = 0; i < DSC_COUNT(changes); i++) {
        DSC_TRY(ask(&model, cluster, &config, options, &changes[i], &answers[i]));
        strcpy(config.strategy.rank_order, answers[0].order);
    }
    DSC_TRY(print_answers(answers, options->json));
    report_losses(answers);
    if (!answers[0].is_feasible) status = DSC_FAIL(DSC_EINFEASIBLE, "%s", answers[0].reason);
out:
    dsc_cluster_destroy(cluster);
    return status;
}
