#include "kernels/cpu/attention.h"

/* The running softmax of a tile of queries. */
typedef struct softmax { float largest[TILE], sum[TILE], factor[TILE]; } softmax;

/* scores[keys][lanes] become exp(score - largest), with `largest` and `sum` brought up to date; `factor` is what was
 * summed before must be multiplied by. A query that has seen no key yet keeps a largest of minus infinity. */
DSC_INLINE void update(int lanes, softmax *state, int64_t keys, float *scores)
{
    float largest[TILE], base[TILE];

    memcpy(largest, state->largest, sizeof largest);
    for (int64_t i = 0; i < keys; i++)
#pragma omp simd
        for (int j = 0; j < lanes; j++)
            largest[j] = scores[i * lanes + j] > largest[j] ? scores[i * lanes + j] : largest[j];
#pragma omp simd
    for (int j = 0; j < lanes; j++) {
        base[j] = largest[j] == -INFINITY ? 0 : largest[j];
        state->factor[j] = dsc_exp(state->largest[j] - base[j]);
        state->largest[j] = largest[j];
        state->sum[j] *= state->factor[j];
    }
    for (int64_t i = 0; i < keys; i++)
#pragma omp simd
        for (int j = 0; j < lanes; j++) {
            scores[i * lanes + j] = dsc_exp(scores[i * lanes + j] - base[j]);
            state->sum[j] += scores[i * lanes + j];
        }
}

DSC_INLINE void multiply_rows(int lanes, int64_t rows, const float *factor, float *x)
{
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int j = 0; j < lanes; j++) x[i * lanes + j] *= factor[j];
}

/* Scores of keys past their query become minus infinity. */
DSC_INLINE void hide_later(int lanes, int64_t first_query, const gathered *keys, float *scores)
{
    for (int64_t r = 0; r < keys->count; r++)
        for (int64_t i = 0; i < keys->runs[r].count; i++, scores += lanes)
            for (int64_t j = 0; j < DSC_MIN(keys->runs[r].first + i - first_query, lanes); j++) scores[j] = -INFINITY;
}

DSC_INLINE void add_mask(int lanes, const float *mask, const gathered *keys, float *scores)
{
    for (int64_t r = 0; r < keys->count; r++)
        for (int64_t i = 0; i < keys->runs[r].count; i++, scores += lanes)
#pragma omp simd
            for (int j = 0; j < lanes; j++) scores[j] += mask[keys->runs[r].first + i];
}

/* context = sum / total, transposed back through `block`; lse = largest + log(total). */
DSC_INLINE void finish(const head *at, int lanes, int64_t first, int64_t rows, const softmax *state, float *sum,
                       float *block, void *context, float *lse)
{
    float inverse[TILE];

    for (int j = 0; j < lanes; j++) inverse[j] = state->sum[j] == 0 ? 0 : 1 / state->sum[j];
    multiply_rows(lanes, at->d_max, inverse, sum);
    dsc_transpose(at->d_pad, lanes, sum, lanes, 1, block, at->d_pad);
    for (int64_t j = 0; j < rows; j++)
        lse[at->rows + first + j] = state->sum[j] == 0 ? INFINITY : state->largest[j] + logf(state->sum[j]);
    store_rows(at, block, rows, context, at->context + first * at->context_width, at->context_width);
}

/* The keys that queries first .. first + rows - 1 of one tile see. */
DSC_INLINE walk keys_of(const head *at, const dsc_blocks *blocks, int64_t first, int64_t rows)
{
    const int64_t high = at->causal ? first + rows : at->t_max;

    if (at->side == 0) return all_rows(0, high);
    return listed_rows(blocks->row_start, blocks->columns, at->list + first / at->side, at->side, 0, high);
}

/* ---- The two products, and what they need of the rows */

/* query[d][lanes], scaled unless it is of pairs; `block` is room. */
DSC_INLINE void take_queries(const head *at, int lanes, int64_t first, int64_t rows, float *block, float *query)
{
#ifdef __AVX512BF16__
    if (at->pairs) {
        turn_pairs(at, lanes, at->qkv, at->q + first * at->width, at->width, rows, query);
        return;
    }
#endif
    load_rows(at, at->qkv, at->q + first * at->width, at->width, rows, block);
    turn_rows(at, lanes, block, rows, at->scale, query);
}

/* scores[keys][lanes], scaled. */
DSC_INLINE void find_scores(const head *at, int lanes, const gathered *keys, const float *query, float *block,
                            float *scores)
{
    memset(scores, 0, (size_t)(keys->rows * lanes) * sizeof *scores);
#ifdef __AVX512BF16__
    if (at->pairs) {
        pair_scores(at, lanes, at->qkv, at->k, at->width, keys, query, at->scale, scores);
        return;
    }
#endif
    load_gathered(at, at->qkv, at->k, at->width, keys, block);
    dsc_tile_product(keys->rows, lanes, at->d_max, block, at->d_pad, 1, query, lanes, scores, lanes);
}

