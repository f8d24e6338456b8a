#include "tools/run/run.h"
#include "base/log.h"
#include "store/checkpoint.h"
#include "store/paths.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Saving: this version's ranks all hold every tensor whole, so rank 0 writes */

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
                                  .scaler_hysteresis = state.scaler_hysteresis};
    memcpy(out->data_hash, dsc_source_hash(j->source).hex, sizeof(dsc_hash));
    out->config = dsc_config_json(&j->plan->config);
    out->model = dsc_model_json(&j->plan->model);
    out->schedule = strdup("");
    if (out->config != NULL && out->model != NULL && out->schedule != NULL) return DSC_OK;
    return DSC_FAIL(DSC_ENOMEM, "checkpoint: descriptions");
}

static dsc_status check_whole(const job *j)
{
    for (int64_t t = 0; t < j->plan->tensor_count; t++)
        if (dsc_run_tensor(j->run, DSC_STATE_MODEL, t) == NULL)
            return DSC_FAIL(DSC_EINTERNAL, "checkpoint: rank %d does not hold %s whole", j->rank,
                            j->plan->tensors[t].name);
    return DSC_OK;
}

static dsc_status write_all(job *j, int64_t step)
{
    dsc_checkpoint_writer *writer = NULL;
    dsc_checkpoint_state state = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(check_whole(j));
    DSC_TRY(describe(j, step, &state));
    DSC_TRY(dsc_checkpoint_begin(j->options.save, step, j->plan->tensors, j->plan->tensor_count, &state, &writer));
    for (int which = 0; which < DSC_STATE_COUNT; which++)
        for (int64_t t = 0; t < j->plan->tensor_count; t++)
            DSC_TRY(dsc_checkpoint_write(writer, which, t, dsc_run_tensor(j->run, which, t)));
    DSC_TRY(dsc_checkpoint_commit(&writer));
out:
    dsc_checkpoint_abandon(&writer);
    dsc_checkpoint_state_fini(&state);
    return status;
}

dsc_status save_step(job *j, int64_t step)
{
    dsc_status status = j->rank == 0 ? write_all(j, step) : DSC_OK;

    /* The folder could be written when the run began. */
    return dsc_comm_agree(j->comm, status == DSC_EINVAL ? DSC_EIO : status, false);
}

/* ---- Resuming */

/* The checkpoint that --resume means, verified; "" when a fresh start is meant. */
static dsc_status find_checkpoint(const job *j, char *path, size_t size)
{
    const bool is_auto = strcmp(j->options.resume, "auto") == 0;
    dsc_text skipped = {0}, report = {0};
    dsc_status status = DSC_OK;

    if (is_auto) {
        DSC_TRY(dsc_checkpoint_find(j->options.save, path, size, &skipped));
        if (skipped.count > 0) dsc_log(DSC_WARNING, "%s", dsc_text_str(&skipped));
        if (path[0] == '\0') dsc_log(DSC_NOTE, "no checkpoint in %s: starting afresh", j->options.save);
    } else {
        snprintf(path, size, "%s", j->options.resume);
        status = dsc_checkpoint_verify(path, &report);
        if (status == DSC_EINFEASIBLE) status = DSC_FAIL(DSC_EINVAL, "--resume %s: %s", path, dsc_text_str(&report));
        DSC_TRY(status);
    }
    if (path[0] != '\0') dsc_log(DSC_NOTE, "resuming from %s", path);
out:
    dsc_text_fini(&skipped);
    dsc_text_fini(&report);
    return status;
}

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
        return DSC_FAIL(DSC_EINVAL, "%s holds another model: %s; --model is %s", path, state->model, j->plan->model.name);
    if (state->seed != j->plan->config.seed)
        return DSC_FAIL(DSC_EINVAL, "%s was trained with seed %" PRIu64 ", --seed is %" PRIu64, path, state->seed,
                        j->plan->config.seed);
    if (state->sampler_version != DSC_SAMPLER_VERSION)
        return DSC_FAIL(DSC_EINVAL, "%s has sampler version %" PRId64 ", this program %d", path, state->sampler_version,
                        DSC_SAMPLER_VERSION);
    return DSC_OK;
}

static dsc_status load(job *j, const char *path)
{
    dsc_checkpoint_reader *reader = NULL;
    dsc_checkpoint_state state = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_checkpoint_open(path, j->plan->tensors, j->plan->tensor_count, &state, &reader));
    DSC_TRY(check_same(j, path, &state));
    DSC_TRY(check_whole(j));
    for (int which = 0; which < DSC_STATE_COUNT; which++)
        for (int64_t t = 0; t < j->plan->tensor_count; t++)
            DSC_TRY(dsc_checkpoint_read(reader, which, t, dsc_run_tensor(j->run, which, t)));
    DSC_TRY(dsc_run_round(j->run));
    dsc_run_state_set(j->run, &(dsc_run_state){state.optimizer_step, state.samples_seen, state.scaler_iteration,
                                               state.scaler_last_overflow, state.scaler_hysteresis, state.loss_scale});
    j->first_step = state.step;
out:
    dsc_checkpoint_close(&reader);
    dsc_checkpoint_state_fini(&state);
    return status;
}

dsc_status resume(job *j)
{
    char path[4096] = "";
    dsc_status status = DSC_OK;

    if (j->options.resume[0] != '\0') {
        status = j->rank == 0 ? find_checkpoint(j, path, sizeof path) : DSC_OK;
        DSC_TRY(dsc_comm_agree(j->comm, status, false));
        DSC_TRY(dsc_comm_broadcast(j->comm, path, sizeof path, 0));
    }
    DSC_TRY(dsc_comm_agree(j->comm, path[0] != '\0' ? load(j, path) : dsc_run_init_weights(j->run), false));
out:
    return status;
}
