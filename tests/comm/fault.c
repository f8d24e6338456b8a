/* What happens to a job when things go wrong: fault DEED RANK STATUS, run and judged by faults.sh. Every rank writes
 * one line, its status and message.
 *
 *   well      nobody fails
 *   agree     RANK brings STATUS to an agreement
 *   raise     RANK fails while the others are in an all-reduce
 *   all       every rank but 0 fails at the same time
 *   stuck     RANK fails, and the rank before it never answers
 *   last      RANK fails after the last collective, too late to change what the others return
 *   loop      nobody fails, for ever */
#include "comm/comm.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ELEMS = 1 << 20, FAULT_STEP = 5 };

static dsc_comm *comm;
static const char *deed;
static dsc_status code;
static bool is_culprit;

static bool is(const char *name)
{
    return strcmp(deed, name) == 0;
}

static void *raise_failure(void *unused)
{
    dsc_comm_raise(comm, DSC_FAIL(code, "rank %d has failed", dsc_comm_rank(comm)));
    return unused;
}

/* Fails like a rank that is in the midst of a step: a thread that computes raises, another polls until the verdict is
 * there. */
static dsc_status fail(void)
{
    dsc_status status;
    pthread_t thread;

    if (pthread_create(&thread, NULL, raise_failure, NULL) != 0) raise_failure(NULL);
    for (int round = 0; (status = dsc_comm_failure(comm)) == DSC_OK; round++) dsc_comm_nap(comm, round);
    return status;
}

static dsc_status step(dsc_group *group)
{
    static float buffer[ELEMS];
    dsc_request request;
    dsc_status status = dsc_all_reduce_start(group, buffer, ELEMS, DSC_FP32, DSC_SUM, &request);

    return status == DSC_OK ? dsc_request_wait(comm, &request) : status;
}

static dsc_status run(int culprit)
{
    int ranks[64], size = dsc_comm_size(comm), rank = dsc_comm_rank(comm);
    dsc_status status = DSC_OK;
    dsc_group *group;

    if (is("agree")) {
        status = is_culprit ? DSC_FAIL(code, "rank %d has failed", rank) : DSC_OK;
        return dsc_comm_agree(comm, status, false);
    }
    for (int r = 0; r < size; r++) ranks[r] = r;
    DSC_TRY(dsc_group_create(comm, ranks, size, &group));
    DSC_TRY(dsc_comm_barrier(comm));
    for (int i = 0; i < 2 * FAULT_STEP || is("loop"); i++) {
        if (i == FAULT_STEP && ((is("raise") && is_culprit) || (is("all") && rank > 0))) return fail();
        if (is("stuck") && rank == culprit - 1)
            for (;;) pause();
        if (is("stuck") && is_culprit) return fail();
        DSC_TRY(step(group));
    }
    if (is("last") && is_culprit) raise_failure(NULL);
out:
    return status;
}

int main(int argc, char **argv)
{
    dsc_status status;

    if (argc < 4 || dsc_comm_create(&argc, &argv, &comm) != DSC_OK) return EXIT_FAILURE;
    deed = argv[1];
    code = (dsc_status)atoi(argv[3]);
    is_culprit = dsc_comm_rank(comm) == atoi(argv[2]);
    status = run(atoi(argv[2]));
    fprintf(stderr, "status %d: %s\n", status, status == DSC_OK ? "well" : dsc_message());
    dsc_comm_exit(comm, dsc_exit_status(status));
}
