/* The forward pass of a chunk over one micro-batch, which reads like the textbook: pre-norm GPT-2 (Radford et al. 2019)
 * and LLaMA (Touvron et al. 2023), and what lies between, as the model says; cut as Megatron does (Shoeybi et al. 2019;
 * sequence parallelism: Korthikanti et al. 2022). Rows are the micro-batch's tokens, B * T; C the hidden size; F the
 * MLP's and V the vocabulary, as the rank's shards have them. */
#include "program/pass.h"
#include <stdio.h>

/* Begins a sublayer's op with its norm. Where rows are cut the norm is an op of its own, which a gather follows.
 * Returns the norm of all rows. */
static int32_t enter(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_role role, int32_t x, int32_t y,
                     int32_t stats)
{
    const int32_t uncast = layer < 0 ? y : pass_uncast(b, "norm_uncast", layer, y);
    int32_t all;

    dsc_build_op(b, b->is_sequence_cut ? DSC_OP_NORM_FWD : kind, layer);
    pass_norm(b, layer, role, x, uncast, stats);
    pass_cast(b, uncast, y);
    if (!b->is_sequence_cut) return y;
    dsc_build_end(b);
    all = pass_gathered(b, "norm", layer, y);
    dsc_build_op(b, kind, layer);
    return all;
}

/* Ends a sublayer's op with its row-parallel product. Where it is cut, partial sums are summed over the tensor ranks,
 * and bias and residual are added once, after the sum. */
static void leave(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t residual, int32_t y)
{
    int32_t partial = pass_partial_of(b, layer, y);

    pass_product(b, layer, role, x, k, residual, partial);
    dsc_build_end(b);
    if (!b->is_cut) return;
    pass_sum_partial(b, layer, partial, y);
    dsc_build_op(b, DSC_OP_JOIN, layer);
    pass_join(b, layer, role, residual, y);
    dsc_build_end(b);
}

/* The part of embeddings over tensor ranks that the kernels need to know. */
void pass_cut_embedding(const dsc_builder *b, dsc_shape *shape)
{
    const dsc_shard *positions = dsc_build_shard(b, -1, DSC_ROLE_WPE);

    shape->d[3] = pass_vocab(b)->padded_rows;
    if (positions == NULL) shape->flags |= DSC_NO_POSITIONS;
    if (!b->is_cut) return;
    shape->flags |= DSC_SHARD;
    shape->d[4] = pass_vocab(b)->shape[0];
    if (positions != NULL) shape->d[5] = positions->shape[0];
}

/* Positions past the sequence stay out of it, where one rank has them all. */
dsc_span pass_positions(const dsc_builder *b, dsc_span wpe, dsc_dtype type)
{
    if (!b->is_cut && wpe.buffer >= 0) wpe.bytes = b->seq * b->hidden * dsc_dtype_bytes(type);
    return wpe;
}

static void load(dsc_builder *b)
{
    dsc_shape shape = {.kernel = DSC_K_LOAD, .type = DSC_INT32, .out = DSC_INT32, .d = {b->batch, b->seq}};

    dsc_build_op(b, DSC_OP_LOAD, -1);
    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, b->here->tokens)));
    dsc_build_end(b);
}

static void embed_fwd(dsc_builder *b)
{
    dsc_shape shape = pass_shape_of(b, DSC_K_EMBED_FWD, 0, b->batch, b->seq, b->hidden);
    int32_t x = b->here->inputs[0], partial = pass_partial_of(b, -1, x);

    dsc_build_fetch(b, -1, DSC_ROLE_WTE, DSC_ROLE_WPE);
    pass_cut_embedding(b, &shape);
    dsc_build_op(b, DSC_OP_EMBED_FWD, -1);
    dsc_build_call(b, &shape,
                   OPERANDS(pass_whole(b, b->here->tokens), pass_weight(b, -1, DSC_ROLE_WTE),
                            pass_positions(b, pass_weight(b, -1, DSC_ROLE_WPE), b->type), pass_whole(b, partial)));
    dsc_build_end(b);
    pass_sum_partial(b, -1, partial, x);
}

