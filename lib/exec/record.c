/* Rows of what was measured: ops as they ran, the time between them, and the arena's high water over time. */
#include "exec/internal.h"
#include <stdlib.h>

dsc_status exec_record(dsc_run *run, exec_lane *lane, dsc_instance instance, const dsc_op *op, int64_t t_start_ns,
                       int64_t bytes, int64_t flops)
{
    const dsc_use *use = &run->o.program->segments[run->segment].uses[instance.use];
    dsc_op_row row = {.step = (int32_t)run->step.number,
                      .rank = (int32_t)run->rank,
                      .op = (int32_t)(use->base + instance.index),
                      .lane = op->lane,
                      .kind = op->kind,
                      .layer = op->layer,
                      .micro_batch = use->micro_batch,
                      .chunk = use->chunk,
                      .group = -1,
                      .t_start_ns = t_start_ns,
                      .bytes = bytes,
                      .flops = flops};

    if (!run->is_traced) return DSC_OK;
    if (op->axis >= 0) row.group = (int32_t)dsc_plan_group(run->o.plan, run->rank, op->axis);
    row.t_end_ns = dsc_clock_ns();
    if (DSC_PUSH(lane->rows, lane->row_count, lane->row_capacity, row) != DSC_OK)
        return DSC_FAIL(DSC_ENOMEM, "executor: %lld rows of a step", (long long)lane->row_count);
    return DSC_OK;
}

/* ---- Gaps: where no lane of the rank is busy */

static int by_start(const void *a, const void *b)
{
    const dsc_op_row *x = a, *y = b;

    if (x->t_start_ns != y->t_start_ns) return x->t_start_ns < y->t_start_ns ? -1 : 1;
    return x->op - y->op;
}

static dsc_status add_gap(dsc_run *run, dsc_trace *rows, int64_t start, int64_t end)
{
    dsc_op_row row = {.step = (int32_t)run->step.number, .rank = (int32_t)run->rank, .op = -1, .lane = DSC_LANE_COMPUTE,
                      .kind = DSC_KIND_UNATTRIBUTED, .layer = -1, .micro_batch = -1, .chunk = -1, .group = -1,
                      .t_start_ns = start, .t_end_ns = end};

    if (end <= start) return DSC_OK;
    return DSC_PUSH(rows->ops, rows->op_count, rows->op_capacity, row);
}

static dsc_status add_gaps(dsc_run *run, int64_t t_start_ns, int64_t t_end_ns, dsc_trace *rows)
{
    int64_t reached = t_start_ns, count = rows->op_count;
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < count; i++) {
        int64_t start = rows->ops[i].t_start_ns, end = rows->ops[i].t_end_ns;

        DSC_TRY(add_gap(run, rows, reached, start));
        reached = DSC_MAX(reached, end);
    }
    DSC_TRY(add_gap(run, rows, reached, t_end_ns));
out:
    return status;
}

/* ---- Memory: starts and ends of ops in the order of time, through the ledger's own bookkeeping */

/* At one instant what ends goes first: its bytes are free for what starts. */
static int by_time(const void *a, const void *b)
{
    const exec_moment *x = a, *y = b;

    if (x->t_ns != y->t_ns) return x->t_ns < y->t_ns ? -1 : 1;
    if (x->is_start != y->is_start) return x->is_start ? 1 : -1;
    return x->row->op - y->row->op;
}

/* A row for each space whose end is not what the last row says. */
static dsc_status add_memory(dsc_run *run, dsc_trace *rows, int64_t t_ns)
{
    dsc_status status = DSC_OK;

    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        dsc_memory_row row = {(int32_t)run->step.number, (int32_t)run->rank, space, t_ns,
                              dsc_extent_bytes(run->extent, space)};

        if (row.bytes == run->traced_bytes[space]) continue;
        run->traced_bytes[space] = row.bytes;
        DSC_TRY(DSC_PUSH(rows->memory, rows->memory_count, rows->memory_capacity, row));
    }
out:
    return status;
}

static dsc_status replay(dsc_run *run, const exec_moment *moments, int64_t count, dsc_trace *rows)
{
    dsc_status status = DSC_OK;
    int segment = -1;

    for (int64_t i = 0; i < count; i++) {
        dsc_place_of_op place;

        if (!dsc_program_find(run->o.program, moments[i].row->op, &place)) continue;
        if (place.segment != segment) dsc_extent_segment_start(run->extent);
        segment = place.segment;
        if (moments[i].is_start) dsc_extent_op_start(run->extent, place.segment, place.use, place.index);
        else dsc_extent_op_end(run->extent, place.segment, place.use, place.index);
        DSC_TRY(add_memory(run, rows, moments[i].t_ns));
    }
out:
    return status;
}

static dsc_status add_memory_rows(dsc_run *run, int64_t op_count, int64_t t_start_ns, dsc_trace *rows)
{
    exec_moment *moments = run->moments; /* reserved for all ops of the program */
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < op_count; i++) {
        moments[2 * i] = (exec_moment){rows->ops[i].t_start_ns, &rows->ops[i], true};
        moments[2 * i + 1] = (exec_moment){rows->ops[i].t_end_ns, &rows->ops[i], false};
    }
    qsort(moments, (size_t)(2 * op_count), sizeof *moments, by_time);
    dsc_extent_segment_start(run->extent);
    DSC_TRY(add_memory(run, rows, t_start_ns));
    DSC_TRY(replay(run, moments, 2 * op_count, rows));
