/* Where tokens come from, and in which order samples are drawn. */
#ifndef DSC_DATA_DATA_H
#define DSC_DATA_DATA_H

#include "base/text.h"
#include "base/hash.h"

/* One or several files of one format seen as one run of tokens: text files or folders (bytes as tokens, files in byte
 * order of path, concatenated; whatever lies in a folder is text, an empty file there adds nothing), llm.c .bin
 * files, or Megatron indexed data sets (prefix of .bin/.idx; documents in the order of the index). Files are mapped,
 * not read. */
typedef struct dsc_source dsc_source;

/* `description` is one path or several separated by commas (a path that exists as it stands is one). DSC_EINVAL names
 * the file and what is wrong (absent, empty, wrong magic, version, truncated: both numbers). */
dsc_status dsc_source_open(const char *description, dsc_source **out);
void dsc_source_close(dsc_source *source);
int64_t dsc_source_tokens(const dsc_source *source);
const char *dsc_source_description(const dsc_source *source); /* as given; borrowed */
const char *dsc_source_format(const dsc_source *source);  /* "text", "llm.c", "megatron" */
/* Of format, length and content; computed at open, from blocks of big files (first, last and evenly spread). */
dsc_hash dsc_source_hash(const dsc_source *source);

/* Tokens first .. first + count - 1 as int32. An id outside [0, vocab) is DSC_EINVAL naming file, position, id and
 * vocab. */
dsc_status dsc_source_read(const dsc_source *source, int64_t first, int64_t count, int64_t vocab, int32_t *out);

/* Asks the system to have those tokens in memory soon; no errors, no waiting. */
void dsc_source_prefetch(const dsc_source *source, int64_t first, int64_t count);

/* ---- Samples: windows of seq + 1 tokens at stride seq; (tokens - 1) / seq of them */
enum { DSC_SAMPLER_VERSION = 1 };

typedef struct dsc_sampler {
    int64_t samples; /* of an epoch */
    int64_t seq;
    uint64_t key;    /* of seed and data hash */
} dsc_sampler;

/* DSC_EINVAL when the source holds fewer samples than global_batch: names the description and both numbers. */
dsc_status dsc_sampler_init(const dsc_source *source, int64_t seq, int64_t global_batch, uint64_t seed,
                            dsc_sampler *out);

/* The first token of the index-th sample since the start of training; epochs run on, each its own permutation, a pure
 * function of seed and data. */
int64_t dsc_sampler_token(const dsc_sampler *sampler, int64_t index);

#endif
