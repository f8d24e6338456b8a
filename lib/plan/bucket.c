/* Shards to buckets, buckets to parts, and where each part of each state is kept. */
#include "plan/parts.h"
#include <inttypes.h>
#include <stdlib.h>

const char *const DSC_KEPT_NAMES[] = {"parameters", "gradients", "sums", "master", "exp_avg", "exp_avg_sq",
                                      "worker_error", "server_error", "anchor", "exp_avg_sq_fresh", "trust", "copy",
                                      NULL};

/* A shard starts at a multiple of DSC_ALIGN bytes whatever the element's size, down to 16 bits; so does a part. */
enum { ALIGN_ELEMS = DSC_ALIGN / 2 };

enum { TRUST_ELEMS = 2 }; /* kept of a tensor: the state of lamb_trust */

void dsc_flatten(const dsc_flat_rule *rule, dsc_shard *shards, dsc_bucket *bucket)
{
    int64_t end = bucket->first_elem;

    for (int64_t i = bucket->first; i < bucket->end; i++) {
        shards[i].first = dsc_round_up(end - bucket->first_elem, rule->align) + bucket->first_elem;
        end = shards[i].first + shards[i].elems;
    }
    bucket->elems = dsc_round_up(end - bucket->first_elem, rule->parts * rule->part_align);
}

bool dsc_plan_has_streams(const dsc_plan *plan)
{
    return plan->parts > 1 || plan->config.strategy.offload != DSC_OFFLOAD_NONE;
}

int64_t dsc_plan_part_elems(const dsc_plan *plan, const dsc_bucket *bucket) { return bucket->elems / plan->parts; }

bool dsc_plan_scatters(const dsc_plan *plan) { return plan->intra > 1 && !plan->has_own_steps; }

int64_t dsc_plan_part(const dsc_plan *plan, int64_t rank)
{
    return plan->parts > 1 ? dsc_plan_place(plan, rank, DSC_AXIS_DP) : 0;
}

dsc_overlap dsc_part_overlap(const dsc_bucket *bucket, int64_t parts, int64_t part, const dsc_shard *shard)
{
    int64_t elems = bucket->elems / parts, first = bucket->first_elem + part * elems;
    int64_t low = DSC_MAX(first, shard->first), high = DSC_MIN(first + elems, shard->first + shard->elems);

    if (low >= high) return (dsc_overlap){0};
    return (dsc_overlap){high - low, low - shard->first, low - first};
}

/* ---- Shards to buckets */

static bool is_tied(const dsc_plan *plan, const dsc_shard *shard)
{
    return plan->tensors[shard->tensor].role == DSC_ROLE_WTE && dsc_plan_degree(plan, DSC_AXIS_TIED) > 1;
}

/* Where two stages share the embedding, its gradient stays until it is summed over them; that of the positions, which
 * the same kernel makes, stays with it. */
static bool waits_for_tied(const dsc_plan *plan, const dsc_shard *shard)
{
    bool is_position = plan->tensors[shard->tensor].role == DSC_ROLE_WPE;

    return is_tied(plan, shard) || (is_position && dsc_plan_degree(plan, DSC_AXIS_TIED) > 1);
}

/* The tied embedding is summed over two stages, so nothing else shares its bucket; nor does what leaves sooner share
 * one with what waits. */
static bool are_alike(const dsc_plan *plan, const dsc_shard *x, const dsc_shard *y)
{
    return x->chunk == y->chunk && x->is_replicated == y->is_replicated && !is_tied(plan, x) && !is_tied(plan, y) &&
           waits_for_tied(plan, x) == waits_for_tied(plan, y);
}

/* One kernel makes the gradients of both: of a weight and its bias, of tokens and positions. */
static bool are_made_together(const dsc_plan *plan, const dsc_shard *first, const dsc_shard *second)
{
    const dsc_tensor *x = &plan->tensors[first->tensor], *y = &plan->tensors[second->tensor];
    bool is_bias = x->layer == y->layer && y->role == x->role + 1 && y->dims == 1;

    return is_bias || (x->role == DSC_ROLE_WTE && y->role == DSC_ROLE_WPE);
}

/* Whether a bucket that holds shards [i, end) takes the one before too: it is not full, and one that alone is over the
 * size does not hold back the smaller ones. */
static bool takes_more(const dsc_plan *plan, const dsc_shard *shards, int64_t i, int64_t end)
{
    int64_t most = plan->config.strategy.bucket_elems, elems = 0;

    if (i == 0 || !are_alike(plan, &shards[i - 1], &shards[i])) return false;
    for (int64_t s = i; s < end; s++) elems += shards[s].elems;
    return are_made_together(plan, &shards[i - 1], &shards[i]) || (elems < most && shards[i - 1].elems < most);
}

