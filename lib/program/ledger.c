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

/* ---- What would help: nothing that is done already or would be refused */

/* Gathers are late where the software has them so: it has other ones with other states. */
static bool may_shard(const dsc_plan *plan, int zero)
{
    dsc_plan other = *plan;

    other.config.strategy.zero = zero;
    other.config.strategy.late_gather = false;
    return plan->config.strategy.zero < zero && dsc_plan_degree(plan, DSC_AXIS_DP) > 1 &&
           dsc_plan_check_legal(&other) == DSC_OK;
}

static bool may_offload(const dsc_plan *plan, int offload)
{
    dsc_plan other = *plan;

    other.config.strategy.offload = offload;
    other.config.strategy.offload_ratio = 1;
    other.config.strategy.late_gather = false;
    return plan->config.strategy.offload < offload && dsc_plan_check_legal(&other) == DSC_OK;
}

/* Some larger degree that the model allows. */
static bool may_grow(const dsc_plan *plan, bool tp)
{
    dsc_plan other = *plan;
    int64_t *degree = tp ? &other.config.strategy.tp : &other.config.strategy.pp;
    const int64_t most = tp ? plan->model.kv_heads : plan->model.layers;

    for ((*degree)++; *degree <= most; (*degree)++)
        if (dsc_plan_check_legal(&other) == DSC_OK) return true;
    return false;
}

static void add_remedy(bool helps, const char *what, dsc_text *out)
{
    if (helps) dsc_text_add(out, "%s%s", out->count > 0 ? " or " : "", what);
}

/* Where replicas share all of the states, it is the number of ranks that counts. */
static void add_ranks(const dsc_plan *plan, dsc_text *out)
{
    const bool shares = plan->config.strategy.zero == 3 && dsc_plan_degree(plan, DSC_AXIS_DP) > 1;

    add_remedy(shares, "more devices", out);
    add_remedy(!shares && may_grow(plan, true), "a larger --tp", out);
    add_remedy(!shares && may_grow(plan, false), "a larger --pp", out);
}

/* Less of what states take; *out stays empty where nothing would help but what the caller says. */
static void advise_states(const dsc_plan *plan, dsc_text *out)
{
    const dsc_strategy *s = &plan->config.strategy;
    const bool is_partial = s->offload == DSC_OFFLOAD_OPTIMIZER && s->offload_ratio < 1;
    const bool is_elsewhere = s->offload == DSC_OFFLOAD_PARAMS, takes_all = !is_elsewhere && may_shard(plan, 3);

    add_remedy(takes_all, "--zero 3", out);
    add_remedy(!takes_all && !is_elsewhere && may_shard(plan, 1), "--zero 1", out);
    add_remedy(is_partial, "a larger --offload-ratio", out);
    add_remedy(may_offload(plan, DSC_OFFLOAD_OPTIMIZER), "--offload optimizer", out);
    add_remedy(s->offload == DSC_OFFLOAD_OPTIMIZER && !is_partial && may_offload(plan, DSC_OFFLOAD_PARAMS),
               "--offload params", out);
    add_ranks(plan, out);
}

static void advise_host(const dsc_plan *plan, dsc_text *out)
{
    const dsc_strategy *s = &plan->config.strategy;
    const bool has_checkpoints = s->checkpoints == DSC_CHECKPOINTS_HOST;

    add_remedy(has_checkpoints, "--activation-checkpoints cut", out);
    if (s->offload != DSC_OFFLOAD_NONE) {
        add_remedy(s->zero == 0 && may_shard(plan, 1), "--zero 1", out);
        add_remedy(s->zero == 0 && !may_shard(plan, 1) && may_shard(plan, 3), "--zero 3", out);
        add_remedy(s->offload == DSC_OFFLOAD_OPTIMIZER && s->offload_ratio > 0, "a smaller --offload-ratio", out);
        add_ranks(plan, out);
    }
    dsc_text_add(out, out->count > 0 ? " needs less" : "more host memory is needed");
}

/* Less of what passes take, from what hurts least; what holds all micro-batches holds no less of smaller ones, nor do
 * several whose gradients are summed in a wider type than one's. */
static const char *advise_passes(const dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;
    const bool is_gpipe = s->schedule == DSC_GPIPE && plan->micro_batches > 1, has_streams = dsc_plan_has_streams(plan);
    const bool is_summed = plan->micro_batches > 1 || plan->gradient_type == DSC_FP32;

    if (s->micro_batch > 1 && is_summed && !is_gpipe) return "a smaller --micro-batch";
    if (is_gpipe) return "--schedule 1f1b";
    if (s->recompute != DSC_RECOMPUTE_FULL) return "--recompute full";
    if (s->recompute_layers > 0) return "--recompute full of all layers";
    if (has_streams && s->bucket_elems > DSC_LEAST_BUCKET_ELEMS) return "a smaller --bucket-size";
    return has_streams && s->prefetch > 0 ? "a smaller --prefetch" : NULL;
}

static void advise_device(const dsc_plan *plan, bool is_always_more, dsc_text *out)
{
    const int64_t libraries = plan->libraries_bytes[DSC_SPACE_DEVICE];
    const char *passes = is_always_more ? NULL : advise_passes(plan);
    dsc_text states = {0};

    advise_states(plan, &states);
    if (libraries >= plan->capacity_bytes[DSC_SPACE_DEVICE])
        dsc_text_add(out, "libraries alone take %s (%" PRId64 "); a larger device is needed",
                     dsc_bytes_str(libraries).str, libraries);
    else if (passes != NULL) dsc_text_add(out, "%s needs less", passes);
    else if (states.count > 0)
        dsc_text_add(out, "%sless stays there with %s", is_always_more ? "what always stays there alone is more; " : "",
                     dsc_text_str(&states));
    else dsc_text_add(out, "a larger device is needed");
    dsc_text_fini(&states);
}

/* Rank and space do not fit. */
static dsc_status refuse(const dsc_plan *plan, const dsc_program *program, int space, int64_t needed)
{
    const int64_t capacity = plan->capacity_bytes[space];
    const int64_t always = program->regions[space][DSC_LIFE_STATIC].bytes + plan->libraries_bytes[space];
    dsc_text advice = {0};
    dsc_status status;

    if (space == DSC_SPACE_HOST) advise_host(plan, &advice);
    else advise_device(plan, always > capacity, &advice);
    status = DSC_FAIL(DSC_EINFEASIBLE,
                      "stage %" PRId64 " needs %s (%" PRId64 " bytes) of %s memory, a rank has %s (%" PRId64 "): %s",
                      program->stage, dsc_bytes_str(needed).str, needed, DSC_SPACE_NAMES[space],
                      dsc_bytes_str(capacity).str, capacity, dsc_text_str(&advice));
    dsc_text_fini(&advice);
    return status;
}

dsc_status dsc_program_fits(const dsc_plan *plan, const dsc_program *const *programs, int64_t ranks)
{
    for (int64_t rank = 0; rank < ranks; rank++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++) {
            const int64_t needed = programs[rank]->arena_bytes[space] + plan->libraries_bytes[space];

            if (needed <= plan->capacity_bytes[space] || dsc_plan_representative(plan, rank) != rank) continue;
            return refuse(plan, programs[rank], space, needed);
        }
    return DSC_OK;
}
