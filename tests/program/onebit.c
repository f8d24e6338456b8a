/* Programs of 1-bit Adam, 0/1 Adam and 1-bit LAMB: every layout makes programs that fit together, flat and
 * hierarchical; one that was spoiled in one place is refused; units hold each weight once, and nothing else. */
#include "kernel/held.h"
#include "kernel/units.h"
#include "tests/program/machine.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

#define MODEL "layers=8,hidden=32,heads=4,vocab=101,seq=24"

static dsc_strategy layout(int64_t tp, int64_t pp, int64_t dp)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.optimizer = DSC_ONEBIT_ADAM;
    s.tp = tp;
    s.pp = pp;
    s.dp = dp;
    s.micro_batch = 1;
    s.global_batch = 3 * dp;
    s.seq_len = 16;
    s.bucket_elems = 3000;
    s.sequence_parallel = tp > 1;
    return s;
}

static dsc_strategy zero_one(int64_t tp, int64_t pp, int64_t dp)
{
    dsc_strategy s = layout(tp, pp, dp);

    s.optimizer = DSC_ZERO_ONE_ADAM;
    return s;
}

static dsc_strategy lamb(int64_t tp, int64_t pp, int64_t dp)
{
    dsc_strategy s = layout(tp, pp, dp);

    s.optimizer = DSC_ONEBIT_LAMB;
    return s;
}

static void check_layout(const dsc_strategy *s, int64_t nodes)
{
    const dsc_program *const *folded = NULL;
    machine m;

    machine_init_on(&m, MODEL, s, nodes);
    CHECK(machine_check(&m) == DSC_OK, "optimizer %d, tp %d, pp %d, dp %d on %d nodes, offload %d of %g, precision %d: "
          "%s", s->optimizer, (int)s->tp, (int)s->pp, (int)s->dp, (int)nodes, s->offload, s->offload_ratio,
          s->precision, dsc_message());
    if (CHECK_OK(dsc_programs_create(m.plan, &folded)))
        CHECK(dsc_program_check(m.plan, folded, m.plan->ranks) == DSC_OK, "folded: %s", dsc_message());
    dsc_programs_destroy(m.plan, folded);
    machine_fini(&m);
}

static void every_layout_passes(void)
{
    for (int64_t ranks = 1; ranks <= 8; ranks *= 2)
        for (int64_t tp = 1; tp <= DSC_MIN(ranks, 4); tp *= 2)
            for (int64_t pp = 1; tp * pp <= ranks; pp *= 2)
                for (int64_t nodes = 1; nodes <= ranks; nodes *= 2) {
                    const int64_t dp = ranks / tp / pp;
                    const dsc_strategy all[] = {layout(tp, pp, dp), zero_one(tp, pp, dp), lamb(tp, pp, dp)};

                    for (int64_t i = 0; i < DSC_COUNT(all); i++) check_layout(&all[i], nodes);
                }
}

static void random_layouts_pass(void)
{
    for (int draw = 0; draw < 150; draw++) {
        const int64_t each = tap_random_between(1, 3), nodes = tap_random_between(1, 3);
        dsc_strategy s = layout(tap_random_between(1, 2), tap_random_between(1, 2), each * nodes);

        s.optimizer = (int)tap_random_between(DSC_ONEBIT_ADAM, DSC_ONEBIT_LAMB);
        machine_random(&s);
        s.offload = (int)tap_random_between(DSC_OFFLOAD_NONE, DSC_OFFLOAD_OPTIMIZER);
        s.offload_ratio = s.offload == DSC_OFFLOAD_OPTIMIZER ? (double)tap_random_between(0, 16) / 16 : 1;
        s.semantics = (int)tap_random_between(DSC_SEMANTICS_PAPER, DSC_SEMANTICS_REFERENCE);
        if (s.optimizer == DSC_ONEBIT_LAMB) s.semantics = DSC_SEMANTICS_PAPER;
        s.exchange = (int)tap_random_between(DSC_EXCHANGE_AUTO, DSC_EXCHANGE_FLAT);
        check_layout(&s, nodes);
    }
}

