#include "trace/render.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_CELLS = 14, WORST = 5, BAR_WIDTH = 24 };

/* Cells that a table for people has no room for. */
enum { OTHER_KINDS = -2 };

typedef struct diff {
    dsc_profile measured, predicted;
    int64_t *predicted_ns;         /* [measured.op_count]; -1: nothing to join (time outside ops) */
    dsc_cell *cells; int64_t cell_count;
    int64_t *worst; int64_t worst_count; /* measured ops, the most different first */
    double relative;
} diff;

/* ---- Joining */

typedef struct block { const dsc_profile_op *ops; int64_t count; } block; /* the ops of one rank, ascending */

static block find_block(const dsc_profile *profile, int32_t rank)
{
    int64_t first = 0, end;

    while (first < profile->op_count && profile->ops[first].row.rank < rank) first++;
    for (end = first; end < profile->op_count && profile->ops[end].row.rank == rank;) end++;
    while (first < end && profile->ops[first].row.op < 0) first++;
    return (block){profile->ops + first, end - first};
}

/* Whose rows stand for this rank in the prediction. */
static int32_t representative_of(const dsc_trace *predicted, int32_t rank)
{
    for (int64_t i = 0; i < predicted->rank_count; i++)
        if (predicted->ranks[i].rank == rank) return predicted->ranks[i].representative;
    return rank;
}

static dsc_status check_same(const dsc_profile *predicted, const dsc_op_row *p, const dsc_profile *measured,
                             const dsc_op_row *m)
{
    const dsc_trace_head *p_head = &predicted->trace->head, *m_head = &measured->trace->head;

    if (!dsc_equal(p_head->kinds[p->kind], m_head->kinds[m->kind]) ||
        !dsc_equal(p_head->lanes[p->lane], m_head->lanes[m->lane]))
        return DSC_FAIL(
            DSC_EINVAL, "rank %d, op %d is %s on lane %s in the prediction, %s on lane %s in the measurement", m->rank,
            m->op, p_head->kinds[p->kind], p_head->lanes[p->lane], m_head->kinds[m->kind], m_head->lanes[m->lane]);
    return DSC_OK;
}

/* Both blocks ascend by op and must hold the same ones; times go to predicted_ns, beside the measured block. */
static dsc_status join_blocks(const diff *diff, block predicted, block measured, int64_t *predicted_ns)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_MAX(predicted.count, measured.count); i++) {
        const dsc_op_row *p = i < predicted.count ? &predicted.ops[i].row : NULL;
        const dsc_op_row *m = i < measured.count ? &measured.ops[i].row : NULL;

        if (p == NULL || (m != NULL && m->op < p->op))
            return DSC_FAIL(DSC_EINVAL, "rank %d, op %d is measured and not predicted", m->rank, m->op);
        if (m == NULL || p->op < m->op)
            return DSC_FAIL(DSC_EINVAL, "rank %d, op %d is predicted and not measured", p->rank, p->op);
        DSC_TRY(check_same(&diff->predicted, p, &diff->measured, m));
        predicted_ns[i] = predicted.ops[i].time_ns;
    }
out:
    return status;
}

static dsc_status join(diff *diff)
{
    const dsc_profile *measured = &diff->measured;
    const dsc_trace *predicted = diff->predicted.trace;
    dsc_status status = DSC_OK;

    diff->predicted_ns = malloc(sizeof *diff->predicted_ns * (size_t)(measured->op_count + 1));
    if (diff->predicted_ns == NULL)
        return DSC_FAIL(DSC_ENOMEM, "no memory for %lld ops", (long long)measured->op_count);
    for (int64_t i = 0; i < measured->op_count;) {
        int32_t rank = measured->ops[i].row.rank;
        block here = {measured->ops + i, 0}, there = find_block(&diff->predicted, representative_of(predicted, rank));

        if (measured->ops[i].row.op < 0) { /* at most one a rank, and the first */
            diff->predicted_ns[i++] = -1;
            here.ops++;
        }
        while (i + here.count < measured->op_count && here.ops[here.count].row.rank == rank) here.count++;
        if (there.count == 0)
            return DSC_FAIL(DSC_EINVAL, "rank %d is measured and not predicted (nor is its representative %d)", rank,
                            representative_of(predicted, rank));
        DSC_TRY(join_blocks(diff, there, here, diff->predicted_ns + i));
        i += here.count;
    }
out:
    return status;
}

