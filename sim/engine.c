/* The event engine. Each simulated rank steps through the lanes of its segments; what takes time is an event, and a
 * flow as well where it shares something: a transfer its links, a copy the way to the host's memory, a CPU rank's
 * kernels, copies and transfers the rank's cores.
 *
 *     instance at the head of its lane, needs met --> kernels:  run, over
 *                                                 \-> transfer: arrive; the last member to arrive starts it for all
 *
 * By default replicas are folded: only representatives are simulated, and arrive for those they stand for. */
#include "sim/engine.h"
#include "sim/price.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Activities */

/* 36 years: more than any step takes, and sums of two such times do not wrap. */
#define MOST_NS (INT64_C(1) << 60)

static dsc_status schedule(dsc_engine *e, dsc_activity *a, double ns)
{
    if ((double)e->now_ns + ns <= (double)MOST_NS)
        return dsc_agenda_put(&e->agenda, &a->event, e->now_ns + (int64_t)ns);
    return DSC_FAIL(DSC_EINVAL, "simulation: the step takes more than 2^60 ns: some rate of the cluster is too low");
}

/* Flows whose rate a start or an end has changed: until now they worked at the rate they had. */
static dsc_status follow_rates(dsc_engine *e)
{
    dsc_status status = DSC_OK;
    int64_t count;
    const int32_t *changed = dsc_links_changed(e->links, &count);

    for (int64_t i = 0; i < count; i++) {
        dsc_activity *a = e->by_flow[changed[i]];

        a->left = fmax(a->left - a->rate * (double)(e->now_ns - a->since_ns), 0);
        a->since_ns = e->now_ns;
        a->rate = dsc_links_rate(e->links, a->flow);
        DSC_TRY(schedule(e, a, ceil(a->left / a->rate)));
    }
out:
    return status;
}

dsc_status dsc_activity_flow(dsc_engine *e, dsc_activity *a, double work, const dsc_load *load, double bound,
                             double weight)
{
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_links_start(e->links, load->demands, load->count, bound, weight, &a->flow));
    DSC_TRY(dsc_array_reserve(&e->by_flow, &e->by_flow_capacity, a->flow + 1, sizeof *e->by_flow));
    e->by_flow[a->flow] = a;
    a->left = work;
    a->rate = 0;
    a->since_ns = e->now_ns;
    DSC_TRY(follow_rates(e));
out:
    return status;
}

static dsc_status end_flow(dsc_engine *e, dsc_activity *a)
{
    if (a->flow < 0) return DSC_OK;
    dsc_links_end(e->links, a->flow);
    a->flow = -1;
    return follow_rates(e);
}

dsc_status dsc_activity_delay(dsc_engine *e, dsc_activity *a, int64_t ns)
{
    a->flow = -1;
    return schedule(e, a, (double)ns);
}

/* ---- Ops */

static const dsc_unfolded *segment_of(const dsc_sim_rank *r)
{
    return &r->script->segments[r->segment];
}

/* The instance at the head of a lane, its use and op; NULL past the last. */
typedef struct head { const dsc_instance *instance; const dsc_use *use; const dsc_op *op; } head;

static head head_of(const dsc_sim_rank *r, int lane)
{
    const dsc_program *program = r->script->program;
    const dsc_unfolded *segment = segment_of(r);
    head h = {0};

    if (r->over[lane] == segment->lane_counts[lane]) return h;
    h.instance = &segment->lanes[lane][r->over[lane]];
    h.use = &program->segments[r->segment].uses[h.instance->use];
    h.op = &program->templates[h.use->template_].ops[h.instance->index];
    return h;
}

/* The first need of an instance that is not met, or NULL. */
static const dsc_need *unmet_need(const dsc_sim_rank *r, const dsc_instance *instance)
{
    const dsc_need *needs = segment_of(r)->needs + instance->first_need;

    for (int32_t i = 0; i < instance->needs; i++)
        if (r->over[needs[i].lane] < needs[i].count) return &needs[i];
    return NULL;
}

