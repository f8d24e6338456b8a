#include "base/csv.h"
#include "tests/tap.h"
#include <string.h>

static dsc_status parse(const char *text, dsc_csv *out)
{
    return dsc_csv_parse("table.csv", text, (int64_t)strlen(text), out);
}

/* Whether the table prints as that. */
static bool prints(const dsc_csv *csv, const char *expected)
{
    dsc_text text = {0};
    bool is_equal;

    dsc_csv_print(csv, &text);
    is_equal = CHECK(strcmp(dsc_text_str(&text), expected) == 0, "\"%s\"", dsc_text_str(&text));
    dsc_text_fini(&text);
    return is_equal;
}

static void takes_quotes_off(void)
{
    dsc_csv csv;

    if (CHECK_OK(parse("a,\"b,c\",d\n1,\"say \"\"no\"\"\",\"two\nlines\"\n,\"\",\n", &csv))) {
        CHECK(csv.count == 3 && csv.rows[0].count == 3, "%d rows of %d", (int)csv.count, (int)csv.rows[0].count);
        CHECK(dsc_csv_find(&csv, "b,c") == 1 && dsc_csv_find(&csv, "e") == -1, "other columns");
        CHECK(dsc_equal(dsc_csv_text(&csv, 1, 1), "say \"no\""), "%s", dsc_csv_text(&csv, 1, 1));
        CHECK(dsc_equal(dsc_csv_text(&csv, 1, 2), "two\nlines"), "%s", dsc_csv_text(&csv, 1, 2));
        CHECK(dsc_equal(dsc_csv_text(&csv, 2, 1), "") && dsc_equal(dsc_csv_text(&csv, 2, -1), ""), "not empty");
        CHECK(csv.rows[1].line == 2 && csv.rows[2].line == 4, "line %d", (int)csv.rows[2].line);
    }
    dsc_csv_fini(&csv);
}

static void keeps_bytes(void)
{
    static const char *const texts[] = {
        "a,b\n1,2\n", "a,b\r\n1,\"2\"\r\n", "\xef\xbb\xbfname\nx", "a,b\n\n1,2\r\n\r\n", "\"a\",\" b\"\n\"\",\n",
        "a,b\n\"x\r\ny\",\xc3\xa9\n"};

    for (int64_t i = 0; i < DSC_COUNT(texts); i++) {
        dsc_csv csv;

        if (CHECK_OK(parse(texts[i], &csv))) prints(&csv, texts[i]);
        dsc_csv_fini(&csv);
    }
}

static void adds_and_sets(void)
{
    int64_t column = 0;
    dsc_csv csv;

    if (CHECK_OK(parse("\xef\xbb\xbf\"a\",b\r\n1,2\r\n\r\n3,4", &csv)) && CHECK_OK(dsc_csv_add(&csv, "c", &column)) &&
        CHECK(column == 2, "column %d", (int)column)) {
        CHECK_OK(dsc_csv_set(&csv, 1, 2, "x, \"y\""));
        CHECK_OK(dsc_csv_set(&csv, 3, 2, " z"));
        CHECK_OK(dsc_csv_set(&csv, 3, 2, "z\n"));
        CHECK_OK(dsc_csv_add(&csv, "b", &column));
        CHECK_OK(dsc_csv_set(&csv, 3, column, "5"));
        CHECK(dsc_equal(dsc_csv_text(&csv, 1, 2), "x, \"y\"") && dsc_csv_find(&csv, "a") == 0, "other text");
        prints(&csv, "\xef\xbb\xbf\"a\",b,c\r\n1,2,\"x, \"\"y\"\"\"\r\n\r\n3,5,\"z\n\"");
    }
    dsc_csv_fini(&csv);
}

static void names_the_place(void)
{
    static const struct { const char *text, *place; } table[] = {
        {"a,b\n1,\"2", "table.csv:2:3: "},      {"a,b\n\n\"x\n\"y,2\n", "table.csv:4:2: "},
        {"a,b\n1,2\"\n", "table.csv:2:4: "},    {"a,b\n1\n", "table.csv:2:2: 1 cells"},
        {"a,b\n1,2,3\n", "table.csv:2:5: "},    {"a,b\r1,2\n", "table.csv:1:4: "},
        {"", "table.csv:1:1: "},                {"\n1\n", "table.csv:1:1: "},
        {"a,bc,a\n", "table.csv:1:6: "},        {"\xef\xbb\xbf" "a,b\"\n", "table.csv:1:4: "},
    };

    for (int64_t i = 0; i < DSC_COUNT(table); i++) {
        dsc_csv csv;

        CHECK(parse(table[i].text, &csv) == DSC_EINVAL, "%s was taken", table[i].text);
        CHECK(strncmp(dsc_message(), table[i].place, strlen(table[i].place)) == 0, "message \"%s\" of \"%s\"",
              dsc_message(), table[i].text);
        dsc_csv_fini(&csv);
    }
}

static void refuses_a_nul(void)
{
    dsc_csv csv;

    CHECK(dsc_csv_parse("table.csv", "a,b\n1,\0", 7, &csv) == DSC_EINVAL, "it was taken");
    CHECK(strstr(dsc_message(), "table.csv:2:3: ") != NULL, "message \"%s\"", dsc_message());
    dsc_csv_fini(&csv);
}

static void refuses_unreadable_paths(void)
{
    dsc_csv csv;

    CHECK(dsc_csv_load("/nowhere/at/all.csv", &csv) == DSC_EINVAL, "it was found");
    CHECK(strstr(dsc_message(), "/nowhere/at/all.csv") != NULL, "message \"%s\"", dsc_message());
    dsc_csv_fini(&csv);
    CHECK(dsc_csv_load("/", &csv) == DSC_EINVAL, "a folder was read");
    dsc_csv_fini(&csv);
}

/* What is taken is printed as it was, also after a column was added and read again. */
static void survives_noise(void)
{
    static const char alphabet[] = "\"\",,\n\r ab\xef\xbb\xbf";
    int64_t column = 0;
    char text[24];

    for (int i = 0; i < 20000; i++) {
        const int64_t length = tap_random_between(0, sizeof text - 1);
        dsc_csv csv;

        for (int64_t k = 0; k < length; k++) text[k] = alphabet[tap_random_between(0, sizeof alphabet - 2)];
        text[length] = '\0';
        if (parse(text, &csv) == DSC_OK) {
            prints(&csv, text);
            CHECK_OK(dsc_csv_add(&csv, "a,b", &column));
        }
        dsc_csv_fini(&csv);
    }
}

static const tap_case cases[] = {
    {"quotes, doubled quotes and lines in quotes are read", takes_quotes_off},
    {"what is not changed is printed byte by byte", keeps_bytes},
    {"columns are added behind the others, and cells quoted where they have to be", adds_and_sets},
    {"a message names file, line and column", names_the_place},
    {"a NUL is refused", refuses_a_nul},
    {"what cannot be read is refused by its path", refuses_unreadable_paths},
    {"any text is refused, or kept", survives_noise},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
