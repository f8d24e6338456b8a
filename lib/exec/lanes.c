/* Three threads step the lanes of a segment: the caller's runs compute, a worker's what the host computes, the mover's
 * all others, so that messages and copies move while kernels run (MPI progresses only inside MPI calls). A caller that
 * has to wait moves them itself, which spares two changes of thread, milliseconds where ranks outnumber cores. Each
 * lane is in order; across lanes an op waits until the counters say that what it needs is over, or, where both lanes
 * are queues of a device, that it was handed over: the threads then only hand ops over (queue.c). */
#include "exec/internal.h"
#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NO_SEGMENT = -1, END_THREAD = -2 };

/* ---- Waking and failing */

static void wake_all(dsc_run *run)
{
    pthread_mutex_lock(&run->mutex);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->mutex);
}

void exec_progressed(dsc_run *run)
{
    atomic_fetch_add(&run->progress, 1);
    if (atomic_load(&run->waiters) > 0) wake_all(run);
}

/* An op of the lane is over, or in its queue. */
static void advance(dsc_run *run, exec_lane *lane)
{
    if (lane->queue == NULL) atomic_fetch_add(&lane->done, 1);
    atomic_fetch_add(&lane->handed, 1);
    exec_progressed(run);
}

/* What an op of `lane` has to see of another: queues wait for each other by themselves. */
static const atomic_int *counter_of(const exec_lane *lane, const exec_lane *other)
{
    return lane->queue != NULL && other->queue != NULL ? &other->handed : &other->done;
}

/* Notes the thread's message as this rank's failure, unless one stands already. */
static void note_failure(dsc_run *run, dsc_status status)
{
    pthread_mutex_lock(&run->mutex);
    if (run->status == DSC_OK) {
        run->status = status;
        snprintf(run->message, sizeof run->message, "%s", dsc_message());
    }
    atomic_store(&run->has_failed, true);
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->mutex);
}

void exec_fail(dsc_run *run, dsc_status status)
{
    dsc_comm_raise(run->o.comm, status);
    note_failure(run, status);
}

static void op_of(const dsc_run *run, const dsc_instance *instance, const dsc_use **use, const dsc_op **op)
{
    *use = &run->o.program->segments[run->segment].uses[instance->use];
    *op = &run->o.program->templates[(*use)->template_].ops[instance->index];
}

static void measure(const dsc_run *run, const dsc_use *use, const dsc_op *op, int64_t *bytes, int64_t *flops)
{
    const dsc_template *template_ = &run->o.program->templates[use->template_];

    *bytes = op->data.buffer < 0 ? 0 : op->source.buffer < 0 ? op->data.bytes
                                                             : DSC_MAX(op->data.bytes, op->source.bytes);
    *flops = 0;
    for (int32_t i = 0; i < op->calls; i++) {
        *bytes += dsc_kernel_bytes(&template_->calls[op->first_call + i].shape);
        *flops += dsc_kernel_flops(&template_->calls[op->first_call + i].shape);
    }
}

/* ---- An op that ends where it begins: compute's, the host's, tokens */

static dsc_status run_here(dsc_run *run, exec_lane *lane, const dsc_instance *instance)
{
    dsc_status status = DSC_OK;
    int64_t start = dsc_clock_ns(), bytes, flops;
    const dsc_use *use;
    const dsc_op *op;
    bool omitted;

    op_of(run, instance, &use, &op);
    omitted = exec_is_omitted(run, use, instance->index);
    if (lane->queue != NULL) DSC_TRY(exec_queue_before(run, lane, instance));
    exec_poison_op(run, use, instance->index, true); /* its buffers' lives begin and end even if it is left out */
    status = omitted ? exec_omit(run, lane, use, op) : exec_op(run, lane, use, op);
    if (status != DSC_OK && lane->queue != NULL)
        dsc_fail_in(status, "op %lld (%s)", (long long)(use->base + instance->index), DSC_OP_NAMES[op->kind]);
    DSC_TRY(status);
    exec_poison_op(run, use, instance->index, false);
    if (lane->queue != NULL) DSC_TRY(exec_queue_behind(run, lane));
    if (omitted) goto out; /* and it leaves no row */
    measure(run, use, op, &bytes, &flops);
    DSC_TRY(exec_record(run, lane, *instance, op, start, bytes, flops));
out:
    return status;
}

/* ---- All other lanes: whoever moves them */

static bool is_ready(dsc_run *run, const exec_lane *lane, const dsc_unfolded *unfolded, const dsc_instance *instance)
{
    for (int32_t n = 0; n < instance->needs; n++) {
        dsc_need need = unfolded->needs[instance->first_need + n];

        if (atomic_load(counter_of(lane, &run->lanes[need.lane])) < need.count) return false;
    }
    return true;
}

