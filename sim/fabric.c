#include "sim/fabric.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT, IN };

/* Slots number all resources that there could be: each node has ports, NICs, a trunk, cores and memory, each unit that
 * a tier joins has up-links. resource_at holds what was made of a slot, or -1. */
struct dsc_fabric {
    const dsc_cluster *cluster;
    const dsc_stack *stack;
    dsc_links *links;
    int64_t ranks;
    int64_t devices, nics;         /* of the node type that has most */
    int64_t node_slots;            /* of one node: ports, cores, NICs, ports to the host, its memory, trunk, in this
                                      order */
    int64_t *up_slots;             /* [tier] a dragonfly's links together, then up-links by unit and rail */
    int32_t *resource_at; int64_t slot_count;
    char (*names)[64]; int64_t name_count, name_capacity; /* by resource; empty for cores */
    int32_t *position; int64_t position_capacity;         /* by resource: where a load last had it */
    int64_t *on_node;              /* ranks of each node */
};

static int64_t nics_of(const dsc_node_type *type)
{
    int64_t count = 0;

    for (int64_t i = 0; i < type->nic_count; i++) count += type->nics[i].count;
    return count;
}

static int64_t devices_of(const dsc_node_type *type)
{
    int64_t count = 0;

    for (int64_t i = 0; i < type->device_types; i++) count += type->devices[i].count;
    return count;
}

/* Whether the tier's lower units are NICs, or a rail of the tier below: then each has up-links of its own. */
static bool has_rails(const dsc_cluster *cluster, int64_t tier)
{
    const dsc_tier *own = &cluster->network[tier];

    return own->topology == DSC_TIER_RAIL || (tier > 0 && own[-1].topology == DSC_TIER_RAIL);
}

static void lay_slots_out(dsc_fabric *fabric, int64_t nodes)
{
    const dsc_cluster *cluster = fabric->cluster;

    for (int64_t t = 0; t < cluster->node_type_count; t++) {
        fabric->devices = DSC_MAX(fabric->devices, devices_of(&cluster->node_types[t]));
        fabric->nics = DSC_MAX(fabric->nics, nics_of(&cluster->node_types[t]));
    }
    fabric->node_slots = 5 * fabric->devices + 2 * fabric->nics + 2;
    fabric->slot_count = nodes * fabric->node_slots;
    for (int64_t t = 0; t < cluster->tier_count; t++) {
        int64_t units = dsc_ceil_div(nodes, dsc_cluster_unit_nodes(cluster, t));

        fabric->up_slots[t] = fabric->slot_count;
        fabric->slot_count += 2 * units * (has_rails(cluster, t) ? DSC_MAX(fabric->nics, 1) : 1) + 1;
    }
}

dsc_status dsc_fabric_create(const dsc_cluster *cluster, const dsc_stack *stack, int64_t ranks, dsc_links *links,
                             dsc_fabric **out)
{
    dsc_status status = DSC_OK;
    dsc_fabric *fabric = calloc(1, sizeof *fabric);
    dsc_place place;
    int64_t nodes;

    if (fabric == NULL) return DSC_FAIL(DSC_ENOMEM, "fabric: %zu bytes", sizeof *fabric);
    *fabric = (dsc_fabric){.cluster = cluster, .stack = stack, .links = links, .ranks = ranks};
    DSC_TRY(dsc_cluster_place(cluster, ranks - 1, &place));
    nodes = place.node + 1; /* ranks fill nodes in order: those behind the last rank's carry nothing */
    fabric->up_slots = calloc((size_t)cluster->tier_count + 1, sizeof *fabric->up_slots);
    fabric->on_node = calloc((size_t)nodes, sizeof *fabric->on_node);
    if (fabric->up_slots != NULL) lay_slots_out(fabric, nodes);
    fabric->resource_at = malloc((size_t)fabric->slot_count * sizeof *fabric->resource_at);
    if (fabric->up_slots == NULL || fabric->on_node == NULL || fabric->resource_at == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "fabric: %" PRId64 " slots", fabric->slot_count);
        goto out;
    }
    memset(fabric->resource_at, -1, (size_t)fabric->slot_count * sizeof *fabric->resource_at);
    for (int64_t rank = 0; rank < ranks; rank++) {
        DSC_TRY(dsc_cluster_place(cluster, rank, &place));
        fabric->on_node[place.node]++;
    }
    *out = fabric;
    fabric = NULL;