void pass_attention_fwd(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_layer_buffers *l)
{
    l->whole1 = enter(b, kind, layer, DSC_ROLE_NORM1_W, l->x, l->norm1, l->stats1);
    pass_product(b, layer, DSC_ROLE_QKV_W, l->whole1, b->hidden, -1, l->qkv);
    pass_rotate(b, l->qkv, 0);
    pass_mix(b, kind, layer, l);
    leave(b, layer, DSC_ROLE_PROJ_W, l->context, pass_context_columns(b), l->x, l->mid);
}

/* y -1: up to the activation, which is all that the backward needs again. */
void pass_mlp_fwd(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_layer_buffers *l, int32_t y)
{
    dsc_layer_buffers uncast;

    l->whole2 = enter(b, kind, layer, DSC_ROLE_NORM2_W, l->mid, l->norm2, l->stats2);
    pass_product(b, layer, DSC_ROLE_FC_W, l->whole2, b->hidden, -1, l->fc);
    if (b->plan->model.gated) pass_product(b, layer, DSC_ROLE_GATE_W, l->whole2, b->hidden, -1, l->gate);
    uncast = *l;
    uncast.act = pass_uncast(b, "act_uncast", layer, l->act);
    pass_activation(b, &uncast);
    pass_cast(b, uncast.act, l->act);
    if (y >= 0) leave(b, layer, DSC_ROLE_OUT_W, l->act, pass_ffn(b), l->mid, y);
    else dsc_build_end(b);
}

/* Where the loss reads and differentiates the logits of `columns` of the vocabulary: themselves, or a copy in fp32. */
static int32_t loss_logits(dsc_builder *b, int64_t columns)
{
    const dsc_shape shape = {.kernel = DSC_K_CAST, .type = (int8_t)b->type, .out = DSC_FP32, .d = {b->rows * columns}};
    int32_t wide;

    if (!b->plan->config.strategy.widens_logits || b->type == DSC_FP32) return b->logits;
    wide = pass_activations(b, "fp32 logits", DSC_LIFE_TRANSIENT, -1, shape.d[0] * dsc_dtype_bytes(DSC_FP32));
    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, b->logits), pass_whole(b, wide)));
    return wide;
}

/* Their gradient, to where products read it. */
static void narrow_logits(dsc_builder *b, int32_t wide, int64_t columns)
{
    const dsc_shape shape = {.kernel = DSC_K_CAST, .type = DSC_FP32, .out = (int8_t)b->type, .d = {b->rows * columns}};

    if (wide != b->logits) dsc_build_call(b, &shape, OPERANDS(pass_whole(b, wide), pass_whole(b, b->logits)));
}

/* Of logits that are a copy in fp32 the loss is in steps, as where such copies are made. */
static dsc_shape loss_shape(const dsc_builder *b, dsc_kernel kernel, int flags, int32_t logits)
{
    dsc_shape shape = pass_shape_of(b, kernel, flags, b->batch, b->seq, b->plan->model.vocab);

    if (logits != b->logits) shape.type = shape.out = DSC_FP32;
    if (logits != b->logits && kernel != DSC_K_CROSS_ENTROPY_PART) shape.flags |= DSC_APART;
    shape.d[3] = pass_vocab(b)->padded_rows;
    return shape;
}

/* Cross-entropy where one rank has all logits: loss, and their gradient in their place. */
static void cross_entropy(dsc_builder *b, int32_t logits)
{
    const dsc_shape shape = loss_shape(b, DSC_K_CROSS_ENTROPY, DSC_ACCUMULATE, logits);

    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, b->here->tokens), pass_whole(b, logits),
                                       dsc_span_scalar(b, DSC_SCALAR_LOSS, 1)));
}

/* The same over tensor ranks: each brings maximum, sum of exponentials and target's logit of every row. */
static void cross_entropy_cut(dsc_builder *b, int32_t logits)
{
    int64_t part_bytes = 3 * b->rows * dsc_dtype_bytes(DSC_FP32);
    int32_t part = pass_activations(b, "loss_part", DSC_LIFE_TRANSIENT, -1, part_bytes);
    int32_t parts = pass_activations(b, "loss_parts", DSC_LIFE_TRANSIENT, -1, b->tp * part_bytes);
    dsc_shape shape = loss_shape(b, DSC_K_CROSS_ENTROPY_PART, 0, logits);

    shape.d[4] = pass_vocab(b)->shape[0];
    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, b->here->tokens), pass_whole(b, logits), pass_whole(b, part)));
    dsc_build_end(b);
    pass_tensor_op(b, DSC_OP_ALL_GATHER, -1, part, parts, DSC_FP32);
    shape = loss_shape(b, DSC_K_CROSS_ENTROPY_JOIN, DSC_ACCUMULATE, logits);
    shape.d[4] = pass_vocab(b)->shape[0];
    shape.d[5] = b->tp;
    dsc_build_op(b, DSC_OP_LOSS, -1);
    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, b->here->tokens), pass_whole(b, parts), pass_whole(b, logits),
                                       dsc_span_scalar(b, DSC_SCALAR_LOSS, 1)));
}

