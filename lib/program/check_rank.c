/* The check of one rank's program. It trusts nothing that the builders, the layout or the dependency pass believed: it
 * reads the finished program.
 *
 * The ops of a path are taken in the builders' order, each with a vector clock of its lanes (Fidge, Mattern 1988) that
 * only lane order and the recorded dependencies advance. An access that a clock does not order is a race. */
#include "program/build.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LACKS_SUM = 1, LACKS_BIAS = 2 };

/* What stands at an address: who wrote it, as which buffer, who read it since. */
typedef struct atom_fact {
    int32_t writer_lane, writer, buffer;      /* writer 0: before this segment, or never (buffer -1) */
    int32_t writer_use;
    int8_t lacks;                             /* LACKS_*: of a product that tensor ranks have in parts */
    int32_t readers[DSC_LANE_COUNT];
    /* of a gradient: axes (as bits) over which it has to be summed before it is used, and over which it was */
    int8_t needed_sums, sums;
    /* of a gradient, and of the loss: micro-batches that added to it, a sum that tells which, the last of them, how
     * often that one added and how often each before it did */
    int32_t parts, micro_batch, adds, adds_each;
    uint64_t which;
} atom_fact;

typedef struct rank_check {
    const dsc_plan *plan;
    const dsc_program *program;
    int64_t rank;
    dsc_atoms atoms;
    atom_fact *facts;
    int32_t (*clocks[DSC_LANE_COUNT])[DSC_LANE_COUNT]; /* [lane][position]: after that op, what is over in each lane */
    int32_t counts[DSC_LANE_COUNT];
    /* the op at hand */
    const dsc_op *op;
    const dsc_use *uses, *use;
    int32_t use_index, clock[DSC_LANE_COUNT];
    int64_t number;
    int8_t lacking;                           /* LACKS_*: what the call at hand leaves to be done */
    uint64_t all_parts;                       /* of a sum that all micro-batches have added to */
    dsc_status status;
} rank_check;

static dsc_status refuse(const rank_check *c, const char *why)
{
    return DSC_FAIL(DSC_EINVAL, "check: rank %" PRId64 ", op %" PRId64 " (%s, layer %d): %s", c->rank, c->number,
                    DSC_OP_NAMES[c->op->kind], c->op->layer, why);
}

static dsc_status refuse_buffer(const rank_check *c, const char *what, int32_t buffer)
{
    dsc_text text = {0};
    dsc_status status;

    dsc_text_add(&text, "%s %s", what, c->program->buffers[buffer].name);
    status = refuse(c, dsc_text_str(&text));
    dsc_text_fini(&text);
    return status;
}

static dsc_status check_span(const rank_check *c, dsc_span span, int64_t needed)
{
    const dsc_buffer *buffer;
    int64_t start;

    if (span.buffer < 0 || span.buffer >= c->program->buffer_count) return refuse(c, "an operand is no buffer");
    buffer = &c->program->buffers[span.buffer];
    start = dsc_program_offset(c->program, span, c->use);
    if (c->use->copy[buffer->life] < 0 ||
        c->use->copy[buffer->life] >= c->program->regions[buffer->space][buffer->life].copies)
        return refuse_buffer(c, "there is no such copy of", span.buffer);
    if (span.bytes != needed || span.offset < 0 || span.offset + span.bytes > buffer->bytes || buffer->offset < 0 ||
        start + span.bytes > c->program->arena_bytes[buffer->space])
        return refuse_buffer(c, "the operand does not fit", span.buffer);
    return DSC_OK;
}

/* Each op in the lane of its kind; communication with somebody. */
static dsc_status check_lane(const rank_check *c)
{
    const dsc_op *op = c->op;
    bool is_message = op->kind == DSC_OP_SEND || op->kind == DSC_OP_RECV;

    if (op->lane != dsc_op_lane(op->kind, op->axis)) return refuse(c, "is in another lane than its kind's");
    if (!dsc_op_is_communication(op->kind)) return op->axis < 0 ? DSC_OK : refuse(c, "goes over no axis");
    if (op->axis < 0 || op->axis >= DSC_AXIS_COUNT || is_message != (op->axis == DSC_AXIS_PP))
        return refuse(c, "goes over another axis than its kind's");
    if (is_message && (op->peer < 0 || op->peer >= dsc_plan_degree(c->plan, DSC_AXIS_PP)))
        return refuse(c, "names a stage that does not exist");
    if (!is_message && dsc_plan_group(c->plan, c->rank, op->axis) < 0) return refuse(c, "has no group on its axis");
    return DSC_OK;
}

