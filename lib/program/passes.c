/* The passes of a chunk over one micro-batch, read like the textbook: pre-LayerNorm GPT-2 (Radford et al. 2019). Rows
 * are the micro-batch's tokens, B * T; C the hidden size; F the MLP's; V the vocabulary as padded in the shard. */
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

/* Vocabulary rows of the head's weight, padding included. */
static int64_t padded_vocab(const dsc_builder *b) { return dsc_build_shard(b, -1, DSC_ROLE_WTE)->padded_rows; }

/* y[rows,n] = x[rows,k] * W[k,n] + bias (+ residual) */
static void product(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t residual, int32_t y)
{
    int flags = DSC_HAS_BIAS | (residual >= 0 ? DSC_HAS_RESIDUAL : 0);
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

/* dW[k,n] (+)= x[rows,k]^T * dy[rows,n], dbias[n] (+)= sum over rows of dy */
static void product_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t dy,
                          int accumulate)
{
    int64_t n = width(b, layer, role);
    dsc_shape w = shape_of(b, DSC_K_GEMM, DSC_TRANS_A | accumulate, k, n, b->rows);
    dsc_shape bias = shape_of(b, DSC_K_COLUMN_SUM, accumulate, b->rows, n, 0);

    w.out = bias.out = (int8_t)b->gradient_type;
    dsc_build_call(b, &w, OPERANDS(whole(b, x), whole(b, dy), DSC_NO_SPAN, DSC_NO_SPAN, gradient(b, layer, role)));
    dsc_build_call(b, &bias, OPERANDS(whole(b, dy), gradient(b, layer, role + 1)));
}

static void norm(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int32_t y, int32_t stats)
{
    dsc_shape shape = shape_of(b, DSC_K_NORM_FWD, 0, b->rows, b->hidden, 0);

    dsc_build_call(b, &shape, OPERANDS(whole(b, x), weight(b, layer, role), weight(b, layer, role + 1), whole(b, y),
                                       whole(b, stats)));
}

static void norm_bwd_x(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats,
                       int32_t residual, int32_t dx)
{
    dsc_shape shape = shape_of(b, DSC_K_NORM_BWD_X, residual >= 0 ? DSC_HAS_RESIDUAL : 0, b->rows, b->hidden, 0);

    dsc_build_call(b, &shape, OPERANDS(whole(b, dy), whole(b, x), whole(b, stats), weight(b, layer, role),
                                       whole(b, residual), whole(b, dx)));
}

static void norm_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats,
                       int accumulate)
{
    dsc_shape shape = shape_of(b, DSC_K_NORM_BWD_W, accumulate, b->rows, b->hidden, 0);

    shape.out = (int8_t)b->gradient_type;
    dsc_build_call(b, &shape, OPERANDS(whole(b, dy), whole(b, x), whole(b, stats), gradient(b, layer, role),
                                       gradient(b, layer, role + 1)));
}

static dsc_shape heads(const dsc_builder *b, dsc_kernel kernel)
{
    const dsc_model *model = &b->plan->model;
    dsc_shape shape = shape_of(b, kernel, model->causal ? DSC_CAUSAL : 0, b->batch, b->seq, model->heads);

    shape.d[3] = model->kv_heads;
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
    dsc_shape shape = shape_of(b, kernel, 0, b->rows * b->plan->model.ffn, 0, 0);

    if (kernel == DSC_K_GELU_FWD) dsc_build_call(b, &shape, OPERANDS(whole(b, in), whole(b, out)));
    else dsc_build_call(b, &shape, OPERANDS(whole(b, in), whole(b, second), whole(b, out)));
}

/* ---- Buffers */

static int64_t act_bytes(const dsc_builder *b, int64_t columns) { return b->rows * columns * dsc_dtype_bytes(b->type); }

static int64_t qkv_columns(const dsc_builder *b)
{
    const dsc_model *model = &b->plan->model;

    return (model->heads + 2 * model->kv_heads) * (model->hidden / model->heads);
}

