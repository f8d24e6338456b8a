/* Consecutive items into parts: layers to the stages of a pipeline. Pure arithmetic over weights. Part i of the result
 * holds items first[i] .. first[i + 1] - 1; with no more items than parts each of the first parts has one, and the rest
 * none (golden: pipeline/partitions.json). */
#ifndef DSC_PLAN_PARTITION_H
#define DSC_PLAN_PARTITION_H

#include "base/status.h"
#include <stdint.h>

/* Parts of equal size, the first items % parts of them one longer. first has room for parts + 1. */
void dsc_partition_uniform(int64_t items, int64_t parts, int64_t *first);

/* Parts whose heaviest and lightest differ little, by DeepSpeed's dynamic program (0.16): of the ways to cut so many
 * items in so many parts it keeps the one with the smallest difference, the later cut of equals. It extends kept ways
 * only, so the result is what DeepSpeed cuts and not always the least difference.
 *
 * weights  [items], each >= 0, whole numbers below 2^53
 * cost     items^2 * parts steps
 * returns  DSC_OK; DSC_EINVAL when that is more than a planner should take; DSC_ENOMEM */
dsc_status dsc_partition_balanced(const double *weights, int64_t items, int64_t parts, int64_t *first);

#endif
