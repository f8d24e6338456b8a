#include "program/program.h"
#include <inttypes.h>

/* Whether the space's arena is used to its end in this use, first when an op starts. */
static bool reaches_end(const dsc_program *program, dsc_extent *extent, int space, int segment, int64_t use)
{
    const dsc_template *template_ = &program->templates[program->segments[segment].uses[use].template_];

    for (int32_t op = 0; op < template_->op_count; op++) {
        dsc_extent_op_start(extent, segment, use, op);
        if (dsc_extent_bytes(extent, space) == program->arena_bytes[space]) return true;
        dsc_extent_op_end(extent, segment, use, op);
    }
    return false;
}

/* Walks the program in the builders' order to the first instant of the peak, and counts what is alive then. */
dsc_status dsc_program_ledger(const dsc_program *program, int space, dsc_ledger *out)
{
    dsc_ledger ledger = {.arena_bytes = program->arena_bytes[space]};
    int64_t gaps = ledger.arena_bytes;
    dsc_extent *extent = NULL;
    dsc_status status = DSC_OK;
    bool is_found = false;

    DSC_TRY(dsc_extent_create(program, &extent));
    for (int s = 0; s < DSC_SEGMENT_COUNT && !is_found; s++) {
        dsc_extent_segment_start(extent);
        for (int64_t u = 0; u < program->segments[s].use_count && !is_found; u++)
            is_found = reaches_end(program, extent, space, s, u);
    }
    dsc_extent_classes(extent, space, ledger.classes);
    for (int class_ = 0; class_ < DSC_CLASS_COUNT; class_++) gaps -= ledger.classes[class_];
    ledger.classes[DSC_CLASS_BUFFERS] += gaps; /* alignment, holes of the packing, copies that are not full */
    *out = ledger;
out:
    dsc_extent_destroy(extent);
    return status;
}

/* What would help, in the order in which it hurts least. */
static const char *advise_host(const dsc_strategy *strategy)
{
    if (strategy->offload == DSC_OFFLOAD_NONE) return "more host memory is needed";
    if (strategy->offload == DSC_OFFLOAD_OPTIMIZER && strategy->offload_ratio > 0)
        return "a smaller --offload-ratio leaves more on the device, --zero over more replicas needs less of both";
    if (strategy->zero < 3 && strategy->dp * strategy->cp > 1) return "--zero 3 needs less";
    return "more replicas or more host memory are needed";
}

static const char *advise_device(const dsc_plan *plan, bool is_always_more)
{
    const dsc_strategy *strategy = &plan->config.strategy;

    if (is_always_more && strategy->offload != DSC_OFFLOAD_PARAMS)
        return "parameters, gradients, optimizer states and libraries alone are more: --zero 3 over replicas, or "
               "--offload, needs less";
    if (is_always_more) return "what stays on the device alone is more: a larger device is needed";
    if (strategy->micro_batch > 1) return "a smaller --micro-batch needs less";
    if (strategy->recompute != DSC_RECOMPUTE_FULL) return "--recompute full needs less";
    if (dsc_plan_has_streams(plan) && strategy->bucket_elems > DSC_LEAST_BUCKET_ELEMS)
        return "a smaller --bucket-size needs less";
    if (dsc_plan_has_streams(plan) && strategy->prefetch > 0) return "a smaller --prefetch needs less";
    return "a larger device or a smaller model is needed";
}

dsc_status dsc_program_fits(const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks)
{
    for (int64_t rank = 0; rank < ranks; rank++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++) {
            int64_t needed = programs[rank]->arena_bytes[space] + plan->libraries_bytes[space];
            int64_t always = programs[rank]->regions[space][DSC_LIFE_STATIC].bytes + plan->libraries_bytes[space];

            if (needed <= plan->capacity_bytes[space] || dsc_plan_representative(plan, rank) != rank) continue;
            return DSC_FAIL(DSC_EINFEASIBLE,
                            "stage %" PRId64 " needs %s (%" PRId64 " bytes) of %s memory, a rank has %s (%" PRId64
                            "): %s",
                            programs[rank]->stage, dsc_bytes_str(needed).str, needed, DSC_SPACE_NAMES[space],
                            dsc_bytes_str(plan->capacity_bytes[space]).str, plan->capacity_bytes[space],
                            space == DSC_SPACE_HOST ? advise_host(&plan->config.strategy)
                                                    : advise_device(plan, always > plan->capacity_bytes[space]));
        }
    return DSC_OK;
}
