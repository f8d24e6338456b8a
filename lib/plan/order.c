/* Which axis' neighbours sit on neighbouring devices. Of all orders of the axes the one is chosen whose messages take
 * the least time when each axis has the links for itself. Only degrees, strides and the sizes of nodes and tiers enter,
 * so that the number of ranks does not. Volumes: Narayanan et al. 2021, section 3; rings for all sums. */
#include "plan/parts.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { AXES = 4, ORDERS = 24 };

/* What a rank sends along an axis in a step. */
typedef struct traffic { double bytes, messages; } traffic;

/* One level of the network: blocks of so many ranks, and what leaves a block. Level 0 is a node. */
typedef struct level {
    char name[32];
    int64_t ranks;
    double bytes_per_s; /* of a block's ports together, one direction */
    double latency_ns;
} level;

enum { MOST_LEVELS = 16 };

typedef struct machine {
    const dsc_link *inside; /* of a node */
    level levels[MOST_LEVELS];
    int level_count;
    traffic sent[AXES];     /* by axis, in any order */
} machine;

/* ---- Volumes */

/* Megatron's layer has two sums forward and two backward, two more where it is computed again: of b s C elements each,
 * of which a ring sends 2 (t - 1) / t, in as many messages as it has rounds. */
static traffic tensor_traffic(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;
    double elems = (double)s->micro_batch * (double)s->seq_len / (double)s->cp * (double)plan->model.hidden;
    double t = (double)s->tp;
    double sums = (s->recompute == DSC_RECOMPUTE_FULL ? 6 : 4) * (double)plan->model.layers / (double)s->pp *
                  (double)plan->micro_batches;

    return (traffic){sums * 2 * (t - 1) / t * elems * (double)dsc_dtype_bytes(plan->type), sums * 2 * (t - 1)};
}

/* A ring over the rank's gradients, in buckets. */
static traffic data_traffic(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;
    double elems = (double)dsc_model_parameters(&plan->model) / (double)s->tp / (double)s->pp;
    double d = (double)dsc_plan_degree(plan, DSC_AXIS_DP);
    const double tensors = 16 * ((double)plan->model.layers / (double)s->pp + 1); /* a bucket has one at least */
    double buckets = fmin(ceil(elems / (double)s->bucket_elems), tensors);

    return (traffic){2 * (d - 1) / d * elems * (double)dsc_dtype_bytes(plan->gradient_type), buckets * 2 * (d - 1)};
}

/* Activations to the next stage and gradients to the one before, for each chunk. */
static traffic pipeline_traffic(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;
    double messages = 2 * (double)plan->micro_batches * (double)s->virtual_stages;
    double elems = (double)s->micro_batch * (double)s->seq_len / (double)s->cp * (double)plan->model.hidden;

    return (traffic){messages * elems * (double)dsc_dtype_bytes(plan->type), messages};
}

/* Keys and values of all ranks, gathered forward and again backward, and their gradients scattered. */
static traffic context_traffic(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;
    const dsc_model *m = &plan->model;
    double columns = 2.0 * (double)m->kv_heads / (double)s->tp * (double)(m->hidden / m->heads), c = (double)s->cp;
    double elems = (double)s->micro_batch * (double)s->seq_len * columns;
    double rings = 3 * (double)m->layers / (double)s->pp * (double)plan->micro_batches;

    return (traffic){rings * (c - 1) / c * elems * (double)dsc_dtype_bytes(plan->type), rings * (c - 1)};
}

static traffic traffic_of(const dsc_plan *plan, int axis)
{
    if (dsc_plan_degree(plan, axis) == 1) return (traffic){0};
    switch (axis) {
    case DSC_AXIS_TP: return tensor_traffic(plan);
    case DSC_AXIS_CP: return context_traffic(plan);
    case DSC_AXIS_DP: return data_traffic(plan);
    case DSC_AXIS_PP: return pipeline_traffic(plan);
    default: return (traffic){0};
    }
}

/* ---- Links */

