/* Buckets, their parts, and where each state of each bucket is kept, of random models and strategies. */
#include "tests/plan/make.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>

static dsc_plan *random_plan(void)
{
    int64_t tp = tap_random_between(1, 3), pp = tap_random_between(1, 2), dp = tap_random_between(1, 5);
    dsc_strategy s = make_strategy(tp, dp, pp);
    char model[160];

    s.zero = (int)tap_random_between(0, 3);
    s.offload = (int)tap_random_between(DSC_OFFLOAD_NONE, DSC_OFFLOAD_PARAMS);
    if (s.offload == DSC_OFFLOAD_PARAMS && (s.zero == 1 || s.zero == 2)) s.zero = 3;
    if (s.offload == DSC_OFFLOAD_OPTIMIZER) s.offload_ratio = (double)tap_random_between(0, 4) / 4;
    s.precision = (int)tap_random_between(DSC_FP32, DSC_FP16);
    s.bucket_elems = tap_random_between(1, 3000);
    s.global_batch = dp * tap_random_between(1, 3);
    snprintf(model, sizeof model, "layers=%d,hidden=%d,heads=%d,ffn=%d,vocab=%d,seq=%d", (int)tap_random_between(2, 4),
             (int)tp * 12, (int)tp * 2, (int)(tp * tap_random_between(1, 9)), (int)tap_random_between(4, 300),
             (int)tap_random_between(1, 17));
    return make_plan(model, NULL, &s);
}

static void for_random_stages(void (*check)(const dsc_plan *plan, const dsc_stage *stage))
{
    for (int draw = 0; draw < 60; draw++) {
        dsc_plan *plan = random_plan();

        if (plan == NULL) return;
        for (int64_t s = 0; s < plan->config.strategy.pp; s++) check(plan, &plan->stages[s]);
        dsc_plan_destroy(plan);
    }
}

/* Every shard in one bucket, buckets one behind another, parts equal and aligned. */
static void check_buckets(const dsc_plan *plan, const dsc_stage *stage)
{
    int64_t shard = 0, end = 0;

    for (int64_t i = 0; i < stage->bucket_count; i++) {
        const dsc_bucket *b = &stage->buckets[i];

        CHECK(b->first == shard && b->end > b->first && b->first_elem == end, "bucket %d begins elsewhere", (int)i);
        CHECK(b->elems / plan->parts * plan->parts == b->elems && b->elems / plan->parts * 2 % DSC_ALIGN == 0,
              "%lld elements in %lld parts", (long long)b->elems, (long long)plan->parts);
        for (; shard < b->end; shard++) {
            const dsc_shard *s = &stage->shards[shard];

            CHECK(s->bucket == i && s->chunk == b->chunk && s->is_replicated == b->is_replicated, "a stranger");
            CHECK(s->first >= end && s->first + s->elems <= b->first_elem + b->elems, "outside of its bucket");
            end = s->first + s->elems;
        }
        end = b->first_elem + b->elems;
    }
    CHECK(shard == stage->shard_count && end == stage->flat_elems, "shards or elements are left");
}

/* Each element of a shard is in one part of its bucket, at one place. */
static void check_parts(const dsc_plan *plan, const dsc_stage *stage)
{
    for (int64_t i = 0; i < stage->shard_count; i++) {
        const dsc_shard *shard = &stage->shards[i];
        const dsc_bucket *bucket = &stage->buckets[shard->bucket];
        int64_t reached = 0;

        for (int64_t part = 0; part < plan->parts; part++) {
            dsc_overlap o = dsc_part_overlap(bucket, plan->parts, part, shard);

            if (o.elems == 0) continue;
            CHECK(o.in_shard == reached, "part %d holds elements from %lld on, %lld is next", (int)part,
                  (long long)o.in_shard, (long long)reached);
            CHECK(bucket->first_elem + part * (bucket->elems / plan->parts) + o.in_part == shard->first + o.in_shard,
                  "an element is elsewhere in its part");
            reached += o.elems;
        }
        CHECK(reached == shard->elems, "%lld of %lld elements", (long long)reached, (long long)shard->elems);
    }
}

/* The rectangles of a random run of a shard's elements have each of the block's elements that the run has, once. */
static void check_run(const dsc_shard *shard, const dsc_block *block)
{
    int64_t columns = shard->shape[1], first = tap_random_between(0, shard->elems - 1), wrong = 0;
    int64_t elems = tap_random_between(1, shard->elems - first);
    int *held = calloc((size_t)shard->elems, sizeof *held);
    dsc_block runs[DSC_RUN_BLOCKS];
    int count = dsc_block_run(block, columns, first, elems, runs);

    for (int r = 0; r < count; r++)
        for (int64_t row = runs[r].shard_row; row < runs[r].shard_row + runs[r].rows; row++)
            for (int64_t col = runs[r].shard_column; col < runs[r].shard_column + runs[r].columns; col++) {
                held[row * columns + col]++;
                wrong += runs[r].row - runs[r].shard_row != block->row - block->shard_row ||
                         runs[r].column - runs[r].shard_column != block->column - block->shard_column;
            }
    for (int64_t e = 0; e < shard->elems; e++) {
        int64_t row = e / columns, col = e % columns;
        bool is_in = e >= first && e < first + elems && row >= block->shard_row &&
                     row < block->shard_row + block->rows && col >= block->shard_column &&
                     col < block->shard_column + block->columns;

        wrong += held[e] != is_in;
    }
    CHECK(wrong == 0, "%lld elements from %lld on of %lld columns: %lld are wrong", (long long)elems, (long long)first,
          (long long)columns, (long long)wrong);
    free(held);
}

