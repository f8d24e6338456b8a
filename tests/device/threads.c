/* A device over this process' memory whose queues are threads, for tests: what is handed over runs later, each op after
 * a time that nobody foresees. A wait that the executor forgets then shows as wrong numbers, without a GPU. Linked with
 * --wrap, it stands in for the CPU: in threads that have entered a queue kernels go there, in others they run. */
#include "device/device.h"
#include "kernels/kernels.h"
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum task_kind { TASK_COPY, TASK_FILL, TASK_KERNEL, TASK_RECORD, TASK_WAIT, TASK_END } task_kind;

typedef struct task {
    struct task *next;
    dsc_queue *queue;       /* of a graph: which it is given to */
    task_kind kind;
    void *to;
    const void *from;
    int value;
    int64_t bytes;
    dsc_event *event;
    int64_t turn;           /* of the event: which of its records is passed, or waited for */
    dsc_shape shape;
    void *operands[DSC_KERNEL_OPERANDS], *workspace;
    const struct dsc_step *step;
} task;

struct dsc_queue {
    pthread_t thread;
    task *first, *last;     /* not begun */
    bool is_busy;
    unsigned seed;
    pthread_cond_t given, idle;
};

/* Turns count records; it is over when all are passed. */
struct dsc_event { int64_t recorded, passed, t_ns; pthread_cond_t passing; };

/* Tasks of queues, in the order in which they were given. */
struct dsc_graph { task *tasks; int64_t count, capacity; };

/* Of all queues and events. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static dsc_status failure = DSC_OK;
static char failure_message[1024];

static _Thread_local dsc_queue *entered;
static dsc_graph *noted; /* that tasks are for now; NULL: they are to be done */
static const dsc_kernel_set *inner;

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ---- A queue's thread */

static dsc_status perform(const task *t)
{
    if (t->kind == TASK_COPY) memcpy(t->to, t->from, (size_t)t->bytes);
    if (t->kind == TASK_FILL) memset(t->to, t->value, (size_t)t->bytes);
    if (t->kind != TASK_KERNEL) return DSC_OK;
    return inner->run[t->shape.kernel](&t->shape, t->operands, t->workspace, t->step);
}

/* Seldom, so that tests end, but for longer than an op of theirs takes. */
static void dawdle(dsc_queue *queue)
{
    queue->seed = queue->seed * 1664525 + 1013904223;
    if (queue->seed >> 28 == 0) nanosleep(&(struct timespec){.tv_nsec = (queue->seed >> 8) % 300000}, NULL);
}

static void do_task(dsc_queue *queue, const task *t)
{
    dsc_status status;

    if (t->kind == TASK_WAIT) {
        pthread_mutex_lock(&mutex);
        while (t->event->passed < t->turn) pthread_cond_wait(&t->event->passing, &mutex);
        pthread_mutex_unlock(&mutex);
        return;
    }
    dawdle(queue);
    if ((status = perform(t)) != DSC_OK) {
        pthread_mutex_lock(&mutex);
        failure = status;
        snprintf(failure_message, sizeof failure_message, "%s", dsc_message());
        pthread_mutex_unlock(&mutex);
    }
}

