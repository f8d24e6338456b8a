/* The JSON description, read and written by the same tables: a row is a member of a struct and a key of an object. */
#include "cluster/parts.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* FACT is a REAL that is 0 where it is not known, TIER_PORT and TIER_TOPOLOGY are words of which the first holds where
 * none is given: written only where they say something. */
typedef enum member_type {
    INT, REAL, FACT, STRING, BOOL, TOPOLOGY, TIER_PORT, TIER_TOPOLOGY, ENDS, PEAKS, EFFICIENCY, NVME, STORAGE
} member_type;

typedef struct member {
    const char *name;
    member_type type;
    size_t offset, size; /* size of a string */
    double low, high;    /* bounds of a number */
    bool is_needed;
} member;

#define SIZES_OF(type, field) offsetof(type, field), sizeof((type *)0)->field
#define NEEDED true
#define OPTIONAL false
#define END {NULL, INT, 0, 0, 0, 0, false}

#define LEAST_SHARE 1e-3  /* of a peak: what reached none of it would take no time */
#define MOST_COUNT 0x1p20 /* of devices and NICs in a node */
#define MOST_NODES 0x1p40
#define MOST_BYTES 0x1p60
#define MOST_RATE 1e18    /* bytes or flops a second */
#define MOST_FLOPS 1e21
#define MOST_NS 1e12
#define MOST_WATTS 1e9
#define MOST_HOURS 1e9

static const member efficiency_members[] = {
    {"product", REAL, SIZES_OF(dsc_efficiency, product), LEAST_SHARE, 1, NEEDED},
    {"product_fp8", REAL, SIZES_OF(dsc_efficiency, product_fp8), 0, 1, OPTIONAL},
    {"attention", REAL, SIZES_OF(dsc_efficiency, attention), LEAST_SHARE, 1, NEEDED},
    {"memory", REAL, SIZES_OF(dsc_efficiency, memory), LEAST_SHARE, 1, NEEDED},
    {"launch_ns", INT, SIZES_OF(dsc_efficiency, launch_ns), 0, MOST_NS, NEEDED},
    {"tile_m", INT, SIZES_OF(dsc_efficiency, tile_m), 0, 65536, OPTIONAL},
    {"tile_n", INT, SIZES_OF(dsc_efficiency, tile_n), 0, 65536, OPTIONAL},
    {"multiprocessors", INT, SIZES_OF(dsc_efficiency, multiprocessors), 0, 65536, OPTIONAL},
    END,
};

static const member nvme_members[] = {
    {"count", INT, SIZES_OF(dsc_nvme, count), 1, MOST_COUNT, NEEDED},
    {"bytes", INT, SIZES_OF(dsc_nvme, bytes), 1, MOST_BYTES, NEEDED},
    {"read_bytes_per_s", FACT, SIZES_OF(dsc_nvme, read_bytes_per_s), 0, MOST_RATE, OPTIONAL},
    {"write_bytes_per_s", FACT, SIZES_OF(dsc_nvme, write_bytes_per_s), 0, MOST_RATE, OPTIONAL},
    END,
};

static const member storage_members[] = {
    {"read_bytes_per_s", FACT, SIZES_OF(dsc_storage, read_bytes_per_s), 0, MOST_RATE, OPTIONAL},
    {"write_bytes_per_s", FACT, SIZES_OF(dsc_storage, write_bytes_per_s), 0, MOST_RATE, OPTIONAL},
    END,
};

static const member device_members[] = {
    {"name", STRING, SIZES_OF(dsc_device_type, name), 0, 0, NEEDED},
    {"gpu", BOOL, SIZES_OF(dsc_device_type, is_gpu), 0, 0, OPTIONAL},
    {"count", INT, SIZES_OF(dsc_device_type, count), 1, MOST_COUNT, NEEDED},
    {"memory_bytes", INT, SIZES_OF(dsc_device_type, memory_bytes), 1, MOST_BYTES, NEEDED},
    {"bandwidth_bytes_per_s", REAL, SIZES_OF(dsc_device_type, bandwidth_bytes_per_s), 1, MOST_RATE, NEEDED},
    {"peak_flops", PEAKS, SIZES_OF(dsc_device_type, peak_flops), 0, MOST_FLOPS, NEEDED},
    {"libraries_bytes", INT, SIZES_OF(dsc_device_type, libraries_bytes), 0, MOST_BYTES, OPTIONAL},
    {"power_w", FACT, SIZES_OF(dsc_device_type, power_w), 0, MOST_WATTS, OPTIONAL},
    {"efficiency", EFFICIENCY, SIZES_OF(dsc_device_type, efficiency), 0, 0, OPTIONAL},
    END,
};

