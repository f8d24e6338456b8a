/* A transfer is two streams of messages, one out and one in, each in order, with a rule that says when a message may
 * go. All collectives and messages of this module are such: doc/comm.md draws them. Nothing of it depends on timing,
 * so the same inputs give the same bits. */
#ifndef DSC_COMM_TRANSFER_H
#define DSC_COMM_TRANSFER_H

#include "comm/reduce.h"
#include <mpi.h>

enum {
    DSC_WINDOW = 8,           /* messages under way in each direction */
    DSC_PIPES = 4,            /* segments that follow each other around a ring */
    DSC_SEGMENT = 128 * 1024, /* largest message of a collective, in bytes: a few fill the wire, and fit the cache */
};

typedef struct dsc_transfer dsc_transfer;

typedef struct dsc_piece {
    void *address;
    int64_t bytes;
    int peer; /* rank in the group */
} dsc_piece;

/* What distinguishes one kind of transfer from another. k counts the messages of a direction. */
typedef struct dsc_flow {
    const char *name;
    dsc_piece (*outgoing)(const dsc_transfer *transfer, int64_t k);
    dsc_piece (*incoming)(const dsc_transfer *transfer, int64_t k);
    bool (*may_send)(const dsc_transfer *transfer, int64_t k);    /* its content is there; NULL: at once */
    bool (*may_receive)(const dsc_transfer *transfer, int64_t k); /* nothing needs what it overwrites; NULL: at once */
    void (*land)(dsc_transfer *transfer, int64_t k);              /* k has come, after all before it; may be NULL */
    void (*finish)(dsc_transfer *transfer);                       /* all has come and gone; may be NULL */
} dsc_flow;

struct dsc_transfer {
    dsc_transfer *next_free;
    dsc_group *group;
    const dsc_flow *flow;
    int tag;
    int64_t sends, recvs;       /* how many messages there are */
    int64_t posted_sends, sent; /* first messages of the stream */
    int64_t posted_recvs, landed;
    MPI_Request send_requests[DSC_WINDOW], recv_requests[DSC_WINDOW]; /* of message k at k % DSC_WINDOW */

    /* Each flow's own meaning of these is said where it is defined. */
    const char *in;
    char *out;
    int64_t elems, elem_bytes;
    dsc_reduce_fn *reduce;
    int64_t pipes, rounds, shift; /* ring */
    int root, fanout;             /* tree */
    int peer;                     /* point to point */
    _Alignas(16) char scratch[DSC_WINDOW * DSC_SEGMENT];
};

/* A transfer of the group, cleared but for scratch. DSC_ENOMEM when the group's are all under way and memory is out. */
dsc_status dsc_transfer_take(dsc_group *group, const dsc_flow *flow, dsc_transfer **out);
void dsc_transfer_give_back(dsc_transfer *transfer);

/* After a failure: receives are cancelled. What is on its way to a peer cannot be called back: its memory, and with it
 * the transfer, stays MPI's until the process ends. */
void dsc_transfer_abandon(dsc_transfer *transfer);

/* Takes every step that is possible now. */
dsc_status dsc_transfer_progress(dsc_transfer *transfer, bool *done);

#endif
