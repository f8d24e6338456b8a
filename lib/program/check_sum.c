/* Gradients and the loss as the program adds them up: each micro-batch once, each group that has to sum them once, and
 * nothing uses what is not complete. What is known of a gradient moves with it: from a bucket to a rank's part of it,
 * to the other space, onto the step's sum. */
#include "program/check_rank.h"
#include <stdio.h>

static bool is_gradient(const rank_check *c, dsc_span span)
{
    return c->program->buffers[span.buffer].class_ == DSC_CLASS_GRADIENTS;
}

/* What micro-batches add to, one after another. */
static bool is_sum(const rank_check *c, dsc_span span)
{
    return is_gradient(c, span) || (span.buffer == c->program->scalars && span.offset == 0);
}

/* Brings gradients from one place to another. */
static bool is_move(const dsc_op *op)
{
    return op->kind == DSC_OP_REDUCE_SCATTER || op->kind == DSC_OP_ACCUMULATE || op->kind == DSC_OP_WIDEN ||
           dsc_op_is_copy(op->kind);
}

/* Adds to a sum, for a micro-batch; not what sums over a group, or moves. */
static bool is_add(const rank_check *c)
{
    return c->use->micro_batch >= 0 && !dsc_op_is_communication(c->op->kind) && !is_move(c->op);
}

/* Different for different sets of micro-batches, but for chance. */
static uint64_t mark_of(int64_t micro_batch)
{
    uint64_t x = (uint64_t)micro_batch + 1;

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 27);
}

uint64_t check_all_parts(const dsc_plan *plan)
{
    uint64_t all = 0;

    for (int64_t i = 0; i < plan->micro_batches; i++) all += mark_of(i);
    return all;
}

/* ---- Parts of micro-batches */

/* Of all micro-batches; or, where it lives within a pass, of the pass' own. */
static bool has_its_parts(const rank_check *c, const atom_fact *fact, dsc_span span)
{
    bool is_kept = c->program->buffers[span.buffer].life == DSC_LIFE_STATIC;

    if (fact->parts == c->plan->micro_batches && fact->which == c->all_parts) return true;
    return !is_kept && fact->parts == 1 && fact->which == mark_of(c->use->micro_batch);
}

/* A sum is left, for the next micro-batch or for its use, when the last added to it as often as those before; and used
 * when all have. */
static dsc_status check_parts(const rank_check *c, const atom_fact *fact, dsc_span span)
{
    bool is_balanced = fact->parts < 2 || fact->adds == fact->adds_each;
    bool is_target = is_move(c->op) && c->moved.buffer >= 0;

    if (fact->adds == 0 || (is_add(c) && c->use->micro_batch == fact->micro_batch) || is_target) return DSC_OK;
    if (!is_balanced || (!is_add(c) && !has_its_parts(c, fact, span)))
        return check_refuse(c, "meets a sum to which some micro-batch has not added its part");
    return DSC_OK;
}

static void count_add(const rank_check *c, atom_fact *fact, bool is_read)
{
    fact->sums = 0;
    fact->is_counted = false;
    if (!is_read) fact->parts = fact->adds = 0; /* written: what was there is gone */
    if (fact->parts == 0 || fact->micro_batch != c->use->micro_batch) {
        fact->which = mark_of(c->use->micro_batch) + (fact->parts > 0 ? fact->which : 0);
        fact->adds_each = fact->adds;
        fact->adds = 0;
        fact->parts++;
    }
    fact->micro_batch = c->use->micro_batch;
    fact->adds++;
}

/* ---- Moves: what is common to all that is read is what the target gets */

static dsc_status take(rank_check *c, const atom_fact *fact, dsc_span span)
{
    if (fact->adds == 0) return DSC_OK; /* zero for ever */
    if (c->moved.buffer < 0) {
        c->moved = *fact;
        c->moved.buffer = span.buffer;
    }
    if (c->moved.which != fact->which) return check_refuse(c, "moves gradients of different micro-batches");
    c->moved.sums &= fact->sums;
    c->moved.is_counted &= fact->is_counted;
    return DSC_OK;
}

