#include "sim/search/transfer.h"
#include "sim/collective.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Up to so many ranks all groups are laid out one by one; where a tier is shared unevenly, up to more. */
enum { FEW_RANKS = 512, MANY_RANKS = 1 << 14 };

/* Groups that lie alike: what decides where members sit. */
typedef struct key { int64_t motion, axis, stage, degrees[4], order[4]; } key;

typedef struct entry {
    key key;
    bool is_used;
    dsc_setting setting;
    dsc_expansion expansions[DSC_ALGORITHM_COUNT];
} entry;

struct dsc_transfers {
    const dsc_cluster *cluster;
    const dsc_stack *stack;
    const dsc_calibration *calibration;
    dsc_links *links;
    dsc_fabric *fabric;
    int64_t ranks;
    bool is_uneven;                                /* a tier carries less than what enters it */
    entry *entries; int64_t entry_count, used;     /* open addressing; entry_count is a power of two */
    int64_t *group, *firsts; int64_t first_count;  /* [ranks] scratch */
};

static bool is_uneven(const dsc_cluster *cluster)
{
    for (int64_t t = 0; t < cluster->tier_count; t++)
        if (cluster->network[t].oversubscription > 1 || cluster->network[t].topology == DSC_TIER_DRAGONFLY) return true;
    return false;
}

dsc_status dsc_transfers_create(const dsc_cluster *cluster, const dsc_stack *stack, const dsc_calibration *calibration,
                                int64_t ranks, dsc_transfers **out)
{
    dsc_status status = DSC_OK;
    dsc_transfers *t = calloc(1, sizeof *t);

    if (t == NULL) return DSC_FAIL(DSC_ENOMEM, "transfers: %zu bytes", sizeof *t);
    *t = (dsc_transfers){.cluster = cluster, .stack = stack, .calibration = calibration, .ranks = ranks,
                         .is_uneven = is_uneven(cluster)};
    t->group = malloc((size_t)ranks * sizeof *t->group);
    t->firsts = malloc((size_t)ranks * sizeof *t->firsts);
    if (t->group == NULL || t->firsts == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "transfers: %" PRId64 " ranks", ranks));
    DSC_TRY(dsc_links_create(&t->links));
    DSC_TRY(dsc_fabric_create(cluster, stack, ranks, t->links, &t->fabric));
    *out = t;
    t = NULL;
out:
    dsc_transfers_destroy(t);
    return status;
}

void dsc_transfers_destroy(dsc_transfers *t)
{
    if (t == NULL) return;
    for (int64_t i = 0; i < t->entry_count; i++)
        for (int a = 0; t->entries[i].is_used && a < DSC_ALGORITHM_COUNT; a++)
            dsc_expansion_fini(&t->entries[i].expansions[a]);
    free(t->entries);
    free(t->group);
    free(t->firsts);
    dsc_fabric_destroy(t->fabric);
    dsc_links_destroy(t->links);
    free(t);
}

/* ---- Finding */

static entry *find_slot(entry *entries, int64_t count, const key *k)
{
    const int64_t *words = (const int64_t *)k;
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < sizeof *k / sizeof *words; i++) hash = (hash ^ (uint64_t)words[i]) * 0x100000001b3;
    for (uint64_t at = hash ^ hash >> 32;; at++) {
        entry *e = &entries[at & (uint64_t)(count - 1)];

        if (!e->is_used || memcmp(&e->key, k, sizeof *k) == 0) return e;
    }
}

static dsc_status grow(dsc_transfers *t)
{
    const int64_t count = DSC_MAX(64, 2 * t->entry_count);
    entry *entries = calloc((size_t)count, sizeof *entries);

    if (entries == NULL) return DSC_FAIL(DSC_ENOMEM, "transfers: %" PRId64 " groups", count);
    for (int64_t i = 0; i < t->entry_count; i++)
        if (t->entries[i].is_used) *find_slot(entries, count, &t->entries[i].key) = t->entries[i];
    free(t->entries);
    t->entries = entries;
    t->entry_count = count;
    return DSC_OK;
}

