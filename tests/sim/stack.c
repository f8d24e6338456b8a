/* Stacks: which one a strategy gets, and that each of what a row says has its effect on prices. */
#include "sim/fabric.h"
#include "sim/sim.h"
#include "tests/tap.h"
#include <math.h>
#include <string.h>

static dsc_cluster *gpus, *older, *newer, *local;

static const char *automatic(const dsc_cluster *cluster, const char *attention, int zero, int precision)
{
    dsc_strategy strategy = {.zero = zero, .precision = precision};

    snprintf(strategy.attention, sizeof strategy.attention, "%s", attention);
    return dsc_stack_find("auto", &strategy, cluster)->name;
}

static void strategies_choose(void)
{
    const dsc_strategy compressed = {.optimizer = DSC_ONEBIT_ADAM, .attention = "dense-unfused", .precision = DSC_FP16};
    const dsc_strategy staged = {.pp = 2, .attention = "dense-unfused", .precision = DSC_FP16};
    dsc_strategy wide = staged, interleaved, parallel;

    wide.precision = DSC_BF16;
    interleaved = parallel = wide;
    interleaved.virtual_stages = 2;
    parallel.sequence_parallel = true;

    CHECK(strcmp(automatic(local, "dense-unfused", 0, DSC_FP16), "dsc") == 0, "CPU ranks run ours");
    CHECK(strcmp(automatic(gpus, "dense-unfused", 0, DSC_FP16), "megatron-2021") == 0, "unfused, fp16");
    CHECK(strcmp(automatic(gpus, "dense-unfused", 3, DSC_FP16), "deepspeed-2021") == 0, "unfused, ZeRO 3");
    CHECK(strcmp(automatic(gpus, "dense-unfused", 0, DSC_BF16), "megatron-2021") == 0, "unfused, bf16");
    CHECK(strcmp(automatic(gpus, "", 1, DSC_BF16), "megatron-2024") == 0, "flash attention");
    CHECK(strcmp(automatic(gpus, "dense", 3, DSC_BF16), "fsdp-2023") == 0, "flash attention, ZeRO 3");
    CHECK(strcmp(automatic(newer, "dense", 3, DSC_BF16), "fsdp-2025") == 0, "flash attention, ZeRO 3, fp8");
    CHECK(strcmp(dsc_stack_find("auto", &staged, older)->name, "deepspeed-2022") == 0, "a pipeline without bf16");
    CHECK(strcmp(dsc_stack_find("auto", &staged, gpus)->name, "megatron-2021") == 0, "a pipeline");
    CHECK(strcmp(dsc_stack_find("auto", &wide, gpus)->name, "deepspeed-2022") == 0, "a pipeline in bf16");
    CHECK(strcmp(dsc_stack_find("auto", &interleaved, gpus)->name, "megatron-2021") == 0, "an interleaved one");
    CHECK(strcmp(dsc_stack_find("auto", &parallel, gpus)->name, "megatron-2021") == 0, "sequence parallelism");
    CHECK(strcmp(automatic(gpus, "fixed,0=dense", 0, DSC_FP16), "deepspeed-2020") == 0, "sparse attention");
    CHECK(strcmp(automatic(gpus, "dense,3=local", 0, DSC_FP16), "megatron-2024") == 0, "one sparse layer");
    CHECK(strcmp(dsc_stack_find("auto", &compressed, gpus)->name, "deepspeed-2020") == 0, "compression");
    CHECK(dsc_stack_find("megatron-1999", NULL, gpus) == NULL, "an unknown one is found");
}

