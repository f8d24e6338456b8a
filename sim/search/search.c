#include "sim/search/search.h"
#include "sim/search/walk.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Classes of ZeRO that software tells apart: 0 and 1, 2, 3. */
enum { ZEROS = 4, OFFLOADS = 3, CLASSES = 3 };

/* Software, prices and transfers of so many ranks. */
typedef struct machine {
    const dsc_stack *stack;
    int64_t ranks, pause_ns;
    dsc_prices *prices;
    dsc_transfers *transfers;
    int64_t agree_ns;
} machine;

/* Everything that decides a family and the grid that its transfers go over. */
typedef struct family_key {
    int64_t tp, pp, dp, micro_batch, bucket_elems, gradient_type;
    int64_t recompute, again, sequence_parallel, zero, offload, is_split, is_several, stack, order;
} family_key;

/* What is kept of a family: its costs, and its messages over all boundaries. */
typedef struct family_costs { family_key key; bool is_used; dsc_costs costs; int64_t messages_ns; } family_costs;

/* Static bytes of stages, by layers. */
typedef struct states { dsc_linear of[DSC_STAGE_KINDS][DSC_SPACE_COUNT]; } states;

struct dsc_search {
    const dsc_model *model;
    const dsc_cluster *cluster;
    const dsc_calibration *calibration;
    const char *stack;
    dsc_config config;
    dsc_given given;
    machine *machines; int64_t machine_count, machine_capacity;
    family_costs *families; int64_t family_slots, family_count; /* open addressing */
    dsc_candidate *candidates; int64_t candidate_count, candidate_capacity;
    dsc_search_counts counts;
    bool is_first_look;         /* families are for bounds */
    int64_t capacity_bytes[DSC_SPACE_COUNT], libraries_bytes[DSC_SPACE_COUNT];
    dsc_plan outline;           /* of the strategy at hand */
    dsc_config tried;           /* its configuration */
};

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
static dsc_status look_at(dsc_search *search, const dsc_candidate *c, const dsc_stack **stack)
{
    dsc_status status = DSC_OK;

    search->tried = dsc_search_config(search, c);
    *stack = dsc_stack_find(search->stack, &search->tried.strategy, search->cluster);
    dsc_stack_apply(*stack, search->model->layers, dsc_cluster_devices(search->cluster), &search->tried.strategy);
    DSC_TRY(dsc_plan_outline(search->model, search->cluster, &search->tried, &search->outline));
out:
    return status;
}

/* ---- Machines */

static dsc_status machine_create(const dsc_search *search, const dsc_stack *stack, machine *out)
{
    const dsc_plan *outline = &search->outline;
    machine m = {.stack = stack, .ranks = outline->ranks};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_prices_create(outline, search->cluster, search->calibration, stack, &m.prices));
    DSC_TRY(dsc_transfers_create(search->cluster, stack, search->calibration, m.ranks, &m.transfers));
    DSC_TRY(dsc_transfer_ns(m.transfers, outline, DSC_OP_AGREE, DSC_AXIS_WORLD,
                            DSC_SCALAR_COUNT * dsc_dtype_bytes(DSC_FP64), &m.agree_ns));
    m.pause_ns = dsc_price_op_overhead(m.prices);
    *out = m;
    m = (machine){0};
out:
    dsc_prices_destroy(m.prices);
    dsc_transfers_destroy(m.transfers);
    return status;
}

static dsc_status find_machine(dsc_search *search, const dsc_stack *stack, int64_t *out)
{
    dsc_status status = DSC_OK;
    machine made;

    for (*out = 0; *out < search->machine_count; ++*out)
        if (search->machines[*out].stack == stack && search->machines[*out].ranks == search->outline.ranks)
            return DSC_OK;
    DSC_TRY(machine_create(search, stack, &made));
    if (DSC_PUSH(search->machines, search->machine_count, search->machine_capacity, made) != DSC_OK) {
        dsc_prices_destroy(made.prices);
        dsc_transfers_destroy(made.transfers);
        status = DSC_ENOMEM;
    }
out:
    return status;
}

/* ---- Families */

static family_costs *find_slot(family_costs *slots, int64_t count, const family_key *key)
{
    const int64_t *words = (const int64_t *)key;
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < sizeof *key / sizeof *words; i++) hash = (hash ^ (uint64_t)words[i]) * 0x100000001b3;
    for (uint64_t at = hash ^ hash >> 32;; at++) {
        family_costs *slot = &slots[at & (uint64_t)(count - 1)];

        if (!slot->is_used || memcmp(&slot->key, key, sizeof *key) == 0) return slot;
    }
}

