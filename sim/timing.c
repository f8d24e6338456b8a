#include "sim/timing.h"

/* Time on the wire in a lane since the step began. */
static int64_t wire_until(const dsc_account *account, int lane, int64_t now_ns)
{
    int64_t since = account->wire_since_ns[lane];

    return account->wire_ns[lane] + (since < 0 ? 0 : now_ns - since);
}

static void idle_from(dsc_account *account, int64_t now_ns)
{
    account->idle_since_ns = now_ns;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) account->wire_before_ns[lane] = wire_until(account, lane, now_ns);
}

void dsc_account_begin(dsc_account *account, int64_t now_ns)
{
    *account = (dsc_account){0};
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) account->wire_since_ns[lane] = -1;
    idle_from(account, now_ns);
}

void dsc_account_busy(dsc_account *account, int kind, int64_t start_ns, int64_t end_ns)
{
    bool is_optimizer = kind == DSC_OP_GRAD_NORM || kind == DSC_OP_UPDATE;

    *(is_optimizer ? &account->spent.optimizer_ns : &account->spent.compute_ns) += end_ns - start_ns;
    account->busy_ns += end_ns - start_ns;
    idle_from(account, end_ns);
}

/* The world's few scalars go with the data-parallel collectives, context parallelism with the tensor-parallel ones. */
static int64_t *wire_entry(dsc_timing *spent, int axis)
{
    switch (axis) {
    case DSC_AXIS_TP:
    case DSC_AXIS_CP: return &spent->tp_comm_ns;
    case DSC_AXIS_PP: return &spent->pp_comm_ns;
    default: return &spent->dp_comm_ns;
    }
}

void dsc_account_idle(dsc_account *account, int cause, int64_t now_ns)
{
    int64_t idle = now_ns - account->idle_since_ns, wire;

    if (cause == DSC_CAUSE_HOST || cause == DSC_LANE_HOST) {
        account->spent.other_ns += idle;
    } else {
        wire = wire_until(account, cause, now_ns) - account->wire_before_ns[cause];
        *wire_entry(&account->spent, account->axis[cause]) += wire;
        account->spent.bubble_ns += idle - wire;
    }
    idle_from(account, now_ns);
}

void dsc_account_wire_begin(dsc_account *account, int lane, int axis, int64_t now_ns)
{
    account->wire_since_ns[lane] = now_ns;
    account->axis[lane] = axis;
}

void dsc_account_wire_end(dsc_account *account, int lane, int64_t now_ns)
{
    account->wire_ns[lane] = wire_until(account, lane, now_ns);
    account->wire_since_ns[lane] = -1;
}

void dsc_account_end(dsc_account *account, int64_t start_ns, int64_t end_ns)
{
    account->spent.bubble_ns += end_ns - account->idle_since_ns;
    account->idle_since_ns = end_ns;
    account->spent.step_ns = end_ns - start_ns;
}
