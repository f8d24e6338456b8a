/* The sets of kernels that this build has. */
#ifndef DSC_KERNELS_KERNELS_H
#define DSC_KERNELS_KERNELS_H

#include "kernel/kernel.h"

/* Plain C, one function a contract, obviously right: the definition. */
const dsc_kernel_set *dsc_kernels_ref(void);

/* The best overlay that this processor can run, over the reference where the overlay has nothing; oneDNN for products
 * where the build has it (its name then ends in "+onednn"). */
const dsc_kernel_set *dsc_kernels_cpu(void);

/* Those of a GPU: they enqueue what they are asked for where lib/device says (device/cuda.h), and return. All
 * addresses, that of the step too, are the device's. Tokens outside the vocabulary make NaN of x and of the loss. NULL:
 * this build has no CUDA. */
const dsc_kernel_set *dsc_kernels_cuda(void);

/* By name: "ref", "cpu-avx2", "cpu-avx512" and "cpu-avx512bf16" use our own code only; "cpu", "auto" or NULL is
 * dsc_kernels_cpu. DSC_EINVAL lists them, DSC_ENOTSUP when this processor lacks the instructions. */
dsc_status dsc_kernels_find(const char *name, const dsc_kernel_set **out);

/* Threads that kernels use from now on (OpenMP and oneDNN, whose primitives are made anew). OpenMP keeps this number
 * for each calling thread, so call it from the one that prepares and runs kernels; only one at a time may. */
void dsc_kernels_threads(int threads);

#endif
