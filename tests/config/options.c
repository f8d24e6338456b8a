/* Command lines, and the --help that the same tables give. */
#include "config/config.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 16 };

typedef struct own_options { char output[64]; char path[64]; int64_t steps; bool dry_run; } own_options;

static const dsc_field own_fields[] = {
    {.name = "o", .type = DSC_FIELD_STRING, .offset = offsetof(own_options, output), .size = 64, .argument = "FILE"},
    {.name = "path", .type = DSC_FIELD_STRING, .offset = offsetof(own_options, path), .size = 64, .argument = "FILE"},
    {.name = "steps", .type = DSC_FIELD_INT, .offset = offsetof(own_options, steps), .low = 0, .high = 0x1p63},
    {.name = "dry-run", .type = DSC_FIELD_FLAG, .offset = offsetof(own_options, dry_run), .help = "only say"},
    {0},
};

static own_options own;
static dsc_config config;
static bool given_own[DSC_COUNT(own_fields)];
static const char *operands[2];
static int operand_count, asked;

/* Parses words apart by spaces, as a shell would. */
static dsc_status parse(const char *line)
{
    static char copy[1024];
    char *argv[MOST_WORDS + 2] = {"program"}, *rest = copy, *word;
    const dsc_field_table tables[] = {{"Own", own_fields, &own, given_own},
                                      {"Training", dsc_config_fields(), &config, NULL},
                                      {0}};
    int argc = 1;

    strcpy(copy, line);
    while (argc <= MOST_WORDS && (word = strsep(&rest, " ")) != NULL)
        if (*word != '\0') argv[argc++] = word;
    own = (own_options){.steps = 7};
    config = DSC_CONFIG_DEFAULT;
    memset(given_own, 0, sizeof given_own);
    operand_count = DSC_COUNT(operands);
    return dsc_options_parse(argc, argv, tables, operands, &operand_count, &asked);
}

static void both_forms_are_read(void)
{
    if (!CHECK_OK(parse("--tp 4 --lr=1e-4 --sequence-parallel --schedule gpipe --device-memory 16GiB "
                        "--precision bf16")))
        return;
    CHECK(config.strategy.tp == 4 && config.lr == 1e-4, "tp %lld, lr %g", (long long)config.strategy.tp, config.lr);
    CHECK(config.strategy.sequence_parallel, "the flag is not set");
    CHECK(config.strategy.schedule == DSC_GPIPE, "schedule %d", config.strategy.schedule);
    CHECK(config.strategy.device_memory_bytes == INT64_C(16) << 30, "%lld bytes",
          (long long)config.strategy.device_memory_bytes);
    CHECK(config.strategy.precision == DSC_BF16, "precision %d", config.strategy.precision);
}

static void a_number_may_be_left_to_the_planner(void)
{
    char *text;

    if (!CHECK_OK(parse("--offload-ratio auto"))) return;
    CHECK(config.strategy.offload_ratio == DSC_AUTO, "ratio %g", config.strategy.offload_ratio);
    text = dsc_config_json(&config);
    CHECK(text != NULL && strstr(text, "\"offload_ratio\":\"auto\"") != NULL, "%s", text);
    free(text);
    CHECK(parse("--lr auto") == DSC_EINVAL && parse("--offload-ratio -1") == DSC_EINVAL, "another number is, too");
}

static void last_one_counts(void)
{
    if (!CHECK_OK(parse("--tp 4 --tp 8 --dry-run --no-dry-run"))) return;
    CHECK(config.strategy.tp == 8 && !own.dry_run, "tp %lld, dry run %d", (long long)config.strategy.tp, own.dry_run);
}

static void words_without_dashes_are_operands(void)
{
    if (!CHECK_OK(parse("left --steps 3 -- --right"))) return;
    CHECK(operand_count == 2, "%d operands", operand_count);
    CHECK(strcmp(operands[0], "left") == 0 && strcmp(operands[1], "--right") == 0, "%s and %s", operands[0],
          operands[1]);
    CHECK(own.steps == 3, "%lld steps", (long long)own.steps);
    if (!CHECK_OK(parse("-"))) return;
    CHECK(operand_count == 1 && strcmp(operands[0], "-") == 0, "%d operands", operand_count);
}

static void letters_take_values(void)
{
    if (!CHECK_OK(parse("-o out.csv"))) return;
    CHECK(strcmp(own.output, "out.csv") == 0, "%s", own.output);
    if (!CHECK_OK(parse("-oout.csv"))) return;
    CHECK(strcmp(own.output, "out.csv") == 0, "%s", own.output);
}

static void says_what_was_given(void)
{
    if (!CHECK_OK(parse("--steps 7"))) return;
    CHECK(given_own[2] && !given_own[0] && !given_own[1] && !given_own[3], "not the third alone");
}

static void help_stops(void)
{
    CHECK_OK(parse("--tp 4 --help --tp none"));
    CHECK(asked == 'h', "asked %d", asked);
    CHECK_OK(parse("--version"));
    CHECK(asked == 'v', "asked %d", asked);
}

