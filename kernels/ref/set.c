#include "kernels/kernels.h"
#include "kernels/ref/ref.h"

/* DSC_K_LOAD is the executor's own. */
const dsc_kernel_set *dsc_kernels_ref(void)
{
    static const dsc_kernel_set set = {
        .name = "ref",
        .run = {
            [DSC_K_GEMM] = dsc_ref_gemm,
            [DSC_K_NORM_FWD] = dsc_ref_norm_fwd,
            [DSC_K_NORM_BWD_X] = dsc_ref_norm_bwd_x,
            [DSC_K_NORM_BWD_W] = dsc_ref_norm_bwd_w,
            [DSC_K_ATTENTION_FWD] = dsc_ref_attention_fwd,
            [DSC_K_ATTENTION_BWD] = dsc_ref_attention_bwd,
            [DSC_K_SCORES_FWD] = dsc_ref_scores_fwd,
            [DSC_K_SCORES_BWD] = dsc_ref_scores_bwd,
            [DSC_K_ROPE] = dsc_ref_rope,
            [DSC_K_BLOCK_SDD] = dsc_ref_block_sdd,
            [DSC_K_BLOCK_DSD] = dsc_ref_block_dsd,
            [DSC_K_BLOCK_DDS] = dsc_ref_block_dds,
            [DSC_K_BLOCK_SOFTMAX_FWD] = dsc_ref_block_softmax_fwd,
            [DSC_K_BLOCK_SOFTMAX_BWD] = dsc_ref_block_softmax_bwd,
            [DSC_K_GELU_FWD] = dsc_ref_gelu_fwd,
            [DSC_K_GELU_BWD] = dsc_ref_gelu_bwd,
            [DSC_K_SWIGLU_FWD] = dsc_ref_swiglu_fwd,
            [DSC_K_SWIGLU_BWD] = dsc_ref_swiglu_bwd,
            [DSC_K_JOIN] = dsc_ref_join,
            [DSC_K_COLUMN_SUM] = dsc_ref_column_sum,
            [DSC_K_EMBED_FWD] = dsc_ref_embed_fwd,
            [DSC_K_EMBED_BWD] = dsc_ref_embed_bwd,
            [DSC_K_CROSS_ENTROPY] = dsc_ref_cross_entropy,
            [DSC_K_CROSS_ENTROPY_PART] = dsc_ref_cross_entropy_part,
            [DSC_K_CROSS_ENTROPY_JOIN] = dsc_ref_cross_entropy_join,
            [DSC_K_MOMENTUM] = dsc_ref_momentum,
            [DSC_K_DRIFT] = dsc_ref_drift,
            [DSC_K_REJOIN] = dsc_ref_rejoin,
            [DSC_K_LAMB_NORMS] = dsc_ref_lamb_norms,
            [DSC_K_LAMB_TRUST] = dsc_ref_lamb_trust,
            [DSC_K_LAMB_STEP] = dsc_ref_lamb_step,
            [DSC_K_SIGN_COMPRESS] = dsc_ref_sign_compress,
            [DSC_K_SIGN_AVERAGE] = dsc_ref_sign_average,
            [DSC_K_SIGN_EXPAND] = dsc_ref_sign_expand,
            [DSC_K_SQUARE_SUM] = dsc_ref_square_sum,
            [DSC_K_CLEAR] = dsc_ref_clear,
            [DSC_K_ADAM] = dsc_ref_adam,
            [DSC_K_CAST] = dsc_ref_cast,
        },
    };

    return &set;
}
