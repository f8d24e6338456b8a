/* The whole-machine check: proves, before any device is touched, that the programs of all ranks fit together: each by
 * itself (check_rank.c); and between ranks, members of a group meet in the same collectives in one order, every send
 * meets its receive, and no wait goes round in a circle.
 *
 * All ranks step through their lanes at once, as if no op took time. A message is handed over: a send ends when its
 * receive has started, so that what passes here needs no buffer in any library. Which lane is stepped first does not
 * matter: each has one next op, and what it waits for only ever grows. */
#include "program/build.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* How far a lane is. What stands is a communication whose needs are met, and that waits for its partners. */
typedef struct lane_state {
    int32_t next;            /* ops that are over */
    int32_t until;           /* where it waits for a lane of its own rank: for so many ops there */
    int8_t waits_for;        /* -1: for none */
    bool stands, is_queued;
} lane_state;

typedef struct place { int64_t rank; int lane; } place;

typedef struct machine {
    const dsc_plan *plan;
    const dsc_program *const *programs;
    int64_t ranks;
    bool is_folded;           /* representatives stand for all */
    int segment;
    int64_t *owners;          /* [rank] the first rank that has this rank's program */
    dsc_unfolded *unfolded;   /* [rank]; filled for owners */
    lane_state (*states)[DSC_LANE_COUNT]; /* [rank] */
    int32_t (*groups)[DSC_AXIS_COUNT];    /* [rank] */
    int64_t *sizes, *arrivals; /* [group] members that are stepped; how many stand at a collective of it */
    int64_t *members;         /* [ranks] room */
    place *queue; int64_t queued; /* lanes that may have become able to move */
} machine;

/* In a folded machine the others do at every moment what their representative does: all members of a tensor or data
 * group have one program, and messages stay between ranks that differ in their stage only. */
static bool is_stepped(const machine *m, int64_t rank)
{
    return !m->is_folded || dsc_plan_representative(m->plan, rank) == rank;
}

static lane_state *state_of(const machine *m, place p) { return &m->states[p.rank][p.lane]; }

static bool is_over(const machine *m, place p)
{
    return state_of(m, p)->next >= m->unfolded[m->owners[p.rank]].lane_counts[p.lane];
}

static const dsc_instance *head(const machine *m, place p)
{
    return &m->unfolded[m->owners[p.rank]].lanes[p.lane][state_of(m, p)->next];
}

static const dsc_use *use_of(const machine *m, place p)
{
    return &m->programs[p.rank]->segments[m->segment].uses[head(m, p)->use];
}

static const dsc_op *op_of(const machine *m, place p)
{
    return &m->programs[p.rank]->templates[use_of(m, p)->template_].ops[head(m, p)->index];
}

static int64_t number_of(const machine *m, place p) { return use_of(m, p)->base + head(m, p)->index; }

static bool is_message(const dsc_op *op) { return op->kind == DSC_OP_SEND || op->kind == DSC_OP_RECV; }

/* Where the other end of a message is. */
static place partner_of(const machine *m, place p)
{
    const dsc_op *op = op_of(m, p);
    dsc_coord coord = dsc_plan_coord(m->plan, p.rank);

    coord.of[op->axis] = op->peer;
    return (place){dsc_plan_rank(m->plan, coord), op->kind == DSC_OP_SEND ? DSC_LANE_PP_RECV : DSC_LANE_PP_SEND};
}

/* ---- Partners agree */

static dsc_status refuse_pair(const machine *m, place a, place b, const char *what, int64_t here, int64_t there)
{
    const dsc_op *x = op_of(m, a), *y = op_of(m, b);

    return DSC_FAIL(DSC_EINVAL,
                    "check: rank %" PRId64 ", op %" PRId64 " (%s of %" PRId64 " bytes) meets rank %" PRId64
                    ", op %" PRId64 " (%s of %" PRId64 " bytes) over %s: %s %" PRId64 " here, %" PRId64 " there",
                    a.rank, number_of(m, a), DSC_OP_NAMES[x->kind], x->bytes, b.rank, number_of(m, b),
                    DSC_OP_NAMES[y->kind], y->bytes, DSC_AXIS_NAMES[x->axis], what, here, there);
}

