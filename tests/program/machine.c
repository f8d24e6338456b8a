#include "tests/program/machine.h"
#include "program/build.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(dsc_status status)
{
    if (status == DSC_OK) return;
    printf("Bail out! %s\n", dsc_message());
    exit(1);
}

dsc_cluster *machine_cluster(int64_t nodes, int64_t devices)
{
    char path[] = "/tmp/dsc-machine-XXXXXX";
    int file = mkstemp(path);
    FILE *out = file >= 0 ? fdopen(file, "w") : NULL;
    dsc_cluster *cluster = NULL;

    if (out == NULL) must(DSC_FAIL(DSC_EIO, "%s: cannot be written", path));
    fprintf(
        out,
        "{\"dsc_cluster\":1, \"node_types\":{\"n\":{\"devices\":[{\"name\":\"d\",\"count\":%lld,"
        "\"memory_bytes\":80000000000,\"bandwidth_bytes_per_s\":2e12,\"peak_flops\":{\"fp32\":1e13,\"bf16\":3e14}}],"
        "\"host_memory_bytes\":1000000000000,\"cores\":64,\"links\":[{\"name\":\"l\",\"between\":[\"device\","
        "\"device\"],"
        "\"topology\":\"switch\",\"bytes_per_s\":3e11,\"latency_ns\":1000}],"
        "\"nics\":[{\"count\":1,\"bytes_per_s\":1e10,\"latency_ns\":5000}]}}, "
        "\"nodes\":[{\"type\":\"n\",\"count\":%lld}],"
        "\"network\":[{\"tier\":\"leaf\",\"nodes\":%lld,\"bytes_per_s\":1e10,\"latency_ns\":5000}]}",
        (long long)devices, (long long)nodes, (long long)nodes);
    fclose(out);
    must(dsc_cluster_load(path, &cluster));
    remove(path);
    return cluster;
}

static void init(machine *m, const char *model_text, const dsc_strategy *strategy, const dsc_attention *attention,
                 int64_t nodes)
{
    const int64_t ranks = DSC_MAX(strategy->tp, 1) * DSC_MAX(strategy->pp, 1) * DSC_MAX(strategy->dp, 1);
    dsc_cluster *cluster = machine_cluster(nodes, ranks / nodes);
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_model model;

    config.strategy = *strategy;
    config.attention = attention;
    must(dsc_model_load(model_text, &model));
    must(dsc_plan_create(&model, cluster, &config, &m->plan));
    m->programs = calloc((size_t)m->plan->ranks, sizeof *m->programs);
    for (int64_t rank = 0; rank < m->plan->ranks; rank++)
        must(dsc_program_create(m->plan, dsc_plan_coord(m->plan, rank).of[DSC_AXIS_PP], &m->programs[rank]));
    dsc_cluster_destroy(cluster);
}

void machine_random(dsc_strategy *s)
{
    int64_t micro_batches = tap_random_between(1, 4);

    s->schedule = (int)tap_random_between(DSC_GPIPE, DSC_ZB_H1);
    if (s->schedule == DSC_INTERLEAVED && s->pp == 1) s->schedule = DSC_1F1B;
    if (s->schedule == DSC_INTERLEAVED) micro_batches *= s->pp;
    s->virtual_stages = s->schedule == DSC_INTERLEAVED ? 2 : 1;
    s->global_batch = s->dp * micro_batches;
    s->sequence_parallel = s->tp > 1 && tap_random_between(0, 1);
    s->precision = (int)tap_random_between(DSC_FP32, DSC_FP16);
    s->recompute = (int)tap_random_between(DSC_RECOMPUTE_NONE, DSC_RECOMPUTE_FULL);
    s->bucket_elems = tap_random_between(1, 20000);
    s->communication = (int)tap_random_between(DSC_COMMUNICATION_DIRECT, DSC_COMMUNICATION_STAGED);
}

void machine_init(machine *m, const char *model, const dsc_strategy *strategy) { init(m, model, strategy, NULL, 1); }

void machine_init_with(machine *m, const char *model, const dsc_strategy *strategy, const dsc_attention *attention)
{
    init(m, model, strategy, attention, 1);
}

void machine_init_on(machine *m, const char *model, const dsc_strategy *strategy, int64_t nodes)
{
    init(m, model, strategy, NULL, nodes);
}

void machine_fini(machine *m)
{
    for (int64_t rank = 0; rank < m->plan->ranks; rank++) dsc_program_destroy(m->programs[rank]);
    free(m->programs);
    dsc_plan_destroy(m->plan);
}

dsc_status machine_check(const machine *m)
{
    return dsc_program_check(m->plan, (const dsc_program *const *)m->programs, m->plan->ranks);
}

bool machine_find(const dsc_program *program, dsc_op_kind kind, int64_t *template_, int32_t *index)
{
    *template_ = 0;
    *index = 0;
    return machine_find_next(program, kind, -1, template_, index);
}

