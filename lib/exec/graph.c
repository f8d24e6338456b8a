/* Segments of which no lane is the host's: what their queues are given is noted once, as a graph of the device, and is
 * launched at once from then on. What changes from step to step is in the struct that kernels read and in the tokens,
 * which the host reads to where the graph copies them from. Tokens apart, nothing of a step is the host's work then. */
#include "exec/internal.h"

static bool has_graphs(const dsc_run *run) { return run->o.device->calls->begin_graph != NULL; }

dsc_status exec_graphs_create(dsc_run *run)
{
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    if (!has_graphs(run)) return DSC_OK;
    DSC_TRY(device->calls->create_event(device, false, &run->fork));
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (run->lanes[lane].queue != NULL) DSC_TRY(device->calls->create_event(device, false, &run->joins[lane]));
out:
    return status;
}

void exec_graphs_destroy(dsc_run *run)
{
    dsc_device *device = run->o.device;

    if (!has_graphs(run)) return;
    device->calls->destroy_event(device, run->fork);
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) device->calls->destroy_event(device, run->joins[lane]);
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) device->calls->destroy_graph(device, run->graphs[s].graph);
}

/* The first run of a segment tells which addresses it hands out, and finds kernels that were never loaded. */
bool exec_graph_serves(const dsc_run *run)
{
    if (!has_graphs(run) || run->is_traced || !run->is_handed[run->segment] || run->o.fake_compute_ns > 0) return false;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (run->lanes[lane].queue == NULL && run->unfolded[run->segment].lane_counts[lane] > 0) return false;
    return true;
}

/* Queues beside compute's take part from its first op on, and it waits for their last. */
static dsc_status begin_branches(dsc_run *run)
{
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    DSC_TRY(device->calls->record(device, run->lanes[DSC_LANE_COMPUTE].queue, run->fork));
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (lane != DSC_LANE_COMPUTE && run->lanes[lane].queue != NULL)
            DSC_TRY(device->calls->wait(device, run->lanes[lane].queue, run->fork));
out:
    return status;
}

static dsc_status end_branches(dsc_run *run)
{
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
        if (lane == DSC_LANE_COMPUTE || run->lanes[lane].queue == NULL) continue;
        DSC_TRY(device->calls->record(device, run->lanes[lane].queue, run->joins[lane]));
        DSC_TRY(device->calls->wait(device, run->lanes[DSC_LANE_COMPUTE].queue, run->joins[lane]));
    }
out:
    return status;
}

static dsc_status note(dsc_run *run, exec_graph *out)
{
    const int64_t before[] = {atomic_load(&run->copied_bytes[0]), atomic_load(&run->copied_bytes[1])};
    dsc_device *device = run->o.device;
    dsc_queue *queue = run->lanes[DSC_LANE_COMPUTE].queue;
    dsc_status status = DSC_OK;

    DSC_TRY(device->calls->begin_graph(device, queue));
    run->is_noted = true;
    DSC_TRY(begin_branches(run));
    exec_hand_over(run);
    if (atomic_load(&run->has_failed)) goto out;
    DSC_TRY(end_branches(run));
    DSC_TRY(device->calls->end_graph(device, queue, &out->graph));
    for (int way = 0; way < 2; way++) {
        out->copied_bytes[way] = atomic_load(&run->copied_bytes[way]) - before[way];
        atomic_store(&run->copied_bytes[way], before[way]);
    }
out:
    run->is_noted = false;
    return status;
}

static dsc_status read_all_tokens(dsc_run *run)
{
    const dsc_unfolded *unfolded = &run->unfolded[run->segment];
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < unfolded->lane_counts[DSC_LANE_LOAD]; i++) {
        const dsc_instance *instance = &unfolded->lanes[DSC_LANE_LOAD][i];
        const dsc_use *use = &run->o.program->segments[run->segment].uses[instance->use];
        const dsc_op *op = &run->o.program->templates[use->template_].ops[instance->index];

        if (!exec_is_omitted(run, use, instance->index))
            DSC_TRY(exec_read_tokens(run, use, op, exec_load_place(run, i)));
    }
out:
    return status;
}

dsc_status exec_graph_run(dsc_run *run)
{
    exec_graph *graph = &run->graphs[run->segment];
    dsc_device *device = run->o.device;
    dsc_status status = DSC_OK;

    if (graph->graph == NULL) DSC_TRY(note(run, graph));
    if (atomic_load(&run->has_failed)) goto out;
    DSC_TRY(read_all_tokens(run));
    DSC_TRY(device->calls->launch(device, run->lanes[DSC_LANE_COMPUTE].queue, graph->graph));
    for (int way = 0; way < 2; way++) atomic_fetch_add(&run->copied_bytes[way], graph->copied_bytes[way]);
out:
    return status;
}
