/* Attention of bf16 and fp16 by tensor cores, for heads of 64 and 128: Dao 2023 (FlashAttention-2), with the gradients
 * of queries and of keys in kernels of their own, so that no sum needs atomic operations. Scores are in registers
 * alone.
 *
 * A block has four warps; a warp has M tiles of 16 rows of its own (queries, or keys), and goes over tiles of TILE keys
 * (or queries) that lie in shared memory, the next one on its way while one is worked on. Products are by mma.m16n8k16:
 * of a 16 x 16 fragment of rows, in registers, with 8 columns. A sum's fragment is laid out as that of the rows of the
 * next product, so that probabilities never leave the registers. Exponentials are to base 2. */
#include "kernels/cuda/device.cuh"

enum { WARPS = 4, LINES = WARPS * WARP, CELL = 8 /* elements of 16 bytes */ };

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

typedef struct call {
    dsc_shape s;
    const uint16_t *dcontext, *qkv, *context;
    uint16_t *out;    /* context forward, dqkv backward */
    float *lse;       /* read backward */
    const float *mask;
    float *delta;
} call;

/* Where a head of a sequence lies; rows of qkv are `width` elements apart. */
typedef struct head { int64_t width, q, k, v, context, context_width, rows; const float *mask; } head;

__device__ static head find_head(const call &c, int64_t b, int64_t h)
{
    const int64_t t = c.s.d[1], heads = c.s.d[2], kv_heads = c.s.d[3], d = c.s.d[4], kv = h / (heads / kv_heads);
    const int64_t width = (heads + 2 * kv_heads) * d, row = b * t * width;

    return (head){width, row + h * d, row + (heads + kv) * d, row + (heads + kv_heads + kv) * d,
                  (b * t * heads + h) * d, heads * d, (b * heads + h) * t, c.mask == NULL ? NULL : c.mask + b * t};
}

/* ---- Tiles in shared memory: rows of D elements in cells of 16 bytes, which are swapped about so that neither eight
 * rows of one column nor a row's cells meet in one bank */

template <int D> __device__ static uint32_t cell_at(int row, int cell) { return row * D + ((cell ^ (row & 7)) * CELL); }

__device__ static void copy_cell(uint16_t *to, const uint16_t *from, bool is_there)
{
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(to);

    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(is_there ? 16 : 0));
}

__device__ static void commit() { asm volatile("cp.async.commit_group;"); }
template <int LEFT> __device__ static void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT)); }

/* Starts to fetch ROWS rows, of which `count` are there; others are zero. */
template <int ROWS, int D>
__device__ static void fetch(uint16_t *to, const uint16_t *from, int64_t width, int64_t count)
{
#pragma unroll
    for (int i = 0; i < ROWS * D / CELL / LINES; i++) {
        const int at = i * LINES + threadIdx.x, row = at / (D / CELL), cell = at % (D / CELL);
        const bool is_there = row < count;

        copy_cell(to + cell_at<D>(row, cell), from + (is_there ? row : 0) * width + cell * CELL, is_there);
    }
}

/* ---- Fragments */

__device__ static void read_four(uint32_t to[4], const uint16_t *from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(from)));
}

__device__ static void read_four_turned(uint32_t to[4], const uint16_t *from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(from)));
}

/* 16 rows from `row`, columns 16 step .. + 16: a product's left side. */
template <int D> __device__ static void read_rows(uint32_t to[4], const uint16_t *tile, int row, int step)
{
    const int lane = threadIdx.x % WARP;

    read_four(to, tile + cell_at<D>(row + lane % 16, 2 * step + lane / 16));
}

/* The right side, of two groups of 8 columns: rows of the tile are the product's columns, or (turned) what is summed
 * over. */
