/* Command lines by tables. getopt_long would print by itself and knows no nearest name. */
#include "base/text.h"
#include "config/config.h"
#include <string.h>

/* The row that a word names, and where its value goes. */
typedef struct found {
    const dsc_field *field;
    void *base;
    bool *given;     /* or NULL */
    bool is_negated; /* --no-x */
} found;

static bool find_row(const dsc_field_table *tables, const char *name, found *out)
{
    for (; tables->fields != NULL; tables++)
        for (int64_t i = 0; tables->fields[i].name != NULL; i++)
            if (dsc_equal(tables->fields[i].name, name)) {
                *out = (found){&tables->fields[i], tables->base, tables->given ? &tables->given[i] : NULL, false};
                return true;
            }
    return false;
}

/* name is without its dashes. */
static bool find_option(const dsc_field_table *tables, const char *name, found *out)
{
    if (find_row(tables, name, out)) return true;
    if (strncmp(name, "no-", 3) != 0 || !find_row(tables, name + 3, out)) return false;
    out->is_negated = true;
    return out->field->type == DSC_FIELD_FLAG;
}

static const char *find_nearest(const dsc_field_table *tables, const char *name)
{
    const char *names[512] = {"help", "version"};
    int64_t count = 2;

    for (; tables->fields != NULL; tables++)
        for (const dsc_field *field = tables->fields; field->name != NULL && count < DSC_COUNT(names); field++)
            if (strlen(field->name) > 1) names[count++] = field->name;
    return dsc_nearest(name, names, count);
}

static dsc_status refuse_option(const dsc_field_table *tables, const char *what, const char *name)
{
    const char *nearest = find_nearest(tables, name);

    if (nearest != NULL) return DSC_FAIL(DSC_EINVAL, "unknown option \"%s\"; did you mean \"--%s\"?", what, nearest);
    return DSC_FAIL(DSC_EINVAL, "unknown option \"%s\"", what);
}

static dsc_status set_flag(const found *option, const char *what, const char *value)
{
    if (value != NULL) return DSC_FAIL(DSC_EINVAL, "%s: takes no value, got \"%s\"", what, value);
    return dsc_field_set(option->field, option->base, what, option->is_negated ? "0" : "1");
}

/* An option whose name and value may be one word (value not NULL) or two (*next, then advanced past). */
static dsc_status set_option(const dsc_field_table *tables, const char *what, const char *name, const char *value,
                             char ***next)
{
    found option;
    dsc_status status;

    if (dsc_equal(name, "help") || dsc_equal(name, "version"))
        return DSC_FAIL(DSC_EINVAL, "%s: takes no value, got \"%s\"", what, value == NULL ? "" : value);
    if (!find_option(tables, name, &option)) return refuse_option(tables, what, name);
    if (option.field->type == DSC_FIELD_FLAG) {
        status = set_flag(&option, what, value);
    } else {
        if (value == NULL && **next != NULL) value = *(*next)++;
        if (value == NULL) return DSC_FAIL(DSC_EINVAL, "%s: a value is missing", what);
        if (value[0] == '\0') return DSC_FAIL(DSC_EINVAL, "%s: the value is empty", what);
        status = dsc_field_set(option.field, option.base, what, value);
    }
    if (status == DSC_OK && option.given != NULL) *option.given = true;
    return status;
}

/* `--name`, `--name=value`. */
static dsc_status parse_long(const dsc_field_table *tables, const char *word, char ***next)
{
    char what[128];
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);

    if (length >= sizeof what) return DSC_FAIL(DSC_EINVAL, "unknown option \"%.100s...\"", word);
    memcpy(what, word, length);
    what[length] = '\0';
    return set_option(tables, what, what + 2, equals != NULL ? equals + 1 : NULL, next);
}

/* `-o`, `-ovalue`. */
static dsc_status parse_short(const dsc_field_table *tables, const char *word, char ***next)
{
    const char what[] = {'-', word[1], '\0'};

    return set_option(tables, what, what + 1, word[2] != '\0' ? word + 2 : NULL, next);
}

static dsc_status take_operand(const char *word, const char **operands, int room, int *count)
{
    if (*count >= room) return DSC_FAIL(DSC_EINVAL, "unexpected word \"%s\"", word);
    operands[(*count)++] = word;
    return DSC_OK;
}

dsc_status dsc_options_parse(int argc, char **argv, const dsc_field_table *tables, const char **operands,
                             int *operand_count, int *asked)
{
    dsc_status status = DSC_OK;
    char **next = argv + (argc > 0);
    int room = *operand_count;
    bool are_options = true; /* until "--" */

    *operand_count = 0;
    *asked = 0;
    while (status == DSC_OK && *next != NULL) {
        const char *word = *next++;

        if (are_options && dsc_equal(word, "--help")) return *asked = 'h', DSC_OK;
        if (are_options && dsc_equal(word, "--version")) return *asked = 'v', DSC_OK;
        if (are_options && dsc_equal(word, "--")) are_options = false;
        else if (are_options && strncmp(word, "--", 2) == 0) status = parse_long(tables, word, &next);
        else if (are_options && word[0] == '-' && word[1] != '\0') status = parse_short(tables, word, &next);
        else status = take_operand(word, operands, room, operand_count);
    }
    return status;
}

/* ---- Help */

enum { HELP_COLUMN = 32 };

static void add_choices(const char *const *choices, dsc_text *out)
{
    for (int i = 0; choices[i] != NULL; i++) dsc_text_add(out, "%s%s", i == 0 ? "" : "|", choices[i]);
}

static void add_row(const dsc_field *field, dsc_text *out)
{
    bool is_short = strlen(field->name) == 1;
    int64_t start = out->count;
    int width;

    dsc_text_add(out, is_short ? "  -%s" : "      --%s", field->name);
    if (field->type != DSC_FIELD_FLAG) dsc_text_add(out, is_short ? " " : "=");
    if (field->argument != NULL) dsc_text_add(out, "%s", field->argument);
    else if (field->choices != NULL) add_choices(field->choices, out);
    width = (int)(out->count - start);
    if (width > HELP_COLUMN - 2) dsc_text_add(out, "\n%*s", HELP_COLUMN, "");
    else dsc_text_add(out, "%*s", HELP_COLUMN - width, "");
    dsc_text_add(out, "%s\n", field->help != NULL ? field->help : "");
}

void dsc_options_help(const char *usage, const char *summary, const dsc_field_table *tables, dsc_text *out)
{
    dsc_text_add(out, "Usage: %s\n%s\n", usage, summary);
    for (; tables->fields != NULL; tables++) {
        if (tables->title != NULL) dsc_text_add(out, "\n%s:\n", tables->title);
        for (const dsc_field *field = tables->fields; field->name != NULL; field++) {
            if (field->heading != NULL) dsc_text_add(out, "\n%s:\n", field->heading);
            add_row(field, out);
        }
    }
    dsc_text_add(out, "\nAbout the program:\n%-*s%s\n%-*s%s\n", HELP_COLUMN, "      --help", "show this text and exit",
                 HELP_COLUMN, "      --version", "show the version and exit");
}
