#include "base/json.h"
#include "tests/tap.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/dsc-json-XXXXXX";

/* Loads the text by way of a file; NULL when it is refused. */
static json_t *load(const char *text)
{
    FILE *file = fopen(path, "w");
    json_t *value = NULL;

    if (!CHECK(file != NULL, "cannot write %s", path)) return NULL;
    fputs(text, file);
    fclose(file);
    return dsc_json_load(path, &value) == DSC_OK ? value : NULL;
}

static void takes_liberties(void)
{
    json_t *value = load("{ // to the end\n \"a\": [1, 2, /* not\n 3 */ ], # hash\n"
                         " \"url\": \"http://x/*,]\\\"#\",\n}");
    json_t *expected = json_pack("{s:[ii],s:s}", "a", 1, 2, "url", "http://x/*,]\"#");

    CHECK(value != NULL && json_equal(value, expected), "%s", value == NULL ? dsc_message() : "other value");
    json_decref(value);
    json_decref(expected);
}

static void takes_a_byte_order_mark(void)
{
    json_t *value = load("\xef\xbb\xbf{\"a\": 1}");

    CHECK(value != NULL && json_integer_value(json_object_get(value, "a")) == 1, "%s", dsc_message());
    json_decref(value);
}

static void names_the_place(void)
{
    static const struct { const char *text, *place; } table[] = {
        {"{\n  // comment\n  \"a\": 1 2\n}", ":3:"},
        {"{\"a\": 1,\n /* two\n lines */ \"a\": 2}", ":3:"},
        {"[1,\n2", ":2:"},
        {"[1, \n /* open", ":2:2:"},
        {"", ":1:"},
        {"[nan]", ":1:"},
        {"[1e999]", ":1:"},
        {"[1,,]", ":1:"},
        {"[\"a\nb\"]", ":1:"},
    };

    for (int64_t i = 0; i < DSC_COUNT(table); i++) {
        json_t *value = load(table[i].text);
        size_t length = strlen(path);

        if (!CHECK(value == NULL, "%s was taken", table[i].text)) json_decref(value);
        CHECK(strncmp(dsc_message(), path, length) == 0 &&
                  strncmp(dsc_message() + length, table[i].place, strlen(table[i].place)) == 0,
              "message \"%s\" of %s", dsc_message(), table[i].text);
    }
}

static void refuses_unreadable_paths(void)
{
    json_t *value = NULL;

    CHECK(dsc_json_load("/nowhere/at/all.json", &value) == DSC_EINVAL && value == NULL, "it was found");
    CHECK(strstr(dsc_message(), "/nowhere/at/all.json") != NULL, "message \"%s\"", dsc_message());
    CHECK(dsc_json_load("/", &value) == DSC_EINVAL && value == NULL, "a folder was read");
}

/* Any bytes are refused or taken, without a crash: the sanitizers watch. */
static void survives_noise(void)
{
    static const char alphabet[] = "{}[]\",:\\/*#\n 1ae.-tn";
    char text[64];

    for (int draw = 0; draw < 3000; draw++) {
        int64_t count = tap_random_between(0, sizeof text - 1);

        for (int64_t i = 0; i < count; i++) text[i] = alphabet[tap_random() % (sizeof alphabet - 1)];
        text[count] = '\0';
        json_decref(load(text));
    }
    CHECK(access(path, R_OK) == 0, "%s is gone", path);
}

static void reads_members(void)
{
    json_t *object = load("{\"n\": 5e8, \"x\": 3, \"on\": true, \"s\": \"abc\", \"none\": null, \"later\": \"auto\"}");
    int64_t n = 0, kept = 7;
    double x = 0;
    bool on = false;
    char s[4] = "";

    if (!CHECK(object != NULL, "%s", dsc_message())) return;
    CHECK_OK(dsc_json_int("F", object, "n", 0, INT64_MAX, &n));
    CHECK_OK(dsc_json_real("F", object, "x", 0, 10, &x));
    CHECK_OK(dsc_json_bool("F", object, "on", &on));
    CHECK_OK(dsc_json_string("F", object, "s", s, sizeof s));
    CHECK_OK(dsc_json_int("F", object, "none", 0, 1, &kept));
    CHECK_OK(dsc_json_int("F", object, "later", 0, 1, &kept));
    CHECK_OK(dsc_json_int("F", object, "absent", 0, 1, &kept));
    CHECK(n == 500000000 && x == 3 && on && strcmp(s, "abc") == 0 && kept == 7, "%lld %g %d %s %lld", (long long)n, x,
          on, s, (long long)kept);
    json_decref(object);
}

