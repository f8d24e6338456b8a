#include "program/program.h"
#include <inttypes.h>

/* The how-manieth collective of its group's axis an op is in the rank's whole program; -1 when it is none. */
static int64_t sequence_of(const dsc_program *program, int64_t number, int axis)
{
    dsc_place_of_op place;
    int64_t sequence = 0;

    for (int64_t i = 0; i < number; i++)
        if (dsc_program_find(program, i, &place) && place.op->axis == axis) sequence++;
    return sequence;
}

static int64_t number_of(const dsc_program *program, int64_t sequence, int axis)
{
    dsc_place_of_op place;

    for (int64_t i = 0; i < program->op_count; i++)
        if (dsc_program_find(program, i, &place) && place.op->axis == axis && sequence-- == 0) return i;
    return -1;
}

dsc_status dsc_program_omit(const dsc_plan *plan, const dsc_program *const *programs, int64_t rank, int64_t op,
                            int64_t *out)
{
    dsc_place_of_op place;
    int64_t sequence;

    for (int64_t i = 0; i < plan->ranks; i++) out[i] = -1;
    if (rank < 0 || rank >= plan->ranks)
        return DSC_FAIL(DSC_EINVAL, "--omit-op %" PRId64 ":%" PRId64 ": there are %" PRId64 " ranks", rank, op,
                        plan->ranks);
    if (!dsc_program_find(programs[rank], op, &place))
        return DSC_FAIL(DSC_EINVAL, "--omit-op %" PRId64 ":%" PRId64 ": the rank's program has %" PRId64 " ops", rank,
                        op, programs[rank]->op_count);
    out[rank] = op;
    if (place.op->axis < 0) return DSC_OK;
    sequence = sequence_of(programs[rank], op, place.op->axis);
    for (int64_t i = 0; i < plan->ranks; i++)
        if (dsc_plan_group(plan, i, place.op->axis) == dsc_plan_group(plan, rank, place.op->axis))
            out[i] = number_of(programs[i], sequence, place.op->axis);
    return DSC_OK;
}