out:
    dsc_fabric_destroy(fabric);
    return status;
}

void dsc_fabric_destroy(dsc_fabric *fabric)
{
    if (fabric == NULL) return;
    free(fabric->up_slots);
    free(fabric->resource_at);
    free(fabric->names);
    free(fabric->position);
    free(fabric->on_node);
    free(fabric);
}

/* ---- Loads */

void dsc_load_fini(dsc_load *load)
{
    free(load->demands);
    *load = (dsc_load){0};
}

dsc_status dsc_load_add(dsc_fabric *fabric, dsc_load *load, int32_t resource, double amount)
{
    int32_t position = fabric->position[resource];

    /* The remembered position may be another load's: what stands there decides. */
    if (position < load->count && load->demands[position].resource == resource) {
        load->demands[position].amount += amount;
        return DSC_OK;
    }
    fabric->position[resource] = (int32_t)load->count;
    return DSC_PUSH(load->demands, load->count, load->capacity, ((dsc_demand){resource, amount}));
}

/* ---- Resources */

static dsc_status resource_of(dsc_fabric *fabric, int64_t slot, double capacity, const char *name, int32_t *out)
{
    dsc_status status = DSC_OK;

    *out = fabric->resource_at[slot];
    if (*out >= 0) return DSC_OK;
    DSC_TRY(dsc_links_add(fabric->links, capacity, out));
    DSC_TRY(dsc_array_reserve(&fabric->names, &fabric->name_capacity, fabric->name_count + 1, sizeof *fabric->names));
    DSC_TRY(dsc_array_reserve(&fabric->position, &fabric->position_capacity, fabric->name_count + 1,
                              sizeof *fabric->position));
    snprintf(fabric->names[fabric->name_count], sizeof *fabric->names, "%s", name);
    fabric->position[fabric->name_count++] = 0;
    fabric->resource_at[slot] = *out;
out:
    return status;
}

/* Loads the resource of a slot, unless the path's latency alone is wanted; the numbers of slots are those of
 * lay_slots_out. */
static dsc_status use_times(dsc_fabric *fabric, int64_t slot, double bytes_per_s, const char *name, double amount,
                            dsc_load *load)
{
    dsc_status status = DSC_OK;
    int32_t resource;

    if (load == NULL) return DSC_OK;
    DSC_TRY(resource_of(fabric, slot, bytes_per_s / 1e9, name, &resource));
    DSC_TRY(dsc_load_add(fabric, load, resource, amount));
out:
    return status;
}

static dsc_status use(dsc_fabric *fabric, int64_t slot, double bytes_per_s, const char *name, dsc_load *load)
{
    return use_times(fabric, slot, bytes_per_s, name, 1, load);
}

/* Whether the slot's resource is there already, so that nobody has to think of its name and rate. */
static bool is_made(const dsc_fabric *fabric, int64_t slot) { return fabric->resource_at[slot] >= 0; }

static dsc_status use_made(dsc_fabric *fabric, int64_t slot, dsc_load *load)
{
    return load == NULL ? DSC_OK : dsc_load_add(fabric, load, fabric->resource_at[slot], 1);
}

static bool is_to_host(const dsc_link *link)
{
    return dsc_equal(link->between[0], "host") || dsc_equal(link->between[1], "host");
}

/* Devices that share a port are named by the first. */
static dsc_status use_port(dsc_fabric *fabric, const dsc_place *place, int way, const dsc_link *link, dsc_load *load)
{
    int64_t local = place->local - place->local % DSC_MAX(link->devices_per_port, 1);
    int64_t first = is_to_host(link) ? 3 * fabric->devices + 2 * fabric->nics : 0;
    int64_t slot = place->node * fabric->node_slots + first + 2 * local + way;
    char name[64];

    if (is_made(fabric, slot)) return use_made(fabric, slot, load);
    snprintf(name, sizeof name, "node%" PRId64 "/device%" PRId64 "/%.24s/%s", place->node, local, link->name,
             way == OUT ? "out" : "in");
    return use(fabric, slot, link->bytes_per_s * (is_to_host(link) ? 1 : fabric->stack->link), name, load);
}

