/* The first look on several threads: one degree of tensor parallelism shares no family with another. */
#include "sim/search/parts.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct degree {
    int64_t tp;
    dsc_candidate *candidates; int64_t count;
    dsc_search_counts counts;
    dsc_status status;
    char *message;               /* the thread's last; NULL where it had none */
} degree;

/* Degrees that threads take one after another, the largest first. */
typedef struct degrees { dsc_search *search; degree *all; int64_t count; atomic_int_fast64_t next; } degrees;

static void take_degree(dsc_search *own, degree *d)
{
    own->candidates = NULL;
    own->candidate_count = own->candidate_capacity = 0;
    own->counts = (dsc_search_counts){0};
    d->status = search_look_at_degree(own, d->tp);
    if (d->status != DSC_OK || own->candidate_count < own->counts.considered) d->message = strdup(dsc_message());
    d->candidates = own->candidates;
    d->count = own->candidate_count;
    d->counts = own->counts;
    own->candidates = NULL;
    search_drop_families(own);
}

static void *take_degrees(void *argument)
{
    degrees *all = argument;
    dsc_search *own = malloc(sizeof *own); /* machines and families of the thread's own */
    int64_t i;

    if (own != NULL) *own = *all->search;
    if (own != NULL) own->is_first_look = true;
    while ((i = atomic_fetch_add(&all->next, 1)) < all->count) {
        degree *d = &all->all[all->count - 1 - i];

        if (own == NULL) d->status = DSC_ENOMEM;
        else take_degree(own, d);
    }
    if (own != NULL) search_drop_machines(own);
    free(own);
    return NULL;
}

static void run_degrees(degrees *all, int threads)
{
    enum { MOST_THREADS = 64 };
    pthread_t started[MOST_THREADS];
    const int64_t wanted = DSC_MIN(DSC_MIN(threads, MOST_THREADS), all->count);
    int count = 0;

    while (count < wanted - 1 && pthread_create(&started[count], NULL, take_degrees, all) == 0) count++;
    take_degrees(all);
    for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
}

/* In the order of degrees: as if one thread had looked at all. */
static dsc_status gather(dsc_search *search, const degrees *all)
{
    int64_t count = 0;

    for (int64_t i = 0; i < all->count; i++) {
        const degree *d = &all->all[i];

        if (d->message != NULL) DSC_FAIL(DSC_EINVAL, "%s", d->message);
        if (d->status != DSC_OK) return d->message == NULL ? DSC_FAIL(d->status, "search: a thread") : d->status;
        count += d->count;
        search->counts.considered += d->counts.considered;
        search->counts.legal += d->counts.legal;
        search->counts.fitting += d->counts.fitting;
        search->counts.families += d->counts.families;
    }
    search->candidates = malloc((size_t)DSC_MAX(count, 1) * sizeof *search->candidates);
    if (search->candidates == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " strategies", count);
    search->candidate_capacity = DSC_MAX(count, 1);
    for (int64_t i = 0; i < all->count; i++) {
        const degree *d = &all->all[i];

        for (int64_t j = 0; j < d->count; j++) search->candidates[search->candidate_count++] = d->candidates[j];
    }
    return DSC_OK;
}

static dsc_status list_degrees(const dsc_search *search, degrees *out)
{
    const int64_t most = DSC_MIN(dsc_cluster_devices(search->cluster), search->model->heads);

    out->all = calloc((size_t)DSC_MAX(most, 1), sizeof *out->all);
    if (out->all == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " degrees", most);
    if (search->given.tp) out->all[out->count++].tp = search->config.strategy.tp;
    for (int64_t tp = 1; tp <= most && !search->given.tp; tp++)
        if (search->model->heads % tp == 0) out->all[out->count++].tp = tp;
    return DSC_OK;
}

/* No degrees that are free go with those that are given. */
static dsc_status refuse_grids(const dsc_search *search)
{
    const dsc_strategy *s = &search->config.strategy;
    const struct { const char *name; bool is_given; int64_t degree; } degrees[] = {
        {"tp", search->given.tp, s->tp}, {"pp", search->given.pp, s->pp}, {"cp", s->cp > 1, s->cp},
        {"dp", search->given.dp, s->dp}};
    const int64_t devices = dsc_cluster_devices(search->cluster);
    dsc_text given = {0};
    dsc_status status;

    for (int64_t i = 0; i < DSC_COUNT(degrees); i++)
        if (degrees[i].is_given)
            dsc_text_add(&given, "%s%s %" PRId64, given.count > 0 ? ", " : "", degrees[i].name, degrees[i].degree);
    status = search->given.dp
                 ? DSC_FAIL(DSC_EINVAL, "with %s there are more ranks than the cluster's %" PRId64 " devices",
                            dsc_text_str(&given), devices)
                 : DSC_FAIL(DSC_EINVAL, "with %s no tp x pp x cp x dp is the cluster's %" PRId64 " devices; --dp "
                            "leaves some idle", dsc_text_str(&given), devices);
    dsc_text_fini(&given);
    return status;
}

dsc_status search_look_at_all(dsc_search *search, int threads)
{
    degrees all = {.search = search};
    dsc_status status = DSC_OK;

    DSC_TRY(list_degrees(search, &all));
    run_degrees(&all, threads);
    DSC_TRY(gather(search, &all));
    if (search->counts.considered == 0) status = refuse_grids(search);
    else if (search->candidate_count == 0)
        status = DSC_EINVAL;
out:
    for (int64_t i = 0; i < all.count; i++) {
        free(all.all[i].candidates);
        free(all.all[i].message);
    }
    free(all.all);
    return status;
}
