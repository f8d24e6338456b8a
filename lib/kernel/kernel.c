#include "kernel/kernel.h"
#include "base/array.h"
#include "kernel/blocks.h"
#include "kernel/held.h"
#include "kernel/units.h"
#include "kernel/workspace.h"
#include <stdio.h>
#include <string.h>

/* ---- Data types */

static const struct { const char *name; int bytes; } dtypes[DSC_DTYPE_COUNT] = {
    [DSC_FP32] = {"fp32", 4}, [DSC_BF16] = {"bf16", 2},   [DSC_FP16] = {"fp16", 2},
    [DSC_FP8] = {"fp8", 1},   [DSC_INT32] = {"int32", 4}, [DSC_FP64] = {"fp64", 8},
    [DSC_UINT8] = {"uint8", 1},   [DSC_INT64] = {"int64", 8},
};

int64_t dsc_dtype_bytes(dsc_dtype type) { return dtypes[type].bytes; }
const char *dsc_dtype_name(dsc_dtype type) { return dtypes[type].name; }

/* ---- The table */

static const struct { const char *name, *operands, *modes; } kernels[DSC_KERNEL_COUNT] = {
#define K(id, name, operands, modes) {#name, operands, modes},
    DSC_KERNELS(K)
#undef K
};

const char *dsc_kernel_name(dsc_kernel kernel) { return kernels[kernel].name; }
int dsc_kernel_operands(dsc_kernel kernel) { return (int)strlen(kernels[kernel].modes); }

bool dsc_kernel_is_planned(dsc_kernel kernel)
{
    return kernel == DSC_K_ATTENTION_PART_FWD || kernel == DSC_K_ATTENTION_PART_BWD || kernel == DSC_K_KEYS_PACK ||
           kernel == DSC_K_KEYS_UNPACK;
}

int dsc_kernel_find(const char *name)
{
    for (int i = 0; i < DSC_KERNEL_COUNT; i++)
        if (strcmp(kernels[i].name, name) == 0) return i;
    return -1;
}

const char *dsc_kernel_operand_name(dsc_kernel kernel, int operand, char out[32])
{
    const char *word = kernels[kernel].operands;

    for (; operand > 0; operand--) word = strchr(word, ' ') + 1;
    snprintf(out, 32, "%.*s", (int)strcspn(word, " "), word);
    return out;
}

/* ---- Operands of a shape */

typedef struct extent { int64_t elems; int type; } extent; /* 0 elements: absent */

static bool is_attention(int kernel) { return kernel >= DSC_K_ATTENTION_FWD && kernel <= DSC_K_SCORES_BWD; }
static bool is_part(int kernel) { return kernel == DSC_K_ATTENTION_PART_FWD || kernel == DSC_K_ATTENTION_PART_BWD; }
static bool is_block(int kernel) { return kernel >= DSC_K_BLOCK_SDD && kernel <= DSC_K_BLOCK_SOFTMAX_BWD; }

static bool is_sign(int kernel) { return kernel >= DSC_K_SIGN_COMPRESS && kernel <= DSC_K_SIGN_EXPAND; }

static bool is_lamb(int kernel) { return kernel >= DSC_K_LAMB_NORMS && kernel <= DSC_K_LAMB_STEP; }

static bool is_flat(int kernel)
{
    return (kernel >= DSC_K_GELU_FWD && kernel <= DSC_K_SWIGLU_BWD) ||
           (kernel >= DSC_K_SQUARE_SUM && kernel < DSC_K_LOAD);
}

static bool has_layout(const dsc_shape *s)
{
    return is_block(s->kernel) || (s->flags & DSC_HAS_LAYOUT &&
                                   (s->kernel == DSC_K_ATTENTION_FWD || s->kernel == DSC_K_ATTENTION_BWD));
}

/* The dimensions present and block of a shape that has them: the last two. */
static const int64_t *layout_dims(const dsc_shape *s) { return s->d + (is_block(s->kernel) ? 4 : 5); }

/* The operands layout and mask. */
static int64_t layout_elems(const dsc_shape *s)
{
    const int64_t *layout = layout_dims(s);

    return has_layout(s) ? dsc_blocks_elems(dsc_ceil_div(s->d[1], layout[1]), s->d[2], layout[0]) : 0;
}

static int64_t mask_elems(const dsc_shape *s) { return s->flags & DSC_HAS_MASK ? s->d[0] * s->d[1] : 0; }

/* The sparse and the dense operands of block products. */
static int64_t block_elems(const dsc_shape *s) { return s->d[0] * s->d[4] * s->d[5] * s->d[5]; }
static int64_t dense_elems(const dsc_shape *s) { return s->d[0] * s->d[1] * s->d[2] * s->d[3]; }

/* Compression's packets, all of N ranks, and its list. */
static int64_t packets_bytes(const dsc_shape *s, int64_t packed, int64_t ranks, int64_t units)
{
    return ranks * dsc_packet_bytes(packed, ranks, units, s->out);
}

static const int64_t *sign_dims(const dsc_shape *s) { return s->d + (s->kernel == DSC_K_SIGN_AVERAGE ? 0 : 1); }

/* Of the optimizer's parameters and moments. */
static int state_type(const dsc_shape *s) { return s->type == DSC_FP64 ? DSC_FP64 : DSC_FP32; }

/* Sums of a tensor, and what is kept of it: kernel.h. */
enum { LAMB_SUMS = 4, LAMB_STATE = 2 };

/* Operands in the order of the table, one case a kernel, by what their dimensions are. */
#define SET(...) memcpy(e, (extent[]){__VA_ARGS__}, sizeof(extent[]){__VA_ARGS__})

