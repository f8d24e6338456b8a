/* What each rank does in a step: ops in lanes, with dependencies, over buffers at known offsets. Both interpreters, the
 * executor and the simulator, read this and nothing else; what is not here does not happen.
 *
 * A rank's step is a few straight-line segments. A segment is a list of uses of templates: a template is one chunk's
 * pass (forward, backward, ...), built, checked, priced and given offsets once; a use names the micro-batch and the
 * places of its buffers. An op's number is its use's base plus its index in the template, and counts over all segments.
 * The segments that a step took, joined by `/`, are its path.
 *
 * Memory of a space is one arena, a region for each kind of life: static buffers, then slots (activations of the
 * micro-batches in flight), deferred gradients, boxes (messages), then transient buffers (live within one use). */
#ifndef DSC_PROGRAM_PROGRAM_H
#define DSC_PROGRAM_PROGRAM_H

#include "plan/plan.h"
#include "trace/trace.h"

/* In order within a lane; across lanes by dependencies only. */
#define DSC_LANES(L)                                                          \
    L(COMPUTE, compute, "kernels")                                            \
    L(LOAD, load, "tokens")                                                   \
    L(HOST, host, "what the host computes: sums, norms and updates there")    \
    L(COPY_IN, copy_in, "from the host's memory to the device's")             \
    L(COPY_OUT, copy_out, "from the device's memory to the host's")           \
    L(TP, tp, "tensor- and context-parallel collectives")                                 \
    L(PP_SEND, pp_send, "activations and gradients to neighbouring stages")   \
    L(PP_RECV, pp_recv, "activations and gradients from neighbouring stages") \
    L(DP, dp, "data-parallel collectives")                                    \
    L(TIED, tied, "gradients of the embedding that two stages share")         \
    L(WORLD, world, "the scalars that all ranks agree on")

typedef enum dsc_lane {
#define L(id, name, doc) DSC_LANE_##id,
    DSC_LANES(L)
#undef L
    DSC_LANE_COUNT
} dsc_lane;

/* The op table: id, name, lane (AXIS: that of the axis that it goes over; SPACE: compute, or host where what it works
 * on is in host memory), doc. An op is at most one sublayer of one micro-batch, split where a collective begins. The
 * gradient of the input (_bwd_x) and of the weights (_bwd_w) are always two ops. doc/program.md is made from this
 * table. */
