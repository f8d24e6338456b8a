#include "store/layout_file.h"
#include "store/h5.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RANK = 3, MOST_HEADS = 1 << 16, MOST_BLOCKS = 1 << 15 };

/* "a.h5:/x/y" is file "a.h5", dataset "/x/y". */
static dsc_status split_path(const char *path, char *file, char *dataset, size_t size)
{
    const char *colon = strrchr(path, ':');
    size_t length = colon == NULL ? strlen(path) : (size_t)(colon - path);

    if (strlen(path) >= size) return DSC_FAIL(DSC_EINVAL, "%s: a path longer than %zu", path, size - 1);
    memcpy(file, path, length);
    file[length] = '\0';
    strcpy(dataset, colon == NULL || colon[1] == '\0' ? "layout" : colon + 1);
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
    else if (dims[0] < 1 || dims[0] > MOST_HEADS || dims[1] < 1 || dims[1] > MOST_BLOCKS || dims[1] != dims[2])
        status = dsc_h5_refuse(dataset, "dataset %s is %" PRIuHSIZE " x %" PRIuHSIZE " x %" PRIuHSIZE ", a layout is up "
                               "to %d heads with as many rows as columns, up to %d", name, dims[0], dims[1], dims[2],
                               MOST_HEADS, MOST_BLOCKS);
    H5Sclose(space);
    H5Tclose(type);
    return status;
}

/* Boolean enums are read as the integers that they are. */
static hid_t memory_type(hid_t dataset)
{
    hid_t type = H5Dget_type(dataset), base;

    if (H5Tget_class(type) != H5T_ENUM) {
        H5Tclose(type);
        return H5Tcopy(H5T_NATIVE_INT64);
    }
    base = H5Tcopy(type);
    H5Tclose(type);
    return base;
}

/* A row of a head. */
static dsc_status read_row(hid_t dataset, hid_t type, const hsize_t dims[RANK], hsize_t head, hsize_t row, void *cells)
{
    const hsize_t start[RANK] = {head, row, 0}, count[RANK] = {1, 1, dims[2]};
    hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(1, &dims[2], NULL);
    bool is_read = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                   H5Dread(dataset, type, memory, space, H5P_DEFAULT, cells) >= 0;

    H5Sclose(memory);
    H5Sclose(space);
    if (is_read) return DSC_OK;
    return dsc_h5_fail(DSC_EINVAL, dataset, "cannot read row %" PRIuHSIZE " of head %" PRIuHSIZE, row, head);
}

static int64_t cell_at(const void *cells, size_t bytes, hsize_t column)
{
    if (bytes == 1) return ((const int8_t *)cells)[column];
    return bytes == 8 ? ((const int64_t *)cells)[column] : -1;
}

static dsc_status read_rows(hid_t dataset, const hsize_t dims[RANK], dsc_layout *out)
{
    hid_t type = memory_type(dataset);
    size_t bytes = H5Tget_size(type);
    void *cells = calloc((size_t)dims[2], bytes);
    dsc_status status = DSC_OK;

    if (cells == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "layout: a row of %" PRIuHSIZE " blocks", dims[2]));
    for (hsize_t i = 0; i < dims[0] * dims[1]; i++) {
        hsize_t head = i / dims[1], row = i % dims[1];

        DSC_TRY(read_row(dataset, type, dims, head, row, cells));
        for (hsize_t column = 0; column < dims[2]; column++) {
            int64_t cell = cell_at(cells, bytes, column);

            if (cell != 0 && cell != 1)
                DSC_TRY(dsc_h5_refuse(dataset, "head %" PRIuHSIZE ", row %" PRIuHSIZE ", column %" PRIuHSIZE
                                      " is neither 0 nor 1", head, row, column));
            if (cell == 1) dsc_layout_add(out, (int64_t)head, (int64_t)row, (int64_t)column);
        }
    }
out:
    free(cells);
    H5Tclose(type);
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
