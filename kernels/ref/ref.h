/* The reference kernels: each computes its contract of lib/kernel/kernel.h one element at a time, with sums in
 * double. */
#ifndef DSC_KERNELS_REF_H
#define DSC_KERNELS_REF_H

#include "base/array.h"
#include "kernel/convert.h"
#include "kernel/step.h"

#define DSC_NORM_EPSILON 1e-5

dsc_kernel_fn dsc_ref_gemm, dsc_ref_norm_fwd, dsc_ref_norm_bwd_x, dsc_ref_norm_bwd_w;
dsc_kernel_fn dsc_ref_attention_fwd, dsc_ref_attention_bwd, dsc_ref_scores_fwd, dsc_ref_scores_bwd;
dsc_kernel_fn dsc_ref_sign_compress, dsc_ref_sign_average, dsc_ref_sign_expand;
dsc_kernel_fn dsc_ref_block_sdd, dsc_ref_block_dsd, dsc_ref_block_dds;
dsc_kernel_fn dsc_ref_block_softmax_fwd, dsc_ref_block_softmax_bwd;
dsc_kernel_fn dsc_ref_rope, dsc_ref_swiglu_fwd, dsc_ref_swiglu_bwd;
dsc_kernel_fn dsc_ref_gelu_fwd, dsc_ref_gelu_bwd, dsc_ref_column_sum, dsc_ref_square_sum;
dsc_kernel_fn dsc_ref_embed_fwd, dsc_ref_embed_bwd, dsc_ref_adam, dsc_ref_momentum, dsc_ref_cast, dsc_ref_join;
dsc_kernel_fn dsc_ref_lamb_norms, dsc_ref_lamb_trust, dsc_ref_lamb_step;
dsc_kernel_fn dsc_ref_drift, dsc_ref_rejoin, dsc_ref_clear;
dsc_kernel_fn dsc_ref_cross_entropy, dsc_ref_cross_entropy_part, dsc_ref_cross_entropy_join;

#endif
