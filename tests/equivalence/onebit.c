/* Compressed steps of 1-bit Adam against a serial emulation in double precision, on every layout: fed the same
 * gradients, momentum, variance, weights and errors, both make the same momentum, weights and errors (Tang et al. 2021,
 * algorithm 1). And replicas' own gradients are shares of the exact one. */
#include "exec/internal.h"
#include "kernel/convert.h"
#include "kernel/units.h"
#include "tests/comm/job.h"
#include "tests/exec/trainer.h"
#include <inttypes.h>
#include <math.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "layers=4,hidden=32,heads=4,vocab=131,seq=24"

enum { FREEZE = 3, STEPS = 7 };

/* What ranks of a data group keep of a bucket, before and after a step; the group's own communicator. */
typedef struct bucket_state {
    double *gradient, *m, *v, *weights, *worker, *server;
} bucket_state;

typedef struct emulation {
    trainer t;
    MPI_Comm group;
    const dsc_stage *stage;
    int64_t dp, tp_index, dp_index;
    const char *name;           /* of the layout */
} emulation;

/* ---- State of this rank, as doubles */

static double *read_kept(const emulation *e, const dsc_bucket *bucket, dsc_kept kept)
{
    const dsc_home home = dsc_bucket_home(e->t.plan, bucket, kept);
    const int type = dsc_kept_type(e->t.plan, home.kept);
    const void *from = exec_address(e->t.run, dsc_program_kept(e->t.run->o.program, bucket, kept), NULL);
    double *values = calloc((size_t)home.elems + 1, sizeof *values);

    for (int64_t i = 0; i < home.elems; i++) values[i] = dsc_load(from, i, type);
    return values;
}

static bucket_state read_state(const emulation *e, const dsc_bucket *bucket)
{
    return (bucket_state){read_kept(e, bucket, DSC_KEPT_SUMS),         read_kept(e, bucket, DSC_KEPT_EXP_AVG),
                          read_kept(e, bucket, DSC_KEPT_EXP_AVG_SQ),   read_kept(e, bucket, DSC_KEPT_MASTER),
                          read_kept(e, bucket, DSC_KEPT_WORKER_ERROR), read_kept(e, bucket, DSC_KEPT_SERVER_ERROR)};
}

static void free_state(bucket_state *s)
{
    double *const all[] = {s->gradient, s->m, s->v, s->weights, s->worker, s->server};

    for (int64_t i = 0; i < DSC_COUNT(all); i++) free(all[i]);
}

/* The same of all members of the data group, one behind another. */
static double *gather(const emulation *e, const double *own, int64_t count)
{
    double *all = calloc((size_t)(e->dp * count) + 1, sizeof *all);

    MPI_Allgather(own, (int)count, MPI_DOUBLE, all, (int)count, MPI_DOUBLE, e->group);
    return all;
}

/* ---- The emulation of a unit */

/* What a worker, or a server, sends of n elements, of which the first `real` count: value's sign times their root mean
 * square, in place; the rest is its new error. Where the value is as good as zero either sign is right: `after` is the
 * error that was really left, and tells which was taken. */
static void compress(double *value, const double *after, int64_t n, int64_t real, double *error)
{
    double squares = 0, scale;

    for (int64_t i = 0; i < real; i++) squares += value[i] * value[i];
    scale = real == 0 ? 0 : sqrt(squares / (double)real);
    for (int64_t i = 0; i < n; i++) {
        const bool is_unsure = fabs(value[i]) < 1e-4 * scale;
        const double sent = (is_unsure ? value[i] - after[i] >= 0 : value[i] >= 0) ? scale : -scale;

        error[i] = i < real ? value[i] - sent : 0;
        value[i] = sent;
    }
}

typedef struct compared { double squares[2]; const char *what; } compared;

static void compare(compared *c, double got, double expected)
{
    c->squares[0] += (got - expected) * (got - expected);
    c->squares[1] += expected * expected;
}

