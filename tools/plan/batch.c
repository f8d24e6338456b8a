/* A table of trainings, row by row: what a hand-written command line would give for each. */
#include "tools/plan/row.h"
#include "base/parse.h"
#include "model/attention.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Answers */

/* What the added columns say; empty where the row was not evaluated. */
typedef struct answer {
    bool is_evaluated, feasible;
    double step_s, tflops_per_gpu;
    int64_t memory_bytes;
    dsc_text reason;
} answer;

static void take_answer(const evaluation *e, answer *out)
{
    out->is_evaluated = true;
    out->feasible = e->feasible;
    out->step_s = (double)e->timing.step_ns / 1e9;
    out->tflops_per_gpu = flops_per_s(e) / 1e12;
    out->memory_bytes = e->worst[DSC_SPACE_DEVICE].ledger.arena_bytes + e->plan->libraries_bytes[DSC_SPACE_DEVICE];
}

/* Behind a semicolon; lines become one. */
static void add_reason(const char *text, dsc_text *out)
{
    dsc_text_add(out, "%s", out->count > 0 && text[0] != '\0' ? "; " : "");
    while (*text != '\0') {
        int length = (int)strcspn(text, "\n");

        dsc_text_add(out, "%.*s%s", length, text, text[length] == '\n' ? "; " : "");
        text += length + (text[length] == '\n');
    }
}

/* ---- One row */

/* What the row trained, and on what. The notes of its cluster are the reason's beginning. */
static dsc_status begin_row(const row *row, const dsc_config *config, evaluation **out, dsc_text *notes)
{
    dsc_status status = DSC_OK;
    evaluation *e = calloc(1, sizeof *e);

    if (e == NULL) return DSC_FAIL(DSC_ENOMEM, "--batch: %zu bytes", sizeof *e);
    evaluation_init(e);
    *out = e;
    DSC_TRY(row_model(row, &e->model));
    DSC_TRY(row_cluster(row, config->strategy.precision, &e->cluster, notes));
out:
    return status;
}

static void end_row(evaluation *e)
{
    if (e != NULL) evaluation_fini(e);
    free(e);
}

/* With the configuration as it is. */
static dsc_status evaluate_row(const row *row, const dsc_config *config, const plan_options *options, answer *out)
{
    dsc_status status = DSC_OK;
    evaluation *e = NULL;

    DSC_TRY(begin_row(row, config, &e, &out->reason));
    DSC_TRY(evaluate_on(config, options, e));
    take_answer(e, out);
    if (!e->feasible) add_reason(e->reason, &out->reason);
out:
    end_row(e);
    return status;
}

static dsc_status row_fits(const row *row, const dsc_config *config, const plan_options *options, bool *out)
{
    dsc_status status = DSC_OK;
    evaluation *e = NULL;
    dsc_text notes = {0};

    DSC_TRY(begin_row(row, config, &e, &notes));
    DSC_TRY(fits_on(config, options, e, out));
out:
    dsc_text_fini(&notes);
    end_row(e);
    return status;
}

/* ---- The least recomputation that fits, where the row does not say */

/* Of each chunk so many layers, if that is enough: fewer are halved for, between what does not fit and what does. */
static dsc_status find_layers(const row *row, dsc_config *config, const plan_options *options)
{
    dsc_strategy *s = &config->strategy;
    dsc_status status = DSC_OK;
    int64_t low = 0, high, middle;
    bool fits;

    DSC_TRY(dsc_parse_int("layers", row_cell(row, ROW_LAYERS), 1, 1 << 20, &high));
    high = dsc_ceil_div(high, DSC_MAX(s->pp, 1) * DSC_MAX(s->virtual_stages, 1));
    DSC_TRY(row_fits(row, config, options, &fits));
    while (fits && high - low > 1) {
        bool is_enough;

        s->recompute_layers = middle = (low + high) / 2;
        DSC_TRY(row_fits(row, config, options, &is_enough));
        if (is_enough) high = middle;
        else low = middle;
    }
    s->recompute_layers = fits ? high : 0;
out:
    return status;
}

