/* Hugging Face's config.json of the two families whose checkpoints we read and write, and of BERT, whose layers we have
 * and whose checkpoints we do not. Keys that shape the mathematics
 * are taken or checked; the many others (token ids, generation, versions) do not touch training and are passed over. */
#include "base/log.h"
#include "model/parts.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>

typedef struct size_key {
    const char *name;
    size_t offset;
    int64_t high;
    bool is_needed;
} size_key;

/* A key whose value we cannot change: another one is refused, or, where only numbers differ slightly, reported. */
typedef struct fixed_key {
    const char *name;
    const char *values[4]; /* accepted, as JSON prints them; NULL ends the list */
    bool is_refused;
    const char *what_happens;
} fixed_key;

typedef struct hf_family {
    const char *model_type;
    dsc_model start; /* what the family is, and its defaults */
    const size_key *sizes;
    const fixed_key *fixed;
    const char *missing; /* what every model of the family has and none of ours, reported; or NULL */
} hf_family;

#define AT(field) offsetof(dsc_model, field)

static const size_key gpt2_sizes[] = {
    {"n_layer", AT(layers), DSC_MAX_LAYERS, true}, {"n_embd", AT(hidden), DSC_MAX_SIZE, true},
    {"n_head", AT(heads), DSC_MAX_SIZE, true},     {"vocab_size", AT(vocab), DSC_MAX_VOCAB, true},
    {"n_positions", AT(seq), DSC_MAX_SIZE, true},  {"n_inner", AT(ffn), DSC_MAX_SIZE, false},
    {NULL, 0, 0, false},
};

static const fixed_key gpt2_fixed[] = {
    {"activation_function", {"\"gelu_new\"", "\"gelu_pytorch_tanh\""}, true, "only GELU by tanh is implemented"},
    {"scale_attn_weights", {"true"}, true, "scores are divided by sqrt(head size)"},
    {"scale_attn_by_inverse_layer_idx", {"false"}, true, "scores do not depend on the layer"},
    {"add_cross_attention", {"false"}, true, "there is no encoder to attend to"},
    {"layer_norm_epsilon", {"1e-5"}, false, "1e-5 is used"},
    {"initializer_range", {"0.02"}, false, "0.02 is used"},
    {"resid_pdrop", {"0"}, false, "dropout is not implemented, 0 is used"},
    {"embd_pdrop", {"0"}, false, "dropout is not implemented, 0 is used"},
    {"attn_pdrop", {"0"}, false, "dropout is not implemented, 0 is used"},
    {NULL, {NULL}, false, NULL},
};

static const size_key llama_sizes[] = {
    {"num_hidden_layers", AT(layers), DSC_MAX_LAYERS, true},
    {"hidden_size", AT(hidden), DSC_MAX_SIZE, true},
    {"num_attention_heads", AT(heads), DSC_MAX_SIZE, true},
    {"vocab_size", AT(vocab), DSC_MAX_VOCAB, true},
    {"max_position_embeddings", AT(seq), DSC_MAX_SIZE, true},
    {"intermediate_size", AT(ffn), DSC_MAX_SIZE, true},
    {"num_key_value_heads", AT(kv_heads), DSC_MAX_SIZE, false},
    {"rope_theta", AT(rope_theta), DSC_MAX_SIZE, false},
    {NULL, 0, 0, false},
};

static const fixed_key llama_fixed[] = {
    {"hidden_act", {"\"silu\"", "\"swish\""}, true, "only SiLU is implemented"},
    {"attention_bias", {"false"}, true, "attention has no biases"},
    {"mlp_bias", {"false"}, true, "the MLP has no biases"},
    {"rms_norm_eps", {"1e-5"}, false, "1e-5 is used"},
    {"rope_scaling", {NULL}, false, "positions are not scaled"},
    {"initializer_range", {"0.02"}, false, "0.02 is used"},
    {"attention_dropout", {"0"}, false, "dropout is not implemented, 0 is used"},
    {NULL, {NULL}, false, NULL},
};

static const fixed_key bert_fixed[] = {
    {"hidden_act", {"\"gelu\"", "\"gelu_new\"", "\"gelu_pytorch_tanh\""}, true, "only GELU is implemented"},
    {"hidden_act", {"\"gelu_new\"", "\"gelu_pytorch_tanh\""}, false, "GELU by tanh is used"},
    {"position_embedding_type", {"\"absolute\""}, true, "positions are learned"},
    {"is_decoder", {"false"}, true, "BERT is an encoder; its decoder is not implemented"},
    {"add_cross_attention", {"false"}, true, "there is no encoder to attend to"},
    {"layer_norm_eps", {"1e-5"}, false, "1e-5 is used"},
    {"initializer_range", {"0.02"}, false, "0.02 is used"},
    {"hidden_dropout_prob", {"0"}, false, "dropout is not implemented, 0 is used"},
    {"attention_probs_dropout_prob", {"0"}, false, "dropout is not implemented, 0 is used"},
    {"classifier_dropout", {"0"}, false, "dropout is not implemented, 0 is used"},
    {NULL, {NULL}, false, NULL},
};

