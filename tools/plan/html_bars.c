/* Where memory and time go: stacked bars, and the same in tables. */
#include "tools/plan/html.h"
#include <inttypes.h>

/* ---- Memory */

enum { COMPONENTS = DSC_CLASS_COUNT + 1 }; /* the ledger's, and what libraries take */

static const html_part components[COMPONENTS] = {
    {"parameters", "parameters", 0}, {"gradients", "gradients", 0}, {"optimizer", "optimizer", 0},
    {"activations", "activations", 0}, {"buffers", "buffers", 0}, {"libraries", "libraries", 0}};

/* Ranks of one program: what they take of a space at their peak. */
typedef struct stage_memory { html_part parts[COMPONENTS]; int64_t arena_bytes, peak_bytes; } stage_memory;

static dsc_status measure(const evaluation *e, int64_t rank, int space, stage_memory *out)
{
    dsc_ledger ledger;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_program_ledger(e->programs[rank], space, &ledger));
    for (int i = 0; i < COMPONENTS; i++) {
        out->parts[i] = components[i];
        out->parts[i].amount = i < DSC_CLASS_COUNT ? ledger.classes[i] : e->plan->libraries_bytes[space];
    }
    out->arena_bytes = ledger.arena_bytes;
    out->peak_bytes = ledger.arena_bytes + e->plan->libraries_bytes[space];
out:
    return status;
}

/* A row of the chart: rows of many stages are low, and only some have a name. */
static void add_bar(int64_t stage, int64_t every, const stage_memory *m, const html_scale *scale, dsc_text *out)
{
    char name[48];

    snprintf(name, sizeof name, "stage %" PRId64, stage);
    dsc_text_add(out, "<div class=\"bar\" role=\"img\" tabindex=\"0\" aria-label=\"%s:", name);
    for (int i = 0; i < COMPONENTS; i++)
        if (m->parts[i].amount > 0)
            dsc_text_add(out, " %s %s (%" PRId64 " bytes),", m->parts[i].name, dsc_bytes_str(m->parts[i].amount).str,
                         m->parts[i].amount);
    dsc_text_add(out, " together %s of %s\"><span class=\"name\">%s</span>", dsc_bytes_str(m->peak_bytes).str,
                 dsc_bytes_str(scale->limit).str, stage % every == 0 ? name : "");
    html_track(name, m->parts, COMPONENTS, scale, out);
    dsc_text_add(out, "<span class=\"value\">%s</span></div>\n",
                 stage % every == 0 ? dsc_bytes_str(m->peak_bytes).str : "");
}

static void add_chart(const stage_memory *stages, int64_t count, int64_t capacity, dsc_text *out)
{
    enum { HEIGHT = 600, HIGHEST = 26, LOWEST = 3, LINE = 13 }; /* pixels */
    const int64_t pitch = DSC_MIN(DSC_MAX(HEIGHT / count, LOWEST), HIGHEST), every = dsc_ceil_div(LINE, pitch);
    html_scale scale = {capacity, capacity, dsc_bytes_str, "bytes"};

    for (int64_t i = 0; i < count; i++) scale.whole = DSC_MAX(scale.whole, stages[i].peak_bytes);
    html_legend(components, COMPONENTS, out);
    dsc_text_add(out, "<div class=\"bars\" style=\"--pitch:%" PRId64 "px\">\n", pitch);
    for (int64_t i = 0; i < count; i++) add_bar(i, every, &stages[i], &scale, out);
    dsc_text_add(out, "<div class=\"scale\"><span></span><div><span>0</span><span>%s%s</span></div><span></span></div>"
                 "\n</div>\n", dsc_bytes_str(scale.whole).str, scale.whole == capacity ? " capacity" : "");
    if (scale.whole > capacity)
        dsc_text_add(out, "<p class=\"note\">The line across the bars is the capacity, %s.</p>\n",
                     dsc_bytes_str(capacity).str);
}

