#include "exec/internal.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { COPY_PIECE = 1 << 20 }; /* a tenth of a millisecond */

typedef struct exec_omission { dsc_run *run; exec_lane *lane; const dsc_use *use; dsc_status status; } exec_omission;

void *exec_address(dsc_run *run, dsc_span span, const dsc_use *use)
{
    if (span.buffer < 0) return NULL;
    return run->arenas[run->o.program->buffers[span.buffer].space].base +
           dsc_program_offset(run->o.program, dsc_span_at(span, run->place), use);
}

bool exec_is_away(const dsc_run *run, dsc_span span)
{
    return run->o.device->has_queues && run->o.program->buffers[span.buffer].space == DSC_SPACE_DEVICE;
}

bool exec_is_omitted(const dsc_run *run, const dsc_use *use, int32_t index)
{
    return use->base + index == run->o.omitted;
}

static void mark_unwritten(void *context, dsc_span span, bool is_read, bool is_written)
{
    exec_omission *o = context;
    dsc_device *device = o->run->o.device;

    if (!is_written || is_read || o->run->o.program->buffers[span.buffer].life != DSC_LIFE_TRANSIENT) return;
    if (o->status == DSC_OK)
        o->status = device->calls->fill(device, o->lane->queue, exec_address(o->run, span, o->use), 0xff, span.bytes);
}

dsc_status exec_omit(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op)
{
    exec_omission omission = {run, lane, use, DSC_OK};

    dsc_op_visit(&run->o.program->templates[use->template_], op, mark_unwritten, &omission);
    return omission.status;
}

/* Notes that a kernel or a message gets `bytes` at this address: the measured high water, and, once for each segment,
 * where the buffer ends. */
static void hand(dsc_run *run, dsc_span span, const dsc_use *use, const char *address, int64_t bytes)
{
    int space = run->o.program->buffers[span.buffer].space;
    long long end = address + bytes - run->arenas[space].base, peak = atomic_load(&run->peaks[space]);

    while (end > peak && !atomic_compare_exchange_weak(&run->peaks[space], &peak, end)) {}
    if (run->is_handed[run->segment]) return;
    pthread_mutex_lock(&run->mutex);
    dsc_extent_hand(run->extent, span, use, end);
    pthread_mutex_unlock(&run->mutex);
}

/* Windows of the micro-batch's sequences: of the global batch, micro-batch i takes the replicas' i-th share in
 * order. */
static dsc_status load_tokens(dsc_run *run, const dsc_shape *shape, int64_t micro_batch, int32_t *tokens)
{
    const dsc_feed *feed = run->segment == DSC_SEGMENT_EVALUATE ? &run->o.evaluation : &run->o.train;
    int64_t batch = shape->d[0], seq = shape->d[1];
    int64_t first = run->segment == DSC_SEGMENT_EVALUATE ? 0 : run->step.first_sample;
    dsc_status status = DSC_OK;

    first += (micro_batch * run->o.plan->config.strategy.dp + run->dp_index) * batch;
    for (int64_t i = 0; i < batch; i++)
        DSC_TRY(dsc_source_read(feed->source, dsc_sampler_token(&feed->sampler, first + i), seq + 1,
                                run->o.plan->model.vocab, tokens + i * (seq + 1)));
out:
    return status;
}

/* A device's tokens come by a copy from a place that is this op's alone until the segment's end. */
static dsc_status load(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_call *call, int32_t *tokens)
{
    dsc_device *device = run->o.device;
    void *place = lane->queue == NULL ? tokens : exec_load_place(run, atomic_load(&lane->handed));
    dsc_status status = DSC_OK;

    DSC_TRY(load_tokens(run, &call->shape, use->micro_batch, place));
    if (lane->queue != NULL)
        DSC_TRY(device->calls->copy(device, lane->queue, tokens, place, dsc_operand_bytes(&call->shape, 0)));
out:
    return status;
}

dsc_status exec_read_tokens(dsc_run *run, const dsc_use *use, const dsc_op *op, void *place)
{
    const dsc_template *template_ = &run->o.program->templates[use->template_];

    return load_tokens(run, &template_->calls[op->first_call].shape, use->micro_batch, place);
}

static dsc_status run_call(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_call *call)
{
    const bool is_host = lane == &run->lanes[DSC_LANE_HOST];
    const dsc_kernel_set *set = is_host ? run->o.host_kernels : run->o.kernels;
    void *operands[DSC_KERNEL_OPERANDS], *workspace = exec_address(run, call->workspace, use);

    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++) {
        operands[i] = exec_address(run, call->operands[i], use);
        if (operands[i] != NULL)
            hand(run, call->operands[i], use, operands[i], dsc_operand_bytes(&call->shape, i));
    }
    if (workspace != NULL) hand(run, call->workspace, use, workspace, dsc_kernel_workspace_bytes(&call->shape));
    if (run->o.fake_compute_ns > 0) return DSC_OK;
    if (call->shape.kernel == DSC_K_LOAD) return load(run, lane, use, call, operands[0]);
    return set->run[call->shape.kernel](&call->shape, operands, workspace, is_host ? &run->step : run->device_step);
}

