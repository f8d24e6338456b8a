/* Golden schedules: golden-lr FILE.json... compares learning rates and loss scales, step by step, with DeepSpeed's. A
 * file is an array of schedules (type, params, lr_after_step) or of scalers (params, overflow, scale_after). */
#include "base/json.h"
#include "config/config.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number_of(const json_t *object, const char *key, double absent)
{
    const json_t *value = json_object_get(object, key);

    return json_is_number(value) ? json_number_value(value) : absent;
}

static double number_at(const json_t *object, const char *key, size_t index)
{
    return json_number_value(json_array_get(json_object_get(object, key), index));
}

/* The same formula in another order of operations: a few roundings of a double. */
static bool is_near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fmax(fabs(a), fabs(b)) + 1e-18;
}

/* ---- Learning rates */

static bool read_schedule(const char *path, json_t *schedule, dsc_config *config)
{
    json_t *object = json_pack("{s:{s:s, s:{s:f}}, s:{s:O, s:O}}", "optimizer", "type", "Adam", "params", "lr",
                               number_of(schedule, "optimizer_lr", 1e-3), "scheduler", "type",
                               json_object_get(schedule, "type"), "params", json_object_get(schedule, "params"));
    bool ok = CHECK(object != NULL, "%s: no schedule", path) && CHECK_OK(dsc_config_read(path, object, config)) &&
              CHECK_OK(dsc_config_check(config));

    json_decref(object);
    return ok;
}

static void compare_step(const json_t *schedule, const dsc_config *config, const char *type, size_t step)
{
    double beta1 = config->beta1, beta2 = config->beta2;
    double lr = dsc_lr_at(config, (int64_t)step + 1, &beta1, &beta2);
    double expected = number_at(schedule, "lr_after_step", step);

    CHECK(is_near(lr, expected), "%s: after step %zu %.17g, expected %.17g", type, step, lr, expected);
    if (json_object_get(schedule, "beta1_after_step") == NULL) return;
    expected = number_at(schedule, "beta1_after_step", step);
    CHECK(is_near(beta1, expected), "%s: after step %zu beta1 %.17g, expected %.17g", type, step, beta1, expected);
    expected = number_at(schedule, "beta2_after_step", step);
    CHECK(is_near(beta2, expected), "%s: after step %zu beta2 %.17g, expected %.17g", type, step, beta2, expected);
}

static void compare_schedule(const char *path, json_t *schedule)
{
    const char *type = json_string_value(json_object_get(schedule, "type"));
    dsc_config config = DSC_CONFIG_DEFAULT;
    double first, expected = number_of(schedule, "lr_before_first_step", NAN);
    size_t steps = json_array_size(json_object_get(schedule, "lr_after_step"));

    if (!read_schedule(path, schedule, &config)) return;
    first = dsc_lr_at(&config, 0, NULL, NULL);
    CHECK(is_near(first, expected), "%s: before the first step %.17g, expected %.17g", type, first, expected);
    CHECK(steps > 0, "%s: no steps", type);
    for (size_t step = 0; step < steps; step++) compare_step(schedule, &config, type, step);
}

/* ---- Loss scales */

/* Files without hysteresis are of DeepSpeed's wrapper for fp16 without ZeRO. */
static dsc_scaler scaler_of(const json_t *golden)
{
    const json_t *params = json_object_get(golden, "params");
    bool is_wrapper = json_object_get(golden, "hysteresis_after") == NULL;
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_scaler scaler;

    config.strategy.precision = DSC_FP16;
    config.initial_scale_power = (int64_t)log2(number_of(params, "init_scale", 65536));
    config.loss_scale_window = (int64_t)number_of(params, "scale_window", 1000);
    config.min_loss_scale = number_of(params, "min_scale", 1);
    config.hysteresis = (int64_t)number_of(params, "delayed_shift", 1);
    config.consecutive_hysteresis = json_is_true(json_object_get(params, "consecutive_hysteresis"));
    dsc_scaler_init(&config, &scaler);
    scaler.error_at_min = !is_wrapper && !json_is_false(json_object_get(params, "raise_error_at_min_scale"));
    scaler.delay = is_wrapper;
    return scaler;
}

static void compare_scaler(const json_t *golden)
{
    const char *name = json_string_value(json_object_get(golden, "name"));
    size_t steps = json_array_size(json_object_get(golden, "overflow"));
    dsc_scaler scaler = scaler_of(golden);

    for (size_t step = 0; step < steps; step++) {
        double expected = number_at(golden, "scale_after", step);
        int64_t left = (int64_t)number_at(golden, "hysteresis_after", step);

        if (!CHECK_OK(dsc_scaler_update(&scaler, number_at(golden, "overflow", step) > 0))) return;
        CHECK(scaler.scale == expected, "%s: step %zu: %g, expected %g", name, step, scaler.scale, expected);
        if (scaler.delay == 0)
            CHECK(scaler.hysteresis == left, "%s: step %zu: hysteresis %lld, expected %lld", name, step,
                  (long long)scaler.hysteresis, (long long)left);
    }
}

static void agrees(const char *path)
{
    json_t *file = NULL, *item;
    size_t i;

    if (!CHECK_OK(dsc_json_load(path, &file))) return;
    CHECK(json_array_size(file) > 0, "%s: nothing to compare", path);
    json_array_foreach(file, i, item) {
        if (json_object_get(item, "lr_after_step") != NULL) compare_schedule(path, item);
        else if (json_object_get(item, "scale_after") != NULL) compare_scaler(item);
        else CHECK(false, "%s: item %zu is neither a schedule nor a scaler", path, i);
    }
    json_decref(file);
}

int main(int argc, char **argv) { return tap_run_files(argc, argv, agrees); }