static dsc_status record_extent(dsc_engine *e, dsc_sim_rank *r)
{
    dsc_status status = DSC_OK;

    if (r->extent == NULL) return DSC_OK;
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        int64_t bytes = dsc_extent_bytes(r->extent, space);

        if (bytes == r->extent_bytes[space]) continue;
        r->extent_bytes[space] = bytes;
        DSC_TRY(dsc_record_memory(e->recorder, r->which, space, e->now_ns, bytes));
    }
out:
    return status;
}

static bool is_copy(int lane) { return lane == DSC_LANE_COPY_IN || lane == DSC_LANE_COPY_OUT; }

/* A GPU's host launches kernels one after the other, as far ahead of the GPU as it gets; at the beginning of a use (a
 * micro-batch's pass) it has waited for what came before, and within it for the message that the pass is of, where what
 * is computed again comes first. What the GPU waits for the host is part of the op. */
static int64_t wait_for_host(const dsc_engine *e, dsc_sim_rank *r, const head *h, int64_t ns)
{
    if (h->instance->use != r->issued_use) r->issued_ns = e->now_ns;
    r->issued_use = h->instance->use;
    r->issued_ns += r->script->launches[h->use->template_][h->instance->index];
    return DSC_MAX(ns, r->issued_ns - e->now_ns);
}

/* On a GPU a copy waits for its latency, which loads nothing, and then takes of the ways to the host's memory what its
 * bytes need in the rest of its time: less than all, where it was measured to be slower than they are. */
static dsc_status begin_copy(dsc_engine *e, dsc_sim_rank *r, int lane)
{
    r->runs[lane].type = DSC_LATENCY;
    return dsc_activity_delay(e, &r->runs[lane], r->copy_latency_ns[lane == DSC_LANE_COPY_OUT]);
}

static dsc_status move_copy(dsc_engine *e, dsc_sim_rank *r, int lane)
{
    const int way = lane == DSC_LANE_COPY_OUT;
    const head h = head_of(r, lane);
    const int64_t ns = r->script->durations[h.use->template_][h.instance->index];
    const double moving_ns = (double)DSC_MAX(ns - r->copy_latency_ns[way], 1);
    const double work = fmin((double)DSC_MAX(h.op->bytes, 1) / r->copy_rate[way], moving_ns);

    r->runs[lane].type = DSC_RUN;
    return dsc_activity_flow(e, &r->runs[lane], work, &r->copies[way], work / moving_ns, 1);
}

/* On a CPU kernels of both spaces are work for the rank's cores, and a copy is for one thread of them. Beside a GPU the
 * host has cores of its own. */
static dsc_status run_here(dsc_engine *e, dsc_sim_rank *r, int lane, const head *h)
{
    dsc_activity *run = &r->runs[lane];
    int64_t ns = r->script->durations[h->use->template_][h->instance->index];
    bool is_cpu = r->core.resource >= 0;
    const dsc_load core = {.demands = is_copy(lane) ? &r->mover : &r->core, .count = 1};

    if (is_copy(lane) || lane == DSC_LANE_HOST) dsc_account_wire(&r->account, lane, DSC_WIRE_TO_HOST, e->now_ns);
    if (is_cpu && lane != DSC_LANE_LOAD) return dsc_activity_flow(e, run, (double)ns, &core, 1, 1);
    if (!is_cpu && is_copy(lane)) return begin_copy(e, r, lane);
    return dsc_activity_delay(e, run, lane == DSC_LANE_COMPUTE ? wait_for_host(e, r, h, ns) : ns);
}

/* On a GPU a copy leaves rows of its port. */
static dsc_status record_copy(dsc_engine *e, const dsc_sim_rank *r, int lane, const dsc_op *op)
{
    bool is_out = lane == DSC_LANE_COPY_OUT;

    if (!is_copy(lane) || r->copies[is_out].count == 0) return DSC_OK;
    return dsc_record_flow(e->recorder, &r->copies[is_out], (double)op->bytes / r->copy_rate[is_out],
                           r->start_ns[lane] + r->copy_latency_ns[is_out], e->now_ns);
}

