#include "program/build.h"
#include <stdio.h>
#include <string.h>

const dsc_span DSC_NO_SPAN = {.buffer = -1};

static int32_t add_buffer(dsc_builder *b, const char *name, dsc_buffer buffer)
{
    dsc_program *program = b->program;

    if (b->status != DSC_OK) return -1;
    snprintf(buffer.name, sizeof buffer.name, "%s", name);
    b->status = DSC_PUSH(program->buffers, program->buffer_count, program->buffer_capacity, buffer);
    return (int32_t)program->buffer_count - 1;
}

int32_t dsc_build_buffer_in(dsc_builder *b, dsc_space space, const char *name, dsc_life life, dsc_class class_,
                            int64_t layer, int64_t bytes)
{
    return add_buffer(b, name, (dsc_buffer){.space = (int8_t)space, .life = (int8_t)life, .class_ = (int8_t)class_,
                                            .layer = (int32_t)layer,
                                            .owner = life == DSC_LIFE_TRANSIENT ? b->template_index : b->chunk,
                                            .bucket = -1, .bytes = bytes});
}

int32_t dsc_build_buffer(dsc_builder *b, const char *name, dsc_life life, dsc_class class_, int64_t layer,
                         int64_t bytes)
{
    return dsc_build_buffer_in(b, DSC_SPACE_DEVICE, name, life, class_, layer, bytes);
}

int32_t dsc_build_static(dsc_builder *b, dsc_space space, const char *name, dsc_class class_, int64_t bytes)
{
    return add_buffer(b, name, (dsc_buffer){.space = (int8_t)space, .life = DSC_LIFE_STATIC, .class_ = (int8_t)class_,
                                            .layer = -1, .owner = -1, .bucket = -1, .bytes = bytes});
}

/* A bucket's first shard says which layer it is of. */
static int32_t layer_of_bucket(const dsc_builder *b, int64_t bucket)
{
    return (int32_t)b->plan->tensors[b->stage->shards[b->buckets[bucket].first].tensor].layer;
}

int32_t dsc_build_for_bucket(dsc_builder *b, dsc_space space, const char *name, dsc_class class_, int64_t bucket,
                             int64_t bytes)
{
    return add_buffer(b, name, (dsc_buffer){.space = (int8_t)space, .life = DSC_LIFE_TRANSIENT,
                                            .class_ = (int8_t)class_, .layer = layer_of_bucket(b, bucket),
                                            .owner = b->template_index, .bucket = (int32_t)bucket, .bytes = bytes});
}

dsc_span dsc_build_part(dsc_builder *b, dsc_space space, const char *name, dsc_class class_, int64_t bucket,
                        dsc_dtype type)
{
    int64_t bytes = dsc_plan_part_elems(b->plan, &b->buckets[bucket]) * dsc_dtype_bytes(type);

    return dsc_span_whole(b, dsc_build_for_bucket(b, space, name, class_, bucket, bytes));
}

void dsc_build_template(dsc_builder *b, const char *name)
{
    dsc_program *program = b->program;
    dsc_template template_ = {.chunk = b->chunk, .rest = -1};

    if (b->status != DSC_OK) return;
    snprintf(template_.name, sizeof template_.name, "%s", name);
    b->status = DSC_PUSH(program->templates, program->template_count, program->template_capacity, template_);
    b->template_index = (int32_t)program->template_count - 1;
    b->template_ = &program->templates[b->template_index];
    for (int64_t i = 0; i < b->bucket_count; i++)
        b->states[i] = (dsc_bucket_state){b->buckets[i].end - b->buckets[i].first, -1, -1, -1, -1, -1};
}

void dsc_build_op(dsc_builder *b, dsc_op_kind kind, int64_t layer)
{
    dsc_build_op_in(b, DSC_SPACE_DEVICE, kind, layer);
}

void dsc_build_op_in(dsc_builder *b, dsc_space space, dsc_op_kind kind, int64_t layer)
{
    dsc_op op = {.kind = (int16_t)kind, .lane = (int16_t)dsc_op_lane(kind, -1, space), .layer = (int32_t)layer,
                 .axis = -1, .peer = -1, .channel = -1, .source = DSC_NO_SPAN, .data = DSC_NO_SPAN};

    if (b->status != DSC_OK) return;
    op.first_call = (int32_t)b->template_->call_count;
    b->status = DSC_PUSH(b->template_->ops, b->template_->op_count, b->template_->op_capacity, op);
}

void dsc_build_call(dsc_builder *b, const dsc_shape *shape, const dsc_span operands[DSC_KERNEL_OPERANDS])
{
    dsc_call call = {.shape = *shape, .workspace = DSC_NO_SPAN};
    dsc_op *op;

    if (b->status != DSC_OK) return;
    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++)
        call.operands[i] = dsc_operand_present(shape, i) ? operands[i] : DSC_NO_SPAN;
    b->status = DSC_PUSH(b->template_->calls, b->template_->call_count, b->template_->call_capacity, call);
    op = &b->template_->ops[b->template_->op_count - 1];
    op->calls++;
    op->bytes += dsc_kernel_bytes(shape);
    op->flops += dsc_kernel_flops(shape);
}

