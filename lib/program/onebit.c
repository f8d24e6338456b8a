/* 1-bit Adam's compressed step (Tang et al. 2021, algorithm 1): each replica makes its own momentum and sends its
 * signs, cut in a chunk for each; who has received all of a chunk sends the signs of their mean to all; the optimizer
 * goes by that and by the variance as it was frozen. What signs leave out is added the next time, at both ends.
 *
 * Hierarchically the replicas of a node are one worker: each has the exact sum of their gradients of its part of the
 * bucket, makes the momentum of that, sends and serves it, and passes on what it gets of it. */
#include "kernel/units.h"
#include "program/build.h"

/* ---- Lists of units */

static int64_t list_bytes(const dsc_bucket *bucket)
{
    return dsc_units_elems(bucket->units) * dsc_dtype_bytes(DSC_INT64);
}

/* The rank's own list; behind it, where workers are several replicas, those of all their parts. Where replicas sum
 * their part alone the own list counts from that part's first element: what it compresses is no more. */
static int64_t lists_bytes(const dsc_plan *plan, const dsc_bucket *bucket)
{
    return (plan->intra > 1 ? plan->intra + 1 : 1) * list_bytes(bucket);
}

/* Where the lists of all buckets up to one, in its space, end before it; of all of them for bucket == bucket_count. */
static int64_t lists_before(const dsc_plan *plan, const dsc_stage *stage, int space, int64_t bucket)
{
    int64_t bytes = 0;

    for (int64_t i = 0; i < bucket; i++)
        if ((int)dsc_space_of(&stage->buckets[i]) == space) bytes += lists_bytes(plan, &stage->buckets[i]);
    return bytes;
}

void dsc_build_units(dsc_builder *b)
{
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        int64_t bytes = lists_before(b->plan, b->stage, space, b->bucket_count);

        b->program->units[space] = -1;
        if (bytes > 0 && b->plan->workers > 1)
            b->program->units[space] = dsc_build_static(b, space, "units", DSC_CLASS_BUFFERS, bytes);
    }
}

static void fill_list(const dsc_program *program, const dsc_bucket *bucket, int64_t part, int64_t tp_index,
                      int64_t server, void *out)
{
    const dsc_plan *plan = program->plan;
    dsc_units *list = out;

    dsc_bucket_units(plan, &plan->stages[program->stage], bucket, part, tp_index, list);
    list->server = server;
}

static void count_from(int64_t first, dsc_units *list)
{
    for (int64_t u = 0; u < list->count; u++) list->unit[u].first -= first;
}

void dsc_program_fill_units(const dsc_program *program, int space, int64_t tp_index, int64_t dp_index, void *out)
{
    const dsc_plan *plan = program->plan;
    const dsc_stage *stage = &plan->stages[program->stage];

    for (int64_t i = 0; i < stage->bucket_count; i++) {
        const dsc_bucket *bucket = &stage->buckets[i];
        const int64_t server = dp_index / plan->intra, lists = lists_bytes(plan, bucket) / list_bytes(bucket);
        const int64_t part = dp_index % plan->intra;
        char *own = (char *)out + lists_before(plan, stage, space, i);

        if ((int)dsc_space_of(bucket) != space) continue;
        fill_list(program, bucket, part, tp_index, server, own);
        if (dsc_plan_scatters(plan)) count_from(part * (bucket->elems / plan->intra), (dsc_units *)own);
        for (int64_t l = 1; l < lists; l++)
            fill_list(program, bucket, l - 1, tp_index, server, own + l * list_bytes(bucket));
    }
}

/* The rank's own list, or those of all parts. */
static dsc_span units_of(const dsc_builder *b, int64_t index, bool is_own)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const int64_t each = list_bytes(bucket);
    dsc_span all = {b->program->units[dsc_space_of(bucket)],
                    lists_before(b->plan, b->stage, dsc_space_of(bucket), index), lists_bytes(b->plan, bucket), 0};

    if (is_own || all.bytes == each) return (dsc_span){all.buffer, all.offset, each, 0};
    return (dsc_span){all.buffer, all.offset + each, all.bytes - each, 0};
}

/* ---- A bucket on its way */

