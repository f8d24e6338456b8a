/* The reference against the mathematics: formulas in double, finite differences for gradients, and every half float. */
#include "base/rng.h"
#include "kernel/blocks.h"
#include "kernel/convert.h"
#include "tests/kernels/call.h"
#include <complex.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Formulas */

static void check_gemm(int32_t flags, int64_t m, int64_t n, int64_t k)
{
    call c, before;

    call_init(&c, call_shape(DSC_K_GEMM, flags, m, n, k, 0, 0));
    call_copy(&c, &before);
    call_run(&c, dsc_kernels_ref());
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = flags & DSC_ACCUMULATE ? call_get(&before, 4, i * n + j) : 0;

            if (flags & DSC_HAS_BIAS) sum += call_get(&c, 2, j);
            if (flags & DSC_HAS_RESIDUAL) sum += call_get(&c, 3, i * n + j);
            for (int64_t l = 0; l < k; l++)
                sum += call_get(&c, 0, flags & DSC_TRANS_A ? l * m + i : i * k + l) *
                       call_get(&c, 1, flags & DSC_TRANS_B ? j * k + l : l * n + j);
            CHECK(fabs(call_get(&c, 4, i * n + j) - sum) <= 1e-6 * (1 + fabs(sum)), "flags %d: (%lld, %lld)", flags,
                  (long long)i, (long long)j);
        }
    call_fini(&c);
    call_fini(&before);
}

static void gemm_formula(void)
{
    static const int32_t all[] = {DSC_TRANS_A, DSC_TRANS_B, DSC_ACCUMULATE, DSC_HAS_BIAS, DSC_HAS_RESIDUAL};

    for (unsigned set = 0; set < 1u << DSC_COUNT(all); set++) {
        int32_t flags = 0;

        for (int i = 0; i < DSC_COUNT(all); i++) flags |= set >> i & 1 ? all[i] : 0;
        check_gemm(flags, 5, 7, 11);
    }
}

/* Identities that hold whatever the input: rows of y / gamma - beta have mean 0 and variance 1. */
static void norm_identities(void)
{
    enum { ROWS = 7, COLS = 48 };
    call c;

    call_init(&c, call_shape(DSC_K_NORM_FWD, 0, ROWS, COLS, 0, 0, 0));
    call_run(&c, dsc_kernels_ref());
    for (int i = 0; i < ROWS; i++) {
        double mean = 0, square = 0;

        for (int j = 0; j < COLS; j++) {
            const double z = (call_get(&c, 3, i * COLS + j) - call_get(&c, 2, j)) / call_get(&c, 1, j);

            mean += z / COLS;
            square += z * z / COLS;
        }
        CHECK(fabs(mean) < 1e-4 && fabs(square - 1) < 1e-3, "row %d: mean %g, mean square %g", i, mean, square);
    }
    call_fini(&c);
}

/* What is added to a score: minus infinity where the block is not listed. */
static double naive_mask(const call *c, int64_t b, int64_t h, int64_t query, int64_t key)
{
    const dsc_shape *s = &c->shape;

    if (s->flags & DSC_HAS_LAYOUT) {
        const dsc_blocks blocks = dsc_blocks_of(s, c->operand[3]);
        const int64_t list = h * blocks.n + query / blocks.side;
        bool is_there = false;

        for (int64_t i = blocks.row_start[list]; i < blocks.row_start[list + 1]; i++)
            is_there |= blocks.columns[i] == key / blocks.side;
        if (!is_there) return -INFINITY;
    }
    return s->flags & DSC_HAS_MASK ? call_get(c, 4, b * s->d[1] + key) : 0;
}

/* Attention with the whole matrix of scores in double. */
static double naive_context(const call *c, int64_t b, int64_t h, int64_t query, int64_t column)
{
    const int64_t *d = c->shape.d, t = d[1], width = (d[2] + 2 * d[3]) * d[4], kv = h / (d[2] / d[3]);
    const bool is_fused = c->shape.kernel == DSC_K_ATTENTION_FWD;
    double sum = 0, total = 0;

    for (int64_t key = 0; key < (c->shape.flags & DSC_CAUSAL ? query + 1 : t); key++) {
        const double mask = is_fused ? naive_mask(c, b, h, query, key) : 0;
        double score = 0;

        for (int64_t l = 0; l < d[4]; l++)
            score += call_get(c, 0, (b * t + query) * width + h * d[4] + l) *
                     call_get(c, 0, (b * t + key) * width + (d[2] + kv) * d[4] + l);
        total += exp(score / sqrt((double)d[4]) + mask);
        sum += exp(score / sqrt((double)d[4]) + mask) *
               call_get(c, 0, (b * t + key) * width + (d[2] + d[3] + kv) * d[4] + column);
    }
    return total == 0 ? 0 : sum / total;
}

/* 40 tokens are two blocks of 16 and half a third. */
static dsc_shape make_sparse(dsc_kernel kernel, int32_t flags)
{
    dsc_shape shape = call_shape(kernel, flags | DSC_HAS_LAYOUT, 2, 40, 4, 2, 6);

    shape.d[5] = 20;
    shape.d[6] = 16;
    return shape;
}

static void check_attention(dsc_shape shape)
{
    const int64_t *d = shape.d;
    call c;

    call_init(&c, shape);
    call_run(&c, dsc_kernels_ref());
    for (int64_t i = 0; i < call_count(&c, 1); i++) {
        const int64_t column = i % d[4], h = i / d[4] % d[2], row = i / d[4] / d[2];
        const double expected = naive_context(&c, row / d[1], h, row % d[1], column);

        CHECK(fabs(call_get(&c, 1, i) - expected) < 1e-6 * (1 + fabs(expected)), "context[%lld] is %g, not %g",
              (long long)i, call_get(&c, 1, i), expected);
    }
    call_fini(&c);
}

