/* Any bytes as a table: refused with a message that names the place, or kept byte by byte, and still a table once a
 * column is added. For libFuzzer; csv.sh builds and runs it. */
#include "base/csv.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_kept(const dsc_csv *csv, const uint8_t *data, size_t size)
{
    dsc_text text = {0};

    dsc_csv_print(csv, &text);
    if (text.failed || (size_t)text.count != size || (size > 0 && memcmp(text.bytes, data, size) != 0)) abort();
    dsc_text_fini(&text);
}

/* What was set is read again. */
static void check_added(dsc_csv *csv)
{
    static const char set[] = "say \"no\",\nor";
    dsc_text text = {0};
    int64_t column = 0;
    dsc_csv again;

    if (dsc_csv_add(csv, "new", &column) != DSC_OK) abort();
    for (int64_t i = 1; i < csv->count; i++)
        if (csv->rows[i].count > 0 && dsc_csv_set(csv, i, column, set) != DSC_OK) abort();
    dsc_csv_print(csv, &text);
    if (dsc_csv_parse("input", text.bytes, text.count, &again) != DSC_OK || again.count != csv->count ||
        dsc_csv_find(&again, "new") != column)
        abort();
    for (int64_t i = 1; i < again.count; i++)
        if (again.rows[i].count > 0 && !dsc_equal(dsc_csv_text(&again, i, column), set)) abort();
    dsc_csv_fini(&again);
    dsc_text_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dsc_csv csv;
    dsc_status status = dsc_csv_parse("input", (const char *)data, (int64_t)size, &csv);

    if (status != DSC_OK && (status != DSC_EINVAL || strncmp(dsc_message(), "input:", 6) != 0)) abort();
    if (status == DSC_OK) {
        check_kept(&csv, data, size);
        if (csv.rows[0].count < 4096) check_added(&csv);
    }
    dsc_csv_fini(&csv);
    return 0;
}
