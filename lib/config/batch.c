#include "config/config.h"

/* The product of the triple that is to equal the batch; false when it does not fit. */
static bool multiply(int64_t micro_batch, int64_t accumulation, int64_t dp, int64_t *out)
{
    return micro_batch > 0 && accumulation > 0 && dsc_mul(micro_batch, accumulation, out) && dsc_mul(*out, dp, out);
}

static dsc_status refuse_multiple(int64_t batch, const char *what, int64_t size, int64_t dp)
{
    int64_t unit = 0, low;

    if (!dsc_mul(size, dp, &unit))
        return DSC_FAIL(DSC_EINVAL, "%s %lld x data parallel %lld does not fit 63 bits", what, (long long)size,
                        (long long)dp);
    low = DSC_MAX(batch / unit, 1) * unit;
    return DSC_FAIL(DSC_EINVAL, "global batch %lld is no multiple of %s %lld x data parallel %lld = %lld; %lld is",
                    (long long)batch, what, (long long)size, (long long)dp, (long long)unit, (long long)low);
}

static dsc_status check_given(int64_t train_batch, int64_t micro_batch, int64_t accumulation)
{
    if (train_batch < 0 || micro_batch < 0 || accumulation < 0)
        return DSC_FAIL(DSC_EINVAL, "global batch %lld, micro-batch %lld, accumulation %lld: none may be negative",
                        (long long)train_batch, (long long)micro_batch, (long long)accumulation);
    if (train_batch == 0 && micro_batch == 0)
        return DSC_FAIL(DSC_EINVAL, "neither train_batch_size nor train_micro_batch_size_per_gpu is given");
    return DSC_OK;
}

/* DeepSpeed fills in what is missing by division that forgets the remainder, and then compares. Here the comparison
 * says what would have been a multiple. */
dsc_status dsc_batch_resolve(int64_t *train_batch, int64_t *micro_batch, int64_t *accumulation, int64_t dp)
{
    int64_t batch = *train_batch, micro = *micro_batch, steps = *accumulation, product = 0;
    bool has_micro = micro != 0, has_steps = steps != 0;

    if (check_given(batch, micro, steps) != DSC_OK) return DSC_EINVAL;
    if (!has_micro && !has_steps) steps = 1;
    if (micro == 0) micro = batch / dp / steps;
    if (steps == 0) steps = batch == 0 ? 1 : batch / micro / dp;
    if (batch == 0 && !multiply(micro, steps, dp, &batch))
        return DSC_FAIL(DSC_EINVAL, "micro-batch %lld x accumulation %lld x data parallel %lld does not fit 63 bits",
                        (long long)micro, (long long)steps, (long long)dp);
    if (!multiply(micro, steps, dp, &product) || product != batch) {
        if (!has_micro) return refuse_multiple(batch, "accumulation", steps, dp);
        if (!has_steps) return refuse_multiple(batch, "micro-batch", micro, dp);
        return DSC_FAIL(DSC_EINVAL,
                        "global batch %lld is not micro-batch %lld x accumulation %lld x data parallel %lld = %lld",
                        (long long)batch, (long long)micro, (long long)steps, (long long)dp, (long long)product);
    }
    *train_batch = batch;
    *micro_batch = micro;
    *accumulation = steps;
    return DSC_OK;
}
