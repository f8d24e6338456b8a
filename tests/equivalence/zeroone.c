/* 0/1 Adam against a serial emulation in double precision, on every layout and every path (Lu et al. 2022, algorithm 1,
 * as DeepSpeed has it): fed the same gradients, moments, weights and errors, both make the same; and behind a sync
 * replicas hold the same bits. */
#include "tests/equivalence/emulation.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What steps do with --var-freeze-step 5, --var-update-scaler 1, --local-step-scaler 3 and --local-step-clipper 4,
 * where the weights are read behind steps READ and READ + 1. The variance moves at updates 1, 2 and 4: the interval is
 * 1, 2, 4, 8. Replicas meet at each of updates 6 to 8, at 10, and at 12 and 16: it is 1, 2, 4 and 4. */
enum { READ = 14 };
static const char *const paths[] = {
    "gradients/update", "gradients/update", "local/share", "gradients/update", "local/share",
    "anchor/local/step/sync", "local/step/sync", "local/step/sync", "local/step", "local/step/sync",
    "local/step", "local/step/sync", "local/step", "local/step/sync", "local/step/sync", "local/step/sync",
    "local/step"};

/* Its bounds are those of 1-bit Adam's test, but where own steps count: how far these have gone is the difference of
 * weights near 1 that differ by 1e-3. */
enum { EXACT_BOUND, DRIFT_BOUND };
static const double bounds[] = {1e-5, 2e-4};

typedef struct step_check {
    const emulation *e;
    const dsc_bucket *bucket;
    const bucket_state *before, *after;
    const char *path;
    double rates;               /* of own steps, this one included */
} step_check;

/* The gradient as an update takes it. */
static double *scaled_gradient(const step_check *c, double workers)
{
    const double scale = workers * (double)c->e->t.run->step.gradient_scale;
    double *g = calloc((size_t)c->bucket->elems, sizeof *g);

    for (int64_t i = 0; i < c->bucket->elems; i++) g[i] = scale * c->after->gradient[i];
    return g;
}

static double direction(const step_check *c, double m, double v, double weight)
{
    const dsc_step *step = &c->e->t.run->step;

    return m / (sqrt(v) + step->eps) + step->weight_decay * weight;
}

typedef struct expected { compared m, v, weights, anchor; } expected;

static void check_all(const step_check *c, expected *x, double limit)
{
    emulation_check(c->e, &x->m, limit);
    emulation_check(c->e, &x->v, 1e-5);
    emulation_check(c->e, &x->weights, 1e-5);
    emulation_check(c->e, &x->anchor, 1e-5);
}

static expected names(void)
{
    return (expected){{.what = "momentum"}, {.what = "variance"}, {.what = "weights"}, {.what = "anchor"}};
}

/* By a gradient that is the same for all, or the replica's own. */
static void check_step_by(const step_check *c, const double *gradient, bool is_exact)
{
    const dsc_step *step = &c->e->t.run->step;
    const bucket_state *was = c->before, *is = c->after;
    expected x = names();

    for (int64_t i = 0; i < c->bucket->elems; i++) {
        const double g = gradient[i], m = step->beta1 * was->m[i] + (1 - step->beta1) * g;
        const double v = is_exact ? step->beta2 * was->v[i] + (1 - step->beta2) * g * g : was->v[i];

        emulation_compare(&x.m, is->m[i], m);
        emulation_compare(&x.v, is->v[i], v);
        emulation_compare(&x.weights, is->weights[i],
                          was->weights[i] - step->lr * direction(c, m, v, was->weights[i]));
        if (strcmp(c->path, "local/step") == 0) emulation_compare(&x.anchor, is->anchor[i], was->anchor[i]);
    }
    check_all(c, &x, bounds[EXACT_BOUND]);
}

static double *copy_of(const double *values, int64_t count)
{
    double *copy = calloc((size_t)count, sizeof *copy);

    memcpy(copy, values, (size_t)count * sizeof *copy);
    return copy;
}

/* The mean of what replicas bring; alone a replica brings it. */
static double *mean_of(const step_check *c, const double *brought, int bound)
{
    if (c->e->t.plan->workers == 1) return copy_of(brought, c->bucket->elems);
    return emulation_exchange(c->e, c->bucket, brought, c->before, c->after, bounds[bound]);
}

/* c = c - lr u, its size changed to momentum's: from the anchor to where the own step ends. */
static double *drift(const step_check *c, const double *anchor)
{
    const dsc_step *step = &c->e->t.run->step;
    double *g = scaled_gradient(c, (double)c->e->t.plan->workers);

    for (int64_t i = 0; i < c->bucket->elems; i++) {
        const double m = step->beta1 * c->before->m[i] + (1 - step->beta1) * g[i], weight = c->before->weights[i];
        const double own = weight - step->lr * direction(c, m, c->before->v[i], weight);

        g[i] = (own - anchor[i]) * (sqrt(c->before->v[i]) + step->eps);
    }
    return g;
}

static void check_sync(const step_check *c, const double *anchor)
{
    double *own = drift(c, anchor), *mean = mean_of(c, own, DRIFT_BOUND);
    expected x = names();

    for (int64_t i = 0; i < c->bucket->elems; i++) {
        const double weight = anchor[i] + mean[i] / (sqrt(c->before->v[i]) + c->e->t.run->step.eps);

        emulation_compare(&x.m, c->after->m[i], -mean[i] / c->rates);
        emulation_compare(&x.v, c->after->v[i], c->before->v[i]);
        emulation_compare(&x.weights, c->after->weights[i], weight);
        emulation_compare(&x.anchor, c->after->anchor[i], c->after->weights[i]);
    }
    check_all(c, &x, bounds[DRIFT_BOUND]);
    free(own);
    free(mean);
}

