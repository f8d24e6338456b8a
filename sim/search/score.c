#include "sim/search/score.h"
#include "config/config.h"

/* A pipeline whose chunks the layers fill evenly, the first of them with one more where they do not divide. */
typedef struct pipe {
    const dsc_costs *costs;
    const dsc_shape_of_step *shape;
    int64_t p, m, v, each, longer;  /* layers of a chunk; chunks with one more */
    int64_t c;                      /* a message, in the mean */
} pipe;

static pipe make_pipe(const dsc_costs *costs, const dsc_shape_of_step *shape)
{
    const int64_t chunks = shape->pp * shape->virtual_stages;

    return (pipe){costs, shape, shape->pp, shape->micro_batches, shape->virtual_stages, shape->layers / chunks,
                  shape->layers % chunks, shape->pp > 1 ? shape->messages_ns / (shape->pp - 1) : 0};
}

static dsc_stage_kind kind_of(const pipe *e, int64_t stage)
{
    if (e->p == 1) return DSC_STAGE_ONLY;
    return stage == 0 ? DSC_STAGE_FIRST : stage == e->p - 1 ? DSC_STAGE_LAST : DSC_STAGE_MIDDLE;
}

/* What of the rest, where it grows with the layers, goes on beside the last pass while that waits for the host. */
static int64_t hidden_by_host(const dsc_linear of[DSC_Q_COUNT], int64_t layers, int64_t rest)
{
    const int64_t least = DSC_MIN(dsc_linear_at(of[DSC_Q_REST], 1), rest);
    const int64_t waits = dsc_linear_at(of[DSC_Q_LAUNCHES_BACK + DSC_TURN_LAST], layers) -
                          dsc_linear_at(of[DSC_Q_BACKWARD + DSC_TURN_LAST], layers);

    return DSC_MIN(DSC_MAX(waits, 0), rest - least);
}

/* Messages over so many boundaries. */
static int64_t hops(const pipe *e, int64_t count)
{
    return e->p > 1 ? count * e->shape->messages_ns / (e->p - 1) : 0;
}

/* Of a chunk; a pass takes no less than the host takes to launch it. */
static int64_t value(const pipe *e, dsc_stage_kind kind, int quantity, int64_t layers)
{
    const dsc_linear *of = e->costs->of[kind];
    const bool is_backward = quantity >= DSC_Q_BACKWARD && quantity < DSC_Q_BACKWARD + DSC_TURNS;
    const int64_t ns = DSC_MAX(dsc_linear_at(of[quantity], layers), 0); /* without layers a line may lead below */

    if (quantity == DSC_Q_FORWARD) return DSC_MAX(ns, dsc_linear_at(of[DSC_Q_LAUNCHES], layers));
    if (quantity == DSC_Q_REST) return ns - hidden_by_host(of, layers, ns);
    if (!is_backward) return ns;
    return DSC_MAX(ns, dsc_linear_at(of[DSC_Q_LAUNCHES_BACK + quantity - DSC_Q_BACKWARD], layers));
}

/* Of all chunks of a stage: the first chunk of all has the embedding, the last the head. */
static int64_t at(const pipe *e, int quantity, int64_t stage)
{
    const int64_t head = e->v - 1, own = kind_of(e, stage) == DSC_STAGE_LAST ? head : 0;
    int64_t total = 0;

    for (int64_t c = 0; c < e->v; c++)
        total += value(e, c == own ? kind_of(e, stage) : DSC_STAGE_MIDDLE, quantity,
                       e->each + (c * e->p + stage < e->longer));
    return total;
}

/* Over stages from .. end - 1 of one chunk each. */
static int64_t sum(const pipe *e, int quantity, int64_t from, int64_t end)
{
    int64_t total = 0, longer;

    if (from >= end) return 0;
    if (from == 0) total += at(e, quantity, from++);
    if (end == e->p && from < end) total += at(e, quantity, --end);
    if (from >= end) return total;
    longer = DSC_MAX(DSC_MIN(e->longer, end) - from, 0);
    if (longer > 0) total += longer * value(e, DSC_STAGE_MIDDLE, quantity, e->each + 1);
    return total + (end - from - longer) * value(e, DSC_STAGE_MIDDLE, quantity, e->each);
}

