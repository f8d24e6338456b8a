#include "tests/exec/trainer.h"
#include "kernels/kernels.h"
#include <string.h>
#include <unistd.h>

static dsc_status write_bytes(const char *bytes, int64_t count, char *path)
{
    int file = mkstemp(strcpy(path, "/tmp/dsc-tokens-XXXXXX"));
    ssize_t written = file >= 0 ? write(file, bytes, (size_t)count) : -1;

    if (file >= 0) close(file);
    return written == count ? DSC_OK : DSC_FAIL(DSC_EIO, "%s: cannot be written", path);
}

static dsc_status make_programs(dsc_comm *comm, int64_t nodes, const char *description, const dsc_config *given,
                                trainer *t)
{
    const int64_t ranks = dsc_comm_size(comm);
    dsc_config config = *given;
    dsc_cluster *local = NULL;
    dsc_model model;
    dsc_status status = DSC_OK;

    config.strategy.dp = ranks / DSC_MAX(config.strategy.tp, 1) / DSC_MAX(config.strategy.pp, 1);
    DSC_TRY(dsc_model_load(description, &model));
    DSC_TRY(dsc_cluster_local(&local));
    DSC_TRY(dsc_cluster_of_ranks(local, nodes, ranks / nodes, &t->cluster));
    DSC_TRY(dsc_plan_create(&model, t->cluster, &config, &t->plan));
    DSC_TRY(dsc_programs_create(t->plan, &t->programs));
    DSC_TRY(dsc_program_check(t->plan, t->programs, t->plan->ranks));
out:
    dsc_cluster_destroy(local);
    return status;
}

dsc_status trainer_init(dsc_comm *comm, const char *model, const dsc_config *config, const char *bytes, int64_t count,
                        trainer *out)
{
    return trainer_init_on(comm, 1, model, config, bytes, count, out);
}

dsc_status trainer_init_on(dsc_comm *comm, int64_t nodes, const char *model, const dsc_config *config,
                           const char *bytes, int64_t count, trainer *out)
{
    dsc_run_options options = {.comm = comm, .kernels = dsc_kernels_cpu(), .host_kernels = dsc_kernels_cpu(),
                               .omitted = -1, .failing = -1};
    dsc_status status = DSC_OK;

    *out = (trainer){0};
    DSC_TRY(make_programs(comm, nodes, model, config, out));
    DSC_TRY(write_bytes(bytes, count, out->path));
    DSC_TRY(dsc_source_open(out->path, &out->source));
    DSC_TRY(dsc_device_open("cpu", 0, &out->device));
    options.device = out->device;
    options.plan = out->plan;
    options.program = out->programs[dsc_comm_rank(comm)];
    options.train.source = out->source;
    DSC_TRY(dsc_sampler_init(out->source, out->plan->config.strategy.seq_len, out->plan->config.strategy.global_batch,
                             config->seed, &options.train.sampler));
    dsc_kernels_threads(1);
    DSC_TRY(dsc_run_create(&options, &out->run));
    DSC_TRY(dsc_run_init_weights(out->run));
    DSC_TRY(dsc_run_spread(out->run));
out:
    return status;
}

void trainer_fini(trainer *t)
{
    dsc_run_destroy(t->run);
    dsc_device_close(t->device);
    dsc_source_close(t->source);
    if (t->path[0] != '\0') unlink(t->path);
    if (t->plan != NULL) dsc_programs_destroy(t->plan, t->programs);
    dsc_plan_destroy(t->plan);
    dsc_cluster_destroy(t->cluster);
}