#define DSC_OPS(O)                                                                                                  \
    O(LOAD, load, LOAD, "tokens of a micro-batch, from the source into the slot")                                   \
    O(EMBED_FWD, embed_fwd, COMPUTE, "token and position embedding")                                                \
    O(NORM_FWD, norm_fwd, COMPUTE, "norm of a sequence shard, before it is gathered; forward or again")             \
    O(ATTENTION_FWD, attention_fwd, COMPUTE, "norm, q k v, attention, projection, residual")                        \
    O(MLP_FWD, mlp_fwd, COMPUTE, "norm, product, activation, product, residual")                                    \
    O(JOIN, join, COMPUTE, "bias and residual, after a sum over tensor ranks; forward or again")                    \
    O(HEAD_FWD, head_fwd, COMPUTE, "final norm, logits, cross-entropy and the gradient of the logits")              \
    O(LOSS, loss, COMPUTE, "cross-entropy and the gradient of the logits, from the parts of all tensor ranks")      \
    O(HEAD_BWD_X, head_bwd_x, COMPUTE, "gradient of the head's input")                                              \
    O(HEAD_BWD_W, head_bwd_w, COMPUTE, "gradient of the head's weight")                                             \
    O(ATTENTION_AGAIN, attention_again, COMPUTE, "recomputes what attention's backward needs")                      \
    O(MLP_AGAIN, mlp_again, COMPUTE, "recomputes what the MLP's backward needs")                                    \
    O(MLP_BWD_X, mlp_bwd_x, COMPUTE, "gradient of the MLP's input")                                                 \
    O(MLP_BWD_W, mlp_bwd_w, COMPUTE, "gradients of the MLP's weights")                                              \
    O(ATTENTION_BWD_X, attention_bwd_x, COMPUTE, "gradient of attention's input")                                   \
    O(ATTENTION_BWD_W, attention_bwd_w, COMPUTE, "gradients of attention's weights")                                \
    O(NORM_BWD_X, norm_bwd_x, COMPUTE, "gradient through a norm, after a sum over tensor ranks")                    \
    O(NORM_BWD_W, norm_bwd_w, COMPUTE, "gradients of a norm's weights")                                             \
    O(EMBED_BWD_W, embed_bwd_w, COMPUTE, "gradients of the embeddings")                                             \
    O(ALL_REDUCE, all_reduce, AXIS, "sums over a group: partial products, a bucket of gradients")                   \
    O(REDUCE_SCATTER, reduce_scatter, AXIS, "sums over a group, each member keeps its part")                        \
    O(ALL_GATHER, all_gather, AXIS, "the parts of all members of a group, in order")                                \
    O(SEND, send, AXIS, "activations to the next stage, or gradients to the one before")                            \
    O(RECV, recv, AXIS, "what a neighbouring stage sends")                                                          \
    O(CLEAR, clear, COMPUTE, "what the segment counts, and the ranks sum: loss, squares, what is not finite")       \
    O(CUT, cut, COMPUTE, "a tensor rank's part of a layer's input, to be recomputed from")                          \
    O(COPY_OUT, copy_out, COPY_OUT, "gradients, or a layer's input, to the host's memory")                          \
    O(ACCUMULATE, accumulate, SPACE, "a micro-batch's reduced gradients, added to the step's")                      \
    O(GRAD_NORM, grad_norm, SPACE, "sum of squares of the gradients, and how many are not finite")                \
    O(VARIANCE_NORM, variance_norm, SPACE, "sum of squares of the variance, to see whether it has settled")         \
    O(AGREE, agree, AXIS, "sums loss, squares, overflow and stop requests over all ranks")                          \
    O(COMPRESS, compress, SPACE, "what a replica brings of a bucket, as signs, with what they leave out kept")      \
    O(ALL_TO_ALL, all_to_all, AXIS, "to each member of a group its packet from every other")                        \
    O(AVERAGE, average, SPACE, "the mean of what replicas sent of a rank's chunks, as signs again")                 \
    O(WEIGH, weigh, SPACE, "LAMB's moments of a bucket, and the norms of which its tensors' trust ratios are")      \
    O(ANCHOR, anchor, SPACE, "a bucket's weights from which replicas will step by themselves, noted")               \
    O(WIDEN, widen, COMPUTE, "a bucket's gradients in fp32, for the update")                                         \
    O(UPDATE, update, SPACE, "the optimizer on a bucket of parameters")                                             \
    O(ROUND, round, SPACE, "a bucket's weights in the training precision")                                          \
    O(COPY_IN, copy_in, COPY_IN, "parameters, or a layer's input, to the device's memory")

typedef enum dsc_op_kind {
#define O(id, name, lane, doc) DSC_OP_##id,
    DSC_OPS(O)
#undef O
    DSC_OP_KIND_COUNT
} dsc_op_kind;

extern const char *const DSC_OP_NAMES[];  /* NULL-terminated, by dsc_op_kind */
extern const char *const DSC_OP_DOCS[];
extern const char *const DSC_LANE_NAMES[];
/* The lane it runs in: axis -1: none; space: of what it works on. Pure. */
int dsc_op_lane(int kind, int axis, int space);
bool dsc_op_is_communication(int kind);
bool dsc_op_is_copy(int kind); /* from one space to the other */

/* Straight-line pieces of a step; their names make the path. Spread belongs to no step: whoever has set the weights
 * runs it. */
#define DSC_SEGMENTS(S)                                                                                             \
    S(SPREAD, spread, "weights, first made or read, to where passes look for them")                                 \
    S(GRADIENTS, gradients, "all micro-batches forward and backward, reduction, norm, agreement")                   \
    S(DELAYED, delayed, "the same while the step before's updates are made in host memory")                         \
    S(UPDATE, update, "the optimizer")                                                                              \
    S(LOCAL, local, "as gradients, but what each replica makes stays its own")                                      \
    S(EXCHANGE, exchange, "replicas' momenta, compressed, and the optimizer by their mean")                         \
    S(SHARE, share, "replicas' gradients, compressed, and the optimizer by their mean")                             \
    S(ANCHOR, anchor, "the weights from which replicas will step by themselves, noted, and errors back to zero")    \
    S(STEP, step, "the optimizer by each replica's own gradients")                                                  \
    S(SYNC, sync, "how far replicas' own steps went, compressed: by the mean all go on from one place")             \
    S(EVALUATE, evaluate, "forward only, on other data, and agreement")

