/* How implementations divide the workspace that a contract grants. Pure; the numbers depend on the shape alone, never
 * on threads or libraries, so that a planner knows them and sums keep their bits. */
#ifndef DSC_KERNEL_WORKSPACE_H
#define DSC_KERNEL_WORKSPACE_H

#include "kernel/kernel.h"

enum {
    DSC_SUM_CHUNKS = 64,       /* square_sum, the losses, LAMB: partial sums of doubles, added in order */
    DSC_DEVICE_CHUNKS = 1024,  /* square_sum where there are many more cores */
    DSC_ATTENTION_UNITS = 32,  /* attention_bwd: groups of heads worked on at a time */
    DSC_ATTENTION_MAX_D = 1024 /* some tiles of D columns lie on the stack */
};

/* attention_bwd: a unit is the query heads that share one key head of one sequence. For each of its H / Hkv * T rows it
 * sums the gradient of the query over tiles of keys in fp32 (D padded to 16) and keeps one more value, the product of
 * context and its gradient. d are the shape's dimensions. */
int64_t dsc_attention_unit_floats(const int64_t d[DSC_KERNEL_DIMS]);
int64_t dsc_attention_units(const int64_t d[DSC_KERNEL_DIMS]); /* that the workspace holds */

/* column_sum, norm_bwd_w: parts of the rows, of each of which there may be a sum of its own. */
int64_t dsc_row_chunks(int64_t rows, int64_t cols);

/* Losses: behind the partial sums a double of each row; then, with DSC_APART, [rows, row stride] fp32 of each step. How
 * many steps there are: 0 without. */
static inline double *dsc_loss_rows(void *workspace) { return (double *)workspace + 2 * DSC_SUM_CHUNKS; }
int64_t dsc_loss_steps(const dsc_shape *shape);
float *dsc_loss_step(const dsc_shape *shape, void *workspace, int64_t index);

#endif
