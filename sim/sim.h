/* The interpreter that predicts: events over the same program that the executor runs, prices for its calls, links
 * shared by max-min fairness. Integer nanoseconds; ties broken by (time, rank, op): the same inputs give the same
 * bytes. It never includes the executor, and never reads a clock. */
#ifndef DSC_SIM_SIM_H
#define DSC_SIM_SIM_H

#include "program/program.h"
#include "sim/stack.h"
#include "trace/calibration.h"
#include "trace/trace.h"

/* ---- Prices (sim/price.c): measured on the machine, else a preset's table, else first principles */

typedef struct dsc_prices dsc_prices;

/* For ranks of `plan` on `cluster`; calibration may be NULL, and so may the software (sim/stack.h): it is ours then.
 * All are borrowed until destroy. DSC_EINVAL when the calibration is of another kind of machine than the cluster. */
dsc_status dsc_prices_create(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_calibration *calibration,
                             const dsc_stack *stack, dsc_prices **out);
void dsc_prices_destroy(dsc_prices *prices);
/* Nanoseconds of one kernel call on a rank's device, and of what the executor spends on an op beside its calls. */
int64_t dsc_price_call(dsc_prices *prices, const dsc_shape *shape);
int64_t dsc_price_op_overhead(const dsc_prices *prices);
/* What a GPU's host spends on launching the call: it goes ahead of the GPU, which waits where it is behind. */
int64_t dsc_price_launch(dsc_prices *prices, const dsc_shape *shape);
/* The same call on what is in host memory, by the rank's share of the node's host; and a copy of so many bytes between
 * the memories of device and host, while nothing else is copied that way. */
int64_t dsc_price_host_call(dsc_prices *prices, const dsc_shape *shape);
int64_t dsc_price_copy(const dsc_prices *prices, bool is_out, int64_t bytes);
/* Where the price of that shape came from: "measured", "interpolated", "preset", "first principles"; "host memory" for
 * a call of dsc_price_host_call beside a GPU. */
const char *dsc_price_source(dsc_prices *prices, const dsc_shape *shape);
const char *dsc_price_host_source(dsc_prices *prices, const dsc_shape *shape);

/* ---- The event engine (sim/engine.c) */

/* Seconds of the critical rank (most busy compute time, the lowest such rank), exposed; they sum to step. */
typedef struct dsc_timing {
    int64_t step_ns, compute_ns, tp_comm_ns, pp_comm_ns, dp_comm_ns, bubble_ns, offload_ns, optimizer_ns, other_ns;
} dsc_timing;

typedef enum dsc_trace_ranks { DSC_RANKS_FOLDED, DSC_RANKS_ALL, DSC_RANKS_LIST } dsc_trace_ranks;

typedef struct dsc_sim_options {
    dsc_trace_ranks ranks;
    const int64_t *list; int64_t list_count;  /* for DSC_RANKS_LIST */
    bool evaluates;                           /* the run evaluates now and then: its paths too */
} dsc_sim_options;

/* Simulates one step of each path that the run takes (fp16 also the skipped one; delayed updates also those before and
 * after), the one taken most often first, programs[rank] as in dsc_program_check. timing is of that one. trace (may be
 * NULL) receives rows and head for `options`: ops, memory, steps, links, groups, ranks; config, cluster, model JSON
 * included. wire_bytes is of one step by the rules of doc/comm.md. */
dsc_status dsc_simulate(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *const *programs,
                        dsc_prices *prices, const dsc_sim_options *options, dsc_timing *timing, int64_t *wire_bytes,
                        dsc_trace *trace);

#endif
