/* --smallest-cluster and --largest-model: how few nodes meet a deadline, and how large a model fits, by the search of
 * one strategy after another size. */
#include "base/log.h"
#include "base/parse.h"
#include "tools/plan/plan.h"
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Nodes that are tried where --cluster names no number; heads of the family are multiples of these, so that there are
 * tensor ranks to cut them; between doublings nodes go by sixteenths. */
enum { MOST_NODES = 4096, HEADS_STEP = 8, HEAD_SIZE = 128, MOST_LAYERS = 1 << 14, PARTS = 16, MOST_TRIALS = 64 };

static const double day = 86400;

/* A size, nodes or layers, and the fastest strategy there. */
typedef struct trial { int64_t size; int64_t devices, parameters; best best; bool is_met; } trial;

typedef struct scale {
    const tool_inputs *inputs;
    const plan_options *options;
    const dsc_given *given;
    dsc_model model;
    dsc_cluster *cluster;
    double deadline_s;
    trial trials[MOST_TRIALS]; int64_t count;
    int64_t illegal;                    /* trials of which no strategy is legal */
} scale;

static int by_size(const void *a, const void *b)
{
    const trial *x = a, *y = b;

    return (x->size > y->size) - (x->size < y->size);
}

/* Where no strategy is legal none fits. */
static dsc_status try_on(scale *s, const dsc_model *model, dsc_cluster *cluster, trial *t)
{
    dsc_status status = find_best(s->inputs, s->options, s->given, model, cluster, &t->best);

    s->illegal += status == DSC_EINVAL || status == DSC_ENOTSUP;
    if (status == DSC_EINVAL || status == DSC_ENOTSUP) status = DSC_OK;
    return status;
}

static trial *add(scale *s, int64_t size)
{
    trial *t = &s->trials[s->count++];

    *t = (trial){.size = size};
    return t;
}

/* Sorts; the trial moves. */
static trial *put_in_order(scale *s, const trial *t)
{
    const int64_t size = t->size;
    trial *there = s->trials;

    qsort(s->trials, (size_t)s->count, sizeof *s->trials, by_size);
    while (there->size != size) there++;
    return there;
}

static dsc_status load(scale *s)
{
    dsc_status status = DSC_OK;

    if (s->inputs->config.strategy.global_batch <= 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "%s searches strategies of one batch: give --global-batch",
                         s->options->smallest_cluster ? "--smallest-cluster" : "--largest-model"));
    DSC_TRY(dsc_model_load(s->inputs->model, &s->model));
    DSC_TRY(dsc_plan_load_cluster(s->inputs->cluster, &s->inputs->config, &s->cluster));
    if (s->cluster->is_local)
        status = DSC_FAIL(DSC_EINVAL, "--cluster %s is this machine; --smallest-cluster and --largest-model take one "
                          "that is described", s->inputs->cluster);
out:
    return status;
}

static void unload(scale *s)
{
    if (s == NULL) return;
    for (int64_t i = 0; i < s->count; i++) json_decref(s->trials[i].best.json);
    dsc_cluster_destroy(s->cluster);
    free(s);
}

static dsc_status create(const tool_inputs *inputs, const plan_options *options, const dsc_given *given, scale **out)
{
    scale *s = calloc(1, sizeof *s);
    dsc_status status = DSC_OK;

    if (s == NULL) return DSC_FAIL(DSC_ENOMEM, "dsc-plan: %zu bytes", sizeof *s);
    s->inputs = inputs;
    s->options = options;
    s->given = given;
    DSC_TRY(load(s));
    *out = s;
    s = NULL;
out:
    unload(s);
    return status;
}

static dsc_status print_object(json_t *object)
{
    const bool is_printed = object != NULL && json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) == 0;

    json_decref(object);
    return is_printed && putchar('\n') != EOF ? DSC_OK : DSC_FAIL(DSC_EIO, "standard output cannot be written");
}

static void print_text(dsc_text *text)
{
    fputs(dsc_text_str(text), stdout);
    dsc_text_fini(text);
}

/* ---- The smallest cluster */