static void add_level(machine *m, const char *name, int64_t ranks, double bytes_per_s, double latency_ns)
{
    level *next = &m->levels[m->level_count];

    if (m->level_count == MOST_LEVELS) return;
    snprintf(next->name, sizeof next->name, "%s", name);
    next->ranks = ranks;
    next->bytes_per_s = bytes_per_s;
    next->latency_ns = latency_ns;
    m->level_count++;
}

/* What leaves a node passes its NICs, or its devices' own ports, and the first tier; what leaves the nodes that a tier
 * joins passes the next tier.
 * Nodes of several types count as the smallest. False: the description says too little. */
static bool read_machine(const dsc_cluster *cluster, machine *m)
{
    const dsc_node_type *node = NULL;
    int64_t on_node = INT64_MAX, nics = 0, below = 1;
    double nic_bytes_per_s = 0, latency_ns = 0;
    bool is_joined = false;

    for (int64_t i = 0; i < cluster->node_group_count; i++) {
        const dsc_node_type *type = &cluster->node_types[cluster->nodes[i].type];

        if (dsc_node_devices(type) >= on_node) continue;
        node = type;
        on_node = dsc_node_devices(type);
    }
    if (node == NULL) return false;
    m->inside = dsc_node_link(node, "device", "device");
    for (int64_t i = 0; i < node->nic_count; i++) {
        nics += node->nics[i].count;
        nic_bytes_per_s += (double)node->nics[i].count * node->nics[i].bytes_per_s;
        latency_ns = DSC_MAX(latency_ns, (double)node->nics[i].latency_ns);
    }
    for (int64_t i = 0; i < cluster->tier_count; i++) {
        const dsc_tier *tier = &cluster->network[i];
        bool by_device = tier->port == DSC_PORT_DEVICE && m->inside != NULL;
        double ports = fmin((double)nics * tier->bytes_per_s, nic_bytes_per_s), latency = latency_ns;

        if (by_device) {
            ports = (double)on_node * fmin(tier->bytes_per_s, m->inside->bytes_per_s);
            latency = (double)m->inside->latency_ns;
        }
        ports /= fmax(tier->oversubscription, 1) * dsc_cluster_hops(cluster, i);
        add_level(m, tier->name, below * on_node, (double)below * ports, latency + (double)tier->latency_ns);
        below = tier->nodes;
        is_joined = by_device || nics > 0;
    }
    return m->inside != NULL && is_joined;
}

/* Groups of an axis lie in blocks of stride * degree consecutive ranks; if a boundary of the level falls inside such a
 * block, some group lies on both sides of it. */
static bool crosses(const dsc_plan *plan, const level *at, int64_t block)
{
    return plan->ranks > at->ranks && at->ranks % block != 0;
}

/* Time and link of an axis at this stride: by the slowest level that it crosses. As many of a level's groups leave
 * it as there are ranks between neighbours, and share its ports. */
static void price_axis(const dsc_plan *plan, const machine *m, int axis, int64_t stride, dsc_order_cost *cost)
{
    const traffic sent = m->sent[axis];
    int64_t degree = dsc_plan_degree(plan, axis);
    double rate = m->inside->bytes_per_s, latency_ns = (double)m->inside->latency_ns;

    if (degree == 1) return;
    snprintf(cost->link[axis], sizeof cost->link[axis], "%s", m->inside->name);
    for (int i = 0; i < m->level_count; i++) {
        const level *at = &m->levels[i];
        double share = at->bytes_per_s / (double)DSC_MIN(stride, at->ranks);

        if (!crosses(plan, at, stride * degree)) continue;
        latency_ns = fmax(latency_ns, at->latency_ns);
        if (share >= rate) continue;
        rate = share;
        snprintf(cost->link[axis], sizeof cost->link[axis], "%s", at->name);
    }
    cost->axis_ns[axis] = sent.bytes / rate * 1e9 + sent.messages * latency_ns;
    cost->ns += cost->axis_ns[axis];
}

/* ---- Orders */

