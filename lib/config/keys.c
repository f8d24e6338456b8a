/* The keys of DeepSpeed's JSON, 0.16.5, object by object. */
#include "base/log.h"
#include "config/keys.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FIELD(key, row) {key, DSC_KEY_FIELD, row, NULL, NULL, NULL}
#define FREE(key) {key, DSC_KEY_FREE, NULL, NULL, NULL, NULL}
#define WARN(key, harmless, why) {key, DSC_KEY_WARN, harmless, why, NULL, NULL}
#define REFUSE(key, harmless, why) {key, DSC_KEY_REFUSE, harmless, why, NULL, NULL}
#define WARN_ENABLED(key, why) {key, DSC_KEY_WARN_ENABLED, NULL, why, NULL, NULL}
#define REFUSE_ENABLED(key, why) {key, DSC_KEY_REFUSE_ENABLED, NULL, why, NULL, NULL}
#define SECTION(key, keys) {key, DSC_KEY_SECTION, NULL, NULL, keys, NULL}
#define CALL(key, function) {key, DSC_KEY_CALL, NULL, NULL, NULL, function}
#define END {NULL, DSC_KEY_FREE, NULL, NULL, NULL, NULL}

#define IGNORED "is not implemented and has no effect"
#define MISSING "is not implemented"
#define KNOWN "Adam, AdamW, OneBitAdam, ZeroOneAdam and OneBitLamb"

/* ---- optimizer: the parameters of a class are refused for another, as by its constructor in DeepSpeed */

#define OPTIMIZERS "Adam", "AdamW", "OneBitAdam", "ZeroOneAdam", "OneBitLamb"
const char *const DSC_DEEPSPEED_OPTIMIZERS[] = {OPTIMIZERS, NULL};

/* Names in any case; those of DeepSpeed that we lack have a negative value. */
static void read_optimizer_type(dsc_reader *reader, const char *path, const json_t *value)
{
    static const char *const names[] = {OPTIMIZERS, "Lamb", "Lion", "Adagrad", "MuAdam", "MuAdamW", "MuSGD"};
    static const int values[] = {DSC_ADAM, DSC_ADAMW, DSC_ONEBIT_ADAM, DSC_ZERO_ONE_ADAM, DSC_ONEBIT_LAMB};
    const char *word = json_string_value(value), *nearest;

    if (word == NULL) {
        dsc_complain(reader, path, "expected a string, got %s", dsc_json_kind(value));
        return;
    }
    for (int64_t i = 0; i < DSC_COUNT(names); i++) {
        if (strcasecmp(names[i], word) != 0) continue;
        if (i < DSC_COUNT(values)) reader->config->strategy.optimizer = values[i];
        else dsc_complain(reader, path, "\"%s\" " MISSING "; " KNOWN " are", word);
        return;
    }
    nearest = dsc_nearest(word, names, DSC_COUNT(names));
    if (nearest != NULL) dsc_complain(reader, path, "unknown optimizer \"%s\"; did you mean \"%s\"?", word, nearest);
    else
        dsc_complain(reader, path, "unknown optimizer \"%s\"; " KNOWN " are known", word);
}

static void read_betas(dsc_reader *reader, const char *path, const json_t *value)
{
    static const char *const rows[] = {"beta1", "beta2"};
    char full[160];

    if (json_array_size(value) != 2) {
        dsc_complain(reader, path, "expected [beta1, beta2], got %s of %zu", dsc_json_kind(value),
                     json_array_size(value));
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        snprintf(full, sizeof full, "%s[%zu]", path, i);
        dsc_read_field(reader, full, dsc_field_find(dsc_config_fields(), rows[i]), json_array_get(value, i));
    }
}

static void read_adam_w_mode(dsc_reader *reader, const char *path, const json_t *value)
{
    if (json_is_boolean(value)) reader->config->strategy.l2_decay = json_is_false(value);
    else dsc_complain(reader, path, "expected true or false, got %s", dsc_json_kind(value));
}

#define EVERY_OPTIMIZER                                                                                      \
    FIELD("lr", "lr"), CALL("betas", read_betas), FIELD("eps", "eps"), FIELD("weight_decay", "weight-decay"),  \
        FIELD("bias_correction", "bias-correction"), FREE("torch_adam"), /* the same rule */                 \
        CALL("adam_w_mode", read_adam_w_mode), REFUSE("amsgrad", "false", MISSING),                          \
        REFUSE("max_grad_norm", NULL, "is refused by DeepSpeed too; use gradient_clipping")
