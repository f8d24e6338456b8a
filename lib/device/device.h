/* Devices, cpu and cuda, behind one header: memory as arenas that the program's ledger fills, queues of work in order,
 * events across them. On a CPU what a call asks for is over when it returns, so it has no queues. It knows no
 * programs: which op goes where is the executor's business. */
#ifndef DSC_DEVICE_DEVICE_H
#define DSC_DEVICE_DEVICE_H

#include "base/array.h"

/* ---- Memory of this process */

/* One range of exactly `bytes`, zero-filled, that ends at an inaccessible guard page; base is 64-byte aligned. Under
 * ASan what dsc_arena_poison marks is an error to touch. Of a device with queues: without guard, map NULL. */
typedef struct dsc_arena {
    char *base;
    int64_t bytes;
    void *map;
    int64_t map_bytes;
} dsc_arena;

/* DSC_ENOMEM names the bytes, and what limits them. bytes 0 is an empty arena. Touches no page. */
dsc_status dsc_arena_create(int64_t bytes, dsc_arena *out);
void dsc_arena_destroy(dsc_arena *arena);  /* takes {0} */
void dsc_arena_poison(const dsc_arena *arena, int64_t offset, int64_t bytes);
void dsc_arena_unpoison(const dsc_arena *arena, int64_t offset, int64_t bytes);

/* Bytes that this process can still fill: what the machine has available and what its control groups (Linux cgroups,
 * version 1 or 2, which batch systems set) leave. INT64_MAX: nobody tells. root is put before the paths that are read;
 * "" but in tests. */
int64_t dsc_memory_room(const char *root);

/* ---- A device */

typedef struct dsc_device dsc_device;
typedef struct dsc_queue dsc_queue; /* work in order: a stream of CUDA's */
typedef struct dsc_event dsc_event; /* a place in a queue */
typedef struct dsc_graph dsc_graph; /* what queues were given, to be given again at once */

/* The host's memory is such as the device reaches by the same addresses, and copies from and to without a detour. */
typedef enum dsc_memory { DSC_MEMORY_DEVICE, DSC_MEMORY_HOST } dsc_memory;

/* What a kind of device can do. Fails with the device's own words; what goes wrong behind a call's back is told by the
 * next test or sync. A queue is of the device that is passed with it. */
typedef struct dsc_device_calls {
    const char *kind;    /* "cpu", "cuda" */
    void (*close)(dsc_device *device);

    dsc_status (*room)(dsc_device *device, int64_t *bytes); /* of its memory that is free now */
    /* Of exactly so many bytes, zero-filled. */
    dsc_status (*create_arena)(dsc_device *device, dsc_memory memory, int64_t bytes, dsc_arena *out);
    void (*destroy_arena)(dsc_device *device, dsc_memory memory, dsc_arena *arena); /* takes {0} */

    /* Between any two memories, and bytes of one value. queue NULL: over when the call returns. */
    dsc_status (*copy)(dsc_device *device, dsc_queue *queue, void *to, const void *from, int64_t bytes);
    dsc_status (*fill)(dsc_device *device, dsc_queue *queue, void *to, int value, int64_t bytes);

    /* All below: NULL where there are no queues. */
    dsc_status (*create_queue)(dsc_device *device, dsc_queue **out);
    void (*destroy_queue)(dsc_device *device, dsc_queue *queue);
    /* The calling thread's kernels go into this queue from now on. */
    void (*enter)(dsc_device *device, dsc_queue *queue);
    dsc_status (*sync)(dsc_device *device, dsc_queue *queue);

    /* is_timed: it tells when, too. */
    dsc_status (*create_event)(dsc_device *device, bool is_timed, dsc_event **out);
    void (*destroy_event)(dsc_device *device, dsc_event *event);
    dsc_status (*record)(dsc_device *device, dsc_queue *queue, dsc_event *event);
    dsc_status (*wait)(dsc_device *device, dsc_queue *queue, dsc_event *event);
    dsc_status (*test)(dsc_device *device, dsc_event *event, bool *is_over);
    dsc_status (*elapsed)(dsc_device *device, dsc_event *from, dsc_event *to, int64_t *ns); /* both timed, and over */

    /* From begin to end what this queue is given, and others that wait for its events meanwhile, is not done but noted;
     * the others are waited for by this one before the end. NULL: a device without graphs. */
    dsc_status (*begin_graph)(dsc_device *device, dsc_queue *queue);
    dsc_status (*end_graph)(dsc_device *device, dsc_queue *queue, dsc_graph **out);
    dsc_status (*launch)(dsc_device *device, dsc_queue *queue, dsc_graph *graph);
    void (*destroy_graph)(dsc_device *device, dsc_graph *graph);
} dsc_device_calls;

struct dsc_device {
    const dsc_device_calls *calls;
    bool has_queues;
    bool is_apart;          /* the host cannot touch its memory, nor can what the host sends by */
    int index;
    char name[64];          /* the driver's */
    char bus[32];           /* where it sits: "0000:3b:00.0"; "": nowhere */
    int64_t memory_bytes;   /* 0: not told */
    int64_t multiprocessors, clock_hz;
    double bandwidth_bytes_per_s;
};

/* This machine's number of devices of a kind, "cpu" (one) or "cuda"; 0 where the build or the machine has none. */
int dsc_device_count(const char *kind);
/* DSC_EINVAL: there is none such, and why: the build has no CUDA, the driver's words, or both numbers. */
dsc_status dsc_device_open(const char *kind, int index, dsc_device **out);
void dsc_device_close(dsc_device *device); /* takes NULL */
#endif
