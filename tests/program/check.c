/* What the whole-machine check must refuse: programs that were right and were spoiled in one place. */
#include "tests/program/machine.h"
#include "tests/tap.h"
#include <string.h>

#define MODEL "layers=3,hidden=64,heads=4,vocab=300,seq=32"

static dsc_strategy strategy(int64_t dp, int64_t micro_batches, int recompute)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.dp = dp;
    s.micro_batch = 2;
    s.global_batch = 2 * dp * micro_batches;
    s.recompute = recompute;
    s.bucket_elems = 1 << 14;
    return s;
}

/* The check says no, and names an op. */
static void refused(const machine *m, const char *how)
{
    dsc_status status = machine_check(m);

    CHECK(status == DSC_EINVAL, "%s is accepted", how);
    CHECK(strstr(dsc_message(), "op ") != NULL, "%s: no op in \"%s\"", how, dsc_message());
}

static void accepts_what_is_built(void)
{
    for (int draw = 0; draw < 24; draw++) {
        dsc_strategy s = strategy(tap_random_between(1, 4), tap_random_between(1, 4), (int)tap_random_between(0, 2));
        machine m;

        s.precision = (int)tap_random_between(DSC_FP32, DSC_FP16);
        if (tap_random_between(0, 1)) strcpy(s.attention, "dense-unfused");
        s.communication = (int)tap_random_between(DSC_COMMUNICATION_DIRECT, DSC_COMMUNICATION_STAGED);
        machine_init(&m, MODEL, &s);
        CHECK_OK(machine_check(&m));
        machine_fini(&m);
    }
}

static void drops_any_op(void)
{
    for (int draw = 0; draw < 60; draw++) {
        dsc_strategy s = strategy(2, tap_random_between(1, 3), (int)tap_random_between(0, 2));
        char how[80];
        machine m;
        int64_t t;
        int32_t op;

        machine_init(&m, MODEL, &s);
        do t = tap_random_between(0, m.programs[0]->template_count - 1);
        while (m.programs[0]->templates[t].op_count == 0);
        op = (int32_t)tap_random_between(0, m.programs[0]->templates[t].op_count - 1);
        snprintf(how, sizeof how, "a program without %s", DSC_OP_NAMES[m.programs[0]->templates[t].ops[op].kind]);
        for (int64_t rank = 0; rank < m.plan->ranks; rank++) machine_drop(m.programs[rank], t, op);
        /* Without the agreement both ranks go on, each with its own loss: no op of theirs misses anything. */
        if (strstr(how, "agree") == NULL) refused(&m, how);
        machine_fini(&m);
    }
}

/* Positions past a short sequence are zero from the start; the norm whose gradients follow them is not. */
static void drops_what_lies_behind_zeros(void)
{
    dsc_strategy s = strategy(1, 1, DSC_RECOMPUTE_NONE);
    int dropped = 0;
    machine m;

    s.seq_len = 16;
    machine_init(&m, MODEL, &s);
    CHECK_OK(machine_check(&m));
    for (int64_t t = 0; t < m.programs[0]->template_count; t++) {
        dsc_template *template_ = &m.programs[0]->templates[t];
        int32_t last = (int32_t)template_->op_count;

        while (--last >= 0 && template_->ops[last].kind != DSC_OP_NORM_BWD_W) {}
        if (last < 0) continue;
        CHECK(template_->ops[last].layer == 0, "layer %d", template_->ops[last].layer);
        machine_drop(m.programs[0], t, last);
        dropped++;
    }
    CHECK(dropped == 1, "%d passes back", dropped);
    refused(&m, "a program without the gradients behind the positions");
    machine_fini(&m);
}

static void drops_a_collective_on_one_rank(void)
{
    static const dsc_op_kind kinds[] = {DSC_OP_ALL_REDUCE, DSC_OP_AGREE};

    for (int64_t i = 0; i < DSC_COUNT(kinds); i++) {
        dsc_strategy s = strategy(4, 2, DSC_RECOMPUTE_NONE);
        machine m;
        int64_t t;
        int32_t op;

        machine_init(&m, MODEL, &s);
        if (CHECK(machine_find(m.programs[2], kinds[i], &t, &op), "no %s", DSC_OP_NAMES[kinds[i]])) {
            machine_drop(m.programs[2], t, op);
            refused(&m, "a collective that one rank does not join");
        }
        machine_fini(&m);
    }
}

static void swaps_two_collectives(void)
{
    dsc_strategy s = strategy(2, 1, DSC_RECOMPUTE_NONE);
    machine m;
    int64_t t;
    int32_t first, second;

    machine_init(&m, MODEL, &s);
    if (CHECK(machine_find(m.programs[1], DSC_OP_ALL_REDUCE, &t, &first), "no reduction")) {
        dsc_template *template_ = &m.programs[1]->templates[t];
        dsc_span span = template_->ops[first].data;

        for (second = first + 1; template_->ops[second].kind != DSC_OP_ALL_REDUCE ||
                                 template_->ops[second].bytes == template_->ops[first].bytes; second++) {}
        template_->ops[first].data = template_->ops[second].data;
        template_->ops[second].data = span;
        template_->ops[first].bytes = template_->ops[first].data.bytes;
        template_->ops[second].bytes = span.bytes;
        refused(&m, "two collectives exchanged on one rank");
    }
    machine_fini(&m);
}

