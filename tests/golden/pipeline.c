/* Golden pipelines: golden-pipeline FILE.json... compares orders of passes, partitions of layers and places of ranks
 * with DeepSpeed's, Megatron's and ZB-H1's. A file is an array, or an object with an array "cases", of items that are
 * each of one of five forms:
 *   order_1f1b, order_gpipe, order_zbh1_quickstart   of a stage each: "F0 F1 B0 ..."
 *   model_chunks, ranks                              interleaved 1F1B: "F0.0 F1.0 ... B0.1 ..."
 *   schedule, per_stage                              DeepSpeed's instructions, tick by tick
 *   weights, balanced, uniform                       partitions
 *   topology, dims, groups                           rank to coordinate */
#include "base/json.h"
#include "plan/partition.h"
#include "plan/plan.h"
#include "program/schedule.h"
#include "tests/tap.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t whole(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *string_of(const json_t *value)
{
    return json_is_string(value) ? json_string_value(value) : "(no string)";
}

/* ---- Orders of passes */

/* As the files write them; a pass that makes both gradients is B, or BW where others make one. */
static void write_pass(const dsc_pass *pass, bool has_chunks, bool has_halves, dsc_text *out)
{
    static const char *const names[] = {"F", "B", "W", "B"};
    bool is_both = has_halves && pass->kind == DSC_PASS_BACKWARD;

    dsc_text_add(out, "%s%s%d", out->count > 0 ? " " : "", is_both ? "BW" : names[pass->kind], pass->micro_batch);
    if (has_chunks) dsc_text_add(out, ".%d", pass->chunk);
}

static void compare_order(int schedule, const json_t *item, int64_t stage, const char *expected)
{
    bool is_interleaved = schedule == DSC_INTERLEAVED;
    int64_t stages = whole(item, "stages"), micro_batches = whole(item, "micro_batches"), count = 0;
    int64_t chunks = is_interleaved ? whole(item, "model_chunks") : 1;
    dsc_pass *passes = NULL;
    dsc_text text = {0};

    if (!CHECK_OK(dsc_schedule_create(schedule, stages, stage, micro_batches, chunks, &passes, &count))) return;
    for (int64_t i = 0; i < count; i++) write_pass(&passes[i], is_interleaved, schedule == DSC_ZB_H1, &text);
    CHECK(dsc_equal(dsc_text_str(&text), expected),
          "schedule %d, %" PRId64 " micro-batches, stage %" PRId64 " of %" PRId64 ": %s, expected %s", schedule,
          micro_batches, stage, stages, dsc_text_str(&text), expected);
    dsc_text_fini(&text);
    free(passes);
}

static int schedule_of(const char *key)
{
    if (dsc_equal(key, "order_1f1b")) return DSC_1F1B;
    if (dsc_equal(key, "order_gpipe")) return DSC_GPIPE;
    return dsc_equal(key, "order_zbh1_quickstart") ? DSC_ZB_H1 : DSC_SCHEDULE_AUTO;
}

static bool is_order(const char *key) { return strncmp(key, "order_", strlen("order_")) == 0; }

static void compare_orders(const json_t *item)
{
    size_t stages = (size_t)whole(item, "stages");
    const json_t *order;
    const char *key;

    json_object_foreach((json_t *)item, key, order) {
        if (!is_order(key)) continue;
        CHECK(json_array_size(order) == stages && stages > 0, "%s: %zu orders of %zu stages", key,
              json_array_size(order), stages);
        for (size_t stage = 0; stage < json_array_size(order); stage++)
            compare_order(schedule_of(key), item, (int64_t)stage, string_of(json_array_get(order, stage)));
    }
}

/* Forward passes before the first backward pass: the warm-up, and the one of the first turn where there is one. */
static int64_t leading_forwards(const json_t *item, int64_t stage)
{
    int64_t count = 0, forwards = 0;
    dsc_pass *passes = NULL;

    if (!CHECK_OK(dsc_schedule_create(DSC_INTERLEAVED, whole(item, "stages"), stage, whole(item, "micro_batches"),
                                      whole(item, "model_chunks"), &passes, &count)))
        return -1;
    while (forwards < count && passes[forwards].kind == DSC_PASS_FORWARD) forwards++;
    free(passes);
    return forwards;
}

