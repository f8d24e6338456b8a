#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"

/* y[i] += from[first + i]. */
DSC_INLINE void add(const void *from, int64_t first, int64_t count, int type, float *y)
{
    float block[DSC_BLOCK];
    const float *in = dsc_view(from, first, count, type, block);

#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] += in[i];
}

dsc_status DSC_OVERLAY(join)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t cols = s->d[1], blocks = dsc_ceil_div(cols, DSC_BLOCK);

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t i = 0; i < s->d[0] * blocks; i++) {
        const int64_t col = i % blocks * DSC_BLOCK, first = i / blocks * cols + col;
        const int64_t count = DSC_MIN(cols - col, DSC_BLOCK);
        float y[DSC_BLOCK]; /* apart from operands[3], which may be the residual */

        dsc_widen(operands[0], first, count, s->type, y);
        if (operands[1] != NULL) add(operands[1], col, count, s->type, y);
        if (operands[2] != NULL) add(operands[2], first, count, s->type, y);
        dsc_narrow(y, count, s->type, operands[3], first);
    }
    return DSC_OK;
}
