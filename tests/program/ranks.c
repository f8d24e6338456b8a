/* What the whole-machine check must refuse where ranks differ in what they do: programs for tensor ranks, stages and
 * replicas that were right and were spoiled in one place. */
#include "tests/program/machine.h"
#include "tests/tap.h"
#include <string.h>

#define MODEL "layers=8,hidden=32,heads=4,vocab=100,seq=16"
#define LLAMA MODEL ",kv_heads=2,gated=1,norm=rms,pos=rope,tied=0"

enum { MICRO_BATCHES = 4, CUT, PIPELINE, ZERO_BUBBLE, LAYOUTS = 3 };

/* tp 2, pp 2, dp 2 with two chunks and sequence parallelism; or four stages. */
static dsc_strategy layout(int which)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.tp = s.dp = which == CUT ? 2 : 1;
    s.pp = which == CUT ? 2 : 4;
    s.sequence_parallel = which == CUT;
    s.virtual_stages = which == CUT ? 2 : 1;
    s.schedule = which == CUT ? DSC_INTERLEAVED : which == PIPELINE ? DSC_1F1B : DSC_ZB_H1;
    s.micro_batch = 1;
    s.global_batch = s.dp * MICRO_BATCHES;
    s.bucket_elems = 1 << 11;
    return s;
}

static void make_of(machine *m, const char *model, int which)
{
    dsc_strategy s = layout(which);

    machine_init(m, model, &s);
    CHECK_OK(machine_check(m));
}

static void make(machine *m, int which) { make_of(m, MODEL, which); }

static int64_t stage_of(const machine *m, int64_t rank) { return dsc_plan_coord(m->plan, rank).of[DSC_AXIS_PP]; }

static int64_t rank_of_stage(const machine *m, int64_t stage)
{
    int64_t rank = 0;

    while (stage_of(m, rank) != stage) rank++;
    return rank;
}

/* The check says no, names ranks and ops, and the words. */
static void refused(const machine *m, const char *how, const char *words)
{
    dsc_status status = machine_check(m);

    CHECK(status == DSC_EINVAL, "%s is accepted", how);
    CHECK(strstr(dsc_message(), "rank ") != NULL && strstr(dsc_message(), "op ") != NULL &&
              strstr(dsc_message(), words) != NULL,
          "%s: no rank, op or \"%s\" in \"%s\"", how, words, dsc_message());
}

/* Without the op on one rank, or on all that have the program (rank -1), as if a builder had forgotten it. */
static void drop(const machine *m, int64_t stage, int64_t rank, int64_t t, int32_t op)
{
    for (int64_t r = 0; r < m->plan->ranks; r++) {
        if (stage_of(m, r) != stage || (rank >= 0 && r != rank)) continue;
        machine_drop(m->programs[r], t, op);
        machine_depend(m->programs[r]);
    }
}

static void drop_random(const char *model, int which, bool is_one_rank)
{
    char how[120];
    machine m;
    int64_t rank, t;
    int32_t op;

    make_of(&m, model, which);
    rank = tap_random_between(0, m.plan->ranks - 1);
    do t = tap_random_between(0, m.programs[rank]->template_count - 1);
    while (m.programs[rank]->templates[t].op_count == 0);
    op = (int32_t)tap_random_between(0, m.programs[rank]->templates[t].op_count - 1);
    snprintf(how, sizeof how, "layout %d without op %d of stage %d's %s, %s, %s", which, op, (int)stage_of(&m, rank),
             m.programs[rank]->templates[t].name, DSC_OP_NAMES[m.programs[rank]->templates[t].ops[op].kind],
             is_one_rank ? "on one rank" : "on all ranks");
    drop(&m, stage_of(&m, rank), is_one_rank ? rank : -1, t, op);
    refused(&m, how, "");
    machine_fini(&m);
}

static void drops_any_op_of_a_stage(void)
{
    for (int draw = 0; draw < 150; draw++) drop_random(draw % 2 ? LLAMA : MODEL, CUT + draw % LAYOUTS, false);
}

static void drops_any_op_of_a_rank(void)
{
    for (int draw = 0; draw < 150; draw++) drop_random(draw % 2 ? LLAMA : MODEL, CUT + draw % LAYOUTS, true);
}

