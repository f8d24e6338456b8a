#include "program/build.h"
#include "program/schedule.h"
#include <stdlib.h>
#include <string.h>

static void make_static(dsc_builder *b)
{
    const int64_t elems = b->stage->flat_elems;
    dsc_program *p = b->program;
    const struct { int32_t *buffer; const char *name; dsc_class class_; dsc_dtype type; int64_t elems; } rows[] = {
        {&p->parameters, "parameters", DSC_CLASS_PARAMETERS, b->type, elems},
        {&p->gradients, "gradients", DSC_CLASS_GRADIENTS, b->gradient_type, elems},
        {&p->exp_avg, "exp_avg", DSC_CLASS_OPTIMIZER, DSC_FP32, elems},
        {&p->exp_avg_sq, "exp_avg_sq", DSC_CLASS_OPTIMIZER, DSC_FP32, elems},
        {&p->scalars, "scalars", DSC_CLASS_BUFFERS, DSC_FP64, DSC_SCALAR_COUNT},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++)
        *rows[i].buffer = dsc_build_buffer(b, rows[i].name, DSC_LIFE_STATIC, rows[i].class_, -1,
                                           rows[i].elems * dsc_dtype_bytes(rows[i].type));
    p->master = p->parameters;
    if (b->type != DSC_FP32)
        p->master =
            dsc_build_buffer(b, "master", DSC_LIFE_STATIC, DSC_CLASS_OPTIMIZER, -1, elems * dsc_dtype_bytes(DSC_FP32));
}

/* ---- Uses */

static void use(dsc_builder *b, int segment, int32_t template_, dsc_use use)
{
    dsc_program *program = b->program;
    dsc_segment *s = &program->segments[segment];

    if (b->status != DSC_OK || program->templates[template_].op_count == 0) return;
    use.template_ = template_;
    use.base = program->op_count;
    b->status = DSC_PUSH(s->uses, s->use_count, s->use_capacity, use);
    program->op_count += program->templates[template_].op_count;
}

/* Of what belongs to no micro-batch. */
static void use_once(dsc_builder *b, int segment, int32_t template_)
{
    use(b, segment, template_, (dsc_use){.micro_batch = -1, .chunk = -1});
}

static void enter_chunk(dsc_builder *b, int64_t chunk)
{
    b->chunk = (int32_t)chunk;
    b->here = &b->chunks[chunk];
}

/* Copies of a region: the last that was given back is the next to be taken. */
typedef struct pool { int32_t *free; int64_t free_count, capacity; int32_t made; } pool;

static int32_t take(pool *p) { return p->free_count > 0 ? p->free[--p->free_count] : p->made++; }

/* The templates of a chunk's passes, made when they are first wanted. */
typedef struct chunk_templates { int32_t forward, backwards[32], inputs, weights; } chunk_templates;

/* The schedule's passes as they become uses. */
typedef struct schedule {
    dsc_pass *passes; int64_t count;
    struct { int64_t first_x, first_w, last; } *bounds; /* [chunk] passes of inputs and weights; the last of weights */
    chunk_templates *templates;                         /* [chunk] */
    pool pools[DSC_LIFE_COUNT];                         /* of slots and deferred */
    int32_t (*leases)[DSC_LIFE_COUNT];                  /* [micro-batch][chunk] copies taken */
    int64_t sends[2];                                   /* forward and backward passes so far: boxes take turns */
} schedule;

static bool has_inputs(const dsc_pass *pass)
{
    return pass->kind == DSC_PASS_BACKWARD || pass->kind == DSC_PASS_BACKWARD_X;
}

static bool has_weights(const dsc_pass *pass)
{
    return pass->kind == DSC_PASS_BACKWARD || pass->kind == DSC_PASS_BACKWARD_W;
}

static void find_bounds(schedule *s)
{
    for (int64_t i = s->count - 1; i >= 0; i--) {
        const dsc_pass *pass = &s->passes[i];

        if (has_inputs(pass)) s->bounds[pass->chunk].first_x = i;
        if (has_weights(pass)) s->bounds[pass->chunk].first_w = i;
    }
    for (int64_t i = 0; i < s->count; i++)
        if (has_weights(&s->passes[i])) s->bounds[s->passes[i].chunk].last = i;
}

