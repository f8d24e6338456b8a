/* Building a program: the builders of passes emit ops and kernel calls in the order in which one thread would do them;
 * then layout gives buffers offsets and depend finds what has to wait for what. Internal to lib/program. */
#ifndef DSC_PROGRAM_BUILD_H
#define DSC_PROGRAM_BUILD_H

#include "program/program.h"

/* Activations of a layer that its backward needs, or, where they are recomputed, the transients that stand in. */
typedef struct dsc_layer_buffers {
    int32_t x, norm1, stats1, qkv, context, lse; /* attention: input, norm, q k v, mixed values; lse or probabilities */
    int32_t mid, norm2, stats2, fc, act;         /* MLP: input, norm, before and after the activation */
} dsc_layer_buffers;

/* A bucket of gradients: shards of the stage from `first` on, a contiguous piece of the flat buffers. */
typedef struct dsc_bucket { int64_t first, first_elem, elems; } dsc_bucket;

typedef struct dsc_builder {
    dsc_program *program;
    const dsc_plan *plan;
    const dsc_stage *stage;
    int32_t chunk;
    int64_t batch, seq, rows, hidden; /* of a micro-batch: rows = batch * seq */
    dsc_dtype type, gradient_type;
    dsc_template *template_;          /* under construction; moves when templates are added */
    int32_t template_index;
    dsc_layer_buffers *slots;         /* [layers + 1] slot buffers of the chunk; -1 where recomputed. x of the last is the
                                         head's input */
    const dsc_shard **shards;         /* [1 + layers][role]: first those outside the layers; NULL where there is none */
    int32_t tokens;                   /* in the slot */
    int32_t normf, statsf, logits;    /* of the pass under construction */
    dsc_bucket *buckets; int64_t bucket_count;
    int64_t next_bucket;              /* reduced by the backward under construction */
    dsc_status status;                /* the first failure; later calls do nothing */
} dsc_builder;

/* ---- Emitting (emit.c) */

int32_t dsc_build_buffer(dsc_builder *b, const char *name, dsc_life life, dsc_class class_, int64_t layer,
                         int64_t bytes);
void dsc_build_template(dsc_builder *b, const char *name);
void dsc_build_op(dsc_builder *b, dsc_op_kind kind, int64_t layer);
void dsc_build_call(dsc_builder *b, const dsc_shape *shape, const dsc_span operands[DSC_KERNEL_OPERANDS]);
void dsc_build_end(dsc_builder *b);  /* of the op: its workspace is made */
void dsc_build_collective(dsc_builder *b, dsc_op_kind kind, dsc_axis axis, dsc_span data, dsc_dtype type);

extern const dsc_span DSC_NO_SPAN;
dsc_span dsc_span_whole(const dsc_builder *b, int32_t buffer);
/* Of the flat buffer `buffer` (elements of `type`): the whole shard of a tensor, or elements first .. first + elems. */
dsc_span dsc_span_of(const dsc_builder *b, int32_t buffer, dsc_dtype type, int64_t layer, dsc_role role);
dsc_span dsc_span_elems(int32_t buffer, dsc_dtype type, int64_t first, int64_t elems);
dsc_span dsc_span_scalar(const dsc_builder *b, int first, int count);
/* The stage's shard of a tensor; NULL when it holds none. */
const dsc_shard *dsc_build_shard(const dsc_builder *b, int64_t layer, dsc_role role);

/* ---- Passes (passes.c) and the step around them (step.c) */

/* Buffers that the passes of a chunk share: b->slots and friends. */
void dsc_build_slots(dsc_builder *b);
/* Up to the last layer's output. */
void dsc_build_forward(dsc_builder *b);
/* The head alone, forward, for evaluation. is_first: the loss is written, not added to. */
void dsc_build_loss(dsc_builder *b, bool is_first);
/* The head forward and all of the backward: so logits need no place in the slot, and the layers' transients take
 * theirs. is_first: loss and gradients are written, not added to; is_last: gradients are complete, and reduced where
 * there are replicas. */
void dsc_build_backward(dsc_builder *b, bool is_first, bool is_last);
void dsc_build_norm(dsc_builder *b);
void dsc_build_agree(dsc_builder *b);
void dsc_build_update(dsc_builder *b);
dsc_status dsc_build_buckets(dsc_builder *b);
/* Emits the reductions of buckets whose shards from `complete` on have their gradients. */
void dsc_build_reduce(dsc_builder *b, int64_t complete);

/* ---- After emission */

dsc_status dsc_program_layout(dsc_program *program);  /* layout.c */
dsc_status dsc_program_depend(dsc_program *program);  /* depend.c */
void dsc_program_hash(dsc_program *program);          /* hash.c */

/* The check of one rank (check_rank.c); what is between ranks is in check.c. */
dsc_status dsc_check_rank(const dsc_plan *plan, const dsc_program *program, int64_t rank);

/* ---- Addresses as atoms (atoms.c): the pieces into which all spans cut each region, so that hazards are found by
 * address and not by name. */
typedef struct dsc_atoms {
    int64_t *bounds[DSC_SPACE_COUNT][3];   /* by space and life: sorted starts, relative to the region */
    int64_t counts[DSC_SPACE_COUNT][3];
    int64_t first[DSC_SPACE_COUNT][3];     /* number of the region's first atom; slots follow one another */
    int64_t count;                         /* of all atoms */
} dsc_atoms;
dsc_status dsc_atoms_create(const dsc_program *program, dsc_atoms *out);
void dsc_atoms_fini(dsc_atoms *atoms);
/* Index of the first bound that is not below value; count when there is none. */
int64_t dsc_atoms_at(const int64_t *bounds, int64_t count, int64_t value);
/* Atoms [*first, *first + *count) of a span for that slot. */
void dsc_atoms_of(const dsc_atoms *atoms, const dsc_program *program, dsc_span span, int slot, int64_t *first,
                  int64_t *count);

#endif
