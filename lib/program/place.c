/* A plan and its programs, with buckets that fit: what streams through the device's memory comes in pieces as large as
 * there is room for. */
#include "base/log.h"
#include "program/program.h"
#include <inttypes.h>

typedef struct placement { dsc_plan *plan; const dsc_program *const *programs; } placement;

static void placement_fini(placement *p)
{
    if (p->plan != NULL) dsc_programs_destroy(p->plan, p->programs);
    dsc_plan_destroy(p->plan);
    *p = (placement){0};
}

static dsc_status place(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config, placement *out)
{
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_plan_create(model, cluster, config, &out->plan));
    DSC_TRY(dsc_programs_create(out->plan, &out->programs));
out:
    if (status != DSC_OK) placement_fini(out);
    return status;
}

static bool fits(const placement *p) { return dsc_program_fits(p->plan, p->programs, p->plan->ranks) == DSC_OK; }

dsc_status dsc_programs_place(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                              dsc_plan **plan, const dsc_program *const **programs)
{
    dsc_config smaller = *config;
    placement p = {0};
    dsc_status status = DSC_OK;
    int64_t first;

    DSC_TRY(place(model, cluster, config, &p));
    first = p.plan->config.strategy.bucket_elems;
    smaller.strategy.bucket_elems = first;
    while (config->strategy.bucket_elems == 0 && dsc_plan_has_streams(p.plan) && !fits(&p) &&
           smaller.strategy.bucket_elems > DSC_LEAST_BUCKET_ELEMS) {
        smaller.strategy.bucket_elems = DSC_MAX(smaller.strategy.bucket_elems / 2, DSC_LEAST_BUCKET_ELEMS);
        placement_fini(&p);
        DSC_TRY(place(model, cluster, &smaller, &p));
    }
    if (smaller.strategy.bucket_elems < first && fits(&p))
        dsc_log(DSC_NOTE, "buckets of %" PRId64 " elements instead of %" PRId64 ", so that it fits",
                smaller.strategy.bucket_elems, first);
    *plan = p.plan;
    *programs = p.programs;
out:
    return status;
}
