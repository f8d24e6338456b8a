#include "sim/collective.h"
#include "plan/plan.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is longer is refused when it is to happen (engine.c); sums of a few such times do not wrap. */
#define MOST_NS 0x1p60

const char *const DSC_MOTION_NAMES[] = {"all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send"};

/* ---- Expansion */

/* Every member passes on to the next, the last to the first. */
static dsc_status add_ring(dsc_fabric *fabric, const int64_t *members, int64_t count, int64_t stride, dsc_phase *phase,
                           int64_t *latency)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < count; i++)
        DSC_TRY(dsc_fabric_path(fabric, members[i * stride], members[(i + 1) % count * stride], &phase->load, latency));
out:
    return status;
}

/* Rounds of the algorithm, each of which costs the latency of the slowest path. */
static void set_pace(dsc_phase *phase, double share, int64_t rounds, int64_t latency)
{
    phase->share = share;
    phase->latency_ns = DSC_MAX(phase->latency_ns, rounds * latency);
}

/* How often the data go round: an all-reduce is a reduce-scatter and an all-gather. */
static int64_t halves_of(dsc_motion motion) { return motion == DSC_MOVE_ALL_REDUCE ? 2 : 1; }

static dsc_status expand_ring(dsc_fabric *fabric, dsc_motion motion, const int64_t *members, int64_t count,
                              dsc_expansion *inout)
{
    dsc_status status = DSC_OK;
    int64_t latency = 0, halves = halves_of(motion);

    DSC_TRY(add_ring(fabric, members, count, 1, &inout->phases[0], &latency));
    set_pace(&inout->phases[0], (double)(halves * (count - 1)) / (double)count, halves * (count - 1), latency);
    inout->phase_count = 1;
out:
    return status;
}

/* The longest way up a binomial tree and down again. Neighbours are members of one node: few levels leave it. */
static dsc_status tree_latency(dsc_fabric *fabric, const int64_t *members, int64_t count, int64_t *latency)
{
    int64_t *ready = calloc((size_t)count, sizeof *ready); /* when the member has what is below it */
    dsc_status status = DSC_OK;

    if (ready == NULL) return DSC_FAIL(DSC_ENOMEM, "simulation: group of %" PRId64 " ranks", count);
    for (int64_t span = 1; span < count; span *= 2)
        for (int64_t i = 0; i + span < count; i += 2 * span) {
            int64_t path = 0;

            DSC_TRY(dsc_fabric_path(fabric, members[i], members[i + span], NULL, &path));
            ready[i] = DSC_MAX(ready[i], ready[i + span]) + path;
        }
    *latency = 2 * ready[0];
out:
    free(ready);
    return status;
}

static dsc_status expand_tree(dsc_fabric *fabric, dsc_motion motion, const int64_t *members, int64_t count,
                              dsc_expansion *inout)
{
    dsc_status status = DSC_OK;
    int64_t latency = 0, unused = 0;

    if (motion != DSC_MOVE_ALL_REDUCE) return DSC_OK;
    DSC_TRY(add_ring(fabric, members, count, 1, &inout->phases[0], &unused));
    DSC_TRY(tree_latency(fabric, members, count, &latency));
    set_pace(&inout->phases[0], 2, 1, latency);
    inout->phase_count = 1;
out:
    return status;
}

/* Members i and i + distance, for distances that stand for all; each round at its slowest path's pace. */
static dsc_status expand_all_to_all(dsc_fabric *fabric, const int64_t *members, int64_t count, dsc_expansion *inout)
{
    enum { MOST_ROUNDS = 64 };
    const int64_t rounds = DSC_MIN(count - 1, MOST_ROUNDS);
    dsc_status status = DSC_OK;
    int64_t latency = 0;

    for (int64_t round = 0; round < rounds; round++) {
        const int64_t distance = 1 + round * (count - 1) / rounds;
        int64_t slowest = 0;

        for (int64_t i = 0; i < count; i++)
            DSC_TRY(dsc_fabric_path(fabric, members[i], members[(i + distance) % count], &inout->phases[0].load,
                                    &slowest));
        latency += slowest;
    }
    set_pace(&inout->phases[0], (double)(count - 1) / (double)(count * rounds), 1, latency * (count - 1) / rounds);
    inout->phase_count = 1;
out:
    return status;
}

static dsc_status expand_message(dsc_fabric *fabric, const int64_t *members, dsc_expansion *inout)
{
    dsc_status status = DSC_OK;
    int64_t latency = 0;

    DSC_TRY(dsc_fabric_path(fabric, members[0], members[1], &inout->phases[0].load, &latency));
    set_pace(&inout->phases[0], 1, 1, latency);
    inout->phase_count = 1;
out:
    return status;
}

