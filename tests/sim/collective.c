/* Collectives: their cost on links of known rate and latency, and what measurements say of sizes between samples. */
#include "sim/collective.h"
#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <stdlib.h>

/* Expands a motion of the cluster's first `ranks` devices and gives its time for a payload. */
static int64_t time_of_motion(dsc_cluster *cluster, dsc_motion motion, int64_t ranks, dsc_algorithm algorithm,
                              int64_t bytes)
{
    dsc_links *links = NULL;
    dsc_fabric *fabric = NULL;
    dsc_expansion expansion = {0};
    int64_t members[256], ns = -1;

    for (int64_t i = 0; i < ranks; i++) members[i] = i;
    if (CHECK_OK(dsc_links_create(&links)) && 
        CHECK_OK(dsc_fabric_create(cluster, dsc_stack_find("dsc", NULL, NULL), ranks, links, &fabric)) &&
        CHECK_OK(dsc_expand(fabric, motion, algorithm, members, ranks, &expansion)) &&
        CHECK_OK(dsc_expansion_seal(fabric, links, NULL, 0, &expansion)))
        ns = dsc_expansion_ns(&expansion, bytes);
    dsc_expansion_fini(&expansion);
    dsc_fabric_destroy(fabric);
    dsc_links_destroy(links);
    dsc_cluster_destroy(cluster);
    return ns;
}

