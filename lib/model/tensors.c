/* The tensors of a model: one table for each family of names, a row a tensor, in flat order. */
#include "base/rng.h"
#include "model/parts.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A dimension by what it counts. QKV is q, then k, then v. */
typedef enum dim_kind { NO_DIM, C, F, V, T, QKV } dim_kind;

typedef enum init_kind { ZERO, ONE, NORMAL, RESIDUAL } init_kind;

/* When a tensor is there at all. */
typedef enum need_kind { ALWAYS, LEARNED, BIASED_NORM, GATED, UNTIED } need_kind;

typedef struct tensor_row {
    dsc_role role;
    const char *name; /* in a layer: what follows the family's prefix and the layer's number */
    bool is_in_layer;
    dim_kind shape[2];
    dsc_cut cut;
    init_kind init;
    need_kind need;
} tensor_row;

typedef struct family {
    const char *layer_prefix;
    const tensor_row *rows; /* before the layers, of each layer, after them; ended by a NULL name */
} family;

#define TOP false
#define LAYER true

static const tensor_row gpt2_rows[] = {
    {DSC_ROLE_WTE, "transformer.wte.weight", TOP, {V, C}, DSC_CUT_ROWS, NORMAL, ALWAYS},
    {DSC_ROLE_WPE, "transformer.wpe.weight", TOP, {T, C}, DSC_CUT_ROWS, NORMAL, LEARNED},
    {DSC_ROLE_NORM1_W, "ln_1.weight", LAYER, {C}, DSC_CUT_NONE, ONE, ALWAYS},
    {DSC_ROLE_NORM1_B, "ln_1.bias", LAYER, {C}, DSC_CUT_NONE, ZERO, BIASED_NORM},
    {DSC_ROLE_QKV_W, "attn.c_attn.weight", LAYER, {C, QKV}, DSC_CUT_QKV, NORMAL, ALWAYS},
    {DSC_ROLE_QKV_B, "attn.c_attn.bias", LAYER, {QKV}, DSC_CUT_QKV, ZERO, ALWAYS},
    {DSC_ROLE_PROJ_W, "attn.c_proj.weight", LAYER, {C, C}, DSC_CUT_ROWS, RESIDUAL, ALWAYS},
    {DSC_ROLE_PROJ_B, "attn.c_proj.bias", LAYER, {C}, DSC_CUT_NONE, ZERO, ALWAYS},
    {DSC_ROLE_NORM2_W, "ln_2.weight", LAYER, {C}, DSC_CUT_NONE, ONE, ALWAYS},
    {DSC_ROLE_NORM2_B, "ln_2.bias", LAYER, {C}, DSC_CUT_NONE, ZERO, BIASED_NORM},
    {DSC_ROLE_FC_W, "mlp.c_fc.weight", LAYER, {C, F}, DSC_CUT_COLUMNS, NORMAL, ALWAYS},
    {DSC_ROLE_FC_B, "mlp.c_fc.bias", LAYER, {F}, DSC_CUT_COLUMNS, ZERO, ALWAYS},
    {DSC_ROLE_GATE_W, "mlp.c_gate.weight", LAYER, {C, F}, DSC_CUT_COLUMNS, NORMAL, GATED},
    {DSC_ROLE_GATE_B, "mlp.c_gate.bias", LAYER, {F}, DSC_CUT_COLUMNS, ZERO, GATED},
    {DSC_ROLE_OUT_W, "mlp.c_proj.weight", LAYER, {F, C}, DSC_CUT_ROWS, RESIDUAL, ALWAYS},
    {DSC_ROLE_OUT_B, "mlp.c_proj.bias", LAYER, {C}, DSC_CUT_NONE, ZERO, ALWAYS},
    {DSC_ROLE_NORMF_W, "transformer.ln_f.weight", TOP, {C}, DSC_CUT_NONE, ONE, ALWAYS},
    {DSC_ROLE_NORMF_B, "transformer.ln_f.bias", TOP, {C}, DSC_CUT_NONE, ZERO, BIASED_NORM},
    {DSC_ROLE_HEAD_W, "lm_head.weight", TOP, {V, C}, DSC_CUT_ROWS, NORMAL, UNTIED},
    {DSC_ROLE_COUNT, NULL, TOP, {NO_DIM}, DSC_CUT_NONE, ZERO, ALWAYS},
};

