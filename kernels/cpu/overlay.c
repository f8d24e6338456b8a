#include "kernels/cpu/overlay.h"

/* With bf16 products come other kernels of attention alone; the rest is the overlay's below. */
#ifdef __AVX512BF16__
void DSC_OVERLAY(overlay)(dsc_kernel_set *set)
{
    dsc_avx512_overlay(set);
    set->run[DSC_K_ATTENTION_FWD] = DSC_OVERLAY(attention_fwd);
    set->run[DSC_K_ATTENTION_BWD] = DSC_OVERLAY(attention_bwd);
}
#else
void DSC_OVERLAY(overlay)(dsc_kernel_set *set)
{
    set->run[DSC_K_GEMM] = DSC_OVERLAY(gemm);
    set->run[DSC_K_NORM_FWD] = DSC_OVERLAY(norm_fwd);
    set->run[DSC_K_NORM_BWD_X] = DSC_OVERLAY(norm_bwd_x);
    set->run[DSC_K_NORM_BWD_W] = DSC_OVERLAY(norm_bwd_w);
    set->run[DSC_K_ATTENTION_FWD] = DSC_OVERLAY(attention_fwd);
    set->run[DSC_K_ATTENTION_BWD] = DSC_OVERLAY(attention_bwd);
    set->run[DSC_K_ROPE] = DSC_OVERLAY(rope);
    set->run[DSC_K_BLOCK_SDD] = DSC_OVERLAY(block_sdd);
    set->run[DSC_K_BLOCK_DSD] = DSC_OVERLAY(block_dsd);
    set->run[DSC_K_BLOCK_DDS] = DSC_OVERLAY(block_dds);
    set->run[DSC_K_BLOCK_SOFTMAX_FWD] = DSC_OVERLAY(block_softmax_fwd);
    set->run[DSC_K_BLOCK_SOFTMAX_BWD] = DSC_OVERLAY(block_softmax_bwd);
    set->run[DSC_K_GELU_FWD] = DSC_OVERLAY(gelu_fwd);
    set->run[DSC_K_GELU_BWD] = DSC_OVERLAY(gelu_bwd);
    set->run[DSC_K_SWIGLU_FWD] = DSC_OVERLAY(swiglu_fwd);
    set->run[DSC_K_SWIGLU_BWD] = DSC_OVERLAY(swiglu_bwd);
    set->run[DSC_K_JOIN] = DSC_OVERLAY(join);
    set->run[DSC_K_COLUMN_SUM] = DSC_OVERLAY(column_sum);
    set->run[DSC_K_EMBED_FWD] = DSC_OVERLAY(embed_fwd);
    set->run[DSC_K_EMBED_BWD] = DSC_OVERLAY(embed_bwd);
    set->run[DSC_K_CROSS_ENTROPY] = DSC_OVERLAY(cross_entropy);
    set->run[DSC_K_CROSS_ENTROPY_PART] = DSC_OVERLAY(cross_entropy_part);
    set->run[DSC_K_CROSS_ENTROPY_JOIN] = DSC_OVERLAY(cross_entropy_join);
    set->run[DSC_K_SQUARE_SUM] = DSC_OVERLAY(square_sum);
    set->run[DSC_K_ADAM] = DSC_OVERLAY(adam);
    set->run[DSC_K_MOMENTUM] = DSC_OVERLAY(momentum);
    set->run[DSC_K_DRIFT] = DSC_OVERLAY(drift);
    set->run[DSC_K_REJOIN] = DSC_OVERLAY(rejoin);
    set->run[DSC_K_LAMB_NORMS] = DSC_OVERLAY(lamb_norms);
    set->run[DSC_K_LAMB_STEP] = DSC_OVERLAY(lamb_step);
    set->run[DSC_K_SIGN_COMPRESS] = DSC_OVERLAY(sign_compress);
    set->run[DSC_K_SIGN_AVERAGE] = DSC_OVERLAY(sign_average);
    set->run[DSC_K_SIGN_EXPAND] = DSC_OVERLAY(sign_expand);
    set->run[DSC_K_CAST] = DSC_OVERLAY(cast);
}
#endif