/* All backward passes of a stage. */
static int64_t backwards(const pipe *e, int64_t stage)
{
    if (e->m == 1) return at(e, DSC_Q_BACKWARD + DSC_TURN_LAST, stage);
    return at(e, DSC_Q_BACKWARD + DSC_TURN_FIRST, stage) + at(e, DSC_Q_BACKWARD + DSC_TURN_LAST, stage) +
           (e->m - 2) * at(e, DSC_Q_BACKWARD + DSC_TURN_MIDDLE, stage);
}

static int64_t busy(const pipe *e, int64_t stage) { return e->m * at(e, DSC_Q_FORWARD, stage) + backwards(e, stage); }

static bool is_split(const pipe *e) { return e->shape->schedule == DSC_ZB_H1; }

/* Backward passes through stages from .. end - 1, each from the gradient that it waits for until it sends. Behind stage
 * 0 ZB-H1 makes gradients of weights later where others wait. */
static int64_t answers(const pipe *e, int turn, int64_t from, int64_t end)
{
    return sum(e, is_split(e) ? (int)DSC_Q_INPUTS_TAIL : (int)DSC_Q_ANSWER + turn, from, end);
}

/* Up to the stage; down from it, when its last backward pass has sent. */
static int64_t fill(const pipe *e, int64_t stage) { return sum(e, DSC_Q_FORWARD, 0, stage) + hops(e, stage); }
static int64_t drain(const pipe *e, int64_t stage)
{
    if (stage == 0) return 0;
    return hops(e, stage) + answers(e, DSC_TURN_LAST, 1, stage) + at(e, DSC_Q_TAIL + DSC_TURN_LAST, 0);
}

/* What is left to do when the last gradient is sent is done beside the drain. */
static int64_t beside_drain(const pipe *e, int64_t stage)
{
    if (stage == 0) return 0;
    if (is_split(e)) return DSC_MIN(stage + 1, e->m) * at(e, DSC_Q_WEIGHTS, stage);
    return at(e, DSC_Q_BACKWARD + DSC_TURN_LAST, stage) - at(e, DSC_Q_SENT + DSC_TURN_LAST, stage);
}

/* From the end of a forward pass on a stage until its gradient comes. */
static int64_t turnaround(const pipe *e, int64_t stage, int turn)
{
    return sum(e, DSC_Q_FORWARD, stage + 1, e->p) + answers(e, turn, stage + 1, e->p) +
           2 * hops(e, e->p - 1 - stage);
}

/* All backward passes of a stage of which the first has waited for its gradient: from there on. */
static int64_t backwards_after(const pipe *e, int64_t stage, int first)
{
    return backwards(e, stage) - at(e, DSC_Q_BACKWARD + first, stage) + at(e, DSC_Q_TAIL + first, stage);
}

/* A micro-batch's slot is free when an older one's backward pass is over: only then its message comes, or its
 * tokens. */
static int64_t wait_for_slot(const pipe *e, int64_t stage)
{
    const int64_t gap = at(e, DSC_Q_GAP, stage);

    return stage > 0 ? DSC_MAX(e->c, gap) : gap;
}

/* Passes one after another on one stage, once the first gradient has come. */
static int64_t path_at(const pipe *e, int64_t stage)
{
    const int first = e->m == 1 ? DSC_TURN_LAST : DSC_TURN_FIRST;
    const int64_t ahead = DSC_MIN(e->p - 1 - stage, e->m - 1), forward = at(e, DSC_Q_FORWARD, stage);
    const int64_t waiting = forward + turnaround(e, stage, first) + backwards_after(e, stage, first);

    return fill(e, stage) + DSC_MAX(waiting, (ahead + 1) * forward + backwards(e, stage)) +
           (e->m - 1 - ahead) * (forward + wait_for_slot(e, stage)) +
           DSC_MAX(drain(e, stage) - beside_drain(e, stage), 0);
}

/* To and fro between a stage and the last, whenever as many micro-batches are under way as the schedule lets be; what
 * is left then on the last stage. */
