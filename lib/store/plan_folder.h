/* A plan on disk: the folder that `dsc-plan --emit` writes and `dsc-run --plan` executes.
 *
 *     DIR/plan.json         hashes of program and plan, ranks, and a hash of each of the files that decide them
 *     DIR/ds_config.json    the configuration, resolved (config/config.h, dsc_config_deepspeed)
 *     DIR/model.json, DIR/cluster.json
 *     DIR/attention-N.json  layouts and patterns that the configuration names
 *     DIR/launch.sh, DIR/job.slurm  scripts: the user's to change, so nothing checks them
 *
 * A folder is complete or absent: it is written beside its place, then renamed. Knows texts and hashes; what is in them
 * is the caller's. */
#ifndef DSC_STORE_PLAN_FOLDER_H
#define DSC_STORE_PLAN_FOLDER_H

#include "base/text.h"

#define DSC_PLAN_CONFIG "ds_config.json"
#define DSC_PLAN_MODEL "model.json"
#define DSC_PLAN_CLUSTER "cluster.json"
#define DSC_PLAN_LAUNCH "launch.sh"
#define DSC_PLAN_JOB "job.slurm"

typedef struct dsc_plan_facts {
    int64_t ranks;
    char program_hash[33], plan_hash[33];
} dsc_plan_facts;

/* Of a folder: name and text are borrowed. */
typedef struct dsc_plan_file { char name[32]; const char *text; bool is_script; } dsc_plan_file;

/* Whether a plan may be written at path: nothing is there, an empty folder, or an earlier plan's and nothing else.
 * DSC_EINVAL names what is in the way. */
dsc_status dsc_plan_folder_check(const char *path);

/* Writes the folder beside path, where dsc_plan_folder_load can read it; *out is where. After a failure nothing is
 * there. DSC_EINVAL, DSC_EIO. */
dsc_status dsc_plan_folder_write(const char *path, const dsc_plan_facts *facts, const dsc_plan_file *files,
                                 int64_t count, char out[4096]);
/* Puts what was written in its place; an earlier plan there is removed. DSC_EINVAL as by the check, DSC_EIO. */
dsc_status dsc_plan_folder_commit(const char *written, const char *path);
/* Removes what was written; takes "". */
void dsc_plan_folder_abandon(const char *written);

/* Reads plan.json and compares every file that it lists. DSC_EINVAL names the file that is missing or not as it was
 * written. */
dsc_status dsc_plan_folder_load(const char *path, dsc_plan_facts *out);

#endif