/* ---- What a comparison holds */

static int64_t gap_of(const diff *diff, int64_t op)
{
    return diff->predicted_ns[op] < 0 ? -1 : llabs(diff->predicted_ns[op] - diff->measured.ops[op].time_ns);
}

/* The same op on another rank: replicas differ alike, and a list for people needs the worst of them only. */
static bool is_twin(const dsc_op_row *a, const dsc_op_row *b)
{
    return a->op == b->op && a->kind == b->kind && a->layer == b->layer && a->micro_batch == b->micro_batch &&
           a->chunk == b->chunk;
}

/* Where the op's twin stands in the list, or the list's end. */
static int64_t place_of_twin(const diff *diff, int64_t op)
{
    int64_t place = 0;

    while (place < diff->worst_count &&
           !is_twin(&diff->measured.ops[diff->worst[place]].row, &diff->measured.ops[op].row))
        place++;
    return place;
}

/* Keeps the WORST largest gaps, the larger first, by insertion from where the op's twin, or the smallest, gives way. */
static dsc_status find_worst(diff *diff)
{
    diff->worst = calloc(WORST + 1, sizeof *diff->worst);
    if (diff->worst == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for the list of ops");
    for (int64_t op = 0; op < diff->measured.op_count; op++) {
        int64_t place = place_of_twin(diff, op);

        if (gap_of(diff, op) < 0) continue;
        if (place < diff->worst_count && gap_of(diff, diff->worst[place]) >= gap_of(diff, op)) continue;
        diff->worst_count = DSC_MIN(DSC_MAX(diff->worst_count, place + 1), WORST);
        for (; place > 0 && gap_of(diff, diff->worst[place - 1]) < gap_of(diff, op); place--)
            diff->worst[place] = diff->worst[place - 1];
        diff->worst[place] = op; /* there is room for one beyond the last, which is then not counted */
    }
    return DSC_OK;
}

static dsc_status make_diff(const dsc_trace *predicted, const dsc_trace *measured, diff *out)
{
    double p, m;
    dsc_status status = DSC_OK;

    if (!dsc_equal(predicted->head.program_hash, measured->head.program_hash))
        return DSC_FAIL(DSC_EINVAL, "the prediction is of program %s, the measurement of program %s",
                        predicted->head.program_hash, measured->head.program_hash);
    DSC_TRY(dsc_profile_create(measured, NULL, &out->measured));
    DSC_TRY(dsc_profile_create(predicted, out->measured.path, &out->predicted));
    DSC_TRY(join(out));
    DSC_TRY(dsc_cells_create(&out->measured, out->predicted_ns, out->predicted.step_ns, &out->cells, &out->cell_count));
    DSC_TRY(find_worst(out));
    p = (double)out->predicted.step_ns;
    m = (double)out->measured.step_ns;
    out->relative = m > 0 ? fabs(p - m) / m : p > 0 ? INFINITY : 0;
out:
    return status;
}

static void free_diff(diff *diff)
{
    free(diff->predicted_ns);
    free(diff->cells);
    free(diff->worst);
    dsc_profile_fini(&diff->measured);
    dsc_profile_fini(&diff->predicted);
}

/* ---- For people */

/* The smallest cell but the idle one and the sum of others, which have a meaning of their own. */
static int64_t smallest_cell(const diff *diff)
{
    int64_t smallest = -1;

    for (int64_t i = 0; i < diff->cell_count; i++)
        if (diff->cells[i].kind >= 0 &&
            (smallest < 0 || fmax(diff->cells[i].time_ns, diff->cells[i].predicted_ns) <
                                 fmax(diff->cells[smallest].time_ns, diff->cells[smallest].predicted_ns)))
            smallest = i;
    return smallest;
}

/* Sums the smallest cells into a last one, so that the table fits a screen. */
static void merge_small_cells(diff *diff)
{
    dsc_cell others = {.lane = -1, .kind = OTHER_KINDS};

    if (diff->cell_count <= MOST_CELLS) return;
    while (diff->cell_count >= MOST_CELLS) {
        int64_t smallest = smallest_cell(diff);
        dsc_cell *cell = &diff->cells[smallest];

        others.ops += cell->ops;
        others.time_ns += cell->time_ns;
        others.predicted_ns += isnan(cell->predicted_ns) ? 0 : cell->predicted_ns;
        for (int64_t i = smallest + 1; i < diff->cell_count; i++) diff->cells[i - 1] = diff->cells[i];
        diff->cell_count--;
    }
    diff->cells[diff->cell_count++] = others;
}

static dsc_short ratio_str(double measured, double predicted)
{
    dsc_short out = {"-"};

    if (predicted > 0) snprintf(out.str, sizeof out.str, "%.2f", measured / predicted);
    return out;
}

static void print_head(const diff *diff, dsc_text *out)
{
    const dsc_profile *measured = &diff->measured;

    dsc_text_add(out, "program %.12s on %lld ranks, path %s; measured: median of %lld steps",
                 measured->trace->head.program_hash, (long long)measured->rank_count, measured->path,
                 (long long)measured->step_count);
    if (measured->other_count > 0)
        dsc_text_add(out, " (%lld of other paths left out)", (long long)measured->other_count);
    dsc_text_add(out, "\ntimes are means over ranks; ratio is measured / predicted; "
                      "█ both, ▓ slower than predicted, ░ faster\n\n");
}

static void print_cells(const diff *diff, dsc_text *out)
{
    const dsc_trace *trace = diff->measured.trace;
    double longest = 0;
    dsc_text rows = {0};

    for (int64_t i = 0; i < diff->cell_count; i++)
        longest = fmax(longest, fmax(diff->cells[i].time_ns, diff->cells[i].predicted_ns));
    dsc_text_add(&rows, "lane\tkind\tops\tpredicted ms\tmeasured ms\tratio\t\n");
    for (int64_t i = 0; i < diff->cell_count; i++) {
        const dsc_cell *cell = &diff->cells[i];
        double predicted = isnan(cell->predicted_ns) ? 0 : cell->predicted_ns;

        dsc_text_add(&rows, "%s\t%s\t%lld\t%s\t%s\t%s\t", cell->lane < 0 ? "(all)" : trace->head.lanes[cell->lane],
                     cell->kind == OTHER_KINDS ? "(others)" : dsc_cell_kind(trace, cell), (long long)cell->ops,
                     dsc_ms_str(cell->predicted_ns).str, dsc_ms_str(cell->time_ns).str,
                     ratio_str(cell->time_ns, predicted).str);
        dsc_bar_add(&rows, cell->time_ns, predicted, longest, BAR_WIDTH);
        dsc_text_add(&rows, "\n");
    }
    dsc_table_print(dsc_text_str(&rows), out);
    out->failed |= rows.failed;
    dsc_text_fini(&rows);
}

static void print_worst(const diff *diff, dsc_text *out)
{
    const dsc_trace_head *head = &diff->measured.trace->head;
    dsc_text rows = {0};

    if (diff->worst_count == 0) return;
    dsc_text_add(&rows, "rank\top\tkind\tlane\tlayer\tmicro-batch\tpredicted ms\tmeasured ms\tratio\n");
    for (int64_t i = 0; i < diff->worst_count; i++) {
        const dsc_profile_op *op = &diff->measured.ops[diff->worst[i]];
        double predicted = (double)diff->predicted_ns[diff->worst[i]], measured = (double)op->time_ns;

        dsc_text_add(&rows, "%d\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", op->row.rank, op->row.op, head->kinds[op->row.kind],
                     head->lanes[op->row.lane], op->row.layer, op->row.micro_batch, dsc_ms_str(predicted).str,
                     dsc_ms_str(measured).str, ratio_str(measured, predicted).str);
    }
    dsc_text_add(out, "\nops that differ most (-1: not applicable)\n");
    dsc_table_print(dsc_text_str(&rows), out);
    out->failed |= rows.failed;
    dsc_text_fini(&rows);
}

static double hidden_percent(const dsc_overlap *overlap)
{
    double hidden = overlap->compute_ns + overlap->other_ns - overlap->busy_ns;

    return overlap->other_ns > 0 ? 100 * hidden / overlap->other_ns : 0;
}

static void print_steps(const diff *diff, dsc_text *out)
{
    const dsc_profile *predicted = &diff->predicted, *measured = &diff->measured;
    double sign = predicted->step_ns < measured->step_ns ? -1 : 1;

    dsc_text_add(out, "\n");
    if (measured->overlap.other_ns > 0)
        dsc_text_add(out, "work of other lanes hidden under compute: predicted %.0f %%, measured %.0f %%\n",
                     hidden_percent(&predicted->overlap), hidden_percent(&measured->overlap));
    dsc_text_add(out, "median step: predicted %s ms, measured %s ms, error %+.1f %%\n",
                 dsc_ms_str((double)predicted->step_ns).str, dsc_ms_str((double)measured->step_ns).str,
                 100 * sign * diff->relative);
}

dsc_status dsc_trace_diff(const dsc_trace *predicted, const dsc_trace *measured, dsc_text *out, double *relative)
{
    diff diff = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(make_diff(predicted, measured, &diff));
    merge_small_cells(&diff);
    print_head(&diff, out);
    print_cells(&diff, out);
    print_worst(&diff, out);
    print_steps(&diff, out);
    DSC_TRY(dsc_text_finish(out));
    *relative = diff.relative;
out:
    free_diff(&diff);
    return status;
}

/* ---- For programs */

static json_t *cells_json(const diff *diff)
{
    const dsc_trace *trace = diff->measured.trace;
    json_t *array = json_array();

    for (int64_t i = 0; i < diff->cell_count; i++) {
        const dsc_cell *cell = &diff->cells[i];

        json_array_append_new(array, json_pack("{s:s, s:s, s:I, s:o, s:o}", "lane", trace->head.lanes[cell->lane],
                                               "kind", dsc_cell_kind(trace, cell), "ops", (json_int_t)cell->ops,
                                               "predicted_s", dsc_json_seconds(cell->predicted_ns), "measured_s",
                                               dsc_json_seconds(cell->time_ns)));
    }
    return array;
}

static json_t *worst_json(const diff *diff)
{
    json_t *array = json_array();

    for (int64_t i = 0; i < diff->worst_count; i++) {
        const dsc_profile_op *op = &diff->measured.ops[diff->worst[i]];
        json_t *object = dsc_json_op(diff->measured.trace, &op->row);

        json_object_set_new(object, "predicted_s", dsc_json_seconds((double)diff->predicted_ns[diff->worst[i]]));
        json_object_set_new(object, "measured_s", dsc_json_seconds((double)op->time_ns));
        json_array_append_new(array, object);
    }
    return array;
}

dsc_status dsc_trace_diff_json(const dsc_trace *predicted, const dsc_trace *measured, dsc_text *out, double *relative)
{
    diff diff = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(make_diff(predicted, measured, &diff));
    DSC_TRY(dsc_json_finish(
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "program_hash", measured->head.program_hash,
                  "path", diff.measured.path, "ranks", (json_int_t)diff.measured.rank_count, "steps",
                  (json_int_t)diff.measured.step_count, "other_steps", (json_int_t)diff.measured.other_count,
                  "predicted_step_s", dsc_json_seconds((double)diff.predicted.step_ns), "measured_step_s",
                  dsc_json_seconds((double)diff.measured.step_ns), "relative",
                  isinf(diff.relative) ? json_null() : json_real(diff.relative), "rows", cells_json(&diff), "ops",
                  worst_json(&diff)),
        out));
    *relative = diff.relative;
out:
    free_diff(&diff);
    return status;
}
