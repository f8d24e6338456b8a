/* The predicted step as rows of blocks, one for each rank whose rows are traced: numbers that page.js draws. Where ops
 * are too many to be sent and seen, those of a pass on a lane are one block, and lanes that take part in every pass
 * are left out; then all but the compute lane, then ranks. The page says what was done. */
#include "tools/plan/html.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_ROWS = 128,
    MOST_OPS = 20000,      /* blocks, where each is an op */
    MOST_PASSES = 120000,  /* blocks, where each is a pass; a block is about 35 bytes of the page */
    MOST_TRACED = 4000000, /* ops of which rows are asked for: 350 MB of them */
    MOST_KINDS = 256,
    SHOWN_SHARE = 1000     /* a gap of more than this part of a step is seen */
};

/* What is drawn: more and more merged. */
typedef enum level { LEVEL_OPS, LEVEL_PASSES, LEVEL_COMPUTE, LEVEL_COUNT } level;

/* What a block is coloured by: a class of page.css. A block of several ops has the largest of theirs. */
typedef enum family {
    FAMILY_OTHER, FAMILY_UPDATE, FAMILY_RECOMPUTE, FAMILY_FORWARD, FAMILY_WEIGHTS, FAMILY_BACKWARD, FAMILY_TP,
    FAMILY_PP, FAMILY_DP, FAMILY_WORLD, FAMILY_HOST, FAMILY_COUNT
} family;

static const html_part families[FAMILY_COUNT] = {
    {"other", "other", 0}, {"update", "optimizer", 0}, {"recompute", "recomputation", 0}, {"forward", "forward", 0},
    {"weights", "gradients of weights", 0}, {"backward", "backward", 0}, {"tp", "tensor communication", 0},
    {"pp", "pipeline communication", 0}, {"dp", "data communication", 0}, {"world", "agreement of all", 0},
    {"host", "copies and host", 0}};

static const int8_t family_of_lane[DSC_LANE_COUNT] = {
    [DSC_LANE_LOAD] = FAMILY_OTHER, [DSC_LANE_HOST] = FAMILY_HOST, [DSC_LANE_COPY_IN] = FAMILY_HOST,
    [DSC_LANE_COPY_OUT] = FAMILY_HOST, [DSC_LANE_TP] = FAMILY_TP, [DSC_LANE_PP_SEND] = FAMILY_PP,
    [DSC_LANE_PP_RECV] = FAMILY_PP, [DSC_LANE_DP] = FAMILY_DP, [DSC_LANE_TIED] = FAMILY_DP,
    [DSC_LANE_WORLD] = FAMILY_WORLD};

/* Lanes that every pass uses: a block as long as the pass would say nothing. */
static bool is_in_every_pass(int lane)
{
    return lane == DSC_LANE_LOAD || lane == DSC_LANE_TP || lane == DSC_LANE_PP_SEND || lane == DSC_LANE_PP_RECV;
}

/* Of an op in a forward pass, or in another, where norms and joins are computed again. */
static family family_of(int kind, int lane, bool is_forward)
{
    if (lane != DSC_LANE_COMPUTE) return family_of_lane[lane];
    switch (kind) {
    case DSC_OP_NORM_FWD: case DSC_OP_JOIN: return is_forward ? FAMILY_FORWARD : FAMILY_RECOMPUTE;
    case DSC_OP_EMBED_FWD: case DSC_OP_ATTENTION_FWD: case DSC_OP_MLP_FWD: case DSC_OP_HEAD_FWD: case DSC_OP_LOSS:
        return FAMILY_FORWARD;
    case DSC_OP_ATTENTION_AGAIN: case DSC_OP_MLP_AGAIN: return FAMILY_RECOMPUTE;
    case DSC_OP_HEAD_BWD_X: case DSC_OP_MLP_BWD_X: case DSC_OP_ATTENTION_BWD_X: case DSC_OP_NORM_BWD_X:
        return FAMILY_BACKWARD;
    case DSC_OP_HEAD_BWD_W: case DSC_OP_MLP_BWD_W: case DSC_OP_ATTENTION_BWD_W: case DSC_OP_NORM_BWD_W:
    case DSC_OP_EMBED_BWD_W: case DSC_OP_ACCUMULATE: return FAMILY_WEIGHTS;
    case DSC_OP_UPDATE: case DSC_OP_ROUND: case DSC_OP_COMPRESS: case DSC_OP_AVERAGE: case DSC_OP_WEIGH:
    case DSC_OP_ANCHOR: case DSC_OP_WIDEN: case DSC_OP_GRAD_NORM: case DSC_OP_VARIANCE_NORM: return FAMILY_UPDATE;
    default: return FAMILY_OTHER;
    }
}

