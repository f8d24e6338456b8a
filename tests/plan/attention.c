/* Ways to attend in plans: which blocks, on which tensor rank. */
#include "tests/plan/make.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Heads */

static dsc_plan *random_plan(int64_t tp)
{
    int64_t heads = tp * tap_random_between(1, 5);
    dsc_strategy s = make_strategy(tp, 1, 1);
    dsc_layout *layout = make_random_layout(16, tap_random_between(1, 9), heads);
    dsc_attention attention = attend_by(layout);
    char model[120];
    dsc_plan *plan;

    if (layout == NULL) return NULL;
    snprintf(model, sizeof model, "layers=2,hidden=%d,heads=%d,vocab=64,seq=%d", 4 * (int)heads, (int)heads,
             16 * (int)layout->blocks);
    plan = make_plan_with(model, &s, &attention);
    dsc_layout_destroy(layout);
    return plan;
}

/* Present blocks of the tensor rank that has most, were heads dealt like this: NULL is in order. */
static int64_t most(const dsc_plan *plan, const int64_t *heads)
{
    int64_t each = plan->model.heads / plan->config.strategy.tp, largest = 1;

    for (int64_t first = 0; first < plan->model.heads; first += each) {
        int64_t sum = 0;

        for (int64_t i = first; i < first + each; i++)
            sum += dsc_layout_count(plan->attention[0].layout, heads == NULL ? i : heads[i]);
        largest = DSC_MAX(largest, sum);
    }
    return largest;
}

static void check_heads(const dsc_plan *plan)
{
    const dsc_layer_attention *a = &plan->attention[0];
    int64_t heads = plan->model.heads, tp = plan->config.strategy.tp, each = heads / tp, wrong = 0;
    int *seen = calloc((size_t)heads, sizeof *seen);

    for (int64_t r = 0; r < tp; r++)
        for (int64_t i = 0; i < each; i++) {
            int64_t head = dsc_plan_head(plan, a, r, i);

            if (!CHECK(head >= 0 && head < heads, "head %d of %d", (int)head, (int)heads)) continue;
            seen[head]++;
            wrong += i > 0 && head <= dsc_plan_head(plan, a, r, i - 1);
            wrong += a->heads == NULL && head != r * each + i;
        }
    for (int64_t h = 0; h < heads; h++) wrong += seen[h] != 1;
    CHECK(wrong == 0, "%d heads on %d ranks: %d are lost, twice or out of order", (int)heads, (int)tp, (int)wrong);
    CHECK(a->present == most(plan, a->heads), "present is %d, the largest rank has %d", (int)a->present,
          (int)most(plan, a->heads));
    CHECK(a->heads == NULL || a->present < most(plan, NULL), "dealt, a rank has %d blocks, in order %d",
          (int)a->present, (int)most(plan, NULL));
    free(seen);
}

static void heads_are_dealt(void)
{
    int64_t dealt = 0;

    for (int draw = 0; draw < 120; draw++) {
        int64_t tp = INT64_C(1) << draw % 3;
        dsc_plan *plan = random_plan(tp);

        if (plan == NULL) return;
        check_heads(plan);
        dealt += plan->attention[0].heads != NULL;
        CHECK(tp > 1 || plan->attention[0].heads == NULL, "one rank, and heads are dealt");
        dsc_plan_destroy(plan);
    }
    CHECK(dealt > 20, "of 120 plans %d deal heads", (int)dealt);
}

/* Head h has counts[h] blocks in its first column. */
static dsc_plan *plan_of_counts(int64_t tp, int64_t heads, const int64_t *counts)
{
    dsc_strategy s = make_strategy(tp, 1, 1);
    dsc_layout *layout = NULL;
    dsc_attention attention;
    char model[120];
    dsc_plan *plan;

    CHECK_OK(dsc_layout_make(16, 10, heads, &layout));
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < counts[h]; i++) dsc_layout_add(layout, h, i, 0);
    attention = attend_by(layout);
    snprintf(model, sizeof model, "layers=2,hidden=%d,heads=%d,vocab=64,seq=160", 4 * (int)heads, (int)heads);
    plan = make_plan_with(model, &s, &attention);
    dsc_layout_destroy(layout);
    return plan;
}

