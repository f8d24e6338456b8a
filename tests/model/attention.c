/* How layers attend, as users write it: words, sections, files. */
#include "base/log.h"
#include "model/attention.h"
#include "tests/store/scratch.h"
#include "tests/tap.h"
#include <string.h>

static dsc_layout *given; /* what the reader of HDF5 reads */

static dsc_status read_given(const char *path, dsc_layout **out)
{
    CHECK(strstr(path, ".h5") != NULL || strstr(path, ".hdf5") != NULL, "%s is no HDF5", path);
    CHECK_OK(dsc_layout_make(32, 4, 2, out));
    given = *out;
    return DSC_OK;
}

static dsc_attention *read_words(const char *words, const char *section)
{
    dsc_attention *a = NULL;

    CHECK_OK(dsc_attention_create(words, "c.json: sparse_attention", section, read_given, &a));
    return a;
}

/* ---- Words */

static void words_are_kinds(void)
{
    static const struct { const char *word; int kind, mode; } rows[] = {
        {"dense", DSC_ATTENTION_DENSE, 0},
        {"dense-unfused", DSC_ATTENTION_UNFUSED, 0},
        {"fixed", DSC_ATTENTION_SPARSE, DSC_SPARSITY_FIXED},
        {"variable", DSC_ATTENTION_SPARSE, DSC_SPARSITY_VARIABLE},
        {"bigbird", DSC_ATTENTION_SPARSE, DSC_SPARSITY_BIGBIRD},
        {"bslongformer", DSC_ATTENTION_SPARSE, DSC_SPARSITY_BSLONGFORMER},
        {"local", DSC_ATTENTION_SPARSE, DSC_SPARSITY_LOCAL},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_attention *a = read_words(rows[i].word, "");
        dsc_sparsity defaults;

        if (a == NULL) return;
        dsc_sparsity_default((dsc_sparsity_mode)rows[i].mode, &defaults);
        CHECK(a->count == 1 && (int)a->patterns[0].kind == rows[i].kind, "%s: %d patterns, kind %d", rows[i].word,
              a->count, a->patterns[0].kind);
        CHECK(dsc_equal(a->patterns[0].word, rows[i].word), "%s became %s", rows[i].word, a->patterns[0].word);
        if (rows[i].kind == DSC_ATTENTION_SPARSE)
            CHECK((int)a->patterns[0].sparsity.mode == rows[i].mode &&
                      a->patterns[0].sparsity.random_blocks == defaults.random_blocks &&
                      a->patterns[0].sparsity.is_bidirectional == defaults.is_bidirectional,
                  "%s has other parameters than its class", rows[i].word);
        dsc_attention_destroy(a);
    }
}

static void no_word_is_the_section_or_dense(void)
{
    dsc_attention *a = read_words("", ""), *b = read_words("", "{\"mode\": \"bigbird\"}"), *c;

    c = read_words("dense", "{\"mode\": \"bigbird\"}");
    if (a == NULL || b == NULL || c == NULL) return;
    CHECK(a->patterns[0].kind == DSC_ATTENTION_DENSE, "nothing said is kind %d", a->patterns[0].kind);
    CHECK(b->patterns[0].kind == DSC_ATTENTION_SPARSE && b->patterns[0].sparsity.mode == DSC_SPARSITY_BIGBIRD,
          "a section alone is kind %d, mode %d", b->patterns[0].kind, b->patterns[0].sparsity.mode);
    CHECK(c->patterns[0].kind == DSC_ATTENTION_DENSE, "the section goes before the word");
    dsc_attention_destroy(a);
    dsc_attention_destroy(b);
    dsc_attention_destroy(c);
}

static int64_t warnings;

static void count_warning(dsc_level level, const char *line, void *context)
{
    warnings += level == DSC_WARNING && strstr(line, context) != NULL;
}