/* The cluster with so many nodes; its last tier joins them all. */
static dsc_status try_nodes(scale *s, int64_t nodes, trial **out)
{
    dsc_cluster *cluster = NULL;
    dsc_status status = DSC_OK;
    dsc_tier *last;
    trial *t = add(s, nodes);

    *out = t;
    DSC_TRY(dsc_cluster_copy(s->cluster, &cluster));
    cluster->nodes[0].count = nodes;
    last = &cluster->network[cluster->tier_count - 1];
    if (cluster->tier_count > 0) last->nodes = DSC_MAX(nodes, cluster->tier_count > 1 ? last[-1].nodes : 1);
    t->devices = dsc_cluster_devices(cluster);
    DSC_TRY(try_on(s, &s->model, cluster, t));
    t->is_met = t->best.fits && t->best.days * day <= s->deadline_s;
out:
    dsc_cluster_destroy(cluster);
    return status;
}

/* The number behind a preset's name. */
static int64_t most_nodes(const scale *s)
{
    const char *number = strrchr(s->inputs->cluster, ':');

    return number != NULL && isdigit((unsigned char)number[1]) ? dsc_cluster_nodes(s->cluster) : MOST_NODES;
}

/* The trial of fewest nodes that is met; NULL: none is. */
static dsc_status find_smallest(scale *s, trial **out)
{
    const int64_t most = most_nodes(s);
    int64_t low = 0, high = 1, step;
    dsc_status status = DSC_OK;
    trial *t = NULL;

    *out = NULL;
    for (; *out == NULL; low = high, high = DSC_MIN(2 * high, most)) {
        DSC_TRY(try_nodes(s, high, &t));
        if (t->is_met) {
            *out = t;
            break;
        }
        if (high == most) goto out;
    }
    step = DSC_MAX(high / PARTS, 1);
    while (high - low > step) {
        const int64_t middle = low + DSC_MAX((high - low) / (2 * step), 1) * step;

        DSC_TRY(try_nodes(s, middle, &t));
        if (t->is_met) *out = t;
        *(t->is_met ? &high : &low) = middle;
    }
out:
    return status;
}

static void print_row(const trial *t, dsc_text *out)
{
    dsc_text_add(out, "%8" PRId64 " %8" PRId64, t->size, t->devices);
    if (t->best.fits) {
        print_candidate(&t->best.c, out);
        dsc_text_add(out, " %12s %12s %10.4g%s\n", dsc_bytes_str(t->best.peak_bytes).str,
                     dsc_ns_str(t->best.step_ns).str, t->best.days, t->is_met ? "" : "  too late");
    } else dsc_text_add(out, "  none fits\n");
}

static void print_smallest(const scale *s, const trial *found)
{
    dsc_text text = {0};

    dsc_text_add(&text, "smallest   %" PRId64 " node%s, %" PRId64 " devices: %s tokens in %.4g of %.4g days\n",
                 found->size, found->size == 1 ? "" : "s", found->devices, s->options->tokens,
                 found->best.days, s->deadline_s / day);
    dsc_text_add(&text, "%8s %8s", "nodes", "devices");
    print_candidate_heading(&text);
    dsc_text_add(&text, " %12s %12s %10s\n", "memory", "step", "days");
    for (int64_t i = 0; i < s->count; i++) print_row(&s->trials[i], &text);
    print_text(&text);
}

static json_t *trial_json(const trial *t)
{
    return json_pack("{s:I, s:I, s:b, s:o, s:o, s:b}", "nodes", (json_int_t)t->size, "devices", (json_int_t)t->devices,
                     "fits", t->best.fits, "step_s",
                     t->best.fits ? json_real((double)t->best.step_ns / 1e9) : json_null(), "days",
                     t->best.fits && isfinite(t->best.days) ? json_real(t->best.days) : json_null(), "in_time",
                     t->is_met);
}

static json_t *smallest_json(const scale *s, const trial *found)
{
    json_t *tried = json_array();

    for (int64_t i = 0; i < s->count; i++) json_array_append_new(tried, trial_json(&s->trials[i]));
    return json_pack("{s:I, s:I, s:f, s:f, s:O, s:o}", "nodes", (json_int_t)found->size, "devices",
                     (json_int_t)found->devices, "days", found->best.days, "deadline_days", s->deadline_s / day,
                     "strategy", found->best.json, "tried", tried);
}

