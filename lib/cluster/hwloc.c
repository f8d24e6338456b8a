/* Machines through hwloc, which only this file and devices.c include; and where processes and pages go. */
#include "cluster/parts.h"
#include <errno.h>
#include <hwloc.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_OBJECTS = 1 << 20 };

/* Memory of GPUs that are NUMA nodes (Grace Hopper) is not the host's. */
static int64_t host_memory(hwloc_topology_t topology)
{
    hwloc_obj_t node = NULL;
    int64_t bytes = 0;

    while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != NULL) {
        int64_t own = (int64_t)DSC_MIN(node->attr->numanode.local_memory, (hwloc_uint64_t)INT64_MAX);

        if (!dsc_equal(node->subtype, "GPUMemory") && !dsc_add(bytes, own, &bytes)) bytes = INT64_MAX;
    }
    return bytes;
}

/* Loads what was set on the topology, and destroys it. */
static dsc_status read_topology(const char *what, hwloc_topology_t topology, dsc_machine *out)
{
    dsc_status status = DSC_OK;
    int cores;

    if (hwloc_topology_load(topology) != 0) {
        status = DSC_FAIL(DSC_EINVAL, "%s: hwloc cannot read it", what);
        goto out;
    }
    cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    if (cores <= 0) cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU); /* machines that do not tell cores */
    *out = (dsc_machine){.cores = DSC_MAX(cores, 1), .memory_bytes = host_memory(topology)};
    status = dsc_hwloc_devices(topology, out);
out:
    hwloc_topology_destroy(topology);
    return status;
}

static dsc_status init(hwloc_topology_t *out)
{
    return hwloc_topology_init(out) == 0 ? DSC_OK : DSC_FAIL(DSC_ENOMEM, "hwloc: no memory for a topology");
}

dsc_status dsc_hwloc_here(dsc_machine *out)
{
    hwloc_topology_t topology;

    if (init(&topology) != DSC_OK) return DSC_ENOMEM;
    return read_topology("this machine", topology, out);
}

static dsc_status read_xml(const char *path, dsc_machine *out)
{
    hwloc_topology_t topology;

    if (init(&topology) != DSC_OK) return DSC_ENOMEM;
    if (hwloc_topology_set_xml(topology, path) != 0) {
        hwloc_topology_destroy(topology);
        return DSC_FAIL(DSC_EINVAL, "%s: hwloc cannot read this XML", path);
    }
    hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_ALL); /* switches of NVLink, too */
    return read_topology(path, topology, out);
}

/* Reads it in a child process, without a trace of how that ends: hwloc 2.9 crashes on objects that lack a set. */
static dsc_status try_xml(const char *path)
{
    enum { SECONDS = 10 };
    dsc_machine unused;
    int how = 0;
    pid_t child = fork();

    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* MPI's libraries report theirs */
        signal(SIGABRT, SIG_DFL);
        signal(SIGALRM, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(1);
        alarm(SECONDS);
        (void)read_xml(path, &unused);
        _exit(0);
    }
    if (child < 0) return DSC_FAIL(DSC_EIO, "%s: no child process to read it", path);
    while (waitpid(child, &how, 0) < 0 && errno == EINTR) continue;
    if (WIFSIGNALED(how))
        return DSC_FAIL(DSC_EINVAL, "%s: hwloc cannot read it, and ends with signal %d (%s)", path, WTERMSIG(how),
                        strsignal(WTERMSIG(how)));
    return how == 0 ? DSC_OK : DSC_FAIL(DSC_EINVAL, "%s: hwloc cannot read it, and ends", path);
}

dsc_status dsc_hwloc_xml(const char *path, dsc_machine *out)
{
    dsc_status status = DSC_OK;

    DSC_TRY(try_xml(path));
    DSC_TRY(read_xml(path, out));
out:
    return status;
}

/* hwloc makes every object of a synthetic machine: a few digits can ask for more than memory holds. */
static dsc_status check_synthetic(const char *text)
{
    int64_t objects = 1;

    for (const char *c = strchr(text, ':'); c != NULL; c = strchr(c + 1, ':')) {
        int64_t count = strtoll(c + 1, NULL, 10);

        if (count > 0 && (!dsc_mul(objects, count, &objects) || objects > MOST_OBJECTS))
            return DSC_FAIL(DSC_EINVAL, "hwloc string \"%s\": more than %d objects", text, MOST_OBJECTS);
    }
    return DSC_OK;
}

dsc_status dsc_hwloc_synthetic(const char *text, dsc_machine *out)
{
    hwloc_topology_t topology;

    if (check_synthetic(text) != DSC_OK) return DSC_EINVAL;
    if (init(&topology) != DSC_OK) return DSC_ENOMEM;
    if (hwloc_topology_set_synthetic(topology, text) != 0) {
        hwloc_topology_destroy(topology);
        return DSC_FAIL(DSC_EINVAL, "unknown cluster \"%s\": no preset (--list-clusters), no file, no string for hwloc "
                        "(core:8 pu:1)", text);
    }
    return read_topology(text, topology, out);
}

