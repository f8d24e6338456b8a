/* The page as a whole: its head, and the command that it was made by. */
#include "tools/plan/html.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- The head: what was asked, and the answer */

static void add_figure(const char *name, dsc_text *out)
{
    dsc_text_add(out, "<div><dt>%s</dt><dd>", name);
}

/* What a rank has beyond its peak, or lacks. */
static void add_room(const evaluation *e, int space, dsc_text *out)
{
    int64_t peak = e->worst[space].ledger.arena_bytes + e->plan->libraries_bytes[space];
    int64_t capacity = e->plan->capacity_bytes[space];

    if (peak == 0) return;
    add_figure(space == DSC_SPACE_DEVICE ? "Memory head-room" : "Host head-room", out);
    html_bytes(capacity - peak, out);
    dsc_text_add(out, "<small>peak ");
    html_bytes(peak, out);
    dsc_text_add(out, " of ");
    html_bytes(capacity, out);
    dsc_text_add(out, ", %.1f %%, on rank %" PRId64 "</small></dd></div>\n",
                 100 * (double)peak / (double)DSC_MAX(capacity, 1), e->worst[space].rank);
}

static void add_figures(const evaluation *e, dsc_text *out)
{
    const dsc_strategy *s = &e->plan->config.strategy;

    dsc_text_add(out, "<dl class=\"figures\">\n");
    add_figure("Step time", out);
    html_ns(e->timing.step_ns, out);
    dsc_text_add(out, "<small>%" PRId64 " sequences of %" PRId64 " tokens</small></dd></div>\n", s->global_batch,
                 s->seq_len);
    add_figure("Throughput", out);
    dsc_text_add(out, "<data value=\"%.15g\">%s</data> tokens/s</dd></div>\n", tokens_per_s(e),
                 dsc_count_str(tokens_per_s(e)).str);
    add_figure("Model FLOP/s a device", out);
    dsc_text_add(out, "<data value=\"%.15g\" title=\"in TFLOP/s\">%sFLOP/s</data><small>of %" PRId64
                 " devices</small></dd></div>\n", flops_per_s(e) / 1e12, dsc_count_str(flops_per_s(e)).str,
                 e->plan->ranks);
    add_figure("MFU", out);
    html_percent(flops_utilization(e), out);
    dsc_text_add(out, "<small>of the dense %s peak</small></dd></div>\n", dsc_dtype_name(e->plan->product_type));
    add_room(e, DSC_SPACE_DEVICE, out);
    add_room(e, DSC_SPACE_HOST, out);
    add_figure("On the wire a step", out);
    html_bytes(e->wire_bytes, out);
    dsc_text_add(out, "<small>sent by all ranks</small></dd></div>\n</dl>\n");
}

static void add_key(const char *name, const char *value, dsc_text *out)
{
    dsc_text_add(out, "<div><dt>");
    html_escape(name, out);
    dsc_text_add(out, "</dt><dd>");
    html_escape(value, out);
    dsc_text_add(out, "</dd></div>\n");
}

/* The strategy's keys as --json has them. */
static dsc_status add_strategy(const evaluation *e, dsc_text *out)
{
    dsc_status status = DSC_OK;
    json_t *strategy = strategy_json(e->plan), *value;
    const char *key;

    dsc_text_add(out, "<h3>Strategy</h3>\n<dl class=\"keys\">\n");
    json_object_foreach(strategy, key, value)
    {
        char *text = json_is_string(value) ? strdup(json_string_value(value)) :
                     json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));

        if (text == NULL) status = DSC_FAIL(DSC_ENOMEM, "the strategy's text");
        else add_key(key, text, out);
        free(text);
    }
    dsc_text_add(out, "</dl>\n");
    json_decref(strategy);
    return status;
}

/* Which software is priced, and which program that is. */
static void add_software(const evaluation *e, dsc_text *out)
{
    char hash[33];

    dsc_programs_hash(e->plan, e->programs, hash);
    dsc_text_add(out, "<p class=\"facts\">Software priced: <b>%s</b>, ", e->stack->name);
    html_escape(e->stack->what, out);
    dsc_text_add(out, "</p>\n<p class=\"facts\">Program <code>%s</code></p>\n", hash);
}

static void add_verdict(const evaluation *e, dsc_text *out)
{
    const worst *worst = &e->worst[DSC_SPACE_DEVICE];

    dsc_text_add(out, "<p class=\"verdict%s\"><b>%s</b> ", e->feasible ? "" : " no",
                 e->feasible ? "Feasible." : "Does not fit.");
    if (e->feasible)
        dsc_text_add(out, "The rank that needs most, rank %" PRId64 ", takes %s of its %s.", worst->rank,
                     dsc_bytes_str(worst->ledger.arena_bytes + e->plan->libraries_bytes[DSC_SPACE_DEVICE]).str,
                     dsc_bytes_str(e->plan->capacity_bytes[DSC_SPACE_DEVICE]).str);
    else html_escape(e->reason, out);
    dsc_text_add(out, "</p>\n");
}

