/* What attention's forward and backward share: where a head's rows lie, and which rows of the other side a tile meets.
 *
 * Attention goes by tiles of queries and keys that stay in the caches, with a softmax that is corrected as keys come in
 * (Milakov and Gimelshein 2018; Dao et al. 2022, algorithms 1 and 4; delta as in Dao 2023, algorithm 2). Every product
 * is dsc_tile_product's c += a * b, whose b has contiguous rows: forward works with one query in a vector lane (scores
 * are keys x queries), so that the softmax never sums across lanes; backward with one key in a lane. A tile's lanes are
 * of one block, its rows are gathered from as many present blocks as fill a tile: so small blocks too make long
 * products. Dense attention is the same with one block that holds all. A tile's buffers lie on the thread's stack.
 *
 * Where the processor multiplies pairs of bf16, rows of that type are not widened: `pairs` chooses for each product
 * between words of one fp32 and of two bf16, along whatever is summed over. Probabilities and their gradients are then
 * rounded to bf16 as storing them would; scores, softmax and all sums stay fp32. */
#ifndef DSC_KERNELS_ATTENTION_H
#define DSC_KERNELS_ATTENTION_H

#include "kernel/blocks.h"
#include "kernels/cpu/overlay.h"
#include "kernels/cpu/pairs.h"
#include <math.h>

enum { TILE = 64 }; /* rows, and most lanes */

#define ALIGNED __attribute__((aligned(64)))

/* A query head h of sequence b, and the key head that it shares with others. */
typedef struct head {
    const void *qkv;
    int type;
    bool causal;
    int64_t t_max, d_max, d_pad;    /* d_pad: D rounded up to whole vectors of either width */
    int64_t width, context_width;   /* of a row of qkv and of context */
    int64_t q, k, v, context, rows; /* index of element 0 of row 0; of (b, h, 0) in [B, H, T] */
    float scale;
    int64_t side, list;             /* of a block, 0: dense; number of the head's first list */
    bool pairs;                     /* products of bf16 as they are stored */
    const float *mask;              /* added to the scores of each key of the sequence; NULL */
} head;

DSC_INLINE head find_head(const dsc_shape *s, const void *qkv, const float *mask, int64_t b, int64_t h)
{
    const int64_t t = s->d[1], heads = s->d[2], kv_heads = s->d[3], d = s->d[4];
    const int64_t width = (heads + 2 * kv_heads) * d, kv = h / (heads / kv_heads);

    return (head){
        .qkv = qkv, .type = s->type, .causal = s->flags & DSC_CAUSAL,
        .t_max = t, .d_max = d, .d_pad = dsc_round_up(d, 16),
        .width = width, .context_width = heads * d,
        .q = b * t * width + h * d,
        .k = b * t * width + (heads + kv) * d,
        .v = b * t * width + (heads + kv_heads + kv) * d,
        .context = (b * t * heads + h) * d,
        .rows = (b * heads + h) * t,
        .scale = 1 / sqrtf((float)d),
        .side = s->d[6],
        .list = s->d[6] == 0 ? 0 : h * dsc_ceil_div(t, s->d[6]),
        .pairs = DSC_HAS_PAIRS && s->type == DSC_BF16 && d % 2 == 0,
        .mask = mask == NULL ? NULL : mask + b * t,
    };
}

/* Lanes of a tile that a block fills, or its part: 64, 32 or 16. */
DSC_INLINE int lanes_of(int64_t side) { return side % 64 == 0 ? 64 : side % 32 == 0 ? 32 : 16; }

/* ---- Rows in memory */

/* to[rows][d_pad] = rows of a matrix in fp32, padding zero. */
DSC_INLINE void load_rows(const head *at, const void *from, int64_t first, int64_t from_row, int64_t rows, float *to)
{
    for (int64_t i = 0; i < rows; i++, to += at->d_pad) {
        dsc_widen(from, first + i * from_row, at->d_max, at->type, to);
        for (int64_t c = at->d_max; c < at->d_pad; c++) to[c] = 0;
    }
}

DSC_INLINE void store_rows(const head *at, const float *from, int64_t rows, void *to, int64_t first, int64_t to_row)
{
    for (int64_t i = 0; i < rows; i++) dsc_narrow(from + i * at->d_pad, at->d_max, at->type, to, first + i * to_row);
}

/* to[d_pad][lanes] = scale * from[rows][d_pad], transposed; columns past `rows`, and those rows of `from`, become
 * zero. */
DSC_INLINE void turn_rows(const head *at, int lanes, float *from, int64_t rows, float scale, float *to)
{
    memset(from + rows * at->d_pad, 0, (size_t)((lanes - rows) * at->d_pad) * sizeof *from);
    dsc_transpose(lanes, at->d_pad, from, at->d_pad, scale, to, lanes);
}

