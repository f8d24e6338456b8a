/* A pattern's parameters as JSON: the reference's names. */
#include "base/log.h"
#include "model/sparsity.h"
#include <stddef.h>

enum { INT, BOOL, ATTENTION, LIST };

/* A key, where it goes, and the modes that read it, as bits. */
typedef struct key { const char *name; int kind; size_t offset; unsigned modes; } key;

#define IN(mode) (1u << DSC_SPARSITY_##mode)
#define AT(member) offsetof(dsc_sparsity, member)
enum { ALL = (1 << DSC_SPARSITY_MODES) - 1 };

static const key KEYS[] = {
    {"block", INT, AT(block), ALL},
    {"different_layout_per_head", BOOL, AT(is_per_head), ALL & ~IN(LOCAL)},
    {"attention", ATTENTION, AT(is_bidirectional), ALL & ~IN(DENSE)},
    {"horizontal_global_attention", BOOL, AT(is_horizontal), IN(FIXED) | IN(VARIABLE)},
    {"num_local_blocks", INT, AT(local_blocks), IN(FIXED)},
    {"num_global_blocks", INT, AT(global_blocks), IN(FIXED) | IN(BIGBIRD)},
    {"num_different_global_patterns", INT, AT(global_patterns), IN(FIXED)},
    {"num_random_blocks", INT, AT(random_blocks), IN(VARIABLE) | IN(BIGBIRD)},
    {"local_window_blocks", LIST, AT(windows), IN(VARIABLE)},
    {"global_block_indices", LIST, AT(globals), IN(VARIABLE) | IN(BSLONGFORMER)},
    {"global_block_end_indices", LIST, AT(global_ends), IN(VARIABLE) | IN(BSLONGFORMER)},
    {"num_sliding_window_blocks", INT, AT(window_blocks), IN(BIGBIRD) | IN(BSLONGFORMER) | IN(LOCAL)},
};

static dsc_status read_list(const char *where, const json_t *value, const char *name, dsc_block_list *out)
{
    json_t *item;
    size_t i;

    if (json_is_null(value)) return DSC_OK;
    if (!json_is_array(value) || json_array_size(value) > DSC_SPARSITY_MOST)
        return DSC_FAIL(DSC_EINVAL, "%s: \"%s\" must be a list of at most %d whole numbers", where, name,
                        DSC_SPARSITY_MOST);
    json_array_foreach(value, i, item) {
        if (!json_is_integer(item) || json_integer_value(item) < 0 || json_integer_value(item) > INT32_MAX)
            return DSC_FAIL(DSC_EINVAL, "%s: item %zu of \"%s\" is no number of a block", where, i, name);
        out->of[i] = json_integer_value(item);
    }
    out->count = (int64_t)json_array_size(value);
    return DSC_OK;
}

/* bslongformer takes any other word for bidirectional, local for unidirectional, as the reference does. */
static dsc_status read_attention(const char *where, const json_t *object, dsc_sparsity *out)
{
    bool is_free = out->mode == DSC_SPARSITY_BSLONGFORMER || out->mode == DSC_SPARSITY_LOCAL;
    char word[64] = "";
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_json_string(where, object, "attention", word, sizeof word));
    if (word[0] == '\0') goto out;
    if (!is_free && !dsc_equal(word, "unidirectional") && !dsc_equal(word, "bidirectional"))
        DSC_TRY(DSC_FAIL(DSC_ENOTSUP, "%s: \"attention\" is \"%s\", must be unidirectional or bidirectional", where,
                         word));
    out->is_bidirectional = out->mode == DSC_SPARSITY_LOCAL ? dsc_equal(word, "bidirectional")
                                                            : !dsc_equal(word, "unidirectional");
out:
    return status;
}

static dsc_status read_key(const char *where, const json_t *object, const key *k, dsc_sparsity *out)
{
    void *there = (char *)out + k->offset;

    if (json_object_get(object, k->name) == NULL) return DSC_OK;
    if ((k->modes & 1u << out->mode) == 0) {
        dsc_log(DSC_WARNING, "%s: \"%s\" has no effect: mode %s does not read it", where, k->name,
                DSC_SPARSITY_NAMES[out->mode]);
        return DSC_OK;
    }
    switch (k->kind) {
    case INT: return dsc_json_int(where, object, k->name, 0, INT32_MAX, there);
    case BOOL: return dsc_json_bool(where, object, k->name, there);
    case ATTENTION: return read_attention(where, object, out);
    default: return read_list(where, json_object_get(object, k->name), k->name, there);
    }
}

dsc_status dsc_sparsity_read(const char *where, const json_t *object, dsc_sparsity *out)
{
    const char *names[DSC_COUNT(KEYS) + 1];
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(KEYS); i++) names[i] = KEYS[i].name;
    names[DSC_COUNT(KEYS)] = "mode";
    DSC_TRY(dsc_json_object(where, object));
    DSC_TRY(dsc_json_check_keys(where, object, names, DSC_COUNT(names)));
    for (int64_t i = 0; i < DSC_COUNT(KEYS); i++) DSC_TRY(read_key(where, object, &KEYS[i], out));
out:
    return status;
}

#define MODES "there are dense, fixed, variable, bigbird, bslongformer, local"

dsc_status dsc_sparsity_find(const char *word, dsc_sparsity *out)
{
    for (int mode = 0; mode < DSC_SPARSITY_MODES; mode++)
        if (dsc_equal(word, DSC_SPARSITY_NAMES[mode])) {
            dsc_sparsity_default((dsc_sparsity_mode)mode, out);
            return DSC_OK;
        }
    return DSC_FAIL(DSC_ENOTSUP, "no mode \"%s\"; " MODES, word);
}

dsc_status dsc_sparsity_section(const char *where, const json_t *section, dsc_sparsity *out)
{
    char mode[64] = "fixed";
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_json_object(where, section));
    DSC_TRY(dsc_json_string(where, section, "mode", mode, sizeof mode));
    if (dsc_sparsity_find(mode, out) != DSC_OK)
        DSC_TRY(DSC_FAIL(DSC_ENOTSUP, "%s: \"mode\" is \"%s\"; " MODES, where, mode));
    out->random_blocks = 0;
    DSC_TRY(dsc_sparsity_read(where, section, out));
    if ((out->mode == DSC_SPARSITY_BIGBIRD || out->mode == DSC_SPARSITY_BSLONGFORMER) && !out->is_bidirectional) {
        dsc_log(DSC_WARNING, "%s: \"attention\" has no effect: in a configuration mode %s is bidirectional", where,
                mode);
        out->is_bidirectional = true;
    }
out:
    return status;
}