static void count_attention(const dsc_shape *s, extent e[DSC_KERNEL_OPERANDS])
{
    const int64_t *d = s->d, rows = d[0] * d[1], heads_dim = d[2] * d[4];
    const int type = s->type;

    switch ((dsc_kernel)s->kernel) {
    case DSC_K_ATTENTION_FWD:
        SET({rows * (d[2] + 2 * d[3]) * d[4], type}, {rows * heads_dim, type}, {rows * d[2], DSC_FP32},
            {layout_elems(s), DSC_INT32}, {mask_elems(s), DSC_FP32});
        break;
    case DSC_K_ATTENTION_BWD:
        SET({rows * heads_dim, type}, {rows * (d[2] + 2 * d[3]) * d[4], type}, {rows * heads_dim, type},
            {rows * d[2], DSC_FP32}, {rows * (d[2] + 2 * d[3]) * d[4], type}, {layout_elems(s), DSC_INT32},
            {mask_elems(s), DSC_FP32});
        break;
    case DSC_K_ATTENTION_PART_FWD:
        SET({rows * (d[2] + 2 * d[3]) * d[4], type}, {d[0] * d[5] * 2 * d[3] * d[4], type}, {rows * heads_dim, type},
            {rows * d[2], DSC_FP32});
        break;
    case DSC_K_ATTENTION_PART_BWD:
        SET({rows * heads_dim, type}, {rows * (d[2] + 2 * d[3]) * d[4], type},
            {d[0] * d[5] * 2 * d[3] * d[4], type}, {rows * heads_dim, type}, {rows * d[2], DSC_FP32},
            {rows * (d[2] + 2 * d[3]) * d[4], type}, {d[0] * d[5] * 2 * d[3] * d[4], type});
        break;
    case DSC_K_SCORES_FWD:
        SET({rows * (d[2] + 2 * d[3]) * d[4], type}, {rows * heads_dim, type}, {rows * d[2] * d[1], type});
        break;
    case DSC_K_SCORES_BWD:
        SET({rows * heads_dim, type}, {rows * (d[2] + 2 * d[3]) * d[4], type}, {rows * d[2] * d[1], type},
            {rows * (d[2] + 2 * d[3]) * d[4], type});
        break;
    default: break;
    }
}

static void count_blocks(const dsc_shape *s, extent e[DSC_KERNEL_OPERANDS])
{
    const int type = s->type;

    switch ((dsc_kernel)s->kernel) {
    case DSC_K_BLOCK_SDD:
        SET({dense_elems(s), type}, {dense_elems(s), type}, {layout_elems(s), DSC_INT32}, {block_elems(s), type});
        break;
    case DSC_K_BLOCK_DSD:
        SET({block_elems(s), type}, {dense_elems(s), type}, {layout_elems(s), DSC_INT32}, {dense_elems(s), type});
        break;
    case DSC_K_BLOCK_DDS:
        SET({dense_elems(s), type}, {block_elems(s), type}, {layout_elems(s), DSC_INT32}, {dense_elems(s), type});
        break;
    case DSC_K_BLOCK_SOFTMAX_FWD:
        SET({block_elems(s), type}, {block_elems(s), type}, {layout_elems(s), DSC_INT32}, {mask_elems(s), DSC_FP32});
        break;
    case DSC_K_BLOCK_SOFTMAX_BWD:
        SET({block_elems(s), type}, {block_elems(s), type}, {layout_elems(s), DSC_INT32}, {block_elems(s), type});
        break;
    default: break;
    }
}

/* Of elements in a row, tensor by tensor. */
static void count_lamb(const dsc_shape *s, extent e[DSC_KERNEL_OPERANDS])
{
    const int64_t *d = s->d, held = d[1] * DSC_HELD_ELEMS;
    const int state = state_type(s), gradient = s->flags & DSC_FROZEN ? state : s->out;

    switch ((dsc_kernel)s->kernel) {
    case DSC_K_LAMB_NORMS:
        SET({d[0], gradient}, {d[0], state}, {d[0], state}, {d[0], state}, {d[0], state}, {held, DSC_INT64},
            {d[1] * LAMB_SUMS, DSC_FP64});
        break;
    case DSC_K_LAMB_TRUST:
        SET({d[0] * d[1] * LAMB_SUMS, DSC_FP64}, {d[0] * LAMB_STATE, state}, {d[0], state});
        break;
    case DSC_K_LAMB_STEP:
        SET({d[0], state}, {d[0], state}, {held, DSC_INT64}, {d[1], state}, {d[0], state},
            {s->type == state ? 0 : d[0], s->type});
        break;
    default: break;
    }
}

/* Of elements in a row: no operand has the product of dimensions, which may be too large for any. */
static void count_flat(const dsc_shape *s, extent e[DSC_KERNEL_OPERANDS])
{
    const int64_t *d = s->d;
    const int type = s->type, out = s->out;

    switch ((dsc_kernel)s->kernel) {
    case DSC_K_GELU_FWD: SET({d[0], type}, {d[0], type}); break;
    case DSC_K_GELU_BWD:
    case DSC_K_SWIGLU_FWD: SET({d[0], type}, {d[0], type}, {d[0], type}); break;
    case DSC_K_SWIGLU_BWD: SET({d[0], type}, {d[0], type}, {d[0], type}, {d[0], type}, {d[0], type}); break;
    case DSC_K_SQUARE_SUM: SET({d[0], out}, {2, DSC_FP64}); break;
    case DSC_K_CLEAR: SET({d[0], type}); break;
    case DSC_K_ADAM:
        SET({s->flags & DSC_FROZEN ? 0 : d[0], out}, {d[0], state_type(s)}, {d[0], state_type(s)},
            {d[0], state_type(s)}, {type == state_type(s) ? 0 : d[0], type});
        break;
    case DSC_K_CAST: SET({s->flags & DSC_SHARD ? d[1] * d[0] : d[0], type}, {d[0], out}); break;
    case DSC_K_MOMENTUM: SET({d[0], type}, {d[0], state_type(s)}); break;
    case DSC_K_DRIFT: SET({d[0], DSC_FP32}, {d[0], DSC_FP32}, {d[0], DSC_FP32}, {d[0], DSC_FP32}); break;
    case DSC_K_REJOIN:
        SET({d[0], DSC_FP32}, {d[0], DSC_FP32}, {d[0], DSC_FP32}, {d[0], DSC_FP32},
            {type == DSC_FP32 ? 0 : d[0], type});
        break;
    case DSC_K_SIGN_COMPRESS:
        SET({d[0], type}, {dsc_units_elems(d[3]), DSC_INT64}, {d[1], out},
            {packets_bytes(s, d[1], d[2], d[3]), DSC_UINT8});
        break;
    case DSC_K_SIGN_AVERAGE:
        SET({packets_bytes(s, d[0], d[1], d[2]), DSC_UINT8}, {dsc_units_elems(d[2]), DSC_INT64}, {d[0] / d[1], out},
            {packets_bytes(s, d[0], d[1], d[2]) / d[1], DSC_UINT8});
        break;
    case DSC_K_SIGN_EXPAND:
        SET({d[4] * packets_bytes(s, d[1], d[2], d[3]), DSC_UINT8}, {d[4] * dsc_units_elems(d[3]), DSC_INT64},
            {d[0], out});
        break;
    default: break;
    }
}

