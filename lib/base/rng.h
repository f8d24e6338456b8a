/* Counter-based random numbers: a value is a function of (seed, stream, index) and of nothing else, so it does not
 * depend on the layout of ranks or on the order of calls.
 * Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11: Philox4x32-10. */
#ifndef DSC_BASE_RNG_H
#define DSC_BASE_RNG_H

#include <stdint.h>

/* One block of Philox4x32-10: 128 bits of counter, 64 of key. Pure. */
void dsc_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* 64 uniform bits of (seed, stream, index). Pure. */
uint64_t dsc_random_bits(uint64_t seed, uint64_t stream, uint64_t index);

/* Standard normal deviates of elements first .. first + count - 1 (Box-Muller in double, rounded to float; element
 * pairs 2i, 2i + 1 share a block). Pure. */
void dsc_random_normal(uint64_t seed, uint64_t stream, int64_t first, int64_t count, float *out);

/* FNV-1a of a name: the stream of a tensor. Pure. */
uint64_t dsc_stream_of(const char *name);

/* A permutation of [0, n) as a pure function of (key, index): a Feistel network walked until the value is in range, so
 * that any position costs O(1) and no memory. Pure. */
int64_t dsc_permute(uint64_t key, int64_t n, int64_t index);

#endif
