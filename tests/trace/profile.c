#include "trace/profile.h"
#include "tests/tap.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COMPUTE, WIRE };
enum { GEMM, LOSS, REDUCE, UNATTRIBUTED };

static void make(dsc_trace *trace, bool is_measured)
{
    static const char *const kinds[] = {"gemm", "loss", "all_reduce", "unattributed", NULL};
    static const char *const lanes[] = {"compute", "all_reduce", NULL}, *const spaces[] = {"device", NULL};

    dsc_trace_init(trace);
    trace->head.is_measured = is_measured;
    strcpy(trace->head.program_hash, "0123456789abcdef0123456789abcdef");
    dsc_names_copy(kinds, &trace->head.kinds, &trace->head.kind_count);
    dsc_names_copy(lanes, &trace->head.lanes, &trace->head.lane_count);
    dsc_names_copy(spaces, &trace->head.spaces, &trace->head.space_count);
}

static void add_op(dsc_trace *trace, int32_t step, int32_t rank, int32_t op, int32_t lane, int32_t kind, int64_t start,
                   int64_t end)
{
    dsc_op_row row = {step, rank, op, lane, kind, -1, -1, -1, -1, start, end, lane == WIRE ? 4096 : 0, 0};

    DSC_PUSH(trace->ops, trace->op_count, trace->op_capacity, row);
}

static void add_step(dsc_trace *trace, int32_t step, const char *path, int64_t start, int64_t end)
{
    dsc_step_row row = {.step = step, .loss = 2.5, .tokens = 100, .t_start_ns = start, .t_end_ns = end};

    strcpy(row.path, path);
    DSC_PUSH(trace->steps, trace->step_count, trace->step_capacity, row);
}

/* gemm [0, 4), reduce [2, 6) on the wire, loss [5, 8), in units of `unit`; the step is 10. */
static void add_usual_step(dsc_trace *trace, int32_t step, const char *path, int32_t ranks, int64_t unit)
{
    int64_t start = step * 1000000;

    for (int32_t rank = 0; rank < ranks; rank++) {
        add_op(trace, step, rank, 0, COMPUTE, GEMM, start, start + 4 * unit);
        add_op(trace, step, rank, 1, WIRE, REDUCE, start + 2 * unit, start + 6 * unit);
        add_op(trace, step, rank, 2, COMPUTE, LOSS, start + 5 * unit, start + 8 * unit);
        if (trace->head.is_measured) {
            add_op(trace, step, rank, -1, COMPUTE, UNATTRIBUTED, start + 8 * unit, start + 9 * unit);
            add_op(trace, step, rank, -1, COMPUTE, UNATTRIBUTED, start + 9 * unit, start + 10 * unit);
        }
    }
    add_step(trace, step, path, start, start + 10 * unit);
}

/* Seven steps whose first two are slow, whose units are 100 to 104, and one of another path among them. */
static void make_measured(dsc_trace *trace, int32_t ranks)
{
    make(trace, true);
    add_usual_step(trace, 1, "a/b", ranks, 5000);
    add_usual_step(trace, 2, "a/b", ranks, 3000);
    for (int32_t i = 0; i < 5; i++) add_usual_step(trace, 3 + i, "a/b", ranks, 100 + i);
    add_usual_step(trace, 8, "a/skip", ranks, 50);
}