/* Products are [in, out] here as in GPT-2, so that one rule cuts both families; checkpoints turn them. */
static const tensor_row llama_rows[] = {
    {DSC_ROLE_WTE, "model.embed_tokens.weight", TOP, {V, C}, DSC_CUT_ROWS, NORMAL, ALWAYS},
    {DSC_ROLE_NORM1_W, "input_layernorm.weight", LAYER, {C}, DSC_CUT_NONE, ONE, ALWAYS},
    {DSC_ROLE_QKV_W, "self_attn.qkv_proj.weight", LAYER, {C, QKV}, DSC_CUT_QKV, NORMAL, ALWAYS},
    {DSC_ROLE_PROJ_W, "self_attn.o_proj.weight", LAYER, {C, C}, DSC_CUT_ROWS, RESIDUAL, ALWAYS},
    {DSC_ROLE_NORM2_W, "post_attention_layernorm.weight", LAYER, {C}, DSC_CUT_NONE, ONE, ALWAYS},
    {DSC_ROLE_FC_W, "mlp.up_proj.weight", LAYER, {C, F}, DSC_CUT_COLUMNS, NORMAL, ALWAYS},
    {DSC_ROLE_GATE_W, "mlp.gate_proj.weight", LAYER, {C, F}, DSC_CUT_COLUMNS, NORMAL, ALWAYS},
    {DSC_ROLE_OUT_W, "mlp.down_proj.weight", LAYER, {F, C}, DSC_CUT_ROWS, RESIDUAL, ALWAYS},
    {DSC_ROLE_NORMF_W, "model.norm.weight", TOP, {C}, DSC_CUT_NONE, ONE, ALWAYS},
    {DSC_ROLE_HEAD_W, "lm_head.weight", TOP, {V, C}, DSC_CUT_ROWS, NORMAL, UNTIED},
    {DSC_ROLE_COUNT, NULL, TOP, {NO_DIM}, DSC_CUT_NONE, ZERO, ALWAYS},
};

static const family gpt2 = {"transformer.h", gpt2_rows};
static const family llama = {"model.layers", llama_rows};

static const family *family_of(const dsc_model *model)
{
    return model->norm == DSC_NORM_RMS && model->pos == DSC_POS_ROPE && model->gated ? &llama : &gpt2;
}

static bool is_present(const dsc_model *model, const tensor_row *row)
{
    switch (row->need) {
    case ALWAYS: return true;
    case LEARNED: return model->pos == DSC_POS_LEARNED;
    case BIASED_NORM: return model->norm == DSC_NORM_LAYER;
    case GATED: return model->gated;
    case UNTIED: return !model->tied;
    }
    return false;
}

/* Within 2^42 for checked sizes: kv_heads is at most heads. */
static int64_t size_of(const dsc_model *model, dim_kind dim)
{
    switch (dim) {
    case NO_DIM: return 1;
    case C: return model->hidden;
    case F: return model->ffn;
    case V: return model->vocab;
    case T: return model->seq;
    case QKV: return model->hidden + 2 * (model->hidden / model->heads) * model->kv_heads;
    }
    return 1;
}

bool dsc_model_count(const dsc_model *model, int64_t *out)
{
    int64_t count = 0;

    for (const tensor_row *row = family_of(model)->rows; row->name != NULL; row++) {
        int64_t elems;

        if (!is_present(model, row)) continue;
        if (!dsc_mul(size_of(model, row->shape[0]), size_of(model, row->shape[1]), &elems) ||
            !dsc_mul(elems, row->is_in_layer ? model->layers : 1, &elems) || !dsc_add(count, elems, &count))
            return false;
    }
    *out = count;
    return true;
}

/* GPT-2's initial values (Radford et al. 2019): what adds to the residual stream, twice a layer, starts smaller. */
static void set_init(const dsc_model *model, init_kind init, dsc_tensor *out)
{
    const double deviation = 0.02;

    switch (init) {
    case ZERO: break;
    case ONE: out->init_value = 1; break;
    case NORMAL: out->init_std = deviation; break;
    case RESIDUAL: out->init_std = deviation / sqrt(2.0 * (double)model->layers); break;
    }
}

