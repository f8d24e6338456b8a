/* Prices: of machines that were measured, described, or neither. */
#include "base/text.h"
#include "sim/measured.h"
#include "sim/price.h"
#include "tests/tap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- A machine whose times are known */

static dsc_shape product(int flags, int64_t m, int64_t n, int64_t k)
{
    return (dsc_shape){.kernel = DSC_K_GEMM, .flags = flags, .d = {m, n, k}};
}

/* A latency, 100 flops a ns, 10 bytes a ns; cores are shared. */
static double true_ns(const dsc_shape *shape, int ranks)
{
    return ranks * (800 + (double)dsc_kernel_flops(shape) / 100 + (double)dsc_kernel_bytes(shape) / 10);
}

static void add_sample(dsc_calibration *calibration, const dsc_shape *shape, int ranks, double ns)
{
    const dsc_kernel_sample sample = {*shape, ranks, (int64_t)(ns + 0.5)};

    CHECK_OK(DSC_PUSH(calibration->kernels, calibration->kernel_count, calibration->kernel_capacity, sample));
}

/* Products of all sizes on a lattice, with relative noise. */
static void measure_products(dsc_calibration *calibration, int flags, int ranks, double noise)
{
    static const int64_t sizes[] = {64, 256, 1024, 4096};

    for (int i = 0; i < 64; i++) {
        const dsc_shape shape = product(flags, sizes[i / 16], sizes[i / 4 % 4], sizes[i % 4]);
        const double factor = 1 + noise * (double)tap_random_between(-1000, 1000) / 1000;

        add_sample(calibration, &shape, ranks, true_ns(&shape, ranks) * factor);
    }
}

static bool are_near(double a, double b, double tolerance) { return fabs(a / b - 1) <= tolerance; }

/* ---- Measured */

static double ns_of(const dsc_calibration *calibration, const dsc_shape *shape, int64_t ranks, bool *is_sample)
{
    dsc_measured *measured = NULL;
    double ns = 0;

    if (CHECK_OK(dsc_measured_create(calibration, &measured)))
        ns = dsc_measured_ns(measured, shape, ranks, true, is_sample);
    dsc_measured_destroy(measured);
    return ns;
}

static void exact_samples_are_returned(void)
{
    dsc_calibration calibration;
    dsc_measured *measured = NULL;

    dsc_calibration_init(&calibration);
    measure_products(&calibration, 0, 1, 0.5);
    if (!CHECK_OK(dsc_measured_create(&calibration, &measured))) goto out;
    for (int64_t i = 0; i < calibration.kernel_count; i++) {
        const dsc_kernel_sample *sample = &calibration.kernels[i];
        bool is_sample = false;
        const double ns = dsc_measured_ns(measured, &sample->shape, 1, true, &is_sample);

        CHECK(is_sample && ns == (double)sample->time_ns, "%g ns, measured %lld", ns, (long long)sample->time_ns);
    }
out:
    dsc_measured_destroy(measured);
    dsc_calibration_fini(&calibration);
}

static void leave_one_out_is_exact(void)
{
    dsc_calibration calibration;
    dsc_measured *measured = NULL;
    dsc_price_error errors[DSC_KERNEL_COUNT];

    dsc_calibration_init(&calibration);
    measure_products(&calibration, 0, 1, 0);
    if (CHECK_OK(dsc_measured_create(&calibration, &measured)) &&
        CHECK_OK(dsc_measured_errors(measured, errors))) {
        const dsc_price_error *error = &errors[DSC_K_GEMM];

        CHECK(error->samples == 64, "%lld samples", (long long)error->samples);
        CHECK(error->ninety < 1e-3, "nine in ten are off by up to %g", error->ninety); /* times are whole ns */
    }
    dsc_measured_destroy(measured);
    dsc_calibration_fini(&calibration);
}

static void other_shapes_are_foretold(void)
{
    dsc_calibration calibration;

    dsc_calibration_init(&calibration);
    measure_products(&calibration, 0, 1, 0);
    for (int i = 0; i < 20; i++) {
        const dsc_shape shape = product(0, tap_random_between(50, 10000), tap_random_between(50, 50000),
                                        tap_random_between(50, 10000));
        bool is_sample = true;
        const double ns = ns_of(&calibration, &shape, 1, &is_sample);

        CHECK(!is_sample && are_near(ns, true_ns(&shape, 1), 0.01), "%g ns, in truth %g", ns, true_ns(&shape, 1));
    }
    dsc_calibration_fini(&calibration);
}

