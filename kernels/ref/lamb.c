/* LAMB's kernels (You et al. 2020, algorithm 2; compressed steps: Li et al. 2021, algorithm 1), element by element, in
 * fp32 or all in fp64, `scalar` and `root` being either; norms in double. */
#include "kernel/held.h"
#include "kernels/ref/ref.h"
#include <math.h>

enum { SUMS = 4, STATE = 2 };

static float single_load(const void *from, int64_t index, int type) { return dsc_load(from, index, type); }

static double wide_load(const void *from, int64_t index, int type)
{
    (void)type;
    return ((const double *)from)[index];
}

/* Moments of all elements; then, tensor by tensor, what is summed. */
#define DEFINE_NORMS(name, scalar, root)                                                                     \
    static void name##_moments(const dsc_shape *shape, void *const *operands, const dsc_step *step)          \
    {                                                                                                        \
        const bool frozen = shape->flags & DSC_FROZEN;                                                       \
        const scalar beta1 = (scalar)step->beta1, rest1 = (scalar)(1 - step->beta1);                         \
        const scalar beta2 = (scalar)step->beta2, rest2 = (scalar)(1 - step->beta2);                         \
        scalar *exp_avg = operands[2], *exp_avg_sq = operands[3], *fresh = operands[4];                      \
                                                                                                             \
        for (int64_t i = 0; i < shape->d[0]; i++) {                                                          \
            const scalar m = frozen ? ((const scalar *)operands[0])[i] : 0;                                  \
            const scalar g = frozen ? (m - beta1 * exp_avg[i]) / rest1                                       \
                                  : name##_load(operands[0], i, shape->out) * step->gradient_scale;          \
                                                                                                             \
            exp_avg[i] = frozen ? m : beta1 * exp_avg[i] + rest1 * g;                                        \
            if (!frozen) exp_avg_sq[i] = beta2 * exp_avg_sq[i] + rest2 * g * g;                              \
            fresh[i] = frozen ? beta2 * fresh[i] + rest2 * g * g : exp_avg_sq[i];                            \
        }                                                                                                    \
    }                                                                                                        \
                                                                                                             \
    static void name##_norms(const dsc_shape *shape, void *const *operands, const dsc_step *step)            \
    {                                                                                                        \
        const scalar *param = operands[1], *exp_avg = operands[2], *exp_avg_sq = operands[3];                \
        const scalar *fresh = operands[4], eps = (scalar)step->eps, decay = (scalar)step->weight_decay;      \
        const scalar correction1 = (scalar)(1 / step->bias_correction1);                                     \
        const scalar correction2 = (scalar)step->bias_correction2, fresh2 = (scalar)step->fresh_correction2; \
        const dsc_held *held = operands[5];                                                                  \
        double *sums = operands[6];                                                                          \
                                                                                                             \
        name##_moments(shape, operands, step);                                                               \
        for (int64_t t = 0; t < shape->d[1]; t++) {                                                          \
            double all[SUMS] = {0};                                                                          \
                                                                                                             \
            for (int64_t k = 0; k < held[t].elems; k++) {                                                    \
                const int64_t i = held[t].first + k;                                                         \
                const scalar size = root(exp_avg_sq[i]) * correction2 + eps;                                 \
                const scalar u0 = exp_avg[i] * correction1 / size, u = u0 + decay * param[i];                \
                const scalar ratio = size / (root(fresh[i]) * fresh2 + eps);                                 \
                                                                                                             \
                all[0] += (double)param[i] * (double)param[i];                                               \
                all[1] += (double)u * (double)u;                                                             \
                all[2] += (double)u0 * (double)u0;                                                           \
                if (shape->flags & DSC_FROZEN && k < held[t].real) all[3] = fmax(all[3], (double)ratio);     \
            }                                                                                                \
            for (int s = 0; s < SUMS; s++) sums[t * SUMS + s] = all[s];                                      \
        }                                                                                                    \
    }

