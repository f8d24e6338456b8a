/* Compressed steps of 1-bit Adam against a serial emulation in double precision, on every layout: fed the same
 * gradients, momentum, variance, weights and errors, both make the same momentum, weights and errors (Tang et al. 2021,
 * algorithm 1). And replicas' own gradients are shares of the exact one. */
#include "tests/equivalence/emulation.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FREEZE = 3, STEPS = 7 };

/* ---- A step */

static void check_update(const emulation *e, const bucket_state *before, const bucket_state *after, const double *mean,
                         int64_t elems)
{
    const dsc_step *step = &e->t.run->step;
    compared m = {.what = "momentum"}, weights = {.what = "weights"}, v = {.what = "variance"};

    for (int64_t i = 0; i < elems; i++) {
        const double direction = mean[i] / step->bias_correction1 /
                                 (sqrt(before->v[i]) * step->bias_correction2 + step->eps);

        emulation_compare(&m, after->m[i], mean[i]);
        emulation_compare(&v, after->v[i], before->v[i]);
        emulation_compare(&weights, after->weights[i],
                before->weights[i] - step->lr * (direction + step->weight_decay * before->weights[i]));
    }
    emulation_check(e, &m, 1e-5);
    emulation_check(e, &weights, 1e-5);
    emulation_check(e, &v, 0);
}

/* A worker's own momentum. */
static double *bring(const emulation *e, const dsc_bucket *bucket, const bucket_state *before, const double *gradient)
{
    const dsc_step *step = &e->t.run->step;
    const double share = (double)e->t.plan->workers * (double)step->gradient_scale;
    double *m = calloc((size_t)bucket->elems, sizeof *m);

    for (int64_t i = 0; i < bucket->elems; i++)
        m[i] = step->beta1 * before->m[i] + (1 - step->beta1) * share * gradient[i];
    return m;
}

static void check_bucket(const emulation *e, const dsc_bucket *bucket, const bucket_state *before)
{
    bucket_state after = emulation_read_state(e, bucket);
    double *own = bring(e, bucket, before, after.gradient);
    double *mean = emulation_exchange(e, bucket, own, before, &after, 1e-5);

    check_update(e, before, &after, mean, bucket->elems);
    free(own);
    free(mean);
    emulation_free_state(&after);
}

static void check_step(emulation *e, int64_t number)
{
    bucket_state *before = calloc((size_t)e->stage->bucket_count, sizeof *before);
    dsc_step_report report = {0};

    for (int64_t i = 0; i < e->stage->bucket_count; i++) before[i] = emulation_read_state(e, &e->stage->buckets[i]);
    if (CHECK_OK(dsc_run_step(e->t.run, number, false, false, &report, NULL))) {
        CHECK(strcmp(report.path, "local/exchange") == 0, "%s: step %d goes %s", e->name, (int)number, report.path);
        for (int64_t i = 0; i < e->stage->bucket_count; i++) check_bucket(e, &e->stage->buckets[i], &before[i]);
    }
    for (int64_t i = 0; i < e->stage->bucket_count; i++) emulation_free_state(&before[i]);
    free(before);
}

/* ---- Layouts */

static dsc_config configure(int64_t tp, int64_t pp, int precision)
{
    dsc_config config = emulation_configure(DSC_ONEBIT_ADAM, tp, pp, precision);

    config.freeze_step = FREEZE;
    return config;
}

static void emulate(const dsc_config *config, int64_t nodes)
{
    char name[120];
    emulation e;

    snprintf(name, sizeof name, "tp %d, pp %d on %d nodes, %s, offload %d, semantics %d", (int)config->strategy.tp,
             (int)config->strategy.pp, (int)nodes, dsc_dtype_name(config->strategy.precision), config->strategy.offload,
             config->strategy.semantics);
    if (emulation_start(&e, config, nodes, name) && e.t.plan->workers > 1 && emulation_run_to(&e, FREEZE))
        for (int64_t number = FREEZE + 1; number <= STEPS; number++) check_step(&e, number);
    emulation_end(&e);
}

/* Eight ranks on few cores take their time: there reduced precision is for DSC_EXHAUSTIVE=1. */
static int last_precision(void)
{
    return dsc_comm_size(job) < 8 || getenv("DSC_EXHAUSTIVE") != NULL ? DSC_FP16 : DSC_FP32;
}

static void each_layout(int64_t nodes, int semantics, int offload)
{
    const int64_t ranks = dsc_comm_size(job);

    for (int64_t tp = 1; tp <= DSC_MIN(4, ranks); tp *= 2)
        for (int64_t pp = 1; tp * pp < ranks; pp *= 2)
            for (int precision = DSC_FP32; precision <= last_precision(); precision++) {
                dsc_config config = configure(tp, pp, precision);

                config.strategy.semantics = semantics;
                config.strategy.offload = offload;
                emulate(&config, nodes);
            }
}

