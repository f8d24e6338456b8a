/* Lanes that are queues of the device. Threads hand ops over in order; a need of an op in another queue is a wait of
 * this queue for that op's event, so nobody here waits for what runs there, but who has to know: the host's lanes and
 * messages, which ask for the events, and the segment's end. Only ops that other lanes need have an event. */
#include "exec/internal.h"
#include <stdlib.h>
#include <string.h>

enum { ANCHORS = 16 };

static bool is_of_device(int lane)
{
    return lane == DSC_LANE_COMPUTE || lane == DSC_LANE_LOAD || lane == DSC_LANE_COPY_IN || lane == DSC_LANE_COPY_OUT;
}

/* ---- The device's clock */

/* The anchor of an empty queue, which the device passes between two readings of the host's clock: half of *width_ns off
 * at most. */
static dsc_status try_anchor(dsc_run *run, int64_t *width_ns)
{
    dsc_device *device = run->o.device;
    dsc_queue *queue = run->lanes[DSC_LANE_COMPUTE].queue;
    const int64_t before_ns = dsc_clock_ns();
    dsc_status status = DSC_OK;

    DSC_TRY(device->calls->record(device, queue, run->anchor));
    DSC_TRY(device->calls->sync(device, queue));
    *width_ns = dsc_clock_ns() - before_ns;
    run->anchor_ns = before_ns + *width_ns / 2;
out:
    return status;
}

/* What a try is off at most, of so many. */
static dsc_status measure_clock(dsc_run *run)
{
    int64_t width_ns, widest_ns = 0;
    dsc_status status = DSC_OK;

    for (int i = 0; i < ANCHORS; i++) {
        DSC_TRY(try_anchor(run, &width_ns));
        if (i > 0) widest_ns = DSC_MAX(widest_ns, width_ns); /* the first finds the device asleep */
    }
    run->uncertainty_ns = dsc_ceil_div(widest_ns, 2);
out:
    return status;
}

/* One that is as good as those that were measured, as the host may do something else in between. */
static dsc_status drop_anchor(dsc_run *run)
{
    int64_t width_ns = INT64_MAX;
    dsc_status status = DSC_OK;

    for (int i = 0; i < ANCHORS && width_ns / 2 > run->uncertainty_ns; i++) DSC_TRY(try_anchor(run, &width_ns));
out:
    return status;
}

/* ---- Life */

/* Which of the segment's ops have an event: is_needed[lane] is by place in the lane. */
static void note_needs(const dsc_unfolded *u, bool *const is_needed[DSC_LANE_COUNT])
{
    for (int64_t n = 0; n < u->need_count; n++) is_needed[u->needs[n].lane][u->needs[n].count - 1] = true;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (u->lane_counts[lane] > 0) is_needed[lane][u->lane_counts[lane] - 1] = true;
}

static dsc_status list_marks(const bool *is_needed, int64_t count, exec_marks *out)
{
    out->places = malloc((size_t)count * sizeof *out->places + 1);
    if (out->places == NULL) return DSC_FAIL(DSC_ENOMEM, "executor: events of %lld ops", (long long)count);
    for (int64_t i = 0; i < count; i++)
        if (is_needed[i]) out->places[out->count++] = (int32_t)i;
    return DSC_OK;
}

static dsc_status find_marks(dsc_run *run, int segment)
{
    const dsc_unfolded *u = &run->unfolded[segment];
    bool *is_needed[DSC_LANE_COUNT] = {NULL};
    dsc_status status = DSC_OK;

    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if ((is_needed[lane] = calloc((size_t)u->lane_counts[lane] + 1, 1)) == NULL)
            DSC_TRY(DSC_FAIL(DSC_ENOMEM, "executor: events of %lld ops", (long long)u->lane_counts[lane]));
    note_needs(u, is_needed);
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (run->lanes[lane].queue != NULL)
            DSC_TRY(list_marks(is_needed[lane], u->lane_counts[lane], &run->lanes[lane].marks[segment]));
out:
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) free(is_needed[lane]);
    return status;
}

/* More events until there are `count`. */
static dsc_status reserve_events(dsc_run *run, bool is_timed, int64_t count, dsc_event ***events, int64_t *there)
{
    dsc_event **more = realloc(*events, (size_t)(DSC_MAX(count, *there) + 1) * sizeof *more);
    dsc_status status = DSC_OK;

    if (more == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "executor: %lld events", (long long)count));
    *events = more;
    for (; *there < count; ++*there)
        DSC_TRY(run->o.device->calls->create_event(run->o.device, is_timed, &more[*there]));
