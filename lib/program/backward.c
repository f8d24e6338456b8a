/* The backward passes of a chunk: gradients of inputs, of weights, or both. dy is the gradient of a sublayer's output,
 * what is returned that of its input. */
#include "program/pass.h"
#include <stdio.h>

static void norm_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats)
{
    dsc_build_op(b, DSC_OP_NORM_BWD_W, layer);
    pass_norm_bwd_w(b, layer, role, dy, x, stats);
    dsc_build_end(b);
    dsc_build_complete(b, layer, role);
    dsc_build_complete(b, layer, role + 1);
}

/* Where the gradient of a layer's x is written (index layers: of the head's). */
static int32_t gradient_of_x(dsc_builder *b, int64_t index)
{
    const dsc_chunk_buffers *here = b->here;
    int64_t layers = here->chunk->layers;
    bool is_deferred = index > 0 && !b->pass.weights;

    if (index == layers && !here->chunk->has_head && !is_deferred) return here->from_next;
    if (index == 0 && !here->chunk->has_embedding) return here->to_previous;
    if (is_deferred) return here->deferred[index - 1].dy;
    return pass_kept(b, "dx", DSC_LIFE_TRANSIENT, index > 0 ? here->chunk->first_layer + index - 1 : -1);
}

/* A sublayer's way back through its norm: dx = residual + gradient of the norm's input, dnorm being that of its output,
 * which tensor ranks have in parts. */
typedef struct norm_bwd { int64_t layer; dsc_role role; int32_t x, stats, residual, dnorm, partial, dx; } norm_bwd;

static void make_dnorm(dsc_builder *b, const char *name, norm_bwd *n)
{
    n->dnorm = pass_kept(b, name, DSC_LIFE_TRANSIENT, n->layer);
    n->partial = pass_partial_of(b, n->layer, n->dnorm);
}

static void back_through(dsc_builder *b, const norm_bwd *n)
{
    pass_norm_bwd_x(b, n->layer, n->role, n->dnorm, n->x, n->stats, n->residual, n->dx);
    dsc_build_end(b);
    if (n->dx == b->here->to_previous) pass_message(b, DSC_OP_SEND, pass_virtual_stage(b) - 1, true, n->dx);
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
    pass_sum_partial(b, n->layer, n->partial, n->dnorm);
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
    const int64_t columns = pass_vocab(b)->padded_rows;
    const dsc_role head = pass_head_role(b);
    int adds = pass_adds(b, -1, head, b->pass.is_first_x);
    dsc_shape gx = pass_shape_of(b, DSC_K_GEMM, 0, b->rows, b->hidden, columns);
    dsc_shape gw = pass_shape_of(b, DSC_K_GEMM, DSC_TRANS_A | adds, columns, b->hidden, b->rows);
    norm_bwd n = {-1, DSC_ROLE_NORMF_W, x, b->statsf, -1, -1, -1, dx};

    gw.out = (int8_t)pass_gradient_type(b, -1, head);
    make_dnorm(b, "dnormf", &n);
    dsc_build_op(b, DSC_OP_HEAD_BWD_X, -1);
    dsc_build_call(b, &gx,
                   OPERANDS(pass_whole(b, b->logits), pass_weight(b, -1, head), DSC_NO_SPAN, DSC_NO_SPAN,
                            pass_whole(b, n.partial)));
    end_parts(b, &n);
    dsc_build_op(b, DSC_OP_HEAD_BWD_W, -1);
    dsc_build_call(b, &gw, OPERANDS(pass_whole(b, b->logits), pass_whole(b, b->whole_normf), DSC_NO_SPAN, DSC_NO_SPAN,
                                    pass_gradient(b, -1, head)));
    dsc_build_end(b);
    if (!b->plan->model.tied || !b->here->chunk->has_embedding) dsc_build_complete(b, -1, head);
    end_norm(b, &n);
}

/* all_dy: of all rows; dy: of those kept. */
static void mlp_bwd_w(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t all_dy, int32_t dy,
                      int32_t dfc, int32_t dgate)
{
    bool is_gated = b->plan->model.gated;

    dsc_build_op(b, DSC_OP_MLP_BWD_W, layer);
    pass_product_bwd_w(b, layer, DSC_ROLE_OUT_W, l->act, pass_ffn(b), all_dy, dy);
    pass_product_bwd_w(b, layer, DSC_ROLE_FC_W, l->whole2, b->hidden, dfc, dfc);
    if (is_gated) pass_product_bwd_w(b, layer, DSC_ROLE_GATE_W, l->whole2, b->hidden, dgate, dgate);
    dsc_build_end(b);
    complete_product(b, layer, DSC_ROLE_OUT_W);
    complete_product(b, layer, DSC_ROLE_GATE_W);
    complete_product(b, layer, DSC_ROLE_FC_W);
}

