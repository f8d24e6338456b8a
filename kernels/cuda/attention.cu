/* Attention of any type, head size, layout and mask in fp32, and with stored scores: tensor cores have flash.cu. No
 * matrix of scores is held: a block goes over tiles of 32 keys (or queries) for 16 rows of its own, a warp has four of
 * these, a lane one of the tile's. Heads are cut in chunks of 64 columns, so that tiles of any D fit; CHUNKS of them
 * are summed in registers. */
extern "C" {
#include "kernel/blocks.h"
}
#include "kernels/cuda/device.cuh"

enum { WARPS = 4, EACH = 4, OWN = WARPS * EACH, TILE = WARP, CHUNK = 64, STRIDE = CHUNK + 4, LINES = WARPS * WARP };

/* The operands of attention, by name, and the shape. */
typedef struct call {
    dsc_shape s;
    const void *dcontext, *qkv;
    void *context;          /* backward reads it */
    float *lse;
    void *probabilities;    /* stored ones: neither context nor lse is read then */
    void *layout;
    const float *mask;
    void *dqkv;
    float *delta;           /* of each query, sum over keys of p dp */
} call;

/* Where a head of a sequence lies: rows of qkv hold q | k | v, and query heads in order share key heads. */
typedef struct head {
    int64_t width, q, k, v, context, context_width, rows, list;
    const float *mask;
    dsc_blocks blocks;
} head;

__device__ static head find_head(const call &c, int64_t b, int64_t h)
{
    const int64_t t = c.s.d[1], heads = c.s.d[2], kv_heads = c.s.d[3], d = c.s.d[4], kv = h / (heads / kv_heads);
    head at = {};

    at.width = (heads + 2 * kv_heads) * d;
    at.q = b * t * at.width + h * d;
    at.k = b * t * at.width + (heads + kv) * d;
    at.v = b * t * at.width + (heads + kv_heads + kv) * d;
    at.context = (b * t * heads + h) * d;
    at.context_width = heads * d;
    at.rows = (b * heads + h) * t;
    if (c.s.flags & DSC_HAS_LAYOUT) at.blocks = dsc_blocks_of(&c.s, c.layout);
    at.list = h * at.blocks.n;
    at.mask = c.mask == NULL ? NULL : c.mask + b * t;
    return at;
}

/* What rows first .. first + 16 of a head meet: ranges of keys, or by_column of queries. */
typedef struct ranges { int64_t begin, count, low, high; const int32_t *blocks; int64_t side; } ranges;

__device__ static ranges find_ranges(const call &c, const head &at, int64_t first, bool by_column)
{
    const bool is_causal = c.s.flags & DSC_CAUSAL;
    const int64_t t = c.s.d[1], low = is_causal && by_column ? first : 0;
    const int64_t high = is_causal && !by_column ? DSC_MIN(t, first + OWN) : t;

    if (!(c.s.flags & DSC_HAS_LAYOUT)) return (ranges){0, 1, low, high, NULL, 0};
    const int64_t list = at.list + first / at.blocks.side;
    const int32_t *start = (by_column ? at.blocks.column_start : at.blocks.row_start) + list;
    return (ranges){start[0], start[1] - start[0], low, high, by_column ? at.blocks.rows : at.blocks.columns,
                    at.blocks.side};
}

/* Range i is from .. to, which may be empty. */
__device__ static void find_range(const ranges &r, int64_t i, int64_t *from, int64_t *to)
{
    const int64_t block = r.blocks == NULL ? 0 : r.blocks[r.begin + i] * r.side;

    *from = DSC_MAX(block, r.low);
    *to = r.blocks == NULL ? r.high : DSC_MIN(block + r.side, r.high);
}

#define EACH_TILE(r, at, end)                                                        \
    for (int64_t i_ = 0, at, end; i_ < (r).count; i_++)                              \
        for (find_range((r), i_, &at, &end); at < end; at += TILE)

/* ---- Tiles */

/* Columns of a chunk of `count` rows, 32 or 16 of them at most, as floats; zeros around what is there. */
__device__ static void stage(const call &c, const void *from, int64_t first, int64_t row, int64_t count, int chunk,
                             int rows, float *to, int stride)
{
    for (int i = threadIdx.x; i < rows * (CHUNK / PACK); i += LINES) {
        const int r = i / (CHUNK / PACK), column = i % (CHUNK / PACK) * PACK;
        const int64_t left = r < count ? c.s.d[4] - (int64_t)chunk * CHUNK - column : 0;
        const pack p = left > 0 ? load_pack(from, first + r * row + chunk * CHUNK + column, left, c.s.type) : (pack){};

        *(float4 *)(to + r * stride + column) = make_float4(p.v[0], p.v[1], p.v[2], p.v[3]);
        *(float4 *)(to + r * stride + column + 4) = make_float4(p.v[4], p.v[5], p.v[6], p.v[7]);
    }
}

