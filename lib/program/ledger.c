#include "program/program.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Walks the program in the builders' order to the first instant at which the space's arena is used to its end, and
 * counts what is alive then. */
typedef struct walk { const dsc_program *program; int space; bool *is_alive; dsc_ledger *ledger; } walk;

static void count_alive(const walk *w)
{
    int64_t sum = 0;

    for (int64_t i = 0; i < w->program->buffer_count; i++) {
        const dsc_buffer *buffer = &w->program->buffers[i];
        int64_t copies = buffer->life == DSC_LIFE_SLOT ? w->program->regions[w->space].slots : 1;

        if (buffer->space != w->space || (!w->is_alive[i] && buffer->life != DSC_LIFE_STATIC)) continue;
        w->ledger->classes[buffer->class_] += copies * buffer->bytes;
        sum += copies * buffer->bytes;
    }
    /* Gaps below the end: alignment, slots that are not full, holes of the packing. */
    w->ledger->classes[DSC_CLASS_BUFFERS] += w->ledger->arena_bytes - sum;
}

/* Whether the peak is in this use. */
static bool walk_use(const walk *w, dsc_extent *extent, int segment, int64_t use)
{
    const dsc_template *template_ = &w->program->templates[w->program->segments[segment].uses[use].template_];

    for (int32_t op = 0; op < template_->op_count; op++) {
        dsc_extent_op_start(extent, segment, use, op);
        for (int64_t i = 0; i < template_->lifetime_count; i++)
            if (template_->lifetimes[i].born == op) w->is_alive[template_->lifetimes[i].buffer] = true;
        if (dsc_extent_bytes(extent, w->space) == w->ledger->arena_bytes) return true;
        dsc_extent_op_end(extent, segment, use, op);
        for (int64_t i = 0; i < template_->lifetime_count; i++)
            if (template_->lifetimes[i].dies == op) w->is_alive[template_->lifetimes[i].buffer] = false;
    }
    return false;
}

dsc_status dsc_program_ledger(const dsc_program *program, int space, dsc_ledger *out)
{
    dsc_ledger ledger = {.arena_bytes = program->regions[space].arena_bytes};
    walk w = {program, space, calloc((size_t)program->buffer_count + 1, sizeof(bool)), &ledger};
    dsc_extent *extent = NULL;
    dsc_status status = DSC_OK;
    bool is_found = false;

    if (w.is_alive == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "program: ledger of %" PRId64 " buffers", program->buffer_count);
        goto out;
    }
    DSC_TRY(dsc_extent_create(program, &extent));
    for (int s = 0; s < DSC_SEGMENT_COUNT && !is_found; s++) {
        dsc_extent_segment_start(extent);
        memset(w.is_alive, 0, (size_t)program->buffer_count * sizeof(bool));
        for (int64_t u = 0; u < program->segments[s].use_count && !is_found; u++) is_found = walk_use(&w, extent, s, u);
    }
    count_alive(&w);
    *out = ledger;
out:
    free(w.is_alive);
    dsc_extent_destroy(extent);
    return status;
}

/* What would help, in the order in which it hurts least. */
static const char *advice(const dsc_plan *plan, int64_t always_bytes, int64_t capacity_bytes)
{
    const dsc_strategy *strategy = &plan->config.strategy;

    if (always_bytes > capacity_bytes)
        return "parameters, gradients, optimizer states and libraries alone are more: a larger device is needed";
    if (strategy->micro_batch > 1) return "a smaller --micro-batch needs less";
    if (strategy->recompute != DSC_RECOMPUTE_FULL) return "--recompute full needs less";
    return "a larger device or a smaller model is needed";
}

dsc_status dsc_program_fits(const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks)
{
    for (int64_t rank = 0; rank < ranks; rank++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++) {
            const dsc_region *region = &programs[rank]->regions[space];
            int64_t needed = region->arena_bytes + plan->libraries_bytes[space];
            int64_t always = region->static_bytes + plan->libraries_bytes[space];

            if (dsc_plan_representative(plan, rank) != rank || needed <= plan->capacity_bytes[space]) continue;
            return DSC_FAIL(DSC_EINFEASIBLE,
                            "stage %" PRId64 " needs %s (%" PRId64 " bytes) of %s memory, a rank has %s (%" PRId64
                            "): %s",
                            programs[rank]->stage, dsc_bytes_str(needed).str, needed, DSC_SPACE_NAMES[space],
                            dsc_bytes_str(plan->capacity_bytes[space]).str, plan->capacity_bytes[space],
                            advice(plan, always, plan->capacity_bytes[space]));
        }
    return DSC_OK;
}