static void attention_formula(void)
{
    for (int32_t flags = 0; flags <= DSC_CAUSAL; flags += DSC_CAUSAL) {
        check_attention(call_shape(DSC_K_ATTENTION_FWD, flags, 2, 9, 4, 2, 6));
        check_attention(call_shape(DSC_K_ATTENTION_FWD, flags | DSC_HAS_MASK, 2, 9, 4, 2, 6));
        check_attention(make_sparse(DSC_K_ATTENTION_FWD, flags));
        check_attention(make_sparse(DSC_K_ATTENTION_FWD, flags | DSC_HAS_MASK));
        check_attention(call_shape(DSC_K_SCORES_FWD, flags, 2, 9, 4, 2, 6));
    }
}

/* ---- Block products: with dense matrices in double, whose absent blocks are zero or seen by nobody */

/* Where a head's element (row, column) is in the sparse operand; -1: its block is absent. */
static int64_t block_index(const call *c, int64_t b, int64_t h, int64_t row, int64_t column)
{
    const dsc_blocks blocks = dsc_blocks_of(&c->shape, c->operand[2]);
    const int64_t side = blocks.side, list = h * blocks.n + row / side;

    for (int64_t i = blocks.row_start[list]; i < blocks.row_start[list + 1]; i++)
        if (blocks.columns[i] == column / side)
            return (b * blocks.present + i) * side * side + row % side * side + column % side;
    return -1;
}

static double block_get(const call *c, int operand, int64_t b, int64_t h, int64_t row, int64_t column)
{
    const int64_t at = block_index(c, b, h, row, column);

    return at < 0 ? 0 : call_get(c, operand, at);
}

/* Four heads of 40 tokens, two blocks of 16 and half a third. */
static dsc_shape make_block(dsc_kernel kernel, int32_t flags)
{
    dsc_shape shape = call_shape(kernel, flags, 2, 40, 4, 6, 20);

    shape.d[5] = 16;
    return shape;
}

/* expected[b, h, row, column], with what lies outside of the matrix and of the lists zero. */
typedef double naive_fn(const call *c, int64_t b, int64_t h, int64_t row, int64_t column);

static void check_sparse_result(dsc_kernel kernel, int32_t flags, int operand, naive_fn *naive)
{
    double *expected;
    call c;

    call_init(&c, make_block(kernel, flags));
    expected = calloc((size_t)call_count(&c, operand), sizeof *expected);
    if (expected == NULL) abort();
    call_run(&c, dsc_kernels_ref());
    for (int64_t b = 0; b < 2; b++)
        for (int64_t h = 0; h < 4; h++)
            for (int64_t i = 0; i < 40 * 40; i++)
                if (block_index(&c, b, h, i / 40, i % 40) >= 0)
                    expected[block_index(&c, b, h, i / 40, i % 40)] = naive(&c, b, h, i / 40, i % 40);
    for (int64_t i = 0; i < call_count(&c, operand); i++) call_near(&c, i, call_get(&c, operand, i), expected[i]);
    free(expected);
    call_fini(&c);
}

static double naive_sdd(const call *c, int64_t b, int64_t h, int64_t row, int64_t column)
{
    const int64_t *d = c->shape.d, head = (b * d[2] + h) * d[1] * d[3];
    double sum = 0;

    for (int64_t l = 0; l < d[3]; l++)
        sum += call_get(c, 0, head + row * d[3] + l) *
               call_get(c, 1, head + (c->shape.flags & DSC_TRANS_B ? column * d[3] + l : l * d[1] + column));
    return sum;
}

static double naive_softmax(const call *c, int64_t b, int64_t h, int64_t query, int64_t key)
{
    const int64_t *d = c->shape.d, end = c->shape.flags & DSC_CAUSAL ? query + 1 : d[1];
    double total = 0, value = 0;

    for (int64_t k = 0; k < end; k++) {
        const double mask = c->shape.flags & DSC_HAS_MASK ? call_get(c, 3, b * d[1] + k) : 0;

        if (block_index(c, b, h, query, k) < 0) continue;
        total += exp(block_get(c, 0, b, h, query, k) / sqrt((double)d[3]) + mask);
        if (k == key) value = exp(block_get(c, 0, b, h, query, k) / sqrt((double)d[3]) + mask);
    }
    return total == 0 ? 0 : value / total;
}

/* Element (row, column) of op(blocks) * b or a * op(blocks). */
static double naive_dense(const call *c, int64_t b, int64_t h, int64_t row, int64_t column)
{
    const int64_t *d = c->shape.d, head = (b * d[2] + h) * d[1] * d[3];
    const bool is_dsd = c->shape.kernel == DSC_K_BLOCK_DSD, is_transposed = c->shape.flags != 0;
    double sum = 0;

    for (int64_t l = 0; l < d[1]; l++) {
        const int64_t i = is_dsd ? row : l, j = is_dsd ? l : column;
        const double dense = call_get(c, is_dsd ? 1 : 0, head + (is_dsd ? l * d[3] + column : row * d[1] + l));

        sum += dense * block_get(c, is_dsd ? 0 : 1, b, h, is_transposed ? j : i, is_transposed ? i : j);
    }
    return sum;
}

static void check_dense_result(dsc_kernel kernel, int32_t flags)
{
    const int64_t cols = kernel == DSC_K_BLOCK_DSD ? 6 : 40, elems = 40 * 6; /* of a head */
    call c;

    call_init(&c, make_block(kernel, flags));
    call_run(&c, dsc_kernels_ref());
    for (int64_t i = 0; i < call_count(&c, 3); i++)
        call_near(&c, i, call_get(&c, 3, i),
                   naive_dense(&c, i / elems / 4, i / elems % 4, i % elems / cols, i % cols));
    call_fini(&c);
}

