/* The passes of a chunk over one micro-batch, read like the textbook: pre-LayerNorm GPT-2 (Radford et al. 2019), cut as
 * Megatron does (Shoeybi et al. 2019; sequence parallelism: Korthikanti et al. 2022). Rows are the micro-batch's
 * tokens, B * T; C the hidden size; F the MLP's and V the vocabulary, as the rank's shards have them. */
#include "program/build.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- Calls, one helper a kernel: operands in the order of the kernel table */

#define OPERANDS(...) ((const dsc_span[DSC_KERNEL_OPERANDS]){__VA_ARGS__})

static dsc_shape shape_of(const dsc_builder *b, dsc_kernel kernel, int flags, int64_t d0, int64_t d1, int64_t d2)
{
    return (dsc_shape){.kernel = (int16_t)kernel, .type = (int8_t)b->type, .out = (int8_t)b->type, .flags = flags,
                       .d = {d0, d1, d2}};
}

static dsc_span whole(const dsc_builder *b, int32_t buffer) { return dsc_span_whole(b, buffer); }

static dsc_span weight(const dsc_builder *b, int64_t layer, dsc_role role)
{
    return dsc_span_of(b, b->program->parameters, b->type, layer, role);
}

static dsc_span gradient(const dsc_builder *b, int64_t layer, dsc_role role)
{
    return dsc_span_of(b, b->program->gradients, b->gradient_type, layer, role);
}

/* Columns of a product's weight. */
static int64_t width(const dsc_builder *b, int64_t layer, dsc_role role)
{
    const dsc_shard *shard = dsc_build_shard(b, layer, role);

    return shard == NULL ? 0 : shard->shape[1];
}

/* Columns of the MLP's first product. */
static int64_t ffn(const dsc_builder *b) { return b->plan->model.ffn / b->tp; }

/* Vocabulary rows of the head's weight, padding included. */
static int64_t padded_vocab(const dsc_builder *b) { return dsc_build_shard(b, -1, DSC_ROLE_WTE)->padded_rows; }

/* A product whose result is summed over tensor ranks: its bias, added once, is another matter. */
static bool is_row_parallel(dsc_role role) { return role == DSC_ROLE_PROJ_W || role == DSC_ROLE_OUT_W; }

/* y[rows,n] = x[rows,k] * W[k,n] + bias (+ residual); of a row-parallel product on several ranks only x * W. */
static void product(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t residual, int32_t y)
{
    bool is_partial = b->is_cut && is_row_parallel(role);
    int flags = is_partial ? 0 : DSC_HAS_BIAS | (residual >= 0 ? DSC_HAS_RESIDUAL : 0);
    dsc_shape shape = shape_of(b, DSC_K_GEMM, flags, b->rows, width(b, layer, role), k);

    dsc_build_call(b, &shape, OPERANDS(whole(b, x), weight(b, layer, role), weight(b, layer, role + 1),
                                       whole(b, residual), whole(b, y)));
}

/* dx[rows,k] = dy[rows,n] * W[k,n]^T */
static void product_bwd_x(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int64_t k, int32_t dx)
{
    dsc_shape shape = shape_of(b, DSC_K_GEMM, DSC_TRANS_B, b->rows, k, width(b, layer, role));

    dsc_build_call(b, &shape, OPERANDS(whole(b, dy), weight(b, layer, role), DSC_NO_SPAN, DSC_NO_SPAN, whole(b, dx)));
}

/* dW[k,n] (+)= x[rows,k]^T * dy[rows,n], dbias[n] (+)= sum over rows of dy, of the rank's own rows where the bias is
 * whole on all tensor ranks and rows are cut (own_dy). */
static void product_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t dy,
                          int32_t own_dy)
{
    int64_t n = width(b, layer, role);
    int accumulate = b->pass.is_first_w ? 0 : DSC_ACCUMULATE;
    dsc_shape w = shape_of(b, DSC_K_GEMM, DSC_TRANS_A | accumulate, k, n, b->rows);
    dsc_shape bias = shape_of(b, DSC_K_COLUMN_SUM, accumulate, own_dy == dy ? b->rows : b->kept_rows, n, 0);

    w.out = bias.out = (int8_t)b->gradient_type;
    dsc_build_call(b, &w, OPERANDS(whole(b, x), whole(b, dy), DSC_NO_SPAN, DSC_NO_SPAN, gradient(b, layer, role)));
    dsc_build_call(b, &bias, OPERANDS(whole(b, own_dy), gradient(b, layer, role + 1)));
}

static void norm(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int32_t y, int32_t stats)
{
    dsc_shape shape = shape_of(b, DSC_K_NORM_FWD, 0, b->kept_rows, b->hidden, 0);

    dsc_build_call(b, &shape, OPERANDS(whole(b, x), weight(b, layer, role), weight(b, layer, role + 1), whole(b, y),
                                       whole(b, stats)));
}

