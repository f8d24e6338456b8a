/* Tables in comma-separated values (RFC 4180): read, looked up by the names of columns, changed cell by cell and
 * printed again. Rows, order, columns and the very bytes of what is not changed stay as they were: quotes, line ends, a
 * byte order mark, empty lines. It does not know what a cell means. */
#ifndef DSC_BASE_CSV_H
#define DSC_BASE_CSV_H

#include "base/text.h"

typedef struct dsc_csv_cell {
    const char *text;  /* what it says, without quotes; NUL-terminated */
    const char *raw;   /* as it is printed, not terminated */
    int64_t raw_bytes;
    char *own;         /* what both lie in once the cell was set; NULL: the file's */
} dsc_csv_cell;

typedef struct dsc_csv_row {
    dsc_csv_cell *cells; /* as many as the head has; none in an empty line */
    int64_t count, capacity;
    int64_t line;        /* of the file, from 1, where it begins */
    const char *end;     /* "\n", "\r\n", or "" where the file ends without one */
} dsc_csv_row;

typedef struct dsc_csv {
    char *name;          /* of the file, for messages */
    dsc_csv_row *rows;   /* rows[0] is the head */
    int64_t count, capacity;
    bool has_mark;       /* a byte order mark stands before the head */
    dsc_text file;       /* what cells are borrowed from */
    char *texts;
} dsc_csv;

/* Reads a file; "-" is standard input. *out is ended by dsc_csv_fini, also after a failure.
 * returns  DSC_EINVAL naming the file and, as FILE:LINE:COLUMN (both from 1, in bytes), the place: a quote that is not
 *          closed, stands in the middle of a cell or is followed by more than a comma; a NUL; a carriage return alone;
 *          a row with more or fewer cells than the head; no head, or one of over 4096 columns; a name that comes
 *          twice */
dsc_status dsc_csv_load(const char *path, dsc_csv *out);

/* The same from bytes, which are copied; name stands for the file in messages. */
dsc_status dsc_csv_parse(const char *name, const char *bytes, int64_t count, dsc_csv *out);
void dsc_csv_fini(dsc_csv *csv); /* takes {0} */

/* The column's index, -1 when there is none of that name. Pure. */
int64_t dsc_csv_find(const dsc_csv *csv, const char *column);

/* What the cell says; "" in an empty line and in column -1. Borrowed until the cell is set. Pure. */
const char *dsc_csv_text(const dsc_csv *csv, int64_t row, int64_t column);

/* Finds the column, or adds it behind the others, with empty cells. */
dsc_status dsc_csv_add(dsc_csv *csv, const char *column, int64_t *out);

/* Sets a cell, not one of an empty line; it is quoted where it has to be. */
dsc_status dsc_csv_set(dsc_csv *csv, int64_t row, int64_t column, const char *text);

/* Appends the file. */
void dsc_csv_print(const dsc_csv *csv, dsc_text *out);

#endif
