/* The reference of 1-bit and 0/1 Adam against the mathematics: formulas in double, element by element. */
#include "kernel/convert.h"
#include "kernel/units.h"
#include "tests/kernels/call.h"
#include <math.h>

static void check_momentum(int32_t flags)
{
    const double scale = flags & DSC_SCALED ? 1 : 3 * call_step.gradient_scale;
    dsc_shape shape = call_shape(DSC_K_MOMENTUM, flags, 100, 3, 0, 0, 0);
    call before, after;

    shape.type = shape.out = DSC_FP16;
    call_init(&before, shape);
    call_copy(&before, &after);
    call_run(&after, dsc_kernels_ref());
    for (int64_t i = 0; i < 100; i++) {
        const double g = scale * call_get(&before, 0, i), old = call_step.beta1 * call_get(&before, 1, i);

        call_near(&after, i, call_get(&after, 1, i), flags & DSC_FIRST ? g : old + (1 - call_step.beta1) * g);
    }
    call_fini(&before);
    call_fini(&after);
}

static void momentum_formula(void)
{
    check_momentum(0);
    check_momentum(DSC_FIRST);
    check_momentum(DSC_SCALED);
}

static void check_frozen(int32_t flags)
{
    const dsc_step *k = &call_step;
    dsc_shape shape = call_shape(DSC_K_ADAM, flags | DSC_FROZEN, 100, 0, 0, 0, 0);
    call before, after;

    shape.type = DSC_BF16;
    call_init(&before, shape);
    call_copy(&before, &after);
    CHECK(before.operand[0] == NULL, "there is a gradient");
    call_run(&after, dsc_kernels_ref());
    for (int64_t i = 0; i < 100; i++) {
        const double p = call_get(&before, 1, i), m = call_get(&before, 2, i), v = call_get(&before, 3, i);
        const double decay = flags & DSC_DECOUPLED ? k->weight_decay * p : 0;

        call_near(&after, i, call_get(&after, 1, i),
                   p - k->lr * decay - k->lr / k->bias_correction1 * m / (sqrt(v) * k->bias_correction2 + k->eps));
        CHECK(call_get(&after, 2, i) == m && call_get(&after, 3, i) == v, "the moments of %lld have moved",
              (long long)i);
        CHECK(call_get(&after, 4, i) == dsc_bf16_float(dsc_float_bf16((float)call_get(&after, 1, i))),
              "the copy of %lld is %g", (long long)i, call_get(&after, 4, i));
    }
    call_fini(&before);
    call_fini(&after);
}

static void frozen_formula(void)
{
    check_frozen(0);
    check_frozen(DSC_DECOUPLED);
}

static void drift_formula(void)
{
    call c;

    call_init(&c, call_shape(DSC_K_DRIFT, 0, 100, 0, 0, 0, 0));
    call_run(&c, dsc_kernels_ref());
    for (int64_t i = 0; i < 100; i++)
        call_near(&c, i, call_get(&c, 3, i),
                   (call_get(&c, 0, i) - call_get(&c, 1, i)) * (sqrt(call_get(&c, 2, i)) + call_step.eps));
    call_fini(&c);
}

static void rejoin_formula(void)
{
    dsc_shape shape = call_shape(DSC_K_REJOIN, 0, 100, 0, 0, 0, 0);
    call before, after;

    shape.type = DSC_BF16;
    call_init(&before, shape);
    call_copy(&before, &after);
    call_run(&after, dsc_kernels_ref());
    for (int64_t i = 0; i < 100; i++) {
        const double sum = call_get(&before, 0, i), p = call_get(&after, 3, i);

        call_near(&after, i, p,
                   call_get(&before, 2, i) + sum / (sqrt(call_get(&before, 1, i)) + call_step.eps));
        call_near(&after, i, call_get(&after, 0, i), -sum / call_step.rates);
        CHECK(call_get(&after, 2, i) == p, "the anchor of %lld is %g", (long long)i, call_get(&after, 2, i));
        CHECK(call_get(&after, 4, i) == dsc_bf16_float(dsc_float_bf16((float)p)), "the copy of %lld is %g",
              (long long)i, call_get(&after, 4, i));
    }
    call_fini(&before);
    call_fini(&after);
}

/* One bit of a packet: the unit that it is of (-1: of none), which of the unit's elements and which of the errors. */
typedef struct cell { int64_t unit, elem, error; } cell;

static cell find_cell(const call *c, int64_t packet, int64_t bit)
{
    const dsc_units *units = call_units(c, 0);
    const int64_t ranks = call_sign_dims(c)[1];
    const bool is_average = c->shape.kernel == DSC_K_SIGN_AVERAGE;

    for (int64_t u = 0; u < units->count; u++) {
        const int64_t begin = units->unit[u].place / ranks, chunk = units->unit[u].padded / ranks;
        const int64_t elem = (is_average ? units->server : packet) * chunk + bit - begin;

        if (bit >= begin && bit < begin + chunk) return (cell){u, elem, is_average ? bit : units->unit[u].place + elem};
    }
    return (cell){-1, 0, 0};
}

static bool bit_of(const call *c, int operand, int64_t packet, int64_t bit)
{
    return call_packet(c, operand, packet)[bit / 8] >> (7 - bit % 8) & 1;
}

static double scale_of(const call *c, int operand, int64_t packet, int64_t unit)
{
    return ((const float *)call_scales(c, operand, packet))[unit];
}

