/* The event engine: times of programs made by hand are known to the nanosecond, those of real ones hold together. */
#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

/* ---- Looking at traces */

static const dsc_op_row *row_of(const dsc_trace *trace, int step, int rank, int op)
{
    for (int64_t i = 0; i < trace->op_count; i++)
        if (trace->ops[i].step == step && trace->ops[i].rank == rank && trace->ops[i].op == op) return &trace->ops[i];
    return NULL;
}

static int64_t spent(const dsc_op_row *row)
{
    return row->t_end_ns - row->t_start_ns;
}

static int64_t parts_of(const dsc_timing *t)
{
    return t->compute_ns + t->tp_comm_ns + t->pp_comm_ns + t->dp_comm_ns + t->bubble_ns + t->offload_ns +
           t->optimizer_ns + t->other_ns;
}

/* ---- Programs by hand: two kernels about an all-reduce, on two ranks */

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
    s->plan = scene_plan(cluster, 2, 2, DSC_RECOMPUTE_NONE, DSC_FP32);
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

/* 2 (n-1)/n S/b + 2 (n-1) a, of scene.h's links inside a node. */
static const int64_t ALL_REDUCE_NS = (BYTES + 99) / 100 + 2 * SCENE_LATENCY_NS;

static void closed_form_is_exact(void)
{
    set s;
    int32_t before, reduce, after;

    if (set_up(&s, scene_gpus(1, 2))) {
        before = scene_kernel(s.program, ELEMS);
        reduce = scene_all_reduce(s.program, BYTES);
        after = scene_kernel(s.program, 3 * ELEMS);
        scene_wait(s.program, reduce, before);
        scene_wait(s.program, after, reduce);
        if (run(&s, DSC_RANKS_FOLDED)) {
            int64_t first = spent(row_of(&s.trace, 1, 0, before)), last = spent(row_of(&s.trace, 1, 0, after));

            CHECK(spent(row_of(&s.trace, 1, 0, reduce)) == ALL_REDUCE_NS, "%lld ns, not %lld",
                  (long long)spent(row_of(&s.trace, 1, 0, reduce)), (long long)ALL_REDUCE_NS);
            CHECK(s.timing.step_ns == first + ALL_REDUCE_NS + last, "step of %lld ns", (long long)s.timing.step_ns);
            CHECK(s.timing.dp_comm_ns == ALL_REDUCE_NS && s.timing.compute_ns == first + last, "dp %lld, compute %lld",
                  (long long)s.timing.dp_comm_ns, (long long)s.timing.compute_ns);
        }
    }
    clean_up(&s);
}

/* A kernel, and beside it an all-reduce or none. */
static dsc_timing overlap(dsc_cluster *cluster, bool has_reduce)
{
    set s;

    if (set_up(&s, cluster)) {
        scene_kernel(s.program, 8 * ELEMS);
        if (has_reduce) scene_all_reduce(s.program, BYTES);
        run(&s, DSC_RANKS_FOLDED);
    }
    clean_up(&s);
    return s.timing;
}

static void gpu_hides_communication(void)
{
    dsc_timing alone = overlap(scene_gpus(1, 2), false), both = overlap(scene_gpus(1, 2), true);

    CHECK(both.step_ns == alone.step_ns, "step of %lld ns, %lld without", (long long)both.step_ns,
          (long long)alone.step_ns);
    CHECK(both.dp_comm_ns == 0, "%lld ns of hidden communication are charged", (long long)both.dp_comm_ns);
}

/* With one core a rank, its thread takes turns with the transfer's; with many, the transfer has one of them. */
static void cpu_pays_for_communication(void)
{
    dsc_timing alone = overlap(scene_cpus(2, 2), false), both = overlap(scene_cpus(2, 2), true);
    dsc_timing spared = overlap(scene_cpus(2, 64), true);
    int64_t moving = (BYTES + 99) / 100, more = both.step_ns - alone.step_ns;

    CHECK(more >= moving - 1 && more <= moving + 1, "%lld ns more, the transfer takes %lld", (long long)more,
          (long long)moving);
    CHECK(spared.step_ns < alone.step_ns + moving / 16, "step of %lld ns with 32 cores a rank, %lld without transfer",
          (long long)spared.step_ns, (long long)alone.step_ns);
}

