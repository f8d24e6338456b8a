/* Descriptions of clusters: presets, JSON and hwloc's. */
#include "cluster/cluster.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char file[] = "cluster-load.tmp";

static bool write_file(const char *text)
{
    FILE *out = fopen(file, "w");

    if (!CHECK(out != NULL, "cannot write %s", file)) return false;
    fputs(text, out);
    return CHECK(fclose(out) == 0, "cannot write %s", file);
}

static dsc_status load_text(const char *text, dsc_cluster **out)
{
    dsc_status status;

    if (!write_file(text)) return DSC_EIO;
    status = dsc_cluster_load(file, out);
    remove(file);
    return status;
}

static void presets_count_their_devices(void)
{
    static const struct { const char *name; int64_t nodes, devices; } counts[] = {
        {"dgx2-v100", 1, 16},
        {"dgx-a100-80g:384", 384, 3072},
        {"dgx-h100:1", 1, 8},
        {"dgx-a100-40g:1099511627776", INT64_C(1) << 40, INT64_C(1) << 43},
        {"gb200-nvl72", 18, 72},
        {"gb300-nvl72:2", 2, 8},
    };

    for (int64_t i = 0; i < DSC_COUNT(counts); i++) {
        dsc_cluster *cluster = NULL;

        if (!CHECK_OK(dsc_cluster_load(counts[i].name, &cluster))) continue;
        CHECK(dsc_cluster_nodes(cluster) == counts[i].nodes && dsc_cluster_devices(cluster) == counts[i].devices,
              "%s: %lld nodes, %lld devices", counts[i].name, (long long)dsc_cluster_nodes(cluster),
              (long long)dsc_cluster_devices(cluster));
        dsc_cluster_destroy(cluster);
    }
}

/* What prices and placement read of any GPU cluster. */
static void presets_are_complete(void)
{
    for (const char *const *name = dsc_cluster_presets(); *name != NULL; name++) {
        dsc_cluster *cluster = NULL;
        const dsc_device_type *device;
        const dsc_node_type *node;

        if (!CHECK_OK(dsc_cluster_load(*name, &cluster))) continue;
        node = &cluster->node_types[0];
        device = &node->devices[0];
        CHECK(device->is_gpu && device->memory_bytes > INT64_C(15) << 30, "%s: %lld bytes", *name,
              (long long)device->memory_bytes);
        CHECK(device->peak_flops[DSC_FP16] > device->peak_flops[DSC_FP32], "%s: fp16 is no faster", *name);
        CHECK(device->efficiency.product > 0 && device->efficiency.launch_ns > 0, "%s: no efficiency", *name);
        CHECK(dsc_node_link(node, "device", "device") != NULL, "%s: devices are not joined", *name);
        CHECK(dsc_node_link(node, "host", "device") != NULL, "%s: devices are not joined to the host", *name);
        CHECK(dsc_node_devices(node) % dsc_node_link(node, "host", "device")->devices_per_port == 0,
              "%s: ports to the host have not as many devices each", *name);
        CHECK(device->power_w >= 280, "%s: %g W", *name, device->power_w);
        CHECK(node->host_bandwidth_bytes_per_s > 1e11, "%s: the host has no memory rate", *name);
        CHECK(dsc_cluster_tier(cluster, 0, 1) != NULL && node->nic_count == 1, "%s has no network", *name);
        dsc_cluster_destroy(cluster);
    }
}

/* What doc/clusters.md shows. */
static const struct {
    const char *name;
    int64_t devices;
    dsc_tier_topology lowest, last;
    int64_t domain; /* nodes */
} examples[] = {
    {"fat-tree", 1024, DSC_TIER_TREE, DSC_TIER_TREE, 1},
    {"rail", 512, DSC_TIER_RAIL, DSC_TIER_TREE, 1},
    {"dragonfly", 8192, DSC_TIER_TREE, DSC_TIER_DRAGONFLY, 1},
    {"nvlink-rack", 128, DSC_TIER_TREE, DSC_TIER_TREE, 16},
};

typedef struct example_path { char str[512]; } example_path;

