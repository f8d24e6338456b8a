/* One body over every set of kernels: on random shapes, each computes what the reference computes. What the reference
 * computes is the matter of reference.c. */
#include "kernel/blocks.h"
#include "tests/kernels/call.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How far an implementation may be from the reference, whose sums are in double: relative in norm for each operand,
 * inputs of unit variance. To it comes a quarter of a storage unit (2^-9, 2^-12) times `units`, since results that
 * differ by less than that may still round to neighbours. Sums that can vanish are measured against 1 an element at
 * least (`sums`). */
static const struct { double tolerance, units; bool sums; const char *reason; } bounds[DSC_KERNEL_COUNT] = {
    [DSC_K_GEMM] = {1e-6, 1, true, "fp32 sums of up to 600 products in blocks"},
    [DSC_K_NORM_FWD] = {2e-6, 1, false, "fp32 sums of up to 1024 squares, one after another where nothing vectorizes"},
    [DSC_K_NORM_BWD_X] = {2e-6, 1, true, "as forward, and differences of three terms"},
    [DSC_K_NORM_BWD_W] = {1e-6, 1, true, "fp32 sums of 64 rows, then double"},
    [DSC_K_ATTENTION_FWD] = {2e-6, 1, true, "products as gemm, and an exponential of their rounded sum"},
    [DSC_K_ATTENTION_BWD] = {2e-6, 2, true, "as forward; dp - delta cancels, and delta uses the context as stored"},
    [DSC_K_SCORES_FWD] = {2e-6, 1, false, "as attention_fwd"},
    [DSC_K_SCORES_BWD] = {2e-6, 2, true, "as attention_bwd"},
    [DSC_K_ROPE] = {3e-7, 1, false, "sines rounded to fp32, and a sum of two products"},
    [DSC_K_BLOCK_SDD] = {1e-6, 1, true, "as gemm"},
    [DSC_K_BLOCK_DSD] = {1e-6, 1, true, "as gemm"},
    [DSC_K_BLOCK_DDS] = {1e-6, 1, true, "as gemm"},
    [DSC_K_BLOCK_SOFTMAX_FWD] = {1e-6, 1, false, "an exponential of an fp32 difference, and fp32 sums by block"},
    [DSC_K_BLOCK_SOFTMAX_BWD] = {1e-6, 1, true, "differences of an fp32 sum of up to 200 products"},
    [DSC_K_GELU_FWD] = {3e-7, 1, false, "a few roundings and one exponential an element"},
    [DSC_K_GELU_BWD] = {5e-7, 1, false, "the same, with a sum of two terms"},
    [DSC_K_SWIGLU_FWD] = {4e-7, 1, false, "as GELU, and a product more"},
    [DSC_K_SWIGLU_BWD] = {5e-7, 1, false, "as GELU"},
    [DSC_K_JOIN] = {2e-7, 1, true, "sums of three in fp32"},
    [DSC_K_COLUMN_SUM] = {5e-7, 1, true, "fp32 sums of 64 rows, then double"},
    [DSC_K_EMBED_FWD] = {0, 1, false, "one sum, rounded once"},
    [DSC_K_EMBED_BWD] = {3e-7, 1, true, "positions are summed in fp32; tokens in the same order and rounding"},
    [DSC_K_CROSS_ENTROPY] = {1e-6, 1, false, "fp32 exponentials, sums of 1024, in lanes or not, then double"},
    [DSC_K_CROSS_ENTROPY_PART] = {1e-6, 0, false, "the same, stored in fp32 whatever the type"},
    [DSC_K_CROSS_ENTROPY_JOIN] = {2e-7, 1, false, "one fp32 exponential an element"},
    [DSC_K_SQUARE_SUM] = {1e-12, 0, false, "double in both, in another order"},
    [DSC_K_ADAM] = {2e-7, 1, false, "fp32 in both; fused multiply-add rounds once less"},
    [DSC_K_DRIFT] = {2e-7, 0, false, "as adam"},
    [DSC_K_REJOIN] = {2e-7, 1, false, "as adam"},
    [DSC_K_LAMB_NORMS] = {4e-7, 0, false, "as adam, with a momentum over a rest; sums in double"},
    [DSC_K_LAMB_TRUST] = {0, 0, false, "one for all"},
    [DSC_K_LAMB_STEP] = {2e-7, 1, false, "as adam"},
    [DSC_K_CLEAR] = {0, 0, false, "zeros"},
    [DSC_K_MOMENTUM] = {2e-7, 1, false, "as adam"},
    [DSC_K_SIGN_COMPRESS] = {3e-7, 0, false, "a square in fp32, one sum and one difference an element"},
    [DSC_K_SIGN_AVERAGE] = {3e-7, 0, false, "the same of exact sums"},
    [DSC_K_SIGN_EXPAND] = {0, 0, false, "copies of the scales"},
    [DSC_K_CAST] = {0, 0, false, "one rounding, of a sum in fp32 too"},
};

static double storage_unit(dsc_dtype type) { return type == DSC_BF16 ? 0x1p-9 : type == DSC_FP16 ? 0x1p-12 : 0; }

/* ---- Shapes */

static int64_t pick(int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t all[] = {a, b, c, d};

    return all[tap_random_between(0, 3)];
}

static dsc_dtype pick_type(void) { return (dsc_dtype[]){DSC_FP32, DSC_BF16, DSC_FP16}[tap_random_between(0, 2)]; }
static int32_t maybe(int32_t flag) { return tap_random_between(0, 1) ? flag : 0; }

