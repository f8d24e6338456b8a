#include "cluster/cluster.h"
#include "exec/internal.h"
#include "base/log.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Life */

static dsc_status make_groups(dsc_run *run)
{
    const dsc_plan *plan = run->o.plan;
    int64_t *members = malloc((size_t)plan->ranks * sizeof *members);
    int *ranks = malloc((size_t)plan->ranks * sizeof *ranks);
    dsc_status status = DSC_OK;

    if (members == NULL || ranks == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "executor: %" PRId64 " ranks", plan->ranks));
    for (int axis = 0; axis < DSC_AXIS_COUNT; axis++) {
        int64_t count = dsc_plan_group_ranks(plan, run->rank, axis, members);

        if (count < 2) continue;
        for (int64_t i = 0; i < count; i++) ranks[i] = (int)members[i];
        DSC_TRY(dsc_group_create(run->o.comm, ranks, (int)count, &run->groups[axis]));
    }
out:
    free(members);
    free(ranks);
    return status;
}

/* Primitives are made, and algorithms chosen, before the first step. */
static dsc_status prepare_call(const dsc_kernel_set *kernels, const dsc_shape *shape)
{
    if (shape->kernel == DSC_K_LOAD) return DSC_OK;
    if (kernels->run[shape->kernel] == NULL)
        return DSC_FAIL(DSC_ENOTSUP, "executor: kernels %s have no %s", kernels->name, dsc_kernel_name(shape->kernel));
    return kernels->prepare != NULL ? kernels->prepare(shape) : DSC_OK;
}

static dsc_status prepare_kernels(dsc_run *run)
{
    const dsc_program *program = run->o.program;
    dsc_queue *queue = run->lanes[DSC_LANE_COMPUTE].queue;
    dsc_status status = DSC_OK;

    if (queue != NULL) run->o.device->calls->enter(run->o.device, queue);
    for (int64_t t = 0; t < program->template_count; t++)
        for (int64_t i = 0; i < program->templates[t].op_count; i++) {
            const dsc_op *op = &program->templates[t].ops[i];
            const dsc_kernel_set *set = op->lane == DSC_LANE_HOST ? run->o.host_kernels : run->o.kernels;

            for (int32_t c = 0; c < op->calls; c++)
                DSC_TRY(prepare_call(set, &program->templates[t].calls[op->first_call + c].shape));
        }
    if (queue != NULL) DSC_TRY(run->o.device->calls->sync(run->o.device, queue));
out:
    return status;
}

/* Room for the rows of a whole step, so that no step allocates. */
static dsc_status reserve_rows(dsc_run *run)
{
    int64_t ops = run->o.program->op_count;
    dsc_status status = DSC_OK;

    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
        int64_t count = 0;

        for (int s = 0; s < DSC_SEGMENT_COUNT; s++) count += run->unfolded[s].lane_counts[lane];
        DSC_TRY(dsc_array_reserve(&run->lanes[lane].rows, &run->lanes[lane].row_capacity, count, sizeof(dsc_op_row)));
    }
    DSC_TRY(dsc_array_reserve(&run->moments, &run->moment_capacity, 2 * ops, sizeof *run->moments));
out:
    return status;
}

/* The arenas' zeroes are the static buffers' first values: from here on these are in use. */
static void hand_static(dsc_run *run)
{
    const dsc_program *program = run->o.program;

    dsc_extent_forget(run->extent);
    for (int32_t i = 0; i < program->buffer_count; i++) {
        const dsc_buffer *buffer = &program->buffers[i];
        dsc_span span = {i, 0, buffer->bytes, 0};
        int64_t end;

        if (buffer->life != DSC_LIFE_STATIC) continue;
        end = (char *)exec_address(run, span, NULL) + buffer->bytes - run->arenas[buffer->space].base;
        dsc_extent_hand(run->extent, span, NULL, end);
        if (end > atomic_load(&run->peaks[buffer->space])) atomic_store(&run->peaks[buffer->space], end);
    }
}

static const dsc_memory memories[DSC_SPACE_COUNT] = {DSC_MEMORY_DEVICE, DSC_MEMORY_HOST};

