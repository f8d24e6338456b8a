/* Where the time of a step goes: one account for each rank. The compute lane is either busy, which counts by kind of
 * op, or idle, which is charged to what the next op of that lane waits for: to its kind of communication while that
 * is on the wire, otherwise to the bubble; to `other` when it waits for the host. So the parts add up to the step,
 * exactly, and communication that computing hides counts nothing. */
#ifndef DSC_SIM_TIMING_H
#define DSC_SIM_TIMING_H

#include "sim/sim.h"

enum { DSC_CAUSE_HOST = -1 }; /* the host's gap between segments, where a lane is taken */

typedef struct dsc_account {
    dsc_timing spent;                     /* step_ns apart, up to idle_since_ns */
    int64_t busy_ns;                      /* of the compute lane */
    int64_t idle_since_ns;
    int64_t wire_ns[DSC_LANE_COUNT];      /* on the wire in all transfers that are over */
    int64_t wire_since_ns[DSC_LANE_COUNT];/* start of the transfer on the wire; -1: none */
    int64_t wire_before_ns[DSC_LANE_COUNT]; /* on the wire until idle_since_ns */
    int axis[DSC_LANE_COUNT];             /* of the lane's last transfer */
} dsc_account;

void dsc_account_begin(dsc_account *account, int64_t now_ns);
/* The compute lane was busy with an op. */
void dsc_account_busy(dsc_account *account, int kind, int64_t start_ns, int64_t end_ns);
/* The compute lane was idle until now, when `cause` (a lane, or DSC_CAUSE_HOST) let it go on. */
void dsc_account_idle(dsc_account *account, int cause, int64_t now_ns);
void dsc_account_wire_begin(dsc_account *account, int lane, int axis, int64_t now_ns);
void dsc_account_wire_end(dsc_account *account, int lane, int64_t now_ns);
/* All ranks are over at end_ns: what this one waited for them is bubble. */
void dsc_account_end(dsc_account *account, int64_t start_ns, int64_t end_ns);

#endif
