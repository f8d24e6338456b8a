/* The interpreter that runs: it steps a rank's program over real buffers, kernels and messages. It knows no schedule
 * and no layout: what the program omits does not happen, and what it reports was measured here, not read in the
 * plan. */
#ifndef DSC_EXEC_RUN_H
#define DSC_EXEC_RUN_H

#include "comm/comm.h"
#include "data/data.h"
#include "device/device.h"
#include "kernel/step.h"
#include "program/program.h"
#include "trace/trace.h"
#include <stdatomic.h>

/* Where a phase's tokens come from; source NULL: there is none. Borrowed. */
typedef struct dsc_feed { const dsc_source *source; dsc_sampler sampler; } dsc_feed;

typedef struct dsc_run_options {
    const dsc_plan *plan;
    const dsc_program *program;     /* this rank's */
    dsc_comm *comm;
    dsc_device *device;
    const dsc_kernel_set *kernels;      /* the device's, */
    const dsc_kernel_set *host_kernels; /* and of what the host computes beside it */
    dsc_feed train, evaluation;
    int64_t omitted;                /* number of an op that is left out; -1: none */
    int64_t failing;                /* for tests: number of an op that fails as if memory were out; -1: none */
    int64_t fake_compute_ns;        /* for tests of schedules: > 0: kernels are not run; ops with products of a layer
                                       sleep so long, others take no time */
    const atomic_int *stop;       /* set by a signal handler: finish the step, then stop; may be NULL */
} dsc_run_options;

typedef struct dsc_run dsc_run;

/* Maps the arenas, makes groups, kernels and threads ready. Collective over the job: where one rank fails, all return
 * its status and message. Pointers in options are borrowed until destroy. */
dsc_status dsc_run_create(const dsc_run_options *options, dsc_run **out);
/* Takes NULL. After a failed step arenas and groups stay until the process ends: messages may be under way in them. */
void dsc_run_destroy(dsc_run *run);

/* Initial weights of what this rank updates; a function of the seed and of each tensor's name alone, whatever the
 * layout. */
dsc_status dsc_run_init_weights(dsc_run *run);
/* Brings weights that were set, by the above or by pieces, to where the passes look for them. Collective over the job,
 * and to be called once all ranks have set theirs; fails as a step does. */
dsc_status dsc_run_spread(dsc_run *run);

/* What a step did. Sums are over all ranks, and equal on all of them, where nothing else is said. */
typedef struct dsc_step_report {
    int64_t step, tokens;
    double loss;             /* mean over the global batch, nats a token, of the weights before the update */
    double evaluation_loss;  /* NaN: not evaluated */
    double grad_norm;        /* before clipping; -1 after an overflow */
    double lr, loss_scale;   /* that the update used, or would have */
    bool is_skipped, is_stopping;
    char path[64];
    int64_t t_start_ns, t_end_ns; /* of this rank's ops, on its own clock */
    int64_t wire_bytes;      /* of this rank */
    int64_t copied_bytes[2]; /* of this rank, into the device's memory and out of it */
    int64_t peak_bytes[DSC_SPACE_COUNT]; /* of this rank, since the start */
} dsc_step_report;

/* Runs step `number` (from 1). is_read: the weights are read after it, so that its update is not put off, whatever the
 * strategy says, and replicas that step by themselves meet; evaluation reads them too. rows (may be NULL) receives this
 * rank's rows of ops and memory, on its own clock. After a failure here or elsewhere every rank returns the same status
 * with the same message, and the run can only be destroyed. */
dsc_status dsc_run_step(dsc_run *run, int64_t number, bool evaluate, bool is_read, dsc_step_report *report,
                        dsc_trace *rows);

/* How far times of ops in rows are off that clock at most: a device has one of its own. */
int64_t dsc_run_clock_uncertainty_ns(const dsc_run *run);

/* Makes an update that the last step has put off, or lets replicas meet. Collective over the job; fails as a step
 * does. */
dsc_status dsc_run_drain(dsc_run *run);

/* ---- State (exec/state.c) */

/* What else a checkpoint holds of a run. */
typedef struct dsc_run_state {
    int64_t optimizer_step;  /* skipped steps not counted */
    int64_t samples_seen;
    int64_t scaler_iteration, scaler_last_overflow, scaler_hysteresis;
    double loss_scale;
    int64_t frozen_updates;  /* of the optimizer steps, those that left the variance as it was */
    int64_t frozen_at;       /* as dsc_freezer_found */
    double variance_norm;    /* as dsc_freezer */
    int64_t variance_interval, variance_updates, sync_interval, own_steps; /* as dsc_intervals; else 0 */
} dsc_run_state;
void dsc_run_state_get(const dsc_run *run, dsc_run_state *out);
void dsc_run_state_set(dsc_run *run, const dsc_run_state *state);

/* Whether the next update is one by a frozen variance. */
bool dsc_run_is_frozen(const dsc_run *run);

/* A rectangle of a tensor that this rank updates, in fp32: which 0 weights, 1 exp_avg, 2 exp_avg_sq, and, where
 * replicas exchange compressed momenta, 3 the worker's error, 4 the server's, and, of 1-bit LAMB, 5 the variance that
 * goes on, 6 the tensor's mean of trust ratios and last factor, a row of two; row i, column j of it is
 * values[i * stride + j]. Borrowed, writable. */
enum { DSC_RUN_WORKER_ERROR = 3, DSC_RUN_SERVER_ERROR, DSC_RUN_FRESH, DSC_RUN_TRUST, DSC_RUN_STATES };
typedef struct dsc_piece { int which; int64_t tensor; dsc_block block; float *values; int64_t stride; } dsc_piece;
typedef dsc_status dsc_piece_visit(void *context, const dsc_piece *piece);
/* Visits the pieces of a shard of this rank's stage, until one fails: with ZeRO those of the rank's part alone. Of
 * errors, those of what the rank compresses, of its own worker, and of its chunk of the server's; positions past the
 * sequence have none. What a device alone can touch the visitor sees in a copy, which goes back if it writes. */
dsc_status dsc_run_each_piece(dsc_run *run, const dsc_shard *shard, bool writes, dsc_piece_visit *visit, void *context);

#endif
