#include "sim/search/family.h"
#include "sim/price.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A pipeline is one of three stages, all deep, and the middle of another whose stages are shallow; a single stage is
 * built deep and shallow. As many micro-batches as it takes for a forward and a backward pass between others. */
enum { STAGES = 3, MOST_DEEPER = 6, SEVERAL = 4, FORWARD_SEEN = 3, BACKWARD_SEEN = 1, MOST_PROGRAMS = 4 };

struct dsc_family {
    dsc_plan *plans[2];                    /* deep, shallow */
    dsc_program *programs[MOST_PROGRAMS]; int program_count; /* deep ones, then a shallow one */
    dsc_depths depths;
    bool is_pipeline;
};

/* ---- Building */

dsc_status dsc_family_cluster(const dsc_cluster *cluster, dsc_cluster *out)
{
    *out = *cluster;
    out->nodes = malloc((size_t)cluster->node_group_count * sizeof *out->nodes);
    if (out->nodes == NULL) return DSC_FAIL(DSC_ENOMEM, "search: a cluster");
    for (int64_t i = 0; i < cluster->node_group_count; i++) {
        out->nodes[i] = cluster->nodes[i];
        out->nodes[i].count *= STAGES;
    }
    return DSC_OK;
}

static dsc_status make_plan(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *wanted,
                            int64_t layers, int64_t stages, int64_t micro_batches, dsc_plan **out)
{
    dsc_config config = *wanted;
    dsc_strategy *s = &config.strategy;
    dsc_model small = *model;

    small.layers = layers;
    s->pp = stages;
    s->virtual_stages = 1;
    s->schedule = stages > 1 && s->schedule == DSC_ZB_H1 ? DSC_ZB_H1 : DSC_1F1B;
    s->partition = DSC_PARTITION_UNIFORM;
    s->global_batch = s->dp * s->micro_batch * micro_batches;
    config.gradient_accumulation_steps = 0;
    if (s->rank_order[0] == '\0') strcpy(s->rank_order, "tp,cp,dp,pp"); /* what is asked here does not depend on it */
    return dsc_plan_create(&small, cluster, &config, out);
}

static dsc_status make_programs(dsc_family *family, const dsc_plan *plan, int64_t first, int64_t end)
{
    dsc_status status = DSC_OK;

    for (int64_t stage = first; stage < end; stage++) {
        DSC_TRY(dsc_program_create(plan, stage, &family->programs[family->program_count]));
        family->program_count++;
    }
out:
    return status;
}

/* Buckets that hold several layers come again after so many. */
static int64_t period_of(const dsc_model *model, const dsc_config *config)
{
    dsc_model one = *model, none = *model;
    int64_t elems;

    one.layers = 2;
    none.layers = 1;
    elems = (dsc_model_parameters(&one) - dsc_model_parameters(&none)) / config->strategy.tp;
    return DSC_MAX(DSC_MIN(dsc_ceil_div(config->strategy.bucket_elems, DSC_MAX(elems, 1)), MOST_DEEPER), 1);
}

dsc_depths dsc_family_depths(const dsc_model *model, const dsc_config *config, int64_t longest)
{
    const int64_t shallow = longest > 2 ? 2 : 1, most = longest == 0 ? 1 : MOST_DEEPER;
    const int64_t deep = shallow + DSC_MIN(period_of(model, config), most);

    return (dsc_depths){shallow, longest == 0 ? deep : DSC_MIN(deep, DSC_MAX(longest, shallow + 1))};
}

