#include "tests/comm/job.h"
#include "base/hash.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

dsc_comm *job;

static bool any(bool is_true)
{
    int64_t value = is_true;

    if (dsc_comm_max(job, &value, 1) == DSC_OK) return value != 0;
    fprintf(stderr, "%s\n", dsc_message());
    return true;
}

void job_run(int argc, char **argv, const tap_case *cases, int64_t count)
{
    tap_job taps = {.any = any};

    if (dsc_comm_create(&argc, &argv, &job) != DSC_OK) {
        fprintf(stderr, "%s\n", dsc_message());
        exit(EXIT_FAILURE);
    }
    taps.rank = dsc_comm_rank(job);
    taps.quiet = taps.rank != 0;
    dsc_comm_exit(job, tap_run(cases, count, &taps));
}

bool job_holds_same(const void *bytes, int64_t count)
{
    dsc_hash hash = dsc_hash_of(bytes, (size_t)count), first = hash;

    CHECK_OK(dsc_comm_broadcast(job, &first, sizeof first, 0));
    return !any(strcmp(hash.hex, first.hex) != 0);
}
