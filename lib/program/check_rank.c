/* The check of one rank's program. It trusts nothing that the builders, the layout or the dependency pass believed: it
 * reads the finished program.
 *
 * The ops of a path are taken in the builders' order, each with a vector clock of its lanes (Fidge, Mattern 1988) that
 * only lane order and the recorded dependencies advance. An access that a clock does not order is a race. */
#include "program/check_rank.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

dsc_status check_refuse(const rank_check *c, const char *why)
{
    return DSC_FAIL(DSC_EINVAL, "check: rank %" PRId64 ", op %" PRId64 " (%s, layer %d): %s", c->rank, c->number,
                    DSC_OP_NAMES[c->op->kind], c->op->layer, why);
}

dsc_status check_refuse_buffer(const rank_check *c, const char *what, int32_t buffer)
{
    dsc_text text = {0};
    dsc_status status;

    dsc_text_add(&text, "%s %s", what, c->program->buffers[buffer].name);
    status = check_refuse(c, dsc_text_str(&text));
    dsc_text_fini(&text);
    return status;
}

static dsc_status check_span(const rank_check *c, dsc_span span, int64_t needed)
{
    const dsc_buffer *buffer;
    int64_t start;

    if (span.buffer < 0 || span.buffer >= c->program->buffer_count) return check_refuse(c, "an operand is no buffer");
    if (span.parts != 0 && span.parts != dsc_span_parts(c->plan))
        return check_refuse(c, "an operand is cut into other parts");
    span = dsc_span_at(span, c->place);
    buffer = &c->program->buffers[span.buffer];
    start = dsc_program_offset(c->program, span, c->use);
    if (c->use->copy[buffer->life] < 0 ||
        c->use->copy[buffer->life] >= c->program->regions[buffer->space][buffer->life].copies)
        return check_refuse_buffer(c, "there is no such copy of", span.buffer);
    if (span.bytes != needed || span.offset < 0 || span.offset + span.bytes > buffer->bytes || buffer->offset < 0 ||
        start + span.bytes > c->program->arena_bytes[buffer->space])
        return check_refuse_buffer(c, "the operand does not fit", span.buffer);
    return DSC_OK;
}

/* Each op in the lane of its kind; communication with somebody. */
static dsc_status check_lane(const rank_check *c, const dsc_template *template_)
{
    const dsc_op *op = c->op;
    bool is_message = op->kind == DSC_OP_SEND || op->kind == DSC_OP_RECV;
    int32_t worked_on = op->calls > 0 ? template_->calls[op->first_call].operands[0].buffer : -1;
    int space = worked_on < 0 || worked_on >= c->program->buffer_count ? DSC_SPACE_DEVICE
                                                                       : c->program->buffers[worked_on].space;

    if (op->lane != dsc_op_lane(op->kind, op->axis, space))
        return check_refuse(c, "is in another lane than its kind's");
    if (!dsc_op_is_communication(op->kind)) return op->axis < 0 ? DSC_OK : check_refuse(c, "goes over no axis");
    if (op->axis < 0 || op->axis >= DSC_AXIS_COUNT || is_message != (op->axis == DSC_AXIS_PP))
        return check_refuse(c, "goes over another axis than its kind's");
    if (is_message && (op->peer < 0 || op->peer >= dsc_plan_degree(c->plan, DSC_AXIS_PP)))
        return check_refuse(c, "names a stage that does not exist");
    if (!is_message && dsc_plan_group(c->plan, c->rank, op->axis) < 0)
        return check_refuse(c, "has no group on its axis");
    return DSC_OK;
}

/* What is scattered, gathered or exchanged is the parts of all members, one behind another. */
static dsc_status check_message(const rank_check *c)
{
    const dsc_op *op = c->op;
    int64_t members = dsc_plan_degree(c->plan, op->axis);
    dsc_status status = DSC_OK;

    DSC_TRY(check_span(c, op->data, op->kind == DSC_OP_REDUCE_SCATTER ? op->bytes / members : op->bytes));
    if (op->kind != DSC_OP_REDUCE_SCATTER && op->kind != DSC_OP_ALL_GATHER && op->kind != DSC_OP_ALL_TO_ALL) goto out;
    DSC_TRY(check_span(c, op->source, op->kind == DSC_OP_ALL_GATHER ? op->bytes / members : op->bytes));
    if (op->bytes % (members * dsc_dtype_bytes(op->type)) != 0)
        status = check_refuse(c, "its payload does not divide by the members of its group");
out:
    return status;
}

