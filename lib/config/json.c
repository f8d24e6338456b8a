/* One walk over DeepSpeed's JSON by the tables of keys.c. It counts complaints, of which the first is told. */
#include "base/log.h"
#include "config/keys.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATH_SIZE = 160 };

void dsc_complain(dsc_reader *reader, const char *path, const char *format, ...)
{
    va_list arguments;

    if (++reader->complaint_count > 1) return;
    dsc_text_add(&reader->complaint, path != NULL ? "%s: \"%s\": " : "%s: ", reader->where, path);
    va_start(arguments, format);
    dsc_text_add_v(&reader->complaint, format, arguments);
    va_end(arguments);
}

void dsc_complain_message(dsc_reader *reader)
{
    if (++reader->complaint_count == 1) dsc_text_add(&reader->complaint, "%s", dsc_message());
}

bool dsc_read_bool(dsc_reader *reader, const char *path, const json_t *object, const char *key)
{
    char full[PATH_SIZE];
    const json_t *value = json_object_get(object, key);

    if (value == NULL || json_is_boolean(value)) return json_is_true(value);
    snprintf(full, sizeof full, "%s.%s", path, key);
    if (!dsc_equal(json_string_value(value), "auto")) /* DeepSpeed's users write it for Hugging Face to fill in */
        dsc_complain(reader, full, "expected true or false, got %s", dsc_json_kind(value));
    return false;
}

/* ---- Setting rows */

static bool fits(const dsc_field *field, const json_t *value)
{
    switch (field->type) {
    case DSC_FIELD_INT:
    case DSC_FIELD_REAL: return json_is_number(value) || (field->choices != NULL && json_is_string(value));
    case DSC_FIELD_BYTES: return json_is_number(value) || json_is_string(value);
    case DSC_FIELD_BOOL:
    case DSC_FIELD_FLAG: return json_is_boolean(value);
    case DSC_FIELD_CHOICE: return json_is_string(value) || json_is_integer(value);
    case DSC_FIELD_STRING: return json_is_string(value);
    }
    return false;
}

static const char *kind_of(const dsc_field *field)
{
    static const char *const kinds[] = {
        [DSC_FIELD_INT] = "a whole number", [DSC_FIELD_REAL] = "a number",   [DSC_FIELD_BOOL] = "true or false",
        [DSC_FIELD_BYTES] = "a size",       [DSC_FIELD_CHOICE] = "a string", [DSC_FIELD_STRING] = "a string",
        [DSC_FIELD_FLAG] = "true or false",
    };

    return kinds[field->type];
}

