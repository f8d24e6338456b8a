/* A search from its beginning to its ranks: strategies as configurations, scores, and which of them are refined. */
#include "sim/search/parts.h"
#include "sim/search/walk.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Strategies as configurations */

dsc_config dsc_search_config(const dsc_search *search, const dsc_candidate *c)
{
    dsc_config config = search->config;
    dsc_strategy *s = &config.strategy;

    s->tp = c->tp;
    s->pp = c->pp;
    s->dp = c->dp;
    s->micro_batch = c->micro_batch;
    s->virtual_stages = c->virtual_stages;
    s->schedule = c->schedule;
    s->zero = c->zero;
    s->offload = c->offload;
    s->recompute = c->recompute;
    s->sequence_parallel = c->sequence_parallel;
    config.gradient_accumulation_steps = 0;
    return config;
}

/* search->outline and search->tried become the candidate's. */
dsc_status search_look_at(dsc_search *search, const dsc_candidate *c, const dsc_stack **stack)
{
    dsc_status status = DSC_OK;

    search->tried = dsc_search_config(search, c);
    *stack = dsc_stack_find(search->stack, &search->tried.strategy, search->cluster);
    dsc_stack_apply(*stack, search->model->layers, dsc_cluster_devices(search->cluster), &search->tried.strategy);
    DSC_TRY(dsc_plan_outline(search->model, search->cluster, &search->tried, &search->outline));
out:
    return status;
}

/* ---- Scores */

dsc_shape_of_step search_shape_of(const dsc_search *search, const dsc_candidate *c, const machine *m,
                                  int64_t messages_ns)
{
    return (dsc_shape_of_step){.layers = search->model->layers, .pp = c->pp, .virtual_stages = c->virtual_stages,
                               .micro_batches = c->micro_batches, .schedule = c->schedule, .messages_ns = messages_ns,
                               .agree_ns = m->agree_ns, .pause_ns = m->pause_ns};
}

void search_set_bytes(const dsc_search *search, dsc_candidate *c, const dsc_costs *costs,
                      const dsc_shape_of_step *shape)
{
    c->fits = true;
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        c->bytes[space] = dsc_score_bytes(costs, shape, space) + search->libraries_bytes[space];
        c->fits = c->fits && c->bytes[space] <= search->capacity_bytes[space];
    }
}

/* Of schedules that formulas say little of passes are walked, where that is asked for. */
static bool is_walkable(const dsc_candidate *c)
{
    return c->pp > 1 && (c->schedule == DSC_INTERLEAVED || c->schedule == DSC_ZB_H1);
}

static dsc_status score(dsc_search *search, dsc_candidate *c, bool walks, dsc_score *parts)
{
    const bool is_open = search->config.strategy.bucket_elems == 0;
    const dsc_stack *stack;
    const family_costs *family;
    dsc_shape_of_step shape;
    dsc_status status = DSC_OK;
    int64_t machine, before;

    DSC_TRY(search_look_at(search, c, &stack));
    DSC_TRY(search_find_machine(search, stack, &machine));
    do { /* buckets in pieces, as dsc_programs_place makes them, as long as that helps */
        before = c->bytes[DSC_SPACE_DEVICE];
        DSC_TRY(search_find_family(search, &machine, 1, &family));
        shape = search_shape_of(search, c, &search->machines[machine], family->messages_ns);
        search_set_bytes(search, c, &family->costs, &shape);
        if (c->is_scored && c->bytes[DSC_SPACE_DEVICE] >= before) break;
        c->is_scored = true;
        search->outline.config.strategy.bucket_elems /= 2;
    } while (!c->fits && is_open && dsc_plan_has_streams(&search->outline) &&
             search->outline.config.strategy.bucket_elems >= DSC_LEAST_BUCKET_ELEMS);
    if (walks && is_walkable(c)) DSC_TRY(dsc_walk_passes(&family->costs, &shape, parts));
    else *parts = dsc_score_time(&family->costs, &shape);
    c->is_scored = true;
    c->is_walked = walks;
    c->step_ns = parts->step_ns;
out:
    return status;
}

dsc_status dsc_search_score(dsc_search *search, dsc_candidate *c, dsc_score *parts)
{
    dsc_score unused;

    return score(search, c, true, parts == NULL ? &unused : parts);
}

/* ---- Life */

/* What a rank has, and what libraries take, is asked of the smallest plan. */
static dsc_status note_capacity(dsc_search *search)
{
    const dsc_candidate one = {.tp = 1, .pp = 1, .dp = 1, .micro_batch = 1, .virtual_stages = 1,
                               .schedule = DSC_1F1B};
    dsc_config config = dsc_search_config(search, &one);
    dsc_status status = DSC_OK;

    config.strategy.cp = 1;
    config.strategy.global_batch = 1;
    config.strategy.dp = dsc_cluster_devices(search->cluster);
    config.strategy.global_batch = config.strategy.dp;
    if (search->given.dp) config.strategy.dp = search->config.strategy.dp;
    DSC_TRY(dsc_plan_outline(search->model, search->cluster, &config, &search->outline));
    memcpy(search->capacity_bytes, search->outline.capacity_bytes, sizeof search->capacity_bytes);
    memcpy(search->libraries_bytes, search->outline.libraries_bytes, sizeof search->libraries_bytes);
out:
    return status;
}

