#include "sim/measured.h"
#include "sim/fit.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Kernel, types, flags and ranks: what samples have in common that one fit describes. */
typedef struct key { int kernel, type, out, flags, ranks; } key;

typedef struct class {
    key key;
    int64_t first, count; /* of the sorted samples */
    dsc_fit *fit;         /* NULL while it waits for the class it is like */
} class;

struct dsc_measured {
    const dsc_calibration *calibration;
    const dsc_kernel_sample **samples; int64_t sample_count; /* sorted by key */
    class *classes; int64_t class_count, class_capacity;
};

/* ---- Classes */

static key key_of(const dsc_shape *shape, int ranks)
{
    return (key){shape->kernel, shape->type, shape->out, shape->flags, ranks};
}

static int compare_keys(const dsc_kernel_sample *a, const dsc_kernel_sample *b)
{
    const key x = key_of(&a->shape, a->ranks), y = key_of(&b->shape, b->ranks);

    return memcmp(&x, &y, sizeof x);
}

/* By key, then as they stand in the calibration. */
static int compare_samples(const void *a, const void *b)
{
    const dsc_kernel_sample *const *x = a, *const *y = b;
    const int order = compare_keys(*x, *y);

    return order != 0 ? order : (*x > *y) - (*x < *y);
}

static dsc_status collect_classes(dsc_measured *measured)
{
    for (int64_t i = 0; i < measured->sample_count; i++) {
        const class fresh = {.key = key_of(&measured->samples[i]->shape, measured->samples[i]->ranks), .first = i};
        const bool is_new = i == 0 || compare_keys(measured->samples[i - 1], measured->samples[i]) != 0;

        if (is_new && DSC_PUSH(measured->classes, measured->class_count, measured->class_capacity, fresh) != DSC_OK)
            return DSC_ENOMEM;
        measured->classes[measured->class_count - 1].count++;
    }
    return DSC_OK;
}

/* Of one form: sparse attention is a kernel of its own as far as prices go. */
static bool is_akin(const key *a, const key *b)
{
    return a->kernel == b->kernel && (a->flags & DSC_HAS_LAYOUT) == (b->flags & DSC_HAS_LAYOUT);
}

/* How much it may change the time that two classes of a kernel differ: in bits of the flags, by weight, and types. */
static int distance(const key *a, const key *b)
{
    static const struct { int flags, weight; } differences[] = {
        {DSC_HAS_RESIDUAL | DSC_HAS_BIAS | DSC_ACCUMULATE | DSC_DECOUPLED | DSC_FIRST | DSC_RMS | DSC_SHARD |
             DSC_HAS_MASK | DSC_COUNT_PADDING, 1},
        {DSC_FROZEN | DSC_APART, 4},
        {DSC_CAUSAL, 8},
        {DSC_TRANS_A | DSC_TRANS_B, 8},
    };
    int sum = (a->out != b->out ? 1 : 0) + (a->type != b->type ? 64 : 0);

    for (int i = 0; i < DSC_COUNT(differences); i++)
        sum += differences[i].weight * __builtin_popcount((unsigned)((a->flags ^ b->flags) & differences[i].flags));
    return sum;
}

/* The class nearest to the key among those of the kernel and number of ranks with more than so many samples; NULL when
 * there is none. */
static class *find_like(const dsc_measured *measured, const key *wanted, int64_t more_than)
{
    class *best = NULL;

    for (int64_t i = 0; i < measured->class_count; i++) {
        class *c = &measured->classes[i];

        if (!is_akin(&c->key, wanted) || c->key.ranks != wanted->ranks || c->count <= more_than) continue;
        if (best == NULL || distance(&c->key, wanted) < distance(&best->key, wanted)) best = c;
    }
    return best;
}

/* What a class leans on that has less than half its samples. */
static class *find_parent(const dsc_measured *measured, const class *child)
{
    return find_like(measured, &child->key, 2 * child->count);
}

static dsc_status fit_class(const dsc_measured *measured, class *c)
{
    class *parent = find_parent(measured, c);
    dsc_status status = DSC_OK;

    if (c->fit != NULL) goto out;
    if (parent != NULL) DSC_TRY(fit_class(measured, parent));
    DSC_TRY(dsc_fit_create(measured->samples + c->first, c->count, DSC_FIT_ALL, parent ? parent->fit : NULL, &c->fit));
out:
    return status;
}

dsc_status dsc_measured_create(const dsc_calibration *calibration, dsc_measured **out)
{
    const int64_t count = calibration->kernel_count;
    dsc_measured *measured = calloc(1, sizeof *measured);
    dsc_status status = DSC_OK;

    if (measured != NULL) measured->samples = calloc((size_t)count + 1, sizeof(*measured->samples));
    if (measured == NULL || measured->samples == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "prices: %lld samples", (long long)count);
        goto out;
    }
    measured->calibration = calibration;
    for (int64_t i = 0; i < count; i++) measured->samples[measured->sample_count++] = &calibration->kernels[i];
    qsort(measured->samples, (size_t)count, sizeof *measured->samples, compare_samples);
    DSC_TRY(collect_classes(measured));
    for (int64_t i = 0; i < measured->class_count; i++) DSC_TRY(fit_class(measured, &measured->classes[i]));
    *out = measured;
    measured = NULL;
out:
    dsc_measured_destroy(measured);
    return status;
}

