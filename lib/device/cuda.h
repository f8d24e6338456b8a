/* What kernels/cuda and lib/device share. C and C++. */
#ifndef DSC_DEVICE_CUDA_H
#define DSC_DEVICE_CUDA_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "base/status.h"

/* The stream into which the calling thread puts its kernels now: the executor sets it (dsc_device_calls.enter) before
 * it runs an op's; the default stream in a thread that has entered none. */
cudaStream_t dsc_cuda_stream(void);

/* DSC_OK, or a failure with CUDA's name and words for the error, behind `what`. An error that sticks is left. */
dsc_status dsc_cuda_status(cudaError_t error, const char *what);

#ifdef __cplusplus
}
#endif

/* dsc_status of a call, named as it is written; and that of the launch just made. */
#define DSC_CUDA(call) dsc_cuda_status((call), #call)
#define DSC_CUDA_LAUNCHED(name) dsc_cuda_status(cudaGetLastError(), name)

#endif
