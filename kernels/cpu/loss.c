#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include "kernels/tokens.h"
#include <math.h>

DSC_INLINE float find_largest(const void *logits, int64_t first, int64_t v_max, int type)
{
    float block[DSC_BLOCK], largest = -INFINITY;

    for (int64_t v = 0; v < v_max; v += DSC_BLOCK) {
        const int64_t count = DSC_MIN(v_max - v, DSC_BLOCK);
        const float *in = dsc_view(logits, first + v, count, type, block);

#pragma omp simd reduction(max : largest)
        for (int64_t i = 0; i < count; i++) largest = in[i] > largest ? in[i] : largest;
    }
    return largest;
}

DSC_INLINE double sum_exponentials(const void *logits, int64_t first, int64_t v_max, int type, float largest)
{
    float block[DSC_BLOCK];
    double total = 0;

    for (int64_t v = 0; v < v_max; v += DSC_BLOCK) {
        const int64_t count = DSC_MIN(v_max - v, DSC_BLOCK);
        const float *in = dsc_view(logits, first + v, count, type, block);
        float sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) sum += dsc_exp(in[i] - largest);
        total += sum;
    }
    return total;
}

/* One row: -log p(target); the logits become (p - onehot) * scale, columns past V zero. The exponentials are computed
 * twice, since storing them would round them to the type. */
static double lose_row(const dsc_shape *s, void *logits, int64_t row, int64_t target, float scale)
{
    const int64_t v_max = s->d[2], stride = s->d[3], first = row * stride;
    const double target_logit = dsc_load(logits, first + target, s->type);
    const float largest = find_largest(logits, first, v_max, s->type);
    const double sum = sum_exponentials(logits, first, v_max, s->type, largest);
    const float factor = (float)(scale / sum);
    float in[DSC_BLOCK], out[DSC_BLOCK] = {0};

    for (int64_t v = 0; v < v_max; v += DSC_BLOCK) {
        const int64_t count = DSC_MIN(v_max - v, DSC_BLOCK);

        dsc_widen(logits, first + v, count, s->type, in);
#pragma omp simd
        for (int64_t i = 0; i < count; i++) out[i] = dsc_exp(in[i] - largest) * factor;
        if (target >= v && target < v + count) out[target - v] -= scale;
        dsc_narrow(out, count, s->type, logits, first + v);
    }
    memset(out, 0, sizeof out);
    for (int64_t v = v_max; v < stride; v += DSC_BLOCK)
        dsc_narrow(out, DSC_MIN(stride - v, DSC_BLOCK), s->type, logits, first + v);
    return log(sum) + largest - target_logit;
}

/* Losses are summed in fixed chunks of rows and a fixed order. */
dsc_status DSC_OVERLAY(cross_entropy)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t t_max = s->d[1], rows = s->d[0] * t_max, chunk = dsc_ceil_div(rows, DSC_SUM_CHUNKS);
    const int32_t *tokens = operands[0];
    double *partial = workspace, *loss = operands[2];
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_tokens_check(tokens, s->d[0], t_max, s->d[2]));
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) {
        partial[i] = 0;
        for (int64_t row = i * chunk; row < DSC_MIN((i + 1) * chunk, rows); row++)
            partial[i] += lose_row(s, operands[1], row, tokens[row + row / t_max + 1], step->loss_gradient);
    }
    if (!(s->flags & DSC_ACCUMULATE)) *loss = 0;
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) *loss += partial[i];
out:
    return status;
}