static void bad_lines_are_refused(void)
{
    static const struct { const char *line, *words[2]; } lines[] = {
        {"--tpp 2", {"--tpp", "did you mean \"--tp\""}},
        {"--frobnicate", {"unknown option \"--frobnicate\""}},
        {"--tp two", {"--tp", "two"}},
        {"--tp 0", {"--tp: 0", "1 .. "}},
        {"--tp -4", {"--tp: -4", "1 .. "}},
        {"--tp 1.5", {"--tp", "1.5"}},
        {"--tp 4611686018427387904", {"--tp", "4611686018427387904"}},
        {"--tp", {"--tp", "value is missing"}},
        {"--tp=", {"--tp: the value is empty"}},
        {"--rank-order=", {"--rank-order: the value is empty"}},
        {"--steps -3", {"--steps", "-3"}},
        {"--device-memory 80GX", {"--device-memory", "80GX"}},
        {"--device-memory 0", {"--device-memory", "0"}},
        {"--precision fp7", {"--precision", "fp7"}},
        {"--schedule zigzag", {"--schedule", "zigzag"}},
        {"--zero 4", {"--zero", "4"}},
        {"--lr nan", {"--lr", "nan"}},
        {"--lr inf", {"--lr", "inf"}},
        {"--lr -1", {"--lr", "-1"}},
        {"--beta1 1.5", {"--beta1", "1.5"}},
        {"--seed 9223372036854775808", {"--seed", "9223372036854775808"}},
        {"--seed -1", {"--seed", "-1"}},
        {"--dry-run=1", {"--dry-run", "takes no value"}},
        {"--no-tp 3", {"--no-tp", "unknown"}},
        {"-z", {"-z", "unknown"}},
        {"-o", {"-o", "value is missing"}},
        {"one two three", {"three", "unexpected"}},
        {"--rank-order tp,tp,tp,tp,tp,tp,tp,tp,tp,tp,tp,tp", {"--rank-order", "longer than 31"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(lines); i++) {
        CHECK(parse(lines[i].line) == DSC_EINVAL, "%s is taken", lines[i].line);
        CHECK(strchr(dsc_message(), '\n') == NULL, "%s: several lines: %s", lines[i].line, dsc_message());
        for (int w = 0; w < 2 && lines[i].words[w] != NULL; w++)
            CHECK(strstr(dsc_message(), lines[i].words[w]) != NULL, "%s: no \"%s\" in: %s", lines[i].line,
                  lines[i].words[w], dsc_message());
    }
}

static void failure_leaves_the_field(void)
{
    CHECK(parse("--tp 4 --tp none") == DSC_EINVAL, "taken");
    CHECK(config.strategy.tp == 4, "tp became %lld", (long long)config.strategy.tp);
}

static void help_has_every_option(void)
{
    const dsc_field_table tables[] = {{"Own", own_fields, &own, NULL},
                                      {"Training", dsc_config_fields(), &config, NULL},
                                      {0}};
    dsc_text text = {0};
    char row[128];

    dsc_options_help("program [OPTION]...", "Does it.", tables, &text);
    CHECK(strncmp(dsc_text_str(&text), "Usage: program [OPTION]...\nDoes it.\n", 35) == 0, "%s", dsc_text_str(&text));
    for (const dsc_field *field = dsc_config_fields(); field->name != NULL; field++) {
        snprintf(row, sizeof row, "\n      --%s%s", field->name, field->type == DSC_FIELD_FLAG ? " " : "=");
        CHECK(strstr(dsc_text_str(&text), row) != NULL, "--%s is missing", field->name);
        CHECK(field->help != NULL && field->help[0] != '\0', "--%s has no help", field->name);
    }
    CHECK(strstr(dsc_text_str(&text), "\n  -o FILE") != NULL, "-o is missing");
    dsc_text_fini(&text);
}

static void names_are_unique(void)
{
    for (const dsc_field *a = dsc_config_fields(); a->name != NULL; a++)
        CHECK(dsc_field_find(dsc_config_fields(), a->name) == a, "--%s twice", a->name);
}

static void pairs_are_checked(void)
{
    static const struct { const char *line, *words[2]; } lines[] = {
        {"--beta1 1", {"beta1", "1"}},
        {"--beta2 1", {"beta2", "1"}},
        {"--rank-order tp,xx", {"tp,xx", "xx"}},
        {"--rank-order tp,tp", {"tp,tp", "twice"}},
        {"--rank-order tp,", {"tp,", "none of"}},
        {"--scheduler WarmupDecayLR", {"total_num_steps", NULL}},
        {"--scheduler OneCycle", {"cycle_max_lr", NULL}},
        {"--scheduler OneCycle --cycle-max-lr 1 --cycle-max-mom 1", {"cycle_max_mom", "1"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(lines); i++) {
        if (!CHECK_OK(parse(lines[i].line))) continue;
        CHECK(dsc_config_check(&config) == DSC_EINVAL, "%s passes", lines[i].line);
        for (int w = 0; w < 2 && lines[i].words[w] != NULL; w++)
            CHECK(strstr(dsc_message(), lines[i].words[w]) != NULL, "%s: no \"%s\" in: %s", lines[i].line,
                  lines[i].words[w], dsc_message());
    }
    if (CHECK_OK(parse("--rank-order dp,tp,pp --scheduler WarmupLR"))) CHECK_OK(dsc_config_check(&config));
}

static const tap_case cases[] = {
    {"--x v and --x=v are read", both_forms_are_read},
    {"auto is a word where the planner finds a number, and nowhere else", a_number_may_be_left_to_the_planner},
    {"of an option given twice the last counts", last_one_counts},
    {"words without dashes are operands", words_without_dashes_are_operands},
    {"a letter takes its value behind it or after it", letters_take_values},
    {"rows say whether they were given", says_what_was_given},
    {"--help and --version stop the reading", help_stops},
    {"bad lines are refused in one line that names option and word", bad_lines_are_refused},
    {"a refused value leaves the one before", failure_leaves_the_field},
    {"--help has every option", help_has_every_option},
    {"no two options have one name", names_are_unique},
    {"pairs that cannot be are refused", pairs_are_checked},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
