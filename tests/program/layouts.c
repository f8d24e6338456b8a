/* Every way to lay a small model over a few ranks makes programs that fit together, and that hold no more activations
 * than the schedule needs. */
#include "tests/program/machine.h"
#include "tests/tap.h"
#include <string.h>

#define MODEL "layers=16,hidden=64,heads=8,vocab=300,seq=32"

enum { MICRO_BATCHES = 8 };

static dsc_strategy layout(int64_t tp, int64_t pp, int64_t dp, int schedule)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.tp = tp;
    s.pp = pp;
    s.dp = dp;
    s.schedule = schedule;
    s.virtual_stages = schedule == DSC_INTERLEAVED && pp > 1 ? 2 : 1;
    s.micro_batch = 1;
    s.global_batch = dp * MICRO_BATCHES;
    s.bucket_elems = 1 << 13;
    return s;
}

static const char *words(const dsc_strategy *s, char out[128])
{
    snprintf(out, 128, "tp %d, pp %d, dp %d, schedule %d, sequence %d, recompute %d, order %s", (int)s->tp, (int)s->pp,
             (int)s->dp, s->schedule, s->sequence_parallel, s->recompute, s->rank_order);
    return out;
}

/* Folded, and where nothing is recomputed also all together, each rank with a program of its own: both say yes. */
static void check_layout(const dsc_strategy *s)
{
    const dsc_program *const *folded = NULL;
    char name[128];
    machine m;

    machine_init(&m, MODEL, s);
    if (s->recompute == DSC_RECOMPUTE_NONE)
        CHECK(machine_check(&m) == DSC_OK, "%s: %s", words(s, name), dsc_message());
    if (CHECK_OK(dsc_programs_create(m.plan, &folded)))
        CHECK(dsc_program_check(m.plan, folded, m.plan->ranks) == DSC_OK, "%s, folded: %s", words(s, name),
              dsc_message());
    dsc_programs_destroy(m.plan, folded);
    machine_fini(&m);
}

static void check_ways(int64_t tp, int64_t pp, int64_t dp)
{
    for (int schedule = DSC_GPIPE; schedule <= (pp > 1 ? DSC_ZB_H1 : DSC_1F1B); schedule++)
        for (int sequence = 0; sequence <= (tp > 1); sequence++)
            for (int recompute = DSC_RECOMPUTE_NONE; recompute <= DSC_RECOMPUTE_FULL; recompute++) {
                dsc_strategy s = layout(tp, pp, dp, schedule);

                s.sequence_parallel = sequence;
                s.recompute = recompute;
                check_layout(&s);
            }
}

static void every_layout_passes(void)
{
    for (int64_t ranks = 1; ranks <= 8; ranks *= 2)
        for (int64_t tp = 1; tp <= ranks; tp *= 2)
            for (int64_t pp = 1; tp * pp <= ranks; pp *= 2) check_ways(tp, pp, ranks / tp / pp);
}

static void any_order_of_axes_passes(void)
{
    static const char *const orders[] = {"tp,dp,pp", "tp,pp,dp", "dp,tp,pp", "dp,pp,tp", "pp,tp,dp", "pp,dp,tp"};

    for (int64_t i = 0; i < DSC_COUNT(orders); i++) {
        dsc_strategy s = layout(2, 2, 2, DSC_INTERLEAVED);

        strcpy(s.rank_order, orders[i]);
        s.sequence_parallel = true;
        check_layout(&s);
    }
}

/* Micro-batches that do not fill the pipeline, and many; layers that the stages do not divide. */
static void odd_numbers_pass(void)
{
    for (int draw = 0; draw < 40; draw++) {
        int schedule = (int)tap_random_between(DSC_GPIPE, DSC_ZB_H1);
        dsc_strategy s = layout(tap_random_between(1, 2), tap_random_between(1, 3), tap_random_between(1, 3), schedule);
        int64_t micro_batches = tap_random_between(1, 9);

        if (s.virtual_stages > 1) micro_batches = s.pp * tap_random_between(1, 3);
        if (s.pp == 1 && schedule == DSC_INTERLEAVED) s.schedule = DSC_1F1B;
        s.global_batch = s.dp * micro_batches;
        s.sequence_parallel = s.tp > 1 && tap_random_between(0, 1);
        s.precision = (int)tap_random_between(DSC_FP32, DSC_FP16);
        s.recompute = (int)tap_random_between(DSC_RECOMPUTE_NONE, DSC_RECOMPUTE_FULL);
        check_layout(&s);
    }
}

/* ---- Activations in flight, as the papers count them */

static int64_t slots(const dsc_strategy *s, int64_t stage)
{
    dsc_program *program = NULL;
    int64_t copies = -1;
    machine m;

    machine_init(&m, MODEL, s);
    if (CHECK_OK(dsc_program_create(m.plan, stage, &program)))
        copies = program->regions[DSC_SPACE_DEVICE][DSC_LIFE_SLOT].copies;
    dsc_program_destroy(program);
    machine_fini(&m);
    return copies;
}

