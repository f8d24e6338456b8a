#include "kernels/ref/ref.h"
#include <math.h>

/* Elements in fp32, in DeepSpeed's order of operations: decoupled decay uses the old parameter, epsilon stands
 * outside the corrected root. Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.
 *
 * Or all in fp64, `real` and `root` being either. */
#define DEFINE_ADAM(name, real, root)                                                                       \
    static void name##_adam(const dsc_shape *shape, void *const *operands, const dsc_step *step)            \
    {                                                                                                       \
        const real beta1 = (real)step->beta1, rest1 = (real)(1 - step->beta1);                              \
        const real beta2 = (real)step->beta2, rest2 = (real)(1 - step->beta2);                              \
        const real eps = (real)step->eps, correction2 = (real)step->bias_correction2;                       \
        const real rate = (real)(step->lr / step->bias_correction1);                                        \
        const real decay = (real)step->weight_decay, shrink = (real)(step->lr * step->weight_decay);        \
        real *param = operands[1], *exp_avg = operands[2], *exp_avg_sq = operands[3];                       \
        const bool decoupled = shape->flags & DSC_DECOUPLED, frozen = shape->flags & DSC_FROZEN;            \
                                                                                                            \
        for (int64_t i = 0; i < shape->d[0]; i++) {                                                         \
            real g = frozen ? 0 : name##_load(operands[0], i, shape->out) * step->gradient_scale;           \
            real p = param[i];                                                                              \
                                                                                                            \
            if (decoupled) p -= shrink * p;                                                                 \
            else g += decay * p;                                                                            \
            if (!frozen) exp_avg[i] = beta1 * exp_avg[i] + rest1 * g;                                       \
            if (!frozen) exp_avg_sq[i] = beta2 * exp_avg_sq[i] + rest2 * g * g;                             \
            p -= rate * (exp_avg[i] / (root(exp_avg_sq[i]) * correction2 + eps));                           \
            param[i] = p;                                                                                   \
            if (operands[4] != NULL) dsc_store(operands[4], i, shape->type, (double)p);                     \
        }                                                                                                   \
    }

#define DEFINE_MOMENTUM(name, real)                                                                         \
    static void name##_momentum(const dsc_shape *shape, void *const *operands, const dsc_step *step)        \
    {                                                                                                       \
        const bool is_first = shape->flags & DSC_FIRST, is_scaled = shape->flags & DSC_SCALED;              \
        const real beta1 = (real)step->beta1, rest1 = (real)(1 - step->beta1);                              \
        const real scale = is_scaled ? 1 : (real)step->gradient_scale * (real)shape->d[1];                  \
        real *exp_avg = operands[1];                                                                        \
                                                                                                            \
        for (int64_t i = 0; i < shape->d[0]; i++) {                                                         \
            const real g = name##_load(operands[0], i, shape->type) * scale;                                \
                                                                                                            \
            exp_avg[i] = is_first ? g : beta1 * exp_avg[i] + rest1 * g;                                     \
        }                                                                                                   \
    }

static float single_load(const void *from, int64_t index, int type) { return dsc_load(from, index, type); }

static double wide_load(const void *from, int64_t index, int type)
{
    (void)type;
    return ((const double *)from)[index];
}

DEFINE_ADAM(single, float, sqrtf)
DEFINE_ADAM(wide, double, sqrt)
DEFINE_MOMENTUM(single, float)
DEFINE_MOMENTUM(wide, double)

dsc_status dsc_ref_adam(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace;
    if (shape->type == DSC_FP64) wide_adam(shape, operands, step);
    else single_adam(shape, operands, step);
    return DSC_OK;
}

dsc_status dsc_ref_momentum(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace;
    if (shape->type == DSC_FP64) wide_momentum(shape, operands, step);
    else single_momentum(shape, operands, step);
    return DSC_OK;
}

dsc_status dsc_ref_drift(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const float *param = operands[0], *anchor = operands[1], *exp_avg_sq = operands[2], eps = (float)step->eps;
    float *exp_avg = operands[3];

    (void)workspace;
    for (int64_t i = 0; i < shape->d[0]; i++) exp_avg[i] = (param[i] - anchor[i]) * (sqrtf(exp_avg_sq[i]) + eps);
    return DSC_OK;
}

dsc_status dsc_ref_rejoin(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const float *exp_avg_sq = operands[1], eps = (float)step->eps, share = (float)(-1 / step->rates);
    float *exp_avg = operands[0], *anchor = operands[2], *param = operands[3];

    (void)workspace;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        param[i] = anchor[i] + exp_avg[i] / (sqrtf(exp_avg_sq[i]) + eps);
        anchor[i] = param[i];
        exp_avg[i] *= share;
        if (operands[4] != NULL) dsc_store(operands[4], i, shape->type, param[i]);
    }
    return DSC_OK;
}
