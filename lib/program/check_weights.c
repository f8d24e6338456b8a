/* Weights that passes read where another copy is updated: from the update until its new ones have been written over
 * them they are behind, and nothing may read them but passes that are meant to, while delayed updates are made. Where
 * they are gathered late updates leave them so. */
#include "program/check_rank.h"

typedef struct atoms_range { atom_fact *first, *end; } atoms_range;

static atoms_range range_of(const rank_check *c, dsc_span span)
{
    int64_t first, count;

    dsc_atoms_of(&c->atoms, c->program, span, NULL, &first, &count);
    return (atoms_range){c->facts + first, c->facts + first + count};
}

static void set_lag(const rank_check *c, dsc_span span, bool may_lag)
{
    const atoms_range range = range_of(c, span);

    for (atom_fact *fact = range.first; fact < range.end; fact++) fact->may_lag = may_lag;
}

/* Where the strategy has weights gathered late, all but what a rank's own update writes. */
void check_weights_init(rank_check *c)
{
    const dsc_stage *stage = &c->plan->stages[c->program->stage];

    for (int64_t i = 0; c->plan->config.strategy.late_gather && i < stage->bucket_count; i++) {
        const dsc_bucket *bucket = &stage->buckets[i];
        const dsc_span own = check_weights_updated(c, bucket);

        set_lag(c, dsc_program_kept(c->program, bucket, DSC_KEPT_PARAMETERS), true);
        if (own.buffer >= 0) set_lag(c, own, false);
    }
}

static void set_behind(const rank_check *c, const dsc_bucket *bucket)
{
    const atoms_range range = range_of(c, dsc_program_kept(c->program, bucket, DSC_KEPT_PARAMETERS));

    for (atom_fact *fact = range.first; fact < range.end; fact++) fact->is_behind = true;
}

void check_weights_start(rank_check *c, bool has_passes)
{
    const dsc_stage *stage = &c->plan->stages[c->program->stage];

    for (int64_t i = 0; c->segment == DSC_SEGMENT_SPREAD && i < stage->bucket_count; i++)
        if (stage->buckets[i].home[DSC_KEPT_MASTER] >= 0) set_behind(c, &stage->buckets[i]);
    for (int64_t a = 0; has_passes && a < c->atoms.count; a++) c->facts[a].is_behind |= c->facts[a].may_lag;
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

        if (bucket != NULL) set_behind(c, bucket);
    }
}

dsc_status check_weights_end(const rank_check *c)
{
    for (int64_t a = 0; a < c->atoms.count; a++)
        if (c->facts[a].is_behind && !c->facts[a].may_lag)
            return check_refuse(c, "is the update's last, and weights that no pass gathers are of before it");
    return DSC_OK;
}

dsc_span check_weights_updated(const rank_check *c, const dsc_bucket *bucket)
{
    const dsc_span all = dsc_program_kept(c->program, bucket, DSC_KEPT_PARAMETERS);

    if (!c->plan->config.strategy.late_gather) return all;
    if (c->plan->type == DSC_FP32) return DSC_NO_SPAN; /* the master is the part */
    return dsc_span_at(dsc_span_part(c->plan, all), c->place);
}
