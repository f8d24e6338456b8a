#include "kernels/cpu/overlay.h"

void DSC_OVERLAY(overlay)(dsc_kernel_set *set)
{
    set->run[DSC_K_GEMM] = DSC_OVERLAY(gemm);
}