/* ---- Paths inside a node */

static dsc_status use_trunk(dsc_fabric *fabric, const dsc_place *place, const dsc_link *link, dsc_load *load)
{
    char name[64];

    snprintf(name, sizeof name, "node%" PRId64 "/%.24s/trunk", place->node, link->name);
    return use(fabric, (place->node + 1) * fabric->node_slots - 1, link->bytes_per_s * fabric->stack->link, name,
               load);
}

/* From neighbour to neighbour, each of which adds its latency; a device's port out is the edge to the next, its port in
 * the edge to the one before. */
static dsc_status ring_path(dsc_fabric *fabric, dsc_place from, const dsc_place *to, const dsc_link *link,
                            dsc_load *load, int64_t *latency)
{
    dsc_status status = DSC_OK;
    int64_t devices = devices_of(from.node_type), ahead = (to->local - from.local + devices) % devices;
    int way = 2 * ahead <= devices ? OUT : IN;

    *latency = link->latency_ns * DSC_MIN(ahead, devices - ahead);
    for (; from.local != to->local; from.local = (from.local + (way == OUT ? 1 : devices - 1)) % devices)
        DSC_TRY(use_port(fabric, &from, way, link, load));
out:
    return status;
}

static dsc_status local_path(dsc_fabric *fabric, const dsc_place *from, const dsc_place *to, dsc_load *load,
                             int64_t *latency)
{
    dsc_status status = DSC_OK;
    const dsc_link *link = dsc_node_link(from->node_type, "device", "device");

    if (link == NULL) link = dsc_node_link(from->node_type, "device", "host");
    if (link == NULL)
        return DSC_FAIL(DSC_EINVAL, "node type %s has no link between devices, nor from device to host",
                        from->node_type->name);
    if (link->topology == DSC_RING) return ring_path(fabric, *from, to, link, load, latency);
    DSC_TRY(use_port(fabric, from, OUT, link, load));
    if (link->topology == DSC_TREE) DSC_TRY(use_trunk(fabric, from, link, load));
    DSC_TRY(use_port(fabric, to, IN, link, load));
    *latency = link->latency_ns;
out:
    return status;
}

dsc_status dsc_fabric_copy(dsc_fabric *fabric, int64_t rank, bool is_out, dsc_load *load, double *bytes_per_ns)
{
    static const dsc_link any_link = {.name = "pcie", .between = {"device", "host"},
                                      .bytes_per_s = DSC_LINK_BYTES_PER_S};
    dsc_status status = DSC_OK;
    const dsc_link *link;
    dsc_place place;

    DSC_TRY(dsc_cluster_place(fabric->cluster, rank, &place));
    link = dsc_node_link(place.node_type, "device", "host");
    if (link == NULL) link = &any_link;
    DSC_TRY(use_port(fabric, &place, is_out ? OUT : IN, link, load));
    if (place.node_type->host_bandwidth_bytes_per_s > 0)
        DSC_TRY(use(fabric, (place.node + 1) * fabric->node_slots - 2, place.node_type->host_bandwidth_bytes_per_s, "",
                    load));
    *bytes_per_ns = link->bytes_per_s / 1e9;
out:
    return status;
}

/* ---- Paths between nodes */

/* NICs that devices have for themselves: several of one device count as one. */
static int64_t shown_nics(const dsc_node_type *type) { return DSC_MIN(nics_of(type), devices_of(type)); }

/* The number of a device's NIC: where there are fewer, neighbours share one. */
static int64_t nic_number(const dsc_place *place)
{
    return place->local * shown_nics(place->node_type) / devices_of(place->node_type);
}

