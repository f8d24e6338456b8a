#include "tests/program/machine.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

#define MODEL "layers=4,hidden=96,heads=6,vocab=1001,seq=64"

static void shards_make_up_the_model(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;
    const dsc_stage *stage;
    int64_t sum = 0, reached = 0;
    machine m;

    machine_init(&m, MODEL, &s);
    stage = &m.plan->stages[0];
    for (int64_t i = 0; i < stage->shard_count; i++) {
        const dsc_shard *shard = &stage->shards[i];

        sum += shard->shape[0] * shard->shape[1];
        CHECK(shard->first >= reached, "shard %lld begins inside the one before", (long long)i);
        CHECK(shard->first * 2 % DSC_ALIGN == 0, "shard %lld begins at element %lld", (long long)i,
              (long long)shard->first);
        reached = shard->first + shard->elems;
    }
    CHECK(sum == dsc_model_parameters(&m.plan->model), "%lld elements, %lld parameters", (long long)sum,
          (long long)dsc_model_parameters(&m.plan->model));
    CHECK(reached <= stage->flat_elems, "the last shard passes the end");
    machine_fini(&m);
}

static void rank_and_coordinate_are_inverse(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;
    int64_t members[8];
    machine m;

    s.dp = 8;
    machine_init(&m, MODEL, &s);
    for (int64_t rank = 0; rank < 8; rank++) {
        CHECK(dsc_plan_rank(m.plan, dsc_plan_coord(m.plan, rank)) == rank, "rank %lld", (long long)rank);
        CHECK(dsc_plan_group(m.plan, rank, DSC_AXIS_TP) == -1, "a group of one has an id");
        CHECK(dsc_plan_group_ranks(m.plan, rank, DSC_AXIS_DP, members) == 8 && members[rank] == rank, "members");
    }
    CHECK(dsc_plan_group_count(m.plan) == 2, "%lld groups: dp and world are wanted",
          (long long)dsc_plan_group_count(m.plan));
    machine_fini(&m);
}

/* A plan that must be refused, with all the words in its message. */
static void refused(const dsc_strategy *strategy, int64_t devices, dsc_status status, const char *const *words)
{
    dsc_cluster *cluster = machine_cluster(1, devices);
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_plan *plan = NULL;
    dsc_model model;

    config.strategy = *strategy;
    CHECK_OK(dsc_model_load(MODEL, &model));
    CHECK(dsc_plan_create(&model, cluster, &config, &plan) == status, "\"%s\"", dsc_message());
    CHECK(plan == NULL, "a plan was made");
    for (; *words != NULL; words++)
        CHECK(strstr(dsc_message(), *words) != NULL, "no \"%s\" in \"%s\"", *words, dsc_message());
    dsc_plan_destroy(plan);
    dsc_cluster_destroy(cluster);
}

static void names_both_numbers(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.dp = 8;
    refused(&s, 4, DSC_EINVAL, (const char *const[]){"8", "4", NULL});
    s.dp = 4;
    s.micro_batch = 4;
    s.global_batch = 10;
    refused(&s, 4, DSC_EINVAL, (const char *const[]){"10", "16", NULL});
    s = DSC_CONFIG_DEFAULT.strategy;
    s.seq_len = 65;
    refused(&s, 1, DSC_EINVAL, (const char *const[]){"65", "64", NULL});
    strcpy(s.rank_order, "tp,xp");
    s.seq_len = 0;
    refused(&s, 1, DSC_EINVAL, (const char *const[]){"xp", NULL});
}

