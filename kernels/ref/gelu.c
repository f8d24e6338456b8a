#include "kernels/ref/ref.h"
#include <math.h>

/* gelu(u) = u/2 (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3))), the form of GPT-2. Hendrycks and Gimpel 2016, section 2. */
static const double root_2_pi = 0.79788456080286535588, cubic = 0.044715;

dsc_status dsc_ref_gelu_fwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        const double u = dsc_load(operands[0], i, shape->type);
        const double t = tanh(root_2_pi * (u + cubic * u * u * u));

        dsc_store(operands[1], i, shape->type, 0.5 * u * (1 + t));
    }
    return DSC_OK;
}

dsc_status dsc_ref_gelu_bwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        const double dy = dsc_load(operands[0], i, shape->type), u = dsc_load(operands[1], i, shape->type);
        const double t = tanh(root_2_pi * (u + cubic * u * u * u));
        const double slope = root_2_pi * (1 + 3 * cubic * u * u);

        dsc_store(operands[2], i, shape->type, dy * 0.5 * (1 + t + u * (1 - t * t) * slope));
    }
    return DSC_OK;
}
