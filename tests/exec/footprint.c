/* What the operating system sees is what the ledger says: a run's resident memory grows by its arenas. */
#include "tests/comm/job.h"
#include "tests/exec/trainer.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long long pages = 0;

    if (file == NULL || fscanf(file, "%*d %lld", &pages) != 1) pages = 0;
    if (file != NULL) fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static int64_t arena_bytes(const trainer *t)
{
    int64_t bytes = 0;

    for (int space = 0; space < DSC_SPACE_COUNT; space++) bytes += t->programs[0]->arena_bytes[space];
    return bytes;
}

/* Trains for three steps; resident size and arenas at the end of them. */
static void measure(const char *model, int64_t *resident, int64_t *arenas)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_step_report report;
    trainer t;
    char bytes[2000];

    memset(bytes, 'a', sizeof bytes);
    config.strategy.global_batch = config.strategy.micro_batch = 4;
    if (CHECK_OK(trainer_init(job, model, &config, bytes, sizeof bytes, &t)))
        for (int64_t step = 1; step <= 3; step++) CHECK_OK(dsc_run_step(t.run, step, false, false, &report, NULL));
    *resident = resident_bytes();
    *arenas = t.run != NULL ? arena_bytes(&t) : 0;
    trainer_fini(&t);
}

/* The small model brings libraries and code in; then it has gone. */
static void grows_by_arenas(void)
{
    int64_t before, after, arenas, small, limit;

#ifdef __SANITIZE_ADDRESS__
    tap_skip("rss", "the address sanitizer keeps a shadow of memory");
    return;
#endif
    measure("layers=1,hidden=64,heads=4,vocab=256,seq=64", &before, &small);
    measure("layers=4,hidden=512,heads=8,vocab=4096,seq=64", &after, &arenas);
    limit = arenas * 3 / 100 + ((int64_t)16 << 20);
    CHECK(arenas > (int64_t)200 << 20, "arenas of %" PRId64 " bytes prove little", arenas);
    CHECK(llabs(after - before - (arenas - small)) <= limit,
          "%" PRId64 " bytes more are resident, the arenas have %" PRId64, after - before, arenas - small);
}

static const tap_case cases[] = {{"resident memory grows by the arenas, to 3 % + 16 MiB", grows_by_arenas}};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