static const member link_members[] = {
    {"name", STRING, SIZES_OF(dsc_link, name), 0, 0, NEEDED},
    {"between", ENDS, SIZES_OF(dsc_link, between), 0, 0, NEEDED},
    {"topology", TOPOLOGY, SIZES_OF(dsc_link, topology), 0, 0, NEEDED},
    {"bytes_per_s", REAL, SIZES_OF(dsc_link, bytes_per_s), 1, MOST_RATE, NEEDED},
    {"latency_ns", INT, SIZES_OF(dsc_link, latency_ns), 0, MOST_NS, NEEDED},
    {"devices_per_port", INT, SIZES_OF(dsc_link, devices_per_port), 0, MOST_COUNT, OPTIONAL},
    END,
};

static const member nic_members[] = {
    {"count", INT, SIZES_OF(dsc_nic, count), 1, MOST_COUNT, NEEDED},
    {"bytes_per_s", REAL, SIZES_OF(dsc_nic, bytes_per_s), 1, MOST_RATE, NEEDED},
    {"latency_ns", INT, SIZES_OF(dsc_nic, latency_ns), 0, MOST_NS, NEEDED},
    END,
};

static const member tier_members[] = {
    {"tier", STRING, SIZES_OF(dsc_tier, name), 0, 0, NEEDED},
    {"nodes", INT, SIZES_OF(dsc_tier, nodes), 1, MOST_NODES, NEEDED},
    {"bytes_per_s", REAL, SIZES_OF(dsc_tier, bytes_per_s), 1, MOST_RATE, NEEDED},
    {"latency_ns", INT, SIZES_OF(dsc_tier, latency_ns), 0, MOST_NS, NEEDED},
    {"oversubscription", REAL, SIZES_OF(dsc_tier, oversubscription), 1, 1e6, OPTIONAL},
    {"port", TIER_PORT, SIZES_OF(dsc_tier, port), 0, 0, OPTIONAL},
    {"topology", TIER_TOPOLOGY, SIZES_OF(dsc_tier, topology), 0, 0, OPTIONAL},
    END,
};

static const member node_members[] = {
    {"host_memory_bytes", INT, SIZES_OF(dsc_node_type, host_memory_bytes), 1, MOST_BYTES, NEEDED},
    {"cores", INT, SIZES_OF(dsc_node_type, cores), 1, MOST_COUNT, NEEDED},
    {"nodes_per_machine", INT, SIZES_OF(dsc_node_type, nodes_per_machine), 0, MOST_COUNT, OPTIONAL},
    {"host_bandwidth_bytes_per_s", REAL, SIZES_OF(dsc_node_type, host_bandwidth_bytes_per_s), 0, MOST_RATE, OPTIONAL},
    {"power_w", FACT, SIZES_OF(dsc_node_type, power_w), 0, MOST_WATTS, OPTIONAL},
    {"mtbf_h", FACT, SIZES_OF(dsc_node_type, mtbf_h), 0, MOST_HOURS, OPTIONAL},
    {"nvme", NVME, SIZES_OF(dsc_node_type, nvme), 0, 0, OPTIONAL},
    END,
};

static const char *const topologies[] = {"switch", "mesh", "ring", "tree", NULL};
static const char *const tier_ports[] = {"nic", "device", NULL};
static const char *const tier_topologies[] = {"tree", "rail", "dragonfly", NULL};
static const char *const ends[] = {"device", "host", "nic", NULL};

/* The words of a member that is an enumeration; NULL of another. */
static const char *const *words_of(member_type type)
{
    switch (type) {
    case TOPOLOGY: return topologies;
    case TIER_PORT: return tier_ports;
    case TIER_TOPOLOGY: return tier_topologies;
    default: return NULL;
    }
}

/* The members of a member that is a struct. */
static const member *members_of(member_type type)
{
    switch (type) {
    case NVME: return nvme_members;
    case STORAGE: return storage_members;
    default: return efficiency_members;
    }
}

/* ---- Reading */

/* Where a message stands: a file, then the way into its objects. */
typedef struct json_place { char str[256]; } json_place;

