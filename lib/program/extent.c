/* The ledger over time: which buffers are alive, and where the highest of them ends. */
#include "program/program.h"
#include <stdlib.h>
#include <string.h>

/* A buffer at one place: it has an entry for each copy of its region. */
typedef struct entry { int32_t buffer, copy; int64_t end; bool is_alive, is_heaped; } entry;

/* Entries of a space, those that end highest first; some are dead, the first is not. */
typedef struct heap { int64_t *entries, count; } heap;

typedef struct event { int32_t op, buffer; } event;  /* of a template, sorted by op */

struct dsc_extent {
    const dsc_program *program;
    entry *entries; int64_t entry_count;
    int64_t *first_entry;              /* [buffer] */
    int64_t *order, *rank_of;          /* entries by end within a space; and back */
    heap alive[DSC_SPACE_COUNT];
    int64_t static_end[DSC_SPACE_COUNT], bytes[DSC_SPACE_COUNT];
    event **births, **deaths;          /* [template] */
    int64_t *birth_counts, *death_counts;
    bool is_sorted;
};

static int64_t entry_of(const dsc_extent *x, int32_t buffer, const dsc_use *use)
{
    return x->first_entry[buffer] + (use == NULL ? 0 : use->copy[x->program->buffers[buffer].life]);
}

static int by_op(const void *a, const void *b) { return ((const event *)a)->op - ((const event *)b)->op; }

static dsc_status list_events(dsc_extent *x, int64_t t)
{
    const dsc_template *template_ = &x->program->templates[t];
    size_t room = (size_t)template_->lifetime_count + 1;

    x->births[t] = malloc(room * sizeof **x->births);
    x->deaths[t] = malloc(room * sizeof **x->deaths);
    if (x->births[t] == NULL || x->deaths[t] == NULL) return DSC_ENOMEM;
    for (int64_t i = 0; i < template_->lifetime_count; i++) {
        const dsc_lifetime *l = &template_->lifetimes[i];

        if (l->born >= 0) x->births[t][x->birth_counts[t]++] = (event){l->born, l->buffer};
        if (l->dies >= 0) x->deaths[t][x->death_counts[t]++] = (event){l->dies, l->buffer};
    }
    qsort(x->births[t], (size_t)x->birth_counts[t], sizeof(event), by_op);
    qsort(x->deaths[t], (size_t)x->death_counts[t], sizeof(event), by_op);
    return DSC_OK;
}

static dsc_status list_entries(dsc_extent *x)
{
    const dsc_program *program = x->program;
    int64_t count = 0;

    x->first_entry = malloc((size_t)(program->buffer_count + 1) * sizeof *x->first_entry);
    if (x->first_entry == NULL) return DSC_ENOMEM;
    for (int64_t i = 0; i < program->buffer_count; i++) {
        const dsc_buffer *buffer = &program->buffers[i];

        x->first_entry[i] = count;
        count += buffer->life == DSC_LIFE_STATIC ? 0 : program->regions[buffer->space][buffer->life].copies;
    }
    x->entry_count = count;
    x->entries = calloc((size_t)count + 1, sizeof *x->entries);
    x->order = malloc((size_t)(count + 1) * sizeof *x->order);
    x->rank_of = malloc((size_t)(count + 1) * sizeof *x->rank_of);
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        x->alive[space].entries = malloc((size_t)(count + 1) * sizeof *x->alive[space].entries);
        if (x->alive[space].entries == NULL) return DSC_ENOMEM;
    }
    if (x->entries == NULL || x->order == NULL || x->rank_of == NULL) return DSC_ENOMEM;
    for (int64_t i = 0; i < program->buffer_count; i++) {
        int64_t next = i + 1 < program->buffer_count ? x->first_entry[i + 1] : count;

        for (int64_t e = x->first_entry[i]; e < next; e++) {
            dsc_span span = {(int32_t)i, 0, program->buffers[i].bytes, 0};
            int32_t copy = (int32_t)(e - x->first_entry[i]);
            dsc_use use = {.copy = {0}};

            use.copy[program->buffers[i].life] = copy;
            x->entries[e] = (entry){.buffer = (int32_t)i, .copy = copy,
                                    .end = dsc_program_offset(program, span, &use) + span.bytes};
        }
    }
    return DSC_OK;
}

