/* dsc-bench: measures kernels, copies and collectives on this machine. What it writes prices shapes that nobody
 * announced: it never times a training step.
 *
 * Started by itself it starts workers: as many ranks as there are cores, for kernels that share the machine and for
 * collectives, then one rank with all cores. Started by a launcher it measures in that job alone. */
#include "base/json.h"
#include "base/log.h"
#include "cluster/cluster.h"
#include "device/device.h"
#include "kernels/kernels.h"
#include "store/calibration_file.h"
#include "tools/bench/bench.h"
#include "tools/common.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const tool self = {
    "dsc-bench",
    "dsc-bench [KERNEL|copies|collectives]... [OPTION]...",
    "Measures kernels, copies, links and collectives of this machine: prices for dsc-plan --calibration."};

typedef struct options {
    bool json, list, quick, progress;
    char out[4096], worker[4096], device[16];
    int64_t update, compression, attention;
    bench_blocks blocks;
} options;

static const dsc_field fields[] = {
    {.name = "o", .type = DSC_FIELD_STRING, .offset = offsetof(options, out), .size = sizeof ((options *)0)->out,
     .argument = "FILE.h5", .help = "calibration to write"},
    {.name = "device", .type = DSC_FIELD_STRING, .offset = offsetof(options, device),
     .size = sizeof ((options *)0)->device, .argument = "cpu|cuda", .help = "that kernels are measured on (cpu)"},
    {.name = "json", .type = DSC_FIELD_FLAG, .offset = offsetof(options, json),
     .help = "one JSON object on standard output"},
    {.name = "list", .type = DSC_FIELD_FLAG, .offset = offsetof(options, list), .help = "says what can be measured"},
    {.name = "quick", .type = DSC_FIELD_FLAG, .offset = offsetof(options, quick),
     .help = "few repetitions: a first look, not good enough to predict with"},
    {.name = "update", .type = DSC_FIELD_INT, .offset = offsetof(options, update), .low = 1, .high = 0x1p36,
     .argument = "N", .help = "only: Adam on N parameters in host memory, beside a loop over the same memory"},
    {.name = "compression", .type = DSC_FIELD_INT, .offset = offsetof(options, compression), .low = 1, .high = 0x1p36,
     .argument = "N", .help = "only: 1-bit Adam's kernels on N elements, beside a copy of as many bytes"},
    {.name = "attention", .type = DSC_FIELD_INT, .offset = offsetof(options, attention), .low = 128, .high = 1 << 20,
     .argument = "T", .help = "only: attention over present blocks beside dense attention, T tokens, 8 heads of 64"},
    {.name = "density", .type = DSC_FIELD_REAL, .offset = offsetof(options, blocks.density), .low = 0, .high = 1,
     .argument = "X", .help = "of the blocks that --attention has beside the diagonal (0.25)"},
    {.name = "window", .type = DSC_FIELD_INT, .offset = offsetof(options, blocks.window), .low = 1, .high = 1 << 20,
     .argument = "N", .help = "in place of these: --attention has the blocks within a window of N tokens"},
    {.name = "worker", .type = DSC_FIELD_STRING, .offset = offsetof(options, worker),
     .size = sizeof ((options *)0)->worker, .argument = "FILE.h5",
     .help = "for its own use: measures in this job, prints nothing"},
    {0}};

static const double DENSITY = 0.25;
enum { MAX_NAMES = 64 };
static const char copies_name[] = "copies", collectives_name[] = "collectives";

/* ---- What is asked for */

/* Not what is the executor's own, and not what no training step calls, or nobody has made. */
static bool is_measured_here(int kernel)
{
    if (dsc_kernel_is_planned((dsc_kernel)kernel)) return false;
    return kernel != DSC_K_LOAD && !(kernel >= DSC_K_BLOCK_SDD && kernel <= DSC_K_BLOCK_SOFTMAX_BWD);
}