static void reverse(dsc_bucket *buckets, int64_t count)
{
    for (int64_t i = 0, j = count - 1; i < j; i++, j--) {
        dsc_bucket swap = buckets[i];

        buckets[i] = buckets[j];
        buckets[j] = swap;
    }
}

/* From the flat order's end, where backward begins, until a bucket is full. */
static dsc_status fill_buckets(const dsc_plan *plan, dsc_stage *stage)
{
    const dsc_shard *shards = stage->shards;
    int64_t capacity = 0, end = stage->shard_count;

    for (int64_t i = end - 1; i >= 0; i--) {
        dsc_bucket bucket = {.first = i, .end = end, .chunk = shards[i].chunk,
                             .is_replicated = shards[i].is_replicated, .is_tied = is_tied(plan, &shards[i]),
                             .is_copy = shards[i].is_copy};

        if (takes_more(plan, shards, i, end)) continue;
        if (DSC_PUSH(stage->buckets, stage->bucket_count, capacity, bucket) != DSC_OK) return DSC_ENOMEM;
        end = i;
    }
    reverse(stage->buckets, stage->bucket_count);
    return DSC_OK;
}

static void place_shards(const dsc_plan *plan, dsc_stage *stage)
{
    const dsc_flat_rule rule = {ALIGN_ELEMS, plan->parts * plan->intra, ALIGN_ELEMS};

    for (int64_t i = 0; i < stage->bucket_count; i++) {
        dsc_bucket *bucket = &stage->buckets[i];

        bucket->first_elem = stage->flat_elems;
        dsc_flatten(&rule, stage->shards, bucket);
        dsc_plan_pack(plan, stage, bucket);
        stage->flat_elems += bucket->elems;
        for (int64_t s = bucket->first; s < bucket->end; s++) stage->shards[s].bucket = i;
    }
}

/* ---- What is kept, and where */

/* What tensor ranks hold alike is small, and needed, or summed over them, at the step's end: it stays whole. */
static bool is_gathered(const dsc_plan *plan, const dsc_bucket *bucket)
{
    const dsc_strategy *s = &plan->config.strategy;
    const bool is_cut = s->zero == 3 && dsc_plan_degree(plan, DSC_AXIS_DP) > 1;

    return !bucket->is_replicated && (s->offload == DSC_OFFLOAD_PARAMS || is_cut);
}

bool dsc_plan_splits(const dsc_plan *plan)
{
    return plan->config.strategy.schedule == DSC_ZB_H1 && plan->config.strategy.pp > 1;
}

/* Gradients leave after each pass where the stage of ZeRO says so, where it costs no message more (a single replica,
 * which has a host to take them, or a single micro-batch), and where one pass makes all of a bucket. */
static bool is_streamed(const dsc_plan *plan, const dsc_stage *stage, const dsc_bucket *bucket)
{
    const dsc_strategy *s = &plan->config.strategy;
    bool leaves = plan->parts > 1 || bucket->space[DSC_KEPT_SUMS] == DSC_SPACE_HOST;

    if (bucket->is_replicated || waits_for_tied(plan, &stage->shards[bucket->first]) || dsc_plan_splits(plan))
        return false;
    if (!leaves) return false;
    return s->zero >= 2 || dsc_plan_degree(plan, DSC_AXIS_DP) == 1 || plan->micro_batches == 1;
}

static void choose_spaces(const dsc_plan *plan, const dsc_stage *stage, dsc_bucket *bucket, dsc_space optimizer)
{
    bool params = plan->config.strategy.offload == DSC_OFFLOAD_PARAMS;

    for (int kept = 0; kept < DSC_KEPT_COUNT; kept++) {
        bucket->space[kept] = (int8_t)optimizer;
        bucket->home[kept] = 0;
    }
    bucket->space[DSC_KEPT_GRADIENTS] = DSC_SPACE_DEVICE;
    bucket->is_gathered = is_gathered(plan, bucket);
    bucket->is_streamed = is_streamed(plan, stage, bucket);
    bucket->space[DSC_KEPT_PARAMETERS] = bucket->is_gathered && params ? DSC_SPACE_HOST : DSC_SPACE_DEVICE;
}

/* What would be the same values in the same space is kept once. */
static void drop_doubles(const dsc_plan *plan, dsc_bucket *bucket)
{
    dsc_space optimizer = bucket->space[DSC_KEPT_MASTER];
    bool is_whole = plan->parts == 1, has_parameters_there = bucket->space[DSC_KEPT_PARAMETERS] == (int8_t)optimizer;

    if (bucket->is_streamed) bucket->home[DSC_KEPT_GRADIENTS] = -1;
    if (!bucket->is_streamed && is_whole && optimizer == DSC_SPACE_DEVICE) bucket->home[DSC_KEPT_SUMS] = -1;
    if (plan->type == DSC_FP32 && has_parameters_there && (is_whole || bucket->is_gathered))
        bucket->home[DSC_KEPT_MASTER] = -1;
    if (optimizer == DSC_SPACE_DEVICE || has_parameters_there || plan->type == DSC_FP32)
        bucket->home[DSC_KEPT_COPY] = -1;
    if (!plan->has_own_steps) bucket->home[DSC_KEPT_ANCHOR] = -1;
    if (!plan->has_trust) bucket->home[DSC_KEPT_FRESH] = bucket->home[DSC_KEPT_TRUST] = -1;
    if (plan->workers == 1) bucket->home[DSC_KEPT_WORKER_ERROR] = bucket->home[DSC_KEPT_SERVER_ERROR] = -1;
}

