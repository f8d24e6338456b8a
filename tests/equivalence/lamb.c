/* 1-bit LAMB against a serial emulation in double precision, on every layout, exact steps and compressed ones (You et
 * al. 2020; Li et al. 2021, algorithm 1): fed the same gradients, moments, weights, errors, variance that goes on and
 * mean of trust ratios, both make the same, where norms are of whole tensors, however tensor ranks have cut them. */
#include "tests/equivalence/emulation.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FREEZE = 3, STEPS = 8 };

typedef struct lamb_state { bucket_state s; double *fresh, *trust; } lamb_state;

static lamb_state read_state(const emulation *e, const dsc_bucket *bucket)
{
    return (lamb_state){emulation_read_state(e, bucket), emulation_read_kept(e, bucket, DSC_KEPT_FRESH),
                        emulation_read_kept(e, bucket, DSC_KEPT_TRUST)};
}

static void free_state(lamb_state *state)
{
    emulation_free_state(&state->s);
    free(state->fresh);
    free(state->trust);
}

/* A bucket in a step: what was before it and is after it, and what the emulation makes of the first. */
typedef struct step_check {
    const emulation *e;
    const dsc_bucket *bucket;
    MPI_Comm tensor_group;
    const lamb_state *before, *after;
    bool is_frozen;
    double *m, *fresh, *weights, *trust; /* expected */
    int64_t *free_factors;               /* counts those that no bound has changed */
} step_check;

/* ---- Moments */

/* What replicas have agreed on: an exact step's momentum, or the mean of what they bring. */
static void make_momentum(const step_check *c)
{
    const dsc_step *step = &c->e->t.run->step;
    const int64_t workers = c->e->t.plan->workers, n = c->bucket->elems;
    const double share = (double)step->gradient_scale * (double)(c->is_frozen ? workers : 1);
    double *mean;

    for (int64_t i = 0; i < n; i++)
        c->m[i] = step->beta1 * c->before->s.m[i] + (1 - step->beta1) * share * c->after->s.gradient[i];
    if (!c->is_frozen || workers == 1) return;
    mean = emulation_exchange(c->e, c->bucket, c->m, &c->before->s, &c->after->s, 1e-5);
    memcpy(c->m, mean, (size_t)n * sizeof *mean);
    free(mean);
}

/* By the momentum that is there: where it is rebuilt a gradient has ten times its rounding. */
static void make_fresh(const step_check *c)
{
    const dsc_step *step = &c->e->t.run->step;

    for (int64_t i = 0; i < c->bucket->elems; i++) {
        const double rebuilt = (c->after->s.m[i] - step->beta1 * c->before->s.m[i]) / (1 - step->beta1);
        const double g = c->is_frozen ? rebuilt : (double)step->gradient_scale * c->after->s.gradient[i];
        const double was = c->is_frozen ? c->before->fresh[i] : c->before->s.v[i];

        c->fresh[i] = step->beta2 * was + (1 - step->beta2) * g * g;
    }
}

/* ---- A tensor */

typedef struct norms { double weights, update, direction, ratio; } norms;

static double root(double v, double correction) { return sqrt(v) * correction + 1e-8; }

static double direction(const step_check *c, int64_t i)
{
    const dsc_step *step = &c->e->t.run->step;
    const double v = c->is_frozen ? c->before->s.v[i] : c->fresh[i];

    return c->after->s.m[i] / step->bias_correction1 / root(v, step->bias_correction2);
}

/* Of a shard those elements that are trained: not rows past the vocabulary's end, nor positions past the sequence. */
static int64_t trained(const step_check *c, const dsc_shard *shard)
{
    const dsc_plan *plan = c->e->t.plan;
    const bool are_positions = plan->tensors[shard->tensor].role == DSC_ROLE_WPE;
    int64_t elems = 0;
    dsc_block block;

    for (int64_t b = 0; dsc_shard_block(plan, shard, c->e->tp_index, b, &block); b++) {
        const int64_t most = are_positions ? plan->config.strategy.seq_len - block.row : block.rows;

        elems += DSC_MAX(0, DSC_MIN(most, block.rows)) * block.columns;
    }
    return elems;
}

/* Of the whole tensor, of which each tensor rank has a part, or all. */
static norms find_norms(const step_check *c, const dsc_shard *shard)
{
    const dsc_step *step = &c->e->t.run->step;
    const int64_t first = shard->first - c->bucket->first_elem, count = trained(c, shard);
    norms found = {0};

    for (int64_t i = first; i < first + shard->elems; i++) {
        const double p = c->before->s.weights[i], u0 = direction(c, i), u = u0 + step->weight_decay * p;
        const double ratio = root(c->before->s.v[i], step->bias_correction2) /
                             root(c->fresh[i], step->fresh_correction2);

        found.weights += p * p;
        found.update += u * u;
        found.direction += u0 * u0;
        if (c->is_frozen && i < first + count) found.ratio = fmax(found.ratio, ratio);
    }
    if (shard->is_replicated) return found;
    MPI_Allreduce(MPI_IN_PLACE, &found.weights, 3, MPI_DOUBLE, MPI_SUM, c->tensor_group);
    MPI_Allreduce(MPI_IN_PLACE, &found.ratio, 1, MPI_DOUBLE, MPI_MAX, c->tensor_group);
    return found;
}