bool machine_find_next(const dsc_program *program, dsc_op_kind kind, int axis, int64_t *template_, int32_t *index)
{
    for (; *template_ < program->template_count; ++*template_, *index = 0)
        for (; *index < program->templates[*template_].op_count; ++*index) {
            const dsc_op *op = &program->templates[*template_].ops[*index];

            if (op->kind == (int)kind && (axis < 0 || op->axis == axis)) return true;
        }
    return false;
}

static int32_t moved(int32_t op, int32_t dropped) { return op > dropped ? op - 1 : op; }

static void drop_deps(dsc_template *template_, int32_t dropped)
{
    int64_t kept = 0;

    for (int64_t i = 0; i < template_->op_count; i++) {
        dsc_op *op = &template_->ops[i];
        int32_t first = (int32_t)kept;

        for (int32_t d = 0; d < op->deps; d++) {
            dsc_dep dep = template_->deps[op->first_dep + d];

            if (dep.on != dropped && i != dropped) template_->deps[kept++].on = moved(dep.on, dropped);
        }
        op->first_dep = first;
        op->deps = (int32_t)kept - first;
    }
    template_->dep_count = kept;
}

static void drop_waits(dsc_program *program, dsc_segment *segment, int64_t template_, int32_t dropped)
{
    int64_t kept = 0;

    for (int64_t u = 0; u < segment->use_count; u++) {
        dsc_use *use = &segment->uses[u];
        int32_t first = (int32_t)kept;

        for (int32_t w = 0; w < use->waits; w++) {
            dsc_wait wait = segment->waits[use->first_wait + w];
            bool from = use->template_ == template_, to = segment->uses[wait.use].template_ == template_;

            if ((from && wait.op == dropped) || (to && wait.on == dropped)) continue;
            if (from) wait.op = moved(wait.op, dropped);
            if (to) wait.on = moved(wait.on, dropped);
            segment->waits[kept++] = wait;
        }
        use->first_wait = first;
        use->waits = (int32_t)kept - first;
    }
    segment->wait_count = kept;
    (void)program;
}

static void number_ops(dsc_program *program)
{
    int64_t base = 0;

    for (int s = 0; s < DSC_SEGMENT_COUNT; s++)
        for (int64_t u = 0; u < program->segments[s].use_count; u++) {
            program->segments[s].uses[u].base = base;
            base += program->templates[program->segments[s].uses[u].template_].op_count;
        }
    program->op_count = base;
}

void machine_drop(dsc_program *program, int64_t t, int32_t index)
{
    dsc_template *template_ = &program->templates[t];

    drop_deps(template_, index);
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) drop_waits(program, &program->segments[s], t, index);
    memmove(template_->ops + index, template_->ops + index + 1,
            (size_t)(template_->op_count - index - 1) * sizeof(dsc_op));
    template_->op_count--;
    number_ops(program);
}

void machine_depend(dsc_program *program)
{
    for (int64_t t = 0; t < program->template_count; t++) {
        program->templates[t].dep_count = 0;
        for (int64_t i = 0; i < program->templates[t].op_count; i++) program->templates[t].ops[i].deps = 0;
    }
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) {
        program->segments[s].wait_count = 0;
        for (int64_t u = 0; u < program->segments[s].use_count; u++) program->segments[s].uses[u].waits = 0;
    }
    must(dsc_program_depend(program));
}

void machine_move_up(dsc_program *program, int segment, int64_t from, int64_t to)
{
    dsc_segment *s = &program->segments[segment];
    dsc_use use = s->uses[from];

    memmove(s->uses + to + 1, s->uses + to, (size_t)(from - to) * sizeof *s->uses);
    s->uses[to] = use;
    number_ops(program);
    machine_depend(program);
}

void machine_pick(const machine *m, int64_t *rank, int64_t *template_, int32_t *index)
{
    const dsc_program *program;

    *rank = tap_random_between(0, m->plan->ranks - 1);
    program = m->programs[*rank];
    do *template_ = tap_random_between(0, program->template_count - 1);
    while (program->templates[*template_].op_count == 0);
    *index = (int32_t)tap_random_between(0, program->templates[*template_].op_count - 1);
}

void machine_drop_everywhere(const machine *m, int64_t rank, int64_t template_, int32_t index)
{
    int64_t stage = m->programs[rank]->stage;

    for (int64_t r = 0; r < m->plan->ranks; r++) {
        if (m->programs[r]->stage != stage) continue;
        machine_drop(m->programs[r], template_, index);
        machine_depend(m->programs[r]);
    }
}

void machine_refuses(const machine *m, const char *how, const char *words)
{
    dsc_status status = machine_check(m);

    CHECK(status == DSC_EINVAL, "%s is accepted", how);
    CHECK(strstr(dsc_message(), words) != NULL, "%s: no \"%s\" in \"%s\"", how, words, dsc_message());
}
