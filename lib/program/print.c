#include "program/program.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- All stages on one screen */

/* Templates of one name, on several stages and chunks: how much the largest of them does. */
typedef struct digest {
    char name[32];
    int64_t lanes[DSC_LANE_COUNT], ops, flops, sent_bytes;
    int64_t first_stage, last_stage, templates, uses;
    dsc_text stages;             /* ranges before first_stage .. last_stage */
} digest;

typedef struct digests { digest *rows; int64_t count, capacity; } digests;

/* What a rank sends for an op; of a collective its part of what all send. */
static int64_t sent_bytes(const dsc_plan *plan, const dsc_op *op)
{
    int64_t members = op->axis < 0 ? 1 : dsc_plan_degree(plan, op->axis);
    bool is_twice = op->kind == DSC_OP_ALL_REDUCE || op->kind == DSC_OP_AGREE;

    if (!dsc_op_is_communication(op->kind) || op->kind == DSC_OP_RECV) return 0;
    if (op->kind == DSC_OP_SEND) return op->bytes;
    return (is_twice ? 2 : 1) * op->bytes / members * (members - 1);
}

/* Without the chunk. */
static void name_of(const dsc_template *template_, char out[32])
{
    strcpy(out, template_->name);
    out[strcspn(out, ",")] = '\0';
}

static int64_t uses_of(const dsc_program *program, int64_t template_)
{
    int64_t uses = 0;

    for (int s = 0; s < DSC_SEGMENT_COUNT; s++)
        for (int64_t u = 0; u < program->segments[s].use_count; u++)
            uses += program->segments[s].uses[u].template_ == template_;
    return uses;
}

static digest digest_of(const dsc_plan *plan, const dsc_program *program, int64_t t)
{
    const dsc_template *template_ = &program->templates[t];
    digest d = {.ops = template_->op_count, .first_stage = program->stage, .last_stage = program->stage,
                .templates = 1, .uses = uses_of(program, t)};

    name_of(template_, d.name);
    for (int64_t i = 0; i < template_->op_count; i++) {
        const dsc_op *op = &template_->ops[i];

        d.lanes[op->lane]++;
        d.flops += op->flops;
        d.sent_bytes += sent_bytes(plan, op);
    }
    return d;
}

static void keep_larger(int64_t *of, int64_t other) { *of = DSC_MAX(*of, other); }

static void end_range(digest *d)
{
    dsc_text_add(&d->stages, "%s%" PRId64, d->stages.count > 0 ? "," : "", d->first_stage);
    if (d->last_stage > d->first_stage) dsc_text_add(&d->stages, "-%" PRId64, d->last_stage);
}

static dsc_status add_digest(digests *all, digest d)
{
    digest *row;

    for (int64_t i = 0; i < all->count; i++) {
        row = &all->rows[i];
        if (strcmp(row->name, d.name) != 0) continue;
        for (int lane = 0; lane < DSC_LANE_COUNT; lane++) keep_larger(&row->lanes[lane], d.lanes[lane]);
        keep_larger(&row->ops, d.ops);
        keep_larger(&row->flops, d.flops);
        keep_larger(&row->sent_bytes, d.sent_bytes);
        if (d.first_stage > row->last_stage + 1) {
            end_range(row);
            row->first_stage = d.first_stage;
        }
        row->last_stage = d.first_stage;
        row->templates++;
        row->uses += d.uses;
        return DSC_OK;
    }
    return DSC_PUSH(all->rows, all->count, all->capacity, d);
}

static void print_digests(digests *all, dsc_text *out)
{
    dsc_text rows = {0};

    dsc_text_add(&rows, "template\tstages\ttemplates\tuses\tops");
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) dsc_text_add(&rows, "\t%s", DSC_LANE_NAMES[lane]);
    dsc_text_add(&rows, "\tflops\tsent\n");
    for (int64_t i = 0; i < all->count; i++) {
        digest *d = &all->rows[i];

        end_range(d);
        dsc_text_add(&rows, "%s\t%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64, d->name, dsc_text_str(&d->stages),
                     d->templates, d->uses, d->ops);
        for (int lane = 0; lane < DSC_LANE_COUNT; lane++) dsc_text_add(&rows, "\t%" PRId64, d->lanes[lane]);
        dsc_text_add(&rows, "\t%s\t%s\n", dsc_count_str((double)d->flops).str, dsc_bytes_str(d->sent_bytes).str);
    }
    dsc_table_print(dsc_text_str(&rows), out);
    dsc_text_fini(&rows);
}

