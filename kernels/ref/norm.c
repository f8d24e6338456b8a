#include "kernels/ref/ref.h"
#include <math.h>

/* y = (x - mean) / sqrt(variance + epsilon) * gamma + beta, over each row (RMSNorm: mean 0, no beta). */
dsc_status dsc_ref_norm_fwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t rows = shape->d[0], cols = shape->d[1];
    const int type = shape->type;
    const void *x = operands[0], *gamma = operands[1], *beta = operands[2];
    void *y = operands[3];
    float *stats = operands[4];

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++) {
        double mean = 0, variance = 0;

        if (!(shape->flags & DSC_RMS))
            for (int64_t j = 0; j < cols; j++) mean += dsc_load(x, i * cols + j, type) / (double)cols;
        for (int64_t j = 0; j < cols; j++) variance += pow(dsc_load(x, i * cols + j, type) - mean, 2) / (double)cols;
        const double inverse = 1 / sqrt(variance + DSC_NORM_EPSILON);
        for (int64_t j = 0; j < cols; j++) {
            double value = (dsc_load(x, i * cols + j, type) - mean) * inverse * dsc_load(gamma, j, type);

            if (beta != NULL) value += dsc_load(beta, j, type);
            dsc_store(y, i * cols + j, type, value);
        }
        stats[2 * i] = (float)mean;
        stats[2 * i + 1] = (float)inverse;
    }
    return DSC_OK;
}

/* With z the normalized row and g = dy * gamma: dx = (g - mean(g) - z mean(g z)) / deviation (RMSNorm: no mean(g)). */
dsc_status dsc_ref_norm_bwd_x(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t rows = shape->d[0], cols = shape->d[1];
    const int type = shape->type;
    const void *dy = operands[0], *x = operands[1], *gamma = operands[3], *residual = operands[4];
    const float *stats = operands[2];
    void *dx = operands[5];

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++) {
        const double mean = stats[2 * i], inverse = stats[2 * i + 1];
        double mean_g = 0, mean_gz = 0;

        for (int64_t j = 0; j < cols; j++) {
            const double g = (double)dsc_load(dy, i * cols + j, type) * dsc_load(gamma, j, type);

            mean_g += g / (double)cols;
            mean_gz += g * (dsc_load(x, i * cols + j, type) - mean) * inverse / (double)cols;
        }
        if (shape->flags & DSC_RMS) mean_g = 0;
        for (int64_t j = 0; j < cols; j++) {
            const double z = (dsc_load(x, i * cols + j, type) - mean) * inverse;
            const double g = (double)dsc_load(dy, i * cols + j, type) * dsc_load(gamma, j, type);
            double value = (g - mean_g - z * mean_gz) * inverse;

            if (residual != NULL) value += dsc_load(residual, i * cols + j, type);
            dsc_store(dx, i * cols + j, type, value);
        }
    }
    return DSC_OK;
}

dsc_status dsc_ref_norm_bwd_w(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t rows = shape->d[0], cols = shape->d[1];
    const int type = shape->type, out = shape->out;
    const void *dy = operands[0], *x = operands[1];
    const float *stats = operands[2];
    void *dgamma = operands[3], *dbeta = operands[4];
    const bool adds = shape->flags & DSC_ACCUMULATE;

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t j = 0; j < cols; j++) {
        double gamma_sum = adds ? dsc_load(dgamma, j, out) : 0;
        double beta_sum = adds && dbeta != NULL ? dsc_load(dbeta, j, out) : 0;

        for (int64_t i = 0; i < rows; i++) {
            const double z = ((double)dsc_load(x, i * cols + j, type) - stats[2 * i]) * stats[2 * i + 1];

            gamma_sum += dsc_load(dy, i * cols + j, type) * z;
            beta_sum += dsc_load(dy, i * cols + j, type);
        }
        dsc_store(dgamma, j, out, gamma_sum);
        if (dbeta != NULL) dsc_store(dbeta, j, out, beta_sum);
    }
    return DSC_OK;
}
