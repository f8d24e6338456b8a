/* The whole-machine check: proves, before any device is touched, that the programs of all ranks fit together: each by
 * itself (check_rank.c); and between ranks, members of a group meet in the same collectives, in one order, and no wait
 * goes round in a circle. */
#include "program/build.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct lane_state { int32_t next[DSC_LANE_COUNT]; bool has_arrived[DSC_LANE_COUNT]; } lane_state;

typedef struct machine {
    const dsc_plan *plan;
    const dsc_program *const *programs;
    int64_t ranks;
    int segment;
    int64_t *owners;          /* [rank] the first rank that has this rank's program */
    dsc_unfolded *unfolded;   /* [rank]; filled for owners */
    lane_state *states;       /* [rank] */
    int64_t *arrivals;        /* [group] members that stand at a collective of it */
    int64_t *members;         /* [ranks] room */
} machine;

static const dsc_op *op_of(const machine *m, int64_t rank, dsc_instance instance, int64_t *number)
{
    const dsc_use *use = &m->programs[rank]->segments[m->segment].uses[instance.use];

    *number = use->base + instance.index;
    return &m->programs[rank]->templates[use->template_].ops[instance.index];
}

/* The op at the head of a lane whose needs are met; NULL when there is none. */
static const dsc_op *ready(const machine *m, int64_t rank, int lane, int64_t *number)
{
    const dsc_unfolded *unfolded = &m->unfolded[m->owners[rank]];
    const lane_state *state = &m->states[rank];
    const dsc_instance *instance;

    if (state->next[lane] >= unfolded->lane_counts[lane]) return NULL;
    instance = &unfolded->lanes[lane][state->next[lane]];
    for (int32_t i = 0; i < instance->needs; i++) {
        dsc_need need = unfolded->needs[instance->first_need + i];

        if (state->next[need.lane] < need.count) return NULL;
    }
    return op_of(m, rank, *instance, number);
}

/* All members stand at a collective: it has to be the same. Then all go on. */
static dsc_status meet(const machine *m, int64_t rank, const dsc_op *op, int64_t number)
{
    int64_t count = dsc_plan_group_ranks(m->plan, rank, op->axis, m->members), other_number = -1;

    for (int64_t i = 0; i < count; i++) {
        const dsc_op *other = ready(m, m->members[i], op->lane, &other_number);

        if (other != NULL && other->kind == op->kind && other->bytes == op->bytes && other->type == op->type &&
            other->axis == op->axis)
            continue;
        return DSC_FAIL(DSC_EINVAL,
                        "check: rank %" PRId64 ", op %" PRId64 " (%s of %" PRId64 " bytes) meets rank %" PRId64
                        ", op %" PRId64 " (%s of %" PRId64 " bytes) in their %s group",
                        rank, number, DSC_OP_NAMES[op->kind], op->bytes, m->members[i], other_number,
                        other != NULL ? DSC_OP_NAMES[other->kind] : "of another lane", other != NULL ? other->bytes : 0,
                        DSC_AXIS_NAMES[op->axis]);
    }
    for (int64_t i = 0; i < count; i++) {
        m->states[m->members[i]].next[op->lane]++;
        m->states[m->members[i]].has_arrived[op->lane] = false;
    }
    return DSC_OK;
}

/* Moves a lane on as far as it goes; whether it moved. */
static bool step_lane(const machine *m, int64_t rank, int lane, dsc_status *status)
{
    lane_state *state = &m->states[rank];
    bool has_moved = false;
    const dsc_op *op;
    int64_t number, group;

    while (*status == DSC_OK && !state->has_arrived[lane] && (op = ready(m, rank, lane, &number)) != NULL) {
        has_moved = true;
        if (op->axis < 0) {
            state->next[lane]++;
            continue;
        }
        group = dsc_plan_group(m->plan, rank, op->axis);
        state->has_arrived[lane] = true;
        if (++m->arrivals[group] < dsc_plan_degree(m->plan, op->axis)) break;
        m->arrivals[group] = 0;
        *status = meet(m, rank, op, number);
    }
    return has_moved;
}

static dsc_status check_all_over(const machine *m)
{
    for (int64_t rank = 0; rank < m->ranks; rank++) {
        const dsc_unfolded *unfolded = &m->unfolded[m->owners[rank]];

        for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
            int32_t next = m->states[rank].next[lane];
            int64_t number;

            if (next >= unfolded->lane_counts[lane]) continue;
            const dsc_op *op = op_of(m, rank, unfolded->lanes[lane][next], &number);
            return DSC_FAIL(DSC_EINVAL,
                            "check: rank %" PRId64 ", op %" PRId64 " (%s) in lane %s never starts: the waits go "
                            "round in a circle, or a partner has no such op",
                            rank, number, DSC_OP_NAMES[op->kind], DSC_LANE_NAMES[lane]);
        }
    }
    return DSC_OK;
}

static dsc_status run_segment(machine *m)
{
    dsc_status status = DSC_OK;
    bool has_moved = true;

    memset(m->states, 0, (size_t)m->ranks * sizeof *m->states);
    memset(m->arrivals, 0, (size_t)dsc_plan_group_count(m->plan) * sizeof *m->arrivals);
    for (int64_t rank = 0; rank < m->ranks; rank++)
        if (m->owners[rank] == rank) DSC_TRY(dsc_segment_unfold(m->programs[rank], m->segment, &m->unfolded[rank]));
    while (has_moved) {
        has_moved = false;
        for (int64_t rank = 0; rank < m->ranks; rank++)
            for (int lane = 0; lane < DSC_LANE_COUNT; lane++) has_moved |= step_lane(m, rank, lane, &status);
        DSC_TRY(status);
    }
    DSC_TRY(check_all_over(m));
out:
    for (int64_t rank = 0; rank < m->ranks; rank++) dsc_unfolded_fini(&m->unfolded[rank]);
    return status;
}

static dsc_status check_machine(const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks)
{
    machine m = {.plan = plan, .programs = programs, .ranks = ranks};
    dsc_status status = DSC_OK;

    m.owners = malloc((size_t)ranks * sizeof *m.owners);
    m.members = malloc((size_t)ranks * sizeof *m.members);
    m.unfolded = calloc((size_t)ranks, sizeof *m.unfolded);
    m.states = calloc((size_t)ranks, sizeof *m.states);
    m.arrivals = calloc((size_t)dsc_plan_group_count(plan) + 1, sizeof *m.arrivals);
    if (m.owners == NULL || m.members == NULL || m.unfolded == NULL || m.states == NULL || m.arrivals == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "check: %" PRId64 " ranks", ranks));
    for (int64_t rank = 0; rank < ranks; rank++) {
        int64_t representative = dsc_plan_representative(plan, rank);

        m.owners[rank] = programs[representative] == programs[rank] ? representative : rank;
    }
    for (m.segment = 0; m.segment < DSC_SEGMENT_COUNT; m.segment++) DSC_TRY(run_segment(&m));
out:
    free(m.owners);
    free(m.members);
    free(m.unfolded);
    free(m.states);
    free(m.arrivals);
    return status;
}

dsc_status dsc_program_check(const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks)
{
    dsc_status status = DSC_OK;

    for (int64_t rank = 0; rank < ranks; rank++) {
        int64_t representative = dsc_plan_representative(plan, rank);

        if (representative == rank || programs[representative] != programs[rank])
            DSC_TRY(dsc_check_rank(plan, programs[rank], rank));
    }
    DSC_TRY(check_machine(plan, programs, ranks));
out:
    return status;
}
