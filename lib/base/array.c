#include "base/array.h"
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 8 };

dsc_status dsc_array_reserve(void *items, int64_t *capacity, int64_t needed, size_t item_bytes)
{
    void *old, *grown;
    int64_t room = DSC_MAX(*capacity, FIRST_CAPACITY), bytes;

    if (needed <= *capacity) return DSC_OK;
    while (room < needed)
        if (!dsc_mul(room, 2, &room)) room = needed;
    if (!dsc_mul(room, (int64_t)item_bytes, &bytes))
        return DSC_FAIL(DSC_ENOMEM, "%lld items of %zu bytes are more than memory can hold", (long long)needed,
                        item_bytes);
    memcpy(&old, items, sizeof old); /* items is the address of a T *, which a void ** may not alias */
    grown = realloc(old, (size_t)bytes);
    if (grown == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld bytes", (long long)bytes);
    memcpy(items, &grown, sizeof grown);
    *capacity = room;
    return DSC_OK;
}

bool dsc_mul(int64_t a, int64_t b, int64_t *out)
{
    int64_t product;

    if (__builtin_mul_overflow(a, b, &product)) return false;
    *out = product;
    return true;
}

bool dsc_add(int64_t a, int64_t b, int64_t *out)
{
    int64_t sum;

    if (__builtin_add_overflow(a, b, &sum)) return false;
    *out = sum;
    return true;
}
