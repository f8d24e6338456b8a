/* Patterns to layouts. Where the reference does what a reader would not expect, a line says so. */
#include "model/parts.h"
#include "model/sparsity.h"
#include "base/rng.h"
#include <inttypes.h>
#include <stdlib.h>

const char *const DSC_SPARSITY_NAMES[] = {"dense", "fixed", "variable", "bigbird", "bslongformer", "local", NULL};

void dsc_sparsity_default(dsc_sparsity_mode mode, dsc_sparsity *out)
{
    *out = (dsc_sparsity){.mode = mode, .block = 16, .is_bidirectional = mode != DSC_SPARSITY_LOCAL, .local_blocks = 4,
                          .global_blocks = 1, .global_patterns = 1, .random_blocks = mode == DSC_SPARSITY_BIGBIRD,
                          .window_blocks = 3, .windows = {1, {4}}, .globals = {1, {0}}};
}

/* ---- Parts of patterns */

/* Dense inside, or its lower triangle. */
static void set_window(const dsc_sparsity *s, dsc_layout *l, int64_t kind, dsc_stretch window)
{
    for (int64_t r = window.first; r < DSC_MIN(window.end, l->blocks); r++)
        dsc_layout_set(l, kind, (dsc_stretch){r, r + 1},
                       (dsc_stretch){window.first, s->is_bidirectional ? window.end : r + 1});
}

/* Blocks that all rows see; unidirectional, the rows from the first of them on: of a range so also blocks above the
 * diagonal. Horizontal: they see all. */
static void set_global(const dsc_sparsity *s, dsc_layout *l, int64_t kind, dsc_stretch blocks)
{
    dsc_layout_set(l, kind, (dsc_stretch){s->is_bidirectional ? 0 : blocks.first, l->blocks}, blocks);
    if (s->is_horizontal) dsc_layout_set(l, kind, blocks, (dsc_stretch){0, l->blocks});
}

static dsc_stretch global_range(const dsc_sparsity *s, int64_t index)
{
    int64_t first = s->globals.of[index];

    return (dsc_stretch){first, s->global_ends.count > 0 ? s->global_ends.of[index] : first + 1};
}

static void set_sliding(dsc_layout *l, int64_t kind, int64_t before, int64_t behind)
{
    for (int64_t r = 0; r < l->blocks; r++)
        dsc_layout_set(l, kind, (dsc_stretch){r, r + 1}, (dsc_stretch){r - before, r + behind + 1});
}

/* Distinct columns of the first `of`: the beginning of a permutation. */
static void set_random(const dsc_sparsity *s, dsc_layout *l, int64_t kind, int64_t row, int64_t of)
{
    uint64_t key = dsc_random_bits(s->seed, (uint64_t)kind, (uint64_t)row);

    for (int64_t i = 0; i < s->random_blocks; i++) {
        int64_t column = dsc_permute(key, of, i);

        dsc_layout_set(l, kind, (dsc_stretch){row, row + 1}, (dsc_stretch){column, column + 1});
    }
}

/* ---- Patterns of a head */

static void set_fixed(const dsc_sparsity *s, dsc_layout *l, int64_t kind)
{
    int64_t first = s->local_blocks - (1 + kind % s->global_patterns) * s->global_blocks;
    int64_t end = l->blocks - l->blocks % s->local_blocks, at;

    for (at = 0; at < l->blocks; at += s->local_blocks) set_window(s, l, kind, (dsc_stretch){at, at + s->local_blocks});
    for (at = first; at < end; at += s->local_blocks) set_global(s, l, kind, (dsc_stretch){at, at + s->global_blocks});
    if (end == l->blocks) return;
    at = DSC_MAX(DSC_MIN(end + first, l->blocks - s->global_blocks), 0); /* of a last window that is short */
    set_global(s, l, kind, (dsc_stretch){at, at + s->global_blocks});
}

