/* The contracts of kernels: what each computes on which shapes, what it reads and writes, its flops, bytes and the
 * bound of its workspace. No implementation: the planner and the simulator know kernels by this table alone, the
 * executor finds implementations in kernels/ by the same numbers.
 *
 * All matrices are row major and dense. B batch, T sequence, C channels (hidden), H heads, D = C / H, V vocabulary.
 * `type` is the storage type of activations and weights (fp32, bf16, fp16); arithmetic and sums are fp32 or wider, and
 * results are rounded once when stored. `out` is the storage type of gradients where they accumulate. */
#ifndef DSC_KERNEL_KERNEL_H
#define DSC_KERNEL_KERNEL_H

#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum dsc_dtype {
    DSC_FP32, DSC_BF16, DSC_FP16, DSC_FP8, DSC_INT32, DSC_FP64, DSC_UINT8, DSC_INT64,
    DSC_DTYPE_COUNT
} dsc_dtype;
int64_t dsc_dtype_bytes(dsc_dtype type);     /* of one element. Pure. */
const char *dsc_dtype_name(dsc_dtype type);  /* "fp32", ... Pure. */

/* The table: name, operands, what it computes. An operand is `name:mode:extent`, mode r (read), w (written whole), u
 * (updated: read and written; with DSC_ACCUMULATE every w that says so below becomes u). Dimensions are d[0], d[1], ...
 *
 *  gemm            d = m, n, k. out[m,n] = op(a) * op(b) (+ bias[n]) (+ residual[m,n]) (+ out, DSC_ACCUMULATE).
 *                  op(a) is [m,k], stored [k,m] with DSC_TRANS_A; op(b) is [k,n], stored [n,k] with DSC_TRANS_B.
 *                  residual is not out: what out holds is added with DSC_ACCUMULATE.
 *                  Of type fp8 are a and b alone; bias and residual are then of type out.
 *  norm_fwd        d = rows, cols. LayerNorm (DSC_RMS: RMSNorm, no beta, no mean); epsilon 1e-5.
 *                  stats[rows,2] fp32: mean, 1/deviation.
 *  norm_bwd_x      dx = residual + gradient through the norm; residual may be absent, and may be dx itself.
 *  norm_bwd_w      dgamma, dbeta [cols] of type out; DSC_ACCUMULATE.
 *  attention_fwd   d = B, T, H, Hkv, D. qkv [B*T, (H + 2 Hkv) D] as q | k | v; context [B*T, H D];
 *                  lse [B, H, T] fp32, log of the sum of exponentials. scale 1/sqrt(D); DSC_CAUSAL.
 *                  DSC_HAS_LAYOUT: d = B, T, H, Hkv, D, present, block: of the scores only blocks of block x block are
 *                  computed that the list (kernel/blocks.h) has, at most `present` over all H; the last is cut off at
 *                  T. DSC_HAS_MASK: mask [B, T] fp32 is added to the scores of a key: minus infinity where there is
 *                  only padding. A query that sees no key has context 0, lse infinity and no gradient.
 *  attention_bwd   dqkv from dcontext; probabilities are recomputed from qkv and lse, rounded context is read.
 *  scores_fwd, scores_bwd   the same with the probabilities stored, [B, H, T, T] of type (attention dense-unfused).
 *  rope            d = B, T, H, Hkv, D, theta. Turns q and k of qkv by their position, in place (Su et al. 2021, in the
 *                  order of Hugging Face's LLaMA): of a head's elements i and i + D/2, at position t, by the angle
 *                  t * theta^(-2i/D). v stays. DSC_INVERSE turns back, which is the gradient's way.
 *  attention_part_fwd   d = B, T, H, Hkv, D, S. attention_fwd of T tokens of each sequence of S, whose keys and values
 *                  keys[S/T, B*T, 2 Hkv D] are there as k | v from all ranks that have a part; of qkv only q is read.
 *                  Under DSC_CAUSAL a rank has as many pairs as any other, half of T S and half of T.
 *  attention_part_bwd   the q of dqkv, and dkeys: parts of the gradients of keys, which all such ranks have to sum.
 *  keys_pack, keys_unpack   d = rows, H, Hkv, D. keys[rows, 2 Hkv D] = k | v of qkv[rows, (H + 2 Hkv) D]; and back,
 *                  which leaves q as it is. These four are planned, and no implementation exists.
 *  block_sdd       d = B, T, H, D, present, block, as of the next four too. blocks = a * op(b) where the list
 *                  (kernel/blocks.h) has a block. blocks [B, present, block, block] lie in the list's order: by head,
 *                  row, column. a is [B, H, T, D]; op(b) is [B, H, D, T], stored [B, H, T, D] with DSC_TRANS_B. The
 *                  last block is cut off at T. What of a block lies outside, and blocks past the list's last, are
 *                  written as zero and never read. D at most 1024.
 *  block_dsd       out[B, H, T, D] = op(blocks) * b[B, H, T, D]; op transposes with DSC_TRANS_A.
 *  block_dds       out[B, H, D, T] = a[B, H, D, T] * op(blocks); op transposes with DSC_TRANS_B.
 *  block_softmax_fwd   probabilities = softmax of each row of scores / sqrt(D) over its present blocks; DSC_CAUSAL and
 *                  DSC_HAS_MASK as in attention. A row that sees no key has probabilities 0. They may be the scores.
 *  block_softmax_bwd   dscores = p (dp - the row's sum of p dp) / sqrt(D), p the probabilities. dscores may be
 *                  dprobabilities.
 *  gelu_fwd, gelu_bwd       d = n. tanh GELU; du = dy * gelu'(u). y may be u; du may be dy or u.
 *  swiglu_fwd      d = n. y = u * silu(gate), silu(z) = z / (1 + exp(-z)) (Shazeer 2020). y may be u or gate.
 *  swiglu_bwd      du = dy * silu(gate), dgate = dy * u * silu'(gate); du may be dy or u, dgate gate.
 *  join            d = rows, cols. y = x (+ bias[cols]) (+ residual): ends a product that was summed over tensor ranks.
 *                  y may be x or the residual.
 *  column_sum      d = rows, cols. out[cols] = sum over rows (bias gradients); DSC_ACCUMULATE.
 *  embed_fwd       d = B, T, C, V. x[B*T,C] = wte[token] + wpe[position]. tokens [B, T + 1] int32: inputs are the
 *                  first T.
 *  embed_bwd       dwte[V,C] += dx by token, always; dwpe[T,C] written or, with DSC_ACCUMULATE, added to.
 *                  DSC_FIRST: dwte is written too (where no head wrote it before).
 *                  Both with DSC_SHARD: d = B, T, C, V, n, P. Of the vocabulary a tensor rank owns tokens
 *                  [index * n, (index + 1) * n), index = step->tp_index, in a table of V >= n rows; of the positions
 *                  [index * P, (index + 1) * P), in a table of P rows. What other ranks own counts as zero in x and is
 *                  not in dwte and dwpe; rows past the last token or position get no gradient.
 *                  Both with DSC_NO_POSITIONS: without wpe, or its gradient; d ends with V, or n.
 *  cross_entropy   d = B, T, V, row stride. logits [B*T, stride]: loss (fp64, one value; written, or DSC_ACCUMULATE)
 *                  is the sum over tokens of -log p(target); logits become their gradient (p - onehot) *
 *                  step->loss_gradient, columns past V become 0. Targets are the last T of each row of tokens.
 *  cross_entropy_part, cross_entropy_join   the same over tensor ranks, each with the logits of n tokens of V: column c
 *                  is real when c < n and tp_index * n + c < V. part: d = B, T, V, row stride, n. part[B*T, 3] fp32 of
 *                  the real columns: largest logit, sum of exponentials relative to it, target's logit (0 where another
 *                  rank owns it); without real columns -FLT_MAX, 0, 0. join: d = B, T, V, row stride, n, t. From the
 *                  parts[t, B*T, 3] of all ranks the loss, bit for bit the same on each; the real logits become their
 *                  gradient, all other columns 0.
 *                  cross_entropy and cross_entropy_join with DSC_APART, in fp32: in steps, as eager frameworks have it,
 *                  of which each is made for all rows before the next: log-probabilities, their gradient and, in
 *                  cross_entropy_join, that of the normalizer stand beside the logits in the workspace.
 *  square_sum      d = n. out[2] fp64: sum of squares of the finite values, number of non-finite ones;
 *                  DSC_ACCUMULATE.
 *                  The sum is taken over fixed chunks in a fixed order: no thread count changes its bits.
 *                  Other kernels pass non-finite values on, so that it meets every overflow.
 *  clear           d = n. out[n] of type: zeros; fp64 too.
 *  adam            d = n. param, exp_avg, exp_avg_sq fp32; gradient of type `out`; scalars from the step.
 *                  DSC_DECOUPLED: AdamW. DSC_FROZEN: gradient is absent, and the moments are as they are.
 *                  copy: param rounded to type, written when type is not fp32 (else absent).
 *                  In the reference alone all may be fp64, without a copy; so may momentum, LAMB and compression.
 *  cast            d = n. out[n] (type out) = in[n] (type) (+ out, DSC_ACCUMULATE: in fp32, rounded once).
 *                  DSC_SHARD: d = n, t. Of in[t, n] row step->tp_index alone.
 *  momentum        d = n, N. exp_avg = beta1 exp_avg + (1 - beta1) N gradient_scale gradient (of type `type`): what a
 *                  replica makes of its own share of a gradient that is the sum of N. DSC_FIRST: N gradient_scale
 *                  gradient alone, written. DSC_SCALED: the gradient is scaled already, as if both were 1.
 *  drift           d = n. exp_avg = (param - anchor) (sqrt(exp_avg_sq) + eps): the sum of rate times momentum that has
 *                  brought a replica's own steps so far from where all were. All of it fp32.
 *  rejoin          d = n. By exp_avg, which is the mean of such sums, all go on from one place: param = anchor +=
 *                  exp_avg / (sqrt(exp_avg_sq) + eps), exp_avg = - exp_avg / step->rates. copy as of adam.
 *  lamb_norms      d = n, tensors. Moments as adam's, and of each tensor (kernel/held.h) what its trust ratio is of
 *                  (You et al. 2020; Li et al. 2021): sums[tensors, 4] fp64, over what this rank holds of it, are the
 *                  squares of param, of u = u0 + weight_decay param, and of u0 = m / (sqrt(v) + eps), m and v corrected
 *                  for their bias; and 0. fresh = exp_avg_sq. The sums' bits depend on no number of threads.
 *                  DSC_FROZEN: gradient is the momentum that replicas have agreed on, of the type of exp_avg, which it
 *                  becomes. exp_avg_sq is as it is, but fresh moves as it would have, by the gradient that made the
 *                  momentum, (new - beta1 old) / (1 - beta1); the fourth is the largest (sqrt(exp_avg_sq) + eps) /
 *                  (sqrt(fresh) + eps), both corrected, of what is trained.
 *  lamb_trust      d = tensors, t. Of sums[t, tensors, 4] of t tensor ranks, which it adds up: trust[tensors] = c =
 *                  |param| / |u| within min_coeff .. max_coeff; 1 where either is 0. state[tensors, 2]: where c is not
 *                  1 its mean goes on, first = coeff_beta first + (1 - coeff_beta) c; second = 1, the last factor.
 *                  DSC_FROZEN: trust = first f, second = f, which is the largest of the fourths, with decay brought
 *                  nearer to 1 by what share decay has in u (f r + 1 - r, r = min(1, |u0| / |u|)), within factor_min ..
 *                  factor_max, and nearer to the last than a share of factor_threshold.
 *  lamb_step       d = n, tensors. param -= lr trust u, u as above, of each tensor; what is in none stays. copy as of
 *                  adam.
 *  sign_compress   d = n, packed, N, units (kernel/units.h). 1-bit compression with error feedback (Seide et al. 2014;
 *                  Tang et al. 2021, as DeepSpeed has it). For each unit v = x + error; scale = root mean square of v;
 *                  a bit is 1 where v is not negative, the first of a byte's elements its highest; error = v - scale *
 *                  sign(v). packets[N] get the bits of their chunks, and the scale. error[packed], scales of type out.
 *                  Padding does not count in the mean and has no error; with DSC_COUNT_PADDING it counts, as zeros,
 *                  and has one, as in the reference.
 *  sign_average    d = packed, N, units. Of the chunks that this rank serves, of each unit one: v = error + sum over
 *                  sent[N] packets of sign * scale / N, then as above: error[packed / N], one packet.
 *  sign_expand     d = n, packed, N, units, L. x[n] = sign * scale of the unit's chunk, from packets[L, N] of L lists
 *                  of units; 0 where no unit is, and in padding.
 *  load            d = B, T. tokens [B, T + 1] int32 from the token source; performed by the executor. */