/* ---- Blocks */

typedef struct kind { char name[32]; family family; } kind;

/* The rows of one rank, by lane: indices into the trace's ops, in order. */
typedef struct rank_rows { int64_t rank, *lanes[DSC_LANE_COUNT], counts[DSC_LANE_COUNT], ops, busy_ns; } rank_rows;

typedef struct timeline {
    const evaluation *e;
    const dsc_step_row *step;
    rank_rows *rows; int64_t row_count;
    bool is_by_stage;               /* a row stands for all ranks of its stage */
    int64_t *indices;               /* what the rows' lanes point into */
    int64_t every;                  /* rank of those that is drawn */
    level level;
    kind kinds[MOST_KINDS]; int64_t kind_count;
    int64_t ops, blocks;            /* drawn */
} timeline;

/* busy_ns: without the gaps between its ops. */
typedef struct block { int64_t kind, layer, micro_batch, chunk, start_ns, end_ns, busy_ns; } block;

/* Kinds are few: the last stands for all that would be too many. */
static int64_t number_of_kind(timeline *t, const char *name, family family)
{
    int64_t i = 0;

    while (i < t->kind_count && (strcmp(t->kinds[i].name, name) != 0 || t->kinds[i].family != family)) i++;
    if (i < t->kind_count) return i;
    if (i == MOST_KINDS) return i - 1;
    snprintf(t->kinds[i].name, sizeof t->kinds[i].name, "%s", name);
    t->kinds[i].family = family;
    return t->kind_count++;
}

static const dsc_op_row *op_at(const timeline *t, const rank_rows *row, int lane, int64_t i)
{
    return &t->e->trace.ops[row->lanes[lane][i]];
}

/* A pass is called by its template, without the chunk. */
static int64_t number_of_pass(timeline *t, const dsc_template *pass, family family)
{
    char name[32];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(pass->name, ","), pass->name);
    return number_of_kind(t, name, family);
}

/* The template that an op is of, and in *end the number of the first op behind its use of it. */
static const dsc_template *pass_of(const dsc_program *program, int64_t op, int64_t *end)
{
    dsc_place_of_op place = {.op = NULL};
    const dsc_template *pass;

    if (!dsc_program_find(program, op, &place)) return NULL;
    pass = &program->templates[program->segments[place.segment].uses[place.use].template_];
    *end = op - place.index + pass->op_count;
    return pass;
}

/* The block that begins with the lane's op number *next, which goes on to the one behind it. A pass is broken where it
 * waits so long that it shows. */
static block next_block(timeline *t, const rank_rows *row, int lane, int64_t *next)
{
    const int64_t shows_ns = (t->step->t_end_ns - t->step->t_start_ns) / SHOWN_SHARE;
    const dsc_op_row *op = op_at(t, row, lane, (*next)++);
    block b = {0, op->layer, op->micro_batch, op->chunk, op->t_start_ns, op->t_end_ns, op->t_end_ns - op->t_start_ns};
    int64_t end = 0;
    const dsc_template *pass = pass_of(t->e->programs[row->rank], op->op, &end);
    const bool is_forward = pass != NULL && pass->is_forward;
    family most = family_of(op->kind, lane, is_forward);

    if (t->level == LEVEL_OPS || pass == NULL) {
        b.kind = number_of_kind(t, DSC_OP_NAMES[op->kind], most);
        return b;
    }
    for (; *next < row->counts[lane]; (*next)++) {
        op = op_at(t, row, lane, *next);
        if (op->op >= end || op->t_start_ns - b.end_ns > shows_ns) break;
        most = DSC_MAX(most, family_of(op->kind, lane, is_forward));
        b.end_ns = op->t_end_ns;
        b.busy_ns += op->t_end_ns - op->t_start_ns;
    }
    b.kind = number_of_pass(t, pass, most);
    return b;
}

static bool is_drawn(const timeline *t, const rank_rows *row, int lane)
{
    if (row->counts[lane] == 0) return false;
    if (t->level == LEVEL_COMPUTE) return lane == DSC_LANE_COMPUTE;
    return t->level == LEVEL_OPS || !is_in_every_pass(lane);
}

static void count_blocks(timeline *t)
{
    t->ops = t->blocks = 0;
    for (int64_t r = 0; r < t->row_count; r += t->every)
        for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
            t->ops += t->rows[r].counts[lane];
            if (!is_drawn(t, &t->rows[r], lane)) continue;
            if (t->level == LEVEL_OPS) t->blocks += t->rows[r].counts[lane];
            else for (int64_t next = 0; next < t->rows[r].counts[lane]; t->blocks++)
                next_block(t, &t->rows[r], lane, &next);
        }
}

