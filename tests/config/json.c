/* DeepSpeed's JSON: what is taken, reported and refused. */
#include "base/log.h"
#include "config/config.h"
#include "model/sparsity.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dsc_text reports; /* what the library logged */

static void keep_report(dsc_level level, const char *line, void *context)
{
    (void)level, (void)context;
    dsc_text_add(&reports, "%s\n", line);
}

static dsc_config config;

static dsc_status read_text(const char *text)
{
    json_t *object = json_loads(text, JSON_DECODE_ANY, NULL);
    dsc_status status;

    config = DSC_CONFIG_DEFAULT;
    dsc_text_fini(&reports);
    if (!CHECK(object != NULL, "no JSON: %s", text)) return DSC_EINTERNAL;
    dsc_log_to(keep_report, NULL, DSC_NOTE);
    status = dsc_config_read("F.json", object, &config);
    dsc_log_to(NULL, NULL, DSC_NOTE);
    json_decref(object);
    return status;
}

static void whole_example_is_taken(void)
{
    static const char text[] =
        "{\"train_batch_size\": 32, \"train_micro_batch_size_per_gpu\": 4, \"gradient_accumulation_steps\": 2,"
        " \"optimizer\": {\"type\": \"aDaM\", \"params\": {\"lr\": 3e-4, \"betas\": [0.8, 0.95], \"eps\": 1e-6,"
        "   \"weight_decay\": 0.1, \"bias_correction\": false, \"adam_w_mode\": false, \"torch_adam\": true}},"
        " \"scheduler\": {\"type\": \"WarmupDecayLR\", \"params\": {\"total_num_steps\": 100, \"warmup_min_lr\": 1e-6,"
        "   \"warmup_max_lr\": 1e-3, \"warmup_num_steps\": 10, \"warmup_type\": \"linear\"}},"
        " \"fp16\": {\"enabled\": true, \"initial_scale_power\": 12, \"loss_scale_window\": 500, \"hysteresis\": 3},"
        " \"zero_optimization\": {\"stage\": 2, \"reduce_bucket_size\": 5e6,"
        "   \"offload_optimizer\": {\"device\": \"cpu\", \"pin_memory\": true}},"
        " \"gradient_clipping\": 1.0, \"data_types\": {\"grad_accum_dtype\": \"fp32\"},"
        " \"dsc\": {\"tp\": 2, \"recompute\": \"full\", \"sequence_parallel\": true, \"device_memory\": \"16GiB\"}}";
    const dsc_strategy *s = &config.strategy;

    if (!CHECK_OK(read_text(text))) return;
    CHECK(s->global_batch == 32 && s->micro_batch == 4 && config.gradient_accumulation_steps == 2, "batch %lld",
          (long long)s->global_batch);
    CHECK(s->optimizer == DSC_ADAM && config.lr == 3e-4 && config.beta1 == 0.8 && config.beta2 == 0.95, "lr %g",
          config.lr);
    CHECK(config.eps == 1e-6 && config.weight_decay == 0.1 && !config.bias_correction && s->l2_decay, "eps %g",
          config.eps);
    CHECK(config.scheduler.type == DSC_LR_WARMUP_DECAY && config.scheduler.total_num_steps == 100, "type %d",
          config.scheduler.type);
    CHECK(config.scheduler.warmup_type == DSC_WARMUP_LINEAR && config.scheduler.warmup_num_steps == 10, "type %d",
          config.scheduler.warmup_type);
    CHECK(s->precision == DSC_FP16 && config.initial_scale_power == 12 && config.hysteresis == 3, "power %lld",
          (long long)config.initial_scale_power);
    CHECK(config.loss_scale_window == 500 && config.clip == 1, "window %lld", (long long)config.loss_scale_window);
    CHECK(s->zero == 2 && s->bucket_elems == 5000000 && s->offload == DSC_OFFLOAD_OPTIMIZER, "stage %d", s->zero);
    CHECK(s->grad_accum_dtype == DSC_FP32, "accumulation in %d", s->grad_accum_dtype);
    CHECK(s->tp == 2 && s->recompute == DSC_RECOMPUTE_FULL && s->sequence_parallel, "tp %lld", (long long)s->tp);
    CHECK(s->device_memory_bytes == INT64_C(16) << 30, "%lld bytes", (long long)s->device_memory_bytes);
    CHECK(reports.count == 0, "reported: %s", dsc_text_str(&reports));
}

