#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include <math.h>

/* The scalars of a step in fp32. */
typedef struct scalars {
    float scale, beta1, rest1, beta2, rest2, eps, correction2, rate;
    float shrink; /* decoupled decay: what the old parameter is multiplied by and subtracted */
    float decay;  /* the other kind: what of the parameter is added to the gradient */
} scalars;

static scalars find_scalars(const dsc_shape *s, const dsc_step *step)
{
    const bool decoupled = s->flags & DSC_DECOUPLED;

    return (scalars){
        .scale = step->gradient_scale,
        .beta1 = (float)step->beta1, .rest1 = (float)(1 - step->beta1),
        .beta2 = (float)step->beta2, .rest2 = (float)(1 - step->beta2),
        .eps = (float)step->eps,
        .correction2 = (float)step->bias_correction2,
        .rate = (float)(step->lr / step->bias_correction1),
        .shrink = decoupled ? (float)(step->lr * step->weight_decay) : 0,
        .decay = decoupled ? 0 : (float)step->weight_decay,
    };
}

/* A step of one element. */
DSC_INLINE float step_of(const scalars *k, float gradient, float param, float *exp_avg, float *exp_avg_sq)
{
    const float g = gradient * k->scale + k->decay * param;
    const float m = k->beta1 * *exp_avg + k->rest1 * g;
    const float v = k->beta2 * *exp_avg_sq + k->rest2 * g * g;

    *exp_avg = m;
    *exp_avg_sq = v;
    return param - k->shrink * param - k->rate * (m / (sqrtf(v) * k->correction2 + k->eps));
}

/* Copies of so many elements are read from memory anyhow, when their bucket has been updated. */
enum { LARGE = 1 << 21 };

/* Elements of a piece of the loops, and how far ahead of it memory is asked for. */
enum { PIECE = 64, AHEAD = 256, LINE = 16 };

/* With 16 cores at it the hardware does not ask early enough for so many streams. Past an end it does no harm. */
DSC_INLINE void fetch_ahead(const float *from, bool is_written)
{
    for (int i = AHEAD; i < AHEAD + PIECE; i += LINE) {
        if (is_written) __builtin_prefetch(from + i, 1);
        else __builtin_prefetch(from + i, 0);
    }
}

/* Memory is what it takes: each stream is read and written once, conversions happen in registers. fp16 has no
 * conversion that compilers vectorize, and goes through a block in the first-level cache. */
static void update(const dsc_shape *s, const scalars *with, void *const *operands, int64_t first, int64_t count,
                   uint16_t *copy)
{
    const scalars k = *with;
    float block[DSC_BLOCK];
    const float *gradient = dsc_view(operands[0], first, count, s->out, block);
    float *param = (float *)operands[1] + first;
    float *exp_avg = (float *)operands[2] + first, *exp_avg_sq = (float *)operands[3] + first;

    for (int64_t piece = 0; piece < count; piece += PIECE) {
        if (s->out == DSC_FP32) fetch_ahead(gradient + piece, false);
        fetch_ahead(param + piece, true);
        fetch_ahead(exp_avg + piece, true);
        fetch_ahead(exp_avg_sq + piece, true);
#pragma omp simd
        for (int64_t i = piece; i < DSC_MIN(piece + PIECE, count); i++)
            param[i] = step_of(&k, gradient[i], param[i], &exp_avg[i], &exp_avg_sq[i]);
    }
    if (s->type != DSC_FP32) dsc_narrow(param, count, s->type, copy, 0);
}

/* The same with a copy in bf16, which with AVX-512 is made in registers, as are gradients from bf16. */
DSC_INLINE void update_and_copy(const scalars *with, void *const *operands, int64_t first, int64_t count,
                                uint16_t *copy, bool is_half)
{
    const scalars k = *with;
    const float *wide = (const float *)operands[0] + first;
    const uint16_t *half = (const uint16_t *)operands[0] + first;
    float *param = (float *)operands[1] + first;
    float *exp_avg = (float *)operands[2] + first, *exp_avg_sq = (float *)operands[3] + first;

    for (int64_t piece = 0; piece < count; piece += PIECE) {
        if (!is_half) fetch_ahead(wide + piece, false);
        fetch_ahead(param + piece, true);
        fetch_ahead(exp_avg + piece, true);
        fetch_ahead(exp_avg_sq + piece, true);
#pragma omp simd
        for (int64_t i = piece; i < DSC_MIN(piece + PIECE, count); i++) {
            const float gradient = is_half ? dsc_bf16_float(half[i]) : wide[i];

            param[i] = step_of(&k, gradient, param[i], &exp_avg[i], &exp_avg_sq[i]);
            copy[i] = dsc_float_bf16(param[i]);
        }
    }
}

