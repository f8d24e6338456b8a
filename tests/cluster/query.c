/* Where devices sit, what joins them, and the machines of a job. */
#include "cluster/cluster.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static dsc_device_type devices[] = {{.name = "big", .count = 2}, {.name = "small", .count = 3}};
static dsc_link links[] = {
    {.name = "slow", .between = {"device", "device"}, .bytes_per_s = 1},
    {.name = "fast", .between = {"device", "device"}, .bytes_per_s = 2},
    {.name = "pcie", .between = {"device", "host"}, .bytes_per_s = 3},
};
static dsc_node_type types[] = {
    {.name = "mixed", .devices = devices, .device_types = 2, .links = links, .link_count = 3},
    {.name = "plain", .devices = devices, .device_types = 1},
};
static dsc_node_group groups[] = {{0, 3}, {1, 4}};
static dsc_tier network[] = {{.name = "leaf", .nodes = 2}, {.name = "spine", .nodes = 4}, {.name = "core", .nodes = 7}};
static const dsc_cluster cluster = {
    .name = "test",
    .node_types = types,
    .node_type_count = 2,
    .nodes = groups,
    .node_group_count = 2,
    .network = network,
    .tier_count = 3,
};

static void devices_are_numbered_node_by_node(void)
{
    int64_t device = 0;

    CHECK(dsc_cluster_nodes(&cluster) == 7 && dsc_cluster_devices(&cluster) == 3 * 5 + 4 * 2, "%lld devices",
          (long long)dsc_cluster_devices(&cluster));
    for (int64_t node = 0; node < 7; node++)
        for (int64_t local = 0; local < (node < 3 ? 5 : 2); local++, device++) {
            const char *type = local < 2 ? "big" : "small";
            dsc_place place;

            if (!CHECK_OK(dsc_cluster_place(&cluster, device, &place))) return;
            CHECK(place.node == node && place.local == local, "device %lld: %lld on node %lld", (long long)device,
                  (long long)place.local, (long long)place.node);
            CHECK(strcmp(place.device->name, type) == 0, "device %lld is %s", (long long)device, place.device->name);
        }
}

static void devices_past_the_last_are_refused(void)
{
    static const int64_t outside[] = {-1, 23, INT64_MAX};
    dsc_place place;

    for (int64_t i = 0; i < DSC_COUNT(outside); i++)
        CHECK(dsc_cluster_place(&cluster, outside[i], &place) == DSC_EINVAL, "%lld is taken", (long long)outside[i]);
    CHECK(strstr(dsc_message(), "23") != NULL, "%s", dsc_message());
}

static void lowest_tier_joins(void)
{
    static const struct { int64_t a, b; const char *tier; } pairs[] = {
        {0, 1, "leaf"}, {1, 2, "spine"}, {3, 0, "spine"}, {3, 4, "core"}, {6, 0, "core"}, {4, 5, "leaf"},
    };

    for (int64_t i = 0; i < DSC_COUNT(pairs); i++) {
        const dsc_tier *tier = dsc_cluster_tier(&cluster, pairs[i].a, pairs[i].b);

        CHECK(tier != NULL && strcmp(tier->name, pairs[i].tier) == 0, "nodes %lld and %lld: %s", (long long)pairs[i].a,
              (long long)pairs[i].b, tier == NULL ? "none" : tier->name);
    }
    CHECK(dsc_cluster_tier(&cluster, 5, 5) == NULL, "a node is joined with itself");
}

