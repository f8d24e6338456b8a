/* Sharing of resources: against the definition of max-min fairness, and against a brute-force search for the rates. */
#include "sim/links.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>

enum { MOST = 8 };

typedef struct scene {
    int resources, flows;
    double capacity[MOST], bound[MOST], weight[MOST];
    dsc_demand demands[MOST][MOST];
    int counts[MOST];
} scene;

static double draw(double low, double high)
{
    return low + (high - low) * (double)tap_random_between(0, 1 << 20) / (1 << 20);
}

static scene random_scene(void)
{
    scene s = {.resources = (int)tap_random_between(1, MOST), .flows = (int)tap_random_between(1, MOST)};

    for (int r = 0; r < s.resources; r++) s.capacity[r] = draw(1, 10);
    for (int f = 0; f < s.flows; f++) {
        s.bound[f] = tap_random_between(0, 1) == 0 ? draw(0.1, 5) : INFINITY;
        s.weight[f] = draw(0.5, 2);
        for (int r = 0; r < s.resources; r++)
            if (tap_random_between(0, 2) == 0) s.demands[f][s.counts[f]++] = (dsc_demand){r, draw(0.5, 2)};
        if (s.counts[f] == 0) s.demands[f][s.counts[f]++] = (dsc_demand){0, 1};
    }
    return s;
}

static double use_of(const scene *s, int resource, const double *rates)
{
    double use = 0;

    for (int f = 0; f < s->flows; f++)
        for (int d = 0; d < s->counts[f]; d++)
            if (s->demands[f][d].resource == resource) use += s->demands[f][d].amount * rates[f];
    return use;
}

/* Raises the levels of all flows in small steps, each until something stops it: slow, and obviously fair. */
static void fill_by_drops(const scene *s, int drops, double *rates)
{
    double most = 0;

    for (int f = 0; f < s->flows; f++) {
        rates[f] = 0;
        for (int d = 0; d < s->counts[f]; d++)
            most = fmax(most, s->capacity[s->demands[f][d].resource] / s->demands[f][d].amount / s->weight[f]);
    }
    for (int drop = 0; drop < drops; drop++)
        for (int f = 0; f < s->flows; f++) {
            bool fits;

            rates[f] += s->weight[f] * most / drops;
            fits = rates[f] <= s->bound[f];
            for (int d = 0; d < s->counts[f] && fits; d++)
                fits = use_of(s, s->demands[f][d].resource, rates) <= s->capacity[s->demands[f][d].resource];
            if (!fits) rates[f] -= s->weight[f] * most / drops;
        }
}

static bool start_all(const scene *s, dsc_links *links, int32_t *flows)
{
    for (int r = 0; r < s->resources; r++) {
        int32_t number;

        if (!CHECK_OK(dsc_links_add(links, s->capacity[r], &number))) return false;
    }
    for (int f = 0; f < s->flows; f++)
        if (!CHECK_OK(dsc_links_start(links, s->demands[f], s->counts[f], s->bound[f], s->weight[f], &flows[f])))
            return false;
    return true;
}

static void equals_brute_force(void)
{
    for (int i = 0; i < 200; i++) {
        scene s = random_scene();
        dsc_links *links = NULL;
        int32_t flows[MOST];
        double slow[MOST];

        if (!CHECK_OK(dsc_links_create(&links)) || !start_all(&s, links, flows)) return;
        fill_by_drops(&s, 20000, slow);
        for (int f = 0; f < s.flows; f++) {
            double rate = dsc_links_rate(links, flows[f]);

            CHECK(fabs(rate - slow[f]) < 0.01, "scene %d: flow %d of %d has rate %g, drop by drop %g", i, f, s.flows,
                  rate, slow[f]);
        }
        dsc_links_destroy(links);
    }
}

static bool has_larger_level(const scene *s, int resource, const double *rates, double level)
{
    for (int f = 0; f < s->flows; f++)
        for (int d = 0; d < s->counts[f]; d++)
            if (s->demands[f][d].resource == resource && rates[f] / s->weight[f] > level * (1 + 1e-9)) return true;
    return false;
}