static json_place place_in(const char *where, const char *key, int64_t index)
{
    json_place at;

    if (index < 0) snprintf(at.str, sizeof at.str, "%.160s: %.60s", where, key);
    else snprintf(at.str, sizeof at.str, "%.160s: %.60s[%lld]", where, key, (long long)index);
    return at;
}

/* The keys of a table and some more are all that the object may have. */
static dsc_status check_keys(const char *where, const json_t *object, const member *members, const char *const *more)
{
    const char *names[32];
    int64_t count = 0;

    if (dsc_json_object(where, object) != DSC_OK) return DSC_EINVAL;
    for (; members->name != NULL; members++) names[count++] = members->name;
    for (; more != NULL && *more != NULL; more++) names[count++] = *more;
    return dsc_json_check_keys(where, object, names, count);
}

static dsc_status find_word(const char *where, const char *key, const char *word, const char *const *words, int *out)
{
    const char *nearest;
    int count = 0;

    for (; words[count] != NULL; count++)
        if (dsc_equal(words[count], word)) {
            *out = count;
            return DSC_OK;
        }
    nearest = dsc_nearest(word, words, count);
    if (nearest != NULL)
        return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": unknown \"%s\"; did you mean \"%s\"?", where, key, word, nearest);
    return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": unknown \"%s\"", where, key, word);
}

/* Enumerations have the size of an int, which an unsigned one may be kept in. */
static dsc_status read_word(const char *where, const json_t *object, const member *row, void *out)
{
    char word[32] = "";
    int index = 0;

    if (dsc_json_string(where, object, row->name, word, sizeof word) != DSC_OK) return DSC_EINVAL;
    if (find_word(where, row->name, word, words_of(row->type), &index) != DSC_OK) return DSC_EINVAL;
    memcpy(out, &index, sizeof index);
    return DSC_OK;
}

static dsc_status read_ends(const char *where, const json_t *object, const char *key, char (*out)[32])
{
    const json_t *array = json_object_get(object, key);
    int index = 0;

    if (json_array_size(array) != 2)
        return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": expected two ends, as [\"device\", \"host\"], got %s of %zu", where,
                        key, dsc_json_kind(array), json_array_size(array));
    for (size_t i = 0; i < 2; i++) {
        const char *word = json_string_value(json_array_get(array, i));

        if (word == NULL) word = "";
        if (find_word(where, key, word, ends, &index) != DSC_OK) return DSC_EINVAL;
        snprintf(out[i], sizeof out[i], "%s", ends[index]);
    }
    return DSC_OK;
}

/* By the names of dtypes; one not given is one that the device cannot. */
static dsc_status read_peaks(const char *where, const json_t *object, const member *row, double *out)
{
    const json_t *peaks = json_object_get(object, row->name);
    const char *names[DSC_DTYPE_COUNT];
    json_place at = place_in(where, row->name, -1);
    dsc_status status = DSC_OK;
    double most = 0;

    for (int i = 0; i < DSC_DTYPE_COUNT; i++) names[i] = dsc_dtype_name((dsc_dtype)i);
    DSC_TRY(dsc_json_object(at.str, peaks));
    DSC_TRY(dsc_json_check_keys(at.str, peaks, names, DSC_DTYPE_COUNT));
    for (int i = 0; i < DSC_DTYPE_COUNT; i++) {
        DSC_TRY(dsc_json_real(at.str, peaks, names[i], row->low, row->high, &out[i]));
        most = DSC_MAX(most, out[i]);
    }
    if (!(most > 0)) status = DSC_FAIL(DSC_EINVAL, "%s: no type has a peak above 0", at.str);
out:
    return status;
}

static dsc_status read_members(const char *where, const json_t *object, const member *members, void *base);