/* One workspace serves all calls of an op, one after another. */
void dsc_build_end(dsc_builder *b)
{
    const dsc_op *op = b->status == DSC_OK ? &b->template_->ops[b->template_->op_count - 1] : NULL;
    int64_t largest = 0;
    int32_t buffer;

    if (op == NULL) return;
    for (int32_t i = 0; i < op->calls; i++) {
        int64_t bytes = dsc_kernel_workspace_bytes(&b->template_->calls[op->first_call + i].shape);

        largest = DSC_MAX(largest, bytes);
    }
    if (largest == 0) return;
    buffer = dsc_build_buffer_in(b, op->lane == DSC_LANE_HOST ? DSC_SPACE_HOST : DSC_SPACE_DEVICE, "workspace",
                                 DSC_LIFE_TRANSIENT, DSC_CLASS_BUFFERS, op->layer, largest);
    for (int32_t i = 0; i < op->calls && b->status == DSC_OK; i++) {
        dsc_call *call = &b->template_->calls[op->first_call + i];
        int64_t bytes = dsc_kernel_workspace_bytes(&call->shape);

        if (bytes > 0) call->workspace = (dsc_span){buffer, 0, bytes, 0};
    }
}

dsc_op *dsc_build_transfer(dsc_builder *b, dsc_op_kind kind, int axis, int64_t layer, dsc_span source, dsc_span data,
                           dsc_dtype type)
{
    static dsc_op nowhere; /* what callers may write to after a failure */
    dsc_staging staging = {source, data};
    int64_t index = 0;

    if (dsc_op_is_communication(kind)) staging = dsc_build_stage_out(b, kind, layer, source, data, type);
    dsc_build_op(b, kind, layer);
    if (b->status == DSC_OK) {
        dsc_op *op = &b->template_->ops[index = b->template_->op_count - 1];

        op->lane = (int16_t)dsc_op_lane(kind, axis, DSC_SPACE_DEVICE);
        op->axis = axis;
        op->source = staging.source;
        op->data = staging.data;
        op->type = (int8_t)type;
        op->bytes = DSC_MAX(source.buffer < 0 ? 0 : source.bytes, data.bytes);
    }
    if (dsc_op_is_communication(kind)) dsc_build_stage_in(b, kind, layer, &staging, data, type);
    return b->status == DSC_OK ? &b->template_->ops[index] : &nowhere;
}

dsc_span dsc_span_whole(const dsc_builder *b, int32_t buffer)
{
    if (b->status != DSC_OK || buffer < 0) return DSC_NO_SPAN;
    return (dsc_span){buffer, 0, b->program->buffers[buffer].bytes, 0};
}

dsc_span dsc_span_elems(int32_t buffer, dsc_dtype type, int64_t first, int64_t elems)
{
    int64_t each = dsc_dtype_bytes(type);

    return (dsc_span){buffer, first * each, elems * each, 0};
}

dsc_span dsc_kept_of(const dsc_builder *b, int64_t index, dsc_kept which)
{
    return dsc_program_kept(b->program, &b->buckets[index], which);
}

dsc_space dsc_space_of(const dsc_bucket *bucket) { return bucket->space[DSC_KEPT_MASTER]; }

dsc_span dsc_span_own(const dsc_builder *b, dsc_span whole)
{
    if (!b->is_local || !dsc_plan_scatters(b->plan)) return whole;
    return dsc_span_part(b->plan, whole);
}

int64_t dsc_span_parts(const dsc_plan *plan) { return plan->parts > 1 ? plan->parts : plan->intra; }

int64_t dsc_span_place(const dsc_plan *plan, int64_t rank)
{
    return plan->parts > 1 ? dsc_plan_part(plan, rank) : dsc_plan_place(plan, rank, DSC_AXIS_INTRA);
}

dsc_span dsc_span_part(const dsc_plan *plan, dsc_span whole)
{
    const int64_t parts = dsc_span_parts(plan);

    return (dsc_span){whole.buffer, whole.offset, whole.bytes / parts, parts};
}

dsc_span dsc_span_at(dsc_span span, int64_t place)
{
    return (dsc_span){span.buffer, span.offset + (span.parts > 0 ? place * span.bytes : 0), span.bytes, 0};
}

const dsc_shard *dsc_build_shard(const dsc_builder *b, int64_t layer, dsc_role role)
{
    int64_t place = layer < 0 ? 0 : layer - b->here->chunk->first_layer + 1;

    return b->here->shards[place * DSC_ROLE_COUNT + role];
}

dsc_span dsc_span_scalar(const dsc_builder *b, int first, int count)
{
    return dsc_span_elems(b->program->scalars, DSC_FP64, first, count);
}

void dsc_call_visit(const dsc_call *call, dsc_span_visit *visit, void *context)
{
    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++)
        if (call->operands[i].buffer >= 0)
            visit(context, call->operands[i], dsc_operand_is_read(&call->shape, i),
                  dsc_operand_is_written(&call->shape, i));
    if (call->workspace.buffer >= 0) visit(context, call->workspace, false, true);
}

void dsc_op_visit(const dsc_template *template_, const dsc_op *op, dsc_span_visit *visit, void *context)
{
    bool is_read = op->kind != DSC_OP_RECV && op->source.buffer < 0;

    if (op->source.buffer >= 0) visit(context, op->source, true, false);
    if (op->data.buffer >= 0) visit(context, op->data, is_read, op->kind != DSC_OP_SEND);
    for (int32_t c = 0; c < op->calls; c++) dsc_call_visit(&template_->calls[op->first_call + c], visit, context);
}
