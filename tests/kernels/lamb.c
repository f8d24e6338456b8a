/* The reference of LAMB against the mathematics: formulas in double, element by element and tensor by tensor; the same
 * in fp64. */
#include "kernel/convert.h"
#include "kernel/held.h"
#include "tests/kernels/call.h"
#include <math.h>

enum { N = 300, TENSORS = 5, RANKS = 2 };

static dsc_shape shape_of(dsc_kernel kernel, int32_t flags, int type, int64_t d0, int64_t d1)
{
    return (dsc_shape){.kernel = (int16_t)kernel, .type = (int8_t)type, .out = (int8_t)type, .flags = flags,
                       .d = {d0, d1}};
}

static double direction(double m, double v)
{
    return m / call_step.bias_correction1 / (sqrt(v) * call_step.bias_correction2 + call_step.eps);
}

/* ---- Moments and norms */

static void check_moments(const call *before, const call *after, bool is_frozen)
{
    const dsc_step *k = &call_step;

    for (int64_t i = 0; i < N; i++) {
        const double x = call_get(before, 0, i), m = call_get(before, 2, i), v = call_get(before, 3, i);
        const double g = is_frozen ? (x - k->beta1 * m) / (1 - k->beta1) : x * k->gradient_scale;
        const double now = is_frozen ? v : k->beta2 * v + (1 - k->beta2) * g * g;
        const double was_fresh = is_frozen ? call_get(before, 4, i) : 0;

        call_near(after, i, call_get(after, 2, i), is_frozen ? x : k->beta1 * m + (1 - k->beta1) * g);
        call_near(after, i, call_get(after, 3, i), now);
        call_near(after, i, call_get(after, 4, i),
                  is_frozen ? k->beta2 * was_fresh + (1 - k->beta2) * g * g : now);
        CHECK(call_get(after, 1, i) == call_get(before, 1, i), "weight %lld has moved", (long long)i);
    }
}

static void check_norms(const call *c, bool is_frozen)
{
    const dsc_step *k = &call_step;
    const dsc_held *held = c->operand[5];

    for (int64_t t = 0; t < TENSORS; t++) {
        double norms[4] = {0};

        for (int64_t i = held[t].first; i < held[t].first + held[t].elems; i++) {
            const double p = call_get(c, 1, i), v = call_get(c, 3, i), u0 = direction(call_get(c, 2, i), v);
            const double fresh = sqrt(call_get(c, 4, i)) * k->fresh_correction2 + k->eps;

            norms[0] += p * p;
            norms[1] += (u0 + k->weight_decay * p) * (u0 + k->weight_decay * p);
            norms[2] += u0 * u0;
            if (is_frozen && i < held[t].first + held[t].real)
                norms[3] = fmax(norms[3], (sqrt(v) * k->bias_correction2 + k->eps) / fresh);
        }
        for (int64_t s = 0; s < 4; s++) call_near(c, t, call_get(c, 6, t * 4 + s), norms[s]);
    }
}

static void norms_of(int32_t flags, int type)
{
    call before, after;

    call_init(&before, shape_of(DSC_K_LAMB_NORMS, flags, type, N, TENSORS));
    call_copy(&before, &after);
    call_run(&after, dsc_kernels_ref());
    check_moments(&before, &after, flags & DSC_FROZEN);
    check_norms(&after, flags & DSC_FROZEN);
    call_fini(&before);
    call_fini(&after);
}

static void norms_formula(void)
{
    for (int round = 0; round < 10; round++) {
        norms_of(0, DSC_FP32);
        norms_of(0, DSC_FP64);
        norms_of(DSC_FROZEN, DSC_FP32);
        norms_of(DSC_FROZEN, DSC_FP64);
    }
}

/* ---- Trust ratios */

typedef struct row { double norms[RANKS][4], mean, last, new_mean, new_last, trust; } row;

/* The first tensor of a call of which all are alike. */
static void check_row(const row *r, int32_t flags, double decay, int type)
{
    dsc_step step = call_step;
    call c;

    call_init(&c, shape_of(DSC_K_LAMB_TRUST, flags, type, TENSORS, RANKS));
    for (int64_t i = 0; i < RANKS * TENSORS * 4; i++) call_set(&c, 0, i, r->norms[i / 4 / TENSORS][i % 4]);
    for (int64_t t = 0; t < TENSORS; t++) {
        call_set(&c, 1, 2 * t, r->mean);
        call_set(&c, 1, 2 * t + 1, r->last);
    }
    step.weight_decay = decay;
    CHECK_OK(dsc_kernels_ref()->run[DSC_K_LAMB_TRUST](&c.shape, c.operand, c.workspace, &step));
    for (int64_t t = 0; t < TENSORS; t++) {
        call_near(&c, t, call_get(&c, 1, 2 * t), r->new_mean);
        call_near(&c, t, call_get(&c, 1, 2 * t + 1), r->new_last);
        call_near(&c, t, call_get(&c, 2, t), r->trust);
    }
    call_fini(&c);
}

