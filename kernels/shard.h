/* Which rows of the embedding tables and which columns of the logits are this rank's when they are cut over the tensor
 * ranks. Without DSC_SHARD a rank owns the tables whole. Pure. */
#ifndef DSC_KERNELS_SHARD_H
#define DSC_KERNELS_SHARD_H

#include "base/array.h"
#include "kernel/kernel.h"
#include "kernel/step.h"

/* ---- Embeddings: the row in the rank's table, -1 when another rank owns it */

DSC_ANYWHERE static inline int64_t dsc_own_row(int64_t row, int64_t rows, int64_t index)
{
    const int64_t own = row - index * rows;

    return own >= 0 && own < rows ? own : -1;
}

DSC_ANYWHERE static inline int64_t dsc_own_token(const dsc_shape *s, const dsc_step *step, int64_t token)
{
    return s->flags & DSC_SHARD ? dsc_own_row(token, s->d[4], step->tp_index) : token;
}

DSC_ANYWHERE static inline int64_t dsc_position_rows(const dsc_shape *s)
{
    return s->flags & DSC_SHARD ? s->d[5] : s->d[1];
}

DSC_ANYWHERE static inline int64_t dsc_first_position(const dsc_shape *s, const dsc_step *step)
{
    return s->flags & DSC_SHARD ? step->tp_index * s->d[5] : 0;
}

DSC_ANYWHERE static inline int64_t dsc_own_position(const dsc_shape *s, const dsc_step *step, int64_t position)
{
    return s->flags & DSC_SHARD ? dsc_own_row(position, s->d[5], step->tp_index) : position;
}

/* What tokens must be below. A shard does not know the whole vocabulary: a token past it is nobody's there, and refused
 * by the loss, which knows. */
DSC_ANYWHERE static inline int64_t dsc_token_limit(const dsc_shape *s)
{
    return s->flags & DSC_SHARD ? (int64_t)INT32_MAX + 1 : s->d[3];
}

/* ---- Logits: all of cross_entropy, a rank's of cross_entropy_part and cross_entropy_join */

DSC_ANYWHERE static inline bool dsc_has_all_logits(const dsc_shape *s) { return s->kernel == DSC_K_CROSS_ENTROPY; }

/* Columns that stand for tokens: the last ranks have fewer, or none. */
DSC_ANYWHERE static inline int64_t dsc_real_columns(const dsc_shape *s, const dsc_step *step)
{
    if (dsc_has_all_logits(s)) return s->d[2];
    return DSC_MAX(0, DSC_MIN(s->d[4], s->d[2] - step->tp_index * s->d[4]));
}

/* The column of the row's target, -1 where another rank owns it. */
DSC_ANYWHERE static inline int64_t dsc_target_column(const dsc_shape *s, const dsc_step *step, const int32_t *tokens,
                                                     int64_t row)
{
    const int64_t token = tokens[row + row / s->d[1] + 1];

    return dsc_has_all_logits(s) ? token : dsc_own_row(token, s->d[4], step->tp_index);
}

#endif
