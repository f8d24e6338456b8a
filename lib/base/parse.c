#include "base/parse.h"
#include <stdio.h>
#include "base/text.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Reads the decimal number that word begins with and returns what follows it; NULL when there is none. A long double
 * holds every int64_t exactly (64 bits of mantissa on x86-64, 113 on AArch64 Linux). */
static const char *read_decimal(const char *word, long double *out)
{
    char *end;

    if (word[0] == '\0' || strchr("+-.0123456789", word[0]) == NULL) return NULL;
    *out = strtold(word, &end);
    if (end == word || !isfinite(*out)) return NULL;
    for (const char *c = word; c < end; c++)
        if (strchr("+-.0123456789eE", *c) == NULL) return NULL; /* 0x10, inf, nan */
    return end;
}

dsc_status dsc_parse_int(const char *what, const char *word, int64_t low, int64_t high, int64_t *out)
{
    long double value;
    const char *end = read_decimal(word, &value);

    if (end == NULL || *end != '\0' || floorl(value) != value)
        return DSC_FAIL(DSC_EINVAL, "%s: expected a whole number, got \"%s\"", what, word);
    if (value < low || value > high)
        return DSC_FAIL(DSC_EINVAL, "%s: %s is outside %lld .. %lld", what, word, (long long)low, (long long)high);
    *out = (int64_t)value;
    return DSC_OK;
}

dsc_status dsc_parse_range(const char *what, const char *word, int64_t low, int64_t high, int64_t *first, int64_t *last)
{
    const char *dash = word[0] != '\0' ? strchr(word + 1, '-') : NULL;
    char start[32];
    dsc_status status = DSC_OK;

    if (dash == NULL || dash - word >= (int64_t)sizeof start) {
        DSC_TRY(dsc_parse_int(what, word, low, high, first));
        *last = *first;
    } else {
        snprintf(start, sizeof start, "%.*s", (int)(dash - word), word);
        DSC_TRY(dsc_parse_int(what, start, low, high, first));
        DSC_TRY(dsc_parse_int(what, dash + 1, *first, high, last));
    }
out:
    return status;
}

dsc_status dsc_parse_real(const char *what, const char *word, double low, double high, double *out)
{
    long double ignored;
    const char *end = read_decimal(word, &ignored);
    double value;

    if (end == NULL || *end != '\0')
        return DSC_FAIL(DSC_EINVAL, "%s: expected a finite number, got \"%s\"", what, word);
    value = strtod(word, NULL); /* rounded once, not through a long double */
    if (!(value >= low && value <= high))
        return DSC_FAIL(DSC_EINVAL, "%s: %s is outside %g .. %g", what, word, low, high);
    *out = value;
    return DSC_OK;
}

static bool find_unit(const char *name, int64_t *out)
{
    static const struct { const char *name; int64_t bytes; } units[] = {
        {"", 1},
        {"B", 1},
        {"KB", 1000},
        {"MB", 1000 * 1000},
        {"GB", 1000 * 1000 * 1000},
        {"TB", INT64_C(1000) * 1000 * 1000 * 1000},
        {"KiB", INT64_C(1) << 10},
        {"MiB", INT64_C(1) << 20},
        {"GiB", INT64_C(1) << 30},
        {"TiB", INT64_C(1) << 40},
    };

    for (int64_t i = 0; i < DSC_COUNT(units); i++)
        if (dsc_equal(name, units[i].name)) {
            *out = units[i].bytes;
            return true;
        }
    return false;
}

dsc_status dsc_parse_bytes(const char *what, const char *word, int64_t *out)
{
    long double value;
    int64_t unit;
    const char *end = read_decimal(word, &value);

    if (end == NULL || value < 0 || !find_unit(end + strspn(end, " "), &unit))
        return DSC_FAIL(DSC_EINVAL, "%s: expected a size such as 512MiB or 16GiB, got \"%s\"", what, word);
    value *= unit;
    if (floorl(value) != value) return DSC_FAIL(DSC_EINVAL, "%s: %s is no whole number of bytes", what, word);
    if (value > INT64_MAX) return DSC_FAIL(DSC_EINVAL, "%s: %s does not fit 63 bits", what, word);
    *out = (int64_t)value;
    return DSC_OK;
}

/* What the suffix multiplies by; 0 for one that is none. */
static int64_t multiple_of(const char *suffix)
{
    static const struct { const char *name; int64_t times; } suffixes[] = {
        {"", 1},
        {"K", 1000},
        {"M", 1000 * 1000},
        {"G", 1000 * 1000 * 1000},
        {"B", 1000 * 1000 * 1000},
        {"T", INT64_C(1000) * 1000 * 1000 * 1000},
    };

    for (int64_t i = 0; i < DSC_COUNT(suffixes); i++)
        if (dsc_equal(suffix, suffixes[i].name)) return suffixes[i].times;
    return 0;
}

dsc_status dsc_parse_count(const char *what, const char *word, int64_t low, int64_t high, int64_t *out)
{
    long double value;
    const char *end = read_decimal(word, &value);
    const int64_t times = end == NULL ? 0 : multiple_of(end);

    if (times > 0) value *= (long double)times;
    if (times == 0 || floorl(value) != value)
        return DSC_FAIL(DSC_EINVAL, "%s: expected a whole number such as 300B or 15T, got \"%s\"", what, word);
    if (value < low || value > high)
        return DSC_FAIL(DSC_EINVAL, "%s: %s is outside %lld .. %lld", what, word, (long long)low, (long long)high);
    *out = (int64_t)value;
    return DSC_OK;
}

static dsc_status refuse_choice(const char *what, const char *word, const char *const *names, int64_t count)
{
    const char *nearest = dsc_nearest(word, names, count);
    dsc_text list = {0};
    dsc_status status;

    for (int64_t i = 0; i < count; i++) dsc_text_add(&list, "%s%s", i == 0 ? "" : ", ", names[i]);
    if (nearest != NULL)
        status = DSC_FAIL(DSC_EINVAL, "%s: unknown \"%s\"; did you mean \"%s\"? (one of %s)", what, word, nearest,
                          dsc_text_str(&list));
    else
        status = DSC_FAIL(DSC_EINVAL, "%s: unknown \"%s\"; expected one of %s", what, word, dsc_text_str(&list));
    dsc_text_fini(&list);
    return status;
}

dsc_status dsc_parse_choice(const char *what, const char *word, const char *const *names, int *out)
{
    int count = 0;

    for (; names[count] != NULL; count++)
        if (dsc_equal(word, names[count])) {
            *out = count;
            return DSC_OK;
        }
    return refuse_choice(what, word, names, count);
}
