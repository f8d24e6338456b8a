/* Leaving an op out leaves out its partners' too, and nothing else. */
#include "tests/program/machine.h"
#include "tests/tap.h"
#include <stdlib.h>

#define MODEL "layers=8,hidden=32,heads=4,vocab=100,seq=16"

static dsc_strategy strategy(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.tp = s.pp = s.dp = s.virtual_stages = 2;
    s.sequence_parallel = true;
    s.zero = 1;
    s.schedule = DSC_INTERLEAVED;
    s.micro_batch = 1;
    s.global_batch = 8;
    return s;
}

static const dsc_op *op_of(const machine *m, int64_t rank, int64_t number, dsc_place_of_op *place)
{
    return dsc_program_find(m->programs[rank], number, place) ? place->op : NULL;
}

/* Of each partner the same is asked: it finds the same ops. */
static void check_mutual(const machine *m, int64_t rank, const int64_t *omitted, int64_t *again)
{
    for (int64_t other = 0; other < m->plan->ranks; other++) {
        if (omitted[other] < 0) continue;
        CHECK_OK(dsc_program_omit(m->plan, (const dsc_program *const *)m->programs, other, omitted[other], again));
        for (int64_t r = 0; r < m->plan->ranks; r++)
            CHECK(again[r] == omitted[r], "rank %d's op %d leaves out op %d of rank %d, rank %d's op %d its op %d",
                  (int)rank, (int)omitted[rank], (int)omitted[r], (int)r, (int)other, (int)omitted[other],
                  (int)again[r]);
    }
}

static int64_t members_of(const machine *m, int64_t rank, const dsc_op *op, int64_t *out)
{
    dsc_coord coord = dsc_plan_coord(m->plan, rank);

    out[0] = rank;
    if (op->axis < 0) return 1;
    if (op->axis != DSC_AXIS_PP) return dsc_plan_group_ranks(m->plan, rank, op->axis, out);
    coord.of[DSC_AXIS_PP] = op->peer;
    out[1] = dsc_plan_rank(m->plan, coord);
    return 2;
}

static void check_op(const machine *m, int64_t rank, int64_t number, int64_t *room)
{
    int64_t *omitted = room, *again = room + m->plan->ranks, *members = room + 2 * m->plan->ranks, count, left = 0;
    dsc_place_of_op place, other;
    const dsc_op *op = op_of(m, rank, number, &place);

    CHECK_OK(dsc_program_omit(m->plan, (const dsc_program *const *)m->programs, rank, number, omitted));
    CHECK(omitted[rank] == number, "op %d becomes %d", (int)number, (int)omitted[rank]);
    count = members_of(m, rank, op, members);
    for (int64_t r = 0; r < m->plan->ranks; r++) left += omitted[r] >= 0;
    CHECK(left == count, "%s: %d ranks leave out an op, not %d", DSC_OP_NAMES[op->kind], (int)left, (int)count);
    for (int64_t i = 0; i < count; i++) {
        const dsc_op *theirs = op_of(m, members[i], omitted[members[i]], &other);
        bool is_other_end = op->axis == DSC_AXIS_PP && members[i] != rank;
        int kind = !is_other_end ? op->kind : op->kind == DSC_OP_SEND ? DSC_OP_RECV : DSC_OP_SEND;
        int32_t micro_batch = m->programs[rank]->segments[place.segment].uses[place.use].micro_batch;

        if (!CHECK(theirs != NULL, "rank %d has no partner of rank %d's op %d", (int)members[i], (int)rank,
                   (int)number))
            continue;
        CHECK(theirs->kind == kind && theirs->bytes == op->bytes && theirs->channel == op->channel &&
                  m->programs[members[i]]->segments[other.segment].uses[other.use].micro_batch == micro_batch,
              "rank %d, op %d and rank %d, op %d are no partners", (int)rank, (int)number, (int)members[i],
              (int)omitted[members[i]]);
    }
    check_mutual(m, rank, omitted, again);
}

static void partners_leave_out_theirs(void)
{
    dsc_strategy s = strategy();
    int64_t *room;
    machine m;

    machine_init(&m, MODEL, &s);
    room = malloc(3 * (size_t)m.plan->ranks * sizeof *room);
    for (int draw = 0; draw < 200 && room != NULL; draw++) {
        int64_t rank = tap_random_between(0, m.plan->ranks - 1);

        check_op(&m, rank, tap_random_between(0, m.programs[rank]->op_count - 1), room);
    }
    free(room);
    machine_fini(&m);
}

static void refuses_what_is_not_there(void)
{
    dsc_strategy s = strategy();
    int64_t room[8];
    machine m;

    machine_init(&m, MODEL, &s);
    CHECK(dsc_program_omit(m.plan, (const dsc_program *const *)m.programs, 8, 0, room) == DSC_EINVAL, "rank 8 of 8");
    CHECK(dsc_program_omit(m.plan, (const dsc_program *const *)m.programs, 0, m.programs[0]->op_count, room) ==
              DSC_EINVAL,
          "an op past the end");
    machine_fini(&m);
}

static const tap_case cases[] = {
    {"partners leave out their op of the same collective or message", partners_leave_out_theirs},
    {"an op or a rank that is not there is refused", refuses_what_is_not_there},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
