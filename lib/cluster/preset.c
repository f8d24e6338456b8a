/* Published machines by name: a table of GPUs and a table of nodes. Rates are of one direction.
 *
 * Peaks, bandwidths, links and powers are the vendors' data sheets' (dense, without sparsity); memory is what the
 * driver leaves to a program. doc/clusters.md has the sources. Efficiencies are first values, to be calibrated against
 * published runs; H100 of 96 GB has H100's, all of Blackwell have B200's.
 *
 * What copies to and from host memory take their time from: PCIe 3.0, 4.0 and 5.0 x16 carry 12, 25 and 50 GB/s of
 * payload, each way, Frontier's Infinity Fabric 36, Grace's NVLink-C2C 450 for both of its GPUs. In the DGX machines of
 * V100 and A100 GPUs share a switch's up-link: 2 in DGX-1 and DGX A100, 4 in DGX-2 (where all 16 at once then get the
 * 3 GB/s each of ZeRO-Infinity, Rajbhandari et al. 2021, figure 2b). A host's memory is channels x rate x 8 bytes:
 * DGX-1 2 x 4 x 2.4 GT/s, DGX-2 2 x 6 x 2.666, Jean Zay 2 x 6 x 2.933, A100 machines 2 x 8 x 3.2, H100 machines
 * 2 x 8 x 4.8, B200 machines 2 x 8 x 5.6, B300 machines 2 x 8 x 6.4, Frontier 8 x 3.2; a Grace with
 * 480 GB has 384 GB/s. */
#include "cluster/parts.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct gpu {
    const char *name;
    double memory_gib, memory_tb_per_s;
    double fp32, bf16, fp16, fp8; /* Tflop/s */
    double power_w;
    dsc_efficiency efficiency;
} gpu;

/*   name          GiB   TB/s   fp32  bf16   fp16   fp8      W   product fp8 attention memory launch tile SMs */
static const gpu gpus[] = {
    {"v100-16g", 15.78, 0.900, 15.7, 0, 125, 0, 300, {0.82, 0, 0.20, 0.80, 5000, 128, 128, 80}},
    {"v100-sxm2-32g", 31.75, 0.900, 15.7, 0, 125, 0, 300, {0.62, 0, 0.20, 0.80, 5000, 128, 128, 80}},
    {"v100-32g", 31.75, 0.900, 15.7, 0, 125, 0, 350, {0.90, 0, 0.20, 0.80, 5000, 128, 128, 80}},
    {"a100-40g", 39.59, 1.555, 19.5, 312, 312, 0, 400, {0.86, 0, 0.40, 0.88, 4000, 256, 128, 108}},
    {"a100-80g", 79.35, 2.039, 19.5, 312, 312, 0, 400, {0.86, 0, 0.40, 0.88, 4000, 256, 128, 108}},
    {"h100-80g", 79.11, 3.350, 67, 989, 989, 1979, 700, {0.62, 0.72, 0.50, 0.85, 3500, 256, 128, 132}},
    {"h100-96g", 95.04, 2.400, 67, 989, 989, 1979, 500, {0.50, 0, 0.26, 0.85, 3500, 256, 128, 132}},
    {"h200-141g", 139.8, 4.800, 67, 989, 989, 1979, 700, {0.62, 0.72, 0.50, 0.85, 3500, 256, 128, 132}},
    {"b200-180g", 178.4, 8.000, 80, 2250, 2250, 4500, 1000, {0.62, 0, 0.50, 0.85, 3000, 256, 256, 148}},
    {"b300-288g", 267.7, 7.700, 75, 2250, 2250, 4500, 1100, {0.70, 0, 0.50, 0.85, 3000, 256, 256, 148}},
    {"gb200-186g", 184.3, 8.000, 80, 2500, 2500, 5000, 1200, {0.59, 0, 0.50, 0.85, 3000, 256, 256, 152}},
    {"gb300-288g", 276.6, 8.000, 80, 2500, 2500, 5000, 1400, {0.73, 0, 0.50, 0.85, 3000, 256, 256, 152}},
    {"mi250x-gcd", 63.98, 1.638, 23.9, 191.5, 191.5, 0, 280, {0.55, 0, 0.25, 0.75, 6000, 128, 128, 110}},
};

/* Words of the names by which others know these GPUs. "H100" alone is what the driver calls the part of 96 GB. */
static const struct gpu_model { const char *words, *gpu; bool is_whole; } models[] = {
    {"V100-SXM2-16GB", "v100-16g", false}, {"V100-16GB", "v100-16g", false},
    {"V100-SXM2-32GB", "v100-sxm2-32g", false}, {"V100-SXM3-32GB", "v100-32g", false},
    {"V100-32GB", "v100-32g", false},
    {"A100-SXM4-40GB", "a100-40g", false}, {"A100-40GB", "a100-40g", false},
    {"A100-SXM4-80GB", "a100-80g", false}, {"A100-80GB", "a100-80g", false},
    {"H100 80GB HBM3", "h100-80g", false}, {"H100-SXM5-80GB", "h100-80g", false}, {"H100-80GB", "h100-80g", false},
    {"H100-SXM5-96GB", "h100-96g", false}, {"H100-96GB", "h100-96g", false}, {"NVIDIA H100", "h100-96g", true},
    {"H200", "h200-141g", false},          {"B200", "b200-180g", false},   {"B300", "b300-288g", false},
    {"GB200", "gb200-186g", false},        {"GB300", "gb300-288g", false}, {"MI250X", "mi250x-gcd", false},
};