/* What makes a step right and only the whole machine, or a sum's history, can tell. */
static void drops_what_sums(void)
{
    static const struct { int kind, axis; const char *words; } rows[] = {
        {DSC_OP_ALL_REDUCE, DSC_AXIS_TIED, "not summed over tied"},
        {DSC_OP_ALL_REDUCE, DSC_AXIS_TP, "not summed over tp"},
        {DSC_OP_ALL_REDUCE, DSC_AXIS_DP, "not summed over dp"},
        {DSC_OP_REDUCE_SCATTER, DSC_AXIS_TP, ""},
        {DSC_OP_ALL_GATHER, DSC_AXIS_TP, "reads what nobody wrote"},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++)
        for (int64_t stage = 0; stage < 2; stage++) {
            int64_t t = 0, other = 1 - stage;
            int32_t op = 0;
            machine m;

            make(&m, CUT);
            if (CHECK(machine_find_next(m.programs[rank_of_stage(&m, stage)], rows[i].kind, rows[i].axis, &t, &op),
                      "no %s over %s", DSC_OP_NAMES[rows[i].kind], DSC_AXIS_NAMES[rows[i].axis]))
                drop(&m, stage, -1, t, op);
            t = op = 0;
            if (rows[i].axis == DSC_AXIS_TIED &&
                machine_find_next(m.programs[rank_of_stage(&m, other)], rows[i].kind, rows[i].axis, &t, &op))
                drop(&m, other, -1, t, op);
            refused(&m, "a program without a sum", rows[i].words);
            machine_fini(&m);
        }
}

/* Without sequence parallelism the sum over tensor ranks is in place: only that it is missing can be seen. */
static void drops_a_sum_in_place(void)
{
    dsc_strategy s = layout(CUT);

    s.sequence_parallel = false;
    for (int draw = 0; draw < 20; draw++) {
        int64_t t = 0, skipped = tap_random_between(0, 12), stage = tap_random_between(0, 1);
        int32_t op = 0;
        machine m;

        machine_init(&m, MODEL, &s);
        while (machine_find_next(m.programs[rank_of_stage(&m, stage)], DSC_OP_ALL_REDUCE, DSC_AXIS_TP, &t, &op) &&
               skipped-- > 0)
            op++;
        drop(&m, stage, -1, t, op);
        refused(&m, "partial sums that nobody adds up", "reads a part that is not summed over tp");
        machine_fini(&m);
    }
}

/* A gated MLP's second product adds to the first, which is a part as it is: here to the gathered gradient instead. */
static void adds_a_part_to_what_is_whole(void)
{
    machine m;
    int64_t t;
    int32_t op;

    make_of(&m, LLAMA, CUT);
    if (CHECK(machine_find(m.programs[0], DSC_OP_MLP_BWD_X, &t, &op), "no MLP")) {
        dsc_template *template_ = &m.programs[0]->templates[t];
        dsc_call *first = &template_->calls[template_->ops[op].first_call];
        dsc_call *last = first + template_->ops[op].calls - 1;

        CHECK(last->shape.kernel == DSC_K_GEMM && last->shape.flags & DSC_ACCUMULATE, "the last product does not add");
        last->operands[4] = first->operands[0];
        machine_depend(m.programs[0]);
        refused(&m, "a part that is added to a whole product", "adds a part to what is whole");
    }
    machine_fini(&m);
}

static void sums_twice(void)
{
    int64_t t = 0;
    int32_t op = 0;
    machine m;

    make(&m, CUT);
    for (int64_t rank = 0; rank < m.plan->ranks; rank++) {
        dsc_program *program = m.programs[rank];

        t = op = 0;
        if (CHECK(machine_find_next(program, DSC_OP_ALL_REDUCE, DSC_AXIS_TIED, &t, &op), "no tied sum"))
            program->templates[t].ops[op - 1] = program->templates[t].ops[op];
        machine_depend(program);
    }
    refused(&m, "a program that sums twice", "summed before");
    machine_fini(&m);
}

