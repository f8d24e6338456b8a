/* Building a program: the builders of passes emit ops and kernel calls in the order in which one thread would do them;
 * then layout gives buffers offsets and depend finds what has to wait for what. Internal to lib/program. */
#ifndef DSC_PROGRAM_BUILD_H
#define DSC_PROGRAM_BUILD_H

#include "program/program.h"
#include "program/schedule.h"

/* Activations of a layer that its backward needs, or, where they are recomputed, the transients that stand in. Under
 * sequence parallelism norms, x and mid are of the rank's rows; whole1 and whole2 are the norms of all rows, gathered,
 * else the norms themselves (-1: not yet in this pass). */
typedef struct dsc_layer_buffers {
    int32_t x, norm1, stats1, qkv, context, lse; /* attention: input, norm, q k v, mixed values; lse or probabilities */
    int32_t mid, norm2, stats2, fc, gate, act;   /* MLP: input, norm, before (of gated ones two) and after activation */
    int32_t whole1, whole2;
    int32_t keys;                                /* k and v of all context ranks; -1: not yet in this pass */
} dsc_layer_buffers;

/* Gradients that wait for a backward pass of the weights: of the layer's output, of its fc, gate, mid and qkv. */
typedef struct dsc_layer_deferred { int32_t dy, dfc, dgate, dmid, dqkv; } dsc_layer_deferred;

/* A bucket in the template under construction: shards whose gradients are not complete yet; the buffer that all its
 * weights have been fetched to; transient buffers of all its gradients, of the packets that came last, of the norms of
 * its tensors and of its sums in fp32 (-1: none yet). */
typedef struct dsc_bucket_state { int64_t missing; int32_t weights, gradients, packets, norms, wide; } dsc_bucket_state;

/* Gradients that have come to where their sum is, but are not yet added to it. bucket -1: there are none. */
typedef struct dsc_arrival { int64_t bucket; dsc_span span; dsc_dtype type; } dsc_arrival;

/* What a backward pass does: gradients of inputs, of weights, or both; whether it is the first to write those that go
 * with the inputs' pass (norms, head, embeddings, the loss) and those that go with the weights' (products); whether
 * gradients are complete after it. */
typedef struct dsc_backward { bool inputs, weights, is_first_x, is_first_w, is_last; } dsc_backward;

typedef struct dsc_builder {
    dsc_program *program;
    const dsc_plan *plan;
    const dsc_stage *stage;
    const dsc_bucket *buckets; int64_t bucket_count; /* the stage's */
    int32_t chunk;
    int64_t batch, seq, rows, hidden; /* of a micro-batch: rows = batch * seq, seq a context rank's tokens */
    int64_t kept_rows;                /* of what sequence parallelism cuts; else rows */
    int64_t tp, cp;
    bool is_cut;                      /* tp > 1 */
    bool is_sequence_cut;
    bool is_scattered;                /* tensor ranks send a part each of what they have alike */
    bool is_saved, is_saved_cut, is_saved_away; /* layers' inputs wait for their recomputation apart from what passes
                                                   read: cut over tensor ranks, in host memory, or both */
    bool is_split;                    /* some backward passes of the schedule are two */
    dsc_dtype type;
    dsc_template *template_;          /* under construction; moves when templates are added */
    int32_t template_index;
    struct dsc_chunk_buffers *chunks; /* of each chunk */
    struct dsc_chunk_buffers *here;   /* of the chunk under construction */
    int32_t normf, whole_normf, statsf, logits; /* of the pass under construction */
    dsc_backward pass;
    dsc_bucket_state *states;         /* [buckets] */
    int direction;                    /* in which the pass goes through buckets: 1, -1; 0: it does not */
    bool gathers_updated;             /* the pass is the first to read weights that an update has left in parts */
    dsc_arrival arrival;
    bool is_local;                    /* the step under construction leaves each replica its own gradients */
    dsc_status status;                /* the first failure; later calls do nothing */
} dsc_builder;