static int64_t static_end(const dsc_program *program, int space)
{
    int64_t end = 0;

    for (int64_t i = 0; i < program->buffer_count; i++) {
        const dsc_buffer *buffer = &program->buffers[i];

        if (buffer->space == space && buffer->life == DSC_LIFE_STATIC)
            end = DSC_MAX(end, buffer->offset + buffer->bytes);
    }
    return end;
}

dsc_status dsc_extent_create(const dsc_program *program, dsc_extent **out)
{
    dsc_status status = DSC_ENOMEM;
    size_t templates = (size_t)program->template_count + 1;
    dsc_extent *x = calloc(1, sizeof *x);

    if (x == NULL) goto out;
    x->program = program;
    x->births = calloc(templates, sizeof *x->births);
    x->deaths = calloc(templates, sizeof *x->deaths);
    x->birth_counts = calloc(templates, sizeof *x->birth_counts);
    x->death_counts = calloc(templates, sizeof *x->death_counts);
    if (x->births == NULL || x->deaths == NULL || x->birth_counts == NULL || x->death_counts == NULL) goto out;
    DSC_TRY(list_entries(x));
    for (int64_t t = 0; t < program->template_count; t++) DSC_TRY(list_events(x, t));
    for (int space = 0; space < DSC_SPACE_COUNT; space++) x->static_end[space] = static_end(program, space);
    dsc_extent_segment_start(x);
    *out = x;
    x = NULL;
    status = DSC_OK;
out:
    if (status != DSC_OK) DSC_FAIL(status, "program: tracking %lld buffers", (long long)program->buffer_count);
    dsc_extent_destroy(x);
    return status;
}

void dsc_extent_destroy(dsc_extent *x)
{
    if (x == NULL) return;
    for (int64_t t = 0; x->births != NULL && x->deaths != NULL && t < x->program->template_count; t++) {
        free(x->births[t]);
        free(x->deaths[t]);
    }
    free(x->births);
    free(x->deaths);
    free(x->birth_counts);
    free(x->death_counts);
    free(x->entries);
    free(x->first_entry);
    free(x->order);
    free(x->rank_of);
    for (int space = 0; space < DSC_SPACE_COUNT; space++) free(x->alive[space].entries);
    free(x);
}

void dsc_extent_forget(dsc_extent *x)
{
    for (int64_t e = 0; e < x->entry_count; e++) x->entries[e].end = 0;
    memset(x->static_end, 0, sizeof x->static_end);
    x->is_sorted = false;
}

void dsc_extent_hand(dsc_extent *x, dsc_span span, const dsc_use *use, int64_t end)
{
    const dsc_buffer *buffer = &x->program->buffers[span.buffer];

    if (buffer->life == DSC_LIFE_STATIC) {
        x->static_end[buffer->space] = DSC_MAX(x->static_end[buffer->space], end);
    } else {
        entry *e = &x->entries[entry_of(x, span.buffer, use)];

        e->end = DSC_MAX(e->end, end);
    }
    x->is_sorted = false;
}

static int by_end(const void *a, const void *b, void *context)
{
    const dsc_extent *x = context;
    const entry *left = &x->entries[*(const int64_t *)a], *right = &x->entries[*(const int64_t *)b];
    int left_space = x->program->buffers[left->buffer].space, right_space = x->program->buffers[right->buffer].space;

    if (left_space != right_space) return left_space - right_space;
    return (left->end > right->end) - (left->end < right->end);
}

static void sort(dsc_extent *x)
{
    for (int64_t i = 0; i < x->entry_count; i++) x->order[i] = i;
    qsort_r(x->order, (size_t)x->entry_count, sizeof *x->order, by_end, x);
    for (int64_t i = 0; i < x->entry_count; i++) x->rank_of[x->order[i]] = i;
    x->is_sorted = true;
}

