#include "base/status.h"
#include "kernels/cuda/set.h"
#include "kernels/kernels.h"

/* Scalars are fp64 everywhere; all else in fp64 is the reference's, and fp8 nobody's. */
static dsc_status prepare(const dsc_shape *shape)
{
    if (shape->type == DSC_FP8 || (shape->type == DSC_FP64 && shape->kernel != DSC_K_CLEAR))
        return DSC_FAIL(DSC_ENOTSUP, "%s in %s: kernels cuda do not have it",
                        dsc_kernel_name((dsc_kernel)shape->kernel), dsc_dtype_name((dsc_dtype)shape->type));
    return shape->kernel == DSC_K_GEMM ? dsc_cuda_gemm_prepare(shape) : DSC_OK;
}

/* DSC_K_LOAD is the executor's own. */
const dsc_kernel_set *dsc_kernels_cuda(void)
{
    static const dsc_kernel_set set = {
        .name = "cuda",
        .prepare = prepare,
        .run = {
            [DSC_K_GEMM] = dsc_cuda_gemm,
            [DSC_K_NORM_FWD] = dsc_cuda_norm_fwd,
            [DSC_K_NORM_BWD_X] = dsc_cuda_norm_bwd_x,
            [DSC_K_NORM_BWD_W] = dsc_cuda_norm_bwd_w,
            [DSC_K_ATTENTION_FWD] = dsc_cuda_attention_fwd,
            [DSC_K_ATTENTION_BWD] = dsc_cuda_attention_bwd,
            [DSC_K_SCORES_FWD] = dsc_cuda_scores_fwd,
            [DSC_K_SCORES_BWD] = dsc_cuda_scores_bwd,
            [DSC_K_ROPE] = dsc_cuda_rope,
            [DSC_K_BLOCK_SDD] = dsc_cuda_block_sdd,
            [DSC_K_BLOCK_DSD] = dsc_cuda_block_dsd,
            [DSC_K_BLOCK_DDS] = dsc_cuda_block_dds,
            [DSC_K_BLOCK_SOFTMAX_FWD] = dsc_cuda_block_softmax_fwd,
            [DSC_K_BLOCK_SOFTMAX_BWD] = dsc_cuda_block_softmax_bwd,
            [DSC_K_GELU_FWD] = dsc_cuda_gelu_fwd,
            [DSC_K_GELU_BWD] = dsc_cuda_gelu_bwd,
            [DSC_K_SWIGLU_FWD] = dsc_cuda_swiglu_fwd,
            [DSC_K_SWIGLU_BWD] = dsc_cuda_swiglu_bwd,
            [DSC_K_JOIN] = dsc_cuda_join,
            [DSC_K_COLUMN_SUM] = dsc_cuda_column_sum,
            [DSC_K_EMBED_FWD] = dsc_cuda_embed_fwd,
            [DSC_K_EMBED_BWD] = dsc_cuda_embed_bwd,
            [DSC_K_CROSS_ENTROPY] = dsc_cuda_cross_entropy,
            [DSC_K_CROSS_ENTROPY_PART] = dsc_cuda_cross_entropy_part,
            [DSC_K_CROSS_ENTROPY_JOIN] = dsc_cuda_cross_entropy_join,
            [DSC_K_MOMENTUM] = dsc_cuda_momentum,
            [DSC_K_DRIFT] = dsc_cuda_drift,
            [DSC_K_REJOIN] = dsc_cuda_rejoin,
            [DSC_K_LAMB_NORMS] = dsc_cuda_lamb_norms,
            [DSC_K_LAMB_TRUST] = dsc_cuda_lamb_trust,
            [DSC_K_LAMB_STEP] = dsc_cuda_lamb_step,
            [DSC_K_SIGN_COMPRESS] = dsc_cuda_sign_compress,
            [DSC_K_SIGN_AVERAGE] = dsc_cuda_sign_average,
            [DSC_K_SIGN_EXPAND] = dsc_cuda_sign_expand,
            [DSC_K_SQUARE_SUM] = dsc_cuda_square_sum,
            [DSC_K_CLEAR] = dsc_cuda_clear,
            [DSC_K_ADAM] = dsc_cuda_adam,
            [DSC_K_CAST] = dsc_cuda_cast,
        },
    };

    return &set;
}
