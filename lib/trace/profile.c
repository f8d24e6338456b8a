#include "trace/profile.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP_STEPS = 2 };

static int compare_int64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int compare_int32(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return (x > y) - (x < y);
}

/* Sorts values[count]; the mean of the middle two when count is even. */
static int64_t median(int64_t *values, int64_t count)
{
    qsort(values, (size_t)count, sizeof *values, compare_int64);
    if (count % 2 == 1) return values[count / 2];
    return values[count / 2 - 1] + (values[count / 2] - values[count / 2 - 1]) / 2;
}

static int32_t find_name(char **names, int64_t count, const char *name)
{
    for (int64_t i = 0; i < count; i++)
        if (dsc_equal(names[i], name)) return (int32_t)i;
    return -1;
}

int32_t dsc_lane_find(const dsc_trace *trace, const char *name)
{
    return find_name(trace->head.lanes, trace->head.lane_count, name);
}

int32_t dsc_kind_find(const dsc_trace *trace, const char *name)
{
    return find_name(trace->head.kinds, trace->head.kind_count, name);
}

/* ---- Steps */

static int64_t first_used(const dsc_trace *trace)
{
    return trace->head.is_measured && trace->step_count > WARM_UP_STEPS ? WARM_UP_STEPS : 0;
}

static int compare_by_path(const void *a, const void *b)
{
    const dsc_step_row *x = *(const dsc_step_row *const *)a, *y = *(const dsc_step_row *const *)b;
    int order = strcmp(x->path, y->path);

    return order != 0 ? order : (x > y) - (x < y);
}

/* The earliest of equals; NULL when there is no step. */
static dsc_status find_most_frequent_path(const dsc_trace *trace, const char **out)
{
    const dsc_step_row **rows = calloc((size_t)trace->step_count + 1, sizeof *rows), *best = NULL;
    int64_t count = 0, most = 0;

    if (rows == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld steps", (long long)trace->step_count);
    for (int64_t i = first_used(trace); i < trace->step_count; i++) rows[count++] = &trace->steps[i];
    qsort(rows, (size_t)count, sizeof *rows, compare_by_path);
    for (int64_t first = 0, end; first < count; first = end) {
        for (end = first + 1; end < count && dsc_equal(rows[end]->path, rows[first]->path);) end++;
        if (end - first < most || (end - first == most && rows[first] > best)) continue;
        most = end - first;
        best = rows[first];
    }
    *out = best != NULL ? best->path : NULL;
    free(rows);
    return DSC_OK;
}

static dsc_status take_steps(dsc_profile *profile)
{
    const dsc_trace *trace = profile->trace;
    int64_t *times = NULL;
    dsc_status status = DSC_OK;

    profile->steps = calloc((size_t)trace->step_count + 1, sizeof *profile->steps);
    times = calloc((size_t)trace->step_count + 1, sizeof *times);
    if (profile->steps == NULL || times == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %lld steps", (long long)trace->step_count);
        goto out;
    }
    for (int64_t i = first_used(trace); i < trace->step_count; i++) {
        const dsc_step_row *step = &trace->steps[i];

        if (!dsc_equal(step->path, profile->path)) {
            profile->other_count++;
            continue;
        }
        profile->steps[profile->step_count] = step->step;
        times[profile->step_count++] = step->t_end_ns - step->t_start_ns;
        profile->tokens = step->tokens;
    }
    if (profile->step_count == 0) {
        status =
            DSC_FAIL(DSC_EINVAL, "the %s trace has no step%s%s", trace->head.is_measured ? "measured" : "predicted",
                     profile->path != NULL ? " of path " : "", profile->path != NULL ? profile->path : "");
        goto out;
    }
    qsort(profile->steps, (size_t)profile->step_count, sizeof *profile->steps, compare_int32);
    profile->step_ns = median(times, profile->step_count);
    profile->least_ns = times[0];
    profile->most_ns = times[profile->step_count - 1];
out:
    free(times);
    return status;
}

/* ---- Ops */

static int compare_by_op(const void *a, const void *b)
{
    const dsc_op_row *x = a, *y = b;

    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->op != y->op) return x->op < y->op ? -1 : 1;
    return (x->step > y->step) - (x->step < y->step);
}

static int compare_by_start(const void *a, const void *b)
{
    const dsc_op_row *x = a, *y = b;

    if (x->step != y->step) return x->step < y->step ? -1 : 1;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return (x->t_start_ns > y->t_start_ns) - (x->t_start_ns < y->t_start_ns);
}

