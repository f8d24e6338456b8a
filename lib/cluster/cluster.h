/* A described machine: nodes, their devices and memory spaces, links inside a node, NICs, network tiers. It comes from
 * a preset, a JSON file, an hwloc XML file or synthetic string, or from this machine. Facts only: it knows no ranks. */
#ifndef DSC_CLUSTER_CLUSTER_H
#define DSC_CLUSTER_CLUSTER_H

#include "base/text.h"
#include "kernel/kernel.h"

typedef enum dsc_topology { DSC_SWITCH, DSC_MESH, DSC_RING, DSC_TREE } dsc_topology;

/* What kernels reach on a device, as shares of its peaks: the preset's calibrated table. All 0: not known, and prices
 * come from first principles. */
typedef struct dsc_efficiency {
    double product;       /* of peak_flops, large matrix products */
    double product_fp8;   /* the same of fp8's peak; 0: as of others */
    double attention;     /* of peak_flops */
    double memory;        /* of bandwidth_bytes_per_s */
    int64_t launch_ns;    /* of one kernel */
    int64_t tile_m, tile_n;    /* quantization of products; 0: none */
    int64_t multiprocessors;   /* waves of tiles; 0: none */
} dsc_efficiency;

typedef struct dsc_device_type {
    char name[48];
    bool is_gpu;
    int64_t count;
    int64_t memory_bytes;
    double bandwidth_bytes_per_s;
    double peak_flops[DSC_DTYPE_COUNT]; /* a second, dense; 0: cannot */
    int64_t libraries_bytes;            /* what libraries take by themselves (context, communicators) */
    double power_w;                     /* at most; 0: not known */
    dsc_efficiency efficiency;
} dsc_device_type;

/* Joins devices of a node with each other or with the host; rates are of one direction and of one device's port. */
typedef struct dsc_link {
    char name[32];
    char between[2][32];    /* "device", "host", "nic" */
    dsc_topology topology;
    double bytes_per_s;
    int64_t latency_ns;
    int64_t devices_per_port; /* neighbours that share one, as behind a PCIe switch; 0, 1: each device has its own */
} dsc_link;

typedef struct dsc_nic { int64_t count; double bytes_per_s; int64_t latency_ns; } dsc_nic;

/* Drives of a node, and what one of them has; a rate of 0 is not known. They go with their node: checkpoints are kept
 * there where the user says so, of ranks on one node. */
typedef struct dsc_nvme { int64_t count, bytes; double read_bytes_per_s, write_bytes_per_s; } dsc_nvme;

typedef struct dsc_node_type {
    char name[48];
    dsc_device_type *devices; int64_t device_types;
    dsc_link *links; int64_t link_count;
    dsc_nic *nics; int64_t nic_count;
    int64_t host_memory_bytes, cores;
    int64_t nodes_per_machine;   /* nodes that are containers of one machine and share these cores; 0, 1: it is alone */
    double host_bandwidth_bytes_per_s; /* of all memory channels; 0: not known */
    double power_w;              /* of all of it, at most; 0: not known */
    double mtbf_h;               /* mean time between its failures, in hours; 0: not known */
    dsc_nvme nvme;
} dsc_node_type;

typedef struct dsc_node_group { int64_t type, count; } dsc_node_group; /* index into node_types */

/* By what a device enters a tier: its NIC, or its own port of the node's switch or mesh, where that spans nodes. */
typedef enum dsc_tier_port { DSC_PORT_NIC, DSC_PORT_DEVICE } dsc_tier_port;

/* What a tier's switches join: tree, all that is below it; rail, the NICs of one number in each node; dragonfly, groups
 * (what the tier below joined), each directly with each other. */
typedef enum dsc_tier_topology { DSC_TIER_TREE, DSC_TIER_RAIL, DSC_TIER_DRAGONFLY } dsc_tier_topology;

/* A tier joins `nodes` nodes (the last one all). The rate is that of one NIC's, or device's, port into it; what several
 * bring together is their sum, divided by the oversubscription. */
typedef struct dsc_tier {
    char name[32];
    int64_t nodes;
    double bytes_per_s;
    int64_t latency_ns;
    double oversubscription;
    dsc_tier_port port;         /* tiers of devices' ports lie below those of NICs */
    dsc_tier_topology topology; /* rail: of the lowest tier of NICs only; dragonfly: of the last tier only */
} dsc_tier;

/* The file system that all nodes share, with what all of them together read and write; 0: not known. */
typedef struct dsc_storage { double read_bytes_per_s, write_bytes_per_s; } dsc_storage;

typedef struct dsc_cluster {
    char name[64];
    bool is_local;  /* devices are CPU ranks that share this machine: as many as the strategy asks for */
    dsc_node_type *node_types; int64_t node_type_count;
    dsc_node_group *nodes; int64_t node_group_count;
    dsc_tier *network; int64_t tier_count;
    dsc_storage storage;
} dsc_cluster;

/* Reads a description: `dgx-a100-80g:384` (one node without a number, one rack of a preset whose NVLink spans it), a
 * JSON file (refusing unknown keys by name), an hwloc XML file, an hwloc synthetic string (contains a colon and no file
 * of that name), or `local`. A machine that hwloc describes is one node: of the GPUs it names, as far as we know them,
 * else of one CPU device. DSC_EINVAL says what is wrong and where. */
dsc_status dsc_cluster_load(const char *description, dsc_cluster **out);
void dsc_cluster_destroy(dsc_cluster *cluster); /* takes NULL */

