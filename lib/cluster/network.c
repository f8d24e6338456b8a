/* Whether the tiers of a description can be built: paths (sim/fabric.c) take it for granted. */
#include "cluster/parts.h"
#include <inttypes.h>
#include <stdio.h>

/* Where a tier stands, for messages. */
typedef struct tier_name { char str[256]; } tier_name;

static tier_name name_of(const char *where, const dsc_cluster *cluster, int64_t tier)
{
    tier_name name;

    snprintf(name.str, sizeof name.str, "%.180s: network[%" PRId64 "] (\"%.31s\")", where, tier,
             cluster->network[tier].name);
    return name;
}

/* Blocks of the tier hold whole blocks of the one below; the last is one block of all, whole or not. */
static dsc_status check_nodes(const char *at, const dsc_cluster *cluster, int64_t tier)
{
    const dsc_tier *upper = &cluster->network[tier], *lower = upper - 1;

    if (upper->nodes < lower->nodes)
        return DSC_FAIL(DSC_EINVAL, "%s: \"nodes\": %" PRId64 " are fewer than the %" PRId64
                        " of the tier below, \"%s\"", at, upper->nodes, lower->nodes, lower->name);
    if (tier < cluster->tier_count - 1 && upper->nodes % lower->nodes != 0)
        return DSC_FAIL(DSC_EINVAL, "%s: \"nodes\": %" PRId64 " are not a multiple of the %" PRId64
                        " of the tier below, \"%s\"", at, upper->nodes, lower->nodes, lower->name);
    return DSC_OK;
}

/* Devices enter a tier by the port that they have to a switch (or a mesh) of their node. */
static dsc_status check_port(const char *at, const dsc_cluster *cluster, int64_t tier)
{
    if (cluster->network[tier].port == DSC_PORT_NIC) return DSC_OK;
    if (tier > 0 && cluster->network[tier - 1].port == DSC_PORT_NIC)
        return DSC_FAIL(DSC_EINVAL, "%s: \"port\": \"device\" above the tier \"%s\", which NICs enter", at,
                        cluster->network[tier - 1].name);
    for (int64_t i = 0; i < cluster->node_type_count; i++) {
        const dsc_link *link = dsc_node_link(&cluster->node_types[i], "device", "device");

        if (link == NULL || link->topology == DSC_RING || link->topology == DSC_TREE)
            return DSC_FAIL(DSC_EINVAL, "%s: \"port\": \"device\", but node type \"%s\" has no switch or mesh between "
                            "devices", at, cluster->node_types[i].name);
    }
    return DSC_OK;
}

static dsc_status check_topology(const char *at, const dsc_cluster *cluster, int64_t tier)
{
    const dsc_tier *own = &cluster->network[tier];
    bool is_lowest = tier == 0 || cluster->network[tier - 1].port != own->port;

    if (own->topology == DSC_TIER_TREE) return DSC_OK;
    if (own->port == DSC_PORT_DEVICE)
        return DSC_FAIL(DSC_EINVAL, "%s: \"topology\": a tier of devices' ports is a \"tree\"", at);
    if (own->topology == DSC_TIER_DRAGONFLY && tier < cluster->tier_count - 1)
        return DSC_FAIL(DSC_EINVAL, "%s: \"topology\": a \"dragonfly\" is the last tier, number %" PRId64
                        ", not number %" PRId64, at, cluster->tier_count - 1, tier);
    if (own->topology == DSC_TIER_DRAGONFLY) return DSC_OK;
    if (!is_lowest)
        return DSC_FAIL(DSC_EINVAL, "%s: \"topology\": a \"rail\" joins NICs, not what the tier below, \"%s\", joins",
                        at, cluster->network[tier - 1].name);
    for (int64_t i = 0; i < cluster->node_type_count; i++)
        if (cluster->node_types[i].nic_count == 0)
            return DSC_FAIL(DSC_EINVAL, "%s: \"topology\": a \"rail\" joins NICs, and node type \"%s\" has 0", at,
                            cluster->node_types[i].name);
    return DSC_OK;
}

dsc_status dsc_network_check(const char *where, const dsc_cluster *cluster)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < cluster->tier_count; i++) {
        tier_name at = name_of(where, cluster, i);

        if (i > 0) DSC_TRY(check_nodes(at.str, cluster, i));
        DSC_TRY(check_port(at.str, cluster, i));
        DSC_TRY(check_topology(at.str, cluster, i));
    }
out:
    return status;
}