static dsc_status map_arenas(dsc_run *run)
{
    dsc_device *device = run->o.device;
    void *maps[DSC_SPACE_COUNT];
    int64_t bytes[DSC_SPACE_COUNT];
    int count = 0;
    dsc_status status = DSC_OK;

    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        dsc_arena *arena = &run->arenas[space];

        status = device->calls->create_arena(device, memories[space], run->o.program->arena_bytes[space], arena);
        if (status != DSC_OK) DSC_TRY(DSC_FAIL(status, "%s memory: %s", DSC_SPACE_NAMES[space], dsc_message()));
        if (arena->map == NULL) continue;
        maps[count] = arena->map;
        bytes[count++] = arena->map_bytes;
    }
    if (!dsc_cluster_near(count, maps, bytes))
        dsc_log(DSC_NOTE, "memory cannot be bound to the NUMA node of this rank's cores");
out:
    return status;
}

static void unmap_arenas(dsc_run *run)
{
    for (int space = 0; space < DSC_SPACE_COUNT; space++)
        run->o.device->calls->destroy_arena(run->o.device, memories[space], &run->arenas[space]);
}

/* Lists that whoever runs a program has to write into a static buffer, wherever that is. */
typedef dsc_status fill_list(const dsc_run *run, int which, void *out);

static dsc_status write_list(dsc_run *run, int32_t buffer, fill_list *fill, int which)
{
    const dsc_span span = {buffer, 0, buffer < 0 ? 0 : run->o.program->buffers[buffer].bytes, 0};
    void *list = NULL;
    dsc_status status = DSC_OK;

    if (buffer < 0) return DSC_OK;
    if ((list = calloc(1, (size_t)span.bytes)) == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "executor: a list of %" PRId64 " bytes", span.bytes));
    DSC_TRY(fill(run, which, list));
    DSC_TRY(run->o.device->calls->copy(run->o.device, NULL, exec_address(run, span, NULL), list, span.bytes));
out:
    free(list);
    return status;
}

/* Of present blocks, which sparse attention reads. */
static dsc_status fill_layout(const dsc_run *run, int way, void *out)
{
    return dsc_program_fill_layout(run->o.program, way, run->tp_index, out);
}

/* Of units that compression works on, and of tensors that LAMB does. */
static dsc_status fill_units(const dsc_run *run, int space, void *out)
{
    dsc_program_fill_units(run->o.program, space, run->tp_index, run->dp_index, out);
    return DSC_OK;
}

static dsc_status fill_held(const dsc_run *run, int space, void *out)
{
    dsc_program_fill_held(run->o.program, space, run->tp_index, out);
    return DSC_OK;
}

static dsc_status write_lists(dsc_run *run)
{
    const dsc_program *program = run->o.program;
    dsc_status status = DSC_OK;

    for (int way = 0; way < DSC_PATTERNS; way++) DSC_TRY(write_list(run, program->layouts[way], fill_layout, way));
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        DSC_TRY(write_list(run, program->units[space], fill_units, space));
        DSC_TRY(write_list(run, program->held[space], fill_held, space));
    }
out:
    return status;
}

/* All that a rank does by itself. */
static dsc_status create_alone(const dsc_run_options *options, dsc_run **out)
{
    dsc_status status = DSC_OK;
    dsc_run *run = calloc(1, sizeof *run);

    if (run == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "executor: %zu bytes", sizeof *run);
        goto out;
    }
    run->o = *options;
    run->rank = dsc_comm_rank(options->comm);
    run->dp_index = dsc_plan_coord(options->plan, run->rank).of[DSC_AXIS_DP];
    run->place = dsc_span_place(options->plan, run->rank);
    run->tp_index = dsc_plan_coord(options->plan, run->rank).of[DSC_AXIS_TP];
    dsc_scaler_init(&options->plan->config, &run->scaler);
    dsc_freezer_init(&options->plan->config, &run->freezer);
    dsc_intervals_init(&options->plan->config, &run->intervals);
    DSC_TRY(map_arenas(run));
    exec_touch_host(run);
    DSC_TRY(write_lists(run));
    DSC_TRY(dsc_extent_create(options->program, &run->extent));
    hand_static(run);
    for (int space = 0; space < DSC_SPACE_COUNT; space++) run->traced_bytes[space] = -1;
    DSC_TRY(exec_lanes_create(run));
    DSC_TRY(prepare_kernels(run));
    DSC_TRY(reserve_rows(run));
    *out = run;
    run = NULL;
