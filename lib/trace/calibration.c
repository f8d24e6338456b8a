#include "trace/calibration.h"
#include <stdlib.h>
#include <string.h>

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

static dsc_status add_rows(void *rows, int64_t *count, int64_t *capacity, const void *from, int64_t more, size_t size)
{
    dsc_status status = dsc_array_reserve(rows, capacity, *count + more, size);

    if (status != DSC_OK || more == 0) return status;
    memcpy(*(char **)rows + (size_t)*count * size, from, (size_t)more * size);
    *count += more;
    return DSC_OK;
}

dsc_status dsc_calibration_add(dsc_calibration *into, const dsc_calibration *from)
{
    dsc_status status = DSC_OK;

    DSC_TRY(add_rows(&into->kernels, &into->kernel_count, &into->kernel_capacity, from->kernels, from->kernel_count,
                     sizeof *from->kernels));
    DSC_TRY(add_rows(&into->copies, &into->copy_count, &into->copy_capacity, from->copies, from->copy_count,
                     sizeof *from->copies));
    DSC_TRY(add_rows(&into->collectives, &into->collective_count, &into->collective_capacity, from->collectives,
                     from->collective_count, sizeof *from->collectives));
    if (into->libraries_bytes == 0) into->libraries_bytes = from->libraries_bytes;
    if (into->op_overhead_ns == 0) into->op_overhead_ns = from->op_overhead_ns;
out:
    return status;
}