/* A bucket of so many elements over 8 ranks, in so many units; expanded from as many of so many lists. */
static dsc_shape bucket(dsc_kernel kernel, int64_t packed, int64_t units, int64_t lists)
{
    switch (kernel) {
    case DSC_K_SIGN_COMPRESS: return (dsc_shape){.kernel = (int16_t)kernel, .d = {packed, packed, 8, units}};
    case DSC_K_SIGN_AVERAGE: return (dsc_shape){.kernel = (int16_t)kernel, .d = {packed, 8, units}};
    default: return (dsc_shape){.kernel = (int16_t)kernel, .d = {lists * packed, packed, 8, units, lists}};
    }
}

/* A latency, as much again for each unit, 2 elements a ns. */
static double bucket_ns(int64_t packed, int64_t units, int64_t lists)
{
    return 800 + (double)lists * (800 * (double)units + (double)packed / 2);
}

static void check_buckets(dsc_kernel kernel)
{
    const int64_t most = kernel == DSC_K_SIGN_EXPAND ? 4 : 1;
    dsc_calibration calibration;
    bool is_sample = true;

    dsc_calibration_init(&calibration);
    for (int64_t packed = 1 << 13; packed <= 1 << 21; packed *= 4)
        for (int64_t units = 1; units <= 64; units *= 8)
            for (int64_t lists = 1; lists <= most; lists += 3) {
                const dsc_shape shape = bucket(kernel, packed, units, lists);

                add_sample(&calibration, &shape, 1, bucket_ns(packed, units, lists));
            }
    for (int64_t lists = 1; lists <= most; lists++) {
        const dsc_shape shape = bucket(kernel, 1000000, 100, lists);
        const double ns = ns_of(&calibration, &shape, 1, &is_sample), truth = bucket_ns(1000000, 100, lists);

        CHECK(!is_sample && are_near(ns, truth, 0.01), "%s of %lld lists: %g ns, in truth %g", dsc_kernel_name(kernel),
              (long long)lists, ns, truth);
    }
    dsc_calibration_fini(&calibration);
}

static void buckets_are_foretold(void)
{
    check_buckets(DSC_K_SIGN_COMPRESS);
    check_buckets(DSC_K_SIGN_AVERAGE);
    check_buckets(DSC_K_SIGN_EXPAND);
}

static void more_work_never_costs_less(void)
{
    dsc_calibration calibration;
    dsc_measured *measured = NULL;

    dsc_calibration_init(&calibration);
    measure_products(&calibration, 0, 1, 0.05);
    if (!CHECK_OK(dsc_measured_create(&calibration, &measured))) goto out;
    for (int axis = 0; axis < 3; axis++) {
        dsc_shape shape = product(0, 512, 512, 512);
        double before = 0;

        for (shape.d[axis] = 64; shape.d[axis] < 8192; shape.d[axis] += shape.d[axis] / 4) {
            bool is_sample;
            const double ns = dsc_measured_ns(measured, &shape, 1, true, &is_sample);

            CHECK(ns > 0.95 * before, "%g ns after %g at %lld of dimension %d", ns, before,
                  (long long)shape.d[axis], axis);
            before = ns;
        }
    }
out:
    dsc_measured_destroy(measured);
    dsc_calibration_fini(&calibration);
}

static void variants_follow_what_they_are_like(void)
{
    const dsc_shape samples[] = {product(DSC_HAS_BIAS, 256, 256, 256), product(DSC_HAS_BIAS, 1024, 64, 1024)};
    const dsc_shape asked = product(DSC_HAS_BIAS, 700, 300, 500);
    dsc_calibration calibration;
    bool is_sample;
    double ns;

    dsc_calibration_init(&calibration);
    measure_products(&calibration, 0, 1, 0);
    ns = ns_of(&calibration, &asked, 1, &is_sample);
    CHECK(are_near(ns, true_ns(&asked, 1), 0.02), "not measured: %g ns, in truth %g", ns, true_ns(&asked, 1));
    for (int i = 0; i < 2; i++) add_sample(&calibration, &samples[i], 1, 1.5 * true_ns(&samples[i], 1));
    ns = ns_of(&calibration, &asked, 1, &is_sample);
    CHECK(are_near(ns, 1.5 * true_ns(&asked, 1), 0.02), "%g ns, in truth %g", ns, 1.5 * true_ns(&asked, 1));
    dsc_calibration_fini(&calibration);
}

