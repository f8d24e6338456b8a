/* The program's hash: everything that decides what runs where, field by field (structs have gaps that hold
 * anything). */
#include "program/build.h"
#include "base/hash.h"
#include <string.h>

#define ADD(hasher, ...) \
    dsc_hash_add(hasher, (const int64_t[]){__VA_ARGS__}, sizeof(const int64_t[]){__VA_ARGS__})

static void hash_span(dsc_hasher *hasher, dsc_span span)
{
    ADD(hasher, span.buffer, span.offset, span.bytes, span.parts);
}

/* Where units, and tensors, begin and end, which ranks of a stage know by themselves, follows from the plan. */
static void hash_units(dsc_hasher *hasher, const dsc_program *program)
{
    if (!program->plan->compresses) return;
    ADD(hasher, program->plan->workers, program->units[DSC_SPACE_DEVICE], program->units[DSC_SPACE_HOST]);
    if (program->plan->has_trust) ADD(hasher, program->held[DSC_SPACE_DEVICE], program->held[DSC_SPACE_HOST]);
}

static void hash_template(dsc_hasher *hasher, const dsc_template *template_)
{
    for (int64_t i = 0; i < template_->op_count; i++) {
        const dsc_op *op = &template_->ops[i];

        ADD(hasher, op->kind, op->lane, op->layer, op->axis, op->peer, op->channel, op->calls, op->deps, op->type);
        hash_span(hasher, op->source);
        hash_span(hasher, op->data);
    }
    for (int64_t i = 0; i < template_->call_count; i++) {
        const dsc_call *call = &template_->calls[i];

        ADD(hasher, call->shape.kernel, call->shape.type, call->shape.out, call->shape.flags);
        dsc_hash_add(hasher, call->shape.d, sizeof call->shape.d);
        for (int o = 0; o < DSC_KERNEL_OPERANDS; o++) hash_span(hasher, call->operands[o]);
        hash_span(hasher, call->workspace);
    }
    for (int64_t i = 0; i < template_->dep_count; i++) ADD(hasher, template_->deps[i].on);
}

static void hash_segment(dsc_hasher *hasher, const dsc_segment *segment)
{
    for (int64_t i = 0; i < segment->use_count; i++) {
        const dsc_use *u = &segment->uses[i];

        ADD(hasher, u->template_, u->micro_batch, u->chunk, u->base, u->waits);
        for (int life = 0; life < DSC_LIFE_COUNT; life++) ADD(hasher, u->copy[life]);
    }
    for (int64_t i = 0; i < segment->wait_count; i++)
        ADD(hasher, segment->waits[i].op, segment->waits[i].use, segment->waits[i].on);
}

/* The blocks themselves: of as many in other places ops and buffers would be the same. */
static void hash_layouts(dsc_hasher *hasher, const dsc_program *program)
{
    for (int way = 0; way < DSC_PATTERNS; way++) {
        if (program->layouts[way] < 0) continue;
        ADD(hasher, way, program->layouts[way], program->plan->attention[way].layout->block);
        dsc_hash_add(hasher, program->plan->attention[way].hash, 32);
    }
}

void dsc_program_hash(dsc_program *program)
{
    dsc_hasher *hasher = dsc_hash_begin();

    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        for (int life = 0; life < DSC_LIFE_COUNT; life++) {
            const dsc_region *r = &program->regions[space][life];

            ADD(hasher, r->base, r->bytes, r->copies);
        }
        ADD(hasher, program->arena_bytes[space]);
    }
    for (int64_t i = 0; i < program->buffer_count; i++) {
        const dsc_buffer *b = &program->buffers[i];

        ADD(hasher, b->space, b->life, b->class_, b->layer, b->owner, b->bucket, b->bytes, b->offset);
    }
    hash_layouts(hasher, program);
    hash_units(hasher, program);
    for (int64_t t = 0; t < program->template_count; t++) hash_template(hasher, &program->templates[t]);
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) hash_segment(hasher, &program->segments[s]);
    strcpy(program->hash, dsc_hash_end(hasher).hex);
}

void dsc_programs_hash(const dsc_plan *plan, const dsc_program *const *programs, char out[33])
{
    dsc_text hashes = {0};

    for (int64_t rank = 0; rank < plan->ranks; rank++)
        if (dsc_plan_representative(plan, rank) == rank) dsc_text_add(&hashes, "%s", programs[rank]->hash);
    memcpy(out, dsc_hash_of(dsc_text_str(&hashes), (size_t)hashes.count).hex, 33);
    dsc_text_fini(&hashes);
}
