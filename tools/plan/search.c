/* --search: the closed form screens, the event engine decides among the best. */
#include "base/log.h"
#include "tools/plan/plan.h"
#include "tools/plan/html.h"
#include <inttypes.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Strategies shown where --top does not say; how many times as many the engine is asked for before an open end is
 * accepted; behind the first, so many at once. */
enum { TOP = 10, MOST_TIMES = 3, GROUP = 4, MOST_THREADS = 16, HASH = 33, ORDER = 32 };

/* By so much the closed form may say more than the engine, by schedule; by more where it did (doc/plan.md). */
static const double ERRORS[] = {[DSC_GPIPE] = 0.005, [DSC_1F1B] = 0.005, [DSC_INTERLEAVED] = 0.01, [DSC_ZB_H1] = 0.005};

/* What is kept of a simulated strategy, in an order of ranks. */
typedef struct result {
    dsc_candidate c;
    char order[ORDER];         /* "": the plan's choice */
    char swapped[ORDER];       /* the chosen one with dp and pp swapped, where that may matter; else "" */
    int64_t chosen_ns;         /* where the order is a swapped one: the step in the chosen order */
    bool feasible;
    char hash[HASH];           /* of the programs */
    dsc_timing timing;
    int64_t peak_bytes, capacity_bytes;
    double utilization, days;  /* days: of --tokens, else 0 */
    json_t *json;
} result;

typedef struct finder {
    const tool_inputs *inputs;
    plan_options options;      /* of single evaluations */
    evaluation *base;          /* model, cluster, calibration */
    dsc_search *search;
    result *results; int64_t count, capacity; /* of those that fit */
    dsc_candidate *done; int64_t done_capacity, simulated; /* of all */
    double errors[DSC_COUNT(ERRORS)];
    bool is_open;              /* strategies are left that may be faster than those shown */
} finder;

/* ---- Simulating */

static void write_swapped(const dsc_plan *plan, char out[ORDER])
{
    dsc_plan other = *plan;

    for (int i = 0; i < DSC_COUNT(other.order); i++) {
        if (plan->order[i] == DSC_AXIS_DP) other.order[i] = DSC_AXIS_PP;
        if (plan->order[i] == DSC_AXIS_PP) other.order[i] = DSC_AXIS_DP;
    }
    write_order(&other, out);
}

/* Whether dp and pp are on other links when they are swapped: not where the rule has that order next, as fast on the
 * same links, as of axes that both join whole nodes of a flat network. */
static bool differ_in_links(const dsc_plan *plan)
{
    const dsc_order_cost *here = &plan->order_cost, *next = &plan->next_cost;
    char swapped[ORDER], second[ORDER];
    dsc_plan other = *plan;

    memcpy(other.order, next->order, sizeof other.order);
    write_order(&other, second);
    write_swapped(plan, swapped);
    if (!dsc_equal(second, swapped)) return true;
    for (int i = 0; i < DSC_COUNT(here->link); i++)
        if (here->axis_ns[i] != next->axis_ns[i] || !dsc_equal(here->link[i], next->link[i])) return true;
    return false;
}

static void note_result(const evaluation *e, bool json, result *r)
{
    const int64_t libraries = e->plan->libraries_bytes[DSC_SPACE_DEVICE];

    r->feasible = e->feasible;
    r->timing = e->timing;
    r->peak_bytes = e->worst[DSC_SPACE_DEVICE].ledger.arena_bytes + libraries;
    r->capacity_bytes = e->plan->capacity_bytes[DSC_SPACE_DEVICE];
    r->utilization = flops_utilization(e);
    r->days = e->run.days;
    r->json = json && e->feasible ? evaluation_json(e) : NULL;
    dsc_programs_hash(e->plan, e->programs, r->hash);
    if (r->c.dp > 1 && r->c.pp > 1 && e->plan->order_reason == DSC_ORDER_CHOSEN && differ_in_links(e->plan))
        write_swapped(e->plan, r->swapped);
}

static dsc_config config_of(const finder *f, const result *r)
{
    dsc_config config = dsc_search_config(f->search, &r->c);

    if (r->order[0] != '\0') memcpy(config.strategy.rank_order, r->order, sizeof r->order);
    return config;
}

