#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include "kernel/workspace.h"
#include <math.h>

enum { MOST_PAIRS = DSC_ATTENTION_MAX_D / 2 };

DSC_INLINE void turn(const float *cosine, const float *sine, int64_t half, float *x, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        const float turned = x[i] * cosine[i] - y[i] * sine[i];

        y[i] = y[i] * cosine[i] + x[i] * sine[i];
        x[i] = turned;
    }
}

/* All heads of a row turn by the same angles. */
static void turn_row(const dsc_shape *s, void *qkv, int64_t row)
{
    const int64_t heads = s->d[2] + s->d[3], d = s->d[4], half = d / 2, width = (heads + s->d[3]) * d;
    const double position = (double)(row % s->d[1]) * (s->flags & DSC_INVERSE ? -1 : 1);
    float cosine[MOST_PAIRS], sine[MOST_PAIRS], block[2 * MOST_PAIRS];

    for (int64_t i = 0; i < half; i++) {
        const double angle = position * pow((double)s->d[5], -(double)i / (double)half);

        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    for (int64_t head = 0; head < heads; head++) {
        const int64_t first = row * width + head * d;
        float *x = dsc_place(qkv, first, s->type, block);

        if (s->type != DSC_FP32) dsc_widen(qkv, first, d, s->type, x);
        turn(cosine, sine, half, x, x + half);
        dsc_put(x, d, s->type, qkv, first);
    }
}

dsc_status DSC_OVERLAY(rope)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t row = 0; row < s->d[0] * s->d[1]; row++) turn_row(s, operands[0], row);
    return DSC_OK;
}