static void set_dims(dsc_shape *s, int64_t d0, int64_t d1, int64_t d2, int64_t d3, int64_t d4)
{
    memcpy(s->d, (int64_t[DSC_KERNEL_DIMS]){d0, d1, d2, d3, d4}, sizeof s->d);
}

/* The lists of layouts may have less in them, and the last block may be cut off. */
static void set_layout(dsc_shape *s, int64_t *last)
{
    const int64_t block = pick(16, 32, 64, tap_random_between(0, 1) ? 48 : 128), n = dsc_ceil_div(s->d[1], block);

    last[0] = tap_random_between(1, s->d[2] * n * n);
    last[1] = block;
}

static int32_t block_flags(dsc_kernel kernel)
{
    switch (kernel) {
    case DSC_K_BLOCK_DSD: return maybe(DSC_TRANS_A);
    case DSC_K_BLOCK_SOFTMAX_FWD: return maybe(DSC_CAUSAL) | maybe(DSC_HAS_MASK);
    case DSC_K_BLOCK_SOFTMAX_BWD: return 0;
    default: return maybe(DSC_TRANS_B);
    }
}

/* A rank's shard: it holds as many rows as it owns, or more. */
static void shard_embedding(dsc_shape *s)
{
    s->flags |= DSC_SHARD;
    s->d[4] = s->d[3];
    s->d[3] += pick(0, 0, 3, 64);
    s->d[5] = dsc_ceil_div(s->d[1], pick(1, 2, 2, CALL_RANKS));
}

/* Vocabularies smaller than the number of ranks too. */
static void shard_loss(dsc_shape *s, int64_t b, int64_t vocab)
{
    const int64_t ranks = pick(1, 2, 3, 8);

    set_dims(s, b, pick(1, 24, 30, 65), vocab, dsc_ceil_div(vocab, ranks) + pick(0, 0, 11, 1100),
             dsc_ceil_div(vocab, ranks));
    if (s->kernel == DSC_K_CROSS_ENTROPY_JOIN) s->d[5] = ranks;
}

/* Losses at once, and, of fp32 alone, in steps. */
static void make_loss(dsc_shape *s)
{
    s->flags = maybe(DSC_ACCUMULATE) | maybe(DSC_APART);
    if (s->flags & DSC_APART) s->type = s->out = DSC_FP32;
}

/* Fused attention in four ways: sparse or not, with a mask or without. */
static void make_attention(dsc_shape *s, int64_t kv, int64_t d)
{
    s->flags = maybe(DSC_CAUSAL);
    set_dims(s, pick(1, 2, 3, 1), pick(1, 24, 64, tap_random_between(2, 150)), kv * pick(1, 1, 2, 3), kv, d);
    if (s->kernel >= DSC_K_SCORES_FWD) return;
    s->flags |= maybe(DSC_HAS_MASK);
    if (maybe(1)) return;
    s->flags |= DSC_HAS_LAYOUT;
    set_layout(s, s->d + 5);
}

/* Units of one thread and such as all threads share; more elements than are compressed, or fewer. */
static void make_sign(dsc_shape *s)
{
    const int64_t ranks = tap_random_between(1, 9), units = pick(1, 2, 7, tap_random_between(1, 40));
    const int64_t packed = 8 * ranks * pick(1, units, 9 * units, tap_random_between(1, 1500));
    const int64_t lists = pick(1, 1, 2, tap_random_between(1, 9));
    const int64_t n = packed * lists * pick(1, 2, 3, 4) / 2 + tap_random_between(-3, 20); /* packed is 8 at least */

    s->out = DSC_FP32;
    if (s->kernel != DSC_K_SIGN_COMPRESS) s->type = DSC_FP32;
    if (s->kernel != DSC_K_SIGN_EXPAND) s->flags = maybe(DSC_COUNT_PADDING);
    switch (s->kernel) {
    case DSC_K_SIGN_COMPRESS: set_dims(s, n, packed, ranks, units, 0); break;
    case DSC_K_SIGN_AVERAGE: set_dims(s, packed, ranks, units, 0, 0); break;
    default: set_dims(s, n, packed, ranks, units, lists); break;
    }
}

static dsc_dtype wide_or(int type) { return tap_random_between(0, 1) ? (dsc_dtype)type : DSC_FP32; }

static void make_rows(dsc_shape *s, int64_t rows, int64_t cols)
{
    switch (s->kernel) {
    case DSC_K_NORM_BWD_W: s->flags = maybe(DSC_RMS) | maybe(DSC_ACCUMULATE); break;
    case DSC_K_NORM_BWD_X: s->flags = maybe(DSC_RMS) | maybe(DSC_HAS_RESIDUAL); break;
    case DSC_K_NORM_FWD: s->flags = maybe(DSC_RMS); break;
    case DSC_K_JOIN: s->flags = maybe(DSC_HAS_BIAS) | maybe(DSC_HAS_RESIDUAL); break;
    default: s->flags = maybe(DSC_ACCUMULATE); break;
    }
    if (s->kernel == DSC_K_NORM_BWD_W || s->kernel == DSC_K_COLUMN_SUM) s->out = (int8_t)wide_or(s->type);
    set_dims(s, rows, cols, 0, 0, 0);
}

static void make_embedding(dsc_shape *s, int64_t cols)
{
    const bool is_forward = s->kernel == DSC_K_EMBED_FWD;

    if (!is_forward) s->out = (int8_t)wide_or(s->type);
    if (!is_forward) s->flags = maybe(DSC_ACCUMULATE) | maybe(DSC_FIRST);
    set_dims(s, pick(1, 2, 3, 4), pick(1, 24, 30, 65), is_forward ? cols : pick(48, 64, 65, 200), pick(1, 10, 101, 300),
             0);
    if (maybe(DSC_SHARD)) shard_embedding(s);
    if (!maybe(1)) return;
    s->flags |= DSC_NO_POSITIONS;
    s->d[5] = 0;
}

