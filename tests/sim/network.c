/* Paths through networks: fat trees, rails, dragonflies, and switches of devices that span nodes, by hand. */
#include "cluster/parts.h"
#include "sim/collective.h"
#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

enum { BYTES = 1 << 28, TIER_LATENCY_NS = 100 };

typedef struct pair { int64_t from, to; } pair;

/* scene_gpus with these tiers, each of 10 GB/s a port unless it says otherwise. */
static dsc_cluster *network_of(int64_t nodes, int64_t each, const dsc_tier *tiers, int64_t count)
{
    dsc_cluster *cluster = scene_gpus(nodes, each);

    cluster->network = realloc(cluster->network, (size_t)count * sizeof *tiers);
    cluster->tier_count = count;
    memcpy(cluster->network, tiers, (size_t)count * sizeof *tiers);
    for (int64_t i = 0; i < count; i++) {
        dsc_tier *tier = &cluster->network[i];

        if (!(tier->bytes_per_s > 0)) tier->bytes_per_s = tier->port == DSC_PORT_DEVICE ? 1e11 : 1e10;
        if (!(tier->oversubscription > 0)) tier->oversubscription = 1;
    }
    CHECK_OK(dsc_network_check("scene", cluster));
    return cluster;
}

/* The time of a motion among members[0..count), or of messages that run at once and in step, ns; -1 where there is no
 * way. Destroys the cluster. */
static int64_t time_of(dsc_cluster *cluster, dsc_motion motion, dsc_algorithm algorithm, const int64_t *members,
                       int64_t count, int64_t groups)
{
    const dsc_stack *ours = dsc_stack_find("dsc", NULL, NULL);
    dsc_links *links = NULL;
    dsc_fabric *fabric = NULL;
    dsc_expansion expansion = {0};
    dsc_status status = DSC_OK;
    int64_t ns = -1;

    CHECK_OK(dsc_links_create(&links));
    CHECK_OK(dsc_fabric_create(cluster, ours, dsc_cluster_devices(cluster), links, &fabric));
    for (int64_t i = 0; i < groups && status == DSC_OK; i++)
        status = dsc_expand(fabric, motion, algorithm, members + i * count, count, &expansion);
    if (status == DSC_OK && CHECK_OK(dsc_expansion_seal(fabric, links, NULL, 0, &expansion)))
        ns = dsc_expansion_ns(&expansion, BYTES);
    dsc_expansion_fini(&expansion);
    dsc_fabric_destroy(fabric);
    dsc_links_destroy(links);
    dsc_cluster_destroy(cluster);
    return ns;
}

static int64_t time_of_messages(dsc_cluster *cluster, const pair *pairs, int64_t count)
{
    return time_of(cluster, DSC_MOVE_MESSAGE, DSC_BY_RING, &pairs->from, 2, count);
}

static void check_near(const char *what, int64_t ns, double wanted)
{
    CHECK((double)ns >= wanted - 1 && (double)ns <= wanted + 3, "%s: %lld ns, %.1f by hand", what, (long long)ns,
          wanted);
}

/* At so many bytes per ns, after what a path through NICs waits for. */
static double by_nic(double rate, double more_ns) { return BYTES / rate + SCENE_NIC_LATENCY_NS + more_ns; }

/* Leaves of 2 nodes of 2 NICs bring 40 bytes per ns, of which the spine takes a quarter. */
static void oversubscription_divides_what_a_leaf_brings(void)
{
    static const dsc_tier tiers[] = {{.name = "leaf", .nodes = 2},
                                     {.name = "spine", .nodes = 4, .oversubscription = 4}};
    static const pair inside[] = {{0, 2}, {1, 3}}, across[] = {{0, 4}, {1, 5}, {2, 6}, {3, 7}};

    check_near("in a leaf", time_of_messages(network_of(4, 2, tiers, 2), inside, 2), by_nic(10, 0));
    check_near("one across", time_of_messages(network_of(4, 2, tiers, 2), across, 1), by_nic(10, 0));
    check_near("two across", time_of_messages(network_of(4, 2, tiers, 2), across, 2), by_nic(5, 0));
    check_near("four across", time_of_messages(network_of(4, 2, tiers, 2), across, 4), by_nic(2.5, 0));
}

static const dsc_tier rail[] = {{.name = "rail", .nodes = 4, .topology = DSC_TIER_RAIL}};

static void equal_ranks_meet_on_their_rail(void)
{
    static const dsc_tier slow[] = {{.name = "rail", .nodes = 4, .topology = DSC_TIER_RAIL, .bytes_per_s = 4e9}};
    static const pair pairs[] = {{0, 2}, {1, 3}, {4, 6}};

    check_near("rails", time_of_messages(network_of(4, 2, rail, 1), pairs, 3), by_nic(10, 0));
    check_near("slow rails", time_of_messages(network_of(4, 2, slow, 1), pairs, 3), by_nic(4, 0));
}

/* Device 0 reaches rail 1 through device 1, whose NIC it then shares with it. */
static void other_ranks_change_rail_inside_the_node(void)
{
    static const pair pairs[] = {{0, 3}, {1, 5}};

    check_near("to the other rail", time_of_messages(network_of(4, 2, rail, 1), pairs, 1),
               by_nic(10, SCENE_LATENCY_NS));
    check_near("on one NIC", time_of_messages(network_of(4, 2, rail, 1), pairs, 2), by_nic(5, SCENE_LATENCY_NS));
}

static dsc_cluster *on_a_bus(dsc_cluster *cluster)
{
    cluster->node_types[0].links[0].topology = DSC_TREE;
    return cluster;
}

