#include "base/rng.h"
#include "data/internal.h"

dsc_status dsc_sampler_init(const dsc_source *source, int64_t seq, int64_t global_batch, uint64_t seed,
                            dsc_sampler *out)
{
    int64_t tokens = dsc_source_tokens(source), samples = (tokens - 1) / seq;
    dsc_hash hash = dsc_source_hash(source);

    if (samples < global_batch)
        return DSC_FAIL(DSC_EINVAL, "%s: %lld tokens make %lld samples of %lld + 1 tokens, and a global batch takes "
                        "%lld", dsc_source_description(source), (long long)tokens, (long long)samples, (long long)seq,
                        (long long)global_batch);
    *out = (dsc_sampler){samples, seq, dsc_random_bits(seed, dsc_stream_of(hash.hex), 0)};
    return DSC_OK;
}

int64_t dsc_sampler_token(const dsc_sampler *sampler, int64_t index)
{
    int64_t epoch = index / sampler->samples, place = index % sampler->samples;
    uint64_t key = dsc_random_bits(sampler->key, 0, (uint64_t)epoch);

    return dsc_permute(key, sampler->samples, place) * sampler->seq;
}