/* A rack of 3 nodes by devices, above it NICs: leaves of 6 nodes, of which a dragonfly joins 4. */
static void tiers_join_what_is_below_them(void)
{
    dsc_tier tiers[] = {{.nodes = 3, .port = DSC_PORT_DEVICE}, {.nodes = 6},
                        {.nodes = 24, .topology = DSC_TIER_DRAGONFLY}};
    dsc_node_group all = {0, 24};
    dsc_cluster racks = cluster;

    racks.nodes = &all;
    racks.node_group_count = 1;
    racks.network = tiers;
    CHECK(dsc_cluster_unit_nodes(&racks, 0) == 1 && dsc_cluster_unit_nodes(&racks, 1) == 1 &&
              dsc_cluster_unit_nodes(&racks, 2) == 6,
          "units of %lld nodes in a leaf", (long long)dsc_cluster_unit_nodes(&racks, 1));
    CHECK(dsc_cluster_domain_nodes(&racks) == 3 && dsc_cluster_domain_nodes(&cluster) == 1, "%lld nodes",
          (long long)dsc_cluster_domain_nodes(&racks));
    CHECK(fabs(dsc_cluster_hops(&racks, 2) - 5.0 / 3) < 1e-12 && dsc_cluster_hops(&racks, 1) == 1, "%g links",
          dsc_cluster_hops(&racks, 2));
}

static void fastest_link_is_found_both_ways(void)
{
    const dsc_link *link = dsc_node_link(&types[0], "device", "device");

    CHECK(link == &links[1], "%s", link == NULL ? "none" : link->name);
    CHECK(dsc_node_link(&types[0], "host", "device") == &links[2], "not from the host");
    CHECK(dsc_node_link(&types[0], "nic", "host") == NULL, "a link that nobody described");
}

static void this_machine_has_what_prices_read(void)
{
    dsc_cluster *local = NULL;
    const dsc_device_type *device;

    if (!CHECK_OK(dsc_cluster_local(&local))) return;
    device = &local->node_types[0].devices[0];
    CHECK(local->is_local && !device->is_gpu && device->count == 1, "%lld devices", (long long)device->count);
    CHECK(local->node_types[0].cores >= 1, "%lld cores", (long long)local->node_types[0].cores);
    CHECK(device->memory_bytes > 1 << 26, "%lld bytes", (long long)device->memory_bytes);
    CHECK(device->peak_flops[DSC_FP32] > 1e9 && device->bandwidth_bytes_per_s > 1e8, "%g flop/s",
          device->peak_flops[DSC_FP32]);
    dsc_cluster_destroy(local);
}

static void ranks_share_their_node(void)
{
    dsc_cluster *local = NULL, *job = NULL;
    const dsc_device_type *whole, *share;

    if (!CHECK_OK(dsc_cluster_local(&local))) return;
    local->node_types[0].devices[0].power_w = 400;
    if (!CHECK_OK(dsc_cluster_of_ranks(local, 3, 4, &job))) return;
    whole = &local->node_types[0].devices[0];
    share = &job->node_types[0].devices[0];
    CHECK(job->is_local && dsc_cluster_nodes(job) == 3 && dsc_cluster_devices(job) == 12, "%lld devices",
          (long long)dsc_cluster_devices(job));
    CHECK(share->memory_bytes == whole->memory_bytes / 4, "%lld bytes", (long long)share->memory_bytes);
    CHECK(fabs(share->peak_flops[DSC_FP32] * 4 / whole->peak_flops[DSC_FP32] - 1) < 1e-12, "%g flop/s",
          share->peak_flops[DSC_FP32]);
    CHECK(share->power_w == 100, "%g W", share->power_w);
    CHECK(job->node_types[0].host_memory_bytes == local->node_types[0].host_memory_bytes, "the host changed");
    CHECK(dsc_cluster_tier(job, 0, 2) != NULL, "no network joins the nodes");
    CHECK(dsc_cluster_of_ranks(local, 0, 4, &job) == DSC_EINVAL, "no nodes are taken");
    dsc_cluster_destroy(local);
    dsc_cluster_destroy(job);
}

static void other_ranks_share_the_same_node(void)
{
    dsc_cluster *local = NULL, *four = NULL, *two = NULL;
    const dsc_device_type *whole, *half;

    if (!CHECK_OK(dsc_cluster_local(&local))) return;
    if (!CHECK_OK(dsc_cluster_of_ranks(local, 1, 4, &four)) || !CHECK_OK(dsc_cluster_of_ranks(four, 1, 2, &two)))
        return;
    whole = &local->node_types[0].devices[0];
    half = &two->node_types[0].devices[0];
    CHECK(llabs(half->memory_bytes - whole->memory_bytes / 2) <= 4, "%lld bytes", (long long)half->memory_bytes);
    CHECK(fabs(half->bandwidth_bytes_per_s * 2 / whole->bandwidth_bytes_per_s - 1) < 1e-12, "%g B/s",
          half->bandwidth_bytes_per_s);
    dsc_cluster_destroy(local);
    dsc_cluster_destroy(four);
    dsc_cluster_destroy(two);
}