/* Moves the lane's head on, and ends it if that was all; whether it was. */
static dsc_status go_on(dsc_run *run, exec_lane *lane, const dsc_instance *instance, bool *is_over)
{
    dsc_status status = DSC_OK;
    int64_t bytes, flops;
    const dsc_use *use;
    const dsc_op *op;

    op_of(run, instance, &use, &op);
    DSC_TRY(exec_go_on(run, lane, use, op, is_over));
    lane->is_under_way = !*is_over;
    if (!*is_over) goto out;
    exec_poison_op(run, use, instance->index, false);
    measure(run, use, op, &bytes, &flops);
    DSC_TRY(exec_record(run, lane, *instance, op, lane->t_ready_ns, bytes, flops));
out:
    return status;
}

static bool takes_time(const exec_lane *lane, const dsc_op *op)
{
    return lane->queue == NULL && (dsc_op_is_communication(op->kind) || dsc_op_is_copy(op->kind));
}

/* Moves one lane on by a step, if it can. */
static dsc_status move_lane(dsc_run *run, int which, bool *has_moved)
{
    const dsc_unfolded *unfolded = &run->unfolded[run->segment];
    exec_lane *lane = &run->lanes[which];
    const dsc_instance *instance = &unfolded->lanes[which][atomic_load(&lane->handed)];
    dsc_status status = DSC_OK;
    bool is_over = true;
    const dsc_use *use;
    const dsc_op *op;

    *has_moved = false;
    op_of(run, instance, &use, &op);
    if (lane->is_under_way) {
        DSC_TRY(go_on(run, lane, instance, &is_over));
        *has_moved = dsc_op_is_copy(op->kind);
    } else if (!is_ready(run, lane, unfolded, instance)) {
        is_over = false;
    } else if (takes_time(lane, op) && !exec_is_omitted(run, use, instance->index)) {
        lane->t_ready_ns = dsc_clock_ns();
        exec_poison_op(run, use, instance->index, true);
        DSC_TRY(exec_op(run, lane, use, op));
        *has_moved = true;
        DSC_TRY(go_on(run, lane, instance, &is_over));
    } else {
        DSC_TRY(run_here(run, lane, instance));
    }
    if (!is_over) goto out;
    *has_moved = true;
    advance(run, lane);
out:
    return status;
}

/* Nothing can move until a lane of kernels does: sleeps until then, but looks up now and then for failures of other
 * ranks. */
static void sleep_until_progress(dsc_run *run, int seen)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20 * 1000 * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&run->mutex);
    atomic_fetch_add(&run->waiters, 1);
    while (atomic_load(&run->progress) == seen && !atomic_load(&run->has_failed))
        if (pthread_cond_timedwait(&run->changed, &run->mutex, &until) == ETIMEDOUT) break;
    atomic_fetch_sub(&run->waiters, 1);
    pthread_mutex_unlock(&run->mutex);
}

/* Whose lane it is to move: neither compute nor, unless it waits for queues, which somebody has to look at, the
 * host's. */
static bool has_to_move(const dsc_run *run, int lane)
{
    return lane != DSC_LANE_COMPUTE && (lane != DSC_LANE_HOST || run->o.device->has_queues);
}

/* One round over the lanes. Active: something goes on of which nobody tells when it ends. */
static dsc_status move_lanes(dsc_run *run, bool *is_over, bool *has_moved, bool *is_active)
{
    const bool has_queues = run->o.device->has_queues;
    dsc_status status = DSC_OK;

    *is_over = true;
    *has_moved = *is_active = false;
    if (has_queues) DSC_TRY(exec_queues_poll(run, has_moved));
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
        bool moved = false;

        if (!has_to_move(run, lane) ||
            atomic_load(&run->lanes[lane].handed) == run->unfolded[run->segment].lane_counts[lane])
            continue;
        *is_over = false;
        if (lane != DSC_LANE_HOST) DSC_TRY(move_lane(run, lane, &moved));
        *has_moved |= moved;
        *is_active |= run->lanes[lane].is_under_way || (has_queues && run->lanes[lane].queue == NULL);
    }
out:
    return status;
}

/* Moves what can be moved, and looks for failures of other ranks when nothing can. */
static dsc_status move_once(dsc_run *run, bool *is_over, bool *has_moved, bool *is_active)
{
    dsc_status status = DSC_OK;

    pthread_mutex_lock(&run->moving);
    DSC_TRY(move_lanes(run, is_over, has_moved, is_active));
    if (!*has_moved && !*is_over && run->o.plan->ranks > 1) status = dsc_comm_failure(run->o.comm);
out:
    pthread_mutex_unlock(&run->moving);
    return status;
}

