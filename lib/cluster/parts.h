/* What the files of this module share. */
#ifndef DSC_CLUSTER_PARTS_H
#define DSC_CLUSTER_PARTS_H

#include "base/json.h"
#include "cluster/cluster.h"

#define DSC_MAX_NODES (INT64_C(1) << 40)

/* A cluster of one node type with room for one device type, `links` links and one NIC row, one node, and `tiers` tiers;
 * the rest is zero. NULL when memory is out. */
dsc_cluster *dsc_cluster_make(int64_t links, int64_t tiers);

/* A preset of that name, with so many nodes; 0: one, or as many as its NVLink spans. */
bool dsc_cluster_is_preset(const char *name);
dsc_status dsc_cluster_of_preset(const char *name, int64_t nodes, dsc_cluster **out);

/* From parsed JSON; `where` opens each message. */
dsc_status dsc_cluster_of_json(const char *where, const json_t *object, dsc_cluster **out);

/* Whether the tiers lie in each other, and find what they are made of. DSC_EINVAL names the tier and both numbers. */
dsc_status dsc_network_check(const char *where, const dsc_cluster *cluster);

/* A machine as hwloc sees it; 0 where it does not tell. Rates are bytes a second of one direction. */
typedef struct dsc_machine {
    int64_t cores, memory_bytes; /* of the host */
    char gpu_model[64]; /* of the first GPU; empty when there is none */
    int64_t gpus;       /* of that model */
    int64_t gpu_memory_bytes;
    dsc_link gpu_link;           /* between GPUs, beside PCIe: name, topology, rate */
    double gpu_host_bytes_per_s; /* of such a link between GPU and processor */
    double pcie_bytes_per_s;     /* of a GPU's port to the host */
    int64_t gpus_per_port;       /* that share it */
    dsc_nic nics;                /* count, rate */
    bool has_fabric;             /* NICs are InfiniBand's or the like, not only Ethernet's */
} dsc_machine;

/* Fills in what *topology tells of GPUs and NICs (devices.c). DSC_ENOMEM. */
struct hwloc_topology;
dsc_status dsc_hwloc_devices(struct hwloc_topology *topology, dsc_machine *out);

/* This machine, an XML file's, a synthetic string's. DSC_EINVAL when hwloc cannot read it. */
dsc_status dsc_hwloc_here(dsc_machine *out);
dsc_status dsc_hwloc_xml(const char *path, dsc_machine *out);
dsc_status dsc_hwloc_synthetic(const char *text, dsc_machine *out);

/* A described machine, not this one, as a cluster of one node. */
dsc_status dsc_cluster_of_machine(const char *name, const dsc_machine *machine, dsc_cluster **out);

#endif