/* NVLink that ends at the node, and that of a rack of 18 nodes. */
enum { ALONE = 1, RACK = 18 };

typedef struct preset {
    const char *name, *gpu;
    int64_t gpus;
    const char *link;
    dsc_topology topology;
    double link_gb_per_s;
    int64_t domain_nodes; /* that the link spans */
    const char *host_link;
    double host_link_gb_per_s; /* device to host */
    int64_t gpus_per_port; /* that share it */
    int64_t nics;
    double nic_gb_per_s;
    int64_t cores;
    double host_gib, host_gb_per_s;
    double power_kw;
    struct { int64_t count; double tb, read_gb_per_s, write_gb_per_s; } nvme; /* of one drive */
} preset;

/* name, GPU: number; link between them: rate, nodes; link to the host: rate, GPUs that share it; NICs: number, rate;
 * host: cores, GiB, GB/s; kW; NVMe: number, TB, GB/s read and written */
static const preset presets[] = {
    {"dgx1-v100-16g", "v100-16g", 8, "nvlink2", DSC_MESH, 150, ALONE, "pcie", 12, 2, 4, 12.5, 40, 512, 153.6, 3.5, {0}},
    {"dgx1-v100-32g", "v100-sxm2-32g", 8, "nvlink2", DSC_MESH, 150, ALONE, "pcie", 12, 2, 4, 12.5, 40, 512, 153.6, 3.5,
     {0}},
    {"dgx2-v100", "v100-32g", 16, "nvswitch", DSC_SWITCH, 150, ALONE, "pcie", 12, 4, 8, 12.5, 48, 1536, 256, 10,
     {8, 3.84, 3.2, 0}},
    {"jeanzay-v100", "v100-sxm2-32g", 4, "nvlink2", DSC_MESH, 150, ALONE, "pcie", 12, 1, 4, 12.5, 40, 192, 281.6, 0,
     {0}},
    {"dgx-a100-40g", "a100-40g", 8, "nvswitch", DSC_SWITCH, 300, ALONE, "pcie", 25, 2, 8, 25, 128, 1024, 409.6, 6.5,
     {4, 3.84, 6.25, 0}},
    {"dgx-a100-80g", "a100-80g", 8, "nvswitch", DSC_SWITCH, 300, ALONE, "pcie", 25, 2, 8, 25, 128, 2048, 409.6, 6.5,
     {8, 3.84, 6.25, 0}},
    {"hgx-a100-80g", "a100-80g", 8, "nvswitch", DSC_SWITCH, 300, ALONE, "pcie", 25, 2, 4, 25, 128, 1024, 409.6, 0, {0}},
    {"dgx-h100", "h100-80g", 8, "nvswitch", DSC_SWITCH, 450, ALONE, "pcie", 50, 1, 8, 50, 112, 2048, 614.4, 10.2,
     {8, 3.84, 0, 0}},
    {"hgx-h100", "h100-80g", 8, "nvswitch", DSC_SWITCH, 450, ALONE, "pcie", 50, 1, 8, 50, 112, 2048, 614.4, 0, {0}},
    {"hgx-h100-96g", "h100-96g", 8, "nvswitch", DSC_SWITCH, 450, ALONE, "pcie", 50, 1, 8, 50, 112, 2048, 614.4, 0, {0}},
    {"hgx-h200", "h200-141g", 8, "nvswitch", DSC_SWITCH, 450, ALONE, "pcie", 50, 1, 8, 50, 112, 2048, 614.4, 10.2,
     {8, 3.84, 0, 0}},
    {"hgx-b200", "b200-180g", 8, "nvswitch", DSC_SWITCH, 900, ALONE, "pcie", 50, 1, 8, 50, 112, 2048, 716.8, 14.3,
     {8, 3.84, 0, 0}},
    {"hgx-b300", "b300-288g", 8, "nvswitch", DSC_SWITCH, 900, ALONE, "pcie", 50, 1, 8, 100, 128, 2048, 819.2, 14,
     {8, 3.84, 0, 0}},
    {"gb200-nvl72", "gb200-186g", 4, "nvlink5", DSC_SWITCH, 900, RACK, "nvlink-c2c", 450, 2, 4, 50, 144, 960, 768,
     6.7, {4, 3.84, 0, 0}},
    {"gb300-nvl72", "gb300-288g", 4, "nvlink5", DSC_SWITCH, 900, RACK, "nvlink-c2c", 450, 2, 4, 100, 144, 960, 768,
     7.9, {4, 3.84, 0, 0}},
    {"frontier-mi250x", "mi250x-gcd", 8, "infinity-fabric", DSC_MESH, 100, ALONE, "infinity-fabric", 36, 1, 4, 25, 64,
     512, 204.8, 0, {2, 1.92, 4, 2}},
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
        .power_w = row->power_w,
        .efficiency = row->efficiency,
    };
    snprintf(out->name, sizeof out->name, "%s", row->name);
}

