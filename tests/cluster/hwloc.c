/* Machines with GPUs as hwloc's XML has them: each is written here, and read. */
#include "base/text.h"
#include "cluster/cluster.h"
#include "tests/tap.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char file[] = "cluster-hwloc.tmp";

/* A machine to be written. Rates of PCI links in GB/s as hwloc counts them, of others in MB/s. */
typedef struct machine {
    int gpus, per_bridge, switches, nics;
    const char *model, *other_model;    /* of a GPU beside these; NULL: there is none */
    const char *link;                   /* the matrix' name; NULL: there is none */
    int64_t (*rate)(int a, int b);      /* of the matrix between GPUs, or from a GPU to switch or processor 100 */
    bool has_processor;                 /* in the matrix, too */
    double gpu_pci, bridge_pci, nic_pci;
    int64_t memory_kib;                 /* of a GPU */
    const char *nic, *nic_info;         /* type and info of NICs' OS devices */
} machine;

/* Numbers of objects. */
enum { SOCKET = 5, GPU = 100, DRIVER = 200, SWITCH = 400, BRIDGE = 500, NIC = 600, OTHER = 700 };
#define SETS "cpuset=\"1\" complete_cpuset=\"1\" nodeset=\"1\" complete_nodeset=\"1\""
#define PCI "<object type=\"PCIDev\" gp_index=\"%d\" pci_busid=\"0000:%02x:%02x.%d\" pci_type=\"%s [10de:20b2] " \
            "[10de:147f] a1\" pci_link_speed=\"%f\">"

/* Two OS devices of one card; only one tells memory. */
static void write_gpu(const machine *m, int number, const char *model, int bus, dsc_text *out)
{
    dsc_text_add(out, PCI, number, bus, 0, 0, "0302", m->gpu_pci);
    dsc_text_add(out, "<object type=\"OSDev\" gp_index=\"%d\" name=\"cuda\" subtype=\"CUDA\" osdev_type=\"5\">"
                 "<info name=\"GPUModel\" value=\"%s\"/>", DRIVER + 100 + number, model);
    if (m->memory_kib > 0)
        dsc_text_add(out, "<info name=\"CUDAGlobalMemorySize\" value=\"%lld\"/>", (long long)m->memory_kib);
    dsc_text_add(out, "</object><object type=\"OSDev\" gp_index=\"%d\" name=\"nvml\" subtype=\"NVML\" osdev_type=\"1\">"
                 "<info name=\"GPUModel\" value=\"%s\"/></object></object>", DRIVER + number - GPU, model);
}

static void write_gpus(const machine *m, dsc_text *out)
{
    int each = m->per_bridge > 0 ? m->per_bridge : 1;

    for (int i = 0; i < m->gpus; i++) {
        if (m->per_bridge > 0 && i % each == 0)
            dsc_text_add(out, "<object type=\"Bridge\" gp_index=\"%d\" bridge_type=\"1-1\" depth=\"1\" bridge_pci="
                         "\"0000:[%02x-%02x]\" pci_busid=\"0000:00:%02x.0\" pci_type=\"0604 [10b5:8796] [0000:0000] "
                         "00\" pci_link_speed=\"%f\">", BRIDGE + i, 0x10 + i, 0x10 + i + each - 1, 1 + i,
                         m->bridge_pci);
        write_gpu(m, GPU + i, m->model, 0x10 + i, out);
        if (m->per_bridge > 0 && (i + 1) % each == 0) dsc_text_add(out, "</object>");
    }
    if (m->other_model != NULL) write_gpu(m, OTHER, m->other_model, 0x60, out);
    for (int i = 0; i < m->switches; i++) {
        dsc_text_add(out, PCI, SWITCH + i, 0x40 + i, 0, 0, "0680", 0.0);
        dsc_text_add(out, "</object>");
    }
}

/* Cards of two ports, each of which has a function of its own. */
static void write_nics(const machine *m, dsc_text *out)
{
    for (int i = 0; i < 2 * m->nics; i++) {
        dsc_text_add(out, PCI, NIC + 2 * i, 0x80 + i / 2, 0, i % 2, "0207", m->nic_pci);
        dsc_text_add(out, "<object type=\"OSDev\" gp_index=\"%d\" name=\"nic%d\" osdev_type=\"%s\">%s</object>"
                     "</object>", NIC + 2 * i + 1, i, m->nic, m->nic_info);
    }
}

/* GPUs, then switches, then the processor. */
static int64_t matrix_rate(const machine *m, int i, int j)
{
    if (i == j) return 1000000; /* as hwloc has it */
    if (i >= m->gpus && j >= m->gpus) return 0;
    return i >= m->gpus ? m->rate(j, 100) : j >= m->gpus ? m->rate(i, 100) : m->rate(i, j);
}

