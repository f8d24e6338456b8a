#include "program/build.h"
#include <stdlib.h>
#include <string.h>

static void make_layouts(dsc_builder *b);

/* A buffer for each kind of state in each space where some bucket keeps it. */
static void make_static(dsc_builder *b)
{
    static const dsc_class classes[DSC_KEPT_COUNT] = {
        [DSC_KEPT_PARAMETERS] = DSC_CLASS_PARAMETERS, [DSC_KEPT_COPY] = DSC_CLASS_PARAMETERS,
        [DSC_KEPT_GRADIENTS] = DSC_CLASS_GRADIENTS,   [DSC_KEPT_SUMS] = DSC_CLASS_GRADIENTS,
        [DSC_KEPT_MASTER] = DSC_CLASS_OPTIMIZER,      [DSC_KEPT_EXP_AVG] = DSC_CLASS_OPTIMIZER,
        [DSC_KEPT_EXP_AVG_SQ] = DSC_CLASS_OPTIMIZER, [DSC_KEPT_WORKER_ERROR] = DSC_CLASS_OPTIMIZER,
        [DSC_KEPT_SERVER_ERROR] = DSC_CLASS_OPTIMIZER, [DSC_KEPT_ANCHOR] = DSC_CLASS_OPTIMIZER,
        [DSC_KEPT_FRESH] = DSC_CLASS_OPTIMIZER, [DSC_KEPT_TRUST] = DSC_CLASS_OPTIMIZER};
    dsc_program *p = b->program;

    for (int kept = 0; kept < DSC_KEPT_COUNT; kept++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++) {
            int64_t bytes = b->stage->kept_elems[kept][space] * dsc_dtype_bytes(dsc_kept_type(b->plan, kept));

            p->kept[kept][space] = -1;
            if (bytes > 0)
                p->kept[kept][space] = dsc_build_static(b, space, DSC_KEPT_NAMES[kept], classes[kept], bytes);
        }
    p->scalars = dsc_build_static(b, DSC_SPACE_HOST, "scalars", DSC_CLASS_BUFFERS,
                                  DSC_SCALAR_COUNT * dsc_dtype_bytes(DSC_FP64));
    make_layouts(b);
    dsc_build_units(b);
    dsc_build_held(b);
}

/* The shape that all layers of one way have in common as far as lists are concerned. */
static dsc_shape lists_of(const dsc_plan *plan, int way)
{
    const dsc_layer_attention *a = &plan->attention[way];

    return (dsc_shape){.kernel = DSC_K_ATTENTION_FWD, .flags = DSC_HAS_LAYOUT,
                       .d = {1, plan->config.strategy.seq_len, plan->model.heads / plan->config.strategy.tp, 1, 1,
                             a->present, a->layout->block}};
}

static bool has_layer(const dsc_builder *b, int way)
{
    for (int64_t c = 0; c < b->stage->chunk_count; c++)
        for (int64_t i = 0; i < b->stage->chunks[c].layers; i++)
            if (b->plan->attention_of[b->stage->chunks[c].first_layer + i] == way) return true;
    return false;
}

static void make_layouts(dsc_builder *b)
{
    for (int way = 0; way < DSC_PATTERNS; way++) {
        bool is_there = way < b->plan->attention_count && b->plan->attention[way].layout != NULL && has_layer(b, way);
        dsc_shape shape = is_there ? lists_of(b->plan, way) : (dsc_shape){0};

        b->program->layouts[way] = -1;
        if (is_there)
            b->program->layouts[way] = dsc_build_static(b, DSC_SPACE_DEVICE, "layout", DSC_CLASS_BUFFERS,
                                                        dsc_operand_bytes(&shape, 3));
    }
}

dsc_status dsc_program_fill_layout(const dsc_program *program, int way, int64_t tp_index, void *out)
{
    const dsc_plan *plan = program->plan;
    const dsc_layer_attention *a = &plan->attention[way];
    const dsc_shape shape = lists_of(plan, way);
    const dsc_blocks blocks = dsc_blocks_of(&shape, out);
    int64_t *heads = malloc((size_t)blocks.heads * sizeof *heads);
    dsc_status status;

    if (heads == NULL) return DSC_FAIL(DSC_ENOMEM, "program: %lld heads", (long long)blocks.heads);
    for (int64_t i = 0; i < blocks.heads; i++) heads[i] = dsc_plan_head(plan, a, tp_index, i);
    status = dsc_layout_list(a->layout, heads, &blocks);
    free(heads);
    return status;
}