static double within(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* Returns what the tensor's update is multiplied by; state: the mean and the last factor. */
static double exact_trust(const step_check *c, const norms *n, double state[2])
{
    const dsc_trust *t = &c->e->t.plan->config.trust;
    double ratio = 1;

    if (n->weights > 0 && n->update > 0)
        ratio = within(sqrt(n->weights) / sqrt(n->update), t->min_coeff, t->max_coeff);
    if (ratio != 1) state[0] = t->coeff_beta * state[0] + (1 - t->coeff_beta) * ratio;
    state[1] = 1;
    return ratio;
}

static double frozen_trust(const step_check *c, const norms *n, double state[2])
{
    const dsc_trust *t = &c->e->t.plan->config.trust;
    const double share = fmin(1, sqrt(n->direction) / sqrt(n->update)), last = state[1];
    double factor = n->ratio, bounded;

    if (c->e->t.run->step.weight_decay > 0) factor = factor * share + (1 - share);
    bounded = within(factor, t->factor_min, t->factor_max);
    state[1] = within(bounded, last * (1 - t->factor_threshold), last * (1 + t->factor_threshold));
    *c->free_factors += state[1] == factor;
    return state[0] * state[1];
}

static void make_weights(const step_check *c)
{
    const dsc_step *step = &c->e->t.run->step;

    for (int64_t s = c->bucket->first; s < c->bucket->end; s++) {
        const dsc_shard *shard = &c->e->stage->shards[s];
        const int64_t first = shard->first - c->bucket->first_elem;
        const norms found = find_norms(c, shard);
        double *state = c->trust + 2 * (s - c->bucket->first);
        const double trust = c->is_frozen ? frozen_trust(c, &found, state) : exact_trust(c, &found, state);

        for (int64_t i = first; i < first + shard->elems; i++)
            c->weights[i] -= step->lr * trust * (direction(c, i) + step->weight_decay * c->before->s.weights[i]);
    }
}

/* ---- A step */

/* Steps are differences of weights, to the rounding of these: so they tell more than weights do. */
static void check_bucket(const step_check *c)
{
    compared m = {.what = "momentum"}, v = {.what = "variance"}, fresh = {.what = "fresh variance"};
    compared weights = {.what = "weights"}, moves = {.what = "steps"}, trust = {.what = "trust"};

    make_momentum(c);
    make_fresh(c);
    make_weights(c);
    for (int64_t i = 0; i < c->bucket->elems; i++) {
        const double was = c->before->s.weights[i];

        emulation_compare(&m, c->after->s.m[i], c->m[i]);
        emulation_compare(&v, c->after->s.v[i], c->is_frozen ? c->before->s.v[i] : c->fresh[i]);
        emulation_compare(&fresh, c->after->fresh[i], c->fresh[i]);
        emulation_compare(&weights, c->after->s.weights[i], c->weights[i]);
        emulation_compare(&moves, c->after->s.weights[i] - was, c->weights[i] - was);
    }
    for (int64_t i = 0; i < 2 * (c->bucket->end - c->bucket->first); i++)
        emulation_compare(&trust, c->after->trust[i], c->trust[i]);
    emulation_check(c->e, &m, 1e-5);
    emulation_check(c->e, &v, c->is_frozen ? 0 : 1e-5);
    emulation_check(c->e, &fresh, 1e-5);
    emulation_check(c->e, &weights, 1e-5);
    emulation_check(c->e, &moves, 1e-5 + 1e-7 * sqrt(weights.squares[1] / fmax(moves.squares[1], 1e-300)));
    emulation_check(c->e, &trust, 1e-5);
}

static double *copy_of(const double *values, int64_t count)
{
    double *copy = calloc((size_t)count + 1, sizeof *copy);

    memcpy(copy, values, (size_t)count * sizeof *copy);
    return copy;
}

static void emulate_bucket(const emulation *e, const dsc_bucket *bucket, MPI_Comm tensor_group,
                           const lamb_state *before, bool is_frozen, int64_t *free_factors)
{
    lamb_state after = read_state(e, bucket);
    const step_check c = {.e = e, .bucket = bucket, .tensor_group = tensor_group, .before = before, .after = &after,
                          .is_frozen = is_frozen, .m = copy_of(before->s.m, bucket->elems),
                          .fresh = copy_of(before->fresh, bucket->elems),
                          .weights = copy_of(before->s.weights, bucket->elems),
                          .trust = copy_of(before->trust, 2 * (bucket->end - bucket->first)),
                          .free_factors = free_factors};
    double *const all[] = {c.m, c.fresh, c.weights, c.trust};

    check_bucket(&c);
    for (int64_t i = 0; i < DSC_COUNT(all); i++) free(all[i]);
    free_state(&after);
}

/* Of a variance of so many updates. */
static void check_correction(const emulation *e, const char *what, double correction, int64_t updates)
{
    const double expected = 1 / sqrt(1 - pow(e->t.run->step.beta2, (double)updates));

    CHECK(fabs(correction - expected) < 1e-12 * expected, "%s: %s is corrected by %g, not %g", e->name, what,
          correction, expected);
}

static void check_step(const emulation *e, int64_t number, MPI_Comm tensor_group, int64_t *free_factors)
{
    lamb_state *before = calloc((size_t)e->stage->bucket_count, sizeof *before);
    const bool is_frozen = number > FREEZE;
    dsc_step_report report = {0};

    for (int64_t i = 0; i < e->stage->bucket_count; i++) before[i] = read_state(e, &e->stage->buckets[i]);
    if (CHECK_OK(dsc_run_step(e->t.run, number, false, false, &report, NULL))) {
        CHECK(strcmp(report.path, is_frozen ? "local/exchange" : "gradients/update") == 0, "%s: step %d goes %s",
              e->name, (int)number, report.path);
        check_correction(e, "the variance", e->t.run->step.bias_correction2, DSC_MIN(number, FREEZE));
        check_correction(e, "the fresh one", e->t.run->step.fresh_correction2, number);
        for (int64_t i = 0; i < e->stage->bucket_count; i++)
            emulate_bucket(e, &e->stage->buckets[i], tensor_group, &before[i], is_frozen, free_factors);
    }
    for (int64_t i = 0; i < e->stage->bucket_count; i++) free_state(&before[i]);
    free(before);
}

/* ---- Layouts */

static dsc_config configure(int64_t tp, int64_t pp, int precision)
{
    dsc_config config = emulation_configure(DSC_ONEBIT_LAMB, tp, pp, precision);

    config.freeze_step = FREEZE;
    config.lr = 0.01;
    config.beta2 = 0.95;
    return config;
}

static MPI_Comm tensor_group_of(const emulation *e)
{
    dsc_coord coord = dsc_plan_coord(e->t.plan, dsc_comm_rank(job));
    MPI_Comm group = MPI_COMM_NULL;

    coord.of[DSC_AXIS_TP] = 0;
    MPI_Comm_split(MPI_COMM_WORLD, (int)dsc_plan_rank(e->t.plan, coord), (int)e->tp_index, &group);
    return group;
}

static void emulate(const dsc_config *config, int64_t nodes)
{
    char name[160];
    MPI_Comm tensor_group;
    int64_t free_factors = 0;
    emulation e;

    snprintf(name, sizeof name, "tp %d, pp %d on %d nodes, %s, offload %d, decay %g, threshold %g",
             (int)config->strategy.tp, (int)config->strategy.pp, (int)nodes,
             dsc_dtype_name(config->strategy.precision), config->strategy.offload, config->weight_decay,
             config->trust.factor_threshold);
    if (emulation_start(&e, config, nodes, name)) {
        tensor_group = tensor_group_of(&e);
        for (int64_t number = 1; number <= STEPS; number++) check_step(&e, number, tensor_group, &free_factors);
        CHECK(config->trust.factor_threshold < 0.5 || free_factors > 0, "%s: no factor is free", name);
        MPI_Comm_free(&tensor_group);
    }
    emulation_end(&e);
}

/* Eight ranks on few cores take their time: there reduced precision, and all but one layout of the later cases, are for
 * DSC_EXHAUSTIVE=1. */
static bool is_brief(void) { return dsc_comm_size(job) >= 8 && getenv("DSC_EXHAUSTIVE") == NULL; }

static void each_layout(int64_t nodes, int offload, double decay, double threshold)
{
    const int64_t ranks = dsc_comm_size(job);
    const bool is_first = nodes == 1 && offload == DSC_OFFLOAD_NONE && decay > 0;

    for (int64_t tp = 1; tp <= DSC_MIN(4, ranks); tp *= 2)
        for (int64_t pp = 1; pp <= 4 && tp * pp <= ranks; pp *= 2)
            for (int precision = DSC_FP32; precision <= (is_brief() ? DSC_FP32 : DSC_FP16); precision++) {
                dsc_config config = configure(tp, pp, precision);

                if (is_brief() && !is_first && (tp != 2 || pp != 2)) continue;
                config.strategy.offload = offload;
                config.weight_decay = decay;
                config.trust.factor_threshold = threshold;
                emulate(&config, nodes);
            }
}

static void on_a_node(void) { each_layout(1, DSC_OFFLOAD_NONE, 0.1, 0.1); }
static void with_free_factors(void) { each_layout(1, DSC_OFFLOAD_NONE, 0, 0.9); }
static void in_host_memory(void) { each_layout(1, DSC_OFFLOAD_OPTIMIZER, 0.1, 0.1); }
static void over_nodes(void) { each_layout(2, DSC_OFFLOAD_NONE, 0.1, 0.5); }

static const tap_case cases[] = {
    {"exact and compressed steps are the serial emulation's on every layout", on_a_node},
    {"without decay, and where factors may change as they like, too", with_free_factors},
    {"with the optimizer in host memory too", in_host_memory},
    {"hierarchically over two nodes too", over_nodes},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
