#include "sim/engine.h"
#include "sim/price.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void dsc_meeting_destroy(dsc_meeting *m)
{
    if (m == NULL) return;
    for (int motion = 0; motion < DSC_MOTION_COUNT; motion++) {
        for (int algorithm = 0; m->expansions[motion] != NULL && algorithm < DSC_ALGORITHM_COUNT; algorithm++)
            dsc_expansion_fini(&m->expansions[motion][algorithm]);
        free(m->expansions[motion]);
    }
    dsc_load_fini(&m->work);
    free(m->members);
    free(m);
}

static bool is_message(const dsc_meeting *m) { return m->axis == DSC_AXIS_PP; }

/* Where the member's op stands. */
static int lane_of(const dsc_meeting *m, const dsc_sim_rank *member)
{
    if (is_message(m)) return member == m->members[0] ? DSC_LANE_PP_SEND : DSC_LANE_PP_RECV;
    return dsc_op_lane(m->op->kind, m->axis, DSC_SPACE_DEVICE);
}

static dsc_motion motion_of(const dsc_op *op)
{
    switch (op->kind) {
    case DSC_OP_REDUCE_SCATTER: return DSC_MOVE_REDUCE_SCATTER;
    case DSC_OP_ALL_GATHER: return DSC_MOVE_ALL_GATHER;
    case DSC_OP_ALL_TO_ALL: return DSC_MOVE_ALL_TO_ALL;
    case DSC_OP_SEND:
    case DSC_OP_RECV: return DSC_MOVE_MESSAGE;
    default: return DSC_MOVE_ALL_REDUCE;
    }
}

/* Bytes that all members send together, over the payload (doc/comm.md: wire_bytes). */
static int64_t sends_of(dsc_motion motion, int64_t size)
{
    return motion == DSC_MOVE_MESSAGE ? 1 : motion == DSC_MOVE_ALL_REDUCE ? 2 * (size - 1) : size - 1;
}

/* ---- Who meets */

/* The rank in the place `stage` of its pipeline. */
static int64_t rank_on_stage(const dsc_engine *e, int64_t rank, int64_t stage)
{
    dsc_coord coord = dsc_plan_coord(e->plan, rank);

    coord.of[DSC_AXIS_PP] = stage;
    return dsc_plan_rank(e->plan, coord);
}

/* Ranks of the group, or sender and receiver; room for `size`. */
static void list_group(const dsc_engine *e, const dsc_meeting *m, int64_t first, int64_t receiver_stage, int64_t *out)
{
    if (is_message(m)) {
        out[0] = first;
        out[1] = rank_on_stage(e, first, receiver_stage);
    } else {
        dsc_plan_group_ranks(e->plan, first, m->axis, out);
    }
}

static int64_t stage_of(const dsc_engine *e, const dsc_sim_rank *r)
{
    return dsc_plan_coord(e->plan, r->number).of[DSC_AXIS_PP];
}

/* The simulated ranks that stand for the group's members, each once. */
static dsc_status list_members(dsc_engine *e, dsc_meeting *m, const int64_t *group)
{
    m->members = malloc((size_t)DSC_MIN(m->size, e->rank_count) * sizeof *m->members);
    if (m->members == NULL) return DSC_FAIL(DSC_ENOMEM, "simulation: group of %" PRId64 " ranks", m->size);
    for (int64_t i = 0; i < m->size; i++) {
        int64_t which = e->which_of[group[i]];

        if (e->member_of[which] == m) continue;
        e->member_of[which] = m;
        m->members[m->member_count++] = &e->ranks[which];
    }
    return DSC_OK;
}

static int64_t count_nodes(const dsc_engine *e, const int64_t *group, int64_t count)
{
    int64_t nodes = 1;

    for (int64_t i = 1; i < count; i++)
        nodes += dsc_fabric_node(e->fabric, group[i]) != dsc_fabric_node(e->fabric, group[i - 1]);
    return nodes;
}

/* ---- What a transfer puts on links and cores */

/* From the group of which `coord` is the first to the next that runs at the same time: on all axes but its own and the
 * pipeline. false after the last. */