static void check(const emulation *e, const compared *c, double limit)
{
    double distance = sqrt(c->squares[0] / fmax(c->squares[1], 1e-300));

    CHECK(distance <= limit, "%s: %s is %.3g apart, %g allowed", e->name, c->what, distance, limit);
}

/* Everything of a data group that a bucket's step begins and ends with: gradients, errors, and errors left. */
typedef struct exchange {
    const dsc_bucket *bucket;
    double *gradients, *workers, *workers_after, *servers, *servers_after;
    const double *m;            /* before */
    double *mean;               /* [elems] that is expected */
    compared worker, server;
} exchange;

static bool counts_padding(const dsc_plan *plan)
{
    return plan->config.strategy.semantics == DSC_SEMANTICS_REFERENCE;
}

/* v of a worker, whose replica `rank` of the group compresses the unit. */
static void make_momentum(const emulation *e, const exchange *x, const dsc_unit *unit, int64_t rank, double *v)
{
    const dsc_step *step = &e->t.run->step;
    const double share = (double)e->t.plan->workers * (double)step->gradient_scale;

    for (int64_t i = 0; i < unit->padded; i++) {
        const int64_t at = unit->first + i;

        v[i] = x->workers[rank * x->bucket->packed + unit->place + i];
        if (i < unit->real)
            v[i] += step->beta1 * x->m[at] +
                    (1 - step->beta1) * share * x->gradients[rank * x->bucket->elems + at];
    }
}

static void exchange_unit(const emulation *e, exchange *x, const dsc_unit *unit, int64_t part)
{
    const dsc_plan *plan = e->t.plan;
    const int64_t n = plan->workers, chunk = unit->padded / n, each = x->bucket->packed / n;
    const int64_t real = counts_padding(plan) ? unit->padded : unit->real;
    double *sent = calloc((size_t)((n + 2) * unit->padded), sizeof *sent), *error = sent + n * unit->padded;

    for (int64_t w = 0; w < n; w++) {
        const int64_t rank = w * plan->intra + part;
        const double *after = x->workers_after + rank * x->bucket->packed + unit->place;

        make_momentum(e, x, unit, rank, sent + w * unit->padded);
        compress(sent + w * unit->padded, after, unit->padded, real, error);
        for (int64_t i = 0; i < unit->padded; i++) compare(&x->worker, after[i], error[i]);
    }
    for (int64_t j = 0; j < n; j++) {
        const int64_t at = (j * plan->intra + part) * each + unit->place / n;
        double *y = error + unit->padded;

        for (int64_t i = 0; i < chunk; i++) {
            y[i] = x->servers[at + i];
            for (int64_t w = 0; w < n; w++) y[i] += sent[w * unit->padded + j * chunk + i] / (double)n;
        }
        compress(y, x->servers_after + at, chunk, DSC_MAX(0, DSC_MIN(real - j * chunk, chunk)), error);
        for (int64_t i = 0; i < chunk; i++) {
            compare(&x->server, x->servers_after[at + i], error[i]);
            if (j * chunk + i < unit->real) x->mean[unit->first + j * chunk + i] = y[i];
        }
    }
    free(sent);
}

static void exchange_bucket(const emulation *e, exchange *x)
{
    const dsc_plan *plan = e->t.plan;
    dsc_units *units = malloc((size_t)dsc_units_elems(x->bucket->units) * sizeof(int64_t));

    for (int64_t part = 0; part < plan->intra; part++) {
        dsc_bucket_units(plan, e->stage, x->bucket, part, e->tp_index, units, NULL);
        for (int64_t u = 0; u < units->count; u++) exchange_unit(e, x, &units->unit[u], part);
    }
    free(units);
}

/* ---- A step */