/* Members of a tensor, context or data group, or of a part of one, have one program, so that theirs are the same
 * buffers too. */
static dsc_status compare(const machine *m, place a, place b)
{
    const dsc_op *x = op_of(m, a), *y = op_of(m, b);
    bool is_pair = is_message(x);
    bool is_alike = x->axis != DSC_AXIS_PP && x->axis != DSC_AXIS_TIED && x->axis != DSC_AXIS_WORLD;
    const struct { const char *what; bool counts; int64_t here, there; } rows[] = {
        {"kind", !is_pair, x->kind, y->kind},
        {"channel", is_pair, x->channel, y->channel},
        {"micro-batch", true, use_of(m, a)->micro_batch, use_of(m, b)->micro_batch},
        {"bytes", true, x->bytes, y->bytes},
        {"type", true, x->type, y->type},
        {"bytes of data", true, x->data.bytes, y->data.bytes},
        {"bytes of the source", true, x->source.bytes, y->source.bytes},
        {"chunk", is_alike, use_of(m, a)->chunk, use_of(m, b)->chunk},
        {"buffer of data", is_alike, x->data.buffer, y->data.buffer},
        {"first byte of data", is_alike, x->data.offset, y->data.offset},
        {"parts of data", is_alike, x->data.parts, y->data.parts},
        {"buffer of the source", is_alike, x->source.buffer, y->source.buffer},
        {"first byte of the source", is_alike, x->source.offset, y->source.offset},
        {"parts of the source", is_alike, x->source.parts, y->source.parts},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++)
        if (rows[i].counts && rows[i].here != rows[i].there)
            return refuse_pair(m, a, b, rows[i].what, rows[i].here, rows[i].there);
    return DSC_OK;
}

/* ---- Stepping */

static void queue(machine *m, place p)
{
    if (state_of(m, p)->is_queued) return;
    state_of(m, p)->is_queued = true;
    m->queue[m->queued++] = p;
}

/* The lane's next op is over: who waited for it may go on. */
static void advance(machine *m, place p)
{
    lane_state *states = m->states[p.rank];

    states[p.lane].stands = false;
    states[p.lane].next++;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (states[lane].waits_for == p.lane && states[lane].until <= states[p.lane].next) {
            states[lane].waits_for = -1;
            queue(m, (place){p.rank, lane});
        }
}

/* Whether the head of a lane has all that it needs of its own rank; else it is noted what it waits for. */
static bool is_ready(const machine *m, place p)
{
    const dsc_need *needs = m->unfolded[m->owners[p.rank]].needs + head(m, p)->first_need;

    for (int32_t i = 0; i < head(m, p)->needs; i++) {
        if (m->states[p.rank][needs[i].lane].next >= needs[i].count) continue;
        state_of(m, p)->waits_for = (int8_t)needs[i].lane;
        state_of(m, p)->until = needs[i].count;
        return false;
    }
    return true;
}

/* Where both ends stand and name each other, the message is handed over. */
static dsc_status meet_partner(machine *m, place p, bool *has_moved)
{
    place other = partner_of(m, p), back;
    dsc_status status = DSC_OK;

    *has_moved = false;
    if (!state_of(m, other)->stands) goto out;
    back = partner_of(m, other);
    if (back.rank != p.rank) goto out;
    DSC_TRY(compare(m, p, other));
    advance(m, p);
    advance(m, other);
    queue(m, other);
    *has_moved = true;
out:
    return status;
}