#define DSC_KERNELS(K)                                                                                  \
    K(GEMM, gemm, "a b bias residual out", "rrrrw")                                                     \
    K(NORM_FWD, norm_fwd, "x gamma beta y stats", "rrrww")                                              \
    K(NORM_BWD_X, norm_bwd_x, "dy x stats gamma residual dx", "rrrrrw")                                 \
    K(NORM_BWD_W, norm_bwd_w, "dy x stats dgamma dbeta", "rrrww")                                       \
    K(ATTENTION_FWD, attention_fwd, "qkv context lse layout mask", "rwwrr")                             \
    K(ATTENTION_BWD, attention_bwd, "dcontext qkv context lse dqkv layout mask", "rrrrwrr")             \
    K(ATTENTION_PART_FWD, attention_part_fwd, "qkv keys context lse", "rrww")                           \
    K(ATTENTION_PART_BWD, attention_part_bwd, "dcontext qkv keys context lse dqkv dkeys", "rrrrrww")    \
    K(SCORES_FWD, scores_fwd, "qkv context probabilities", "rww")                                       \
    K(SCORES_BWD, scores_bwd, "dcontext qkv probabilities dqkv", "rrrw")                                \
    K(ROPE, rope, "qkv", "u")                                                                           \
    K(BLOCK_SDD, block_sdd, "a b layout blocks", "rrrw")                                                \
    K(BLOCK_DSD, block_dsd, "blocks b layout out", "rrrw")                                              \
    K(BLOCK_DDS, block_dds, "a blocks layout out", "rrrw")                                              \
    K(BLOCK_SOFTMAX_FWD, block_softmax_fwd, "scores probabilities layout mask", "rwrr")                 \
    K(BLOCK_SOFTMAX_BWD, block_softmax_bwd, "dprobabilities probabilities layout dscores", "rrrw")      \
    K(GELU_FWD, gelu_fwd, "u y", "rw")                                                                  \
    K(GELU_BWD, gelu_bwd, "dy u du", "rrw")                                                             \
    K(SWIGLU_FWD, swiglu_fwd, "u gate y", "rrw")                                                        \
    K(SWIGLU_BWD, swiglu_bwd, "dy u gate du dgate", "rrrww")                                            \
    K(KEYS_PACK, keys_pack, "qkv keys", "rw")                                                           \
    K(KEYS_UNPACK, keys_unpack, "keys qkv", "ru")                                                       \
    K(JOIN, join, "x bias residual y", "rrrw")                                                          \
    K(COLUMN_SUM, column_sum, "x out", "rw")                                                            \
    K(EMBED_FWD, embed_fwd, "tokens wte wpe x", "rrrw")                                                 \
    K(EMBED_BWD, embed_bwd, "tokens dx dwte dwpe", "rruw")                                              \
    K(CROSS_ENTROPY, cross_entropy, "tokens logits loss", "ruw")                                        \
    K(CROSS_ENTROPY_PART, cross_entropy_part, "tokens logits part", "rrw")                              \
    K(CROSS_ENTROPY_JOIN, cross_entropy_join, "tokens parts logits loss", "rruw")                       \
    K(SQUARE_SUM, square_sum, "x out", "rw")                                                            \
    K(CLEAR, clear, "out", "w")                                                                         \
    K(ADAM, adam, "gradient param exp_avg exp_avg_sq copy", "ruuuw")                                    \
    K(CAST, cast, "in out", "rw")                                                                       \
    K(MOMENTUM, momentum, "gradient exp_avg", "ru")                                                     \
    K(DRIFT, drift, "param anchor exp_avg_sq exp_avg", "rrrw")                                          \
    K(REJOIN, rejoin, "exp_avg exp_avg_sq anchor param copy", "uruww")                                  \
    K(LAMB_NORMS, lamb_norms, "gradient param exp_avg exp_avg_sq fresh held sums", "rruuwrw")           \
    K(LAMB_TRUST, lamb_trust, "sums state trust", "ruw")                                                \
    K(LAMB_STEP, lamb_step, "exp_avg exp_avg_sq held trust param copy", "rrrruw")                       \
    K(SIGN_COMPRESS, sign_compress, "x units error packets", "rruw")                                    \
    K(SIGN_AVERAGE, sign_average, "sent units error packet", "rruw")                                    \
    K(SIGN_EXPAND, sign_expand, "packets units x", "rrw")                                               \
    K(LOAD, load, "tokens", "w")

