#include "trace/render.h"
#include "trace/schema.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- CSV */

static void add_csv_cell(const dsc_trace_head *head, const dsc_column *column, const char *row, dsc_text *out)
{
    const char *cell = row + column->offset;

    if (column->names != DSC_NAMES_NONE)
        dsc_text_add(out, "%s", dsc_list_names(&DSC_TRACE_NAMES[column->names], head)[*(const int32_t *)cell]);
    else if (column->type == DSC_COLUMN_INT32)
        dsc_text_add(out, "%" PRId32, *(const int32_t *)cell);
    else
        dsc_text_add(out, "%" PRId64, *(const int64_t *)cell);
}

/* The ops table has no texts and no reals. Names of lanes and kinds are ours and hold neither comma nor quote. */
dsc_status dsc_trace_export_csv(const dsc_trace *trace, dsc_text *out)
{
    const dsc_table *table = &DSC_TRACE_TABLES[DSC_TABLE_OPS];
    const char *row = dsc_table_rows(table, trace);

    for (int c = 0; c < table->column_count; c++) dsc_text_add(out, "%s%s", c > 0 ? "," : "", table->columns[c].name);
    dsc_text_add(out, "\n");
    for (int64_t i = 0; i < trace->op_count; i++, row += table->row_bytes)
        for (int c = 0; c < table->column_count; c++) {
            if (c > 0) dsc_text_add(out, ",");
            add_csv_cell(&trace->head, &table->columns[c], row, out);
            if (c == table->column_count - 1) dsc_text_add(out, "\n");
        }
    return dsc_text_finish(out);
}

/* ---- Chrome's trace event format, as Perfetto reads it: times are microseconds */

/* A name as a JSON string, quotes included; heap. NULL when it is no UTF-8. */
static char *quote(const char *name)
{
    json_t *value = json_string(name);
    char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY);

    json_decref(value);
    return text;
}

static void free_quoted(char **quoted, int64_t count)
{
    for (int64_t i = 0; quoted != NULL && i < count; i++) free(quoted[i]);
    free(quoted);
}

/* All names of a list, quoted once for all the events that use them. */
static dsc_status quote_all(char **names, int64_t count, char ***out)
{
    char **quoted = calloc((size_t)count + 1, sizeof *quoted);

    if (quoted == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld names", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        quoted[i] = quote(names[i]);
        if (quoted[i] != NULL) continue;
        free_quoted(quoted, count);
        return DSC_FAIL(DSC_EINVAL, "name %lld of the trace is no UTF-8", (long long)i);
    }
    *out = quoted;
    return DSC_OK;
}

/* What events separate: `,\n` before all but the first. */
static void begin_event(dsc_text *out, bool *is_first)
{
    dsc_text_add(out, *is_first ? "\n" : ",\n");
    *is_first = false;
}

/* "ph":"X" with name (quoted already), process, thread and times; the caller adds members and closes. */
static void add_event(dsc_text *out, bool *is_first, const char *name, int32_t pid, int32_t tid, int64_t start,
                      int64_t end)
{
    begin_event(out, is_first);
    dsc_text_add(out, "{\"ph\":\"X\",\"name\":%s,\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f", name, pid, tid,
                 (double)start / 1e3, (double)(end - start) / 1e3);
}

/* The name that the viewer shows for a process ("process_name") or a thread ("thread_name"). */
static void add_label(dsc_text *out, bool *is_first, const char *what, int32_t pid, int32_t tid, const char *quoted)
{
    begin_event(out, is_first);
    dsc_text_add(out, "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":%s}}", what, pid, tid,
                 quoted);
}

static int32_t highest_rank(const dsc_trace *trace)
{
    int32_t highest = -1;

    for (int64_t i = 0; i < trace->op_count; i++) highest = DSC_MAX(highest, trace->ops[i].rank);
    for (int64_t i = 0; i < trace->memory_count; i++) highest = DSC_MAX(highest, trace->memory[i].rank);
    return highest;
}

/* Labels every rank that has rows, and the lanes it uses. */
static dsc_status add_rank_labels(const dsc_trace *trace, char **lanes, dsc_text *out, bool *is_first)
{
    int64_t ranks = (int64_t)highest_rank(trace) + 1, places;
    char *is_used;

    if (!dsc_mul(ranks, DSC_MAX(trace->head.lane_count, 1), &places) ||
        (is_used = calloc((size_t)places + 1, 1)) == NULL)
        return DSC_FAIL(DSC_ENOMEM, "no memory for the lanes of %lld ranks", (long long)ranks);
    for (int64_t i = 0; i < trace->op_count; i++)
        is_used[trace->ops[i].rank * trace->head.lane_count + trace->ops[i].lane] = 1;
    for (int64_t i = 0; i < places; i++) {
        int32_t rank = (int32_t)(i / trace->head.lane_count), lane = (int32_t)(i % trace->head.lane_count);
        char name[32];

        if (!is_used[i]) continue;
        snprintf(name, sizeof name, "\"rank %d\"", rank);
        add_label(out, is_first, "process_name", rank, 0, name);
        add_label(out, is_first, "thread_name", rank, lane, lanes[lane]);
    }
    free(is_used);
    return DSC_OK;
}

