/* A sparse layout, seen. */
#include "base/json.h"
#include "model/sparsity.h"
#include "tools/plan/plan.h"
#include <errno.h>
#include <string.h>

static bool is_file(const char *word) { return strchr(word, '.') != NULL || strchr(word, '/') != NULL; }

/* A file holds a layout itself, a section sparse_attention, or a configuration with one. */
static dsc_status read_file(const plan_options *o, int64_t heads, int64_t seq, dsc_layout **out)
{
    const json_t *section;
    dsc_sparsity sparsity;
    dsc_status status = DSC_OK;
    json_t *file = NULL;

    DSC_TRY(dsc_json_load(o->show_layout, &file));
    if (json_object_get(file, "layout") != NULL) {
        status = dsc_layout_of_json(o->show_layout, file, out);
        goto out;
    }
    section = json_object_get(file, "sparse_attention");
    DSC_TRY(dsc_sparsity_section(o->show_layout, section != NULL ? section : file, &sparsity));
    DSC_TRY(dsc_layout_create(&sparsity, heads, seq, out));
out:
    json_decref(file);
    return status;
}

static dsc_status read_layout(const plan_options *o, int64_t seq_len, dsc_layout **out)
{
    int64_t heads = o->num_heads > 0 ? o->num_heads : 1, seq = seq_len > 0 ? seq_len : 1024;
    dsc_sparsity sparsity;
    dsc_status status = DSC_OK;

    if (is_file(o->show_layout)) {
        DSC_TRY(read_file(o, heads, seq, out));
    } else {
        DSC_TRY(dsc_sparsity_find(o->show_layout, &sparsity));
        DSC_TRY(dsc_layout_create(&sparsity, heads, seq, out));
    }
    if (o->num_heads > 0 && (*out)->heads != o->num_heads)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "%s has a layout of %lld heads, --num-heads is %lld", o->show_layout,
                         (long long)(*out)->heads, (long long)o->num_heads));
    if (seq_len > 0 && (*out)->blocks * (*out)->block != seq_len)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "%s has a layout of %lld tokens, --seq-len is %lld", o->show_layout,
                         (long long)((*out)->blocks * (*out)->block), (long long)seq_len));
out:
    return status;
}

static dsc_status write_svg(const char *path, const dsc_text *text)
{
    FILE *file = fopen(path, "w");
    bool is_written = file != NULL && fputs(dsc_text_str(text), file) >= 0;

    if (file != NULL && fclose(file) != 0) is_written = false;
    return is_written ? DSC_OK : DSC_FAIL(DSC_EINVAL, "%s: cannot write: %s", path, strerror(errno));
}

static dsc_status print_layout(const dsc_layout *layout, const plan_options *o)
{
    dsc_status status = DSC_OK;
    dsc_text text = {0};
    json_t *json = NULL;

    if (o->svg[0] != '\0') dsc_layout_svg(layout, &text);
    else if (!o->json) dsc_layout_print(layout, &text);
    if (text.failed) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "the layout's text"));
    if (o->svg[0] != '\0') DSC_TRY(write_svg(o->svg, &text));
    if (o->json && ((json = dsc_layout_json(layout)) == NULL || json_dumpf(json, stdout, JSON_COMPACT) != 0 ||
                    putchar('\n') == EOF))
        DSC_TRY(DSC_FAIL(DSC_EIO, "standard output cannot be written"));
    if (o->svg[0] == '\0' && !o->json) fputs(dsc_text_str(&text), stdout);
out:
    json_decref(json);
    dsc_text_fini(&text);
    return status;
}

dsc_status show_layout(const plan_options *options, int64_t seq_len)
{
    dsc_layout *layout = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(read_layout(options, seq_len, &layout));
    DSC_TRY(print_layout(layout, options));
out:
    dsc_layout_destroy(layout);
    return status;
}