/* The strategy and the order in *r. */
static dsc_status simulate(const finder *f, result *r)
{
    const dsc_config config = config_of(f, r);
    evaluation *e = calloc(1, sizeof *e);
    dsc_status status;

    if (e == NULL) return DSC_FAIL(DSC_ENOMEM, "--search: %zu bytes", sizeof *e);
    evaluation_init(e);
    e->model = f->base->model;
    e->cluster = f->base->cluster; /* borrowed */
    status = evaluate_on(&config, &f->options, e);
    if (status == DSC_OK && f->options.tokens[0] != '\0') status = plan_campaign(&f->options, e);
    if (status == DSC_OK) note_result(e, f->options.json, r);
    else if (status == DSC_EINVAL || status == DSC_ENOTSUP) status = DSC_OK; /* --partition cuts other layers */
    e->cluster = NULL;
    evaluation_fini(e);
    free(e);
    return status;
}

/* Simulations of a group, which threads take one after another. */
typedef struct group {
    const finder *f;
    result *results; int64_t count;
    atomic_int_fast64_t next;
    _Atomic dsc_status status;
} group;

static void *take(void *argument)
{
    group *g = argument;
    int64_t i;

    while ((i = atomic_fetch_add(&g->next, 1)) < g->count) {
        dsc_status status = simulate(g->f, &g->results[i]);

        if (status != DSC_OK) atomic_store(&g->status, status);
    }
    return NULL;
}

static int count_cores(void) { return (int)DSC_MAX(sysconf(_SC_NPROCESSORS_ONLN), 1); }

/* The results do not depend on the threads: as many as there are cores, one where a calibration is read each time. */
static int count_threads(const finder *f, int64_t jobs)
{
    return f->options.calibration[0] != '\0' ? 1 : (int)DSC_MIN(DSC_MIN(count_cores(), jobs), MOST_THREADS);
}

static dsc_status run_group(group *g)
{
    pthread_t threads[MOST_THREADS];
    const int wanted = count_threads(g->f, g->count);
    int started = 0;

    while (started < wanted - 1 && pthread_create(&threads[started], NULL, take, g) == 0) started++;
    take(g);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    return g->status;
}

/* A thread's message is its own: the first that failed is asked again, here. */
static dsc_status find_message(const group *g)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < g->count && status == DSC_OK; i++) {
        result unused = {.c = g->results[i].c};

        memcpy(unused.order, g->results[i].order, sizeof unused.order);
        status = simulate(g->f, &unused);
        json_decref(unused.json);
    }
    return status;
}

/* Of strategies with one program that which asks for less. */
static bool is_simpler(const dsc_candidate *a, const dsc_candidate *b)
{
    const int64_t keys[][2] = {{a->zero, b->zero}, {a->offload, b->offload}, {a->recompute, b->recompute},
                               {a->sequence_parallel, b->sequence_parallel},
                               {a->schedule != DSC_1F1B, b->schedule != DSC_1F1B}, {a->schedule, b->schedule},
                               {a->virtual_stages, b->virtual_stages}};

    for (int64_t i = 0; i < DSC_COUNT(keys); i++)
        if (keys[i][0] != keys[i][1]) return keys[i][0] < keys[i][1];
    return false;
}

static void replace(result *kept, const result *by)
{
    json_decref(kept->json);
    *kept = *by;
}

/* What the closed form lets through and does not fit is left out, and so is what another strategy's program does. */
static dsc_status keep(finder *f, const result *r)
{
    double *error = &f->errors[r->c.schedule];
    int64_t i = 0;

    if (DSC_PUSH(f->done, f->simulated, f->done_capacity, r->c) != DSC_OK) return DSC_ENOMEM;
    if (!r->feasible) return DSC_OK;
    *error = DSC_MAX(*error, (double)(r->c.step_ns - r->timing.step_ns) / (double)r->c.step_ns);
    while (i < f->count && !dsc_equal(f->results[i].hash, r->hash)) i++;
    if (i == f->count) return DSC_PUSH(f->results, f->count, f->capacity, *r);
    if (is_simpler(&r->c, &f->results[i].c)) replace(&f->results[i], r);
    else json_decref(r->json);
    return DSC_OK;
}

static dsc_status simulate_all(const finder *f, result *results, int64_t count)
{
    group g = {.f = f, .results = results, .count = count};
    dsc_status status = run_group(&g);

    return status == DSC_OK ? DSC_OK : find_message(&g);
}

static dsc_status simulate_group(finder *f, const dsc_candidate *candidates, int64_t count)
{
    result *results = calloc((size_t)DSC_MAX(count, 1), sizeof *results);
    dsc_status status = DSC_OK;

    if (results == NULL) return DSC_FAIL(DSC_ENOMEM, "--search: %" PRId64 " simulations", count);
    for (int64_t i = 0; i < count; i++) results[i].c = candidates[i];
    DSC_TRY(simulate_all(f, results, count));
    for (int64_t i = 0; i < count; i++) {
        DSC_TRY(keep(f, &results[i]));
        results[i].json = NULL; /* kept, or gone */
    }
out:
    for (int64_t i = 0; i < count; i++) json_decref(results[i].json);
    free(results);
    return status;
}