static void check_update(const emulation *e, const bucket_state *before, const bucket_state *after, const double *mean,
                         int64_t elems)
{
    const dsc_step *step = &e->t.run->step;
    compared m = {.what = "momentum"}, weights = {.what = "weights"}, v = {.what = "variance"};

    for (int64_t i = 0; i < elems; i++) {
        const double direction = mean[i] / step->bias_correction1 /
                                 (sqrt(before->v[i]) * step->bias_correction2 + step->eps);

        compare(&m, after->m[i], mean[i]);
        compare(&v, after->v[i], before->v[i]);
        compare(&weights, after->weights[i],
                before->weights[i] - step->lr * (direction + step->weight_decay * before->weights[i]));
    }
    check(e, &m, 1e-5);
    check(e, &weights, 1e-5);
    check(e, &v, 0);
}

static void check_bucket(const emulation *e, const dsc_bucket *bucket, const bucket_state *before)
{
    const int64_t packed = bucket->packed, each = packed / e->t.plan->workers;
    bucket_state after = read_state(e, bucket);
    exchange x = {.bucket = bucket, .m = before->m, .worker = {.what = "workers' error"},
                  .server = {.what = "servers' error"}};

    x.gradients = gather(e, after.gradient, bucket->elems);
    x.workers = gather(e, before->worker, packed);
    x.workers_after = gather(e, after.worker, packed);
    x.servers = gather(e, before->server, each);
    x.servers_after = gather(e, after.server, each);
    x.mean = calloc((size_t)bucket->elems, sizeof *x.mean);
    exchange_bucket(e, &x);
    check(e, &x.worker, 1e-5);
    check(e, &x.server, 1e-5);
    check_update(e, before, &after, x.mean, bucket->elems);
    double *const all[] = {x.gradients, x.workers, x.workers_after, x.servers, x.servers_after, x.mean};
    for (int64_t i = 0; i < DSC_COUNT(all); i++) free(all[i]);
    free_state(&after);
}

static void check_step(emulation *e, int64_t number)
{
    bucket_state *before = calloc((size_t)e->stage->bucket_count, sizeof *before);
    dsc_step_report report = {0};

    for (int64_t i = 0; i < e->stage->bucket_count; i++) before[i] = read_state(e, &e->stage->buckets[i]);
    if (CHECK_OK(dsc_run_step(e->t.run, number, false, false, &report, NULL))) {
        CHECK(strcmp(report.path, "local/exchange") == 0, "%s: step %d goes %s", e->name, (int)number, report.path);
        for (int64_t i = 0; i < e->stage->bucket_count; i++) check_bucket(e, &e->stage->buckets[i], &before[i]);
    }
    for (int64_t i = 0; i < e->stage->bucket_count; i++) free_state(&before[i]);
    free(before);
}

/* ---- Layouts */

static dsc_config configure(int64_t tp, int64_t pp, int precision)
{
    dsc_config config = DSC_CONFIG_DEFAULT;

    config.strategy.tp = tp;
    config.strategy.pp = pp;
    config.strategy.optimizer = DSC_ONEBIT_ADAM;
    config.strategy.precision = precision;
    config.strategy.sequence_parallel = tp > 1;
    config.strategy.seq_len = 16;
    config.strategy.micro_batch = 1;
    config.strategy.global_batch = 2 * dsc_comm_size(job) / tp / pp;
    config.strategy.bucket_elems = 9000;
    config.weight_decay = 0.1;
    config.clip = 0.5;
    config.initial_scale_power = 8;
    config.freeze_step = FREEZE;
    return config;
}

static bool start(emulation *e, const dsc_config *config, int64_t nodes, const char *name)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog, again and again, until it gets up; ";
    char text[4000];
    dsc_coord coord;

    for (size_t i = 0; i < sizeof text; i++) text[i] = words[i * i / 7 % (sizeof words - 1)];
    *e = (emulation){.name = name, .group = MPI_COMM_NULL};
    if (!CHECK_OK(trainer_init_on(job, nodes, MODEL, config, text, sizeof text, &e->t))) return false;
    coord = dsc_plan_coord(e->t.plan, dsc_comm_rank(job));
    e->stage = &e->t.plan->stages[coord.of[DSC_AXIS_PP]];
    e->dp = e->t.plan->config.strategy.dp;
    e->tp_index = coord.of[DSC_AXIS_TP];
    e->dp_index = coord.of[DSC_AXIS_DP];
    coord.of[DSC_AXIS_DP] = 0;
    MPI_Comm_split(MPI_COMM_WORLD, (int)dsc_plan_rank(e->t.plan, coord), (int)e->dp_index, &e->group);
    return true;
}