out:
    return status;
}

/* Room for all ops of the program, a gap before and behind each, and a row of each memory at its start and end: so no
 * step finds less than one before it, however its ops and gaps lie. */
static dsc_status reserve_rows(const dsc_run *run, dsc_trace *rows)
{
    const int64_t ops = run->moment_capacity / 2, moments = DSC_SPACE_COUNT * (2 * ops + 1);
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_array_reserve(&rows->ops, &rows->op_capacity, 2 * ops + 1, sizeof *rows->ops));
    DSC_TRY(dsc_array_reserve(&rows->memory, &rows->memory_capacity, moments, sizeof *rows->memory));
out:
    return status;
}

dsc_status exec_collect(dsc_run *run, int64_t t_start_ns, int64_t t_end_ns, dsc_trace *rows)
{
    dsc_status status = DSC_OK;
    int64_t op_count;

    DSC_TRY(reserve_rows(run, rows));
    rows->op_count = rows->memory_count = 0;
    for (int which = 0; which < DSC_LANE_COUNT; which++) {
        exec_lane *lane = &run->lanes[which];

        for (int64_t i = 0; i < lane->row_count; i++)
            DSC_TRY(DSC_PUSH(rows->ops, rows->op_count, rows->op_capacity, lane->rows[i]));
        lane->row_count = 0;
    }
    op_count = rows->op_count;
    qsort(rows->ops, (size_t)op_count, sizeof *rows->ops, by_start);
    DSC_TRY(add_memory_rows(run, op_count, t_start_ns, rows));
    DSC_TRY(add_gaps(run, t_start_ns, t_end_ns, rows));
out:
    return status;
}

/* ---- ASan: no kernel touches what is not alive */

#if defined __SANITIZE_ADDRESS__
/* Where an op waits for what it touches alone, a buffer may begin to live while another still does at the other end of
 * its place: what dies leaves alone where others live. Of the process' one run, under its mutex. */
typedef struct life { int space; int64_t first, end; } life;
enum { MOST_LIVES = 4096 };
static life lives[MOST_LIVES];
static int64_t life_count;

static life life_of(const dsc_run *run, int32_t buffer, const dsc_use *use)
{
    const dsc_buffer *b = &run->o.program->buffers[buffer];
    int64_t offset = dsc_program_offset(run->o.program, (dsc_span){buffer, 0, 0, 0}, use);

    return (life){b->space, offset, offset + b->bytes};
}

static void begin_life(const dsc_run *run, life l)
{
    if (life_count < MOST_LIVES) lives[life_count++] = l;
    dsc_arena_unpoison(&run->arenas[l.space], l.first, l.end - l.first);
}

/* The end of the life, if there is one, that covers `at`, else -1; *next: where the next one begins. */
static int64_t covered_until(int space, int64_t at, int64_t *next)
{
    int64_t end = -1;

    for (int64_t i = 0; i < life_count; i++) {
        if (lives[i].space != space) continue;
        if (lives[i].first <= at && at < lives[i].end) end = DSC_MAX(end, lives[i].end);
        if (lives[i].first > at) *next = DSC_MIN(*next, lives[i].first);
    }
    return end;
}

static void end_life(const dsc_run *run, life l)
{
    int64_t i = 0;

    while (i < life_count && (lives[i].space != l.space || lives[i].first != l.first || lives[i].end != l.end)) i++;
    if (i < life_count) lives[i] = lives[--life_count];
    for (int64_t at = l.first, next; at < l.end; at = next) {
        int64_t covered;

        next = l.end;
        covered = covered_until(l.space, at, &next);
        if (covered >= 0) next = covered;
        else dsc_arena_poison(&run->arenas[l.space], at, next - at);
    }
}

void exec_poison_segment(dsc_run *run)
{
    if (run->o.device->has_queues) return;
    life_count = 0;
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        int64_t first = run->o.program->regions[space][DSC_LIFE_SLOT].base;

        dsc_arena_poison(&run->arenas[space], first, run->o.program->arena_bytes[space] - first);
    }
}

void exec_poison_op(dsc_run *run, const dsc_use *use, int32_t index, bool is_start)
{
    const dsc_template *template_ = &run->o.program->templates[use->template_];
    const int64_t count = run->o.device->has_queues ? 0 : template_->lifetime_count;

    for (int64_t i = 0; i < count; i++) {
        const dsc_lifetime *l = &template_->lifetimes[i];

        if (is_start ? l->born != index : l->dies != index) continue;
        pthread_mutex_lock(&run->mutex);
        if (is_start) begin_life(run, life_of(run, l->buffer, use));
        else end_life(run, life_of(run, l->buffer, use));
        pthread_mutex_unlock(&run->mutex);
    }
}
#else
void exec_poison_segment(dsc_run *run) { (void)run; }
void exec_poison_op(dsc_run *run, const dsc_use *use, int32_t index, bool is_start)
{
    (void)run, (void)use, (void)index, (void)is_start;
}
#endif