/* The tile's next chunk, when all are done with the last. */
__device__ static void stage_tile(const call &c, const void *from, int64_t first, int64_t row, int64_t count, int chunk,
                                  float *tile)
{
    __syncthreads();
    stage(c, from, first, row, count, chunk, TILE, tile, STRIDE);
    __syncthreads();
}

/* sum[e] += own row e of the warp . the lane's row of the tile, over a chunk. own is the chunk's part. */
__device__ static void add_dots(const float *own, int stride, const float *tile, float sum[EACH])
{
    const int lane = threadIdx.x % WARP;

#pragma unroll 4
    for (int column = 0; column < CHUNK; column += 4) {
        const float4 x = *(const float4 *)(tile + lane * STRIDE + column);

#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const float4 y = *(const float4 *)(own + e * stride + column);

            sum[e] += x.x * y.x;
            sum[e] += x.y * y.y;
            sum[e] += x.z * y.z;
            sum[e] += x.w * y.w;
        }
    }
}

/* sum[e] += weights of the warp's row e times the tile's rows; a lane has columns lane and lane + 32. */
__device__ static void add_rows(const float (*weights)[TILE], const float *tile, float sum[EACH][2])
{
    const int lane = threadIdx.x % WARP;

#pragma unroll 4
    for (int row = 0; row < TILE; row++) {
        const float x = tile[row * STRIDE + lane], y = tile[row * STRIDE + lane + WARP];

#pragma unroll
        for (int e = 0; e < EACH; e++) {
            sum[e][0] += weights[e][row] * x;
            sum[e][1] += weights[e][row] * y;
        }
    }
}

/* The warp's row e of a chunk, times a factor, into a matrix of the storage type. */
__device__ static void put_rows(const call &c, void *to, int64_t first, int64_t row, int64_t count, int chunk,
                                const float sum[EACH][2], const float factor[EACH])
{
    const int lane = threadIdx.x % WARP, own = threadIdx.x / WARP * EACH;

#pragma unroll
    for (int e = 0; e < EACH; e++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int64_t column = chunk * CHUNK + lane + i * WARP;

            if (own + e < count && column < c.s.d[4])
                store(to, first + (own + e) * row + column, c.s.type, sum[e][i] * factor[e]);
        }
}

__device__ static bool sees(const call &c, int64_t query, int64_t key)
{
    return query < c.s.d[1] && key < c.s.d[1] && !(c.s.flags & DSC_CAUSAL && key > query);
}

__device__ static float masked(const head &at, int64_t key) { return at.mask == NULL ? 0 : at.mask[key]; }

/* ---- Forward */

/* Scores of the warp's queries and the lane's key; minus infinity where they do not see it. own: the queries. */
template <int CHUNKS>
__device__ static void find_scores(const call &c, const head &at, const float *own, int64_t query, int64_t key,
                                   int64_t end, float *tile, float score[EACH])
{
    const float scale = 1 / sqrtf((float)c.s.d[4]);
    const int64_t own_key = key + threadIdx.x % WARP;

    for (int e = 0; e < EACH; e++) score[e] = 0;
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        stage_tile(c, c.qkv, at.k + key * at.width, at.width, end - key, chunk, tile);
        add_dots(own + chunk * CHUNK, CHUNKS * CHUNK, tile, score);
    }
    for (int e = 0; e < EACH; e++)
        score[e] = own_key < end && sees(c, query + e, own_key) ? score[e] * scale + masked(at, own_key) : -INFINITY;
}

