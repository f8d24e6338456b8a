#include "base/text.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

static void check_string(const char *got, const char *expected)
{
    CHECK(strcmp(got, expected) == 0, "got \"%s\", expected \"%s\"", got, expected);
}

static void grows(void)
{
    dsc_text text = {0};

    check_string(dsc_text_str(&text), "");
    for (int i = 0; i < 1000; i++) dsc_text_add(&text, "%04d,", i);
    CHECK(!text.failed && text.count == 5000, "%lld bytes", (long long)text.count);
    check_string(dsc_text_str(&text) + 4990, "0998,0999,");
    dsc_text_fini(&text);
    check_string(dsc_text_str(&text), "");
}

static void prints_units(void)
{
    check_string(dsc_bytes_str(0).str, "0 B");
    check_string(dsc_bytes_str(1023).str, "1023 B");
    check_string(dsc_bytes_str(1536).str, "1.50 KiB");
    check_string(dsc_bytes_str(INT64_C(85899345920)).str, "80.0 GiB");
    check_string(dsc_bytes_str(-2048).str, "-2.00 KiB");
    check_string(dsc_bytes_str(INT64_MAX).str, "8192 PiB");
    check_string(dsc_ns_str(999).str, "999 ns");
    check_string(dsc_ns_str(12345678).str, "12.3 ms");
    check_string(dsc_ns_str(INT64_C(123000000000)).str, "123 s");
    check_string(dsc_count_str(7).str, "7");
    check_string(dsc_count_str(0.25).str, "0.25");
    check_string(dsc_count_str(124.4e6).str, "124 M");
    check_string(dsc_count_str(1.3e12).str, "1.30 T");
}

static void aligns(void)
{
    dsc_text out = {0};

    dsc_table_print("lane\tbusy\tnote\n"
                    "compute\t9.5 ms\n"
                    "µ\t123 ms\tidle\n"
                    "\t\tx\n",
                    &out);
    check_string(dsc_text_str(&out), "lane       busy  note\n"
                                     "-------  ------  ----\n"
                                     "compute  9.5 ms\n"
                                     "µ        123 ms  idle\n"
                                     "                 x\n");
    dsc_text_fini(&out);
}

static void finds_nearest(void)
{
    static const char *const names[] = {"micro_batch", "global_batch", "zero", "precision"};
    int64_t count = DSC_COUNT(names);

    check_string(dsc_nearest("micro_bacth", names, count), "micro_batch");
    check_string(dsc_nearest("precison", names, count), "precision");
    check_string(dsc_nearest("zer", names, count), "zero");
    CHECK(dsc_nearest("offload", names, count) == NULL, "offload is near %s", dsc_nearest("offload", names, count));
    CHECK(dsc_nearest("", names, count) == NULL, "nothing is near something");
    CHECK(dsc_nearest("x", names, 0) == NULL, "something is near in no names");
}

static void compares(void)
{
    CHECK(dsc_equal("a", "a"), "a is not a");
    CHECK(!dsc_equal("a", "b"), "a is b");
    CHECK(!dsc_equal(NULL, NULL) && !dsc_equal("a", NULL), "NULL equals something");
}

static const tap_case cases[] = {
    {"a text holds all that was added", grows},
    {"numbers are printed with three digits and a unit", prints_units},
    {"a table's numbers stand right, its words left, and no line ends in a space", aligns},
    {"the nearest name is found, and none when none is near", finds_nearest},
    {"equal strings are equal, and NULL equals nothing", compares},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
