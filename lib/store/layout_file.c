#include "store/layout_file.h"
#include "store/h5.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Cells are read a band of rows at a time, so that chunks of any shape are unpacked once or a few times. Deflate packs
 * at most a thousand bytes in one: where there are more cells to a byte, most of them were never written. */
enum { RANK = 3, MOST_HEADS = 1 << 16, MOST_BLOCKS = 1 << 15, BAND_CELLS = 1 << 24, MOST_CELLS_A_BYTE = 1 << 11 };

/* "a.h5:/x/y" is file "a.h5", dataset "/x/y"; a folder may have a colon in its name. */
static dsc_status split_path(const char *path, char *file, char *dataset, size_t size)
{
    const char *end = strstr(path, ".h5:"), *name = end == NULL ? "" : end + strlen(".h5:");
    size_t length;

    if (end == NULL && (end = strstr(path, ".hdf5:")) != NULL) name = end + strlen(".hdf5:");
    length = end == NULL ? strlen(path) : (size_t)(name - 1 - path);
    if (strlen(path) >= size)
        return DSC_FAIL(DSC_EINVAL, "%.64s...: a path of %zu characters, at most %zu", path, strlen(path), size - 1);
    memcpy(file, path, length);
    file[length] = '\0';
    strcpy(dataset, name[0] == '\0' ? "layout" : name);
    return DSC_OK;
}

/* Other filters may make as many cells as they like of a byte. */
static bool is_deflated_at_most(hid_t dataset)
{
    hid_t creation = H5Dget_create_plist(dataset);
    bool is_known = true;

    for (int i = 0; i < H5Pget_nfilters(creation); i++) {
        unsigned flags, config;
        size_t values = 0;

        is_known = is_known && H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL, 0, NULL, &config) ==
                                   H5Z_FILTER_DEFLATE;
    }
    H5Pclose(creation);
    return is_known;
}

static dsc_status check_extent(hid_t dataset, const char *name, const hsize_t dims[RANK])
{
    hsize_t stored = H5Dget_storage_size(dataset);

    if (dims[0] < 1 || dims[0] > MOST_HEADS || dims[1] < 1 || dims[1] > MOST_BLOCKS || dims[1] != dims[2])
        return dsc_h5_refuse(dataset, "dataset %s is %" PRIuHSIZE " x %" PRIuHSIZE " x %" PRIuHSIZE ", a layout is up "
                             "to %d heads with as many rows as columns, up to %d", name, dims[0], dims[1], dims[2],
                             MOST_HEADS, MOST_BLOCKS);
    if (stored == 0 || (is_deflated_at_most(dataset) && dims[0] * dims[1] * dims[2] > stored * MOST_CELLS_A_BYTE))
        return dsc_h5_refuse(dataset, "dataset %s is %" PRIuHSIZE " x %" PRIuHSIZE " x %" PRIuHSIZE ", but only %"
                             PRIuHSIZE " bytes of it were written", name, dims[0], dims[1], dims[2], stored);
    return DSC_OK;
}

static dsc_status check_dataset(hid_t dataset, const char *name, hsize_t dims[RANK])
{
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_ndims(space);
    dsc_status status = DSC_OK;

    if (H5Tget_class(type) != H5T_INTEGER && H5Tget_class(type) != H5T_ENUM) /* h5py stores booleans as the latter */
        status = dsc_h5_refuse(dataset, "dataset %s is of no integer type", name);
    else if (rank != RANK)
        status = dsc_h5_refuse(dataset, "dataset %s has %d dimensions, a layout has 3: heads, rows, columns", name,
                               rank);
    else if (H5Sget_simple_extent_dims(space, dims, NULL) < 0)
        status = dsc_h5_fail(DSC_EINVAL, dataset, "cannot read the extent of %s", name);
    else
        status = check_extent(dataset, name, dims);
    H5Sclose(space);
    H5Tclose(type);
    return status;
}