#define COMPRESSED FREE("cuda_aware"), FREE("comm_backend_name")

static const dsc_key adam_params[] = {EVERY_OPTIMIZER, END};
static const dsc_key onebit_adam_params[] = {FIELD("freeze_step", "freeze-step"), COMPRESSED, EVERY_OPTIMIZER, END};
static const dsc_key zero_one_adam_params[] = {
    FIELD("var_freeze_step", "var-freeze-step"),
    FIELD("var_update_scaler", "var-update-scaler"),
    FIELD("local_step_scaler", "local-step-scaler"),
    FIELD("local_step_clipper", "local-step-clipper"),
    COMPRESSED,
    EVERY_OPTIMIZER,
    END,
};
static const dsc_key onebit_lamb_params[] = {
    FIELD("freeze_step", "freeze-step"),
    FIELD("max_coeff", "max-coeff"),
    FIELD("min_coeff", "min-coeff"),
    FIELD("coeff_beta", "coeff-beta"),
    FIELD("factor_max", "factor-max"),
    FIELD("factor_min", "factor-min"),
    FIELD("factor_threshold", "factor-threshold"),
    COMPRESSED,
    EVERY_OPTIMIZER,
    END,
};

#define OPTIMIZER(params) {FREE("type"), SECTION("params", params), FREE("legacy_fusion"), END}
static const dsc_key optimizer_types[][4] = {
    [DSC_ADAM] = OPTIMIZER(adam_params),
    [DSC_ADAMW] = OPTIMIZER(adam_params),
    [DSC_ONEBIT_ADAM] = OPTIMIZER(onebit_adam_params),
    [DSC_ZERO_ONE_ADAM] = OPTIMIZER(zero_one_adam_params),
    [DSC_ONEBIT_LAMB] = OPTIMIZER(onebit_lamb_params),
};

const dsc_key *dsc_optimizer_keys(int optimizer) { return optimizer_types[optimizer]; }

static void read_optimizer(dsc_reader *reader, const char *path, const json_t *value)
{
    const json_t *type = json_object_get(value, "type");
    const int complaints = reader->complaint_count;

    if (type != NULL && !json_is_null(type) && !dsc_equal(json_string_value(type), "auto"))
        read_optimizer_type(reader, "optimizer.type", type);
    if (reader->complaint_count == complaints)
        dsc_read_object(reader, path, value, dsc_optimizer_keys(reader->config->strategy.optimizer));
}

/* ---- scheduler: the parameters of a class are refused for another */

#define EVERY_SCHEDULER REFUSE("last_batch_iteration", "-1", "a run is resumed by --resume")
#define WARMUP                                                                                           \
    FIELD("warmup_min_lr", "warmup-min-lr"), FIELD("warmup_max_lr", "warmup-max-lr"),                    \
        FIELD("warmup_num_steps", "warmup-num-steps"), FIELD("warmup_type", "warmup-type"), EVERY_SCHEDULER

static const dsc_key warmup_params[] = {WARMUP, END};
static const dsc_key warmup_decay_params[] = {FIELD("total_num_steps", "total-num-steps"), WARMUP, END};
static const dsc_key warmup_cosine_params[] = {
    FIELD("total_num_steps", "total-num-steps"),
    FIELD("warmup_min_ratio", "warmup-min-ratio"),
    FIELD("warmup_num_steps", "warmup-num-steps"),
    FIELD("cos_min_ratio", "cos-min-ratio"),
    FIELD("warmup_type", "warmup-type"),
    EVERY_SCHEDULER,
    END,
};
static const dsc_key range_test_params[] = {
    FIELD("lr_range_test_min_lr", "lr-range-test-min-lr"),
    FIELD("lr_range_test_step_size", "lr-range-test-step-size"),
    FIELD("lr_range_test_step_rate", "lr-range-test-step-rate"),
    FIELD("lr_range_test_staircase", "lr-range-test-staircase"),
    EVERY_SCHEDULER,
    END,
};
static const dsc_key one_cycle_params[] = {
    FIELD("cycle_min_lr", "cycle-min-lr"),
    FIELD("cycle_max_lr", "cycle-max-lr"),
    FIELD("decay_lr_rate", "decay-lr-rate"),
    FIELD("cycle_first_step_size", "cycle-first-step-size"),
    FIELD("cycle_second_step_size", "cycle-second-step-size"),
    WARN("cycle_first_stair_count", "0", "DeepSpeed ignores it, and so do we"),
    WARN("cycle_second_stair_count", "0", "DeepSpeed ignores it, and so do we"),
    FIELD("decay_step_size", "decay-step-size"),
    FIELD("cycle_momentum", "cycle-momentum"),
    FIELD("cycle_min_mom", "cycle-min-mom"),
    FIELD("cycle_max_mom", "cycle-max-mom"),
    FIELD("decay_mom_rate", "decay-mom-rate"),
    EVERY_SCHEDULER,
    END,
};
static const dsc_key constant_params[] = {END};