static void shrinks_any_buffer(void)
{
    for (int draw = 0; draw < 40; draw++) {
        dsc_strategy s = strategy(2, 2, (int)tap_random_between(0, 2));
        machine m;
        int64_t buffer;

        machine_init(&m, MODEL, &s);
        buffer = tap_random_between(0, m.programs[0]->buffer_count - 1);
        m.programs[0]->buffers[buffer].bytes -= 1;
        refused(&m, m.programs[0]->buffers[buffer].name);
        machine_fini(&m);
    }
}

static void makes_a_cycle(void)
{
    dsc_strategy s = strategy(1, 1, DSC_RECOMPUTE_NONE);
    machine m;
    int64_t t;
    int32_t op;

    machine_init(&m, MODEL, &s);
    if (CHECK(machine_find(m.programs[0], DSC_OP_LOAD, &t, &op), "no load")) {
        dsc_template *template_ = &m.programs[0]->templates[t];
        dsc_dep on_embedding = {op + 1};

        template_->ops[op].first_dep = (int32_t)template_->dep_count;
        template_->ops[op].deps = 1;
        CHECK_OK(DSC_PUSH(template_->deps, template_->dep_count, template_->dep_capacity, on_embedding));
        refused(&m, "a load that waits for the embedding");
    }
    machine_fini(&m);
}

static void forgets_a_dependency(void)
{
    dsc_strategy s = strategy(2, 3, DSC_RECOMPUTE_NONE);

    for (int draw = 0; draw < 30; draw++) {
        machine m;
        dsc_program *program;
        dsc_segment *segment;
        int64_t t;

        machine_init(&m, MODEL, &s);
        program = m.programs[0];
        segment = &program->segments[DSC_SEGMENT_GRADIENTS];
        t = tap_random_between(0, program->template_count - 1);
        if (program->templates[t].dep_count > 0) {
            dsc_template *template_ = &program->templates[t];
            dsc_op *op = template_->ops;

            while (op->deps == 0 || tap_random_between(0, 3) == 0)
                op = &template_->ops[(op - template_->ops + 1) % template_->op_count];
            op->deps = 0;
            refused(&m, DSC_OP_NAMES[op->kind]);
        } else if (segment->wait_count > 0) {
            dsc_use *use = segment->uses;

            while (use->waits == 0) use++;
            use->waits = 0;
            refused(&m, "an earlier use that is not waited for");
        }
        machine_fini(&m);
    }
}

static void lays_one_buffer_over_another(void)
{
    dsc_strategy s = strategy(1, 1, DSC_RECOMPUTE_NONE);
    machine m;
    dsc_program *program;
    int64_t a = -1, b = -1;

    machine_init(&m, MODEL, &s);
    program = m.programs[0];
    for (int64_t i = 0; i < program->buffer_count; i++) {
        if (strcmp(program->buffers[i].name, "qkv") != 0) continue;
        if (a < 0) a = i;
        else b = i;
    }
    program->buffers[b].offset = program->buffers[a].offset;
    refused(&m, "two layers' activations in one place");
    machine_fini(&m);
}

/* The host's Adam, a tensor of which is on the device. */
static void lets_the_host_reach(void)
{
    dsc_strategy s = strategy(1, 1, DSC_RECOMPUTE_NONE);
    machine m;
    int64_t t;
    int32_t op;

    s.offload = DSC_OFFLOAD_OPTIMIZER;
    machine_init(&m, MODEL, &s);
    if (CHECK(machine_find(m.programs[0], DSC_OP_UPDATE, &t, &op), "no update")) {
        const dsc_template *template_ = &m.programs[0]->templates[t];
        dsc_span *moments = &template_->calls[template_->ops[op].first_call].operands[2];

        moments->buffer = m.programs[0]->kept[DSC_KEPT_PARAMETERS][DSC_SPACE_DEVICE];
        machine_refuses(&m, "moments in the device's memory", "works in the host");
    }
    machine_fini(&m);
}

static const tap_case cases[] = {
    {"what the builders make is accepted", accepts_what_is_built},
    {"a program without any one of its ops is refused", drops_any_op},
    {"one without the gradients that lie behind zeros is refused", drops_what_lies_behind_zeros},
    {"a collective that one rank leaves out is refused", drops_a_collective_on_one_rank},
    {"two collectives exchanged on one rank are refused", swaps_two_collectives},
    {"any buffer that is a byte too small is refused", shrinks_any_buffer},
    {"a cycle across lanes is refused", makes_a_cycle},
    {"a forgotten dependency is refused", forgets_a_dependency},
    {"live buffers in one place are refused", lays_one_buffer_over_another},
    {"a host that touches the device's memory is refused", lets_the_host_reach},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
