/* Weights that passes read where another copy is updated: from the update until its new ones have been written over them
 * they are behind, and nothing may read them but passes that are meant to, while delayed updates are made. Updates may
 * leave them so, for the passes that follow to gather. */
#include "program/check_rank.h"

typedef struct atoms_range { atom_fact *first, *end; } atoms_range;

static atoms_range parameters_of(const rank_check *c, const dsc_bucket *bucket)
{
    int64_t first, count;

    dsc_atoms_of(&c->atoms, c->program, dsc_program_kept(c->program, bucket, DSC_KEPT_PARAMETERS), NULL, &first, &count);
    return (atoms_range){c->facts + first, c->facts + first + count};
}

void check_weights_start(rank_check *c)
{
    for (int64_t a = 0; a < c->atoms.count; a++) c->facts[a].is_behind |= c->facts[a].is_left;
}

dsc_status check_weights_before(const rank_check *c, const atom_fact *fact, dsc_span span, bool is_read)
{
    if (!is_read || !fact->is_behind || c->segment == DSC_SEGMENT_DELAYED) return DSC_OK;
    return check_refuse_buffer(c, "reads weights of before the last update, of", span.buffer);
}

/* The bucket whose masters are there, apart from its parameters; NULL: that is no such place. */
static const dsc_bucket *bucket_of_masters(const rank_check *c, dsc_span span)
{
    const dsc_stage *stage = &c->plan->stages[c->program->stage];

    for (int64_t i = 0; i < stage->bucket_count; i++) {
        const dsc_bucket *bucket = &stage->buckets[i];
        const dsc_span all = dsc_program_kept(c->program, bucket, DSC_KEPT_MASTER);

        if (bucket->home[DSC_KEPT_MASTER] >= 0 && all.buffer == span.buffer && all.offset <= span.offset &&
            span.offset < all.offset + all.bytes)
            return bucket;
    }
    return NULL;
}

void check_weights_call(rank_check *c, const dsc_call *call)
{
    for (int o = 0; c->op->kind == DSC_OP_UPDATE && o < DSC_KERNEL_OPERANDS; o++) {
        const bool is_written = call->operands[o].buffer >= 0 && dsc_operand_is_written(&call->shape, o);
        const dsc_bucket *bucket = is_written ? bucket_of_masters(c, call->operands[o]) : NULL;
        atoms_range weights;

        if (bucket == NULL) continue;
        weights = parameters_of(c, bucket);
        for (atom_fact *fact = weights.first; fact < weights.end; fact++) fact->is_behind = true;
    }
}

void check_weights_end(rank_check *c)
{
    for (int64_t a = 0; a < c->atoms.count; a++) c->facts[a].is_left = c->facts[a].is_behind;
}

bool check_weights_are_left(const rank_check *c)
{
    for (int64_t a = 0; a < c->atoms.count; a++)
        if (c->facts[a].is_left) return true;
    return false;
}

dsc_span check_weights_updated(const rank_check *c, const dsc_bucket *bucket)
{
    const dsc_span all = dsc_program_kept(c->program, bucket, DSC_KEPT_PARAMETERS);

    if (!c->plan->config.strategy.late_gather) return all;
    if (c->plan->type == DSC_FP32) return DSC_NO_SPAN; /* the master is the part */
    return dsc_span_at(dsc_span_part(c->plan, all), c->place);
}