static void norm_bwd_x(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats,
                       int32_t residual, int32_t dx)
{
    int flags = residual >= 0 ? DSC_HAS_RESIDUAL : 0;
    dsc_shape shape = shape_of(b, DSC_K_NORM_BWD_X, flags, b->kept_rows, b->hidden, 0);

    dsc_build_call(b, &shape, OPERANDS(whole(b, dy), whole(b, x), whole(b, stats), weight(b, layer, role),
                                       whole(b, residual), whole(b, dx)));
}

static void norm_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats)
{
    int accumulate = b->pass.is_first_x ? 0 : DSC_ACCUMULATE;
    dsc_shape shape = shape_of(b, DSC_K_NORM_BWD_W, accumulate, b->kept_rows, b->hidden, 0);

    shape.out = (int8_t)b->gradient_type;
    dsc_build_op(b, DSC_OP_NORM_BWD_W, layer);
    dsc_build_call(b, &shape, OPERANDS(whole(b, dy), whole(b, x), whole(b, stats), gradient(b, layer, role),
                                       gradient(b, layer, role + 1)));
    dsc_build_end(b);
    dsc_build_complete(b, layer, role);
    dsc_build_complete(b, layer, role + 1);
}

static dsc_shape heads(const dsc_builder *b, dsc_kernel kernel)
{
    const dsc_model *model = &b->plan->model;
    int flags = model->causal ? DSC_CAUSAL : 0;
    dsc_shape shape = shape_of(b, kernel, flags, b->batch, b->seq, model->heads / b->tp);

    shape.d[3] = model->kv_heads / b->tp;
    shape.d[4] = model->hidden / model->heads;
    return shape;
}

static bool stores_scores(const dsc_builder *b) { return dsc_equal(b->plan->attention_kernel, "dense-unfused"); }

static void mix(dsc_builder *b, const dsc_layer_buffers *l)
{
    dsc_shape shape = heads(b, stores_scores(b) ? DSC_K_SCORES_FWD : DSC_K_ATTENTION_FWD);

    dsc_build_call(b, &shape, OPERANDS(whole(b, l->qkv), whole(b, l->context), whole(b, l->lse)));
}

static void mix_bwd(dsc_builder *b, const dsc_layer_buffers *l, int32_t dcontext, int32_t dqkv)
{
    dsc_shape shape = heads(b, stores_scores(b) ? DSC_K_SCORES_BWD : DSC_K_ATTENTION_BWD);

    if (stores_scores(b))
        dsc_build_call(b, &shape, OPERANDS(whole(b, dcontext), whole(b, l->qkv), whole(b, l->lse), whole(b, dqkv)));
    else
        dsc_build_call(b, &shape, OPERANDS(whole(b, dcontext), whole(b, l->qkv), whole(b, l->context), whole(b, l->lse),
                                           whole(b, dqkv)));
}

static void activation(dsc_builder *b, dsc_kernel kernel, int32_t in, int32_t second, int32_t out)
{
    dsc_shape shape = shape_of(b, kernel, 0, b->rows * ffn(b), 0, 0);

    if (kernel == DSC_K_GELU_FWD) dsc_build_call(b, &shape, OPERANDS(whole(b, in), whole(b, out)));
    else dsc_build_call(b, &shape, OPERANDS(whole(b, in), whole(b, second), whole(b, out)));
}

/* ---- Buffers */

static int64_t act_bytes(const dsc_builder *b, int64_t rows, int64_t columns)
{
    return rows * columns * dsc_dtype_bytes(b->type);
}

static int64_t qkv_columns(const dsc_builder *b)
{
    const dsc_model *model = &b->plan->model;

    return (model->heads + 2 * model->kv_heads) / b->tp * (model->hidden / model->heads);
}

static int64_t context_columns(const dsc_builder *b) { return b->hidden / b->tp; }

static int32_t activations(dsc_builder *b, const char *name, dsc_life life, int64_t layer, int64_t bytes)
{
    return dsc_build_buffer(b, name, life, DSC_CLASS_ACTIVATIONS, layer, bytes);
}

/* Of all rows. */
static int32_t transient(dsc_builder *b, const char *name, int64_t layer, int64_t columns)
{
    return activations(b, name, DSC_LIFE_TRANSIENT, layer, act_bytes(b, b->rows, columns));
}

/* C columns of the rows that the rank keeps. */
static int32_t kept(dsc_builder *b, const char *name, dsc_life life, int64_t layer)
{
    return activations(b, name, life, layer, act_bytes(b, b->kept_rows, b->hidden));
}

static int64_t stats_bytes(const dsc_builder *b) { return 2 * b->kept_rows * dsc_dtype_bytes(DSC_FP32); }

/* What attention's scores leave behind: their log-sums, or, unfused, the probabilities. */
static int64_t lse_bytes(const dsc_builder *b)
{
    int64_t rows = b->batch * (b->plan->model.heads / b->tp) * b->seq;

    return stores_scores(b) ? rows * b->seq * dsc_dtype_bytes(b->type) : rows * dsc_dtype_bytes(DSC_FP32);
}

/* Everything that a layer leaves for its backward but its input, where it is not there yet: lives[0] of what only the
 * inputs' gradients need, lives[1] of what the weights' need too. */