static void add_ops(const dsc_trace *trace, char **kinds, dsc_text *out, bool *is_first)
{
    for (int64_t i = 0; i < trace->op_count; i++) {
        const dsc_op_row *row = &trace->ops[i];

        add_event(out, is_first, kinds[row->kind], row->rank, row->lane, row->t_start_ns, row->t_end_ns);
        dsc_text_add(out, ",\"args\":{\"step\":%d,\"op\":%d,\"layer\":%d,\"micro_batch\":%d,\"chunk\":%d,\"group\":%d,"
                          "\"bytes\":%" PRId64 ",\"flops\":%" PRId64 "}}",
                     row->step, row->op, row->layer, row->micro_batch, row->chunk, row->group, row->bytes, row->flops);
    }
}

static void add_memory(const dsc_trace *trace, char **spaces, dsc_text *out, bool *is_first)
{
    for (int64_t i = 0; i < trace->memory_count; i++) {
        const dsc_memory_row *row = &trace->memory[i];

        begin_event(out, is_first);
        dsc_text_add(out, "{\"ph\":\"C\",\"name\":%s,\"pid\":%d,\"ts\":%.3f,\"args\":{\"bytes\":%" PRId64 "}}",
                     spaces[row->space], row->rank, (double)row->t_ns / 1e3, row->bytes);
    }
}

/* Steps on thread 0 of a process of their own, links on the threads after it. */
static void add_run(const dsc_trace *trace, char **links, dsc_text *out, bool *is_first)
{
    int32_t pid = highest_rank(trace) + 1;

    add_label(out, is_first, "process_name", pid, 0, "\"run\"");
    add_label(out, is_first, "thread_name", pid, 0, "\"steps\"");
    for (int64_t i = 0; i < trace->step_count; i++) {
        const dsc_step_row *row = &trace->steps[i];
        char name[32];

        snprintf(name, sizeof name, "\"step %d\"", row->step);
        add_event(out, is_first, name, pid, 0, row->t_start_ns, row->t_end_ns);
        dsc_text_add(out, ",\"args\":{\"tokens\":%" PRId64 ",\"wire_bytes\":%" PRId64, row->tokens, row->wire_bytes);
        if (isfinite(row->loss)) dsc_text_add(out, ",\"loss\":%.9g", row->loss);
        dsc_text_add(out, "}}");
    }
    for (int64_t i = 0; i < trace->head.link_count; i++)
        add_label(out, is_first, "thread_name", pid, (int32_t)i + 1, links[i]);
    for (int64_t i = 0; i < trace->link_row_count; i++) {
        const dsc_link_row *row = &trace->link_rows[i];

        add_event(out, is_first, links[row->link], pid, row->link + 1, row->t_start_ns, row->t_end_ns);
        dsc_text_add(out, ",\"args\":{\"bytes\":%" PRId64 "}}", row->bytes);
    }
}

dsc_status dsc_trace_export_json(const dsc_trace *trace, dsc_text *out)
{
    char **quoted[DSC_NAMES_COUNT] = {NULL};
    bool is_first = true;
    dsc_status status = DSC_OK;

    for (int i = 0; i < DSC_NAMES_COUNT; i++)
        DSC_TRY(quote_all(dsc_list_names(&DSC_TRACE_NAMES[i], &trace->head),
                          dsc_list_count(&DSC_TRACE_NAMES[i], &trace->head), &quoted[i]));
    dsc_text_add(out, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
    DSC_TRY(add_rank_labels(trace, quoted[DSC_NAMES_LANES], out, &is_first));
    add_ops(trace, quoted[DSC_NAMES_KINDS], out, &is_first);
    add_memory(trace, quoted[DSC_NAMES_SPACES], out, &is_first);
    add_run(trace, quoted[DSC_NAMES_LINKS], out, &is_first);
    dsc_text_add(out, "\n]}\n");
    DSC_TRY(dsc_text_finish(out));
out:
    for (int i = 0; i < DSC_NAMES_COUNT; i++)
        free_quoted(quoted[i], dsc_list_count(&DSC_TRACE_NAMES[i], &trace->head));
    return status;
}