static example_path path_of(const char *example)
{
    const char *root = getenv("srcdir");
    example_path path;

    snprintf(path.str, sizeof path.str, "%.400s/doc/examples/clusters/%s.json", root == NULL ? "." : root, example);
    return path;
}

static void examples_are_what_they_say(void)
{
    for (int64_t i = 0; i < DSC_COUNT(examples); i++) {
        dsc_cluster *cluster = NULL;

        if (!CHECK_OK(dsc_cluster_load(path_of(examples[i].name).str, &cluster))) continue;
        CHECK(strcmp(cluster->name, examples[i].name) == 0 && dsc_cluster_devices(cluster) == examples[i].devices,
              "%s: %s of %lld devices", examples[i].name, cluster->name, (long long)dsc_cluster_devices(cluster));
        CHECK(cluster->network[0].topology == examples[i].lowest &&
                  cluster->network[cluster->tier_count - 1].topology == examples[i].last,
              "%s: topology %d", examples[i].name, cluster->network[0].topology);
        CHECK(dsc_cluster_domain_nodes(cluster) == examples[i].domain, "%s: devices join %lld nodes", examples[i].name,
              (long long)dsc_cluster_domain_nodes(cluster));
        dsc_cluster_destroy(cluster);
    }
}

static void racks_are_joined_by_their_devices(void)
{
    dsc_cluster *cluster = NULL;

    if (!CHECK_OK(dsc_cluster_load("gb200-nvl72:40", &cluster))) return;
    CHECK(dsc_cluster_domain_nodes(cluster) == 18 && dsc_cluster_tier(cluster, 18, 35)->port == DSC_PORT_DEVICE,
          "%lld nodes", (long long)dsc_cluster_domain_nodes(cluster));
    CHECK(dsc_cluster_tier(cluster, 17, 18)->port == DSC_PORT_NIC, "the racks are one");
    dsc_cluster_destroy(cluster);
}

static void check_reads_back(const char *name)
{
    dsc_cluster *cluster = NULL, *again = NULL;
    char *text, *text_again = NULL;

    if (!CHECK_OK(dsc_cluster_load(name, &cluster))) return;
    text = dsc_cluster_json(cluster);
    if (CHECK(text != NULL, "%s has no JSON", name) && CHECK_OK(load_text(text, &again)))
        text_again = dsc_cluster_json(again);
    CHECK(dsc_equal(text, text_again), "%s became %.1000s", text, text_again == NULL ? "nothing" : text_again);
    free(text);
    free(text_again);
    dsc_cluster_destroy(cluster);
    dsc_cluster_destroy(again);
}

static void json_reads_back(void)
{
    for (const char *const *name = dsc_cluster_presets(); *name != NULL; name++) check_reads_back(*name);
    for (int64_t i = 0; i < DSC_COUNT(examples); i++) check_reads_back(path_of(examples[i].name).str);
    check_reads_back("local");
    check_reads_back("pack:2 core:4 pu:1");
}

#define DEVICE                                                                                        \
    "{\"name\":\"gpu\",\"count\":8,\"memory_bytes\":1e9,\"bandwidth_bytes_per_s\":1e12,"                \
    "\"peak_flops\":{\"fp32\":1e13}}"
#define LINK                                                                                          \
    "{\"name\":\"l\",\"between\":[\"device\",\"device\"],\"topology\":\"ring\",\"bytes_per_s\":1e10,"   \
    "\"latency_ns\":5}"
#define NIC "{\"count\":2,\"bytes_per_s\":1e10,\"latency_ns\":5}"
#define TIER "{\"tier\":\"leaf\",\"nodes\":4,\"bytes_per_s\":1e10,\"latency_ns\":5}"
#define NODE_WITH(devices, links, nics)                                                                \
    "{\"devices\":[" devices "],\"links\":[" links "],\"nics\":[" nics "],\"host_memory_bytes\":1000000,\"cores\":4}"
#define CLUSTER(types, nodes, network) \
    "{\"dsc_cluster\":1,\"node_types\":{" types "},\"nodes\":[" nodes "],\"network\":[" network "]}"
