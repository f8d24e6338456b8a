/* Programs of layers that attend in different ways: the lists of present blocks are there, are those of the rank's
 * heads, and what reads them is checked. */
#include "kernel/blocks.h"
#include "tests/plan/make.h"
#include "tests/program/machine.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "layers=8,hidden=32,heads=4,vocab=100,seq=64"

enum { HEADS = 4, LAYERS = 8, BLOCKS = 4 };

static dsc_strategy layout(int64_t tp, int64_t pp, int64_t dp)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.tp = tp;
    s.pp = pp;
    s.dp = dp;
    s.micro_batch = 1;
    s.global_batch = 2 * dp;
    s.bucket_elems = 3000;
    return s;
}

/* A random layout, dense and unfused layers, two more patterns: each layer one of them. */
static dsc_attention random_ways(dsc_layout *given)
{
    dsc_attention a = attend_by(given);

    a.patterns[1] = (dsc_pattern){.word = "dense", .kind = DSC_ATTENTION_DENSE};
    a.patterns[2] = (dsc_pattern){.word = "dense-unfused", .kind = DSC_ATTENTION_UNFUSED};
    a.patterns[3] = (dsc_pattern){.word = "local", .kind = DSC_ATTENTION_SPARSE};
    a.patterns[4] = (dsc_pattern){.word = "fixed", .kind = DSC_ATTENTION_SPARSE};
    dsc_sparsity_default(DSC_SPARSITY_LOCAL, &a.patterns[3].sparsity);
    dsc_sparsity_default(DSC_SPARSITY_FIXED, &a.patterns[4].sparsity);
    a.patterns[4].sparsity.block = 32;
    a.count = 5;
    for (int i = 1; i < a.count; i++) {
        a.layers[i].first = tap_random_between(0, LAYERS - 1);
        a.layers[i].last = tap_random_between(a.layers[i].first, LAYERS - 1);
    }
    return a;
}

static dsc_strategy random_strategy(void)
{
    dsc_strategy s = layout(INT64_C(1) << tap_random_between(0, 2), tap_random_between(1, 3), tap_random_between(1, 2));

    s.micro_batch = tap_random_between(1, 2);
    s.global_batch = s.micro_batch * s.dp * tap_random_between(1, 3);
    s.sequence_parallel = s.tp > 1 && tap_random_between(0, 1);
    s.schedule = (int)(tap_random_between(0, 1) ? DSC_1F1B : DSC_ZB_H1);
    s.zero = (int)tap_random_between(0, s.schedule == DSC_ZB_H1 ? 1 : 3);
    s.offload = (int)tap_random_between(DSC_OFFLOAD_NONE, DSC_OFFLOAD_OPTIMIZER);
    s.precision = (int)tap_random_between(DSC_FP32, DSC_FP16);
    s.recompute = (int)tap_random_between(DSC_RECOMPUTE_NONE, DSC_RECOMPUTE_FULL);
    s.partition = (int)tap_random_between(DSC_PARTITION_UNIFORM, DSC_PARTITION_COST);
    s.reference_layout = tap_random_between(0, 1);
    return s;
}

static void for_random_machines(int draws, void (*check)(const machine *m))
{
    for (int draw = 0; draw < draws; draw++) {
        dsc_layout *given = make_random_layout(16, BLOCKS, HEADS);
        dsc_attention attention = random_ways(given);
        dsc_strategy s = random_strategy();
        machine m;

        machine_init_with(&m, MODEL, &s, &attention);
        check(&m);
        machine_fini(&m);
        dsc_layout_destroy(given);
    }
}

/* Each rank with a program of its own, and folded. */
static void check_passes(const machine *m)
{
    const dsc_strategy *s = &m->plan->config.strategy;
    const dsc_program *const *folded = NULL;

    CHECK(machine_check(m) == DSC_OK, "tp %d, pp %d, dp %d, ZeRO %d, offload %d, recompute %d: %s", (int)s->tp,
          (int)s->pp, (int)s->dp, s->zero, s->offload, s->recompute, dsc_message());
    if (CHECK_OK(dsc_programs_create(m->plan, &folded)))
        CHECK(dsc_program_check(m->plan, folded, m->plan->ranks) == DSC_OK, "folded: %s", dsc_message());
    dsc_programs_destroy(m->plan, folded);
}