static bool next_replica(const dsc_engine *e, const dsc_meeting *m, dsc_coord *coord)
{
    for (int axis = DSC_AXIS_TP; axis <= DSC_AXIS_DP && m->axis != DSC_AXIS_WORLD; axis++) {
        const bool is_intra = axis == DSC_AXIS_DP && m->axis == DSC_AXIS_INTRA;
        const bool is_inter = axis == DSC_AXIS_DP && m->axis == DSC_AXIS_INTER;

        if (axis == m->axis || (axis == DSC_AXIS_CP && m->axis == DSC_AXIS_DP)) continue;
        coord->of[axis] += is_intra ? e->plan->intra : 1;
        if (coord->of[axis] < (is_inter ? e->plan->intra : dsc_plan_coords(e->plan, axis))) return true;
        coord->of[axis] = 0;
    }
    return false;
}

/* A transfer is work for the members' cores inside a node of CPUs, and between nodes where ranks outnumber cores: who
 * moves it has to wait for one. Each resource once. Room for each member. */
static int64_t list_cores(const dsc_meeting *m, int32_t *out)
{
    bool is_work = m->nodes == 1 || (double)m->setting.at_work > m->setting.cores;
    int64_t count = 0;

    for (int64_t i = 0; i < m->member_count && is_work; i++) {
        int32_t resource = m->members[i]->core.resource;
        bool is_listed = resource < 0;

        for (int64_t k = 0; k < count && !is_listed; k++) is_listed = out[k] == resource;
        if (!is_listed) out[count++] = resource;
    }
    return count;
}

/* Expands the motion of the meeting's group, and where replicas are folded of those that it stands for: they run at
 * once. */
static dsc_status expand(dsc_engine *e, dsc_meeting *m, dsc_motion motion)
{
    dsc_status status = DSC_OK;
    dsc_coord coord = dsc_plan_coord(e->plan, m->first);
    int64_t receiver_stage = is_message(m) ? stage_of(e, m->members[1]) : 0, cores;
    int64_t *group = malloc((size_t)m->size * sizeof *group);
    int32_t *core = malloc((size_t)m->member_count * sizeof *core);
    dsc_expansion *expansions = calloc(DSC_ALGORITHM_COUNT, sizeof *expansions);

    m->expansions[motion] = expansions;
    if (group == NULL || core == NULL || expansions == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "simulation: group of %" PRId64 " ranks", m->size);
        goto out;
    }
    m->replicas = 0;
    do {
        list_group(e, m, dsc_plan_rank(e->plan, coord), receiver_stage, group);
        for (int algorithm = 0; algorithm < DSC_ALGORITHM_COUNT; algorithm++)
            DSC_TRY(dsc_expand(e->fabric, motion, algorithm, group, m->size, &expansions[algorithm]));
        m->replicas++;
    } while (e->folded && next_replica(e, m, &coord));
    dsc_expansions_hide(dsc_prices_stack(e->prices), m->axis, expansions);
    cores = list_cores(m, core);
    for (int algorithm = 0; algorithm < DSC_ALGORITHM_COUNT; algorithm++)
        DSC_TRY(dsc_expansion_seal(e->fabric, e->links, core, cores, &expansions[algorithm]));
out:
    free(group);
    free(core);
    return status;
}

static dsc_status load_cores(dsc_engine *e, dsc_meeting *m)
{
    dsc_status status = DSC_OK;
    int32_t *core = malloc((size_t)m->member_count * sizeof *core);
    int64_t cores = core == NULL ? 0 : list_cores(m, core);

    if (core == NULL) return DSC_FAIL(DSC_ENOMEM, "simulation: cores of %" PRId64 " ranks", m->member_count);
    for (int64_t i = 0; i < cores; i++) DSC_TRY(dsc_load_add(e->fabric, &m->work, core[i], 1));
out:
    free(core);
    return status;
}

/* ---- Which links decide: in a folded simulation many carry the same flows, those of ranks that are alike. One of each
 * kind is enough to find a flow's rate, so that a transfer of a thousand ranks costs no more than one of two. */

