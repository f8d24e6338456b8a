/* The order of a pipeline stage's forward and backward passes in a step. Pure arithmetic: it knows no program, no op
 * and no size. */
#ifndef DSC_PROGRAM_SCHEDULE_H
#define DSC_PROGRAM_SCHEDULE_H

#include "base/status.h"
#include <stdint.h>

/* BACKWARD makes the gradients of inputs and of weights; ZB-H1 makes some of them apart: BACKWARD_X, later
 * BACKWARD_W. */
typedef enum dsc_pass_kind {
    DSC_PASS_FORWARD, DSC_PASS_BACKWARD_X, DSC_PASS_BACKWARD_W, DSC_PASS_BACKWARD
} dsc_pass_kind;

typedef struct dsc_pass { int8_t kind; int32_t micro_batch, chunk; } dsc_pass;

/* The passes of one stage in a step, in order. A chunk c of stage s is virtual stage c * stages + s, and a chunk's
 * backward passes come in the order of its forward passes, so neighbours agree on the order of what they exchange.
 *
 * schedule  DSC_GPIPE, DSC_1F1B, DSC_INTERLEAVED or DSC_ZB_H1
 * chunks    of the stage; more than 1 only where interleaved, which takes micro-batches in groups of `stages`
 * out       the caller frees
 * cost      linear in micro_batches * chunks
 * returns   DSC_OK; DSC_EINVAL with the numbers that disagree; DSC_ENOMEM */
dsc_status dsc_schedule_create(int schedule, int64_t stages, int64_t stage, int64_t micro_batches, int64_t chunks,
                               dsc_pass **out, int64_t *count);

#endif
