/* Batch, learning rates and loss scale beyond what the golden files hold. */
#include "config/config.h"
#include "tests/tap.h"
#include <math.h>
#include <string.h>

static void refused_batches_name_their_numbers(void)
{
    static const struct { int64_t batch, micro, steps, dp; const char *words[3]; } triples[] = {
        {16, 3, 0, 1, {"16", "3", "15 is"}},
        {10, 4, 0, 4, {"10", "16", "16 is"}},
        {32, 4, 4, 4, {"32", "4", "= 64"}},
        {30, 0, 0, 4, {"30", "4", "28 is"}},
        {32, 0, 3, 4, {"32", "12", "24 is"}},
        {0, 0, 2, 4, {"train_batch_size", "train_micro_batch_size_per_gpu", NULL}},
        {0, 0, 0, 4, {"train_batch_size", NULL, NULL}},
        {-8, 2, 1, 4, {"-8", "negative", NULL}},
        {0, INT64_C(1) << 40, INT64_C(1) << 40, 1, {"1099511627776", "63 bits", NULL}},
        {8, INT64_C(1) << 60, 0, 16, {"1152921504606846976", "63 bits", NULL}},
    };

    for (int64_t i = 0; i < DSC_COUNT(triples); i++) {
        int64_t batch = triples[i].batch, micro = triples[i].micro, steps = triples[i].steps;

        CHECK(dsc_batch_resolve(&batch, &micro, &steps, triples[i].dp) == DSC_EINVAL, "triple %lld passes",
              (long long)i);
        CHECK(batch == triples[i].batch && micro == triples[i].micro, "triple %lld changed", (long long)i);
        for (int w = 0; w < 3 && triples[i].words[w] != NULL; w++)
            CHECK(strstr(dsc_message(), triples[i].words[w]) != NULL, "triple %lld: no \"%s\" in: %s", (long long)i,
                  triples[i].words[w], dsc_message());
    }
}

/* Whatever two of the triple are given, the third is found again. */
static void any_two_give_the_third(void)
{
    for (int draw = 0; draw < 1000; draw++) {
        int64_t micro = tap_random_between(1, 64), steps = tap_random_between(1, 64), dp = tap_random_between(1, 64);
        int64_t triple[3] = {micro * steps * dp, micro, steps};
        int hidden = (int)tap_random_between(0, 2);

        triple[hidden] = 0;
        if (!CHECK_OK(dsc_batch_resolve(&triple[0], &triple[1], &triple[2], dp))) return;
        CHECK(triple[0] == micro * steps * dp && triple[1] == micro && triple[2] == steps, "%lld x %lld x %lld",
              (long long)micro, (long long)steps, (long long)dp);
    }
}

static void warmup_starts_twice_at_its_minimum(void)
{
    dsc_config config = DSC_CONFIG_DEFAULT;

    config.scheduler.type = DSC_LR_WARMUP;
    config.scheduler.warmup_min_lr = 1e-5;
    CHECK(dsc_lr_at(&config, 0, NULL, NULL) == 1e-5 && dsc_lr_at(&config, 1, NULL, NULL) == 1e-5, "%g and %g",
          dsc_lr_at(&config, 0, NULL, NULL), dsc_lr_at(&config, 1, NULL, NULL));
    CHECK(dsc_lr_at(&config, 2, NULL, NULL) > 1e-5, "third update at %g", dsc_lr_at(&config, 2, NULL, NULL));
}

static void constant_rate_is_lr(void)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    double beta1 = 0.5, beta2 = 0.6;

    for (int64_t update = 0; update < 3; update++)
        CHECK(dsc_lr_at(&config, update, &beta1, &beta2) == 1e-3, "update %lld", (long long)update);
    CHECK(beta1 == 0.5 && beta2 == 0.6, "betas became %g and %g", beta1, beta2);
}

static void overflow_at_the_minimum_fails(void)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_scaler scaler;

    config.strategy.precision = DSC_FP16;
    config.initial_scale_power = 1;
    config.hysteresis = 1;
    dsc_scaler_init(&config, &scaler);
    CHECK_OK(dsc_scaler_update(&scaler, true));
    CHECK(scaler.scale == 1, "scale %g", scaler.scale);
    CHECK(dsc_scaler_update(&scaler, true) == DSC_EIO, "goes on");
    CHECK(strstr(dsc_message(), "step 2") && strstr(dsc_message(), "overflow"), "%s", dsc_message());
}

