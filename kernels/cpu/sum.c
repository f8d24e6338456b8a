#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include <float.h>
#include <math.h>

/* A thread sums some columns over all rows, so that no thread count changes the order of a sum. */
enum { COLS = 64, ROWS = 64 /* summed in fp32 before they are added to a double */ };

DSC_INLINE void add_rows(const dsc_shape *s, const void *x, int64_t first_row, int64_t first_col, int64_t cols,
                         double *total)
{
    const int64_t last = DSC_MIN(first_row + ROWS, s->d[0]);
    float block[COLS], sum[COLS] = {0};

    for (int64_t row = first_row; row < last; row++) {
        const float *in = dsc_view(x, row * s->d[1] + first_col, cols, s->type, block);

#pragma omp simd
        for (int64_t j = 0; j < cols; j++) sum[j] += in[j];
    }
    for (int64_t j = 0; j < cols; j++) total[j] += sum[j];
}

dsc_status DSC_OVERLAY(column_sum)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t first = 0; first < s->d[1]; first += COLS) {
        const int64_t cols = DSC_MIN(s->d[1] - first, COLS);
        double total[COLS] = {0};

        for (int64_t j = 0; s->flags & DSC_ACCUMULATE && j < cols; j++)
            total[j] = dsc_load(operands[1], first + j, s->out);
        for (int64_t row = 0; row < s->d[0]; row += ROWS) add_rows(s, operands[0], row, first, cols, total);
        for (int64_t j = 0; j < cols; j++) dsc_store(operands[1], first + j, s->out, total[j]);
    }
    return DSC_OK;
}

/* partial[0] = sum of the finite squares of [first, last), partial[1] = number of the others. */
static void sum_squares(const void *x, int64_t first, int64_t last, int type, double *partial)
{
    float block[DSC_BLOCK];
    double sum = 0, non_finite = 0;

    for (; first < last; first += DSC_BLOCK) {
        const int64_t count = DSC_MIN(last - first, DSC_BLOCK);
        const float *in = dsc_view(x, first, count, type, block);

#pragma omp simd reduction(+ : sum, non_finite)
        for (int64_t i = 0; i < count; i++) {
            const bool finite = fabsf(in[i]) <= FLT_MAX;
            const double value = finite ? in[i] : 0;

            sum += value * value;
            non_finite += finite ? 0 : 1;
        }
    }
    partial[0] = sum;
    partial[1] = non_finite;
}

dsc_status DSC_OVERLAY(square_sum)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t chunk = dsc_round_up(dsc_ceil_div(s->d[0], DSC_SUM_CHUNKS), DSC_BLOCK);
    double (*partial)[2] = workspace, *out = operands[1];

    (void)step;
#pragma omp parallel for
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++)
        sum_squares(operands[0], i * chunk, DSC_MIN((i + 1) * chunk, s->d[0]), s->out, partial[i]);
    if (!(s->flags & DSC_ACCUMULATE)) out[0] = out[1] = 0;
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) {
        out[0] += partial[i][0];
        out[1] += partial[i][1];
    }
    return DSC_OK;
}
