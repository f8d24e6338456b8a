/* The parts of dsc-run: what the user asked for, the log and trace that it writes, its checkpoints. */
#ifndef TOOLS_RUN_RUN_H
#define TOOLS_RUN_RUN_H

#include "exec/run.h"
#include "store/trace_file.h"
#include <stdio.h>

/* dsc-run's own options. Strings are empty where an option was not given. */
typedef struct run_options {
    char data[4096], eval_data[4096], device[16], save[4096], resume[4096], trace[4096], trace_ranks[4096];
    char trace_steps[64], log[4096], bind[16], omit_op[64], fail_op[64], kernels[32];
    int64_t steps, save_every, eval_every, fake_compute_us;
    bool dry_run, json;
} run_options;

/* Everything that a run holds. */
typedef struct job {
    run_options options;
    dsc_comm *comm;
    int rank;
    dsc_cluster *cluster;
    dsc_plan *plan;
    const dsc_program *const *programs;
    dsc_source *source, *eval_source;
    dsc_sampler sampler, eval_sampler;
    dsc_device *device;
    struct seat *seats;        /* where each rank computes (device.c) */
    dsc_run *run;
    int64_t first_step;        /* steps that a checkpoint has behind it */
    struct journal *journal;
} job;

/* ---- device.c: where a rank computes */

typedef struct seat { int32_t node; char bus[32]; } seat; /* bus "": on the host's cores */
/* Collective. By --device: one GPU a rank, in turns where there are fewer; and who else sits where. */
dsc_status open_device(job *j);
/* The nodes of this job, as many devices on each as it has ranks there. */
dsc_status make_live_cluster(job *j);
/* Whether there is room for the arenas of this host's ranks, and of those that have this one's device. */
dsc_status check_room(const job *j);
/* *cores: how many the rank has for itself, near its device; 0: it shares them as the system likes. */
dsc_status bind_rank(const job *j, int64_t *cores);

/* ---- journal.c: step lines, --log and --trace. Rank 0 writes; all ranks bring their part. */

typedef struct journal journal;
/* Collective. Opens what was asked for; a resumed run keeps the log's lines up to first_step and an older trace. */
dsc_status journal_open(job *j, journal **out);
/* Collective, after each step: gathers, prints, logs, traces. */
dsc_status journal_step(job *j, const dsc_step_report *report, const dsc_trace *rows);
dsc_status journal_close(journal **j);
/* Where this rank's rows of a step go: NULL when they are not asked for. */
dsc_trace *journal_rows(job *j, int64_t step);

/* ---- save.c: checkpoints */

/* Collective. Makes the folder --save, so that one that cannot be written is bad input, found before the first step. */
dsc_status prepare_saving(job *j);
/* Collective. Saves as step `step` in --save. */
dsc_status save_step(job *j, int64_t step);
/* Collective. By --resume: finds, verifies and loads a checkpoint, or initialises the weights; sets j->first_step. */
dsc_status resume(job *j);

#endif