/* A chunk's buffers that several of its passes share, and its shards. */
typedef struct dsc_chunk_buffers {
    const dsc_chunk *chunk;
    dsc_layer_buffers *slots;         /* [layers + 1] in the slot; -1 where recomputed. x of the last is the head's
                                         input, or goes to the next stage; the first's may come in a box */
    int32_t *saved;                   /* [layers] in the slot, of either space: what of x waits for its recomputation,
                                         where x itself is not kept; else -1 */
    int32_t *inputs;                  /* [layers + 1] x in the pass under construction */
    dsc_layer_deferred *deferred;     /* [layers] */
    dsc_layer_buffers *kept;          /* [layers] deferred too: what the weights' pass needs of what was recomputed;
                                         else -1 */
    const dsc_shard **shards;         /* [1 + layers][role]: first those outside the layers; NULL where there is none */
    int32_t tokens;                   /* in the slot; -1 where no embedding and no head is */
    int32_t parts[2][2];              /* boxes: a tensor rank's part of a message, [gradient][sent]; -1 */
    int32_t from_next, to_previous;   /* boxes: gradients of the last and of the first layer's x; -1 */
} dsc_chunk_buffers;

/* ---- Emitting (emit.c) */

/* Buffers: of the device's memory or of either space, of the template or the chunk under construction; static, in
 * either space. Return the buffer's index; -1 after a failure. */
int32_t dsc_build_buffer_in(dsc_builder *b, dsc_space space, const char *name, dsc_life life, dsc_class class_,
                            int64_t layer, int64_t bytes);
int32_t dsc_build_buffer(dsc_builder *b, const char *name, dsc_life life, dsc_class class_, int64_t layer,
                         int64_t bytes);
int32_t dsc_build_static(dsc_builder *b, dsc_space space, const char *name, dsc_class class_, int64_t bytes);
/* Transient, for all of a bucket or a part of it. */
int32_t dsc_build_for_bucket(dsc_builder *b, dsc_space space, const char *name, dsc_class class_, int64_t bucket,
                             int64_t bytes);
/* The same for one part's elements, whole. */
dsc_span dsc_build_part(dsc_builder *b, dsc_space space, const char *name, dsc_class class_, int64_t bucket,
                        dsc_dtype type);
/* Begins a template; adds an op to it, of which the device computes the kernels, or, in host memory, the host; adds a
 * call to the last op, on operands in the kernel table's order. */
void dsc_build_template(dsc_builder *b, const char *name);
void dsc_build_op(dsc_builder *b, dsc_op_kind kind, int64_t layer);
void dsc_build_op_in(dsc_builder *b, dsc_space space, dsc_op_kind kind, int64_t layer);
void dsc_build_call(dsc_builder *b, const dsc_shape *shape, const dsc_span operands[DSC_KERNEL_OPERANDS]);
void dsc_build_end(dsc_builder *b);  /* of the op: its workspace is made */
/* A collective, message or copy (axis -1), with copies around it where the strategy stages communication. Returns the
 * op, for sends and receives to be told their peer. */
dsc_op *dsc_build_transfer(dsc_builder *b, dsc_op_kind kind, int axis, int64_t layer, dsc_span source, dsc_span data,
                           dsc_dtype type);

/* ---- Communication by way of the host's memory (staging.c) */

/* What the op itself reads and makes. */
typedef struct dsc_staging { dsc_span source, data; } dsc_staging;
/* Before the op: what it reads of the device's memory is copied out, if the strategy says so; behind it: what it has
 * made is copied in. */
dsc_staging dsc_build_stage_out(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_span source, dsc_span data,
                                dsc_dtype type);
void dsc_build_stage_in(dsc_builder *b, dsc_op_kind kind, int64_t layer, const dsc_staging *staging, dsc_span data,
                        dsc_dtype type);

extern const dsc_span DSC_NO_SPAN;
/* All of a buffer; absent for -1. */
dsc_span dsc_span_whole(const dsc_builder *b, int32_t buffer);
/* Elements first .. first + elems of a buffer of `type`. */
dsc_span dsc_span_elems(int32_t buffer, dsc_dtype type, int64_t first, int64_t elems);
/* Of what there is of a bucket on its way to momenta, what is this replica's to work on: the part that it compresses,
 * where replicas of a worker cut buckets among them, else all. */
dsc_span dsc_span_own(const dsc_builder *b, dsc_span whole);
/* What is kept of a bucket; and in which space it is updated. */
dsc_span dsc_kept_of(const dsc_builder *b, int64_t index, dsc_kept which);
dsc_space dsc_space_of(const dsc_bucket *bucket);
/* Of the scalars that ranks agree on. */
dsc_span dsc_span_scalar(const dsc_builder *b, int first, int count);
/* The stage's shard of a tensor; NULL when it holds none. */
const dsc_shard *dsc_build_shard(const dsc_builder *b, int64_t layer, dsc_role role);

/* ---- Passes (forward.c, backward.c) and the step around them (step.c). Each makes one template. */

