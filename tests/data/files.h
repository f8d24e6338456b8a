/* A temporary folder and the token files that tests write into it. */
#ifndef TESTS_DATA_FILES_H
#define TESTS_DATA_FILES_H

#include "base/text.h"

/* A fresh folder; the program ends when there is none to be had. */
void files_begin(void);
void files_end(void); /* removes it with all that is in it */

/* The path of a name in the folder; the last eight are valid. */
const char *files_path(const char *name);

/* Writes a file, whose folders are made as needed. */
void files_write(const char *name, const void *bytes, int64_t count);
void files_write_text(const char *name, const char *text);

/* The bytes of an llm.c token file, and of a Megatron index over sequences of these lengths, each a document of its
 * own. */
void files_llmc(dsc_text *out, uint32_t magic, uint32_t version, const uint32_t *tokens, int64_t count);
void files_index(dsc_text *out, uint8_t code, int64_t token_bytes, const int32_t *lengths, int64_t count);

/* Little-endian numbers; dsc_text keeps bytes, zeros included, only through these. */
void files_add(dsc_text *out, uint64_t value, int bytes);

#endif
