/* All workers of a 1-bit exchange in one process, for golden tests: a tensor is one unit, whose padding counts, and the
 * kernels of a set do the work. Recorded numbers are read here too. */
#ifndef TESTS_GOLDEN_WORKERS_H
#define TESTS_GOLDEN_WORKERS_H

#include "kernel/step.h"
#include "kernels/kernels.h"
#include "tests/tap.h"
#include <jansson.h>

enum { WORKERS_MOST = 64 };

/* Numbers are of `type`, in memory of workers_fini. */
typedef struct workers {
    const char *name; /* of the run, for messages */
    const dsc_kernel_set *set;
    dsc_dtype type;
    double tolerance; /* relative to the largest number of an array */
    dsc_step step;
    int64_t count, elems, padded;
    int64_t real; /* elements past it are padding as those past elems are: a mask's */
    void *x[WORKERS_MOST], *error[WORKERS_MOST]; /* [elems], [padded] */
    void *server_error[WORKERS_MOST], *out;      /* [padded / count], [elems] */
    unsigned char *packets[WORKERS_MOST], *replies;  /* [count] packets each */
    void *memory[8 * WORKERS_MOST];
    int allocations;
} workers;

/* The caller has set all above x. */
void workers_init(workers *w);
void workers_fini(workers *w);
void *workers_take(workers *w, int64_t elems); /* zeros */

double workers_get(const workers *w, const void *from, int64_t index);
void workers_set(const workers *w, void *to, int64_t index, double value);

/* Calls a kernel of the set with its shape's flags and dimensions. */
void workers_run(const workers *w, dsc_kernel kernel, int32_t flags, const int64_t d[DSC_KERNEL_DIMS],
                 void *const operands[DSC_KERNEL_OPERANDS]);

/* out = the compressed mean of x; errors are updated. */
void workers_exchange(workers *w);

/* Reads recorded numbers, or compares with them; false, with a failed check, when they are no array of `elems`. */
bool workers_read(const workers *w, const char *what, const json_t *array, int64_t elems, void *out);
bool workers_compare(const workers *w, const char *what, const json_t *array, int64_t elems, const void *got);

/* Compares what the last exchange left: members worker_scale, worker_bits, server_scale and server_bits. */
void workers_compare_sent(const workers *w, const json_t *record);

#endif