/* By step, then room, then as the closed form has them. */
static int by_step(const void *a, const void *b)
{
    const result *x = a, *y = b;

    if (x->timing.step_ns != y->timing.step_ns) return x->timing.step_ns < y->timing.step_ns ? -1 : 1;
    if (x->peak_bytes != y->peak_bytes) return x->peak_bytes < y->peak_bytes ? -1 : 1;
    return (x->c.step_ns > y->c.step_ns) - (x->c.step_ns < y->c.step_ns);
}

/* Whether, where enough are known, the closed form has the strategy behind the last one shown, and behind the first
 * even if it is as wrong as it has been. */
static bool is_slower(const finder *f, const dsc_candidate *c)
{
    const double least = (double)c->step_ns * (1 - f->errors[c->schedule]);

    return f->count >= f->options.top && c->step_ns > f->results[f->options.top - 1].timing.step_ns &&
           least > (double)f->results[0].timing.step_ns;
}

static bool are_same(const dsc_candidate *a, const dsc_candidate *b)
{
    return a->tp == b->tp && a->pp == b->pp && a->dp == b->dp && a->micro_batch == b->micro_batch &&
           a->virtual_stages == b->virtual_stages && a->schedule == b->schedule && a->zero == b->zero &&
           a->offload == b->offload && a->recompute == b->recompute && a->sequence_parallel == b->sequence_parallel;
}

static bool is_done(const finder *f, const dsc_candidate *c)
{
    for (int64_t i = 0; i < f->simulated; i++)
        if (are_same(&f->done[i], c)) return true;
    return false;
}

/* The next of the `wide` best by the closed form that may be the first or among those shown: at most so many. Returns
 * how many; *is_last: none behind the `wide` may be. */
static int64_t take_next(const finder *f, int64_t wide, int64_t most, dsc_candidate *out, bool *is_last)
{
    int64_t count, taken = 0, i;
    const dsc_candidate *all = dsc_search_candidates(f->search, &count);

    for (i = 0; i < DSC_MIN(count, wide) && all[i].fits && all[i].is_scored && taken < most; i++)
        if (!is_done(f, &all[i]) && !is_slower(f, &all[i])) out[taken++] = all[i];
    *is_last = i < wide || is_slower(f, &all[i - 1]);
    return taken;
}

/* Where many of those that the closed form puts first turn out slow, more are ranked. */
static dsc_status simulate_best(finder *f)
{
    const int64_t top = f->options.top, most = DSC_MAX(top, GROUP);
    int64_t wide = top + dsc_ceil_div(top, 4);
    dsc_candidate *next = malloc((size_t)most * sizeof *next);
    dsc_status status = DSC_OK;
    bool is_last = false;

    if (next == NULL) return DSC_FAIL(DSC_ENOMEM, "--search: %" PRId64 " strategies", most);
    DSC_TRY(dsc_search_rank(f->search, wide));
    for (;;) {
        const int64_t taken = take_next(f, wide, f->simulated == 0 ? top : GROUP, next, &is_last);

        f->is_open = (taken > 0 || !is_last) && f->count >= top && f->simulated >= MOST_TIMES * top;
        if (f->is_open || (taken == 0 && is_last)) break;
        if (taken == 0) {
            wide += top;
            DSC_TRY(dsc_search_rank(f->search, wide));
            continue;
        }
        DSC_TRY(simulate_group(f, next, taken));
        qsort(f->results, (size_t)f->count, sizeof *f->results, by_step);
    }
out:
    free(next);
    return status;
}

/* The rule for the order of ranks (lib/plan/order.c) takes links one by one: of the fastest the engine also sees the
 * order with dp and pp swapped, and the faster one is kept. */
static dsc_status try_orders(finder *f)
{
    result others[GROUP] = {0};
    int64_t places[GROUP], count = 0;
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_MIN(f->count, GROUP); i++) {
        const result *r = &f->results[i];

        if (r->swapped[0] == '\0') continue;
        others[count] = (result){.c = r->c, .chosen_ns = r->timing.step_ns};
        memcpy(others[count].order, r->swapped, sizeof r->swapped);
        places[count++] = i;
    }
    DSC_TRY(simulate_all(f, others, count));
    for (int64_t i = 0; i < count; i++) {
        if (!others[i].feasible || others[i].timing.step_ns >= others[i].chosen_ns) continue;
        replace(&f->results[places[i]], &others[i]);
        others[i].json = NULL;
    }
    qsort(f->results, (size_t)f->count, sizeof *f->results, by_step);