static void write_matrix(const machine *m, dsc_text *out)
{
    int count = m->gpus + m->switches + m->has_processor;
    bool is_mixed = count > m->gpus;
    dsc_text indexes = {0}, values = {0};

    for (int i = 0; i < count; i++) {
        if (i >= m->gpus + m->switches) dsc_text_add(&indexes, "Package:%d ", SOCKET);
        else if (i >= m->gpus) dsc_text_add(&indexes, "PCIDev:%d ", SWITCH + i - m->gpus);
        else dsc_text_add(&indexes, "%s%d ", is_mixed ? "OSDev:" : "", DRIVER + i);
        for (int j = 0; j < count; j++) dsc_text_add(&values, "%lld ", (long long)matrix_rate(m, i, j));
    }
    dsc_text_add(out, is_mixed ? "<distances2hetero nbobjs=\"%d\" kind=\"25\" name=\"%s\">"
                               : "<distances2 type=\"OSDev\" nbobjs=\"%d\" kind=\"9\" name=\"%s\" indexing=\"gp\">",
                 count, m->link);
    dsc_text_add(out, "<indexes length=\"%lld\">%s</indexes><u64values length=\"%lld\">%s</u64values></%s>",
                 (long long)indexes.count, dsc_text_str(&indexes), (long long)values.count, dsc_text_str(&values),
                 is_mixed ? "distances2hetero" : "distances2");
    dsc_text_fini(&indexes);
    dsc_text_fini(&values);
}

/* One core, 8 GiB, and 64 GiB that are a GPU's. */
static void write_machine(const machine *m, dsc_text *out)
{
    dsc_text_add(out, "<?xml version=\"1.0\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<topology version=\"2.0\">"
                 "<object type=\"Machine\" os_index=\"0\" cpuset=\"1\" complete_cpuset=\"1\" nodeset=\"3\" "
                 "complete_nodeset=\"3\" allowed_cpuset=\"1\" allowed_nodeset=\"3\" gp_index=\"1\">"
                 "<object type=\"NUMANode\" os_index=\"0\" " SETS " gp_index=\"2\" local_memory=\"8589934592\"/>"
                 "<object type=\"NUMANode\" subtype=\"GPUMemory\" os_index=\"1\" cpuset=\"0\" complete_cpuset=\"0\" "
                 "nodeset=\"2\" complete_nodeset=\"2\" gp_index=\"3\" local_memory=\"68719476736\"/>"
                 "<object type=\"Package\" os_index=\"0\" " SETS " gp_index=\"%d\">"
                 "<object type=\"Core\" os_index=\"0\" " SETS " gp_index=\"6\">"
                 "<object type=\"PU\" os_index=\"0\" " SETS " gp_index=\"7\"/></object></object>"
                 "<object type=\"Bridge\" gp_index=\"8\" bridge_type=\"0-1\" depth=\"0\" "
                 "bridge_pci=\"0000:[00-ff]\">", SOCKET);
    write_gpus(m, out);
    write_nics(m, out);
    dsc_text_add(out, "</object></object>");
    if (m->link != NULL) write_matrix(m, out);
    dsc_text_add(out, "</topology>\n");
}

static dsc_status load_text(const char *text, dsc_cluster **out)
{
    FILE *stream = fopen(file, "w");
    dsc_status status;

    fputs(text, stream);
    fclose(stream);
    status = dsc_cluster_load(file, out);
    remove(file);
    return status;
}

/* The node, which *out owns; NULL after a failed check. */
static const dsc_node_type *read_machine(const machine *m, dsc_cluster **out)
{
    dsc_text text = {0};
    dsc_status status;

    write_machine(m, &text);
    status = load_text(dsc_text_str(&text), out);
    dsc_text_fini(&text);
    return CHECK_OK(status) ? (*out)->node_types : NULL;
}

static bool is_near(double a, double b) { return fabs(a - b) <= 0.01 * b; }

static void check_link(const char *what, const dsc_node_type *node, const char *end, const char *name, double rate,
                       dsc_topology topology, int64_t per_port)
{
    const dsc_link *link = dsc_node_link(node, "device", end);

    CHECK(link != NULL && dsc_equal(link->name, name) && is_near(link->bytes_per_s, rate) &&
          link->topology == topology && link->devices_per_port == per_port, "%s: %s of %g B/s, topology %d, %lld a "
          "port", what, link->name, link->bytes_per_s, (int)link->topology, (long long)link->devices_per_port);
}

