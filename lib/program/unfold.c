#include "program/program.h"
#include <stdlib.h>
#include <string.h>

/* Position of each op of a template among those of its lane, from 0. Caller frees. */
static int32_t *places_of(const dsc_template *template_, int32_t lane_counts[DSC_LANE_COUNT])
{
    int32_t *places = malloc((size_t)(template_->op_count + 1) * sizeof *places);

    memset(lane_counts, 0, DSC_LANE_COUNT * sizeof *lane_counts);
    for (int64_t i = 0; places != NULL && i < template_->op_count; i++)
        places[i] = lane_counts[template_->ops[i].lane]++;
    return places;
}

typedef struct unfold_state {
    const dsc_program *program;
    const dsc_segment *segment;
    int32_t **places;                        /* [template] */
    int32_t (*counts)[DSC_LANE_COUNT];       /* [template] ops by lane */
    int32_t (*starts)[DSC_LANE_COUNT];       /* [use] ops by lane before it */
    int64_t need_capacity;
} unfold_state;

static dsc_status push_need(unfold_state *s, dsc_unfolded *out, int64_t use, int32_t on)
{
    int32_t template_ = s->segment->uses[use].template_;
    int32_t lane = s->program->templates[template_].ops[on].lane;
    dsc_need need = {lane, s->starts[use][lane] + s->places[template_][on] + 1};

    return DSC_PUSH(out->needs, out->need_count, s->need_capacity, need);
}

static dsc_status unfold_use(unfold_state *s, dsc_unfolded *out, int64_t u)
{
    const dsc_use *use = &s->segment->uses[u];
    const dsc_template *template_ = &s->program->templates[use->template_];
    const dsc_wait *wait = s->segment->waits + use->first_wait, *end = wait + use->waits;
    dsc_status status = DSC_OK;

    for (int32_t i = 0; i < template_->op_count; i++) {
        const dsc_op *op = &template_->ops[i];
        dsc_instance instance = {(int32_t)u, i, (int32_t)out->need_count, 0};

        for (int32_t d = 0; d < op->deps; d++) DSC_TRY(push_need(s, out, u, template_->deps[op->first_dep + d].on));
        for (; wait < end && wait->op == i; wait++) DSC_TRY(push_need(s, out, wait->use, wait->on));
        instance.needs = (int32_t)out->need_count - instance.first_need;
        out->lanes[op->lane][out->lane_counts[op->lane]++] = instance;
    }
out:
    return status;
}

/* Counts ops by lane of every template, and before every use; makes room for the instances. */
static dsc_status prepare(unfold_state *s, dsc_unfolded *out)
{
    const dsc_program *program = s->program;
    int32_t running[DSC_LANE_COUNT] = {0};

    s->places = calloc((size_t)program->template_count + 1, sizeof *s->places);
    s->counts = calloc((size_t)program->template_count + 1, sizeof *s->counts);
    s->starts = calloc((size_t)s->segment->use_count + 1, sizeof *s->starts);
    if (s->places == NULL || s->counts == NULL || s->starts == NULL) return DSC_ENOMEM;
    for (int64_t t = 0; t < program->template_count; t++)
        if ((s->places[t] = places_of(&program->templates[t], s->counts[t])) == NULL) return DSC_ENOMEM;
    for (int64_t u = 0; u < s->segment->use_count; u++) {
        memcpy(s->starts[u], running, sizeof running);
        for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
            running[lane] += s->counts[s->segment->uses[u].template_][lane];
    }
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if ((out->lanes[lane] = malloc((size_t)(running[lane] + 1) * sizeof(dsc_instance))) == NULL) return DSC_ENOMEM;
    return DSC_OK;
}

dsc_status dsc_segment_unfold(const dsc_program *program, int segment, dsc_unfolded *out)
{
    unfold_state s = {.program = program, .segment = &program->segments[segment]};
    dsc_unfolded unfolded = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(prepare(&s, &unfolded));
    for (int64_t u = 0; u < s.segment->use_count; u++) DSC_TRY(unfold_use(&s, &unfolded, u));
    *out = unfolded;
    memset(&unfolded, 0, sizeof unfolded);
out:
    if (status != DSC_OK) DSC_FAIL(status, "program: unfolding %lld uses", (long long)s.segment->use_count);
    for (int64_t t = 0; s.places != NULL && t < program->template_count; t++) free(s.places[t]);
    free(s.places);
    free(s.counts);
    free(s.starts);
    dsc_unfolded_fini(&unfolded);
    return status;
}

void dsc_unfolded_fini(dsc_unfolded *unfolded)
{
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) free(unfolded->lanes[lane]);
    free(unfolded->needs);
    memset(unfolded, 0, sizeof *unfolded);
}
