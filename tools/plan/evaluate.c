#include "tools/plan/html.h"
#include "base/log.h"
#include "base/parse.h"
#include "store/calibration_file.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static dsc_status add_calibration(const char *path, dsc_calibration *into)
{
    dsc_calibration more;
    dsc_status status = DSC_OK;

    dsc_calibration_init(&more);
    DSC_TRY(dsc_calibration_load(path, &more));
    DSC_TRY(dsc_calibration_add(into, &more));
    if (into->machine == NULL && (into->machine = strdup(more.machine)) == NULL)
        status = DSC_FAIL(DSC_ENOMEM, "%s: its machine", path);
out:
    dsc_calibration_fini(&more);
    return status;
}

dsc_status read_calibration(const char *paths, dsc_calibration *into)
{
    char words[4096], *rest = words, *path;
    dsc_status status = DSC_OK;

    snprintf(words, sizeof words, "%s", paths);
    while (paths[0] != '\0' && (path = strsep(&rest, ",")) != NULL) {
        if (path[0] == '\0') return DSC_FAIL(DSC_EINVAL, "--calibration %s: a path is empty", paths);
        DSC_TRY(add_calibration(path, into));
    }
out:
    return status;
}

/* What libraries take of a measured machine is known. */
dsc_status load_calibration(const char *paths, evaluation *e)
{
    dsc_status status = DSC_OK;

    DSC_TRY(read_calibration(paths, &e->calibration));
    for (int64_t t = 0; t < e->cluster->node_type_count && e->calibration.libraries_bytes > 0; t++)
        for (int64_t d = 0; d < e->cluster->node_types[t].device_types; d++)
            e->cluster->node_types[t].devices[d].libraries_bytes = e->calibration.libraries_bytes;
out:
    return status;
}

/* ---- Ranks of --trace-ranks */

/* "3" or "5-7", appended to the list. */
static dsc_status parse_range(const char *words, char *range, int64_t ranks, dsc_sim_options *out, int64_t *list)
{
    char *dash = strchr(range, '-');
    dsc_status status = DSC_OK;
    int64_t first, last;

    if (dash != NULL) *dash = '\0';
    DSC_TRY(dsc_parse_int("--trace-ranks", range, 0, ranks - 1, &first));
    last = first;
    if (dash != NULL) DSC_TRY(dsc_parse_int("--trace-ranks", dash + 1, first, ranks - 1, &last));
    for (int64_t rank = first; rank <= last; rank++) {
        if (out->list_count == ranks)
            return DSC_FAIL(DSC_EINVAL, "--trace-ranks %s names more than the %" PRId64 " ranks", words, ranks);
        list[out->list_count++] = rank;
    }
out:
    return status;
}

/* out->list is *list, which the caller frees. Without --trace and --html no rank's rows are wanted: the list is
 * empty. */
static dsc_status parse_ranks(const plan_options *options, const evaluation *e, int64_t **list, dsc_sim_options *out)
{
    const int64_t ranks = e->plan->ranks;
    char words[sizeof options->trace_ranks], *rest = words, *word;
    dsc_status status = DSC_OK;

    *out = (dsc_sim_options){.ranks = DSC_RANKS_LIST, .evaluates = options->eval_every > 0};
    if (options->trace[0] == '\0') return options->html[0] != '\0' ? html_ranks(e, list, out) : DSC_OK;
    if (options->trace_ranks[0] == '\0' || dsc_equal(options->trace_ranks, "folded")) out->ranks = DSC_RANKS_FOLDED;
    else if (dsc_equal(options->trace_ranks, "all")) out->ranks = DSC_RANKS_ALL;
    else {
        *list = malloc((size_t)ranks * sizeof **list);
        if (*list == NULL) return DSC_FAIL(DSC_ENOMEM, "--trace-ranks: list of %" PRId64 " ranks", ranks);
        memcpy(words, options->trace_ranks, sizeof words);
        while ((word = strsep(&rest, ",")) != NULL)
            DSC_TRY(parse_range(options->trace_ranks, word, ranks, out, *list));
        out->list = *list;
    }
out:
    return status;
}

/* ---- Evaluation */

static dsc_status find_worst(evaluation *e)
{
    dsc_status status = DSC_OK;

    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        worst *worst = &e->worst[space];

        for (int64_t rank = 1; rank < e->plan->ranks; rank++)
            if (e->programs[rank]->arena_bytes[space] > e->programs[worst->rank]->arena_bytes[space])
                worst->rank = rank;
        DSC_TRY(dsc_program_ledger(e->programs[worst->rank], space, &worst->ledger));
    }
out:
    return status;
}

/* That it does not fit is a result, not a failure. */
static dsc_status judge(evaluation *e)
{
    dsc_status status = dsc_program_fits(e->plan, e->programs, e->plan->ranks);

    e->feasible = status == DSC_OK;
    if (status != DSC_EINFEASIBLE) return status;
    snprintf(e->reason, sizeof e->reason, "%s", dsc_message());
    return DSC_OK;
}

