#include "kernel/blocks.h"
#include "kernels/cpu/overlay.h"
#include "kernels/cpu/tile.h"
#include <math.h>

/* A thread takes a line of the sparse operand, a row or a column of blocks in a head of a sequence: what all of the
 * line's blocks meet is loaded once (block_sdd), or their sum stays in the caches (block_dsd, block_dds). block_sdd
 * goes by column, since what must have contiguous rows for dsc_tile_product, and may have to be transposed for that, is
 * b. Buffers lie on the thread's stack. */

enum { PIECE = 256 }; /* columns or rows of a dense result that are summed at a time */

#define ALIGNED __attribute__((aligned(64)))

typedef struct line {
    const dsc_blocks *blocks;
    bool is_row;
    int64_t t_max, list, b;
    int64_t unit;         /* head of a sequence, as dense operands count them */
    int64_t first, count; /* the line's own rows or columns, up to T */
} line;

/* A block as its line meets it. */
typedef struct meeting {
    int64_t element;      /* index of its first in the sparse operand */
    int64_t first, count; /* rows or columns on the other side, up to T */
} meeting;

static line find_line(const dsc_shape *s, const dsc_blocks *blocks, bool is_row, int64_t list, int64_t b)
{
    const int64_t first = list % blocks->n * blocks->side;

    return (line){blocks, is_row, s->d[1], list, b, b * blocks->heads + list / blocks->n, first,
                  DSC_MIN(blocks->side, s->d[1] - first)};
}

static const int32_t *starts(const line *l) { return l->is_row ? l->blocks->row_start : l->blocks->column_start; }
static int64_t line_start(const line *l) { return starts(l)[l->list]; }
static int64_t line_end(const line *l) { return starts(l)[l->list + 1]; }

