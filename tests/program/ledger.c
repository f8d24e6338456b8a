#include "tests/program/machine.h"
#include "tests/tap.h"
#include <string.h>

#define MODEL "layers=4,hidden=96,heads=6,vocab=1000,seq=64"

static dsc_strategy random_strategy(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;
    int64_t micro_batches = tap_random_between(1, 4);

    s.dp = tap_random_between(1, 3);
    s.micro_batch = tap_random_between(1, 4);
    s.global_batch = s.micro_batch * s.dp * micro_batches;
    s.recompute = (int)tap_random_between(0, 2);
    s.precision = (int)tap_random_between(DSC_FP32, DSC_FP16);
    if (tap_random_between(0, 1)) strcpy(s.attention, "dense-unfused");
    return s;
}

static void classes_add_up(void)
{
    for (int draw = 0; draw < 30; draw++) {
        dsc_strategy s = random_strategy();
        dsc_static_bytes bytes;
        dsc_ledger ledger;
        int64_t sum = 0;
        machine m;

        machine_init(&m, MODEL, &s);
        CHECK_OK(dsc_program_ledger(m.programs[0], DSC_SPACE_DEVICE, &ledger));
        for (int c = 0; c < DSC_CLASS_COUNT; c++) {
            CHECK(ledger.classes[c] > 0, "class %d has %lld bytes", c, (long long)ledger.classes[c]);
            sum += ledger.classes[c];
        }
        CHECK(sum == ledger.arena_bytes, "%lld of %lld", (long long)sum, (long long)ledger.arena_bytes);
        bytes = dsc_plan_static_bytes(m.plan, 0, DSC_SPACE_DEVICE);
        CHECK(ledger.classes[DSC_CLASS_PARAMETERS] == bytes.parameters &&
                  ledger.classes[DSC_CLASS_GRADIENTS] == bytes.gradients &&
                  ledger.classes[DSC_CLASS_OPTIMIZER] == bytes.optimizer,
              "static bytes of plan and ledger differ");
        machine_fini(&m);
    }
}

/* Walks a segment in the builders' order; the largest extent. */
static int64_t walk(const dsc_program *program, int segment)
{
    dsc_extent *extent;
    int64_t peak = 0;

    if (!CHECK_OK(dsc_extent_create(program, &extent))) return 0;
    dsc_extent_segment_start(extent);
    for (int64_t u = 0; u < program->segments[segment].use_count; u++)
        for (int32_t op = 0; op < program->templates[program->segments[segment].uses[u].template_].op_count; op++) {
            dsc_extent_op_start(extent, segment, u, op);
            peak = DSC_MAX(peak, dsc_extent_bytes(extent, DSC_SPACE_DEVICE));
            dsc_extent_op_end(extent, segment, u, op);
        }
    CHECK(dsc_extent_bytes(extent, DSC_SPACE_DEVICE) <= peak, "grows at its end");
    dsc_extent_destroy(extent);
    return peak;
}

static void extent_reaches_the_arena(void)
{
    for (int draw = 0; draw < 30; draw++) {
        dsc_strategy s = random_strategy();
        machine m;

        machine_init(&m, MODEL, &s);
        CHECK(walk(m.programs[0], DSC_SEGMENT_GRADIENTS) == m.programs[0]->arena_bytes[DSC_SPACE_DEVICE],
              "extent and arena differ");
        machine_fini(&m);
    }
}

static void live_transients_are_apart(void)
{
    dsc_strategy s = random_strategy();
    machine m;

    machine_init(&m, MODEL, &s);
    for (int64_t t = 0; t < m.programs[0]->template_count; t++) {
        const dsc_template *template_ = &m.programs[0]->templates[t];

        for (int64_t i = 0; i < template_->lifetime_count; i++)
            for (int64_t j = 0; j < i; j++) {
                const dsc_lifetime *a = &template_->lifetimes[i], *b = &template_->lifetimes[j];
                const dsc_buffer *x = &m.programs[0]->buffers[a->buffer], *y = &m.programs[0]->buffers[b->buffer];

                if (x->life != DSC_LIFE_TRANSIENT || y->life != DSC_LIFE_TRANSIENT || a->born > b->dies ||
                    b->born > a->dies)
                    continue;
                CHECK(x->offset + x->bytes <= y->offset || y->offset + y->bytes <= x->offset,
                      "%s of layer %d and %s of layer %d", x->name, x->layer, y->name, y->layer);
            }
    }
    machine_fini(&m);
}

static int64_t arena_of(dsc_strategy s)
{
    int64_t bytes;
    machine m;

    machine_init(&m, MODEL, &s);
    bytes = m.programs[0]->arena_bytes[DSC_SPACE_DEVICE];
    machine_fini(&m);
    return bytes;
}

static void more_micro_batches_cost_nothing(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.dp = 1;
    s.micro_batch = 2;
    s.global_batch = 4;
    int64_t two = arena_of(s);
    s.global_batch = 64;
    CHECK(arena_of(s) == two, "%lld bytes with 32 micro-batches, %lld with 2", (long long)arena_of(s), (long long)two);
}

static void recomputing_needs_less(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;
    int64_t bytes[3];

    s.dp = 1;
    s.micro_batch = s.global_batch = 8;
    strcpy(s.attention, "dense-unfused");
    for (s.recompute = 0; s.recompute < 3; s.recompute++) bytes[s.recompute] = arena_of(s);
    CHECK(bytes[0] > bytes[1] && bytes[1] > bytes[2], "none %lld, selective %lld, full %lld", (long long)bytes[0],
          (long long)bytes[1], (long long)bytes[2]);
}

static void hash_knows_what_matters(void)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;
    machine a, b, c;

    s.dp = 2;
    machine_init(&a, MODEL, &s);
    machine_init(&b, MODEL, &s);
    s.recompute = DSC_RECOMPUTE_FULL;
    machine_init(&c, MODEL, &s);
    CHECK(strcmp(a.programs[0]->hash, b.programs[1]->hash) == 0, "replicas differ");
    CHECK(strcmp(a.programs[0]->hash, c.programs[0]->hash) != 0, "recomputation changes nothing");
    machine_fini(&a);
    machine_fini(&b);
    machine_fini(&c);
}

static const tap_case cases[] = {
    {"the ledger's classes add up to the arena", classes_add_up},
    {"the extent of live buffers reaches the arena's end and no further", extent_reaches_the_arena},
    {"transients that live at one time are apart", live_transients_are_apart},
    {"micro-batches after another take no more memory", more_micro_batches_cost_nothing},
    {"each kind of recomputation needs less memory than the one before", recomputing_needs_less},
    {"a program's hash changes with the strategy and not with the replica", hash_knows_what_matters},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