/* Members of each node when there are several nodes with as many each, and several on each; else 0. */
static int64_t members_each(const dsc_fabric *fabric, const int64_t *members, int64_t count)
{
    int64_t each = 0;

    while (each < count && dsc_fabric_domain(fabric, members[each]) == dsc_fabric_domain(fabric, members[0])) each++;
    if (each == 1 || each == count || count % each != 0) return 0;
    for (int64_t i = 0; i < count; i++) {
        bool is_first = i % each == 0;
        bool is_new = i == 0 || dsc_fabric_domain(fabric, members[i]) != dsc_fabric_domain(fabric, members[i - 1]);

        if (is_first != is_new) return 0;
    }
    return each;
}

/* Rings inside all nodes, as one more phase. */
static dsc_status add_inside(dsc_fabric *fabric, const int64_t *members, int64_t count, int64_t each,
                             dsc_expansion *inout)
{
    dsc_phase *phase = &inout->phases[inout->phase_count++];
    dsc_status status = DSC_OK;
    int64_t latency = 0;

    for (int64_t first = 0; first < count; first += each)
        DSC_TRY(add_ring(fabric, members + first, each, 1, phase, &latency));
    set_pace(phase, (double)(each - 1) / (double)each, each - 1, latency);
out:
    return status;
}

/* Rings of the members that have one place in their nodes. */
static dsc_status add_between(dsc_fabric *fabric, const int64_t *members, int64_t count, int64_t each, int64_t halves,
                              dsc_expansion *inout)
{
    dsc_phase *phase = &inout->phases[inout->phase_count++];
    dsc_status status = DSC_OK;
    int64_t latency = 0, nodes = count / each;

    for (int64_t i = 0; i < each; i++) DSC_TRY(add_ring(fabric, members + i, nodes, each, phase, &latency));
    set_pace(phase, (double)(halves * (nodes - 1)) / (double)count, halves * (nodes - 1), latency);
out:
    return status;
}

static dsc_status expand_hierarchy(dsc_fabric *fabric, dsc_motion motion, const int64_t *members, int64_t count,
                                   dsc_expansion *inout)
{
    dsc_status status = DSC_OK;
    int64_t each = members_each(fabric, members, count);

    if (each == 0) return DSC_OK;
    inout->phase_count = 0;
    if (motion != DSC_MOVE_ALL_GATHER) DSC_TRY(add_inside(fabric, members, count, each, inout));
    DSC_TRY(add_between(fabric, members, count, each, halves_of(motion), inout));
    if (motion != DSC_MOVE_REDUCE_SCATTER) DSC_TRY(add_inside(fabric, members, count, each, inout));
out:
    return status;
}

dsc_status dsc_expand(dsc_fabric *fabric, dsc_motion motion, dsc_algorithm algorithm, const int64_t *members,
                      int64_t count, dsc_expansion *inout)
{
    if (motion >= DSC_MOVE_ALL_TO_ALL && algorithm != DSC_BY_RING) return DSC_OK;
    if (motion == DSC_MOVE_ALL_TO_ALL) return expand_all_to_all(fabric, members, count, inout);
    if (motion == DSC_MOVE_MESSAGE) return expand_message(fabric, members, inout);
    switch (algorithm) {
    case DSC_BY_RING: return expand_ring(fabric, motion, members, count, inout);
    case DSC_BY_TREE: return expand_tree(fabric, motion, members, count, inout);
    default: return expand_hierarchy(fabric, motion, members, count, inout);
    }
}

void dsc_expansion_fini(dsc_expansion *expansion)
{
    for (int i = 0; i < DSC_PHASES; i++) {
        dsc_load_fini(&expansion->phases[i].load);
        dsc_load_fini(&expansion->phases[i].binding);
    }
    *expansion = (dsc_expansion){0};
}

void dsc_expansions_hide(const dsc_stack *stack, int axis, dsc_expansion inout[DSC_ALGORITHM_COUNT])
{
    for (int algorithm = 0; algorithm < DSC_ALGORITHM_COUNT && axis == DSC_AXIS_TP; algorithm++)
        for (int p = 0; p < inout[algorithm].phase_count; p++) inout[algorithm].phases[p].share *= 1 - stack->hidden;
}

dsc_status dsc_expansion_seal(dsc_fabric *fabric, const dsc_links *links, const int32_t *cores, int64_t count,
                              dsc_expansion *inout)
{
    dsc_status status = DSC_OK;

    for (int i = 0; i < inout->phase_count; i++) {
        dsc_phase *phase = &inout->phases[i];

        phase->rate = dsc_links_alone(links, phase->load.demands, phase->load.count, INFINITY);
        phase->weight = count > 0 ? phase->rate : 1;
        for (int64_t c = 0; c < count; c++) DSC_TRY(dsc_load_add(fabric, &phase->load, cores[c], 1 / phase->rate));
    }
out:
    return status;
}

