#include "data/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const format_names[] = {[DSC_TEXT] = "text", [DSC_LLMC] = "llm.c", [DSC_MEGATRON] = "megatron"};

/* ---- Opening */

static bool is_folder(const char *path)
{
    struct stat facts;

    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);

    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static void take_bytes_as_tokens(dsc_file *file)
{
    file->format = DSC_TEXT;
    file->encoding = DSC_U8;
    file->tokens_at = 0;
    file->tokens = file->bytes;
}

/* Takes the file, whose tokens are found. */
static dsc_status append(dsc_source *source, dsc_file *file)
{
    dsc_status status = DSC_OK;

    if (source->count > 0 && source->files[0].format != file->format) {
        status = DSC_FAIL(DSC_EINVAL, "%s is %s and %s is %s: one run of tokens comes from one format",
                          source->files[0].path, format_names[source->files[0].format], file->path,
                          format_names[file->format]);
        goto out;
    }
    file->first = source->tokens;
    DSC_TRY(DSC_PUSH(source->files, source->count, source->capacity, *file));
    source->tokens += file->tokens;
    *file = (dsc_file){0};
out:
    dsc_file_unmap(file);
    return status;
}

static dsc_status add_file(dsc_source *source, const char *path)
{
    dsc_status status = DSC_OK;
    dsc_file file = {0};

    DSC_TRY(dsc_file_map(path, &file));
    if (file.bytes == 0)
        status = DSC_FAIL(DSC_EINVAL, "%s: the file is empty", path);
    else if (ends_with(path, ".bin"))
        status = dsc_llmc_parse(&file);
    else
        take_bytes_as_tokens(&file);
    DSC_TRY(status);
    DSC_TRY(append(source, &file));
out:
    dsc_file_unmap(&file);
    return status;
}

/* A folder's files are text whatever their names; an empty one adds nothing. */
static dsc_status add_text(dsc_source *source, const char *path)
{
    dsc_file file = {0};
    dsc_status status = dsc_file_map(path, &file);

    if (status != DSC_OK) return status;
    take_bytes_as_tokens(&file);
    if (file.tokens > 0) return append(source, &file);
    dsc_file_unmap(&file);
    return DSC_OK;
}

static dsc_status add_folder(dsc_source *source, const char *path)
{
    dsc_status status = DSC_OK;
    char **paths = NULL;
    int64_t count = 0, tokens = source->tokens;

    DSC_TRY(dsc_folder_list(path, &paths, &count));
    for (int64_t i = 0; i < count; i++) DSC_TRY(add_text(source, paths[i]));
    if (source->tokens == tokens)
        status = DSC_FAIL(DSC_EINVAL, "%s: nothing to read in the folder and below (%lld files, all empty)", path,
                          (long long)count);
out:
    for (int64_t i = 0; i < count; i++) free(paths[i]);
    free(paths);
    return status;
}

static dsc_status add_megatron(dsc_source *source, const char *bin, const char *idx)
{
    dsc_status status = DSC_OK;
    dsc_file file = {0}, index = {0};

    DSC_TRY(dsc_file_map(idx, &index));
    DSC_TRY(dsc_file_map(bin, &file));
    DSC_TRY(dsc_megatron_parse(&index, &file));
    DSC_TRY(append(source, &file));
out:
    dsc_file_unmap(&index);
    dsc_file_unmap(&file);
    return status;
}

/* What a path is, is asked of the file system: a prefix of .bin and .idx, a folder, or a file. A prefix of which only
 * one half is there is taken for one too, so that the message names the other. */
static dsc_status add_path(dsc_source *source, const char *path)
{
    dsc_status status = DSC_OK;
    dsc_text bin = {0}, idx = {0};
    bool has_bin, has_idx;

    dsc_text_add(&bin, "%s.bin", path);
    dsc_text_add(&idx, "%s.idx", path);
    if (bin.failed || idx.failed) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory for the path %s", path);
        goto out;
    }
    has_bin = exists(bin.bytes);
    has_idx = exists(idx.bytes);
    if ((has_bin && has_idx) || ((has_bin || has_idx) && !exists(path)))
        DSC_TRY(add_megatron(source, bin.bytes, idx.bytes));
    else if (is_folder(path))
        DSC_TRY(add_folder(source, path));
    else
        DSC_TRY(add_file(source, path));
out:
    dsc_text_fini(&bin);
    dsc_text_fini(&idx);
    return status;
}