static void make_update(dsc_shape *s, int64_t n)
{
    const bool is_momentum = s->kernel == DSC_K_MOMENTUM;
    int64_t ranks = 0;

    if (s->kernel == DSC_K_CAST) s->out = (int8_t)pick_type();
    if (s->kernel == DSC_K_CAST) s->flags = maybe(DSC_ACCUMULATE) | maybe(DSC_SHARD);
    if (s->kernel == DSC_K_CAST && s->flags & DSC_SHARD) ranks = pick(1, 2, 3, 8);
    if (s->kernel == DSC_K_ADAM) s->out = (int8_t)wide_or(s->type);
    if (s->kernel == DSC_K_ADAM) s->flags = maybe(DSC_DECOUPLED) | maybe(DSC_FROZEN);
    if (is_momentum) s->flags = maybe(DSC_FIRST) | maybe(DSC_SCALED);
    set_dims(s, n, is_momentum ? pick(1, 2, 8, 30) : ranks, 0, 0, 0);
}

/* Buckets of one tensor and of many. A momentum that replicas agree on is of fp32. */
static void make_lamb(dsc_shape *s, int64_t n)
{
    const int64_t tensors = pick(1, 2, 7, tap_random_between(1, 40));

    s->flags = s->kernel == DSC_K_LAMB_STEP ? 0 : maybe(DSC_FROZEN);
    if (s->kernel == DSC_K_LAMB_TRUST || s->flags & DSC_FROZEN) s->type = s->out = DSC_FP32;
    if (s->kernel == DSC_K_LAMB_TRUST) set_dims(s, tensors, pick(1, 2, 3, 8), 0, 0, 0);
    else set_dims(s, n, tensors, 0, 0, 0);
}

/* Sizes around the tiles of the overlays (64 rows, 16 columns, blocks of 1024) and odd ones. */
static dsc_shape random_shape(dsc_kernel kernel)
{
    dsc_shape s = {.kernel = (int16_t)kernel, .type = (int8_t)pick_type()};
    const int64_t rows = pick(1, 24, 65, tap_random_between(2, 200)),
                  cols = pick(48, 64, 101, tap_random_between(1, 1100));
    const int64_t d = pick(12, 16, 64, tap_random_between(0, 3) ? tap_random_between(1, 100) : 256);
    const int64_t kv = pick(1, 2, 3, 4);

    s.out = s.type;
    switch (kernel) {
    case DSC_K_GEMM:
        s.out = (int8_t)wide_or(s.type);
        s.flags = maybe(DSC_TRANS_A) | maybe(DSC_TRANS_B) | maybe(DSC_ACCUMULATE) | maybe(DSC_HAS_BIAS) |
                  maybe(DSC_HAS_RESIDUAL);
        set_dims(&s, pick(1, 24, 64, tap_random_between(2, 400)), pick(48, 64, 101, tap_random_between(1, 200)),
                 pick(24, 48, 64, tap_random_between(1, 600)), 0, 0);
        break;
    case DSC_K_ATTENTION_FWD:
    case DSC_K_ATTENTION_BWD:
    case DSC_K_SCORES_FWD:
    case DSC_K_SCORES_BWD:
        make_attention(&s, kv, d);
        break;
    case DSC_K_ROPE:
        s.flags = maybe(DSC_INVERSE);
        set_dims(&s, pick(1, 2, 3, 1), pick(1, 24, 64, tap_random_between(2, 150)), kv * pick(1, 1, 2, 3), kv,
                 dsc_round_up(d, 2));
        s.d[5] = pick(1, 100, 10000, 500000);
        break;
    case DSC_K_BLOCK_SDD:
    case DSC_K_BLOCK_DSD:
    case DSC_K_BLOCK_DDS:
    case DSC_K_BLOCK_SOFTMAX_FWD:
    case DSC_K_BLOCK_SOFTMAX_BWD: /* D past the overlays' pieces of 256 too */
        s.flags = block_flags(kernel);
        set_dims(&s, pick(1, 2, 3, 1), pick(1, 24, 64, tap_random_between(2, 200)), kv, pick(d, d, d, 300), 0);
        set_layout(&s, s.d + 4);
        break;
    case DSC_K_NORM_FWD:
    case DSC_K_NORM_BWD_X:
    case DSC_K_NORM_BWD_W:
    case DSC_K_JOIN:
    case DSC_K_COLUMN_SUM: make_rows(&s, rows, cols); break;
    case DSC_K_EMBED_BWD:
    case DSC_K_EMBED_FWD: make_embedding(&s, cols); break;
    case DSC_K_CROSS_ENTROPY_JOIN: make_loss(&s); /* fall through */
    case DSC_K_CROSS_ENTROPY_PART: shard_loss(&s, pick(1, 2, 3, 4), pick(3, 10, 101, cols)); break;
    case DSC_K_CLEAR:
        if (maybe(1)) s.type = s.out = DSC_FP64;
        set_dims(&s, pick(1, 3, 64, rows), 0, 0, 0, 0);
        break;
    case DSC_K_CROSS_ENTROPY:
        make_loss(&s);
        set_dims(&s, pick(1, 2, 3, 4), pick(1, 24, 30, 65), cols, cols + pick(0, 0, 11, 1100), 0);
        break;
    case DSC_K_SIGN_COMPRESS:
    case DSC_K_SIGN_AVERAGE:
    case DSC_K_SIGN_EXPAND: make_sign(&s); break;
    case DSC_K_LAMB_NORMS:
    case DSC_K_LAMB_TRUST:
    case DSC_K_LAMB_STEP: make_lamb(&s, rows * cols); break;
    case DSC_K_CAST:
    case DSC_K_ADAM:
    case DSC_K_MOMENTUM: make_update(&s, rows * cols); break;
    default: set_dims(&s, rows * cols, 0, 0, 0, 0); break;
    }
    return s;
}

