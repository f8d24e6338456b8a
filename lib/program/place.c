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

/* The same with buckets of so many elements, instead of what is there. */
static dsc_status place_again(const dsc_model *model, const dsc_cluster *cluster, dsc_config *config, int64_t elems,
                              placement *inout)
{
    config->strategy.bucket_elems = elems;
    placement_fini(inout);
    return place(model, cluster, config, inout);
}

/* Buckets halved until it fits; the least at once where these do not fit either. */
static dsc_status shrink(const dsc_model *model, const dsc_cluster *cluster, dsc_config *config, placement *inout)
{
    const int64_t first = config->strategy.bucket_elems;
    int64_t elems = first;
    dsc_status status = DSC_OK;

    DSC_TRY(place_again(model, cluster, config, DSC_LEAST_BUCKET_ELEMS, inout));
    if (!fits(inout)) goto out;
    do {
        elems = DSC_MAX(elems / 2, DSC_LEAST_BUCKET_ELEMS);
        DSC_TRY(place_again(model, cluster, config, elems, inout));
    } while (!fits(inout));
    dsc_log(DSC_NOTE, "buckets of %" PRId64 " elements instead of %" PRId64 ", so that it fits", elems, first);
out:
    return status;
}

dsc_status dsc_programs_place(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                              dsc_plan **plan, const dsc_program *const **programs)
{
    dsc_config smaller = *config;
    placement p = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(place(model, cluster, config, &p));
    smaller.strategy.bucket_elems = p.plan->config.strategy.bucket_elems;
    if (config->strategy.bucket_elems == 0 && dsc_plan_has_streams(p.plan) && !fits(&p) &&
        smaller.strategy.bucket_elems > DSC_LEAST_BUCKET_ELEMS)
        DSC_TRY(shrink(model, cluster, &smaller, &p));
    *plan = p.plan;
    *programs = p.programs;
    p = (placement){0};
out:
    placement_fini(&p);
    return status;
}