static void attention_bwd_w(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t all_dmid, int32_t dmid,
                            int32_t dqkv)
{
    dsc_build_op(b, DSC_OP_ATTENTION_BWD_W, layer);
    pass_product_bwd_w(b, layer, DSC_ROLE_PROJ_W, l->context, pass_context_columns(b), all_dmid, dmid);
    pass_product_bwd_w(b, layer, DSC_ROLE_QKV_W, l->whole1, b->hidden, dqkv, dqkv);
    dsc_build_end(b);
    complete_product(b, layer, DSC_ROLE_PROJ_W);
    complete_product(b, layer, DSC_ROLE_QKV_W);
}

/* The norm of all rows, which the weights' gradients need: gathered again where the pass has not done so. */
static int32_t regathered(dsc_builder *b, int64_t layer, int32_t all, int32_t own)
{
    return all >= 0 || !b->pass.weights ? all : pass_gathered(b, "norm", layer, own);
}

static int32_t mlp_bwd(dsc_builder *b, int64_t index, dsc_layer_buffers *l, int32_t dy)
{
    const dsc_layer_deferred *deferred = &b->here->deferred[index];
    bool is_fused = b->pass.weights, is_gated = b->plan->model.gated;
    int64_t layer = b->here->chunk->first_layer + index;
    int32_t dfc = is_fused ? pass_transient(b, "dfc", layer, pass_ffn(b)) : deferred->dfc;
    int32_t dgate = is_fused && is_gated ? pass_transient(b, "dgate", layer, pass_ffn(b)) : deferred->dgate;
    int32_t all_dy = pass_gathered(b, "dy", layer, dy);
    norm_bwd n = {layer, DSC_ROLE_NORM2_W, l->mid, l->stats2, dy, -1, -1, deferred->dmid};

    if (is_fused) n.dx = pass_kept(b, "dmid", DSC_LIFE_TRANSIENT, layer);
    make_dnorm(b, "dnorm2", &n);
    l->whole2 = regathered(b, layer, l->whole2, l->norm2);
    dsc_build_op(b, DSC_OP_MLP_BWD_X, layer);
    pass_product_bwd_x(b, layer, DSC_ROLE_OUT_W, all_dy, pass_ffn(b), 0, dfc);
    pass_activation_bwd(b, l, dfc, dgate);
    pass_product_bwd_x(b, layer, DSC_ROLE_FC_W, dfc, b->hidden, 0, n.partial);
    if (is_gated) pass_product_bwd_x(b, layer, DSC_ROLE_GATE_W, dgate, b->hidden, DSC_ACCUMULATE, n.partial);
    end_parts(b, &n);
    if (is_fused) mlp_bwd_w(b, layer, l, all_dy, dy, dfc, dgate);
    end_norm(b, &n);
    return n.dx;
}

static int32_t attention_bwd(dsc_builder *b, int64_t index, dsc_layer_buffers *l, int32_t dmid)
{
    bool is_fused = b->pass.weights;
    int64_t layer = b->here->chunk->first_layer + index;
    int32_t dcontext = pass_transient(b, "dcontext", layer, pass_context_columns(b));
    int32_t dqkv = is_fused ? pass_transient(b, "dqkv", layer, pass_qkv_columns(b)) : b->here->deferred[index].dqkv;
    int32_t all_dmid = pass_gathered(b, "dmid", layer, dmid);
    norm_bwd n = {layer, DSC_ROLE_NORM1_W, l->x, l->stats1, dmid, -1, -1, gradient_of_x(b, index)};

    make_dnorm(b, "dnorm1", &n);
    l->whole1 = regathered(b, layer, l->whole1, l->norm1);
    dsc_build_op(b, DSC_OP_ATTENTION_BWD_X, layer);
    if (b->cp > 1 && l->keys < 0) {
        pass_gather_keys(b, layer, l);
        dsc_build_op(b, DSC_OP_ATTENTION_BWD_X, layer);
    }
    pass_product_bwd_x(b, layer, DSC_ROLE_PROJ_W, all_dmid, pass_context_columns(b), 0, dcontext);
    pass_mix_bwd(b, layer, l, dcontext, dqkv);
    pass_rotate(b, dqkv, DSC_INVERSE);
    pass_product_bwd_x(b, layer, DSC_ROLE_QKV_W, dqkv, b->hidden, 0, n.partial);
    end_parts(b, &n);
    if (is_fused) attention_bwd_w(b, layer, l, all_dmid, dmid, dqkv);
    end_norm(b, &n);
    return n.dx;
}