/* From one space to the other, as many bytes as are there. */
static dsc_status check_copy(const rank_check *c)
{
    const dsc_op *op = c->op;
    int from = op->kind == DSC_OP_COPY_IN ? DSC_SPACE_HOST : DSC_SPACE_DEVICE;
    dsc_status status = DSC_OK;

    DSC_TRY(check_span(c, op->source, op->bytes));
    DSC_TRY(check_span(c, op->data, op->bytes));
    if (c->program->buffers[op->source.buffer].space != from || c->program->buffers[op->data.buffer].space == from)
        status = check_refuse(c, "copies another way than its kind says");
out:
    return status;
}

/* Lists of present blocks are long enough in many a buffer: it has to be that of the layer's way to attend. Where there
 * is none nobody has written it, which is found below. */
static dsc_status check_layout(const rank_check *c, const dsc_call *call)
{
    int operand = call->shape.kernel == DSC_K_ATTENTION_FWD ? 3 : 5;
    int32_t layer = c->op->layer, own;

    if (!(call->shape.flags & DSC_HAS_LAYOUT)) return DSC_OK;
    if (layer < 0 || layer >= c->plan->model.layers) return check_refuse(c, "attends in no layer");
    own = c->program->layouts[c->plan->attention_of[layer]];
    if (own < 0 || own == call->operands[operand].buffer) return DSC_OK;
    return check_refuse_buffer(c, "reads the blocks of another layer's attention, of", call->operands[operand].buffer);
}

/* The host touches nothing of a device's memory; the device reaches the host's. */
static dsc_status check_reach(const rank_check *c, dsc_span span)
{
    if (c->op->lane != DSC_LANE_HOST || span.buffer < 0 || c->program->buffers[span.buffer].space == DSC_SPACE_HOST)
        return DSC_OK;
    return check_refuse_buffer(c, "works in the host, which cannot touch", span.buffer);
}

static dsc_status check_fit(const rank_check *c, const dsc_template *template_)
{
    dsc_status status = DSC_OK;

    DSC_TRY(check_lane(c, template_));
    if (dsc_op_is_communication(c->op->kind)) DSC_TRY(check_message(c));
    if (dsc_op_is_copy(c->op->kind)) DSC_TRY(check_copy(c));
    for (int32_t i = 0; i < c->op->calls; i++) {
        const dsc_call *call = &template_->calls[c->op->first_call + i];

        DSC_TRY(dsc_shape_check(&call->shape));
        for (int o = 0; o < DSC_KERNEL_OPERANDS; o++)
            if (dsc_operand_present(&call->shape, o)) {
                DSC_TRY(check_span(c, call->operands[o], dsc_operand_bytes(&call->shape, o)));
                DSC_TRY(check_reach(c, call->operands[o]));
            }
        if (dsc_kernel_workspace_bytes(&call->shape) > 0)
            DSC_TRY(check_span(c, call->workspace, dsc_kernel_workspace_bytes(&call->shape)));
        DSC_TRY(check_reach(c, call->workspace));
        DSC_TRY(check_layout(c, call));
    }
out:
    return status;
}

static bool is_ordered(const rank_check *c, int32_t lane, int32_t position)
{
    return lane == c->op->lane || c->clock[lane] >= position;
}

/* Content that a kernel may read here: written as this buffer; in a slot, and deferred, for this micro-batch and chunk;
 * else by this very use. */
