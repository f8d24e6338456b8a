#include "kernel/workspace.h"
#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include "kernels/shard.h"
#include "kernels/tokens.h"
#include <float.h>
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

/* The row of logits becomes (p - onehot) * scale with p = exp(logit - largest) / sum; the columns from `columns` to the
 * stride zero. target is a column, or lies outside of them. The exponentials are computed twice, since storing them
 * would round them to the type. */
DSC_INLINE void differentiate(const dsc_shape *s, void *logits, int64_t first, int64_t columns, int64_t target,
                              float largest, double sum, float scale)
{
    const int64_t stride = s->d[3];
    const float factor = (float)(scale / sum);
    float in[DSC_BLOCK], out[DSC_BLOCK] = {0};

    for (int64_t v = 0; v < columns; v += DSC_BLOCK) {
        const int64_t count = DSC_MIN(columns - v, DSC_BLOCK);

        dsc_widen(logits, first + v, count, s->type, in);
#pragma omp simd
        for (int64_t i = 0; i < count; i++) out[i] = dsc_exp(in[i] - largest) * factor;
        if (target >= v && target < v + count) out[target - v] -= scale;
        dsc_narrow(out, count, s->type, logits, first + v);
    }
    memset(out, 0, sizeof out);
    for (int64_t v = columns; v < stride; v += DSC_BLOCK)
        dsc_narrow(out, DSC_MIN(stride - v, DSC_BLOCK), s->type, logits, first + v);
}

/* DSC_APART: the row's log-probabilities; log_sum is the logarithm of the sum of its exponentials. */
static void normalize_row(const dsc_shape *s, const float *logits, int64_t row, int64_t columns, double log_sum,
                          void *workspace)
{
    const float *in = logits + row * s->d[3];
    float *log_p = dsc_loss_step(s, workspace, 0) + row * s->d[3];

#pragma omp simd
    for (int64_t v = 0; v < columns; v++) log_p[v] = (float)(in[v] - log_sum);
}

/* Logits become their gradient, each step for all rows before the next: that of the targets' log-probabilities, and
 * that of what all are normalized with. */
static void differentiate_apart(const dsc_shape *s, const int32_t *tokens, const dsc_step *step, void *workspace,
                                float *logits)
{
    const int64_t rows = s->d[0] * s->d[1], stride = s->d[3], columns = dsc_real_columns(s, step);
    const float *log_p = dsc_loss_step(s, workspace, 0), scale = step->loss_gradient;
    float *by_target = dsc_loss_step(s, workspace, 1);
    float *by_sum = dsc_has_all_logits(s) ? logits : dsc_loss_step(s, workspace, 2);

#pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
        const int64_t target = dsc_target_column(s, step, tokens, row);

        memset(by_target + row * stride, 0, (size_t)stride * sizeof *by_target);
        if (target >= 0) by_target[row * stride + target] = -scale;
    }
#pragma omp parallel for
    for (int64_t row = 0; row < rows; row++) {
#pragma omp simd
        for (int64_t v = 0; v < columns; v++) by_sum[row * stride + v] = dsc_exp(log_p[row * stride + v]) * scale;
        memset(by_sum + row * stride + columns, 0, (size_t)(stride - columns) * sizeof *by_sum);
    }
#pragma omp parallel for simd
    for (int64_t i = 0; i < rows * stride; i++) logits[i] = by_sum[i] + by_target[i];
}

/* One row: -log p(target), and the gradient, or what it is made of later. */
static double lose_row(const dsc_shape *s, void *logits, int64_t row, int64_t target, float scale, void *workspace)
{
    const int64_t v_max = s->d[2], first = row * s->d[3];
    const double target_logit = dsc_load(logits, first + target, s->type);
    const float largest = find_largest(logits, first, v_max, s->type);
    const double sum = sum_exponentials(logits, first, v_max, s->type, largest);

    if (s->flags & DSC_APART) normalize_row(s, logits, row, v_max, log(sum) + largest, workspace);
    else differentiate(s, logits, first, v_max, target, largest, sum, scale);
    return log(sum) + largest - target_logit;
}