static void as_the_paper(void) { each_layout(1, DSC_SEMANTICS_PAPER, DSC_OFFLOAD_NONE); }
static void as_the_reference(void) { each_layout(1, DSC_SEMANTICS_REFERENCE, DSC_OFFLOAD_NONE); }
static void in_host_memory(void) { each_layout(1, DSC_SEMANTICS_PAPER, DSC_OFFLOAD_OPTIMIZER); }
static void over_nodes(void) { each_layout(2, DSC_SEMANTICS_PAPER, DSC_OFFLOAD_NONE); }

/* ---- Gradients */

/* What this replica has the sum of: its part, where replicas of a node cut buckets among them; else all. */
static bool is_own(const emulation *e, int64_t elem, int64_t elems)
{
    const int64_t parts = dsc_plan_scatters(e->t.plan) ? e->t.plan->intra : 1;

    return elem / (elems / parts) == e->dp_index % parts;
}

/* The sum of what replicas have is what an exact run has, at the same weights. */
static void sum_shares(const emulation *shares, const emulation *exact, double limit)
{
    for (int64_t i = 0; i < shares->stage->bucket_count; i++) {
        double *own = emulation_read_kept(shares, &shares->stage->buckets[i], DSC_KEPT_SUMS);
        double *expected = emulation_read_kept(exact, &exact->stage->buckets[i], DSC_KEPT_SUMS);
        compared sum = {.what = "sum of gradients"}, alone = {.what = "a share"};
        const int64_t elems = shares->stage->buckets[i].elems, there = exact->stage->buckets[i].elems;

        for (int64_t k = 0; k < elems; k++) {
            if (!is_own(shares, k, elems)) own[k] = 0;
            else if (k < there) emulation_compare(&alone, own[k], expected[k]);
        }
        MPI_Allreduce(MPI_IN_PLACE, own, (int)elems, MPI_DOUBLE, MPI_SUM, shares->group);
        /* where buckets are cut in parts their end is padded further */
        for (int64_t k = 0; k < elems; k++) emulation_compare(&sum, own[k], k < there ? expected[k] : 0);
        emulation_check(shares, &sum, limit);
        CHECK(alone.squares[0] > 0.01 * alone.squares[1], "%s: a replica's own gradient is the sum", shares->name);
        free(own);
        free(expected);
    }
}

/* Before clipping: as if all workers had this one's gradient, in the mean of squares over workers. */
static void check_norm(const emulation *e, double grad_norm, double limit)
{
    compared norm = {.what = "the norm"};
    double squares = 0;

    for (int64_t i = 0; i < e->stage->bucket_count; i++) {
        const dsc_bucket *bucket = &e->stage->buckets[i];
        const double ranks = bucket->is_replicated ? (double)e->t.plan->config.strategy.tp : 1;
        double *own = emulation_read_kept(e, bucket, DSC_KEPT_SUMS);

        for (int64_t k = 0; !bucket->is_copy && k < bucket->elems; k++)
            if (is_own(e, k, bucket->elems)) squares += own[k] * own[k] / ranks;
        free(own);
    }
    MPI_Allreduce(MPI_IN_PLACE, &squares, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    emulation_compare(&norm, grad_norm, sqrt((double)e->t.plan->workers * squares));
    emulation_check(e, &norm, limit);
}

static void check_shares(const dsc_config *config, int64_t nodes)
{
    const double limit = config->strategy.precision == DSC_FP32 ? 1e-5 : 1e-2;
    dsc_config adam = *config;
    dsc_step_report report;
    emulation shares, exact;
    bool is_started = true;

    adam.strategy.optimizer = DSC_ADAM;
    is_started &= emulation_start(&shares, config, nodes, nodes > 1 ? "1-bit Adam over nodes" : "1-bit Adam");
    is_started &= emulation_start(&exact, &adam, nodes, "Adam");
    if (is_started && emulation_run_to(&shares, FREEZE) && emulation_run_to(&exact, FREEZE + 1) &&
        CHECK_OK(dsc_run_step(shares.t.run, FREEZE + 1, false, false, &report, NULL))) {
        sum_shares(&shares, &exact, limit);
        check_norm(&shares, report.grad_norm, limit);
    }
    emulation_end(&shares);
    emulation_end(&exact);
}

static void gradients_are_shares(void)
{
    const int64_t ranks = dsc_comm_size(job);

    for (int64_t tp = 1; tp <= DSC_MIN(4, ranks); tp *= 2)
        for (int64_t pp = 1; tp * pp < ranks; pp *= 2)
            for (int precision = DSC_FP32; precision <= DSC_MIN(DSC_BF16, last_precision()); precision++)
                for (int64_t nodes = 1; nodes <= 2; nodes++) {
                    const dsc_config config = configure(tp, pp, precision);

                    check_shares(&config, nodes);
                }
}

static const tap_case cases[] = {
    {"compressed steps are the serial emulation's on every layout", as_the_paper},
    {"with the reference's semantics too", as_the_reference},
    {"with the optimizer in host memory too", in_host_memory},
    {"hierarchically over two nodes too", over_nodes},
    {"replicas' own gradients are shares of the exact ones", gradients_are_shares},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