#define ONE_NODE(node) CLUSTER("\"a\":" node, "{\"type\":\"a\",\"count\":4}", TIER)
#define SMALL ONE_NODE(NODE_WITH(DEVICE, LINK, NIC))

/* What kernels reach of a device: this share of its peak in attention. */
#define REACHES(attention)                                                                                \
    "{\"name\":\"x\",\"count\":1,\"memory_bytes\":1e9,\"bandwidth_bytes_per_s\":1e12,"                  \
    "\"peak_flops\":{\"fp32\":1e13},\"efficiency\":{\"product\":0.5,\"attention\":" attention ","        \
    "\"memory\":0.5,\"launch_ns\":1000}}"

static void json_is_taken(void)
{
    dsc_cluster *cluster = NULL;
    const dsc_device_type *device;

    if (!CHECK_OK(load_text(SMALL, &cluster))) return;
    device = &cluster->node_types[0].devices[0];
    CHECK(dsc_cluster_devices(cluster) == 32, "%lld devices", (long long)dsc_cluster_devices(cluster));
    CHECK(device->is_gpu && device->memory_bytes == 1000000000 && device->peak_flops[DSC_FP32] == 1e13, "%lld bytes",
          (long long)device->memory_bytes);
    CHECK(device->efficiency.product == 0, "efficiency %g, which nobody gave", device->efficiency.product);
    CHECK(cluster->node_types[0].links[0].topology == DSC_RING, "topology %d",
          cluster->node_types[0].links[0].topology);
    CHECK(cluster->network[0].oversubscription == 1, "oversubscription %g", cluster->network[0].oversubscription);
    dsc_cluster_destroy(cluster);
}

#define CPU(gpu)                                                                                        \
    "{\"name\":\"cpu\"," gpu "\"count\":2,\"memory_bytes\":1e9,\"bandwidth_bytes_per_s\":1e10,"         \
    "\"peak_flops\":{\"fp32\":1e11}}"

#define NVME(member) ",\"nvme\":{\"count\":2,\"bytes\":4e12," member "}"
#define NODE_MORE(more)                                                                                 \
    "{\"devices\":[" DEVICE "],\"links\":[" LINK "],\"nics\":[" NIC "],\"host_memory_bytes\":1,\"cores\":4" more "}"

static void drives_and_power_are_kept(void)
{
    static const dsc_nvme wanted = {2, INT64_C(4000000000000), 7e9, 0};
    dsc_cluster *cluster = NULL;
    const dsc_nvme *nvme;

    if (!CHECK_OK(load_text(ONE_NODE(NODE_MORE(",\"power_w\":900" NVME("\"read_bytes_per_s\":7e9"))), &cluster)))
        return;
    nvme = &cluster->node_types[0].nvme;
    CHECK(nvme->count == wanted.count && nvme->bytes == wanted.bytes &&
              nvme->read_bytes_per_s == wanted.read_bytes_per_s && nvme->write_bytes_per_s == wanted.write_bytes_per_s,
          "%lld drives of %lld bytes", (long long)nvme->count, (long long)nvme->bytes);
    CHECK(cluster->node_types[0].power_w == 900, "%g W", cluster->node_types[0].power_w);
    dsc_cluster_destroy(cluster);
}

#define STORED(more) ",\"storage\":{" more "}"
#define STORING(more)                                                                                          \
    "{\"dsc_cluster\":1,\"node_types\":{\"a\":" NODE_MORE(",\"mtbf_h\":6000") "},"                         \
    "\"nodes\":[{\"type\":\"a\",\"count\":3}],\"network\":[]" STORED(more) "}"

