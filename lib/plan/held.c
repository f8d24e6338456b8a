#include "kernel/held.h"
#include "plan/parts.h"

void dsc_bucket_held(const dsc_plan *plan, const dsc_stage *stage, const dsc_bucket *bucket, int64_t tp_index,
                     dsc_held *out)
{
    for (int64_t i = bucket->first; i < bucket->end; i++) {
        const dsc_shard *shard = &stage->shards[i];

        out[i - bucket->first] = (dsc_held){.first = shard->first - bucket->first_elem, .elems = shard->elems,
                                            .real = dsc_shard_real_elems(plan, shard, tp_index)};
    }
}
