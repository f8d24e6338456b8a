/* Megatron's indexed data sets: PREFIX.bin holds the tokens of all sequences back to back, PREFIX.idx tells them
 * apart. Layout of the index, little endian: "MMIDIDX\0\0", u64 version, u8 code of the token type, u64 sequences s,
 * u64 document boundaries d, i32[s] lengths in tokens, i64[s] byte offsets into .bin, i64[d] boundaries as sequence
 * numbers, and in multimodal sets i8[s] modes. */
#include "data/internal.h"
#include <string.h>

static const char magic[9] = "MMIDIDX\0";
enum { VERSION_AT = 9, CODE_AT = 17, SEQUENCES_AT = 18, BOUNDARIES_AT = 26, HEADER_BYTES = 34 };

typedef struct index_view {
    const char *path;
    uint64_t sequences, boundaries;
    const char *lengths, *offsets, *bounds;
} index_view;

static dsc_status find_encoding(const dsc_file *index, dsc_encoding *out)
{
    static const int8_t encodings[] = {-1, DSC_U8, DSC_I8, DSC_I16, DSC_I32, DSC_I64, -1, -1, DSC_U16};
    int code = (unsigned char)index->map[CODE_AT];

    if (code >= DSC_COUNT(encodings) || encodings[code] < 0)
        return DSC_FAIL(DSC_EINVAL, "%s: token type %d; the integer types are 1 to 5 and 8", index->path, code);
    *out = (dsc_encoding)encodings[code];
    return DSC_OK;
}

static dsc_status check_header(const dsc_file *index)
{
    if (index->bytes < HEADER_BYTES)
        return DSC_FAIL(DSC_EINVAL, "%s: %lld bytes, and the header of an index takes %d", index->path,
                        (long long)index->bytes, HEADER_BYTES);
    if (memcmp(index->map, magic, sizeof magic) != 0)
        return DSC_FAIL(DSC_EINVAL, "%s: wrong magic: a Megatron index begins with MMIDIDX and two zero bytes",
                        index->path);
    if (dsc_read_u64(index->map + VERSION_AT) != 1)
        return DSC_FAIL(DSC_EINVAL, "%s: version %llu, and 1 is known", index->path,
                        (unsigned long long)dsc_read_u64(index->map + VERSION_AT));
    return DSC_OK;
}

/* Checks the counts against the index's size, so that the three tables can be read. */
static dsc_status find_tables(const dsc_file *index, index_view *out)
{
    uint64_t sequences = dsc_read_u64(index->map + SEQUENCES_AT), boundaries = dsc_read_u64(index->map + BOUNDARIES_AT);
    uint64_t room = (uint64_t)index->bytes, needed;

    if (sequences > room || boundaries > room)
        return DSC_FAIL(DSC_EINVAL, "%s: %llu sequences and %llu document boundaries cannot stand in %lld bytes",
                        index->path, (unsigned long long)sequences, (unsigned long long)boundaries,
                        (long long)index->bytes);
    needed = HEADER_BYTES + sequences * (4 + 8) + boundaries * 8;
    if (room != needed && room != needed + sequences)
        return DSC_FAIL(DSC_EINVAL, "%s: %llu sequences and %llu document boundaries take %llu bytes, and the file has "
                        "%lld", index->path, (unsigned long long)sequences, (unsigned long long)boundaries,
                        (unsigned long long)needed, (long long)index->bytes);
    *out = (index_view){.path = index->path, .sequences = sequences, .boundaries = boundaries,
                        .lengths = index->map + HEADER_BYTES};
    out->offsets = out->lengths + sequences * 4;
    out->bounds = out->offsets + sequences * 8;
    return DSC_OK;
}

/* Sequences follow each other without a gap, so that one run of tokens is the documents in order. */
static dsc_status check_sequences(const index_view *index, int64_t token_bytes, int64_t *tokens)
{
    int64_t sum = 0;

    for (uint64_t i = 0; i < index->sequences; i++) {
        int32_t length = (int32_t)dsc_read_u32(index->lengths + i * 4);
        int64_t offset = (int64_t)dsc_read_u64(index->offsets + i * 8);

        if (length < 0)
            return DSC_FAIL(DSC_EINVAL, "%s: sequence %llu has %d tokens", index->path, (unsigned long long)i, length);
        if (offset != sum * token_bytes)
            return DSC_FAIL(DSC_EINVAL, "%s: sequence %llu is at byte %lld, and those before it end at %lld",
                            index->path, (unsigned long long)i, (long long)offset, (long long)(sum * token_bytes));
        sum += length; /* below 2^31 times the bytes of a file that could be mapped: no overflow */
    }
    *tokens = sum;
    return DSC_OK;
}

static dsc_status check_boundaries(const index_view *index)
{
    uint64_t before = 0;

    for (uint64_t i = 0; i < index->boundaries; i++) {
        uint64_t bound = dsc_read_u64(index->bounds + i * 8);

        if (bound < before || bound > index->sequences || (i == 0 && bound != 0))
            return DSC_FAIL(DSC_EINVAL, "%s: document boundary %llu is %lld, after %llu and with %llu sequences",
                            index->path, (unsigned long long)i, (long long)bound, (unsigned long long)before,
                            (unsigned long long)index->sequences);
        before = bound;
    }
    if (before == index->sequences) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s: its documents end at sequence %llu, and there are %llu", index->path,
                    (unsigned long long)before, (unsigned long long)index->sequences);
}

dsc_status dsc_megatron_parse(const dsc_file *index, dsc_file *file)
{
    dsc_status status;
    dsc_encoding encoding = DSC_U8;
    index_view view = {0};
    int64_t tokens = 0, token_bytes;

    DSC_TRY(check_header(index));
    DSC_TRY(find_encoding(index, &encoding));
    DSC_TRY(find_tables(index, &view));
    token_bytes = dsc_encoding_bytes(encoding);
    DSC_TRY(check_sequences(&view, token_bytes, &tokens));
    DSC_TRY(check_boundaries(&view));
    if (tokens == 0) return DSC_FAIL(DSC_EINVAL, "%s: the index counts 0 tokens", index->path);
    if (tokens * token_bytes != file->bytes)
        return DSC_FAIL(DSC_EINVAL, "%s: %lld bytes, and %s counts %lld tokens of %lld bytes, which take %lld",
                        file->path, (long long)file->bytes, index->path, (long long)tokens, (long long)token_bytes,
                        (long long)(tokens * token_bytes));
    file->format = DSC_MEGATRON;
    file->encoding = encoding;
    file->tokens_at = 0;
    file->tokens = tokens;
out:
    return status;
}