out:
    for (int64_t i = 0; i < count; i++) json_decref(others[i].json);
    return status;
}

/* ---- Words */

static const char *word_of(const char *name, int value)
{
    return dsc_field_find(dsc_config_fields(), name)->choices[value];
}

static const char *schedule_of(const dsc_candidate *c) { return word_of("schedule", c->schedule); }

void print_candidate_heading(dsc_text *out)
{
    dsc_text_add(out, " %5s %4s %5s %5s %-12s %3s %4s %-9s %-9s %-3s", "tp", "pp", "dp", "batch", "schedule", "v",
                 "zero", "offload", "recompute", "sp");
}

void print_candidate(const dsc_candidate *c, dsc_text *out)
{
    dsc_text_add(out, " %5d %4d %5d %5d %-12s %3d %4d %-9s %-9s %-3s", c->tp, c->pp, c->dp, c->micro_batch,
                 schedule_of(c), c->virtual_stages, c->zero, word_of("offload", c->offload),
                 word_of("recompute", c->recompute), c->sequence_parallel ? "yes" : "no");
}

static void print_heading(dsc_text *out)
{
    dsc_text_add(out, "%4s", "");
    print_candidate_heading(out);
    dsc_text_add(out, " %12s %8s %8s %12s %12s\n", "step", "bubble", "MFU", "memory", "free");
}

static void print_result(const result *r, int64_t place, dsc_text *out)
{
    dsc_text_add(out, "%4" PRId64, place);
    print_candidate(&r->c, out);
    dsc_text_add(out, " %12s %6.1f %% %6.1f %% %12s %12s\n", dsc_ns_str(r->timing.step_ns).str,
                 100 * (double)r->timing.bubble_ns / (double)DSC_MAX(r->timing.step_ns, 1), 100 * r->utilization,
                 dsc_bytes_str(r->peak_bytes).str, dsc_bytes_str(r->capacity_bytes - r->peak_bytes).str);
}

/* ---- Neighbours of the best: one axis changed */

typedef struct axis { const char *name; int64_t (*value)(const dsc_candidate *c); bool is_choice; } axis;

static int64_t tp_of(const dsc_candidate *c) { return c->tp; }
static int64_t pp_of(const dsc_candidate *c) { return c->pp; }
static int64_t batch_of(const dsc_candidate *c) { return c->micro_batch; }
static int64_t chunks_of(const dsc_candidate *c) { return c->virtual_stages; }
static int64_t schedule_number(const dsc_candidate *c) { return c->schedule; }
static int64_t zero_of(const dsc_candidate *c) { return c->zero; }
static int64_t offload_of(const dsc_candidate *c) { return c->offload; }
static int64_t recompute_of(const dsc_candidate *c) { return c->recompute; }
static int64_t sequence_of(const dsc_candidate *c) { return c->sequence_parallel; }

/* dp follows from tp and pp. A schedule brings its own number of chunks: interleaved 2, else 1. */
static const axis AXES[] = {{"tp", tp_of, false},          {"pp", pp_of, false},
                            {"micro-batch", batch_of, false}, {"virtual-stages", chunks_of, false},
                            {"schedule", schedule_number, true}, {"zero", zero_of, true},
                            {"offload", offload_of, true}, {"recompute", recompute_of, true},
                            {"sequence-parallel", sequence_of, true}};
enum { CHUNKS = 3, SCHEDULE = 4, SEQUENCE = 8 }; /* places among them */

typedef struct neighbour { dsc_candidate c; int which; } neighbour;

static bool differs_in(const dsc_candidate *a, const dsc_candidate *b, int which)
{
    const bool fits_schedule = b->virtual_stages == (b->schedule == DSC_INTERLEAVED ? 2 : 1);

    for (int i = 0; i < DSC_COUNT(AXES); i++) {
        const bool differs = AXES[i].value(a) != AXES[i].value(b);

        if (i == CHUNKS && which == SCHEDULE && fits_schedule) continue;
        if (differs != (i == which)) return false;
    }
    return true;
}

/* Of an axis of numbers the nearest below and above; of choices all. */
static bool is_nearest(const dsc_candidate *all, int64_t count, const dsc_candidate *best, const dsc_candidate *c,
                       int which)
{
    const int64_t here = AXES[which].value(best), there = AXES[which].value(c);

    for (int64_t i = 0; i < count && !AXES[which].is_choice; i++) {
        const int64_t other = AXES[which].value(&all[i]);

        if ((other > here) == (there > here) && llabs(other - here) < llabs(there - here) &&
            differs_in(best, &all[i], which))
            return false;
    }
    return true;
}