static void *queue_main(void *argument)
{
    dsc_queue *queue = argument;
    bool is_end = false;

    omp_set_num_threads(1);
    pthread_mutex_lock(&mutex);
    while (!is_end) {
        task *t = queue->first;

        if (t == NULL) {
            queue->is_busy = false;
            pthread_cond_broadcast(&queue->idle);
            pthread_cond_wait(&queue->given, &mutex);
            continue;
        }
        queue->is_busy = true;
        if ((queue->first = t->next) == NULL) queue->last = NULL;
        is_end = t->kind == TASK_END;
        pthread_mutex_unlock(&mutex);
        do_task(queue, t);
        pthread_mutex_lock(&mutex);
        if (t->kind == TASK_RECORD) {
            t->event->t_ns = now_ns();
            t->event->passed = t->turn;
            pthread_cond_broadcast(&t->event->passing);
        }
        free(t);
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

/* Under the mutex. */
static void append(dsc_queue *queue, task *t)
{
    if (queue->last == NULL) queue->first = t;
    else queue->last->next = t;
    queue->last = t;
    pthread_cond_signal(&queue->given);
}

/* Under the mutex. Turns of events count as things are done. */
static dsc_status append_now(dsc_queue *queue, const task *wanted)
{
    task *t = malloc(sizeof *t);

    if (t == NULL) return DSC_FAIL(DSC_ENOMEM, "a task of a queue");
    *t = *wanted;
    t->next = NULL;
    if (t->kind == TASK_RECORD) t->turn = ++t->event->recorded;
    if (t->kind == TASK_WAIT) t->turn = t->event->recorded;
    append(queue, t);
    return DSC_OK;
}

static dsc_status give(dsc_queue *queue, const task *wanted)
{
    dsc_status status;
    task t = *wanted;

    pthread_mutex_lock(&mutex);
    t.queue = queue;
    status = noted == NULL ? append_now(queue, &t) : DSC_PUSH(noted->tasks, noted->count, noted->capacity, t);
    pthread_mutex_unlock(&mutex);
    return status;
}

/* Under the mutex. */
static dsc_status failed(void)
{
    return failure == DSC_OK ? DSC_OK : DSC_FAIL(failure, "%s", failure_message);
}

/* ---- The device's calls */

static void close_device(dsc_device *device) { (void)device; }

static dsc_status room(dsc_device *device, int64_t *bytes)
{
    (void)device;
    *bytes = dsc_memory_room("");
    return DSC_OK;
}

static dsc_status create_arena(dsc_device *device, dsc_memory memory, int64_t bytes, dsc_arena *out)
{
    (void)device, (void)memory;
    return dsc_arena_create(bytes, out);
}

static void destroy_arena(dsc_device *device, dsc_memory memory, dsc_arena *arena)
{
    (void)device, (void)memory;
    dsc_arena_destroy(arena);
}

static dsc_status copy(dsc_device *device, dsc_queue *queue, void *to, const void *from, int64_t bytes)
{
    const task t = {.kind = TASK_COPY, .to = to, .from = from, .bytes = bytes};

    (void)device;
    return queue == NULL ? perform(&t) : give(queue, &t);
}

static dsc_status fill(dsc_device *device, dsc_queue *queue, void *to, int value, int64_t bytes)
{
    const task t = {.kind = TASK_FILL, .to = to, .value = value, .bytes = bytes};

    (void)device;
    return queue == NULL ? perform(&t) : give(queue, &t);
}

static dsc_status create_queue(dsc_device *device, dsc_queue **out)
{
    static unsigned seed;
    dsc_queue *queue = calloc(1, sizeof *queue);

    (void)device;
    if (queue == NULL) return DSC_FAIL(DSC_ENOMEM, "a queue");
    queue->seed = ++seed;
    pthread_cond_init(&queue->given, NULL);
    pthread_cond_init(&queue->idle, NULL);
    if (pthread_create(&queue->thread, NULL, queue_main, queue) != 0) {
        free(queue);
        return DSC_FAIL(DSC_ENOMEM, "a queue's thread");
    }
    *out = queue;
    return DSC_OK;
}

static void destroy_queue(dsc_device *device, dsc_queue *queue)
{
    const task end = {.kind = TASK_END};

    (void)device;
    if (queue == NULL || give(queue, &end) != DSC_OK) return;
    pthread_join(queue->thread, NULL);
    free(queue);
}

static void enter(dsc_device *device, dsc_queue *queue)
{
    (void)device;
    entered = queue;
}

static dsc_status sync(dsc_device *device, dsc_queue *queue)
{
    dsc_status status;

    (void)device;
    pthread_mutex_lock(&mutex);
    while (queue->first != NULL || queue->is_busy) pthread_cond_wait(&queue->idle, &mutex);
    status = failed();
    pthread_mutex_unlock(&mutex);
    return status;
}

static dsc_status create_event(dsc_device *device, bool is_timed, dsc_event **out)
{
    (void)device, (void)is_timed;
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return DSC_FAIL(DSC_ENOMEM, "an event");
    pthread_cond_init(&(*out)->passing, NULL);
    return DSC_OK;
}

static void destroy_event(dsc_device *device, dsc_event *event)
{
    (void)device;
    free(event);
}

static dsc_status record(dsc_device *device, dsc_queue *queue, dsc_event *event)
{
    const task t = {.kind = TASK_RECORD, .event = event};

    (void)device;
    return give(queue, &t);
}

static dsc_status wait_for(dsc_device *device, dsc_queue *queue, dsc_event *event)
{
    const task t = {.kind = TASK_WAIT, .event = event};

    (void)device;
    return give(queue, &t);
}

static dsc_status test(dsc_device *device, dsc_event *event, bool *is_over)
{
    dsc_status status;

    (void)device;
    pthread_mutex_lock(&mutex);
    *is_over = event->passed == event->recorded;
    status = failed();
    pthread_mutex_unlock(&mutex);
    return status;
}

static dsc_status elapsed(dsc_device *device, dsc_event *from, dsc_event *to, int64_t *ns)
{
    (void)device;
    *ns = to->t_ns - from->t_ns;
    return DSC_OK;
}

static dsc_status begin_graph(dsc_device *device, dsc_queue *queue)
{
    (void)device, (void)queue;
    noted = calloc(1, sizeof *noted);
    return noted != NULL ? DSC_OK : DSC_FAIL(DSC_ENOMEM, "a graph");
}

static dsc_status end_graph(dsc_device *device, dsc_queue *queue, dsc_graph **out)
{
    (void)device, (void)queue;
    *out = noted;
    noted = NULL;
    return DSC_OK;
}

static dsc_status launch(dsc_device *device, dsc_queue *queue, dsc_graph *graph)
{
    dsc_status status = DSC_OK;

    (void)device, (void)queue;
    pthread_mutex_lock(&mutex);
    for (int64_t i = 0; i < graph->count && status == DSC_OK; i++)
        status = append_now(graph->tasks[i].queue, &graph->tasks[i]);
    pthread_mutex_unlock(&mutex);
    return status;
}

static void destroy_graph(dsc_device *device, dsc_graph *graph)
{
    (void)device;
    if (graph != NULL) free(graph->tasks);
    free(graph);
}

/* ---- In place of the CPU */

static dsc_status run_kernel(const dsc_shape *shape, void *const *operands, void *workspace,
                             const struct dsc_step *step)
{
    task t = {.kind = TASK_KERNEL, .shape = *shape, .workspace = workspace, .step = step};

    if (entered == NULL) return inner->run[shape->kernel](shape, operands, workspace, step);
    memcpy(t.operands, operands, sizeof t.operands);
    return give(entered, &t);
}

static const dsc_kernel_set *outer_of(const dsc_kernel_set *set)
{
    static dsc_kernel_set outer;

    inner = set;
    outer = *set;
    for (int k = 0; k < DSC_KERNEL_COUNT; k++)
        if (set->run[k] != NULL) outer.run[k] = run_kernel;
    return &outer;
}

const dsc_kernel_set *__real_dsc_kernels_cpu(void);
const dsc_kernel_set *__wrap_dsc_kernels_cpu(void) { return outer_of(__real_dsc_kernels_cpu()); }

dsc_status __real_dsc_kernels_find(const char *name, const dsc_kernel_set **out);
dsc_status __wrap_dsc_kernels_find(const char *name, const dsc_kernel_set **out)
{
    const dsc_status status = __real_dsc_kernels_find(name, out);

    if (status == DSC_OK) *out = outer_of(*out);
    return status;
}

dsc_status __wrap_dsc_device_open(const char *kind, int index, dsc_device **out)
{
    static const dsc_device_calls calls = {
        .kind = "threads", .close = close_device, .room = room, .create_arena = create_arena,
        .destroy_arena = destroy_arena, .copy = copy, .fill = fill, .create_queue = create_queue,
        .destroy_queue = destroy_queue, .enter = enter, .sync = sync, .create_event = create_event,
        .destroy_event = destroy_event, .record = record, .wait = wait_for, .test = test, .elapsed = elapsed,
        .begin_graph = begin_graph, .end_graph = end_graph, .launch = launch, .destroy_graph = destroy_graph};
    static const dsc_device threads = {.calls = &calls, .has_queues = true, .name = "threads"};
    dsc_device *device = malloc(sizeof *device);

    if (device == NULL) return DSC_FAIL(DSC_ENOMEM, "device %s %d", kind, index);
    *device = threads;
    *out = device;
    return DSC_OK;
}