out:
    return status;
}

/* Tokens of all ops load of a segment, each in its place. */
static int64_t count_load_bytes(dsc_run *run)
{
    int64_t loads = 0;

    for (int64_t t = 0; t < run->o.program->template_count; t++)
        for (int64_t c = 0; c < run->o.program->templates[t].call_count; c++) {
            const dsc_shape *shape = &run->o.program->templates[t].calls[c].shape;

            if (shape->kernel == DSC_K_LOAD) run->load_bytes = DSC_MAX(run->load_bytes, dsc_operand_bytes(shape, 0));
        }
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) loads = DSC_MAX(loads, run->unfolded[s].lane_counts[DSC_LANE_LOAD]);
    return loads * run->load_bytes;
}

static dsc_status create_constants(dsc_run *run)
{
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    DSC_TRY(device->calls->create_arena(device, DSC_MEMORY_DEVICE, sizeof run->step, &run->constants[0]));
    DSC_TRY(device->calls->create_arena(device, DSC_MEMORY_HOST, (int64_t)sizeof run->step + count_load_bytes(run),
                                        &run->constants[1]));
    run->device_step = (const dsc_step *)run->constants[0].base;
out:
    return status;
}

static bool has_ops(const dsc_run *run, int lane)
{
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++)
        if (run->unfolded[s].lane_counts[lane] > 0) return true;
    return lane == DSC_LANE_COMPUTE; /* in which the step is copied, too */
}

dsc_status exec_queues_create(dsc_run *run)
{
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    run->device_step = &run->step;
    if (!device->has_queues) return DSC_OK;
    DSC_TRY(create_constants(run));
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (is_of_device(lane) && has_ops(run, lane))
            DSC_TRY(device->calls->create_queue(device, &run->lanes[lane].queue));
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) DSC_TRY(find_marks(run, s));
    for (int which = 0; which < DSC_LANE_COUNT; which++) {
        exec_lane *lane = &run->lanes[which];

        for (int s = 0; s < DSC_SEGMENT_COUNT && lane->queue != NULL; s++)
            DSC_TRY(reserve_events(run, false, lane->marks[s].count, &lane->events, &lane->event_count));
    }
    DSC_TRY(device->calls->create_event(device, true, &run->anchor));
    DSC_TRY(measure_clock(run));
    DSC_TRY(exec_graphs_create(run));
out:
    return status;
}

int64_t dsc_run_clock_uncertainty_ns(const dsc_run *run) { return run->uncertainty_ns; }

static void destroy_events(dsc_run *run, dsc_event **events, int64_t count)
{
    for (int64_t i = 0; i < count; i++) run->o.device->calls->destroy_event(run->o.device, events[i]);
    free(events);
}

void exec_queues_destroy(dsc_run *run)
{
    dsc_device *device = run->o.device;

    if (!device->has_queues) return;
    exec_graphs_destroy(run);
    for (int which = 0; which < DSC_LANE_COUNT; which++) {
        exec_lane *lane = &run->lanes[which];

        device->calls->destroy_queue(device, lane->queue);
        destroy_events(run, lane->events, lane->event_count);
        destroy_events(run, lane->times, lane->time_count);
        for (int s = 0; s < DSC_SEGMENT_COUNT; s++) free(lane->marks[s].places);
    }
    device->calls->destroy_event(device, run->anchor);
    device->calls->destroy_arena(device, DSC_MEMORY_DEVICE, &run->constants[0]);
    device->calls->destroy_arena(device, DSC_MEMORY_HOST, &run->constants[1]);
}

dsc_status exec_queues_trace(dsc_run *run)
{
    dsc_status status = DSC_OK;

    for (int which = 0; which < DSC_LANE_COUNT; which++) {
        exec_lane *lane = &run->lanes[which];

        for (int s = 0; s < DSC_SEGMENT_COUNT && lane->queue != NULL; s++)
            DSC_TRY(reserve_events(run, true, 2 * run->unfolded[s].lane_counts[which], &lane->times,
                                   &lane->time_count));
    }
out:
    return status;
}

/* ---- A segment */

dsc_status exec_queues_begin(dsc_run *run)
{
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    if (!device->has_queues) return DSC_OK;
    for (int which = 0; which < DSC_LANE_COUNT; which++) {
        exec_lane *lane = &run->lanes[which];

        lane->recorded = lane->polled = 0;
        lane->first_row = lane->row_count;
    }
    if (run->is_traced) DSC_TRY(drop_anchor(run));
    memcpy(run->constants[1].base, &run->step, sizeof run->step);
    DSC_TRY(device->calls->copy(device, run->lanes[DSC_LANE_COMPUTE].queue, run->constants[0].base,
                                run->constants[1].base, sizeof run->step));
out:
    return status;
}

