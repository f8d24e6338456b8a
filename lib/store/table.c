#include "store/h5.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Names */

/* Growable where `most` is H5S_UNLIMITED; compressed and with checksums. */
static hid_t make_dataset(hid_t file, const char *path, hid_t type, hsize_t rows, hsize_t most, hsize_t chunk)
{
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &rows, &most), dataset;

    H5Pset_obj_track_times(creation, false);
    H5Pset_chunk(creation, 1, &chunk);
    H5Pset_shuffle(creation);
    H5Pset_deflate(creation, 1);
    H5Pset_fletcher32(creation);
    dataset = H5Dcreate2(file, path, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Sclose(space);
    H5Pclose(creation);
    return dataset;
}

static size_t longest_name(char *const *names, int64_t count)
{
    size_t longest = 1;

    for (int64_t i = 0; i < count; i++) longest = DSC_MAX(longest, strlen(names[i]));
    return longest;
}

dsc_status dsc_h5_put_names(hid_t file, const char *path, char *const *names, int64_t count)
{
    size_t bytes = longest_name(names, count);
    hid_t type = dsc_h5_text_type(bytes), dataset = H5I_INVALID_HID;
    char *texts = calloc((size_t)count + 1, bytes);
    dsc_status status = DSC_OK;

    if (texts == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %lld names", (long long)count);
        goto out;
    }
    for (int64_t i = 0; i < count; i++) memcpy(texts + (size_t)i * bytes, names[i], strlen(names[i]));
    dataset = make_dataset(file, path, type, (hsize_t)count, (hsize_t)count, (hsize_t)DSC_MAX(count, 1));
    if (dataset < 0 || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0)
        status = dsc_h5_fail(DSC_EIO, file, "cannot write %s", path);
out:
    H5Dclose(dataset);
    H5Tclose(type);
    free(texts);
    return status;
}

/* Copies count texts of `bytes` each, padded with NUL, into a list of names. */
static dsc_status split_names(const char *texts, int64_t count, size_t bytes, char ***out)
{
    const char **list = calloc((size_t)count + 1, sizeof *list);
    char *ended = calloc((size_t)count + 1, bytes + 1);
    dsc_status status = DSC_OK;

    if (list == NULL || ended == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %lld names", (long long)count);
        goto out;
    }
    for (int64_t i = 0; i < count; i++)
        list[i] = memcpy(ended + (size_t)i * (bytes + 1), texts + (size_t)i * bytes, bytes);
    DSC_TRY(dsc_names_copy(list, out, &count));
out:
    free(ended);
    free(list);
    return status;
}

static dsc_status read_names(hid_t dataset, hid_t type, int64_t count, char ***out)
{
    size_t bytes = H5Tget_size(type);
    char *texts = NULL;
    dsc_status status = DSC_OK;

    if (!dsc_h5_is_text(type) || count < 0 || (double)bytes * (double)count > DSC_H5_MOST_TEXT_BYTES)
        return dsc_h5_refuse(dataset, "a list is no list of names of fixed length");
    texts = calloc((size_t)count + 1, bytes);
    if (texts == NULL)
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %lld names", (long long)count);
    else if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0)
        status = dsc_h5_fail(DSC_EINVAL, dataset, "cannot read a list of names");
    else
        status = split_names(texts, count, bytes, out);
    free(texts);
    return status;
}

dsc_status dsc_h5_get_names(hid_t file, const char *path, char ***names, int64_t *count)
{
    hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT), type, space;
    int64_t points;
    dsc_status status;

    if (dataset < 0) return dsc_h5_fail(DSC_EINVAL, file, "cannot read %s", path);
    type = H5Dget_type(dataset);
    space = H5Dget_space(dataset);
    points = (int64_t)H5Sget_simple_extent_npoints(space);
    status = read_names(dataset, type, points, names);
    if (status == DSC_OK) *count = points;
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(dataset);
    return status;
}

/* ---- Tables */

/* A dataset's chunk: small enough that rewriting the last one with every step costs little. */
enum { CHUNK_BYTES = 32768 };

static hid_t make_column_type(const dsc_column *column)
{
    switch (column->type) {
    case DSC_COLUMN_INT32: return H5Tcopy(H5T_NATIVE_INT32);
    case DSC_COLUMN_INT64: return H5Tcopy(H5T_NATIVE_INT64);
    case DSC_COLUMN_REAL: return H5Tcopy(H5T_NATIVE_DOUBLE);
    case DSC_COLUMN_TEXT: break;
    }
    return dsc_h5_text_type(column->bytes);
}