static void fill_named_gpu(const char *name, dsc_device_type *out)
{
    for (int64_t i = 0; i < DSC_COUNT(gpus); i++)
        if (dsc_equal(gpus[i].name, name)) fill_gpu(&gpus[i], out);
}

/* Whether the text has these words, which no letter or digit continues on either side. */
static bool has_words(const char *text, const char *words)
{
    const size_t length = strlen(words);

    for (const char *at = text; (at = strcasestr(at, words)) != NULL; at++)
        if ((at == text || !isalnum((unsigned char)at[-1])) && !isalnum((unsigned char)at[length])) return true;
    return false;
}

static const char *gpu_of_model(const char *model)
{
    for (int64_t i = 0; i < DSC_COUNT(gpus); i++)
        if (strcasecmp(model, gpus[i].name) == 0) return gpus[i].name;
    for (int64_t i = 0; i < DSC_COUNT(models); i++)
        if (models[i].is_whole ? strcasecmp(model, models[i].words) == 0 : has_words(model, models[i].words))
            return models[i].gpu;
    return NULL;
}

bool dsc_gpu_by_model(const char *model, dsc_device_type *out)
{
    const char *name = gpu_of_model(model);

    if (name != NULL) fill_named_gpu(name, out);
    return name != NULL;
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
    node->links[1] = (dsc_link){.between = {"device", "host"},
                                .topology = DSC_SWITCH,
                                .bytes_per_s = row->host_link_gb_per_s * giga,
                                .latency_ns = 8000,
                                .devices_per_port = row->gpus_per_port};
    snprintf(node->links[1].name, sizeof node->links[1].name, "%s", row->host_link);
    node->nics[0] = (dsc_nic){.count = row->nics, .bytes_per_s = row->nic_gb_per_s * giga, .latency_ns = 5000};
    node->power_w = row->power_kw * 1e3;
    node->nvme = (dsc_nvme){.count = row->nvme.count,
                            .bytes = (int64_t)(row->nvme.tb * tera),
                            .read_bytes_per_s = row->nvme.read_gb_per_s * giga,
                            .write_bytes_per_s = row->nvme.write_gb_per_s * giga};
}

/* One tier for all NICs, and below it the switches of a link that spans nodes: each passes on at its ports' rate. */
static void fill_network(const preset *row, int64_t nodes, dsc_cluster *cluster)
{
    dsc_tier *fabric = &cluster->network[cluster->tier_count - 1];

    *fabric = (dsc_tier){.name = "fabric",
                         .nodes = DSC_MAX(nodes, row->domain_nodes),
                         .bytes_per_s = row->nic_gb_per_s * giga,
                         .latency_ns = 1000,
                         .oversubscription = 1};
    if (row->domain_nodes == ALONE) return;
    cluster->network[0] = (dsc_tier){.nodes = row->domain_nodes,
                                     .bytes_per_s = row->link_gb_per_s * giga,
                                     .oversubscription = 1,
                                     .port = DSC_PORT_DEVICE};
    snprintf(cluster->network[0].name, sizeof cluster->network[0].name, "%s", row->link);
}

dsc_status dsc_cluster_of_preset(const char *name, int64_t nodes, dsc_cluster **out)
{
    const preset *row = find_preset(name);
    dsc_cluster *cluster;
    dsc_device_type *device;

    if (row == NULL) return DSC_FAIL(DSC_EINVAL, "unknown cluster \"%s\"", name);
    if (nodes == 0) nodes = row->domain_nodes;
    cluster = dsc_cluster_make(2, row->domain_nodes == ALONE ? 1 : 2);
    if (cluster == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: no memory for a cluster", name);
    device = cluster->node_types[0].devices;
    fill_named_gpu(row->gpu, device);
    device->count = row->gpus;
    fill_node(row, &cluster->node_types[0]);
    snprintf(cluster->name, sizeof cluster->name, "%s", name);
    cluster->nodes[0].count = nodes;
    fill_network(row, nodes, cluster);
    *out = cluster;
    return DSC_OK;
}

const char *const *dsc_cluster_presets(void)
{
    static const char *names[sizeof presets / sizeof *presets + 1];

    for (int64_t i = 0; i < DSC_COUNT(presets); i++) names[i] = presets[i].name;
    return names;
}
