#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include <math.h>

static const float epsilon = 1e-5f;

/* ---- Rows: a row is read block by block in several passes, the later ones out of the cache */

DSC_INLINE void row_stats(const dsc_shape *s, const void *x, int64_t first, float *mean, float *inverse)
{
    const int64_t cols = s->d[1];
    float block[DSC_BLOCK];
    double total = 0, squares = 0;

    for (int64_t j = 0; !(s->flags & DSC_RMS) && j < cols; j += DSC_BLOCK) {
        const int64_t count = DSC_MIN(cols - j, DSC_BLOCK);
        const float *in = dsc_view(x, first + j, count, s->type, block);
        float sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) sum += in[i];
        total += sum;
    }
    *mean = (float)(total / (double)cols);
    for (int64_t j = 0; j < cols; j += DSC_BLOCK) {
        const int64_t count = DSC_MIN(cols - j, DSC_BLOCK);
        const float *in = dsc_view(x, first + j, count, s->type, block), center = *mean;
        float sum = 0;

#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) sum += (in[i] - center) * (in[i] - center);
        squares += sum;
    }
    *inverse = 1 / sqrtf((float)(squares / (double)cols) + epsilon);
}

static void forward_row(const dsc_shape *s, void *const *operands, int64_t row)
{
    const int64_t cols = s->d[1], first = row * cols;
    float *stats = (float *)operands[4] + 2 * row;
    float x_block[DSC_BLOCK], gamma_block[DSC_BLOCK], beta_block[DSC_BLOCK], y_block[DSC_BLOCK];

    row_stats(s, operands[0], first, &stats[0], &stats[1]);
    const float mean = stats[0], inverse = stats[1];
    for (int64_t j = 0; j < cols; j += DSC_BLOCK) {
        const int64_t count = DSC_MIN(cols - j, DSC_BLOCK);
        const float *x = dsc_view(operands[0], first + j, count, s->type, x_block);
        const float *gamma = dsc_view(operands[1], j, count, s->type, gamma_block);
        float *y = dsc_place(operands[3], first + j, s->type, y_block);

#pragma omp simd
        for (int64_t i = 0; i < count; i++) y[i] = (x[i] - mean) * inverse * gamma[i];
        if (operands[2] != NULL) {
            const float *beta = dsc_view(operands[2], j, count, s->type, beta_block);

#pragma omp simd
            for (int64_t i = 0; i < count; i++) y[i] += beta[i];
        }
        dsc_put(y, count, s->type, operands[3], first + j);
    }
}

dsc_status DSC_OVERLAY(norm_fwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t row = 0; row < s->d[0]; row++) forward_row(s, operands, row);
    return DSC_OK;
}

/* With z the normalized row and g = dy * gamma: the means of g and of g z. */
DSC_INLINE void gradient_means(const dsc_shape *s, void *const *operands, int64_t row, float *mean_g, float *mean_gz)
{
    const int64_t cols = s->d[1], first = row * cols;
    const float mean = ((const float *)operands[2])[2 * row], inverse = ((const float *)operands[2])[2 * row + 1];
    float dy_block[DSC_BLOCK], x_block[DSC_BLOCK], gamma_block[DSC_BLOCK];
    double total_g = 0, total_gz = 0;

    for (int64_t j = 0; j < cols; j += DSC_BLOCK) {
        const int64_t count = DSC_MIN(cols - j, DSC_BLOCK);
        const float *dy = dsc_view(operands[0], first + j, count, s->type, dy_block);
        const float *x = dsc_view(operands[1], first + j, count, s->type, x_block);
        const float *gamma = dsc_view(operands[3], j, count, s->type, gamma_block);
        float sum_g = 0, sum_gz = 0;

#pragma omp simd reduction(+ : sum_g, sum_gz)
        for (int64_t i = 0; i < count; i++) {
            const float g = dy[i] * gamma[i];

            sum_g += g;
            sum_gz += g * ((x[i] - mean) * inverse);
        }
        total_g += sum_g;
        total_gz += sum_gz;
    }
    *mean_g = s->flags & DSC_RMS ? 0 : (float)(total_g / (double)cols);
    *mean_gz = (float)(total_gz / (double)cols);
}

