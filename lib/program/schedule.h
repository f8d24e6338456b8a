/* In which order a stage of the pipeline passes over micro-batches: pure arithmetic, which builders turn into uses. */
#ifndef DSC_PROGRAM_SCHEDULE_H
#define DSC_PROGRAM_SCHEDULE_H

#include "config/config.h"

typedef enum dsc_pass_kind {
    DSC_PASS_FORWARD,
    DSC_PASS_BACKWARD_X, /* gradients of the inputs alone */
    DSC_PASS_BACKWARD_W, /* gradients of the weights, which such a pass has left */
    DSC_PASS_BACKWARD    /* both */
} dsc_pass_kind;

typedef struct dsc_pass { int8_t kind; int32_t micro_batch, chunk; } dsc_pass;

/* The passes of `stage` of `stages` in a step, in order; the caller frees *out. Sources:
 *
 *  gpipe        all forwards, then all backwards (Huang et al. 2019)
 *  1f1b         min(stages - stage - 1, m) forwards, then one forward and one backward in turn (Narayanan et al. 2019)
 *  interleaved  the same over virtual stages, micro-batches in groups of `stages`; m is a multiple of stages
 *               (Narayanan et al. 2021, section 2.2)
 *  zb-h1        1f1b, of which some backwards are split so that weights' gradients fill the bubble at the end
 *               (Qi et al. 2023)
 *
 * chunks is 1 but for interleaved. DSC_ENOMEM. */
dsc_status dsc_schedule_create(dsc_schedule schedule, int64_t stages, int64_t stage, int64_t micro_batches,
                               int64_t chunks, dsc_pass **out, int64_t *count);

#endif
