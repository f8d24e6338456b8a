/* Pipelines and tensor ranks in the event engine: schedules of uniform passes take the time that theory says, to the
 * nanosecond; messages wait for both ends; and many columns are as one. */
#include "program/schedule.h"
#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

enum { UNIT = 1 << 18 }; /* elements of the shortest kernel */

static int64_t parts_of(const dsc_timing *t)
{
    return t->compute_ns + t->tp_comm_ns + t->pp_comm_ns + t->dp_comm_ns + t->bubble_ns + t->offload_ns +
           t->optimizer_ns + t->other_ns;
}

static const dsc_op_row *row_of(const dsc_trace *trace, int step, int rank, int op)
{
    for (int64_t i = 0; i < trace->op_count; i++)
        if (trace->ops[i].step == step && trace->ops[i].rank == rank && trace->ops[i].op == op) return &trace->ops[i];
    return NULL;
}

/* ---- Programs by hand on the stages of a pipeline */

enum { MOST_STAGES = 8 };

typedef struct set {
    dsc_cluster *cluster;
    dsc_plan *plan;
    dsc_program *programs[MOST_STAGES]; /* by stage */
    dsc_trace trace;
    dsc_timing timing;
    int64_t wire_bytes;
} set;

static dsc_strategy strategy_of(int64_t tp, int64_t pp, int64_t dp, int64_t micro_batches)
{
    const dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_strategy strategy = config.strategy;

    strategy.tp = tp;
    strategy.pp = pp;
    strategy.dp = dp;
    strategy.micro_batch = 1;
    strategy.global_batch = dp * micro_batches;
    return strategy;
}

static bool set_up(set *s, dsc_cluster *cluster, const dsc_strategy *strategy)
{
    memset(s, 0, sizeof *s);
    dsc_trace_init(&s->trace);
    s->cluster = cluster;
    s->plan = scene_plan_of(cluster, strategy);
    for (int64_t stage = 0; s->plan != NULL && stage < strategy->pp; stage++)
        s->programs[stage] = scene_program(s->plan);
    return s->plan != NULL;
}

static bool run(set *s, dsc_trace_ranks ranks)
{
    return CHECK_OK(scene_simulate_stages(s->plan, s->cluster, (const dsc_program *const *)s->programs, ranks,
                                          &s->timing, &s->wire_bytes, &s->trace));
}

static void clean_up(set *s)
{
    dsc_trace_fini(&s->trace);
    for (int stage = 0; stage < MOST_STAGES; stage++) dsc_program_destroy(s->programs[stage]);
    dsc_plan_destroy(s->plan);
    dsc_cluster_destroy(s->cluster);
}

/* GPUs of one node, between which messages take no time but their bytes'. */
static dsc_cluster *instant_gpus(int64_t count)
{
    dsc_cluster *cluster = scene_gpus(1, count);

    cluster->node_types[0].links[0].latency_ns = 0;
    return cluster;
}

/* Nanoseconds of scene_kernel(elems) on the scene's GPUs. */
static int64_t kernel_ns(const set *s, int64_t elems)
{
    dsc_shape shape = {.kernel = DSC_K_ADAM, .type = DSC_FP32, .out = DSC_FP32, .d = {elems}};
    dsc_prices *prices = NULL;
    int64_t ns = 0;

    if (CHECK_OK(dsc_prices_create(s->plan, s->cluster, NULL, NULL, &prices))) ns = dsc_price_call(prices, &shape);
    dsc_prices_destroy(prices);
    return ns;
}

/* ---- Schedules */

/* Elements of the kernels of a pass: forward, backward of inputs, of weights; and whether the gradient is sent before
 * those of the weights are computed. */
typedef struct pass_elems { int64_t forward, inputs, weights; bool sends_early; } pass_elems;

static int32_t message_to(dsc_program *program, dsc_op_kind kind, const dsc_strategy *s, int64_t here, int64_t there,
                          bool is_forward)
{
    int64_t channel = 2 * DSC_MIN(here, there) + !is_forward;

    return scene_message(program, kind, there % s->pp, (int32_t)channel, 0);
}

