#include "store/calibration_file.h"
#include "store/h5.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A kernel sample as files hold it: names in place of codes. */
typedef struct kernel_row {
    char kernel[24], dtype[8], out[8];
    int32_t flags, ranks;
    int64_t m, n, k, d3, d4, d5, d6, time_ns;
} kernel_row;

typedef struct kernel_rows { kernel_row *rows; int64_t count, capacity; } kernel_rows;

static const dsc_column kernel_columns[] = {
    DSC_COLUMN(kernel_row, kernel, "name"),
    DSC_COLUMN(kernel_row, dtype, "name"),
    DSC_COLUMN(kernel_row, out, "name"),
    DSC_COLUMN(kernel_row, flags, "1"),
    DSC_COLUMN(kernel_row, ranks, "1"),
    DSC_COLUMN(kernel_row, m, "1"),
    DSC_COLUMN(kernel_row, n, "1"),
    DSC_COLUMN(kernel_row, k, "1"),
    DSC_COLUMN(kernel_row, d3, "1"),
    DSC_COLUMN(kernel_row, d4, "1"),
    DSC_COLUMN(kernel_row, d5, "1"),
    DSC_COLUMN(kernel_row, d6, "1"),
    DSC_COLUMN(kernel_row, time_ns, "ns"),
};

static const dsc_column copy_columns[] = {
    DSC_COLUMN(dsc_copy_sample, from, "name"),
    DSC_COLUMN(dsc_copy_sample, to, "name"),
    DSC_COLUMN(dsc_copy_sample, bytes, "B"),
    DSC_COLUMN(dsc_copy_sample, time_ns, "ns"),
};

static const dsc_column collective_columns[] = {
    DSC_COLUMN(dsc_collective_sample, kind, "name"),
    DSC_COLUMN(dsc_collective_sample, ranks, "1"),
    DSC_COLUMN(dsc_collective_sample, nodes, "1"),
    DSC_COLUMN(dsc_collective_sample, at_work, "1"),
    DSC_COLUMN(dsc_collective_sample, bytes, "B"),
    DSC_COLUMN(dsc_collective_sample, time_ns, "ns"),
};

static const dsc_table kernel_table =
    DSC_TABLE("kernels", kernel_row, kernel_rows, rows, count, capacity, kernel_columns);
static const dsc_table copy_table =
    DSC_TABLE("copies", dsc_copy_sample, dsc_calibration, copies, copy_count, copy_capacity, copy_columns);
static const dsc_table collective_table = DSC_TABLE("collectives", dsc_collective_sample, dsc_calibration, collectives,
                                                    collective_count, collective_capacity, collective_columns);

/* ---- Kernel samples and their rows */

static kernel_row row_of(const dsc_kernel_sample *sample)
{
    const dsc_shape *shape = &sample->shape;
    const int64_t *d = shape->d;
    kernel_row row = {.flags = shape->flags, .ranks = sample->ranks, .m = d[0], .n = d[1], .k = d[2], .d3 = d[3],
                      .d4 = d[4], .d5 = d[5], .d6 = d[6], .time_ns = sample->time_ns};

    snprintf(row.kernel, sizeof row.kernel, "%s", dsc_kernel_name(shape->kernel));
    snprintf(row.dtype, sizeof row.dtype, "%s", dsc_dtype_name(shape->type));
    snprintf(row.out, sizeof row.out, "%s", dsc_dtype_name(shape->out));
    return row;
}

/* -1 when no type is called so. */
static int find_dtype(const char *name)
{
    for (int type = 0; type < DSC_DTYPE_COUNT; type++)
        if (dsc_equal(dsc_dtype_name(type), name)) return type;
    return -1;
}

static dsc_status sample_of(const kernel_row *row, dsc_kernel_sample *out)
{
    int kernel = dsc_kernel_find(row->kernel), type = find_dtype(row->dtype), result = find_dtype(row->out);

    if (kernel < 0) return DSC_FAIL(DSC_EINVAL, "unknown kernel \"%s\"", row->kernel);
    if (type < 0 || result < 0) return DSC_FAIL(DSC_EINVAL, "unknown type \"%s\"", type < 0 ? row->dtype : row->out);
    if (row->ranks < 1 || row->time_ns < 0)
        return DSC_FAIL(DSC_EINVAL, "%d ranks took %lld ns", row->ranks, (long long)row->time_ns);
    *out = (dsc_kernel_sample){
        .shape = {.kernel = (int16_t)kernel, .type = (int8_t)type, .out = (int8_t)result, .flags = row->flags,
                  .d = {row->m, row->n, row->k, row->d3, row->d4, row->d5, row->d6}},
        .ranks = row->ranks, .time_ns = row->time_ns};
    return dsc_shape_check(&out->shape);
}