/* Bounds of the calls: coefficients 0.5 .. 2, beta 0.9, factors 0.5 .. 4, 10 % a step. */
static void trust_formula(void)
{
    static const row exact[] = {
        {{{9, 8, 0, 0}, {9, 0, 0, 0}}, 1, 3, 0.9 + 0.15, 1, 1.5},         /* over both ranks: sqrt(18 / 8) */
        {{{100, 1, 0, 0}, {0, 0, 0, 0}}, 1, 1, 0.9 + 0.2, 1, 2},          /* at most 2 */
        {{{1, 50, 0, 0}, {0, 50, 0, 0}}, 1, 1, 0.9 + 0.05, 1, 0.5},       /* at least 0.5 */
        {{{0, 4, 0, 0}, {0, 4, 0, 0}}, 0.7, 1, 0.7, 1, 1},                /* weights of zero: 1, which is in no mean */
        {{{4, 0, 0, 0}, {4, 0, 0, 0}}, 0.7, 1, 0.7, 1, 1},
    };
    static const row plain[] = {
        {{{1, 4, 4, 1.05}, {1, 4, 4, 1.02}}, 1.5, 1, 1.5, 1.05, 1.575},   /* the largest of all ranks */
        {{{1, 4, 4, 0}, {1, 4, 4, 1.05}}, 1.5, 1, 1.5, 1.05, 1.575},
        {{{1, 4, 4, 3}, {1, 4, 4, 0}}, 1.5, 1, 1.5, 1.1, 1.65},           /* 10 % nearer */
        {{{1, 4, 4, 0.1}, {1, 4, 4, 0}}, 1.5, 1, 1.5, 0.9, 1.35},
        {{{1, 4, 4, 9}, {1, 4, 4, 0}}, 1.5, 3.9, 1.5, 4, 6},              /* at most 4 */
        {{{1, 4, 4, 0.1}, {1, 4, 4, 0}}, 1.5, 0.52, 1.5, 0.5, 0.75},      /* at least 0.5 */
    };
    /* Of an update of norm 4 a direction of norm 2: half of the factor's distance from 1. */
    static const row decayed[] = {
        {{{1, 16, 4, 1.1}, {1, 0, 0, 0}}, 1.5, 1, 1.5, 1.05, 1.575},
        {{{1, 4, 16, 1.05}, {1, 0, 0, 0}}, 1.5, 1, 1.5, 1.05, 1.575},     /* decay against the direction: 1 at most */
        {{{1, 0, 0, 1.05}, {1, 0, 0, 0}}, 1.5, 1, 1.5, 1.05, 1.575},
    };

    for (int type = DSC_FP32; type <= DSC_FP64; type += DSC_FP64 - DSC_FP32) {
        for (int64_t i = 0; i < DSC_COUNT(exact); i++) check_row(&exact[i], 0, 0.1, type);
        for (int64_t i = 0; i < DSC_COUNT(plain); i++) check_row(&plain[i], DSC_FROZEN, 0, type);
        for (int64_t i = 0; i < DSC_COUNT(decayed); i++) check_row(&decayed[i], DSC_FROZEN, 0.1, type);
    }
}

/* ---- The step */

static double trust_at(const call *c, int64_t i)
{
    const dsc_held *held = c->operand[2];

    for (int64_t t = 0; t < TENSORS; t++)
        if (held[t].first <= i && i < held[t].first + held[t].elems) return call_get(c, 3, t);
    return 0;
}

static void step_of(int type)
{
    call before, after;

    call_init(&before, shape_of(DSC_K_LAMB_STEP, 0, type, N, TENSORS));
    call_copy(&before, &after);
    call_run(&after, dsc_kernels_ref());
    for (int64_t i = 0; i < N; i++) {
        const double p = call_get(&before, 4, i), now = call_get(&after, 4, i);
        const double u = direction(call_get(&before, 0, i), call_get(&before, 1, i)) + call_step.weight_decay * p;

        call_near(&after, i, now, p - call_step.lr * trust_at(&before, i) * u);
        if (type == DSC_BF16)
            CHECK(call_get(&after, 5, i) == dsc_bf16_float(dsc_float_bf16((float)now)), "the copy of %lld is %g",
                  (long long)i, call_get(&after, 5, i));
    }
    call_fini(&before);
    call_fini(&after);
}

static void step_formula(void)
{
    for (int round = 0; round < 10; round++) {
        step_of(DSC_FP32);
        step_of(DSC_BF16);
        step_of(DSC_FP64);
    }
}

static const tap_case cases[] = {
    {"moments, a variance that goes on, and norms are what the formulas say", norms_formula},
    {"trust ratios, their mean and factors keep their bounds", trust_formula},
    {"weights go by the ratio of their tensor", step_formula},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
