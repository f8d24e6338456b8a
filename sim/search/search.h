/* Strategies of a model on a cluster, screened in closed form. Every combination of what is not given is looked at:
 *
 *     tp                 divisors of the model's heads
 *     pp                 1 to what layers, embedding and head can fill
 *     dp                 what is left of the devices, none idle
 *     micro-batch        divisors of global batch / dp
 *     schedule           gpipe, 1f1b, zb-h1, and interleaved by 2 or more chunks a stage, as the layers allow (pp 1:
 *                        1f1b, which all others are then)
 *     ZeRO               0 to 3 (dp 1: 0, which the others are then)
 *     offload            none, optimizer, params
 *     recompute          none, selective, full
 *     sequence parallel  off, on (tp 1: off)
 *
 * The first look takes passes of a family without replicas and the plan's static bytes: lower bounds of time and
 * memory, as far as the closed form is one. Those that may be among the best are scored with a family of their own.
 * What is passed over is illegal, does not fit by its bound, or is slower by its bound than as many as are asked for.
 * The same inputs give the same result. */
#ifndef DSC_SIM_SEARCH_SEARCH_H
#define DSC_SIM_SEARCH_SEARCH_H

#include "sim/search/score.h"

/* Axes that are not searched. The rest of the configuration holds for all. */
typedef struct dsc_given {
    bool tp, pp, dp, micro_batch, virtual_stages, schedule, zero, offload, recompute, sequence_parallel;
} dsc_given;

typedef struct dsc_candidate {
    int32_t tp, pp, dp, micro_batch, micro_batches, virtual_stages;
    int8_t schedule, zero, offload, recompute;
    bool sequence_parallel;
    bool is_scored;                    /* else step_ns and bytes are lower bounds */
    bool is_walked;                    /* where its schedule takes that */
    bool fits;
    int64_t step_ns;
    int64_t bytes[DSC_SPACE_COUNT];    /* of the rank that needs most, libraries included */
} dsc_candidate;

typedef struct dsc_search_counts {
    int64_t considered, legal, fitting, scored, families; /* fitting: by bound or score; families built */
} dsc_search_counts;

typedef struct dsc_search dsc_search;

/* Everything is borrowed until destroy. config's strategy holds the given axes and a global batch; stack is a label or
 * "auto". The first look takes up to `threads` threads; how many does not change what is found. DSC_EINVAL when there
 * is no global batch, or no strategy is legal: what is given and stands in the way is named. */
dsc_status dsc_search_create(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                             const dsc_given *given, const char *stack, const dsc_calibration *calibration,
                             int threads, dsc_search **out);
void dsc_search_destroy(dsc_search *search);

/* Scores what may be among the `count` fastest that fit, walks those whose schedule takes it, and orders: those that
 * fit by step, then by room left in the device's memory, then the others. Of the first `count` that fit all are
 * scored. */
dsc_status dsc_search_rank(dsc_search *search, int64_t count);

/* All that are legal, in that order; before, as they were found. Borrowed. */
const dsc_candidate *dsc_search_candidates(const dsc_search *search, int64_t *count);
dsc_search_counts dsc_search_count(const dsc_search *search);
int64_t dsc_search_capacity(const dsc_search *search, int space); /* bytes of a rank */

/* The configuration of a candidate. Pure. */
dsc_config dsc_search_config(const dsc_search *search, const dsc_candidate *candidate);

/* Scores a candidate by its own family, whatever its bound; passes of interleaved schedules and of ZB-H1 are walked.
 * parts may be NULL. */
dsc_status dsc_search_score(dsc_search *search, dsc_candidate *candidate, dsc_score *parts);

#endif