static dsc_status add_list(dsc_source *source, const char *description)
{
    dsc_status status = DSC_OK;
    char *list = strdup(description), *rest = list, *path;

    if (list == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for the paths %s", description);
    while ((path = strsep(&rest, ",")) != NULL) {
        if (*path == '\0') {
            status = DSC_FAIL(DSC_EINVAL, "data \"%s\": a path is empty", description);
            goto out;
        }
        DSC_TRY(add_path(source, path));
    }
out:
    free(list);
    return status;
}

/* ---- Hash: small files whole, of big ones as many blocks, spread evenly from the first to the last */

enum { HASH_BLOCK = 64 * 1024, HASH_BLOCKS = 64 };

static void hash_file(dsc_hasher *hasher, const dsc_file *file)
{
    const char *tokens = file->map + file->tokens_at;
    int64_t bytes = file->tokens * dsc_encoding_bytes(file->encoding);

    if (bytes <= HASH_BLOCK * HASH_BLOCKS) {
        dsc_hash_add(hasher, tokens, (size_t)bytes);
        return;
    }
    for (int64_t i = 0; i < HASH_BLOCKS; i++)
        dsc_hash_add(hasher, tokens + (bytes - HASH_BLOCK) / (HASH_BLOCKS - 1) * i, HASH_BLOCK);
    dsc_hash_add(hasher, tokens + bytes - HASH_BLOCK, HASH_BLOCK);
}

static dsc_status find_hash(dsc_source *source)
{
    const char *format = dsc_source_format(source);
    dsc_hasher *hasher = dsc_hash_begin();

    dsc_hash_add(hasher, format, strlen(format));
    dsc_hash_add(hasher, &source->tokens, sizeof source->tokens);
    for (int64_t i = 0; i < source->count; i++) hash_file(hasher, &source->files[i]);
    source->hash = dsc_hash_end(hasher);
    if (source->hash.hex[0] == '\0') return DSC_FAIL(DSC_ENOMEM, "no memory to hash %s", source->description);
    return DSC_OK;
}

dsc_status dsc_source_open(const char *description, dsc_source **out)
{
    dsc_status status = DSC_OK;
    dsc_source *source = calloc(1, sizeof *source);

    if (source != NULL) source->description = strdup(description);
    if (source == NULL || source->description == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory to open %s", description);
        goto out;
    }
    if (exists(description)) /* whatever commas its name has */
        DSC_TRY(add_path(source, description));
    else
        DSC_TRY(add_list(source, description));
    DSC_TRY(find_hash(source));
    *out = source;
    source = NULL;
out:
    dsc_source_close(source);
    return status;
}

void dsc_source_close(dsc_source *source)
{
    if (source == NULL) return;
    for (int64_t i = 0; i < source->count; i++) dsc_file_unmap(&source->files[i]);
    free(source->files);
    free(source->description);
    free(source);
}

int64_t dsc_source_tokens(const dsc_source *source) { return source->tokens; }
const char *dsc_source_format(const dsc_source *source) { return format_names[source->files[0].format]; }
const char *dsc_source_description(const dsc_source *source) { return source->description; }
dsc_hash dsc_source_hash(const dsc_source *source) { return source->hash; }

/* ---- Reading */

/* The file that holds a token: the last that begins at or before it. */
static const dsc_file *find_file(const dsc_source *source, int64_t token)
{
    int64_t low = 0, high = source->count - 1;

    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;

        if (source->files[middle].first <= token)
            low = middle;
        else
            high = middle - 1;
    }
    return &source->files[low];
}

static int64_t token_at(const dsc_file *file, int64_t index)
{
    const char *at = file->map + file->tokens_at + index * dsc_encoding_bytes(file->encoding);
    const unsigned char *b = (const unsigned char *)at;

    switch (file->encoding) {
    case DSC_U8: return b[0];
    case DSC_I8: return (int8_t)b[0];
    case DSC_U16: return b[0] | b[1] << 8;
    case DSC_I16: return (int16_t)(b[0] | b[1] << 8);
    case DSC_U32: return dsc_read_u32(at);
    case DSC_I32: return (int32_t)dsc_read_u32(at);
    case DSC_I64: return (int64_t)dsc_read_u64(at);
    }
    return -1;
}

/* Tokens [begin, end) of one file. */
static dsc_status read_file(const dsc_file *file, int64_t begin, int64_t end, int64_t vocab, int32_t *out)
{
    for (int64_t i = begin; i < end; i++) {
        int64_t token = token_at(file, i);

        if (token < 0 || token >= vocab)
            return DSC_FAIL(DSC_EINVAL, "%s: token %lld is %lld, and the vocabulary has %lld (0 .. %lld)", file->path,
                            (long long)i, (long long)token, (long long)vocab, (long long)vocab - 1);
        *out++ = (int32_t)token;
    }
    return DSC_OK;
}

dsc_status dsc_source_read(const dsc_source *source, int64_t first, int64_t count, int64_t vocab, int32_t *out)
{
    int64_t end = first + count;

    if (first < 0 || count < 0 || first > source->tokens - count)
        return DSC_FAIL(DSC_EINTERNAL, "%s: tokens %lld .. %lld of %lld", source->description, (long long)first,
                        (long long)end - 1, (long long)source->tokens);
    while (first < end) {
        const dsc_file *file = find_file(source, first);
        int64_t stop = DSC_MIN(end, file->first + file->tokens);
        dsc_status status = read_file(file, first - file->first, stop - file->first, vocab, out);

        if (status != DSC_OK) return status;
        out += stop - first;
        first = stop;
    }
    return DSC_OK;
}

static void prefetch_file(const dsc_file *file, int64_t begin, int64_t end)
{
    int64_t page = sysconf(_SC_PAGESIZE), width = dsc_encoding_bytes(file->encoding);
    int64_t low = (file->tokens_at + begin * width) / page * page, high = file->tokens_at + end * width;

    madvise((char *)file->map + low, (size_t)(high - low), MADV_WILLNEED);
}

void dsc_source_prefetch(const dsc_source *source, int64_t first, int64_t count)
{
    int64_t end = DSC_MIN(first + count, source->tokens);

    for (first = DSC_MAX(first, 0); first < end;) {
        const dsc_file *file = find_file(source, first);
        int64_t stop = DSC_MIN(end, file->first + file->tokens);

        prefetch_file(file, first - file->first, stop - file->first);
        first = stop;
    }
}