/* The head's buffers live within one pass only: logits are the largest activation of a small model. */
void pass_head_fwd(dsc_builder *b, int32_t x)
{
    const int64_t columns = pass_vocab(b)->padded_rows;
    const dsc_role head = pass_head_role(b);
    dsc_shape shape = pass_shape_of(b, DSC_K_GEMM, DSC_TRANS_B, b->rows, columns, b->hidden);
    int32_t logits;

    dsc_build_fetch(b, -1, head, head);
    dsc_build_fetch(b, -1, DSC_ROLE_NORMF_W, DSC_ROLE_NORMF_B);
    b->normf = pass_kept(b, "normf", DSC_LIFE_TRANSIENT, -1);
    b->statsf = pass_activations(b, "statsf", DSC_LIFE_TRANSIENT, -1, pass_stats_bytes(b));
    b->logits = pass_transient(b, "logits", -1, columns);
    b->whole_normf = enter(b, DSC_OP_HEAD_FWD, -1, DSC_ROLE_NORMF_W, x, b->normf, b->statsf);
    dsc_build_call(b, &shape,
                   OPERANDS(pass_whole(b, b->whole_normf), pass_weight(b, -1, head), DSC_NO_SPAN, DSC_NO_SPAN,
                            pass_whole(b, b->logits)));
    logits = loss_logits(b, columns);
    if (b->is_cut) cross_entropy_cut(b, logits);
    else cross_entropy(b, logits);
    narrow_logits(b, logits, columns);
    dsc_build_end(b);
}

void pass_name_template(dsc_builder *b, const char *name)
{
    char full[48];

    if (b->stage->chunk_count > 1) snprintf(full, sizeof full, "%s, chunk %d", name, b->chunk);
    else snprintf(full, sizeof full, "%s", name);
    dsc_build_template(b, full);
}

void dsc_build_forward(dsc_builder *b, bool gathers_updated)
{
    const dsc_chunk *chunk = b->here->chunk;

    pass_name_template(b, gathers_updated ? "gather+forward" : "forward");
    if (b->status == DSC_OK) b->template_->is_forward = true;
    b->pass = (dsc_backward){0};
    b->direction = 1;
    b->gathers_updated = gathers_updated;
    pass_enter(b);
    if (b->here->tokens >= 0) load(b);
    if (chunk->has_embedding) embed_fwd(b);
    else pass_message(b, DSC_OP_RECV, pass_virtual_stage(b) - 1, false, b->here->inputs[0]);
    for (int64_t i = 0; i < chunk->layers; i++) {
        dsc_layer_buffers l = pass_buffers_of(b, i);

        l.x = b->here->inputs[i];
        pass_save(b, i);
        dsc_build_fetch(b, chunk->first_layer + i, DSC_ROLE_NORM1_W, DSC_ROLE_PROJ_B);
        pass_attention_fwd(b, DSC_OP_ATTENTION_FWD, chunk->first_layer + i, &l);
        dsc_build_fetch(b, chunk->first_layer + i, DSC_ROLE_NORM2_W, DSC_ROLE_OUT_B);
        pass_mlp_fwd(b, DSC_OP_MLP_FWD, chunk->first_layer + i, &l, b->here->inputs[i + 1]);
    }
    if (gathers_updated) dsc_build_fetch_rest(b);
    b->gathers_updated = false;
    if (!chunk->has_head) pass_message(b, DSC_OP_SEND, pass_virtual_stage(b), false, b->here->inputs[chunk->layers]);
}

void dsc_build_loss(dsc_builder *b)
{
    pass_name_template(b, "loss");
    b->direction = 0;
    pass_head_fwd(b, b->here->slots[b->here->chunk->layers].x);
}
