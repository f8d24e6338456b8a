#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

static dsc_cluster *make_cluster(int64_t nodes, int64_t each, bool is_gpu)
{
    dsc_cluster *cluster = calloc(1, sizeof *cluster);
    dsc_node_type *type = calloc(1, sizeof *type);

    cluster->node_types = type;
    cluster->node_type_count = cluster->node_group_count = 1;
    cluster->nodes = calloc(1, sizeof *cluster->nodes);
    cluster->nodes[0].count = nodes;
    *type = (dsc_node_type){.name = "node", .devices = calloc(1, sizeof *type->devices), .device_types = 1,
                            .links = calloc(2, sizeof *type->links), .link_count = 2, .cores = 64,
                            .host_memory_bytes = INT64_C(1) << 40, .host_bandwidth_bytes_per_s = 1e11};
    type->devices[0] = (dsc_device_type){.name = "device", .is_gpu = is_gpu, .count = each,
                                         .memory_bytes = INT64_C(1) << 40, .bandwidth_bytes_per_s = 1e12,
                                         .peak_flops = {[DSC_FP32] = 1e13, [DSC_BF16] = 1e14, [DSC_FP16] = 1e14}};
    type->links[0] = (dsc_link){.name = "switch", .between = {"device", "device"}, .topology = DSC_SWITCH,
                                .bytes_per_s = 1e11, .latency_ns = SCENE_LATENCY_NS};
    type->links[1] = (dsc_link){.name = "pcie", .between = {"device", "host"}, .topology = DSC_SWITCH,
                                .bytes_per_s = 1e10, .latency_ns = SCENE_COPY_LATENCY_NS};
    return cluster;
}

dsc_cluster *scene_gpus(int64_t nodes, int64_t each)
{
    dsc_cluster *cluster = make_cluster(nodes, each, true);
    dsc_node_type *type = cluster->node_types;

    type->nics = calloc(1, sizeof *type->nics);
    type->nic_count = 1;
    type->nics[0] = (dsc_nic){.count = each, .bytes_per_s = 1e10, .latency_ns = SCENE_NIC_LATENCY_NS};
    cluster->network = calloc(1, sizeof *cluster->network);
    cluster->tier_count = 1;
    cluster->network[0] = (dsc_tier){.name = "spine", .nodes = nodes, .bytes_per_s = 1e10, .oversubscription = 1};
    return cluster;
}

dsc_cluster *scene_cpus(int64_t ranks, int64_t cores)
{
    dsc_cluster *cluster = make_cluster(1, ranks, false);

    cluster->node_types[0].cores = cores;
    return cluster;
}

static dsc_plan *make_plan(const char *model_text, const dsc_cluster *cluster, const dsc_strategy *strategy)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_plan *plan = NULL;
    dsc_model model;

    config.strategy = *strategy;
    if (CHECK_OK(dsc_model_load(model_text, &model)))
        CHECK_OK(dsc_plan_create(&model, cluster, &config, &plan));
    return plan;
}

dsc_plan *scene_plan_of(const dsc_cluster *cluster, const dsc_strategy *strategy)
{
    return make_plan("layers=8,hidden=64,heads=4,vocab=256,seq=32", cluster, strategy);
}

dsc_plan *scene_plan(const dsc_cluster *cluster, int64_t dp, int64_t global_batch, int recompute, int precision)
{
    const dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_strategy strategy = config.strategy;

    strategy.dp = dp;
    strategy.micro_batch = 1;
    strategy.global_batch = global_batch;
    strategy.recompute = recompute;
    strategy.precision = precision;
    return make_plan("layers=3,hidden=64,heads=4,vocab=256,seq=32", cluster, &strategy);
}

/* ---- Programs by hand */

dsc_program *scene_program(const dsc_plan *plan)
{
    dsc_program *program = calloc(1, sizeof *program);
    dsc_segment *segment = &program->segments[DSC_SEGMENT_GRADIENTS];

    program->plan = plan;
    program->templates = calloc(1, sizeof *program->templates);
    program->template_count = 1;
    segment->uses = calloc(1, sizeof *segment->uses);
    segment->use_count = 1;
    segment->uses[0] = (dsc_use){.micro_batch = -1, .chunk = -1};
    return program;
}

static int32_t add_op(dsc_program *program, dsc_space space, dsc_op op)
{
    dsc_template *t = program->templates;

    op.layer = -1;
    op.lane = (int16_t)dsc_op_lane(op.kind, op.axis, space);
    op.first_call = (int32_t)t->call_count - op.calls;
    CHECK_OK(DSC_PUSH(t->ops, t->op_count, t->op_capacity, op));
    program->op_count++;
    return (int32_t)t->op_count - 1;
}