static void put(const rank_check *c, atom_fact *fact, bool is_read)
{
    int own = c->op->axis >= 0 ? 1 << c->op->axis : 0;

    fact->sums = (int16_t)(is_read ? fact->sums & c->moved.sums : c->moved.sums | own);
    fact->parts = c->moved.parts + (is_read ? fact->parts : 0);
    fact->which = c->moved.which + (is_read ? fact->which : 0);
    fact->micro_batch = c->moved.micro_batch;
    fact->adds = fact->adds_each = 1;
    fact->is_counted = c->op->kind == DSC_OP_WIDEN && c->moved.is_counted;
}

/* Brings back, summed in the host's memory, what was copied out from there: padding, to which nobody adds, too. */
static bool is_return(const rank_check *c)
{
    const dsc_op *first = c->program->templates[c->use->template_].ops, *out = c->op - 2;

    return c->op->kind == DSC_OP_COPY_IN && c->op - first >= 2 && out->kind == DSC_OP_COPY_OUT &&
           out->source.buffer == c->op->data.buffer && out->data.buffer == c->op->source.buffer;
}

/* ---- Sums over groups */

/* Replicas that compress, or step by themselves, sum nothing exactly. */
static bool are_own(const rank_check *c)
{
    return dsc_segment_is_local(c->segment) || c->segment == DSC_SEGMENT_EXCHANGE ||
           c->segment == DSC_SEGMENT_SHARE || c->segment == DSC_SEGMENT_STEP;
}

static int needed_sums(const rank_check *c, const dsc_bucket *bucket)
{
    const dsc_strategy *strategy = &c->plan->config.strategy;
    int needed = dsc_plan_degree(c->plan, DSC_AXIS_DP) > 1 && !are_own(c) ? 1 << DSC_AXIS_DP : 0;

    if (are_own(c) && c->plan->intra > 1) needed |= 1 << DSC_AXIS_INTRA;
    if (bucket->is_replicated && strategy->sequence_parallel) needed |= 1 << DSC_AXIS_TP;
    if (bucket->is_tied) needed |= 1 << DSC_AXIS_TIED;
    return needed;
}

/* The bucket that keeps this element there; the last one that was looked up is near. */
static const dsc_bucket *bucket_at(rank_check *c, dsc_kept kept, dsc_space space, int64_t elem)
{
    const dsc_stage *stage = &c->plan->stages[c->program->stage];

    for (int64_t i = 0; i < stage->bucket_count; i++, c->bucket = (c->bucket + 1) % stage->bucket_count) {
        const dsc_bucket *bucket = &stage->buckets[c->bucket];
        dsc_home home = dsc_bucket_home(c->plan, bucket, kept);

        if (home.space == space && home.first <= elem && elem < home.first + home.elems) return bucket;
    }
    return &stage->buckets[c->bucket];
}

/* The bucket whose sums an atom holds: of a static buffer, or of one that is the bucket's for a time. */
static const dsc_bucket *bucket_of_sums(rank_check *c, const atom_fact *fact, dsc_span span)
{
    const dsc_buffer *buffer = &c->program->buffers[span.buffer];
    int64_t place = fact - c->facts - c->atoms.first[buffer->space][DSC_LIFE_STATIC];
    int64_t offset;

    if (buffer->bucket >= 0) return &c->plan->stages[c->program->stage].buckets[buffer->bucket];
    offset = c->atoms.bounds[buffer->space][DSC_LIFE_STATIC][place] - buffer->offset;
    return bucket_at(c, DSC_KEPT_SUMS, buffer->space, offset / dsc_dtype_bytes(c->plan->gradient_type));
}

static bool uses_gradients(const dsc_op *op)
{
    return op->kind == DSC_OP_GRAD_NORM || op->kind == DSC_OP_UPDATE || op->kind == DSC_OP_COMPRESS ||
           op->kind == DSC_OP_WEIGH;
}

