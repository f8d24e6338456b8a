/* The schedule's passes become uses of templates, each with its copies of slots, deferred gradients and boxes. */
#include "program/build.h"
#include <stdlib.h>
#include <string.h>

static void use(dsc_builder *b, int segment, int32_t template_, dsc_use use)
{
    dsc_program *program = b->program;
    dsc_segment *s = &program->segments[segment];

    if (b->status != DSC_OK || program->templates[template_].op_count == 0) return;
    use.template_ = template_;
    use.base = program->op_count;
    b->status = DSC_PUSH(s->uses, s->use_count, s->use_capacity, use);
    program->op_count += program->templates[template_].op_count;
}

/* Of what belongs to no micro-batch. */
void dsc_use_once(dsc_builder *b, int segment, int32_t template_)
{
    use(b, segment, template_, (dsc_use){.micro_batch = -1, .chunk = -1});
}

void dsc_enter_chunk(dsc_builder *b, int64_t chunk)
{
    b->chunk = (int32_t)chunk;
    b->here = &b->chunks[chunk];
}

static int32_t take(dsc_pool *p) { return p->free_count > 0 ? p->free[--p->free_count] : p->made++; }

static bool has_inputs(const dsc_pass *pass)
{
    return pass->kind == DSC_PASS_BACKWARD || pass->kind == DSC_PASS_BACKWARD_X;
}

static bool has_weights(const dsc_pass *pass)
{
    return pass->kind == DSC_PASS_BACKWARD || pass->kind == DSC_PASS_BACKWARD_W;
}

static void find_bounds(dsc_schedule_uses *s)
{
    for (int64_t i = s->count - 1; i >= 0; i--) {
        const dsc_pass *pass = &s->passes[i];

        s->bounds[pass->chunk].first = i;
        if (has_inputs(pass)) s->bounds[pass->chunk].first_x = i;
        if (has_weights(pass)) s->bounds[pass->chunk].first_w = i;
    }
    for (int64_t i = 0; i < s->count; i++)
        if (has_weights(&s->passes[i])) s->bounds[s->passes[i].chunk].last = i;
}

dsc_status dsc_uses_init(dsc_builder *b, dsc_schedule_uses *s)
{
    const dsc_strategy *strategy = &b->plan->config.strategy;
    size_t chunks = (size_t)b->stage->chunk_count, flights = chunks * (size_t)b->plan->micro_batches;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_schedule_create(strategy->schedule, strategy->pp, b->program->stage, b->plan->micro_batches,
                                b->stage->chunk_count, &s->passes, &s->count));
    s->bounds = calloc(chunks, sizeof *s->bounds);
    s->templates = calloc(chunks, sizeof *s->templates);
    s->leases = calloc(flights, sizeof *s->leases);
    for (int life = DSC_LIFE_SLOT; life <= DSC_LIFE_DEFERRED; life++)
        DSC_TRY(dsc_array_reserve(&s->pools[life].free, &s->pools[life].capacity, (int64_t)flights, sizeof(int32_t)));
    if (s->bounds == NULL || s->templates == NULL || s->leases == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "program: %zu passes", flights));
    find_bounds(s);
    for (size_t c = 0; c < chunks; c++) memset(&s->templates[c], -1, sizeof s->templates[c]);
    for (int64_t i = 0; i < s->count; i++) b->is_split |= s->passes[i].kind == DSC_PASS_BACKWARD_X;
out:
    return status;
}

void dsc_uses_fini(dsc_schedule_uses *s)
{
    free(s->passes);
    free(s->bounds);
    free(s->templates);
    free(s->leases);
    for (int life = 0; life < DSC_LIFE_COUNT; life++) free(s->pools[life].free);
}

static int32_t forward_of(dsc_builder *b, dsc_schedule_uses *s, int64_t index)
{
    const bool gathers = b->plan->config.strategy.late_gather && index == s->bounds[b->chunk].first;
    int32_t *made = &s->templates[b->chunk].forwards[gathers];

    if (*made < 0) {
        dsc_build_forward(b, gathers);
        *made = b->template_index;
    }
    return *made;
}