static int padding_flag(const dsc_builder *b)
{
    return b->plan->config.strategy.semantics == DSC_SEMANTICS_REFERENCE ? DSC_COUNT_PADDING : 0;
}

static dsc_span packets(dsc_builder *b, int64_t index, const char *name, int64_t count)
{
    const dsc_bucket *bucket = &b->buckets[index];
    int64_t each = dsc_packet_bytes(bucket->packed, b->plan->workers, bucket->units, DSC_FP32);

    return dsc_span_whole(b, dsc_build_for_bucket(b, dsc_space_of(bucket), name, DSC_CLASS_BUFFERS, index,
                                                  count * each));
}

void dsc_build_momentum(dsc_builder *b, int64_t index, dsc_kept from, dsc_span to, int flags)
{
    const int8_t type = (int8_t)dsc_kept_type(b->plan, from);
    const dsc_span gradient = dsc_span_own(b, dsc_kept_of(b, index, from));
    const dsc_shape shape = {.kernel = DSC_K_MOMENTUM, .type = type, .out = type, .flags = flags,
                             .d = {gradient.bytes / dsc_dtype_bytes(type), b->plan->workers}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){gradient, to});
}

/* Where what replicas share is, as large as `whole`, while the op under construction works on it. */
static dsc_span shared(dsc_builder *b, const dsc_sharing *sharing, int64_t index, dsc_span whole)
{
    if (sharing->x != DSC_KEPT_COUNT) return whole;
    return dsc_span_whole(b, dsc_build_for_bucket(b, dsc_space_of(&b->buckets[index]), "shared", DSC_CLASS_BUFFERS,
                                                  index, whole.bytes));
}

/* All of a bucket's x; where that lives no longer than an op, what is as large. */
static dsc_span whole_of(const dsc_builder *b, const dsc_sharing *sharing, int64_t index)
{
    return dsc_kept_of(b, index, sharing->x != DSC_KEPT_COUNT ? sharing->x : DSC_KEPT_EXP_AVG);
}

static dsc_axis axis_of(const dsc_builder *b) { return b->plan->intra > 1 ? DSC_AXIS_INTER : DSC_AXIS_DP; }

static void compress(dsc_builder *b, const dsc_sharing *sharing, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const int64_t n = b->plan->workers;
    dsc_span sent = packets(b, index, "sent signs", n), received = packets(b, index, "received signs", n);
    dsc_span x = shared(b, sharing, index, dsc_span_own(b, whole_of(b, sharing, index)));
    const dsc_shape shape = {.kernel = DSC_K_SIGN_COMPRESS, .flags = padding_flag(b),
                             .d = {x.bytes / dsc_dtype_bytes(DSC_FP32), bucket->packed, n, bucket->units}};

    b->states[index].packets = received.buffer;
    dsc_build_op_in(b, dsc_space_of(bucket), DSC_OP_COMPRESS, -1);
    sharing->make(b, index, x);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
        x, units_of(b, index, true), dsc_kept_of(b, index, DSC_KEPT_WORKER_ERROR), sent});
    dsc_build_end(b);
    dsc_build_transfer(b, DSC_OP_ALL_TO_ALL, axis_of(b), -1, sent, received, DSC_UINT8);
}

static void average(dsc_builder *b, int64_t index)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const int64_t n = b->plan->workers;
    const dsc_shape shape = {.kernel = DSC_K_SIGN_AVERAGE, .flags = padding_flag(b),
                             .d = {bucket->packed, n, bucket->units}};
    dsc_span received = dsc_span_whole(b, b->states[index].packets), mean = packets(b, index, "signs of the mean", 1);
    dsc_span means = packets(b, index, "signs of means", n), all;

    b->states[index].packets = means.buffer;
    dsc_build_op_in(b, dsc_space_of(bucket), DSC_OP_AVERAGE, -1);
    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
        received, units_of(b, index, true), dsc_kept_of(b, index, DSC_KEPT_SERVER_ERROR), mean});
    dsc_build_end(b);
    dsc_build_transfer(b, DSC_OP_ALL_GATHER, axis_of(b), -1, mean, means, DSC_UINT8);
    if (b->plan->intra == 1) return;
    all = packets(b, index, "signs of all parts", n * b->plan->intra);
    dsc_build_transfer(b, DSC_OP_ALL_GATHER, DSC_AXIS_INTRA, -1, means, all, DSC_UINT8);
    b->states[index].packets = all.buffer;
}