/* ---- Claims */

static int64_t to_each_switch(int a, int b) { return a < 100 && b == 100 ? 50000 : 0; }

static void all_of_a_switched_machine_is_read(void)
{
    static const machine m = {.gpus = 8, .per_bridge = 2, .switches = 6, .nics = 4, .model = "NVIDIA A100-SXM4-80GB",
                              .link = "NVLinkBandwidth", .rate = to_each_switch, .gpu_pci = 31.5, .bridge_pci = 31.5,
                              .nic_pci = 31.5, .memory_kib = 83057472, .nic = "3",
                              .nic_info = "<info name=\"Port1State\" value=\"4\"/>"};
    dsc_cluster *cluster = NULL;
    const dsc_node_type *node = read_machine(&m, &cluster);

    if (node == NULL) return;
    CHECK(dsc_equal(node->devices[0].name, "a100-80g") && node->devices[0].count == 8, "%lld of %s",
          (long long)node->devices[0].count, node->devices[0].name);
    CHECK(node->devices[0].memory_bytes == 83057472 * INT64_C(1024), "%lld bytes",
          (long long)node->devices[0].memory_bytes);
    CHECK(node->cores == 1 && node->host_memory_bytes == INT64_C(8) << 30, "%lld bytes of the host",
          (long long)node->host_memory_bytes);
    check_link("between", node, "device", "nvlink", 300e9, DSC_SWITCH, 1);
    check_link("to the host", node, "host", "pcie", 25e9, DSC_SWITCH, 2);
    CHECK(node->nic_count == 1 && node->nics[0].count == 4 && is_near(node->nics[0].bytes_per_s, 25e9) &&
          node->nics[0].latency_ns == 5000, "%lld NICs of %g B/s", (long long)node->nics[0].count,
          node->nics[0].bytes_per_s);
    CHECK(is_near(cluster->network[0].bytes_per_s, 25e9), "a tier of %g B/s", cluster->network[0].bytes_per_s);
    dsc_cluster_destroy(cluster);
}

static int64_t to_all(int a, int b) { return (void)a, (void)b, 50000; }
static int64_t to_neighbours(int a, int b) { return (a - b + 4) % 4 == 2 ? 0 : 50000; }
static int64_t in_pairs(int a, int b) { return a / 2 == b / 2 ? 100000 : 0; }

/* Two rings of four whose equals are joined, some by two links: 6 of each GPU. */
static int64_t in_a_cube(int a, int b)
{
    if (a / 4 != b / 4) return a % 4 == b % 4 ? 50000 : 0;
    return (a + b) % 2 == 1 && a / 2 == b / 2 ? 50000 : 25000;
}

static void links_have_their_topology(void)
{
    static const struct {
        const char *what; machine m; const char *name; double rate; dsc_topology topology;
    } rows[] = {
        {"each to each", {.gpus = 4, .rate = to_all}, "nvlink", 150e9, DSC_MESH},
        {"two alone", {.gpus = 2, .rate = to_all}, "nvlink", 50e9, DSC_MESH},
        {"neighbours", {.gpus = 4, .rate = to_neighbours}, "nvlink", 50e9, DSC_RING},
        {"a cube", {.gpus = 8, .rate = in_a_cube}, "nvlink", 150e9, DSC_MESH},
        {"pairs", {.gpus = 4, .rate = in_pairs}, "pcie", 12.44e9, DSC_TREE},
        {"AMD's", {.gpus = 8, .rate = to_all, .link = "XGMIBandwidth", .model = "AMD Instinct MI250X"},
         "infinity-fabric", 350e9, DSC_MESH},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_cluster *cluster = NULL;
        const dsc_node_type *node;
        machine m = rows[i].m;

        if (m.link == NULL) m.link = "NVLinkBandwidth";
        if (m.model == NULL) m.model = "Tesla V100-SXM2-32GB";
        m.gpu_pci = 15.75;
        node = read_machine(&m, &cluster);
        if (node == NULL) continue;
        check_link(rows[i].what, node, "device", rows[i].name, rows[i].rate, rows[i].topology, 1);
        check_link(rows[i].what, node, "host", "pcie", 12.44e9, DSC_SWITCH, 1);
        CHECK(node->devices[0].count == m.gpus, "%s: %lld GPUs", rows[i].what, (long long)node->devices[0].count);
        dsc_cluster_destroy(cluster);
    }
}

