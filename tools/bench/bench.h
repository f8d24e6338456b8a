/* The parts of dsc-bench: which shapes, how they are timed, and how what came out is shown. */
#ifndef TOOLS_BENCH_BENCH_H
#define TOOLS_BENCH_BENCH_H

#include "base/text.h"
#include "comm/comm.h"
#include "trace/calibration.h"

enum { BENCH_SHARDS = 2 }; /* tensor ranks that vocabulary and positions are cut over, where they are */

enum { BENCH_WORKERS = 8 }; /* replicas that exchange signs, where a lattice does not say */

/* What is measured, and for how long. */
typedef struct bench_request {
    bool kernels[DSC_KERNEL_COUNT], copies, collectives;
    int64_t cores;      /* of a node; its ranks share them */
    struct dsc_device *device; /* that kernels run on */
    bool quick;         /* fewer repetitions, one round */
    bool shows_progress; /* a line of stderr that is written over, or, with every_line, lines */
    bool every_line;
} bench_request;

/* Shows how far a part of the measurement has come, on the rank that speaks. */
void bench_progress(const bench_request *request, const char *what, int64_t done, int64_t of);

/* Of the operands of one call together, on a CPU and on a GPU: pools hold a little more. */
enum { BENCH_BYTES = 72 << 20, BENCH_GPU_BYTES = 1000 << 20 };

/* The shapes that span what training calls, of the kernels asked for, quick ones first; on a GPU, whose micro-batches
 * are larger, those with 16 times as many tokens too. Caller frees *out. */
dsc_status bench_grid(const bench_request *request, dsc_shape **out, int64_t *count);

/* Blocks of the window that a sparse shape of the grid has: each row those up to the diagonal. Pure. */
int64_t bench_window(const dsc_shape *shape);

/* Whether a kernel's second operand lists units; fills it with such of one size, one behind another, in as many lists
 * as the shape has. */
bool bench_has_units(int kernel);
void bench_fill_units(const dsc_shape *shape, void *operand);

/* Times every shape with all ranks of a node at it, and adds samples with so many ranks. Collective over the job. */
dsc_status bench_kernels(dsc_comm *comm, const bench_request *request, dsc_calibration *out);

/* Adds copies between spaces, by one rank while the others wait. Collective. */
dsc_status bench_copies(dsc_comm *comm, const bench_request *request, dsc_calibration *out);

/* Adds collectives among 2, 4, ... and all ranks, and messages between two, all such groups at once. Collective. */
dsc_status bench_collectives(dsc_comm *comm, const bench_request *request, dsc_calibration *out);

/* The lower quartile of times[0 .. count), which get sorted: nearer than the median to what the machine does when
 * nobody else wants its cores for a moment. */
int64_t bench_quartile(int64_t *times, int64_t count);
int64_t bench_median(int64_t *times, int64_t count);

/* Resident bytes of this process. */
int64_t bench_resident_bytes(void);

/* What an op costs beside its kernels: readings of the clock and waking the lane that waits. */
int64_t bench_op_overhead_ns(void);

/* Adds a line for each kind of gradients: Adam on so many parameters beside a loop over the same streams. */
dsc_status bench_update(int64_t elems, int64_t threads, bool json, dsc_text *out);

/* Adds a line for each kernel of 1-bit Adam's step and size of units: on so many elements, beside a copy of as many
 * bytes. DSC_EINVAL unless the sizes divide the elements. */
dsc_status bench_compression(int64_t elems, int64_t threads, bool json, dsc_text *out);

/* Adds a line for each type, causal or not, and size of blocks: attention over such blocks beside dense attention.
 * DSC_EINVAL unless blocks divide the tokens. */
typedef struct bench_blocks {
    double density; /* of random blocks beside the diagonal, or, */
    int64_t window; /* where this is > 0, those within so many tokens around it */
} bench_blocks;
dsc_status bench_attention(int64_t tokens, const bench_blocks *which, int64_t threads, bool json, dsc_text *out);

/* Runs this program once more, on several ranks by the machine's launcher, as a worker that measures and writes a file,
 * and adds what it measured. DSC_ENOTSUP when there is no launcher; never call it where MPI is up. */
dsc_status bench_launch(int ranks, const bench_request *request, dsc_calibration *out);

/* For people, and for machines. */
dsc_status bench_print(const dsc_calibration *calibration, dsc_text *out);
dsc_status bench_print_json(const dsc_calibration *calibration, dsc_text *out);

#endif
