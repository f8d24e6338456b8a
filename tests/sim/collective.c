/* Collectives: their cost on links of known rate and latency, and what measurements say of sizes between samples. */
#include "sim/collective.h"
#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <stdlib.h>

/* Expands the all-reduce of the cluster's first `ranks` devices and gives its time for a payload. */
static int64_t time_of(dsc_cluster *cluster, int64_t ranks, dsc_algorithm algorithm, int64_t bytes)
{
    dsc_links *links = NULL;
    dsc_fabric *fabric = NULL;
    dsc_expansion expansion = {0};
    int64_t members[256], ns = -1;

    for (int64_t i = 0; i < ranks; i++) members[i] = i;
    if (CHECK_OK(dsc_links_create(&links)) && CHECK_OK(dsc_fabric_create(cluster, ranks, links, &fabric)) &&
        CHECK_OK(dsc_expand(fabric, DSC_MOVE_ALL_REDUCE, algorithm, members, ranks, &expansion)) &&
        CHECK_OK(dsc_expansion_seal(fabric, links, NULL, 0, &expansion)))
        ns = dsc_expansion_ns(&expansion, bytes);
    dsc_expansion_fini(&expansion);
    dsc_fabric_destroy(fabric);
    dsc_links_destroy(links);
    dsc_cluster_destroy(cluster);
    return ns;
}

static void check_near(const char *what, int64_t ns, double wanted)
{
    CHECK((double)ns >= wanted - 1 && (double)ns <= wanted + 2, "%s: %lld ns, %.1f by the formula", what, (long long)ns,
          wanted);
}

static void ring_costs_what_it_should(void)
{
    for (int64_t n = 2; n <= 16; n++) {
        int64_t bytes = tap_random_between(1, 1 << 30);
        double share = 2 * (double)(n - 1) / (double)n;

        check_near("inside a node", time_of(scene_gpus(1, n), n, DSC_BY_RING, bytes),
                   share * (double)bytes / 100 + 2 * (double)(n - 1) * SCENE_LATENCY_NS);
        check_near("one rank a node", time_of(scene_gpus(n, 1), n, DSC_BY_RING, bytes),
                   share * (double)bytes / 10 + 2 * (double)(n - 1) * SCENE_NIC_LATENCY_NS);
    }
}

static void tree_wins_when_latency_rules(void)
{
    static const struct { int64_t bytes; bool tree_is_faster; } rows[] = {{64, true}, {1 << 28, false}};

    check_near("tree of 16", time_of(scene_gpus(1, 16), 16, DSC_BY_TREE, 1000), 20 + 8 * SCENE_LATENCY_NS);
    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        int64_t tree = time_of(scene_gpus(1, 16), 16, DSC_BY_TREE, rows[i].bytes);
        int64_t ring = time_of(scene_gpus(1, 16), 16, DSC_BY_RING, rows[i].bytes);

        CHECK((tree < ring) == rows[i].tree_is_faster, "%lld bytes: tree %lld ns, ring %lld ns",
              (long long)rows[i].bytes, (long long)tree, (long long)ring);
    }
}

static void hierarchy_uses_all_nics(void)
{
    double bytes = 1 << 28, inside = 3.0 / 4 * bytes / 100 + 3 * SCENE_LATENCY_NS;
    double between = 2.0 * 7 / 8 * bytes / 4 / 10 + 14 * SCENE_NIC_LATENCY_NS;

    check_near("8 nodes of 4", time_of(scene_gpus(8, 4), 32, DSC_BY_HIERARCHY, 1 << 28), 2 * inside + between);
    CHECK(time_of(scene_gpus(1, 4), 4, DSC_BY_HIERARCHY, 64) == INT64_MAX, "a hierarchy in one node");
    CHECK(time_of(scene_gpus(2, 4), 6, DSC_BY_HIERARCHY, 64) == INT64_MAX, "a hierarchy over 4 and 2 ranks");
}

static void devices_share_scarce_nics(void)
{
    dsc_cluster *cluster = scene_gpus(2, 4);

    cluster->node_types[0].nics[0].count = 1; /* four rings between the nodes, one NIC */
    cluster->network[0].bytes_per_s = 1e12;
    check_near("2 nodes of 4, 1 NIC", time_of(cluster, 8, DSC_BY_HIERARCHY, 1 << 28),
               2 * (3.0 / 4 * (1 << 28) / 100 + 3 * SCENE_LATENCY_NS) + (1 << 28) / 10.0 + 2 * SCENE_NIC_LATENCY_NS);
}

static void measured_times_are_interpolated(void)
{
    dsc_collective_sample samples[] = {{"all_reduce", 2, 1, 1000, 5000}, {"all_reduce", 2, 1, 100000, 50000},
                                       {"all_reduce", 4, 1, 1000, 9000}, {"all_gather", 2, 1, 1000, 1}};
    dsc_calibration calibration = {.collectives = samples, .collective_count = DSC_COUNT(samples)};
    const struct { int64_t ranks, bytes, ns; } rows[] = {{2, 1000, 5000},  {2, 10000, 15811}, {2, 100000, 50000},
                                                         {2, 200000, 100000}, {2, 8, 5000},   {3, 1000, 9000},
                                                         {16, 2000, 18000}};
    int64_t ns;

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        bool found = dsc_collective_measured(&calibration, DSC_MOVE_ALL_REDUCE, rows[i].ranks, 1, rows[i].bytes, &ns);

        CHECK(found && ns == rows[i].ns, "%lld ranks, %lld bytes: %lld ns, %lld wanted", (long long)rows[i].ranks,
              (long long)rows[i].bytes, (long long)ns, (long long)rows[i].ns);
    }
    CHECK(!dsc_collective_measured(&calibration, DSC_MOVE_ALL_REDUCE, 2, 2, 1000, &ns),
          "measured on one node, asked for two");
    CHECK(!dsc_collective_measured(&calibration, DSC_MOVE_MESSAGE, 2, 1, 1000, &ns), "a send was not measured");
    CHECK(!dsc_collective_measured(NULL, DSC_MOVE_ALL_REDUCE, 2, 1, 1000, &ns), "nothing was measured");
}

static const tap_case cases[] = {
    {"a ring all-reduce costs 2(n-1)/n S/b + 2(n-1) a", ring_costs_what_it_should},
    {"a tree costs 2 S/b + 2 log2(n) a, less for small messages only", tree_wins_when_latency_rules},
    {"a hierarchy brings S/g through each of a node's NICs", hierarchy_uses_all_nics},
    {"devices of a node share its NICs where there are fewer", devices_share_scarce_nics},
    {"measured collectives are interpolated for the nearest number of ranks", measured_times_are_interpolated},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