/* ---- Comparing */

/* ||x - y|| / ||y|| over an operand; infinite when a number meets something else. */
static double difference(const call *x, const call *y, int operand)
{
    const int64_t count = call_count(y, operand);
    double distance = 0, norm = 0;

    for (int64_t i = 0; i < count; i++) {
        const double a = call_get(x, operand, i), b = call_get(y, operand, i);

        if (a == b || (isnan(a) && isnan(b))) {
            if (isfinite(b)) norm += b * b;
            continue;
        }
        distance += (a - b) * (a - b);
        norm += b * b;
    }
    if (bounds[y->shape.kernel].sums) norm = fmax(norm, (double)count);
    return distance == 0 ? 0 : sqrt(distance / norm);
}

/* Signs are the same, bit by bit; infinite when they are not. Else ||x - y|| / ||y|| of the scales. */
static double packets_difference(const call *x, const call *y, int operand)
{
    const int64_t scales = (uint8_t *)call_scales(y, operand, 0) - call_packet(y, operand, 0);
    double distance = 0, norm = 0;

    for (int64_t packet = 0; packet < call_packets(y, operand); packet++) {
        const float *a = call_scales(x, operand, packet), *b = call_scales(y, operand, packet);

        if (memcmp(call_packet(x, operand, packet), call_packet(y, operand, packet), (size_t)scales) != 0)
            return INFINITY;
        for (int64_t u = 0; u < dsc_round_up(call_sign_dims(y)[2], 2); u++) { /* and the last one's padding */
            distance += pow((double)a[u] - (double)b[u], 2);
            norm += pow((double)b[u], 2);
        }
    }
    return distance == 0 ? 0 : sqrt(distance / norm);
}

static void compare(const call *got, const call *expected, const char *set)
{
    const dsc_shape *shape = &got->shape;
    char name[256], word[32];

    dsc_shape_print(shape, name, sizeof name);
    for (int i = 0; i < dsc_kernel_operands((dsc_kernel)shape->kernel); i++) {
        const double bound = bounds[shape->kernel].tolerance + bounds[shape->kernel].units * storage_unit(got->type[i]);

        if (!dsc_operand_present(shape, i) || !dsc_operand_is_written(shape, i)) continue;
        const double found =
            call_packets(got, i) > 0 ? packets_difference(got, expected, i) : difference(got, expected, i);
        CHECK(found <= bound, "%s: %s: %s differs by %g, allowed are %g (%s)", set, name,
              dsc_kernel_operand_name((dsc_kernel)shape->kernel, i, word), found, bound, bounds[shape->kernel].reason);
    }
}

static bool same_bits(const call *x, const call *y)
{
    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++)
        if (x->operand[i] != NULL && dsc_operand_is_written(&x->shape, i) &&
            memcmp(x->operand[i], y->operand[i], (size_t)dsc_operand_bytes(&x->shape, i)) != 0)
            return false;
    return true;
}

/* ---- Cases */

static void check_shape(dsc_shape shape, bool is_prepared)
{
    const dsc_kernel_set *sets[CALL_SETS];
    const int count = call_sets(sets);
    call input, expected;

    call_init(&input, shape);
    call_copy(&input, &expected);
    if (call_run(&expected, dsc_kernels_ref()))
        for (int i = 0; i < count; i++) {
            call got;

            call_copy(&input, &got);
            if (sets[i]->prepare != NULL && is_prepared) CHECK_OK(sets[i]->prepare(&got.shape));
            if (call_run(&got, sets[i])) compare(&got, &expected, sets[i]->name);
            call_fini(&got);
        }
    call_fini(&expected);
    call_fini(&input);
}

static void agrees(dsc_kernel kernel)
{
    for (int round = 0; round < 40; round++) check_shape(random_shape(kernel), round % 2 == 0);
}

/* Heads of 64 and 128 in bf16 and fp16 have kernels of their own on GPUs, with tiles of up to 128 tokens. */
static void check_heads(dsc_kernel kernel)
{
    for (int round = 0; round < 30; round++) {
        const int64_t kv = pick(1, 1, 2, 3), d = pick(64, 64, 64, 128);
        dsc_shape s = {.kernel = (int16_t)kernel, .type = DSC_BF16};

        if (maybe(1)) s.type = DSC_FP16;
        s.out = s.type;
        s.flags = maybe(DSC_CAUSAL) | maybe(DSC_HAS_MASK);
        set_dims(&s, pick(1, 1, 2, 3), pick(64, 128, 65, tap_random_between(1, 300)), kv * pick(1, 1, 2, 3), kv, d);
        check_shape(s, false);
    }
}

static void heads_agree(void)
{
    check_heads(DSC_K_ATTENTION_FWD);
    check_heads(DSC_K_ATTENTION_BWD);
}

static void has_gpu(void)
{
    if (call_staged() == NULL) tap_skip("cuda", "no set of kernels for a GPU, or no GPU");
}

