#include "tools/plan/plan.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *seconds(int64_t ns)
{
    return json_real((double)ns / 1e9);
}

static json_t *real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* The axes, fastest first, as they were chosen or given. */
static json_t *rank_order_json(const dsc_plan *plan)
{
    char order[32];

    write_order(plan, order);
    return json_string(order);
}

/* The strategy's rows of the configuration, resolved. */
json_t *strategy_json(const dsc_plan *plan)
{
    static const char *const keys[] = {
        "tp", "pp", "dp", "cp", "micro_batch", "global_batch", "gradient_accumulation_steps", "seq_len",
        "virtual_stages", "schedule", "zero", "offload", "offload_ratio", "delay_update", "prefetch", "bucket_size",
        "recompute", "recompute_layers", "recompute_outputs", "activation_checkpoints", "keep_outputs",
        "scatter_messages", "widen_logits", "widen_gradients", "late_gather", "communication", "sequence_parallel",
        "precision", "grad_accum_dtype", "attention", "optimizer", "partition"};
    char *text = dsc_config_json(&plan->config);
    json_t *rows = text == NULL ? NULL : json_loads(text, 0, NULL), *object = json_object();

    for (int64_t i = 0; i < DSC_COUNT(keys); i++) {
        json_t *value = json_object_get(json_object_get(rows, "dsc"), keys[i]);

        if (value != NULL) json_object_set(object, keys[i], value);
    }
    json_object_set_new(object, "rank_order", rank_order_json(plan));
    json_decref(rows);
    free(text);
    return object;
}

/* Each way to attend, with its layers. */
static json_t *attention_json(const dsc_plan *plan)
{
    json_t *ways = json_array();

    for (int64_t i = 0; i < plan->attention_count; i++) {
        const dsc_layer_attention *a = &plan->attention[i];
        json_t *layers = json_array(), *way;

        for (int64_t layer = 0; layer < plan->model.layers; layer++)
            if (plan->attention_of[layer] == i) json_array_append_new(layers, json_integer(layer));
        way = json_pack("{s:s, s:o, s:b}", "kind", a->word, "layers", layers, "causal", a->is_causal);
        if (a->layout != NULL) {
            json_object_set_new(way, "block", json_integer(a->layout->block));
            json_object_set_new(way, "density", json_real(dsc_layout_density(a->layout)));
            json_object_set_new(way, "present_blocks_of_a_rank", json_integer(a->present));
        }
        json_array_append_new(ways, way);
    }
    return ways;
}

static json_t *memory_json(const evaluation *e, int space)
{
    static const char *const names[] = {"parameters_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes",
                                        "buffers_bytes"};
    const dsc_ledger *ledger = &e->worst[space].ledger;
    int64_t libraries = e->plan->libraries_bytes[space];
    json_t *object = json_object();

    json_object_set_new(object, "capacity_bytes", json_integer(e->plan->capacity_bytes[space]));
    json_object_set_new(object, "peak_bytes", json_integer(ledger->arena_bytes + libraries));
    json_object_set_new(object, "arena_bytes", json_integer(ledger->arena_bytes));
    for (int class_ = 0; class_ < DSC_CLASS_COUNT; class_++)
        json_object_set_new(object, names[class_], json_integer(ledger->classes[class_]));
    json_object_set_new(object, "libraries_bytes", json_integer(libraries));
    return object;
}

/* What the worst rank's stage keeps from step to step. */
static json_t *static_json(const evaluation *e)
{
    const dsc_coord coord = dsc_plan_coord(e->plan, e->worst[DSC_SPACE_DEVICE].rank);
    const dsc_static_bytes bytes = dsc_plan_static_bytes(e->plan, coord.of[DSC_AXIS_PP], DSC_SPACE_DEVICE);

    return json_pack("{s:I, s:I, s:I}", "parameters_bytes", (json_int_t)bytes.parameters, "gradients_bytes",
                     (json_int_t)bytes.gradients, "optimizer_bytes", (json_int_t)bytes.optimizer);
}

static json_t *time_json(const dsc_timing *t)
{
    json_t *object = json_object();

    json_object_set_new(object, "step_s", seconds(t->step_ns));
    json_object_set_new(object, "compute_s", seconds(t->compute_ns));
    json_object_set_new(object, "tp_comm_s", seconds(t->tp_comm_ns));
    json_object_set_new(object, "pp_comm_s", seconds(t->pp_comm_ns));
    json_object_set_new(object, "dp_comm_s", seconds(t->dp_comm_ns));
    json_object_set_new(object, "bubble_s", seconds(t->bubble_ns));
    json_object_set_new(object, "offload_s", seconds(t->offload_ns));
    json_object_set_new(object, "optimizer_s", seconds(t->optimizer_ns));
    json_object_set_new(object, "other_s", seconds(t->other_ns));
    return object;
}

/* Name, time and traffic of each path, where there are several. */
static void add_paths(const dsc_trace *trace, json_t *object)
{
    json_t *paths = json_array();

    for (int64_t i = 0; i < trace->step_count; i++) {
        const dsc_step_row *step = &trace->steps[i];

        json_array_append_new(paths, json_pack("{s:s, s:o, s:I}", "name", step->path, "step_s",
                                               seconds(step->t_end_ns - step->t_start_ns), "wire_bytes",
                                               (json_int_t)step->wire_bytes));
    }
    if (trace->step_count > 1) json_object_set(object, "paths", paths);
    json_decref(paths);
}

json_t *evaluation_json(const evaluation *e)
{
    json_t *object = json_object();
    char hash[33];

    dsc_programs_hash(e->plan, e->programs, hash);
    json_object_set_new(object, "feasible", json_boolean(e->feasible));
    json_object_set_new(object, "reason", e->feasible ? json_null() : json_string(e->reason));
    json_object_set_new(object, "strategy", strategy_json(e->plan));
    json_object_set_new(object, "attention", attention_json(e->plan));
    json_object_set_new(object, "program_hash", json_string(hash));
    json_object_set_new(object, "stack", json_string(e->stack->name));
    json_object_set_new(object, "memory", memory_json(e, DSC_SPACE_DEVICE));
    json_object_set_new(object, "static_memory", static_json(e));
    json_object_set_new(object, "host_memory", memory_json(e, DSC_SPACE_HOST));
    json_object_set_new(object, "worst_rank", json_integer(e->worst[DSC_SPACE_DEVICE].rank));
    json_object_set_new(object, "time", time_json(&e->timing));
    add_paths(&e->trace, object);
    json_object_set_new(object, "tflops_per_gpu", json_real(flops_per_s(e) / 1e12));
    json_object_set_new(object, "mfu", real_or_null(flops_utilization(e)));
    json_object_set_new(object, "tokens_per_s", json_real(tokens_per_s(e)));
    json_object_set_new(object, "wire_bytes_per_step", json_integer(e->wire_bytes));
    if (e->run.tokens > 0) json_object_set_new(object, "run", campaign_json(&e->run));
    return object;
}

dsc_status print_json(const evaluation *e, FILE *out)
{
    json_t *object = evaluation_json(e);
    dsc_status status = DSC_OK;

    if (json_dumpf(object, out, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) != 0)
        status = DSC_FAIL(DSC_EIO, "the result cannot be written");
    fputc('\n', out);
    json_decref(object);
    return status;
}