static int32_t backward_of(dsc_builder *b, dsc_schedule_uses *s, int64_t index)
{
    const dsc_pass *pass = &s->passes[index];
    dsc_chunk_templates *templates = &s->templates[b->chunk];
    const dsc_strategy *strategy = &b->plan->config.strategy;
    /* A replica alone on its axis, with nowhere to send gradients, does nothing more in its last backward. */
    const bool has_replicas = dsc_plan_degree(b->plan, DSC_AXIS_DP) > 1;
    bool is_last = index == s->bounds[b->chunk].last && (has_replicas || strategy->offload != DSC_OFFLOAD_NONE);
    dsc_backward what = {.inputs = has_inputs(pass), .weights = has_weights(pass),
                         .is_first_x = has_inputs(pass) && index == s->bounds[b->chunk].first_x,
                         .is_first_w = has_weights(pass) && index == s->bounds[b->chunk].first_w, .is_last = is_last};
    int key = what.inputs | what.weights << 1 | what.is_first_x << 2 | what.is_first_w << 3 | what.is_last << 4 |
              (is_last && b->is_local) << 5; /* where gradients do not leave, whose they are changes nothing */
    int32_t *made = &templates->backwards[key];

    if (*made < 0) {
        dsc_build_backward(b, what);
        *made = b->template_index;
        if (!what.inputs) templates->weights = *made;
    }
    return *made;
}

/* Slots and deferred gradients are taken by the pass that fills them and given back by the last that reads them. */
static void lease(dsc_schedule_uses *s, const dsc_pass *pass, int32_t copies[DSC_LIFE_COUNT],
                  int32_t held[DSC_LIFE_COUNT])
{
    if (pass->kind == DSC_PASS_FORWARD) held[DSC_LIFE_SLOT] = take(&s->pools[DSC_LIFE_SLOT]);
    if (pass->kind == DSC_PASS_BACKWARD_X) held[DSC_LIFE_DEFERRED] = take(&s->pools[DSC_LIFE_DEFERRED]);
    memcpy(copies, held, DSC_LIFE_COUNT * sizeof *copies);
    for (int life = DSC_LIFE_SLOT; life <= DSC_LIFE_DEFERRED; life++) {
        bool is_over = life == DSC_LIFE_SLOT ? has_weights(pass) : pass->kind == DSC_PASS_BACKWARD_W;

        if (is_over) s->pools[life].free[s->pools[life].free_count++] = held[life];
    }
    if (pass->kind != DSC_PASS_BACKWARD_W)
        copies[DSC_LIFE_BOX] = (int32_t)(s->sends[pass->kind != DSC_PASS_FORWARD]++ % 2);
}

/* What a pass of inputs touches and a pass of weights needs lives on in between. */
static void join_halves(dsc_builder *b, const dsc_chunk_templates *templates)
{
    for (int key = 0; key < DSC_COUNT(templates->backwards) && b->status == DSC_OK; key++)
        if (templates->backwards[key] >= 0 && (key & 3) == 1)
            b->program->templates[templates->backwards[key]].rest = templates->weights;
}

void dsc_use_passes(dsc_builder *b, dsc_schedule_uses *s, int segment)
{
    for (int64_t i = 0; i < s->count && b->status == DSC_OK; i++) {
        const dsc_pass *pass = &s->passes[i];
        dsc_use u = {.micro_batch = pass->micro_batch, .chunk = pass->chunk};

        dsc_enter_chunk(b, pass->chunk);
        lease(s, pass, u.copy, s->leases[pass->micro_batch * b->stage->chunk_count + pass->chunk]);
        use(b, segment, pass->kind == DSC_PASS_FORWARD ? forward_of(b, s, i) : backward_of(b, s, i), u);
    }
    for (int64_t c = 0; c < b->stage->chunk_count; c++) join_halves(b, &s->templates[c]);
}

void dsc_use_again(dsc_builder *b, int segment, int from)
{
    for (int64_t i = 0; i < b->program->segments[from].use_count && b->status == DSC_OK; i++) {
        const dsc_use u = b->program->segments[from].uses[i];

        use(b, segment, u.template_, u);
    }
}

/* Forward only, in the schedule's order; two slots are enough. */
void dsc_use_losses(dsc_builder *b, dsc_schedule_uses *s)
{
    int32_t loss = -1;
    int64_t forwards = 0, slots = DSC_MIN(2, s->pools[DSC_LIFE_SLOT].made);

    for (int64_t i = 0; i < s->count && b->status == DSC_OK; i++) {
        const dsc_pass *pass = &s->passes[i];
        dsc_use u = {.micro_batch = pass->micro_batch, .chunk = pass->chunk};

        if (pass->kind != DSC_PASS_FORWARD) continue;
        dsc_enter_chunk(b, pass->chunk);
        u.copy[DSC_LIFE_SLOT] = (int32_t)(forwards % slots);
        u.copy[DSC_LIFE_BOX] = (int32_t)(forwards++ % 2);
        use(b, DSC_SEGMENT_EVALUATE, forward_of(b, s, i), u);
        if (!b->here->chunk->has_head) continue;
        if (loss < 0) {
            dsc_build_loss(b);
            loss = b->template_index;
        }
        use(b, DSC_SEGMENT_EVALUATE, loss, u);
    }
}