dsc_status dsc_family_create(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                             bool is_several, dsc_depths depths, dsc_family **out)
{
    const int64_t micro_batches = is_several ? SEVERAL : 1;
    dsc_family *family = calloc(1, sizeof *family);
    dsc_cluster larger = {0};
    dsc_status status = DSC_OK;

    if (family == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu bytes", sizeof *family);
    family->is_pipeline = config->strategy.pp > 1;
    family->depths = depths;
    DSC_TRY(dsc_family_cluster(cluster, &larger));
    for (int i = 0; i < 2; i++) {
        const int64_t stages = family->is_pipeline ? STAGES : 1, layers = i == 0 ? depths.deep : depths.shallow;
        const int64_t first = i == 0 ? 0 : stages / 2;

        DSC_TRY(make_plan(model, &larger, config, stages * layers, stages, micro_batches, &family->plans[i]));
        DSC_TRY(make_programs(family, family->plans[i], first, i == 0 ? stages : first + 1));
    }
    *out = family;
    family = NULL;
out:
    free(larger.nodes);
    dsc_family_destroy(family);
    return status;
}

void dsc_family_destroy(dsc_family *family)
{
    if (family == NULL) return;
    for (int i = 0; i < family->program_count; i++) dsc_program_destroy(family->programs[i]);
    for (int i = 0; i < DSC_COUNT(family->plans); i++) dsc_plan_destroy(family->plans[i]);
    free(family);
}

/* ---- Walking: ops begin when their lane is free and what they wait for is over, as in the event engine; partners
 * are there already */

/* ns -1: not asked for yet */
typedef struct op_price { int64_t ns, launches_ns; } op_price;

typedef struct walker {
    const dsc_program *program;
    int segment;
    dsc_prices *prices;
    dsc_transfers *transfers;
    const dsc_plan *plan;                /* of the grid */
    double copy_pace[2];                 /* in, out */
    op_price *known; int64_t *first_op;  /* [op of all templates]; [template] its first */
    int64_t *ends;                       /* [op of the segment] */
    int64_t *compute_ends, *sent;        /* [use] compute lane; when its message leaves, or 0 */
    int64_t *weights, *launches, *lead;  /* [use] gradients of weights; host; until what was received is needed */
    int64_t *gap;                        /* [use] before its first kernel */
    int64_t free_ns[DSC_LANE_COUNT], issued_ns;
    bool is_late;                        /* what passes receive: for it the host waits, too */
} walker;

/* Of what a split pass puts off: not the head's, which goes with the inputs' pass. */
static bool is_weights(int kind) { return kind == DSC_OP_MLP_BWD_W || kind == DSC_OP_ATTENTION_BWD_W; }

/* Beside those of the ranks that copy at the same time. */
static int64_t price_copy(walker *w, const dsc_template *t, const dsc_op *op)
{
    const bool is_out = op->lane == DSC_LANE_COPY_OUT;
    const int64_t ns = dsc_price_op(w->prices, t, op), latency_ns = dsc_price_copy_latency(w->prices, is_out);

    return latency_ns + (int64_t)(w->copy_pace[is_out] * (double)(ns - latency_ns));
}

static dsc_status price_op(walker *w, const dsc_template *t, const dsc_op *op, int64_t *out)
{
    *out = 0;
    if (dsc_op_is_copy(op->kind)) *out = price_copy(w, t, op);
    else if (!dsc_op_is_communication(op->kind)) *out = dsc_price_op(w->prices, t, op);
    else if (dsc_plan_degree(w->program->plan, (dsc_axis)op->axis) == 1) *out = dsc_price_op_overhead(w->prices);
    else if (op->axis != DSC_AXIS_PP && op->axis != DSC_AXIS_WORLD)
        return dsc_transfer_ns(w->transfers, w->plan, op->kind, op->axis, op->bytes, out);
    return DSC_OK;
}

/* Uses of a template come again and again, and each program is walked twice. */
static dsc_status find_price(walker *w, int32_t template_, int64_t i, op_price *out)
{
    const dsc_template *t = &w->program->templates[template_];
    op_price *known = &w->known[w->first_op[template_] + i];
    dsc_status status = DSC_OK;

    if (known->ns < 0) {
        DSC_TRY(price_op(w, t, &t->ops[i], &known->ns));
        if (t->ops[i].lane == DSC_LANE_COMPUTE)
            known->launches_ns = dsc_price_op_launches(w->prices, t, &t->ops[i]);
    }
    *out = *known;
out:
    return status;
}

static dsc_status walker_init(walker *w)
{
    const int64_t count = w->program->template_count;
    int64_t ops = 0;

    w->first_op = malloc((size_t)(count + 1) * sizeof *w->first_op);
    if (w->first_op == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %" PRId64 " templates", count);
    for (int64_t t = 0; t < count; t++) {
        w->first_op[t] = ops;
        ops += w->program->templates[t].op_count;
    }
    w->known = malloc((size_t)(ops + 1) * sizeof *w->known);
    if (w->known == NULL) return DSC_FAIL(DSC_ENOMEM, "search: prices of %" PRId64 " ops", ops);
    for (int64_t i = 0; i < ops; i++) w->known[i] = (op_price){-1, 0};
    return DSC_OK;
}

static int64_t ready_at(const walker *w, const dsc_segment *segment, const dsc_use *use, const dsc_op *op,
                        const dsc_template *t, const dsc_wait **wait)
{
    const int64_t base = segment->uses[0].base;
    const dsc_wait *end = segment->waits + use->first_wait + use->waits;
    int64_t ready = w->free_ns[op->lane];

    for (int32_t d = 0; d < op->deps; d++)
        ready = DSC_MAX(ready, w->ends[use->base - base + t->deps[op->first_dep + d].on]);
    for (; *wait < end && (*wait)->op == op - t->ops; ++*wait)
        ready = DSC_MAX(ready, w->ends[segment->uses[(*wait)->use].base - base + (*wait)->on]);
    return ready;
}

/* Whether an op waits for that one of its use. */
static bool waits_for(const dsc_template *t, const dsc_op *op, int64_t on)
{
    for (int32_t d = 0; on >= 0 && d < op->deps; d++)
        if (t->deps[op->first_dep + d].on == on) return true;
    return false;
}

/* What a pass receives, and what it then gathers of that over tensor ranks before it computes: ops of the use. */
typedef struct arrival { int64_t message, gather, gather_ns; } arrival;

static void note_arrival(walker *w, const dsc_template *t, int64_t u, int64_t i, int64_t start, int64_t ns, arrival *a)
{
    const dsc_op *op = &t->ops[i];
    const bool is_first = waits_for(t, op, a->message), is_second = waits_for(t, op, a->gather);

    if (op->kind == DSC_OP_RECV) a->message = i;
    if (op->lane == DSC_LANE_TP && is_first && a->gather < 0) {
        a->gather = i;
        a->gather_ns = ns;
    }
    if (op->lane == DSC_LANE_COMPUTE && (is_first || is_second) && w->lead[u] < 0)
        w->lead[u] = DSC_MAX(start - (u > 0 ? w->compute_ends[u - 1] : 0) - a->gather_ns, 0);
}

static dsc_status walk_use(walker *w, const dsc_segment *segment, int64_t u)
{
    const dsc_use *use = &segment->uses[u];
    const dsc_template *t = &w->program->templates[use->template_];
    const dsc_wait *wait = segment->waits + use->first_wait;
    dsc_status status = DSC_OK;
    arrival arrival = {-1, -1, 0};
    bool is_issuing = false;

    for (int64_t i = 0; i < t->op_count; i++) {
        const dsc_op *op = &t->ops[i];
        int64_t start = ready_at(w, segment, use, op, t, &wait), ns;
        const bool had_lead = w->lead[u] >= 0;
        op_price price;

        DSC_TRY(find_price(w, use->template_, i, &price));
        ns = price.ns;
        note_arrival(w, t, u, i, start, ns, &arrival);
        if (op->lane == DSC_LANE_COMPUTE) {
            if (!is_issuing) w->gap[u] = start - (u > 0 ? w->compute_ends[u - 1] : 0);
            if (!is_issuing) w->issued_ns = start;
            is_issuing = true;
            if (w->is_late && w->lead[u] >= 0 && !had_lead)
                w->issued_ns = start - arrival.gather_ns - w->launches[u];
            w->launches[u] += price.launches_ns;
            if (!w->is_late || w->lead[u] >= 0) ns = DSC_MAX(ns, w->issued_ns + w->launches[u] - start);
        }
        if (op->kind == DSC_OP_SEND) w->sent[u] = start;
        if (is_weights(op->kind)) w->weights[u] += ns;
        w->free_ns[op->lane] = w->ends[use->base - segment->uses[0].base + i] = start + ns;
    }
    w->compute_ends[u] = w->free_ns[DSC_LANE_COMPUTE];
out:
    return status;
}

static void walker_fini(walker *w)
{
    free(w->ends);
    free(w->first_op);
    free(w->known);
}

static dsc_status walk(walker *w, int segment)
{
    const dsc_segment *s = &w->program->segments[w->segment = segment];
    const dsc_use *last = &s->uses[s->use_count - 1];
    const size_t ops = s->use_count == 0 ? 0 : (size_t)(last->base - s->uses[0].base +
                                                        w->program->templates[last->template_].op_count);
    dsc_status status = DSC_OK;

    memset(w->free_ns, 0, sizeof w->free_ns);
    free(w->ends);
    w->ends = calloc(ops + 6 * (size_t)s->use_count + 1, sizeof *w->ends);
    if (w->ends == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu ops", ops);
    w->compute_ends = w->ends + ops;
    w->sent = w->compute_ends + s->use_count;
    w->weights = w->sent + s->use_count;
    w->launches = w->weights + s->use_count;
    w->lead = w->launches + s->use_count;
    w->gap = w->lead + s->use_count;
    memset(w->lead, -1, (size_t)s->use_count * sizeof *w->lead);
    for (int64_t u = 0; u < s->use_count; u++) DSC_TRY(walk_use(w, s, u));
out:
    return status;
}

/* ---- What the walk tells */

static int64_t latest(const walker *w)
{
    int64_t end = 0;

    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) end = DSC_MAX(end, w->free_ns[lane]);
    return end;
}

/* The number-th pass of a micro-batch that is forward, or not; the last where there are fewer. */
static int64_t find_pass(const walker *w, bool is_forward, int64_t number)
{
    const dsc_program *program = w->program;
    const dsc_segment *s = &program->segments[w->segment];
    int64_t found = 0, count = 0;

    for (int64_t u = 0; u < s->use_count && count <= number; u++) {
        if (s->uses[u].micro_batch < 0 || program->templates[s->uses[u].template_].is_forward != is_forward) continue;
        found = u;
        count++;
    }
    return found;
}

/* The last use of a template that leaves its rest to another, or of one that is such a rest; -1 where there is none. */
static int64_t find_half(const walker *w, bool is_rest)
{
    const dsc_program *program = w->program;
    const dsc_segment *s = &program->segments[w->segment];
    int32_t rest = -1;

    for (int64_t t = 0; t < program->template_count; t++) rest = DSC_MAX(rest, program->templates[t].rest);
    for (int64_t u = s->use_count - 1; rest >= 0 && u >= 0; u--)
        if (is_rest ? s->uses[u].template_ == rest : program->templates[s->uses[u].template_].rest >= 0) return u;
    return -1;
}

static int64_t time_of(const walker *w, int64_t use)
{
    return w->compute_ends[use] - (use > 0 ? w->compute_ends[use - 1] : 0);
}

static void note_passes(const walker *w, int64_t out[DSC_Q_COUNT])
{
    const int64_t backward[DSC_TURNS] = {0, BACKWARD_SEEN, INT64_MAX};
    const int64_t last = find_pass(w, false, INT64_MAX);
    const int64_t forward = find_pass(w, true, FORWARD_SEEN);

    out[DSC_Q_GAP] = w->gap[forward];
    out[DSC_Q_FORWARD] = time_of(w, forward) - w->gap[forward];
    out[DSC_Q_LAUNCHES] = w->launches[forward];
    out[DSC_Q_BEGIN] = w->compute_ends[find_pass(w, true, 0)] - out[DSC_Q_FORWARD];
    for (int turn = 0; turn < DSC_TURNS; turn++) {
        const int64_t use = find_pass(w, false, backward[turn]), sent = w->sent[use];

        out[DSC_Q_BACKWARD + turn] = time_of(w, use);
        out[DSC_Q_SENT + turn] = sent > 0 ? sent - w->compute_ends[use - 1] : time_of(w, use);
        out[DSC_Q_LAUNCHES_BACK + turn] = w->launches[use];
        if (turn != DSC_TURN_MIDDLE) continue;
        out[DSC_Q_WEIGHTS] = w->weights[use];
        out[DSC_Q_INPUTS] = time_of(w, use) - w->weights[use];
    }
    out[DSC_Q_REST] = latest(w) - w->compute_ends[last];
    for (int i = 0; i < 2; i++) {
        const int64_t half = find_half(w, i == 1);

        if (half >= 0) out[DSC_Q_INPUTS + i] = time_of(w, half);
    }
}

/* Of a pass that begins with what it computes again, and whose gradient comes late: what was to be computed before is,
 * and the host launches the rest from then on. */
static void note_answers(const walker *w, int64_t out[DSC_Q_COUNT])
{
    const int64_t backward[DSC_TURNS] = {0, BACKWARD_SEEN, INT64_MAX}, half = find_half(w, false);

    for (int turn = 0; turn < DSC_TURNS; turn++) {
        const int64_t use = find_pass(w, false, backward[turn]), lead = w->lead[use], sent = w->sent[use];
        const int64_t until = sent > 0 ? sent - w->compute_ends[use - 1] : time_of(w, use);

        out[DSC_Q_ANSWER + turn] = lead > 0 ? DSC_MAX(until - lead, 0) : out[DSC_Q_SENT + turn];
        out[DSC_Q_TAIL + turn] = lead > 0 ? DSC_MAX(time_of(w, use) - lead, 0) : out[DSC_Q_BACKWARD + turn];
    }
    out[DSC_Q_INPUTS_TAIL] = out[DSC_Q_INPUTS];
    if (half >= 0 && w->lead[half] > 0) out[DSC_Q_INPUTS_TAIL] = DSC_MAX(time_of(w, half) - w->lead[half], 0);
}

static void note_memory(const dsc_program *program, int64_t out[DSC_Q_COUNT])
{
    const dsc_region *device = program->regions[DSC_SPACE_DEVICE];

    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        out[DSC_Q_STATIC + space] = program->regions[space][DSC_LIFE_STATIC].bytes;
        out[DSC_Q_TRANSIENT + space] = program->regions[space][DSC_LIFE_TRANSIENT].bytes;
    }
    out[DSC_Q_SLOT] = device[DSC_LIFE_SLOT].bytes;
    out[DSC_Q_DEFERRED] = device[DSC_LIFE_DEFERRED].bytes;
    out[DSC_Q_BOX] = device[DSC_LIFE_BOX].bytes;
}

static void note_message(const dsc_program *program, int64_t out[DSC_Q_COUNT])
{
    for (int64_t t = 0; t < program->template_count; t++)
        for (int64_t i = 0; i < program->templates[t].op_count; i++)
            if (program->templates[t].ops[i].kind == DSC_OP_SEND)
                out[DSC_Q_MESSAGE] = program->templates[t].ops[i].bytes;
}

/* The path that a run takes most often: where momenta are compressed, that of most steps; where replicas step by
 * themselves, of a step between two meetings. */
static dsc_outcome usual_outcome(const dsc_plan *plan)
{
    const bool steps_alone = plan->has_own_steps && plan->config.local_step_clipper > 1;

    if (!plan->compresses) return (dsc_outcome){.way = DSC_WAY_EXACT};
    if (!plan->has_own_steps) return (dsc_outcome){.way = DSC_WAY_EXCHANGE};
    return (dsc_outcome){.way = DSC_WAY_OWN, .sync = !steps_alone};
}

static dsc_status measure(const dsc_program *program, dsc_prices *prices, dsc_transfers *transfers,
                          const dsc_plan *plan, int64_t out[DSC_Q_COUNT])
{
    const dsc_outcome outcome = usual_outcome(program->plan);
    walker w = {.program = program, .prices = prices, .transfers = transfers, .plan = plan, .copy_pace = {1, 1}};
    dsc_segment_id segment;
    dsc_status status = DSC_OK;

    memset(out, 0, DSC_Q_COUNT * sizeof *out);
    DSC_TRY(walker_init(&w));
    for (int way = 0; way < 2 && program->plan->config.strategy.offload != DSC_OFFLOAD_NONE; way++)
        DSC_TRY(dsc_transfer_copy_pace(transfers, plan, way == 1, &w.copy_pace[way]));
    DSC_TRY(walk(&w, dsc_segment_next(DSC_SEGMENT_END, &outcome)));
    note_passes(&w, out);
    w.is_late = true;
    DSC_TRY(walk(&w, w.segment));
    note_answers(&w, out);
    w.is_late = false;
    while ((segment = dsc_segment_next(w.segment, &outcome)) != DSC_SEGMENT_END) {
        DSC_TRY(walk(&w, segment));
        out[DSC_Q_UPDATE] += latest(&w);
    }
    note_memory(program, out);
    note_message(program, out);
out:
    walker_fini(&w);
    return status;
}

/* Through the value of a stage of so many layers. What lives within a pass alone is as large in deeper stages. */
static dsc_linear line_through(int quantity, int64_t value, int64_t slope, int64_t layers)
{
    if (quantity >= DSC_Q_TRANSIENT && quantity < DSC_Q_TRANSIENT + DSC_SPACE_COUNT) slope = 0;
    return (dsc_linear){value - slope * layers, slope};
}

dsc_status dsc_family_costs(const dsc_family *family, dsc_prices *prices, dsc_transfers *transfers,
                            const dsc_plan *plan, dsc_costs *out)
{
    const int shallow = family->program_count - 1, deep = family->is_pipeline ? DSC_STAGE_MIDDLE : 0;
    int64_t values[MOST_PROGRAMS][DSC_Q_COUNT];
    dsc_status status = DSC_OK;

    memset(out, 0, sizeof *out);
    for (int i = 0; i < family->program_count; i++)
        DSC_TRY(measure(family->programs[i], prices, transfers, plan, values[i]));
    for (int q = 0; q < DSC_Q_COUNT; q++) {
        const int64_t slope = (values[deep][q] - values[shallow][q]) / (family->depths.deep - family->depths.shallow);

        for (int i = 0; i < shallow; i++)
            out->of[family->is_pipeline ? i : DSC_STAGE_ONLY][q] = line_through(q, values[i][q], slope,
                                                                                             family->depths.deep);
    }
out:
    return status;
}

/* The gradient that a backward pass waits for meets the last layer first, which is not computed again. */
void dsc_costs_mix(const dsc_costs *whole, const dsc_costs *none, int64_t layers, dsc_costs *out)
{
    for (int kind = 0; kind < DSC_STAGE_KINDS; kind++)
        for (int q = 0; q < DSC_Q_COUNT; q++) {
            const dsc_linear first = whole->of[kind][q], last = none->of[kind][q];

            out->of[kind][q] = (dsc_linear){first.base + (first.slope - last.slope) * layers, last.slope};
            if (q >= DSC_Q_ANSWER && q < DSC_Q_INPUTS) out->of[kind][q].base += last.base - first.base;
        }
}
