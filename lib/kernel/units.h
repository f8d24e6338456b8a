/* What 1-bit compression knows of a bucket: its units, each with a scale of its own, and the packets in which their
 * signs travel. A unit is a piece of what a rank holds of a tensor; kernels read the list of them from an operand of
 * int64, made once and kept for all steps.
 *
 * N ranks exchange a bucket. A unit is padded to a multiple of 8 N elements and cut in N chunks; packet j, for server
 * j, has chunk j of every unit, then a scale for every unit. */
#ifndef DSC_KERNEL_UNITS_H
#define DSC_KERNEL_UNITS_H

#include "base/array.h"
#include "kernel/kernel.h"

/* Elements first .. first + real of the bucket's flat order are compressed; past them the unit has only padding, up to
 * `padded` elements. Its errors, and its bits, begin where those of `place` padded elements before it end. */
typedef struct dsc_unit { int64_t first, real, place, padded; } dsc_unit;

/* The operand: a rank may have fewer units than its program has room for. They ascend in the flat order and lie one
 * behind another in places from 0; lists, where there are several, ascend too. */
typedef struct dsc_units {
    int64_t count;
    int64_t server; /* the chunk that this rank averages */
    dsc_unit unit[];
} dsc_units;

static inline int64_t dsc_units_elems(int64_t units)
{
    return (int64_t)((sizeof(dsc_units) + (size_t)units * sizeof(dsc_unit)) / sizeof(int64_t));
}

/* Where in a packet of `packed` elements over N ranks the scales begin, and how long it is; in bytes. Scales are of
 * `type`; packets begin at multiples of 8 bytes. */
static inline int64_t dsc_packet_scales(int64_t packed, int64_t ranks) { return dsc_round_up(packed / ranks / 8, 8); }

static inline int64_t dsc_packet_bytes(int64_t packed, int64_t ranks, int64_t units, dsc_dtype type)
{
    return dsc_packet_scales(packed, ranks) + dsc_round_up(units * dsc_dtype_bytes(type), 8);
}

#endif