typedef enum dsc_kernel {
#define K(id, name, operands, modes) DSC_K_##id,
    DSC_KERNELS(K)
#undef K
    DSC_KERNEL_COUNT
} dsc_kernel;

enum {
    DSC_TRANS_A = 1,
    DSC_TRANS_B = 2,
    DSC_ACCUMULATE = 4, /* adds to what the output holds */
    DSC_CAUSAL = 8,
    DSC_RMS = 16,
    DSC_DECOUPLED = 32,
    DSC_FIRST = 64,
    DSC_HAS_BIAS = 128, /* the optional operand bias (gemm, join) is there */
    DSC_HAS_RESIDUAL = 256,
    DSC_SHARD = 512,    /* vocabulary and positions are cut over the tensor ranks (embed_fwd, embed_bwd), or what is
                           read (cast) */
    DSC_HAS_LAYOUT = 1024, /* the optional operand layout (attention_fwd, attention_bwd) is there */
    DSC_HAS_MASK = 2048,   /* the optional operand mask (these, block_softmax_fwd) */
    DSC_FROZEN = 4096,     /* adam by moments that are made already; LAMB by a variance that is */
    DSC_SCALED = 16384,    /* momentum by a gradient that is scaled already */
    DSC_COUNT_PADDING = 8192, /* padding is compressed too (sign_compress, sign_average) */
    DSC_INVERSE = 32768,      /* rope: the other way */
    DSC_NO_POSITIONS = 65536, /* embed_fwd, embed_bwd: there is no table of positions */
    DSC_APART = 131072        /* cross_entropy, cross_entropy_join: what their steps make stands apart */
};

