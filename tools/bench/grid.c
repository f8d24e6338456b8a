#include "tools/bench/bench.h"
#include "device/device.h"
#include <stdlib.h>

/* The grids are spread evenly over logarithms of sizes, since sim/fit interpolates there: a coarse lattice of powers
 * of two and a second one in the middle of its cells, of sizes that are no powers of two, whose strides suit caches
 * better. What stands here is all that a price can rest on; no size is any model's in particular. */

enum { MAX_SIZES = 8 };

typedef struct axis { int64_t sizes[MAX_SIZES]; } axis; /* ends at 0 */

/* One row is the product of its axes, for all types given as letters: d fp64, s fp32, b bf16, h fp16; B and H store
 * gradients (of a cast: the result) in fp32. */
typedef struct lattice {
    dsc_kernel kernel;
    int flags;
    const char *types;
    axis d[DSC_KERNEL_DIMS];
} lattice;

#define COARSE {{64, 256, 1024, 4096}}
#define FINE {{96, 384, 1536}}
#define THIN {{96, 1024}}
#define PRODUCT(flags, types) \
    {DSC_K_GEMM, flags, types, {COARSE, COARSE, COARSE}}, {DSC_K_GEMM, flags, types, {FINE, FINE, FINE}}
#define VARIANT(flags, types) \
    {DSC_K_GEMM, flags, types, {THIN, THIN, THIN}}, {DSC_K_GEMM, flags, types, {{{384}}, {{384}}, {{384}}}}
#define MATRIX(kernel, flags, types) \
    {kernel, flags, types, {{{64, 256, 1024, 4096}}, {{128, 512, 2048}}}}, \
    {kernel, flags, types, {{{128, 512, 2048}}, {{64, 256, 1024, 4096}}}}
#define FEW_MATRIX(kernel, flags, types) {kernel, flags, types, {{{256, 1024}}, {{256, 1024}}}}
#define VECTOR(kernel, flags, types) \
    {kernel, flags, types, {{{1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 19}}}}, \
    {kernel, flags, types, {{{1 << 20, 1 << 21, 1 << 22}}}}
#define FEW_VECTOR(kernel, flags, types) {kernel, flags, types, {{{1 << 13, 1 << 16, 1 << 19, 1 << 22}}}}
#define ATTENTION(kernel) \
    {kernel, DSC_CAUSAL, "sb", {{{2}}, {{64, 256, 1024}}, {{4, 16}}, {{0}}, {{32, 64, 128}}}}, \
    {kernel, DSC_CAUSAL, "sb", {{{2}}, {{128, 512}}, {{8}}, {{0}}, {{32, 64, 128}}}}, \
    FEW_ATTENTION(kernel, 0, "sb"), FEW_ATTENTION(kernel, DSC_CAUSAL, "h")
#define FEW_ATTENTION(kernel, flags, types) {kernel, flags, types, {{{2}}, {{64, 192, 512}}, {{8}}, {{0}}, {{32, 128}}}}
/* Windows of so many blocks. */
#define SPARSE(kernel) \
    {kernel, DSC_CAUSAL | DSC_HAS_LAYOUT, "sb", \
     {{{1}}, {{512, 2048, 8192}}, {{4}}, {{0}}, {{32, 64, 128}}, {{2, 6}}, {{16, 32, 64, 128}}}}, \
    {kernel, DSC_HAS_LAYOUT, "sb", {{{1}}, {{1024}}, {{4}}, {{0}}, {{64}}, {{3}}, {{16, 64}}}}, \
    {kernel, DSC_CAUSAL | DSC_HAS_LAYOUT, "h", {{{1}}, {{1024}}, {{4}}, {{0}}, {{64}}, {{3}}, {{16, 64}}}}
#define SCORES(kernel) \
    {kernel, DSC_CAUSAL, "sb", {{{1}}, {{48, 192}}, {{2, 6}}, {{0}}, {{32, 64}}}}, \
    {kernel, 0, "sb", {{{1}}, {{96}}, {{4}}, {{0}}, {{64}}}}, \
    {kernel, DSC_CAUSAL, "h", {{{1}}, {{96}}, {{4}}, {{0}}, {{64}}}}