static void make_rest(dsc_builder *b, const dsc_life lives[2], int64_t layer, dsc_layer_buffers *out)
{
    const int64_t kept_bytes = act_bytes(b, b->kept_rows, b->hidden), fc_bytes = act_bytes(b, b->rows, ffn(b));
    const struct { int32_t *buffer; const char *name; bool for_weights; int64_t bytes; } rows[] = {
        {&out->norm1, "norm1", true, kept_bytes},
        {&out->stats1, "stats1", false, stats_bytes(b)},
        {&out->qkv, "qkv", false, act_bytes(b, b->rows, qkv_columns(b))},
        {&out->mid, "mid", false, kept_bytes},
        {&out->norm2, "norm2", true, kept_bytes},
        {&out->stats2, "stats2", false, stats_bytes(b)},
        {&out->fc, "fc", false, fc_bytes},
        {&out->act, "act", true, fc_bytes},
        {&out->context, "context", true, act_bytes(b, b->rows, context_columns(b))},
        {&out->lse, stores_scores(b) ? "probabilities" : "lse", false, lse_bytes(b)},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++)
        if (*rows[i].buffer < 0)
            *rows[i].buffer = activations(b, rows[i].name, lives[rows[i].for_weights], layer, rows[i].bytes);
}

static const dsc_layer_buffers NO_BUFFERS = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

/* The core of attention alone is recomputed when recompute is selective, all but the layer's input when it is full. */
static void make_slot(dsc_builder *b, int64_t layer, dsc_layer_buffers *out)
{
    static const dsc_life lives[2] = {DSC_LIFE_SLOT, DSC_LIFE_SLOT};
    int recompute = b->plan->config.strategy.recompute;

    if (recompute == DSC_RECOMPUTE_FULL) return;
    if (recompute == DSC_RECOMPUTE_SELECTIVE) out->context = out->lse = 0; /* not made */
    make_rest(b, lives, layer, out);
    if (recompute == DSC_RECOMPUTE_SELECTIVE) out->context = out->lse = -1;
}

/* What a split backward leaves for the weights' pass. */
static void make_deferred(dsc_builder *b, int64_t layer, const dsc_layer_buffers *slot, dsc_layer_deferred *out,
                          dsc_layer_buffers *again)
{
    const int64_t again_bytes[] = {act_bytes(b, b->kept_rows, b->hidden), act_bytes(b, b->rows, context_columns(b)),
                                   act_bytes(b, b->kept_rows, b->hidden), act_bytes(b, b->rows, ffn(b))};
    const int32_t in_slot[] = {slot->norm1, slot->context, slot->norm2, slot->act};
    int32_t *const buffers[] = {&again->norm1, &again->context, &again->norm2, &again->act};
    static const char *const names[] = {"norm1", "context", "norm2", "act"};

    out->dy = kept(b, "dy", DSC_LIFE_DEFERRED, layer);
    out->dfc = activations(b, "dfc", DSC_LIFE_DEFERRED, layer, act_bytes(b, b->rows, ffn(b)));
    out->dmid = kept(b, "dmid", DSC_LIFE_DEFERRED, layer);
    out->dqkv = activations(b, "dqkv", DSC_LIFE_DEFERRED, layer, act_bytes(b, b->rows, qkv_columns(b)));
    for (int64_t i = 0; i < DSC_COUNT(buffers); i++)
        if (in_slot[i] < 0) *buffers[i] = activations(b, names[i], DSC_LIFE_DEFERRED, layer, again_bytes[i]);
}

void dsc_build_slots(dsc_builder *b)
{
    dsc_chunk_buffers *here = b->here;
    const dsc_chunk *chunk = here->chunk;

    here->tokens = here->from_next = here->to_previous = -1;
    if (chunk->has_embedding || chunk->has_head)
        here->tokens = activations(b, "tokens", DSC_LIFE_SLOT, -1,
                                   b->batch * (b->seq + 1) * dsc_dtype_bytes(DSC_INT32));
    for (int64_t i = 0; i <= chunk->layers; i++) {
        bool is_end = i == chunk->layers;
        int64_t layer = is_end ? -1 : chunk->first_layer + i;

        here->slots[i] = NO_BUFFERS;
        here->slots[i].x = kept(b, "x", is_end && !chunk->has_head ? DSC_LIFE_BOX : DSC_LIFE_SLOT, layer);
        if (is_end) break;
        make_slot(b, layer, &here->slots[i]);
        here->kept[i] = NO_BUFFERS;
        if (b->is_split) make_deferred(b, layer, &here->slots[i], &here->deferred[i], &here->kept[i]);
    }
    if (!chunk->has_head) here->from_next = kept(b, "from_next", DSC_LIFE_BOX, -1);
    if (!chunk->has_embedding) here->to_previous = kept(b, "to_previous", DSC_LIFE_BOX, -1);
}

/* The layer's buffers in the pass under construction: its slot's, and, for what the slot does not keep, transients, or
 * what is kept for the pass of the weights. */
static dsc_layer_buffers buffers_of(dsc_builder *b, int64_t index)
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

