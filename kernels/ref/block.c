#include "kernel/blocks.h"
#include "kernels/ref/ref.h"
#include <math.h>
#include <string.h>

/* A call's shape and lists. Kernels go over the elements of dense results by rows of a head, over those of sparse ones
 * by block and by place in it, so that places outside of the matrix are met too. */
typedef struct call {
    const dsc_shape *shape;
    dsc_blocks blocks;
    int64_t t, d, heads;
} call;

static call find_call(const dsc_shape *shape, void *layout)
{
    return (call){shape, dsc_blocks_of(shape, layout), shape->d[1], shape->d[3], shape->d[2]};
}

/* Element (row, column) within a block of sequence b. */
static int64_t element(const call *c, int64_t b, int64_t block, int64_t row, int64_t column)
{
    const int64_t side = c->blocks.side;

    return ((b * c->blocks.present + block) * side + row % side) * side + column % side;
}

/* Where element (row, column) of op(blocks) in a head is; -1: its block is not listed. */
static int64_t find_element(const call *c, bool is_transposed, int64_t unit, int64_t row, int64_t column)
{
    const int64_t r = is_transposed ? column : row, k = is_transposed ? row : column;
    const dsc_blocks *blocks = &c->blocks;
    const int64_t list = unit % c->heads * blocks->n + r / blocks->side;

    for (int64_t i = blocks->row_start[list]; i < blocks->row_start[list + 1]; i++)
        if (blocks->columns[i] == k / blocks->side) return element(c, unit / c->heads, i, r, k);
    return -1;
}

/* Blocks that the lists do not reach. */
static void clear_rest(const call *c, void *sparse)
{
    const int64_t bytes = c->blocks.side * c->blocks.side * dsc_dtype_bytes((dsc_dtype)c->shape->type);
    const int64_t count = c->blocks.row_start[c->heads * c->blocks.n];

    for (int64_t b = 0; b < c->shape->d[0]; b++)
        memset((char *)sparse + (b * c->blocks.present + count) * bytes, 0,
               (size_t)((c->blocks.present - count) * bytes));
}

/* ---- Products; a unit is a head of a sequence */

/* sum over l of a[row, l] b[l, column]. */
static double dot(const call *c, void *const *o, int64_t unit, int64_t row, int64_t column)
{
    const int type = c->shape->type;
    double sum = 0;

    for (int64_t l = 0; l < c->d; l++) {
        const int64_t b = c->shape->flags & DSC_TRANS_B ? (unit * c->t + column) * c->d + l
                                                        : (unit * c->d + l) * c->t + column;

        sum += (double)dsc_load(o[0], (unit * c->t + row) * c->d + l, type) * dsc_load(o[1], b, type);
    }
    return sum;
}

dsc_status dsc_ref_block_sdd(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    const call c = find_call(shape, o[2]);
    const dsc_blocks *blocks = &c.blocks;
    const int64_t side = blocks->side;

    (void)workspace, (void)step;
    clear_rest(&c, o[3]);
#pragma omp parallel for
    for (int64_t unit = 0; unit < shape->d[0] * c.heads; unit++)
        for (int64_t row = 0; row < blocks->n * side; row++) {
            const int64_t list = unit % c.heads * blocks->n + row / side;

            for (int64_t i = blocks->row_start[list]; i < blocks->row_start[list + 1]; i++)
                for (int64_t column = blocks->columns[i] * side; column < (blocks->columns[i] + 1) * side; column++)
                    dsc_store(o[3], element(&c, unit / c.heads, i, row, column), shape->type,
                              row < c.t && column < c.t ? dot(&c, o, unit, row, column) : 0);
        }
    return DSC_OK;
}

dsc_status dsc_ref_block_dsd(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    const call c = find_call(shape, o[2]);

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t i = 0; i < shape->d[0] * c.heads * c.t; i++)
        for (int64_t j = 0; j < c.d; j++) {
            double sum = 0;

            for (int64_t l = 0; l < c.t; l++) {
                const int64_t unit = i / c.t, a = find_element(&c, shape->flags & DSC_TRANS_A, unit, i % c.t, l);

                if (a < 0) continue;
                sum += (double)dsc_load(o[0], a, shape->type) * dsc_load(o[1], (unit * c.t + l) * c.d + j, shape->type);
            }
            dsc_store(o[3], i * c.d + j, shape->type, sum);
        }
    return DSC_OK;
}

