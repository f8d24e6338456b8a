/* What changes from step to step. Kernels read it from here, never from a call's arguments, so that a segment of the
 * program can be captured once and replayed. The host fills it between segments. */
#ifndef DSC_KERNEL_STEP_H
#define DSC_KERNEL_STEP_H

#include <stdint.h>

/* How LAMB's steps are bounded; DeepSpeed's names. */
typedef struct dsc_trust {
    double max_coeff, min_coeff;          /* of the ratio of a tensor's norm to its update's */
    double coeff_beta;                    /* decay of that ratio's mean */
    double factor_max, factor_min;        /* of what compressed steps multiply the mean by */
    double factor_threshold;              /* by how much of itself that changes in a step at most */
} dsc_trust;

typedef struct dsc_step {
    int64_t number;            /* 1, 2, ... from the start of training */
    int64_t optimizer_step;    /* the same less skipped steps; Adam's t */
    double lr, beta1, beta2, eps, weight_decay;
    double bias_correction1;   /* 1 - beta1^t */
    double bias_correction2;   /* 1 / sqrt(1 - beta2^t) */
    double fresh_correction2;  /* the same of a variance that moves in every step, where another is frozen */
    dsc_trust trust;
    double rates;              /* sum of lr over the steps since replicas' weights were last the same */
    double loss_scale;
    float loss_gradient;       /* loss_scale / (tokens of the global batch): gradient of the scaled mean loss */
    float gradient_scale;      /* what the update multiplies gradients by: clip factor / loss_scale */
    int64_t first_sample;      /* of the global batch in the sampler's order */
    int64_t tp_index;          /* this rank's place in its tensor group: what differs between ranks of one program */
} dsc_step;

#endif
