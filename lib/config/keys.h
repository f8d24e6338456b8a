/* What becomes of each key of DeepSpeed's JSON: a table for each object (keys.c), read by one walk (json.c). */
#ifndef DSC_CONFIG_KEYS_H
#define DSC_CONFIG_KEYS_H

#include "base/text.h"
#include "config/config.h"

/* A configuration being read. */
typedef struct dsc_reader {
    const char *where; /* opens each message: the file */
    dsc_config *config;
    dsc_text complaint; /* the first */
    int complaint_count;
    bool has_fp16, has_bf16;
} dsc_reader;

typedef void dsc_key_function(dsc_reader *reader, const char *path, const json_t *value);

typedef enum dsc_key_fate {
    DSC_KEY_FIELD,          /* sets the row of dsc_config_fields named in text */
    DSC_KEY_FREE,           /* says nothing about training, or what we do anyway */
    DSC_KEY_WARN,           /* reported unless its value is text (JSON) */
    DSC_KEY_REFUSE,         /* refused unless its value is text; always when text is NULL */
    DSC_KEY_WARN_ENABLED,   /* an object, reported unless its "enabled" is false */
    DSC_KEY_REFUSE_ENABLED, /* the same, refused */
    DSC_KEY_SECTION,        /* an object with keys of its own */
    DSC_KEY_CALL            /* whatever needs more than a row */
} dsc_key_fate;

typedef struct dsc_key {
    const char *name; /* NULL ends a table */
    dsc_key_fate fate;
    const char *text;
    const char *why;  /* the rest of the sentence in a report or refusal */
    const struct dsc_key *section;
    dsc_key_function *call;
} dsc_key;

extern const dsc_key dsc_top_keys[], dsc_zero_keys[], dsc_fp16_keys[];
/* Of the section of one class; its parameters are the section "params". */
const dsc_key *dsc_optimizer_keys(int optimizer);
const dsc_key *dsc_scheduler_keys(int type);
extern const char *const DSC_DEEPSPEED_OPTIMIZERS[]; /* names of the classes, by dsc_optimizer; ended by NULL */

/* A row's value as "dsc" has it; null where it was not given. */
json_t *dsc_field_json(const dsc_field *field, const dsc_config *config);
/* {every registered row: its value}; NULL when memory is out. */
json_t *dsc_rows_json(const dsc_config *config);

/* Walks an object by a table; complains about keys that the table lacks, and about what is no object. `path` is "" at
 * the top. */
void dsc_read_object(dsc_reader *reader, const char *path, const json_t *object, const dsc_key *keys);

/* Sets a row from a JSON value of the fitting kind. */
void dsc_read_field(dsc_reader *reader, const char *path, const dsc_field *field, const json_t *value);

/* Notes a complaint: of where, path (unless NULL) and text, or the thread's message as it is. */
void dsc_complain(dsc_reader *reader, const char *path, const char *format, ...) __attribute__((format(printf, 3, 4)));
void dsc_complain_message(dsc_reader *reader);

/* A boolean member of an object; false when absent, and a complaint when it is something else. */
bool dsc_read_bool(dsc_reader *reader, const char *path, const json_t *object, const char *key);

#endif
