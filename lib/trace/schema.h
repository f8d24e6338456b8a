/* The columns of trace schema 1, row by row: where each lies in memory, what it is called in files, its type and unit,
 * and which list of names its codes index. Files, checks and exports all walk these tables. */
#ifndef DSC_TRACE_SCHEMA_H
#define DSC_TRACE_SCHEMA_H

#include "trace/trace.h"
#include <string.h>

typedef enum dsc_column_type { DSC_COLUMN_INT32, DSC_COLUMN_INT64, DSC_COLUMN_REAL, DSC_COLUMN_TEXT } dsc_column_type;

/* The lists of names in a trace's head. */
typedef enum dsc_names { DSC_NAMES_KINDS, DSC_NAMES_LANES, DSC_NAMES_SPACES, DSC_NAMES_AXES, DSC_NAMES_LINKS,
                         DSC_NAMES_COUNT, DSC_NAMES_NONE = DSC_NAMES_COUNT } dsc_names;

typedef struct dsc_column {
    const char *name;
    dsc_column_type type;
    size_t offset, bytes; /* in a row; a text is as long as its array and padded with NUL */
    const char *units;
    dsc_names names;      /* a code: every value indexes this list */
} dsc_column;

/* An array of rows in some struct: `rows`, `count` and `capacity` are the offsets of its three members there. */
typedef struct dsc_table {
    const char *name;
    size_t row_bytes, rows, count, capacity;
    const dsc_column *columns;
    int column_count;
} dsc_table;

#define DSC_COLUMN_TYPE(lvalue) \
    _Generic((lvalue), int32_t: DSC_COLUMN_INT32, int64_t: DSC_COLUMN_INT64, double: DSC_COLUMN_REAL, \
             char *: DSC_COLUMN_TEXT)
#define DSC_CODE(row, member, units, names) \
    {#member, DSC_COLUMN_TYPE(((row *)0)->member), offsetof(row, member), sizeof ((row *)0)->member, units, names}
#define DSC_COLUMN(row, member, units) DSC_CODE(row, member, units, DSC_NAMES_NONE)
#define DSC_TABLE(name, row, owner, rows, count, capacity, columns) \
    {name, sizeof(row), offsetof(owner, rows), offsetof(owner, count), offsetof(owner, capacity), columns, \
     (int)DSC_COUNT(columns)}

/* In the order in which files are appended to: a step in /steps has all its rows in the tables before. */
typedef enum dsc_trace_table { DSC_TABLE_OPS, DSC_TABLE_MEMORY, DSC_TABLE_LINKS, DSC_TABLE_STEPS,
                               DSC_TABLE_GROUPS, DSC_TABLE_RANKS, DSC_TABLE_COUNT } dsc_trace_table;
extern const dsc_table DSC_TRACE_TABLES[DSC_TABLE_COUNT]; /* of dsc_trace */

/* Where a list of names lies in dsc_trace_head, and its place in a file: /table/name. */
typedef struct dsc_name_list { const char *table, *name; size_t names, count; } dsc_name_list;
extern const dsc_name_list DSC_TRACE_NAMES[DSC_NAMES_COUNT];

/* The members that a description's offsets point at; owner is what the table or list is of. */
static inline void *dsc_member(const void *owner, size_t offset) { return (char *)owner + offset; }
static inline char *dsc_table_rows(const dsc_table *table, const void *owner)
{
    char *rows;

    memcpy(&rows, dsc_member(owner, table->rows), sizeof rows); /* a T * there, which a char ** may not alias */
    return rows;
}
static inline int64_t dsc_table_count(const dsc_table *table, const void *owner)
{
    return *(int64_t *)dsc_member(owner, table->count);
}
static inline char **dsc_list_names(const dsc_name_list *list, const dsc_trace_head *head)
{
    return *(char ***)dsc_member(head, list->names);
}
static inline int64_t dsc_list_count(const dsc_name_list *list, const dsc_trace_head *head)
{
    return *(int64_t *)dsc_member(head, list->count);
}

#endif