/* Lines of a module's printer, as text. */
static void add_lines(dsc_text *lines, dsc_text *out)
{
    while (lines->count > 0 && lines->bytes[lines->count - 1] == '\n') lines->bytes[--lines->count] = '\0';
    html_escape(dsc_text_str(lines), out);
    dsc_text_fini(lines);
}

static dsc_status add_head(const evaluation *e, const char *command, dsc_text *out)
{
    dsc_text model = {0}, cluster = {0};
    dsc_status status = DSC_OK;

    dsc_model_print(&e->model, &model);
    dsc_cluster_print(e->cluster, &cluster);
    if (model.failed || cluster.failed) status = DSC_FAIL(DSC_ENOMEM, "the page's head");
    dsc_text_add(out, "<header>\n<h1>");
    html_escape(e->model.name, out);
    dsc_text_add(out, " on ");
    html_escape(e->cluster->name, out);
    dsc_text_add(out, "</h1>\n<p class=\"facts\">");
    add_lines(&model, out);
    dsc_text_add(out, "</p>\n<p class=\"facts\">");
    add_lines(&cluster, out);
    dsc_text_add(out, "</p>\n");
    add_verdict(e, out);
    add_figures(e, out);
    add_software(e, out);
    if (status == DSC_OK) status = add_strategy(e, out);
    dsc_text_add(out, "<h3>Command</h3>\n<pre>");
    html_escape(command, out);
    dsc_text_add(out, "</pre>\n</header>\n");
    return status;
}

/* ---- The page */

/* Nothing may be loaded, and browsers are told so. */
static void add_opening(const evaluation *e, dsc_text *out)
{
    dsc_text_add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                 "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                 "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\"/>\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                 "<link rel=\"icon\" href=\"data:,\"/>\n<title>");
    html_escape(e->model.name, out);
    dsc_text_add(out, " on ");
    html_escape(e->cluster->name, out);
    dsc_text_add(out, " - dsc-plan</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n", html_style);
}

static void add_closing(dsc_text *out)
{
    dsc_text_add(out, "<footer>A prediction by dsc-plan %s. Sizes are powers of 1024 (KiB, MiB, GiB), rates powers of "
                 "1000; the exact number stands behind each.</footer>\n</main>\n<div id=\"tip\" hidden=\"\"></div>\n"
                 "<script>\n%s</script>\n</body>\n</html>\n", PACKAGE_VERSION, html_script);
}

static dsc_status print_page(const evaluation *e, const char *command, const html_point *points, int64_t count,
                             dsc_text *out)
{
    dsc_status status = DSC_OK;

    add_opening(e, out);
    DSC_TRY(add_head(e, command, out));
    DSC_TRY(html_memory(e, out));
    html_time(e, out);
    DSC_TRY(html_timeline(e, out));
    DSC_TRY(html_cluster(e, out));
    if (count > 0) DSC_TRY(html_front(points, count, e->plan->capacity_bytes[DSC_SPACE_DEVICE], out));
    add_closing(out);
    if (out->failed) status = DSC_FAIL(DSC_ENOMEM, "the page's text");
out:
    return status;
}

/* ---- The file, and the command that it was made by */

/* A word as a shell takes it. */
static void add_word(const char *word, dsc_text *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,+@%";

    dsc_text_add(out, "%s", out->count > 0 ? " " : "");
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
        dsc_text_add(out, "%s", word);
        return;
    }
    dsc_text_add(out, "'");
    for (; *word != '\0'; word++) dsc_text_add(out, *word == '\'' ? "'\\''" : "%c", *word);
    dsc_text_add(out, "'");
}

static void print_command(const char *name, char **words, dsc_text *out)
{
    add_word(name, out);
    for (words++; *words != NULL; words++) {
        if (dsc_equal(*words, "--html") && words[1] != NULL) words++;
        else if (strncmp(*words, "--html=", 7) != 0) add_word(*words, out);
    }
}

dsc_status write_page(const char *name, const evaluation *e, const html_point *points, int64_t count,
                      const plan_options *options)
{
    dsc_status status = DSC_OK;
    dsc_text command = {0}, page = {0};

    print_command(name, options->words, &command);
    DSC_TRY(print_page(e, dsc_text_str(&command), points, count, &page));
    DSC_TRY(write_text(options->html, &page));
out:
    dsc_text_fini(&command);
    dsc_text_fini(&page);
    return status;
}
