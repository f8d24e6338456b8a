/* What a checkpoint's file consists of, and the hashes by which every byte of it is checked before HDF5 sees it. Knows
 * bytes and names, neither HDF5 nor tensors.
 *
 * Ranges, one for each tensor and one for each gap between them, cover the file. A range is hashed in blocks of 16 MiB,
 * so that ranks and threads can share the work; its own hash is XXH3-128 over its blocks' canonical hashes, and the
 * file's is over its ranges'. The manifest's last member is a hash over its own text up to there. */
#ifndef DSC_STORE_MANIFEST_H
#define DSC_STORE_MANIFEST_H

#include "base/hash.h"
#include "base/text.h"

#define DSC_BLOCK_BYTES (INT64_C(16) << 20)
#define DSC_STRUCTURE "structure" /* the name of ranges that belong to no tensor: HDF5's own bytes */

typedef struct dsc_range {
    char name[128];      /* "/model/transformer.wte.weight", or DSC_STRUCTURE */
    int64_t offset, bytes;
    dsc_hash hash;
    dsc_hash *blocks;    /* [block_count], owned */
    int64_t block_count; /* ceil(bytes / DSC_BLOCK_BYTES) */
} dsc_range;

typedef struct dsc_manifest {
    int64_t bytes;       /* of the file */
    dsc_hash hash;
    dsc_range *ranges;   /* owned; ascending and adjacent once dsc_manifest_cover has passed */
    int64_t range_count, range_capacity;
} dsc_manifest;

void dsc_manifest_fini(dsc_manifest *manifest); /* {0} is the empty one */

/* Adds a range of data. */
dsc_status dsc_manifest_add(dsc_manifest *manifest, const char *name, int64_t offset, int64_t bytes);

/* Sorts the ranges, adds what lies between them and up to the file's end, and makes room for the blocks' hashes.
 * DSC_EINTERNAL when ranges overlap or pass the end. */
dsc_status dsc_manifest_cover(dsc_manifest *manifest, int64_t file_bytes);

/* Blocks of all ranges. */
int64_t dsc_manifest_blocks(const dsc_manifest *manifest);

/* Hashes the blocks of the open file that belong to one of `parts` shares of its bytes, in their order: a block goes
 * where it starts, so that shares one behind another are all blocks. out has room for all. DSC_EIO. */
dsc_status dsc_manifest_hash_part(int file, const dsc_manifest *manifest, int64_t part, int64_t parts, dsc_hash *out,
                                  int64_t *count);

/* Takes the hashes of all blocks, and makes those of ranges and file. DSC_EINTERNAL when count is another. */
dsc_status dsc_manifest_close(dsc_manifest *manifest, const dsc_hash *hashes, int64_t count);

/* Writes the JSON text and syncs it. DSC_EIO. */
dsc_status dsc_manifest_save(const char *path, const dsc_manifest *manifest);

/* Reads it; DSC_EINVAL when there is none, DSC_EINFEASIBLE when it is not as it was written. *out only on success. */
dsc_status dsc_manifest_load(const char *path, dsc_manifest *out);

/* Compares every byte of one of `parts` shares of the open file, as dsc_manifest_hash_part cuts it; *report receives a
 * line for each fault, another size of the file being the first share's. DSC_EINFEASIBLE when there is one. */
dsc_status dsc_manifest_verify(int file, const dsc_manifest *manifest, int64_t part, int64_t parts, dsc_text *report);

#endif