static void auto_and_null_leave_the_default(void)
{
    static const char text[] =
        "{\"train_batch_size\": \"auto\", \"gradient_clipping\": null, \"fp16\": {\"enabled\": \"auto\"},"
        " \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": \"auto\", \"betas\": \"auto\"}}}";
    char *read, *untouched = dsc_config_json(&DSC_CONFIG_DEFAULT);

    CHECK_OK(read_text(text));
    read = dsc_config_json(&config);
    CHECK(dsc_equal(read, untouched), "%s became %s", untouched, read);
    free(read);
    free(untouched);
}

static void auto_is_a_ratio(void)
{
    if (CHECK_OK(read_text("{\"dsc\": {\"offload_ratio\": \"auto\"}}")))
        CHECK(config.strategy.offload_ratio == DSC_AUTO, "ratio %g", config.strategy.offload_ratio);
    CHECK(read_text("{\"dsc\": {\"offload_ratio\": \"half\"}}") == DSC_EINVAL, "so is half");
}

static void fp16_without_keys_starts_high(void)
{
    if (!CHECK_OK(read_text("{\"fp16\": {\"enabled\": true}}"))) return;
    CHECK(config.initial_scale_power == 32 && config.hysteresis == 1, "2^%lld, hysteresis %lld",
          (long long)config.initial_scale_power, (long long)config.hysteresis);
    if (!CHECK_OK(read_text("{\"fp16\": {\"enabled\": true, \"min_loss_scale\": 1}}"))) return;
    CHECK(config.initial_scale_power == 16 && config.hysteresis == 2, "2^%lld, hysteresis %lld",
          (long long)config.initial_scale_power, (long long)config.hysteresis);
}

/* What is in host memory is cut too, in whatever order the keys come. */
static void checkpoints_have_deepspeeds_keys(void)
{
    static const struct { const char *text; int checkpoints; } lines[] = {
        {"{\"activation_checkpointing\": {\"partition_activations\": true}}", DSC_CHECKPOINTS_CUT},
        {"{\"activation_checkpointing\": {\"cpu_checkpointing\": true, \"partition_activations\": true}}",
         DSC_CHECKPOINTS_HOST},
        {"{\"activation_checkpointing\": {\"cpu_checkpointing\": false}}", DSC_CHECKPOINTS_AUTO},
        {"{\"dsc\": {\"activation_checkpoints\": \"whole\"}}", DSC_CHECKPOINTS_WHOLE}};

    for (int i = 0; i < DSC_COUNT(lines); i++)
        if (CHECK_OK(read_text(lines[i].text)))
            CHECK(config.strategy.checkpoints == lines[i].checkpoints, "%s: %d", lines[i].text,
                  config.strategy.checkpoints);
}

static void params_offload_covers_the_optimizer(void)
{
    if (!CHECK_OK(read_text("{\"zero_optimization\": {\"stage\": 3, \"offload_param\": {\"device\": \"cpu\"},"
                            " \"offload_optimizer\": {\"device\": \"cpu\"}}}")))
        return;
    CHECK(config.strategy.offload == DSC_OFFLOAD_PARAMS, "offload %d", config.strategy.offload);
}

/* Every key that DeepSpeed's documentation has, in each mode: what the mode reads is taken, the rest reported. */
#define EVERY_KEY                                                                                              \
    "\"block\": 32, \"different_layout_per_head\": true, \"num_local_blocks\": 8, \"num_global_blocks\": 2,"     \
    " \"attention\": \"unidirectional\", \"horizontal_global_attention\": true,"                               \
    " \"num_different_global_patterns\": 3, \"num_random_blocks\": 2, \"local_window_blocks\": [2, 5],"        \
    " \"global_block_indices\": [1, 4], \"global_block_end_indices\": [3, 6], \"num_sliding_window_blocks\": 5"

