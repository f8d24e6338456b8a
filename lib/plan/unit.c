/* What is compressed with a scale of its own: a rank's shard of each tensor. Buckets group messages, never scales:
 * so no bucket size, and no order of tensors, changes the mathematics. */
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

static dsc_unit unit_of(const dsc_plan *plan, const dsc_bucket *bucket, const dsc_shard *shard,
                        const dsc_overlap *overlap, int64_t tp_index, int64_t place)
{
    const int64_t real = dsc_shard_real_elems(plan, shard, tp_index) - overlap->in_shard;

    return (dsc_unit){.first = shard->first - bucket->first_elem + overlap->in_shard,
                      .real = DSC_MAX(0, DSC_MIN(real, overlap->elems)), .place = place,
                      .padded = padded(plan, overlap->elems)};
}

void dsc_bucket_units(const dsc_plan *plan, const dsc_stage *stage, const dsc_bucket *bucket, int64_t part,
                      int64_t tp_index, dsc_units *out)
{
    int64_t place = 0;

    out->count = 0;
    for (int64_t i = bucket->first; i < bucket->end; i++) {
        const dsc_shard *shard = &stage->shards[i];
        const dsc_overlap overlap = dsc_part_overlap(bucket, plan->intra, part, shard);

        if (overlap.elems == 0) continue;
        out->unit[out->count] = unit_of(plan, bucket, shard, &overlap, tp_index, place);
        place += out->unit[out->count++].padded;
    }
}

bool dsc_shard_unit(const dsc_plan *plan, const dsc_stage *stage, const dsc_shard *shard, int64_t part,
                    int64_t tp_index, dsc_unit *out, int64_t *in_shard)
{
    const dsc_bucket *bucket = &stage->buckets[shard->bucket];
    const dsc_overlap overlap = dsc_part_overlap(bucket, plan->intra, part, shard);
    int64_t place = 0;

    if (overlap.elems == 0) return false;
    for (const dsc_shard *s = &stage->shards[bucket->first]; s < shard; s++)
        place += padded(plan, dsc_part_overlap(bucket, plan->intra, part, s).elems);
    *out = unit_of(plan, bucket, shard, &overlap, tp_index, place);
    *in_shard = overlap.in_shard;
    return true;
}

/* Ranks of a stage run one program, made for the part that has most. */
void dsc_plan_pack(const dsc_plan *plan, const dsc_stage *stage, dsc_bucket *bucket)
{
    for (int64_t part = 0; plan->workers > 1 && part < plan->intra; part++) {
        int64_t units = 0, packed = 0;

        for (int64_t i = bucket->first; i < bucket->end; i++) {
            const dsc_overlap overlap = dsc_part_overlap(bucket, plan->intra, part, &stage->shards[i]);

            units += overlap.elems > 0;
            packed += overlap.elems > 0 ? padded(plan, overlap.elems) : 0;
        }
        bucket->units = DSC_MAX(bucket->units, units);
        bucket->packed = DSC_MAX(bucket->packed, packed);
    }
}
