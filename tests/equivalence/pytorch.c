/* Three steps of a tiny GPT-2 against what PyTorch computed for them, on as many ranks as there are. The numbers, and
 * how they were made, are in tests/golden/data/pytorch/. Scalars agree to 1e-5, tensors to 1e-5 of their largest
 * element. */
#include "tests/comm/job.h"
#include "tests/exec/trainer.h"
#include <jansson.h>
#include <math.h>
#include <string.h>

enum { STEPS = 3 };
static const double tolerance = 1e-5;

static json_t *numbers;

static double real(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static double element(const json_t *array, size_t index) { return json_number_value(json_array_get(array, index)); }

static dsc_config config_of(const json_t *which)
{
    dsc_config config = DSC_CONFIG_DEFAULT;

    config.lr = real(numbers, "lr");
    config.beta1 = real(numbers, "beta1");
    config.beta2 = real(numbers, "beta2");
    config.eps = real(numbers, "eps");
    config.weight_decay = real(which, "weight_decay");
    config.clip = real(which, "clip");
    config.strategy.global_batch = json_integer_value(json_object_get(numbers, "batch"));
    config.strategy.micro_batch = 1;
    return config;
}

/* The tokens are one batch, so that every step trains on all of them. */
static dsc_status begin(const json_t *which, trainer *out)
{
    const json_t *tokens = json_object_get(numbers, "tokens");
    const dsc_config config = config_of(which);
    char bytes[256];
    int64_t count = (int64_t)json_array_size(tokens);

    for (int64_t i = 0; i < count; i++) bytes[i] = (char)element(tokens, (size_t)i);
    return trainer_init(job, json_string_value(json_object_get(numbers, "model")), &config, bytes, count, out);
}

typedef struct wanted { int which; float *values; } wanted;

static dsc_status note_piece(void *context, const dsc_piece *piece)
{
    wanted *w = context;

    if (piece->which == w->which && w->values == NULL) w->values = piece->values;
    return DSC_OK;
}

/* Data parallel ranks without ZeRO hold all tensors whole: the first piece begins where the tensor does. */
static float *values_of(trainer *t, int which, int64_t tensor)
{
    const dsc_stage *stage = &t->plan->stages[0];
    wanted w = {which, NULL};

    for (int64_t i = 0; i < stage->shard_count; i++)
        if (stage->shards[i].tensor == tensor)
            CHECK_OK(dsc_run_each_piece(t->run, &stage->shards[i], false, note_piece, &w));
    return w.values;
}

/* The formula of make-numbers.py. */
static void set_weights(trainer *t)
{
    for (int64_t i = 0; i < t->plan->tensor_count; i++) {
        const dsc_tensor *tensor = &t->plan->tensors[i];
        const char *end = strrchr(tensor->name, '.');
        double base = strstr(tensor->name, ".ln_") != NULL && strcmp(end, ".weight") == 0 ? 1 : 0, phase = 0;
        float *weights = values_of(t, 0, i);

        for (const char *c = tensor->name; *c != '\0'; c++) phase += 0.1 * *c;
        for (int64_t e = 0; e < dsc_tensor_elems(tensor); e++)
            weights[e] = (float)(base + 0.5 * sin(0.37 * (double)((e + 1) * (e + 1)) + phase));
    }
}

/* Adding a constant to all keys of a head changes no softmax, so that their bias' gradient is zero, and what Adam makes
 * of its rounding is as large as the rate. */
static bool is_key_bias(const dsc_tensor *tensor, int64_t index)
{
    const int64_t hidden = tensor->shape[0] / 3;

    return strstr(tensor->name, "c_attn.bias") != NULL && index / hidden == 1;
}

/* scale * values against the numbers; key biases may be off by that much. */
static void check_tensor(const dsc_tensor *tensor, const float *values, double scale, const json_t *list,
                         double key_bias)
{
    const int64_t count = dsc_tensor_elems(tensor);
    const json_t *wanted = json_object_get(list, tensor->name);
    double largest = 0;

    if (!CHECK((int64_t)json_array_size(wanted) == count, "%s has %zu numbers, %lld elements", tensor->name,
               json_array_size(wanted), (long long)count)) return;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(element(wanted, (size_t)i)));
    for (int64_t i = 0; i < count; i++) {
        double distance = fabs(scale * values[i] - element(wanted, (size_t)i));
        double limit = is_key_bias(tensor, i) ? key_bias : tolerance * largest;

        if (!CHECK(distance <= limit, "%s[%lld]: %.9g, PyTorch has %.9g; the largest is %.3g", tensor->name,
                   (long long)i, scale * values[i], element(wanted, (size_t)i), largest)) return;
    }
}

static void check_tensors(trainer *t, int state, double scale, const json_t *list, double key_bias)
{
    if (!CHECK((int64_t)json_object_size(list) == t->plan->tensor_count, "%zu tensors", json_object_size(list))) return;
    for (int64_t i = 0; i < t->plan->tensor_count; i++)
        check_tensor(&t->plan->tensors[i], values_of(t, state, i), scale, list, key_bias);
}

static void check_scalar(const char *what, int step, double value, const json_t *list)
{
    const double wanted = element(list, (size_t)step - 1);

    CHECK(fabs(value - wanted) <= tolerance * fabs(wanted), "%s of step %d: %.9g, PyTorch has %.9g", what, step, value,
          wanted);
}

/* exp_avg after the first step is (1 - beta1) times the gradient, as long as nothing is clipped. */
static void train(trainer *t, const json_t *which)
{
    const json_t *gradients = json_object_get(which, "gradients");
    dsc_step_report report;

    for (int step = 1; step <= STEPS; step++) {
        if (!CHECK_OK(dsc_run_step(t->run, step, false, false, &report, NULL))) return;
        check_scalar("loss", step, report.loss, json_object_get(which, "losses"));
        check_scalar("gradient norm", step, report.grad_norm, json_object_get(which, "norms"));
        if (step == 1 && gradients != NULL) check_tensors(t, 1, 1 / (1 - real(numbers, "beta1")), gradients, 1e-8);
    }
    check_tensors(t, 0, 1, json_object_get(which, "weights"), STEPS * real(numbers, "lr"));
}

static void run_case(size_t index)
{
    const json_t *which = json_array_get(json_object_get(numbers, "cases"), index);
    trainer t;

    if (CHECK_OK(begin(which, &t))) {
        set_weights(&t);
        train(&t, which);
    }
    trainer_fini(&t);
}

static void is_adamw(void) { run_case(0); }
static void clips(void) { run_case(1); }

static void reads_numbers(void)
{
    const char *srcdir = getenv("srcdir");
    char path[4096];
    json_error_t error;

    snprintf(path, sizeof path, "%s/tests/golden/data/pytorch/gpt2.json", srcdir != NULL ? srcdir : ".");
    numbers = json_load_file(path, 0, &error);
    CHECK(numbers != NULL, "%s: %s", path, error.text);
}

static const tap_case cases[] = {
    {"PyTorch's numbers can be read", reads_numbers},
    {"loss, every gradient, norm and AdamW are PyTorch's", is_adamw},
    {"so is training with clipped gradients", clips},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