static void check_runs(const dsc_plan *plan, const dsc_stage *stage)
{
    for (int64_t i = 0; i < stage->shard_count; i++) {
        dsc_shard shard = stage->shards[i];
        dsc_block block;

        if (plan->tensors[shard.tensor].dims < 2) shard.shape[1] = shard.shape[0]; /* a vector is one row */
        for (int64_t b = 0; dsc_shard_block(plan, &stage->shards[i], 0, b, &block); b++) check_run(&shard, &block);
    }
}

/* Not every strategy keeps all. */
static bool may_lack(const dsc_plan *plan, const dsc_bucket *bucket, int kept)
{
    switch (kept) {
    case DSC_KEPT_COPY: return true;
    case DSC_KEPT_GRADIENTS: return bucket->is_streamed;
    case DSC_KEPT_WORKER_ERROR:
    case DSC_KEPT_SERVER_ERROR: return plan->workers == 1;
    case DSC_KEPT_ANCHOR: return !plan->has_own_steps;
    case DSC_KEPT_FRESH:
    case DSC_KEPT_TRUST: return !plan->has_trust;
    default: return dsc_bucket_home(plan, bucket, kept).kept != (dsc_kept)kept;
    }
}

/* What is kept of buckets fills each buffer, one behind another; nothing is missing that the update reads. */
static void check_homes(const dsc_plan *plan, const dsc_stage *stage)
{
    int64_t ends[DSC_KEPT_COUNT][DSC_SPACE_COUNT] = {{0}};

    for (int64_t i = 0; i < stage->bucket_count; i++) {
        const dsc_bucket *b = &stage->buckets[i];

        for (int kept = 0; kept < DSC_KEPT_COUNT; kept++) {
            dsc_home home = dsc_bucket_home(plan, b, kept);
            int64_t *end = &ends[home.kept][home.space];

            if (b->home[kept] < 0) {
                CHECK(may_lack(plan, b, kept), "%s of bucket %d is nowhere", DSC_KEPT_NAMES[kept], (int)i);
                continue;
            }
            CHECK(home.first == *end, "%s of bucket %d overlap", DSC_KEPT_NAMES[kept], (int)i);
            *end += home.elems;
        }
        CHECK(dsc_bucket_home(plan, b, DSC_KEPT_SUMS).elems == b->elems / plan->parts &&
                  dsc_bucket_home(plan, b, DSC_KEPT_MASTER).elems == b->elems / plan->parts,
              "the update's operands differ in size");
    }
    for (int kept = 0; kept < DSC_KEPT_COUNT; kept++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++)
            CHECK(ends[kept][space] == stage->kept_elems[kept][space], "a buffer of %s has another size",
                  DSC_KEPT_NAMES[kept]);
}

static void buckets_hold_every_shard(void) { for_random_stages(check_buckets); }
static void parts_tile_shards(void) { for_random_stages(check_parts); }
static void runs_tile_blocks(void) { for_random_stages(check_runs); }
static void homes_tile_buffers(void) { for_random_stages(check_homes); }

/* Rajbhandari et al. 2020, figure 1: bytes a parameter of mixed-precision Adam with 4 replicas, but for padding; a
 * single micro-batch, whose gradients leave at once. */
static void bytes_are_the_papers(void)
{
    static const struct { int zero; double parameters, gradients, optimizer; } rows[] = {
        {0, 2, 2, 12}, {1, 2, 0.5, 3}, {2, 2, 0.5, 3}, {3, 0.5, 0.5, 3}};

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_strategy s = make_strategy(1, 4, 1);
        dsc_static_bytes bytes;
        dsc_plan *plan;
        double elems;

        s.zero = rows[i].zero;
        s.precision = DSC_BF16;
        plan = make_plan("layers=4,hidden=256,heads=4,vocab=256,seq=128", NULL, &s);
        if (plan == NULL) return;
        bytes = dsc_plan_static_bytes(plan, 0, DSC_SPACE_DEVICE);
        elems = (double)plan->stages[0].flat_elems;
        CHECK((double)bytes.parameters == rows[i].parameters * elems, "ZeRO %d: parameters", rows[i].zero);
        CHECK((double)bytes.gradients == rows[i].gradients * elems, "ZeRO %d: gradients", rows[i].zero);
        CHECK((double)bytes.optimizer == rows[i].optimizer * elems, "ZeRO %d: optimizer", rows[i].zero);
        CHECK(elems < 1.001 * (double)dsc_model_parameters(&plan->model), "padding is over a thousandth");
        dsc_plan_destroy(plan);
    }
}

static const tap_case cases[] = {
    {"buckets hold every shard once, in order, in equal parts", buckets_hold_every_shard},
    {"parts of buckets tile their shards", parts_tile_shards},
    {"runs of elements are rectangles of their blocks", runs_tile_blocks},
    {"what is kept of buckets tiles its buffers", homes_tile_buffers},
    {"static bytes of each stage of ZeRO are the paper's", bytes_are_the_papers},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
