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

typedef struct dsc_node_type {
    char name[48];
    dsc_device_type *devices; int64_t device_types;
    dsc_link *links; int64_t link_count;
    dsc_nic *nics; int64_t nic_count;
    int64_t host_memory_bytes, cores;
    int64_t nodes_per_machine;   /* nodes that are containers of one machine and share these cores; 0, 1: it is alone */
    double host_bandwidth_bytes_per_s; /* of all memory channels; 0: not known */
} dsc_node_type;

typedef struct dsc_node_group { int64_t type, count; } dsc_node_group; /* index into node_types */

/* A tier joins `nodes` nodes (the last one all). The rate is that of one NIC's port into it; what several bring
 * together is their sum, divided by the oversubscription. */
typedef struct dsc_tier {
    char name[32];
    int64_t nodes;
    double bytes_per_s;
    int64_t latency_ns;
    double oversubscription;
} dsc_tier;

typedef struct dsc_cluster {
    char name[64];
    bool is_local;  /* devices are CPU ranks that share this machine: as many as the strategy asks for */
    dsc_node_type *node_types; int64_t node_type_count;
    dsc_node_group *nodes; int64_t node_group_count;
    dsc_tier *network; int64_t tier_count;
} dsc_cluster;

/* Reads a description: `dgx-a100-80g:384`, a JSON file (refusing unknown keys by name), an hwloc XML file, an hwloc
 * synthetic string (contains a colon and no file of that name), or `local`. A machine that hwloc describes is one node:
 * of the GPUs it names, as far as we know them, else of one CPU device. DSC_EINVAL says what is wrong and where. */
dsc_status dsc_cluster_load(const char *description, dsc_cluster **out);
void dsc_cluster_destroy(dsc_cluster *cluster); /* takes NULL */

/* This machine's cores and memory by hwloc, as one node with one CPU device: `is_local`. Peaks are cores x clock x
 * vector width, bandwidth a first guess: calibration measures them. */
dsc_status dsc_cluster_local(dsc_cluster **out);

/* The same with `nodes` nodes and `ranks_per_node` devices on each: what dsc-run sees of its job; also what dsc-plan
 * makes of `local`, or of a description that says so, for a strategy of that many ranks (one node). A device has its
 * share of what the node's devices have together of memory, bandwidth and peaks. */
dsc_status dsc_cluster_of_ranks(const dsc_cluster *local, int64_t nodes, int64_t ranks_per_node, dsc_cluster **out);

/* Binds this process to its share, number `part` of `parts`, of the machine's cores, neighbours as far as they go: so
 * ranks of one machine do not push each other about. *cores is how many it then has; 0 when it was left alone: bound by
 * its launcher before, alone on the machine, or with fewer cores than parts. Before any thread is started. */
dsc_status dsc_cluster_bind(int64_t part, int64_t parts, int64_t *cores);
/* Has pages that nobody has touched yet come from the NUMA node of this process' cores, whichever thread touches them
 * first. Where the machine has one node there is nothing to do; where the process' cores are of several each page stays
 * with who touches it first. False where the system refuses. bases are at pages' starts. */
bool dsc_cluster_near(int count, void *const bases[], const int64_t bytes[]);

const char *const *dsc_cluster_presets(void); /* NULL-terminated */

/* A GPU of the presets, one, by the name that data sheets and tables of measurements have for it ("A100-SXM4-80GB",
 * "H100-SXM5-80GB"): the chip's, nearest in memory (GiB; 0: not said). *is_relative: no preset has that chip, and this
 * is the nearest of its generation, whose memory and peaks the caller may know better. False where there is none. */
bool dsc_gpu_find(const char *name, double memory_gib, dsc_device_type *out, bool *is_relative);

/* The JSON description, which dsc_cluster_load reads back from a file. Heap; NULL when memory is out. */
char *dsc_cluster_json(const dsc_cluster *cluster);

/* A line, and one for each node type; each ends with a newline. */
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

/* The lowest tier that joins both nodes; NULL when they are one node (or the cluster has no network). Borrowed. */
const dsc_tier *dsc_cluster_tier(const dsc_cluster *cluster, int64_t node_a, int64_t node_b);

int64_t dsc_node_devices(const dsc_node_type *node); /* of all its types. Pure. */

/* The fastest link of the node type between two ends ("device", "device"), or NULL. */
const dsc_link *dsc_node_link(const dsc_node_type *node, const char *end_a, const char *end_b);

#endif