/* Starts what stands at the head of the lane if it can; `cause` is the lane that has just moved. */
static dsc_status try_start(dsc_engine *e, dsc_sim_rank *r, int lane, int cause)
{
    const dsc_need *need;
    dsc_status status = DSC_OK;
    head h;

    if (r->busy[lane]) return DSC_OK;
    h = head_of(r, lane);
    r->waits_for[lane] = -1;
    if (h.op == NULL) return DSC_OK;
    need = unmet_need(r, h.instance);
    if (need != NULL) {
        r->waits_for[lane] = (int8_t)need->lane;
        return DSC_OK;
    }
    r->busy[lane] = true;
    r->start_ns[lane] = e->now_ns;
    r->runs[lane].event.op = h.use->base + h.instance->index;
    dsc_account_start(&r->account, lane, cause, e->now_ns);
    if (r->extent != NULL) dsc_extent_op_start(r->extent, r->segment, h.instance->use, h.instance->index);
    DSC_TRY(record_extent(e, r));
    DSC_TRY(dsc_op_is_communication(h.op->kind) ? dsc_meeting_arrive(e, r, lane, h.op) : run_here(e, r, lane, &h));
out:
    return status;
}

/* ---- Segments */

static dsc_status end_segment(dsc_engine *e, dsc_sim_rank *r, int last_lane)
{
    dsc_account_idle(&r->account, last_lane, e->now_ns);
    r->segment = dsc_segment_next(r->segment, &e->outcome);
    if (r->segment != DSC_SEGMENT_END) return dsc_activity_delay(e, &r->pause, e->overhead_ns);
    e->running--;
    return DSC_OK;
}

static dsc_status begin_segment(dsc_engine *e, dsc_sim_rank *r)
{
    const dsc_unfolded *segment = segment_of(r);
    dsc_status status = DSC_OK;

    dsc_account_idle(&r->account, DSC_CAUSE_HOST, e->now_ns);
    if (r->extent != NULL) dsc_extent_segment_start(r->extent);
    DSC_TRY(record_extent(e, r));
    r->left = 0;
    r->issued_use = -1;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
        r->over[lane] = 0;
        r->left += segment->lane_counts[lane];
    }
    if (r->left == 0) DSC_TRY(end_segment(e, r, DSC_CAUSE_HOST));
    else for (int lane = 0; lane < DSC_LANE_COUNT; lane++) DSC_TRY(try_start(e, r, lane, DSC_CAUSE_HOST));
out:
    return status;
}

dsc_status dsc_rank_finish(dsc_engine *e, dsc_sim_rank *r, int lane)
{
    head h = head_of(r, lane);
    dsc_status status = DSC_OK;

    if (r->extent != NULL) dsc_extent_op_end(r->extent, r->segment, h.instance->use, h.instance->index);
    DSC_TRY(record_extent(e, r));
    DSC_TRY(dsc_record_op(e->recorder, r->which, h.use, h.instance->index, h.op, r->start_ns[lane], e->now_ns));
    DSC_TRY(record_copy(e, r, lane, h.op));
    if (lane == DSC_LANE_COMPUTE) dsc_account_busy(&r->account, h.op->kind, r->start_ns[lane], e->now_ns);
    e->end_ns = e->now_ns;
    if (lane == DSC_LANE_PP_RECV && h.instance->use == r->issued_use)
        r->issued_ns = DSC_MAX(r->issued_ns, e->now_ns);
    r->busy[lane] = false;
    r->over[lane]++;
    if (--r->left == 0) return end_segment(e, r, lane);
    for (int other = 0; other < DSC_LANE_COUNT; other++)
        if (other == lane || r->waits_for[other] == lane) DSC_TRY(try_start(e, r, other, lane));
out:
    return status;
}

/* ---- A step */

static dsc_status handle(dsc_engine *e, dsc_activity *a)
{
    dsc_status status = DSC_OK;

    DSC_TRY(end_flow(e, a));
    switch (a->type) {
    case DSC_RUN: return dsc_rank_finish(e, a->owner, a->lane);
    case DSC_LATENCY: return move_copy(e, a->owner, a->lane);
    case DSC_TRANSFER: return dsc_meeting_go_on(e, a->owner);
    case DSC_PAUSE: return begin_segment(e, a->owner);
    }
out:
    return status;
}

