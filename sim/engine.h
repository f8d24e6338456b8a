/* The parts of a simulation that the event engine (engine.c) and the meetings of ranks for transfers (meeting.c)
 * share. */
#ifndef DSC_SIM_ENGINE_H
#define DSC_SIM_ENGINE_H

#include "sim/agenda.h"
#include "sim/collective.h"
#include "sim/record.h"
#include "sim/timing.h"

enum { DSC_UNFOLDED_RANKS = 64 }; /* at most so many are simulated one by one when rows of replicas are wanted */

/* What ranks of one program share. */
typedef struct dsc_script {
    const dsc_program *program;
    dsc_unfolded segments[DSC_SEGMENT_COUNT];
    int64_t **durations; /* [template][op] of kernels, alone on the device, ns */
    int64_t **launches;  /* [template][op] of what a GPU's host takes to launch them, ns */
} dsc_script;

/* Something that goes on until its event. As a flow it has work left, which shrinks at its present rate. */
typedef struct dsc_activity {
    dsc_event event; /* first, so that an event leads to its activity */
    enum { DSC_RUN, DSC_LATENCY, DSC_TRANSFER, DSC_PAUSE } type; /* of a copy: its latency, then it runs */
    void *owner;     /* rank or meeting */
    int lane;
    int32_t flow;    /* -1: none */
    double left, rate;
    int64_t since_ns;
} dsc_activity;

typedef struct dsc_meeting dsc_meeting;

typedef struct dsc_sim_rank {
    int64_t number, which; /* in the plan; among the simulated */
    const dsc_script *script;
    dsc_demand core;       /* what its kernels take; resource -1 on a GPU */
    dsc_demand mover;      /* the one thread of them that copies take */
    dsc_load copies[2];    /* on a GPU, of a ns of a copy (in, out) by itself; else empty */
    double copy_rate[2];   /* bytes per ns */
    int64_t copy_latency_ns[2];
    int segment;           /* DSC_SEGMENT_END: the step is over */
    int64_t left;          /* instances of the segment that are not over */
    int64_t over[DSC_LANE_COUNT], start_ns[DSC_LANE_COUNT];
    int64_t issued_ns;     /* until when the host has launched the kernels of the compute lane's use that follows */
    int32_t issued_use;
    bool busy[DSC_LANE_COUNT];
    int8_t waits_for[DSC_LANE_COUNT]; /* the lane that the head of this one waits for; -1: for none */
    dsc_activity runs[DSC_LANE_COUNT], pause;
    dsc_meeting *meetings[DSC_AXIS_COUNT]; /* of its groups */
    dsc_meeting *messages; /* those that it sends, one for each receiver */
    dsc_extent *extent;    /* NULL: its rows are not wanted */
    int64_t extent_bytes[DSC_SPACE_COUNT]; /* as last recorded */
    dsc_account account;
} dsc_sim_rank;

/* Where the members of a group come together for a collective, or sender and receiver for a message, each in its lane's
 * order, so that one is under way at most. */
struct dsc_meeting {
    int axis;                        /* pp: messages from members[0] to members[1] */
    int64_t first;                   /* the group's lowest rank, or the sender */
    dsc_sim_rank **members; int64_t member_count, arrived; /* those simulated */
    int64_t size, nodes, replicas;   /* ranks of the group; nodes they are on; groups that this one stands for */
    dsc_setting setting;             /* the same for measurements */
    dsc_expansion *expansions[DSC_MOTION_COUNT]; /* [DSC_ALGORITHM_COUNT] of what the programs want; else NULL */
    dsc_load work;                   /* a measured transfer: a thread on each member's cores */
    dsc_meeting *next;               /* of the sender's messages */
    /* of the transfer under way: */
    dsc_activity transfer;
    const dsc_op *op; int64_t number; /* the first to arrive, and its number in its rank's program */
    dsc_motion motion;
    const dsc_expansion *chosen;     /* NULL: measured */
    int phase;
    bool is_moving;                  /* past the phase's latency */
    int64_t moving_since_ns;
};

typedef struct dsc_engine {
    const dsc_plan *plan;
    dsc_prices *prices;
    bool folded;
    dsc_script *scripts; int64_t script_count;
    dsc_sim_rank *ranks; int64_t rank_count;
    int64_t *which_of;               /* [plan->ranks] simulated rank that stands for it */
    dsc_meeting **member_of;         /* [rank_count] the last meeting of which it was found to be a member */
    dsc_meeting **meetings; int64_t meeting_count, meeting_capacity;
    dsc_activity **by_flow; int64_t by_flow_capacity;
    dsc_links *links;
    dsc_fabric *fabric;
    dsc_agenda agenda;
    dsc_recorder *recorder;
    dsc_outcome outcome;
    int64_t overhead_ns;             /* the host's: of an op without kernels, and between segments */
    int64_t now_ns, end_ns;          /* end: of the last op */
    int64_t wire_bytes, running;     /* of the step: payload so far, ranks that are in it */
} dsc_engine;

/* ---- engine.c */

/* Starts an activity that lasts `ns`, or a flow of so much work (links.h). Its event leads back to its owner. */
dsc_status dsc_activity_delay(dsc_engine *engine, dsc_activity *activity, int64_t ns);
dsc_status dsc_activity_flow(dsc_engine *engine, dsc_activity *activity, double work, const dsc_load *load,
                             double bound, double weight);

/* The op at the head of the rank's lane is over: whatever waited for it may start. */
dsc_status dsc_rank_finish(dsc_engine *engine, dsc_sim_rank *rank, int lane);

/* ---- meeting.c */

/* Makes the meetings of all groups and messages in the ranks' programs. */
dsc_status dsc_meetings_create(dsc_engine *engine);
/* The rank stands at the head of its lane with a collective or a message; the last member to come sets all going. Alone
 * on its axis there is nothing to wait for. */
dsc_status dsc_meeting_arrive(dsc_engine *engine, dsc_sim_rank *rank, int lane, const dsc_op *op);
/* The present part of the transfer is over. */
dsc_status dsc_meeting_go_on(dsc_engine *engine, dsc_meeting *meeting);
void dsc_meeting_destroy(dsc_meeting *meeting); /* takes NULL */

#endif
