/* Layers to stages, tensors to shards. */
#include "plan/parts.h"
#include "plan/partition.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* Rows of the vocabulary on a rank are padded so that products over them have whole cache lines. */
enum { VOCAB_ALIGN = 64 };

/* ---- Layers */

/* What a chunk may begin or end with: the embedding is item 0, then the layers, then the head. */
static int64_t item_of(const dsc_plan *plan, const dsc_tensor *tensor)
{
    if (tensor->layer >= 0) return tensor->layer + 1;
    return tensor->role == DSC_ROLE_WTE || tensor->role == DSC_ROLE_WPE ? 0 : plan->model.layers + 1;
}

/* A tied head is a product, and in a pipeline a copy of the embedding's rows: it counts at both ends. */
static void weigh_parameters(const dsc_plan *plan, double *weights)
{
    for (int64_t t = 0; t < plan->tensor_count; t++) {
        const dsc_tensor *tensor = &plan->tensors[t];

        weights[item_of(plan, tensor)] += (double)dsc_tensor_elems(tensor);
        if (tensor->role == DSC_ROLE_WTE && plan->model.tied)
            weights[plan->model.layers + 1] += (double)dsc_tensor_elems(tensor);
    }
}

/* Keys that a query meets, as if a causal layer met all: of a layout by its blocks. */
static double keys_of(const dsc_plan *plan, int64_t layer)
{
    const dsc_layer_attention *a = dsc_plan_attention(plan, layer);
    double seq = (double)plan->config.strategy.seq_len;

    return a->layout == NULL ? seq : fmin((a->is_causal ? 2 : 1) * dsc_layout_density(a->layout), 1) * seq;
}

/* Forward flops of a token: two for each weight of a product, and attention's two products over the keys. */
static void weigh_cost(const dsc_plan *plan, double *weights)
{
    const dsc_model *model = &plan->model;

    for (int64_t t = 0; t < plan->tensor_count; t++) {
        const dsc_tensor *tensor = &plan->tensors[t];

        if (tensor->dims == 2 && tensor->layer >= 0)
            weights[item_of(plan, tensor)] += 2 * (double)dsc_tensor_elems(tensor);
    }
    for (int64_t layer = 1; layer <= model->layers; layer++)
        weights[layer] += 4 * keys_of(plan, layer - 1) * (double)model->hidden;
    weights[model->layers + 1] = 2 * (double)model->vocab * (double)model->hidden;
}

/* first[part] of the layers: a balanced cut is one of items, whose ends are no layers. */
static dsc_status cut_layers(const dsc_plan *plan, int64_t parts, int64_t *first)
{
    int64_t layers = plan->model.layers, items = layers + 2;
    double *weights = calloc((size_t)items, sizeof *weights);
    dsc_status status = DSC_OK;

    if (weights == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "plan: weights of %" PRId64 " layers", layers);
        goto out;
    }
    if (plan->config.strategy.partition == DSC_PARTITION_UNIFORM) {
        dsc_partition_uniform(layers, parts, first);
        /* The embedding, and then the head, are chunks by themselves where interleaved ones are more than layers. */
        for (int64_t part = 0; part <= parts && layers < parts && plan->config.strategy.virtual_stages > 1; part++)
            first[part] = DSC_MIN(DSC_MAX(part - 1, 0), layers);
        goto out;
    }
    if (plan->config.strategy.partition == DSC_PARTITION_PARAMETERS) weigh_parameters(plan, weights);
    else weigh_cost(plan, weights);
    DSC_TRY(dsc_partition_balanced(weights, items, parts, first));
    for (int64_t part = 0; part <= parts; part++) first[part] = DSC_MIN(DSC_MAX(first[part] - 1, 0), layers);
out:
    free(weights);
    return status;
}

static dsc_status check_layers(const dsc_plan *plan, int64_t parts, const int64_t *first)
{
    int64_t pp = plan->config.strategy.pp;

    for (int64_t part = 1; part < parts - 1; part++)
        if (first[part] == first[part + 1])
            return DSC_FAIL(DSC_EINVAL,
                            "--pp %" PRId64 " x --virtual-stages %" PRId64 " = %" PRId64 " chunks for %" PRId64
                            " layers: chunk %" PRId64 " of stage %" PRId64 " would have none",
                            pp, plan->config.strategy.virtual_stages, parts, plan->model.layers, part / pp, part % pp);
    return DSC_OK;
}

