/* DeepSpeed's learning-rate schedules. `step` is DeepSpeed's last_batch_iteration: -1 before its first call. */
#include "config/config.h"
#include <math.h>

/* How far the warm-up has come, 0 .. 1. */
static double warmup_share(const dsc_scheduler *s, int64_t step)
{
    int64_t steps = DSC_MAX(s->warmup_num_steps, 2);

    if (step >= steps) return 1;
    if (s->warmup_type == DSC_WARMUP_LINEAR) return (double)step / (double)steps;
    return log((double)(step + 1)) / log((double)steps);
}

static double warmup_lr(const dsc_scheduler *s, double share)
{
    return s->warmup_min_lr + (s->warmup_max_lr - s->warmup_min_lr) * share;
}

static double warmup_decay_lr(const dsc_scheduler *s, int64_t step)
{
    int64_t warmup = DSC_MAX(s->warmup_num_steps, 2);
    double left = (double)(s->total_num_steps - step) / (double)DSC_MAX(s->total_num_steps - warmup, 1);

    return warmup_lr(s, step < warmup ? warmup_share(s, step) : fmax(left, 0));
}

/* A share of the optimizer's rate; past total_num_steps the cosine rises again, as DeepSpeed's does. */
static double warmup_cosine_ratio(const dsc_scheduler *s, int64_t step)
{
    const double pi = 3.14159265358979323846;
    int64_t warmup = DSC_MAX(s->warmup_num_steps, 2);
    double done = (double)(step - warmup + 1) / (double)DSC_MAX(s->total_num_steps - warmup, 1);

    if (step < warmup) return s->warmup_min_ratio + (1 - s->warmup_min_ratio) * warmup_share(s, step);
    return fmax(s->cos_min_ratio + (1 - s->cos_min_ratio) * (1 + cos(pi * done)) / 2, 0);
}

static double range_test_lr(const dsc_scheduler *s, int64_t step)
{
    double increases = (double)(step + 1) / (double)s->range_step_size;

    return s->range_min_lr * (1 + s->range_step_rate * (s->range_staircase ? floor(increases) : increases));
}

/* Height of the triangle, 0 .. 1, in the cycle; 0 after it. */
static double cycle_height(double first, double second, double at)
{
    if (at >= first + second) return 0;
    return at <= first ? at / first : (first + second - at) / second;
}

static double one_cycle(const dsc_scheduler *s, int64_t step, double *beta1, double *beta2)
{
    double first = (double)s->cycle_first_step_size;
    double second = s->cycle_second_step_size > 0 ? (double)s->cycle_second_step_size : first;
    double at = (double)(step + 1);
    double height = cycle_height(first, second, at);
    double decays = s->decay_step_size > 0 ? fmax(at - first - second, 0) / (double)s->decay_step_size : 0;

    if (s->cycle_momentum && beta1 != NULL) {
        *beta1 = (s->cycle_max_mom - (s->cycle_max_mom - s->cycle_min_mom) * height) * (1 + s->decay_mom_rate * decays);
        if (step < 0) *beta1 = s->cycle_min_mom; /* DeepSpeed's optimizer starts there, not at the cycle's foot */
    }
    if (s->cycle_momentum && beta2 != NULL) *beta2 = 0.99;
    return (s->cycle_min_lr + (s->cycle_max_lr - s->cycle_min_lr) * height) / (1 + s->decay_lr_rate * decays);
}

double dsc_lr_at(const dsc_config *config, int64_t update, double *beta1, double *beta2)
{
    const dsc_scheduler *s = &config->scheduler;
    int64_t step = update - 1;

    switch ((dsc_scheduler_type)s->type) {
    case DSC_LR_CONSTANT: return config->lr;
    case DSC_LR_WARMUP: return step < 0 ? s->warmup_min_lr : warmup_lr(s, warmup_share(s, step));
    case DSC_LR_WARMUP_DECAY: return step < 0 ? s->warmup_min_lr : warmup_decay_lr(s, step);
    case DSC_LR_WARMUP_COSINE: return step < 0 ? 0 : config->lr * warmup_cosine_ratio(s, step);
    case DSC_LR_RANGE_TEST: return range_test_lr(s, step);
    case DSC_LR_ONE_CYCLE: return one_cycle(s, step, beta1, beta2);
    }
    return config->lr;
}