/* ---- The whole program */

static void use_built(dsc_builder *b, int segment) { dsc_use_once(b, segment, b->template_index); }

/* Templates that begin and end what is counted, which several segments use; -1: not made yet. */
typedef struct counting { int32_t clear, norm, agree; } counting;

static void use_made(dsc_builder *b, int segment, void (*build)(dsc_builder *b), int32_t *made)
{
    if (*made < 0) {
        build(b);
        *made = b->template_index;
    }
    dsc_use_once(b, segment, *made);
}

/* All of a step but its update. */
static void make_gradients(dsc_builder *b, dsc_schedule_uses *s, int segment, counting *made)
{
    use_made(b, segment, dsc_build_clear, &made->clear);
    dsc_use_passes(b, s, segment);
    dsc_build_rest(b);
    use_built(b, segment);
    use_made(b, segment, dsc_build_norm, &made->norm);
    if (!b->is_local) {
        dsc_build_variance_norm(b);
        use_built(b, segment);
    }
    use_made(b, segment, dsc_build_agree, &made->agree);
}

static void make_compressed(dsc_builder *b, dsc_schedule_uses *s, counting *made)
{
    static const struct { int segment; void (*build)(dsc_builder *b); bool has_own_steps; } rows[] = {
        {DSC_SEGMENT_EXCHANGE, dsc_build_exchange, false}, {DSC_SEGMENT_SHARE, dsc_build_share, true},
        {DSC_SEGMENT_ANCHOR, dsc_build_anchor, true},      {DSC_SEGMENT_STEP, dsc_build_step, true},
        {DSC_SEGMENT_SYNC, dsc_build_sync, true}};

    b->is_local = true;
    if (dsc_plan_scatters(b->plan)) made->norm = -1; /* of parts */
    make_gradients(b, s, DSC_SEGMENT_LOCAL, made);
    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        if (rows[i].has_own_steps != b->plan->has_own_steps) continue;
        rows[i].build(b);
        use_built(b, rows[i].segment);
    }
    b->is_local = false;
}

/* Updates in host memory while passes see the weights of before (Ren et al. 2021, delayed parameter update): what a
 * bucket's gradients overwrite, and where its weights go, the lanes wait for as for anything else. */
static void make_delayed(dsc_builder *b)
{
    dsc_build_update_alone(b);
    use_built(b, DSC_SEGMENT_DELAYED);
    dsc_use_again(b, DSC_SEGMENT_DELAYED, DSC_SEGMENT_GRADIENTS);
    dsc_build_spread_alone(b);
    use_built(b, DSC_SEGMENT_DELAYED);
}

static void make_segments(dsc_builder *b, dsc_schedule_uses *s)
{
    counting made = {-1, -1, -1};

    make_gradients(b, s, DSC_SEGMENT_GRADIENTS, &made);
    if (b->plan->config.strategy.delay_update > 0) make_delayed(b);
    if (b->plan->has_trust) dsc_build_lamb(b);
    else dsc_build_update(b);
    use_built(b, DSC_SEGMENT_UPDATE);
    if (b->plan->compresses) make_compressed(b, s, &made);
    dsc_use_once(b, DSC_SEGMENT_EVALUATE, made.clear);
    dsc_use_losses(b, s);
    dsc_use_once(b, DSC_SEGMENT_EVALUATE, made.agree);
    dsc_build_spread(b);
    use_built(b, DSC_SEGMENT_SPREAD);
}

/* The chunk's shards by layer and role. */
static void list_shards(dsc_builder *b)
{
    const dsc_chunk *chunk = b->here->chunk;

    for (int64_t i = 0; i < b->stage->shard_count; i++) {
        const dsc_shard *shard = &b->stage->shards[i];
        const dsc_tensor *tensor = &b->plan->tensors[shard->tensor];
        int64_t place = tensor->layer < 0 ? 0 : tensor->layer - chunk->first_layer + 1;

        if (shard->chunk == b->chunk) b->here->shards[place * DSC_ROLE_COUNT + tensor->role] = shard;
    }
}

