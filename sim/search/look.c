/* The first look at each candidate: bounds of its time and bytes, from passes without replicas and from what its plan
 * keeps. */
#include "sim/search/parts.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ZEROS = 4, OFFLOADS = 3 };

/* Static bytes of stages, by layers. */
typedef struct states { dsc_linear of[DSC_STAGE_KINDS][DSC_SPACE_COUNT]; } states;

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

/* Whether ZeRO, offload and a schedule go together depends on nothing else but on replicas: -1 unknown. Of a schedule
 * it matters whether it splits passes, and whether there are stages, for which software may keep gathered weights. */
enum { ONE_STAGE, WHOLE_PASSES, SPLIT_PASSES, PASSES };
typedef struct pairs { int8_t is_legal[ZEROS][OFFLOADS][PASSES][2]; } pairs;

static int class_of(int zero) { return DSC_MAX(zero - 1, 0); }
bool search_is_tried(bool is_given, int64_t given, int64_t value) { return !is_given || given == value; }

static bool is_class_tried(const dsc_search *search, int class_)
{
    return !search->given.zero || class_of(search->config.strategy.zero) == class_;
}

/* Passes without replicas: the shortest that they can be. Where tensor ranks are neighbours, for all grids; of one
 * bucket, since only what follows the passes tells how many there are. Of the outline at hand, for all of the
 * machines. */