out:
    dsc_run_destroy(run);
    return status;
}

/* Groups are made in MPI's own calls, which wait for every member: the ranks agree before that all will come. */
dsc_status dsc_run_create(const dsc_run_options *options, dsc_run **out)
{
    dsc_status status = DSC_OK;
    dsc_run *run = NULL;

    DSC_TRY(dsc_comm_agree(options->comm, create_alone(options, &run), true));
    DSC_TRY(dsc_comm_agree(options->comm, make_groups(run), true));
    *out = run;
    run = NULL;
out:
    dsc_run_destroy(run);
    return status;
}

void dsc_run_destroy(dsc_run *run)
{
    if (run == NULL) return;
    exec_lanes_destroy(run);
    if (!atomic_load(&run->has_failed)) {
        for (int axis = 0; axis < DSC_AXIS_COUNT; axis++) dsc_group_destroy(run->groups[axis]);
        unmap_arenas(run);
    }
    free(run->moments);
    dsc_extent_destroy(run->extent);
    free(run);
}

/* ---- A step */

/* DeepSpeed's 1-bit Adam has a parameter for corrections, and makes none; 0/1 Adam has none in the paper either. A
 * variance is corrected for the updates that have made it. */
static void correct_bias(const dsc_run *run, dsc_step *step)
{
    const dsc_config *config = &run->o.plan->config;
    const bool is_reference = run->o.plan->compresses && config->strategy.semantics == DSC_SEMANTICS_REFERENCE;
    const int64_t made = run->optimizer_step - run->frozen_updates + !dsc_run_is_frozen(run);
    const int64_t since = dsc_run_is_frozen(run) ? run->optimizer_step + 1 - run->freezer.frozen_at : 0;
    const int64_t fresh = DSC_MIN(run->optimizer_step + 1, made + since); /* a checkpoint may be past the freeze */

    step->bias_correction1 = step->bias_correction2 = step->fresh_correction2 = 1;
    if (!config->bias_correction || is_reference || run->o.plan->has_own_steps) return;
    step->bias_correction1 = 1 - pow(step->beta1, (double)step->optimizer_step);
    step->bias_correction2 = 1 / sqrt(1 - pow(step->beta2, (double)made));
    step->fresh_correction2 = 1 / sqrt(1 - pow(step->beta2, (double)fresh));
}

static void begin_step(dsc_run *run, int64_t number)
{
    const dsc_config *config = &run->o.plan->config;
    dsc_step *step = &run->step;

    *step = (dsc_step){.number = number, .optimizer_step = run->optimizer_step + 1, .beta1 = config->beta1,
                       .beta2 = config->beta2, .eps = config->eps, .weight_decay = config->weight_decay,
                       .loss_scale = run->scaler.scale, .first_sample = run->samples_seen,
                       .trust = config->trust,
                       .tp_index = run->tp_index};
    step->lr = dsc_lr_at(config, run->optimizer_step, &step->beta1, &step->beta2);
    correct_bias(run, step);
    step->loss_gradient =
        (float)(step->loss_scale / (double)(config->strategy.global_batch * config->strategy.seq_len));
}

/* As the host reads it between segments. */
static dsc_counts counts_of(dsc_run *run, int segment)
{
    const dsc_program *program = run->o.program;

    return dsc_counts_of(run->o.plan, segment, exec_address(run, (dsc_span){program->scalars, 0, 0, 0}, NULL));
}