static dsc_status read_member(const char *where, const json_t *object, const member *row, void *at)
{
    const json_t *value = json_object_get(object, row->name);
    json_place inside = place_in(where, row->name, -1);

    if (value == NULL || json_is_null(value)) {
        if (!row->is_needed) return DSC_OK;
        return DSC_FAIL(DSC_EINVAL, "%s: missing key \"%s\"", where, row->name);
    }
    switch (row->type) {
    case INT: return dsc_json_int(where, object, row->name, (int64_t)row->low, (int64_t)row->high, at);
    case REAL:
    case FACT: return dsc_json_real(where, object, row->name, row->low, row->high, at);
    case STRING: return dsc_json_string(where, object, row->name, at, row->size);
    case BOOL: return dsc_json_bool(where, object, row->name, at);
    case TOPOLOGY:
    case TIER_PORT:
    case TIER_TOPOLOGY: return read_word(where, object, row, at);
    case ENDS: return read_ends(where, object, row->name, at);
    case PEAKS: return read_peaks(where, object, row, at);
    case EFFICIENCY:
    case NVME:
    case STORAGE:
        if (check_keys(inside.str, value, members_of(row->type), NULL) != DSC_OK) return DSC_EINVAL;
        return read_members(inside.str, value, members_of(row->type), at);
    }
    return DSC_OK;
}

static dsc_status read_members(const char *where, const json_t *object, const member *members, void *base)
{
    for (; members->name != NULL; members++)
        if (read_member(where, object, members, (char *)base + members->offset) != DSC_OK) return DSC_EINVAL;
    return DSC_OK;
}

/* An array of such objects, each beginning as a copy of *start. items is the address of the array's pointer, which a
 * void ** may not alias; the caller owns what it then points to, after a failure too. */
static dsc_status read_array(const char *where, const json_t *object, const char *key, const member *members,
                             size_t item_bytes, const void *start, void *items, int64_t *count)
{
    const json_t *array = json_object_get(object, key);
    dsc_status status = DSC_OK;
    char *out;

    if (array != NULL && !json_is_array(array))
        return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": expected an array, got %s", where, key, dsc_json_kind(array));
    out = calloc(json_array_size(array) + 1, item_bytes);
    memcpy(items, &out, sizeof out);
    if (out == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: no memory for \"%s\"", where, key);
    for (*count = 0; *count < (int64_t)json_array_size(array); ++*count, out += item_bytes) {
        const json_t *item = json_array_get(array, (size_t)*count);
        json_place at = place_in(where, key, *count);

        if (start != NULL) memcpy(out, start, item_bytes);
        DSC_TRY(check_keys(at.str, item, members, NULL));
        DSC_TRY(read_members(at.str, item, members, out));
    }
out:
    return status;
}

/* ARRAY(where, object, "links", link_members, start, node, links, link_count) */
#define ARRAY(where, object, key, members, start, base, field, counter)                                              \
    read_array(where, object, key, members, sizeof *(base)->field, start, &(base)->field, &(base)->counter)

/* A device is a GPU unless the description says no, or calls it a cpu. */
static void tell_cpus(const json_t *devices, dsc_node_type *node)
{
    for (int64_t i = 0; i < node->device_types; i++)
        if (json_object_get(json_array_get(devices, (size_t)i), "gpu") == NULL)
            node->devices[i].is_gpu = strcmp(node->devices[i].name, "cpu") != 0;
}

static dsc_status read_node_type(const char *where, const char *name, const json_t *object, dsc_node_type *node)
{
    static const char *const more[] = {"devices", "links", "nics", NULL};
    json_place at = place_in(where, name, -1);
    dsc_status status = DSC_OK;

    snprintf(node->name, sizeof node->name, "%.47s", name);
    DSC_TRY(check_keys(at.str, object, node_members, more));
    DSC_TRY(read_members(at.str, object, node_members, node));
    DSC_TRY(ARRAY(at.str, object, "devices", device_members, NULL, node, devices, device_types));
    tell_cpus(json_object_get(object, "devices"), node);
    DSC_TRY(ARRAY(at.str, object, "links", link_members, NULL, node, links, link_count));
    DSC_TRY(ARRAY(at.str, object, "nics", nic_members, NULL, node, nics, nic_count));
    if (node->device_types == 0) status = DSC_FAIL(DSC_EINVAL, "%s: \"devices\": at least one is needed", at.str);
out:
    return status;
}

