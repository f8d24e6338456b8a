/* Our event engine beside SimGrid's fluid model of networks, on random small clusters: the same machine, built from its
 * description by another hand (platform.c), and the same program, whose collectives are unrolled into the messages that
 * sim/collective.h says they are. Times may differ by 5 %.
 *
 * What is compared: paths, latencies, sharing of links by all that moves at once, waiting of ranks, lanes and ops. What
 * is not, since the messages follow our definition: the choice of algorithm; that phases of a hierarchy do not overlap,
 * that a tree loads links as a ring does, and that an all-to-all pays its rounds' latencies before all pairs' bytes
 * move together. */
#include "program/schedule.h"
#include "sim/collective.h"
#include "tests/sim/platform.h"
#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 32, UNIT = 1 << 18 };

/* ---- Messages that collectives are made of. at[m] is what member m waits for before it goes on. */

static int64_t add_task(replay *r, replay_kind kind, int64_t from, int64_t to, double amount)
{
    replay_task task = {kind, (int)from, (int)to, amount};

    CHECK_OK(DSC_PUSH(r->tasks, r->task_count, r->task_capacity, task));
    return r->task_count - 1;
}

static void add_order(replay *r, int64_t task, int64_t after)
{
    CHECK_OK(DSC_PUSH(r->orders, r->order_count, r->order_capacity, ((replay_order){task, after})));
}

/* Over when both are. */
static int64_t add_join(replay *r, int64_t rank, int64_t one, int64_t other)
{
    int64_t join = add_task(r, REPLAY_COMPUTE, rank, rank, 0);

    add_order(r, join, one);
    add_order(r, join, other);
    return join;
}

/* A message that begins when both ends are there: its first task; *end is its last. bytes 0: latency only. */
static int64_t add_message(replay *r, int64_t from, int64_t to, double bytes, int64_t *end)
{
    int64_t wait = add_task(r, REPLAY_WAIT, from, to, 0);

    *end = wait;
    if (bytes > 0) {
        *end = add_task(r, REPLAY_MOVE, from, to, fmax(bytes, 1));
        add_order(r, *end, wait);
    }
    return wait;
}

typedef struct team { const int64_t *ranks; int64_t count, stride; } team;

static int64_t rank_of(const team *t, int64_t i) { return t->ranks[(i + t->count) % t->count * t->stride]; }

/* Each member sends to the one `distance` further on and hears from the one so far behind. */
static void add_round(replay *r, const team *t, int64_t distance, double bytes, int64_t *at)
{
    int64_t ends[MOST_RANKS];

    for (int64_t i = 0; i < t->count; i++) {
        int64_t first = add_message(r, rank_of(t, i), rank_of(t, i + distance), bytes, &ends[i]);

        add_order(r, first, at[i * t->stride]);
        add_order(r, first, at[(i + distance) % t->count * t->stride]);
    }
    for (int64_t i = 0; i < t->count; i++)
        at[i * t->stride] = add_join(r, rank_of(t, i), ends[i], ends[(i - distance + t->count) % t->count]);
}

static void add_ring(replay *r, const team *t, int64_t rounds, double bytes, int64_t *at)
{
    for (int64_t round = 0; round < rounds; round++) add_round(r, t, 1, bytes, at);
}

/* What all of them have reached. */
static int64_t add_barrier(replay *r, const team *t, const int64_t *at)
{
    int64_t all = add_task(r, REPLAY_COMPUTE, rank_of(t, 0), rank_of(t, 0), 0);

    for (int64_t i = 0; i < t->count; i++) add_order(r, all, at[i * t->stride]);
    return all;
}