static void compare_interleaved(const json_t *item)
{
    const json_t *ranks = json_object_get(item, "ranks"), *rank;
    int64_t stages = whole(item, "stages"), all = whole(item, "micro_batches") * whole(item, "model_chunks");
    size_t i;

    CHECK((int64_t)json_array_size(ranks) == stages && stages > 0, "%zu ranks of %" PRId64 " stages",
          json_array_size(ranks), stages);
    CHECK(whole(item, "group_size") == stages, "groups of %" PRId64 " micro-batches, ours are of %" PRId64,
          whole(item, "group_size"), stages);
    json_array_foreach(ranks, i, rank) {
        int64_t stage = whole(rank, "rank"), warmup = whole(rank, "num_warmup");

        compare_order(DSC_INTERLEAVED, item, stage, string_of(json_object_get(rank, "order")));
        CHECK(leading_forwards(item, stage) == DSC_MIN(warmup + 1, all), "stage %" PRId64 ": warm-up of %" PRId64,
              stage, warmup);
    }
}

/* ---- DeepSpeed's instructions */

/* A stage's instructions read against our passes. Ours send and receive inside a pass, so a micro-batch's activation
 * must be there before its forward pass and leave after it, gradients likewise; when exactly, within that, is a matter
 * of lanes here and of blocking calls there. InferenceSchedule has no counterpart: of it the forward passes, and what
 * they send and receive, are those of training. */
typedef struct reading {
    const dsc_pass *passes; /* of one stage, in order */
    int64_t pass_count, next_pass;
    int64_t stage, stages, micro_batches;
    int64_t buffers;
    bool is_inference;
    int64_t seen[10];       /* instructions of each kind */
} reading;

enum { LD, F, B, SA, RA, SG, RG, RTG, RDG, STEP };
static const char *const MNEMONICS[] = {"LD", "F", "B", "SA", "RA", "SG", "RG", "RTG", "RDG", "STEP", NULL};

static bool read_pass(reading *r, int kind)
{
    dsc_pass_kind wanted = kind == F ? DSC_PASS_FORWARD : DSC_PASS_BACKWARD;

    while (r->is_inference && r->next_pass < r->pass_count && r->passes[r->next_pass].kind != DSC_PASS_FORWARD)
        r->next_pass++;
    if (r->next_pass == r->pass_count) return false;
    const dsc_pass *pass = &r->passes[r->next_pass++];
    return pass->kind == (int)wanted && pass->micro_batch == r->seen[kind];
}

/* Whether an instruction may stand where it does, for the next micro-batch of its kind. */
static bool is_in_place(reading *r, int kind)
{
    int64_t micro_batch = r->seen[kind];
    bool is_done = r->seen[F] == r->micro_batches && r->seen[B] == r->micro_batches;

    switch (kind) {
    case F:
    case B: return read_pass(r, kind);
    case LD:
    case RA: return micro_batch >= r->seen[F];
    case RG: return micro_batch >= r->seen[B];
    case SA: return micro_batch < r->seen[F];
    case SG: return micro_batch < r->seen[B];
    default: return is_done; /* what ends a step */
    }
}

static bool read_instruction(reading *r, const char *word)
{
    size_t letters = strcspn(word, "0123456789");
    int kind = 0;

    while (MNEMONICS[kind] != NULL && (strncmp(MNEMONICS[kind], word, letters) != 0 || MNEMONICS[kind][letters] != 0))
        kind++;
    if (MNEMONICS[kind] == NULL || !is_in_place(r, kind)) return false;
    if (kind < RTG && strtoll(word + letters, NULL, 10) != r->seen[kind] % r->buffers) return false;
    r->seen[kind]++;
    return true;
}

static void read_steps(reading *r, const json_t *steps)
{
    char words[256], *rest, *word;
    const json_t *step;
    size_t tick;

    json_array_foreach(steps, tick, step) {
        snprintf(words, sizeof words, "%s", string_of(step));
        for (rest = words; (word = strsep(&rest, " ")) != NULL;)
            if (word[0] != '\0' && !CHECK(read_instruction(r, word),
                                          "stage %" PRId64 " of %" PRId64 ", tick %zu: %s is not where ours is",
                                          r->stage, r->stages, tick, word))
                return;
    }
}

