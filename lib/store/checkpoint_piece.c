/* Rectangles of tensors in the file's bytes. */
#include "store/checkpoint_file.h"
#include "store/paths.h"
#include <inttypes.h>
#include <stdlib.h>

int64_t dsc_checkpoint_datasets(const dsc_tensor *tensors, int64_t count)
{
    dsc_stored stored[DSC_STORED_MOST];
    int64_t datasets = 0;

    for (int64_t i = 0; i < count; i++) datasets += dsc_tensor_stored(&tensors[i], stored);
    return datasets;
}

/* Appends what the file holds of a tensor. */
static void add_tensor(dsc_layout *layout, const dsc_tensor *tensor, struct dsc_held_tensor *out)
{
    const bool is_vector = tensor->dims < 2;
    dsc_stored stored[DSC_STORED_MOST];
    const int parts = dsc_tensor_stored(tensor, stored);

    *out = (struct dsc_held_tensor){
        layout->count, layout->count + parts,
        {is_vector ? 1 : tensor->shape[0], is_vector ? tensor->shape[0] : tensor->shape[1]}};
    for (int i = 0; i < parts; i++) {
        dsc_dataset *dataset = &layout->datasets[layout->count++];

        *dataset = (dsc_dataset){stored[i], tensor->is_turned, {stored[i].shape[0], stored[i].shape[1]}};
        if (is_vector) dataset->shape[0] = 1, dataset->shape[1] = tensor->shape[0];
    }
}

dsc_status dsc_layout_init(const dsc_tensor *tensors, int64_t count, dsc_copies copies, dsc_layout *out)
{
    dsc_layout layout = {.copies = copies};
    const size_t datasets = (size_t)dsc_checkpoint_datasets(tensors, count);

    layout.offsets = calloc(datasets * DSC_STATE_COUNT + 1, sizeof *layout.offsets);
    layout.datasets = calloc(datasets + 1, sizeof *layout.datasets);
    layout.tensors = calloc((size_t)count + 1, sizeof *layout.tensors);
    if (layout.offsets == NULL || layout.datasets == NULL || layout.tensors == NULL) {
        dsc_layout_fini(&layout);
        return DSC_FAIL(DSC_ENOMEM, "no memory for %" PRId64 " tensors", count);
    }
    for (int64_t i = 0; i < count; i++) add_tensor(&layout, &tensors[i], &layout.tensors[i]);
    *out = layout;
    return DSC_OK;
}

void dsc_layout_fini(dsc_layout *layout)
{
    free(layout->offsets);
    free(layout->datasets);
    free(layout->tensors);
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

static const int64_t trust_shape[2] = {1, DSC_TRUST_VALUES};

/* Rows and columns of a copy, in the file. */
static const int64_t *shape_of(const dsc_layout *layout, int which, int64_t dataset)
{
    return which == DSC_STATE_TRUST ? trust_shape : layout->datasets[dataset].shape;
}

static int64_t workers_of(const dsc_layout *layout, int which)
{
    return which == DSC_STATE_WORKER_ERROR ? layout->copies.workers : 1;
}

int64_t dsc_layout_bytes(const dsc_layout *layout, int which, int64_t dataset)
{
    const int64_t *shape = shape_of(layout, which, dataset);

    return (int64_t)sizeof(float) * workers_of(layout, which) * shape[0] * shape[1];
}

static dsc_status check_worker(const dsc_layout *layout, const dsc_checkpoint_piece *piece, int64_t workers)
{
    if (dsc_layout_holds(layout, piece->which) && piece->worker >= 0 && workers >= 1 &&
        piece->worker <= workers_of(layout, piece->which) - workers)
        return DSC_OK;
    return DSC_FAIL(DSC_EINTERNAL, "%s of %" PRId64 " workers from %" PRId64 " on: there are errors of %" PRId64,
                    DSC_STATE_PATHS[piece->which], workers, piece->worker, layout->copies.workers);
}

static dsc_status check_edges(const dsc_layout *layout, const dsc_checkpoint_piece *piece)
{
    const int64_t *shape = piece->which == DSC_STATE_TRUST ? trust_shape : layout->tensors[piece->tensor].shape;

    if (piece->row >= 0 && piece->rows >= 0 && piece->rows <= shape[0] - piece->row && piece->column >= 0 &&
        piece->columns >= 0 && piece->columns <= shape[1] - piece->column)
        return DSC_OK;
    return DSC_FAIL(DSC_EINTERNAL,
                    "rows %" PRId64 " + %" PRId64 " and columns %" PRId64 " + %" PRId64 " of tensor %" PRId64
                    ", which has %" PRId64 " x %" PRId64,
                    piece->row, piece->rows, piece->column, piece->columns, piece->tensor, shape[0], shape[1]);
}

/* What a data set has of a piece. Element (i, j) of it, in the file's rows and columns, is values[i * row_step +
 * j * column_step]; one of the steps is 1. */
typedef struct rectangle {
    int64_t rows, columns;
    int64_t offset, width;    /* in the file: of element (0, 0), in bytes; from row to row, in elements */
    int64_t worker_bytes;     /* from worker to worker */
    float *values;
    int64_t row_step, column_step;
} rectangle;

static rectangle rectangle_of(const dsc_layout *layout, const dsc_checkpoint_piece *piece, int64_t index)
{
    const dsc_dataset *d = &layout->datasets[index];
    const int64_t *shape = shape_of(layout, piece->which, index);
    const bool is_trust = piece->which == DSC_STATE_TRUST, is_turned = d->is_turned && !is_trust;
    const int64_t begins = is_trust ? 0 : d->stored.column, ends = is_trust ? shape[1] : begins + d->stored.columns;
    const int64_t low = DSC_MAX(piece->column, begins), high = DSC_MIN(piece->column + piece->columns, ends);
    const int64_t row = is_turned ? low - begins : piece->row, column = is_turned ? piece->row : low - begins;
    const int64_t columns = DSC_MAX(high - low, 0);

    return (rectangle){
        .rows = is_turned ? columns : piece->rows, .columns = is_turned ? piece->rows : columns,
        .offset = layout->offsets[piece->which * layout->count + index] +
                  (int64_t)sizeof(float) * ((piece->worker * shape[0] + row) * shape[1] + column),
        .width = shape[1], .worker_bytes = (int64_t)sizeof(float) * shape[0] * shape[1],
        .values = piece->values + (low - piece->column),
        .row_step = is_turned ? 1 : piece->stride, .column_step = is_turned ? piece->stride : 1,
    };
}

static int64_t offset_of(const rectangle *r, int64_t row, int64_t column)
{
    return r->offset + (int64_t)sizeof(float) * (row * r->width + column);
}

static dsc_status move(int file, float *values, int64_t count, int64_t offset, bool is_write)
{
    const int64_t bytes = (int64_t)sizeof(float) * count;

    return is_write ? dsc_write_at(file, values, bytes, offset) : dsc_read_at(file, values, bytes, offset);
}

/* Rows that touch in the file and in memory are one run of bytes; else each row is one. */
static dsc_status move_runs(int file, const rectangle *r, bool is_write)
{
    const bool is_joined = r->columns == r->width && r->row_step == r->width;
    const int64_t runs = is_joined ? DSC_MIN(r->rows, 1) : r->rows, count = r->columns * (is_joined ? r->rows : 1);
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < runs; i++)
        DSC_TRY(move(file, r->values + i * r->row_step, count, offset_of(r, i, 0), is_write));
out:
    return status;
}

