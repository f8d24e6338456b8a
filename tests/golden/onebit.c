/* Golden 1-bit Adam: golden-onebit FILE.json... repeats what the reference has recorded, all workers in this process.
 *
 * A file is an array of exchanges: what each worker brings, its error and its server's; then signs, scales, what is
 * left out and the result. Or it is an object, a training run of a least-squares problem: each worker's A and y, the
 * settings, the start p0; then the parameters after some steps (trajectory), and all that the first compressed ones
 * leave (first_compressed_steps). */
#include "base/json.h"
#include "tests/golden/workers.h"
#include <math.h>
#include <string.h>

/* ---- Exchanges */

static const json_t *at(const json_t *item, const char *key, int64_t index)
{
    return json_array_get(json_object_get(item, key), (size_t)index);
}

static bool read_errors(workers *w, const json_t *item, const char *worker, const char *server)
{
    bool is_read = true;

    for (int64_t i = 0; i < w->count; i++)
        is_read = is_read && workers_read(w, worker, at(item, worker, i), w->padded, w->error[i]) &&
                  workers_read(w, server, at(item, server, i), w->padded / w->count, w->server_error[i]);
    return is_read;
}

static void compare_errors(const workers *w, const json_t *item, const char *worker, const char *server)
{
    for (int64_t i = 0; i < w->count; i++) {
        workers_compare(w, worker, at(item, worker, i), w->padded, w->error[i]);
        workers_compare(w, server, at(item, server, i), w->padded / w->count, w->server_error[i]);
    }
}

static bool read_sizes(workers *w, const json_t *item, const char *elems, const char *padded)
{
    const char *where = w->name;

    return CHECK_OK(dsc_json_object(where, item)) &&
           CHECK_OK(dsc_json_int(where, item, "workers", 1, WORKERS_MOST, &w->count)) &&
           CHECK_OK(dsc_json_int(where, item, elems, 1, 1 << 12, &w->elems)) &&
           CHECK_OK(dsc_json_int(where, item, padded, 1, 1 << 14, &w->padded)) &&
           CHECK(w->count > 0 && w->elems > 0 && w->padded >= w->elems && w->padded % (8 * w->count) == 0,
                 "%s: %lld workers with %lld elements, padded to %lld, are none that exchange", where,
                 (long long)w->count, (long long)w->elems, (long long)w->padded);
}

/* False when it is none. */
static bool compare_exchange(const json_t *item)
{
    workers w = {.name = "an exchange", .set = dsc_kernels_ref(), .type = DSC_FP64, .tolerance = 1e-12};
    bool is_read = true;

    if (!read_sizes(&w, item, "n", "padded")) return false;
    w.real = w.elems;
    workers_init(&w);
    for (int64_t i = 0; i < w.count; i++)
        is_read = is_read && workers_read(&w, "input", at(item, "input", i), w.elems, w.x[i]);
    is_read = is_read && read_errors(&w, item, "worker_error_in", "server_error_in");
    if (is_read) {
        workers_exchange(&w);
        workers_compare_sent(&w, item);
        compare_errors(&w, item, "worker_error_out", "server_error_out");
        workers_compare(&w, "output", json_object_get(item, "output"), w.elems, w.out);
    }
    workers_fini(&w);
    return is_read;
}

/* ---- Training */

/* The problem in double, the optimizer's state in the run's type; workers' x is their momentum. */
typedef struct training {
    workers w;
    const json_t *file;
    int64_t rows, steps, freeze_step;
    int64_t count; /* of the optimizer: its first call does nothing, unless it was made before */
    bool frozen;
    void *a[WORKERS_MOST], *y[WORKERS_MOST], *gradient, *param, *exp_avg, *exp_avg_sq;
    int64_t compared; /* records */
} training;

/* A worker's residual of a row. */
static double residual(const training *t, int64_t worker, int64_t row)
{
    const workers *w = &t->w;
    double sum = -workers_get(w, t->y[worker], row);

    for (int64_t i = 0; i < w->elems; i++)
        sum += workers_get(w, t->a[worker], row * w->elems + i) * workers_get(w, t->param, i);
    return sum;
}

/* Adds `factor` times the worker's gradient, which is none where a mask says so. */
static void add_gradient(training *t, int64_t worker, double factor)
{
    const workers *w = &t->w;

    for (int64_t row = 0; row < t->rows; row++) {
        const double r = factor * residual(t, worker, row) / (double)t->rows;

        for (int64_t i = 0; i < w->real; i++)
            workers_set(w, t->gradient, i,
                        workers_get(w, t->gradient, i) + r * workers_get(w, t->a[worker], row * w->elems + i));
    }
}

static double mean_loss(const training *t)
{
    double sum = 0;

    for (int64_t worker = 0; worker < t->w.count; worker++)
        for (int64_t row = 0; row < t->rows; row++) sum += pow(residual(t, worker, row), 2);
    return sum / (double)(2 * t->rows * t->w.count);
}

