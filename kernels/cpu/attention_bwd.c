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

/* p[query][key] = exp(score - lse), 0 where masked. */
DSC_INLINE void probabilities(const head *at, int lanes, const tile *keys, const gathered *queries, const float *lse)
{
    float *p = keys->p, mask[TILE] = {0};

    if (at->mask != NULL) memcpy(mask, at->mask + keys->first, (size_t)keys->count * sizeof *mask);
    for (int64_t r = 0; r < queries->count; r++)
        for (int64_t i = 0; i < queries->runs[r].count; i++, p += lanes) {
            const int64_t query = queries->runs[r].first + i, allowed = at->causal ? query + 1 - keys->first : lanes;
            const float row_lse = lse[query];

#pragma omp simd
            for (int j = 0; j < lanes; j++) p[j] = j < allowed ? dsc_exp(p[j] + mask[j] - row_lse) : 0;
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

#ifdef __AVX512BF16__
DSC_INLINE void take_key_pairs(const head *at, int lanes, const tile *keys)
{
    const gathered all = {1, keys->count, {{keys->first, keys->count}}};

    turn_pairs(at, lanes, at->qkv, at->v + keys->first * at->width, at->width, keys->count, keys->value_t);
    turn_pairs(at, lanes, at->qkv, at->k + keys->first * at->width, at->width, keys->count, keys->key_t);
    pair_gathered(at, at->qkv, at->k, at->width, &all, keys->key);
}

/* backward_tile, of pairs. Sums over queries take rows in pairs, the sum over keys columns. */
DSC_INLINE void backward_pairs(const head *at, int lanes, const tile *keys, const gathered *queries,
                               const void *dcontext, const sums *of)
{
    const int64_t d = at->d_max, pad = at->d_pad, rows = queries->rows;
    float *p = keys->p, *ds = keys->ds, rounded[TILE / 2 * lanes] ALIGNED;
    uint16_t ds_rows[TILE * lanes] ALIGNED;

    pair_scores(at, lanes, at->qkv, at->q, at->width, queries, keys->key_t, at->scale, p);
    probabilities(at, lanes, keys, queries, of->lse);
    pair_scores(at, lanes, dcontext, at->context, at->context_width, queries, keys->value_t, 1, ds);
    softmax_gradient(at, lanes, queries, of->delta, p, ds);
    pair_gathered(at, dcontext, at->context, at->context_width, queries, keys->dcontext);
    dsc_round_to_pairs(lanes, rows, p, rounded);
    dsc_pair_product(keys->count, d, (rows + 1) / 2, rounded, 1, lanes, keys->dcontext, pad, keys->dvalue, pad);
    pair_gathered(at, at->qkv, at->q, at->width, queries, keys->query);
    dsc_round_to_pairs(lanes, rows, ds, rounded);
    dsc_pair_product(keys->count, d, (rows + 1) / 2, rounded, 1, lanes, keys->query, pad, keys->dkey, pad);
    dsc_round_row(rows * lanes, ds, ds_rows);
    for (int64_t r = 0, row = 0; r < queries->count; row += queries->runs[r].count, r++)
        dsc_pair_product(queries->runs[r].count, d, (keys->count + 1) / 2, words_of(ds_rows, 0, lanes, row), lanes / 2,
                         1, keys->key, pad, of->dquery + queries->runs[r].first * pad, pad);
}
#endif

/* The keys and values of a tile, for the products with each row of queries. */
DSC_INLINE void take_keys(const head *at, int lanes, const tile *keys)
{
    const int64_t width = at->width, first = keys->first;

#ifdef __AVX512BF16__
    if (at->pairs) {
        take_key_pairs(at, lanes, keys);
        return;
    }
#endif
    load_rows(at, at->qkv, at->v + first * width, width, keys->count, keys->key);
    turn_rows(at, lanes, keys->key, keys->count, 1, keys->value_t);
    load_rows(at, at->qkv, at->k + first * width, width, keys->count, keys->key);
    turn_rows(at, lanes, keys->key, keys->count, at->scale, keys->key_t);
}

/* One tile of queries against one of keys. */
DSC_INLINE void backward_tile(const head *at, int lanes, const tile *keys, const gathered *queries,
                              const void *dcontext, const sums *of)
{
    const int64_t d = at->d_max, pad = at->d_pad, rows = queries->rows;
    float *query = keys->query, *dc = keys->dcontext, *p = keys->p, *ds = keys->ds;

    memset(p, 0, (size_t)(rows * lanes) * sizeof *p);
    memset(ds, 0, (size_t)(rows * lanes) * sizeof *ds);
#ifdef __AVX512BF16__
    if (at->pairs) {
        backward_pairs(at, lanes, keys, queries, dcontext, of);
        return;
    }
#endif
    load_gathered(at, at->qkv, at->q, at->width, queries, query);
    load_gathered(at, dcontext, at->context, at->context_width, queries, dc);
    dsc_tile_product(rows, lanes, d, query, pad, 1, keys->key_t, lanes, p, lanes);
    probabilities(at, lanes, keys, queries, of->lse);
    dsc_tile_product(rows, lanes, d, dc, pad, 1, keys->value_t, lanes, ds, lanes);
    softmax_gradient(at, lanes, queries, of->delta, p, ds);
    dsc_tile_product(keys->count, d, rows, p, 1, lanes, dc, pad, keys->dvalue, pad);
    dsc_tile_product(keys->count, d, rows, ds, 1, lanes, query, pad, keys->dkey, pad);
    for (int64_t r = 0; r < queries->count; ds += queries->runs[r].count * lanes, r++)
        dsc_tile_product(queries->runs[r].count, d, keys->count, ds, lanes, 1, keys->key, pad,
                         of->dquery + queries->runs[r].first * pad, pad);
}

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
    float keys_of[5][lanes * pad] ALIGNED, queries_of[2][TILE * pad] ALIGNED, scores[2][TILE * lanes] ALIGNED;
    tile keys = {0, 0, keys_of[0], keys_of[1], keys_of[2], keys_of[3], keys_of[4], queries_of[0], queries_of[1],
                 scores[0], scores[1]};

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
