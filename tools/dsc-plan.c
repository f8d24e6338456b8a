/* dsc-plan: what a strategy needs of memory and time on a described cluster, before anyone runs it. */
#include "base/log.h"
#include "tools/plan/plan.h"
#include "store/trace_file.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const tool self = {"dsc-plan",
                          "dsc-plan --model MODEL --cluster CLUSTER [OPTION]...\n"
                          "       dsc-plan --model MODEL --cluster CLUSTER --search [--top N] [OPTION]...\n"
                          "       dsc-plan --model MODEL --cluster CLUSTER --smallest-cluster --tokens N --deadline T "
                          "[OPTION]...\n"
                          "       dsc-plan --model MODEL --cluster CLUSTER --largest-model [OPTION]...\n"
                          "       dsc-plan --batch FILE.csv [-o OUT.csv] [OPTION]...",
                          "Predict memory and time of training a transformer on a described cluster."};

#define TEXT(word, member, what, text)                                                                          \
    {.name = word, .type = DSC_FIELD_STRING, .offset = offsetof(plan_options, member),                          \
     .size = sizeof ((plan_options *)0)->member, .argument = what, .help = text}
#define FLAG(word, member, text) \
    {.name = word, .type = DSC_FIELD_FLAG, .offset = offsetof(plan_options, member), .help = text}

static const dsc_field fields[] = {
    FLAG("json", json,
         "print one JSON object; with --search, --what-if, --longest-seq and --list-... an array of them"),
    FLAG("explain", explain,
         "print memory, program, prices and cluster, of a long program a digest; without --model the cluster as JSON"),
    FLAG("check", check, "say what the check of the whole machine proved (it always runs)"),
    TEXT("calibration", calibration, "FILE.h5[,FILE.h5]", "prices that dsc-bench measured on this kind of machine"),
    TEXT("html", html, "FILE.html",
         "write one page for a browser: memory, time, timeline, placement; - is standard output"),
    TEXT("trace", trace, "FILE.h5", "write the predicted trace"),
    TEXT("trace-ranks", trace_ranks, "folded|all|LIST", "ranks whose rows are traced; a list as 0,3,8-15 (folded)"),
    {.name = "eval-every", .type = DSC_FIELD_INT, .offset = offsetof(plan_options, eval_every), .low = 1, .high = 1e15,
     .argument = "K", .help = "predict the steps that evaluate too, as dsc-run's --eval-every takes them"},
    TEXT("show-layout", show_layout, "FILE|NAME",
         "print a sparse layout, of --seq-len tokens (1024) and --num-heads: dense, fixed, variable, bigbird, "
         "bslongformer, local, a configuration's sparse_attention, or a file of blocks"),
    {.name = "num-heads", .type = DSC_FIELD_INT, .offset = offsetof(plan_options, num_heads), .low = 1, .high = 65536,
     .argument = "H", .help = "heads of the layout that is shown (1)"},
    TEXT("svg", svg, "FILE.svg", "draw the layout that is shown into a file"),
    FLAG("longest-seq", longest_seq,
         "print the longest sequence that fits, in steps of 128, with this --attention, dense and dense-unfused"),
    FLAG("break-even", break_even,
         "print below which rate of the network 1-bit Adam's compressed steps are faster than exact ones"),
    FLAG("what-if", what_if,
         "print step time, memory and feasibility with one thing of the cluster changed at a time"),
    TEXT("emit", emit, "DIR",
         "write the plan into a folder that dsc-run --plan DIR executes, with a launch line and a Slurm script"),
    FLAG("search", search,
         "rank strategies by step time, over what is not given of tp, pp, dp, micro-batch, virtual stages, schedule, "
         "ZeRO, offload, recompute and sequence parallelism; needs --global-batch"),
    {.name = "top", .type = DSC_FIELD_INT, .offset = offsetof(plan_options, top), .low = 1, .high = 1000,
     .argument = "N", .help = "strategies that --search prints (10)"},
    FLAG("smallest-cluster", smallest_cluster,
         "print the fewest nodes of --cluster's kind on which some strategy trains --tokens before the --deadline"),
    TEXT("deadline", deadline, "30d", "of --smallest-cluster: a number and s, h or d"),
    FLAG("largest-model", largest_model,
         "print the largest model of hidden 128 x layers, vocab and seq of --model, that some strategy fits"),
    TEXT("batch", batch, "FILE.csv",
         "evaluate each row of a table of trainings, by the names of columns, and print it with predictions added"),
    TEXT("o", out, "OUT.csv", "file for the table of --batch; - is standard output (-)"),
    FLAG("list-models", list_models, "print the presets of models"),
    FLAG("list-clusters", list_clusters, "print the presets of clusters"),
    TEXT("stack", stack, "LABEL|auto",
         "whose software is priced; auto: by GPU, precision, ZeRO, attention and layout (auto)"),
    FLAG("list-stacks", list_stacks, "print the kinds of software that are known"),
    {0}};