/* What is scattered or gathered is the parts of all members, one behind another. */
static dsc_status check_message(const rank_check *c)
{
    const dsc_op *op = c->op;
    int64_t members = dsc_plan_degree(c->plan, op->axis);
    dsc_status status = DSC_OK;

    DSC_TRY(check_span(c, op->data, op->kind == DSC_OP_REDUCE_SCATTER ? op->bytes / members : op->bytes));
    if (op->kind != DSC_OP_REDUCE_SCATTER && op->kind != DSC_OP_ALL_GATHER) goto out;
    DSC_TRY(check_span(c, op->source, op->kind == DSC_OP_ALL_GATHER ? op->bytes / members : op->bytes));
    if (op->bytes % (members * dsc_dtype_bytes(op->type)) != 0)
        status = refuse(c, "its payload does not divide by the members of its group");
out:
    return status;
}

static dsc_status check_fit(const rank_check *c, const dsc_template *template_)
{
    dsc_status status = DSC_OK;

    DSC_TRY(check_lane(c));
    if (dsc_op_is_communication(c->op->kind)) DSC_TRY(check_message(c));
    for (int32_t i = 0; i < c->op->calls; i++) {
        const dsc_call *call = &template_->calls[c->op->first_call + i];

        DSC_TRY(dsc_shape_check(&call->shape));
        for (int o = 0; o < DSC_KERNEL_OPERANDS; o++)
            if (dsc_operand_present(&call->shape, o))
                DSC_TRY(check_span(c, call->operands[o], dsc_operand_bytes(&call->shape, o)));
        if (dsc_kernel_workspace_bytes(&call->shape) > 0)
            DSC_TRY(check_span(c, call->workspace, dsc_kernel_workspace_bytes(&call->shape)));
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

static bool is_gradient(const rank_check *c, dsc_span span) { return span.buffer == c->program->gradients; }

/* What micro-batches add to, one after another. */
static bool is_sum(const rank_check *c, dsc_span span)
{
    return is_gradient(c, span) || (span.buffer == c->program->scalars && span.offset == 0);
}

/* Adds to a sum, for a micro-batch; not what sums over a group. */
static bool is_add(const rank_check *c)
{
    return c->use->micro_batch >= 0 && !dsc_op_is_communication(c->op->kind);
}

/* Different for different sets of micro-batches, but for chance. */
static uint64_t mark_of(int64_t micro_batch)
{
    uint64_t x = (uint64_t)micro_batch + 1;

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ (x >> 27);
}

static bool has_all_parts(const rank_check *c, const atom_fact *fact)
{
    return fact->parts == c->plan->micro_batches && fact->which == c->all_parts;
}

/* A sum is left, for the next micro-batch or for its use, when the last added to it as often as those before; and used
 * when all have. */
static dsc_status check_sum(const rank_check *c, const atom_fact *fact)
{
    bool is_balanced = fact->parts < 2 || fact->adds == fact->adds_each;

    if (fact->adds == 0 || (is_add(c) && c->use->micro_batch == fact->micro_batch)) return DSC_OK;
    if (!is_balanced || (!is_add(c) && !has_all_parts(c, fact)))
        return refuse(c, "meets a sum to which some micro-batch has not added its part");
    return DSC_OK;
}

static dsc_status check_reduced(const rank_check *c, const atom_fact *fact)
{
    int missing = fact->needed_sums & ~fact->sums;
    char why[96];

    if (missing == 0 || (c->op->kind != DSC_OP_GRAD_NORM && c->op->kind != DSC_OP_UPDATE)) return DSC_OK;
    snprintf(why, sizeof why, "uses gradients that are not summed over %s",
             DSC_AXIS_NAMES[__builtin_ctz((unsigned)missing)]);
    return refuse(c, why);
}

/* What adds up a sum over tensor ranks: of activations, parts that wait for it; of gradients see check_reduced. */
static bool sums_parts(const rank_check *c)
{
    return c->op->axis == DSC_AXIS_TP && (c->op->kind == DSC_OP_ALL_REDUCE || c->op->kind == DSC_OP_REDUCE_SCATTER);
}

/* Parts are summed, once, before anything else reads them; then bias and residual are added. */
static dsc_status check_parts(const rank_check *c, const atom_fact *fact, dsc_span span)
{
    int allowed = sums_parts(c) ? LACKS_SUM | LACKS_BIAS : c->op->kind == DSC_OP_JOIN ? LACKS_BIAS : 0;
    int wrong = fact->lacks & ~allowed;

    if (is_gradient(c, span)) {
        if (c->op->axis < 0 || (fact->sums & (1 << c->op->axis)) == 0) return DSC_OK;
        return refuse(c, "sums gradients that were summed before");
    }
    if (wrong & LACKS_SUM) return refuse_buffer(c, "reads a part that is not summed over tp:", span.buffer);
    if (wrong & LACKS_BIAS) return refuse_buffer(c, "reads a product without its bias and residual:", span.buffer);
    if (sums_parts(c) && !(fact->lacks & LACKS_SUM))
        return refuse_buffer(c, "sums over tp what is whole:", span.buffer);
    return DSC_OK;
}

static void count_add(const rank_check *c, atom_fact *fact, bool is_read)
{
    if (!is_add(c)) {
        if (c->op->axis >= 0) fact->sums |= (int8_t)(1 << c->op->axis);
        return;
    }
    fact->sums = 0;
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

static void visit_before(void *context, dsc_span span, bool is_read, bool writes)
{
    rank_check *c = context;
    int64_t first, count;

    dsc_atoms_of(&c->atoms, c->program, span, c->use, &first, &count);
    for (const atom_fact *fact = c->facts + first; count > 0 && c->status == DSC_OK; fact++, count--) {
        if (is_read && !is_written(c, fact, span))
            c->status = refuse_buffer(c, "reads what nobody wrote:", span.buffer);
        else if (!is_ordered(c, fact->writer_lane, fact->writer))
            c->status = refuse_buffer(c, "does not wait for what is written to", span.buffer);
        for (int lane = 0; writes && c->status == DSC_OK && lane < DSC_LANE_COUNT; lane++)
            if (!is_ordered(c, lane, fact->readers[lane]))
                c->status = refuse_buffer(c, "overwrites what another lane still reads:", span.buffer);
        if (c->status == DSC_OK && is_read) c->status = check_parts(c, fact, span);
        if (is_read && sums_parts(c)) c->lacking = fact->lacks & LACKS_BIAS;
        if (c->status == DSC_OK && is_read && is_gradient(c, span)) c->status = check_reduced(c, fact);
        if (c->status == DSC_OK && is_sum(c, span)) c->status = check_sum(c, fact);
    }
}

static void visit_after(void *context, dsc_span span, bool is_read, bool writes)
{
    rank_check *c = context;
    int64_t first, count;

    dsc_atoms_of(&c->atoms, c->program, span, c->use, &first, &count);
    for (atom_fact *fact = c->facts + first; count > 0; fact++, count--) {
        if (writes) {
            memset(fact->readers, 0, sizeof fact->readers);
            fact->writer_lane = c->op->lane;
            fact->writer = c->counts[c->op->lane];
            fact->writer_use = c->use_index;
            fact->buffer = span.buffer;
            fact->lacks = c->lacking;
            if (is_sum(c, span)) count_add(c, fact, is_read);
        }
        if (is_read) fact->readers[c->op->lane] = c->counts[c->op->lane];
    }
}

/* The stage's shard that holds an element of the flat buffers. */
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

/* A product over a dimension that tensor ranks have cut is a part of the whole one, and so is an embedding. */
static int8_t lacking_after(const rank_check *c, const dsc_call *call)
{
    dsc_span weight = call->operands[1];
    bool is_transposed = call->shape.flags & DSC_TRANS_B;
    const dsc_tensor *tensor;

    if (c->plan->config.strategy.tp == 1) return 0;
    if (call->shape.kernel == DSC_K_EMBED_FWD) return LACKS_SUM;
    if (call->shape.kernel != DSC_K_GEMM || weight.buffer != c->program->parameters) return 0;
    tensor = &c->plan->tensors[shard_at(c, weight.offset / dsc_dtype_bytes(c->plan->type))->tensor];
    if (is_transposed) return tensor->cut == DSC_CUT_COLUMNS || tensor->cut == DSC_CUT_QKV ? LACKS_SUM : 0;
    if (tensor->role == DSC_ROLE_PROJ_W || tensor->role == DSC_ROLE_OUT_W) return LACKS_SUM | LACKS_BIAS;
    return tensor->cut == DSC_CUT_ROWS ? LACKS_SUM : 0;
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

        if (need.count > c->counts[need.lane]) return refuse(c, "waits for an op that comes later: a cycle");
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
    if (dsc_op_is_communication(c->op->kind)) {
        c->lacking = 0;
        dsc_op_visit(template_, c->op, visit_before, c);
        DSC_TRY(c->status);
        dsc_op_visit(template_, c->op, visit_after, c);
    }
    for (int32_t i = 0; i < c->op->calls; i++) {
        const dsc_call *call = &template_->calls[c->op->first_call + i];

        c->lacking = lacking_after(c, call);
        dsc_call_visit(call, visit_before, c);
        DSC_TRY(c->status);
        dsc_call_visit(call, visit_after, c);
    }
out:
    return status;
}

/* Everything in lanes is over at a segment's end; slots, transients and the loss hold nothing that the next may
 * read. */
static void start_segment(rank_check *c)
{
    int64_t loss, count;

    dsc_atoms_of(&c->atoms, c->program, (dsc_span){c->program->scalars, 0, dsc_dtype_bytes(DSC_FP64)}, NULL, &loss,
                 &count);
    memset(c->counts, 0, sizeof c->counts);
    for (int64_t a = 0; a < c->atoms.count; a++) {
        memset(c->facts[a].readers, 0, sizeof c->facts[a].readers);
        c->facts[a].writer = 0;
        if (c->facts[a].buffer >= 0 && c->program->buffers[c->facts[a].buffer].life != DSC_LIFE_STATIC)
            c->facts[a].buffer = -1;
    }
    c->facts[loss].buffer = -1;
    c->facts[loss].adds = 0;
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
    start_segment(c);
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
out:
    dsc_unfolded_fini(&unfolded);
    return status;
}

static bool is_in_shard(const rank_check *c, int64_t elem)
{
    const dsc_shard *shard = shard_at(c, elem);

    return elem >= shard->first && elem < shard->first + shard->elems;
}

/* Every parameter is updated by the segment that has just been checked. */
static dsc_status check_updated(const rank_check *c)
{
    const dsc_buffer *master = &c->program->buffers[c->program->master];
    const int64_t *bounds = c->atoms.bounds[master->space][DSC_LIFE_STATIC];

    int64_t count = c->atoms.counts[master->space][DSC_LIFE_STATIC], a = dsc_atoms_at(bounds, count, master->offset);

    for (; a < count && bounds[a] < master->offset + master->bytes; a++) {
        const atom_fact *fact = &c->facts[c->atoms.first[master->space][DSC_LIFE_STATIC] + a];

        if (fact->writer > 0 || fact->buffer != c->program->master || c->op == NULL) continue;
        if (is_in_shard(c, (bounds[a] - master->offset) / dsc_dtype_bytes(DSC_FP32)))
            return refuse(c, "is the segment's last, and some parameters are not updated");
    }
    return DSC_OK;
}

/* ---- What holds something before the first step: parameters and optimizer states; of the gradients, what lies between
 * shards, and positions past the sequence, which stay zero */

static void mark(rank_check *c, dsc_span span)
{
    const dsc_buffer *buffer = &c->program->buffers[span.buffer];
    const int64_t *bounds = c->atoms.bounds[buffer->space][DSC_LIFE_STATIC];
    int64_t count = c->atoms.counts[buffer->space][DSC_LIFE_STATIC], start = buffer->offset + span.offset;

    for (int64_t a = dsc_atoms_at(bounds, count, start); a < count && bounds[a] < start + span.bytes; a++)
        c->facts[c->atoms.first[buffer->space][DSC_LIFE_STATIC] + a].buffer = span.buffer;
}

/* Replicas sum all gradients; tensor ranks those of which each has a part only, under sequence parallelism; the first
 * and the last stage that of the embedding they share. */
static void need_sums(rank_check *c, const dsc_shard *shard)
{
    const dsc_strategy *strategy = &c->plan->config.strategy;
    int64_t each = dsc_dtype_bytes(c->plan->gradient_type), first, count;
    dsc_span span = {c->program->gradients, shard->first * each, shard->elems * each};
    int needed = strategy->dp > 1 ? 1 << DSC_AXIS_DP : 0;

    if (shard->is_replicated && strategy->sequence_parallel) needed |= 1 << DSC_AXIS_TP;
    if (c->plan->tensors[shard->tensor].role == DSC_ROLE_WTE && dsc_plan_degree(c->plan, DSC_AXIS_TIED) > 1)
        needed |= 1 << DSC_AXIS_TIED;
    dsc_atoms_of(&c->atoms, c->program, span, NULL, &first, &count);
    for (int64_t a = first; a < first + count; a++) c->facts[a].needed_sums = (int8_t)needed;
}

static void mark_initial(rank_check *c)
{
    const dsc_program *p = c->program;
    const dsc_stage *stage = &c->plan->stages[p->stage];
    const int32_t states[] = {p->parameters, p->master, p->exp_avg, p->exp_avg_sq};
    const int64_t scalar = dsc_dtype_bytes(DSC_FP64);
    int64_t each = dsc_dtype_bytes(c->plan->gradient_type);

    for (int64_t a = 0; a < c->atoms.count; a++) c->facts[a].buffer = -1;
    for (int64_t i = 0; i < DSC_COUNT(states); i++) mark(c, (dsc_span){states[i], 0, p->buffers[states[i]].bytes});
    mark(c, (dsc_span){p->scalars, DSC_SCALAR_STOP * scalar, scalar}); /* the executor's own */
    for (int64_t i = 0; i < stage->shard_count; i++) {
        const dsc_shard *shard = &stage->shards[i];
        int64_t next = i + 1 < stage->shard_count ? stage->shards[i + 1].first : stage->flat_elems;
        int64_t used = shard->first + shard->elems;

        if (c->plan->tensors[shard->tensor].role == DSC_ROLE_WPE && c->plan->config.strategy.tp == 1)
            used = shard->first + c->plan->config.strategy.seq_len * shard->shape[1];
        mark(c, (dsc_span){p->gradients, used * each, (next - used) * each});
        need_sums(c, shard);
    }
}

dsc_status dsc_check_rank(const dsc_plan *plan, const dsc_program *program, int64_t rank)
{
    rank_check c = {.plan = plan, .program = program, .rank = rank};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_atoms_create(program, &c.atoms));
    c.facts = calloc((size_t)c.atoms.count + 1, sizeof *c.facts);
    if (c.facts == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "check: %" PRId64 " atoms", c.atoms.count));
    for (int64_t i = 0; i < plan->micro_batches; i++) c.all_parts += mark_of(i);
    mark_initial(&c);
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) {
        DSC_TRY(check_segment(&c, s));
        if (s == DSC_SEGMENT_UPDATE) DSC_TRY(check_updated(&c));
    }
out:
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) free(c.clocks[lane]);
    free(c.facts);
    dsc_atoms_fini(&c.atoms);
    return status;
}
