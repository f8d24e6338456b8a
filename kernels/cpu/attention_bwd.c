#include "kernels/cpu/attention.h"
#include <omp.h>

/* A tile of keys with their gradients, and room for a tile of queries. `key_t` is scaled, unless it is of pairs, and,
 * as `value_t`, transposed. */
typedef struct tile {
    int64_t first, count;
    float *key, *key_t, *value_t, *dkey, *dvalue;
    float *query, *dcontext, *p, *ds;
} tile;

/* The sums of a query head over tiles of keys, by query. */
typedef struct sums { const float *lse; float *delta, *dquery; } sums;

/* p[query][key] = exp(score - lse), 0 where masked, and in lanes past the last key. */
DSC_INLINE void probabilities(const head *at, int lanes, const tile *keys, const gathered *queries, const float *lse)
{
    float *p = keys->p, mask[TILE] = {0};

    if (at->mask != NULL) memcpy(mask, at->mask + keys->first, (size_t)keys->count * sizeof *mask);
    for (int64_t r = 0; r < queries->count; r++)
        for (int64_t i = 0; i < queries->runs[r].count; i++, p += lanes) {
            const int64_t query = queries->runs[r].first + i, seen = at->causal ? query + 1 - keys->first : keys->count;
            const float row_lse = lse[query];

#pragma omp simd
            for (int j = 0; j < lanes; j++) p[j] = j < seen ? dsc_exp(p[j] + mask[j] - row_lse) : 0;
        }
}

/* dp becomes ds = p (dp - delta) scale, the gradient of the unscaled score. */
DSC_INLINE void softmax_gradient(const head *at, int lanes, const gathered *queries, const float *delta, const float *p,
                                 float *dp)
{
    for (int64_t r = 0; r < queries->count; r++)
        for (int64_t i = 0; i < queries->runs[r].count; i++, p += lanes, dp += lanes) {
            const float row_delta = delta[queries->runs[r].first + i];

#pragma omp simd
            for (int j = 0; j < lanes; j++) dp[j] = p[j] * (dp[j] - row_delta) * at->scale;
        }
}

/* ---- The products, and what they need of the rows: words of pairs where the head has them */

/* The keys and values of a tile. */
DSC_INLINE void take_keys(const head *at, int lanes, const tile *keys)
{
    const int64_t width = at->width, k = at->k + keys->first * width, v = at->v + keys->first * width;

#ifdef __AVX512BF16__
    if (at->pairs) {
        const gathered all = {1, keys->count, {{keys->first, keys->count}}};

        turn_pairs(at, lanes, at->qkv, v, width, keys->count, keys->value_t);
        turn_pairs(at, lanes, at->qkv, k, width, keys->count, keys->key_t);
        pair_gathered(at, at->qkv, at->k, width, &all, keys->key);
        return;
    }
#endif
    load_rows(at, at->qkv, v, width, keys->count, keys->key);
    turn_rows(at, lanes, keys->key, keys->count, 1, keys->value_t);
    load_rows(at, at->qkv, k, width, keys->count, keys->key);
    turn_rows(at, lanes, keys->key, keys->count, at->scale, keys->key_t);
}

/* The scores into p, and into ds what the context's gradient makes of the values. */
DSC_INLINE void find_scores(const head *at, int lanes, const tile *keys, const gathered *queries, const void *dcontext)
{
    const int64_t rows = queries->rows, pad = at->d_pad;

    memset(keys->p, 0, (size_t)(rows * lanes) * sizeof *keys->p);
    memset(keys->ds, 0, (size_t)(rows * lanes) * sizeof *keys->ds);
#ifdef __AVX512BF16__
    if (at->pairs) {
        pair_scores(at, lanes, at->qkv, at->q, at->width, queries, keys->key_t, at->scale, keys->p);
        pair_scores(at, lanes, dcontext, at->context, at->context_width, queries, keys->value_t, 1, keys->ds);
        return;
    }
#endif
    load_gathered(at, at->qkv, at->q, at->width, queries, keys->query);
    load_gathered(at, dcontext, at->context, at->context_width, queries, keys->dcontext);
    dsc_tile_product(rows, lanes, at->d_max, keys->query, pad, 1, keys->key_t, lanes, keys->p, lanes);
    dsc_tile_product(rows, lanes, at->d_max, keys->dcontext, pad, 1, keys->value_t, lanes, keys->ds, lanes);
}