static void gemm(void) { agrees(DSC_K_GEMM); }
static void norm_fwd(void) { agrees(DSC_K_NORM_FWD); }
static void norm_bwd_x(void) { agrees(DSC_K_NORM_BWD_X); }
static void norm_bwd_w(void) { agrees(DSC_K_NORM_BWD_W); }
static void attention_fwd(void) { agrees(DSC_K_ATTENTION_FWD); }
static void attention_bwd(void) { agrees(DSC_K_ATTENTION_BWD); }
static void scores_fwd(void) { agrees(DSC_K_SCORES_FWD); }
static void scores_bwd(void) { agrees(DSC_K_SCORES_BWD); }
static void block_sdd(void) { agrees(DSC_K_BLOCK_SDD); }
static void block_dsd(void) { agrees(DSC_K_BLOCK_DSD); }
static void block_dds(void) { agrees(DSC_K_BLOCK_DDS); }
static void block_softmax_fwd(void) { agrees(DSC_K_BLOCK_SOFTMAX_FWD); }
static void block_softmax_bwd(void) { agrees(DSC_K_BLOCK_SOFTMAX_BWD); }
static void rope(void) { agrees(DSC_K_ROPE); }
static void swiglu_fwd(void) { agrees(DSC_K_SWIGLU_FWD); }
static void swiglu_bwd(void) { agrees(DSC_K_SWIGLU_BWD); }
static void gelu_fwd(void) { agrees(DSC_K_GELU_FWD); }
static void gelu_bwd(void) { agrees(DSC_K_GELU_BWD); }
static void column_sum(void) { agrees(DSC_K_COLUMN_SUM); }
static void embed_fwd(void) { agrees(DSC_K_EMBED_FWD); }
static void embed_bwd(void) { agrees(DSC_K_EMBED_BWD); }
static void cross_entropy(void) { agrees(DSC_K_CROSS_ENTROPY); }
static void join(void) { agrees(DSC_K_JOIN); }
static void cross_entropy_part(void) { agrees(DSC_K_CROSS_ENTROPY_PART); }
static void cross_entropy_join(void) { agrees(DSC_K_CROSS_ENTROPY_JOIN); }
static void clear(void) { agrees(DSC_K_CLEAR); }
static void square_sum(void) { agrees(DSC_K_SQUARE_SUM); }
static void sign_compress(void) { agrees(DSC_K_SIGN_COMPRESS); }
static void sign_average(void) { agrees(DSC_K_SIGN_AVERAGE); }
static void sign_expand(void) { agrees(DSC_K_SIGN_EXPAND); }
static void adam(void) { agrees(DSC_K_ADAM); }
static void momentum(void) { agrees(DSC_K_MOMENTUM); }
static void drift(void) { agrees(DSC_K_DRIFT); }
static void rejoin(void) { agrees(DSC_K_REJOIN); }
static void lamb_norms(void) { agrees(DSC_K_LAMB_NORMS); }
static void lamb_trust(void) { agrees(DSC_K_LAMB_TRUST); }
static void lamb_step(void) { agrees(DSC_K_LAMB_STEP); }
static void cast(void) { agrees(DSC_K_CAST); }

/* Runs kernels twice on the same input, with `threads` threads and then with `again`. */
static void repeats(int first_kernel, int last_kernel, int threads, int again)
{
    const dsc_kernel_set *sets[CALL_SETS];
    const int count = call_sets(sets);
    char name[256];

    for (int kernel = first_kernel; kernel <= last_kernel; kernel++)
        for (int i = 0; i < count && !dsc_kernel_is_planned((dsc_kernel)kernel); i++) {
            call once, twice;

            call_init(&once, random_shape((dsc_kernel)kernel));
            call_copy(&once, &twice);
            dsc_kernels_threads(threads);
            call_run(&once, sets[i]);
            dsc_kernels_threads(again);
            call_run(&twice, sets[i]);
            dsc_shape_print(&once.shape, name, sizeof name);
            CHECK(same_bits(&once, &twice), "%s: %s", sets[i]->name, name);
            call_fini(&once);
            call_fini(&twice);
        }
    dsc_kernels_threads(2);
}

static void repeats_bits(void)
{
    for (int round = 0; round < 5; round++) repeats(0, DSC_K_SIGN_EXPAND, 2, 2);
}

/* What all ranks of a group, or all numbers of threads, must agree on. */
static void sums_ignore_threads(void)
{
    for (int round = 0; round < 20; round++) repeats(DSC_K_CROSS_ENTROPY, DSC_K_SQUARE_SUM, 1, 5);
    for (int round = 0; round < 20; round++) repeats(DSC_K_MOMENTUM, DSC_K_SIGN_EXPAND, 1, 5);
}

/* Scores so low that the exponential of minus their log-sum is all but infinite: what stands in lanes past the last key
 * must not come of it. Row 0 of q is -30, every k and v 1, and the gradient of row 0 200. */
static void low_scores_stay_inside(void)
{
    const dsc_kernel_set *sets[CALL_SETS];
    const int count = call_sets(sets);

    for (int i = 0; i < 2 * count; i++) {
        dsc_shape shape = {.kernel = DSC_K_ATTENTION_FWD, .type = i % 2 ? DSC_BF16 : DSC_FP32,
                           .out = i % 2 ? DSC_BF16 : DSC_FP32, .d = {1, 65, 1, 1, 16}};
        call forward, backward, expected;

        call_init(&forward, shape);
        for (int64_t at = 0; at < 65 * 48; at++)
            call_set(&forward, 0, at, at % 48 >= 16 ? 1 : at / 48 == 0 ? -30 : 0.1);
        call_run(&forward, dsc_kernels_ref());
        shape.kernel = DSC_K_ATTENTION_BWD;
        call_init(&backward, shape);
        for (int operand = 0; operand < 3; operand++)
            memcpy(backward.operand[operand + 1], forward.operand[operand],
                   (size_t)dsc_operand_bytes(&shape, operand + 1));
        for (int64_t at = 0; at < 16; at++) call_set(&backward, 0, at, 200);
        call_copy(&backward, &expected);
        /* dp and delta all but cancel */
        if (call_run(&expected, dsc_kernels_ref()) && call_run(&backward, sets[i / 2]))
            CHECK(difference(&backward, &expected, 4) <= 0.02, "%s: %g", sets[i / 2]->name,
                  difference(&backward, &expected, 4));
        call_fini(&forward);
        call_fini(&backward);
        call_fini(&expected);
    }
}