static dsc_status choose(const char *name, bench_request *request)
{
    const char *names[DSC_KERNEL_COUNT + 2] = {copies_name, collectives_name};
    const int kernel = dsc_kernel_find(name);
    int64_t count = 2;

    if (dsc_equal(name, copies_name)) return request->copies = true, DSC_OK;
    if (dsc_equal(name, collectives_name)) return request->collectives = true, DSC_OK;
    if (kernel >= 0 && is_measured_here(kernel)) return request->kernels[kernel] = true, DSC_OK;
    for (int i = 0; i < DSC_KERNEL_COUNT; i++)
        if (is_measured_here(i)) names[count++] = dsc_kernel_name(i);
    const char *nearest = dsc_nearest(name, names, count);
    if (nearest != NULL) return DSC_FAIL(DSC_EINVAL, "no kernel is called \"%s\"; did you mean \"%s\"?", name, nearest);
    return DSC_FAIL(DSC_EINVAL, "no kernel is called \"%s\"; --list names them", name);
}

static dsc_status choose_all(const char *const *names, int count, bench_request *request)
{
    dsc_status status = DSC_OK;

    for (int i = 0; i < count; i++) DSC_TRY(choose(names[i], request));
    if (count > 0) goto out;
    for (int i = 0; i < DSC_KERNEL_COUNT; i++) request->kernels[i] = is_measured_here(i);
    request->copies = request->collectives = true;
out:
    return status;
}

static bool has_kernels(const bench_request *request)
{
    return memchr(request->kernels, true, sizeof request->kernels) != NULL;
}

/* Before minutes are spent on what cannot be written. */
static dsc_status check_path(const char *path)
{
    char folder[4096];
    char *slash;

    if (path[0] == '\0') return DSC_OK;
    if (tool_check_path("-o", path, "a calibration is an HDF5 file") != DSC_OK) return DSC_EINVAL;
    snprintf(folder, sizeof folder, "%s", path);
    if ((slash = strrchr(folder, '/')) == NULL) strcpy(folder, ".");
    else slash[slash == folder] = '\0';
    if (access(path, F_OK) == 0 ? access(path, W_OK) != 0 : access(folder, W_OK | X_OK) != 0)
        return DSC_FAIL(DSC_EINVAL, "-o %s: %s", path, strerror(errno));
    return DSC_OK;
}

static dsc_status parse(int argc, char **argv, options *o, bench_request *request, int *asked)
{
    const dsc_field_table tables[] = {
        {.title = "Options", .fields = fields, .base = o},
        {.title = "Messages", .fields = tool_progress_fields, .base = &o->progress},
        {0}};
    const char *names[MAX_NAMES];
    int count = MAX_NAMES;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_options_parse(argc, argv, tables, names, &count, asked));
    if (*asked != 0) goto out;
    DSC_TRY(choose_all(names, count, request));
    if (o->attention == 0 && (o->blocks.window > 0 || o->blocks.density != DENSITY))
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--density and --window are for --attention T"));
    DSC_TRY(check_path(o->out));
    DSC_TRY(dsc_device_open(o->device, 0, &request->device));
    if (request->device->has_queues && count > 0 && (request->copies || request->collectives))
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--device %s is for kernels: %s and %s are this machine's", o->device, copies_name,
                         collectives_name));
    if (request->device->has_queues) request->copies = request->collectives = false;
    request->quick = o->quick;
    request->every_line = o->progress;
    request->shows_progress = o->progress || isatty(STDERR_FILENO);
out:
    return status;
}

/* ---- Answers without measuring */

static void answer(int asked)
{
    options o;
    const dsc_field_table tables[] = {
        {.title = "Options", .fields = fields, .base = &o},
        {.title = "Messages", .fields = tool_progress_fields, .base = &o.progress},
        {0}};
    dsc_text text = {0};

    if (asked == 'v') dsc_text_add(&text, "%s (dsc) %s\n", self.name, PACKAGE_VERSION);
    else dsc_options_help(self.usage, self.summary, tables, &text);
    fputs(dsc_text_str(&text), stdout);
    dsc_text_fini(&text);
}

