/* Programs of ZeRO and of offload: every combination makes programs that fit together, and one that was spoiled in one
 * place is refused. */
#include "tests/program/machine.h"
#include "tests/tap.h"
#include <string.h>

#define MODEL "layers=8,hidden=32,heads=4,vocab=100,seq=16"

static dsc_strategy layout(int64_t tp, int64_t pp, int64_t dp, int zero, int offload)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.tp = tp;
    s.pp = pp;
    s.dp = dp;
    s.zero = zero;
    s.offload = offload;
    s.micro_batch = 1;
    s.global_batch = 3 * dp;
    s.bucket_elems = 3000;
    s.sequence_parallel = tp > 1;
    return s;
}

static bool is_legal(const dsc_strategy *s)
{
    bool is_split = s->schedule == DSC_ZB_H1 && s->zero >= 2;
    bool is_apart = s->offload == DSC_OFFLOAD_PARAMS && s->dp > 1 && (s->zero == 1 || s->zero == 2);
    bool has_ratio = s->offload == DSC_OFFLOAD_OPTIMIZER || s->offload_ratio == 1;
    bool has_delay = s->delay_update == 0 || (s->offload == DSC_OFFLOAD_OPTIMIZER && s->offload_ratio == 1);
    bool has_gather = (s->zero == 1 || s->zero == 2) && s->dp > 1 && s->offload == DSC_OFFLOAD_NONE;

    return !is_split && !is_apart && has_ratio && has_delay && (has_gather || !s->late_gather);
}

static void check_layout(const dsc_strategy *s)
{
    const dsc_program *const *folded = NULL;
    machine m;

    if (!is_legal(s)) return;
    machine_init(&m, MODEL, s);
    CHECK(machine_check(&m) == DSC_OK, "zero %d, offload %d of %g, tp %d, pp %d, dp %d, schedule %d, delay %d: %s",
          s->zero, s->offload, s->offload_ratio, (int)s->tp, (int)s->pp, (int)s->dp, s->schedule, (int)s->delay_update,
          dsc_message());
    if (CHECK_OK(dsc_programs_create(m.plan, &folded)))
        CHECK(dsc_program_check(m.plan, folded, m.plan->ranks) == DSC_OK, "folded: %s", dsc_message());
    dsc_programs_destroy(m.plan, folded);
    machine_fini(&m);
}

static void every_combination_passes(void)
{
    for (int64_t ranks = 1; ranks <= 8; ranks *= 2)
        for (int64_t tp = 1; tp <= DSC_MIN(ranks, 4); tp *= 2)
            for (int64_t pp = 1; tp * pp <= ranks; pp *= 2)
                for (int combination = 0; combination < 12; combination++) {
                    dsc_strategy s = layout(tp, pp, ranks / tp / pp, combination % 4, combination / 4);

                    check_layout(&s);
                    s.late_gather = true;
                    check_layout(&s);
                }
}

static void random_combinations_pass(void)
{
    for (int draw = 0; draw < 150; draw++) {
        dsc_strategy s = layout(tap_random_between(1, 2), tap_random_between(1, 3), tap_random_between(1, 3),
                                (int)tap_random_between(0, 3), (int)tap_random_between(0, 2));

        machine_random(&s);
        s.prefetch = tap_random_between(0, 3);
        s.offload_ratio = s.offload == DSC_OFFLOAD_OPTIMIZER ? (double)tap_random_between(0, 16) / 16 : 1;
        s.partition = (int)tap_random_between(DSC_PARTITION_UNIFORM, DSC_PARTITION_COST);
        s.delay_update = tap_random_between(0, 1);
        s.late_gather = s.offload == DSC_OFFLOAD_NONE && tap_random_between(0, 1);
        check_layout(&s);
    }
}

/* ---- What the check must refuse */

enum { LAYOUTS = 8 };

static dsc_strategy spoiled_layout(int which)
{
    static const struct { int64_t tp, pp, dp; int zero, offload; int64_t delay; bool late; } rows[LAYOUTS] = {
        {1, 1, 2, 1, DSC_OFFLOAD_NONE, 0, false},      {1, 1, 2, 2, DSC_OFFLOAD_NONE, 0, false},
        {2, 1, 2, 3, DSC_OFFLOAD_NONE, 0, false},      {1, 1, 1, 0, DSC_OFFLOAD_PARAMS, 0, false},
        {1, 2, 2, 1, DSC_OFFLOAD_OPTIMIZER, 0, false}, {1, 1, 2, 2, DSC_OFFLOAD_OPTIMIZER, 1, false},
        {2, 2, 2, 2, DSC_OFFLOAD_NONE, 0, true},       {1, 1, 3, 1, DSC_OFFLOAD_NONE, 0, true}};
    dsc_strategy s = layout(rows[which].tp, rows[which].pp, rows[which].dp, rows[which].zero, rows[which].offload);

    s.delay_update = rows[which].delay;
    s.late_gather = rows[which].late;
    s.precision = which % 2 ? DSC_BF16 : DSC_FP32;
    return s;
}

static void drop_random(int which)
{
    dsc_strategy s = spoiled_layout(which);
    char how[120];
    machine m;
    int64_t rank, t;
    int32_t op;

    machine_init(&m, MODEL, &s);
    machine_pick(&m, &rank, &t, &op);
    snprintf(how, sizeof how, "layout %d without op %d of %s, %s", which, op, m.programs[rank]->templates[t].name,
             DSC_OP_NAMES[m.programs[rank]->templates[t].ops[op].kind]);
    machine_drop_everywhere(&m, rank, t, op);
    machine_refuses(&m, how, "rank ");
    machine_fini(&m);
}

