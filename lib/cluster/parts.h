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

/* A machine as hwloc sees it. */
typedef struct dsc_machine {
    int64_t cores, memory_bytes;
    char gpu_model[64]; /* of the first GPU; empty when there is none */
    int64_t gpus;       /* of that model */
} dsc_machine;

/* This machine, an XML file's, a synthetic string's. DSC_EINVAL when hwloc cannot read it. */
dsc_status dsc_hwloc_here(dsc_machine *out);
dsc_status dsc_hwloc_xml(const char *path, dsc_machine *out);
dsc_status dsc_hwloc_synthetic(const char *text, dsc_machine *out);

/* A described machine, not this one, as a cluster of one node. */
dsc_status dsc_cluster_of_machine(const char *name, const dsc_machine *machine, dsc_cluster **out);

#endif
