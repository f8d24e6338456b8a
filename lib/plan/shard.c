/* Where a shard's values stand in the whole tensor: by it weights are first filled, saved and loaded in any layout. */
#include "plan/plan.h"

/* Rows tp_index * n .. of the tensor, as many as there are. */
static bool cut_rows(const dsc_tensor *tensor, const dsc_shard *shard, int64_t tp_index, dsc_block *out)
{
    int64_t first = tp_index * shard->shape[0], rows = DSC_MIN(shard->shape[0], tensor->shape[0] - first);

    *out = (dsc_block){.rows = rows, .columns = shard->shape[1], .row = first};
    return rows > 0;
}

/* The tensor's way to attend, where that deals heads to ranks in an order of its own; else NULL. */
static const dsc_layer_attention *dealt_heads(const dsc_plan *plan, const dsc_tensor *tensor)
{
    const dsc_layer_attention *a = tensor->layer < 0 ? NULL : dsc_plan_attention(plan, tensor->layer);

    return a == NULL || a->heads == NULL ? NULL : a;
}

/* Block `index` of a run of heads, each of `width` elements, that ranks share: its first element in the run and in the
 * rank's part of it, and how many. All at once where heads are in order, else head by head. */
typedef struct stretch { int64_t first, held, count; } stretch;

static stretch heads_of(const dsc_plan *plan, const dsc_layer_attention *dealt, int64_t heads, int64_t width,
                        int64_t tp_index, int64_t index)
{
    int64_t each = heads / plan->config.strategy.tp;

    if (dealt == NULL) return (stretch){tp_index * each * width, 0, each * width};
    return (stretch){dsc_plan_head(plan, dealt, tp_index, index) * width, index * width, width};
}

/* q, k and v stand one behind another, each cut by heads. */
static bool cut_qkv(const dsc_plan *plan, const dsc_tensor *tensor, int64_t rows, int64_t tp_index, int64_t index,
                    dsc_block *out)
{
    const dsc_model *model = &plan->model;
    const dsc_layer_attention *dealt = dealt_heads(plan, tensor);
    const int64_t heads[] = {model->heads, model->kv_heads, model->kv_heads}, width = model->hidden / model->heads;
    int64_t first = 0, held = 0;

    for (int i = 0; i < DSC_COUNT(heads); i++) {
        int64_t each = heads[i] / plan->config.strategy.tp, blocks = dealt == NULL ? 1 : each;

        if (index < blocks) {
            stretch s = heads_of(plan, dealt, heads[i], width, tp_index, index);

            *out = (dsc_block){.rows = rows, .columns = s.count, .column = first + s.first,
                               .shard_column = held + s.held};
            return true;
        }
        index -= blocks;
        first += heads[i] * width;
        held += each * width;
    }
    return false;
}

/* Rows of the product behind attention, which are columns of its context. */
static bool cut_context_rows(const dsc_plan *plan, const dsc_layer_attention *dealt, const dsc_shard *shard,
                             int64_t tp_index, int64_t index, dsc_block *out)
{
    const dsc_model *model = &plan->model;
    stretch s;

    if (index >= model->heads / plan->config.strategy.tp) return false;
    s = heads_of(plan, dealt, model->heads, model->hidden / model->heads, tp_index, index);
    *out = (dsc_block){.rows = s.count, .columns = shard->shape[1], .row = s.first, .shard_row = s.held};
    return true;
}

bool dsc_shard_block(const dsc_plan *plan, const dsc_shard *shard, int64_t tp_index, int64_t index, dsc_block *out)
{
    const dsc_tensor *tensor = &plan->tensors[shard->tensor];
    const dsc_layer_attention *dealt = tensor->role == DSC_ROLE_PROJ_W ? dealt_heads(plan, tensor) : NULL;
    bool is_vector = tensor->dims < 2;
    int64_t rows = is_vector ? 1 : tensor->shape[0], columns = is_vector ? tensor->shape[0] : tensor->shape[1];

    if (tensor->cut == DSC_CUT_QKV) return cut_qkv(plan, tensor, rows, tp_index, index, out);
    if (dealt != NULL) return cut_context_rows(plan, dealt, shard, tp_index, index, out);
    if (index > 0) return false;
    if (tensor->cut == DSC_CUT_ROWS) return cut_rows(tensor, shard, tp_index, out);
    *out = (dsc_block){.rows = rows, .columns = columns};
    if (tensor->cut == DSC_CUT_NONE) return true;
    out->columns /= plan->config.strategy.tp;
    out->column = tp_index * out->columns;
    return true;
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
