#include "sim/price.h"
#include "base/json.h"
#include "sim/fabric.h"
#include "sim/measured.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NS 0x1p60

/* source NULL: an empty slot */
typedef struct price { dsc_shape shape; int64_t ns, launch_ns; const char *source; } price;

/* A plan has few distinct shapes and millions of calls: each shape is priced once. */
struct dsc_prices {
    const dsc_calibration *calibration;
    dsc_measured *measured;        /* NULL without a calibration */
    const dsc_device_type *device; /* the cluster's first */
    const dsc_node_type *node;     /* that it is in */
    const dsc_stack *stack;
    int64_t on_node;               /* ranks there */
    int64_t at_work;               /* ranks of a machine that compute at once, at most one a core */
    double pace;                   /* of all ranks' GPUs, for which each waits, over that of a GPU alone */
    double share;                  /* a core is so many times what the description gives a rank that shares it */
    price *slots; int64_t slot_count, used; /* open addressing; slot_count is a power of two, at most half are used */
    price last;                    /* stands in when memory for the table is out */
};

/* ---- Whether a calibration is of the cluster's machine */

static dsc_status check_machine(const dsc_calibration *calibration, const dsc_node_type *node)
{
    json_t *machine = calibration->machine == NULL ? NULL : json_loads(calibration->machine, 0, NULL);
    void *types = json_object_iter(json_object_get(machine, "node_types"));
    json_t *type = types == NULL ? NULL : json_object_iter_value(types);
    const char *name = json_string_value(json_object_get(json_array_get(json_object_get(type, "devices"), 0), "name"));
    const int64_t cores = json_integer_value(json_object_get(type, "cores"));
    const dsc_device_type *device = &node->devices[0];
    dsc_status status = DSC_OK;

    if (name == NULL)
        status = DSC_FAIL(DSC_EINVAL, "the calibration does not say which machine it measured");
    else if (strcmp(name, device->name) != 0)
        status = DSC_FAIL(DSC_EINVAL, "the calibration is of %s, the cluster has %s", name, device->name);
    else if (!device->is_gpu && cores != node->cores)
        status = DSC_FAIL(DSC_EINVAL, "the calibration is of a machine of %lld cores, the cluster's nodes have %lld",
                          (long long)cores, (long long)node->cores);
    json_decref(machine);
    return status;
}

/* How many standard deviations the largest of n normal values lies above the mean (Cramer 1946, 28.6). */
static double largest_of(int64_t n)
{
    const double root = sqrt(2 * log((double)DSC_MAX(n, 2)));

    return n < 2 ? 0 : root - (log(root * root / 2) + log(4 * M_PI)) / (2 * root);
}

static double pace_of(const dsc_stack *stack, int64_t ranks)
{
    return (1 + stack->spread * largest_of(ranks)) / (1 - stack->beside);
}

dsc_status dsc_prices_create(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_calibration *calibration,
                             const dsc_stack *stack, dsc_prices **out)
{
    dsc_prices *prices = calloc(1, sizeof *prices);
    dsc_place place;
    dsc_status status = DSC_OK;
    int64_t devices = 0;

    if (prices == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "prices: %zu bytes", sizeof *prices);
        goto out;
    }
    DSC_TRY(dsc_cluster_place(cluster, 0, &place));
    for (int64_t i = 0; i < place.node_type->device_types; i++) devices += place.node_type->devices[i].count;
    prices->device = place.device;
    prices->node = place.node_type;
    prices->stack = stack == NULL ? dsc_stack_find("dsc", NULL, NULL) : stack;
    prices->on_node = DSC_MIN(devices, plan->ranks);
    prices->at_work = DSC_MIN(devices * DSC_MAX(place.node_type->nodes_per_machine, 1), plan->ranks);
    prices->share = 1;
    prices->pace = pace_of(prices->stack, plan->ranks);
    if (!place.device->is_gpu && prices->at_work > place.node_type->cores) {
        prices->share = fmax((double)DSC_MIN(devices, plan->ranks) / (double)place.node_type->cores, 1);
        prices->at_work = place.node_type->cores;
    }
    if (calibration != NULL) {
        DSC_TRY(check_machine(calibration, place.node_type));
        DSC_TRY(dsc_measured_create(calibration, &prices->measured));
        prices->calibration = calibration;
    }
    *out = prices;
    prices = NULL;
out:
    dsc_prices_destroy(prices);
    return status;
}

void dsc_prices_destroy(dsc_prices *prices)
{
    if (prices == NULL) return;
    dsc_measured_destroy(prices->measured);
    free(prices->slots);
    free(prices);
}

