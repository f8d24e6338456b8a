/* Overlays for one processor family. Their sources are compiled once for each instruction set with DSC_ISA defined to
 * its name, which DSC_OVERLAY puts into every exported symbol; select.c and onednn.c are compiled once, for any
 * machine. */
#ifndef DSC_KERNELS_CPU_H
#define DSC_KERNELS_CPU_H

#include "base/array.h"
#include "kernel/step.h"
#include "kernel/workspace.h"

#define DSC_PASTE(isa, name) dsc_##isa##_##name
#define DSC_PASTE_EXPANDED(isa, name) DSC_PASTE(isa, name)
#define DSC_OVERLAY(name) DSC_PASTE_EXPANDED(DSC_ISA, name)

/* Puts the overlay's kernels into a set, over what is there. */
void dsc_avx2_overlay(dsc_kernel_set *set);
void dsc_avx512_overlay(dsc_kernel_set *set);
void dsc_avx512bf16_overlay(dsc_kernel_set *set); /* and products of bf16 */

/* Matrix products by oneDNN: *done says whether it has a fast way within the workspace; if not, nothing was computed.
 * prepare compiles the primitive; a shape that was not prepared is prepared by its first run. Primitives are kept until
 * the number of threads changes. One thread at a time. */
dsc_status dsc_onednn_prepare(const dsc_shape *shape);
dsc_status dsc_onednn_gemm(const dsc_shape *shape, void *const *operands, void *workspace, bool *done);
void dsc_onednn_forget(void);

#endif
