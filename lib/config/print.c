#include "config/keys.h"
#include <stdlib.h>
#include <string.h>

/* Degrees and sizes that are not given hold a value that could not be: null, or the word beside the numbers. */
static json_t *int_or_null(const dsc_field *field, int64_t value)
{
    if (field->choices != NULL && (double)value < field->low) return json_string(field->choices[0]);
    return (double)value < field->low ? json_null() : json_integer(value);
}

/* A word, or a number where the words are numbers. */
static json_t *choice_word(const dsc_field *field, int value)
{
    for (int i = 0; field->choices[i] != NULL; i++) {
        const char *word = field->choices[i];

        if ((field->values != NULL ? field->values[i] : i) != value) continue;
        return strspn(word, "0123456789") == strlen(word) ? json_integer(atoi(word)) : json_string(word);
    }
    return json_null();
}

/* A number, or the word beside the numbers. */
static json_t *real_or_word(const dsc_field *field, double value)
{
    return field->choices != NULL && value < field->low ? json_string(field->choices[0]) : json_real(value);
}

json_t *dsc_field_json(const dsc_field *field, const dsc_config *config)
{
    const void *at = (const char *)config + field->offset;

    switch (field->type) {
    case DSC_FIELD_INT:
    case DSC_FIELD_BYTES: return int_or_null(field, *(const int64_t *)at);
    case DSC_FIELD_REAL: return real_or_word(field, *(const double *)at);
    case DSC_FIELD_BOOL:
    case DSC_FIELD_FLAG: return json_boolean(*(const bool *)at);
    case DSC_FIELD_CHOICE: return choice_word(field, *(const int *)at);
    case DSC_FIELD_STRING: return json_string(at);
    }
    return NULL;
}

/* The row's name as a key of JSON. */
static bool add_row(const dsc_field *field, const dsc_config *config, json_t *object)
{
    char key[64] = "";

    strncpy(key, field->name, sizeof key - 1);
    for (char *c = key; *c != '\0'; c++)
        if (*c == '-') *c = '_';
    return json_object_set_new(object, key, dsc_field_json(field, config)) == 0;
}

json_t *dsc_rows_json(const dsc_config *config)
{
    json_t *rows = json_object();

    for (const dsc_field *field = dsc_config_fields(); rows != NULL && field->name != NULL; field++) {
        if (add_row(field, config, rows)) continue;
        json_decref(rows);
        return NULL;
    }
    return rows;
}

char *dsc_config_json(const dsc_config *config)
{
    json_t *object = json_pack("{s:o}", "dsc", dsc_rows_json(config));
    char *text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);

    json_decref(object);
    return text;
}
