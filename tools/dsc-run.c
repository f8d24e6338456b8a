/* dsc-run: runs a plan's program, step after step, on the ranks that a launcher started. */
#include "tools/common.h"
#include "tools/run/run.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/parse.h"
#include "kernels/kernels.h"
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const tool self = {
    "dsc-run",
    "mpiexec -n N dsc-run --model MODEL --data DATA --steps K [OPTION]...\n"
    "       mpiexec -n N dsc-run --plan DIR --data DATA --steps K [OPTION]...",
    "Train a transformer by the program that dsc-plan foresees, over MPI ranks."};

#define TEXT(word, member, what, text)                                                                                 \
    {                                                                                                                  \
        .name = word, .type = DSC_FIELD_STRING, .offset = offsetof(run_options, member),                               \
        .size = sizeof((run_options *)0)->member, .argument = what, .help = text                                       \
    }
#define COUNT(word, member, least, text)                                                                               \
    {                                                                                                                  \
        .name = word, .type = DSC_FIELD_INT, .offset = offsetof(run_options, member), .low = least, .high = 1e15,      \
        .argument = "K", .help = text                                                                                  \
    }

static const dsc_field fields[] = {
    TEXT("data", data, "DATA", "text files or folders (bytes as tokens), an llm.c .bin, a Megatron prefix"),
    COUNT("steps", steps, 0, "step to reach, counted from the start of training"),
    TEXT("device", device, "cpu|cuda|auto", "where to compute (cpu); auto: cuda where all hosts have such a GPU"),
    TEXT("save", save, "DIR", "folder of checkpoints"),
    COUNT("save-every", save_every, 1, "steps between checkpoints (only at the end)"),
    TEXT("resume", resume, "auto|PATH", "checkpoint to go on from; auto: the newest in --save that verifies"),
    TEXT("trace", trace, "FILE.h5", "write what was measured"),
    TEXT("trace-ranks", trace_ranks, "all|LIST", "ranks whose rows are traced (all)"),
    TEXT("trace-steps", trace_steps, "A:B", "steps that are traced (all)"),
    TEXT("log", log, "FILE", "write a JSON line a step"),
    TEXT("eval-data", eval_data, "DATA", "data on which the loss is evaluated, one global batch"),
    COUNT("eval-every", eval_every, 1, "steps between evaluations (only at the end)"),
    {.name = "dry-run",
     .type = DSC_FIELD_FLAG,
     .offset = offsetof(run_options, dry_run),
     .help = "plan, check and print, allocate nothing"},
    {.name = "json",
     .type = DSC_FIELD_FLAG,
     .offset = offsetof(run_options, json),
     .help = "print --log's JSON lines in place of lines for people"},
    TEXT("bind", bind, "cores|none",
         "keep each rank to its share of its machine's cores, near its GPU (cores), or leave it as it is"),
    TEXT("kernels", kernels, "NAME", "the CPU's: ref, cpu, cpu-avx2, cpu-avx512, cpu-avx512bf16 (the fastest here)"),
    TEXT("omit-op", omit_op, "RANK:OP", "for tests: run without that op of the program; turns the check off"),
    COUNT("fake-compute", fake_compute_us, 0,
          "for tests: kernels are not run, ops with products of a layer sleep K us"),
    TEXT("fail-op", fail_op, "RANK:OP", "for tests: let that op fail as if memory were out"),
    {0}};

/* ---- Signals: the step is finished, a checkpoint saved */

static atomic_int stop_requested; /* atomics without locks are allowed in handlers */

static void request_stop(int number)
{
    (void)number;
    stop_requested = 1;
}

static void catch_signals(void)
{
    struct sigaction stop = {.sa_handler = request_stop, .sa_flags = SA_RESTART}, ignore = {.sa_handler = SIG_IGN};

    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGUSR1, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL); /* a reader that is gone, a file that is too large: errors, not ends */
    sigaction(SIGXFSZ, &ignore, NULL);
}

/* ---- Making ready */

