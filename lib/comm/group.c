#include "comm/internal.h"
#include <stdlib.h>
#include <string.h>

enum { READY_TRANSFERS = 8 }; /* made with a group, so that a step allocates none; untouched, they occupy no memory */

/* One that memory does not suffice for now is asked for again by the request that needs it, whose failure can be
 * raised; here the others would wait for this rank in the next group that they create. */
static void prepare_transfers(dsc_group *group)
{
    for (int i = 0; i < READY_TRANSFERS; i++) {
        dsc_transfer *transfer = malloc(sizeof *transfer);

        if (transfer == NULL) return;
        transfer->group = group;
        dsc_transfer_give_back(transfer);
    }
}

static dsc_status make_communicator(const int *ranks, int count, MPI_Comm *out)
{
    dsc_status status = DSC_OK;
    MPI_Group job = MPI_GROUP_NULL, members = MPI_GROUP_NULL;

    DSC_TRY(dsc_mpi_check(MPI_Comm_group(MPI_COMM_WORLD, &job), "group"));
    DSC_TRY(dsc_mpi_check(MPI_Group_incl(job, count, ranks, &members), "group"));
    DSC_TRY(dsc_mpi_check(MPI_Comm_create_group(MPI_COMM_WORLD, members, 0, out), "group"));
    DSC_TRY(dsc_mpi_check(MPI_Comm_set_errhandler(*out, MPI_ERRORS_RETURN), "group"));
out:
    if (members != MPI_GROUP_NULL) MPI_Group_free(&members);
    if (job != MPI_GROUP_NULL) MPI_Group_free(&job);
    return status;
}

/* This rank's place in ranks, or -1 unless they ascend within the job and hold it. */
static int find_self(const dsc_comm *comm, const int *ranks, int count)
{
    int self = -1;

    for (int i = 0; i < count; i++) {
        if (ranks[i] < 0 || ranks[i] >= comm->size || (i > 0 && ranks[i] <= ranks[i - 1])) return -1;
        if (ranks[i] == comm->rank) self = i;
    }
    return self;
}

/* The communicator comes first: the other members wait for this rank there, with or without the memory for the rest.
 * Where that is missing it is left alone, since to free it is the work of all. */
dsc_status dsc_group_create(dsc_comm *comm, const int *ranks, int count, dsc_group **out)
{
    dsc_status status = DSC_OK;
    MPI_Comm mpi = MPI_COMM_NULL;
    int self = find_self(comm, ranks, count);
    dsc_group *group = NULL;

    if (self < 0)
        return DSC_FAIL(DSC_EINTERNAL, "a group of %d that rank %d of %d is to create: ranks do not ascend, or it is "
                        "not among them", count, comm->rank, comm->size);
    if (count > 1) DSC_TRY(make_communicator(ranks, count, &mpi));
    group = calloc(1, sizeof *group);
    if (group == NULL) return DSC_FAIL(DSC_ENOMEM, "group: no memory for %zu bytes", sizeof *group);
    *group = (dsc_group){.comm = comm, .mpi = MPI_COMM_NULL, .rank = self, .size = count};
    group->ranks = malloc((size_t)count * sizeof *ranks);
    if (group->ranks == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "group: no memory for %d ranks", count));
    memcpy(group->ranks, ranks, (size_t)count * sizeof *ranks);
    if (count > 1) prepare_transfers(group);
    group->mpi = mpi;
    *out = group;
    group = NULL;
out:
    dsc_group_destroy(group);
    return status;
}

void dsc_group_destroy(dsc_group *group)
{
    if (group == NULL) return;
    while (group->free != NULL) {
        dsc_transfer *next = group->free->next_free;

        free(group->free);
        group->free = next;
    }
    if (group->mpi != MPI_COMM_NULL) MPI_Comm_free(&group->mpi);
    free(group->ranks);
    free(group);
}

int dsc_group_size(const dsc_group *group) { return group->size; }
int dsc_group_rank(const dsc_group *group) { return group->rank; }
