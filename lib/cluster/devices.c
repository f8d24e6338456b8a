/* What an hwloc topology tells of GPUs, the links between them, and NICs. A card may have several OS devices (cuda0,
 * nvml0, opencl0d0): it counts once, by its PCI device. doc/clusters.md says what is read and what is guessed. */
#include "base/log.h"
#include "cluster/parts.h"
#include <float.h>
#include <hwloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A PCI link carries this share of its rate as payload: 12, 25 and 50 GB/s of the 15.75, 31.5 and 63 of x16 in its
 * generations 3, 4 and 5, as in presets. */
static const double payload = 0.79;

/* Objects that stand for cards: PCI devices, or OS devices where no PCI device is above. */
typedef struct cards { hwloc_obj_t *of; int64_t count; } cards;

static hwloc_obj_t card_of(hwloc_obj_t device)
{
    for (hwloc_obj_t o = device; o != NULL && hwloc_obj_type_is_io(o->type); o = o->parent)
        if (o->type == HWLOC_OBJ_PCI_DEVICE) return o;
    return device;
}

/* -1: not among them. */
static int64_t find_card(const cards *all, hwloc_obj_t card)
{
    for (int64_t i = 0; i < all->count; i++)
        if (all->of[i] == card) return i;
    return -1;
}

/* Of a file in which anything may stand: what no link has is not known, 0. */
static double sound_rate(double bytes_per_s) { return bytes_per_s > 0 && bytes_per_s < 1e15 ? bytes_per_s : 0; }

/* Bytes a second of payload. */
static double pci_rate(const struct hwloc_pcidev_attr_s *pci)
{
    return sound_rate((double)pci->linkspeed * 1e9 * payload);
}

/* ---- GPUs */

/* What the card's driver says of its memory, in KiB; 0 where it says nothing. */
static int64_t memory_of(hwloc_obj_t device)
{
    static const char *const keys[] = {"CUDAGlobalMemorySize", "RSMIVRAMSize", "OpenCLGlobalMemorySize"};

    for (int64_t i = 0; i < DSC_COUNT(keys); i++) {
        const char *text = hwloc_obj_get_info_by_name(device, keys[i]);
        int64_t kib = text == NULL ? 0 : strtoll(text, NULL, 10), bytes;

        if (kib > 0 && dsc_mul(kib, 1024, &bytes)) return bytes;
    }
    return 0;
}

static bool is_gpu(hwloc_obj_t device)
{
    hwloc_obj_osdev_type_t type = device->attr->osdev.type;

    return type == HWLOC_OBJ_OSDEV_COPROC || type == HWLOC_OBJ_OSDEV_GPU;
}

/* NULL for what is no GPU. */
static const char *model_of(hwloc_obj_t device)
{
    return is_gpu(device) ? hwloc_obj_get_info_by_name(device, "GPUModel") : NULL;
}

/* That of the first GPU that we know, else of the first: displays have theirs, too. */
static void choose_model(hwloc_topology_t topology, dsc_machine *out)
{
    hwloc_obj_t device = NULL;
    dsc_device_type unused;
    bool is_known = false;

    while (!is_known && (device = hwloc_get_next_osdev(topology, device)) != NULL) {
        const char *model = model_of(device);

        is_known = model != NULL && dsc_gpu_by_model(model, &unused);
        if (is_known || (model != NULL && out->gpu_model[0] == '\0'))
            snprintf(out->gpu_model, sizeof out->gpu_model, "%s", model);
    }
}

static void list_gpus(hwloc_topology_t topology, dsc_machine *out, cards *gpus)
{
    hwloc_obj_t device = NULL;
    bool has_others = false;

    choose_model(topology, out);
    while ((device = hwloc_get_next_osdev(topology, device)) != NULL) {
        const char *model = model_of(device);

        if (model == NULL) continue;
        if (strncmp(model, out->gpu_model, sizeof out->gpu_model - 1) != 0) {
            has_others = true;
            continue;
        }
        if (find_card(gpus, card_of(device)) < 0) gpus->of[gpus->count++] = card_of(device);
        if (memory_of(device) > 0)
            out->gpu_memory_bytes = DSC_MIN(out->gpu_memory_bytes > 0 ? out->gpu_memory_bytes : INT64_MAX,
                                            memory_of(device));
    }
    out->gpus = gpus->count;
    if (has_others) dsc_log(DSC_WARNING, "hwloc: GPUs of other models than \"%s\" are left out", out->gpu_model);
}

/* The bridge of the highest switch above the card: whoever is below has its link to the host in common. */
static hwloc_obj_t uplink_of(hwloc_obj_t card)
{
    hwloc_obj_t highest = NULL;

    for (hwloc_obj_t o = card->parent; o != NULL && o->type == HWLOC_OBJ_BRIDGE; o = o->parent)
        if (o->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI) highest = o;
    return highest;
}