/* A pass with what it receives before and sends behind; virtual stages and channels as programs have them. */
static void add_pass(dsc_program *program, const dsc_strategy *s, int64_t stage, const dsc_pass *pass,
                     const pass_elems *elems)
{
    int64_t last = s->pp * s->virtual_stages - 1, here = pass->chunk * s->pp + stage;
    bool is_forward = pass->kind == DSC_PASS_FORWARD, is_both = pass->kind == DSC_PASS_BACKWARD;
    int64_t before = is_forward ? here - 1 : here + 1, after = is_forward ? here + 1 : here - 1;
    bool receives = before >= 0 && before <= last, sends = after >= 0 && after <= last;
    int32_t recv = -1, kernel;

    if (pass->kind == DSC_PASS_BACKWARD_W) {
        scene_kernel(program, elems->weights);
        return;
    }
    if (receives) recv = message_to(program, DSC_OP_RECV, s, here, before, is_forward);
    kernel = scene_kernel(program, is_forward ? elems->forward : elems->inputs);
    if (receives) scene_wait(program, kernel, recv);
    if (is_both && !elems->sends_early) kernel = scene_kernel(program, elems->weights);
    if (sends) scene_wait(program, message_to(program, DSC_OP_SEND, s, here, after, is_forward), kernel);
    if (is_both && elems->sends_early) scene_kernel(program, elems->weights);
}

/* Step of a schedule, whose parts add up. */
static dsc_timing step_of(const dsc_strategy *strategy, const pass_elems *elems, int64_t ns[3])
{
    set s;

    if (set_up(&s, instant_gpus(strategy->pp), strategy)) {
        for (int64_t stage = 0; stage < strategy->pp; stage++) {
            dsc_pass *passes = NULL;
            int64_t count = 0;

            CHECK_OK(dsc_schedule_create(strategy->schedule, strategy->pp, stage, s.plan->micro_batches,
                                         strategy->virtual_stages, &passes, &count));
            for (int64_t i = 0; i < count; i++) add_pass(s.programs[stage], strategy, stage, &passes[i], elems);
            free(passes);
        }
        ns[0] = kernel_ns(&s, elems->forward);
        ns[1] = kernel_ns(&s, elems->inputs);
        ns[2] = kernel_ns(&s, elems->weights);
        if (run(&s, DSC_RANKS_FOLDED))
            CHECK(parts_of(&s.timing) == s.timing.step_ns, "parts %lld, step %lld", (long long)parts_of(&s.timing),
                  (long long)s.timing.step_ns);
    }
    clean_up(&s);
    return s.timing;
}

static void schedules_have_their_bubbles(void)
{
    enum { ANY, ALIKE }; /* whether theory wants F, B and W of one length */
    static const struct { int schedule; int64_t chunks; int lengths; bool sends_early; int w; } rows[] = {
        {DSC_GPIPE, 1, ANY, false, 1},       {DSC_1F1B, 1, ANY, false, 1},   {DSC_1F1B, 1, ANY, true, 0},
        {DSC_INTERLEAVED, 2, ANY, false, 1}, {DSC_ZB_H1, 1, ALIKE, false, -1}};

    for (int64_t i = 0; i < 4 * DSC_COUNT(rows); i++) {
        int64_t row = i % DSC_COUNT(rows), chunks = rows[row].chunks, p = tap_random_between(2, 4);
        int64_t m = p * tap_random_between(2, 4), ns[3] = {0}, ideal, bubble;
        int64_t most = rows[row].lengths == ANY ? 8 * UNIT : UNIT;
        pass_elems elems = {tap_random_between(UNIT, most), tap_random_between(UNIT, most),
                            tap_random_between(UNIT, most), rows[row].sends_early};
        dsc_strategy strategy = strategy_of(1, p, 1, m);
        dsc_timing t;

        strategy.schedule = rows[row].schedule;
        strategy.virtual_stages = chunks;
        t = step_of(&strategy, &elems, ns);
        ideal = m * chunks * (ns[0] + ns[1] + ns[2]);
        bubble = (p - 1) * (ns[0] + ns[1] + rows[row].w * ns[2]);
        CHECK(t.step_ns == ideal + bubble, "row %lld, %lld stages, %lld micro-batches: %lld ns, not %lld and a bubble "
              "of %lld", (long long)row, (long long)p, (long long)m, (long long)t.step_ns, (long long)ideal,
              (long long)bubble);
        CHECK(t.compute_ns == ideal && t.bubble_ns == bubble, "row %lld: computes %lld ns, waits %lld ns",
              (long long)row, (long long)t.compute_ns, (long long)t.bubble_ns);
    }
}

/* ---- Messages and collectives */

enum { BYTES = 1 << 24 };

/* S/b + a on scene.h's links inside a node. */
static const int64_t MESSAGE_NS = (BYTES + 99) / 100 + SCENE_LATENCY_NS;

/* One message from stage 0, which computes `first` elements before, to stage 1, which computes `second` before and
 * `third` behind. */