static dsc_status init_chunk(dsc_builder *b, int64_t c)
{
    const dsc_chunk *chunk = &b->stage->chunks[c];
    size_t places = (size_t)chunk->layers + 1;
    dsc_chunk_buffers *here = &b->chunks[c];

    *here = (dsc_chunk_buffers){.chunk = chunk,
                                .slots = calloc(places, sizeof *here->slots),
                                .deferred = calloc(places, sizeof *here->deferred),
                                .kept = calloc(places, sizeof *here->kept),
                                .saved = calloc(places, sizeof *here->saved),
                                .inputs = calloc(places, sizeof *here->inputs),
                                .shards = calloc(places * DSC_ROLE_COUNT, sizeof *here->shards)};
    if (here->slots == NULL || here->deferred == NULL || here->kept == NULL || here->saved == NULL ||
        here->inputs == NULL || here->shards == NULL)
        return DSC_FAIL(DSC_ENOMEM, "program: buffers of %lld layers", (long long)chunk->layers);
    dsc_enter_chunk(b, c);
    list_shards(b);
    dsc_build_slots(b);
    return b->status;
}

static void init_builder(dsc_builder *b, const dsc_plan *plan, int64_t stage, dsc_program *program)
{
    const dsc_strategy *strategy = &plan->config.strategy;
    int64_t seq = dsc_plan_tokens(plan), rows = strategy->micro_batch * seq;
    const bool is_replicated = strategy->tp > 1 && !strategy->sequence_parallel;
    const bool is_cut = strategy->checkpoints >= DSC_CHECKPOINTS_CUT && is_replicated;
    const bool is_away = strategy->checkpoints == DSC_CHECKPOINTS_HOST;

    *b = (dsc_builder){.program = program,
                       .plan = plan,
                       .stage = &plan->stages[stage],
                       .batch = strategy->micro_batch,
                       .seq = seq,
                       .rows = rows,
                       .kept_rows = strategy->sequence_parallel ? rows / strategy->tp : rows,
                       .tp = strategy->tp,
                       .cp = strategy->cp,
                       .is_cut = strategy->tp > 1,
                       .is_sequence_cut = strategy->tp > 1 && strategy->sequence_parallel,
                       .is_scattered = strategy->scatters_messages && is_replicated,
                       .is_saved = is_cut || is_away,
                       .is_saved_cut = is_cut,
                       .is_saved_away = is_away,
                       .hidden = plan->model.hidden,
                       .type = plan->type,
                       .buckets = plan->stages[stage].buckets,
                       .bucket_count = plan->stages[stage].bucket_count,
                       .arrival = {.bucket = -1}};
}

static void fini_builder(dsc_builder *b)
{
    for (int64_t c = 0; b->chunks != NULL && c < b->stage->chunk_count; c++) {
        free(b->chunks[c].slots);
        free(b->chunks[c].deferred);
        free(b->chunks[c].kept);
        free(b->chunks[c].saved);
        free(b->chunks[c].inputs);
        free(b->chunks[c].shards);
    }
    free(b->chunks);
    free(b->states);
}

static dsc_status build(dsc_builder *b, dsc_schedule_uses *s)
{
    dsc_status status = DSC_OK;

    make_static(b);
    DSC_TRY(b->status);
    DSC_TRY(dsc_uses_init(b, s));
    b->chunks = calloc((size_t)b->stage->chunk_count, sizeof *b->chunks);
    b->states = calloc((size_t)b->bucket_count + 1, sizeof *b->states);
    if (b->chunks == NULL || b->states == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "program: %lld chunks", (long long)b->stage->chunk_count));
    for (int64_t c = 0; c < b->stage->chunk_count; c++) DSC_TRY(init_chunk(b, c));
    make_segments(b, s);
    DSC_TRY(b->status);
    DSC_TRY(dsc_program_layout(b->program));
    DSC_TRY(dsc_program_depend(b->program));
    dsc_program_hash(b->program);
