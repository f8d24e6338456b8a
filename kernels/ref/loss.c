#include "kernels/ref/ref.h"
#include "kernels/tokens.h"
#include <math.h>

/* One row: -log p(target); the logits become (p - onehot) * scale, columns past V zero. */
static double cross_entropy_row(void *logits, int64_t first, int64_t v_max, int64_t stride, int type, int64_t target,
                                double scale)
{
    const double target_logit = dsc_load(logits, first + target, type);
    double largest = -INFINITY, sum = 0;

    for (int64_t v = 0; v < v_max; v++) largest = fmax(largest, dsc_load(logits, first + v, type));
    for (int64_t v = 0; v < v_max; v++) sum += exp(dsc_load(logits, first + v, type) - largest);
    for (int64_t v = 0; v < v_max; v++) {
        const double p = exp(dsc_load(logits, first + v, type) - largest) / sum;

        dsc_store(logits, first + v, type, (p - (v == target)) * scale);
    }
    for (int64_t v = v_max; v < stride; v++) dsc_store(logits, first + v, type, 0);
    return log(sum) + largest - target_logit;
}

dsc_status dsc_ref_cross_entropy(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t b_max = shape->d[0], t_max = shape->d[1], v_max = shape->d[2], stride = shape->d[3];
    const int32_t *tokens = operands[0];
    double *loss = operands[2], sum = 0;
    dsc_status status = DSC_OK;

    (void)workspace;
    DSC_TRY(dsc_tokens_check(tokens, b_max, t_max, v_max));
    for (int64_t b = 0; b < b_max; b++)
        for (int64_t t = 0; t < t_max; t++)
            sum += cross_entropy_row(operands[1], (b * t_max + t) * stride, v_max, stride, shape->type,
                                     tokens[b * (t_max + 1) + t + 1], step->loss_gradient);
    *loss = shape->flags & DSC_ACCUMULATE ? *loss + sum : sum;
out:
    return status;
}