/* F, B, X, W: see dsc_programs_print. */
static char letter_of(const dsc_template *template_)
{
    if (template_->is_forward) return 'F';
    if (strncmp(template_->name, "backward_x", 10) == 0) return 'X';
    return strncmp(template_->name, "backward_w", 10) == 0 ? 'W' : 'B';
}

/* The end of the like passes from use u on, of one micro-batch after another. */
static int64_t end_of_run(const dsc_program *program, const dsc_segment *s, int64_t u)
{
    const dsc_use *first = &s->uses[u];
    char letter = letter_of(&program->templates[first->template_]);

    for (u++; u < s->use_count && first->micro_batch >= 0; u++) {
        const dsc_use *use = &s->uses[u];

        if (letter_of(&program->templates[use->template_]) != letter || use->chunk != first->chunk ||
            use->micro_batch != s->uses[u - 1].micro_batch + 1)
            break;
    }
    return u;
}

static void print_run(const dsc_program *program, const dsc_use *first, const dsc_use *last, dsc_text *out)
{
    const dsc_template *template_ = &program->templates[first->template_];

    if (first->micro_batch < 0) {
        dsc_text_add(out, " %s", template_->name);
        return;
    }
    dsc_text_add(out, " %c%d", letter_of(template_), first->micro_batch);
    if (last > first) dsc_text_add(out, "-%d", last->micro_batch);
    if (program->plan->stages[program->stage].chunk_count > 1) dsc_text_add(out, ".%d", first->chunk);
}

/* The first runs of passes and the last. */
static void print_passes(const dsc_program *program, dsc_text *out)
{
    const dsc_segment *s = &program->segments[DSC_SEGMENT_GRADIENTS];
    enum { FIRST = 10, LAST = 8 };
    int64_t runs = 0, run = 0;

    for (int64_t u = 0; u < s->use_count; u = end_of_run(program, s, u)) runs++;
    dsc_text_add(out, "stage %-3" PRId64 " %" PRId64 " ops, %" PRId64 " slots:", program->stage, program->op_count,
                 program->regions[DSC_SPACE_DEVICE][DSC_LIFE_SLOT].copies);
    for (int64_t u = 0, end; u < s->use_count; u = end, run++) {
        end = end_of_run(program, s, u);
        if (run < FIRST || run >= runs - LAST) print_run(program, &s->uses[u], &s->uses[end - 1], out);
        else if (run == FIRST) dsc_text_add(out, " ...");
    }
    dsc_text_add(out, "\n");
}

void dsc_programs_print(const dsc_plan *plan, const dsc_program *const *programs, dsc_text *out)
{
    enum { SHOWN = 2 };
    int64_t stages = plan->config.strategy.pp;
    digests all = {0};
    dsc_status status = DSC_OK;

    for (int64_t stage = 0; stage < stages; stage++) {
        const dsc_program *program = programs[dsc_plan_rank(plan, (dsc_coord){.of = {[DSC_AXIS_PP] = stage}})];

        for (int64_t t = 0; t < program->template_count; t++)
            if (program->templates[t].op_count > 0) DSC_TRY(add_digest(&all, digest_of(plan, program, t)));
    }
    print_digests(&all, out);
    for (int64_t stage = 0; stage < stages; stage++) {
        if (stage == SHOWN && stages > 2 * SHOWN + 1) {
            dsc_text_add(out, "...\n");
            stage = stages - SHOWN;
        }
        print_passes(programs[dsc_plan_rank(plan, (dsc_coord){.of = {[DSC_AXIS_PP] = stage}})], out);
    }
out:
    if (status != DSC_OK) out->failed = true;
    for (int64_t i = 0; i < all.count; i++) dsc_text_fini(&all.rows[i].stages);
    free(all.rows);
}
