/* Checkpoints on disk: HDF5 checkpoint, schema 1. A folder holds one sub-folder a step:
 *
 *     DIR/step-00000010/checkpoint.h5    whole tensors under logical names, and /state
 *     DIR/step-00000010/manifest.json    hashes, verified before HDF5 opens the file (store/manifest.h)
 *     DIR/latest                         the name of the newest, for people and scripts
 *
 * A step is complete or absent: it is written as step-00000010.tmp, synced, then renamed. Tensors are contiguous and
 * unfiltered, so that the layout (HDF5, once), the data (pwrite at known offsets) and the hashes (by block) are three
 * separate passes, of which the last two need no HDF5 and divide among ranks. Knows nothing of ranks and layouts: who
 * writes which piece, and who tells whom, is the caller's. */
#ifndef DSC_STORE_CHECKPOINT_H
#define DSC_STORE_CHECKPOINT_H

#include "base/hash.h"
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
    int64_t frozen_updates;   /* of the optimizer steps, those that left the variance as it was */
    int64_t frozen_at;        /* the update behind which it is frozen, where training has come to that; 0 */
    double variance_norm;     /* by which --freeze-step auto judges it; 0. Older checkpoints have 0 for these three */
    /* Of 0/1 Adam: updates between two of the variance, and how many of it since that changed; updates between two
     * meetings of replicas, and their own steps since that changed. Other optimizers, and older checkpoints, have 0. */
    int64_t variance_interval, variance_updates, sync_interval, own_steps;
    char *config;             /* JSON */
    char *schedule;
    char *model;              /* JSON */
} dsc_checkpoint_state;

void dsc_checkpoint_state_fini(dsc_checkpoint_state *state);

/* The copies of every tensor: three, and, where several workers send compressed momenta, the errors that this leaves:
 * the workers' [workers, shape], the server's [shape]; of 1-bit LAMB the variance that goes on, and of each tensor two
 * values: the mean of its trust ratios and the last factor. */
enum { DSC_STATE_MODEL, DSC_STATE_EXP_AVG, DSC_STATE_EXP_AVG_SQ, DSC_STATE_WORKER_ERROR, DSC_STATE_SERVER_ERROR,
       DSC_STATE_FRESH, DSC_STATE_TRUST, DSC_STATE_COUNT };
/* Which of them there are: workers 1: no errors; has_trust: LAMB's. */
typedef struct dsc_copies { int64_t workers; bool has_trust; } dsc_copies;
enum { DSC_TRUST_VALUES = 2 };
extern const char *const DSC_STATE_PATHS[DSC_STATE_COUNT]; /* "/model", "/optimizer/exp_avg", "/optimizer/exp_avg_sq",
                                                              "/error_feedback/worker", "/error_feedback/server",
                                                              "/optimizer/exp_avg_sq_fresh", "/optimizer/trust" */

/* A rectangle of one tensor, and where its values are: row i, column j of it is element (row + i, column + j) of the
 * tensor, and values[i * stride + j]. A vector is one row. */
typedef struct dsc_checkpoint_piece {
    int which;               /* DSC_STATE_... */
    int64_t tensor;          /* index into the tensors of begin, join or open */
    int64_t row, column, rows, columns;
    float *values;           /* borrowed; only reading changes them */
    int64_t stride;
    int64_t worker;          /* DSC_STATE_WORKER_ERROR: whose; else 0 */
} dsc_checkpoint_piece;

/* ---- Writing: one process begins, others join it; each writes its pieces and flushes. When all have, each hashes its
 * part. When all have, the first commits with everybody's hashes. After a failure anywhere all abandon. */

typedef struct dsc_checkpoint_writer dsc_checkpoint_writer;

/* Makes folder (and its parents) where it is not there, removes what killed saves left in it, and lays the file out.
 *
 * tensors  [count], borrowed during the call
 * returns  DSC_EINVAL when the folder cannot be written; DSC_EIO; *out only on success */
dsc_status dsc_checkpoint_begin(const char *folder, int64_t step, const dsc_tensor *tensors, int64_t count,
                                dsc_copies copies, const dsc_checkpoint_state *state, dsc_checkpoint_writer **out);

/* Data sets of a copy: some tensors of LLaMA's family are several (dsc_tensor_stored). Pure. */
int64_t dsc_checkpoint_datasets(const dsc_tensor *tensors, int64_t count);

/* Where data sets start in the file, [DSC_STATE_COUNT * dsc_checkpoint_datasets], 0 where there is no such copy: what
 * those who join have to be told. Borrowed. */
const int64_t *dsc_checkpoint_offsets(const dsc_checkpoint_writer *writer);

/* Opens what another process began, with the same arguments; offsets are borrowed during the call. DSC_EIO when the
 * file is not there, as in a folder that is not shared; *out only on success. */
