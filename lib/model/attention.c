#include "model/attention.h"
#include "base/log.h"
#include "base/parse.h"
#include "model/parts.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Files */

static bool has_suffix(const char *word, const char *suffix)
{
    size_t length = strlen(word), end = strlen(suffix);

    return length > end && strcmp(word + length - end, suffix) == 0;
}

static bool is_hdf5(const char *word)
{
    return strstr(word, ".h5:") != NULL || strstr(word, ".hdf5:") != NULL || has_suffix(word, ".h5") ||
           has_suffix(word, ".hdf5");
}

static bool is_file(const char *word) { return strchr(word, '.') != NULL || strchr(word, '/') != NULL; }

/* A layout itself, a section sparse_attention, or a configuration with one. */
static dsc_status read_json(const char *path, dsc_pattern *out)
{
    const json_t *section;
    dsc_status status = DSC_OK;
    json_t *file = NULL;

    DSC_TRY(dsc_json_load(path, &file));
    section = json_object_get(file, "sparse_attention");
    if (json_object_get(file, "layout") != NULL) status = dsc_layout_of_json(path, file, &out->layout);
    else status = dsc_sparsity_section(path, section != NULL ? section : file, &out->sparsity);
out:
    json_decref(file);
    return status;
}

static dsc_status read_section(const char *where, const char *text, dsc_sparsity *out)
{
    dsc_status status = DSC_OK;
    json_error_t error;
    json_t *section;

    if (text[0] == '\0')
        return DSC_FAIL(DSC_EINVAL, "--attention sparse: there is no section sparse_attention in a configuration");
    section = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (section == NULL) status = DSC_FAIL(DSC_EINVAL, "%s: line %d: %s", where, error.line, error.text);
    else status = dsc_sparsity_section(where, section, out);
    json_decref(section);
    return status;
}

/* ---- Words */

static dsc_status read_kind(const char *word, const char *where, const char *section, dsc_layout_reader *read_h5,
                            dsc_pattern *out)
{
    snprintf(out->word, sizeof out->word, "%s", word);
    if (dsc_equal(word, "sparse")) snprintf(out->where, sizeof out->where, "%s", where);
    else snprintf(out->where, sizeof out->where, "%s%s", is_file(word) ? "" : "--attention ", word);
    out->kind = DSC_ATTENTION_SPARSE;
    if (dsc_equal(word, "dense") || dsc_equal(word, "dense-unfused")) {
        out->kind = dsc_equal(word, "dense") ? DSC_ATTENTION_DENSE : DSC_ATTENTION_UNFUSED;
        return DSC_OK;
    }
    if (dsc_equal(word, "sparse")) return read_section(where, section, &out->sparsity);
    if (is_hdf5(word) && read_h5 != NULL) return read_h5(word, &out->layout);
    if (is_hdf5(word)) return DSC_FAIL(DSC_ENOTSUP, "--attention %s: this caller reads no HDF5", word);
    if (is_file(word)) return read_json(word, out);
    if (dsc_sparsity_find(word, &out->sparsity) == DSC_OK) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "--attention %s: there are dense, dense-unfused, fixed, variable, bigbird, "
                    "bslongformer, local, sparse (a configuration's section) and files", word);
}

/* "3" or "3-7"; false when the text before `=` is no such thing. */
static bool read_layers(const char *text, size_t length, int64_t *first, int64_t *last)
{
    char copy[64] = "", *dash;

    if (length >= sizeof copy) return false;
    memcpy(copy, text, length);
    dash = strchr(copy, '-');
    if (dash != NULL) *dash = '\0';
    if (dsc_parse_int("layer", copy, 0, DSC_MAX_LAYERS, first) != DSC_OK) return false;
    *last = *first;
    return dash == NULL || dsc_parse_int("layer", dash + 1, *first, DSC_MAX_LAYERS, last) == DSC_OK;
}

static dsc_status read_item(dsc_attention *a, const char *item, const char *where, const char *section,
                            dsc_layout_reader *read_h5)
{
    const char *equals = strchr(item, '=');
    int64_t first = 0, last = INT64_MAX;

    if (a->count == DSC_PATTERNS)
        return DSC_FAIL(DSC_EINVAL, "--attention: more than %d items", DSC_PATTERNS);
    if (a->count > 0 && (equals == NULL || !read_layers(item, (size_t)(equals - item), &first, &last)))
        return DSC_FAIL(DSC_EINVAL, "--attention: \"%s\" is no LAYER=KIND or FIRST-LAST=KIND", item);
    a->layers[a->count].first = first;
    a->layers[a->count].last = last;
    a->count++;
    return read_kind(a->count == 1 ? item : equals + 1, where, section, read_h5, &a->patterns[a->count - 1]);
}

static bool names_section(const char *words)
{
    for (const char *at = words; (at = strstr(at, "sparse")) != NULL; at += strlen("sparse"))
        if ((at == words || at[-1] == '=') && (at[6] == '\0' || at[6] == ',')) return true;
    return false;
}

const char *dsc_attention_words(const char *words, const char *section)
{
    if (words[0] != '\0') return words;
    return section[0] == '\0' ? "dense" : "sparse";
}

dsc_status dsc_attention_create(const char *words, const char *where, const char *section, dsc_layout_reader *read_h5,
                                dsc_attention **out)
{
    char copy[256], *rest = copy, *item;
    dsc_attention *a = calloc(1, sizeof *a);
    dsc_status status = DSC_OK;

    if (a == NULL) return DSC_FAIL(DSC_ENOMEM, "attention: %zu bytes", sizeof *a);
    words = dsc_attention_words(words, section);
    if (strlen(words) >= sizeof copy) DSC_TRY(DSC_FAIL(DSC_EINVAL, "--attention: longer than %zu", sizeof copy - 1));
    strcpy(copy, words);
    while ((item = strsep(&rest, ",")) != NULL) DSC_TRY(read_item(a, item, where, section, read_h5));
    if (section[0] != '\0' && !names_section(words))
        dsc_log(DSC_WARNING, "%s has no effect: --attention %s does not say sparse", where, words);
    *out = a;
    a = NULL;
out:
    dsc_attention_destroy(a);
    return status;
}

void dsc_attention_destroy(dsc_attention *a)
{
    if (a == NULL) return;
    for (int i = 0; i < a->count; i++) dsc_layout_destroy(a->patterns[i].layout);
    free(a);
}

int dsc_attention_of(const dsc_attention *a, int64_t layer)
{
    int i = a->count - 1;

    while (layer < a->layers[i].first || layer > a->layers[i].last) i--;
    return i;
}

dsc_status dsc_pattern_layout(const dsc_pattern *p, int64_t heads, int64_t seq, dsc_layout **out)
{
    const dsc_layout *given = p->layout;

    if (given == NULL) {
        dsc_status status = dsc_layout_create(&p->sparsity, heads, seq, out);

        return status == DSC_OK ? DSC_OK : dsc_fail_in(status, "%s", p->where);
    }
    if (given->heads != heads && given->heads != 1)
        return DSC_FAIL(DSC_EINVAL, "%s: the layout is of %" PRId64 " heads, the model has %" PRId64, p->word,
                        given->heads, heads);
    if (given->blocks * given->block != seq)
        return DSC_FAIL(DSC_EINVAL, "%s: the layout is of %" PRId64 " blocks of %" PRId64 ", %" PRId64 " tokens, the "
                        "sequence has %" PRId64, p->word, given->blocks, given->block, given->blocks * given->block,
                        seq);
    return dsc_layout_copy(given, heads, out);
}