/* Narayanan et al. 2021, section 2.2: the warm-up of stage r, and the micro-batch that runs. */
static int64_t interleaved_slots(int64_t p, int64_t v, int64_t r, int64_t m)
{
    return DSC_MIN(2 * (p - r - 1) + (v - 1) * p + 1, m * v);
}

static void slots_are_those_of_theory(void)
{
    for (int64_t p = 2; p <= 4; p++)
        for (int64_t k = 1; k <= 3; k++)
            for (int64_t r = 0; r < p; r++) {
                const int64_t m = k * p;
                const int64_t expected[] = {[DSC_GPIPE] = m,
                                            [DSC_1F1B] = DSC_MIN(p - r, m),
                                            [DSC_INTERLEAVED] = interleaved_slots(p, 2, r, m)};

                for (int schedule = DSC_GPIPE; schedule <= DSC_INTERLEAVED; schedule++) {
                    dsc_strategy s = layout(1, p, 1, schedule);
                    int64_t made;

                    s.global_batch = m;
                    made = slots(&s, r);
                    CHECK(made == expected[schedule], "schedule %d, p %d, stage %d, %d micro-batches: %d slots, not %d",
                          schedule, (int)p, (int)r, (int)m, (int)made, (int)expected[schedule]);
                }
            }
}

/* Qi et al. 2024: ZB-H1 holds no more than the first stage of 1F1B. */
static void zero_bubble_takes_no_more(void)
{
    for (int64_t p = 2; p <= 4; p++)
        for (int64_t m = 1; m <= 3 * p; m++)
            for (int64_t r = 0; r < p; r++) {
                dsc_strategy s = layout(1, p, 1, DSC_ZB_H1);
                int64_t made;

                s.global_batch = m;
                made = slots(&s, r);
                CHECK(made <= DSC_MIN(p, m), "p %d, stage %d, %d micro-batches: %d slots", (int)p, (int)r, (int)m,
                      (int)made);
            }
}

/* ---- At scale */

static int64_t lines_of(const char *text)
{
    int64_t lines = 0;

    for (; *text != '\0'; text++) lines += *text == '\n';
    return lines;
}

/* 1T parameters on 3072 devices. */
static void large_machines_pass(void)
{
    dsc_strategy s = layout(8, 64, 6, DSC_INTERLEAVED);
    const dsc_program *const *programs = NULL;
    dsc_cluster *cluster = machine_cluster(1, 3072);
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_plan *plan = NULL;
    dsc_text text = {0};
    dsc_model model;

    s.global_batch = 6 * 512;
    s.sequence_parallel = true;
    s.precision = DSC_BF16;
    s.recompute = DSC_RECOMPUTE_FULL;
    s.bucket_elems = 0;
    config.strategy = s;
    CHECK_OK(dsc_model_load("gpt-1t", &model));
    if (CHECK_OK(dsc_plan_create(&model, cluster, &config, &plan)) && CHECK_OK(dsc_programs_create(plan, &programs))) {
        CHECK_OK(dsc_program_check(plan, programs, plan->ranks));
        dsc_programs_print(plan, programs, &text);
        CHECK(lines_of(dsc_text_str(&text)) < 40, "%d lines", (int)lines_of(dsc_text_str(&text)));
    }
    dsc_text_fini(&text);
    dsc_programs_destroy(plan, programs);
    dsc_plan_destroy(plan);
    dsc_cluster_destroy(cluster);
}

static void schedules_print_as_passes(void)
{
    static const struct { int schedule; const char *first, *last; } rows[] = {
        {DSC_GPIPE, "clear F0-3 B0-3 rest norm agree", "clear F0-3 B0-3 rest norm agree"},
        {DSC_1F1B, "clear F0-2 B0 F3 B1-3 rest norm agree", "clear F0 B0 F1 B1 F2 B2 F3 B3 rest norm agree"},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_strategy s = layout(1, 3, 1, rows[i].schedule);
        dsc_text text = {0};
        machine m;

        s.global_batch = 4;
        machine_init(&m, MODEL, &s);
        dsc_programs_print(m.plan, (const dsc_program *const *)m.programs, &text);
        CHECK(strstr(dsc_text_str(&text), rows[i].first) != NULL, "no %s in\n%s", rows[i].first, dsc_text_str(&text));
        CHECK(strstr(dsc_text_str(&text), rows[i].last) != NULL, "no %s in\n%s", rows[i].last, dsc_text_str(&text));
        dsc_text_fini(&text);
        machine_fini(&m);
    }
}

static const tap_case cases[] = {
    {"every layout of 1, 2, 4 and 8 ranks with every schedule passes the check", every_layout_passes},
    {"any order of axes passes the check", any_order_of_axes_passes},
    {"odd numbers of layers, stages and micro-batches pass the check", odd_numbers_pass},
    {"slots are as many as micro-batches of GPipe, 1F1B and interleaved are in flight", slots_are_those_of_theory},
    {"ZB-H1 holds at most as many micro-batches as there are stages", zero_bubble_takes_no_more},
    {"1T parameters on 3072 devices pass the check and print on one screen", large_machines_pass},
    {"schedules print as their passes", schedules_print_as_passes},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