typedef enum dsc_segment_id {
#define S(id, name, doc) DSC_SEGMENT_##id,
    DSC_SEGMENTS(S)
#undef S
    DSC_SEGMENT_COUNT,
    DSC_SEGMENT_END = -1
} dsc_segment_id;
extern const char *const DSC_SEGMENT_NAMES[];

/* What an update goes by: the sum of all gradients; 1-bit Adam's exchanged momenta; 0/1 Adam's shared gradients, or
 * each replica's own. */
typedef enum dsc_way { DSC_WAY_EXACT, DSC_WAY_EXCHANGE, DSC_WAY_SHARE, DSC_WAY_OWN } dsc_way;

/* The values that all ranks agreed on; the only thing that chooses what comes next. An update that a step defers is
 * pending when the next begins. A step whose gradients are discarded makes no update. The first of replicas' own steps
 * anchors; behind some of them replicas sync, which they also do when a step of theirs has overflowed and the weights
 * are read. */
typedef struct dsc_outcome { bool pending, overflow, defer, evaluate, discard, anchor, sync; dsc_way way; } dsc_outcome;
/* The segment after `segment` (DSC_SEGMENT_END before the first and after the last). Pure; both interpreters call
 * it. */
dsc_segment_id dsc_segment_next(dsc_segment_id segment, const dsc_outcome *outcome);
/* Whether a segment makes gradients for an update, and whether those are each replica's own. Pure. */
bool dsc_segment_makes_gradients(int segment);
bool dsc_segment_is_local(int segment);
/* Whether a step's update is left to the next one's passes: updates have been made before it, and nobody reads the
 * weights behind it. Pure. */
bool dsc_defers(const dsc_plan *plan, int64_t updates, bool is_read);
/* "gradients/update" of an outcome. */
void dsc_path_of(const dsc_outcome *outcome, char *out, size_t size);

/* ---- Buffers */

/* How long a buffer lives, which is also the region that it lies in. Of slots, deferred and boxes there are several
 * copies; a use has one of each. */
typedef enum dsc_life {
    DSC_LIFE_STATIC,    /* for ever */
    DSC_LIFE_SLOT,      /* from a micro-batch's forward pass through a chunk to its last backward pass */
    DSC_LIFE_DEFERRED,  /* from the backward pass of the inputs to that of the weights, where these are two */
    DSC_LIFE_BOX,       /* within one use, beside those of its neighbours: what messages bring and take */
    DSC_LIFE_TRANSIENT, /* within one use */
    DSC_LIFE_COUNT
} dsc_life;
typedef enum dsc_class { DSC_CLASS_PARAMETERS, DSC_CLASS_GRADIENTS, DSC_CLASS_OPTIMIZER, DSC_CLASS_ACTIVATIONS,
                         DSC_CLASS_BUFFERS, DSC_CLASS_COUNT } dsc_class;

typedef struct dsc_buffer {
    char name[40];      /* "parameters", "qkv", "workspace" */
    int8_t space, life, class_;
    int32_t layer;      /* -1: none */
    int32_t owner;      /* template of a transient; chunk of what has copies; -1 */
    int32_t bucket;     /* what it holds all or a part of, for a time; -1 */
    int64_t bytes;
    int64_t offset;     /* from the start of its copy of the region */
} dsc_buffer;

/* A range of a buffer. buffer -1: absent. Where parts is not 0 it is one of so many ranges of `bytes` in a row, from
 * offset on, of which each replica has its own: with ZeRO by its place in dp, else by that in dp_intra, of those that
 * are one worker. */
typedef struct dsc_span { int32_t buffer; int64_t offset, bytes, parts; } dsc_span;
/* How many ranges such spans of a plan have, and which is a rank's. Pure. */
int64_t dsc_span_parts(const dsc_plan *plan);
int64_t dsc_span_place(const dsc_plan *plan, int64_t rank);
/* All that a span covers, as such parts; and the range that a replica in that place has. Pure. */
dsc_span dsc_span_part(const dsc_plan *plan, dsc_span whole);
dsc_span dsc_span_at(dsc_span span, int64_t place);

/* Scalars (fp64) in the static buffer `scalars`, summed over all ranks by the op agree. It is in host memory, which the
 * device's kernels reach. Squares and non-finite values are counted in pairs, one for each lane that counts (device,
 * host), and apart for gradients that tensor ranks hold alike, since the sum has those tp times. */