template <int CHUNKS> __global__ static void attention_fwd(call c)
{
    extern __shared__ float memory[];
    __shared__ float p[OWN][TILE];
    float *own = memory, *tile = memory + OWN * CHUNKS * CHUNK;
    const int64_t t = c.s.d[1], tiles = dsc_ceil_div(t, OWN), unit = blockIdx.x / tiles;
    const int64_t first = (tiles - 1 - blockIdx.x % tiles) * OWN;
    const int warp_row = threadIdx.x / WARP * EACH, lane = threadIdx.x % WARP;
    const head at = find_head(c, unit / c.s.d[2], unit % c.s.d[2]);
    const ranges seen = find_ranges(c, at, first, false);
    const int64_t query = first + warp_row;
    float largest[EACH], total[EACH], factor[EACH], score[EACH], sum[CHUNKS][EACH][2] = {};

    for (int chunk = 0; chunk < CHUNKS; chunk++)
        stage(c, c.qkv, at.q + first * at.width, at.width, t - first, chunk, OWN, own + chunk * CHUNK, CHUNKS * CHUNK);
    for (int e = 0; e < EACH; e++) largest[e] = -INFINITY, total[e] = 0;
    own += warp_row * CHUNKS * CHUNK;
    EACH_TILE(seen, key, end) {
        find_scores<CHUNKS>(c, at, own, query, key, end, tile, score);
        for (int e = 0; e < EACH; e++) {
            const float next = fmaxf(largest[e], warp_max(score[e])), from = next == -INFINITY ? 0 : next;
            const float one = expf(score[e] - from), shrink = expf(largest[e] - from);

            p[warp_row + e][lane] = one;
            total[e] = total[e] * shrink + warp_sum(one);
            largest[e] = next;
            for (int chunk = 0; chunk < CHUNKS; chunk++) sum[chunk][e][0] *= shrink, sum[chunk][e][1] *= shrink;
        }
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            stage_tile(c, c.qkv, at.v + key * at.width, at.width, end - key, chunk, tile);
            add_rows(&p[warp_row], tile, sum[chunk]);
        }
    }
    for (int e = 0; e < EACH; e++) factor[e] = total[e] == 0 ? 0 : 1 / total[e];
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
        put_rows(c, c.context, at.context + first * at.context_width, at.context_width, t - first, chunk, sum[chunk],
                 factor);
    if (c.lse != NULL && lane < EACH && query + lane < t)
        for (int e = 0; e < EACH; e++)
            if (e == lane)
                c.lse[at.rows + query + e] = total[e] == 0 ? INFINITY : largest[e] + logf(total[e]);
    if (c.probabilities == NULL) return;
    for (int64_t key = 0; key < t; key += TILE) {
        find_scores<CHUNKS>(c, at, own, query, key, t, tile, score);
        for (int e = 0; e < EACH; e++)
            if (query + e < t && key + lane < t)
                store(c.probabilities, (at.rows + query + e) * t + key + lane, c.s.type,
                      score[e] == -INFINITY ? 0 : expf(score[e] - largest[e]) * factor[e]);
    }
}

/* ---- Backward */

__device__ static float probability(const call &c, const head &at, int64_t query, int64_t key, float score, float lse)
{
    if (!sees(c, query, key)) return 0;
    if (c.probabilities != NULL) return load(c.probabilities, (at.rows + query) * c.s.d[1] + key, c.s.type);
    return expf(score / sqrtf((float)c.s.d[4]) + masked(at, key) - lse);
}

/* Products of the warp's rows with the lane's of a tile. */
template <int CHUNKS>
__device__ static void find_dots(const call &c, const float *own, const void *from, int64_t first, int64_t row,
                                 int64_t count, float *tile, float dot[EACH])
{
    for (int e = 0; e < EACH; e++) dot[e] = 0;
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        stage_tile(c, from, first, row, count, chunk, tile);
        add_dots(own + chunk * CHUNK, CHUNKS * CHUNK, tile, dot);
    }
}

/* delta of the warp's queries: context . dcontext, or with stored scores over the keys. */
template <int CHUNKS>
__device__ static void find_delta(const call &c, const head &at, const float *dcontext, int64_t query, int64_t end,
                                  float *tile, float delta[EACH])
{
    const int lane = threadIdx.x % WARP;
    float dp[EACH];

    for (int e = 0; e < EACH; e++) delta[e] = 0;
    for (int64_t key = 0; c.probabilities != NULL && key < end; key += TILE) {
        find_dots<CHUNKS>(c, dcontext, c.qkv, at.v + key * at.width, at.width, end - key, tile, dp);
        for (int e = 0; e < EACH; e++)
            if (key + lane < end) delta[e] += probability(c, at, query + e, key + lane, 0, 0) * dp[e];
    }
    for (int e = 0; e < EACH; e++) {
        for (int64_t column = lane; c.probabilities == NULL && query + e < c.s.d[1] && column < c.s.d[4];
             column += WARP)
            delta[e] += dcontext[e * CHUNKS * CHUNK + column] *
                        load(c.context, at.context + (query + e) * at.context_width + column, c.s.type);
        delta[e] = warp_sum(delta[e]);
        if (lane == 0 && query + e < c.s.d[1]) c.delta[at.rows + query + e] = delta[e];
    }
}

