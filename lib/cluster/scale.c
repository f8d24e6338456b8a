/* A cluster that differs from a described one in one thing. */
#include "cluster/cluster.h"
#include <stdlib.h>
#include <string.h>

/* A copy of so many items; NULL when memory is out. */
static void *copy_items(const void *items, int64_t count, size_t item_bytes)
{
    void *copy = calloc((size_t)count + 1, item_bytes);

    if (copy != NULL && count > 0) memcpy(copy, items, (size_t)count * item_bytes);
    return copy;
}

#define COPY(items, count) copy_items((items), (count), sizeof *(items))

/* The type's arrays are its own from here on, or NULL. False when memory is out. */
static bool own_arrays(dsc_node_type *type)
{
    type->devices = COPY(type->devices, type->device_types);
    type->links = COPY(type->links, type->link_count);
    type->nics = COPY(type->nics, type->nic_count);
    return type->devices != NULL && type->links != NULL && type->nics != NULL;
}

dsc_status dsc_cluster_copy(const dsc_cluster *from, dsc_cluster **out)
{
    dsc_cluster *copy = COPY(from, 1);
    bool is_whole;

    if (copy == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: a copy of the cluster", from->name);
    copy->node_types = COPY(from->node_types, from->node_type_count);
    copy->nodes = COPY(from->nodes, from->node_group_count);
    copy->network = COPY(from->network, from->tier_count);
    is_whole = copy->node_types != NULL && copy->nodes != NULL && copy->network != NULL;
    for (int64_t i = 0; copy->node_types != NULL && i < copy->node_type_count; i++)
        is_whole = own_arrays(&copy->node_types[i]) && is_whole;
    if (!is_whole) {
        dsc_cluster_destroy(copy);
        return DSC_FAIL(DSC_ENOMEM, "%s: a copy of the cluster", from->name);
    }
    *out = copy;
    return DSC_OK;
}

/* ---- Scaling */

static int64_t times(int64_t value, double factor) { return (int64_t)((double)value * factor + 0.5); }

static void scale_device(dsc_device_type *device, dsc_aspect aspect, double factor)
{
    if (aspect == DSC_ASPECT_MEMORY_RATE) device->bandwidth_bytes_per_s *= factor;
    if (aspect == DSC_ASPECT_MEMORY_SIZE) device->memory_bytes = DSC_MAX(times(device->memory_bytes, factor), 1);
    if (aspect == DSC_ASPECT_LAUNCH) device->efficiency.launch_ns = times(device->efficiency.launch_ns, factor);
    for (int type = 0; aspect == DSC_ASPECT_PRODUCTS && type < DSC_DTYPE_COUNT; type++)
        device->peak_flops[type] *= factor;
}

static bool has_end(const dsc_link *link, const char *end)
{
    return dsc_equal(link->between[0], end) || dsc_equal(link->between[1], end);
}

static dsc_aspect aspect_of(const dsc_link *link)
{
    if (has_end(link, "nic")) return DSC_ASPECT_NETWORK;
    return has_end(link, "host") ? DSC_ASPECT_HOST : DSC_ASPECT_LINKS;
}

static void scale_node(dsc_node_type *node, dsc_aspect aspect, double factor)
{
    for (int64_t i = 0; i < node->device_types; i++) scale_device(&node->devices[i], aspect, factor);
    for (int64_t i = 0; i < node->link_count; i++)
        if (aspect_of(&node->links[i]) == aspect) node->links[i].bytes_per_s *= factor;
    for (int64_t i = 0; aspect == DSC_ASPECT_NETWORK && i < node->nic_count; i++) node->nics[i].bytes_per_s *= factor;
    if (aspect == DSC_ASPECT_HOST) node->host_bandwidth_bytes_per_s *= factor;
}

void dsc_cluster_scale(dsc_cluster *cluster, dsc_aspect aspect, double factor)
{
    for (int64_t i = 0; i < cluster->node_type_count; i++) scale_node(&cluster->node_types[i], aspect, factor);
    for (int64_t i = 0; i < cluster->tier_count; i++)
        if (aspect == (cluster->network[i].port == DSC_PORT_DEVICE ? DSC_ASPECT_LINKS : DSC_ASPECT_NETWORK))
            cluster->network[i].bytes_per_s *= factor;
}
