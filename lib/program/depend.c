/* What has to wait for what: the builders' order is one thread's; this pass finds, by address, every pair of ops in
 * different lanes of which one writes what the other reads or writes, and makes the later wait for the earlier. Lanes
 * are in order, so of each other lane only the last such op matters, and only if the lane did not wait for it or a
 * later one before.
 *
 * Dependencies within a use are the template's, found at its first use (they do not depend on what came before: what a
 * use waits for inside itself is later than anything outside). Those on earlier uses are the segment's waits. */
#include "program/build.h"
#include <stdlib.h>
#include <string.h>

typedef struct atom_state {
    int32_t writer_lane, writer;      /* position in its lane, from 1; 0: nobody in this segment */
    int32_t readers[DSC_LANE_COUNT];  /* last position of each lane since it was written */
} atom_state;

typedef struct position { int32_t use, index; } position;

typedef struct depend_state {
    dsc_program *program;
    dsc_atoms atoms;
    atom_state *states;
    position *lanes[DSC_LANE_COUNT];            /* ops of each lane in order */
    int64_t counts[DSC_LANE_COUNT], capacities[DSC_LANE_COUNT];
    int32_t known[DSC_LANE_COUNT][DSC_LANE_COUNT]; /* [lane][other]: the lane has waited for other up to here */
    int32_t needed[DSC_LANE_COUNT];             /* of the op at hand */
    const dsc_use *use;                         /* of the op at hand */
    int32_t lane;
    bool *is_done;                              /* templates whose own dependencies are found */
} depend_state;

static void need(depend_state *s, int32_t lane, int32_t count)
{
    if (lane != s->lane) s->needed[lane] = DSC_MAX(s->needed[lane], count);
}

static void find_hazards(void *context, dsc_span span, bool is_read, bool is_written)
{
    depend_state *s = context;
    int64_t first, count;

    (void)is_read;
    dsc_atoms_of(&s->atoms, s->program, span, s->use, &first, &count);
    for (atom_state *atom = s->states + first; count > 0; atom++, count--) {
        if (atom->writer > 0) need(s, atom->writer_lane, atom->writer);
        for (int lane = 0; is_written && lane < DSC_LANE_COUNT; lane++)
            if (atom->readers[lane] > 0) need(s, lane, atom->readers[lane]);
    }
}

static void note_access(void *context, dsc_span span, bool is_read, bool is_written)
{
    depend_state *s = context;
    int32_t here = (int32_t)s->counts[s->lane];
    int64_t first, count;

    dsc_atoms_of(&s->atoms, s->program, span, s->use, &first, &count);
    for (atom_state *atom = s->states + first; count > 0; atom++, count--) {
        if (is_written) {
            memset(atom->readers, 0, sizeof atom->readers);
            atom->writer_lane = s->lane;
            atom->writer = here;
        }
        if (is_read) atom->readers[s->lane] = here;
    }
}

static dsc_status record(depend_state *s, int segment, int64_t use, int32_t index)
{
    dsc_segment *seg = &s->program->segments[segment];
    dsc_template *template_ = &s->program->templates[seg->uses[use].template_];
    dsc_op *op = &template_->ops[index];
    bool is_new = !s->is_done[seg->uses[use].template_];

    if (is_new) op->first_dep = (int32_t)template_->dep_count;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
        position on;

        if (s->needed[lane] <= s->known[s->lane][lane]) continue;
        s->known[s->lane][lane] = s->needed[lane];
        on = s->lanes[lane][s->needed[lane] - 1];
        if (on.use != use) {
            dsc_wait wait = {index, on.use, on.index};

            if (DSC_PUSH(seg->waits, seg->wait_count, seg->wait_capacity, wait) != DSC_OK) return DSC_ENOMEM;
            seg->uses[use].waits++;
        } else if (is_new) {
            dsc_dep dep = {on.index};

            if (DSC_PUSH(template_->deps, template_->dep_count, template_->dep_capacity, dep) != DSC_OK)
                return DSC_ENOMEM;
            op->deps++;
        }
    }
    return DSC_OK;
}

static dsc_status depend_op(depend_state *s, int segment, int64_t use, int32_t index)
{
    const dsc_use *u = &s->program->segments[segment].uses[use];
    const dsc_template *template_ = &s->program->templates[u->template_];
    const dsc_op *op = &template_->ops[index];
    position here = {(int32_t)use, index};

    s->lane = op->lane;
    s->use = u;
    memset(s->needed, 0, sizeof s->needed);
    dsc_op_visit(template_, op, find_hazards, s);
    if (record(s, segment, use, index) != DSC_OK) return DSC_ENOMEM;
    if (DSC_PUSH(s->lanes[op->lane], s->counts[op->lane], s->capacities[op->lane], here) != DSC_OK) return DSC_ENOMEM;
    dsc_op_visit(template_, op, note_access, s);
    return DSC_OK;
}

/* All lanes meet at a segment's end, so each segment starts afresh. */
static dsc_status depend_segment(depend_state *s, int segment)
{
    dsc_segment *seg = &s->program->segments[segment];

    memset(s->states, 0, (size_t)s->atoms.count * sizeof *s->states);
    memset(s->counts, 0, sizeof s->counts);
    memset(s->known, 0, sizeof s->known);
    for (int64_t u = 0; u < seg->use_count; u++) {
        int32_t template_ = seg->uses[u].template_;

        seg->uses[u].first_wait = (int32_t)seg->wait_count;
        for (int64_t i = 0; i < s->program->templates[template_].op_count; i++)
            if (depend_op(s, segment, u, (int32_t)i) != DSC_OK) return DSC_ENOMEM;
        s->is_done[template_] = true;
    }
    return DSC_OK;
}

dsc_status dsc_program_depend(dsc_program *program)
{
    dsc_status status = DSC_OK;
    depend_state s = {.program = program};

    DSC_TRY(dsc_atoms_create(program, &s.atoms));
    s.states = calloc((size_t)s.atoms.count + 1, sizeof *s.states);
    s.is_done = calloc((size_t)program->template_count + 1, sizeof *s.is_done);
    if (s.states == NULL || s.is_done == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "program: %lld atoms", (long long)s.atoms.count);
        goto out;
    }
    for (int segment = 0; segment < DSC_SEGMENT_COUNT; segment++) DSC_TRY(depend_segment(&s, segment));
out:
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) free(s.lanes[lane]);
    free(s.states);
    free(s.is_done);
    dsc_atoms_fini(&s.atoms);
    return status;
}