static dsc_status create_schedule(dsc_builder *b, schedule *s)
{
    const dsc_strategy *strategy = &b->plan->config.strategy;
    size_t chunks = (size_t)b->stage->chunk_count, flights = chunks * (size_t)b->plan->micro_batches;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_schedule_create(strategy->schedule, strategy->pp, b->program->stage, b->plan->micro_batches,
                                b->stage->chunk_count, &s->passes, &s->count));
    s->bounds = calloc(chunks, sizeof *s->bounds);
    s->templates = calloc(chunks, sizeof *s->templates);
    s->leases = calloc(flights, sizeof *s->leases);
    for (int life = DSC_LIFE_SLOT; life <= DSC_LIFE_DEFERRED; life++)
        DSC_TRY(dsc_array_reserve(&s->pools[life].free, &s->pools[life].capacity, (int64_t)flights, sizeof(int32_t)));
    if (s->bounds == NULL || s->templates == NULL || s->leases == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "program: %zu passes", flights));
    find_bounds(s);
    for (size_t c = 0; c < chunks; c++) memset(&s->templates[c], -1, sizeof s->templates[c]);
    for (int64_t i = 0; i < s->count; i++) b->is_split |= s->passes[i].kind == DSC_PASS_BACKWARD_X;
out:
    return status;
}

static void fini_schedule(schedule *s)
{
    free(s->passes);
    free(s->bounds);
    free(s->templates);
    free(s->leases);
    for (int life = 0; life < DSC_LIFE_COUNT; life++) free(s->pools[life].free);
}

static int32_t forward_of(dsc_builder *b, schedule *s)
{
    int32_t *made = &s->templates[b->chunk].forward;

    if (*made < 0) {
        dsc_build_forward(b);
        *made = b->template_index;
    }
    return *made;
}

static int32_t backward_of(dsc_builder *b, schedule *s, int64_t index)
{
    const dsc_pass *pass = &s->passes[index];
    chunk_templates *templates = &s->templates[b->chunk];
    /* A replica alone on its axis reduces nothing, so its last backward is like the others. */
    bool is_last = index == s->bounds[b->chunk].last && b->plan->config.strategy.dp > 1;
    dsc_backward what = {.inputs = has_inputs(pass), .weights = has_weights(pass),
                         .is_first_x = has_inputs(pass) && index == s->bounds[b->chunk].first_x,
                         .is_first_w = has_weights(pass) && index == s->bounds[b->chunk].first_w, .is_last = is_last};
    int key = what.inputs | what.weights << 1 | what.is_first_x << 2 | what.is_first_w << 3 | what.is_last << 4;
    int32_t *made = &templates->backwards[key];

    if (*made < 0) {
        dsc_build_backward(b, what);
        *made = b->template_index;
        if (!what.weights) templates->inputs = *made;
        if (!what.inputs) templates->weights = *made;
    }
    return *made;
}

/* Slots and deferred gradients are taken by the pass that fills them and given back by the last that reads them. */
static void lease(schedule *s, const dsc_pass *pass, int32_t copies[DSC_LIFE_COUNT], int32_t held[DSC_LIFE_COUNT])
{
    if (pass->kind == DSC_PASS_FORWARD) held[DSC_LIFE_SLOT] = take(&s->pools[DSC_LIFE_SLOT]);
    if (pass->kind == DSC_PASS_BACKWARD_X) held[DSC_LIFE_DEFERRED] = take(&s->pools[DSC_LIFE_DEFERRED]);
    memcpy(copies, held, DSC_LIFE_COUNT * sizeof *copies);
    for (int life = DSC_LIFE_SLOT; life <= DSC_LIFE_DEFERRED; life++) {
        bool is_over = life == DSC_LIFE_SLOT ? has_weights(pass) : pass->kind == DSC_PASS_BACKWARD_W;

        if (is_over) s->pools[life].free[s->pools[life].free_count++] = held[life];
    }
    if (pass->kind != DSC_PASS_BACKWARD_W)
        copies[DSC_LIFE_BOX] = (int32_t)(s->sends[pass->kind != DSC_PASS_FORWARD]++ % 2);
}

/* What a pass of inputs touches and a pass of weights needs lives on in between. */
static void join_halves(dsc_builder *b, const chunk_templates *templates)
{
    for (int key = 0; key < DSC_COUNT(templates->backwards) && b->status == DSC_OK; key++)
        if (templates->backwards[key] >= 0 && (key & 3) == 1)
            b->program->templates[templates->backwards[key]].rest = templates->weights;
}

static void use_passes(dsc_builder *b, schedule *s)
{
    for (int64_t i = 0; i < s->count && b->status == DSC_OK; i++) {
        const dsc_pass *pass = &s->passes[i];
        dsc_use u = {.micro_batch = pass->micro_batch, .chunk = pass->chunk};

        enter_chunk(b, pass->chunk);
        lease(s, pass, u.copy, s->leases[pass->micro_batch * b->stage->chunk_count + pass->chunk]);
        use(b, DSC_SEGMENT_GRADIENTS, pass->kind == DSC_PASS_FORWARD ? forward_of(b, s) : backward_of(b, s, i), u);
    }
    for (int64_t c = 0; c < b->stage->chunk_count; c++) join_halves(b, &s->templates[c]);
}

