#include "tools/bench/bench.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int compare_times(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

int64_t bench_quartile(int64_t *times, int64_t count)
{
    qsort(times, (size_t)count, sizeof *times, compare_times);
    return times[count / 4];
}

int64_t bench_median(int64_t *times, int64_t count)
{
    qsort(times, (size_t)count, sizeof *times, compare_times);
    return times[count / 2];
}

int64_t bench_resident_bytes(void)
{
    long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL) return 0;
    if (fscanf(file, "%lld %lld", &total, &resident) != 2) resident = 0;
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

/* ---- An op's overhead: the compute lane reads the clock twice and wakes the thread that moves the other lanes, which
 * looks and sleeps again. */

typedef struct lanes {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int ops;      /* under mutex; that are over; -1: the end */
} lanes;

static void *follow(void *argument)
{
    lanes *l = argument;
    int seen = 0;

    pthread_mutex_lock(&l->mutex);
    while (l->ops >= 0) {
        seen = l->ops;
        while (l->ops == seen) pthread_cond_wait(&l->changed, &l->mutex);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

static void finish_op(lanes *l, int ops)
{
    pthread_mutex_lock(&l->mutex);
    l->ops = ops;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
}

int64_t bench_op_overhead_ns(void)
{
    enum { OPS = 1001, WORK_NS = 30000 }; /* as long as a short op, so that the other thread is asleep again */
    static int64_t times[OPS];
    lanes l = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t mover;

    if (pthread_create(&mover, NULL, follow, &l) != 0) return 0;
    for (int i = 0; i < OPS; i++) {
        const int64_t start = dsc_clock_ns();

        while (dsc_clock_ns() < start + WORK_NS) {}
        const int64_t end = dsc_clock_ns();
        finish_op(&l, i + 1);
        times[i] = dsc_clock_ns() - end;
    }
    finish_op(&l, -1);
    pthread_join(mover, NULL);
    return bench_quartile(times, OPS);
}