/* dx = (g - mean(g) - z mean(g z)) / deviation + residual. */
static void backward_row(const dsc_shape *s, void *const *operands, int64_t row)
{
    const int64_t cols = s->d[1], first = row * cols;
    const float mean = ((const float *)operands[2])[2 * row], inverse = ((const float *)operands[2])[2 * row + 1];
    float dy_block[DSC_BLOCK], x_block[DSC_BLOCK], gamma_block[DSC_BLOCK], dx[DSC_BLOCK], residual[DSC_BLOCK];
    float mean_g, mean_gz;

    gradient_means(s, operands, row, &mean_g, &mean_gz);
    for (int64_t j = 0; j < cols; j += DSC_BLOCK) {
        const int64_t count = DSC_MIN(cols - j, DSC_BLOCK);
        const float *dy = dsc_view(operands[0], first + j, count, s->type, dy_block);
        const float *x = dsc_view(operands[1], first + j, count, s->type, x_block);
        const float *gamma = dsc_view(operands[3], j, count, s->type, gamma_block);

#pragma omp simd
        for (int64_t i = 0; i < count; i++)
            dx[i] = (dy[i] * gamma[i] - mean_g - (x[i] - mean) * inverse * mean_gz) * inverse;
        if (operands[4] != NULL) {
            const float *added = dsc_view(operands[4], first + j, count, s->type, residual);

#pragma omp simd
            for (int64_t i = 0; i < count; i++) dx[i] += added[i];
        }
        dsc_narrow(dx, count, s->type, operands[5], first + j);
    }
}

dsc_status DSC_OVERLAY(norm_bwd_x)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t row = 0; row < s->d[0]; row++) backward_row(s, operands, row);
    return DSC_OK;
}

/* ---- Columns: a thread sums some columns over all rows, so that no thread count changes the order of a sum */

enum { COLS = 64, ROWS = 64 /* summed in fp32 before they are added to a double */ };

DSC_INLINE void add_rows(const dsc_shape *s, void *const *operands, int64_t first_row, int64_t first_col, int64_t cols,
                         double *gamma_total, double *beta_total)
{
    const int64_t width = s->d[1], last = DSC_MIN(first_row + ROWS, s->d[0]);
    const float *stats = operands[2];
    float dy_block[COLS], x_block[COLS], gamma_sum[COLS] = {0}, beta_sum[COLS] = {0};

    for (int64_t row = first_row; row < last; row++) {
        const float *dy = dsc_view(operands[0], row * width + first_col, cols, s->type, dy_block);
        const float *x = dsc_view(operands[1], row * width + first_col, cols, s->type, x_block);
        const float mean = stats[2 * row], inverse = stats[2 * row + 1];

#pragma omp simd
        for (int64_t j = 0; j < cols; j++) {
            gamma_sum[j] += dy[j] * ((x[j] - mean) * inverse);
            beta_sum[j] += dy[j];
        }
    }
    for (int64_t j = 0; j < cols; j++) {
        gamma_total[j] += gamma_sum[j];
        beta_total[j] += beta_sum[j];
    }
}

dsc_status DSC_OVERLAY(norm_bwd_w)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t rows = s->d[0], width = s->d[1];
    void *dgamma = operands[3], *dbeta = operands[4];

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t first = 0; first < width; first += COLS) {
        const int64_t cols = DSC_MIN(width - first, COLS);
        double gamma_total[COLS] = {0}, beta_total[COLS] = {0};

        for (int64_t j = 0; s->flags & DSC_ACCUMULATE && j < cols; j++) {
            gamma_total[j] = dsc_load(dgamma, first + j, s->out);
            if (dbeta != NULL) beta_total[j] = dsc_load(dbeta, first + j, s->out);
        }
        for (int64_t row = 0; row < rows; row += ROWS)
            add_rows(s, operands, row, first, cols, gamma_total, beta_total);
        for (int64_t j = 0; j < cols; j++) {
            dsc_store(dgamma, first + j, s->out, gamma_total[j]);
            if (dbeta != NULL) dsc_store(dbeta, first + j, s->out, beta_total[j]);
        }
    }
    return DSC_OK;
}
