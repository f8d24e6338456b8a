/* A file in memory for readers that want a path, one for the whole run of a target. */
#ifndef DSC_FUZZ_FILE_H
#define DSC_FUZZ_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Its path, after it was made to hold just these bytes. */
static const char *path_of(const void *bytes, size_t count)
{
    static char path[64];
    static int file = -1;

    if (file < 0) {
        file = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    if (ftruncate(file, 0) != 0 || pwrite(file, bytes, count, 0) != (ssize_t)count) abort();
    return path;
}

#endif