static void transfers_share_links(void)
{
    set s;
    dsc_op *other;

    if (set_up(&s, scene_gpus(1, 2))) {
        scene_all_reduce(s.program, BYTES);
        other = &s.program->templates->ops[scene_all_reduce(s.program, BYTES)];
        other->kind = DSC_OP_AGREE;
        other->lane = DSC_LANE_WORLD;
        other->axis = DSC_AXIS_WORLD;
        if (run(&s, DSC_RANKS_FOLDED)) {
            int64_t wanted = 2 * SCENE_LATENCY_NS + (2 * BYTES + 99) / 100;

            CHECK(s.timing.step_ns == wanted, "%lld ns, %lld wanted", (long long)s.timing.step_ns, (long long)wanted);
            CHECK(s.timing.dp_comm_ns == wanted, "%lld ns are charged", (long long)s.timing.dp_comm_ns);
        }
    }
    clean_up(&s);
}

static void cycle_ends_with_a_message(void)
{
    set s;

    if (set_up(&s, scene_gpus(1, 2))) {
        scene_kernel(s.program, ELEMS);
        scene_all_reduce(s.program, BYTES);
        scene_wait(s.program, 0, 1);
        scene_wait(s.program, 1, 0);
        CHECK(scene_simulate(s.plan, s.cluster, s.program, DSC_RANKS_FOLDED, NULL, NULL, NULL) == DSC_EINVAL,
              "a step of it comes to an end");
        CHECK(strstr(dsc_message(), "rank 0: op 0 (mlp_fwd) waits for ever") != NULL, "message: %s", dsc_message());
    }
    clean_up(&s);
}

/* ---- Real programs */

typedef struct result { dsc_trace trace; dsc_timing timing; int64_t wire_bytes, arena_bytes; } result;

static const int precisions[] = {DSC_FP32, DSC_BF16, DSC_FP16};

static bool simulate(dsc_cluster *cluster, int64_t dp, int64_t batch, int recompute, int precision,
                     dsc_trace_ranks ranks, result *out)
{
    dsc_plan *plan = scene_plan(cluster, dp, batch, recompute, precision);
    dsc_program *program = NULL;
    bool ok;

    memset(out, 0, sizeof *out);
    dsc_trace_init(&out->trace);
    ok = plan != NULL && CHECK_OK(dsc_program_create(plan, 0, &program)) &&
         CHECK_OK(scene_simulate(plan, cluster, program, ranks, &out->timing, &out->wire_bytes, &out->trace));
    if (program != NULL) out->arena_bytes = program->arena_bytes[DSC_SPACE_DEVICE];
    dsc_program_destroy(program);
    dsc_plan_destroy(plan);
    return ok;
}

static dsc_cluster *random_cluster(int64_t dp)
{
    int64_t nodes = dp % 2 == 0 ? tap_random_between(1, 2) : 1;

    if (tap_random_between(0, 1) == 0) return scene_gpus(nodes, dp / nodes);
    return scene_cpus(dp, dp * tap_random_between(1, 4));
}

/* Calls check on the results of random strategies. */
static void for_random_strategies(dsc_trace_ranks ranks, void (*check)(const result *result, int64_t dp))
{
    for (int i = 0; i < 24; i++) {
        int64_t dp = tap_random_between(1, 8), batch = dp * tap_random_between(1, 4);
        int recompute = (int)tap_random_between(DSC_RECOMPUTE_NONE, DSC_RECOMPUTE_FULL);
        dsc_cluster *cluster = random_cluster(dp);
        result result;

        if (simulate(cluster, dp, batch, recompute, precisions[tap_random_between(0, 2)], ranks, &result))
            check(&result, dp);
        dsc_trace_fini(&result.trace);
        dsc_cluster_destroy(cluster);
    }
}

