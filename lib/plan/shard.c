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

/* Columns [low, high) of a shard's rows [row, row + rows), as far as the block has them. */
static int add_run(const dsc_block *block, int64_t row, int64_t rows, int64_t low, int64_t high, dsc_block *out)
{
    int64_t first = DSC_MAX(row, block->shard_row), end = DSC_MIN(row + rows, block->shard_row + block->rows);

    low = DSC_MAX(low, block->shard_column);
    high = DSC_MIN(high, block->shard_column + block->columns);
    if (first >= end || low >= high) return 0;
    *out = (dsc_block){.rows = end - first, .columns = high - low, .row = block->row + first - block->shard_row,
                       .column = block->column + low - block->shard_column, .shard_row = first, .shard_column = low};
    return 1;
}

/* A run begins and ends within a row: a piece of the first, whole rows, a piece of the last. */
int dsc_block_run(const dsc_block *block, int64_t shard_columns, int64_t first, int64_t elems,
                  dsc_block out[DSC_RUN_BLOCKS])
{
    int64_t row = first / shard_columns, column = first % shard_columns, end = column + elems;
    int64_t rows = end / shard_columns, rest = end % shard_columns;
    int count = 0;

    if (rows == 0) return add_run(block, row, 1, column, end, out);
    if (column > 0) {
        count += add_run(block, row, 1, column, shard_columns, out + count);
        row++;
        rows--;
    }
    count += add_run(block, row, rows, 0, shard_columns, out + count);
    return count + add_run(block, row + rows, 1, 0, rest, out + count);
}