/* How many of each kind there must have been. */
static void check_counts(const reading *r)
{
    bool is_first = r->stage == 0, is_last = r->stage == r->stages - 1;
    int64_t m = r->micro_batches, backward = r->is_inference ? 0 : m, end = !r->is_inference;
    const int64_t expected[] = {[LD] = is_first || is_last ? m : 0,
                                [F] = m,
                                [B] = backward,
                                [SA] = is_last ? 0 : m,
                                [RA] = is_first ? 0 : m,
                                [SG] = is_first ? 0 : backward,
                                [RG] = is_last ? 0 : backward,
                                [RTG] = end,
                                [RDG] = end,
                                [STEP] = end};

    for (int kind = 0; kind <= STEP; kind++)
        CHECK(r->seen[kind] == expected[kind], "stage %" PRId64 " of %" PRId64 ": %" PRId64 " x %s, ours are %" PRId64,
              r->stage, r->stages, r->seen[kind], MNEMONICS[kind], expected[kind]);
}

/* The most micro-batches whose forward pass is made and whose backward pass is not. */
static int64_t most_in_flight(const dsc_pass *passes, int64_t count)
{
    int64_t now = 0, most = 0;

    for (int64_t i = 0; i < count; i++) {
        now += passes[i].kind == DSC_PASS_FORWARD ? 1 : -1;
        most = DSC_MAX(most, now);
    }
    return most;
}

/* DeepSpeed keeps two buffers at least; we keep as many as there are micro-batches in flight. */
static void compare_stage(const json_t *item, const json_t *stage)
{
    reading r = {.stage = whole(stage, "stage"), .stages = whole(item, "stages"),
                 .micro_batches = whole(item, "micro_batches"), .buffers = whole(stage, "num_pipe_buffers"),
                 .is_inference = dsc_equal(string_of(json_object_get(item, "schedule")), "InferenceSchedule")};
    dsc_pass *passes = NULL;
    int64_t expected;

    if (!CHECK_OK(dsc_schedule_create(DSC_1F1B, r.stages, r.stage, r.micro_batches, 1, &passes, &r.pass_count))) return;
    r.passes = passes;
    expected = r.is_inference ? 2 : DSC_MAX(2, most_in_flight(passes, r.pass_count));
    if (CHECK(r.buffers == expected, "stage %" PRId64 " of %" PRId64 ": %" PRId64 " buffers, by our passes %" PRId64,
              r.stage, r.stages, r.buffers, expected)) {
        read_steps(&r, json_object_get(stage, "steps"));
        check_counts(&r);
    }
    free(passes);
}

static void compare_instructions(const json_t *item)
{
    const char *schedule = string_of(json_object_get(item, "schedule"));
    const json_t *stages = json_object_get(item, "per_stage"), *stage;
    size_t i;

    CHECK(dsc_equal(schedule, "TrainSchedule") || dsc_equal(schedule, "InferenceSchedule"), "schedule %s", schedule);
    CHECK((int64_t)json_array_size(stages) == whole(item, "stages"), "%zu stages of %" PRId64, json_array_size(stages),
          whole(item, "stages"));
    json_array_foreach(stages, i, stage) compare_stage(item, stage);
}

/* ---- Partitions */

static void compare_parts(const json_t *item, const char *key, const int64_t *first, int64_t parts)
{
    const json_t *expected = json_object_get(item, key);

    CHECK((int64_t)json_array_size(expected) == parts + 1, "%s: %zu bounds of %" PRId64 " parts", key,
          json_array_size(expected), parts);
    for (int64_t i = 0; i <= parts; i++) {
        int64_t bound = json_integer_value(json_array_get(expected, (size_t)i));

        CHECK(first[i] == bound, "%s, %s, %" PRId64 " parts: bound %" PRId64 " is %" PRId64 ", expected %" PRId64,
              string_of(json_object_get(item, "name")), key, parts, i, first[i], bound);
    }
}

static void compare_partition(const json_t *item)
{
    const json_t *given = json_object_get(item, "weights");
    int64_t items = (int64_t)json_array_size(given), parts = whole(item, "num_parts");
    double *weights = calloc((size_t)items + 1, sizeof *weights);
    int64_t *first = calloc((size_t)DSC_MAX(parts, 0) + 1, sizeof *first);

    if (CHECK(items > 0 && parts > 0 && weights != NULL && first != NULL, "%" PRId64 " items, %" PRId64 " parts",
              items, parts)) {
        for (int64_t i = 0; i < items; i++) weights[i] = json_number_value(json_array_get(given, (size_t)i));
        dsc_partition_uniform(items, parts, first);
        compare_parts(item, "uniform", first, parts);
        if (CHECK_OK(dsc_partition_balanced(weights, items, parts, first)))
            compare_parts(item, "balanced", first, parts);
    }
    free(weights);
    free(first);
}

/* ---- Places of ranks */