/* "30d", "12h", "3600s" */
static dsc_status parse_deadline(const char *words, double *out)
{
    static const struct { char name; double s; } units[] = {{'s', 1}, {'h', 3600}, {'d', 86400}};
    char number[sizeof ((plan_options *)0)->deadline];
    const size_t length = strlen(words);
    double value;

    for (int64_t i = 0; length > 1 && i < DSC_COUNT(units); i++) {
        if (words[length - 1] != units[i].name) continue;
        snprintf(number, sizeof number, "%.*s", (int)length - 1, words);
        if (dsc_parse_real("--deadline", number, 1e-9, 1e12, &value) != DSC_OK) return DSC_EINVAL;
        *out = value * units[i].s;
        return DSC_OK;
    }
    return DSC_FAIL(DSC_EINVAL, "--deadline %s: a number and its unit, s, h or d, as 30d", words);
}

/* Before the search, whose strategies may be refused one by one. */
static dsc_status check_smallest(scale *s)
{
    const dsc_strategy *strategy = &s->inputs->config.strategy;
    const int64_t seq = strategy->seq_len > 0 ? strategy->seq_len : s->model.seq;
    dsc_status status = DSC_OK;
    int64_t tokens;

    DSC_TRY(parse_deadline(s->options->deadline, &s->deadline_s));
    DSC_TRY(dsc_parse_count("--tokens", s->options->tokens, 1, INT64_C(1) << 60, &tokens));
    if (tokens / seq < strategy->global_batch) /* their product may be over 2^63 */
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--tokens %s: a step has global batch %" PRId64 " x %" PRId64 " tokens",
                         s->options->tokens, strategy->global_batch, seq));
    if (s->cluster->node_group_count != 1)
        status = DSC_FAIL(DSC_EINVAL, "--smallest-cluster: %s has %" PRId64 " groups of nodes; give one of one kind",
                          s->inputs->cluster, s->cluster->node_group_count);
out:
    return status;
}

/* What the most nodes come to. */
static dsc_status fail_smallest(const scale *s)
{
    const trial *t = &s->trials[s->count - 1];

    if (!t->best.fits)
        return s->illegal == s->count
                   ? dsc_fail_in(DSC_EINVAL, "--smallest-cluster: of no number of nodes one is legal; the last")
                   : DSC_FAIL(DSC_EINFEASIBLE, "--smallest-cluster: up to %" PRId64 " nodes none fits", t->size);
    return DSC_FAIL(DSC_EINFEASIBLE, "--smallest-cluster: %" PRId64 " nodes take %.4g days for %s tokens, and the "
                    "deadline is %.4g", t->size, t->best.days, s->options->tokens, s->deadline_s / day);
}

dsc_status show_smallest(const tool_inputs *inputs, const plan_options *options, const dsc_given *given)
{
    dsc_status status = DSC_OK;
    scale *s = NULL;
    trial *found;

    DSC_TRY(create(inputs, options, given, &s));
    DSC_TRY(check_smallest(s));
    dsc_log_to(NULL, NULL, DSC_WARNING); /* notes would not say of which size they are */
    DSC_TRY(find_smallest(s, &found));
    if (found == NULL) DSC_TRY(fail_smallest(s));
    found = put_in_order(s, found);
    if (options->json) DSC_TRY(print_object(smallest_json(s, found)));
    else print_smallest(s, found);
out:
    unload(s);
    return status;
}

/* ---- The largest model */

/* Of the family: heads of 128, as many as layers, to the next multiple of 8; hidden is what they hold, and the MLP as
 * wide for it as in the given model. Keys and values keep their heads where these divide, else each head has its own.
 * Vocabulary, sequence and all else are the given model's. */
static dsc_model model_of(const dsc_model *like, int64_t layers)
{
    dsc_model model = *like;
    dsc_text words = {0};

    model.layers = layers;
    model.heads = dsc_ceil_div(layers, HEADS_STEP) * HEADS_STEP;
    model.hidden = HEAD_SIZE * model.heads;
    model.ffn = model.heads * dsc_ceil_div(HEAD_SIZE * like->ffn, like->hidden);
    if (like->kv_heads == like->heads || model.heads % like->kv_heads != 0) model.kv_heads = model.heads;
    dsc_model_words(&model, &words);
    snprintf(model.name, sizeof model.name, "%s", dsc_text_str(&words));
    dsc_text_fini(&words);
    return model;
}