const dsc_calibration *dsc_prices_calibration(const dsc_prices *prices) { return prices->calibration; }
const dsc_stack *dsc_prices_stack(const dsc_prices *prices) { return prices->stack; }

/* ---- Prices of a described device: a preset's table, or shares that any device reaches */

static const dsc_efficiency any_gpu = {.product = 0.6, .attention = 0.4, .memory = 0.75, .launch_ns = 4000};
static const dsc_efficiency any_cpu = {.product = 0.7, .attention = 0.4, .memory = 0.6, .launch_ns = 1000};

static bool has_table(const dsc_device_type *device) { return device->efficiency.product > 0; }

static const dsc_efficiency *efficiency_of(const dsc_device_type *device)
{
    if (has_table(device)) return &device->efficiency;
    return device->is_gpu ? &any_gpu : &any_cpu;
}

/* The share of the multiprocessors' tiles that hold elements of out[m,n]: products are computed in whole tiles, and
 * tiles in whole waves of one a multiprocessor. */
static double filled(int64_t m, int64_t n, int64_t tile_m, int64_t tile_n, int64_t processors)
{
    const int64_t tiles = dsc_ceil_div(m, tile_m) * dsc_ceil_div(n, tile_n);
    const int64_t computed = processors == 0 ? tiles : dsc_round_up(tiles, processors);

    return (double)m * (double)n / ((double)computed * (double)tile_m * (double)tile_n);
}

/* Libraries choose the tile: smaller ones fill waves better and read operands more often. */
static double quantization(const dsc_efficiency *efficiency, int64_t m, int64_t n)
{
    static const struct { int64_t part_m, part_n; double reached; } tiles[] = {{1, 1, 1}, {2, 1, 0.94}, {2, 2, 0.82}};
    double best = 0;

    if (efficiency->tile_m == 0 || efficiency->tile_n == 0) return 1;
    for (int64_t i = 0; i < DSC_COUNT(tiles); i++)
        best = fmax(best, tiles[i].reached * filled(m, n, DSC_MAX(efficiency->tile_m / tiles[i].part_m, 1),
                                                    DSC_MAX(efficiency->tile_n / tiles[i].part_n, 1),
                                                    efficiency->multiprocessors));
    return best;
}

/* Of many small products, whose inner or outer dimension is a head's, over that of large ones. */
static const double BATCHED = 0.65;

/* Of attention by parts of a sequence, whose results are joined, over that of whole ones. */
static const double IN_PARTS = 0.75;

static double product_share(const dsc_efficiency *efficiency, int type)
{
    return type == DSC_FP8 && efficiency->product_fp8 > 0 ? efficiency->product_fp8 : efficiency->product;
}

/* The share of the peak that the kernel's arithmetic reaches; 0 when it is its bytes that take the time. */
static double share_of_peak(const dsc_efficiency *efficiency, const dsc_shape *shape)
{
    switch ((dsc_kernel)shape->kernel) {
    case DSC_K_GEMM:
        return product_share(efficiency, shape->type) * quantization(efficiency, shape->d[0], shape->d[1]);
    case DSC_K_SCORES_FWD:
    case DSC_K_SCORES_BWD: return efficiency->product * BATCHED;
    case DSC_K_ATTENTION_PART_FWD:
    case DSC_K_ATTENTION_PART_BWD: return efficiency->attention * IN_PARTS;
    case DSC_K_ATTENTION_FWD:
    case DSC_K_ATTENTION_BWD:
    case DSC_K_BLOCK_SDD:
    case DSC_K_BLOCK_DSD:
    case DSC_K_BLOCK_DDS: return efficiency->attention;
    default: return 0;
    }
}

/* What goes by kernels of its own beside a product, where the software does not fuse it with the product. */
static double beside_bytes(const dsc_stack *stack, const dsc_shape *shape)
{
    double each = 0;

    if (shape->kernel != DSC_K_GEMM) return 0;
    if (shape->flags & DSC_HAS_RESIDUAL) each += stack->residual;
    if (shape->flags & DSC_ACCUMULATE) each += stack->accumulation;
    return each * (double)shape->d[0] * (double)shape->d[1];
}