static int axis_of(const char *name)
{
    static const char *const names[] = {"pipe", "data", "model", NULL};
    static const int axes[] = {DSC_AXIS_PP, DSC_AXIS_DP, DSC_AXIS_TP};

    for (int i = 0; names[i] != NULL; i++)
        if (dsc_equal(names[i], name)) return axes[i];
    return -1;
}

/* A plan of that grid, for a model that it can cut: in a topology the last axis is the fastest, in ours the first. */
static dsc_plan *plan_of(const json_t *item)
{
    const json_t *axes = json_object_get(item, "axes"), *dims = json_object_get(item, "dims");
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_cluster *cluster = NULL;
    dsc_plan *plan = NULL;
    dsc_text order = {0};
    char text[160];
    dsc_model model;
    int64_t degrees[] = {1, 1, 1, 1};

    for (size_t i = json_array_size(axes); i-- > 0;) {
        int axis = axis_of(string_of(json_array_get(axes, i)));

        if (!CHECK(axis >= 0, "axis \"%s\"", string_of(json_array_get(axes, i)))) return NULL;
        degrees[axis] = json_integer_value(json_array_get(dims, i));
        dsc_text_add(&order, "%s%s", order.count > 0 ? "," : "", DSC_AXIS_NAMES[axis]);
    }
    snprintf(config.strategy.rank_order, sizeof config.strategy.rank_order, "%s", dsc_text_str(&order));
    dsc_text_fini(&order);
    config.strategy.tp = degrees[DSC_AXIS_TP];
    config.strategy.dp = degrees[DSC_AXIS_DP];
    config.strategy.pp = degrees[DSC_AXIS_PP];
    snprintf(text, sizeof text, "layers=%lld,hidden=%lld,heads=%lld,vocab=%lld,seq=8", (long long)degrees[DSC_AXIS_PP],
             (long long)(8 * degrees[DSC_AXIS_TP]), (long long)degrees[DSC_AXIS_TP],
             (long long)(8 * degrees[DSC_AXIS_TP]));
    if (CHECK_OK(dsc_model_load(text, &model)) && CHECK_OK(dsc_plan_load_cluster("local", &config, &cluster)))
        CHECK_OK(dsc_plan_create(&model, cluster, &config, &plan));
    dsc_cluster_destroy(cluster);
    return plan;
}

static void compare_coordinates(const dsc_plan *plan, const json_t *axes, const json_t *coordinates)
{
    const json_t *coordinate, *axis;
    size_t rank, i;

    CHECK((int64_t)json_array_size(coordinates) == plan->ranks, "%zu coordinates of %" PRId64 " ranks",
          json_array_size(coordinates), plan->ranks);
    json_array_foreach(coordinates, rank, coordinate) {
        dsc_coord ours = dsc_plan_coord(plan, (int64_t)rank);

        CHECK(dsc_plan_rank(plan, ours) == (int64_t)rank, "rank %zu has another's coordinate", rank);
        json_array_foreach(axes, i, axis) {
            int64_t expected = json_integer_value(json_array_get(coordinate, i));

            CHECK(ours.of[axis_of(string_of(axis))] == expected, "rank %zu is at %" PRId64 " on %s, expected %" PRId64,
                  rank, ours.of[axis_of(string_of(axis))], string_of(axis), expected);
        }
    }
}

/* Members in their order; groups, and their ids, ascending. A group of one has no id here. */
static void compare_groups(const dsc_plan *plan, dsc_axis axis, const json_t *groups)
{
    int64_t degree = dsc_plan_degree(plan, axis), first = -1, before = -1;
    int64_t *members = calloc((size_t)degree, sizeof *members);
    const json_t *group, *rank;
    size_t number, i;

    CHECK((int64_t)json_array_size(groups) == plan->ranks / degree, "%zu groups on %s", json_array_size(groups),
          DSC_AXIS_NAMES[axis]);
    json_array_foreach(groups, number, group) {
        int64_t lowest = json_integer_value(json_array_get(group, 0));

        CHECK(lowest > before && lowest < plan->ranks, "%s: group %zu begins with rank %" PRId64 ", behind %" PRId64,
              DSC_AXIS_NAMES[axis], number, lowest, before);
        before = lowest;
        if (number == 0) first = dsc_plan_group(plan, lowest, axis);
        CHECK(dsc_plan_group_ranks(plan, lowest, axis, members) == (int64_t)json_array_size(group), "%s: group of %zu",
              DSC_AXIS_NAMES[axis], json_array_size(group));
        json_array_foreach(group, i, rank) {
            int64_t id = dsc_plan_group(plan, json_integer_value(rank), axis);

            CHECK((int64_t)i < degree && members[i] == json_integer_value(rank), "%s: member %zu of group %zu",
                  DSC_AXIS_NAMES[axis], i, number);
            CHECK(id == (degree > 1 ? first + (int64_t)number : -1), "%s: group %zu has id %" PRId64,
                  DSC_AXIS_NAMES[axis], number, id);
        }
    }
    free(members);
}

