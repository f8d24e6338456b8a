#include "program/build.h"
#include <stdlib.h>
#include <string.h>

typedef struct bounds_context {
    const dsc_program *program;
    dsc_atoms *atoms;
    bool *is_added;  /* [buffer] its own start and end are among the bounds */
    int64_t capacities[DSC_SPACE_COUNT][DSC_LIFE_COUNT];
    dsc_status status;
} bounds_context;

static int64_t parts_of(dsc_span span) { return DSC_MAX(span.parts, 1); }

static void add_bounds(void *context, dsc_span span, bool is_read, bool is_written)
{
    bounds_context *c = context;
    const dsc_buffer *buffer = &c->program->buffers[span.buffer];
    int space = buffer->space, life = buffer->life;
    const int64_t start = buffer->offset + span.offset;
    const int64_t bounds[] = {0, parts_of(span), 1, parts_of(span) - 1};

    (void)is_read;
    (void)is_written;
    if (parts_of(span) == 1 && span.bytes == buffer->bytes) { /* most spans are whole */
        if (c->is_added[span.buffer]) return;
        c->is_added[span.buffer] = true;
    }
    for (int64_t i = 0; i < (span.parts > 1 ? 4 : 2) && c->status == DSC_OK; i++)
        c->status = DSC_PUSH(c->atoms->bounds[space][life], c->atoms->counts[space][life], c->capacities[space][life],
                             start + bounds[i] * span.bytes);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int64_t sort_unique(int64_t *values, int64_t count)
{
    int64_t kept = 0;

    if (count == 0) return 0;
    qsort(values, (size_t)count, sizeof *values, by_value);
    for (int64_t i = 0; i < count; i++)
        if (kept == 0 || values[i] != values[kept - 1]) values[kept++] = values[i];
    return kept;
}

static dsc_status place_buffers(const dsc_program *program, dsc_atoms *atoms)
{
    atoms->whole = malloc((size_t)(program->buffer_count + 1) * sizeof *atoms->whole);
    if (atoms->whole == NULL) return DSC_ENOMEM;
    for (int64_t i = 0; i < program->buffer_count; i++) {
        const dsc_buffer *b = &program->buffers[i];
        const int64_t *bounds = atoms->bounds[b->space][b->life];
        int64_t known = atoms->counts[b->space][b->life];

        atoms->whole[i].low = dsc_atoms_at(bounds, known, b->offset);
        atoms->whole[i].high = dsc_atoms_at(bounds, known, b->offset + b->bytes);
    }
    return DSC_OK;
}

dsc_status dsc_atoms_create(const dsc_program *program, dsc_atoms *out)
{
    dsc_atoms atoms;
    bounds_context context = {.program = program, .atoms = &atoms};

    memset(&atoms, 0, sizeof atoms);
    context.is_added = calloc((size_t)program->buffer_count + 1, sizeof *context.is_added);
    if (context.is_added == NULL)
        return DSC_FAIL(DSC_ENOMEM, "program: %lld buffers", (long long)program->buffer_count);
    for (int64_t t = 0; t < program->template_count; t++)
        for (int64_t i = 0; i < program->templates[t].op_count; i++)
            dsc_op_visit(&program->templates[t], &program->templates[t].ops[i], add_bounds, &context);
    for (int space = 0; space < DSC_SPACE_COUNT; space++)
        for (int life = 0; life < DSC_LIFE_COUNT; life++) {
            int64_t copies = program->regions[space][life].copies;

            atoms.counts[space][life] = sort_unique(atoms.bounds[space][life], atoms.counts[space][life]);
            atoms.first[space][life] = atoms.count;
            atoms.count += atoms.counts[space][life] * copies;
        }
    free(context.is_added);
    if (context.status == DSC_OK) context.status = place_buffers(program, &atoms);
    if (context.status != DSC_OK) {
        dsc_atoms_fini(&atoms);
        return DSC_FAIL(DSC_ENOMEM, "program: %lld atoms", (long long)atoms.count);
    }
    *out = atoms;
    return DSC_OK;
}

void dsc_atoms_fini(dsc_atoms *atoms)
{
    for (int space = 0; space < DSC_SPACE_COUNT; space++)
        for (int life = 0; life < DSC_LIFE_COUNT; life++) free(atoms->bounds[space][life]);
    free(atoms->whole);
    memset(atoms, 0, sizeof *atoms);
}

int64_t dsc_atoms_at(const int64_t *bounds, int64_t count, int64_t value)
{
    int64_t low = 0, high = count;

    while (low < high) {
        int64_t middle = (low + high) / 2;

        if (bounds[middle] < value) low = middle + 1;
        else high = middle;
    }
    return low;
}

void dsc_atoms_of(const dsc_atoms *atoms, const dsc_program *program, dsc_span span, const dsc_use *use, int64_t *first,
                  int64_t *count)
{
    const dsc_buffer *buffer = &program->buffers[span.buffer];
    int space = buffer->space, life = buffer->life;
    const int64_t *bounds = atoms->bounds[space][life];
    int64_t known = atoms->counts[space][life], start = buffer->offset + span.offset;
    int64_t low = atoms->whole[span.buffer].low, high = atoms->whole[span.buffer].high;

    if (span.offset != 0 || parts_of(span) * span.bytes != buffer->bytes) {
        low = dsc_atoms_at(bounds, known, start);
        high = dsc_atoms_at(bounds, known, start + parts_of(span) * span.bytes);
    }
    *first = atoms->first[space][life] + (use == NULL ? 0 : use->copy[life] * known) + low;
    *count = high - low;
}
