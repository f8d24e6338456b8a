#include "program/program.h"
#include <stdio.h>
#include <string.h>

const char *const DSC_OP_NAMES[] = {
#define O(id, name, lane, doc) #name,
    DSC_OPS(O)
#undef O
    NULL};

const char *const DSC_OP_DOCS[] = {
#define O(id, name, lane, doc) doc,
    DSC_OPS(O)
#undef O
    NULL};

const char *const DSC_LANE_NAMES[] = {
#define L(id, name, doc) #name,
    DSC_LANES(L)
#undef L
    NULL};

const char *const DSC_SEGMENT_NAMES[] = {
#define S(id, name, doc) #name,
    DSC_SEGMENTS(S)
#undef S
    NULL};

enum { DSC_LANE_AXIS = -1, DSC_LANE_SPACE = -2 };

static const int OP_LANES[] = {
#define O(id, name, lane, doc) DSC_LANE_##lane,
    DSC_OPS(O)
#undef O
};

int dsc_op_lane(int kind, int axis, int space)
{
    static const int lanes[DSC_AXIS_COUNT] = {
        [DSC_AXIS_TP] = DSC_LANE_TP, [DSC_AXIS_CP] = DSC_LANE_TP,     [DSC_AXIS_DP] = DSC_LANE_DP,
        [DSC_AXIS_PP] = DSC_LANE_PP_SEND, [DSC_AXIS_TIED] = DSC_LANE_TIED,
        [DSC_AXIS_INTRA] = DSC_LANE_DP, [DSC_AXIS_INTER] = DSC_LANE_DP, [DSC_AXIS_WORLD] = DSC_LANE_WORLD};

    if (OP_LANES[kind] == DSC_LANE_SPACE) return space == DSC_SPACE_HOST ? DSC_LANE_HOST : DSC_LANE_COMPUTE;
    if (OP_LANES[kind] != DSC_LANE_AXIS || axis < 0) return OP_LANES[kind];
    return kind == DSC_OP_RECV ? DSC_LANE_PP_RECV : lanes[axis];
}

bool dsc_op_is_communication(int kind) { return OP_LANES[kind] == DSC_LANE_AXIS; }
bool dsc_op_is_copy(int kind) { return kind == DSC_OP_COPY_IN || kind == DSC_OP_COPY_OUT; }

bool dsc_segment_is_local(int segment) { return segment == DSC_SEGMENT_LOCAL; }

bool dsc_segment_makes_gradients(int segment)
{
    return segment == DSC_SEGMENT_GRADIENTS || segment == DSC_SEGMENT_DELAYED || segment == DSC_SEGMENT_LOCAL;
}

bool dsc_defers(const dsc_plan *plan, int64_t updates, bool is_read)
{
    const int64_t delay = plan->config.strategy.delay_update;

    return delay > 0 && updates >= delay && !is_read;
}

static dsc_segment_id first_segment(const dsc_outcome *outcome)
{
    if (outcome->pending) return DSC_SEGMENT_DELAYED;
    if (outcome->way == DSC_WAY_EXACT) return DSC_SEGMENT_GRADIENTS;
    return outcome->anchor ? DSC_SEGMENT_ANCHOR : DSC_SEGMENT_LOCAL;
}

dsc_segment_id dsc_segment_next(dsc_segment_id segment, const dsc_outcome *outcome)
{
    static const dsc_segment_id updates[] = {[DSC_WAY_EXACT] = DSC_SEGMENT_UPDATE,
                                             [DSC_WAY_EXCHANGE] = DSC_SEGMENT_EXCHANGE,
                                             [DSC_WAY_SHARE] = DSC_SEGMENT_SHARE, [DSC_WAY_OWN] = DSC_SEGMENT_STEP};
    const bool has_update = !outcome->overflow && !outcome->defer && !outcome->discard;

    if (segment == DSC_SEGMENT_END) return first_segment(outcome);
    if (segment == DSC_SEGMENT_ANCHOR) return DSC_SEGMENT_LOCAL;
    if (dsc_segment_makes_gradients(segment) && has_update) return updates[outcome->way];
    if (segment == DSC_SEGMENT_EVALUATE || segment == DSC_SEGMENT_SPREAD) return DSC_SEGMENT_END;
    if (segment != DSC_SEGMENT_SYNC && outcome->sync) return DSC_SEGMENT_SYNC;
    return outcome->evaluate ? DSC_SEGMENT_EVALUATE : DSC_SEGMENT_END;
}

void dsc_path_of(const dsc_outcome *outcome, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (int s = dsc_segment_next(DSC_SEGMENT_END, outcome); s != DSC_SEGMENT_END && used < size;
         s = dsc_segment_next(s, outcome))
        used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? "/" : "", DSC_SEGMENT_NAMES[s]);
}

void dsc_op_table_print(dsc_text *out)
{
    static const char *const lane_docs[] = {
#define L(id, name, doc) doc,
        DSC_LANES(L)
#undef L
    };
    static const char *const segment_docs[] = {
#define S(id, name, doc) doc,
        DSC_SEGMENTS(S)
#undef S
    };

    dsc_text_add(out, "| op | lane | what it does |\n|---|---|---|\n");
    for (int i = 0; i < DSC_OP_KIND_COUNT; i++)
        dsc_text_add(out, "| `%s` | %s | %s |\n", DSC_OP_NAMES[i],
                     OP_LANES[i] == DSC_LANE_AXIS    ? "of its axis"
                     : OP_LANES[i] == DSC_LANE_SPACE ? "compute or host"
                                                     : DSC_LANE_NAMES[OP_LANES[i]],
                     DSC_OP_DOCS[i]);
    dsc_text_add(out, "\n| lane | what runs in it |\n|---|---|\n");
    for (int i = 0; i < DSC_LANE_COUNT; i++) dsc_text_add(out, "| %s | %s |\n", DSC_LANE_NAMES[i], lane_docs[i]);
    dsc_text_add(out, "\n| segment | what it does |\n|---|---|\n");
    for (int i = 0; i < DSC_SEGMENT_COUNT; i++)
        dsc_text_add(out, "| %s | %s |\n", DSC_SEGMENT_NAMES[i], segment_docs[i]);
}