/* What is not finite fp16 skips, and goes on with a smaller scale; in other types it has come to stay. */
static dsc_status read_gradients(dsc_run *run, int segment, dsc_step_report *report, dsc_outcome *outcome)
{
    const dsc_config *config = &run->o.plan->config;
    const dsc_counts counts = counts_of(run, segment);
    double norm = sqrt(counts.squares) / run->step.loss_scale;
    double clip_factor = config->clip > 0 ? config->clip / (norm + 1e-6) : 1;

    report->loss = counts.loss / (double)report->tokens;
    report->grad_norm = counts.is_finite ? norm : -1;
    report->is_stopping = run->o.plan->ranks > 1 ? counts.is_stopping : run->o.stop != NULL && *run->o.stop != 0;
    outcome->overflow = run->o.plan->type == DSC_FP16 && !counts.is_finite;
    run->step.gradient_scale = (float)(DSC_MIN(clip_factor, 1) / run->step.loss_scale);
    if (!outcome->overflow && segment == DSC_SEGMENT_GRADIENTS)
        dsc_freezer_look(&run->freezer, run->optimizer_step, counts.variance);
    if (outcome->overflow || (counts.is_finite && isfinite(report->loss) && isfinite(norm))) return DSC_OK;
    return DSC_FAIL(DSC_EDIVERGED,
                    "step %" PRId64 ": loss %g, gradient norm %g: training has diverged at rate %g; its gradients are "
                    "not used, and nothing of it is saved",
                    report->step, fabs(report->loss), counts.is_finite ? norm : NAN, report->lr);
}

/* The scalars by which kernels update. */
static void set_update(dsc_step *step, const dsc_step *from)
{
    step->lr = from->lr;
    step->beta1 = from->beta1;
    step->beta2 = from->beta2;
    step->bias_correction1 = from->bias_correction1;
    step->bias_correction2 = from->bias_correction2;
    step->fresh_correction2 = from->fresh_correction2;
    step->gradient_scale = from->gradient_scale;
}

/* Whether replicas that step by themselves meet behind this step: when it is time, or somebody reads the weights, and
 * if there is something since they last met. */
static bool meets(const dsc_run *run, const dsc_outcome *outcome, bool is_read)
{
    const bool has_step = !outcome->overflow, is_due = dsc_intervals_syncs(&run->intervals, run->optimizer_step);
    const double rates = run->rates + (has_step ? run->step.lr : 0);

    return outcome->way == DSC_WAY_OWN && rates > 0 && (is_read || (has_step && is_due));
}

/* An update that was put off is made with the scalars of the step whose gradients it uses. */
static dsc_status run_gradients(dsc_run *run, dsc_segment_id segment, dsc_step_report *report, dsc_outcome *outcome)
{
    dsc_status status = DSC_OK;

    if (segment == DSC_SEGMENT_DELAYED) set_update(&run->step, &run->pending);
    DSC_TRY(exec_run_segment(run, segment));
    set_update(&run->step, &run->own);
    DSC_TRY(read_gradients(run, segment, report, outcome));
    outcome->defer &= !report->is_stopping;
    outcome->sync = meets(run, outcome, outcome->sync || report->is_stopping);
    run->is_pending = outcome->defer && !outcome->overflow;
    run->pending = run->step;
out:
    return status;
}

/* A segment without passes. */
static dsc_status run_update(dsc_run *run, dsc_segment_id segment)
{
    dsc_status status = DSC_OK;

    run->step.rates = run->rates;
    DSC_TRY(exec_run_segment(run, segment));
    if (segment == DSC_SEGMENT_STEP) run->rates += run->step.lr;
    if (segment == DSC_SEGMENT_SYNC) run->rates = 0;
out:
    return status;
}

static dsc_status run_path(dsc_run *run, dsc_step_report *report, dsc_outcome *outcome)
{
    dsc_segment_id segment = DSC_SEGMENT_END;
    dsc_status status = DSC_OK;

    while ((segment = dsc_segment_next(segment, outcome)) != DSC_SEGMENT_END) {
        DSC_TRY(dsc_segment_makes_gradients(segment) ? run_gradients(run, segment, report, outcome)
                                                     : run_update(run, segment));
        if (segment == DSC_SEGMENT_EVALUATE)
            report->evaluation_loss = counts_of(run, segment).loss / (double)report->tokens;
    }
out:
    return status;
}

dsc_status dsc_run_drain(dsc_run *run)
{
    dsc_status status = DSC_OK;

    run->is_traced = false;
    if (run->rates > 0) DSC_TRY(run_update(run, DSC_SEGMENT_SYNC));
    if (!run->is_pending) goto out;
    set_update(&run->step, &run->pending);
    DSC_TRY(run_update(run, DSC_SEGMENT_UPDATE));
    run->is_pending = false;
out:
    return status;
}