static H5T_class_t class_of(const dsc_column *column)
{
    if (column->type == DSC_COLUMN_TEXT) return H5T_STRING;
    return column->type == DSC_COLUMN_REAL ? H5T_FLOAT : H5T_INTEGER;
}

typedef struct column_path { char str[128]; } column_path;

static column_path path_of(const dsc_table *table, const dsc_column *column)
{
    column_path path;

    snprintf(path.str, sizeof path.str, "/%s/%s", table->name, column->name);
    return path;
}

dsc_status dsc_h5_table_create(hid_t file, const dsc_table *table, hid_t *columns)
{
    char group[64];
    dsc_status status = DSC_OK;

    snprintf(group, sizeof group, "/%s", table->name);
    DSC_TRY(dsc_h5_make_group(file, group, NULL));
    for (int c = 0; c < table->column_count; c++) {
        const dsc_column *column = &table->columns[c];
        hid_t type = make_column_type(column);

        columns[c] =
            make_dataset(file, path_of(table, column).str, type, 0, H5S_UNLIMITED, CHUNK_BYTES / column->bytes);
        H5Tclose(type);
        if (columns[c] < 0) return dsc_h5_fail(DSC_EIO, file, "cannot make %s", path_of(table, column).str);
        DSC_TRY(dsc_h5_put_text(columns[c], "units", column->units));
    }
out:
    return status;
}

/* One column of the rows, dense. Texts are cut at their NUL, so that what lies behind it in memory stays there. */
static void gather(const dsc_table *table, const dsc_column *column, const char *rows, int64_t count, char *dense)
{
    for (int64_t i = 0; i < count; i++, dense += column->bytes) {
        const char *cell = rows + (size_t)i * table->row_bytes + column->offset;

        if (column->type == DSC_COLUMN_TEXT)
            strncpy(dense, cell, column->bytes);
        else
            memcpy(dense, cell, column->bytes);
    }
}

static dsc_status append_column(const dsc_table *table, const dsc_column *column, hid_t dataset, int64_t at,
                                const char *dense, int64_t count)
{
    hsize_t start = (hsize_t)at, added = (hsize_t)count, size = start + added;
    hid_t type = make_column_type(column), memory = H5Screate_simple(1, &added, NULL), file = H5I_INVALID_HID;
    dsc_status status = DSC_OK;

    if (H5Dset_extent(dataset, &size) < 0 || (file = H5Dget_space(dataset)) < 0 ||
        H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &added, NULL) < 0 ||
        H5Dwrite(dataset, type, memory, file, H5P_DEFAULT, dense) < 0)
        status =
            dsc_h5_fail(DSC_EIO, dataset, "cannot write %lld rows of %s", (long long)count, path_of(table, column).str);
    H5Sclose(file);
    H5Sclose(memory);
    H5Tclose(type);
    return status;
}

static size_t widest_column(const dsc_table *table)
{
    size_t widest = 0;

    for (int c = 0; c < table->column_count; c++) widest = DSC_MAX(widest, table->columns[c].bytes);
    return widest;
}

dsc_status dsc_h5_table_append(const dsc_table *table, const hid_t *columns, int64_t at, const char *rows,
                               int64_t count)
{
    char *dense = NULL;
    dsc_status status = DSC_OK;

    if (count == 0) return DSC_OK;
    dense = malloc((size_t)count * widest_column(table));
    if (dense == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld rows of %s", (long long)count, table->name);
    for (int c = 0; c < table->column_count; c++) {
        gather(table, &table->columns[c], rows, count, dense);
        DSC_TRY(append_column(table, &table->columns[c], columns[c], at, dense, count));
    }
out:
    free(dense);
    return status;
}

dsc_status dsc_h5_table_save(hid_t file, const dsc_table *table, const void *owner)
{
    hid_t columns[32];
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_h5_table_create(file, table, columns));
    DSC_TRY(dsc_h5_table_append(table, columns, 0, dsc_table_rows(table, owner), dsc_table_count(table, owner)));
    for (int c = 0; c < table->column_count; c++) H5Dclose(columns[c]);
out:
    return status;
}

/* Deflate makes at most 1032 bytes of one: more rows than that are a damaged extent, not data. */
static bool is_plausible(hid_t dataset, const dsc_column *column, int64_t rows)
{
    return (double)rows * (double)column->bytes <= 1100.0 * (double)H5Dget_storage_size(dataset) + 1e6;
}

