/* Who holds what: a pure function of (model, cluster, config). Ranks get coordinates, layers get stages, tensors get
 * shards, states get bytes; what cannot be is refused with a sentence. No clock, no MPI, no prices, no activations
 * (those come from the program's liveness).
 *
 * Degrees: t tensor, c context, d data, p pipeline; a rank is a device of the cluster. */
#ifndef DSC_PLAN_PLAN_H
#define DSC_PLAN_PLAN_H

#include "cluster/cluster.h"
#include "config/config.h"
#include "model/attention.h"
#include "model/model.h"

/* The tied axis joins the first and the last stage of a column of the pipeline where both hold the embedding. Where
 * compression is hierarchical intra joins the replicas of a data group that share a node, and inter those of different
 * nodes that have the same place there. World joins all ranks. */
typedef enum dsc_axis {
    DSC_AXIS_TP, DSC_AXIS_CP, DSC_AXIS_DP, DSC_AXIS_PP, DSC_AXIS_TIED, DSC_AXIS_INTRA, DSC_AXIS_INTER, DSC_AXIS_WORLD,
    DSC_AXIS_COUNT
} dsc_axis;
extern const char *const DSC_AXIS_NAMES[]; /* "tp", "cp", "dp", "pp", "tied", "dp_intra", "dp_inter", "world", NULL */

typedef enum dsc_space { DSC_SPACE_DEVICE, DSC_SPACE_HOST, DSC_SPACE_COUNT } dsc_space;
extern const char *const DSC_SPACE_NAMES[]; /* "device", "host", NULL */

enum { DSC_ALIGN = 64 }; /* bytes; of every buffer, and of a tensor's start in flat buffers */

/* A tensor's part on a rank: the rows and columns it holds, and its place in the stage's flat order, which parameters,
 * gradients and optimizer states share. Rows past shape[0] up to padded_rows are zero and stay zero. Of a
 * vocabulary, or of positions, that tp does not divide, the last ranks hold fewer rows than shape[0], or none: their
 * rows past the tensor's end are zero too. */
typedef struct dsc_shard {
    int32_t tensor;        /* index into plan->tensors */
    int32_t chunk;         /* of the stage */
    int64_t shape[2];      /* held; shape[1] is 1 for vectors */
    int64_t padded_rows;   /* allocated rows, >= shape[0] */
    int64_t first, elems;  /* in the flat order; elems = padded_rows * shape[1] */
    int64_t bucket;        /* of the stage */
    bool is_replicated;    /* tp > 1, and whole on every tensor rank */
    bool is_copy;          /* the last stage's copy of a tied embedding: the first's counts in norms and is saved */
} dsc_shard;

/* A rectangle of a tensor and where a shard holds it. Row i, column j of it is element (row + i) * tensor's columns +
 * column + j of the tensor, and (shard_row + i) * shard's columns + shard_column + j of the shard. Vectors are one
 * row. */
typedef struct dsc_block { int64_t rows, columns, row, column, shard_row, shard_column; } dsc_block;

typedef struct dsc_chunk { int64_t first_layer, layers; bool has_embedding, has_head; } dsc_chunk;

/* What a rank keeps of a bucket from step to step. */
typedef enum dsc_kept {
    DSC_KEPT_PARAMETERS, /* in the training type: whole, or, where passes gather them, the rank's part */
    DSC_KEPT_GRADIENTS,  /* whole, as passes add to them; not where they are streamed */
    DSC_KEPT_SUMS,       /* the part of the reduced gradients that the update reads; not where it is GRADIENTS */
    DSC_KEPT_MASTER,     /* the part of the weights in fp32; not where it is PARAMETERS */
    DSC_KEPT_EXP_AVG,    /* the parts of the moments */
    DSC_KEPT_EXP_AVG_SQ,
    DSC_KEPT_WORKER_ERROR, /* of 1-bit compression, in fp32: what a replica did not send of its momentum, */
    DSC_KEPT_SERVER_ERROR, /* and what it did not send of the means that it made for all; only where it compresses */
    DSC_KEPT_ANCHOR,     /* of 0/1 Adam, in fp32: the weights from which replicas' own steps began; before there are
                            such, the gradient that a replica shares, then the mean of all */
    DSC_KEPT_FRESH,      /* of 1-bit LAMB, in fp32: the variance as it would move, beside the frozen one, */
    DSC_KEPT_TRUST,      /* and of each tensor the mean of its trust ratios and the last factor */
    DSC_KEPT_COPY,       /* in host memory: the part of the new weights in the training type, to be copied in */
    DSC_KEPT_COUNT
} dsc_kept;
extern const char *const DSC_KEPT_NAMES[]; /* "parameters", ..., NULL */