static void reduces_over_steps(void)
{
    dsc_trace trace;
    dsc_profile profile;

    make_measured(&trace, 2);
    if (!CHECK_OK(dsc_profile_create(&trace, NULL, &profile))) goto out;
    CHECK(dsc_equal(profile.path, "a/b") && profile.step_count == 5 && profile.other_count == 1 &&
              profile.rank_count == 2,
          "path %s, %lld steps, %lld others", profile.path, (long long)profile.step_count,
          (long long)profile.other_count);
    CHECK(profile.step_ns == 1020 && profile.least_ns == 1000 && profile.most_ns == 1040, "median %lld",
          (long long)profile.step_ns);
    if (CHECK(profile.op_count == 8, "%lld ops", (long long)profile.op_count)) {
        CHECK(profile.ops[0].row.op == -1 && profile.ops[0].time_ns == 204, "unattributed %lld",
              (long long)profile.ops[0].time_ns);
        CHECK(profile.ops[1].row.op == 0 && profile.ops[1].time_ns == 408, "gemm %lld",
              (long long)profile.ops[1].time_ns);
    }
    CHECK(fabs(profile.overlap.compute_ns - 714) < 1e-9 && fabs(profile.overlap.other_ns - 408) < 1e-9 &&
          fabs(profile.overlap.busy_ns - 816) < 1e-9, "compute %g, other %g, busy %g", profile.overlap.compute_ns,
          profile.overlap.other_ns, profile.overlap.busy_ns);
    dsc_profile_fini(&profile);
    trace.step_count = 2;
    if (CHECK_OK(dsc_profile_create(&trace, NULL, &profile)))
        CHECK(profile.step_count == 2 && profile.step_ns == 40000, "%lld steps, median %lld",
              (long long)profile.step_count, (long long)profile.step_ns);
    dsc_profile_fini(&profile);
out:
    dsc_trace_fini(&trace);
}

/* Random intervals, checked nanosecond by nanosecond. */
static void measures_overlap(void)
{
    enum { SPAN = 400, OPS = 30 };
    bool busy[2][SPAN] = {{false}};
    int64_t count[2] = {0, 0}, any = 0;
    dsc_trace trace;
    dsc_profile profile;

    make(&trace, false);
    for (int32_t op = 0; op < OPS; op++) {
        int64_t start = tap_random_between(0, SPAN - 1), end = tap_random_between(start, SPAN);
        int32_t lane = (int32_t)tap_random_between(COMPUTE, WIRE);

        add_op(&trace, 1, 0, op, lane, lane == WIRE ? REDUCE : GEMM, start, end);
        for (int64_t t = start; t < end; t++) busy[lane][t] = true;
    }
    add_step(&trace, 1, "a", 0, SPAN);
    for (int t = 0; t < SPAN; t++) {
        for (int lane = 0; lane < 2; lane++) count[lane] += busy[lane][t];
        any += busy[0][t] || busy[1][t];
    }
    if (CHECK_OK(dsc_profile_create(&trace, NULL, &profile)))
        CHECK(profile.overlap.compute_ns == count[0] && profile.overlap.other_ns == count[1] &&
                  profile.overlap.busy_ns == any,
              "%g, %g, %g; counted %lld, %lld, %lld", profile.overlap.compute_ns, profile.overlap.other_ns,
              profile.overlap.busy_ns, (long long)count[0], (long long)count[1], (long long)any);
    dsc_profile_fini(&profile);
    dsc_trace_fini(&trace);
}

static void refuses_uneven_steps(void)
{
    dsc_trace trace;
    dsc_profile profile;

    make_measured(&trace, 1);
    add_op(&trace, 5, 0, 2, COMPUTE, LOSS, 0, 1);
    CHECK(dsc_profile_create(&trace, NULL, &profile) == DSC_EINVAL &&
              strstr(dsc_message(), "op 2 has two rows in step 5"),
          "%s", dsc_message());
    trace.ops[trace.op_count - 1].op = 9;
    CHECK(dsc_profile_create(&trace, NULL, &profile) == DSC_EINVAL && strstr(dsc_message(), "op 9 is in 1 of 5 steps"),
          "%s", dsc_message());
    trace.step_count = 0;
    CHECK(dsc_profile_create(&trace, NULL, &profile) == DSC_EINVAL && strstr(dsc_message(), "has no step"), "%s",
          dsc_message());
    dsc_trace_fini(&trace);
}

/* ---- Comparing */

