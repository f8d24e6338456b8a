#include "sim/engine.h"
#include "sim/price.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

void dsc_meeting_destroy(dsc_meeting *m)
{
    if (m == NULL) return;
    for (int algorithm = 0; algorithm < DSC_ALGORITHM_COUNT; algorithm++) dsc_expansion_fini(&m->expansions[algorithm]);
    dsc_load_fini(&m->work);
    free(m->members);
    free(m);
}

/* The simulated ranks that stand for the group's members. */
static dsc_status list_members(dsc_engine *e, dsc_meeting *m, const int64_t *group)
{
    bool *is_member = calloc((size_t)e->rank_count, sizeof *is_member);

    m->members = malloc((size_t)e->rank_count * sizeof *m->members);
    if (is_member == NULL || m->members == NULL) {
        free(is_member);
        return DSC_FAIL(DSC_ENOMEM, "simulation: group of %" PRId64 " ranks", m->size);
    }
    for (int64_t i = 0; i < m->size; i++) is_member[e->which_of[group[i]]] = true;
    for (int64_t which = 0; which < e->rank_count; which++)
        if (is_member[which]) m->members[m->member_count++] = &e->ranks[which];
    free(is_member);
    return DSC_OK;
}

static bool is_met_by(const dsc_engine *e, const dsc_meeting *m, int64_t number)
{
    for (int64_t i = 0; i < m->member_count; i++)
        if (m->members[i]->which == e->which_of[number]) return true;
    return false;
}

/* Whether the rank is the lowest of a group that the meeting stands for. */
static bool stands_for(const dsc_engine *e, const dsc_meeting *m, int64_t number)
{
    bool is_lowest = m->axis == DSC_AXIS_WORLD ? number == 0 : dsc_plan_coord(e->plan, number).of[m->axis] == 0;

    return is_lowest && is_met_by(e, m, number);
}

/* Expands the meeting's group, of which `lowest` is the first, and where replicas are folded the groups that it stands
 * for: they run at once. */
static dsc_status expand(dsc_engine *e, dsc_meeting *m, int64_t lowest, int64_t *group)
{
    dsc_status status = DSC_OK;

    for (int64_t other = 0; other < e->plan->ranks; other++) {
        if (other != lowest && !(e->folded && stands_for(e, m, other))) continue;
        dsc_plan_group_ranks(e->plan, other, m->axis, group);
        for (int algorithm = 0; algorithm < DSC_ALGORITHM_COUNT; algorithm++)
            DSC_TRY(dsc_expand(e->fabric, algorithm, group, m->size, &m->expansions[algorithm]));
        m->replicas++;
    }
out:
    return status;
}

/* Inside a node of CPUs a transfer is work for the members' cores. */
static dsc_status seal(dsc_engine *e, dsc_meeting *m)
{
    dsc_status status = DSC_OK;
    int64_t count = 0;
    int32_t *cores = malloc((size_t)m->member_count * sizeof *cores);

    if (cores == NULL) return DSC_FAIL(DSC_ENOMEM, "simulation: cores of %" PRId64 " ranks", m->member_count);
    for (int64_t i = 0; i < m->member_count && m->nodes == 1; i++)
        if (m->members[i]->core.resource >= 0) cores[count++] = m->members[i]->core.resource;
    for (int64_t i = 0; i < count; i++) DSC_TRY(dsc_load_add(e->fabric, &m->work, cores[i], 1));
    for (int algorithm = 0; algorithm < DSC_ALGORITHM_COUNT; algorithm++)
        DSC_TRY(dsc_expansion_seal(e->fabric, e->links, cores, count, &m->expansions[algorithm]));
out:
    free(cores);
    return status;
}

static int64_t count_nodes(const dsc_engine *e, const int64_t *group, int64_t count)
{
    int64_t nodes = 1;

    for (int64_t i = 1; i < count; i++)
        nodes += dsc_fabric_node(e->fabric, group[i]) != dsc_fabric_node(e->fabric, group[i - 1]);
    return nodes;
}

static dsc_status meeting_create(dsc_engine *e, const dsc_sim_rank *r, int axis, int lane, dsc_meeting **out)
{
    dsc_status status = DSC_OK;
    int64_t size = dsc_plan_degree(e->plan, axis), *group = malloc((size_t)size * sizeof *group);
    dsc_meeting *m = calloc(1, sizeof *m);

    if (m == NULL || group == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "simulation: group of %" PRId64 " ranks", size);
        goto out;
    }
    *m = (dsc_meeting){.axis = axis, .lane = lane, .size = size};
    dsc_plan_group_ranks(e->plan, r->number, axis, group);
    DSC_TRY(list_members(e, m, group));
    m->nodes = count_nodes(e, group, size);
    m->transfer = (dsc_activity){.type = DSC_TRANSFER, .owner = m, .flow = -1, .event.rank = m->members[0]->number};
    DSC_TRY(expand(e, m, group[0], group));
    DSC_TRY(seal(e, m));
    *out = m;
    m = NULL;