/* When all members stand at a collective, all go on. */
static dsc_status meet_group(machine *m, place p, bool *has_moved)
{
    int axis = op_of(m, p)->axis;
    int32_t group = m->groups[p.rank][axis];
    int64_t count = 1;
    dsc_status status = DSC_OK;

    *has_moved = ++m->arrivals[group] == m->sizes[group];
    if (!*has_moved) goto out;
    m->arrivals[group] = 0;
    m->members[0] = p.rank;
    if (m->sizes[group] > 1) count = dsc_plan_group_ranks(m->plan, p.rank, axis, m->members);
    for (int64_t i = 0; i < count; i++)
        if (is_stepped(m, m->members[i])) DSC_TRY(compare(m, p, (place){m->members[i], p.lane}));
    for (int64_t i = 0; i < count; i++) {
        place other = {m->members[i], p.lane};

        if (!is_stepped(m, other.rank)) continue;
        advance(m, other);
        if (other.rank != p.rank) queue(m, other);
    }
out:
    return status;
}

/* Moves a lane on as far as it goes. */
static dsc_status step_lane(machine *m, place p)
{
    lane_state *state = state_of(m, p);
    bool has_moved = true;
    dsc_status status = DSC_OK;

    while (has_moved && !state->stands && !is_over(m, p) && is_ready(m, p)) {
        const dsc_op *op = op_of(m, p);

        if (!dsc_op_is_communication(op->kind)) {
            advance(m, p);
            continue;
        }
        state->stands = true;
        DSC_TRY(is_message(op) ? meet_partner(m, p, &has_moved) : meet_group(m, p, &has_moved));
    }
out:
    return status;
}

/* ---- When nothing moves any more */

/* What a lane that is not over waits for. */
static place follow(const machine *m, place p)
{
    const dsc_op *op = op_of(m, p);
    int64_t count;

    if (!state_of(m, p)->stands) return (place){p.rank, state_of(m, p)->waits_for};
    if (is_message(op)) return partner_of(m, p);
    count = dsc_plan_group_ranks(m->plan, p.rank, op->axis, m->members);
    for (int64_t i = 0; i < count; i++) {
        place member = {m->members[i], p.lane};

        if (!is_stepped(m, member.rank)) continue;
        if (!state_of(m, member)->stands || op_of(m, member)->axis != op->axis) return member;
    }
    return p;
}

static void describe(const machine *m, place p, dsc_text *out)
{
    const dsc_op *op = op_of(m, p);

    dsc_text_add(out, "rank %" PRId64 ", op %" PRId64 " (%s", p.rank, number_of(m, p), DSC_OP_NAMES[op->kind]);
    if (op->layer >= 0) dsc_text_add(out, ", layer %d", op->layer);
    if (is_message(op))
        dsc_text_add(out, " %s stage %d, channel %d", op->kind == DSC_OP_SEND ? "to" : "from", op->peer, op->channel);
    dsc_text_add(out, ")");
}

/* From a lane that is stuck to the reason: a partner without such an op, or a circle. */
static dsc_status refuse_stuck(const machine *m, place p)
{
    enum { NAMED = 6 };
    const int64_t far = m->ranks * DSC_LANE_COUNT;
    dsc_text text = {0};
    place next = follow(m, p), first;
    dsc_status status;

    for (int64_t i = 0; i < far && !is_over(m, next); i++) {
        p = next;
        next = follow(m, p);
    }
    dsc_text_add(&text, "check: ");
    describe(m, p, &text);
    if (is_over(m, next)) {
        dsc_text_add(&text, " never starts: rank %" PRId64 " has no partner for it left in lane %s", next.rank,
                     DSC_LANE_NAMES[next.lane]);
    } else {
        first = p;
        for (int i = 0; i < NAMED; i++) {
            p = follow(m, p);
            dsc_text_add(&text, "%s", i == 0 ? " never starts: it waits for " : ", that for ");
            if (i == NAMED - 1) dsc_text_add(&text, "others");
            else describe(m, p, &text);
            if (p.rank == first.rank && p.lane == first.lane) break;
        }
        dsc_text_add(&text, ": a cycle");
    }
    status = DSC_FAIL(DSC_EINVAL, "%s", dsc_text_str(&text));
    dsc_text_fini(&text);
    return status;
}

static dsc_status check_all_over(const machine *m)
{
    for (int64_t rank = 0; rank < m->ranks; rank++)
        for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
            if (is_stepped(m, rank) && !is_over(m, (place){rank, lane})) return refuse_stuck(m, (place){rank, lane});
    return DSC_OK;
}