static dsc_status check_options(const job *j, const tool_inputs *inputs)
{
    const run_options *o = &j->options;

    if (inputs->model[0] == '\0') return DSC_FAIL(DSC_EINVAL, "--model is missing");
    if (o->data[0] == '\0') return DSC_FAIL(DSC_EINVAL, "--data is missing");
    if (o->steps < 0) return DSC_FAIL(DSC_EINVAL, "--steps is missing");
    if (strcmp(o->data, "-") == 0 || strcmp(o->eval_data, "-") == 0)
        return DSC_FAIL(DSC_EINVAL, "data cannot be standard input: it is mapped, and read in any order");
    if (strcmp(o->log, "-") == 0) return DSC_FAIL(DSC_EINVAL, "--log cannot be standard output: use --json for that");
    if (strcmp(o->trace, "-") == 0)
        return DSC_FAIL(DSC_EINVAL, "--trace cannot be standard output: HDF5 files need seeking");
    if (o->save_every > 0 && o->save[0] == '\0') return DSC_FAIL(DSC_EINVAL, "--save-every needs --save DIR");
    if (strcmp(o->resume, "auto") == 0 && o->save[0] == '\0')
        return DSC_FAIL(DSC_EINVAL, "--resume auto needs --save DIR");
    if (o->eval_every > 0 && o->eval_data[0] == '\0')
        return DSC_FAIL(DSC_EINVAL, "--eval-every needs --eval-data DATA");
    return DSC_OK;
}

/* A plan for `local` is for machines like that which made it, and runs on the cores that are here. */
static dsc_status take_cores(dsc_cluster *cluster)
{
    dsc_cluster *local = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_cluster_local(&local));
    cluster->node_types[0].cores = local->node_types[0].cores;
out:
    dsc_cluster_destroy(local);
    return status;
}

/* `local`, the default, is the nodes of this job; anything else has to have as many devices as the strategy has
 * ranks. */
static dsc_status make_cluster(job *j, const tool_inputs *inputs)
{
    dsc_status status = DSC_OK;

    if (inputs->cluster[0] == '\0' || strcmp(inputs->cluster, "local") == 0) return make_live_cluster(j);
    DSC_TRY(dsc_cluster_load(inputs->cluster, &j->cluster));
    if (j->cluster->is_local) DSC_TRY(take_cores(j->cluster));
out:
    return status;
}

/* What MPI cannot send from a device's memory goes by way of the host's. */
static void stage_communication(const job *j, dsc_config *config)
{
    if (!j->device->is_apart || dsc_comm_size(j->comm) == 1 ||
        config->strategy.communication == DSC_COMMUNICATION_STAGED)
        return;
    config->strategy.communication = DSC_COMMUNICATION_STAGED;
    dsc_log(DSC_NOTE, "--communication staged: ranks with GPUs send by way of the host's memory");
}

/* An option that changes the program, or another version of ours, makes another one than was planned. */
static dsc_status check_hash(const job *j, const tool_inputs *inputs)
{
    char hash[33];

    dsc_programs_hash(j->plan, j->programs, hash);
    if (dsc_equal(hash, inputs->facts.program_hash)) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "--plan %s: the program's hash is %s, the plan's is %s: options that change the "
                    "program, or another version of dsc; plan anew with them", inputs->plan, hash,
                    inputs->facts.program_hash);
}

