/* What the readers of formats share. */
#ifndef DSC_DATA_INTERNAL_H
#define DSC_DATA_INTERNAL_H

#include "data/data.h"

/* How one token is stored; little endian. */
typedef enum dsc_encoding { DSC_U8, DSC_I8, DSC_I16, DSC_I32, DSC_I64, DSC_U16, DSC_U32 } dsc_encoding;

typedef enum dsc_format { DSC_TEXT, DSC_LLMC, DSC_MEGATRON } dsc_format;

typedef struct dsc_file {
    char *path;        /* as the user wrote it, or below the folder that he wrote; owned */
    const char *map;   /* the whole file; owned */
    int64_t bytes;
    dsc_format format;
    dsc_encoding encoding;
    int64_t tokens_at; /* byte offset of the first token */
    int64_t tokens;
    int64_t first;     /* of its tokens, in the source */
} dsc_file;

struct dsc_source {
    char *description;
    dsc_file *files;
    int64_t count, capacity;
    int64_t tokens;
    dsc_hash hash;
};

int64_t dsc_encoding_bytes(dsc_encoding encoding);

/* Little-endian numbers at any address. */
uint32_t dsc_read_u32(const char *at);
uint64_t dsc_read_u64(const char *at);

/* Maps a regular file; bytes 0 has no map. The text, tokens and format are left to the caller. */
dsc_status dsc_file_map(const char *path, dsc_file *out);
void dsc_file_unmap(dsc_file *file); /* takes {0} */

/* Finds the tokens of a mapped file; the message names the file and both numbers that disagree. */
dsc_status dsc_llmc_parse(dsc_file *file);
dsc_status dsc_megatron_parse(const dsc_file *index, dsc_file *file);

/* The regular files below a folder in byte order of path; the caller owns the array and its strings. Links to folders
 * are not followed. */
dsc_status dsc_folder_list(const char *path, char ***out, int64_t *count);

#endif
