/* What the executor's files share. Internal to lib/exec. */
#ifndef DSC_EXEC_INTERNAL_H
#define DSC_EXEC_INTERNAL_H

#include "device/device.h"
#include "exec/run.h"
#include <pthread.h>
#include <stdatomic.h>

/* An op starts or ends. */
typedef struct exec_moment { int64_t t_ns; const dsc_op_row *row; bool is_start; } exec_moment;

/* The ops of a lane, in a segment, that others wait for, and its last: by their places in the lane, in order. */
typedef struct exec_marks { int32_t *places; int64_t count; } exec_marks;

/* A lane in a segment under way. What is atomic is read by every thread, the rest by the lane's own. An op of a lane
 * with a queue is handed to the device, and over when the device says so; others are handed over when they are over. */
typedef struct exec_lane {
    atomic_int handed;        /* instances that are over or in the queue */
    atomic_int done;          /* instances that are over */
    dsc_queue *queue;         /* NULL: none */
    exec_marks marks[DSC_SEGMENT_COUNT];
    dsc_event **events; int64_t event_count;  /* of the marks, in order */
    int64_t recorded;         /* events of this segment so far */
    int64_t polled;           /* and those that were found over: whoever moves lanes */
    dsc_event **times; int64_t time_count;    /* of a traced segment's rows: start and end */
    int64_t first_row;        /* the traced segment's */
    int64_t t_ready_ns;       /* messages and copies: when the head was ready to start */
    bool is_under_way;        /* the head was started, and is not over */
    dsc_request request;      /* a message's */
    int64_t copied;           /* bytes of a copy that are there */
    dsc_op_row *rows; int64_t row_count, row_capacity;
} exec_lane;

/* A thread that does its part of each segment. */
typedef struct exec_worker {
    dsc_run *run;
    dsc_status (*work)(dsc_run *run);
    pthread_t thread;
    bool is_there;
    int segment;                        /* under the run's mutex: to run, -1 none, -2 end */
} exec_worker;

/* A segment that the device does by itself: what its queues were given, once, and what of that were copies. */
typedef struct exec_graph { dsc_graph *graph; int64_t copied_bytes[2]; } exec_graph;

struct dsc_run {
    dsc_run_options o;
    int64_t rank, dp_index, tp_index;
    int64_t place;                      /* of its ranges in spans of parts */
    dsc_arena arenas[DSC_SPACE_COUNT];
    dsc_group *groups[DSC_AXIS_COUNT];  /* NULL where the rank is alone */
    dsc_unfolded unfolded[DSC_SEGMENT_COUNT];
    dsc_step step;
    const dsc_step *device_step;        /* where the device's kernels read it */
    dsc_arena constants[2];             /* of a device with queues: the step in either memory, then, in the host's, room
                                           for the tokens of a segment's ops load */
    int64_t load_bytes;                 /* of one's tokens */
    dsc_step own, pending;              /* whose update scalars are this step's, and those of an update put off */
    bool is_pending;
    dsc_scaler scaler;
    dsc_freezer freezer;
    dsc_intervals intervals;
    double rates;                       /* of replicas' own steps since they last met */
    int64_t optimizer_step, samples_seen; /* updates, and sequences, so far */
    int64_t frozen_updates;             /* updates that left the variance as it was */

    exec_lane lanes[DSC_LANE_COUNT];
    int segment;                        /* under way */
    bool is_traced;                     /* the step under way */
    exec_graph graphs[DSC_SEGMENT_COUNT];
    dsc_event *fork, *joins[DSC_LANE_COUNT]; /* of queues beside compute's, where a graph begins and ends */
    bool is_noted;                      /* what queues are given now is for a graph */
    dsc_event *anchor;                  /* of a traced segment: when the host's clock was anchor_ns, but for */
    int64_t anchor_ns, uncertainty_ns;
    int64_t traced_bytes[DSC_SPACE_COUNT]; /* of the last memory row; -1: there is none */
    exec_moment *moments; int64_t moment_capacity; /* room for those of a traced step */
    dsc_extent *extent;                 /* by the addresses that were handed out */
    bool is_handed[DSC_SEGMENT_COUNT];  /* all of the segment's addresses were noted */
    atomic_llong peaks[DSC_SPACE_COUNT];
    atomic_llong copied_bytes[2];       /* into the device's memory, out of it */

