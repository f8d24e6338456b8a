/* Reading JSON that a user wrote, over jansson: every message names the file, the key and what stands there. */
#ifndef DSC_BASE_JSON_H
#define DSC_BASE_JSON_H

#include "base/array.h"
#include <jansson.h>

/* Reads a file ("-" is standard input). HJSON's commonest liberties are accepted: comments (#, //, block) and trailing
 * commas; a duplicate key is an error. A file that cannot be read is DSC_EINVAL too; what does not parse is named as
 * FILE:LINE:COLUMN. The caller owns *out (json_decref). */
dsc_status dsc_json_load(const char *path, json_t **out);

/* The value must be an object: DSC_EINVAL names `where` and what stands there instead. */
dsc_status dsc_json_object(const char *where, const json_t *value);

/* Refuses the first key of object that is not in names[0..count): "FILE: unknown key "x"; did you mean "y"?". */
dsc_status dsc_json_check_keys(const char *where, const json_t *object, const char *const *names, int64_t count);

/* Optional members: an absent key (or null, or the string "auto") leaves *out as it is. Wrong types and values out of
 * bounds are DSC_EINVAL naming where and key. Integers may be written 5e8. */
dsc_status dsc_json_int(const char *where, const json_t *object, const char *key, int64_t low, int64_t high,
                        int64_t *out);
dsc_status dsc_json_real(const char *where, const json_t *object, const char *key, double low, double high,
                         double *out);
dsc_status dsc_json_bool(const char *where, const json_t *object, const char *key, bool *out);
/* Copies into out[size]; longer strings are refused. */
dsc_status dsc_json_string(const char *where, const json_t *object, const char *key, char *out, size_t size);

/* "an object", "a string", ... for messages. Pure. */
const char *dsc_json_kind(const json_t *value);

#endif