typedef struct mark { uint64_t kind; int32_t resource; } mark;

typedef struct marks { mark *of; int64_t count, capacity, loads; } marks;

typedef dsc_status phase_visit(dsc_engine *e, marks *marks, dsc_phase *phase);

static dsc_status visit_phases(dsc_engine *e, marks *marks, phase_visit *visit)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < e->meeting_count; i++)
        for (int motion = 0; motion < DSC_MOTION_COUNT; motion++)
            for (int algorithm = 0; algorithm < DSC_ALGORITHM_COUNT; algorithm++) {
                dsc_expansion *expansion = e->meetings[i]->expansions[motion];

                for (int p = 0; expansion != NULL && p < expansion[algorithm].phase_count; p++)
                    DSC_TRY(visit(e, marks, &expansion[algorithm].phases[p]));
            }
out:
    return status;
}

/* A link's kind is a hash of its capacity and of what each flow puts on it. What is no link (a core) has more users
 * than transfers, and is a kind of its own. */
static dsc_status mark_links(dsc_engine *e, marks *marks, dsc_phase *phase)
{
    const uint64_t prime = 0x100000001b3, seed = 0xcbf29ce484222325;
    dsc_status status = DSC_OK;

    marks->loads++;
    for (int64_t i = 0; i < phase->load.count; i++) {
        dsc_demand demand = phase->load.demands[i], whole = {demand.resource, 1};
        double capacity = dsc_links_alone(e->links, &whole, 1, INFINITY);
        uint64_t words[2], *kind;

        memcpy(&words[0], &capacity, sizeof words[0]);
        memcpy(&words[1], &demand.amount, sizeof words[1]);
        DSC_TRY(dsc_array_reserve(&marks->of, &marks->capacity, demand.resource + 1, sizeof *marks->of));
        for (; marks->count <= demand.resource; marks->count++)
            marks->of[marks->count] = (mark){0, (int32_t)marks->count};
        kind = &marks->of[demand.resource].kind;
        if (*kind == 0) *kind = (seed ^ words[0]) * prime;
        if (dsc_fabric_link_name(e->fabric, demand.resource) == NULL) *kind ^= (uint64_t)demand.resource;
        *kind = (*kind ^ (uint64_t)marks->loads) * prime;
        *kind = (*kind ^ words[1] ^ words[1] >> 32) * prime;
        *kind ^= *kind >> 29;
    }
out:
    return status;
}

static int by_kind(const void *a, const void *b)
{
    const mark *x = a, *y = b;

    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    return (x->resource > y->resource) - (x->resource < y->resource);
}

static int by_resource(const void *a, const void *b)
{
    const mark *x = a, *y = b;

    return (x->resource > y->resource) - (x->resource < y->resource);
}

static dsc_status bind(dsc_engine *e, marks *marks, dsc_phase *phase)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < phase->load.count; i++) {
        const dsc_demand *demand = &phase->load.demands[i];

        if (marks->of[demand->resource].kind != 0)
            DSC_TRY(dsc_load_add(e->fabric, &phase->binding, demand->resource, demand->amount));
    }
out:
    return status;
}

static dsc_status bind_links(dsc_engine *e)
{
    dsc_status status = DSC_OK;
    marks marks = {0};

    DSC_TRY(visit_phases(e, &marks, mark_links));
    if (marks.count > 0) {
        qsort(marks.of, (size_t)marks.count, sizeof *marks.of, by_kind);
        for (int64_t i = marks.count - 1; i > 0; i--)
            if (marks.of[i].kind == marks.of[i - 1].kind) marks.of[i].kind = 0; /* not the first of its kind */
        qsort(marks.of, (size_t)marks.count, sizeof *marks.of, by_resource);
    }
    DSC_TRY(visit_phases(e, &marks, bind));
out:
    free(marks.of);
    return status;
}

/* ---- Making the meetings */

