/* ZeRO and offload in the event engine: copies share the ways to the host's memory, what the host computes its own, and
 * what of either computing waits for is charged to it. */
#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

static int64_t parts_of(const dsc_timing *t)
{
    return t->compute_ns + t->tp_comm_ns + t->pp_comm_ns + t->dp_comm_ns + t->bubble_ns + t->offload_ns +
           t->optimizer_ns + t->other_ns;
}

/* ---- Programs by hand, on two ranks */

enum { ELEMS = 1 << 20, BYTES = 1 << 24 };

typedef struct set {
    dsc_cluster *cluster;
    dsc_plan *plan;
    dsc_program *program;
    dsc_trace trace;
    dsc_timing timing;
} set;

static bool set_up(set *s, dsc_cluster *cluster)
{
    memset(s, 0, sizeof *s);
    dsc_trace_init(&s->trace);
    s->cluster = cluster;
    s->plan = scene_plan(cluster, dsc_cluster_devices(cluster), dsc_cluster_devices(cluster), DSC_RECOMPUTE_NONE,
                         DSC_FP32);
    s->program = s->plan == NULL ? NULL : scene_program(s->plan);
    return s->program != NULL;
}

static bool run(set *s, dsc_trace_ranks ranks)
{
    return CHECK_OK(scene_simulate(s->plan, s->cluster, s->program, ranks, &s->timing, NULL, &s->trace));
}

static void clean_up(set *s)
{
    dsc_trace_fini(&s->trace);
    dsc_program_destroy(s->program);
    dsc_plan_destroy(s->plan);
    dsc_cluster_destroy(s->cluster);
}

static int64_t kernel_ns(const set *s, int64_t elems)
{
    dsc_shape shape = {.kernel = DSC_K_ADAM, .type = DSC_FP32, .out = DSC_FP32, .d = {elems}};
    dsc_prices *prices = NULL;
    int64_t ns = 0;

    if (CHECK_OK(dsc_prices_create(s->plan, s->cluster, NULL, NULL, &prices))) ns = dsc_price_call(prices, &shape);
    dsc_prices_destroy(prices);
    return ns;
}

/* a + S/b of the scene's link between device and host, of which others leave a copy one part in `slower`. */
static double copy_ns(double slower) { return SCENE_COPY_LATENCY_NS + slower * (BYTES / 10); }

static bool is_about(int64_t ns, double wanted) { return (double)ns >= wanted - 2 && (double)ns <= wanted + 2; }

/* The step of copies out, in, or both at once by each of so many devices of a node. */
static int64_t step_of_copies(int64_t devices, int64_t per_port, double memory_rate, bool out, bool in,
                              dsc_trace_ranks ranks)
{
    dsc_cluster *cluster = scene_gpus(1, devices);
    set s;

    cluster->node_types[0].links[1].devices_per_port = per_port;
    cluster->node_types[0].host_bandwidth_bytes_per_s = memory_rate;
    if (set_up(&s, cluster)) {
        if (out) scene_copy(s.program, DSC_OP_COPY_OUT, BYTES);
        if (in) scene_copy(s.program, DSC_OP_COPY_IN, BYTES);
        if (run(&s, ranks))
            CHECK(s.timing.offload_ns == s.timing.step_ns, "%lld of %lld ns are charged to offload",
                  (long long)s.timing.offload_ns, (long long)s.timing.step_ns);
    }
    clean_up(&s);
    return s.timing.step_ns;
}

static void copies_share_their_ways(void)
{
    static const struct { int64_t devices, per_port; double memory_rate; bool out, in; double slower; } rows[] = {
        {1, 0, 1e12, true, false, 1},  {1, 0, 0, false, true, 1},     {1, 0, 1e12, true, true, 1},
        {2, 0, 1e12, true, true, 1},   {2, 2, 1e12, true, false, 2},  {2, 2, 1e12, true, true, 2},
        {8, 4, 1e12, false, true, 4},  {4, 1, 2.5e10, true, false, 1.6}, {2, 1, 1e10, true, true, 4}};

    for (int64_t i = 0; i < DSC_COUNT(rows); i++)
        for (int ranks = DSC_RANKS_FOLDED; ranks <= DSC_RANKS_ALL; ranks++) {
            int64_t ns = step_of_copies(rows[i].devices, rows[i].per_port, rows[i].memory_rate, rows[i].out, rows[i].in,
                                        ranks);

            CHECK(is_about(ns, copy_ns(rows[i].slower)), "row %lld: %lld ns, not %g", (long long)i, (long long)ns,
                  copy_ns(rows[i].slower));
        }
}

/* The kernel waits for a copy in, that for the host, that for a copy out: all of it is offload. Behind a kernel that is
 * long enough nothing is. */
