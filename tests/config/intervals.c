/* When 0/1 Adam's variance moves and when its replicas meet, beside the loop of DeepSpeed's optimizer, which counts a
 * first call that does nothing, and is frozen behind the step that passes var_freeze_step. */
#include "config/config.h"
#include "tests/tap.h"

typedef struct loop {
    int64_t last, step; /* frozen behind the step past the last */
    int64_t var_interval, var_counter, local_interval, local_counter;
    bool is_frozen;
} loop;

typedef struct told { bool is_frozen, is_exact, meets; } told;

/* A step of the reference's. */
static told advance(loop *l, const dsc_config *c)
{
    told t;

    l->step++;
    t = (told){l->is_frozen, l->step % l->var_interval == 0, l->step % l->local_interval == 0};
    if (l->is_frozen) {
        if (++l->local_counter == c->local_step_scaler) {
            l->local_counter = 0;
            l->local_interval *= 2;
            if (l->local_interval > c->local_step_clipper) l->local_interval = c->local_step_clipper;
        }
    } else if (t.is_exact && ++l->var_counter == c->var_update_scaler) {
        l->var_counter = 0;
        l->var_interval *= 2;
    }
    l->is_frozen = l->step > l->last;
    return t;
}

static dsc_config configure(int semantics, int precision)
{
    dsc_config config = DSC_CONFIG_DEFAULT;

    config.strategy.optimizer = DSC_ZERO_ONE_ADAM;
    config.strategy.semantics = semantics;
    config.strategy.precision = precision;
    config.var_freeze_step = tap_random_between(1, 200);
    config.var_update_scaler = tap_random_between(1, 9);
    config.local_step_scaler = tap_random_between(1, 40);
    config.local_step_clipper = tap_random_between(1, 20);
    return config;
}

/* The loop has made `step` steps when `updates` updates were made. */
static void check(const dsc_config *config, int64_t last, int64_t step, int64_t updates)
{
    loop l = {.last = last, .step = step, .var_interval = 1, .local_interval = 1};
    dsc_intervals intervals;
    dsc_freezer freezer;

    dsc_intervals_init(config, &intervals);
    dsc_freezer_init(config, &freezer);
    for (; updates < 400; updates++) {
        const bool is_frozen = dsc_freezer_is_frozen(&freezer, updates);
        const told t = advance(&l, config);
        const bool is_right = is_frozen ? t.meets == dsc_intervals_syncs(&intervals, updates)
                                        : t.is_exact == dsc_intervals_is_exact(&intervals, updates);

        if (!CHECK(t.is_frozen == is_frozen && is_right,
                   "after %d updates: var_freeze_step %d, scalers %d and %d, clipper %d", (int)updates,
                   (int)config->var_freeze_step, (int)config->var_update_scaler, (int)config->local_step_scaler,
                   (int)config->local_step_clipper)) return;
        dsc_intervals_count(&intervals, updates, is_frozen);
    }
}

static void counts_as_the_reference(void)
{
    for (int draw = 0; draw < 200; draw++) {
        const dsc_config wrapped = configure(DSC_SEMANTICS_REFERENCE, DSC_BF16);
        const dsc_config plain = configure(DSC_SEMANTICS_REFERENCE, DSC_FP32);

        check(&wrapped, wrapped.var_freeze_step, 1, 0);
        CHECK(dsc_freezer_discards(&plain, 0), "the first update is made");
        check(&plain, plain.var_freeze_step, 1, 1);
    }
}

/* The paper's phase ends with update var_freeze_step. */
static void counts_updates(void)
{
    for (int draw = 0; draw < 200; draw++) {
        const dsc_config config = configure(DSC_SEMANTICS_PAPER, DSC_FP16);

        CHECK(!dsc_freezer_discards(&config, 0), "the first update is lost");
        check(&config, config.var_freeze_step - 1, 0, 0);
    }
}

static const tap_case cases[] = {
    {"the variance moves and replicas meet when DeepSpeed's do", counts_as_the_reference},
    {"without the reference's lost call they do so by the number of the update", counts_updates},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