static void add_layers(const dsc_stage *stage, dsc_text *out)
{
    bool has_embedding = false, has_head = false, is_first = true;

    for (int64_t c = 0; c < stage->chunk_count; c++) {
        const dsc_chunk *chunk = &stage->chunks[c];

        has_embedding |= chunk->has_embedding;
        has_head |= chunk->has_head;
        if (chunk->layers == 0) continue;
        dsc_text_add(out, "%s%" PRId64, is_first ? "" : ", ", chunk->first_layer);
        if (chunk->layers > 1) dsc_text_add(out, "-%" PRId64, chunk->first_layer + chunk->layers - 1);
        is_first = false;
    }
    dsc_text_add(out, "%s%s%s", is_first ? "none" : "", has_embedding ? " + embedding" : "", has_head ? " + head" : "");
}

static void add_memory_row(const evaluation *e, int64_t stage, int64_t rank, int space, const stage_memory *m,
                           dsc_text *out)
{
    const dsc_plan *plan = e->plan;

    dsc_text_add(out, "<tr%s><td>%" PRId64 "</td><td>", rank == e->worst[space].rank ? " class=\"worst\"" : "", stage);
    add_layers(&plan->stages[stage], out);
    dsc_text_add(out, "</td><td class=\"n\">%" PRId64 "</td>", plan->ranks / plan->config.strategy.pp);
    for (int i = 0; i < COMPONENTS; i++) {
        dsc_text_add(out, "<td class=\"n\">");
        html_bytes(m->parts[i].amount, out);
        dsc_text_add(out, "</td>");
    }
    dsc_text_add(out, "<td class=\"n\">");
    html_bytes(m->arena_bytes, out);
    dsc_text_add(out, "</td><td class=\"n\">");
    html_bytes(m->peak_bytes, out);
    dsc_text_add(out, "</td><td class=\"n\">");
    html_percent((double)m->peak_bytes / (double)DSC_MAX(plan->capacity_bytes[space], 1), out);
    dsc_text_add(out, "</td></tr>\n");
}

/* Stages' ranks, of which the lowest stands for all: they share a program. */
static void add_space(const evaluation *e, int space, const int64_t *ranks, const stage_memory *stages, dsc_text *out)
{
    const int64_t count = e->plan->config.strategy.pp, capacity = e->plan->capacity_bytes[space];
    const char *name = DSC_SPACE_NAMES[space];
    int64_t most = 0;
    char id[32];

    for (int64_t i = 0; i < count; i++) most = DSC_MAX(most, stages[i].peak_bytes);
    dsc_text_add(out, "<h3>%s memory, %s a rank</h3>\n", space == DSC_SPACE_DEVICE ? "Device" : "Host",
                 dsc_bytes_str(capacity).str);
    if (most < capacity / 1000) dsc_text_add(out, "<p class=\"note\">At most %s: too little to be drawn.</p>\n",
                                             dsc_bytes_str(most).str);
    else add_chart(stages, count, capacity, out);
    snprintf(id, sizeof id, "memory-%s", name);
    dsc_text_add(out, "<details%s><summary>Table</summary>\n", count <= 16 && most >= capacity / 1000 ?
                 " open=\"\"" : "");
    html_table_begin(id, "stage|layers|#ranks|#parameters|#gradients|#optimizer|#activations|#buffers|#libraries|"
                     "#arena|#peak|#of capacity", out);
    for (int64_t i = 0; i < count; i++) add_memory_row(e, i, ranks[i], space, &stages[i], out);
    html_table_end(out);
    dsc_text_add(out, "</details>\n");
}

dsc_status html_memory(const evaluation *e, dsc_text *out)
{
    const int64_t count = e->plan->config.strategy.pp;
    stage_memory *stages = calloc((size_t)count, sizeof *stages);
    int64_t *ranks = calloc((size_t)count, sizeof *ranks);
    dsc_status status = DSC_OK;

    if (stages == NULL || ranks == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "memory of %" PRId64 " stages", count));
    for (int64_t rank = 0; rank < e->plan->ranks; rank++)
        if (dsc_plan_representative(e->plan, rank) == rank) ranks[e->programs[rank]->stage] = rank;
    dsc_text_add(out, "<section id=\"memory\">\n<h2>Memory</h2>\n"
                 "<p class=\"note\">What a rank holds at the instant of its peak. Ranks of one pipeline stage share a "
                 "program, and are one row.</p>\n");
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        for (int64_t i = 0; i < count; i++) DSC_TRY(measure(e, ranks[i], space, &stages[i]));
        if (e->worst[space].ledger.arena_bytes + e->plan->libraries_bytes[space] > 0)
            add_space(e, space, ranks, stages, out);
    }
    dsc_text_add(out, "</section>\n");