static dsc_status use_nic(dsc_fabric *fabric, const dsc_place *place, int way, dsc_load *load)
{
    const dsc_node_type *type = place->node_type;
    const dsc_link *link = dsc_node_link(type, "device", "nic");
    int64_t number = nic_number(place);
    int64_t slot = place->node * fabric->node_slots + 3 * fabric->devices + 2 * number + way;
    double total = 0, rate;
    char name[64];

    if (is_made(fabric, slot)) return use_made(fabric, slot, load);
    for (int64_t i = 0; i < type->nic_count; i++) total += (double)type->nics[i].count * type->nics[i].bytes_per_s;
    rate = total / (double)shown_nics(type);
    if (link != NULL) rate = fmin(rate, link->bytes_per_s);
    rate *= fabric->stack->network;
    snprintf(name, sizeof name, "node%" PRId64 "/nic%" PRId64 "/%s", place->node, number, way == OUT ? "out" : "in");
    return use(fabric, slot, rate, name, load);
}

/* What collectives carry of the rate of a port into the tier. */
static double carried(const dsc_fabric *fabric, const dsc_tier *tier)
{
    return tier->bytes_per_s * (tier->port == DSC_PORT_DEVICE ? fabric->stack->link : fabric->stack->network);
}

/* The ports of a unit that the tier joins, or of a rail of it. */
static double ports_of(const dsc_fabric *fabric, const dsc_node_type *type, int64_t tier)
{
    double nodes = (double)dsc_cluster_unit_nodes(fabric->cluster, tier);

    if (fabric->cluster->network[tier].port == DSC_PORT_DEVICE) return nodes * (double)devices_of(type);
    if (has_rails(fabric->cluster, tier)) return nodes * (double)nics_of(type) / (double)shown_nics(type);
    return nodes * (double)DSC_MAX(nics_of(type), 1);
}

/* The way from the place's unit, or from its rail there, into the tier. */
static dsc_status use_uplink(dsc_fabric *fabric, const dsc_place *place, int64_t tier, int way, dsc_load *load)
{
    const dsc_tier *into = &fabric->cluster->network[tier];
    bool is_node = tier == 0 || into[-1].port != into->port, is_rail = has_rails(fabric->cluster, tier);
    int64_t unit = place->node / dsc_cluster_unit_nodes(fabric->cluster, tier), rail = is_rail ? nic_number(place) : 0;
    int64_t slot = fabric->up_slots[tier] + 1 + 2 * (unit * (is_rail ? fabric->nics : 1) + rail);
    double rate = carried(fabric, into) * ports_of(fabric, place->node_type, tier) / fmax(into->oversubscription, 1);
    char name[64], at_rail[24] = "";

    if (is_made(fabric, slot + way)) return use_made(fabric, slot + way, load);
    if (is_rail) snprintf(at_rail, sizeof at_rail, "/rail%" PRId64, rail);
    snprintf(name, sizeof name, "%.24s/%s%" PRId64 "%.10s/%s", into->name, is_node ? "node" : "unit", unit, at_rail,
             way == OUT ? "up" : "down");
    return use(fabric, slot + way, rate, name, load);
}

/* A dragonfly's links between groups, together: what is not sent on the direct one takes two. */
static dsc_status use_detours(dsc_fabric *fabric, const dsc_place *place, int64_t tier, dsc_load *load)
{
    const dsc_tier *into = &fabric->cluster->network[tier];
    int64_t groups = dsc_ceil_div(dsc_cluster_nodes(fabric->cluster), dsc_cluster_unit_nodes(fabric->cluster, tier));
    double rate = carried(fabric, into) * ports_of(fabric, place->node_type, tier) / fmax(into->oversubscription, 1);
    char name[64];

    snprintf(name, sizeof name, "%.24s/all", into->name);
    return use_times(fabric, fabric->up_slots[tier], rate * (double)groups, name,
                     dsc_cluster_hops(fabric->cluster, tier), load);
}

static int64_t nic_latency(const dsc_node_type *type)
{
    int64_t latency = 0;

    for (int64_t i = 0; i < type->nic_count; i++) latency = DSC_MAX(latency, type->nics[i].latency_ns);
    return latency;
}