static void print_loss(const dsc_score *best, const dsc_score *other, dsc_text *out)
{
    const struct { const char *name; int64_t ns; } parts[] = {{"passes", other->passes_ns - best->passes_ns},
                                                              {"bubble", other->bubble_ns - best->bubble_ns},
                                                              {"reduction", other->rest_ns - best->rest_ns},
                                                              {"update", other->update_ns - best->update_ns}};
    const double share = (double)other->step_ns / (double)best->step_ns - 1;
    int most = 0;

    for (int i = 1; i < DSC_COUNT(parts); i++)
        if (share >= 0 ? parts[i].ns > parts[most].ns : parts[i].ns < parts[most].ns) most = i;
    if (parts[most].ns == 0) dsc_text_add(out, "as fast");
    else dsc_text_add(out, "%.2f %% %s, %s %s%s", 100 * fabs(share), share >= 0 ? "slower" : "faster", parts[most].name,
                      parts[most].ns > 0 ? "+" : "-", dsc_ns_str(llabs(parts[most].ns)).str);
}

/* The engine's times as the closed form's parts. */
static dsc_score parts_of(const dsc_timing *t)
{
    return (dsc_score){.step_ns = t->step_ns, .passes_ns = t->compute_ns + t->tp_comm_ns + t->other_ns,
                       .bubble_ns = t->bubble_ns + t->pp_comm_ns, .rest_ns = t->dp_comm_ns,
                       .update_ns = t->optimizer_ns + t->offload_ns};
}

static const result *find_result(const finder *f, const dsc_candidate *c)
{
    for (int64_t i = 0; i < f->count; i++)
        if (are_same(&f->results[i].c, c)) return &f->results[i];
    return NULL;
}

static dsc_status print_neighbour(finder *f, const dsc_score *best, dsc_candidate c, int which, dsc_text *out)
{
    const dsc_field *field = dsc_field_find(dsc_config_fields(), AXES[which].name);
    const int64_t value = AXES[which].value(&c);
    const result *simulated = find_result(f, &c);
    dsc_status status = DSC_OK;
    dsc_score score;
    char word[48];

    if (which == SEQUENCE) snprintf(word, sizeof word, "%s", value ? "yes" : "no");
    else if (field->choices != NULL && AXES[which].is_choice) snprintf(word, sizeof word, "%s", field->choices[value]);
    else snprintf(word, sizeof word, "%" PRId64, value);
    DSC_TRY(dsc_search_score(f->search, &c, &score));
    dsc_text_add(out, "           %s %s: ", AXES[which].name, word);
    if (simulated != NULL) {
        const dsc_score first = parts_of(&f->results[0].timing), other = parts_of(&simulated->timing);

        print_loss(&first, &other, out);
        dsc_text_add(out, ", simulated");
    } else if (c.fits) print_loss(best, &score, out);
    for (int space = 0; space < DSC_SPACE_COUNT && !c.fits; space++) {
        const int64_t capacity = dsc_search_capacity(f->search, space);

        if (c.bytes[space] <= capacity) continue;
        dsc_text_add(out, "does not fit, %s of %s%s", dsc_bytes_str(c.bytes[space]).str, dsc_bytes_str(capacity).str,
                     space == DSC_SPACE_HOST ? " of host memory" : "");
        break;
    }
    dsc_text_add(out, "\n");
out:
    return status;
}

/* The neighbours of `best`, of which the caller frees *out, and the axis each differs in. */
static dsc_status find_neighbours(const finder *f, const dsc_candidate *best, neighbour **out, int64_t *found)
{
    int64_t count, capacity = 0;
    const dsc_candidate *all = dsc_search_candidates(f->search, &count);
    dsc_status status = DSC_OK;

    *out = NULL;
    *found = 0;
    for (int which = 0; which < DSC_COUNT(AXES); which++)
        for (int64_t i = 0; i < count; i++)
            if (differs_in(best, &all[i], which) && is_nearest(all, count, best, &all[i], which))
                DSC_TRY(DSC_PUSH(*out, *found, capacity, ((neighbour){all[i], which})));
out:
    return status;
}