/* Of what a product adds to its result. */
static int added_type(const dsc_shape *s) { return s->type == DSC_FP8 ? s->out : s->type; }

/* Of rows and columns. */
static void count_rows(const dsc_shape *s, extent e[DSC_KERNEL_OPERANDS])
{
    const int64_t *d = s->d, norm = d[0] * d[1];
    const int64_t positions = s->flags & DSC_NO_POSITIONS ? 0 : s->flags & DSC_SHARD ? d[5] : d[1];
    const int type = s->type, out = s->out;

    switch ((dsc_kernel)s->kernel) {
    case DSC_K_GEMM:
        SET({d[0] * d[2], type}, {d[2] * d[1], type}, {s->flags & DSC_HAS_BIAS ? d[1] : 0, added_type(s)},
            {s->flags & DSC_HAS_RESIDUAL ? norm : 0, added_type(s)}, {norm, out});
        break;
    case DSC_K_NORM_FWD:
        SET({norm, type}, {d[1], type}, {s->flags & DSC_RMS ? 0 : d[1], type}, {norm, type}, {2 * d[0], DSC_FP32});
        break;
    case DSC_K_NORM_BWD_X:
        SET({norm, type}, {norm, type}, {2 * d[0], DSC_FP32}, {d[1], type},
            {s->flags & DSC_HAS_RESIDUAL ? norm : 0, type}, {norm, type});
        break;
    case DSC_K_NORM_BWD_W:
        SET({norm, type}, {norm, type}, {2 * d[0], DSC_FP32}, {d[1], out}, {s->flags & DSC_RMS ? 0 : d[1], out});
        break;
    case DSC_K_ROPE: SET({norm * (d[2] + 2 * d[3]) * d[4], type}); break;
    case DSC_K_KEYS_PACK:
        SET({d[0] * (d[1] + 2 * d[2]) * d[3], type}, {d[0] * 2 * d[2] * d[3], type});
        break;
    case DSC_K_KEYS_UNPACK:
        SET({d[0] * 2 * d[2] * d[3], type}, {d[0] * (d[1] + 2 * d[2]) * d[3], type});
        break;
    case DSC_K_JOIN:
        SET({norm, type}, {s->flags & DSC_HAS_BIAS ? d[1] : 0, type}, {s->flags & DSC_HAS_RESIDUAL ? norm : 0, type},
            {norm, type});
        break;
    case DSC_K_COLUMN_SUM: SET({norm, type}, {d[1], out}); break;
    case DSC_K_EMBED_FWD:
        SET({d[0] * (d[1] + 1), DSC_INT32}, {d[3] * d[2], type}, {positions * d[2], type}, {norm * d[2], type});
        break;
    case DSC_K_EMBED_BWD:
        SET({d[0] * (d[1] + 1), DSC_INT32}, {norm * d[2], type}, {d[3] * d[2], out}, {positions * d[2], out});
        break;
    case DSC_K_CROSS_ENTROPY: SET({d[0] * (d[1] + 1), DSC_INT32}, {norm * d[3], type}, {1, DSC_FP64}); break;
    case DSC_K_CROSS_ENTROPY_PART:
        SET({d[0] * (d[1] + 1), DSC_INT32}, {norm * d[3], type}, {norm * 3, DSC_FP32});
        break;
    case DSC_K_CROSS_ENTROPY_JOIN:
        SET({d[0] * (d[1] + 1), DSC_INT32}, {d[5] * norm * 3, DSC_FP32}, {norm * d[3], type}, {1, DSC_FP64});
        break;
    case DSC_K_LOAD: SET({d[0] * (d[1] + 1), DSC_INT32}); break;
    default: break;
    }
}
#undef SET

/* No element where a kernel has no such operand, or does without. */
static void count_extents(const dsc_shape *s, extent e[DSC_KERNEL_OPERANDS])
{
    memset(e, 0, DSC_KERNEL_OPERANDS * sizeof *e);
    if (is_attention(s->kernel)) count_attention(s, e);
    else if (is_block(s->kernel)) count_blocks(s, e);
    else if (is_lamb(s->kernel)) count_lamb(s, e);
    else if (is_flat(s->kernel)) count_flat(s, e);
    else count_rows(s, e);
}

int64_t dsc_operand_bytes(const dsc_shape *shape, int operand)
{
    extent e[DSC_KERNEL_OPERANDS];

    count_extents(shape, e);
    return e[operand].elems * dsc_dtype_bytes((dsc_dtype)e[operand].type);
}

bool dsc_operand_present(const dsc_shape *shape, int operand) { return dsc_operand_bytes(shape, operand) > 0; }

/* dwte, and a momentum, are updated unless DSC_FIRST says to write them; others are written unless told to add. */
static bool is_embedding_gradient(const dsc_shape *shape, int operand)
{
    return shape->kernel == DSC_K_EMBED_BWD && operand == 2;
}

static bool is_momentum(const dsc_shape *shape, int operand)
{
    return shape->kernel == DSC_K_MOMENTUM && operand == 1;
}

/* What a frozen update only reads, of the moments; and of a variance that goes on beside a frozen one. */
static bool is_frozen(const dsc_shape *shape, int operand)
{
    const bool is_moment = shape->kernel == DSC_K_ADAM && (operand == 2 || operand == 3);

    return shape->flags & DSC_FROZEN && (is_moment || (shape->kernel == DSC_K_LAMB_NORMS && operand == 3));
}