/* Consecutive shards of one chunk that are reduced, updated and gathered together. ZeRO (Rajbhandari et al. 2020) cuts
 * each bucket in equal parts, one for each data-parallel rank; parts stand in their buffers at the same place on every
 * rank, so that all run one program. */
typedef struct dsc_bucket {
    int64_t first, end;        /* shards */
    int32_t chunk;
    int64_t first_elem, elems; /* in the flat order, padding included; elems divide by the plan's parts x intra */
    int64_t units, packed;     /* of compression: most that a rank has, and their elements, padding included */
    bool is_replicated;        /* over tp */
    bool is_tied, is_copy;     /* the embedding that the first and the last stage share; the last's copy of it */
    bool is_gathered;          /* parameters are whole only while a pass needs them */
    bool is_streamed;          /* gradients are whole only while a pass makes them, and are reduced after each pass */
    int8_t space[DSC_KEPT_COUNT];  /* dsc_space of what is kept */
    int64_t home[DSC_KEPT_COUNT];  /* first element in the buffer of that kind and space; -1: not kept */
} dsc_bucket;

/* One pipeline stage: its chunks (virtual stages), its shards in flat order and the buckets that they fill. */
typedef struct dsc_stage {
    dsc_chunk *chunks; int64_t chunk_count;
    dsc_shard *shards; int64_t shard_count; /* by chunk and tensor; first those cut over tp (all, when tp is 1), then
                                               those replicated */
    dsc_bucket *buckets; int64_t bucket_count; /* ascending */
    int64_t flat_elems;       /* of all buckets */
    int64_t kept_elems[DSC_KEPT_COUNT][DSC_SPACE_COUNT]; /* of the buffer of each kind in each space */
} dsc_stage;

/* What an order of the axes costs in a step: the time that messages take over each axis' slowest link when nothing else
 * happens. From links alone: it compares orders, and predicts nothing. */
typedef struct dsc_order_cost {
    int order[4];          /* axes, fastest first */
    double ns, axis_ns[4]; /* the sum; by dsc_axis */
    char link[4][32];      /* the slowest that the axis' groups cross; "" for a group of one */
} dsc_order_cost;

typedef enum dsc_order_reason {
    DSC_ORDER_GIVEN,   /* by --rank-order */
    DSC_ORDER_DEFAULT, /* tp, cp, dp, pp: there is one order, or one node, or no word on the links between nodes */
    DSC_ORDER_CHOSEN   /* the cheapest */
} dsc_order_reason;

/* One way in which layers attend. A tensor rank computes its heads' present blocks. */
typedef struct dsc_layer_attention {
    char word[256];         /* as the user wrote it */
    dsc_attention_kind kind;
    dsc_layout *layout;     /* of all heads; NULL unless sparse */
    bool is_causal;         /* scores of later keys are masked */
    int64_t *heads;         /* [model.heads] the ranks' heads, one rank's after another: ranks have as many each, and
                               nearly as many present blocks; NULL: in order */
    char hash[33];          /* of the layout's blocks; "" */
    int64_t present;        /* blocks of the rank that has most, at least 1: ranks of a stage run one program */
} dsc_layer_attention;

typedef struct dsc_plan {
    dsc_model model;
    dsc_config config;      /* strategy resolved: no degree or size is 0, schedule chosen, seq_len set */
    int64_t ranks, micro_batches;  /* micro_batches of a replica in a step */
    int64_t parts;          /* that a bucket is cut in: dp with ZeRO, else 1 */
    bool compresses;        /* its optimizer has compressed steps: replicas' gradients are not summed in these */
    bool has_own_steps;     /* 0/1 Adam: replicas step by themselves, and meet now and then */
    bool has_trust;         /* 1-bit LAMB: a tensor's step is as long as the tensor's norm says */
    int64_t workers;        /* that exchange momenta in compressed steps; 1: there are none to exchange with */
    int64_t intra;          /* replicas that are one worker: they share a node, and sum their gradients exactly */
    dsc_dtype type;         /* of parameters and activations */
    dsc_dtype product_type; /* of what the layers' products read: type, or fp8, cast before each */
    dsc_dtype gradient_type; /* of what is kept of gradients */
    dsc_dtype stream_type;   /* of gradients that are streamed, while a pass makes them */
    dsc_tensor *tensors; int64_t tensor_count;
    dsc_stage *stages;      /* [pp] */
    int order[4];           /* axes, fastest first */
    dsc_order_reason order_reason;
    dsc_order_cost order_cost, next_cost; /* where chosen: of this order, and of the next best */
    int64_t capacity_bytes[DSC_SPACE_COUNT];  /* of the rank that has least */
    int64_t libraries_bytes[DSC_SPACE_COUNT]; /* what libraries allocate by themselves, a rank */
    dsc_layer_attention *attention; int64_t attention_count; /* the ways in which layers attend */
    int32_t *attention_of;  /* [layers] which of them */
    char hash[33];          /* of placement and sizes, not of data, seed, rate or steps */
} dsc_plan;

