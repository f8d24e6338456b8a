/* Machines and programs by hand, for tests of the simulator: each number in them is known. */
#ifndef TESTS_SIM_SCENE_H
#define TESTS_SIM_SCENE_H

#include "sim/sim.h"

enum { SCENE_LATENCY_NS = 2000, SCENE_NIC_LATENCY_NS = 5000, SCENE_COPY_LATENCY_NS = 3000 };

/* `nodes` nodes of `each` GPUs: a switch of 100 GB/s a port, a NIC of 10 GB/s for each GPU, a network that adds
 * nothing; 10 GB/s between a device and its host, whose memory has 100 GB/s. */
dsc_cluster *scene_gpus(int64_t nodes, int64_t each);
/* One node of CPU ranks that share its cores. */
dsc_cluster *scene_cpus(int64_t ranks, int64_t cores);

/* The plan of a small GPT with these degrees; NULL after a failed check. */
dsc_plan *scene_plan(const dsc_cluster *cluster, int64_t dp, int64_t global_batch, int recompute, int precision);

/* The same of any strategy: 8 layers, 4 heads; dp 0: what the cluster has devices for. */
dsc_plan *scene_plan_of(const dsc_cluster *cluster, const dsc_strategy *strategy);

/* A program of one template in one segment, built op by op. A kernel is adam's update of `elems` elements. */
dsc_program *scene_program(const dsc_plan *plan);
int32_t scene_kernel(dsc_program *program, int64_t elems);
int32_t scene_all_reduce(dsc_program *program, int64_t bytes);
int32_t scene_collective(dsc_program *program, dsc_op_kind kind, dsc_axis axis, int64_t bytes);
/* What the host computes: scene_kernel's in host memory. */
int32_t scene_host_kernel(dsc_program *program, int64_t elems);
/* DSC_OP_COPY_IN or DSC_OP_COPY_OUT. */
int32_t scene_copy(dsc_program *program, dsc_op_kind kind, int64_t bytes);
/* A send to, or a receive from, the stage `peer`. */
int32_t scene_message(dsc_program *program, dsc_op_kind kind, int64_t peer, int32_t channel, int64_t bytes);
/* The op waits for an earlier or later one. */
void scene_wait(dsc_program *program, int32_t op, int32_t on);

/* Simulates; timing, wire_bytes and trace may be NULL. `program` is that of all ranks. */
dsc_status scene_simulate(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *program,
                          dsc_trace_ranks ranks, dsc_timing *timing, int64_t *wire_bytes, dsc_trace *trace);
/* The same with a program for each stage. */
dsc_status scene_simulate_stages(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *const *by_stage,
                                 dsc_trace_ranks ranks, dsc_timing *timing, int64_t *wire_bytes, dsc_trace *trace);

#endif
