/* A delayed update is one step late, and nothing else: against a serial reference that takes each gradient, at the
 * weights of before the last update, from a plain run, and updates by Kingma and Ba 2015, algorithm 1, with Loshchilov
 * and Hutter's decay. */
#include "tests/comm/job.h"
#include "tests/exec/trainer.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "layers=2,hidden=32,heads=4,vocab=128,seq=16"

enum { STEPS = 9, DELAY = 2, DRAINED = 6 }; /* the weights are read after step DRAINED, and after the last */

/* All pieces of a state of a run that holds every tensor whole, one behind another. */
typedef struct flat { int which; double *values; int64_t count; bool is_set; } flat;

static dsc_status pass_piece(void *context, const dsc_piece *piece)
{
    flat *f = context;

    for (int64_t i = 0; i < piece->block.rows && piece->which == f->which; i++)
        for (int64_t j = 0; j < piece->block.columns; j++, f->count++) {
            float *value = &piece->values[i * piece->stride + j];

            if (f->is_set) *value = (float)f->values[f->count];
            else f->values[f->count] = *value;
        }
    return DSC_OK;
}

static int64_t pass(trainer *t, int which, bool is_set, double *values)
{
    flat f = {which, values, 0, is_set};

    for (int64_t i = 0; i < t->plan->stages[0].shard_count; i++)
        CHECK_OK(dsc_run_each_piece(t->run, &t->plan->stages[0].shards[i], true, pass_piece, &f));
    return f.count;
}

static dsc_config configure(bool is_delayed)
{
    dsc_config config = DSC_CONFIG_DEFAULT;

    config.strategy.micro_batch = 2;
    config.strategy.global_batch = 4;
    config.strategy.bucket_elems = 5000;
    config.weight_decay = 0.1;
    config.scheduler.type = DSC_LR_WARMUP; /* each update has a rate of its own */
    config.scheduler.warmup_num_steps = 20;
    config.scheduler.warmup_max_lr = 3e-3;
    if (is_delayed) {
        config.strategy.offload = DSC_OFFLOAD_OPTIMIZER;
        config.strategy.delay_update = DELAY;
    }
    return config;
}

typedef struct serial { double *weights, *m, *v, *zeros, *gradient, *pending; int64_t count, updates; } serial;

static void update(serial *s, const dsc_config *config, const double *gradient)
{
    double t = (double)++s->updates, lr = dsc_lr_at(config, s->updates - 1, NULL, NULL);

    for (int64_t i = 0; i < s->count; i++) {
        double g = gradient[i];

        s->m[i] = 0.9 * s->m[i] + 0.1 * g;
        s->v[i] = 0.999 * s->v[i] + 0.001 * g * g;
        s->weights[i] -= lr * config->weight_decay * s->weights[i] +
                         lr * (s->m[i] / (1 - pow(0.9, t))) / (sqrt(s->v[i] / (1 - pow(0.999, t))) + config->eps);
    }
}

/* The gradient of the step's batch at the reference's weights: a tenth of it is the first moment after one update from
 * nothing. */
static double gradient_at(trainer *plain, serial *s, int64_t step)
{
    dsc_step_report report = {0};

    pass(plain, 0, true, s->weights);
    pass(plain, 1, true, s->zeros);
    pass(plain, 2, true, s->zeros);
    CHECK_OK(dsc_run_spread(plain->run));
    CHECK_OK(dsc_run_step(plain->run, step, false, false, &report, NULL));
    pass(plain, 1, false, s->gradient);
    for (int64_t i = 0; i < s->count; i++) s->gradient[i] *= 10;
    return report.loss;
}

/* One step of the reference; its loss. */
static double step_late(trainer *plain, serial *s, const dsc_config *config, int64_t step, bool *is_pending)
{
    double loss = gradient_at(plain, s, step);
    bool defers = s->updates + *is_pending >= DELAY && step != DRAINED && step != STEPS;

    if (*is_pending) update(s, config, s->pending);
    *is_pending = defers;
    if (defers) memcpy(s->pending, s->gradient, (size_t)s->count * sizeof *s->pending);
    else update(s, config, s->gradient);
    return loss;
}

static double distance(const double *a, const double *b, int64_t count)
{
    double squares = 0, all = 0;

    for (int64_t i = 0; i < count; i++) {
        squares += (a[i] - b[i]) * (a[i] - b[i]);
        all += b[i] * b[i];
    }
    return sqrt(squares / all);
}

static void compare(trainer *delayed, trainer *plain, const dsc_config *config)
{
    double *room = calloc((size_t)(7 * (dsc_model_parameters(&plain->plan->model) + 64)), sizeof *room), *found;
    serial s = {.weights = room};
    bool is_pending = false;

    s.count = pass(plain, 0, false, s.weights);
    s.m = room + s.count;
    s.v = s.m + s.count;
    s.zeros = s.v + s.count;
    s.gradient = s.zeros + s.count;
    s.pending = s.gradient + s.count;
    found = s.pending + s.count;
    for (int64_t step = 1; step <= STEPS; step++) {
        double loss = step_late(plain, &s, config, step, &is_pending);
        dsc_step_report report = {0};

        CHECK_OK(dsc_run_step(delayed->run, step, false, step == DRAINED || step == STEPS, &report, NULL));
        CHECK(fabs(report.loss - loss) <= 1e-6 * loss, "loss of step %d: %.9g, the reference has %.9g", (int)step,
              report.loss, loss);
        if (step == DRAINED + 1) CHECK(strcmp(report.path, "gradients") == 0, "after a drain: %s", report.path);
        if (step == DRAINED + 2) CHECK(strcmp(report.path, "delayed") == 0, "two steps after a drain: %s", report.path);
        if (step != DRAINED && step != STEPS) continue;
        pass(delayed, 0, false, found);
        CHECK(distance(found, s.weights, s.count) <= 1e-6, "weights after step %d are %.3g away", (int)step,
              distance(found, s.weights, s.count));
    }
    free(room);
}

static void is_one_step_late(void)
{
    const dsc_config late = configure(true), now = configure(false);
    trainer delayed = {0}, plain = {0};
    char text[3000];

    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i * i % 23);
    if (CHECK_OK(trainer_init(job, MODEL, &late, text, sizeof text, &delayed)) &&
        CHECK_OK(trainer_init(job, MODEL, &now, text, sizeof text, &plain)))
        compare(&delayed, &plain, &now);
    trainer_fini(&delayed);
    trainer_fini(&plain);
}

static const tap_case cases[] = {
    {"delayed updates equal a reference that is one step late, also after a drain", is_one_step_late},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
