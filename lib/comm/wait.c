/* Waiting, and the blocking collectives that are made of the others. */
#include "comm/internal.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t dsc_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Naps grow slowly with the wait: what they add to it stays in proportion, and who waits long leaves cores alone. */
void dsc_comm_nap(const dsc_comm *comm, int round)
{
    int64_t longest_ns = comm->machine_size > comm->cores ? 500000 : 100000;
    int64_t nap_ns = DSC_MIN(20000 + (int64_t)round / 16 * 20000, longest_ns);

    if (round == 0)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = nap_ns}, NULL);
}

dsc_status dsc_request_wait(dsc_comm *comm, dsc_request *request)
{
    dsc_status status = DSC_OK;
    bool done = false;

    for (int round = 0;; round++) {
        DSC_TRY(dsc_request_test(request, &done));
        if (done) break;
        DSC_TRY(dsc_comm_failure(comm));
        dsc_comm_nap(comm, round);
    }
out:
    if (status != DSC_OK && request->active) dsc_transfer_abandon(request->transfer);
    return status;
}

/* An all-reduce of nothing is over when everybody has begun it. */
dsc_status dsc_comm_barrier(dsc_comm *comm)
{
    return dsc_comm_sum(comm, NULL, 0);
}

dsc_status dsc_comm_broadcast(dsc_comm *comm, void *buffer, int64_t bytes, int root)
{
    dsc_request request;
    dsc_status status = dsc_broadcast_start(comm->world, buffer, bytes, root, &request);

    return status == DSC_OK ? dsc_request_wait(comm, &request) : status;
}

dsc_status dsc_comm_sum(dsc_comm *comm, double *values, int count)
{
    dsc_request request;
    dsc_status status = dsc_all_reduce_start(comm->world, values, count, DSC_FP64, DSC_SUM, &request);

    return status == DSC_OK ? dsc_request_wait(comm, &request) : status;
}

dsc_status dsc_comm_max(dsc_comm *comm, int64_t *values, int count)
{
    dsc_request request;
    dsc_status status = dsc_all_reduce_with(comm->world, values, count, sizeof *values, dsc_reduce_max_int64, &request);

    return status == DSC_OK ? dsc_request_wait(comm, &request) : status;
}

static dsc_status send(dsc_comm *comm, const void *buffer, int64_t bytes, int peer)
{
    dsc_request request;
    dsc_status status = dsc_send_copy_start(comm->world, buffer, bytes, peer, 0, &request);

    return status == DSC_OK ? dsc_request_wait(comm, &request) : status;
}

static dsc_status receive(dsc_comm *comm, void *buffer, int64_t bytes, int peer)
{
    dsc_request request;
    dsc_status status = dsc_recv_copy_start(comm->world, buffer, bytes, peer, 0, &request);

    return status == DSC_OK ? dsc_request_wait(comm, &request) : status;
}

typedef struct gathered { char *bytes; int64_t count, capacity; } gathered;

/* Appends what a peer sends, or this rank's own bytes. */
static dsc_status append(dsc_comm *comm, gathered *all, int peer, const void *own, int64_t *count)
{
    dsc_status status = DSC_OK;

    if (peer != comm->rank) DSC_TRY(receive(comm, count, sizeof *count, peer));
    DSC_TRY(dsc_array_reserve(&all->bytes, &all->capacity, all->count + *count, 1));
    if (peer != comm->rank)
        DSC_TRY(receive(comm, all->bytes + all->count, *count, peer));
    else if (*count > 0)
        memcpy(all->bytes + all->count, own, (size_t)*count);
    all->count += *count;
out:
    return status;
}

dsc_status dsc_comm_gather(dsc_comm *comm, const void *bytes, int64_t count, void **out, int64_t *counts)
{
    dsc_status status = DSC_OK;
    gathered all = {0};

    if (comm->rank != 0) {
        DSC_TRY(send(comm, &count, sizeof count, 0));
        DSC_TRY(send(comm, bytes, count, 0));
        *out = NULL;
        return DSC_OK;
    }
    counts[0] = count;
    for (int peer = 0; peer < comm->size; peer++) DSC_TRY(append(comm, &all, peer, bytes, &counts[peer]));
    *out = all.bytes;
    all.bytes = NULL;
out:
    free(all.bytes);
    return status;
}

static void write_notice(dsc_notice *notice, int rank, dsc_status status)
{
    notice->rank = rank;
    notice->status = (int32_t)status;
    strncpy(notice->message, dsc_message(), sizeof notice->message - 1);
}

/* One maximum says whether anybody failed, and who is first: the lower the rank, the larger its value. */
dsc_status dsc_comm_agree(dsc_comm *comm, dsc_status status, bool with_rank)
{
    dsc_notice *notice = &comm->agreed;
    int64_t worst = status == DSC_OK ? 0 : comm->size - comm->rank;
    int first;

    if (comm->size == 1) return status;
    write_notice(notice, comm->rank, status);
    DSC_TRY(dsc_comm_max(comm, &worst, 1));
    if (worst == 0) return DSC_OK;
    first = (int)(comm->size - worst);
    DSC_TRY(dsc_comm_broadcast(comm, notice, sizeof *notice, first));
    status = DSC_FAIL((dsc_status)notice->status, "%s", notice->message);
    if (with_rank) status = dsc_fail_in(status, "rank %d", first);
out:
    return status;
}
