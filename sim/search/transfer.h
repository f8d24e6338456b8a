/* What messages and collectives of a strategy take with no other flow about: the same expansions on the same topology
 * as the event engine's, each made once for all strategies whose groups lie alike. */
#ifndef DSC_SIM_SEARCH_TRANSFER_H
#define DSC_SIM_SEARCH_TRANSFER_H

#include "sim/sim.h"

typedef struct dsc_transfers dsc_transfers;

/* For `ranks` ranks on the first devices of the cluster. cluster, stack and calibration (may be NULL) are borrowed
 * until destroy, which takes NULL. */
dsc_status dsc_transfers_create(const dsc_cluster *cluster, const dsc_stack *stack, const dsc_calibration *calibration,
                                int64_t ranks, dsc_transfers **out);
void dsc_transfers_destroy(dsc_transfers *transfers);

/* Nanoseconds of a collective of that kind and payload over the group of stage 0's first rank on the axis; of the plan
 * only the grid is read (dsc_plan_outline). 0 where the group has one member. All groups that run it by symmetry run at
 * once; of a machine of many ranks whose tiers are not oversubscribed those on one node stand for all. DSC_EINVAL when
 * the cluster describes no way between members. */
dsc_status dsc_transfer_ns(dsc_transfers *transfers, const dsc_plan *plan, int kind, int axis, int64_t bytes,
                           int64_t *out);

/* A message from the stage to the next, the last one's going to the first. */
dsc_status dsc_transfer_message_ns(dsc_transfers *transfers, const dsc_plan *plan, int64_t stage, int64_t bytes,
                                   int64_t *out);

/* How many times its price a copy between device and host takes while all ranks of stage 0 on a node copy that way. */
dsc_status dsc_transfer_copy_pace(dsc_transfers *transfers, const dsc_plan *plan, bool is_out, double *out);

/* Whether that message leaves its node. Pure. */
bool dsc_transfer_leaves_node(const dsc_transfers *transfers, const dsc_plan *plan, int64_t stage);

#endif
