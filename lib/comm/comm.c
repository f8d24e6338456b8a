#include "comm/internal.h"
#include "base/hash.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

dsc_status dsc_mpi_check(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;

    if (code == MPI_SUCCESS) return DSC_OK;
    MPI_Error_string(code, text, &length);
    return DSC_FAIL(DSC_ECOMM, "%s: %.*s", what, length, text);
}

/* Where a rank runs. Ranks of one machine have the booted kernel in common, those of one host its network too: a
 * container, or a network namespace with addresses of its own, is a host of its own that shares a machine's cores. */
typedef struct identity { dsc_hash machine, host; } identity;

static identity identify(void)
{
    char text[512] = "";
    struct stat network = {0};
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    identity own;

    if (file >= 0) {
        if (read(file, text, 64) < 0) text[0] = '\0';
        close(file);
    }
    if (text[0] == '\0') gethostname(text, 64);
    own.machine = dsc_hash_of(text, sizeof text);
    gethostname(text + 64, sizeof text - 128);
    stat("/proc/self/ns/net", &network);
    memcpy(text + sizeof text - 64, &network.st_ino, sizeof network.st_ino);
    own.host = dsc_hash_of(text, sizeof text);
    return own;
}

/* Numbers the hosts in the order of their lowest ranks. first[i] is the lowest rank of node i. */
static void number_nodes(dsc_comm *comm, const identity *all, int *first)
{
    for (int rank = 0; rank < comm->size; rank++) {
        int node = 0;

        while (node < comm->nodes && strcmp(all[first[node]].host.hex, all[rank].host.hex) != 0) node++;
        if (node == comm->nodes) first[comm->nodes++] = rank;
        comm->node_of[rank] = node;
    }
    for (int rank = 0; rank < comm->size; rank++) {
        bool is_here = strcmp(all[rank].machine.hex, all[comm->rank].machine.hex) == 0;

        comm->machine_size += is_here;
        comm->machine_rank += is_here && rank < comm->rank;
        if (comm->node_of[rank] != comm->node_of[comm->rank]) continue;
        if (rank < comm->rank) comm->node_rank++;
        comm->node_size++;
    }
}

static dsc_status find_nodes(dsc_comm *comm)
{
    dsc_status status = DSC_OK;
    identity own = identify(), *all = calloc((size_t)comm->size, sizeof *all);
    int *first = malloc((size_t)comm->size * sizeof *first);
    dsc_request request = {0};

    comm->node_of = malloc((size_t)comm->size * sizeof *comm->node_of);
    if (all == NULL || first == NULL || comm->node_of == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %d ranks", comm->size);
        goto out;
    }
    DSC_TRY(dsc_all_gather_start(comm->world, &own, all, sizeof own, &request));
    DSC_TRY(dsc_request_wait(comm, &request));
    number_nodes(comm, all, first);
out:
    free(first);
    if (!request.active) free(all); /* else MPI may still read it */
    return status;
}

static dsc_status create_world(dsc_comm *comm)
{
    dsc_status status;
    int *ranks = malloc((size_t)comm->size * sizeof *ranks);

    if (ranks == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %d ranks", comm->size);
    for (int rank = 0; rank < comm->size; rank++) ranks[rank] = rank;
    status = dsc_group_create(comm, ranks, comm->size, &comm->world);
    free(ranks);
    return status;
}

/* UCX answers a peer that is gone with a backtrace of each rank. That a rank has died is dsc's to say, in one line from
 * one rank. UCX reads its environment when it is loaded, before main, and warns of variables that are set later: so it
 * is told by its own function, where MPI brought it along. What the user asks of it by UCX_HANDLE_ERRORS and
 * UCX_LOG_LEVEL stands. */
static void silence_transport(void)
{
    int (*set)(const char *name, const char *value);

    *(void **)&set = dlsym(RTLD_DEFAULT, "ucs_global_opts_set_value"); /* the cast that POSIX gives for functions */
    if (set == NULL) return;
    if (getenv("UCX_HANDLE_ERRORS") == NULL) set("HANDLE_ERRORS", "none");
    if (getenv("UCX_LOG_LEVEL") == NULL) set("LOG_LEVEL", "fatal");
}

static dsc_status start_mpi(int *argc, char ***argv)
{
    dsc_status status = DSC_OK;
    int level = MPI_THREAD_SINGLE;

    silence_transport();
    DSC_TRY(dsc_mpi_check(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread"));
    if (level < MPI_THREAD_SERIALIZED)
        return DSC_FAIL(DSC_ENOTSUP, "MPI gives thread level %d, and %d (serialized) is needed", level,
                        MPI_THREAD_SERIALIZED);
    DSC_TRY(dsc_mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
out:
    return status;
}

dsc_status dsc_comm_create(int *argc, char ***argv, dsc_comm **out)
{
    dsc_status status = DSC_OK;
    dsc_comm *comm = calloc(1, sizeof *comm);

    if (comm == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %zu bytes", sizeof *comm);
    DSC_TRY(start_mpi(argc, argv));
    MPI_Comm_rank(MPI_COMM_WORLD, &comm->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &comm->size);
    comm->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    DSC_TRY(dsc_failure_open(comm));
    DSC_TRY(create_world(comm));
    DSC_TRY(find_nodes(comm));
    comm->wire_bytes = 0;
    *out = comm;
    comm = NULL;
out:
    dsc_comm_free(comm);
    return status;
}

void dsc_comm_free(dsc_comm *comm)
{
    if (comm == NULL) return;
    dsc_group_destroy(comm->world);
    free(comm->failure.verdict_requests);
    free(comm->node_of);
    free(comm);
}

int dsc_comm_rank(const dsc_comm *comm) { return comm->rank; }
int dsc_comm_size(const dsc_comm *comm) { return comm->size; }
int dsc_comm_nodes(const dsc_comm *comm) { return comm->nodes; }
int dsc_comm_node_of(const dsc_comm *comm, int rank) { return comm->node_of[rank]; }
int dsc_comm_node_size(const dsc_comm *comm) { return comm->node_size; }
int dsc_comm_node_rank(const dsc_comm *comm) { return comm->node_rank; }
int dsc_comm_machine_size(const dsc_comm *comm) { return comm->machine_size; }
int dsc_comm_machine_rank(const dsc_comm *comm) { return comm->machine_rank; }
int64_t dsc_comm_wire_bytes(const dsc_comm *comm) { return comm->wire_bytes; }
