/* Any bytes as the file of a sparse layout or of its parameters: refused with a message, or a layout whose JSON reads
 * back as itself, whose lists hold the blocks that it has, and that can be printed and drawn. For libFuzzer;
 * layout_file.sh builds and runs it. */
#include "model/attention.h"
#include "tests/fuzz/file.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static dsc_layout *read_text(const char *path, int64_t heads, int64_t seq)
{
    dsc_attention *attention = NULL;
    dsc_layout *layout = NULL;
    dsc_status status = dsc_attention_create(path, "input", "", NULL, &attention);
    const dsc_layout *given = status == DSC_OK ? attention->patterns[0].layout : NULL;

    if (given != NULL) status = dsc_pattern_layout(&attention->patterns[0], given->heads, given->blocks * given->block,
                                                   &layout);
    else if (status == DSC_OK) status = dsc_pattern_layout(&attention->patterns[0], heads, seq, &layout);
    if (status != DSC_OK && (layout != NULL || dsc_message()[0] == '\0')) abort();
    dsc_attention_destroy(attention);
    return layout;
}

static void check_reads_back(const dsc_layout *layout)
{
    json_t *object = dsc_layout_json(layout);
    char *text = json_dumps(object, JSON_COMPACT);
    dsc_layout *again = read_text(path_of(text, strlen(text)), 0, 0);

    if (again == NULL || again->heads != layout->heads || again->blocks != layout->blocks) abort();
    for (int64_t h = 0; h < layout->heads; h++)
        for (int64_t i = 0; i < layout->blocks * layout->blocks; i++)
            if (dsc_layout_has(again, h, i / layout->blocks, i % layout->blocks) !=
                dsc_layout_has(layout, h, i / layout->blocks, i % layout->blocks)) abort();
    dsc_layout_destroy(again);
    json_decref(object);
    free(text);
}

static void check_lists(const dsc_layout *layout)
{
    const int64_t heads[] = {0, layout->heads - 1}, n = layout->blocks;
    const int64_t present = dsc_layout_count(layout, 0) + dsc_layout_count(layout, layout->heads - 1);
    const dsc_shape product = {.d = {1, n * layout->block, 2, 1, present, layout->block}};
    int32_t *room = malloc((size_t)dsc_blocks_elems(n, 2, present) * sizeof *room);
    dsc_blocks lists = dsc_blocks_of(&product, room);

    if (room == NULL || dsc_layout_list(layout, heads, &lists) != DSC_OK || lists.row_start[2 * n] != present ||
        lists.column_start[2 * n] != present)
        abort();
    free(room);
}

static void check_seen(const dsc_layout *layout)
{
    dsc_text text = {0};

    dsc_layout_print(layout, &text);
    dsc_layout_svg(layout, &text);
    if (text.failed) abort();
    dsc_text_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dsc_layout *layout = read_text(path_of(data, size), 4, 128);

    if (layout == NULL) return 0;
    check_reads_back(layout);
    check_lists(layout);
    check_seen(layout);
    dsc_layout_make_causal(layout);
    dsc_layout_destroy(layout);
    return 0;
}
