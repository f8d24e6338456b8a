#include "model/model.h"
#include "model/parts.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- Reading a description */

/* What the user wrote, or its beginning. */
static void set_name(dsc_model *model, const char *description)
{
    const size_t size = sizeof model->name;

    snprintf(model->name, size, "%s", description);
    if (strlen(description) >= size) memcpy(model->name + size - 4, "...", 4);
}

static bool is_folder(const char *path)
{
    struct stat facts;

    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

/* A word that can only be a path: for the message, when there is no such file. */
static bool looks_like_path(const char *description)
{
    const char *dot = strrchr(description, '.');
    struct stat facts;

    return stat(description, &facts) == 0 || dsc_equal(description, "-") || strchr(description, '/') != NULL ||
           dsc_equal(dot, ".json");
}

static dsc_status load_file(const char *path, dsc_model *out)
{
    dsc_status status = DSC_OK;
    json_t *object = NULL;
    dsc_text file = {0};

    dsc_text_add(&file, is_folder(path) ? "%s/config.json" : "%s", path);
    DSC_TRY(dsc_json_load(dsc_text_str(&file), &object));
    DSC_TRY(dsc_json_object(dsc_text_str(&file), object));
    if (json_object_get(object, "layers") != NULL) DSC_TRY(dsc_model_from_keys(dsc_text_str(&file), object, out));
    else DSC_TRY(dsc_model_from_hf(dsc_text_str(&file), object, out));
out:
    json_decref(object);
    dsc_text_fini(&file);
    return status;
}

static dsc_status refuse_name(const char *name)
{
    const char *const *names = dsc_model_presets();
    const char *nearest;
    int64_t count = 0;

    while (names[count] != NULL) count++;
    nearest = dsc_nearest(name, names, count);
    if (nearest != NULL) return DSC_FAIL(DSC_EINVAL, "unknown model \"%s\"; did you mean \"%s\"?", name, nearest);
    return DSC_FAIL(DSC_EINVAL, "unknown model \"%s\": no preset (--list-models), no file, no layers=N,hidden=N,...",
                    name);
}

dsc_status dsc_model_load(const char *description, dsc_model *out)
{
    const char *preset = dsc_model_preset_text(description);
    dsc_status status = DSC_OK;
    dsc_model model = {0};

    set_name(&model, description);
    if (preset != NULL) DSC_TRY(dsc_model_from_inline(description, preset, &model));
    else if (looks_like_path(description)) DSC_TRY(load_file(description, &model));
    else if (strchr(description, '=') != NULL) DSC_TRY(dsc_model_from_inline("model", description, &model));
    else DSC_TRY(refuse_name(description));
    DSC_TRY(dsc_model_check(&model));
    *out = model;
out:
    return status;
}

/* ---- Checking and printing */

static dsc_status check_range(const dsc_model *model, const char *what, int64_t value, int64_t high)
{
    if (value >= 1 && value <= high) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s: %s: %lld is outside 1 .. %lld", model->name, what, (long long)value,
                    (long long)high);
}

static dsc_status check_divides(const dsc_model *model, const char *what, int64_t whole, const char *parts,
                                int64_t count)
{
    if (whole % count == 0) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s: %s %lld is no multiple of %s %lld", model->name, what, (long long)whole, parts,
                    (long long)count);
}

dsc_status dsc_model_check(const dsc_model *model)
{
    dsc_status status = DSC_OK;
    int64_t parameters;

    DSC_TRY(check_range(model, "layers", model->layers, DSC_MAX_LAYERS));
    DSC_TRY(check_range(model, "hidden", model->hidden, DSC_MAX_SIZE));
    DSC_TRY(check_range(model, "heads", model->heads, DSC_MAX_SIZE));
    DSC_TRY(check_range(model, "kv_heads", model->kv_heads, DSC_MAX_SIZE));
    DSC_TRY(check_range(model, "ffn", model->ffn, DSC_MAX_SIZE));
    DSC_TRY(check_range(model, "vocab", model->vocab, DSC_MAX_VOCAB));
    DSC_TRY(check_range(model, "seq", model->seq, DSC_MAX_SIZE));
    if (model->pos == DSC_POS_ROPE) DSC_TRY(check_range(model, "rope_theta", model->rope_theta, DSC_MAX_SIZE));
    DSC_TRY(check_divides(model, "hidden", model->hidden, "heads", model->heads));
    DSC_TRY(check_divides(model, "heads", model->heads, "kv_heads", model->kv_heads));
    if (model->pos == DSC_POS_ROPE && model->hidden / model->heads % 2 != 0)
        return DSC_FAIL(DSC_EINVAL, "%s: hidden %lld / heads %lld is odd: pos=rope turns pairs", model->name,
                        (long long)model->hidden, (long long)model->heads);
    if (!dsc_model_count(model, &parameters))
        return DSC_FAIL(DSC_EINVAL, "%s: layers %lld of hidden %lld have more than 2^63 parameters", model->name,
                        (long long)model->layers, (long long)model->hidden);
out:
    return status;
}

void dsc_model_print(const dsc_model *model, dsc_text *out)
{
    dsc_text_add(out, "%s: %lld layers, hidden %lld, %lld heads", model->name, (long long)model->layers,
                 (long long)model->hidden, (long long)model->heads);
    if (model->kv_heads != model->heads) dsc_text_add(out, " (%lld of keys)", (long long)model->kv_heads);
    dsc_text_add(out, ", %sffn %lld, vocabulary %lld, %lld tokens%s, %s parameters", model->gated ? "gated " : "",
                 (long long)model->ffn, (long long)model->vocab, (long long)model->seq,
                 model->causal ? "" : " both ways", dsc_count_str((double)dsc_model_parameters(model)).str);
}

/* ---- Counting */

int64_t dsc_model_parameters(const dsc_model *model)
{
    int64_t count = 0;

    (void)dsc_model_count(model, &count); /* fits: checked with the model */
    return count;
}

double dsc_model_flops_per_token(const dsc_model *model, int64_t seq)
{
    return 6.0 * (double)dsc_model_parameters(model) +
           12.0 * (double)model->layers * (double)model->hidden * (double)seq;
}