/* Bytes from each to the one `distance` further on for distances 1 .. most, all at once, without latency. */
static void add_flood(replay *r, const team *t, int64_t most, double bytes, int64_t *at)
{
    int64_t begin = add_barrier(r, t, at), end = add_task(r, REPLAY_COMPUTE, rank_of(t, 0), rank_of(t, 0), 0);

    for (int64_t distance = 1; distance <= most; distance++)
        for (int64_t i = 0; i < t->count; i++) {
            int64_t move = add_task(r, REPLAY_MOVE, rank_of(t, i), rank_of(t, i + distance), fmax(bytes, 1));

            add_order(r, move, begin);
            add_order(r, end, move);
        }
    for (int64_t i = 0; i < t->count; i++) at[i * t->stride] = end;
}

/* Empty messages up a binomial tree and down again; then twice the payload on the ring's way. */
static void add_tree(replay *r, const team *t, double bytes, int64_t *at)
{
    for (int half = 0; half < 2; half++)
        for (int64_t k = 1; k < t->count; k *= 2) {
            int64_t span = half == 0 ? k : (int64_t)ldexp(1, (int)ceil(log2((double)t->count)) - 1 - ilogb((double)k));

            for (int64_t i = 0; i + span < t->count; i += 2 * span) {
                int64_t from = half == 0 ? i + span : i, to = half == 0 ? i : i + span, end;
                int64_t first = add_message(r, rank_of(t, from), rank_of(t, to), 0, &end);

                add_order(r, first, at[from]);
                add_order(r, first, at[to]);
                at[i] = at[i + span] = end;
            }
        }
    add_flood(r, t, 1, 2 * bytes, at);
}

/* The next phase begins for all at once. */
static void end_phase(replay *r, const team *t, int64_t *at)
{
    int64_t all = add_barrier(r, t, at);

    for (int64_t i = 0; i < t->count; i++) at[i * t->stride] = all;
}

static void add_inside(replay *r, const team *t, int64_t each, double bytes, int64_t *at)
{
    for (int64_t first = 0; first < t->count; first += each)
        add_ring(r, &(team){t->ranks + first, each, 1}, each - 1, bytes / (double)each, at + first);
    end_phase(r, t, at);
}

static void add_hierarchy(replay *r, dsc_motion motion, const team *t, int64_t each, double bytes, int64_t *at)
{
    int64_t nodes = t->count / each, halves = motion == DSC_MOVE_ALL_REDUCE ? 2 : 1;

    if (motion != DSC_MOVE_ALL_GATHER) add_inside(r, t, each, bytes, at);
    for (int64_t i = 0; i < each; i++)
        add_ring(r, &(team){t->ranks + i, nodes, each}, halves * (nodes - 1), bytes / (double)t->count, at + i);
    end_phase(r, t, at);
    if (motion != DSC_MOVE_REDUCE_SCATTER) add_inside(r, t, each, bytes, at);
}

static void add_collective(replay *r, dsc_motion motion, dsc_algorithm algorithm, const team *t, int64_t each,
                           double bytes, int64_t *at)
{
    int64_t n = t->count, halves = motion == DSC_MOVE_ALL_REDUCE ? 2 : 1;

    if (motion == DSC_MOVE_ALL_TO_ALL) {
        for (int64_t round = 1; round < n; round++) add_round(r, t, round, 0, at);
        add_flood(r, t, n - 1, bytes / (double)n, at);
    } else if (algorithm == DSC_BY_TREE) {
        add_tree(r, t, bytes, at);
    } else if (algorithm == DSC_BY_HIERARCHY) {
        add_hierarchy(r, motion, t, each, bytes, at);
    } else {
        add_ring(r, t, halves * (n - 1), bytes / (double)n, at);
    }
}

/* ---- A program as tasks */

/* One plan on one cluster, and its programs by stage, of one template in one segment. */
typedef struct set {
    dsc_cluster *cluster;
    dsc_plan *plan;
    dsc_program *programs[MOST_RANKS];
    dsc_prices *prices;
    dsc_links *links;    /* with the fabric, to ask which algorithm is the fastest */
    dsc_fabric *fabric;
    int64_t *begin[MOST_RANKS], *end[MOST_RANKS]; /* tasks of each op, by rank */
} set;