static void random_mixes_pass(void) { for_random_machines(60, check_passes); }

/* ---- Buffers */

static bool has_layer(const machine *m, int64_t rank, int way)
{
    const dsc_stage *stage = &m->plan->stages[m->programs[rank]->stage];

    for (int64_t c = 0; c < stage->chunk_count; c++)
        for (int64_t i = 0; i < stage->chunks[c].layers; i++)
            if (m->plan->attention_of[stage->chunks[c].first_layer + i] == way) return true;
    return false;
}

static int64_t count_layouts(const dsc_program *p)
{
    int64_t count = 0;

    for (int64_t i = 0; i < p->buffer_count; i++) count += dsc_equal(p->buffers[i].name, "layout");
    return count;
}

/* A buffer for each sparse way that a layer of the stage takes, and no other. */
static void check_buffers(const machine *m)
{
    for (int64_t rank = 0; rank < m->plan->ranks; rank++) {
        const dsc_program *p = m->programs[rank];
        int64_t count = 0;

        for (int way = 0; way < DSC_PATTERNS; way++) {
            bool wants = way < m->plan->attention_count && m->plan->attention[way].kind == DSC_ATTENTION_SPARSE &&
                         has_layer(m, rank, way);

            CHECK((p->layouts[way] >= 0) == wants, "stage %d, way %d: buffer %d", (int)p->stage, way, p->layouts[way]);
            if (p->layouts[way] < 0) continue;
            count++;
            CHECK(p->buffers[p->layouts[way]].life == DSC_LIFE_STATIC &&
                      p->buffers[p->layouts[way]].class_ == DSC_CLASS_BUFFERS &&
                      p->buffers[p->layouts[way]].space == DSC_SPACE_DEVICE, "way %d is kept elsewhere", way);
        }
        CHECK(count_layouts(p) == count, "%d lists, %d buffers", (int)count, (int)count_layouts(p));
    }
}

static void buffers_are_those_that_layers_read(void) { for_random_machines(60, check_buffers); }

/* Every call reads its layer's lists, whole. */
static void check_calls(const machine *m)
{
    int64_t checked = 0;

    for (int64_t rank = 0; rank < m->plan->ranks; rank++)
        for (int64_t t = 0; t < m->programs[rank]->template_count; t++) {
            const dsc_template *template_ = &m->programs[rank]->templates[t];

            for (int64_t i = 0; i < template_->op_count; i++)
                for (int32_t c = 0; c < template_->ops[i].calls; c++) {
                    const dsc_call *call = &template_->calls[template_->ops[i].first_call + c];
                    int operand = call->shape.kernel == DSC_K_ATTENTION_FWD ? 3 : 5;
                    int32_t buffer;

                    if (!(call->shape.flags & DSC_HAS_LAYOUT)) continue;
                    buffer = m->programs[rank]->layouts[m->plan->attention_of[template_->ops[i].layer]];
                    CHECK(buffer >= 0 && call->operands[operand].buffer == buffer &&
                              call->operands[operand].offset == 0 &&
                              m->programs[rank]->buffers[buffer].bytes == dsc_operand_bytes(&call->shape, operand),
                          "layer %d reads buffer %d, not %d", template_->ops[i].layer, call->operands[operand].buffer,
                          buffer);
                    CHECK(!(call->shape.flags & DSC_CAUSAL) == m->plan->config.strategy.reference_layout,
                          "reference's: %d, flags %d", m->plan->config.strategy.reference_layout, call->shape.flags);
                    checked++;
                }
        }
    CHECK(checked > 0 || count_layouts(m->programs[0]) == 0, "no call reads a list");
}

static void calls_read_their_layers_lists(void) { for_random_machines(40, check_calls); }