static dsc_status grow(dsc_search *search)
{
    const int64_t count = DSC_MAX(256, 2 * search->family_slots);
    family_costs *slots = calloc((size_t)count, sizeof *slots);

    if (slots == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " families", count);
    for (int64_t i = 0; i < search->family_slots; i++)
        if (search->families[i].is_used) *find_slot(slots, count, &search->families[i].key) = search->families[i];
    free(search->families);
    search->families = slots;
    search->family_slots = count;
    return DSC_OK;
}

/* How many layers of each chunk are computed again, where not all or none are; else 0. */
static int64_t layers_again(const dsc_strategy *s, int64_t layers)
{
    const int64_t longest = dsc_ceil_div(layers, s->pp * DSC_MAX(s->virtual_stages, 1));

    return s->recompute == DSC_RECOMPUTE_FULL && s->recompute_layers < longest ? s->recompute_layers : 0;
}

/* Of the outline at hand. */
static family_key key_of(const dsc_search *search, int64_t stack)
{
    const dsc_strategy *s = &search->outline.config.strategy;
    const bool is_split = s->schedule == DSC_ZB_H1 && s->pp > 1;
    int64_t order = 0;

    for (int i = 0; i < 4; i++) order = 4 * order + search->outline.order[i];
    return (family_key){s->tp, s->pp, s->dp, s->micro_batch, s->bucket_elems, search->outline.gradient_type,
                        s->recompute, layers_again(s, search->model->layers), s->sequence_parallel, s->zero,
                        s->offload, is_split, search->outline.micro_batches > 1, stack, order};
}

/* Over all boundaries: those inside nodes and those between them are priced once each. */
static dsc_status price_messages(dsc_search *search, const machine *m, int64_t bytes, int64_t *out)
{
    const int64_t boundaries = search->outline.config.strategy.pp - 1;
    int64_t ns[2] = {-1, -1}, sum = 0;
    dsc_status status = DSC_OK;

    for (int64_t stage = 0; stage < boundaries; stage++) {
        const bool leaves = dsc_transfer_leaves_node(m->transfers, &search->outline, stage);

        if (ns[leaves] < 0)
            DSC_TRY(dsc_transfer_message_ns(m->transfers, &search->outline, stage, bytes, &ns[leaves]));
        sum += ns[leaves];
    }
    *out = sum;
out:
    return status;
}

/* Builds a family and prices it on each of the machines. Its plan is of fewer layers: the size of buckets is that of
 * the wanted one. */
static dsc_status measure(dsc_search *search, bool is_split, const int64_t *machines, int count, dsc_costs *out)
{
    dsc_config config = search->outline.config;
    dsc_family *family = NULL;
    dsc_status status = DSC_OK;

    config.strategy.schedule = is_split ? DSC_ZB_H1 : DSC_1F1B;
    config.strategy.recompute_layers = 0;
    config.strategy.exchange = search->config.strategy.exchange; /* to be found anew: there may be fewer nodes */
    DSC_TRY(dsc_family_create(search->model, search->cluster, &config, search->outline.micro_batches > 1,
                              search->is_first_look ? 1 : 2, &family));
    search->counts.families++;
    for (int i = 0; i < count; i++) {
        const machine *m = &search->machines[machines[i]];

        DSC_TRY(dsc_family_costs(family, m->prices, m->transfers, &search->outline, &out[i]));
    }
out:
    dsc_family_destroy(family);
    return status;
}

/* Where backward passes are split, sizes and halves are those of a program that does so, other times those of one that
 * does not. */
