/* The end of a process. Over TCP MPI_Finalize hangs in about half of all runs (MPICH 4.0.2 over UCX), and after a
 * failure there are requests that never complete. So under hydra the process manager is told in its own words that this
 * rank is done, and neither waits for it nor takes its leaving for a crash: doc/comm.md. */
#include "comm/internal.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const int64_t meeting_ns = 3000000000; /* how long, after a failure, the others are waited for */
enum { ANSWER_MS = 2000 };                    /* and the process manager */

typedef enum meeting { ALL_WELL, ALL_CAME, SOME_MISSING } meeting; /* the last two: after a failure */

/* On all ranks alike whether any knows of a failure; after one, those who do not come are not waited for. */
static meeting meet(dsc_comm *comm)
{
    dsc_failure_channel *f = &comm->failure;
    MPI_Request request;
    bool has_failed = dsc_comm_failure(comm) != DSC_OK || atomic_load(&f->is_raised);
    int64_t start_ns = dsc_clock_ns();
    int done = 0;

    f->meeting_mine = has_failed;
    if (MPI_Iallreduce(&f->meeting_mine, &f->meeting_any, 1, MPI_INT, MPI_MAX, f->comm, &request) != MPI_SUCCESS)
        return SOME_MISSING;
    for (int round = 0;; round++) {
        if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return SOME_MISSING;
        if (done) return f->meeting_any ? ALL_CAME : ALL_WELL;
        if (!has_failed && dsc_comm_failure(comm) != DSC_OK) {
            has_failed = true;
            start_ns = dsc_clock_ns();
        }
        if (has_failed && dsc_clock_ns() - start_ns > meeting_ns) return SOME_MISSING;
        dsc_comm_nap(comm, round);
    }
}

/* The descriptor of hydra's process manager, or -1 when another started this process: that of srun may speak PMI-2. */
static int find_process_manager(void)
{
    const char *word = getenv("PMI_FD");

    return word != NULL && getenv("HYDI_CONTROL_FD") != NULL ? atoi(word) : -1;
}

/* PMI-1's "finalize": the answer is awaited, since a process that leaves before it counts as crashed. When a rank is
 * stuck, "abort" ends all with this status. */
static void take_leave(int manager, bool ends_all, int exit_status)
{
    struct pollfd readable = {.fd = manager, .events = POLLIN};
    char words[64];
    int length = ends_all ? snprintf(words, sizeof words, "cmd=abort exitcode=%d\n", exit_status)
                          : snprintf(words, sizeof words, "cmd=finalize\n");

    if (write(manager, words, (size_t)length) < 0) return;
    if (poll(&readable, 1, ANSWER_MS) == 1 && read(manager, words, sizeof words) < 0) return;
}

/* An mpiexec that was signalled itself forgets what its ranks return when they leave in peace: then rank 0 ends the job
 * with the status, a moment later than the others, so that what all have printed has been passed on. */
static bool insists(const dsc_comm *comm, int exit_status)
{
    static const struct timespec moment = {.tv_nsec = 200000000};

    if (exit_status != dsc_exit_status(DSC_ESTOPPED) || dsc_comm_rank(comm) != 0) return false;
    nanosleep(&moment, NULL);
    return true;
}

void dsc_comm_exit(dsc_comm *comm, int exit_status)
{
    int manager = find_process_manager();
    meeting met;

    if (comm == NULL) exit(exit_status);
    fflush(NULL); /* before the meeting: nobody ends the others until all have said what they had to */
    met = meet(comm);
    if (manager >= 0) {
        take_leave(manager, met == SOME_MISSING || insists(comm, exit_status), exit_status);
    } else if (met == ALL_WELL) {
        dsc_failure_close(comm);
        dsc_comm_free(comm);
        MPI_Finalize();
    }
    fflush(NULL);
    _exit(exit_status); /* not exit: what MPI's libraries left to be done then may wait for others, too */
}