int64_t dsc_expansion_ns(const dsc_expansion *expansion, int64_t bytes)
{
    int64_t ns = 0;

    if (expansion->phase_count == 0) return INT64_MAX;
    for (int i = 0; i < expansion->phase_count; i++) {
        const dsc_phase *phase = &expansion->phases[i];

        ns += phase->latency_ns + (int64_t)fmin(ceil(phase->share * (double)bytes / phase->rate), MOST_NS);
    }
    return ns;
}

const dsc_expansion *dsc_expansion_fastest(const dsc_expansion *expansions, int64_t bytes)
{
    const dsc_expansion *fastest = expansions;

    for (int algorithm = 1; algorithm < DSC_ALGORITHM_COUNT; algorithm++)
        if (dsc_expansion_ns(&expansions[algorithm], bytes) < dsc_expansion_ns(fastest, bytes))
            fastest = &expansions[algorithm];
    return fastest;
}

/* ---- Measurement */

/* How far a sample's setting is from the one asked for; INFINITY for other motions and numbers of nodes. */
static double distance(const dsc_collective_sample *sample, dsc_motion motion, const dsc_setting *setting)
{
    if (strcmp(sample->kind, DSC_MOTION_NAMES[motion]) != 0 || sample->nodes != setting->nodes || sample->bytes <= 0)
        return INFINITY;
    return fabs(log((double)sample->ranks / (double)setting->ranks)) +
           fabs(log((double)sample->at_work / (double)setting->at_work));
}

/* Of the samples of one setting, the largest of at most `bytes` and the smallest of at least that. */
typedef struct bracket { const dsc_collective_sample *below, *above; } bracket;

static bool is_as_good(const dsc_collective_sample *sample, const dsc_collective_sample *best)
{
    return sample->ranks == best->ranks && sample->at_work == best->at_work && sample->nodes == best->nodes &&
           strcmp(sample->kind, best->kind) == 0 && sample->bytes > 0;
}

static bracket find_bracket(const dsc_calibration *calibration, dsc_motion motion, const dsc_setting *setting,
                            int64_t bytes)
{
    const dsc_collective_sample *best = NULL;
    bracket found = {0};

    for (int64_t i = 0; i < calibration->collective_count; i++) {
        const dsc_collective_sample *sample = &calibration->collectives[i];
        double away = distance(sample, motion, setting);

        if (away < (best == NULL ? INFINITY : distance(best, motion, setting))) best = sample;
    }
    for (int64_t i = 0; best != NULL && i < calibration->collective_count; i++) {
        const dsc_collective_sample *sample = &calibration->collectives[i];

        if (!is_as_good(sample, best)) continue;
        if (sample->bytes <= bytes && (found.below == NULL || sample->bytes > found.below->bytes)) found.below = sample;
        if (sample->bytes >= bytes && (found.above == NULL || sample->bytes < found.above->bytes)) found.above = sample;
    }
    return found;
}

static double interpolate(const bracket *near, int64_t bytes)
{
    double along;

    if (near->below == NULL) return (double)near->above->time_ns;
    if (near->above == NULL) return (double)near->below->time_ns * (double)bytes / (double)near->below->bytes;
    if (near->below->bytes == near->above->bytes) return (double)near->below->time_ns;
    along = log((double)bytes / (double)near->below->bytes) /
            log((double)near->above->bytes / (double)near->below->bytes);
    return exp((1 - along) * log((double)near->below->time_ns) + along * log((double)near->above->time_ns));
}

/* What a member's time is proportional to. */
static double burden(dsc_motion motion, double ranks, double at_work, double cores)
{
    double share = motion == DSC_MOVE_MESSAGE || ranks < 2 ? 1 : (ranks - 1) / ranks;

    return share * fmax(at_work / cores, 1);
}

bool dsc_collective_measured(const dsc_calibration *calibration, dsc_motion motion, const dsc_setting *setting,
                             int64_t bytes, int64_t *out)
{
    const dsc_collective_sample *sample;
    bracket near = {0};
    double ns;

    if (calibration != NULL) near = find_bracket(calibration, motion, setting, bytes);
    sample = near.below == NULL ? near.above : near.below;
    if (sample == NULL) return false;
    ns = interpolate(&near, bytes) *
         burden(motion, (double)setting->ranks, (double)setting->at_work, setting->cores) /
         burden(motion, sample->ranks, sample->at_work, setting->cores);
    *out = (int64_t)fmin(round(ns), MOST_NS);
    return true;
}