/* Rows [row, row + rows) of a head, as bytes: what does not fit in one becomes the least or the largest, so neither 0
 * nor 1; enums become the integers that they are. */
static dsc_status read_band(hid_t dataset, const hsize_t dims[RANK], hsize_t head, hsize_t row, hsize_t rows,
                            int8_t *cells)
{
    const hsize_t start[RANK] = {head, row, 0}, count[RANK] = {1, rows, dims[2]}, cell_count = rows * dims[2];
    hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(1, &cell_count, NULL);
    bool is_read = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                   H5Dread(dataset, H5T_NATIVE_INT8, memory, space, H5P_DEFAULT, cells) >= 0;
    dsc_status status = DSC_OK;

    if (!is_read)
        status = dsc_h5_fail(DSC_EINVAL, dataset, "cannot read rows from %" PRIuHSIZE " on of head %" PRIuHSIZE, row,
                             head);
    H5Sclose(memory);
    H5Sclose(space);
    return status;
}

static dsc_status add_band(hid_t dataset, hsize_t columns, hsize_t head, hsize_t row, hsize_t rows,
                           const int8_t *cells, dsc_layout *out)
{
    for (hsize_t i = 0; i < rows * columns; i++) {
        if (cells[i] != 0 && cells[i] != 1)
            return dsc_h5_refuse(dataset, "head %" PRIuHSIZE ", row %" PRIuHSIZE ", column %" PRIuHSIZE
                                 " is neither 0 nor 1", head, row + i / columns, i % columns);
        if (cells[i] == 1) dsc_layout_add(out, (int64_t)head, (int64_t)(row + i / columns), (int64_t)(i % columns));
    }
    return DSC_OK;
}

static dsc_status read_rows(hid_t dataset, const hsize_t dims[RANK], dsc_layout *out)
{
    hsize_t band = DSC_MIN(dims[1], DSC_MAX(BAND_CELLS / dims[2], 1)), rows;
    int8_t *cells = malloc((size_t)(band * dims[2]));
    dsc_status status = DSC_OK;

    if (cells == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "layout: %" PRIuHSIZE " rows of %" PRIuHSIZE, band, dims[2]));
    for (hsize_t head = 0; head < dims[0]; head++)
        for (hsize_t row = 0; row < dims[1]; row += rows) {
            rows = DSC_MIN(band, dims[1] - row);
            DSC_TRY(read_band(dataset, dims, head, row, rows, cells));
            DSC_TRY(add_band(dataset, dims[2], head, row, rows, cells, out));
        }
out:
    free(cells);
    return status;
}

dsc_status dsc_layout_load(const char *path, dsc_layout **out)
{
    char name[4096], dataset_name[4096];
    hid_t file = H5I_INVALID_HID, dataset;
    dsc_status status = DSC_OK;
    dsc_layout *layout = NULL;
    hsize_t dims[RANK];
    int64_t block = 16;

    DSC_TRY(split_path(path, name, dataset_name, sizeof name));
    DSC_TRY(dsc_h5_open(name, &file, NULL));
    dataset = H5Dopen2(file, dataset_name, H5P_DEFAULT);
    if (dataset < 0) DSC_TRY(dsc_h5_fail(DSC_EINVAL, file, "cannot read dataset %s", dataset_name));
    DSC_TRY(check_dataset(dataset, dataset_name, dims));
    if (H5Aexists(dataset, "block") > 0) DSC_TRY(dsc_h5_get_int(dataset, "block", &block));
    if (block < 1 || block > 1 << 16)
        DSC_TRY(dsc_h5_refuse(dataset, "attribute block is %" PRId64 ", must be within 1 and %d", block, 1 << 16));
    DSC_TRY(dsc_layout_make(block, (int64_t)dims[1], (int64_t)dims[0], &layout));
    DSC_TRY(read_rows(dataset, dims, layout));
    *out = layout;
    layout = NULL;
out:
    dsc_layout_destroy(layout);
    dsc_h5_discard(&file);
    return status;
}
