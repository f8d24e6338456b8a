#include "tools/run/run.h"
#include "base/log.h"
#include "store/checkpoint.h"
#include "store/paths.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Pieces: what of this rank's states stands where in a checkpoint */

static int64_t replica_of(const job *j) { return dsc_plan_coord(j->plan, j->rank).of[DSC_AXIS_DP]; }

/* Replicas that sum their gradients exactly are one worker of compression; each has the errors of its part. */
static int64_t worker_of(const job *j) { return replica_of(j) / j->plan->intra; }

/* Of the ranks of a replica that hold the same values one writes them. */
static bool is_ours(const job *j, const dsc_shard *shard)
{
    const dsc_coord coord = dsc_plan_coord(j->plan, j->rank);

    return coord.of[DSC_AXIS_CP] == 0 && (coord.of[DSC_AXIS_TP] == 0 || !shard->is_replicated) && !shard->is_copy;
}

static bool is_error(const dsc_piece *piece)
{
    return piece->which == DSC_RUN_WORKER_ERROR || piece->which == DSC_RUN_SERVER_ERROR;
}

/* What replicas hold alike, which is all but their errors and, with ZeRO, their parts, they write in turns by tensor,
 * so that all have their share. */
static bool is_our_turn(const job *j, const dsc_piece *piece)
{
    bool is_alike = j->plan->parts == 1 && !is_error(piece);
    bool is_of_all = piece->which == DSC_RUN_TRUST; /* tensor ranks */

    if (is_of_all && dsc_plan_coord(j->plan, j->rank).of[DSC_AXIS_TP] > 0) return false;
    return !is_alike || replica_of(j) == piece->tensor % j->plan->config.strategy.dp;
}

/* worker: in the file's numbers, whose error it is. */
static dsc_checkpoint_piece in_file(const dsc_piece *piece, int64_t worker)
{
    const dsc_block *b = &piece->block;

    return (dsc_checkpoint_piece){piece->which, piece->tensor, b->row, b->column, b->rows, b->columns, piece->values,
                                  piece->stride, piece->which == DSC_RUN_WORKER_ERROR ? worker : 0};
}

typedef struct saving { const job *job; dsc_checkpoint_writer *writer; } saving;

static dsc_status write_piece(void *context, const dsc_piece *piece)
{
    const saving *s = context;
    const dsc_checkpoint_piece in = in_file(piece, worker_of(s->job));

    return is_our_turn(s->job, piece) ? dsc_checkpoint_write(s->writer, &in) : DSC_OK;
}

static const dsc_stage *stage_of(const job *j) { return &j->plan->stages[j->programs[j->rank]->stage]; }

/* ---- Saving: rank 0 lays the file out and puts it in place, all write and hash their parts in between */

static dsc_status make_folder(const job *j)
{
    const char *folder = j->options.save;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_make_folders(folder));
    if (access(folder, W_OK | X_OK) != 0) status = DSC_FAIL(DSC_EINVAL, "--save %s: %s", folder, strerror(errno));
out:
    return status;
}

dsc_status prepare_saving(job *j)
{
    bool is_writer = j->rank == 0 && j->options.save[0] != '\0';

    return dsc_comm_agree(j->comm, is_writer ? make_folder(j) : DSC_OK, false);
}

static dsc_status describe(job *j, int64_t step, dsc_checkpoint_state *out)
{
    dsc_run_state state;

    dsc_run_state_get(j->run, &state);
    *out = (dsc_checkpoint_state){.step = step,
                                  .optimizer_step = state.optimizer_step,
                                  .samples_seen = state.samples_seen,
                                  .seed = j->plan->config.seed,
                                  .sampler_version = DSC_SAMPLER_VERSION,
                                  .loss_scale = state.loss_scale,
                                  .scaler_iteration = state.scaler_iteration,
                                  .scaler_last_overflow = state.scaler_last_overflow,
                                  .scaler_hysteresis = state.scaler_hysteresis,
                                  .frozen_updates = state.frozen_updates,
                                  .frozen_at = state.frozen_at,
                                  .variance_norm = state.variance_norm,
                                  .variance_interval = state.variance_interval,
                                  .variance_updates = state.variance_updates,
                                  .sync_interval = state.sync_interval,
                                  .own_steps = state.own_steps};
    memcpy(out->data_hash, dsc_source_hash(j->source).hex, sizeof(dsc_hash));
    out->config = dsc_config_json(&j->plan->config);
    out->model = dsc_model_json(&j->plan->model);
    out->schedule = strdup("");
    if (out->config != NULL && out->model != NULL && out->schedule != NULL) return DSC_OK;
    return DSC_FAIL(DSC_ENOMEM, "checkpoint: descriptions");
}

