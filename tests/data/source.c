#include "data/data.h"
#include "tests/data/files.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GPT2 = 20240520, LLAMA3 = 20240801, U8 = 1, I32 = 4, U16 = 8 };

static dsc_source *open_source(const char *description)
{
    dsc_source *source = NULL;

    CHECK_OK(dsc_source_open(description, &source));
    return source;
}

static void check_tokens(const dsc_source *source, const char *format, const int32_t *expected, int64_t count)
{
    int32_t *tokens = malloc((size_t)(count + 1) * sizeof *tokens);

    if (source == NULL) goto out;
    CHECK(strcmp(dsc_source_format(source), format) == 0, "%s is not %s", dsc_source_format(source), format);
    if (!CHECK(dsc_source_tokens(source) == count, "%lld tokens of %lld", (long long)dsc_source_tokens(source),
               (long long)count)) goto out;
    if (!CHECK_OK(dsc_source_read(source, 0, count, INT64_C(1) << 31, tokens))) goto out;
    for (int64_t i = 0; i < count; i++)
        if (!CHECK(tokens[i] == expected[i], "token %lld is %d, not %d", (long long)i, tokens[i], expected[i])) break;
out:
    free(tokens);
}

/* Opening must fail with bad input, in a message that holds all the words. */
static void check_refused(const char *description, const char *a, const char *b, const char *c)
{
    dsc_source *source = NULL;
    dsc_status status = dsc_source_open(description, &source);
    const char *words[] = {a, b, c};

    if (!CHECK(status == DSC_EINVAL, "status %d for %s", status, description)) {
        dsc_source_close(source);
        return;
    }
    for (int i = 0; i < 3; i++)
        CHECK(strstr(dsc_message(), words[i]) != NULL, "no \"%s\" in: %s", words[i], dsc_message());
}

static void write_llmc(const char *name, uint32_t magic, uint32_t version, const uint32_t *tokens, int64_t count)
{
    dsc_text bytes = {0};

    files_llmc(&bytes, magic, version, tokens, count);
    files_write(name, bytes.bytes, bytes.count);
    dsc_text_fini(&bytes);
}

static void write_index(const char *name, uint8_t code, int64_t token_bytes, const int32_t *lengths, int64_t count)
{
    dsc_text bytes = {0};

    files_index(&bytes, code, token_bytes, lengths, count);
    files_write(name, bytes.bytes, bytes.count);
    dsc_text_fini(&bytes);
}

/* An index over three sequences of 2, 1 and 1 tokens, with `bytes` little-endian bytes at `at` replaced. */
static void write_wrong_index(int64_t at, uint64_t value, int bytes)
{
    static const int32_t lengths[] = {2, 1, 1};
    dsc_text index = {0};

    files_index(&index, U16, 2, lengths, 3);
    for (int i = 0; i < bytes; i++) index.bytes[at + i] = (char)(value >> 8 * i);
    files_write("wrong.idx", index.bytes, index.count);
    files_write("wrong.bin", "\1\0\2\0\3\0\4\0", 8);
    dsc_text_fini(&index);
}

static void reads_bytes_of_text(void)
{
    static const int32_t expected[] = {'H', 'i', 0xff, 0};
    dsc_source *source;

    files_write("text.txt", "Hi\377\0", 4);
    source = open_source(files_path("text.txt"));
    check_tokens(source, "text", expected, 4);
    dsc_source_close(source);
}

static void reads_folders_in_byte_order(void)
{
    static const int32_t expected[] = {'1', '2', '3', '4', '5', '6'};
    dsc_source *source;

    files_write_text("tree/a.txt", "1");       /* '.' < '/' < '0' */
    files_write_text("tree/a/z", "2");
    files_write_text("tree/a/z2/deep/er", "3");
    files_write_text("tree/a0", "4");
    files_write_text("tree/b.bin", "5");
    files_write_text("tree/\303\244", "6");
    files_write_text("tree/empty", "");
    (void)!symlink("nowhere", files_path("tree/dangling"));
    (void)!symlink(".", files_path("tree/loop"));
    source = open_source(files_path("tree"));
    check_tokens(source, "text", expected, 6);
    dsc_source_close(source);
    source = open_source(files_path("tree//"));
    check_tokens(source, "text", expected, 6);
    dsc_source_close(source);
}

