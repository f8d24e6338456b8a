/* Whose software a prediction is of: what it fuses, what its launches cost, and what of a link's rate its collectives
 * carry. The program says what is done and in which order; a stack says how well. One row for each kind of software,
 * which `auto` chooses by what a plan says of itself: GPU, precision, ZeRO stage, attention, layout. */
#ifndef DSC_SIM_STACK_H
#define DSC_SIM_STACK_H

#include "cluster/cluster.h"
#include "config/config.h"

/* A kernel that this software makes of several, or without what ours has fused into another. traffic: bytes moved, over
 * those of the kernel's operands each moved once; launches: kernels, one after the other, so that arithmetic and
 * traffic do not overlap where they are several; each: bytes besides, for each of what dsc_stack_elems counts; above:
 * only where sequences are longer, instead of the row before it. */
typedef struct dsc_handling { int kernel; double traffic; int launches; double each; int64_t above; } dsc_handling;

enum { DSC_HANDLINGS = 20 };

typedef struct dsc_stack {
    const char *name, *what;       /* label; a line for people */
    int64_t host_ns;               /* of the host for a launch, with what the framework does for it */
    int64_t message_ns;            /* of the host for a message between stages, before it launches the pass */
    /* Bytes an element of a product's output, 16-bit, that go by what others fuse with it: */
    double residual;               /* bias and residual are added, dropout taken */
    double accumulation;           /* a gradient is added to those of earlier micro-batches */
    double spread;                 /* standard deviation of GPUs' speeds: the slowest of all sets the pace */
    double beside;                 /* share of multiprocessors that collectives beside the passes take */
    double hidden;                 /* share of tensor ranks' collectives that moves beside the product it belongs to,
                                      piece by piece */
    int64_t bucket, bucket_each;   /* gradients in a message, at least, and for each replica; 0: as the plan has it */
    int64_t ahead;                 /* buckets of weights that are gathered ahead; 0: as the plan has it */
    bool selects_layers;           /* selective recomputation is all of every second layer, not attention's core */
    bool reduces_late;             /* gradients are summed over replicas when the backward passes are over, at once */
    bool has_fp16_gradients, has_bf16_gradients; /* passes in that type (fp8: in bf16) add them up in it */
    bool recomputes_outputs, scatters_messages, widens_gradients, widens_logits, keeps_outputs; /* as dsc_strategy's */
    bool keeps_gathered;           /* under a pipeline ZeRO 3 gathers weights once a step, and keeps them over it */
    bool late_gather;              /* as dsc_strategy's, where there is something to gather late */
    bool cuts_by_stages;           /* a replica's batch is as many micro-batches as stages where nobody says */
    bool interleaves;              /* stages have a chunk for each layer where nobody says how many */
    int checkpoints;               /* dsc_checkpoints under ZeRO 3 with full recomputation; 0: whole */
    double link, network;          /* share of a rate that collectives carry: inside a node, and of NICs and tiers */
    dsc_handling handlings[DSC_HANDLINGS]; /* those that differ; ends with launches 0 */
} dsc_stack;

/* The row of that name, "auto" for that of such a strategy on such GPUs; NULL when there is none. Static. */
const dsc_stack *dsc_stack_find(const char *name, const dsc_strategy *strategy, const dsc_cluster *cluster);

/* Has the program of a model of so many layers on so many devices do as the software does, where the strategy leaves it
 * open. */
void dsc_stack_apply(const dsc_stack *stack, int64_t layers, int64_t devices, dsc_strategy *strategy);

/* All rows, and how many. */
const dsc_stack *dsc_stacks(int64_t *count);

/* How it handles a kernel of that shape; {kernel, 1, 1} where as we do. Pure. */
dsc_handling dsc_stack_handling(const dsc_stack *stack, const dsc_shape *shape);

/* What a kernel works on and its operands' bytes do not tell: scores of present blocks of sparse attention, elements
 * that are compressed; 0 of others. Pure. */
double dsc_stack_elems(const dsc_shape *shape);

#endif