static bool is_written(const rank_check *c, const atom_fact *fact, dsc_span span)
{
    int life = c->program->buffers[span.buffer].life;

    const dsc_use *writer = &c->uses[fact->writer_use];

    if (fact->buffer != span.buffer) return false;
    if (life == DSC_LIFE_SLOT || life == DSC_LIFE_DEFERRED)
        return writer->micro_batch == c->use->micro_batch && writer->chunk == c->use->chunk;
    return life == DSC_LIFE_STATIC || fact->writer_use == c->use_index;
}

static void visit_before(void *context, dsc_span span, bool is_read, bool writes)
{
    rank_check *c = context;
    int64_t first, count;

    span = dsc_span_at(span, c->place);
    dsc_atoms_of(&c->atoms, c->program, span, c->use, &first, &count);
    for (const atom_fact *fact = c->facts + first; count > 0 && c->status == DSC_OK; fact++, count--) {
        if (is_read && !is_written(c, fact, span))
            c->status = check_refuse_buffer(c, "reads what nobody wrote:", span.buffer);
        else if (!is_ordered(c, fact->writer_lane, fact->writer))
            c->status = check_refuse_buffer(c, "does not wait for what is written to", span.buffer);
        for (int lane = 0; writes && c->status == DSC_OK && lane < DSC_LANE_COUNT; lane++)
            if (!is_ordered(c, lane, fact->readers[lane]))
                c->status = check_refuse_buffer(c, "overwrites what another lane still reads:", span.buffer);
        if (c->status == DSC_OK) c->status = check_weights_before(c, fact, span, is_read);
        if (c->status == DSC_OK) c->status = check_sum_before(c, fact, span, is_read, writes);
    }
}

static void visit_after(void *context, dsc_span span, bool is_read, bool writes)
{
    rank_check *c = context;
    int64_t first, count;

    span = dsc_span_at(span, c->place);
    dsc_atoms_of(&c->atoms, c->program, span, c->use, &first, &count);
    for (atom_fact *fact = c->facts + first; count > 0; fact++, count--) {
        if (writes) {
            memset(fact->readers, 0, sizeof fact->readers);
            fact->writer_lane = c->op->lane;
            fact->writer = c->counts[c->op->lane];
            fact->writer_use = c->use_index;
            fact->buffer = span.buffer;
            fact->lacks = c->lacking;
            fact->is_behind = false;
            check_sum_after(c, fact, span, is_read);
        }
        if (is_read) check_sum_read(c, fact, span);
        if (is_read) fact->readers[c->op->lane] = c->counts[c->op->lane];
    }
}

/* What is sent is what this op has just made of all that it sends. */
static dsc_status check_made(const rank_check *c, const dsc_call *call)
{
    dsc_span x = dsc_span_at(call->operands[0], c->place);
    int64_t first, count;

    if (call->shape.kernel != DSC_K_SIGN_COMPRESS) return DSC_OK;
    dsc_atoms_of(&c->atoms, c->program, x, c->use, &first, &count);
    for (const atom_fact *fact = c->facts + first; count > 0; fact++, count--)
        if (fact->writer_lane != c->op->lane || fact->writer != c->counts[c->op->lane])
            return check_refuse_buffer(c, "compresses what it has not made, of", x.buffer);
    return DSC_OK;
}

/* The op's clock: its lane's last, and the clocks of all that it waits for. */
static dsc_status advance_clock(rank_check *c, const dsc_unfolded *unfolded)
{
    int lane = c->op->lane;
    int32_t place = c->counts[lane];
    const dsc_instance *instance = &unfolded->lanes[lane][place];

    if (place > 0) memcpy(c->clock, c->clocks[lane][place - 1], sizeof c->clock);
    else memset(c->clock, 0, sizeof c->clock);
    for (int32_t i = 0; i < instance->needs; i++) {
        dsc_need need = unfolded->needs[instance->first_need + i];

        if (need.count > c->counts[need.lane]) return check_refuse(c, "waits for an op that comes later: a cycle");
        for (int other = 0; other < DSC_LANE_COUNT; other++)
            c->clock[other] = DSC_MAX(c->clock[other], c->clocks[need.lane][need.count - 1][other]);
    }
    c->counts[lane]++;
    c->clock[lane] = c->counts[lane];
    memcpy(c->clocks[lane][place], c->clock, sizeof c->clock);
    return DSC_OK;
}