static void check_message(int64_t first, int64_t second, int64_t third)
{
    dsc_strategy strategy = strategy_of(1, 2, 1, 1);
    set s;

    if (set_up(&s, scene_gpus(1, 2), &strategy)) {
        int32_t before = scene_kernel(s.programs[0], first);
        int32_t send = scene_message(s.programs[0], DSC_OP_SEND, 1, 0, BYTES);
        int32_t beside = scene_kernel(s.programs[1], second);
        int32_t recv = scene_message(s.programs[1], DSC_OP_RECV, 0, 0, BYTES);
        int64_t sender = kernel_ns(&s, first), receiver = kernel_ns(&s, second), behind = kernel_ns(&s, third);
        int64_t end = DSC_MAX(sender, receiver) + MESSAGE_NS;

        scene_wait(s.programs[0], send, before);
        scene_wait(s.programs[1], recv, beside);
        scene_wait(s.programs[1], scene_kernel(s.programs[1], third), recv);
        if (run(&s, DSC_RANKS_FOLDED)) {
            const dsc_op_row *out = row_of(&s.trace, 1, 0, send), *in = row_of(&s.trace, 1, 1, recv);

            CHECK(out->t_start_ns == sender && in->t_start_ns == receiver,
                  "rows start at %lld and %lld, not when ready", (long long)out->t_start_ns, (long long)in->t_start_ns);
            CHECK(out->t_end_ns == end && in->t_end_ns == end, "rows end at %lld and %lld, not %lld",
                  (long long)out->t_end_ns, (long long)in->t_end_ns, (long long)end);
            CHECK(s.timing.step_ns == end + behind && s.timing.compute_ns == receiver + behind, "step of %lld ns",
                  (long long)s.timing.step_ns);
            CHECK(s.timing.pp_comm_ns == MESSAGE_NS && s.timing.bubble_ns == DSC_MAX(sender - receiver, 0),
                  "%lld ns of messages, %lld ns of bubble", (long long)s.timing.pp_comm_ns,
                  (long long)s.timing.bubble_ns);
            CHECK(s.wire_bytes == BYTES, "%lld bytes", (long long)s.wire_bytes);
        }
    }
    clean_up(&s);
}

static void messages_wait_for_both_ends(void)
{
    check_message(8 * UNIT, UNIT, 16 * UNIT);
    check_message(UNIT, 8 * UNIT, 16 * UNIT);
}

/* The kernel waits for a gather over tp, the gather for a message, the message for stage 0: a third of the idle time
 * each, whatever the gather's row says. */
static void chains_are_charged_by_link(void)
{
    dsc_strategy strategy = strategy_of(2, 2, 1, 1);
    set s;

    if (set_up(&s, scene_gpus(1, 4), &strategy)) {
        int32_t before = scene_kernel(s.programs[0], UNIT), gather, recv;
        int64_t first = kernel_ns(&s, UNIT), last = kernel_ns(&s, 2 * UNIT);
        int64_t gather_ns = BYTES / 2 / 100 + 1 + SCENE_LATENCY_NS;

        scene_wait(s.programs[0], scene_message(s.programs[0], DSC_OP_SEND, 1, 0, BYTES), before);
        recv = scene_message(s.programs[1], DSC_OP_RECV, 0, 0, BYTES);
        gather = scene_collective(s.programs[1], DSC_OP_ALL_GATHER, DSC_AXIS_TP, BYTES);
        scene_wait(s.programs[1], gather, recv);
        scene_wait(s.programs[1], scene_kernel(s.programs[1], 2 * UNIT), gather);
        if (run(&s, DSC_RANKS_FOLDED)) {
            CHECK(s.timing.step_ns == first + MESSAGE_NS + gather_ns + last, "step of %lld ns",
                  (long long)s.timing.step_ns);
            CHECK(s.timing.bubble_ns == first && s.timing.pp_comm_ns == MESSAGE_NS && s.timing.tp_comm_ns == gather_ns,
                  "bubble %lld, messages %lld, gather %lld ns", (long long)s.timing.bubble_ns,
                  (long long)s.timing.pp_comm_ns, (long long)s.timing.tp_comm_ns);
        }
    }
    clean_up(&s);
}

