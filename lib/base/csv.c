#include "base/csv.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8 */
enum { MARK_BYTES = sizeof mark - 1, MOST_COLUMNS = 4096 };

/* ---- Reading */

typedef struct reader {
    dsc_csv *csv;
    const char *start, *at, *end; /* of the file behind its mark */
    char *next;                   /* where the next cell's text goes */
    int64_t line;                 /* at `at` */
} reader;

/* Refuses what stands at `at`, by line and column. */
static dsc_status refuse(const reader *r, const char *at, const char *why)
{
    int64_t line = 1, column = 1;

    for (const char *c = r->start; c < at; c++) {
        line += *c == '\n';
        column = *c == '\n' ? 1 : column + 1;
    }
    return DSC_FAIL(DSC_EINVAL, "%s:%" PRId64 ":%" PRId64 ": %s", r->csv->name, line, column, why);
}

/* From the opening quote to behind the closing one. */
static dsc_status read_quoted(reader *r)
{
    const char *opening = r->at++;

    for (; r->at < r->end; r->at++) {
        if (*r->at == '"' && (r->at + 1 == r->end || r->at[1] != '"')) break;
        if (*r->at == '"') r->at++;
        r->line += *r->at == '\n';
        *r->next++ = *r->at;
    }
    if (r->at == r->end) return refuse(r, opening, "the quote that opens here is not closed");
    r->at++;
    if (r->at < r->end && strchr(",\r\n", *r->at) == NULL)
        return refuse(r, r->at, "behind a closing quote stands neither a comma nor a line's end");
    return DSC_OK;
}

static dsc_status read_plain(reader *r)
{
    for (; r->at < r->end && strchr(",\r\n", *r->at) == NULL; r->at++) {
        if (*r->at == '"') return refuse(r, r->at, "a quote in a cell that does not begin with one");
        *r->next++ = *r->at;
    }
    return DSC_OK;
}

static dsc_status read_cell(reader *r, dsc_csv_row *row)
{
    dsc_csv_cell cell = {.text = r->next, .raw = r->at};
    dsc_status status = r->at < r->end && *r->at == '"' ? read_quoted(r) : read_plain(r);

    if (status != DSC_OK) return status;
    *r->next++ = '\0';
    cell.raw_bytes = r->at - cell.raw;
    return DSC_PUSH(row->cells, row->count, row->capacity, cell);
}

static dsc_status read_line_end(reader *r, dsc_csv_row *row)
{
    const int64_t left = r->end - r->at;

    row->end = left == 0 ? "" : *r->at == '\n' ? "\n" : "\r\n";
    if (left > 0 && *r->at == '\r' && (left == 1 || r->at[1] != '\n'))
        return refuse(r, r->at, "a carriage return without a line feed");
    r->at += strlen(row->end);
    r->line++;
    return DSC_OK;
}

static dsc_status read_row(reader *r, dsc_csv_row *row, int64_t columns)
{
    dsc_status status = DSC_OK;
    char why[96];

    row->line = r->line;
    if (strchr("\r\n", *r->at) != NULL) return read_line_end(r, row);
    DSC_TRY(read_cell(r, row));
    while (r->at < r->end && *r->at == ',') {
        r->at++;
        if (row->count == columns) {
            snprintf(why, sizeof why, "a cell more than the %" PRId64 " columns of the first line", columns);
            DSC_TRY(refuse(r, r->at, why));
        }
        if (row->count == MOST_COLUMNS) DSC_TRY(refuse(r, r->at, "more than 4096 columns"));
        DSC_TRY(read_cell(r, row));
    }
    if (columns > 0 && row->count < columns) {
        snprintf(why, sizeof why, "%" PRId64 " cells, and the first line names %" PRId64 " columns", row->count,
                 columns);
        DSC_TRY(refuse(r, r->at, why));
    }
    status = read_line_end(r, row);
out:
    return status;
}

static dsc_status check_head(const reader *r, const dsc_csv_row *head)
{
    if (head->count == 0) return refuse(r, r->start, "the first line names no columns");
    for (int64_t i = 1; i < head->count; i++)
        for (int64_t k = 0; k < i; k++)
            if (head->cells[i].text[0] != '\0' && dsc_equal(head->cells[i].text, head->cells[k].text))
                return refuse(r, head->cells[i].raw, "a column of this name is there before");
    return DSC_OK;
}

