#include "trace/render.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void dsc_bar_add(dsc_text *text, double first, double second, double whole, int width)
{
    double scale = whole > 0 ? width / whole : 0;
    int first_blocks = (int)lround(DSC_MIN(DSC_MAX(first, 0) * scale, width));
    int second_blocks = (int)lround(DSC_MIN(DSC_MAX(second, 0) * scale, width));

    for (int i = 0; i < DSC_MAX(first_blocks, second_blocks); i++)
        dsc_text_add(text, "%s", i < DSC_MIN(first_blocks, second_blocks) ? "█" : i < first_blocks ? "▓" : "░");
}

dsc_short dsc_ms_str(double ns)
{
    dsc_short out = {"-"};

    if (!isnan(ns)) snprintf(out.str, sizeof out.str, "%.3f", ns / 1e6);
    return out;
}

json_t *dsc_json_seconds(double ns)
{
    return isnan(ns) ? json_null() : json_real(ns / 1e9);
}

json_t *dsc_json_op(const dsc_trace *trace, const dsc_op_row *row)
{
    return json_pack("{s:i, s:i, s:s, s:s, s:i, s:i, s:i}", "rank", row->rank, "op", row->op, "kind",
                     trace->head.kinds[row->kind], "lane", trace->head.lanes[row->lane], "layer", row->layer,
                     "micro_batch", row->micro_batch, "chunk", row->chunk);
}

dsc_status dsc_json_finish(json_t *value, dsc_text *out)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(12));

    json_decref(value);
    if (text == NULL) return DSC_FAIL(DSC_EINVAL, "names in the trace are no UTF-8, or memory is out");
    dsc_text_add(out, "%s\n", text);
    free(text);
    return dsc_text_finish(out);
}

dsc_status dsc_text_finish(const dsc_text *text)
{
    return text->failed ? DSC_FAIL(DSC_ENOMEM, "no memory for more than %lld bytes of text", (long long)text->count)
                        : DSC_OK;
}
