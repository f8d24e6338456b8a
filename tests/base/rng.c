#include "base/rng.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The known answers that come with the paper's library, Random123. */
static void is_philox(void)
{
    static const uint32_t counters[3][4] = {
        {0, 0, 0, 0},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
    };
    static const uint32_t keys[3][2] = {{0, 0}, {0xffffffff, 0xffffffff}, {0xa4093822, 0x299f31d0}};
    static const uint32_t answers[3][4] = {
        {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
    };

    for (int i = 0; i < 3; i++) {
        uint32_t out[4];

        dsc_philox(counters[i], keys[i], out);
        CHECK(memcmp(out, answers[i], sizeof out) == 0, "answer %d is %08x %08x %08x %08x", i, out[0], out[1], out[2],
              out[3]);
    }
}

static void depends_on_all(void)
{
    uint64_t seed = tap_random(), stream = tap_random(), index = tap_random();
    uint64_t bits = dsc_random_bits(seed, stream, index);

    CHECK(dsc_random_bits(seed, stream, index) == bits, "it changed");
    for (int bit = 0; bit < 64; bit++) {
        uint64_t flip = UINT64_C(1) << bit;

        CHECK(dsc_random_bits(seed ^ flip, stream, index) != bits, "bit %d of the seed", bit);
        CHECK(dsc_random_bits(seed, stream ^ flip, index) != bits, "bit %d of the stream", bit);
        CHECK(dsc_random_bits(seed, stream, index ^ flip) != bits, "bit %d of the index", bit);
    }
}

enum { ELEMENTS = 1 << 16 };

static float whole[ELEMENTS], part[ELEMENTS];

static void does_not_depend_on_cuts(void)
{
    uint64_t seed = tap_random(), stream = tap_random();

    dsc_random_normal(seed, stream, 0, ELEMENTS, whole);
    for (int draw = 0; draw < 100; draw++) {
        int64_t first = tap_random_between(0, ELEMENTS - 1), count = tap_random_between(0, ELEMENTS - first);

        dsc_random_normal(seed, stream, first, count, part);
        CHECK(memcmp(part, whole + first, (size_t)count * sizeof *part) == 0, "elements %lld + %lld", (long long)first,
              (long long)count);
    }
}

/* Bounds are six standard errors of each moment, so that one honest seed in 10^8 is refused. */
static void is_normal(void)
{
    double sums[5] = {0};
    double root = sqrt(ELEMENTS);

    dsc_random_normal(tap_random(), tap_random(), 0, ELEMENTS, whole);
    for (int64_t i = 0; i < ELEMENTS; i++)
        for (int power = 1; power <= 4; power++) sums[power] += pow(whole[i], power) / ELEMENTS;
    CHECK(fabs(sums[1]) < 6 * 1.0 / root, "mean %g", sums[1]);
    CHECK(fabs(sums[2] - 1) < 6 * sqrt(2) / root, "variance %g", sums[2]);
    CHECK(fabs(sums[3]) < 6 * sqrt(15) / root, "third moment %g", sums[3]);
    CHECK(fabs(sums[4] - 3) < 6 * sqrt(96) / root, "fourth moment %g", sums[4]);
}

static void permutes(void)
{
    for (int draw = 0; draw < 300; draw++) {
        int64_t n = draw < 100 ? draw + 1 : tap_random_between(1, 3000);
        uint64_t key = tap_random();
        char *seen = calloc((size_t)n, 1);

        for (int64_t i = 0; i < n; i++) {
            int64_t at = dsc_permute(key, n, i);

            if (!CHECK(at >= 0 && at < n && !seen[at], "n %lld, key %llu: %lld goes to %lld", (long long)n,
                       (unsigned long long)key, (long long)i, (long long)at))
                break;
            seen[at] = 1;
        }
        free(seen);
    }
}

static void spreads(void)
{
    enum { N = 7, KEYS = 7000 };
    int counts[N][N] = {{0}};
    double expected = (double)KEYS / N;

    for (int key = 0; key < KEYS; key++) {
        uint64_t random_key = tap_random();

        for (int i = 0; i < N; i++) counts[i][dsc_permute(random_key, N, i)]++;
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            CHECK(fabs(counts[i][j] - expected) < 6 * sqrt(expected), "%d goes to %d in %d of %d keys", i, j,
                  counts[i][j], KEYS);
}

static void permutes_the_largest(void)
{
    uint64_t key = tap_random();

    for (int draw = 0; draw < 100; draw++) {
        int64_t at = dsc_permute(key, INT64_MAX, INT64_MAX - 1 - draw);

        CHECK(at >= 0 && at < INT64_MAX, "key %llu: %lld", (unsigned long long)key, (long long)at);
    }
}

static void names_streams(void)
{
    CHECK(dsc_stream_of("") == UINT64_C(0xcbf29ce484222325), "of nothing: %llx", (unsigned long long)dsc_stream_of(""));
    CHECK(dsc_stream_of("foobar") == UINT64_C(0x85944171f73967e8), "of foobar: %llx",
          (unsigned long long)dsc_stream_of("foobar"));
}

static const tap_case cases[] = {
    {"Philox4x32-10 gives the paper's known answers", is_philox},
    {"every bit of seed, stream and index matters, and nothing else", depends_on_all},
    {"normal deviates do not depend on how a tensor is cut", does_not_depend_on_cuts},
    {"normal deviates have the moments of the normal distribution", is_normal},
    {"a permutation meets every index once", permutes},
    {"permutations send each index everywhere about equally often", spreads},
    {"a permutation of the largest range stays within it", permutes_the_largest},
    {"a stream is the FNV-1a hash of its name", names_streams},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