/* DeepSpeed calls so all ranks of one replica, in ascending order. */
static void compare_replicas(const dsc_plan *plan, const json_t *groups)
{
    const json_t *group, *rank;
    int64_t before;
    size_t number, i;

    json_array_foreach(groups, number, group) {
        CHECK((int64_t)json_array_size(group) == plan->ranks / plan->config.strategy.dp, "replica of %zu ranks",
              json_array_size(group));
        before = -1;
        json_array_foreach(group, i, rank) {
            CHECK(dsc_plan_coord(plan, json_integer_value(rank)).of[DSC_AXIS_DP] == (int64_t)number &&
                      json_integer_value(rank) > before,
                  "rank %" JSON_INTEGER_FORMAT " is in replica %zu", json_integer_value(rank), number);
            before = json_integer_value(rank);
        }
    }
}

/* The part of a checkpoint's name that tells tensor ranks apart. */
static void compare_names(const dsc_plan *plan, const json_t *names)
{
    const json_t *name;
    size_t rank;
    char ours[32];

    json_array_foreach(names, rank, name) {
        snprintf(ours, sizeof ours, "model_%02lld", (long long)dsc_plan_coord(plan, (int64_t)rank).of[DSC_AXIS_TP]);
        CHECK(dsc_equal(ours, string_of(name)), "rank %zu is %s, expected %s", rank, ours, string_of(name));
    }
}

static void compare_topology(const json_t *item)
{
    static const struct { const char *key; dsc_axis axis; } degrees[] = {
        {"num_pp", DSC_AXIS_PP}, {"num_mp", DSC_AXIS_TP}, {"num_dp", DSC_AXIS_DP}};
    const json_t *axes = json_object_get(item, "axes"), *groups;
    bool has_model = json_object_get(item, "rank_to_pipe_data_model") != NULL;
    dsc_plan *plan = plan_of(item);
    const char *name;

    if (plan == NULL) return;
    compare_coordinates(plan, axes,
                        json_object_get(item, has_model ? "rank_to_pipe_data_model" : "rank_to_pipe_data"));
    json_object_foreach(json_object_get(item, "groups"), name, groups)
        if (CHECK(axis_of(name) >= 0, "groups on \"%s\"", name)) compare_groups(plan, (dsc_axis)axis_of(name), groups);
    for (int64_t i = 0; i < DSC_COUNT(degrees); i++)
        if (json_object_get(item, degrees[i].key) != NULL)
            CHECK(dsc_plan_degree(plan, degrees[i].axis) == whole(item, degrees[i].key), "%s", degrees[i].key);
    compare_replicas(plan, json_object_get(item, "model_parallel_groups_DeepSpeed_sense"));
    compare_names(plan, json_object_get(item, "rank_repr"));
    dsc_plan_destroy(plan);
}

/* ---- Files */

static bool has(const json_t *item, const char *key) { return json_object_get(item, key) != NULL; }

static bool has_orders(json_t *item)
{
    json_t *value;
    const char *key;

    json_object_foreach(item, key, value)
        if (is_order(key)) return true;
    return false;
}

static void agrees(const char *path)
{
    json_t *file = NULL, *items, *item;
    size_t i;

    if (!CHECK_OK(dsc_json_load(path, &file))) return;
    items = json_is_object(file) ? json_object_get(file, "cases") : file;
    CHECK(json_array_size(items) > 0, "%s: nothing to compare", path);
    json_array_foreach(items, i, item) {
        if (has_orders(item)) compare_orders(item);
        else if (has(item, "model_chunks") && has(item, "ranks")) compare_interleaved(item);
        else if (has(item, "per_stage")) compare_instructions(item);
        else if (has(item, "weights")) compare_partition(item);
        else if (has(item, "topology")) compare_topology(item);
        else CHECK(false, "%s: item %zu has none of the forms that are known", path, i);
    }
    json_decref(file);
}

int main(int argc, char **argv) { return tap_run_files(argc, argv, agrees); }
