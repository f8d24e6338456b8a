/* llm.c's token files: 256 little-endian 32-bit words (magic, version, number of tokens, zeros), then the tokens. */
#include "data/internal.h"

enum { HEADER_BYTES = 1024 };

typedef struct kind {
    uint32_t magic, version;
    dsc_encoding encoding;
} kind;

static const kind kinds[] = {{20240520, 1, DSC_U16}, {20240801, 7, DSC_U32}};

static const kind *find_kind(uint32_t magic)
{
    for (int64_t i = 0; i < DSC_COUNT(kinds); i++)
        if (kinds[i].magic == magic) return &kinds[i];
    return NULL;
}

dsc_status dsc_llmc_parse(dsc_file *file)
{
    const kind *found;
    uint32_t magic, version, tokens;
    int64_t expected_bytes;

    if (file->bytes < HEADER_BYTES)
        return DSC_FAIL(DSC_EINVAL, "%s: %lld bytes, and the header of a token file takes %d", file->path,
                        (long long)file->bytes, HEADER_BYTES);
    magic = dsc_read_u32(file->map);
    version = dsc_read_u32(file->map + 4);
    tokens = dsc_read_u32(file->map + 8);
    found = find_kind(magic);
    if (found == NULL)
        return DSC_FAIL(DSC_EINVAL, "%s: magic number %u, and a token file of llm.c begins with %u (16-bit tokens) or "
                        "%u (32-bit); a Megatron data set is named without its .bin",
                        file->path, magic, kinds[0].magic, kinds[1].magic);
    if (version != found->version)
        return DSC_FAIL(DSC_EINVAL, "%s: version %u, and magic number %u goes with version %u", file->path, version,
                        magic, found->version);
    if (tokens == 0) return DSC_FAIL(DSC_EINVAL, "%s: its header counts 0 tokens", file->path);
    expected_bytes = HEADER_BYTES + (int64_t)tokens * dsc_encoding_bytes(found->encoding);
    if (file->bytes != expected_bytes)
        return DSC_FAIL(DSC_EINVAL, "%s: its header counts %u tokens, which take %lld bytes, and the file has %lld",
                        file->path, tokens, (long long)expected_bytes, (long long)file->bytes);
    file->format = DSC_LLMC;
    file->encoding = found->encoding;
    file->tokens_at = HEADER_BYTES;
    file->tokens = tokens;
    return DSC_OK;
}