static dsc_status list(const options *o, dsc_device *device)
{
    json_t *array = json_array();
    dsc_status status = DSC_OK;

    for (int kernel = 0; kernel < DSC_KERNEL_COUNT; kernel++) {
        bench_request request = {.quick = true, .device = device};
        dsc_shape *shapes = NULL;
        int64_t count = 0;

        request.kernels[kernel] = is_measured_here(kernel);
        DSC_TRY(bench_grid(&request, &shapes, &count));
        free(shapes);
        if (!is_measured_here(kernel)) continue;
        if (o->json) json_array_append_new(array, json_string(dsc_kernel_name(kernel)));
        else printf("%-18s %lld shapes\n", dsc_kernel_name(kernel), (long long)count);
    }
    json_array_append_new(array, json_string(copies_name));
    json_array_append_new(array, json_string(collectives_name));
    if (o->json) json_dumpf(array, stdout, JSON_INDENT(1)), putchar('\n');
    else printf("%s\n%s\n", copies_name, collectives_name);
out:
    json_decref(array);
    return status;
}

static dsc_status describe_machine(dsc_calibration *out, int64_t *cores)
{
    dsc_cluster *cluster = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_cluster_local(&cluster));
    *cores = cluster->node_types[0].cores;
    out->machine = dsc_cluster_json(cluster);
    if (out->machine == NULL) status = DSC_FAIL(DSC_ENOMEM, "no memory for the machine's description");
    snprintf(out->dsc_version, sizeof out->dsc_version, "%s", PACKAGE_VERSION);
out:
    dsc_cluster_destroy(cluster);
    return status;
}

/* A comparison on this machine, in place of measuring it. */
static dsc_status show_comparison(const options *o)
{
    dsc_calibration machine = {0};
    dsc_text text = {0};
    int64_t cores;
    dsc_status status = DSC_OK;

    DSC_TRY(describe_machine(&machine, &cores));
    if (o->update > 0) DSC_TRY(bench_update(o->update, cores, o->json, &text));
    if (o->compression > 0) DSC_TRY(bench_compression(o->compression, cores, o->json, &text));
    if (o->attention > 0) DSC_TRY(bench_attention(o->attention, &o->blocks, cores, o->json, &text));
    fputs(dsc_text_str(&text), stdout);
out:
    free(machine.machine);
    dsc_text_fini(&text);
    return status;
}

/* ---- Measuring */

/* HDF5, and a product's primitive, as they are in a run. */
static dsc_status warm_libraries(void)
{
    const dsc_shape shape = {.kernel = DSC_K_GEMM, .d = {64, 64, 64}};
    const dsc_kernel_set *set = dsc_kernels_cpu();
    char path[] = "/tmp/dsc-bench.XXXXXX";
    char machine[] = "{}";
    const dsc_calibration empty = {.machine = machine};
    const int file = mkstemp(path);
    dsc_status status = DSC_OK;

    if (file < 0) return DSC_FAIL(DSC_EIO, "%s: %s", path, strerror(errno));
    close(file);
    if (set->prepare != NULL) DSC_TRY(set->prepare(&shape));
    DSC_TRY(dsc_calibration_save(path, &empty));
out:
    unlink(path);
    return status;
}

/* With the ranks of this job. Kernels come last: their pools would count as libraries. */
static dsc_status measure(dsc_comm *comm, const bench_request *request, dsc_calibration *out)
{
    int64_t resident;
    dsc_status status = DSC_OK;

    dsc_kernels_threads((int)DSC_MAX(1, request->cores / dsc_comm_machine_size(comm)));
    DSC_TRY(warm_libraries());
    resident = bench_resident_bytes();
    DSC_TRY(dsc_comm_max(comm, &resident, 1));
    out->libraries_bytes = DSC_MAX(out->libraries_bytes, resident);
    if (request->collectives) DSC_TRY(bench_collectives(comm, request, out));
    if (request->copies) DSC_TRY(bench_copies(comm, request, out));
    if (has_kernels(request) && dsc_comm_machine_size(comm) > request->cores) {
        if (dsc_comm_rank(comm) == 0)
            dsc_log(DSC_WARNING, "kernels are not measured: %d ranks have %lld cores here; without a launcher they are",
                    dsc_comm_machine_size(comm), (long long)request->cores);
    } else if (has_kernels(request)) {
        out->op_overhead_ns = bench_op_overhead_ns();
        DSC_TRY(bench_kernels(comm, request, out));
    }
out:
    return status;
}

static bool is_launched(void)
{
    return getenv("PMI_SIZE") != NULL || getenv("PMI_RANK") != NULL || getenv("PMIX_RANK") != NULL;
}