/* ---- What the check must refuse */

static void drop_random(int64_t nodes, int64_t dp)
{
    const int64_t pp = tap_random_between(1, 2);
    const int64_t which = tap_random_between(0, 2), tp = which == 2 && dp > 1 ? 2 : 1;
    dsc_strategy s = which == 0 ? layout(1, pp, dp) : which == 1 ? zero_one(1, pp, dp) : lamb(tp, pp, dp);
    char how[200];
    machine m;
    int64_t rank, t;
    int32_t op;

    if (tap_random_between(0, 1) > 0) s.global_batch = dp; /* of one micro-batch gradients look like an exact step's */
    machine_init_on(&m, MODEL, &s, nodes);
    machine_pick(&m, &rank, &t, &op);
    snprintf(how, sizeof how, "%d nodes, tp %d pp %d dp %d, optimizer %d, batch %d: without op %d of %s, %s on rank %d",
             (int)nodes, (int)tp, (int)pp, (int)dp, s.optimizer, (int)s.global_batch, op,
             m.programs[rank]->templates[t].name, DSC_OP_NAMES[m.programs[rank]->templates[t].ops[op].kind], (int)rank);
    machine_drop_everywhere(&m, rank, t, op);
    machine_refuses(&m, how, "rank ");
    machine_fini(&m);
}

static void drops_any_op(void)
{
    for (int draw = 0; draw < 160; draw++) drop_random(1 + draw % 2, 4);
    for (int draw = 0; draw < 40; draw++) drop_random(1, 1);
}

typedef struct dropped { int64_t nodes; int kind, axis; const char *template_, *words; } dropped;

/* The first op of that kind, in that template where one is named. */
static bool find(const dsc_program *program, const dropped *row, int64_t *t, int32_t *op)
{
    for (*t = 0, *op = 0; machine_find_next(program, row->kind, row->axis, t, op); ++*op)
        if (row->template_ == NULL || strcmp(program->templates[*t].name, row->template_) == 0) return true;
    return false;
}

static void drop_each(const dsc_strategy *s, const dropped *rows, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t t = 0;
        int32_t op = 0;
        machine m;

        machine_init_on(&m, MODEL, s, rows[i].nodes);
        if (CHECK(find(m.programs[0], &rows[i], &t, &op), "no %s on %d nodes", DSC_OP_NAMES[rows[i].kind],
                  (int)rows[i].nodes)) {
            machine_drop_everywhere(&m, 0, t, op);
            machine_refuses(&m, DSC_OP_NAMES[rows[i].kind], rows[i].words);
        }
        machine_fini(&m);
    }
}

/* Each has words of its own where only its history can tell. */
static void drops_what_compresses(void)
{
    static const dropped rows[] = {
        {1, DSC_OP_COMPRESS, -1, NULL, "reads what nobody wrote: sent signs"},
        {1, DSC_OP_ALL_TO_ALL, DSC_AXIS_DP, NULL, "reads what nobody wrote: received signs"},
        {1, DSC_OP_AVERAGE, -1, NULL, "reads what nobody wrote: signs of the mean"},
        {1, DSC_OP_ALL_GATHER, DSC_AXIS_DP, NULL, "reads what nobody wrote: signs of means"},
        {2, DSC_OP_ALL_TO_ALL, DSC_AXIS_INTER, NULL, "reads what nobody wrote: received signs"},
        {2, DSC_OP_ALL_GATHER, DSC_AXIS_INTER, NULL, "reads what nobody wrote: signs of means"},
        {2, DSC_OP_ALL_GATHER, DSC_AXIS_INTRA, NULL, "reads what nobody wrote: signs of all parts"},
        {2, DSC_OP_REDUCE_SCATTER, DSC_AXIS_INTRA, NULL, "uses gradients that are not summed over dp_intra"},
        {2, DSC_OP_ALL_REDUCE, DSC_AXIS_DP, NULL, "uses gradients that are not summed over dp"},
    };
    const dsc_strategy s = layout(1, 1, 4);

    drop_each(&s, rows, DSC_COUNT(rows));
}