enum {
    DSC_SCALAR_LOSS,
    DSC_SCALAR_SQUARES, DSC_SCALAR_NONFINITE,
    DSC_SCALAR_REPLICATED_SQUARES, DSC_SCALAR_REPLICATED_NONFINITE,
    DSC_SCALAR_HOST, /* the same four of what is in host memory */
    DSC_SCALAR_STOP = DSC_SCALAR_HOST + 4,
    DSC_SCALAR_VARIANCE,      /* squares and non-finite values of the variance on the device, */
    DSC_SCALAR_HOST_VARIANCE = DSC_SCALAR_VARIANCE + 2, /* and of that in host memory */
    DSC_SCALAR_COUNT = DSC_SCALAR_HOST_VARIANCE + 2
};

/* What the ranks agreed on: the loss of all tokens in nats, the squares of the scaled gradients, each gradient once. Of
 * replicas' own gradients, of which each is a share of the sum, the mean square of what the sum would be, if all were
 * alike. The variance's squares are of all that ranks have, replicas and all: they tell whether it changes. */
typedef struct dsc_counts { double loss, squares, variance; bool is_finite, is_stopping; } dsc_counts;
dsc_counts dsc_counts_of(const dsc_plan *plan, int segment, const double scalars[DSC_SCALAR_COUNT]);

/* ---- Ops */

typedef struct dsc_call { dsc_shape shape; dsc_span operands[DSC_KERNEL_OPERANDS]; dsc_span workspace; } dsc_call;

typedef struct dsc_op {
    int16_t kind, lane;
    int32_t layer;             /* -1 */
    int32_t axis;              /* dsc_axis of its group; -1 */
    int32_t peer, channel;     /* send, recv: the other's place on the axis; a channel's messages arrive in order. -1 */
    int32_t first_call, calls; /* of the template's calls; communication has none */
    int32_t first_dep, deps;   /* of the template's deps */
    dsc_span source;           /* reduce_scatter, all_gather, copies: what is read; else absent */
    dsc_span data;             /* communication, copies: what is sent, received, made of source, or reduced in place */
    int8_t type;               /* dsc_dtype of data */
    int64_t bytes, flops;      /* kernels: contract's sums; else payload n, the larger of source and data */
} dsc_op;

/* Op `on` of the same use, in another lane, has to be over before the op starts. */
typedef struct dsc_dep { int32_t on; } dsc_dep;

/* Birth or death of a buffer in a template: alive from the start of op `born` to the end of op `dies`. A buffer of a
 * slot is born in one template and dies in another: the other field is -1. */
typedef struct dsc_lifetime { int32_t buffer, born, dies; } dsc_lifetime;

typedef struct dsc_template {
    char name[32];             /* "forward", "backward+reduce" */
    int32_t chunk;
    bool is_forward;           /* what it leaves in the slot lives on after it */
    int32_t rest;              /* template that is used after it for the same micro-batch, so that what this one touches
                                  lives on; -1: none */
    dsc_op *ops; int64_t op_count, op_capacity;
    dsc_call *calls; int64_t call_count, call_capacity;
    dsc_dep *deps; int64_t dep_count, dep_capacity;
    dsc_lifetime *lifetimes; int64_t lifetime_count, lifetime_capacity;
} dsc_template;

/* Op `op` of this use waits for op `on` of the earlier use `use` of the same segment. */
typedef struct dsc_wait { int32_t op, use, on; } dsc_wait;

typedef struct dsc_use {
    int32_t template_, micro_batch, chunk; /* -1: none */
    int32_t copy[DSC_LIFE_COUNT]; /* which copy of each region it has */
    int64_t base;              /* number of its first op in the rank's whole program */
    int32_t first_wait, waits; /* of the segment's waits */
} dsc_use;

typedef struct dsc_segment {
    dsc_use *uses; int64_t use_count, use_capacity;
    dsc_wait *waits; int64_t wait_count, wait_capacity;
} dsc_segment;

/* A part of a space's arena: `copies` of `bytes` each (0: there is nothing of that life), one behind another. */
typedef struct dsc_region { int64_t base, bytes, copies; } dsc_region;