/* Elements of a bucket, packed. */
#define BUCKETS {{1 << 13, 1 << 15, 1 << 17, 1 << 19, 1 << 21}}
#define LARGE_BUCKETS {{1 << 17, 1 << 19, 1 << 21}}

static const lattice lattices[] = {
    PRODUCT(0, "sb"),                      /* forward; gradient of the head's input */
    {DSC_K_GEMM, 0, "sb", {{{64, 256}}, {{64, 256}}, {{16384, 50304}}}},
    VARIANT(DSC_HAS_BIAS, "sbh"),
    VARIANT(DSC_HAS_BIAS | DSC_HAS_RESIDUAL, "sb"),
    PRODUCT(DSC_TRANS_B, "sb"),            /* gradient of the input; logits */
    {DSC_K_GEMM, DSC_TRANS_B, "sb", {{{64, 256}}, {{16384, 50304}}, {{64, 256}}}},
    VARIANT(DSC_TRANS_B, "h"),
    PRODUCT(DSC_TRANS_A, "sb"),            /* gradient of the weights */
    {DSC_K_GEMM, DSC_TRANS_A, "sb", {{{16384, 50304}}, {{64, 256}}, {{64, 256}}}},
    VARIANT(DSC_TRANS_A, "hB"),
    VARIANT(DSC_TRANS_A | DSC_ACCUMULATE, "sB"),
    MATRIX(DSC_K_NORM_FWD, 0, "sb"),
    FEW_MATRIX(DSC_K_NORM_FWD, 0, "h"),
    MATRIX(DSC_K_NORM_BWD_X, DSC_HAS_RESIDUAL, "sb"),
    FEW_MATRIX(DSC_K_NORM_BWD_X, DSC_HAS_RESIDUAL, "h"),
    FEW_MATRIX(DSC_K_NORM_BWD_X, 0, "sb"),
    MATRIX(DSC_K_NORM_BWD_W, 0, "sb"),
    FEW_MATRIX(DSC_K_NORM_BWD_W, 0, "hB"),
    FEW_MATRIX(DSC_K_NORM_BWD_W, DSC_ACCUMULATE, "sB"),
    ATTENTION(DSC_K_ATTENTION_FWD),
    ATTENTION(DSC_K_ATTENTION_BWD),
    SPARSE(DSC_K_ATTENTION_FWD),
    SPARSE(DSC_K_ATTENTION_BWD),
    SCORES(DSC_K_SCORES_FWD),
    SCORES(DSC_K_SCORES_BWD),
    {DSC_K_ROPE, 0, "sb", {{{2}}, {{64, 256, 1024}}, {{4, 16}}, {{2, 4}}, {{32, 64, 128}}, {{10000}}}},
    {DSC_K_ROPE, 0, "h", {{{2}}, {{256}}, {{4, 16}}, {{4}}, {{64}}, {{10000}}}},
    VECTOR(DSC_K_SWIGLU_FWD, 0, "sb"),
    FEW_VECTOR(DSC_K_SWIGLU_FWD, 0, "h"),
    VECTOR(DSC_K_SWIGLU_BWD, 0, "sb"),
    FEW_VECTOR(DSC_K_SWIGLU_BWD, 0, "h"),
    VECTOR(DSC_K_GELU_FWD, 0, "sb"),
    FEW_VECTOR(DSC_K_GELU_FWD, 0, "h"),
    VECTOR(DSC_K_GELU_BWD, 0, "sb"),
    FEW_VECTOR(DSC_K_GELU_BWD, 0, "h"),
    MATRIX(DSC_K_JOIN, DSC_HAS_BIAS | DSC_HAS_RESIDUAL, "sb"),
    FEW_MATRIX(DSC_K_JOIN, DSC_HAS_BIAS | DSC_HAS_RESIDUAL, "h"),
    FEW_MATRIX(DSC_K_JOIN, 0, "sb"),
    MATRIX(DSC_K_COLUMN_SUM, 0, "sb"),
    FEW_MATRIX(DSC_K_COLUMN_SUM, 0, "hB"),
    FEW_MATRIX(DSC_K_COLUMN_SUM, DSC_ACCUMULATE, "sB"),
    {DSC_K_EMBED_FWD, 0, "sb", {{{1, 4, 16}}, {{64, 256}}, {{64, 256, 1024}}, {{256, 8192}}}},
    {DSC_K_EMBED_FWD, 0, "h", {{{4}}, {{256}}, {{64, 1024}}, {{256, 8192}}}},
    {DSC_K_EMBED_FWD, DSC_SHARD, "sb", {{{4}}, {{256}}, {{64, 1024}}, {{256, 8192}}}},
    {DSC_K_EMBED_BWD, 0, "sb", {{{1, 4, 16}}, {{64, 256}}, {{64, 256, 1024}}, {{256, 8192}}}},
    {DSC_K_EMBED_BWD, 0, "hB", {{{4}}, {{256}}, {{64, 1024}}, {{256, 8192}}}},
    {DSC_K_EMBED_BWD, DSC_ACCUMULATE, "sB", {{{4}}, {{256}}, {{64, 1024}}, {{256, 8192}}}},
    {DSC_K_EMBED_BWD, DSC_FIRST, "sB", {{{4}}, {{256}}, {{64, 1024}}, {{256, 8192}}}},
    {DSC_K_EMBED_BWD, DSC_SHARD, "sB", {{{4}}, {{256}}, {{64, 1024}}, {{256, 8192}}}},
    {DSC_K_CROSS_ENTROPY, 0, "sb", {{{1, 4}}, {{64, 256}}, {{256, 2048, 8192, 50304}}, {{0}}}},
    {DSC_K_CROSS_ENTROPY, 0, "h", {{{4}}, {{64}}, {{256, 8192}}, {{0}}}},
    {DSC_K_CROSS_ENTROPY, DSC_APART, "s", {{{4}}, {{64}}, {{256, 2048, 8192}}, {{0}}}},
    {DSC_K_CROSS_ENTROPY_PART, 0, "sb", {{{1, 4}}, {{64, 256}}, {{256, 2048, 8192, 50304}}}},
    {DSC_K_CROSS_ENTROPY_PART, 0, "h", {{{4}}, {{64}}, {{256, 8192}}}},
    {DSC_K_CROSS_ENTROPY_JOIN, 0, "sb", {{{1, 4}}, {{64, 256}}, {{256, 2048, 8192, 50304}}}},
    {DSC_K_CROSS_ENTROPY_JOIN, 0, "h", {{{4}}, {{64}}, {{256, 8192}}}},
    {DSC_K_CROSS_ENTROPY_JOIN, DSC_APART, "s", {{{4}}, {{64}}, {{256, 2048, 8192}}}},
    VECTOR(DSC_K_SQUARE_SUM, 0, "sb"),
    FEW_VECTOR(DSC_K_SQUARE_SUM, 0, "hB"),
    {DSC_K_CLEAR, 0, "d", {{{1, 8, 64, 512}}}}, /* scalars */
    FEW_VECTOR(DSC_K_CLEAR, 0, "sb"),
    VECTOR(DSC_K_ADAM, DSC_DECOUPLED, "sb"),
    FEW_VECTOR(DSC_K_ADAM, DSC_DECOUPLED, "hBH"),
    FEW_VECTOR(DSC_K_ADAM, 0, "s"),
    FEW_VECTOR(DSC_K_ADAM, DSC_DECOUPLED | DSC_FROZEN, "sB"),
    VECTOR(DSC_K_MOMENTUM, 0, "s"),
    FEW_VECTOR(DSC_K_MOMENTUM, 0, "bh"),
    FEW_VECTOR(DSC_K_MOMENTUM, DSC_FIRST, "sb"),
    FEW_VECTOR(DSC_K_MOMENTUM, DSC_SCALED, "s"),
    FEW_VECTOR(DSC_K_DRIFT, 0, "s"),
    FEW_VECTOR(DSC_K_REJOIN, 0, "sb"),
    {DSC_K_LAMB_NORMS, 0, "sb", {BUCKETS, {{1, 16}}}},
    {DSC_K_LAMB_NORMS, DSC_FROZEN, "s", {BUCKETS, {{1, 16}}}},
    {DSC_K_LAMB_TRUST, 0, "s", {{{1, 16, 128}}, {{1, 8}}}},
    {DSC_K_LAMB_TRUST, DSC_FROZEN, "s", {{{1, 16, 128}}, {{1, 8}}}},
    {DSC_K_LAMB_STEP, 0, "sb", {BUCKETS, {{1, 16}}}},
    {DSC_K_SIGN_COMPRESS, 0, "s", {{{0}}, BUCKETS, {{BENCH_WORKERS}}, {{1, 16}}}},
    {DSC_K_SIGN_COMPRESS, 0, "s", {{{0}}, LARGE_BUCKETS, {{BENCH_WORKERS}}, {{128}}}},
    {DSC_K_SIGN_AVERAGE, 0, "s", {BUCKETS, {{2, 8, 32}}, {{1}}}},
    {DSC_K_SIGN_AVERAGE, 0, "s", {LARGE_BUCKETS, {{2, 8, 32}}, {{16}}}},
    {DSC_K_SIGN_EXPAND, 0, "s", {{{0}}, BUCKETS, {{BENCH_WORKERS}}, {{1, 16}}, {{1, 4}}}},
    {DSC_K_SIGN_EXPAND, 0, "s", {{{0}}, LARGE_BUCKETS, {{BENCH_WORKERS}}, {{128}}, {{1, 4}}}},
    VECTOR(DSC_K_CAST, 0, "B"),
    FEW_VECTOR(DSC_K_CAST, 0, "H"),
    VECTOR(DSC_K_CAST, DSC_ACCUMULATE, "sB"),
};