/* While the caller waits, it moves. */
static void sleep_while_caller_moves(dsc_run *run)
{
    pthread_mutex_lock(&run->mutex);
    while (atomic_load(&run->caller_moves) && !atomic_load(&run->has_failed))
        pthread_cond_wait(&run->changed, &run->mutex);
    pthread_mutex_unlock(&run->mutex);
}

static dsc_status move_segment(dsc_run *run)
{
    bool is_over = false, has_moved, is_active;
    dsc_status status = DSC_OK;
    int idle_rounds = 0;

    while (!is_over && !atomic_load(&run->has_failed)) {
        int seen = atomic_load(&run->progress);

        if (atomic_load(&run->caller_moves)) sleep_while_caller_moves(run);
        DSC_TRY(move_once(run, &is_over, &has_moved, &is_active));
        if (has_moved || is_over) idle_rounds = 0;
        else if (is_active) dsc_comm_nap(run->o.comm, idle_rounds++);
        else sleep_until_progress(run, seen);
    }
out:
    return status;
}

/* Waits until a lane has counted `count` ops; false when the run has failed. */
static bool await(dsc_run *run, const atomic_int *counter, int count)
{
    bool is_over, has_moved, is_active;
    dsc_status status = DSC_OK;
    int idle_rounds = 0;

    if (atomic_load(counter) >= count) return !atomic_load(&run->has_failed);
    atomic_store(&run->caller_moves, true);
    while (status == DSC_OK && atomic_load(counter) < count && !atomic_load(&run->has_failed)) {
        status = move_once(run, &is_over, &has_moved, &is_active);
        if (status == DSC_OK && has_moved) idle_rounds = 0;
        else if (status == DSC_OK) dsc_comm_nap(run->o.comm, idle_rounds++);
    }
    if (status != DSC_OK) exec_fail(run, status);
    atomic_store(&run->caller_moves, false);
    wake_all(run);
    return !atomic_load(&run->has_failed);
}

/* ---- Lanes of kernels: compute in the caller's thread, the host's in its own */

typedef bool wait_for(dsc_run *run, const atomic_int *counter, int count);

/* The lane's ops in order, each when what it needs is over. */
static dsc_status run_lane(dsc_run *run, int which, wait_for *wait)
{
    const dsc_unfolded *unfolded = &run->unfolded[run->segment];
    exec_lane *lane = &run->lanes[which];
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < unfolded->lane_counts[which]; i++) {
        const dsc_instance *instance = &unfolded->lanes[which][i];

        for (int32_t n = 0; n < instance->needs; n++) {
            dsc_need need = unfolded->needs[instance->first_need + n];

            if (!wait(run, counter_of(lane, &run->lanes[need.lane]), need.count)) goto out;
        }
        if (atomic_load(&run->has_failed)) goto out;
        DSC_TRY(run_here(run, lane, instance));
        advance(run, lane);
    }
out:
    return status;
}

static void run_compute(dsc_run *run)
{
    dsc_status status = run_lane(run, DSC_LANE_COMPUTE, await);

    if (status != DSC_OK) exec_fail(run, status);
}

/* The host's thread moves nothing. */
static bool await_asleep(dsc_run *run, const atomic_int *counter, int count)
{
    while (!atomic_load(&run->has_failed)) {
        int seen = atomic_load(&run->progress);

        if (atomic_load(counter) >= count) return true;
        sleep_until_progress(run, seen);
    }
    return false;
}

/* OpenMP's number of threads is each calling thread's own. */
static dsc_status run_host(dsc_run *run)
{
    omp_set_num_threads(run->threads);
    return run_lane(run, DSC_LANE_HOST, await_asleep);
}

/* ---- The threads beside the caller's */

static void *worker_main(void *argument)
{
    exec_worker *worker = argument;
    dsc_run *run = worker->run;

    pthread_mutex_lock(&run->mutex);
    while (worker->segment != END_THREAD) {
        dsc_status status;

        if (worker->segment == NO_SEGMENT) {
            pthread_cond_wait(&run->changed, &run->mutex);
            continue;
        }
        pthread_mutex_unlock(&run->mutex);
        if ((status = worker->work(run)) != DSC_OK) exec_fail(run, status);
        pthread_mutex_lock(&run->mutex);
        worker->segment = NO_SEGMENT;
        pthread_cond_broadcast(&run->changed);
    }
    pthread_mutex_unlock(&run->mutex);
    return NULL;
}