static void refuses_with_a_reason(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.cp = 2;
    strcpy(s.attention, "dense-unfused");
    refused(&s, 2, DSC_ENOTSUP, (const char *const[]){"--cp", "--attention dense", NULL});
    s = DSC_CONFIG_DEFAULT.strategy;
    s.cp = 2;
    s.optimizer = DSC_ONEBIT_ADAM;
    refused(&s, 4, DSC_ENOTSUP, (const char *const[]){"--cp", "compression", NULL});
    s = DSC_CONFIG_DEFAULT.strategy;
    s.cp = 2;
    s.pp = 2;
    strcpy(s.rank_order, "cp,pp,dp");
    refused(&s, 8, DSC_ENOTSUP, (const char *const[]){"--rank-order", "cp and dp", NULL});
    s = DSC_CONFIG_DEFAULT.strategy;
    s.cp = 3;
    refused(&s, 3, DSC_EINVAL, (const char *const[]){"--cp 3", "64", NULL});
    s = DSC_CONFIG_DEFAULT.strategy;
    s.sequence_parallel = true;
    refused(&s, 2, DSC_ENOTSUP, (const char *const[]){"--sequence-parallel", "tp is 1", NULL});
    s = DSC_CONFIG_DEFAULT.strategy;
    s.zero = 2;
    s.schedule = DSC_ZB_H1;
    s.pp = 2;
    refused(&s, 4, DSC_ENOTSUP, (const char *const[]){"--zero 2", "zb-h1", "use --zero 1", NULL});
    s.pp = 1;
    s.schedule = DSC_1F1B;
    s.offload = DSC_OFFLOAD_PARAMS;
    refused(&s, 2, DSC_ENOTSUP, (const char *const[]){"--offload params", "use --zero 3", NULL});
    s.offload = DSC_OFFLOAD_NONE;
    s.delay_update = 1;
    refused(&s, 2, DSC_ENOTSUP, (const char *const[]){"--delay-update", "--offload optimizer", NULL});
    s.delay_update = 0;
    s.offload_ratio = 0.5;
    refused(&s, 2, DSC_ENOTSUP, (const char *const[]){"--offload-ratio", "--offload optimizer", NULL});
    s = DSC_CONFIG_DEFAULT.strategy;
    s.optimizer = DSC_ONEBIT_LAMB;
    s.semantics = DSC_SEMANTICS_REFERENCE;
    refused(&s, 2, DSC_ENOTSUP, (const char *const[]){"--onebit-semantics reference", "OneBitLamb", "use paper", NULL});
    s.semantics = DSC_SEMANTICS_PAPER;
    s.zero = 1;
    refused(&s, 2, DSC_ENOTSUP, (const char *const[]){"--zero", "use --zero 0", NULL});
    s = DSC_CONFIG_DEFAULT.strategy;
    strcpy(s.attention, "bigbirds");
    refused(&s, 2, DSC_EINVAL, (const char *const[]){"--attention bigbirds", "bslongformer", NULL});
}

static dsc_strategy pipeline(int64_t pp, int64_t virtual_stages, int schedule)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.pp = pp;
    s.virtual_stages = virtual_stages;
    s.schedule = schedule;
    s.micro_batch = 1;
    s.global_batch = 8;
    s.dp = 1;
    return s;
}

/* The model has 4 layers, 6 heads, 384 inner columns and 64 positions. */
static void refuses_what_tp_cannot_cut(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.tp = 4;
    refused(&s, 4, DSC_EINVAL, (const char *const[]){"--tp 4", "heads, 6", NULL});
    s.tp = 2;
    s.micro_batch = 1;
    s.seq_len = 63;
    s.sequence_parallel = true;
    refused(&s, 2, DSC_EINVAL, (const char *const[]){"tp 2", "= 63 tokens", NULL});
}

static void refuses_what_a_pipeline_cannot_run(void)
{
    dsc_strategy s = pipeline(7, 1, DSC_1F1B);

    refused(&s, 8, DSC_EINVAL, (const char *const[]){"--pp 7", "4 layers", NULL});
    s = pipeline(6, 1, DSC_1F1B);
    refused(&s, 8, DSC_EINVAL, (const char *const[]){"6 chunks", "4 layers", NULL});
    s = pipeline(2, 2, DSC_1F1B);
    refused(&s, 8, DSC_EINVAL, (const char *const[]){"--virtual-stages 2", "interleaved", NULL});
    s = pipeline(1, 2, DSC_INTERLEAVED);
    refused(&s, 8, DSC_EINVAL, (const char *const[]){"--virtual-stages 2", "pp is 1", NULL});
    s = pipeline(2, 1, DSC_INTERLEAVED);
    refused(&s, 8, DSC_EINVAL, (const char *const[]){"interleaved", "1", "2", NULL});
    s = pipeline(2, 2, DSC_INTERLEAVED);
    s.global_batch = 7;
    refused(&s, 8, DSC_EINVAL, (const char *const[]){"7 micro-batches", "pp 2", NULL});
}

static void refuses_sizes_past_any_machine(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.micro_batch = INT64_C(1) << 40;
    refused(&s, 1, DSC_EINVAL, (const char *const[]){"micro-batch 1099511627776", NULL});
    s.micro_batch = INT64_C(1) << 34;
    s.global_batch = INT64_C(1) << 50;
    refused(&s, 1, DSC_EINVAL, (const char *const[]){"global batch 1125899906842624", NULL});
    s.micro_batch = 1;
    s.global_batch = INT64_C(1) << 40;
    refused(&s, 1, DSC_EINVAL, (const char *const[]){"1099511627776 micro-batches", "65536", NULL});
}

static const tap_case cases[] = {
    {"shards make up the model, apart and aligned", shards_make_up_the_model},
    {"rank and coordinate are inverse, groups have their members", rank_and_coordinate_are_inverse},
    {"what disagrees is refused with both numbers", names_both_numbers},
    {"what this version cannot do is refused by name", refuses_with_a_reason},
    {"tensor parallelism that a model or batch does not divide by is refused", refuses_what_tp_cannot_cut},
    {"a pipeline that the layers or micro-batches do not fill is refused", refuses_what_a_pipeline_cannot_run},
    {"sizes past any machine are refused before they are multiplied", refuses_sizes_past_any_machine},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