/* ---- Paths */

static void check_gradients(const step_check *c)
{
    double *gradient = scaled_gradient(c, 1);

    check_step_by(c, gradient, true);
    free(gradient);
}

static void check_share(const step_check *c)
{
    double *own = scaled_gradient(c, (double)c->e->t.plan->workers), *mean = mean_of(c, own, EXACT_BOUND);

    check_step_by(c, mean, false);
    free(own);
    free(mean);
}

static void check_own(const step_check *c)
{
    double *own = scaled_gradient(c, (double)c->e->t.plan->workers);

    check_step_by(c, own, false);
    free(own);
}

/* The errors of gradients are forgotten, and the weights noted. */
static void check_first_sync(const step_check *c)
{
    const int64_t packed = c->bucket->packed, workers = c->e->t.plan->workers;
    bucket_state before = *c->before;
    step_check first = *c;

    before.worker = calloc((size_t)packed + 1, sizeof(double));
    before.server = calloc((size_t)(packed / workers) + 1, sizeof(double));
    first.before = &before;
    check_sync(&first, before.weights);
    free(before.worker);
    free(before.server);
}

/* Replicas hold the same bits, where they should. */
static void check_alike(const step_check *c)
{
    const bool should = strcmp(c->path, "local/step") != 0;
    const double *const states[] = {c->after->weights, c->after->m, c->after->v};
    int64_t differ = 0;

    for (int64_t s = 0; s < DSC_COUNT(states); s++) {
        double *all = emulation_gather(c->e, states[s], c->bucket->elems);

        for (int64_t r = 1; r < c->e->dp; r++)
            differ += memcmp(all, all + r * c->bucket->elems, (size_t)c->bucket->elems * sizeof *all) != 0;
        free(all);
    }
    CHECK((differ > 0) == (!should && c->e->t.plan->workers > 1), "%s: behind %s %d states of replicas differ",
          c->e->name, c->path, (int)differ);
}

static void check_bucket(const step_check *c)
{
    if (strcmp(c->path, "gradients/update") == 0) check_gradients(c);
    else if (strcmp(c->path, "local/share") == 0) check_share(c);
    else if (strcmp(c->path, "local/step") == 0) check_own(c);
    else if (strcmp(c->path, "local/step/sync") == 0) check_sync(c, c->before->anchor);
    else check_first_sync(c);
    check_alike(c);
}

static bool is_read(int64_t number) { return number == READ || number == READ + 1; }

/* rates: of own steps before this one. */
static void check_step(const emulation *e, int64_t number, double *rates)
{
    bucket_state *before = calloc((size_t)e->stage->bucket_count, sizeof *before);
    const char *path = paths[number - 1];
    dsc_step_report report = {0};

    for (int64_t i = 0; i < e->stage->bucket_count; i++) before[i] = emulation_read_state(e, &e->stage->buckets[i]);
    if (CHECK_OK(dsc_run_step(e->t.run, number, false, is_read(number), &report, NULL))) {
        CHECK(strcmp(report.path, path) == 0, "%s: step %d goes %s", e->name, (int)number, report.path);
        if (strstr(path, "step") != NULL) *rates += report.lr;
        for (int64_t i = 0; i < e->stage->bucket_count; i++) {
            bucket_state after = emulation_read_state(e, &e->stage->buckets[i]);

            check_bucket(&(step_check){e, &e->stage->buckets[i], &before[i], &after, path, *rates});
            emulation_free_state(&after);
        }
        if (strstr(path, "sync") != NULL) *rates = 0;
    }
    for (int64_t i = 0; i < e->stage->bucket_count; i++) emulation_free_state(&before[i]);
    free(before);
}

/* ---- Layouts */

static dsc_config configure(int64_t tp, int64_t pp, int precision)
{
    dsc_config config = emulation_configure(DSC_ZERO_ONE_ADAM, tp, pp, precision);

    config.var_freeze_step = 5;
    config.var_update_scaler = 1;
    config.local_step_scaler = 3;
    config.local_step_clipper = 4;
    return config;
}

static void emulate(const dsc_config *config, int64_t nodes)
{
    char name[120];
    double rates = 0;
    emulation e;

    snprintf(name, sizeof name, "tp %d, pp %d on %d nodes, %s, offload %d", (int)config->strategy.tp,
             (int)config->strategy.pp, (int)nodes, dsc_dtype_name(config->strategy.precision),
             config->strategy.offload);
    if (emulation_start(&e, config, nodes, name))
        for (int64_t number = 1; number <= DSC_COUNT(paths); number++) check_step(&e, number, &rates);
    emulation_end(&e);
}

static void each_layout(int64_t nodes, int offload)
{
    const int64_t ranks = dsc_comm_size(job);

    for (int64_t tp = 1; tp <= DSC_MIN(2, ranks); tp *= 2)
        for (int64_t pp = 1; tp * pp <= ranks; pp *= 2)
            for (int precision = DSC_FP32; precision <= DSC_FP16; precision++) {
                dsc_config config = configure(tp, pp, precision);

                config.strategy.offload = offload;
                emulate(&config, nodes);
            }
}

static void on_a_node(void) { each_layout(1, DSC_OFFLOAD_NONE); }
static void in_host_memory(void) { each_layout(1, DSC_OFFLOAD_OPTIMIZER); }
static void over_nodes(void) { each_layout(DSC_MIN(2, dsc_comm_size(job)), DSC_OFFLOAD_NONE); }

static const tap_case cases[] = {
    {"every path is the serial emulation's on every layout, and behind a sync replicas are the same", on_a_node},
    {"with the optimizer in host memory too", in_host_memory},
    {"hierarchically over two nodes too", over_nodes},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
