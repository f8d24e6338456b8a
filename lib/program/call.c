/* Kernel calls of the passes, one helper a kernel: operands in the order of the kernel table. */
#include "program/pass.h"

dsc_shape pass_shape_of(const dsc_builder *b, dsc_kernel kernel, int flags, int64_t d0, int64_t d1, int64_t d2)
{
    return (dsc_shape){.kernel = (int16_t)kernel, .type = (int8_t)b->type, .out = (int8_t)b->type, .flags = flags,
                       .d = {d0, d1, d2}};
}

dsc_span pass_whole(const dsc_builder *b, int32_t buffer) { return dsc_span_whole(b, buffer); }

dsc_span pass_weight(dsc_builder *b, int64_t layer, dsc_role role)
{
    const dsc_shard *shard = dsc_build_shard(b, layer, role);

    return shard == NULL ? DSC_NO_SPAN : dsc_build_weights(b, shard);
}

dsc_span pass_gradient(dsc_builder *b, int64_t layer, dsc_role role)
{
    const dsc_shard *shard = dsc_build_shard(b, layer, role);

    return shard == NULL ? DSC_NO_SPAN : dsc_build_gradients(b, shard);
}

dsc_dtype pass_gradient_type(const dsc_builder *b, int64_t layer, dsc_role role)
{
    const dsc_shard *shard = dsc_build_shard(b, layer, role);

    return shard == NULL ? b->plan->gradient_type : dsc_build_gradient_type(b, shard);
}

/* Of a tensor whose gradients are streamed every pass is the first. */
int pass_adds(const dsc_builder *b, int64_t layer, dsc_role role, bool is_first)
{
    const dsc_shard *shard = dsc_build_shard(b, layer, role);

    return is_first || (shard != NULL && b->buckets[shard->bucket].is_streamed) ? 0 : DSC_ACCUMULATE;
}

/* Columns of a product's weight. */
static int64_t width_of(const dsc_builder *b, int64_t layer, dsc_role role)
{
    const dsc_shard *shard = dsc_build_shard(b, layer, role);

    return shard == NULL ? 0 : shard->shape[1];
}

/* Columns of the MLP's first product. */
int64_t pass_ffn(const dsc_builder *b) { return b->plan->model.ffn / b->tp; }

dsc_role pass_head_role(const dsc_builder *b) { return b->plan->model.tied ? DSC_ROLE_WTE : DSC_ROLE_HEAD_W; }

const dsc_shard *pass_vocab(const dsc_builder *b)
{
    const dsc_shard *embedding = dsc_build_shard(b, -1, DSC_ROLE_WTE);

    return embedding != NULL ? embedding : dsc_build_shard(b, -1, DSC_ROLE_HEAD_W);
}

/* Operands that a family's tensors have or lack. */
static int bias_flag(const dsc_builder *b, int64_t layer, dsc_role role)
{
    return dsc_build_shard(b, layer, role) != NULL ? DSC_HAS_BIAS : 0;
}
static int norm_flag(const dsc_builder *b) { return b->plan->model.norm == DSC_NORM_RMS ? DSC_RMS : 0; }

/* A product whose result is summed over tensor ranks: its bias, added once, is another matter. */
static bool is_row_parallel(dsc_role role) { return role == DSC_ROLE_PROJ_W || role == DSC_ROLE_OUT_W; }

/* The copy that the op under construction has cast of it before; absent when there is none. */
static dsc_span find_cast(const dsc_builder *b, dsc_span span)
{
    const dsc_template *t = b->template_;
    const dsc_op *op = b->status == DSC_OK ? &t->ops[t->op_count - 1] : NULL;

    for (int32_t i = 0; op != NULL && i < op->calls; i++) {
        const dsc_call *call = &t->calls[op->first_call + i];
        const dsc_span *in = &call->operands[0];

        if (call->shape.kernel == DSC_K_CAST && in->buffer == span.buffer && in->offset == span.offset)
            return call->operands[1];
    }
    return DSC_NO_SPAN;
}

