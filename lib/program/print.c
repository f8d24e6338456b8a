#include "program/program.h"
#include <inttypes.h>

static void print_op(const dsc_program *program, const dsc_template *template_, int64_t index, dsc_text *out)
{
    const dsc_op *op = &template_->ops[index];

    dsc_text_add(out, "  %4" PRId64 "  %-16s %-8s", index, DSC_OP_NAMES[op->kind], DSC_LANE_NAMES[op->lane]);
    if (op->layer >= 0) dsc_text_add(out, " layer %-4d", op->layer);
    else dsc_text_add(out, "           ");
    dsc_text_add(out, " %10s %9s", op->flops > 0 ? dsc_count_str((double)op->flops).str : "-",
                 dsc_bytes_str(op->bytes).str);
    for (int32_t d = 0; d < op->deps; d++)
        dsc_text_add(out, "%s%d", d == 0 ? "  after " : ",", template_->deps[op->first_dep + d].on);
    dsc_text_add(out, "\n");
    for (int32_t c = 0; c < op->calls; c++) {
        const dsc_call *call = &template_->calls[op->first_call + c];
        char shape[96];

        dsc_shape_print(&call->shape, shape, sizeof shape);
        dsc_text_add(out, "          %-44s", shape);
        for (int o = 0; o < dsc_kernel_operands(call->shape.kernel); o++)
            if (call->operands[o].buffer >= 0) {
                char name[32];

                dsc_text_add(out, " %s=%s", dsc_kernel_operand_name(call->shape.kernel, o, name),
                             program->buffers[call->operands[o].buffer].name);
            }
        dsc_text_add(out, "\n");
    }
    if (op->axis < 0) return;
    dsc_text_add(out, "          over %s", DSC_AXIS_NAMES[op->axis]);
    if (op->peer >= 0) dsc_text_add(out, ", with stage %d, channel %d", op->peer, op->channel);
    dsc_text_add(out, ": %s", program->buffers[op->data.buffer].name);
    if (op->source.buffer >= 0) dsc_text_add(out, " of %s", program->buffers[op->source.buffer].name);
    dsc_text_add(out, "\n");
}

static void print_segment(const dsc_program *program, int segment, dsc_text *out)
{
    const dsc_segment *s = &program->segments[segment];
    enum { SHOWN = 12 };

    dsc_text_add(out, "segment %s: %" PRId64 " uses\n", DSC_SEGMENT_NAMES[segment], s->use_count);
    for (int64_t u = 0; u < s->use_count; u++) {
        const dsc_use *use = &s->uses[u];

        if (u == SHOWN && s->use_count > 2 * SHOWN) {
            dsc_text_add(out, "  ...\n");
            u = s->use_count - SHOWN;
            use = &s->uses[u];
        }
        dsc_text_add(out, "  op %-7" PRId64 " %-20s", use->base, program->templates[use->template_].name);
        if (use->micro_batch >= 0)
            dsc_text_add(out, " micro-batch %d, slot %d", use->micro_batch, use->copy[DSC_LIFE_SLOT]);
        for (int32_t w = 0; w < use->waits; w++) {
            const dsc_wait *wait = &s->waits[use->first_wait + w];

            dsc_text_add(out, "%s op %" PRId64 " after %" PRId64, w == 0 ? ";" : ",", use->base + wait->op,
                         s->uses[wait->use].base + wait->on);
        }
        dsc_text_add(out, "\n");
    }
}

void dsc_program_print(const dsc_program *program, dsc_text *out)
{
    for (int64_t t = 0; t < program->template_count; t++) {
        const dsc_template *template_ = &program->templates[t];

        dsc_text_add(out, "template %s: %" PRId64 " ops, %" PRId64 " kernel calls\n", template_->name,
                     template_->op_count, template_->call_count);
        for (int64_t i = 0; i < template_->op_count; i++) print_op(program, template_, i, out);
    }
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) print_segment(program, s, out);
}
