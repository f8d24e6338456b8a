#include "cluster/cluster.h"

int64_t dsc_node_devices(const dsc_node_type *node)
{
    int64_t count = 0;

    for (int64_t i = 0; i < node->device_types; i++) count += node->devices[i].count;
    return count;
}

int64_t dsc_cluster_nodes(const dsc_cluster *cluster)
{
    int64_t count = 0;

    for (int64_t i = 0; i < cluster->node_group_count; i++) count += cluster->nodes[i].count;
    return count;
}

int64_t dsc_cluster_devices(const dsc_cluster *cluster)
{
    int64_t count = 0;

    for (int64_t i = 0; i < cluster->node_group_count; i++)
        count += cluster->nodes[i].count * dsc_node_devices(&cluster->node_types[cluster->nodes[i].type]);
    return count;
}

/* The device type that holds the node's device of this index. */
static const dsc_device_type *device_at(const dsc_node_type *node, int64_t local)
{
    const dsc_device_type *device = node->devices;

    while (local >= device->count) local -= device++->count;
    return device;
}

dsc_status dsc_cluster_place(const dsc_cluster *cluster, int64_t device, dsc_place *out)
{
    int64_t node = 0, rest = device;

    for (int64_t i = 0; device >= 0 && i < cluster->node_group_count; i++) {
        const dsc_node_type *type = &cluster->node_types[cluster->nodes[i].type];
        int64_t each = dsc_node_devices(type), count = cluster->nodes[i].count;

        if (rest < each * count) {
            *out = (dsc_place){.node = node + rest / each, .local = rest % each, .node_type = type};
            out->device = device_at(type, out->local);
            return DSC_OK;
        }
        rest -= each * count;
        node += count;
    }
    return DSC_FAIL(DSC_EINVAL, "%s: device %lld of %lld", cluster->name, (long long)device,
                    (long long)dsc_cluster_devices(cluster));
}

const dsc_tier *dsc_cluster_tier(const dsc_cluster *cluster, int64_t node_a, int64_t node_b)
{
    int64_t last = cluster->tier_count - 1;

    if (node_a == node_b || last < 0) return NULL;
    for (int64_t i = 0; i < last; i++)
        if (node_a / cluster->network[i].nodes == node_b / cluster->network[i].nodes) return &cluster->network[i];
    return &cluster->network[last];
}

int64_t dsc_cluster_unit_nodes(const dsc_cluster *cluster, int64_t tier)
{
    const dsc_tier *below = tier > 0 ? &cluster->network[tier - 1] : NULL;

    return below == NULL || below->port != cluster->network[tier].port ? 1 : DSC_MAX(below->nodes, 1);
}

/* A direct share of 1/(G - 1), and a detour over a third group for the rest (Valiant 1982; Kim, Dally, Scott, Abts
 * 2008). */
double dsc_cluster_hops(const dsc_cluster *cluster, int64_t tier)
{
    int64_t groups = dsc_ceil_div(dsc_cluster_nodes(cluster), dsc_cluster_unit_nodes(cluster, tier));

    if (cluster->network[tier].topology != DSC_TIER_DRAGONFLY || groups < 3) return 1;
    return 2 - 1 / (double)(groups - 1);
}

int64_t dsc_cluster_domain_nodes(const dsc_cluster *cluster)
{
    int64_t nodes = 1;

    for (int64_t i = 0; i < cluster->tier_count && cluster->network[i].port == DSC_PORT_DEVICE; i++)
        nodes = DSC_MAX(cluster->network[i].nodes, 1);
    return nodes;
}

static bool joins(const dsc_link *link, const char *a, const char *b)
{
    return dsc_equal(link->between[0], a) && dsc_equal(link->between[1], b);
}

const dsc_link *dsc_node_link(const dsc_node_type *node, const char *end_a, const char *end_b)
{
    const dsc_link *best = NULL;

    for (int64_t i = 0; i < node->link_count; i++) {
        const dsc_link *link = &node->links[i];

        if (!joins(link, end_a, end_b) && !joins(link, end_b, end_a)) continue;
        if (best == NULL || link->bytes_per_s > best->bytes_per_s) best = link;
    }
    return best;
}
