/* Golden sparsity: golden-sparsity FILE.json... compares block layouts with DeepSpeed's. A file is one layout, whose
 * rows are in hexadecimal, column 0 the most significant bit; of one with random blocks the rules are checked. Or it is
 * a list of parameters, each with the error that they were refused with, if any. */
#include "base/json.h"
#include "model/sparsity.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    return value != NULL ? value : "";
}

static int64_t whole(const json_t *object, const char *key) { return json_integer_value(json_object_get(object, key)); }

static dsc_sparsity_mode mode_of(const char *name)
{
    static const char *const names[] = {"Dense", "Fixed", "Variable", "BigBird", "BSLongformer", "LocalSlidingWindow"};

    for (int mode = 0; mode < DSC_SPARSITY_MODES; mode++)
        if (strcmp(name, names[mode]) == 0) return (dsc_sparsity_mode)mode;
    CHECK(false, "mode %s is not known", name);
    return DSC_SPARSITY_DENSE;
}

/* What `mode` and `params`, a class' arguments, make over seq_len tokens. */
static dsc_status create(const json_t *item, dsc_layout **out)
{
    json_t *params = json_deep_copy(json_object_get(item, "params"));
    int64_t heads = whole(params, "num_heads");
    dsc_sparsity sparsity;
    dsc_status status;

    dsc_sparsity_default(mode_of(text(item, "mode")), &sparsity);
    json_object_del(params, "num_heads");
    status = dsc_sparsity_read("params", params, &sparsity);
    if (status == DSC_OK) status = dsc_layout_create(&sparsity, heads, whole(item, "seq_len"), out);
    json_decref(params);
    return status;
}

static bool bit_of(const json_t *rows, int64_t row, int64_t column)
{
    const char *hex = json_string_value(json_array_get(rows, (size_t)row));
    char digit[2] = {hex != NULL && (int64_t)strlen(hex) > column / 4 ? hex[column / 4] : '0'};

    return strtol(digit, NULL, 16) >> (3 - column % 4) & 1;
}

/* At `key` stands a list of heads, or of the first alone where they are alike. */
static const json_t *rows_of(const json_t *item, const char *key, int64_t head)
{
    const json_t *heads = json_object_get(item, key);

    return json_array_get(heads, json_array_size(heads) == 1 ? 0 : (size_t)head);
}

static void compare_row(const json_t *item, const dsc_layout *l, int64_t head, int64_t row)
{
    const bool is_random = json_is_true(json_object_get(item, "random"));
    const json_t *rows = rows_of(item, is_random ? "layout_without_random" : "layout", head);
    int64_t extra = 0, most = whole(json_object_get(item, "params"), "num_random_blocks");

    for (int64_t c = 0; c < l->blocks; c++) {
        bool is_there = dsc_layout_has(l, head, row, c), is_wanted = bit_of(rows, row, c);

        extra += is_there && !is_wanted;
        if (is_random ? is_there || !is_wanted : is_there == is_wanted) continue;
        CHECK(false, "head %lld, row %lld, column %lld is %d", (long long)head, (long long)row, (long long)c, is_there);
        return;
    }
    if (json_object_get(json_object_get(item, "params"), "num_random_blocks") == NULL) most = 1; /* BigBird's default */
    if (is_random) CHECK(extra <= most, "row %lld has %lld random blocks", (long long)row, (long long)extra);
}

static void compare_layout(const json_t *item)
{
    const json_t *counts = json_object_get(item, "nnz_per_head");
    bool is_lower = strcmp(text(json_object_get(item, "params"), "attention"), "unidirectional") == 0 &&
                    mode_of(text(item, "mode")) == DSC_SPARSITY_BIGBIRD;
    dsc_layout *l = NULL;

    if (!CHECK_OK(create(item, &l))) return;
    CHECK(l->heads == whole(item, "num_heads") && l->blocks == whole(item, "num_blocks"), "%lld heads, %lld blocks",
          (long long)l->heads, (long long)l->blocks);
    for (int64_t h = 0; h < l->heads; h++) {
        int64_t count = json_integer_value(json_array_get(counts, (size_t)h));

        if (!json_is_true(json_object_get(item, "random")))
            CHECK(dsc_layout_count(l, h) == count, "head %lld has %lld blocks, not %lld", (long long)h,
                  (long long)dsc_layout_count(l, h), (long long)count);
        for (int64_t r = 0; r < l->blocks; r++) {
            compare_row(item, l, h, r);
            for (int64_t c = r + 1; is_lower && c < l->blocks; c++)
                CHECK(!dsc_layout_has(l, h, r, c), "row %lld sees column %lld", (long long)r, (long long)c);
        }
    }
    dsc_layout_destroy(l);
}

static void compare_error(const json_t *item)
{
    const char *error = text(item, "error");
    dsc_layout *l = NULL;
    dsc_status wanted = error[0] == '\0' ? DSC_OK : strcmp(error, "ValueError") == 0 ? DSC_EINVAL : DSC_ENOTSUP;
    dsc_status status = create(item, &l);
    char *params = json_dumps(json_object_get(item, "params"), JSON_COMPACT);

    CHECK(status == wanted, "%s %s over %lld tokens: %s, expected %s", text(item, "mode"), params,
          (long long)whole(item, "seq_len"), status == DSC_OK ? "taken" : dsc_message(), error);
    dsc_layout_destroy(l);
    free(params);
}

static void compare_file(const char *path)
{
    json_t *file = NULL, *item;
    size_t index;

    if (!CHECK_OK(dsc_json_load(path, &file))) return;
    if (json_is_array(file)) json_array_foreach(file, index, item) compare_error(item);
    else compare_layout(file);
    json_decref(file);
}

int main(int argc, char **argv) { return tap_run_files(argc, argv, compare_file); }
