/* Parameters on their way to the passes that need them, a bucket at a time, ahead of the pass by as many buckets as the
 * strategy says. Those that are whole only meanwhile are gathered from the replicas' parts (ZeRO stage 3), streamed
 * from the host's memory, or both. Those that stay whole come so where the update has left them in parts. */
#include "program/build.h"

static int64_t layer_of(const dsc_builder *b, int64_t shard)
{
    return b->plan->tensors[b->stage->shards[shard].tensor].layer;
}

static void fetch_passing(dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    bool is_cut = b->plan->parts > 1, is_away = bucket->space[DSC_KEPT_PARAMETERS] == DSC_SPACE_HOST;
    int64_t layer = layer_of(b, bucket->first);
    dsc_span part = dsc_program_kept(b->program, bucket, DSC_KEPT_PARAMETERS);
    int64_t bytes = bucket->elems * dsc_dtype_bytes(b->type);
    dsc_span whole = dsc_span_whole(b, dsc_build_for_bucket(b, DSC_SPACE_DEVICE, "weights", DSC_CLASS_PARAMETERS, index,
                                                            bytes));

    b->states[index].weights = whole.buffer;
    if (is_away) {
        dsc_span here = whole;

        if (is_cut)
            here = dsc_build_part(b, DSC_SPACE_DEVICE, "part of weights", DSC_CLASS_PARAMETERS, index, b->type);
        dsc_build_transfer(b, DSC_OP_COPY_IN, -1, layer, part, here, b->type);
        part = here;
    }
    if (is_cut) dsc_build_transfer(b, DSC_OP_ALL_GATHER, DSC_AXIS_DP, layer, part, whole, b->type);
}

static void gather_updated(dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const dsc_span whole = dsc_program_kept(b->program, bucket, DSC_KEPT_PARAMETERS);

    b->states[index].weights = whole.buffer;
    dsc_build_transfer(b, DSC_OP_ALL_GATHER, DSC_AXIS_DP, layer_of(b, bucket->first), dsc_build_new_weights(b, index),
                       whole, b->type);
}

static void fetch(dsc_builder *b, int64_t index)
{
    if (b->buckets[index].is_gathered) fetch_passing(b, index);
    else gather_updated(b, index);
}

/* Whether the pass does not find it where it reads it. */
static bool is_fetched(const dsc_builder *b, int64_t bucket)
{
    return b->buckets[bucket].is_gathered || b->gathers_updated;
}

static bool is_wanted(const dsc_builder *b, int64_t bucket)
{
    return is_fetched(b, bucket) && b->states[bucket].weights < 0;
}

/* Passes need layers one after another; what is outside of them is fetched when it is needed. */
static bool has_layer(const dsc_builder *b, int64_t bucket)
{
    for (int64_t s = b->buckets[bucket].first; s < b->buckets[bucket].end; s++)
        if (layer_of(b, s) >= 0) return true;
    return false;
}

static void fetch_ahead(dsc_builder *b, int64_t from)
{
    int64_t ahead = b->direction == 0 ? 0 : b->plan->config.strategy.prefetch;

    for (int64_t i = from + b->direction; ahead > 0 && i >= 0 && i < b->bucket_count; i += b->direction) {
        if (b->buckets[i].chunk != b->buckets[from].chunk || b->buckets[i].is_replicated) return;
        if (!has_layer(b, i)) continue;
        if (is_wanted(b, i)) fetch(b, i);
        ahead--;
    }
}

void dsc_build_fetch(dsc_builder *b, int64_t layer, dsc_role first, dsc_role last)
{
    int64_t from = -1;

    for (int i = 0; i <= (int)(last - first); i++) {
        const dsc_shard *shard = dsc_build_shard(b, layer, b->direction > 0 ? first + i : last - i);

        if (shard == NULL || !is_fetched(b, shard->bucket)) continue;
        if (!shard->is_replicated) from = shard->bucket;
        if (is_wanted(b, shard->bucket)) fetch(b, shard->bucket);
    }
    if (from >= 0) fetch_ahead(b, from);
}

void dsc_build_fetch_rest(dsc_builder *b)
{
    for (int64_t i = 0; i < b->bucket_count; i++)
        if (b->buckets[i].chunk == b->chunk && is_wanted(b, i)) fetch(b, i);
}

dsc_span dsc_build_weights(dsc_builder *b, const dsc_shard *shard)
{
    const dsc_bucket *bucket = &b->buckets[shard->bucket];
    dsc_home home = dsc_bucket_home(b->plan, bucket, DSC_KEPT_PARAMETERS);
    int64_t first = shard->first - bucket->first_elem;

    if (bucket->is_gathered) return dsc_span_elems(b->states[shard->bucket].weights, b->type, first, shard->elems);
    return dsc_span_elems(b->program->kept[home.kept][home.space], b->type, home.first + first, shard->elems);
}