/* Also through the JSON that is written of it, and in what `local` makes of it. */
static void failures_and_storage_are_kept(void)
{
    dsc_cluster *first = NULL, *second = NULL, *ranks = NULL;
    char *text = NULL;

    if (!CHECK_OK(load_text(STORING("\"write_bytes_per_s\":2e11"), &first))) return;
    text = dsc_cluster_json(first);
    if (!CHECK_OK(load_text(text, &second)) || !CHECK_OK(dsc_cluster_of_ranks(second, 1, 2, &ranks))) return;
    CHECK(ranks->node_types[0].mtbf_h == 6000 && ranks->storage.write_bytes_per_s == 2e11 &&
              ranks->storage.read_bytes_per_s == 0, "%g h, %g B/s", ranks->node_types[0].mtbf_h,
          ranks->storage.write_bytes_per_s);
    free(text);
    dsc_cluster_destroy(first);
    dsc_cluster_destroy(second);
    dsc_cluster_destroy(ranks);
}

static void cpus_are_told_by_name(void)
{
    dsc_cluster *cluster = NULL;
    const dsc_device_type *devices;

    if (!CHECK_OK(load_text(ONE_NODE(NODE_WITH(CPU("") "," CPU("\"gpu\":true,"), LINK, NIC)), &cluster))) return;
    devices = cluster->node_types[0].devices;
    CHECK(!devices[0].is_gpu && devices[1].is_gpu, "gpu: %d, %d", devices[0].is_gpu, devices[1].is_gpu);
    dsc_cluster_destroy(cluster);
}

#define TIERS(network) CLUSTER("\"a\":" NODE_WITH(DEVICE, LINK, NIC), "{\"type\":\"a\",\"count\":4}", network)
#define NEXT(nodes, more) "{\"tier\":\"spine\",\"nodes\":" nodes ",\"bytes_per_s\":1e10,\"latency_ns\":5" more "}"

static void check_refusal(const char *text, dsc_status status, const char *const words[3])
{
    CHECK(dsc_exit_status(status) == 2, "%s: status %s", text, dsc_status_name(status));
    CHECK(strchr(dsc_message(), '\n') == NULL, "%s: several lines: %s", text, dsc_message());
    for (int i = 0; i < 3 && words[i] != NULL; i++)
        CHECK(strstr(dsc_message(), words[i]) != NULL, "%s: no \"%s\" in: %s", text, words[i], dsc_message());
}

