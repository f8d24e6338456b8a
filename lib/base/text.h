/* Text that grows, tables for people, numbers with units, and the nearest of some names. */
#ifndef DSC_BASE_TEXT_H
#define DSC_BASE_TEXT_H

#include "base/array.h"
#include <stdarg.h>

/* A string under construction; {0} is empty. dsc_text_fini frees it. Running out of memory sets `failed` and drops
 * what did not fit, so that builders need no check for each line: whoever uses the text checks once. */
typedef struct dsc_text {
    char *bytes; /* NUL-terminated once anything was added; NULL before */
    int64_t count, capacity;
    bool failed;
} dsc_text;

/* Appends; a failure is noted in `failed`, and later calls do nothing. fini frees, and takes {0}. */
void dsc_text_add(dsc_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void dsc_text_add_v(dsc_text *text, const char *format, va_list arguments);
void dsc_text_fini(dsc_text *text);
const char *dsc_text_str(const dsc_text *text); /* "" when empty; borrowed until the text changes */

/* Appends the bytes of a file; "-" is standard input. No NUL ends them. DSC_EINVAL names the file and why it cannot be
 * read. */
dsc_status dsc_text_load(const char *path, dsc_text *out);

/* "1.50 GiB", "12.3 ms", "1.30 T": three significant digits, whole in the smallest unit. Pure. */
typedef struct dsc_short { char str[32]; } dsc_short;
dsc_short dsc_bytes_str(int64_t bytes);
dsc_short dsc_ns_str(int64_t ns);
dsc_short dsc_count_str(double count); /* K M G T P E Z, powers of 1000 */

/* Adds a table to *out: lines of cells separated by '\t', at most 64 a line. Columns of nothing but numbers (by their
 * first character) are aligned to the right. The first row is the head and is underlined. */
void dsc_table_print(const char *tab_separated_rows, dsc_text *out);

/* The name in names[0..count) nearest to word by edit distance, or NULL when none is near enough to be meant (distance
 * at most 2, or a third of the word). Borrowed from names. Pure. */
const char *dsc_nearest(const char *word, const char *const *names, int64_t count);

/* Whether two strings are equal; NULL equals nothing. */
bool dsc_equal(const char *a, const char *b);

#endif