static dsc_status try_layers(scale *s, int64_t layers, trial **out)
{
    const dsc_model model = model_of(&s->model, layers);
    trial *t = add(s, layers);
    dsc_status status = DSC_OK;

    *out = t;
    t->devices = dsc_cluster_devices(s->cluster);
    t->parameters = dsc_model_parameters(&model);
    DSC_TRY(try_on(s, &model, s->cluster, t));
    t->is_met = t->best.fits;
out:
    return status;
}

/* Doubled until nothing fits, then halved between. NULL: not even one layer fits. */
static dsc_status find_largest(scale *s, trial **out)
{
    int64_t low = 0, high = 1;
    dsc_status status = DSC_OK;
    trial *t;

    *out = NULL;
    for (; high <= MOST_LAYERS; low = high, high *= 2) {
        DSC_TRY(try_layers(s, high, &t));
        if (!t->is_met) break;
        *out = t;
    }
    while (*out != NULL && high - low > 1) {
        const int64_t middle = (low + high) / 2;

        DSC_TRY(try_layers(s, middle, &t));
        if (t->is_met) *out = t;
        *(t->is_met ? &low : &high) = middle;
    }
out:
    return status;
}

static void print_model_row(const trial *t, dsc_text *out)
{
    dsc_text_add(out, "%8" PRId64 " %10s", t->size, dsc_count_str((double)t->parameters).str);
    if (t->best.fits) {
        print_candidate(&t->best.c, out);
        dsc_text_add(out, " %12s %12s\n", dsc_bytes_str(t->best.peak_bytes).str, dsc_ns_str(t->best.step_ns).str);
    } else dsc_text_add(out, "  none fits\n");
}

static void print_largest(const scale *s, const trial *found)
{
    const dsc_model model = model_of(&s->model, found->size);
    dsc_text text = {0};

    dsc_text_add(&text, "largest    %s parameters on %" PRId64 " devices: --model ",
                 dsc_count_str((double)found->parameters).str, found->devices);
    dsc_model_words(&model, &text);
    dsc_text_add(&text, "\n%8s %10s", "layers", "parameters");
    print_candidate_heading(&text);
    dsc_text_add(&text, " %12s %12s\n", "memory", "step");
    for (int64_t i = 0; i < s->count; i++) print_model_row(&s->trials[i], &text);
    print_text(&text);
}

static json_t *largest_json(const scale *s, const trial *found)
{
    const dsc_model model = model_of(&s->model, found->size);
    json_t *tried = json_array(), *object;
    dsc_text words = {0};

    dsc_model_words(&model, &words);
    for (int64_t i = 0; i < s->count; i++)
        json_array_append_new(tried, json_pack("{s:I, s:I, s:b}", "layers", (json_int_t)s->trials[i].size, "parameters",
                                               (json_int_t)s->trials[i].parameters, "fits", s->trials[i].best.fits));
    object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:O, s:o}", "model", dsc_text_str(&words), "layers",
                       (json_int_t)model.layers, "hidden", (json_int_t)model.hidden, "heads", (json_int_t)model.heads,
                       "parameters", (json_int_t)found->parameters, "devices", (json_int_t)found->devices, "strategy",
                       found->best.json, "tried", tried);
    dsc_text_fini(&words);
    return object;
}

dsc_status show_largest(const tool_inputs *inputs, const plan_options *options, const dsc_given *given)
{
    dsc_status status = DSC_OK;
    scale *s = NULL;
    trial *found;

    DSC_TRY(create(inputs, options, given, &s));
    dsc_log_to(NULL, NULL, DSC_WARNING); /* notes would not say of which size they are */
    DSC_TRY(find_largest(s, &found));
    if (found == NULL && s->illegal == s->count)
        DSC_TRY(dsc_fail_in(DSC_EINVAL, "--largest-model: of no size one is legal; the last"));
    if (found == NULL)
        DSC_TRY(DSC_FAIL(DSC_EINFEASIBLE, "--largest-model: on %" PRId64 " devices not even %s fits",
                         s->trials[0].devices, model_of(&s->model, 1).name));
    found = put_in_order(s, found);
    if (options->json) DSC_TRY(print_object(largest_json(s, found)));
    else print_largest(s, found);
out:
    unload(s);
    return status;
}