static bool is_fresh(const dsc_shape *shape, int operand)
{
    return shape->kernel == DSC_K_LAMB_NORMS && operand == 4;
}

bool dsc_operand_is_read(const dsc_shape *shape, int operand)
{
    const char mode = kernels[shape->kernel].modes[operand];

    if (is_fresh(shape, operand)) return shape->flags & DSC_FROZEN;
    if (is_embedding_gradient(shape, operand) || is_momentum(shape, operand)) return !(shape->flags & DSC_FIRST);
    return mode != 'w' || (shape->flags & DSC_ACCUMULATE);
}

bool dsc_operand_is_written(const dsc_shape *shape, int operand)
{
    if (is_frozen(shape, operand)) return false;
    return kernels[shape->kernel].modes[operand] != 'r';
}

/* ---- Costs */

/* Over all heads. Of a causal layout the blocks on the diagonal, one a row, are half computed. */
static int64_t sparse_pairs(const dsc_shape *shape)
{
    const int64_t side = shape->d[6], rows = shape->d[2] * dsc_ceil_div(shape->d[1], side);
    const int64_t halves = shape->flags & DSC_CAUSAL ? DSC_MIN(rows, shape->d[5]) : 0;

    return shape->d[5] * side * side - halves * (side * (side - 1) / 2);
}

/* Of one product of queries with keys (or of probabilities with values), over the pairs that are computed. */
static int64_t attention_product_flops(const dsc_shape *shape)
{
    const int64_t t = shape->d[1], keys = is_part(shape->kernel) ? shape->d[5] : t;
    const int64_t pairs = shape->flags & DSC_CAUSAL ? t * (keys + 1) / 2 : t * keys;

    if (shape->flags & DSC_HAS_LAYOUT) return 2 * sparse_pairs(shape) * shape->d[0] * shape->d[4];
    return 2 * pairs * shape->d[0] * shape->d[2] * shape->d[4];
}

int64_t dsc_kernel_flops(const dsc_shape *shape)
{
    const int64_t *d = shape->d;

    /* Products are exact; the others are memory-bound, their few operations an element counted to the nearest few. */
    switch ((dsc_kernel)shape->kernel) {
    case DSC_K_GEMM: return 2 * d[0] * d[1] * d[2];
    case DSC_K_NORM_FWD: return 8 * d[0] * d[1];
    case DSC_K_NORM_BWD_X: return 12 * d[0] * d[1];
    case DSC_K_NORM_BWD_W: return 5 * d[0] * d[1];
    case DSC_K_ATTENTION_FWD:
    case DSC_K_ATTENTION_PART_FWD:
    case DSC_K_SCORES_FWD: return 2 * attention_product_flops(shape);
    case DSC_K_ATTENTION_PART_BWD:
    case DSC_K_ATTENTION_BWD: return 5 * attention_product_flops(shape);
    case DSC_K_SCORES_BWD: return 4 * attention_product_flops(shape);
    case DSC_K_BLOCK_SDD:
    case DSC_K_BLOCK_DSD:
    case DSC_K_BLOCK_DDS: return 2 * block_elems(shape) * d[3];
    case DSC_K_BLOCK_SOFTMAX_FWD: return 20 * block_elems(shape);
    case DSC_K_BLOCK_SOFTMAX_BWD: return 5 * block_elems(shape);
    case DSC_K_GELU_FWD: return 20 * d[0];
    case DSC_K_GELU_BWD: return 30 * d[0];
    case DSC_K_ROPE: return 3 * d[0] * d[1] * (d[2] + d[3]) * d[4]; /* six a pair */
    case DSC_K_SWIGLU_FWD: return 15 * d[0];
    case DSC_K_SWIGLU_BWD: return 20 * d[0];
    case DSC_K_JOIN: return 2 * d[0] * d[1];
    case DSC_K_COLUMN_SUM: return d[0] * d[1];
    case DSC_K_EMBED_FWD: return d[0] * d[1] * d[2];
    case DSC_K_EMBED_BWD: return 2 * d[0] * d[1] * d[2];
    case DSC_K_CROSS_ENTROPY: return 20 * d[0] * d[1] * d[2];
    case DSC_K_CROSS_ENTROPY_PART:
    case DSC_K_CROSS_ENTROPY_JOIN: return 10 * d[0] * d[1] * DSC_MIN(d[2], d[4]);
    case DSC_K_SQUARE_SUM: return 2 * d[0];
    case DSC_K_ADAM: return (shape->flags & DSC_FROZEN ? 7 : 14) * d[0];
    case DSC_K_MOMENTUM: return (shape->flags & DSC_FIRST ? 1 : 4) * d[0];
    case DSC_K_DRIFT: return 4 * d[0];
    case DSC_K_REJOIN: return 5 * d[0];
    case DSC_K_LAMB_NORMS: return (shape->flags & DSC_FROZEN ? 24 : 20) * d[0];
    case DSC_K_LAMB_TRUST: return (10 + 4 * d[1]) * d[0];
    case DSC_K_LAMB_STEP: return 8 * d[0];
    case DSC_K_SIGN_COMPRESS: return 6 * d[1];
    case DSC_K_SIGN_AVERAGE: return (2 * d[1] + 5) * (d[0] / d[1]);
    case DSC_K_SIGN_EXPAND: return d[0];
    case DSC_K_KEYS_PACK:
    case DSC_K_KEYS_UNPACK:
    case DSC_K_CLEAR:
    case DSC_K_CAST:
    case DSC_K_LOAD:
    case DSC_KERNEL_COUNT: break;
    }
    return 0;
}

/* Columns of q, k and v that a kernel touches of all that a row has: 1 where it is all. */
static double touched_share(const dsc_shape *shape, int operand)
{
    char name[32];
    const bool is_keys = shape->kernel == DSC_K_KEYS_PACK || shape->kernel == DSC_K_KEYS_UNPACK;
    const int64_t *heads = shape->d + (is_keys ? 1 : 2);
    const double all = (double)(heads[0] + 2 * heads[1]);

    if (!is_keys && !is_part(shape->kernel)) return 1;
    if (strstr(dsc_kernel_operand_name((dsc_kernel)shape->kernel, operand, name), "qkv") == NULL) return 1;
    return is_keys ? (double)(2 * heads[1]) / all : (double)heads[0] / all;
}