/* By moments that are made already. */
static void update_frozen(const scalars *with, void *const *operands, int64_t first, int64_t count)
{
    const scalars k = *with;
    float *param = (float *)operands[1] + first;
    const float *exp_avg = (const float *)operands[2] + first, *exp_avg_sq = (const float *)operands[3] + first;

    for (int64_t piece = 0; piece < count; piece += PIECE) {
        fetch_ahead(param + piece, true);
        fetch_ahead(exp_avg + piece, false);
        fetch_ahead(exp_avg_sq + piece, false);
#pragma omp simd
        for (int64_t i = piece; i < DSC_MIN(piece + PIECE, count); i++)
            param[i] -= k.shrink * param[i] + k.rate * (exp_avg[i] / (sqrtf(exp_avg_sq[i]) * k.correction2 + k.eps));
    }
}

static void update_block(const dsc_shape *s, const scalars *k, void *const *operands, int64_t first)
{
    const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
    const bool is_fused = DSC_WIDTH == 16 && s->type == DSC_BF16;
    const bool is_large = s->type != DSC_FP32 && s->d[0] >= LARGE;
    uint16_t block[DSC_BLOCK], *there = s->type != DSC_FP32 ? (uint16_t *)operands[4] + first : NULL;
    uint16_t *copy = is_large ? block : there;

    if (s->flags & DSC_FROZEN) {
        update_frozen(k, operands, first, count);
        if (s->type != DSC_FP32) dsc_narrow((float *)operands[1] + first, count, s->type, copy, 0);
    } else if (is_fused && s->out == DSC_BF16) update_and_copy(k, operands, first, count, copy, true);
    else if (is_fused && s->out == DSC_FP32) update_and_copy(k, operands, first, count, copy, false);
    else update(s, k, operands, first, count, copy);
    if (is_large) dsc_stream_out(block, count, there);
}

dsc_status DSC_OVERLAY(adam)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const scalars k = find_scalars(s, step);

    (void)workspace;
#pragma omp parallel
    {
#pragma omp for schedule(static) nowait
        for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) update_block(s, &k, operands, first);
        _mm_sfence();
    }
    return DSC_OK;
}

/* old is what the momentum keeps of itself, rest how much of the gradient it takes. */
static void momentum_block(const float *gradient, float scale, float old, float rest, int64_t count, float *exp_avg)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) exp_avg[i] = old * exp_avg[i] + rest * (gradient[i] * scale);
}

static void scale_block(const float *gradient, float scale, int64_t count, float *out)
{
#pragma omp simd
    for (int64_t i = 0; i < count; i++) out[i] = gradient[i] * scale;
}

dsc_status DSC_OVERLAY(momentum)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const float beta1 = (float)step->beta1, rest1 = (float)(1 - step->beta1);
    const float scale = s->flags & DSC_SCALED ? 1 : step->gradient_scale * (float)s->d[1];

    (void)workspace;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) {
        const int64_t count = DSC_MIN(s->d[0] - first, DSC_BLOCK);
        float block[DSC_BLOCK], *exp_avg = (float *)operands[1] + first;
        const float *gradient = dsc_view(operands[0], first, count, s->type, block);

        if (s->flags & DSC_FIRST) scale_block(gradient, scale, count, exp_avg);
        else momentum_block(gradient, scale, beta1, rest1, count, exp_avg);
    }
    return DSC_OK;
}

dsc_status DSC_OVERLAY(drift)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const float *param = operands[0], *anchor = operands[1], *exp_avg_sq = operands[2], eps = (float)step->eps;
    float *exp_avg = operands[3];

    (void)workspace;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < s->d[0]; i++) exp_avg[i] = (param[i] - anchor[i]) * (sqrtf(exp_avg_sq[i]) + eps);
    return DSC_OK;
}

dsc_status DSC_OVERLAY(rejoin)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const float *exp_avg_sq = operands[1], eps = (float)step->eps, share = (float)(-1 / step->rates);
    float *exp_avg = operands[0], *anchor = operands[2], *param = operands[3];

    (void)workspace;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK) {
        const int64_t end = DSC_MIN(first + DSC_BLOCK, s->d[0]);

#pragma omp simd
        for (int64_t i = first; i < end; i++) {
            param[i] = anchor[i] + exp_avg[i] / (sqrtf(exp_avg_sq[i]) + eps);
            anchor[i] = param[i];
            exp_avg[i] *= share;
        }
        if (s->type != DSC_FP32) dsc_narrow(param + first, end - first, s->type, operands[4], first);
    }
    return DSC_OK;
}