static void compares(void)
{
    dsc_trace predicted, measured;
    dsc_text text = {0};
    double relative = -1;

    make(&predicted, false);
    add_usual_step(&predicted, 1, "a/skip", 2, 60);
    add_usual_step(&predicted, 2, "a/b", 2, 51);
    make_measured(&measured, 2);
    CHECK_OK(dsc_trace_diff(&predicted, &measured, &text, &relative));
    CHECK(fabs(relative - 0.5) < 1e-12, "relative %g", relative);
    CHECK(strstr(dsc_text_str(&text), "error -50.0 %\n"), "%s", dsc_text_str(&text));
    dsc_text_fini(&text);
    CHECK_OK(dsc_trace_diff_json(&predicted, &measured, &text, &relative));
    CHECK(strstr(dsc_text_str(&text), "\"path\": \"a/b\""), "%s", dsc_text_str(&text));
    dsc_text_fini(&text);
    dsc_trace_fini(&predicted);
    dsc_trace_fini(&measured);
}

static void joins_representatives(void)
{
    const dsc_rank_row ranks[] = {{0, 0}, {1, 0}};
    dsc_trace predicted, measured;
    dsc_text text = {0};
    double relative;

    make(&predicted, false);
    add_usual_step(&predicted, 1, "a/b", 1, 102);
    make_measured(&measured, 2);
    CHECK(dsc_trace_diff(&predicted, &measured, &text, &relative) == DSC_EINVAL &&
          strstr(dsc_message(), "rank 1 is measured and not predicted"), "%s", dsc_message());
    for (int i = 0; i < 2; i++) DSC_PUSH(predicted.ranks, predicted.rank_count, predicted.rank_capacity, ranks[i]);
    CHECK_OK(dsc_trace_diff(&predicted, &measured, &text, &relative));
    CHECK(relative == 0, "relative %g", relative);
    dsc_text_fini(&text);
    dsc_trace_fini(&predicted);
    dsc_trace_fini(&measured);
}

static void refuses(const dsc_trace *predicted, const dsc_trace *measured, const char *why)
{
    dsc_text text = {0};
    double relative;

    CHECK(dsc_trace_diff(predicted, measured, &text, &relative) == DSC_EINVAL && strstr(dsc_message(), why), "%s",
          dsc_message());
    dsc_text_fini(&text);
}

static void refuses_what_does_not_join(void)
{
    dsc_trace predicted, measured;

    make(&predicted, false);
    add_usual_step(&predicted, 1, "a/b", 1, 100);
    make_measured(&measured, 1);
    predicted.ops[1].kind = LOSS;
    refuses(&predicted, &measured, "op 1 is loss on lane all_reduce in the prediction, all_reduce on lane all_reduce");
    predicted.ops[1].kind = REDUCE;
    predicted.op_count--;
    refuses(&predicted, &measured, "rank 0, op 2 is measured and not predicted");
    predicted.op_count++;
    add_op(&predicted, 1, 0, 3, COMPUTE, GEMM, 0, 1);
    refuses(&predicted, &measured, "rank 0, op 3 is predicted and not measured");
    strcpy(predicted.steps[0].path, "a/c");
    refuses(&predicted, &measured, "no step of path a/b");
    predicted.head.program_hash[0] = 'f';
    refuses(&predicted, &measured, "program f123");
    dsc_trace_fini(&predicted);
    dsc_trace_fini(&measured);
}

/* 40 kinds: more than there is room for. */
static void make_wide(dsc_trace *trace, bool is_measured)
{
    const char *kinds[41] = {"loss"};
    char names[40][16];
    static const char *const lanes[] = {"compute", NULL}, *const spaces[] = {"device", NULL};

    dsc_trace_init(trace);
    trace->head.is_measured = is_measured;
    for (int i = 1; i < 40; i++) {
        snprintf(names[i], sizeof names[i], "kind%d", i);
        kinds[i] = names[i];
    }
    dsc_names_copy(kinds, &trace->head.kinds, &trace->head.kind_count);
    dsc_names_copy(lanes, &trace->head.lanes, &trace->head.lane_count);
    dsc_names_copy(spaces, &trace->head.spaces, &trace->head.space_count);
    for (int32_t i = 0; i < 40; i++)
        add_op(trace, 1, 0, i, COMPUTE, i, i * 1000, i * 1000 + 900 + (is_measured ? i : 0));
    add_step(trace, 1, "a", 0, 40000);
}

