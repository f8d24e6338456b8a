/* Machines of CPUs: this one, and those that hwloc describes. What no library tells, peaks and bandwidths, is a first
 * guess, which dsc-bench replaces by measurement. */
#include "cluster/parts.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a core does in a cycle, and how many cycles a second has. */
typedef struct cpu_speed { double clock_hz, fp32_per_cycle, bf16_per_cycle; } cpu_speed;

static const cpu_speed unknown_cpu = {2.5e9, 32, 32}; /* AVX2: two fused multiply-adds of 8 */

static const double core_bytes_per_s = 10e9; /* of memory bandwidth; what one core draws, up to a socket's */
static const double most_bytes_per_s = 200e9;
static const int64_t cpu_libraries_bytes = INT64_C(64) << 20; /* MPI, oneDNN's code, the program */

/* The number after the first occurrence of a word in a file; 0 when there is none. */
static double read_number(const char *path, const char *word)
{
    FILE *file = fopen(path, "r");
    char line[256];
    double value = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *at = strstr(line, word);

        if (at == NULL) continue;
        at += strlen(word);
        value = strtod(at + strspn(at, " \t:"), NULL);
        break;
    }
    if (file != NULL) fclose(file);
    return value;
}

static double clock_here(void)
{
    double khz = read_number("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "");
    double mhz = read_number("/proc/cpuinfo", "cpu MHz");

    if (khz > 0) return khz * 1e3;
    return mhz > 0 ? mhz * 1e6 : unknown_cpu.clock_hz;
}

static cpu_speed cpu_here(void)
{
    cpu_speed here = unknown_cpu;

    here.clock_hz = clock_here();
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) here.fp32_per_cycle = 64;
    else if (!__builtin_cpu_supports("avx2")) here.fp32_per_cycle = 8;
    here.bf16_per_cycle = here.fp32_per_cycle * (__builtin_cpu_supports("avx512bf16") ? 2 : 1);
#endif
    return here;
}

/* What processes can have: the kernel's count, which hwloc's sum over nodes may miss (hot-plugged memory), or less in a
 * container (cgroup version 2, where "max" reads as 0, and 1). */
static int64_t memory_here(void)
{
    static const char *const limits[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    double bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);

    for (int64_t i = 0; i < DSC_COUNT(limits); i++) {
        double limit = read_number(limits[i], "");

        if (limit > 0 && limit < bytes) bytes = limit;
    }
    return (int64_t)bytes;
}

/* fp16 is stored, and computed in fp32. */
static dsc_device_type cpu_device(const dsc_machine *machine, const cpu_speed *cpu)
{
    double cycles = (double)machine->cores * cpu->clock_hz;

    return (dsc_device_type){
        .name = "cpu",
        .count = 1,
        .memory_bytes = machine->memory_bytes,
        .bandwidth_bytes_per_s = fmin((double)machine->cores * core_bytes_per_s, most_bytes_per_s),
        .peak_flops = {[DSC_FP32] = cycles * cpu->fp32_per_cycle,
                       [DSC_BF16] = cycles * cpu->bf16_per_cycle,
                       [DSC_FP16] = cycles * cpu->fp32_per_cycle,
                       [DSC_FP64] = cycles * cpu->fp32_per_cycle / 2},
        .libraries_bytes = cpu_libraries_bytes,
    };
}

/* Ranks talk through shared memory, which all of the node share (a tree's trunk); nodes by 10-Gbit Ethernet. */
static dsc_status make_cluster(const char *name, const dsc_machine *machine, const cpu_speed *cpu, dsc_cluster **out)
{
    dsc_cluster *cluster = dsc_cluster_make(2, 1);
    dsc_device_type device = cpu_device(machine, cpu);
    double memory_rate = device.bandwidth_bytes_per_s;
    dsc_node_type *node;

    if (cluster == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: no memory for a cluster", name);
    snprintf(cluster->name, sizeof cluster->name, "%s", name);
    node = &cluster->node_types[0];
    snprintf(node->name, sizeof node->name, "node");
    node->devices[0] = device;
    node->links[0] = (dsc_link){"shared-memory", {"device", "device"}, DSC_TREE, memory_rate / 4, 2000, 1};
    node->links[1] = (dsc_link){"memory", {"device", "host"}, DSC_TREE, memory_rate / 2, 500, 1};
    node->nics[0] = (dsc_nic){.count = 1, .bytes_per_s = 1.25e9, .latency_ns = 20000};
    node->cores = machine->cores;
    node->host_memory_bytes = machine->memory_bytes;
    node->host_bandwidth_bytes_per_s = memory_rate;
    cluster->network[0] = (dsc_tier){
        .name = "ethernet", .nodes = 1, .bytes_per_s = 1.25e9, .latency_ns = 10000, .oversubscription = 1};
    *out = cluster;
    return DSC_OK;
}

dsc_status dsc_cluster_local(dsc_cluster **out)
{
    dsc_status status = DSC_OK;
    dsc_machine machine;
    cpu_speed cpu = cpu_here();

    DSC_TRY(dsc_hwloc_here(&machine));
    machine.memory_bytes = memory_here();
    DSC_TRY(make_cluster("local", &machine, &cpu, out));
    (*out)->is_local = true;
out:
    return status;
}

/* Latencies as in presets. GPUs that no link of their own joins meet in the host, whose bus they share. */
static void set_gpus(const dsc_machine *machine, const dsc_device_type *gpu, dsc_node_type *node)
{
    const double pcie = machine->pcie_bytes_per_s > 0 ? machine->pcie_bytes_per_s : 12e9; /* 3.0 x16 */
    const bool is_coupled = machine->gpu_host_bytes_per_s > pcie; /* to the processor, as on POWER and Grace */
    dsc_link *between = &node->links[0], *to_host = &node->links[1];

    node->devices[0] = *gpu;
    node->devices[0].count = machine->gpus;
    if (machine->gpu_memory_bytes > 0) node->devices[0].memory_bytes = machine->gpu_memory_bytes;
    *between = (dsc_link){"pcie", {"device", "device"}, DSC_TREE, pcie, 8000, 1};
    *to_host = (dsc_link){"pcie", {"device", "host"}, DSC_SWITCH, pcie, 8000, DSC_MAX(machine->gpus_per_port, 1)};
    if (is_coupled)
        *to_host = (dsc_link){"nvlink", {"device", "host"}, DSC_SWITCH, machine->gpu_host_bytes_per_s, 8000, 1};
    if (machine->gpu_link.bytes_per_s > 0) {
        between->topology = machine->gpu_link.topology;
        between->bytes_per_s = machine->gpu_link.bytes_per_s;
        between->latency_ns = 2000;
        memcpy(between->name, machine->gpu_link.name, sizeof between->name);
    }
}

static void set_nics(const dsc_machine *machine, dsc_cluster *cluster)
{
    dsc_nic *nic = &cluster->node_types[0].nics[0];
    dsc_tier *tier = &cluster->network[0];

    nic->count = machine->nics.count;
    nic->bytes_per_s = tier->bytes_per_s = machine->nics.bytes_per_s;
    if (!machine->has_fabric) return; /* latencies of Ethernet */
    nic->latency_ns = 5000;
    tier->latency_ns = 1000;
    snprintf(tier->name, sizeof tier->name, "fabric");
}

dsc_status dsc_cluster_of_gpus(const dsc_device_type *gpu, int64_t gpus, dsc_cluster **out)
{
    const cpu_speed cpu = cpu_here();
    dsc_machine machine;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_hwloc_here(&machine));
    machine.memory_bytes = memory_here();
    machine.gpus = gpus;
    machine.gpu_memory_bytes = gpu->memory_bytes;
    DSC_TRY(make_cluster("local", &machine, &cpu, out));
    set_gpus(&machine, gpu, &(*out)->node_types[0]);
out:
    return status;
}

