#include "sim/record.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct dsc_recorder {
    const dsc_plan *plan;
    const dsc_fabric *fabric;
    dsc_trace *trace;
    int32_t step;
    int64_t *first;    /* [simulated + 1] into traced: the ranks whose rows a simulated rank writes */
    int64_t *traced; int64_t traced_count;
    int32_t *link_of; int64_t link_capacity, link_count; /* by resource: number in the head's list; -1 */
    int64_t name_capacity;
};

/* ---- Whose rows are written */

static bool is_traced(const dsc_sim_options *options, int64_t rank, bool is_simulated)
{
    if (options->ranks == DSC_RANKS_ALL) return true;
    if (options->ranks == DSC_RANKS_FOLDED) return is_simulated;
    for (int64_t i = 0; i < options->list_count; i++)
        if (options->list[i] == rank) return true;
    return false;
}

/* Sorts the traced ranks by the simulated one that stands for them. */
static void choose_ranks(dsc_recorder *recorder, const dsc_sim_options *options, const int64_t *simulated,
                         int64_t count, bool folded)
{
    const dsc_plan *plan = recorder->plan;
    int64_t traced = 0;

    for (int64_t which = 0; which < count; which++) {
        recorder->first[which] = traced;
        for (int64_t rank = 0; rank < plan->ranks; rank++) {
            int64_t stands_for_it = folded ? dsc_plan_representative(plan, rank) : rank;

            if (stands_for_it == simulated[which] && is_traced(options, rank, rank == stands_for_it))
                recorder->traced[traced++] = rank;
        }
    }
    recorder->first[count] = recorder->traced_count = traced;
}

/* /ranks: a rank's own rows where it is traced, else those of the lowest traced rank with the same program, or none. */
static dsc_status list_ranks(const dsc_recorder *recorder, int64_t count)
{
    const dsc_plan *plan = recorder->plan;
    dsc_trace *trace = recorder->trace;
    dsc_status status = DSC_OK;
    int64_t *shown = malloc((size_t)plan->ranks * sizeof *shown);

    if (shown == NULL) return DSC_FAIL(DSC_ENOMEM, "trace: list of %" PRId64 " ranks", plan->ranks);
    for (int64_t rank = 0; rank < plan->ranks; rank++) shown[rank] = -1;
    for (int64_t i = 0; i < recorder->first[count]; i++) shown[recorder->traced[i]] = recorder->traced[i];
    for (int64_t rank = 0; rank < plan->ranks; rank++) {
        int64_t *of_its_kind = &shown[dsc_plan_representative(plan, rank)];

        if (*of_its_kind < 0) *of_its_kind = shown[rank];
    }
    for (int64_t rank = 0; rank < plan->ranks; rank++) {
        int64_t whose = shown[rank] >= 0 ? shown[rank] : shown[dsc_plan_representative(plan, rank)];
        dsc_rank_row row = {(int32_t)rank, (int32_t)whose};

        DSC_TRY(DSC_PUSH(trace->ranks, trace->rank_count, trace->rank_capacity, row));
    }
out:
    free(shown);
    return status;
}

dsc_status dsc_recorder_create(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_fabric *fabric,
                               const dsc_sim_options *options, const int64_t *simulated, int64_t count, bool folded,
                               const dsc_program *const *programs, dsc_trace *trace, dsc_recorder **out)
{
    dsc_status status = DSC_OK;
    dsc_recorder *recorder = calloc(1, sizeof *recorder);

    if (recorder == NULL) return DSC_FAIL(DSC_ENOMEM, "trace: %zu bytes", sizeof *recorder);
    *recorder = (dsc_recorder){.plan = plan, .fabric = fabric, .trace = trace};
    if (trace != NULL) {
        recorder->first = calloc((size_t)count + 1, sizeof *recorder->first);
        recorder->traced = calloc((size_t)plan->ranks, sizeof *recorder->traced);
        if (recorder->first == NULL || recorder->traced == NULL) {
            status = DSC_FAIL(DSC_ENOMEM, "trace: list of %" PRId64 " ranks", plan->ranks);
            goto out;
        }
        choose_ranks(recorder, options, simulated, count, folded);
        DSC_TRY(list_ranks(recorder, count));
        DSC_TRY(dsc_program_groups(plan, trace));
        DSC_TRY(dsc_program_head(plan, cluster, programs, &trace->head));
    }
    *out = recorder;
    recorder = NULL;
out:
    dsc_recorder_destroy(recorder);
    return status;
}

void dsc_recorder_destroy(dsc_recorder *recorder)
{
    if (recorder == NULL) return;
    free(recorder->first);
    free(recorder->traced);
    free(recorder->link_of);
    free(recorder);
}