static dsc_status check_op(rank_check *c, const dsc_template *template_, const dsc_unfolded *unfolded)
{
    dsc_status status = DSC_OK;

    DSC_TRY(check_fit(c, template_));
    DSC_TRY(advance_clock(c, unfolded));
    c->moved = (atom_fact){.buffer = -1};
    if (dsc_op_is_communication(c->op->kind) || dsc_op_is_copy(c->op->kind)) {
        c->lacking = 0;
        dsc_op_visit(template_, c->op, visit_before, c);
        DSC_TRY(c->status);
        dsc_op_visit(template_, c->op, visit_after, c);
    }
    for (int32_t i = 0; i < c->op->calls; i++) {
        const dsc_call *call = &template_->calls[c->op->first_call + i];

        c->lacking = check_lacking(c, call);
        dsc_call_visit(call, visit_before, c);
        DSC_TRY(c->status);
        DSC_TRY(check_made(c, call));
        check_weights_call(c, call);
        dsc_call_visit(call, visit_after, c);
    }
out:
    return status;
}

/* Everything in lanes is over at a segment's end; slots, transients and scalars hold nothing that the next may
 * read. */
static void start_segment(rank_check *c)
{
    dsc_span scalars = {c->program->scalars, 0, c->program->buffers[c->program->scalars].bytes, 0};
    int64_t first, count;

    dsc_atoms_of(&c->atoms, c->program, scalars, NULL, &first, &count);
    memset(c->counts, 0, sizeof c->counts);
    for (int64_t a = 0; a < c->atoms.count; a++) {
        memset(c->facts[a].readers, 0, sizeof c->facts[a].readers);
        c->facts[a].writer = 0;
        if (c->facts[a].buffer >= 0 && c->program->buffers[c->facts[a].buffer].life != DSC_LIFE_STATIC)
            c->facts[a].buffer = -1;
    }
    for (int64_t a = first; a < first + count; a++) c->facts[a] = (atom_fact){.buffer = -1};
}

static bool has_passes(const dsc_segment *segment)
{
    for (int64_t u = 0; u < segment->use_count; u++)
        if (segment->uses[u].micro_batch >= 0) return true;
    return false;
}

static dsc_status check_segment(rank_check *c, int segment)
{
    const dsc_segment *seg = &c->program->segments[segment];
    dsc_unfolded unfolded = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_segment_unfold(c->program, segment, &unfolded));
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
        free(c->clocks[lane]);
        c->clocks[lane] = malloc((size_t)(unfolded.lane_counts[lane] + 1) * sizeof *c->clocks[lane]);
        if (c->clocks[lane] == NULL)
            DSC_TRY(DSC_FAIL(DSC_ENOMEM, "check: clocks of %" PRId64 " ops", unfolded.lane_counts[lane]));
    }
    c->segment = segment;
    start_segment(c);
    check_weights_start(c, has_passes(seg));
    for (int64_t u = 0; u < seg->use_count; u++) {
        const dsc_template *template_ = &c->program->templates[seg->uses[u].template_];

        c->uses = seg->uses;
        c->use = &seg->uses[u];
        c->use_index = (int32_t)u;
        for (int64_t i = 0; i < template_->op_count; i++) {
            c->op = &template_->ops[i];
            c->number = c->use->base + i;
            DSC_TRY(check_op(c, template_, &unfolded));
        }
    }
    if (has_passes(seg)) DSC_TRY(check_agreed(c));
out:
    dsc_unfolded_fini(&unfolded);
    return status;
}

