#include "sim/links.h"
#include <math.h>
#include <stdlib.h>

typedef struct resource {
    double capacity;
    int32_t *flows; int64_t flow_count, flow_capacity; /* active ones that use it */
    /* while solving: */
    double left, asked; /* capacity that no stopped flow takes; sum of a w over the flows that still rise */
    int64_t rising;     /* how many these are */
    int64_t mark;
} resource;

typedef struct flow {
    const dsc_demand *demands; int64_t count;
    double bound, weight, rate;
    double before; /* while solving: the rate until now */
    int64_t mark;
} flow;

struct dsc_links {
    resource *resources; int64_t resource_count, resource_capacity;
    flow *flows; int64_t flow_count, flow_capacity;
    int32_t *idle; int64_t idle_count, idle_capacity;       /* numbers to give out again */
    int32_t *changed; int64_t changed_count, changed_capacity;
    int32_t *part; int64_t part_count, part_capacity;       /* flows of the component that is being solved */
    int32_t *shared; int64_t shared_count, shared_capacity; /* its resources */
    int64_t mark;                                           /* stamp of the present gathering */
};

dsc_status dsc_links_create(dsc_links **out)
{
    *out = calloc(1, sizeof **out);
    return *out == NULL ? DSC_FAIL(DSC_ENOMEM, "links: %zu bytes", sizeof **out) : DSC_OK;
}

void dsc_links_destroy(dsc_links *links)
{
    if (links == NULL) return;
    for (int64_t r = 0; r < links->resource_count; r++) free(links->resources[r].flows);
    free(links->resources);
    free(links->flows);
    free(links->idle);
    free(links->changed);
    free(links->part);
    free(links->shared);
    free(links);
}

dsc_status dsc_links_add(dsc_links *links, double capacity, int32_t *out)
{
    resource added = {.capacity = capacity};

    *out = (int32_t)links->resource_count;
    return DSC_PUSH(links->resources, links->resource_count, links->resource_capacity, added);
}

double dsc_links_alone(const dsc_links *links, const dsc_demand *demands, int64_t count, double bound)
{
    for (int64_t i = 0; i < count; i++)
        bound = fmin(bound, links->resources[demands[i].resource].capacity / demands[i].amount);
    return bound;
}

/* Puts the flow into the component, once. */
static void gather_flow(dsc_links *links, int32_t number)
{
    flow *f = &links->flows[number];

    if (f->mark == links->mark) return;
    f->mark = links->mark;
    links->part[links->part_count++] = number;
}

static void gather_resource(dsc_links *links, int32_t number)
{
    resource *r = &links->resources[number];

    if (r->mark == links->mark) return;
    r->mark = links->mark;
    links->shared[links->shared_count++] = number;
    for (int64_t i = 0; i < r->flow_count; i++) gather_flow(links, r->flows[i]);
}

/* The flows that are connected with these demands, and their resources. */
static void gather(dsc_links *links, const dsc_demand *demands, int64_t count)
{
    links->mark++;
    links->part_count = links->shared_count = 0;
    for (int64_t i = 0; i < count; i++) gather_resource(links, demands[i].resource);
    for (int64_t i = 0; i < links->part_count; i++) {
        const flow *f = &links->flows[links->part[i]];

        for (int64_t d = 0; d < f->count; d++) gather_resource(links, f->demands[d].resource);
    }
}

/* The level at which the resource is full, if all its rising flows go on. */
static double level_full(const resource *r)
{
    return r->rising == 0 ? INFINITY : fmax(r->left, 0) / r->asked;
}

/* Where the next flow stops: the next resource is full or the next bound is reached. */
static double next_level(const dsc_links *links, int64_t rising)
{
    double level = INFINITY;

    for (int64_t i = 0; i < links->shared_count; i++)
        level = fmin(level, level_full(&links->resources[links->shared[i]]));
    for (int64_t i = 0; i < rising; i++) {
        const flow *f = &links->flows[links->part[i]];

        level = fmin(level, f->bound / f->weight);
    }
    return level;
}

/* The quotients are the very ones of next_level, so that the flow which set the level is seen to stop there. */
static bool stops_at(const dsc_links *links, const flow *f, double level)
{
    if (f->bound / f->weight <= level) return true;
    for (int64_t d = 0; d < f->count; d++)
        if (level_full(&links->resources[f->demands[d].resource]) <= level) return true;
    return false;
}

static void freeze(dsc_links *links, flow *f, double level)
{
    f->rate = f->bound / f->weight <= level ? f->bound : f->weight * level; /* a bound is met exactly */
    for (int64_t d = 0; d < f->count; d++) {
        resource *r = &links->resources[f->demands[d].resource];

        r->left -= f->demands[d].amount * f->rate;
        r->asked -= f->demands[d].amount * f->weight;
        r->rising--;
    }
}

