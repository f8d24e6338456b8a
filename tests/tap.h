/* A small harness: a test program is a table of claims, each with the function that tries to refute it, and prints
 * TAP, whose plan line makes a crash a failure.
 *
 *     static void adds_up(void) { CHECK(1 + 1 == 2, "arithmetic is off by %d", 1 + 1 - 2); }
 *
 *     static const tap_case cases[] = {{"one and one are two", adds_up}};
 *
 *     int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include "base/array.h"

typedef struct tap_case {
    const char *claim; /* what holds when nothing fails: "sum of shards equals the tensor" */
    void (*run)(void);
} tap_case;

/* How the ranks of an MPI program take part; the harness itself knows no MPI. Every rank runs every case. */
typedef struct tap_job {
    int rank;                   /* names the rank in what it reports on stderr */
    bool quiet;                 /* true on all ranks but the one that prints TAP */
    bool (*any)(bool is_true);  /* collective: whether it is true on some rank; NULL in a serial program */
} tap_job;

/* Runs the cases in order and returns the exit status: 0 when none failed. job is NULL in a serial program. */
int tap_run(const tap_case *cases, int64_t count, const tap_job *job);

/* Runs compare on each file that argv names, a case a file. Without files it says how it is called, and returns 2. */
int tap_run_files(int argc, char **argv, void (*compare)(const char *path));

/* Fails the running case, and goes on, when `holds` is false: prints file, line, expression and the formatted values.
 * Its value is `holds`, for `if (!CHECK(...)) return;`. */
#define CHECK(holds, ...) tap_check((holds), __FILE__, __LINE__, #holds, __VA_ARGS__)
bool tap_check(bool holds, const char *file, int line, const char *expression, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Checks that a call gives DSC_OK, and prints the library's message when it does not. */
#define CHECK_OK(call) tap_check((call) == DSC_OK, __FILE__, __LINE__, #call, "%s", dsc_message())

/* Ends the case as skipped, to be followed by a return. `needs` ("cuda", "mpi", ...) is what the machine lacks: named
 * in the environment's DSC_REQUIRE=cuda,mpi it makes the skip a failure. The same on all ranks. */
void tap_skip(const char *needs, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds a line to the output, as a comment. */
void tap_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The environment's DSC_CASE runs only cases with these words in their claim; others are skipped. */

/* Random inputs of property tests. The seed is the environment's DSC_SEED or the clock, and is printed by the case that
 * first draws; every case draws from a stream of its own, so that it can be repeated alone. Under MPI, set DSC_SEED:
 * tests/mpi-run does, for all ranks. */
uint64_t tap_random(void);
int64_t tap_random_between(int64_t low, int64_t high); /* both included */

#endif