int64_t dsc_loss_steps(const dsc_shape *shape)
{
    if (!(shape->flags & DSC_APART)) return 0;
    return shape->kernel == DSC_K_CROSS_ENTROPY_JOIN ? 3 : 2;
}

static int64_t loss_step_elems(const dsc_shape *shape) { return shape->d[0] * shape->d[1] * shape->d[3]; }

float *dsc_loss_step(const dsc_shape *shape, void *workspace, int64_t index)
{
    return (float *)(dsc_loss_rows(workspace) + shape->d[0] * shape->d[1]) + index * loss_step_elems(shape);
}

static int64_t loss_steps_bytes(const dsc_shape *shape)
{
    return dsc_loss_steps(shape) * loss_step_elems(shape) * (int64_t)sizeof(float);
}

int64_t dsc_kernel_bytes(const dsc_shape *shape)
{
    const int64_t *d = shape->d;
    int64_t bytes = 2 * loss_steps_bytes(shape); /* written once, read once */

    for (int i = 0; i < dsc_kernel_operands((dsc_kernel)shape->kernel); i++) {
        const int64_t passes = dsc_operand_is_read(shape, i) + dsc_operand_is_written(shape, i);
        int64_t operand_bytes = dsc_operand_bytes(shape, i);

        /* Of the token table only the rows of the tokens are touched, unless it is written whole. */
        if (shape->kernel == DSC_K_EMBED_FWD && i == 1)
            operand_bytes = operand_bytes / d[3] * DSC_MIN(d[3], d[0] * d[1]);
        if (is_embedding_gradient(shape, i) && !(shape->flags & DSC_FIRST))
            operand_bytes = operand_bytes / d[3] * DSC_MIN(d[3], d[0] * d[1]);
        if (shape->kernel == DSC_K_CAST && shape->flags & DSC_SHARD && i == 0) operand_bytes /= d[1];
        if (shape->kernel == DSC_K_ROPE) operand_bytes = operand_bytes / (d[2] + 2 * d[3]) * (d[2] + d[3]);
        operand_bytes = (int64_t)((double)operand_bytes * touched_share(shape, i));
        bytes += passes * operand_bytes;
    }
    return bytes;
}

/* Libraries pack blocks of the operands for each thread, up to about 1.3 MiB: the operands in fp32 and some pages are
 * enough for a few threads on small shapes, 16 MiB for a dozen on any. Whoever wants more uses fewer threads or
 * another way. */
static int64_t gemm_workspace(const int64_t *d)
{
    enum { PAGES = 64 << 10, MOST = 16 << 20 };
    const int64_t m = DSC_MIN(d[0], MOST), n = DSC_MIN(d[1], MOST), k = DSC_MIN(d[2], MOST);

    return DSC_MIN(MOST, PAGES + 4 * dsc_round_up(m * k + k * n + m * n, 16));
}

int64_t dsc_attention_unit_floats(const int64_t d[DSC_KERNEL_DIMS])
{
    const int64_t rows = d[2] / d[3] * d[1];

    return dsc_round_up(rows * (dsc_round_up(d[4], 16) + 1), 16);
}

int64_t dsc_attention_units(const int64_t d[DSC_KERNEL_DIMS]) { return DSC_MIN(d[0] * d[3], DSC_ATTENTION_UNITS); }

int64_t dsc_row_chunks(int64_t rows, int64_t cols)
{
    enum { LEAST_ROWS = 32, MOST_ELEMS = 384 << 10 }; /* of a part; of all parts' sums, where they are many */

    return DSC_MAX(1, DSC_MIN(dsc_ceil_div(rows, LEAST_ROWS), MOST_ELEMS / cols));
}

/* One value of each query: the product of context and its gradient. */
static int64_t query_floats(const int64_t *d) { return d[0] * d[1] * d[2]; }

int64_t dsc_kernel_workspace_bytes(const dsc_shape *shape)
{
    enum { FLOAT = sizeof(float), DOUBLE = sizeof(double) };
    const int64_t *d = shape->d, sums = DSC_SUM_CHUNKS * 2 * DOUBLE;

    switch ((dsc_kernel)shape->kernel) {
    case DSC_K_GEMM: return gemm_workspace(d);
    case DSC_K_ATTENTION_BWD:
        return FLOAT * DSC_MAX(query_floats(d), dsc_attention_units(d) * dsc_attention_unit_floats(d));
    case DSC_K_SCORES_BWD: return FLOAT * query_floats(d);
    case DSC_K_NORM_BWD_W: return 2 * FLOAT * dsc_row_chunks(d[0], d[1]) * d[1];
    case DSC_K_COLUMN_SUM: return FLOAT * dsc_row_chunks(d[0], d[1]) * d[1];
    case DSC_K_CROSS_ENTROPY:
    case DSC_K_CROSS_ENTROPY_JOIN: return sums + loss_steps_bytes(shape) + DOUBLE * d[0] * d[1];
    case DSC_K_SIGN_COMPRESS:
    case DSC_K_SIGN_AVERAGE: return DSC_MAX(sums, DOUBLE * DSC_SUM_CHUNKS * sign_dims(shape)[2]);
    case DSC_K_SQUARE_SUM: return DSC_DEVICE_CHUNKS * 2 * DOUBLE;
    case DSC_K_LAMB_NORMS: return (d[1] + 1) * DSC_SUM_CHUNKS * LAMB_SUMS * DOUBLE;
    default: return 0;
    }
}

/* ---- For people */

