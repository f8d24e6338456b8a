/* Machines and families: what has been built and priced is kept, since many strategies have it in common. */
#include "sim/search/parts.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

dsc_status search_find_machine(dsc_search *search, const dsc_stack *stack, int64_t *out)
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
int64_t search_layers_again(const dsc_strategy *s, int64_t layers)
{
    const int64_t longest = dsc_ceil_div(layers, s->pp * DSC_MAX(s->virtual_stages, 1));

    return s->recompute == DSC_RECOMPUTE_FULL && s->recompute_layers < longest ? s->recompute_layers : 0;
}

/* Of the outline at hand; those of a first look are for chunks of any length. */
static dsc_depths depths_of(const dsc_search *search)
{
    const dsc_strategy *s = &search->outline.config.strategy;
    const int64_t longest = dsc_ceil_div(search->model->layers, s->pp * DSC_MAX(s->virtual_stages, 1));

    return dsc_family_depths(search->model, &search->outline.config, search->is_first_look ? 0 : longest);
}

/* Of the outline at hand. */
static family_key key_of(const dsc_search *search, int64_t stack)
{
    const dsc_strategy *s = &search->outline.config.strategy;
    const bool is_split = s->schedule == DSC_ZB_H1 && s->pp > 1;
    const dsc_depths depths = depths_of(search);
    int64_t order = 0;

    for (int i = 0; i < 4; i++) order = 4 * order + search->outline.order[i];
    return (family_key){s->tp, s->pp, s->dp, s->micro_batch, s->bucket_elems, search->outline.gradient_type,
                        s->recompute, search_layers_again(s, search->model->layers), s->sequence_parallel, s->zero,
                        s->offload, is_split, search->outline.micro_batches > 1, depths.shallow, depths.deep, stack,
                        order};
}

/* Over all boundaries: those inside nodes and those between them are priced once each. */
dsc_status search_price_messages(dsc_search *search, const machine *m, int64_t bytes, int64_t *out)
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
                              depths_of(search), &family));
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
        memcpy(&costs->of[kind][DSC_Q_INPUTS], &split->of[kind][DSC_Q_INPUTS], 3 * sizeof(dsc_linear));
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

dsc_status search_find_family(dsc_search *search, const int64_t *machines, int count, const family_costs **out);

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

        DSC_TRY(search_find_family(search, &machines[i], count - i, &family));
        whole = family->costs;
        s->recompute = DSC_RECOMPUTE_NONE;
        status = search_find_family(search, &machines[i], count - i, &family);
        s->recompute = DSC_RECOMPUTE_FULL;
        if (status != DSC_OK) break;
        dsc_costs_mix(&whole, &family->costs, again, &out[i]);
    }
out:
    s->recompute_layers = layers;
    return status;
}

/* Of the outline at hand, which is the same for all `count` machines: the first one's. What is made is made for all. */
dsc_status search_find_family(dsc_search *search, const int64_t *machines, int count, const family_costs **out)
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

        DSC_TRY(search_price_messages(search, &search->machines[machines[i]],
                              costs[i].of[DSC_STAGE_FIRST][DSC_Q_MESSAGE].base, &made.messages_ns));
        DSC_TRY(store(search, &made));
    }
    *out = find_slot(search->families, search->family_slots, &key);
out:
    return status;
}

/* ---- Ends */

void search_drop_families(dsc_search *search)
{
    free(search->families);
    search->families = NULL;
    search->family_slots = search->family_count = 0;
}

void search_drop_machines(dsc_search *search)
{
    for (int64_t i = 0; i < search->machine_count; i++) {
        dsc_prices_destroy(search->machines[i].prices);
        dsc_transfers_destroy(search->machines[i].transfers);
    }
    free(search->machines);
}