static const dsc_template *ops_of(const set *s, int64_t rank)
{
    return s->programs[dsc_plan_coord(s->plan, rank).of[DSC_AXIS_PP]]->templates;
}

static dsc_motion motion_of(const dsc_op *op)
{
    switch (op->kind) {
    case DSC_OP_REDUCE_SCATTER: return DSC_MOVE_REDUCE_SCATTER;
    case DSC_OP_ALL_GATHER: return DSC_MOVE_ALL_GATHER;
    case DSC_OP_ALL_TO_ALL: return DSC_MOVE_ALL_TO_ALL;
    default: return DSC_MOVE_ALL_REDUCE;
    }
}

/* The algorithm that the engine takes by the closed form. */
static dsc_algorithm choose(const set *s, dsc_motion motion, const team *t, int64_t bytes)
{
    dsc_expansion expansions[DSC_ALGORITHM_COUNT] = {{.phase_count = 0}};
    dsc_algorithm fastest;

    for (int a = 0; a < DSC_ALGORITHM_COUNT; a++) {
        CHECK_OK(dsc_expand(s->fabric, motion, (dsc_algorithm)a, t->ranks, t->count, &expansions[a]));
        CHECK_OK(dsc_expansion_seal(s->fabric, s->links, NULL, 0, &expansions[a]));
    }
    fastest = (dsc_algorithm)(dsc_expansion_fastest(expansions, bytes) - expansions);
    for (int a = 0; a < DSC_ALGORITHM_COUNT; a++) dsc_expansion_fini(&expansions[a]);
    return fastest;
}

/* Members of the first one's node. */
static int64_t on_first_node(const set *s, const team *t)
{
    int64_t each = dsc_node_devices(s->cluster->node_types), count = 0;

    while (count < t->count && t->ranks[count] / each == t->ranks[0] / each) count++;
    return count;
}

/* Once for each group: by its first member. */
static void unroll_collective(const set *s, replay *r, int64_t rank, int64_t o, const dsc_op *op)
{
    int64_t members[MOST_RANKS], at[MOST_RANKS];
    team t = {members, dsc_plan_degree(s->plan, op->axis), 1};

    dsc_plan_group_ranks(s->plan, rank, (dsc_axis)op->axis, members);
    if (members[0] != rank) return;
    for (int64_t i = 0; i < t.count; i++) at[i] = s->begin[members[i]][o];
    add_collective(r, motion_of(op), choose(s, motion_of(op), &t, op->bytes), &t, on_first_node(s, &t),
                   (double)op->bytes, at);
    for (int64_t i = 0; i < t.count; i++) add_order(r, s->end[members[i]][o], at[i]);
}

static int64_t partner_of(const set *s, int64_t rank, const dsc_op *op)
{
    dsc_coord coord = dsc_plan_coord(s->plan, rank);

    coord.of[DSC_AXIS_PP] = op->peer;
    return dsc_plan_rank(s->plan, coord);
}

/* The receive of the k-th message between two ranks, where the send is. */
static int64_t receive_of(const set *s, int64_t from, int64_t to, int64_t send)
{
    int64_t k = 0, o = -1;

    for (int64_t i = 0; i <= send; i++) {
        const dsc_op *op = &ops_of(s, from)->ops[i];

        k += op->kind == DSC_OP_SEND && partner_of(s, from, op) == to;
    }
    while (k > 0) {
        const dsc_op *op = &ops_of(s, to)->ops[++o];

        k -= op->kind == DSC_OP_RECV && partner_of(s, to, op) == from;
    }
    return o;
}

static void unroll_message(const set *s, replay *r, int64_t rank, int64_t o, const dsc_op *op)
{
    int64_t to = partner_of(s, rank, op), there = receive_of(s, rank, to, o), end;
    int64_t first = add_message(r, rank, to, (double)op->bytes, &end);

    add_order(r, first, s->begin[rank][o]);
    add_order(r, first, s->begin[to][there]);
    add_order(r, s->end[rank][o], end);
    add_order(r, s->end[to][there], end);
}