static void let_all_rise(dsc_links *links)
{
    for (int64_t i = 0; i < links->shared_count; i++) {
        resource *r = &links->resources[links->shared[i]];

        r->left = r->capacity;
        r->asked = 0;
        r->rising = r->flow_count;
    }
    for (int64_t i = 0; i < links->part_count; i++) {
        const flow *f = &links->flows[links->part[i]];

        for (int64_t d = 0; d < f->count; d++)
            links->resources[f->demands[d].resource].asked += f->demands[d].amount * f->weight;
    }
}

/* Progressive filling of the gathered component (links.h). part[0..rising) still rise; each round moves those that stop
 * behind them, one at least. Rounding must not let the level fall. */
static void solve(dsc_links *links)
{
    double level = 0;

    let_all_rise(links);
    for (int64_t rising = links->part_count, before; rising > 0;) {
        level = fmax(level, next_level(links, rising));
        before = rising;
        for (int64_t i = 0; i < rising;) {
            int32_t number = links->part[i];

            if (!stops_at(links, &links->flows[number], level)) {
                i++;
                continue;
            }
            links->part[i] = links->part[--rising];
            links->part[rising] = number;
        }
        for (int64_t i = rising; i < before; i++) freeze(links, &links->flows[links->part[i]], level);
    }
}

static int by_number(const void *a, const void *b)
{
    return (*(const int32_t *)a > *(const int32_t *)b) - (*(const int32_t *)a < *(const int32_t *)b);
}

/* Solves the component of these demands, and lists whose rate is another than before. */
static void share_again(dsc_links *links, const dsc_demand *demands, int64_t count)
{
    gather(links, demands, count);
    for (int64_t i = 0; i < links->part_count; i++) {
        flow *f = &links->flows[links->part[i]];

        f->before = f->rate;
    }
    solve(links);
    for (int64_t i = 0; i < links->part_count; i++) {
        const flow *f = &links->flows[links->part[i]];

        if (f->rate != f->before) links->changed[links->changed_count++] = links->part[i];
    }
    qsort(links->changed, (size_t)links->changed_count, sizeof *links->changed, by_number);
}

/* Whether a flow is on one of the resources. */
static bool is_in_use(const dsc_links *links, const dsc_demand *demands, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (links->resources[demands[i].resource].flow_count > 0) return true;
    return false;
}

/* A number for a flow, and room for all that solving may list, so that an end cannot fail. */
static dsc_status take_number(dsc_links *links, int32_t *out)
{
    dsc_status status = DSC_OK;
    int64_t count;

    if (links->idle_count == 0) {
        DSC_TRY(DSC_PUSH(links->flows, links->flow_count, links->flow_capacity, (flow){0}));
        count = links->flow_count;
        DSC_TRY(dsc_array_reserve(&links->idle, &links->idle_capacity, count, sizeof *links->idle));
        DSC_TRY(dsc_array_reserve(&links->changed, &links->changed_capacity, count, sizeof *links->changed));
        DSC_TRY(dsc_array_reserve(&links->part, &links->part_capacity, count, sizeof *links->part));
        links->idle[links->idle_count++] = (int32_t)count - 1;
    }
    DSC_TRY(dsc_array_reserve(&links->shared, &links->shared_capacity, links->resource_count, sizeof *links->shared));
    *out = links->idle[--links->idle_count];
out:
    return status;
}

dsc_status dsc_links_start(dsc_links *links, const dsc_demand *demands, int64_t count, double bound, double weight,
                           int32_t *out)
{
    dsc_status status = DSC_OK;
    bool shares = is_in_use(links, demands, count);
    int32_t number;

    DSC_TRY(take_number(links, &number));
    for (int64_t i = 0; i < count; i++) {
        resource *r = &links->resources[demands[i].resource];

        DSC_TRY(DSC_PUSH(r->flows, r->flow_count, r->flow_capacity, number));
    }
    links->flows[number] = (flow){.demands = demands, .count = count, .bound = bound, .weight = weight};
    links->changed_count = 0;
    if (shares) {
        share_again(links, demands, count);
    } else {
        links->flows[number].rate = dsc_links_alone(links, demands, count, bound);
        links->changed[links->changed_count++] = number;
    }
    *out = number;
out:
    return status;
}

static void leave(resource *r, int32_t number)
{
    int64_t i = 0;

    while (r->flows[i] != number) i++;
    r->flows[i] = r->flows[--r->flow_count];
}

void dsc_links_end(dsc_links *links, int32_t number)
{
    flow ended = links->flows[number];

    for (int64_t i = 0; i < ended.count; i++) leave(&links->resources[ended.demands[i].resource], number);
    links->idle[links->idle_count++] = number;
    links->changed_count = 0;
    if (is_in_use(links, ended.demands, ended.count)) share_again(links, ended.demands, ended.count);
}

double dsc_links_rate(const dsc_links *links, int32_t number)
{
    return links->flows[number].rate;
}

const int32_t *dsc_links_changed(const dsc_links *links, int64_t *count)
{
    *count = links->changed_count;
    return links->changed;
}