static void fits_a_screen(void)
{
    dsc_trace predicted, measured;
    dsc_text text = {0};
    double relative;
    int lines = 0;
    const char *last = "";

    make_wide(&predicted, false);
    make_wide(&measured, true);
    CHECK_OK(dsc_trace_diff(&predicted, &measured, &text, &relative));
    for (const char *line = dsc_text_str(&text); *line != '\0'; line = strchr(line, '\n') + 1) {
        const char *word = strstr(line, "loss");

        last = line;
        lines++;
        if (word == NULL || word > strchr(line, '\n')) continue;
        word += 4 + strspn(word + 4, " \t|-");
        CHECK(strspn(word, "0123456789") == 0 || word[strspn(word, "0123456789")] != '.', "a loss: %s", word);
    }
    CHECK(lines <= 40, "%d lines", lines);
    CHECK(strncmp(last, "median step: predicted ", 23) == 0, "the last line is %s", last);
    CHECK(strstr(dsc_text_str(&text), "(others)"), "nothing was merged");
    dsc_text_fini(&text);
    dsc_trace_fini(&predicted);
    dsc_trace_fini(&measured);
}

/* ---- Exports */

static void exports(void)
{
    dsc_trace trace;
    dsc_text json = {0}, csv = {0}, summary = {0};
    dsc_memory_row memory = {1, 0, 0, 5, 1 << 20};
    json_t *root, *event;
    size_t complete = 0, i, lines = 0;

    make_measured(&trace, 2);
    DSC_PUSH(trace.memory, trace.memory_count, trace.memory_capacity, memory);
    CHECK_OK(dsc_trace_export_json(&trace, &json));
    root = json_loads(dsc_text_str(&json), 0, NULL);
    json_array_foreach(json_object_get(root, "traceEvents"), i, event)
        complete += dsc_equal(json_string_value(json_object_get(event, "ph")), "X");
    CHECK(complete == (size_t)(trace.op_count + trace.step_count), "%zu events", complete);
    json_decref(root);
    CHECK_OK(dsc_trace_export_csv(&trace, &csv));
    for (const char *at = dsc_text_str(&csv); *at != '\0'; at++) lines += *at == '\n';
    CHECK(lines == (size_t)trace.op_count + 1, "%zu lines", lines);
    CHECK(strstr(dsc_text_str(&csv),
                 "step,rank,op,lane,kind,layer,micro_batch,chunk,group,t_start_ns,t_end_ns,bytes,flops\n"
                 "1,0,0,compute,gemm,-1,-1,-1,-1,1000000,1020000,0,0\n") == csv.bytes,
          "%.200s", dsc_text_str(&csv));
    CHECK_OK(dsc_trace_summary_json(&trace, &summary));
    root = json_loads(dsc_text_str(&summary), 0, NULL);
    CHECK(json_integer_value(json_object_get(root, "steps")) == 5, "%s", dsc_text_str(&summary));
    json_decref(root);
    dsc_text_fini(&summary);
    CHECK_OK(dsc_trace_summary(&trace, &summary));
    CHECK(strstr(dsc_text_str(&summary), "peak of device memory 1.00 MiB, on rank 0"), "%s", dsc_text_str(&summary));
    dsc_text_fini(&summary);
    dsc_text_fini(&json);
    dsc_text_fini(&csv);
    dsc_trace_fini(&trace);
}

static const tap_case cases[] = {
    {"a profile holds medians over the steps of the main path, without the first two", reduces_over_steps},
    {"overlap and idle time are those counted nanosecond by nanosecond", measures_overlap},
    {"steps of one path that hold other ops are refused by op", refuses_uneven_steps},
    {"a diff joins on path, rank and op, and its error is that of the median step", compares},
    {"a folded rank joins its representative", joins_representatives},
    {"what does not join is refused by rank and op", refuses_what_does_not_join},
    {"a diff fits a screen, ends with the median step and shows no loss", fits_a_screen},
    {"exports hold every row", exports},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
