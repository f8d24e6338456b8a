/* The rows of a predicted trace. A simulated rank's rows are written for each traced rank that it stands for,
 * renamed. */
#ifndef DSC_SIM_RECORD_H
#define DSC_SIM_RECORD_H

#include "sim/fabric.h"
#include "sim/sim.h"

typedef struct dsc_recorder dsc_recorder;

/* All borrowed until destroy. simulated[0..count): the ranks that are simulated; folded: others are stood for by their
 * representatives. trace NULL: records nothing. */
dsc_status dsc_recorder_create(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_fabric *fabric,
                               const dsc_sim_options *options, const int64_t *simulated, int64_t count, bool folded,
                               const dsc_program *const *programs, dsc_trace *trace, dsc_recorder **out);
void dsc_recorder_destroy(dsc_recorder *recorder); /* takes NULL */

/* Whether rows of simulated rank number `which` are written. */
bool dsc_recorder_wants(const dsc_recorder *recorder, int64_t which);

/* The rows that follow are of that step, 1, 2, ... */
void dsc_record_step_begin(dsc_recorder *recorder, int32_t step);
dsc_status dsc_record_step_end(dsc_recorder *recorder, const char *path, int64_t start_ns, int64_t end_ns,
                               int64_t wire_bytes);

/* An op of simulated rank number `which`, of a use. */
dsc_status dsc_record_op(dsc_recorder *recorder, int64_t which, const dsc_use *use, int32_t index, const dsc_op *op,
                         int64_t start_ns, int64_t end_ns);
dsc_status dsc_record_memory(dsc_recorder *recorder, int64_t which, int space, int64_t now_ns, int64_t bytes);

/* A flow of `bytes` (of which each link takes its amount) that is over; resources that are no links are passed by.
 * Written where any rank's rows are. */
dsc_status dsc_record_flow(dsc_recorder *recorder, const dsc_load *load, double bytes, int64_t start_ns,
                           int64_t end_ns);

#endif