static void set_variable(const dsc_sparsity *s, dsc_layout *l, int64_t kind)
{
    int64_t at = 0;

    for (int64_t r = 0; r < l->blocks; r++) set_random(s, l, kind, r, l->blocks); /* unidirectional too */
    for (int64_t i = 0; at < l->blocks; i++) {
        int64_t size = s->windows.of[DSC_MIN(i, s->windows.count - 1)];

        set_window(s, l, kind, (dsc_stretch){at, at + size});
        at += size;
    }
    for (int64_t i = 0; i < s->globals.count; i++) /* those past the end are none */
        if (s->globals.of[i] < l->blocks) set_global(s, l, kind, global_range(s, i));
}

static void set_bigbird(const dsc_sparsity *s, dsc_layout *l, int64_t kind)
{
    const dsc_stretch all = {0, l->blocks}, first = {0, s->global_blocks};

    for (int64_t r = 0; r < l->blocks; r++) set_random(s, l, kind, r, s->is_bidirectional ? l->blocks : r + 1);
    set_sliding(l, kind, s->window_blocks / 2, s->window_blocks / 2);
    dsc_layout_set(l, kind, first, all);
    dsc_layout_set(l, kind, all, first);
    if (!s->is_bidirectional) dsc_layout_clear_above(l, kind);
}

static void set_bslongformer(const dsc_sparsity *s, dsc_layout *l, int64_t kind)
{
    const dsc_stretch all = {0, l->blocks};

    set_sliding(l, kind, s->window_blocks / 2, s->window_blocks / 2);
    for (int64_t i = 0; i < s->globals.count; i++) {
        if (s->globals.of[i] >= l->blocks) continue;
        dsc_layout_set(l, kind, global_range(s, i), all);
        dsc_layout_set(l, kind, all, global_range(s, i));
    }
    if (!s->is_bidirectional) dsc_layout_clear_above(l, kind);
}

static void set_kind(const dsc_sparsity *s, dsc_layout *l, int64_t kind)
{
    const dsc_stretch all = {0, l->blocks};

    switch (s->mode) {
    case DSC_SPARSITY_FIXED: set_fixed(s, l, kind); break;
    case DSC_SPARSITY_VARIABLE: set_variable(s, l, kind); break;
    case DSC_SPARSITY_BIGBIRD: set_bigbird(s, l, kind); break;
    case DSC_SPARSITY_BSLONGFORMER: set_bslongformer(s, l, kind); break;
    case DSC_SPARSITY_LOCAL:
        set_sliding(l, kind, s->window_blocks / 2, s->is_bidirectional ? s->window_blocks / 2 : 0);
        break;
    default: dsc_layout_set(l, kind, all, all); break;
    }
}

/* ---- What cannot be */

/* DSC_EINVAL where `value` of a key is outside of [low, high], of which `what` is the reason. */
static dsc_status check(const char *key, int64_t value, int64_t low, int64_t high, const char *what)
{
    if (value >= low && value <= high) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s is %" PRId64 ", %s %" PRId64, key, value, what,
                    high == INT32_MAX ? low : high);
}

static dsc_status check_fixed(const dsc_sparsity *s)
{
    dsc_status status = DSC_OK;

    DSC_TRY(check("num_local_blocks", s->local_blocks, 1, INT32_MAX, "must be at least"));
    DSC_TRY(check("num_global_blocks", s->global_blocks, 1, INT32_MAX, "must be at least"));
    if (s->local_blocks % s->global_blocks != 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "num_local_blocks %" PRId64 " is no multiple of "
                         "num_global_blocks %" PRId64, s->local_blocks, s->global_blocks));
    if (s->global_patterns > 1 && !s->is_per_head)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "num_different_global_patterns is %" PRId64 ", and "
                         "different_layout_per_head is false", s->global_patterns));
    DSC_TRY(check("num_different_global_patterns", s->global_patterns, 1, s->local_blocks / s->global_blocks,
                  "with these windows it must be within 1 and"));
out:
    return status;
}

