/* The cluster that a row of measurements ran on: of the GPU's preset, what the row does not say. */
#include "base/parse.h"
#include "tools/plan/row.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double gib = 1073741824.0, giga = 1e9, tera = 1e12;
static const double usable = 0.985; /* of a GPU's memory, beside what its driver keeps */
static const double same = 0.05;    /* up to which two data sheets round one figure */

static bool is_other(double value, double known)
{
    return fabs(value - known) > same * known;
}

/* A positive number; 0 where the cell is empty. */
static dsc_status read_number(const row *row, row_column column, double *out)
{
    *out = 0;
    if (row_cell(row, column)[0] == '\0') return DSC_OK;
    return dsc_parse_real(row_column_name(column), row_cell(row, column), 1e-3, 1e9, out);
}

static dsc_status read_count(const row *row, row_column column, int64_t *out)
{
    return dsc_parse_int(row_column_name(column), row_cell(row, column), 1, 1 << 20, out);
}

/* ---- The GPU */

/* Whether the GPU has that peak at some precision: tables give that of bf16 for rows in fp8, too. */
static bool has_peak(const dsc_device_type *gpu, double flops)
{
    for (int i = 0; i < DSC_DTYPE_COUNT; i++)
        if (gpu->peak_flops[i] > 0 && !is_other(flops, gpu->peak_flops[i])) return true;
    return false;
}

/* What the row knows better. A peak that is none of the GPU's is that of the row's precision; the others keep their
 * proportions. */
static void adapt_gpu(double memory_gb, double peak_tflops, dsc_dtype precision, dsc_device_type *gpu,
                      dsc_text *changes)
{
    const double peak = gpu->peak_flops[precision], factor = peak_tflops * tera / peak;

    if (memory_gb > 0 && is_other(memory_gb, (double)gpu->memory_bytes / gib)) {
        gpu->memory_bytes = (int64_t)(memory_gb * usable * gib);
        dsc_text_add(changes, "%s of %g GB", gpu->name, memory_gb);
    }
    if (peak_tflops <= 0 || peak <= 0 || has_peak(gpu, peak_tflops * tera)) return;
    for (int i = 0; i < DSC_DTYPE_COUNT; i++) gpu->peak_flops[i] *= factor;
    if (changes->count > 0) dsc_text_add(changes, " and %g Tflop/s", peak_tflops);
    else dsc_text_add(changes, "%s of %g Tflop/s", gpu->name, peak_tflops);
}

static dsc_status find_gpu(const row *row, dsc_dtype precision, dsc_device_type *out, dsc_text *notes)
{
    const char *name = row_cell(row, ROW_GPU);
    double memory_gb, peak_tflops;
    dsc_status status = DSC_OK;
    dsc_text changes = {0};
    char sized[160];

    DSC_TRY(read_number(row, ROW_GPU_MEM_GB, &memory_gb));
    DSC_TRY(read_number(row, ROW_PEAK_TFLOPS, &peak_tflops));
    snprintf(sized, sizeof sized, "%.100s-%gGB", name, memory_gb); /* "V100" of several sizes */
    if (!dsc_gpu_by_model(name, out) && !dsc_gpu_by_model(sized, out))
        DSC_TRY(DSC_FAIL(DSC_ENOTSUP, "gpu %s: no preset has it", name));
    adapt_gpu(memory_gb, peak_tflops, precision, out, &changes);
    if (changes.count > 0)
        dsc_text_add(notes, "%sgpu taken as %s", notes->count > 0 ? "; " : "", dsc_text_str(&changes));
out:
    dsc_text_fini(&changes);
    return status;
}

/* ---- Nodes */