static void bad_words_are_refused(void)
{
    static const struct { const char *text, *words[3]; } lines[] = {
        {"dgx-b7000", {"dgx-b7000"}},
        {"dgx-a100-80", {"dgx-a100-80", "did you mean"}},
        {"dgx-a100-80g:0", {"dgx-a100-80g", "0 is outside 1"}},
        {"dgx-a100-80g:-3", {"dgx-a100-80g", "-3"}},
        {"dgx-a100-80g:", {"dgx-a100-80g", "\"\""}},
        {"dgx-a100-80g:many", {"many"}},
        {"dgx-a100-80g:1099511627777", {"1099511627777", "1099511627776"}},
        {"dgx-b7000:3", {"dgx-b7000:3"}},
        {"core:4611686018427387904", {"core:4611686018427387904", "1048576"}},
        {"pack:1000 core:1000000", {"1048576"}},
        {"core:4 cheese:3", {"core:4 cheese:3"}},
        {"absent.json", {"absent.json", "No such file"}},
        {"absent/file", {"absent/file", "No such file"}},
        {"", {"unknown cluster"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(lines); i++) {
        dsc_cluster *cluster = NULL;

        check_refusal(lines[i].text, dsc_cluster_load(lines[i].text, &cluster), lines[i].words);
        CHECK(cluster == NULL, "%s left something", lines[i].text);
    }
}

static void bad_files_are_refused(void)
{
    static const struct { const char *text, *words[3]; } lines[] = {
        {"[]", {file, "an array"}},
        {"{\"dsc_cluster\":1,", {file, ":1:"}},
        {"{\"train_batch_size\":1}", {file, "train_batch_size"}},
        {"{\"node_types\":{}}", {"dsc_cluster"}},
        {"{\"dsc_cluster\":2}", {"dsc_cluster", "2"}},
        {"{\"dsc_cluster\":1}", {"node_types"}},
        {"{\"dsc_cluster\":1,\"node_type\":{}}", {"node_type", "did you mean \"node_types\""}},
        {CLUSTER("\"a\":" NODE_WITH(DEVICE, "", ""), "", ""), {"nodes", "at least one"}},
        {CLUSTER("\"a\":" NODE_WITH(DEVICE, "", ""), "{\"type\":\"b\",\"count\":1}", ""), {"nodes", "\"b\""}},
        {CLUSTER("\"a\":" NODE_WITH(DEVICE, "", ""), "{\"type\":\"a\",\"count\":0}", ""), {"nodes[0]", "count", "0"}},
        {ONE_NODE(NODE_WITH("", "", "")), {"devices", "at least one"}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\"}", "", "")), {"devices[0]", "missing", "count"}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\",\"count\":-1,\"memory_bytes\":1}", "", "")), {"count", "-1"}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\",\"count\":4611686018427387904}", "", "")),
         {"count", "4611686018427387904"}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\",\"count\":1,\"memory_bytes\":0}", "", "")),
         {"memory_bytes", "0 is outside 1"}},
        {ONE_NODE(NODE_WITH(REACHES("0"), "", "")), {"efficiency", "attention", "0 is outside 0.001"}},
        {ONE_NODE(NODE_WITH(REACHES("0"), "", "")), {"efficiency", "attention", "0 is outside 0.001"}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\",\"count\":1,\"memory_bytes\":NaN}", "", "")), {file}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\",\"count\":1,\"memory_bytes\":1e400}", "", "")), {file}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\",\"count\":1,\"memory_bytes\":\"80GB\"}", "", "")),
         {"memory_bytes", "80GB"}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\",\"colour\":1}", "", "")), {"devices[0]", "unknown key \"colour\""}},
        {ONE_NODE(NODE_WITH(DEVICE, "{\"name\":\"l\",\"between\":[\"device\"]}", "")), {"links[0]", "between", "of 1"}},
        {ONE_NODE(NODE_WITH(DEVICE, "{\"name\":\"l\",\"between\":[\"device\",\"moon\"]}", "")), {"between", "moon"}},
        {ONE_NODE(NODE_WITH(DEVICE, "{\"name\":\"l\",\"between\":[\"device\",\"host\"],\"topology\":\"start\"}", "")),
         {"topology", "start"}},
        {ONE_NODE(NODE_WITH(DEVICE, LINK, "{\"count\":1,\"bytes_per_s\":-5}")), {"nics[0]", "bytes_per_s", "-5"}},
        {ONE_NODE(NODE_MORE(NVME("\"speed\":1"))), {"nvme", "unknown key \"speed\""}},
        {ONE_NODE(NODE_MORE(NVME("\"write_bytes_per_s\":-1"))), {"nvme", "write_bytes_per_s", "-1"}},
        {ONE_NODE(NODE_MORE(",\"nvme\":{\"bytes\":4e12}")), {"nvme", "missing key \"count\""}},
        {ONE_NODE(NODE_MORE(",\"power_w\":-5")), {"power_w", "-5 is outside 0"}},
        {ONE_NODE(NODE_MORE(",\"mtbf_h\":-1")), {"mtbf_h", "-1 is outside 0"}},
        {STORING("\"write_bytes_per_s\":-1"), {"storage", "write_bytes_per_s", "-1"}},
        {STORING("\"rate\":1"), {"storage", "unknown key \"rate\""}},
        {ONE_NODE(NODE_WITH("{\"name\":\"x\",\"count\":1,\"memory_bytes\":1,\"bandwidth_bytes_per_s\":-3}", "", "")),
         {"bandwidth_bytes_per_s", "-3 is outside 1"}},
        {CLUSTER("\"a\":" NODE_WITH(DEVICE, "", ""), "{\"type\":\"a\",\"count\":4611686018427387904}", ""),
         {"nodes[0]", "4611686018427387904 is outside 1", "1099511627776"}},
        {TIERS(TIER "," NEXT("2", "")), {"network[1] (\"spine\")", "2 are fewer than the 4", "\"leaf\""}},
        {TIERS(TIER "," NEXT("6", "") "," NEXT("12", "")), {"network[1]", "6 are not a multiple of the 4"}},
        {TIERS(TIER "," NEXT("8", ",\"port\":\"device\"")), {"network[1]", "port", "\"leaf\", which NICs enter"}},
        {TIERS(NEXT("8", ",\"port\":\"device\"")), {"network[0]", "port", "\"a\" has no switch"}},
        {TIERS(NEXT("8", ",\"port\":\"nick\"")), {"network[0]", "port", "did you mean \"nic\""}},
        {TIERS(NEXT("8", ",\"topology\":\"torus\"")), {"network[0]", "topology", "torus"}},
        {TIERS(TIER "," NEXT("8", ",\"topology\":\"rail\"")), {"network[1]", "\"rail\" joins NICs", "\"leaf\""}},
        {TIERS(NEXT("4", ",\"topology\":\"dragonfly\"") "," NEXT("8", "")),
         {"network[0]", "\"dragonfly\" is the last tier", "number 1, not number 0"}},
        {TIERS(NEXT("4", ",\"oversubscription\":0.5")), {"network[0]", "oversubscription", "0.5 is outside 1"}},
        {CLUSTER("\"a\":7", "{\"type\":\"a\"}", ""), {"a", "a whole number"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(lines); i++) {
        dsc_cluster *cluster = NULL;

        check_refusal(lines[i].text, load_text(lines[i].text, &cluster), lines[i].words);
        CHECK(strncmp(dsc_message(), file, strlen(file)) == 0, "no file in: %s", dsc_message());
        CHECK(cluster == NULL, "%s left something", lines[i].text);
    }
}

