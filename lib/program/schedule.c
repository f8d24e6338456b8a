/* Sources: 1F1B and its interleaved form: Narayanan et al. 2021, sections 2.2.1 and 2.2.2; ZB-H1: Qi et al. 2023,
 * section 2.3, in the order of its authors' first program, which splits a backward pass only where a bubble can take
 * the half that waits. All four are one skeleton: some forward passes, then one forward and one backward by turns, then
 * the backward passes that are left. They differ in how many forwards come first, in what the k-th pass is of, and in
 * whether a backward pass is split. */
#include "program/schedule.h"
#include "base/array.h"
#include "config/config.h"
#include <inttypes.h>
#include <stdlib.h>

typedef struct maker {
    int64_t stages, stage, chunks;  /* as given */
    int64_t forwards, warmup;       /* passes of the stage; of these before the turns begin */
    int64_t delayed, delayed_first; /* gradients of weights that are put off; the next of them to make */
    bool is_split;                  /* ZB-H1 behind stage 0 */
    dsc_pass *passes;
    int64_t count;
} maker;

/* Interleaving takes micro-batches in groups of as many as there are stages, a group through one chunk after another;
 * backward passes take the chunks from the last. With one chunk the k-th pass is micro-batch k's. */
static void add(maker *m, dsc_pass_kind kind, int64_t k)
{
    int64_t group = k / (m->stages * m->chunks), in_group = k % (m->stages * m->chunks);
    int64_t chunk = in_group / m->stages, micro_batch = group * m->stages + in_group % m->stages;

    if (kind != DSC_PASS_FORWARD) chunk = m->chunks - 1 - chunk;
    m->passes[m->count++] =
        (dsc_pass){.kind = (int8_t)kind, .micro_batch = (int32_t)micro_batch, .chunk = (int32_t)chunk};
}

/* The next gradients of weights that were put off: those of passes 0 .. stage - 1 and of the last `warmup` + 1. */
static void add_delayed(maker *m)
{
    int64_t last_steady = m->forwards - m->warmup - 1;

    if (m->delayed_first == m->stage) m->delayed_first = DSC_MAX(m->delayed_first, last_steady);
    add(m, DSC_PASS_BACKWARD_W, m->delayed_first++);
    m->delayed--;
}

/* A split pass leaves the gradients of weights for the end. From the last steady step on the stage waits for its
 * successor's gradients, so each split pass brings one that was put off before. */
static void add_backward(maker *m, int64_t k)
{
    int64_t last_steady = m->forwards - m->warmup - 1;

    if (!m->is_split || (k >= m->stage && k < last_steady)) {
        add(m, DSC_PASS_BACKWARD, k);
        return;
    }
    add(m, DSC_PASS_BACKWARD_X, k);
    m->delayed++;
    if (k >= last_steady && k >= m->stage) add_delayed(m);
}

/* How many forward passes come before the first backward pass, beyond the one that it needs. */
static int64_t warmup_of(int schedule, const maker *m)
{
    int64_t behind = m->stages - m->stage - 1;

    if (schedule == DSC_GPIPE) return m->forwards;
    if (schedule == DSC_INTERLEAVED) return DSC_MIN(2 * behind + (m->chunks - 1) * m->stages, m->forwards);
    return DSC_MIN(behind, m->forwards);
}

static dsc_status check(int schedule, int64_t stages, int64_t stage, int64_t micro_batches, int64_t chunks)
{
    if (schedule < DSC_GPIPE || schedule > DSC_ZB_H1)
        return DSC_FAIL(DSC_EINVAL, "schedule: number %d is none of gpipe, 1f1b, interleaved, zb-h1", schedule);
    if (stage < 0 || stage >= stages)
        return DSC_FAIL(DSC_EINVAL, "schedule: stage %" PRId64 " of %" PRId64, stage, stages);
    if (micro_batches < 1 || micro_batches > INT32_MAX || chunks < 1 || chunks > INT32_MAX)
        return DSC_FAIL(DSC_EINVAL, "schedule: %" PRId64 " micro-batches of %" PRId64 " chunks", micro_batches, chunks);
    if (schedule != DSC_INTERLEAVED && chunks > 1)
        return DSC_FAIL(DSC_EINVAL, "schedule: %" PRId64 " chunks on a stage, and without interleaving there is 1",
                        chunks);
    if (chunks > 1 && micro_batches % stages != 0)
        return DSC_FAIL(DSC_EINVAL,
                        "schedule: %" PRId64 " micro-batches are no multiple of %" PRId64 " interleaved stages",
                        micro_batches, stages);
    return DSC_OK;
}

dsc_status dsc_schedule_create(int schedule, int64_t stages, int64_t stage, int64_t micro_batches, int64_t chunks,
                               dsc_pass **out, int64_t *count)
{
    maker m = {.stages = stages, .stage = stage, .chunks = chunks};
    dsc_status status = DSC_OK;

    DSC_TRY(check(schedule, stages, stage, micro_batches, chunks));
    m.forwards = micro_batches * chunks;
    m.warmup = warmup_of(schedule, &m);
    m.is_split = schedule == DSC_ZB_H1 && stage > 0;
    m.passes = calloc((size_t)m.forwards, 3 * sizeof *m.passes);
    if (m.passes == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "schedule: %" PRId64 " passes", 3 * m.forwards);
        goto out;
    }
    for (int64_t k = 0; k < m.warmup; k++) add(&m, DSC_PASS_FORWARD, k);
    for (int64_t k = m.warmup; k < m.forwards; k++) {
        add(&m, DSC_PASS_FORWARD, k);
        add_backward(&m, k - m.warmup);
    }
    for (int64_t k = m.forwards - m.warmup; k < m.forwards; k++) add_backward(&m, k);
    while (m.delayed > 0) add_delayed(&m);
    *out = m.passes;
    *count = m.count;
out:
    return status;
}