void dsc_shape_print(const dsc_shape *shape, char *out, int size)
{
    static const struct { int flag; const char *text; } flags[] = {
        {DSC_TRANS_A, " tA"},       {DSC_TRANS_B, " tB"},        {DSC_ACCUMULATE, " +="},
        {DSC_CAUSAL, " causal"},    {DSC_RMS, " rms"},           {DSC_DECOUPLED, " decoupled"},
        {DSC_FIRST, " first"},      {DSC_HAS_BIAS, " bias"},     {DSC_HAS_RESIDUAL, " residual"},
        {DSC_SHARD, " shard"},      {DSC_HAS_LAYOUT, " layout"}, {DSC_HAS_MASK, " mask"},
        {DSC_FROZEN, " frozen"},    {DSC_COUNT_PADDING, " padding"},
        {DSC_SCALED, " scaled"},     {DSC_INVERSE, " inverse"},  {DSC_NO_POSITIONS, " no positions"},
        {DSC_APART, " apart"},
    };
    char text[256];
    int at = snprintf(text, sizeof text, "%s %s", kernels[shape->kernel].name, dtypes[shape->type].name);

    if (shape->out != shape->type) at += snprintf(text + at, sizeof text - (size_t)at, ">%s", dtypes[shape->out].name);
    for (int i = 0; i < DSC_KERNEL_DIMS && shape->d[i] != 0; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%c%lld", i == 0 ? ' ' : 'x', (long long)shape->d[i]);
    for (int i = 0; i < DSC_COUNT(flags); i++)
        if (shape->flags & flags[i].flag) at += snprintf(text + at, sizeof text - (size_t)at, "%s", flags[i].text);
    snprintf(out, (size_t)size, "%s", text);
}

/* ---- Checking */

static bool is_embedding(int kernel) { return kernel == DSC_K_EMBED_FWD || kernel == DSC_K_EMBED_BWD; }

static const char *const dim_names[DSC_KERNEL_COUNT] = {
    [DSC_K_GEMM] = "m n k",
    [DSC_K_NORM_FWD] = "rows cols",
    [DSC_K_NORM_BWD_X] = "rows cols",
    [DSC_K_NORM_BWD_W] = "rows cols",
    [DSC_K_ATTENTION_FWD] = "B T H Hkv D",
    [DSC_K_ATTENTION_BWD] = "B T H Hkv D",
    [DSC_K_ATTENTION_PART_FWD] = "B T H Hkv D S",
    [DSC_K_ATTENTION_PART_BWD] = "B T H Hkv D S",
    [DSC_K_SCORES_FWD] = "B T H Hkv D",
    [DSC_K_SCORES_BWD] = "B T H Hkv D",
    [DSC_K_ROPE] = "B T H Hkv D theta",
    [DSC_K_BLOCK_SDD] = "B T H D present block",
    [DSC_K_BLOCK_DSD] = "B T H D present block",
    [DSC_K_BLOCK_DDS] = "B T H D present block",
    [DSC_K_BLOCK_SOFTMAX_FWD] = "B T H D present block",
    [DSC_K_BLOCK_SOFTMAX_BWD] = "B T H D present block",
    [DSC_K_GELU_FWD] = "n",
    [DSC_K_GELU_BWD] = "n",
    [DSC_K_SWIGLU_FWD] = "n",
    [DSC_K_SWIGLU_BWD] = "n",
    [DSC_K_KEYS_PACK] = "rows H Hkv D",
    [DSC_K_KEYS_UNPACK] = "rows H Hkv D",
    [DSC_K_JOIN] = "rows cols",
    [DSC_K_COLUMN_SUM] = "rows cols",
    [DSC_K_EMBED_FWD] = "B T C V",
    [DSC_K_EMBED_BWD] = "B T C V",
    [DSC_K_CROSS_ENTROPY] = "B T V stride",
    [DSC_K_CROSS_ENTROPY_PART] = "B T V stride n",
    [DSC_K_CROSS_ENTROPY_JOIN] = "B T V stride n t",
    [DSC_K_SQUARE_SUM] = "n",
    [DSC_K_CLEAR] = "n",
    [DSC_K_ADAM] = "n",
    [DSC_K_CAST] = "n",
    [DSC_K_MOMENTUM] = "n N",
    [DSC_K_DRIFT] = "n",
    [DSC_K_REJOIN] = "n",
    [DSC_K_LAMB_NORMS] = "n tensors",
    [DSC_K_LAMB_TRUST] = "tensors t",
    [DSC_K_LAMB_STEP] = "n tensors",
    [DSC_K_SIGN_COMPRESS] = "n packed N units",
    [DSC_K_SIGN_AVERAGE] = "packed N units",
    [DSC_K_SIGN_EXPAND] = "n packed N units L",
    [DSC_K_LOAD] = "B T",
};

static const char *dim_names_of(const dsc_shape *shape)
{
    if (shape->flags & DSC_SHARD && is_embedding(shape->kernel))
        return shape->flags & DSC_NO_POSITIONS ? "B T C V n" : "B T C V n P";
    if (is_attention(shape->kernel) && has_layout(shape)) return "B T H Hkv D present block";
    if (shape->flags & DSC_SHARD && shape->kernel == DSC_K_CAST) return "n t";
    return dim_names[shape->kernel];
}

static int count_words(const char *words)
{
    int count = 1;

    for (; *words != '\0'; words++) count += *words == ' ';
    return count;
}

static const char *find_word(const char *words, int index)
{
    for (; index > 0; index--) words = strchr(words, ' ') + 1;
    return words;
}

/* Packets and lists of small units are more than their elements. */
static double sign_volume(const dsc_shape *shape)
{
    const int64_t *d = sign_dims(shape);
    const double lists = shape->kernel == DSC_K_SIGN_EXPAND ? (double)d[3] : 1;

    return lists * (4 * DSC_MAX((double)shape->d[0], (double)d[0]) + 2 * (double)d[1] * (double)d[2]);
}

/* Elements, lists and sums, of all tensor ranks. */
static double lamb_volume(const dsc_shape *shape)
{
    const double d0 = (double)shape->d[0], d1 = (double)shape->d[1];

    return shape->kernel == DSC_K_LAMB_TRUST ? LAMB_SUMS * d0 * d1 : d0 + DSC_HELD_ELEMS * d1 + LAMB_SUMS * d1;
}

/* Bounds every operand and all arithmetic, so that no product in this file leaves 63 bits. What only says how shards
 * are cut is at most another factor (check_shards) and none itself: a product of all would refuse large models. */
static double volume_of(const dsc_shape *shape)
{
    const int64_t *d = shape->d;
    const double steps = shape->flags & DSC_APART ? 2 : 1; /* with which bytes an element are up to 32, not 16 */
    double volume = is_part(shape->kernel) ? (double)d[5] : is_attention(shape->kernel) ? (double)d[1] : steps;

    if (shape->flags & DSC_SHARD && is_embedding(shape->kernel))
        return (double)d[0] * (double)DSC_MAX(d[1], d[5]) * (double)d[2] * (double)d[3];
    if (is_block(shape->kernel)) /* dense or sparse operands, whichever are larger */
        return (double)d[0] * (double)d[3] *
               DSC_MAX((double)d[1] * (double)d[2], (double)d[4] * (double)d[5] * (double)d[5]);
    if (is_sign(shape->kernel)) return sign_volume(shape);
    if (is_lamb(shape->kernel)) return lamb_volume(shape);
    if (shape->kernel == DSC_K_MOMENTUM) return (double)d[0];
    if (shape->kernel == DSC_K_CROSS_ENTROPY_PART) return (double)d[0] * (double)d[1] * (double)d[3];
    if (shape->kernel == DSC_K_CROSS_ENTROPY_JOIN)
        return steps * (double)d[0] * (double)d[1] * (double)d[3] * (double)d[5];
    const bool has_heads = is_attention(shape->kernel) || shape->kernel == DSC_K_ROPE;
    for (int i = 0; i < (has_heads ? 5 : DSC_KERNEL_DIMS) && d[i] != 0; i++) volume *= (double)d[i];
    return volume;
}

static dsc_status check_dims(const dsc_shape *shape)
{
    const char *name = kernels[shape->kernel].name, *words = dim_names_of(shape);
    const int count = count_words(words);

    for (int i = 0; i < DSC_KERNEL_DIMS; i++) {
        if (i >= count && shape->d[i] != 0)
            return DSC_FAIL(DSC_EINVAL, "%s: dimension %d is %lld, but there are %d", name, i, (long long)shape->d[i],
                            count);
        if (i >= count) continue;
        const char *word = find_word(words, i);
        if (shape->d[i] <= 0)
            return DSC_FAIL(DSC_EINVAL, "%s: %.*s is %lld, must be positive", name, (int)strcspn(word, " "), word,
                            (long long)shape->d[i]);
    }
    if (volume_of(shape) > 0x1p58)
        return DSC_FAIL(DSC_EINVAL, "%s: the dimensions' product %.3g exceeds 2^58", name, volume_of(shape));
    return DSC_OK;
}

/* What a rank owns must have room in what it holds, and every token an owner. */
static dsc_status check_shards(const dsc_shape *shape)
{
    const int64_t *d = shape->d;
    const bool is_join = shape->kernel == DSC_K_CROSS_ENTROPY_JOIN;
    const bool is_loss = is_join || shape->kernel == DSC_K_CROSS_ENTROPY_PART;
    const char *name = kernels[shape->kernel].name, *holds = is_loss ? "stride" : "V";
    const bool is_shard = is_loss || (shape->flags & DSC_SHARD && is_embedding(shape->kernel));

    if (is_shard && d[4] > d[3])
        return DSC_FAIL(DSC_EINVAL, "%s: %s %lld is below n %lld", name, holds, (long long)d[3], (long long)d[4]);
    if (is_join && d[5] * d[4] < d[2])
        return DSC_FAIL(DSC_EINVAL, "%s: t %lld ranks of n %lld own less than V %lld", name, (long long)d[5],
                        (long long)d[4], (long long)d[2]);
    return DSC_OK;
}

static bool may_be_frozen(int kernel)
{
    return kernel == DSC_K_ADAM || kernel == DSC_K_LAMB_NORMS || kernel == DSC_K_LAMB_TRUST;
}

/* The optional operands layout and mask are attention's, a mask that of the blocks' softmax too. */
static dsc_status check_optional(const dsc_shape *shape)
{
    const bool attends = shape->kernel == DSC_K_ATTENTION_FWD || shape->kernel == DSC_K_ATTENTION_BWD;

    if (shape->flags & DSC_HAS_LAYOUT && !attends)
        return DSC_FAIL(DSC_EINVAL, "%s has no operand layout", kernels[shape->kernel].name);
    if (shape->flags & DSC_HAS_MASK && !attends && shape->kernel != DSC_K_BLOCK_SOFTMAX_FWD)
        return DSC_FAIL(DSC_EINVAL, "%s has no operand mask", kernels[shape->kernel].name);
    if (shape->flags & DSC_FROZEN && !may_be_frozen(shape->kernel))
        return DSC_FAIL(DSC_EINVAL, "%s has no moments to be frozen", kernels[shape->kernel].name);
    if (shape->flags & DSC_SCALED && shape->kernel != DSC_K_MOMENTUM)
        return DSC_FAIL(DSC_EINVAL, "%s scales no gradient", kernels[shape->kernel].name);
    if (shape->flags & DSC_INVERSE && shape->kernel != DSC_K_ROPE)
        return DSC_FAIL(DSC_EINVAL, "%s turns nothing", kernels[shape->kernel].name);
    if (shape->flags & DSC_NO_POSITIONS && !is_embedding(shape->kernel))
        return DSC_FAIL(DSC_EINVAL, "%s has no operand wpe", kernels[shape->kernel].name);
    if (shape->flags & DSC_APART && shape->kernel != DSC_K_CROSS_ENTROPY && shape->kernel != DSC_K_CROSS_ENTROPY_JOIN)
        return DSC_FAIL(DSC_EINVAL, "%s has no steps to stand apart", kernels[shape->kernel].name);
    if (shape->flags & DSC_APART && shape->type != DSC_FP32)
        return DSC_FAIL(DSC_EINVAL, "%s: steps that stand apart are of fp32, the logits of %s",
                        kernels[shape->kernel].name, dsc_dtype_name((dsc_dtype)shape->type));
    if (shape->flags & DSC_COUNT_PADDING && (!is_sign(shape->kernel) || shape->kernel == DSC_K_SIGN_EXPAND))
        return DSC_FAIL(DSC_EINVAL, "%s counts no padding", kernels[shape->kernel].name);
    return DSC_OK;
}

/* Every unit is padded to whole bytes for each rank. */
static dsc_status check_packed(const dsc_shape *shape)
{
    const int64_t *d = sign_dims(shape), multiple = 8 * d[1];

    if (!is_sign(shape->kernel) || d[0] % multiple == 0) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s: packed is %lld, no multiple of 8 x N = %lld", kernels[shape->kernel].name,
                    (long long)d[0], (long long)multiple);
}