static void without_a_switch_they_climb(void)
{
    static const dsc_tier tiers[] = {{.name = "rail", .nodes = 2, .topology = DSC_TIER_RAIL},
                                     {.name = "spine", .nodes = 4, .latency_ns = TIER_LATENCY_NS,
                                      .oversubscription = 4}};
    static const pair pairs[] = {{0, 3}};

    check_near("over the spine", time_of_messages(on_a_bus(network_of(4, 2, tiers, 2)), pairs, 1),
               by_nic(5, TIER_LATENCY_NS));
    CHECK(time_of_messages(on_a_bus(network_of(4, 2, rail, 1)), pairs, 1) == -1, "rails that nothing joins");
    CHECK(strstr(dsc_message(), "rails that nothing joins") != NULL, "%s", dsc_message());
}

/* A leaf switch of a rail has 2 NICs below and 10 bytes per ns up; one of all NICs has 4 and 20. */
static void each_rail_has_its_own_way_up(void)
{
    dsc_tier tiers[] = {{.name = "leaf", .nodes = 2}, {.name = "spine", .nodes = 4, .oversubscription = 2}};
    static const pair one_rail[] = {{0, 4}, {2, 6}}, two_rails[] = {{0, 4}, {1, 5}};

    check_near("a tree", time_of_messages(network_of(4, 2, tiers, 2), one_rail, 2), by_nic(10, 0));
    tiers[0].topology = DSC_TIER_RAIL;
    check_near("one rail", time_of_messages(network_of(4, 2, tiers, 2), one_rail, 2), by_nic(5, 0));
    check_near("two rails", time_of_messages(network_of(4, 2, tiers, 2), two_rails, 2), by_nic(10, 0));
}

/* 4 groups of 2 nodes bring 20 bytes per ns each, 80 together. A byte takes 2 - 1/3 links on average: when all groups
 * send, each message has 80 / (8 * 5/3) = 6. */
static void dragonflies_take_detours(void)
{
    dsc_tier tiers[] = {{.name = "group", .nodes = 2}, {.name = "global", .nodes = 8, .topology = DSC_TIER_DRAGONFLY}};
    static const pair pairs[] = {{0, 2}, {1, 3}, {2, 4}, {3, 5}, {4, 6}, {5, 7}, {6, 0}, {7, 1}};

    check_near("one group sends", time_of_messages(network_of(8, 1, tiers, 2), pairs, 2), by_nic(10, 0));
    check_near("all send", time_of_messages(network_of(8, 1, tiers, 2), pairs, 8), by_nic(6, 0));
    tiers[1].oversubscription = 4;
    check_near("one group, tapered", time_of_messages(network_of(8, 1, tiers, 2), pairs, 2), by_nic(2.5, 0));
    check_near("all, tapered", time_of_messages(network_of(8, 1, tiers, 2), pairs, 8), by_nic(1.5, 0));
    tiers[1].nodes = 4;
    check_near("two groups have no detours", time_of_messages(network_of(4, 1, tiers, 2), pairs, 2), by_nic(2.5, 0));
}

static const dsc_tier rack[] = {{.name = "nvlink", .nodes = 2, .port = DSC_PORT_DEVICE, .latency_ns = TIER_LATENCY_NS},
                                {.name = "fabric", .nodes = 4}};

/* Inside a rack devices use the ports that they use inside a node. */
static void switches_of_devices_span_nodes(void)
{
    static const pair pairs[] = {{0, 2}, {0, 1}, {0, 4}};
    const double latency = SCENE_LATENCY_NS + TIER_LATENCY_NS;
    dsc_tier half[] = {rack[0], rack[1]};

    check_near("in the rack", time_of_messages(network_of(4, 2, rack, 2), pairs, 1), BYTES / 100.0 + latency);
    check_near("on one port", time_of_messages(network_of(4, 2, rack, 2), pairs, 2), BYTES / 50.0 + latency);
    check_near("between racks", time_of_messages(network_of(4, 2, rack, 2), pairs + 2, 1), by_nic(10, 0));
    half[0].oversubscription = 4;
    check_near("oversubscribed", time_of_messages(network_of(4, 2, half, 2), pairs, 1), BYTES / 50.0 + latency);
}

/* 4 devices a rack: reduce-scatter and all-gather there, all-reduce of a quarter on all NICs between. */
static void racks_are_the_nodes_of_a_hierarchy(void)
{
    static const int64_t members[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const double latency = SCENE_LATENCY_NS + TIER_LATENCY_NS, inside = 3.0 / 4 * BYTES / 100 + 3 * latency;

    check_near("a rack's ring", time_of(network_of(4, 2, rack, 2), DSC_MOVE_ALL_REDUCE, DSC_BY_RING, members, 4, 1),
               2 * inside);
    check_near("two racks", time_of(network_of(4, 2, rack, 2), DSC_MOVE_ALL_REDUCE, DSC_BY_HIERARCHY, members, 8, 1),
               2 * inside + BYTES / 4 / 10.0 + 2 * SCENE_NIC_LATENCY_NS);
}

static const tap_case cases[] = {
    {"oversubscription divides what a leaf's NICs bring together", oversubscription_divides_what_a_leaf_brings},
    {"devices of one local rank meet on their rail", equal_ranks_meet_on_their_rail},
    {"others change rail inside the node", other_ranks_change_rail_inside_the_node},
    {"or climb, where no switch joins the node's devices", without_a_switch_they_climb},
    {"each rail's switch has its own way up", each_rail_has_its_own_way_up},
    {"a dragonfly's groups share each other's links", dragonflies_take_detours},
    {"a switch of devices that spans nodes takes their own ports, not NICs", switches_of_devices_span_nodes},
    {"racks that such a switch joins are the nodes of a hierarchy", racks_are_the_nodes_of_a_hierarchy},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