void dsc_measured_destroy(dsc_measured *measured)
{
    if (measured == NULL) return;
    for (int64_t i = 0; i < measured->class_count; i++) dsc_fit_destroy(measured->classes[i].fit);
    free(measured->classes);
    free(measured->samples);
    free(measured);
}

/* ---- Prices */

static const dsc_kernel_sample *find_sample(const dsc_measured *measured, const class *c, const dsc_shape *shape)
{
    for (int64_t i = c->first; i < c->first + c->count; i++)
        if (memcmp(&measured->samples[i]->shape, shape, sizeof *shape) == 0) return measured->samples[i];
    return NULL;
}

/* The class most like the shape's with at most (direction -1) or at least (+1) so many ranks. */
static const class *find_setting(const dsc_measured *measured, const dsc_shape *shape, int64_t ranks, int direction)
{
    const class *best = NULL;

    for (int64_t i = 0; i < measured->class_count; i++) {
        const key *k = &measured->classes[i].key, wanted = key_of(shape, k->ranks);
        const bool is_nearer = best == NULL || (best->key.ranks - k->ranks) * direction > 0;

        if (is_akin(k, &wanted) && (k->ranks - ranks) * direction >= 0 && is_nearer)
            best = find_like(measured, &wanted, 0);
    }
    return best;
}

static double ns_of(const dsc_measured *measured, const class *c, const dsc_shape *shape)
{
    const dsc_kernel_sample *sample = find_sample(measured, c, shape);

    return sample != NULL ? (double)sample->time_ns : dsc_fit_ns(c->fit, shape);
}

/* Where no sparse attention was measured: dense attention's time for as much arithmetic. */
static double as_dense_ns(const dsc_measured *measured, const dsc_shape *sparse, int64_t ranks, bool share_cores)
{
    dsc_shape dense = *sparse;
    bool is_sample;

    dense.flags &= ~DSC_HAS_LAYOUT;
    dense.d[5] = dense.d[6] = 0;
    return dsc_measured_ns(measured, &dense, ranks, share_cores, &is_sample) * (double)dsc_kernel_flops(sparse) /
           (double)dsc_kernel_flops(&dense);
}

double dsc_measured_ns(const dsc_measured *measured, const dsc_shape *shape, int64_t ranks, bool share_cores,
                       bool *is_sample)
{
    const class *low = find_setting(measured, shape, ranks, -1), *high = find_setting(measured, shape, ranks, 1);
    const class *nearest = low != NULL ? low : high;

    *is_sample = false;
    if (nearest == NULL && shape->flags & DSC_HAS_LAYOUT) return as_dense_ns(measured, shape, ranks, share_cores);
    if (nearest == NULL) return 0;
    if (low == NULL || high == NULL || low == high) {
        *is_sample = nearest->key.ranks == ranks && find_sample(measured, nearest, shape) != NULL;
        return ns_of(measured, nearest, shape) * (share_cores ? (double)ranks / nearest->key.ranks : 1);
    }
    const double from = log(ns_of(measured, low, shape)), to = log(ns_of(measured, high, shape));
    const double way = log((double)ranks / low->key.ranks) / log((double)high->key.ranks / low->key.ranks);
    return exp(from + way * (to - from));
}

/* ---- How good they are */

static dsc_status measure_miss(const dsc_measured *measured, const class *c, int64_t number, double *out)
{
    const dsc_kernel_sample *sample = measured->samples[c->first + number];
    const class *parent = find_parent(measured, c);
    dsc_fit *fit = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_fit_create(measured->samples + c->first, c->count, number, parent ? parent->fit : NULL, &fit));
    *out = dsc_fit_ns(fit, &sample->shape) / (double)sample->time_ns - 1;
out:
    dsc_fit_destroy(fit);
    return status;
}

dsc_status dsc_measured_misses(const dsc_measured *measured, double *out)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < measured->class_count; i++) {
        const class *c = &measured->classes[i];

        for (int64_t j = 0; j < c->count; j++) {
            double *miss = &out[measured->samples[c->first + j] - measured->calibration->kernels];

            *miss = 0;
            if (c->count > 1) DSC_TRY(measure_miss(measured, c, j, miss));
        }
    }
out:
    return status;
}

static int compare_reals(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* sizes is room for as many as there are samples. */
static dsc_price_error error_of(const dsc_calibration *calibration, int kernel, const double *misses, double *sizes)
{
    int64_t count = 0;

    for (int64_t i = 0; i < calibration->kernel_count; i++)
        if (calibration->kernels[i].shape.kernel == kernel) sizes[count++] = fabs(misses[i]);
    if (count == 0) return (dsc_price_error){0};
    qsort(sizes, (size_t)count, sizeof *sizes, compare_reals);
    return (dsc_price_error){count, sizes[count / 2], sizes[count * 9 / 10]};
}

dsc_status dsc_measured_errors(const dsc_measured *measured, dsc_price_error out[DSC_KERNEL_COUNT])
{
    const int64_t count = measured->sample_count;
    double *misses = calloc(2 * (size_t)count + 1, sizeof *misses);
    dsc_status status = DSC_OK;

    if (misses == NULL) return DSC_FAIL(DSC_ENOMEM, "prices: %lld samples", (long long)count);
    DSC_TRY(dsc_measured_misses(measured, misses));
    for (int kernel = 0; kernel < DSC_KERNEL_COUNT; kernel++)
        out[kernel] = error_of(measured->calibration, kernel, misses, misses + count);
out:
    free(misses);
    return status;
}