static void cast(dsc_builder *b, dsc_span from, dsc_span to, int64_t elems)
{
    dsc_shape shape = pass_shape_of(b, DSC_K_CAST, 0, elems, 0, 0);

    shape.out = (int8_t)b->plan->product_type;
    dsc_build_call(b, &shape, OPERANDS(from, to));
}

/* What a layer's product reads of an operand: itself, or a copy that is cast for it (Micikevicius et al. 2022; scales
 * are a number for each tensor, and cost nothing). */
static dsc_span product_operand(dsc_builder *b, int64_t layer, const char *name, dsc_span span, int64_t elems)
{
    const dsc_dtype type = b->plan->product_type;
    dsc_span copy;

    if (pass_type_of(b, span, elems) == type) return span;
    copy = find_cast(b, span);
    if (copy.buffer >= 0) return copy;
    copy = pass_whole(b, pass_activations(b, name, DSC_LIFE_TRANSIENT, layer, elems * dsc_dtype_bytes(type)));
    cast(b, span, copy, elems);
    return copy;
}

void pass_cast(dsc_builder *b, int32_t from, int32_t operand)
{
    const dsc_span out = pass_whole(b, operand);

    if (from != operand)
        cast(b, pass_whole(b, from), out, out.bytes / dsc_dtype_bytes(b->plan->product_type));
}

static dsc_shape product_shape(const dsc_builder *b, int flags, int64_t m, int64_t n, int64_t k)
{
    dsc_shape shape = pass_shape_of(b, DSC_K_GEMM, flags, m, n, k);

    shape.type = (int8_t)b->plan->product_type;
    return shape;
}

/* y[rows,n] = x[rows,k] * W[k,n] + bias (+ residual); of a row-parallel product on several ranks only x * W. */
void pass_product(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t residual, int32_t y)
{
    bool is_partial = b->is_cut && is_row_parallel(role);
    int flags = is_partial ? 0 : bias_flag(b, layer, role + 1) | (residual >= 0 ? DSC_HAS_RESIDUAL : 0);
    const int64_t n = width_of(b, layer, role);
    dsc_shape shape = product_shape(b, flags, b->rows, n, k);
    dsc_span in = product_operand(b, layer, "x_cast", pass_whole(b, x), b->rows * k);
    dsc_span weight = product_operand(b, layer, "w_cast", pass_weight(b, layer, role), k * n);

    dsc_build_call(b, &shape, OPERANDS(in, weight, pass_weight(b, layer, role + 1), pass_whole(b, residual),
                                       pass_whole(b, y)));
}

/* y = y + bias + residual, of the rows that the rank keeps */
void pass_join(dsc_builder *b, int64_t layer, dsc_role role, int32_t residual, int32_t y)
{
    int flags = bias_flag(b, layer, role + 1) | DSC_HAS_RESIDUAL;
    dsc_shape shape = pass_shape_of(b, DSC_K_JOIN, flags, b->kept_rows, b->hidden, 0);

    dsc_build_call(
        b, &shape,
        OPERANDS(pass_whole(b, y), pass_weight(b, layer, role + 1), pass_whole(b, residual), pass_whole(b, y)));
}

/* dx[rows,k] (+)= dy[rows,n] * W[k,n]^T */
void pass_product_bwd_x(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int64_t k, int flags, int32_t dx)
{
    const int64_t n = width_of(b, layer, role);
    dsc_shape shape = product_shape(b, DSC_TRANS_B | flags, b->rows, k, n);
    dsc_span in = product_operand(b, layer, "dy_cast", pass_whole(b, dy), b->rows * n);
    dsc_span weight = product_operand(b, layer, "w_cast", pass_weight(b, layer, role), k * n);

    dsc_build_call(b, &shape, OPERANDS(in, weight, DSC_NO_SPAN, DSC_NO_SPAN, pass_whole(b, dx)));
}

