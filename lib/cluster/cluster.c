#include "cluster/cluster.h"
#include "base/parse.h"
#include "cluster/parts.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- Life */

dsc_cluster *dsc_cluster_make(int64_t links, int64_t tiers)
{
    dsc_cluster *cluster = calloc(1, sizeof *cluster);
    dsc_node_type *node = calloc(1, sizeof *node);

    if (cluster == NULL || node == NULL) {
        free(node);
        free(cluster);
        return NULL;
    }
    node->devices = calloc(1, sizeof *node->devices);
    node->links = calloc((size_t)links + 1, sizeof *node->links);
    node->nics = calloc(1, sizeof *node->nics);
    node->device_types = node->nic_count = 1;
    node->link_count = links;
    cluster->node_types = node;
    cluster->nodes = calloc(1, sizeof *cluster->nodes);
    cluster->network = calloc((size_t)tiers + 1, sizeof *cluster->network);
    cluster->node_type_count = cluster->node_group_count = 1;
    cluster->tier_count = tiers;
    if (node->devices && node->links && node->nics && cluster->nodes && cluster->network) {
        cluster->nodes[0].count = 1;
        return cluster;
    }
    dsc_cluster_destroy(cluster);
    return NULL;
}

void dsc_cluster_destroy(dsc_cluster *cluster)
{
    if (cluster == NULL) return;
    for (int64_t i = 0; cluster->node_types != NULL && i < cluster->node_type_count; i++) {
        free(cluster->node_types[i].devices);
        free(cluster->node_types[i].links);
        free(cluster->node_types[i].nics);
    }
    free(cluster->node_types);
    free(cluster->nodes);
    free(cluster->network);
    free(cluster);
}

/* ---- Reading a description */

/* NAME or NAME:NODES; *out stays NULL where NAME is no preset's. */
static dsc_status load_preset(const char *description, dsc_cluster **out)
{
    char name[64] = "", what[96];
    const char *colon = strchr(description, ':');
    size_t length = colon != NULL ? (size_t)(colon - description) : strlen(description);
    dsc_status status = DSC_OK;
    int64_t nodes = 0;

    if (length >= sizeof name) return DSC_OK; /* longer than any preset's */
    memcpy(name, description, length);
    if (!dsc_cluster_is_preset(name)) return DSC_OK;
    snprintf(what, sizeof what, "nodes of %s", name);
    if (colon != NULL) DSC_TRY(dsc_parse_int(what, colon + 1, 1, DSC_MAX_NODES, &nodes));
    DSC_TRY(dsc_cluster_of_preset(name, nodes, out));
out:
    return status;
}

/* XML begins with '<', which no JSON does. */
static bool is_xml(const char *path)
{
    FILE *file = dsc_equal(path, "-") ? NULL : fopen(path, "r");
    int first = ' ';

    while (file != NULL && strchr(" \t\r\n", first) != NULL && first != '\0') first = fgetc(file);
    if (file != NULL) fclose(file);
    return first == '<';
}

static dsc_status load_json(const char *path, dsc_cluster **out)
{
    dsc_status status = DSC_OK;
    json_t *object = NULL;

    DSC_TRY(dsc_json_load(path, &object));
    DSC_TRY(dsc_cluster_of_json(dsc_equal(path, "-") ? "standard input" : path, object, out));
out:
    json_decref(object);
    return status;
}

static bool is_file(const char *path)
{
    struct stat facts;

    return dsc_equal(path, "-") || stat(path, &facts) == 0;
}

/* What can only be a path, so that the message says that there is no such file. */
static bool looks_like_path(const char *description)
{
    const char *dot = strrchr(description, '.');

    return strchr(description, '/') != NULL || dsc_equal(dot, ".json") || dsc_equal(dot, ".xml");
}

static dsc_status refuse_name(const char *name)
{
    const char *const *names = dsc_cluster_presets();
    const char *nearest;
    int64_t count = 0;

    while (names[count] != NULL) count++;
    nearest = dsc_nearest(name, names, count);
    if (nearest != NULL) return DSC_FAIL(DSC_EINVAL, "unknown cluster \"%s\"; did you mean \"%s\"?", name, nearest);
    return DSC_FAIL(DSC_EINVAL, "unknown cluster \"%s\": no preset (--list-clusters), no file, and not local", name);
}

dsc_status dsc_cluster_load(const char *description, dsc_cluster **out)
{
    dsc_status status = DSC_OK;
    dsc_cluster *cluster = NULL;
    dsc_machine machine;

    if (dsc_equal(description, "local")) return dsc_cluster_local(out);
    DSC_TRY(load_preset(description, &cluster));
    if (cluster != NULL) {
        /* found */
    } else if (is_xml(description)) {
        DSC_TRY(dsc_hwloc_xml(description, &machine));
        DSC_TRY(dsc_cluster_of_machine(description, &machine, &cluster));
    } else if (is_file(description) || looks_like_path(description)) {
        DSC_TRY(load_json(description, &cluster));
    } else if (strchr(description, ':') != NULL) {
        DSC_TRY(dsc_hwloc_synthetic(description, &machine));
        DSC_TRY(dsc_cluster_of_machine(description, &machine, &cluster));
    } else {
        DSC_TRY(refuse_name(description));
    }
    *out = cluster;
out:
    return status;
}

/* ---- Printing */

static void print_node(const dsc_node_type *node, dsc_text *out)
{
    const dsc_link *link = dsc_node_link(node, "device", "device");

    dsc_text_add(out, "  %s:", node->name);
    for (int64_t i = 0; i < node->device_types; i++) {
        const dsc_device_type *device = &node->devices[i];

        dsc_text_add(out, "%s %lld x %s (%s, %sB/s, %sflop/s fp32)", i == 0 ? "" : ",", (long long)device->count,
                     device->name, dsc_bytes_str(device->memory_bytes).str,
                     dsc_count_str(device->bandwidth_bytes_per_s).str,
                     dsc_count_str(device->peak_flops[DSC_FP32]).str);
    }
    if (link != NULL) dsc_text_add(out, ", %s %sB/s", link->name, dsc_count_str(link->bytes_per_s).str);
    dsc_text_add(out, ", %lld cores, host %s\n", (long long)node->cores, dsc_bytes_str(node->host_memory_bytes).str);
}

void dsc_cluster_print(const dsc_cluster *cluster, dsc_text *out)
{
    dsc_text_add(out, "%s: %lld nodes, %lld devices\n", cluster->name, (long long)dsc_cluster_nodes(cluster),
                 (long long)dsc_cluster_devices(cluster));
    for (int64_t i = 0; i < cluster->node_type_count; i++) print_node(&cluster->node_types[i], out);
    for (int64_t i = 0; i < cluster->tier_count && cluster->network[i].port == DSC_PORT_DEVICE; i++)
        dsc_text_add(out, "  %s: joins the devices of %lld nodes, %sB/s each\n", cluster->network[i].name,
                     (long long)cluster->network[i].nodes, dsc_count_str(cluster->network[i].bytes_per_s).str);
}