/* Resolves dp, batch and defaults, checks legality, places. `cluster` gives the number of devices and their capacities;
 * it is not kept. DSC_EINVAL names both numbers that disagree; DSC_ENOTSUP gives the reason. */
dsc_status dsc_plan_create(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                           dsc_plan **out);
void dsc_plan_destroy(dsc_plan *plan);
/* DSC_ENOTSUP for what is planned, and run by no executor here, with the reason. Pure. */
dsc_status dsc_plan_check_runs(const dsc_plan *plan);

/* The arithmetic of dsc_plan_create alone: degrees, batch, types, order of ranks and capacities, for whoever looks at
 * many strategies. No tensors, no stages, no attention, and nothing to destroy; legality is asked for apart. */
dsc_status dsc_plan_outline(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                            dsc_plan *out);
/* What cannot be, with the reason: DSC_EINVAL or DSC_ENOTSUP. Reads the model, the strategy, micro_batches, and which
 * kind the optimizer is of. Pure. */
dsc_status dsc_plan_check_legal(const dsc_plan *plan);

/* The cluster of a description (dsc_cluster_load) under this strategy: of `local`, and of one node that says "local",
 * with as many devices as the strategy has ranks, tp*pp*cp*dp (1 for what is not given). */
dsc_status dsc_plan_load_cluster(const char *description, const dsc_config *config, dsc_cluster **out);

typedef struct dsc_coord { int64_t of[4]; } dsc_coord; /* by dsc_axis: tp, cp, dp, pp */
dsc_coord dsc_plan_coord(const dsc_plan *plan, int64_t rank);
int64_t dsc_plan_rank(const dsc_plan *plan, dsc_coord coord);

/* What of a chunk's layer, counted from the chunk's first, is recomputed: dsc_recompute. Pure. */
int dsc_plan_recompute(const dsc_plan *plan, int64_t index);
/* Tokens of a sequence that a context rank has. Pure. */
int64_t dsc_plan_tokens(const dsc_plan *plan);
/* How many coordinates an axis of the grid (tp, cp, dp, pp) has. Pure. */
int64_t dsc_plan_coords(const dsc_plan *plan, int axis);

/* Groups: the ranks that differ along one axis only (dp: along dp and cp, which both hold the same weights; tied: the
 * first and the last stage of those that differ along pp only, when pp > 1 and the model ties its head). Ids are dense
 * over axes and groups of size > 1, in order of axis, then of lowest rank; -1 where the rank is alone on that axis, or
 * not a member. World is one group of all ranks. */
int64_t dsc_plan_group(const dsc_plan *plan, int64_t rank, dsc_axis axis);
int64_t dsc_plan_group_count(const dsc_plan *plan);
/* Members ascending into out (room for the axis' degree); returns how many. A rank that is no member is alone. */
int64_t dsc_plan_group_ranks(const dsc_plan *plan, int64_t rank, dsc_axis axis, int64_t *out);
/* The rank's number among its group's members; 0 where it is alone. Pure. */
int64_t dsc_plan_place(const dsc_plan *plan, int64_t rank, dsc_axis axis);
int64_t dsc_plan_degree(const dsc_plan *plan, dsc_axis axis); /* members of a group; 1: there are none (tied: 2 or 1) */

const dsc_layer_attention *dsc_plan_attention(const dsc_plan *plan, int64_t layer);
/* Which head of the model is head `index` of a tensor rank, in that way to attend. Pure. */
int64_t dsc_plan_head(const dsc_plan *plan, const dsc_layer_attention *attention, int64_t tp_index, int64_t index);

/* What a tensor rank's shard holds of its tensor, rectangle by rectangle (q, k and v apart; head by head where these
 * are dealt out; none where a last shard is empty): number `index`, or false when there are no more. Pure. */
bool dsc_shard_block(const dsc_plan *plan, const dsc_shard *shard, int64_t tp_index, int64_t index, dsc_block *out);

/* ---- Buckets (plan/bucket.c) */

