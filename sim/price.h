/* What the simulator itself needs of prices beyond sim.h. */
#ifndef DSC_SIM_PRICE_H
#define DSC_SIM_PRICE_H

#include "sim/sim.h"

/* The calibration that prices were made with; NULL when there is none. Borrowed. */
const dsc_calibration *dsc_prices_calibration(const dsc_prices *prices);

/* Nanoseconds of an op that is no communication: its calls by the lane that they are in, or its copy, with what the
 * executor spends beside them; and what of it a GPU's host spends on launches. */
int64_t dsc_price_op(dsc_prices *prices, const dsc_template *template_, const dsc_op *op);
int64_t dsc_price_op_launches(dsc_prices *prices, const dsc_template *template_, const dsc_op *op);
/* What of a copy's price goes by before bytes move: the executor's share and the link's latency. Of a measured copy
 * nobody knows the latter. */
int64_t dsc_price_copy_latency(const dsc_prices *prices, bool is_out);

/* The software that they are of. */
const dsc_stack *dsc_prices_stack(const dsc_prices *prices);

#endif