static dsc_status meeting_create(dsc_engine *e, int64_t first, int axis, int64_t receiver_stage, dsc_meeting **out)
{
    dsc_status status = DSC_OK;
    int64_t size = axis == DSC_AXIS_PP ? 2 : dsc_plan_degree(e->plan, axis);
    int64_t *group = malloc((size_t)size * sizeof *group);
    dsc_meeting *m = calloc(1, sizeof *m);

    if (m == NULL || group == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "simulation: group of %" PRId64 " ranks", size);
        goto out;
    }
    *m = (dsc_meeting){.axis = axis, .size = size};
    list_group(e, m, first, receiver_stage, group);
    m->first = group[0];
    DSC_TRY(list_members(e, m, group));
    m->nodes = count_nodes(e, group, size);
    m->setting = (dsc_setting){.ranks = size, .nodes = m->nodes};
    dsc_fabric_neighbours(e->fabric, m->first, &m->setting.at_work, &m->setting.cores);
    m->transfer = (dsc_activity){.type = DSC_TRANSFER, .owner = m, .flow = -1, .event.rank = m->members[0]->number};
    DSC_TRY(load_cores(e, m));
    DSC_TRY(dsc_array_reserve(&e->meetings, &e->meeting_capacity, e->meeting_count + 1, sizeof *e->meetings));
    *out = e->meetings[e->meeting_count++] = m;
    m = NULL;
out:
    dsc_meeting_destroy(m);
    free(group);
    return status;
}

/* The meeting for a rank's op; NULL when there is none yet. */
static dsc_meeting *find_meeting(const dsc_engine *e, const dsc_sim_rank *r, const dsc_op *op)
{
    const dsc_sim_rank *partner;
    dsc_meeting *m;

    if (op->axis != DSC_AXIS_PP) return r->meetings[op->axis];
    partner = &e->ranks[e->which_of[rank_on_stage(e, r->number, op->peer)]];
    m = op->kind == DSC_OP_SEND ? r->messages : partner->messages;
    while (m != NULL && m->members[1] != (op->kind == DSC_OP_SEND ? partner : r)) m = m->next;
    return m;
}

static dsc_status add_meeting(dsc_engine *e, dsc_sim_rank *r, const dsc_op *op)
{
    dsc_status status = DSC_OK;
    dsc_meeting *m = find_meeting(e, r, op);
    dsc_motion motion = motion_of(op);

    if (m == NULL && op->axis == DSC_AXIS_PP) {
        int64_t stage = stage_of(e, r), partner = rank_on_stage(e, r->number, op->peer);
        bool sends = op->kind == DSC_OP_SEND;

        DSC_TRY(meeting_create(e, sends ? r->number : partner, op->axis, sends ? op->peer : stage, &m));
        m->next = m->members[0]->messages;
        m->members[0]->messages = m;
    } else if (m == NULL) {
        DSC_TRY(meeting_create(e, r->number, op->axis, 0, &m));
        for (int64_t i = 0; i < m->member_count; i++) m->members[i]->meetings[op->axis] = m;
    }
    if (m->expansions[motion] == NULL) DSC_TRY(expand(e, m, motion));
out:
    return status;
}

dsc_status dsc_meetings_create(dsc_engine *e)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < e->rank_count; i++) {
        const dsc_program *program = e->ranks[i].script->program;

        for (int64_t t = 0; t < program->template_count; t++)
            for (int64_t o = 0; o < program->templates[t].op_count; o++) {
                const dsc_op *op = &program->templates[t].ops[o];

                if (dsc_op_is_communication(op->kind) && dsc_plan_degree(e->plan, op->axis) > 1)
                    DSC_TRY(add_meeting(e, &e->ranks[i], op));
            }
    }
    DSC_TRY(bind_links(e));
out:
    return status;
}

/* ---- Transfers */

static dsc_status begin_phase(dsc_engine *e, dsc_meeting *m)
{
    m->is_moving = false;
    return dsc_activity_delay(e, &m->transfer, m->chosen->phases[m->phase].latency_ns);
}