static void what_is_open_is_filled(void)
{
    const dsc_stack *megatron = dsc_stack_find("megatron-2021", NULL, NULL);
    dsc_strategy strategy = {.grad_accum_dtype = -1, .precision = DSC_FP16};

    dsc_stack_apply(megatron, 24, 8, &strategy);
    CHECK(strategy.grad_accum_dtype == DSC_FP16 && strategy.bucket_elems > 0, "%d", strategy.grad_accum_dtype);
    strategy = (dsc_strategy){.grad_accum_dtype = DSC_FP32, .bucket_elems = 7, .precision = DSC_FP16};
    dsc_stack_apply(megatron, 24, 8, &strategy);
    CHECK(strategy.grad_accum_dtype == DSC_FP32 && strategy.bucket_elems == 7, "what is given changes");
    strategy = (dsc_strategy){.grad_accum_dtype = -1, .precision = DSC_FP16};
    dsc_stack_apply(dsc_stack_find("dsc", NULL, NULL), 24, 8, &strategy);
    CHECK(strategy.grad_accum_dtype == -1 && strategy.bucket_elems == 0, "ours changes the strategy");
    CHECK(!strategy.keeps_outputs && !strategy.widens_gradients, "ours keeps more than it has to");
}

static dsc_strategy applied(const char *name, dsc_strategy strategy)
{
    dsc_stack_apply(dsc_stack_find(name, NULL, NULL), 24, 8, &strategy);
    return strategy;
}

/* FSDP gathers a layer ahead and recomputes every second one; the others do neither. */
static void layers_are_taken_as_software_does(void)
{
    const dsc_strategy given = {.prefetch = DSC_AUTO, .pp = 2, .recompute = DSC_RECOMPUTE_SELECTIVE,
                                .precision = DSC_BF16, .grad_accum_dtype = -1};
    const dsc_strategy fsdp = applied("fsdp-2025", given), megatron = applied("megatron-2024", given);
    dsc_strategy more = given;

    CHECK(fsdp.prefetch > 1 && fsdp.recompute == DSC_RECOMPUTE_FULL && fsdp.recompute_layers == 6, "%lld of a chunk",
          (long long)fsdp.recompute_layers);
    CHECK(megatron.prefetch == DSC_AUTO && megatron.recompute == DSC_RECOMPUTE_SELECTIVE,
          "Megatron gathers layers ahead");
    CHECK(megatron.grad_accum_dtype == DSC_BF16 && megatron.recomputes_outputs && !fsdp.recomputes_outputs, "%d",
          megatron.grad_accum_dtype);
    for (more.prefetch = 0; more.prefetch < 4; more.prefetch++)
        CHECK(applied("fsdp-2025", more).prefetch == more.prefetch, "what is given, %lld, changes",
              (long long)more.prefetch);
    CHECK(applied("megatron-2021", given).scatters_messages && !applied("dsc", given).scatters_messages, "messages");
    CHECK(fsdp.widens_logits && !megatron.widens_logits && !applied("fsdp-2023", given).widens_logits, "logits");
}

/* Megatron-Core's messages hold 40 M gradients, and a million for each replica where these are more. */
static void messages_grow_with_replicas(void)
{
    CHECK(applied("megatron-2024", (dsc_strategy){.dp = 2}).bucket_elems == 40000000, "2 replicas");
    CHECK(applied("megatron-2024", (dsc_strategy){.dp = 48}).bucket_elems == 48000000, "48 replicas");
    CHECK(applied("megatron-2024", (dsc_strategy){.dp = 48, .bucket_elems = 7}).bucket_elems == 7, "given");
    CHECK(applied("fsdp-2025", (dsc_strategy){.dp = 48}).bucket_elems == 0, "another software");
    CHECK(applied("megatron-2024", (dsc_strategy){.dp = 48, .offload = DSC_OFFLOAD_OPTIMIZER}).bucket_elems == 0,
          "gradients that stream out");
}

static int checkpoints_of(const char *name, int zero, int recompute, int given)
{
    dsc_strategy strategy = {.zero = zero, .recompute = recompute, .checkpoints = given};

    dsc_stack_apply(dsc_stack_find(name, NULL, NULL), 24, 8, &strategy);
    return strategy.checkpoints;
}

