#include "sim/timing.h"
#include <string.h>

/* The world's few scalars go with the data-parallel collectives, context parallelism with the tensor-parallel ones, the
 * embedding that two stages share with the pipeline's messages. */
static dsc_cause cause_of(int axis)
{
    switch (axis) {
    case DSC_WIRE_TO_HOST: return DSC_FOR_OFFLOAD;
    case DSC_AXIS_TP:
    case DSC_AXIS_CP: return DSC_FOR_TP;
    case DSC_AXIS_PP:
    case DSC_AXIS_TIED: return DSC_FOR_PP;
    default: return DSC_FOR_DP;
    }
}

/* The compute lane's idle time until now, when lane `cause` (or the host) is over with what it did. */
static void split_idle(const dsc_account *account, int cause, int64_t now_ns, int64_t out[DSC_CAUSE_COUNT])
{
    int64_t since = account->idle_since_ns, wire;
    const dsc_wait_for *last;

    memset(out, 0, DSC_CAUSE_COUNT * sizeof *out);
    if (now_ns <= since) return;
    if (cause == DSC_CAUSE_HOST) {
        out[DSC_FOR_HOST] = now_ns - since;
        return;
    }
    last = &account->last[cause];
    if (last->start_ns > since) {
        memcpy(out, last->before, sizeof last->before);
        since = last->start_ns;
    }
    wire = DSC_MAX(now_ns - DSC_MAX(since, last->wire_ns), 0);
    out[cause == DSC_LANE_LOAD ? DSC_FOR_HOST : DSC_FOR_PARTNERS] += now_ns - since - wire;
    out[last->cause] += wire;
}

static void charge(dsc_timing *spent, const int64_t idle[DSC_CAUSE_COUNT])
{
    spent->tp_comm_ns += idle[DSC_FOR_TP];
    spent->pp_comm_ns += idle[DSC_FOR_PP];
    spent->dp_comm_ns += idle[DSC_FOR_DP];
    spent->offload_ns += idle[DSC_FOR_OFFLOAD];
    spent->other_ns += idle[DSC_FOR_HOST];
    spent->bubble_ns += idle[DSC_FOR_PARTNERS];
}

void dsc_account_begin(dsc_account *account, int64_t now_ns)
{
    *account = (dsc_account){.idle_since_ns = now_ns};
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) account->last[lane].wire_ns = INT64_MAX;
}

void dsc_account_idle(dsc_account *account, int cause, int64_t now_ns)
{
    int64_t idle[DSC_CAUSE_COUNT];

    split_idle(account, cause, now_ns, idle);
    charge(&account->spent, idle);
    account->idle_since_ns = now_ns;
}

void dsc_account_start(dsc_account *account, int lane, int cause, int64_t now_ns)
{
    dsc_wait_for *last = &account->last[lane];
    int64_t idle[DSC_CAUSE_COUNT];

    split_idle(account, cause, now_ns, idle);
    *last = (dsc_wait_for){.start_ns = now_ns, .wire_ns = INT64_MAX};
    memcpy(last->before, idle, sizeof last->before);
    if (lane != DSC_LANE_COMPUTE) return;
    charge(&account->spent, idle);
    account->idle_since_ns = INT64_MAX;
}

void dsc_account_wire(dsc_account *account, int lane, int axis, int64_t now_ns)
{
    account->last[lane].wire_ns = now_ns;
    account->last[lane].cause = cause_of(axis);
}

/* What becomes of gradients that passes have made, up to the weights of the next. */
static bool is_optimizer(int kind)
{
    switch (kind) {
    case DSC_OP_ACCUMULATE: case DSC_OP_GRAD_NORM: case DSC_OP_VARIANCE_NORM: case DSC_OP_COMPRESS:
    case DSC_OP_AVERAGE: case DSC_OP_WEIGH: case DSC_OP_ANCHOR: case DSC_OP_WIDEN: case DSC_OP_UPDATE:
    case DSC_OP_ROUND: return true;
    default: return false;
    }
}

void dsc_account_busy(dsc_account *account, int kind, int64_t start_ns, int64_t end_ns)
{
    *(is_optimizer(kind) ? &account->spent.optimizer_ns : &account->spent.compute_ns) += end_ns - start_ns;
    account->busy_ns += end_ns - start_ns;
    account->idle_since_ns = end_ns;
}

void dsc_account_end(dsc_account *account, int64_t start_ns, int64_t end_ns)
{
    account->spent.bubble_ns += end_ns - account->idle_since_ns;
    account->idle_since_ns = end_ns;
    account->spent.step_ns = end_ns - start_ns;
}