/* Buffers that the passes of the chunk share. */
void dsc_build_slots(dsc_builder *b);
/* Up to the last layer's output; the chunk's first one may find its weights in parts. */
void dsc_build_forward(dsc_builder *b, bool gathers_updated);
/* The head alone, forward, for evaluation. */
void dsc_build_loss(dsc_builder *b);
/* With the inputs: the head forward too, so that logits need no place in the slot. */
void dsc_build_backward(dsc_builder *b, dsc_backward pass);
/* What is left to be summed when all passes are over. */
void dsc_build_rest(dsc_builder *b);
/* The norm of gradients on the device; what is counted, set to zero; what ranks agree on. */
void dsc_build_norm(dsc_builder *b);
void dsc_build_clear(dsc_builder *b);
void dsc_build_agree(dsc_builder *b);
/* Nothing, unless the variance decides when compression begins. */
void dsc_build_variance_norm(dsc_builder *b);

/* ---- Parameters on their way to passes (fetch.c) */

/* Before an op that reads weights first .. last of a layer: what of them is gathered is on its way, and so is what the
 * pass needs next. */
void dsc_build_fetch(dsc_builder *b, int64_t layer, dsc_role first, dsc_role last);
/* Of the chunk, what no op of the pass has read. */
void dsc_build_fetch_rest(dsc_builder *b);
/* Where the shard's weights are in the pass under construction. */
dsc_span dsc_build_weights(dsc_builder *b, const dsc_shard *shard);

/* ---- Gradients on their way to the update (reduce.c) */

/* Where passes write the shard's gradients, and in which type. */
dsc_span dsc_build_gradients(dsc_builder *b, const dsc_shard *shard);
dsc_dtype dsc_build_gradient_type(const dsc_builder *b, const dsc_shard *shard);
/* The gradient of a tensor is complete: when it is the last of its bucket, what becomes of the bucket is emitted. */
void dsc_build_complete(dsc_builder *b, int64_t layer, dsc_role role);
/* At a pass' end: what has arrived is added. */
void dsc_build_arrived(dsc_builder *b);

/* ---- The update (update.c) */

/* Of a bucket: where its new weights in the training type are made, the optimizer's call, and their way. */
dsc_span dsc_build_new_weights(dsc_builder *b, int64_t index);
void dsc_build_adam(dsc_builder *b, int64_t index, dsc_span weights, int flags);
void dsc_build_spread_bucket(dsc_builder *b, int64_t index, dsc_span weights);
/* The optimizer on all buckets, and the new weights on their way; or the two apart. */
void dsc_build_update(dsc_builder *b);
void dsc_build_update_alone(dsc_builder *b);
void dsc_build_spread_alone(dsc_builder *b);
/* Weights that were set, rounded, and on their way. */
void dsc_build_spread(dsc_builder *b);

/* ---- Compressed steps (onebit.c) */

/* What replicas bring of each bucket, and what becomes of the mean: calls that make the former in x, and calls that
 * update by the latter, which is there then. `weigh` and `gather`, where there are any, come before: calls of an op of
 * their own, which alone sees an x that is not kept, and what tensor ranks have to tell each other of it. */
typedef struct dsc_sharing {
    const char *name;
    dsc_kept x;                 /* DSC_KEPT_COUNT: a buffer that lives as long as the op */
    void (*make)(dsc_builder *b, int64_t index, dsc_span x);
    void (*weigh)(dsc_builder *b, int64_t index, dsc_span x);
    void (*gather)(dsc_builder *b, int64_t index);
    void (*use)(dsc_builder *b, int64_t index, dsc_span weights);
} dsc_sharing;

extern const dsc_sharing DSC_SHARING_MOMENTA;  /* 1-bit Adam's */
extern const dsc_sharing DSC_SHARING_BY_TRUST; /* 1-bit LAMB's (lamb.c) */

/* The static buffers of lists of units. */
void dsc_build_units(dsc_builder *b);
/* The momentum in `to` by this replica's gradients in `from`. */
void dsc_build_momentum(dsc_builder *b, int64_t index, dsc_kept from, dsc_span to, int flags);
/* All buckets over the replicas, the optimizer on them, and the new weights on their way. */
void dsc_build_sharing(dsc_builder *b, const dsc_sharing *sharing);
/* The same without the others: what a replica brings is the mean. */
void dsc_build_alone(dsc_builder *b, const dsc_sharing *sharing, const char *name);
/* 1-bit Adam's and LAMB's compressed step, behind its passes. */
void dsc_build_exchange(dsc_builder *b);

/* ---- LAMB (lamb.c) */

