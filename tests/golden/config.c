/* Golden batch triples: golden-config FILE.json... compares what becomes of a given triple with DeepSpeed's. A file is
 * an array of {"input": {triple, dp_world_size}, "result": {"ok": ..., triple}}. */
#include "base/json.h"
#include "config/config.h"
#include "tests/tap.h"
#include <stdlib.h>

static int64_t whole(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* As a configuration that gives the triple would do; a size below 1 is refused when it is read. */
static dsc_status resolve(const char *path, const json_t *input, dsc_config *config)
{
    json_t *given = json_copy((json_t *)input);
    dsc_strategy *strategy = &config->strategy;
    dsc_status status;

    json_object_del(given, "dp_world_size");
    *config = DSC_CONFIG_DEFAULT;
    status = dsc_config_read(path, given, config);
    json_decref(given);
    if (status != DSC_OK) return status;
    return dsc_batch_resolve(&strategy->global_batch, &strategy->micro_batch, &config->gradient_accumulation_steps,
                             whole(input, "dp_world_size"));
}

static void compare(const char *path, size_t number, const json_t *input, const json_t *result)
{
    bool is_ok = json_is_true(json_object_get(result, "ok"));
    dsc_config config;
    dsc_status status = resolve(path, input, &config);

    CHECK(is_ok == (status == DSC_OK), "item %zu: %s, expected %s: %s", number, dsc_status_name(status),
          is_ok ? "ok" : "invalid", status == DSC_OK ? "" : dsc_message());
    if (!is_ok || status != DSC_OK) return;
    CHECK(config.strategy.global_batch == whole(result, "train_batch_size"), "item %zu: batch %lld", number,
          (long long)config.strategy.global_batch);
    CHECK(config.strategy.micro_batch == whole(result, "train_micro_batch_size_per_gpu"), "item %zu: micro-batch %lld",
          number, (long long)config.strategy.micro_batch);
    CHECK(config.gradient_accumulation_steps == whole(result, "gradient_accumulation_steps"),
          "item %zu: accumulation %lld", number, (long long)config.gradient_accumulation_steps);
}

static void agrees(const char *path)
{
    json_t *file = NULL, *item;
    size_t i;

    if (!CHECK_OK(dsc_json_load(path, &file))) return;
    CHECK(json_array_size(file) > 0, "%s: nothing to compare", path);
    json_array_foreach(file, i, item) {
        const json_t *input = json_object_get(item, "input"), *result = json_object_get(item, "result");

        if (CHECK(json_is_object(input) && json_is_object(result), "%s: item %zu has no input or result", path, i))
            compare(path, i, input, result);
    }
    json_decref(file);
}

int main(int argc, char **argv) { return tap_run_files(argc, argv, agrees); }
