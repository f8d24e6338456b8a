#include "store/manifest.h"
#include "store/paths.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void dsc_manifest_fini(dsc_manifest *manifest)
{
    for (int64_t i = 0; i < manifest->range_count; i++) free(manifest->ranges[i].blocks);
    free(manifest->ranges);
    *manifest = (dsc_manifest){0};
}

/* ---- Ranges */

static bool is_data(const dsc_range *range)
{
    return range->name[0] == '/';
}

dsc_status dsc_manifest_add(dsc_manifest *manifest, const char *name, int64_t offset, int64_t bytes)
{
    dsc_range range = {.offset = offset, .bytes = bytes};

    if (strlen(name) >= sizeof range.name)
        return DSC_FAIL(DSC_ENOTSUP, "a manifest has no room for a name of %zu bytes: %s", strlen(name), name);
    strcpy(range.name, name);
    return DSC_PUSH(manifest->ranges, manifest->range_count, manifest->range_capacity, range);
}

static int compare_offsets(const void *a, const void *b)
{
    const dsc_range *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Ranges ascend, touch and end with the file. */
static bool covers(const dsc_manifest *manifest)
{
    int64_t reached = 0;

    for (int64_t i = 0; i < manifest->range_count; i++) {
        if (manifest->ranges[i].offset != reached || manifest->ranges[i].bytes < 0) return false;
        if (!dsc_add(reached, manifest->ranges[i].bytes, &reached)) return false;
    }
    return reached == manifest->bytes;
}

static dsc_status make_blocks(dsc_range *range)
{
    range->block_count = dsc_ceil_div(range->bytes, DSC_BLOCK_BYTES);
    range->blocks = calloc((size_t)range->block_count + 1, sizeof *range->blocks);
    return range->blocks != NULL ? DSC_OK
                                 : DSC_FAIL(DSC_ENOMEM, "no memory for %" PRId64 " hashes", range->block_count);
}

dsc_status dsc_manifest_cover(dsc_manifest *manifest, int64_t file_bytes)
{
    int64_t data_count = manifest->range_count, reached = 0;
    dsc_status status = DSC_OK;

    manifest->bytes = file_bytes;
    qsort(manifest->ranges, (size_t)data_count, sizeof *manifest->ranges, compare_offsets);
    for (int64_t i = 0; i <= data_count; i++) {
        int64_t next = i < data_count ? manifest->ranges[i].offset : file_bytes;

        if (next > reached) DSC_TRY(dsc_manifest_add(manifest, DSC_STRUCTURE, reached, next - reached));
        reached = i < data_count ? next + manifest->ranges[i].bytes : next;
    }
    qsort(manifest->ranges, (size_t)manifest->range_count, sizeof *manifest->ranges, compare_offsets);
    if (!covers(manifest))
        return DSC_FAIL(DSC_EINTERNAL, "tensors overlap, or lie outside a file of %" PRId64 " bytes", file_bytes);
    for (int64_t i = 0; i < manifest->range_count; i++) DSC_TRY(make_blocks(&manifest->ranges[i]));
out:
    return status;
}

/* ---- Hashes */

enum { PIECE_BYTES = 1 << 20 }; /* stays in the cache between reading and hashing */

static dsc_status hash_bytes(int file, int64_t offset, int64_t bytes, char *piece, dsc_hasher *hasher)
{
    while (bytes > 0) {
        ssize_t got = pread(file, piece, (size_t)DSC_MIN(bytes, (int64_t)PIECE_BYTES), offset);

        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return DSC_FAIL(DSC_EIO, "cannot read byte %" PRId64 ": %s", offset,
                            got == 0 ? "the file ends" : strerror(errno));
        dsc_hash_add(hasher, piece, (size_t)got);
        offset += got;
        bytes -= got;
    }
    return DSC_OK;
}

/* The hash of one block of a range. */
static dsc_status hash_block(int file, const dsc_range *range, int64_t block, dsc_hash *out)
{
    int64_t start = block * DSC_BLOCK_BYTES;
    char *piece = malloc(PIECE_BYTES);
    dsc_hasher *hasher = dsc_hash_begin();
    dsc_status status;

    if (piece == NULL || hasher == NULL)
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %d bytes", PIECE_BYTES);
    else
        status = hash_bytes(file, range->offset + start, DSC_MIN(DSC_BLOCK_BYTES, range->bytes - start), piece, hasher);
    if (hasher != NULL) {
        dsc_hash hash = dsc_hash_end(hasher);

        if (status == DSC_OK) *out = hash;
    }
    free(piece);
    return status;
}

/* Adds a hash to a hash of hashes, as its 16 canonical bytes. */
static void add_hash(dsc_hasher *hasher, const dsc_hash *hash)
{
    unsigned char canonical[16];

    for (size_t i = 0; i < sizeof canonical; i++) sscanf(hash->hex + 2 * i, "%2hhx", &canonical[i]);
    dsc_hash_add(hasher, canonical, sizeof canonical);
}

static dsc_hash hash_of_blocks(const dsc_range *range)
{
    dsc_hasher *hasher = dsc_hash_begin();

    for (int64_t i = 0; i < range->block_count; i++) add_hash(hasher, &range->blocks[i]);
    return dsc_hash_end(hasher);
}

static dsc_hash hash_of_ranges(const dsc_manifest *manifest)
{
    dsc_hasher *hasher = dsc_hash_begin();

    for (int64_t i = 0; i < manifest->range_count; i++) add_hash(hasher, &manifest->ranges[i].hash);
    return dsc_hash_end(hasher);
}

int64_t dsc_manifest_blocks(const dsc_manifest *manifest)
{
    int64_t count = 0;

    for (int64_t i = 0; i < manifest->range_count; i++) count += manifest->ranges[i].block_count;
    return count;
}

/* The share in which a byte of the file lies. */
static int64_t part_of(const dsc_manifest *manifest, int64_t byte, int64_t parts)
{
    return byte / dsc_ceil_div(DSC_MAX(manifest->bytes, 1), parts);
}

dsc_status dsc_manifest_hash_part(int file, const dsc_manifest *manifest, int64_t part, int64_t parts, dsc_hash *out,
                                  int64_t *count)
{
    dsc_status status = DSC_OK;

    *count = 0;
    for (int64_t i = 0; i < manifest->range_count; i++)
        for (int64_t block = 0; block < manifest->ranges[i].block_count; block++)
            if (part_of(manifest, manifest->ranges[i].offset + block * DSC_BLOCK_BYTES, parts) == part)
                DSC_TRY(hash_block(file, &manifest->ranges[i], block, &out[(*count)++]));
out:
    return status;
}

dsc_status dsc_manifest_close(dsc_manifest *manifest, const dsc_hash *hashes, int64_t count)
{
    const int64_t blocks = dsc_manifest_blocks(manifest);

    if (count != blocks) return DSC_FAIL(DSC_EINTERNAL, "%" PRId64 " hashes for %" PRId64 " blocks", count, blocks);
    for (int64_t i = 0; i < manifest->range_count; i++) {
        dsc_range *range = &manifest->ranges[i];

        memcpy(range->blocks, hashes, sizeof *hashes * (size_t)range->block_count);
        hashes += range->block_count;
        range->hash = hash_of_blocks(range);
    }
    manifest->hash = hash_of_ranges(manifest);
    return manifest->hash.hex[0] != '\0' ? DSC_OK : DSC_FAIL(DSC_ENOMEM, "no memory for a hash");
}

/* ---- The text */

/* What stands before the manifest's hash of itself; the text ends with the hash, `"`, and `}`. */
static const char SEAL[] = ",\n \"manifest_hash\": \"";

static json_t *range_json(const dsc_range *range)
{
    json_t *blocks = json_array();

    for (int64_t i = 0; i < range->block_count; i++) json_array_append_new(blocks, json_string(range->blocks[i].hex));
    return json_pack("{s:s, s:I, s:I, s:s, s:o}", "name", range->name, "offset", (json_int_t)range->offset, "bytes",
                     (json_int_t)range->bytes, "hash", range->hash.hex, "blocks", blocks);
}

static dsc_status manifest_text(const dsc_manifest *manifest, dsc_text *out)
{
    json_t *ranges = json_array(), *root;
    char *text;

    for (int64_t i = 0; i < manifest->range_count; i++) json_array_append_new(ranges, range_json(&manifest->ranges[i]));
    root = json_pack("{s:i, s:s, s:I, s:I, s:s, s:o}", "schema_version", 1, "file", "checkpoint.h5", "bytes",
                     (json_int_t)manifest->bytes, "block_bytes", (json_int_t)DSC_BLOCK_BYTES, "hash",
                     manifest->hash.hex, "ranges", ranges);
    text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (text == NULL)
        return DSC_FAIL(DSC_ENOMEM, "no memory for a manifest of %" PRId64 " ranges", manifest->range_count);
    text[strlen(text) - 2] = '\0'; /* "\n}" */
    dsc_text_add(out, "%s", text);
    dsc_text_add(out, "%s%s\"\n}\n", SEAL, dsc_hash_of(text, strlen(text)).hex);
    free(text);
    return out->failed ? DSC_FAIL(DSC_ENOMEM, "no memory for the manifest's text") : DSC_OK;
}

dsc_status dsc_manifest_save(const char *path, const dsc_manifest *manifest)
{
    dsc_text text = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(manifest_text(manifest, &text));
    DSC_TRY(dsc_write_synced(path, text.bytes, text.count));
out:
    dsc_text_fini(&text);
    return status;
}

static bool is_sealed(const char *text)
{
    const char *seal = strstr(text, SEAL);
    dsc_hash hash;

    if (seal == NULL) return false;
    hash = dsc_hash_of(text, (size_t)(seal - text));
    seal += sizeof SEAL - 1;
    return strncmp(seal, hash.hex, strlen(hash.hex)) == 0 && strcmp(seal + strlen(hash.hex), "\"\n}\n") == 0;
}

static dsc_status copy_hash(const char *hex, dsc_hash *out)
{
    if (strlen(hex) != sizeof out->hex - 1 || strspn(hex, "0123456789abcdef") != sizeof out->hex - 1)
        return DSC_FAIL(DSC_EINFEASIBLE, "\"%.40s\" is no hash", hex);
    memcpy(out->hex, hex, sizeof out->hex);
    return DSC_OK;
}

static dsc_status read_range(json_t *json, dsc_manifest *manifest)
{
    const char *name, *hash;
    json_int_t offset, bytes;
    json_t *blocks, *block;
    dsc_range *range;
    size_t i;
    dsc_status status = DSC_OK;

    if (json_unpack(json, "{s:s, s:I, s:I, s:s, s:o}", "name", &name, "offset", &offset, "bytes", &bytes, "hash", &hash,
                    "blocks", &blocks) != 0 || bytes < 0 || bytes > manifest->bytes)
        return DSC_FAIL(DSC_EINFEASIBLE, "a range lacks name, offset, bytes, hash or blocks");
    DSC_TRY(dsc_manifest_add(manifest, name, offset, bytes));
    range = &manifest->ranges[manifest->range_count - 1];
    if (dsc_ceil_div(bytes, DSC_BLOCK_BYTES) != (int64_t)json_array_size(blocks))
        return DSC_FAIL(DSC_EINFEASIBLE, "%s has %zu blocks for %" PRId64 " bytes", name, json_array_size(blocks),
                        (int64_t)bytes);
    DSC_TRY(make_blocks(range));
    DSC_TRY(copy_hash(hash, &range->hash));
    json_array_foreach(blocks, i, block)
        DSC_TRY(copy_hash(json_is_string(block) ? json_string_value(block) : "", &range->blocks[i]));
out:
    return status;
}

static dsc_status read_root(json_t *root, dsc_manifest *manifest)
{
    const char *hash;
    json_int_t version, bytes, block_bytes;
    json_t *ranges, *range;
    size_t i;
    dsc_status status = DSC_OK;

    if (json_unpack(root, "{s:I, s:I, s:I, s:s, s:o}", "schema_version", &version, "bytes", &bytes, "block_bytes",
                    &block_bytes, "hash", &hash, "ranges", &ranges) != 0)
        return DSC_FAIL(DSC_EINFEASIBLE, "schema_version, bytes, block_bytes, hash or ranges are missing");
    if (version != 1 || block_bytes != DSC_BLOCK_BYTES || bytes < 0)
        return DSC_FAIL(DSC_EINFEASIBLE, "schema %lld with blocks of %lld bytes is not what can be read",
                        (long long)version, (long long)block_bytes);
    manifest->bytes = bytes;
    DSC_TRY(copy_hash(hash, &manifest->hash));
    json_array_foreach(ranges, i, range) DSC_TRY(read_range(range, manifest));
out:
    return status;
}

/* The seal says that the text is as written; this, that what was written makes sense. */
static dsc_status check_hashes(const dsc_manifest *manifest)
{
    for (int64_t i = 0; i < manifest->range_count; i++)
        if (!dsc_equal(hash_of_blocks(&manifest->ranges[i]).hex, manifest->ranges[i].hash.hex))
            return DSC_FAIL(DSC_EINFEASIBLE, "the hash of %s is not that of its blocks", manifest->ranges[i].name);
    if (!dsc_equal(hash_of_ranges(manifest).hex, manifest->hash.hex))
        return DSC_FAIL(DSC_EINFEASIBLE, "the file's hash is not that of its ranges");
    if (!covers(manifest)) return DSC_FAIL(DSC_EINFEASIBLE, "the ranges do not cover the file");
    return DSC_OK;
}

dsc_status dsc_manifest_load(const char *path, dsc_manifest *out)
{
    dsc_manifest manifest = {0};
    dsc_text text = {0};
    json_t *root = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_read_whole(path, &text));
    if (!is_sealed(dsc_text_str(&text)) || (root = json_loads(text.bytes, JSON_REJECT_DUPLICATES, NULL)) == NULL) {
        status = DSC_FAIL(DSC_EINFEASIBLE, "%s: the manifest is damaged: its text is not what was written", path);
        goto out;
    }
    status = read_root(root, &manifest);
    if (status == DSC_OK) status = check_hashes(&manifest);
    if (status != DSC_OK) {
        status = dsc_fail_in(status, "%s: the manifest is damaged", path);
        goto out;
    }
    *out = manifest;
    manifest = (dsc_manifest){0};
out:
    json_decref(root);
    dsc_text_fini(&text);
    dsc_manifest_fini(&manifest);
    return status;
}

