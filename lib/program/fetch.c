/* Parameters that are whole only while passes need them: gathered from the replicas' parts (ZeRO stage 3), streamed
 * from the host's memory, or both, a bucket at a time, ahead of the pass by as many buckets as the strategy says. */
#include "program/build.h"

static int64_t layer_of(const dsc_builder *b, int64_t shard)
{
    return b->plan->tensors[b->stage->shards[shard].tensor].layer;
}

static void fetch(dsc_builder *b, int64_t index)
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

static bool is_wanted(const dsc_builder *b, int64_t bucket)
{
    return b->buckets[bucket].is_gathered && b->states[bucket].weights < 0;
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

        if (shard == NULL || !b->buckets[shard->bucket].is_gathered) continue;
        from = shard->bucket;
        if (is_wanted(b, from)) fetch(b, from);
    }
    if (from >= 0) fetch_ahead(b, from);
}

dsc_span dsc_build_weights(dsc_builder *b, const dsc_shard *shard)
{
    const dsc_bucket *bucket = &b->buckets[shard->bucket];
    dsc_home home = dsc_bucket_home(b->plan, bucket, DSC_KEPT_PARAMETERS);
    int64_t first = shard->first - bucket->first_elem;

    if (bucket->is_gathered) return dsc_span_elems(b->states[shard->bucket].weights, b->type, first, shard->elems);
    return dsc_span_elems(b->program->kept[home.kept][home.space], b->type, home.first + first, shard->elems);
}