/* ---- Binding */

/* Whether nobody has taken some of the machine's cores away from this process. */
static bool is_free(hwloc_topology_t topology)
{
    hwloc_bitmap_t own = hwloc_bitmap_alloc();
    bool is_free = own != NULL && hwloc_get_cpubind(topology, own, HWLOC_CPUBIND_PROCESS) == 0 &&
                   hwloc_bitmap_isincluded(hwloc_topology_get_topology_cpuset(topology), own);

    hwloc_bitmap_free(own);
    return is_free;
}

/* The object whose cores are near the PCI device: the whole machine where that is none, or nobody tells. */
static hwloc_obj_t near_object(hwloc_topology_t topology, const char *bus)
{
    hwloc_obj_t device = bus == NULL || bus[0] == '\0' ? NULL : hwloc_get_pcidev_by_busidstring(topology, bus);
    hwloc_obj_t object = device == NULL ? NULL : hwloc_get_non_io_ancestor_obj(topology, device);

    return object != NULL ? object : hwloc_get_root_obj(topology);
}

/* Which part of how many of an object's cores: those are shared by who is near the same. */
typedef struct share { hwloc_obj_t of; int64_t part, parts; } share;

static share share_of(hwloc_topology_t topology, int64_t part, int64_t parts, const char *const near[])
{
    share s = {near_object(topology, near == NULL ? NULL : near[part]), 0, 0};

    for (int64_t i = 0; i < parts; i++) {
        if (near_object(topology, near == NULL ? NULL : near[i]) != s.of) continue;
        if (i < part) s.part++;
        s.parts++;
    }
    return s;
}

static dsc_status bind_share(hwloc_topology_t topology, share s, int64_t *cores)
{
    hwloc_cpuset_t *shares = calloc((size_t)s.parts, sizeof(hwloc_cpuset_t));

    if (shares == NULL) return DSC_FAIL(DSC_ENOMEM, "hwloc: %lld shares of cores", (long long)s.parts);
    if (hwloc_distrib(topology, &s.of, 1, shares, (unsigned)s.parts, INT_MAX, 0) == 0 &&
        hwloc_set_cpubind(topology, shares[s.part], HWLOC_CPUBIND_PROCESS) == 0)
        *cores = hwloc_get_nbobjs_inside_cpuset_by_type(topology, shares[s.part], HWLOC_OBJ_CORE);
    for (int64_t i = 0; i < s.parts; i++) hwloc_bitmap_free(shares[i]);
    free(shares);
    return DSC_OK;
}

dsc_status dsc_cluster_bind(int64_t part, int64_t parts, const char *const near[], int64_t *cores)
{
    hwloc_topology_t topology;
    dsc_status status = DSC_OK;

    *cores = 0;
    if (parts < 2) return DSC_OK;
    DSC_TRY(init(&topology));
    hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(topology) != 0) status = DSC_FAIL(DSC_EIO, "hwloc cannot read this machine");
    else if (hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) >= parts && is_free(topology))
        status = bind_share(topology, share_of(topology, part, parts, near), cores);
    hwloc_topology_destroy(topology);
out:
    return status;
}

static bool bind_ranges(hwloc_topology_t topology, hwloc_bitmap_t nodes, int count, void *const bases[],
                        const int64_t bytes[])
{
    bool is_bound = true;

    for (int i = 0; i < count; i++)
        if (bytes[i] > 0)
            is_bound &= hwloc_set_area_membind(topology, bases[i], (size_t)bytes[i], nodes, HWLOC_MEMBIND_BIND,
                                               HWLOC_MEMBIND_BYNODESET) == 0;
    return is_bound;
}

bool dsc_cluster_near(int count, void *const bases[], const int64_t bytes[])
{
    hwloc_topology_t topology;
    hwloc_bitmap_t cores = NULL, nodes = NULL;
    bool is_bound = false;

    if (hwloc_topology_init(&topology) != 0) return false;
    if (hwloc_topology_load(topology) != 0) goto out;
    is_bound = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE) < 2;
    cores = hwloc_bitmap_alloc();
    nodes = hwloc_bitmap_alloc();
    if (is_bound || cores == NULL || nodes == NULL) goto out;
    if (hwloc_get_cpubind(topology, cores, HWLOC_CPUBIND_PROCESS) != 0) goto out;
    hwloc_cpuset_to_nodeset(topology, cores, nodes);
    is_bound = hwloc_bitmap_weight(nodes) > 1 || bind_ranges(topology, nodes, count, bases, bytes);
out:
    hwloc_bitmap_free(nodes);
    hwloc_bitmap_free(cores);
    hwloc_topology_destroy(topology);
    return is_bound;
}
