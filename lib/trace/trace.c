#include "trace/trace.h"
#include "trace/schema.h"
#include <stdlib.h>
#include <string.h>

void dsc_trace_init(dsc_trace *out)
{
    *out = (dsc_trace){0};
}

static void free_names(char **names, int64_t count)
{
    for (int64_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

void dsc_trace_fini(dsc_trace *trace)
{
    free(trace->head.config);
    free(trace->head.cluster);
    free(trace->head.model);
    for (int i = 0; i < DSC_NAMES_COUNT; i++)
        free_names(dsc_list_names(&DSC_TRACE_NAMES[i], &trace->head),
                   dsc_list_count(&DSC_TRACE_NAMES[i], &trace->head));
    for (int i = 0; i < DSC_TABLE_COUNT; i++) free(dsc_table_rows(&DSC_TRACE_TABLES[i], trace));
    dsc_trace_init(trace);
}

dsc_status dsc_names_copy(const char *const *names, char ***list, int64_t *count)
{
    int64_t total = 0, copied = 0;
    char **copy;

    while (names[total] != NULL) total++;
    copy = calloc((size_t)total + 1, sizeof *copy); /* one more, so that an empty list is not NULL */
    if (copy == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld names", (long long)total);
    while (copied < total && (copy[copied] = strdup(names[copied])) != NULL) copied++;
    if (copied < total) {
        free_names(copy, copied);
        return DSC_FAIL(DSC_ENOMEM, "no memory for %lld names", (long long)total);
    }
    *list = copy;
    *count = total;
    return DSC_OK;
}