/* The number-th order, lexicographically from tp, cp, dp, pp. */
static void make_order(int number, int order[AXES])
{
    static const int radix[AXES] = {6, 2, 1, 1};
    int left[AXES] = {DSC_AXIS_TP, DSC_AXIS_CP, DSC_AXIS_DP, DSC_AXIS_PP};

    for (int place = 0; place < AXES; place++) {
        int pick = number / radix[place];

        number %= radix[place];
        order[place] = left[pick];
        memmove(left + pick, left + pick + 1, (size_t)(AXES - 1 - pick) * sizeof *left);
    }
}

/* Data groups go along cp and dp, which have to be neighbours. */
static bool is_order_legal(const dsc_plan *plan, const int order[AXES])
{
    int cp = 0, dp = 0;

    if (dsc_plan_coords(plan, DSC_AXIS_CP) == 1 || dsc_plan_coords(plan, DSC_AXIS_DP) == 1) return true;
    for (int last = -1, place = 0; place < AXES; place++) {
        if (dsc_plan_coords(plan, order[place]) == 1) continue;
        last++;
        if (order[place] == DSC_AXIS_CP) cp = last;
        if (order[place] == DSC_AXIS_DP) dp = last;
    }
    return cp - dp == 1 || dp - cp == 1;
}

/* cost->ns is infinite for an order that cannot be. */
static dsc_order_cost price_order(const dsc_plan *plan, const machine *m, int number)
{
    dsc_order_cost cost = {.ns = 0};
    int64_t stride = 1, strides[AXES];

    make_order(number, cost.order);
    if (!is_order_legal(plan, cost.order)) cost.ns = INFINITY;
    for (int place = 0; place < AXES; place++) {
        strides[cost.order[place]] = stride;
        stride *= dsc_plan_coords(plan, cost.order[place]);
    }
    if (dsc_plan_coords(plan, DSC_AXIS_CP) > 1)
        strides[DSC_AXIS_DP] = dsc_plan_coords(plan, DSC_AXIS_DP) == 1
                                   ? strides[DSC_AXIS_CP]
                                   : DSC_MIN(strides[DSC_AXIS_CP], strides[DSC_AXIS_DP]);
    for (int place = 0; place < AXES; place++)
        price_axis(plan, m, cost.order[place], strides[cost.order[place]], &cost);
    return cost;
}

bool dsc_plan_order_is_legal(const dsc_plan *plan) { return is_order_legal(plan, plan->order); }

/* Whether two orders put ranks at the same places: axes of degree 1 move nothing. */
static bool is_same(const dsc_plan *plan, const int *a, const int *b)
{
    for (int i = 0, j = 0;; i++, j++) {
        while (i < AXES && dsc_plan_coords(plan, a[i]) == 1) i++;
        while (j < AXES && dsc_plan_coords(plan, b[j]) == 1) j++;
        if (i == AXES || j == AXES) return true;
        if (a[i] != b[j]) return false;
    }
}

/* Cheaper by more than sums of doubles differ by their order. */
static bool is_cheaper(double ns, double than)
{
    return ns < than * (1 - 1e-9);
}

void dsc_plan_choose_order(dsc_plan *plan, const dsc_cluster *cluster)
{
    machine m = {.inside = NULL};
    dsc_order_cost costs[ORDERS];
    bool has_next = false;

    plan->order_reason = DSC_ORDER_DEFAULT;
    if (!read_machine(cluster, &m) || plan->ranks <= m.levels[0].ranks) return;
    for (int axis = 0; axis < AXES; axis++) m.sent[axis] = traffic_of(plan, axis);
    for (int i = 0; i < ORDERS; i++) {
        costs[i] = price_order(plan, &m, i);
        if (i == 0 || is_cheaper(costs[i].ns, plan->order_cost.ns)) plan->order_cost = costs[i];
    }
    for (int i = 0; i < ORDERS; i++) {
        if (is_same(plan, costs[i].order, plan->order_cost.order) || isinf(costs[i].ns)) continue;
        if (has_next && !is_cheaper(costs[i].ns, plan->next_cost.ns)) continue;
        plan->next_cost = costs[i];
        has_next = true;
    }
    if (!has_next) return;
    plan->order_reason = DSC_ORDER_CHOSEN;
    memcpy(plan->order, plan->order_cost.order, sizeof plan->order);
}
