#include "trace/render.h"
#include <math.h>
#include <stdlib.h>

enum { SLOWEST = 10, BAR_WIDTH = 24 };

/* ---- Memory */

typedef struct peak { int64_t bytes; int32_t rank; } peak; /* bytes -1: the space has no row */

static dsc_status find_peaks(const dsc_trace *trace, peak **out)
{
    peak *peaks = calloc((size_t)trace->head.space_count + 1, sizeof *peaks);

    if (peaks == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld spaces", (long long)trace->head.space_count);
    for (int64_t i = 0; i < trace->head.space_count; i++) peaks[i].bytes = -1;
    for (int64_t i = 0; i < trace->memory_count; i++) {
        const dsc_memory_row *row = &trace->memory[i];

        if (row->bytes > peaks[row->space].bytes) peaks[row->space] = (peak){row->bytes, row->rank};
    }
    *out = peaks;
    return DSC_OK;
}

/* ---- What a summary holds */

typedef struct summary {
    const dsc_trace *trace;
    dsc_profile profile;
    dsc_cell *cells; int64_t cell_count;
    peak *peaks;
    const dsc_profile_op **slowest; int64_t slowest_count; /* the longest first */
} summary;

static int compare_by_time(const void *a, const void *b)
{
    const dsc_profile_op *x = *(const dsc_profile_op *const *)a, *y = *(const dsc_profile_op *const *)b;

    if (x->time_ns != y->time_ns) return x->time_ns > y->time_ns ? -1 : 1;
    return (x > y) - (x < y);
}

static dsc_status find_slowest(summary *summary)
{
    const dsc_profile *profile = &summary->profile;

    summary->slowest = calloc((size_t)profile->op_count + 1, sizeof *summary->slowest);
    if (summary->slowest == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld ops", (long long)profile->op_count);
    for (int64_t i = 0; i < profile->op_count; i++)
        if (profile->ops[i].row.op >= 0) summary->slowest[summary->slowest_count++] = &profile->ops[i];
    qsort(summary->slowest, (size_t)summary->slowest_count, sizeof *summary->slowest, compare_by_time);
    summary->slowest_count = DSC_MIN(summary->slowest_count, SLOWEST);
    return DSC_OK;
}

static dsc_status make_summary(const dsc_trace *trace, summary *out)
{
    dsc_status status = DSC_OK;

    out->trace = trace;
    DSC_TRY(dsc_profile_create(trace, NULL, &out->profile));
    DSC_TRY(dsc_cells_create(&out->profile, NULL, 0, &out->cells, &out->cell_count));
    DSC_TRY(find_peaks(trace, &out->peaks));
    DSC_TRY(find_slowest(out));
out:
    return status;
}

static void free_summary(summary *summary)
{
    free(summary->cells);
    free(summary->peaks);
    free(summary->slowest);
    dsc_profile_fini(&summary->profile);
}

static double hidden_ns(const dsc_overlap *overlap)
{
    return overlap->compute_ns + overlap->other_ns - overlap->busy_ns;
}

static double idle_ns(const dsc_profile *profile)
{
    return fmax((double)profile->step_ns - profile->overlap.busy_ns, 0);
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

/* ---- For people */

static void print_head(const summary *summary, dsc_text *out)
{
    const dsc_profile *profile = &summary->profile;
    double seconds = (double)profile->step_ns / 1e9;

    dsc_text_add(out, "%s, program %.12s, %lld ranks, %lld steps of path %s",
                 summary->trace->head.is_measured ? "measured" : "predicted", summary->trace->head.program_hash,
                 (long long)profile->rank_count, (long long)profile->step_count, profile->path);
    if (profile->other_count > 0) dsc_text_add(out, " (%lld of other paths left out)", (long long)profile->other_count);
    dsc_text_add(out, "\nstep %s", dsc_ns_str(profile->step_ns).str);
    if (profile->step_count > 1)
        dsc_text_add(out, " (median; %s to %s)", dsc_ns_str(profile->least_ns).str, dsc_ns_str(profile->most_ns).str);
    if (profile->tokens > 0 && seconds > 0)
        dsc_text_add(out, ", %s tokens/s", dsc_count_str((double)profile->tokens / seconds).str);
    dsc_text_add(out, "\n\n");
}

static void add_rate(const dsc_cell *cell, dsc_text *rows)
{
    double seconds = cell->time_ns / 1e9;

    if (seconds <= 0) return;
    if (cell->flops > 0) dsc_text_add(rows, "%sFLOP/s", dsc_count_str(cell->flops / seconds).str);
    else if (cell->bytes > 0) dsc_text_add(rows, "%sB/s", dsc_count_str(cell->bytes / seconds).str);
}

static void print_cells(const summary *summary, dsc_text *out)
{
    double step = (double)summary->profile.step_ns;
    dsc_text rows = {0};

    dsc_text_add(&rows, "lane\tkind\tops\tms a rank\t%% of step\trate\t\n");
    for (int64_t i = 0; i < summary->cell_count; i++) {
        const dsc_cell *cell = &summary->cells[i];

        dsc_text_add(&rows, "%s\t%s\t%lld\t%s\t%.1f\t", summary->trace->head.lanes[cell->lane],
                     dsc_cell_kind(summary->trace, cell), (long long)cell->ops, dsc_ms_str(cell->time_ns).str,
                     percent(cell->time_ns, step));
        add_rate(cell, &rows);
        dsc_text_add(&rows, "\t");
        dsc_bar_add(&rows, cell->time_ns, cell->time_ns, step, BAR_WIDTH);
        dsc_text_add(&rows, "\n");
    }
    dsc_table_print(dsc_text_str(&rows), out);
    out->failed |= rows.failed;
    dsc_text_fini(&rows);
}

static void print_overlap(const dsc_profile *profile, dsc_text *out)
{
    const dsc_overlap *overlap = &profile->overlap;

    dsc_text_add(
        out, "\ncompute %s a rank; other lanes %s, of which %s (%.0f %%) under compute; no lane busy %s (%.1f %%)\n",
        dsc_ns_str((int64_t)overlap->compute_ns).str, dsc_ns_str((int64_t)overlap->other_ns).str,
        dsc_ns_str((int64_t)hidden_ns(overlap)).str, percent(hidden_ns(overlap), overlap->other_ns),
        dsc_ns_str((int64_t)idle_ns(profile)).str, percent(idle_ns(profile), (double)profile->step_ns));
}

static void print_peaks(const summary *summary, dsc_text *out)
{
    for (int64_t i = 0; i < summary->trace->head.space_count; i++)
        if (summary->peaks[i].bytes >= 0)
            dsc_text_add(out, "peak of %s memory %s, on rank %d\n", summary->trace->head.spaces[i],
                         dsc_bytes_str(summary->peaks[i].bytes).str, summary->peaks[i].rank);
}

static void print_slowest(const summary *summary, dsc_text *out)
{
    const dsc_trace_head *head = &summary->trace->head;
    dsc_text rows = {0};

    dsc_text_add(&rows, "rank\top\tkind\tlane\tlayer\tmicro-batch\tchunk\tms\n");
    for (int64_t i = 0; i < summary->slowest_count; i++) {
        const dsc_op_row *row = &summary->slowest[i]->row;

        dsc_text_add(&rows, "%d\t%d\t%s\t%s\t%d\t%d\t%d\t%s\n", row->rank, row->op, head->kinds[row->kind],
                     head->lanes[row->lane], row->layer, row->micro_batch, row->chunk,
                     dsc_ms_str((double)summary->slowest[i]->time_ns).str);
    }
    dsc_text_add(out, "\nslowest ops (-1: not applicable)\n");
    dsc_table_print(dsc_text_str(&rows), out);
    out->failed |= rows.failed;
    dsc_text_fini(&rows);
}

dsc_status dsc_trace_summary(const dsc_trace *trace, dsc_text *out)
{
    summary summary = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(make_summary(trace, &summary));
    print_head(&summary, out);
    print_cells(&summary, out);
    print_overlap(&summary.profile, out);
    print_peaks(&summary, out);
    print_slowest(&summary, out);
    DSC_TRY(dsc_text_finish(out));
out:
    free_summary(&summary);
    return status;
}

/* ---- For programs */

static json_t *cells_json(const summary *summary)
{
    json_t *array = json_array();

    for (int64_t i = 0; i < summary->cell_count; i++) {
        const dsc_cell *cell = &summary->cells[i];

        json_array_append_new(
            array, json_pack("{s:s, s:s, s:I, s:o, s:f, s:f}", "lane", summary->trace->head.lanes[cell->lane], "kind",
                             dsc_cell_kind(summary->trace, cell), "ops", (json_int_t)cell->ops, "time_s",
                             dsc_json_seconds(cell->time_ns), "flops", cell->flops, "bytes", cell->bytes));
    }
    return array;
}

static json_t *slowest_json(const summary *summary)
{
    json_t *array = json_array();

    for (int64_t i = 0; i < summary->slowest_count; i++) {
        json_t *op = dsc_json_op(summary->trace, &summary->slowest[i]->row);

        json_object_set_new(op, "time_s", dsc_json_seconds((double)summary->slowest[i]->time_ns));
        json_array_append_new(array, op);
    }
    return array;
}

static json_t *peaks_json(const summary *summary)
{
    json_t *object = json_object();

    for (int64_t i = 0; i < summary->trace->head.space_count; i++)
        if (summary->peaks[i].bytes >= 0)
            json_object_set_new(object, summary->trace->head.spaces[i],
                                json_pack("{s:I, s:i}", "peak_bytes", (json_int_t)summary->peaks[i].bytes, "rank",
                                          summary->peaks[i].rank));
    return object;
}

dsc_status dsc_trace_summary_json(const dsc_trace *trace, dsc_text *out)
{
    summary summary = {0};
    const dsc_profile *profile = &summary.profile;
    const dsc_overlap *overlap = &profile->overlap;
    dsc_status status = DSC_OK;

    DSC_TRY(make_summary(trace, &summary));
    status = dsc_json_finish(
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "kind",
                  trace->head.is_measured ? "measured" : "predicted", "program_hash", trace->head.program_hash, "path",
                  profile->path, "ranks", (json_int_t)profile->rank_count, "steps", (json_int_t)profile->step_count,
                  "other_steps", (json_int_t)profile->other_count, "tokens", (json_int_t)profile->tokens, "step_s",
                  dsc_json_seconds((double)profile->step_ns), "step_min_s", dsc_json_seconds((double)profile->least_ns),
                  "step_max_s", dsc_json_seconds((double)profile->most_ns), "compute_s",
                  dsc_json_seconds(overlap->compute_ns), "other_lanes_s", dsc_json_seconds(overlap->other_ns),
                  "overlap_s", dsc_json_seconds(hidden_ns(overlap)), "idle_s", dsc_json_seconds(idle_ns(profile)),
                  "rows", cells_json(&summary), "slowest", slowest_json(&summary), "memory", peaks_json(&summary)),
        out);
out:
    free_summary(&summary);
    return status;
}
