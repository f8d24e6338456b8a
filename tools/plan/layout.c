/* A sparse layout, seen. */
#include "base/json.h"
#include "model/attention.h"
#include "store/layout_file.h"
#include "tools/plan/plan.h"
#include <string.h>

/* As the reference has it, or as the file says. */
static dsc_status read_layout(const plan_options *o, int64_t seq_len, dsc_layout **out)
{
    static const char option[] = "--attention";
    dsc_attention *attention = NULL;
    dsc_pattern *pattern;
    dsc_status status = DSC_OK;

    status = dsc_attention_create(o->show_layout, o->show_layout, "", dsc_layout_load, &attention);
    if (status != DSC_OK && strncmp(dsc_message(), option, sizeof option - 1) == 0) /* nobody gave that one */
        status = DSC_FAIL(status, "--show-layout%s", dsc_message() + sizeof option - 1);
    DSC_TRY(status);
    pattern = &attention->patterns[0];
    if (attention->count > 1 || pattern->kind == DSC_ATTENTION_UNFUSED)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--show-layout %s: one pattern or file", o->show_layout));
    if (pattern->kind == DSC_ATTENTION_DENSE) dsc_sparsity_default(DSC_SPARSITY_DENSE, &pattern->sparsity);
    if (pattern->layout == NULL) {
        status = dsc_layout_create(&pattern->sparsity, DSC_MAX(o->num_heads, 1), seq_len > 0 ? seq_len : 1024, out);
        if (status != DSC_OK) status = dsc_fail_in(status, "--show-layout %s", o->show_layout);
        goto out;
    }
    DSC_TRY(dsc_pattern_layout(pattern, o->num_heads > 0 ? o->num_heads : pattern->layout->heads,
                               seq_len > 0 ? seq_len : pattern->layout->blocks * pattern->layout->block, out));
out:
    dsc_attention_destroy(attention);
    return status;
}

static dsc_status print_layout(const dsc_layout *layout, const plan_options *o)
{
    dsc_status status = DSC_OK;
    dsc_text text = {0};
    json_t *json = NULL;

    if (o->svg[0] != '\0') dsc_layout_svg(layout, &text);
    else if (!o->json) dsc_layout_print(layout, &text);
    if (text.failed) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "the layout's text"));
    if (o->svg[0] != '\0') DSC_TRY(write_text(o->svg, &text));
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

    DSC_TRY(check_output(options->svg));
    DSC_TRY(read_layout(options, seq_len, &layout));
    DSC_TRY(print_layout(layout, options));
out:
    dsc_layout_destroy(layout);
    return status;
}