/* What a rank writes at the start are its heads' blocks, to the end of the buffer and not beyond. */
static void check_filled(const machine *m, const dsc_program *p, int way)
{
    const dsc_layer_attention *a = &m->plan->attention[way];
    int64_t bytes = p->buffers[p->layouts[way]].bytes, n = a->layout->blocks, largest = 1;
    int64_t each = HEADS / m->plan->config.strategy.tp;
    char *memory = malloc((size_t)bytes + 64);

    for (int64_t tp = 0; tp < m->plan->config.strategy.tp; tp++) {
        const dsc_shape shape = {.flags = DSC_HAS_LAYOUT, .d = {1, 64, each, 1, 1, a->present, a->layout->block}};
        dsc_blocks lists = dsc_blocks_of(&shape, memory);
        int64_t wrong = 0, at = 0;

        memset(memory, 0xa5, (size_t)bytes + 64);
        if (!CHECK_OK(dsc_program_fill_layout(p, way, tp, memory))) break;
        for (int64_t i = 0; i < 64; i++) wrong += memory[bytes + i] != (char)0xa5;
        for (int64_t list = 0; list < each * n; list++)
            for (int64_t c = 0; c < n; c++)
                if (dsc_layout_has(a->layout, dsc_plan_head(m->plan, a, tp, list / n), list % n, c))
                    wrong += lists.columns[at++] != c;
        CHECK(wrong == 0 && at == lists.row_start[each * n] && at <= a->present, "tensor rank %d: %d of %d blocks",
              (int)tp, (int)at, (int)a->present);
        largest = DSC_MAX(largest, at);
    }
    CHECK(largest == a->present, "room for %d blocks, the largest rank has %d", (int)a->present, (int)largest);
    free(memory);
}

static void check_all_filled(const machine *m)
{
    for (int64_t rank = 0; rank < m->plan->ranks; rank++)
        for (int way = 0; way < DSC_PATTERNS; way++)
            if (m->programs[rank]->layouts[way] >= 0) check_filled(m, m->programs[rank], way);
}

static void lists_are_the_ranks_own(void) { for_random_machines(40, check_all_filled); }

/* By hand: 4 layers of 2 stages, one of them sparse. */
static void stages_without_such_a_layer_have_no_list(void)
{
    dsc_strategy s = layout(1, 2, 1);
    int64_t bytes[2];
    machine m;

    strcpy(s.attention, "dense,1=local");
    machine_init(&m, "layers=4,hidden=32,heads=4,vocab=100,seq=64", &s);
    CHECK(m.programs[0]->layouts[1] >= 0 && m.programs[1]->layouts[1] < 0, "buffers %d and %d",
          m.programs[0]->layouts[1], m.programs[1]->layouts[1]);
    CHECK(count_layouts(m.programs[0]) == 1 && count_layouts(m.programs[1]) == 0, "%d and %d buffers",
          (int)count_layouts(m.programs[0]), (int)count_layouts(m.programs[1]));
    /* 4 heads of 4 rows, each with the diagonal and, but for the first, one more */
    CHECK(m.programs[0]->buffers[m.programs[0]->layouts[1]].bytes == 4 * (3 * 16 + 2 + 2 * 4 * 7), "%d bytes",
          (int)m.programs[0]->buffers[m.programs[0]->layouts[1]].bytes);
    for (int i = 0; i < 2; i++) bytes[i] = m.programs[i]->regions[DSC_SPACE_DEVICE][DSC_LIFE_STATIC].bytes;
    machine_fini(&m);
    strcpy(s.attention, "dense");
    machine_init(&m, "layers=4,hidden=32,heads=4,vocab=100,seq=64", &s);
    CHECK(bytes[0] - m.programs[0]->regions[DSC_SPACE_DEVICE][DSC_LIFE_STATIC].bytes == 448 &&
              bytes[1] == m.programs[1]->regions[DSC_SPACE_DEVICE][DSC_LIFE_STATIC].bytes, "static bytes of %d and %d",
          (int)bytes[0], (int)bytes[1]);
    machine_fini(&m);
}

/* ---- What the check must refuse */

static void init_spoiled(machine *m)
{
    dsc_strategy s = layout(2, 1, 1);

    strcpy(s.attention, "local,1-2=bslongformer,3=dense");
    machine_init(m, MODEL, &s);
    CHECK_OK(machine_check(m));
}

static void refused(const machine *m, const char *how, const char *words)
{
    CHECK(machine_check(m) == DSC_EINVAL, "%s is accepted", how);
    CHECK(strstr(dsc_message(), words) != NULL, "%s: no \"%s\" in \"%s\"", how, words, dsc_message());
}