static void block_formulas(void)
{
    for (int round = 0; round < 3; round++) { /* of random layouts */
        check_sparse_result(DSC_K_BLOCK_SDD, 0, 3, naive_sdd);
        check_sparse_result(DSC_K_BLOCK_SDD, DSC_TRANS_B, 3, naive_sdd);
        check_dense_result(DSC_K_BLOCK_DSD, 0);
        check_dense_result(DSC_K_BLOCK_DSD, DSC_TRANS_A);
        check_dense_result(DSC_K_BLOCK_DDS, 0);
        check_dense_result(DSC_K_BLOCK_DDS, DSC_TRANS_B);
        check_sparse_result(DSC_K_BLOCK_SOFTMAX_FWD, 0, 1, naive_softmax);
        check_sparse_result(DSC_K_BLOCK_SOFTMAX_FWD, DSC_CAUSAL, 1, naive_softmax);
        check_sparse_result(DSC_K_BLOCK_SOFTMAX_FWD, DSC_HAS_MASK, 1, naive_softmax);
        check_sparse_result(DSC_K_BLOCK_SOFTMAX_FWD, DSC_CAUSAL | DSC_HAS_MASK, 1, naive_softmax);
    }
}

/* ---- Gradients: the loss is L = sum of weight * output, so that the gradient of the output is `weight` */

static double weigh(const call *forward, int output, const call *weights, int operand)
{
    double sum = 0;

    for (int64_t i = 0; i < call_count(forward, output); i++)
        sum += call_get(forward, output, i) * call_get(weights, operand, i);
    return sum;
}

/* A forward kernel with the operand that is varied, its output, and how L follows from it. */
typedef struct function {
    call *forward;
    int input, output;
    const call *weights; /* NULL: the output is the loss itself */
    int weight;
} function;

static double evaluate(const function *f, const double *direction, double step)
{
    call moved;
    double loss;

    call_copy(f->forward, &moved);
    for (int64_t i = 0; i < call_count(&moved, f->input); i++)
        call_set(&moved, f->input, i, call_get(&moved, f->input, i) + step * direction[i]);
    call_run(&moved, dsc_kernels_ref());
    loss = f->weights != NULL ? weigh(&moved, f->output, f->weights, f->weight) : call_get(&moved, f->output, 0);
    call_fini(&moved);
    return loss;
}

/* gradient . direction equals the central difference of L, for random directions. The step of 0.01 leaves a truncation
 * error of about 1e-4 of the gradient's norm, and rounding of the fp32 outputs less. */
static void check_gradient(const function *f, const call *backward, int operand, double factor)
{
    const int64_t count = call_count(f->forward, f->input);
    double *direction = malloc((size_t)count * sizeof *direction);

    for (int round = 0; direction != NULL && round < 3; round++) {
        const uint64_t stream = tap_random();
        double slope = 0, norm = 0;

        for (int64_t i = 0; i < count; i++) {
            float normal;

            dsc_random_normal(1, stream, i, 1, &normal);
            direction[i] = normal;
            slope += factor * call_get(backward, operand, i) * direction[i];
            norm += pow(factor * call_get(backward, operand, i), 2);
        }
        const double measured = (evaluate(f, direction, 0.01) - evaluate(f, direction, -0.01)) / 0.02;

        CHECK(fabs(measured - slope) <= 2e-3 * sqrt(norm), "%s, operand %d: %g, finite difference %g, norm %g",
              dsc_kernel_name((dsc_kernel)backward->shape.kernel), operand, slope, measured, sqrt(norm));
    }
    free(direction);
}

static void copy_operand(const call *from, int source, call *to, int target)
{
    memcpy(to->operand[target], from->operand[source], (size_t)dsc_operand_bytes(&to->shape, target));
}

static void check_norm(int32_t flags)
{
    call forward, x, w;

    call_init(&forward, call_shape(DSC_K_NORM_FWD, flags, 6, 32, 0, 0, 0));
    call_run(&forward, dsc_kernels_ref());
    call_init(&x, call_shape(DSC_K_NORM_BWD_X, flags, 6, 32, 0, 0, 0));
    call_init(&w, call_shape(DSC_K_NORM_BWD_W, flags, 6, 32, 0, 0, 0));
    copy_operand(&x, 0, &w, 0);
    copy_operand(&forward, 0, &x, 1);
    copy_operand(&forward, 0, &w, 1);
    copy_operand(&forward, 4, &x, 2);
    copy_operand(&forward, 4, &w, 2);
    copy_operand(&forward, 1, &x, 3);
    call_run(&x, dsc_kernels_ref());
    call_run(&w, dsc_kernels_ref());
    check_gradient(&(function){&forward, 0, 3, &x, 0}, &x, 5, 1);
    check_gradient(&(function){&forward, 1, 3, &x, 0}, &w, 3, 1);
    if (!(flags & DSC_RMS)) check_gradient(&(function){&forward, 2, 3, &x, 0}, &w, 4, 1);
    call_fini(&forward);
    call_fini(&x);
    call_fini(&w);
}

static void norm_gradients(void)
{
    check_norm(0);
    check_norm(DSC_RMS);
}

static void check_attention_gradient(dsc_kernel forward_kernel, dsc_shape shape)
{
    const int dqkv = shape.kernel == DSC_K_ATTENTION_BWD ? 4 : 3;
    call forward, backward;

    call_init(&backward, shape);
    shape.kernel = (int16_t)forward_kernel;
    call_init(&forward, shape);
    copy_operand(&backward, 1, &forward, 0);
    if (shape.flags & DSC_HAS_LAYOUT) copy_operand(&backward, 5, &forward, 3);
    if (shape.flags & DSC_HAS_MASK) copy_operand(&backward, 6, &forward, 4);
    call_run(&backward, dsc_kernels_ref());
    check_gradient(&(function){&forward, 0, 1, &backward, 0}, &backward, dqkv, 1);
    call_fini(&forward);
    call_fini(&backward);
}