static int64_t time_of(dsc_cluster *cluster, int64_t ranks, dsc_algorithm algorithm, int64_t bytes)
{
    return time_of_motion(cluster, DSC_MOVE_ALL_REDUCE, ranks, algorithm, bytes);
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

static void halves_take_half(void)
{
    static const dsc_motion halves[] = {DSC_MOVE_REDUCE_SCATTER, DSC_MOVE_ALL_GATHER};

    for (int64_t i = 0; i < DSC_COUNT(halves); i++) {
        for (int algorithm = DSC_BY_RING; algorithm <= DSC_BY_HIERARCHY; algorithm += DSC_BY_HIERARCHY - DSC_BY_RING) {
            int64_t half = time_of_motion(scene_gpus(8, 4), halves[i], 32, algorithm, 1 << 28);

            check_near("8 nodes of 4", half, (double)time_of(scene_gpus(8, 4), 32, algorithm, 1 << 28) / 2);
        }
        CHECK(time_of_motion(scene_gpus(1, 4), halves[i], 4, DSC_BY_TREE, 64) == INT64_MAX, "a tree scatters nothing");
    }
}

/* Four NICs of a node carry what its 4 members send to the 4 of the other: S/8 each to each. */
static void all_to_all_loads_all_pairs(void)
{
    const double payload = 1 << 28;

    check_near("inside a node", time_of_motion(scene_gpus(1, 4), DSC_MOVE_ALL_TO_ALL, 4, DSC_BY_RING, 1 << 28),
               3.0 / 4 * payload / 100 + 3 * SCENE_LATENCY_NS);
    check_near("one a node", time_of_motion(scene_gpus(4, 1), DSC_MOVE_ALL_TO_ALL, 4, DSC_BY_RING, 1 << 28),
               3.0 / 4 * payload / 10 + 3 * SCENE_NIC_LATENCY_NS);
    check_near("2 nodes of 4", time_of_motion(scene_gpus(2, 4), DSC_MOVE_ALL_TO_ALL, 8, DSC_BY_RING, 1 << 28),
               4.0 / 8 * payload / 10 + 7 * SCENE_NIC_LATENCY_NS);
    CHECK(time_of_motion(scene_gpus(2, 4), DSC_MOVE_ALL_TO_ALL, 8, DSC_BY_TREE, 64) == INT64_MAX, "by a tree");
    CHECK(time_of_motion(scene_gpus(2, 4), DSC_MOVE_ALL_TO_ALL, 8, DSC_BY_HIERARCHY, 64) == INT64_MAX, "by hierarchy");
}

static void few_distances_stand_for_all(void)
{
    const double payload = 1 << 28;

    check_near("128 nodes of one", time_of_motion(scene_gpus(128, 1), DSC_MOVE_ALL_TO_ALL, 128, DSC_BY_RING, 1 << 28),
               127.0 / 128 * payload / 10 + 127 * SCENE_NIC_LATENCY_NS);
}

static void messages_take_their_path(void)
{
    check_near("inside a node", time_of_motion(scene_gpus(1, 2), DSC_MOVE_MESSAGE, 2, DSC_BY_RING, 12345678),
               123456.78 + SCENE_LATENCY_NS);
    check_near("between nodes", time_of_motion(scene_gpus(2, 1), DSC_MOVE_MESSAGE, 2, DSC_BY_RING, 12345678),
               1234567.8 + SCENE_NIC_LATENCY_NS);
}

/* On 2 cores: 8 ranks at work take 4 times what 2 take; a member passes on 1/2 among 2 ranks, 3/4 among 4. */
static void measured_times_are_interpolated(void)
{
    dsc_collective_sample samples[] = {
        {"all_reduce", 2, 1, 2, 1000, 5000}, {"all_reduce", 2, 1, 2, 100000, 50000},
        {"all_reduce", 4, 1, 4, 1000, 9000}, {"all_reduce", 2, 1, 4, 1000, 7000},
        {"all_gather", 2, 1, 2, 1000, 1},    {"send", 2, 1, 2, 1000, 400}};
    dsc_calibration calibration = {.collectives = samples, .collective_count = DSC_COUNT(samples)};
    const struct { dsc_motion motion; int64_t ranks, at_work, bytes, ns; } rows[] = {
        {DSC_MOVE_ALL_REDUCE, 2, 2, 1000, 5000},     {DSC_MOVE_ALL_REDUCE, 2, 2, 10000, 15811},
        {DSC_MOVE_ALL_REDUCE, 2, 2, 100000, 50000},  {DSC_MOVE_ALL_REDUCE, 2, 2, 200000, 100000},
        {DSC_MOVE_ALL_REDUCE, 2, 2, 8, 5000},        {DSC_MOVE_ALL_REDUCE, 3, 4, 1000, 8000},
        {DSC_MOVE_ALL_REDUCE, 16, 16, 2000, 90000},  {DSC_MOVE_ALL_REDUCE, 2, 4, 1000, 7000},
        {DSC_MOVE_ALL_REDUCE, 2, 8, 1000, 14000},    {DSC_MOVE_MESSAGE, 2, 8, 1000, 1600},
        {DSC_MOVE_ALL_GATHER, 2, 1, 1000, 1}};
    dsc_setting setting = {2, 2, 1, 2};
    int64_t ns;

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_setting wanted = {rows[i].ranks, 1, rows[i].at_work, 2};
        bool found = dsc_collective_measured(&calibration, rows[i].motion, &wanted, rows[i].bytes, &ns);

        CHECK(found && ns == rows[i].ns, "row %lld, %lld ranks, %lld bytes: %lld ns, %lld wanted", (long long)i,
              (long long)rows[i].ranks, (long long)rows[i].bytes, (long long)ns, (long long)rows[i].ns);
    }
    CHECK(!dsc_collective_measured(&calibration, DSC_MOVE_ALL_REDUCE, &setting, 1000, &ns),
          "measured on one node, asked for two");
    setting.nodes = 1;
    CHECK(!dsc_collective_measured(&calibration, DSC_MOVE_REDUCE_SCATTER, &setting, 1000, &ns), "of another kind");
    CHECK(!dsc_collective_measured(NULL, DSC_MOVE_ALL_REDUCE, &setting, 1000, &ns), "nothing was measured");
}

static const tap_case cases[] = {
    {"a ring all-reduce costs 2(n-1)/n S/b + 2(n-1) a", ring_costs_what_it_should},
    {"a tree costs 2 S/b + 2 log2(n) a, less for small messages only", tree_wins_when_latency_rules},
    {"a hierarchy brings S/g through each of a node's NICs", hierarchy_uses_all_nics},
    {"devices of a node share its NICs where there are fewer", devices_share_scarce_nics},
    {"reduce-scatter and all-gather take half an all-reduce, by ring and by hierarchy", halves_take_half},
    {"an all-to-all costs what all pairs put on the links", all_to_all_loads_all_pairs},
    {"of a large group some distances cost what all do", few_distances_stand_for_all},
    {"a message costs S/b + a of its path", messages_take_their_path},
    {"measured transfers are interpolated, and scaled from the nearest setting to the one asked for",
     measured_times_are_interpolated},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
