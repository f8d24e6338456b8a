#include "program/schedule.h"
#include "base/array.h"
#include <stdlib.h>

typedef struct order {
    int64_t stages, stage, micro_batches, chunks;
    dsc_pass *passes; int64_t count;
} order;

static void add(order *o, dsc_pass_kind kind, int64_t micro_batch, int64_t chunk)
{
    o->passes[o->count++] = (dsc_pass){(int8_t)kind, (int32_t)micro_batch, (int32_t)chunk};
}

static void gpipe(order *o)
{
    for (int64_t i = 0; i < o->micro_batches; i++) add(o, DSC_PASS_FORWARD, i, 0);
    for (int64_t i = 0; i < o->micro_batches; i++) add(o, DSC_PASS_BACKWARD, i, 0);
}

/* Virtual step k: groups of as many micro-batches as there are stages go through one chunk after another, the way back
 * through the last chunk first. */
static void add_virtual(order *o, dsc_pass_kind kind, int64_t k)
{
    int64_t group = o->stages * o->chunks, chunk = k % group / o->stages;
    int64_t micro_batch = k / group * o->stages + k % o->stages;

    add(o, kind, micro_batch, kind == DSC_PASS_FORWARD ? chunk : o->chunks - 1 - chunk);
}

/* With one chunk, a step of which is a micro-batch, this is 1f1b. */
static void interleaved(order *o)
{
    int64_t steps = o->micro_batches * o->chunks, later = o->stages - o->stage - 1;
    int64_t warmup = o->chunks > 1 ? 2 * later + (o->chunks - 1) * o->stages : later;

    warmup = DSC_MIN(warmup, steps);
    for (int64_t k = 0; k < warmup; k++) add_virtual(o, DSC_PASS_FORWARD, k);
    for (int64_t k = warmup; k < steps; k++) {
        add_virtual(o, DSC_PASS_FORWARD, k);
        add_virtual(o, DSC_PASS_BACKWARD, k - warmup);
    }
    for (int64_t k = steps - warmup; k < steps; k++) add_virtual(o, DSC_PASS_BACKWARD, k);
}

/* Stage s splits the first s backwards of the steady state and all from its last on; from there on, each split one is
 * followed by the weights' gradients of the oldest that waits, but not before step s. The first stage splits none: it
 * has no one to hurry for. */
static void zb_h1(order *o)
{
    int64_t m = o->micro_batches, warmup = DSC_MIN(o->stages - o->stage - 1, m), last = m - warmup - 1;
    int64_t split = 0, done = 0, middle = DSC_MIN(o->stage, m); /* of the split: 0 .. middle - 1, then last .. m - 1 */

    for (int64_t i = 0; i < warmup; i++) add(o, DSC_PASS_FORWARD, i, 0);
    for (int64_t i = 0; i < m; i++) {
        bool is_split = o->stage > 0 && (i < o->stage || i >= last);

        if (i <= last) add(o, DSC_PASS_FORWARD, warmup + i, 0);
        add(o, is_split ? DSC_PASS_BACKWARD_X : DSC_PASS_BACKWARD, i, 0);
        split += is_split;
        if (!is_split || i < last || i < o->stage) continue;
        add(o, DSC_PASS_BACKWARD_W, done < middle ? done : DSC_MAX(last, middle) + done - middle, 0);
        done++;
    }
    for (; done < split; done++)
        add(o, DSC_PASS_BACKWARD_W, done < middle ? done : DSC_MAX(last, middle) + done - middle, 0);
}

dsc_status dsc_schedule_create(dsc_schedule schedule, int64_t stages, int64_t stage, int64_t micro_batches,
                               int64_t chunks, dsc_pass **out, int64_t *count)
{
    order o = {.stages = stages, .stage = stage, .micro_batches = micro_batches, .chunks = chunks};

    o.passes = malloc((size_t)(3 * micro_batches * chunks) * sizeof *o.passes); /* at most a forward, two backwards */
    if (o.passes == NULL)
        return DSC_FAIL(DSC_ENOMEM, "schedule: %lld passes", (long long)(3 * micro_batches * chunks));
    if (schedule == DSC_GPIPE) gpipe(&o);
    else if (schedule == DSC_ZB_H1) zb_h1(&o);
    else interleaved(&o);
    *out = o.passes;
    *count = o.count;
    return DSC_OK;
}