/* What decides places in the flat order: a shard starts at a multiple of `align` elements, and a bucket's end is padded
 * to a multiple of `part_align` elements for each of `parts`. */
typedef struct dsc_flat_rule { int64_t align, parts, part_align; } dsc_flat_rule;

/* Gives shards [bucket->first, bucket->end) places from bucket->first_elem on and sets the bucket's elems. Pure. */
void dsc_flatten(const dsc_flat_rule *rule, dsc_shard *shards, dsc_bucket *bucket);

/* Whether buckets pass through the device's memory, so that smaller ones need less of it. Pure. */
bool dsc_plan_has_streams(const dsc_plan *plan);
/* Below it messages and copies cost more for their number than for their bytes. */
enum { DSC_LEAST_BUCKET_ELEMS = 1 << 14 };
/* No replica has more gradients. */
#define DSC_ONE_BUCKET_ELEMS (INT64_C(1) << 40)

/* Elements of a bucket's part: all, where there is one. Pure. */
int64_t dsc_plan_part_elems(const dsc_plan *plan, const dsc_bucket *bucket);
/* Whether, of own gradients, a replica gets the sum of the part alone that it compresses. Those that step by themselves
 * need the whole. Pure. */
bool dsc_plan_scatters(const dsc_plan *plan);
/* Which part of each bucket is a rank's; 0 where they are whole. Pure. */
int64_t dsc_plan_part(const dsc_plan *plan, int64_t rank);

/* Elements of a bucket's part, 0 <= part < parts, that lie in a shard: how many (0: none), from which element of the
 * shard on, and where in the part. Pure. */
typedef struct dsc_overlap { int64_t elems, in_shard, in_part; } dsc_overlap;
dsc_overlap dsc_part_overlap(const dsc_bucket *bucket, int64_t parts, int64_t part, const dsc_shard *shard);

/* ---- Units of compression (plan/unit.c; kernel/units.h) */

struct dsc_unit;
struct dsc_units;

/* The units of a part of a bucket on a tensor rank: pieces of what the part has of each shard, and what of these is no
 * padding (rows of the vocabulary past its end, positions past the sequence). Of a worker of several replicas each
 * compresses one part, number dp_index % plan->intra; else there is one. out has room for bucket->units; out->server is
 * the caller's. Pure. */
void dsc_bucket_units(const dsc_plan *plan, const dsc_stage *stage, const dsc_bucket *bucket, int64_t part,
                      int64_t tp_index, struct dsc_units *out);
/* Number `index` of those in a shard, and where in it it begins; false when there are no more. Pure. */
bool dsc_shard_unit(const dsc_plan *plan, const dsc_stage *stage, const dsc_shard *shard, int64_t part,
                    int64_t tp_index, int64_t index, struct dsc_unit *out, int64_t *in_shard);

/* What a tensor rank holds of the bucket's tensors, one for each of its shards (plan/held.c; kernel/held.h). out has
 * room for them. Pure. */
struct dsc_held;
void dsc_bucket_held(const dsc_plan *plan, const dsc_stage *stage, const dsc_bucket *bucket, int64_t tp_index,
                     struct dsc_held *out);

/* Where something of a bucket is kept: the kind and space that name the buffer (SUMS may be GRADIENTS, MASTER may be
 * PARAMETERS), and elements in it. */
typedef struct dsc_home { dsc_kept kept; dsc_space space; int64_t first, elems; } dsc_home;
dsc_home dsc_bucket_home(const dsc_plan *plan, const dsc_bucket *bucket, dsc_kept kept);
dsc_dtype dsc_kept_type(const dsc_plan *plan, dsc_kept kept);

/* The rectangles (at most DSC_RUN_BLOCKS) that `elems` elements of a shard from `first` on, rows one behind another,
 * fill of a block. Returns how many. Pure. */
enum { DSC_RUN_BLOCKS = 3 };
int dsc_block_run(const dsc_block *block, int64_t shard_columns, int64_t first, int64_t elems,
                  dsc_block out[DSC_RUN_BLOCKS]);

/* The lowest rank whose program is this rank's but for renaming: same stage. */
int64_t dsc_plan_representative(const dsc_plan *plan, int64_t rank);

/* Bytes of a space on a rank of the stage that no activation changes: weights on their way to the device count as
 * parameters. Pure. */
typedef struct dsc_static_bytes { int64_t parameters, gradients, optimizer; } dsc_static_bytes;
dsc_static_bytes dsc_plan_static_bytes(const dsc_plan *plan, int64_t stage, dsc_space space);

void dsc_plan_print(const dsc_plan *plan, dsc_text *out); /* placement for people */

#endif
