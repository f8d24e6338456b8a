/* The present blocks of sparse attention and block products as kernels read them: an operand of int32, made once for a
 * layout and the same for all sequences of a batch. Both by row, for forward, and by column, for gradients of keys. */
#ifndef DSC_KERNEL_BLOCKS_H
#define DSC_KERNEL_BLOCKS_H

#include "base/array.h"
#include "kernel/kernel.h"

enum { DSC_BLOCK_UNIT = 16, DSC_BLOCK_MOST = 128 }; /* a block's side is a multiple of the one, up to the other */

/* Lists of `heads` heads with n block rows and columns each, and room for `present` blocks; starts say how many there
 * are. Row r of head h is list h * n + r, and so are columns. */
typedef struct dsc_blocks {
    int64_t side;                  /* tokens */
    int64_t n, heads, present;
    int32_t *row_start, *columns;  /* [heads n + 1], [present] block columns of each row, ascending */
    int32_t *column_start, *rows;  /* the same by column */
    int32_t *order;                /* [heads n] lists of rows, the longest first: so threads end together */
} dsc_blocks;

DSC_ANYWHERE static inline int64_t dsc_blocks_elems(int64_t n, int64_t heads, int64_t present)
{
    return 3 * n * heads + 2 + 2 * present;
}

/* Where a shape's lists lie in its operand. Its last dimensions are present and block: attention has seven, products
 * six. */
DSC_ANYWHERE static inline dsc_blocks dsc_blocks_of(const dsc_shape *shape, void *operand)
{
    const int64_t *last = shape->d + (shape->d[6] != 0 ? 5 : 4), side = last[1];
    const int64_t n = (shape->d[1] + side - 1) / side, lists = n * shape->d[2];
    dsc_blocks b = {.side = side, .n = n, .heads = shape->d[2], .present = last[0]};

    b.row_start = (int32_t *)operand;
    b.columns = b.row_start + lists + 1;
    b.column_start = b.columns + b.present;
    b.rows = b.column_start + lists + 1;
    b.order = b.rows + b.present;
    return b;
}

#endif