/* What is to be sent of an element; NaN: it is padding that does not count. */
static double naive_value(const call *before, const cell *at)
{
    const dsc_unit *unit = &call_units(before, 0)->unit[at->unit];
    const int64_t ranks = call_sign_dims(before)[1];
    double v = call_get(before, 2, at->error);

    if (at->elem >= (before->shape.flags & DSC_COUNT_PADDING ? unit->padded : unit->real)) return NAN;
    if (before->shape.kernel == DSC_K_SIGN_COMPRESS)
        return v + (at->elem < unit->real ? call_get(before, 0, unit->first + at->elem) : 0);
    for (int64_t r = 0; r < ranks; r++)
        v += (bit_of(before, 0, r, at->error) ? 1 : -1) * scale_of(before, 0, r, at->unit) / (double)ranks;
    return v;
}

enum { UNITS = 5 };
typedef struct mean { double squares; int64_t count; } mean;

static void check_cell(const call *before, const call *after, int64_t packet, int64_t bit, const mean *means)
{
    const cell at = find_cell(before, packet, bit);

    if (at.unit < 0) {
        CHECK(!bit_of(after, 3, packet, bit), "bit %lld of packet %lld, of no unit, is 1", (long long)bit,
              (long long)packet);
        return;
    }
    const double v = naive_value(before, &at), scale = sqrt(means[at.unit].squares / (double)means[at.unit].count);

    CHECK(bit_of(after, 3, packet, bit) == !(v < 0), "bit %lld of packet %lld does not tell the sign of %g",
          (long long)bit, (long long)packet, v);
    call_near(after, at.error, call_get(after, 2, at.error), isnan(v) ? 0 : v - (v < 0 ? -scale : scale));
}

/* Of all units: those that the list has not have the scale 0, too. */
static void check_scales(const call *after, const mean *means)
{
    for (int64_t packet = 0; packet < call_packets(after, 3); packet++)
        for (int u = 0; u < UNITS; u++)
            call_near(after, u, scale_of(after, 3, packet, u),
                       means[u].count == 0 ? 0 : sqrt(means[u].squares / (double)means[u].count));
}

static void check_compression(dsc_shape shape)
{
    mean means[UNITS] = {{0}};
    call before, after;

    call_init(&before, shape);
    call_copy(&before, &after);
    call_run(&after, dsc_kernels_ref());
    const int64_t bits = call_sign_dims(&before)[0] / call_sign_dims(&before)[1], packets = call_packets(&before, 3);

    for (int64_t i = 0; i < packets * bits; i++) {
        const cell at = find_cell(&before, i / bits, i % bits);
        const double v = at.unit < 0 ? NAN : naive_value(&before, &at);

        if (isnan(v)) continue;
        means[at.unit].squares += v * v;
        means[at.unit].count++;
    }
    for (int64_t i = 0; i < packets * bits; i++) check_cell(&before, &after, i / bits, i % bits, means);
    check_scales(&after, means);
    call_fini(&before);
    call_fini(&after);
}

static void compression_formulas(void)
{
    for (int64_t ranks = 1; ranks <= 9; ranks++)
        for (int round = 0; round < 6; round++) { /* of random units */
            const int64_t packed = 8 * ranks * tap_random_between(1, 12);
            const int32_t flags = round % 2 ? DSC_COUNT_PADDING : 0;
            dsc_shape shape = call_shape(DSC_K_SIGN_COMPRESS, flags, packed + 10, packed, ranks, UNITS, 0);

            shape.type = (int8_t)(round / 2); /* fp32, bf16, fp16 */
            check_compression(shape);
            check_compression(call_shape(DSC_K_SIGN_AVERAGE, flags, packed, ranks, UNITS, 0, 0));
        }
}

/* x of an element of the flat order. */
static double naive_expansion(const call *c, int64_t element)
{
    const int64_t ranks = call_sign_dims(c)[1];

    for (int64_t l = 0; l < c->shape.d[4]; l++)
        for (int64_t u = 0; u < call_units(c, l)->count; u++) {
            const dsc_unit *unit = &call_units(c, l)->unit[u];
            const int64_t i = element - unit->first, chunk = unit->padded / ranks;

            if (i < 0 || i >= unit->real) continue;
            const int64_t packet = l * ranks + i / chunk;
            const bool bit = bit_of(c, 0, packet, unit->place / ranks + i % chunk);

            return bit ? scale_of(c, 0, packet, u) : -scale_of(c, 0, packet, u);
        }
    return 0;
}

static void expansion_formula(void)
{
    for (int64_t ranks = 1; ranks <= 9; ranks++)
        for (int64_t lists = 1; lists <= 3; lists++) {
            const int64_t packed = 8 * ranks * tap_random_between(1, 12);
            call c;

            call_init(&c, call_shape(DSC_K_SIGN_EXPAND, 0, lists * packed + 10, packed, ranks, UNITS, lists));
            call_run(&c, dsc_kernels_ref());
            for (int64_t i = 0; i < call_count(&c, 2); i++)
                CHECK(call_get(&c, 2, i) == naive_expansion(&c, i), "element %lld is %g, not %g", (long long)i,
                      call_get(&c, 2, i), naive_expansion(&c, i));
            call_fini(&c);
        }
}

static const tap_case cases[] = {
    {"momentum takes its share of a gradient that is the sum of N", momentum_formula},
    {"frozen moments move parameters as Adam's would", frozen_formula},
    {"drift is the way from the anchor, in momentum's size", drift_formula},
    {"from the anchor all go on by the mean of such ways", rejoin_formula},
    {"signs, scales and errors of units are those of their elements, for 1 to 9 ranks", compression_formulas},
    {"expanded signs lie where their units do, and zeros elsewhere", expansion_formula},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
