/* What both interpreters write at the head of a trace, so that the two files join. */
#include "program/program.h"
#include <stdlib.h>
#include <string.h>

static dsc_status list_kinds(dsc_trace_head *head)
{
    const char *names[DSC_OP_KIND_COUNT + 2];

    memcpy(names, DSC_OP_NAMES, DSC_OP_KIND_COUNT * sizeof *names);
    names[DSC_KIND_UNATTRIBUTED] = "unattributed";
    names[DSC_KIND_UNATTRIBUTED + 1] = NULL;
    return dsc_names_copy(names, &head->kinds, &head->kind_count);
}

dsc_status dsc_program_head(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *const *programs,
                            dsc_trace_head *head)
{
    dsc_status status = DSC_OK;

    strncpy(head->dsc_version, PACKAGE_VERSION, sizeof head->dsc_version - 1);
    dsc_programs_hash(plan, programs, head->program_hash);
    memcpy(head->plan_hash, plan->hash, sizeof plan->hash);
    head->config = dsc_config_json(&plan->config);
    head->cluster = dsc_cluster_json(cluster);
    head->model = dsc_model_json(&plan->model);
    if (head->config == NULL || head->cluster == NULL || head->model == NULL)
        return DSC_FAIL(DSC_ENOMEM, "trace: descriptions of model, cluster and config");
    DSC_TRY(list_kinds(head));
    DSC_TRY(dsc_names_copy(DSC_LANE_NAMES, &head->lanes, &head->lane_count));
    DSC_TRY(dsc_names_copy(DSC_SPACE_NAMES, &head->spaces, &head->space_count));
    DSC_TRY(dsc_names_copy(DSC_AXIS_NAMES, &head->axes, &head->axis_count));
out:
    return status;
}

dsc_status dsc_program_groups(const dsc_plan *plan, dsc_trace *trace)
{
    dsc_status status = DSC_OK;

    for (int axis = 0; axis < DSC_AXIS_COUNT; axis++)
        for (int64_t rank = 0; rank < plan->ranks; rank++) {
            dsc_group_row row = {(int32_t)dsc_plan_group(plan, rank, axis), axis, (int32_t)rank};

            if (row.group >= 0) DSC_TRY(DSC_PUSH(trace->groups, trace->group_count, trace->group_capacity, row));
        }
out:
    return status;
}