static dsc_status start_worker(dsc_run *run, exec_worker *worker, dsc_status (*work)(dsc_run *run))
{
    int error;

    *worker = (exec_worker){.run = run, .work = work, .segment = NO_SEGMENT};
    if ((error = pthread_create(&worker->thread, NULL, worker_main, worker)) != 0)
        return DSC_FAIL(DSC_ENOMEM, "executor: no thread beside compute: %s", strerror(error));
    worker->is_there = true;
    return DSC_OK;
}

static void give_segment(dsc_run *run, exec_worker *worker, int segment)
{
    pthread_mutex_lock(&run->mutex);
    worker->segment = segment;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->mutex);
}

static void await_worker(dsc_run *run, const exec_worker *worker)
{
    pthread_mutex_lock(&run->mutex);
    while (worker->is_there && worker->segment != NO_SEGMENT) pthread_cond_wait(&run->changed, &run->mutex);
    pthread_mutex_unlock(&run->mutex);
}

static void end_worker(dsc_run *run, exec_worker *worker)
{
    if (!worker->is_there) return;
    give_segment(run, worker, END_THREAD);
    pthread_join(worker->thread, NULL);
    worker->is_there = false;
}

/* ---- A segment on all threads */

/* Waits until every rank knows the same failure; the comm module settles whose it is. */
static dsc_status settle(dsc_run *run)
{
    enum { ROUNDS = 20000 }; /* of at least 20 us, and of a launcher that ends a broken job before */
    dsc_status status = DSC_OK;

    for (int i = 0; i < ROUNDS && run->o.plan->ranks > 1; i++) {
        if ((status = dsc_comm_failure(run->o.comm)) != DSC_OK) return status;
        dsc_comm_nap(run->o.comm, i);
    }
    return DSC_FAIL(run->status, "%s", run->message);
}

static bool has_other_lanes(const dsc_run *run, int segment)
{
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (has_to_move(run, lane) && run->unfolded[segment].lane_counts[lane] > 0) return true;
    return false;
}

void exec_hand_over(dsc_run *run)
{
    run_compute(run);
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++)
        if (!await(run, &run->lanes[lane].handed, (int)run->unfolded[run->segment].lane_counts[lane])) break;
}

/* On all threads. */
static void run_lanes(dsc_run *run)
{
    if (has_other_lanes(run, run->segment)) give_segment(run, &run->mover, run->segment);
    if (run->unfolded[run->segment].lane_counts[DSC_LANE_HOST] > 0) give_segment(run, &run->host, run->segment);
    exec_hand_over(run);
    await_worker(run, &run->mover);
    await_worker(run, &run->host);
}

dsc_status exec_run_segment(dsc_run *run, int segment)
{
    dsc_status status = DSC_OK;

    run->segment = segment;
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) {
        atomic_store(&run->lanes[lane].done, 0);
        atomic_store(&run->lanes[lane].handed, 0);
    }
    exec_poison_segment(run);
    DSC_TRY(exec_queues_begin(run));
    if (exec_graph_serves(run)) DSC_TRY(exec_graph_run(run));
    else run_lanes(run);
    if (!atomic_load(&run->has_failed)) DSC_TRY(exec_queues_end(run));
out:
    if (status != DSC_OK) exec_fail(run, status);
    run->is_handed[segment] = true;
    return atomic_load(&run->has_failed) ? settle(run) : DSC_OK;
}

dsc_status exec_lanes_create(dsc_run *run)
{
    dsc_status status = DSC_OK;
    int64_t host_ops = 0;

    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) {
        DSC_TRY(dsc_segment_unfold(run->o.program, s, &run->unfolded[s]));
        host_ops += run->unfolded[s].lane_counts[DSC_LANE_HOST];
    }
    DSC_TRY(exec_queues_create(run));
    run->threads = omp_get_max_threads();
    pthread_mutex_init(&run->mutex, NULL);
    pthread_mutex_init(&run->moving, NULL);
    pthread_cond_init(&run->changed, NULL);
    DSC_TRY(start_worker(run, &run->mover, move_segment));
    if (host_ops > 0) DSC_TRY(start_worker(run, &run->host, run_host));
out:
    return status;
}

void exec_lanes_destroy(dsc_run *run)
{
    bool has_mover = run->mover.is_there;

    end_worker(run, &run->host);
    end_worker(run, &run->mover);
    if (has_mover) {
        pthread_cond_destroy(&run->changed);
        pthread_mutex_destroy(&run->mutex);
        pthread_mutex_destroy(&run->moving);
    }
    exec_queues_destroy(run);
    for (int s = 0; s < DSC_SEGMENT_COUNT; s++) dsc_unfolded_fini(&run->unfolded[s]);
    for (int lane = 0; lane < DSC_LANE_COUNT; lane++) free(run->lanes[lane].rows);
}