static void checkpoints_go_to_the_host(void)
{
    const int full = DSC_RECOMPUTE_FULL, none = DSC_CHECKPOINTS_AUTO;

    CHECK(checkpoints_of("deepspeed-2021", 3, full, none) == DSC_CHECKPOINTS_HOST, "ZeRO 3");
    CHECK(checkpoints_of("deepspeed-2021", 2, full, none) == none, "ZeRO 2");
    CHECK(checkpoints_of("deepspeed-2021", 3, DSC_RECOMPUTE_NONE, none) == none, "nothing is recomputed");
    CHECK(checkpoints_of("deepspeed-2021", 3, full, DSC_CHECKPOINTS_CUT) == DSC_CHECKPOINTS_CUT, "given");
    CHECK(checkpoints_of("fsdp-2023", 3, full, none) == none, "another software");
}

static bool gathers_late(const char *name, int zero, int64_t dp, int offload)
{
    dsc_strategy strategy = {.zero = zero, .dp = dp, .offload = offload, .tp = 2};

    dsc_stack_apply(dsc_stack_find(name, NULL, NULL), 24, 4, &strategy);
    return strategy.late_gather;
}

static void weights_are_gathered_late(void)
{
    const char *megatron = "megatron-2024";

    CHECK(gathers_late(megatron, 1, 2, DSC_OFFLOAD_NONE), "ZeRO 1");
    CHECK(gathers_late(megatron, 2, 2, DSC_OFFLOAD_NONE), "ZeRO 2");
    CHECK(gathers_late(megatron, 1, 0, DSC_OFFLOAD_NONE), "what devices leave is dp 2");
    CHECK(!gathers_late(megatron, 1, 1, DSC_OFFLOAD_NONE), "one replica");
    CHECK(!gathers_late(megatron, 0, 2, DSC_OFFLOAD_NONE) && !gathers_late(megatron, 3, 2, DSC_OFFLOAD_NONE),
          "nothing is left in parts");
    CHECK(!gathers_late(megatron, 1, 2, DSC_OFFLOAD_OPTIMIZER), "parts in host memory");
    CHECK(!gathers_late("dsc", 1, 2, DSC_OFFLOAD_NONE), "ours waits to be asked");
}

/* Under a pipeline, where there are replicas, ZeRO 3 of FSDP is ZeRO 1 whose weights are gathered once a step. */
static void weights_stay_gathered(void)
{
    const dsc_strategy given = {.zero = 3, .pp = 2, .dp = 2, .precision = DSC_BF16, .grad_accum_dtype = -1};
    const dsc_strategy kept = applied("fsdp-2025", given);
    dsc_strategy other = given;

    CHECK(kept.zero == 1 && kept.late_gather && kept.grad_accum_dtype == DSC_FP32, "ZeRO %d, gradients of type %d",
          kept.zero, kept.grad_accum_dtype);
    CHECK(applied("fsdp-2023", given).zero == 3 && applied("dsc", given).zero == 3, "another software");
    other.dp = 0;
    CHECK(applied("fsdp-2025", other).zero == 1, "what devices leave is dp 4");
    other.dp = 1;
    CHECK(applied("fsdp-2025", other).zero == 3, "one replica");
    other.dp = 2;
    other.pp = 1;
    CHECK(applied("fsdp-2025", other).zero == 3 && applied("fsdp-2025", other).grad_accum_dtype == DSC_BF16,
          "one stage");
    other = given;
    other.zero = 2;
    CHECK(applied("fsdp-2025", other).zero == 2, "ZeRO 2");
    other = given;
    other.offload = DSC_OFFLOAD_PARAMS;
    CHECK(applied("fsdp-2025", other).zero == 3, "parameters in host memory");
    other = given;
    other.grad_accum_dtype = DSC_BF16;
    CHECK(applied("fsdp-2025", other).grad_accum_dtype == DSC_BF16, "what is given changes");
}