/* Selective recomputation is of scores that are stored, where they are. */
static dsc_status try_recomputations(const row *row, dsc_config *config, const plan_options *options, answer *out)
{
    const bool stores_scores = dsc_equal(config->strategy.attention, "dense-unfused");
    dsc_strategy *s = &config->strategy;
    char reason[96] = "recompute not given: none taken, which fits";
    dsc_status status = DSC_OK;
    bool fits;

    s->recompute = DSC_RECOMPUTE_NONE;
    DSC_TRY(row_fits(row, config, options, &fits));
    if (!fits && stores_scores) {
        s->recompute = DSC_RECOMPUTE_SELECTIVE;
        DSC_TRY(row_fits(row, config, options, &fits));
        snprintf(reason, sizeof reason, "recompute not given: selective taken, the least that fits");
    }
    if (!fits) {
        s->recompute = DSC_RECOMPUTE_FULL;
        if (s->recompute_layers == 0) DSC_TRY(find_layers(row, config, options));
        snprintf(reason, sizeof reason, "recompute not given: full taken");
    }
    if (s->recompute_layers > 0)
        snprintf(reason, sizeof reason,
                 "recompute not given: full of %" PRId64 " layers a chunk taken, the least that fits",
                 s->recompute_layers);
    DSC_TRY(evaluate_row(row, config, options, out));
    add_reason(reason, &out->reason);
out:
    return status;
}

/* ---- How stages and the batch are cut, where the row does not say */

/* How many make one of each layer, where layers and micro-batches can be interleaved so; else 1. */
static int64_t finest_chunks(const dsc_model *model, const dsc_config *config)
{
    const dsc_strategy *s = &config->strategy;
    const int64_t sequences = DSC_MAX(s->dp, 1) * DSC_MAX(s->micro_batch, 1);

    if (s->pp < 2 || model->layers % s->pp != 0 || s->global_batch % (sequences * s->pp) != 0) return 1;
    return model->layers / s->pp;
}

/* Software that overlaps messages between stages does so for interleaved chunks alone. */
static void choose_chunks(const row *row, const dsc_stack *stack, const dsc_model *model, dsc_config *config,
                          dsc_text *reason)
{
    const int64_t chunks = finest_chunks(model, config);
    char sentence[160];

    if (row_is_printed(row, ROW_VIRTUAL_PP) || config->strategy.virtual_stages > 1) return;
    if (!stack->interleaves || chunks == 1) return;
    config->strategy.virtual_stages = chunks;
    snprintf(sentence, sizeof sentence, "virtual_pp not given: %" PRId64 " taken, a chunk a layer, as %s interleaves",
             chunks, stack->name);
    add_reason(sentence, reason);
}

static void choose_micro_batch(const row *row, const dsc_stack *stack, dsc_config *config, dsc_text *reason)
{
    dsc_strategy *s = &config->strategy;
    const int64_t parts = DSC_MAX(s->dp, 1) * s->pp;
    char sentence[160];

    if (row_is_printed(row, ROW_MICRO_BATCH) || !stack->cuts_by_stages) return;
    if (s->pp < 2 || s->global_batch % parts != 0) return;
    s->micro_batch = s->global_batch / parts;
    snprintf(sentence, sizeof sentence, "micro_batch not given: %" PRId64 " taken, for as many as stages, as %s cuts",
             s->micro_batch, stack->name);
    add_reason(sentence, reason);
}

static dsc_status choose_cuts(const row *row, dsc_config *config, const plan_options *options,
                              const dsc_given *given, dsc_text *reason)
{
    dsc_status status = DSC_OK;
    evaluation *e = NULL;
    dsc_text notes = {0};
    const dsc_stack *stack;

    if (row_is_printed(row, ROW_VIRTUAL_PP) && row_is_printed(row, ROW_MICRO_BATCH)) return DSC_OK;
    DSC_TRY(begin_row(row, config, &e, &notes));
    DSC_TRY(find_stack(options->stack, config, e->cluster, &stack));
    if (!given->micro_batch) choose_micro_batch(row, stack, config, reason);
    if (!given->virtual_stages) choose_chunks(row, stack, &e->model, config, reason);
out:
    dsc_text_fini(&notes);
    end_row(e);
    return status;
}

/* given: what the command line or CONFIG says. A row that cannot be planned is an answer, too; what fails otherwise
 * is passed on. */
static dsc_status answer_row(const row *row, const tool_inputs *inputs, const plan_options *options,
                             const dsc_given *given, answer *out)
{
    struct { dsc_config config; plan_options options; } *own = malloc(sizeof *own);
    const char *stack = row_cell(row, ROW_STACK);
    dsc_attention *attention = NULL;
    dsc_status status = DSC_OK;

    if (own == NULL) return DSC_FAIL(DSC_ENOMEM, "--batch: %zu bytes", sizeof *own);
    own->config = inputs->config;
    own->options = *options;
    if (stack[0] != '\0') snprintf(own->options.stack, sizeof own->options.stack, "%s", stack);
    DSC_TRY(row_check(row));
    DSC_TRY(row_config(row, &own->config, &attention));
    DSC_TRY(choose_cuts(row, &own->config, &own->options, given, &out->reason));
    if (given->recompute || row_cell(row, ROW_RECOMPUTE)[0] != '\0')
        DSC_TRY(evaluate_row(row, &own->config, &own->options, out));
    else DSC_TRY(try_recomputations(row, &own->config, &own->options, out));
out:
    dsc_attention_destroy(attention);
    free(own);
    if (status == DSC_OK) return DSC_OK;
    out->is_evaluated = false;
    dsc_text_fini(&out->reason);
    add_reason(dsc_message(), &out->reason);
    return status == DSC_EINVAL || status == DSC_ENOTSUP || status == DSC_EINFEASIBLE ? DSC_OK : status;
}