static void prefetch(const dsc_run *run)
{
    const dsc_strategy *strategy = &run->o.plan->config.strategy;
    const dsc_feed *feed = &run->o.train;

    for (int64_t i = 0; i < strategy->global_batch; i++)
        dsc_source_prefetch(feed->source, dsc_sampler_token(&feed->sampler, run->samples_seen + i),
                            strategy->seq_len + 1);
}

static dsc_way way_of(const dsc_run *run)
{
    const bool is_frozen = dsc_run_is_frozen(run);

    if (!run->o.plan->has_own_steps) return is_frozen ? DSC_WAY_EXCHANGE : DSC_WAY_EXACT;
    if (is_frozen) return DSC_WAY_OWN;
    return dsc_intervals_is_exact(&run->intervals, run->optimizer_step) ? DSC_WAY_EXACT : DSC_WAY_SHARE;
}

/* What is known of a step before it; sync: somebody reads the weights. */
static dsc_outcome foresee(const dsc_run *run, bool evaluate, bool is_read)
{
    const int64_t updates = run->optimizer_step;
    const bool was_frozen = updates > 0 && dsc_freezer_is_frozen(&run->freezer, updates - 1);
    const dsc_way way = way_of(run);

    return (dsc_outcome){.pending = run->is_pending, .evaluate = evaluate, .way = way,
                         .discard = dsc_freezer_discards(&run->o.plan->config, updates),
                         .defer = dsc_defers(run->o.plan, updates, evaluate || is_read),
                         .anchor = way == DSC_WAY_OWN && !was_frozen, .sync = evaluate || is_read};
}

/* The step that was taken counts. */
static void count_update(dsc_run *run, const dsc_outcome *outcome)
{
    if (outcome->overflow) return;
    if (!outcome->discard) dsc_intervals_count(&run->intervals, run->optimizer_step, dsc_run_is_frozen(run));
    run->optimizer_step++;
    run->frozen_updates += outcome->way != DSC_WAY_EXACT || outcome->discard;
}

dsc_status dsc_run_step(dsc_run *run, int64_t number, bool evaluate, bool is_read, dsc_step_report *report,
                        dsc_trace *rows)
{
    dsc_outcome outcome = foresee(run, evaluate, is_read);
    const int64_t wire_bytes = dsc_comm_wire_bytes(run->o.comm);
    const int64_t copied_bytes[] = {atomic_load(&run->copied_bytes[0]), atomic_load(&run->copied_bytes[1])};
    dsc_status status = DSC_OK;

    if (rows != NULL) DSC_TRY(exec_queues_trace(run));
    run->is_traced = rows != NULL;
    *report = (dsc_step_report){.step = number, .evaluation_loss = NAN, .loss_scale = run->scaler.scale};
    report->tokens = run->o.plan->config.strategy.global_batch * run->o.plan->config.strategy.seq_len;
    report->t_start_ns = dsc_clock_ns();
    begin_step(run, number);
    run->own = run->step;
    report->lr = run->step.lr;
    DSC_TRY(run_path(run, report, &outcome));
    report->t_end_ns = dsc_clock_ns();
    report->is_skipped = outcome.overflow;
    count_update(run, &outcome);
    run->samples_seen += run->o.plan->config.strategy.global_batch;
    dsc_path_of(&outcome, report->path, sizeof report->path);
    report->wire_bytes = dsc_comm_wire_bytes(run->o.comm) - wire_bytes;
    for (int way = 0; way < 2; way++)
        report->copied_bytes[way] = atomic_load(&run->copied_bytes[way]) - copied_bytes[way];
    for (int space = 0; space < DSC_SPACE_COUNT; space++) report->peak_bytes[space] = atomic_load(&run->peaks[space]);
    DSC_TRY(dsc_scaler_update(&run->scaler, outcome.overflow));
    if (rows != NULL) DSC_TRY(exec_collect(run, report->t_start_ns, report->t_end_ns, rows));
    prefetch(run);
out:
    return status;
}