static void synthetic_machines_have_their_cores(void)
{
    dsc_cluster *cluster = NULL;

    if (!CHECK_OK(dsc_cluster_load("pack:2 core:8 pu:2", &cluster))) return;
    CHECK(cluster->node_types[0].cores == 16, "%lld cores", (long long)cluster->node_types[0].cores);
    CHECK(dsc_cluster_devices(cluster) == 1 && !cluster->is_local, "%lld devices",
          (long long)dsc_cluster_devices(cluster));
    dsc_cluster_destroy(cluster);
}

/* Two cores of one processing unit each, 8 GiB, and what %s stands for. */
#define SETS(set) " cpuset=\"" set "\" complete_cpuset=\"" set "\" nodeset=\"1\" complete_nodeset=\"1\" "
#define CORE(index, set, id)                                                                          \
    "<object type=\"Core\" os_index=\"" index "\"" SETS(set) "gp_index=\"1" id "\">"                   \
    "<object type=\"PU\" os_index=\"" index "\"" SETS(set) "gp_index=\"2" id "\"/></object>"
#define XML                                                                                           \
    "<?xml version=\"1.0\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<topology version=\"2.0\">"    \
    "<object type=\"Machine\" os_index=\"0\"" SETS("3")                                               \
    "allowed_cpuset=\"3\" allowed_nodeset=\"1\" gp_index=\"1\">"                                      \
    "<object type=\"NUMANode\" os_index=\"0\"" SETS("3") "gp_index=\"2\" local_memory=\"8589934592\"/>" \
    CORE("0", "1", "0") CORE("1", "2", "1") "%s</object></topology>"
#define XML_GPU                                                                                       \
    "<object type=\"OSDev\" gp_index=\"9\" name=\"cuda0\" subtype=\"CUDA\" osdev_type=\"5\">"           \
    "<info name=\"GPUModel\" value=\"NVIDIA %s\"/></object>"

static dsc_status load_xml(const char *gpu, dsc_cluster **out)
{
    char text[4096], object[512] = "";

    if (gpu != NULL) snprintf(object, sizeof object, XML_GPU, gpu);
    snprintf(text, sizeof text, XML, object);
    return load_text(text, out);
}

