#include "store/trace_file.h"
#include "base/log.h"
#include "store/h5.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 16, GROWING_TABLES = DSC_TABLE_STEPS + 1 };

/* Ranks index arrays when a trace is read; no machine has more. */
#define MOST_RANKS (INT64_C(1) << 24)
/* 36 years in nanoseconds: sums of two times do not wrap. */
#define MOST_NS (INT64_C(1) << 60)

/* ---- Writing */

struct dsc_trace_writer {
    hid_t file;
    hid_t columns[GROWING_TABLES][MOST_COLUMNS];
    int64_t rows[GROWING_TABLES]; /* written so far */
    bool has_failed;              /* an append did: what is on disk is what will ever be */
};

/* Ends a writer whose failure is reported already; takes NULL. */
static void discard(dsc_trace_writer *writer)
{
    if (writer != NULL) dsc_h5_discard(&writer->file);
    free(writer);
}

static dsc_status put_head(hid_t file, const dsc_trace_head *head)
{
    char created[32];
    dsc_status status = DSC_OK;

    strcpy(created, head->created);
    if (created[0] == '\0') dsc_h5_date(!head->is_measured, created);
    DSC_TRY(dsc_h5_put_int(file, "schema_version", 1));
    DSC_TRY(dsc_h5_put_text(file, "kind", head->is_measured ? "measured" : "predicted"));
    if (created[0] != '\0') DSC_TRY(dsc_h5_put_text(file, "created", created));
    DSC_TRY(dsc_h5_put_text(file, "dsc_version", head->dsc_version));
    DSC_TRY(dsc_h5_put_text(file, "program_hash", head->program_hash));
    DSC_TRY(dsc_h5_put_text(file, "plan_hash", head->plan_hash));
    DSC_TRY(dsc_h5_put_text(file, "config", head->config));
    DSC_TRY(dsc_h5_put_text(file, "cluster", head->cluster));
    DSC_TRY(dsc_h5_put_text(file, "model", head->model));
out:
    return status;
}

static dsc_status put_clock_uncertainty(hid_t file, int64_t nanoseconds)
{
    hid_t ops = H5Gopen2(file, "/ops", H5P_DEFAULT);
    dsc_status status = dsc_h5_put_int(ops, "clock_uncertainty_ns", nanoseconds);

    H5Gclose(ops);
    return status;
}

typedef struct list_path { char str[64]; } list_path;

static list_path path_of_list(const dsc_name_list *list)
{
    list_path path;

    snprintf(path.str, sizeof path.str, "/%s/%s", list->table, list->name);
    return path;
}

/* Every object that the file will ever have: SWMR allows no new ones. */
static dsc_status lay_out(dsc_trace_writer *writer, const dsc_trace_head *head, const dsc_trace *fixed)
{
    dsc_status status = DSC_OK;

    DSC_TRY(put_head(writer->file, head));
    for (int t = 0; t < GROWING_TABLES; t++)
        DSC_TRY(dsc_h5_table_create(writer->file, &DSC_TRACE_TABLES[t], writer->columns[t]));
    for (int t = GROWING_TABLES; t < DSC_TABLE_COUNT; t++)
        DSC_TRY(dsc_h5_table_save(writer->file, &DSC_TRACE_TABLES[t], fixed));
    for (int i = 0; i < DSC_NAMES_COUNT; i++) {
        const dsc_name_list *list = &DSC_TRACE_NAMES[i];

        DSC_TRY(dsc_h5_put_names(writer->file, path_of_list(list).str, dsc_list_names(list, head),
                                 dsc_list_count(list, head)));
    }
    DSC_TRY(put_clock_uncertainty(writer->file, head->clock_uncertainty_ns));
out:
    return status;
}