typedef struct shapes { dsc_shape *items; int64_t count, capacity; } shapes;

static void set_types(dsc_shape *shape, char letter)
{
    const int type = letter == 'd'                    ? DSC_FP64
                     : letter == 's'                  ? DSC_FP32
                     : letter == 'b' || letter == 'B' ? DSC_BF16
                                                      : DSC_FP16;

    shape->type = (int8_t)type;
    shape->out = letter == 'B' || letter == 'H' ? DSC_FP32 : (int8_t)type;
}

int64_t bench_window(const dsc_shape *shape)
{
    const int64_t n = dsc_ceil_div(shape->d[1], shape->d[6]), present = shape->d[5] / shape->d[2];
    int64_t window = 1;

    while (window < n && window * n - window * (window - 1) / 2 < present) window++;
    return window;
}

/* From the window to the present blocks of all heads: a row has those up to the diagonal. */
static void count_present(dsc_shape *shape)
{
    const int64_t n = dsc_ceil_div(shape->d[1], shape->d[6]), window = DSC_MIN(shape->d[5], n);

    shape->d[5] = shape->d[2] * (window * n - window * (window - 1) / 2);
}

/* Dimensions that follow from others: as many key heads as heads, logits without padding, all of a bucket in its units,
 * and of shards the first of BENCH_SHARDS ranks'. A grid's V is what a rank holds. */
