#include "kernels/cpu/overlay.h"
#include "kernels/cpu/tile.h"
#include <math.h>
#include <omp.h>

/* Attention by tiles of queries and keys that stay in the caches, with a softmax that is corrected as keys come in.
 * Milakov and Gimelshein 2018; Dao et al. 2022, algorithms 1 and 4; delta as in Dao 2023, algorithm 2.
 *
 * Every product is dsc_tile_product's c += a * b, whose b has contiguous rows: forward works with one query in a vector
 * lane (scores are keys x queries), so that the softmax never sums across lanes; backward with one key in a lane. Tiles
 * that causality masks whole are skipped. A tile's buffers lie on the thread's stack. */
enum { TILE = 64 };

#define ALIGNED __attribute__((aligned(64)))

/* A query head h of one sequence, and the key head that it shares with others. */
typedef struct head {
    const void *qkv;
    int type;
    bool causal;
    int64_t t_max, d_max, d_pad;    /* d_pad: D rounded up to whole vectors of either width */
    int64_t width, context_width;   /* of a row of qkv and of context */
    int64_t q, k, v, context, rows; /* index of element 0 of row 0; of (b, h, 0) in [B, H, T] */
    float scale;
} head;

static head find_head(const dsc_shape *s, const void *qkv, int64_t b, int64_t h)
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
    };
}

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

/* to[d_max][TILE] = scale * from[rows][d_pad], transposed; columns past `rows` zero. */
static void transpose(const head *at, const float *from, int64_t rows, float scale, float *to)
{
    memset(to, 0, (size_t)(at->d_max * TILE) * sizeof *to);
    for (int64_t i = 0; i < rows; i += 16) {
        const int64_t height = DSC_MIN(rows - i, 16);

        for (int64_t c = 0; c < at->d_max; c++)
            for (int64_t r = 0; r < height; r++) to[c * TILE + i + r] = scale * from[(i + r) * at->d_pad + c];
    }
}

static int64_t keys_of(const head *at, int64_t last_query) { return at->causal ? last_query + 1 : at->t_max; }

/* ---- Forward */

/* The running softmax of a tile of queries. */
typedef struct softmax {
    float largest[TILE], sum[TILE], factor[TILE];
} softmax;

/* scores[keys][TILE] become exp(score - largest), with `largest` and `sum` brought up to date; `factor` is what was
 * summed before must be multiplied by. */
static void update(softmax *state, int64_t keys, float *scores)
{
    float largest[TILE];

    memcpy(largest, state->largest, sizeof largest);
    for (int64_t i = 0; i < keys; i++)
#pragma omp simd
        for (int j = 0; j < TILE; j++)
            largest[j] = scores[i * TILE + j] > largest[j] ? scores[i * TILE + j] : largest[j];
#pragma omp simd
    for (int j = 0; j < TILE; j++) {
        state->factor[j] = dsc_exp(state->largest[j] - largest[j]);
        state->largest[j] = largest[j];
        state->sum[j] *= state->factor[j];
    }
    for (int64_t i = 0; i < keys; i++)
#pragma omp simd
        for (int j = 0; j < TILE; j++) {
            scores[i * TILE + j] = dsc_exp(scores[i * TILE + j] - largest[j]);
            state->sum[j] += scores[i * TILE + j];
        }
}

static void multiply_rows(int64_t rows, const float *factor, float *x)
{
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int j = 0; j < TILE; j++) x[i * TILE + j] *= factor[j];
}

/* Scores of keys past their query become minus infinity. */
static void mask_scores(int64_t first_query, int64_t first_key, int64_t keys, float *scores)
{
    for (int64_t i = DSC_MAX(first_query - first_key, 0); i < keys; i++)
        for (int64_t j = 0; j < DSC_MIN(first_key + i - first_query, TILE); j++) scores[i * TILE + j] = -INFINITY;
}

/* context = sum / total, transposed back; lse = largest + log(total). */
static void finish(const head *at, int64_t first, int64_t rows, const softmax *state, const float *sum, void *context,
                   float *lse)
{
    float block[TILE * at->d_pad];

    for (int64_t j = 0; j < rows; j++) {
        const float inverse = 1 / state->sum[j];

        for (int64_t c = 0; c < at->d_max; c++) block[j * at->d_pad + c] = sum[c * TILE + j] * inverse;
        lse[at->rows + first + j] = state->largest[j] + logf(state->sum[j]);
    }
    store_rows(at, block, rows, context, at->context + first * at->context_width, at->context_width);
}