static void check_sparsity(const dsc_sparsity *s)
{
    bool has_globals = s->mode == DSC_SPARSITY_FIXED || s->mode == DSC_SPARSITY_BIGBIRD;
    bool has_random = s->mode == DSC_SPARSITY_VARIABLE || s->mode == DSC_SPARSITY_BIGBIRD;
    bool has_lists = s->mode == DSC_SPARSITY_VARIABLE || s->mode == DSC_SPARSITY_BSLONGFORMER;
    bool has_window = s->mode == DSC_SPARSITY_BIGBIRD || s->mode == DSC_SPARSITY_BSLONGFORMER;
    bool has_direction = s->mode == DSC_SPARSITY_FIXED || s->mode == DSC_SPARSITY_VARIABLE;
    const char *mode = DSC_SPARSITY_NAMES[s->mode];

    CHECK(s->block == 32 && s->is_per_head, "%s: block %d", mode, (int)s->block);
    CHECK(s->is_bidirectional == !has_direction, "%s: bidirectional %d", mode, s->is_bidirectional);
    CHECK(s->is_horizontal == has_direction, "%s: horizontal %d", mode, s->is_horizontal);
    CHECK(s->local_blocks == (s->mode == DSC_SPARSITY_FIXED ? 8 : 4), "%s: window %d", mode, (int)s->local_blocks);
    CHECK(s->global_patterns == (s->mode == DSC_SPARSITY_FIXED ? 3 : 1), "%s: %d", mode, (int)s->global_patterns);
    CHECK(s->global_blocks == (has_globals ? 2 : 1), "%s: globals %d", mode, (int)s->global_blocks);
    CHECK(s->random_blocks == (has_random ? 2 : 0), "%s: random %d", mode, (int)s->random_blocks);
    CHECK(s->globals.count == (has_lists ? 2 : 1) && s->globals.of[0] == has_lists, "%s: list", mode);
    CHECK(s->global_ends.count == (has_lists ? 2 : 0), "%s: ends of %d", mode, (int)s->global_ends.count);
    CHECK(s->windows.count == (s->mode == DSC_SPARSITY_VARIABLE ? 2 : 1), "%s: windows", mode);
    CHECK(s->window_blocks == (has_window ? 5 : 3), "%s: sliding %d", mode, (int)s->window_blocks);
}

static void sparse_attention_is_kept(void)
{
    static const int reported[] = {[DSC_SPARSITY_DENSE] = 10, [DSC_SPARSITY_FIXED] = 5, [DSC_SPARSITY_VARIABLE] = 4,
                                   [DSC_SPARSITY_BIGBIRD] = 7, [DSC_SPARSITY_BSLONGFORMER] = 7};

    for (int mode = 0; mode <= DSC_SPARSITY_BSLONGFORMER; mode++) {
        char text[1024];
        dsc_sparsity sparsity;
        json_t *section;
        int lines = 0;

        snprintf(text, sizeof text, "{\"sparse_attention\": {\"mode\": \"%s\", " EVERY_KEY "}}",
                 DSC_SPARSITY_NAMES[mode]);
        if (!CHECK_OK(read_text(text))) return;
        CHECK(reports.count == 0, "reading it says %s", dsc_text_str(&reports));
        section = json_loads(config.sparse_attention, 0, NULL);
        dsc_log_to(keep_report, NULL, DSC_NOTE);
        if (CHECK_OK(dsc_sparsity_section("F.json", section, &sparsity)) &&
            CHECK((int)sparsity.mode == mode, "mode %d", sparsity.mode))
            check_sparsity(&sparsity);
        dsc_log_to(NULL, NULL, DSC_NOTE);
        for (const char *c = dsc_text_str(&reports); *c != '\0'; c++) lines += *c == '\n';
        CHECK(lines == reported[mode], "%s: %d reports: %s", text, lines, dsc_text_str(&reports));
        json_decref(section);
    }
    if (CHECK_OK(read_text("{\"dsc\": {\"attention\": \"sparse,0=dense\", \"reference_layout\": true}}")))
        CHECK(dsc_equal(config.strategy.attention, "sparse,0=dense") && config.strategy.reference_layout, "%s",
              config.strategy.attention);
    CHECK_OK(read_text("{\"sparse_attention\": null}"));
    CHECK(config.sparse_attention[0] == '\0', "null is kept as %s", config.sparse_attention);
}

