/* Compressed steps in double precision, beside the executor's on every layout: what optimizers that compress have in
 * common, for their tests. */
#ifndef TESTS_EQUIVALENCE_EMULATION_H
#define TESTS_EQUIVALENCE_EMULATION_H

#include "exec/internal.h"
#include "tests/comm/job.h"
#include "tests/exec/trainer.h"
#include <mpi.h>

/* What this rank keeps of a bucket, as doubles. */
typedef struct bucket_state {
    double *gradient, *m, *v, *weights, *anchor, *worker, *server;
} bucket_state;

typedef struct emulation {
    trainer t;
    MPI_Comm group;             /* the data group */
    const dsc_stage *stage;
    int64_t dp, tp_index, dp_index;
    const char *name;           /* of the layout */
} emulation;

/* A small GPT-2, trained by that optimizer on what tp and pp leave of the job's ranks. */
dsc_config emulation_configure(int optimizer, int64_t tp, int64_t pp, int precision);
/* Collective; the caller ends it by emulation_end, also after a failure. */
bool emulation_start(emulation *e, const dsc_config *config, int64_t nodes, const char *name);
void emulation_end(emulation *e);
/* Runs steps 1 .. last. */
bool emulation_run_to(emulation *e, int64_t last);

double *emulation_read_kept(const emulation *e, const dsc_bucket *bucket, dsc_kept kept);
bucket_state emulation_read_state(const emulation *e, const dsc_bucket *bucket);
void emulation_free_state(bucket_state *s);
/* The same of all members of the data group, one behind another. */
double *emulation_gather(const emulation *e, const double *own, int64_t count);

/* Distance of what is there from what is expected, relative in norm. */
typedef struct compared { double squares[2]; const char *what; } compared;
void emulation_compare(compared *c, double got, double expected);
void emulation_check(const emulation *e, const compared *c, double limit);

/* Exchanges what this replica brings of a bucket, [elems], with the group's. Returns the mean that is expected, which
 * the caller frees, and checks, to the limit, the errors that are left. Collective over the group. */
double *emulation_exchange(const emulation *e, const dsc_bucket *bucket, const double *brought,
                           const bucket_state *before, const bucket_state *after, double limit);

#endif