/* ---- The table */

enum { ADDED = 5 };
static const char *const added[ADDED] = {"predicted_step_time_s", "predicted_tflops_per_gpu", "predicted_memory_GB",
                                         "feasible", "reason"};

static dsc_status write_answer(dsc_csv *csv, const row *row, const int64_t at[ADDED], const answer *answer)
{
    const double unit = strstr(row_cell(row, ROW_NOTES), "GiB") != NULL ? 0x1p30 : 1e9;
    char cells[3][32] = {"", "", ""};
    dsc_status status = DSC_OK;

    if (answer->is_evaluated) {
        snprintf(cells[0], sizeof cells[0], "%.9g", answer->step_s);
        snprintf(cells[1], sizeof cells[1], "%.6g", answer->tflops_per_gpu);
        snprintf(cells[2], sizeof cells[2], "%.6g", (double)answer->memory_bytes / unit);
    }
    for (int i = 0; i < 3; i++) DSC_TRY(dsc_csv_set(csv, row->index, at[i], cells[i]));
    DSC_TRY(dsc_csv_set(csv, row->index, at[3], !answer->is_evaluated ? "" : answer->feasible ? "true" : "false"));
    if (answer->reason.failed) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "--batch: a row's reason"));
    DSC_TRY(dsc_csv_set(csv, row->index, at[4], dsc_text_str(&answer->reason)));
out:
    return status;
}

static dsc_status answer_rows(dsc_csv *csv, row *row, const tool_inputs *inputs, const plan_options *options,
                              const dsc_given *given)
{
    dsc_status status = DSC_OK;
    int64_t at[ADDED];
    answer answer = {0};

    for (int i = 0; i < ADDED; i++) DSC_TRY(dsc_csv_add(csv, added[i], &at[i]));
    for (row->index = 1; row->index < csv->count; row->index++) {
        if (csv->rows[row->index].count == 0) continue;
        DSC_TRY(answer_row(row, inputs, options, given, &answer));
        DSC_TRY(write_answer(csv, row, at, &answer));
        dsc_text_fini(&answer.reason);
    }
out:
    if (status != DSC_OK && row->index > 0)
        dsc_fail_in(status, "%s:%lld", csv->name, (long long)csv->rows[row->index].line);
    dsc_text_fini(&answer.reason);
    return status;
}

/* What would be every row's reason. */
static dsc_status check_table_options(const tool_inputs *inputs, const plan_options *options)
{
    const dsc_config *config = &inputs->config;
    dsc_calibration calibration;
    dsc_cluster *any = NULL;
    dsc_status status = DSC_OK;
    const dsc_stack *stack;

    dsc_calibration_init(&calibration);
    if (config->gradient_accumulation_steps > 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--batch %s: --gradient-accumulation-steps %" PRId64 " follows from a row's "
                         "batch; leave it out", options->batch, config->gradient_accumulation_steps));
    DSC_TRY(dsc_cluster_load(*dsc_cluster_presets(), &any));
    DSC_TRY(find_stack(options->stack, config, any, &stack));
    DSC_TRY(read_calibration(options->calibration, &calibration));
    DSC_TRY(check_output(options->out));
out:
    dsc_cluster_destroy(any);
    dsc_calibration_fini(&calibration);
    return status;
}

dsc_status evaluate_table(const tool_inputs *inputs, const plan_options *options, const dsc_given *given)
{
    dsc_status status = DSC_OK;
    dsc_text text = {0};
    dsc_csv csv = {0};
    row row;

    DSC_TRY(check_table_options(inputs, options));
    DSC_TRY(dsc_csv_load(options->batch, &csv));
    DSC_TRY(row_init(&csv, &row));
    DSC_TRY(answer_rows(&csv, &row, inputs, options, given));
    dsc_csv_print(&csv, &text);
    if (text.failed) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "%s: the table's text", options->batch));
    DSC_TRY(write_text(options->out[0] == '\0' ? "-" : options->out, &text));
out:
    dsc_text_fini(&text);
    dsc_csv_fini(&csv);
    return status;
}