/* An op begins when the one before it in its lane is over and all that it waits for. */
static void unroll_rank(set *s, replay *r, int64_t rank)
{
    const dsc_template *t = ops_of(s, rank);
    int64_t last[DSC_LANE_COUNT];

    s->begin[rank] = calloc((size_t)t->op_count, sizeof *s->begin[rank]);
    s->end[rank] = calloc((size_t)t->op_count, sizeof *s->end[rank]);
    memset(last, -1, sizeof last);
    for (int64_t o = 0; o < t->op_count; o++) {
        const dsc_op *op = &t->ops[o];
        bool is_kernel = !dsc_op_is_communication(op->kind);
        double ns = is_kernel ? (double)dsc_price_call(s->prices, &t->calls[op->first_call].shape) : 0;

        s->begin[rank][o] = add_task(r, REPLAY_COMPUTE, rank, rank, ns);
        s->end[rank][o] = is_kernel ? s->begin[rank][o] : add_task(r, REPLAY_COMPUTE, rank, rank, 0);
        if (last[op->lane] >= 0) add_order(r, s->begin[rank][o], last[op->lane]);
        last[op->lane] = s->end[rank][o];
    }
    for (int64_t o = 0; o < t->op_count; o++)
        for (int32_t d = 0; d < t->ops[o].deps; d++)
            add_order(r, s->begin[rank][o], s->end[rank][t->deps[t->ops[o].first_dep + d].on]);
}

static void unroll(set *s, replay *r)
{
    for (int64_t rank = 0; rank < s->plan->ranks; rank++) unroll_rank(s, r, rank);
    for (int64_t rank = 0; rank < s->plan->ranks; rank++)
        for (int64_t o = 0; o < ops_of(s, rank)->op_count; o++) {
            const dsc_op *op = &ops_of(s, rank)->ops[o];

            if (op->kind == DSC_OP_SEND) unroll_message(s, r, rank, o, op);
            else if (op->kind != DSC_OP_RECV && dsc_op_is_communication(op->kind))
                unroll_collective(s, r, rank, o, op);
        }
}

/* ---- Random machines */

static double random_real(double low, double high) /* evenly in the logarithm */
{
    return low * pow(high / low, (double)tap_random_between(0, 1 << 20) / (1 << 20));
}

static int64_t random_bytes(void) { return (int64_t)random_real(1 << 10, 1 << 28); }

/* What is further away is slower in both, latency and rate: a ring's pace is that of its slowest path in each, even
 * where these are two paths, which sim/collective.h does not tell apart. */
static dsc_cluster *random_cluster(int64_t nodes, int64_t each)
{
    static const dsc_topology topologies[] = {DSC_SWITCH, DSC_MESH, DSC_RING, DSC_TREE};
    dsc_cluster *cluster = scene_gpus(nodes, each);
    dsc_node_type *type = cluster->node_types;

    type->links[0].topology = topologies[tap_random_between(0, 3)];
    type->links[0].bytes_per_s = random_real(2e10, 6e11);
    type->links[0].latency_ns = (int64_t)random_real(300, 3000);
    if (tap_random_between(0, 7) == 0) { /* over the host alone */
        type->links[1].bytes_per_s = type->links[0].bytes_per_s;
        type->links[1].latency_ns = type->links[0].latency_ns;
        type->links[0] = type->links[--type->link_count];
    }
    type->nics[0].count = tap_random_between(1, each + 1);
    type->nics[0].bytes_per_s = type->links[0].bytes_per_s / (double)each / random_real(1, 8);
    type->nics[0].latency_ns = (type->links[0].topology == DSC_RING ? each / 2 : 1) * type->links[0].latency_ns +
                               (int64_t)random_real(500, 8000);
    cluster->tier_count = nodes == 4 ? tap_random_between(1, 2) : 1;
    cluster->network = realloc(cluster->network, 2 * sizeof *cluster->network);
    cluster->network[1] = cluster->network[0];
    cluster->network[0].nodes = cluster->tier_count == 2 ? 2 : nodes;
    for (int64_t t = 0; t < cluster->tier_count; t++) {
        cluster->network[t].bytes_per_s = type->nics[0].bytes_per_s * random_real(0.5, 2);
        cluster->network[t].oversubscription = random_real(1, 4);
        cluster->network[t].latency_ns = (t == 0 ? 0 : cluster->network[0].latency_ns) + tap_random_between(0, 2000);
    }
    return cluster;
}

