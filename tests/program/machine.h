/* A small machine for tests of programs: a plan on made-up devices, the programs of its ranks, and ways to spoil
 * them. */
#ifndef TESTS_PROGRAM_MACHINE_H
#define TESTS_PROGRAM_MACHINE_H

#include "program/program.h"

typedef struct machine {
    dsc_plan *plan;
    dsc_program **programs; /* [ranks], each its own */
} machine;

/* What any layout may have, by chance: schedule, micro-batches that suit it, precision, recomputation, buckets. */
void machine_random(dsc_strategy *s);

/* model as for dsc_model_load; there are tp * pp * dp ranks. Ends the test program when it cannot be made. */
void machine_init(machine *m, const char *model, const dsc_strategy *strategy);
/* Where layers attend in these ways. */
void machine_init_with(machine *m, const char *model, const dsc_strategy *strategy, const dsc_attention *attention);
/* On several nodes, which share the ranks evenly. */
void machine_init_on(machine *m, const char *model, const dsc_strategy *strategy, int64_t nodes);
void machine_fini(machine *m);

/* A cluster of nodes with that many equal devices each. */
dsc_cluster *machine_cluster(int64_t nodes, int64_t devices);

/* Takes an op out of a template and moves everything that counts ops. */
void machine_drop(dsc_program *program, int64_t template_, int32_t index);

/* An op of some rank, by chance. */
void machine_pick(const machine *m, int64_t *rank, int64_t *template_, int32_t *index);
/* Takes the op out on all ranks that have the program, as if a builder had forgotten it; waits are found anew. */
void machine_drop_everywhere(const machine *m, int64_t rank, int64_t template_, int32_t index);
/* Checks that the machine is refused with these words; how: what was spoiled. */
void machine_refuses(const machine *m, const char *how, const char *words);

/* Finds anew what waits for what, so that what is amiss is not that. */
void machine_depend(dsc_program *program);

/* Moves a use of a segment to an earlier place, and finds anew what waits for what. */
void machine_move_up(dsc_program *program, int segment, int64_t from, int64_t to);

/* First op of a kind: false when there is none. */
bool machine_find(const dsc_program *program, dsc_op_kind kind, int64_t *template_, int32_t *index);
/* The next one of a kind on an axis (-1: any), from *template_ and *index on. */
bool machine_find_next(const dsc_program *program, dsc_op_kind kind, int axis, int64_t *template_, int32_t *index);

dsc_status machine_check(const machine *m);

#endif