static dsc_status place_layers(dsc_plan *plan)
{
    int64_t pp = plan->config.strategy.pp, parts = pp * plan->config.strategy.virtual_stages;
    int64_t *first = calloc((size_t)parts + 1, sizeof *first);
    dsc_status status = DSC_OK;

    if (first == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "plan: %" PRId64 " chunks", parts);
        goto out;
    }
    DSC_TRY(cut_layers(plan, parts, first));
    DSC_TRY(check_layers(plan, parts, first));
    for (int64_t part = 0; part < parts; part++)
        plan->stages[part % pp].chunks[part / pp] =
            (dsc_chunk){.first_layer = first[part], .layers = first[part + 1] - first[part],
                        .has_embedding = part == 0, .has_head = part == parts - 1};
out:
    free(first);
    return status;
}

/* ---- Tensors */

static bool chunk_holds(const dsc_plan *plan, const dsc_chunk *chunk, const dsc_tensor *tensor)
{
    if (tensor->layer >= 0)
        return tensor->layer >= chunk->first_layer && tensor->layer < chunk->first_layer + chunk->layers;
    if (tensor->role == DSC_ROLE_WTE) return chunk->has_embedding || (chunk->has_head && plan->model.tied);
    if (tensor->role == DSC_ROLE_WPE) return chunk->has_embedding;
    return chunk->has_head;
}

static dsc_shard shard_of(const dsc_plan *plan, const dsc_chunk *chunk, int64_t index)
{
    const dsc_tensor *tensor = &plan->tensors[index];
    bool is_vocab = tensor->role == DSC_ROLE_WTE || tensor->role == DSC_ROLE_HEAD_W;
    int64_t tp = plan->config.strategy.tp, last = tensor->dims - 1;
    dsc_shard shard = {.tensor = (int32_t)index, .shape = {tensor->shape[0], last > 0 ? tensor->shape[1] : 1}};

    if (tensor->cut == DSC_CUT_ROWS) shard.shape[0] = dsc_ceil_div(shard.shape[0], tp);
    else if (tensor->cut != DSC_CUT_NONE) shard.shape[last] /= tp;
    shard.padded_rows = is_vocab ? dsc_round_up(shard.shape[0], VOCAB_ALIGN) : shard.shape[0];
    shard.elems = shard.padded_rows * shard.shape[1];
    shard.is_replicated = tp > 1 && tensor->cut == DSC_CUT_NONE;
    shard.is_copy = tensor->role == DSC_ROLE_WTE && !chunk->has_embedding;
    return shard;
}

/* Appends the stage's shards that are replicated, or those that are not. */
static dsc_status add_shards(const dsc_plan *plan, dsc_stage *stage, bool replicated, int64_t *capacity)
{
    for (int64_t c = 0; c < stage->chunk_count; c++)
        for (int64_t t = 0; t < plan->tensor_count; t++) {
            if (!chunk_holds(plan, &stage->chunks[c], &plan->tensors[t])) continue;
            dsc_shard shard = shard_of(plan, &stage->chunks[c], t);
            if (shard.is_replicated != replicated) continue;
            shard.chunk = (int32_t)c;
            if (DSC_PUSH(stage->shards, stage->shard_count, *capacity, shard) != DSC_OK) return DSC_ENOMEM;
        }
    return DSC_OK;
}

/* Gradients of replicated tensors may need a sum over tensor ranks, so they stand together, behind the others. */
static dsc_status cut_tensors(const dsc_plan *plan, dsc_stage *stage)
{
    dsc_status status = DSC_OK;
    int64_t capacity = 0;

    DSC_TRY(add_shards(plan, stage, false, &capacity));
    DSC_TRY(add_shards(plan, stage, true, &capacity));
    DSC_TRY(dsc_plan_fill_buckets(plan, stage));
out:
    return status;
}

dsc_status dsc_plan_cut(dsc_plan *plan)
{
    int64_t pp = plan->config.strategy.pp, chunks = plan->config.strategy.virtual_stages;
    dsc_status status = DSC_OK;

    plan->stages = calloc((size_t)pp, sizeof *plan->stages);
    if (plan->stages == NULL) return DSC_FAIL(DSC_ENOMEM, "plan: %" PRId64 " stages", pp);
    for (int64_t s = 0; s < pp; s++) {
        plan->stages[s].chunks = calloc((size_t)chunks, sizeof *plan->stages[s].chunks);
        if (plan->stages[s].chunks == NULL) return DSC_FAIL(DSC_ENOMEM, "plan: %" PRId64 " chunks", chunks);
        plan->stages[s].chunk_count = chunks;
    }
    DSC_TRY(place_layers(plan));
    for (int64_t s = 0; s < pp; s++) DSC_TRY(cut_tensors(plan, &plan->stages[s]));
out:
    return status;
}
