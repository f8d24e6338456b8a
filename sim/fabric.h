/* The cluster as resources that flows use: ports of devices inside a node, to each other and to the host, the host's
 * memory, NICs, up-links of network tiers, and what a CPU rank has of its node's cores. A resource comes into being
 * when something first uses it, so that a folded simulation of a large machine makes few of them. Knows paths, not
 * collectives.
 *
 * A node: a device's port to a switch or mesh has a way out and a way in; a ring joins neighbours, and a path takes
 * the shorter way round, each step of which has the link's latency; a tree adds a trunk that all of a node's traffic
 * shares. Between nodes a path takes its device's NIC out and the other's in, and for each tier up to the one that
 * joins both nodes the up-link there and the down-link back. A tier's bytes_per_s is that of one NIC's port into it;
 * what several NICs or nodes bring together is their sum, divided by the oversubscription.
 *
 * Where the tier that joins both is entered by devices' own ports (NVLink of a rack), these ports take the NICs' place;
 * NICs know nothing of such tiers. A rail tier joins NICs of one number: each has its up-link, each rail its own to the
 * tier above. A path between two rails of it goes inside the node first, to the device at the other's rail, or where
 * nothing but a shared bus or the host joins the devices, climbs to the tier above. In a dragonfly a byte between
 * groups takes the way out of one and into the other, and of all groups' links together as many as the detours of
 * adaptive routing need (dsc_cluster_hops). */
#ifndef DSC_SIM_FABRIC_H
#define DSC_SIM_FABRIC_H

#include "cluster/cluster.h"
#include "sim/links.h"
#include "sim/stack.h"

typedef struct dsc_fabric dsc_fabric;

/* cluster, stack and links are borrowed until destroy; ranks 0 .. ranks - 1 sit on the devices of the same numbers. A
 * link between devices or nodes has the share of its rate that the stack's collectives carry. */
dsc_status dsc_fabric_create(const dsc_cluster *cluster, const dsc_stack *stack, int64_t ranks, dsc_links *links,
                             dsc_fabric **out);
void dsc_fabric_destroy(dsc_fabric *fabric); /* takes NULL */

/* A set of demands: what one unit of a flow puts on each resource. {0} is empty. */
typedef struct dsc_load { dsc_demand *demands; int64_t count, capacity; } dsc_load;
void dsc_load_fini(dsc_load *load);
dsc_status dsc_load_add(dsc_fabric *fabric, dsc_load *load, int32_t resource, double amount);

/* Adds the path from rank a to another rank b; *latency_ns becomes the path's if that is larger. load NULL: the latency
 * alone. Rates are bytes per ns. DSC_EINVAL when the cluster describes no link between them. */
dsc_status dsc_fabric_path(dsc_fabric *fabric, int64_t a, int64_t b, dsc_load *load, int64_t *latency_ns);

/* Adds the way of a copy between the memories of a rank's device and its host: the port between them, which neighbours
 * may share, and the host's memory, where its rate is known. *bytes_per_ns is the port's rate. */
#define DSC_LINK_BYTES_PER_S 12e9 /* PCIe 3.0, where the cluster describes no such link */
dsc_status dsc_fabric_copy(dsc_fabric *fabric, int64_t rank, bool is_out, dsc_load *load, double *bytes_per_ns);

int64_t dsc_fabric_node(const dsc_fabric *fabric, int64_t rank);
/* The number of the block of nodes whose devices reach each other by their own ports; the node's where it is alone. */
int64_t dsc_fabric_domain(const dsc_fabric *fabric, int64_t rank);
/* Whether two ranks sit on devices of one type in nodes of one type with as many ranks. */
bool dsc_fabric_alike(const dsc_fabric *fabric, int64_t a, int64_t b);
/* Whether ranks of the machine that this one is on outnumber its cores; false on a GPU. */
bool dsc_fabric_is_crowded(const dsc_fabric *fabric, int64_t rank);

/* A CPU rank's share of its node's cores, in threads, as a resource; all of the machine's, which its ranks then take
 * turns on, where they outnumber them. *threads is how many its kernels use; *resource -1 on a GPU. */
dsc_status dsc_fabric_core(dsc_fabric *fabric, int64_t rank, int32_t *resource, double *threads);

/* Ranks on its node, itself included, and the cores that transfers among them share; INFINITY on GPUs. */
void dsc_fabric_neighbours(const dsc_fabric *fabric, int64_t rank, int64_t *ranks, double *cores);

/* "node0/device3/nvlink/out"; borrowed until destroy. NULL for what is no link: cores. */
const char *dsc_fabric_link_name(const dsc_fabric *fabric, int32_t resource);

#endif