static void drops_an_accumulation(void)
{
    for (int which = CUT; which < CUT + LAYOUTS; which++) {
        dsc_program *program;
        bool is_found = false;
        machine m;

        make(&m, which);
        program = m.programs[m.plan->ranks - 1];
        for (int64_t t = 0; t < program->template_count && !is_found; t++)
            for (int64_t i = 0; i < program->templates[t].call_count && !is_found; i++) {
                dsc_shape *shape = &program->templates[t].calls[i].shape;

                is_found = shape->kernel == DSC_K_GEMM && shape->flags & DSC_ACCUMULATE;
                if (is_found) shape->flags &= ~DSC_ACCUMULATE;
            }
        CHECK(is_found, "no product accumulates");
        refused(&m, "a product that forgets what was there", "");
        machine_fini(&m);
    }
}

/* ---- Messages */

static dsc_op *message_of(const machine *m, int64_t rank, dsc_op_kind kind)
{
    int64_t t;
    int32_t op;

    if (!CHECK(machine_find(m->programs[rank], kind, &t, &op), "no %s", DSC_OP_NAMES[kind])) return NULL;
    return &m->programs[rank]->templates[t].ops[op];
}

static void takes_a_wrong_channel(void)
{
    for (int which = CUT; which < CUT + LAYOUTS; which++)
        for (int kind = DSC_OP_SEND; kind <= DSC_OP_RECV; kind++) {
            machine m;
            dsc_op *op;

            make(&m, which);
            if ((op = message_of(&m, m.plan->ranks - 1, kind)) != NULL) op->channel += 2;
            refused(&m, "a wrong channel", "channel");
            machine_fini(&m);
        }
}

static void names_a_wrong_peer(void)
{
    static const int32_t wrong[] = {1, 2, 3, 7, -1}; /* stage 1 talks to 0 and 2 */

    for (int64_t i = 0; i < DSC_COUNT(wrong); i++)
        for (int kind = DSC_OP_SEND; kind <= DSC_OP_RECV; kind++) {
            machine m;
            dsc_op *op;

            make(&m, PIPELINE);
            op = message_of(&m, 1, kind);
            if (op != NULL && op->peer != wrong[i]) {
                op->peer = wrong[i];
                refused(&m, "a wrong peer", wrong[i] == 7 || wrong[i] == -1 ? "does not exist" : "never starts");
            }
            machine_fini(&m);
        }
}

static void shortens_a_message(void)
{
    machine m;
    dsc_op *op;

    make(&m, PIPELINE);
    if ((op = message_of(&m, 2, DSC_OP_SEND)) != NULL) op->bytes = op->data.bytes -= 64;
    refused(&m, "a shorter message", "bytes ");
    machine_fini(&m);
}

static void drops_a_message(void)
{
    for (int kind = DSC_OP_SEND; kind <= DSC_OP_RECV; kind++)
        for (int64_t rank = 0; rank < 4; rank++) {
            int64_t t;
            int32_t op;
            machine m;

            make(&m, PIPELINE);
            if (machine_find(m.programs[rank], kind, &t, &op)) machine_drop(m.programs[rank], t, op);
            refused(&m, "a message without its other end", kind == DSC_OP_SEND ? "" : "nobody wrote");
            machine_fini(&m);
        }
}

/* Each rank alone is content. */
static void sends_to_nobody(void)
{
    machine m;

    make(&m, PIPELINE);
    for (int64_t rank = 1; rank < 4; rank++) m.programs[rank]->segments[DSC_SEGMENT_EVALUATE].use_count = 0;
    refused(&m, "evaluation on the first stage only", "rank 1 has no partner for it left in lane pp_recv");
    machine_fini(&m);
}

/* Forward and backward messages of a stage take each other's way. */
static void swaps_two_sends(void)
{
    for (int which = PIPELINE; which <= ZERO_BUBBLE; which++) {
        machine m;
        dsc_program *program;
        int64_t t = 0;
        int32_t op = 0;
        dsc_op *first = NULL;

        make(&m, which);
        program = m.programs[1];
        for (; machine_find_next(program, DSC_OP_SEND, DSC_AXIS_PP, &t, &op); op++) {
            dsc_op *send = &program->templates[t].ops[op];
            int32_t peer = send->peer, channel = send->channel;

            if (first == NULL) first = send;
            if (first->channel == channel) continue;
            send->peer = first->peer;
            send->channel = first->channel;
            first->peer = peer;
            first->channel = channel;
            break;
        }
        refused(&m, "two sends exchanged", "");
        machine_fini(&m);
    }
}