/* dW[k,n] (+)= x[rows,k]^T * dy[rows,n]; where there is a bias, dbias[n] (+)= sum over rows of dy, of the rank's own
 * rows where it is whole on all tensor ranks and rows are cut (own_dy). */
void pass_product_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t dy,
                          int32_t own_dy)
{
    int64_t n = width_of(b, layer, role);
    int adds = pass_adds(b, layer, role, b->pass.is_first_w);
    int bias_adds = pass_adds(b, layer, role + 1, b->pass.is_first_w);
    dsc_shape w = product_shape(b, DSC_TRANS_A | adds, k, n, b->rows);
    dsc_shape bias = pass_shape_of(b, DSC_K_COLUMN_SUM, bias_adds, own_dy == dy ? b->rows : b->kept_rows, n, 0);
    dsc_span in, out;

    w.out = (int8_t)pass_gradient_type(b, layer, role);
    bias.out = (int8_t)pass_gradient_type(b, layer, role + 1);
    in = product_operand(b, layer, "x_cast", pass_whole(b, x), b->rows * k);
    out = product_operand(b, layer, "dy_cast", pass_whole(b, dy), b->rows * n);
    dsc_build_call(b, &w, OPERANDS(in, out, DSC_NO_SPAN, DSC_NO_SPAN, pass_gradient(b, layer, role)));
    if (bias_flag(b, layer, role + 1))
        dsc_build_call(b, &bias, OPERANDS(pass_whole(b, own_dy), pass_gradient(b, layer, role + 1)));
}

void pass_norm(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int32_t y, int32_t stats)
{
    dsc_shape shape = pass_shape_of(b, DSC_K_NORM_FWD, norm_flag(b), b->kept_rows, b->hidden, 0);

    dsc_build_call(b, &shape,
                   OPERANDS(pass_whole(b, x), pass_weight(b, layer, role), pass_weight(b, layer, role + 1),
                            pass_whole(b, y), pass_whole(b, stats)));
}

void pass_norm_bwd_x(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats,
                       int32_t residual, int32_t dx)
{
    int flags = norm_flag(b) | (residual >= 0 ? DSC_HAS_RESIDUAL : 0);
    dsc_shape shape = pass_shape_of(b, DSC_K_NORM_BWD_X, flags, b->kept_rows, b->hidden, 0);

    dsc_build_call(b, &shape,
                   OPERANDS(pass_whole(b, dy), pass_whole(b, x), pass_whole(b, stats), pass_weight(b, layer, role),
                            pass_whole(b, residual), pass_whole(b, dx)));
}

void pass_norm_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats)
{
    int flags = norm_flag(b) | pass_adds(b, layer, role, b->pass.is_first_x);
    dsc_shape shape = pass_shape_of(b, DSC_K_NORM_BWD_W, flags, b->kept_rows, b->hidden, 0);

    shape.out = (int8_t)pass_gradient_type(b, layer, role);
    dsc_build_call(b, &shape,
                   OPERANDS(pass_whole(b, dy), pass_whole(b, x), pass_whole(b, stats), pass_gradient(b, layer, role),
                            pass_gradient(b, layer, role + 1)));
}

static dsc_shape heads(const dsc_builder *b, int64_t layer, dsc_kernel fused, dsc_kernel unfused)
{
    const dsc_model *model = &b->plan->model;
    const dsc_layer_attention *a = dsc_plan_attention(b->plan, layer);
    int flags = (a->is_causal ? DSC_CAUSAL : 0) | (a->layout != NULL ? DSC_HAS_LAYOUT : 0);
    dsc_kernel kernel = a->kind == DSC_ATTENTION_UNFUSED ? unfused : fused;
    dsc_shape shape = pass_shape_of(b, kernel, flags, b->batch, b->seq, model->heads / b->tp);

    shape.d[3] = model->kv_heads / b->tp;
    shape.d[4] = model->hidden / model->heads;
    if (a->layout == NULL) return shape;
    shape.d[5] = a->present;
    shape.d[6] = a->layout->block;
    return shape;
}