static dsc_status print_neighbours(finder *f, dsc_text *out)
{
    dsc_candidate best = f->results[0].c;
    neighbour *around = NULL;
    int64_t count = 0;
    dsc_status status = DSC_OK;
    dsc_score score;

    DSC_TRY(find_neighbours(f, &best, &around, &count));
    DSC_TRY(dsc_search_score(f->search, &best, &score));
    dsc_text_add(out, "neighbours of the first, one axis changed, by the closed form where not simulated\n");
    for (int64_t i = 0; i < count; i++)
        DSC_TRY(print_neighbour(f, &score, around[i].c, around[i].which, out));
out:
    free(around);
    return status;
}

/* Those neighbours of the first that the closed form has before it, and nobody has simulated. */
static dsc_status simulate_neighbours(finder *f)
{
    dsc_candidate best = f->results[0].c, *next = NULL;
    neighbour *around = NULL;
    int64_t count = 0, taken = 0;
    dsc_status status = DSC_OK;

    DSC_TRY(find_neighbours(f, &best, &around, &count));
    DSC_TRY(dsc_search_score(f->search, &best, NULL));
    next = malloc((size_t)DSC_MAX(count, 1) * sizeof *next);
    if (next == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "--search: %" PRId64 " strategies", count));
    for (int64_t i = 0; i < count; i++) {
        DSC_TRY(dsc_search_score(f->search, &around[i].c, NULL));
        if (around[i].c.fits && around[i].c.step_ns < best.step_ns && !is_done(f, &around[i].c))
            next[taken++] = around[i].c;
    }
    DSC_TRY(simulate_group(f, next, taken));
    qsort(f->results, (size_t)f->count, sizeof *f->results, by_step);
out:
    free(around);
    free(next);
    return status;
}

/* Up from the first to a neighbour that is faster, as long as there is one: bounds that are no bounds hide some. */
static dsc_status climb(finder *f)
{
    dsc_status status = DSC_OK;
    dsc_candidate before;

    if (f->count == 0) return DSC_OK;
    do {
        before = f->results[0].c;
        DSC_TRY(simulate_neighbours(f));
    } while (!are_same(&before, &f->results[0].c));
out:
    return status;
}

/* ---- Shown */

static dsc_status print_all_json(const finder *f)
{
    json_t *array = json_array();
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_MIN(f->count, f->options.top); i++) json_array_append(array, f->results[i].json);
    if (json_dumpf(array, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) != 0 || putchar('\n') == EOF)
        status = DSC_FAIL(DSC_EIO, "standard output cannot be written");
    json_decref(array);
    return status;
}

static void print_orders(const finder *f, dsc_text *out)
{
    for (int64_t i = 0; i < DSC_MIN(f->count, f->options.top); i++) {
        const result *r = &f->results[i];

        if (r->chosen_ns > 0)
            dsc_text_add(out, "           %" PRId64 " with --rank-order %s: %.2f %% faster than in the order that is "
                         "chosen without the engine\n", i + 1, r->order,
                         100 * ((double)r->chosen_ns / (double)r->timing.step_ns - 1));
    }
}

static dsc_status print_all(finder *f)
{
    const dsc_search_counts n = dsc_search_count(f->search);
    dsc_status status = DSC_OK;
    dsc_text text = {0};

    dsc_text_add(&text, "search     %" PRId64 " strategies considered, %" PRId64 " legal, %" PRId64 " fit; %" PRId64
                 " scored by families of their own, %" PRId64 " simulated\n", n.considered, n.legal, n.fitting,
                 n.scored, f->simulated);
    if (f->is_open)
        dsc_text_add(&text, "           more may be as fast: a larger --top simulates them\n");
    if (f->count > 0) print_heading(&text);
    for (int64_t i = 0; i < DSC_MIN(f->count, f->options.top); i++) print_result(&f->results[i], i + 1, &text);
    print_orders(f, &text);
    if (f->count > 0) DSC_TRY(print_neighbours(f, &text));
    fputs(dsc_text_str(&text), stdout);
out:
    dsc_text_fini(&text);
    return status;
}

/* ---- A page of the fastest, with all that is known of the others */

typedef struct label { char str[128]; } label;

static label label_of(const dsc_candidate *c)
{
    label l;

    snprintf(l.str, sizeof l.str,
             "tp %d, pp %d, dp %d, micro-batch %d, %s x %d, ZeRO %d, offload %s, recompute %s%s", c->tp, c->pp, c->dp,
             c->micro_batch, schedule_of(c), c->virtual_stages, c->zero, word_of("offload", c->offload),
             word_of("recompute", c->recompute), c->sequence_parallel ? ", sequence parallel" : "");
    return l;
}

static bool is_simulated(const finder *f, const dsc_candidate *c)
{
    for (int64_t i = 0; i < f->count; i++)
        if (are_same(c, &f->results[i].c)) return true;
    return false;
}