static const dsc_key scheduler_types[][3] = {
    [DSC_LR_CONSTANT] = {FREE("type"), SECTION("params", constant_params), END},
    [DSC_LR_WARMUP] = {FREE("type"), SECTION("params", warmup_params), END},
    [DSC_LR_WARMUP_DECAY] = {FREE("type"), SECTION("params", warmup_decay_params), END},
    [DSC_LR_WARMUP_COSINE] = {FREE("type"), SECTION("params", warmup_cosine_params), END},
    [DSC_LR_RANGE_TEST] = {FREE("type"), SECTION("params", range_test_params), END},
    [DSC_LR_ONE_CYCLE] = {FREE("type"), SECTION("params", one_cycle_params), END},
};

const dsc_key *dsc_scheduler_keys(int type) { return scheduler_types[type]; }

static void read_scheduler(dsc_reader *reader, const char *path, const json_t *value)
{
    const json_t *type = json_object_get(value, "type");
    int complaints = reader->complaint_count;

    if (type == NULL) {
        dsc_complain(reader, path, "expected an object with \"type\" and \"params\"");
        return;
    }
    dsc_read_field(reader, "scheduler.type", dsc_field_find(dsc_config_fields(), "scheduler"), type);
    if (reader->complaint_count == complaints)
        dsc_read_object(reader, path, value, dsc_scheduler_keys(reader->config->scheduler.type));
}

/* ---- fp16, bf16 */

const dsc_key dsc_fp16_keys[] = {
    FREE("enabled"),
    FIELD("loss_scale", "loss-scale"),
    FIELD("initial_scale_power", "initial-scale-power"),
    FIELD("loss_scale_window", "loss-scale-window"),
    FIELD("hysteresis", "hysteresis"),
    FIELD("consecutive_hysteresis", "consecutive-hysteresis"),
    FIELD("min_loss_scale", "min-loss-scale"),
    WARN("auto_cast", "false", "inputs are tokens, which nothing casts"),
    REFUSE("fp16_master_weights_and_grads", "false", MISSING "; master weights are fp32"),
    END,
};

static const dsc_key bf16_keys[] = {FREE("enabled"), FREE("immediate_grad_update"), END};

/* DeepSpeed's ZeRO path takes the scaler's own defaults, which differ, when none of these is given. */
static bool has_dynamic_key(const json_t *fp16)
{
    static const char *const names[] = {"initial_scale_power", "loss_scale_window", "hysteresis",
                                        "consecutive_hysteresis", "min_loss_scale"};

    for (int64_t i = 0; i < DSC_COUNT(names); i++)
        if (json_object_get(fp16, names[i]) != NULL) return true;
    return false;
}

static void read_fp16(dsc_reader *reader, const char *path, const json_t *value)
{
    dsc_read_object(reader, path, value, dsc_fp16_keys);
    reader->has_fp16 = dsc_read_bool(reader, path, value, "enabled");
    if (!reader->has_fp16) return;
    reader->config->strategy.precision = DSC_FP16;
    if (has_dynamic_key(value)) return;
    reader->config->initial_scale_power = 32;
    reader->config->hysteresis = 1;
    if (reader->config->loss_scale > 0) return; /* static: nothing starts anywhere */
    dsc_log(DSC_NOTE, "%s: \"%s\": without keys of the dynamic scale it starts at 2^32, hysteresis 1, as in DeepSpeed",
            reader->where, path);
}

