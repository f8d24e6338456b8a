/* What the files of lib/device share. */
#ifndef DSC_DEVICE_INTERNAL_H
#define DSC_DEVICE_INTERNAL_H

#include "device/device.h"

/* Of device.h's calls, for CUDA's devices. */
int dsc_cuda_count(void);
dsc_status dsc_cuda_open(int index, dsc_device *out);

#endif