/* Operand `from` given as operand `to`, both in one place, must change nothing. */
static void check_in_place(dsc_kernel kernel, int32_t flags, int from, int to)
{
    const dsc_kernel_set *sets[1 + CALL_SETS] = {dsc_kernels_ref()};
    const int count = 1 + call_sets(sets + 1);

    for (int i = 0; i < count; i++) {
        dsc_shape shape = random_shape(kernel);
        call apart, together;

        shape.flags |= flags;
        call_init(&apart, shape);
        call_copy(&apart, &together);
        memcpy(together.operand[to], together.operand[from], (size_t)dsc_operand_bytes(&shape, to));
        together.operand[from] = together.operand[to];
        call_run(&apart, sets[i]);
        call_run(&together, sets[i]);
        CHECK(memcmp(apart.operand[to], together.operand[to], (size_t)dsc_operand_bytes(&shape, to)) == 0, "%s %s",
              sets[i]->name, dsc_kernel_name(kernel));
        call_fini(&apart);
        call_fini(&together);
    }
}

static void works_in_place(void)
{
    check_in_place(DSC_K_GELU_FWD, 0, 0, 1);
    check_in_place(DSC_K_GELU_BWD, 0, 0, 2);
    check_in_place(DSC_K_GELU_BWD, 0, 1, 2);
    check_in_place(DSC_K_SWIGLU_FWD, 0, 0, 2);
    check_in_place(DSC_K_SWIGLU_FWD, 0, 1, 2);
    check_in_place(DSC_K_SWIGLU_BWD, 0, 0, 3);
    check_in_place(DSC_K_SWIGLU_BWD, 0, 1, 3);
    check_in_place(DSC_K_SWIGLU_BWD, 0, 2, 4);
    check_in_place(DSC_K_NORM_BWD_X, DSC_HAS_RESIDUAL, 4, 5);
    check_in_place(DSC_K_JOIN, 0, 0, 3);
    for (int round = 0; round < 4; round++) { /* all types */
        check_in_place(DSC_K_BLOCK_SOFTMAX_FWD, 0, 0, 1);
        check_in_place(DSC_K_BLOCK_SOFTMAX_BWD, 0, 0, 3);
    }
    check_in_place(DSC_K_JOIN, DSC_HAS_RESIDUAL, 2, 3);
}

/* Where every token and every element counts. */
static dsc_shape random_unsharded(dsc_kernel kernel)
{
    dsc_shape shape = random_shape(kernel);

    if (shape.flags & DSC_SHARD) shape.d[4] = shape.d[5] = 0;
    if (kernel == DSC_K_CAST) shape.d[1] = 0;
    if (shape.flags & DSC_HAS_LAYOUT) shape.d[5] = shape.d[6] = 0;
    shape.flags &= ~(DSC_SHARD | DSC_HAS_LAYOUT | DSC_HAS_MASK);
    return shape;
}

/* Puts one infinity or NaN into an input and demands that some written element is not finite. */
static void check_spreads(const dsc_kernel_set *set, dsc_kernel kernel, int operand, double value)
{
    dsc_shape shape = random_unsharded(kernel);
    bool spread = false;
    call c;

    shape.flags &= ~(DSC_CAUSAL | DSC_RMS);
    call_init(&c, shape);
    if (operand < 0) goto out;
    call_set(&c, operand, tap_random_between(0, call_count(&c, operand) - 1), value);
    call_run(&c, set);
    for (int i = 0; i < dsc_kernel_operands(kernel); i++)
        for (int64_t j = 0; dsc_operand_is_written(&shape, i) && j < call_count(&c, i); j++)
            spread |= !isfinite(call_get(&c, i, j));
    CHECK(spread, "%s: %s swallows %g in operand %d", set->name, dsc_kernel_name(kernel), value, operand);
out:
    call_fini(&c);
}

static void spreads_overflow(void)
{
    static const struct { dsc_kernel kernel; int operand; } inputs[] = {
        {DSC_K_GEMM, 0}, {DSC_K_GEMM, 1}, {DSC_K_NORM_FWD, 0}, {DSC_K_NORM_BWD_X, 0}, {DSC_K_NORM_BWD_W, 0},
        {DSC_K_ATTENTION_FWD, 0}, {DSC_K_ATTENTION_BWD, 0}, {DSC_K_SCORES_BWD, 0}, {DSC_K_GELU_BWD, 0},
        {DSC_K_ROPE, 0}, {DSC_K_SWIGLU_FWD, 0}, {DSC_K_SWIGLU_FWD, 1}, {DSC_K_SWIGLU_BWD, 0}, {DSC_K_SWIGLU_BWD, 1},
        {DSC_K_COLUMN_SUM, 0}, {DSC_K_EMBED_BWD, 1}, {DSC_K_JOIN, 0}, {DSC_K_CAST, 0}, {DSC_K_MOMENTUM, 0},
    };
    const dsc_kernel_set *sets[1 + CALL_SETS] = {dsc_kernels_ref()};
    const int count = 1 + call_sets(sets + 1);

    for (int i = 0; i < count; i++)
        for (int j = 0; j < DSC_COUNT(inputs); j++) {
            check_spreads(sets[i], inputs[j].kernel, inputs[j].operand, INFINITY);
            check_spreads(sets[i], inputs[j].kernel, inputs[j].operand, NAN);
        }
}