static int32_t transient(dsc_builder *b, const char *name, int64_t layer, int64_t columns)
{
    return dsc_build_buffer(b, name, DSC_LIFE_TRANSIENT, DSC_CLASS_ACTIVATIONS, layer, act_bytes(b, columns));
}

/* What attention's scores leave behind: their log-sums, or, unfused, the probabilities. */
static int64_t lse_bytes(const dsc_builder *b)
{
    int64_t rows = b->batch * b->plan->model.heads * b->seq;

    return stores_scores(b) ? rows * b->seq * dsc_dtype_bytes(b->type) : rows * dsc_dtype_bytes(DSC_FP32);
}

static void make_core(dsc_builder *b, dsc_life life, int64_t layer, dsc_layer_buffers *out)
{
    out->context = dsc_build_buffer(b, "context", life, DSC_CLASS_ACTIVATIONS, layer, act_bytes(b, b->hidden));
    out->lse = dsc_build_buffer(b, stores_scores(b) ? "probabilities" : "lse", life, DSC_CLASS_ACTIVATIONS, layer,
                                lse_bytes(b));
}

/* Everything that a layer leaves for its backward but its input x and the attention core's results. */
static void make_rest(dsc_builder *b, dsc_life life, int64_t layer, dsc_layer_buffers *out)
{
    const struct { int32_t *buffer; const char *name; int64_t bytes; } rows[] = {
        {&out->norm1, "norm1", act_bytes(b, b->hidden)},
        {&out->stats1, "stats1", 2 * b->rows * dsc_dtype_bytes(DSC_FP32)},
        {&out->qkv, "qkv", act_bytes(b, qkv_columns(b))},
        {&out->mid, "mid", act_bytes(b, b->hidden)},
        {&out->norm2, "norm2", act_bytes(b, b->hidden)},
        {&out->stats2, "stats2", 2 * b->rows * dsc_dtype_bytes(DSC_FP32)},
        {&out->fc, "fc", act_bytes(b, b->plan->model.ffn)},
        {&out->act, "act", act_bytes(b, b->plan->model.ffn)},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++)
        *rows[i].buffer = dsc_build_buffer(b, rows[i].name, life, DSC_CLASS_ACTIVATIONS, layer, rows[i].bytes);
}

