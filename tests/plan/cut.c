#include "plan/partition.h"
#include "tests/plan/make.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Shards */

/* Of a random model whose sizes tp divides, but for the vocabulary and the positions. */
static dsc_plan *random_plan(void)
{
    static const int64_t degrees[] = {1, 2, 3, 4};
    int64_t tp = degrees[tap_random() % 4], pp = degrees[tap_random() % 4];
    int64_t chunks = pp > 1 && tap_random() % 2 == 1 ? 2 : 1, heads = tp * (1 + (int64_t)(tap_random() % 3));
    dsc_strategy s = make_strategy(tp, 1, pp);
    char model[160];

    s.virtual_stages = chunks;
    s.global_batch = pp;
    s.partition = (int)(tap_random() % 3);
    snprintf(model, sizeof model, "layers=%lld,hidden=%lld,heads=%lld,ffn=%lld,vocab=%lld,seq=%lld",
             (long long)(3 * pp * chunks), (long long)(heads * 4), (long long)heads,
             (long long)(tp * (1 + (int64_t)(tap_random() % 9))), (long long)(4 + (int64_t)(tap_random() % 300)),
             (long long)(1 + (int64_t)(tap_random() % 17)));
    return make_plan(model, NULL, &s);
}

/* Counts a block's elements in the tensor, and in the shard. */
static void paint(const dsc_tensor *tensor, const dsc_shard *shard, const dsc_block *block, int *in_tensor,
                  int *in_shard)
{
    int64_t columns = tensor->dims == 2 ? tensor->shape[1] : tensor->shape[0];
    int64_t shard_columns = tensor->dims == 2 ? shard->shape[1] : shard->shape[0];

    for (int64_t i = 0; i < block->rows; i++)
        for (int64_t j = 0; j < block->columns; j++) {
            int64_t at = (block->row + i) * columns + block->column + j;
            int64_t held = (block->shard_row + i) * shard_columns + block->shard_column + j;

            if (!CHECK(at < dsc_tensor_elems(tensor) && held < shard->shape[0] * shard->shape[1],
                       "%s: element %lld, %lld of the shard", tensor->name, (long long)at, (long long)held))
                return;
            in_tensor[at]++;
            in_shard[held]++;
        }
}

/* Each element on one tensor rank, or on all where the tensor is not cut; each of the shard's held once. */
static void check_tiling(const dsc_plan *plan, const dsc_shard *shard)
{
    const dsc_tensor *tensor = &plan->tensors[shard->tensor];
    int64_t elems = dsc_tensor_elems(tensor), tp = plan->config.strategy.tp, wrong = 0;
    int *in_tensor = calloc((size_t)elems, sizeof *in_tensor), *in_shard = calloc((size_t)shard->elems, sizeof(int));

    for (int64_t rank = 0; rank < tp; rank++) {
        dsc_block block;

        memset(in_shard, 0, (size_t)shard->elems * sizeof *in_shard);
        for (int64_t b = 0; dsc_shard_block(plan, shard, rank, b, &block); b++)
            paint(tensor, shard, &block, in_tensor, in_shard);
        for (int64_t i = 0; i < shard->elems; i++) wrong += in_shard[i] > 1;
    }
    for (int64_t i = 0; i < elems; i++) wrong += in_tensor[i] != (shard->is_replicated ? tp : 1);
    CHECK(wrong == 0, "tp %lld, %s: %lld elements are held too often or not at all", (long long)tp, tensor->name,
          (long long)wrong);
    free(in_tensor);
    free(in_shard);
}

/* Heads of random layouts, which are dealt to tensor ranks in an order of their own. */
static void dealt_shards_tile_tensors(void)
{
    int64_t dealt = 0;

    for (int i = 0; i < 30; i++) {
        int64_t tp = INT64_C(1) << i % 3, heads = tp * tap_random_between(1, 3);
        dsc_strategy s = make_strategy(tp, 1, 1);
        dsc_layout *layout = make_random_layout(16, 4, heads);
        dsc_attention attention = attend_by(layout);
        char model[160];
        dsc_plan *plan;

        snprintf(model, sizeof model, "layers=2,hidden=%lld,heads=%lld,ffn=%lld,vocab=30,seq=64",
                 (long long)(heads * 4), (long long)heads, (long long)(tp * 5));
        plan = make_plan_with(model, &s, &attention);
        dsc_layout_destroy(layout);
        if (plan == NULL) return;
        dealt += plan->attention[0].heads != NULL;
        for (int64_t k = 0; k < plan->stages[0].shard_count; k++) check_tiling(plan, &plan->stages[0].shards[k]);
        dsc_plan_destroy(plan);
    }
    CHECK(dealt > 0, "no plan of 30 deals heads");
}

static void shards_tile_tensors(void)
{
    for (int i = 0; i < 40; i++) {
        dsc_plan *plan = random_plan();

        if (plan == NULL) return;
        for (int64_t s = 0; s < plan->config.strategy.pp; s++)
            for (int64_t k = 0; k < plan->stages[s].shard_count; k++) check_tiling(plan, &plan->stages[s].shards[k]);
        dsc_plan_destroy(plan);
    }
}