/* By hand. Also rows where nothing is gained, which stay in order. */
static void known_heads_are_dealt_as_expected(void)
{
    static const struct { int64_t tp, heads, counts[8]; bool is_dealt; int64_t dealt[8], present; } rows[] = {
        {2, 4, {9, 8, 1, 2}, true, {0, 2, 1, 3}, 10},
        {2, 4, {5, 5, 5, 5}, false, {0}, 10},
        {2, 4, {9, 1, 8, 2}, false, {0}, 10},
        {2, 4, {10, 0, 0, 0}, false, {0}, 10},
        {2, 4, {0, 0, 0, 0}, false, {0}, 1},
        {4, 4, {9, 1, 8, 2}, false, {0}, 9},
        {4, 8, {8, 7, 6, 5, 4, 3, 2, 1}, true, {0, 7, 1, 6, 2, 5, 3, 4}, 9},
        {1, 4, {9, 8, 1, 2}, false, {0}, 20},
        {2, 4, {10, 4, 3, 3}, true, {0, 3, 1, 2}, 13},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_plan *plan = plan_of_counts(rows[i].tp, rows[i].heads, rows[i].counts);

        if (plan == NULL) return;
        check_heads(plan);
        CHECK((plan->attention[0].heads != NULL) == rows[i].is_dealt, "row %d is %sdealt", (int)i,
              rows[i].is_dealt ? "not " : "");
        CHECK(plan->attention[0].present == rows[i].present, "row %d: %d blocks", (int)i,
              (int)plan->attention[0].present);
        for (int64_t h = 0; h < rows[i].heads && rows[i].is_dealt && plan->attention[0].heads != NULL; h++)
            CHECK(plan->attention[0].heads[h] == rows[i].dealt[h], "row %d, place %d: head %d", (int)i, (int)h,
                  (int)plan->attention[0].heads[h]);
        dsc_plan_destroy(plan);
    }
}

/* Where an element of a tensor belongs: head by head in q, k and v, and in the rows behind attention. */
static int64_t head_of(const dsc_plan *plan, const dsc_tensor *tensor, int64_t row, int64_t column)
{
    int64_t width = plan->model.hidden / plan->model.heads;

    return tensor->role == DSC_ROLE_PROJ_W ? row / width : column / width % plan->model.heads;
}

/* Number i of a rank's heads is number i in its parts of q, k, v and of the product behind: what kernels count on. */
static void check_places(const dsc_plan *plan, const dsc_shard *shard)
{
    const dsc_tensor *tensor = &plan->tensors[shard->tensor];
    int64_t tp = plan->config.strategy.tp, width = plan->model.hidden / plan->model.heads, wrong = 0, held = 0;
    int64_t each = plan->model.heads / tp;

    for (int64_t r = 0; r < tp; r++) {
        dsc_block b;

        for (int64_t k = 0; dsc_shard_block(plan, shard, r, k, &b); k++)
            for (int64_t i = 0; i < b.rows * b.columns; i++) {
                int64_t row = i / b.columns, column = i % b.columns, head;
                int64_t at = tensor->role == DSC_ROLE_PROJ_W ? b.shard_row + row : b.shard_column + column;

                head = head_of(plan, tensor, b.row + row, b.column + column);
                wrong += head != dsc_plan_head(plan, &plan->attention[0], r, at / width % each);
                held++;
            }
    }
    CHECK(wrong == 0 && held > 0, "%s: of %lld elements %lld are another head's", tensor->name, (long long)held,
          (long long)wrong);
}

static void heads_stand_where_they_are_dealt(void)
{
    for (int draw = 0; draw < 60; draw++) {
        dsc_plan *plan = random_plan(INT64_C(1) << draw % 3);
        int64_t checked = 0;

        if (plan == NULL) return;
        for (int64_t k = 0; k < plan->stages[0].shard_count; k++) {
            const dsc_tensor *tensor = &plan->tensors[plan->stages[0].shards[k].tensor];

            if (tensor->cut != DSC_CUT_QKV && tensor->role != DSC_ROLE_PROJ_W) continue;
            check_places(plan, &plan->stages[0].shards[k]);
            checked++;
        }
        CHECK(checked == 2 * 3, "%d tensors have heads", (int)checked);
        dsc_plan_destroy(plan);
    }
}

/* ---- Layouts */

#define MODEL "layers=4,hidden=16,heads=4,vocab=64,seq=256"

/* As tools make it, from words and a section. NULL, with the status, when it is refused. */
static dsc_plan *plan_of_words(const char *model, const char *words, const char *section, bool is_reference,
                               dsc_status *status)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_cluster *cluster = NULL;
    dsc_plan *plan = NULL;
    dsc_model m;

    config.strategy = make_strategy(2, 1, 1);
    config.strategy.reference_layout = is_reference;
    strcpy(config.strategy.attention, words);
    strcpy(config.sparse_attention, section);
    CHECK_OK(dsc_plan_load_cluster("local", &config, &cluster));
    CHECK_OK(dsc_model_load(model, &m));
    *status = dsc_plan_create(&m, cluster, &config, &plan);
    dsc_cluster_destroy(cluster);
    return plan;
}