static void attention_gradients(void)
{
    for (int32_t flags = 0; flags <= DSC_CAUSAL; flags += DSC_CAUSAL) {
        check_attention_gradient(DSC_K_ATTENTION_FWD, call_shape(DSC_K_ATTENTION_BWD, flags, 2, 7, 4, 2, 6));
        check_attention_gradient(DSC_K_ATTENTION_FWD, make_sparse(DSC_K_ATTENTION_BWD, flags));
        check_attention_gradient(DSC_K_ATTENTION_FWD, make_sparse(DSC_K_ATTENTION_BWD, flags | DSC_HAS_MASK));
        check_attention_gradient(DSC_K_SCORES_FWD, call_shape(DSC_K_SCORES_BWD, flags, 2, 7, 4, 2, 6));
    }
}

static void block_softmax_gradient(void)
{
    static const int32_t flags[] = {0, DSC_CAUSAL, DSC_HAS_MASK, DSC_CAUSAL | DSC_HAS_MASK};
    call forward, backward;

    for (int i = 0; i < DSC_COUNT(flags); i++) {
        call_init(&forward, make_block(DSC_K_BLOCK_SOFTMAX_FWD, flags[i]));
        call_init(&backward, make_block(DSC_K_BLOCK_SOFTMAX_BWD, 0));
        call_run(&forward, dsc_kernels_ref());
        copy_operand(&forward, 1, &backward, 1);
        copy_operand(&forward, 2, &backward, 2);
        call_run(&backward, dsc_kernels_ref());
        check_gradient(&(function){&forward, 0, 1, &backward, 0}, &backward, 3, 1);
        call_fini(&forward);
        call_fini(&backward);
    }
}

static void gelu_gradient(void)
{
    call forward, backward;

    call_init(&forward, call_shape(DSC_K_GELU_FWD, 0, 500, 0, 0, 0, 0));
    call_init(&backward, call_shape(DSC_K_GELU_BWD, 0, 500, 0, 0, 0, 0));
    copy_operand(&forward, 0, &backward, 1);
    call_run(&backward, dsc_kernels_ref());
    check_gradient(&(function){&forward, 0, 1, &backward, 0}, &backward, 2, 1);
    call_fini(&forward);
    call_fini(&backward);
}

static void swiglu_gradient(void)
{
    call forward, backward;

    call_init(&forward, call_shape(DSC_K_SWIGLU_FWD, 0, 500, 0, 0, 0, 0));
    call_init(&backward, call_shape(DSC_K_SWIGLU_BWD, 0, 500, 0, 0, 0, 0));
    copy_operand(&forward, 0, &backward, 1);
    copy_operand(&forward, 1, &backward, 2);
    call_run(&backward, dsc_kernels_ref());
    check_gradient(&(function){&forward, 0, 2, &backward, 0}, &backward, 3, 1);
    check_gradient(&(function){&forward, 1, 2, &backward, 0}, &backward, 4, 1);
    call_fini(&forward);
    call_fini(&backward);
}

/* ---- Rotary positions */

enum { ROPE_T = 9, ROPE_HEADS = 4, ROPE_KEYS = 2, ROPE_D = 6 }; /* two sequences */
enum { ROPE_WIDTH = (ROPE_HEADS + 2 * ROPE_KEYS) * ROPE_D };

static dsc_shape rope_shape(int32_t flags)
{
    dsc_shape shape = call_shape(DSC_K_ROPE, flags, 2, ROPE_T, ROPE_HEADS, ROPE_KEYS, ROPE_D);

    shape.d[5] = 100;
    return shape;
}

/* Elements i and i + D/2 of a head are a complex number, which is multiplied by exp(i t theta^(-2i/D)); v is as it
 * was. */
static void rope_formula(void)
{
    call c, before;

    call_init(&c, rope_shape(0));
    call_copy(&c, &before);
    call_run(&c, dsc_kernels_ref());
    for (int64_t row = 0; row < 2 * ROPE_T; row++)
        for (int64_t column = 0; column < ROPE_WIDTH; column++) {
            const bool is_turned = column < (ROPE_HEADS + ROPE_KEYS) * ROPE_D;
            const int64_t pair = column % ROPE_D % (ROPE_D / 2), first = row * ROPE_WIDTH + column / ROPE_D * ROPE_D;
            const double complex z = call_get(&before, 0, first + pair) +
                                     I * call_get(&before, 0, first + pair + ROPE_D / 2);
            const double angle = (double)(row % ROPE_T) / pow(100, 2 * (double)pair / ROPE_D);
            const double complex turned = is_turned ? z * cexp(I * angle) : z;

            call_near(&c, row * ROPE_WIDTH + column, call_get(&c, 0, row * ROPE_WIDTH + column),
                      column % ROPE_D < ROPE_D / 2 ? creal(turned) : cimag(turned));
        }
    call_fini(&c);
    call_fini(&before);
}

/* Turning is orthogonal, so the gradient's way is back. */
static void rope_turns_back(void)
{
    call c, before, back;

    call_init(&c, rope_shape(0));
    call_copy(&c, &before);
    call_run(&c, dsc_kernels_ref());
    call_init(&back, rope_shape(DSC_INVERSE));
    copy_operand(&c, 0, &back, 0);
    call_run(&back, dsc_kernels_ref());
    for (int64_t i = 0; i < call_count(&back, 0); i++)
        call_near(&back, i, call_get(&back, 0, i), call_get(&before, 0, i));
    call_fini(&c);
    call_fini(&before);
    call_fini(&back);
}