void *exec_load_place(dsc_run *run, int64_t index)
{
    return run->constants[1].base + sizeof run->step + index * run->load_bytes;
}

/* The event of the lane's op in that place, which is a mark. */
static dsc_event *event_at(const dsc_run *run, const exec_lane *lane, int32_t place)
{
    const exec_marks *marks = &lane->marks[run->segment];
    int64_t low = 0, high = marks->count - 1;

    while (low < high) {
        const int64_t middle = (low + high) / 2;

        if (marks->places[middle] < place) low = middle + 1;
        else high = middle;
    }
    return lane->events[low];
}

static dsc_event *time_of(const exec_lane *lane, int64_t row, bool is_end)
{
    return lane->times[2 * (row - lane->first_row) + is_end];
}

dsc_status exec_queue_before(dsc_run *run, exec_lane *lane, const dsc_instance *instance)
{
    const dsc_unfolded *unfolded = &run->unfolded[run->segment];
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    device->calls->enter(device, lane->queue);
    for (int32_t n = 0; n < instance->needs; n++) {
        const dsc_need need = unfolded->needs[instance->first_need + n];
        const exec_lane *other = &run->lanes[need.lane];

        if (other->queue != NULL && atomic_load(&other->done) < need.count)
            DSC_TRY(device->calls->wait(device, lane->queue, event_at(run, other, need.count - 1)));
    }
    if (run->is_traced) DSC_TRY(device->calls->record(device, lane->queue, time_of(lane, lane->row_count, false)));
out:
    return status;
}

dsc_status exec_queue_behind(dsc_run *run, exec_lane *lane)
{
    const exec_marks *marks = &lane->marks[run->segment];
    const bool is_mark = marks->places[lane->recorded] == atomic_load(&lane->handed); /* the last op is one */
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    if (run->is_traced) DSC_TRY(device->calls->record(device, lane->queue, time_of(lane, lane->row_count, true)));
    if (is_mark) DSC_TRY(device->calls->record(device, lane->queue, lane->events[lane->recorded++]));
out:
    return status;
}

static dsc_status poll_lane(dsc_run *run, exec_lane *lane, bool *has_moved)
{
    const exec_marks *marks = &lane->marks[run->segment];
    bool is_over = true;
    dsc_status status = DSC_OK;

    while (is_over && lane->polled < marks->count && marks->places[lane->polled] < atomic_load(&lane->handed)) {
        DSC_TRY(run->o.device->calls->test(run->o.device, lane->events[lane->polled], &is_over));
        if (!is_over) break;
        atomic_store(&lane->done, marks->places[lane->polled++] + 1);
        exec_progressed(run);
        *has_moved = true;
    }
out:
    return status;
}

dsc_status exec_queues_poll(dsc_run *run, bool *has_moved)
{
    dsc_status status = DSC_OK;

    for (int lane = 0; lane < DSC_LANE_COUNT && !run->is_noted; lane++)
        if (run->lanes[lane].queue != NULL) DSC_TRY(poll_lane(run, &run->lanes[lane], has_moved));
out:
    return status;
}

/* The rows of a lane get the times that the device passed their events, on the host's clock. */
static dsc_status read_times(dsc_run *run, exec_lane *lane)
{
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    for (int64_t i = lane->first_row; i < lane->row_count; i++) {
        DSC_TRY(device->calls->elapsed(device, run->anchor, time_of(lane, i, false), &lane->rows[i].t_start_ns));
        DSC_TRY(device->calls->elapsed(device, run->anchor, time_of(lane, i, true), &lane->rows[i].t_end_ns));
        lane->rows[i].t_start_ns += run->anchor_ns;
        lane->rows[i].t_end_ns += run->anchor_ns;
    }
out:
    return status;
}

dsc_status exec_queues_end(dsc_run *run)
{
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    if (!device->has_queues) return DSC_OK;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (run->lanes[lane].queue != NULL) DSC_TRY(device->calls->sync(device, run->lanes[lane].queue));
    for (int lane = 0; lane < DSC_LANE_COUNT && run->is_traced; lane++)
        if (run->lanes[lane].queue != NULL) DSC_TRY(read_times(run, &run->lanes[lane]));
out:
    return status;
}