out:
    free(ranks);
    free(stages);
    return status;
}

/* ---- Time */

/* Steps that take other paths than the one above: skipped ones, evaluations, phases of an optimizer. */
static void add_paths(const dsc_trace *trace, dsc_text *out)
{
    if (trace->step_count <= 1) return;
    dsc_text_add(out, "<h3>Steps by path</h3>\n");
    html_table_begin("paths", "path|#step|#on the wire", out);
    for (int64_t i = 0; i < trace->step_count; i++) {
        const dsc_step_row *step = &trace->steps[i];

        dsc_text_add(out, "<tr><td>%s</td><td class=\"n\">", step->path);
        html_ns(step->t_end_ns - step->t_start_ns, out);
        dsc_text_add(out, "</td><td class=\"n\">");
        html_bytes(step->wire_bytes, out);
        dsc_text_add(out, "</td></tr>\n");
    }
    html_table_end(out);
}

static void add_time_row(const html_part *part, const char *what, int64_t step_ns, dsc_text *out)
{
    dsc_text_add(out, "<tr><td><i class=\"%s\"></i>%s</td><td class=\"n\">", part->class_, part->name);
    html_ns(part->amount, out);
    dsc_text_add(out, "</td><td class=\"n\">");
    html_percent((double)part->amount / (double)DSC_MAX(step_ns, 1), out);
    dsc_text_add(out, "</td><td class=\"w\">%s</td></tr>\n", what);
}

void html_time(const evaluation *e, dsc_text *out)
{
    const dsc_timing *t = &e->timing;
    const html_part parts[] = {{"compute", "compute", t->compute_ns}, {"tp", "tp_comm", t->tp_comm_ns},
                               {"pp", "pp_comm", t->pp_comm_ns}, {"dp", "dp_comm", t->dp_comm_ns},
                               {"bubble", "bubble", t->bubble_ns}, {"offload", "offload", t->offload_ns},
                               {"optimizer", "optimizer", t->optimizer_ns}, {"other", "other", t->other_ns}};
    static const char *const what[DSC_COUNT(parts)] = {
        "kernels of forward and backward passes, recomputation included", "sums over tensor ranks",
        "activations and gradients between stages", "sums over replicas, and ZeRO's gathers",
        "waiting for another rank's work", "copies to and from the host's memory, and work there",
        "updates of the weights", "launches, gaps between segments, tokens"};
    const html_scale scale = {t->step_ns, 0, dsc_ns_str, "ns"};

    dsc_text_add(out, "<section id=\"time\">\n<h2>Time of a step</h2>\n"
                 "<p class=\"note\">Of the critical rank, which computes most. What computing hides counts nothing, so "
                 "the parts add up to the step.</p>\n<div class=\"bars whole\" style=\"--pitch:34px\">"
                 "<div class=\"bar\" role=\"img\" tabindex=\"0\" aria-label=\"step of %s\">",
                 dsc_ns_str(t->step_ns).str);
    html_track("", parts, DSC_COUNT(parts), &scale, out);
    dsc_text_add(out, "</div>\n<div class=\"scale\"><div><span>0</span><span>%s</span></div></div></div>\n",
                 dsc_ns_str(t->step_ns).str);
    html_table_begin("times", "component|#time|#share| ", out);
    for (int64_t i = 0; i < DSC_COUNT(parts); i++) add_time_row(&parts[i], what[i], t->step_ns, out);
    dsc_text_add(out, "<tr class=\"sum\"><td>step</td><td class=\"n\">");
    html_ns(t->step_ns, out);
    dsc_text_add(out, "</td><td class=\"n\"></td><td class=\"w\"></td></tr>\n");
    html_table_end(out);
    add_paths(&e->trace, out);
    dsc_text_add(out, "</section>\n");
}