/* A rank's program; owns everything but the plan, which it borrows. Ranks of one stage have equal programs. */
typedef struct dsc_program {
    const dsc_plan *plan;
    int64_t stage;
    dsc_buffer *buffers; int64_t buffer_count, buffer_capacity;
    dsc_template *templates; int64_t template_count, template_capacity;
    dsc_segment segments[DSC_SEGMENT_COUNT];
    dsc_region regions[DSC_SPACE_COUNT][DSC_LIFE_COUNT];
    int64_t arena_bytes[DSC_SPACE_COUNT];
    int64_t op_count;          /* over all segments */
    int32_t kept[DSC_KEPT_COUNT][DSC_SPACE_COUNT]; /* static buffers; -1: there is none */
    int32_t scalars;
    int32_t layouts[DSC_PATTERNS]; /* static buffers, by way to attend: lists of present blocks, which whoever runs the
                                      program fills before the first step (dsc_program_fill_layout); -1 */
    int32_t units[DSC_SPACE_COUNT]; /* the same of compression: lists of units of the buckets that are updated there,
                                       one behind another (dsc_program_fill_units); -1 */
    int32_t held[DSC_SPACE_COUNT];  /* the same of LAMB: lists of the tensors of these buckets (dsc_program_fill_held);
                                       -1 */
    char hash[33];             /* of all the above */
} dsc_program;

dsc_status dsc_program_create(const dsc_plan *plan, int64_t stage, dsc_program **out);
void dsc_program_destroy(dsc_program *program);

/* Offset of a span in its space's arena, for a use (NULL: of a static buffer); of parts, of the first. Pure. */
int64_t dsc_program_offset(const dsc_program *program, dsc_span span, const dsc_use *use);

/* What is kept of a bucket: the home's elements. Pure. */
dsc_span dsc_program_kept(const dsc_program *program, const dsc_bucket *bucket, dsc_kept kept);

/* Writes the lists that a tensor rank's buffer layouts[way] holds. DSC_ENOMEM. */
dsc_status dsc_program_fill_layout(const dsc_program *program, int way, int64_t tp_index, void *out);

/* Writes the lists that buffer units[space] of the rank with these places in its tensor and data group holds. */
void dsc_program_fill_units(const dsc_program *program, int space, int64_t tp_index, int64_t dp_index, void *out);

/* Writes the lists that buffer held[space] of a rank with that place in its tensor group holds. */
void dsc_program_fill_held(const dsc_program *program, int space, int64_t tp_index, void *out);

/* The op and template of an op number; false past the end. */
typedef struct dsc_place_of_op { int segment; int64_t use; int32_t index; const dsc_op *op; } dsc_place_of_op;
bool dsc_program_find(const dsc_program *program, int64_t number, dsc_place_of_op *out);

/* What an op, or one kernel call of it, reads and writes, for hazards and checks. */
typedef void dsc_span_visit(void *context, dsc_span span, bool is_read, bool is_written);
void dsc_call_visit(const dsc_call *call, dsc_span_visit *visit, void *context);
void dsc_op_visit(const dsc_template *template_, const dsc_op *op, dsc_span_visit *visit, void *context);

/* ---- Lanes of a segment, unfolded: what an interpreter steps through */

typedef struct dsc_instance {
    int32_t use, index;        /* op `index` of the use's template */
    int32_t first_need, needs; /* of the needs array */
} dsc_instance;
/* The instance may start once `count` instances of `lane` are over. */
typedef struct dsc_need { int32_t lane, count; } dsc_need;

typedef struct dsc_unfolded {
    dsc_instance *lanes[DSC_LANE_COUNT]; int64_t lane_counts[DSC_LANE_COUNT];
    dsc_need *needs; int64_t need_count;
} dsc_unfolded;

/* Lists a segment's ops by lane, with what each waits for. Caller frees with dsc_unfolded_fini. */
dsc_status dsc_segment_unfold(const dsc_program *program, int segment, dsc_unfolded *out);
void dsc_unfolded_fini(dsc_unfolded *unfolded);

/* ---- The ledger */

/* High-water tracking: the end of the highest live buffer of each space, as ops start and end in time. Whoever runs
 * calls these in the order of time. Ends come from the program's offsets, unless dsc_extent_forget has dropped them:
 * then from the addresses that kernels were really handed, told by dsc_extent_hand before the first op. */