/* Nothing is left to happen, yet a rank has not come through: the program has a cycle, or a member never comes. */
static dsc_status fail_stuck(const dsc_engine *e)
{
    const dsc_sim_rank *r = e->ranks;

    while (r->segment == DSC_SEGMENT_END) r++;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
        head h = head_of(r, lane);
        const dsc_need *need;

        if (h.op == NULL) continue;
        need = unmet_need(r, h.instance);
        if (need == NULL)
            return DSC_FAIL(DSC_EINVAL, "rank %" PRId64 ": op %" PRId64 " (%s) waits for partners for ever", r->number,
                            h.use->base + h.instance->index, DSC_OP_NAMES[h.op->kind]);
        return DSC_FAIL(DSC_EINVAL, "rank %" PRId64 ": op %" PRId64 " (%s) waits for ever: it needs %d ops of lane %s, "
                        "and only %" PRId64 " come to an end", r->number, h.use->base + h.instance->index,
                        DSC_OP_NAMES[h.op->kind], need->count, DSC_LANE_NAMES[need->lane], r->over[need->lane]);
    }
    return DSC_FAIL(DSC_EINTERNAL, "rank %" PRId64 " does not come to an end", r->number);
}

static dsc_status unfold_path(dsc_engine *e)
{
    dsc_status status = DSC_OK;
    int s = DSC_SEGMENT_END;

    while ((s = dsc_segment_next(s, &e->outcome)) != DSC_SEGMENT_END)
        for (int64_t i = 0; i < e->script_count; i++) {
            dsc_unfolded *segment = &e->scripts[i].segments[s];

            if (segment->lanes[0] == NULL) DSC_TRY(dsc_segment_unfold(e->scripts[i].program, s, segment));
        }
out:
    return status;
}

/* Every rank takes the path of the outcome once, all from now on. */
static dsc_status run_step(dsc_engine *e, int32_t step)
{
    dsc_status status = DSC_OK;
    int64_t start_ns = e->now_ns;
    char path[64];
    dsc_event *event;

    dsc_path_of(&e->outcome, path, sizeof path);
    DSC_TRY(unfold_path(e));
    dsc_record_step_begin(e->recorder, step);
    e->running = e->rank_count;
    e->wire_bytes = 0;
    for (int64_t i = 0; i < e->rank_count; i++) {
        e->ranks[i].segment = dsc_segment_next(DSC_SEGMENT_END, &e->outcome);
        dsc_account_begin(&e->ranks[i].account, start_ns);
    }
    for (int64_t i = 0; i < e->rank_count; i++) DSC_TRY(begin_segment(e, &e->ranks[i]));
    while ((event = dsc_agenda_take(&e->agenda)) != NULL) {
        e->now_ns = event->time_ns;
        DSC_TRY(handle(e, (dsc_activity *)event));
    }
    if (e->running > 0) DSC_TRY(fail_stuck(e));
    for (int64_t i = 0; i < e->rank_count; i++) dsc_account_end(&e->ranks[i].account, start_ns, e->end_ns);
    DSC_TRY(dsc_record_step_end(e->recorder, path, start_ns, e->end_ns, e->wire_bytes));
out:
    return status;
}

/* ---- Setting up */

static dsc_status price_script(dsc_engine *e, dsc_script *s)
{
    const dsc_program *program = s->program;

    s->durations = calloc((size_t)program->template_count + 1, sizeof *s->durations);
    s->launches = calloc((size_t)program->template_count + 1, sizeof *s->launches);
    if (s->durations == NULL || s->launches == NULL) goto no_memory;
    for (int64_t t = 0; t < program->template_count; t++) {
        const dsc_template *template_ = &program->templates[t];

        s->durations[t] = calloc((size_t)template_->op_count + 1, sizeof **s->durations);
        s->launches[t] = calloc((size_t)template_->op_count + 1, sizeof **s->launches);
        if (s->durations[t] == NULL || s->launches[t] == NULL) goto no_memory;
        for (int64_t i = 0; i < template_->op_count; i++) {
            s->durations[t][i] = dsc_price_op(e->prices, template_, &template_->ops[i]);
            s->launches[t][i] = dsc_price_op_launches(e->prices, template_, &template_->ops[i]);
        }
    }
    return DSC_OK;
no_memory:
    return DSC_FAIL(DSC_ENOMEM, "simulation: prices of %" PRId64 " templates", program->template_count);
}