/* Prints the configuration, and reads it over the default. */
static void check_reads_back(void)
{
    char *text = dsc_config_json(&config), *again;
    json_t *object;

    if (!CHECK(text != NULL, "no text")) return;
    object = json_loads(text, 0, NULL);
    config = DSC_CONFIG_DEFAULT;
    CHECK_OK(dsc_config_read("printed", object, &config));
    again = dsc_config_json(&config);
    CHECK(again != NULL && strcmp(text, again) == 0, "%s became %s", text, again);
    json_decref(object);
    free(text);
    free(again);
}

/* As long as there is room, and a letter more. */
static void long_sections_are_refused(void)
{
    enum { ROOM = sizeof config.sparse_attention };
    char text[ROOM + 100];

    for (int more = 0; more < 2; more++) {
        static const char head[] = "{\"sparse_attention\":{\"mode\":\"";
        int length = ROOM - 1 - (int)strlen("{\"mode\":\"\"}") + more;

        strcpy(text, head);
        memset(text + strlen(head), 'x', (size_t)length);
        strcpy(text + strlen(head) + length, "\"}}");
        CHECK(read_text(text) == (more ? DSC_EINVAL : DSC_OK), "%d letters", length);
        if (more)
            CHECK(strstr(dsc_message(), "F.json: \"sparse_attention\": 4096 characters, at most 4095") != NULL, "%s",
                  dsc_message());
        else CHECK(strlen(config.sparse_attention) == ROOM - 1, "%zu are kept", strlen(config.sparse_attention));
        if (!more) check_reads_back();
    }
}

/* One report, which names the key, where a key asks for what we do not do; none where it asks for what we do anyway. */
static void what_has_no_effect_is_reported(void)
{
    static const struct { const char *text, *key; } lines[] = {
        {"{\"prescale_gradients\": true}", "prescale_gradients"},
        {"{\"gradient_predivide_factor\": 2}", "gradient_predivide_factor"},
        {"{\"communication_data_type\": \"fp16\"}", "communication_data_type"},
        {"{\"sparse_gradients\": true}", "sparse_gradients"},
        {"{\"wall_clock_breakdown\": true}", "wall_clock_breakdown"},
        {"{\"disable_allgather\": true}", "disable_allgather"},
        {"{\"tensorboard\": {\"enabled\": true, \"output_path\": \"x\"}}", "tensorboard"},
        {"{\"flops_profiler\": {\"enabled\": true}}", "flops_profiler"},
        {"{\"aio\": {\"block_size\": 5}}", "aio"},
        {"{\"zero_optimization\": {\"overlap_comm\": false}}", "zero_optimization.overlap_comm"},
        {"{\"zero_optimization\": {\"stage3_prefetch_bucket_size\": 1000}}", "stage3_prefetch_bucket_size"},
        {"{\"zero_optimization\": {\"cpu_offload\": true}}", "cpu_offload"},
        {"{\"zero_optimization\": true}", "stage 1"},
        {"{\"activation_checkpointing\": {\"number_checkpoints\": 4}}", "number_checkpoints"},
        {"{\"pipeline\": {\"activation_checkpoint_interval\": 1}}", "activation_checkpoint_interval"},
        {"{\"fp16\": {\"enabled\": true, \"hysteresis\": 2, \"auto_cast\": true}}", "fp16.auto_cast"},
    };
    static const char *const silent[] = {
        "{\"prescale_gradients\": false, \"gradient_predivide_factor\": 1.0, \"tensorboard\": {\"enabled\": false}}",
        "{\"zero_optimization\": {\"allgather_bucket_size\": 5e8, \"contiguous_gradients\": true,"
        " \"overlap_comm\": true}}",
        "{\"fp16\": {\"enabled\": true, \"loss_scale\": 128}}",
        "{\"amp\": {\"enabled\": false}, \"wall_clock_breakdown\": false, \"dataloader_drop_last\": true}",
    };

    for (int64_t i = 0; i < DSC_COUNT(lines); i++) {
        if (!CHECK_OK(read_text(lines[i].text))) continue;
        CHECK(strstr(dsc_text_str(&reports), lines[i].key) != NULL, "%s: reported: %s", lines[i].text,
              dsc_text_str(&reports));
    }
    for (int64_t i = 0; i < DSC_COUNT(silent); i++) {
        CHECK_OK(read_text(silent[i]));
        CHECK(reports.count == 0, "%s: reported: %s", silent[i], dsc_text_str(&reports));
    }
}