/* The number of the block at `column` of a row's list, which has it: halving, as columns ascend. */
static int64_t find_block(const dsc_blocks *blocks, int64_t list, int32_t column)
{
    int64_t low = blocks->row_start[list], high = blocks->row_start[list + 1] - 1;

    while (low < high) {
        const int64_t middle = (low + high) / 2;

        if (blocks->columns[middle] < column) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Item i of the line's list. */
static meeting meet(const line *l, int64_t i)
{
    const dsc_blocks *blocks = l->blocks;
    const int64_t n = blocks->n, side = blocks->side, other = l->is_row ? blocks->columns[i] : blocks->rows[i];
    const int64_t number = l->is_row ? i : find_block(blocks, l->list / n * n + other, (int32_t)(l->list % n));

    return (meeting){(l->b * blocks->present + number) * side * side, other * side,
                     DSC_MIN(side, l->t_max - other * side)};
}

typedef void line_fn(const dsc_shape *s, void *const *operands, const line *l);

/* Rows the longest first, so that threads end together; columns as they stand. */
static void for_lines(const dsc_shape *s, void *const *operands, bool is_row, line_fn *run)
{
    const dsc_blocks blocks = dsc_blocks_of(s, operands[2]);
    const int64_t lists = blocks.n * blocks.heads;

#pragma omp parallel for schedule(dynamic)
    for (int64_t index = 0; index < lists * s->d[0]; index++) {
        const int64_t list = is_row ? blocks.order[index / s->d[0]] : index / s->d[0];
        const line l = find_line(s, &blocks, is_row, list, index % s->d[0]);

        run(s, operands, &l);
    }
}

/* Blocks that the lists do not reach. */
static void clear_rest(const dsc_shape *s, void *const *operands, void *sparse)
{
    const dsc_blocks blocks = dsc_blocks_of(s, operands[2]);
    const int64_t bytes = blocks.side * blocks.side * dsc_dtype_bytes((dsc_dtype)s->type);
    const int64_t count = blocks.row_start[blocks.n * blocks.heads];

    for (int64_t b = 0; b < s->d[0]; b++)
        memset((char *)sparse + (b * blocks.present + count) * bytes, 0, (size_t)((blocks.present - count) * bytes));
}

/* ---- Products */

/* to[rows][to_row] = a part of a matrix, widened. */
DSC_INLINE void load(const void *from, int64_t first, int64_t from_row, int64_t rows, int64_t cols, int type, float *to,
                     int64_t to_row)
{
    for (int64_t i = 0; i < rows; i++) dsc_widen(from, first + i * from_row, cols, type, to + i * to_row);
}

/* Zeroes what of a block lies outside of the matrix. */
static void cut(float *block, int64_t side, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < side; i++)
        for (int64_t j = i < rows ? cols : 0; j < side; j++) block[i * side + j] = 0;
}

/* to[D][block] = a column's part of op(b). What stands past T, and in rows that fill up D to whole vectors, is of no
 * use. */
static void load_column(const dsc_shape *s, const void *b, const line *l, float *rows, float *to)
{
    const int64_t depth = s->d[3], pad = dsc_round_up(depth, DSC_WIDTH), side = l->blocks->side, t = l->t_max;

    if (s->flags & DSC_TRANS_B) {
        load(b, (l->unit * t + l->first) * depth, depth, l->count, depth, s->type, rows, pad);
        dsc_transpose(side, pad, rows, pad, 1, to, side);
    } else {
        load(b, l->unit * depth * t + l->first, t, depth, l->count, s->type, to, side);
    }
}

/* A column of blocks = rows of a times the column's part of op(b). */
static void sdd_column(const dsc_shape *s, void *const *operands, const line *l)
{
    const int64_t depth = s->d[3], pad = dsc_round_up(depth, DSC_WIDTH), side = l->blocks->side, t = l->t_max;
    float columns[pad * side] ALIGNED, rows[side * pad] ALIGNED, block[side * side] ALIGNED;

    load_column(s, operands[1], l, rows, columns);
    for (int64_t i = line_start(l); i < line_end(l); i++) {
        const meeting at = meet(l, i);
        const float *a = dsc_view(operands[0], (l->unit * t + at.first) * depth, at.count * depth, s->type, rows);

        memset(block, 0, sizeof block);
        dsc_tile_product(at.count, side, depth, a, depth, 1, columns, side, block, side);
        if (at.count < side || l->count < side) cut(block, side, at.count, l->count);
        dsc_narrow(block, side * side, s->type, operands[3], at.element);
    }
}

dsc_status DSC_OVERLAY(block_sdd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    clear_rest(s, operands, operands[3]);
    for_lines(s, operands, false, sdd_column);
    return DSC_OK;
}

/* Rows of out = the line's blocks, or these transposed, times rows of b. */
static void dsd_line(const dsc_shape *s, void *const *operands, const line *l)
{
    const int64_t cols = s->d[3], side = l->blocks->side, t = l->t_max;
    const int64_t row = l->is_row ? side : 1, step = l->is_row ? 1 : side; /* of op(block) */
    float sparse[side * side] ALIGNED, dense[side * PIECE] ALIGNED, sum[side * PIECE] ALIGNED;

    for (int64_t j = 0; j < cols; j += PIECE) {
        const int64_t width = DSC_MIN(cols - j, PIECE), pad = dsc_round_up(width, DSC_WIDTH);

        memset(sum, 0, (size_t)(side * pad) * sizeof *sum);
        for (int64_t i = line_start(l); i < line_end(l); i++) {
            const meeting at = meet(l, i);
            const float *a = dsc_view(operands[0], at.element, side * side, s->type, sparse);

            load(operands[1], (l->unit * t + at.first) * cols + j, cols, at.count, width, s->type, dense, pad);
            dsc_tile_product(l->count, width, at.count, a, row, step, dense, pad, sum, pad);
        }
        for (int64_t i = 0; i < l->count; i++)
            dsc_narrow(sum + i * pad, width, s->type, operands[3], (l->unit * t + l->first + i) * cols + j);
    }
}

dsc_status DSC_OVERLAY(block_dsd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    for_lines(s, operands, !(s->flags & DSC_TRANS_A), dsd_line);
    return DSC_OK;
}

/* A block or its transpose in `to`, which unlike an operand is aligned to a vector. */
DSC_INLINE void load_block(const void *from, int64_t first, int64_t side, int type, bool transposed, float *block,
                           float *to)
{
    if (transposed) dsc_transpose(side, side, dsc_view(from, first, side * side, type, block), side, 1, to, side);
    else dsc_widen(from, first, side * side, type, to);
}

/* Columns of out = columns of a times the line's blocks, or these transposed. */
static void dds_line(const dsc_shape *s, void *const *operands, const line *l)
{
    const int64_t rows = s->d[3], side = l->blocks->side, t = l->t_max;
    float dense[PIECE * side] ALIGNED, block[side * side] ALIGNED, sparse[side * side] ALIGNED;
    float sum[PIECE * side] ALIGNED;

    for (int64_t j = 0; j < rows; j += PIECE) {
        const int64_t height = DSC_MIN(rows - j, PIECE);

        memset(sum, 0, (size_t)(height * side) * sizeof *sum);
        for (int64_t i = line_start(l); i < line_end(l); i++) {
            const meeting at = meet(l, i);

            load_block(operands[1], at.element, side, s->type, l->is_row, block, sparse);
            load(operands[0], (l->unit * rows + j) * t + at.first, t, height, at.count, s->type, dense, side);
            dsc_tile_product(height, side, at.count, dense, side, 1, sparse, side, sum, side);
        }
        for (int64_t i = 0; i < height; i++)
            dsc_narrow(sum + i * side, l->count, s->type, operands[3], (l->unit * rows + j + i) * t + l->first);
    }
}

dsc_status DSC_OVERLAY(block_dds)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    for_lines(s, operands, s->flags & DSC_TRANS_B, dds_line);
    return DSC_OK;
}

