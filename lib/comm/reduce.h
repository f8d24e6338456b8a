/* The arithmetic of reductions. */
#ifndef DSC_COMM_REDUCE_H
#define DSC_COMM_REDUCE_H

#include "comm/comm.h"

/* into[i] = into[i] + from[i], or the larger. into and from do not overlap. */
typedef void dsc_reduce_fn(void *into, const void *from, int64_t elems);

/* NULL when the type has no such reduction. 16-bit types are added in fp32 and rounded to nearest even; a NaN stays
 * one. */
dsc_reduce_fn *dsc_reduce_find(dsc_dtype type, dsc_reduction reduction);

dsc_reduce_fn dsc_reduce_max_int64;

#endif
