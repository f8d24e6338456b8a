/* Golden ZeRO: golden-zero FILE.json... compares our cut of buckets in parts with DeepSpeed's of flat buffers. A file
 * is an array of items that are each of one of three forms:
 *   numels, flat_order, ranks   stages 1 and 2: all tensors are one bucket, padded to two elements a part
 *   numel, partition_size       stage 3: each tensor is a bucket
 *   fn, gpu_bytes, cpu_bytes    DeepSpeed's estimates of memory, whose formulas stand here: its users know them */
#include "base/json.h"
#include "plan/plan.h"
#include "tests/tap.h"
#include <inttypes.h>
#include <stdlib.h>

enum { MOST_TENSORS = 4096 };

static int64_t whole(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static bool is_true(const json_t *object, const char *key) { return json_is_true(json_object_get(object, key)); }

static int64_t number_at(const json_t *array, size_t index) { return json_integer_value(json_array_get(array, index)); }

/* ---- Stages 1 and 2 */

/* Round robin: tensor i goes to list i mod N, and the lists stand one behind another. */
static int64_t order_tensors(int64_t count, int64_t lists, int64_t out[MOST_TENSORS])
{
    int64_t placed = 0;

    for (int64_t list = 0; list < lists; list++)
        for (int64_t i = list; i < count; i += lists) out[placed++] = i;
    return placed;
}

/* What rank `part` owns: which tensors, from where in the first of them, and how much padding. */
static void compare_part(const dsc_bucket *bucket, const dsc_shard *shards, int64_t parts, int64_t part,
                         const json_t *expected)
{
    const json_t *tensors = json_object_get(expected, "params_in_partition");
    int64_t elems = 0, first = 0;
    size_t found = 0;

    for (int64_t i = 0; i < bucket->end; i++) {
        dsc_overlap overlap = dsc_part_overlap(bucket, parts, part, &shards[i]);

        if (overlap.elems == 0) continue;
        CHECK(number_at(tensors, found) == shards[i].tensor, "rank %" PRId64 " holds tensor %d in place %zu", part,
              shards[i].tensor, found);
        if (found++ == 0) first = overlap.in_shard;
        elems += overlap.elems;
    }
    CHECK(found == json_array_size(tensors), "rank %" PRId64 " holds %zu tensors", part, found);
    CHECK(first == whole(expected, "first_offset"), "rank %" PRId64 " begins at %" PRId64, part, first);
    CHECK(bucket->elems / parts - elems == whole(expected, "padding"), "rank %" PRId64 " has %" PRId64 " elements",
          part, elems);
}

static void compare_flat(const json_t *item)
{
    const json_t *numels = json_object_get(item, "numels"), *order = json_object_get(item, "flat_order");
    int64_t parts = whole(item, "dp"), tensors[MOST_TENSORS], count = (int64_t)json_array_size(numels);
    dsc_shard *shards = calloc((size_t)count, sizeof *shards);
    const dsc_flat_rule rule = {1, parts, 2};
    dsc_bucket bucket = {.end = count};

    if (!CHECK(count > 0 && count <= MOST_TENSORS && parts > 0, "%" PRId64 " tensors", count)) goto out;
    order_tensors(count, is_true(item, "round_robin_gradients") ? parts : 1, tensors);
    for (int64_t i = 0; i < count; i++) {
        CHECK(tensors[i] == number_at(order, (size_t)i), "tensor %" PRId64 " is in place %" PRId64, tensors[i], i);
        shards[i] = (dsc_shard){.tensor = (int32_t)tensors[i], .elems = number_at(numels, (size_t)tensors[i])};
    }
    dsc_flatten(&rule, shards, &bucket);
    CHECK(bucket.elems == whole(item, "padded"), "%" PRId64 " elements, expected %" PRId64, bucket.elems,
          whole(item, "padded"));
    CHECK(bucket.elems / parts == whole(item, "partition_size"), "parts of %" PRId64, bucket.elems / parts);
    for (int64_t part = 0; part < parts; part++)
        compare_part(&bucket, shards, parts, part, json_array_get(json_object_get(item, "ranks"), (size_t)part));
out:
    free(shards);
}

/* ---- Stage 3 */

static void compare_tensor(const json_t *item)
{
    const dsc_flat_rule rule = {1, whole(item, "dp"), 1};
    dsc_shard shard = {.elems = whole(item, "numel")};
    dsc_bucket bucket = {.end = 1};

    if (!CHECK(rule.parts > 0, "dp is missing")) return;
    dsc_flatten(&rule, &shard, &bucket);
    CHECK(bucket.elems - shard.elems == whole(item, "padding"), "%" PRId64 " in %" PRId64 ": padding %" PRId64,
          shard.elems, rule.parts, bucket.elems - shard.elems);
    CHECK(bucket.elems / rule.parts == whole(item, "partition_size"), "%" PRId64 " in %" PRId64 ": parts of %" PRId64,
          shard.elems, rule.parts, bucket.elems / rule.parts);
}

/* ---- Estimates */

static double most(double a, double b) { return a > b ? a : b; }

static void compare_estimate(const json_t *item)
{
    bool is_third = dsc_equal(json_string_value(json_object_get(item, "fn")), "zero3");
    bool offloads = is_true(item, "cpu_offload"), params = is_true(item, "cpu_offload_params");
    double p = (double)whole(item, "total_params"), layer = (double)whole(item, "largest_layer_params");
    double local = (double)whole(item, "gpus_per_node"), nodes = (double)whole(item, "nodes"), all = local * nodes;
    double states = params ? 18 : 16, gpu = is_third ? 4 * layer : 2 * p, cpu = 4 * local * p;

    if (!offloads) gpu += 18 * p / all;
    else if (is_third && !params) gpu += 2 * p / all;
    if (offloads && !is_third) cpu = p * most(4 * all, 16);
    else if (offloads) cpu = is_true(item, "zero_init") ? p * states / nodes : p * most(4 * local, states / nodes);
    else if (is_third && is_true(item, "zero_init")) cpu = 4 * local * layer;
    CHECK((int64_t)gpu == whole(item, "gpu_bytes"), "%.0f bytes on a GPU, expected %" PRId64, gpu,
          whole(item, "gpu_bytes"));
    CHECK((int64_t)(1.5 * cpu) == whole(item, "cpu_bytes"), "%.0f bytes in host memory, expected %" PRId64, 1.5 * cpu,
          whole(item, "cpu_bytes"));
}

/* ---- Files */

static void compare_file(const char *path)
{
    json_t *file = NULL, *item;
    size_t index;

    if (!CHECK_OK(dsc_json_load(path, &file))) return;
    CHECK(json_array_size(file) > 0, "%s: nothing to compare", path);
    json_array_foreach(file, index, item) {
        if (json_object_get(item, "numels") != NULL) compare_flat(item);
        else if (json_object_get(item, "numel") != NULL) compare_tensor(item);
        else if (json_object_get(item, "fn") != NULL) compare_estimate(item);
        else CHECK(false, "%s: item %zu is of no form that is known", path, index);
    }
    json_decref(file);
}

int main(int argc, char **argv) { return tap_run_files(argc, argv, compare_file); }