/* Neighbours behind one bridge, where all cards have as many. */
static int64_t cards_per_uplink(const cards *gpus)
{
    int64_t each = 1;

    while (each < gpus->count && uplink_of(gpus->of[each]) == uplink_of(gpus->of[0])) each++;
    if (uplink_of(gpus->of[0]) == NULL || gpus->count % each != 0) return 1;
    for (int64_t i = 1; i < gpus->count; i++)
        if ((uplink_of(gpus->of[i]) == uplink_of(gpus->of[i - 1])) != (i % each != 0)) return 1;
    return each;
}

/* The slowest GPU's way to the host: its own link or that of the bridge above. */
static void read_pcie(const cards *gpus, dsc_machine *out)
{
    double slowest = DBL_MAX;

    for (int64_t i = 0; i < gpus->count; i++) {
        hwloc_obj_t card = gpus->of[i], above = uplink_of(card);
        double own = card->type == HWLOC_OBJ_PCI_DEVICE ? pci_rate(&card->attr->pcidev) : 0;
        double up = above == NULL ? 0 : pci_rate(&above->attr->bridge.upstream.pci);

        if (own > 0) slowest = fmin(slowest, own);
        if (up > 0) slowest = fmin(slowest, up);
    }
    out->pcie_bytes_per_s = slowest < DBL_MAX ? slowest : 0;
    out->gpus_per_port = gpus->count > 0 ? cards_per_uplink(gpus) : 1;
}

/* ---- Links between GPUs */

/* A matrix of rates in MB/s of one direction, over GPUs, switches and, where they have such links, processors. */
typedef struct matrix {
    const struct hwloc_distances_s *distances;
    int64_t *gpu;     /* [objects] which GPU, or -1 */
    int64_t gpus;
} matrix;

static double rate_at(const matrix *m, int64_t i, int64_t j)
{
    return sound_rate((double)m->distances->values[i * m->distances->nbobjs + j] * 1e6);
}

/* What leaves a GPU, by whom it reaches. */
typedef struct port { double to_gpus, to_switches, to_host; int64_t neighbours; bool is_in_ring; } port;

static port port_of(const matrix *m, int64_t row)
{
    port p = {.is_in_ring = true};

    for (int64_t j = 0; j < m->distances->nbobjs; j++) {
        const double rate = rate_at(m, row, j);
        const int64_t ahead = (m->gpu[j] - m->gpu[row] + m->gpus) % m->gpus;

        if (j == row || !(rate > 0)) continue;
        if (m->gpu[j] >= 0) {
            p.to_gpus += rate;
            p.neighbours++;
            p.is_in_ring &= ahead == 1 || ahead == m->gpus - 1;
        } else if (m->distances->objs[j]->type == HWLOC_OBJ_PCI_DEVICE) {
            p.to_switches += rate;
        } else {
            p.to_host += rate;
        }
    }
    return p;
}

/* Whether links lead from the first GPU to each other one, through others if need be. */
static bool joins_all(const matrix *m)
{
    const int64_t n = m->distances->nbobjs;
    bool *is_reached = calloc((size_t)n, sizeof *is_reached), has_grown = is_reached != NULL;
    int64_t reached = 0;

    for (int64_t i = 0; i < n && has_grown; i++)
        if (m->gpu[i] == 0) is_reached[i] = true;
    while (has_grown) {
        has_grown = false;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n && is_reached[i]; j++)
                if (!is_reached[j] && rate_at(m, i, j) > 0) is_reached[j] = has_grown = true;
    }
    for (int64_t i = 0; i < n && is_reached != NULL; i++) reached += m->gpu[i] >= 0 && is_reached[i];
    free(is_reached);
    return reached == m->gpus;
}

/* The slowest GPU counts. A ring has one link to each neighbour, else all of a GPU's links are its port. */
static void read_matrix(const matrix *m, dsc_link *link, double *host_bytes_per_s)
{
    double slowest = DBL_MAX, to_host = DBL_MAX;
    bool is_switched = true, is_ring = m->gpus > 3;

    for (int64_t i = 0; i < m->distances->nbobjs; i++) {
        port p;

        if (m->gpu[i] < 0) continue;
        p = port_of(m, i);
        is_switched &= p.to_switches > 0;
        is_ring &= p.neighbours == 2 && p.is_in_ring;
        slowest = fmin(slowest, p.to_gpus + p.to_switches);
        to_host = fmin(to_host, p.to_host);
    }
    if (to_host > 0 && to_host < DBL_MAX) *host_bytes_per_s = to_host;
    if (!(slowest > 0) || !joins_all(m)) return;
    link->topology = is_switched ? DSC_SWITCH : is_ring ? DSC_RING : DSC_MESH;
    link->bytes_per_s = link->topology == DSC_RING ? slowest / 2 : slowest;
}

