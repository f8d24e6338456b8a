#include "base/hash.h"
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static dsc_hash to_hex(XXH128_hash_t value)
{
    XXH128_canonical_t canonical;
    dsc_hash hash;

    XXH128_canonicalFromHash(&canonical, value);
    for (size_t i = 0; i < sizeof canonical.digest; i++) snprintf(hash.hex + 2 * i, 3, "%02x", canonical.digest[i]);
    return hash;
}

dsc_hash dsc_hash_of(const void *bytes, size_t count)
{
    return to_hex(XXH3_128bits(bytes, count));
}

/* A dsc_hasher is never defined: it is XXH3's own state behind our name. */
dsc_hasher *dsc_hash_begin(void)
{
    XXH3_state_t *state = XXH3_createState();

    if (state != NULL) XXH3_128bits_reset(state);
    return (dsc_hasher *)state;
}

void dsc_hash_add(dsc_hasher *hasher, const void *bytes, size_t count)
{
    if (hasher != NULL) XXH3_128bits_update((XXH3_state_t *)hasher, bytes, count);
}

dsc_hash dsc_hash_end(dsc_hasher *hasher)
{
    dsc_hash hash = {""};

    if (hasher == NULL) return hash;
    hash = to_hex(XXH3_128bits_digest((XXH3_state_t *)hasher));
    XXH3_freeState((XXH3_state_t *)hasher);
    return hash;
}