/* Step of so many collectives in a row. */
static int64_t step_of_collectives(const dsc_op_kind *kinds, int64_t count, int64_t tp, int64_t *wire_bytes)
{
    dsc_strategy strategy = strategy_of(tp, 1, 1, 1);
    set s;

    if (set_up(&s, scene_gpus(1, tp), &strategy)) {
        for (int64_t i = 0; i < count; i++) scene_collective(s.programs[0], kinds[i], DSC_AXIS_TP, 800000);
        run(&s, DSC_RANKS_FOLDED);
    }
    clean_up(&s);
    *wire_bytes = s.wire_bytes;
    return s.timing.step_ns;
}

static void halves_make_an_all_reduce(void)
{
    static const dsc_op_kind halves[] = {DSC_OP_REDUCE_SCATTER, DSC_OP_ALL_GATHER}, whole[] = {DSC_OP_ALL_REDUCE};

    for (int64_t tp = 2; tp <= 4; tp *= 2) {
        int64_t bytes[2], two = step_of_collectives(halves, 2, tp, &bytes[0]);
        int64_t one = step_of_collectives(whole, 1, tp, &bytes[1]);

        CHECK(two == one && one == 2 * (tp - 1) * (800000 / tp / 100 + SCENE_LATENCY_NS), "tp %lld: %lld and %lld ns",
              (long long)tp, (long long)two, (long long)one);
        CHECK(bytes[0] == bytes[1] && bytes[1] == 2 * (tp - 1) * 800000, "tp %lld: %lld and %lld bytes", (long long)tp,
              (long long)bytes[0], (long long)bytes[1]);
    }
}

static void strangers_do_not_meet(void)
{
    dsc_strategy strategy = strategy_of(1, 2, 1, 1);
    set s;

    if (set_up(&s, scene_gpus(1, 2), &strategy)) {
        scene_message(s.programs[0], DSC_OP_SEND, 1, 0, BYTES);
        scene_message(s.programs[1], DSC_OP_RECV, 0, 2, BYTES);
        CHECK(scene_simulate_stages(s.plan, s.cluster, (const dsc_program *const *)s.programs, DSC_RANKS_FOLDED, NULL,
                                    NULL, NULL) == DSC_EINVAL, "a message comes in by another channel");
        CHECK(strstr(dsc_message(), "channel 2") != NULL && strstr(dsc_message(), "channel 0") != NULL, "message: %s",
              dsc_message());
    }
    clean_up(&s);
}

/* ---- Real programs */

typedef struct result { dsc_trace trace; dsc_timing timing; int64_t wire_bytes, by_rows; } result;

/* wire_bytes by the rules of doc/comm.md, from the rows of all ranks: each member's is a share of its group's. */
static int64_t wire_bytes_of(const dsc_plan *plan, const dsc_trace *trace)
{
    int64_t bytes[DSC_AXIS_COUNT] = {0}, sum = 0;

    for (int64_t i = 0; i < trace->op_count; i++) {
        const dsc_op_row *row = &trace->ops[i];
        int axis = -1;

        for (int a = 0; a < DSC_AXIS_COUNT; a++)
            if (row->group >= 0 && dsc_plan_group(plan, row->rank, a) == row->group) axis = a;
        if (row->step != 1 || axis < 0 || row->kind == DSC_OP_RECV) continue;
        if (row->kind == DSC_OP_SEND) sum += row->bytes;
        else bytes[axis] += (row->kind == DSC_OP_ALL_REDUCE || row->kind == DSC_OP_AGREE ? 2 : 1) * row->bytes;
    }
    for (int a = 0; a < DSC_AXIS_COUNT; a++)
        sum += bytes[a] * (dsc_plan_degree(plan, a) - 1) / dsc_plan_degree(plan, a);
    return sum;
}

static bool simulate(const dsc_cluster *cluster, const dsc_strategy *strategy, dsc_trace_ranks ranks, result *out)
{
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
    if (ok) out->by_rows = wire_bytes_of(plan, &out->trace);
    if (plan != NULL) dsc_programs_destroy(plan, programs);
    dsc_plan_destroy(plan);
    return ok;
}

/* Nodes, each with as many NICs as devices, or one, or CPU ranks. */
static dsc_cluster *cluster_of(int i)
{
    dsc_cluster *cluster;

    if (i % 5 == 0) return scene_cpus(8, 16);
    cluster = scene_gpus(1 << i % 4, 8 >> i % 4);
    if (i % 2 == 1) cluster->node_types[0].nics[0].count = 1;
    return cluster;
}