static void bad_files_are_refused(void)
{
    static const struct { const char *text, *words[3]; } lines[] = {
        {"[]", {"F.json", "an array"}},
        {"7", {"F.json", "a whole number"}},
        {"{\"train_batch_sise\": 16}", {"train_batch_sise", "did you mean \"train_batch_size\""}},
        {"{\"train_batch_size\": \"sixteen\"}", {"F.json", "train_batch_size", "a string"}},
        {"{\"train_batch_size\": 0}", {"train_batch_size", "0 is outside 1"}},
        {"{\"train_batch_size\": -8}", {"train_batch_size", "-8"}},
        {"{\"train_batch_size\": 2.5}", {"train_batch_size", "2.5"}},
        {"{\"train_batch_size\": 4611686018427387904}", {"train_batch_size", "4611686018427387904"}},
        {"{\"train_batch_size\": true}", {"train_batch_size", "a boolean"}},
        {"{\"optimizer\": {\"type\": \"Adamw2\"}}", {"optimizer.type", "Adamw2"}},
        {"{\"optimizer\": {\"type\": \"Lion\"}}", {"optimizer.type", "Lion", "not implemented"}},
        {"{\"optimizer\": {\"type\": 7}}", {"optimizer.type", "a whole number"}},
        {"{\"optimizer\": []}", {"optimizer", "an array"}},
        {"{\"optimizer\": {\"params\": {\"betas\": [0.9, 1.5]}}}", {"betas[1]", "1.5"}},
        {"{\"optimizer\": {\"params\": {\"betas\": [0.9]}}}", {"betas", "of 1"}},
        {"{\"optimizer\": {\"params\": {\"betas\": 0.9}}}", {"betas", "a number"}},
        {"{\"optimizer\": {\"params\": {\"max_grad_norm\": 1}}}", {"max_grad_norm", "gradient_clipping"}},
        {"{\"optimizer\": {\"params\": {\"amsgrad\": true}}}", {"amsgrad"}},
        {"{\"optimizer\": {\"params\": {\"learning_rate\": 1}}}", {"unknown key \"optimizer.params.learning_rate\""}},
        {"{\"optimizer\": {\"type\": \"ZeroOneAdam\", \"params\": {\"freeze_step\": 1}}}",
         {"unknown key \"optimizer.params.freeze_step\""}},
        {"{\"optimizer\": {\"type\": \"OneBitAdam\", \"params\": {\"max_coeff\": 1}}}", {"optimizer.params.max_coeff"}},
        {"{\"scheduler\": {\"type\": \"WarmupLr\"}}", {"scheduler.type", "WarmupLr", "did you mean \"WarmupLR\""}},
        {"{\"scheduler\": {\"params\": {}}}", {"scheduler", "type"}},
        {"{\"scheduler\": {\"type\": \"WarmupLR\", \"params\": {\"cycle_max_lr\": 1}}}", {"cycle_max_lr"}},
        {"{\"scheduler\": {\"type\": \"WarmupLR\", \"params\": {\"warmup_type\": \"cubic\"}}}",
         {"warmup_type", "cubic"}},
        {"{\"fp16\": {\"enabled\": true}, \"bf16\": {\"enabled\": true}}", {"fp16", "bf16"}},
        {"{\"fp16\": {\"enabled\": 1}}", {"fp16.enabled", "true or false"}},
        {"{\"fp16\": true}", {"fp16", "an object"}},
        {"{\"fp16\": {\"fp16_master_weights_and_grads\": true}}", {"fp16_master_weights_and_grads"}},
        {"{\"amp\": {\"enabled\": true}}", {"amp"}},
        {"{\"zero_optimization\": {\"stage\": 4}}", {"zero_optimization.stage", "4"}},
        {"{\"zero_optimization\": {\"reduce_buckt_size\": 5}}",
         {"reduce_buckt_size", "did you mean \"reduce_bucket_size\""}},
        {"{\"zero_optimization\": {\"offload_optimizer\": {\"device\": \"nvme\"}}}", {"offload_optimizer", "nvme"}},
        {"{\"zero_optimization\": {\"offload_optimizer\": {\"device\": \"cpu\", \"ratio\": 1.5}}}", {"ratio"}},
        {"{\"zero_optimization\": {\"zero_quantized_weights\": true}}", {"zero_quantized_weights"}},
        {"{\"zero_optimization\": {\"zero_hpz_partition_size\": 8}}", {"zero_hpz_partition_size"}},
        {"{\"zero_optimization\": {\"mics_shard_size\": 8}}", {"mics_shard_size"}},
        {"{\"zero_optimization\": {\"legacy_stage1\": true}}", {"legacy_stage1"}},
        {"{\"activation_checkpointing\": {\"cpu_checkpointing\": 1}}", {"cpu_checkpointing", "true or false"}},
        {"{\"data_types\": {\"grad_accum_dtype\": \"fp12\"}}", {"grad_accum_dtype", "fp12"}},
        {"{\"sparse_attention\": \"fixed\"}", {"sparse_attention", "an object", "a string"}},
        {"{\"sparse_attention\": [16]}", {"sparse_attention", "an object", "an array"}},
        {"{\"sparse_atention\": {}}", {"sparse_atention", "did you mean \"sparse_attention\""}},
        {"{\"dsc\": {\"reference_layout\": 1}}", {"dsc.reference_layout", "true or false"}},
        {"{\"dsc\": {\"tpp\": 2}}", {"dsc.tpp", "did you mean \"tp\""}},
        {"{\"dsc\": {\"tp\": \"2\"}}", {"dsc.tp", "a string"}},
        {"{\"dsc\": {\"recompute\": \"half\"}}", {"dsc.recompute", "half"}},
        {"{\"dsc\": {\"device_memory\": \"80GX\"}}", {"dsc.device_memory", "80GX"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(lines); i++) {
        CHECK(read_text(lines[i].text) == DSC_EINVAL, "%s is taken", lines[i].text);
        CHECK(strchr(dsc_message(), '\n') == NULL, "%s: several lines: %s", lines[i].text, dsc_message());
        CHECK(strncmp(dsc_message(), "F.json: ", 8) == 0, "%s: no file in: %s", lines[i].text, dsc_message());
        for (int w = 0; w < 3 && lines[i].words[w] != NULL; w++)
            CHECK(strstr(dsc_message(), lines[i].words[w]) != NULL, "%s: no \"%s\" in: %s", lines[i].text,
                  lines[i].words[w], dsc_message());
    }
}

static void first_complaint_is_told(void)
{
    CHECK(read_text("{\"a\": 1, \"train_batch_size\": 0, \"amp\": {\"enabled\": true}, \"optimizer\": 3, \"b\": 1}") ==
              DSC_EINVAL, "taken");
    CHECK(strcmp(dsc_message(), "F.json: unknown key \"a\" (and 4 more)") == 0, "%s", dsc_message());
}

static void files_are_named(void)
{
    static const char path[] = "config-json.tmp";
    FILE *file = fopen(path, "w");

    CHECK(dsc_config_load("absent.json", &config) == DSC_EINVAL, "an absent file is taken");
    CHECK(strstr(dsc_message(), "absent.json") != NULL, "%s", dsc_message());
    if (!CHECK(file != NULL, "cannot write %s", path)) return;
    fputs("{\"train_batch_size\": 16,", file);
    fclose(file);
    CHECK(dsc_config_load(path, &config) == DSC_EINVAL, "a broken file is taken");
    CHECK(strstr(dsc_message(), "config-json.tmp:1:") != NULL, "no line in: %s", dsc_message());
    remove(path);
}

/* Each class takes what its constructor does. */
static void compressed_optimizers_have_their_keys(void)
{
    if (CHECK_OK(read_text("{\"optimizer\": {\"type\": \"OneBitAdam\", \"params\": {\"freeze_step\": 7, "
                           "\"cuda_aware\": false, \"lr\": 0.5}}}")))
        CHECK(config.strategy.optimizer == DSC_ONEBIT_ADAM && config.freeze_step == 7 && config.lr == 0.5, "%lld",
              (long long)config.freeze_step);
    if (CHECK_OK(read_text("{\"optimizer\": {\"type\": \"ZeroOneAdam\", \"params\": {\"var_freeze_step\": 9, "
                           "\"var_update_scaler\": 3, \"local_step_scaler\": 4, \"local_step_clipper\": 5}}}")))
        CHECK(config.strategy.optimizer == DSC_ZERO_ONE_ADAM && config.var_freeze_step == 9 &&
              config.var_update_scaler == 3 && config.local_step_scaler == 4 && config.local_step_clipper == 5, "%lld",
              (long long)config.var_freeze_step);
}

/* DeepSpeed's names are ours. */
static void lamb_has_bounds(void)
{
    static const char head[] = "{\"optimizer\": {\"type\": \"OneBitLamb\", \"params\": {\"freeze_step\": 7, ";
    char text[400];

    snprintf(text, sizeof text, "%s\"max_coeff\": 0.3, \"min_coeff\": 0.02, \"coeff_beta\": 0.8, \"factor_max\": 3, "
             "\"factor_min\": 0.6, \"factor_threshold\": 0.2}}}", head);
    if (!CHECK_OK(read_text(text))) return;
    CHECK(config.strategy.optimizer == DSC_ONEBIT_LAMB && config.freeze_step == 7, "%d", config.strategy.optimizer);
    CHECK(config.trust.max_coeff == 0.3 && config.trust.min_coeff == 0.02 && config.trust.coeff_beta == 0.8, "%g",
          config.trust.max_coeff);
    CHECK(config.trust.factor_max == 3 && config.trust.factor_min == 0.6 && config.trust.factor_threshold == 0.2, "%g",
          config.trust.factor_max);
    CHECK_OK(dsc_config_check(&config));
    config.trust.factor_min = 4;
    CHECK(dsc_config_check(&config) == DSC_EINVAL && strstr(dsc_message(), "factor_min 4 is above factor_max 3"), "%s",
          dsc_message());
    config.trust.max_coeff = 0.01;
    CHECK(dsc_config_check(&config) == DSC_EINVAL && strstr(dsc_message(), "min_coeff 0.02 is above"), "%s",
          dsc_message());
}

static void print_reads_back(void)
{
    static const char written[] =
        "{\"train_batch_size\": 32, \"optimizer\": {\"type\": \"OneBitAdam\", \"params\": {\"lr\": 1e-4}},"
        " \"bf16\": {\"enabled\": true}, \"zero_optimization\": {\"stage\": 3},"
        " \"scheduler\": {\"type\": \"OneCycle\", \"params\": {\"cycle_min_lr\": 1e-5,"
        "   \"cycle_max_lr\": 0.1, \"cycle_momentum\": false}},"
        " \"dsc\": {\"tp\": 4, \"rank_order\": \"dp,tp\", \"attention\": \"sparse,0=dense\", \"seed\": 7},"
        " \"sparse_attention\": {\"mode\": \"bigbird\", \"block\": 64}}";

    if (!CHECK_OK(read_text(written))) return;
    check_reads_back();
    CHECK(config.strategy.tp == 4 && config.strategy.zero == 3 && config.seed == 7 && config.lr == 1e-4, "lr %g",
          config.lr);
    CHECK(config.strategy.dp == 0, "dp, which was not given, became %lld", (long long)config.strategy.dp);
}

/* A word that the row takes. */
static void draw_word(const dsc_field *field, char out[64])
{
    int64_t count = 0;

    while (field->choices != NULL && field->choices[count] != NULL) count++;
    if (count > 0 && (field->type == DSC_FIELD_CHOICE || tap_random_between(0, 3) == 0))
        snprintf(out, 64, "%s", field->choices[tap_random_between(0, count - 1)]);
    else if (field->type == DSC_FIELD_REAL)
        snprintf(out, 64, "%.17g", field->low + (double)tap_random_between(1, 999) / 1000.7);
    else if (field->type == DSC_FIELD_INT || field->type == DSC_FIELD_BYTES)
        snprintf(out, 64, "%lld", (long long)tap_random_between((int64_t)field->low, (int64_t)field->low + 50));
    else if (field->type == DSC_FIELD_STRING)
        snprintf(out, 64, "%s", dsc_equal(field->name, "sparse-attention") ? "{\"mode\":\"fixed\"}" : "dp,tp,pp");
    else snprintf(out, 64, "%d", (int)tap_random_between(0, 1));
}

static void draw_config(dsc_config *out)
{
    char word[64];

    *out = DSC_CONFIG_DEFAULT;
    for (const dsc_field *field = dsc_config_fields(); field->name != NULL; field++) {
        if (tap_random_between(0, 1) == 0) continue;
        draw_word(field, word);
        CHECK_OK(dsc_field_set(field, out, field->name, word));
    }
}

static void what_is_written_is_read(void)
{
    for (int i = 0; i < 200; i++) {
        char *text, *before, *after;
        dsc_config drawn;

        draw_config(&drawn);
        text = dsc_config_deepspeed(&drawn);
        before = dsc_config_json(&drawn);
        CHECK_OK(read_text(text));
        after = dsc_config_json(&config);
        CHECK(dsc_equal(before, after), "%s\nis read as\n%s", before, after);
        free(text);
        free(before);
        free(after);
    }
}

/* Rows that DeepSpeed has keys for. */
static void deepspeeds_keys_say_the_same(void)
{
    static const char *const names[] = {
        "micro-batch", "global-batch", "gradient-accumulation-steps", "gradient-clipping", "zero", "bucket-size",
        "offload", "optimizer", "lr", "beta1", "beta2", "eps", "weight-decay", "l2-decay", "bias-correction",
        "scheduler", "sparse-attention"};

    for (int i = 0; i < 200; i++) {
        json_t *object, *before, *after;
        char *text, *rows;
        dsc_config drawn;

        draw_config(&drawn);
        if (drawn.strategy.precision == DSC_FP8) drawn.strategy.precision = DSC_BF16;
        rows = dsc_config_json(&drawn);
        before = json_loads(rows, 0, NULL);
        free(rows);
        text = dsc_config_deepspeed(&drawn);
        object = json_loads(text, 0, NULL);
        json_object_del(object, "dsc");
        free(text);
        text = json_dumps(object, 0);
        CHECK_OK(read_text(text));
        CHECK(config.strategy.precision == drawn.strategy.precision, "precision %d", config.strategy.precision);
        rows = dsc_config_json(&config);
        after = json_loads(rows, 0, NULL);
        free(rows);
        for (int64_t n = 0; n < DSC_COUNT(names); n++) {
            char key[64];

            snprintf(key, sizeof key, "%s", names[n]);
            for (char *c = key; *c != '\0'; c++) *c = *c == '-' ? '_' : *c;
            CHECK(json_equal(json_object_get(json_object_get(before, "dsc"), key),
                             json_object_get(json_object_get(after, "dsc"), key)), "%s is read otherwise in %s",
                  names[n], text);
        }
        free(text);
        json_decref(object);
        json_decref(before);
        json_decref(after);
    }
}

static const tap_case cases[] = {
    {"what dsc_config_deepspeed writes is read back as it was", what_is_written_is_read},
    {"without \"dsc\" DeepSpeed's keys of it say the same", deepspeeds_keys_say_the_same},
    {"DeepSpeed's keys are taken", whole_example_is_taken},
    {"\"auto\" and null leave the default", auto_and_null_leave_the_default},
    {"but of the offload ratio \"auto\" is a value", auto_is_a_ratio},
    {"fp16 without keys of the scale starts at 2^32, hysteresis 1", fp16_without_keys_starts_high},
    {"activation checkpoints have DeepSpeed's keys", checkpoints_have_deepspeeds_keys},
    {"offloaded parameters take the optimizer along", params_offload_covers_the_optimizer},
    {"sparse_attention is kept, and taken by its mode", sparse_attention_is_kept},
    {"a section is kept to its last letter, or refused with both numbers", long_sections_are_refused},
    {"what has no effect is reported by name", what_has_no_effect_is_reported},
    {"bad files are refused in one line that names file and key", bad_files_are_refused},
    {"of several complaints the first is told, with their number, in one line", first_complaint_is_told},
    {"files that cannot be read are named, with the line", files_are_named},
    {"compressed optimizers have the keys of their classes", compressed_optimizers_have_their_keys},
    {"LAMB's bounds have DeepSpeed's names, and must leave room", lamb_has_bounds},
    {"a printed configuration reads back as the same", print_reads_back},
};

int main(void)
{
    int status = tap_run(cases, DSC_COUNT(cases), NULL);

    dsc_text_fini(&reports);
    return status;
}