/* Where all rows hold the same, a query's product with a key depends on how far apart they are alone. */
static void rope_is_relative(void)
{
    call c;

    call_init(&c, rope_shape(0));
    for (int64_t i = ROPE_WIDTH; i < call_count(&c, 0); i++) call_set(&c, 0, i, call_get(&c, 0, i % ROPE_WIDTH));
    call_run(&c, dsc_kernels_ref());
    for (int64_t query = 1; query < ROPE_T; query++)
        for (int64_t key = 1; key < ROPE_T; key++) {
            double product = 0, before = 0;

            for (int64_t i = 0; i < ROPE_D; i++) {
                const int64_t q = query * ROPE_WIDTH + i, k = key * ROPE_WIDTH + ROPE_HEADS * ROPE_D + i;

                product += call_get(&c, 0, q) * call_get(&c, 0, k);
                before += call_get(&c, 0, q - ROPE_WIDTH) * call_get(&c, 0, k - ROPE_WIDTH);
            }
            CHECK(fabs(product - before) < 1e-5, "query %lld, key %lld: %g, one earlier %g", (long long)query,
                  (long long)key, product, before);
        }
    call_fini(&c);
}

static void check_loss_gradient(int flags)
{
    call forward, backward;

    call_init(&forward, call_shape(DSC_K_CROSS_ENTROPY, flags, 2, 5, 13, 13, 0));
    call_copy(&forward, &backward);
    call_run(&backward, dsc_kernels_ref());
    check_gradient(&(function){&forward, 1, 2, NULL, 0}, &backward, 1, 1 / (double)call_step.loss_gradient);
    call_fini(&forward);
    call_fini(&backward);
}

static void loss_gradient(void) { check_loss_gradient(0); }
static void loss_gradient_in_steps(void) { check_loss_gradient(DSC_APART); }

static void loss_of_uniform(void)
{
    call c;

    call_init(&c, call_shape(DSC_K_CROSS_ENTROPY, 0, 3, 4, 10, 16, 0));
    for (int64_t i = 0; i < call_count(&c, 1); i++) call_set(&c, 1, i, 3);
    call_run(&c, dsc_kernels_ref());
    CHECK(fabs(call_get(&c, 2, 0) - 12 * log(10)) < 1e-6, "%g, not 12 log 10", call_get(&c, 2, 0));
    for (int64_t row = 0; row < 12; row++)
        for (int64_t v = 10; v < 16; v++)
            CHECK(call_get(&c, 1, row * 16 + v) == 0, "padding of row %lld", (long long)row);
    call_fini(&c);
}

/* Embedding is linear, so backward is its adjoint: <dx, embed(wte, wpe)> = <dwte, wte> + <dwpe, wpe>. */
static void embedding_adjoint(void)
{
    call forward, backward;

    call_init(&forward, call_shape(DSC_K_EMBED_FWD, 0, 3, 8, 16, 5, 0));
    call_init(&backward, call_shape(DSC_K_EMBED_BWD, DSC_FIRST, 3, 8, 16, 5, 0));
    copy_operand(&forward, 0, &backward, 0);
    call_run(&forward, dsc_kernels_ref());
    call_run(&backward, dsc_kernels_ref());
    const double left = weigh(&forward, 3, &backward, 1);
    const double right = weigh(&forward, 1, &backward, 2) + weigh(&forward, 2, &backward, 3);

    CHECK(fabs(left - right) < 1e-4, "%g and %g", left, right);
    call_fini(&forward);
    call_fini(&backward);
}

/* ---- Sparse attention from its products */

static const dsc_kernel_set *set_of(int index) { return index == 0 ? dsc_kernels_ref() : dsc_kernels_cpu(); }

enum part { Q, K, V, ONLY }; /* of qkv, or of an operand that has no other */

/* Element i of [B, H, T, D] in a part of an attention's operand of [B, T, parts, H, D]. */
static double part_get(const call *attention, int operand, enum part part, int64_t i)
{
    const int64_t *s = attention->shape.d, t = s[1], heads = s[2], d = s[4], parts = part == ONLY ? 1 : 3;
    const int64_t column = i % d, token = i / d % t, h = i / d / t % heads, b = i / d / t / heads;
    const int64_t row = (b * t + token) * parts + (part == ONLY ? 0 : part);

    return call_get(attention, operand, (row * heads + h) * d + column);
}

static void take_part(const call *attention, int operand, enum part part, call *to, int target)
{
    for (int64_t i = 0; i < call_count(to, target); i++)
        call_set(to, target, i, part_get(attention, operand, part, i));
}

/* Scores that lie in fp32 between the products make the difference. */
static void check_part(const call *attention, int operand, enum part part, const call *got, const char *name)
{
    for (int64_t i = 0; i < call_count(got, 3); i++) {
        const double expected = part_get(attention, operand, part, i);

        CHECK(fabs(call_get(got, 3, i) - expected) < 5e-6 * (1 + fabs(expected)), "%s: element %lld is %g, not %g",
              name, (long long)i, call_get(got, 3, i), expected);
    }
}

/* A product or softmax over the layout of an attention_bwd, with operands still to be given. */
static void init_block(call *c, dsc_kernel kernel, int32_t flags, const call *attention)
{
    call_init(c, make_block(kernel, flags));
    copy_operand(attention, 5, c, 2);
    if (flags & DSC_HAS_MASK) copy_operand(attention, 6, c, 3);
}

/* op(blocks) * part, which must be what attention has; the blocks are an operand of `from`. */
static void check_dsd(const call *from, int blocks, int32_t flags, const call *attention, int dense,
                      enum part dense_part, int operand, enum part part, const char *name, const dsc_kernel_set *set)
{
    call c;

    init_block(&c, DSC_K_BLOCK_DSD, flags, attention);
    copy_operand(from, blocks, &c, 0);
    take_part(attention, dense, dense_part, &c, 1);
    call_run(&c, set);
    check_part(attention, operand, part, &c, name);
    call_fini(&c);
}