/* The least that has to be merged. */
static void choose_level(timeline *t)
{
    t->every = dsc_ceil_div(t->row_count, MOST_ROWS);
    for (t->level = LEVEL_OPS; t->level < LEVEL_COUNT; t->level++) {
        count_blocks(t);
        if (t->blocks <= (t->level == LEVEL_OPS ? MOST_OPS : MOST_PASSES)) break;
    }
    if (t->level == LEVEL_COUNT) {
        t->level = LEVEL_COMPUTE;
        t->every *= dsc_ceil_div(t->blocks, MOST_PASSES);
        count_blocks(t);
    }
    t->kind_count = 0;
}

/* ---- Rows of the trace, by rank and lane */

static bool is_of_step(const timeline *t, const dsc_op_row *op)
{
    return op->step == t->step->step && op->op >= 0;
}

/* Counts first, then fills. row_of: by rank, -1 where none is traced. */
static dsc_status sort_rows(timeline *t, int64_t *row_of)
{
    const dsc_trace *trace = &t->e->trace;
    int64_t *next;

    for (int64_t i = 0; i < trace->op_count; i++)
        if (is_of_step(t, &trace->ops[i])) t->rows[row_of[trace->ops[i].rank]].counts[trace->ops[i].lane]++;
    t->indices = next = malloc((size_t)(trace->op_count + 1) * sizeof *t->indices);
    if (next == NULL) return DSC_FAIL(DSC_ENOMEM, "timeline of %" PRId64 " ops", trace->op_count);
    for (int64_t r = 0; r < t->row_count; r++)
        for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
            t->rows[r].lanes[lane] = next;
            next += t->rows[r].counts[lane];
            t->rows[r].counts[lane] = 0;
        }
    for (int64_t i = 0; i < trace->op_count; i++) {
        const dsc_op_row *op = &trace->ops[i];
        rank_rows *row = &t->rows[row_of[op->rank]];

        if (!is_of_step(t, op)) continue;
        row->lanes[op->lane][row->counts[op->lane]++] = i;
        row->ops++;
        if (op->lane == DSC_LANE_COMPUTE) row->busy_ns += op->t_end_ns - op->t_start_ns;
    }
    return DSC_OK;
}

static dsc_status find_rows(timeline *t)
{
    const dsc_trace *trace = &t->e->trace;
    int64_t ranks = t->e->plan->ranks, *row_of = malloc((size_t)ranks * sizeof *row_of);
    dsc_status status = DSC_OK;

    t->rows = calloc((size_t)ranks, sizeof *t->rows);
    if (row_of == NULL || t->rows == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "timeline of %" PRId64 " ranks", ranks));
    for (int64_t rank = 0; rank < ranks; rank++) row_of[rank] = -1;
    for (int64_t i = 0; i < trace->op_count; i++) row_of[trace->ops[i].rank] = 0;
    t->is_by_stage = true;
    for (int64_t rank = 0; rank < ranks; rank++)
        if (row_of[rank] == 0) {
            row_of[rank] = t->row_count;
            t->rows[t->row_count++].rank = rank;
            t->is_by_stage &= dsc_plan_representative(t->e->plan, rank) == rank;
        }
    DSC_TRY(sort_rows(t, row_of));
out:
    free(row_of);
    return status;
}

/* ---- The page */

static void add_name(const timeline *t, const rank_rows *row, dsc_text *out)
{
    if (t->is_by_stage) dsc_text_add(out, "stage %" PRId64, t->e->programs[row->rank]->stage);
    else dsc_text_add(out, "rank %" PRId64, row->rank);
}

/* Six numbers a block: kind, layer (of a pass instead what it is busy), micro-batch, chunk, the time since the end of
 * the block before, and its own. */
static void add_lane(timeline *t, const rank_rows *row, int lane, bool is_first, dsc_text *out)
{
    int64_t now = t->step->t_start_ns;
    const char *comma = "";

    dsc_text_add(out, "%s{\"lane\":%d,\"blocks\":[", is_first ? "" : ",", lane);
    for (int64_t next = 0; next < row->counts[lane]; comma = ",") {
        block b = next_block(t, row, lane, &next);

        dsc_text_add(out, "%s%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64, comma, b.kind,
                     t->level == LEVEL_OPS ? b.layer : b.busy_ns, b.micro_batch, b.chunk, b.start_ns - now,
                     b.end_ns - b.start_ns);
        now = b.end_ns;
    }
    dsc_text_add(out, "]}");
}

