#include "tools/common.h"
#include "base/log.h"
#include "base/parse.h"
#include "model/attention.h"
#include "store/layout_file.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OWN_TABLES = 4, ALL_TABLES = OWN_TABLES + 4 }; /* at most, of a tool; and the row of zeros counted */

const dsc_field tool_progress_fields[] = {
    {.name = "progress", .type = DSC_FIELD_FLAG, .help = "a line on standard error for every step of the work"},
    {0}};

const dsc_field tool_plan_fields[] = {
    {.name = "plan", .type = DSC_FIELD_STRING, .offset = offsetof(tool_inputs, plan), .size = 4096, .argument = "DIR",
     .help = "folder that dsc-plan --emit wrote, in place of --model, --cluster and --config"},
    {0}};

static const dsc_field input_fields[] = {
    {.name = "model", .type = DSC_FIELD_STRING, .offset = offsetof(tool_inputs, model), .size = 4096,
     .argument = "MODEL",
     .help = "preset, Hugging Face config.json (gpt2, llama, bert) or its folder, or layers=N,hidden=N,heads=N,vocab=N,"
             "seq=N"},
    {.name = "cluster", .type = DSC_FIELD_STRING, .offset = offsetof(tool_inputs, cluster), .size = 4096,
     .argument = "CLUSTER", .help = "preset[:NODES], JSON description, hwloc XML file or synthetic string, or local"},
    {.name = "config", .type = DSC_FIELD_STRING, .offset = offsetof(tool_inputs, config_path), .size = 4096,
     .argument = "FILE", .help = "training configuration, DeepSpeed's JSON; options override it"},
    {0}};

/* Each line of the text with the tool's name; that the last one ends, too, adds none. */
static void print_lines(const tool *self, const char *mark, const char *text)
{
    while (*text != '\0') {
        int length = (int)strcspn(text, "\n");

        fprintf(stderr, "%s: %s%.*s\n", self->name, mark, length, text);
        text += length + (text[length] == '\n');
    }
}

static void write_lines(dsc_level level, const char *text, void *context)
{
    print_lines(context, level == DSC_WARNING ? "warning: " : "", text);
}

void tool_log(const tool *self)
{
    dsc_log_to(write_lines, (void *)self, DSC_NOTE);
}

void tool_progress(const tool *self, bool is_asked, const char *format, ...)
{
    char text[4096];
    va_list arguments;

    if (!is_asked) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    print_lines(self, "", text);
}

/* All tables of a command line: inputs, the tool's own, progress, configuration. */
static void list_tables(const dsc_field_table *own, tool_inputs *inputs, dsc_config *config,
                        dsc_field_table out[ALL_TABLES])
{
    int count = 0;

    out[count++] = (dsc_field_table){.title = "What to plan", .fields = input_fields, .base = inputs};
    for (int i = 0; i < OWN_TABLES && own[i].fields != NULL; i++) out[count++] = own[i];
    out[count++] = (dsc_field_table){.title = "Messages", .fields = tool_progress_fields, .base = &inputs->progress};
    out[count++] = (dsc_field_table){.title = "Strategy and training", .fields = dsc_config_fields(), .base = config};
    out[count] = (dsc_field_table){0};
}

static dsc_status parse(int argc, char **argv, const dsc_field_table *own, dsc_config *config, tool_inputs *out)
{
    dsc_field_table tables[ALL_TABLES];
    int operands = 0;

    list_tables(own, out, config, tables);
    return dsc_options_parse(argc, argv, tables, NULL, &operands, &out->asked);
}

/* See tool_load. said: what the command line alone gives; file_batch: CONFIG's train_batch_size; 0 is "not given". */
static void merge_batch(const dsc_config *said, int64_t file_batch, dsc_config *config)
{
    dsc_strategy *strategy = &config->strategy;
    int64_t *accumulation = &config->gradient_accumulation_steps;
    bool says_accumulation = said->gradient_accumulation_steps != 0;
    bool says_batch = said->strategy.micro_batch != 0 || said->strategy.global_batch != 0;

    if (strategy->micro_batch != 0 && strategy->global_batch != 0 && *accumulation != 0) {
        if (says_batch && !says_accumulation) *accumulation = 0;
        else if (says_accumulation && said->strategy.global_batch == 0) strategy->global_batch = 0;
        else if (says_accumulation && said->strategy.micro_batch == 0) strategy->micro_batch = 0;
    }
    if (strategy->micro_batch == 0 && (strategy->global_batch == 0 || (*accumulation == 0 && file_batch == 0)))
        strategy->micro_batch = 1;
}