dsc_status dsc_search_create(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                             const dsc_given *given, const char *stack, const dsc_calibration *calibration,
                             int threads, dsc_search **out)
{
    dsc_search *search = calloc(1, sizeof *search);
    dsc_status status = DSC_OK;

    if (search == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu bytes", sizeof *search);
    search->model = model;
    search->cluster = cluster;
    search->calibration = calibration;
    search->stack = stack;
    search->config = *config;
    search->given = *given;
    if (config->strategy.global_batch <= 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--search compares strategies by their step, so all take one batch: give "
                         "--global-batch"));
    if (dsc_stack_find(stack, &config->strategy, cluster) == NULL)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "unknown --stack \"%s\"; --list-stacks lists them", stack));
    DSC_TRY(note_capacity(search));
    DSC_TRY(search_look_at_all(search, threads));
    *out = search;
    search = NULL;
out:
    dsc_search_destroy(search);
    return status;
}

void dsc_search_destroy(dsc_search *search)
{
    if (search == NULL) return;
    search_drop_machines(search);
    free(search->families);
    free(search->candidates);
    free(search);
}

/* ---- Ranking */

/* Those that fit, by their own score or by their bound, by step, room, and all else. */
static int by_step(const void *a, const void *b)
{
    const dsc_candidate *x = a, *y = b;
    const int64_t keys[][2] = {
        {!x->fits, !y->fits}, {x->step_ns, y->step_ns}, {!x->is_scored, !y->is_scored},
        {x->bytes[0], y->bytes[0]}, {x->tp, y->tp}, {x->pp, y->pp}, {x->micro_batch, y->micro_batch},
        {x->virtual_stages, y->virtual_stages}, {x->schedule, y->schedule}, {x->zero, y->zero},
        {x->offload, y->offload}, {x->recompute, y->recompute}, {x->sequence_parallel, y->sequence_parallel}};

    for (int64_t i = 0; i < DSC_COUNT(keys); i++)
        if (keys[i][0] != keys[i][1]) return keys[i][0] < keys[i][1] ? -1 : 1;
    return 0;
}

/* The steps of the fastest so far, ascending. */
static void insert(int64_t *best, int64_t *found, int64_t count, int64_t step_ns)
{
    int64_t at = DSC_MIN(*found, count - 1);

    if (*found == count && step_ns >= best[count - 1]) return;
    for (; at > 0 && best[at - 1] > step_ns; at--) best[at] = best[at - 1];
    best[at] = step_ns;
    *found = DSC_MIN(*found + 1, count);
}

/* Those that fit to the front, in order; the others keep theirs. */
static dsc_status sort_fitting(dsc_search *search)
{
    const int64_t count = search->candidate_count;
    dsc_candidate *others = malloc((size_t)DSC_MAX(count, 1) * sizeof *others), *all = search->candidates;
    int64_t fitting = 0, left = 0;

    if (others == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " strategies", count);
    for (int64_t i = 0; i < count; i++) {
        if (all[i].fits) all[fitting++] = all[i];
        else others[left++] = all[i];
    }
    memcpy(all + fitting, others, (size_t)left * sizeof *others);
    free(others);
    qsort(all, (size_t)fitting, sizeof *all, by_step);
    return DSC_OK;
}

/* Formulas may say so much more than a walk. */
static const double FORMULA_ERROR = 0.04;

static bool is_final(const dsc_candidate *c) { return c->is_scored && (c->is_walked || !is_walkable(c)); }

/* The least that a candidate may turn out to take. */
static double least_ns(const dsc_candidate *c)
{
    return (double)c->step_ns * (c->is_scored && !is_final(c) ? 1 - FORMULA_ERROR : 1);
}

/* From a bound to a score, from a score to a walk. */
static dsc_status refine(dsc_search *search, dsc_candidate *c)
{
    const bool is_bound = !c->is_scored;
    dsc_status status = DSC_OK;
    dsc_score parts;

    DSC_TRY(score(search, c, !is_bound, &parts));
    search->counts.scored += is_bound;
    search->counts.fitting -= !c->fits;
out:
    return status;
}

/* One round over candidates in their order: what may be among the `count` fastest is refined. *is_stable: nothing
 * was. */
static dsc_status refine_best(dsc_search *search, int64_t *best, int64_t count, bool *is_stable)
{
    int64_t found = 0;
    dsc_status status = DSC_OK;

    *is_stable = true;
    for (int64_t i = 0; i < search->candidate_count && search->candidates[i].fits; i++) {
        dsc_candidate *c = &search->candidates[i];

        if (found == count && (double)c->step_ns * (1 - FORMULA_ERROR) > (double)best[count - 1]) break;
        while (c->fits && !is_final(c) && (found < count || least_ns(c) <= (double)best[count - 1])) {
            DSC_TRY(refine(search, c));
            *is_stable = false;
        }
        if (c->fits && is_final(c)) insert(best, &found, count, c->step_ns);
    }
out:
    return status;
}

/* What is refined takes longer than was thought, and lets others move up. */
dsc_status dsc_search_rank(dsc_search *search, int64_t count)
{
    int64_t *best = malloc((size_t)DSC_MAX(count, 1) * sizeof *best);
    dsc_status status = DSC_OK;
    bool is_stable = false;

    if (best == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " times", count);
    while (!is_stable) {
        DSC_TRY(sort_fitting(search));
        DSC_TRY(refine_best(search, best, count, &is_stable));
    }
out:
    free(best);
    return status;
}

const dsc_candidate *dsc_search_candidates(const dsc_search *search, int64_t *count)
{
    *count = search->candidate_count;
    return search->candidates;
}

dsc_search_counts dsc_search_count(const dsc_search *search) { return search->counts; }
int64_t dsc_search_capacity(const dsc_search *search, int space) { return search->capacity_bytes[space]; }
