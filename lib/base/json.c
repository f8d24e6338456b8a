#include "base/json.h"
#include "base/text.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The index just past the string that opens at `start`; the end of the text when it is not closed. */
static int64_t skip_string(const dsc_text *text, int64_t start)
{
    int64_t i = start + 1;

    while (i < text->count && text->bytes[i] != '"' && text->bytes[i] != '\n') i += text->bytes[i] == '\\' ? 2 : 1;
    return DSC_MIN(i + 1, text->count);
}

static bool stands_at(const dsc_text *text, int64_t i, const char *word)
{
    int64_t length = (int64_t)strlen(word);

    return i + length <= text->count && memcmp(text->bytes + i, word, (size_t)length) == 0;
}

/* Blanks from `start` up to and with `last`, or to the end; newlines stay, so that lines keep their numbers. */
static int64_t blank_until(dsc_text *text, int64_t start, const char *last, bool *found)
{
    int64_t i = start;

    while (i < text->count && !stands_at(text, i, last)) {
        if (text->bytes[i] != '\n') text->bytes[i] = ' ';
        i++;
    }
    *found = i < text->count;
    for (size_t k = 0; *found && k < strlen(last); k++, i++)
        if (text->bytes[i] != '\n') text->bytes[i] = ' ';
    return i;
}

/* Refuses what stands at `index`, by line and column. */
static dsc_status refuse_at(const char *name, const dsc_text *text, int64_t index, const char *why)
{
    int64_t line = 1, column = 1;

    for (int64_t i = 0; i < index; i++) {
        line += text->bytes[i] == '\n';
        column = text->bytes[i] == '\n' ? 1 : column + 1;
    }
    return DSC_FAIL(DSC_EINVAL, "%s:%" PRId64 ":%" PRId64 ": %s", name, line, column, why);
}

static dsc_status blank_comments(const char *name, dsc_text *text)
{
    int64_t i = 0;
    bool closed;

    while (i < text->count) {
        int64_t start = i;

        if (text->bytes[i] == '"') {
            i = skip_string(text, i);
        } else if (text->bytes[i] == '#' || stands_at(text, i, "//")) {
            i = blank_until(text, i, "\n", &closed);
        } else if (stands_at(text, i, "/*")) {
            text->bytes[i] = text->bytes[i + 1] = ' '; /* so that the star of a lone opening does not close it */
            i = blank_until(text, i + 2, "*/", &closed);
            if (!closed) return refuse_at(name, text, start, "the comment is not closed");
        } else {
            i++;
        }
    }
    return DSC_OK;
}

static void blank_trailing_commas(dsc_text *text)
{
    int64_t comma = -1; /* the last comma, while only space has followed it */

    for (int64_t i = 0; i < text->count; i++) {
        char c = text->bytes[i];

        if (c == '"') i = skip_string(text, i) - 1;
        if ((c == '}' || c == ']') && comma >= 0) text->bytes[comma] = ' ';
        if (c == ',') comma = i;
        else if (strchr(" \t\r\n", c) == NULL || c == '\0') comma = -1;
    }
}

/* Editors of some systems open UTF-8 with a byte order mark. Blanks in its place leave lines and columns alone. */
static void blank_byte_order_mark(dsc_text *text)
{
    static const char mark[] = "\xef\xbb\xbf";

    if (stands_at(text, 0, mark)) memset(text->bytes, ' ', sizeof mark - 1);
}

