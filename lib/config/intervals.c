#include "base/array.h"
#include "config/config.h"

void dsc_intervals_init(const dsc_config *config, dsc_intervals *out)
{
    *out = (dsc_intervals){.variance = 1, .sync = 1, .variance_scaler = config->var_update_scaler,
                           .step_scaler = config->local_step_scaler, .longest = config->local_step_clipper,
                           .ahead = dsc_freezer_ahead(config)};
}

/* The optimizer's own number of the update that follows. */
static int64_t number(const dsc_intervals *intervals, int64_t updates) { return updates + 1 + intervals->ahead; }

bool dsc_intervals_is_exact(const dsc_intervals *intervals, int64_t updates)
{
    return number(intervals, updates) % intervals->variance == 0;
}

bool dsc_intervals_syncs(const dsc_intervals *intervals, int64_t updates)
{
    return number(intervals, updates) % intervals->sync == 0;
}

/* A resumed count may be past a smaller scaler. */
static bool is_full(int64_t *count, int64_t most)
{
    *count = *count + 1 < most ? *count + 1 : 0;
    return *count == 0;
}

/* Steps are counted, not syncs: so the interval follows a rate that is halved every so many steps. */
void dsc_intervals_count(dsc_intervals *intervals, int64_t updates, bool is_frozen)
{
    const bool is_exact = dsc_intervals_is_exact(intervals, updates);

    if (is_frozen && is_full(&intervals->steps, intervals->step_scaler))
        intervals->sync = DSC_MIN(intervals->longest, 2 * intervals->sync);
    if (!is_frozen && is_exact && is_full(&intervals->variances, intervals->variance_scaler)) intervals->variance *= 2;
}

void dsc_intervals_resume(dsc_intervals *intervals, int64_t variance, int64_t variances, int64_t sync, int64_t steps)
{
    intervals->variance = DSC_MAX(1, variance);
    intervals->variances = variances;
    intervals->sync = DSC_MAX(1, DSC_MIN(sync, intervals->longest));
    intervals->steps = steps;
}
