/* Where the passes of a chunk leave what others need: slots, boxes, deferred gradients; and what stands in where
 * nothing was kept. */
#include "program/pass.h"

static int64_t act_bytes(const dsc_builder *b, int64_t rows, int64_t columns)
{
    return rows * columns * dsc_dtype_bytes(b->type);
}

int64_t pass_qkv_columns(const dsc_builder *b)
{
    const dsc_model *model = &b->plan->model;

    return (model->heads + 2 * model->kv_heads) / b->tp * (model->hidden / model->heads);
}

int64_t pass_context_columns(const dsc_builder *b) { return b->hidden / b->tp; }

int32_t pass_activations(dsc_builder *b, const char *name, dsc_life life, int64_t layer, int64_t bytes)
{
    return dsc_build_buffer(b, name, life, DSC_CLASS_ACTIVATIONS, layer, bytes);
}

/* Of all rows. */
int32_t pass_transient(dsc_builder *b, const char *name, int64_t layer, int64_t columns)
{
    return pass_activations(b, name, DSC_LIFE_TRANSIENT, layer, act_bytes(b, b->rows, columns));
}

/* C columns of the rows that the rank keeps. */
int32_t pass_kept(dsc_builder *b, const char *name, dsc_life life, int64_t layer)
{
    return pass_activations(b, name, life, layer, act_bytes(b, b->kept_rows, b->hidden));
}

int64_t pass_stats_bytes(const dsc_builder *b) { return 2 * b->kept_rows * dsc_dtype_bytes(DSC_FP32); }

/* What attention's scores leave behind: their log-sums, or, unfused, the probabilities. */
static int64_t lse_bytes(const dsc_builder *b, int64_t layer)
{
    int64_t rows = b->batch * (b->plan->model.heads / b->tp) * b->seq;

    return pass_stores_scores(b, layer) ? rows * b->seq * dsc_dtype_bytes(b->type) : rows * dsc_dtype_bytes(DSC_FP32);
}

dsc_dtype pass_type_of(const dsc_builder *b, dsc_span span, int64_t elems)
{
    return span.bytes == elems * dsc_dtype_bytes(b->plan->product_type) ? b->plan->product_type : b->type;
}

/* What nothing but products reads is kept in their type. */
static int64_t operand_bytes(const dsc_builder *b, int64_t rows, int64_t columns)
{
    return rows * columns * dsc_dtype_bytes(b->plan->product_type);
}

int32_t pass_uncast(dsc_builder *b, const char *name, int64_t layer, int32_t operand)
{
    const int64_t elems = pass_whole(b, operand).bytes / dsc_dtype_bytes(b->plan->product_type);

    if (b->plan->product_type == b->type) return operand;
    return pass_activations(b, name, DSC_LIFE_TRANSIENT, layer, elems * dsc_dtype_bytes(b->type));
}

/* Everything that a layer leaves for its backward but its input, where it is not there yet: lives[0] of what only the
 * inputs' gradients need, lives[1] of what the weights' need too. */
static void make_rest(dsc_builder *b, const dsc_life lives[2], int64_t layer, dsc_layer_buffers *out)
{
    const int64_t kept_bytes = act_bytes(b, b->kept_rows, b->hidden), fc_bytes = act_bytes(b, b->rows, pass_ffn(b));
    const struct { int32_t *buffer; const char *name; bool for_weights; int64_t bytes; } rows[] = {
        {&out->norm1, "norm1", true, operand_bytes(b, b->kept_rows, b->hidden)},
        {&out->stats1, "stats1", false, pass_stats_bytes(b)},
        {&out->qkv, "qkv", false, act_bytes(b, b->rows, pass_qkv_columns(b))},
        {&out->mid, "mid", false, kept_bytes},
        {&out->norm2, "norm2", true, operand_bytes(b, b->kept_rows, b->hidden)},
        {&out->stats2, "stats2", false, pass_stats_bytes(b)},
        {&out->fc, "fc", false, fc_bytes},
        {&out->gate, "gate", false, b->plan->model.gated ? fc_bytes : 0},
        {&out->act, "act", true, operand_bytes(b, b->rows, pass_ffn(b))},
        {&out->context, "context", true, act_bytes(b, b->rows, pass_context_columns(b))},
        {&out->lse, pass_stores_scores(b, layer) ? "probabilities" : "lse", false, lse_bytes(b, layer)},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++)
        if (*rows[i].buffer < 0 && rows[i].bytes > 0)
            *rows[i].buffer = pass_activations(b, rows[i].name, lives[rows[i].for_weights], layer, rows[i].bytes);
}

static const dsc_layer_buffers NO_BUFFERS = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

/* The core of attention alone is recomputed when recompute is selective, all but the layer's input when it is full. */
static void make_slot(dsc_builder *b, int recompute, int64_t layer, dsc_layer_buffers *out)
{
    static const dsc_life lives[2] = {DSC_LIFE_SLOT, DSC_LIFE_SLOT};

    if (recompute == DSC_RECOMPUTE_FULL) return;
    if (recompute == DSC_RECOMPUTE_SELECTIVE) out->context = out->lse = 0; /* not made */
    make_rest(b, lives, layer, out);
    if (recompute == DSC_RECOMPUTE_SELECTIVE) out->context = out->lse = -1;
}