static const char *const drives[] = {"nvme", NULL};

static const dsc_field run_fields[] = {
    TEXT("tokens", tokens, "N", "predict the run until so many tokens: days, failures, checkpoints, energy; 300B, 15T"),
    {.name = "mtbf", .type = DSC_FIELD_REAL, .offset = offsetof(plan_options, mtbf_h), .low = 1e-3, .high = 1e9,
     .argument = "HOURS", .help = "mean time between failures of a node (the cluster's, else 50700 / its GPUs)"},
    {.name = "restart-time", .type = DSC_FIELD_REAL, .offset = offsetof(plan_options, restart_s), .low = 0,
     .high = 1e9, .argument = "SECONDS",
     .help = "from a failure until the last checkpoint is being read (600)"},
    {.name = "checkpoint-rate", .type = DSC_FIELD_BYTES, .offset = offsetof(plan_options, checkpoint_rate), .low = 1,
     .high = 0x1p60, .choices = drives, .argument = "SIZE|nvme",
     .help = "bytes a second of checkpoints, to and from shared storage (the cluster's, else 711MB a node); nvme: of "
             "the node's own drives, where all ranks are on one node (nothing else uses them)"},
    {.name = "energy-price", .type = DSC_FIELD_REAL, .offset = offsetof(plan_options, energy_price), .low = 0,
     .high = 1e9, .argument = "X", .help = "of a kWh, in any currency"},
    {0}};

/* ---- Lists */

/* Takes the reference. */
static dsc_status print_array(json_t *array)
{
    const bool is_printed = array != NULL && json_dumpf(array, stdout, JSON_INDENT(2)) == 0;

    json_decref(array);
    return is_printed && putchar('\n') != EOF ? DSC_OK : DSC_FAIL(DSC_EIO, "standard output cannot be written");
}

/* A model's inline keys, which --model takes, behind its name. */
static dsc_status list_models_json(void)
{
    dsc_status status = DSC_OK;
    json_t *array = json_array();

    for (const char *const *name = dsc_model_presets(); *name != NULL; name++) {
        json_t *object = json_pack("{s:s}", "name", *name), *keys;
        dsc_model model;
        char *text;

        json_array_append_new(array, object);
        DSC_TRY(dsc_model_load(*name, &model));
        text = dsc_model_json(&model);
        keys = text == NULL ? NULL : json_loads(text, 0, NULL);
        json_object_update_missing(object, keys);
        json_object_set_new(object, "parameters", json_integer(dsc_model_parameters(&model)));
        json_decref(keys);
        free(text);
    }
    return print_array(array);
out:
    json_decref(array);
    return status;
}

static dsc_status list_clusters_json(void)
{
    dsc_status status = DSC_OK;
    json_t *array = json_array();

    for (const char *const *name = dsc_cluster_presets(); *name != NULL; name++) {
        dsc_cluster *cluster = NULL;
        dsc_place place;

        DSC_TRY(dsc_cluster_load(*name, &cluster));
        DSC_TRY(dsc_cluster_place(cluster, 0, &place));
        json_array_append_new(
            array, json_pack("{s:s, s:I, s:I, s:s, s:I}", "name", *name, "nodes",
                             (json_int_t)dsc_cluster_nodes(cluster), "devices",
                             (json_int_t)dsc_cluster_devices(cluster), "device", place.device->name, "memory_bytes",
                             (json_int_t)place.device->memory_bytes));
        dsc_cluster_destroy(cluster);
    }
    return print_array(array);
out:
    json_decref(array);
    return status;
}