/* A block's side is what kernels have tiles for; lists are of int32. */
static dsc_status check_layout(const dsc_shape *shape)
{
    const int64_t *layout = layout_dims(shape), present = layout[0], side = layout[1];
    const int64_t heads = shape->d[2], most = INT32_MAX;
    const char *name = kernels[shape->kernel].name;

    if (!has_layout(shape)) return DSC_OK;
    const int64_t n = dsc_ceil_div(shape->d[1], side);
    if (side % DSC_BLOCK_UNIT != 0 || side > DSC_BLOCK_MOST)
        return DSC_FAIL(DSC_EINVAL, "%s: block is %lld, must be a multiple of %d up to %d", name, (long long)side,
                        DSC_BLOCK_UNIT, DSC_BLOCK_MOST);
    if (n > most / heads || present > most || (double)present > (double)heads * (double)n * (double)n)
        return DSC_FAIL(DSC_EINVAL, "%s: %lld present blocks of %lld heads with %lld x %lld, at most %lld can be", name,
                        (long long)present, (long long)heads, (long long)n, (long long)n, (long long)most);
    return DSC_OK;
}

static int32_t block_flags(int kernel)
{
    switch (kernel) {
    case DSC_K_BLOCK_DSD: return DSC_TRANS_A;
    case DSC_K_BLOCK_SDD:
    case DSC_K_BLOCK_DDS: return DSC_TRANS_B;
    case DSC_K_BLOCK_SOFTMAX_FWD: return DSC_CAUSAL | DSC_HAS_MASK;
    default: return 0;
    }
}