static void drops_any_op(void)
{
    for (int draw = 0; draw < 320; draw++) drop_random(draw % LAYOUTS);
}

/* Kinds of ZeRO and offload by name: each has words of its own where only its history can tell. */
static void drops_what_moves(void)
{
    static const struct { int which, kind, axis; const char *words; } rows[] = {
        {0, DSC_OP_REDUCE_SCATTER, DSC_AXIS_DP, "reads what nobody wrote: sums"},
        {0, DSC_OP_ALL_GATHER, DSC_AXIS_DP, "no op writes some of parameters"},
        {1, DSC_OP_ACCUMULATE, -1, "some micro-batch has not added"},
        {0, DSC_OP_CLEAR, -1, "reads what nobody wrote: scalars"},
        {2, DSC_OP_ALL_GATHER, DSC_AXIS_DP, "reads what nobody wrote: weights"},
        {3, DSC_OP_COPY_IN, -1, "reads what nobody wrote: weights"},
        {3, DSC_OP_COPY_OUT, -1, "reads what nobody wrote: arrived gradients"},
        {4, DSC_OP_COPY_IN, -1, "reads what nobody wrote: part of weights"},
        {4, DSC_OP_UPDATE, -1, "no op writes some of master"},
        {5, DSC_OP_GRAD_NORM, -1, "no norm has counted"},
        {5, DSC_OP_ROUND, -1, "reads what nobody wrote: copy"},
        {6, DSC_OP_ALL_GATHER, DSC_AXIS_DP, "reads weights of before the last update, of parameters"},
        {7, DSC_OP_ALL_GATHER, DSC_AXIS_DP, "reads weights of before the last update, of parameters"},
        {7, DSC_OP_UPDATE, -1, "no op writes some of parameters"},
        {7, DSC_OP_ROUND, -1, "reads weights of before the last update, of parameters"},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_strategy s = spoiled_layout(rows[i].which);
        int64_t t = 0;
        int32_t op = 0;
        machine m;

        machine_init(&m, MODEL, &s);
        if (CHECK(machine_find_next(m.programs[0], rows[i].kind, rows[i].axis, &t, &op), "no %s in layout %d",
                  DSC_OP_NAMES[rows[i].kind], rows[i].which)) {
            machine_drop_everywhere(&m, 0, t, op);
            machine_refuses(&m, DSC_OP_NAMES[rows[i].kind], rows[i].words);
        }
        machine_fini(&m);
    }
}

/* A sum that begins anew with a later micro-batch loses those before. */
static void forgets_a_micro_batch(void)
{
    dsc_strategy s = spoiled_layout(1);
    int64_t t = 0;
    int32_t op = 0;
    machine m;

    machine_init(&m, MODEL, &s);
    for (int found = 0; found < 2 && machine_find_next(m.programs[0], DSC_OP_ACCUMULATE, -1, &t, &op); op++) {
        dsc_template *template_ = &m.programs[0]->templates[t];
        dsc_call *call = &template_->calls[template_->ops[op].first_call];

        if (!(call->shape.flags & DSC_ACCUMULATE)) continue;
        call->shape.flags &= ~DSC_ACCUMULATE;
        found = 2;
    }
    machine_refuses(&m, "a sum that begins anew", "some micro-batch has not added its part");
    machine_fini(&m);
}

/* Of a span of parts, on all ranks the range of one, the first or the last. */
static void spoil_part(dsc_span *span, bool is_last)
{
    span->offset += is_last ? (span->parts - 1) * span->bytes : 0;
    span->parts = 0;
}

static void takes_a_part_for_another(void)
{
    for (int way = 0; way < 4; way++) {
        dsc_strategy s = spoiled_layout(7);
        const dsc_op_kind kind = way / 2 == 0 ? DSC_OP_UPDATE : DSC_OP_ALL_GATHER;
        int64_t t = 0;
        int32_t op = 0;
        machine m;

        machine_init(&m, MODEL, &s);
        if (CHECK(machine_find(m.programs[0], kind, &t, &op), "no %s", DSC_OP_NAMES[kind]))
            for (int64_t rank = 0; rank < m.plan->ranks; rank++) {
                dsc_template *template_ = &m.programs[rank]->templates[t];
                const int32_t call = template_->ops[op].first_call;

                spoil_part(kind == DSC_OP_UPDATE ? &template_->calls[call].operands[4] : &template_->ops[op].source,
                           way % 2 == 1);
                machine_depend(m.programs[rank]);
            }
        machine_refuses(&m, "a part that is not the rank's own",
                        kind == DSC_OP_UPDATE ? "no op writes some of parameters"
                                              : "reads weights of before the last update");
        machine_fini(&m);
    }
}

static const tap_case cases[] = {
    {"ZeRO 0 to 3 with each kind of offload make right programs on 1 to 8 ranks", every_combination_passes},
    {"random schedules, precisions, bucket sizes, ratios and delays make right programs", random_combinations_pass},
    {"a program without any one of its ops is refused", drops_any_op},
    {"a program without what reduces, gathers, copies or adds is refused, by what is missing", drops_what_moves},
    {"a sum that a later micro-batch begins anew is refused", forgets_a_micro_batch},
    {"a part of new weights that is not the rank's own is refused", takes_a_part_for_another},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
