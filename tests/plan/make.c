#include "tests/plan/make.h"
#include "tests/tap.h"

dsc_strategy make_strategy(int64_t tp, int64_t dp, int64_t pp)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.tp = tp;
    s.dp = dp;
    s.pp = pp;
    s.micro_batch = 1;
    return s;
}

dsc_plan *make_plan(const char *model_text, const char *cluster_text, const dsc_strategy *strategy)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_cluster *cluster = NULL;
    dsc_plan *plan = NULL;
    dsc_model model;
    bool has_cluster;

    config.strategy = *strategy;
    has_cluster = cluster_text != NULL ? CHECK_OK(dsc_cluster_load(cluster_text, &cluster))
                                       : CHECK_OK(dsc_plan_local_cluster(&config, &cluster));
    if (has_cluster && CHECK_OK(dsc_model_load(model_text, &model)))
        CHECK_OK(dsc_plan_create(&model, cluster, &config, &plan));
    dsc_cluster_destroy(cluster);
    return plan;
}