static void read_bf16(dsc_reader *reader, const char *path, const json_t *value)
{
    dsc_read_object(reader, path, value, bf16_keys);
    reader->has_bf16 = dsc_read_bool(reader, path, value, "enabled");
    if (reader->has_bf16) reader->config->strategy.precision = DSC_BF16;
}

static const dsc_key data_type_keys[] = {FIELD("grad_accum_dtype", "grad-accum-dtype"), END};

/* ---- zero_optimization */

/* Returns whether the device is the host's memory. */
static bool read_device(dsc_reader *reader, const char *path, const json_t *value)
{
    const char *device = json_string_value(json_object_get(value, "device"));

    if (device == NULL || dsc_equal(device, "none")) return false;
    if (dsc_equal(device, "cpu")) return true;
    if (dsc_equal(device, "nvme")) dsc_complain(reader, path, "device \"nvme\" " MISSING "; cpu is");
    else dsc_complain(reader, path, "device: unknown \"%s\"; expected one of none, cpu", device);
    return false;
}

#define EVERY_OFFLOAD                                                                                             \
    FREE("device"), WARN("nvme_path", "null", "only nvme has a path"), FREE("buffer_count"), FREE("pin_memory"), \
        FREE("fast_init")

static const dsc_key offload_optimizer_keys[] = {
    EVERY_OFFLOAD,
    FREE("pipeline_read"),
    FREE("pipeline_write"),
    FREE("pipeline"),
    FIELD("ratio", "offload-ratio"),
    END,
};

static const dsc_key offload_param_keys[] = {EVERY_OFFLOAD, FREE("buffer_size"), FREE("max_in_cpu"), END};

static void raise_offload(dsc_reader *reader, dsc_offload offload)
{
    reader->config->strategy.offload = DSC_MAX(reader->config->strategy.offload, (int)offload);
}

static void read_offload_optimizer(dsc_reader *reader, const char *path, const json_t *value)
{
    dsc_read_object(reader, path, value, offload_optimizer_keys);
    if (read_device(reader, path, value)) raise_offload(reader, DSC_OFFLOAD_OPTIMIZER);
}

static void read_offload_param(dsc_reader *reader, const char *path, const json_t *value)
{
    dsc_read_object(reader, path, value, offload_param_keys);
    if (read_device(reader, path, value)) raise_offload(reader, DSC_OFFLOAD_PARAMS);
}

static void read_cpu_offload(dsc_reader *reader, const char *path, const json_t *value)
{
    dsc_log(DSC_WARNING, "%s: \"%s\": is deprecated; use offload_optimizer", reader->where, path);
    if (json_is_true(value)) raise_offload(reader, DSC_OFFLOAD_OPTIMIZER);
}

static void read_cpu_offload_params(dsc_reader *reader, const char *path, const json_t *value)
{
    dsc_log(DSC_WARNING, "%s: \"%s\": is deprecated; use offload_param", reader->where, path);
    if (json_is_true(value)) raise_offload(reader, DSC_OFFLOAD_PARAMS);
}

#define PLANNED "has no effect: what is gathered when follows from the plan"