/* Kernels one after the other take the time of both; one alone that of what takes longer. */
static double described_ns(const dsc_device_type *device, const dsc_stack *stack, const dsc_shape *shape, int *launches)
{
    const dsc_handling handling = dsc_stack_handling(stack, shape);
    const dsc_efficiency *efficiency = efficiency_of(device);
    const double share = share_of_peak(efficiency, shape);
    const double typed_peak = device->peak_flops[shape->type];
    const double peak = typed_peak > 0 ? typed_peak : device->peak_flops[DSC_FP32];
    const double rate = device->bandwidth_bytes_per_s * efficiency->memory;
    const double bytes = (double)dsc_kernel_bytes(shape) * handling.traffic + handling.each * dsc_stack_elems(shape);
    const double memory_s = rate > 0 ? bytes / rate : 0;
    const double compute_s = share > 0 && peak > 0 ? (double)dsc_kernel_flops(shape) / (peak * share) : 0;
    const double beside_s = rate > 0 ? beside_bytes(stack, shape) / rate : 0;
    const double kernels_s = (handling.launches > 1 ? memory_s + compute_s : DSC_MAX(memory_s, compute_s)) + beside_s;

    *launches = handling.launches + (beside_s > 0);
    return *launches * (double)efficiency->launch_ns + 1e9 * kernels_s;
}

/* ---- Looking up */

/* A time of at least 1 ns, and no longer than what is refused when it is to happen. */
static int64_t bounded(double ns) { return DSC_MAX((int64_t)fmin(ns, MOST_NS), 1); }

static price make_price(const dsc_prices *prices, const dsc_shape *shape)
{
    const dsc_device_type *device = prices->device;
    bool is_sample = false;
    int launches = 0;
    double ns = 0;

    if (prices->measured != NULL)
        ns = dsc_measured_ns(prices->measured, shape, prices->at_work, !device->is_gpu, &is_sample);
    if (ns > 0) return (price){*shape, bounded(ns + 0.5), 0, is_sample ? "measured" : "interpolated"};
    ns = described_ns(device, prices->stack, shape, &launches) * prices->pace / prices->share;
    return (price){*shape, bounded(ns + 0.5), launches * prices->stack->host_ns,
                   has_table(device) ? "preset" : "first principles"};
}

/* The slot that holds the shape, or the empty one where it belongs. FNV-1a over words. */
static price *find_slot(price *slots, int64_t slot_count, const dsc_shape *shape)
{
    uint64_t words[sizeof *shape / 8], hash = 0xcbf29ce484222325;

    memcpy(words, shape, sizeof words);
    for (int64_t i = 0; i < DSC_COUNT(words); i++) hash = (hash ^ words[i]) * 0x100000001b3, hash ^= hash >> 29;
    for (uint64_t at = hash;; at++) {
        price *slot = &slots[at & (uint64_t)(slot_count - 1)];

        if (slot->source == NULL || memcmp(&slot->shape, shape, sizeof *shape) == 0) return slot;
    }
}

static bool grow(dsc_prices *prices)
{
    const int64_t count = DSC_MAX(256, 2 * prices->slot_count);
    price *slots = calloc((size_t)count, sizeof *slots);

    if (slots == NULL) return false;
    for (int64_t i = 0; i < prices->slot_count; i++)
        if (prices->slots[i].source != NULL) *find_slot(slots, count, &prices->slots[i].shape) = prices->slots[i];
    free(prices->slots);
    prices->slots = slots;
    prices->slot_count = count;
    return true;
}

static const price *find_price(dsc_prices *prices, const dsc_shape *shape)
{
    if (2 * prices->used >= prices->slot_count && !grow(prices)) {
        prices->last = make_price(prices, shape);
        return &prices->last;
    }
    price *slot = find_slot(prices->slots, prices->slot_count, shape);
    if (slot->source == NULL) {
        *slot = make_price(prices, shape);
        prices->used++;
    }
    return slot;
}

int64_t dsc_price_call(dsc_prices *prices, const dsc_shape *shape) { return find_price(prices, shape)->ns; }
int64_t dsc_price_launch(dsc_prices *prices, const dsc_shape *shape) { return find_price(prices, shape)->launch_ns; }
const char *dsc_price_source(dsc_prices *prices, const dsc_shape *shape) { return find_price(prices, shape)->source; }

/* ---- Host memory */

/* Beside a GPU the host's kernels are those of optimizers, bound by memory: the node's ranks share its rate, of which
 * streams that are read and written reach about this much. What a host is that nobody described: two sockets of eight
 * channels of DDR4-3200. */
static const double host_share = 0.8, any_host_bytes_per_s = 409.6e9;

int64_t dsc_price_host_call(dsc_prices *prices, const dsc_shape *shape)
{
    const double known = prices->node->host_bandwidth_bytes_per_s;
    const double rate = (known > 0 ? known : any_host_bytes_per_s) / (double)prices->on_node;

    if (!prices->device->is_gpu) return dsc_price_call(prices, shape);
    return bounded(1e9 * (double)dsc_kernel_bytes(shape) / (rate * host_share));
}

const char *dsc_price_host_source(dsc_prices *prices, const dsc_shape *shape)
{
    return prices->device->is_gpu ? "host memory" : dsc_price_source(prices, shape);
}