/* A stage that takes the first two micro-batches for each other, everywhere: only its neighbours can tell. */
static void mixes_up_micro_batches(void)
{
    for (int which = CUT; which < CUT + LAYOUTS; which++)
        for (int64_t stage = 0; stage < (which == CUT ? 2 : 4); stage++) {
            machine m;

            make(&m, which);
            for (int64_t rank = 0; rank < m.plan->ranks; rank++) {
                if (stage_of(&m, rank) != stage) continue;
                for (int s = 0; s < DSC_SEGMENT_COUNT; s++)
                    for (int64_t u = 0; u < m.programs[rank]->segments[s].use_count; u++) {
                        dsc_use *use = &m.programs[rank]->segments[s].uses[u];

                        if (use->micro_batch == 0 || use->micro_batch == 1) use->micro_batch = 1 - use->micro_batch;
                    }
            }
            refused(&m, "a stage with other micro-batches", "micro-batch");
            machine_fini(&m);
        }
}

/* ---- Cycles */

static void waits_for_its_answer(void)
{
    machine m;
    dsc_segment *segment;
    int64_t first, backward = 0;

    make(&m, PIPELINE);
    segment = &m.programs[0]->segments[DSC_SEGMENT_GRADIENTS];
    while (!m.programs[0]->templates[segment->uses[backward].template_].is_forward) backward++;
    first = backward;
    while (m.programs[0]->templates[segment->uses[backward].template_].is_forward) backward++;
    machine_move_up(m.programs[0], DSC_SEGMENT_GRADIENTS, backward, first + 1);
    refused(&m, "a first stage that waits for the first gradient before it sends more", "a cycle");
    machine_fini(&m);
}

static void waits_for_what_comes_later(void)
{
    machine m;
    int64_t t;
    int32_t op;

    make(&m, PIPELINE);
    if (CHECK(machine_find(m.programs[1], DSC_OP_RECV, &t, &op), "no receive")) {
        dsc_template *template_ = &m.programs[1]->templates[t];
        dsc_dep on_send = {(int32_t)template_->op_count - 1};

        template_->ops[op].first_dep = (int32_t)template_->dep_count;
        template_->ops[op].deps = 1;
        CHECK_OK(DSC_PUSH(template_->deps, template_->dep_count, template_->dep_capacity, on_send));
        refused(&m, "a receive that waits for the send behind it", "a cycle");
    }
    machine_fini(&m);
}

/* ---- Collectives */

/* Two of a template that go over one axis, at random, with other data: false when there are none. */
static bool find_two(const dsc_program *program, int axis, dsc_op *out[2])
{
    for (int64_t t = 0; t < program->template_count; t++) {
        int found = 0;

        for (int64_t i = 0; i < program->templates[t].op_count; i++) {
            dsc_op *op = &program->templates[t].ops[i];

            if (op->axis != axis || tap_random_between(0, 1)) continue;
            if (found > 0 && op->data.buffer == out[0]->data.buffer && op->data.offset == out[0]->data.offset) continue;
            out[found++] = op;
            if (found == 2) return true;
        }
    }
    return false;
}

static void swaps_two_collectives(void)
{
    static const int axes[] = {DSC_AXIS_TP, DSC_AXIS_DP};

    for (int draw = 0; draw < 20; draw++) {
        int64_t rank = tap_random_between(0, 7);
        dsc_op *two[2], swap;
        machine m;

        make(&m, CUT);
        if (find_two(m.programs[rank], axes[draw % 2], two)) {
            swap = *two[0];
            *two[0] = *two[1];
            *two[1] = swap;
            machine_depend(m.programs[rank]);
            refused(&m, "two collectives exchanged on one rank", "");
        }
        machine_fini(&m);
    }
}

/* Buckets of equal size, exchanged where both are complete: each rank alone is content, but what is summed would be two
 * pieces. With ZB-H1 norms are complete before the last pass, that of the weights, begins. */
