/* Checkpoints on disk: HDF5 checkpoint, schema 1. A folder holds one sub-folder a step:
 *
 *     DIR/step-00000010/checkpoint.h5    whole tensors under logical names, and /state
 *     DIR/step-00000010/manifest.json    hashes, verified before HDF5 opens the file (store/manifest.h)
 *     DIR/latest                         the name of the newest, for people and scripts
 *
 * A step is complete or absent: it is written as step-00000010.tmp, synced, then renamed. Tensors are contiguous and
 * unfiltered, so that the layout (HDF5, once), the data (pwrite at known offsets) and the hashes (by block) are three
 * separate passes, of which the last two need no HDF5 and divide among ranks. */
#ifndef DSC_STORE_CHECKPOINT_H
#define DSC_STORE_CHECKPOINT_H

#include "model/model.h"

/* What stands in /state. The strings are borrowed by dsc_checkpoint_begin during the call; dsc_checkpoint_open makes
 * heap copies that dsc_checkpoint_state_fini frees. */
typedef struct dsc_checkpoint_state {
    int64_t step;
    int64_t optimizer_step;   /* skipped steps not counted */
    int64_t samples_seen;
    uint64_t seed;
    char data_hash[40];
    int64_t sampler_version;
    double loss_scale;
    int64_t scaler_iteration, scaler_last_overflow, scaler_hysteresis;
    char *config;             /* JSON */
    char *schedule;
    char *model;              /* JSON */
} dsc_checkpoint_state;

void dsc_checkpoint_state_fini(dsc_checkpoint_state *state);

/* The three copies of every tensor. */
enum { DSC_STATE_MODEL, DSC_STATE_EXP_AVG, DSC_STATE_EXP_AVG_SQ, DSC_STATE_COUNT };
extern const char *const DSC_STATE_PATHS[DSC_STATE_COUNT]; /* "/model", "/optimizer/exp_avg", "/optimizer/exp_avg_sq" */

/* ---- Writing */

typedef struct dsc_checkpoint_writer dsc_checkpoint_writer;

/* Makes folder (and its parents) where it is not there, removes what killed saves left in it, and lays the file out.
 *
 * tensors  [count], borrowed during the call
 * returns  DSC_EINVAL when the folder cannot be written; DSC_ENOTSUP for LLaMA's fused tensors, which schema 1 stores
 *          apart; DSC_EIO; *out only on success */
dsc_status dsc_checkpoint_begin(const char *folder, int64_t step, const dsc_tensor *tensors, int64_t count,
                                const dsc_checkpoint_state *state, dsc_checkpoint_writer **out);

/* Writes one tensor whole: `whole` has dsc_tensor_elems values. Any order, each once; DSC_EIO. */
dsc_status dsc_checkpoint_write(dsc_checkpoint_writer *writer, int which, int64_t tensor, const float *whole);

/* Syncs, hashes, writes the manifest, renames, and lets `latest` follow: after DSC_OK the checkpoint is there and
 * survives a power cut. After DSC_EIO it is not, and an older one of the same step is as it was (unless the message
 * says that only `latest` is behind). Frees and sets *writer to NULL in both cases. */
dsc_status dsc_checkpoint_commit(dsc_checkpoint_writer **writer);

/* Removes what was written, frees and sets *writer to NULL; takes NULL. */
void dsc_checkpoint_abandon(dsc_checkpoint_writer **writer);

/* ---- Finding and verifying */

/* The steps that have a folder, the newest first, verified or not; none where there is no folder. The caller frees
 * *out. DSC_EINVAL when it cannot be read. */
dsc_status dsc_checkpoint_steps(const char *folder, int64_t **out, int64_t *count);

/* The newest step in folder that verifies, as path (folder/step-N) in path[size]; "" when there is none or no folder.
 * What was skipped, and why, is added to *skipped, a line each. Reads every byte of what it finds. DSC_EINVAL when a
 * folder is there and cannot be read, or size is too small. */
dsc_status dsc_checkpoint_find(const char *folder, char *path, size_t size, dsc_text *skipped);

/* Compares every byte with the manifest, before and without HDF5. *report receives a line for each fault, which names
 * the tensor, or says that the file's structure or the manifest is hit; a line with the figures when there is none.
 * DSC_EINFEASIBLE when it does not verify, DSC_EINVAL when there is no checkpoint at path. */
dsc_status dsc_checkpoint_verify(const char *path, dsc_text *report);

/* ---- Reading */

typedef struct dsc_checkpoint_reader dsc_checkpoint_reader;

/* Opens path (a step's folder), which must have been verified just before, by this process or by one that told it.
 *
 * tensors  [count] that must be there with these shapes, and no others; borrowed during the call
 * state    filled; the caller frees it by dsc_checkpoint_state_fini
 * returns  DSC_EINVAL naming the tensor that is missing, unknown or of another shape (both shapes), or what is damaged;
 *          DSC_ENOTSUP as begin; *state and *out only on success */
dsc_status dsc_checkpoint_open(const char *path, const dsc_tensor *tensors, int64_t count, dsc_checkpoint_state *state,
                               dsc_checkpoint_reader **out);

/* Reads one tensor whole. DSC_EIO. May be called by several threads at once. */
dsc_status dsc_checkpoint_read(const dsc_checkpoint_reader *reader, int which, int64_t tensor, float *whole);

void dsc_checkpoint_close(dsc_checkpoint_reader **reader);

#endif