dsc_status dsc_cluster_of_machine(const char *name, const dsc_machine *machine, dsc_cluster **out)
{
    bool has_gpus = machine->gpus > 0;
    dsc_status status = DSC_OK;
    dsc_device_type gpu;

    if (has_gpus && !dsc_gpu_by_model(machine->gpu_model, &gpu))
        return DSC_FAIL(DSC_ENOTSUP, "%s: GPUs of model \"%s\" are not known; describe the cluster in JSON", name,
                        machine->gpu_model);
    DSC_TRY(make_cluster(name, machine, &unknown_cpu, out));
    if (has_gpus) set_gpus(machine, &gpu, &(*out)->node_types[0]);
    if (machine->nics.count > 0) set_nics(machine, *out);
out:
    return status;
}

/* ---- A job's machines */

/* What the node's devices are together, in so many parts. */
static void share_device(dsc_device_type *device, int64_t ranks)
{
    const double count = (double)device->count;
    int64_t memory_bytes;

    if (!dsc_mul(device->memory_bytes, device->count, &memory_bytes)) memory_bytes = INT64_MAX;
    device->memory_bytes = memory_bytes / ranks;
    device->bandwidth_bytes_per_s = device->bandwidth_bytes_per_s * count / (double)ranks;
    for (int i = 0; i < DSC_DTYPE_COUNT; i++) device->peak_flops[i] = device->peak_flops[i] * count / (double)ranks;
    device->power_w = device->power_w * count / (double)ranks;
    device->count = ranks;
}

dsc_status dsc_cluster_of_ranks(const dsc_cluster *local, int64_t nodes, int64_t ranks_per_node, dsc_cluster **out)
{
    const dsc_node_type *from = &local->node_types[0];
    dsc_cluster *cluster;
    dsc_node_type *node;

    if (nodes < 1 || ranks_per_node < 1)
        return DSC_FAIL(DSC_EINVAL, "%s: %lld nodes of %lld ranks: both must be at least 1", local->name,
                        (long long)nodes, (long long)ranks_per_node);
    cluster = dsc_cluster_make(from->link_count, local->tier_count);
    if (cluster == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: no memory for a cluster", local->name);
    snprintf(cluster->name, sizeof cluster->name, "%s", local->name);
    cluster->is_local = local->is_local;
    node = &cluster->node_types[0];
    memcpy(node->name, from->name, sizeof node->name);
    node->devices[0] = from->devices[0];
    share_device(&node->devices[0], ranks_per_node);
    memcpy(node->links, from->links, (size_t)from->link_count * sizeof *node->links);
    memcpy(cluster->network, local->network, (size_t)local->tier_count * sizeof *cluster->network);
    if (local->tier_count > 0) cluster->network[local->tier_count - 1].nodes = nodes;
    if (from->nic_count > 0) node->nics[0] = from->nics[0];
    node->cores = from->cores;
    node->nodes_per_machine = from->nodes_per_machine;
    node->host_memory_bytes = from->host_memory_bytes;
    node->host_bandwidth_bytes_per_s = from->host_bandwidth_bytes_per_s;
    node->power_w = from->power_w;
    node->mtbf_h = from->mtbf_h;
    node->nvme = from->nvme;
    cluster->storage = local->storage;
    cluster->nodes[0].count = nodes;
    *out = cluster;
    return DSC_OK;
}