/* Sums over queries: rows come in pairs. */
DSC_INLINE void add_to_keys(const head *at, int lanes, const tile *keys, const gathered *queries, const void *dcontext)
{
    const int64_t d = at->d_max, pad = at->d_pad, rows = queries->rows;

#ifdef __AVX512BF16__
    if (at->pairs) {
        float rounded[TILE / 2 * lanes] ALIGNED;

        pair_gathered(at, dcontext, at->context, at->context_width, queries, keys->dcontext);
        dsc_round_to_pairs(lanes, rows, keys->p, rounded);
        dsc_pair_product(keys->count, d, (rows + 1) / 2, rounded, 1, lanes, keys->dcontext, pad, keys->dvalue, pad);
        pair_gathered(at, at->qkv, at->q, at->width, queries, keys->query);
        dsc_round_to_pairs(lanes, rows, keys->ds, rounded);
        dsc_pair_product(keys->count, d, (rows + 1) / 2, rounded, 1, lanes, keys->query, pad, keys->dkey, pad);
        return;
    }
#endif
    (void)dcontext;
    dsc_tile_product(keys->count, d, rows, keys->p, 1, lanes, keys->dcontext, pad, keys->dvalue, pad);
    dsc_tile_product(keys->count, d, rows, keys->ds, 1, lanes, keys->query, pad, keys->dkey, pad);
}

/* The sum over keys: columns come in pairs. */
DSC_INLINE void add_to_queries(const head *at, int lanes, const tile *keys, const gathered *queries, float *dquery)
{
    const int64_t d = at->d_max, pad = at->d_pad;
    int64_t row = 0;

#ifdef __AVX512BF16__
    uint16_t rounded[TILE * lanes] ALIGNED;

    if (at->pairs) dsc_round_row(queries->rows * lanes, keys->ds, rounded);
    for (int64_t r = 0; at->pairs && r < queries->count; row += queries->runs[r].count, r++)
        dsc_pair_product(queries->runs[r].count, d, (keys->count + 1) / 2, words_of(rounded, 0, lanes, row), lanes / 2,
                         1, keys->key, pad, dquery + queries->runs[r].first * pad, pad);
    if (at->pairs) return;
#endif
    for (int64_t r = 0; r < queries->count; row += queries->runs[r].count, r++)
        dsc_tile_product(queries->runs[r].count, d, keys->count, keys->ds + row * lanes, lanes, 1, keys->key, pad,
                         dquery + queries->runs[r].first * pad, pad);
}

/* One tile of queries against one of keys. */
DSC_INLINE void backward_tile(const head *at, int lanes, const tile *keys, const gathered *queries,
                              const void *dcontext, const sums *of)
{
    find_scores(at, lanes, keys, queries, dcontext);
    probabilities(at, lanes, keys, queries, of->lse);
    softmax_gradient(at, lanes, queries, of->delta, keys->p, keys->ds);
    add_to_keys(at, lanes, keys, queries, dcontext);
    add_to_queries(at, lanes, keys, queries, of->dquery);
}

/* ---- All of it */

/* delta[query] = context . dcontext, which equals the sum over keys of p dp. */
static void find_delta(const head *at, const void *context, const void *dcontext, float *delta)
{
    float x[at->d_pad], y[at->d_pad];

    for (int64_t i = 0; i < at->t_max; i++) {
        const int64_t first = at->context + i * at->context_width;
        float sum = 0;

        load_rows(at, context, first, 0, 1, x);
        load_rows(at, dcontext, first, 0, 1, y);
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < at->d_pad; c++) sum += x[c] * y[c];
        delta[i] = sum;
    }
}

/* The queries that see keys first .. of one tile. */
DSC_INLINE walk queries_of(const head *at, const dsc_blocks *blocks, int64_t first)
{
    const int64_t low = at->causal ? first : 0;

    if (at->side == 0) return all_rows(low, at->t_max);
    return listed_rows(blocks->column_start, blocks->rows, at->list + first / at->side, at->side, low, at->t_max);
}

