/* The arithmetic of 16-bit reductions against its definition: the nearest value of the type, ties to even. */
#include "comm/reduce.h"
#include "tests/tap.h"
#include <math.h>
#include <string.h>

typedef struct format {
    dsc_dtype type;
    int mantissa_bits, bias;
} format;

static const format formats[] = {{DSC_BF16, 7, 127}, {DSC_FP16, 10, 15}};

static int infinity_of(const format *f) { return 0x7fff >> f->mantissa_bits << f->mantissa_bits; }
static bool is_nan(const format *f, uint16_t bits) { return (bits & 0x7fff) > infinity_of(f); }

/* The value of finite bits; of infinity's, the power of two that would come next, from which rounding turns back. */
static double value_of(const format *f, uint16_t bits)
{
    int exponent = (bits & 0x7fff) >> f->mantissa_bits, mantissa = bits & ((1 << f->mantissa_bits) - 1);
    double magnitude = exponent == 0 ? ldexp(mantissa, 1 - f->bias - f->mantissa_bits)
                                     : ldexp(mantissa + (1 << f->mantissa_bits), exponent - f->bias - f->mantissa_bits);

    return bits & 0x8000 ? -magnitude : magnitude;
}

static uint16_t reduced(const format *f, dsc_reduction reduction, uint16_t a, uint16_t b)
{
    dsc_reduce_find(f->type, reduction)(&a, &b, 1);
    return a;
}

/* Whether no neighbour of `got` is nearer to the exact sum, or as near and even. */
static bool is_rounded(const format *f, double exact, uint16_t got)
{
    double distance = fabs(value_of(f, got) - exact);

    for (int step = -1; step <= 1; step += 2) {
        int magnitude = (got & 0x7fff) + step;
        double other;

        if (magnitude < 0 || magnitude > infinity_of(f)) continue;
        other = fabs(value_of(f, (uint16_t)((got & 0x8000) | magnitude)) - exact);
        if (other < distance || (other == distance && got % 2 != 0)) return false;
    }
    return true;
}

static void zero_changes_nothing(void)
{
    for (int64_t i = 0; i < DSC_COUNT(formats); i++)
        for (int bits = 0; bits <= 0xffff; bits++) {
            const format *f = &formats[i];
            uint16_t sum = reduced(f, DSC_SUM, (uint16_t)bits, 0x8000); /* x + -0 is x, also for x = -0 */

            if (is_nan(f, (uint16_t)bits) ? !CHECK(is_nan(f, sum), "%#x gives %#x", bits, sum)
                                          : !CHECK(sum == bits, "%#x gives %#x", bits, sum)) break;
        }
}

static void sums_are_rounded_to_nearest_even(void)
{
    for (int64_t i = 0; i < DSC_COUNT(formats); i++)
        for (int k = 0; k < 1000000; k++) {
            const format *f = &formats[i];
            uint64_t random = tap_random();
            uint16_t a = (uint16_t)random, b = (uint16_t)(random >> 16), sum;
            float exact; /* but for the rounding of fp32, which is part of the definition */

            if (k % 2 != 0) b = (uint16_t)((b & 0x83ff) | (a & 0x7c00)); /* of like size, where mantissas meet */
            if ((a & 0x7fff) >= infinity_of(f) || (b & 0x7fff) >= infinity_of(f)) continue;
            sum = reduced(f, DSC_SUM, a, b);
            exact = (float)value_of(f, a) + (float)value_of(f, b);
            if (!CHECK(is_rounded(f, exact, sum), "%#x + %#x = %#x", a, b, sum)) break;
        }
}

static void infinities_and_nans_stay(void)
{
    for (int64_t i = 0; i < DSC_COUNT(formats); i++) {
        const format *f = &formats[i];
        uint16_t infinity = (uint16_t)infinity_of(f), nan = infinity | 1, largest = infinity - 1, one;

        one = (uint16_t)(f->bias << f->mantissa_bits);
        CHECK(reduced(f, DSC_SUM, infinity, one) == infinity, "infinity and one");
        CHECK(is_nan(f, reduced(f, DSC_SUM, infinity, infinity | 0x8000)), "infinity less infinity");
        CHECK(is_nan(f, reduced(f, DSC_SUM, nan, one)) && is_nan(f, reduced(f, DSC_SUM, one, nan)), "NaN and one");
        CHECK(is_nan(f, reduced(f, DSC_MAX, nan, one)) && is_nan(f, reduced(f, DSC_MAX, one, nan)), "larger of NaN");
        CHECK(reduced(f, DSC_SUM, largest, largest) == infinity, "twice the largest");
        CHECK(reduced(f, DSC_MAX, largest, infinity) == infinity, "the larger");
        CHECK(reduced(f, DSC_MAX, one | 0x8000, 0) == 0, "the larger of -1 and 0");
    }
}

static void other_types_have_none(void)
{
    CHECK(dsc_reduce_find(DSC_INT32, DSC_SUM) == NULL && dsc_reduce_find(DSC_FP8, DSC_MAX) == NULL, "a function");
}

static const tap_case cases[] = {
    {"adding zero keeps every 16-bit pattern", zero_changes_nothing},
    {"16-bit sums are rounded to nearest even", sums_are_rounded_to_nearest_even},
    {"infinities and NaNs stay", infinities_and_nans_stay},
    {"types without a sum are known", other_types_have_none},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
