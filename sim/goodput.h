/* What failures cost a long run: formulas alone, of seconds. Failures come one independent of the other at a constant
 * rate, a Poisson process; each costs what was done since the last checkpoint, and a restart. Pure.
 *
 * save     seconds of a checkpoint, in which no step is made
 * restart  seconds from a failure to the first step after it
 * mtbf     mean seconds between failures of all that the run uses, above 0 */
#ifndef DSC_SIM_GOODPUT_H
#define DSC_SIM_GOODPUT_H

#include <stdint.h>

/* The seconds of steps between two checkpoints that waste least, by first order: sqrt(2 save mtbf).
 * source  Young 1974, "A first order approximation to the optimum checkpoint interval" */
double dsc_young_interval(double save, double mtbf);

/* The same with what is lost while saving and restarting: the first terms of a series in sqrt(save / 2 mtbf), less
 * save; mtbf where a checkpoint takes over twice that.
 * source  Daly 2006, "A higher order estimate of the optimum checkpoint interval for restart dumps", eq. 37 */
double dsc_daly_interval(double save, double mtbf);

/* Steps' share of the time that passes, 0 to 1, with a checkpoint behind each `interval` seconds of steps:
 * interval / (mtbf e^(restart / mtbf) (e^((interval + save) / mtbf) - 1)). 0: it never gets there.
 * source  Daly 2006, eq. 20 */
double dsc_goodput(double interval, double save, double restart, double mtbf);

/* Daly's interval in whole steps, of those beside it the better one, at least 1 and at most `most`. */
int64_t dsc_interval_steps(double step, double save, double mtbf, int64_t most);

#endif