static void refuses_members(void)
{
    json_t *object = load("{\"half\": 0.5, \"huge\": 1e30, \"word\": \"abcd\", \"list\": [],"
                          " \"n\": 4611686018427387904}");
    int64_t n = 7;
    double x = 7;
    bool on = false;
    char s[4] = "";

    if (!CHECK(object != NULL, "%s", dsc_message())) return;
    CHECK(dsc_json_int("F", object, "half", 0, 10, &n) == DSC_EINVAL, "0.5 is whole");
    CHECK(dsc_json_int("F", object, "huge", 0, INT64_MAX, &n) == DSC_EINVAL, "1e30 fits");
    CHECK(dsc_json_int("F", object, "word", 0, 10, &n) == DSC_EINVAL, "a word is a number");
    CHECK(strcmp(dsc_message(), "F: \"word\": expected a whole number, got \"abcd\"") == 0, "\"%s\"", dsc_message());
    CHECK(dsc_json_int("F", object, "n", 1, 1024, &n) == DSC_EINVAL, "2^62 is in bounds");
    CHECK(strcmp(dsc_message(), "F: \"n\": 4611686018427387904 is outside 1 .. 1024") == 0, "\"%s\"", dsc_message());
    CHECK(dsc_json_real("F", object, "list", 0, 1, &x) == DSC_EINVAL, "a list is a number");
    CHECK(dsc_json_bool("F", object, "half", &on) == DSC_EINVAL, "0.5 is true");
    CHECK(dsc_json_string("F", object, "word", s, sizeof s) == DSC_EINVAL, "four bytes and NUL in four");
    CHECK(n == 7 && x == 7 && !on && s[0] == '\0', "an output changed");
    json_decref(object);
}

static void refuses_unknown_keys(void)
{
    static const char *const names[] = {"layers", "hidden", "heads"};
    json_t *object = load("{\"layers\": 1, \"hiden\": 2}");

    if (!CHECK(object != NULL, "%s", dsc_message())) return;
    CHECK(dsc_json_check_keys("F", object, names, DSC_COUNT(names)) == DSC_EINVAL, "hiden is known");
    CHECK(strcmp(dsc_message(), "F: unknown key \"hiden\"; did you mean \"hidden\"?") == 0, "\"%s\"", dsc_message());
    json_object_del(object, "hiden");
    CHECK_OK(dsc_json_check_keys("F", object, names, DSC_COUNT(names)));
    CHECK_OK(dsc_json_object("F", object));
    CHECK(dsc_json_object("F", json_object_get(object, "layers")) == DSC_EINVAL, "a number is an object");
    CHECK(strcmp(dsc_message(), "F: expected an object, got a whole number") == 0, "\"%s\"", dsc_message());
    json_decref(object);
}

static const tap_case cases[] = {
    {"comments and trailing commas are taken, and strings are left alone", takes_liberties},
    {"a byte order mark before the text is taken", takes_a_byte_order_mark},
    {"what does not parse is named by file, line and column", names_the_place},
    {"a path that cannot be read is bad input, and named", refuses_unreadable_paths},
    {"noise is refused without a crash", survives_noise},
    {"members are read, and absent, null and auto ones keep their default", reads_members},
    {"members of other kinds or out of bounds are refused, and outputs stay", refuses_members},
    {"an unknown key is refused, with the nearest known one", refuses_unknown_keys},
};

int main(void)
{
    int status, file = mkstemp(path);

    if (file < 0) return EXIT_FAILURE;
    close(file);
    status = tap_run(cases, DSC_COUNT(cases), NULL);
    unlink(path);
    return status;
}