dsc_status dsc_checkpoint_join(const char *folder, int64_t step, const dsc_tensor *tensors, int64_t count,
                               dsc_copies copies, const int64_t *offsets, dsc_checkpoint_writer **out);

/* Writes a piece: a write of whole rows, or one a row, past any buffer but that in which tensors are turned. Pieces in
 * any order; what none covers is zero. DSC_EIO; DSC_EINTERNAL when the piece passes the tensor's edge, or there is no
 * such copy. */
dsc_status dsc_checkpoint_write(dsc_checkpoint_writer *writer, const dsc_checkpoint_piece *piece);

/* Brings what this process wrote to the disk. DSC_EIO. */
dsc_status dsc_checkpoint_flush(dsc_checkpoint_writer *writer);

/* Reads back and hashes one of `parts` shares of the file, in blocks, after all have flushed. *out, of *count, is
 * borrowed until the writer's end; one behind another, the shares' hashes are what commit takes. DSC_EIO. */
dsc_status dsc_checkpoint_hash(dsc_checkpoint_writer *writer, int64_t part, int64_t parts, const dsc_hash **out,
                               int64_t *count);

/* For the one that began: writes the manifest, renames, and lets `latest` follow: after DSC_OK the checkpoint is there
 * and survives a power cut. After DSC_EIO it is not, and an older one of the same step is as it was (unless the message
 * says that only `latest` is behind). Frees and sets *writer to NULL in both cases.
 *
 * hashes   [count], of all blocks; borrowed during the call
 * returns  DSC_EINTERNAL when count is not the file's number of blocks */
dsc_status dsc_checkpoint_commit(dsc_checkpoint_writer **writer, const dsc_hash *hashes, int64_t count);

/* Frees and sets *writer to NULL; takes NULL. The one that began removes what was written. */
void dsc_checkpoint_abandon(dsc_checkpoint_writer **writer);

/* ---- Finding and verifying */

/* The steps that have a folder, the newest first, verified or not; none where there is no folder. The caller frees
 * *out. DSC_EINVAL when it cannot be read. */
dsc_status dsc_checkpoint_steps(const char *folder, int64_t **out, int64_t *count);

/* Compares every byte with the manifest, before and without HDF5. *report receives a line for each fault, which names
 * the tensor, or says that the file's structure or the manifest is hit; a line with the figures when there is none.
 * DSC_EINFEASIBLE when it does not verify, DSC_EINVAL when there is no checkpoint at path. */
dsc_status dsc_checkpoint_verify(const char *path, dsc_text *report);

/* The same of one of `parts` shares of the bytes, so that several can verify together: the reports one behind another
 * have each fault once, and are empty when there is none. */
dsc_status dsc_checkpoint_verify_part(const char *path, int64_t part, int64_t parts, dsc_text *report);

/* The newest step in folder that verifies, as path (folder/step-N) in path[size]; "" when there is none or no folder.
 * What was skipped, and why, is added to *skipped, a line each. Reads every byte of what it finds. DSC_EINVAL when a
 * folder is there and cannot be read, or size is too small.
 *
 * verify   called for each path until it returns DSC_OK, as dsc_checkpoint_verify; NULL: that */
typedef dsc_status (*dsc_checkpoint_verifier)(void *context, const char *path, dsc_text *report);
dsc_status dsc_checkpoint_find(const char *folder, dsc_checkpoint_verifier verify, void *context, char *path,
                               size_t size, dsc_text *skipped);

/* ---- Reading */

typedef struct dsc_checkpoint_reader dsc_checkpoint_reader;

/* Opens path (a step's folder), which must have been verified just before, by this process or by one that told it.
 *
 * tensors  [count] that must be there with these shapes, and no others; borrowed during the call
 * state    filled; the caller frees it by dsc_checkpoint_state_fini
 * returns  DSC_EINVAL naming the tensor that is missing, unknown or of another shape (both shapes), or what is damaged;
 *          *state and *out only on success */
dsc_status dsc_checkpoint_open(const char *path, const dsc_tensor *tensors, int64_t count, dsc_checkpoint_state *state,
                               dsc_checkpoint_reader **out);

/* What is in it. */
dsc_copies dsc_checkpoint_copies(const dsc_checkpoint_reader *reader);

/* Reads a piece. DSC_EIO; DSC_EINTERNAL as write. May be called by several threads at once. */
dsc_status dsc_checkpoint_read(const dsc_checkpoint_reader *reader, const dsc_checkpoint_piece *piece);

/* Reads the mean of a piece of DSC_STATE_WORKER_ERROR over `workers` workers, of whom piece->worker is the first; that
 * over one is as it was written. The same errors. */
dsc_status dsc_checkpoint_read_mean(const dsc_checkpoint_reader *reader, const dsc_checkpoint_piece *piece,
                                    int64_t workers);

void dsc_checkpoint_close(dsc_checkpoint_reader **reader);

#endif
