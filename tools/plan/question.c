/* The one question that a command line asks of dsc-plan, and the options that go with it: others would be ignored. */
#include "tools/plan/plan.h"
#include <stdio.h>
#include <string.h>

/* The option that asks, "" where one strategy is evaluated, and its company. Those of strategy and training go with
 * all; what one of these options needs is checked where it is used. */
typedef struct question { const char *name, *takes; } question;

#define RUN " tokens mtbf restart-time checkpoint-rate energy-price "
#define PRICES " stack calibration "

static const question questions[] = {
    {"list-models", " json "},
    {"list-clusters", " json "},
    {"list-stacks", " json "},
    {"show-layout", " json svg num-heads "},
    {"batch", " o " PRICES},
    {"search", " json top html " PRICES},
    {"smallest-cluster", " json deadline " RUN PRICES},
    {"largest-model", " json " PRICES},
    {"what-if", " json stack "},
    {"break-even", " json " PRICES},
    {"longest-seq", " json " PRICES},
    {"", " json explain check html trace trace-ranks eval-every emit " RUN PRICES}};

static const question *find(const char *name)
{
    for (int64_t i = 0; i < DSC_COUNT(questions); i++)
        if (name[0] != '\0' && dsc_equal(questions[i].name, name)) return &questions[i];
    return NULL;
}

static bool takes(const question *asked, const char *name)
{
    char word[64];

    snprintf(word, sizeof word, " %s ", name);
    return strstr(asked->takes, word) != NULL;
}

/* A flag that was taken back (--no-x) is none. */
static bool is_given(const dsc_field_table *table, int64_t row)
{
    const dsc_field *field = &table->fields[row];

    if (!table->given[row] || field->type != DSC_FIELD_FLAG) return table->given[row];
    return *(const bool *)((const char *)table->base + field->offset);
}

static dsc_status refuse(const question *asked, const char *name)
{
    const char *dashes = strlen(name) > 1 ? "--" : "-";
    dsc_text takers = {0};
    dsc_status status;

    if (asked->name[0] != '\0')
        return DSC_FAIL(DSC_EINVAL, "--%s goes without %s%s", asked->name, dashes, name);
    for (int64_t i = 0; i < DSC_COUNT(questions); i++)
        if (takes(&questions[i], name))
            dsc_text_add(&takers, "%s--%s", takers.count > 0 ? " and " : "", questions[i].name);
    status = DSC_FAIL(DSC_EINVAL, "%s%s is for %s", dashes, name, dsc_text_str(&takers));
    dsc_text_fini(&takers);
    return status;
}

static dsc_status find_question(const dsc_field_table *own, const question **out)
{
    const question *asked = NULL;

    for (; own->fields != NULL; own++)
        for (int64_t i = 0; own->fields[i].name != NULL; i++) {
            const question *other = is_given(own, i) ? find(own->fields[i].name) : NULL;

            if (asked != NULL && other != NULL)
                return DSC_FAIL(DSC_EINVAL, "--%s and --%s are two questions; ask one", asked->name, other->name);
            if (other != NULL) asked = other;
        }
    *out = asked != NULL ? asked : &questions[DSC_COUNT(questions) - 1];
    return DSC_OK;
}

dsc_status check_question(const dsc_field_table *own)
{
    const question *asked = &questions[DSC_COUNT(questions) - 1];
    dsc_status status = DSC_OK;

    DSC_TRY(find_question(own, &asked));
    for (; own->fields != NULL; own++)
        for (int64_t i = 0; own->fields[i].name != NULL; i++) {
            const char *name = own->fields[i].name;

            if (is_given(own, i) && find(name) != asked && !takes(asked, name)) return refuse(asked, name);
        }
out:
    return status;
}