static dsc_status check_column(const dsc_table *table, const dsc_column *column, hid_t dataset, int64_t *rows)
{
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    column_path path = path_of(table, column);
    dsc_status status = DSC_OK;

    *rows = (int64_t)H5Sget_simple_extent_npoints(space);
    if (H5Sget_simple_extent_ndims(space) != 1 || *rows < 0)
        status =
            dsc_h5_refuse(dataset, "%s has %d dimensions, 1 expected", path.str, H5Sget_simple_extent_ndims(space));
    else if (H5Tget_class(type) != class_of(column) || H5Tis_variable_str(type) > 0)
        status = dsc_h5_refuse(dataset, "%s is of another type than schema 1 says", path.str);
    else if (!is_plausible(dataset, column, *rows))
        status = dsc_h5_refuse(dataset, "%s is damaged: %lld rows in %lld bytes", path.str, (long long)*rows,
                               (long long)H5Dget_storage_size(dataset));
    H5Sclose(space);
    H5Tclose(type);
    return status;
}

static dsc_status read_rows(const dsc_table *table, const dsc_column *column, hid_t dataset, char *dense, int64_t count)
{
    hsize_t start = 0, wanted = (hsize_t)count;
    hid_t type = make_column_type(column), memory = H5Screate_simple(1, &wanted, NULL), file = H5Dget_space(dataset);
    dsc_status status = DSC_OK;

    if (H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &wanted, NULL) < 0 ||
        H5Dread(dataset, type, memory, file, H5P_DEFAULT, dense) < 0)
        status = dsc_h5_fail(DSC_EINVAL, dataset, "cannot read %s", path_of(table, column).str);
    H5Sclose(file);
    H5Sclose(memory);
    H5Tclose(type);
    return status;
}

static bool is_live(hid_t dataset)
{
    hid_t file = H5Iget_file_id(dataset);
    unsigned intent = 0;

    H5Fget_intent(file, &intent);
    H5Fclose(file);
    return intent & H5F_ACC_SWMR_READ;
}

/* Metadata that a writer is changing libhdf5 reads again by itself (h5.c), but not rows: a chunk of them that is half
 * written does not match its checksum. So they are read again, after pauses of 1, 2, 4, ... ms. */
static dsc_status read_column(const dsc_table *table, const dsc_column *column, hid_t dataset, char *dense, char *rows,
                              int64_t count)
{
    const int more = is_live(dataset) ? 8 : 0;
    dsc_status status = read_rows(table, column, dataset, dense, count);

    for (int i = 0; status != DSC_OK && i < more; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000L << i}, NULL);
        H5Drefresh(dataset);
        status = read_rows(table, column, dataset, dense, count);
    }
    for (int64_t i = 0; status == DSC_OK && i < count; i++) {
        char *cell = rows + (size_t)i * table->row_bytes + column->offset;

        memcpy(cell, dense + (size_t)i * column->bytes, column->bytes);
        if (column->type == DSC_COLUMN_TEXT) cell[column->bytes - 1] = '\0';
    }
    return status;
}

dsc_status dsc_h5_table_read(hid_t file, const dsc_table *table, void *owner, bool *is_ragged)
{
    hid_t datasets[32];
    int64_t rows = INT64_MAX, most = 0, found;
    int opened = 0;
    char *dense = NULL;
    dsc_status status = DSC_OK;

    while (opened < table->column_count) {
        const dsc_column *column = &table->columns[opened];

        datasets[opened] = H5Dopen2(file, path_of(table, column).str, H5P_DEFAULT);
        if (datasets[opened] < 0) {
            status = dsc_h5_fail(DSC_EINVAL, file, "cannot read %s", path_of(table, column).str);
            goto out;
        }
        DSC_TRY(check_column(table, column, datasets[opened++], &found));
        rows = DSC_MIN(rows, found);
        most = DSC_MAX(most, found);
    }
    if (is_ragged != NULL && rows < most) *is_ragged = true;
    if (rows == 0) goto out;
    DSC_TRY(
        dsc_array_reserve(dsc_member(owner, table->rows), dsc_member(owner, table->capacity), rows, table->row_bytes));
    memset(dsc_table_rows(table, owner), 0, (size_t)rows * table->row_bytes);
    dense = malloc((size_t)rows * widest_column(table));
    if (dense == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %lld rows of %s", (long long)rows, table->name);
        goto out;
    }
    for (int c = 0; c < table->column_count; c++)
        DSC_TRY(read_column(table, &table->columns[c], datasets[c], dense, dsc_table_rows(table, owner), rows));
    *(int64_t *)dsc_member(owner, table->count) = rows;
out:
    free(dense);
    for (int c = 0; c < opened; c++) H5Dclose(datasets[c]);
    return status;
}
