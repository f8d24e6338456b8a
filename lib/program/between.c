/* What tensor ranks sum and gather, and what stages send: conjugate pairs (techniques: f and g; under sequence
 * parallelism gather and scatter). */
#include "program/pass.h"

/* ---- Tensor ranks */

void pass_tensor_op(dsc_builder *b, dsc_op_kind kind, int64_t layer, int32_t source, int32_t data, dsc_dtype type)
{
    dsc_build_transfer(b, kind, DSC_AXIS_TP, layer, pass_whole(b, source), pass_whole(b, data), type);
}

/* All rows of what is kept by rows: itself where rows are not cut. */
int32_t pass_gathered(dsc_builder *b, const char *name, int64_t layer, int32_t own)
{
    const int64_t elems = b->rows * b->hidden;
    const dsc_dtype type = pass_type_of(b, pass_whole(b, own), b->kept_rows * b->hidden);
    int32_t all = own;

    if (!b->is_sequence_cut) return own;
    all = pass_activations(b, name, DSC_LIFE_TRANSIENT, layer, elems * dsc_dtype_bytes(type));
    pass_tensor_op(b, DSC_OP_ALL_GATHER, layer, own, all, type);
    return all;
}

/* Where partial sums of all rows are written that end up, summed, in `sum`, which holds the kept rows. */
int32_t pass_partial_of(dsc_builder *b, int64_t layer, int32_t sum)
{
    return b->is_sequence_cut ? pass_transient(b, "partial", layer, b->hidden) : sum;
}

void pass_sum_partial(dsc_builder *b, int64_t layer, int32_t partial, int32_t sum)
{
    if (b->is_sequence_cut) pass_tensor_op(b, DSC_OP_REDUCE_SCATTER, layer, partial, sum, b->type);
    else if (b->is_cut) pass_tensor_op(b, DSC_OP_ALL_REDUCE, layer, -1, sum, b->type);
}

/* ---- Stages */

/* Where tensor ranks have a message alike each may send a part, which they gather on the other side (Narayanan et al.
 * 2021, section 4.1).
 * Between virtual stages `lower` and lower + 1; of the two channels there activations have the even one. */
void pass_message(dsc_builder *b, dsc_op_kind kind, int64_t lower, bool is_gradient, int32_t buffer)
{
    int64_t pp = b->plan->config.strategy.pp;
    const bool is_send = kind == DSC_OP_SEND, is_upwards = is_send != is_gradient;
    const int32_t part = b->here->parts[is_gradient][is_send], moved = b->is_scattered ? part : buffer;
    dsc_op *op;

    if (b->is_scattered && is_send) pass_cut(b, -1, buffer, part);
    op = dsc_build_transfer(b, kind, DSC_AXIS_PP, -1, DSC_NO_SPAN, pass_whole(b, moved), b->type);
    op->peer = (int32_t)((is_upwards ? lower + 1 : lower) % pp);
    op->channel = (int32_t)(2 * lower + is_gradient);
    if (b->is_scattered && !is_send) pass_tensor_op(b, DSC_OP_ALL_GATHER, -1, part, buffer, b->type);
}

int64_t pass_virtual_stage(const dsc_builder *b)
{
    return b->chunk * b->plan->config.strategy.pp + b->program->stage;
}