/* ---- Rows that a tile meets */

/* At most TILE rows, in runs of consecutive ones. */
typedef struct run { int64_t first, count; } run;
typedef struct gathered { int64_t count, rows; run runs[TILE / DSC_BLOCK_UNIT + 2]; } gathered;

/* The rows of the listed blocks within [low, high), not yet given out. */
typedef struct walk { const int32_t *item, *end; int64_t side, low, high, next, stop; } walk;

/* The dense case is one block that ends at `high`. */
DSC_INLINE walk all_rows(int64_t low, int64_t high)
{
    return (walk){.low = low, .high = high, .next = low, .stop = high};
}

DSC_INLINE walk listed_rows(const int32_t *start, const int32_t *items, int64_t list, int64_t side, int64_t low,
                            int64_t high)
{
    return (walk){items + start[list], items + start[list + 1], side, low, high, 0, 0};
}

/* False when all have been given out. */
DSC_INLINE bool next_rows(walk *w, gathered *out)
{
    out->count = out->rows = 0;
    while (out->rows < TILE) {
        if (w->next >= w->stop) {
            if (w->item == w->end) break;
            w->next = DSC_MAX(*w->item * w->side, w->low);
            w->stop = DSC_MIN((*w->item + 1) * w->side, w->high);
            w->item++;
            continue;
        }
        const int64_t count = DSC_MIN(TILE - out->rows, w->stop - w->next);
        run *last = out->count == 0 ? NULL : &out->runs[out->count - 1];

        if (last != NULL && last->first + last->count == w->next) last->count += count;
        else out->runs[out->count++] = (run){w->next, count};
        out->rows += count;
        w->next += count;
    }
    return out->rows > 0;
}

/* The gathered rows of a matrix, one behind another. */
DSC_INLINE void load_gathered(const head *at, const void *from, int64_t first, int64_t from_row, const gathered *g,
                              float *to)
{
    for (int64_t i = 0; i < g->count; i++) {
        load_rows(at, from, first + g->runs[i].first * from_row, from_row, g->runs[i].count, to);
        to += g->runs[i].count * at->d_pad;
    }
}

/* ---- Rows of bf16 as pairs */

#ifdef __AVX512BF16__
/* Row `index` of a matrix of bf16, as words of two along the row. */
DSC_INLINE const dsc_word *words_of(const void *from, int64_t first, int64_t from_row, int64_t index)
{
    return (const dsc_word *)((const uint16_t *)from + first + index * from_row);
}

/* to[d_pad / 2][lanes] = rows as words, transposed, with zeros past `rows` and D. */
DSC_INLINE void turn_pairs(const head *at, int lanes, const void *from, int64_t first, int64_t from_row, int64_t rows,
                           float *to)
{
    uint16_t block[TILE * at->d_pad] ALIGNED;

    memset(block, 0, (size_t)(lanes * at->d_pad) * sizeof *block);
    for (int64_t i = 0; i < rows; i++)
        memcpy(block + i * at->d_pad, (const uint16_t *)from + first + i * from_row, (size_t)at->d_max * sizeof *block);
    dsc_transpose(lanes, at->d_pad / 2, (const float *)(const void *)block, at->d_pad / 2, 1, to, lanes);
}

/* to[rows / 2, rounded up][d_pad] = pairs of the gathered rows, one below another. */
DSC_INLINE void pair_gathered(const head *at, const void *from, int64_t first, int64_t from_row, const gathered *g,
                              float *to)
{
    const uint16_t *waiting = NULL;

    for (int64_t r = 0; r < g->count; r++)
        for (int64_t i = 0; i < g->runs[r].count; i++) {
            const uint16_t *row = (const uint16_t *)from + first + (g->runs[r].first + i) * from_row;

            if (waiting != NULL) {
                dsc_pair_rows(waiting, row, at->d_max, to);
                to += at->d_pad;
            }
            waiting = waiting == NULL ? row : NULL;
        }
    if (waiting != NULL) dsc_pair_rows(waiting, NULL, at->d_max, to);
}

/* c[rows][lanes] = scale * the gathered rows of a matrix times `turned` rows of the other side. */
DSC_INLINE void pair_scores(const head *at, int lanes, const void *from, int64_t first, int64_t from_row,
                            const gathered *g, const float *turned, float scale, float *c)
{
    float *at_run = c;

    for (int64_t r = 0; r < g->count; at_run += g->runs[r].count * lanes, r++)
        dsc_pair_product(g->runs[r].count, lanes, at->d_max / 2, words_of(from, first, from_row, g->runs[r].first),
                         from_row / 2, 1, turned, lanes, at_run, lanes);
    for (int64_t i = 0; i < g->rows; i++)
#pragma omp simd
        for (int j = 0; j < lanes; j++) c[i * lanes + j] *= scale;
}
#endif

#endif