/* Callers of the products know them by their contract alone: what that does not have must not pass as if it had. */
static dsc_status check_block_flags(const dsc_shape *shape)
{
    const int32_t others = shape->flags & ~block_flags(shape->kernel);

    if (is_block(shape->kernel) && others != 0)
        return DSC_FAIL(DSC_EINVAL, "%s: the flags have %#x, which it does not know", kernels[shape->kernel].name,
                        (unsigned)others);
    return DSC_OK;
}

static bool is_float(int type) { return type == DSC_FP32 || type == DSC_BF16 || type == DSC_FP16; }

/* Compression's errors are sums over many steps: fp32, or, as the optimizer in the reference alone, fp64. */
static bool has_types(const dsc_shape *shape)
{
    const bool is_update = shape->kernel == DSC_K_ADAM || shape->kernel == DSC_K_MOMENTUM || is_lamb(shape->kernel);
    const bool may_be_wide = is_update || is_sign(shape->kernel) || shape->kernel == DSC_K_CLEAR;

    if (shape->kernel == DSC_K_LOAD) return true;
    if (may_be_wide && shape->type == DSC_FP64) return shape->out == DSC_FP64;
    if (is_sign(shape->kernel) && shape->out != DSC_FP32) return false;
    if (shape->kernel == DSC_K_GEMM && shape->type == DSC_FP8) return is_float(shape->out);
    if (shape->kernel == DSC_K_CAST && shape->out == DSC_FP8) return is_float(shape->type);
    return is_float(shape->type) && is_float(shape->out);
}

dsc_status dsc_shape_check(const dsc_shape *shape)
{
    const int64_t *d = shape->d;
    dsc_status status = DSC_OK;

    if (shape->kernel < 0 || shape->kernel >= DSC_KERNEL_COUNT)
        return DSC_FAIL(DSC_EINVAL, "kernel %d of %d does not exist", shape->kernel, DSC_KERNEL_COUNT);
    DSC_TRY(check_dims(shape));
    DSC_TRY(check_shards(shape));
    DSC_TRY(check_optional(shape));
    DSC_TRY(check_layout(shape));
    DSC_TRY(check_packed(shape));
    DSC_TRY(check_block_flags(shape));
    const char *name = kernels[shape->kernel].name;
    if (!has_types(shape))
        status = DSC_FAIL(DSC_EINVAL, "%s: types %d and %d must be fp32, bf16 or fp16", name, shape->type, shape->out);
    else if (shape->kernel == DSC_K_CROSS_ENTROPY && d[3] < d[2])
        status = DSC_FAIL(DSC_EINVAL, "%s: stride %lld is below V %lld", name, (long long)d[3], (long long)d[2]);
    else if (shape->kernel == DSC_K_BLOCK_SDD && d[3] > DSC_ATTENTION_MAX_D)
        status = DSC_FAIL(DSC_EINVAL, "%s: D is %lld, at most %d", name, (long long)d[3], DSC_ATTENTION_MAX_D);
    else if ((is_attention(shape->kernel) || shape->kernel == DSC_K_ROPE) && d[4] > DSC_ATTENTION_MAX_D)
        status = DSC_FAIL(DSC_EINVAL, "%s: D is %lld, at most %d", name, (long long)d[4], DSC_ATTENTION_MAX_D);
    else if (shape->kernel == DSC_K_ROPE && d[4] % 2 != 0)
        status = DSC_FAIL(DSC_EINVAL, "%s: D is %lld, must be even", name, (long long)d[4]);
    else if (is_attention(shape->kernel) && d[2] % d[3] != 0)
        status = DSC_FAIL(DSC_EINVAL, "%s: H %lld is no multiple of Hkv %lld", name, (long long)d[2], (long long)d[3]);
out:
    return status;
}