dsc_status dsc_json_load(const char *path, json_t **out)
{
    const char *name = dsc_equal(path, "-") ? "standard input" : path;
    dsc_status status = DSC_OK;
    dsc_text text = {0};
    json_error_t error;
    json_t *value;

    DSC_TRY(dsc_text_load(path, &text));
    blank_byte_order_mark(&text);
    DSC_TRY(blank_comments(name, &text));
    blank_trailing_commas(&text);
    value = json_loadb(text.bytes, (size_t)text.count, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (value == NULL) {
        status = DSC_FAIL(DSC_EINVAL, "%s:%d:%d: %s", name, error.line, error.column, error.text);
        goto out;
    }
    *out = value;
out:
    dsc_text_fini(&text);
    return status;
}

const char *dsc_json_kind(const json_t *value)
{
    if (value == NULL) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "something unknown";
}

dsc_status dsc_json_object(const char *where, const json_t *value)
{
    if (json_is_object(value)) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s: expected an object, got %s", where, dsc_json_kind(value));
}

static bool is_among(const char *word, const char *const *names, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (dsc_equal(word, names[i])) return true;
    return false;
}

dsc_status dsc_json_check_keys(const char *where, const json_t *object, const char *const *names, int64_t count)
{
    const char *key, *nearest;
    json_t *value;

    json_object_foreach((json_t *)object, key, value) { /* the macro wants it mutable, and does not change it */
        if (is_among(key, names, count)) continue;
        nearest = dsc_nearest(key, names, count);
        if (nearest != NULL)
            return DSC_FAIL(DSC_EINVAL, "%s: unknown key \"%s\"; did you mean \"%s\"?", where, key, nearest);
        return DSC_FAIL(DSC_EINVAL, "%s: unknown key \"%s\"", where, key);
    }
    return DSC_OK;
}

/* The member to be read; NULL when it is absent, null or "auto", and the default stands. */
static const json_t *find_given(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    if (json_is_null(value) || (json_is_string(value) && dsc_equal(json_string_value(value), "auto"))) return NULL;
    return value;
}

static dsc_status refuse_kind(const char *where, const char *key, const char *expected, const json_t *value)
{
    if (json_is_string(value))
        return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": expected %s, got \"%s\"", where, key, expected,
                        json_string_value(value));
    return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": expected %s, got %s", where, key, expected, dsc_json_kind(value));
}

dsc_status dsc_json_int(const char *where, const json_t *object, const char *key, int64_t low, int64_t high,
                        int64_t *out)
{
    const json_t *value = find_given(object, key);
    int64_t number;

    if (value == NULL) return DSC_OK;
    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else if (json_is_real(value)) {
        double real = json_real_value(value);

        if (real != floor(real)) return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": %g is no whole number", where, key, real);
        if (fabs(real) >= 0x1p63)
            return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": %g is outside %" PRId64 " .. %" PRId64, where, key, real, low,
                            high);
        number = (int64_t)real;
    } else {
        return refuse_kind(where, key, "a whole number", value);
    }
    if (number < low || number > high)
        return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": %" PRId64 " is outside %" PRId64 " .. %" PRId64, where, key, number,
                        low, high);
    *out = number;
    return DSC_OK;
}

dsc_status dsc_json_real(const char *where, const json_t *object, const char *key, double low, double high,
                         double *out)
{
    const json_t *value = find_given(object, key);
    double number;

    if (value == NULL) return DSC_OK;
    if (!json_is_number(value)) return refuse_kind(where, key, "a number", value);
    number = json_number_value(value);
    if (number < low || number > high)
        return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": %g is outside %g .. %g", where, key, number, low, high);
    *out = number;
    return DSC_OK;
}

dsc_status dsc_json_bool(const char *where, const json_t *object, const char *key, bool *out)
{
    const json_t *value = find_given(object, key);

    if (value == NULL) return DSC_OK;
    if (!json_is_boolean(value)) return refuse_kind(where, key, "true or false", value);
    *out = json_is_true(value);
    return DSC_OK;
}

dsc_status dsc_json_string(const char *where, const json_t *object, const char *key, char *out, size_t size)
{
    const json_t *value = find_given(object, key);
    size_t length;

    if (value == NULL) return DSC_OK;
    if (!json_is_string(value)) return refuse_kind(where, key, "a string", value);
    length = json_string_length(value);
    if (length >= size)
        return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": %zu bytes are longer than %zu", where, key, length, size - 1);
    memcpy(out, json_string_value(value), length + 1);
    return DSC_OK;
}