/* The script of a program, made when its first rank comes; scripts has room for one of each rank. */
static dsc_status find_script(dsc_engine *e, const dsc_program *program, const dsc_script **out)
{
    dsc_status status = DSC_OK;
    int64_t i = 0;

    while (i < e->script_count && e->scripts[i].program != program) i++;
    if (i == e->script_count) {
        e->scripts[e->script_count++].program = program;
        DSC_TRY(price_script(e, &e->scripts[i]));
    }
    *out = &e->scripts[i];
out:
    return status;
}

static dsc_status init_rank(dsc_engine *e, int64_t number, const dsc_program *program, dsc_sim_rank *r)
{
    dsc_status status = DSC_OK;

    *r = (dsc_sim_rank){.number = number, .which = r - e->ranks, .segment = DSC_SEGMENT_END};
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        r->runs[lane] = (dsc_activity){.type = DSC_RUN, .owner = r, .lane = lane, .flow = -1, .event.rank = number};
    r->pause = (dsc_activity){.type = DSC_PAUSE, .owner = r, .flow = -1, .event = {.rank = number, .op = -1}};
    for (int space = 0; space < DSC_SPACE_COUNT; space++) r->extent_bytes[space] = -1; /* nothing recorded */
    DSC_TRY(dsc_fabric_core(e->fabric, number, &r->core.resource, &r->core.amount));
    r->mover = (dsc_demand){r->core.resource, 1};
    for (int way = 0; way < DSC_COUNT(r->copies); way++)
        r->copy_latency_ns[way] = dsc_price_copy_latency(e->prices, way == 1);
    DSC_TRY(find_script(e, program, &r->script));
out:
    return status;
}

/* Replicas may be folded where each sits on the same hardware as its representative, and has cores of its own. */
static bool can_fold(const dsc_engine *e)
{
    for (int64_t number = 0; number < e->plan->ranks; number++)
        if (!dsc_fabric_alike(e->fabric, number, dsc_plan_representative(e->plan, number)) ||
            dsc_fabric_is_crowded(e->fabric, number))
            return false;
    return true;
}

static dsc_status choose_ranks(dsc_engine *e, const dsc_program *const *programs, const dsc_sim_options *options)
{
    dsc_status status = DSC_OK;
    int64_t ranks = e->plan->ranks;
    bool wants_replicas = options->ranks == DSC_RANKS_ALL || options->list_count > 0;

    e->folded = (!wants_replicas || ranks > DSC_UNFOLDED_RANKS) && can_fold(e);
    e->which_of = malloc((size_t)ranks * sizeof *e->which_of);
    e->member_of = calloc((size_t)ranks, sizeof *e->member_of);
    e->ranks = calloc((size_t)ranks, sizeof *e->ranks);
    e->scripts = calloc((size_t)ranks, sizeof *e->scripts);
    if (e->which_of == NULL || e->member_of == NULL || e->ranks == NULL || e->scripts == NULL)
        return DSC_FAIL(DSC_ENOMEM, "simulation of %" PRId64 " ranks", ranks);
    for (int64_t number = 0; number < ranks; number++) {
        if (e->folded && dsc_plan_representative(e->plan, number) != number) continue;
        e->which_of[number] = e->rank_count;
        DSC_TRY(init_rank(e, number, programs[number], &e->ranks[e->rank_count++]));
    }
    for (int64_t number = 0; e->folded && number < ranks; number++)
        e->which_of[number] = e->which_of[dsc_plan_representative(e->plan, number)];
out:
    return status;
}

static bool has_copies(const dsc_program *program)
{
    for (int64_t t = 0; t < program->template_count; t++)
        for (int64_t i = 0; i < program->templates[t].op_count; i++)
            if (is_copy(program->templates[t].ops[i].lane)) return true;
    return false;
}

/* What a rank's copies put on the ways to the host's memory, together with those of its replicas on the same node that
 * it stands for, which copy at the same time. */