static void read_distances(const struct hwloc_distances_s *distances, const char *name, const cards *gpus,
                           dsc_machine *out)
{
    matrix m = {distances, calloc(distances->nbobjs + 1, sizeof *m.gpu), gpus->count};
    int64_t found = 0;

    for (unsigned i = 0; i < distances->nbobjs && m.gpu != NULL; i++) {
        m.gpu[i] = find_card(gpus, card_of(distances->objs[i]));
        found += m.gpu[i] >= 0;
    }
    if (m.gpu != NULL && found == gpus->count && found > 0) {
        read_matrix(&m, &out->gpu_link, &out->gpu_host_bytes_per_s);
        if (out->gpu_link.bytes_per_s > 0) snprintf(out->gpu_link.name, sizeof out->gpu_link.name, "%s", name);
    }
    free(m.gpu);
}

static void read_links(hwloc_topology_t topology, const cards *gpus, dsc_machine *out)
{
    static const struct { const char *distances, *link; } kinds[] = {{"NVLinkBandwidth", "nvlink"},
                                                                     {"XGMIBandwidth", "infinity-fabric"}};

    for (int64_t i = 0; i < DSC_COUNT(kinds); i++) {
        struct hwloc_distances_s *distances;
        unsigned count = 1;

        if (hwloc_distances_get_by_name(topology, kinds[i].distances, &count, &distances, 0) != 0 || count == 0)
            continue;
        read_distances(distances, kinds[i].link, gpus, out);
        hwloc_distances_release(topology, distances);
    }
}

/* ---- NICs */

/* Ports of one card are functions of one PCI device, whose link they have in common. */
static bool is_same_card(hwloc_obj_t a, hwloc_obj_t b)
{
    const struct hwloc_pcidev_attr_s *x = &a->attr->pcidev, *y = &b->attr->pcidev;

    return x->domain == y->domain && x->bus == y->bus && x->dev == y->dev;
}

/* Of a port that is up; where nothing is said, it is. */
static bool is_up(hwloc_obj_t device)
{
    static const char active = '4'; /* of InfiniBand's states */
    const char *state = hwloc_obj_get_info_by_name(device, "Port1State");

    return state == NULL || state[0] == active;
}

/* Gbit/s that the user has noted, or what its PCI link leaves. */
static double nic_rate(hwloc_obj_t device, hwloc_obj_t card)
{
    const char *noted = hwloc_obj_get_info_by_name(device, "Rate");
    double rate = noted == NULL ? 0 : sound_rate(strtod(noted, NULL) * 1e9 / 8);

    return rate > 0 ? rate : pci_rate(&card->attr->pcidev);
}

/* The cards of that type that are as fast as the fastest. */
static void count_nics(hwloc_topology_t topology, hwloc_obj_osdev_type_t type, cards *seen, dsc_nic *out)
{
    hwloc_obj_t device = NULL;

    seen->count = 0;
    *out = (dsc_nic){0};
    while ((device = hwloc_get_next_osdev(topology, device)) != NULL) {
        hwloc_obj_t card = card_of(device);
        bool is_new = true;
        double rate;

        if (device->attr->osdev.type != type || card->type != HWLOC_OBJ_PCI_DEVICE || !is_up(device)) continue;
        for (int64_t i = 0; i < seen->count; i++) is_new &= !is_same_card(seen->of[i], card);
        if (!is_new) continue;
        seen->of[seen->count++] = card;
        rate = nic_rate(device, card);
        if (rate > out->bytes_per_s * 1.01) *out = (dsc_nic){.bytes_per_s = rate};
        if (rate > 0) out->count += rate > out->bytes_per_s * 0.99;
    }
}

/* A fabric's, else the network's. */
static void read_nics(hwloc_topology_t topology, cards *seen, dsc_machine *out)
{
    count_nics(topology, HWLOC_OBJ_OSDEV_OPENFABRICS, seen, &out->nics);
    out->has_fabric = out->nics.count > 0;
    if (!out->has_fabric) count_nics(topology, HWLOC_OBJ_OSDEV_NETWORK, seen, &out->nics);
}

dsc_status dsc_hwloc_devices(struct hwloc_topology *topology, dsc_machine *out)
{
    int count = DSC_MAX(hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_OS_DEVICE), 0);
    cards found = {calloc((size_t)count + 1, sizeof *found.of), 0};

    if (found.of == NULL) return DSC_FAIL(DSC_ENOMEM, "hwloc: no memory for %d devices", count);
    list_gpus(topology, out, &found);
    read_pcie(&found, out);
    read_links(topology, &found, out);
    read_nics(topology, &found, out);
    free(found.of);
    return DSC_OK;
}