/* What was simulated, and what was only scored; of the rest nothing but bounds is known. Returns how many. */
static int64_t list_points(const finder *f, html_point *points, label *labels)
{
    int64_t all_count, count = 0;
    const dsc_candidate *all = dsc_search_candidates(f->search, &all_count);

    for (int64_t i = 0; i < f->count; i++, count++) {
        const result *r = &f->results[i];

        labels[count] = label_of(&r->c);
        points[count] = (html_point){labels[count].str, r->timing.step_ns, r->peak_bytes, true};
    }
    for (int64_t i = 0; i < all_count; i++) {
        if (!all[i].is_scored || is_simulated(f, &all[i])) continue;
        labels[count] = label_of(&all[i]);
        points[count] = (html_point){labels[count].str, all[i].step_ns, all[i].bytes[DSC_SPACE_DEVICE], all[i].fits};
        count++;
    }
    return count;
}

static dsc_status write_first(const finder *f, const plan_options *options, const tool *self)
{
    int64_t room;
    evaluation *e = calloc(1, sizeof *e);
    html_point *points;
    label *labels;
    dsc_config config;
    dsc_status status = DSC_OK;

    dsc_search_candidates(f->search, &room);
    room += f->count;
    points = malloc((size_t)room * sizeof *points);
    labels = malloc((size_t)room * sizeof *labels);
    if (e != NULL) evaluation_init(e);
    if (e == NULL || points == NULL || labels == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "--search: points of %" PRId64 " strategies", room));
    config = config_of(f, &f->results[0]);
    e->model = f->base->model;
    e->cluster = f->base->cluster; /* borrowed */
    DSC_TRY(evaluate_on(&config, options, e));
    DSC_TRY(write_page(self->name, e, points, list_points(f, points, labels), options));
out:
    if (e != NULL) {
        e->cluster = NULL;
        evaluation_fini(e);
    }
    free(e);
    free(points);
    free(labels);
    return status;
}

/* ---- All of it */

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Devices that share a machine are as many as it has cores, where no degree says. */
static dsc_status load_base(finder *f, const dsc_given *given)
{
    tool_inputs *inputs = malloc(sizeof *inputs);
    dsc_status status = DSC_OK;
    dsc_strategy *s;

    if (inputs == NULL) return DSC_FAIL(DSC_ENOMEM, "--search: %zu bytes", sizeof *inputs);
    *inputs = *f->inputs;
    s = &inputs->config.strategy;
    DSC_TRY(dsc_model_load(inputs->model, &f->base->model));
    DSC_TRY(dsc_plan_load_cluster(inputs->cluster, &inputs->config, &f->base->cluster));
    if (f->base->cluster->is_local && !given->dp) {
        s->dp = DSC_MAX(f->base->cluster->node_types[0].cores / (DSC_MAX(s->tp, 1) * DSC_MAX(s->pp, 1)), 1);
        dsc_cluster_destroy(f->base->cluster);
        f->base->cluster = NULL;
        DSC_TRY(dsc_plan_load_cluster(inputs->cluster, &inputs->config, &f->base->cluster));
    }
    DSC_TRY(load_calibration(f->options.calibration, f->base));
out:
    free(inputs);
    return status;
}

/* The two numbers of a batch triple that are no axes decide the third. */
static dsc_status resolve_given(dsc_config *config, dsc_given *given)
{
    const int64_t accumulation = config->gradient_accumulation_steps;
    dsc_strategy *s = &config->strategy;

    given->schedule = given->schedule && s->schedule != DSC_SCHEDULE_AUTO;
    if (accumulation == 0) return DSC_OK;
    if (!given->micro_batch || s->global_batch == 0)
        return DSC_FAIL(DSC_EINVAL, "--search: gradient accumulation of %" PRId64 " follows from the micro-batch that "
                        "is searched; leave it out, or give micro-batch and global batch too", accumulation);
    if (s->global_batch % s->micro_batch != 0 || s->global_batch / s->micro_batch % accumulation != 0)
        return DSC_FAIL(DSC_EINVAL, "global batch %" PRId64 " is no multiple of micro-batch %" PRId64 " x accumulation "
                        "%" PRId64, s->global_batch, s->micro_batch, accumulation);
    s->dp = s->global_batch / s->micro_batch / accumulation;
    given->dp = true;
    return DSC_OK;
}

