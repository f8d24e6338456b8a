/* DeepSpeed's JSON, written by the tables that read it: a key that sets a row has the row's value. What the tables
 * leave to functions stands here. */
#include "config/keys.h"
#include <stdlib.h>

/* What is not given, what a plan is left to find ("auto"), and what DeepSpeed has no such value for. */
static bool is_told(const char *name, const json_t *value)
{
    if (dsc_equal(name, "steps_per_print") && json_integer_value(value) == 0) return false; /* every step */
    return value != NULL && !json_is_null(value) && !dsc_equal(json_string_value(value), "auto");
}

/* The rows of a table and of its sections; what has none is left out. */
static json_t *object_of(const dsc_key *keys, const dsc_config *config)
{
    json_t *object = json_object();

    for (; keys->name != NULL; keys++) {
        json_t *value = NULL;

        if (keys->fate == DSC_KEY_FIELD)
            value = dsc_field_json(dsc_field_find(dsc_config_fields(), keys->text), config);
        if (keys->fate == DSC_KEY_SECTION) value = object_of(keys->section, config);
        if (is_told(keys->name, value) && !(json_is_object(value) && json_object_size(value) == 0))
            json_object_set(object, keys->name, value);
        json_decref(value);
    }
    return object;
}

static json_t *optimizer_json(const dsc_config *config)
{
    const int optimizer = config->strategy.optimizer;
    json_t *section = object_of(dsc_optimizer_keys(optimizer), config);
    json_t *params = json_object_get(section, "params");

    json_object_set_new(section, "type", json_string(DSC_DEEPSPEED_OPTIMIZERS[optimizer]));
    json_object_set_new(params, "betas", json_pack("[f, f]", config->beta1, config->beta2));
    if (config->strategy.l2_decay) json_object_set_new(params, "adam_w_mode", json_false());
    return section;
}

static json_t *scheduler_json(const dsc_config *config)
{
    json_t *section = object_of(dsc_scheduler_keys(config->scheduler.type), config);

    json_object_set_new(section, "type", dsc_field_json(dsc_field_find(dsc_config_fields(), "scheduler"), config));
    return section;
}

/* Of "offload_optimizer": "device" and "ratio". */
static const dsc_key ratio_keys[] = {{"ratio", DSC_KEY_FIELD, "offload-ratio", NULL, NULL, NULL},
                                     {NULL, DSC_KEY_FREE, NULL, NULL, NULL, NULL}};

static void add_offload(const char *name, const dsc_key *keys, const dsc_config *config, json_t *out)
{
    json_t *section = object_of(keys, config);

    json_object_set_new(section, "device", json_string("cpu"));
    json_object_set_new(out, name, section);
}

static json_t *zero_json(const dsc_config *config)
{
    json_t *section = object_of(dsc_zero_keys, config);

    if (config->strategy.offload != DSC_OFFLOAD_NONE) add_offload("offload_optimizer", ratio_keys, config, section);
    if (config->strategy.offload == DSC_OFFLOAD_PARAMS) add_offload("offload_param", ratio_keys + 1, config, section);
    return section;
}

static void add_precision(const dsc_config *config, json_t *out)
{
    json_t *fp16;

    if (config->strategy.precision == DSC_BF16) json_object_set_new(out, "bf16", json_pack("{s:b}", "enabled", 1));
    if (config->strategy.precision != DSC_FP16) return;
    fp16 = object_of(dsc_fp16_keys, config);
    json_object_set_new(fp16, "enabled", json_true());
    json_object_set_new(out, "fp16", fp16);
}

/* A section stands as one, of any length. */
static void add_attention(const dsc_config *config, json_t *rows, json_t *out)
{
    json_t *section = json_loads(config->sparse_attention, 0, NULL);

    if (section == NULL) return;
    json_object_set_new(out, "sparse_attention", section);
    json_object_del(rows, "sparse_attention");
}

/* With as many digits as people write, where these are enough to be read back as they were. */
static char *text_of(const json_t *object)
{
    char *text = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_t *read = text == NULL ? NULL : json_loads(text, 0, NULL);
    const bool is_equal = json_equal(read, object);

    json_decref(read);
    if (is_equal) return text;
    free(text);
    return json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
}

char *dsc_config_deepspeed(const dsc_config *config)
{
    json_t *out = object_of(dsc_top_keys, config), *rows = dsc_rows_json(config);
    char *text = NULL;

    json_object_set_new(out, "optimizer", optimizer_json(config));
    if (config->scheduler.type != DSC_LR_CONSTANT) json_object_set_new(out, "scheduler", scheduler_json(config));
    add_precision(config, out);
    json_object_set_new(out, "zero_optimization", zero_json(config));
    add_attention(config, rows, out);
    if (json_object_set_new(out, "dsc", rows) == 0) text = text_of(out);
    json_decref(out);
    return text;
}
