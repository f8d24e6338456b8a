/* Ranks that talk: groups, non-blocking collectives and messages, agreed errors, waiting that leaves the cores to
 * those who compute. The only user of mpi.h (and, later, nccl.h).
 *
 * Threads: at any time one thread of a rank calls this module (MPI_THREAD_SERIALIZED); during a step that is the
 * executor's communication thread, between steps the main one. dsc_comm_raise alone may be called by any thread. */
#ifndef DSC_COMM_COMM_H
#define DSC_COMM_COMM_H

#include "kernel/kernel.h"

typedef struct dsc_comm dsc_comm;
typedef struct dsc_group dsc_group;

typedef enum dsc_reduction { DSC_SUM, DSC_MAX } dsc_reduction;

/* Starts MPI (a program that was started without a launcher is one rank). Collective over the job. argc, argv may be
 * NULL. */
dsc_status dsc_comm_create(int *argc, char ***argv, dsc_comm **out);

/* Ends MPI on all ranks and frees comm (takes NULL). Collective after a good end. After a failure (pending requests,
 * see dsc_comm_raise) it does not wait for what will never come: it meets the others for at most a few seconds and
 * then leaves by itself, ending the rank that did not come. The buffers of pending requests must stay until then.
 * Always ends the process with exit_status, without noise from the launcher: over TCP MPI_Finalize hangs, so there
 * the process manager is told directly (doc/comm.md). */
void dsc_comm_exit(dsc_comm *comm, int exit_status) __attribute__((noreturn));

/* This process' number in the job, and how many there are. */
int dsc_comm_rank(const dsc_comm *comm);
int dsc_comm_size(const dsc_comm *comm);
int dsc_comm_nodes(const dsc_comm *comm);              /* how many hosts */
int dsc_comm_node_of(const dsc_comm *comm, int rank);  /* 0 .. nodes - 1, in order of their lowest rank */
int dsc_comm_node_size(const dsc_comm *comm);          /* ranks on this rank's host */
int dsc_comm_node_rank(const dsc_comm *comm);
/* The same of the machine whose cores it shares: more than its host's where hosts are containers of one kernel. */
int dsc_comm_machine_size(const dsc_comm *comm);
int dsc_comm_machine_rank(const dsc_comm *comm);

/* A group of ranks[0..count) (of the job, ascending; this rank among them). Collective over its members, who create
 * their groups in one order. A group of one needs no communicator. */
dsc_status dsc_group_create(dsc_comm *comm, const int *ranks, int count, dsc_group **out);
void dsc_group_destroy(dsc_group *group);              /* takes NULL; not after a failure */
int dsc_group_size(const dsc_group *group);
int dsc_group_rank(const dsc_group *group);

/* ---- Non-blocking: start, then test until done. Buffers are borrowed until then. All members start a group's
 * collectives in one order. `payload` of a request is what its rank put on the wire by the rules of doc/comm.md (for
 * collectives the group's first rank counts for all; 0 elsewhere). */
typedef struct dsc_request {
    struct dsc_transfer *transfer; /* the group's */
    int64_t payload_bytes;         /* from the arguments of the call that was made */
    bool active;                   /* false from the start in a group of one, where nothing travels */
} dsc_request;

dsc_status dsc_all_reduce_start(dsc_group *group, void *buffer, int64_t elems, dsc_dtype type, dsc_reduction reduction,
                                dsc_request *out); /* in place; fp32, bf16, fp16, fp64; 16-bit sums round once a hop */
dsc_status dsc_reduce_scatter_start(dsc_group *group, const void *in, void *out, int64_t elems_each, dsc_dtype type,
                                    dsc_request *request); /* sum; in holds size * elems_each, out may be this
                                                              member's of them: in place */
dsc_status dsc_all_gather_start(dsc_group *group, const void *in, void *out, int64_t bytes_each, dsc_request *request);
/* From each member to each: in and out hold size * bytes_each, by member, and do not overlap. */
dsc_status dsc_all_to_all_start(dsc_group *group, const void *in, void *out, int64_t bytes_each, dsc_request *request);
dsc_status dsc_broadcast_start(dsc_group *group, void *buffer, int64_t bytes, int root, dsc_request *request);
/* Messages of one peer and tag arrive in the order in which they were started. tag is below DSC_TAGS. */
enum { DSC_TAGS = 1 << 24 };
dsc_status dsc_send_start(dsc_group *group, const void *buffer, int64_t bytes, int peer, int tag, dsc_request *request);
dsc_status dsc_recv_start(dsc_group *group, void *buffer, int64_t bytes, int peer, int tag, dsc_request *request);

/* Makes progress; *done says whether it has completed. Requests of more than 2^31 - 1 elements are cut inside. */
dsc_status dsc_request_test(dsc_request *request, bool *done);

/* ---- Blocking, outside steps. They poll with short naps and watch for failures raised elsewhere; then they return
 * what dsc_comm_failure says. */
dsc_status dsc_request_wait(dsc_comm *comm, dsc_request *request);
dsc_status dsc_comm_barrier(dsc_comm *comm);
dsc_status dsc_comm_broadcast(dsc_comm *comm, void *buffer, int64_t bytes, int root);
dsc_status dsc_comm_sum(dsc_comm *comm, double *values, int count);
dsc_status dsc_comm_max(dsc_comm *comm, int64_t *values, int count);
/* Rank 0 receives everybody's bytes one behind another in *out (heap, caller frees) with counts[size]; elsewhere *out
 * is NULL. counts may be NULL except on rank 0. Nothing of the caller's is in use when it returns, failed or not; of
 * the others a failed one may still read its buffer (a broadcast's, and a sum's or maximum's of more than 16 KiB). */
dsc_status dsc_comm_gather(dsc_comm *comm, const void *bytes, int64_t count, void **out, int64_t *counts);

/* Everybody brings a status; all return the same: DSC_OK, or the failure of the lowest rank that has one, with its
 * message on every rank (prefixed "rank 3: " when with_rank). Collective over the job. */
dsc_status dsc_comm_agree(dsc_comm *comm, dsc_status status, bool with_rank);

/* In mid-step, where others may wait for this rank in a collective that will never come: tells every rank that this one
 * failed with the thread's message. First cause wins; the others learn it by dsc_comm_failure. Never blocks. */
void dsc_comm_raise(dsc_comm *comm, dsc_status status);

/* DSC_OK, or the failure raised by some rank (this one included), its message then being this thread's: "rank 2: ...".
 * Cheap enough for a polling loop. All ranks get the same status and message (the first that rank 0 sees). */
dsc_status dsc_comm_failure(dsc_comm *comm);

/* Payload that this rank sent since the start, by the rules of doc/comm.md. */
int64_t dsc_comm_wire_bytes(const dsc_comm *comm);

/* Sleeps a moment in a polling loop: round 0 yields, later rounds nap 20 us and more, longer when ranks outnumber
 * cores. */
void dsc_comm_nap(const dsc_comm *comm, int round);

/* Nanoseconds of this rank's clock (CLOCK_MONOTONIC), and the offset to add to reach rank 0's, measured by ping-pong
 * (the least round trip wins; 0 between ranks of one host), with its uncertainty. Collective. */
int64_t dsc_clock_ns(void);
dsc_status dsc_clock_align(dsc_comm *comm, int64_t *offset_ns, int64_t *uncertainty_ns);

#endif