static const hf_family families[] = {
    {"gpt2", {.causal = true, .tied = true, .rope_theta = DSC_ROPE_THETA_DEFAULT}, gpt2_sizes, gpt2_fixed, NULL},
    {"llama",
     {.causal = true, .gated = true, .norm = DSC_NORM_RMS, .pos = DSC_POS_ROPE, .rope_theta = DSC_ROPE_THETA_DEFAULT},
     llama_sizes,
     llama_fixed,
     NULL},
    {"bert",
     {.tied = true, .rope_theta = DSC_ROPE_THETA_DEFAULT},
     llama_sizes, /* the names are BERT's; those that it lacks are optional */
     bert_fixed,
     "token types, pooler, the norm of the embeddings, the head's product and its bias are not implemented and left "
     "out; norms stand before sublayers, and one behind the last"},
};

static dsc_status find_family(const char *where, const json_t *object, const hf_family **out)
{
    char type[64] = "";

    if (dsc_json_string(where, object, "model_type", type, sizeof type) != DSC_OK) return DSC_EINVAL;
    if (type[0] == '\0')
        return DSC_FAIL(DSC_EINVAL, "%s: missing key \"model_type\" (gpt2, llama or bert), or \"layers\" of dsc's own "
                        "keys", where);
    for (int64_t i = 0; i < DSC_COUNT(families); i++)
        if (dsc_equal(families[i].model_type, type)) {
            *out = &families[i];
            return DSC_OK;
        }
    return DSC_FAIL(DSC_EINVAL, "%s: \"model_type\": \"%s\" is not implemented; gpt2, llama and bert are", where, type);
}

static dsc_status take_size(const char *where, const json_t *object, const size_key *key, dsc_model *model)
{
    int64_t *size = (int64_t *)((char *)model + key->offset);

    if (key->is_needed && json_object_get(object, key->name) == NULL)
        return DSC_FAIL(DSC_EINVAL, "%s: missing key \"%s\"", where, key->name);
    return dsc_json_int(where, object, key->name, 1, key->high, size);
}

/* Numbers are compared as numbers: 0, 0.0 and 1e-05 are written in several ways. */
static bool is_accepted(const json_t *value, const char *word)
{
    json_t *accepted = json_loads(word, JSON_DECODE_ANY, NULL);
    bool is_equal = json_is_number(value) && json_is_number(accepted)
                        ? fabs(json_number_value(value) - json_number_value(accepted)) <= 0
                        : json_equal(value, accepted);

    json_decref(accepted);
    return is_equal;
}

static dsc_status check_fixed(const char *where, const json_t *object, const fixed_key *key)
{
    const json_t *value = json_object_get(object, key->name);
    char *text;
    dsc_status status = DSC_OK;

    if (value == NULL || json_is_null(value)) return DSC_OK;
    for (int i = 0; key->values[i] != NULL; i++)
        if (is_accepted(value, key->values[i])) return DSC_OK;
    text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (key->is_refused)
        status = DSC_FAIL(DSC_ENOTSUP, "%s: \"%s\": %s: %s", where, key->name, text ? text : "?", key->what_happens);
    else
        dsc_log(DSC_WARNING, "%s: \"%s\": %s: %s", where, key->name, text ? text : "?", key->what_happens);
    free(text);
    return status;
}

/* LLaMA's heads may be wider than hidden / heads; ours are not. */
static dsc_status check_head_size(const char *where, const json_t *object, const dsc_model *model)
{
    int64_t head_size = model->hidden / model->heads;
    int64_t given = head_size;

    if (dsc_json_int(where, object, "head_dim", 1, DSC_MAX_SIZE, &given) != DSC_OK) return DSC_EINVAL;
    if (given == head_size) return DSC_OK;
    return DSC_FAIL(DSC_ENOTSUP, "%s: \"head_dim\": %lld is not hidden size / heads, which is %lld", where,
                    (long long)given, (long long)head_size);
}

dsc_status dsc_model_from_hf(const char *where, const json_t *object, dsc_model *out)
{
    dsc_status status = DSC_OK;
    const hf_family *family = NULL;
    dsc_model model;

    DSC_TRY(find_family(where, object, &family));
    model = family->start;
    snprintf(model.name, sizeof model.name, "%s", out->name);
    for (const size_key *key = family->sizes; key->name != NULL; key++) DSC_TRY(take_size(where, object, key, &model));
    for (const fixed_key *key = family->fixed; key->name != NULL; key++) DSC_TRY(check_fixed(where, object, key));
    DSC_TRY(dsc_json_bool(where, object, "tie_word_embeddings", &model.tied));
    DSC_TRY(check_head_size(where, object, &model));
    if (family->missing != NULL) dsc_log(DSC_WARNING, "%s: %s", where, family->missing);
    if (model.kv_heads == 0) model.kv_heads = model.heads;
    if (model.ffn == 0) model.ffn = 4 * model.hidden;
    *out = model;
out:
    return status;
}
