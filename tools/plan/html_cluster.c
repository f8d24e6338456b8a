/* The placement: nodes as boxes in those of the tiers that join them, devices in the colour of their pipeline stage. */
#include "tools/plan/html.h"
#include <inttypes.h>
#include <stdlib.h>

enum { AXES = 4, MOST_NODES = 64, MOST_DEVICES = 64 /* of a node */ };

/* What axes are called on devices: coordinates. */
static const int shown_axes[AXES] = {DSC_AXIS_PP, DSC_AXIS_DP, DSC_AXIS_TP, DSC_AXIS_CP};

/* A node of so many devices, which hold ranks first .. first + ranks - 1, and the coordinates that all of these have,
 * by axis: -1 where they differ, or the axis has but one. */
typedef struct node_ranks { int64_t number, first, ranks, devices, common[AXES]; } node_ranks;

/* ---- What an axis goes over */

/* The lowest place that joins two ranks: 0 their node, 1 + the tier's number. */
static dsc_status reach(const evaluation *e, int64_t rank, int64_t other, int64_t *out)
{
    dsc_place here, there;
    dsc_status status = DSC_OK;
    const dsc_tier *tier;

    DSC_TRY(dsc_cluster_place(e->cluster, rank, &here));
    DSC_TRY(dsc_cluster_place(e->cluster, other, &there));
    tier = dsc_cluster_tier(e->cluster, here.node, there.node);
    *out = tier == NULL ? 0 : 1 + (tier - e->cluster->network);
out:
    return status;
}

/* The highest such place of neighbours in the axis' groups, each of which its first rank lists. */
static dsc_status find_farthest(const evaluation *e, int axis, int64_t *out)
{
    int64_t degree = dsc_plan_degree(e->plan, axis), *ranks = malloc((size_t)degree * sizeof *ranks), at;
    dsc_status status = DSC_OK;

    *out = 0;
    if (ranks == NULL) return DSC_FAIL(DSC_ENOMEM, "placement: group of %" PRId64 " ranks", degree);
    for (int64_t rank = 0; rank < e->plan->ranks; rank++) {
        if (dsc_plan_place(e->plan, rank, axis) > 0) continue;
        dsc_plan_group_ranks(e->plan, rank, axis, ranks);
        for (int64_t i = 1; i < degree; i++) {
            DSC_TRY(reach(e, ranks[i - 1], ranks[i], &at));
            *out = DSC_MAX(*out, at);
        }
    }
out:
    free(ranks);
    return status;
}

/* A link between devices of a node, which all nodes have where there is one type of them. */
static void add_inside(const evaluation *e, dsc_text *out)
{
    const dsc_link *link = dsc_node_link(&e->cluster->node_types[0], "device", "device");

    if (link == NULL) {
        dsc_text_add(out, "inside a node");
        return;
    }
    html_escape(link->name, out);
    dsc_text_add(out, " inside a node, %sB/s a device", dsc_count_str(link->bytes_per_s).str);
}

static void add_tier(const evaluation *e, int64_t number, dsc_text *out)
{
    const dsc_tier *tier = &e->cluster->network[number];

    html_escape(tier->name[0] != '\0' ? tier->name : "network", out);
    dsc_text_add(out, ", %sB/s %s", dsc_count_str(tier->bytes_per_s).str,
                 tier->port == DSC_PORT_DEVICE ? "a device" : "a NIC");
    if (tier->topology == DSC_TIER_RAIL) dsc_text_add(out, ", rails");
    if (tier->topology == DSC_TIER_DRAGONFLY) dsc_text_add(out, ", dragonfly");
    if (tier->oversubscription > 1) dsc_text_add(out, ", oversubscribed %g times", tier->oversubscription);
}

static dsc_status add_axis(const evaluation *e, int axis, dsc_text *out)
{
    const dsc_order_cost *cost = &e->plan->order_cost;
    dsc_status status = DSC_OK;
    int64_t farthest;

    DSC_TRY(find_farthest(e, axis, &farthest));
    dsc_text_add(out, "<tr><td>%s</td><td class=\"n\">%" PRId64 "</td><td>", DSC_AXIS_NAMES[axis],
                 dsc_plan_degree(e->plan, axis));
    if (farthest == 0) add_inside(e, out);
    else add_tier(e, farthest - 1, out);
    dsc_text_add(out, "</td><td class=\"n\">");
    if (e->plan->order_reason == DSC_ORDER_CHOSEN) html_ns((int64_t)(cost->axis_ns[axis] + 0.5), out);
    else dsc_text_add(out, "-");
    dsc_text_add(out, "</td></tr>\n");
out:
    return status;
}