static int64_t price_of(const char *name, int64_t ranks, const dsc_shape *shape, int64_t *launch_ns)
{
    const dsc_plan plan = {.ranks = ranks};
    dsc_prices *prices = NULL;
    int64_t ns = -1;

    *launch_ns = -1;
    if (CHECK_OK(dsc_prices_create(&plan, gpus, NULL, dsc_stack_find(name, NULL, NULL), &prices))) {
        ns = dsc_price_call(prices, shape);
        *launch_ns = dsc_price_launch(prices, shape);
    }
    dsc_prices_destroy(prices);
    return ns;
}

static int64_t price(const char *name, const dsc_shape *shape)
{
    int64_t launch_ns;

    return price_of(name, 1, shape, &launch_ns);
}

/* By ten times as many scores, in rows on either side of where the fused softmax ends. */
static void long_rows_are_masked_apart(void)
{
    dsc_shape row = {.kernel = DSC_K_SCORES_FWD, .type = DSC_FP16, .out = DSC_FP16, .d = {16, 2048, 16, 16, 64}};
    const double fused = (double)price("megatron-2021", &row) / (2048.0 * 2048 * 16);
    double apart;

    row.d[0] = 10;
    row.d[1] = 8192;
    apart = (double)price("megatron-2021", &row) / (8192.0 * 8192 * 10);
    CHECK(apart > 1.3 * fused && apart < 2 * fused, "%g and %g ns a score", apart, fused);
}

/* 8 bytes for each score of a present block, 100 for each element that is compressed, at 80 % of 2.04 TB/s. */
static void elements_have_their_bytes(void)
{
    const dsc_shape blocks = {.kernel = DSC_K_ATTENTION_FWD, .type = DSC_FP16, .out = DSC_FP16, .flags = DSC_HAS_LAYOUT,
                              .d = {2, 1024, 1, 1, 16, 1000, 16}};
    const dsc_shape signs = {.kernel = DSC_K_SIGN_COMPRESS, .type = DSC_FP32, .out = DSC_FP32,
                             .d = {1 << 26, 1 << 26, 8, 1}};
    const double sparse = dsc_stack_elems(&blocks), compressed = dsc_stack_elems(&signs);
    const double moved = 100.0 * compressed / 2.039e12 / 0.88 * 1e9, ns = (double)price("deepspeed-2020", &signs);

    CHECK(sparse == 2.0 * 1000 * 256 && compressed == 1 << 26, "%g and %g", sparse, compressed);
    CHECK(fabs(ns / moved - 1) < 0.02, "%g ns, not %g", ns, moved);
    CHECK(price("deepspeed-2020", &blocks) > price("dsc", &blocks), "stored scores are free");
}

/* What is unfused moves more bytes and takes more launches, a residual goes apart, and 8 ranks wait for the slowest. */
static void rows_have_effect(void)
{
    const dsc_shape scores = {.kernel = DSC_K_SCORES_FWD, .type = DSC_FP16, .out = DSC_FP16,
                              .d = {4, 2048, 16, 16, 128}};
    const dsc_shape plain = {.kernel = DSC_K_GEMM, .type = DSC_FP16, .out = DSC_FP16, .d = {4096, 4096, 4096}};
    dsc_shape joined = plain;
    int64_t one, four, launch, alone, eight;

    joined.flags = DSC_HAS_RESIDUAL;
    alone = price_of("megatron-2021", 1, &plain, &one);
    price_of("megatron-2021", 1, &scores, &four);
    CHECK(one > 0 && four == 4 * one, "launches take %lld and %lld ns", (long long)one, (long long)four);
    price_of("dsc", 1, &scores, &launch);
    CHECK(launch == 0, "%lld", (long long)launch);
    eight = price_of("megatron-2021", 8, &plain, &launch);
    CHECK(eight > alone && eight < alone * 1.1 && launch == one, "%lld and %lld", (long long)alone, (long long)eight);
    CHECK(price("megatron-2021", &scores) > 2 * price("dsc", &scores), "%lld and %lld",
          (long long)price("megatron-2021", &scores), (long long)price("dsc", &scores));
    CHECK(price("megatron-2021", &plain) == price("dsc", &plain), "a product alone differs");
    CHECK(price("megatron-2021", &joined) > price("megatron-2021", &plain) + 60000, "a residual is free");
}