static void links_to_the_processor_count(void)
{
    static const machine m = {.gpus = 2, .model = "Tesla V100-SXM2-16GB", .link = "NVLinkBandwidth", .rate = to_all,
                              .has_processor = true, .gpu_pci = 15.75};
    dsc_cluster *cluster = NULL;
    const dsc_node_type *node = read_machine(&m, &cluster);

    if (node == NULL) return;
    check_link("to the host", node, "host", "nvlink", 50e9, DSC_SWITCH, 1);
    check_link("between", node, "device", "nvlink", 50e9, DSC_MESH, 1);
    dsc_cluster_destroy(cluster);
}

/* A display of another make, no speed of any link, nothing of memory. */
static void what_is_not_told_is_guessed(void)
{
    static const machine m = {.gpus = 2, .model = "NVIDIA A100-SXM4-40GB", .other_model = "Riva 128"};
    dsc_cluster *cluster = NULL;
    const dsc_node_type *node = read_machine(&m, &cluster);

    if (node == NULL) return;
    check_link("between", node, "device", "pcie", 12e9, DSC_TREE, 1);
    check_link("to the host", node, "host", "pcie", 12e9, DSC_SWITCH, 1);
    CHECK(node->devices[0].count == 2 && dsc_equal(node->devices[0].name, "a100-40g"), "%lld of %s",
          (long long)node->devices[0].count, node->devices[0].name);
    CHECK(node->nics[0].count == 1 && is_near(node->nics[0].bytes_per_s, 1.25e9), "%lld NICs of %g B/s",
          (long long)node->nics[0].count, node->nics[0].bytes_per_s);
    dsc_cluster_destroy(cluster);
}

static void nics_are_told_by_type_state_and_rate(void)
{
    static const struct { const char *what; machine m; int64_t count; double rate; int64_t latency_ns; } rows[] = {
        {"a network", {.nics = 2, .nic = "2", .nic_pci = 7.875, .nic_info = ""}, 2, 6.22e9, 20000},
        {"noted", {.nics = 2, .nic = "3", .nic_pci = 63, .nic_info = "<info name=\"Rate\" value=\"200 Gb/sec\"/>"}, 2,
         25e9, 5000},
        {"down", {.nics = 2, .nic = "3", .nic_pci = 63, .nic_info = "<info name=\"Port1State\" value=\"1\"/>"}, 1,
         1.25e9, 20000},
        {"unsound", {.nics = 2, .nic = "3", .nic_pci = 1e30, .nic_info = "<info name=\"Rate\" value=\"inf\"/>"}, 1,
         1.25e9, 20000},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_cluster *cluster = NULL;
        const dsc_node_type *node = read_machine(&rows[i].m, &cluster);

        if (node == NULL) continue;
        CHECK(node->nics[0].count == rows[i].count && is_near(node->nics[0].bytes_per_s, rows[i].rate) &&
              node->nics[0].latency_ns == rows[i].latency_ns, "%s: %lld NICs of %g B/s, %lld ns", rows[i].what,
              (long long)node->nics[0].count, node->nics[0].bytes_per_s, (long long)node->nics[0].latency_ns);
        dsc_cluster_destroy(cluster);
    }
}

/* hwloc 2.9 crashes on it. */
static void damaged_files_are_refused(void)
{
    static const machine m = {.gpus = 2, .model = "NVIDIA A100-SXM4-40GB", .link = "NVLinkBandwidth", .rate = to_all};
    static const char set[] = "complete_nodeset=\"1\" gp_index=\"2\"";
    dsc_cluster *cluster = NULL;
    dsc_text text = {0};
    char *at;

    write_machine(&m, &text);
    at = strstr(text.bytes, set);
    if (CHECK(at != NULL, "no memory in %s", text.bytes)) {
        memset(at, ' ', strlen("complete_nodeset=\"1\""));
        CHECK(load_text(text.bytes, &cluster) == DSC_EINVAL, "memory without a set is taken");
        CHECK(strstr(dsc_message(), file) == dsc_message() && strchr(dsc_message(), '\n') == NULL, "%s", dsc_message());
    }
    dsc_text_fini(&text);
}

static const tap_case cases[] = {
    {"GPUs, memory, NVLink, PCIe and NICs of a switched machine are read", all_of_a_switched_machine_is_read},
    {"a matrix of links shows a switch, a mesh, a ring, or nothing that joins all", links_have_their_topology},
    {"NVLink to the processor is the way to the host", links_to_the_processor_count},
    {"what hwloc does not tell is guessed, and other GPUs are left out", what_is_not_told_is_guessed},
    {"a file on which hwloc crashes is refused in one line that names it", damaged_files_are_refused},
    {"NICs are told by type and state, their rate by a note or the PCI link", nics_are_told_by_type_state_and_rate},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
