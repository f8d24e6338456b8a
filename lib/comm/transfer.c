#include "comm/internal.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

dsc_status dsc_transfer_take(dsc_group *group, const dsc_flow *flow, dsc_transfer **out)
{
    dsc_transfer *transfer = group->free;

    if (transfer != NULL)
        group->free = transfer->next_free;
    else
        transfer = malloc(sizeof *transfer);
    if (transfer == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: no memory for %zu bytes", flow->name, sizeof *transfer);
    memset(transfer, 0, offsetof(dsc_transfer, scratch));
    transfer->group = group;
    transfer->flow = flow;
    *out = transfer;
    return DSC_OK;
}

void dsc_transfer_give_back(dsc_transfer *transfer)
{
    transfer->next_free = transfer->group->free;
    transfer->group->free = transfer;
}

void dsc_transfer_abandon(dsc_transfer *t)
{
    for (; t->landed < t->posted_recvs; t->landed++) {
        MPI_Request *request = &t->recv_requests[t->landed % DSC_WINDOW];

        if (*request == MPI_REQUEST_NULL) continue;
        MPI_Cancel(request);
        MPI_Request_free(request);
    }
}

static dsc_status post_send(dsc_transfer *t)
{
    dsc_piece piece = t->flow->outgoing(t, t->posted_sends);
    MPI_Request *request = &t->send_requests[t->posted_sends % DSC_WINDOW];

    t->posted_sends++;
    return dsc_mpi_check(MPI_Isend(piece.address, (int)piece.bytes, MPI_BYTE, piece.peer, t->tag, t->group->mpi,
                                   request), t->flow->name);
}

static dsc_status post_recv(dsc_transfer *t)
{
    dsc_piece piece = t->flow->incoming(t, t->posted_recvs);
    MPI_Request *request = &t->recv_requests[t->posted_recvs % DSC_WINDOW];

    t->posted_recvs++;
    return dsc_mpi_check(MPI_Irecv(piece.address, (int)piece.bytes, MPI_BYTE, piece.peer, t->tag, t->group->mpi,
                                   request), t->flow->name);
}

static bool can_send(const dsc_transfer *t)
{
    int64_t k = t->posted_sends;

    return k < t->sends && k - t->sent < DSC_WINDOW && (t->flow->may_send == NULL || t->flow->may_send(t, k));
}

static bool can_receive(const dsc_transfer *t)
{
    int64_t k = t->posted_recvs;

    return k < t->recvs && k - t->landed < DSC_WINDOW && (t->flow->may_receive == NULL || t->flow->may_receive(t, k));
}

static dsc_status test_send(dsc_transfer *t, bool *moved)
{
    int done = 0;
    dsc_status status;

    if (t->sent == t->posted_sends) return DSC_OK;
    status = dsc_mpi_check(MPI_Test(&t->send_requests[t->sent % DSC_WINDOW], &done, MPI_STATUS_IGNORE), t->flow->name);
    t->sent += done;
    *moved |= done;
    return status;
}

static dsc_status check_length(const dsc_transfer *t, const MPI_Status *envelope)
{
    dsc_piece piece = t->flow->incoming(t, t->landed);
    int bytes = 0;

    MPI_Get_count(envelope, MPI_BYTE, &bytes);
    if (bytes == piece.bytes) return DSC_OK;
    return DSC_FAIL(DSC_ECOMM, "%s: rank %d sent %d bytes where rank %d expects %lld", t->flow->name,
                    t->group->ranks[piece.peer], bytes, t->group->comm->rank, (long long)piece.bytes);
}

static dsc_status test_recv(dsc_transfer *t, bool *moved)
{
    dsc_status status;
    MPI_Status envelope;
    int done = 0;

    if (t->landed == t->posted_recvs) return DSC_OK;
    DSC_TRY(dsc_mpi_check(MPI_Test(&t->recv_requests[t->landed % DSC_WINDOW], &done, &envelope), t->flow->name));
    if (!done) return DSC_OK;
    DSC_TRY(check_length(t, &envelope));
    if (t->flow->land != NULL) t->flow->land(t, t->landed);
    t->landed++;
    *moved = true;
out:
    return status;
}

dsc_status dsc_transfer_progress(dsc_transfer *t, bool *done)
{
    dsc_status status = DSC_OK;
    bool moved;

    do {
        moved = false;
        while (can_receive(t)) DSC_TRY(post_recv(t));
        while (can_send(t)) DSC_TRY(post_send(t));
        DSC_TRY(test_recv(t, &moved));
        DSC_TRY(test_send(t, &moved));
    } while (moved);
    *done = t->sent == t->sends && t->landed == t->recvs;
    if (*done && t->flow->finish != NULL) t->flow->finish(t);
out:
    return status;
}