/* The whole of it, or what a causal model sees. */
static void check_layout(const dsc_layer_attention *a, const dsc_layout *whole, bool is_causal)
{
    int64_t wrong = 0;

    for (int64_t h = 0; h < 4; h++)
        for (int64_t r = 0; r < whole->blocks; r++)
            for (int64_t c = 0; c < whole->blocks; c++)
                wrong += dsc_layout_has(a->layout, h, r, c) !=
                         (dsc_layout_has(whole, h, r, c) && (!is_causal || c <= r));
    CHECK(wrong == 0 && a->is_causal == is_causal, "%lld blocks are wrong, causal is %d", (long long)wrong,
          a->is_causal);
}

static void reference_layouts_stay_as_they_are(void)
{
    for (int mode = 0; mode < DSC_SPARSITY_MODES; mode++)
        for (int is_reference = 0; is_reference < 2; is_reference++) {
            char section[64];
            dsc_layout *whole = NULL;
            dsc_sparsity sparsity;
            dsc_status status;
            dsc_plan *plan;
            json_t *json;

            snprintf(section, sizeof section, "{\"mode\": \"%s\"}", DSC_SPARSITY_NAMES[mode]);
            json = json_loads(section, 0, NULL);
            CHECK_OK(dsc_sparsity_section("x", json, &sparsity));
            json_decref(json);
            CHECK_OK(dsc_layout_create(&sparsity, 4, 256, &whole));
            plan = plan_of_words(MODEL, "", section, is_reference, &status);
            if (CHECK(plan != NULL, "%s: %s", section, dsc_message()))
                check_layout(&plan->attention[0], whole, !is_reference);
            dsc_plan_destroy(plan);
            dsc_layout_destroy(whole);
        }
}

static void layers_take_their_ways(void)
{
    dsc_status status;
    dsc_plan *plan = plan_of_words(MODEL, "local,1=dense,2-3=bigbird,3=dense-unfused", "", false, &status);

    if (!CHECK(plan != NULL, "%s", dsc_message())) return;
    CHECK(plan->attention_count == 4, "%d ways", (int)plan->attention_count);
    for (int layer = 0; layer < 4; layer++)
        CHECK(dsc_plan_attention(plan, layer) == &plan->attention[layer], "layer %d takes %d", layer,
              plan->attention_of[layer]);
    CHECK(plan->attention[0].layout != NULL && plan->attention[1].layout == NULL && plan->attention[2].layout != NULL &&
              plan->attention[3].layout == NULL, "layouts of others");
    CHECK(plan->attention[1].is_causal && plan->attention[3].is_causal, "dense layers see what comes later");
    dsc_plan_destroy(plan);
}

static void what_no_layer_takes_is_not_made(void)
{
    dsc_status status;
    dsc_plan *plan = plan_of_words(MODEL, "sparse,0-3=dense", "{\"block\": 7}", false, &status);

    if (CHECK(plan != NULL, "%s", dsc_message()))
        CHECK(plan->attention[0].layout == NULL, "a layout that nobody takes");
    dsc_plan_destroy(plan);
}

static void bad_ways_are_refused(void)
{
    static const struct { const char *words, *section; int status; const char *message[2]; } rows[] = {
        {"sparse", "{\"block\": 8}", DSC_ENOTSUP, {"--sparse-attention: blocks of 8 ", "multiples of 16 up to 128"}},
        {"sparse", "{\"block\": 256}", DSC_ENOTSUP, {"blocks of 256 ", "multiples of 16 up to 128"}},
        {"dense,3=sparse", "{\"block\": 1}", DSC_ENOTSUP, {"blocks of 1 ", "multiples of 16 up to 128"}},
        {"sparse", "{\"block\": 48}", DSC_EINVAL, {"256 tokens", "blocks of 48"}},
        {"sparse", "{\"block\": 0}", DSC_EINVAL, {"block is 0", "within 1 and"}},
        {"dense,4=local", "", DSC_EINVAL, {"layer 4", "the model has 4"}},
        {"dense,0-9=local", "", DSC_EINVAL, {"layer 9", "the model has 4"}},
        {"sparse", "{\"mode\": \"bigbird\", \"num_global_blocks\": 17}", DSC_EINVAL, {"num_global_blocks is 17", "16"}},
        {"absent.json", "", DSC_EINVAL, {"absent.json", ""}},
        {"mine.h5", "", DSC_ENOTSUP, {"mine.h5", ""}},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_status status;
        dsc_plan *plan = plan_of_words(MODEL, rows[i].words, rows[i].section, false, &status);

        CHECK(plan == NULL && (int)status == rows[i].status, "%s %s: status %d", rows[i].words, rows[i].section,
              status);
        for (int w = 0; w < 2; w++)
            CHECK(strstr(dsc_message(), rows[i].message[w]) != NULL, "no \"%s\" in \"%s\"", rows[i].message[w],
                  dsc_message());
        dsc_plan_destroy(plan);
    }
}