static void joins_listed_paths(void)
{
    static const int32_t expected[] = {'b', 'a', 'b'}, comma[] = {'c'};
    char list[2048];
    dsc_source *source;

    files_write_text("one", "a");
    files_write_text("two", "b");
    files_write_text("a,b", "c");
    snprintf(list, sizeof list, "%s,%s,%s", files_path("two"), files_path("one"), files_path("two"));
    source = open_source(list);
    check_tokens(source, "text", expected, 3);
    dsc_source_close(source);
    source = open_source(files_path("a,b"));
    check_tokens(source, "text", comma, 1);
    dsc_source_close(source);
    snprintf(list, sizeof list, "%s,", files_path("two"));
    check_refused(list, "empty", list, "path");
}

static void reads_llmc(void)
{
    static const uint32_t small[] = {1, 65535, 7}, large[] = {128000, 5};
    static const int32_t expected[] = {1, 65535, 7}, expected_large[] = {128000, 5}, twice[] = {1, 65535, 7, 128000, 5};
    char list[2048];
    dsc_source *source;

    write_llmc("small.bin", GPT2, 1, small, 3);
    write_llmc("large.bin", LLAMA3, 7, large, 2);
    source = open_source(files_path("small.bin"));
    check_tokens(source, "llm.c", expected, 3);
    dsc_source_close(source);
    source = open_source(files_path("large.bin"));
    check_tokens(source, "llm.c", expected_large, 2);
    dsc_source_close(source);
    snprintf(list, sizeof list, "%s,%s", files_path("small.bin"), files_path("large.bin"));
    source = open_source(list);
    check_tokens(source, "llm.c", twice, 5);
    dsc_source_close(source);
    snprintf(list, sizeof list, "%s,%s", files_path("small.bin"), files_path("text.txt"));
    check_refused(list, "small.bin is llm.c", "text.txt is text", "one format");
}

static void reads_megatron(void)
{
    static const int32_t lengths[] = {2, 0, 1}, expected[] = {258, 3, 4};
    dsc_source *source;

    files_write("set.bin", "\2\1\3\0\4\0", 6);
    write_index("set.idx", U16, 2, lengths, 3);
    source = open_source(files_path("set"));
    check_tokens(source, "megatron", expected, 3);
    dsc_source_close(source);
    files_write("wide.bin", "\2\1\0\0\3\0\0\0\4\0\0\0", 12);
    write_index("wide.idx", I32, 4, lengths, 3);
    source = open_source(files_path("wide"));
    check_tokens(source, "megatron", expected, 3);
    dsc_source_close(source);
}

static void refuses_what_is_not_there(void)
{
    check_refused(files_path("absent.txt"), "absent.txt", "No such file", "");
    check_refused("", "", "empty", "path");
    files_write_text("empty.txt", "");
    check_refused(files_path("empty.txt"), "empty.txt", "empty", "");
    files_write_text("hollow/empty", "");
    check_refused(files_path("hollow"), "hollow", "1 files", "empty");
    check_refused("/dev/null", "/dev/null", "neither a file nor a folder", "");
    if (mkfifo(files_path("pipe"), 0600) == 0) check_refused(files_path("pipe"), "pipe", "neither", "");
    if (geteuid() == 0) return; /* who may read everything */
    files_write_text("locked", "x");
    chmod(files_path("locked"), 0);
    check_refused(files_path("locked"), "locked", "denied", "");
}

