#include "kernels/ref/ref.h"
#include <math.h>

/* Elements in fp32, in DeepSpeed's order of operations: decoupled decay uses the old parameter, epsilon stands
 * outside the corrected root. Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2. */
dsc_status dsc_ref_adam(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const float beta1 = (float)step->beta1, rest1 = (float)(1 - step->beta1);
    const float beta2 = (float)step->beta2, rest2 = (float)(1 - step->beta2);
    const float eps = (float)step->eps, correction2 = (float)step->bias_correction2;
    const float rate = (float)(step->lr / step->bias_correction1);
    const float decay = (float)step->weight_decay, shrink = (float)(step->lr * step->weight_decay);
    float *param = operands[1], *exp_avg = operands[2], *exp_avg_sq = operands[3];
    const bool decoupled = shape->flags & DSC_DECOUPLED, frozen = shape->flags & DSC_FROZEN;

    (void)workspace;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        float g = frozen ? 0 : dsc_load(operands[0], i, shape->out) * step->gradient_scale, p = param[i];

        if (decoupled) p -= shrink * p;
        else g += decay * p;
        if (!frozen) exp_avg[i] = beta1 * exp_avg[i] + rest1 * g;
        if (!frozen) exp_avg_sq[i] = beta2 * exp_avg_sq[i] + rest2 * g * g;
        p -= rate * (exp_avg[i] / (sqrtf(exp_avg_sq[i]) * correction2 + eps));
        param[i] = p;
        if (operands[4] != NULL) dsc_store(operands[4], i, shape->type, p);
    }
    return DSC_OK;
}

dsc_status dsc_ref_momentum(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const float beta1 = (float)step->beta1, rest1 = (float)(1 - step->beta1);
    const float scale = step->gradient_scale * (float)shape->d[1];
    float *exp_avg = operands[1];

    (void)workspace;
    for (int64_t i = 0; i < shape->d[0]; i++)
        exp_avg[i] = beta1 * exp_avg[i] + rest1 * (dsc_load(operands[0], i, shape->type) * scale);
    return DSC_OK;
}