static void clear_gradient(training *t)
{
    for (int64_t i = 0; i < t->w.elems; i++) workers_set(&t->w, t->gradient, i, 0);
}

static void update(training *t)
{
    const int32_t flags = DSC_DECOUPLED | (t->frozen ? DSC_FROZEN : 0);

    workers_run(&t->w, DSC_K_ADAM, flags, (int64_t[DSC_KERNEL_DIMS]){t->w.elems},
                (void *[DSC_KERNEL_OPERANDS]){t->frozen ? NULL : t->gradient, t->param, t->exp_avg, t->exp_avg_sq});
}

static void exact_step(training *t)
{
    clear_gradient(t);
    for (int64_t i = 0; i < t->w.count; i++) add_gradient(t, i, 1 / (double)t->w.count);
    update(t);
}

/* Each worker's share of the mean gradient is of a sum of as many. */
static void compressed_step(training *t)
{
    const size_t bytes = (size_t)(t->w.elems * dsc_dtype_bytes(t->w.type));

    for (int64_t i = 0; i < t->w.count; i++) {
        clear_gradient(t);
        add_gradient(t, i, 1 / (double)t->w.count);
        memcpy(t->w.x[i], t->exp_avg, bytes);
        workers_run(&t->w, DSC_K_MOMENTUM, 0, (int64_t[DSC_KERNEL_DIMS]){t->w.elems, t->w.count},
                    (void *[DSC_KERNEL_OPERANDS]){t->gradient, t->w.x[i]});
    }
    workers_exchange(&t->w);
    memcpy(t->exp_avg, t->w.out, bytes);
    update(t);
}

/* The last exact update is the one at which the count reaches freeze_step. */
static void take_step(training *t)
{
    t->count++;
    if (t->count == 1) return;
    if (t->frozen) compressed_step(t);
    else exact_step(t);
    t->frozen = t->frozen || t->count >= t->freeze_step;
}

static const json_t *record_of(const json_t *records, int64_t step)
{
    size_t index;
    json_t *record;

    json_array_foreach(records, index, record)
        if (json_integer_value(json_object_get(record, "t")) == step) return record;
    return NULL;
}

/* Goes on from what was recorded: in fp32 runs part at the first sign that rounding turns. */
static void take_state(training *t, const json_t *record, const json_t *point)
{
    workers_read(&t->w, "params", json_object_get(point, "params"), t->w.elems, t->param);
    workers_read(&t->w, "momentum_reduced", json_object_get(record, "momentum_reduced"), t->w.elems, t->exp_avg);
    read_errors(&t->w, record, "worker_error", "server_error");
}

static void compare_compressed(training *t, const json_t *record)
{
    t->compared++;
    workers_compare_sent(&t->w, record);
    workers_compare(&t->w, "momentum_reduced", json_object_get(record, "momentum_reduced"), t->w.elems, t->exp_avg);
    compare_errors(&t->w, record, "worker_error", "server_error");
}

/* loss is that before the step. */
static void compare_point(training *t, const json_t *point, double loss)
{
    const double recorded = json_number_value(json_object_get(point, "loss_before"));
    const int64_t count = json_integer_value(json_object_get(point, "opt_step"));

    t->compared++;
    CHECK(count == t->count, "%s, step %lld: the optimizer counts %lld, not %lld", t->w.name,
          (long long)t->w.step.number, (long long)t->count, (long long)count);
    CHECK(fabs(loss - recorded) <= t->w.tolerance * fmax(1, recorded), "%s, step %lld: the loss is %.17g, not %.17g",
          t->w.name, (long long)t->w.step.number, loss, recorded);
    workers_compare(&t->w, "params", json_object_get(point, "params"), t->w.elems, t->param);
}

static void train(training *t)
{
    const json_t *points = json_object_get(t->file, "trajectory");
    const json_t *records = json_object_get(t->file, "first_compressed_steps");
    const int64_t states = (int64_t)json_array_size(records);
    const json_t *last = json_array_get(records, (size_t)states - 1);
    const bool is_forced = t->w.type != DSC_FP64;
    const int64_t steps = is_forced ? json_integer_value(json_object_get(last, "t")) + 1 : t->steps;

    for (int64_t step = 1; step <= steps; step++) {
        const json_t *point = record_of(points, step), *record = record_of(records, step);
        const double loss = mean_loss(t);

        t->w.step.number = step;
        take_step(t);
        if (point != NULL) compare_point(t, point, loss);
        if (record != NULL) compare_compressed(t, record);
        if (record != NULL && is_forced) take_state(t, record, point);
    }
    workers_compare(&t->w, "frozen_variance", json_object_get(t->file, "frozen_variance"), t->w.elems, t->exp_avg_sq);
    CHECK(t->compared > states && (is_forced || t->compared == states + (int64_t)json_array_size(points)),
          "%s: %lld records compared", t->w.name, (long long)t->compared);
}

/* ---- Files */