static dsc_status load_copies(dsc_engine *e)
{
    dsc_status status = DSC_OK;

    for (int64_t number = 0; number < e->plan->ranks; number++) {
        dsc_sim_rank *r = &e->ranks[e->which_of[number]];

        if (r->core.resource >= 0 || !has_copies(r->script->program) ||
            dsc_fabric_node(e->fabric, number) != dsc_fabric_node(e->fabric, r->number))
            continue;
        for (int way = 0; way < DSC_COUNT(r->copies); way++)
            DSC_TRY(dsc_fabric_copy(e->fabric, number, way == 1, &r->copies[way], &r->copy_rate[way]));
    }
    for (int64_t i = 0; i < e->rank_count; i++)
        for (int way = 0; way < DSC_COUNT(e->ranks[i].copies); way++)
            for (int64_t d = 0; d < e->ranks[i].copies[way].count; d++)
                e->ranks[i].copies[way].demands[d].amount *= e->ranks[i].copy_rate[way];
out:
    return status;
}

/* The recorder, and what it needs of ranks whose rows it writes. */
static dsc_status make_recorder(dsc_engine *e, const dsc_cluster *cluster, const dsc_program *const *programs,
                                const dsc_sim_options *options, dsc_trace *trace)
{
    int64_t *simulated = malloc((size_t)e->rank_count * sizeof *simulated);
    dsc_status status = DSC_OK;

    if (simulated == NULL) return DSC_FAIL(DSC_ENOMEM, "simulation of %" PRId64 " ranks", e->rank_count);
    for (int64_t i = 0; i < e->rank_count; i++) simulated[i] = e->ranks[i].number;
    DSC_TRY(dsc_recorder_create(e->plan, cluster, e->fabric, options, simulated, e->rank_count, e->folded, programs,
                                trace, &e->recorder));
    for (int64_t i = 0; i < e->rank_count; i++)
        if (dsc_recorder_wants(e->recorder, i))
            DSC_TRY(dsc_extent_create(e->ranks[i].script->program, &e->ranks[i].extent));
out:
    free(simulated);
    return status;
}

static void engine_fini(dsc_engine *e)
{
    for (int64_t i = 0; i < e->rank_count; i++) {
        dsc_extent_destroy(e->ranks[i].extent);
        for (int way = 0; way < DSC_COUNT(e->ranks[i].copies); way++) dsc_load_fini(&e->ranks[i].copies[way]);
    }
    for (int64_t i = 0; i < e->script_count; i++) {
        dsc_script *s = &e->scripts[i];

        for (int segment = 0; segment < DSC_SEGMENT_COUNT; segment++) dsc_unfolded_fini(&s->segments[segment]);
        for (int64_t t = 0; t < s->program->template_count; t++) {
            if (s->durations != NULL) free(s->durations[t]);
            if (s->launches != NULL) free(s->launches[t]);
        }
        free(s->durations);
        free(s->launches);
    }
    for (int64_t i = 0; i < e->meeting_count; i++) dsc_meeting_destroy(e->meetings[i]);
    free(e->meetings);
    free(e->by_flow);
    free(e->which_of);
    free(e->member_of);
    free(e->ranks);
    free(e->scripts);
    dsc_agenda_fini(&e->agenda);
    dsc_recorder_destroy(e->recorder);
    dsc_fabric_destroy(e->fabric);
    dsc_links_destroy(e->links);
}

static const dsc_timing *critical_timing(const dsc_engine *e)
{
    const dsc_sim_rank *critical = e->ranks;

    for (int64_t i = 1; i < e->rank_count; i++)
        if (e->ranks[i].account.busy_ns > critical->account.busy_ns) critical = &e->ranks[i];
    return &critical->account.spent;
}

enum { MOST_WAYS = 6, MOST_PATHS = 16 * (MOST_WAYS + 1) };

/* Whether one of the outcomes takes the same path. */
static bool is_listed(const dsc_outcome *outcomes, int32_t count, const dsc_outcome *outcome)
{
    char path[64], other[64];

    dsc_path_of(outcome, path, sizeof path);
    for (int32_t i = 0; i < count; i++) {
        dsc_path_of(&outcomes[i], other, sizeof other);
        if (strcmp(path, other) == 0) return true;
    }
    return false;
}

/* By what updates go, that of most steps first. Where momenta are compressed most steps do so; those before are exact.
 * Replicas that step by themselves meet the less often the longer a run is; only at first they share gradients, and the
 * sooner the less often those are exact. Of the first of all the reference makes nothing. */