static void kernels_blocks_are_taken(void)
{
    for (int side = 16; side <= 128; side += 16) {
        char model[120], section[64];
        dsc_status status;
        dsc_plan *plan;

        snprintf(model, sizeof model, "layers=1,hidden=16,heads=4,vocab=64,seq=%d", 3 * side);
        snprintf(section, sizeof section, "{\"mode\": \"bslongformer\", \"block\": %d}", side);
        plan = plan_of_words(model, "", section, false, &status);
        CHECK(plan != NULL && plan->attention[0].layout->block == side, "%s: %s", section, dsc_message());
        dsc_plan_destroy(plan);
    }
}

/* ---- Hashes */

/* changed: a block that is added to those of the first column; none when its head is below 0. */
static void hash_with(int64_t tp, int64_t head, int64_t row, int64_t column, bool is_reference, char out[33])
{
    dsc_strategy s = make_strategy(tp, 1, 1);
    dsc_layout *layout = NULL;
    dsc_attention attention;
    dsc_plan *plan;

    s.reference_layout = is_reference;
    strcpy(s.attention, "mine.json");
    CHECK_OK(dsc_layout_make(32, 8, 4, &layout));
    for (int64_t h = 0; h < 4; h++)
        for (int64_t r = 0; r < 8; r++) dsc_layout_add(layout, h, r, 0);
    if (head >= 0) dsc_layout_add(layout, head, row, column);
    attention = attend_by(layout);
    plan = make_plan_with(MODEL, &s, &attention);
    if (plan != NULL) strcpy(out, plan->hash);
    dsc_plan_destroy(plan);
    dsc_layout_destroy(layout);
}

static void hashes_tell_blocks_apart(void)
{
    char first[33] = "a", same[33] = "b", other[33];

    hash_with(2, -1, 0, 0, false, first);
    hash_with(2, -1, 0, 0, false, same);
    CHECK(dsc_equal(first, same), "one layout, two hashes");
    for (int64_t head = 0; head < 4; head++) {
        hash_with(2, head, 7, 3, false, other);
        CHECK(!dsc_equal(first, other), "a block of head %d more, one hash", (int)head);
    }
    hash_with(2, 0, 3, 7, false, other);
    CHECK(dsc_equal(first, other), "a block that a causal model never sees is in the hash");
    hash_with(2, -1, 0, 0, true, same);
    CHECK(!dsc_equal(first, same), "causal or not, one hash");
    hash_with(2, 0, 3, 7, true, other);
    CHECK(!dsc_equal(same, other), "a block of the reference's more, one hash");
}

static void hashes_tell_ways_apart(void)
{
    static const char *const words[] = {"dense", "dense-unfused", "local", "dense,1=local", "dense,2=local",
                                        "dense,1-2=local", "local,0=dense"};
    char hashes[DSC_COUNT(words)][33];

    for (int i = 0; i < DSC_COUNT(words); i++) {
        dsc_status status;
        dsc_plan *plan = plan_of_words(MODEL, words[i], "", false, &status);

        if (!CHECK(plan != NULL, "%s", dsc_message())) return;
        strcpy(hashes[i], plan->hash);
        for (int j = 0; j < i; j++)
            CHECK(!dsc_equal(hashes[i], hashes[j]), "%s and %s have one hash", words[i], words[j]);
        dsc_plan_destroy(plan);
    }
}

static const tap_case cases[] = {
    {"heads are dealt, as many to each rank, and the largest has no more blocks than in order", heads_are_dealt},
    {"known heads are dealt as expected, or stay in order", known_heads_are_dealt_as_expected},
    {"a rank's heads stand in its shards in the order in which they are listed", heads_stand_where_they_are_dealt},
    {"the reference's layouts stay as they are, others lose what is never seen", reference_layouts_stay_as_they_are},
    {"layers take their ways", layers_take_their_ways},
    {"a way that no layer takes is not made", what_no_layer_takes_is_not_made},
    {"ways that cannot be are refused with both numbers", bad_ways_are_refused},
    {"blocks of 16, 32, ..., 128 tokens are taken", kernels_blocks_are_taken},
    {"hashes tell layouts apart, to a block", hashes_tell_blocks_apart},
    {"hashes tell layers' ways apart", hashes_tell_ways_apart},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