static dsc_status check_written(const rank_check *c, int segment, const dsc_bucket *bucket, dsc_kept kept)
{
    const bool is_updated = segment == DSC_SEGMENT_UPDATE && kept == DSC_KEPT_PARAMETERS;
    const dsc_stage *stage = &c->plan->stages[c->program->stage];
    dsc_span span = is_updated ? check_weights_updated(c, bucket) : dsc_program_kept(c->program, bucket, kept);
    int64_t first, count;

    if (span.buffer < 0) return DSC_OK;
    dsc_atoms_of(&c->atoms, c->program, span, NULL, &first, &count);
    for (int64_t a = first; a < first + count; a++)
        if (c->facts[a].writer == 0 || c->facts[a].buffer != span.buffer)
            return DSC_FAIL(DSC_EINVAL,
                            "check: rank %" PRId64 ", segment %s: no op writes some of %s, weights of layer %" PRId64,
                            c->rank, DSC_SEGMENT_NAMES[segment], c->program->buffers[span.buffer].name,
                            c->plan->tensors[stage->shards[bucket->first].tensor].layer);
    return DSC_OK;
}

/* What the segment that has just been checked has to have written of a bucket, where it is kept: one that updates,
 * every weight, brought to where passes look for it, and what LAMB keeps beside it; spread brings them alone, and,
 * where replicas step by themselves, notes where from, as does anchor, for which errors begin anew. */
static bool has_to_write(const rank_check *c, int segment, const dsc_bucket *bucket, dsc_kept kept)
{
    const bool is_anchor = segment == DSC_SEGMENT_ANCHOR, is_spread = segment == DSC_SEGMENT_SPREAD;

    switch (kept) {
    case DSC_KEPT_MASTER: return !is_anchor && !is_spread;
    case DSC_KEPT_PARAMETERS: return !is_anchor && bucket->home[DSC_KEPT_MASTER] >= 0;
    case DSC_KEPT_ANCHOR: return c->plan->has_own_steps && (is_anchor || is_spread);
    case DSC_KEPT_FRESH:
    case DSC_KEPT_TRUST: return c->plan->has_trust && !is_spread;
    case DSC_KEPT_WORKER_ERROR:
    case DSC_KEPT_SERVER_ERROR: return is_anchor && c->plan->workers > 1;
    default: return false;
    }
}

static dsc_status check_updated(const rank_check *c, int segment)
{
    const dsc_stage *stage = &c->plan->stages[c->program->stage];
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < stage->bucket_count; i++)
        for (int kept = 0; kept < DSC_KEPT_COUNT; kept++)
            if (has_to_write(c, segment, &stage->buckets[i], kept))
                DSC_TRY(check_written(c, segment, &stage->buckets[i], kept));
out:
    return status;
}

/* ---- What holds something before the first step: parameters, optimizer states and layouts; of the gradients, what
 * lies between shards, and positions past the sequence, which stay zero */

/* What goes on behind the span, since no op says where that begins, is not known to hold anything. */
static void mark(rank_check *c, dsc_span span)
{
    const dsc_buffer *buffer = &c->program->buffers[span.buffer];
    const int64_t *bounds = c->atoms.bounds[buffer->space][DSC_LIFE_STATIC];
    int64_t count = c->atoms.counts[buffer->space][DSC_LIFE_STATIC], start = buffer->offset + span.offset;
    const int64_t end = start + span.bytes;

    for (int64_t a = dsc_atoms_at(bounds, count, start); a + 1 < count && bounds[a + 1] <= end; a++)
        c->facts[c->atoms.first[buffer->space][DSC_LIFE_STATIC] + a].buffer = span.buffer;
}

/* Elements of the flat order, of a bucket whose gradients are kept. */
static void mark_gradients(rank_check *c, const dsc_bucket *bucket, int64_t first, int64_t end)
{
    dsc_span whole = dsc_program_kept(c->program, bucket, DSC_KEPT_GRADIENTS);
    int64_t each = dsc_dtype_bytes(c->plan->gradient_type);

    mark(c, (dsc_span){whole.buffer, whole.offset + (first - bucket->first_elem) * each, (end - first) * each, 0});
}