static dsc_status find_passes(dsc_search *search, const int64_t *machines, int count, dsc_costs *out[])
{
    dsc_strategy *s = &search->outline.config.strategy;
    const dsc_plan kept = search->outline;
    const family_costs *family;
    dsc_status status = DSC_OK;

    s->dp = 1;
    s->bucket_elems = DSC_ONE_BUCKET_ELEMS;
    if (search->outline.order[0] == DSC_AXIS_TP || s->tp == 1) {
        s->pp = DSC_MIN(kept.config.strategy.pp, 2);
        for (int i = 0; i < 4; i++) search->outline.order[i] = i;
    }
    for (int i = 0; i < count && status == DSC_OK; i++) {
        status = search_find_family(search, &machines[i], count - i, &family);
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
           a->widens_logits == b->widens_logits && a->widens_gradients == b->widens_gradients &&
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

    return search_price_messages(search, &search->machines[l->machine[class_]],
                         rows * search->model->hidden * dsc_dtype_bytes(search->outline.type), &l->messages_ns);
}

/* ZeRO 2 is what ZeRO 3 is but for its software's checkpoints, and for weights that stay gathered. */
static bool are_one_software(const dsc_search *search, const look *l)
{
    const dsc_config config = dsc_search_config(search, &l->c);

    return dsc_stack_find(search->stack, &config.strategy, search->cluster) == l->stack[2] &&
           l->stack[2]->checkpoints == DSC_CHECKPOINTS_AUTO && !(l->stack[2]->keeps_gathered && l->c.pp > 1);
}

/* ZeRO and offload of the outline at hand, and what of the configuration goes with them. */
static void set_states(dsc_search *search, int zero, int offload)
{
    const dsc_strategy *given = &search->config.strategy;
    dsc_strategy *s = &search->outline.config.strategy;

    s->zero = zero;
    s->offload = offload;
    s->offload_ratio = given->offload_ratio;
    s->delay_update = given->delay_update;
}

/* None, which goes with everything. */
static void clear_states(dsc_search *search)
{
    dsc_strategy *s = &search->outline.config.strategy;

    s->zero = 0;
    s->offload = DSC_OFFLOAD_NONE;
    s->late_gather = false;
    s->offload_ratio = 1;
    s->delay_update = 0;
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
        DSC_TRY(search_look_at(search, &l->c, &l->stack[k]));
        DSC_TRY(search_find_machine(search, l->stack[k], &l->machine[k]));
        DSC_TRY(price_boundaries(search, l, k));
        clear_states(search); /* they come later */
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
    dsc_status status = DSC_OK;

    *out = &l->states[zero][offload];
    if (l->has_states[zero][offload]) return DSC_OK;
    set_states(search, zero, offload);
    status = find_states(search, &l->states[zero][offload]);
    l->has_states[zero][offload] = true;
    return status;
}

/* Of what the class's software makes of them. */
static bool is_legal_pair(dsc_search *search, const look *l, pairs *known, const dsc_candidate *c, int zero,
                          int offload)
{
    const int passes = c->pp == 1 ? ONE_STAGE : c->schedule == DSC_ZB_H1 ? SPLIT_PASSES : WHOLE_PASSES;
    int8_t *is_legal = &known->is_legal[zero][offload][passes][c->dp > 1];
    const dsc_strategy kept = search->outline.config.strategy;

    if (*is_legal < 0) {
        set_states(search, zero, offload);
        search->outline.config.strategy.late_gather = search->config.strategy.late_gather;
        dsc_stack_apply(l->stack[class_of(zero)], search->model->layers, dsc_cluster_devices(search->cluster),
                        &search->outline.config.strategy);
        *is_legal = dsc_plan_check_legal(&search->outline) == DSC_OK;
        search->outline.config.strategy = kept;
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
    if (search_layers_again(&strategy, search->model->layers) == 0) return &l->whole[class_];
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
    search_set_bytes(search, &found, costs, shape);
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
    const dsc_shape_of_step shape = search_shape_of(search, &c, &search->machines[l->machine[any]], l->messages_ns);
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
            if (!search_is_tried(search->given.zero, given->zero, zero) ||
                !search_is_tried(search->given.offload, given->offload, offload) ||
                (c.dp == 1 && zero > 0 && !search->given.zero))
                continue;
            search->counts.considered++;
            if (!is_legal_pair(search, l, known, &c, zero, offload)) continue;
            search->counts.legal++;
            c.zero = (int8_t)zero;
            c.offload = (int8_t)offload;
            DSC_TRY(bound(search, l, &c, costs[class_of(zero)], step_ns[class_of(zero)], &shape));
        }
out:
    return status;
}

/* It is counted; the thread's message says why, should no strategy be legal. */
static dsc_status pass_over(dsc_search *search, dsc_status why)
{
    search->counts.considered++;
    return why == DSC_EINVAL || why == DSC_ENOTSUP ? DSC_OK : why;
}

static dsc_status look_at_schedule(dsc_search *search, look *l, pairs *known, int schedule, int64_t chunks)
{
    dsc_strategy *s = &search->outline.config.strategy;
    dsc_candidate c = l->c;

    c.schedule = (int8_t)schedule;
    c.virtual_stages = (int32_t)chunks;
    clear_states(search);
    s->schedule = schedule;
    s->virtual_stages = chunks;
    s->sequence_parallel = c.sequence_parallel;
    if (search->model->layers < c.pp * chunks - 1)
        return pass_over(search, DSC_FAIL(DSC_EINVAL, "--pp %d x --virtual-stages %" PRId64 " are more chunks than %"
                                          PRId64 " layers, an embedding and a head can fill", c.pp, chunks,
                                          search->model->layers));
    if (dsc_plan_check_legal(&search->outline) != DSC_OK) return pass_over(search, DSC_EINVAL);
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
        const int64_t few = is_interleaved ? 2 : 1, many = is_interleaved ? most : 1;

        if (search->given.schedule ? given->schedule != schedules[i] : l->c.pp == 1 && schedules[i] != DSC_1F1B)
            continue;
        for (int64_t v = search->given.virtual_stages ? given->virtual_stages : few;
             v <= (search->given.virtual_stages ? given->virtual_stages : many); v++)
            DSC_TRY(look_at_schedule(search, l, known, schedules[i], v));
    }
out:
    return status;
}

/* Rows that tensor ranks share are cut in equal parts. */
static dsc_status check_rows(const dsc_search *search, const dsc_candidate *c)
{
    const int64_t seq_len = search->config.strategy.seq_len, seq = seq_len > 0 ? seq_len : search->model->seq;
    const int64_t tokens = seq / DSC_MAX(search->config.strategy.cp, 1);

    if (!c->sequence_parallel || c->micro_batch * tokens % c->tp == 0) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "--sequence-parallel: tp %d does not divide a micro-batch's %d x %" PRId64 " tokens",
                    c->tp, c->micro_batch, tokens);
}

