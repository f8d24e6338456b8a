/* A kernel call with its operands, for tests: every operand and the workspace lie between guards, at addresses that are
 * aligned to their elements only, or all to 64 bytes, and hold what a training step would hand over. */
#ifndef TESTS_KERNELS_CALL_H
#define TESTS_KERNELS_CALL_H

#include "kernel/step.h"
#include "kernels/kernels.h"
#include "tests/tap.h"

typedef struct call {
    dsc_shape shape;
    int64_t tp_index; /* of shards: any rank's, and of embeddings one past those that own anything */
    void *operand[DSC_KERNEL_OPERANDS], *workspace;
    dsc_dtype type[DSC_KERNEL_OPERANDS]; /* of an operand's elements, packets are DSC_UINT8 */
    struct { unsigned char *block; int64_t block_bytes, offset, bytes; } memory[DSC_KERNEL_OPERANDS + 1];
} call;

extern const dsc_step call_step; /* the scalars that all calls use, with tp_index of their own */
enum { CALL_RANKS = 3 };         /* an embedding's tokens are those of so many tensor ranks */

/* In fp32, with up to five dimensions. */
dsc_shape call_shape(dsc_kernel kernel, int32_t flags, int64_t d0, int64_t d1, int64_t d2, int64_t d3, int64_t d4);

/* Makes and fills the operands; what backward kernels take from forward ones comes from the reference. */
void call_init(call *c, dsc_shape shape);
void call_copy(const call *from, call *to); /* the same operands at addresses of its own */
void call_fini(call *c);

/* Runs a set's kernel; false, with a failed check, when it fails or writes outside of what it was given. */
bool call_run(call *c, const dsc_kernel_set *set);

/* The sets that this machine can run, without the reference; returns how many. A GPU's works on this memory too. */
enum { CALL_SETS = 5 };
int call_sets(const dsc_kernel_set *out[CALL_SETS]);
const dsc_kernel_set *call_staged(void); /* the GPU's; NULL: the build or the machine has none */

/* The number of an operand's elements, and one of them as a double. */
int64_t call_count(const call *c, int operand);
double call_get(const call *c, int operand, int64_t index);
void call_set(call *c, int operand, int64_t index, double value);

/* Checks that a value of element i is the expected one but for a few roundings. */
void call_near(const call *c, int64_t i, double value, double expected);

/* Of compression: the dimensions packed, N, units; how many packets an operand has, where one is, where its scales are
 * (of type `out`), and the units of a list. */
const int64_t *call_sign_dims(const call *c);
int64_t call_packets(const call *c, int operand); /* 0: it has none */
uint8_t *call_packet(const call *c, int operand, int64_t packet);
void *call_scales(const call *c, int operand, int64_t packet);
const struct dsc_units *call_units(const call *c, int64_t list);

#endif