static void a_section_that_no_word_asks_for_is_a_warning(void)
{
    static const struct { const char *words, *section; int expected; } rows[] = {
        {"", "{}", 0},            {"sparse", "{}", 0},      {"dense,3=sparse,4=local", "{}", 0},
        {"sparse,3=local", "{}", 0}, {"dense", "{}", 1},    {"dense,3=local", "{}", 1},
        {"mysparse.h5", "{}", 1}, {"sparse.h5", "{}", 1},   {"dense", "", 0},
    };

    dsc_log_to(count_warning, (void *)"c.json: sparse_attention has no effect: --attention ", DSC_NOTE);
    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_attention *a;

        warnings = 0;
        a = read_words(rows[i].words, rows[i].section);
        CHECK(warnings == rows[i].expected, "\"%s\" %s: %d warnings", rows[i].words, rows[i].section, (int)warnings);
        dsc_attention_destroy(a);
    }
    dsc_log_to(NULL, NULL, DSC_NOTE);
}

static void later_items_go_before_earlier(void)
{
    static const int expected[] = {1, 0, 0, 0, 2, 3, 2, 2, 0, 0, 4, 4, 0};
    dsc_attention *a = read_words("bslongformer,0=dense,4-7=local,5=dense-unfused,10-11=sparse", "{\"block\": 32}");

    if (a == NULL) return;
    for (int layer = 0; layer < DSC_COUNT(expected); layer++)
        CHECK(dsc_attention_of(a, layer) == expected[layer], "layer %d takes item %d, not %d", layer,
              dsc_attention_of(a, layer), expected[layer]);
    CHECK(a->patterns[4].sparsity.block == 32, "block %d", (int)a->patterns[4].sparsity.block);
    dsc_attention_destroy(a);
}

/* Random ranges, against a table that every item writes over. */
static void items_are_painted_in_order(void)
{
    enum { LAYERS = 40 };

    for (int draw = 0; draw < 100; draw++) {
        int expected[LAYERS] = {0}, items = (int)tap_random_between(1, DSC_PATTERNS);
        dsc_text words = {0};
        dsc_attention *a;

        dsc_text_add(&words, "dense");
        for (int i = 1; i < items; i++) {
            int first = (int)tap_random_between(0, LAYERS - 1), last = (int)tap_random_between(first, LAYERS - 1);

            if (tap_random_between(0, 1)) last = first;
            if (first == last) dsc_text_add(&words, ",%d=local", first);
            else dsc_text_add(&words, ",%d-%d=local", first, last);
            for (int layer = first; layer <= last; layer++) expected[layer] = i;
        }
        if ((a = read_words(dsc_text_str(&words), "")) == NULL) return;
        CHECK(a->count == items, "%s: %d items", dsc_text_str(&words), a->count);
        for (int layer = 0; layer < LAYERS; layer++)
            if (!CHECK(dsc_attention_of(a, layer) == expected[layer], "%s: layer %d takes item %d, not %d",
                       dsc_text_str(&words), layer, dsc_attention_of(a, layer), expected[layer]))
                break;
        dsc_attention_destroy(a);
        dsc_text_fini(&words);
    }
}