/* Up through the tiers of one kind of port to the number `top`, and down again. */
static dsc_status climb(dsc_fabric *fabric, const dsc_place *from, const dsc_place *to, int64_t top, dsc_load *load)
{
    const dsc_tier *network = fabric->cluster->network;
    dsc_status status = DSC_OK;

    for (int64_t t = 0; t <= top; t++) {
        if (network[t].port != network[top].port) continue;
        DSC_TRY(use_uplink(fabric, from, t, OUT, load));
        DSC_TRY(use_uplink(fabric, to, t, IN, load));
        if (network[t].topology == DSC_TIER_DRAGONFLY) DSC_TRY(use_detours(fabric, from, t, load));
    }
out:
    return status;
}

/* Over a switch of devices that spans nodes. */
static dsc_status device_path(dsc_fabric *fabric, const dsc_place *from, const dsc_place *to, int64_t top,
                              dsc_load *load, int64_t *latency)
{
    const dsc_link *out_link = dsc_node_link(from->node_type, "device", "device");
    const dsc_link *in_link = dsc_node_link(to->node_type, "device", "device");
    dsc_status status = DSC_OK;

    if (out_link == NULL || in_link == NULL)
        return DSC_FAIL(DSC_EINVAL, "nodes %" PRId64 " and %" PRId64 ": no link between devices leads to tier %s",
                        from->node, to->node, fabric->cluster->network[top].name);
    DSC_TRY(use_port(fabric, from, OUT, out_link, load));
    DSC_TRY(use_port(fabric, to, IN, in_link, load));
    DSC_TRY(climb(fabric, from, to, top, load));
    *latency = out_link->latency_ns + fabric->cluster->network[top].latency_ns;
out:
    return status;
}

/* Of two rails that a rail tier keeps apart: *from moves to the device of its node at the other's rail, if devices can
 * pass on to each other at their own rates, else *top to the tier above. */
static dsc_status change_rail(dsc_fabric *fabric, dsc_place *from, const dsc_place *to, int64_t *top, dsc_load *load,
                              int64_t *latency)
{
    const dsc_link *link = dsc_node_link(from->node_type, "device", "device");
    int64_t rail = nic_number(to), rails = shown_nics(from->node_type);
    dsc_status status = DSC_OK;
    dsc_place relay = *from;

    if (link != NULL && link->topology != DSC_TREE && rail < rails) {
        relay.local = dsc_ceil_div(rail * devices_of(from->node_type), rails);
        DSC_TRY(local_path(fabric, from, &relay, load, latency));
        *from = relay;
    } else if (*top + 1 < fabric->cluster->tier_count) {
        ++*top;
    } else {
        status = DSC_FAIL(DSC_EINVAL, "NIC %" PRId64 " of node %" PRId64 " and NIC %" PRId64 " of node %" PRId64
                          " are on rails that nothing joins: no link between devices, no tier above %s",
                          nic_number(from), from->node, rail, to->node, fabric->cluster->network[*top].name);
    }
out:
    return status;
}

static dsc_status nic_path(dsc_fabric *fabric, dsc_place from, const dsc_place *to, int64_t top, dsc_load *load,
                           int64_t *latency)
{
    const dsc_tier *network = fabric->cluster->network;
    bool has_nics = nics_of(from.node_type) > 0 && nics_of(to->node_type) > 0;
    dsc_status status = DSC_OK;

    if (has_nics && top >= 0 && network[top].topology == DSC_TIER_RAIL && nic_number(&from) != nic_number(to))
        DSC_TRY(change_rail(fabric, &from, to, &top, load, latency));
    if (has_nics) {
        DSC_TRY(use_nic(fabric, &from, OUT, load));
        DSC_TRY(use_nic(fabric, to, IN, load));
    }
    if (top >= 0) DSC_TRY(climb(fabric, &from, to, top, load));
    *latency += nic_latency(from.node_type) + (top < 0 ? 0 : network[top].latency_ns);
out:
    return status;
}

