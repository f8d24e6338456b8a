/* Calibrations on disk: HDF5 calibration, schema 1. Kernels and types are stored by name, so that a file outlives a
 * change of the enumerations. */
#ifndef DSC_STORE_CALIBRATION_FILE_H
#define DSC_STORE_CALIBRATION_FILE_H

#include "trace/calibration.h"

/* Creates or replaces the file; an empty `created` becomes the present time (or SOURCE_DATE_EPOCH's). DSC_EINVAL when
 * the path cannot be written, DSC_EIO. */
dsc_status dsc_calibration_save(const char *path, const dsc_calibration *calibration);

/* DSC_EINVAL when the file cannot be read, is no HDF5 file, no calibration of schema 1, names an unknown kernel or
 * type, or holds a shape or time that cannot be; the text names file and row. *out only on success;
 * dsc_calibration_fini frees it. */
dsc_status dsc_calibration_load(const char *path, dsc_calibration *out);

#endif
