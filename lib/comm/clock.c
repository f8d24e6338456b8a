#include "comm/internal.h"
#include <sched.h>
#include <stdlib.h>

enum { PINGS = 64 };

typedef struct alignment { int64_t offset_ns, uncertainty_ns; } alignment;

/* Completes a request without napping, which would be measured. */
static dsc_status hurry(dsc_comm *comm, dsc_request *request)
{
    dsc_status status = DSC_OK;
    bool done = false;

    for (;;) {
        DSC_TRY(dsc_request_test(request, &done));
        if (done) break;
        DSC_TRY(dsc_comm_failure(comm));
        sched_yield();
    }
out:
    if (status != DSC_OK && request->active) dsc_transfer_abandon(request->transfer);
    return status;
}

/* Rank 0 answers every ping with its clock. */
static dsc_status answer_pings(dsc_comm *comm, int peer)
{
    dsc_status status = DSC_OK;
    dsc_request request;
    int64_t clock_ns;

    for (int i = 0; i < PINGS; i++) {
        DSC_TRY(dsc_recv_copy_start(comm->world, &clock_ns, sizeof clock_ns, peer, 0, &request));
        DSC_TRY(hurry(comm, &request));
        clock_ns = dsc_clock_ns();
        DSC_TRY(dsc_send_copy_start(comm->world, &clock_ns, sizeof clock_ns, peer, 0, &request));
        DSC_TRY(hurry(comm, &request));
    }
out:
    return status;
}

/* Rank 0's clock was read somewhere within the round trip: the middle is off by at most half of it. */
static dsc_status ping(dsc_comm *comm, alignment *out)
{
    dsc_status status = DSC_OK;
    int64_t shortest_ns = INT64_MAX, clock_ns = 0;
    dsc_request request;

    for (int i = 0; i < PINGS; i++) {
        int64_t start_ns = dsc_clock_ns(), trip_ns;

        DSC_TRY(dsc_send_copy_start(comm->world, &clock_ns, sizeof clock_ns, 0, 0, &request));
        DSC_TRY(hurry(comm, &request));
        DSC_TRY(dsc_recv_copy_start(comm->world, &clock_ns, sizeof clock_ns, 0, 0, &request));
        DSC_TRY(hurry(comm, &request));
        trip_ns = dsc_clock_ns() - start_ns;
        if (trip_ns >= shortest_ns) continue;
        shortest_ns = trip_ns;
        *out = (alignment){clock_ns - start_ns - trip_ns / 2, dsc_ceil_div(trip_ns, 2)};
    }
out:
    return status;
}

/* The lowest rank of every host speaks for it, one after another. */
static dsc_status measure(dsc_comm *comm, alignment *own)
{
    dsc_status status = DSC_OK;
    int node = 0;

    for (int rank = 0; rank < comm->size; rank++) {
        if (comm->node_of[rank] != node) continue;
        node++;
        if (rank == 0) continue;
        if (comm->rank == 0) DSC_TRY(answer_pings(comm, rank));
        if (comm->rank == rank) DSC_TRY(ping(comm, own));
    }
out:
    return status;
}

dsc_status dsc_clock_align(dsc_comm *comm, int64_t *offset_ns, int64_t *uncertainty_ns)
{
    dsc_status status = DSC_OK;
    alignment own = {0}, *all = malloc((size_t)comm->size * sizeof *all);
    dsc_request request = {0};
    int speaker = 0;

    if (all == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %d ranks", comm->size);
        goto out;
    }
    DSC_TRY(measure(comm, &own));
    DSC_TRY(dsc_all_gather_start(comm->world, &own, all, sizeof own, &request));
    DSC_TRY(dsc_request_wait(comm, &request));
    while (comm->node_of[speaker] != comm->node_of[comm->rank]) speaker++;
    *offset_ns = all[speaker].offset_ns;
    *uncertainty_ns = all[speaker].uncertainty_ns;
out:
    if (!request.active) free(all); /* else MPI may still read it */
    return status;
}