static void complete(dsc_shape *shape)
{
    const bool is_attention = shape->kernel >= DSC_K_ATTENTION_FWD && shape->kernel <= DSC_K_SCORES_BWD;
    const bool is_join = shape->kernel == DSC_K_CROSS_ENTROPY_JOIN;

    if (is_attention || shape->kernel == DSC_K_CROSS_ENTROPY) shape->d[3] = shape->d[2];
    if (is_join || shape->kernel == DSC_K_CROSS_ENTROPY_PART) {
        shape->d[3] = shape->d[4] = shape->d[2];
        shape->d[2] *= BENCH_SHARDS;
    }
    if (is_join) shape->d[5] = BENCH_SHARDS;
    if (shape->flags & DSC_HAS_LAYOUT) count_present(shape);
    if (shape->kernel == DSC_K_MOMENTUM) shape->d[1] = BENCH_WORKERS;
    if (shape->kernel == DSC_K_SIGN_COMPRESS) shape->d[0] = shape->d[1];
    if (shape->kernel == DSC_K_SIGN_EXPAND) shape->d[0] = shape->d[1] * shape->d[4];
    if (shape->flags & DSC_SHARD) {
        shape->d[4] = shape->d[3];
        shape->d[5] = dsc_ceil_div(shape->d[1], BENCH_SHARDS);
    }
}