static int64_t path_between(const pipe *e, int64_t stage)
{
    const int64_t last = e->p - 1, round = e->p - stage, rounds = (e->m - 1) / round, left = (e->m - 1) % round;
    const int64_t forward = at(e, DSC_Q_FORWARD, stage), middle = DSC_Q_BACKWARD + DSC_TURN_MIDDLE;
    const int64_t loop = forward + turnaround(e, stage, DSC_TURN_MIDDLE) +
                         at(e, DSC_Q_TAIL + DSC_TURN_MIDDLE, stage) + wait_for_slot(e, stage);
    const int64_t there = at(e, DSC_Q_FORWARD, last) + at(e, (int)middle, last);

    return fill(e, last) + rounds * loop + (left + 1) * there + left * wait_for_slot(e, last) - beside_drain(e, last) +
           drain(e, last);
}

static int64_t longest_1f1b(const pipe *e)
{
    const int64_t stages[] = {0, 1, 2, e->p / 2, e->p - 2, e->p - 1};
    int64_t longest = 0;

    for (int64_t i = 0; i < DSC_COUNT(stages); i++) {
        if (stages[i] < 0 || stages[i] >= e->p) continue;
        longest = DSC_MAX(longest, path_at(e, stages[i]));
        longest = DSC_MAX(longest, path_between(e, stages[i]));
    }
    return longest;
}

/* All forward passes, then all backward passes; the slowest stage sets the pace of either. */
static int64_t longest_gpipe(const pipe *e)
{
    const int64_t stages[] = {0, 1, e->p - 2, e->p - 1}, last = e->p - 1;
    int64_t up = 0, down = 0;

    for (int64_t i = 0; i < DSC_COUNT(stages); i++) {
        const int first = e->m == 1 ? DSC_TURN_LAST : DSC_TURN_FIRST;
        const int64_t s = stages[i];

        if (s < 0 || s >= e->p) continue;
        up = DSC_MAX(up, fill(e, last) + at(e, DSC_Q_FORWARD, last) +
                         (e->m - 1) * DSC_MAX(at(e, DSC_Q_FORWARD, s), e->c));
        down = DSC_MAX(down, answers(e, first, s + 1, e->p) + hops(e, last - s) + backwards_after(e, s, first) -
                             beside_drain(e, s) + drain(e, s));
    }
    return up + down;
}

/* The fill and the drain go by chunks. */
static int64_t longest_interleaved(const pipe *e)
{
    const int64_t stages[] = {0, 1, e->p - 2, e->p - 1};
    const int64_t ahead = DSC_MIN(2 * (e->p - 1) + (e->v - 1) * e->p, e->m * e->v);
    const int64_t chunk = value(e, DSC_STAGE_MIDDLE, DSC_Q_FORWARD, e->each) +
                          value(e, DSC_STAGE_MIDDLE, DSC_Q_ANSWER + DSC_TURN_LAST, e->each);
    int64_t longest = 0;

    for (int64_t i = 0; i < DSC_COUNT(stages); i++)
        if (stages[i] >= 0 && stages[i] < e->p)
            longest = DSC_MAX(longest, busy(e, stages[i]) + (e->p - 1) * (chunk + 2 * e->c) +
                                           (e->m * e->v - ahead) * wait_for_slot(e, stages[i]));
    return longest;
}

static int64_t longest_path(const pipe *e)
{
    if (e->p == 1) return busy(e, 0) + (e->m - 1) * at(e, DSC_Q_GAP, 0);
    switch (e->shape->schedule) {
    case DSC_GPIPE: return longest_gpipe(e);
    case DSC_INTERLEAVED: return longest_interleaved(e);
    default: return longest_1f1b(e);
    }
}

/* The largest over the kinds of stages. */
static int64_t most(const pipe *e, int quantity)
{
    int64_t value = at(e, quantity, 0);

    if (e->p > 2) value = DSC_MAX(value, at(e, quantity, 1));
    return e->p > 1 ? DSC_MAX(value, at(e, quantity, e->p - 1)) : value;
}

dsc_score dsc_score_time(const dsc_costs *costs, const dsc_shape_of_step *shape)
{
    const pipe e = make_pipe(costs, shape);

    return dsc_score_of(costs, shape, longest_path(&e));
}

