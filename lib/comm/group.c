#include "comm/internal.h"
#include <stdlib.h>
#include <string.h>

enum { READY_TRANSFERS = 8 }; /* made with a group, so that a step allocates none; untouched, they occupy no memory */

static dsc_status prepare_transfers(dsc_group *group)
{
    for (int i = 0; i < READY_TRANSFERS; i++) {
        dsc_transfer *transfer = malloc(sizeof *transfer);

        if (transfer == NULL) return DSC_FAIL(DSC_ENOMEM, "group: no memory for %zu bytes", sizeof *transfer);
        transfer->group = group;
        dsc_transfer_give_back(transfer);
    }
    return DSC_OK;
}

static dsc_status make_communicator(dsc_group *group)
{
    dsc_status status = DSC_OK;
    MPI_Group job = MPI_GROUP_NULL, members = MPI_GROUP_NULL;

    DSC_TRY(dsc_mpi_check(MPI_Comm_group(MPI_COMM_WORLD, &job), "group"));
    DSC_TRY(dsc_mpi_check(MPI_Group_incl(job, group->size, group->ranks, &members), "group"));
    DSC_TRY(dsc_mpi_check(MPI_Comm_create_group(MPI_COMM_WORLD, members, 0, &group->mpi), "group"));
    DSC_TRY(dsc_mpi_check(MPI_Comm_set_errhandler(group->mpi, MPI_ERRORS_RETURN), "group"));
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

dsc_status dsc_group_create(dsc_comm *comm, const int *ranks, int count, dsc_group **out)
{
    dsc_status status = DSC_OK;
    dsc_group *group = calloc(1, sizeof *group);

    if (group == NULL) return DSC_FAIL(DSC_ENOMEM, "group: no memory for %zu bytes", sizeof *group);
    *group = (dsc_group){.comm = comm, .mpi = MPI_COMM_NULL, .rank = find_self(comm, ranks, count), .size = count};
    if (group->rank < 0) {
        status = DSC_FAIL(DSC_EINTERNAL, "a group of %d that rank %d of %d is to create: ranks do not ascend, or it is "
                          "not among them", count, comm->rank, comm->size);
        goto out;
    }
    group->ranks = malloc((size_t)count * sizeof *ranks);
    if (group->ranks == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "group: no memory for %d ranks", count);
        goto out;
    }
    memcpy(group->ranks, ranks, (size_t)count * sizeof *ranks);
    if (count > 1) {
        DSC_TRY(prepare_transfers(group));
        DSC_TRY(make_communicator(group));
    }
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