/* Transfers of more ranks than there are cores, where these are few: small models are tried out so, and what ranks do
 * that wait for a core no other sample tells. That a launcher does not allow it is no failure. */
static dsc_status measure_crowd(const bench_request *request, dsc_calibration *out)
{
    enum { CROWD = 8 };
    bench_request transfers = *request;
    dsc_status status = DSC_OK;

    if (!request->collectives || request->cores >= CROWD) return DSC_OK;
    memset(transfers.kernels, 0, sizeof transfers.kernels);
    transfers.copies = false;
    status = bench_launch(CROWD, &transfers, out);
    if (status == DSC_OK || status == DSC_ENOTSUP) return DSC_OK;
    dsc_log(DSC_WARNING, "%s: %d ranks at once are not measured", dsc_message(), CROWD);
    return DSC_OK;
}

/* What ranks that share the machine's cores do, then one rank with all of them, or with a GPU. Where there is no
 * launcher, one rank is measured all the same. */
static dsc_status measure_by_workers(const bench_request *request, dsc_calibration *out)
{
    bench_request shared = *request;
    dsc_status status = DSC_OK;

    shared.copies = false;
    if (request->cores > 1 && !request->device->has_queues && (has_kernels(request) || request->collectives))
        status = bench_launch((int)request->cores, &shared, out);
    if (status == DSC_ENOTSUP) dsc_log(DSC_WARNING, "%s: only one rank is measured", dsc_message());
    else if (status != DSC_OK) return status;
    DSC_TRY(measure_crowd(request, out));
    if (has_kernels(request) || request->copies) DSC_TRY(bench_launch(1, request, out));
out:
    return status;
}

static dsc_status write_results(const options *o, const dsc_calibration *calibration)
{
    dsc_text text = {0};
    dsc_status status = DSC_OK;

    if (o->worker[0] != '\0') DSC_TRY(dsc_calibration_save(o->worker, calibration));
    if (o->out[0] != '\0') DSC_TRY(dsc_calibration_save(o->out, calibration));
    if (o->worker[0] != '\0') goto out;
    DSC_TRY(o->json ? bench_print_json(calibration, &text) : bench_print(calibration, &text));
    fputs(dsc_text_str(&text), stdout);
out:
    dsc_text_fini(&text);
    return status;
}

/* In this job, whose rank 0 writes. Does not return. */
static void run_job(int argc, char **argv, const options *o, bench_request *request, dsc_calibration *calibration)
{
    dsc_comm *comm = NULL;
    dsc_status status = dsc_comm_create(&argc, &argv, &comm);
    int exit_status;

    if (status != DSC_OK) exit(tool_end(&self, status));
    request->shows_progress = request->shows_progress && dsc_comm_rank(comm) == 0;
    status = measure(comm, request, calibration);
    if (status == DSC_OK && dsc_comm_rank(comm) == 0) status = write_results(o, calibration);
    exit_status = dsc_comm_rank(comm) == 0 ? tool_end(&self, status) : dsc_exit_status(status);
    dsc_calibration_fini(calibration);
    dsc_comm_exit(comm, exit_status);
}

int main(int argc, char **argv)
{
    options o = {.blocks = {.density = DENSITY}, .device = "cpu"};
    bench_request request = {0};
    dsc_calibration calibration;
    dsc_status status;
    int asked = 0;

    dsc_calibration_init(&calibration);
    tool_log(&self);
    DSC_TRY(parse(argc, argv, &o, &request, &asked));
    if (asked != 0) {
        answer(asked);
        goto out;
    }
    if (o.list || o.update > 0 || o.compression > 0 || o.attention > 0) {
        status = o.list ? list(&o, request.device) : show_comparison(&o);
        goto out;
    }
    DSC_TRY(describe_machine(&calibration, &request.cores));
    if (o.worker[0] != '\0' || is_launched()) run_job(argc, argv, &o, &request, &calibration);
    DSC_TRY(measure_by_workers(&request, &calibration));
    DSC_TRY(write_results(&o, &calibration));
out:
    dsc_device_close(request.device);
    dsc_calibration_fini(&calibration);
    return tool_end(&self, status);
}