/* Tensor groups of neighbouring ranks lie alike whatever follows. */
static key key_of(const dsc_plan *plan, int motion, int axis, int64_t stage)
{
    key k = {.motion = motion, .axis = axis, .stage = stage};
    const bool is_first = axis == plan->order[0];

    for (int i = 0; i < 4; i++) {
        const bool counts = axis != DSC_AXIS_WORLD && (!is_first || i == axis);

        k.degrees[i] = counts ? dsc_plan_degree(plan, i) : 0;
        k.order[i] = counts ? plan->order[i] : -1;
    }
    return k;
}

/* ---- Expanding */

static int64_t rank_on_stage(const dsc_plan *plan, dsc_coord coord, int64_t stage)
{
    coord.of[DSC_AXIS_PP] = stage % plan->config.strategy.pp;
    return dsc_plan_rank(plan, coord);
}

/* The first member of the group of that rank: sender, or lowest. Groups over `intra` replicas begin at multiples. */
static int64_t first_of(const dsc_transfers *t, const dsc_plan *plan, int axis, int64_t rank)
{
    if (axis == DSC_AXIS_PP) return rank;
    dsc_plan_group_ranks(plan, rank, axis, t->group);
    return t->group[0];
}

static void add_first(dsc_transfers *t, int64_t first)
{
    for (int64_t i = 0; i < t->first_count; i++)
        if (t->firsts[i] == first) return;
    t->firsts[t->first_count++] = first;
}

/* Groups of the stage that run at once: all of them, or those with members on one node. */
static void list_firsts(dsc_transfers *t, const dsc_plan *plan, const key *k)
{
    const int64_t here = rank_on_stage(plan, (dsc_coord){{0}}, k->stage), node = dsc_fabric_node(t->fabric, here);
    const bool takes_all = t->ranks <= FEW_RANKS || (t->is_uneven && t->ranks <= MANY_RANKS);
    int64_t low = takes_all ? 0 : here, high = takes_all ? t->ranks : here + 1;

    t->first_count = 0;
    if (k->axis == DSC_AXIS_WORLD) {
        add_first(t, 0);
        return;
    }
    while (low > 0 && dsc_fabric_node(t->fabric, low - 1) == node) low--;
    while (high < t->ranks && dsc_fabric_node(t->fabric, high) == node) high++;
    add_first(t, first_of(t, plan, (int)k->axis, here));
    for (int64_t rank = low; rank < high; rank++)
        if (dsc_plan_coord(plan, rank).of[DSC_AXIS_PP] == k->stage)
            add_first(t, first_of(t, plan, (int)k->axis, rank));
}

static int64_t list_group(dsc_transfers *t, const dsc_plan *plan, const key *k, int64_t first)
{
    if (k->axis != DSC_AXIS_PP) return dsc_plan_group_ranks(plan, first, (dsc_axis)k->axis, t->group);
    t->group[0] = first;
    t->group[1] = rank_on_stage(plan, dsc_plan_coord(plan, first), k->stage + 1);
    return 2;
}

static dsc_status expand(dsc_transfers *t, const dsc_plan *plan, entry *e)
{
    dsc_status status = DSC_OK;
    int64_t count = 1;

    list_firsts(t, plan, &e->key);
    for (int64_t i = 0; i < t->first_count; i++) {
        count = list_group(t, plan, &e->key, t->firsts[i]);
        for (int a = 0; a < DSC_ALGORITHM_COUNT; a++)
            DSC_TRY(dsc_expand(t->fabric, (dsc_motion)e->key.motion, (dsc_algorithm)a, t->group, count,
                               &e->expansions[a]));
    }
    dsc_expansions_hide(t->stack, (int)e->key.axis, e->expansions);
    for (int a = 0; a < DSC_ALGORITHM_COUNT; a++)
        DSC_TRY(dsc_expansion_seal(t->fabric, t->links, NULL, 0, &e->expansions[a]));
    count = list_group(t, plan, &e->key, t->firsts[0]);
    e->setting = (dsc_setting){.ranks = count, .nodes = 1};
    for (int64_t i = 1; i < count; i++)
        e->setting.nodes += dsc_fabric_node(t->fabric, t->group[i]) != dsc_fabric_node(t->fabric, t->group[i - 1]);
    dsc_fabric_neighbours(t->fabric, t->group[0], &e->setting.at_work, &e->setting.cores);
out:
    return status;
}