static dsc_status make_plan(job *j, const tool_inputs *inputs)
{
    dsc_model model;
    dsc_config config = inputs->config;
    dsc_status status = DSC_OK;
    int64_t size = dsc_comm_size(j->comm), others;

    DSC_TRY(dsc_model_load(inputs->model, &model));
    DSC_TRY(make_cluster(j, inputs));
    stage_communication(j, &config);
    others = DSC_MAX(config.strategy.tp, 1) * DSC_MAX(config.strategy.pp, 1) * DSC_MAX(config.strategy.cp, 1);
    if (config.strategy.dp == 0 && size % others == 0) config.strategy.dp = size / others;
    DSC_TRY(dsc_programs_place(&model, j->cluster, &config, &j->plan, &j->programs));
    DSC_TRY(dsc_plan_check_runs(j->plan));
    if (j->plan->ranks != size)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "the strategy needs tp x pp x cp x dp = %" PRId64 " ranks, this job has %" PRId64
                         ": start it with mpiexec -n %" PRId64, j->plan->ranks, size, j->plan->ranks));
    if (j->options.omit_op[0] == '\0') DSC_TRY(dsc_program_check(j->plan, j->programs, j->plan->ranks));
    if (inputs->plan[0] != '\0') DSC_TRY(check_hash(j, inputs));
    DSC_TRY(dsc_program_fits(j->plan, j->programs, j->plan->ranks));
out:
    return status;
}

/* Each rank reads its own files, which on its host may be others: what they make has to be one program and one
 * training. Collective; fails on all ranks. */
static dsc_status compare_plans(const job *j)
{
    enum { DIGITS = 15 }; /* of a hash, in 60 bits */
    char *config = dsc_config_json(&j->plan->config), programs[33], digits[DIGITS + 1];
    dsc_text all = {0};
    int64_t own[2];
    dsc_status status = DSC_OK;

    dsc_programs_hash(j->plan, j->programs, programs);
    dsc_text_add(&all, "%s %s %s", j->plan->hash, programs, config == NULL ? "" : config);
    memcpy(digits, dsc_hash_of(dsc_text_str(&all), (size_t)all.count).hex, DIGITS);
    digits[DIGITS] = '\0';
    own[0] = (int64_t)strtoull(digits, NULL, 16);
    own[1] = -own[0];
    free(config);
    dsc_text_fini(&all);
    DSC_TRY(dsc_comm_max(j->comm, own, 2));
    if (own[0] != -own[1])
        status = DSC_FAIL(DSC_EINVAL, "ranks were told different things: their plans are not one; options, CONFIG, "
                          "model or layouts differ between hosts");
out:
    return status;
}

static dsc_status open_data(job *j)
{
    const dsc_strategy *s = &j->plan->config.strategy;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_source_open(j->options.data, &j->source));
    DSC_TRY(dsc_sampler_init(j->source, s->seq_len, s->global_batch, j->plan->config.seed, &j->sampler));
    if (j->options.eval_data[0] == '\0') goto out;
    DSC_TRY(dsc_source_open(j->options.eval_data, &j->eval_source));
    DSC_TRY(dsc_sampler_init(j->eval_source, s->seq_len, s->global_batch, j->plan->config.seed, &j->eval_sampler));
out:
    return status;
}

/* "RANK:OP" of --omit-op or --fail-op. */
static dsc_status parse_op(const char *option, const char *words, int64_t *rank, int64_t *op)
{
    char first[64], *colon;
    dsc_status status = DSC_OK;

    snprintf(first, sizeof first, "%s", words);
    if ((colon = strchr(first, ':')) == NULL) return DSC_FAIL(DSC_EINVAL, "%s %s: RANK:OP is wanted", option, words);
    *colon = '\0';
    DSC_TRY(dsc_parse_int(option, first, 0, INT32_MAX, rank));
    DSC_TRY(dsc_parse_int(option, colon + 1, 0, INT64_MAX, op));
out:
    return status;
}

static dsc_status find_omitted(const job *j, int64_t *out)
{
    int64_t rank, op, *omitted = NULL;
    dsc_place_of_op place;
    dsc_status status = DSC_OK;

    *out = -1;
    if (j->options.omit_op[0] == '\0') return DSC_OK;
    DSC_TRY(parse_op("--omit-op", j->options.omit_op, &rank, &op));
    if ((omitted = malloc((size_t)j->plan->ranks * sizeof *omitted)) == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "--omit-op of %" PRId64 " ranks", j->plan->ranks));
    DSC_TRY(dsc_program_omit(j->plan, j->programs, rank, op, omitted));
    if (dsc_program_find(j->programs[rank], op, &place) && place.segment == DSC_SEGMENT_EVALUATE &&
        j->eval_source == NULL)
        DSC_TRY(
            DSC_FAIL(DSC_EINVAL, "--omit-op %s: that op evaluates, and there is no --eval-data", j->options.omit_op));
    *out = omitted[j->rank];