/* What a split backward leaves for the weights' pass. */
static void make_deferred(dsc_builder *b, int64_t layer, const dsc_layer_buffers *slot, dsc_layer_deferred *out,
                          dsc_layer_buffers *again)
{
    const int64_t norm_bytes = operand_bytes(b, b->kept_rows, b->hidden);
    const int64_t again_bytes[] = {norm_bytes, act_bytes(b, b->rows, pass_context_columns(b)), norm_bytes,
                                   operand_bytes(b, b->rows, pass_ffn(b))};
    const int32_t in_slot[] = {slot->norm1, slot->context, slot->norm2, slot->act};
    int32_t *const buffers[] = {&again->norm1, &again->context, &again->norm2, &again->act};
    static const char *const names[] = {"norm1", "context", "norm2", "act"};

    out->dy = pass_kept(b, "dy", DSC_LIFE_DEFERRED, layer);
    out->dfc = pass_activations(b, "dfc", DSC_LIFE_DEFERRED, layer, act_bytes(b, b->rows, pass_ffn(b)));
    out->dgate = b->plan->model.gated ? pass_activations(b, "dgate", DSC_LIFE_DEFERRED, layer,
                                                         act_bytes(b, b->rows, pass_ffn(b))) : -1;
    out->dmid = pass_kept(b, "dmid", DSC_LIFE_DEFERRED, layer);
    out->dqkv = pass_activations(b, "dqkv", DSC_LIFE_DEFERRED, layer, act_bytes(b, b->rows, pass_qkv_columns(b)));
    for (int64_t i = 0; i < DSC_COUNT(buffers); i++)
        if (in_slot[i] < 0) *buffers[i] = pass_activations(b, names[i], DSC_LIFE_DEFERRED, layer, again_bytes[i]);
}

/* What messages bring and take has boxes, where it does not stay: an output that is kept has its gradient come in its
 * place. What is put aside has its place in the slot. */
static void make_input(dsc_builder *b, int64_t index, int64_t layer)
{
    const dsc_chunk_buffers *here = b->here;
    const bool is_end = index == here->chunk->layers, leaves = is_end && !here->chunk->has_head;
    const bool is_brought = index == 0 && !here->chunk->has_embedding;
    const bool is_sent = leaves && !b->plan->config.strategy.keeps_outputs;

    if (leaves || is_end || !b->is_saved)
        here->slots[index].x = pass_kept(b, "x", is_sent ? DSC_LIFE_BOX : DSC_LIFE_SLOT, layer);
    else if (is_brought) here->slots[index].x = pass_kept(b, "from_previous", DSC_LIFE_BOX, -1);
    if (is_end) return;
    here->saved[index] = b->is_saved ? pass_saved(b, layer) : -1;
}

/* Activations come from the stage before and go to the next, gradients the other way. */
static void make_parts(dsc_builder *b)
{
    dsc_chunk_buffers *here = b->here;

    for (int is_gradient = 0; is_gradient < 2; is_gradient++)
        for (int is_sent = 0; is_sent < 2; is_sent++) {
            const bool is_to_end = is_gradient == is_sent ? here->chunk->has_embedding : here->chunk->has_head;

            here->parts[is_gradient][is_sent] = -1;
            if (b->is_scattered && !is_to_end)
                here->parts[is_gradient][is_sent] =
                    pass_activations(b, is_sent ? "part to send" : "part received", DSC_LIFE_BOX, -1,
                                     act_bytes(b, b->kept_rows, b->hidden) / b->tp);
        }
}

void dsc_build_slots(dsc_builder *b)
{
    dsc_chunk_buffers *here = b->here;
    const dsc_chunk *chunk = here->chunk;

    here->tokens = here->from_next = here->to_previous = -1;
    if (chunk->has_embedding || chunk->has_head)
        here->tokens = pass_activations(b, "tokens", DSC_LIFE_SLOT, -1,
                                   b->batch * (b->seq + 1) * dsc_dtype_bytes(DSC_INT32));
    for (int64_t i = 0; i <= chunk->layers; i++) {
        bool is_end = i == chunk->layers;
        int64_t layer = is_end ? -1 : chunk->first_layer + i;

        here->slots[i] = NO_BUFFERS;
        make_input(b, i, layer);
        if (is_end) break;
        make_slot(b, dsc_plan_recompute(b->plan, i), layer, &here->slots[i]);
        here->kept[i] = NO_BUFFERS;
        if (b->is_split) make_deferred(b, layer, &here->slots[i], &here->deferred[i], &here->kept[i]);
    }
    if (b->plan->config.strategy.keeps_outputs) here->from_next = chunk->has_head ? -1 : here->slots[chunk->layers].x;
    else if (!chunk->has_head) here->from_next = pass_kept(b, "from_next", DSC_LIFE_BOX, -1);
    if (!chunk->has_embedding) here->to_previous = pass_kept(b, "to_previous", DSC_LIFE_BOX, -1);
    make_parts(b);
}

/* The layer's buffers in the pass under construction: its slot's, and, for what the slot does not keep, transients, or
 * what is kept for the pass of the weights. */
dsc_layer_buffers pass_buffers_of(dsc_builder *b, int64_t index)
{
    static const dsc_life lives[2] = {DSC_LIFE_TRANSIENT, DSC_LIFE_TRANSIENT};
    dsc_layer_buffers l = b->here->slots[index];
    const dsc_layer_buffers *again = &b->here->kept[index];

    if (b->pass.inputs != b->pass.weights) {
        if (l.norm1 < 0) l.norm1 = again->norm1;
        if (l.context < 0) l.context = again->context;
        if (l.norm2 < 0) l.norm2 = again->norm2;
        if (l.act < 0) l.act = again->act;
    }
    if (b->pass.inputs || !b->pass.weights) make_rest(b, lives, b->here->chunk->first_layer + index, &l);
    return l;
}
