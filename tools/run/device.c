#include "tools/run/run.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Where each rank computes */

/* The kind that --device says; auto: GPUs where all ranks' hosts have one. Without it CPUs, which `local` means in
 * dsc-plan, too: what one tool plans the other runs. Collective. */
static dsc_status choose_kind(const job *j, const char **out)
{
    const char *wanted = j->options.device[0] == '\0' ? "cpu" : j->options.device;
    int64_t lacks = dsc_device_count("cuda") == 0;
    dsc_status status = DSC_OK;

    if (strcmp(wanted, "cpu") != 0 && strcmp(wanted, "cuda") != 0 && strcmp(wanted, "auto") != 0)
        return DSC_FAIL(DSC_EINVAL, "--device %s is none of cpu, cuda, auto", wanted);
    *out = wanted;
    if (strcmp(wanted, "auto") != 0) return DSC_OK;
    DSC_TRY(dsc_comm_max(j->comm, &lacks, 1));
    *out = lacks ? "cpu" : "cuda";
out:
    return status;
}

static dsc_status open_here(job *j, const char *kind)
{
    const int index = dsc_comm_node_rank(j->comm) % DSC_MAX(dsc_device_count(kind), 1);
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_device_open(kind, index, &j->device));
    if (j->options.fake_compute_us > 0 && j->device->is_apart)
        return DSC_FAIL(DSC_ENOTSUP, "--fake-compute is for --device cpu");
out:
    return status == DSC_OK ? status : dsc_fail_in(status, "--device %s", kind);
}

/* Rank 0 lists them, and all get the list. */
static dsc_status list_seats(job *j)
{
    const int size = dsc_comm_size(j->comm);
    const int64_t bytes = size * (int64_t)sizeof(seat);
    seat own = {.node = dsc_comm_node_of(j->comm, j->rank)};
    int64_t *counts = calloc((size_t)size, sizeof *counts);
    void *all = NULL;
    dsc_status status = DSC_OK;

    snprintf(own.bus, sizeof own.bus, "%s", j->device->bus);
    j->seats = calloc((size_t)size, sizeof *j->seats);
    if (counts == NULL || j->seats == NULL) status = DSC_FAIL(DSC_ENOMEM, "devices of %d ranks", size);
    DSC_TRY(dsc_comm_agree(j->comm, status, false));
    DSC_TRY(dsc_comm_gather(j->comm, &own, sizeof own, &all, counts));
    if (j->rank == 0) memcpy(j->seats, all, (size_t)bytes);
    status = dsc_comm_broadcast(j->comm, j->seats, bytes, 0);
out:
    free(counts);
    free(all);
    return status;
}

dsc_status open_device(job *j)
{
    const char *kind = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(choose_kind(j, &kind));
    DSC_TRY(dsc_comm_agree(j->comm, open_here(j, kind), false));
    DSC_TRY(list_seats(j));
out:
    return status;
}

static bool is_on_host(const job *j, int rank) { return j->seats[rank].node == j->seats[j->rank].node; }

static bool has_our_device(const job *j, int rank)
{
    return is_on_host(j, rank) && strcmp(j->seats[rank].bus, j->seats[j->rank].bus) == 0;
}

/* ---- The machines of the job */

/* Of this host's ranks. */
static int64_t count_devices(const job *j)
{
    int64_t count = 0;

    for (int rank = 0; rank < dsc_comm_size(j->comm); rank++) {
        bool is_first = is_on_host(j, rank);

        for (int other = 0; other < rank; other++)
            is_first &= !is_on_host(j, other) || strcmp(j->seats[other].bus, j->seats[rank].bus) != 0;
        count += is_first;
    }
    return count;
}

/* A GPU by its name where that is known, else by what its driver tells: a multiprocessor has 128 units that multiply
 * and add. Its memory is what is there. */
static dsc_device_type describe_gpu(const dsc_device *device)
{
    const double flops = (double)device->multiprocessors * (double)device->clock_hz * 2 * 128;
    dsc_device_type type = {.is_gpu = true, .count = 1, .bandwidth_bytes_per_s = device->bandwidth_bytes_per_s,
                            .peak_flops = {[DSC_FP32] = flops, [DSC_BF16] = flops, [DSC_FP16] = flops},
                            .libraries_bytes = INT64_C(1) << 30};

    if (!dsc_gpu_by_model(device->name, &type)) snprintf(type.name, sizeof type.name, "%.47s", device->name);
    type.memory_bytes = device->memory_bytes;
    return type;
}