static void bad_words_are_refused(void)
{
    static const struct { const char *words, *section, *message; int status; } rows[] = {
        {"sliding", "", "--attention sliding: there are dense, dense-unfused, fixed, variable, bigbird, bslongformer, "
         "local, sparse", DSC_EINVAL},
        {"Dense", "", "--attention Dense: there are dense", DSC_EINVAL},
        {"dense ", "", "--attention dense : there are dense", DSC_EINVAL},
        {",dense", "", "--attention : there are dense", DSC_EINVAL},
        {"0=dense", "", "--attention 0=dense: there are dense", DSC_EINVAL},
        {"dense,0=x", "", "--attention x: there are dense", DSC_EINVAL},
        {"dense,0=", "", "--attention : there are dense", DSC_EINVAL},
        {"dense,", "", "\"\" is no LAYER=KIND or FIRST-LAST=KIND", DSC_EINVAL},
        {"dense,local", "", "\"local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,=local", "", "\"=local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,-1=local", "", "\"-1=local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,3-=local", "", "\"3-=local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,7-3=local", "", "\"7-3=local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,1-2-3=local", "", "\"1-2-3=local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,a=local", "", "\"a=local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,1.5=local", "", "\"1.5=local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,99999999999999999999=local", "", "\"99999999999999999999=local\" is no LAYER=KIND", DSC_EINVAL},
        {"dense,0=a,1=a", "", "--attention a: there are", DSC_EINVAL},
        {"local,1=d,2=d,3=d,4=d,5=d,6=d,7=d,8=d,9=d,10=d,11=d,12=d,13=d,14=d,15=d,16=d", "", "--attention d: there are",
         DSC_EINVAL},
        {"local,1=local,2=local,3=local,4=local,5=local,6=local,7=local,8=local,9=local,10=local,11=local,12=local,"
         "13=local,14=local,15=local,16=local", "", "more than 16 items", DSC_EINVAL},
        {"sparse", "", "--attention sparse: there is no section sparse_attention", DSC_EINVAL},
        {"dense,1=sparse", "", "--attention sparse: there is no section sparse_attention", DSC_EINVAL},
        {"sparse", "{\"mode\": \"bigbird\"", "c.json: sparse_attention: line 1", DSC_EINVAL},
        {"sparse", "bigbird", "c.json: sparse_attention: line 1", DSC_EINVAL},
        {"sparse", "[]", "c.json: sparse_attention: expected an object", DSC_EINVAL},
        {"sparse", "{\"block\": 16, \"block\": 32}", "c.json: sparse_attention: line 1: duplicate object key",
         DSC_EINVAL},
        {"sparse", "{\"mode\": \"sliding\"}", "\"mode\" is \"sliding\"; there are dense, fixed", DSC_ENOTSUP},
        {"sparse", "{\"mode\": 3}", "c.json: sparse_attention: \"mode\"", DSC_EINVAL},
        {"sparse", "{\"blok\": 16}", "c.json: sparse_attention: unknown key \"blok\"; did you mean \"block\"?",
         DSC_EINVAL},
        {"sparse", "{\"block\": \"16\"}", "c.json: sparse_attention: \"block\"", DSC_EINVAL},
        {"sparse", "{\"attention\": \"causal\"}", "\"attention\" is \"causal\", must be unidirectional or",
         DSC_ENOTSUP},
        {"absent.json", "", "absent.json: ", DSC_EINVAL},
        {"no/such", "", "no/such: ", DSC_EINVAL},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_attention *a = NULL;
        dsc_status status = dsc_attention_create(rows[i].words, "c.json: sparse_attention", rows[i].section,
                                                 read_given, &a);

        CHECK((int)status == rows[i].status && a == NULL, "%s %s: status %d", rows[i].words, rows[i].section, status);
        CHECK(strstr(dsc_message(), rows[i].message) != NULL && strchr(dsc_message(), '\n') == NULL,
              "no \"%s\" in \"%s\"", rows[i].message, dsc_message());
        if (rows[i].section[0] != '\0')
            CHECK(strncmp(dsc_message(), "c.json: sparse_attention: ", 26) == 0, "of what is \"%s\"", dsc_message());
    }
}

static void long_words_are_refused(void)
{
    char words[400];
    dsc_attention *a = NULL;

    for (int length = 254; length <= 399; length++) {
        memset(words, 'a', sizeof words);
        words[length] = '\0';
        CHECK(dsc_attention_create(words, "", "", NULL, &a) == DSC_EINVAL, "%d letters are taken", length);
        CHECK(length < 256 || strstr(dsc_message(), "longer than 255") != NULL, "%d letters: %s", length,
              dsc_message());
    }
}

/* ---- Files */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    fputs(text, file);
    fclose(file);
}