/* Forward only, in the schedule's order; two slots are enough. */
static void use_losses(dsc_builder *b, schedule *s)
{
    int32_t losses[2] = {-1, -1};
    int64_t forwards = 0, slots = DSC_MIN(2, s->pools[DSC_LIFE_SLOT].made);

    for (int64_t i = 0; i < s->count && b->status == DSC_OK; i++) {
        const dsc_pass *pass = &s->passes[i];
        dsc_use u = {.micro_batch = pass->micro_batch, .chunk = pass->chunk};

        if (pass->kind != DSC_PASS_FORWARD) continue;
        enter_chunk(b, pass->chunk);
        u.copy[DSC_LIFE_SLOT] = (int32_t)(forwards % slots);
        u.copy[DSC_LIFE_BOX] = (int32_t)(forwards++ % 2);
        use(b, DSC_SEGMENT_EVALUATE, forward_of(b, s), u);
        if (!b->here->chunk->has_head) continue;
        if (losses[pass->micro_batch > 0] < 0) {
            dsc_build_loss(b, pass->micro_batch == 0);
            losses[pass->micro_batch > 0] = b->template_index;
        }
        use(b, DSC_SEGMENT_EVALUATE, losses[pass->micro_batch > 0], u);
    }
}

/* ---- The whole program */

static bool has_head(const dsc_stage *stage)
{
    for (int64_t c = 0; c < stage->chunk_count; c++)
        if (stage->chunks[c].has_head) return true;
    return false;
}

static void make_segments(dsc_builder *b, schedule *s)
{
    int32_t clear = -1, agree;

    use_passes(b, s);
    dsc_build_rest(b);
    use_once(b, DSC_SEGMENT_GRADIENTS, b->template_index);
    dsc_build_norm(b);
    use_once(b, DSC_SEGMENT_GRADIENTS, b->template_index);
    if (!has_head(b->stage)) {
        dsc_build_clear_loss(b);
        clear = b->template_index;
        use_once(b, DSC_SEGMENT_GRADIENTS, clear);
    }
    dsc_build_agree(b);
    agree = b->template_index;
    use_once(b, DSC_SEGMENT_GRADIENTS, agree);
    dsc_build_update(b);
    use_once(b, DSC_SEGMENT_UPDATE, b->template_index);
    use_losses(b, s);
    if (clear >= 0) use_once(b, DSC_SEGMENT_EVALUATE, clear);
    use_once(b, DSC_SEGMENT_EVALUATE, agree);
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
                                .shards = calloc(places * DSC_ROLE_COUNT, sizeof *here->shards)};
    if (here->slots == NULL || here->deferred == NULL || here->kept == NULL || here->shards == NULL)
        return DSC_FAIL(DSC_ENOMEM, "program: buffers of %lld layers", (long long)chunk->layers);
    enter_chunk(b, c);
    list_shards(b);
    dsc_build_slots(b);
    return b->status;
}

static void init_builder(dsc_builder *b, const dsc_plan *plan, int64_t stage, dsc_program *program)
{
    const dsc_strategy *strategy = &plan->config.strategy;
    int64_t rows = strategy->micro_batch * strategy->seq_len;

    *b = (dsc_builder){.program = program,
                       .plan = plan,
                       .stage = &plan->stages[stage],
                       .batch = strategy->micro_batch,
                       .seq = strategy->seq_len,
                       .rows = rows,
                       .kept_rows = strategy->sequence_parallel ? rows / strategy->tp : rows,
                       .tp = strategy->tp,
                       .is_cut = strategy->tp > 1,
                       .is_sequence_cut = strategy->tp > 1 && strategy->sequence_parallel,
                       .hidden = plan->model.hidden,
                       .type = plan->type,
                       .gradient_type = plan->gradient_type};
}

static void fini_builder(dsc_builder *b)
{
    for (int64_t c = 0; b->chunks != NULL && c < b->stage->chunk_count; c++) {
        free(b->chunks[c].slots);
        free(b->chunks[c].deferred);
        free(b->chunks[c].kept);
        free(b->chunks[c].shards);
    }
    free(b->chunks);
    free(b->buckets);
    free(b->bucket_of);
}

static dsc_status build(dsc_builder *b, schedule *s)
{
    dsc_status status = DSC_OK;

    make_static(b);
    DSC_TRY(b->status);
    DSC_TRY(dsc_build_buckets(b));
    DSC_TRY(create_schedule(b, s));
    b->chunks = calloc((size_t)b->stage->chunk_count, sizeof *b->chunks);
    if (b->chunks == NULL)
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
    schedule s = {0};
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
    fini_schedule(&s);
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