static dsc_status read_node_types(const char *where, const json_t *object, dsc_cluster *cluster)
{
    json_t *types = json_object_get(object, "node_types"), *type;
    const char *name;

    if (json_object_size(types) == 0)
        return DSC_FAIL(DSC_EINVAL, "%s: \"node_types\": expected an object of at least one, got %s", where,
                        dsc_json_kind(types));
    cluster->node_types = calloc(json_object_size(types), sizeof *cluster->node_types);
    if (cluster->node_types == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: no memory for node types", where);
    json_object_foreach(types, name, type)
        if (read_node_type(where, name, type, &cluster->node_types[cluster->node_type_count++]) != DSC_OK)
            return DSC_EINVAL;
    return DSC_OK;
}

/* A group as JSON has it, before its type is found. */
typedef struct named_group { char type[48]; int64_t count; } named_group;

static const member group_members[] = {
    {"type", STRING, SIZES_OF(named_group, type), 0, 0, NEEDED},
    {"count", INT, SIZES_OF(named_group, count), 1, MOST_NODES, OPTIONAL},
    END,
};

static dsc_status find_type(const char *where, const dsc_cluster *cluster, const char *name, int64_t *out)
{
    for (*out = 0; *out < cluster->node_type_count; ++*out)
        if (dsc_equal(cluster->node_types[*out].name, name)) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s: \"nodes\": no node type \"%s\"", where, name);
}

static dsc_status read_nodes(const char *where, const json_t *object, dsc_cluster *cluster)
{
    struct { named_group *items; int64_t count; } groups = {NULL, 0};
    const named_group start = {"", 1};
    dsc_status status = DSC_OK;

    DSC_TRY(ARRAY(where, object, "nodes", group_members, &start, &groups, items, count));
    if (groups.count == 0) DSC_TRY(DSC_FAIL(DSC_EINVAL, "%s: \"nodes\": at least one is needed", where));
    cluster->nodes = calloc((size_t)groups.count, sizeof *cluster->nodes);
    if (cluster->nodes == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "%s: no memory for \"nodes\"", where));
    for (int64_t i = 0; i < groups.count; i++) {
        cluster->nodes[i].count = groups.items[i].count;
        DSC_TRY(find_type(where, cluster, groups.items[i].type, &cluster->nodes[i].type));
    }
    cluster->node_group_count = groups.count;
out:
    free(groups.items);
    return status;
}

/* Devices over all nodes fit 63 bits, so that counting needs no checks. */
static dsc_status check_count(const char *where, const dsc_cluster *cluster)
{
    int64_t total = 0;

    for (int64_t i = 0; i < cluster->node_group_count; i++) {
        const dsc_node_type *node = &cluster->node_types[cluster->nodes[i].type];
        int64_t count;

        for (int64_t d = 0; d < node->device_types; d++)
            if (!dsc_mul(cluster->nodes[i].count, node->devices[d].count, &count) || !dsc_add(total, count, &total))
                return DSC_FAIL(DSC_EINVAL, "%s: %lld nodes of %lld devices are more than 2^63 devices", where,
                                (long long)cluster->nodes[i].count, (long long)node->devices[d].count);
    }
    return DSC_OK;
}

static dsc_status check_version(const char *where, const json_t *object)
{
    int64_t version = 0;

    if (json_object_get(object, "dsc_cluster") == NULL)
        return DSC_FAIL(DSC_EINVAL, "%s: missing key \"dsc_cluster\": this is no description of a cluster", where);
    return dsc_json_int(where, object, "dsc_cluster", 1, 1, &version);
}

static const member cluster_members[] = {
    {"name", STRING, SIZES_OF(dsc_cluster, name), 0, 0, OPTIONAL},
    {"local", BOOL, SIZES_OF(dsc_cluster, is_local), 0, 0, OPTIONAL},
    {"storage", STORAGE, SIZES_OF(dsc_cluster, storage), 0, 0, OPTIONAL},
    END,
};

