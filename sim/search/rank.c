/* Which candidates are scored: those that may be among the fastest. On several threads: each of some parts of the
 * search has the families of its own candidates, so threads share none, and what is found depends on no number of
 * them. */
#include "sim/search/parts.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- Parts */

static dsc_status make_parts(dsc_search *search)
{
    if (search->parts != NULL) return DSC_OK;
    search->parts = malloc(SEARCH_PARTS * sizeof *search->parts);
    if (search->parts == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu bytes", SEARCH_PARTS * sizeof *search->parts);
    for (int i = 0; i < SEARCH_PARTS; i++) {
        search->parts[i] = *search;
        search_forget(&search->parts[i]);
    }
    return DSC_OK;
}

void search_drop_parts(dsc_search *search)
{
    for (int i = 0; search->parts != NULL && i < SEARCH_PARTS; i++) {
        search_drop_machines(&search->parts[i]);
        search_drop_families(&search->parts[i]);
    }
    free(search->parts);
    search->parts = NULL;
}

/* That which has the candidate's families: no other has a family of these degrees and micro-batch. */
static int part_of(const dsc_candidate *c)
{
    const uint64_t mixed = ((uint64_t)c->tp * 31 + (uint64_t)c->pp) * 31 + (uint64_t)c->micro_batch;

    return (int)((mixed * 0x9e3779b97f4a7c15) >> 40) % SEARCH_PARTS;
}

dsc_status dsc_search_score(dsc_search *search, dsc_candidate *c, dsc_score *parts)
{
    dsc_status status = DSC_OK;
    dsc_score unused;

    DSC_TRY(make_parts(search));
    status = search_score(&search->parts[part_of(c)], c, true, parts == NULL ? &unused : parts);
out:
    return status;
}

/* ---- A batch of candidates, on threads that take part after part */

enum { BATCH = 256 };

typedef struct batch {
    dsc_search *search;
    dsc_candidate *of[BATCH]; int64_t count;
    atomic_int next;                       /* part */
    dsc_status statuses[SEARCH_PARTS];
    char *messages[SEARCH_PARTS];          /* of those that failed */
} batch;

static void score_part(batch *b, int part)
{
    dsc_score unused;

    for (int64_t i = 0; i < b->count && b->statuses[part] == DSC_OK; i++)
        if (part_of(b->of[i]) == part)
            b->statuses[part] = search_score(&b->search->parts[part], b->of[i], b->of[i]->is_scored, &unused);
    if (b->statuses[part] != DSC_OK) b->messages[part] = strdup(dsc_message());
}

static void *score_parts(void *argument)
{
    batch *b = argument;
    int part;

    while ((part = atomic_fetch_add(&b->next, 1)) < SEARCH_PARTS) score_part(b, part);
    return NULL;
}

/* The first part's failure. */
static dsc_status end_batch(batch *b)
{
    dsc_status status = DSC_OK;

    for (int part = 0; part < SEARCH_PARTS; part++) {
        if (status == DSC_OK && b->statuses[part] != DSC_OK)
            status = DSC_FAIL(b->statuses[part], "%s", b->messages[part] == NULL ? "search" : b->messages[part]);
        free(b->messages[part]);
        b->messages[part] = NULL;
    }
    return status;
}

/* From a bound to a score, from a score to a walk. */
static dsc_status refine(batch *b)
{
    const int wanted = b->count > 1 ? DSC_MIN(b->search->threads, SEARCH_PARTS) : 1;
    pthread_t started[SEARCH_PARTS];
    dsc_search_counts *counts = &b->search->counts;
    int count = 0;

    for (int64_t i = 0; i < b->count; i++) counts->scored += !b->of[i]->is_scored;
    atomic_store(&b->next, 0);
    while (count < wanted - 1 && pthread_create(&started[count], NULL, score_parts, b) == 0) count++;
    score_parts(b);
    for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
    for (int64_t i = 0; i < b->count; i++) counts->fitting -= !b->of[i]->fits;
    return end_batch(b);
}

/* ---- Ranks */

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

static bool is_final(const dsc_candidate *c) { return c->is_scored && (c->is_walked || !search_is_walkable(c)); }

/* The least that a candidate may turn out to take. */
static double least_ns(const dsc_candidate *c)
{
    return (double)c->step_ns * (c->is_scored && !is_final(c) ? 1 - FORMULA_ERROR : 1);
}

/* The steps of the fastest that are final, of at most `count`. */
typedef struct fastest { int64_t *ns, found, count; } fastest;

static bool is_wanted(const fastest *best, const dsc_candidate *c)
{
    return c->fits && !is_final(c) && (best->found < best->count || least_ns(c) <= (double)best->ns[best->count - 1]);
}

/* Refines what the batch has until nothing of it may be among the fastest that is not final. */
static dsc_status finish(batch *b, fastest *best)
{
    dsc_status status = DSC_OK;

    while (b->count > 0) {
        int64_t left = 0;

        DSC_TRY(refine(b));
        for (int64_t i = 0; i < b->count; i++)
            if (b->of[i]->fits && is_final(b->of[i])) insert(best->ns, &best->found, best->count, b->of[i]->step_ns);
        for (int64_t i = 0; i < b->count; i++)
            if (is_wanted(best, b->of[i])) b->of[left++] = b->of[i];
        b->count = left;
    }
out:
    return status;
}

/* One round over candidates in their order: what may be among the fastest is refined. *is_stable: nothing was. */
static dsc_status refine_best(dsc_search *search, fastest *best, bool *is_stable)
{
    batch b = {.search = search};
    dsc_status status = DSC_OK;

    best->found = 0;
    *is_stable = true;
    for (int64_t i = 0; i < search->candidate_count && search->candidates[i].fits; i++) {
        dsc_candidate *c = &search->candidates[i];
        const double least = (double)c->step_ns * (1 - FORMULA_ERROR);

        if (best->found == best->count && least > (double)best->ns[best->count - 1]) break;
        if (is_wanted(best, c)) {
            b.of[b.count++] = c;
            *is_stable = false;
        } else if (c->fits && is_final(c)) {
            insert(best->ns, &best->found, best->count, c->step_ns);
        }
        if (b.count == BATCH) DSC_TRY(finish(&b, best));
    }
    DSC_TRY(finish(&b, best));
out:
    return status;
}

/* What is refined takes longer than was thought, and lets others move up. */
dsc_status dsc_search_rank(dsc_search *search, int64_t count)
{
    fastest best = {.ns = malloc((size_t)DSC_MAX(count, 1) * sizeof *best.ns), .count = count};
    dsc_status status = DSC_OK;
    bool is_stable = false;

    if (best.ns == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " times", count);
    DSC_TRY(make_parts(search));
    while (!is_stable) {
        DSC_TRY(sort_fitting(search));
        DSC_TRY(refine_best(search, &best, &is_stable));
    }
out:
    free(best.ns);
    return status;
}