static dsc_status begin_transfer(dsc_engine *e, dsc_meeting *m)
{
    const dsc_calibration *calibration = dsc_prices_calibration(e->prices);
    const dsc_expansion *expansions = m->expansions[m->motion];
    int64_t ns;

    for (int64_t i = 0; i < m->member_count; i++)
        dsc_account_wire(&m->members[i]->account, lane_of(m, m->members[i]), m->axis, e->now_ns);
    e->wire_bytes += sends_of(m->motion, m->size) * m->op->bytes * m->replicas;
    m->phase = 0;
    m->chosen = NULL;
    if (dsc_collective_measured(calibration, m->motion, &m->setting, m->op->bytes, &ns)) {
        m->moving_since_ns = e->now_ns;
        return dsc_activity_flow(e, &m->transfer, (double)ns, &m->work, 1, 1);
    }
    m->chosen = dsc_expansion_fastest(expansions, m->op->bytes);
    return begin_phase(e, m);
}

static dsc_status end_transfer(dsc_engine *e, dsc_meeting *m)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < m->member_count; i++)
        DSC_TRY(dsc_rank_finish(e, m->members[i], lane_of(m, m->members[i])));
out:
    return status;
}

/* A latency or a flow of the transfer is over. A measured one took the links as a ring does, for the record, which on a
 * large machine shows one of the links that are alike. */
dsc_status dsc_meeting_go_on(dsc_engine *e, dsc_meeting *m)
{
    const dsc_expansion *expansion = m->chosen == NULL ? &m->expansions[m->motion][DSC_BY_RING] : m->chosen;
    const dsc_phase *phase = &expansion->phases[m->phase];
    double bytes = phase->share * (double)m->op->bytes;
    dsc_status status = DSC_OK;

    if (m->chosen != NULL && !m->is_moving) {
        m->is_moving = true;
        m->moving_since_ns = e->now_ns;
        return dsc_activity_flow(e, &m->transfer, bytes, &phase->binding, INFINITY, phase->weight);
    }
    DSC_TRY(dsc_record_flow(e->recorder, e->plan->ranks > DSC_UNFOLDED_RANKS ? &phase->binding : &phase->load, bytes,
                            m->moving_since_ns, e->now_ns));
    m->phase++;
    if (m->chosen != NULL && m->phase < expansion->phase_count) DSC_TRY(begin_phase(e, m));
    else DSC_TRY(end_transfer(e, m));
out:
    return status;
}

/* That all members bring the same: a collective of one kind and size, a message of one channel. */
static dsc_status check_alike(const dsc_meeting *m, const dsc_sim_rank *r, int64_t number, const dsc_op *op)
{
    if (m->motion != motion_of(op) || m->op->channel != op->channel)
        return DSC_FAIL(DSC_EINVAL, "rank %" PRId64 ": op %" PRId64 " (%s, channel %d) meets op %" PRId64 " (%s, "
                        "channel %d) of its %s group", r->number, number, DSC_OP_NAMES[op->kind], op->channel,
                        m->number, DSC_OP_NAMES[m->op->kind], m->op->channel, DSC_AXIS_NAMES[m->axis]);
    if (m->op->bytes != op->bytes)
        return DSC_FAIL(DSC_EINVAL, "rank %" PRId64 ": op %" PRId64 " (%s) brings %" PRId64 " bytes where others of "
                        "its %s group bring %" PRId64, r->number, number, DSC_OP_NAMES[op->kind], op->bytes,
                        DSC_AXIS_NAMES[m->axis], m->op->bytes);
    return DSC_OK;
}

dsc_status dsc_meeting_arrive(dsc_engine *e, dsc_sim_rank *r, int lane, const dsc_op *op)
{
    dsc_status status = DSC_OK;
    dsc_meeting *m = find_meeting(e, r, op);
    int64_t number = r->runs[lane].event.op;

    if (m == NULL) return dsc_activity_delay(e, &r->runs[lane], e->overhead_ns);
    if (m->arrived > 0) {
        DSC_TRY(check_alike(m, r, number, op));
    } else {
        m->op = op;
        m->number = number;
        m->motion = motion_of(op);
    }
    if (r == m->members[0]) m->transfer.event.op = number;
    if (++m->arrived < m->member_count) return DSC_OK;
    m->arrived = 0;
    DSC_TRY(begin_transfer(e, m));
out:
    return status;
}