/* said: by the command line, which then has no file to name. */
static dsc_status load_attention(const dsc_config *said, tool_inputs *out)
{
    char where[sizeof out->config_path + 32];
    dsc_status status;

    if (said->sparse_attention[0] != '\0') strcpy(where, "--sparse-attention");
    else snprintf(where, sizeof where, "%s: sparse_attention", out->config_path);
    status = dsc_attention_create(out->config.strategy.attention, where, out->config.sparse_attention, dsc_layout_load,
                                  &out->attention);
    out->config.attention = out->attention;
    return status;
}

/* ---- A plan's folder */

static dsc_status enter_file(const char *plan, const char *name, char out[4096])
{
    if (snprintf(out, 4096, "%s/%s", plan, name) < 4096) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "--plan %.60s...: a path has at most 4095 bytes", plan);
}

static dsc_status enter_plan(tool_inputs *out)
{
    dsc_status status = DSC_OK;

    if (out->model[0] != '\0' || out->cluster[0] != '\0' || out->config_path[0] != '\0')
        return DSC_FAIL(DSC_EINVAL, "--plan %s: the plan says model, cluster and configuration; leave out --model, "
                        "--cluster and --config", out->plan);
    DSC_TRY(dsc_plan_folder_load(out->plan, &out->facts));
    DSC_TRY(enter_file(out->plan, DSC_PLAN_MODEL, out->model));
    DSC_TRY(enter_file(out->plan, DSC_PLAN_CLUSTER, out->cluster));
    DSC_TRY(enter_file(out->plan, DSC_PLAN_CONFIG, out->config_path));
out:
    return status;
}

/* Files that the plan's configuration names lie in its folder: ./F is DIR/F, at the start and behind each `=`. */
static dsc_status enter_attention(const char *plan, char words[256])
{
    dsc_text entered = {0};
    dsc_status status = DSC_OK;

    for (const char *at = words; *at != '\0'; at++) {
        const bool begins = at == words || at[-1] == '=';

        if (begins && strncmp(at, "./", 2) == 0) dsc_text_add(&entered, "%s/", plan), at += 1;
        else dsc_text_add(&entered, "%c", *at);
    }
    if (entered.count >= 256)
        status = DSC_FAIL(DSC_EINVAL, "--plan %s: --attention %s is longer than 255 bytes; a shorter path to the plan "
                          "is needed", plan, dsc_text_str(&entered));
    else snprintf(words, 256, "%s", dsc_text_str(&entered));
    dsc_text_fini(&entered);
    return status;
}

dsc_status tool_load(int argc, char **argv, const dsc_field_table *own, tool_inputs *out)
{
    dsc_config said = DSC_CONFIG_DEFAULT;
    int64_t file_batch;
    dsc_status status;

    memset(out, 0, sizeof *out);
    out->config = DSC_CONFIG_DEFAULT;
    DSC_TRY(parse(argc, argv, own, &said, out)); /* to know CONFIG, and what the command line says by itself */
    if (out->asked != 0) goto out;
    if (out->plan[0] != '\0') DSC_TRY(enter_plan(out));
    if (out->config_path[0] != '\0') DSC_TRY(dsc_config_load(out->config_path, &out->config));
    if (out->plan[0] != '\0') DSC_TRY(enter_attention(out->plan, out->config.strategy.attention));
    file_batch = out->config.strategy.global_batch;
    DSC_TRY(parse(argc, argv, own, &out->config, out));
    merge_batch(&said, file_batch, &out->config);
    DSC_TRY(dsc_config_check(&out->config));
    dsc_config_report(&out->config);
    DSC_TRY(load_attention(&said, out));
out:
    return status;
}

