/* The optimizer of every set against the reference, element by element: random sizes, offsets, types, hyper-parameters
 * and steps of training. DSC_EXHAUSTIVE=1 goes up to 2^27 elements. */
#include "base/rng.h"
#include "kernel/convert.h"
#include "tests/kernels/call.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GRADIENT, PARAM, EXP_AVG, EXP_AVG_SQ, COPY, OPERANDS };
enum { GUARD = 64, MARK = 0x5a, MOST_OFFSET = 67 };

/* Operands of one update, and behind each a guard. */
typedef struct states { dsc_shape shape; char *block[OPERANDS]; void *operand[OPERANDS]; } states;

static double uniform(double low, double high)
{
    return low + (high - low) * ((double)tap_random_between(0, 1 << 30) / (double)(1 << 30));
}
static double log_uniform(double low, double high) { return exp(uniform(log(low), log(high))); }
static dsc_dtype pick_type(void) { return (dsc_dtype[]){DSC_FP32, DSC_BF16, DSC_FP16}[tap_random_between(0, 2)]; }

static dsc_dtype type_of(const dsc_shape *shape, int operand)
{
    return operand == GRADIENT ? (dsc_dtype)shape->out : operand == COPY ? (dsc_dtype)shape->type : DSC_FP32;
}

static int64_t bytes_of(const dsc_shape *shape, int operand)
{
    return shape->d[0] * dsc_dtype_bytes(type_of(shape, operand));
}

/* One draw a statement: the order of a list's would be the compiler's. */
static dsc_shape random_shape(int64_t elems)
{
    dsc_shape s = {.kernel = DSC_K_ADAM, .d = {elems}};

    s.type = (int8_t)pick_type();
    s.out = (int8_t)pick_type();
    s.flags = tap_random_between(0, 1) ? DSC_DECOUPLED : 0;
    if (tap_random_between(0, 3) == 0) s.flags |= DSC_FROZEN;
    return s;
}

static dsc_step random_step(void)
{
    dsc_step s = {.bias_correction1 = 1, .bias_correction2 = 1};

    s.lr = log_uniform(1e-7, 0.1);
    s.beta1 = uniform(0, 0.99);
    s.beta2 = uniform(0.8, 0.9999);
    s.eps = log_uniform(1e-10, 1e-3);
    if (tap_random_between(0, 3) > 0) s.weight_decay = uniform(0, 0.3);
    s.gradient_scale = (float)log_uniform(1e-5, 2);
    s.optimizer_step = (int64_t)log_uniform(1, 1e6);
    if (tap_random_between(0, 3) == 0) return s;
    s.bias_correction1 = 1 - pow(s.beta1, (double)s.optimizer_step);
    s.bias_correction2 = 1 / sqrt(1 - pow(s.beta2, (double)s.optimizer_step));
    return s;
}

static void take(states *s, int operand, int64_t offset)
{
    const int64_t bytes = bytes_of(&s->shape, operand);

    offset *= dsc_dtype_bytes(type_of(&s->shape, operand));
    s->block[operand] = malloc((size_t)(offset + bytes + GUARD));
    if (s->block[operand] == NULL) abort();
    s->operand[operand] = s->block[operand] + offset;
    memset((char *)s->operand[operand] + bytes, MARK, GUARD);
}

static double unit(uint64_t key, int64_t index) { return (double)dsc_random_bits(key, 0, (uint64_t)index) * 0x1p-64; }

/* Values of training: moments and gradients of many sizes, a few of them zero. */
static void fill(states *s)
{
    const uint64_t key = tap_random();
    const double size = log_uniform(1e-6, 1e3);

    for (int64_t i = 0; i < s->shape.d[0]; i++) {
        const double a = unit(key, 3 * i) - 0.5, b = unit(key, 3 * i + 1), c = unit(key, 3 * i + 2);
        const double spread = i % 17 == 0 ? 0 : exp2(20 * (b - 0.5));

        dsc_store(s->operand[GRADIENT], i, s->shape.out, DSC_MIN(size * spread, 6e4) * 2 * a);
        ((float *)s->operand[PARAM])[i] = (float)(2 * b - 1);
        ((float *)s->operand[EXP_AVG])[i] = (float)(size * (c - 0.5));
        ((float *)s->operand[EXP_AVG_SQ])[i] = (float)(size * size * spread * c);
    }
}

static void states_init(states *s, const states *from, int64_t elems)
{
    s->shape = from != NULL ? from->shape : random_shape(elems);
    for (int i = 0; i < OPERANDS; i++) take(s, i, tap_random_between(0, MOST_OFFSET));
    if (from == NULL) fill(s);
    else
        for (int i = 0; i < COPY; i++) memcpy(s->operand[i], from->operand[i], (size_t)bytes_of(&s->shape, i));
}

static void states_fini(states *s)
{
    for (int i = 0; i < OPERANDS; i++) free(s->block[i]);
}

static bool update(states *s, const dsc_kernel_set *set, const dsc_step *step)
{
    void *operands[DSC_KERNEL_OPERANDS] = {0};
    bool holds;

    memcpy(operands, s->operand, sizeof s->operand);
    if (s->shape.type == DSC_FP32) operands[COPY] = NULL;
    if (s->shape.flags & DSC_FROZEN) operands[GRADIENT] = NULL;
    holds = CHECK_OK(set->run[DSC_K_ADAM](&s->shape, operands, NULL, step));
    for (int i = 0; i < OPERANDS; i++)
        for (int64_t at = 0; at < GUARD; at++)
            holds &= CHECK(((char *)s->operand[i])[bytes_of(&s->shape, i) + at] == MARK, "%s writes behind operand %d",
                           set->name, i);
    return holds;
}