/* All ranks' status. The folder could be written when the run began. */
static dsc_status meet(const job *j, dsc_status status)
{
    return dsc_comm_agree(j->comm, status == DSC_EINVAL ? DSC_EIO : status, false);
}

static dsc_copies copies_of(const dsc_plan *plan) { return (dsc_copies){plan->workers, plan->has_trust}; }

static dsc_status lay_out(job *j, int64_t step, dsc_checkpoint_writer **out)
{
    const dsc_plan *plan = j->plan;
    dsc_checkpoint_state state = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(describe(j, step, &state));
    DSC_TRY(dsc_checkpoint_begin(j->options.save, step, plan->tensors, plan->tensor_count, copies_of(plan), &state,
                                 out));
out:
    dsc_checkpoint_state_fini(&state);
    return status;
}

/* A writer on every rank. Collective. */
static dsc_status open_writers(job *j, int64_t step, dsc_checkpoint_writer **out)
{
    const dsc_plan *plan = j->plan;
    const int64_t bytes = DSC_STATE_COUNT * (int64_t)sizeof(int64_t) *
                          dsc_checkpoint_datasets(plan->tensors, plan->tensor_count);
    int64_t *offsets = malloc((size_t)bytes);
    dsc_status status = offsets != NULL ? DSC_OK : DSC_FAIL(DSC_ENOMEM, "checkpoint: %" PRId64 " bytes", bytes);

    if (status == DSC_OK && j->rank == 0) status = lay_out(j, step, out);
    DSC_TRY(meet(j, status));
    if (j->rank == 0) memcpy(offsets, dsc_checkpoint_offsets(*out), (size_t)bytes);
    status = dsc_comm_broadcast(j->comm, offsets, bytes, 0);
    if (status != DSC_OK) return status; /* which may still read the offsets */
    if (j->rank > 0)
        status = dsc_checkpoint_join(j->options.save, step, plan->tensors, plan->tensor_count, copies_of(plan),
                                     offsets, out);
    DSC_TRY(meet(j, status));
out:
    free(offsets);
    return status;
}

static dsc_status write_ours(job *j, dsc_checkpoint_writer *writer)
{
    const dsc_stage *stage = stage_of(j);
    saving saving = {j, writer};
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < stage->shard_count; i++)
        if (is_ours(j, &stage->shards[i]))
            DSC_TRY(dsc_run_each_piece(j->run, &stage->shards[i], false, write_piece, &saving));
    DSC_TRY(dsc_checkpoint_flush(writer));
out:
    return status;
}

/* Everybody's hashes, on rank 0; *out is the caller's to free. Collective. */
static dsc_status gather_hashes(job *j, dsc_checkpoint_writer *writer, dsc_hash **out, int64_t *count)
{
    const int ranks = dsc_comm_size(j->comm);
    const dsc_hash *hashes = NULL;
    int64_t ours = 0, *counts = calloc((size_t)ranks, sizeof *counts);
    void *all = NULL;
    dsc_status status = counts != NULL ? DSC_OK : DSC_FAIL(DSC_ENOMEM, "checkpoint: %d counts", ranks);

    if (status == DSC_OK) status = dsc_checkpoint_hash(writer, j->rank, ranks, &hashes, &ours);
    DSC_TRY(meet(j, status));
    DSC_TRY(dsc_comm_gather(j->comm, hashes, ours * (int64_t)sizeof *hashes, &all, counts));
    *out = all;
    *count = 0;
    for (int rank = 0; rank < ranks; rank++) *count += counts[rank] / (int64_t)sizeof *hashes;
out:
    free(counts);
    return status;
}