/* What an aspect's factor changes, and that it changes the copy alone. */
static void scaling_changes_one_thing(void)
{
    dsc_cluster *racks = NULL, *copy = NULL;
    const dsc_node_type *from, *to;
    char *before, *after;

    if (!CHECK_OK(dsc_cluster_load("gb200-nvl72:36", &racks))) return;
    before = dsc_cluster_json(racks);
    from = &racks->node_types[0];
    for (int aspect = DSC_ASPECT_LINKS; aspect <= DSC_ASPECT_LAUNCH; aspect++) {
        if (!CHECK_OK(dsc_cluster_copy(racks, &copy))) continue;
        to = &copy->node_types[0];
        dsc_cluster_scale(copy, (dsc_aspect)aspect, 2);
        CHECK((to->links[0].bytes_per_s == 2 * from->links[0].bytes_per_s) == (aspect == DSC_ASPECT_LINKS) &&
                  (copy->network[0].bytes_per_s == 2 * racks->network[0].bytes_per_s) == (aspect == DSC_ASPECT_LINKS),
              "links, aspect %d", aspect);
        CHECK((to->links[1].bytes_per_s == 2 * from->links[1].bytes_per_s) == (aspect == DSC_ASPECT_HOST) &&
                  (to->host_bandwidth_bytes_per_s == 2 * from->host_bandwidth_bytes_per_s) ==
                      (aspect == DSC_ASPECT_HOST), "host, aspect %d", aspect);
        CHECK((to->nics[0].bytes_per_s == 2 * from->nics[0].bytes_per_s) == (aspect == DSC_ASPECT_NETWORK) &&
                  (copy->network[1].bytes_per_s == 2 * racks->network[1].bytes_per_s) == (aspect == DSC_ASPECT_NETWORK),
              "network, aspect %d", aspect);
        CHECK((to->devices[0].peak_flops[DSC_BF16] == 2 * from->devices[0].peak_flops[DSC_BF16]) ==
                  (aspect == DSC_ASPECT_PRODUCTS), "peaks, aspect %d", aspect);
        CHECK((to->devices[0].bandwidth_bytes_per_s == 2 * from->devices[0].bandwidth_bytes_per_s) ==
                  (aspect == DSC_ASPECT_MEMORY_RATE) &&
                  (to->devices[0].memory_bytes == 2 * from->devices[0].memory_bytes) ==
                      (aspect == DSC_ASPECT_MEMORY_SIZE), "memory, aspect %d", aspect);
        CHECK((to->devices[0].efficiency.launch_ns == 2 * from->devices[0].efficiency.launch_ns) ==
                  (aspect == DSC_ASPECT_LAUNCH), "launches, aspect %d", aspect);
        dsc_cluster_destroy(copy);
    }
    after = dsc_cluster_json(racks);
    CHECK(dsc_equal(before, after), "the original changed: %s", after);
    free(before);
    free(after);
    dsc_cluster_destroy(racks);
}

static const tap_case cases[] = {
    {"devices are numbered node by node", devices_are_numbered_node_by_node},
    {"devices past the last are refused", devices_past_the_last_are_refused},
    {"the lowest tier that holds both nodes joins them", lowest_tier_joins},
    {"tiers join nodes, or what the tier of the same ports below them joins", tiers_join_what_is_below_them},
    {"the fastest link between two ends is found, both ways", fastest_link_is_found_both_ways},
    {"this machine has what prices read", this_machine_has_what_prices_read},
    {"ranks share their node's memory, peaks and power", ranks_share_their_node},
    {"a node that ranks share is shared by another number of them", other_ranks_share_the_same_node},
    {"an aspect that is scaled changes alone, in a copy", scaling_changes_one_thing},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