/* attention_bwd has all operands: dcontext, qkv, context, lse, dqkv, layout, mask. */
static void check_composition(int32_t flags, const dsc_kernel_set *set)
{
    dsc_shape shape = call_shape(DSC_K_ATTENTION_BWD, flags | DSC_HAS_LAYOUT, 2, 40, 4, 4, 6);
    call attention, scores, softmax, dp, ds;

    shape.d[5] = 20;
    shape.d[6] = 16;
    call_init(&attention, shape);
    call_run(&attention, set);
    init_block(&scores, DSC_K_BLOCK_SDD, DSC_TRANS_B, &attention);
    take_part(&attention, 1, Q, &scores, 0);
    take_part(&attention, 1, K, &scores, 1);
    call_run(&scores, set);
    init_block(&softmax, DSC_K_BLOCK_SOFTMAX_FWD, flags, &attention);
    copy_operand(&scores, 3, &softmax, 0);
    call_run(&softmax, set);
    check_dsd(&softmax, 1, 0, &attention, 1, V, 2, ONLY, "context = P V", set);

    init_block(&dp, DSC_K_BLOCK_SDD, DSC_TRANS_B, &attention);
    take_part(&attention, 0, ONLY, &dp, 0);
    take_part(&attention, 1, V, &dp, 1);
    call_run(&dp, set);
    init_block(&ds, DSC_K_BLOCK_SOFTMAX_BWD, 0, &attention);
    copy_operand(&dp, 3, &ds, 0);
    copy_operand(&softmax, 1, &ds, 1);
    call_run(&ds, set);
    check_dsd(&softmax, 1, DSC_TRANS_A, &attention, 0, ONLY, 4, V, "dV = P' dcontext", set);
    check_dsd(&ds, 3, 0, &attention, 1, K, 4, Q, "dQ = dS K", set);
    check_dsd(&ds, 3, DSC_TRANS_A, &attention, 1, Q, 4, K, "dK = dS' Q", set);
    call_fini(&attention);
    call_fini(&scores);
    call_fini(&softmax);
    call_fini(&dp);
    call_fini(&ds);
}

static void attention_from_products(void)
{
    static const int32_t flags[] = {0, DSC_CAUSAL, DSC_HAS_MASK, DSC_CAUSAL | DSC_HAS_MASK};

    for (int round = 0; round < 3; round++) /* of random layouts */
        for (int set = 0; set < 2; set++)
            for (int i = 0; i < DSC_COUNT(flags); i++) check_composition(flags[i], set_of(set));
}

/* ---- Tensor shards: ranks together compute what one computes alone */

enum { VOCAB = 13, MAX_RANKS = 8 };

static void copy_elements(const call *from, int source, int64_t first, int64_t count, call *to, int target, int64_t at)
{
    for (int64_t i = 0; i < count; i++) call_set(to, target, at + i, call_get(from, source, first + i));
}

/* Makes the parts of all ranks from their columns of the whole's logits, and hands them to each. */
static void make_parts(const call *whole, int64_t ranks, int flags, const dsc_kernel_set *set, call *join)
{
    const int64_t rows = whole->shape.d[0] * whole->shape.d[1], n = dsc_ceil_div(VOCAB, ranks), stride = n + 2;

    for (int64_t i = 0; i < ranks; i++) {
        dsc_shape shape = whole->shape;

        shape.kernel = DSC_K_CROSS_ENTROPY_JOIN;
        shape.flags = flags;
        shape.d[3] = stride;
        shape.d[4] = n;
        shape.d[5] = ranks;
        call_init(&join[i], shape);
        join[i].tp_index = i;
        copy_operand(whole, 0, &join[i], 0);
        for (int64_t row = 0; row < rows; row++)
            copy_elements(whole, 1, row * whole->shape.d[3] + i * n, DSC_MAX(0, DSC_MIN(n, VOCAB - i * n)), &join[i], 2,
                          row * stride);
    }
    for (int64_t i = 0; i < ranks; i++) {
        dsc_shape shape = join[i].shape;
        call part;

        shape.kernel = DSC_K_CROSS_ENTROPY_PART;
        shape.flags = 0;
        shape.d[5] = 0;
        call_init(&part, shape);
        part.tp_index = i;
        copy_operand(whole, 0, &part, 0);
        copy_operand(&join[i], 2, &part, 1);
        call_run(&part, set);
        for (int64_t j = 0; j < ranks; j++) copy_elements(&part, 2, 0, 3 * rows, &join[j], 1, i * 3 * rows);
        call_fini(&part);
    }
}

/* fp32: parts round their sums once, and gradients are below loss_gradient. */
static void check_loss(const call *whole, const call *join, int64_t ranks)
{
    const int64_t n = join->shape.d[4], stride = join->shape.d[3], first = join->tp_index * n;

    CHECK(fabs(call_get(join, 3, 0) - call_get(whole, 2, 0)) < 1e-6 * fabs(call_get(whole, 2, 0)),
          "rank %lld of %lld loses %.9g, not %.9g", (long long)join->tp_index, (long long)ranks, call_get(join, 3, 0),
          call_get(whole, 2, 0));
    for (int64_t i = 0; i < call_count(join, 2); i++) {
        const int64_t row = i / stride, column = i % stride;
        const bool is_real = column < n && first + column < VOCAB;
        const double expected = is_real ? call_get(whole, 1, row * whole->shape.d[3] + first + column) : 0;
        const double bound = is_real ? 1e-6 * call_step.loss_gradient : 0;

        CHECK(fabs(call_get(join, 2, i) - expected) <= bound, "rank %lld of %lld, row %lld, column %lld: %g, not %g",
              (long long)join->tp_index, (long long)ranks, (long long)row, (long long)column, call_get(join, 2, i),
              expected);
    }
}

static void check_sharded_loss(int64_t ranks, int flags, const dsc_kernel_set *set)
{
    call whole, join[MAX_RANKS];

    call_init(&whole, call_shape(DSC_K_CROSS_ENTROPY, 0, 3, 4, VOCAB, VOCAB + 3, 0));
    make_parts(&whole, ranks, flags, set, join);
    call_run(&whole, set);
    for (int64_t i = 0; i < ranks; i++) {
        call_run(&join[i], set);
        check_loss(&whole, &join[i], ranks);
        CHECK(call_get(&join[i], 3, 0) == call_get(&join[0], 3, 0), "rank %lld of %lld", (long long)i,
              (long long)ranks);
    }
    for (int64_t i = 0; i < ranks; i++) call_fini(&join[i]);
    call_fini(&whole);
}

