#include "sim/search/walk.h"
#include "config/config.h"
#include "program/schedule.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Of a pass: when its message has come, when what it sends is there, when it is over; -1: not known yet. */
typedef struct step { int64_t received, ready, end; int32_t freed_by; int8_t turn; } step;

/* A stage's passes in order, and how far its lanes are. */
typedef struct stage {
    dsc_pass *passes; int64_t count;
    step *steps;
    int32_t *forward, *backward;         /* [chunk * micro_batches + micro_batch] passes of inputs */
    int64_t computed, received, sent;    /* passes that the lanes are past */
    int64_t compute_ns, receive_ns, send_ns;
    int64_t *values;                     /* [quantity][chunk] */
} stage;

typedef struct pipeline { const dsc_costs *costs; const dsc_shape_of_step *shape; stage *stages; int64_t p, m, v, c; }
    pipeline;

static int64_t value(const pipeline *l, const stage *s, int quantity, int64_t chunk)
{
    return s->values[quantity * l->v + chunk];
}

/* ---- Setting up */

static bool has_weights(const dsc_pass *pass) { return pass->kind >= DSC_PASS_BACKWARD_W; }
static bool has_inputs(const dsc_pass *pass)
{
    return pass->kind == DSC_PASS_BACKWARD_X || pass->kind == DSC_PASS_BACKWARD;
}

/* Slots are given back by the pass that is the last to read them, and the last that came back is taken first. */
static dsc_status note_slots(const pipeline *l, stage *s)
{
    const int64_t flights = l->m * l->v;
    int32_t *freed_by = malloc((size_t)(2 * flights) * sizeof *freed_by);
    int64_t count = 0;

    if (freed_by == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " slots", flights);
    for (int64_t i = 0; i < s->count; i++) {
        if (s->passes[i].kind == DSC_PASS_FORWARD) s->steps[i].freed_by = count > 0 ? freed_by[--count] : -1;
        else if (has_weights(&s->passes[i])) freed_by[count++] = (int32_t)i;
    }
    free(freed_by);
    return DSC_OK;
}

/* Where passes are, and which of a chunk's backward passes are the first and the last. */
static void note_passes(const pipeline *l, stage *s)
{
    for (int64_t i = 0; i < s->count; i++) {
        const dsc_pass *pass = &s->passes[i];
        const int64_t at = pass->chunk * l->m + pass->micro_batch;

        s->steps[i] = (step){-1, -1, -1, -1, DSC_TURN_MIDDLE};
        if (pass->kind == DSC_PASS_FORWARD) s->forward[at] = (int32_t)i;
        if (has_inputs(pass)) s->backward[at] = (int32_t)i;
        if (has_inputs(pass) && pass->micro_batch == l->m - 1) s->steps[i].turn = DSC_TURN_LAST;
        else if (has_inputs(pass) && pass->micro_batch == 0) s->steps[i].turn = DSC_TURN_FIRST;
    }
}

static dsc_status stage_init(const pipeline *l, int64_t number, stage *s)
{
    const size_t flights = (size_t)(l->m * l->v);
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_schedule_create(l->shape->schedule, l->p, number, l->m, l->v, &s->passes, &s->count));
    s->steps = malloc((size_t)s->count * sizeof *s->steps);
    s->forward = malloc(2 * flights * sizeof *s->forward);
    s->values = malloc((size_t)(DSC_Q_COUNT * l->v) * sizeof *s->values);
    if (s->steps == NULL || s->forward == NULL || s->values == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " passes", s->count));
    s->backward = s->forward + flights;
    for (int q = 0; q < DSC_Q_COUNT; q++)
        for (int64_t chunk = 0; chunk < l->v; chunk++)
            s->values[q * l->v + chunk] = dsc_score_chunk(l->costs, l->shape, q, number, chunk);
    note_passes(l, s);
    DSC_TRY(note_slots(l, s));
out:
    return status;
}

/* ---- Walking */

/* The pass on another stage that sends what this one receives; NULL where it receives nothing. */
static stage *sender_of(const pipeline *l, int64_t number, const dsc_pass *pass, int32_t *index)
{
    const int64_t here = pass->chunk * l->p + number, from = here + (pass->kind == DSC_PASS_FORWARD ? -1 : 1);
    stage *s;

    if (pass->kind == DSC_PASS_BACKWARD_W || from < 0 || from >= l->p * l->v) return NULL;
    s = &l->stages[from % l->p];
    *index = (pass->kind == DSC_PASS_FORWARD ? s->forward : s->backward)[from / l->p * l->m + pass->micro_batch];
    return s;
}

static bool sends(const pipeline *l, int64_t number, const dsc_pass *pass)
{
    const int64_t here = pass->chunk * l->p + number;

    if (pass->kind == DSC_PASS_BACKWARD_W) return false;
    return pass->kind == DSC_PASS_FORWARD ? here < l->p * l->v - 1 : here > 0;
}

