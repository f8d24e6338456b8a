/* golden-adam FILE.json...: the optimizer against recorded runs of CPU Adam, with every set of kernels.
 *
 * A file is an array of runs: lr, betas, eps, weight_decay, adamw_mode, bias_correction, the parameters p0, the
 * gradients of each step, and after steps t the parameters in fp32 (param_f32, no fused multiply-add) and everything
 * in fp64. */
#include "base/json.h"
#include "kernel/step.h"
#include "kernels/kernels.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    const char *name;
    const dsc_kernel_set *set;
    dsc_step step;
    bool decoupled, corrected;
    int64_t count;
    float *param, *gradient, *exp_avg, *exp_avg_sq;
} run;

/* Reads an array of `count` numbers; false, with a failed check, when it is something else. */
static bool read_numbers(const json_t *array, int64_t count, double *out)
{
    if (!CHECK(json_is_array(array) && (int64_t)json_array_size(array) == count, "an array of %lld numbers is missing",
               (long long)count))
        return false;
    for (int64_t i = 0; i < count; i++) {
        if (!CHECK(json_is_number(json_array_get(array, (size_t)i)), "element %lld is no number", (long long)i))
            return false;
        out[i] = json_number_value(json_array_get(array, (size_t)i));
    }
    return true;
}

static bool read_floats(const json_t *array, int64_t count, float *out)
{
    double *wide = malloc((size_t)count * sizeof *wide);
    const bool read = wide != NULL && read_numbers(array, count, wide);

    for (int64_t i = 0; read && i < count; i++) out[i] = (float)wide[i];
    free(wide);
    return read;
}

static void take_step(run *r, int64_t t)
{
    const dsc_shape shape = {.kernel = DSC_K_ADAM, .type = DSC_FP32, .out = DSC_FP32,
                             .flags = r->decoupled ? DSC_DECOUPLED : 0, .d = {r->count}};
    void *const operands[DSC_KERNEL_OPERANDS] = {r->gradient, r->param, r->exp_avg, r->exp_avg_sq};

    r->step.number = r->step.optimizer_step = t;
    r->step.bias_correction1 = r->corrected ? 1 - pow(r->step.beta1, (double)t) : 1;
    r->step.bias_correction2 = r->corrected ? 1 / sqrt(1 - pow(r->step.beta2, (double)t)) : 1;
    CHECK_OK(r->set->run[DSC_K_ADAM](&shape, operands, NULL, &r->step));
}

/* Every number within tolerance of the recorded one, relative to the largest of them. */
static void compare(const run *r, const json_t *record, const char *key, const float *got, double tolerance)
{
    double *expected = malloc((size_t)r->count * sizeof *expected), largest = 0;

    if (expected == NULL || json_object_get(record, key) == NULL) goto out;
    if (!read_numbers(json_object_get(record, key), r->count, expected)) goto out;
    for (int64_t i = 0; i < r->count; i++) largest = fmax(largest, fabs(expected[i]));
    for (int64_t i = 0; i < r->count; i++)
        CHECK(fabs(got[i] - expected[i]) <= tolerance * largest, "%s, %s, step %lld: %s[%lld] is %.9g, not %.9g",
              r->name, r->set->name, (long long)r->step.number, key, (long long)i, (double)got[i], expected[i]);
out:
    free(expected);
}

/* The kernel keeps moments and parameters in fp32, about one rounding (6e-8) a step. The recorded fp32 run took 1 -
 * beta in fp32 too, which at beta2 = 0.999 is off by 1.3e-5: this moves its parameters by some 1e-7, in the fourth
 * run most. Ours takes it in fp64, as PyTorch does, for otherwise second moments would be off by as much. */
static void compare_all(const run *r, const json_t *record)
{
    compare(r, record, "param_f32", r->param, 5e-7);
    compare(r, record, "param_f64", r->param, 5e-7);
    compare(r, record, "exp_avg_f64", r->exp_avg, 5e-7);
    compare(r, record, "exp_avg_sq_f64", r->exp_avg_sq, 5e-7);
}

static void train(run *r, const json_t *recorded)
{
    const json_t *gradients = json_object_get(recorded, "grads"), *steps = json_object_get(recorded, "steps"), *step;
    int64_t compared = 0;
    size_t index;

    for (int64_t t = 1; t <= (int64_t)json_array_size(gradients); t++) {
        if (!read_floats(json_array_get(gradients, (size_t)t - 1), r->count, r->gradient)) return;
        take_step(r, t);
        json_array_foreach(steps, index, step)
            if (json_integer_value(json_object_get(step, "t")) == t) {
                compare_all(r, step);
                compared++;
            }
    }
    CHECK(compared > 0 && compared == (int64_t)json_array_size(steps), "%s: compared %lld of %zu steps", r->name,
          (long long)compared, json_array_size(steps));
}

static bool read_settings(run *r, const json_t *recorded)
{
    double betas[2];

    if (!read_numbers(json_object_get(recorded, "betas"), 2, betas)) return false;
    r->step.beta1 = betas[0];
    r->step.beta2 = betas[1];
    r->step.gradient_scale = 1;
    return CHECK_OK(dsc_json_real(r->name, recorded, "lr", 0, 1e9, &r->step.lr)) &&
           CHECK_OK(dsc_json_real(r->name, recorded, "eps", 0, 1, &r->step.eps)) &&
           CHECK_OK(dsc_json_real(r->name, recorded, "weight_decay", 0, 1e9, &r->step.weight_decay)) &&
           CHECK_OK(dsc_json_bool(r->name, recorded, "adamw_mode", &r->decoupled)) &&
           CHECK_OK(dsc_json_bool(r->name, recorded, "bias_correction", &r->corrected));
}

static void repeat(const json_t *recorded, const dsc_kernel_set *set)
{
    const char *name = json_string_value(json_object_get(recorded, "name"));
    run r = {.name = name != NULL ? name : "a run", .set = set, .decoupled = true, .corrected = true,
             .count = (int64_t)json_array_size(json_object_get(recorded, "p0"))};
    float *memory = calloc(4 * (size_t)r.count + 1, sizeof *memory);

    if (!CHECK(memory != NULL && r.count > 0, "%s has no parameters p0", r.name)) goto out;
    r.param = memory;
    r.gradient = memory + r.count;
    r.exp_avg = memory + 2 * r.count;
    r.exp_avg_sq = memory + 3 * r.count;
    if (read_settings(&r, recorded) && read_floats(json_object_get(recorded, "p0"), r.count, r.param))
        train(&r, recorded);
out:
    free(memory);
}

static void check_file(const char *path)
{
    const dsc_kernel_set *sets[] = {dsc_kernels_ref(), dsc_kernels_cpu()};
    json_t *runs = NULL, *recorded;
    size_t index;

    if (!CHECK_OK(dsc_json_load(path, &runs))) return;
    CHECK(json_array_size(runs) > 0, "the file holds no array of runs");
    json_array_foreach(runs, index, recorded)
        for (int i = 0; i < DSC_COUNT(sets); i++) repeat(recorded, sets[i]);
    json_decref(runs);
}

int main(int argc, char **argv) { return tap_run_files(argc, argv, check_file); }