static void drops_own_steps(void)
{
    static const dropped rows[] = {
        {1, DSC_OP_COMPRESS, -1, "share", "reads what nobody wrote: sent signs"},
        {2, DSC_OP_ALL_GATHER, DSC_AXIS_INTRA, "share", "reads what nobody wrote: signs of all parts"},
        {1, DSC_OP_UPDATE, -1, "share", "segment share: no op writes some of parameters"},
        {1, DSC_OP_ANCHOR, -1, "anchor", "segment anchor: no op writes some of worker_error"},
        {1, DSC_OP_ANCHOR, -1, "spread", "segment spread: no op writes some of anchor"},
        {1, DSC_OP_UPDATE, -1, "step", "segment step: no op writes some of parameters"},
        {1, DSC_OP_COMPRESS, -1, "sync", "reads what nobody wrote: sent signs"},
        {1, DSC_OP_AVERAGE, -1, "sync", "reads what nobody wrote: signs of the mean"},
        {1, DSC_OP_UPDATE, -1, "sync", "segment sync: no op writes some of parameters"},
        {2, DSC_OP_ALL_REDUCE, DSC_AXIS_INTRA, NULL, "uses gradients that are not summed over dp_intra"},
    };
    const dsc_strategy s = zero_one(1, 1, 4);

    drop_each(&s, rows, DSC_COUNT(rows));
}

/* Tensor ranks hold half of a tensor's norm each. */
static void drops_norms(void)
{
    static const dropped rows[] = {
        {1, DSC_OP_WEIGH, -1, "update", "reads what nobody wrote: norms"},
        {1, DSC_OP_ALL_GATHER, DSC_AXIS_TP, "update", "reads what nobody wrote: norms of all ranks"},
        {1, DSC_OP_UPDATE, -1, "update", "segment update: no op writes some of"},
        {1, DSC_OP_WEIGH, -1, "exchange", "reads what nobody wrote: norms"},
        {1, DSC_OP_ALL_GATHER, DSC_AXIS_TP, "exchange", "reads what nobody wrote: norms of all ranks"},
        {1, DSC_OP_ALL_GATHER, DSC_AXIS_DP, "exchange", "reads what nobody wrote: signs of means"},
        {1, DSC_OP_UPDATE, -1, "exchange", "segment exchange: no op writes some of"},
        {1, DSC_OP_ALL_REDUCE, DSC_AXIS_DP, NULL, "uses gradients that are not summed over dp"},
    };
    const dsc_strategy s = lamb(2, 1, 2);

    drop_each(&s, rows, DSC_COUNT(rows));
}

/* A replica that compresses what all have summed adds the sum to itself. */
static void refuses_sums_for_shares(void)
{
    dsc_strategy s = layout(1, 1, 4);
    machine m;

    machine_init(&m, MODEL, &s);
    for (int64_t rank = 0; rank < m.plan->ranks; rank++) {
        dsc_segment *segments = m.programs[rank]->segments;

        for (int64_t u = 0; u < segments[DSC_SEGMENT_LOCAL].use_count; u++)
            segments[DSC_SEGMENT_LOCAL].uses[u].template_ = segments[DSC_SEGMENT_GRADIENTS].uses[u].template_;
        machine_depend(m.programs[rank]);
    }
    machine_refuses(&m, "a segment that reduces", "takes gradients that are summed over dp for its replica's own");
    machine_fini(&m);
}

/* Without the first op of that kind in the steps that compress, of one micro-batch: what it leaves unwritten still
 * holds an exact step's. */