/* *fits: whether some strategy of that micro-batch may. */
static dsc_status look_at_batch(dsc_search *search, look *l, pairs *known, bool *fits)
{
    const dsc_strategy *given = &search->config.strategy;
    dsc_status status;

    *fits = false;
    for (int recompute = DSC_RECOMPUTE_NONE; recompute <= DSC_RECOMPUTE_FULL; recompute++)
        for (int sequence = 0; sequence < 2; sequence++) {
            if (!search_is_tried(search->given.recompute, given->recompute, recompute) ||
                !search_is_tried(search->given.sequence_parallel, given->sequence_parallel, sequence) ||
                (sequence == 1 && l->c.tp == 1 && !search->given.sequence_parallel))
                continue;
            l->c.recompute = (int8_t)recompute;
            l->c.sequence_parallel = sequence == 1;
            status = check_rows(search, &l->c);
            if (status == DSC_OK) status = begin_look(search, l);
            l->fits = status != DSC_OK; /* of what cannot be planned nobody knows */
            if (status == DSC_OK) status = look_at_schedules(search, l, known);
            else status = pass_over(search, status);
            if (status != DSC_OK) return status;
            *fits |= l->fits;
        }
    return DSC_OK;
}

/* The smallest divisor of n above d; past n where there is none. Those above the root are n over those below. */
static int64_t next_divisor(int64_t n, int64_t d)
{
    for (d++; d <= n / d; d++)
        if (n % d == 0) return d;
    for (int64_t other = n / d; other > 0; other--)
        if (n % other == 0) return n / other;
    return n + 1;
}

/* Micro-batches from the smallest: where none fits, larger ones do not either, but for one that is all of the batch,
 * whose gradients need no sum and take less. */
static dsc_status look_at_grid(dsc_search *search, look *l, pairs *known)
{
    const dsc_strategy *given = &search->config.strategy;
    const int64_t batch = given->global_batch / l->c.dp;
    dsc_status status = DSC_OK;
    bool fits = true;

    if (given->global_batch % l->c.dp != 0)
        return pass_over(search, DSC_FAIL(DSC_EINVAL, "global batch %" PRId64 " is no multiple of dp %d",
                                          given->global_batch, l->c.dp));
    if (search->given.micro_batch && batch % given->micro_batch != 0)
        return pass_over(search, DSC_FAIL(DSC_EINVAL, "global batch %" PRId64 " is no multiple of micro-batch %" PRId64
                                          " x dp %d = %" PRId64, given->global_batch, given->micro_batch, l->c.dp,
                                          given->micro_batch * l->c.dp));
    memset(l->has_states, 0, sizeof l->has_states);
    for (int64_t b = search->given.micro_batch ? given->micro_batch : 1; b <= batch; b = next_divisor(batch, b)) {
        if (search->given.micro_batch && b != given->micro_batch) break;
        if (!fits && b < batch) continue;
        if (b > INT32_MAX || batch / b > INT32_MAX) {
            DSC_TRY(pass_over(search, DSC_FAIL(DSC_EINVAL, "%" PRId64 " micro-batches of %" PRId64 ", at most %d of %d "
                                               "can be searched", batch / b, b, INT32_MAX, INT32_MAX)));
            continue;
        }
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
dsc_status search_look_at_degree(dsc_search *search, int64_t tp)
{
    const dsc_strategy *given = &search->config.strategy;
    const int64_t most_stages = DSC_MIN(dsc_cluster_devices(search->cluster) / tp, search->model->layers + 1);
    look *l = calloc(1, sizeof *l);
    dsc_status status = DSC_OK;
    pairs known;
    int64_t dp;

    memset(&known, -1, sizeof known);
    if (l == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu bytes", sizeof *l);
    for (int64_t pp = search->given.pp ? given->pp : 1; pp <= (search->given.pp ? given->pp : most_stages); pp++) {
        if (!find_replicas(search, tp, pp, &dp)) continue;
        l->c = (dsc_candidate){.tp = (int32_t)tp, .pp = (int32_t)pp, .dp = (int32_t)dp, .virtual_stages = 1,
                               .schedule = DSC_1F1B};
        DSC_TRY(look_at_grid(search, l, &known));
    }
out:
    free(l);
    return status;
}