static void check_sum(const result *result, int64_t dp)
{
    const dsc_step_row *step = &result->trace.steps[0];

    CHECK(parts_of(&result->timing) == result->timing.step_ns, "dp %lld: parts %lld, step %lld", (long long)dp,
          (long long)parts_of(&result->timing), (long long)result->timing.step_ns);
    CHECK(result->timing.step_ns == step->t_end_ns - step->t_start_ns, "/steps says %lld, timing %lld",
          (long long)(step->t_end_ns - step->t_start_ns), (long long)result->timing.step_ns);
}

static void times_add_up(void)
{
    for_random_strategies(DSC_RANKS_FOLDED, check_sum);
}

static int by_lane_and_time(const void *a, const void *b)
{
    const dsc_op_row *x = a, *y = b;

    if (x->rank != y->rank) return x->rank - y->rank;
    if (x->lane != y->lane) return x->lane - y->lane;
    if (x->t_start_ns != y->t_start_ns) return (x->t_start_ns > y->t_start_ns) - (x->t_start_ns < y->t_start_ns);
    return (x->t_end_ns > y->t_end_ns) - (x->t_end_ns < y->t_end_ns);
}

static void check_lanes(const result *result, int64_t dp)
{
    const dsc_trace *trace = &result->trace;

    qsort(trace->ops, (size_t)trace->op_count, sizeof *trace->ops, by_lane_and_time);
    for (int64_t i = 1; i < trace->op_count; i++) {
        const dsc_op_row *before = &trace->ops[i - 1], *row = &trace->ops[i];

        if (row->rank != before->rank || row->lane != before->lane) continue;
        CHECK(row->t_start_ns >= before->t_end_ns, "dp %lld: op %d starts at %lld, op %d ends at %lld", (long long)dp,
              row->op, (long long)row->t_start_ns, before->op, (long long)before->t_end_ns);
    }
}

static void lanes_run_one_op_at_a_time(void)
{
    for_random_strategies(DSC_RANKS_ALL, check_lanes);
}

static void check_peak(const result *result, int64_t dp)
{
    int64_t peak = 0;

    for (int64_t i = 0; i < result->trace.memory_count; i++)
        if (result->trace.memory[i].space == DSC_SPACE_DEVICE) peak = DSC_MAX(peak, result->trace.memory[i].bytes);
    CHECK(peak == result->arena_bytes, "dp %lld: rows peak at %lld bytes, the arena has %lld", (long long)dp,
          (long long)peak, (long long)result->arena_bytes);
    CHECK(result->trace.memory_count > 0 && result->trace.memory[0].t_ns == 0, "no row when tracing begins");
}

static void memory_peaks_at_the_arena(void)
{
    for_random_strategies(DSC_RANKS_FOLDED, check_peak);
}

static void check_wire(const result *result, int64_t dp)
{
    int64_t bytes = 0;

    for (int64_t i = 0; i < result->trace.op_count; i++) {
        const dsc_op_row *row = &result->trace.ops[i];

        if (row->step == 1 && row->rank == 0 && row->group >= 0) bytes += 2 * (dp - 1) * row->bytes;
    }
    CHECK(bytes == result->wire_bytes && bytes == result->trace.steps[0].wire_bytes, "dp %lld: %lld by the rows, %lld",
          (long long)dp, (long long)bytes, (long long)result->wire_bytes);
    CHECK((dp > 1) == (bytes > 0), "dp %lld: %lld bytes", (long long)dp, (long long)bytes);
}

static void wire_bytes_follow_the_rules(void)
{
    for_random_strategies(DSC_RANKS_ALL, check_wire);
}