static void takes_old_sums(int64_t nodes, int kind, const char *words)
{
    dsc_strategy s = layout(1, 1, 4);
    bool is_dropped = false;
    machine m;

    s.global_batch = 4;
    machine_init_on(&m, MODEL, &s, nodes);
    const dsc_segment *local = &m.programs[0]->segments[DSC_SEGMENT_LOCAL];
    for (int64_t u = 0; u < local->use_count && !is_dropped; u++) {
        const dsc_template *template_ = &m.programs[0]->templates[local->uses[u].template_];

        for (int32_t op = 0; op < template_->op_count && !is_dropped; op++) {
            is_dropped = template_->ops[op].kind == kind;
            if (is_dropped) machine_drop_everywhere(&m, 0, local->uses[u].template_, op);
        }
    }
    CHECK(is_dropped, "no %s", DSC_OP_NAMES[kind]);
    machine_refuses(&m, DSC_OP_NAMES[kind], words);
    machine_fini(&m);
}

static void refuses_old_sums(void)
{
    static const char *const exact = "takes gradients that are summed over dp for its replica's own";

    takes_old_sums(1, DSC_OP_HEAD_BWD_W, "adds to a sum that an earlier step has left");
    for (int64_t nodes = 1; nodes <= 2; nodes++) takes_old_sums(nodes, DSC_OP_MLP_BWD_W, exact);
}

/* All take the first replica's part for their own, as that operand. */
static void takes_first_part(const dsc_strategy *s, int kind, int kernel, int operand, const char *words)
{
    machine m;
    int64_t cut = 0;

    machine_init_on(&m, MODEL, s, 2);
    for (int64_t rank = 0; rank < m.plan->ranks; rank++) {
        if (dsc_plan_representative(m.plan, rank) != rank) continue;
        for (int64_t t = 0; t < m.programs[rank]->template_count; t++) {
            dsc_template *template_ = &m.programs[rank]->templates[t];

            for (int64_t i = 0; i < template_->op_count; i++)
                for (int32_t c = 0; template_->ops[i].kind == kind && c < template_->ops[i].calls; c++) {
                    dsc_call *call = &template_->calls[template_->ops[i].first_call + c];

                    if (call->shape.kernel != kernel) continue;
                    cut += call->operands[operand].parts > 0;
                    call->operands[operand].parts = 0;
                }
        }
    }
    CHECK(cut > 0, "no %s takes a part", DSC_OP_NAMES[kind]);
    machine_refuses(&m, DSC_OP_NAMES[kind], words);
    machine_fini(&m);
}

static void refuses_others_parts(void)
{
    static const char *const unsummed = "uses gradients that are not summed over dp_intra";
    static const char *const unmade = "compresses what it has not made, of exp_avg";
    const dsc_strategy adam = layout(1, 1, 4), trust = lamb(1, 1, 4);

    takes_first_part(&adam, DSC_OP_GRAD_NORM, DSC_K_SQUARE_SUM, 0, unsummed);
    takes_first_part(&adam, DSC_OP_COMPRESS, DSC_K_MOMENTUM, 0, unsummed);
    takes_first_part(&adam, DSC_OP_COMPRESS, DSC_K_MOMENTUM, 1, unmade);
    takes_first_part(&adam, DSC_OP_COMPRESS, DSC_K_SIGN_COMPRESS, 0, unmade);
    takes_first_part(&trust, DSC_OP_COMPRESS, DSC_K_MOMENTUM, 0, unsummed);
}

/* ---- Units */

/* How often each element of the bucket is in some unit; returns false where one is out of bounds. */
static bool count_units(const dsc_bucket *bucket, const dsc_units *units, int *counts)
{
    int64_t place = 0;

    for (int64_t u = 0; u < units->count; u++) {
        const dsc_unit *unit = &units->unit[u];

        if (unit->place != place || unit->real < 0 || unit->real > unit->padded ||
            unit->first + unit->real > bucket->elems)
            return false;
        for (int64_t i = 0; i < unit->real; i++) counts[unit->first + i]++;
        place += unit->padded;
    }
    return place <= bucket->packed && units->count <= bucket->units;
}

/* Padding: between shards, rows past the vocabulary's end, positions past the sequence. */
static int64_t real_elems(const dsc_plan *plan, const dsc_shard *shard, int64_t tp_index)
{
    const dsc_tensor *tensor = &plan->tensors[shard->tensor];
    int64_t elems = 0;
    dsc_block block;

    for (int64_t b = 0; dsc_shard_block(plan, shard, tp_index, b, &block); b++) {
        int64_t rows = block.rows;

        if (tensor->role == DSC_ROLE_WPE)
            rows = DSC_MAX(0, DSC_MIN(rows, plan->config.strategy.seq_len - block.row));
        elems += rows * block.columns;
    }
    return elems;
}

