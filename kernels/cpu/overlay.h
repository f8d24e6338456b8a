/* The kernels of one overlay, each in the source of its family. */
#ifndef DSC_KERNELS_OVERLAY_H
#define DSC_KERNELS_OVERLAY_H

#include "kernels/cpu/cpu.h"

dsc_kernel_fn DSC_OVERLAY(gemm);

#endif
