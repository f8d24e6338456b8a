/* The kernels on CUDA, each in the source of its family. They enqueue into dsc_cuda_stream() and return; operands,
 * workspace and step are the device's addresses. What a kernel finds wrong in its data it cannot tell at the call:
 * where others refuse a token outside the vocabulary, x and the loss become NaN.
 *
 * Bits do not change from run to run: no float is added by an atomic operation, and all sums are over parts that the
 * shape alone cuts, in their order. */
#ifndef DSC_KERNELS_CUDA_SET_H
#define DSC_KERNELS_CUDA_SET_H

#include "kernel/kernel.h"

dsc_kernel_fn dsc_cuda_gemm, dsc_cuda_norm_fwd, dsc_cuda_norm_bwd_x, dsc_cuda_norm_bwd_w;
dsc_kernel_fn dsc_cuda_attention_fwd, dsc_cuda_attention_bwd, dsc_cuda_scores_fwd, dsc_cuda_scores_bwd;
dsc_kernel_fn dsc_cuda_rope, dsc_cuda_gelu_fwd, dsc_cuda_gelu_bwd, dsc_cuda_swiglu_fwd, dsc_cuda_swiglu_bwd;
dsc_kernel_fn dsc_cuda_block_sdd, dsc_cuda_block_dsd, dsc_cuda_block_dds;
dsc_kernel_fn dsc_cuda_block_softmax_fwd, dsc_cuda_block_softmax_bwd;
dsc_kernel_fn dsc_cuda_join, dsc_cuda_column_sum, dsc_cuda_embed_fwd, dsc_cuda_embed_bwd;
dsc_kernel_fn dsc_cuda_cross_entropy, dsc_cuda_cross_entropy_part, dsc_cuda_cross_entropy_join;
dsc_kernel_fn dsc_cuda_square_sum, dsc_cuda_clear, dsc_cuda_cast, dsc_cuda_adam, dsc_cuda_momentum, dsc_cuda_drift;
dsc_kernel_fn dsc_cuda_rejoin, dsc_cuda_lamb_norms, dsc_cuda_lamb_trust, dsc_cuda_lamb_step;
dsc_kernel_fn dsc_cuda_sign_compress, dsc_cuda_sign_average, dsc_cuda_sign_expand;

/* Our own product, for what cuBLASLt does not take. */
dsc_kernel_fn dsc_cuda_product;

/* cuBLASLt's algorithm for a product: chosen once, by its own ranking, and kept. One thread at a time. */
dsc_status dsc_cuda_gemm_prepare(const dsc_shape *shape);

/* Attention by tensor cores, where it is for this shape: bf16 or fp16, heads of 64 or 128, no layout. */
bool dsc_cuda_flash_has(const dsc_shape *shape, void *const *operands); /* and these addresses */
dsc_kernel_fn dsc_cuda_flash_fwd, dsc_cuda_flash_bwd;

#endif
