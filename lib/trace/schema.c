#include "trace/schema.h"

static const dsc_column op_columns[] = {
    DSC_COLUMN(dsc_op_row, step, "1"),
    DSC_COLUMN(dsc_op_row, rank, "1"),
    DSC_COLUMN(dsc_op_row, op, "1"),
    DSC_CODE(dsc_op_row, lane, "index of /ops/lanes", DSC_NAMES_LANES),
    DSC_CODE(dsc_op_row, kind, "index of /ops/kinds", DSC_NAMES_KINDS),
    DSC_COLUMN(dsc_op_row, layer, "1"),
    DSC_COLUMN(dsc_op_row, micro_batch, "1"),
    DSC_COLUMN(dsc_op_row, chunk, "1"),
    DSC_COLUMN(dsc_op_row, group, "1"),
    DSC_COLUMN(dsc_op_row, t_start_ns, "ns"),
    DSC_COLUMN(dsc_op_row, t_end_ns, "ns"),
    DSC_COLUMN(dsc_op_row, bytes, "B"),
    DSC_COLUMN(dsc_op_row, flops, "FLOP"),
};

static const dsc_column memory_columns[] = {
    DSC_COLUMN(dsc_memory_row, step, "1"),
    DSC_COLUMN(dsc_memory_row, rank, "1"),
    DSC_CODE(dsc_memory_row, space, "index of /memory/spaces", DSC_NAMES_SPACES),
    DSC_COLUMN(dsc_memory_row, t_ns, "ns"),
    DSC_COLUMN(dsc_memory_row, bytes, "B"),
};

static const dsc_column link_columns[] = {
    DSC_CODE(dsc_link_row, link, "index of /links/links", DSC_NAMES_LINKS),
    DSC_COLUMN(dsc_link_row, t_start_ns, "ns"),
    DSC_COLUMN(dsc_link_row, t_end_ns, "ns"),
    DSC_COLUMN(dsc_link_row, bytes, "B"),
};

static const dsc_column step_columns[] = {
    DSC_COLUMN(dsc_step_row, step, "1"),
    DSC_COLUMN(dsc_step_row, path, "names of segments"),
    DSC_COLUMN(dsc_step_row, loss, "nat/token"),
    DSC_COLUMN(dsc_step_row, lr, "1"),
    DSC_COLUMN(dsc_step_row, grad_norm, "1"),
    DSC_COLUMN(dsc_step_row, tokens, "token"),
    DSC_COLUMN(dsc_step_row, t_start_ns, "ns"),
    DSC_COLUMN(dsc_step_row, t_end_ns, "ns"),
    DSC_COLUMN(dsc_step_row, wire_bytes, "B"),
};

static const dsc_column group_columns[] = {
    DSC_COLUMN(dsc_group_row, group, "1"),
    DSC_CODE(dsc_group_row, axis, "index of /groups/axes", DSC_NAMES_AXES),
    DSC_COLUMN(dsc_group_row, rank, "1"),
};

static const dsc_column rank_columns[] = {
    DSC_COLUMN(dsc_rank_row, rank, "1"),
    DSC_COLUMN(dsc_rank_row, representative, "1"),
};

const dsc_table DSC_TRACE_TABLES[DSC_TABLE_COUNT] = {
    [DSC_TABLE_OPS] = DSC_TABLE("ops", dsc_op_row, dsc_trace, ops, op_count, op_capacity, op_columns),
    [DSC_TABLE_MEMORY] =
        DSC_TABLE("memory", dsc_memory_row, dsc_trace, memory, memory_count, memory_capacity, memory_columns),
    [DSC_TABLE_LINKS] =
        DSC_TABLE("links", dsc_link_row, dsc_trace, link_rows, link_row_count, link_row_capacity, link_columns),
    [DSC_TABLE_STEPS] = DSC_TABLE("steps", dsc_step_row, dsc_trace, steps, step_count, step_capacity, step_columns),
    [DSC_TABLE_GROUPS] =
        DSC_TABLE("groups", dsc_group_row, dsc_trace, groups, group_count, group_capacity, group_columns),
    [DSC_TABLE_RANKS] = DSC_TABLE("ranks", dsc_rank_row, dsc_trace, ranks, rank_count, rank_capacity, rank_columns),
};

#define NAME_LIST(table, list, count) {table, #list, offsetof(dsc_trace_head, list), offsetof(dsc_trace_head, count)}

const dsc_name_list DSC_TRACE_NAMES[DSC_NAMES_COUNT] = {
    [DSC_NAMES_KINDS] = NAME_LIST("ops", kinds, kind_count),
    [DSC_NAMES_LANES] = NAME_LIST("ops", lanes, lane_count),
    [DSC_NAMES_SPACES] = NAME_LIST("memory", spaces, space_count),
    [DSC_NAMES_AXES] = NAME_LIST("groups", axes, axis_count),
    [DSC_NAMES_LINKS] = NAME_LIST("links", links, link_count),
};