static int64_t operand_bytes(const dsc_shape *shape)
{
    int64_t sum = 0;

    for (int i = 0; i < dsc_kernel_operands((dsc_kernel)shape->kernel); i++) sum += dsc_operand_bytes(shape, i);
    return sum;
}

/* Some milliseconds on one core, or on a GPU: longer calls are cut by whatever else the machine does, and reach the
 * speed of shorter ones. And less than the pools of operands hold. */
static bool is_affordable(const dsc_shape *shape, bool is_gpu)
{
    return dsc_kernel_flops(shape) <= INT64_C(3) << (is_gpu ? 40 : 28) &&
           operand_bytes(shape) <= (is_gpu ? BENCH_GPU_BYTES : BENCH_BYTES);
}

static dsc_status add_shape(dsc_shape shape, bool is_gpu, shapes *out)
{
    complete(&shape);
    return is_affordable(&shape, is_gpu) ? DSC_PUSH(out->items, out->count, out->capacity, shape) : DSC_OK;
}

/* The dimension of tokens, or of elements; lists of units are made for the sizes that they have. */
static dsc_status add_larger(dsc_shape shape, shapes *out)
{
    if (bench_has_units(shape.kernel)) return DSC_OK;
    shape.d[shape.kernel == DSC_K_GEMM && shape.flags & DSC_TRANS_A ? 2 : 0] *= 16;
    return add_shape(shape, true, out);
}

/* All combinations of the axes from `axis` on. */
static dsc_status add_product(const lattice *l, int axis, bool is_gpu, dsc_shape *shape, shapes *out)
{
    dsc_status status = DSC_OK;

    if (axis == DSC_COUNT(l->d)) {
        DSC_TRY(add_shape(*shape, is_gpu, out));
        if (is_gpu) DSC_TRY(add_larger(*shape, out));
        goto out;
    }
    for (int i = 0; i == 0 || (i < MAX_SIZES && l->d[axis].sizes[i] != 0); i++) {
        shape->d[axis] = l->d[axis].sizes[i];
        DSC_TRY(add_product(l, axis + 1, is_gpu, shape, out));
    }
out:
    return status;
}

static int compare_flops(const void *a, const void *b)
{
    const int64_t x = dsc_kernel_flops(a) + dsc_kernel_bytes(a), y = dsc_kernel_flops(b) + dsc_kernel_bytes(b);

    return (x > y) - (x < y);
}

dsc_status bench_grid(const bench_request *request, dsc_shape **out, int64_t *count)
{
    shapes all = {0};
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(lattices); i++) {
        const lattice *l = &lattices[i];

        for (const char *type = l->types; request->kernels[l->kernel] && *type != '\0'; type++) {
            dsc_shape shape = {.kernel = (int16_t)l->kernel, .flags = l->flags};

            set_types(&shape, *type);
            DSC_TRY(add_product(l, 0, request->device->has_queues, &shape, &all));
        }
    }
    if (all.count > 0) qsort(all.items, (size_t)all.count, sizeof *all.items, compare_flops);
    *out = all.items;
    *count = all.count;
    all.items = NULL;
out:
    free(all.items);
    return status;
}
