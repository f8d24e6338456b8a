/* Rectangles of tensors in the file's bytes. */
#include "store/checkpoint_file.h"
#include "store/paths.h"
#include <inttypes.h>
#include <stdlib.h>

dsc_status dsc_layout_init(const dsc_tensor *tensors, int64_t count, dsc_copies copies, dsc_layout *out)
{
    dsc_layout layout = {.count = count, .copies = copies};

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

bool dsc_layout_holds(const dsc_layout *layout, int which)
{
    switch (which) {
    case DSC_STATE_WORKER_ERROR:
    case DSC_STATE_SERVER_ERROR: return layout->copies.workers > 1;
    case DSC_STATE_FRESH:
    case DSC_STATE_TRUST: return layout->copies.has_trust;
    default: return which >= 0 && which < DSC_STATE_COUNT;
    }
}

/* Rows and columns of a copy. */
static const int64_t *shape_of(const dsc_layout *layout, int which, int64_t tensor)
{
    static const int64_t trust[2] = {1, DSC_TRUST_VALUES};

    return which == DSC_STATE_TRUST ? trust : layout->shapes[tensor];
}

static int64_t workers_of(const dsc_layout *layout, int which)
{
    return which == DSC_STATE_WORKER_ERROR ? layout->copies.workers : 1;
}

int64_t dsc_layout_bytes(const dsc_layout *layout, int which, int64_t tensor)
{
    const int64_t *shape = shape_of(layout, which, tensor);

    return (int64_t)sizeof(float) * workers_of(layout, which) * shape[0] * shape[1];
}

dsc_status dsc_checkpoint_bytes(const dsc_tensor *tensors, int64_t count, dsc_copies copies, int64_t *out)
{
    dsc_layout layout;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_layout_init(tensors, count, copies, &layout));
    *out = 0;
    for (int which = 0; which < DSC_STATE_COUNT; which++)
        for (int64_t i = 0; dsc_layout_holds(&layout, which) && i < count; i++)
            *out += dsc_layout_bytes(&layout, which, i);
    dsc_layout_fini(&layout);
out:
    return status;
}

/* Of the piece's row and column for a worker, in the file. */
static int64_t offset_of(const dsc_layout *layout, const dsc_checkpoint_piece *piece, int64_t worker, int64_t row,
                         int64_t column)
{
    const int64_t *shape = shape_of(layout, piece->which, piece->tensor);
    int64_t element = (worker * shape[0] + piece->row + row) * shape[1] + piece->column + column;

    return layout->offsets[piece->which * layout->count + piece->tensor] + (int64_t)sizeof(float) * element;
}

static dsc_status check_worker(const dsc_layout *layout, const dsc_checkpoint_piece *piece, int64_t workers)
{
    if (dsc_layout_holds(layout, piece->which) && piece->worker >= 0 && workers >= 1 &&
        piece->worker <= workers_of(layout, piece->which) - workers)
        return DSC_OK;
    return DSC_FAIL(DSC_EINTERNAL, "%s of %" PRId64 " workers from %" PRId64 " on: there are errors of %" PRId64,
                    DSC_STATE_PATHS[piece->which], workers, piece->worker, layout->copies.workers);
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
    const int64_t width = shape_of(layout, piece->which, piece->tensor)[1];
    const bool is_joined = piece->columns == width && piece->stride == width;
    const int64_t runs = is_joined ? DSC_MIN(piece->rows, 1) : piece->rows;
    const int64_t bytes = (int64_t)sizeof(float) * piece->columns * (is_joined ? piece->rows : 1);
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < runs; i++) {
        float *values = piece->values + i * piece->stride;
        int64_t offset = offset_of(layout, piece, piece->worker, i, 0);

        DSC_TRY(is_write ? dsc_write_at(file, values, bytes, offset) : dsc_read_at(file, values, bytes, offset));
    }
out:
    return status;
}

static dsc_status move_piece(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece, bool is_write)
{
    dsc_status status = DSC_OK;

    DSC_TRY(check_worker(layout, piece, 1));
    DSC_TRY(check_edges(shape_of(layout, piece->which, piece->tensor), piece));
    DSC_TRY(move_runs(file, layout, piece, is_write));
out:
    return status;
}

dsc_status dsc_checkpoint_piece_write(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece)
{
    return move_piece(file, layout, piece, true);
}

dsc_status dsc_checkpoint_piece_read(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece)
{
    return move_piece(file, layout, piece, false);
}

enum { SOME = 2048 };

/* Of at most SOME columns of a row. */
static dsc_status read_mean_of_some(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece,
                                    int64_t workers, int64_t row, int64_t column)
{
    const int64_t count = DSC_MIN(piece->columns - column, SOME);
    float values[SOME];
    double sums[SOME] = {0};
    dsc_status status = DSC_OK;

    for (int64_t w = 0; w < workers; w++) {
        DSC_TRY(dsc_read_at(file, values, count * (int64_t)sizeof *values,
                            offset_of(layout, piece, piece->worker + w, row, column)));
        for (int64_t i = 0; i < count; i++) sums[i] += values[i];
    }
    for (int64_t i = 0; i < count; i++)
        piece->values[row * piece->stride + column + i] = (float)(sums[i] / (double)workers);
out:
    return status;
}

dsc_status dsc_checkpoint_piece_mean(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece,
                                     int64_t workers)
{
    dsc_status status = DSC_OK;

    if (workers == 1) return dsc_checkpoint_piece_read(file, layout, piece);
    DSC_TRY(check_worker(layout, piece, workers));
    DSC_TRY(check_edges(shape_of(layout, piece->which, piece->tensor), piece));
    for (int64_t row = 0; row < piece->rows; row++)
        for (int64_t column = 0; column < piece->columns; column += SOME)
            DSC_TRY(read_mean_of_some(file, layout, piece, workers, row, column));
out:
    return status;
}