/* In the order of ranks, the fastest first; axes of one rank say nothing. */
static dsc_status add_axes(const evaluation *e, dsc_text *out)
{
    static const char *const reasons[] = {[DSC_ORDER_GIVEN] = "as --rank-order says",
                                          [DSC_ORDER_DEFAULT] = "by default: there is nothing to choose by",
                                          [DSC_ORDER_CHOSEN] = "the cheapest of all orders, by links alone"};
    dsc_status status = DSC_OK;

    dsc_text_add(out, "<h3>Axes</h3>\n<p class=\"note\">Order of ranks, fastest first: ");
    for (int i = 0; i < AXES; i++)
        dsc_text_add(out, "%s%s", i > 0 ? ", " : "", DSC_AXIS_NAMES[e->plan->order[i]]);
    dsc_text_add(out, "; %s.</p>\n", reasons[e->plan->order_reason]);
    html_table_begin("axes", "axis|#ranks|neighbours meet over, at the farthest|#messages a step, by links alone", out);
    for (int i = 0; i < AXES; i++)
        if (dsc_plan_degree(e->plan, e->plan->order[i]) > 1) DSC_TRY(add_axis(e, e->plan->order[i], out));
    html_table_end(out);
out:
    return status;
}

/* ---- Nodes */

static void find_common(const dsc_plan *plan, node_ranks *node)
{
    const dsc_coord first = dsc_plan_coord(plan, node->first);

    for (int axis = 0; axis < AXES; axis++)
        node->common[axis] = dsc_plan_coords(plan, axis) > 1 ? first.of[axis] : -1;
    for (int64_t i = 1; i < node->ranks; i++) {
        const dsc_coord coord = dsc_plan_coord(plan, node->first + i);

        for (int axis = 0; axis < AXES; axis++)
            if (coord.of[axis] != first.of[axis]) node->common[axis] = -1;
    }
}

/* From blue to red, in equal steps. */
static int hue_of(const dsc_plan *plan, int64_t stage)
{
    enum { FIRST = 205, SPAN = 170 };

    return FIRST + (int)(stage * SPAN / DSC_MAX(plan->config.strategy.pp - 1, 1));
}

/* What is the same on the whole node stands above it. */
static void add_device(const dsc_plan *plan, const node_ranks *node, int64_t local, dsc_text *out)
{
    dsc_coord coord = dsc_plan_coord(plan, node->first + local);
    bool is_first = true;

    dsc_text_add(out, "<span style=\"--hue:%d\" data-tip=\"rank %" PRId64 ", node %" PRId64 ", device %" PRId64 ":",
                 hue_of(plan, coord.of[DSC_AXIS_PP]), node->first + local, node->number, local);
    for (int i = 0; i < AXES; i++)
        dsc_text_add(out, " %s %" PRId64, DSC_AXIS_NAMES[shown_axes[i]], coord.of[shown_axes[i]]);
    dsc_text_add(out, "\">");
    for (int i = 0; i < AXES; i++) {
        int axis = shown_axes[i];

        if (dsc_plan_coords(plan, axis) == 1 || node->common[axis] >= 0) continue;
        dsc_text_add(out, "%s%s %" PRId64, is_first ? "" : "<br/>", DSC_AXIS_NAMES[axis], coord.of[axis]);
        is_first = false;
    }
    dsc_text_add(out, "%s</span>", is_first ? "&#160;" : "");
}

static void add_node(const dsc_plan *plan, node_ranks *node, dsc_text *out)
{
    const int64_t shown = DSC_MIN(node->ranks, MOST_DEVICES);
    const int64_t idle = DSC_MIN(node->devices - node->ranks, MOST_DEVICES - shown);
    const int64_t across = node->devices <= 4 ? node->devices : node->devices <= 16 ? 4 : 8;

    find_common(plan, node);
    dsc_text_add(out, "<div class=\"node\"><p>node %" PRId64, node->number);
    for (int i = 0; i < AXES; i++) {
        int64_t common = node->common[shown_axes[i]];

        if (common >= 0) dsc_text_add(out, ", %s %" PRId64, DSC_AXIS_NAMES[shown_axes[i]], common);
    }
    dsc_text_add(out, "</p><div class=\"devices\" style=\"--across:%" PRId64 "\">", across);
    for (int64_t i = 0; i < shown; i++) add_device(plan, node, i, out);
    for (int64_t i = 0; i < idle; i++) dsc_text_add(out, "<span class=\"idle\">idle</span>");
    dsc_text_add(out, "</div>");
    if (node->devices > MOST_DEVICES)
        dsc_text_add(out, "<p>and %" PRId64 " more devices</p>", node->devices - MOST_DEVICES);
    dsc_text_add(out, "</div>\n");
}

/* Nodes that hold ranks, in order. Heap. */
static dsc_status list_nodes(const evaluation *e, node_ranks **out, int64_t *count)
{
    int64_t capacity = 0;
    dsc_status status = DSC_OK;
    node_ranks *nodes = NULL;

    *count = 0;
    for (int64_t rank = 0; rank < e->plan->ranks; rank++) {
        dsc_place place;

        DSC_TRY(dsc_cluster_place(e->cluster, rank, &place));
        if (*count == 0 || nodes[*count - 1].number != place.node) {
            node_ranks node = {.number = place.node, .first = rank,
                               .devices = dsc_node_devices(place.node_type)};

            DSC_TRY(DSC_PUSH(nodes, *count, capacity, node));
        }
        nodes[*count - 1].ranks++;
    }
    *out = nodes;
    nodes = NULL;
out:
    free(nodes);
    return status;
}