static void expand(dsc_builder *b, int64_t index, dsc_span x)
{
    const dsc_bucket *bucket = &b->buckets[index];
    const dsc_shape shape = {.kernel = DSC_K_SIGN_EXPAND,
                             .d = {bucket->elems, bucket->packed, b->plan->workers, bucket->units, b->plan->intra}};

    dsc_build_call(b, &shape, (const dsc_span[DSC_KERNEL_OPERANDS]){
        dsc_span_whole(b, b->states[index].packets), units_of(b, index, false), x});
}

/* The mean, where a single replica's own is it. */
static dsc_span bring(dsc_builder *b, const dsc_sharing *sharing, int64_t index, bool is_alone)
{
    dsc_span x = shared(b, sharing, index, whole_of(b, sharing, index));

    if (is_alone) sharing->make(b, index, x);
    else expand(b, index, x);
    return x;
}

static void weigh(dsc_builder *b, const dsc_sharing *sharing, int64_t index, bool is_alone)
{
    dsc_build_op_in(b, dsc_space_of(&b->buckets[index]), DSC_OP_WEIGH, -1);
    sharing->weigh(b, index, bring(b, sharing, index, is_alone));
    dsc_build_end(b);
    sharing->gather(b, index);
}

static void update(dsc_builder *b, const dsc_sharing *sharing, int64_t index, bool is_alone)
{
    const dsc_bucket *bucket = &b->buckets[index];
    dsc_span weights = dsc_build_new_weights(b, index);

    dsc_build_op_in(b, dsc_space_of(bucket), DSC_OP_UPDATE, -1);
    if (sharing->weigh == NULL) bring(b, sharing, index, is_alone);
    sharing->use(b, index, weights);
    dsc_build_end(b);
    dsc_build_spread_bucket(b, index, weights);
}

void dsc_build_alone(dsc_builder *b, const dsc_sharing *sharing, const char *name)
{
    const int64_t last = b->bucket_count - 1, behind = sharing->weigh != NULL;

    dsc_build_template(b, name);
    for (int64_t i = last; i >= -behind; i--) {
        if (behind && i >= 0) weigh(b, sharing, i, true);
        if (i + behind <= last) update(b, sharing, i + behind, true);
    }
}

/* Three buckets at a time, or four, each a station behind the one before: so kernels of one run while others' packets
 * travel. */
static void build_pipeline(dsc_builder *b, const dsc_sharing *sharing)
{
    const int64_t last = b->bucket_count - 1, behind = sharing->weigh != NULL ? 3 : 2;

    dsc_build_template(b, sharing->name);
    for (int64_t i = last; i >= -behind; i--) {
        const int64_t averaged = i + 1, weighed = i + 2, updated = i + behind;

        if (i >= 0) compress(b, sharing, i);
        if (averaged >= 0 && averaged <= last) average(b, averaged);
        if (sharing->weigh != NULL && weighed >= 0 && weighed <= last) weigh(b, sharing, weighed, false);
        if (updated <= last) update(b, sharing, updated, false);
    }
}

void dsc_build_sharing(dsc_builder *b, const dsc_sharing *sharing)
{
    if (b->plan->workers > 1) build_pipeline(b, sharing);
    else dsc_build_alone(b, sharing, sharing->name);
}

static void make_momentum(dsc_builder *b, int64_t index, dsc_span x)
{
    dsc_build_momentum(b, index, DSC_KEPT_SUMS, x, 0);
}

static void use_momentum(dsc_builder *b, int64_t index, dsc_span weights)
{
    dsc_build_adam(b, index, weights, DSC_FROZEN);
}

const dsc_sharing DSC_SHARING_MOMENTA = {"exchange", DSC_KEPT_EXP_AVG, make_momentum, NULL, NULL, use_momentum};

void dsc_build_exchange(dsc_builder *b)
{
    dsc_build_sharing(b, b->plan->has_trust ? &DSC_SHARING_BY_TRUST : &DSC_SHARING_MOMENTA);
}