dsc_status dsc_ref_block_dds(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    const call c = find_call(shape, o[2]);

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t i = 0; i < shape->d[0] * c.heads * c.d; i++)
        for (int64_t j = 0; j < c.t; j++) {
            double sum = 0;

            for (int64_t l = 0; l < c.t; l++) {
                const int64_t b = find_element(&c, shape->flags & DSC_TRANS_B, i / c.d, l, j);

                if (b < 0) continue;
                sum += (double)dsc_load(o[0], i * c.t + l, shape->type) * dsc_load(o[1], b, shape->type);
            }
            dsc_store(o[3], i * c.t + j, shape->type, sum);
        }
    return DSC_OK;
}

/* ---- Softmax, a row of a head at a time; rows past T see nothing */

typedef struct row { const call *c; int64_t b, head, query, list; } row;

static row find_row(const call *c, int64_t index)
{
    const int64_t queries = c->blocks.n * c->blocks.side, unit = index / queries, query = index % queries;

    return (row){c, unit / c->heads, unit % c->heads, query, unit % c->heads * c->blocks.n + query / c->blocks.side};
}

/* The row's places: one for each column of its blocks. */
static int64_t count_places(const row *r)
{
    return (r->c->blocks.row_start[r->list + 1] - r->c->blocks.row_start[r->list]) * r->c->blocks.side;
}

typedef struct place { int64_t element, key; bool is_seen; } place;

static place find_place(const row *r, int64_t index)
{
    const dsc_blocks *blocks = &r->c->blocks;
    const int64_t block = blocks->row_start[r->list] + index / blocks->side;
    const int64_t key = blocks->columns[block] * blocks->side + index % blocks->side;
    const bool is_later = r->c->shape->flags & DSC_CAUSAL && key > r->query;

    return (place){element(r->c, r->b, block, r->query, key), key,
                   r->query < r->c->t && key < r->c->t && !is_later};
}

/* Minus infinity where the row does not see the key. */
static double score(const row *r, const void *scores, const float *mask, place at)
{
    if (!at.is_seen) return -INFINITY;
    return dsc_load(scores, at.element, r->c->shape->type) / sqrt((double)r->c->d) +
           (mask == NULL ? 0 : mask[r->b * r->c->t + at.key]);
}

static void softmax_row(const row *r, const void *scores, const float *mask, void *probabilities)
{
    const int64_t places = count_places(r);
    double largest = -INFINITY, sum = 0;

    for (int64_t i = 0; i < places; i++) largest = fmax(largest, score(r, scores, mask, find_place(r, i)));
    if (largest == -INFINITY) largest = 0;
    for (int64_t i = 0; i < places; i++) sum += exp(score(r, scores, mask, find_place(r, i)) - largest);
    for (int64_t i = 0; i < places; i++) {
        const place at = find_place(r, i);

        dsc_store(probabilities, at.element, r->c->shape->type,
                  sum == 0 || !at.is_seen ? 0 : exp(score(r, scores, mask, at) - largest) / sum);
    }
}

static int64_t count_rows(const call *c) { return c->shape->d[0] * c->heads * c->blocks.n * c->blocks.side; }

dsc_status dsc_ref_block_softmax_fwd(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    const call c = find_call(shape, o[2]);

    (void)workspace, (void)step;
    clear_rest(&c, o[1]);
#pragma omp parallel for
    for (int64_t i = 0; i < count_rows(&c); i++) {
        const row r = find_row(&c, i);

        softmax_row(&r, o[0], o[3], o[1]);
    }
    return DSC_OK;
}

static void gradient_row(const row *r, const void *dp, const void *p, void *ds)
{
    const int type = r->c->shape->type;
    double sum = 0;

    for (int64_t i = 0; i < count_places(r); i++) {
        const place at = find_place(r, i);

        if (at.is_seen) sum += (double)dsc_load(p, at.element, type) * dsc_load(dp, at.element, type);
    }
    for (int64_t i = 0; i < count_places(r); i++) {
        const place at = find_place(r, i);

        dsc_store(ds, at.element, type,
                  at.is_seen ? dsc_load(p, at.element, type) * (dsc_load(dp, at.element, type) - sum) /
                                   sqrt((double)r->c->d)
                             : 0);
    }
}

dsc_status dsc_ref_block_softmax_bwd(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    const call c = find_call(shape, o[2]);

    (void)workspace, (void)step;
    clear_rest(&c, o[3]);
#pragma omp parallel for
    for (int64_t i = 0; i < count_rows(&c); i++) {
        const row r = find_row(&c, i);

        gradient_row(&r, o[0], o[1], o[3]);
    }
    return DSC_OK;
}