static void xml_machines_have_their_memory_and_gpus(void)
{
    dsc_cluster *cluster = NULL;

    if (!CHECK_OK(load_xml(NULL, &cluster))) return;
    CHECK(cluster->node_types[0].cores == 2, "%lld cores", (long long)cluster->node_types[0].cores);
    CHECK(cluster->node_types[0].host_memory_bytes == INT64_C(8) << 30, "%lld bytes",
          (long long)cluster->node_types[0].host_memory_bytes);
    dsc_cluster_destroy(cluster);
    if (!CHECK_OK(load_xml("A100-SXM4-80GB", &cluster))) return;
    CHECK(strcmp(cluster->node_types[0].devices[0].name, "a100-80g") == 0, "%s",
          cluster->node_types[0].devices[0].name);
    dsc_cluster_destroy(cluster);
    CHECK(load_xml("Riva 128", &cluster) == DSC_ENOTSUP, "an unknown GPU is taken");
    CHECK(strstr(dsc_message(), "Riva 128") != NULL, "%s", dsc_message());
    CHECK(load_text("<topology", &cluster) == DSC_EINVAL, "broken XML is taken");
    CHECK(strstr(dsc_message(), file) != NULL, "%s", dsc_message());
}

/* Names of drivers, of published measurements, and of presets' devices. */
static void gpus_are_known_by_their_names(void)
{
    static const struct { const char *model, *gpu; } names[] = {
        {"NVIDIA A100-SXM4-80GB", "a100-80g"}, {"Tesla V100-SXM2-16GB", "v100-16g"},
        {"NVIDIA H100 80GB HBM3", "h100-80g"}, {"NVIDIA H100", "h100-96g"},
        {"NVIDIA B300 SXM6 AC", "b300-288g"},  {"AMD Instinct MI250X", "mi250x-gcd"},
        {"NVIDIA GB200", "gb200-186g"},        {"gb300-288g", "gb300-288g"},
        {"V100-SXM3-32GB", "v100-32g"},        {"V100-SXM2-32GB", "v100-sxm2-32g"},
        {"V100-32GB", "v100-32g"},             {"A100-SXM4-40GB", "a100-40g"},
        {"A100-SXM4-80GB", "a100-80g"},        {"H100-SXM5-80GB", "h100-80g"},
        {"H200", "h200-141g"},                 {"B200-180GB", "b200-180g"},
        {"GB200-186GB", "gb200-186g"},         {"GB300-288GB", "gb300-288g"},
        {"MI250X-GCD-64GB", "mi250x-gcd"},     {"H100-SXM5-96GB(HBM2e 2.4TB/s, 500W)", "h100-96g"},
        {"a100-sxm4-80gb", "a100-80g"},        {"V100", NULL},
        {"A100", NULL},                        {"any", NULL},
        {"", NULL},                            {"TPUv4-32GB", NULL},
        {"NVIDIA H100 PCIe", NULL},            {"GB2000", NULL},
    };

    for (int64_t i = 0; i < DSC_COUNT(names); i++) {
        dsc_device_type gpu = {.name = "none"};
        bool is_known = dsc_gpu_by_model(names[i].model, &gpu);

        CHECK(is_known == (names[i].gpu != NULL) && dsc_equal(gpu.name, is_known ? names[i].gpu : "none"), "%s is %s",
              names[i].model, gpu.name);
    }
}

static const tap_case cases[] = {
    {"presets have their nodes and devices", presets_count_their_devices},
    {"presets have all that prices read", presets_are_complete},
    {"a cluster's JSON reads back as the same cluster", json_reads_back},
    {"the manual's examples are what they say", examples_are_what_they_say},
    {"the nodes of an NVL72 rack are joined by their GPUs' ports, racks by NICs", racks_are_joined_by_their_devices},
    {"GPUs are known by the names of drivers, publications and presets", gpus_are_known_by_their_names},
    {"a JSON description is taken as written", json_is_taken},
    {"drives and power are kept", drives_and_power_are_kept},
    {"failures of nodes and the shared storage are kept", failures_and_storage_are_kept},
    {"a device called cpu is no GPU, unless the description says so", cpus_are_told_by_name},
    {"bad words are refused in one line that names the cause", bad_words_are_refused},
    {"bad files are refused in one line that names file and key", bad_files_are_refused},
    {"synthetic machines have their cores", synthetic_machines_have_their_cores},
    {"XML machines have their memory and GPUs", xml_machines_have_their_memory_and_gpus},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
