/* The kernels of one overlay, each in the source of its family. */
#ifndef DSC_KERNELS_OVERLAY_H
#define DSC_KERNELS_OVERLAY_H

#include "kernels/cpu/cpu.h"

dsc_kernel_fn DSC_OVERLAY(gemm), DSC_OVERLAY(norm_fwd), DSC_OVERLAY(norm_bwd_x), DSC_OVERLAY(norm_bwd_w);
dsc_kernel_fn DSC_OVERLAY(attention_fwd), DSC_OVERLAY(attention_bwd), DSC_OVERLAY(gelu_fwd), DSC_OVERLAY(gelu_bwd);
dsc_kernel_fn DSC_OVERLAY(rope), DSC_OVERLAY(swiglu_fwd), DSC_OVERLAY(swiglu_bwd);
dsc_kernel_fn DSC_OVERLAY(block_sdd), DSC_OVERLAY(block_dsd), DSC_OVERLAY(block_dds);
dsc_kernel_fn DSC_OVERLAY(block_softmax_fwd), DSC_OVERLAY(block_softmax_bwd);
dsc_kernel_fn DSC_OVERLAY(column_sum), DSC_OVERLAY(embed_fwd), DSC_OVERLAY(embed_bwd), DSC_OVERLAY(join);
dsc_kernel_fn DSC_OVERLAY(cross_entropy), DSC_OVERLAY(cross_entropy_part), DSC_OVERLAY(cross_entropy_join);
dsc_kernel_fn DSC_OVERLAY(sign_compress), DSC_OVERLAY(sign_average), DSC_OVERLAY(sign_expand);
dsc_kernel_fn DSC_OVERLAY(square_sum), DSC_OVERLAY(adam), DSC_OVERLAY(momentum), DSC_OVERLAY(cast);
dsc_kernel_fn DSC_OVERLAY(drift), DSC_OVERLAY(rejoin), DSC_OVERLAY(lamb_norms), DSC_OVERLAY(lamb_step);

#endif