static void refuses_wrong_llmc(void)
{
    static const uint32_t tokens[] = {1, 2, 3};
    dsc_text bytes = {0};

    write_llmc("magic.bin", 67305985, 1, tokens, 3);
    check_refused(files_path("magic.bin"), "magic.bin", "magic number 67305985", "20240520");
    write_llmc("version.bin", GPT2, 7, tokens, 3);
    check_refused(files_path("version.bin"), "version.bin", "version 7", "version 1");
    files_llmc(&bytes, GPT2, 1, tokens, 3);
    files_write("truncated.bin", bytes.bytes, 1028);
    check_refused(files_path("truncated.bin"), "truncated.bin", "3 tokens, which take 1030 bytes", "1028");
    files_write("header.bin", bytes.bytes, 100);
    check_refused(files_path("header.bin"), "header.bin", "100 bytes", "1024");
    files_add(&bytes, 0, 2);
    files_write("longer.bin", bytes.bytes, bytes.count);
    check_refused(files_path("longer.bin"), "longer.bin", "1030", "1032");
    write_llmc("none.bin", GPT2, 1, tokens, 0);
    check_refused(files_path("none.bin"), "none.bin", "0 tokens", "");
    dsc_text_fini(&bytes);
}

static void refuses_wrong_megatron(void)
{
    /* 34 bytes of header, 3 lengths at 34, 3 offsets at 46, 4 boundaries at 70, 102 in all */
    static const struct { int64_t at; uint64_t value; int bytes; const char *words[3]; } wrong[] = {
        {0, 'X', 1, {"wrong.idx", "magic", "MMIDIDX"}},
        {9, 2, 8, {"wrong.idx", "version 2", "1"}},
        {17, 6, 1, {"wrong.idx", "token type 6", "8"}},
        {17, 200, 1, {"wrong.idx", "token type 200", "8"}},
        {18, 4, 8, {"4 sequences", "114 bytes", "102"}},
        {18, UINT64_MAX, 8, {"18446744073709551615", "102", "sequences"}},
        {26, UINT64_C(1) << 61, 8, {"2305843009213693952", "102", "boundaries"}},
        {34, UINT32_MAX, 4, {"sequence 0", "-1", "tokens"}},
        {34, 1, 4, {"sequence 1", "byte 4", "end at 2"}},
        {54, 6, 8, {"sequence 1", "byte 6", "end at 4"}},
        {42, 2, 4, {"wrong.bin", "8 bytes", "10"}},
        {70, 1, 8, {"boundary 0", "is 1", "after 0"}},
        {78, 4, 8, {"boundary 1", "is 4", "3 sequences"}},
        {86, 0, 8, {"boundary 2", "is 0", "after 1"}},
        {94, 2, 8, {"end at sequence 2", "3", "wrong.idx"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(wrong); i++) {
        write_wrong_index(wrong[i].at, wrong[i].value, wrong[i].bytes);
        check_refused(files_path("wrong"), wrong[i].words[0], wrong[i].words[1], wrong[i].words[2]);
    }
    files_write_text("half.idx", "x");
    check_refused(files_path("half"), "half.bin", "No such file", "");
    files_write_text("stub.idx", "MMIDIDX");
    files_write_text("stub.bin", "x");
    check_refused(files_path("stub"), "stub.idx", "7 bytes", "34");
}

static void refuses_tokens_past_the_vocabulary(void)
{
    static const uint32_t tokens[] = {5, 255, 256};
    static const int32_t lengths[] = {2};
    int32_t out[3];
    dsc_source *source;

    write_llmc("past.bin", GPT2, 1, tokens, 3);
    source = open_source(files_path("past.bin"));
    if (source == NULL) return;
    CHECK_OK(dsc_source_read(source, 0, 2, 256, out));
    CHECK_OK(dsc_source_read(source, 0, 3, 257, out));
    CHECK(dsc_source_read(source, 1, 2, 256, out) == DSC_EINVAL, "256 passes as one of 256 tokens");
    CHECK(strstr(dsc_message(), "past.bin: token 2 is 256, and the vocabulary has 256") != NULL, "%s", dsc_message());
    dsc_source_close(source);
    files_write("minus.bin", "\1\0\0\0\377\377\377\377", 8);
    write_index("minus.idx", I32, 4, lengths, 1);
    source = open_source(files_path("minus"));
    if (source == NULL) return;
    CHECK(dsc_source_read(source, 0, 2, 256, out) == DSC_EINVAL, "-1 passes as a token");
    CHECK(strstr(dsc_message(), "token 1 is -1") != NULL, "%s", dsc_message());
    dsc_source_close(source);
}

static void reads_any_window(void)
{
    enum { FILES = 7, LONGEST = 50 };
    char name[32];
    int32_t all[FILES * LONGEST], out[FILES * LONGEST];
    int64_t count = 0;
    dsc_source *source;

    for (int i = 0; i < FILES; i++) {
        char bytes[LONGEST];
        int64_t length = tap_random_between(1, LONGEST);

        for (int64_t j = 0; j < length; j++) all[count++] = (unsigned char)(bytes[j] = (char)tap_random());
        snprintf(name, sizeof name, "windows/%d", i);
        files_write(name, bytes, length);
    }
    source = open_source(files_path("windows"));
    if (source == NULL) return;
    for (int i = 0; i < 500; i++) {
        int64_t first = tap_random_between(0, count), length = tap_random_between(0, count - first);

        dsc_source_prefetch(source, first, length + 5);
        if (!CHECK_OK(dsc_source_read(source, first, length, 256, out))) break;
        if (!CHECK(memcmp(out, all + first, (size_t)length * sizeof *out) == 0, "tokens %lld + %lld differ",
                   (long long)first, (long long)length)) break;
    }
    CHECK(dsc_source_read(source, count, 1, 256, out) == DSC_EINTERNAL, "a token past the end was read");
    dsc_source_close(source);
}

static dsc_hash hash_of(const char *name, const char *text, int64_t count)
{
    dsc_hash hash = {""};
    dsc_source *source;

    files_write(name, text, count);
    source = open_source(files_path(name));
    if (source != NULL) hash = dsc_source_hash(source);
    dsc_source_close(source);
    return hash;
}

static void hashes_content(void)
{
    int64_t count = 9 << 20;
    char *big = calloc((size_t)count, 1);
    dsc_hash hash = hash_of("hash", big, count);

    CHECK(strlen(hash.hex) == 32, "\"%s\"", hash.hex);
    CHECK(strcmp(hash.hex, hash_of("renamed", big, count).hex) == 0, "the name changes the hash");
    CHECK(strcmp(hash.hex, hash_of("hash", big, count - 1).hex) != 0, "the length does not change the hash");
    big[0] = 1;
    CHECK(strcmp(hash.hex, hash_of("hash", big, count).hex) != 0, "the first byte does not change the hash");
    big[0] = 0;
    big[count - 1] = 1;
    CHECK(strcmp(hash.hex, hash_of("hash", big, count).hex) != 0, "the last byte does not change the hash");
    free(big);
}

static const tap_case cases[] = {
    {"the bytes of a text are its tokens", reads_bytes_of_text},
    {"a folder is its files in byte order of path", reads_folders_in_byte_order},
    {"paths apart by commas are one run of tokens", joins_listed_paths},
    {"token files of llm.c are read in both widths", reads_llmc},
    {"Megatron data sets are read", reads_megatron},
    {"what is absent, empty or no file is named", refuses_what_is_not_there},
    {"a wrong token file of llm.c is refused with both numbers", refuses_wrong_llmc},
    {"a wrong Megatron index is refused with both numbers", refuses_wrong_megatron},
    {"a token past the vocabulary is refused by file, place and id", refuses_tokens_past_the_vocabulary},
    {"any window over several files equals the bytes written", reads_any_window},
    {"the hash depends on content and length, not on the name", hashes_content},
};

int main(void)
{
    int status;

    files_begin();
    status = tap_run(cases, DSC_COUNT(cases), NULL);
    files_end();
    return status;
}