/* The definition in links.h. */
static bool cannot_have_more(const scene *s, int f, const double *rates)
{
    if (rates[f] >= s->bound[f]) return true;
    for (int d = 0; d < s->counts[f]; d++) {
        int r = s->demands[f][d].resource;

        if (use_of(s, r, rates) >= s->capacity[r] * (1 - 1e-9) &&
            !has_larger_level(s, r, rates, rates[f] / s->weight[f])) return true;
    }
    return false;
}

static void is_max_min_fair(void)
{
    for (int i = 0; i < 500; i++) {
        scene s = random_scene();
        dsc_links *links = NULL;
        int32_t flows[MOST];
        double rates[MOST];

        if (!CHECK_OK(dsc_links_create(&links)) || !start_all(&s, links, flows)) return;
        s.flows--; /* the last one ends */
        dsc_links_end(links, flows[s.flows]);
        for (int f = 0; f < s.flows; f++) rates[f] = dsc_links_rate(links, flows[f]);
        for (int r = 0; r < s.resources; r++)
            CHECK(use_of(&s, r, rates) <= s.capacity[r] * (1 + 1e-9), "resource %d: %g of %g", r, use_of(&s, r, rates),
                  s.capacity[r]);
        for (int f = 0; f < s.flows; f++)
            CHECK(cannot_have_more(&s, f, rates), "scene %d: flow %d has rate %g and could have more", i, f, rates[f]);
        dsc_links_destroy(links);
    }
}

static void two_share_a_link(void)
{
    static const dsc_demand demand[] = {{0, 1}};
    dsc_links *links = NULL;
    int32_t link, a, b;
    int64_t count;

    if (!CHECK_OK(dsc_links_create(&links)) || !CHECK_OK(dsc_links_add(links, 10, &link))) return;
    CHECK_OK(dsc_links_start(links, demand, 1, INFINITY, 1, &a));
    CHECK(dsc_links_rate(links, a) == 10, "alone %g", dsc_links_rate(links, a));
    CHECK_OK(dsc_links_start(links, demand, 1, INFINITY, 1, &b));
    dsc_links_changed(links, &count);
    CHECK(count == 2, "%lld rates changed", (long long)count);
    CHECK(dsc_links_rate(links, a) == 5 && dsc_links_rate(links, b) == 5, "%g and %g", dsc_links_rate(links, a),
          dsc_links_rate(links, b));
    dsc_links_end(links, a);
    CHECK(dsc_links_rate(links, b) == 10, "then %g", dsc_links_rate(links, b));
    dsc_links_destroy(links);
}

static void strangers_are_left_alone(void)
{
    static const dsc_demand one[] = {{0, 1}}, other[] = {{1, 1}};
    dsc_links *links = NULL;
    int32_t link, a, b;
    int64_t count;

    if (!CHECK_OK(dsc_links_create(&links))) return;
    CHECK_OK(dsc_links_add(links, 4, &link));
    CHECK_OK(dsc_links_add(links, 6, &link));
    CHECK_OK(dsc_links_start(links, one, 1, INFINITY, 1, &a));
    CHECK_OK(dsc_links_start(links, other, 1, INFINITY, 1, &b));
    CHECK(dsc_links_changed(links, &count)[0] == b && count == 1, "%lld rates changed", (long long)count);
    dsc_links_end(links, a);
    dsc_links_changed(links, &count);
    CHECK(count == 0, "%lld rates changed", (long long)count);
    dsc_links_destroy(links);
}

static const tap_case cases[] = {
    {"rates are those that filling drop by drop finds", equals_brute_force},
    {"every flow is at its bound or has a full resource on which none has more", is_max_min_fair},
    {"two flows on a link have half of it each, and all when the other ends", two_share_a_link},
    {"flows that share nothing do not change each other's rates", strangers_are_left_alone},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