/* dq = sum over keys of ds k, ds = p (dp - delta) scale. */
template <int CHUNKS> __global__ static void attention_dq(call c)
{
    extern __shared__ float memory[];
    __shared__ float ds[OWN][TILE];
    float *q = memory, *dcontext = q + OWN * CHUNKS * CHUNK, *tile = dcontext + OWN * CHUNKS * CHUNK;
    const int64_t t = c.s.d[1], tiles = dsc_ceil_div(t, OWN), unit = blockIdx.x / tiles;
    const int64_t first = (tiles - 1 - blockIdx.x % tiles) * OWN;
    const int warp_row = threadIdx.x / WARP * EACH, lane = threadIdx.x % WARP;
    const head at = find_head(c, unit / c.s.d[2], unit % c.s.d[2]);
    const ranges seen = find_ranges(c, at, first, false);
    const int64_t query = first + warp_row;
    const float scale = 1 / sqrtf((float)c.s.d[4]);
    float score[EACH], dp[EACH], delta[EACH], lse[EACH], factor[EACH], sum[CHUNKS][EACH][2] = {};

    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        stage(c, c.qkv, at.q + first * at.width, at.width, t - first, chunk, OWN, q + chunk * CHUNK, CHUNKS * CHUNK);
        stage(c, c.dcontext, at.context + first * at.context_width, at.context_width, t - first, chunk, OWN,
              dcontext + chunk * CHUNK, CHUNKS * CHUNK);
    }
    __syncthreads();
    q += warp_row * CHUNKS * CHUNK;
    dcontext += warp_row * CHUNKS * CHUNK;
    find_delta<CHUNKS>(c, at, dcontext, query, seen.high, tile, delta);
    for (int e = 0; e < EACH; e++) {
        lse[e] = c.lse != NULL && query + e < t ? c.lse[at.rows + query + e] : 0;
        factor[e] = scale;
    }
    EACH_TILE(seen, key, end) {
        if (c.probabilities == NULL)
            find_dots<CHUNKS>(c, q, c.qkv, at.k + key * at.width, at.width, end - key, tile, score);
        find_dots<CHUNKS>(c, dcontext, c.qkv, at.v + key * at.width, at.width, end - key, tile, dp);
        for (int e = 0; e < EACH; e++)
            ds[warp_row + e][lane] =
                key + lane < end ? probability(c, at, query + e, key + lane, score[e], lse[e]) * (dp[e] - delta[e]) : 0;
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            stage_tile(c, c.qkv, at.k + key * at.width, at.width, end - key, chunk, tile);
            add_rows(&ds[warp_row], tile, sum[chunk]);
        }
    }
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
        put_rows(c, c.dqkv, at.q + first * at.width, at.width, t - first, chunk, sum[chunk], factor);
}

/* dk = sum of ds q, dv = sum of p dcontext, over the queries of the heads that share the key, in their order. */
template <int CHUNKS> __global__ static void attention_dkv(call c)
{
    extern __shared__ float memory[];
    __shared__ float p[OWN][TILE], ds[OWN][TILE];
    float *k = memory, *v = k + OWN * CHUNKS * CHUNK, *tile = v + OWN * CHUNKS * CHUNK;
    const int64_t t = c.s.d[1], tiles = dsc_ceil_div(t, OWN), unit = blockIdx.x / tiles;
    const int64_t first = blockIdx.x % tiles * OWN;
    const int64_t group = c.s.d[2] / c.s.d[3], b = unit / c.s.d[3], first_head = unit % c.s.d[3] * group;
    const int warp_row = threadIdx.x / WARP * EACH, lane = threadIdx.x % WARP;
    const float scale = 1 / sqrtf((float)c.s.d[4]);
    head at = find_head(c, b, first_head);
    float score[EACH], dp[EACH], ones[EACH], scales[EACH], dk[CHUNKS][EACH][2] = {}, dv[CHUNKS][EACH][2] = {};

    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        stage(c, c.qkv, at.k + first * at.width, at.width, t - first, chunk, OWN, k + chunk * CHUNK, CHUNKS * CHUNK);
        stage(c, c.qkv, at.v + first * at.width, at.width, t - first, chunk, OWN, v + chunk * CHUNK, CHUNKS * CHUNK);
    }
    k += warp_row * CHUNKS * CHUNK;
    v += warp_row * CHUNKS * CHUNK;
    for (int e = 0; e < EACH; e++) ones[e] = 1, scales[e] = scale;
    for (int64_t h = first_head; h < first_head + group; h++) {
        at = find_head(c, b, h);
        const ranges seen = find_ranges(c, at, first, true);
        EACH_TILE(seen, query, end) {
            const int64_t own = query + lane;
            const float lse = c.lse != NULL && own < end ? c.lse[at.rows + own] : 0;
            const float delta = own < end ? c.delta[at.rows + own] : 0;
            const int64_t dcontext = at.context + query * at.context_width;

            if (c.probabilities == NULL)
                find_dots<CHUNKS>(c, k, c.qkv, at.q + query * at.width, at.width, end - query, tile, score);
            find_dots<CHUNKS>(c, v, c.dcontext, dcontext, at.context_width, end - query, tile, dp);
            for (int e = 0; e < EACH; e++) {
                const float one = own < end ? probability(c, at, own, first + warp_row + e, score[e], lse) : 0;

                p[warp_row + e][lane] = one;
                ds[warp_row + e][lane] = one * (dp[e] - delta);
            }
#pragma unroll
            for (int chunk = 0; chunk < CHUNKS; chunk++) {
                stage_tile(c, c.dcontext, dcontext, at.context_width, end - query, chunk, tile);
                add_rows(&p[warp_row], tile, dv[chunk]);
            }
#pragma unroll
            for (int chunk = 0; chunk < CHUNKS; chunk++) {
                stage_tile(c, c.qkv, at.q + query * at.width, at.width, end - query, chunk, tile);
                add_rows(&ds[warp_row], tile, dk[chunk]);
            }
        }
    }
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        put_rows(c, c.dqkv, at.k + first * at.width, at.width, t - first, chunk, dk[chunk], scales);
        put_rows(c, c.dqkv, at.v + first * at.width, at.width, t - first, chunk, dv[chunk], ones);
    }
}

