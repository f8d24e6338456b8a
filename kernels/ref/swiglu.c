#include "kernels/ref/ref.h"
#include <math.h>

/* y = u silu(z), silu(z) = z sigmoid(z), z the gate. Shazeer 2020, equation 6, without biases. */
static double sigmoid(double z) { return 1 / (1 + exp(-z)); }

dsc_status dsc_ref_swiglu_fwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        const double u = dsc_load(operands[0], i, shape->type), z = dsc_load(operands[1], i, shape->type);

        dsc_store(operands[2], i, shape->type, u * z * sigmoid(z));
    }
    return DSC_OK;
}

/* silu'(z) = sigmoid(z) (1 + z (1 - sigmoid(z))) */
dsc_status dsc_ref_swiglu_bwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        const double dy = dsc_load(operands[0], i, shape->type), u = dsc_load(operands[1], i, shape->type);
        const double z = dsc_load(operands[2], i, shape->type), s = sigmoid(z);

        dsc_store(operands[3], i, shape->type, dy * z * s);
        dsc_store(operands[4], i, shape->type, dy * u * s * (1 + z * (1 - s)));
    }
    return DSC_OK;
}
