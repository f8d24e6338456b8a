/* LAMB, tensor by tensor (lib/kernel/held.h). Memory is what it takes: so each stream is read and written once, and
 * what is summed is summed while it is in the first-level cache. */
#include "kernel/held.h"
#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include <math.h>

enum { SUMS = 4 };

/* The scalars of a step in fp32. */
typedef struct scalars {
    float scale, beta1, rest1, beta2, rest2, eps, decay;
    float correction1, correction2, fresh2; /* what momentum, and the variances' roots, are multiplied by */
} scalars;

static scalars find_scalars(const dsc_step *step)
{
    return (scalars){
        .scale = step->gradient_scale,
        .beta1 = (float)step->beta1, .rest1 = (float)(1 - step->beta1),
        .beta2 = (float)step->beta2, .rest2 = (float)(1 - step->beta2),
        .eps = (float)step->eps, .decay = (float)step->weight_decay,
        .correction1 = (float)(1 / step->bias_correction1), .correction2 = (float)step->bias_correction2,
        .fresh2 = (float)step->fresh_correction2,
    };
}

/* ---- Moments */

static void move(const scalars *with, const float *gradient, int64_t count, float *exp_avg, float *exp_avg_sq,
                 float *fresh)
{
    const scalars k = *with;

#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const float g = gradient[i] * k.scale;

        exp_avg[i] = k.beta1 * exp_avg[i] + k.rest1 * g;
        exp_avg_sq[i] = k.beta2 * exp_avg_sq[i] + k.rest2 * g * g;
        fresh[i] = exp_avg_sq[i];
    }
}

static void move_frozen(const scalars *with, const float *agreed, int64_t count, float *exp_avg, float *fresh)
{
    const scalars k = *with;

#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const float g = (agreed[i] - k.beta1 * exp_avg[i]) / k.rest1;

        exp_avg[i] = agreed[i];
        fresh[i] = k.beta2 * fresh[i] + k.rest2 * g * g;
    }
}

/* ---- Norms */

static void add_squares(const scalars *with, const float *param, const float *exp_avg, const float *exp_avg_sq,
                        int64_t count, double *sums)
{
    const scalars k = *with;
    double params = 0, updates = 0, plain = 0;

#pragma omp simd reduction(+ : params, updates, plain)
    for (int64_t i = 0; i < count; i++) {
        const float u0 = exp_avg[i] * k.correction1 / (sqrtf(exp_avg_sq[i]) * k.correction2 + k.eps);
        const float u = u0 + k.decay * param[i];

        params += (double)param[i] * param[i];
        updates += (double)u * u;
        plain += (double)u0 * u0;
    }
    sums[0] += params;
    sums[1] += updates;
    sums[2] += plain;
}

static void find_most(const scalars *with, const float *exp_avg_sq, const float *fresh, int64_t count, double *out)
{
    const scalars k = *with;
    float most = 0;

#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < count; i++) {
        const float ratio = (sqrtf(exp_avg_sq[i]) * k.correction2 + k.eps) / (sqrtf(fresh[i]) * k.fresh2 + k.eps);

        most = ratio > most ? ratio : most;
    }
    *out = fmax(*out, (double)most);
}

/* Moments of a block's elements [first, end), all of them. */
static void move_block(const dsc_shape *s, const scalars *k, void *const *operands, int64_t first, int64_t end)
{
    const bool frozen = s->flags & DSC_FROZEN;
    float block[DSC_BLOCK], *exp_avg = operands[2], *exp_avg_sq = operands[3], *fresh = operands[4];
    const float *gradient = dsc_view(operands[0], first, end - first, frozen ? DSC_FP32 : s->out, block);

    if (frozen) move_frozen(k, gradient, end - first, exp_avg + first, fresh + first);
    else move(k, gradient, end - first, exp_avg + first, exp_avg_sq + first, fresh + first);
}

/* Adds what of a tensor lies in [first, end), whose moments are made. */
static void measure(const dsc_shape *s, const scalars *k, void *const *operands, const dsc_held *held, int64_t first,
                    int64_t end, double sums[SUMS])
{
    const int64_t low = DSC_MAX(first, held->first), high = DSC_MIN(end, held->first + held->elems);
    const int64_t trained = DSC_MIN(end, held->first + held->real);
    const float *param = operands[1], *exp_avg = operands[2], *exp_avg_sq = operands[3], *fresh = operands[4];

    add_squares(k, param + low, exp_avg + low, exp_avg_sq + low, high - low, sums);
    if (s->flags & DSC_FROZEN) find_most(k, exp_avg_sq + low, fresh + low, trained - low, &sums[SUMS - 1]);
}

