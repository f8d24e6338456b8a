/* A description by its own keys, as `layers=12,hidden=768,...` or as the same keys of a JSON object. */
#include "base/parse.h"
#include "model/parts.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum key_type { SIZE, BOOL, NORM, POS } key_type;

typedef struct model_key {
    const char *name;
    key_type type;
    size_t offset;
    int64_t high; /* of a size */
    bool is_needed;
} model_key;

static const model_key keys[] = {
    {"layers", SIZE, offsetof(dsc_model, layers), DSC_MAX_LAYERS, true},
    {"hidden", SIZE, offsetof(dsc_model, hidden), DSC_MAX_SIZE, true},
    {"heads", SIZE, offsetof(dsc_model, heads), DSC_MAX_SIZE, true},
    {"vocab", SIZE, offsetof(dsc_model, vocab), DSC_MAX_VOCAB, true},
    {"seq", SIZE, offsetof(dsc_model, seq), DSC_MAX_SIZE, true},
    {"kv_heads", SIZE, offsetof(dsc_model, kv_heads), DSC_MAX_SIZE, false},
    {"ffn", SIZE, offsetof(dsc_model, ffn), DSC_MAX_SIZE, false},
    {"gated", BOOL, offsetof(dsc_model, gated), 0, false},
    {"norm", NORM, offsetof(dsc_model, norm), 0, false},
    {"pos", POS, offsetof(dsc_model, pos), 0, false},
    {"causal", BOOL, offsetof(dsc_model, causal), 0, false},
    {"tied", BOOL, offsetof(dsc_model, tied), 0, false},
    /* of rotary positions alone, and the last */
    {"rope_theta", SIZE, offsetof(dsc_model, rope_theta), DSC_MAX_SIZE, false},
};
enum { KEYS = sizeof keys / sizeof *keys, ROPE_THETA = KEYS - 1 };

static const char *const bool_names[] = {"0", "1", NULL};
static const char *const norm_names[] = {"layer", "rms", NULL};
static const char *const pos_names[] = {"learned", "rope", NULL};

static int find_key(const char *name)
{
    for (int i = 0; i < KEYS; i++)
        if (dsc_equal(keys[i].name, name)) return i;
    return -1;
}

static dsc_status refuse_key(const char *where, const char *name)
{
    const char *names[KEYS], *nearest;

    for (int i = 0; i < KEYS; i++) names[i] = keys[i].name;
    nearest = dsc_nearest(name, names, KEYS);
    if (nearest != NULL)
        return DSC_FAIL(DSC_EINVAL, "%s: unknown key \"%s\"; did you mean \"%s\"?", where, name, nearest);
    return DSC_FAIL(DSC_EINVAL, "%s: unknown key \"%s\"", where, name);
}

static dsc_status set_value(const model_key *key, const char *word, dsc_model *model)
{
    char *field = (char *)model + key->offset;
    int choice = 0;
    dsc_status status;

    switch (key->type) {
    case SIZE: return dsc_parse_int(key->name, word, 1, key->high, (int64_t *)field);
    case BOOL:
        status = dsc_parse_choice(key->name, word, bool_names, &choice);
        if (status == DSC_OK) *(bool *)field = choice;
        return status;
    case NORM:
        status = dsc_parse_choice(key->name, word, norm_names, &choice);
        if (status == DSC_OK) model->norm = (dsc_norm)choice;
        return status;
    case POS:
        status = dsc_parse_choice(key->name, word, pos_names, &choice);
        if (status == DSC_OK) model->pos = (dsc_pos)choice;
        return status;
    }
    return DSC_OK;
}

static dsc_status set_named(const char *where, const char *name, const char *word, dsc_model *model, bool given[KEYS])
{
    int i = find_key(name);

    if (i < 0) return refuse_key(where, name);
    if (given[i]) return DSC_FAIL(DSC_EINVAL, "%s: key \"%s\" is given twice", where, name);
    given[i] = true;
    if (set_value(&keys[i], word, model) != DSC_OK) return dsc_fail_in(DSC_EINVAL, "%s", where);
    return DSC_OK;
}

static void init_defaults(dsc_model *model)
{
    char name[sizeof model->name];

    memcpy(name, model->name, sizeof name);
    *model = (dsc_model){.causal = true, .tied = true, .rope_theta = DSC_ROPE_THETA_DEFAULT};
    memcpy(model->name, name, sizeof name);
}