static dsc_status check_lists(const dsc_sparsity *s, int64_t blocks)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < s->windows.count; i++)
        DSC_TRY(check("an item of local_window_blocks", s->windows.of[i], 1, INT32_MAX, "must be at least"));
    DSC_TRY(check("the length of local_window_blocks", s->windows.count, 1, DSC_SPARSITY_MOST, "must be at least"));
    if (s->global_ends.count > 0 && s->global_ends.count != s->globals.count)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "global_block_indices has %" PRId64 " items, "
                         "global_block_end_indices %" PRId64, s->globals.count, s->global_ends.count));
    for (int64_t i = 0; i < s->globals.count; i++) {
        DSC_TRY(check("an item of global_block_indices", s->globals.of[i], 0, INT32_MAX, "must be at least"));
        if (s->global_ends.count > 0 && s->global_ends.of[i] <= s->globals.of[i])
            DSC_TRY(DSC_FAIL(DSC_EINVAL, "global blocks from %" PRId64 " to before %" PRId64
                             " are none", s->globals.of[i], s->global_ends.of[i]));
    }
    if (s->mode == DSC_SPARSITY_VARIABLE)
        DSC_TRY(check("num_random_blocks", s->random_blocks, 0, blocks, "a row has blocks within 0 and"));
out:
    return status;
}

static dsc_status check_bigbird(const dsc_sparsity *s, int64_t blocks)
{
    dsc_status status = DSC_OK;

    DSC_TRY(check("num_random_blocks", s->random_blocks, 0, blocks, "a row has blocks within 0 and"));
    DSC_TRY(check("num_global_blocks", s->global_blocks, 0, blocks, "a row has blocks within 0 and"));
    if (!s->is_bidirectional && s->random_blocks > 1)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "num_random_blocks is %" PRId64 ", and unidirectional the first "
                         "row has 1 block to choose from", s->random_blocks));
out:
    return status;
}

static dsc_status check_sparsity(const dsc_sparsity *s, int64_t heads, int64_t seq)
{
    bool slides = s->mode >= DSC_SPARSITY_BIGBIRD, has_lists = s->mode == DSC_SPARSITY_VARIABLE ||
                  s->mode == DSC_SPARSITY_BSLONGFORMER;
    dsc_status status = DSC_OK;

    DSC_TRY(check("the number of heads", heads, 1, 1 << 16, "must be within 1 and"));
    DSC_TRY(check("block", s->block, 1, 1 << 16, "must be within 1 and"));
    DSC_TRY(check("the sequence", seq, 1, INT64_C(1) << 30, "must be within 1 and"));
    if (seq % s->block != 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "a sequence of %" PRId64 " tokens does not divide into blocks "
                         "of %" PRId64, seq, s->block));
    if (s->mode == DSC_SPARSITY_FIXED || s->mode == DSC_SPARSITY_VARIABLE)
        if (!s->is_bidirectional && s->is_horizontal)
            DSC_TRY(DSC_FAIL(DSC_EINVAL, "horizontal_global_attention is true, and attention is "
                             "unidirectional: global blocks would see what comes later"));
    if (s->mode == DSC_SPARSITY_FIXED) DSC_TRY(check_fixed(s));
    if (has_lists) DSC_TRY(check_lists(s, seq / s->block));
    if (s->mode == DSC_SPARSITY_BIGBIRD) DSC_TRY(check_bigbird(s, seq / s->block));
    if (slides)
        DSC_TRY(check("num_sliding_window_blocks", s->window_blocks, 1, seq / s->block,
                      "a row has blocks within 1 and"));
out:
    return status;
}

/* ---- A layout */

dsc_status dsc_layout_create(const dsc_sparsity *s, int64_t heads, int64_t seq, dsc_layout **out)
{
    bool may_differ = s->mode == DSC_SPARSITY_FIXED || s->mode == DSC_SPARSITY_VARIABLE ||
                      s->mode == DSC_SPARSITY_BIGBIRD;
    dsc_status status = DSC_OK;
    dsc_layout *l = NULL;

    DSC_TRY(check_sparsity(s, heads, seq));
    DSC_TRY(dsc_layout_make_kinds(s->block, seq / s->block, heads, s->is_per_head && may_differ ? heads : 1, &l));
    for (int64_t kind = 0; kind < l->kinds; kind++) set_kind(s, l, kind);
    *out = l;
out:
    return status;
}
