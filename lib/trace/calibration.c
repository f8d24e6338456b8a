#include "trace/calibration.h"
#include <stdlib.h>

void dsc_calibration_init(dsc_calibration *out)
{
    *out = (dsc_calibration){0};
}

void dsc_calibration_fini(dsc_calibration *calibration)
{
    free(calibration->machine);
    free(calibration->kernels);
    free(calibration->copies);
    free(calibration->collectives);
    dsc_calibration_init(calibration);
}