int64_t dsc_score_chunk(const dsc_costs *costs, const dsc_shape_of_step *shape, int quantity, int64_t stage,
                        int64_t chunk)
{
    const pipe e = make_pipe(costs, shape);
    const int64_t own = kind_of(&e, stage) == DSC_STAGE_LAST ? e.v - 1 : 0;

    return value(&e, chunk == own ? kind_of(&e, stage) : DSC_STAGE_MIDDLE, quantity,
                 e.each + (chunk * e.p + stage < e.longer));
}

dsc_score dsc_score_of(const dsc_costs *costs, const dsc_shape_of_step *shape, int64_t passes_ns)
{
    const pipe e = make_pipe(costs, shape);
    const int64_t longest = at(&e, DSC_Q_BEGIN, 0) + passes_ns;
    int64_t passes = busy(&e, 0), rest = at(&e, DSC_Q_REST, 0);
    dsc_score score;

    if (e.p > 1) passes = DSC_MAX(passes, busy(&e, e.p - 1));
    if (e.p > 2) {
        passes = DSC_MAX(passes, busy(&e, 1));
        rest = DSC_MAX(rest, at(&e, DSC_Q_REST, 1) - e.c - at(&e, DSC_Q_BACKWARD + DSC_TURN_LAST, 0) +
                                 beside_drain(&e, 1));
    }
    score = (dsc_score){.passes_ns = passes, .bubble_ns = longest - passes,
                        .rest_ns = rest + shape->agree_ns + shape->pause_ns, .update_ns = most(&e, DSC_Q_UPDATE)};
    score.step_ns = longest + score.rest_ns + score.update_ns;
    return score;
}

int64_t dsc_score_bound(const dsc_costs *costs, const dsc_shape_of_step *shape)
{
    const pipe e = make_pipe(costs, shape);

    return longest_path(&e);
}

/* ---- Memory */

/* Micro-batches times chunks that a stage holds at once. */
static int64_t in_flight(const pipe *e, int64_t stage)
{
    const int64_t all = e->m * e->v, behind = e->p - 1 - stage;

    switch (e->p == 1 ? DSC_1F1B : e->shape->schedule) {
    case DSC_GPIPE: return all;
    case DSC_INTERLEAVED: return DSC_MIN(2 * behind + (e->v - 1) * e->p + 1, all);
    case DSC_ZB_H1: return DSC_MIN(behind + 1 + stage, all);
    default: return DSC_MIN(behind + 1, all);
    }
}

/* The chunk with most layers of a stage, by its kind; its slot serves all chunks. */
static int64_t of_chunk(const pipe *e, int quantity, int64_t stage)
{
    const int64_t layers = e->each + (stage < e->longer);
    const int64_t middle = dsc_linear_at(e->costs->of[DSC_STAGE_MIDDLE][quantity], layers);
    const int64_t last = e->each + ((e->v - 1) * e->p + stage < e->longer);
    const bool is_end = kind_of(e, stage) == DSC_STAGE_LAST;
    const int64_t own = dsc_linear_at(e->costs->of[kind_of(e, stage)][quantity], is_end ? last : layers);

    return e->v > 1 ? DSC_MAX(middle, own) : own;
}

static int64_t bytes_of(const pipe *e, int64_t stage, int space)
{
    const int64_t deferred = e->shape->schedule == DSC_ZB_H1 && e->p > 1 ? DSC_MIN(stage + 1, e->m) : 0;
    int64_t bytes = at(e, DSC_Q_STATIC + space, stage) + of_chunk(e, DSC_Q_TRANSIENT + space, stage);

    if (space != DSC_SPACE_DEVICE) return bytes;
    return bytes + in_flight(e, stage) * of_chunk(e, DSC_Q_SLOT, stage) +
           deferred * of_chunk(e, DSC_Q_DEFERRED, stage) + 2 * of_chunk(e, DSC_Q_BOX, stage);
}

int64_t dsc_score_bytes(const dsc_costs *costs, const dsc_shape_of_step *shape, int space)
{
    const pipe e = make_pipe(costs, shape);
    int64_t worst = bytes_of(&e, 0, space);

    if (e.p > 2) worst = DSC_MAX(worst, DSC_MAX(bytes_of(&e, 1, space), bytes_of(&e, e.p - 2, space)));
    if (e.p > 1) worst = DSC_MAX(worst, bytes_of(&e, e.p - 1, space));
    return worst;
}