enum { SOME = 2048, TILE_ROWS = 16 }; /* a line of the cache holds so many of the file's rows */

/* A tile of at most TILE_ROWS x SOME of a rectangle whose columns are strided in memory. */
static dsc_status move_tile(int file, const rectangle *r, int64_t row, int64_t column, bool is_write)
{
    const int64_t rows = DSC_MIN(r->rows - row, TILE_ROWS), columns = DSC_MIN(r->columns - column, SOME);
    float *values = r->values + row * r->row_step + column * r->column_step, tile[TILE_ROWS][SOME];
    dsc_status status = DSC_OK;

    for (int64_t j = 0; is_write && j < columns; j++)
        for (int64_t i = 0; i < rows; i++) tile[i][j] = values[i * r->row_step + j * r->column_step];
    for (int64_t i = 0; i < rows; i++) DSC_TRY(move(file, tile[i], columns, offset_of(r, row + i, column), is_write));
    for (int64_t j = 0; !is_write && j < columns; j++)
        for (int64_t i = 0; i < rows; i++) values[i * r->row_step + j * r->column_step] = tile[i][j];
out:
    return status;
}

static dsc_status move_turned(int file, const rectangle *r, bool is_write)
{
    dsc_status status = DSC_OK;

    for (int64_t row = 0; row < r->rows; row += TILE_ROWS)
        for (int64_t column = 0; column < r->columns; column += SOME)
            DSC_TRY(move_tile(file, r, row, column, is_write));
out:
    return status;
}

static dsc_status move_piece(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece, bool is_write)
{
    dsc_status status = DSC_OK;

    DSC_TRY(check_worker(layout, piece, 1));
    DSC_TRY(check_edges(layout, piece));
    for (int64_t i = layout->tensors[piece->tensor].first; i < layout->tensors[piece->tensor].end; i++) {
        const rectangle r = rectangle_of(layout, piece, i);

        DSC_TRY(r.column_step == 1 ? move_runs(file, &r, is_write) : move_turned(file, &r, is_write));
    }
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

/* Of at most SOME columns of a row. */
static dsc_status read_mean_of_some(int file, const rectangle *r, int64_t workers, int64_t row, int64_t column)
{
    const int64_t count = DSC_MIN(r->columns - column, SOME);
    float values[SOME];
    double sums[SOME] = {0};
    dsc_status status = DSC_OK;

    for (int64_t w = 0; w < workers; w++) {
        DSC_TRY(move(file, values, count, offset_of(r, row, column) + w * r->worker_bytes, false));
        for (int64_t i = 0; i < count; i++) sums[i] += values[i];
    }
    for (int64_t i = 0; i < count; i++)
        r->values[row * r->row_step + (column + i) * r->column_step] = (float)(sums[i] / (double)workers);
out:
    return status;
}

static dsc_status read_mean(int file, const rectangle *r, int64_t workers)
{
    dsc_status status = DSC_OK;

    for (int64_t row = 0; row < r->rows; row++)
        for (int64_t column = 0; column < r->columns; column += SOME)
            DSC_TRY(read_mean_of_some(file, r, workers, row, column));
out:
    return status;
}

dsc_status dsc_checkpoint_piece_mean(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece,
                                     int64_t workers)
{
    dsc_status status = DSC_OK;

    if (workers == 1) return dsc_checkpoint_piece_read(file, layout, piece);
    DSC_TRY(check_worker(layout, piece, workers));
    DSC_TRY(check_edges(layout, piece));
    for (int64_t i = layout->tensors[piece->tensor].first; i < layout->tensors[piece->tensor].end; i++) {
        const rectangle r = rectangle_of(layout, piece, i);

        DSC_TRY(read_mean(file, &r, workers));
    }
out:
    return status;
}