static void sums_another_piece(void)
{
    dsc_strategy s = layout(ZERO_BUBBLE);
    const int64_t norm_bytes = 2 * 32 * dsc_dtype_bytes(DSC_FP32); /* weight and bias */
    dsc_op *found[2];
    int64_t t = 0;
    int32_t op = 0;
    int count = 0;
    machine m;

    s.pp = s.dp = 2;
    s.global_batch = 2 * MICRO_BATCHES;
    s.bucket_elems = 1;
    machine_init(&m, MODEL, &s);
    CHECK_OK(machine_check(&m));
    for (; count < 2 && machine_find_next(m.programs[3], DSC_OP_ALL_REDUCE, DSC_AXIS_DP, &t, &op); op++)
        if (m.programs[3]->templates[t].ops[op].bytes == norm_bytes)
            found[count++] = &m.programs[3]->templates[t].ops[op];
    if (CHECK(count == 2, "no two buckets of one size")) {
        dsc_span swap = found[0]->data;

        found[0]->data = found[1]->data;
        found[1]->data = swap;
        machine_depend(m.programs[3]);
        refused(&m, "another piece than the other replica's", "first byte of data");
    }
    machine_fini(&m);
}

static void changes_one_rank_of_many(void)
{
    for (int draw = 0; draw < 20; draw++) {
        int64_t t = 0, rank = tap_random_between(0, 7);
        int32_t op = 0;
        dsc_op *here;
        machine m;

        make(&m, CUT);
        if (machine_find_next(m.programs[rank], DSC_OP_ALL_GATHER, DSC_AXIS_TP, &t, &op)) {
            here = &m.programs[rank]->templates[t].ops[op];
            if (draw % 2) here->type = here->type == DSC_FP32 ? DSC_BF16 : DSC_FP32;
            else here->axis = DSC_AXIS_DP;
            refused(&m, "an all-gather that is another on one rank", "");
        }
        machine_fini(&m);
    }
}

/* Where all ranks of a stage share a program, one stands for them; what it does wrong is found as well. */
static void refuses_folded_machines(void)
{
    dsc_strategy s = layout(CUT);
    const dsc_program *const *programs = NULL;
    machine m;
    dsc_op *op;
    int64_t t;
    int32_t index;

    machine_init(&m, MODEL, &s);
    if (CHECK_OK(dsc_programs_create(m.plan, &programs))) {
        dsc_program *last = (dsc_program *)programs[m.plan->ranks - 1];

        CHECK_OK(dsc_program_check(m.plan, programs, m.plan->ranks));
        if (CHECK(machine_find(last, DSC_OP_SEND, &t, &index), "no send")) {
            op = &last->templates[t].ops[index];
            op->channel++;
            CHECK(dsc_program_check(m.plan, programs, m.plan->ranks) == DSC_EINVAL, "a wrong channel is accepted");
            op->channel--;
            op->bytes = op->data.bytes -= 64;
            CHECK(dsc_program_check(m.plan, programs, m.plan->ranks) == DSC_EINVAL, "a short message is accepted");
        }
    }
    dsc_programs_destroy(m.plan, programs);
    machine_fini(&m);
}

static const tap_case cases[] = {
    {"a stage without any one of its ops is refused", drops_any_op_of_a_stage},
    {"a rank without any one of its ops is refused", drops_any_op_of_a_rank},
    {"a program without a sum over tp, dp or the tied stages is refused by that axis", drops_what_sums},
    {"partial sums that nobody adds up are refused", drops_a_sum_in_place},
    {"a part that is added to what is whole is refused", adds_a_part_to_what_is_whole},
    {"a sum taken twice is refused", sums_twice},
    {"a product that does not accumulate is refused", drops_an_accumulation},
    {"a wrong channel is refused", takes_a_wrong_channel},
    {"a wrong peer is refused", names_a_wrong_peer},
    {"a shorter message is refused", shortens_a_message},
    {"a message without its other end is refused", drops_a_message},
    {"a send that nobody receives is named", sends_to_nobody},
    {"two sends exchanged are refused", swaps_two_sends},
    {"a stage that mixes up micro-batches is refused", mixes_up_micro_batches},
    {"stages that wait for each other are refused", waits_for_its_answer},
    {"a receive that waits for what comes later is refused", waits_for_what_comes_later},
    {"two collectives exchanged on one rank are refused", swaps_two_collectives},
    {"a sum of two pieces is refused", sums_another_piece},
    {"a collective that is another on one rank is refused", changes_one_rank_of_many},
    {"what a representative does wrong is refused where it stands for others", refuses_folded_machines},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
