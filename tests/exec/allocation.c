/* No step allocates. malloc and its relatives are defined here, and what they see while a step runs is ours when it was
 * called from this program's own text, into which our code is linked; libraries live outside. */
#include "tests/comm/job.h"
#include "tests/exec/trainer.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

extern const char __executable_start, etext;

static atomic_bool is_watching;
static atomic_int ours;
static void *_Atomic first_caller;

#ifndef __SANITIZE_ADDRESS__
static const bool is_interposed = true;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void note(void *caller)
{
    void *none = NULL;

    if (!atomic_load(&is_watching)) return;
    if ((const char *)caller < &__executable_start || (const char *)caller >= &etext) return;
    atomic_fetch_add(&ours, 1);
    atomic_compare_exchange_strong(&first_caller, &none, caller);
}

void *malloc(size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    note(__builtin_return_address(0));
    *out = __libc_memalign(alignment, bytes);
    return *out != NULL ? 0 : ENOMEM;
}
#else
static const bool is_interposed = false; /* the sanitizer's own allocator stands there */
#endif

static int watch(void (*work)(void *), void *context)
{
    atomic_store(&ours, 0);
    atomic_store(&first_caller, NULL);
    atomic_store(&is_watching, true);
    work(context);
    atomic_store(&is_watching, false);
    return atomic_load(&ours);
}

static void allocate(void *context)
{
    void *volatile block = malloc((size_t)context);

    free(block);
}

static void is_seen(void)
{
    if (!is_interposed) tap_skip("malloc", "the address sanitizer has it");
    else CHECK(watch(allocate, (void *)100) == 1, "%d seen", atomic_load(&ours));
}

typedef struct step { dsc_run *run; int64_t number; dsc_trace *rows; dsc_status status; } step;

static void run_step(void *context)
{
    step *s = context;
    dsc_step_report report;

    s->status = dsc_run_step(s->run, s->number, false, false, &report, s->rows);
}

/* Libraries may warm up, and rows find their room, in the first two steps. */
static void check_steps(trainer *t, dsc_trace *rows)
{
    for (int64_t number = 1; number <= 5; number++) {
        step s = {t->run, number, rows, DSC_OK};
        int found = watch(run_step, &s);

        if (!CHECK_OK(s.status)) return;
        CHECK(number <= 2 || found == 0, "step %lld: %d allocations, the first called at %s+0x%lx", (long long)number,
              found, "this program", (unsigned long)((char *)atomic_load(&first_caller) - &__executable_start));
    }
}

static void train(const char *model, dsc_strategy strategy, bool is_traced)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_trace rows;
    trainer t;
    char bytes[4000];

    if (!is_interposed) {
        tap_skip("malloc", "the address sanitizer has it");
        return;
    }
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)('a' + i * i % 26);
    config.strategy = strategy;
    dsc_trace_init(&rows);
    if (CHECK_OK(trainer_init(job, model, &config, bytes, sizeof bytes, &t))) check_steps(&t, is_traced ? &rows : NULL);
    trainer_fini(&t);
    dsc_trace_fini(&rows);
}

static const char tiny[] = "layers=2,hidden=40,heads=5,vocab=131,seq=24";

static dsc_strategy of_micro_batch(int64_t micro_batch)
{
    dsc_strategy s = DSC_CONFIG_DEFAULT.strategy;

    s.global_batch = 8;
    s.micro_batch = micro_batch;
    return s;
}

static void untraced(void) { train(tiny, of_micro_batch(2), false); }

static void traced(void) { train(tiny, of_micro_batch(2), true); }

static void other_kernels(void)
{
    dsc_strategy s = of_micro_batch(1);

    s.precision = DSC_BF16;
    s.recompute = DSC_RECOMPUTE_FULL;
    train(tiny, s, true);
}

static void offloaded(void)
{
    dsc_strategy s = of_micro_batch(2);

    s.zero = 3;
    s.offload = DSC_OFFLOAD_PARAMS;
    s.precision = DSC_BF16;
    train(tiny, s, true);
    s.offload = DSC_OFFLOAD_OPTIMIZER;
    s.delay_update = 1;
    train(tiny, s, false); /* rows find their room when a path is taken first */
}

static const tap_case cases[] = {
    {"an allocation of ours is seen", is_seen},
    {"no step allocates", untraced},
    {"nor does a step that is traced", traced},
    {"nor one that recomputes, in bf16", other_kernels},
    {"nor one that offloads parameters, or delays updates", offloaded},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