/* The preset's name, of those with this GPU the one nearest in GPUs a node. */
static dsc_status find_preset(const char *gpu, int64_t gpus, const char **out)
{
    dsc_status status = DSC_OK;
    int64_t least = INT64_MAX;

    *out = NULL;
    for (const char *const *name = dsc_cluster_presets(); *name != NULL; name++) {
        dsc_cluster *cluster = NULL;
        const dsc_device_type *device;

        DSC_TRY(dsc_cluster_load(*name, &cluster));
        device = cluster->node_types[0].devices;
        if (dsc_equal(device->name, gpu) && llabs(device->count - gpus) < least) {
            least = llabs(device->count - gpus);
            *out = *name;
        }
        dsc_cluster_destroy(cluster);
    }
    if (*out == NULL) status = DSC_FAIL(DSC_ENOTSUP, "gpu %s: no preset is made of it", gpu);
out:
    return status;
}

/* Nodes that one NVLink domain joins, as "NVLink/NVL72" says: as many as divide the row's evenly. */
static int64_t domain_of(const row *row, int64_t per_node, int64_t total)
{
    const char *at = strstr(row_cell(row, ROW_INTRA_NODE), "NVL7");
    int64_t nodes = DSC_MAX(at == NULL ? 1 : strtol(at + 3, NULL, 10) / per_node, 1);

    while (nodes > 1 && total / per_node % nodes != 0) nodes--;
    return nodes;
}

/* "NVLink3 600GB/s bidir" is half of that in one direction; without a figure the preset's rate stays. */
static void set_link(const row *row, dsc_link *link)
{
    const char *text = row_cell(row, ROW_INTRA_NODE), *unit = strstr(text, "GB/s bidir"), *digits = unit;
    double rate;

    while (digits != NULL && digits > text && strchr(".0123456789", digits[-1]) != NULL) digits--;
    rate = digits != NULL ? strtod(digits, NULL) : 0;
    if (rate > 0) link->bytes_per_s = rate / 2 * giga;
}

/* NICs of the preset's rate, as many as make up the row's rate a node; the network's last tier has their rate. */
static void set_nics(double gbit_per_s, dsc_cluster *cluster)
{
    dsc_nic *nic = &cluster->node_types[0].nics[0];
    const double rate = gbit_per_s / 8 * giga;

    if (gbit_per_s <= 0) return;
    nic->count = DSC_MAX(llround(rate / nic->bytes_per_s), 1);
    nic->bytes_per_s = rate / (double)nic->count;
    cluster->network[cluster->tier_count - 1].bytes_per_s = nic->bytes_per_s;
}

/* The preset's first tier is its NVLink domain where there are two. */
static void set_nodes(const dsc_device_type *gpu, int64_t per_node, int64_t nodes, int64_t domain, dsc_cluster *cluster)
{
    cluster->node_types[0].devices[0] = *gpu;
    cluster->node_types[0].devices[0].count = per_node;
    cluster->nodes[0].count = nodes;
    cluster->network[cluster->tier_count - 1].nodes = nodes;
    if (cluster->tier_count > 1) cluster->network[0].nodes = domain;
}

dsc_status row_cluster(const row *row, dsc_dtype precision, dsc_cluster **out, dsc_text *notes)
{
    int64_t total, per_node;
    dsc_cluster *cluster = NULL;
    dsc_status status = DSC_OK;
    dsc_device_type gpu;
    double gbit_per_s;
    const char *preset;

    DSC_TRY(read_count(row, ROW_GPUS_TOTAL, &total));
    DSC_TRY(read_count(row, ROW_GPUS_PER_NODE, &per_node));
    DSC_TRY(read_number(row, ROW_INTER_NODE, &gbit_per_s));
    DSC_TRY(find_gpu(row, precision, &gpu, notes));
    DSC_TRY(find_preset(gpu.name, per_node, &preset));
    DSC_TRY(dsc_cluster_load(preset, &cluster));
    set_nodes(&gpu, per_node, dsc_ceil_div(total, per_node), domain_of(row, per_node, total), cluster);
    set_link(row, &cluster->node_types[0].links[0]);
    set_nics(gbit_per_s, cluster);
    *out = cluster;
    cluster = NULL;
out:
    dsc_cluster_destroy(cluster);
    return status;
}
