#include "plan/partition.h"
#include "base/array.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

void dsc_partition_uniform(int64_t items, int64_t parts, int64_t *first)
{
    int64_t each = items / parts, longer = items % parts;

    for (int64_t part = 0; part <= parts; part++) first[part] = part * each + DSC_MIN(part, longer);
}

/* The kept way to cut the first items in some number of parts. */
typedef struct way {
    double most, least; /* weight of its heaviest and lightest part */
    int64_t cut;        /* where its last part begins */
} way;

/* The kept way for `end` items in one part more than those of `before`. */
static way extend(const way *before, int64_t fewest, const double *sums, int64_t end)
{
    way best = {.most = INFINITY};

    for (int64_t cut = fewest; cut < end; cut++) {
        double part = sums[end] - sums[cut];
        way next = {fmax(before[cut].most, part), fmin(before[cut].least, part), cut};

        if (next.most - next.least <= best.most - best.least) best = next;
    }
    return best;
}

/* ways[part * (items + 1) + end]: `end` items in `part` parts, made where there are no fewer items than parts. No part
 * holds no item, and only that. */
static void fill(const double *sums, int64_t items, int64_t parts, way *ways)
{
    ways[0] = (way){.most = 0, .least = INFINITY};
    for (int64_t end = 1; end <= items; end++) ways[end] = (way){.most = INFINITY, .least = INFINITY};
    for (int64_t part = 1; part <= parts; part++) {
        const way *before = ways + (part - 1) * (items + 1);

        for (int64_t end = part; end <= items; end++)
            ways[part * (items + 1) + end] = extend(before, part - 1, sums, end);
    }
}

static void read_cuts(const way *ways, int64_t items, int64_t parts, int64_t *first)
{
    first[parts] = items;
    for (int64_t part = parts; part > 0; part--) first[part - 1] = ways[part * (items + 1) + first[part]].cut;
}

dsc_status dsc_partition_balanced(const double *weights, int64_t items, int64_t parts, int64_t *first)
{
    const double most_steps = 0x1p31, steps = (double)items * (double)items * (double)parts;
    dsc_status status = DSC_OK;
    double *sums = NULL;
    way *ways = NULL;

    if (items <= parts) {
        dsc_partition_uniform(items, parts, first);
        goto out;
    }
    if (steps > most_steps) {
        status = DSC_FAIL(DSC_EINVAL, "a balanced partition of %" PRId64 " items in %" PRId64
                          " parts takes %.2g steps, at most %.2g can be taken; use --partition uniform", items, parts,
                          steps, most_steps);
        goto out;
    }
    sums = calloc((size_t)items + 1, sizeof *sums);
    ways = calloc((size_t)(items + 1) * (size_t)(parts + 1), sizeof *ways);
    if (sums == NULL || ways == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "partition of %" PRId64 " items in %" PRId64 " parts", items, parts);
        goto out;
    }
    for (int64_t i = 0; i < items; i++) sums[i + 1] = sums[i] + weights[i];
    fill(sums, items, parts, ways);
    read_cuts(ways, items, parts, first);
out:
    free(sums);
    free(ways);
    return status;
}
