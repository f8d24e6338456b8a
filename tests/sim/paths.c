/* Which paths the simulator runs for optimizers whose replicas' steps differ, and what they send. */
#include "tests/sim/scene.h"
#include "tests/tap.h"
#include <string.h>

static dsc_strategy strategy_of(int optimizer, int precision)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.optimizer = optimizer;
    s.precision = precision;
    s.tp = s.pp = 1;
    s.dp = 4;
    s.micro_batch = 1;
    s.global_batch = 4;
    return s;
}

/* The paths are these, in that order, joined by a space. */
static void takes(int optimizer, int precision, const char *paths)
{
    const dsc_strategy strategy = strategy_of(optimizer, precision);
    dsc_cluster *cluster = scene_gpus(4, 1);
    dsc_plan *plan = scene_plan_of(cluster, &strategy);
    dsc_program *program = NULL;
    dsc_text got = {0};
    dsc_trace trace;

    dsc_trace_init(&trace);
    if (plan != NULL && CHECK_OK(dsc_program_create(plan, 0, &program)))
        CHECK_OK(scene_simulate(plan, cluster, program, DSC_RANKS_FOLDED, NULL, NULL, &trace));
    for (int64_t i = 0; i < trace.step_count; i++)
        dsc_text_add(&got, "%s%s", i > 0 ? " " : "", trace.steps[i].path);
    CHECK(dsc_equal(dsc_text_str(&got), paths), "optimizer %d, %s: %s", optimizer, dsc_dtype_name(precision),
          dsc_text_str(&got));
    dsc_text_fini(&got);
    dsc_trace_fini(&trace);
    dsc_program_destroy(program);
    dsc_plan_destroy(plan);
    dsc_cluster_destroy(cluster);
}

static void adam(void)
{
    takes(DSC_ADAM, DSC_BF16, "gradients/update");
    takes(DSC_ADAM, DSC_FP16, "gradients/update gradients");
}

static void onebit(void)
{
    takes(DSC_ONEBIT_ADAM, DSC_BF16, "local/exchange gradients/update");
    takes(DSC_ONEBIT_ADAM, DSC_FP16, "local/exchange local gradients/update gradients");
}

static void lamb(void)
{
    takes(DSC_ONEBIT_LAMB, DSC_BF16, "local/exchange gradients/update");
    takes(DSC_ONEBIT_LAMB, DSC_FP16, "local/exchange local gradients/update gradients");
}

static void zero_one(void)
{
    takes(DSC_ZERO_ONE_ADAM, DSC_BF16,
          "local/step local/step/sync local/share gradients/update anchor/local/step/sync");
    takes(DSC_ZERO_ONE_ADAM, DSC_FP16,
          "local/step local local/step/sync local/sync local/share gradients/update gradients "
          "anchor/local/step/sync anchor/local");
}

/* Only what ranks agree on travels in an own step; what is shared or brought to a sync is signs. */
static void own_steps_are_silent(void)
{
    const dsc_strategy strategy = strategy_of(DSC_ZERO_ONE_ADAM, DSC_FP32);
    dsc_cluster *cluster = scene_gpus(4, 1);
    dsc_plan *plan = scene_plan_of(cluster, &strategy);
    dsc_program *program = NULL;
    dsc_trace trace;

    dsc_trace_init(&trace);
    if (plan != NULL && CHECK_OK(dsc_program_create(plan, 0, &program)) &&
        CHECK_OK(scene_simulate(plan, cluster, program, DSC_RANKS_FOLDED, NULL, NULL, &trace)) &&
        CHECK(trace.step_count == 5, "%lld paths", (long long)trace.step_count)) {
        const dsc_step_row *s = trace.steps;

        CHECK(s[0].wire_bytes < 4096, "an own step sends %lld bytes", (long long)s[0].wire_bytes);
        CHECK(s[1].wire_bytes == s[2].wire_bytes, "a sync sends %lld bytes, shared gradients %lld",
              (long long)s[1].wire_bytes, (long long)s[2].wire_bytes);
        CHECK(25 * s[1].wire_bytes < s[3].wire_bytes, "a sync sends %lld bytes, an exact step %lld",
              (long long)s[1].wire_bytes, (long long)s[3].wire_bytes);
    }
    dsc_trace_fini(&trace);
    dsc_program_destroy(program);
    dsc_plan_destroy(plan);
    dsc_cluster_destroy(cluster);
}

static const tap_case cases[] = {
    {"Adam takes one path, and another with an overflow", adam},
    {"1-bit Adam's compressed path is the first, its exact one follows", onebit},
    {"1-bit LAMB takes the same", lamb},
    {"0/1 Adam's replicas step by themselves first, then come syncs, shared gradients and exact steps", zero_one},
    {"a replica's own step sends next to nothing, a sync as much as shared gradients, far less than an exact step",
     own_steps_are_silent},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