static dsc_status screen(finder *f, const dsc_given *given)
{
    const dsc_calibration *calibration = f->options.calibration[0] == '\0' ? NULL : &f->base->calibration;
    const char *stack = f->options.stack[0] == '\0' ? "auto" : f->options.stack;
    dsc_config config = f->inputs->config;
    dsc_given fixed = *given;
    dsc_status status = DSC_OK;

    DSC_TRY(resolve_given(&config, &fixed));
    DSC_TRY(dsc_search_create(&f->base->model, f->base->cluster, &config, &fixed, stack, calibration, count_cores(),
                              &f->search));
out:
    return status;
}

static dsc_status find(finder *f, const dsc_given *given, const tool *self)
{
    double start = seconds(), screened;
    dsc_status status = DSC_OK;

    DSC_TRY(screen(f, given));
    screened = seconds() - start;
    dsc_log_to(NULL, NULL, DSC_WARNING); /* notes would not say of which strategy they are */
    status = simulate_best(f);
    if (status == DSC_OK) status = climb(f);
    if (status == DSC_OK) status = try_orders(f);
    tool_log(self);
    DSC_TRY(status);
    dsc_log(DSC_NOTE, "%" PRId64 " strategies screened in %.3f s, %s a second; %" PRId64 " simulated; %.3f s in all",
            dsc_search_count(f->search).considered, screened,
            dsc_count_str((double)dsc_search_count(f->search).considered / screened).str, f->simulated,
            seconds() - start);
out:
    return status;
}

static void finder_init(const tool_inputs *inputs, const plan_options *options, evaluation *base, finder *f)
{
    *f = (finder){.inputs = inputs, .options = *options, .base = base};
    memcpy(f->errors, ERRORS, sizeof ERRORS);
    f->options.html[0] = '\0';
    f->options.trusts_builders = true; /* whoever evaluates one of them by itself has it checked */
    f->options.top = options->top > 0 ? options->top : TOP;
}

/* Not the base. */
static void finder_fini(finder *f)
{
    for (int64_t i = 0; i < f->count; i++) json_decref(f->results[i].json);
    free(f->results);
    free(f->done);
    dsc_search_destroy(f->search);
}

static dsc_status find_on(finder *f, const dsc_given *given, best *out)
{
    dsc_status status = DSC_OK;

    DSC_TRY(load_calibration(f->options.calibration, f->base));
    DSC_TRY(screen(f, given));
    DSC_TRY(simulate_best(f));
    DSC_TRY(climb(f));
    DSC_TRY(try_orders(f));
    if (f->count == 0) goto out;
    *out = (best){.fits = true, .c = f->results[0].c, .step_ns = f->results[0].timing.step_ns,
                  .days = f->results[0].days, .peak_bytes = f->results[0].peak_bytes,
                  .json = json_incref(f->results[0].json)};
out:
    return status;
}

dsc_status find_best(const tool_inputs *inputs, const plan_options *options, const dsc_given *given,
                     const dsc_model *model, dsc_cluster *cluster, best *out)
{
    evaluation *base = calloc(1, sizeof *base);
    dsc_status status;
    finder f;

    *out = (best){0};
    if (base == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu bytes", sizeof *base);
    evaluation_init(base);
    base->model = *model;
    base->cluster = cluster;
    finder_init(inputs, options, base, &f);
    f.options.top = 1;
    status = find_on(&f, given, out);
    finder_fini(&f);
    base->cluster = NULL;
    evaluation_fini(base);
    free(base);
    return status;
}

/* Programs of megabytes are built and freed by the thousand: what they leave is not given back to the system in between
 * (glibc would, by munmap), which saves a twentieth of the time. */
static void keep_memory(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}

dsc_status show_search(const tool_inputs *inputs, const plan_options *options, const dsc_given *given,
                       const tool *self)
{
    evaluation *base = calloc(1, sizeof *base);
    dsc_status status = DSC_OK;
    finder f;

    if (base == NULL) return DSC_FAIL(DSC_ENOMEM, "--search: %zu bytes", sizeof *base);
    evaluation_init(base);
    finder_init(inputs, options, base, &f);
    keep_memory();
    DSC_TRY(load_base(&f, given));
    DSC_TRY(find(&f, given, self));
    if (f.count > 0 && options->html[0] != '\0') DSC_TRY(write_first(&f, options, self));
    if (!dsc_equal(options->html, "-")) DSC_TRY(options->json ? print_all_json(&f) : print_all(&f));
    if (f.count == 0) status = DSC_FAIL(DSC_EINFEASIBLE, "--search: of %" PRId64 " legal strategies none fits",
                                        dsc_search_count(f.search).legal);
out:
    finder_fini(&f);
    evaluation_fini(base);
    free(base);
    return status;
}
