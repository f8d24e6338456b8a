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
    uint32_t reading;                 /* lanes that have read it since it was written, a bit each */
    int32_t readers[DSC_LANE_COUNT];  /* their last positions */
} atom_state;

typedef struct position { int32_t use, index; } position;

/* What an op touches: atoms from `first` on in a region's first copy, `stride` further in each next one. */
typedef struct access { int64_t first, count, stride; int8_t life; bool is_read, is_written; } access;

/* Of a template: those of op i are from first[i] on, up to first[i + 1]. */
typedef struct accesses { access *list; int64_t count, capacity; int64_t *first; } accesses;

typedef struct depend_state {
    dsc_program *program;
    dsc_atoms atoms;
    atom_state *states;
    position *lanes[DSC_LANE_COUNT];            /* ops of each lane in order */
    int64_t counts[DSC_LANE_COUNT], capacities[DSC_LANE_COUNT];
    int32_t known[DSC_LANE_COUNT][DSC_LANE_COUNT]; /* [lane][other]: the lane has waited for other up to here */
    int32_t needed[DSC_LANE_COUNT];             /* of the op at hand; of its own lane without meaning */
    accesses *accesses;                         /* [template] */
    const dsc_use *use;                         /* of the op at hand */
    int32_t lane;
    dsc_status status;
    int64_t listed;                          /* the template at hand */
    bool *is_done;                              /* templates whose own dependencies are found */
} depend_state;

static void list_access(void *context, dsc_span span, bool is_read, bool is_written)
{
    depend_state *s = context;
    const dsc_buffer *buffer = &s->program->buffers[span.buffer];
    access a = {.stride = s->atoms.counts[buffer->space][buffer->life], .life = buffer->life, .is_read = is_read,
                .is_written = is_written};
    accesses *into = s->accesses + s->listed;

    dsc_atoms_of(&s->atoms, s->program, span, NULL, &a.first, &a.count);
    if (s->status == DSC_OK) s->status = DSC_PUSH(into->list, into->count, into->capacity, a);
}

/* An op touches the same in each use but for the copies of regions: looked up once. */
static dsc_status list_accesses(depend_state *s)
{
    for (s->listed = 0; s->listed < s->program->template_count; s->listed++) {
        const dsc_template *t = &s->program->templates[s->listed];
        accesses *into = &s->accesses[s->listed];

        into->first = malloc((size_t)(t->op_count + 1) * sizeof *into->first);
        if (into->first == NULL) return DSC_ENOMEM;
        for (int64_t i = 0; i < t->op_count; i++) {
            into->first[i] = into->count;
            dsc_op_visit(t, &t->ops[i], list_access, s);
        }
        into->first[t->op_count] = into->count;
    }
    return s->status;
}

static atom_state *atoms_of(const depend_state *s, const access *a)
{
    return s->states + a->first + s->use->copy[a->life] * a->stride;
}

static void find_hazards(depend_state *s, const access *a)
{
    const atom_state *atom = atoms_of(s, a), *end = atom + a->count;

    for (; atom < end; atom++) {
        s->needed[atom->writer_lane] = DSC_MAX(s->needed[atom->writer_lane], atom->writer);
        if (!a->is_written) continue;
        for (uint32_t left = atom->reading; left != 0; left &= left - 1) {
            const int lane = __builtin_ctz(left);

            s->needed[lane] = DSC_MAX(s->needed[lane], atom->readers[lane]);
        }
    }
}

static void note_access(depend_state *s, const access *a)
{
    const int32_t here = (int32_t)s->counts[s->lane];
    atom_state *atom = atoms_of(s, a), *end = atom + a->count;

    for (; atom < end; atom++) {
        if (a->is_written) {
            atom->reading = 0;
            atom->writer_lane = s->lane;
            atom->writer = here;
        }
        if (!a->is_read) continue;
        atom->readers[s->lane] = here;
        atom->reading |= 1u << s->lane;
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

        if (lane == s->lane || s->needed[lane] <= s->known[s->lane][lane]) continue;
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
    const accesses *all = &s->accesses[u->template_];
    const access *first = all->list + all->first[index], *end = all->list + all->first[index + 1];
    position here = {(int32_t)use, index};

    s->lane = op->lane;
    s->use = u;
    memset(s->needed, 0, sizeof s->needed);
    for (const access *a = first; a < end; a++) find_hazards(s, a);
    if (record(s, segment, use, index) != DSC_OK) return DSC_ENOMEM;
    if (DSC_PUSH(s->lanes[op->lane], s->counts[op->lane], s->capacities[op->lane], here) != DSC_OK) return DSC_ENOMEM;
    for (const access *a = first; a < end; a++) note_access(s, a);
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
    s.accesses = calloc((size_t)program->template_count + 1, sizeof *s.accesses);
    if (s.states == NULL || s.is_done == NULL || s.accesses == NULL || list_accesses(&s) != DSC_OK) {
        status = DSC_FAIL(DSC_ENOMEM, "program: %lld atoms", (long long)s.atoms.count);
        goto out;
    }
    for (int segment = 0; segment < DSC_SEGMENT_COUNT; segment++) DSC_TRY(depend_segment(&s, segment));
out:
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) free(s.lanes[lane]);
    for (int64_t t = 0; s.accesses != NULL && t < program->template_count; t++) {
        free(s.accesses[t].list);
        free(s.accesses[t].first);
    }
    free(s.accesses);
    free(s.states);
    free(s.is_done);
    dsc_atoms_fini(&s.atoms);
    return status;
}