dsc_status find_stack(const char *name, const dsc_config *config, const dsc_cluster *cluster, const dsc_stack **out)
{
    const char *names[32];
    const char *nearest;
    int64_t count;
    const dsc_stack *stacks = dsc_stacks(&count);
    dsc_strategy strategy = config->strategy;

    snprintf(strategy.attention, sizeof strategy.attention, "%s",
             dsc_attention_words(config->strategy.attention, config->sparse_attention));
    *out = dsc_stack_find(name[0] == '\0' ? "auto" : name, &strategy, cluster);
    if (*out != NULL) return DSC_OK;
    for (int64_t i = 0; i < count; i++) names[i] = stacks[i].name;
    nearest = dsc_nearest(name, names, count);
    if (nearest == NULL) return DSC_FAIL(DSC_EINVAL, "unknown --stack \"%s\"; --list-stacks lists them", name);
    return DSC_FAIL(DSC_EINVAL, "unknown --stack \"%s\"; did you mean \"%s\"?", name, nearest);
}

void evaluation_init(evaluation *out)
{
    memset(out, 0, sizeof *out);
    out->launches = 1;
    dsc_trace_init(&out->trace);
    dsc_calibration_init(&out->calibration);
}

/* A GPU that nobody says has the precision computes at fp32's rate. */
static void warn_of_peak(const evaluation *e)
{
    const dsc_dtype type = e->plan->product_type;
    dsc_place place;

    if (dsc_cluster_place(e->cluster, 0, &place) != DSC_OK || !place.device->is_gpu) return;
    if (place.device->peak_flops[type] > 0) return;
    dsc_log(DSC_WARNING, "%s: its description has no peak_flops of %s; products are priced at fp32's",
            place.device->name, dsc_dtype_name(type));
}

/* Programs as the software has them. */
static dsc_status place_on(const dsc_config *given, const plan_options *options, evaluation *e)
{
    dsc_config config = *given;
    dsc_status status = DSC_OK;
    const dsc_stack *found;

    DSC_TRY(load_calibration(options->calibration, e));
    DSC_TRY(find_stack(options->stack, &config, e->cluster, &found));
    e->software = *found;
    e->software.host_ns = (int64_t)((double)found->host_ns * e->launches + 0.5);
    e->stack = &e->software;
    dsc_stack_apply(e->stack, e->model.layers, dsc_cluster_devices(e->cluster), &config.strategy);
    DSC_TRY(dsc_programs_place(&e->model, e->cluster, &config, &e->plan, &e->programs));
out:
    return status;
}

dsc_status evaluate_on(const dsc_config *config, const plan_options *options, evaluation *e)
{
    dsc_status status = DSC_OK;
    dsc_sim_options ranks;
    int64_t *list = NULL;

    DSC_TRY(place_on(config, options, e));
    if (options->calibration[0] == '\0') warn_of_peak(e);
    DSC_TRY(parse_ranks(options, e, &list, &ranks));
    if (!options->trusts_builders) DSC_TRY(dsc_program_check(e->plan, e->programs, e->plan->ranks));
    DSC_TRY(find_worst(e));
    DSC_TRY(judge(e));
    DSC_TRY(dsc_prices_create(e->plan, e->cluster, options->calibration[0] == '\0' ? NULL : &e->calibration, e->stack,
                              &e->prices));
    DSC_TRY(dsc_simulate(e->plan, e->cluster, e->programs, e->prices, &ranks, &e->timing, &e->wire_bytes, &e->trace));
out:
    free(list);
    return status;
}

dsc_status fits_on(const dsc_config *config, const plan_options *options, evaluation *e, bool *out)
{
    dsc_status status = DSC_OK;

    DSC_TRY(place_on(config, options, e));
    DSC_TRY(judge(e));
    *out = e->feasible;
out:
    return status;
}

dsc_status evaluate(const tool_inputs *inputs, const plan_options *options, evaluation *out)
{
    dsc_status status = DSC_OK;

    evaluation_init(out);
    DSC_TRY(dsc_model_load(inputs->model, &out->model));
    if (options->longest_seq) out->model.seq = DSC_MAX(out->model.seq, inputs->config.strategy.seq_len);
    DSC_TRY(dsc_plan_load_cluster(inputs->cluster, &inputs->config, &out->cluster));
    DSC_TRY(evaluate_on(&inputs->config, options, out));
out:
    return status;
}

void evaluation_fini(evaluation *e)
{
    dsc_trace_fini(&e->trace);
    dsc_prices_destroy(e->prices);
    if (e->programs != NULL) dsc_programs_destroy(e->plan, e->programs);
    dsc_plan_destroy(e->plan);
    dsc_calibration_fini(&e->calibration);
    dsc_cluster_destroy(e->cluster);
}

void write_order(const dsc_plan *plan, char out[32])
{
    int used = 0;

    for (int i = 0; i < DSC_COUNT(plan->order); i++)
        used += snprintf(out + used, 32 - (size_t)used, "%s%s", i > 0 ? "," : "", DSC_AXIS_NAMES[plan->order[i]]);
}

/* ---- Figures */

double tokens_per_s(const evaluation *e)
{
    const dsc_strategy *s = &e->plan->config.strategy;

    return (double)(s->global_batch * s->seq_len) * 1e9 / (double)e->timing.step_ns;
}

double flops_per_s(const evaluation *e)
{
    double per_token = dsc_model_flops_per_token(&e->model, e->plan->config.strategy.seq_len);

    return per_token * tokens_per_s(e) / (double)e->plan->ranks;
}

double flops_utilization(const evaluation *e)
{
    const dsc_dtype type = e->plan->product_type;
    dsc_place place;

    if (dsc_cluster_place(e->cluster, 0, &place) != DSC_OK || place.device->peak_flops[type] <= 0) return NAN;
    return flops_per_s(e) / place.device->peak_flops[type];
}
