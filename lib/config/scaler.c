#include "config/config.h"
#include <math.h>

void dsc_scaler_init(const dsc_config *config, dsc_scaler *out)
{
    bool is_fp16 = config->strategy.precision == DSC_FP16;
    bool is_dynamic = is_fp16 && config->loss_scale <= 0;

    *out = (dsc_scaler){
        .scale = is_dynamic ? ldexp(1, (int)config->initial_scale_power) : is_fp16 ? config->loss_scale : 1,
        .min_scale = config->min_loss_scale,
        .window = config->loss_scale_window,
        .delayed_shift = config->hysteresis,
        .hysteresis = config->hysteresis,
        .last_overflow = -1,
        .consecutive_hysteresis = config->consecutive_hysteresis,
        .dynamic = is_dynamic,
        .error_at_min = true,
    };
}

static dsc_status halve(dsc_scaler *scaler)
{
    if (scaler->scale <= scaler->min_scale && scaler->error_at_min)
        return DSC_FAIL(DSC_EIO, "gradients overflow in step %lld at the smallest loss scale, %g",
                        (long long)scaler->iteration + 1, scaler->min_scale);
    scaler->scale = fmax(scaler->scale / 2, scaler->min_scale);
    return DSC_OK;
}

/* The first clean step after an overflow counts 1, or 0 where doubling is delayed. */
static void grow(dsc_scaler *scaler)
{
    int64_t clean = scaler->iteration - scaler->last_overflow - scaler->delay;
    bool is_time = clean > 0 && clean % scaler->window == 0;

    if (scaler->consecutive_hysteresis || is_time) scaler->hysteresis = scaler->delayed_shift;
    if (is_time) scaler->scale *= 2;
}

dsc_status dsc_scaler_update(dsc_scaler *scaler, bool overflow)
{
    dsc_status status = DSC_OK;

    if (!scaler->dynamic) return DSC_OK;
    if (!overflow) grow(scaler);
    else if (scaler->hysteresis > 1) scaler->hysteresis--;
    else DSC_TRY(halve(scaler));
    if (overflow) scaler->last_overflow = scaler->iteration;
    scaler->iteration++;
out:
    return status;
}