static dsc_strategy strategy_of(int64_t tp, int64_t pp, int64_t dp, int64_t micro_batches)
{
    static const char *const orders[] = {"tp,dp,pp", "pp,dp,tp", "dp,tp,pp"};
    const dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_strategy strategy = config.strategy;

    strategy.tp = tp;
    strategy.pp = pp;
    strategy.dp = dp;
    strategy.micro_batch = 1;
    strategy.global_batch = dp * micro_batches;
    strcpy(strategy.rank_order, orders[tap_random_between(0, 2)]);
    return strategy;
}

static bool set_up(set *s, dsc_cluster *cluster, const dsc_strategy *strategy)
{
    memset(s, 0, sizeof *s);
    s->cluster = cluster;
    s->plan = scene_plan_of(cluster, strategy);
    for (int64_t stage = 0; s->plan != NULL && stage < strategy->pp; stage++)
        s->programs[stage] = scene_program(s->plan);
    return s->plan != NULL && CHECK_OK(dsc_prices_create(s->plan, cluster, NULL, NULL, &s->prices)) &&
           CHECK_OK(dsc_links_create(&s->links)) &&
           CHECK_OK(dsc_fabric_create(cluster, dsc_stack_find("dsc", NULL, NULL), s->plan->ranks, s->links,
                                      &s->fabric));
}

static void clean_up(set *s)
{
    for (int i = 0; i < MOST_RANKS; i++) {
        dsc_program_destroy(s->programs[i]);
        free(s->begin[i]);
        free(s->end[i]);
    }
    dsc_fabric_destroy(s->fabric);
    dsc_links_destroy(s->links);
    dsc_prices_destroy(s->prices);
    dsc_plan_destroy(s->plan);
    dsc_cluster_destroy(s->cluster);
}

/* ---- Both simulators */

static const double tolerance = 0.05;

typedef struct differences { double of[1024]; int count; } differences;

static void describe(const set *s, const char *what)
{
    const dsc_node_type *type = s->cluster->node_types;
    const dsc_link *link = dsc_node_link(type, "device", "device");

    tap_note("%s: %d x %d devices, %s, %d NICs, %d tiers, rank order %s", what,
             (int)dsc_cluster_nodes(s->cluster), (int)dsc_node_devices(type),
             link == NULL ? "no link" : (const char *const[]){"switch", "mesh", "ring", "tree"}[link->topology],
             (int)type->nics[0].count, (int)s->cluster->tier_count, s->plan->config.strategy.rank_order);
}

static void compare(set *s, const char *what, differences *all)
{
    dsc_timing timing = {0};
    replay r = {0};
    double theirs, difference;

    CHECK_OK(scene_simulate_stages(s->plan, s->cluster, (const dsc_program *const *)s->programs, DSC_RANKS_ALL,
                                   &timing, NULL, NULL));
    platform_of(s->cluster, &r);
    unroll(s, &r);
    theirs = 1e9 * replay_run(&r);
    difference = (double)timing.step_ns / theirs - 1;
    if (!CHECK(theirs > 0 && fabs(difference) <= tolerance, "%s: %lld ns, by SimGrid %.0f: %+.1f %%", what,
               (long long)timing.step_ns, theirs, 100 * difference))
        describe(s, what);
    if (all->count < DSC_COUNT(all->of)) all->of[all->count++] = difference;
    free(r.links);
    free(r.hops);
    free(r.routes);
    free(r.tasks);
    free(r.orders);
}

