#include "base/log.h"
#include "base/text.h"
#include "config/config.h"
#include <string.h>

static dsc_status check_beta(const char *name, double beta)
{
    if (beta >= 0 && beta < 1) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s is %g: expected 0 <= %s < 1", name, beta, name);
}

/* An axis not named comes after the others; none comes twice. */
static dsc_status check_rank_order(const char *order)
{
    static const char *const axes[] = {"tp", "cp", "dp", "pp"};
    char copy[sizeof((dsc_strategy *)0)->rank_order];
    char *rest = copy, *word;
    bool seen[DSC_COUNT(axes)] = {false};

    strcpy(copy, order);
    while (order[0] != '\0' && (word = strsep(&rest, ",")) != NULL) {
        int64_t i = 0;

        while (i < DSC_COUNT(axes) && !dsc_equal(axes[i], word)) i++;
        if (i == DSC_COUNT(axes))
            return DSC_FAIL(DSC_EINVAL, "rank order \"%s\": \"%s\" is none of tp, cp, dp, pp", order, word);
        if (seen[i]) return DSC_FAIL(DSC_EINVAL, "rank order \"%s\": \"%s\" comes twice", order, word);
        seen[i] = true;
    }
    return DSC_OK;
}

static dsc_status check_scheduler(const dsc_scheduler *s)
{
    bool decays = s->type == DSC_LR_WARMUP_DECAY || s->type == DSC_LR_WARMUP_COSINE;

    if (decays && s->total_num_steps == 0)
        return DSC_FAIL(DSC_EINVAL, "a scheduler that decays needs total_num_steps, the step where the decay ends");
    if (s->type == DSC_LR_ONE_CYCLE && !(s->cycle_max_lr > 0))
        return DSC_FAIL(DSC_EINVAL, "scheduler OneCycle needs cycle_min_lr and cycle_max_lr");
    if (s->type == DSC_LR_ONE_CYCLE && s->cycle_momentum && (s->cycle_max_mom >= 1 || s->cycle_min_mom >= 1))
        return DSC_FAIL(DSC_EINVAL, "cycle_min_mom is %g, cycle_max_mom %g: both must be below 1", s->cycle_min_mom,
                        s->cycle_max_mom);
    return DSC_OK;
}

/* Most of DeepSpeed's schedulers set rates of their own; an lr that is given and not used surprises many. */
static void report_unused_lr(const dsc_config *config)
{
    const dsc_scheduler *s = &config->scheduler;
    bool is_warmup = s->type == DSC_LR_WARMUP || s->type == DSC_LR_WARMUP_DECAY;
    bool is_given = config->lr < DSC_CONFIG_DEFAULT.lr || config->lr > DSC_CONFIG_DEFAULT.lr;

    if (is_warmup && is_given && (s->warmup_max_lr < config->lr || s->warmup_max_lr > config->lr))
        dsc_log(DSC_WARNING, "the scheduler's warmup_max_lr %g replaces lr %g", s->warmup_max_lr, config->lr);
}

static void report_unused_checkpoints(const dsc_strategy *s)
{
    if (s->checkpoints >= DSC_CHECKPOINTS_CUT && s->recompute != DSC_RECOMPUTE_FULL)
        dsc_log(DSC_WARNING, "activation checkpoints are cut only where recompute is full: nothing is");
}

static dsc_status check_trust(const dsc_trust *t)
{
    if (t->min_coeff > t->max_coeff)
        return DSC_FAIL(DSC_EINVAL, "min_coeff %g is above max_coeff %g", t->min_coeff, t->max_coeff);
    if (t->factor_min > t->factor_max)
        return DSC_FAIL(DSC_EINVAL, "factor_min %g is above factor_max %g", t->factor_min, t->factor_max);
    return check_beta("coeff_beta", t->coeff_beta);
}

dsc_status dsc_config_check(const dsc_config *config)
{
    dsc_status status = DSC_OK;

    DSC_TRY(check_beta("beta1", config->beta1));
    DSC_TRY(check_beta("beta2", config->beta2));
    DSC_TRY(check_trust(&config->trust));
    DSC_TRY(check_rank_order(config->strategy.rank_order));
    DSC_TRY(check_scheduler(&config->scheduler));
out:
    return status;
}

void dsc_config_report(const dsc_config *config)
{
    report_unused_lr(config);
    report_unused_checkpoints(&config->strategy);
}