/* ---- Softmax: twice over the blocks of a row, first for each row's largest score and sum, then for the results */

typedef struct rows { float largest[DSC_BLOCK_MOST], sum[DSC_BLOCK_MOST]; } rows;

/* How many columns of a block, the first ones, row i of its line sees. */
DSC_INLINE int64_t count_seen(const dsc_shape *s, const line *l, const meeting *at, int64_t i)
{
    const int64_t earlier = s->flags & DSC_CAUSAL ? DSC_MAX(l->first + i + 1 - at->first, 0) : at->count;

    return i < l->count ? DSC_MIN(earlier, at->count) : 0;
}

/* The mask of a block's columns; zeros without one. */
DSC_INLINE void load_mask(const float *mask, const line *l, const meeting *at, float *to)
{
    memset(to, 0, DSC_BLOCK_MOST * sizeof *to);
    if (mask != NULL) memcpy(to, mask + l->b * l->t_max + at->first, (size_t)at->count * sizeof *to);
}

/* Brings a row's largest score and sum of exponentials up to date with `count` scores. */
DSC_INLINE void add_scores(const float *x, int64_t count, float scale, const float *mask, float *largest, float *sum)
{
    float top = *largest, total = 0;

#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < count; j++) top = x[j] * scale + mask[j] > top ? x[j] * scale + mask[j] : top;
    const float base = top == -INFINITY ? 0 : top;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < count; j++) total += dsc_exp(x[j] * scale + mask[j] - base);
    *sum = *sum * dsc_exp(*largest - base) + total;
    *largest = top;
}

static void find_sums(const dsc_shape *s, void *const *operands, const line *l, rows *out)
{
    const int64_t side = l->blocks->side;
    const float scale = 1 / sqrtf((float)s->d[3]);
    float block[side * side] ALIGNED, mask[DSC_BLOCK_MOST];

    for (int64_t i = 0; i < side; i++) out->largest[i] = -INFINITY, out->sum[i] = 0;
    for (int64_t k = line_start(l); k < line_end(l); k++) {
        const meeting at = meet(l, k);
        const float *x = dsc_view(operands[0], at.element, side * side, s->type, block);

        load_mask(operands[3], l, &at, mask);
        for (int64_t i = 0; i < l->count; i++)
            add_scores(x + i * side, count_seen(s, l, &at, i), scale, mask, &out->largest[i], &out->sum[i]);
    }
}

