/* Where a shard's values stand in the whole tensor: by it weights are first filled, saved and loaded in any layout. */
#include "plan/plan.h"

/* Rows tp_index * n .. of the tensor, as many as there are. */
static int cut_rows(const dsc_tensor *tensor, const dsc_shard *shard, int64_t tp_index, dsc_block *out)
{
    int64_t first = tp_index * shard->shape[0], rows = DSC_MIN(shard->shape[0], tensor->shape[0] - first);

    if (rows <= 0) return 0;
    *out = (dsc_block){.rows = rows, .columns = shard->shape[1], .row = first};
    return 1;
}

/* The rank's part of a run of columns [first, first + columns) that is cut in tp equal parts. */
static dsc_block cut_columns(const dsc_plan *plan, int64_t rows, int64_t first, int64_t columns, int64_t tp_index)
{
    int64_t each = columns / plan->config.strategy.tp;

    return (dsc_block){.rows = rows, .columns = each, .column = first + tp_index * each};
}

/* q, k and v stand one behind another, each cut by heads. */
static int cut_qkv(const dsc_plan *plan, int64_t rows, int64_t tp_index, dsc_block out[DSC_SHARD_BLOCKS])
{
    const dsc_model *model = &plan->model;
    int64_t head = model->hidden / model->heads, kv = head * model->kv_heads;
    const int64_t widths[DSC_SHARD_BLOCKS] = {model->hidden, kv, kv};
    int64_t first = 0, held = 0;

    for (int i = 0; i < DSC_SHARD_BLOCKS; i++) {
        out[i] = cut_columns(plan, rows, first, widths[i], tp_index);
        out[i].shard_column = held;
        first += widths[i];
        held += out[i].columns;
    }
    return DSC_SHARD_BLOCKS;
}

int dsc_shard_blocks(const dsc_plan *plan, const dsc_shard *shard, int64_t tp_index, dsc_block out[DSC_SHARD_BLOCKS])
{
    const dsc_tensor *tensor = &plan->tensors[shard->tensor];
    bool is_vector = tensor->dims < 2;
    int64_t rows = is_vector ? 1 : tensor->shape[0], columns = is_vector ? tensor->shape[0] : tensor->shape[1];

    switch (tensor->cut) {
    case DSC_CUT_ROWS: return cut_rows(tensor, shard, tp_index, out);
    case DSC_CUT_QKV: return cut_qkv(plan, rows, tp_index, out);
    case DSC_CUT_COLUMNS: out[0] = cut_columns(plan, rows, 0, columns, tp_index); return 1;
    case DSC_CUT_NONE: out[0] = (dsc_block){.rows = rows, .columns = columns}; return 1;
    }
    return 0;
}