dsc_status dsc_cluster_of_json(const char *where, const json_t *object, dsc_cluster **out)
{
    static const char *const more[] = {"dsc_cluster", "node_types", "nodes", "network", NULL};
    static const dsc_tier start = {.oversubscription = 1};
    dsc_status status = DSC_OK;
    dsc_cluster *cluster = calloc(1, sizeof *cluster);

    if (cluster == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: no memory for a cluster", where);
    snprintf(cluster->name, sizeof cluster->name, "%.63s", where);
    DSC_TRY(check_keys(where, object, cluster_members, more));
    DSC_TRY(check_version(where, object));
    DSC_TRY(read_members(where, object, cluster_members, cluster));
    DSC_TRY(read_node_types(where, object, cluster));
    DSC_TRY(read_nodes(where, object, cluster));
    DSC_TRY(ARRAY(where, object, "network", tier_members, &start, cluster, network, tier_count));
    DSC_TRY(check_count(where, cluster));
    DSC_TRY(dsc_network_check(where, cluster));
    *out = cluster;
    cluster = NULL;
out:
    dsc_cluster_destroy(cluster);
    return status;
}

/* ---- Writing. A jansson function takes NULL for a value that could not be made, and fails: one check at the end. */

static json_t *peaks_json(const double *peaks)
{
    json_t *object = json_object();

    for (int i = 0; i < DSC_DTYPE_COUNT; i++)
        if (peaks[i] > 0) json_object_set_new(object, dsc_dtype_name((dsc_dtype)i), json_real(peaks[i]));
    return object;
}

static json_t *members_json(const member *members, const void *base);

static json_t *word_json(const member *row, const void *at)
{
    int index;

    memcpy(&index, at, sizeof index);
    return json_string(words_of(row->type)[index]);
}

static json_t *member_json(const member *row, const void *at)
{
    switch (row->type) {
    case INT: return json_integer(*(const int64_t *)at);
    case REAL:
    case FACT: return json_real(*(const double *)at);
    case STRING: return json_string(at);
    case BOOL: return json_boolean(*(const bool *)at);
    case TOPOLOGY:
    case TIER_PORT:
    case TIER_TOPOLOGY: return word_json(row, at);
    case ENDS: return json_pack("[ss]", ((const char (*)[32])at)[0], ((const char (*)[32])at)[1]);
    case PEAKS: return peaks_json(at);
    case EFFICIENCY:
    case NVME:
    case STORAGE: return members_json(members_of(row->type), at);
    }
    return NULL;
}

/* What nobody described is not written either. */
static bool is_absent(const member *row, const void *at)
{
    const dsc_storage *storage = at;

    switch (row->type) {
    case FACT: return !(*(const double *)at > 0);
    case TIER_PORT: return *(const dsc_tier_port *)at == DSC_PORT_NIC;
    case TIER_TOPOLOGY: return *(const dsc_tier_topology *)at == DSC_TIER_TREE;
    case EFFICIENCY: return !(((const dsc_efficiency *)at)->product > 0);
    case NVME: return ((const dsc_nvme *)at)->count == 0;
    case STORAGE: return !(storage->read_bytes_per_s > 0 || storage->write_bytes_per_s > 0);
    default: return false;
    }
}

static json_t *members_json(const member *members, const void *base)
{
    json_t *object = json_object();

    for (; members->name != NULL; members++) {
        const void *at = (const char *)base + members->offset;

        if (!is_absent(members, at)) json_object_set_new(object, members->name, member_json(members, at));
    }
    return object;
}

static json_t *array_json(const member *members, const void *items, size_t item_bytes, int64_t count)
{
    json_t *array = json_array();

    for (int64_t i = 0; i < count; i++)
        json_array_append_new(array, members_json(members, (const char *)items + (size_t)i * item_bytes));
    return array;
}

static json_t *node_type_json(const dsc_node_type *node)
{
    json_t *object = members_json(node_members, node);

    json_object_set_new(object, "devices",
                        array_json(device_members, node->devices, sizeof *node->devices, node->device_types));
    json_object_set_new(object, "links", array_json(link_members, node->links, sizeof *node->links, node->link_count));
    json_object_set_new(object, "nics", array_json(nic_members, node->nics, sizeof *node->nics, node->nic_count));
    return object;
}

static json_t *nodes_json(const dsc_cluster *cluster)
{
    json_t *array = json_array();

    for (int64_t i = 0; i < cluster->node_group_count; i++)
        json_array_append_new(array, json_pack("{s:s, s:I}", "type", cluster->node_types[cluster->nodes[i].type].name,
                                               "count", (json_int_t)cluster->nodes[i].count));
    return array;
}

char *dsc_cluster_json(const dsc_cluster *cluster)
{
    json_t *object = json_pack("{s:i}", "dsc_cluster", 1), *types = json_object();
    char *text;

    json_object_update_new(object, members_json(cluster_members, cluster));
    for (int64_t i = 0; i < cluster->node_type_count; i++)
        json_object_set_new(types, cluster->node_types[i].name, node_type_json(&cluster->node_types[i]));
    json_object_set_new(object, "node_types", types);
    json_object_set_new(object, "nodes", nodes_json(cluster));
    json_object_set_new(object, "network",
                        array_json(tier_members, cluster->network, sizeof *cluster->network, cluster->tier_count));
    text = json_dumps(object, JSON_INDENT(2));
    json_decref(object);
    return text;
}
