/* Offsets: in regions with one or more copies buffers lie one behind another, those of a chunk over those of the others
 * (a copy serves one chunk at a time); transients by liveness over their template's ops, the largest first, each at the
 * lowest offset that is free for as long as it lives (first fit; the classical interval packing). */
#include "program/build.h"
#include <stdlib.h>

/* ---- Lifetimes of the buffers that a template touches */

typedef struct life_context { int32_t *born, *dies; int32_t op; } life_context; /* by buffer; -1: not touched */

static void note_life(void *context, dsc_span span, bool is_read, bool is_written)
{
    life_context *c = context;

    (void)is_read;
    (void)is_written;
    if (c->born[span.buffer] < 0) c->born[span.buffer] = c->op;
    c->dies[span.buffer] = c->op;
}

static void note_lives(const dsc_program *program, const dsc_template *template_, life_context *context)
{
    for (int64_t i = 0; i < program->buffer_count; i++) context->born[i] = context->dies[i] = -1;
    for (int64_t i = 0; i < template_->op_count; i++) {
        context->op = (int32_t)i;
        dsc_op_visit(template_, &template_->ops[i], note_life, context);
    }
}

/* A slot lives on after the forward pass that fills it; it and what is deferred live on when the rest of the backward
 * pass needs it. */
static bool ends_here(const dsc_template *template_, const dsc_buffer *buffer, bool is_needed)
{
    if (buffer->life == DSC_LIFE_BOX || buffer->life == DSC_LIFE_TRANSIENT) return true;
    return !template_->is_forward && !is_needed;
}

static bool begins_here(const dsc_template *template_, const dsc_buffer *buffer, const dsc_template *rest)
{
    if (buffer->life == DSC_LIFE_SLOT) return template_->is_forward;
    return buffer->life != DSC_LIFE_DEFERRED || rest != NULL;
}

static dsc_status push_lifetimes(const dsc_program *program, dsc_template *template_, const life_context *lives,
                                 const life_context *later)
{
    const dsc_template *rest = template_->rest < 0 ? NULL : &program->templates[template_->rest];

    for (int64_t i = 0; i < program->buffer_count; i++) {
        const dsc_buffer *buffer = &program->buffers[i];
        dsc_lifetime lifetime = {(int32_t)i, begins_here(template_, buffer, rest) ? lives->born[i] : -1,
                                 ends_here(template_, buffer, later->born[i] >= 0) ? lives->dies[i] : -1};

        if (lives->born[i] < 0 || buffer->life == DSC_LIFE_STATIC) continue;
        if (DSC_PUSH(template_->lifetimes, template_->lifetime_count, template_->lifetime_capacity, lifetime) != DSC_OK)
            return DSC_ENOMEM;
    }
    return DSC_OK;
}

static dsc_status find_lifetimes(dsc_program *program, dsc_template *template_)
{
    const int64_t count = program->buffer_count;
    int32_t *room = malloc((size_t)(4 * count + 1) * sizeof *room);
    life_context lives = {room, room + count, 0}, later = {room + 2 * count, room + 3 * count, 0};
    static const dsc_template nothing;
    dsc_status status;

    if (room == NULL) return DSC_FAIL(DSC_ENOMEM, "program: lifetimes of %lld buffers", (long long)count);
    note_lives(program, template_, &lives);
    note_lives(program, template_->rest < 0 ? &nothing : &program->templates[template_->rest], &later);
    status = push_lifetimes(program, template_, &lives, &later);
    free(room);
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

/* Lanes that run beside compute for as long as it makes the next bucket. */
static bool is_beside(int lane)
{
    return lane == DSC_LANE_DP || lane == DSC_LANE_HOST || lane == DSC_LANE_COPY_IN || lane == DSC_LANE_COPY_OUT;
}

/* The place of what such a lane was the last to touch is kept until its next op: so whoever wants the place does not
 * wait for the op that has just been begun, but for the one before. */
static dsc_lifetime with_rest(const dsc_template *template_, dsc_lifetime lifetime)
{
    const int lane = template_->ops[lifetime.dies].lane;
    const int32_t last = (int32_t)template_->op_count - 1;

    if (!is_beside(lane) || lifetime.dies == last) return lifetime;
    do lifetime.dies++;
    while (lifetime.dies < last && template_->ops[lifetime.dies].lane != lane);
    return lifetime;
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
            wanted[count++] = with_rest(template_, template_->lifetimes[i]);
    qsort_r(wanted, (size_t)count, sizeof *wanted, by_size, program);
    for (int64_t i = 0; i < count; i++) {
        dsc_buffer *buffer = &program->buffers[wanted[i].buffer];
        dsc_region *region = &program->regions[buffer->space][DSC_LIFE_TRANSIENT];

        buffer->offset = first_fit(program, &wanted[i], placed, i);
        insert_by_offset(program, placed, i, wanted[i]);
        region->bytes = DSC_MAX(region->bytes, buffer->offset + buffer->bytes);
    }
    free(wanted);
    return DSC_OK;
}

/* ---- Regions */

/* Buffers come in the order in which they were made; those of another owner begin anew. */
static dsc_status stack_buffers(dsc_program *program, int64_t chunks)
{
    int64_t(*ends)[DSC_SPACE_COUNT][DSC_LIFE_COUNT] = calloc((size_t)chunks + 1, sizeof *ends);

    if (ends == NULL) return DSC_FAIL(DSC_ENOMEM, "program: regions of %lld chunks", (long long)chunks);
    for (int64_t i = 0; i < program->buffer_count; i++) {
        dsc_buffer *buffer = &program->buffers[i];
        dsc_region *region = &program->regions[buffer->space][buffer->life];
        int64_t *end = &ends[buffer->owner < 0 ? chunks : buffer->owner][buffer->space][buffer->life];

        if (buffer->life == DSC_LIFE_TRANSIENT) continue;
        buffer->offset = dsc_round_up(*end, DSC_ALIGN);
        *end = buffer->offset + buffer->bytes;
        region->bytes = DSC_MAX(region->bytes, *end);
    }
    free(ends);
    return DSC_OK;
}

static int64_t count_copies(const dsc_program *program, int life)
{
    int64_t copies = 1;

    for (int s = 0; s < DSC_SEGMENT_COUNT; s++)
        for (int64_t u = 0; u < program->segments[s].use_count; u++)
            copies = DSC_MAX(copies, program->segments[s].uses[u].copy[life] + 1);
    return copies;
}

/* Region behind region. The arena ends where its last buffer does: nothing is rounded up that no kernel is handed. */
static void place_regions(dsc_program *program)
{
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        int64_t end = 0;

        for (int life = 0; life < DSC_LIFE_COUNT; life++) {
            dsc_region *region = &program->regions[space][life];
            int64_t used = region->bytes;

            region->copies = used > 0 ? count_copies(program, life) : 0;
            region->bytes = dsc_round_up(used, DSC_ALIGN);
            region->base = dsc_round_up(end, DSC_ALIGN);
            if (used == 0) region->base = end; /* not behind it */
            else end = region->base + (region->copies - 1) * region->bytes + used;
        }
        program->arena_bytes[space] = end;
    }
}

dsc_status dsc_program_layout(dsc_program *program)
{
    dsc_status status = DSC_OK;

    DSC_TRY(stack_buffers(program, program->plan->config.strategy.virtual_stages));
    for (int64_t t = 0; t < program->template_count; t++) {
        DSC_TRY(find_lifetimes(program, &program->templates[t]));
        DSC_TRY(pack(program, &program->templates[t]));
    }
    place_regions(program);
out:
    return status;
}