static dsc_status find(dsc_transfers *t, const dsc_plan *plan, const key *k, entry **out)
{
    dsc_status status = DSC_OK;

    if (2 * t->used >= t->entry_count) DSC_TRY(grow(t));
    *out = find_slot(t->entries, t->entry_count, k);
    if ((*out)->is_used) return DSC_OK;
    (*out)->key = *k;
    (*out)->is_used = true;
    t->used++;
    DSC_TRY(expand(t, plan, *out));
out:
    return status;
}

static dsc_status price(dsc_transfers *t, const dsc_plan *plan, const key *k, int64_t bytes, int64_t *out)
{
    dsc_status status = DSC_OK;
    entry *e;

    DSC_TRY(find(t, plan, k, &e));
    if (!dsc_collective_measured(t->calibration, (dsc_motion)k->motion, &e->setting, bytes, out))
        *out = dsc_expansion_ns(dsc_expansion_fastest(e->expansions, bytes), bytes);
out:
    return status;
}

static dsc_motion motion_of(int kind)
{
    switch (kind) {
    case DSC_OP_REDUCE_SCATTER: return DSC_MOVE_REDUCE_SCATTER;
    case DSC_OP_ALL_GATHER: return DSC_MOVE_ALL_GATHER;
    case DSC_OP_ALL_TO_ALL: return DSC_MOVE_ALL_TO_ALL;
    default: return DSC_MOVE_ALL_REDUCE;
    }
}

dsc_status dsc_transfer_ns(dsc_transfers *t, const dsc_plan *plan, int kind, int axis, int64_t bytes, int64_t *out)
{
    const key k = key_of(plan, motion_of(kind), axis, 0);

    *out = 0;
    return dsc_plan_degree(plan, (dsc_axis)axis) > 1 ? price(t, plan, &k, bytes, out) : DSC_OK;
}

dsc_status dsc_transfer_message_ns(dsc_transfers *t, const dsc_plan *plan, int64_t stage, int64_t bytes, int64_t *out)
{
    const key k = key_of(plan, DSC_MOVE_MESSAGE, DSC_AXIS_PP, stage);

    return price(t, plan, &k, bytes, out);
}

dsc_status dsc_transfer_copy_pace(dsc_transfers *t, const dsc_plan *plan, bool is_out, double *out)
{
    const int64_t here = rank_on_stage(plan, (dsc_coord){{0}}, 0), node = dsc_fabric_node(t->fabric, here);
    dsc_load load = {0};
    double rate = 1;
    dsc_status status = DSC_OK;
    int64_t low = here;

    while (low > 0 && dsc_fabric_node(t->fabric, low - 1) == node) low--;
    for (int64_t rank = low; rank < t->ranks && dsc_fabric_node(t->fabric, rank) == node; rank++)
        if (dsc_plan_coord(plan, rank).of[DSC_AXIS_PP] == 0)
            DSC_TRY(dsc_fabric_copy(t->fabric, rank, is_out, &load, &rate));
    for (int64_t i = 0; i < load.count; i++) load.demands[i].amount *= rate;
    *out = load.count == 0 ? 1 : 1 / dsc_links_alone(t->links, load.demands, load.count, 1);
out:
    dsc_load_fini(&load);
    return status;
}

bool dsc_transfer_leaves_node(const dsc_transfers *t, const dsc_plan *plan, int64_t stage)
{
    const int64_t from = rank_on_stage(plan, (dsc_coord){{0}}, stage);
    const int64_t to = rank_on_stage(plan, (dsc_coord){{0}}, stage + 1);

    return dsc_fabric_node(t->fabric, from) != dsc_fabric_node(t->fabric, to);
}