/* Whether some of the node's ranks are of the first replica. */
static bool has_first_replica(const dsc_plan *plan, const node_ranks *node)
{
    for (int64_t i = 0; i < node->ranks; i++)
        if (dsc_plan_coord(plan, node->first + i).of[DSC_AXIS_DP] == 0) return true;
    return false;
}

/* Opens the boxes of tiers, the farthest first, in which a node lies and the one before did not. Tiers that join all
 * nodes are named above. Returns how many boxes are open. */
static int64_t open_tiers(const evaluation *e, int64_t before, int64_t node, int64_t open, dsc_text *out)
{
    const int64_t nodes = dsc_cluster_nodes(e->cluster);
    int64_t depth = 0;

    for (int64_t i = e->cluster->tier_count - 1; i >= 0; i--) {
        const dsc_tier *tier = &e->cluster->network[i];

        if (tier->nodes >= nodes) continue;
        depth++;
        if (depth <= open && before >= 0 && before / tier->nodes == node / tier->nodes) continue;
        for (; open >= depth; open--) dsc_text_add(out, "</div></div>\n");
        dsc_text_add(out, "<div class=\"tier\"><p>nodes %" PRId64 " to %" PRId64 ": ",
                     node / tier->nodes * tier->nodes,
                     DSC_MIN((node / tier->nodes + 1) * tier->nodes, nodes) - 1);
        add_tier(e, i, out);
        dsc_text_add(out, "</p><div class=\"nodes\">\n");
        open++;
    }
    return open;
}

static void add_nodes(const evaluation *e, node_ranks *nodes, int64_t count, dsc_text *out)
{
    int64_t before = -1, open = 0, shown = 0;

    dsc_text_add(out, "<div class=\"nodes\">\n");
    for (int64_t i = 0; i < count && shown < MOST_NODES; i++) {
        if (count > MOST_NODES && !has_first_replica(e->plan, &nodes[i])) continue;
        open = open_tiers(e, before, nodes[i].number, open, out);
        add_node(e->plan, &nodes[i], out);
        before = nodes[i].number;
        shown++;
    }
    for (; open > 0; open--) dsc_text_add(out, "</div></div>\n");
    dsc_text_add(out, "</div>\n");
    if (shown < count)
        dsc_text_add(out, "<p class=\"note\">And %" PRId64 " nodes more.</p>\n", count - shown);
}

static void add_ramp(const dsc_plan *plan, dsc_text *out)
{
    const int64_t stages = plan->config.strategy.pp, every = dsc_ceil_div(stages, 16);

    if (stages == 1) return;
    dsc_text_add(out, "<ul class=\"legend ramp\">");
    for (int64_t stage = 0; stage < stages; stage += every)
        dsc_text_add(out, "<li><i style=\"--hue:%d\"></i>stage %" PRId64 "</li>", hue_of(plan, stage), stage);
    dsc_text_add(out, "</ul>\n");
}

/* What joins all nodes, and how many there are. */
static void add_whole(const evaluation *e, int64_t count, dsc_text *out)
{
    const int64_t nodes = dsc_cluster_nodes(e->cluster);

    dsc_text_add(out, "<p class=\"note\">Devices of a node are joined by ");
    add_inside(e, out);
    for (int64_t i = 0; i < e->cluster->tier_count && nodes > 1; i++) {
        if (e->cluster->network[i].nodes < nodes) continue;
        dsc_text_add(out, "; all nodes by ");
        add_tier(e, i, out);
    }
    dsc_text_add(out, ". ");
    if (count > MOST_NODES)
        dsc_text_add(out, "Drawn are the nodes of the first replica (dp 0), %d at most. ", MOST_NODES);
    if (count < nodes) dsc_text_add(out, "%" PRId64 " of %" PRId64 " nodes hold no rank.", nodes - count, nodes);
    dsc_text_add(out, "</p>\n");
}

dsc_status html_cluster(const evaluation *e, dsc_text *out)
{
    node_ranks *nodes = NULL;
    int64_t count;
    dsc_status status = DSC_OK;

    DSC_TRY(list_nodes(e, &nodes, &count));
    dsc_text_add(out, "<section id=\"placement\">\n<h2>Placement</h2>\n");
    DSC_TRY(add_axes(e, out));
    dsc_text_add(out, "<h3>Nodes</h3>\n");
    add_whole(e, count, out);
    add_ramp(e->plan, out);
    add_nodes(e, nodes, count, out);
    dsc_text_add(out, "</section>\n");
out:
    free(nodes);
    return status;
}
