/* What the files of this module share. */
#ifndef DSC_COMM_INTERNAL_H
#define DSC_COMM_INTERNAL_H

#include "base/array.h"
#include "comm/comm.h"
#include "comm/transfer.h"
#include <mpi.h>
#include <stdatomic.h>

/* A failure as it travels between ranks. */
typedef struct dsc_notice {
    int32_t status;
    int32_t rank; /* who raised it */
    char message[4096];
} dsc_notice;

/* How all ranks learn of one failure, the same one: who raises tells rank 0, rank 0 tells all of the first that it
 * sees. */
typedef struct dsc_failure_channel {
    MPI_Comm comm;           /* its own, so that no collective's message is taken for a notice */
    atomic_flag is_claimed;  /* by the thread that writes `mine` */
    atomic_bool is_raised;   /* `mine` is written */
    dsc_notice mine, inbox, verdict;
    bool is_told, is_known;  /* mine to rank 0; the verdict to this rank */
    int64_t told_ns;
    MPI_Request inbox_request, told_request;
    MPI_Request *verdict_requests; /* rank 0's to the others */
    int meeting_mine, meeting_any; /* buffers of dsc_comm_exit's last collective */
} dsc_failure_channel;

struct dsc_comm {
    int rank, size;
    int nodes, node_size, node_rank, machine_size, machine_rank;
    int *node_of; /* [size] */
    int cores;    /* of this host */
    int64_t wire_bytes;
    dsc_group *world;
    dsc_failure_channel failure;
    dsc_notice agreed; /* buffer of dsc_comm_agree */
};

struct dsc_group {
    dsc_comm *comm;
    MPI_Comm mpi; /* MPI_COMM_NULL in a group of one */
    int rank, size;
    int *ranks;   /* [size], of the job */
    int sequence; /* of the next collective; its tag */
    dsc_transfer *free; /* idle transfers */
};

/* DSC_OK, or DSC_ECOMM with MPI's text behind `what`. */
dsc_status dsc_mpi_check(int code, const char *what);

/* The failure channel; collective over the job. */
dsc_status dsc_failure_open(dsc_comm *comm);
void dsc_failure_close(dsc_comm *comm); /* after a good end only */

/* Starts an all-reduce with any function of two equal arrays. */
dsc_status dsc_all_reduce_with(dsc_group *group, void *buffer, int64_t elems, int64_t elem_bytes, dsc_reduce_fn *reduce,
                               dsc_request *out);

/* A message through the transfer's own memory, to be received by the other of the two: the buffer is free to go as soon
 * as nobody tests the request any more, also after a failure. */
dsc_status dsc_send_copy_start(dsc_group *group, const void *buffer, int64_t bytes, int peer, int tag,
                               dsc_request *request);
dsc_status dsc_recv_copy_start(dsc_group *group, void *buffer, int64_t bytes, int peer, int tag, dsc_request *request);

/* Releases everything, MPI left aside. Takes NULL and half-built ones. */
void dsc_comm_free(dsc_comm *comm);

#endif