template <int D> __device__ static void read_columns(uint32_t to[4], const uint16_t *tile, int row, int step)
{
    const int lane = threadIdx.x % WARP;

    read_four(to, tile + cell_at<D>(row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
}

template <int D> __device__ static void read_columns_turned(uint32_t to[4], const uint16_t *tile, int row, int step)
{
    const int lane = threadIdx.x % WARP;

    read_four_turned(to, tile + cell_at<D>(row + lane % 16, 2 * step + lane / 16));
}

template <int TYPE>
__device__ static void multiply(float sum[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    if (TYPE == DSC_BF16)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* sum[m][n] = rows of `own` from row + 16 m, times rows of `tile`, over D. */
template <int TYPE, int D, int M, int TILE>
__device__ static void find_products(float sum[M][TILE / 8][4], const uint16_t *own, int row, const uint16_t *tile)
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[m][n][i] = 0;
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        uint32_t a[M][4], b[4];

#pragma unroll
        for (int m = 0; m < M; m++) read_rows<D>(a[m], own, row + 16 * m, step);
#pragma unroll
        for (int n = 0; n < TILE / 16; n++) {
            read_columns<D>(b, tile, 16 * n, step);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply<TYPE>(sum[m][2 * n], a[m], b[0], b[1]);
                multiply<TYPE>(sum[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/* sum[m][n] += weights (as find_products left them, rounded) times the tile. */
template <int TYPE, int D, int M, int TILE>
__device__ static void add_products(float sum[M][D / 8][4], const float weights[M][TILE / 8][4], const uint16_t *tile)
{
#pragma unroll
    for (int step = 0; step < TILE / 16; step++) {
        uint32_t a[M][4], b[4];

#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *w = weights[m][2 * step + i / 2];

                a[m][i] = narrow(w[i % 2 * 2], w[i % 2 * 2 + 1], TYPE);
            }
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            read_columns_turned<D>(b, tile, 16 * step, n);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply<TYPE>(sum[m][2 * n], a[m], b[0], b[1]);
                multiply<TYPE>(sum[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/* Element i of a sum's fragment: its row and column, in a tile of 16 x 8. */
__device__ static int row_of(int i) { return threadIdx.x % WARP / 4 + i / 2 * 8; }
__device__ static int column_of(int i) { return threadIdx.x % 4 * 2 + i % 2; }

/* Rows of sums, each times a factor, into a matrix of rows `width` apart; `count` are there. factor[m][i / 2]. */
template <int TYPE, int D, int M>
__device__ static void put_rows(uint16_t *to, int64_t width, int row, int64_t count, const float sum[M][D / 8][4],
                                const float factor[M][2])
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int at = row + 16 * m + row_of(2 * half);
            const float f = factor[m][half];

            if (at >= count) continue;
#pragma unroll
            for (int n = 0; n < D / 8; n++)
                *(uint32_t *)(to + at * width + 8 * n + column_of(0)) =
                    narrow(sum[m][n][2 * half] * f, sum[m][n][2 * half + 1] * f, TYPE);
        }
}

/* Over the four lanes that share a row. */
__device__ static float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}

__device__ static float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

__device__ static float exp2_of(float x)
{
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- Forward */

/* Scores to base 2; minus infinity where a query does not see the key. Tiles inside of what is seen need no looking. */
template <int M, int TILE>
__device__ static void finish_scores(const call &c, const head &at, int query, int key, bool is_inside,
                                     float score[M][TILE / 8][4])
{
    const float scale = LOG2_E / sqrtf((float)c.s.d[4]);
    const bool is_causal = c.s.flags & DSC_CAUSAL;
    const int t = (int)c.s.d[1];

#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int own = key + 8 * n + column_of(i);

                score[m][n][i] *= scale;
                if (is_inside) continue;
                if (own >= t || (is_causal && own > query + 16 * m + row_of(i))) score[m][n][i] = -INFINITY;
                else if (at.mask != NULL) score[m][n][i] += at.mask[own] * LOG2_E;
            }
}

/* The running softmax of Milakov and Gimelshein 2018: scores become weights, sums shrink to the new largest. */
template <int D, int M, int TILE>
__device__ static void step_softmax(float score[M][TILE / 8][4], float largest[M][2], float total[M][2],
                                    float sum[M][D / 8][4])
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float next = largest[m][half], shrink;

#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
                next = fmaxf(next, fmaxf(score[m][n][2 * half], score[m][n][2 * half + 1]));
            next = quad_max(next);
            const float from = next == -INFINITY ? 0 : next;
            shrink = exp2_of(largest[m][half] - from);
            largest[m][half] = next;
            total[m][half] *= shrink;
#pragma unroll
            for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    score[m][n][i] = exp2_of(score[m][n][i] - from);
                    total[m][half] += score[m][n][i];
                }
#pragma unroll
            for (int n = 0; n < D / 8; n++) sum[m][n][2 * half] *= shrink, sum[m][n][2 * half + 1] *= shrink;
        }
}

template <int TYPE, int D, int M, int TILE> __global__ static __launch_bounds__(LINES) void flash_fwd(call c)
{
    extern __shared__ __align__(128) uint16_t memory[];
    enum { ROWS = WARPS * M * 16 };
    uint16_t *q = memory, *k = q + ROWS * D, *v = k + 2 * TILE * D;
    const int t = (int)c.s.d[1], first = (gridDim.y - 1 - blockIdx.y) * ROWS; /* the longest come first */
    const head at = find_head(c, blockIdx.x / c.s.d[2], blockIdx.x % c.s.d[2]);
    const bool is_causal = c.s.flags & DSC_CAUSAL;
    const int end = is_causal ? DSC_MIN(t, first + ROWS) : t, own = threadIdx.x / WARP * M * 16;
    float score[M][TILE / 8][4], sum[M][D / 8][4] = {}, largest[M][2], total[M][2] = {};

    for (int m = 0; m < M; m++) largest[m][0] = largest[m][1] = -INFINITY;
    fetch<ROWS, D>(q, c.qkv + at.q + first * at.width, at.width, t - first);
    fetch<TILE, D>(k, c.qkv + at.k, at.width, t);
    fetch<TILE, D>(v, c.qkv + at.v, at.width, t);
    commit();
    for (int key = 0, stage = 0; key < end; key += TILE, stage ^= 1) {
        const int next = key + TILE;
        const bool is_inside = next <= t && (!is_causal || next <= first + own + 1) && at.mask == NULL;

        if (next < end) {
            fetch<TILE, D>(k + (stage ^ 1) * TILE * D, c.qkv + at.k + next * at.width, at.width, t - next);
            fetch<TILE, D>(v + (stage ^ 1) * TILE * D, c.qkv + at.v + next * at.width, at.width, t - next);
        }
        commit();
        wait<1>();
        __syncthreads();
        if (!is_causal || key < first + own + 16 * M) {
            find_products<TYPE, D, M, TILE>(score, q, own, k + stage * TILE * D);
            finish_scores<M, TILE>(c, at, first + own, key, is_inside, score);
            step_softmax<D, M, TILE>(score, largest, total, sum);
            add_products<TYPE, D, M, TILE>(sum, score, v + stage * TILE * D);
        }
        __syncthreads();
    }
    for (int m = 0; m < M; m++)
        for (int half = 0; half < 2; half++) {
            const int query = first + own + 16 * m + row_of(2 * half);
            const float all = quad_sum(total[m][half]);

            total[m][half] = all == 0 ? 0 : 1 / all;
            if (query < t && threadIdx.x % 4 == 0)
                c.lse[at.rows + query] = all == 0 ? INFINITY : largest[m][half] * LN_2 + logf(all);
        }
    put_rows<TYPE, D, M>(c.out + at.context + first * at.context_width, at.context_width, own, t - first, sum, total);
}

/* ---- Backward */

/* delta of each query: context . dcontext; a warp has one. */
__global__ static void flash_delta(call c)
{
    const int64_t index = (int64_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP, h = index % c.s.d[2];
    const int64_t row = index / c.s.d[2], d = c.s.d[4], t = c.s.d[1];
    float sum = 0;

    if (row >= c.s.d[0] * t) return;
    for (int64_t i = threadIdx.x % WARP * 2; i < d; i += 2 * WARP) {
        const float2 a = widen(*(const uint32_t *)(c.context + index * d + i), c.s.type);
        const float2 b = widen(*(const uint32_t *)(c.dcontext + index * d + i), c.s.type);

        sum += a.x * b.x + a.y * b.y;
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) c.delta[(row / t * c.s.d[2] + h) * t + row % t] = sum;
}

/* Scores become ds = p (dp - delta). */
template <int M, int TILE>
__device__ static void find_gradients(float score[M][TILE / 8][4], const float dp[M][TILE / 8][4],
                                      const float lse[M][2], const float delta[M][2])
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < TILE / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                score[m][n][i] = exp2_of(score[m][n][i] - lse[m][i / 2]) * (dp[m][n][i] - delta[m][i / 2]);
}

/* dq = scale * sum over keys of ds k. */
template <int TYPE, int D, int M, int TILE> __global__ static __launch_bounds__(LINES) void flash_dq(call c)
{
    extern __shared__ __align__(128) uint16_t memory[];
    enum { ROWS = WARPS * M * 16 };
    uint16_t *q = memory, *dcontext = q + ROWS * D, *k = dcontext + ROWS * D, *v = k + 2 * TILE * D;
    const int t = (int)c.s.d[1], first = (gridDim.y - 1 - blockIdx.y) * ROWS;
    const head at = find_head(c, blockIdx.x / c.s.d[2], blockIdx.x % c.s.d[2]);
    const bool is_causal = c.s.flags & DSC_CAUSAL;
    const int end = is_causal ? DSC_MIN(t, first + ROWS) : t, own = threadIdx.x / WARP * M * 16;
    float score[M][TILE / 8][4], dp[M][TILE / 8][4], sum[M][D / 8][4] = {}, lse[M][2], delta[M][2], scale[M][2];

    for (int m = 0; m < M; m++)
        for (int half = 0; half < 2; half++) {
            const int query = first + own + 16 * m + row_of(2 * half);

            lse[m][half] = query < t ? c.lse[at.rows + query] * LOG2_E : INFINITY;
            delta[m][half] = query < t ? c.delta[at.rows + query] : 0;
            scale[m][half] = 1 / sqrtf((float)D);
        }
    fetch<ROWS, D>(q, c.qkv + at.q + first * at.width, at.width, t - first);
    fetch<ROWS, D>(dcontext, c.dcontext + at.context + first * at.context_width, at.context_width, t - first);
    fetch<TILE, D>(k, c.qkv + at.k, at.width, t);
    fetch<TILE, D>(v, c.qkv + at.v, at.width, t);
    commit();
    for (int key = 0, stage = 0; key < end; key += TILE, stage ^= 1) {
        const int next = key + TILE;
        const bool is_inside = next <= t && (!is_causal || next <= first + own + 1) && at.mask == NULL;

        if (next < end) {
            fetch<TILE, D>(k + (stage ^ 1) * TILE * D, c.qkv + at.k + next * at.width, at.width, t - next);
            fetch<TILE, D>(v + (stage ^ 1) * TILE * D, c.qkv + at.v + next * at.width, at.width, t - next);
        }
        commit();
        wait<1>();
        __syncthreads();
        if (!is_causal || key < first + own + 16 * M) {
            find_products<TYPE, D, M, TILE>(score, q, own, k + stage * TILE * D);
            finish_scores<M, TILE>(c, at, first + own, key, is_inside, score);
            find_products<TYPE, D, M, TILE>(dp, dcontext, own, v + stage * TILE * D);
            find_gradients<M, TILE>(score, dp, lse, delta);
            add_products<TYPE, D, M, TILE>(sum, score, k + stage * TILE * D);
        }
        __syncthreads();
    }
    put_rows<TYPE, D, M>(c.out + at.q + first * at.width, at.width, own, t - first, sum, scale);
}

/* The same turned: rows are keys, columns queries. Scores become p, dp becomes ds. */
template <int M, int TILE>
__device__ static void find_turned(const call &c, const float *lse, const float *delta, int key, int query,
                                   const float mask[M][2], float score[M][TILE / 8][4], float dp[M][TILE / 8][4])
{
    const float unit = LOG2_E / sqrtf((float)c.s.d[4]);
    const bool is_causal = c.s.flags & DSC_CAUSAL;

#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int own = query + 8 * n + column_of(j);
            const bool is_there = own < (int)c.s.d[1];
            const float own_lse = is_there ? lse[own] * LOG2_E : INFINITY, own_delta = is_there ? delta[own] : 0;

#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float *s = &score[m][n][2 * half + j], *d = &dp[m][n][2 * half + j];
                    const bool is_later = is_causal && key + 16 * m + row_of(2 * half) > own;

                    *s = is_later ? 0 : exp2_of(*s * unit + mask[m][half] - own_lse);
                    *d = *s * (*d - own_delta);
                }
        }
}

/* dk = scale * sum of ds q, dv = sum of p dcontext, over the queries of the heads that share the keys, in their
 * order. */
template <int TYPE, int D, int M, int TILE> __global__ static __launch_bounds__(LINES) void flash_dkv(call c)
{
    extern __shared__ __align__(128) uint16_t memory[];
    enum { ROWS = WARPS * M * 16 };
    uint16_t *k = memory, *v = k + ROWS * D, *q = v + ROWS * D, *dcontext = q + 2 * TILE * D;
    const int t = (int)c.s.d[1], first = blockIdx.y * ROWS, group = (int)(c.s.d[2] / c.s.d[3]);
    const head at = find_head(c, blockIdx.x / c.s.d[3], blockIdx.x % c.s.d[3] * group); /* the first of the group */
    const bool is_causal = c.s.flags & DSC_CAUSAL;
    const int begin = is_causal ? first / TILE * TILE : 0, tiles = (t - begin + TILE - 1) / TILE; /* of queries */
    const int own = threadIdx.x / WARP * M * 16;
    float score[M][TILE / 8][4], dp[M][TILE / 8][4], dk[M][D / 8][4] = {}, dv[M][D / 8][4] = {};
    float scale[M][2], one[M][2], mask[M][2];

    for (int m = 0; m < M; m++)
        for (int half = 0; half < 2; half++) {
            const int key = first + own + 16 * m + row_of(2 * half);

            scale[m][half] = 1 / sqrtf((float)D);
            one[m][half] = 1;
            mask[m][half] = at.mask != NULL && key < t ? at.mask[key] * LOG2_E : 0;
        }
    fetch<ROWS, D>(k, c.qkv + at.k + first * at.width, at.width, t - first);
    fetch<ROWS, D>(v, c.qkv + at.v + first * at.width, at.width, t - first);
    for (int i = -1; i < group * tiles; i++) { /* tile i is worked on, the next is fetched */
        const int next = i + 1, there = begin + next % tiles * TILE, h = next / tiles, stage = i & 1;

        if (next < group * tiles) {
            fetch<TILE, D>(q + (next & 1) * TILE * D, c.qkv + at.q + h * D + there * at.width, at.width, t - there);
            fetch<TILE, D>(dcontext + (next & 1) * TILE * D,
                           c.dcontext + at.context + h * D + there * at.context_width, at.context_width, t - there);
        }
        commit();
        if (i < 0) continue;
        const int query = begin + i % tiles * TILE, head_row = i / tiles * t;
        wait<1>();
        __syncthreads();
        if (!is_causal || query + TILE > first + own) {
            find_products<TYPE, D, M, TILE>(score, k, own, q + stage * TILE * D);
            find_products<TYPE, D, M, TILE>(dp, v, own, dcontext + stage * TILE * D);
            find_turned<M, TILE>(c, c.lse + at.rows + head_row, c.delta + at.rows + head_row, first + own, query, mask,
                                 score, dp);
            add_products<TYPE, D, M, TILE>(dv, score, dcontext + stage * TILE * D);
            add_products<TYPE, D, M, TILE>(dk, dp, q + stage * TILE * D);
        }
        __syncthreads();
    }
    put_rows<TYPE, D, M>(c.out + at.k + first * at.width, at.width, own, t - first, dk, scale);
    put_rows<TYPE, D, M>(c.out + at.v + first * at.width, at.width, own, t - first, dv, one);
}

/* ---- Launches */

typedef void kernel_fn(call);

static dsc_status launch(kernel_fn *kernel, const char *name, const call *c, int64_t units, int rows, int bytes)
{
    const dim3 blocks((unsigned)units, blocks_for(c->s.d[1], rows));
    dsc_status status = DSC_OK;

    DSC_TRY(DSC_CUDA(cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)));
    kernel<<<blocks, LINES, bytes, dsc_cuda_stream()>>>(*c);
    status = DSC_CUDA_LAUNCHED(name);
out:
    return status;
}

/* Of heads of D: tiles of 16 rows a warp has, rows of the other side's tile; what fits the registers. */
#define OWN_TILES(D) (128 / (D))
#define OWN_ROWS(D) (WARPS * 16 * OWN_TILES(D))
#define KEY_ROWS 64
#define BACK_ROWS(D) ((D) / 2)

#define PICK(kernel, type, d, tile)                                                                                   \
    ((d) == 64 ? ((type) == DSC_BF16 ? kernel<DSC_BF16, 64, OWN_TILES(64), tile(64)>                                  \
                                     : kernel<DSC_FP16, 64, OWN_TILES(64), tile(64)>)                                 \
               : ((type) == DSC_BF16 ? kernel<DSC_BF16, 128, OWN_TILES(128), tile(128)>                               \
                                     : kernel<DSC_FP16, 128, OWN_TILES(128), tile(128)>))

#define FORWARD_ROWS(D) KEY_ROWS

/* Cells are fetched whole. */
static bool has_cells(const void *operand) { return (uintptr_t)operand % 16 == 0; }

bool dsc_cuda_flash_has(const dsc_shape *s, void *const *o)
{
    if (s->type == DSC_FP32 || (s->d[4] != 64 && s->d[4] != 128) || s->flags & DSC_HAS_LAYOUT) return false;
    if (s->kernel == DSC_K_ATTENTION_FWD) return has_cells(o[0]) && has_cells(o[1]);
    return has_cells(o[0]) && has_cells(o[1]) && has_cells(o[2]) && has_cells(o[4]);
}

dsc_status dsc_cuda_flash_fwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int d = (int)s->d[4], bytes = 2 * d * (OWN_ROWS(d) + 4 * FORWARD_ROWS(d));
    call c = {};

    (void)workspace, (void)step;
    c.s = *s;
    c.qkv = (const uint16_t *)o[0], c.out = (uint16_t *)o[1], c.lse = (float *)o[2], c.mask = (const float *)o[4];
    return launch(PICK(flash_fwd, s->type, d, FORWARD_ROWS), "flash_fwd", &c, s->d[0] * s->d[2], OWN_ROWS(d), bytes);
}

dsc_status dsc_cuda_flash_bwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int d = (int)s->d[4], bytes = 2 * d * (2 * OWN_ROWS(d) + 4 * BACK_ROWS(d));
    dsc_status status = DSC_OK;
    call c = {};

    (void)step;
    c.s = *s;
    c.dcontext = (const uint16_t *)o[0], c.qkv = (const uint16_t *)o[1], c.context = (const uint16_t *)o[2];
    c.lse = (float *)o[3], c.out = (uint16_t *)o[4], c.mask = (const float *)o[6], c.delta = (float *)workspace;
    DSC_TRY(LAUNCH(flash_delta, blocks_for(s->d[0] * s->d[1] * s->d[2], THREADS / WARP), THREADS, 0, c));
    DSC_TRY(launch(PICK(flash_dq, s->type, d, BACK_ROWS), "flash_dq", &c, s->d[0] * s->d[2], OWN_ROWS(d), bytes));
    DSC_TRY(launch(PICK(flash_dkv, s->type, d, BACK_ROWS), "flash_dkv", &c, s->d[0] * s->d[3], OWN_ROWS(d), bytes));
out:
    return status;
}
