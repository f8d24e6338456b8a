/* The variance's bias is corrected for the updates that have made it: also where a checkpoint's was frozen by another
 * --freeze-step, or never. One step from such a state, against Kingma and Ba 2015, algorithm 1. */
#include "tests/comm/job.h"
#include "tests/exec/trainer.h"
#include <math.h>
#include <stdlib.h>

#define MODEL "layers=1,hidden=32,heads=4,vocab=128,seq=16"

enum { UPDATES = 10 };

/* All pieces of a state, one behind another: read, or all made `value`. */
typedef struct flat { int which; float *values; int64_t count; float value; } flat;

static dsc_status pass_piece(void *context, const dsc_piece *piece)
{
    flat *f = context;

    for (int64_t i = 0; i < piece->block.rows && piece->which == f->which; i++)
        for (int64_t j = 0; j < piece->block.columns; j++, f->count++) {
            float *value = &piece->values[i * piece->stride + j];

            if (f->values != NULL) f->values[f->count] = *value;
            else *value = f->value;
        }
    return DSC_OK;
}

static int64_t pass(trainer *t, int which, float *values, float value)
{
    flat f = {which, values, 0, value};

    for (int64_t i = 0; i < t->plan->stages[0].shard_count; i++)
        CHECK_OK(dsc_run_each_piece(t->run, &t->plan->stages[0].shards[i], true, pass_piece, &f));
    return f.count;
}

/* How a weight moves by its moments, when so many updates have made the variance. */
static double move_of(const dsc_config *config, double m, double v, int64_t made)
{
    m /= 1 - pow(config->beta1, UPDATES + 1);
    v /= 1 - pow(config->beta2, (double)made);
    return config->lr * m / (sqrt(v) + config->eps);
}

/* The step that follows UPDATES updates, of which `frozen` left the variance as it was. */
static void check_step(trainer *t, const dsc_config *config, int64_t frozen, int64_t made)
{
    const size_t room = (size_t)dsc_model_parameters(&t->plan->model) + 64;
    float *before = calloc(4 * room, sizeof *before), *after = before + room, *m = after + room, *v = m + room;
    double squares = 0, all = 0;
    dsc_run_state state;
    dsc_step_report report = {0};
    int64_t count;

    dsc_run_state_get(t->run, &state);
    state.optimizer_step = UPDATES;
    state.frozen_updates = frozen;
    state.frozen_at = UPDATES - frozen;
    dsc_run_state_set(t->run, &state);
    pass(t, 2, NULL, 1e-4F);
    count = pass(t, 0, before, 0);
    CHECK_OK(dsc_run_step(t->run, UPDATES + 1, false, true, &report, NULL));
    pass(t, 0, after, 0);
    pass(t, 1, m, 0);
    pass(t, 2, v, 0);
    for (int64_t i = 0; i < count; i++) {
        double wanted = move_of(config, m[i], v[i], made);

        squares += pow((double)before[i] - (double)after[i] - wanted, 2);
        all += wanted * wanted;
    }
    CHECK(all > 0 && sqrt(squares / all) < 1e-3, "%s: the update is %.3g away", report.path, sqrt(squares / all));
    dsc_run_state_get(t->run, &state);
    CHECK(state.optimizer_step - state.frozen_updates == made, "%lld updates made the variance, not %lld",
          (long long)(state.optimizer_step - state.frozen_updates), (long long)made);
    free(before);
}

static void check_case(int optimizer, int64_t freeze_step, int64_t frozen, int64_t made)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    trainer t = {0};
    char text[3000];

    config.strategy.optimizer = optimizer;
    config.strategy.micro_batch = config.strategy.global_batch = 4;
    config.freeze_step = freeze_step;
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i * i % 23);
    if (CHECK_OK(trainer_init(job, MODEL, &config, text, sizeof text, &t))) check_step(&t, &config, frozen, made);
    trainer_fini(&t);
}

static void goes_on_frozen(void) { check_case(DSC_ONEBIT_ADAM, 4, 6, 4); }
static void learns_again(void) { check_case(DSC_ONEBIT_ADAM, 12, 6, 5); }
static void is_frozen_late(void) { check_case(DSC_ONEBIT_ADAM, 7, 0, 10); }
static void is_adam_again(void) { check_case(DSC_ADAM, 7, 6, 5); }

static const tap_case cases[] = {
    {"a variance that is frozen stays corrected for the updates up to then", goes_on_frozen},
    {"one that learns again, for those and the new ones", learns_again},
    {"one that is frozen later than --freeze-step says, for all of them", is_frozen_late},
    {"so it is when Adam goes on from 1-bit Adam", is_adam_again},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