/* ---- Between tensor ranks: conjugate pairs (techniques: f and g; under sequence parallelism gather and scatter) */

static void tensor_op(dsc_builder *b, dsc_op_kind kind, int64_t layer, int32_t source, int32_t data, dsc_dtype type)
{
    dsc_build_collective(b, kind, DSC_AXIS_TP, layer, whole(b, source), whole(b, data), type);
}

/* All rows of what is kept by rows: itself where rows are not cut. */
static int32_t gathered(dsc_builder *b, const char *name, int64_t layer, int32_t own)
{
    int32_t all = own;

    if (!b->is_sequence_cut) return own;
    all = transient(b, name, layer, b->hidden);
    tensor_op(b, DSC_OP_ALL_GATHER, layer, own, all, b->type);
    return all;
}

/* Where partial sums of all rows are written that end up, summed, in `sum`, which holds the kept rows. */
static int32_t partial_of(dsc_builder *b, int64_t layer, int32_t sum)
{
    return b->is_sequence_cut ? transient(b, "partial", layer, b->hidden) : sum;
}

static void sum_partial(dsc_builder *b, int64_t layer, int32_t partial, int32_t sum)
{
    if (b->is_sequence_cut) tensor_op(b, DSC_OP_REDUCE_SCATTER, layer, partial, sum, b->type);
    else if (b->is_cut) tensor_op(b, DSC_OP_ALL_REDUCE, layer, -1, sum, b->type);
}

/* Begins a sublayer's op with its norm. Where rows are cut the norm is an op of its own, which a gather follows.
 * Returns the norm of all rows. */
static int32_t enter(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_role role, int32_t x, int32_t y,
                     int32_t stats)
{
    int32_t all;

    dsc_build_op(b, b->is_sequence_cut ? DSC_OP_NORM_FWD : kind, layer);
    norm(b, layer, role, x, y, stats);
    if (!b->is_sequence_cut) return y;
    dsc_build_end(b);
    all = gathered(b, "norm", layer, y);
    dsc_build_op(b, kind, layer);
    return all;
}

/* Ends a sublayer's op with its row-parallel product. Where it is cut, partial sums are summed over the tensor ranks, and
 * bias and residual are added once, after the sum. */
static void leave(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t residual, int32_t y)
{
    dsc_shape join = shape_of(b, DSC_K_JOIN, DSC_HAS_BIAS | DSC_HAS_RESIDUAL, b->kept_rows, b->hidden, 0);
    int32_t partial = partial_of(b, layer, y);

    product(b, layer, role, x, k, residual, partial);
    dsc_build_end(b);
    if (!b->is_cut) return;
    sum_partial(b, layer, partial, y);
    dsc_build_op(b, DSC_OP_JOIN, layer);
    dsc_build_call(b, &join, OPERANDS(whole(b, y), weight(b, layer, role + 1), whole(b, residual), whole(b, y)));
    dsc_build_end(b);
}

/* ---- Between stages */

/* Between virtual stages `lower` and lower + 1; of the two channels there activations have the even one. */
static void message(dsc_builder *b, dsc_op_kind kind, int64_t lower, bool is_gradient, int32_t buffer)
{
    int64_t pp = b->plan->config.strategy.pp;
    bool is_upwards = (kind == DSC_OP_SEND) != is_gradient;
    dsc_op *op = dsc_build_collective(b, kind, DSC_AXIS_PP, -1, DSC_NO_SPAN, whole(b, buffer), b->type);

    op->peer = (int32_t)((is_upwards ? lower + 1 : lower) % pp);
    op->channel = (int32_t)(2 * lower + is_gradient);
}

static int64_t virtual_stage(const dsc_builder *b)
{
    return b->chunk * b->plan->config.strategy.pp + b->program->stage;
}

/* ---- Forward */

/* The part of embeddings over tensor ranks that the kernels need to know. */
static void cut_embedding(const dsc_builder *b, dsc_shape *shape)
{
    shape->d[3] = padded_vocab(b);
    if (!b->is_cut) return;
    shape->flags |= DSC_SHARD;
    shape->d[4] = dsc_build_shard(b, -1, DSC_ROLE_WTE)->shape[0];
    shape->d[5] = dsc_build_shard(b, -1, DSC_ROLE_WPE)->shape[0];
}

/* Positions past the sequence stay out of it, where one rank has them all. */
static dsc_span positions(const dsc_builder *b, dsc_span wpe, dsc_dtype type)
{
    if (!b->is_cut) wpe.bytes = b->seq * b->hidden * dsc_dtype_bytes(type);
    return wpe;
}

static void load(dsc_builder *b)
{
    dsc_shape shape = {.kernel = DSC_K_LOAD, .type = DSC_INT32, .out = DSC_INT32, .d = {b->batch, b->seq}};

    dsc_build_op(b, DSC_OP_LOAD, -1);
    dsc_build_call(b, &shape, OPERANDS(whole(b, b->here->tokens)));
    dsc_build_end(b);
}