static dsc_status list_models(void)
{
    dsc_status status = DSC_OK;
    dsc_text text = {0};

    for (const char *const *name = dsc_model_presets(); *name != NULL; name++) {
        dsc_model model;

        DSC_TRY(dsc_model_load(*name, &model));
        dsc_model_print(&model, &text);
        dsc_text_add(&text, "\n");
    }
    fputs(dsc_text_str(&text), stdout);
out:
    dsc_text_fini(&text);
    return status;
}

static dsc_status list_clusters(void)
{
    dsc_status status = DSC_OK;
    dsc_text text = {0};

    for (const char *const *name = dsc_cluster_presets(); *name != NULL; name++) {
        dsc_cluster *cluster = NULL;

        DSC_TRY(dsc_cluster_load(*name, &cluster));
        dsc_cluster_print(cluster, &text);
        dsc_cluster_destroy(cluster);
    }
    fputs(dsc_text_str(&text), stdout);
out:
    dsc_text_fini(&text);
    return status;
}

static dsc_status list_stacks(void)
{
    int64_t count;
    const dsc_stack *stacks = dsc_stacks(&count);

    for (int64_t i = 0; i < count; i++) printf("%-15s %s\n", stacks[i].name, stacks[i].what);
    return DSC_OK;
}

static dsc_status list_stacks_json(void)
{
    int64_t count;
    const dsc_stack *stacks = dsc_stacks(&count);
    json_t *array = json_array();

    for (int64_t i = 0; i < count; i++)
        json_array_append_new(array, json_pack("{s:s, s:s}", "name", stacks[i].name, "what", stacks[i].what));
    return print_array(array);
}

static dsc_status print_cluster(const tool_inputs *inputs)
{
    dsc_cluster *cluster = NULL;
    dsc_status status = DSC_OK;
    char *text = NULL;

    DSC_TRY(dsc_plan_load_cluster(inputs->cluster, &inputs->config, &cluster));
    text = dsc_cluster_json(cluster);
    if (text == NULL) status = DSC_FAIL(DSC_ENOMEM, "cluster: its description");
    else puts(text);
out:
    free(text);
    dsc_cluster_destroy(cluster);
    return status;
}

/* ---- One strategy */

/* A page on standard output stands there alone. */
static dsc_status print_result(const evaluation *e, const plan_options *options)
{
    dsc_status status = DSC_OK;
    dsc_text text = {0};

    if (dsc_equal(options->html, "-")) return DSC_OK;
    if (options->json) return print_json(e, stdout);
    print_summary(e, options, &text);
    if (options->explain) DSC_TRY(print_explanation(e, &text));
    if (text.failed) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "the result's text"));
    fputs(dsc_text_str(&text), stdout);
out:
    dsc_text_fini(&text);
    return status;
}

/* What is read back was reported when it was read. */
static dsc_status emit_quietly(const tool_inputs *inputs, const plan_options *options, const evaluation *e)
{
    dsc_status status;

    tool_progress(&self, inputs->progress, "writing %s", options->emit);
    dsc_log_to(NULL, NULL, DSC_WARNING);
    status = emit(e, inputs->attention, options->emit);
    tool_log(&self);
    return status;
}

/* Nothing is printed before all that can fail is done. */
static dsc_status plan(tool_inputs *inputs, const plan_options *options)
{
    double *ratio = &inputs->config.strategy.offload_ratio;
    dsc_status status = DSC_OK;
    evaluation *e = calloc(1, sizeof *e);

    if (e == NULL) return DSC_FAIL(DSC_ENOMEM, "dsc-plan: %zu bytes", sizeof *e);
    tool_progress(&self, inputs->progress, "evaluating %s on %s", inputs->model, inputs->cluster);
    DSC_TRY(choose_ratio(inputs, options, ratio));
    tool_log(&self);
    DSC_TRY(evaluate(inputs, options, e));
    DSC_TRY(plan_campaign(options, e));
    if (options->trace[0] != '\0') {
        tool_progress(&self, inputs->progress, "writing %s", options->trace);
        status = dsc_trace_save(options->trace, &e->trace);
        if (status != DSC_OK) status = DSC_EIO; /* that it can be opened is known */
        DSC_TRY(status);
    }
    if (options->emit[0] != '\0' && e->feasible) DSC_TRY(emit_quietly(inputs, options, e));
    if (options->html[0] != '\0') {
        tool_progress(&self, inputs->progress, "writing %s", options->html);
        DSC_TRY(write_page(self.name, e, NULL, 0, options));
    }
    DSC_TRY(print_result(e, options));
    if (!e->feasible) status = DSC_FAIL(DSC_EINFEASIBLE, "%s", e->reason);
out:
    evaluation_fini(e);
    free(e);
    return status;
}