static void ranks_share_the_cores(void)
{
    static const struct { int64_t ranks; double factor; } cases[] = {{1, 1}, {2, 2}, {4, 4}, {8, 8}, {32, 32}};
    const dsc_shape shape = product(0, 300, 500, 700);
    dsc_calibration calibration;

    dsc_calibration_init(&calibration);
    measure_products(&calibration, 0, 1, 0);
    measure_products(&calibration, 0, 8, 0);
    for (int i = 0; i < DSC_COUNT(cases); i++) {
        bool is_sample;
        const double ns = ns_of(&calibration, &shape, cases[i].ranks, &is_sample);

        CHECK(are_near(ns, cases[i].factor * true_ns(&shape, 1), 0.01), "%lld ranks: %g ns, one takes %g",
              (long long)cases[i].ranks, ns, true_ns(&shape, 1));
    }
    dsc_calibration_fini(&calibration);
}

/* ---- Prices of a plan */

static dsc_prices *make_prices(const char *cluster_name, int64_t ranks, const dsc_calibration *calibration,
                               dsc_cluster **cluster)
{
    dsc_plan plan = {.ranks = ranks};
    dsc_prices *prices = NULL;

    if (CHECK_OK(dsc_cluster_load(cluster_name, cluster)))
        CHECK_OK(dsc_prices_create(&plan, *cluster, calibration, NULL, &prices));
    return prices;
}

static void what_was_not_measured_is_described(void)
{
    const dsc_shape shape = product(0, 1024, 1024, 1024);
    dsc_cluster *cluster = NULL;
    dsc_prices *prices = make_prices("local", 1, NULL, &cluster);

    if (prices != NULL) CHECK(dsc_equal(dsc_price_source(prices, &shape), "first principles"), "%s",
                              dsc_price_source(prices, &shape));
    dsc_prices_destroy(prices);
    dsc_cluster_destroy(cluster);
    cluster = NULL;
    prices = make_prices("dgx-a100-80g", 1, NULL, &cluster);
    if (prices != NULL) CHECK(dsc_equal(dsc_price_source(prices, &shape), "preset"), "%s",
                              dsc_price_source(prices, &shape));
    dsc_prices_destroy(prices);
    dsc_cluster_destroy(cluster);
}

/* One device of a description, in a cluster of its own, which the prices borrow. */
typedef struct alone { dsc_node_type node; dsc_node_group group; dsc_cluster cluster; } alone;

static dsc_prices *prices_of(dsc_device_type *device, alone *a)
{
    const dsc_plan plan = {.ranks = 1};
    dsc_prices *prices = NULL;

    a->node = (dsc_node_type){.devices = device, .device_types = 1};
    a->group = (dsc_node_group){0, 1};
    a->cluster = (dsc_cluster){.node_types = &a->node, .node_type_count = 1, .nodes = &a->group, .node_group_count = 1};
    CHECK_OK(dsc_prices_create(&plan, &a->cluster, NULL, NULL, &prices));
    return prices;
}

static void a_wave_that_is_begun_is_paid(void)
{
    dsc_device_type device = {.name = "gpu", .is_gpu = true, .count = 1, .bandwidth_bytes_per_s = 1e15,
                              .peak_flops = {[DSC_FP32] = 1e14},
                              .efficiency = {.product = 1, .attention = 1, .memory = 1, .tile_m = 128, .tile_n = 128,
                                             .multiprocessors = 16}};
    alone machine;
    const dsc_shape full = product(0, 512, 512, 4096), one_more = product(0, 513, 512, 4096);
    dsc_prices *prices = prices_of(&device, &machine);

    if (prices != NULL) {
        const double ratio = (double)dsc_price_call(prices, &one_more) / (double)dsc_price_call(prices, &full);

        /* 72 quarter tiles of 64 x 64 in 5 waves of 16, which reach 0.82, are less than 2 waves of 16 whole ones. */
        CHECK(are_near(ratio, 80 / 64.0 / 0.82, 0.01), "a row more takes %g times as long", ratio);
    }
    dsc_prices_destroy(prices);
}

/* A description may have tiles that cannot be cut. */
static void smallest_tiles_have_a_price(void)
{
    dsc_device_type device = {.name = "gpu", .is_gpu = true, .count = 1, .bandwidth_bytes_per_s = 1e15,
                              .peak_flops = {[DSC_FP32] = 1e14},
                              .efficiency = {.product = 1, .attention = 1, .memory = 1, .tile_m = 1, .tile_n = 1}};
    alone machine;
    const dsc_shape shape = product(0, 512, 512, 4096);
    dsc_prices *prices = prices_of(&device, &machine);

    if (prices != NULL)
        CHECK(are_near((double)dsc_price_call(prices, &shape), 2.0 * 512 * 512 * 4096 / 1e14 * 1e9, 0.01), "%lld ns",
              (long long)dsc_price_call(prices, &shape));
    dsc_prices_destroy(prices);
}