static void waiting_is_offload(void)
{
    for (int hidden = 0; hidden < 2; hidden++) {
        set s;

        if (set_up(&s, scene_gpus(1, 2))) {
            int32_t out = scene_copy(s.program, DSC_OP_COPY_OUT, BYTES), update, in;
            int64_t beside = hidden ? 400 * ELEMS : ELEMS, first = kernel_ns(&s, beside), last = kernel_ns(&s, ELEMS);
            int64_t update_ns = (int64_t)(28.0 * ELEMS / (0.8 * 1e11 / 2) * 1e9);
            int64_t chain = 2 * (int64_t)copy_ns(1) + update_ns;

            scene_kernel(s.program, beside);
            update = scene_host_kernel(s.program, ELEMS);
            in = scene_copy(s.program, DSC_OP_COPY_IN, BYTES);
            scene_wait(s.program, update, out);
            scene_wait(s.program, in, update);
            scene_wait(s.program, scene_kernel(s.program, ELEMS), in);
            if (run(&s, DSC_RANKS_FOLDED)) {
                CHECK(is_about(s.timing.step_ns, (double)(DSC_MAX(first, chain) + last)), "step of %lld ns, the chain "
                      "takes %lld", (long long)s.timing.step_ns, (long long)chain);
                CHECK(is_about(s.timing.offload_ns, hidden ? 0 : (double)(chain - first)), "%lld ns of offload",
                      (long long)s.timing.offload_ns);
                CHECK(s.timing.compute_ns == first + last && parts_of(&s.timing) == s.timing.step_ns, "compute %lld",
                      (long long)s.timing.compute_ns);
            }
        }
        clean_up(&s);
    }
}

/* On CPU ranks the host's kernels have no cores of their own: beside a kernel both take twice as long. */
static void cpus_share_their_cores(void)
{
    static const int cores[] = {2, 8, 1};

    for (int64_t i = 0; i < DSC_COUNT(cores); i++) {
        int64_t steps[2];

        for (int both = 0; both < 2; both++) {
            set s;

            if (set_up(&s, scene_cpus(2, cores[i]))) {
                scene_kernel(s.program, 8 * ELEMS);
                if (both) scene_host_kernel(s.program, 8 * ELEMS);
                run(&s, DSC_RANKS_FOLDED);
            }
            clean_up(&s);
            steps[both] = s.timing.step_ns;
        }
        CHECK(is_about(steps[1], 2 * (double)steps[0]), "%d cores: %lld ns, %lld with the host's", cores[i],
              (long long)steps[0], (long long)steps[1]);
    }
}

static void copies_leave_rows(void)
{
    set s;

    if (set_up(&s, scene_gpus(1, 2))) {
        scene_copy(s.program, DSC_OP_COPY_OUT, BYTES);
        if (run(&s, DSC_RANKS_ALL) &&
            CHECK(s.trace.link_row_count == 2, "%lld rows", (long long)s.trace.link_row_count))
            for (int i = 0; i < 2; i++) {
                const dsc_link_row *row = &s.trace.link_rows[i];

                CHECK(strstr(s.trace.head.links[row->link], "pcie/out") != NULL && row->bytes == BYTES,
                      "%lld bytes through %s", (long long)row->bytes, s.trace.head.links[row->link]);
            }
    }
    clean_up(&s);
}

/* ---- Real programs */

typedef struct result { dsc_trace trace; dsc_timing timing; int64_t wire_bytes; } result;

static dsc_strategy strategy_of(int64_t tp, int64_t pp, int64_t dp, int zero, int offload)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.tp = tp;
    s.pp = pp;
    s.dp = dp;
    s.micro_batch = 1;
    s.global_batch = 3 * dp;
    s.zero = zero;
    s.offload = offload;
    s.precision = DSC_BF16;
    s.bucket_elems = 20000;
    return s;
}

static bool simulate(const dsc_cluster *cluster, const dsc_strategy *strategy, dsc_trace_ranks ranks, result *out)
{
    enum { MOST_STAGES = 4 };
    dsc_plan *plan = scene_plan_of(cluster, strategy);
    const dsc_program *const *programs = NULL;
    const dsc_program *by_stage[MOST_STAGES];
    bool ok;

    memset(out, 0, sizeof *out);
    dsc_trace_init(&out->trace);
    ok = plan != NULL && CHECK_OK(dsc_programs_create(plan, &programs));
    for (int64_t rank = 0; ok && rank < plan->ranks; rank++)
        by_stage[dsc_plan_coord(plan, rank).of[DSC_AXIS_PP]] = programs[rank];
    ok = ok && CHECK_OK(scene_simulate_stages(plan, cluster, by_stage, ranks, &out->timing, &out->wire_bytes,
                                              &out->trace));
    if (plan != NULL) dsc_programs_destroy(plan, programs);
    dsc_plan_destroy(plan);
    return ok;
}

