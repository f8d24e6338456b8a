#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include <math.h>

/* The scalars of a step in fp32. */
typedef struct scalars {
    float scale, beta1, rest1, beta2, rest2, eps, correction2, rate;
    float shrink; /* decoupled decay: what the old parameter is multiplied by and subtracted */
    float decay;  /* the other kind: what of the parameter is added to the gradient */
} scalars;

static scalars find_scalars(const dsc_shape *s, const dsc_step *step)
{
    const bool decoupled = s->flags & DSC_DECOUPLED;

    return (scalars){
        .scale = step->gradient_scale,
        .beta1 = (float)step->beta1, .rest1 = (float)(1 - step->beta1),
        .beta2 = (float)step->beta2, .rest2 = (float)(1 - step->beta2),
        .eps = (float)step->eps,
        .correction2 = (float)step->bias_correction2,
        .rate = (float)(step->lr / step->bias_correction1),
        .shrink = decoupled ? (float)(step->lr * step->weight_decay) : 0,
        .decay = decoupled ? 0 : (float)step->weight_decay,
    };
}

static void update(const dsc_shape *s, const scalars *with, void *const *operands, int64_t first)
{
    const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
    const scalars k = *with;
    float block[DSC_BLOCK];
    const float *gradient = dsc_view(operands[0], first, count, s->out, block);
    float *param = (float *)operands[1] + first;
    float *exp_avg = (float *)operands[2] + first, *exp_avg_sq = (float *)operands[3] + first;

#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const float g = gradient[i] * k.scale + k.decay * param[i];
        const float m = k.beta1 * exp_avg[i] + k.rest1 * g;
        const float v = k.beta2 * exp_avg_sq[i] + k.rest2 * g * g;

        exp_avg[i] = m;
        exp_avg_sq[i] = v;
        param[i] = param[i] - k.shrink * param[i] - k.rate * (m / (sqrtf(v) * k.correction2 + k.eps));
    }
    if (operands[4] != NULL) dsc_narrow(param, count, s->type, operands[4], first);
}

dsc_status DSC_OVERLAY(adam)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const scalars k = find_scalars(s, step);

    (void)workspace;
#pragma omp parallel for
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) update(s, &k, operands, first);
    return DSC_OK;
}