/* The static buffers of lists of tensors. */
void dsc_build_held(dsc_builder *b);
/* The optimizer on all buckets by exact gradients, and the new weights on their way. */
void dsc_build_lamb(dsc_builder *b);

/* ---- Steps of replicas by themselves (zeroone.c) */

/* The segments of the same names. */
void dsc_build_share(dsc_builder *b);
void dsc_build_anchor(dsc_builder *b);
void dsc_build_step(dsc_builder *b);
void dsc_build_sync(dsc_builder *b);
/* A bucket's weights become those that replicas' own steps begin from. */
void dsc_build_anchor_bucket(dsc_builder *b, int64_t index);

/* ---- From passes to uses (uses.c) */

/* Copies of a region: the last that was given back is the next to be taken. */
typedef struct dsc_pool { int32_t *free; int64_t free_count, capacity; int32_t made; } dsc_pool;

/* The templates of a chunk's passes, made when they are first wanted; forwards by whether they gather what the update
 * has left in parts, backwards by what dsc_backward says, as bits. */
typedef struct dsc_chunk_templates { int32_t forwards[2], backwards[64], weights; } dsc_chunk_templates;

/* The schedule's passes as they become uses. */
typedef struct dsc_schedule_uses {
    dsc_pass *passes; int64_t count;
    struct { int64_t first, first_x, first_w, last; } *bounds; /* [chunk] passes: the first, and the first of inputs and
                                                                  of weights; the last of weights */
    dsc_chunk_templates *templates;                     /* [chunk] */
    dsc_pool pools[DSC_LIFE_COUNT];                     /* of slots and deferred */
    int32_t (*leases)[DSC_LIFE_COUNT];                  /* [micro-batch][chunk] copies taken */
    int64_t sends[2];                                   /* forward and backward passes so far: boxes take turns */
} dsc_schedule_uses;

/* The schedule's state over the chunks of the builder's stage; ended by fini, also after a failure. */
dsc_status dsc_uses_init(dsc_builder *b, dsc_schedule_uses *s);
void dsc_uses_fini(dsc_schedule_uses *s);
/* What is built from now on is of that chunk of layers. */
void dsc_enter_chunk(dsc_builder *b, int64_t chunk);
/* Of what belongs to no micro-batch. Templates without ops have no use. */
void dsc_use_once(dsc_builder *b, int segment, int32_t template_);
void dsc_use_passes(dsc_builder *b, dsc_schedule_uses *s, int segment);
/* All uses of a segment once more, in another. */
void dsc_use_again(dsc_builder *b, int segment, int from);
/* Forward only, in the schedule's order, for evaluation. */
void dsc_use_losses(dsc_builder *b, dsc_schedule_uses *s);

/* ---- After emission */

dsc_status dsc_program_layout(dsc_program *program);  /* layout.c */
dsc_status dsc_program_depend(dsc_program *program);  /* depend.c */
void dsc_program_hash(dsc_program *program);          /* hash.c */

/* The check of one rank (check_rank.c); what is between ranks is in check.c. */
dsc_status dsc_check_rank(const dsc_plan *plan, const dsc_program *program, int64_t rank);

/* ---- Addresses as atoms (atoms.c): the pieces into which all spans cut each region, so that hazards are found by
 * address and not by name. Of a span of parts it is all of them, or the first, or the last. */
typedef struct dsc_atoms {
    int64_t *bounds[DSC_SPACE_COUNT][DSC_LIFE_COUNT]; /* sorted starts, relative to the region's copy */
    int64_t counts[DSC_SPACE_COUNT][DSC_LIFE_COUNT];
    int64_t first[DSC_SPACE_COUNT][DSC_LIFE_COUNT];   /* number of the region's first atom; copies follow one another */
    int64_t count;                         /* of all atoms */
    struct { int64_t low, high; } *whole;  /* [buffer] places in bounds of its start and end: most spans are whole */
} dsc_atoms;
/* Cuts buffers where any span begins or ends. DSC_ENOMEM, which leaves *out as it was. fini takes {0}. */
dsc_status dsc_atoms_create(const dsc_program *program, dsc_atoms *out);
void dsc_atoms_fini(dsc_atoms *atoms);
/* Index of the first bound that is not below value; count when there is none. */
int64_t dsc_atoms_at(const int64_t *bounds, int64_t count, int64_t value);
/* Atoms [*first, *first + *count) of a span for that use (NULL: of a static buffer); of parts, of all. */
void dsc_atoms_of(const dsc_atoms *atoms, const dsc_program *program, dsc_span span, const dsc_use *use, int64_t *first,
                  int64_t *count);

#endif