static void embed_fwd(dsc_builder *b)
{
    dsc_shape shape = shape_of(b, DSC_K_EMBED_FWD, 0, b->batch, b->seq, b->hidden);
    int32_t x = b->here->slots[0].x, partial = partial_of(b, -1, x);

    cut_embedding(b, &shape);
    dsc_build_op(b, DSC_OP_EMBED_FWD, -1);
    dsc_build_call(b, &shape,
                   OPERANDS(whole(b, b->here->tokens), weight(b, -1, DSC_ROLE_WTE),
                            positions(b, weight(b, -1, DSC_ROLE_WPE), b->type), whole(b, partial)));
    dsc_build_end(b);
    sum_partial(b, -1, partial, x);
}

static void attention_fwd(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_layer_buffers *l)
{
    l->whole1 = enter(b, kind, layer, DSC_ROLE_NORM1_W, l->x, l->norm1, l->stats1);
    product(b, layer, DSC_ROLE_QKV_W, l->whole1, b->hidden, -1, l->qkv);
    mix(b, l);
    leave(b, layer, DSC_ROLE_PROJ_W, l->context, context_columns(b), l->x, l->mid);
}

/* y -1: up to the activation, which is all that the backward needs again. */
static void mlp_fwd(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_layer_buffers *l, int32_t y)
{
    l->whole2 = enter(b, kind, layer, DSC_ROLE_NORM2_W, l->mid, l->norm2, l->stats2);
    product(b, layer, DSC_ROLE_FC_W, l->whole2, b->hidden, -1, l->fc);
    activation(b, DSC_K_GELU_FWD, l->fc, -1, l->act);
    if (y >= 0) leave(b, layer, DSC_ROLE_OUT_W, l->act, ffn(b), l->mid, y);
    else dsc_build_end(b);
}

/* Cross-entropy where one rank has all logits: loss, and their gradient in their place. */
static void cross_entropy(dsc_builder *b, int accumulate)
{
    dsc_shape shape = shape_of(b, DSC_K_CROSS_ENTROPY, accumulate, b->batch, b->seq, b->plan->model.vocab);

    shape.d[3] = padded_vocab(b);
    dsc_build_call(b, &shape, OPERANDS(whole(b, b->here->tokens), whole(b, b->logits),
                                       dsc_span_scalar(b, DSC_SCALAR_LOSS, 1)));
    dsc_build_end(b);
}

/* The same over tensor ranks: each brings maximum, sum of exponentials and target's logit of every row. */
static void cross_entropy_cut(dsc_builder *b, int accumulate)
{
    int64_t part_bytes = 3 * b->rows * dsc_dtype_bytes(DSC_FP32);
    int32_t part = activations(b, "loss_part", DSC_LIFE_TRANSIENT, -1, part_bytes);
    int32_t parts = activations(b, "loss_parts", DSC_LIFE_TRANSIENT, -1, b->tp * part_bytes);
    dsc_shape shape = shape_of(b, DSC_K_CROSS_ENTROPY_PART, 0, b->batch, b->seq, b->plan->model.vocab);

    shape.d[3] = padded_vocab(b);
    shape.d[4] = dsc_build_shard(b, -1, DSC_ROLE_WTE)->shape[0];
    dsc_build_call(b, &shape, OPERANDS(whole(b, b->here->tokens), whole(b, b->logits), whole(b, part)));
    dsc_build_end(b);
    tensor_op(b, DSC_OP_ALL_GATHER, -1, part, parts, DSC_FP32);
    shape.kernel = DSC_K_CROSS_ENTROPY_JOIN;
    shape.flags = accumulate;
    shape.d[5] = b->tp;
    dsc_build_op(b, DSC_OP_LOSS, -1);
    dsc_build_call(b, &shape, OPERANDS(whole(b, b->here->tokens), whole(b, parts), whole(b, b->logits),
                                       dsc_span_scalar(b, DSC_SCALAR_LOSS, 1)));
    dsc_build_end(b);
}

/* The head's buffers live within one pass only: logits are the largest activation of a small model. */
static void head_fwd(dsc_builder *b, int32_t x, int accumulate)
{
    dsc_shape shape = shape_of(b, DSC_K_GEMM, DSC_TRANS_B, b->rows, padded_vocab(b), b->hidden);

    b->normf = kept(b, "normf", DSC_LIFE_TRANSIENT, -1);
    b->statsf = activations(b, "statsf", DSC_LIFE_TRANSIENT, -1, stats_bytes(b));
    b->logits = transient(b, "logits", -1, padded_vocab(b));
    b->whole_normf = enter(b, DSC_OP_HEAD_FWD, -1, DSC_ROLE_NORMF_W, x, b->normf, b->statsf);
    dsc_build_call(b, &shape, OPERANDS(whole(b, b->whole_normf), weight(b, -1, DSC_ROLE_WTE), DSC_NO_SPAN, DSC_NO_SPAN,
                                       whole(b, b->logits)));
    if (b->is_cut) cross_entropy_cut(b, accumulate);
    else cross_entropy(b, accumulate);
}

