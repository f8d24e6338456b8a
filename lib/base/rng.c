#include "base/rng.h"
#include <math.h>
#include <stddef.h>

void dsc_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = UINT64_C(0xD2511F53) * c0;
        uint64_t p1 = UINT64_C(0xCD9E8D57) * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

typedef struct block { uint64_t low, high; } block;

static block block_of(uint64_t seed, uint64_t stream, uint64_t index)
{
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];

    dsc_philox(counter, key, out);
    return (block){out[0] | (uint64_t)out[1] << 32, out[2] | (uint64_t)out[3] << 32};
}

uint64_t dsc_random_bits(uint64_t seed, uint64_t stream, uint64_t index)
{
    return block_of(seed, stream, index).low;
}

/* Box-Muller: element 2 * pair is the cosine, 2 * pair + 1 the sine. */
static void normal_pair(uint64_t seed, uint64_t stream, int64_t pair, float out[2])
{
    const double two_pi = 6.283185307179586476925;
    block bits = block_of(seed, stream, (uint64_t)pair);
    double u = (double)((bits.low >> 11) + 1) * 0x1p-53; /* in (0, 1]: its logarithm is finite */
    double angle = two_pi * ((double)(bits.high >> 11) * 0x1p-53);
    double radius = sqrt(-2.0 * log(u));

    out[0] = (float)(radius * cos(angle));
    out[1] = (float)(radius * sin(angle));
}

void dsc_random_normal(uint64_t seed, uint64_t stream, int64_t first, int64_t count, float *out)
{
    float pair[2];

    for (int64_t i = 0; i < count; i++) {
        int64_t element = first + i;

        if (i == 0 || element % 2 == 0) normal_pair(seed, stream, element / 2, pair);
        out[i] = pair[element % 2];
    }
}

uint64_t dsc_stream_of(const char *name)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);

    for (; *name != '\0'; name++) hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001B3);
    return hash;
}

static int half_bits_for(int64_t n)
{
    int bits = 1;

    while (2 * bits < 63 && INT64_C(1) << 2 * bits < n) bits++;
    return bits;
}

/* One pass of a balanced Feistel network over 2 * half_bits bits: a bijection whatever the round function is. */
static uint64_t feistel(uint64_t key, int half_bits, uint64_t value)
{
    uint64_t mask = (UINT64_C(1) << half_bits) - 1;
    uint64_t left = value >> half_bits, right = value & mask;

    for (uint64_t round = 0; round < 6; round++) {
        uint64_t next = left ^ (dsc_random_bits(key, round, right) & mask);

        left = right;
        right = next;
    }
    return left << half_bits | right;
}

int64_t dsc_permute(uint64_t key, int64_t n, int64_t index)
{
    int half_bits = half_bits_for(n);
    uint64_t value = (uint64_t)index;

    /* The network's range is at most 4 n, so the walk back into [0, n) takes four steps on average. */
    do value = feistel(key, half_bits, value);
    while (value >= (uint64_t)n);
    return (int64_t)value;
}