dsc_status make_live_cluster(job *j)
{
    const int nodes = dsc_comm_nodes(j->comm);
    const dsc_device_type gpu = describe_gpu(j->device);
    dsc_cluster *local = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(j->device->is_apart ? dsc_cluster_of_gpus(&gpu, count_devices(j), &local) : dsc_cluster_local(&local));
    DSC_TRY(dsc_cluster_of_ranks(local, nodes, dsc_ceil_div(dsc_comm_size(j->comm), nodes), &j->cluster));
    j->cluster->node_types[0].nodes_per_machine = dsc_comm_machine_size(j->comm) / dsc_comm_node_size(j->comm);
out:
    dsc_cluster_destroy(local);
    return status;
}

/* ---- Room */

static int64_t arenas_of(const job *j, bool (*counts)(const job *j, int rank), int space)
{
    int64_t bytes = 0;

    for (int rank = 0; rank < dsc_comm_size(j->comm); rank++)
        if (counts(j, rank)) bytes += j->programs[rank]->arena_bytes[space];
    return bytes;
}

static dsc_status check_gpu(const job *j)
{
    const int64_t needed = arenas_of(j, has_our_device, DSC_SPACE_DEVICE);
    int64_t free_bytes;
    dsc_status status = DSC_OK;

    DSC_TRY(j->device->calls->room(j->device, &free_bytes));
    if (needed > free_bytes)
        status = DSC_FAIL(DSC_ENOMEM,
                          "%s of rank %d: its ranks' arenas need %s (%" PRId64 " bytes) of memory, %s (%" PRId64
                          " bytes) are free",
                          j->device->name, j->rank, dsc_bytes_str(needed).str, needed, dsc_bytes_str(free_bytes).str,
                          free_bytes);
out:
    return status;
}

/* The kernel kills a process that touches more than there is, in mid-step and without a word: it is asked before. */
dsc_status check_room(const job *j)
{
    int64_t needed = arenas_of(j, is_on_host, DSC_SPACE_HOST), free_bytes = dsc_memory_room("");
    dsc_status status = DSC_OK;

    if (j->device->is_apart) DSC_TRY(check_gpu(j));
    else needed += arenas_of(j, is_on_host, DSC_SPACE_DEVICE);
    if (needed > free_bytes)
        status = DSC_FAIL(DSC_ENOMEM,
                          "the host of rank %d: its ranks' arenas need %s (%" PRId64 " bytes) of memory, %s (%" PRId64
                          " bytes) are free",
                          j->rank, dsc_bytes_str(needed).str, needed, dsc_bytes_str(free_bytes).str, free_bytes);
out:
    return status;
}

/* ---- Cores */

/* Ranks of containers of one machine do not know each other's devices. */
static dsc_status bind_to_share(const job *j, int64_t *cores)
{
    const int size = dsc_comm_machine_size(j->comm);
    const bool is_one_node = size == dsc_comm_node_size(j->comm);
    const char **near = calloc((size_t)size, sizeof *near);
    int count = 0;
    dsc_status status;

    if (near == NULL) return DSC_FAIL(DSC_ENOMEM, "devices of %d ranks", size);
    for (int rank = 0; rank < dsc_comm_size(j->comm) && is_one_node; rank++)
        if (is_on_host(j, rank)) near[count++] = j->seats[rank].bus;
    status = dsc_cluster_bind(dsc_comm_machine_rank(j->comm), size, near, cores);
    free(near);
    return status;
}

dsc_status bind_rank(const job *j, int64_t *cores)
{
    const char *how = j->options.bind;

    *cores = 0;
    if (how[0] != '\0' && strcmp(how, "cores") != 0 && strcmp(how, "none") != 0)
        return DSC_FAIL(DSC_EINVAL, "--bind %s: must be cores or none", how);
    return strcmp(how, "none") == 0 ? DSC_OK : bind_to_share(j, cores);
}