static void add_rows(timeline *t, dsc_text *out)
{
    dsc_text_add(out, "\"rows\":[");
    for (int64_t r = 0; r < t->row_count; r += t->every) {
        const rank_rows *row = &t->rows[r];
        bool is_first = true;

        dsc_text_add(out, "%s\n{\"name\":\"", r > 0 ? "," : "");
        add_name(t, row, out);
        dsc_text_add(out, "\",\"rank\":%" PRId64 ",\"lanes\":[", row->rank);
        for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
            if (!is_drawn(t, row, lane)) continue;
            add_lane(t, row, lane, is_first, out);
            is_first = false;
        }
        dsc_text_add(out, "]}");
    }
    dsc_text_add(out, "]");
}

/* The names of kinds are known when all blocks are. */
static void add_data(timeline *t, dsc_text *out)
{
    dsc_text_add(out, "<script type=\"application/json\" id=\"timeline-data\">\n{\"step_ns\":%" PRId64
                 ",\"level\":\"%s\",\"chunks\":%" PRId64 ",\"lanes\":[", t->step->t_end_ns - t->step->t_start_ns,
                 t->level == LEVEL_OPS ? "ops" : "passes", t->e->plan->config.strategy.virtual_stages);
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        dsc_text_add(out, "%s\"%s\"", lane > 0 ? "," : "", DSC_LANE_NAMES[lane]);
    dsc_text_add(out, "],\n");
    add_rows(t, out);
    dsc_text_add(out, ",\n\"kinds\":[");
    for (int64_t i = 0; i < t->kind_count; i++)
        dsc_text_add(out, "%s[\"%s\",\"%s\"]", i > 0 ? "," : "", t->kinds[i].name,
                     families[t->kinds[i].family].class_);
    dsc_text_add(out, "]}\n</script>\n");
}

/* The families that occur, which add_data has found. */
static void add_legend(const timeline *t, dsc_text *out)
{
    static const family order[FAMILY_COUNT] = {FAMILY_FORWARD, FAMILY_BACKWARD, FAMILY_WEIGHTS, FAMILY_RECOMPUTE,
                                               FAMILY_UPDATE, FAMILY_TP, FAMILY_PP, FAMILY_DP, FAMILY_WORLD,
                                               FAMILY_HOST, FAMILY_OTHER};
    html_part shown[FAMILY_COUNT];
    int64_t count = 0;

    for (int f = 0; f < FAMILY_COUNT; f++)
        for (int64_t i = 0; i < t->kind_count; i++)
            if (t->kinds[i].family == order[f]) {
                shown[count++] = families[order[f]];
                break;
            }
    html_legend(shown, count, out);
}

/* What was merged and left out. */
static void add_words(const timeline *t, dsc_text *out)
{
    const int64_t shown = dsc_ceil_div(t->row_count, t->every), stages = t->e->plan->config.strategy.pp;
    const int64_t ranks = t->e->plan->ranks;
    bool is_first = true;

    dsc_text_add(out, "<p class=\"note\">");
    if (!t->is_by_stage) dsc_text_add(out, "Rows are of %" PRId64 " of %" PRId64 " ranks. ", shown, ranks);
    else if (ranks > stages)
        dsc_text_add(out, "A row is one of the %" PRId64 " ranks of a stage; the others do the same at the same "
                     "times. ", ranks / stages);
    if (t->is_by_stage && shown < stages)
        dsc_text_add(out, "Rows are of %" PRId64 " of %" PRId64 " stages. ", shown, stages);
    if (t->level == LEVEL_OPS) {
        dsc_text_add(out, "Each of the %" PRId64 " ops is a block. The tall lane computes; under it are the others, in "
                     "the order ", t->blocks);
        for (int lane = 1; lane < DSC_LANE_COUNT; lane++) dsc_text_add(out, "%s%s", lane > 1 ? ", " : "",
                                                                       DSC_LANE_NAMES[lane]);
        dsc_text_add(out, ", where a rank uses them. A transfer's block includes what it waits "
                     "for its partners.</p>\n");
        return;
    }
    dsc_text_add(out, "%s ops are merged into %s blocks: one for all ops of a pass on a lane, gaps of up to 1/%d of "
                 "the step included. Left out are the lanes ", dsc_count_str((double)t->ops).str,
                 dsc_count_str((double)t->blocks).str, SHOWN_SHARE);
    for (int lane = 1; lane < DSC_LANE_COUNT; lane++)
        if (t->level == LEVEL_COMPUTE || is_in_every_pass(lane)) {
            dsc_text_add(out, "%s%s", is_first ? "" : ", ", DSC_LANE_NAMES[lane]);
            is_first = false;
        }
    dsc_text_add(out, ".</p>\n");
}

