/* What the simulator itself needs of prices beyond sim.h. */
#ifndef DSC_SIM_PRICE_H
#define DSC_SIM_PRICE_H

#include "sim/sim.h"

/* The calibration that prices were made with; NULL when there is none. Borrowed. */
const dsc_calibration *dsc_prices_calibration(const dsc_prices *prices);

/* The software that they are of. */
const dsc_stack *dsc_prices_stack(const dsc_prices *prices);

#endif
