#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include "kernels/shard.h"
#include "kernels/tokens.h"

DSC_INLINE void add(const float *from, int64_t count, float *to)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) to[i] += from[i];
}

DSC_INLINE void add_rows(const float *a, const float *b, int64_t count, float *to)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) to[i] = a[i] + b[i];
}

/* Row `row` of a table, zero when another rank owns it. */
DSC_INLINE const float *view_row(const void *table, int64_t row, int64_t c_max, int64_t c, int64_t count, int type,
                                 float *block)
{
    if (row >= 0) return dsc_view(table, row * c_max + c, count, type, block);
    memset(block, 0, (size_t)count * sizeof *block);
    return block;
}

dsc_status DSC_OVERLAY(embed_fwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t t_max = s->d[1], c_max = s->d[2];
    const int32_t *tokens = operands[0];
    dsc_status status = DSC_OK;

    (void)workspace;
    DSC_TRY(dsc_tokens_check(tokens, s->d[0], t_max, dsc_token_limit(s)));
#pragma omp parallel for
    for (int64_t row = 0; row < s->d[0] * t_max; row++) {
        const int64_t token = dsc_own_token(s, step, tokens[row + row / t_max]);
        const int64_t position = s->flags & DSC_NO_POSITIONS ? -1 : dsc_own_position(s, step, row % t_max);
        float wte[DSC_BLOCK], wpe[DSC_BLOCK], x[DSC_BLOCK];

        for (int64_t c = 0; c < c_max; c += DSC_BLOCK) {
            const int64_t count = DSC_MIN(c_max - c, DSC_BLOCK);

            add_rows(view_row(operands[1], token, c_max, c, count, s->type, wte),
                     view_row(operands[2], position, c_max, c, count, s->type, wpe), count, x);
            dsc_narrow(x, count, s->type, operands[3], row * c_max + c);
        }
    }
out:
    return status;
}

/* A thread adds some columns of all rows, so that rows of one token are added in order and by nobody else. */
enum { COLS = 64 };

static void add_tokens(const dsc_shape *s, void *const *operands, const dsc_step *step, int64_t c, int64_t cols)
{
    const int64_t t_max = s->d[1], c_max = s->d[2];
    const int32_t *tokens = operands[0];
    float sum[COLS], block[COLS];

    if (s->flags & DSC_FIRST) {
        memset(sum, 0, sizeof sum);
        for (int64_t v = 0; v < s->d[3]; v++) dsc_narrow(sum, cols, s->out, operands[2], v * c_max + c);
    }
    for (int64_t row = 0; row < s->d[0] * t_max; row++) {
        const int64_t token = dsc_own_token(s, step, tokens[row + row / t_max]), at = token * c_max + c;

        if (token < 0) continue;
        dsc_widen(operands[2], at, cols, s->out, sum);
        add(dsc_view(operands[1], row * c_max + c, cols, s->type, block), cols, sum);
        dsc_narrow(sum, cols, s->out, operands[2], at);
    }
}

static void sum_positions(const dsc_shape *s, void *const *operands, const dsc_step *step, int64_t c, int64_t cols)
{
    const int64_t t_max = s->d[1], c_max = s->d[2], rows = dsc_position_rows(s), first = dsc_first_position(s, step);
    float sum[COLS], block[COLS];

    for (int64_t row = 0; row < rows; row++) {
        const int64_t t = first + row;

        if (s->flags & DSC_ACCUMULATE) dsc_widen(operands[3], row * c_max + c, cols, s->out, sum);
        else memset(sum, 0, sizeof sum);
        for (int64_t b = 0; t < t_max && b < s->d[0]; b++)
            add(dsc_view(operands[1], (b * t_max + t) * c_max + c, cols, s->type, block), cols, sum);
        dsc_narrow(sum, cols, s->out, operands[3], row * c_max + c);
    }
}

dsc_status DSC_OVERLAY(embed_bwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace;
#pragma omp parallel for
    for (int64_t c = 0; c < s->d[2]; c += COLS) {
        const int64_t cols = DSC_MIN(s->d[2] - c, COLS);

        add_tokens(s, operands, step, c, cols);
        if (!(s->flags & DSC_NO_POSITIONS)) sum_positions(s, operands, step, c, cols);
    }
    return DSC_OK;
}
