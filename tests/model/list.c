/* The lists of present blocks that kernels read, against the bits that they are made of. */
#include "model/sparsity.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

enum { GUARD = 8, MOST_HEADS = 6 };

typedef struct lists {
    dsc_layout *layout;
    int64_t heads[2 * MOST_HEADS], count; /* listed, in this order */
    int64_t present;                      /* of these */
    int32_t *memory;                      /* with guards at both ends */
    int64_t elems;
    dsc_blocks blocks;
} lists;

/* Sparse, dense or empty, by head. */
static dsc_layout *random_layout(int64_t heads)
{
    static const int64_t sizes[] = {1, 2, 7, 63, 64, 65, 130};
    dsc_layout *l = NULL;

    CHECK_OK(dsc_layout_make(16, sizes[tap_random() % DSC_COUNT(sizes)], heads, &l));
    for (int64_t h = 0; l != NULL && h < heads; h++) {
        int64_t share = tap_random_between(0, 4);

        for (int64_t i = 0; i < l->blocks * l->blocks; i++)
            if (tap_random_between(0, 3) < share) dsc_layout_add(l, h, i / l->blocks, i % l->blocks);
    }
    return l;
}

/* Any heads, also twice, of a layout that differs by head or not; room for so many blocks more than there are. */
static bool make(lists *x, int64_t room)
{
    int64_t heads = tap_random_between(1, MOST_HEADS);
    dsc_shape shape = {.kernel = DSC_K_ATTENTION_FWD, .flags = DSC_HAS_LAYOUT};

    *x = (lists){.layout = random_layout(heads), .count = tap_random_between(1, 2 * MOST_HEADS)};
    if (x->layout == NULL) return false;
    for (int64_t i = 0; i < x->count; i++) {
        x->heads[i] = tap_random_between(0, heads - 1);
        x->present += dsc_layout_count(x->layout, x->heads[i]);
    }
    shape.d[0] = shape.d[3] = shape.d[4] = 1;
    shape.d[1] = 16 * x->layout->blocks;
    shape.d[2] = x->count;
    shape.d[5] = DSC_MAX(x->present + room, 1);
    shape.d[6] = 16;
    x->elems = dsc_operand_bytes(&shape, 3) / (int64_t)sizeof *x->memory;
    x->memory = malloc((size_t)(x->elems + 2 * GUARD) * sizeof *x->memory);
    memset(x->memory, 0xa5, (size_t)(x->elems + 2 * GUARD) * sizeof *x->memory);
    x->blocks = dsc_blocks_of(&shape, x->memory + GUARD);
    return CHECK_OK(dsc_layout_list(x->layout, x->heads, &x->blocks));
}

static void fini(lists *x)
{
    dsc_layout_destroy(x->layout);
    free(x->memory);
}

static void for_random_lists(void (*check)(const lists *x))
{
    for (int draw = 0; draw < 60; draw++) {
        lists x;

        if (!make(&x, draw % 2 ? tap_random_between(1, 300) : 0)) return;
        check(&x);
        fini(&x);
    }
}

/* Lists of one direction: each of the present ones, ascending, and nothing else. */
static void check_direction(const lists *x, const int32_t *start, const int32_t *items, bool by_row)
{
    const int64_t n = x->layout->blocks;
    int64_t at = 0, wrong = 0;

    CHECK(start[0] == 0, "begins at %d", start[0]);
    for (int64_t list = 0; list < x->count * n; list++) {
        wrong += start[list] != at;
        for (int64_t other = 0; other < n; other++) {
            int64_t row = by_row ? list % n : other, column = by_row ? other : list % n;

            if (dsc_layout_has(x->layout, x->heads[list / n], row, column)) wrong += items[at++] != other;
        }
    }
    CHECK(start[x->count * n] == at && at == x->present, "%d blocks end at %d", (int)x->present, start[x->count * n]);
    CHECK(wrong == 0, "%lld starts or items are wrong", (long long)wrong);
    for (; at < x->blocks.present; at++) wrong += items[at] != 0;
    CHECK(wrong == 0, "%lld items behind the last are not zero", (long long)wrong);
}

static void rows_list_their_columns(const lists *x)
{
    check_direction(x, x->blocks.row_start, x->blocks.columns, true);
}

static void columns_list_their_rows(const lists *x)
{
    check_direction(x, x->blocks.column_start, x->blocks.rows, false);
}

static void order_is_by_length(const lists *x)
{
    const int64_t count = x->count * x->layout->blocks;
    int *seen = calloc((size_t)count, sizeof *seen);
    int64_t wrong = 0;

    for (int64_t i = 0; i < count; i++) {
        const int32_t *s = x->blocks.row_start, list = x->blocks.order[i];

        if (!CHECK(list >= 0 && list < count, "list %d of %lld", list, (long long)count)) break;
        seen[list]++;
        if (i == 0) continue;
        int32_t before = x->blocks.order[i - 1], drop = s[before + 1] - s[before] - (s[list + 1] - s[list]);
        wrong += drop < 0 || (drop == 0 && before > list);
    }
    for (int64_t i = 0; i < count; i++) wrong += seen[i] != 1;
    CHECK(wrong == 0, "%lld lists stand where they should not", (long long)wrong);
    free(seen);
}

static void guards_stand(const lists *x)
{
    for (int i = 0; i < GUARD; i++)
        CHECK(x->memory[i] == (int32_t)0xa5a5a5a5 && x->memory[GUARD + x->elems + i] == (int32_t)0xa5a5a5a5,
              "%d of %lld elements", i, (long long)x->elems);
}

static void rows_agree(void) { for_random_lists(rows_list_their_columns); }
static void columns_agree(void) { for_random_lists(columns_list_their_rows); }
static void order_agrees(void) { for_random_lists(order_is_by_length); }
static void room_is_kept(void) { for_random_lists(guards_stand); }

/* Patterns that are alike in all heads are stored once. */
static void heads_that_are_alike_have_equal_lists(void)
{
    int64_t heads[] = {3, 0}, present, elems;
    dsc_sparsity s;
    dsc_layout *l = NULL;
    dsc_blocks b;

    dsc_sparsity_default(DSC_SPARSITY_BSLONGFORMER, &s);
    if (!CHECK_OK(dsc_layout_create(&s, 4, 320, &l))) return;
    CHECK(l->kinds == 1, "%d layouts", (int)l->kinds);
    present = dsc_layout_count(l, 3);
    elems = dsc_blocks_elems(20, 2, 2 * present);
    b = (dsc_blocks){16, 20, 2, 2 * present, calloc((size_t)elems, 4), NULL, NULL, NULL, NULL};
    b.columns = b.row_start + 41;
    b.column_start = b.columns + 2 * present;
    b.rows = b.column_start + 41;
    b.order = b.rows + 2 * present;
    if (CHECK_OK(dsc_layout_list(l, heads, &b)))
        CHECK(b.row_start[20] == present && memcmp(b.columns, b.columns + present, (size_t)present * 4) == 0 &&
                  memcmp(b.rows, b.rows + present, (size_t)present * 4) == 0, "%d blocks", b.row_start[20]);
    free(b.row_start);
    dsc_layout_destroy(l);
}

static const tap_case cases[] = {
    {"rows list the columns of their present blocks, ascending, of any heads in any order", rows_agree},
    {"columns list the rows of theirs", columns_agree},
    {"lists of rows are ordered longest first, then as they come", order_agrees},
    {"lists fill their operand, and nothing beyond", room_is_kept},
    {"heads that share a layout have equal lists", heads_that_are_alike_have_equal_lists},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