/* The value as the command line would have it; in a number's case, written to out. */
static const char *word_of(const json_t *value, char *out, size_t size)
{
    if (json_is_string(value)) return json_string_value(value);
    if (json_is_boolean(value)) snprintf(out, size, "%d", json_is_true(value));
    else if (json_is_integer(value)) snprintf(out, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else snprintf(out, size, "%.17g", json_real_value(value));
    return out;
}

void dsc_read_field(dsc_reader *reader, const char *path, const dsc_field *field, const json_t *value)
{
    char number[64], what[1024];

    if (!fits(field, value)) {
        dsc_complain(reader, path, "expected %s, got %s", kind_of(field), dsc_json_kind(value));
        return;
    }
    snprintf(what, sizeof what, "%s: \"%s\"", reader->where, path);
    if (dsc_field_set(field, reader->config, what, word_of(value, number, sizeof number)) != DSC_OK)
        dsc_complain_message(reader);
}

/* ---- Walking */

/* Numbers are compared as numbers: 5e8 is 500000000. */
static bool is_harmless(const json_t *value, const char *text)
{
    json_t *harmless = text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    bool is_equal = json_is_number(value) && json_is_number(harmless)
                        ? fabs(json_number_value(value) - json_number_value(harmless)) <= 0
                        : harmless != NULL && json_equal(value, harmless);

    json_decref(harmless);
    return is_equal;
}

static void report(dsc_reader *reader, const char *path, const dsc_key *key)
{
    bool is_refused = key->fate == DSC_KEY_REFUSE || key->fate == DSC_KEY_REFUSE_ENABLED;

    if (is_refused) dsc_complain(reader, path, "%s", key->why);
    else dsc_log(DSC_WARNING, "%s: \"%s\": %s", reader->where, path, key->why);
}

static void complain_of_unknown(dsc_reader *reader, const char *path, const char *name, const dsc_key *keys)
{
    const char *names[128], *nearest;
    int64_t count = 0;

    for (; keys->name != NULL && count < DSC_COUNT(names); keys++) names[count++] = keys->name;
    nearest = dsc_nearest(name, names, count);
    if (nearest != NULL) dsc_complain(reader, NULL, "unknown key \"%s\"; did you mean \"%s\"?", path, nearest);
    else dsc_complain(reader, NULL, "unknown key \"%s\"", path);
}

static void read_key(dsc_reader *reader, const char *path, const json_t *value, const dsc_key *key)
{
    switch (key->fate) {
    case DSC_KEY_FIELD:
        dsc_read_field(reader, path, dsc_field_find(dsc_config_fields(), key->text), value);
        break;
    case DSC_KEY_FREE: break;
    case DSC_KEY_WARN:
    case DSC_KEY_REFUSE:
        if (!is_harmless(value, key->text)) report(reader, path, key);
        break;
    case DSC_KEY_WARN_ENABLED:
    case DSC_KEY_REFUSE_ENABLED:
        if (!json_is_object(value) ? !json_is_false(value) : dsc_read_bool(reader, path, value, "enabled"))
            report(reader, path, key);
        break;
    case DSC_KEY_SECTION: dsc_read_object(reader, path, value, key->section); break;
    case DSC_KEY_CALL: key->call(reader, path, value); break;
    }
}

static const dsc_key *find_key(const dsc_key *keys, const char *name)
{
    for (; keys->name != NULL; keys++)
        if (dsc_equal(keys->name, name)) return keys;
    return NULL;
}

/* "auto", which leaves the default, unless it is a value of the key. */
static bool is_left_open(const json_t *value, const dsc_key *key)
{
    const dsc_field *field = key->fate == DSC_KEY_FIELD ? dsc_field_find(dsc_config_fields(), key->text) : NULL;
    bool is_number = field != NULL && (field->type == DSC_FIELD_REAL || field->type == DSC_FIELD_INT);
    bool is_value = is_number && field->choices != NULL;

    return !is_value && dsc_equal(json_string_value(value), "auto");
}

void dsc_read_object(dsc_reader *reader, const char *path, const json_t *object, const dsc_key *keys)
{
    char full[PATH_SIZE];
    const char *name;
    json_t *value;

    if (!json_is_object(object)) dsc_complain(reader, path, "expected an object, got %s", dsc_json_kind(object));
    json_object_foreach((json_t *)object, name, value) { /* the macro wants it mutable, and does not change it */
        const dsc_key *key = find_key(keys, name);

        snprintf(full, sizeof full, "%s%s%s", path, path[0] == '\0' ? "" : ".", name);
        if (key == NULL) complain_of_unknown(reader, full, name, keys);
        else if (!json_is_null(value) && !is_left_open(value, key))
            read_key(reader, full, value, key);
    }
}

dsc_status dsc_config_read(const char *where, const json_t *object, dsc_config *config)
{
    dsc_reader reader = {.where = where, .config = config};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_json_object(where, object));
    dsc_read_object(&reader, "", object, dsc_top_keys);
    if (reader.has_fp16 && reader.has_bf16) dsc_complain(&reader, NULL, "\"fp16\" and \"bf16\" are both enabled");
    if (reader.complaint_count > 1) dsc_text_add(&reader.complaint, " (and %d more)", reader.complaint_count - 1);
    if (reader.complaint_count > 0) status = DSC_FAIL(DSC_EINVAL, "%s", dsc_text_str(&reader.complaint));
out:
    dsc_text_fini(&reader.complaint);
    return status;
}

dsc_status dsc_config_load(const char *path, dsc_config *config)
{
    dsc_status status = DSC_OK;
    json_t *object = NULL;

    DSC_TRY(dsc_json_load(path, &object));
    DSC_TRY(dsc_config_read(dsc_equal(path, "-") ? "standard input" : path, object, config));
out:
    json_decref(object);
    return status;
}
