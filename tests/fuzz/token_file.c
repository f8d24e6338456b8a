/* Any bytes as an llm.c token file, or as an index and the tokens it is about: refused with a message, or every token
 * that is counted lies in the file. For libFuzzer; token_file.sh builds and runs it. */
#include "data/internal.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of its own for each file, so that the address sanitizer sees its end. */
static dsc_file file_of(const uint8_t *bytes, size_t count)
{
    char *copy = malloc(count + !count);

    if (count > 0) memcpy(copy, bytes, count);
    return (dsc_file){.path = (char *)"input", .map = copy, .bytes = (int64_t)count};
}

static void judge(dsc_status status, const dsc_file *file)
{
    int64_t width = dsc_encoding_bytes(file->encoding);

    if (status == DSC_OK ? file->tokens <= 0 || file->tokens > (file->bytes - file->tokens_at) / width
                         : status != DSC_EINVAL || strstr(dsc_message(), "input") == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut = size > 0 ? data[0] : 0;
    dsc_file tokens, index;

    if (size < 1 + cut) return 0;
    tokens = file_of(data + 1, size - 1);
    judge(dsc_llmc_parse(&tokens), &tokens);
    free((char *)tokens.map);
    tokens = file_of(data + 1, cut);
    index = file_of(data + 1 + cut, size - 1 - cut);
    judge(dsc_megatron_parse(&index, &tokens), &tokens);
    free((char *)tokens.map);
    free((char *)index.map);
    return 0;
}
