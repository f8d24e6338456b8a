/* Published machines by name: a table of GPUs and a table of nodes. Rates are of one direction.
 *
 * Peaks, bandwidths and links are the vendors' data sheets' (dense, without sparsity); memory is what the driver leaves
 * to a program. Efficiencies are first values, to be calibrated against published runs.
 *
 * What copies to and from host memory take their time from: PCIe 3.0, 4.0 and 5.0 x16 carry 12, 25 and 50 GB/s of
 * payload, each way, Frontier's Infinity Fabric 36. In the DGX machines of V100 and A100 GPUs share a switch's up-link:
 * 2 in DGX-1 and DGX A100, 4 in DGX-2 (where all 16 at once then get the 3 GB/s each of ZeRO-Infinity, Rajbhandari et
 * al. 2021, figure 2b). A host's memory is channels x rate x 8 bytes: DGX-1 2 x 4 x 2.4 GT/s, DGX-2 2 x 6 x 2.666,
 * Jean Zay 2 x 6 x 2.933, A100 machines 2 x 8 x 3.2, H100 machines 2 x 8 x 4.8, B200 machines 2 x 8 x 5.6, Frontier
 * 8 x 3.2. */
#include "cluster/parts.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct gpu {
    const char *name;
    const char *model;  /* found in the name that drivers report */
    double memory_gib, memory_tb_per_s;
    double fp32, bf16, fp16, fp8; /* Tflop/s */
    dsc_efficiency efficiency;
} gpu;

/*   name         model          GiB    TB/s   fp32  bf16   fp16   fp8    product attention memory launch tile   SMs */
static const gpu gpus[] = {
    {"v100-16g", "V100-SXM2-16GB", 15.78, 0.900, 15.7, 0, 125, 0, {0.70, 0.20, 0.80, 5000, 128, 128, 80}},
    {"v100-32g", "V100-SXM2-32GB", 31.75, 0.900, 15.7, 0, 125, 0, {0.70, 0.20, 0.80, 5000, 128, 128, 80}},
    {"v100-32g", "V100-SXM3-32GB", 31.75, 0.900, 15.7, 0, 125, 0, {0.70, 0.20, 0.80, 5000, 128, 128, 80}},
    {"a100-40g", "A100-SXM4-40GB", 39.59, 1.555, 19.5, 312, 312, 0, {0.80, 0.50, 0.82, 4000, 256, 128, 108}},
    {"a100-80g", "A100-SXM4-80GB", 79.35, 2.039, 19.5, 312, 312, 0, {0.80, 0.50, 0.82, 4000, 256, 128, 108}},
    {"h100-80g", "H100 80GB HBM3", 79.11, 3.350, 67, 989, 989, 1979, {0.72, 0.50, 0.85, 3500, 256, 128, 132}},
    {"h200-141g", "H200", 139.8, 4.800, 67, 989, 989, 1979, {0.72, 0.50, 0.85, 3500, 256, 128, 132}},
    {"b200-180g", "B200", 178.4, 8.000, 80, 2250, 2250, 4500, {0.70, 0.50, 0.85, 3000, 256, 256, 148}},
    {"mi250x-gcd", "MI250X", 63.98, 1.638, 23.9, 191.5, 191.5, 0, {0.55, 0.25, 0.75, 6000, 128, 128, 110}},
};

typedef struct preset {
    const char *name, *gpu;
    int64_t gpus;
    const char *link;
    dsc_topology topology;
    double link_gb_per_s;
    double pcie_gb_per_s; /* device to host */
    int64_t gpus_per_port; /* that share it */
    int64_t nics;
    double nic_gb_per_s;
    int64_t cores;
    double host_gib, host_gb_per_s;
} preset;

static const preset presets[] = {
    {"dgx1-v100-16g", "v100-16g", 8, "nvlink2", DSC_MESH, 150, 12, 2, 4, 12.5, 40, 512, 153.6},
    {"dgx1-v100-32g", "v100-32g", 8, "nvlink2", DSC_MESH, 150, 12, 2, 4, 12.5, 40, 512, 153.6},
    {"dgx2-v100", "v100-32g", 16, "nvswitch", DSC_SWITCH, 150, 12, 4, 8, 12.5, 48, 1536, 256},
    {"jeanzay-v100", "v100-32g", 4, "nvlink2", DSC_MESH, 150, 12, 1, 4, 12.5, 40, 192, 281.6},
    {"dgx-a100-40g", "a100-40g", 8, "nvswitch", DSC_SWITCH, 300, 25, 2, 8, 25, 128, 1024, 409.6},
    {"dgx-a100-80g", "a100-80g", 8, "nvswitch", DSC_SWITCH, 300, 25, 2, 8, 25, 128, 2048, 409.6},
    {"hgx-a100-80g", "a100-80g", 8, "nvswitch", DSC_SWITCH, 300, 25, 2, 4, 25, 128, 1024, 409.6},
    {"dgx-h100", "h100-80g", 8, "nvswitch", DSC_SWITCH, 450, 50, 1, 8, 50, 112, 2048, 614.4},
    {"hgx-h200", "h200-141g", 8, "nvswitch", DSC_SWITCH, 450, 50, 1, 8, 50, 112, 2048, 614.4},
    {"hgx-b200", "b200-180g", 8, "nvswitch", DSC_SWITCH, 900, 50, 1, 8, 50, 112, 2048, 716.8},
    {"frontier-mi250x", "mi250x-gcd", 8, "infinity-fabric", DSC_MESH, 100, 36, 1, 4, 25, 64, 512, 204.8},
};

static const double gib = 1073741824.0;
static const double giga = 1e9;
static const double tera = 1e12;
static const int64_t gpu_libraries_bytes = INT64_C(1) << 30; /* context, NCCL's buffers, cuBLAS */

