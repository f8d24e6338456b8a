/* A kernel's time as a function of its shape, learnt from samples of one class (same kernel, types, flags and ranks).
 *
 *     time(shape) = base(shape) * correction(shape)
 *
 * base is a sum of terms, products of dimensions with coefficients that are not negative: a latency, the arithmetic,
 * the traffic of each operand. It is the least-squares fit of relative errors, never falls when a dimension grows, and
 * goes on sensibly outside the grid. correction interpolates what the base misses at the samples, over logarithms of
 * sizes: it brings caches and blocking back, and far from all samples it is their mean.
 *
 * A class of few samples (with a residual, in fp16) takes the price of a like one for its base. Pure: no clock, no
 * files. */
#ifndef DSC_SIM_FIT_H
#define DSC_SIM_FIT_H

#include "trace/calibration.h"

typedef struct dsc_fit dsc_fit;

enum { DSC_FIT_ALL = -1 };

/* Fits samples[0..count), count > 0, without number `left_out` (DSC_FIT_ALL: with all of them); nothing is kept of
 * them. `like` is the fit of a class of the same kernel whose price becomes the base, borrowed until destroy,
 * or NULL. */
dsc_status dsc_fit_create(const dsc_kernel_sample *const *samples, int64_t count, int64_t left_out, const dsc_fit *like,
                          dsc_fit **out);
void dsc_fit_destroy(dsc_fit *fit); /* takes NULL */

/* Nanoseconds of a shape of the same kernel. */
double dsc_fit_ns(const dsc_fit *fit, const dsc_shape *shape);

#endif