enum { DSC_KERNEL_OPERANDS = 7, DSC_KERNEL_DIMS = 7 };

/* One call without its addresses: what a price or a primitive depends on. All fields are set, unused ones 0, so that
 * two shapes are equal when their bytes are. */
typedef struct dsc_shape {
    int16_t kernel; /* dsc_kernel */
    int8_t type;    /* dsc_dtype of activations and weights, of what is read (cast) or cleared */
    int8_t out;     /* dsc_dtype of the accumulating output (gemm, column_sum, norm_bwd_w, embed_bwd), of gradients
                       (adam, lamb_norms, square_sum reads `out` too), of the result (cast); else equal to type */
    int32_t flags;
    int64_t d[DSC_KERNEL_DIMS];
} dsc_shape;

const char *dsc_kernel_name(dsc_kernel kernel);
bool dsc_kernel_is_planned(dsc_kernel kernel);          /* priced, and not implemented anywhere. Pure. */
int dsc_kernel_find(const char *name);                  /* -1 when there is none */
int dsc_kernel_operands(dsc_kernel kernel);             /* how many */
const char *dsc_kernel_operand_name(dsc_kernel kernel, int operand, char out[32]);

/* Whether the operand takes part in a call of this shape; whether the call reads one that does, whether it writes it.
 * Pure. */
