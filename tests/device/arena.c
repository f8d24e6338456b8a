#include "device/device.h"
#include "tests/tap.h"
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a child ends that writes one byte at address: its wait status. */
static int write_in_child(char *address)
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        close(STDERR_FILENO); /* a sanitizer's report is expected */
        *(volatile char *)address = 1;
        _exit(0);
    }
    waitpid(child, &status, 0);
    return status;
}

static bool is_sanitized(void)
{
#ifdef __SANITIZE_ADDRESS__
    return true;
#else
    return false;
#endif
}

static void is_zero_aligned_and_of_exact_size(void)
{
    static const int64_t sizes[] = {1, 63, 64, 65, 4095, 4096, 4097, 1000000};

    for (int64_t i = 0; i < DSC_COUNT(sizes); i++) {
        dsc_arena arena;

        if (!CHECK_OK(dsc_arena_create(sizes[i], &arena))) return;
        CHECK(arena.bytes == sizes[i], "%lld for %lld", (long long)arena.bytes, (long long)sizes[i]);
        CHECK((uintptr_t)arena.base % 64 == 0, "base %p", (void *)arena.base);
        for (int64_t at = 0; at < sizes[i]; at++)
            if (!CHECK(arena.base[at] == 0, "byte %lld is %d", (long long)at, arena.base[at])) break;
        memset(arena.base, 1, (size_t)sizes[i]);
        dsc_arena_destroy(&arena);
        CHECK(arena.base == NULL && arena.map == NULL, "a destroyed arena points somewhere");
    }
}

static void ends_at_a_guard_page(void)
{
    dsc_arena arena;

    if (!CHECK_OK(dsc_arena_create(8192 + 64, &arena))) return;
    CHECK(write_in_child(arena.base + arena.bytes - 1) == 0, "the last byte cannot be written");
    CHECK(write_in_child(arena.base + arena.bytes) != 0, "the byte behind the arena can be written");
    dsc_arena_destroy(&arena);
}

static void holds_nothing_when_empty(void)
{
    dsc_arena arena, none = {0};

    if (!CHECK_OK(dsc_arena_create(0, &arena))) return;
    CHECK(arena.bytes == 0, "%lld bytes", (long long)arena.bytes);
    CHECK(write_in_child(arena.base) != 0, "an empty arena can be written");
    dsc_arena_destroy(&arena);
    dsc_arena_destroy(&none);
}

static void names_the_bytes_it_cannot_have(void)
{
    dsc_arena arena = {0};

    CHECK(dsc_arena_create(INT64_C(1) << 60, &arena) == DSC_ENOMEM, "2^60 bytes were given");
    CHECK(strstr(dsc_message(), "1152921504606846976") != NULL, "%s", dsc_message());
    CHECK(dsc_arena_create(INT64_MAX, &arena) == DSC_ENOMEM, "2^63 - 1 bytes were given");
    CHECK(arena.map == NULL, "a failure wrote the arena");
}

static void poisoned_ranges_trap_under_asan(void)
{
    dsc_arena arena;

    if (!is_sanitized()) {
        tap_skip("asan", "built without --enable-asan");
        return;
    }
    if (!CHECK_OK(dsc_arena_create(4096, &arena))) return;
    dsc_arena_poison(&arena, 1024, 64);
    CHECK(write_in_child(arena.base + 1024) != 0, "a poisoned byte can be written");
    CHECK(write_in_child(arena.base + 1023) == 0, "the byte before cannot be written");
    CHECK(write_in_child(arena.base + 1088) == 0, "the byte behind cannot be written");
    dsc_arena_unpoison(&arena, 1024, 64);
    CHECK(write_in_child(arena.base + 1024) == 0, "an unpoisoned byte cannot be written");
    dsc_arena_destroy(&arena);
}

static const tap_case cases[] = {
    {"an arena is zero, aligned to 64 bytes and as large as asked for", is_zero_aligned_and_of_exact_size},
    {"an arena ends at a guard page", ends_at_a_guard_page},
    {"an empty arena holds no byte", holds_nothing_when_empty},
    {"an arena that memory cannot hold is refused by its size", names_the_bytes_it_cannot_have},
    {"a poisoned range traps under ASan", poisoned_ranges_trap_under_asan},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