dsc_status tool_said(int argc, char **argv, const dsc_field_table *own, const tool_inputs *inputs, dsc_config *config)
{
    tool_inputs *again = malloc(sizeof *again);
    dsc_status status = DSC_OK;

    if (again == NULL) return DSC_FAIL(DSC_ENOMEM, "options: %zu bytes", sizeof *again);
    *again = *inputs;
    if (inputs->config_path[0] != '\0') DSC_TRY(dsc_config_load(inputs->config_path, config));
    DSC_TRY(parse(argc, argv, own, config, again));
out:
    free(again);
    return status;
}

void tool_unload(tool_inputs *inputs)
{
    dsc_attention_destroy(inputs->attention);
    inputs->attention = NULL;
    inputs->config.attention = NULL;
}

void tool_answer_alone(const tool *self, const dsc_field_table *tables, int asked)
{
    dsc_text text = {0};

    if (asked == 'v')
        dsc_text_add(&text, "%s (dsc) %s\n", self->name, PACKAGE_VERSION);
    else
        dsc_options_help(self->usage, self->summary, tables, &text);
    fputs(dsc_text_str(&text), stdout);
    dsc_text_fini(&text);
}

void tool_answer(const tool *self, const dsc_field_table *own, int asked)
{
    dsc_field_table tables[ALL_TABLES];
    tool_inputs inputs = {0};
    dsc_config config = DSC_CONFIG_DEFAULT;

    list_tables(own, &inputs, &config, tables);
    tool_answer_alone(self, tables, asked);
}

dsc_status tool_check_path(const char *what, const char *path, const char *kind)
{
    if (!dsc_equal(path, "-")) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s -: %s and needs a path", what, kind);
}

/* "list, verify or diff" */
static dsc_short list_commands(const tool_command *commands)
{
    dsc_short out = {""};
    size_t used = 0;

    for (const tool_command *c = commands; c->name != NULL && used < sizeof out.str; c++)
        used += (size_t)snprintf(out.str + used, sizeof out.str - used, "%s%s",
                                 c == commands ? "" : c[1].name == NULL ? " or " : ", ", c->name);
    return out;
}

static dsc_status run_command(const tool *self, const tool_command *commands, bool progress, const void *options,
                              const char *const *operands, int count)
{
    const char *names[TOOL_COMMANDS + 1] = {NULL};
    const tool_command *command;
    int which = 0;

    if (count == 0)
        return DSC_FAIL(DSC_EINVAL, "a command is missing: %s; see --help", list_commands(commands).str);
    for (int i = 0; commands[i].name != NULL; i++) names[i] = commands[i].name;
    if (dsc_parse_choice("command", operands[0], names, &which) != DSC_OK) return DSC_EINVAL;
    command = &commands[which];
    if (count - 1 != command->count)
        return DSC_FAIL(DSC_EINVAL, "%s takes %d paths, %d given: %s %s %s", command->name, command->count, count - 1,
                        self->name, command->name, command->operands);
    for (int i = 1; i < count; i++)
        if (tool_check_path(command->name, operands[i], command->kind) != DSC_OK) return DSC_EINVAL;
    tool_progress(self, progress, "%s %s%s%s", command->name, operands[1], count > 2 ? " " : "",
                  count > 2 ? operands[2] : "");
    return command->run(options, operands + 1);
}

int tool_run(const tool *self, int argc, char **argv, const dsc_field_table *options, const tool_command *commands)
{
    const char *operands[TOOL_OPERANDS];
    int count = TOOL_OPERANDS, asked = 0;
    bool progress = false;
    const dsc_field_table tables[] = {options[0],
                                      {.title = "Messages", .fields = tool_progress_fields, .base = &progress},
                                      {0}};
    dsc_status status;

    tool_log(self);
    status = dsc_options_parse(argc, argv, tables, operands, &count, &asked);
    if (asked != 0) tool_answer_alone(self, tables, asked);
    else if (status == DSC_OK) status = run_command(self, commands, progress, options[0].base, operands, count);
    return tool_end(self, status);
}

int tool_end(const tool *self, dsc_status status)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        if (status == DSC_OK) status = DSC_FAIL(DSC_EIO, "standard output cannot be written");
    if (status != DSC_OK) print_lines(self, "", dsc_message());
    return dsc_exit_status(status);
}
