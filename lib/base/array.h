/* Growable arrays and overflow-checked sizes. An array is a pointer, a count and a capacity that its owner keeps. */
#ifndef DSC_BASE_ARRAY_H
#define DSC_BASE_ARRAY_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Marks small functions that kernels of a GPU call too. */
#ifdef __CUDACC__
#define DSC_ANYWHERE __host__ __device__
#else
#define DSC_ANYWHERE
#endif

#define DSC_COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))
#define DSC_MIN(a, b) ((a) < (b) ? (a) : (b))
#define DSC_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Makes room for `needed` items of item_bytes at *items, doubling; new items are not initialised. *items may be NULL.
 * DSC_ENOMEM leaves the array as it was. */
dsc_status dsc_array_reserve(void *items, int64_t *capacity, int64_t needed, size_t item_bytes);

/* Appends *item (an lvalue's address) to the array `items` that has `count` and `capacity` beside it. */
#define DSC_PUSH(items, count, capacity, item)                                                    \
    (dsc_array_reserve(&(items), &(capacity), (count) + 1, sizeof *(items)) == DSC_OK             \
         ? ((items)[(count)++] = (item), DSC_OK)                                                  \
         : DSC_ENOMEM)

/* a * b and a + b of non-negative sizes; false when the result does not fit 63 bits, *out then untouched. Pure. */
bool dsc_mul(int64_t a, int64_t b, int64_t *out);
bool dsc_add(int64_t a, int64_t b, int64_t *out);

/* ceil(a / b) for a >= 0, b > 0, and the next multiple of b. Pure. */
DSC_ANYWHERE static inline int64_t dsc_ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }
DSC_ANYWHERE static inline int64_t dsc_round_up(int64_t a, int64_t b) { return dsc_ceil_div(a, b) * b; }

#endif
