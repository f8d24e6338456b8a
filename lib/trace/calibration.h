/* What was measured on a machine: the source of prices that comes before presets and first principles. Rows only; how a
 * shape that was not measured is priced is the simulator's affair (sim/price). */
#ifndef DSC_TRACE_CALIBRATION_H
#define DSC_TRACE_CALIBRATION_H

#include "kernel/kernel.h"
#include "base/array.h"

/* A kernel's time by shape, while `ranks` ranks of the machine do the same at once, each with its share of cores. */
typedef struct dsc_kernel_sample {
    dsc_shape shape;
    int32_t ranks;
    int64_t time_ns;
} dsc_kernel_sample;

typedef struct dsc_copy_sample { char from[16], to[16]; int64_t bytes, time_ns; } dsc_copy_sample;

/* kind: "all_reduce", "all_gather", "reduce_scatter", "broadcast", "send" (half the time of there and back); bytes as
 * in wire_bytes' n. at_work: ranks of each node that were in such groups at once. */
typedef struct dsc_collective_sample {
    char kind[24];
    int32_t ranks, nodes, at_work;
    int64_t bytes, time_ns;
} dsc_collective_sample;

typedef struct dsc_calibration {
    char *machine;            /* JSON text: the cluster that was measured */
    char created[32], dsc_version[32];
    int64_t libraries_bytes;  /* resident memory of a rank before any arena is touched; 0: not measured */
    int64_t op_overhead_ns;   /* what an executor spends on an op beside its kernels */
    dsc_kernel_sample *kernels; int64_t kernel_count, kernel_capacity;
    dsc_copy_sample *copies; int64_t copy_count, copy_capacity;
    dsc_collective_sample *collectives; int64_t collective_count, collective_capacity;
} dsc_calibration;

void dsc_calibration_init(dsc_calibration *out);
void dsc_calibration_fini(dsc_calibration *calibration);
/* Adds what another file measured on that kind of machine, say, transfers between nodes to one node's kernels. What is
 * not a row stays into's, unless that has none. DSC_ENOMEM. */
dsc_status dsc_calibration_add(dsc_calibration *into, const dsc_calibration *from);

#endif
