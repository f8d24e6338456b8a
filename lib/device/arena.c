#include "device/device.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif

#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

enum { ALIGNMENT = 64 };

/* Bytes of the whole mapping, guard page included; false when they do not fit 63 bits. */
static bool count_map_bytes(int64_t bytes, int64_t page, int64_t *out)
{
    int64_t sum;

    if (!dsc_add(bytes, 2 * page, &sum)) return false;
    *out = dsc_round_up(bytes, page) + page;
    return true;
}

static dsc_status refused(int64_t bytes)
{
    const char *why = strerror(errno);
    struct rlimit space;

    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY)
        return DSC_FAIL(DSC_ENOMEM, "no memory for an arena of %lld bytes (%s): the process may have %llu (ulimit -v)",
                        (long long)bytes, why, (unsigned long long)space.rlim_cur);
    return DSC_FAIL(DSC_ENOMEM, "no memory for an arena of %lld bytes (%s): %lld are free", (long long)bytes, why,
                    (long long)dsc_memory_room(""));
}

dsc_status dsc_arena_create(int64_t bytes, dsc_arena *out)
{
    int64_t page = sysconf(_SC_PAGESIZE), map_bytes;
    char *map;

    if (bytes < 0) return DSC_FAIL(DSC_EINTERNAL, "an arena of %lld bytes", (long long)bytes);
    if (!count_map_bytes(bytes, page, &map_bytes))
        return DSC_FAIL(DSC_ENOMEM, "no memory for an arena of %lld bytes", (long long)bytes);
    map = mmap(NULL, (size_t)map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return refused(bytes);
    if (mprotect(map + map_bytes - page, (size_t)page, PROT_NONE) != 0) {
        munmap(map, (size_t)map_bytes);
        return DSC_FAIL(DSC_ENOMEM, "no guard page behind an arena of %lld bytes", (long long)bytes);
    }
    *out = (dsc_arena){map + map_bytes - page - dsc_round_up(bytes, ALIGNMENT), bytes, map, map_bytes};
    /* the last few bytes before the guard page, which only alignment puts there */
    dsc_arena_poison(out, bytes, dsc_round_up(bytes, ALIGNMENT) - bytes);
    return DSC_OK;
}

void dsc_arena_destroy(dsc_arena *arena)
{
    if (arena->map == NULL) return;
    ASAN_UNPOISON_MEMORY_REGION(arena->map, (size_t)arena->map_bytes); /* the next mapping may get these addresses */
    munmap(arena->map, (size_t)arena->map_bytes);
    *arena = (dsc_arena){0};
}

void dsc_arena_poison(const dsc_arena *arena, int64_t offset, int64_t bytes)
{
    ASAN_POISON_MEMORY_REGION(arena->base + offset, (size_t)bytes);
}

void dsc_arena_unpoison(const dsc_arena *arena, int64_t offset, int64_t bytes)
{
    ASAN_UNPOISON_MEMORY_REGION(arena->base + offset, (size_t)bytes);
}
