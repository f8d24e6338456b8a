#include "kernels/ref/ref.h"
#include <math.h>

dsc_status dsc_ref_column_sum(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t rows = shape->d[0], cols = shape->d[1];

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t j = 0; j < cols; j++) {
        double sum = shape->flags & DSC_ACCUMULATE ? dsc_load(operands[1], j, shape->out) : 0;

        for (int64_t i = 0; i < rows; i++) sum += dsc_load(operands[0], i * cols + j, shape->type);
        dsc_store(operands[1], j, shape->out, sum);
    }
    return DSC_OK;
}

dsc_status dsc_ref_square_sum(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    double *out = operands[1], sum = shape->flags & DSC_ACCUMULATE ? out[0] : 0;
    double non_finite = shape->flags & DSC_ACCUMULATE ? out[1] : 0;

    (void)workspace, (void)step;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        const double x = dsc_load(operands[0], i, shape->out);

        if (isfinite(x)) sum += x * x;
        else non_finite++;
    }
    out[0] = sum;
    out[1] = non_finite;
    return DSC_OK;
}