const dsc_key dsc_zero_keys[] = {
    FIELD("stage", "zero"),
    FIELD("reduce_bucket_size", "bucket-size"),
    CALL("offload_optimizer", read_offload_optimizer),
    CALL("offload_param", read_offload_param),
    CALL("cpu_offload", read_cpu_offload),
    CALL("cpu_offload_params", read_cpu_offload_params),
    FREE("cpu_offload_use_pin_memory"),
    FREE("contiguous_gradients"),
    WARN("reduce_scatter", "true", "has no effect: gradients are reduced and scattered"),
    FREE("use_multi_rank_bucket_allreduce"),
    FREE("allgather_partitions"),
    WARN("allgather_bucket_size", "500000000", PLANNED),
    WARN("overlap_comm", "true", "has no effect: communication overlaps where the program allows"),
    FREE("load_from_fp32_weights"),
    FREE("elastic_checkpoint"),
    WARN("round_robin_gradients", "false", "has no effect: every rank owns a part of each bucket"),
    FREE("ignore_unused_parameters"),
    WARN("sub_group_size", "1000000000", PLANNED),
    WARN("stage3_prefetch_bucket_size", "50000000", PLANNED),
    WARN("prefetch_bucket_size", "50000000", PLANNED),
    WARN("stage3_param_persistence_threshold", "100000", PLANNED),
    WARN("param_persistence_threshold", "100000", PLANNED),
    WARN("stage3_model_persistence_threshold", "9223372036854775807", PLANNED),
    WARN("model_persistence_threshold", "9223372036854775807", PLANNED),
    WARN("stage3_max_live_parameters", "1000000000", PLANNED),
    WARN("max_live_parameters", "1000000000", PLANNED),
    WARN("stage3_max_reuse_distance", "1000000000", PLANNED),
    WARN("max_reuse_distance", "1000000000", PLANNED),
    FREE("stage3_gather_16bit_weights_on_model_save"),
    FREE("stage3_gather_fp16_weights_on_model_save"),
    WARN("stage3_module_granularity_threshold", "0", PLANNED),
    WARN("stage3_use_all_reduce_for_fetch_params", "false", PLANNED),
    REFUSE("zero_hpz_partition_size", "1", "secondary partitions: " MISSING),
    REFUSE("zero_quantized_weights", "false", "quantized gathers: " MISSING),
    REFUSE("zero_quantized_nontrainable_weights", "false", "quantized gathers: " MISSING),
    REFUSE("zero_quantized_gradients", "false", "quantized reduction: " MISSING),
    REFUSE("mics_shard_size", "-1", "MiCS: " MISSING),
    REFUSE("mics_hierarchical_params_gather", "false", "MiCS: " MISSING),
    FREE("memory_efficient_linear"),
    FREE("override_module_apply"),
    FREE("log_trace_cache_warnings"),
    REFUSE("zeropp_loco_param", "null", "LoCo: " MISSING),
    REFUSE("legacy_stage1", "false", "is refused by DeepSpeed too"),
    END,
};

static void read_zero(dsc_reader *reader, const char *path, const json_t *value)
{
    if (json_is_boolean(value)) {
        dsc_log(DSC_WARNING, "%s: \"%s\": a boolean is deprecated; it means stage %d", reader->where, path,
                json_is_true(value));
        reader->config->strategy.zero = json_is_true(value);
    } else {
        dsc_read_object(reader, path, value, dsc_zero_keys);
    }
}

/* ---- Other objects */

/* Host memory has what is cut, as in DeepSpeed. */
static void raise_checkpoints(dsc_reader *reader, const char *path, const json_t *value, int to)
{
    int *checkpoints = &reader->config->strategy.checkpoints;

    if (!json_is_boolean(value)) dsc_complain(reader, path, "expected true or false, got %s", dsc_json_kind(value));
    else if (json_is_true(value)) *checkpoints = DSC_MAX(*checkpoints, to);
}

static void read_partition(dsc_reader *reader, const char *path, const json_t *value)
{
    raise_checkpoints(reader, path, value, DSC_CHECKPOINTS_CUT);
}

static void read_in_host(dsc_reader *reader, const char *path, const json_t *value)
{
    raise_checkpoints(reader, path, value, DSC_CHECKPOINTS_HOST);
}

#define BY_RECOMPUTE "has no effect: recomputation is \"dsc\": {\"recompute\": ...}"

static const dsc_key checkpointing_keys[] = {
    CALL("partition_activations", read_partition),
    CALL("cpu_checkpointing", read_in_host),
    WARN("contiguous_memory_optimization", "false", "has no effect: every buffer has its place in one arena"),
    WARN("number_checkpoints", "null", BY_RECOMPUTE),
    WARN("synchronize_checkpoint_boundary", "false", IGNORED),
    WARN("profile", "false", "has no effect; use --trace"),
    END,
};

static const dsc_key pipeline_keys[] = {
    WARN("stages", "null", "DeepSpeed ignores it; stages are \"dsc\": {\"pp\": ...}"),
    FREE("partition"),
    FREE("seed_layers"),
    WARN("activation_checkpoint_interval", "0", BY_RECOMPUTE),
    FREE("pipe_partitioned"),
    FREE("grad_partitioned"),
    FREE("use_reentrant"),
    END,
};

static const dsc_key tensor_parallel_keys[] = {
    WARN("autotp_size", "0", "has no effect; the degree is \"dsc\": {\"tp\": ...}"),
    END,
};

static const dsc_key checkpoint_keys[] = {
    FREE("tag_validation"),
    FREE("load_universal"), /* every checkpoint of ours is */
    WARN("use_node_local_storage", "false", IGNORED),
    FREE("parallel_write"),
    END,
};

