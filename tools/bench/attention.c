/* Attention over present blocks beside dense attention on the same sequence, in turn, in one call: what a block costs,
 * by its size, and what sparsity gains. 8 heads of 64, one sequence; the best of a few rounds each. */
#include "base/json.h"
#include "base/rng.h"
#include "device/device.h"
#include "kernel/step.h"
#include "kernels/kernels.h"
#include "model/sparsity.h"
#include "tools/bench/bench.h"
#include <stdlib.h>

enum { HEADS = 8, HEAD = 64, ROUNDS = 5 };

/* Forward's and backward's operands on one sequence; they share. */
typedef struct operands { dsc_arena qkv, context, lse, dcontext, dqkv, workspace, lists; } operands;

/* What is compared: dense (side 0), or blocks of a side. */
typedef struct row {
    const char *type;
    int64_t side, present; /* blocks of all heads */
    double density;
    dsc_shape forward;
    double forward_s, backward_s;
} row;

static dsc_shape make_shape(dsc_dtype type, bool is_causal, int64_t tokens)
{
    return (dsc_shape){.kernel = DSC_K_ATTENTION_FWD, .type = (int8_t)type, .out = (int8_t)type,
                       .flags = is_causal ? DSC_CAUSAL : 0, .d = {1, tokens, HEADS, HEADS, HEAD}};
}

static dsc_shape backward_of(const row *r)
{
    dsc_shape shape = r->forward;

    shape.kernel = DSC_K_ATTENTION_BWD;
    return shape;
}

/* The diagonal, and a window of so many tokens around it, or, without one, others at random. */
static bool has_block(const row *r, const bench_blocks *which, int64_t head, int64_t row, int64_t column)
{
    const int64_t n = r->forward.d[1] / r->side, away = row > column ? row - column : column - row;
    const uint64_t number = (uint64_t)((head * n + row) * n + column);

    if (column == row) return true;
    if (r->forward.flags & DSC_CAUSAL && column > row) return false;
    if (which->window > 0) return 2 * away * r->side < which->window;
    return (double)(dsc_random_bits(1, (uint64_t)r->side, number) >> 11) * 0x1p-53 < which->density;
}

static dsc_status make_layout(const row *r, const bench_blocks *which, dsc_layout **out)
{
    const int64_t n = r->forward.d[1] / r->side;
    dsc_status status = dsc_layout_make(r->side, n, HEADS, out);

    for (int64_t i = 0; status == DSC_OK && i < HEADS * n * n; i++)
        if (has_block(r, which, i / (n * n), i / n % n, i % n))
            dsc_layout_add(*out, i / (n * n), i / n % n, i % n);
    return status;
}

/* Sets the shape, and makes the lists. */
static dsc_status make_sparse(row *r, const bench_blocks *which, operands *o)
{
    const int64_t tokens = r->forward.d[1], n = tokens / r->side, heads[HEADS] = {0, 1, 2, 3, 4, 5, 6, 7};
    const int64_t all = r->forward.flags & DSC_CAUSAL ? n * (n + 1) / 2 : n * n;
    dsc_layout *layout = NULL;
    dsc_status status = DSC_OK;
    dsc_blocks blocks;

    DSC_TRY(make_layout(r, which, &layout));
    for (int64_t h = 0; h < HEADS; h++) r->present += dsc_layout_count(layout, h);
    r->density = (double)r->present / (double)(HEADS * all);
    r->forward.flags |= DSC_HAS_LAYOUT;
    r->forward.d[5] = r->present;
    r->forward.d[6] = r->side;
    DSC_TRY(dsc_arena_create(dsc_operand_bytes(&r->forward, 3), &o->lists));
    blocks = dsc_blocks_of(&r->forward, o->lists.base);
    DSC_TRY(dsc_layout_list(layout, heads, &blocks));
out:
    dsc_layout_destroy(layout);
    return status;
}

static dsc_status time_once(row *r, const operands *o)
{
    const dsc_shape back = backward_of(r);
    const dsc_step step = {0};
    void *forward[DSC_KERNEL_OPERANDS] = {o->qkv.base, o->context.base, o->lse.base, o->lists.base};
    void *backward[DSC_KERNEL_OPERANDS] = {o->dcontext.base, o->qkv.base, o->context.base, o->lse.base, o->dqkv.base,
                                           o->lists.base};
    dsc_status status = DSC_OK;
    int64_t start = dsc_clock_ns(), middle;

    DSC_TRY(dsc_kernels_cpu()->run[DSC_K_ATTENTION_FWD](&r->forward, forward, o->workspace.base, &step));
    middle = dsc_clock_ns();
    DSC_TRY(dsc_kernels_cpu()->run[DSC_K_ATTENTION_BWD](&back, backward, o->workspace.base, &step));
    r->forward_s = DSC_MIN(r->forward_s, (double)(middle - start) * 1e-9);
    r->backward_s = DSC_MIN(r->backward_s, (double)(dsc_clock_ns() - middle) * 1e-9);
out:
    return status;
}