static int by_size(const void *a, const void *b)
{
    double x = fabs(*(const double *)a), y = fabs(*(const double *)b);

    return (x > y) - (x < y);
}

static void report(differences *all)
{
    if (all->count == 0) return;
    qsort(all->of, (size_t)all->count, sizeof *all->of, by_size);
    tap_note("%d comparisons: half within %.2g %%, nine in ten within %.2g %%, all within %.2g %%", all->count,
             100 * fabs(all->of[all->count / 2]), 100 * fabs(all->of[all->count * 9 / 10]),
             100 * fabs(all->of[all->count - 1]));
}

#ifdef HAVE_SIMGRID
static bool is_there(void) { return true; }
#else
double replay_run(const replay *r) { return r->task_count > 0 ? -1 : 0; }

static bool is_there(void)
{
    tap_skip("simgrid", "built without SimGrid");
    return false;
}
#endif

/* ---- Claims */

static void compare_collective(dsc_op_kind kind, int64_t tp, int64_t nodes, int64_t each, differences *all)
{
    dsc_cluster *cluster = random_cluster(nodes, each);
    dsc_strategy strategy = strategy_of(tp, 1, nodes * each / tp, 1);
    int64_t bytes = random_bytes();
    char what[96];
    set s;

    if (set_up(&s, cluster, &strategy)) {
        scene_collective(s.programs[0], kind, DSC_AXIS_DP, bytes);
        snprintf(what, sizeof what, "%s of %lld bytes in %lld groups of %lld", DSC_OP_NAMES[kind], (long long)bytes,
                 (long long)tp, (long long)strategy.dp);
        compare(&s, what, all);
    }
    clean_up(&s);
}

/* Whether groups that run at once are in step: each on as many nodes in the same way, whatever the order of ranks. */
static bool lie_alike(int64_t groups, int64_t nodes, int64_t each)
{
    int64_t size = nodes * each / groups;

    return each % groups == 0 && size > 1 && (each % size == 0 || size % each == 0);
}

static void collectives_take_as_long(void)
{
    static const dsc_op_kind kinds[] = {DSC_OP_ALL_REDUCE, DSC_OP_REDUCE_SCATTER, DSC_OP_ALL_GATHER,
                                        DSC_OP_ALL_TO_ALL};
    differences all = {.count = 0};

    if (!is_there()) return;
    for (int64_t i = 0; i < 320; i++) {
        int64_t nodes = tap_random_between(2, 4), each = tap_random_between(1, 8), tp = INT64_C(1) << i / 4 % 3;

        compare_collective(kinds[i % DSC_COUNT(kinds)], lie_alike(tp, nodes, each) ? tp : 1, nodes, each, &all);
    }
    report(&all);
}

/* From the first half of a machine's devices to the second, or from each other one to the next, all at once. */
static void messages_take_as_long(void)
{
    differences all = {.count = 0};

    if (!is_there()) return;
    for (int64_t i = 0; i < 60; i++) {
        int64_t nodes = tap_random_between(2, 4), each = 2 * tap_random_between(1, 4), bytes = random_bytes();
        dsc_cluster *cluster = random_cluster(nodes, each);
        dsc_strategy strategy = strategy_of(1, 2, nodes * each / 2, 1);
        char what[96];
        set s;

        if (set_up(&s, cluster, &strategy)) {
            scene_message(s.programs[0], DSC_OP_SEND, 1, 0, bytes);
            scene_message(s.programs[1], DSC_OP_RECV, 0, 0, bytes);
            snprintf(what, sizeof what, "%lld messages of %lld bytes", (long long)strategy.dp, (long long)bytes);
            compare(&s, what, &all);
        }
        clean_up(&s);
    }
    report(&all);
}