/* What depends on other keys. A gated MLP has three matrices: 8/3 of hidden keeps the size of two with 4. */
static dsc_status complete(const char *where, const bool given[KEYS], dsc_model *model)
{
    for (int i = 0; i < KEYS; i++)
        if (keys[i].is_needed && !given[i])
            return DSC_FAIL(DSC_EINVAL, "%s: missing key \"%s\"", where, keys[i].name);
    if (given[ROPE_THETA] && model->pos != DSC_POS_ROPE)
        return DSC_FAIL(DSC_EINVAL, "%s: key \"rope_theta\" is of rotary positions, and pos is learned", where);
    if (model->kv_heads == 0) model->kv_heads = model->heads;
    if (model->ffn == 0)
        model->ffn = model->gated ? dsc_round_up(dsc_ceil_div(8 * model->hidden, 3), 64) : 4 * model->hidden;
    return DSC_OK;
}

static dsc_status set_pairs(const char *where, char *text, dsc_model *model, bool given[KEYS])
{
    char *rest = text, *pair, *word;

    while ((pair = strsep(&rest, ",")) != NULL) {
        word = strchr(pair, '=');
        if (word == NULL) return DSC_FAIL(DSC_EINVAL, "%s: expected key=value, got \"%s\"", where, pair);
        *word++ = '\0';
        if (set_named(where, pair, word, model, given) != DSC_OK) return DSC_EINVAL;
    }
    return DSC_OK;
}

dsc_status dsc_model_from_inline(const char *where, const char *text, dsc_model *out)
{
    dsc_status status = DSC_OK;
    char *copy = strdup(text);
    bool given[KEYS] = {false};

    if (copy == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "%s: no memory for the description", where);
        goto out;
    }
    init_defaults(out);
    DSC_TRY(set_pairs(where, copy, out, given));
    DSC_TRY(complete(where, given, out));
out:
    free(copy);
    return status;
}

/* A JSON value as the word that stands for it inline. */
static dsc_status word_of(const char *where, const char *name, const json_t *value, char out[64])
{
    if (json_is_integer(value)) snprintf(out, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value)) snprintf(out, 64, "%.17g", json_real_value(value));
    else if (json_is_boolean(value)) snprintf(out, 64, "%d", json_is_true(value));
    else if (json_is_string(value)) snprintf(out, 64, "%s", json_string_value(value));
    else return DSC_FAIL(DSC_EINVAL, "%s: \"%s\": got %s", where, name, dsc_json_kind(value));
    return DSC_OK;
}

dsc_status dsc_model_from_keys(const char *where, const json_t *object, dsc_model *out)
{
    bool given[KEYS] = {false};
    char word[64];
    const char *name;
    json_t *value;
    dsc_status status = DSC_OK;

    init_defaults(out);
    json_object_foreach((json_t *)object, name, value) { /* the macro wants it mutable, and does not change it */
        DSC_TRY(word_of(where, name, value, word));
        DSC_TRY(set_named(where, name, word, out, given));
    }
    DSC_TRY(complete(where, given, out));
out:
    return status;
}

static json_t *value_of(const model_key *key, const dsc_model *model)
{
    const char *field = (const char *)model + key->offset;

    switch (key->type) {
    case SIZE: return json_integer(*(const int64_t *)field);
    case BOOL: return json_integer(*(const bool *)field);
    case NORM: return json_string(norm_names[model->norm]);
    case POS: return json_string(pos_names[model->pos]);
    }
    return NULL;
}

char *dsc_model_json(const dsc_model *model)
{
    json_t *object = json_object();
    char *text = NULL;
    bool ok = object != NULL;

    for (int i = 0; ok && i < KEYS - (model->pos != DSC_POS_ROPE); i++)
        ok = json_object_set_new(object, keys[i].name, value_of(&keys[i], model)) == 0;
    if (ok) text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

void dsc_model_words(const dsc_model *model, dsc_text *out)
{
    dsc_model plain = {.layers = 0};

    init_defaults(&plain);
    for (int i = 0; i < KEYS; i++) {
        json_t *value = value_of(&keys[i], model), *by_default = value_of(&keys[i], &plain);
        char word[64] = "";

        if (word_of("model", keys[i].name, value, word) != DSC_OK) out->failed = true;
        if (!json_equal(value, by_default)) dsc_text_add(out, "%s%s=%s", i > 0 ? "," : "", keys[i].name, word);
        json_decref(value);
        json_decref(by_default);
    }
}