/* A tied head, where it is, has written the embedding's gradient before. */
static void embed_bwd(dsc_builder *b, int32_t dx)
{
    bool is_first = b->pass.is_first_x, follows = b->here->chunk->has_head && b->plan->model.tied;
    bool writes = pass_adds(b, -1, DSC_ROLE_WTE, is_first) == 0 && !follows;
    int flags = pass_adds(b, -1, DSC_ROLE_WPE, is_first) | (writes ? DSC_FIRST : 0);
    dsc_shape shape = pass_shape_of(b, DSC_K_EMBED_BWD, flags, b->batch, b->seq, b->hidden);
    int32_t all_dx = pass_gathered(b, "dx", -1, dx);

    shape.out = (int8_t)pass_gradient_type(b, -1, DSC_ROLE_WTE);
    pass_cut_embedding(b, &shape);
    dsc_build_op(b, DSC_OP_EMBED_BWD_W, -1);
    dsc_build_call(b, &shape,
                   OPERANDS(pass_whole(b, b->here->tokens), pass_whole(b, all_dx), pass_gradient(b, -1, DSC_ROLE_WTE),
                            pass_positions(b, pass_gradient(b, -1, DSC_ROLE_WPE), shape.out)));
    dsc_build_end(b);
    dsc_build_complete(b, -1, DSC_ROLE_WTE);
    dsc_build_complete(b, -1, DSC_ROLE_WPE);
}

/* What the slot did not keep of the layer, made again. */
static void recompute(dsc_builder *b, int how, int64_t layer, dsc_layer_buffers *l)
{
    const bool has_output = how == DSC_RECOMPUTE_FULL && b->plan->config.strategy.recomputes_outputs;
    const int32_t y = has_output ? pass_kept(b, "y again", DSC_LIFE_TRANSIENT, layer) : -1;

    if (how == DSC_RECOMPUTE_SELECTIVE) {
        dsc_build_op(b, DSC_OP_ATTENTION_AGAIN, layer);
        pass_mix(b, DSC_OP_ATTENTION_AGAIN, layer, l);
        dsc_build_end(b);
    } else if (how == DSC_RECOMPUTE_FULL) {
        pass_attention_fwd(b, DSC_OP_ATTENTION_AGAIN, layer, l);
        pass_mlp_fwd(b, DSC_OP_MLP_AGAIN, layer, l, y);
    }
}

/* With the inputs' gradients, alone or with the weights'. */
static void backward(dsc_builder *b)
{
    const dsc_chunk *chunk = b->here->chunk;
    int32_t x = b->here->slots[chunk->layers].x, dy = gradient_of_x(b, chunk->layers), fetched;

    fetched = chunk->layers > 0 ? pass_fetch_saved(b, chunk->layers - 1) : -1;
    if (chunk->has_head) {
        pass_head_fwd(b, x);
        head_bwd(b, x, dy);
    } else {
        pass_message(b, DSC_OP_RECV, pass_virtual_stage(b), true, dy);
    }
    for (int64_t i = chunk->layers - 1; i >= 0; i--) {
        dsc_layer_buffers l = pass_buffers_of(b, i);

        l.x = pass_restored(b, i, fetched);
        if (i > 0) fetched = pass_fetch_saved(b, i - 1); /* beside this layer's passes */
        dsc_build_fetch(b, chunk->first_layer + i, DSC_ROLE_NORM2_W, DSC_ROLE_OUT_B);
        dsc_build_fetch(b, chunk->first_layer + i, DSC_ROLE_NORM1_W, DSC_ROLE_PROJ_B);
        recompute(b, dsc_plan_recompute(b->plan, i), chunk->first_layer + i, &l);
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
    static const dsc_role outside[] = {DSC_ROLE_WTE, DSC_ROLE_WPE, DSC_ROLE_NORMF_W, DSC_ROLE_NORMF_B,
                                       DSC_ROLE_HEAD_W};

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
        dsc_layer_buffers l = pass_buffers_of(b, i);
        int64_t layer = chunk->first_layer + i;

        l.whole2 = pass_gathered(b, "norm", layer, l.norm2);
        mlp_bwd_w(b, layer, &l, pass_gathered(b, "dy", layer, deferred->dy), deferred->dy, deferred->dfc,
                  deferred->dgate);
        l.whole1 = pass_gathered(b, "norm", layer, l.norm1);
        attention_bwd_w(b, layer, &l, pass_gathered(b, "dmid", layer, deferred->dmid), deferred->dmid, deferred->dqkv);
    }
}

void dsc_build_backward(dsc_builder *b, dsc_backward pass)
{
    bool is_first = (!pass.inputs || pass.is_first_x) && (!pass.weights || pass.is_first_w);
    char name[32];

    b->pass = pass;
    b->direction = -1;
    snprintf(name, sizeof name, "backward%s%s%s", pass.inputs && pass.weights ? "" : pass.inputs ? "_x" : "_w",
             is_first ? "" : "+add", pass.is_last ? "+reduce" : "");
    pass_name_template(b, name);
    if (pass.inputs) backward(b);
    else backward_w(b);
    dsc_build_arrived(b);
}