static void sharded_loss(void)
{
    for (int set = 0; set < 2; set++)
        for (int64_t ranks = 1; ranks <= MAX_RANKS; ranks++) {
            check_sharded_loss(ranks, 0, set_of(set));
            check_sharded_loss(ranks, DSC_APART, set_of(set));
        }
}

/* A rank's call, with room for more tokens than it owns. */
static void init_shard(const call *whole, int64_t ranks, int64_t index, call *out)
{
    dsc_shape shape = whole->shape;

    shape.flags |= DSC_SHARD;
    shape.d[4] = dsc_ceil_div(VOCAB, ranks);
    shape.d[3] = shape.d[4] + 3;
    shape.d[5] = dsc_ceil_div(shape.d[1], ranks);
    call_init(out, shape);
    out->tp_index = index;
    copy_operand(whole, 0, out, 0);
}

static void add_elements(const call *from, call *to, int operand)
{
    for (int64_t i = 0; i < call_count(to, operand); i++)
        call_set(to, operand, i, call_get(to, operand, i) + call_get(from, operand, i));
}

static void check_embedding(int64_t ranks, const dsc_kernel_set *set)
{
    dsc_shape shape = call_shape(DSC_K_EMBED_FWD, 0, 3, 8, 16, VOCAB, 0);
    call whole, sum;

    shape.type = shape.out = DSC_BF16;
    call_init(&whole, shape);
    call_copy(&whole, &sum);
    call_run(&whole, set);
    memset(sum.operand[3], 0, (size_t)dsc_operand_bytes(&shape, 3));
    for (int64_t i = 0; i < ranks; i++) {
        call part;

        init_shard(&whole, ranks, i, &part);
        const int64_t n = part.shape.d[4], p = part.shape.d[5];
        copy_elements(&whole, 1, i * n * 16, 16 * DSC_MAX(0, DSC_MIN(n, VOCAB - i * n)), &part, 1, 0);
        copy_elements(&whole, 2, i * p * 16, 16 * DSC_MAX(0, DSC_MIN(p, 8 - i * p)), &part, 2, 0);
        call_run(&part, set);
        add_elements(&part, &sum, 3);
        call_fini(&part);
    }
    CHECK(memcmp(whole.operand[3], sum.operand[3], (size_t)dsc_operand_bytes(&shape, 3)) == 0, "%s, %lld ranks",
          set->name, (long long)ranks);
    call_fini(&whole);
    call_fini(&sum);
}

/* Rows [first, first + owned) of the whole's table are the part's first, all others zero. */
static void check_rows(const call *whole, const call *part, int operand, int64_t first, int64_t owned, int64_t all)
{
    const int64_t c_max = whole->shape.d[2], real = DSC_MAX(0, DSC_MIN(owned, all - first));

    for (int64_t i = 0; i < call_count(part, operand); i++) {
        const double expected = i < real * c_max ? call_get(whole, operand, first * c_max + i) : 0;

        CHECK(call_get(part, operand, i) == expected, "rank %lld, operand %d, row %lld: %g, not %g",
              (long long)part->tp_index, operand, (long long)(i / c_max), call_get(part, operand, i), expected);
    }
}

static void check_embedding_gradient(int64_t ranks, const dsc_kernel_set *set)
{
    dsc_shape shape = call_shape(DSC_K_EMBED_BWD, DSC_FIRST, 3, 8, 16, VOCAB, 0);
    call whole;

    shape.type = shape.out = DSC_BF16;
    call_init(&whole, shape);
    call_run(&whole, set);
    for (int64_t i = 0; i < ranks; i++) {
        call part;

        init_shard(&whole, ranks, i, &part);
        copy_operand(&whole, 1, &part, 1);
        call_run(&part, set);
        check_rows(&whole, &part, 2, i * part.shape.d[4], part.shape.d[4], VOCAB);
        check_rows(&whole, &part, 3, i * part.shape.d[5], part.shape.d[5], 8);
        call_fini(&part);
    }
    call_fini(&whole);
}

static void sharded_embedding(void)
{
    for (int set = 0; set < 2; set++)
        for (int64_t ranks = 1; ranks <= MAX_RANKS; ranks++) {
            check_embedding(ranks, set_of(set));
            check_embedding_gradient(ranks, set_of(set));
        }
}

static void check_join(int32_t flags)
{
    enum { ROWS = 5, COLS = 7 };
    call c;

    call_init(&c, call_shape(DSC_K_JOIN, flags, ROWS, COLS, 0, 0, 0));
    call_run(&c, dsc_kernels_ref());
    for (int64_t i = 0; i < ROWS * COLS; i++) {
        double sum = call_get(&c, 0, i);

        if (flags & DSC_HAS_BIAS) sum += call_get(&c, 1, i % COLS);
        if (flags & DSC_HAS_RESIDUAL) sum += call_get(&c, 2, i);
        CHECK(call_get(&c, 3, i) == (float)sum, "flags %d, element %lld: %g, not %g", flags, (long long)i,
              call_get(&c, 3, i), sum);
    }
    call_fini(&c);
}

static void join_formula(void)
{
    check_join(0);
    check_join(DSC_HAS_BIAS);
    check_join(DSC_HAS_RESIDUAL);
    check_join(DSC_HAS_BIAS | DSC_HAS_RESIDUAL);
}

static void clear_zeroes(void)
{
    static const int8_t types[] = {DSC_FP32, DSC_BF16, DSC_FP16, DSC_FP64};
    call c;

    for (int t = 0; t < DSC_COUNT(types); t++) {
        dsc_shape shape = call_shape(DSC_K_CLEAR, 0, 5, 0, 0, 0, 0);

        shape.type = shape.out = types[t];
        call_init(&c, shape);
        call_run(&c, dsc_kernels_ref());
        for (int64_t i = 0; i < 5; i++) CHECK(call_get(&c, 0, i) == 0, "%lld: %g", (long long)i, call_get(&c, 0, i));
        call_fini(&c);
    }
}

