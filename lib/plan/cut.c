/* Layers to stages, tensors to shards. */
#include "plan/parts.h"
#include <stdlib.h>

/* A shard starts at a multiple of DSC_ALIGN bytes whatever the element's size, down to 16 bits. */
enum { ALIGN_ELEMS = DSC_ALIGN / 2 };

/* Rows of the vocabulary on a rank are padded so that products over them have whole cache lines. */
enum { VOCAB_ALIGN = 64 };

/* Consecutive layers, the first layers % parts parts one more. */
static void cut_layers(const dsc_plan *plan, int64_t part, int64_t parts, dsc_chunk *out)
{
    int64_t layers = plan->model.layers, each = layers / parts, more = layers % parts;

    out->first_layer = part * each + DSC_MIN(part, more);
    out->layers = each + (part < more);
    out->has_embedding = part == 0;
    out->has_head = part == parts - 1;
}

static bool chunk_holds(const dsc_plan *plan, const dsc_chunk *chunk, const dsc_tensor *tensor)
{
    if (tensor->layer >= 0)
        return tensor->layer >= chunk->first_layer && tensor->layer < chunk->first_layer + chunk->layers;
    if (tensor->role == DSC_ROLE_WTE) return chunk->has_embedding || (chunk->has_head && plan->model.tied);
    if (tensor->role == DSC_ROLE_WPE) return chunk->has_embedding;
    return chunk->has_head;
}

static dsc_shard shard_of(const dsc_plan *plan, int64_t index, int64_t first)
{
    const dsc_tensor *tensor = &plan->tensors[index];
    bool is_vocab = tensor->role == DSC_ROLE_WTE || tensor->role == DSC_ROLE_HEAD_W;
    int64_t tp = plan->config.strategy.tp, last = tensor->dims - 1;
    dsc_shard shard = {
        .tensor = (int32_t)index, .shape = {tensor->shape[0], last > 0 ? tensor->shape[1] : 1}, .first = first};

    if (tensor->cut == DSC_CUT_ROWS) shard.shape[0] = dsc_ceil_div(shard.shape[0], tp);
    else if (tensor->cut != DSC_CUT_NONE) shard.shape[last] /= tp;
    shard.padded_rows = is_vocab ? dsc_round_up(shard.shape[0], VOCAB_ALIGN) : shard.shape[0];
    shard.elems = shard.padded_rows * shard.shape[1];
    return shard;
}

static bool is_replicated(const dsc_plan *plan, const dsc_tensor *tensor)
{
    return plan->config.strategy.tp > 1 && tensor->cut == DSC_CUT_NONE;
}

/* The stage's tensors that are replicated over tp, or those that are not. */
static dsc_status cut_tensors(const dsc_plan *plan, dsc_stage *stage, bool replicated, int64_t *capacity)
{
    for (int64_t c = 0; c < stage->chunk_count; c++)
        for (int64_t t = 0; t < plan->tensor_count; t++) {
            const dsc_tensor *tensor = &plan->tensors[t];

            if (!chunk_holds(plan, &stage->chunks[c], tensor) || is_replicated(plan, tensor) != replicated) continue;
            dsc_shard shard = shard_of(plan, t, stage->flat_elems);
            shard.chunk = (int32_t)c;
            shard.is_replicated = replicated;
            shard.is_copy = tensor->role == DSC_ROLE_WTE && !stage->chunks[c].has_embedding;
            if (DSC_PUSH(stage->shards, stage->shard_count, *capacity, shard) != DSC_OK) return DSC_ENOMEM;
            stage->flat_elems = dsc_round_up(shard.first + shard.elems, ALIGN_ELEMS);
        }
    return DSC_OK;
}

dsc_status dsc_plan_cut(dsc_plan *plan)
{
    int64_t pp = plan->config.strategy.pp, chunks = plan->config.strategy.virtual_stages;
    dsc_status status = DSC_OK;

    plan->stages = calloc((size_t)pp, sizeof *plan->stages);
    if (plan->stages == NULL) return DSC_FAIL(DSC_ENOMEM, "plan: %lld stages", (long long)pp);
    for (int64_t s = 0; s < pp; s++) {
        dsc_stage *stage = &plan->stages[s];
        int64_t capacity = 0;

        stage->chunks = calloc((size_t)chunks, sizeof *stage->chunks);
        if (stage->chunks == NULL) return DSC_FAIL(DSC_ENOMEM, "plan: %lld chunks", (long long)chunks);
        stage->chunk_count = chunks;
        for (int64_t c = 0; c < chunks; c++) cut_layers(plan, c * pp + s, chunks * pp, &stage->chunks[c]);
        DSC_TRY(cut_tensors(plan, stage, false, &capacity));
        stage->replicated_shard = stage->shard_count;
        stage->replicated_first = stage->flat_elems;
        DSC_TRY(cut_tensors(plan, stage, true, &capacity));
    }
out:
    return status;
}
