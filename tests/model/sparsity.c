/* Layouts of sparse attention beyond what the golden files say. */
#include "model/sparsity.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dsc_layout *make(const dsc_sparsity *s, int64_t heads, int64_t seq)
{
    dsc_layout *l = NULL;

    CHECK_OK(dsc_layout_create(s, heads, seq, &l));
    return l;
}

static dsc_sparsity random_sparsity(void)
{
    dsc_sparsity s;

    dsc_sparsity_default((dsc_sparsity_mode)tap_random_between(0, DSC_SPARSITY_MODES - 1), &s);
    s.is_per_head = tap_random_between(0, 1);
    s.random_blocks = s.mode == DSC_SPARSITY_VARIABLE ? tap_random_between(0, 3) : tap_random_between(0, 1);
    s.is_bidirectional = tap_random_between(0, 1);
    s.seed = tap_random();
    return s;
}

/* Any sequence of at least 8 blocks */
static int64_t random_seq(void) { return 16 * tap_random_between(8, 150); }

static bool are_equal(const dsc_layout *x, const dsc_layout *y)
{
    for (int64_t h = 0; h < x->heads; h++)
        for (int64_t r = 0; r < x->blocks; r++)
            for (int64_t c = 0; c < x->blocks; c++)
                if (dsc_layout_has(x, h, r, c) != dsc_layout_has(y, h, r, c)) return false;
    return x->blocks == y->blocks && x->heads == y->heads && x->block == y->block;
}

static void causal_ones_look_at_nothing_later(void)
{
    for (int draw = 0; draw < 40; draw++) {
        dsc_sparsity s = random_sparsity();
        int64_t heads = tap_random_between(1, 3), seq = random_seq();
        dsc_layout *whole = make(&s, heads, seq), *l = make(&s, heads, seq);
        bool holds = true;

        if (whole == NULL || l == NULL) return;
        dsc_layout_make_causal(l);
        for (int64_t h = 0; h < heads; h++)
            for (int64_t r = 0; r < l->blocks; r++)
                for (int64_t c = 0; c < l->blocks; c++)
                    holds &= dsc_layout_has(l, h, r, c) == (c <= r && dsc_layout_has(whole, h, r, c));
        CHECK(holds, "%s over %lld tokens", DSC_SPARSITY_NAMES[s.mode], (long long)seq);
        dsc_layout_destroy(whole);
        dsc_layout_destroy(l);
    }
}

static void json_reads_back(void)
{
    for (int draw = 0; draw < 10; draw++) {
        dsc_sparsity s = random_sparsity();
        dsc_layout *l = make(&s, tap_random_between(1, 3), 16 * tap_random_between(8, 40)), *back = NULL;
        json_t *json = l != NULL ? dsc_layout_json(l) : NULL;

        if (l == NULL || !CHECK_OK(dsc_layout_of_json("x.json", json, &back))) return;
        CHECK(are_equal(l, back), "%s is another layout", DSC_SPARSITY_NAMES[s.mode]);
        json_decref(json);
        dsc_layout_destroy(l);
        dsc_layout_destroy(back);
    }
}

/* The same seed draws the same, another one not; heads of their own differ. */
static void random_blocks_depend_on_the_seed(void)
{
    dsc_sparsity s;
    dsc_layout *a, *b, *c;
    int64_t different = 0;

    dsc_sparsity_default(DSC_SPARSITY_BIGBIRD, &s);
    s.is_per_head = true;
    s.seed = 1;
    a = make(&s, 2, 1024);
    b = make(&s, 2, 1024);
    s.seed = 2;
    c = make(&s, 2, 1024);
    if (a == NULL || b == NULL || c == NULL) return;
    CHECK(are_equal(a, b), "one seed, two layouts");
    CHECK(!are_equal(a, c), "two seeds, one layout");
    for (int64_t r = 0; r < a->blocks; r++)
        for (int64_t col = 0; col < a->blocks; col++)
            different += dsc_layout_has(a, 0, r, col) != dsc_layout_has(a, 1, r, col);
    CHECK(different > a->blocks, "heads differ in %lld blocks", (long long)different);
    dsc_layout_destroy(a);
    dsc_layout_destroy(b);
    dsc_layout_destroy(c);
}

static void bad_files_are_refused(void)
{
    static const struct { const char *text, *words; } rows[] = {
        {"[1]", "expected an object"},
        {"{\"block\": 16}", "list of heads"},
        {"{\"block\": 0, \"layout\": [[[1]]]}", "block"},
        {"{\"layout\": [[[1, 0]]]}", "2 columns, and there are 1 rows"},
        {"{\"layout\": [[[1]], [[1], [0]]]}", "head 1 has 2 rows, head 0 has 1"},
        {"{\"layout\": [[[1, 2], [1, 1]]]}", "row 0, column 1 of head 0"},
        {"{\"layout\": [[[1]]], \"blok\": 1}", "did you mean \"block\""},
        {"{\"layout\": {}}", "list of heads"},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        json_t *json = json_loads(rows[i].text, 0, NULL);
        dsc_layout *l = NULL;

        CHECK(json != NULL && dsc_layout_of_json("x.json", json, &l) == DSC_EINVAL, "%s is taken", rows[i].text);
        CHECK(strstr(dsc_message(), rows[i].words) != NULL && strstr(dsc_message(), "x.json") != NULL,
              "no \"%s\" in \"%s\"", rows[i].words, dsc_message());
        json_decref(json);
    }
}

static void sections_have_rules_of_their_own(void)
{
    static const struct { const char *text; int mode; bool is_bidirectional; int64_t random_blocks; } rows[] = {
        {"{}", DSC_SPARSITY_FIXED, true, 0},
        {"{\"mode\": \"bigbird\"}", DSC_SPARSITY_BIGBIRD, true, 0},
        {"{\"mode\": \"bigbird\", \"num_random_blocks\": 2}", DSC_SPARSITY_BIGBIRD, true, 2},
        {"{\"mode\": \"bslongformer\", \"attention\": \"unidirectional\"}", DSC_SPARSITY_BSLONGFORMER, true, 0},
        {"{\"mode\": \"fixed\", \"attention\": \"unidirectional\"}", DSC_SPARSITY_FIXED, false, 0},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        json_t *json = json_loads(rows[i].text, 0, NULL);
        dsc_sparsity s;

        if (CHECK_OK(dsc_sparsity_section("c.json", json, &s)))
            CHECK((int)s.mode == rows[i].mode && s.is_bidirectional == rows[i].is_bidirectional &&
                      s.random_blocks == rows[i].random_blocks, "%s", rows[i].text);
        json_decref(json);
    }
}

static const tap_case cases[] = {
    {"made causal, a layout keeps what is not above the diagonal", causal_ones_look_at_nothing_later},
    {"a layout's JSON reads back as the same layout", json_reads_back},
    {"random blocks are a function of seed, head and row", random_blocks_depend_on_the_seed},
    {"files that hold no layout are refused by what is wrong", bad_files_are_refused},
    {"a configuration's section has defaults of its own", sections_have_rules_of_their_own},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
