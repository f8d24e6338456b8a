#include "tools/plan/html.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- Text that is safe */

/* Bytes of the UTF-8 sequence that begins here; 0: there is none. Overlong ones and surrogates harm nobody here. */
static int sequence_bytes(const unsigned char *at)
{
    int count = at[0] < 0x80 ? 1 : at[0] >= 0xc2 && at[0] < 0xe0 ? 2 : at[0] >= 0xe0 && at[0] < 0xf0 ? 3 :
                at[0] >= 0xf0 && at[0] < 0xf5 ? 4 : 0;

    for (int i = 1; i < count; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return count;
}

/* No control character but tabs and ends of lines. */
static bool is_text(const unsigned char *at, int count)
{
    return count > 0 && *at != 127 && (*at >= ' ' || *at == '\n' || *at == '\t');
}

void html_escape(const char *text, dsc_text *out)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at != '\0') {
        int count = sequence_bytes(at);

        if (*at == '<') dsc_text_add(out, "&lt;");
        else if (*at == '>') dsc_text_add(out, "&gt;");
        else if (*at == '&') dsc_text_add(out, "&amp;");
        else if (*at == '"') dsc_text_add(out, "&quot;");
        else if (*at == '\'') dsc_text_add(out, "&#39;");
        else if (is_text(at, count)) dsc_text_add(out, "%.*s", count, (const char *)at);
        else dsc_text_add(out, "\xef\xbf\xbd");
        at += count > 0 ? count : 1;
    }
}

/* ---- Numbers */

void html_bytes(int64_t bytes, dsc_text *out)
{
    dsc_text_add(out, "<data value=\"%" PRId64 "\" title=\"%" PRId64 " bytes\">%s</data>", bytes, bytes,
                 dsc_bytes_str(bytes).str);
}

void html_ns(int64_t ns, dsc_text *out)
{
    dsc_text_add(out, "<data value=\"%.15g\" title=\"%" PRId64 " ns\">%s</data>", (double)ns / 1e9, ns,
                 dsc_ns_str(ns).str);
}

void html_percent(double share, dsc_text *out)
{
    if (isfinite(share)) dsc_text_add(out, "<data value=\"%.15g\">%.1f %%</data>", share, 100 * share);
    else dsc_text_add(out, "-");
}

/* ---- Bars and tables */

void html_legend(const html_part *parts, int64_t count, dsc_text *out)
{
    dsc_text_add(out, "<ul class=\"legend\">");
    for (int64_t i = 0; i < count; i++)
        dsc_text_add(out, "<li><i class=\"%s\"></i>%s</li>", parts[i].class_, parts[i].name);
    dsc_text_add(out, "</ul>\n");
}

void html_track(const char *name, const html_part *parts, int64_t count, const html_scale *scale, dsc_text *out)
{
    const double whole = (double)DSC_MAX(scale->whole, 1);

    dsc_text_add(out, "<span class=\"track\">");
    for (int64_t i = 0; i < count; i++)
        if (parts[i].amount > 0)
            dsc_text_add(out, "<i class=\"%s\" style=\"width:%.4f%%\" data-tip=\"%s%s%s: %s, %" PRId64 " %s\"></i>",
                         parts[i].class_, 100 * (double)parts[i].amount / whole, name, name[0] != '\0' ? ", " : "",
                         parts[i].name, scale->print(parts[i].amount).str, parts[i].amount, scale->unit);
    if (scale->limit > 0)
        dsc_text_add(out, "<b class=\"limit\" style=\"left:%.4f%%\"></b>", 100 * (double)scale->limit / whole);
    dsc_text_add(out, "</span>");
}

void html_table_begin(const char *id, const char *names, dsc_text *out)
{
    dsc_text_add(out, "<p><button type=\"button\" data-copies=\"%s\" hidden=\"\">Copy table</button></p>\n"
                 "<div class=\"scroll\"><table id=\"%s\"><thead><tr>", id, id);
    for (const char *name = names; *name != '\0';) {
        bool is_number = *name == '#';
        int length = (int)strcspn(name += is_number, "|");

        dsc_text_add(out, "<th scope=\"col\"%s>%.*s</th>", is_number ? " class=\"n\"" : "", length, name);
        name += length + (name[length] == '|');
    }
    dsc_text_add(out, "</tr></thead><tbody>\n");
}

void html_table_end(dsc_text *out)
{
    dsc_text_add(out, "</tbody></table></div>\n");
}