static void add_call(dsc_program *program, int64_t elems)
{
    dsc_template *t = program->templates;
    dsc_call call = {.shape = {.kernel = DSC_K_ADAM, .type = DSC_FP32, .out = DSC_FP32, .d = {elems}}};

    CHECK_OK(DSC_PUSH(t->calls, t->call_count, t->call_capacity, call));
}

int32_t scene_kernel(dsc_program *program, int64_t elems)
{
    add_call(program, elems);
    return add_op(program, DSC_SPACE_DEVICE, (dsc_op){.kind = DSC_OP_MLP_FWD, .axis = -1, .calls = 1});
}

int32_t scene_host_kernel(dsc_program *program, int64_t elems)
{
    add_call(program, elems);
    return add_op(program, DSC_SPACE_HOST, (dsc_op){.kind = DSC_OP_UPDATE, .axis = -1, .calls = 1});
}

int32_t scene_copy(dsc_program *program, dsc_op_kind kind, int64_t bytes)
{
    return add_op(program, DSC_SPACE_DEVICE, (dsc_op){.kind = (int16_t)kind, .axis = -1, .bytes = bytes});
}

int32_t scene_collective(dsc_program *program, dsc_op_kind kind, dsc_axis axis, int64_t bytes)
{
    return add_op(program, DSC_SPACE_DEVICE, (dsc_op){.kind = (int16_t)kind, .axis = axis, .peer = -1, .channel = -1,
                                                      .type = DSC_FP32, .bytes = bytes});
}

int32_t scene_all_reduce(dsc_program *program, int64_t bytes)
{
    return scene_collective(program, DSC_OP_ALL_REDUCE, DSC_AXIS_DP, bytes);
}

int32_t scene_message(dsc_program *program, dsc_op_kind kind, int64_t peer, int32_t channel, int64_t bytes)
{
    return add_op(program, DSC_SPACE_DEVICE, (dsc_op){.kind = (int16_t)kind, .axis = DSC_AXIS_PP,
                                                      .peer = (int32_t)peer, .channel = channel, .type = DSC_FP32,
                                                      .bytes = bytes});
}

/* Dependencies of an op stand together: the list is made anew with the added one in its place. */
void scene_wait(dsc_program *program, int32_t op, int32_t on)
{
    dsc_template *t = program->templates;
    int64_t place = 0;

    CHECK_OK(DSC_PUSH(t->deps, t->dep_count, t->dep_capacity, (dsc_dep){on}));
    for (int32_t i = 0; i <= op; i++) place += t->ops[i].deps;
    memmove(&t->deps[place + 1], &t->deps[place], (size_t)(t->dep_count - 1 - place) * sizeof *t->deps);
    t->deps[place].on = on;
    t->ops[op].deps++;
    for (int64_t i = 0, first = 0; i < t->op_count; first += t->ops[i++].deps) t->ops[i].first_dep = (int32_t)first;
}

static dsc_status simulate(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *const *programs,
                           dsc_trace_ranks ranks, dsc_timing *timing, int64_t *wire_bytes, dsc_trace *trace)
{
    dsc_sim_options options = {.ranks = ranks};
    dsc_timing unused_timing;
    int64_t unused_bytes;
    dsc_prices *prices = NULL;
    dsc_status status;

    DSC_TRY(dsc_prices_create(plan, cluster, NULL, NULL, &prices));
    DSC_TRY(dsc_simulate(plan, cluster, programs, prices, &options, timing == NULL ? &unused_timing : timing,
                         wire_bytes == NULL ? &unused_bytes : wire_bytes, trace));
out:
    dsc_prices_destroy(prices);
    return status;
}

dsc_status scene_simulate_stages(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *const *by_stage,
                                 dsc_trace_ranks ranks, dsc_timing *timing, int64_t *wire_bytes, dsc_trace *trace)
{
    const dsc_program **programs = calloc((size_t)plan->ranks, sizeof *programs);
    dsc_status status;

    for (int64_t rank = 0; rank < plan->ranks; rank++)
        programs[rank] = by_stage[dsc_plan_coord(plan, rank).of[DSC_AXIS_PP]];
    status = simulate(plan, cluster, programs, ranks, timing, wire_bytes, trace);
    free(programs);
    return status;
}

dsc_status scene_simulate(const dsc_plan *plan, const dsc_cluster *cluster, const dsc_program *program,
                          dsc_trace_ranks ranks, dsc_timing *timing, int64_t *wire_bytes, dsc_trace *trace)
{
    return scene_simulate_stages(plan, cluster, &program, ranks, timing, wire_bytes, trace);
}