static void add_busy(const timeline *t, dsc_text *out)
{
    const int64_t step_ns = t->step->t_end_ns - t->step->t_start_ns;

    dsc_text_add(out, "<details><summary>Table: how busy the compute lanes are</summary>\n");
    html_table_begin("busy", "row|#rank|#ops|#computes|#of the step|#does not", out);
    for (int64_t r = 0; r < t->row_count; r += t->every) {
        const rank_rows *row = &t->rows[r];

        dsc_text_add(out, "<tr><td>");
        add_name(t, row, out);
        dsc_text_add(out, "</td><td class=\"n\">%" PRId64 "</td><td class=\"n\">%" PRId64 "</td><td class=\"n\">",
                     row->rank, row->ops);
        html_ns(row->busy_ns, out);
        dsc_text_add(out, "</td><td class=\"n\">");
        html_percent((double)row->busy_ns / (double)DSC_MAX(step_ns, 1), out);
        dsc_text_add(out, "</td><td class=\"n\">");
        html_ns(step_ns - row->busy_ns, out);
        dsc_text_add(out, "</td></tr>\n");
    }
    html_table_end(out);
    dsc_text_add(out, "</details>\n");
}

static void add_canvas(dsc_text *out)
{
    static const char *const buttons[][2] = {{"all", "Whole step"}, {"begin", "Start"}, {"end", "End"},
                                             {"in", "Zoom in"}, {"out", "Zoom out"}, {"left", "Earlier"},
                                             {"right", "Later"}};

    dsc_text_add(out, "<div class=\"tools\">");
    for (int64_t i = 0; i < DSC_COUNT(buttons); i++)
        dsc_text_add(out, "<button type=\"button\" data-act=\"%s\">%s</button>", buttons[i][0], buttons[i][1]);
    dsc_text_add(out, "<output id=\"range\"></output></div>\n<figure><canvas id=\"timeline\" tabindex=\"0\" "
                 "role=\"img\" aria-label=\"Timeline of a step. Arrow keys move, plus and minus zoom, 0 shows all.\">"
                 "</canvas>"
                 "<noscript><p>The timeline is drawn by a script, which this browser does not run.</p></noscript>"
                 "</figure>\n<p class=\"note\">Drag to move, Ctrl and wheel or a double click to zoom; with the "
                 "keyboard arrows, +, - and 0.</p>\n");
}

dsc_status html_ranks(const evaluation *e, int64_t **list, dsc_sim_options *out)
{
    const int64_t stages = e->plan->config.strategy.pp;
    int64_t ops = 0, every;

    for (int64_t rank = 0; rank < e->plan->ranks; rank++)
        if (dsc_plan_representative(e->plan, rank) == rank) ops += e->programs[rank]->op_count;
    every = DSC_MAX(dsc_ceil_div(ops, MOST_TRACED), dsc_ceil_div(stages, MOST_ROWS));
    out->ranks = every > 1 ? DSC_RANKS_LIST : DSC_RANKS_FOLDED;
    if (every <= 1) return DSC_OK;
    out->list = *list = malloc((size_t)stages * sizeof **list);
    if (*list == NULL) return DSC_FAIL(DSC_ENOMEM, "timeline: list of %" PRId64 " ranks", stages);
    for (int64_t rank = 0; rank < e->plan->ranks; rank++)
        if (dsc_plan_representative(e->plan, rank) == rank && e->programs[rank]->stage % every == 0)
            (*list)[out->list_count++] = rank;
    return DSC_OK;
}

dsc_status html_timeline(const evaluation *e, dsc_text *out)
{
    timeline t = {.e = e};
    dsc_status status = DSC_OK;
    dsc_text data = {0};

    if (e->trace.op_count == 0 || e->trace.step_count == 0) return DSC_OK;
    t.step = &e->trace.steps[0];
    DSC_TRY(find_rows(&t));
    choose_level(&t);
    add_data(&t, &data);
    dsc_text_add(out, "<section id=\"pipeline\">\n<h2>Timeline of a step</h2>\n");
    add_words(&t, out);
    add_legend(&t, out);
    add_canvas(out);
    add_busy(&t, out);
    dsc_text_add(out, "%s</section>\n", dsc_text_str(&data));
    if (data.failed) status = DSC_FAIL(DSC_ENOMEM, "timeline of %" PRId64 " blocks", t.blocks);
out:
    dsc_text_fini(&data);
    free(t.rows);
    free(t.indices);
    return status;
}
