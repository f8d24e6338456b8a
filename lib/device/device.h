/* Memory of a device as arenas that the program's ledger fills. CPU for now; CUDA comes behind the same calls. */
#ifndef DSC_DEVICE_DEVICE_H
#define DSC_DEVICE_DEVICE_H

#include "base/array.h"

/* One range of exactly `bytes`, zero-filled, that ends at an inaccessible guard page; base is 64-byte aligned. Under
 * ASan what dsc_arena_poison marks is an error to touch. */
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

/* Copies between the spaces. CPU: both are this process' memory. */
void dsc_copy(void *to, const void *from, int64_t bytes);

#endif