static void fill_gpu(const gpu *row, dsc_device_type *out)
{
    *out = (dsc_device_type){
        .is_gpu = true,
        .count = 1,
        .memory_bytes = (int64_t)(row->memory_gib * gib),
        .bandwidth_bytes_per_s = row->memory_tb_per_s * tera,
        .peak_flops = {[DSC_FP32] = row->fp32 * tera,
                       [DSC_BF16] = row->bf16 * tera,
                       [DSC_FP16] = row->fp16 * tera,
                       [DSC_FP8] = row->fp8 * tera},
        .libraries_bytes = gpu_libraries_bytes,
        .efficiency = row->efficiency,
    };
    snprintf(out->name, sizeof out->name, "%s", row->name);
}

static void fill_named_gpu(const char *name, dsc_device_type *out)
{
    for (int64_t i = 0; i < DSC_COUNT(gpus); i++)
        if (dsc_equal(gpus[i].name, name)) fill_gpu(&gpus[i], out);
}

bool dsc_gpu_by_model(const char *model, dsc_device_type *out)
{
    for (int64_t i = 0; i < DSC_COUNT(gpus); i++)
        if (strstr(model, gpus[i].model) != NULL) {
            fill_gpu(&gpus[i], out);
            return true;
        }
    return false;
}

/* Whether a name begins with that chip's, up to its end or a sign: "A100" of "a100-80g", but not of "A1000". */
static bool is_chip(const char *name, const char *chip)
{
    const size_t length = strcspn(chip, "-");

    return strncasecmp(name, chip, length) == 0 && !isalnum((unsigned char)name[length]);
}

/* The GPU of that chip nearest in memory; where that is not said, the one of that model, else the first. */
static const gpu *find_gpu(const char *name, double memory_gib)
{
    const gpu *best = NULL;
    double least = 0;

    for (int64_t i = 0; i < DSC_COUNT(gpus); i++) {
        double off = memory_gib > 0 ? fabs(gpus[i].memory_gib - memory_gib) : strstr(name, gpus[i].model) == NULL;

        if (!is_chip(name, gpus[i].name) || (best != NULL && off >= least)) continue;
        best = &gpus[i];
        least = off;
    }
    return best;
}

bool dsc_gpu_find(const char *name, double memory_gib, dsc_device_type *out, bool *is_relative)
{
    /* Chips without a row of their own, and the nearest one that has: the same generation. */
    static const struct { const char *chip, *relative; } relatives[] = {
        {"gb200", "b200"}, {"b300", "b200"}, {"gb300", "b200"}, {"gh200", "h200"}, {"h800", "h100"}, {"a800", "a100"}};
    const gpu *row = find_gpu(name, memory_gib);

    *is_relative = row == NULL;
    for (int64_t i = 0; row == NULL && i < DSC_COUNT(relatives); i++)
        if (is_chip(name, relatives[i].chip)) row = find_gpu(relatives[i].relative, memory_gib);
    if (row != NULL) fill_gpu(row, out);
    return row != NULL;
}

static const preset *find_preset(const char *name)
{
    for (int64_t i = 0; i < DSC_COUNT(presets); i++)
        if (dsc_equal(presets[i].name, name)) return &presets[i];
    return NULL;
}

bool dsc_cluster_is_preset(const char *name)
{
    return find_preset(name) != NULL;
}

/* Latencies: of a hop between GPUs, of a copy over PCIe with its launch, of a message on the network. */
static void fill_node(const preset *row, dsc_node_type *node)
{
    snprintf(node->name, sizeof node->name, "%s", row->name);
    node->cores = row->cores;
    node->host_memory_bytes = (int64_t)(row->host_gib * gib);
    node->host_bandwidth_bytes_per_s = row->host_gb_per_s * giga;
    node->links[0] = (dsc_link){.between = {"device", "device"},
                                .topology = row->topology,
                                .bytes_per_s = row->link_gb_per_s * giga,
                                .latency_ns = 2000};
    snprintf(node->links[0].name, sizeof node->links[0].name, "%s", row->link);
    node->links[1] = (dsc_link){.name = "pcie",
                                .between = {"device", "host"},
                                .topology = DSC_SWITCH,
                                .bytes_per_s = row->pcie_gb_per_s * giga,
                                .latency_ns = 8000,
                                .devices_per_port = row->gpus_per_port};
    node->nics[0] = (dsc_nic){.count = row->nics, .bytes_per_s = row->nic_gb_per_s * giga, .latency_ns = 5000};
}

dsc_status dsc_cluster_of_preset(const char *name, int64_t nodes, dsc_cluster **out)
{
    const preset *row = find_preset(name);
    dsc_cluster *cluster;
    dsc_device_type *device;

    if (row == NULL) return DSC_FAIL(DSC_EINVAL, "unknown cluster \"%s\"", name);
    cluster = dsc_cluster_make(2, 1);
    if (cluster == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: no memory for a cluster", name);
    device = cluster->node_types[0].devices;
    fill_named_gpu(row->gpu, device);
    device->count = row->gpus;
    fill_node(row, &cluster->node_types[0]);
    snprintf(cluster->name, sizeof cluster->name, "%s", name);
    cluster->nodes[0].count = nodes;
    cluster->network[0] = (dsc_tier){.name = "fabric",
                                     .nodes = nodes,
                                     .bytes_per_s = row->nic_gb_per_s * giga,
                                     .latency_ns = 1000,
                                     .oversubscription = 1};
    *out = cluster;
    return DSC_OK;
}

const char *const *dsc_cluster_presets(void)
{
    static const char *names[sizeof presets / sizeof *presets + 1];

    for (int64_t i = 0; i < DSC_COUNT(presets); i++) names[i] = presets[i].name;
    return names;
}
