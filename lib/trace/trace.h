/* Event rows in memory, as the trace files hold them: predicted and measured alike. Names of kinds, lanes, spaces,
 * groups come from whoever writes; this module knows rows, not programs. */
#ifndef DSC_TRACE_TRACE_H
#define DSC_TRACE_TRACE_H

#include "base/text.h"

/* -1 is "not applicable". Times are integer nanoseconds since the run's start on rank 0's clock. */
typedef struct dsc_op_row {
    int32_t step, rank, op, lane, kind, layer, micro_batch, chunk, group;
    int64_t t_start_ns, t_end_ns, bytes, flops;
} dsc_op_row;

typedef struct dsc_memory_row { int32_t step, rank, space; int64_t t_ns, bytes; } dsc_memory_row;

typedef struct dsc_step_row {
    int32_t step;
    char path[64];
    double loss, lr, grad_norm; /* NaN: unknown */
    int64_t tokens, t_start_ns, t_end_ns, wire_bytes;
} dsc_step_row;

typedef struct dsc_link_row { int32_t link; int64_t t_start_ns, t_end_ns, bytes; } dsc_link_row;
typedef struct dsc_group_row { int32_t group, axis, rank; } dsc_group_row;
typedef struct dsc_rank_row { int32_t rank, representative; } dsc_rank_row;

/* Everything a trace file says once. Strings and lists are owned by the trace. */
typedef struct dsc_trace_head {
    bool is_measured;
    char created[32];          /* ISO 8601; empty in a prediction */
    char dsc_version[32], program_hash[40], plan_hash[40];
    char *config, *cluster, *model;  /* JSON texts */
    char **kinds; int64_t kind_count;
    char **lanes; int64_t lane_count;
    char **spaces; int64_t space_count;
    char **axes; int64_t axis_count;
    char **links; int64_t link_count;
    int64_t clock_uncertainty_ns;
} dsc_trace_head;

typedef struct dsc_trace {
    dsc_trace_head head;
    dsc_op_row *ops; int64_t op_count, op_capacity;
    dsc_memory_row *memory; int64_t memory_count, memory_capacity;
    dsc_step_row *steps; int64_t step_count, step_capacity;
    dsc_link_row *link_rows; int64_t link_row_count, link_row_capacity;
    dsc_group_row *groups; int64_t group_count, group_capacity;
    dsc_rank_row *ranks; int64_t rank_count, rank_capacity;
} dsc_trace;

void dsc_trace_init(dsc_trace *out);          /* all empty */
void dsc_trace_fini(dsc_trace *trace);        /* frees rows and head */
/* Copies a NULL-terminated list of names into *list. */
dsc_status dsc_names_copy(const char *const *names, char ***list, int64_t *count);

/* ---- Reading traces for people (dsc-trace). Codes must index the head's lists, as dsc_trace_load makes sure. */

/* Of the steps of the path that most steps took (the first two of a measurement left out where there are more): the
 * median step, time by lane and kind as a mean over ranks, overlap, idle time, the slowest ops, peaks of memory. */
dsc_status dsc_trace_summary(const dsc_trace *trace, dsc_text *out);
dsc_status dsc_trace_summary_json(const dsc_trace *trace, dsc_text *out);

/* Joins on (path, rank, op), the measured side being the median over its steps after the first two (all when fewer than
 * three) of the path that most of them took; a rank that a folded prediction does not hold joins its representative.
 * Prints at most 40 lines: times by lane and kind, then the ops that differ most. *relative is
 * |predicted - measured| / measured of the median step. DSC_EINVAL when the programs' hashes or the rows do not join;
 * the text says which. */
dsc_status dsc_trace_diff(const dsc_trace *predicted, const dsc_trace *measured, dsc_text *out, double *relative);
dsc_status dsc_trace_diff_json(const dsc_trace *predicted, const dsc_trace *measured, dsc_text *out, double *relative);

/* Chrome/Perfetto JSON ("traceEvents": complete events, pid = rank, tid = lane; counters for memory; a last pid holds
 * steps and links), and CSV of the ops table, codes as names. */
dsc_status dsc_trace_export_json(const dsc_trace *trace, dsc_text *out);
dsc_status dsc_trace_export_csv(const dsc_trace *trace, dsc_text *out);

#endif
