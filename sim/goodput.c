#include "sim/goodput.h"
#include <math.h>

double dsc_young_interval(double save, double mtbf) { return sqrt(2 * save * mtbf); }

double dsc_daly_interval(double save, double mtbf)
{
    const double part = save / (2 * mtbf);

    if (part >= 1) return mtbf;
    return sqrt(2 * save * mtbf) * (1 + sqrt(part) / 3 + part / 9) - save;
}

double dsc_goodput(double interval, double save, double restart, double mtbf)
{
    const double passed = mtbf * exp(restart / mtbf) * expm1((interval + save) / mtbf);

    return isfinite(passed) ? interval / passed : 0;
}

int64_t dsc_interval_steps(double step, double save, double mtbf, int64_t most)
{
    const double best = fmin(fmax(dsc_daly_interval(save, mtbf) / step, 1), (double)most);
    const double below = floor(best), above = fmin(ceil(best), (double)most);

    return (int64_t)(dsc_goodput(above * step, save, 0, mtbf) > dsc_goodput(below * step, save, 0, mtbf) ? above
                                                                                                        : below);
}