/* ---- Verifying */

static void report_fault(const dsc_range *range, int64_t block, dsc_text *report)
{
    int64_t first = range->offset + block * DSC_BLOCK_BYTES;
    int64_t last = DSC_MIN(first + DSC_BLOCK_BYTES, range->offset + range->bytes) - 1;

    dsc_text_add(report,
                 "%s is damaged: not what was written within bytes %" PRId64 " to %" PRId64 " of checkpoint.h5\n",
                 is_data(range) ? range->name : "the file's structure", first, last);
}

static dsc_status check_size(int file, const dsc_manifest *manifest, int64_t part, dsc_text *report)
{
    struct stat facts;

    if (fstat(file, &facts) != 0) return DSC_FAIL(DSC_EIO, "cannot read: %s", strerror(errno));
    if ((int64_t)facts.st_size == manifest->bytes) return DSC_OK;
    if (part == 0)
        dsc_text_add(report, "checkpoint.h5 has %" PRId64 " bytes, %" PRId64 " were written\n", (int64_t)facts.st_size,
                     manifest->bytes);
    return DSC_FAIL(DSC_EINFEASIBLE, "its size is another");
}

dsc_status dsc_manifest_verify(int file, const dsc_manifest *manifest, int64_t part, int64_t parts, dsc_text *report)
{
    int64_t faults = 0;
    dsc_hash hash;
    dsc_status status = DSC_OK;

    DSC_TRY(check_size(file, manifest, part, report));
    for (int64_t i = 0; i < manifest->range_count; i++)
        for (int64_t block = 0; block < manifest->ranges[i].block_count; block++) {
            const dsc_range *range = &manifest->ranges[i];

            if (part_of(manifest, range->offset + block * DSC_BLOCK_BYTES, parts) != part) continue;
            DSC_TRY(hash_block(file, range, block, &hash));
            if (dsc_equal(hash.hex, range->blocks[block].hex)) continue;
            report_fault(range, block, report);
            faults++;
        }
    if (faults > 0) status = DSC_FAIL(DSC_EINFEASIBLE, "%" PRId64 " blocks are damaged", faults);
out:
    return status;
}