bool dsc_recorder_wants(const dsc_recorder *recorder, int64_t which)
{
    return recorder->trace != NULL && recorder->first[which] < recorder->first[which + 1];
}

/* ---- Rows */

void dsc_record_step_begin(dsc_recorder *recorder, int32_t step)
{
    recorder->step = step;
}

dsc_status dsc_record_step_end(dsc_recorder *recorder, const char *path, int64_t start_ns, int64_t end_ns,
                               int64_t wire_bytes)
{
    const dsc_strategy *strategy = &recorder->plan->config.strategy;
    dsc_trace *trace = recorder->trace;
    dsc_step_row row = {.step = recorder->step, .loss = NAN, .lr = NAN, .grad_norm = NAN,
                        .tokens = strategy->global_batch * strategy->seq_len, .t_start_ns = start_ns,
                        .t_end_ns = end_ns, .wire_bytes = wire_bytes};

    if (trace == NULL) return DSC_OK;
    snprintf(row.path, sizeof row.path, "%s", path);
    return DSC_PUSH(trace->steps, trace->step_count, trace->step_capacity, row);
}

dsc_status dsc_record_op(dsc_recorder *recorder, int64_t which, const dsc_use *use, int32_t index, const dsc_op *op,
                         int64_t start_ns, int64_t end_ns)
{
    dsc_trace *trace = recorder->trace;
    dsc_status status = DSC_OK;
    dsc_op_row row = {.step = recorder->step, .op = (int32_t)(use->base + index), .lane = op->lane, .kind = op->kind,
                      .layer = op->layer, .micro_batch = use->micro_batch, .chunk = use->chunk, .group = -1,
                      .t_start_ns = start_ns, .t_end_ns = end_ns, .bytes = op->bytes, .flops = op->flops};

    if (trace == NULL) return DSC_OK;
    for (int64_t i = recorder->first[which]; i < recorder->first[which + 1]; i++) {
        row.rank = (int32_t)recorder->traced[i];
        if (op->axis >= 0) row.group = (int32_t)dsc_plan_group(recorder->plan, row.rank, op->axis);
        DSC_TRY(DSC_PUSH(trace->ops, trace->op_count, trace->op_capacity, row));
    }
out:
    return status;
}

dsc_status dsc_record_memory(dsc_recorder *recorder, int64_t which, int space, int64_t now_ns, int64_t bytes)
{
    dsc_trace *trace = recorder->trace;
    dsc_status status = DSC_OK;

    if (trace == NULL) return DSC_OK;
    for (int64_t i = recorder->first[which]; i < recorder->first[which + 1]; i++) {
        dsc_memory_row row = {recorder->step, (int32_t)recorder->traced[i], space, now_ns, bytes};

        DSC_TRY(DSC_PUSH(trace->memory, trace->memory_count, trace->memory_capacity, row));
    }
out:
    return status;
}

/* The number of a link in the head's list, which it joins when it is first used; -1 for what is no link. */
static dsc_status number_of_link(dsc_recorder *recorder, int32_t resource, int32_t *out)
{
    const char *name = dsc_fabric_link_name(recorder->fabric, resource);
    dsc_trace_head *head = &recorder->trace->head;
    dsc_status status = DSC_OK;
    char *copy = NULL;

    *out = -1;
    if (name == NULL) return DSC_OK;
    DSC_TRY(dsc_array_reserve(&recorder->link_of, &recorder->link_capacity, resource + 1, sizeof *recorder->link_of));
    while (recorder->link_count <= resource) recorder->link_of[recorder->link_count++] = -1;
    if (recorder->link_of[resource] < 0) {
        copy = strdup(name);
        if (copy == NULL) return DSC_FAIL(DSC_ENOMEM, "trace: link %s", name);
        DSC_TRY(DSC_PUSH(head->links, head->link_count, recorder->name_capacity, copy));
        copy = NULL;
        recorder->link_of[resource] = (int32_t)head->link_count - 1;
    }
    *out = recorder->link_of[resource];
out:
    free(copy);
    return status;
}

dsc_status dsc_record_flow(dsc_recorder *recorder, const dsc_load *load, double bytes, int64_t start_ns, int64_t end_ns)
{
    dsc_trace *trace = recorder->trace;
    dsc_status status = DSC_OK;

    for (int64_t i = 0; recorder->traced_count > 0 && i < load->count; i++) {
        dsc_link_row row = {.t_start_ns = start_ns, .t_end_ns = end_ns,
                            .bytes = llround(load->demands[i].amount * bytes)};

        DSC_TRY(number_of_link(recorder, load->demands[i].resource, &row.link));
        if (row.link >= 0) DSC_TRY(DSC_PUSH(trace->link_rows, trace->link_row_count, trace->link_row_capacity, row));
    }
out:
    return status;
}
