/* What a calibration says of kernels: its samples by class (kernel, types, flags, ranks), a fit for each, and for a
 * class that was not measured the nearest one that was. */
#ifndef DSC_SIM_MEASURED_H
#define DSC_SIM_MEASURED_H

#include "trace/calibration.h"

typedef struct dsc_measured dsc_measured;

/* The calibration is borrowed until destroy. */
dsc_status dsc_measured_create(const dsc_calibration *calibration, dsc_measured **out);
void dsc_measured_destroy(dsc_measured *measured); /* takes NULL */

/* Nanoseconds of the shape with `ranks` ranks of a machine busy with the same; 0 when nothing like it was measured.
 * Exact samples are returned as they are, *is_sample is then true. Between measured numbers of ranks the price is
 * interpolated in logarithms. Beyond them, ranks that share cores get shares of a core (the price grows in
 * proportion), others keep the nearest price. */
double dsc_measured_ns(const dsc_measured *measured, const dsc_shape *shape, int64_t ranks, bool share_cores,
                       bool *is_sample);

/* price / time - 1 of each sample, in the calibration's order, when it is priced without itself; 0 for the only one of
 * its class. */
dsc_status dsc_measured_misses(const dsc_measured *measured, double *out);

/* How large the misses of a kernel's samples are: their median, and what nine in ten stay below. samples is 0 when
 * there are none. */
typedef struct dsc_price_error { int64_t samples; double median, ninety; } dsc_price_error;
dsc_status dsc_measured_errors(const dsc_measured *measured, dsc_price_error out[DSC_KERNEL_COUNT]);

#endif