dsc_status save_step(job *j, int64_t step)
{
    dsc_checkpoint_writer *writer = NULL;
    dsc_hash *hashes = NULL;
    int64_t count = 0;
    dsc_status status = DSC_OK;

    DSC_TRY(open_writers(j, step, &writer));
    DSC_TRY(meet(j, write_ours(j, writer)));
    DSC_TRY(gather_hashes(j, writer, &hashes, &count));
    DSC_TRY(meet(j, j->rank == 0 ? dsc_checkpoint_commit(&writer, hashes, count) : DSC_OK));
out:
    dsc_checkpoint_abandon(&writer);
    free(hashes);
    return status;
}

/* ---- Finding: rank 0 looks for a checkpoint, all ranks verify what it finds */

/* Each rank a share of the bytes; *report has all faults on rank 0. Collective. */
static dsc_status verify_share(const job *j, const char *path, dsc_text *report)
{
    const int ranks = dsc_comm_size(j->comm);
    int64_t length = 0, *counts = calloc((size_t)ranks, sizeof *counts);
    void *all = NULL;
    dsc_text ours = {0};
    dsc_status status = counts != NULL ? DSC_OK : DSC_FAIL(DSC_ENOMEM, "checkpoint: %d counts", ranks), verified;

    DSC_TRY(dsc_comm_agree(j->comm, status, false));
    verified = dsc_checkpoint_verify_part(path, j->rank, ranks, &ours);
    DSC_TRY(dsc_comm_gather(j->comm, ours.bytes, ours.count, &all, counts));
    for (int rank = 0; rank < ranks; rank++) length += counts[rank];
    if (j->rank == 0) dsc_text_add(report, "%.*s", (int)length, (const char *)all);
    status = dsc_comm_agree(j->comm, verified, false);
out:
    dsc_text_fini(&ours);
    free(counts);
    free(all);
    return status;
}

typedef struct checkpoint_path { char str[4096]; } checkpoint_path; /* "": none */

/* Rank 0's side: the others get the path. */
static dsc_status verify_together(void *context, const char *path, dsc_text *report)
{
    const job *j = context;
    checkpoint_path told = {""};
    dsc_status status = DSC_OK;

    snprintf(told.str, sizeof told.str, "%s", path);
    DSC_TRY(dsc_comm_broadcast(j->comm, &told, sizeof told, 0));
    DSC_TRY(verify_share(j, path, report));
out:
    return status;
}

/* The others': what does not verify is for rank 0 to judge; a failed group fails in the next broadcast too. */
static dsc_status verify_until_found(const job *j)
{
    checkpoint_path told = {""};
    dsc_text report = {0};
    dsc_status status = DSC_OK;

    do {
        DSC_TRY(dsc_comm_broadcast(j->comm, &told, sizeof told, 0));
        if (told.str[0] != '\0') verify_share(j, told.str, &report);
    } while (told.str[0] != '\0');
out:
    dsc_text_fini(&report);
    return status;
}

static dsc_status find_newest(job *j, checkpoint_path *out)
{
    dsc_text skipped = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_checkpoint_find(j->options.save, verify_together, j, out->str, sizeof out->str, &skipped));
    if (skipped.count > 0) dsc_log(DSC_WARNING, "%s", dsc_text_str(&skipped));
    if (out->str[0] == '\0') dsc_log(DSC_NOTE, "no checkpoint in %s: starting afresh", j->options.save);
out:
    dsc_text_fini(&skipped);
    return status;
}

static dsc_status verify_given(job *j, checkpoint_path *out)
{
    dsc_text report = {0};
    dsc_status status;

    snprintf(out->str, sizeof out->str, "%s", j->options.resume);
    status = verify_together(j, out->str, &report);
    if (status == DSC_EINFEASIBLE) status = DSC_FAIL(DSC_EINVAL, "--resume %s: %s", out->str, dsc_text_str(&report));
    dsc_text_fini(&report);
    return status;
}

/* The checkpoint that --resume means, verified; "" when a fresh start is meant. Collective. */
static dsc_status find_checkpoint(job *j, checkpoint_path *out)
{
    checkpoint_path end = {""};
    dsc_status status, ended;

    if (j->rank > 0) {
        status = verify_until_found(j);
    } else {
        status = strcmp(j->options.resume, "auto") == 0 ? find_newest(j, out) : verify_given(j, out);
        if (status == DSC_OK && out->str[0] != '\0') dsc_log(DSC_NOTE, "resuming from %s", out->str);
        ended = dsc_comm_broadcast(j->comm, &end, sizeof end, 0);
        if (status == DSC_OK) status = ended;
    }
    DSC_TRY(dsc_comm_agree(j->comm, status, false));
    DSC_TRY(dsc_comm_broadcast(j->comm, out, sizeof *out, 0));
out:
    return status;
}

