#include "kernels/ref/ref.h"

dsc_status dsc_ref_gemm(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t m = shape->d[0], n = shape->d[1], k = shape->d[2];
    const int type = shape->type, out_type = shape->out;
    const void *a = operands[0], *b = operands[1], *bias = operands[2], *residual = operands[3];
    void *out = operands[4];
    const int64_t a_row = shape->flags & DSC_TRANS_A ? 1 : k, a_step = shape->flags & DSC_TRANS_A ? m : 1;
    const int64_t b_col = shape->flags & DSC_TRANS_B ? k : 1, b_step = shape->flags & DSC_TRANS_B ? 1 : n;

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;

            for (int64_t l = 0; l < k; l++)
                sum += (double)dsc_load(a, i * a_row + l * a_step, type) * dsc_load(b, j * b_col + l * b_step, type);
            if (bias != NULL) sum += dsc_load(bias, j, type);
            if (residual != NULL) sum += dsc_load(residual, i * n + j, type);
            if (shape->flags & DSC_ACCUMULATE) sum += dsc_load(out, i * n + j, out_type);
            dsc_store(out, i * n + j, out_type, sum);
        }
    return DSC_OK;
}
