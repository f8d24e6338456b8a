#include "tests/tap.h"
#include "base/rng.h"
#include "base/text.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const tap_job serial = {0, false, NULL};

static struct {
    const tap_job *job;
    const char *claim;   /* of the running case */
    bool failed;         /* on this rank */
    char skipped[256];   /* the reason; "" when the case is not skipped */
    uint64_t draws;      /* of the running case */
    uint64_t seed;
    bool has_seed;
} now;

/* Comments go to the TAP stream on the rank that prints it, and to stderr on the others, named. */
static void comment(const char *format, va_list arguments)
{
    FILE *stream = now.job->quiet ? stderr : stdout;

    fputs("# ", stream);
    if (now.job->quiet) fprintf(stream, "rank %d: ", now.job->rank);
    vfprintf(stream, format, arguments);
    fputc('\n', stream);
    fflush(stream);
}

void tap_note(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (!now.job->quiet) comment(format, arguments);
    va_end(arguments);
}

static void complain(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    comment(format, arguments);
    va_end(arguments);
}

bool tap_check(bool holds, const char *file, int line, const char *expression, const char *format, ...)
{
    char values[1024];
    va_list arguments;

    if (holds) return true;
    va_start(arguments, format);
    vsnprintf(values, sizeof values, format, arguments);
    va_end(arguments);
    for (char *c = values; *c != '\0'; c++)
        if (*c == '\n') *c = ' '; /* a line that does not begin with # would be read as TAP */
    complain("%s:%d: %s: %s", file, line, expression, values);
    now.failed = true;
    return false;
}

static bool is_required(const char *needs)
{
    const char *list = getenv("DSC_REQUIRE");
    size_t length = strlen(needs);

    while (list != NULL && *list != '\0') {
        size_t word = strcspn(list, ",");

        if (word == length && memcmp(list, needs, length) == 0) return true;
        list += word + (list[word] == ',');
    }
    return false;
}

void tap_skip(const char *needs, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(now.skipped, sizeof now.skipped, format, arguments);
    va_end(arguments);
    if (!is_required(needs)) return;
    complain("DSC_REQUIRE names %s: %s", needs, now.skipped);
    now.skipped[0] = '\0';
    now.failed = true;
}

static void choose_seed(void)
{
    const char *given = getenv("DSC_SEED");
    struct timespec clock;

    timespec_get(&clock, TIME_UTC);
    now.seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)clock.tv_sec * 1000000 + (uint64_t)clock.tv_nsec;
    now.has_seed = true;
}

uint64_t tap_random(void)
{
    if (!now.has_seed) choose_seed();
    if (now.draws == 0) tap_note("DSC_SEED=%llu", (unsigned long long)now.seed);
    return dsc_random_bits(now.seed, dsc_stream_of(now.claim), now.draws++);
}

int64_t tap_random_between(int64_t low, int64_t high)
{
    return low + (int64_t)(tap_random() % ((uint64_t)(high - low) + 1));
}

static bool any(bool is_true)
{
    return now.job->any == NULL ? is_true : now.job->any(is_true);
}

/* DSC_CASE: only cases with these words in their claim. */
static bool is_left_out(const char *claim)
{
    const char *words = getenv("DSC_CASE");

    return words != NULL && strstr(claim, words) == NULL;
}

static bool run_case(const tap_case *the_case, int64_t number)
{
    bool failed;

    now.claim = the_case->claim;
    now.failed = false;
    now.skipped[0] = '\0';
    now.draws = 0;
    if (is_left_out(the_case->claim)) snprintf(now.skipped, sizeof now.skipped, "DSC_CASE");
    else the_case->run();
    failed = any(now.failed);
    if (now.job->quiet) return !failed;
    printf("%s %lld - %s", failed ? "not ok" : "ok", (long long)number, the_case->claim);
    if (!failed && now.skipped[0] != '\0') printf(" # SKIP %s", now.skipped);
    putchar('\n');
    fflush(stdout);
    return !failed;
}

int tap_run(const tap_case *cases, int64_t count, const tap_job *job)
{
    bool all_hold = true;

    now.job = job == NULL ? &serial : job;
    if (!now.job->quiet) printf("1..%lld\n", (long long)count);
    fflush(stdout);
    for (int64_t i = 0; i < count; i++) all_hold &= run_case(&cases[i], i + 1);
    return all_hold ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- Files as cases */

static struct { char **next; void (*compare)(const char *path); } files;

static void compare_next(void) { files.compare(*files.next++); }

int tap_run_files(int argc, char **argv, void (*compare)(const char *path))
{
    tap_case *cases = calloc((size_t)argc, sizeof *cases);
    int status;

    if (cases == NULL || argc < 2) {
        fprintf(stderr, "usage: %s FILE...\n", argv[0]);
        free(cases);
        return 2;
    }
    for (int i = 1; i < argc; i++) cases[i - 1] = (tap_case){argv[i], compare_next};
    files.next = argv + 1;
    files.compare = compare;
    status = tap_run(cases, argc - 1, NULL);
    free(cases);
    return status;
}