dsc_status dsc_trace_writer_open(const char *path, const dsc_trace_head *head, const dsc_group_row *groups,
                                 int64_t group_count, const dsc_rank_row *ranks, int64_t rank_count,
                                 dsc_trace_writer **out)
{
    dsc_trace fixed = {.groups = (dsc_group_row *)groups, .group_count = group_count, /* only read */
                       .ranks = (dsc_rank_row *)ranks, .rank_count = rank_count};
    dsc_trace_writer *writer = calloc(1, sizeof *writer);
    dsc_status status = DSC_OK;

    if (writer == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %zu bytes", sizeof *writer);
    writer->file = H5I_INVALID_HID;
    DSC_TRY(dsc_h5_create(path, head->is_measured, &writer->file));
    DSC_TRY(lay_out(writer, head, &fixed));
    if (head->is_measured && H5Fstart_swmr_write(writer->file) < 0) {
        status = dsc_h5_fail(DSC_EIO, writer->file, "cannot be made readable while it is written");
        goto out;
    }
    *out = writer;
    writer = NULL;
out:
    discard(writer);
    return status;
}

static dsc_status append_table(dsc_trace_writer *writer, int t, const dsc_trace *rows)
{
    const dsc_table *table = &DSC_TRACE_TABLES[t];
    int64_t count = dsc_table_count(table, rows);
    dsc_status status = DSC_OK;

    if (count == 0) return DSC_OK;
    DSC_TRY(dsc_h5_table_append(table, writer->columns[t], writer->rows[t], dsc_table_rows(table, rows), count));
    writer->rows[t] += count;
    for (int c = 0; c < table->column_count; c++)
        if (H5Dflush(writer->columns[t][c]) < 0)
            return dsc_h5_fail(DSC_EIO, writer->file, "cannot write /%s/%s", table->name, table->columns[c].name);
out:
    return status;
}

dsc_status dsc_trace_writer_append(dsc_trace_writer *writer, const dsc_trace *rows)
{
    dsc_status status = DSC_OK;

    for (int t = 0; t < GROWING_TABLES; t++) DSC_TRY(append_table(writer, t, rows));
out:
    writer->has_failed |= status != DSC_OK;
    return status;
}

dsc_status dsc_trace_writer_close(dsc_trace_writer **writer)
{
    dsc_status status = DSC_OK;

    if (*writer == NULL) return DSC_OK;
    if (!(*writer)->has_failed) status = dsc_h5_close(&(*writer)->file);
    discard(*writer);
    *writer = NULL;
    return status;
}

dsc_status dsc_trace_save(const char *path, const dsc_trace *trace)
{
    dsc_trace_writer *writer = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_trace_writer_open(path, &trace->head, trace->groups, trace->group_count, trace->ranks,
                                  trace->rank_count, &writer));
    DSC_TRY(dsc_trace_writer_append(writer, trace));
    DSC_TRY(dsc_trace_writer_close(&writer));
out:
    discard(writer);
    return status;
}

/* ---- Reading */

static dsc_status get_head(hid_t file, dsc_trace_head *head)
{
    char kind[16];
    hid_t ops;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_h5_check_version(file, "a trace"));
    DSC_TRY(dsc_h5_get_string(file, "kind", kind, sizeof kind));
    head->is_measured = dsc_equal(kind, "measured");
    if (!head->is_measured && !dsc_equal(kind, "predicted"))
        return dsc_h5_refuse(file, "kind is \"%s\", predicted or measured expected", kind);
    if (H5Aexists(file, "created") > 0)
        DSC_TRY(dsc_h5_get_string(file, "created", head->created, sizeof head->created));
    DSC_TRY(dsc_h5_get_string(file, "dsc_version", head->dsc_version, sizeof head->dsc_version));
    DSC_TRY(dsc_h5_get_string(file, "program_hash", head->program_hash, sizeof head->program_hash));
    DSC_TRY(dsc_h5_get_string(file, "plan_hash", head->plan_hash, sizeof head->plan_hash));
    DSC_TRY(dsc_h5_get_text(file, "config", &head->config));
    DSC_TRY(dsc_h5_get_text(file, "cluster", &head->cluster));
    DSC_TRY(dsc_h5_get_text(file, "model", &head->model));
    ops = H5Gopen2(file, "/ops", H5P_DEFAULT);
    if (ops < 0) return dsc_h5_fail(DSC_EINVAL, file, "cannot read /ops");
    status = dsc_h5_get_int(ops, "clock_uncertainty_ns", &head->clock_uncertainty_ns);
    H5Gclose(ops);
out:
    return status;
}

/* Names are made by strangers too; nothing needs more. */
enum { MOST_NAMES = 1 << 20 };

static dsc_status get_names(hid_t file, dsc_trace_head *head)
{
    dsc_status status = DSC_OK;

    for (int i = 0; i < DSC_NAMES_COUNT; i++) {
        const dsc_name_list *list = &DSC_TRACE_NAMES[i];

        /* a measurement may know nothing of links */
        if (i == DSC_NAMES_LINKS && H5Lexists(file, "/links", H5P_DEFAULT) <= 0) continue;
        DSC_TRY(dsc_h5_get_names(file, path_of_list(list).str, dsc_member(head, list->names),
                                 dsc_member(head, list->count)));
        if (dsc_list_count(list, head) > MOST_NAMES)
            return dsc_h5_refuse(file, "%s has %lld names, at most %d are read", path_of_list(list).str,
                                 (long long)dsc_list_count(list, head), MOST_NAMES);
    }
out:
    return status;
}

/* Keeps the rows that satisfy `keep`, in order. */
#define FILTER(rows, count, keep)                      \
    do {                                               \
        int64_t kept = 0;                              \
        for (int64_t i = 0; i < (count); i++)          \
            if (keep) (rows)[kept++] = (rows)[i];      \
        (count) = kept;                                \
    } while (0)

