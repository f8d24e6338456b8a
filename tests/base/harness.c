/* The harness on itself: given a word, this program plays that part; given none, it watches itself play them. */
#include "base/text.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static const char *self;

static void holds(void) {}
static void fails(void) { CHECK(1 > 2, "%d and %d\nnot ok 9", 1, 2); }
static void crashes(void) { abort(); }
static void lacks(void) { tap_skip("unobtainium", "no %s here", "unobtainium"); }
static void draws(void) { tap_note("%llu", (unsigned long long)tap_random()); }

static const struct { const char *name; tap_case cases[2]; } parts[] = {
    {"fail", {{"first", fails}, {"second", holds}}},
    {"crash", {{"first", holds}, {"second", crashes}}},
    {"skip", {{"first", lacks}, {"second", holds}}},
    {"draw", {{"first", draws}, {"second", draws}}},
};

/* Runs the program in a part; returns its exit status, 255 after a signal, and what it printed. */
static int play(const char *environment, const char *part, char *out, size_t size)
{
    dsc_text command = {0};
    FILE *pipe;
    size_t got;
    int status;

    dsc_text_add(&command, "%s '%s' %s 2>&1", environment, self, part);
    pipe = popen(dsc_text_str(&command), "r");
    dsc_text_fini(&command);
    if (pipe == NULL) return 255;
    got = fread(out, 1, size - 1, pipe);
    out[got] = '\0';
    status = pclose(pipe);
    return WIFEXITED(status) && WEXITSTATUS(status) < 128 ? WEXITSTATUS(status) : 255;
}

static void reports_failures(void)
{
    char out[2000];
    int status = play("", "fail", out, sizeof out);

    CHECK(status == EXIT_FAILURE, "status %d", status);
    CHECK(strstr(out, "1..2\n") == out, "no plan first: %s", out);
    CHECK(strstr(out, "harness.c:") != NULL && strstr(out, ": 1 > 2: 1 and 2 not ok 9\n") != NULL, "%s", out);
    CHECK(strstr(out, "\nnot ok 1 - first\nok 2 - second\n") != NULL, "%s", out);
}

static void plans_before_crashes(void)
{
    char out[2000];
    int status = play("", "crash", out, sizeof out);

    CHECK(status == 255, "status %d", status);
    CHECK(strstr(out, "1..2\nok 1 - first\n") != NULL && strstr(out, "ok 2") == NULL, "%s", out);
}

static void skips(void)
{
    char out[2000];
    int status = play("DSC_REQUIRE=mpi", "skip", out, sizeof out);

    CHECK(status == EXIT_SUCCESS && strstr(out, "ok 1 - first # SKIP no unobtainium here\n") != NULL, "%s", out);
    status = play("DSC_REQUIRE=mpi,unobtainium", "skip", out, sizeof out);
    CHECK(status == EXIT_FAILURE && strstr(out, "not ok 1 - first\n") != NULL, "%s", out);
}

static void repeats(void)
{
    char first[2000], again[2000], other[2000];

    play("DSC_SEED=17", "draw", first, sizeof first);
    play("DSC_SEED=17", "draw", again, sizeof again);
    play("DSC_SEED=18", "draw", other, sizeof other);
    CHECK(strstr(first, "# DSC_SEED=17\n") != NULL, "%s", first);
    CHECK(strcmp(first, again) == 0, "%s, then %s", first, again);
    CHECK(strcmp(first, other) != 0, "%s", other);
}

static const tap_case cases[] = {
    {"a failed check is reported with its place and values, and the other cases run", reports_failures},
    {"a crash leaves a plan that was not kept", plans_before_crashes},
    {"a skip gives its reason, and is a failure where DSC_REQUIRE names what is missing", skips},
    {"a seed repeats what was drawn", repeats},
};

int main(int argc, char **argv)
{
    self = argv[0];
    for (int64_t i = 0; argc > 1 && i < DSC_COUNT(parts); i++)
        if (dsc_equal(argv[1], parts[i].name)) return tap_run(parts[i].cases, DSC_COUNT(parts[i].cases), NULL);
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
