/* Inputs of layers that are recomputed in full, put aside by the forward pass: cut over the tensor ranks, which all
 * have the same (Rajbhandari et al. 2020, section 6.1, partitioned activation checkpointing), in host memory, or both.
 * Where the sequence is cut a rank's input is its part already. */
#include "program/pass.h"

static int64_t saved_bytes(const dsc_builder *b)
{
    return b->kept_rows * b->hidden * dsc_dtype_bytes(b->type) / (b->is_saved_cut ? b->tp : 1);
}

int32_t pass_saved(dsc_builder *b, int64_t layer)
{
    const dsc_space space = b->is_saved_away ? DSC_SPACE_HOST : DSC_SPACE_DEVICE;

    return dsc_build_buffer_in(b, space, "saved x", DSC_LIFE_SLOT, DSC_CLASS_ACTIVATIONS, layer, saved_bytes(b));
}

/* A layer's whole input outlives no pass. */
void pass_enter(dsc_builder *b)
{
    const dsc_chunk_buffers *here = b->here;

    for (int64_t i = 0; i <= here->chunk->layers; i++) {
        const int64_t layer = i == here->chunk->layers ? -1 : here->chunk->first_layer + i;

        here->inputs[i] = here->slots[i].x;
        if (here->inputs[i] < 0) here->inputs[i] = pass_kept(b, "x", DSC_LIFE_TRANSIENT, layer);
    }
}

void pass_cut(dsc_builder *b, int64_t layer, int32_t x, int32_t part)
{
    const int64_t elems = pass_whole(b, part).bytes / dsc_dtype_bytes(b->type);
    const dsc_shape shape = pass_shape_of(b, DSC_K_CAST, DSC_SHARD, elems, b->tp, 0);

    dsc_build_op(b, DSC_OP_CUT, layer);
    dsc_build_call(b, &shape, OPERANDS(pass_whole(b, x), pass_whole(b, part)));
    dsc_build_end(b);
}

void pass_save(dsc_builder *b, int64_t index)
{
    const int64_t layer = b->here->chunk->first_layer + index;
    int32_t x = b->here->inputs[index], saved = b->here->saved[index], part = saved;

    if (!b->is_saved) return;
    if (b->is_saved_cut) {
        if (b->is_saved_away) part = pass_activations(b, "part of x", DSC_LIFE_TRANSIENT, layer, saved_bytes(b));
        pass_cut(b, layer, x, part);
        x = part;
    }
    if (b->is_saved_away)
        dsc_build_transfer(b, DSC_OP_COPY_OUT, -1, layer, pass_whole(b, x), pass_whole(b, saved), b->type);
}

int32_t pass_fetch_saved(dsc_builder *b, int64_t index)
{
    const int64_t layer = b->here->chunk->first_layer + index;
    const int32_t saved = b->here->saved[index];
    int32_t here;

    if (!b->is_saved) return b->here->slots[index].x;
    if (!b->is_saved_away) return saved;
    here = pass_activations(b, b->is_saved_cut ? "part of x" : "x", DSC_LIFE_TRANSIENT, layer, saved_bytes(b));
    dsc_build_transfer(b, DSC_OP_COPY_IN, -1, layer, pass_whole(b, saved), pass_whole(b, here), b->type);
    return here;
}

int32_t pass_restored(dsc_builder *b, int64_t index, int32_t fetched)
{
    const int64_t layer = b->here->chunk->first_layer + index;
    int32_t x;

    if (!b->is_saved_cut) return fetched;
    x = pass_kept(b, "x", DSC_LIFE_TRANSIENT, layer);
    pass_tensor_op(b, DSC_OP_ALL_GATHER, layer, fetched, x, b->type);
    return x;
}