out:
    return status;
}

dsc_status dsc_program_create(const dsc_plan *plan, int64_t stage, dsc_program **out)
{
    dsc_status status = DSC_OK;
    dsc_builder b = {0};
    dsc_schedule_uses s = {0};
    dsc_program *program = calloc(1, sizeof *program);

    if (program == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "program: %zu bytes", sizeof *program);
        goto out;
    }
    program->plan = plan;
    program->stage = stage;
    init_builder(&b, plan, stage, program);
    DSC_TRY(build(&b, &s));
    *out = program;
    program = NULL;
out:
    dsc_uses_fini(&s);
    fini_builder(&b);
    dsc_program_destroy(program);
    return status;
}

void dsc_program_destroy(dsc_program *program)
{
    if (program == NULL) return;
    for (int64_t t = 0; t < program->template_count; t++) {
        free(program->templates[t].ops);
        free(program->templates[t].calls);
        free(program->templates[t].deps);
        free(program->templates[t].lifetimes);
    }
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) {
        free(program->segments[s].uses);
        free(program->segments[s].waits);
    }
    free(program->templates);
    free(program->buffers);
    free(program);
}

dsc_status dsc_programs_create(const dsc_plan *plan, const dsc_program *const **out)
{
    dsc_status status = DSC_OK;
    const dsc_program **programs = calloc((size_t)plan->ranks, sizeof *programs);

    if (programs == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "programs of %lld ranks", (long long)plan->ranks);
        goto out;
    }
    for (int64_t rank = 0; rank < plan->ranks; rank++) {
        int64_t representative = dsc_plan_representative(plan, rank);
        dsc_program *made = NULL;

        if (representative == rank)
            DSC_TRY(dsc_program_create(plan, dsc_plan_coord(plan, rank).of[DSC_AXIS_PP], &made));
        programs[rank] = representative == rank ? made : programs[representative];
    }
    *out = programs;
    programs = NULL;
out:
    dsc_programs_destroy(plan, programs);
    return status;
}

void dsc_programs_destroy(const dsc_plan *plan, const dsc_program *const *programs)
{
    if (programs == NULL) return;
    for (int64_t rank = 0; rank < plan->ranks; rank++)
        if (dsc_plan_representative(plan, rank) == rank) dsc_program_destroy((dsc_program *)programs[rank]);
    free((void *)programs);
}

int64_t dsc_program_offset(const dsc_program *program, dsc_span span, const dsc_use *use)
{
    const dsc_buffer *buffer = &program->buffers[span.buffer];
    const dsc_region *region = &program->regions[buffer->space][buffer->life];

    return region->base + (use == NULL ? 0 : use->copy[buffer->life] * region->bytes) + buffer->offset + span.offset;
}

dsc_span dsc_program_kept(const dsc_program *program, const dsc_bucket *bucket, dsc_kept kept)
{
    dsc_home home = dsc_bucket_home(program->plan, bucket, kept);
    int64_t each = dsc_dtype_bytes(dsc_kept_type(program->plan, home.kept));

    return (dsc_span){program->kept[home.kept][home.space], home.first * each, home.elems * each, 0};
}

/* The last use of the segment that begins at or before the op; -1 when there is none. */
static int64_t find_use(const dsc_segment *segment, int64_t number)
{
    int64_t low = 0, high = segment->use_count;

    while (low < high) {
        int64_t middle = (low + high) / 2;

        if (segment->uses[middle].base <= number) low = middle + 1;
        else high = middle;
    }
    return low - 1;
}

bool dsc_program_find(const dsc_program *program, int64_t number, dsc_place_of_op *out)
{
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) {
        const dsc_segment *segment = &program->segments[s];
        int64_t use = find_use(segment, number);
        const dsc_template *template_ = use < 0 ? NULL : &program->templates[segment->uses[use].template_];
        int64_t index = use < 0 ? 0 : number - segment->uses[use].base;

        if (use < 0 || index >= template_->op_count) continue;
        *out = (dsc_place_of_op){s, use, (int32_t)index, &template_->ops[index]};
        return true;
    }
    return false;
}
