#include "tests/equivalence/emulation.h"
#include "kernel/convert.h"
#include "kernel/units.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "layers=4,hidden=32,heads=4,vocab=131,seq=24"

/* ---- State of this rank, as doubles */

double *emulation_read_kept(const emulation *e, const dsc_bucket *bucket, dsc_kept kept)
{
    const dsc_home home = dsc_bucket_home(e->t.plan, bucket, kept);
    const int type = dsc_kept_type(e->t.plan, home.kept);
    const void *from = exec_address(e->t.run, dsc_program_kept(e->t.run->o.program, bucket, kept), NULL);
    double *values = calloc((size_t)home.elems + 1, sizeof *values);

    for (int64_t i = 0; i < home.elems; i++) values[i] = dsc_load(from, i, type);
    return values;
}

bucket_state emulation_read_state(const emulation *e, const dsc_bucket *bucket)
{
    const bool compresses = e->t.plan->workers > 1, has_anchor = e->t.plan->has_own_steps;

    return (bucket_state){
        emulation_read_kept(e, bucket, DSC_KEPT_SUMS), emulation_read_kept(e, bucket, DSC_KEPT_EXP_AVG),
        emulation_read_kept(e, bucket, DSC_KEPT_EXP_AVG_SQ), emulation_read_kept(e, bucket, DSC_KEPT_MASTER),
        has_anchor ? emulation_read_kept(e, bucket, DSC_KEPT_ANCHOR) : NULL,
        compresses ? emulation_read_kept(e, bucket, DSC_KEPT_WORKER_ERROR) : NULL,
        compresses ? emulation_read_kept(e, bucket, DSC_KEPT_SERVER_ERROR) : NULL};
}

void emulation_free_state(bucket_state *s)
{
    double *const all[] = {s->gradient, s->m, s->v, s->weights, s->anchor, s->worker, s->server};

    for (int64_t i = 0; i < DSC_COUNT(all); i++) free(all[i]);
}

double *emulation_gather(const emulation *e, const double *own, int64_t count)
{
    double *all = calloc((size_t)(e->dp * count) + 1, sizeof *all);

    MPI_Allgather(own, (int)count, MPI_DOUBLE, all, (int)count, MPI_DOUBLE, e->group);
    return all;
}

/* ---- Comparing */

void emulation_compare(compared *c, double got, double expected)
{
    c->squares[0] += (got - expected) * (got - expected);
    c->squares[1] += expected * expected;
}

void emulation_check(const emulation *e, const compared *c, double limit)
{
    double distance = sqrt(c->squares[0] / fmax(c->squares[1], 1e-300));

    CHECK(distance <= limit, "%s: %s is %.3g apart, %g allowed", e->name, c->what, distance, limit);
}

/* ---- The exchange of a unit */

/* What a worker, or a server, sends of n elements, of which the first `real` count: value's sign times their root mean
 * square, in place; the rest is its new error. Where the value is as good as zero either sign is right: `after` is the
 * error that was really left, and tells which was taken. */
static void compress(double *value, const double *after, int64_t n, int64_t real, double unsure, double *error)
{
    double squares = 0, scale;

    for (int64_t i = 0; i < real; i++) squares += value[i] * value[i];
    scale = real == 0 ? 0 : sqrt(squares / (double)real);
    for (int64_t i = 0; i < n; i++) {
        const bool is_unsure = fabs(value[i]) < unsure * scale;
        const double sent = (is_unsure ? value[i] - after[i] >= 0 : value[i] >= 0) ? scale : -scale;

        error[i] = i < real ? value[i] - sent : 0;
        value[i] = sent;
    }
}

/* What a data group brings, and its errors before and after, one member's behind another's. */
typedef struct exchange {
    const dsc_bucket *bucket;
    double *brought, *workers, *workers_after, *servers, *servers_after;
    double unsure;              /* of a scale: below it a sign may be another in fp32 */
    double *mean;               /* [elems] that is expected */
    double sent;                /* sum of squares of what servers send */
    compared worker, server;
} exchange;

static bool counts_padding(const dsc_plan *plan)
{
    return plan->config.strategy.semantics == DSC_SEMANTICS_REFERENCE;
}