void pass_rotate(dsc_builder *b, int32_t qkv, int flags)
{
    const dsc_model *model = &b->plan->model;
    dsc_shape shape = pass_shape_of(b, DSC_K_ROPE, flags, b->batch, b->seq, model->heads / b->tp);

    if (model->pos != DSC_POS_ROPE) return;
    shape.d[3] = model->kv_heads / b->tp;
    shape.d[4] = model->hidden / model->heads;
    shape.d[5] = model->rope_theta;
    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, qkv)));
}

bool pass_stores_scores(const dsc_builder *b, int64_t layer)
{
    return dsc_plan_attention(b->plan, layer)->kind == DSC_ATTENTION_UNFUSED;
}

/* The layer's lists of blocks, which are there before the first step. */
static dsc_span layout_of(const dsc_builder *b, int64_t layer)
{
    return pass_whole(b, b->program->layouts[b->plan->attention_of[layer]]);
}

void pass_mix(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_layer_buffers *l)
{
    dsc_shape shape = heads(b, layer, DSC_K_ATTENTION_FWD, DSC_K_SCORES_FWD);

    if (b->cp > 1) {
        pass_gather_keys(b, layer, l);
        dsc_build_op(b, kind, layer);
        pass_mix_part(b, layer, l);
        return;
    }
    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, l->qkv), pass_whole(b, l->context), pass_whole(b, l->lse),
                                       layout_of(b, layer), DSC_NO_SPAN));
}

void pass_mix_bwd(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t dcontext, int32_t dqkv)
{
    dsc_shape shape = heads(b, layer, DSC_K_ATTENTION_BWD, DSC_K_SCORES_BWD);

    if (b->cp > 1)
        pass_mix_part_bwd(b, layer, l, dcontext, dqkv);
    else if (pass_stores_scores(b, layer))
        dsc_build_call(
            b, &shape,
            OPERANDS(pass_whole(b, dcontext), pass_whole(b, l->qkv), pass_whole(b, l->lse), pass_whole(b, dqkv)));
    else
        dsc_build_call(b, &shape,
                       OPERANDS(pass_whole(b, dcontext), pass_whole(b, l->qkv), pass_whole(b, l->context),
                                pass_whole(b, l->lse), pass_whole(b, dqkv), layout_of(b, layer), DSC_NO_SPAN));
}

void pass_activation(dsc_builder *b, const dsc_layer_buffers *l)
{
    bool is_gated = b->plan->model.gated;
    dsc_shape shape = pass_shape_of(b, is_gated ? DSC_K_SWIGLU_FWD : DSC_K_GELU_FWD, 0, b->rows * pass_ffn(b), 0, 0);

    if (is_gated)
        dsc_build_call(b, &shape, OPERANDS(pass_whole(b, l->fc), pass_whole(b, l->gate), pass_whole(b, l->act)));
    else dsc_build_call(b, &shape, OPERANDS(pass_whole(b, l->fc), pass_whole(b, l->act)));
}

void pass_activation_bwd(dsc_builder *b, const dsc_layer_buffers *l, int32_t dfc, int32_t dgate)
{
    bool is_gated = b->plan->model.gated;
    dsc_shape shape = pass_shape_of(b, is_gated ? DSC_K_SWIGLU_BWD : DSC_K_GELU_BWD, 0, b->rows * pass_ffn(b), 0, 0);
    dsc_span dact = pass_whole(b, dfc);

    if (is_gated)
        dsc_build_call(b, &shape, OPERANDS(dact, pass_whole(b, l->fc), pass_whole(b, l->gate), dact,
                                           pass_whole(b, dgate)));
    else dsc_build_call(b, &shape, OPERANDS(dact, pass_whole(b, l->fc), dact));
}
