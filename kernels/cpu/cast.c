#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"

dsc_status DSC_OVERLAY(cast)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) {
        const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
        float block[DSC_BLOCK];

        dsc_narrow(dsc_view(operands[0], first, count, s->type, block), count, s->out, operands[1], first);
    }
    return DSC_OK;
}