/* This machine's cores and memory by hwloc, as one node with one CPU device: `is_local`. Peaks are cores x clock x
 * vector width, bandwidth a first guess: calibration measures them. */
dsc_status dsc_cluster_local(dsc_cluster **out);

/* This machine with so many GPUs of a type, which who can see them describes. Links by hwloc. */
dsc_status dsc_cluster_of_gpus(const dsc_device_type *gpu, int64_t gpus, dsc_cluster **out);

/* Such a machine with `nodes` nodes and `ranks_per_node` devices on each: what dsc-run sees of its job; also what
 * dsc-plan makes of `local`, or of a description that says so, for a strategy of that many ranks (one node). A device
 * has its share of what the node's devices have together of memory, bandwidth, peaks and power. */
dsc_status dsc_cluster_of_ranks(const dsc_cluster *local, int64_t nodes, int64_t ranks_per_node, dsc_cluster **out);

/* Heap; the caller's. DSC_ENOMEM. */
dsc_status dsc_cluster_copy(const dsc_cluster *from, dsc_cluster **out);

/* What can be otherwise than described: rates of links between devices (and of tiers that devices' own ports enter); of
 * NICs, their links and their tiers; of links to the host and its memory; peaks; memory's rate; its size; what a launch
 * of a kernel takes, where the device is described with it. */
typedef enum dsc_aspect { DSC_ASPECT_LINKS, DSC_ASPECT_NETWORK, DSC_ASPECT_HOST, DSC_ASPECT_PRODUCTS,
                          DSC_ASPECT_MEMORY_RATE, DSC_ASPECT_MEMORY_SIZE, DSC_ASPECT_LAUNCH } dsc_aspect;

/* Multiplies it by the factor, everywhere in the cluster; all else, latencies too, stays. Pure. */
void dsc_cluster_scale(dsc_cluster *cluster, dsc_aspect aspect, double factor);

/* Binds this process to its share, number `part` of `parts`, of the machine's cores, neighbours as far as they go: so
 * ranks of one machine do not push each other about. *cores is how many it then has; 0 when it was left alone: bound by
 * its launcher before, alone on the machine, or with fewer cores than parts. near[parts]: PCI devices whose nearest
 * cores the parts are of, as "0000:3b:00.0"; NULL, "" or unknown: none. Before any thread is started. */
dsc_status dsc_cluster_bind(int64_t part, int64_t parts, const char *const near[], int64_t *cores);
/* Has pages that nobody has touched yet come from the NUMA node of this process' cores, whichever thread touches them
 * first. Where the machine has one node there is nothing to do; where the process' cores are of several each page stays
 * with who touches it first. False where the system refuses. bases are at pages' starts. */
bool dsc_cluster_near(int count, void *const bases[], const int64_t bytes[]);

const char *const *dsc_cluster_presets(void); /* NULL-terminated */

/* A known GPU, one, by the name that drivers ("NVIDIA A100-SXM4-80GB"), publications ("H100-SXM5-80GB", "GB300-288GB")
 * or presets' devices ("a100-80g") give it; case does not matter. False, and *out as it was, where there is none, or
 * where variants of other memory share the name ("V100", "A100"). Pure. */
bool dsc_gpu_by_model(const char *model, dsc_device_type *out);

/* The JSON description, which dsc_cluster_load reads back from a file. Heap; NULL when memory is out. */
char *dsc_cluster_json(const dsc_cluster *cluster);

/* A line, and one for each node type and each tier of devices' ports; each ends with a newline. */
void dsc_cluster_print(const dsc_cluster *cluster, dsc_text *out);

int64_t dsc_cluster_devices(const dsc_cluster *cluster);   /* over all nodes. Pure. */
int64_t dsc_cluster_nodes(const dsc_cluster *cluster);

/* Where a device (numbered node by node) sits. The pointers are borrowed from the cluster. DSC_EINVAL past the last. */
typedef struct dsc_place {
    int64_t node, local;          /* node's number; index of the device on it */
    const dsc_node_type *node_type;
    const dsc_device_type *device;
} dsc_place;
dsc_status dsc_cluster_place(const dsc_cluster *cluster, int64_t device, dsc_place *out);

/* How many of the tier's links a byte takes on its way from unit to unit of what it joins: 1, but in a dragonfly, where
 * adaptive routing spreads what one group sends to another over its links to all G - 1 others: 2 - 1/(G - 1). Pure. */
double dsc_cluster_hops(const dsc_cluster *cluster, int64_t tier);

/* Of how many nodes the units are that the tier joins: what the tier below joins where devices enter both by the same
 * kind of port, else single nodes. Pure. */
int64_t dsc_cluster_unit_nodes(const dsc_cluster *cluster, int64_t tier);

/* Nodes whose devices reach each other by their own ports, in blocks from the first node: 1 without such a tier. */
int64_t dsc_cluster_domain_nodes(const dsc_cluster *cluster);

/* The lowest tier that joins both nodes; NULL when they are one node (or the cluster has no network). Borrowed. */
const dsc_tier *dsc_cluster_tier(const dsc_cluster *cluster, int64_t node_a, int64_t node_b);

int64_t dsc_node_devices(const dsc_node_type *node); /* of all its types. Pure. */

/* The fastest link of the node type between two ends ("device", "device"), or NULL. */
const dsc_link *dsc_node_link(const dsc_node_type *node, const char *end_a, const char *end_b);

#endif