static void name_template(dsc_builder *b, const char *name)
{
    char full[48];

    if (b->stage->chunk_count > 1) snprintf(full, sizeof full, "%s, chunk %d", name, b->chunk);
    else snprintf(full, sizeof full, "%s", name);
    dsc_build_template(b, full);
}

void dsc_build_forward(dsc_builder *b)
{
    const dsc_chunk *chunk = b->here->chunk;

    name_template(b, "forward");
    if (b->status == DSC_OK) b->template_->is_forward = true;
    b->pass = (dsc_backward){0};
    if (b->here->tokens >= 0) load(b);
    if (chunk->has_embedding) embed_fwd(b);
    else message(b, DSC_OP_RECV, virtual_stage(b) - 1, false, b->here->slots[0].x);
    for (int64_t i = 0; i < chunk->layers; i++) {
        dsc_layer_buffers l = buffers_of(b, i);

        attention_fwd(b, DSC_OP_ATTENTION_FWD, chunk->first_layer + i, &l);
        mlp_fwd(b, DSC_OP_MLP_FWD, chunk->first_layer + i, &l, b->here->slots[i + 1].x);
    }
    if (!chunk->has_head) message(b, DSC_OP_SEND, virtual_stage(b), false, b->here->slots[chunk->layers].x);
}

void dsc_build_loss(dsc_builder *b, bool is_first)
{
    name_template(b, is_first ? "loss" : "loss+add");
    head_fwd(b, b->here->slots[b->here->chunk->layers].x, is_first ? 0 : DSC_ACCUMULATE);
}

/* ---- Backward: dy is the gradient of a sublayer's output, what is returned that of its input */

/* Where the gradient of a layer's x is written (index layers: of the head's). */
static int32_t gradient_of_x(dsc_builder *b, int64_t index)
{
    const dsc_chunk_buffers *here = b->here;
    int64_t layers = here->chunk->layers;
    bool is_deferred = index > 0 && !b->pass.weights;

    if (index == layers && !here->chunk->has_head && !is_deferred) return here->from_next;
    if (index == 0 && !here->chunk->has_embedding) return here->to_previous;
    if (is_deferred) return here->deferred[index - 1].dy;
    return kept(b, "dx", DSC_LIFE_TRANSIENT, index > 0 ? here->chunk->first_layer + index - 1 : -1);
}

/* A sublayer's way back through its norm: dx = residual + gradient of the norm's input, dnorm being that of its output,
 * which tensor ranks have in parts. */
typedef struct norm_bwd { int64_t layer; dsc_role role; int32_t x, stats, residual, dnorm, partial, dx; } norm_bwd;

static void make_dnorm(dsc_builder *b, const char *name, norm_bwd *n)
{
    n->dnorm = kept(b, name, DSC_LIFE_TRANSIENT, n->layer);
    n->partial = partial_of(b, n->layer, n->dnorm);
}

static void back_through(dsc_builder *b, const norm_bwd *n)
{
    norm_bwd_x(b, n->layer, n->role, n->dnorm, n->x, n->stats, n->residual, n->dx);
    dsc_build_end(b);
    if (n->dx == b->here->to_previous) message(b, DSC_OP_SEND, virtual_stage(b) - 1, true, n->dx);
}

/* Ends the op that made the parts. Where there are several, their sum is under way while the weights' gradients are
 * computed. */
static void end_parts(dsc_builder *b, const norm_bwd *n)
{
    if (!b->is_cut) {
        back_through(b, n);
        return;
    }
    dsc_build_end(b);
    sum_partial(b, n->layer, n->partial, n->dnorm);
}

static void end_norm(dsc_builder *b, const norm_bwd *n)
{
    if (b->is_cut) {
        dsc_build_op(b, DSC_OP_NORM_BWD_X, n->layer);
        back_through(b, n);
    }
    norm_bwd_w(b, n->layer, n->role, n->dnorm, n->x, n->stats);
}

/* A product and its bias. */
static void complete_product(dsc_builder *b, int64_t layer, dsc_role role)
{
    dsc_build_complete(b, layer, role);
    dsc_build_complete(b, layer, role + 1);
}

static void head_bwd(dsc_builder *b, int32_t x, int32_t dx)
{
    int accumulate = b->pass.is_first_x ? 0 : DSC_ACCUMULATE;
    dsc_shape gx = shape_of(b, DSC_K_GEMM, 0, b->rows, b->hidden, padded_vocab(b));
    dsc_shape gw = shape_of(b, DSC_K_GEMM, DSC_TRANS_A | accumulate, padded_vocab(b), b->hidden, b->rows);
    norm_bwd n = {-1, DSC_ROLE_NORMF_W, x, b->statsf, -1, -1, -1, dx};

    gw.out = (int8_t)b->gradient_type;
    make_dnorm(b, "dnormf", &n);
    dsc_build_op(b, DSC_OP_HEAD_BWD_X, -1);
    dsc_build_call(b, &gx, OPERANDS(whole(b, b->logits), weight(b, -1, DSC_ROLE_WTE), DSC_NO_SPAN, DSC_NO_SPAN,
                                    whole(b, n.partial)));
    end_parts(b, &n);
    dsc_build_op(b, DSC_OP_HEAD_BWD_W, -1);
    dsc_build_call(b, &gw, OPERANDS(whole(b, b->logits), whole(b, b->whole_normf), DSC_NO_SPAN, DSC_NO_SPAN,
                                    gradient(b, -1, DSC_ROLE_WTE)));
    dsc_build_end(b);
    if (!b->here->chunk->has_embedding) dsc_build_complete(b, -1, DSC_ROLE_WTE);
    end_norm(b, &n);
}