static dsc_status check_reduced(rank_check *c, const atom_fact *fact, dsc_span span)
{
    const dsc_bucket *bucket;
    int missing;
    char why[96];

    if (fact->adds == 0 || !(uses_gradients(c->op) || is_move(c->op))) return DSC_OK;
    if (are_own(c) && fact->sums & 1 << DSC_AXIS_DP)
        return check_refuse(c, "takes gradients that are summed over dp for its replica's own");
    if (is_move(c->op)) return DSC_OK;
    bucket = bucket_of_sums(c, fact, span);
    missing = needed_sums(c, bucket) & ~fact->sums;
    if (missing == 0 && (c->op->kind == DSC_OP_GRAD_NORM || fact->is_counted || bucket->is_copy)) return DSC_OK;
    if (missing == 0) return check_refuse(c, "updates by gradients that no norm has counted");
    snprintf(why, sizeof why, "uses gradients that are not summed over %s",
             DSC_AXIS_NAMES[__builtin_ctz((unsigned)missing)]);
    return check_refuse(c, why);
}

/* What adds up a sum over tensor ranks: of activations, parts that wait for it. */
static bool sums_parts(const rank_check *c)
{
    return c->op->axis == DSC_AXIS_TP && (c->op->kind == DSC_OP_ALL_REDUCE || c->op->kind == DSC_OP_REDUCE_SCATTER);
}

/* Activations in parts are summed, once, before anything else reads them; then bias and residual are added. A product
 * that is a part adds to a part alone. */
static dsc_status check_partial(rank_check *c, const atom_fact *fact, dsc_span span, bool writes)
{
    bool adds_part = writes && c->lacking & LACKS_SUM && c->op->axis < 0;
    int allowed = sums_parts(c) ? LACKS_SUM | LACKS_BIAS : c->op->kind == DSC_OP_JOIN ? LACKS_BIAS : 0;
    int wrong = fact->lacks & ~(adds_part ? LACKS_SUM : allowed);

    if (dsc_op_is_copy(c->op->kind)) {
        c->lacking |= fact->lacks; /* so does the copy */
        return DSC_OK;
    }
    if (adds_part && !(fact->lacks & LACKS_SUM))
        return check_refuse_buffer(c, "adds a part to what is whole:", span.buffer);
    if (wrong & LACKS_SUM) return check_refuse_buffer(c, "reads a part that is not summed over tp:", span.buffer);
    if (wrong & LACKS_BIAS)
        return check_refuse_buffer(c, "reads a product without its bias and residual:", span.buffer);
    if (sums_parts(c) && !(fact->lacks & LACKS_SUM))
        return check_refuse_buffer(c, "sums over tp what is whole:", span.buffer);
    if (sums_parts(c)) c->lacking = fact->lacks & LACKS_BIAS;
    return DSC_OK;
}

static dsc_status check_gradient(rank_check *c, const atom_fact *fact, dsc_span span)
{
    dsc_status status = DSC_OK;

    if (c->op->axis >= 0 && fact->adds > 0 && (fact->sums & (1 << c->op->axis)) != 0)
        return check_refuse(c, "sums gradients that were summed before");
    DSC_TRY(check_reduced(c, fact, span));
    if (is_move(c->op)) DSC_TRY(take(c, fact, span));
out:
    return status;
}

/* ---- What check_rank calls */

dsc_status check_sum_before(rank_check *c, const atom_fact *fact, dsc_span span, bool is_read, bool writes)
{
    bool is_target = is_move(c->op) && c->moved.buffer >= 0 && c->moved.buffer != span.buffer;
    dsc_status status = DSC_OK;

    /* no op of this segment has written it: it is of an earlier step */
    if (is_add(c) && is_read && is_gradient(c, span) && fact->adds > 0 && fact->writer == 0)
        return check_refuse(c, "adds to a sum that an earlier step has left");
    if (is_sum(c, span) && !is_target) DSC_TRY(check_parts(c, fact, span));
    if (!is_read || is_target) goto out;
    DSC_TRY(is_gradient(c, span) ? check_gradient(c, fact, span) : check_partial(c, fact, span, writes));
out:
    return status;
}

void check_sum_read(const rank_check *c, atom_fact *fact, dsc_span span)
{
    if (c->op->kind == DSC_OP_GRAD_NORM && is_gradient(c, span)) fact->is_counted = true;
}

void check_sum_after(rank_check *c, atom_fact *fact, dsc_span span, bool is_read)
{
    if (!is_sum(c, span) || (fact->adds == 0 && is_return(c))) return;
    if (is_move(c->op) && c->moved.buffer >= 0) put(c, fact, is_read);
    else if (is_add(c)) count_add(c, fact, is_read);
    else if (c->op->axis >= 0) fact->sums |= (int16_t)(1 << c->op->axis);
}