    /* Compute runs in the caller's thread, the host's lane in a worker's, all other lanes in the mover's, or, while the
     * caller waits, in the caller's. */
    exec_worker mover, host;
    int threads;                        /* of kernels */
    pthread_mutex_t moving;             /* held by who moves lanes and calls comm */
    atomic_bool caller_moves;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    atomic_int waiters, progress;       /* threads in a wait; ops that are over */
    atomic_bool has_failed;
    dsc_status status;                  /* under mutex: the first failure here */
    char message[4096];
};

/* ---- lanes.c */
dsc_status exec_lanes_create(dsc_run *run);
void exec_lanes_destroy(dsc_run *run);
/* Runs a segment to its end on all threads. */
dsc_status exec_run_segment(dsc_run *run, int segment);
/* Hands all ops of the segment over, or runs them, and moves what others do not. */
void exec_hand_over(dsc_run *run);
/* Notes the calling thread's failure, if it is the first, and tells the other ranks. */
void exec_fail(dsc_run *run, dsc_status status);

/* Another op is over, or one more was handed over: those who wait look again. */
void exec_progressed(dsc_run *run);

/* ---- queue.c: lanes that are queues of the device */

dsc_status exec_queues_create(dsc_run *run);
void exec_queues_destroy(dsc_run *run);
/* Room for the times of a traced step's ops. */
dsc_status exec_queues_trace(dsc_run *run);
dsc_status exec_queues_begin(dsc_run *run);
/* Before and behind what an op gives to its lane's queue: the queue waits for what others are to have done; who waits
 * for the op will find when it is over. */
dsc_status exec_queue_before(dsc_run *run, exec_lane *lane, const dsc_instance *instance);
dsc_status exec_queue_behind(dsc_run *run, exec_lane *lane);
/* Where in the host's memory the tokens of the segment's so-manieth op load wait to be copied. */
void *exec_load_place(dsc_run *run, int64_t index);
/* Finds what is over. Only whoever moves lanes. */
dsc_status exec_queues_poll(dsc_run *run, bool *has_moved);
/* Waits until all that was handed over is done; the times of traced rows are then known. */
dsc_status exec_queues_end(dsc_run *run);

/* ---- graph.c: segments whose ops are all the device's */

dsc_status exec_graphs_create(dsc_run *run);
void exec_graphs_destroy(dsc_run *run);
/* Whether this run of the segment can be one launch. */
bool exec_graph_serves(const dsc_run *run);
/* Launches the segment, which is noted before, the first time. */
dsc_status exec_graph_run(dsc_run *run);

/* ---- op.c */

/* Reads the tokens of an op load to where they wait to be copied. */
dsc_status exec_read_tokens(dsc_run *run, const dsc_use *use, const dsc_op *op, void *place);
/* Performs an op of kernels, or hands it to the lane's queue; starts a message or, without a queue, a copy, which
 * exec_go_on is then to end. */
dsc_status exec_op(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op);
/* Moves a message or a copy on; a copy by a piece, so that those who move lanes can look after the others. */
dsc_status exec_go_on(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op, bool *is_over);
void *exec_address(dsc_run *run, dsc_span span, const dsc_use *use); /* NULL for an absent span; use NULL: static */
/* Whether the device alone can touch what the span is in. */
bool exec_is_away(const dsc_run *run, dsc_span span);
bool exec_is_omitted(const dsc_run *run, const dsc_use *use, int32_t index);
/* In place of an op that is left out: what it alone would have written in transient buffers, where something else, or
 * the same of an earlier pass, may lie, becomes what no number is. */
dsc_status exec_omit(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op);

/* ---- state.c */
/* The first to touch what the host updates are the threads that will do so, each its own: their pages come from
 * there. */
void exec_touch_host(dsc_run *run);

/* ---- record.c */
/* Adds a row to the lane, when the step is traced. */
dsc_status exec_record(dsc_run *run, exec_lane *lane, dsc_instance instance, const dsc_op *op, int64_t t_start_ns,
                       int64_t bytes, int64_t flops);
/* Collects the rows of all lanes, gaps and memory into rows. */
dsc_status exec_collect(dsc_run *run, int64_t t_start_ns, int64_t t_end_ns, dsc_trace *rows);
/* Under ASan: what lives or ends with this op may, or may not, be touched. Of a device without queues: with them nobody
 * here knows when an op is run. */
void exec_poison_segment(dsc_run *run);
void exec_poison_op(dsc_run *run, const dsc_use *use, int32_t index, bool is_start);

#endif
