#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"

/* tanh(z) = 2 sigmoid(2z) - 1, so gelu(u) = u sigmoid(2z) with z = sqrt(2/pi) (u + 0.044715 u^3): one exponential,
 * and no cancellation where tanh is near -1. */
static const float linear = 2 * 0.797884561f, cubic = 2 * 0.797884561f * 0.044715f;

DSC_INLINE float sigmoid_of(float u) { return 1 / (1 + dsc_exp(-u * (linear + cubic * u * u))); }

static void forward(const dsc_shape *s, void *const *operands, int64_t first)
{
    const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
    float u_block[DSC_BLOCK], y_block[DSC_BLOCK];
    const float *u = dsc_view(operands[0], first, count, s->type, u_block);
    float *y = dsc_place(operands[1], first, s->type, y_block);

#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = u[i] * sigmoid_of(u[i]);
    dsc_put(y, count, s->type, operands[1], first);
}

dsc_status DSC_OVERLAY(gelu_fwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) forward(s, operands, first);
    return DSC_OK;
}

static void backward(const dsc_shape *s, void *const *operands, int64_t first)
{
    const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
    float dy_block[DSC_BLOCK], u_block[DSC_BLOCK], du_block[DSC_BLOCK];
    const float *dy = dsc_view(operands[0], first, count, s->type, dy_block);
    const float *u = dsc_view(operands[1], first, count, s->type, u_block);
    float *du = dsc_place(operands[2], first, s->type, du_block);

#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const float sigmoid = sigmoid_of(u[i]);

        du[i] = dy[i] * (sigmoid + u[i] * sigmoid * (1 - sigmoid) * (linear + 3 * cubic * u[i] * u[i]));
    }
    dsc_put(du, count, s->type, operands[2], first);
}

dsc_status DSC_OVERLAY(gelu_bwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) backward(s, operands, first);
    return DSC_OK;
}
