/* Golden token files: golden-data FILE.json... writes the files that each describes in hexadecimal and compares the
 * tokens that are read with those listed. */
#include "base/json.h"
#include "data/data.h"
#include "tests/data/files.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compared;     /* token files of the running case */

static int64_t length_of(const json_t *hex)
{
    return (int64_t)json_string_length(hex) / 2;
}

static void add_hex(dsc_text *out, const json_t *hex)
{
    const char *digits = json_string_value(hex);

    for (int64_t i = 0; i < length_of(hex); i++) {
        char pair[3] = {digits[2 * i], digits[2 * i + 1], '\0'};

        files_add(out, strtoul(pair, NULL, 16), 1);
    }
}

static void write_hex(const char *name, const json_t *hex)
{
    dsc_text bytes = {0};

    add_hex(&bytes, hex);
    files_write(name, bytes.bytes, bytes.count);
    dsc_text_fini(&bytes);
}

static void add_tokens(json_t *all, const json_t *tokens)
{
    size_t i;
    json_t *token;

    json_array_foreach(tokens, i, token) json_array_append(all, token);
}

static void compare(const char *name, const char *format, const json_t *expected)
{
    int64_t count = (int64_t)json_array_size(expected);
    int32_t *tokens = malloc((size_t)(count + 1) * sizeof *tokens);
    dsc_source *source = NULL;

    compared++;
    if (!CHECK_OK(dsc_source_open(files_path(name), &source))) goto out;
    CHECK(strcmp(dsc_source_format(source), format) == 0, "%s is read as %s", name, dsc_source_format(source));
    if (!CHECK(dsc_source_tokens(source) == count, "%s: %lld tokens, %lld expected", name,
               (long long)dsc_source_tokens(source), (long long)count)) goto out;
    if (!CHECK_OK(dsc_source_read(source, 0, count, INT64_C(1) << 31, tokens))) goto out;
    for (int64_t i = 0; i < count; i++) {
        int64_t wanted = json_integer_value(json_array_get(expected, (size_t)i));

        CHECK(tokens[i] == wanted, "%s: token %lld is %d, %lld expected", name, (long long)i, tokens[i],
              (long long)wanted);
    }
out:
    dsc_source_close(source);
    free(tokens);
}

static void check_megatron(const json_t *set)
{
    json_t *all = json_array(), *document;
    size_t i;

    json_array_foreach(json_object_get(set, "documents"), i, document) add_tokens(all, document);
    write_hex("set.bin", json_object_get(set, "bin_hex"));
    write_hex("set.idx", json_object_get(set, "idx_hex"));
    compare("set", "megatron", all);
    json_decref(all);
}

static void check_llmc(const json_t *set)
{
    int64_t data_at = json_integer_value(json_object_get(set, "data_offset"));
    dsc_text bytes = {0};

    add_hex(&bytes, json_object_get(set, "file_hex_prefix"));
    while (bytes.count < data_at) files_add(&bytes, 0, 1);
    add_hex(&bytes, json_object_get(set, "data_hex"));
    CHECK(bytes.count == json_integer_value(json_object_get(set, "total_bytes")), "%lld bytes", (long long)bytes.count);
    files_write("tokens.bin", bytes.bytes, bytes.count);
    dsc_text_fini(&bytes);
    compare("tokens.bin", "llm.c", json_object_get(set, "tokens"));
}

static void agrees(const char *path)
{
    json_t *file = NULL, *set;
    const char *key;
    size_t i;


    compared = 0;
    if (!CHECK_OK(dsc_json_load(path, &file))) return;
    json_array_foreach(json_object_get(file, "megatron"), i, set) check_megatron(set);
    json_object_foreach(file, key, set)
        if (strncmp(key, "llmc", 4) == 0) check_llmc(set);
    CHECK(compared > 0, "%s describes no token file", path);
    json_decref(file);
}

int main(int argc, char **argv)
{
    int status;

    files_begin();
    status = tap_run_files(argc, argv, agrees);
    files_end();
    return status;
}