static int32_t list_ways(const dsc_plan *plan, dsc_outcome out[MOST_WAYS])
{
    const bool steps_alone = plan->has_own_steps && plan->config.local_step_clipper > 1;
    const struct { bool is_there; dsc_outcome outcome; } rows[MOST_WAYS] = {
        {plan->compresses && !plan->has_own_steps, {.way = DSC_WAY_EXCHANGE}},
        {steps_alone, {.way = DSC_WAY_OWN}},
        {plan->has_own_steps, {.way = DSC_WAY_OWN, .sync = true}},
        {plan->has_own_steps, {.way = DSC_WAY_SHARE}},
        {true, {.way = DSC_WAY_EXACT}},
        {plan->has_own_steps, {.way = DSC_WAY_OWN, .sync = true, .anchor = true}}};
    int32_t count = 0;

    for (int i = 0; i < MOST_WAYS; i++)
        if (rows[i].is_there) out[count++] = rows[i].outcome;
    return count;
}

/* Adds one outcome of each path that updates of a way take: without and with an overflow (fp16), then the same with
 * evaluation, where the run evaluates. Where updates are delayed most steps make the one before's and leave their own;
 * some find none, and those that others look behind (saved, evaluated) make theirs at once. Nobody evaluates weights of
 * replicas that have not met; where their first own step overflows they have not parted. */
static int32_t add_paths(const dsc_plan *plan, bool evaluates, dsc_outcome way, dsc_outcome out[MOST_PATHS],
                         int32_t count)
{
    const bool has_overflow = plan->config.strategy.precision == DSC_FP16;
    const bool delays = plan->config.strategy.delay_update > 0;

    for (int i = 0; i < 16; i++) {
        dsc_outcome outcome = way;

        outcome.overflow = (i & 1) != 0;
        outcome.pending = delays && (i & 2) == 0;
        outcome.defer = delays && (i & 4) == 0;
        outcome.evaluate = (i & 8) != 0;
        outcome.sync = way.sync && !(outcome.overflow && way.anchor);
        if ((outcome.overflow && !has_overflow) || (outcome.evaluate && (!evaluates || outcome.defer))) continue;
        if (outcome.evaluate && way.way == DSC_WAY_OWN && !outcome.sync && !outcome.overflow) continue;
        if (!is_listed(out, count, &outcome)) out[count++] = outcome;
    }
    return count;
}

/* One outcome of each path that a run takes, that taken most often first. */
static int32_t list_paths(const dsc_plan *plan, bool evaluates, dsc_outcome out[MOST_PATHS])
{
    dsc_outcome ways[MOST_WAYS];
    const int32_t way_count = list_ways(plan, ways);
    int32_t count = 0;

    for (int32_t i = 0; i < way_count; i++) count = add_paths(plan, evaluates, ways[i], out, count);
    if (dsc_freezer_discards(&plan->config, 0))
        count = add_paths(plan, evaluates, (dsc_outcome){.discard = true}, out, count);
    return count;
}

dsc_status dsc_simulate(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *const *programs,
                        dsc_prices *prices, const dsc_sim_options *options, dsc_timing *timing, int64_t *wire_bytes,
                        dsc_trace *trace)
{
    dsc_status status = DSC_OK;
    dsc_engine e = {.plan = plan, .prices = prices, .overhead_ns = dsc_price_op_overhead(prices)};
    dsc_outcome outcomes[MOST_PATHS];
    int32_t path_count = list_paths(plan, options->evaluates, outcomes);

    DSC_TRY(dsc_links_create(&e.links));
    DSC_TRY(dsc_fabric_create(cluster, dsc_prices_stack(prices), plan->ranks, e.links, &e.fabric));
    DSC_TRY(choose_ranks(&e, programs, options));
    DSC_TRY(load_copies(&e));
    DSC_TRY(make_recorder(&e, cluster, programs, options, trace));
    DSC_TRY(dsc_meetings_create(&e));
    e.outcome = outcomes[0];
    DSC_TRY(run_step(&e, 1));
    *timing = *critical_timing(&e);
    *wire_bytes = e.wire_bytes;
    for (int32_t step = 1; step < path_count; step++) {
        e.outcome = outcomes[step];
        DSC_TRY(run_step(&e, step + 1));
    }
out:
    engine_fini(&e);
    return status;
}