static dsc_strategy strategy_number(int i)
{
    static const int schedules[] = {DSC_1F1B, DSC_GPIPE, DSC_INTERLEAVED, DSC_ZB_H1};
    static const char *const orders[] = {"tp,dp,pp", "dp,tp,pp", "pp,tp,dp"};
    dsc_strategy strategy = strategy_of(2, 2, 2, 4);

    strategy.schedule = schedules[i % DSC_COUNT(schedules)];
    strategy.virtual_stages = strategy.schedule == DSC_INTERLEAVED ? 2 : 1;
    strategy.sequence_parallel = i / 4 % 2 == 1;
    strategy.recompute = i % 3;
    strategy.precision = i % 2 == 0 ? DSC_FP32 : DSC_BF16;
    snprintf(strategy.rank_order, sizeof strategy.rank_order, "%s", orders[i % 3]);
    return strategy;
}

static void compare_rows(int i, const result *folded, const result *whole)
{
    for (int64_t r = 0; r < folded->trace.op_count; r++) {
        const dsc_op_row *row = &folded->trace.ops[r], *twin = row_of(&whole->trace, row->step, row->rank, row->op);

        if (!CHECK(twin != NULL && row->t_start_ns == twin->t_start_ns && row->t_end_ns == twin->t_end_ns,
                   "strategy %d: rank %d, op %d: %lld to %lld ns folded, %lld to %lld not", i, row->rank, row->op,
                   (long long)row->t_start_ns, (long long)row->t_end_ns, twin ? (long long)twin->t_start_ns : -1,
                   twin ? (long long)twin->t_end_ns : -1))
            break;
    }
}

static void folding_changes_nothing(void)
{
    for (int i = 0; i < 24; i++) {
        dsc_strategy strategy = strategy_number(i);
        dsc_cluster *cluster = cluster_of(i);
        result folded, whole;

        if (simulate(cluster, &strategy, DSC_RANKS_FOLDED, &folded) &&
            simulate(cluster, &strategy, DSC_RANKS_ALL, &whole)) {
            CHECK(memcmp(&folded.timing, &whole.timing, sizeof folded.timing) == 0, "strategy %d: %lld and %lld ns", i,
                  (long long)folded.timing.step_ns, (long long)whole.timing.step_ns);
            CHECK(parts_of(&folded.timing) == folded.timing.step_ns, "strategy %d: parts of %lld, a step of %lld ns", i,
                  (long long)parts_of(&folded.timing), (long long)folded.timing.step_ns);
            CHECK(folded.wire_bytes == whole.wire_bytes && whole.wire_bytes == whole.by_rows,
                  "strategy %d: %lld, %lld and by the rows %lld bytes", i, (long long)folded.wire_bytes,
                  (long long)whole.wire_bytes, (long long)whole.by_rows);
            CHECK(whole.trace.op_count == 4 * folded.trace.op_count, "strategy %d: %lld and %lld rows", i,
                  (long long)folded.trace.op_count, (long long)whole.trace.op_count);
            compare_rows(i, &folded, &whole);
        }
        dsc_trace_fini(&folded.trace);
        dsc_trace_fini(&whole.trace);
        dsc_cluster_destroy(cluster);
    }
}

static dsc_text rows_of(int i)
{
    dsc_strategy strategy = strategy_number(i);
    dsc_cluster *cluster = cluster_of(i);
    dsc_text text = {0};
    result result;

    if (simulate(cluster, &strategy, DSC_RANKS_ALL, &result)) CHECK_OK(dsc_trace_export_json(&result.trace, &text));
    dsc_trace_fini(&result.trace);
    dsc_cluster_destroy(cluster);
    return text;
}

static void same_inputs_same_rows(void)
{
    for (int i = 4; i < 8; i++) {
        dsc_text one = rows_of(i), two = rows_of(i);

        CHECK(one.count > 0 && dsc_equal(dsc_text_str(&one), dsc_text_str(&two)), "%lld and %lld bytes of rows",
              (long long)one.count, (long long)two.count);
        dsc_text_fini(&one);
        dsc_text_fini(&two);
    }
}

static const tap_case cases[] = {
    {"GPipe and 1F1B idle (p-1)(F+B+W), ZB-H1 (p-1)(F+B-W), v chunks as long as one of theirs",
     schedules_have_their_bubbles},
    {"a message begins when both ends are ready, and ends for both at once", messages_wait_for_both_ends},
    {"idle time is charged along the chain of what is waited for", chains_are_charged_by_link},
    {"reduce-scatter and all-gather take what an all-reduce does", halves_make_an_all_reduce},
    {"a message that meets another channel ends with an error", strangers_do_not_meet},
    {"folded equals unfolded on tp 2 pp 2 dp 2", folding_changes_nothing},
    {"the same inputs give the same rows", same_inputs_same_rows},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