bool dsc_operand_present(const dsc_shape *shape, int operand);
bool dsc_operand_is_read(const dsc_shape *shape, int operand);
bool dsc_operand_is_written(const dsc_shape *shape, int operand);

/* Bytes of the operand for this shape; 0 when absent. Pure. */
int64_t dsc_operand_bytes(const dsc_shape *shape, int operand);

/* Arithmetic: a multiply and an add are two; causal attention counts the pairs it computes, sparse attention those of
 * the present blocks (with DSC_CAUSAL half of one for each row). Pure. */
int64_t dsc_kernel_flops(const dsc_shape *shape);
/* Bytes that an ideal implementation moves to and from memory: each operand read once, written once. Pure. */
int64_t dsc_kernel_bytes(const dsc_shape *shape);
/* Scratch that every implementation must be content with, 64-byte aligned; workspace.h says how it is divided. Pure. */
int64_t dsc_kernel_workspace_bytes(const dsc_shape *shape);

/* "gemm fp32 1024x768x768 tB" for people and for the names of measurements. */
void dsc_shape_print(const dsc_shape *shape, char *out, int size);

/* DSC_EINVAL unless the dimensions are positive and fit (their product at most 2^58, without what only says how tensor
 * shards are cut; D at most 1024) and the types are floats; names the dimension. The block products, which others call,
 * refuse flags that they do not have. Every other function here takes shapes that passed. Pure. */
dsc_status dsc_shape_check(const dsc_shape *shape);

/* ---- Implementations (kernels/ fills such tables; the executor chooses one at start-up) */

struct dsc_step;

/* operands[i] has dsc_operand_bytes of device memory, 64-byte aligned unless it is a slice of a flat buffer (then
 * aligned to its element), or NULL when absent. workspace has dsc_kernel_workspace_bytes. No allocation, no I/O. Of a
 * GPU's set workspace and step are device memory too, and what it enqueues is not over when it returns. */
typedef dsc_status dsc_kernel_fn(const dsc_shape *shape, void *const *operands, void *workspace,
                                 const struct dsc_step *step);

typedef struct dsc_kernel_set {
    const char *name; /* "ref", "cpu-avx2", "cpu-avx512", "cpu-avx512bf16+onednn" */
    dsc_kernel_fn *run[DSC_KERNEL_COUNT]; /* NULL: not here */
    /* Makes ready for a shape (primitives compiled, algorithms chosen) outside any step; may allocate; may be called
     * again for the same shape. NULL: nothing to make ready. */
    dsc_status (*prepare)(const dsc_shape *shape);
} dsc_kernel_set;

#endif