/* Where all of an input is infinite or NaN, products and softmax have something to show of it, unless no block is there
 * to read it. */
static void check_block_spreads(const dsc_kernel_set *set, dsc_kernel kernel, int operand, double value)
{
    dsc_shape shape = random_shape(kernel);
    bool spread = false;
    call c;

    shape.flags &= ~(DSC_CAUSAL | DSC_HAS_MASK);
    call_init(&c, shape);
    const dsc_blocks blocks = dsc_blocks_of(&shape, c.operand[2]);
    for (int64_t i = 0; i < call_count(&c, operand); i++) call_set(&c, operand, i, value);
    call_run(&c, set);
    for (int i = 0; i < dsc_kernel_operands(kernel); i++)
        for (int64_t j = 0; dsc_operand_is_written(&shape, i) && j < call_count(&c, i); j++)
            spread |= !isfinite(call_get(&c, i, j));
    CHECK(spread == (blocks.row_start[blocks.heads * blocks.n] > 0), "%s: %s and %g in operand %d", set->name,
          dsc_kernel_name(kernel), value, operand);
    call_fini(&c);
}

static void spreads_from_blocks(void)
{
    static const struct { dsc_kernel kernel; int operand; } inputs[] = {
        {DSC_K_BLOCK_SDD, 0}, {DSC_K_BLOCK_SDD, 1}, {DSC_K_BLOCK_DSD, 0}, {DSC_K_BLOCK_DSD, 1}, {DSC_K_BLOCK_DDS, 0},
        {DSC_K_BLOCK_DDS, 1}, {DSC_K_BLOCK_SOFTMAX_FWD, 0}, {DSC_K_BLOCK_SOFTMAX_BWD, 0}, {DSC_K_BLOCK_SOFTMAX_BWD, 1},
    };
    const dsc_kernel_set *sets[1 + CALL_SETS] = {dsc_kernels_ref()};
    const int count = 1 + call_sets(sets + 1);

    for (int i = 0; i < count; i++)
        for (int j = 0; j < DSC_COUNT(inputs); j++) {
            check_block_spreads(sets[i], inputs[j].kernel, inputs[j].operand, INFINITY);
            check_block_spreads(sets[i], inputs[j].kernel, inputs[j].operand, NAN);
        }
}

static void counts_overflow(void)
{
    const dsc_kernel_set *sets[1 + CALL_SETS] = {dsc_kernels_ref()};
    const int count = 1 + call_sets(sets + 1);

    for (int i = 0; i < count; i++) {
        call c;
        double squares = 0;

        call_init(&c, random_shape(DSC_K_SQUARE_SUM));
        call_set(&c, 0, 0, -INFINITY);
        call_set(&c, 0, call_count(&c, 0) - 1, NAN);
        for (int64_t j = 0; j < call_count(&c, 0); j++)
            if (isfinite(call_get(&c, 0, j))) squares += pow(call_get(&c, 0, j), 2);
        call_run(&c, sets[i]);
        CHECK(fabs(call_get(&c, 1, 0) - squares) <= 1e-12 * squares, "%s: %g, not %g", sets[i]->name,
              call_get(&c, 1, 0), squares);
        CHECK(call_get(&c, 1, 1) == 2 || call_count(&c, 0) == 1, "%s counts %g", sets[i]->name, call_get(&c, 1, 1));
        call_fini(&c);
    }
}

/* A table that is written holds what one that is added to holds when it was zero. */
static void first_writes(void)
{
    const dsc_kernel_set *sets[1 + CALL_SETS] = {dsc_kernels_ref()};
    const int count = 1 + call_sets(sets + 1);

    for (int round = 0; round < 10; round++)
        for (int i = 0; i < count; i++) {
            dsc_shape shape = random_shape(DSC_K_EMBED_BWD);
            call added, first;

            shape.flags &= ~DSC_FIRST;
            call_init(&added, shape);
            call_copy(&added, &first);
            memset(added.operand[2], 0, (size_t)dsc_operand_bytes(&shape, 2));
            first.shape.flags |= DSC_FIRST; /* the table of `first` still holds random numbers */
            if (call_run(&added, sets[i]) && call_run(&first, sets[i]))
                CHECK(same_bits(&added, &first), "%s: %d", sets[i]->name, shape.flags);
            call_fini(&added);
            call_fini(&first);
        }
}

static void check_refusal(call *c, const dsc_kernel_set *set)
{
    CHECK(set->run[c->shape.kernel](&c->shape, c->operand, c->workspace, &call_step) == DSC_EINTERNAL, "%s", set->name);
    CHECK(strstr(dsc_message(), "vocabulary") != NULL, "%s", dsc_message());
}

/* What enqueues its work cannot refuse: something that it writes is no number. */
static void check_no_number(call *c, const dsc_kernel_set *set)
{
    bool is_there = false;

    call_run(c, set);
    for (int i = 0; i < dsc_kernel_operands((dsc_kernel)c->shape.kernel); i++)
        for (int64_t j = 0; dsc_operand_is_written(&c->shape, i) && j < call_count(c, i); j++)
            is_there |= isnan(call_get(c, i, j));
    CHECK(is_there, "%s: %s", set->name, dsc_kernel_name((dsc_kernel)c->shape.kernel));
}

