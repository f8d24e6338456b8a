#include "base/array.h"
#include "config/config.h"
#include <math.h>

static const double SETTLED = 0.96; /* Tang et al. 2021, section 7.1 */

bool dsc_optimizer_compresses(int optimizer) { return optimizer >= DSC_ONEBIT_ADAM; }

static bool is_reference(const dsc_config *config)
{
    return config->strategy.semantics == DSC_SEMANTICS_REFERENCE &&
           dsc_optimizer_compresses(config->strategy.optimizer);
}

/* DeepSpeed's optimizer counts the call that it wastes. Under its 16-bit wrapper that is an empty one, made before the
 * first step, so that the first step is number two. */
static bool has_wrapper(const dsc_config *config) { return config->strategy.precision != DSC_FP32; }

bool dsc_freezer_discards(const dsc_config *config, int64_t updates)
{
    return is_reference(config) && !has_wrapper(config) && updates == 0;
}

int64_t dsc_freezer_ahead(const dsc_config *config) { return is_reference(config) && has_wrapper(config); }

/* The reference's 1-bit Adam is frozen behind the update at which its count reaches the freeze step, and one is always
 * made; its 0/1 Adam a step later. */
static int64_t frozen_at(const dsc_config *config)
{
    const bool is_zero_one = config->strategy.optimizer == DSC_ZERO_ONE_ADAM;

    if (is_zero_one) return config->var_freeze_step + (is_reference(config) && !has_wrapper(config));
    if (!is_reference(config)) return config->freeze_step;
    return has_wrapper(config) ? DSC_MAX(config->freeze_step - 1, 1) : DSC_MAX(config->freeze_step, 2);
}

/* When the rate has come to where it stays, or begins to fall. */
static int64_t warmup_end(const dsc_scheduler *s)
{
    switch (s->type) {
    case DSC_LR_WARMUP:
    case DSC_LR_WARMUP_DECAY:
    case DSC_LR_WARMUP_COSINE: return s->warmup_num_steps;
    case DSC_LR_ONE_CYCLE: return s->cycle_first_step_size;
    default: return 0;
    }
}

void dsc_freezer_init(const dsc_config *config, dsc_freezer *out)
{
    *out = (dsc_freezer){.beta2 = config->beta2};
    if (!dsc_optimizer_compresses(config->strategy.optimizer)) return;
    if (config->freeze_step != DSC_AUTO || config->strategy.optimizer == DSC_ZERO_ONE_ADAM) {
        out->frozen_at = frozen_at(config);
        return;
    }
    out->interval = (int64_t)ceil(1 / (1 - config->beta2));
    out->earliest = warmup_end(&config->scheduler);
}

bool dsc_freezer_is_frozen(const dsc_freezer *freezer, int64_t updates)
{
    return freezer->frozen_at > 0 && updates >= freezer->frozen_at;
}

void dsc_freezer_look(dsc_freezer *freezer, int64_t updates, double squares)
{
    const bool is_due = freezer->interval > 0 && freezer->frozen_at == 0 && updates > 0 &&
                        updates % freezer->interval == 0;
    double norm, before = freezer->norm;

    if (!is_due) return;
    norm = sqrt(squares) / (1 - pow(freezer->beta2, (double)updates));
    freezer->norm = norm;
    if (before > 0 && updates >= freezer->earliest && fmin(norm, before) >= SETTLED * fmax(norm, before))
        freezer->frozen_at = updates + 1; /* the gradients of the next update are exact already */
}

int64_t dsc_freezer_found(const dsc_freezer *freezer, int64_t updates)
{
    const bool is_automatic = freezer->interval > 0;

    return is_automatic || dsc_freezer_is_frozen(freezer, updates) ? freezer->frozen_at : 0;
}

void dsc_freezer_resume(dsc_freezer *freezer, int64_t found, double norm)
{
    if (freezer->interval == 0) return;
    freezer->frozen_at = found;
    freezer->norm = norm;
}