static void end(emulation *e)
{
    if (e->group != MPI_COMM_NULL) MPI_Comm_free(&e->group);
    trainer_fini(&e->t);
}

static bool run_to(emulation *e, int64_t last)
{
    dsc_step_report report = {0};

    for (int64_t number = 1; number <= last; number++)
        if (!CHECK_OK(dsc_run_step(e->t.run, number, false, false, &report, NULL))) return false;
    return true;
}

static void emulate(const dsc_config *config, int64_t nodes)
{
    char name[120];
    emulation e;

    snprintf(name, sizeof name, "tp %d, pp %d on %d nodes, %s, offload %d, semantics %d", (int)config->strategy.tp,
             (int)config->strategy.pp, (int)nodes, dsc_dtype_name(config->strategy.precision), config->strategy.offload,
             config->strategy.semantics);
    if (start(&e, config, nodes, name) && e.t.plan->workers > 1 && run_to(&e, FREEZE))
        for (int64_t number = FREEZE + 1; number <= STEPS; number++) check_step(&e, number);
    end(&e);
}

static void each_layout(int64_t nodes, int semantics, int offload)
{
    const int64_t ranks = dsc_comm_size(job);

    for (int64_t tp = 1; tp <= DSC_MIN(4, ranks); tp *= 2)
        for (int64_t pp = 1; tp * pp < ranks; pp *= 2)
            for (int precision = DSC_FP32; precision <= DSC_FP16; precision++) {
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

/* The sum of what replicas have is what an exact run has, at the same weights. */
static void sum_shares(const emulation *shares, const emulation *exact, double limit)
{
    for (int64_t i = 0; i < shares->stage->bucket_count; i++) {
        double *own = read_kept(shares, &shares->stage->buckets[i], DSC_KEPT_SUMS);
        double *expected = read_kept(exact, &exact->stage->buckets[i], DSC_KEPT_SUMS);
        compared sum = {.what = "sum of gradients"}, alone = {.what = "a share"};
        const int64_t elems = shares->stage->buckets[i].elems;

        for (int64_t k = 0; k < elems; k++) compare(&alone, own[k], expected[k]);
        MPI_Allreduce(MPI_IN_PLACE, own, (int)elems, MPI_DOUBLE, MPI_SUM, shares->group);
        for (int64_t k = 0; k < elems; k++) compare(&sum, own[k], expected[k]);
        check(shares, &sum, limit);
        CHECK(alone.squares[0] > 0.01 * alone.squares[1], "%s: a replica's own gradient is the sum", shares->name);
        free(own);
        free(expected);
    }
}

static void gradients_are_shares(void)
{
    const int64_t ranks = dsc_comm_size(job);

    for (int64_t tp = 1; tp <= DSC_MIN(4, ranks); tp *= 2)
        for (int64_t pp = 1; tp * pp < ranks; pp *= 2)
            for (int precision = DSC_FP32; precision <= DSC_BF16; precision++) {
                dsc_config config = configure(tp, pp, precision), adam = config;
                emulation shares, exact;

                adam.strategy.optimizer = DSC_ADAM;
                if (start(&shares, &config, 1, "1-bit Adam") && start(&exact, &adam, 1, "Adam") &&
                    run_to(&shares, FREEZE + 1) && run_to(&exact, FREEZE + 1))
                    sum_shares(&shares, &exact, precision == DSC_FP32 ? 1e-5 : 1e-2);
                end(&shares);
                end(&exact);
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