void dsc_build_slots(dsc_builder *b)
{
    const dsc_chunk *chunk = &b->stage->chunks[b->chunk];
    int recompute = b->plan->config.strategy.recompute;

    b->tokens = dsc_build_buffer(b, "tokens", DSC_LIFE_SLOT, DSC_CLASS_ACTIVATIONS, -1,
                                 b->batch * (b->seq + 1) * dsc_dtype_bytes(DSC_INT32));
    for (int64_t i = 0; i <= chunk->layers; i++) {
        dsc_layer_buffers *slot = &b->slots[i];
        int64_t layer = i < chunk->layers ? chunk->first_layer + i : -1;

        *slot = (dsc_layer_buffers){-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
        slot->x = dsc_build_buffer(b, "x", DSC_LIFE_SLOT, DSC_CLASS_ACTIVATIONS, layer, act_bytes(b, b->hidden));
        if (i == chunk->layers || recompute == DSC_RECOMPUTE_FULL) continue;
        make_rest(b, DSC_LIFE_SLOT, layer, slot);
        if (recompute == DSC_RECOMPUTE_NONE) make_core(b, DSC_LIFE_SLOT, layer, slot);
    }
}

/* The layer's buffers in the pass under construction: its slot's, with transients for what the slot does not keep. */
static dsc_layer_buffers buffers_of(dsc_builder *b, int64_t index)
{
    dsc_layer_buffers l = b->slots[index];
    int64_t layer = b->stage->chunks[b->chunk].first_layer + index;

    if (l.qkv < 0) make_rest(b, DSC_LIFE_TRANSIENT, layer, &l);
    if (l.context < 0) make_core(b, DSC_LIFE_TRANSIENT, layer, &l);
    return l;
}

/* ---- Forward */

static void embed_fwd(dsc_builder *b)
{
    dsc_shape load = {.kernel = DSC_K_LOAD, .type = DSC_INT32, .out = DSC_INT32, .d = {b->batch, b->seq}};
    dsc_shape embed = shape_of(b, DSC_K_EMBED_FWD, 0, b->batch, b->seq, b->hidden);
    dsc_span wpe = weight(b, -1, DSC_ROLE_WPE);

    dsc_build_op(b, DSC_OP_LOAD, -1);
    dsc_build_call(b, &load, OPERANDS(whole(b, b->tokens)));
    dsc_build_end(b);
    embed.d[3] = padded_vocab(b);
    wpe.bytes = b->seq * b->hidden * dsc_dtype_bytes(b->type);
    dsc_build_op(b, DSC_OP_EMBED_FWD, -1);
    dsc_build_call(b, &embed, OPERANDS(whole(b, b->tokens), weight(b, -1, DSC_ROLE_WTE), wpe, whole(b, b->slots[0].x)));
    dsc_build_end(b);
}

static void attention_fwd(dsc_builder *b, dsc_op_kind kind, int64_t layer, const dsc_layer_buffers *l)
{
    dsc_build_op(b, kind, layer);
    norm(b, layer, DSC_ROLE_NORM1_W, l->x, l->norm1, l->stats1);
    product(b, layer, DSC_ROLE_QKV_W, l->norm1, b->hidden, -1, l->qkv);
    mix(b, l);
    product(b, layer, DSC_ROLE_PROJ_W, l->context, b->hidden, l->x, l->mid);
    dsc_build_end(b);
}

/* y -1: up to the activation, which is all that the backward needs again. */
static void mlp_fwd(dsc_builder *b, dsc_op_kind kind, int64_t layer, const dsc_layer_buffers *l, int32_t y)
{
    dsc_build_op(b, kind, layer);
    norm(b, layer, DSC_ROLE_NORM2_W, l->mid, l->norm2, l->stats2);
    product(b, layer, DSC_ROLE_FC_W, l->norm2, b->hidden, -1, l->fc);
    activation(b, DSC_K_GELU_FWD, l->fc, -1, l->act);
    if (y >= 0) product(b, layer, DSC_ROLE_OUT_W, l->act, b->plan->model.ffn, l->mid, y);
    dsc_build_end(b);
}

/* The head's buffers live within one pass only: logits are the largest activation of a small model. */
static void head_fwd(dsc_builder *b, int32_t x, int accumulate)
{
    dsc_shape logits = shape_of(b, DSC_K_GEMM, DSC_TRANS_B, b->rows, padded_vocab(b), b->hidden);
    dsc_shape loss = shape_of(b, DSC_K_CROSS_ENTROPY, accumulate, b->batch, b->seq, b->plan->model.vocab);

    b->normf = transient(b, "normf", -1, b->hidden);
    b->statsf = dsc_build_buffer(b, "statsf", DSC_LIFE_TRANSIENT, DSC_CLASS_ACTIVATIONS, -1,
                                 2 * b->rows * dsc_dtype_bytes(DSC_FP32));
    b->logits = transient(b, "logits", -1, padded_vocab(b));
    loss.d[3] = padded_vocab(b);
    dsc_build_op(b, DSC_OP_HEAD_FWD, -1);
    norm(b, -1, DSC_ROLE_NORMF_W, x, b->normf, b->statsf);
    dsc_build_call(b, &logits, OPERANDS(whole(b, b->normf), weight(b, -1, DSC_ROLE_WTE), DSC_NO_SPAN, DSC_NO_SPAN,
                                        whole(b, b->logits)));
    dsc_build_call(b, &loss,
                   OPERANDS(whole(b, b->tokens), whole(b, b->logits), dsc_span_scalar(b, DSC_SCALAR_LOSS, 1)));
    dsc_build_end(b);
}

void dsc_build_forward(dsc_builder *b)
{
    const dsc_chunk *chunk = &b->stage->chunks[b->chunk];

    dsc_build_template(b, "forward");
    b->template_->is_forward = true;
    embed_fwd(b);
    for (int64_t i = 0; i < chunk->layers; i++) {
        dsc_layer_buffers l = buffers_of(b, i);

        attention_fwd(b, DSC_OP_ATTENTION_FWD, chunk->first_layer + i, &l);
        mlp_fwd(b, DSC_OP_MLP_FWD, chunk->first_layer + i, &l, b->slots[i + 1].x);
    }
}

void dsc_build_loss(dsc_builder *b, bool is_first)
{
    dsc_build_template(b, is_first ? "loss" : "loss+add");
    head_fwd(b, b->slots[b->stage->chunks[b->chunk].layers].x, is_first ? 0 : DSC_ACCUMULATE);
}

/* ---- Backward: dy is the gradient of a sublayer's output, what is returned that of its input */

static int32_t head_bwd(dsc_builder *b, int32_t x, int accumulate)
{
    int32_t dnorm = transient(b, "dnormf", -1, b->hidden), dx = transient(b, "dx", -1, b->hidden);
    dsc_shape gx = shape_of(b, DSC_K_GEMM, 0, b->rows, b->hidden, padded_vocab(b));
    dsc_shape gw = shape_of(b, DSC_K_GEMM, DSC_TRANS_A | accumulate, padded_vocab(b), b->hidden, b->rows);

    gw.out = (int8_t)b->gradient_type;
    dsc_build_op(b, DSC_OP_HEAD_BWD_X, -1);
    dsc_build_call(b, &gx, OPERANDS(whole(b, b->logits), weight(b, -1, DSC_ROLE_WTE), DSC_NO_SPAN, DSC_NO_SPAN,
                                    whole(b, dnorm)));
    norm_bwd_x(b, -1, DSC_ROLE_NORMF_W, dnorm, x, b->statsf, -1, dx);
    dsc_build_end(b);
    dsc_build_op(b, DSC_OP_HEAD_BWD_W, -1);
    dsc_build_call(b, &gw, OPERANDS(whole(b, b->logits), whole(b, b->normf), DSC_NO_SPAN, DSC_NO_SPAN,
                                    gradient(b, -1, DSC_ROLE_WTE)));
    norm_bwd_w(b, -1, DSC_ROLE_NORMF_W, dnorm, x, b->statsf, accumulate);
    dsc_build_end(b);
    return dx;
}

static int32_t mlp_bwd(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t dy, int accumulate)
{
    int32_t dfc = transient(b, "dfc", layer, b->plan->model.ffn), dnorm = transient(b, "dnorm2", layer, b->hidden);
    int32_t dmid = transient(b, "dmid", layer, b->hidden);

    dsc_build_op(b, DSC_OP_MLP_BWD_X, layer);
    product_bwd_x(b, layer, DSC_ROLE_OUT_W, dy, b->plan->model.ffn, dfc);
    activation(b, DSC_K_GELU_BWD, dfc, l->fc, dfc);
    product_bwd_x(b, layer, DSC_ROLE_FC_W, dfc, b->hidden, dnorm);
    norm_bwd_x(b, layer, DSC_ROLE_NORM2_W, dnorm, l->mid, l->stats2, dy, dmid);
    dsc_build_end(b);
    dsc_build_op(b, DSC_OP_MLP_BWD_W, layer);
    product_bwd_w(b, layer, DSC_ROLE_OUT_W, l->act, b->plan->model.ffn, dy, accumulate);
    product_bwd_w(b, layer, DSC_ROLE_FC_W, l->norm2, b->hidden, dfc, accumulate);
    norm_bwd_w(b, layer, DSC_ROLE_NORM2_W, dnorm, l->mid, l->stats2, accumulate);
    dsc_build_end(b);
    return dmid;
}

static int32_t attention_bwd(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t dy, int accumulate)
{
    int32_t dcontext = transient(b, "dcontext", layer, b->hidden), dqkv = transient(b, "dqkv", layer, qkv_columns(b));
    int32_t dnorm = transient(b, "dnorm1", layer, b->hidden), dx = transient(b, "dx", layer, b->hidden);

    dsc_build_op(b, DSC_OP_ATTENTION_BWD_X, layer);
    product_bwd_x(b, layer, DSC_ROLE_PROJ_W, dy, b->hidden, dcontext);
    mix_bwd(b, l, dcontext, dqkv);
    product_bwd_x(b, layer, DSC_ROLE_QKV_W, dqkv, b->hidden, dnorm);
    norm_bwd_x(b, layer, DSC_ROLE_NORM1_W, dnorm, l->x, l->stats1, dy, dx);
    dsc_build_end(b);
    dsc_build_op(b, DSC_OP_ATTENTION_BWD_W, layer);
    product_bwd_w(b, layer, DSC_ROLE_PROJ_W, l->context, b->hidden, dy, accumulate);
    product_bwd_w(b, layer, DSC_ROLE_QKV_W, l->norm1, b->hidden, dqkv, accumulate);
    norm_bwd_w(b, layer, DSC_ROLE_NORM1_W, dnorm, l->x, l->stats1, accumulate);
    dsc_build_end(b);
    return dx;
}

/* The head's backward has written the tied embedding's gradient before. */
static void embed_bwd(dsc_builder *b, int32_t dx, int accumulate)
{
    dsc_shape shape = shape_of(b, DSC_K_EMBED_BWD, accumulate, b->batch, b->seq, b->hidden);
    dsc_span dwpe = gradient(b, -1, DSC_ROLE_WPE);

    shape.out = (int8_t)b->gradient_type;
    shape.d[3] = padded_vocab(b);
    dwpe.bytes = b->seq * b->hidden * dsc_dtype_bytes(b->gradient_type);
    dsc_build_op(b, DSC_OP_EMBED_BWD_W, -1);
    dsc_build_call(b, &shape, OPERANDS(whole(b, b->tokens), whole(b, dx), gradient(b, -1, DSC_ROLE_WTE), dwpe));
    dsc_build_end(b);
}

/* What the slot did not keep of the layer, made again. */
static void recompute(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l)
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

/* The flat place of the stage's first shard whose gradient is complete once that tensor's is. */
static int64_t place_of(const dsc_builder *b, int64_t layer, dsc_role role)
{
    return dsc_build_shard(b, layer, role) - b->stage->shards;
}

void dsc_build_backward(dsc_builder *b, bool is_first, bool is_last)
{
    const dsc_chunk *chunk = &b->stage->chunks[b->chunk];
    int accumulate = is_first ? 0 : DSC_ACCUMULATE;
    bool is_reduced = is_last && b->plan->config.strategy.dp > 1;
    char name[32];
    int32_t dy;

    snprintf(name, sizeof name, "backward%s%s", is_first ? "" : "+add", is_reduced ? "+reduce" : "");
    dsc_build_template(b, name);
    b->next_bucket = b->bucket_count - 1;
    head_fwd(b, b->slots[chunk->layers].x, accumulate);
    dy = head_bwd(b, b->slots[chunk->layers].x, accumulate);
    if (is_reduced) dsc_build_reduce(b, place_of(b, -1, DSC_ROLE_NORMF_W));
    for (int64_t i = chunk->layers - 1; i >= 0; i--) {
        int64_t layer = chunk->first_layer + i;
        dsc_layer_buffers l = buffers_of(b, i);

        recompute(b, layer, &l);
        dy = mlp_bwd(b, layer, &l, dy, accumulate);
        if (is_reduced) dsc_build_reduce(b, place_of(b, layer, DSC_ROLE_NORM2_W));
        dy = attention_bwd(b, layer, &l, dy, accumulate);
        if (is_reduced) dsc_build_reduce(b, place_of(b, layer, DSC_ROLE_NORM1_W));
    }
    embed_bwd(b, dy, accumulate);
    if (is_reduced) dsc_build_reduce(b, 0);
}