/* Queries first .. first + TILE - 1 against all their keys. */
static void forward(const head *at, int64_t first, void *context, float *lse)
{
    const int64_t d = at->d_max, rows = DSC_MIN(at->t_max - first, TILE), limit = keys_of(at, first + rows - 1);
    float block[TILE * at->d_pad] ALIGNED, query[d * TILE] ALIGNED, scores[TILE * TILE] ALIGNED, sum[d * TILE] ALIGNED;
    softmax state = {.sum = {0}};

    for (int j = 0; j < TILE; j++) state.largest[j] = -INFINITY;
    memset(sum, 0, sizeof sum);
    load_rows(at, at->qkv, at->q + first * at->width, at->width, rows, block);
    transpose(at, block, rows, at->scale, query);
    for (int64_t key = 0; key < limit; key += TILE) {
        const int64_t keys = DSC_MIN(limit - key, TILE);

        load_rows(at, at->qkv, at->k + key * at->width, at->width, keys, block);
        memset(scores, 0, sizeof scores);
        dsc_tile_product(keys, TILE, d, block, at->d_pad, 1, query, TILE, scores, TILE);
        if (at->causal && key + keys > first) mask_scores(first, key, keys, scores);
        update(&state, keys, scores);
        multiply_rows(d, state.factor, sum);
        load_rows(at, at->qkv, at->v + key * at->width, at->width, keys, block);
        dsc_tile_product(d, TILE, keys, block, 1, at->d_pad, scores, TILE, sum, TILE);
    }
    finish(at, first, rows, &state, sum, context, lse);
}

dsc_status DSC_OVERLAY(attention_fwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t heads = s->d[2], units = s->d[0] * heads, tiles = dsc_ceil_div(s->d[1], TILE);

    (void)workspace, (void)step;
    /* Late queries have more keys: they go first, so that threads end together. */
#pragma omp parallel for schedule(dynamic)
    for (int64_t index = 0; index < units * tiles; index++) {
        const int64_t unit = index % units, tile = tiles - 1 - index / units;
        const head at = find_head(s, operands[0], unit / heads, unit % heads);

        forward(&at, tile * TILE, operands[1], operands[2]);
    }
    return DSC_OK;
}

/* ---- Backward */

/* A tile of keys with their gradients, and room for a tile of queries. `key_t` is scaled and, as `value_t`,
 * transposed. */
typedef struct tile {
    int64_t first, count;
    float *key, *key_t, *value_t, *dkey, *dvalue;
    float *query, *dcontext, *p, *ds;
} tile;

/* p[query][key] = exp(score - lse), 0 where masked. */
static void probabilities(const head *at, int64_t first_query, int64_t rows, int64_t first_key, const float *lse,
                          float *p)
{
    for (int64_t i = 0; i < rows; i++, p += TILE) {
        const int64_t allowed = at->causal ? first_query + i + 1 - first_key : TILE;
        const float row_lse = lse[i];

#pragma omp simd
        for (int j = 0; j < TILE; j++) p[j] = j < allowed ? dsc_exp(p[j] - row_lse) : 0;
    }
}

/* dp becomes ds = p (dp - delta) scale, the gradient of the unscaled score. */
static void softmax_gradient(const head *at, int64_t rows, const float *delta, const float *p, float *dp)
{
    for (int64_t i = 0; i < rows; i++)
#pragma omp simd
        for (int j = 0; j < TILE; j++) dp[i * TILE + j] = p[i * TILE + j] * (dp[i * TILE + j] - delta[i]) * at->scale;
}