static void folding_changes_nothing(void)
{
    for (int i = 0; i < 12; i++) {
        int64_t dp = tap_random_between(2, 8);
        dsc_cluster *cluster = random_cluster(dp);
        result folded, whole;

        if (simulate(cluster, dp, 2 * dp, DSC_RECOMPUTE_NONE, precisions[i % 3], DSC_RANKS_FOLDED, &folded) &&
            simulate(cluster, dp, 2 * dp, DSC_RECOMPUTE_NONE, precisions[i % 3], DSC_RANKS_ALL, &whole)) {
            CHECK(memcmp(&folded.timing, &whole.timing, sizeof folded.timing) == 0, "steps of %lld and %lld ns",
                  (long long)folded.timing.step_ns, (long long)whole.timing.step_ns);
            CHECK(folded.wire_bytes == whole.wire_bytes, "%lld and %lld bytes", (long long)folded.wire_bytes,
                  (long long)whole.wire_bytes);
            CHECK(whole.trace.op_count == dp * folded.trace.op_count, "%lld and %lld rows",
                  (long long)whole.trace.op_count, (long long)folded.trace.op_count);
            for (int64_t r = 0; r < whole.trace.op_count; r++) {
                const dsc_op_row *row = &whole.trace.ops[r], *twin = row_of(&folded.trace, row->step, 0, row->op);

                if (!CHECK(twin != NULL && row->t_start_ns == twin->t_start_ns && row->t_end_ns == twin->t_end_ns,
                           "rank %d, op %d runs at another time than its representative's", row->rank, row->op)) break;
            }
        }
        dsc_trace_fini(&folded.trace);
        dsc_trace_fini(&whole.trace);
        dsc_cluster_destroy(cluster);
    }
}

/* All rows of a simulation as text. */
static dsc_text rows_of(dsc_cluster *cluster)
{
    dsc_text text = {0};
    result result;

    if (simulate(cluster, 4, 8, DSC_RECOMPUTE_FULL, DSC_BF16, DSC_RANKS_ALL, &result))
        CHECK_OK(dsc_trace_export_json(&result.trace, &text));
    dsc_trace_fini(&result.trace);
    dsc_cluster_destroy(cluster);
    return text;
}

static void same_inputs_same_rows(void)
{
    dsc_text one = rows_of(scene_cpus(4, 2)), two = rows_of(scene_cpus(4, 2));

    CHECK(one.count > 0 && dsc_equal(dsc_text_str(&one), dsc_text_str(&two)), "%lld and %lld bytes of rows",
          (long long)one.count, (long long)two.count);
    dsc_text_fini(&one);
    dsc_text_fini(&two);
}

static void half_precision_has_two_paths(void)
{
    result result;
    dsc_cluster *cluster = scene_gpus(1, 2);

    if (simulate(cluster, 2, 4, DSC_RECOMPUTE_NONE, DSC_FP16, DSC_RANKS_FOLDED, &result) &&
        CHECK(result.trace.step_count == 2, "%lld steps", (long long)result.trace.step_count)) {
        const dsc_step_row *steps = result.trace.steps;

        CHECK(strcmp(steps[0].path, "gradients/update") == 0 && strcmp(steps[1].path, "gradients") == 0, "%s, %s",
              steps[0].path, steps[1].path);
        CHECK(steps[1].t_start_ns == steps[0].t_end_ns, "a gap between steps");
        CHECK(steps[1].t_end_ns - steps[1].t_start_ns < steps[0].t_end_ns - steps[0].t_start_ns, "skipping costs time");
    }
    dsc_trace_fini(&result.trace);
    dsc_cluster_destroy(cluster);
}

static const tap_case cases[] = {
    {"the closed form is exact where nothing contends", closed_form_is_exact},
    {"a GPU hides communication behind its kernels, which then is charged nothing", gpu_hides_communication},
    {"CPU ranks pay for a collective with their cores' time", cpu_pays_for_communication},
    {"transfers at once share their links", transfers_share_links},
    {"a cyclic program ends with a message instead of a hang", cycle_ends_with_a_message},
    {"times under `time` add up to the step", times_add_up},
    {"a lane runs one op at a time", lanes_run_one_op_at_a_time},
    {"memory rows peak at the arena's size", memory_peaks_at_the_arena},
    {"wire bytes are 2 (N-1) n for every all-reduce", wire_bytes_follow_the_rules},
    {"folded equals unfolded", folding_changes_nothing},
    {"the same inputs give the same rows", same_inputs_same_rows},
    {"fp16 has a path for steps that are skipped", half_precision_has_two_paths},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
