#include "tests/data/files.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[256];

static void must(bool holds, const char *what)
{
    if (holds) return;
    perror(what);
    exit(EXIT_FAILURE);
}

void files_begin(void)
{
    const char *parent = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/dsc-XXXXXX", parent != NULL ? parent : "/tmp");
    must(mkdtemp(folder) != NULL, folder);
}

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *walk)
{
    (void)facts;
    (void)kind;
    (void)walk;
    return remove(path);
}

void files_end(void)
{
    must(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, folder);
}

const char *files_path(const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void make_folders(const char *path)
{
    char parent[512];

    snprintf(parent, sizeof parent, "%s", path);
    for (char *slash = parent + strlen(folder) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(parent, 0777);
        *slash = '/';
    }
}

void files_write(const char *name, const void *bytes, int64_t count)
{
    const char *path = files_path(name);
    FILE *file;

    make_folders(path);
    file = fopen(path, "wb");
    must(file != NULL, path);
    must(count == 0 || fwrite(bytes, 1, (size_t)count, file) == (size_t)count, path);
    must(fclose(file) == 0, path);
}

void files_write_text(const char *name, const char *text)
{
    files_write(name, text, (int64_t)strlen(text));
}

void files_add(dsc_text *out, uint64_t value, int bytes)
{
    must(dsc_array_reserve(&out->bytes, &out->capacity, out->count + bytes, 1) == DSC_OK, "memory");
    for (int i = 0; i < bytes; i++) out->bytes[out->count++] = (char)(value >> 8 * i);
}

void files_llmc(dsc_text *out, uint32_t magic, uint32_t version, const uint32_t *tokens, int64_t count)
{
    files_add(out, magic, 4);
    files_add(out, version, 4);
    files_add(out, (uint64_t)count, 4);
    while (out->count < 1024) files_add(out, 0, 4);
    for (int64_t i = 0; i < count; i++) files_add(out, tokens[i], version == 1 ? 2 : 4);
}

void files_index(dsc_text *out, uint8_t code, int64_t token_bytes, const int32_t *lengths, int64_t count)
{
    int64_t offset = 0;

    for (int i = 0; i < 9; i++) files_add(out, (uint64_t)"MMIDIDX\0"[i], 1);
    files_add(out, 1, 8);
    files_add(out, code, 1);
    files_add(out, (uint64_t)count, 8);
    files_add(out, (uint64_t)count + 1, 8);
    for (int64_t i = 0; i < count; i++) files_add(out, (uint32_t)lengths[i], 4);
    for (int64_t i = 0; i < count; offset += lengths[i++] * token_bytes) files_add(out, (uint64_t)offset, 8);
    for (int64_t i = 0; i <= count; i++) files_add(out, (uint64_t)i, 8);
}