/* all_dy: of all rows; dy: of those kept. */
static void mlp_bwd_w(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t all_dy, int32_t dy,
                      int32_t dfc)
{
    dsc_build_op(b, DSC_OP_MLP_BWD_W, layer);
    product_bwd_w(b, layer, DSC_ROLE_OUT_W, l->act, ffn(b), all_dy, dy);
    product_bwd_w(b, layer, DSC_ROLE_FC_W, l->whole2, b->hidden, dfc, dfc);
    dsc_build_end(b);
    complete_product(b, layer, DSC_ROLE_OUT_W);
    complete_product(b, layer, DSC_ROLE_FC_W);
}

static void attention_bwd_w(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t all_dmid, int32_t dmid,
                            int32_t dqkv)
{
    dsc_build_op(b, DSC_OP_ATTENTION_BWD_W, layer);
    product_bwd_w(b, layer, DSC_ROLE_PROJ_W, l->context, context_columns(b), all_dmid, dmid);
    product_bwd_w(b, layer, DSC_ROLE_QKV_W, l->whole1, b->hidden, dqkv, dqkv);
    dsc_build_end(b);
    complete_product(b, layer, DSC_ROLE_PROJ_W);
    complete_product(b, layer, DSC_ROLE_QKV_W);
}

/* The norm of all rows, which the weights' gradients need: gathered again where the pass has not done so. */
static int32_t regathered(dsc_builder *b, int64_t layer, int32_t all, int32_t own)
{
    return all >= 0 || !b->pass.weights ? all : gathered(b, "norm", layer, own);
}

static int32_t mlp_bwd(dsc_builder *b, int64_t index, dsc_layer_buffers *l, int32_t dy)
{
    const dsc_layer_deferred *deferred = &b->here->deferred[index];
    bool is_fused = b->pass.weights;
    int64_t layer = b->here->chunk->first_layer + index;
    int32_t dfc = is_fused ? transient(b, "dfc", layer, ffn(b)) : deferred->dfc;
    int32_t all_dy = gathered(b, "dy", layer, dy);
    norm_bwd n = {layer, DSC_ROLE_NORM2_W, l->mid, l->stats2, dy, -1, -1, deferred->dmid};

    if (is_fused) n.dx = kept(b, "dmid", DSC_LIFE_TRANSIENT, layer);
    make_dnorm(b, "dnorm2", &n);
    l->whole2 = regathered(b, layer, l->whole2, l->norm2);
    dsc_build_op(b, DSC_OP_MLP_BWD_X, layer);
    product_bwd_x(b, layer, DSC_ROLE_OUT_W, all_dy, ffn(b), dfc);
    activation(b, DSC_K_GELU_BWD, dfc, l->fc, dfc);
    product_bwd_x(b, layer, DSC_ROLE_FC_W, dfc, b->hidden, n.partial);
    end_parts(b, &n);
    if (is_fused) mlp_bwd_w(b, layer, l, all_dy, dy, dfc);
    end_norm(b, &n);
    return n.dx;
}

static int32_t attention_bwd(dsc_builder *b, int64_t index, dsc_layer_buffers *l, int32_t dmid)
{
    bool is_fused = b->pass.weights;
    int64_t layer = b->here->chunk->first_layer + index;
    int32_t dcontext = transient(b, "dcontext", layer, context_columns(b));
    int32_t dqkv = is_fused ? transient(b, "dqkv", layer, qkv_columns(b)) : b->here->deferred[index].dqkv;
    int32_t all_dmid = gathered(b, "dmid", layer, dmid);
    norm_bwd n = {layer, DSC_ROLE_NORM1_W, l->x, l->stats1, dmid, -1, -1, gradient_of_x(b, index)};

    make_dnorm(b, "dnorm1", &n);
    l->whole1 = regathered(b, layer, l->whole1, l->norm1);
    dsc_build_op(b, DSC_OP_ATTENTION_BWD_X, layer);
    product_bwd_x(b, layer, DSC_ROLE_PROJ_W, all_dmid, context_columns(b), dcontext);
    mix_bwd(b, l, dcontext, dqkv);
    product_bwd_x(b, layer, DSC_ROLE_QKV_W, dqkv, b->hidden, n.partial);
    end_parts(b, &n);
    if (is_fused) attention_bwd_w(b, layer, l, all_dmid, dmid, dqkv);
    end_norm(b, &n);
    return n.dx;
}

