#include "base/parse.h"
#include "tests/tap.h"
#include <math.h>
#include <string.h>

static void takes_whole_numbers(void)
{
    static const struct { const char *word; int64_t value; } table[] = {
        {"0", 0},
        {"-17", -17},
        {"5e8", 500000000},
        {"1.5e3", 1500},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"4611686018427387905", (INT64_C(1) << 62) + 1},
    };

    for (int64_t i = 0; i < DSC_COUNT(table); i++) {
        int64_t value = 42;

        CHECK_OK(dsc_parse_int("--n", table[i].word, INT64_MIN, INT64_MAX, &value));
        CHECK(value == table[i].value, "%s became %lld", table[i].word, (long long)value);
    }
}

static void refuses_other_numbers(void)
{
    static const char *const words[] = {"",    " 1",  "1 ",    "1.5",   "0x10",  "nan",      "inf",
                                        "abc", "12k", "1e-1", "--1", "1e400", "9223372036854775808"};

    for (int64_t i = 0; i < DSC_COUNT(words); i++) {
        int64_t value = 42;
        dsc_status status = dsc_parse_int("--n", words[i], INT64_MIN, INT64_MAX, &value);

        CHECK(status == DSC_EINVAL && value == 42, "\"%s\" became %lld", words[i], (long long)value);
        CHECK(strncmp(dsc_message(), "--n: ", 5) == 0 && strstr(dsc_message(), words[i]) != NULL, "message \"%s\"",
              dsc_message());
    }
}

static void names_bounds(void)
{
    int64_t value = 42;
    dsc_status status = dsc_parse_int("--tp", "4611686018427387904", 1, 1024, &value);

    CHECK(status == DSC_EINVAL && value == 42, "became %lld", (long long)value);
    CHECK(strcmp(dsc_message(), "--tp: 4611686018427387904 is outside 1 .. 1024") == 0, "message \"%s\"",
          dsc_message());
}

static void reads_reals(void)
{
    static const char *const refused[] = {"", "nan", "-nan", "inf", "1e999", "0x1p3", "1.0x", "2", "-0.1"};
    double value = 42;

    CHECK_OK(dsc_parse_real("--lr", "3e-4", 0, 1, &value));
    CHECK(value == 3e-4, "became %.17g", value);
    for (int64_t i = 0; i < DSC_COUNT(refused); i++) {
        dsc_status status = dsc_parse_real("--lr", refused[i], 0, 1, &value);

        CHECK(status == DSC_EINVAL && value == 3e-4, "\"%s\" became %g", refused[i], value);
    }
}

static void reads_sizes(void)
{
    static const struct { const char *word; int64_t bytes; } table[] = {
        {"0", 0},        {"512", 512},          {"512B", 512},    {"1KB", 1000},
        {"1KiB", 1024},  {"1.5GiB", 1610612736}, {"2MB", 2000000}, {"80GiB", INT64_C(85899345920)},
        {"1TiB", INT64_C(1) << 40},
    };
    static const char *const refused[] = {"", "-1", "GiB", "1gib", "1G", "0.5B", "1e300", "8388608TiB", "nanMiB"};
    int64_t bytes = 42;

    for (int64_t i = 0; i < DSC_COUNT(table); i++) {
        CHECK_OK(dsc_parse_bytes("--device-memory", table[i].word, &bytes));
        CHECK(bytes == table[i].bytes, "%s became %lld", table[i].word, (long long)bytes);
    }
    for (int64_t i = 0; i < DSC_COUNT(refused); i++) {
        dsc_status status = dsc_parse_bytes("--device-memory", refused[i], &bytes);

        CHECK(status == DSC_EINVAL, "\"%s\" became %lld", refused[i], (long long)bytes);
    }
}

static void reads_counts(void)
{
    static const struct { const char *word; int64_t count; } table[] = {
        {"7", 7}, {"2K", 2000}, {"1.5M", 1500000}, {"300B", INT64_C(300000000000)}, {"300G", INT64_C(300000000000)},
        {"15.6T", INT64_C(15600000000000)}, {"1e12", INT64_C(1000000000000)},
    };
    static const char *const refused[] = {"", "B", "-3", "0", "1.0005K", "3P", "3 B", "3b", "many", "9e18T", "nanK"};
    int64_t count = 42;

    for (int64_t i = 0; i < DSC_COUNT(table); i++) {
        CHECK_OK(dsc_parse_count("--tokens", table[i].word, 1, INT64_C(1) << 60, &count));
        CHECK(count == table[i].count, "%s became %lld", table[i].word, (long long)count);
    }
    for (int64_t i = 0; i < DSC_COUNT(refused); i++) {
        count = 42;
        CHECK(dsc_parse_count("--tokens", refused[i], 1, INT64_C(1) << 60, &count) == DSC_EINVAL && count == 42,
              "\"%s\" became %lld", refused[i], (long long)count);
    }
}

static void chooses(void)
{
    static const char *const names[] = {"fp32", "fp16", "bf16", NULL};
    int index = -1;

    CHECK_OK(dsc_parse_choice("--precision", "bf16", names, &index));
    CHECK(index == 2, "index %d", index);
    CHECK(dsc_parse_choice("--precision", "bf61", names, &index) == DSC_EINVAL && index == 2, "index %d", index);
    CHECK(strstr(dsc_message(), "did you mean \"bf16\"") != NULL, "message \"%s\"", dsc_message());
    CHECK(dsc_parse_choice("--precision", "double", names, &index) == DSC_EINVAL, "index %d", index);
    CHECK(strstr(dsc_message(), "fp32, fp16, bf16") != NULL, "message \"%s\"", dsc_message());
}

static const tap_case cases[] = {
    {"whole numbers are read exactly, in either notation", takes_whole_numbers},
    {"what is no whole number of 63 bits is refused and quoted", refuses_other_numbers},
    {"a number out of bounds is refused with the bounds", names_bounds},
    {"real numbers are finite and within bounds", reads_reals},
    {"sizes take units of 1000 and of 1024, and are whole", reads_sizes},
    {"counts take K, M, G or B, T, and are whole", reads_counts},
    {"a choice is one of its names, and a near miss is told", chooses},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