static dsc_status start_segment(machine *m)
{
    dsc_status status = DSC_OK;

    memset(m->states, 0, (size_t)m->ranks * sizeof *m->states);
    memset(m->arrivals, 0, (size_t)dsc_plan_group_count(m->plan) * sizeof *m->arrivals);
    for (int64_t rank = m->ranks - 1; rank >= 0; rank--) {
        if (!is_stepped(m, rank)) continue;
        if (m->owners[rank] == rank) DSC_TRY(dsc_segment_unfold(m->programs[rank], m->segment, &m->unfolded[rank]));
        for (int lane = DSC_LANE_COUNT - 1; lane >= 0; lane--) {
            m->states[rank][lane].waits_for = -1;
            queue(m, (place){rank, lane});
        }
    }
out:
    return status;
}

static dsc_status run_segment(machine *m)
{
    dsc_status status = DSC_OK;

    DSC_TRY(start_segment(m));
    while (m->queued > 0) {
        place p = m->queue[--m->queued];

        state_of(m, p)->is_queued = false;
        DSC_TRY(step_lane(m, p));
    }
    DSC_TRY(check_all_over(m));
out:
    for (int64_t rank = 0; rank < m->ranks; rank++) dsc_unfolded_fini(&m->unfolded[rank]);
    return status;
}

/* ---- The machine */

static void list_ranks(machine *m)
{
    m->is_folded = true;
    for (int64_t rank = 0; rank < m->ranks; rank++) {
        int64_t representative = dsc_plan_representative(m->plan, rank);
        bool is_shared = m->programs[representative] == m->programs[rank];

        m->owners[rank] = is_shared ? representative : rank;
        m->is_folded &= is_shared;
    }
    for (int64_t rank = 0; rank < m->ranks; rank++)
        for (int axis = 0; axis < DSC_AXIS_COUNT; axis++) {
            m->groups[rank][axis] = (int32_t)dsc_plan_group(m->plan, rank, axis);
            if (m->groups[rank][axis] >= 0 && is_stepped(m, rank)) m->sizes[m->groups[rank][axis]]++;
        }
}

static dsc_status init_machine(machine *m, const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks)
{
    size_t groups = (size_t)dsc_plan_group_count(plan) + 1;

    *m = (machine){.plan = plan, .programs = programs, .ranks = ranks};
    m->owners = malloc((size_t)ranks * sizeof *m->owners);
    m->members = malloc((size_t)ranks * sizeof *m->members);
    m->unfolded = calloc((size_t)ranks, sizeof *m->unfolded);
    m->states = calloc((size_t)ranks, sizeof *m->states);
    m->groups = malloc((size_t)ranks * sizeof *m->groups);
    m->sizes = calloc(groups, sizeof *m->sizes);
    m->arrivals = calloc(groups, sizeof *m->arrivals);
    m->queue = malloc((size_t)ranks * DSC_LANE_COUNT * sizeof *m->queue);
    if (m->owners == NULL || m->members == NULL || m->unfolded == NULL || m->states == NULL || m->groups == NULL ||
        m->sizes == NULL || m->arrivals == NULL || m->queue == NULL)
        return DSC_FAIL(DSC_ENOMEM, "check: %" PRId64 " ranks", ranks);
    list_ranks(m);
    return DSC_OK;
}

static void fini_machine(machine *m)
{
    free(m->owners);
    free(m->members);
    free(m->unfolded);
    free(m->states);
    free(m->groups);
    free(m->sizes);
    free(m->arrivals);
    free(m->queue);
}

dsc_status dsc_program_check(const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks)
{
    machine m = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(init_machine(&m, plan, programs, ranks));
    for (int64_t rank = 0; rank < ranks; rank++)
        if (m.owners[rank] == rank) DSC_TRY(dsc_check_rank(plan, programs[rank], rank));
    for (; m.segment < DSC_SEGMENT_COUNT; m.segment++) DSC_TRY(run_segment(&m));
out:
    fini_machine(&m);
    return status;
}