static void check_units(const machine *m, int64_t rank, int64_t index)
{
    const dsc_plan *plan = m->plan;
    const dsc_stage *stage = &plan->stages[m->programs[rank]->stage];
    const dsc_bucket *bucket = &stage->buckets[index];
    const int64_t tp_index = dsc_plan_coord(plan, rank).of[DSC_AXIS_TP];
    dsc_units *units = malloc((size_t)dsc_units_elems(bucket->units) * sizeof(int64_t));
    int *counts = calloc((size_t)bucket->elems, sizeof *counts);

    for (int64_t part = 0; part < plan->intra; part++) {
        dsc_bucket_units(plan, stage, bucket, part, tp_index, units);
        CHECK(count_units(bucket, units, counts), "bucket %d, part %d: units lie elsewhere", (int)index, (int)part);
    }
    for (int64_t s = bucket->first; s < bucket->end; s++) {
        const dsc_shard *shard = &stage->shards[s];
        const int64_t real = real_elems(plan, shard, tp_index);

        for (int64_t i = 0; i < shard->elems; i++)
            if (!CHECK(counts[shard->first - bucket->first_elem + i] == (i < real), "%s on tp %d: element %d of %d is "
                       "in %d units", plan->tensors[shard->tensor].name, (int)tp_index, (int)i, (int)real,
                       counts[shard->first - bucket->first_elem + i])) break;
    }
    free(counts);
    free(units);
}

static void units_hold_each_weight(void)
{
    for (int draw = 0; draw < 40; draw++) {
        const int64_t each = tap_random_between(1, 3), nodes = tap_random_between(1, 3);
        dsc_strategy s = layout(1 << tap_random_between(0, 2), tap_random_between(1, 2), each * nodes);
        machine m;

        s.bucket_elems = tap_random_between(1, 20000);
        s.semantics = (int)tap_random_between(DSC_SEMANTICS_PAPER, DSC_SEMANTICS_REFERENCE);
        machine_init_on(&m, MODEL, &s, nodes);
        for (int64_t rank = 0; rank < m.plan->ranks && m.plan->workers > 1; rank++)
            for (int64_t i = 0; i < m.plan->stages[m.programs[rank]->stage].bucket_count; i++) check_units(&m, rank, i);
        machine_fini(&m);
    }
}

/* Those of a shard, in their order; their sizes follow from the shape alone. */
static int64_t shard_units(const dsc_plan *plan, const dsc_shard *shard, int64_t *sizes, int64_t most)
{
    int64_t count = 0, in_shard, expected = 0;
    dsc_unit unit;

    while (dsc_shard_unit(plan, &plan->stages[0], shard, 0, 0, count, &unit, &in_shard) && count < most) {
        CHECK(in_shard == expected, "unit %d begins at %d, not at %d", (int)count, (int)in_shard, (int)expected);
        sizes[count++] = unit.real;
        expected += unit.real;
    }
    return count;
}

/* 3 200 000 elements are 4 pieces. */
static void check_pieces(const dsc_plan *plan, const dsc_shard *shard, bool is_whole)
{
    const bool is_bias = plan->tensors[shard->tensor].role == DSC_ROLE_QKV_B;
    const int64_t most = is_bias ? shard->elems / 3 : 1 << 20;
    const int64_t pieces = is_whole ? 1 : (shard->elems + most - 1) / most;
    int64_t sizes[8], count = shard_units(plan, shard, sizes, DSC_COUNT(sizes));

    CHECK(count == pieces, "%s has %d units, not %d", plan->tensors[shard->tensor].name, (int)count, (int)pieces);
    for (int64_t u = 0; u < count && !is_whole; u++)
        CHECK(is_bias ? sizes[u] == most : sizes[u] <= most, "unit %d of %s has %d elements, of at most %d", (int)u,
              plan->tensors[shard->tensor].name, (int)sizes[u], (int)most);
}

