/* Bytes between ranks, and between the spaces of a rank, are what the theory of each stage says: Rajbhandari et al.
 * 2020, section 7, for ZeRO, Ren et al. 2021, section 3, for offload. Messages are counted where MPI is called:
 * MPI_Isend is defined here, and calls its profiling twin. */
#include "tests/comm/job.h"
#include "tests/exec/trainer.h"
#include <mpi.h>
#include <stdatomic.h>
#include <string.h>

static atomic_llong sent_bytes;

int MPI_Isend(const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *request)
{
    int size;

    MPI_Type_size(type, &size);
    atomic_fetch_add(&sent_bytes, (long long)count * size);
    return PMPI_Isend(buffer, count, type, to, tag, comm, request);
}

enum { MICRO_BATCHES = 3 };
#define MODEL "layers=3,hidden=64,heads=4,vocab=128,seq=16"

static dsc_config of_stage(int zero, int offload, int precision, int64_t micro_batches)
{
    dsc_config config = DSC_CONFIG_DEFAULT;

    config.strategy.zero = zero;
    config.strategy.offload = offload;
    config.strategy.precision = precision;
    config.strategy.micro_batch = 1;
    config.strategy.global_batch = micro_batches * dsc_comm_size(job);
    config.strategy.bucket_elems = 10000;
    return config;
}

static bool holds(const dsc_plan *plan, const dsc_bucket *bucket, dsc_role first, dsc_role last, bool is_layer)
{
    for (int64_t s = bucket->first; s < bucket->end; s++) {
        const dsc_tensor *tensor = &plan->tensors[plan->stages[0].shards[s].tensor];

        if (is_layer ? tensor->layer >= 0 : tensor->role >= first && tensor->role <= last) return true;
    }
    return false;
}

/* Elements that a micro-batch fetches: forward embeddings and layers, backward head and layers. */
static int64_t fetched_elems(const dsc_plan *plan)
{
    int64_t elems = 0;

    for (int64_t i = 0; i < plan->stages[0].bucket_count; i++) {
        const dsc_bucket *b = &plan->stages[0].buckets[i];
        bool has_layer = holds(plan, b, 0, 0, true);

        if (has_layer || holds(plan, b, DSC_ROLE_WTE, DSC_ROLE_WPE, false)) elems += b->elems;
        if (has_layer || holds(plan, b, DSC_ROLE_NORMF_W, DSC_ROLE_NORMF_B, false) ||
            holds(plan, b, DSC_ROLE_WTE, DSC_ROLE_WTE, false))
            elems += b->elems;
    }
    return elems;
}

/* What all ranks send in a step of gradients and weights. */
static int64_t expected_bytes(const dsc_plan *plan, int zero, int64_t micro_batches)
{
    int64_t n = dsc_comm_size(job), elems = plan->stages[0].flat_elems;
    int64_t gradients = elems * dsc_dtype_bytes(plan->gradient_type), weights = dsc_dtype_bytes(plan->type);

    if (zero == 0) return 2 * (n - 1) * gradients;
    if (zero == 1) return (n - 1) * (gradients + elems * weights);
    if (zero == 2) return (n - 1) * (micro_batches * gradients + elems * weights);
    return (n - 1) * micro_batches * (gradients + fetched_elems(plan) * weights);
}