/* ---- A table of them */

static dsc_status plan_table(const tool_inputs *inputs, const plan_options *options, const dsc_given *given)
{
    dsc_status status;

    if (inputs->model[0] != '\0' || inputs->cluster[0] != '\0')
        return DSC_FAIL(DSC_EINVAL, "--batch %s: its rows say model and cluster; leave out --model and --cluster",
                        options->batch);
    tool_progress(&self, inputs->progress, "evaluating the rows of %s", options->batch);
    dsc_log_to(NULL, NULL, DSC_WARNING); /* notes would not say of which row they are */
    status = evaluate_table(inputs, options, given);
    tool_log(&self);
    return status;
}

/* What needs --tokens. */
static dsc_status check_run_options(const plan_options *o)
{
    if (o->tokens[0] == '\0' && (o->mtbf_h > 0 || o->restart_s >= 0 || o->energy_price > 0))
        return DSC_FAIL(DSC_EINVAL, "--mtbf, --restart-time and --energy-price are for --tokens N");
    if (o->smallest_cluster && o->checkpoint_rate == DSC_AUTO)
        return DSC_FAIL(DSC_EINVAL, "--checkpoint-rate nvme is of one node, and --smallest-cluster asks how many");
    if (o->tokens[0] == '\0' && o->emit[0] == '\0' && o->checkpoint_rate != 0)
        return DSC_FAIL(DSC_EINVAL, "--checkpoint-rate is for --tokens N and --emit DIR");
    if (o->smallest_cluster && (o->tokens[0] == '\0' || o->deadline[0] == '\0'))
        return DSC_FAIL(DSC_EINVAL, "--smallest-cluster needs --tokens N and --deadline TIME");
    return DSC_OK;
}

/* Paths that are no files, or cannot be written, are known before the work. */
static dsc_status check_paths(const plan_options *o)
{
    dsc_status status = DSC_OK;

    if (o->trace_ranks[0] != '\0' && o->trace[0] == '\0')
        return DSC_FAIL(DSC_EINVAL, "--trace-ranks needs --trace FILE.h5");
    if (dsc_equal(o->html, "-") && (o->json || o->explain || o->check))
        return DSC_FAIL(DSC_EINVAL, "--html - is alone on standard output; leave out --json, --explain and --check");
    DSC_TRY(tool_check_path("--trace", o->trace, "a trace is an HDF5 file"));
    DSC_TRY(tool_check_path("--calibration", o->calibration, "a calibration is an HDF5 file"));
    DSC_TRY(tool_check_path("--emit", o->emit, "a plan is a folder"));
    DSC_TRY(check_output(o->trace));
    DSC_TRY(check_output(o->html));
    if (o->emit[0] != '\0') DSC_TRY(check_emit(o->emit));
out:
    return status;
}

/* ---- Many of them */

/* No value of an axis: what is left of it nobody has given. */
enum { NOT_GIVEN = -7 };

static dsc_config without_axes(bool sequence_parallel)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_strategy *s = &config.strategy;

    s->tp = s->pp = s->dp = s->micro_batch = s->virtual_stages = NOT_GIVEN;
    s->schedule = s->zero = s->offload = s->recompute = NOT_GIVEN;
    s->sequence_parallel = sequence_parallel;
    return config;
}

/* What stays as it was when CONFIG and the command line are read again is free. Their notes have been printed. */
static dsc_status find_given(int argc, char **argv, const dsc_field_table *own, const tool_inputs *inputs,
                             dsc_given *out)
{
    dsc_config without = without_axes(false), with = without_axes(true);
    const dsc_strategy *s = &without.strategy;
    dsc_status status = DSC_OK;

    dsc_log_to(NULL, NULL, DSC_WARNING);
    DSC_TRY(tool_said(argc, argv, own, inputs, &without));
    DSC_TRY(tool_said(argc, argv, own, inputs, &with));
    *out = (dsc_given){.tp = s->tp != NOT_GIVEN, .pp = s->pp != NOT_GIVEN, .dp = s->dp != NOT_GIVEN,
                       .micro_batch = s->micro_batch != NOT_GIVEN, .virtual_stages = s->virtual_stages != NOT_GIVEN,
                       .schedule = s->schedule != NOT_GIVEN, .zero = s->zero != NOT_GIVEN,
                       .offload = s->offload != NOT_GIVEN, .recompute = s->recompute != NOT_GIVEN,
                       .sequence_parallel = s->sequence_parallel == with.strategy.sequence_parallel};
out:
    tool_log(&self);
    return status;
}