#define DEFINE_STEP(name, scalar, root)                                                                      \
    static void name##_step(const dsc_shape *shape, void *const *operands, const dsc_step *step)             \
    {                                                                                                        \
        const scalar *exp_avg = operands[0], *exp_avg_sq = operands[1], *trust = operands[3];                \
        const dsc_held *held = operands[2];                                                                  \
        const scalar eps = (scalar)step->eps, correction2 = (scalar)step->bias_correction2;                  \
        scalar *param = operands[4];                                                                         \
                                                                                                             \
        for (int64_t t = 0; t < shape->d[1]; t++) {                                                          \
            const double lr = step->lr * (double)trust[t];                                                   \
            const scalar rate = (scalar)(lr / step->bias_correction1), shrink = (scalar)(lr * step->weight_decay);\
                                                                                                             \
            for (int64_t i = held[t].first; i < held[t].first + held[t].elems; i++)                          \
                param[i] -= shrink * param[i] + rate * (exp_avg[i] / (root(exp_avg_sq[i]) * correction2 + eps));\
        }                                                                                                    \
        for (int64_t i = 0; operands[5] != NULL && i < shape->d[0]; i++)                                     \
            dsc_store(operands[5], i, shape->type, (double)param[i]);                                        \
    }

DEFINE_NORMS(single, float, sqrtf)
DEFINE_NORMS(wide, double, sqrt)
DEFINE_STEP(single, float, sqrtf)
DEFINE_STEP(wide, double, sqrt)

dsc_status dsc_ref_lamb_norms(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace;
    if (shape->type == DSC_FP64) wide_norms(shape, operands, step);
    else single_norms(shape, operands, step);
    return DSC_OK;
}

dsc_status dsc_ref_lamb_step(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace;
    if (shape->type == DSC_FP64) wide_step(shape, operands, step);
    else single_step(shape, operands, step);
    return DSC_OK;
}

/* ---- Trust ratios */

static double within(double value, double low, double high) { return fmax(low, fmin(value, high)); }

static double ratio_of(const double norms[SUMS], const dsc_trust *trust)
{
    if (!(norms[0] > 0 && norms[1] > 0)) return 1;
    return within(sqrt(norms[0] / norms[1]), trust->min_coeff, trust->max_coeff);
}

/* What of LAMB's ratio would be another by the variance as it moves now, as DeepSpeed bounds it. */
static double factor_of(const double norms[SUMS], double last, const dsc_step *step)
{
    const dsc_trust *trust = &step->trust;
    const double share = norms[1] > 0 ? fmin(1, sqrt(norms[2] / norms[1])) : 1;
    const double most = trust->factor_threshold, factor = norms[3];
    const double mixed = step->weight_decay > 0 ? factor * share + (1 - share) : factor;

    return within(within(mixed, trust->factor_min, trust->factor_max), last * (1 - most), last * (1 + most));
}

/* Over tensor ranks, in their order: so all of them have the same bits. */
static void add_norms(const double *sums, int64_t tensors, int64_t ranks, int64_t tensor, double out[SUMS])
{
    for (int s = 0; s < SUMS; s++) out[s] = 0;
    for (int64_t r = 0; r < ranks; r++) {
        const double *of = sums + (r * tensors + tensor) * SUMS;

        for (int s = 0; s < SUMS - 1; s++) out[s] += of[s];
        out[SUMS - 1] = fmax(out[SUMS - 1], of[SUMS - 1]);
    }
}

static double load(const void *from, int64_t index, int type)
{
    return type == DSC_FP64 ? ((const double *)from)[index] : ((const float *)from)[index];
}

static void store(void *to, int64_t index, int type, double value)
{
    if (type == DSC_FP64) ((double *)to)[index] = value;
    else ((float *)to)[index] = (float)value;
}

dsc_status dsc_ref_lamb_trust(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const double beta = step->trust.coeff_beta;
    const bool frozen = shape->flags & DSC_FROZEN;
    const int type = shape->type;

    (void)workspace;
    for (int64_t t = 0; t < shape->d[0]; t++) {
        double norms[SUMS], mean = load(operands[1], t * STATE, type), last = load(operands[1], t * STATE + 1, type);

        add_norms(operands[0], shape->d[0], shape->d[1], t, norms);
        const double ratio = ratio_of(norms, &step->trust), factor = frozen ? factor_of(norms, last, step) : 1;

        if (!frozen && fabs(ratio - 1) > 0) mean = beta * mean + (1 - beta) * ratio;
        store(operands[1], t * STATE, type, mean);
        store(operands[1], t * STATE + 1, type, factor);
        store(operands[2], t, type, frozen ? mean * factor : ratio);
    }
    return DSC_OK;
}