static dsc_status save_kernels(hid_t file, const dsc_calibration *calibration)
{
    kernel_rows table = {.count = calibration->kernel_count};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_array_reserve(&table.rows, &table.capacity, table.count, sizeof *table.rows));
    for (int64_t i = 0; i < table.count; i++) table.rows[i] = row_of(&calibration->kernels[i]);
    DSC_TRY(dsc_h5_table_save(file, &kernel_table, &table));
out:
    free(table.rows);
    return status;
}

static dsc_status load_kernels(hid_t file, const char *path, dsc_calibration *calibration)
{
    kernel_rows table = {NULL, 0, 0};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_h5_table_read(file, &kernel_table, &table, NULL));
    DSC_TRY(dsc_array_reserve(&calibration->kernels, &calibration->kernel_capacity, table.count,
                              sizeof *calibration->kernels));
    for (int64_t i = 0; i < table.count; i++) {
        status = sample_of(&table.rows[i], &calibration->kernels[i]);
        if (status != DSC_OK) {
            status = dsc_fail_in(DSC_EINVAL, "%s: /kernels, row %lld", path, (long long)i);
            goto out;
        }
    }
    calibration->kernel_count = table.count;
out:
    free(table.rows);
    return status;
}

/* ---- The file */

dsc_status dsc_calibration_save(const char *path, const dsc_calibration *calibration)
{
    hid_t file = H5I_INVALID_HID;
    char created[32];
    dsc_status status = DSC_OK;

    snprintf(created, sizeof created, "%s", calibration->created);
    if (created[0] == '\0') dsc_h5_date(false, created);
    DSC_TRY(dsc_h5_create(path, false, &file));
    DSC_TRY(dsc_h5_put_int(file, "schema_version", 1));
    DSC_TRY(dsc_h5_put_text(file, "machine", calibration->machine));
    DSC_TRY(dsc_h5_put_text(file, "created", created));
    DSC_TRY(dsc_h5_put_text(file, "dsc_version", calibration->dsc_version));
    DSC_TRY(dsc_h5_put_int(file, "libraries_bytes", calibration->libraries_bytes));
    DSC_TRY(dsc_h5_put_int(file, "op_overhead_ns", calibration->op_overhead_ns));
    DSC_TRY(save_kernels(file, calibration));
    DSC_TRY(dsc_h5_table_save(file, &copy_table, calibration));
    DSC_TRY(dsc_h5_table_save(file, &collective_table, calibration));
    DSC_TRY(dsc_h5_close(&file));
out:
    dsc_h5_discard(&file);
    return status;
}

static dsc_status check_samples(const char *path, const dsc_calibration *calibration)
{
    for (int64_t i = 0; i < calibration->copy_count; i++)
        if (calibration->copies[i].bytes < 0 || calibration->copies[i].time_ns < 0)
            return DSC_FAIL(DSC_EINVAL, "%s: /copies, row %lld: %lld bytes took %lld ns", path, (long long)i,
                            (long long)calibration->copies[i].bytes, (long long)calibration->copies[i].time_ns);
    for (int64_t i = 0; i < calibration->collective_count; i++) {
        const dsc_collective_sample *sample = &calibration->collectives[i];

        if (sample->ranks < 1 || sample->nodes < 1 || sample->at_work < 1 || sample->bytes < 0 || sample->time_ns < 0)
            return DSC_FAIL(DSC_EINVAL, "%s: /collectives, row %lld: %lld bytes on %d ranks of %d nodes, %d at work "
                            "on each, took %lld ns", path, (long long)i, (long long)sample->bytes, sample->ranks,
                            sample->nodes, sample->at_work, (long long)sample->time_ns);
    }
    return DSC_OK;
}

dsc_status dsc_calibration_load(const char *path, dsc_calibration *out)
{
    hid_t file = H5I_INVALID_HID;
    dsc_calibration loaded;
    dsc_status status = DSC_OK;

    dsc_calibration_init(&loaded);
    DSC_TRY(dsc_h5_open(path, &file, NULL));
    DSC_TRY(dsc_h5_check_version(file, "a calibration"));
    DSC_TRY(dsc_h5_get_text(file, "machine", &loaded.machine));
    DSC_TRY(dsc_h5_get_string(file, "created", loaded.created, sizeof loaded.created));
    DSC_TRY(dsc_h5_get_string(file, "dsc_version", loaded.dsc_version, sizeof loaded.dsc_version));
    DSC_TRY(dsc_h5_get_int(file, "libraries_bytes", &loaded.libraries_bytes));
    DSC_TRY(dsc_h5_get_int(file, "op_overhead_ns", &loaded.op_overhead_ns));
    DSC_TRY(load_kernels(file, path, &loaded));
    DSC_TRY(dsc_h5_table_read(file, &copy_table, &loaded, NULL));
    DSC_TRY(dsc_h5_table_read(file, &collective_table, &loaded, NULL));
    DSC_TRY(check_samples(path, &loaded));
    *out = loaded;
    dsc_calibration_init(&loaded);
out:
    dsc_h5_discard(&file);
    dsc_calibration_fini(&loaded);
    return status;
}