/* Their search has sent the log nowhere. */
static dsc_status end_scaling(dsc_status status)
{
    tool_log(&self);
    return status;
}

static bool is_scaling(const plan_options *o) { return o->smallest_cluster || o->largest_model; }

static bool is_of_many(const plan_options *o)
{
    return o->batch[0] != '\0' || o->search || is_scaling(o) || o->what_if || o->break_even || o->longest_seq;
}

static dsc_status act(tool_inputs *inputs, const plan_options *options, const dsc_given *given)
{
    dsc_status status = DSC_OK;

    if (options->list_models) return options->json ? list_models_json() : list_models();
    if (options->list_clusters) return options->json ? list_clusters_json() : list_clusters();
    if (options->list_stacks) return options->json ? list_stacks_json() : list_stacks();
    if (options->show_layout[0] != '\0') return show_layout(options, inputs->config.strategy.seq_len);
    if (inputs->config.strategy.offload_ratio < 0 && is_of_many(options))
        return DSC_FAIL(DSC_EINVAL, "--offload-ratio auto is for one strategy; give the number that it prints");
    if (options->batch[0] != '\0') return plan_table(inputs, options, given);
    if (inputs->cluster[0] == '\0')
        return DSC_FAIL(DSC_EINVAL, "--cluster is missing: a preset (--list-clusters), a JSON file, or local");
    if (inputs->model[0] == '\0' && options->explain) return print_cluster(inputs);
    if (inputs->model[0] == '\0')
        return DSC_FAIL(DSC_EINVAL, "--model is missing: a preset (--list-models), a config.json, or layers=N,hidden=N,"
                        "heads=N,vocab=N,seq=N");
    if (options->longest_seq && inputs->config.strategy.seq_len > 0)
        return DSC_FAIL(DSC_EINVAL, "--longest-seq finds --seq-len, %" PRId64 " here; leave it out",
                        inputs->config.strategy.seq_len);
    DSC_TRY(check_run_options(options));
    DSC_TRY(check_paths(options));
    if (options->what_if) return show_what_if(inputs, options);
    if (options->break_even) return show_break_even(inputs, options);
    if (options->longest_seq) return show_longest(inputs, options);
    if (is_scaling(options))
        tool_progress(&self, inputs->progress, "searching strategies of sizes of %s on %s", inputs->model,
                      inputs->cluster);
    if (options->smallest_cluster) return end_scaling(show_smallest(inputs, options, given));
    if (options->largest_model) return end_scaling(show_largest(inputs, options, given));
    if (options->search) {
        tool_progress(&self, inputs->progress, "searching strategies of %s on %s", inputs->model, inputs->cluster);
        return show_search(inputs, options, given, &self);
    }
    status = plan(inputs, options);
out:
    return status;
}

int main(int argc, char **argv)
{
    static tool_inputs inputs;
    static plan_options options = {.restart_s = -1};
    static bool is_given[DSC_COUNT(fields)], is_given_of_run[DSC_COUNT(run_fields)];
    const dsc_field_table own[] = {
        {.title = "What to show", .fields = fields, .base = &options, .given = is_given},
        {.title = "A run of many steps", .fields = run_fields, .base = &options, .given = is_given_of_run},
        {0}};
    dsc_status status = DSC_OK;
    dsc_given given = {0};

    options.words = argv;
    tool_log(&self);
    DSC_TRY(tool_load(argc, argv, own, &inputs));
    if (inputs.asked == 0) DSC_TRY(check_question(own));
    if (inputs.asked == 0 && (options.search || is_scaling(&options) || options.batch[0] != '\0'))
        DSC_TRY(find_given(argc, argv, own, &inputs, &given));
    if (inputs.asked != 0) tool_answer(&self, own, inputs.asked);
    else DSC_TRY(act(&inputs, &options, &given));
out:
    tool_unload(&inputs);
    return tool_end(&self, status);
}