/* One tile of keys against all queries that see it, of the `count` heads that share the key head. */
DSC_INLINE void backward_keys(const head *heads, int64_t count, const dsc_blocks *blocks, int lanes, const tile *keys,
                              void *const *operands, const sums *of)
{
    const int64_t pad = heads->d_pad, width = heads->width, first = keys->first;
    gathered queries;

    take_keys(heads, lanes, keys);
    memset(keys->dkey, 0, (size_t)(lanes * pad) * sizeof *keys->dkey);
    memset(keys->dvalue, 0, (size_t)(lanes * pad) * sizeof *keys->dvalue);
    for (int64_t h = 0; h < count; h++)
        for (walk walk = queries_of(&heads[h], blocks, first); next_rows(&walk, &queries);)
            backward_tile(&heads[h], lanes, keys, &queries, operands[0], &of[h]);
    store_rows(heads, keys->dkey, keys->count, operands[4], heads->k + first * width, width);
    store_rows(heads, keys->dvalue, keys->count, operands[4], heads->v + first * width, width);
}

/* One key head with the query heads that share it. */
DSC_INLINE void backward(const head *heads, int64_t count, const dsc_blocks *blocks, int lanes, void *const *operands,
                         const sums *of)
{
    const int64_t pad = heads->d_pad, t_max = heads->t_max;
    float of_keys[5][lanes * pad] ALIGNED, of_queries[2][TILE * pad] ALIGNED, scores[2][TILE * lanes] ALIGNED;
    tile keys = {.key = of_keys[0], .key_t = of_keys[1], .value_t = of_keys[2], .dkey = of_keys[3],
                 .dvalue = of_keys[4], .query = of_queries[0], .dcontext = of_queries[1], .p = scores[0],
                 .ds = scores[1]};

    for (keys.first = 0; keys.first < t_max; keys.first += lanes) {
        keys.count = DSC_MIN(t_max - keys.first, lanes);
        backward_keys(heads, count, blocks, lanes, &keys, operands, of);
    }
}

static void backward_unit(const head *heads, int64_t count, const dsc_blocks *blocks, void *const *operands,
                          float *workspace)
{
    const int64_t pad = heads->d_pad, t_max = heads->t_max;
    sums of[count];

    for (int64_t h = 0; h < count; h++) {
        of[h] = (sums){(const float *)operands[3] + heads[h].rows, workspace + (count * pad + h) * t_max,
                       workspace + h * t_max * pad};
        memset(of[h].dquery, 0, (size_t)(t_max * pad) * sizeof *of[h].dquery);
        find_delta(&heads[h], operands[2], operands[0], of[h].delta);
    }
    switch (heads->side == 0 ? TILE : lanes_of(heads->side)) { /* loops over lanes are vectors */
    case 16: backward(heads, count, blocks, 16, operands, of); break;
    case 32: backward(heads, count, blocks, 32, operands, of); break;
    default: backward(heads, count, blocks, 64, operands, of); break;
    }
    for (int64_t h = 0; h < count; h++)
        store_rows(&heads[h], of[h].dquery, t_max, operands[4], heads[h].q, heads->width);
}

/* A thread keeps to one unit of the workspace, so there are no more threads than units. */
dsc_status DSC_OVERLAY(attention_bwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t kv_heads = s->d[3], count = s->d[2] / kv_heads;
    const int threads = (int)DSC_MIN(dsc_attention_units(s->d), omp_get_max_threads());
    dsc_blocks blocks = {0};

    (void)step;
    if (s->flags & DSC_HAS_LAYOUT) blocks = dsc_blocks_of(s, operands[5]);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t unit = 0; unit < s->d[0] * kv_heads; unit++) {
        head heads[count];

        for (int64_t h = 0; h < count; h++)
            heads[h] = find_head(s, operands[1], operands[6], unit / kv_heads, unit % kv_heads * count + h);
        backward_unit(heads, count, &blocks, operands,
                      (float *)workspace + omp_get_thread_num() * dsc_attention_unit_floats(s->d));
    }
    return DSC_OK;
}