static void lists_that_nobody_wrote_are_refused(void)
{
    for (int way = 0; way < 2; way++) {
        machine m;

        init_spoiled(&m);
        for (int64_t rank = 0; rank < m.plan->ranks; rank++) m.programs[rank]->layouts[way] = -1;
        refused(&m, "a list that nobody fills", "reads what nobody wrote: layout");
        machine_fini(&m);
    }
}

static void lists_in_others_places_are_refused(void)
{
    for (int64_t other = 0; other < 40; other++) {
        machine m;

        init_spoiled(&m);
        if (other < m.programs[1]->buffer_count && other != m.programs[1]->layouts[0] &&
            m.programs[1]->buffers[other].life == DSC_LIFE_STATIC &&
            m.programs[1]->buffers[other].space == DSC_SPACE_DEVICE) {
            m.programs[1]->buffers[m.programs[1]->layouts[0]].offset = m.programs[1]->buffers[other].offset;
            refused(&m, m.programs[1]->buffers[other].name, "rank 1");
        }
        machine_fini(&m);
    }
}

/* Fewer blocks than the buffer has, more than it has, none. */
static void calls_of_other_lists_are_refused(void)
{
    for (int change = 0; change < 4; change++) {
        dsc_template *template_;
        dsc_call *call = NULL;
        machine m;
        int64_t t;
        int32_t op;

        init_spoiled(&m);
        if (CHECK(machine_find(m.programs[0], DSC_OP_ATTENTION_FWD, &t, &op), "no attention")) {
            template_ = &m.programs[0]->templates[t];
            for (int32_t c = 0; c < template_->ops[op].calls; c++)
                if (template_->calls[template_->ops[op].first_call + c].shape.kernel == DSC_K_ATTENTION_FWD)
                    call = &template_->calls[template_->ops[op].first_call + c];
        }
        if (CHECK(call != NULL && call->shape.flags & DSC_HAS_LAYOUT, "no sparse attention")) {
            if (change == 0) call->shape.d[5]--;
            if (change == 1) call->shape.d[5]++;
            if (change == 2) call->operands[3].buffer = -1;
            if (change == 3) call->operands[3].buffer = m.programs[0]->layouts[1];
            refused(&m, "another list", "rank 0, op ");
        }
        machine_fini(&m);
    }
}

/* ---- Hashes */

static void hash_of(int64_t column, char out[33])
{
    dsc_strategy s = layout(2, 1, 1);
    dsc_layout *given = NULL;
    dsc_attention attention;
    machine m;

    CHECK_OK(dsc_layout_make(16, BLOCKS, HEADS, &given));
    for (int64_t h = 0; h < HEADS; h++) dsc_layout_add(given, h, BLOCKS - 1, column);
    attention = attend_by(given);
    machine_init_with(&m, MODEL, &s, &attention);
    strcpy(out, m.programs[0]->hash);
    machine_fini(&m);
    dsc_layout_destroy(given);
}

/* As many blocks in the same shapes: the programs' ops are equal. */
static void hashes_tell_lists_apart(void)
{
    char first[33], again[33], other[33];

    hash_of(0, first);
    hash_of(0, again);
    hash_of(1, other);
    CHECK(dsc_equal(first, again), "one layout, two hashes");
    CHECK(!dsc_equal(first, other), "two layouts, one hash");
}

static const tap_case cases[] = {
    {"random layouts, by layer and head, with every strategy make programs that fit together", random_mixes_pass},
    {"a stage has the lists that its layers read, and no others", buffers_are_those_that_layers_read},
    {"calls read their layer's lists, which are as large as the contract says", calls_read_their_layers_lists},
    {"a tensor rank's lists are those of its heads and fill their buffer", lists_are_the_ranks_own},
    {"a stage without a layer of that way has no such buffer", stages_without_such_a_layer_have_no_list},
    {"a list that nobody wrote is refused", lists_that_nobody_wrote_are_refused},
    {"a list in another's place is refused", lists_in_others_places_are_refused},
    {"a call that reads another list, or more or less of its own, is refused", calls_of_other_lists_are_refused},
    {"a program's hash tells layouts apart, to a block", hashes_tell_lists_apart},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