out:
    dsc_meeting_destroy(m);
    free(group);
    return status;
}

/* The meeting of a rank on an axis, made for all its members when the first of them comes. */
static dsc_status find_meeting(dsc_engine *e, dsc_sim_rank *r, int axis, int lane, dsc_meeting **out)
{
    dsc_status status = DSC_OK;
    dsc_meeting *m = r->meetings[axis][lane];

    if (m == NULL) {
        DSC_TRY(dsc_array_reserve(&e->meetings, &e->meeting_capacity, e->meeting_count + 1, sizeof *e->meetings));
        DSC_TRY(meeting_create(e, r, axis, lane, &m));
        e->meetings[e->meeting_count++] = m;
        for (int64_t i = 0; i < m->member_count; i++) m->members[i]->meetings[axis][lane] = m;
    }
    *out = m;
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
    int64_t ns;

    for (int64_t i = 0; i < m->member_count; i++)
        dsc_account_wire_begin(&m->members[i]->account, m->lane, m->axis, e->now_ns);
    e->wire_bytes += 2 * (m->size - 1) * m->bytes * m->replicas;
    m->phase = 0;
    m->chosen = NULL;
    if (dsc_collective_measured(calibration, "all_reduce", m->size, m->nodes, m->bytes, &ns)) {
        m->moving_since_ns = e->now_ns;
        return dsc_activity_flow(e, &m->transfer, (double)ns, &m->work, 1, 1);
    }
    m->chosen = dsc_expansion_fastest(m->expansions, m->bytes);
    return begin_phase(e, m);
}

static dsc_status end_transfer(dsc_engine *e, dsc_meeting *m)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < m->member_count; i++) dsc_account_wire_end(&m->members[i]->account, m->lane, e->now_ns);
    for (int64_t i = 0; i < m->member_count; i++) DSC_TRY(dsc_rank_finish(e, m->members[i], m->lane));
out:
    return status;
}

/* A latency or a flow of the transfer is over. A measured one took the links as a ring does, for the record. */
dsc_status dsc_meeting_go_on(dsc_engine *e, dsc_meeting *m)
{
    const dsc_expansion *expansion = m->chosen == NULL ? &m->expansions[DSC_BY_RING] : m->chosen;
    const dsc_phase *phase = &expansion->phases[m->phase];
    double bytes = phase->share * (double)m->bytes;
    dsc_status status = DSC_OK;

    if (m->chosen != NULL && !m->is_moving) {
        m->is_moving = true;
        m->moving_since_ns = e->now_ns;
        return dsc_activity_flow(e, &m->transfer, bytes, &phase->load, INFINITY, phase->weight);
    }
    DSC_TRY(dsc_record_flow(e->recorder, &phase->load, bytes, m->moving_since_ns, e->now_ns));
    m->phase++;
    if (m->chosen != NULL && m->phase < expansion->phase_count) DSC_TRY(begin_phase(e, m));
    else DSC_TRY(end_transfer(e, m));
out:
    return status;
}

dsc_status dsc_meeting_arrive(dsc_engine *e, dsc_sim_rank *r, int lane, const dsc_op *op)
{
    dsc_status status = DSC_OK;
    dsc_meeting *m;

    if (dsc_plan_degree(e->plan, op->axis) == 1) return dsc_activity_delay(e, &r->runs[lane], e->overhead_ns);
    DSC_TRY(find_meeting(e, r, op->axis, lane, &m));
    if (m->arrived > 0 && m->bytes != op->bytes)
        return DSC_FAIL(DSC_EINVAL, "rank %" PRId64 ": op %" PRId64 " (%s) brings %" PRId64 " bytes where others of "
                        "its %s group bring %" PRId64, r->number, r->runs[lane].event.op, DSC_OP_NAMES[op->kind],
                        op->bytes, DSC_AXIS_NAMES[m->axis], m->bytes);
    m->bytes = op->bytes;
    if (r == m->members[0]) m->transfer.event.op = r->runs[lane].event.op;
    if (++m->arrived < m->member_count) return DSC_OK;
    m->arrived = 0;
    DSC_TRY(begin_transfer(e, m));
out:
    return status;
}