/* Losses are summed in fixed chunks of rows and a fixed order. */
static void add_chunks(const dsc_shape *s, const double *partial, double *loss)
{
    if (!(s->flags & DSC_ACCUMULATE)) *loss = 0;
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) *loss += partial[i];
}

dsc_status DSC_OVERLAY(cross_entropy)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t t_max = s->d[1], rows = s->d[0] * t_max, chunk = dsc_ceil_div(rows, DSC_SUM_CHUNKS);
    const int32_t *tokens = operands[0];
    double *partial = workspace;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_tokens_check(tokens, s->d[0], t_max, s->d[2]));
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) {
        partial[i] = 0;
        for (int64_t row = i * chunk; row < DSC_MIN((i + 1) * chunk, rows); row++)
            partial[i] += lose_row(s, operands[1], row, dsc_target_column(s, step, tokens, row), step->loss_gradient,
                                   workspace);
    }
    add_chunks(s, partial, operands[2]);
    if (s->flags & DSC_APART) differentiate_apart(s, tokens, step, workspace, operands[1]);
out:
    return status;
}

/* ---- Over tensor ranks */

static void make_part(const dsc_shape *s, const void *logits, int64_t row, int64_t columns, int64_t target, float *part)
{
    const int64_t first = row * s->d[3];
    const float largest = columns > 0 ? find_largest(logits, first, columns, s->type) : -FLT_MAX;

    part[0] = largest;
    part[1] = (float)sum_exponentials(logits, first, columns, s->type, largest);
    part[2] = target < 0 ? 0 : dsc_load(logits, first + target, s->type);
}

dsc_status DSC_OVERLAY(cross_entropy_part)(const dsc_shape *s, void *const *operands, void *workspace,
                                           const dsc_step *step)
{
    const int64_t t_max = s->d[1], columns = dsc_real_columns(s, step);
    const int32_t *tokens = operands[0];
    float *part = operands[2];
    dsc_status status = DSC_OK;

    (void)workspace;
    DSC_TRY(dsc_tokens_check(tokens, s->d[0], t_max, s->d[2]));
#pragma omp parallel for
    for (int64_t row = 0; row < s->d[0] * t_max; row++)
        make_part(s, operands[1], row, columns, dsc_target_column(s, step, tokens, row), part + 3 * row);
out:
    return status;
}

/* One row: -log p(target) from all ranks' parts, and this rank's logits' gradient, or what it is made of later. */
static double join_row(const dsc_shape *s, void *const *operands, const dsc_step *step, int64_t row, int64_t token,
                       void *workspace)
{
    const int64_t rows = s->d[0] * s->d[1], n = s->d[4], columns = dsc_real_columns(s, step);
    const float *parts = (const float *)operands[1] + 3 * row;
    float largest = -INFINITY;
    double sum = 0;

    for (int64_t i = 0; i < s->d[5]; i++) largest = fmaxf(largest, parts[3 * rows * i]);
    for (int64_t i = 0; i < s->d[5]; i++)
        sum += parts[3 * rows * i + 1] * exp((double)parts[3 * rows * i] - largest);
    if (s->flags & DSC_APART) normalize_row(s, operands[2], row, columns, log(sum) + largest, workspace);
    else differentiate(s, operands[2], row * s->d[3], columns, dsc_own_row(token, n, step->tp_index), largest, sum,
                       step->loss_gradient);
    return log(sum) + largest - parts[3 * rows * (token / n) + 2];
}

dsc_status DSC_OVERLAY(cross_entropy_join)(const dsc_shape *s, void *const *operands, void *workspace,
                                           const dsc_step *step)
{
    const int64_t t_max = s->d[1], rows = s->d[0] * t_max, chunk = dsc_ceil_div(rows, DSC_SUM_CHUNKS);
    const int32_t *tokens = operands[0];
    double *partial = workspace;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_tokens_check(tokens, s->d[0], t_max, s->d[2]));
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) {
        partial[i] = 0;
        for (int64_t row = i * chunk; row < DSC_MIN((i + 1) * chunk, rows); row++)
            partial[i] += join_row(s, operands, step, row, tokens[row + row / t_max + 1], workspace);
    }
    add_chunks(s, partial, operands[3]);
    if (s->flags & DSC_APART) differentiate_apart(s, tokens, step, workspace, operands[2]);
out:
    return status;
}