static dsc_status read_rows(dsc_csv *csv)
{
    dsc_text *file = &csv->file;
    dsc_status status = DSC_OK;
    reader r = {.csv = csv, .line = 1};

    /* The text of a cell and its NUL take no more than the cell and the comma or end behind it. */
    csv->texts = malloc((size_t)file->count + 1);
    if (csv->texts == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: %" PRId64 " bytes", csv->name, file->count + 1);
    csv->has_mark = file->count >= MARK_BYTES && memcmp(file->bytes, mark, MARK_BYTES) == 0;
    r.start = r.at = file->bytes + (csv->has_mark ? MARK_BYTES : 0);
    r.end = file->bytes + file->count;
    r.next = csv->texts;
    if (memchr(r.start, '\0', (size_t)(r.end - r.start)) != NULL)
        return refuse(&r, memchr(r.start, '\0', (size_t)(r.end - r.start)), "a NUL, which no text holds");
    while (r.at < r.end) {
        dsc_csv_row empty = {0};

        DSC_TRY(DSC_PUSH(csv->rows, csv->count, csv->capacity, empty));
        DSC_TRY(read_row(&r, &csv->rows[csv->count - 1], csv->rows[0].count));
        if (csv->count == 1) DSC_TRY(check_head(&r, &csv->rows[0]));
    }
    if (csv->count == 0) status = refuse(&r, r.start, "the first line names no columns");
out:
    return status;
}

static dsc_status take_name(dsc_csv *csv, const char *name)
{
    csv->name = strdup(name);
    return csv->name != NULL ? DSC_OK : DSC_FAIL(DSC_ENOMEM, "%s: no memory for its name", name);
}

dsc_status dsc_csv_load(const char *path, dsc_csv *out)
{
    dsc_status status = DSC_OK;

    *out = (dsc_csv){0};
    DSC_TRY(take_name(out, dsc_equal(path, "-") ? "standard input" : path));
    DSC_TRY(dsc_text_load(path, &out->file));
    DSC_TRY(read_rows(out));
out:
    return status;
}

dsc_status dsc_csv_parse(const char *name, const char *bytes, int64_t count, dsc_csv *out)
{
    dsc_status status = DSC_OK;

    *out = (dsc_csv){0};
    DSC_TRY(take_name(out, name));
    DSC_TRY(dsc_array_reserve(&out->file.bytes, &out->file.capacity, count + 1, 1));
    if (count > 0) memcpy(out->file.bytes, bytes, (size_t)count);
    out->file.count = count;
    DSC_TRY(read_rows(out));
out:
    return status;
}

void dsc_csv_fini(dsc_csv *csv)
{
    for (int64_t i = 0; i < csv->count; i++) {
        for (int64_t k = 0; k < csv->rows[i].count; k++) free(csv->rows[i].cells[k].own);
        free(csv->rows[i].cells);
    }
    free(csv->rows);
    free(csv->texts);
    free(csv->name);
    dsc_text_fini(&csv->file);
    *csv = (dsc_csv){0};
}

/* ---- Cells */

int64_t dsc_csv_find(const dsc_csv *csv, const char *column)
{
    for (int64_t i = 0; i < csv->rows[0].count; i++)
        if (dsc_equal(csv->rows[0].cells[i].text, column)) return i;
    return -1;
}

const char *dsc_csv_text(const dsc_csv *csv, int64_t row, int64_t column)
{
    return column < 0 || column >= csv->rows[row].count ? "" : csv->rows[row].cells[column].text;
}

dsc_status dsc_csv_add(dsc_csv *csv, const char *column, int64_t *out)
{
    const dsc_csv_cell empty = {.text = "", .raw = ""};
    const int64_t found = dsc_csv_find(csv, column), count = csv->rows[0].count;
    dsc_status status = DSC_OK;

    if (found < 0) {
        for (int64_t i = 0; i < csv->count; i++) {
            dsc_csv_row *row = &csv->rows[i];

            if (row->count > 0) DSC_TRY(DSC_PUSH(row->cells, row->count, row->capacity, empty));
        }
        DSC_TRY(dsc_csv_set(csv, 0, count, column));
    }
    *out = found < 0 ? count : found;
out:
    return status;
}

/* Spaces at the ends are part of a cell, and readers differ about them unless there are quotes. */
static bool needs_quotes(const char *text)
{
    const size_t length = strlen(text);

    return text[strcspn(text, ",\"\r\n")] != '\0' || text[0] == ' ' || (length > 0 && text[length - 1] == ' ');
}

dsc_status dsc_csv_set(dsc_csv *csv, int64_t row, int64_t column, const char *text)
{
    dsc_csv_cell *cell = &csv->rows[row].cells[column];
    const bool is_quoted = needs_quotes(text);
    const size_t length = strlen(text);
    char *own = malloc(3 * length + 3), *raw; /* the text, its NUL, and at most twice as much between two quotes */

    if (own == NULL) return DSC_FAIL(DSC_ENOMEM, "%s: a cell of %zu bytes", csv->name, length);
    memcpy(own, text, length + 1);
    raw = own + length + 1;
    if (is_quoted) *raw++ = '"';
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"') *raw++ = '"';
        *raw++ = *c;
    }
    if (is_quoted) *raw++ = '"';
    free(cell->own);
    *cell = (dsc_csv_cell){.text = own, .raw = own + length + 1, .own = own};
    cell->raw_bytes = raw - cell->raw;
    return DSC_OK;
}

void dsc_csv_print(const dsc_csv *csv, dsc_text *out)
{
    if (csv->has_mark) dsc_text_add(out, "%s", mark);
    for (int64_t i = 0; i < csv->count; i++) {
        const dsc_csv_row *row = &csv->rows[i];

        for (int64_t k = 0; k < row->count; k++)
            dsc_text_add(out, "%s%.*s", k > 0 ? "," : "", (int)row->cells[k].raw_bytes, row->cells[k].raw);
        dsc_text_add(out, "%s", row->end);
    }
}
