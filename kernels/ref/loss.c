#include "kernel/workspace.h"
#include "kernels/ref/ref.h"
#include "kernels/shard.h"
#include "kernels/tokens.h"
#include <float.h>
#include <math.h>

/* The largest of a row of a rank's logits (of none: the lowest number), and their exponentials relative to it. */
static double find_largest(const void *logits, int64_t first, int64_t columns, int type)
{
    double largest = columns > 0 ? -INFINITY : -FLT_MAX;

    for (int64_t v = 0; v < columns; v++) largest = fmax(largest, dsc_load(logits, first + v, type));
    return largest;
}

static double sum_exponentials(const void *logits, int64_t first, int64_t columns, int type, double largest)
{
    double sum = 0;

    for (int64_t v = 0; v < columns; v++) sum += exp(dsc_load(logits, first + v, type) - largest);
    return sum;
}

/* The row of logits becomes (p - onehot) * scale with p = exp(logit - largest) / sum; the columns from `columns` to
 * `stride` zero. target is a column, or lies outside of them. */
static void differentiate(void *logits, int64_t first, int64_t columns, int64_t stride, int type, int64_t target,
                          double largest, double sum, double scale)
{
    for (int64_t v = 0; v < columns; v++) {
        const double p = exp(dsc_load(logits, first + v, type) - largest) / sum;

        dsc_store(logits, first + v, type, (p - (v == target)) * scale);
    }
    for (int64_t v = columns; v < stride; v++) dsc_store(logits, first + v, type, 0);
}

/* ---- In steps that stand apart: each for all rows before the next */

/* A row's log-probabilities; log_sum is the logarithm of the sum of its exponentials. */
static void normalize_row(const float *logits, int64_t columns, double log_sum, float *log_p)
{
    for (int64_t v = 0; v < columns; v++) log_p[v] = (float)(logits[v] - log_sum);
}

/* Logits become their gradient: that of the targets' log-probabilities, and that of what all are normalized with. */
static void differentiate_apart(const dsc_shape *s, const int32_t *tokens, const dsc_step *step, void *workspace,
                                float *logits)
{
    const int64_t rows = s->d[0] * s->d[1], stride = s->d[3], columns = dsc_real_columns(s, step);
    const float *log_p = dsc_loss_step(s, workspace, 0);
    float *by_target = dsc_loss_step(s, workspace, 1);
    float *by_sum = dsc_has_all_logits(s) ? logits : dsc_loss_step(s, workspace, 2);

    for (int64_t row = 0; row < rows; row++)
        for (int64_t v = 0; v < stride; v++)
            by_target[row * stride + v] = v == dsc_target_column(s, step, tokens, row) ? -step->loss_gradient : 0;
    for (int64_t i = 0; i < rows * stride; i++)
        by_sum[i] = i % stride < columns ? (float)(exp(log_p[i]) * step->loss_gradient) : 0;
    for (int64_t i = 0; i < rows * stride; i++) logits[i] = by_sum[i] + by_target[i];
}

/* ---- Where one rank has all logits */

/* One row: -log p(target), and the gradient, or what it is made of later. */
static double cross_entropy_row(const dsc_shape *s, void *logits, int64_t row, int64_t target, double scale,
                                void *workspace)
{
    const int64_t v_max = s->d[2], stride = s->d[3], first = row * stride;
    const double target_logit = dsc_load(logits, first + target, s->type);
    const double largest = find_largest(logits, first, v_max, s->type);
    const double sum = sum_exponentials(logits, first, v_max, s->type, largest);

    if (s->flags & DSC_APART)
        normalize_row((float *)logits + first, v_max, log(sum) + largest, dsc_loss_step(s, workspace, 0) + first);
    else
        differentiate(logits, first, v_max, stride, s->type, target, largest, sum, scale);
    return log(sum) + largest - target_logit;
}

dsc_status dsc_ref_cross_entropy(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int32_t *tokens = operands[0];
    double *loss = operands[2], sum = 0;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_tokens_check(tokens, shape->d[0], shape->d[1], shape->d[2]));
    for (int64_t row = 0; row < shape->d[0] * shape->d[1]; row++)
        sum += cross_entropy_row(shape, operands[1], row, dsc_target_column(shape, step, tokens, row),
                                 step->loss_gradient, workspace);
    if (shape->flags & DSC_APART) differentiate_apart(shape, tokens, step, workspace, operands[1]);
    *loss = shape->flags & DSC_ACCUMULATE ? *loss + sum : sum;
out:
    return status;
}

/* ---- Over tensor ranks */

dsc_status dsc_ref_cross_entropy_part(const dsc_shape *shape, void *const *operands, void *workspace,
                                      const dsc_step *step)
{
    const int64_t t_max = shape->d[1], stride = shape->d[3], columns = dsc_real_columns(shape, step);
    const int32_t *tokens = operands[0];
    const void *logits = operands[1];
    float *part = operands[2];
    dsc_status status = DSC_OK;

    (void)workspace;
    DSC_TRY(dsc_tokens_check(tokens, shape->d[0], t_max, shape->d[2]));
    for (int64_t row = 0; row < shape->d[0] * t_max; row++) {
        const int64_t target = dsc_target_column(shape, step, tokens, row);
        const double largest = find_largest(logits, row * stride, columns, shape->type);

        part[3 * row] = (float)largest;
        part[3 * row + 1] = (float)sum_exponentials(logits, row * stride, columns, shape->type, largest);
        part[3 * row + 2] = target < 0 ? 0 : dsc_load(logits, row * stride + target, shape->type);
    }
out:
    return status;
}

/* One row: all ranks' parts, `step` floats apart, joined into the whole row's largest logit, sum and loss. */
static double join_parts(const float *parts, int64_t step, int64_t ranks, int64_t owner, double *largest, double *sum)
{
    *largest = -INFINITY;
    *sum = 0;
    for (int64_t i = 0; i < ranks; i++) *largest = fmax(*largest, parts[i * step]);
    for (int64_t i = 0; i < ranks; i++) *sum += parts[i * step + 1] * exp(parts[i * step] - *largest);
    return log(*sum) + *largest - parts[owner * step + 2];
}

dsc_status dsc_ref_cross_entropy_join(const dsc_shape *shape, void *const *operands, void *workspace,
                                      const dsc_step *step)
{
    const int64_t t_max = shape->d[1], rows = shape->d[0] * t_max, stride = shape->d[3], n = shape->d[4];
    const int32_t *tokens = operands[0];
    const float *parts = operands[1];
    double *loss = operands[3], loss_sum = 0;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_tokens_check(tokens, shape->d[0], t_max, shape->d[2]));
    for (int64_t row = 0; row < rows; row++) {
        const int64_t token = tokens[row + row / t_max + 1];
        double largest, sum;

        loss_sum += join_parts(parts + 3 * row, 3 * rows, shape->d[5], token / n, &largest, &sum);
        if (shape->flags & DSC_APART)
            normalize_row((float *)operands[2] + row * stride, dsc_real_columns(shape, step), log(sum) + largest,
                          dsc_loss_step(shape, workspace, 0) + row * stride);
        else
            differentiate(operands[2], row * stride, dsc_real_columns(shape, step), stride, shape->type,
                          dsc_target_column(shape, step, tokens, row), largest, sum, step->loss_gradient);
    }
    if (shape->flags & DSC_APART) differentiate_apart(shape, tokens, step, workspace, operands[2]);
    *loss = shape->flags & DSC_ACCUMULATE ? *loss + loss_sum : loss_sum;
out:
    return status;
}