/* Heads of 16: with tp 3 a rank has two of six, and 16 does not divide by 3. */
static void units_are_pieces(void)
{
    for (int64_t tp = 1; tp <= 3; tp += 2)
        for (int semantics = DSC_SEMANTICS_PAPER; semantics <= DSC_SEMANTICS_REFERENCE; semantics++) {
            dsc_strategy s = layout(tp, 1, 2);
            machine m;

            s.semantics = semantics;
            s.sequence_parallel = false;
            machine_init(&m, "layers=2,hidden=96,heads=6,vocab=50000,seq=24", &s);
            for (int64_t i = 0; i < m.plan->stages[0].shard_count; i++)
                check_pieces(m.plan, &m.plan->stages[0].shards[i], semantics == DSC_SEMANTICS_REFERENCE);
            machine_fini(&m);
        }
}

/* ---- Tensors */

static void check_held(const machine *m, int64_t rank, int64_t index)
{
    const dsc_plan *plan = m->plan;
    const dsc_stage *stage = &plan->stages[m->programs[rank]->stage];
    const dsc_bucket *bucket = &stage->buckets[index];
    const int64_t tp_index = dsc_plan_coord(plan, rank).of[DSC_AXIS_TP];
    dsc_held *held = calloc((size_t)(bucket->end - bucket->first), sizeof *held);
    int64_t end = 0;

    dsc_bucket_held(plan, stage, bucket, tp_index, held);
    for (int64_t i = 0; i < bucket->end - bucket->first; i++) {
        const dsc_shard *shard = &stage->shards[bucket->first + i];

        CHECK(held[i].first >= end && held[i].first == shard->first - bucket->first_elem &&
              held[i].elems == shard->elems && held[i].real == real_elems(plan, shard, tp_index),
              "%s on tp %d: %d elements from %d on, %d of them trained", plan->tensors[shard->tensor].name,
              (int)tp_index, (int)held[i].elems, (int)held[i].first, (int)held[i].real);
        end = held[i].first + held[i].elems;
    }
    CHECK(end <= bucket->elems, "bucket %d: %d elements of %d", (int)index, (int)end, (int)bucket->elems);
    free(held);
}

static void lists_hold_each_tensor(void)
{
    for (int draw = 0; draw < 20; draw++) {
        dsc_strategy s = lamb(1 << tap_random_between(0, 2), tap_random_between(1, 2), tap_random_between(1, 3));
        machine m;

        s.bucket_elems = tap_random_between(1, 20000);
        machine_init(&m, MODEL, &s);
        for (int64_t rank = 0; rank < m.plan->ranks; rank++)
            for (int64_t i = 0; i < m.plan->stages[m.programs[rank]->stage].bucket_count; i++) check_held(&m, rank, i);
        machine_fini(&m);
    }
}

static const tap_case cases[] = {
    {"every layout of 1 to 8 ranks on 1 to 8 nodes makes right programs", every_layout_passes},
    {"random schedules, precisions, bucket sizes, ratios and semantics make right programs", random_layouts_pass},
    {"a program without any one of its ops is refused", drops_any_op},
    {"a program without what compresses, exchanges or averages is refused, by what is missing", drops_what_compresses},
    {"so is one without what replicas share, note, step by themselves or meet by", drops_own_steps},
    {"so is one of LAMB without norms, or those of other tensor ranks", drops_norms},
    {"sums of all replicas are refused where a replica's own gradients belong", refuses_sums_for_shares},
    {"so are sums of an exact step where an op has left them", refuses_old_sums},
    {"the part of a bucket that another replica has the sum of is refused", refuses_others_parts},
    {"units hold each weight once, and no padding", units_hold_each_weight},
    {"large tensors are several units, and so are the biases of q, k and v; with reference semantics none is",
     units_are_pieces},
    {"lists of tensors say what a rank holds, and what of it is trained", lists_hold_each_tensor},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