/* How far two evaluations of one element in fp32 may be apart that differ in which products and sums are fused. An
 * operation rounds by u = 2^-24 relative at most, so each term counts its operations in both evaluations, and what is
 * handed to it. */
typedef struct bound { double of[OPERANDS]; } bound;

static bound bound_of(const states *before, const states *after, int64_t i, const dsc_step *k)
{
    const double u = 0x1p-24, tiny = FLT_TRUE_MIN;
    const bool decoupled = before->shape.flags & DSC_DECOUPLED, frozen = before->shape.flags & DSC_FROZEN;
    const double p = ((float *)before->operand[PARAM])[i], m = ((float *)before->operand[EXP_AVG])[i];
    const double m1 = ((float *)after->operand[EXP_AVG])[i], v1 = ((float *)after->operand[EXP_AVG_SQ])[i];
    const double p1 = ((float *)after->operand[PARAM])[i];
    const double scaled = fabs(dsc_load(before->operand[GRADIENT], i, before->shape.out) * k->gradient_scale);
    const double g = scaled + (decoupled ? 0 : k->weight_decay * fabs(p)), g_error = 4 * u * g + tiny;
    const double rest1 = 1 - k->beta1, rest2 = 1 - k->beta2, rate = k->lr / k->bias_correction1;
    const double m_error = frozen ? 0 : 4 * u * (k->beta1 * fabs(m) + rest1 * g) + rest1 * g_error + tiny;
    const double v_error = frozen ? 0 : 6 * u * v1 + 2 * rest2 * g * g_error + tiny;
    const double root = sqrt(v1) * k->bias_correction2, denominator = root + k->eps;
    const double root_error = v1 > 0 ? DSC_MIN(v_error / (2 * v1), 1) * root : sqrt(v_error) * k->bias_correction2;
    const double move = rate * fabs(m1) / denominator;
    const double p_error = 4 * u * (fabs(p) + fabs(p1)) + rate * m_error / denominator +
                           move * (root_error / denominator + 8 * u) + tiny;

    return (bound){.of = {[PARAM] = p_error, [EXP_AVG] = m_error, [EXP_AVG_SQ] = v_error}};
}

/* Checks a set's update, and that its copy is its own parameter, rounded once. */
static void compare(const states *before, const states *expected, const states *got, const dsc_step *step,
                    const char *set)
{
    const dsc_shape *shape = &got->shape;
    char name[256];

    dsc_shape_print(shape, name, sizeof name);
    for (int64_t i = 0; i < shape->d[0]; i++) {
        const bound allowed = bound_of(before, expected, i, step);
        uint64_t copy = 0;

        for (int operand = PARAM; operand <= EXP_AVG_SQ; operand++) {
            const double a = ((float *)got->operand[operand])[i], b = ((float *)expected->operand[operand])[i];

            if (!CHECK(fabs(a - b) <= allowed.of[operand],
                       "%s: %s: operand %d of element %lld is %.9g, not %.9g, allowed are %g", set, name, operand,
                       (long long)i, a, b, allowed.of[operand]))
                return;
        }
        if (shape->type == DSC_FP32) continue;
        dsc_store(&copy, 0, shape->type, ((float *)got->operand[PARAM])[i]);
        if (!CHECK(memcmp(&copy, (char *)got->operand[COPY] + i * dsc_dtype_bytes((dsc_dtype)shape->type),
                          (size_t)dsc_dtype_bytes((dsc_dtype)shape->type)) == 0,
                   "%s: %s: the copy of element %lld is not its parameter", set, name, (long long)i))
            return;
    }
}

static void check_sets(int64_t elems)
{
    const dsc_kernel_set *sets[CALL_SETS];
    const int count = call_sets(sets);
    const dsc_step step = random_step();
    states before, expected, got;

    states_init(&before, NULL, elems);
    states_init(&expected, &before, 0);
    dsc_kernels_threads((int)tap_random_between(1, 4));
    if (update(&expected, dsc_kernels_ref(), &step))
        for (int i = 0; i < count; i++) {
            states_init(&got, &before, 0);
            if (update(&got, sets[i], &step)) compare(&before, &expected, &got, &step, sets[i]->name);
            states_fini(&got);
        }
    states_fini(&expected);
    states_fini(&before);
    dsc_kernels_threads(2);
}

static bool exhaustive(void)
{
    const char *word = getenv("DSC_EXHAUSTIVE");

    return word != NULL && strcmp(word, "0") != 0;
}

static void small_ones_agree(void)
{
    for (int64_t elems = 1; elems <= 70; elems++) check_sets(elems);
}

static void random_ones_agree(void)
{
    for (int round = 0; round < 60; round++) check_sets((int64_t)log_uniform(1, 100000));
}

static void large_ones_agree(void)
{
    check_sets((1 << 21) + 5); /* whose copies go past the caches */
    if (!exhaustive()) return;
    for (int power = 21; power <= 26; power++) check_sets((INT64_C(1) << power) + tap_random_between(-9, 9));
    check_sets(1 << 27);
}

static const tap_case cases[] = {
    {"Adam of 1 to 70 elements is the reference's to the roundings of fp32", small_ones_agree},
    {"so it is for random sizes, offsets, types and hyper-parameters", random_ones_agree},
    {"so it is for large ones", large_ones_agree},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
