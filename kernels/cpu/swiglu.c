#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"

DSC_INLINE float sigmoid(float z) { return 1 / (1 + dsc_exp(-z)); }

static void forward(const dsc_shape *s, void *const *operands, int64_t first)
{
    const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
    float u_block[DSC_BLOCK], z_block[DSC_BLOCK], y_block[DSC_BLOCK];
    const float *u = dsc_view(operands[0], first, count, s->type, u_block);
    const float *z = dsc_view(operands[1], first, count, s->type, z_block);
    float *y = dsc_place(operands[2], first, s->type, y_block);

#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = u[i] * z[i] * sigmoid(z[i]);
    dsc_put(y, count, s->type, operands[2], first);
}

dsc_status DSC_OVERLAY(swiglu_fwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) forward(s, operands, first);
    return DSC_OK;
}

static void backward(const dsc_shape *s, void *const *operands, int64_t first)
{
    const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
    float dy_block[DSC_BLOCK], u_block[DSC_BLOCK], z_block[DSC_BLOCK], du_block[DSC_BLOCK], dz_block[DSC_BLOCK];
    const float *dy = dsc_view(operands[0], first, count, s->type, dy_block);
    const float *u = dsc_view(operands[1], first, count, s->type, u_block);
    const float *z = dsc_view(operands[2], first, count, s->type, z_block);
    float *du = dsc_place(operands[3], first, s->type, du_block);
    float *dz = dsc_place(operands[4], first, s->type, dz_block);

#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const float p = sigmoid(z[i]), dy_p = dy[i] * p, u_i = u[i], z_i = z[i]; /* outputs may be inputs */

        du[i] = dy_p * z_i;
        dz[i] = dy_p * u_i * (1 + z_i * (1 - p));
    }
    dsc_put(du, count, s->type, operands[3], first);
    dsc_put(dz, count, s->type, operands[4], first);
}

dsc_status DSC_OVERLAY(swiglu_bwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) backward(s, operands, first);
    return DSC_OK;
}