/* v of a worker, whose replica `rank` of the group compresses the unit. */
static void bring(const exchange *x, const dsc_unit *unit, int64_t rank, double *v)
{
    for (int64_t i = 0; i < unit->padded; i++) {
        v[i] = x->workers[rank * x->bucket->packed + unit->place + i];
        if (i < unit->real) v[i] += x->brought[rank * x->bucket->elems + unit->first + i];
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

        bring(x, unit, rank, sent + w * unit->padded);
        compress(sent + w * unit->padded, after, unit->padded, real, x->unsure, error);
        for (int64_t i = 0; i < unit->padded; i++) emulation_compare(&x->worker, after[i], error[i]);
    }
    for (int64_t j = 0; j < n; j++) {
        const int64_t at = (j * plan->intra + part) * each + unit->place / n;
        double *y = error + unit->padded;

        for (int64_t i = 0; i < chunk; i++) {
            y[i] = x->servers[at + i];
            for (int64_t w = 0; w < n; w++) y[i] += sent[w * unit->padded + j * chunk + i] / (double)n;
        }
        compress(y, x->servers_after + at, chunk, DSC_MAX(0, DSC_MIN(real - j * chunk, chunk)), x->unsure, error);
        for (int64_t i = 0; i < chunk; i++) {
            emulation_compare(&x->server, x->servers_after[at + i], error[i]);
            x->sent += y[i] * y[i];
            if (j * chunk + i < unit->real) x->mean[unit->first + j * chunk + i] = y[i];
        }
    }
    free(sent);
}

double *emulation_exchange(const emulation *e, const dsc_bucket *bucket, const double *brought,
                           const bucket_state *before, const bucket_state *after, double limit)
{
    const dsc_plan *plan = e->t.plan;
    const int64_t packed = bucket->packed, each = packed / plan->workers;
    dsc_units *units = malloc((size_t)dsc_units_elems(bucket->units) * sizeof(int64_t));
    exchange x = {bucket, emulation_gather(e, brought, bucket->elems), emulation_gather(e, before->worker, packed),
                  emulation_gather(e, after->worker, packed), emulation_gather(e, before->server, each),
                  emulation_gather(e, after->server, each), 10 * limit,
                  calloc((size_t)bucket->elems, sizeof(double)), 0, {.what = "workers' error"},
                  {.what = "servers' error"}};
    double *const all[] = {x.brought, x.workers, x.workers_after, x.servers, x.servers_after};

    for (int64_t part = 0; part < plan->intra; part++) {
        dsc_bucket_units(plan, e->stage, bucket, part, e->tp_index, units);
        for (int64_t u = 0; u < units->count; u++) exchange_unit(e, &x, &units->unit[u], part);
    }
    /* Where workers bring the same a server has next to no error, but rounding of what it sends. */
    x.server.squares[1] = fmax(x.server.squares[1], 1e-4 * x.sent);
    emulation_check(e, &x.worker, limit);
    emulation_check(e, &x.server, limit);
    for (int64_t i = 0; i < DSC_COUNT(all); i++) free(all[i]);
    free(units);
    return x.mean;
}

/* ---- Layouts */

dsc_config emulation_configure(int optimizer, int64_t tp, int64_t pp, int precision)
{
    dsc_config config = DSC_CONFIG_DEFAULT;

    config.strategy.tp = tp;
    config.strategy.pp = pp;
    config.strategy.optimizer = optimizer;
    config.strategy.precision = precision;
    config.strategy.sequence_parallel = tp > 1;
    config.strategy.seq_len = 16;
    config.strategy.micro_batch = 1;
    config.strategy.global_batch = 2 * dsc_comm_size(job) / tp / pp;
    config.strategy.bucket_elems = 9000;
    config.weight_decay = 0.1;
    config.clip = 0.5;
    config.initial_scale_power = 8;
    return config;
}

bool emulation_start(emulation *e, const dsc_config *config, int64_t nodes, const char *name)
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

void emulation_end(emulation *e)
{
    if (e->group != MPI_COMM_NULL) MPI_Comm_free(&e->group);
    trainer_fini(&e->t);
}

bool emulation_run_to(emulation *e, int64_t last)
{
    dsc_step_report report = {0};

    for (int64_t number = 1; number <= last; number++)
        if (!CHECK_OK(dsc_run_step(e->t.run, number, false, false, &report, NULL))) return false;
    return true;
}
