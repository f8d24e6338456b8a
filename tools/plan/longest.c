/* The longest sequence that fits, by asking program after program: what is in memory, and when, only they know. */
#include "base/log.h"
#include "model/attention.h"
#include "tools/plan/plan.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { STEP = 128, MOST_STEPS = 1 << 17, FEW_STEPS = 1 << 6 }; /* every block divides a step */

/* The strategy with another sequence. */
typedef struct trial { tool_inputs inputs; dsc_model model; dsc_cluster *cluster; } trial;

static dsc_status fits(trial *t, int64_t steps, bool *out)
{
    const dsc_program *const *programs = NULL;
    dsc_model model = t->model;
    dsc_status status = DSC_OK;
    dsc_plan *plan = NULL;

    t->inputs.config.strategy.seq_len = steps * STEP;
    model.seq = DSC_MAX(model.seq, steps * STEP);
    DSC_TRY(dsc_programs_place(&model, t->cluster, &t->inputs.config, &plan, &programs));
    status = dsc_program_fits(plan, programs, plan->ranks);
    *out = status == DSC_OK;
    if (status == DSC_EINFEASIBLE) status = DSC_OK;
out:
    dsc_programs_destroy(plan, programs);
    dsc_plan_destroy(plan);
    return status;
}

/* Doubled until it does not fit, then halved between. 0: not even the shortest fits. Patterns may ask for more blocks
 * than few steps have. */
static dsc_status find_longest(trial *t, int64_t *out)
{
    int64_t low = 0, high = 1;
    dsc_status status = DSC_OK;
    bool is_fitting = true;

    for (; is_fitting && high <= MOST_STEPS; high *= 2) {
        status = fits(t, high, &is_fitting);
        if (status == DSC_EINVAL && low == 0 && high < FEW_STEPS) continue;
        DSC_TRY(status);
        if (is_fitting) low = high;
    }
    for (high /= 2; high - low > 1;) {
        int64_t middle = (low + high) / 2;

        DSC_TRY(fits(t, middle, &is_fitting));
        if (is_fitting) low = middle;
        else high = middle;
    }
    *out = low * STEP;
out:
    return status;
}

/* ---- Shown */

static void print(const char *name, int64_t seq, const evaluation *e, const plan_options *options, json_t *all)
{
    int64_t bytes = e == NULL ? 0 : e->worst[DSC_SPACE_DEVICE].ledger.arena_bytes;

    json_array_append_new(all, json_pack("{s:s, s:I, s:I, s:f}", "attention", name, "seq_len", (json_int_t)seq,
                                         "device_bytes", (json_int_t)bytes, "tokens_per_s",
                                         e == NULL ? 0 : tokens_per_s(e)));
    if (options->json) return;
    if (e == NULL) printf("%-28s no sequence fits\n", name);
    else printf("%-28s %10" PRId64 " tokens  %10s  %10.0f tokens/s\n", name, seq, dsc_bytes_str(bytes).str,
                tokens_per_s(e));
}

/* words: what --attention would say; NULL: what it says. */
static dsc_status show(trial *t, const char *words, const plan_options *options, json_t *all)
{
    dsc_config *config = &t->inputs.config;
    evaluation *e = calloc(1, sizeof *e);
    dsc_attention *attention = NULL;
    dsc_status status = DSC_OK;
    int64_t seq = 0;

    if (e == NULL) return DSC_FAIL(DSC_ENOMEM, "--longest-seq: %zu bytes", sizeof *e);
    if (words != NULL) {
        DSC_TRY(dsc_attention_create(words, "", "", NULL, &attention));
        config->attention = attention;
    }
    DSC_TRY(find_longest(t, &seq));
    config->strategy.seq_len = seq;
    if (seq > 0) DSC_TRY(evaluate(&t->inputs, options, e));
    print(words != NULL ? words : config->strategy.attention, seq, seq > 0 ? e : NULL, options, all);
out:
    evaluation_fini(e);
    free(e);
    dsc_attention_destroy(attention);
    return status;
}

dsc_status show_longest(const tool_inputs *inputs, const plan_options *options)
{
    static const char *const others[] = {"dense", "dense-unfused"};
    trial *t = calloc(1, sizeof *t);
    json_t *all = json_array();
    dsc_status status = DSC_OK;

    if (t == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "--longest-seq: %zu bytes", sizeof *t));
    t->inputs = *inputs;
    if (t->inputs.config.strategy.attention[0] == '\0')
        strcpy(t->inputs.config.strategy.attention, inputs->config.sparse_attention[0] == '\0' ? "dense" : "sparse");
    DSC_TRY(dsc_model_load(inputs->model, &t->model));
    DSC_TRY(load_cluster(inputs, &t->cluster));
    DSC_TRY(show(t, NULL, options, all));
    for (int64_t i = 0; i < DSC_COUNT(others); i++)
        if (!dsc_equal(others[i], t->inputs.config.strategy.attention)) DSC_TRY(show(t, others[i], options, all));
    if (options->json && (json_dumpf(all, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF))
        status = DSC_FAIL(DSC_EIO, "standard output cannot be written");
out:
    if (t != NULL) dsc_cluster_destroy(t->cluster);
    free(t);
    json_decref(all);
    return status;
}
