#include "data/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int64_t dsc_encoding_bytes(dsc_encoding encoding)
{
    static const int64_t bytes[] = {
        [DSC_U8] = 1, [DSC_I8] = 1, [DSC_I16] = 2, [DSC_I32] = 4, [DSC_I64] = 8, [DSC_U16] = 2, [DSC_U32] = 4,
    };

    return bytes[encoding];
}

uint32_t dsc_read_u32(const char *at)
{
    const unsigned char *b = (const unsigned char *)at;

    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t dsc_read_u64(const char *at)
{
    return dsc_read_u32(at) | (uint64_t)dsc_read_u32(at + 4) << 32;
}

static dsc_status map_descriptor(int descriptor, dsc_file *file)
{
    struct stat facts;
    void *map;

    if (fstat(descriptor, &facts) != 0) return DSC_FAIL(DSC_EINVAL, "%s: %s", file->path, strerror(errno));
    if (!S_ISREG(facts.st_mode)) return DSC_FAIL(DSC_EINVAL, "%s: neither a file nor a folder", file->path);
    if (facts.st_size == 0) return DSC_OK;
    map = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map == MAP_FAILED) return DSC_FAIL(DSC_EIO, "%s: cannot be mapped: %s", file->path, strerror(errno));
    file->map = map;
    file->bytes = facts.st_size;
    return DSC_OK;
}

dsc_status dsc_file_map(const char *path, dsc_file *out)
{
    dsc_status status = DSC_OK;
    dsc_file file = {.path = strdup(path)};
    int descriptor = -1;

    if (file.path == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "no memory for the path %s", path);
        goto out;
    }
    descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a named pipe without a writer would block */
    if (descriptor < 0) {
        status = DSC_FAIL(DSC_EINVAL, "%s: %s", path, strerror(errno));
        goto out;
    }
    DSC_TRY(map_descriptor(descriptor, &file));
    *out = file;
    file = (dsc_file){0};
out:
    if (descriptor >= 0) close(descriptor);
    dsc_file_unmap(&file);
    return status;
}

void dsc_file_unmap(dsc_file *file)
{
    if (file->map != NULL) munmap((void *)file->map, (size_t)file->bytes);
    free(file->path);
    *file = (dsc_file){0};
}
