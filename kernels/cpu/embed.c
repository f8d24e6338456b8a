#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include "kernels/tokens.h"

DSC_INLINE void add(const float *from, int64_t count, float *to)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) to[i] += from[i];
}

dsc_status DSC_OVERLAY(embed_fwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t t_max = s->d[1], c_max = s->d[2];
    const int32_t *tokens = operands[0];
    dsc_status status = DSC_OK;

    (void)workspace, (void)step;
    DSC_TRY(dsc_tokens_check(tokens, s->d[0], t_max, s->d[3]));
#pragma omp parallel for
    for (int64_t row = 0; row < s->d[0] * t_max; row++) {
        const int64_t token = tokens[row + row / t_max];
        float x[DSC_BLOCK], position[DSC_BLOCK];

        for (int64_t c = 0; c < c_max; c += DSC_BLOCK) {
            const int64_t count = DSC_MIN(c_max - c, DSC_BLOCK);

            dsc_widen(operands[1], token * c_max + c, count, s->type, x);
            add(dsc_view(operands[2], row % t_max * c_max + c, count, s->type, position), count, x);
            dsc_narrow(x, count, s->type, operands[3], row * c_max + c);
        }
    }
out:
    return status;
}

/* A thread adds some columns of all rows, so that rows of one token are added in order and by nobody else. */
enum { COLS = 64 };

static void add_tokens(const dsc_shape *s, void *const *operands, int64_t c, int64_t cols)
{
    const int64_t t_max = s->d[1], c_max = s->d[2];
    const int32_t *tokens = operands[0];
    float sum[COLS], block[COLS];

    if (s->flags & DSC_FIRST) {
        memset(sum, 0, sizeof sum);
        for (int64_t v = 0; v < s->d[3]; v++) dsc_narrow(sum, cols, s->out, operands[2], v * c_max + c);
    }
    for (int64_t row = 0; row < s->d[0] * t_max; row++) {
        const int64_t at = tokens[row + row / t_max] * c_max + c;

        dsc_widen(operands[2], at, cols, s->out, sum);
        add(dsc_view(operands[1], row * c_max + c, cols, s->type, block), cols, sum);
        dsc_narrow(sum, cols, s->out, operands[2], at);
    }
}

static void sum_positions(const dsc_shape *s, void *const *operands, int64_t c, int64_t cols)
{
    const int64_t t_max = s->d[1], c_max = s->d[2];
    float sum[COLS], block[COLS];

    for (int64_t t = 0; t < t_max; t++) {
        if (s->flags & DSC_ACCUMULATE) dsc_widen(operands[3], t * c_max + c, cols, s->out, sum);
        else memset(sum, 0, sizeof sum);
        for (int64_t b = 0; b < s->d[0]; b++)
            add(dsc_view(operands[1], (b * t_max + t) * c_max + c, cols, s->type, block), cols, sum);
        dsc_narrow(sum, cols, s->out, operands[3], t * c_max + c);
    }
}

dsc_status DSC_OVERLAY(embed_bwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t c = 0; c < s->d[2]; c += COLS) {
        const int64_t cols = DSC_MIN(s->d[2] - c, COLS);

        add_tokens(s, operands, c, cols);
        sum_positions(s, operands, c, cols);
    }
    return DSC_OK;
}