/* Where the head is, it has written the tied embedding's gradient before. */
static void embed_bwd(dsc_builder *b, int32_t dx)
{
    int first = b->here->chunk->has_head ? 0 : DSC_FIRST;
    dsc_shape shape = shape_of(b, DSC_K_EMBED_BWD, b->pass.is_first_x ? first : DSC_ACCUMULATE, b->batch, b->seq, b->hidden);
    int32_t all_dx = gathered(b, "dx", -1, dx);

    shape.out = (int8_t)b->gradient_type;
    cut_embedding(b, &shape);
    dsc_build_op(b, DSC_OP_EMBED_BWD_W, -1);
    dsc_build_call(b, &shape,
                   OPERANDS(whole(b, b->here->tokens), whole(b, all_dx), gradient(b, -1, DSC_ROLE_WTE),
                            positions(b, gradient(b, -1, DSC_ROLE_WPE), b->gradient_type)));
    dsc_build_end(b);
    dsc_build_complete(b, -1, DSC_ROLE_WTE);
    dsc_build_complete(b, -1, DSC_ROLE_WPE);
}

/* What the slot did not keep of the layer, made again. */
static void recompute(dsc_builder *b, int64_t layer, dsc_layer_buffers *l)
{
    int how = b->plan->config.strategy.recompute;

    if (how == DSC_RECOMPUTE_SELECTIVE) {
        dsc_build_op(b, DSC_OP_ATTENTION_AGAIN, layer);
        mix(b, l);
        dsc_build_end(b);
    } else if (how == DSC_RECOMPUTE_FULL) {
        attention_fwd(b, DSC_OP_ATTENTION_AGAIN, layer, l);
        mlp_fwd(b, DSC_OP_MLP_AGAIN, layer, l, -1);
    }
}

/* With the inputs' gradients, alone or with the weights'. */
static void backward(dsc_builder *b)
{
    const dsc_chunk *chunk = b->here->chunk;
    int32_t x = b->here->slots[chunk->layers].x, dy = gradient_of_x(b, chunk->layers);

    if (chunk->has_head) {
        head_fwd(b, x, b->pass.is_first_x ? 0 : DSC_ACCUMULATE);
        head_bwd(b, x, dy);
    } else {
        message(b, DSC_OP_RECV, virtual_stage(b), true, dy);
    }
    for (int64_t i = chunk->layers - 1; i >= 0; i--) {
        dsc_layer_buffers l = buffers_of(b, i);

        recompute(b, chunk->first_layer + i, &l);
        dy = mlp_bwd(b, i, &l, dy);
        dy = attention_bwd(b, i, &l, dy);
    }
    if (chunk->has_embedding) embed_bwd(b, dy);
}

/* What the pass of the inputs' gradients has completed before. */
static void complete_inputs(dsc_builder *b)
{
    const dsc_chunk *chunk = b->here->chunk;
    static const dsc_role roles[] = {DSC_ROLE_NORM1_W, DSC_ROLE_NORM1_B, DSC_ROLE_NORM2_W, DSC_ROLE_NORM2_B};
    static const dsc_role outside[] = {DSC_ROLE_WTE, DSC_ROLE_WPE, DSC_ROLE_NORMF_W, DSC_ROLE_NORMF_B};

    for (int64_t i = 0; i < DSC_COUNT(outside); i++) dsc_build_complete(b, -1, outside[i]);
    for (int64_t layer = chunk->first_layer; layer < chunk->first_layer + chunk->layers; layer++)
        for (int64_t i = 0; i < DSC_COUNT(roles); i++) dsc_build_complete(b, layer, roles[i]);
}

/* The weights' gradients that a pass of the inputs' alone has left. */
static void backward_w(dsc_builder *b)
{
    const dsc_chunk *chunk = b->here->chunk;

    complete_inputs(b);
    for (int64_t i = chunk->layers - 1; i >= 0; i--) {
        const dsc_layer_deferred *deferred = &b->here->deferred[i];
        dsc_layer_buffers l = buffers_of(b, i);
        int64_t layer = chunk->first_layer + i;

        l.whole2 = gathered(b, "norm", layer, l.norm2);
        mlp_bwd_w(b, layer, &l, gathered(b, "dy", layer, deferred->dy), deferred->dy, deferred->dfc);
        l.whole1 = gathered(b, "norm", layer, l.norm1);
        attention_bwd_w(b, layer, &l, gathered(b, "dmid", layer, deferred->dmid), deferred->dmid, deferred->dqkv);
    }
}

void dsc_build_backward(dsc_builder *b, dsc_backward pass)
{
    bool is_first = (!pass.inputs || pass.is_first_x) && (!pass.weights || pass.is_first_w);
    char name[32];

    b->pass = pass;
    b->is_reducing = pass.is_last && b->plan->config.strategy.dp > 1;
    snprintf(name, sizeof name, "backward%s%s%s", pass.inputs && pass.weights ? "" : pass.inputs ? "_x" : "_w",
             is_first ? "" : "+add", b->is_reducing ? "+reduce" : "");
    name_template(b, name);
    if (pass.inputs) backward(b);
    else backward_w(b);
    b->is_reducing = false;
}