static void fixed_scales_stay(void)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_scaler scaler;

    dsc_scaler_init(&config, &scaler);
    CHECK(scaler.scale == 1 && !scaler.dynamic, "fp32 is scaled by %g", scaler.scale);
    config.strategy.precision = DSC_FP16;
    config.loss_scale = 128;
    dsc_scaler_init(&config, &scaler);
    for (int step = 0; step < 3000; step++) CHECK_OK(dsc_scaler_update(&scaler, step % 2 == 0));
    CHECK(scaler.scale == 128, "a fixed scale of 128 became %g", scaler.scale);
}

/* ---- The freezer */

/* The variance's, of a norm that falls from 4 to 1. */
static double squares_after(int64_t updates)
{
    double norm = 1 + 3 * exp(-0.05 * (double)updates);

    return pow((1 - pow(0.9, (double)updates)) * norm, 2);
}

/* With what a checkpoint has of it after each of the first `until` updates. */
static int64_t freeze_over_resumes(const dsc_config *config, int64_t until)
{
    dsc_freezer freezer;

    dsc_freezer_init(config, &freezer);
    for (int64_t updates = 1; updates < 200 && !dsc_freezer_is_frozen(&freezer, updates); updates++) {
        dsc_freezer_look(&freezer, updates, squares_after(updates));
        if (updates <= until) {
            const dsc_freezer saved = freezer;

            dsc_freezer_init(config, &freezer);
            dsc_freezer_resume(&freezer, dsc_freezer_found(&saved, updates), saved.norm);
        }
    }
    return freezer.frozen_at;
}

static void resumes_its_freezer(void)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    int64_t straight;

    config.strategy.optimizer = DSC_ONEBIT_ADAM;
    config.freeze_step = DSC_AUTO;
    config.beta2 = 0.9;
    straight = freeze_over_resumes(&config, 0);
    CHECK(straight > 20 && straight < 200, "frozen at %lld", (long long)straight);
    for (int64_t until = 1; until < 200; until++)
        CHECK(freeze_over_resumes(&config, until) == straight, "resumed up to %lld: %lld, not %lld", (long long)until,
              (long long)freeze_over_resumes(&config, until), (long long)straight);
}

static void given_freeze_step_counts(void)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_freezer freezer;

    config.strategy.optimizer = DSC_ONEBIT_ADAM;
    config.freeze_step = 50;
    dsc_freezer_init(&config, &freezer);
    CHECK(dsc_freezer_found(&freezer, 49) == 0 && dsc_freezer_found(&freezer, 50) == 50, "%lld before it is so",
          (long long)dsc_freezer_found(&freezer, 49));
    dsc_freezer_resume(&freezer, 20, 1);
    CHECK(!dsc_freezer_is_frozen(&freezer, 49) && dsc_freezer_is_frozen(&freezer, 50), "frozen at %lld",
          (long long)freezer.frozen_at);
    config.strategy.optimizer = DSC_ADAMW;
    dsc_freezer_init(&config, &freezer);
    dsc_freezer_resume(&freezer, 20, 1);
    CHECK(!dsc_freezer_is_frozen(&freezer, 49), "adamw is frozen");
}

static const tap_case cases[] = {
    {"refused batches name their numbers, and what would do", refused_batches_name_their_numbers},
    {"any two of the batch triple give the third", any_two_give_the_third},
    {"a warm-up starts with two updates at its minimum", warmup_starts_twice_at_its_minimum},
    {"a constant rate is lr and leaves the betas", constant_rate_is_lr},
    {"an overflow at the smallest scale fails and names the step", overflow_at_the_minimum_fails},
    {"fixed loss scales stay", fixed_scales_stay},
    {"a variance that settles is frozen at the same update after a resume at any", resumes_its_freezer},
    {"the freeze step that is given counts more than a checkpoint's", given_freeze_step_counts},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