static void json_files_are_layouts_sections_or_configurations(void)
{
    static const struct { const char *text; int mode; int64_t block; bool has_layout; } rows[] = {
        {"{\"block\": 32, \"layout\": [[[1, 0], [1, 1]]]}", 0, 32, true},
        {"{\"mode\": \"bigbird\", \"block\": 64}", DSC_SPARSITY_BIGBIRD, 64, false},
        {"{} # all by default", DSC_SPARSITY_FIXED, 16, false},
        {"{\"train_batch_size\": 8, \"sparse_attention\": {\"mode\": \"variable\", \"block\": 128}}",
         DSC_SPARSITY_VARIABLE, 128, false},
    };
    scratch s = scratch_begin();

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        const char *path = scratch_path(&s, "a.json");
        dsc_attention *a;

        write_file(path, rows[i].text);
        if ((a = read_words(path, "{\"mode\": \"dense\"}")) == NULL) return;
        CHECK(a->patterns[0].kind == DSC_ATTENTION_SPARSE && (a->patterns[0].layout != NULL) == rows[i].has_layout,
              "%s: kind %d", rows[i].text, a->patterns[0].kind);
        if (rows[i].has_layout)
            CHECK(a->patterns[0].layout->block == rows[i].block && dsc_layout_count(a->patterns[0].layout, 0) == 3 &&
                      !dsc_layout_has(a->patterns[0].layout, 0, 0, 1), "%s is another layout", rows[i].text);
        else
            CHECK((int)a->patterns[0].sparsity.mode == rows[i].mode && a->patterns[0].sparsity.block == rows[i].block,
                  "%s: mode %d, block %d", rows[i].text, a->patterns[0].sparsity.mode,
                  (int)a->patterns[0].sparsity.block);
        dsc_attention_destroy(a);
    }
    scratch_end(&s);
}

static void bad_json_files_are_refused(void)
{
    static const struct { const char *text, *message; int status; } rows[] = {
        {"", "a.json:", DSC_EINVAL},
        {"{", "a.json:1:", DSC_EINVAL},
        {"[[[1]]]", "a.json: expected an object", DSC_EINVAL},
        {"{\"train_batch_size\": 8}", "a.json: unknown key \"train_batch_size\"", DSC_EINVAL},
        {"{\"sparse_attention\": 3}", "a.json: expected an object", DSC_EINVAL},
        {"{\"sparse_attention\": {\"mode\": \"sliding\"}}", "a.json: \"mode\" is \"sliding\"", DSC_ENOTSUP},
        {"{\"layout\": [[[1, 2], [1, 1]]]}", "a.json: row 0, column 1 of head 0 is neither 0 nor 1", DSC_EINVAL},
        {"{\"layout\": null}", "a.json: \"layout\" must be a list of heads", DSC_EINVAL},
        {"{\"layout\": [[[1]]], \"mode\": \"fixed\"}", "a.json: unknown key \"mode\"", DSC_EINVAL},
    };
    scratch s = scratch_begin();

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        const char *path = scratch_path(&s, "a.json");
        dsc_attention *a = NULL;
        dsc_status status;

        write_file(path, rows[i].text);
        status = dsc_attention_create(path, "", "", read_given, &a);
        CHECK((int)status == rows[i].status && a == NULL, "%s: status %d", rows[i].text, status);
        CHECK(strstr(dsc_message(), rows[i].message) != NULL, "no \"%s\" in \"%s\"", rows[i].message, dsc_message());
    }
    scratch_end(&s);
}

static void hdf5_files_go_to_their_reader(void)
{
    static const char *const words[] = {"a.h5", "a.hdf5", "a.h5:/x/y", "b/a.hdf5:z", "./a.h5:x.json"};

    for (int64_t i = 0; i < DSC_COUNT(words); i++) {
        dsc_attention *a = read_words(words[i], "");

        if (a == NULL) return;
        CHECK(a->patterns[0].layout == given && a->patterns[0].kind == DSC_ATTENTION_SPARSE, "%s", words[i]);
        dsc_attention_destroy(a);
        CHECK(dsc_attention_create(words[i], "", "", NULL, &a) == DSC_ENOTSUP &&
                  strstr(dsc_message(), words[i]) != NULL, "without a reader: %s", dsc_message());
    }
}

/* ---- Layouts of a pattern */