static void skip_silent(const pipeline *l, stage *s)
{
    while (s->sent < s->count && !sends(l, s - l->stages, &s->passes[s->sent])) s->sent++;
}

/* When the slot of a forward pass is free; -1: not known yet. */
static int64_t slot_ns(const stage *s, const step *step)
{
    return step->freed_by < 0 ? 0 : s->steps[step->freed_by].end;
}

/* The next message of the stage, if both ends are there. */
static bool receive(const pipeline *l, stage *s)
{
    const dsc_pass *pass = &s->passes[s->received];
    step *here = &s->steps[s->received];
    const int64_t slot = pass->kind == DSC_PASS_FORWARD ? slot_ns(s, here) : 0;
    int32_t index;
    stage *from = sender_of(l, s - l->stages, pass, &index);
    int64_t start;

    if (from == NULL) {
        here->received = 0;
        s->received++;
        return true;
    }
    skip_silent(l, from);
    if (slot < 0 || from->sent != index || from->steps[index].ready < 0) return false;
    start = DSC_MAX(DSC_MAX(from->steps[index].ready, from->send_ns), DSC_MAX(s->receive_ns, slot));
    here->received = from->send_ns = s->receive_ns = start + l->c;
    from->sent++;
    s->received++;
    return true;
}

static void pass_forward(const pipeline *l, stage *s, const dsc_pass *pass, step *here)
{
    const int64_t gap = value(l, s, DSC_Q_GAP, pass->chunk), slot = slot_ns(s, here);
    const int64_t start = DSC_MAX(s->compute_ns, DSC_MAX(here->received, here->freed_by < 0 ? 0 : slot + gap));

    here->end = here->ready = start + value(l, s, DSC_Q_FORWARD, pass->chunk);
}

/* What is computed again comes before the gradient is needed; where that is late the host waits, too. */
static void pass_backward(const pipeline *l, stage *s, const dsc_pass *pass, step *here)
{
    const bool is_half = pass->kind == DSC_PASS_BACKWARD_X;
    const int64_t ns = value(l, s, is_half ? (int)DSC_Q_INPUTS : DSC_Q_BACKWARD + here->turn, pass->chunk);
    const int64_t tail = value(l, s, is_half ? (int)DSC_Q_INPUTS_TAIL : DSC_Q_TAIL + here->turn, pass->chunk);
    const int64_t sent = value(l, s, DSC_Q_SENT + here->turn, pass->chunk);
    const int64_t answer = value(l, s, DSC_Q_ANSWER + here->turn, pass->chunk);

    here->end = DSC_MAX(s->compute_ns + ns, here->received + tail);
    here->ready = DSC_MAX(s->compute_ns + DSC_MIN(ns, sent), here->received + DSC_MIN(tail, answer));
}

static bool compute(const pipeline *l, stage *s)
{
    const dsc_pass *pass = &s->passes[s->computed];
    step *here = &s->steps[s->computed];

    if (s->computed >= s->received) return false;
    if (pass->kind == DSC_PASS_FORWARD) pass_forward(l, s, pass, here);
    else if (pass->kind == DSC_PASS_BACKWARD_W) here->end = s->compute_ns + value(l, s, DSC_Q_WEIGHTS, pass->chunk);
    else pass_backward(l, s, pass, here);
    s->compute_ns = here->end;
    s->computed++;
    return true;
}

/* Stages by turns, each as far as it gets. */
static void walk(pipeline *l)
{
    bool moves = true;

    while (moves) {
        moves = false;
        for (stage *s = l->stages; s < l->stages + l->p; s++)
            for (bool here = true; here;) {
                here = s->received < s->count && receive(l, s);
                here |= s->computed < s->count && compute(l, s);
                moves |= here;
            }
    }
}

dsc_status dsc_walk_passes(const dsc_costs *costs, const dsc_shape_of_step *shape, dsc_score *out)
{
    pipeline l = {.costs = costs, .shape = shape, .p = shape->pp, .m = shape->micro_batches,
                  .v = shape->virtual_stages, .c = shape->pp > 1 ? shape->messages_ns / (shape->pp - 1) : 0};
    int64_t longest = 0;
    dsc_status status = DSC_OK;

    l.stages = calloc((size_t)l.p, sizeof *l.stages);
    if (l.stages == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " stages", l.p);
    for (int64_t i = 0; i < l.p; i++) DSC_TRY(stage_init(&l, i, &l.stages[i]));
    walk(&l);
    for (int64_t i = 0; i < l.p; i++) {
        if (l.stages[i].computed < l.stages[i].count)
            DSC_TRY(DSC_FAIL(DSC_EINTERNAL, "search: stage %" PRId64 " waits for ever", i));
        longest = DSC_MAX(longest, l.stages[i].compute_ns);
    }
    *out = dsc_score_of(costs, shape, longest);
out:
    for (int64_t i = 0; i < l.p; i++) {
        free(l.stages[i].passes);
        free(l.stages[i].steps);
        free(l.stages[i].forward);
        free(l.stages[i].values);
    }
    free(l.stages);
    return status;
}
