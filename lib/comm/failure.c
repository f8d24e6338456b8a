#include "comm/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TO_ARBITER, VERDICT }; /* tags */

/* A raiser whom rank 0 does not answer for so long (it may be stopped) goes by its own failure. */
static const int64_t patience_ns = 3000000000;

static dsc_status receive_notice(dsc_failure_channel *f, int source, int tag)
{
    return dsc_mpi_check(MPI_Irecv(&f->inbox, sizeof f->inbox, MPI_BYTE, source, tag, f->comm, &f->inbox_request),
                         "failure channel");
}

dsc_status dsc_failure_open(dsc_comm *comm)
{
    dsc_failure_channel *f = &comm->failure;
    dsc_status status = DSC_OK;

    f->verdict_requests = malloc((size_t)comm->size * sizeof *f->verdict_requests);
    if (f->verdict_requests == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %d ranks", comm->size);
    DSC_TRY(dsc_mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &f->comm), "failure channel"));
    if (comm->rank == 0)
        DSC_TRY(receive_notice(f, MPI_ANY_SOURCE, TO_ARBITER));
    else
        DSC_TRY(receive_notice(f, 0, VERDICT));
out:
    return status;
}

void dsc_failure_close(dsc_comm *comm)
{
    dsc_failure_channel *f = &comm->failure;

    MPI_Cancel(&f->inbox_request);
    MPI_Request_free(&f->inbox_request);
    MPI_Comm_free(&f->comm);
}

void dsc_comm_raise(dsc_comm *comm, dsc_status status)
{
    dsc_failure_channel *f = &comm->failure;

    if (status == DSC_OK || atomic_flag_test_and_set(&f->is_claimed)) return;
    f->mine.status = (int32_t)status;
    f->mine.rank = comm->rank;
    snprintf(f->mine.message, sizeof f->mine.message, "%s", dsc_message());
    atomic_store(&f->is_raised, true);
}

static void settle(dsc_failure_channel *f, const dsc_notice *notice)
{
    f->verdict = *notice;
    f->is_known = true;
}

/* Rank 0: the first failure that it sees becomes everybody's. */
static void judge(dsc_comm *comm, const dsc_notice *notice)
{
    dsc_failure_channel *f = &comm->failure;

    if (f->is_known) return;
    settle(f, notice);
    for (int rank = 1; rank < comm->size; rank++)
        MPI_Isend(&f->verdict, sizeof f->verdict, MPI_BYTE, rank, VERDICT, f->comm, &f->verdict_requests[rank]);
}

static void tell_arbiter(dsc_comm *comm)
{
    dsc_failure_channel *f = &comm->failure;

    if (f->is_told || !atomic_load(&f->is_raised)) return;
    f->is_told = true;
    f->told_ns = dsc_clock_ns();
    if (comm->rank == 0)
        judge(comm, &f->mine);
    else
        MPI_Isend(&f->mine, sizeof f->mine, MPI_BYTE, 0, TO_ARBITER, f->comm, &f->told_request);
}

static void read_inbox(dsc_comm *comm)
{
    dsc_failure_channel *f = &comm->failure;
    int has_come = 0;

    if (f->inbox_request == MPI_REQUEST_NULL) return;
    MPI_Test(&f->inbox_request, &has_come, MPI_STATUS_IGNORE);
    if (!has_come) return;
    if (comm->rank == 0)
        judge(comm, &f->inbox);
    else
        settle(f, &f->inbox);
}

dsc_status dsc_comm_failure(dsc_comm *comm)
{
    dsc_failure_channel *f = &comm->failure;

    if (!f->is_known) {
        tell_arbiter(comm);
        read_inbox(comm);
        if (!f->is_known && f->is_told && dsc_clock_ns() - f->told_ns > patience_ns) settle(f, &f->mine);
    }
    if (!f->is_known) return DSC_OK;
    if (comm->size == 1) return DSC_FAIL((dsc_status)f->verdict.status, "%s", f->verdict.message);
    return DSC_FAIL((dsc_status)f->verdict.status, "rank %d: %s", f->verdict.rank, f->verdict.message);
}