static void cast_adds(void)
{
    dsc_shape shape = call_shape(DSC_K_CAST, DSC_ACCUMULATE, 3, 0, 0, 0, 0);
    call c;

    shape.type = DSC_BF16;
    shape.out = DSC_FP32;
    call_init(&c, shape);
    for (int64_t i = 0; i < 3; i++) {
        call_set(&c, 0, i, 0.5 * (double)i);
        call_set(&c, 1, i, 10);
    }
    call_run(&c, dsc_kernels_ref());
    for (int64_t i = 0; i < 3; i++)
        CHECK(call_get(&c, 1, i) == 10 + 0.5 * (double)i, "%lld: %g", (long long)i, call_get(&c, 1, i));
    call_fini(&c);
}

static void cast_takes_its_part(void)
{
    call c;

    for (int64_t rank = 0; rank < 3; rank++) {
        const dsc_shape shape = call_shape(DSC_K_CAST, DSC_SHARD, 4, 3, 0, 0, 0);

        CHECK(dsc_operand_bytes(&shape, 0) == 48 && dsc_kernel_bytes(&shape) == 32, "%lld and %lld",
              (long long)dsc_operand_bytes(&shape, 0), (long long)dsc_kernel_bytes(&shape));
        call_init(&c, shape);
        c.tp_index = rank;
        for (int64_t i = 0; i < 12; i++) call_set(&c, 0, i, (double)i);
        call_run(&c, dsc_kernels_ref());
        for (int64_t i = 0; i < 4; i++) CHECK(call_get(&c, 1, i) == (double)(4 * rank + i), "%g", call_get(&c, 1, i));
        call_fini(&c);
    }
}

/* ---- Storage types */

static void halves_survive(void)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const uint16_t half = (uint16_t)bits;
        const float bf16 = dsc_bf16_float(half), fp16 = dsc_fp16_float(half);

        CHECK(isnan(bf16) ? isnan(dsc_bf16_float(dsc_float_bf16(bf16))) : dsc_float_bf16(bf16) == half, "bf16 %#x",
              bits);
        CHECK(isnan(fp16) ? isnan(dsc_fp16_float(dsc_float_fp16(fp16))) : dsc_float_fp16(fp16) == half, "fp16 %#x",
              bits);
    }
    CHECK(dsc_fp16_float(0x3c00) == 1 && dsc_fp16_float(0x7bff) == 65504 && dsc_fp16_float(0x0001) == 0x1p-24f, "fp16");
    CHECK(dsc_bf16_float(0x3f80) == 1 && dsc_bf16_float(0xc040) == -3, "bf16");
}

/* Between each two neighbours: below the middle down, above it up, in the middle to the even one. */
static void check_rounding(float (*widen)(uint16_t), uint16_t (*narrow)(float), uint16_t infinity)
{
    for (uint16_t half = 0; half + 1 < infinity; half++) {
        const float low = widen(half), high = widen((uint16_t)(half + 1)), middle = low + (high - low) / 2;
        const uint16_t even = (uint16_t)(half + (half & 1));

        CHECK(narrow(middle) == even && narrow(-middle) == (even | 0x8000), "the middle above %#x", half);
        CHECK(narrow(nextafterf(middle, low)) == half, "below the middle above %#x", half);
        CHECK(narrow(nextafterf(middle, high)) == half + 1, "above the middle above %#x", half);
    }
    CHECK(narrow(INFINITY) == infinity && narrow(-INFINITY) == (infinity | 0x8000) && narrow(FLT_MAX) == infinity,
          "infinity");
}

static void rounds_to_even(void)
{
    check_rounding(dsc_bf16_float, dsc_float_bf16, 0x7f80);
    check_rounding(dsc_fp16_float, dsc_float_fp16, 0x7c00);
}

static const tap_case cases[] = {
    {"gemm is the sum of products, for all flags", gemm_formula},
    {"normalized rows have mean 0 and variance 1", norm_identities},
    {"attention is the softmax of the scores times the values", attention_formula},
    {"block products are those of dense matrices, softmax is that of what a row sees", block_formulas},
    {"gradients of the norms are the slopes of the loss", norm_gradients},
    {"gradients of attention are the slopes of the loss", attention_gradients},
    {"the gradient of block softmax is its slope", block_softmax_gradient},
    {"SDD, softmax and DSD are sparse attention, and its gradients, by every set", attention_from_products},
    {"the gradient of GELU is its slope", gelu_gradient},
    {"the gradients of SwiGLU are its slopes", swiglu_gradient},
    {"rotary positions turn q and k as complex numbers, and leave v", rope_formula},
    {"and turn back", rope_turns_back},
    {"products of queries and keys then depend on their distance alone", rope_is_relative},
    {"the gradient of cross entropy is its slope", loss_gradient},
    {"so it is where its steps stand apart", loss_gradient_in_steps},
    {"equal logits lose log V a token, and padding gets no gradient", loss_of_uniform},
    {"embed_bwd is the adjoint of embed_fwd", embedding_adjoint},
    {"parts of the loss of 1 to 8 ranks, joined, are cross_entropy, and the same on each", sharded_loss},
    {"embeddings cut over 1 to 8 ranks are the whole one, bit for bit", sharded_embedding},
    {"join adds bias and residual where they are", join_formula},
    {"clear writes zeros", clear_zeroes},
    {"a cast adds to what is there where it is told to", cast_adds},
    {"a cast of a part reads the tensor rank's alone", cast_takes_its_part},
    {"every half float survives widening and narrowing", halves_survive},
    {"narrowing rounds to nearest even", rounds_to_even},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