/* ---- Launches */

typedef void kernel_fn(call);

/* `matrices` of 16 rows, and a tile. */
static dsc_status launch(kernel_fn *kernel, const char *name, const call *c, int64_t units, int matrices, int chunks)
{
    const int bytes = (matrices * OWN * chunks * CHUNK + TILE * STRIDE) * (int)sizeof(float);
    const int64_t blocks = units * dsc_ceil_div(c->s.d[1], OWN);
    dsc_status status = DSC_OK;

    DSC_TRY(DSC_CUDA(cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)));
    kernel<<<(unsigned)blocks, LINES, bytes, dsc_cuda_stream()>>>(*c);
    status = DSC_CUDA_LAUNCHED(name);
out:
    return status;
}

static int chunks_of(const dsc_shape *s)
{
    return s->d[4] <= CHUNK ? 1 : s->d[4] <= 2 * CHUNK ? 2 : s->d[4] <= 4 * CHUNK ? 4 : 16;
}

#define PICK(kernel, chunks) \
    ((chunks) == 1 ? kernel<1> : (chunks) == 2 ? kernel<2> : (chunks) == 4 ? kernel<4> : kernel<16>)

static dsc_status forward(const call *c)
{
    const int chunks = chunks_of(&c->s);

    return launch(PICK(attention_fwd, chunks), "attention_fwd", c, c->s.d[0] * c->s.d[2], 1, chunks);
}

static dsc_status backward(const call *c)
{
    const int chunks = chunks_of(&c->s);
    dsc_status status = DSC_OK;

    DSC_TRY(launch(PICK(attention_dq, chunks), "attention_dq", c, c->s.d[0] * c->s.d[2], 2, chunks));
    DSC_TRY(launch(PICK(attention_dkv, chunks), "attention_dkv", c, c->s.d[0] * c->s.d[3], 2, chunks));
out:
    return status;
}

dsc_status dsc_cuda_attention_fwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    call c = {};

    if (dsc_cuda_flash_has(s, o)) return dsc_cuda_flash_fwd(s, o, workspace, step);
    c.s = *s;
    c.qkv = o[0], c.context = o[1], c.lse = (float *)o[2], c.layout = o[3], c.mask = (const float *)o[4];
    return forward(&c);
}

dsc_status dsc_cuda_attention_bwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    call c = {};

    if (dsc_cuda_flash_has(s, o)) return dsc_cuda_flash_bwd(s, o, workspace, step);
    c.s = *s;
    c.dcontext = o[0], c.qkv = o[1], c.context = o[2], c.lse = (float *)o[3], c.dqkv = o[4], c.layout = o[5];
    c.mask = (const float *)o[6], c.delta = (float *)workspace;
    return backward(&c);
}

dsc_status dsc_cuda_scores_fwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    call c = {};

    (void)workspace, (void)step;
    c.s = *s;
    c.qkv = o[0], c.context = o[1], c.probabilities = o[2];
    return forward(&c);
}

dsc_status dsc_cuda_scores_bwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    call c = {};

    (void)step;
    c.s = *s;
    c.dcontext = o[0], c.qkv = o[1], c.probabilities = o[2], c.dqkv = o[3], c.delta = (float *)workspace;
    return backward(&c);
}