out:
    free(omitted);
    return status;
}

static dsc_status find_failing(const job *j, int64_t *out)
{
    int64_t rank, op;
    dsc_place_of_op place;
    dsc_status status = DSC_OK;

    *out = -1;
    if (j->options.fail_op[0] == '\0') return DSC_OK;
    DSC_TRY(parse_op("--fail-op", j->options.fail_op, &rank, &op));
    DSC_TRY(dsc_programs_find(j->plan, j->programs, "--fail-op", rank, op, &place));
    if (rank == j->rank) *out = op;
out:
    return status;
}

static dsc_status describe_run(const job *j, dsc_run_options *out)
{
    dsc_status status = DSC_OK;
    int64_t cores;

    *out = (dsc_run_options){.plan = j->plan, .program = j->programs[j->rank], .comm = j->comm, .device = j->device,
                             .train = {j->source, j->sampler}, .evaluation = {j->eval_source, j->eval_sampler},
                             .fake_compute_ns = 1000 * j->options.fake_compute_us, .stop = &stop_requested};
    DSC_TRY(find_omitted(j, &out->omitted));
    DSC_TRY(find_failing(j, &out->failing));
    DSC_TRY(dsc_kernels_find(j->options.kernels[0] != '\0' ? j->options.kernels : NULL, &out->host_kernels));
    out->kernels = out->host_kernels;
    if (j->device->is_apart) out->kernels = dsc_kernels_cuda();
    DSC_TRY(check_room(j));
    DSC_TRY(bind_rank(j, &cores));
    if (cores == 0 && (j->cluster->is_local || j->device->is_apart))
        cores = j->cluster->node_types[0].cores / dsc_comm_machine_size(j->comm);
    dsc_kernels_threads((int)DSC_MAX(cores, 1));
out:
    return status;
}

/* ---- Running */

/* Keeps the message of the failure before. */
static void save_after_failure(job *j, int64_t step)
{
    char message[4096];

    snprintf(message, sizeof message, "%s", dsc_message());
    if (j->options.save[0] != '\0' && dsc_comm_failure(j->comm) == DSC_OK && dsc_run_drain(j->run) == DSC_OK)
        save_step(j, step);
    DSC_FAIL(DSC_EIO, "%s", message);
}

static bool is_saved(const run_options *o, int64_t step)
{
    return step == o->steps || (o->save_every > 0 && step % o->save_every == 0);
}

static dsc_status train(job *j)
{
    const run_options *o = &j->options;
    bool is_there = j->first_step > 0 && strcmp(o->resume, "auto") == 0; /* the step in --save */
    int64_t saved = is_there ? j->first_step : -1, step = j->first_step;
    dsc_step_report report = {0};
    dsc_status status = DSC_OK;

    while (step < o->steps && !report.is_stopping) {
        dsc_trace *rows = journal_rows(j, ++step);
        bool evaluates = j->eval_source != NULL && (o->eval_every > 0 ? step % o->eval_every == 0 : step == o->steps);

        DSC_TRY(dsc_run_step(j->run, step, evaluates, is_saved(o, step), &report, rows));
        status = journal_step(j, &report, rows);
        if (status != DSC_OK) { /* a full disk or a closed reader must not cost what was learned */
            save_after_failure(j, step);
            goto out;
        }
        if (step == o->steps || !is_saved(o, step)) continue;
        DSC_TRY(save_step(j, step));
        saved = step;
    }
    if (o->save[0] != '\0' && saved != step) DSC_TRY(save_step(j, step));
    if (report.is_stopping && step < o->steps)
        status = DSC_FAIL(DSC_ESTOPPED, "stopped by a signal after step %" PRId64 "%s%s", step,
                          o->save[0] != '\0' ? "; saved in " : ", not saved: there is no --save", o->save);
out:
    return status;
}

