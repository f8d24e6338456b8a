#include "config/config.h"
#include "program/schedule.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_STAGES = 8 };

/* All stages of a pipeline, and what has been done: [micro-batch][virtual stage], by kind of pass. */
typedef struct pipeline {
    int64_t stages, micro_batches, chunks;
    dsc_pass *passes[MOST_STAGES];
    int64_t counts[MOST_STAGES], next[MOST_STAGES];
    bool *done[4];
} pipeline;

static bool begin(pipeline *p, int schedule)
{
    bool ok = true;

    for (int64_t s = 0; s < p->stages; s++)
        ok = CHECK_OK(dsc_schedule_create(schedule, p->stages, s, p->micro_batches, p->chunks, &p->passes[s],
                                          &p->counts[s])) && ok;
    for (int kind = 0; kind < 4; kind++)
        p->done[kind] = calloc((size_t)(p->micro_batches * p->stages * p->chunks), sizeof(bool));
    return ok;
}

static void end(pipeline *p)
{
    for (int64_t s = 0; s < p->stages; s++) free(p->passes[s]);
    for (int kind = 0; kind < 4; kind++) free(p->done[kind]);
}

static bool *at(pipeline *p, int kind, int64_t micro_batch, int64_t virtual_stage)
{
    return &p->done[kind][micro_batch * p->stages * p->chunks + virtual_stage];
}

/* Whether gradients of inputs have been made there. */
static bool has_gradient(pipeline *p, int64_t m, int64_t v)
{
    return *at(p, DSC_PASS_BACKWARD_X, m, v) || *at(p, DSC_PASS_BACKWARD, m, v);
}

/* Whether what a pass reads is there. */
static bool is_ready(pipeline *p, const dsc_pass *pass, int64_t v)
{
    int64_t m = pass->micro_batch;

    if (pass->kind == DSC_PASS_FORWARD) return v == 0 || *at(p, DSC_PASS_FORWARD, m, v - 1);
    if (pass->kind == DSC_PASS_BACKWARD_W) return *at(p, DSC_PASS_BACKWARD_X, m, v);
    if (!*at(p, DSC_PASS_FORWARD, m, v)) return false;
    return v == p->stages * p->chunks - 1 || has_gradient(p, m, v + 1);
}

/* Passes of a stage until one has to wait. */
static bool advance(pipeline *p, int64_t stage)
{
    bool moved = false;

    for (; p->next[stage] < p->counts[stage]; p->next[stage]++) {
        const dsc_pass *pass = &p->passes[stage][p->next[stage]];
        int64_t v = pass->chunk * p->stages + stage;
        bool *done = at(p, pass->kind, pass->micro_batch, v);

        if (!is_ready(p, pass, v)) break;
        CHECK(!*done, "stage %lld makes a pass twice", (long long)stage);
        *done = moved = true;
    }
    return moved;
}

static void run(pipeline *p, int schedule)
{
    bool moved = true;

    while (moved) {
        moved = false;
        for (int64_t s = 0; s < p->stages; s++) moved = advance(p, s) || moved;
    }
    for (int64_t s = 0; s < p->stages; s++)
        CHECK(p->next[s] == p->counts[s], "schedule %d, %lld micro-batches: stage %lld of %lld waits for ever",
              schedule, (long long)p->micro_batches, (long long)s, (long long)p->stages);
    for (int64_t m = 0; m < p->micro_batches; m++)
        for (int64_t v = 0; v < p->stages * p->chunks; v++) {
            bool is_split = *at(p, DSC_PASS_BACKWARD_X, m, v);

            CHECK(*at(p, DSC_PASS_FORWARD, m, v) && has_gradient(p, m, v), "micro-batch %lld is not through %lld",
                  (long long)m, (long long)v);
            CHECK(*at(p, DSC_PASS_BACKWARD_W, m, v) == is_split && *at(p, DSC_PASS_BACKWARD, m, v) != is_split,
                  "micro-batch %lld at %lld: gradients of weights", (long long)m, (long long)v);
        }
}

static void all_pass_once(void)
{
    for (int i = 0; i < 200; i++) {
        int schedule = DSC_GPIPE + (int)(tap_random() % 4);
        pipeline p = {.stages = 1 + (int64_t)(tap_random() % MOST_STAGES), .chunks = 1};

        p.micro_batches = 1 + (int64_t)(tap_random() % 20);
        if (schedule == DSC_INTERLEAVED) {
            p.chunks = 1 + (int64_t)(tap_random() % 4);
            p.micro_batches *= p.stages;
        }
        if (begin(&p, schedule)) run(&p, schedule);
        end(&p);
    }
}

/* Micro-batches whose activations a stage holds: until the gradients of its weights are made. */
static int64_t most_held(const dsc_pass *passes, int64_t count)
{
    int64_t held = 0, most = 0;

    for (int64_t i = 0; i < count; i++) {
        held += passes[i].kind == DSC_PASS_FORWARD;
        most = DSC_MAX(most, held);
        held -= passes[i].kind == DSC_PASS_BACKWARD || passes[i].kind == DSC_PASS_BACKWARD_W;
    }
    return most;
}

/* p - r of 1F1B's stage r; ZB-H1 fills the later stages up to what the first holds. */
static void few_are_in_flight(void)
{
    const int64_t stages = 4, micro_batches = 12;

    for (int64_t s = 0; s < stages; s++) {
        const struct { int schedule; int64_t held; } rows[] = {
            {DSC_GPIPE, micro_batches}, {DSC_1F1B, stages - s}, {DSC_ZB_H1, stages}};

        for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
            dsc_pass *passes = NULL;
            int64_t count = 0;

            if (!CHECK_OK(dsc_schedule_create(rows[i].schedule, stages, s, micro_batches, 1, &passes, &count))) return;
            CHECK(most_held(passes, count) == rows[i].held, "schedule %d, stage %lld holds %lld", rows[i].schedule,
                  (long long)s, (long long)most_held(passes, count));
            free(passes);
        }
    }
}

static void nonsense_is_refused(void)
{
    dsc_pass *passes = NULL;
    int64_t count = 0;

    CHECK(dsc_schedule_create(DSC_SCHEDULE_AUTO, 2, 0, 4, 1, &passes, &count) == DSC_EINVAL, "no schedule");
    CHECK(dsc_schedule_create(DSC_1F1B, 2, 2, 4, 1, &passes, &count) == DSC_EINVAL, "stage 2 of 2");
    CHECK(dsc_schedule_create(DSC_1F1B, 2, 0, 4, 2, &passes, &count) == DSC_EINVAL, "chunks without interleaving");
    CHECK(dsc_schedule_create(DSC_INTERLEAVED, 2, 0, 5, 2, &passes, &count) == DSC_EINVAL, "5 micro-batches");
    CHECK(strstr(dsc_message(), "5 micro-batches") != NULL && strstr(dsc_message(), "2 inter") != NULL, "%s",
          dsc_message());
    CHECK(passes == NULL, "something was made");
}

static const tap_case cases[] = {
    {"every micro-batch passes every chunk once, and no stage waits for ever", all_pass_once},
    {"1F1B's stage r holds p - r micro-batches, each of ZB-H1's p", few_are_in_flight},
    {"what cannot be scheduled is refused", nonsense_is_refused},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