/* One tile of queries against one of keys; dquery, delta and lse start at the first query. */
static void backward_tile(const head *at, const tile *keys, const void *dcontext, int64_t first, const float *lse,
                          const float *delta, float *dquery)
{
    const int64_t d = at->d_max, pad = at->d_pad, rows = DSC_MIN(at->t_max - first, TILE);
    float *query = keys->query, *dc = keys->dcontext, *p = keys->p, *ds = keys->ds;

    load_rows(at, at->qkv, at->q + first * at->width, at->width, rows, query);
    load_rows(at, dcontext, at->context + first * at->context_width, at->context_width, rows, dc);
    memset(p, 0, TILE * TILE * sizeof *p);
    memset(ds, 0, TILE * TILE * sizeof *ds);
    dsc_tile_product(rows, TILE, d, query, pad, 1, keys->key_t, TILE, p, TILE);
    probabilities(at, first, rows, keys->first, lse, p);
    dsc_tile_product(rows, TILE, d, dc, pad, 1, keys->value_t, TILE, ds, TILE);
    softmax_gradient(at, rows, delta, p, ds);
    dsc_tile_product(keys->count, d, rows, p, 1, TILE, dc, pad, keys->dvalue, pad);
    dsc_tile_product(keys->count, d, rows, ds, 1, TILE, query, pad, keys->dkey, pad);
    dsc_tile_product(rows, d, keys->count, ds, TILE, 1, keys->key, pad, dquery, pad);
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

/* One tile of keys against all queries that see it, of the `count` heads that share the key head. */
static void backward_keys(const head *heads, int64_t count, const tile *keys, void *const *operands, const float *delta,
                          float *dquery)
{
    const int64_t pad = heads->d_pad, t_max = heads->t_max, width = heads->width, first = keys->first;
    const float *lse = operands[3];

    load_rows(heads, heads->qkv, heads->v + first * width, width, keys->count, keys->key);
    transpose(heads, keys->key, keys->count, 1, keys->value_t);
    load_rows(heads, heads->qkv, heads->k + first * width, width, keys->count, keys->key);
    transpose(heads, keys->key, keys->count, heads->scale, keys->key_t);
    memset(keys->dkey, 0, (size_t)(TILE * pad) * sizeof *keys->dkey);
    memset(keys->dvalue, 0, (size_t)(TILE * pad) * sizeof *keys->dvalue);
    for (int64_t h = 0; h < count; h++)
        for (int64_t query = heads->causal ? first : 0; query < t_max; query += TILE)
            backward_tile(&heads[h], keys, operands[0], query, lse + heads[h].rows + query, delta + h * t_max + query,
                          dquery + (h * t_max + query) * pad);
    store_rows(heads, keys->dkey, keys->count, operands[4], heads->k + first * width, width);
    store_rows(heads, keys->dvalue, keys->count, operands[4], heads->v + first * width, width);
}

/* One key head with the query heads that share it. `sums` has dsc_attention_unit_floats. */
static void backward(const head *heads, int64_t count, void *const *operands, float *sums)
{
    const int64_t pad = heads->d_pad, t_max = heads->t_max;
    float rows[7][TILE * pad] ALIGNED, scores[2][TILE * TILE] ALIGNED;
    float *dquery = sums, *delta = sums + count * t_max * pad;
    tile keys = {0, 0, rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], scores[0], scores[1]};

    memset(dquery, 0, (size_t)(count * t_max * pad) * sizeof *dquery);
    for (int64_t h = 0; h < count; h++) find_delta(&heads[h], operands[2], operands[0], delta + h * t_max);
    for (keys.first = 0; keys.first < t_max; keys.first += TILE) {
        keys.count = DSC_MIN(t_max - keys.first, TILE);
        backward_keys(heads, count, &keys, operands, delta, dquery);
    }
    for (int64_t h = 0; h < count; h++)
        store_rows(&heads[h], dquery + h * t_max * pad, t_max, operands[4], heads[h].q, heads->width);
}

/* A thread keeps to one unit of the workspace, so there are no more threads than units. */
dsc_status DSC_OVERLAY(attention_bwd)(const dsc_shape *s, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t kv_heads = s->d[3], count = s->d[2] / kv_heads;
    const int threads = (int)DSC_MIN(dsc_attention_units(s->d), omp_get_max_threads());

    (void)step;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t unit = 0; unit < s->d[0] * kv_heads; unit++) {
        head heads[count];

        for (int64_t h = 0; h < count; h++)
            heads[h] = find_head(s, operands[1], unit / kv_heads, unit % kv_heads * count + h);
        backward(heads, count, operands, (float *)workspace + omp_get_thread_num() * dsc_attention_unit_floats(s->d));
    }
    return DSC_OK;
}