static dsc_status network_path(dsc_fabric *fabric, const dsc_place *from, const dsc_place *to, dsc_load *load,
                               int64_t *latency)
{
    const dsc_tier *joins = dsc_cluster_tier(fabric->cluster, from->node, to->node);
    int64_t top = joins == NULL ? -1 : joins - fabric->cluster->network;

    if (joins == NULL && (nics_of(from->node_type) == 0 || nics_of(to->node_type) == 0))
        return DSC_FAIL(DSC_EINVAL, "nodes %" PRId64 " and %" PRId64 " are joined by no network tier and have no NICs",
                        from->node, to->node);
    if (joins != NULL && joins->port == DSC_PORT_DEVICE) return device_path(fabric, from, to, top, load, latency);
    return nic_path(fabric, *from, to, top, load, latency);
}

dsc_status dsc_fabric_path(dsc_fabric *fabric, int64_t a, int64_t b, dsc_load *load, int64_t *latency_ns)
{
    dsc_status status = DSC_OK;
    dsc_place from, to;
    int64_t latency = 0;

    DSC_TRY(dsc_cluster_place(fabric->cluster, a, &from));
    DSC_TRY(dsc_cluster_place(fabric->cluster, b, &to));
    if (from.node == to.node)
        DSC_TRY(local_path(fabric, &from, &to, load, &latency));
    else
        DSC_TRY(network_path(fabric, &from, &to, load, &latency));
    *latency_ns = DSC_MAX(*latency_ns, latency);
out:
    return status;
}

/* ---- Ranks and cores */

static dsc_place place_of(const dsc_fabric *fabric, int64_t rank)
{
    dsc_place place = {0};

    dsc_cluster_place(fabric->cluster, rank, &place); /* create has placed all ranks */
    return place;
}

int64_t dsc_fabric_node(const dsc_fabric *fabric, int64_t rank)
{
    return place_of(fabric, rank).node;
}

int64_t dsc_fabric_domain(const dsc_fabric *fabric, int64_t rank)
{
    return dsc_fabric_node(fabric, rank) / dsc_cluster_domain_nodes(fabric->cluster);
}

bool dsc_fabric_alike(const dsc_fabric *fabric, int64_t a, int64_t b)
{
    dsc_place one = place_of(fabric, a), other = place_of(fabric, b);

    return one.device == other.device && one.node_type == other.node_type &&
           fabric->on_node[one.node] == fabric->on_node[other.node];
}

/* Ranks that share the cores of the machine that the place is on. */
static int64_t on_machine(const dsc_fabric *fabric, const dsc_place *place)
{
    return fabric->on_node[place->node] * DSC_MAX(place->node_type->nodes_per_machine, 1);
}

bool dsc_fabric_is_crowded(const dsc_fabric *fabric, int64_t rank)
{
    dsc_place place = place_of(fabric, rank);

    return !place.device->is_gpu && on_machine(fabric, &place) > place.node_type->cores;
}

dsc_status dsc_fabric_core(dsc_fabric *fabric, int64_t rank, int32_t *resource, double *threads)
{
    dsc_place place = place_of(fabric, rank);
    bool is_crowded = dsc_fabric_is_crowded(fabric, rank);
    double cores = (double)place.node_type->cores / (double)(is_crowded ? 1 : on_machine(fabric, &place));
    int64_t first = is_crowded ? place.node % DSC_MAX(place.node_type->nodes_per_machine, 1) : 0; /* of the machine */

    *resource = -1;
    *threads = is_crowded ? 1 : floor(cores);
    if (place.device->is_gpu) return DSC_OK;
    return resource_of(fabric,
                       (place.node - first) * fabric->node_slots + 2 * fabric->devices + (is_crowded ? 0 : place.local),
                       cores, "", resource);
}

void dsc_fabric_neighbours(const dsc_fabric *fabric, int64_t rank, int64_t *ranks, double *cores)
{
    dsc_place place = place_of(fabric, rank);

    *ranks = on_machine(fabric, &place);
    *cores = place.device->is_gpu ? INFINITY : (double)DSC_MAX(place.node_type->cores, 1);
}

const char *dsc_fabric_link_name(const dsc_fabric *fabric, int32_t resource)
{
    return fabric->names[resource][0] == '\0' ? NULL : fabric->names[resource];
}
