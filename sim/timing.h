/* Where the time of a step goes: one account for each rank. The compute lane is either busy, which counts by kind of
 * op, or idle, which is charged to what its next op waits for: an op of another lane, and before that was ready, what
 * that op waited for in its turn. While one of these is on the wire its kind of communication is charged, `offload`
 * while it copies to or from the host's memory or works there, `other` between segments and for tokens, and the bubble
 * where a partner is not there yet. So the parts add up to the step, exactly, and what computing hides counts
 * nothing. */
#ifndef DSC_SIM_TIMING_H
#define DSC_SIM_TIMING_H

#include "sim/sim.h"

enum {
    DSC_CAUSE_HOST = -1,  /* the host's gap between segments, where a lane is taken */
    DSC_WIRE_TO_HOST = -1 /* what copies and the host's lane are on, where an axis is taken */
};

typedef enum dsc_cause {
    DSC_FOR_TP, DSC_FOR_PP, DSC_FOR_DP, DSC_FOR_OFFLOAD, DSC_FOR_HOST, DSC_FOR_PARTNERS, DSC_CAUSE_COUNT
} dsc_cause;

/* The last op that a lane began. */
typedef struct dsc_wait_for {
    int64_t start_ns, wire_ns;       /* wire_ns INT64_MAX: not on the wire */
    dsc_cause cause;                 /* of time on the wire */
    int64_t before[DSC_CAUSE_COUNT]; /* the compute lane's idle time until start_ns, by cause */
} dsc_wait_for;

typedef struct dsc_account {
    dsc_timing spent;                /* step_ns apart, up to idle_since_ns */
    int64_t busy_ns;                 /* of the compute lane */
    int64_t idle_since_ns;           /* INT64_MAX: it is busy */
    dsc_wait_for last[DSC_LANE_COUNT];
} dsc_account;

void dsc_account_begin(dsc_account *account, int64_t now_ns);
/* An op is ready at the head of a lane: `cause` (a lane, or DSC_CAUSE_HOST) has let it go on. On the compute lane it
 * ends idle time. */
void dsc_account_start(dsc_account *account, int lane, int cause, int64_t now_ns);
/* The lane's op goes on the wire; its end is when it lets others go on. */
void dsc_account_wire(dsc_account *account, int lane, int axis, int64_t now_ns);
/* The compute lane's op is over. */
void dsc_account_busy(dsc_account *account, int kind, int64_t start_ns, int64_t end_ns);
/* The segment is over, of which `cause` was the last. */
void dsc_account_idle(dsc_account *account, int cause, int64_t now_ns);
/* All ranks are over at end_ns: what this one waited for them is bubble. */
void dsc_account_end(dsc_account *account, int64_t start_ns, int64_t end_ns);

#endif
