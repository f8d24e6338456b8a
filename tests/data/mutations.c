/* Broken files: whatever bytes change, a source either refuses with a message or reads as many tokens as it says. */
#include "data/data.h"
#include "tests/data/files.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 2000, TOKENS = 40 };

/* Changes up to three bytes, or the length. */
static void mutate(dsc_text *file)
{
    switch (tap_random_between(0, 3)) {
    case 0: file->count = tap_random_between(0, file->count); break;
    case 1: files_add(file, tap_random(), (int)tap_random_between(1, 8)); break;
    default:
        for (int64_t i = tap_random_between(0, 2); i >= 0 && file->count > 0; i--)
            file->bytes[tap_random_between(0, file->count - 1)] ^= (char)(1 << tap_random_between(0, 7));
    }
}

static void read_all(const dsc_source *source)
{
    int64_t count = dsc_source_tokens(source);
    int32_t *tokens = malloc((size_t)count * sizeof *tokens);
    dsc_status status = dsc_source_read(source, 0, count, INT64_C(1) << 31, tokens);

    CHECK(status == DSC_OK || status == DSC_EINVAL, "status %d: %s", status, dsc_message());
    free(tokens);
}

static bool survives(const char *path, int64_t *opened)
{
    dsc_source *source = NULL;
    dsc_status status = dsc_source_open(path, &source);

    if (status != DSC_OK)
        return CHECK(status == DSC_EINVAL && strstr(dsc_message(), path) != NULL, "status %d: %s", status,
                     dsc_message());
    ++*opened;
    read_all(source);
    dsc_source_close(source);
    return true;
}

static void llmc_survives(void)
{
    uint32_t tokens[TOKENS];
    int64_t opened = 0;

    for (int i = 0; i < TOKENS; i++) tokens[i] = (uint32_t)i * 1000;
    for (int round = 0; round < ROUNDS; round++) {
        bool is_wide = round % 2 != 0;
        dsc_text file = {0};

        files_llmc(&file, is_wide ? 20240801 : 20240520, is_wide ? 7 : 1, tokens, TOKENS);
        mutate(&file);
        files_write("mutant.bin", file.bytes, file.count);
        dsc_text_fini(&file);
        if (!survives(files_path("mutant.bin"), &opened)) break;
    }
    CHECK(opened > 0 && opened < ROUNDS, "%lld of %d opened", (long long)opened, ROUNDS);
}

static void megatron_survives(void)
{
    static const int32_t lengths[] = {10, 0, 5, 25};
    int64_t opened = 0;

    for (int round = 0; round < ROUNDS; round++) {
        dsc_text index = {0}, bin = {0};

        files_index(&index, 4, 4, lengths, DSC_COUNT(lengths));
        for (int i = 0; i < TOKENS; i++) files_add(&bin, (uint64_t)i, 4);
        mutate(round % 4 == 0 ? &bin : &index);
        files_write("mutant.idx", index.bytes, index.count);
        files_write("mutant.bin", bin.bytes, bin.count);
        dsc_text_fini(&index);
        dsc_text_fini(&bin);
        if (!survives(files_path("mutant"), &opened)) break;
    }
    CHECK(opened > 0 && opened < ROUNDS, "%lld of %d opened", (long long)opened, ROUNDS);
}

static const tap_case cases[] = {
    {"2000 mutants of llm.c files are refused or read", llmc_survives},
    {"2000 mutants of Megatron data sets are refused or read", megatron_survives},
};

int main(void)
{
    int status;

    files_begin();
    status = tap_run(cases, DSC_COUNT(cases), NULL);
    files_end();
    return status;
}