static void given_layouts_fit_or_are_refused(void)
{
    static const struct { int64_t heads, of, seq; const char *words[2]; } rows[] = {
        {3, 3, 128, {NULL}},
        {1, 3, 128, {NULL}},
        {1, 1, 128, {NULL}},
        {3, 4, 128, {"the layout is of 3 heads", "the model has 4"}},
        {3, 1, 128, {"the layout is of 3 heads", "the model has 1"}},
        {3, 3, 64, {"4 blocks of 32, 128 tokens", "the sequence has 64"}},
        {1, 3, 129, {"4 blocks of 32, 128 tokens", "the sequence has 129"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        dsc_pattern p = {.word = "mine.json", .kind = DSC_ATTENTION_SPARSE};
        dsc_layout *l = NULL;

        CHECK_OK(dsc_layout_make(32, 4, rows[i].heads, &p.layout));
        for (int64_t h = 0; h < rows[i].heads; h++) dsc_layout_add(p.layout, h, h, 3);
        if (rows[i].words[0] != NULL) {
            CHECK(dsc_pattern_layout(&p, rows[i].of, rows[i].seq, &l) == DSC_EINVAL, "row %d is taken", (int)i);
            for (int w = 0; w < 2; w++)
                CHECK(strstr(dsc_message(), rows[i].words[w]) != NULL && strstr(dsc_message(), "mine.json") != NULL,
                      "no \"%s\" in \"%s\"", rows[i].words[w], dsc_message());
        } else if (CHECK_OK(dsc_pattern_layout(&p, rows[i].of, rows[i].seq, &l))) {
            CHECK(l->heads == rows[i].of, "%d heads", (int)l->heads);
            for (int64_t h = 0; h < rows[i].of; h++)
                CHECK(dsc_layout_count(l, h) == 1 && dsc_layout_has(l, h, rows[i].heads == 1 ? 0 : h, 3), "head %d",
                      (int)h);
            dsc_layout_add(l, 0, 2, 2);
            CHECK(!dsc_layout_has(p.layout, 0, 2, 2), "the file's own layout was changed");
        }
        dsc_layout_destroy(l);
        dsc_layout_destroy(p.layout);
    }
}

static void patterns_are_laid_over_the_sequence(void)
{
    dsc_attention *a = read_words("sparse", "{\"mode\": \"bslongformer\", \"block\": 32}");
    dsc_layout *l = NULL;

    if (a == NULL) return;
    if (CHECK_OK(dsc_pattern_layout(&a->patterns[0], 5, 320, &l)))
        CHECK(l->heads == 5 && l->blocks == 10 && l->block == 32, "%d blocks of %d", (int)l->blocks, (int)l->block);
    dsc_layout_destroy(l);
    CHECK(dsc_pattern_layout(&a->patterns[0], 5, 330, &l) == DSC_EINVAL && strstr(dsc_message(), "330") != NULL &&
              strstr(dsc_message(), "32") != NULL, "%s", dsc_message());
    dsc_attention_destroy(a);
}

static const tap_case cases[] = {
    {"words are kinds, patterns the defaults of their class", words_are_kinds},
    {"nothing said is the section where there is one, else dense", no_word_is_the_section_or_dense},
    {"a section that no word asks for is a warning", a_section_that_no_word_asks_for_is_a_warning},
    {"a later item goes before an earlier one", later_items_go_before_earlier},
    {"random items are as if painted in order", items_are_painted_in_order},
    {"bad words and sections are refused in one line that names them", bad_words_are_refused},
    {"words of 256 letters are refused", long_words_are_refused},
    {"a JSON file is a layout, a section or a configuration", json_files_are_layouts_sections_or_configurations},
    {"JSON files that are none of these are refused", bad_json_files_are_refused},
    {"HDF5 files are their reader's, and refused without one", hdf5_files_go_to_their_reader},
    {"a file's layout fits heads and sequence, or is refused with both numbers", given_layouts_fit_or_are_refused},
    {"a pattern is laid over the sequence", patterns_are_laid_over_the_sequence},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