static bool is_legal(const dsc_strategy *s)
{
    return s->offload != DSC_OFFLOAD_PARAMS || s->dp == 1 || s->zero == 0 || s->zero == 3;
}

static void compare(const dsc_strategy *s, const result *folded, const result *whole)
{
    CHECK(memcmp(&folded->timing, &whole->timing, sizeof folded->timing) == 0,
          "zero %d, offload %d: %lld ns folded, %lld not", s->zero, s->offload, (long long)folded->timing.step_ns,
          (long long)whole->timing.step_ns);
    CHECK(folded->wire_bytes == whole->wire_bytes, "zero %d: %lld and %lld bytes", s->zero,
          (long long)folded->wire_bytes, (long long)whole->wire_bytes);
    CHECK(parts_of(&folded->timing) == folded->timing.step_ns, "zero %d, offload %d: parts of %lld, a step of %lld ns",
          s->zero, s->offload, (long long)parts_of(&folded->timing), (long long)folded->timing.step_ns);
    CHECK((folded->timing.offload_ns > 0) == (s->offload != DSC_OFFLOAD_NONE), "offload %d: %lld ns are charged",
          s->offload, (long long)folded->timing.offload_ns);
}

/* Nodes whose devices have ports of their own or share them. */
static void folding_changes_nothing(void)
{
    static const int64_t layouts[][3] = {{1, 1, 8}, {2, 1, 4}, {1, 2, 4}, {2, 2, 2}};

    for (int i = 0; i < 4 * 12; i++) {
        const int64_t *layout = layouts[i % 4];
        dsc_strategy strategy = strategy_of(layout[0], layout[1], layout[2], i / 4 % 4, i / 16);
        dsc_cluster *cluster = i % 5 == 4 ? scene_cpus(8, 8) : scene_gpus(1 + i % 2, 8 >> i % 2);
        result folded, whole;

        cluster->node_types[0].links[1].devices_per_port = i % 3;
        if (is_legal(&strategy) && simulate(cluster, &strategy, DSC_RANKS_FOLDED, &folded) &&
            simulate(cluster, &strategy, DSC_RANKS_ALL, &whole)) {
            compare(&strategy, &folded, &whole);
            dsc_trace_fini(&folded.trace);
            dsc_trace_fini(&whole.trace);
        }
        dsc_cluster_destroy(cluster);
    }
}

static int64_t step_ns(const result *r, int64_t i)
{
    return r->trace.steps[i].t_end_ns - r->trace.steps[i].t_start_ns;
}

static void delayed_comes_first(void)
{
    static const char *const paths[] = {"delayed", "gradients", "delayed/update", "gradients/update"};
    dsc_strategy strategy = strategy_of(1, 1, 2, 2, DSC_OFFLOAD_OPTIMIZER);
    dsc_cluster *cluster = scene_gpus(1, 2);
    result r;

    strategy.delay_update = 1;
    if (simulate(cluster, &strategy, DSC_RANKS_FOLDED, &r) &&
        CHECK(r.trace.step_count == DSC_COUNT(paths), "%lld paths", (long long)r.trace.step_count)) {
        for (int i = 0; i < DSC_COUNT(paths); i++)
            CHECK(dsc_equal(r.trace.steps[i].path, paths[i]), "path %d is %s", i, r.trace.steps[i].path);
        CHECK(r.timing.step_ns == step_ns(&r, 0), "time is not of the first path");
        CHECK(step_ns(&r, 0) < step_ns(&r, 3), "%lld ns delayed, %lld at once", (long long)step_ns(&r, 0),
              (long long)step_ns(&r, 3));
        CHECK(step_ns(&r, 1) < step_ns(&r, 0), "a step that makes no update takes %lld of %lld ns",
              (long long)step_ns(&r, 1), (long long)step_ns(&r, 0));
    }
    dsc_trace_fini(&r.trace);
    dsc_cluster_destroy(cluster);
}

static const tap_case cases[] = {
    {"copies take a + S/b, both ways at once, and share ports and the host's memory", copies_share_their_ways},
    {"what computing waits for of copies and the host's kernels is offload, and what it hides is free",
     waiting_is_offload},
    {"CPU ranks' kernels and their hosts' take turns on the same cores", cpus_share_their_cores},
    {"a copy leaves a row of its port, with its bytes", copies_leave_rows},
    {"folded equals unfolded in every stage of ZeRO, with and without offload", folding_changes_nothing},
    {"delayed updates have four paths, the common one first, and it is shorter", delayed_comes_first},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