static bool has_head(const dsc_stage *stage)
{
    for (int64_t i = 0; i < stage->chunk_count; i++)
        if (stage->chunks[i].has_head) return true;
    return false;
}

dsc_status check_agreed(rank_check *c)
{
    const bool counts = has_head(&c->plan->stages[c->program->stage]);
    const int64_t scalar = dsc_dtype_bytes(DSC_FP64);
    int64_t first, count;
    int needed = c->plan->ranks > 1 ? 1 << DSC_AXIS_WORLD : 0;
    const atom_fact *loss;

    dsc_atoms_of(&c->atoms, c->program, (dsc_span){c->program->scalars, 0, scalar, 0}, NULL, &first, &count);
    loss = &c->facts[first];
    if (loss->buffer < 0 || (counts && (loss->parts != c->plan->micro_batches || loss->which != c->all_parts)))
        return check_refuse(c, "is the segment's last, and some micro-batch's loss is missing");
    if (needed & ~loss->sums) return check_refuse(c, "is the segment's last, and nobody has agreed");
    return DSC_OK;
}

/* ---- Products over tensor ranks */

/* The stage's shard that holds an element of the flat order. */
static const dsc_shard *shard_at(const rank_check *c, int64_t elem)
{
    const dsc_stage *stage = &c->plan->stages[c->program->stage];
    int64_t low = 0, high = stage->shard_count;

    while (high - low > 1) {
        int64_t middle = (low + high) / 2;

        if (stage->shards[middle].first <= elem) low = middle;
        else high = middle;
    }
    return &stage->shards[low];
}

/* The tensor that a span of weights is of; NULL when it is none. */
static const dsc_tensor *tensor_of(rank_check *c, dsc_span weight)
{
    const dsc_stage *stage = &c->plan->stages[c->program->stage];
    const dsc_buffer *buffer = &c->program->buffers[weight.buffer];
    int64_t elem = weight.offset / dsc_dtype_bytes(c->plan->type);

    if (weight.buffer == c->program->kept[DSC_KEPT_PARAMETERS][DSC_SPACE_DEVICE]) {
        const dsc_bucket *bucket = bucket_at(c, DSC_KEPT_PARAMETERS, DSC_SPACE_DEVICE, elem);

        elem += bucket->first_elem - bucket->home[DSC_KEPT_PARAMETERS];
    } else if (buffer->class_ == DSC_CLASS_PARAMETERS && buffer->bucket >= 0) {
        elem += stage->buckets[buffer->bucket].first_elem;
    } else {
        return NULL;
    }
    return &c->plan->tensors[shard_at(c, elem)->tensor];
}

/* What a copy in the products' type was cast from, in the same op. */
static dsc_span cast_from(const rank_check *c, dsc_span span)
{
    for (int32_t i = 0; i < c->op->calls; i++) {
        const dsc_call *call = &c->program->templates[c->use->template_].calls[c->op->first_call + i];

        if (call->shape.kernel == DSC_K_CAST && call->operands[1].buffer == span.buffer) return call->operands[0];
    }
    return span;
}

/* A product over a dimension that tensor ranks have cut is a part of the whole one, and so is an embedding. */
int8_t check_lacking(rank_check *c, const dsc_call *call)
{
    const dsc_span weight = call->shape.kernel == DSC_K_GEMM ? cast_from(c, call->operands[1]) : DSC_NO_SPAN;
    bool is_transposed = call->shape.flags & DSC_TRANS_B;
    const dsc_tensor *tensor;

    if (c->plan->config.strategy.tp == 1) return 0;
    if (call->shape.kernel == DSC_K_EMBED_FWD) return LACKS_SUM;
    if (call->shape.kernel != DSC_K_GEMM || (tensor = tensor_of(c, weight)) == NULL) return 0;
    if (is_transposed) return tensor->cut == DSC_CUT_COLUMNS || tensor->cut == DSC_CUT_QKV ? LACKS_SUM : 0;
    if (tensor->role == DSC_ROLE_PROJ_W || tensor->role == DSC_ROLE_OUT_W) return LACKS_SUM | LACKS_BIAS;
    return tensor->cut == DSC_CUT_ROWS ? LACKS_SUM : 0;
}
