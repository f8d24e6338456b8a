/* Context parallelism: a rank has a part of each sequence's tokens, and every key meets every query. Keys and values
 * are gathered over the context ranks before the core of attention, and their gradients, made by all, scattered behind
 * it (Llama Team 2024, 3.3.2). Tokens are dealt out so that under a causal mask ranks compute equally many pairs. */
#include "program/pass.h"

static int64_t keys_columns(const dsc_builder *b)
{
    const dsc_model *model = &b->plan->model;

    return 2 * model->kv_heads / b->tp * (model->hidden / model->heads);
}

static dsc_shape keys_shape(const dsc_builder *b, dsc_kernel kernel)
{
    const dsc_model *model = &b->plan->model;
    dsc_shape shape = pass_shape_of(b, kernel, 0, b->rows, model->heads / b->tp, model->kv_heads / b->tp);

    shape.d[3] = model->hidden / model->heads;
    return shape;
}

static dsc_shape part_shape(const dsc_builder *b, int64_t layer, dsc_kernel kernel)
{
    const dsc_model *model = &b->plan->model;
    const int flags = dsc_plan_attention(b->plan, layer)->is_causal ? DSC_CAUSAL : 0;
    dsc_shape shape = pass_shape_of(b, kernel, flags, b->batch, b->seq, model->heads / b->tp);

    shape.d[3] = model->kv_heads / b->tp;
    shape.d[4] = model->hidden / model->heads;
    shape.d[5] = b->seq * b->cp;
    return shape;
}

void pass_gather_keys(dsc_builder *b, int64_t layer, dsc_layer_buffers *l)
{
    const dsc_shape shape = keys_shape(b, DSC_K_KEYS_PACK);
    int32_t own = pass_transient(b, "own_keys", layer, keys_columns(b));

    l->keys = pass_transient(b, "keys", layer, b->cp * keys_columns(b));
    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, l->qkv), pass_whole(b, own)));
    dsc_build_end(b);
    dsc_build_transfer(b, DSC_OP_ALL_GATHER, DSC_AXIS_CP, layer, pass_whole(b, own), pass_whole(b, l->keys), b->type);
}

void pass_mix_part(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l)
{
    const dsc_shape shape = part_shape(b, layer, DSC_K_ATTENTION_PART_FWD);

    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, l->qkv), pass_whole(b, l->keys), pass_whole(b, l->context),
                                       pass_whole(b, l->lse)));
}

void pass_mix_part_bwd(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t dcontext, int32_t dqkv)
{
    const dsc_shape shape = part_shape(b, layer, DSC_K_ATTENTION_PART_BWD), unpack = keys_shape(b, DSC_K_KEYS_UNPACK);
    int32_t parts = pass_transient(b, "dkeys", layer, b->cp * keys_columns(b));
    int32_t own = pass_transient(b, "own_dkeys", layer, keys_columns(b));

    dsc_build_call(b, &shape,
                   OPERANDS(pass_whole(b, dcontext), pass_whole(b, l->qkv), pass_whole(b, l->keys),
                            pass_whole(b, l->context), pass_whole(b, l->lse), pass_whole(b, dqkv),
                            pass_whole(b, parts)));
    dsc_build_end(b);
    dsc_build_transfer(b, DSC_OP_REDUCE_SCATTER, DSC_AXIS_CP, layer, pass_whole(b, parts), pass_whole(b, own), b->type);
    dsc_build_op(b, DSC_OP_ATTENTION_BWD_X, layer);
    dsc_build_call(b, &unpack, OPERANDS(pass_whole(b, own), pass_whole(b, dqkv)));
}
