/* What is compressed with a scale of its own: what a rank holds of each tensor, in pieces where that is large, or is of
 * several kinds. Buckets group messages, never scales: so no bucket size, and no order of tensors, changes the
 * mathematics, but where replicas of a node cut buckets among them: there a unit ends with its part. */
#include "plan/parts.h"
#include "kernel/units.h"

static int64_t common_divisor(int64_t a, int64_t b) { return b == 0 ? a : common_divisor(b, a % b); }

/* Whole bytes for each worker; the reference pads further, which changes its scales. */
static int64_t padded(const dsc_plan *plan, int64_t elems)
{
    const int64_t n = plan->workers;
    bool is_reference = plan->config.strategy.semantics == DSC_SEMANTICS_REFERENCE;

    return dsc_round_up(elems, is_reference ? n * (8 * n / common_divisor(8, n)) : 8 * n);
}

int64_t dsc_shard_real_elems(const dsc_plan *plan, const dsc_shard *shard, int64_t tp_index)
{
    const dsc_tensor *tensor = &plan->tensors[shard->tensor];
    bool are_positions = tensor->role == DSC_ROLE_WPE;
    int64_t rows = are_positions ? DSC_MIN(tensor->shape[0], plan->config.strategy.seq_len) : tensor->shape[0];
    int64_t first = tensor->cut == DSC_CUT_ROWS ? tp_index * shard->shape[0] : 0;

    if (tensor->cut != DSC_CUT_ROWS && !are_positions) return shard->shape[0] * shard->shape[1];
    return DSC_MAX(0, DSC_MIN(rows - first, shard->shape[0])) * shard->shape[1];
}

/* A kernel reads a unit twice, for its scale and for its signs: the second time from a cache, if it is no larger. */
enum { MOST_ELEMS = 1 << 20, PIECE_ALIGN = 64 };

/* Where the piece ends that has element `at` of a shard, and begins at it or before. Biases of keys have next to no
 * gradient, since softmax cancels them: noise as large as those of queries and values would drive them anywhere. */
static int64_t piece_end(const dsc_plan *plan, const dsc_shard *shard, int64_t at)
{
    const dsc_tensor *tensor = &plan->tensors[shard->tensor];
    const int64_t elems = shard->elems, pieces = (elems + MOST_ELEMS - 1) / MOST_ELEMS;
    const int64_t each = dsc_round_up((elems + pieces - 1) / pieces, PIECE_ALIGN);

    if (plan->config.strategy.semantics == DSC_SEMANTICS_REFERENCE) return elems;
    if (tensor->cut == DSC_CUT_QKV && tensor->dims < 2) {
        const int64_t heads = plan->model.heads, kv_heads = plan->model.kv_heads, all = heads + 2 * kv_heads;
        const int64_t queries = elems * heads / all, keys = elems * (heads + kv_heads) / all;

        return at < queries ? queries : at < keys ? keys : elems;
    }
    return DSC_MIN((at / each + 1) * each, elems);
}

/* Over the units of a part of a bucket, in the flat order. */
typedef struct walk {
    const dsc_plan *plan;
    const dsc_bucket *bucket;
    const dsc_shard *shards;
    int64_t part, tp_index, shard;
    int64_t done;  /* elements of the part in the shard that units have */
    int64_t place; /* of the next unit */
} walk;

static walk walk_over(const dsc_plan *plan, const dsc_stage *stage, const dsc_bucket *bucket, int64_t part,
                      int64_t tp_index)
{
    return (walk){plan, bucket, stage->shards, part, tp_index, bucket->first, 0, 0};
}

/* *in_shard is where in its shard the unit begins; returns that shard, or -1 behind the last unit. */
static int64_t next_unit(walk *w, dsc_unit *out, int64_t *in_shard)
{
    for (; w->shard < w->bucket->end; w->shard++, w->done = 0) {
        const dsc_shard *shard = &w->shards[w->shard];
        const dsc_overlap overlap = dsc_part_overlap(w->bucket, w->plan->intra, w->part, shard);
        const int64_t first = overlap.in_shard + w->done;
        int64_t elems;

        if (w->done == overlap.elems) continue;
        elems = DSC_MIN(piece_end(w->plan, shard, first) - first, overlap.elems - w->done);
        *in_shard = first;
        *out = (dsc_unit){.first = shard->first - w->bucket->first_elem + first, .place = w->place,
                          .real = DSC_MAX(0, DSC_MIN(dsc_shard_real_elems(w->plan, shard, w->tp_index) - first, elems)),
                          .padded = padded(w->plan, elems)};
        w->done += elems;
        w->place += out->padded;
        return w->shard;
    }
    return -1;
}

void dsc_bucket_units(const dsc_plan *plan, const dsc_stage *stage, const dsc_bucket *bucket, int64_t part,
                      int64_t tp_index, dsc_units *out)
{
    walk w = walk_over(plan, stage, bucket, part, tp_index);
    int64_t in_shard;

    for (out->count = 0; next_unit(&w, &out->unit[out->count], &in_shard) >= 0;) out->count++;
}

bool dsc_shard_unit(const dsc_plan *plan, const dsc_stage *stage, const dsc_shard *shard, int64_t part,
                    int64_t tp_index, int64_t index, dsc_unit *out, int64_t *in_shard)
{
    walk w = walk_over(plan, stage, &stage->buckets[shard->bucket], part, tp_index);
    const int64_t wanted = shard - stage->shards;

    for (int64_t at; (at = next_unit(&w, out, in_shard)) >= 0 && at <= wanted;)
        if (at == wanted && index-- == 0) return true;
    return false;
}

/* Ranks of a stage run one program, made for the part that has most. */
void dsc_plan_pack(const dsc_plan *plan, const dsc_stage *stage, dsc_bucket *bucket)
{
    for (int64_t part = 0; plan->workers > 1 && part < plan->intra; part++) {
        walk w = walk_over(plan, stage, bucket, part, 0);
        int64_t units = 0, in_shard;
        dsc_unit unit;

        while (next_unit(&w, &unit, &in_shard) >= 0) units++;
        bucket->units = DSC_MAX(bucket->units, units);
        bucket->packed = DSC_MAX(bucket->packed, w.place);
    }
}