/* A description may have a peak that no time is long enough for. */
static void least_peaks_have_a_price(void)
{
    dsc_device_type device = {.name = "gpu", .is_gpu = true, .count = 1, .bandwidth_bytes_per_s = 1e12,
                              .peak_flops = {[DSC_FP32] = 1e-300}};
    alone machine;
    const dsc_shape shape = product(0, 512, 512, 4096);
    dsc_prices *prices = prices_of(&device, &machine);

    if (prices != NULL)
        CHECK(dsc_price_call(prices, &shape) == INT64_C(1) << 60, "%lld ns",
              (long long)dsc_price_call(prices, &shape));
    dsc_prices_destroy(prices);
}

/* Tensor cores of 8 bits reach another share of their peak. */
static void fp8_has_a_share_of_its_own(void)
{
    dsc_device_type device = {.name = "gpu", .is_gpu = true, .count = 1, .bandwidth_bytes_per_s = 1e15,
                              .peak_flops = {[DSC_BF16] = 1e14, [DSC_FP8] = 2e14},
                              .efficiency = {.product = 0.5, .product_fp8 = 0.8, .attention = 1, .memory = 1}};
    alone machine;
    dsc_shape wide = product(0, 512, 512, 4096), narrow = wide;
    dsc_prices *prices = prices_of(&device, &machine);

    wide.type = DSC_BF16;
    narrow.type = DSC_FP8;
    if (prices != NULL) {
        const double ratio = (double)dsc_price_call(prices, &wide) / (double)dsc_price_call(prices, &narrow);

        CHECK(are_near(ratio, 2 * 0.8 / 0.5, 0.01), "in bf16 it takes %g times as long", ratio);
    }
    dsc_prices_destroy(prices);
}

static void other_machines_are_refused(void)
{
    const dsc_plan plan = {.ranks = 1};
    dsc_calibration calibration;
    dsc_cluster *gpus = NULL, *local = NULL;
    dsc_prices *prices = NULL;

    dsc_calibration_init(&calibration);
    if (!CHECK_OK(dsc_cluster_load("dgx-a100-80g", &gpus)) || !CHECK_OK(dsc_cluster_load("local", &local))) goto out;
    CHECK(dsc_prices_create(&plan, local, &calibration, NULL, &prices) == DSC_EINVAL,
          "one that names no machine is taken");
    calibration.machine = dsc_cluster_json(gpus);
    CHECK(dsc_prices_create(&plan, local, &calibration, NULL, &prices) == DSC_EINVAL, "one of GPUs is taken for local");
    CHECK(prices == NULL, "prices were made");
    CHECK_OK(dsc_prices_create(&plan, gpus, &calibration, NULL, &prices));
out:
    dsc_prices_destroy(prices);
    dsc_cluster_destroy(local);
    dsc_cluster_destroy(gpus);
    dsc_calibration_fini(&calibration);
}

static void a_price_is_remembered(void)
{
    dsc_cluster *cluster = NULL;
    dsc_prices *prices = make_prices("dgx-a100-80g", 1, NULL, &cluster);
    int64_t first[1000];

    for (int pass = 0; prices != NULL && pass < 2; pass++)
        for (int i = 0; i < 1000; i++) {
            const dsc_shape shape = product(0, 128 + i, 128, 128);
            const int64_t ns = dsc_price_call(prices, &shape);

            if (pass == 0) first[i] = ns;
            else CHECK(ns == first[i], "shape %d: %lld ns, then %lld", i, (long long)first[i], (long long)ns);
        }
    dsc_prices_destroy(prices);
    dsc_cluster_destroy(cluster);
}

/* ---- Host memory */

static void ranks_share_the_host(void)
{
    const dsc_shape update = {.kernel = DSC_K_ADAM, .type = DSC_BF16, .out = DSC_BF16, .d = {1 << 24}};
    dsc_cluster *cluster = NULL;
    double ns[4] = {0};

    for (int i = 0; i < 4; i++) {
        dsc_prices *prices = make_prices("dgx-a100-80g:2", (int64_t[]){1, 4, 8, 16}[i], NULL, &cluster);

        if (prices != NULL) ns[i] = (double)dsc_price_host_call(prices, &update);
        CHECK(prices != NULL && ns[i] > (double)dsc_price_call(prices, &update), "no slower than the device");
        dsc_prices_destroy(prices);
        dsc_cluster_destroy(cluster);
        cluster = NULL;
    }
    CHECK(are_near(ns[0], (double)dsc_kernel_bytes(&update) / (0.8 * 409.6), 1e-6), "%g ns alone", ns[0]);
    CHECK(are_near(ns[1], 4 * ns[0], 1e-6) && are_near(ns[2], 8 * ns[0], 1e-6) && are_near(ns[3], ns[2], 1e-6),
          "%g, %g and %g ns for 4, 8 and 2 x 8 ranks", ns[1], ns[2], ns[3]);
}