/* A killed run leaves rows of a step that never ended; /steps, written last, says which those are. */
static void drop_unfinished_step(dsc_trace *trace)
{
    int32_t last = INT32_MIN;
    int64_t end_ns = INT64_MIN;

    for (int64_t i = 0; i < trace->step_count; i++) {
        last = DSC_MAX(last, trace->steps[i].step);
        end_ns = DSC_MAX(end_ns, trace->steps[i].t_end_ns);
    }
    FILTER(trace->ops, trace->op_count, trace->ops[i].step <= last);
    FILTER(trace->memory, trace->memory_count, trace->memory[i].step <= last);
    FILTER(trace->link_rows, trace->link_row_count, trace->link_rows[i].t_start_ns < end_ns);
}

/* What a column's values may be. */
static void bounds_of(const dsc_column *column, const dsc_trace_head *head, int64_t *low, int64_t *high)
{
    bool is_time = dsc_equal(column->units, "ns");

    *low = is_time ? -MOST_NS : INT64_MIN;
    *high = is_time ? MOST_NS : INT64_MAX;
    if (column->names != DSC_NAMES_NONE) {
        *low = 0;
        *high = dsc_list_count(&DSC_TRACE_NAMES[column->names], head) - 1;
    } else if (dsc_equal(column->name, "rank") || dsc_equal(column->name, "representative")) {
        *low = 0;
        *high = MOST_RANKS - 1;
    }
}

static dsc_status check_column(hid_t file, const dsc_trace *trace, const dsc_table *table, const dsc_column *column)
{
    const char *cell = dsc_table_rows(table, trace) + column->offset;
    int64_t low, high;

    if (column->type != DSC_COLUMN_INT32 && column->type != DSC_COLUMN_INT64) return DSC_OK;
    bounds_of(column, &trace->head, &low, &high);
    for (int64_t i = 0; i < dsc_table_count(table, trace); i++, cell += table->row_bytes) {
        int64_t value = column->type == DSC_COLUMN_INT32 ? *(const int32_t *)cell : *(const int64_t *)cell;

        if (value < low || value > high)
            return dsc_h5_refuse(file, "/%s/%s, row %lld: %lld is outside %lld .. %lld", table->name, column->name,
                                 (long long)i, (long long)value, (long long)low, (long long)high);
    }
    return DSC_OK;
}

#define CHECK_ORDER(name, rows, count)                                                                              \
    do {                                                                                                            \
        for (int64_t i = 0; i < (count); i++)                                                                       \
            if ((rows)[i].t_end_ns < (rows)[i].t_start_ns)                                                          \
                return dsc_h5_refuse(file, "/%s, row %lld ends at %lld ns, before its start at %lld ns", name,      \
                                     (long long)i, (long long)(rows)[i].t_end_ns, (long long)(rows)[i].t_start_ns); \
    } while (0)

static dsc_status check_rows(hid_t file, const dsc_trace *trace)
{
    dsc_status status = DSC_OK;

    for (int t = 0; t < DSC_TABLE_COUNT; t++)
        for (int c = 0; c < DSC_TRACE_TABLES[t].column_count; c++)
            if (dsc_table_count(&DSC_TRACE_TABLES[t], trace) > 0)
                DSC_TRY(check_column(file, trace, &DSC_TRACE_TABLES[t], &DSC_TRACE_TABLES[t].columns[c]));
    CHECK_ORDER("ops", trace->ops, trace->op_count);
    CHECK_ORDER("links", trace->link_rows, trace->link_row_count);
    CHECK_ORDER("steps", trace->steps, trace->step_count);
out:
    return status;
}

dsc_status dsc_trace_load(const char *path, dsc_trace *out)
{
    hid_t file = H5I_INVALID_HID;
    bool is_live = false;
    dsc_trace trace;
    dsc_status status = DSC_OK;

    dsc_trace_init(&trace);
    DSC_TRY(dsc_h5_open(path, &file, &is_live));
    DSC_TRY(get_head(file, &trace.head));
    DSC_TRY(get_names(file, &trace.head));
    for (int t = DSC_TABLE_COUNT - 1; t >= 0; t--) { /* steps before their rows: a writer may be adding right now */
        if (t == DSC_TABLE_LINKS && H5Lexists(file, "/links", H5P_DEFAULT) <= 0) continue;
        DSC_TRY(dsc_h5_table_read(file, &DSC_TRACE_TABLES[t], &trace, &is_live));
    }
    if (is_live) {
        drop_unfinished_step(&trace);
        dsc_log(DSC_NOTE, "%s: not closed by its writer; read up to the last whole step, the %lldth in it", path,
                (long long)trace.step_count);
    }
    DSC_TRY(check_rows(file, &trace));
    *out = trace;
    dsc_trace_init(&trace);
out:
    dsc_h5_discard(&file);
    dsc_trace_fini(&trace);
    return status;
}