typedef struct dsc_extent dsc_extent;
dsc_status dsc_extent_create(const dsc_program *program, dsc_extent **out);
void dsc_extent_destroy(dsc_extent *extent);
void dsc_extent_forget(dsc_extent *extent);
/* A kernel was handed bytes of this span that end `end` bytes past the arena's base, in that use (NULL: static). */
void dsc_extent_hand(dsc_extent *extent, dsc_span span, const dsc_use *use, int64_t end);
/* All but the static buffers are dead again: a segment starts. */
void dsc_extent_segment_start(dsc_extent *extent);
/* Returns the space whose end changed, or -1; dsc_extent_bytes tells it. */
int dsc_extent_op_start(dsc_extent *extent, int segment, int64_t use, int32_t index);
int dsc_extent_op_end(dsc_extent *extent, int segment, int64_t use, int32_t index);
int64_t dsc_extent_bytes(const dsc_extent *extent, int space);
/* Bytes of what is alive now, by class. */
void dsc_extent_classes(const dsc_extent *extent, int space, int64_t out[DSC_CLASS_COUNT]);

/* Bytes by class at the instant of the peak; they sum to arena_bytes (gaps count as buffers). */
typedef struct dsc_ledger { int64_t classes[DSC_CLASS_COUNT], arena_bytes; } dsc_ledger;
dsc_status dsc_program_ledger(const dsc_program *program, int space, dsc_ledger *out);

/* DSC_EINFEASIBLE when a rank needs more than its capacity in a space, libraries included: names stage, space and both
 * numbers, and what to try. */
dsc_status dsc_program_fits(const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks);

/* ---- Whole-machine check (program/check.c) */

/* Proves for all ranks (programs[rank]; replicas may share a pointer): operands fit their buffers and buffers the
 * arena; no read before write, nor of weights of before the last update; no race between lanes; gradients are reduced
 * before they are used; members of a group see its collectives in one order with one size; every send meets a receive
 * of its size, channel and micro-batch; no cycle across lanes and ranks. DSC_EINVAL names rank, op number and kind.
 * Where replicas share programs one of them stands for all, so that the check of a large machine is that of its
 * stages. */
dsc_status dsc_program_check(const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks);

/* Programs of all ranks, replicas sharing one: made for each stage once, listed by rank. programs[plan->ranks] and the
 * array itself are freed by dsc_programs_destroy. */
dsc_status dsc_programs_create(const dsc_plan *plan, const dsc_program *const **out);
void dsc_programs_destroy(const dsc_plan *plan, const dsc_program *const *programs);

/* Plan and programs as above. Where they do not fit, the strategy streams through the device's memory, and no bucket
 * size is given, buckets are halved, down to a least, until they do: a note says so. What fits in no way is made all
 * the same, with the least: dsc_program_fits says why. The caller destroys both. */
dsc_status dsc_programs_place(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                              dsc_plan **plan, const dsc_program *const **programs);

/* Program for people: templates op by op, then the uses of each segment. */
void dsc_program_print(const dsc_program *program, dsc_text *out);
/* The programs of all stages on one screen: what the largest template of each name is made of, and the order of passes
 * in a step (F0-3.1: forward, micro-batches 0 to 3, chunk 1; B backward, X of inputs alone, W of weights). */
void dsc_programs_print(const dsc_plan *plan, const dsc_program *const *programs, dsc_text *out);
/* The op table as Markdown, for doc/program.md. */
void dsc_op_table_print(dsc_text *out);

/* ---- Heads of traces (program/head.c) */

enum { DSC_KIND_UNATTRIBUTED = DSC_OP_KIND_COUNT }; /* code of rows for time outside ops */

/* Of the programs of all ranks. */
void dsc_programs_hash(const dsc_plan *plan, const dsc_program *const *programs, char out[33]);
/* Fills what a prediction and a measurement of the same programs share: version, hashes, descriptions, names. */
dsc_status dsc_program_head(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *const *programs,
                            dsc_trace_head *head);
/* Adds /groups: one row for each member. */
dsc_status dsc_program_groups(const dsc_plan *plan, dsc_trace *trace);

/* ---- Leaving an op out (for tests) */

/* An op that an option names as RANK:OP; DSC_EINVAL, with the option's name, when there is none. */
dsc_status dsc_programs_find(const dsc_plan *plan, const dsc_program *const *programs, const char *option, int64_t rank,
                             int64_t op, dsc_place_of_op *out);

/* For `--omit-op RANK:OP`: for each rank the op number it leaves out, or -1: the op itself on `rank`, and its partners'
 * for communication. out[plan->ranks]. DSC_EINVAL when there is no such op. */
dsc_status dsc_program_omit(const dsc_plan *plan, const dsc_program *const *programs, int64_t rank, int64_t op,
                            int64_t *out);

#endif
