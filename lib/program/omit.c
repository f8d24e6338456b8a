#include "program/program.h"
#include <inttypes.h>

/* Ops that a partner's op is counted among: collectives of an axis; or one end of the messages of a channel with a
 * stage. */
typedef struct family { int axis; bool are_messages; int kind, peer, channel; } family;

static bool is_in(const family *f, const dsc_op *op)
{
    if (op->axis != f->axis) return false;
    return !f->are_messages || (op->kind == f->kind && op->peer == f->peer && op->channel == f->channel);
}

static int64_t count_in(const family *f, const dsc_template *template_, int64_t ops)
{
    int64_t count = 0;

    for (int64_t i = 0; i < ops; i++) count += is_in(f, &template_->ops[i]);
    return count;
}

/* The how-manieth of its family an op is in the rank's whole program, segment after segment. */
static int64_t sequence_of(const dsc_program *program, const family *f, int64_t number)
{
    int64_t sequence = 0;

    for (int s = 0; s < DSC_SEGMENT_COUNT; s++)
        for (int64_t u = 0; u < program->segments[s].use_count; u++) {
            const dsc_use *use = &program->segments[s].uses[u];
            const dsc_template *template_ = &program->templates[use->template_];
            const int64_t before = number - use->base;
            const bool is_here = before >= 0 && before < template_->op_count;

            sequence += count_in(f, template_, is_here ? before : template_->op_count);
            if (is_here) return sequence;
        }
    return sequence;
}

/* The op of that place in the family; -1 when there are not so many. */
static int64_t number_of(const dsc_program *program, const family *f, int64_t sequence)
{
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++)
        for (int64_t u = 0; u < program->segments[s].use_count; u++) {
            const dsc_use *use = &program->segments[s].uses[u];
            const dsc_template *template_ = &program->templates[use->template_];

            for (int64_t i = 0; i < template_->op_count; i++)
                if (is_in(f, &template_->ops[i]) && sequence-- == 0) return use->base + i;
        }
    return -1;
}

static void omit_collective(const dsc_plan *plan, const dsc_program *const *programs, int64_t rank,
                            const dsc_place_of_op *place, int64_t *out)
{
    const family f = {.axis = place->op->axis};
    int64_t sequence = sequence_of(programs[rank], &f, out[rank]);

    for (int64_t i = 0; i < plan->ranks; i++)
        if (dsc_plan_group(plan, i, f.axis) == dsc_plan_group(plan, rank, f.axis))
            out[i] = number_of(programs[i], &f, sequence);
}

/* The other end: on the rank that the message names, the message that names this one. */
static void omit_message(const dsc_plan *plan, const dsc_program *const *programs, int64_t rank,
                         const dsc_place_of_op *place, int64_t *out)
{
    const dsc_op *op = place->op;
    dsc_coord coord = dsc_plan_coord(plan, rank);
    const family here = {op->axis, true, op->kind, op->peer, op->channel};
    const family there = {op->axis, true, op->kind == DSC_OP_SEND ? DSC_OP_RECV : DSC_OP_SEND,
                          (int)coord.of[DSC_AXIS_PP], op->channel};
    int64_t sequence = sequence_of(programs[rank], &here, out[rank]), partner;

    coord.of[DSC_AXIS_PP] = op->peer;
    partner = dsc_plan_rank(plan, coord);
    out[partner] = number_of(programs[partner], &there, sequence);
}

dsc_status dsc_programs_find(const dsc_plan *plan, const dsc_program *const *programs, const char *option, int64_t rank,
                             int64_t op, dsc_place_of_op *out)
{
    if (rank < 0 || rank >= plan->ranks)
        return DSC_FAIL(DSC_EINVAL, "%s %" PRId64 ":%" PRId64 ": there are %" PRId64 " ranks", option, rank, op,
                        plan->ranks);
    if (!dsc_program_find(programs[rank], op, out))
        return DSC_FAIL(DSC_EINVAL, "%s %" PRId64 ":%" PRId64 ": the rank's program has %" PRId64 " ops", option, rank,
                        op, programs[rank]->op_count);
    return DSC_OK;
}

dsc_status dsc_program_omit(const dsc_plan *plan, const dsc_program *const *programs, int64_t rank, int64_t op,
                            int64_t *out)
{
    dsc_status status = DSC_OK;
    dsc_place_of_op place;

    for (int64_t i = 0; i < plan->ranks; i++) out[i] = -1;
    DSC_TRY(dsc_programs_find(plan, programs, "--omit-op", rank, op, &place));
    out[rank] = op;
    if (place.op->axis == DSC_AXIS_PP) omit_message(plan, programs, rank, &place, out);
    else if (place.op->axis >= 0) omit_collective(plan, programs, rank, &place, out);
out:
    return status;
}
