#include "program/build.h"
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

static void use(dsc_builder *b, int segment, int32_t template_, int64_t micro_batch)
{
    dsc_program *program = b->program;
    dsc_segment *s = &program->segments[segment];
    bool is_pass = micro_batch >= 0;
    dsc_use u = {.template_ = template_, .micro_batch = (int32_t)micro_batch, .chunk = is_pass ? b->chunk : -1,
                 .slot = is_pass ? 0 : -1, .base = program->op_count};

    if (b->status != DSC_OK || program->templates[template_].op_count == 0) return;
    b->status = DSC_PUSH(s->uses, s->use_count, s->use_capacity, u);
    program->op_count += program->templates[template_].op_count;
}

/* One template of each kind of backward, made when it is first wanted. */
static int32_t backward(dsc_builder *b, bool is_first, bool is_last, int32_t made[2][2])
{
    if (made[is_first][is_last] < 0) {
        dsc_build_backward(b, is_first, is_last);
        made[is_first][is_last] = b->template_index;
    }
    return made[is_first][is_last];
}

/* A replica alone on its axis reduces nothing, so its last backward is like the others. */
static void use_passes(dsc_builder *b, int32_t forward)
{
    int32_t backwards[2][2] = {{-1, -1}, {-1, -1}};
    int64_t last = b->plan->micro_batches - 1;
    bool has_replicas = b->plan->config.strategy.dp > 1;

    for (int64_t i = 0; i <= last; i++) {
        use(b, DSC_SEGMENT_GRADIENTS, forward, i);
        use(b, DSC_SEGMENT_GRADIENTS, backward(b, i == 0, has_replicas && i == last, backwards), i);
    }
}

static void use_losses(dsc_builder *b, int32_t forward)
{
    int32_t first, others;

    dsc_build_loss(b, true);
    first = others = b->template_index;
    if (b->plan->micro_batches > 1) {
        dsc_build_loss(b, false);
        others = b->template_index;
    }
    for (int64_t i = 0; i < b->plan->micro_batches; i++) {
        use(b, DSC_SEGMENT_EVALUATE, forward, i);
        use(b, DSC_SEGMENT_EVALUATE, i == 0 ? first : others, i);
    }
}

static void make_segments(dsc_builder *b)
{
    int32_t forward, agree;

    dsc_build_forward(b);
    forward = b->template_index;
    use_passes(b, forward);
    dsc_build_norm(b);
    use(b, DSC_SEGMENT_GRADIENTS, b->template_index, -1);
    dsc_build_agree(b);
    agree = b->template_index;
    use(b, DSC_SEGMENT_GRADIENTS, agree, -1);
    dsc_build_update(b);
    use(b, DSC_SEGMENT_UPDATE, b->template_index, -1);
    use_losses(b, forward);
    use(b, DSC_SEGMENT_EVALUATE, agree, -1);
}

/* The stage's shards by layer of the chunk and role. */
static void list_shards(dsc_builder *b)
{
    const dsc_chunk *chunk = &b->stage->chunks[b->chunk];

    for (int64_t i = 0; i < b->stage->shard_count; i++) {
        const dsc_tensor *tensor = &b->plan->tensors[b->stage->shards[i].tensor];
        int64_t place = tensor->layer < 0 ? 0 : tensor->layer - chunk->first_layer + 1;

        if (place >= 0 && place <= chunk->layers)
            b->shards[place * DSC_ROLE_COUNT + tensor->role] = &b->stage->shards[i];
    }
}

static void init_builder(dsc_builder *b, const dsc_plan *plan, int64_t stage, dsc_program *program)
{
    const dsc_strategy *strategy = &plan->config.strategy;
    size_t places;

    *b = (dsc_builder){.program = program,
                       .plan = plan,
                       .stage = &plan->stages[stage],
                       .batch = strategy->micro_batch,
                       .seq = strategy->seq_len,
                       .rows = strategy->micro_batch * strategy->seq_len,
                       .hidden = plan->model.hidden,
                       .type = plan->type,
                       .gradient_type = plan->gradient_type};
    places = (size_t)b->stage->chunks[b->chunk].layers + 1;
    b->slots = calloc(places, sizeof *b->slots);
    b->shards = calloc(places * DSC_ROLE_COUNT, sizeof *b->shards);
    if (b->slots == NULL || b->shards == NULL)
        b->status = DSC_FAIL(DSC_ENOMEM, "program: buffers of %lld layers", (long long)plan->model.layers);
    else
        list_shards(b);
}

dsc_status dsc_program_create(const dsc_plan *plan, int64_t stage, dsc_program **out)
{
    dsc_status status = DSC_OK;
    dsc_builder b = {0};
    dsc_program *program = calloc(1, sizeof *program);

    if (program == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "program: %zu bytes", sizeof *program);
        goto out;
    }
    program->plan = plan;
    program->stage = stage;
    init_builder(&b, plan, stage, program);
    DSC_TRY(b.status);
    make_static(&b);
    DSC_TRY(dsc_build_buckets(&b));
    dsc_build_slots(&b);
    make_segments(&b);
    DSC_TRY(b.status);
    DSC_TRY(dsc_program_layout(program));
    DSC_TRY(dsc_program_depend(program));
    dsc_program_hash(program);
    *out = program;
    program = NULL;
out:
    free(b.slots);
    free(b.shards);
    free(b.buckets);
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

int64_t dsc_program_offset(const dsc_program *program, dsc_span span, int slot)
{
    const dsc_buffer *buffer = &program->buffers[span.buffer];
    const dsc_region *region = &program->regions[buffer->space];
    int64_t base = 0;

    if (buffer->life == DSC_LIFE_SLOT) base = region->slot_base + slot * region->slot_bytes;
    else if (buffer->life == DSC_LIFE_TRANSIENT) base = region->transient_base;
    return base + buffer->offset + span.offset;
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