/* Elements that the mask leaves come first. */
static bool read_mask(workers *w, const json_t *mask)
{
    w->real = w->elems;
    if (mask == NULL || json_is_null(mask)) return true;
    for (w->real = 0; w->real < w->elems; w->real++)
        if (json_number_value(json_array_get(mask, (size_t)w->real)) != 1) break;
    for (int64_t i = w->real; i < w->elems; i++)
        if (!CHECK(json_is_number(json_array_get(mask, (size_t)i)) &&
                       json_number_value(json_array_get(mask, (size_t)i)) == 0,
                   "%s: element %lld of the mask is not 0", w->name, (long long)i))
            return false;
    return true;
}

static bool read_settings(training *t)
{
    const json_t *file = t->file;
    const char *name = json_string_value(json_object_get(file, "name")), *where = name == NULL ? "a run" : name;
    const char *dtype = json_string_value(json_object_get(file, "dtype"));
    double betas[2] = {0};
    bool is_called_before = false;
    workers *w = &t->w, plain = {.name = where, .type = DSC_FP64};

    w->name = where;
    w->type = dtype != NULL && strcmp(dtype, "float32") == 0 ? DSC_FP32 : DSC_FP64;
    w->tolerance = w->type == DSC_FP64 ? 1e-6 : 1e-5; /* of up to 31 steps in fp32 */
    w->step.gradient_scale = 1;
    w->step.bias_correction1 = w->step.bias_correction2 = 1;
    if (!read_sizes(w, file, "dim", "padded_dim") || !read_mask(w, json_object_get(file, "mask")) ||
        !workers_read(&plain, "betas", json_object_get(file, "betas"), 2, betas))
        return false;
    w->step.beta1 = betas[0];
    w->step.beta2 = betas[1];
    if (!CHECK_OK(dsc_json_int(where, file, "rows_per_worker", 1, 1 << 12, &t->rows)) ||
        !CHECK_OK(dsc_json_int(where, file, "steps", 1, 1 << 16, &t->steps)) ||
        !CHECK_OK(dsc_json_int(where, file, "freeze_step", 1, 1 << 16, &t->freeze_step)) ||
        !CHECK_OK(dsc_json_real(where, file, "lr", 0, 1e9, &w->step.lr)) ||
        !CHECK_OK(dsc_json_real(where, file, "eps", 0, 1, &w->step.eps)) ||
        !CHECK_OK(dsc_json_real(where, file, "weight_decay", 0, 1e9, &w->step.weight_decay)) ||
        !CHECK_OK(dsc_json_bool(where, file, "fp16_wrapper_dummy_init_step", &is_called_before)))
        return false;
    t->count = is_called_before;
    return CHECK(t->rows > 0 && t->steps > 0 && t->freeze_step > 0, "%s: rows, steps or freeze_step are missing",
                 where);
}

static bool read_problem(training *t)
{
    workers *w = &t->w;
    bool is_read;

    t->gradient = workers_take(w, w->elems);
    t->param = workers_take(w, w->elems);
    t->exp_avg = workers_take(w, w->elems);
    t->exp_avg_sq = workers_take(w, w->elems);
    is_read = workers_read(w, "p0", json_object_get(t->file, "p0"), w->elems, t->param);
    for (int64_t i = 0; i < w->count; i++) {
        t->a[i] = workers_take(w, t->rows * w->elems);
        t->y[i] = workers_take(w, t->rows);
        is_read = is_read && workers_read(w, "A", at(t->file, "A", i), t->rows * w->elems, t->a[i]) &&
                  workers_read(w, "y", at(t->file, "y", i), t->rows, t->y[i]);
    }
    return is_read;
}

static bool repeat(const json_t *file, const dsc_kernel_set *set)
{
    training t = {.w = {.set = set}, .file = file};
    bool is_read;

    if (!read_settings(&t)) return false;
    if (t.w.type == DSC_FP64 && set != dsc_kernels_ref()) return true; /* fp64 is the reference's */
    workers_init(&t.w);
    is_read = read_problem(&t);
    if (is_read) train(&t);
    workers_fini(&t.w);
    return is_read;
}

static bool has_records(const json_t *file, const char *key) { return json_array_size(json_object_get(file, key)) > 0; }

static void compare_file(const char *path)
{
    json_t *file = NULL;

    if (!CHECK_OK(dsc_json_load(path, &file))) return;
    if (json_array_size(file) > 0) {
        for (size_t i = 0; i < json_array_size(file); i++)
            if (!compare_exchange(json_array_get(file, i))) break;
    } else if (has_records(file, "trajectory") && has_records(file, "first_compressed_steps")) {
        if (repeat(file, dsc_kernels_ref())) repeat(file, dsc_kernels_cpu());
    } else CHECK(false, "%s holds neither exchanges nor a training run with its records", path);
    json_decref(file);
}

int main(int argc, char **argv) { return tap_run_files(argc, argv, compare_file); }