static void softmax_row(const dsc_shape *s, void *const *operands, const line *l)
{
    const int64_t side = l->blocks->side;
    const float scale = 1 / sqrtf((float)s->d[3]);
    float block[side * side] ALIGNED, mask[DSC_BLOCK_MOST];
    rows state;

    find_sums(s, operands, l, &state);
    for (int64_t k = line_start(l); k < line_end(l); k++) {
        const meeting at = meet(l, k);
        const float *x = dsc_view(operands[0], at.element, side * side, s->type, block);
        float *y = dsc_place(operands[1], at.element, s->type, block);

        load_mask(operands[3], l, &at, mask);
        for (int64_t i = 0; i < side; i++, x += side, y += side) {
            const int64_t count = count_seen(s, l, &at, i);
            const float base = state.largest[i] == -INFINITY ? 0 : state.largest[i];
            const float inverse = state.sum[i] == 0 ? 0 : 1 / state.sum[i];

#pragma omp simd
            for (int64_t j = 0; j < count; j++) y[j] = dsc_exp(x[j] * scale + mask[j] - base) * inverse;
            memset(y + count, 0, (size_t)(side - count) * sizeof *y);
        }
        dsc_put(y - side * side, side * side, s->type, operands[1], at.element);
    }
}

dsc_status DSC_OVERLAY(block_softmax_fwd)(const dsc_shape *s, void *const *operands, void *workspace,
                                          const dsc_step *step)
{
    (void)workspace, (void)step;
    clear_rest(s, operands, operands[1]);
    for_lines(s, operands, true, softmax_row);
    return DSC_OK;
}

/* delta[row] = sum of p dp. */
static void find_delta(const dsc_shape *s, void *const *operands, const line *l, float *delta)
{
    const int64_t side = l->blocks->side;
    float dp_block[side * side] ALIGNED, p_block[side * side] ALIGNED;

    memset(delta, 0, (size_t)side * sizeof *delta);
    for (int64_t k = line_start(l); k < line_end(l); k++) {
        const meeting at = meet(l, k);
        const float *dp = dsc_view(operands[0], at.element, side * side, s->type, dp_block);
        const float *p = dsc_view(operands[1], at.element, side * side, s->type, p_block);

        for (int64_t i = 0; i < l->count; i++, dp += side, p += side) {
            float sum = 0;

#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < at.count; j++) sum += p[j] * dp[j];
            delta[i] += sum;
        }
    }
}

static void softmax_gradient_row(const dsc_shape *s, void *const *operands, const line *l)
{
    const int64_t side = l->blocks->side;
    const float scale = 1 / sqrtf((float)s->d[3]);
    float dp_block[side * side] ALIGNED, p_block[side * side] ALIGNED, delta[side];

    find_delta(s, operands, l, delta);
    for (int64_t k = line_start(l); k < line_end(l); k++) {
        const meeting at = meet(l, k);
        const float *dp = dsc_view(operands[0], at.element, side * side, s->type, dp_block);
        const float *p = dsc_view(operands[1], at.element, side * side, s->type, p_block);
        float *ds = dsc_place(operands[3], at.element, s->type, dp_block);

        for (int64_t i = 0; i < side; i++, dp += side, p += side, ds += side) {
            const int64_t count = i < l->count ? at.count : 0;

#pragma omp simd
            for (int64_t j = 0; j < count; j++) ds[j] = p[j] * (dp[j] - delta[i]) * scale;
            memset(ds + count, 0, (size_t)(side - count) * sizeof *ds);
        }
        dsc_put(ds - side * side, side * side, s->type, operands[3], at.element);
    }
}

dsc_status DSC_OVERLAY(block_softmax_bwd)(const dsc_shape *s, void *const *operands, void *workspace,
                                          const dsc_step *step)
{
    (void)workspace, (void)step;
    clear_rest(s, operands, operands[3]);
    for_lines(s, operands, true, softmax_gradient_row);
    return DSC_OK;
}