/* On a CPU the host is the device; beside a GPU its price is its own, whatever was measured of the GPU. */
static void a_cpu_is_its_own_host(void)
{
    const dsc_shape update = {.kernel = DSC_K_ADAM, .type = DSC_FP32, .out = DSC_FP32, .d = {1 << 20}};
    dsc_cluster *cluster = NULL;
    dsc_prices *prices = make_prices("local", 1, NULL, &cluster);

    if (prices != NULL)
        CHECK(dsc_price_host_call(prices, &update) == dsc_price_call(prices, &update) &&
                  dsc_equal(dsc_price_host_source(prices, &update), "first principles"), "its price is another");
    dsc_prices_destroy(prices);
    dsc_cluster_destroy(cluster);
}

static void copies_are_interpolated(void)
{
    static const dsc_copy_sample samples[] = {{"device", "host", 1 << 20, 1000}, {"host", "device", 1 << 20, 500},
                                              {"device", "host", 1 << 22, 7000}, {"host", "device", 1 << 22, 2000}};
    static const struct { bool is_out; int64_t bytes, ns; } cases[] = {
        {true, 1 << 20, 1000}, {true, 1 << 22, 7000}, {true, 5 << 19, 4000}, {true, 1 << 24, 28000}, {true, 64, 1000},
        {false, 1 << 20, 500}, {false, 5 << 19, 1250}};
    dsc_calibration calibration;
    dsc_cluster *cluster = NULL;
    dsc_prices *prices = NULL;

    dsc_calibration_init(&calibration);
    if (!CHECK_OK(dsc_cluster_load("local", &cluster))) return;
    calibration.machine = dsc_cluster_json(cluster);
    for (int i = 0; i < DSC_COUNT(samples); i++)
        CHECK_OK(DSC_PUSH(calibration.copies, calibration.copy_count, calibration.copy_capacity, samples[i]));
    if (CHECK_OK(dsc_prices_create(&(dsc_plan){.ranks = 1}, cluster, &calibration, NULL, &prices)))
        for (int i = 0; i < DSC_COUNT(cases); i++)
            CHECK(dsc_price_copy(prices, cases[i].is_out, cases[i].bytes) == cases[i].ns, "case %d: %lld ns", i,
                  (long long)dsc_price_copy(prices, cases[i].is_out, cases[i].bytes));
    dsc_prices_destroy(prices);
    dsc_cluster_destroy(cluster);
    dsc_calibration_fini(&calibration);
}

int main(void)
{
    static const tap_case cases[] = {
        {"exact samples are returned", exact_samples_are_returned},
        {"leave-one-out on a synthetic machine is exact", leave_one_out_is_exact},
        {"shapes inside and outside the grid are foretold", other_shapes_are_foretold},
        {"buckets are, by their elements and their units", buckets_are_foretold},
        {"more work along a dimension never costs less", more_work_never_costs_less},
        {"variants follow the class that they are like", variants_follow_what_they_are_like},
        {"ranks between and beyond the measured numbers share the cores", ranks_share_the_cores},
        {"what was not measured is priced by preset, else by first principles", what_was_not_measured_is_described},
        {"a wave of tiles that is begun is paid", a_wave_that_is_begun_is_paid},
        {"the smallest tiles have a price", smallest_tiles_have_a_price},
        {"the smallest peaks have one, as long as any", least_peaks_have_a_price},
        {"products in fp8 reach a share of their own", fp8_has_a_share_of_its_own},
        {"a calibration of another kind of machine is refused", other_machines_are_refused},
        {"the same shape has the same price, however many were asked", a_price_is_remembered},
        {"the host's kernels have the node's memory, and its ranks share it", ranks_share_the_host},
        {"on a CPU the host's price is the device's", a_cpu_is_its_own_host},
        {"copies are interpolated between measured sizes, each way", copies_are_interpolated},
    };

    return tap_run(cases, DSC_COUNT(cases), NULL);
}