static int64_t over_ranks(int64_t value)
{
    int64_t sum;

    MPI_Allreduce(&value, &sum, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    return sum;
}

/* Runs two steps and tells of the second. */
static bool run_steps(trainer *t, const dsc_config *config, dsc_step_report *report, int64_t *sent)
{
    static const char bytes[] =
        "the quick brown fox jumps over the lazy dog, and then it does so again and again, until the dog gets up and "
        "walks away; the fox, alone now, wonders what it was all about. ";
    char text[20 * sizeof bytes];

    for (size_t i = 0; i < sizeof text; i++) text[i] = bytes[i % (sizeof bytes - 1)];
    if (!CHECK_OK(trainer_init(job, MODEL, config, text, sizeof text, t))) return false;
    if (!CHECK_OK(dsc_run_step(t->run, 1, false, false, report, NULL))) return false;
    *sent = atomic_load(&sent_bytes);
    if (!CHECK_OK(dsc_run_step(t->run, 2, false, false, report, NULL))) return false;
    *sent = atomic_load(&sent_bytes) - *sent;
    return true;
}

static void between_ranks(void)
{
    const int64_t n = dsc_comm_size(job), scalars = DSC_SCALAR_COUNT * dsc_dtype_bytes(DSC_FP64);

    for (int zero = 0; zero <= 3; zero++)
        for (int precision = DSC_FP32; precision <= DSC_BF16; precision++)
            for (int64_t micro_batches = 1; micro_batches <= MICRO_BATCHES; micro_batches += 2) {
                dsc_config config = of_stage(zero, DSC_OFFLOAD_NONE, precision, micro_batches);
                dsc_step_report report;
                trainer t = {0};
                int64_t sent, expected;

                if (run_steps(&t, &config, &report, &sent)) {
                    expected = expected_bytes(t.plan, zero, micro_batches);
                    /* of few bytes, which all ranks agree on, each sends its own to all others */
                    CHECK(over_ranks(sent) == expected + n * (n - 1) * scalars,
                          "ZeRO %d, precision %d, %d micro-batches: %lld bytes, by theory %lld", zero, precision,
                          (int)micro_batches, (long long)over_ranks(sent), (long long)expected);
                    CHECK(over_ranks(report.wire_bytes) == expected + 2 * (n - 1) * scalars,
                          "ZeRO %d: the report says %lld", zero, (long long)over_ranks(report.wire_bytes));
                }
                trainer_fini(&t);
            }
}

/* In 16 bits: gradients go out once a micro-batch, weights come in once a step, or, streamed, for each pass. */
static void between_spaces(void)
{
    for (int offload = DSC_OFFLOAD_OPTIMIZER; offload <= DSC_OFFLOAD_PARAMS; offload++)
        for (int64_t micro_batches = 1; micro_batches <= MICRO_BATCHES; micro_batches += 2) {
            int zero = dsc_comm_size(job) > 1 ? 3 : 0;
            dsc_config config =
                of_stage(offload == DSC_OFFLOAD_OPTIMIZER && zero > 0 ? 2 : zero, offload, DSC_BF16, micro_batches);
            dsc_step_report report;
            trainer t = {0};
            int64_t sent, parts, in, out;

            if (run_steps(&t, &config, &report, &sent)) {
                parts = t.plan->parts;
                out = 2 * micro_batches * t.plan->stages[0].flat_elems / parts;
                in = 2 * (offload == DSC_OFFLOAD_PARAMS ? micro_batches * fetched_elems(t.plan)
                                                        : t.plan->stages[0].flat_elems) / parts;
                CHECK(report.copied_bytes[0] == in, "offload %d, %d micro-batches: %lld bytes in, by theory %lld",
                      offload, (int)micro_batches, (long long)report.copied_bytes[0], (long long)in);
                CHECK(report.copied_bytes[1] == out, "offload %d, %d micro-batches: %lld bytes out, by theory %lld",
                      offload, (int)micro_batches, (long long)report.copied_bytes[1], (long long)out);
            }
            trainer_fini(&t);
        }
}

/* So that theory, which has parameters, may be compared with elements. */
static void padding_is_small(void)
{
    dsc_config config = of_stage(3, DSC_OFFLOAD_NONE, DSC_BF16, 1);
    dsc_step_report report;
    trainer t = {0};
    int64_t sent;

    if (run_steps(&t, &config, &report, &sent)) {
        double share = (double)t.plan->stages[0].flat_elems / (double)dsc_model_parameters(&t.plan->model);

        CHECK(share < 1.01, "%g elements a parameter", share);
    }
    trainer_fini(&t);
}

static void late_gathers_send_as_much(void)
{
    for (int zero = 1; zero <= 2 && dsc_comm_size(job) > 1; zero++)
        for (int precision = DSC_FP32; precision <= DSC_BF16; precision++) {
            dsc_config config = of_stage(zero, DSC_OFFLOAD_NONE, precision, MICRO_BATCHES);
            dsc_step_report report;
            trainer t = {0};
            int64_t sent, expected;

            config.strategy.late_gather = true;
            if (run_steps(&t, &config, &report, &sent)) {
                expected = expected_bytes(t.plan, zero, MICRO_BATCHES) +
                           2 * (dsc_comm_size(job) - 1) * DSC_SCALAR_COUNT * dsc_dtype_bytes(DSC_FP64);
                CHECK(over_ranks(report.wire_bytes) == expected, "ZeRO %d, precision %d: %lld bytes, by theory %lld",
                      zero, precision, (long long)over_ranks(report.wire_bytes), (long long)expected);
            }
            trainer_fini(&t);
        }
}

static const tap_case cases[] = {
    {"bytes between ranks are the theory's for each stage of ZeRO, as MPI is given them", between_ranks},
    {"weights that are gathered late are sent once a step, as others", late_gathers_send_as_much},
    {"bytes between device and host are the theory's, each way", between_spaces},
    {"padding is below a hundredth", padding_is_small},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
