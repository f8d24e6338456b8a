#include "base/log.h"
#include "tests/tap.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static char last[100];

static void keep(dsc_level level, const char *line, void *context)
{
    *(int *)context += 1;
    snprintf(last, sizeof last, "%d %s", (int)level, line);
}

static void filters(void)
{
    int lines = 0;

    dsc_log_to(keep, &lines, DSC_NOTE);
    dsc_log(DSC_DEBUG, "unheard");
    dsc_log(DSC_NOTE, "buckets of %d MiB", 25);
    dsc_log_to(NULL, NULL, DSC_DEBUG);
    dsc_log(DSC_WARNING, "dropped");
    CHECK(lines == 1, "%d lines", lines);
    CHECK(strcmp(last, "1 buckets of 25 MiB") == 0, "\"%s\"", last);
}

static void *write_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++) dsc_log(DSC_NOTE, "%d", i);
    return NULL;
}

static void serializes(void)
{
    pthread_t threads[4];
    int lines = 0; /* counted without a lock: the sink is called by one thread at a time */

    dsc_log_to(keep, &lines, DSC_NOTE);
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, write_many, NULL);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    dsc_log_to(NULL, NULL, DSC_DEBUG);
    CHECK(lines == 4000, "%d lines", lines);
}

static const tap_case cases[] = {
    {"notes reach the sink from its level up, and nobody without one", filters},
    {"several threads reach the sink one at a time", serializes},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