static void print_dry_run(const job *j)
{
    dsc_text text = {0};

    dsc_cluster_print(j->cluster, &text);
    dsc_model_print(&j->plan->model, &text);
    dsc_text_add(&text, "\n");
    dsc_plan_print(j->plan, &text);
    fputs(dsc_text_str(&text), stdout);
    dsc_text_fini(&text);
}

static dsc_status run_job(job *j, const tool_inputs *inputs)
{
    dsc_status status = DSC_OK, closed;
    dsc_run_options options;

    DSC_TRY(dsc_comm_agree(j->comm, check_options(j, inputs), false));
    DSC_TRY(open_device(j));
    DSC_TRY(dsc_comm_agree(j->comm, make_plan(j, inputs), false));
    DSC_TRY(compare_plans(j));
    if (j->options.dry_run) {
        if (j->rank == 0) print_dry_run(j);
        goto out;
    }
    DSC_TRY(dsc_comm_agree(j->comm, open_data(j), false));
    DSC_TRY(dsc_comm_agree(j->comm, describe_run(j, &options), false));
    DSC_TRY(dsc_run_create(&options, &j->run));
    DSC_TRY(prepare_saving(j));
    DSC_TRY(resume(j));
    DSC_TRY(journal_open(j, &j->journal));
    status = train(j);
    closed = journal_close(&j->journal);
    if (status == DSC_OK) status = closed;
out:
    /* What only this rank knows of, when it ran out of memory between two collectives, must not leave others waiting.
     * */
    if (j->run != NULL && status != DSC_OK && status != DSC_ESTOPPED) dsc_comm_raise(j->comm, status);
    return status;
}

static void end_job(job *j)
{
    dsc_run_destroy(j->run);
    dsc_device_close(j->device);
    free(j->seats);
    dsc_source_close(j->source);
    dsc_source_close(j->eval_source);
    if (j->plan != NULL) dsc_programs_destroy(j->plan, j->programs);
    dsc_plan_destroy(j->plan);
    dsc_cluster_destroy(j->cluster);
}

/* A thread of OpenMP that waits spins for milliseconds by default and takes a core from whoever else has work: two runs
 * side by side on 2 cores were 40 times slower than one. libgomp reads how long when it is loaded, so this program
 * starts itself anew. */
static void spin_briefly(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL) return;
    setenv("GOMP_SPINCOUNT", "2000", 0);
    execv("/proc/self/exe", argv); /* where that cannot be, it goes on as it is */
}

int main(int argc, char **argv)
{
    job j = {.options = {.steps = -1}};
    static tool_inputs inputs;
    const dsc_field_table own[] = {{.title = "A plan", .fields = tool_plan_fields, .base = &inputs},
                                   {.title = "The run", .fields = fields, .base = &j.options},
                                   {0}};
    dsc_status status;
    int exit_status;

    spin_briefly(argv);
    catch_signals();
    status = dsc_comm_create(&argc, &argv, &j.comm);
    if (status != DSC_OK) return tool_end(&self, status);
    j.rank = dsc_comm_rank(j.comm);
    /* MPICH takes SIGUSR1 for word of a rank that died, and asks a process manager, which one rank need not have. */
    if (dsc_comm_size(j.comm) == 1) catch_signals();
    if (j.rank == 0) tool_log(&self);
    status = dsc_comm_agree(j.comm, tool_load(argc, argv, own, &inputs), false);
    if (status == DSC_OK && inputs.asked != 0) {
        if (j.rank == 0) tool_answer(&self, own, inputs.asked);
    } else if (status == DSC_OK) {
        status = run_job(&j, &inputs);
    }
    exit_status = j.rank == 0 ? tool_end(&self, status) : dsc_exit_status(status);
    end_job(&j);
    tool_unload(&inputs);
    dsc_comm_exit(j.comm, exit_status);
}
