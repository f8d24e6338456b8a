/* Block products and softmax, an element or a row at a time: no training step calls them, attention has its own. */
extern "C" {
#include "kernel/blocks.h"
}
#include "kernels/cuda/device.cuh"

/* ---- Lists */

/* The list of rows that block i is in; i is below the lists' last. */
__device__ static int64_t list_of(const dsc_blocks &b, int64_t i)
{
    int64_t low = 0, high = b.heads * b.n;

    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;

        if (b.row_start[middle] <= i) low = middle;
        else high = middle;
    }
    return low;
}

/* The block of a head at (row, column), which is there. */
__device__ static int64_t find_block(const dsc_blocks &b, int64_t head, int64_t row, int64_t column)
{
    int64_t low = b.row_start[head * b.n + row], high = b.row_start[head * b.n + row + 1];

    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;

        if (b.columns[middle] <= column) low = middle;
        else high = middle;
    }
    return low;
}

__device__ static int64_t own_index() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }

/* ---- Products */

__global__ static void block_sdd(dsc_shape s, const void *a, const void *b, void *layout, void *out)
{
    const dsc_blocks blocks = dsc_blocks_of(&s, layout);
    const int64_t t = s.d[1], d = s.d[3], side = blocks.side, index = own_index();
    const int64_t block = index / (side * side) % blocks.present, batch = index / (side * side) / blocks.present;
    float sum = 0;

    if (batch >= s.d[0]) return;
    if (block < blocks.row_start[blocks.heads * blocks.n]) {
        const int64_t list = list_of(blocks, block), head = batch * blocks.heads + list / blocks.n;
        const int64_t row = list % blocks.n * side + index / side % side;
        const int64_t column = blocks.columns[block] * side + index % side;

        for (int64_t l = 0; row < t && column < t && l < d; l++)
            sum += load(a, (head * t + row) * d + l, s.type) *
                   load(b, s.flags & DSC_TRANS_B ? (head * t + column) * d + l : (head * d + l) * t + column, s.type);
    }
    store(out, index, s.type, sum);
}

/* sum over l of dense[first + l * step] op(blocks)[i, l], op(blocks) of a head of a sequence; is_by_row: of row i of
 * blocks, else of column i. */
__device__ static float dot_of(const dsc_shape &s, const dsc_blocks &b, int64_t unit, bool is_by_row, int64_t i,
                               const void *sparse, const void *dense, int64_t first, int64_t step)
{
    const int64_t side = b.side, batch = unit / b.heads, head = unit % b.heads, list = head * b.n + i / side;
    const int32_t *start = is_by_row ? b.row_start : b.column_start;
    float sum = 0;

    for (int64_t entry = start[list]; entry < start[list + 1]; entry++) {
        const int64_t other = is_by_row ? b.columns[entry] : b.rows[entry];
        const int64_t block = is_by_row ? entry : find_block(b, head, other, i / side);
        const int64_t at = (batch * b.present + block) * side * side;

        for (int64_t l = 0; l < side && other * side + l < s.d[1]; l++)
            sum += load(sparse, at + (is_by_row ? i % side * side + l : l * side + i % side), s.type) *
                   load(dense, first + (other * side + l) * step, s.type);
    }
    return sum;
}

__global__ static void block_dsd(dsc_shape s, const void *sparse, const void *dense, void *layout, void *out)
{
    const dsc_blocks blocks = dsc_blocks_of(&s, layout);
    const int64_t t = s.d[1], d = s.d[3], index = own_index(), unit = index / d / t;

    if (unit >= s.d[0] * s.d[2]) return;
    store(out, index, s.type, dot_of(s, blocks, unit, !(s.flags & DSC_TRANS_A), index / d % t, sparse, dense,
                                     unit * t * d + index % d, d));
}

__global__ static void block_dds(dsc_shape s, const void *dense, const void *sparse, void *layout, void *out)
{
    const dsc_blocks blocks = dsc_blocks_of(&s, layout);
    const int64_t t = s.d[1], d = s.d[3], index = own_index(), unit = index / d / t;

    if (unit >= s.d[0] * s.d[2]) return;
    store(out, index, s.type, dot_of(s, blocks, unit, s.flags & DSC_TRANS_B, index % t, sparse, dense,
                                     (unit * d + index / t % d) * t, 1));
}

static int64_t block_elems(const dsc_shape *s) { return s->d[0] * s->d[4] * s->d[5] * s->d[5]; }
static int64_t dense_elems(const dsc_shape *s) { return s->d[0] * s->d[1] * s->d[2] * s->d[3]; }

dsc_status dsc_cuda_block_sdd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(block_sdd, blocks_for(block_elems(s), THREADS), THREADS, 0, *s, o[0], o[1], o[2], o[3]);
}

dsc_status dsc_cuda_block_dsd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(block_dsd, blocks_for(dense_elems(s), THREADS), THREADS, 0, *s, o[0], o[1], o[2], o[3]);
}

dsc_status dsc_cuda_block_dds(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return LAUNCH(block_dds, blocks_for(dense_elems(s), THREADS), THREADS, 0, *s, o[0], o[1], o[2], o[3]);
}

