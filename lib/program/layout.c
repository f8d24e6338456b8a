/* Offsets: static and slot buffers one behind another; transients by liveness over their template's ops, the largest
 * first, each at the lowest offset that is free for as long as it lives (first fit; the classical interval packing). */
#include "program/build.h"
#include <stdlib.h>

/* ---- Lifetimes of the buffers that a template touches */

typedef struct life_context { int32_t *born, *dies; int32_t op; } life_context;

static void note_life(void *context, dsc_span span, bool is_read, bool is_written)
{
    life_context *c = context;

    (void)is_read;
    (void)is_written;
    if (c->born[span.buffer] < 0) c->born[span.buffer] = c->op;
    c->dies[span.buffer] = c->op;
}

static dsc_status push_lifetimes(const dsc_program *program, dsc_template *template_, const int32_t *born,
                                 const int32_t *dies, const bool *ends_here)
{
    for (int64_t i = 0; i < program->buffer_count; i++) {
        dsc_lifetime lifetime = {(int32_t)i, born[i], ends_here[i] ? dies[i] : -1};

        if (born[i] < 0 || program->buffers[i].life == DSC_LIFE_STATIC) continue;
        if (DSC_PUSH(template_->lifetimes, template_->lifetime_count, template_->lifetime_capacity, lifetime) != DSC_OK)
            return DSC_ENOMEM;
    }
    return DSC_OK;
}

/* A slot buffer lives on after the forward pass that fills it, and ends in the backward. */
static dsc_status find_lifetimes(dsc_program *program, dsc_template *template_)
{
    const size_t count = (size_t)program->buffer_count;
    int32_t *born = malloc(count * sizeof *born), *dies = malloc(count * sizeof *dies);
    bool *ends_here = calloc(count, sizeof *ends_here);
    life_context context = {born, dies, 0};
    dsc_status status = DSC_ENOMEM;

    if (born == NULL || dies == NULL || ends_here == NULL) goto out;
    for (size_t i = 0; i < count; i++) {
        born[i] = dies[i] = -1;
        ends_here[i] = program->buffers[i].life == DSC_LIFE_TRANSIENT || !template_->is_forward;
    }
    for (int64_t i = 0; i < template_->op_count; i++) {
        context.op = (int32_t)i;
        dsc_op_visit(template_, &template_->ops[i], note_life, &context);
    }
    status = push_lifetimes(program, template_, born, dies, ends_here);
out:
    free(born);
    free(dies);
    free(ends_here);
    return status;
}

/* ---- Packing a template's transients */

static int by_size(const void *a, const void *b, void *program)
{
    const dsc_buffer *buffers = ((const dsc_program *)program)->buffers;
    const dsc_lifetime *x = a, *y = b;
    int64_t left = buffers[x->buffer].bytes, right = buffers[y->buffer].bytes;

    if (left != right) return left > right ? -1 : 1;
    return x->buffer - y->buffer;
}

static bool meet_in_time(const dsc_lifetime *a, const dsc_lifetime *b)
{
    return a->born <= b->dies && b->born <= a->dies;
}

/* The lowest aligned offset at which `bytes` meet none of the placed buffers that live at the same time: `placed` is
 * sorted by offset. */
static int64_t first_fit(const dsc_program *program, const dsc_lifetime *wanted, const dsc_lifetime *placed,
                         int64_t count)
{
    int64_t bytes = program->buffers[wanted->buffer].bytes, offset = 0;

    for (int64_t i = 0; i < count; i++) {
        const dsc_buffer *other = &program->buffers[placed[i].buffer];

        if (!meet_in_time(wanted, &placed[i]) || other->offset + other->bytes <= offset) continue;
        if (other->offset >= offset + bytes) break;
        offset = dsc_round_up(other->offset + other->bytes, DSC_ALIGN);
    }
    return offset;
}

static void insert_by_offset(const dsc_program *program, dsc_lifetime *placed, int64_t count, dsc_lifetime lifetime)
{
    int64_t i = count;

    for (; i > 0 && program->buffers[placed[i - 1].buffer].offset > program->buffers[lifetime.buffer].offset; i--)
        placed[i] = placed[i - 1];
    placed[i] = lifetime;
}

static dsc_status pack(dsc_program *program, const dsc_template *template_)
{
    dsc_lifetime *wanted = malloc((size_t)(2 * template_->lifetime_count + 1) * sizeof *wanted), *placed;
    int64_t count = 0;

    if (wanted == NULL) return DSC_FAIL(DSC_ENOMEM, "program: lifetimes of %s", template_->name);
    placed = wanted + template_->lifetime_count;
    for (int64_t i = 0; i < template_->lifetime_count; i++)
        if (program->buffers[template_->lifetimes[i].buffer].life == DSC_LIFE_TRANSIENT)
            wanted[count++] = template_->lifetimes[i];
    qsort_r(wanted, (size_t)count, sizeof *wanted, by_size, program);
    for (int64_t i = 0; i < count; i++) {
        dsc_buffer *buffer = &program->buffers[wanted[i].buffer];
        dsc_region *region = &program->regions[buffer->space];

        buffer->offset = first_fit(program, &wanted[i], placed, i);
        insert_by_offset(program, placed, i, wanted[i]);
        region->transient_bytes = DSC_MAX(region->transient_bytes, buffer->offset + buffer->bytes);
    }
    free(wanted);
    return DSC_OK;
}

/* ---- Regions */

static void stack_buffers(dsc_program *program)
{
    for (int64_t i = 0; i < program->buffer_count; i++) {
        dsc_buffer *buffer = &program->buffers[i];
        dsc_region *region = &program->regions[buffer->space];
        int64_t *end = buffer->life == DSC_LIFE_STATIC ? &region->static_bytes : &region->slot_bytes;

        if (buffer->life == DSC_LIFE_TRANSIENT) continue;
        buffer->offset = dsc_round_up(*end, DSC_ALIGN);
        *end = buffer->offset + buffer->bytes;
    }
}

static int64_t count_slots(const dsc_program *program)
{
    int64_t slots = 0;

    for (int s = 0; s < DSC_SEGMENT_COUNT; s++)
        for (int64_t u = 0; u < program->segments[s].use_count; u++)
            slots = DSC_MAX(slots, program->segments[s].uses[u].slot + 1);
    return slots;
}

/* The arena ends where its last buffer does: nothing is rounded up that no kernel is handed. */
static void place_regions(dsc_program *program)
{
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        dsc_region *region = &program->regions[space];
        int64_t last_slot = region->slot_bytes;

        region->slots = region->slot_bytes > 0 ? count_slots(program) : 0;
        region->slot_bytes = dsc_round_up(region->slot_bytes, DSC_ALIGN);
        region->slot_base = dsc_round_up(region->static_bytes, DSC_ALIGN);
        region->transient_base = region->slot_base + region->slots * region->slot_bytes;
        region->arena_bytes = region->static_bytes;
        if (region->slots > 0)
            region->arena_bytes = region->slot_base + (region->slots - 1) * region->slot_bytes + last_slot;
        if (region->transient_bytes > 0) region->arena_bytes = region->transient_base + region->transient_bytes;
    }
}

dsc_status dsc_program_layout(dsc_program *program)
{
    dsc_status status = DSC_OK;

    stack_buffers(program);
    for (int64_t t = 0; t < program->template_count; t++) {
        DSC_TRY(find_lifetimes(program, &program->templates[t]));
        DSC_TRY(pack(program, &program->templates[t]));
    }
    place_regions(program);
out:
    return status;
}
