#include "base/text.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dsc_text_add(dsc_text *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    dsc_text_add_v(text, format, arguments);
    va_end(arguments);
}

void dsc_text_add_v(dsc_text *text, const char *format, va_list arguments)
{
    va_list again;
    int length;

    va_copy(again, arguments);
    length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0 || dsc_array_reserve(&text->bytes, &text->capacity, text->count + length + 1, 1) != DSC_OK) {
        text->failed = true;
    } else {
        vsnprintf(text->bytes + text->count, (size_t)length + 1, format, again);
        text->count += length;
    }
    va_end(again);
}

void dsc_text_fini(dsc_text *text)
{
    free(text->bytes);
    *text = (dsc_text){0};
}

const char *dsc_text_str(const dsc_text *text)
{
    return text->bytes == NULL ? "" : text->bytes;
}

/* ---- Files */

static dsc_status read_stream(FILE *file, const char *name, dsc_text *out)
{
    enum { CHUNK = 65536 };
    size_t got;

    do {
        if (dsc_array_reserve(&out->bytes, &out->capacity, out->count + CHUNK, 1) != DSC_OK) return DSC_ENOMEM;
        got = fread(out->bytes + out->count, 1, CHUNK, file);
        out->count += (int64_t)got;
    } while (got == CHUNK);
    if (ferror(file)) return DSC_FAIL(DSC_EINVAL, "%s: cannot read: %s", name, strerror(errno));
    return DSC_OK;
}

dsc_status dsc_text_load(const char *path, dsc_text *out)
{
    const char *name = dsc_equal(path, "-") ? "standard input" : path;
    FILE *file;
    dsc_status status;

    if (dsc_equal(path, "-")) return read_stream(stdin, name, out);
    file = fopen(path, "rb");
    if (file == NULL) return DSC_FAIL(DSC_EINVAL, "%s: cannot open: %s", name, strerror(errno));
    status = read_stream(file, name, out);
    fclose(file);
    return status;
}

/* ---- Numbers and tables */

/* Three significant digits; whole numbers of the smallest unit stay whole. */
static dsc_short scaled_str(double value, double step, const char *const *units, int count)
{
    dsc_short out;
    double magnitude = fabs(value);
    int unit = 0, decimals;

    while (unit + 1 < count && magnitude >= step) {
        magnitude /= step;
        unit++;
    }
    decimals = magnitude < 9.995 ? 2 : magnitude < 99.95 ? 1 : 0;
    if (unit == 0 && magnitude == floor(magnitude)) decimals = 0;
    snprintf(out.str, sizeof out.str, "%s%.*f%s%s", value < 0 ? "-" : "", decimals, magnitude,
             units[unit][0] == '\0' ? "" : " ", units[unit]);
    return out;
}

dsc_short dsc_bytes_str(int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};

    return scaled_str((double)bytes, 1024, units, (int)DSC_COUNT(units));
}

dsc_short dsc_ns_str(int64_t ns)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};

    return scaled_str((double)ns, 1000, units, (int)DSC_COUNT(units));
}

dsc_short dsc_count_str(double count)
{
    static const char *const units[] = {"", "K", "M", "G", "T", "P", "E", "Z"};

    return scaled_str(count, 1000, units, (int)DSC_COUNT(units));
}

/* A cell, line or word within a longer string. */
typedef struct slice { const char *start; int length; } slice;

/* Cuts the next piece, which `separator` or the end ends, off *rest; false when nothing is left. */
static bool next_slice(slice *rest, char separator, slice *out)
{
    const char *end;

    if (rest->start == NULL) return false;
    end = memchr(rest->start, separator, (size_t)rest->length);
    if (end == NULL) {
        *out = *rest;
        rest->start = NULL;
    } else {
        *out = (slice){rest->start, (int)(end - rest->start)};
        rest->length -= out->length + 1;
        rest->start = end + 1;
    }
    return true;
}

/* Columns on a terminal: UTF-8 continuation bytes take none. */
static int width_of(slice cell)
{
    int width = 0;

    for (int i = 0; i < cell.length; i++) width += (cell.start[i] & 0xC0) != 0x80;
    return width;
}

enum { MAX_COLUMNS = 64 };

typedef struct column { int width; bool is_text; } column;

static int measure(slice rows, column columns[MAX_COLUMNS])
{
    slice row, cell;
    int count = 0;

    for (int r = 0; next_slice(&rows, '\n', &row); r++)
        for (int c = 0; c < MAX_COLUMNS && next_slice(&row, '\t', &cell); c++) {
            bool is_number = cell.length == 0 || strchr("+-.0123456789", cell.start[0]) != NULL;

            columns[c].width = DSC_MAX(columns[c].width, width_of(cell));
            if (r > 0 && !is_number) columns[c].is_text = true;
            count = DSC_MAX(count, c + 1);
        }
    return count;
}

static void print_row(slice row, const column *columns, dsc_text *out)
{
    slice cell;
    int gap = 0; /* spaces owed before the next cell: none stand at a line's end */

    for (int c = 0; c < MAX_COLUMNS && next_slice(&row, '\t', &cell); c++) {
        int padding = columns[c].width - width_of(cell);

        if (!columns[c].is_text) gap += padding;
        if (cell.length > 0) {
            dsc_text_add(out, "%*s%.*s", gap, "", cell.length, cell.start);
            gap = 0;
        }
        gap += 2 + (columns[c].is_text ? padding : 0);
    }
    dsc_text_add(out, "\n");
}

static void print_rule(const column *columns, int count, dsc_text *out)
{
    for (int c = 0; c < count; c++) {
        if (c > 0) dsc_text_add(out, "  ");
        for (int i = 0; i < columns[c].width; i++) dsc_text_add(out, "-");
    }
    dsc_text_add(out, "\n");
}

void dsc_table_print(const char *tab_separated_rows, dsc_text *out)
{
    column columns[MAX_COLUMNS] = {{0, false}};
    slice rows = {tab_separated_rows, (int)strlen(tab_separated_rows)}, row;
    int count;

    if (rows.length > 0 && rows.start[rows.length - 1] == '\n') rows.length--;
    count = measure(rows, columns);
    for (int r = 0; next_slice(&rows, '\n', &row); r++) {
        print_row(row, columns, out);
        if (r == 0) print_rule(columns, count, out);
    }
}

enum { MAX_WORD = 64 };

/* Levenshtein's distance, by rows; words longer than MAX_WORD are near nothing. */
static int edit_distance(const char *a, const char *b)
{
    int row[MAX_WORD + 1];
    int a_length = (int)strlen(a), b_length = (int)strlen(b);

    if (a_length > MAX_WORD || b_length > MAX_WORD) return MAX_WORD;
    for (int j = 0; j <= b_length; j++) row[j] = j;
    for (int i = 1; i <= a_length; i++) {
        int diagonal = row[0];

        row[0] = i;
        for (int j = 1; j <= b_length; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = DSC_MIN(replaced, DSC_MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[b_length];
}

const char *dsc_nearest(const char *word, const char *const *names, int64_t count)
{
    const char *nearest = NULL;
    int length = (int)DSC_MIN(strlen(word), (size_t)MAX_WORD);
    int least = DSC_MAX(2, length / 3) + 1;

    for (int64_t i = 0; i < count; i++) {
        int distance = edit_distance(word, names[i]);

        if (distance < least && distance < length) {
            least = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

bool dsc_equal(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}