/* The rows of the profile's steps, on the heap. */
static dsc_status copy_rows(const dsc_profile *profile, dsc_op_row **out, int64_t *count)
{
    const dsc_trace *trace = profile->trace;
    dsc_op_row *rows = malloc(sizeof *rows * (size_t)(trace->op_count + 1));
    int64_t kept = 0;

    if (rows == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld rows", (long long)trace->op_count);
    for (int64_t i = 0; i < trace->op_count; i++)
        if (bsearch(&trace->ops[i].step, profile->steps, (size_t)profile->step_count, sizeof *profile->steps,
                    compare_int32) != NULL)
            rows[kept++] = trace->ops[i];
    *out = rows;
    *count = kept;
    return DSC_OK;
}

/* Adds the op whose rows, one or more a step, are rows[0..count). times is scratch [step_count]. */
static dsc_status add_op(dsc_profile *profile, const dsc_op_row *rows, int64_t count, int64_t *times)
{
    dsc_profile_op op = {.row = rows[0]};
    int64_t steps = 0;

    for (int64_t i = 0; i < count; i++) {
        int64_t time = rows[i].t_end_ns - rows[i].t_start_ns;

        if (i > 0 && rows[i].step == rows[i - 1].step) {
            if (op.row.op >= 0)
                return DSC_FAIL(DSC_EINVAL, "rank %d, op %d has two rows in step %d", op.row.rank, op.row.op,
                                rows[i].step);
            times[steps - 1] += time;
        } else {
            times[steps++] = time;
        }
    }
    if (steps < profile->step_count && op.row.op >= 0)
        return DSC_FAIL(DSC_EINVAL, "rank %d, op %d is in %lld of %lld steps of path %s", op.row.rank, op.row.op,
                        (long long)steps, (long long)profile->step_count, profile->path);
    while (steps < profile->step_count) times[steps++] = 0;
    op.time_ns = median(times, steps);
    return DSC_PUSH(profile->ops, profile->op_count, profile->op_capacity, op);
}

static dsc_status reduce_ops(dsc_profile *profile, const dsc_op_row *rows, int64_t count)
{
    int64_t *times = calloc((size_t)profile->step_count, sizeof *times);
    dsc_status status = DSC_OK;

    if (times == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %lld steps", (long long)profile->step_count);
    for (int64_t first = 0, end; status == DSC_OK && first < count; first = end) {
        for (end = first + 1; end < count && rows[end].rank == rows[first].rank && rows[end].op == rows[first].op;)
            end++;
        status = add_op(profile, rows + first, end - first, times);
        profile->rank_count += first == 0 || rows[first].rank != rows[first - 1].rank;
    }
    free(times);
    return status;
}

/* ---- Overlap */

/* Adds to *total what [start, end) adds to a union of intervals that come in the order of their starts and reach up to
 * *reached. */
static void cover(int64_t start, int64_t end, int64_t *reached, double *total)
{
    if (end <= *reached) return;
    *total += (double)(end - DSC_MAX(start, *reached));
    *reached = end;
}

/* rows ascend by (step, rank, start). */
static dsc_overlap measure_overlap(const dsc_profile *profile, const dsc_op_row *rows, int64_t count)
{
    int32_t compute = dsc_lane_find(profile->trace, "compute");
    int32_t unattributed = dsc_kind_find(profile->trace, "unattributed");
    int64_t compute_until = 0, other_until = 0, busy_until = 0;
    double parts = (double)profile->step_count * (double)DSC_MAX(profile->rank_count, 1);
    dsc_overlap sum = {0, 0, 0};

    for (int64_t i = 0; i < count; i++) {
        const dsc_op_row *row = &rows[i];
        bool is_compute = row->lane == compute;

        if (i == 0 || row->step != row[-1].step || row->rank != row[-1].rank)
            compute_until = other_until = busy_until = row->t_start_ns;
        if (row->kind == unattributed) continue;
        cover(row->t_start_ns, row->t_end_ns, &busy_until, &sum.busy_ns);
        cover(row->t_start_ns, row->t_end_ns, is_compute ? &compute_until : &other_until,
              is_compute ? &sum.compute_ns : &sum.other_ns);
    }
    return (dsc_overlap){sum.compute_ns / parts, sum.other_ns / parts, sum.busy_ns / parts};
}

dsc_status dsc_profile_create(const dsc_trace *trace, const char *path, dsc_profile *out)
{
    dsc_profile profile = {.trace = trace, .path = path};
    dsc_op_row *rows = NULL;
    int64_t count = 0;
    dsc_status status = DSC_OK;

    if (path == NULL) DSC_TRY(find_most_frequent_path(trace, &profile.path));
    DSC_TRY(take_steps(&profile));
    DSC_TRY(copy_rows(&profile, &rows, &count));
    qsort(rows, (size_t)count, sizeof *rows, compare_by_op);
    DSC_TRY(reduce_ops(&profile, rows, count));
    qsort(rows, (size_t)count, sizeof *rows, compare_by_start);
    profile.overlap = measure_overlap(&profile, rows, count);
    *out = profile;
    profile = (dsc_profile){0};
out:
    free(rows);
    dsc_profile_fini(&profile);
    return status;
}

void dsc_profile_fini(dsc_profile *profile)
{
    free(profile->steps);
    free(profile->ops);
    *profile = (dsc_profile){0};
}

/* ---- Cells */

static int compare_cells(const void *a, const void *b)
{
    const dsc_cell *x = a, *y = b;

    if (x->lane != y->lane) return x->lane < y->lane ? -1 : 1;
    if ((x->kind == DSC_IDLE) != (y->kind == DSC_IDLE)) return x->kind == DSC_IDLE ? 1 : -1;
    if (x->time_ns != y->time_ns) return x->time_ns > y->time_ns ? -1 : 1;
    return (x->kind > y->kind) - (x->kind < y->kind);
}

static void add_to_cell(dsc_cell *cell, const dsc_profile_op *op, const int64_t *predicted_ns, double ranks)
{
    bool is_predicted = predicted_ns != NULL && *predicted_ns >= 0;

    if (cell->ops++ == 0) {
        cell->lane = op->row.lane;
        cell->kind = op->row.kind;
        cell->predicted_ns = is_predicted ? 0 : NAN;
    }
    cell->time_ns += (double)op->time_ns / ranks;
    if (is_predicted) cell->predicted_ns += (double)*predicted_ns / ranks;
    if (op->row.flops > 0) cell->flops += (double)op->row.flops / ranks;
    if (op->row.bytes > 0) cell->bytes += (double)op->row.bytes / ranks;
}

static dsc_cell idle_cell(const dsc_profile *profile, const dsc_cell *cells, int64_t count, int64_t predicted_step_ns)
{
    dsc_cell idle = {.lane = dsc_lane_find(profile->trace, "compute"), .kind = DSC_IDLE,
                     .time_ns = (double)profile->step_ns, .predicted_ns = (double)predicted_step_ns};

    for (int64_t i = 0; i < count; i++) {
        if (cells[i].lane != idle.lane) continue;
        idle.time_ns -= cells[i].time_ns;
        if (!isnan(cells[i].predicted_ns)) idle.predicted_ns -= cells[i].predicted_ns;
    }
    idle.time_ns = fmax(idle.time_ns, 0); /* medians of ops may add up to more than the median step */
    idle.predicted_ns = fmax(idle.predicted_ns, 0);
    return idle;
}

dsc_status dsc_cells_create(const dsc_profile *profile, const int64_t *predicted_ns, int64_t predicted_step_ns,
                            dsc_cell **out, int64_t *count)
{
    const dsc_trace_head *head = &profile->trace->head;
    double ranks = (double)DSC_MAX(profile->rank_count, 1);
    int64_t places, used = 0;
    dsc_cell *cells;

    if (!dsc_mul(head->lane_count, head->kind_count, &places) || !dsc_add(places, 1, &places) ||
        (cells = calloc((size_t)places, sizeof *cells)) == NULL)
        return DSC_FAIL(DSC_ENOMEM, "no memory for %lld lanes by %lld kinds", (long long)head->lane_count,
                        (long long)head->kind_count);
    for (int64_t i = 0; i < profile->op_count; i++) {
        const dsc_profile_op *op = &profile->ops[i];

        add_to_cell(&cells[op->row.lane * head->kind_count + op->row.kind], op,
                    predicted_ns != NULL ? &predicted_ns[i] : NULL, ranks);
    }
    for (int64_t i = 0; i < places; i++)
        if (cells[i].ops > 0) cells[used++] = cells[i];
    cells[used] = idle_cell(profile, cells, used, predicted_step_ns);
    if (cells[used].lane >= 0) used++;
    qsort(cells, (size_t)used, sizeof *cells, compare_cells);
    *out = cells;
    *count = used;
    return DSC_OK;
}

const char *dsc_cell_kind(const dsc_trace *trace, const dsc_cell *cell)
{
    return cell->kind == DSC_IDLE ? "(idle)" : trace->head.kinds[cell->kind];
}