/* The first tensor that ends past an element. */
static int64_t find_tensor(const dsc_held *held, int64_t tensors, int64_t elem)
{
    int64_t low = 0, high = tensors;

    while (low < high) {
        const int64_t middle = (low + high) / 2;

        if (held[middle].first + held[middle].elems <= elem) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Chunks of the bucket are the same for any number of threads. One that has something of some tensors sums it for each
 * of them apart: chunk + tensor is another number for each such pair, since both ascend. */
static void measure_chunk(const dsc_shape *s, const scalars *k, void *const *operands, int64_t chunk, int64_t elems,
                          double (*partial)[SUMS])
{
    const int64_t end = DSC_MIN((chunk + 1) * elems, s->d[0]);
    const dsc_held *held = operands[5];

    for (int64_t first = chunk * elems; first < end; first += DSC_BLOCK) {
        const int64_t last = DSC_MIN(first + DSC_BLOCK, end);

        move_block(s, k, operands, first, last);
        for (int64_t t = find_tensor(held, s->d[1], first); t < s->d[1] && held[t].first < last; t++)
            measure(s, k, operands, &held[t], first, last, partial[chunk + t]);
    }
}

static void add_chunks(const dsc_held *held, int64_t tensor, int64_t elems, double (*partial)[SUMS], double out[SUMS])
{
    const int64_t end = held[tensor].first + held[tensor].elems;

    for (int i = 0; i < SUMS; i++) out[i] = 0;
    for (int64_t chunk = held[tensor].first / elems; chunk * elems < end; chunk++) {
        for (int i = 0; i < SUMS - 1; i++) out[i] += partial[chunk + tensor][i];
        out[SUMS - 1] = fmax(out[SUMS - 1], partial[chunk + tensor][SUMS - 1]);
    }
}

dsc_status DSC_OVERLAY(lamb_norms)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const scalars k = find_scalars(step);
    const int64_t tensors = s->d[1], elems = dsc_round_up(dsc_ceil_div(s->d[0], DSC_SUM_CHUNKS), DSC_BLOCK);
    double (*partial)[SUMS] = workspace, (*sums)[SUMS] = operands[6];

    memset(partial, 0, (size_t)(DSC_SUM_CHUNKS + tensors) * sizeof *partial);
#pragma omp parallel for schedule(static)
    for (int64_t chunk = 0; chunk < DSC_SUM_CHUNKS; chunk++) measure_chunk(s, &k, operands, chunk, elems, partial);
    for (int64_t t = 0; t < tensors; t++) add_chunks(operands[5], t, elems, partial, sums[t]);
    return DSC_OK;
}

/* ---- The step */

static void step_block(const scalars *with, float rate, float shrink, const float *exp_avg, const float *exp_avg_sq,
                       int64_t count, float *param)
{
    const scalars k = *with;

#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        param[i] -= shrink * param[i] + rate * (exp_avg[i] / (sqrtf(exp_avg_sq[i]) * k.correction2 + k.eps));
}

/* A block of the bucket, over the tensors that have something of it; `tensor` is the first that may. */
static void update_block(const dsc_shape *s, const scalars *k, void *const *operands, const dsc_step *step,
                         int64_t first, int64_t tensor)
{
    const dsc_held *held = operands[2];
    const float *exp_avg = operands[0], *exp_avg_sq = operands[1], *trust = operands[3];
    const int64_t end = DSC_MIN(first + DSC_BLOCK, s->d[0]);
    float *param = operands[4];

    for (int64_t t = tensor; t < s->d[1] && held[t].first < end; t++) {
        const int64_t low = DSC_MAX(first, held[t].first), high = DSC_MIN(end, held[t].first + held[t].elems);
        const double lr = step->lr * trust[t];

        step_block(k, (float)(lr / step->bias_correction1), (float)(lr * step->weight_decay), exp_avg + low,
                   exp_avg_sq + low, high - low, param + low);
    }
    if (s->type != DSC_FP32) dsc_narrow(param + first, end - first, s->type, operands[5], first);
}

dsc_status DSC_OVERLAY(lamb_step)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const scalars k = find_scalars(step);

    (void)workspace;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < s->d[0]; first += DSC_BLOCK)
        update_block(s, &k, operands, step, first, find_tensor(operands[2], s->d[1], first));
    return DSC_OK;
}