/* Flat order of one stage: apart, aligned, those cut over tp before those replicated, each part by chunk and tensor. */
static void check_flat_order(const dsc_plan *plan, const dsc_stage *stage)
{
    int64_t reached = 0;

    for (int64_t i = 0; i < stage->shard_count; i++) {
        const dsc_shard *shard = &stage->shards[i], *before = i > 0 ? shard - 1 : shard;
        bool is_cut = plan->config.strategy.tp == 1 || plan->tensors[shard->tensor].cut != DSC_CUT_NONE;
        bool is_next = shard->chunk > before->chunk ||
                       (shard->chunk == before->chunk && shard->tensor > before->tensor);

        CHECK(shard->first >= reached && shard->first * 2 % DSC_ALIGN == 0, "shard %lld begins at %lld", (long long)i,
              (long long)shard->first);
        CHECK(shard->is_replicated == !is_cut && shard->is_replicated >= before->is_replicated, "shard %lld: %s",
              (long long)i, plan->tensors[shard->tensor].name);
        CHECK(i == 0 || shard->is_replicated > before->is_replicated || is_next, "shard %lld is out of order",
              (long long)i);
        reached = shard->first + shard->elems;
    }
    CHECK(reached <= stage->flat_elems, "the last shard passes the end");
}

/* Every tensor is on one stage, a tied embedding also, as a copy, on the last. */
static void check_owners(const dsc_plan *plan)
{
    int64_t pp = plan->config.strategy.pp, copies = 0;
    int *owners = calloc((size_t)plan->tensor_count, sizeof *owners);

    for (int64_t s = 0; s < pp; s++)
        for (int64_t k = 0; k < plan->stages[s].shard_count; k++) {
            const dsc_shard *shard = &plan->stages[s].shards[k];

            owners[shard->tensor] += !shard->is_copy;
            copies += shard->is_copy;
            if (shard->is_copy)
                CHECK(plan->tensors[shard->tensor].role == DSC_ROLE_WTE && s == pp - 1, "stage %lld has a copy of %s",
                      (long long)s, plan->tensors[shard->tensor].name);
        }
    for (int64_t t = 0; t < plan->tensor_count; t++)
        CHECK(owners[t] == 1, "%s is on %d stages", plan->tensors[t].name, owners[t]);
    CHECK(copies == (pp > 1), "%lld copies", (long long)copies);
    free(owners);
}

static void flat_order_is_by_cut(void)
{
    for (int i = 0; i < 40; i++) {
        dsc_plan *plan = random_plan();

        if (plan == NULL) return;
        for (int64_t s = 0; s < plan->config.strategy.pp; s++) check_flat_order(plan, &plan->stages[s]);
        check_owners(plan);
        dsc_plan_destroy(plan);
    }
}

/* ---- Layers */

/* Layers of the chunks, by virtual stage. */
static void check_chunks(const char *model, const dsc_strategy *s, const int64_t *layers)
{
    dsc_plan *plan = make_plan(model, NULL, s);
    int64_t first = 0, parts;

    if (plan == NULL) return;
    parts = plan->config.strategy.pp * plan->config.strategy.virtual_stages;
    for (int64_t part = 0; part < parts; part++) {
        const dsc_chunk *chunk = &plan->stages[part % s->pp].chunks[part / s->pp];

        CHECK(chunk->first_layer == first && chunk->layers == layers[part],
              "virtual stage %lld has %lld layers from %lld, expected %lld from %lld", (long long)part,
              (long long)chunk->layers, (long long)chunk->first_layer, (long long)layers[part], (long long)first);
        CHECK(chunk->has_embedding == (part == 0) && chunk->has_head == (part == parts - 1), "ends of %lld",
              (long long)part);
        first += layers[part];
    }
    CHECK(first == plan->model.layers, "%lld layers", (long long)first);
    dsc_plan_destroy(plan);
}

static void chunks_are_even(void)
{
    dsc_strategy s = make_strategy(1, 1, 4);

    check_chunks("layers=10,hidden=16,heads=2,vocab=64,seq=8", &s, (const int64_t[]){3, 3, 2, 2});
    s.pp = 2;
    s.virtual_stages = 2;
    s.global_batch = 2;
    check_chunks("layers=10,hidden=16,heads=2,vocab=64,seq=8", &s, (const int64_t[]){3, 3, 2, 2});
}

/* A vocabulary that weighs as much as a few layers takes them from both ends by parameters, and from the last by cost.
 * A layer has 12 C^2 + 13 C = 3280 parameters, the vocabulary 640 C = 10240; forward flops are 2 a weight. */
static void chunks_are_balanced(void)
{
    static const char *const model = "layers=12,hidden=16,heads=2,vocab=640,seq=8";
    dsc_strategy s = make_strategy(1, 1, 3);

    s.partition = DSC_PARTITION_PARAMETERS;
    check_chunks(model, &s, (const int64_t[]){3, 6, 3});
    s.partition = DSC_PARTITION_COST;
    check_chunks(model, &s, (const int64_t[]){5, 5, 2});
}

static void balanced_parts_refuse_long_work(void)
{
    int64_t first[4];
    double weight = 1;

    CHECK(dsc_partition_balanced(&weight, INT64_C(1) << 20, 3, first) == DSC_EINVAL, "a million items");
    CHECK(strstr(dsc_message(), "1048576") != NULL, "%s", dsc_message());
}

static const tap_case cases[] = {
    {"tensor ranks' blocks tile every tensor", shards_tile_tensors},
    {"so they do where heads are dealt out by their layouts", dealt_shards_tile_tensors},
    {"flat buffers hold what tp cuts, then what it replicates, each tensor on one stage", flat_order_is_by_cut},
    {"chunks have as many layers, the first ones one more", chunks_are_even},
    {"chunks are balanced by parameters or by cost", chunks_are_balanced},
    {"a balanced partition that takes too long is refused", balanced_parts_refuse_long_work},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
