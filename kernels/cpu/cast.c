#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"

/* to[i] += in[from + i], rounded once. */
static void add(const dsc_shape *s, void *const *operands, int64_t from, int64_t first, int64_t count)
{
    float in_block[DSC_BLOCK], sum_block[DSC_BLOCK];
    const float *in = dsc_view(operands[0], from + first, count, s->type, in_block);
    const float *old = dsc_view(operands[1], first, count, s->out, sum_block);
    float *sum = dsc_place(operands[1], first, s->out, sum_block);

#pragma omp simd
    for (int64_t i = 0; i < count; i++) sum[i] = old[i] + in[i];
    dsc_put(sum, count, s->out, operands[1], first);
}

dsc_status DSC_OVERLAY(cast)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t from = s->flags & DSC_SHARD ? step->tp_index * s->d[0] : 0;

    (void)workspace;
#pragma omp parallel for
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) {
        const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
        float block[DSC_BLOCK];

        if (s->flags & DSC_ACCUMULATE) add(s, operands, from, first, count);
        else
            dsc_narrow(dsc_view(operands[0], from + first, count, s->type, block), count, s->out, operands[1], first);
    }
    return DSC_OK;
}