/* sum[d][lanes] += values of the keys times p[keys][lanes]. */
DSC_INLINE void add_values(const head *at, int lanes, const gathered *keys, const float *p, float *block, float *sum)
{
#ifdef __AVX512BF16__
    if (at->pairs) {
        float rounded[TILE / 2 * lanes] ALIGNED;

        dsc_round_to_pairs(lanes, keys->rows, p, rounded);
        pair_gathered(at, at->qkv, at->v, at->width, keys, block);
        dsc_pair_product(at->d_max, lanes, (keys->rows + 1) / 2, block, 1, at->d_pad, rounded, lanes, sum, lanes);
        return;
    }
#endif
    load_gathered(at, at->qkv, at->v, at->width, keys, block);
    dsc_tile_product(at->d_max, lanes, keys->rows, block, 1, at->d_pad, p, lanes, sum, lanes);
}

/* Queries first .. first + lanes - 1 against all their keys. */
DSC_INLINE void forward(const head *at, const dsc_blocks *blocks, int lanes, int64_t first, void *context, float *lse)
{
    const int64_t d = at->d_max, rows = DSC_MIN(at->t_max - first, lanes);
    float block[TILE * at->d_pad] ALIGNED, query[at->d_pad * lanes] ALIGNED, scores[TILE * lanes] ALIGNED;
    float sum[at->d_pad * lanes] ALIGNED;
    walk walk = keys_of(at, blocks, first, rows);
    softmax state = {.sum = {0}};
    gathered keys;

    for (int j = 0; j < lanes; j++) state.largest[j] = -INFINITY;
    memset(sum, 0, sizeof sum);
    take_queries(at, lanes, first, rows, block, query);
    while (next_rows(&walk, &keys)) {
        const run *last = &keys.runs[keys.count - 1];

        find_scores(at, lanes, &keys, query, block, scores);
        if (at->mask != NULL) add_mask(lanes, at->mask, &keys, scores);
        if (at->causal && last->first + last->count > first) hide_later(lanes, first, &keys, scores);
        update(lanes, &state, keys.rows, scores);
        multiply_rows(lanes, d, state.factor, sum);
        add_values(at, lanes, &keys, scores, block, sum);
    }
    finish(at, lanes, first, rows, &state, sum, block, context, lse);
}

/* Once for each width, so that loops over lanes are vectors. */
static void forward_tile(const head *at, const dsc_blocks *blocks, int lanes, int64_t first, void *context, float *lse)
{
    switch (lanes) {
    case 16: forward(at, blocks, 16, first, context, lse); break;
    case 32: forward(at, blocks, 32, first, context, lse); break;
    default: forward(at, blocks, 64, first, context, lse); break;
    }
}

/* Block row `list` of a head in every sequence; a block may be several tiles. */
static void forward_row(const dsc_shape *s, void *const *operands, const dsc_blocks *blocks, int64_t list, int64_t b)
{
    const int lanes = lanes_of(blocks->side);
    const head at = find_head(s, operands[0], operands[4], b, list / blocks->n);
    const int64_t first = list % blocks->n * blocks->side, end = DSC_MIN(first + blocks->side, at.t_max);

    for (int64_t tile = first; tile < end; tile += lanes)
        forward_tile(&at, blocks, lanes, tile, operands[1], operands[2]);
}

static void forward_sparse(const dsc_shape *s, void *const *operands)
{
    const dsc_blocks blocks = dsc_blocks_of(s, operands[3]);
    const int64_t lists = blocks.n * blocks.heads;

#pragma omp parallel for schedule(dynamic)
    for (int64_t index = 0; index < lists * s->d[0]; index++)
        forward_row(s, operands, &blocks, blocks.order[index / s->d[0]], index % s->d[0]);
}

dsc_status DSC_OVERLAY(attention_fwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t heads = s->d[2], units = s->d[0] * heads, tiles = dsc_ceil_div(s->d[1], TILE);

    (void)workspace, (void)step;
    if (s->flags & DSC_HAS_LAYOUT) {
        forward_sparse(s, operands);
        return DSC_OK;
    }
    /* Late queries have more keys: they go first, so that threads end together. */
#pragma omp parallel for schedule(dynamic)
    for (int64_t index = 0; index < units * tiles; index++) {
        const int64_t unit = index % units, tile = tiles - 1 - index / units;
        const head at = find_head(s, operands[0], operands[4], unit / heads, unit % heads);

        forward_tile(&at, NULL, TILE, tile * TILE, operands[1], operands[2]);
    }
    return DSC_OK;
}