/* In place of its kernels: uniform work, so that a schedule's bubble shows beside real messages. */
static void pretend(const dsc_run *run, const dsc_template *template_, const dsc_op *op)
{
    int64_t end = dsc_clock_ns() + run->o.fake_compute_ns;
    struct timespec until = {end / 1000000000, end % 1000000000};
    bool has_product = false;

    for (int32_t i = 0; i < op->calls; i++)
        has_product |= template_->calls[op->first_call + i].shape.kernel == DSC_K_GEMM;
    if (!has_product || op->layer < 0) return;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {}
}

/* Whoever was asked to stop says so to all where they agree. */
static void add_stop_request(dsc_run *run, double *scalars)
{
    scalars[DSC_SCALAR_STOP] = run->o.stop != NULL && *run->o.stop != 0;
}

static dsc_status start_communication(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op)
{
    void *data = exec_address(run, op->data, use), *source = exec_address(run, op->source, use);
    int64_t elems = op->data.bytes / dsc_dtype_bytes(op->type);
    dsc_group *group = run->groups[op->axis];

    hand(run, op->data, use, data, op->data.bytes);
    if (source != NULL) hand(run, op->source, use, source, op->source.bytes);
    if (op->kind == DSC_OP_AGREE) add_stop_request(run, data);
    switch (op->kind) {
    case DSC_OP_AGREE:
    case DSC_OP_ALL_REDUCE: return dsc_all_reduce_start(group, data, elems, op->type, DSC_SUM, &lane->request);
    case DSC_OP_REDUCE_SCATTER: return dsc_reduce_scatter_start(group, source, data, elems, op->type, &lane->request);
    case DSC_OP_ALL_GATHER: return dsc_all_gather_start(group, source, data, op->source.bytes, &lane->request);
    case DSC_OP_ALL_TO_ALL:
        return dsc_all_to_all_start(group, source, data, op->data.bytes / dsc_group_size(group), &lane->request);
    case DSC_OP_SEND:
        return dsc_send_start(group, data, op->data.bytes, op->peer, op->channel, &lane->request);
    case DSC_OP_RECV:
        return dsc_recv_start(group, data, op->data.bytes, op->peer, op->channel, &lane->request);
    default:
        return DSC_FAIL(DSC_EINTERNAL, "executor: op kind %d is no communication", op->kind);
    }
}

/* Copies a stretch of what is copied. */
static dsc_status copy_piece(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op, int64_t bytes)
{
    dsc_device *device = run->o.device;
    char *data = exec_address(run, op->data, use);
    const char *source = exec_address(run, op->source, use);
    dsc_status status = DSC_OK;

    DSC_TRY(device->calls->copy(device, lane->queue, data + lane->copied, source + lane->copied, bytes));
    lane->copied += bytes;
    atomic_fetch_add(&run->copied_bytes[op->kind == DSC_OP_COPY_OUT], bytes);
out:
    return status;
}

/* Between the spaces: a queue does it at once. */
static dsc_status start_copy(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op)
{
    hand(run, op->data, use, exec_address(run, op->data, use), op->data.bytes);
    hand(run, op->source, use, exec_address(run, op->source, use), op->source.bytes);
    lane->copied = 0;
    return lane->queue != NULL ? copy_piece(run, lane, use, op, op->data.bytes) : DSC_OK;
}

dsc_status exec_go_on(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op, bool *is_over)
{
    dsc_status status = DSC_OK;

    if (!dsc_op_is_copy(op->kind)) return dsc_request_test(&lane->request, is_over);
    DSC_TRY(copy_piece(run, lane, use, op, DSC_MIN(op->data.bytes - lane->copied, COPY_PIECE)));
    *is_over = lane->copied == op->data.bytes;
out:
    return status;
}

dsc_status exec_op(dsc_run *run, exec_lane *lane, const dsc_use *use, const dsc_op *op)
{
    const dsc_template *template_ = &run->o.program->templates[use->template_];
    dsc_status status = DSC_OK;

    if (use->base + (op - template_->ops) == run->o.failing)
        return DSC_FAIL(DSC_ENOMEM, "op %" PRId64 " (%s): no memory, as --fail-op asked", run->o.failing,
                        DSC_OP_NAMES[op->kind]);
    if (dsc_op_is_communication(op->kind)) return start_communication(run, lane, use, op);
    if (dsc_op_is_copy(op->kind)) return start_copy(run, lane, use, op);
    for (int32_t i = 0; i < op->calls; i++) DSC_TRY(run_call(run, lane, use, &template_->calls[op->first_call + i]));
    if (run->o.fake_compute_ns > 0) pretend(run, template_, op);
out:
    return status;
}