static void mark_gaps(rank_check *c, const dsc_bucket *bucket)
{
    const dsc_stage *stage = &c->plan->stages[c->program->stage];
    int64_t end = bucket->first_elem;

    for (int64_t s = bucket->first; s < bucket->end; s++) {
        const dsc_shard *shard = &stage->shards[s];
        bool are_positions = c->plan->tensors[shard->tensor].role == DSC_ROLE_WPE;

        mark_gradients(c, bucket, end, shard->first);
        end = shard->first + shard->elems;
        if (are_positions && c->plan->config.strategy.tp == 1)
            end = shard->first + dsc_plan_tokens(c->plan) * shard->shape[1];
    }
    mark_gradients(c, bucket, end, bucket->first_elem + bucket->elems);
}

static void mark_initial(rank_check *c)
{
    const dsc_program *p = c->program;
    const dsc_stage *stage = &c->plan->stages[p->stage];
    static const dsc_kept states[] = {DSC_KEPT_PARAMETERS, DSC_KEPT_MASTER, DSC_KEPT_EXP_AVG, DSC_KEPT_EXP_AVG_SQ,
                                      DSC_KEPT_WORKER_ERROR, DSC_KEPT_SERVER_ERROR, DSC_KEPT_FRESH, DSC_KEPT_TRUST};

    for (int64_t a = 0; a < c->atoms.count; a++) c->facts[a].buffer = -1;
    for (int64_t i = 0; i < DSC_COUNT(states) * DSC_SPACE_COUNT; i++) {
        int32_t buffer = p->kept[states[i / DSC_SPACE_COUNT]][i % DSC_SPACE_COUNT];

        if (buffer >= 0) mark(c, (dsc_span){buffer, 0, p->buffers[buffer].bytes, 0});
    }
    for (int way = 0; way < DSC_PATTERNS; way++)
        if (p->layouts[way] >= 0) mark(c, (dsc_span){p->layouts[way], 0, p->buffers[p->layouts[way]].bytes, 0});
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        if (p->units[space] >= 0) mark(c, (dsc_span){p->units[space], 0, p->buffers[p->units[space]].bytes, 0});
        if (p->held[space] >= 0) mark(c, (dsc_span){p->held[space], 0, p->buffers[p->held[space]].bytes, 0});
    }
    for (int64_t i = 0; i < stage->bucket_count; i++)
        if (!stage->buckets[i].is_streamed) mark_gaps(c, &stage->buckets[i]);
}

/* That have to write something, where they are there. */
static bool is_updating(const dsc_program *program, int segment)
{
    if (segment == DSC_SEGMENT_EVALUATE || (dsc_segment_makes_gradients(segment) && segment != DSC_SEGMENT_DELAYED))
        return false;
    return segment == DSC_SEGMENT_UPDATE || segment == DSC_SEGMENT_SPREAD || program->segments[segment].use_count > 0;
}

static dsc_status check_place(const dsc_plan *plan, const dsc_program *program, int64_t rank, int64_t place)
{
    rank_check c = {.plan = plan, .program = program, .rank = rank, .place = place};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_atoms_create(program, &c.atoms));
    c.facts = calloc((size_t)c.atoms.count + 1, sizeof *c.facts);
    if (c.facts == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "check: %" PRId64 " atoms", c.atoms.count));
    c.all_parts = check_all_parts(plan);
    mark_initial(&c);
    check_weights_init(&c);
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) {
        DSC_TRY(check_segment(&c, s));
        if (is_updating(program, s)) DSC_TRY(check_updated(&c, s));
        if (s == DSC_SEGMENT_UPDATE) DSC_TRY(check_weights_end(&c));
    }
out:
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) free(c.clocks[lane]);
    free(c.facts);
    dsc_atoms_fini(&c.atoms);
    return status;
}

/* A program is that of many ranks, each with its part of a bucket: what holds in the first place and in the last takes
 * no part for another. */
dsc_status dsc_check_rank(const dsc_plan *plan, const dsc_program *program, int64_t rank)
{
    const bool has_parts = dsc_plan_scatters(plan) || plan->config.strategy.late_gather;
    const int64_t last = has_parts ? dsc_span_parts(plan) - 1 : 0;
    dsc_status status = DSC_OK;

    for (int64_t place = 0; place <= last; place += DSC_MAX(last, 1))
        DSC_TRY(check_place(plan, program, rank, place));
out:
    return status;
}
