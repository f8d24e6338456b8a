/* The closed form: a step's time and memory from the costs of its family, in a few dozen additions. The time is the
 * longest of a few paths through the schedule: up to a stage, its passes one after another there, and back; or to and
 * fro between a stage and the last. It is exact where one of these is the longest of all, as with one stage, or where
 * the last stage is the slowest and messages are short; elsewhere it is a lower bound but for contention, ZB-H1 and
 * interleaving (doc/plan.md says how far off). Sources of the schedules: lib/program/schedule.c. */
#ifndef DSC_SIM_SEARCH_SCORE_H
#define DSC_SIM_SEARCH_SCORE_H

#include "sim/search/family.h"

/* What of a strategy decides beyond its family. messages_ns: one micro-batch's way through all boundaries of stages. */
typedef struct dsc_shape_of_step {
    int64_t layers, pp, virtual_stages, micro_batches;
    int schedule;
    int64_t messages_ns, agree_ns, pause_ns; /* pause: between segments */
} dsc_shape_of_step;

/* Nanoseconds of the step; of it: passes of the busiest stage, what that stage waits in the pipeline, what is left when
 * the passes are over until ranks have agreed, and the update. */
typedef struct dsc_score { int64_t step_ns, passes_ns, bubble_ns, rest_ns, update_ns; } dsc_score;

/* Pure. */
dsc_score dsc_score_time(const dsc_costs *costs, const dsc_shape_of_step *shape);

/* The same where the passes of all stages are known to take so long together. Pure. */
dsc_score dsc_score_of(const dsc_costs *costs, const dsc_shape_of_step *shape, int64_t passes_ns);

/* A quantity of one chunk of a stage. Pure. */
int64_t dsc_score_chunk(const dsc_costs *costs, const dsc_shape_of_step *shape, int quantity, int64_t stage,
                        int64_t chunk);

/* The passes alone: no step of the family takes less. Pure. */
int64_t dsc_score_bound(const dsc_costs *costs, const dsc_shape_of_step *shape);

/* Bytes of the arena of the stage that has most in a space. Of ZB-H1's in-flight passes an upper bound. Pure. */
int64_t dsc_score_bytes(const dsc_costs *costs, const dsc_shape_of_step *shape, int space);

#endif