/* ---- Resuming */

/* Shapes alone do not tell a model: other heads, say, cut the same tensors otherwise. */
static bool is_same_model(const job *j, const char *json)
{
    char *here = dsc_model_json(&j->plan->model);
    bool is_same = here != NULL && json != NULL && strcmp(here, json) == 0;

    free(here);
    return is_same;
}

/* A run goes on where it was only with the same data in the same order. */
static dsc_status check_same(const job *j, const char *path, const dsc_checkpoint_state *state)
{
    const char *hash = dsc_source_hash(j->source).hex;

    if (strcmp(state->data_hash, hash) != 0)
        return DSC_FAIL(DSC_EINVAL, "%s was trained on data with hash %s, --data %s has %s", path, state->data_hash,
                        j->options.data, hash);
    if (!is_same_model(j, state->model))
        return DSC_FAIL(DSC_EINVAL, "%s holds another model: %s; --model is %s", path, state->model,
                        j->plan->model.name);
    if (state->seed != j->plan->config.seed)
        return DSC_FAIL(DSC_EINVAL, "%s was trained with seed %" PRIu64 ", --seed is %" PRIu64, path, state->seed,
                        j->plan->config.seed);
    if (state->sampler_version != DSC_SAMPLER_VERSION)
        return DSC_FAIL(DSC_EINVAL, "%s has sampler version %" PRId64 ", this program %d", path, state->sampler_version,
                        DSC_SAMPLER_VERSION);
    return DSC_OK;
}

/* Of the workers in a file, whose errors this one goes on with: with the mean of so many. */
typedef struct origin { int64_t first, workers; } origin;

/* Of workers' errors only the mean enters what is trained: it stays as it was, whatever the number of workers. Of the
 * server's each element has one, so that they are but cut anew. */
static origin find_origin(int64_t were, int64_t are, int64_t worker)
{
    if (were % are == 0) return (origin){worker * (were / are), were / are};
    if (are % were == 0) return (origin){worker / (are / were), 1};
    return (origin){0, were};
}

/* Errors of 0 workers: none. */
typedef struct loading { const dsc_checkpoint_reader *reader; origin errors; bool has_trust; } loading;

static dsc_status read_piece(void *context, const dsc_piece *piece)
{
    const loading *l = context;
    const dsc_checkpoint_piece in = in_file(piece, l->errors.first);

    if (is_error(piece) && l->errors.workers == 0) return DSC_OK;
    if (piece->which >= DSC_RUN_FRESH && !l->has_trust) return DSC_OK;
    return piece->which == DSC_RUN_WORKER_ERROR ? dsc_checkpoint_read_mean(l->reader, &in, l->errors.workers)
                                                : dsc_checkpoint_read(l->reader, &in);
}

static void note_origin(int64_t were, int64_t are)
{
    if (were % are == 0)
        dsc_log(DSC_NOTE, "error feedback of %" PRId64 " workers: each of %" PRId64 " takes the mean of %" PRId64,
                were, are, were / are);
    else if (are % were == 0)
        dsc_log(DSC_NOTE, "error feedback of %" PRId64 " workers: each one's goes to %" PRId64 " of %" PRId64, were,
                are / were, are);
    else
        dsc_log(DSC_NOTE, "error feedback of %" PRId64 " workers: each of %" PRId64 " takes the mean of all", were,
                are);
}

/* Errors are what a compressed step left for the next one that compresses the same: after exact steps of 1-bit Adam, or
 * before some, they are zero; where 0/1 Adam's replicas begin to step by themselves they are again. */
typedef enum errors_of { OF_NOTHING, OF_MOMENTA, OF_GRADIENTS, OF_OWN_STEPS } errors_of;