static int32_t message_to(dsc_program *program, dsc_op_kind kind, int64_t here, int64_t there, bool is_forward,
                          int64_t bytes)
{
    return scene_message(program, kind, there, (int32_t)(2 * DSC_MIN(here, there) + !is_forward), bytes);
}

/* A pass with what it receives before and sends behind. */
static void add_pass(dsc_program *program, int64_t stages, int64_t stage, const dsc_pass *pass, int64_t elems,
                     int64_t bytes)
{
    bool is_forward = pass->kind == DSC_PASS_FORWARD;
    int64_t before = is_forward ? stage - 1 : stage + 1, after = is_forward ? stage + 1 : stage - 1;
    bool receives = before >= 0 && before < stages, sends = after >= 0 && after < stages;
    int32_t recv = receives ? message_to(program, DSC_OP_RECV, stage, before, is_forward, bytes) : -1;
    int32_t kernel = scene_kernel(program, (is_forward ? 1 : 2) * elems);

    if (receives) scene_wait(program, kernel, recv);
    if (sends) scene_wait(program, message_to(program, DSC_OP_SEND, stage, after, is_forward, bytes), kernel);
}

/* Stages of unequal passes, whose replicas add their gradients up at the end. */
static void add_stage(const set *s, const dsc_strategy *strategy, int64_t stage, int64_t bytes)
{
    int64_t elems = tap_random_between(UNIT, 64 * UNIT), gradients = random_bytes(), count = 0;
    dsc_program *program = s->programs[stage];
    dsc_pass *passes = NULL;

    CHECK_OK(dsc_schedule_create(DSC_1F1B, strategy->pp, stage, s->plan->micro_batches, 1, &passes, &count));
    for (int64_t i = 0; i < count; i++) add_pass(program, strategy->pp, stage, &passes[i], elems, bytes);
    if (strategy->dp > 1) {
        int32_t last = (int32_t)program->templates->op_count - 1, reduce = scene_all_reduce(program, gradients);

        while (dsc_op_is_communication(program->templates->ops[last].kind)) last--;
        scene_wait(program, reduce, last);
    }
    free(passes);
}

static void pipelines_take_as_long(void)
{
    static const struct { int64_t nodes, each, pp; } rows[] = {{2, 1, 2}, {4, 1, 4}, {2, 2, 4}, {2, 4, 4}, {4, 2, 4},
                                                               {2, 4, 8}, {4, 4, 4}, {4, 2, 2}, {2, 8, 2}, {4, 8, 8}};
    differences all = {.count = 0};

    if (!is_there()) return;
    for (int64_t i = 0; i < 4 * DSC_COUNT(rows); i++) {
        int64_t nodes = rows[i / 4].nodes, each = rows[i / 4].each, pp = rows[i / 4].pp, bytes = random_bytes() / 16;
        dsc_cluster *cluster = random_cluster(nodes, each);
        dsc_strategy strategy = strategy_of(1, pp, nodes * each / pp, tap_random_between(1, 8));
        char what[96];
        set s;

        if (set_up(&s, cluster, &strategy)) {
            for (int64_t stage = 0; stage < pp; stage++) add_stage(&s, &strategy, stage, bytes);
            snprintf(what, sizeof what, "%lld pipelines of %lld stages, %lld micro-batches, messages of %lld bytes",
                     (long long)strategy.dp, (long long)pp, (long long)s.plan->micro_batches, (long long)bytes);
            compare(&s, what, &all);
        }
        clean_up(&s);
    }
    report(&all);
}

static const tap_case cases[] = {
    {"collectives of random clusters take what SimGrid says, within 5 %", collectives_take_as_long},
    {"messages that share links too", messages_take_as_long},
    {"pipelines and the reductions of their replicas too", pipelines_take_as_long},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