static int64_t kept_elems(const dsc_plan *plan, const dsc_bucket *bucket, int kept)
{
    if (kept == DSC_KEPT_WORKER_ERROR) return bucket->packed;
    if (kept == DSC_KEPT_SERVER_ERROR) return bucket->packed / plan->workers;
    if (kept == DSC_KEPT_TRUST) return TRUST_ELEMS * (bucket->end - bucket->first);
    bool is_whole = kept == DSC_KEPT_GRADIENTS || (kept == DSC_KEPT_PARAMETERS && !bucket->is_gathered);

    return is_whole ? bucket->elems : dsc_plan_part_elems(plan, bucket);
}

/* Of the optimizer's states the share that --offload-ratio says goes to the host: buckets from the flat order's end,
 * whose gradients are there first. */
static void place_states(const dsc_plan *plan, dsc_stage *stage)
{
    const dsc_strategy *s = &plan->config.strategy;
    double wanted = s->offload == DSC_OFFLOAD_NONE ? 0 : s->offload_ratio * (double)stage->flat_elems, taken = 0;

    for (int64_t i = stage->bucket_count - 1; i >= 0; i--) {
        dsc_bucket *bucket = &stage->buckets[i];
        bool is_taken = taken + (double)bucket->elems / 2 <= wanted;

        choose_spaces(plan, stage, bucket, is_taken ? DSC_SPACE_HOST : DSC_SPACE_DEVICE);
        drop_doubles(plan, bucket);
        if (is_taken) taken += (double)bucket->elems;
    }
    for (int64_t i = 0; i < stage->bucket_count; i++)
        for (int kept = 0; kept < DSC_KEPT_COUNT; kept++) {
            dsc_bucket *bucket = &stage->buckets[i];
            int64_t *end = &stage->kept_elems[kept][bucket->space[kept]];

            if (bucket->home[kept] < 0) continue;
            bucket->home[kept] = *end;
            *end += kept_elems(plan, bucket, kept);
        }
}

dsc_status dsc_plan_fill_buckets(const dsc_plan *plan, dsc_stage *stage)
{
    dsc_status status = DSC_OK;

    DSC_TRY(fill_buckets(plan, stage));
    place_shards(plan, stage);
    place_states(plan, stage);
out:
    return status;
}

dsc_home dsc_bucket_home(const dsc_plan *plan, const dsc_bucket *bucket, dsc_kept kept)
{
    if (bucket->home[kept] < 0 && kept == DSC_KEPT_SUMS) kept = DSC_KEPT_GRADIENTS;
    if (bucket->home[kept] < 0 && kept == DSC_KEPT_MASTER) kept = DSC_KEPT_PARAMETERS;
    return (dsc_home){kept, bucket->space[kept], bucket->home[kept], kept_elems(plan, bucket, kept)};
}

dsc_dtype dsc_kept_type(const dsc_plan *plan, dsc_kept kept)
{
    if (kept == DSC_KEPT_PARAMETERS || kept == DSC_KEPT_COPY) return plan->type;
    return kept == DSC_KEPT_GRADIENTS || kept == DSC_KEPT_SUMS ? plan->gradient_type : DSC_FP32;
}

dsc_static_bytes dsc_plan_static_bytes(const dsc_plan *plan, int64_t stage, dsc_space space)
{
    int64_t bytes[DSC_KEPT_COUNT];

    for (int kept = 0; kept < DSC_KEPT_COUNT; kept++)
        bytes[kept] = plan->stages[stage].kept_elems[kept][space] * dsc_dtype_bytes(dsc_kept_type(plan, kept));
    return (dsc_static_bytes){
        .parameters = bytes[DSC_KEPT_PARAMETERS] + bytes[DSC_KEPT_COPY],
        .gradients = bytes[DSC_KEPT_GRADIENTS] + bytes[DSC_KEPT_SUMS],
        .optimizer = bytes[DSC_KEPT_MASTER] + bytes[DSC_KEPT_EXP_AVG] + bytes[DSC_KEPT_EXP_AVG_SQ] +
                     bytes[DSC_KEPT_WORKER_ERROR] + bytes[DSC_KEPT_SERVER_ERROR] + bytes[DSC_KEPT_ANCHOR] +
                     bytes[DSC_KEPT_FRESH] + bytes[DSC_KEPT_TRUST]};
}