/* Bytes per ns of a path between two ranks; -1 where there is none. */
static double rate_between(const char *name, const dsc_cluster *cluster, int64_t a, int64_t b)
{
    dsc_links *links = NULL;
    dsc_fabric *fabric = NULL;
    dsc_load load = {0};
    int64_t latency = 0;
    double rate = -1;

    if (CHECK_OK(dsc_links_create(&links)) &&
        CHECK_OK(dsc_fabric_create(cluster, dsc_stack_find(name, NULL, NULL), 16, links, &fabric)) &&
        CHECK_OK(dsc_fabric_path(fabric, a, b, &load, &latency)))
        rate = dsc_links_alone(links, load.demands, load.count, INFINITY);
    dsc_load_fini(&load);
    dsc_fabric_destroy(fabric);
    dsc_links_destroy(links);
    return rate;
}

static void collectives_carry_a_share(void)
{
    const dsc_stack *megatron = dsc_stack_find("megatron-2021", NULL, NULL);
    dsc_cluster *two = NULL;

    if (!CHECK_OK(dsc_cluster_load("dgx-a100-80g:2", &two))) return;
    CHECK(rate_between("dsc", two, 0, 1) == 300 && rate_between("dsc", two, 0, 8) == 25, "%g, %g",
          rate_between("dsc", two, 0, 1), rate_between("dsc", two, 0, 8));
    CHECK(fabs(rate_between("megatron-2021", two, 0, 1) - 300 * megatron->link) < 1e-9, "%g",
          rate_between("megatron-2021", two, 0, 1));
    CHECK(fabs(rate_between("megatron-2021", two, 0, 8) - 25 * megatron->network) < 1e-9, "%g",
          rate_between("megatron-2021", two, 0, 8));
    dsc_cluster_destroy(two);
}

static const tap_case cases[] = {
    {"GPU, precision, ZeRO stage and attention choose", strategies_choose},
    {"messages of gradients grow with the replicas", messages_grow_with_replicas},
    {"ZeRO 3's software keeps checkpoints in host memory", checkpoints_go_to_the_host},
    {"Megatron-Core gathers updated weights late, where replicas hold all and update parts", weights_are_gathered_late},
    {"weights of FSDP stay gathered over a step under a pipeline", weights_stay_gathered},
    {"rows past 2048 keys are scaled and masked apart", long_rows_are_masked_apart},
    {"scores of blocks and compressed elements have their bytes", elements_have_their_bytes},
    {"a strategy is filled in where it is open, and nowhere else", what_is_open_is_filled},
    {"layers are gathered ahead and recomputed as the software does", layers_are_taken_as_software_does},
    {"collectives carry a share of links and of the network", collectives_carry_a_share},
    {"launches, unfused kernels and residuals take their time", rows_have_effect},
};

int main(void)
{
    int result;

    if (dsc_cluster_load("dgx-a100-80g", &gpus) != DSC_OK || dsc_cluster_load("dgx2-v100", &older) != DSC_OK ||
        dsc_cluster_load("dgx-h100", &newer) != DSC_OK || dsc_cluster_local(&local) != DSC_OK)
        return 1;
    result = tap_run(cases, DSC_COUNT(cases), NULL);
    dsc_cluster_destroy(gpus);
    dsc_cluster_destroy(older);
    dsc_cluster_destroy(newer);
    dsc_cluster_destroy(local);
    return result;
}
