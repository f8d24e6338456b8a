#include "tests/tap.h"
#include <stdlib.h>

static void keeps_items(void)
{
    int64_t *items = NULL, count = 0, capacity = 0;

    for (int64_t i = 0; i < 1000; i++)
        if (!CHECK_OK(DSC_PUSH(items, count, capacity, i * i))) return;
    for (int64_t i = 0; i < 1000; i++)
        CHECK(items[i] == i * i, "items[%lld] is %lld", (long long)i, (long long)items[i]);
    CHECK(count == 1000 && capacity >= count, "%lld of %lld", (long long)count, (long long)capacity);
    free(items);
}

static void refuses_what_memory_cannot_hold(void)
{
    char *items = NULL;
    int64_t capacity = 0;
    dsc_status status = dsc_array_reserve(&items, &capacity, INT64_MAX, 16);

    CHECK(status == DSC_ENOMEM, "status %s", dsc_status_name(status));
    status = dsc_array_reserve(&items, &capacity, INT64_MAX, 1);
    CHECK(status == DSC_ENOMEM, "status %s", dsc_status_name(status));
    CHECK(items == NULL && capacity == 0, "capacity became %lld", (long long)capacity);
}

static void sizes_do_not_wrap(void)
{
    int64_t out = 7;

    CHECK(!dsc_mul(INT64_C(1) << 62, 2, &out) && out == 7, "product became %lld", (long long)out);
    CHECK(!dsc_add(INT64_MAX, 1, &out) && out == 7, "sum became %lld", (long long)out);
    CHECK(dsc_mul(INT64_C(1) << 31, INT64_C(1) << 31, &out) && out == INT64_C(1) << 62, "product %lld", (long long)out);
    CHECK(dsc_add(INT64_MAX - 1, 1, &out) && out == INT64_MAX, "sum %lld", (long long)out);
}

static void rounds_up(void)
{
    for (int draw = 0; draw < 1000; draw++) {
        int64_t a = tap_random_between(0, 1 << 20), b = tap_random_between(1, 1 << 10);
        int64_t up = dsc_round_up(a, b);

        CHECK(up >= a && up - a < b && up % b == 0, "%lld up to a multiple of %lld is %lld", (long long)a, (long long)b,
              (long long)up);
        CHECK(dsc_ceil_div(a, b) * b == up, "ceil(%lld / %lld)", (long long)a, (long long)b);
    }
}

static const tap_case cases[] = {
    {"an array keeps its items as it grows", keeps_items},
    {"more items than memory holds are refused, and the array stays", refuses_what_memory_cannot_hold},
    {"sizes that pass 63 bits are refused, not wrapped", sizes_do_not_wrap},
    {"rounding up gives the least multiple that is not smaller", rounds_up},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