/* The long options, `_` for `-`. */
static void read_dsc(dsc_reader *reader, const char *path, const json_t *value)
{
    dsc_key keys[128] = {END};
    int64_t count = 0;
    char names[128][48];

    for (const dsc_field *field = dsc_config_fields(); field->name != NULL && count + 1 < DSC_COUNT(keys); field++) {
        snprintf(names[count], sizeof names[count], "%s", field->name);
        for (char *c = names[count]; *c != '\0'; c++)
            if (*c == '-') *c = '_';
        keys[count] = (dsc_key)FIELD(names[count], field->name);
        count++;
    }
    keys[count] = (dsc_key)END;
    dsc_read_object(reader, path, value, keys);
}

/* ---- Top */

/* Kept as text: what it means the model knows. */
static void read_sparse_attention(dsc_reader *reader, const char *path, const json_t *value)
{
    char *text = json_is_object(value) ? json_dumps(value, JSON_COMPACT) : NULL;
    size_t room = sizeof reader->config->sparse_attention;

    if (!json_is_object(value)) dsc_complain(reader, path, "expected an object, got %s", dsc_json_kind(value));
    else if (text == NULL) dsc_complain(reader, path, "no memory");
    else if (strlen(text) >= room)
        dsc_complain(reader, path, "%zu characters, at most %zu are kept", strlen(text), room - 1);
    else strcpy(reader->config->sparse_attention, text);
    free(text);
}

const dsc_key dsc_top_keys[] = {
    FIELD("train_batch_size", "global-batch"),
    FIELD("train_micro_batch_size_per_gpu", "micro-batch"),
    FIELD("gradient_accumulation_steps", "gradient-accumulation-steps"),
    FIELD("gradient_clipping", "gradient-clipping"),
    FIELD("steps_per_print", "steps-per-print"),
    CALL("optimizer", read_optimizer),
    CALL("scheduler", read_scheduler),
    CALL("fp16", read_fp16),
    CALL("bf16", read_bf16),
    CALL("bfloat16", read_bf16),
    SECTION("data_types", data_type_keys),
    CALL("zero_optimization", read_zero),
    SECTION("activation_checkpointing", checkpointing_keys),
    SECTION("pipeline", pipeline_keys),
    SECTION("tensor_parallel", tensor_parallel_keys),
    SECTION("checkpoint", checkpoint_keys),
    CALL("dsc", read_dsc),
    WARN("prescale_gradients", "false", "has no effect: the sum of gradients is divided once"),
    WARN("gradient_predivide_factor", "1", "has no effect: the sum of gradients is divided once"),
    WARN("communication_data_type", "null", "has no effect: gradients travel in the type they accumulate in"),
    WARN("sparse_gradients", "false", IGNORED),
    WARN("wall_clock_breakdown", "false", "has no effect; use --trace"),
    WARN("memory_breakdown", "false", "has no effect; use --explain"),
    WARN("dump_state", "false", "has no effect; use --explain"),
    WARN("disable_allgather", "false", IGNORED),
    FREE("dataloader_drop_last"), /* there is no partial batch */
    FREE("zero_allow_untested_optimizer"),
    FREE("zero_force_ds_cpu_optimizer"),
    REFUSE_ENABLED("amp", "apex's mixed precision " MISSING "; use fp16 or bf16"),
    CALL("sparse_attention", read_sparse_attention),
    REFUSE("compression_training", NULL, MISSING),
    REFUSE_ENABLED("elasticity", MISSING),
    REFUSE_ENABLED("curriculum_learning", MISSING),
    REFUSE_ENABLED("data_efficiency", MISSING),
    REFUSE_ENABLED("progressive_layer_drop", MISSING),
    REFUSE_ENABLED("hybrid_engine", MISSING),
    WARN_ENABLED("tensorboard", IGNORED),
    WARN_ENABLED("csv_monitor", "has no effect; use --log"),
    WARN_ENABLED("wandb", IGNORED),
    WARN_ENABLED("comet", IGNORED),
    WARN_ENABLED("flops_profiler", "has no effect; use --trace"),
    WARN_ENABLED("comms_logger", "has no effect; use --trace"),
    WARN_ENABLED("autotuning", IGNORED),
    WARN("aio", "{}", IGNORED),
    END,
};
