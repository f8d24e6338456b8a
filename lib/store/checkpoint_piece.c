/* Rectangles of tensors in the file's bytes. */
#include "store/checkpoint_file.h"
#include "store/paths.h"
#include <inttypes.h>
#include <stdlib.h>

dsc_status dsc_layout_init(const dsc_tensor *tensors, int64_t count, dsc_layout *out)
{
    dsc_layout layout = {.count = count};

    layout.offsets = calloc((size_t)count * DSC_STATE_COUNT + 1, sizeof *layout.offsets);
    layout.shapes = calloc((size_t)count + 1, sizeof *layout.shapes);
    if (layout.offsets == NULL || layout.shapes == NULL) {
        dsc_layout_fini(&layout);
        return DSC_FAIL(DSC_ENOMEM, "no memory for %" PRId64 " tensors", count);
    }
    for (int64_t i = 0; i < count; i++) {
        layout.shapes[i][0] = tensors[i].dims < 2 ? 1 : tensors[i].shape[0];
        layout.shapes[i][1] = tensors[i].dims < 2 ? tensors[i].shape[0] : tensors[i].shape[1];
    }
    *out = layout;
    return DSC_OK;
}

void dsc_layout_fini(dsc_layout *layout)
{
    free(layout->offsets);
    free(layout->shapes);
    *layout = (dsc_layout){0};
}

int64_t dsc_layout_bytes(const dsc_layout *layout, int64_t tensor)
{
    return (int64_t)sizeof(float) * layout->shapes[tensor][0] * layout->shapes[tensor][1];
}

static dsc_status check_edges(const int64_t shape[2], const dsc_checkpoint_piece *piece)
{
    if (piece->row >= 0 && piece->rows >= 0 && piece->rows <= shape[0] - piece->row && piece->column >= 0 &&
        piece->columns >= 0 && piece->columns <= shape[1] - piece->column)
        return DSC_OK;
    return DSC_FAIL(DSC_EINTERNAL,
                    "rows %" PRId64 " + %" PRId64 " and columns %" PRId64 " + %" PRId64 " of tensor %" PRId64
                    ", which has %" PRId64 " x %" PRId64,
                    piece->row, piece->rows, piece->column, piece->columns, piece->tensor, shape[0], shape[1]);
}

/* Rows that touch in the file and in memory are one run of bytes; else each row is one. */
static dsc_status move_runs(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece, bool is_write)
{
    const int64_t width = layout->shapes[piece->tensor][1];
    const int64_t start = layout->offsets[piece->which * layout->count + piece->tensor];
    const bool is_joined = piece->columns == width && piece->stride == width;
    const int64_t runs = is_joined ? DSC_MIN(piece->rows, 1) : piece->rows;
    const int64_t bytes = (int64_t)sizeof(float) * piece->columns * (is_joined ? piece->rows : 1);
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < runs; i++) {
        float *values = piece->values + i * piece->stride;
        int64_t offset = start + (int64_t)sizeof(float) * ((piece->row + i) * width + piece->column);

        DSC_TRY(is_write ? dsc_write_at(file, values, bytes, offset) : dsc_read_at(file, values, bytes, offset));
    }
out:
    return status;
}

static dsc_status move_piece(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece, bool is_write)
{
    dsc_status status = check_edges(layout->shapes[piece->tensor], piece);

    return status == DSC_OK ? move_runs(file, layout, piece, is_write) : status;
}

dsc_status dsc_checkpoint_piece_write(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece)
{
    return move_piece(file, layout, piece, true);
}

dsc_status dsc_checkpoint_piece_read(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece)
{
    return move_piece(file, layout, piece, false);
}
