#include "tests/sim/platform.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>

/* Both directions of something: to the world, and from it. */
typedef struct both { int out, in; } both;

typedef struct platform {
    const dsc_cluster *cluster;
    const dsc_node_type *type;
    int64_t nodes, each, nics; /* devices of a node; NICs that devices see */
    both *ports;               /* [nodes * each] of devices to each other; of a ring to the next, from the next */
    both *cards;               /* [nodes * nics] */
    int *trunks;               /* [nodes] */
    both *uplinks[8];          /* [tier][unit] */
    replay *out;
} platform;

static int add_link(platform *p, double bytes_per_s)
{
    replay *r = p->out;

    CHECK_OK(DSC_PUSH(r->links, r->link_count, r->link_capacity, (replay_link){bytes_per_s}));
    return (int)r->link_count - 1;
}

static both *add_links(platform *p, int64_t count, double bytes_per_s)
{
    both *links = calloc((size_t)DSC_MAX(count, 0), sizeof *links);

    for (int64_t i = 0; i < count; i++) {
        links[i].out = add_link(p, bytes_per_s);
        links[i].in = add_link(p, bytes_per_s);
    }
    return links;
}

static const dsc_link *inside_link(const platform *p)
{
    const dsc_link *link = dsc_node_link(p->type, "device", "device");

    return link != NULL ? link : dsc_node_link(p->type, "device", "host");
}

/* Nodes of one unit that enters the tier. */
static int64_t unit_of(const platform *p, int64_t tier) { return tier == 0 ? 1 : p->cluster->network[tier - 1].nodes; }

static void add_resources(platform *p)
{
    const dsc_link *link = inside_link(p);
    double card_rates = 0;
    int64_t cards = 0;

    p->ports = add_links(p, p->nodes * p->each, link->bytes_per_s);
    p->trunks = calloc((size_t)p->nodes, sizeof *p->trunks);
    for (int64_t node = 0; node < p->nodes; node++) p->trunks[node] = add_link(p, link->bytes_per_s);
    for (int64_t i = 0; i < p->type->nic_count; i++) {
        cards += p->type->nics[i].count;
        card_rates += (double)p->type->nics[i].count * p->type->nics[i].bytes_per_s;
    }
    p->nics = DSC_MIN(cards, p->each);
    p->cards = add_links(p, p->nodes * p->nics, card_rates / (double)p->nics);
    for (int64_t t = 0; t < p->cluster->tier_count; t++) {
        const dsc_tier *tier = &p->cluster->network[t];

        p->uplinks[t] = add_links(p, dsc_ceil_div(p->nodes, unit_of(p, t)),
                                  tier->bytes_per_s * (double)(cards * unit_of(p, t)) / tier->oversubscription);
    }
}

static void hop(platform *p, int link)
{
    replay *r = p->out;

    CHECK_OK(DSC_PUSH(r->hops, r->hop_count, r->hop_capacity, link));
    r->routes[r->route_count - 1].count++;
}

/* Round a ring the shorter way, from neighbour to neighbour. */
static int64_t go_round(platform *p, int64_t node, int64_t from, int64_t to)
{
    const both *ports = p->ports + node * p->each;
    int64_t ahead = (to - from + p->each) % p->each, steps = DSC_MIN(ahead, p->each - ahead);

    for (int64_t i = 0; i < steps; i++)
        hop(p, ahead == steps ? ports[(from + i) % p->each].out : ports[(from - i + p->each) % p->each].in);
    return steps;
}

/* Nanoseconds of latency. */
static int64_t go_inside(platform *p, int64_t a, int64_t b)
{
    const dsc_link *link = inside_link(p);
    int64_t node = a / p->each;

    if (link->topology == DSC_RING) return link->latency_ns * go_round(p, node, a % p->each, b % p->each);
    hop(p, p->ports[a].out);
    if (link->topology == DSC_TREE) hop(p, p->trunks[node]);
    hop(p, p->ports[b].in);
    return link->latency_ns;
}

static int64_t go_between(platform *p, int64_t a, int64_t b)
{
    int64_t from = a / p->each, to = b / p->each, latency = 0, t = 0;

    for (int64_t i = 0; i < p->type->nic_count; i++) latency = DSC_MAX(latency, p->type->nics[i].latency_ns);
    hop(p, p->cards[from * p->nics + a % p->each * p->nics / p->each].out);
    hop(p, p->cards[to * p->nics + b % p->each * p->nics / p->each].in);
    for (;; t++) {
        const dsc_tier *tier = &p->cluster->network[t];

        hop(p, p->uplinks[t][from / unit_of(p, t)].out);
        hop(p, p->uplinks[t][to / unit_of(p, t)].in);
        if (t + 1 == p->cluster->tier_count || from / tier->nodes == to / tier->nodes)
            return latency + tier->latency_ns;
    }
}

static void add_routes(platform *p)
{
    replay *r = p->out;

    for (int64_t a = 0; a < p->nodes * p->each; a++)
        for (int64_t b = 0; b < p->nodes * p->each; b++) {
            int64_t latency;

            if (a == b) continue;
            CHECK_OK(DSC_PUSH(r->routes, r->route_count, r->route_capacity,
                              ((replay_route){.from = (int)a, .to = (int)b, .first = r->hop_count})));
            latency = a / p->each == b / p->each ? go_inside(p, a, b) : go_between(p, a, b);
            r->routes[r->route_count - 1].latency_s = (double)latency / 1e9;
        }
}

void platform_of(const dsc_cluster *cluster, replay *out)
{
    platform p = {.cluster = cluster, .type = cluster->node_types, .nodes = dsc_cluster_nodes(cluster),
                  .each = dsc_node_devices(cluster->node_types), .out = out};

    out->hosts = (int)dsc_cluster_devices(cluster);
    add_resources(&p);
    add_routes(&p);
    free(p.ports);
    free(p.cards);
    free(p.trunks);
    for (int64_t t = 0; t < cluster->tier_count; t++) free(p.uplinks[t]);
}