void dsc_extent_segment_start(dsc_extent *x)
{
    for (int64_t e = 0; e < x->entry_count; e++) x->entries[e].is_alive = x->entries[e].is_heaped = false;
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        x->alive[space].count = 0;
        x->bytes[space] = x->static_end[space];
    }
}

static void push(dsc_extent *x, heap *h, int64_t e)
{
    int64_t at = h->count++;

    for (; at > 0 && x->rank_of[h->entries[(at - 1) / 2]] < x->rank_of[e]; at = (at - 1) / 2)
        h->entries[at] = h->entries[(at - 1) / 2];
    h->entries[at] = e;
    x->entries[e].is_heaped = true;
}

static void pop(dsc_extent *x, heap *h)
{
    const int64_t last = h->entries[--h->count];
    int64_t at = 0, child;

    x->entries[h->entries[0]].is_heaped = false;
    while ((child = 2 * at + 1) < h->count) {
        if (child + 1 < h->count && x->rank_of[h->entries[child]] < x->rank_of[h->entries[child + 1]]) child++;
        if (x->rank_of[h->entries[child]] < x->rank_of[last]) break;
        h->entries[at] = h->entries[child];
        at = child;
    }
    h->entries[at] = last;
}

/* Whether the space's end moved. A buffer that dies below the highest stays in the heap until it comes up, or lives
 * again: so each costs its way through the heap once, however many slots wait. */
static bool set_alive(dsc_extent *x, int32_t buffer, const dsc_use *use, bool is_alive)
{
    const int space = x->program->buffers[buffer].space;
    const int64_t e = entry_of(x, buffer, use), before = x->bytes[space];
    heap *h = &x->alive[space];

    x->entries[e].is_alive = is_alive;
    if (is_alive && !x->entries[e].is_heaped) push(x, h, e);
    while (h->count > 0 && !x->entries[h->entries[0]].is_alive) pop(x, h);
    x->bytes[space] = x->static_end[space];
    if (h->count > 0) x->bytes[space] = DSC_MAX(x->bytes[space], x->entries[h->entries[0]].end);
    return x->bytes[space] != before;
}

/* First event of a template at or after an op. */
static int64_t find_event(const event *events, int64_t count, int32_t op)
{
    int64_t low = 0, high = count;

    while (low < high) {
        int64_t middle = (low + high) / 2;

        if (events[middle].op < op) low = middle + 1;
        else high = middle;
    }
    return low;
}

static int apply(dsc_extent *x, int segment, int64_t use, int32_t index, bool is_birth)
{
    const dsc_use *u = &x->program->segments[segment].uses[use];
    const event *events = is_birth ? x->births[u->template_] : x->deaths[u->template_];
    int64_t count = is_birth ? x->birth_counts[u->template_] : x->death_counts[u->template_];
    int changed = -1;

    if (!x->is_sorted) sort(x);
    for (int64_t i = find_event(events, count, index); i < count && events[i].op == index; i++)
        if (set_alive(x, events[i].buffer, u, is_birth)) changed = x->program->buffers[events[i].buffer].space;
    return changed;
}

int dsc_extent_op_start(dsc_extent *x, int segment, int64_t use, int32_t index)
{
    return apply(x, segment, use, index, true);
}
int dsc_extent_op_end(dsc_extent *x, int segment, int64_t use, int32_t index)
{
    return apply(x, segment, use, index, false);
}
int64_t dsc_extent_bytes(const dsc_extent *x, int space) { return x->bytes[space]; }

void dsc_extent_classes(const dsc_extent *x, int space, int64_t out[DSC_CLASS_COUNT])
{
    for (int class_ = 0; class_ < DSC_CLASS_COUNT; class_++) out[class_] = 0;
    for (int64_t i = 0; i < x->program->buffer_count; i++) {
        const dsc_buffer *buffer = &x->program->buffers[i];

        if (buffer->space == space && buffer->life == DSC_LIFE_STATIC) out[buffer->class_] += buffer->bytes;
    }
    for (int64_t e = 0; e < x->entry_count; e++) {
        const dsc_buffer *buffer = &x->program->buffers[x->entries[e].buffer];

        if (buffer->space == space && x->entries[e].is_alive) out[buffer->class_] += buffer->bytes;
    }
}