static dsc_tensor tensor_of(const dsc_model *model, const tensor_row *row, int64_t layer)
{
    dsc_tensor tensor = {.role = row->role, .layer = layer, .cut = row->cut};
    const size_t size = sizeof tensor.name;

    if (layer < 0) snprintf(tensor.name, size, "%s", row->name);
    else snprintf(tensor.name, size, "%s.%lld.%s", family_of(model)->layer_prefix, (long long)layer, row->name);
    for (int i = 0; i < 2; i++) tensor.shape[i] = size_of(model, row->shape[i]);
    tensor.dims = row->shape[1] == NO_DIM ? 1 : 2;
    tensor.is_turned = family_of(model) == &llama && layer >= 0 && tensor.dims == 2;
    set_init(model, row->init, &tensor);
    return tensor;
}

/* Appends what stands from *row on in one part of the table (a layer's, or outside them for layer -1), and returns
 * where the next part begins. */
static const tensor_row *add_part(const dsc_model *model, const tensor_row *row, int64_t layer, dsc_tensor *out,
                                  int64_t *count)
{
    for (; row->name != NULL && row->is_in_layer == (layer >= 0); row++)
        if (is_present(model, row)) out[(*count)++] = tensor_of(model, row, layer);
    return row;
}

dsc_status dsc_model_tensors(const dsc_model *model, dsc_tensor **out, int64_t *count)
{
    const tensor_row *layer_rows, *last_rows = NULL;
    int64_t most = (model->layers + 1) * DSC_ROLE_COUNT, n = 0;
    dsc_tensor *tensors = malloc((size_t)most * sizeof *tensors);

    if (tensors == NULL)
        return DSC_FAIL(DSC_ENOMEM, "%s: no memory for the list of %lld tensors", model->name, (long long)most);
    layer_rows = add_part(model, family_of(model)->rows, -1, tensors, &n);
    for (int64_t layer = 0; layer < model->layers; layer++)
        last_rows = add_part(model, layer_rows, layer, tensors, &n);
    add_part(model, last_rows, -1, tensors, &n);
    *out = tensors;
    *count = n;
    return DSC_OK;
}

/* A turned tensor, or the part of a fused one from `column` on, whose name has one letter for three: q_proj. */
static dsc_stored stored_part(const dsc_tensor *tensor, char letter, int64_t column, int64_t columns)
{
    dsc_stored part = {.column = column, .columns = columns, .dims = 2, .shape = {columns, tensor->shape[0]}};
    const char *fused = strstr(tensor->name, "qkv_proj");

    if (fused == NULL) snprintf(part.name, sizeof part.name, "%s", tensor->name);
    else
        snprintf(part.name, sizeof part.name, "%.*s%c%s", (int)(fused - tensor->name), tensor->name, letter, fused + 3);
    return part;
}

int dsc_tensor_stored(const dsc_tensor *tensor, dsc_stored out[DSC_STORED_MOST])
{
    const int64_t rows = tensor->shape[0], columns = tensor->shape[1], kv = (columns - rows) / 2;

    if (tensor->is_turned && tensor->role == DSC_ROLE_QKV_W) {
        out[0] = stored_part(tensor, 'q', 0, rows);
        out[1] = stored_part(tensor, 'k', rows, kv);
        out[2] = stored_part(tensor, 'v', rows + kv, kv);
        return 3;
    }
    out[0] = stored_part(tensor, 0, 0, tensor->dims < 2 ? rows : columns);
    if (tensor->is_turned) return 1;
    out[0].dims = tensor->dims;
    memcpy(out[0].shape, tensor->shape, sizeof out[0].shape);
    return 1;
}

int64_t dsc_tensor_elems(const dsc_tensor *tensor)
{
    return tensor->shape[0] * tensor->shape[1];
}

void dsc_tensor_init(const dsc_tensor *tensor, uint64_t seed, int64_t first, int64_t count, float *out)
{
    bool is_random = tensor->init_std > 0;

    if (is_random) dsc_random_normal(seed, dsc_stream_of(tensor->name), first, count, out);
    for (int64_t i = 0; i < count; i++)
        out[i] = is_random ? (float)(tensor->init_std * out[i]) : tensor->init_value;
}
