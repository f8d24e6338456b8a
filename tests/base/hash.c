#include "base/hash.h"
#include "tests/tap.h"
#include <string.h>

static void is_xxh3(void)
{
    dsc_hash hash = dsc_hash_of("", 0);

    CHECK(strcmp(hash.hex, "99aa06d3014798d86001c324468d497f") == 0, "hash of nothing is %s", hash.hex);
}

static void ranges_add_up(void)
{
    char bytes[5000];

    for (int draw = 0; draw < 50; draw++) {
        int64_t count = tap_random_between(0, sizeof bytes), done = 0;
        dsc_hasher *hasher = dsc_hash_begin();
        dsc_hash whole, parts;

        for (int64_t i = 0; i < count; i++) bytes[i] = (char)tap_random();
        while (done < count) {
            int64_t part = tap_random_between(0, count - done);

            dsc_hash_add(hasher, bytes + done, (size_t)part);
            done += part;
        }
        whole = dsc_hash_of(bytes, (size_t)count);
        parts = dsc_hash_end(hasher);
        CHECK(strcmp(whole.hex, parts.hex) == 0, "%lld bytes: %s and %s", (long long)count, whole.hex, parts.hex);
    }
}

static void takes_null(void)
{
    dsc_hash_add(NULL, "x", 1);
    CHECK(dsc_hash_end(NULL).hex[0] == '\0', "hash %s", dsc_hash_end(NULL).hex);
}

static const tap_case cases[] = {
    {"a hash is the canonical XXH3-128", is_xxh3},
    {"the hash of ranges is the hash of the whole", ranges_add_up},
    {"a hasher that could not be made hashes to nothing", takes_null},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
