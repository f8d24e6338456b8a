/* A trace reduced over its steps: what summaries and comparisons are made of. */
#ifndef DSC_TRACE_PROFILE_H
#define DSC_TRACE_PROFILE_H

#include "trace/trace.h"

/* One op of one rank. `row` is its first step's, for everything but the times. Rows of op -1 (time outside ops) count
 * as one op of their rank, summed over a step. */
typedef struct dsc_profile_op {
    dsc_op_row row;
    int64_t time_ns; /* the median over the steps; a step without a row of op -1 counts as 0 */
} dsc_profile_op;

/* Means over ranks and steps. */
typedef struct dsc_overlap {
    double compute_ns, other_ns; /* some op runs on the compute lane; on another lane */
    double busy_ns;              /* some op runs on any lane: both at once last compute_ns + other_ns - busy_ns */
} dsc_overlap;

/* Steps of one path. The first two of a measurement, in which libraries and caches make themselves ready, are left out
 * where there are more. */
typedef struct dsc_profile {
    const dsc_trace *trace;      /* borrowed as long as the profile lives: names, ranks */
    const char *path;            /* borrowed from the trace */
    int32_t *steps;              /* [step_count], ascending */
    int64_t step_count, other_count; /* of this path, of other paths */
    int64_t step_ns, least_ns, most_ns, tokens; /* median, shortest, longest; tokens of the last step */
    int64_t rank_count;          /* that have rows */
    dsc_profile_op *ops;         /* ascending by (rank, op) */
    int64_t op_count, op_capacity;
    dsc_overlap overlap;
} dsc_profile;

/* path NULL takes the one that most steps took (the earliest of equals). DSC_EINVAL when there is no step of the path,
 * or when its steps do not hold the same ops. *out only on success. */
dsc_status dsc_profile_create(const dsc_trace *trace, const char *path, dsc_profile *out);
void dsc_profile_fini(dsc_profile *profile);

/* Time by lane and kind, a mean over ranks. */
typedef struct dsc_cell {
    int32_t lane, kind;          /* kind DSC_IDLE: what the lane leaves of the step */
    int64_t ops;                 /* of all ranks */
    double time_ns, predicted_ns, flops, bytes; /* predicted_ns NaN: not predicted */
} dsc_cell;

enum { DSC_IDLE = -1 };

/* Sums the profile's ops into cells, ascending by lane, the longest first, with a last one for the compute lane's idle
 * time.
 *
 * predicted_ns       [op_count] the prediction of each op, -1: none; NULL: there is no prediction
 * predicted_step_ns  of which the predicted idle time is what remains
 * out                heap, the caller frees */
dsc_status dsc_cells_create(const dsc_profile *profile, const int64_t *predicted_ns, int64_t predicted_step_ns,
                            dsc_cell **out, int64_t *count);

/* The index of the lane or kind in the trace's names, -1 when it has no such name. Pure. */
int32_t dsc_lane_find(const dsc_trace *trace, const char *name);
int32_t dsc_kind_find(const dsc_trace *trace, const char *name);
const char *dsc_cell_kind(const dsc_trace *trace, const dsc_cell *cell); /* its name, or "(idle)"; borrowed */

#endif