static errors_of find_errors(bool has_own_steps, int64_t frozen_at, int64_t updates)
{
    const bool is_frozen = frozen_at > 0 && updates >= frozen_at;

    if (has_own_steps) return is_frozen && updates > frozen_at ? OF_OWN_STEPS : OF_GRADIENTS;
    return is_frozen ? OF_MOMENTA : OF_NOTHING;
}

static errors_of errors_in(const dsc_checkpoint_state *state, int64_t workers)
{
    if (workers == 1 || state->frozen_updates == 0) return OF_NOTHING;
    return find_errors(state->variance_interval > 0, state->frozen_at, state->optimizer_step);
}

static errors_of errors_needed(const job *j)
{
    dsc_run_state state;

    dsc_run_state_get(j->run, &state);
    return j->plan->workers == 1 ? OF_NOTHING
                                 : find_errors(j->plan->has_own_steps, state.frozen_at, state.optimizer_step);
}

static origin choose_errors(const job *j, const dsc_checkpoint_state *state, int64_t were)
{
    const int64_t are = j->plan->workers;
    const errors_of found = errors_in(state, were), needed = errors_needed(j);

    if (found != OF_NOTHING && found != needed)
        dsc_log(DSC_WARNING, "error feedback of %" PRId64 " workers is dropped: the next step compresses %s", were,
                needed == OF_NOTHING ? "nothing" : "something else");
    if (needed != OF_NOTHING && were == 1) dsc_log(DSC_NOTE, "no error feedback in the checkpoint: it starts at zero");
    if (needed == OF_NOTHING || found != needed) return (origin){0};
    if (were != are) note_origin(were, are);
    if (j->plan->config.strategy.semantics == DSC_SEMANTICS_REFERENCE)
        dsc_log(DSC_NOTE, "--onebit-semantics reference: errors of padding are in no checkpoint and start at zero");
    return find_origin(were, are, worker_of(j));
}

/* Compressed steps of 1-bit LAMB go by what its exact ones have found. */
static dsc_status check_trust(const job *j, const char *path, const dsc_checkpoint_state *state, bool has_trust)
{
    if (has_trust && !j->plan->has_trust) dsc_log(DSC_NOTE, "the checkpoint's trust ratios are dropped");
    if (!j->plan->has_trust || has_trust || !dsc_run_is_frozen(j->run)) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL,
                    "%s has no trust ratios, since another optimizer made it, and after %" PRId64 " updates "
                    "--optimizer onebit-lamb would compress at once: give a later --freeze-step, and exact steps find "
                    "them",
                    path, state->optimizer_step);
}

static dsc_status load(job *j, const char *path)
{
    dsc_checkpoint_reader *reader = NULL;
    dsc_checkpoint_state state = {0};
    loading loading = {NULL, {0}, false};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_checkpoint_open(path, j->plan->tensors, j->plan->tensor_count, &state, &reader));
    DSC_TRY(check_same(j, path, &state));
    dsc_run_state_set(j->run, &(dsc_run_state){state.optimizer_step, state.samples_seen, state.scaler_iteration,
                                               state.scaler_last_overflow, state.scaler_hysteresis, state.loss_scale,
                                               state.frozen_updates, state.frozen_at, state.variance_norm,
                                               state.variance_interval, state.variance_updates, state.sync_interval,
                                               state.own_steps});
    loading.reader = reader;
    loading.has_trust = dsc_checkpoint_copies(reader).has_trust;
    DSC_TRY(check_trust(j, path, &state, loading.has_trust));
    loading.errors = choose_errors(j, &state, dsc_checkpoint_copies(reader).workers);
    for (int64_t i = 0; i < stage_of(j)->shard_count; i++)
        DSC_TRY(dsc_run_each_piece(j->run, &stage_of(j)->shards[i], true, read_piece, &loading));
    j->first_step = state.step;
out:
    dsc_checkpoint_close(&reader);
    dsc_checkpoint_state_fini(&state);
    return status;
}

dsc_status resume(job *j)
{
    checkpoint_path path = {""};
    dsc_status status = DSC_OK;

    if (j->options.resume[0] != '\0') DSC_TRY(find_checkpoint(j, &path));
    DSC_TRY(dsc_comm_agree(j->comm, path.str[0] != '\0' ? load(j, path.str) : dsc_run_init_weights(j->run), false));
    DSC_TRY(dsc_run_spread(j->run));
out:
    return status;
}