/* ---- Softmax: a warp has a row of a head; rows past T see nothing */

typedef struct row { int64_t batch, query, begin, end; } row;

__device__ static bool find_row(const dsc_shape &s, const dsc_blocks &b, row *r)
{
    const int64_t queries = b.n * b.side, index = own_index() / WARP, unit = index / queries, query = index % queries;
    const int64_t list = unit % b.heads * b.n + query / b.side;

    if (unit >= s.d[0] * b.heads) return false;
    *r = (row){unit / b.heads, query, b.row_start[list] * b.side, b.row_start[list + 1] * b.side};
    return true;
}

typedef struct place { int64_t element, key; bool is_seen; } place;

/* Place i of the row, counted over the columns of all blocks. */
__device__ static place find_place(const dsc_shape &s, const dsc_blocks &b, const row &r, int64_t i)
{
    const int64_t block = i / b.side, key = b.columns[block] * b.side + i % b.side;
    const bool is_later = s.flags & DSC_CAUSAL && key > r.query;

    return (place){((r.batch * b.present + block) * b.side + r.query % b.side) * b.side + i % b.side, key,
                   r.query < s.d[1] && key < s.d[1] && !is_later};
}

__device__ static float score(const dsc_shape &s, const row &r, const void *scores, const float *mask, place at)
{
    if (!at.is_seen) return -INFINITY;
    return load(scores, at.element, s.type) / sqrtf((float)s.d[3]) +
           (mask == NULL ? 0 : mask[r.batch * s.d[1] + at.key]);
}

#define EACH_PLACE(i) for (int64_t i = r.begin + threadIdx.x % WARP; i < r.end; i += WARP)

__global__ static void softmax_fwd(dsc_shape s, const void *scores, void *probabilities, void *layout,
                                   const float *mask)
{
    const dsc_blocks b = dsc_blocks_of(&s, layout);
    float largest = -INFINITY, sum = 0;
    row r;

    if (!find_row(s, b, &r)) return;
    EACH_PLACE(i) largest = fmaxf(largest, score(s, r, scores, mask, find_place(s, b, r, i)));
    largest = warp_max(largest);
    if (largest == -INFINITY) largest = 0;
    EACH_PLACE(i) sum += expf(score(s, r, scores, mask, find_place(s, b, r, i)) - largest);
    sum = warp_sum(sum);
    EACH_PLACE(i) {
        const place at = find_place(s, b, r, i);

        store(probabilities, at.element, s.type,
              sum == 0 || !at.is_seen ? 0 : expf(score(s, r, scores, mask, at) - largest) / sum);
    }
}

__global__ static void softmax_bwd(dsc_shape s, const void *dp, const void *p, void *layout, void *ds)
{
    const dsc_blocks b = dsc_blocks_of(&s, layout);
    float sum = 0;
    row r;

    if (!find_row(s, b, &r)) return;
    EACH_PLACE(i) {
        const place at = find_place(s, b, r, i);

        if (at.is_seen) sum += load(p, at.element, s.type) * load(dp, at.element, s.type);
    }
    sum = warp_sum(sum);
    EACH_PLACE(i) {
        const place at = find_place(s, b, r, i);

        store(ds, at.element, s.type,
              at.is_seen ? load(p, at.element, s.type) * (load(dp, at.element, s.type) - sum) / sqrtf((float)s.d[3])
                         : 0);
    }
}

/* Blocks that the lists do not reach. */
__global__ static void clear_rest(dsc_shape s, void *layout, void *out)
{
    const dsc_blocks b = dsc_blocks_of(&s, layout);
    const int64_t index = own_index(), elems = b.side * b.side;

    if (index >= s.d[0] * b.present * elems) return;
    if (index / elems % b.present >= b.row_start[b.heads * b.n]) store(out, index, s.type, 0);
}

static unsigned row_blocks(const dsc_shape *s)
{
    return blocks_for(s->d[0] * s->d[2] * dsc_round_up(s->d[1], s->d[5]) * WARP, THREADS);
}

static dsc_status launch_clear(const dsc_shape *s, void *layout, void *out)
{
    return LAUNCH(clear_rest, blocks_for(block_elems(s), THREADS), THREADS, 0, *s, layout, out);
}

dsc_status dsc_cuda_block_softmax_fwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    dsc_status status = DSC_OK;

    (void)workspace, (void)step;
    DSC_TRY(launch_clear(s, o[2], o[1]));
    DSC_TRY(LAUNCH(softmax_fwd, row_blocks(s), THREADS, 0, *s, o[0], o[1], o[2], (const float *)o[3]));
out:
    return status;
}

dsc_status dsc_cuda_block_softmax_bwd(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    dsc_status status = DSC_OK;

    (void)workspace, (void)step;
    DSC_TRY(launch_clear(s, o[2], o[3]));
    DSC_TRY(LAUNCH(softmax_bwd, row_blocks(s), THREADS, 0, *s, o[0], o[1], o[2], o[3]));
out:
    return status;
}
