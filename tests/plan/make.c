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

static dsc_plan *make(const char *model_text, const char *cluster_text, const dsc_strategy *strategy,
                      const dsc_attention *attention)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_cluster *cluster = NULL;
    dsc_plan *plan = NULL;
    dsc_model model;

    config.strategy = *strategy;
    config.attention = attention;
    if (CHECK_OK(dsc_plan_load_cluster(cluster_text != NULL ? cluster_text : "local", &config, &cluster)) &&
        CHECK_OK(dsc_model_load(model_text, &model)))
        CHECK_OK(dsc_plan_create(&model, cluster, &config, &plan));
    dsc_cluster_destroy(cluster);
    return plan;
}

dsc_plan *make_plan(const char *model, const char *cluster, const dsc_strategy *strategy)
{
    return make(model, cluster, strategy, NULL);
}

dsc_plan *make_plan_with(const char *model, const dsc_strategy *strategy, const dsc_attention *attention)
{
    return make(model, NULL, strategy, attention);
}

dsc_attention attend_by(dsc_layout *layout)
{
    return (dsc_attention){
        .count = 1,
        .patterns = {{.word = "mine.json", .kind = DSC_ATTENTION_SPARSE, .layout = layout}},
        .layers = {{0, INT64_MAX}},
    };
}

dsc_layout *make_random_layout(int64_t block, int64_t blocks, int64_t heads)
{
    dsc_layout *l = NULL;

    if (!CHECK_OK(dsc_layout_make(block, blocks, heads, &l))) return NULL;
    for (int64_t h = 0; h < heads; h++) {
        int64_t share = tap_random_between(0, 4);

        for (int64_t i = 0; i < blocks * blocks; i++)
            if (tap_random_between(0, 3) < share) dsc_layout_add(l, h, i / blocks, i % blocks);
    }
    return l;
}