/* Between the nearest measured sizes; past the largest at its rate, below the smallest no less. 0: nothing is known. */
static double measured_copy_ns(const dsc_calibration *calibration, const char *from, int64_t bytes)
{
    const dsc_copy_sample *below = NULL, *above = NULL;
    double share;

    for (int64_t i = 0; calibration != NULL && i < calibration->copy_count; i++) {
        const dsc_copy_sample *s = &calibration->copies[i];

        if (strcmp(s->from, from) != 0 || s->bytes <= 0) continue;
        if (s->bytes <= bytes && (below == NULL || s->bytes > below->bytes)) below = s;
        if (s->bytes >= bytes && (above == NULL || s->bytes < above->bytes)) above = s;
    }
    if (below == NULL) return above == NULL ? 0 : (double)above->time_ns;
    if (above == NULL) return (double)below->time_ns * (double)bytes / (double)below->bytes;
    share = above->bytes == below->bytes ? 0 : (double)(bytes - below->bytes) / (double)(above->bytes - below->bytes);
    return (double)below->time_ns + share * (double)(above->time_ns - below->time_ns);
}

/* On a CPU a copy reads and writes the one memory of which the rank has its share. */
int64_t dsc_price_copy(const dsc_prices *prices, bool is_out, int64_t bytes)
{
    const dsc_link *link = dsc_node_link(prices->node, "device", "host");
    const double memory_rate = prices->device->bandwidth_bytes_per_s / 2 * prices->share;
    double rate = link == NULL ? DSC_LINK_BYTES_PER_S : link->bytes_per_s;
    double ns = measured_copy_ns(prices->calibration, is_out ? "device" : "host", bytes);

    if (!prices->device->is_gpu) rate = link == NULL ? memory_rate : fmin(link->bytes_per_s, memory_rate);
    if (ns <= 0) ns = (link == NULL ? 0 : (double)link->latency_ns) + 1e9 * (double)bytes / rate;
    return bounded(ns);
}

int64_t dsc_price_op_overhead(const dsc_prices *prices)
{
    enum { CPU_OVERHEAD_NS = 2000 }; /* two clock readings and a wake-up, where nothing was measured */

    const dsc_calibration *calibration = prices->calibration;

    if (calibration != NULL && calibration->op_overhead_ns > 0) return calibration->op_overhead_ns;
    return prices->device->is_gpu ? 0 : CPU_OVERHEAD_NS;
}

int64_t dsc_price_copy_latency(const dsc_prices *prices, bool is_out)
{
    const dsc_link *link = dsc_node_link(prices->node, "device", "host");
    const bool is_measured = measured_copy_ns(prices->calibration, is_out ? "device" : "host", 0) > 0;

    return dsc_price_op_overhead(prices) + (link == NULL || is_measured ? 0 : link->latency_ns);
}

/* ---- Ops */

int64_t dsc_price_op(dsc_prices *prices, const dsc_template *template_, const dsc_op *op)
{
    const int64_t most_ns = (int64_t)MOST_NS;
    int64_t sum = dsc_price_op_overhead(prices);

    if (dsc_op_is_copy(op->kind)) sum += dsc_price_copy(prices, op->lane == DSC_LANE_COPY_OUT, op->bytes);
    for (int32_t c = 0; c < op->calls; c++) {
        const dsc_shape *shape = &template_->calls[op->first_call + c].shape;
        int64_t ns = op->lane == DSC_LANE_HOST ? dsc_price_host_call(prices, shape) : dsc_price_call(prices, shape);

        sum = DSC_MIN(sum + DSC_MIN(ns, most_ns), most_ns);
    }
    return sum;
}

/* Whether the host begins the template's pass with it. */
static bool is_first(const dsc_template *template_, const dsc_op *op)
{
    const dsc_op *first = template_->ops;

    while (first < op && first->lane != DSC_LANE_COMPUTE) first++;
    return first == op && op->lane == DSC_LANE_COMPUTE;
}

static int64_t messages_of(const dsc_template *template_)
{
    int64_t count = 0;

    for (int64_t i = 0; i < template_->op_count; i++)
        count += template_->ops[i].kind == DSC_OP_SEND || template_->ops[i].kind == DSC_OP_RECV;
    return count;
}

int64_t dsc_price_op_launches(dsc_prices *prices, const dsc_template *template_, const dsc_op *op)
{
    int64_t sum = 0;

    for (int32_t c = 0; c < op->calls && op->lane != DSC_LANE_HOST; c++)
        sum += dsc_price_launch(prices, &template_->calls[op->first_call + c].shape);
    if (is_first(template_, op)) sum += messages_of(template_) * prices->stack->message_ns;
    return sum;
}