static void check_token(dsc_kernel kernel, double token)
{
    const dsc_kernel_set *sets[1 + CALL_SETS] = {dsc_kernels_ref()};
    const int count = 1 + call_sets(sets + 1);

    for (int i = 0; i < count; i++) {
        call c;

        call_init(&c, token < 0 ? random_shape(kernel) : random_unsharded(kernel));
        const bool is_first = sets[i] == call_staged() && kernel == DSC_K_EMBED_FWD; /* an input, not only a target */
        call_set(&c, 0, is_first ? 0 : call_count(&c, 0) - 1, token);
        if (sets[i] == call_staged()) check_no_number(&c, sets[i]);
        else check_refusal(&c, sets[i]);
        call_fini(&c);
    }
}

static void refuses_tokens(void)
{
    check_token(DSC_K_EMBED_FWD, 50257);
    check_token(DSC_K_EMBED_FWD, -1); /* shards too: past the whole vocabulary is what the loss finds */
    check_token(DSC_K_CROSS_ENTROPY, -1);
    check_token(DSC_K_CROSS_ENTROPY_PART, 50257);
    check_token(DSC_K_CROSS_ENTROPY_JOIN, 50257);
}

/* More threads than the workspace has room for: the bound holds all the same (the guards see to it). */
static void keeps_to_workspace(void)
{
    static const int64_t sizes[][3] = {{64, 64, 64}, {300, 260, 512}, {24, 101, 48}};

    dsc_kernels_threads(48);
    for (int i = 0; i < DSC_COUNT(sizes); i++)
        for (int32_t flags = 0; flags < 8; flags++)
            for (int type = DSC_FP32; type <= DSC_BF16; type++) {
                dsc_shape shape = {.kernel = DSC_K_GEMM, .type = (int8_t)type, .out = DSC_FP32, .flags = flags};
                call got, expected;

                set_dims(&shape, sizes[i][0], sizes[i][1], sizes[i][2], 0, 0);
                call_init(&got, shape);
                call_copy(&got, &expected);
                call_run(&expected, dsc_kernels_ref());
                if (call_run(&got, dsc_kernels_cpu())) compare(&got, &expected, "cpu");
                call_fini(&got);
                call_fini(&expected);
            }
    dsc_kernels_threads(2);
}

static const tap_case cases[] = {
    {"a GPU's kernels are among the sets", has_gpu},
    {"gemm of every set equals the reference", gemm},
    {"norm_fwd of every set equals the reference", norm_fwd},
    {"norm_bwd_x of every set equals the reference", norm_bwd_x},
    {"norm_bwd_w of every set equals the reference", norm_bwd_w},
    {"attention_fwd of every set equals the reference", attention_fwd},
    {"attention_bwd of every set equals the reference", attention_bwd},
    {"so does attention of heads of 64 and 128 in bf16 and fp16", heads_agree},
    {"scores far below zero leave no trace past the last key", low_scores_stay_inside},
    {"scores_fwd of every set equals the reference", scores_fwd},
    {"scores_bwd of every set equals the reference", scores_bwd},
    {"block_sdd of every set equals the reference", block_sdd},
    {"block_dsd of every set equals the reference", block_dsd},
    {"block_dds of every set equals the reference", block_dds},
    {"block_softmax_fwd of every set equals the reference", block_softmax_fwd},
    {"block_softmax_bwd of every set equals the reference", block_softmax_bwd},
    {"rope of every set equals the reference", rope},
    {"swiglu_fwd of every set equals the reference", swiglu_fwd},
    {"swiglu_bwd of every set equals the reference", swiglu_bwd},
    {"gelu_fwd of every set equals the reference", gelu_fwd},
    {"gelu_bwd of every set equals the reference", gelu_bwd},
    {"join of every set equals the reference", join},
    {"column_sum of every set equals the reference", column_sum},
    {"embed_fwd of every set equals the reference", embed_fwd},
    {"embed_bwd of every set equals the reference", embed_bwd},
    {"cross_entropy of every set equals the reference", cross_entropy},
    {"cross_entropy_part of every set equals the reference", cross_entropy_part},
    {"cross_entropy_join of every set equals the reference", cross_entropy_join},
    {"square_sum of every set equals the reference", square_sum},
    {"clear of every set equals the reference", clear},
    {"sign_compress of every set equals the reference", sign_compress},
    {"sign_average of every set equals the reference", sign_average},
    {"sign_expand of every set equals the reference", sign_expand},
    {"adam of every set equals the reference", adam},
    {"momentum of every set equals the reference", momentum},
    {"drift of every set equals the reference", drift},
    {"rejoin of every set equals the reference", rejoin},
    {"lamb_norms of every set equals the reference", lamb_norms},
    {"lamb_trust of every set equals the reference", lamb_trust},
    {"lamb_step of every set equals the reference", lamb_step},
    {"cast of every set equals the reference", cast},
    {"the same call gives the same bits", repeats_bits},
    {"no number of threads changes the bits of square_sum, of the losses and of compression", sums_ignore_threads},
    {"du may be dy or u, y may be u, dx may be the residual, join's y either, softmax in place", works_in_place},
    {"infinities and NaN reach the output", spreads_overflow},
    {"those that a block product reads do, and those that none reads do not", spreads_from_blocks},
    {"square_sum counts what is not finite", counts_overflow},
    {"embed_bwd's first table is the sum that starts at zero", first_writes},
    {"a token outside the vocabulary is refused, or leaves no number", refuses_tokens},
    {"products keep to their workspace with many threads", keeps_to_workspace},
};

int main(void)
{
    dsc_kernels_threads(2);
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