static dsc_status take_split(dsc_search *search, int64_t machine, dsc_costs *costs)
{
    dsc_costs *split = malloc(sizeof *split);
    dsc_status status = DSC_OK;

    if (split == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu bytes", sizeof *split);
    DSC_TRY(measure(search, true, &machine, 1, split));
    for (int kind = 0; kind < DSC_STAGE_KINDS; kind++) {
        memcpy(&costs->of[kind][DSC_Q_INPUTS], &split->of[kind][DSC_Q_INPUTS], 2 * sizeof(dsc_linear));
        memcpy(&costs->of[kind][DSC_Q_STATIC], &split->of[kind][DSC_Q_STATIC],
               (DSC_Q_COUNT - DSC_Q_STATIC) * sizeof(dsc_linear));
    }
out:
    free(split);
    return status;
}

static dsc_status store(dsc_search *search, const family_costs *made)
{
    dsc_status status = DSC_OK;
    family_costs *slot;

    if (2 * search->family_count >= search->family_slots) DSC_TRY(grow(search));
    slot = find_slot(search->families, search->family_slots, &made->key);
    search->family_count += !slot->is_used;
    *slot = *made;
out:
    return status;
}

/* The outline at hand is the same for all `count` machines: costs of each. */
static dsc_status make_costs(dsc_search *search, const int64_t *machines, int count, dsc_costs *out)
{
    dsc_status status = DSC_OK;

    DSC_TRY(measure(search, false, machines, count, out));
    if (search->outline.config.strategy.schedule == DSC_ZB_H1 && search->outline.config.strategy.pp > 1)
        DSC_TRY(take_split(search, machines[0], &out[0]));
out:
    return status;
}

static dsc_status find_family(dsc_search *search, const int64_t *machines, int count, const family_costs **out);

/* Layers that are computed again beside others that are not: by families of either. */
static dsc_status mix_costs(dsc_search *search, const int64_t *machines, int count, int64_t again, dsc_costs *out)
{
    dsc_strategy *s = &search->outline.config.strategy;
    const int64_t layers = s->recompute_layers;
    const family_costs *family;
    dsc_status status = DSC_OK;

    s->recompute_layers = 0;
    for (int i = 0; i < count; i++) {
        dsc_costs whole;

        DSC_TRY(find_family(search, &machines[i], count - i, &family));
        whole = family->costs;
        s->recompute = DSC_RECOMPUTE_NONE;
        status = find_family(search, &machines[i], count - i, &family);
        s->recompute = DSC_RECOMPUTE_FULL;
        if (status != DSC_OK) break;
        dsc_costs_mix(&whole, &family->costs, again, &out[i]);
    }
out:
    s->recompute_layers = layers;
    return status;
}

/* Of the outline at hand, which is the same for all `count` machines: the first one's. What is made is made for all. */
static dsc_status find_family(dsc_search *search, const int64_t *machines, int count, const family_costs **out)
{
    const family_key key = key_of(search, machines[0]);
    dsc_costs costs[CLASSES];
    dsc_status status = DSC_OK;

    *out = search->family_slots == 0 ? NULL : find_slot(search->families, search->family_slots, &key);
    if (*out != NULL && (*out)->is_used) return DSC_OK;
    if (key.again > 0) DSC_TRY(mix_costs(search, machines, count, key.again, costs));
    else DSC_TRY(make_costs(search, machines, count, costs));
    for (int i = 0; i < count; i++) {
        family_costs made = {.key = key_of(search, machines[i]), .is_used = true, .costs = costs[i]};

        DSC_TRY(price_messages(search, &search->machines[machines[i]],
                              costs[i].of[DSC_STAGE_FIRST][DSC_Q_MESSAGE].base, &made.messages_ns));
        DSC_TRY(store(search, &made));
    }
    *out = find_slot(search->families, search->family_slots, &key);
out:
    return status;
}

/* ---- Scores */

static dsc_shape_of_step shape_of(const dsc_search *search, const dsc_candidate *c, const machine *m,
                                  int64_t messages_ns)
{
    return (dsc_shape_of_step){.layers = search->model->layers, .pp = c->pp, .virtual_stages = c->virtual_stages,
                               .micro_batches = c->micro_batches, .schedule = c->schedule, .messages_ns = messages_ns,
                               .agree_ns = m->agree_ns, .pause_ns = m->pause_ns};
}

static void set_bytes(const dsc_search *search, dsc_candidate *c, const dsc_costs *costs,
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

    DSC_TRY(look_at(search, c, &stack));
    DSC_TRY(find_machine(search, stack, &machine));
    do { /* buckets in pieces, as dsc_programs_place makes them, as long as that helps */
        before = c->bytes[DSC_SPACE_DEVICE];
        DSC_TRY(find_family(search, &machine, 1, &family));
        shape = shape_of(search, c, &search->machines[machine], family->messages_ns);
        set_bytes(search, c, &family->costs, &shape);
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

/* ---- The first look */

/* Static bytes of a plan of `layers` layers in as many stages as there are kinds. */
static dsc_status add_states(dsc_search *search, int64_t each, states *out)
{
    dsc_config config = search->outline.config;
    dsc_model small = *search->model;
    dsc_cluster larger = {0};
    const int64_t stages = config.strategy.pp > 1 ? 3 : 1;
    dsc_plan *plan = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_family_cluster(search->cluster, &larger));
    small.layers = each * stages;
    config.strategy.pp = stages;
    config.strategy.virtual_stages = 1;
    config.strategy.schedule = DSC_1F1B;
    config.strategy.partition = DSC_PARTITION_UNIFORM;
    config.strategy.exchange = search->config.strategy.exchange;
    config.strategy.global_batch = config.strategy.dp * config.strategy.micro_batch *
                                   DSC_MIN(search->outline.micro_batches, 2);
    config.gradient_accumulation_steps = 0;
    if (config.strategy.rank_order[0] == '\0') strcpy(config.strategy.rank_order, "tp,cp,dp,pp");
    DSC_TRY(dsc_plan_create(&small, &larger, &config, &plan));
    for (int64_t stage = 0; stage < stages; stage++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++) {
            const dsc_static_bytes b = dsc_plan_static_bytes(plan, stage, space);
            dsc_linear *line = &out->of[stages > 1 ? stage : DSC_STAGE_ONLY][space];

            *line = (dsc_linear){b.parameters + b.gradients + b.optimizer, 0};
        }
out:
    dsc_plan_destroy(plan);
    free(larger.nodes);
    return status;
}

static dsc_status find_states(dsc_search *search, states *out)
{
    enum { SHALLOW = 1, DEEP = 2 };
    dsc_status status = DSC_OK;
    states shallow, deep;

    memset(&shallow, 0, sizeof shallow);
    memset(&deep, 0, sizeof deep);
    DSC_TRY(add_states(search, SHALLOW, &shallow));
    DSC_TRY(add_states(search, DEEP, &deep));
    for (int kind = 0; kind < DSC_STAGE_KINDS; kind++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++) {
            const int64_t slope = deep.of[kind][space].base - shallow.of[kind][space].base;

            out->of[kind][space] = (dsc_linear){shallow.of[kind][space].base - SHALLOW * slope, slope};
        }
out:
    return status;
}

/* What candidates of one grid, micro-batch, recomputation and sequence parallelism have in common: passes by the
 * class of ZeRO, states by ZeRO and offload. */
typedef struct look {
    dsc_candidate c;
    int64_t machine[CLASSES], messages_ns;
    const dsc_stack *stack[CLASSES];
    dsc_plan outline[CLASSES];
    dsc_costs costs[CLASSES];
    dsc_costs whole[CLASSES];    /* where some layers are computed again: of those; costs: of the others */
    dsc_costs mixed[CLASSES];    /* of the schedule at hand */
    states states[ZEROS][OFFLOADS];
    bool has_states[ZEROS][OFFLOADS];
    bool fits;                   /* any of them, by its bound */
} look;

/* Whether ZeRO, offload and a schedule that splits go together does not depend on anything else but on replicas:
 * -1 unknown. */
typedef struct pairs { int8_t is_legal[ZEROS][OFFLOADS][2][2]; } pairs;

static int class_of(int zero) { return DSC_MAX(zero - 1, 0); }
static bool is_tried(bool is_given, int64_t given, int64_t value) { return !is_given || given == value; }

static bool is_class_tried(const dsc_search *search, int class_)
{
    return !search->given.zero || class_of(search->config.strategy.zero) == class_;
}

/* Passes without replicas: the shortest that they can be. Where tensor ranks are neighbours, for all grids. Of the
 * outline at hand, for all of the machines. */
static dsc_status find_passes(dsc_search *search, const int64_t *machines, int count, dsc_costs *out[])
{
    dsc_strategy *s = &search->outline.config.strategy;
    const dsc_plan kept = search->outline;
    const family_costs *family;
    dsc_status status = DSC_OK;

    s->dp = 1;
    if (search->outline.order[0] == DSC_AXIS_TP || s->tp == 1) {
        s->pp = DSC_MIN(kept.config.strategy.pp, 2);
        for (int i = 0; i < 4; i++) search->outline.order[i] = i;
    }
    for (int i = 0; i < count && status == DSC_OK; i++) {
        status = find_family(search, &machines[i], count - i, &family);
        if (status == DSC_OK) *out[i] = family->costs;
    }
    search->outline = kept;
    return status;
}

static bool is_mixed(const dsc_strategy *s) { return s->recompute == DSC_RECOMPUTE_FULL && s->recompute_layers > 0; }

/* Whether passes of both are the same program without replicas, but for the type of gradients. */
static bool are_alike(const dsc_plan *x, const dsc_plan *y)
{
    const dsc_strategy *a = &x->config.strategy, *b = &y->config.strategy;
    const bool is_full = a->recompute == DSC_RECOMPUTE_FULL;

    return a->recompute == b->recompute && is_mixed(a) == is_mixed(b) && a->checkpoints == b->checkpoints &&
           a->keeps_outputs == b->keeps_outputs && a->scatters_messages == b->scatters_messages &&
           a->widens_gradients == b->widens_gradients && a->bucket_elems == b->bucket_elems &&
           (!is_full || a->recomputes_outputs == b->recomputes_outputs);
}

/* Of all classes that are like this one and not done, by the program of the shortest gradients. */
static dsc_status find_class(dsc_search *search, look *l, int class_, bool is_done[CLASSES])
{
    dsc_costs *costs[CLASSES], *whole[CLASSES];
    int64_t machines[CLASSES];
    dsc_strategy *s = &search->outline.config.strategy;
    dsc_status status = DSC_OK;
    int count = 0, shortest = class_;

    for (int k = class_; k < CLASSES; k++) {
        if (is_done[k] || !is_class_tried(search, k) || !are_alike(&l->outline[class_], &l->outline[k])) continue;
        if (dsc_dtype_bytes(l->outline[k].gradient_type) < dsc_dtype_bytes(l->outline[shortest].gradient_type))
            shortest = k;
        is_done[k] = true;
        machines[count] = l->machine[k];
        costs[count] = &l->costs[k];
        whole[count++] = &l->whole[k];
    }
    search->outline = l->outline[shortest];
    if (is_mixed(s)) {
        s->recompute_layers = 0;
        DSC_TRY(find_passes(search, machines, count, whole));
        s->recompute = DSC_RECOMPUTE_NONE;
    }
    DSC_TRY(find_passes(search, machines, count, costs));
out:
    return status;
}

static dsc_status price_boundaries(dsc_search *search, look *l, int class_)
{
    const dsc_strategy *s = &search->outline.config.strategy;
    const int64_t rows = s->micro_batch * s->seq_len / (s->sequence_parallel ? s->tp : 1);

    return price_messages(search, &search->machines[l->machine[class_]],
                         rows * search->model->hidden * dsc_dtype_bytes(search->outline.type), &l->messages_ns);
}

/* ZeRO 2 is what ZeRO 3 is but for its software's checkpoints. */
static bool are_one_software(const dsc_search *search, const look *l)
{
    const dsc_config config = dsc_search_config(search, &l->c);

    return dsc_stack_find(search->stack, &config.strategy, search->cluster) == l->stack[2] &&
           l->stack[2]->checkpoints == DSC_CHECKPOINTS_AUTO;
}

static dsc_status begin_look(dsc_search *search, look *l)
{
    static const int8_t zeros[CLASSES] = {0, 2, 3};
    bool is_done[CLASSES] = {false};
    dsc_status status = DSC_OK;

    for (int k = CLASSES - 1; k >= 0; k--) {
        if (!is_class_tried(search, k)) continue;
        l->c.zero = zeros[k];
        if (k == 1 && is_class_tried(search, 2) && are_one_software(search, l)) {
            l->stack[1] = l->stack[2];
            l->machine[1] = l->machine[2];
            l->outline[1] = l->outline[2];
            continue;
        }
        DSC_TRY(look_at(search, &l->c, &l->stack[k]));
        DSC_TRY(find_machine(search, l->stack[k], &l->machine[k]));
        DSC_TRY(price_boundaries(search, l, k));
        search->outline.config.strategy.zero = 0; /* ZeRO and offload come later, and what goes with them */
        search->outline.config.strategy.late_gather = false;
        l->outline[k] = search->outline;
    }
    for (int k = 0; k < CLASSES; k++)
        if (is_class_tried(search, k) && !is_done[k]) DSC_TRY(find_class(search, l, k, is_done));
    search->outline = l->outline[search->given.zero ? class_of(search->config.strategy.zero) : 0];
out:
    return status;
}

static dsc_status states_of(dsc_search *search, look *l, int zero, int offload, const states **out)
{
    dsc_strategy *s = &search->outline.config.strategy;
    dsc_status status = DSC_OK;

    *out = &l->states[zero][offload];
    if (l->has_states[zero][offload]) return DSC_OK;
    s->zero = zero;
    s->offload = offload;
    status = find_states(search, &l->states[zero][offload]);
    l->has_states[zero][offload] = true;
    return status;
}

static bool is_legal_pair(dsc_search *search, pairs *known, const dsc_candidate *c, int zero, int offload)
{
    dsc_strategy *s = &search->outline.config.strategy;
    int8_t *is_legal = &known->is_legal[zero][offload][c->schedule == DSC_ZB_H1 && c->pp > 1][c->dp > 1];

    if (*is_legal < 0) {
        s->zero = zero;
        s->offload = offload;
        s->late_gather = search->config.strategy.late_gather;
        *is_legal = dsc_plan_check_legal(&search->outline) == DSC_OK;
        s->zero = 0;
        s->offload = DSC_OFFLOAD_NONE;
        s->late_gather = false;
    }
    return *is_legal > 0;
}

/* The costs of a class in the schedule at hand: how many layers are computed again may depend on the chunks. */
static dsc_costs *costs_of(const dsc_search *search, look *l, const dsc_candidate *c, int class_)
{
    dsc_strategy strategy = search->config.strategy;

    if (!is_mixed(&l->outline[class_].config.strategy)) return &l->costs[class_];
    strategy.pp = c->pp;
    strategy.virtual_stages = c->virtual_stages;
    strategy.recompute = c->recompute;
    dsc_stack_apply(l->stack[class_], search->model->layers, dsc_cluster_devices(search->cluster), &strategy);
    if (layers_again(&strategy, search->model->layers) == 0) return &l->whole[class_];
    dsc_costs_mix(&l->whole[class_], &l->costs[class_], strategy.recompute_layers, &l->mixed[class_]);
    return &l->mixed[class_];
}

static dsc_status bound(dsc_search *search, look *l, const dsc_candidate *c, dsc_costs *costs, int64_t step_ns,
                        const dsc_shape_of_step *shape)
{
    dsc_candidate found = *c;
    const states *states;
    dsc_status status = DSC_OK;

    DSC_TRY(states_of(search, l, c->zero, c->offload, &states));
    for (int kind = 0; kind < DSC_STAGE_KINDS; kind++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++)
            costs->of[kind][DSC_Q_STATIC + space] = states->of[kind][space];
    found.step_ns = step_ns;
    set_bytes(search, &found, costs, shape);
    l->fits |= found.fits;
    search->counts.fitting += found.fits;
    status = DSC_PUSH(search->candidates, search->candidate_count, search->candidate_capacity, found);
out:
    return status;
}

/* ZeRO and offload of one schedule. */
static dsc_status look_at_states(dsc_search *search, look *l, pairs *known, dsc_candidate c)
{
    const dsc_strategy *given = &search->config.strategy;
    const int any = search->given.zero ? class_of(given->zero) : 0;
    const dsc_shape_of_step shape = shape_of(search, &c, &search->machines[l->machine[any]], l->messages_ns);
    dsc_costs *costs[CLASSES];
    int64_t step_ns[CLASSES];
    dsc_status status = DSC_OK;

    for (int k = 0; k < CLASSES; k++) {
        if (!is_class_tried(search, k)) continue;
        costs[k] = costs_of(search, l, &c, k);
        step_ns[k] = dsc_score_bound(costs[k], &shape);
    }
    for (int zero = 0; zero < ZEROS; zero++)
        for (int offload = 0; offload < OFFLOADS; offload++) {
            if (!is_tried(search->given.zero, given->zero, zero) ||
                !is_tried(search->given.offload, given->offload, offload) ||
                (c.dp == 1 && zero > 0 && !search->given.zero))
                continue;
            search->counts.considered++;
            if (!is_legal_pair(search, known, &c, zero, offload)) continue;
            search->counts.legal++;
            c.zero = (int8_t)zero;
            c.offload = (int8_t)offload;
            DSC_TRY(bound(search, l, &c, costs[class_of(zero)], step_ns[class_of(zero)], &shape));
        }
out:
    return status;
}

static dsc_status look_at_schedule(dsc_search *search, look *l, pairs *known, int schedule, int64_t chunks)
{
    dsc_strategy *s = &search->outline.config.strategy;
    dsc_candidate c = l->c;

    c.schedule = (int8_t)schedule;
    c.virtual_stages = (int32_t)chunks;
    s->schedule = schedule;
    s->virtual_stages = chunks;
    s->zero = 0;
    s->offload = DSC_OFFLOAD_NONE;
    s->sequence_parallel = c.sequence_parallel;
    if (search->model->layers < c.pp * chunks - 1 || dsc_plan_check_legal(&search->outline) != DSC_OK) {
        search->counts.considered++;
        return DSC_OK;
    }
    return look_at_states(search, l, known, c);
}

static dsc_status look_at_schedules(dsc_search *search, look *l, pairs *known)
{
    static const int schedules[] = {DSC_GPIPE, DSC_1F1B, DSC_INTERLEAVED, DSC_ZB_H1};
    const dsc_strategy *given = &search->config.strategy;
    const int64_t most = DSC_MAX(search->model->layers / l->c.pp, 2);
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(schedules); i++) {
        const bool is_interleaved = schedules[i] == DSC_INTERLEAVED;

        if (search->given.schedule ? given->schedule != schedules[i] : l->c.pp == 1 && schedules[i] != DSC_1F1B)
            continue;
        for (int64_t v = is_interleaved ? 2 : 1; v <= (is_interleaved ? most : 1); v++)
            if (is_tried(search->given.virtual_stages, given->virtual_stages, v))
                DSC_TRY(look_at_schedule(search, l, known, schedules[i], v));
    }
out:
    return status;
}

/* *fits: whether some strategy of that micro-batch may. */
static dsc_status look_at_batch(dsc_search *search, look *l, pairs *known, bool *fits)
{
    const dsc_strategy *given = &search->config.strategy;
    dsc_status status;

    *fits = false;
    for (int recompute = DSC_RECOMPUTE_NONE; recompute <= DSC_RECOMPUTE_FULL; recompute++)
        for (int sequence = 0; sequence < 2; sequence++) {
            if (!is_tried(search->given.recompute, given->recompute, recompute) ||
                !is_tried(search->given.sequence_parallel, given->sequence_parallel, sequence) ||
                (sequence == 1 && l->c.tp == 1 && !search->given.sequence_parallel))
                continue;
            l->c.recompute = (int8_t)recompute;
            l->c.sequence_parallel = sequence == 1;
            l->fits = false;
            if (l->c.micro_batch * search->outline.config.strategy.seq_len % l->c.tp != 0 && sequence == 1) {
                search->counts.considered++;
                continue;
            }
            status = begin_look(search, l);
            if (status == DSC_EINVAL || status == DSC_ENOTSUP) { /* larger than can be planned */
                search->counts.considered++;
                status = DSC_OK;
                continue;
            }
            if (status == DSC_OK) status = look_at_schedules(search, l, known);
            if (status != DSC_OK) return status;
            *fits |= l->fits;
        }
    return DSC_OK;
}

/* Micro-batches from the smallest: where none fits, larger ones do not either, but for one that is all of the batch,
 * whose gradients need no sum and take less. */
static dsc_status look_at_grid(dsc_search *search, look *l, pairs *known)
{
    const dsc_strategy *given = &search->config.strategy;
    const int64_t batch = given->global_batch / l->c.dp;
    dsc_status status = DSC_OK;
    bool fits = true;

    if (given->global_batch % l->c.dp != 0) {
        search->counts.considered++;
        DSC_FAIL(DSC_EINVAL, "global batch %" PRId64 " is no multiple of dp %d", given->global_batch, l->c.dp);
        return DSC_OK;
    }
    memset(l->has_states, 0, sizeof l->has_states);
    for (int64_t b = 1; b <= batch; b++) {
        if (batch % b != 0 || !is_tried(search->given.micro_batch, given->micro_batch, b)) continue;
        if (!fits && b < batch && !search->given.micro_batch) continue;
        l->c.micro_batch = (int32_t)b;
        l->c.micro_batches = (int32_t)(batch / b);
        if (b == batch) memset(l->has_states, 0, sizeof l->has_states); /* gradients of another type */
        DSC_TRY(look_at_batch(search, l, known, &fits));
    }
out:
    return status;
}

/* Whether the degrees leave a whole number of replicas; *dp. */
static bool find_replicas(const dsc_search *search, int64_t tp, int64_t pp, int64_t *dp)
{
    const int64_t devices = dsc_cluster_devices(search->cluster);
    const int64_t others = tp * pp * DSC_MAX(search->config.strategy.cp, 1);

    *dp = search->given.dp ? search->config.strategy.dp : devices / others;
    return search->given.dp ? others * *dp <= devices : devices % others == 0;
}

/* All grids of so many tensor ranks. */
static dsc_status look_at_degree(dsc_search *search, int64_t tp)
{
    const dsc_strategy *given = &search->config.strategy;
    const int64_t devices = dsc_cluster_devices(search->cluster), most_stages = search->model->layers + 1;
    look *l = calloc(1, sizeof *l);
    dsc_status status = DSC_OK;
    pairs known;
    int64_t dp;

    memset(&known, -1, sizeof known);
    if (l == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu bytes", sizeof *l);
    for (int64_t pp = 1; pp <= DSC_MIN(devices / tp, most_stages); pp++) {
        if (!is_tried(search->given.pp, given->pp, pp) || !find_replicas(search, tp, pp, &dp)) continue;
        l->c = (dsc_candidate){.tp = (int32_t)tp, .pp = (int32_t)pp, .dp = (int32_t)dp, .virtual_stages = 1,
                               .schedule = DSC_1F1B};
        DSC_TRY(look_at_grid(search, l, &known));
    }
out:
    free(l);
    return status;
}

/* ---- The first look, on several threads: one degree of tensor parallelism shares no family with another */

typedef struct degree {
    int64_t tp;
    dsc_candidate *candidates; int64_t count;
    dsc_search_counts counts;
    dsc_status status;
    char *message;               /* the thread's last; NULL where it had none */
} degree;

/* Degrees that threads take one after another, the largest first. */
typedef struct degrees { dsc_search *search; degree *all; int64_t count; atomic_int_fast64_t next; } degrees;

static void drop_families(dsc_search *search)
{
    free(search->families);
    search->families = NULL;
    search->family_slots = search->family_count = 0;
}

static void drop_machines(dsc_search *search)
{
    for (int64_t i = 0; i < search->machine_count; i++) {
        dsc_prices_destroy(search->machines[i].prices);
        dsc_transfers_destroy(search->machines[i].transfers);
    }
    free(search->machines);
}

static void take_degree(dsc_search *own, degree *d)
{
    own->candidates = NULL;
    own->candidate_count = own->candidate_capacity = 0;
    own->counts = (dsc_search_counts){0};
    d->status = look_at_degree(own, d->tp);
    if (d->status != DSC_OK || own->candidate_count < own->counts.considered) d->message = strdup(dsc_message());
    d->candidates = own->candidates;
    d->count = own->candidate_count;
    d->counts = own->counts;
    own->candidates = NULL;
    drop_families(own);
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
    if (own != NULL) drop_machines(own);
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
    for (int64_t tp = 1; tp <= most; tp++)
        if (is_tried(search->given.tp, search->config.strategy.tp, tp) &&
            (search->model->heads % tp == 0 || search->given.tp))
            out->all[out->count++].tp = tp;
    return DSC_OK;
}

static dsc_status look_at_all(dsc_search *search, int threads)
{
    degrees all = {.search = search};
    dsc_status status = DSC_OK;

    DSC_TRY(list_degrees(search, &all));
    run_degrees(&all, threads);
    DSC_TRY(gather(search, &all));
    if (search->counts.considered == 0)
        status = DSC_FAIL(DSC_EINVAL, "--search: with what is given no tp x pp x cp x dp is the cluster's %" PRId64
                          " devices; --dp leaves some idle", dsc_cluster_devices(search->cluster));
    else if (search->candidate_count == 0)
        status = dsc_fail_in(DSC_EINVAL, "--search: of %" PRId64 " strategies none is legal; the last",
                             search->counts.considered);
out:
    for (int64_t i = 0; i < all.count; i++) {
        free(all.all[i].candidates);
        free(all.all[i].message);
    }
    free(all.all);
    return status;
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
    DSC_TRY(look_at_all(search, threads));
    *out = search;
    search = NULL;
out:
    dsc_search_destroy(search);
    return status;
}

void dsc_search_destroy(dsc_search *search)
{
    if (search == NULL) return;
    drop_machines(search);
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
