/* A run inside a test program: what dsc-run sets up for a model and a configuration, on all ranks of the test's job. */
#ifndef TESTS_EXEC_TRAINER_H
#define TESTS_EXEC_TRAINER_H

#include "exec/run.h"

typedef struct trainer {
    dsc_cluster *cluster;
    dsc_plan *plan;
    const dsc_program *const *programs;
    dsc_source *source;
    dsc_device *device;
    dsc_run *run;
    char path[64];    /* of the tokens' file */
} trainer;

/* model as for dsc_model_load; dp becomes what tp and pp leave of the number of ranks. Trains on the bytes as tokens,
 * with initial weights.
 * Collective; the caller ends it by trainer_fini, also after a failure. */
dsc_status trainer_init(dsc_comm *comm, const char *model, const dsc_config *config, const char *bytes, int64_t count,
                        trainer *out);
/* The same as if the ranks were on several nodes, which share them evenly. */
dsc_status trainer_init_on(dsc_comm *comm, int64_t nodes, const char *model, const dsc_config *config,
                           const char *bytes, int64_t count, trainer *out);
void trainer_fini(trainer *trainer);

#endif
