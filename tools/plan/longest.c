/* The longest sequence that fits, by asking program after program: what is in memory, and when, only they know. */
#include "base/log.h"
#include "model/attention.h"
#include "tools/plan/plan.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_STEP = 128, FEW_STEPS = 1 << 10 };
static const int64_t most_tokens = INT64_C(1) << 24;

/* The strategy with another sequence, of a multiple of `step` tokens. */
typedef struct trial {
    tool_inputs inputs;
    const plan_options *options;
    dsc_model model;
    dsc_cluster *cluster;
    int64_t step;
} trial;

/* What came of a length: its pattern asks for more blocks than there are, or there are more than can be kept. */
typedef enum verdict { FITS, DOES_NOT_FIT, CANNOT_BE } verdict;

static dsc_status look_at(trial *t, int64_t steps, verdict *out)
{
    evaluation *e = calloc(1, sizeof *e);
    dsc_status status;
    bool fits;

    *out = CANNOT_BE;
    if (e == NULL) return DSC_FAIL(DSC_ENOMEM, "--longest-seq: %zu bytes", sizeof *e);
    evaluation_init(e);
    t->inputs.config.strategy.seq_len = steps * t->step;
    e->model = t->model;
    e->model.seq = DSC_MAX(e->model.seq, steps * t->step);
    e->cluster = t->cluster;
    status = fits_on(&t->inputs.config, t->options, e, &fits);
    if (status == DSC_OK) *out = fits ? FITS : DOES_NOT_FIT;
    e->cluster = NULL; /* the trial's */
    evaluation_fini(e);
    free(e);
    return status;
}

/* So that blocks divide it, and tensor ranks where they cut it. */
static int64_t step_of(const dsc_attention *a, const dsc_strategy *strategy)
{
    int64_t step = LEAST_STEP;

    for (int i = 0; i < a->count; i++) {
        int64_t block = a->patterns[i].kind == DSC_ATTENTION_SPARSE ? a->patterns[i].sparsity.block : 1, sum = step;

        while (sum % block != 0) sum += step;
        step = sum;
    }
    return strategy->sequence_parallel ? step * DSC_MAX(strategy->tp, 1) : step;
}

/* Doubled until it does not fit, then halved between. 0: no length fits. *is_open: longer ones cannot be planned. What
 * cannot be below a length that can is too short, above it too long. */
static dsc_status find_longest(trial *t, int64_t *out, bool *is_open)
{
    int64_t low = 0, high = 1, fitting = 0;
    dsc_status status = DSC_OK;
    verdict verdict = FITS;

    for (; high * t->step <= most_tokens; high *= 2) {
        status = look_at(t, high, &verdict);
        if (verdict == DOES_NOT_FIT || (verdict == CANNOT_BE && (fitting > 0 || high >= FEW_STEPS))) break;
        low = high;
        if (verdict == FITS) fitting = high;
    }
    if (fitting == 0 && verdict == CANNOT_BE) return status;
    *is_open = verdict != DOES_NOT_FIT;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;

        look_at(t, middle, &verdict);
        if (verdict == FITS) fitting = low = middle;
        else if (verdict == CANNOT_BE && fitting == 0) low = middle;
        else high = middle;
    }
    *out = fitting * t->step;
    return DSC_OK;
}

/* ---- Shown */

typedef struct found { const char *name; int64_t seq; bool is_open; const evaluation *e; } found;

static void print(const found *f, bool json, json_t *all)
{
    int64_t bytes = f->seq == 0 ? 0 : f->e->worst[DSC_SPACE_DEVICE].ledger.arena_bytes;
    double speed = f->seq == 0 ? 0 : tokens_per_s(f->e);

    json_array_append_new(all, json_pack("{s:s, s:I, s:b, s:I, s:f}", "attention", f->name, "seq_len",
                                         (json_int_t)f->seq, "longer_may_fit", f->is_open, "device_bytes",
                                         (json_int_t)bytes, "tokens_per_s", speed));
    if (json) return;
    if (f->seq == 0) printf("%-28s no sequence fits\n", f->name);
    else printf("%-28s %s%10" PRId64 " tokens  %10s  %10.0f tokens/s\n", f->name, f->is_open ? "at least " : "", f->seq,
                dsc_bytes_str(bytes).str, speed);
}

/* words: what --attention would say; NULL: what it says. */
static dsc_status show(trial *t, const char *words, const plan_options *options, json_t *all, int64_t *seq)
{
    dsc_config *config = &t->inputs.config;
    evaluation *e = calloc(1, sizeof *e);
    found f = {.name = words, .e = e};
    dsc_attention *attention = NULL;
    dsc_status status = DSC_OK;

    if (e == NULL) return DSC_FAIL(DSC_ENOMEM, "--longest-seq: %zu bytes", sizeof *e);
    if (words != NULL) {
        DSC_TRY(dsc_attention_create(words, "", "", NULL, &attention));
        config->attention = attention;
        snprintf(config->strategy.attention, sizeof config->strategy.attention, "%s", words);
    }
    t->step = step_of(config->attention, &config->strategy);
    f.name = config->strategy.attention;
    DSC_TRY(find_longest(t, &f.seq, &f.is_open));
    config->strategy.seq_len = f.seq;
    if (f.seq > 0) DSC_TRY(evaluate(&t->inputs, options, e));
    print(&f, options->json, all);
    *seq = f.seq;
out:
    evaluation_fini(e);
    free(e);
    dsc_attention_destroy(attention);
    return status;
}

dsc_status show_longest(const tool_inputs *inputs, const plan_options *options)
{
    static const char *const others[] = {"dense", "dense-unfused"};
    dsc_strategy *strategy;
    trial *t = calloc(1, sizeof *t);
    json_t *all = json_array();
    dsc_status status = DSC_OK;
    int64_t seq = 0, other;
    char asked[256];

    if (t == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "--longest-seq: %zu bytes", sizeof *t));
    t->inputs = *inputs;
    t->options = options;
    strategy = &t->inputs.config.strategy;
    snprintf(asked, sizeof asked, "%s", dsc_attention_words(strategy->attention, inputs->config.sparse_attention));
    strcpy(strategy->attention, asked);
    for (int i = 0; i < inputs->attention->count; i++)
        if (inputs->attention->patterns[i].layout != NULL)
            DSC_TRY(DSC_FAIL(DSC_EINVAL, "--longest-seq: %s holds a layout of one length",
                             inputs->attention->patterns[i].word));
    DSC_TRY(dsc_model_load(inputs->model, &t->model));
    DSC_TRY(dsc_plan_load_cluster(inputs->cluster, &inputs->config, &t->cluster));
    DSC_TRY(show(t, NULL, options, all, &seq));
    for (int64_t i = 0; i < DSC_COUNT(others); i++)
        if (!dsc_equal(others[i], asked)) DSC_TRY(show(t, others[i], options, all, &other));
    if (options->json && (json_dumpf(all, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF))
        DSC_TRY(DSC_FAIL(DSC_EIO, "standard output cannot be written"));
    if (seq == 0) status = DSC_FAIL(DSC_EINFEASIBLE, "--longest-seq: with --attention %s no sequence fits", asked);
out:
    if (t != NULL) dsc_cluster_destroy(t->cluster);
    free(t);
    json_decref(all);
    return status;
}