/* Small numbers of either type. */
static void fill(const dsc_arena *arena)
{
    uint16_t *values = (uint16_t *)arena->base;

    for (int64_t i = 0; i < arena->bytes / 2; i++) values[i] = (uint16_t)(0x3c00 + (i * 7919 >> 3) % 128);
}

static dsc_status open_operands(const row *r, operands *o)
{
    const dsc_shape back = backward_of(r);
    const struct { dsc_arena *arena; int64_t bytes; } all[] = {
        {&o->dcontext, dsc_operand_bytes(&back, 0)}, {&o->qkv, dsc_operand_bytes(&back, 1)},
        {&o->context, dsc_operand_bytes(&back, 2)},  {&o->lse, dsc_operand_bytes(&back, 3)},
        {&o->dqkv, dsc_operand_bytes(&back, 4)},     {&o->workspace, dsc_kernel_workspace_bytes(&back)}};
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(all); i++) DSC_TRY(dsc_arena_create(all[i].bytes, all[i].arena));
    fill(&o->qkv);
    fill(&o->dcontext);
out:
    return status;
}

static void close_operands(operands *o)
{
    dsc_arena *const all[] = {&o->qkv, &o->context, &o->lse, &o->dcontext, &o->dqkv, &o->workspace, &o->lists};

    for (int64_t i = 0; i < DSC_COUNT(all); i++) dsc_arena_destroy(all[i]);
}

static double flops_per_s(const row *r, bool both)
{
    const dsc_shape back = backward_of(r);

    return both ? (double)(dsc_kernel_flops(&r->forward) + dsc_kernel_flops(&back)) / (r->forward_s + r->backward_s)
                : (double)dsc_kernel_flops(&r->forward) / r->forward_s;
}

/* dense: the row to compare with. */
static void print(const row *r, const row *dense, bool json, dsc_text *out)
{
    dsc_text_add(out,
                 json ? "{\"type\":\"%s\",\"causal\":%d,\"tokens\":%lld,\"block\":%lld,\"present\":%lld,"
                        "\"density\":%.4f,\"forward_s\":%.6f,\"both_s\":%.6f,\"forward_GFLOP_per_s\":%.1f,"
                        "\"both_GFLOP_per_s\":%.1f,\"forward_of_dense\":%.3f,\"both_of_dense\":%.3f}\n"
                      : "%s causal %d, %lld tokens, block %3lld, %7lld present, density %.3f: forward %.4f s, with "
                        "backward %.4f s; %.0f and %.0f GFLOP/s, %.2f and %.2f of dense\n",
                 r->type, (r->forward.flags & DSC_CAUSAL) != 0, (long long)r->forward.d[1], (long long)r->side,
                 (long long)r->present, r->density, r->forward_s, r->forward_s + r->backward_s,
                 flops_per_s(r, false) * 1e-9, flops_per_s(r, true) * 1e-9,
                 flops_per_s(r, false) / flops_per_s(dense, false), flops_per_s(r, true) / flops_per_s(dense, true));
}

static dsc_status compare(dsc_dtype type, bool is_causal, int64_t tokens, const bench_blocks *which, bool json,
                          dsc_text *out)
{
    static const int64_t sides[] = {0, 16, 32, 64, 128};
    row rows[DSC_COUNT(sides)];
    operands o[DSC_COUNT(sides)] = {0};
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(sides); i++) {
        rows[i] = (row){.type = dsc_dtype_name(type), .side = sides[i], .density = 1, .forward_s = 1e30,
                        .backward_s = 1e30, .forward = make_shape(type, is_causal, tokens)};
        DSC_TRY(open_operands(&rows[i], &o[i]));
        if (sides[i] > 0) DSC_TRY(make_sparse(&rows[i], which, &o[i]));
    }
    for (int round = 0; round < (tokens > 8192 ? 2 : ROUNDS); round++)
        for (int64_t i = 0; i < DSC_COUNT(sides); i++) DSC_TRY(time_once(&rows[i], &o[i]));
    for (int64_t i = 0; i < DSC_COUNT(sides); i++) print(&rows[i], &rows[0], json, out);
out:
    for (int64_t i = 0; i < DSC_COUNT(sides); i++) close_operands(&o[i]);
    return status;
}

dsc_status bench_attention(int64_t tokens, const bench_blocks *which, int64_t threads, bool json, dsc_text *out)
{
    static const dsc_dtype types[] = {DSC_FP32, DSC_BF16};
    dsc_status status = DSC_OK;

    if (tokens % 128 != 0) return DSC_FAIL(DSC_EINVAL, "--attention %lld: no multiple of 128", (long long)tokens);
    dsc_kernels_threads((int)threads);
    for (int64_t i = 0; i < 2 * DSC_COUNT(types); i++)
        DSC_TRY(compare(types[i / 2], i % 2 == 1, tokens, which, json, out));
out:
    return status;
}
