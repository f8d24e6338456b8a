/* Descriptions of models: what is read, and what each bad one is refused for. */
#include "base/log.h"
#include "model/model.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char folder[] = "model-load.tmp";
static const char file[] = "model-load.tmp/config.json";

static bool write_config(const char *text)
{
    FILE *out;

    if (access(folder, F_OK) != 0 && system("mkdir model-load.tmp") != 0) return false;
    out = fopen(file, "w");
    if (out == NULL) return false;
    fputs(text, out);
    return fclose(out) == 0;
}

static void remove_config(void)
{
    remove(file);
    rmdir(folder);
}

static dsc_status load_text(const char *text, dsc_model *out)
{
    dsc_status status;

    if (!CHECK(write_config(text), "cannot write %s", file)) return DSC_EIO;
    status = dsc_model_load(file, out);
    remove_config();
    return status;
}

/* Parameters as their authors count them: GPT-2 124,439,808; Llama 3 8,030,261,248 and so on, exact where published. */
static void presets_have_published_sizes(void)
{
    static const struct { const char *name; int64_t parameters; } sizes[] = {
        {"gpt2", 124439808},          {"gpt2-medium", 354823168},     {"gpt2-large", 774030080},
        {"gpt2-xl", 1557611200},      {"llama2-7b", 6738415616},      {"llama2-13b", 13015864320},
        {"llama2-70b", 68976648192},  {"llama3-8b", 8030261248},      {"llama3-70b", 70553706496},
        {"llama3-405b", 405853388800},
    };

    for (int64_t i = 0; i < DSC_COUNT(sizes); i++) {
        dsc_model model;

        if (!CHECK_OK(dsc_model_load(sizes[i].name, &model))) continue;
        CHECK(dsc_model_parameters(&model) == sizes[i].parameters, "%s: %lld, published %lld", sizes[i].name,
              (long long)dsc_model_parameters(&model), (long long)sizes[i].parameters);
    }
}

static void every_preset_loads(void)
{
    int count = 0;

    for (const char *const *name = dsc_model_presets(); *name != NULL; name++, count++) {
        dsc_model model;

        CHECK_OK(dsc_model_load(*name, &model));
        CHECK(strcmp(model.name, *name) == 0, "%s is called %s", *name, model.name);
    }
    CHECK(count > 20, "%d presets", count);
}

static void sizes_left_out_follow(void)
{
    dsc_model plain, gated;

    if (!CHECK_OK(dsc_model_load("layers=2,hidden=64,heads=4,vocab=256,seq=32", &plain))) return;
    CHECK(plain.kv_heads == 4 && plain.ffn == 256, "kv_heads %lld, ffn %lld", (long long)plain.kv_heads,
          (long long)plain.ffn);
    CHECK(plain.causal && plain.tied && !plain.gated, "causal %d, tied %d, gated %d", plain.causal, plain.tied,
          plain.gated);
    if (!CHECK_OK(dsc_model_load("layers=2,hidden=4096,heads=4,kv_heads=2,gated=1,norm=rms,pos=rope,vocab=9,seq=9",
                                 &gated)))
        return;
    CHECK(gated.ffn == 10944 && gated.kv_heads == 2, "8/3 of 4096 to 64 is %lld", (long long)gated.ffn);
    CHECK(gated.norm == DSC_NORM_RMS && gated.pos == DSC_POS_ROPE, "norm %d, pos %d", gated.norm, gated.pos);
}

static bool same_model(const dsc_model *a, const dsc_model *b)
{
    dsc_model copy = *a;

    memcpy(copy.name, b->name, sizeof copy.name);
    return copy.layers == b->layers && copy.hidden == b->hidden && copy.heads == b->heads && copy.ffn == b->ffn &&
           copy.kv_heads == b->kv_heads && copy.vocab == b->vocab && copy.seq == b->seq && copy.gated == b->gated &&
           copy.causal == b->causal && copy.tied == b->tied && copy.norm == b->norm && copy.pos == b->pos &&
           copy.rope_theta == b->rope_theta;
}

static void json_reads_back(void)
{
    for (const char *const *name = dsc_model_presets(); *name != NULL; name++) {
        dsc_model model, again;
        char *text;

        if (!CHECK_OK(dsc_model_load(*name, &model))) return;
        text = dsc_model_json(&model);
        if (CHECK(text != NULL, "%s has no JSON", *name) && CHECK_OK(load_text(text, &again)))
            CHECK(same_model(&model, &again), "%s became %s", *name, text);
        free(text);
    }
}

static void words_read_back(void)
{
    for (const char *const *name = dsc_model_presets(); *name != NULL; name++) {
        dsc_model model, again;
        dsc_text words = {0};

        if (!CHECK_OK(dsc_model_load(*name, &model))) return;
        dsc_model_words(&model, &words);
        if (CHECK_OK(dsc_model_load(dsc_text_str(&words), &again)))
            CHECK(same_model(&model, &again), "%s became %s", *name, dsc_text_str(&words));
        dsc_text_fini(&words);
    }
}

static int warnings;
static char last_warning[256];

static void count_warning(dsc_level level, const char *line, void *context)
{
    (void)level, (void)context;
    warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", line);
}

#define GPT2                                                                                                           \
    "\"model_type\":\"gpt2\",\"n_layer\":12,\"n_embd\":768,\"n_head\":12,\"n_positions\":1024," \
    "\"vocab_size\":50257"
#define LLAMA                                                                                                          \
    "\"model_type\":\"llama\",\"num_hidden_layers\":32,\"hidden_size\":4096,\"num_attention_heads\":32," \
    "\"vocab_size\":128256,\"max_position_embeddings\":8192,\"intermediate_size\":14336"

#define BERT                                                                                                           \
    "\"model_type\":\"bert\",\"num_hidden_layers\":24,\"hidden_size\":1024,\"num_attention_heads\":16," \
    "\"vocab_size\":30522,\"max_position_embeddings\":512,\"intermediate_size\":4096,\"type_vocab_size\":2"

static void hugging_face_equals_preset(void)
{
    dsc_model model, preset;

    if (!CHECK_OK(load_text("{" GPT2 ",\"n_inner\":null,\"activation_function\":\"gelu_new\",\"bos_token_id\":1}",
                            &model)))
        return;
    if (!CHECK_OK(dsc_model_load("gpt2", &preset))) return;
    CHECK(same_model(&model, &preset), "gpt2 differs");
    if (!CHECK_OK(load_text("{" LLAMA ",\"num_key_value_heads\":8,\"rms_norm_eps\":1e-05,\"head_dim\":128,"
                            "\"rope_theta\":500000.0}", &model)))
        return;
    if (!CHECK_OK(dsc_model_load("llama3-8b", &preset))) return;
    CHECK(same_model(&model, &preset), "llama3-8b differs");
}

/* What is published as BERT-large, which has what we have not. */
static void bert_is_the_preset_and_reports_the_rest(void)
{
    dsc_model model, preset;

    warnings = 0;
    dsc_log_to(count_warning, NULL, DSC_WARNING);
    CHECK_OK(load_text("{" BERT ",\"hidden_act\":\"gelu\",\"hidden_dropout_prob\":0.1,\"layer_norm_eps\":1e-12,"
                       "\"attention_probs_dropout_prob\":0.1,\"position_embedding_type\":\"absolute\"}", &model));
    dsc_log_to(NULL, NULL, DSC_WARNING);
    CHECK(warnings == 5, "%d warnings", warnings);
    CHECK(strstr(last_warning, "token types, pooler") != NULL, "%s", last_warning);
    if (!CHECK_OK(dsc_model_load("bert-large", &preset))) return;
    CHECK(same_model(&model, &preset), "bert-large differs");
    CHECK(dsc_model_parameters(&model) == dsc_model_parameters(&preset), "%lld parameters, the preset has %lld",
          (long long)dsc_model_parameters(&model), (long long)dsc_model_parameters(&preset));
}

static void folder_stands_for_its_config(void)
{
    dsc_model model = {0};

    if (!CHECK(write_config("{" GPT2 "}"), "cannot write %s", file)) return;
    CHECK_OK(dsc_model_load(folder, &model));
    CHECK(model.layers == 12, "%lld layers", (long long)model.layers);
    remove_config();
}

static void dropout_is_reported_and_ignored(void)
{
    dsc_model model;

    warnings = 0;
    dsc_log_to(count_warning, NULL, DSC_WARNING);
    CHECK_OK(load_text("{" GPT2 ",\"resid_pdrop\":0.1,\"attn_pdrop\":0.0,\"layer_norm_epsilon\":1e-05}", &model));
    dsc_log_to(NULL, NULL, DSC_WARNING);
    CHECK(warnings == 1 && strstr(last_warning, "resid_pdrop") && strstr(last_warning, "0.1"), "%d warnings, last: %s",
          warnings, last_warning);
}

typedef struct bad_case { const char *text, *words[3]; } bad_case;

static void check_refusal(const bad_case *bad, dsc_status status, const char *known)
{
    CHECK(dsc_exit_status(status) == 2, "%s: status %s", bad->text, dsc_status_name(status));
    CHECK(strchr(dsc_message(), '\n') == NULL, "%s: several lines: %s", bad->text, dsc_message());
    if (known != NULL) CHECK(strstr(dsc_message(), known) != NULL, "%s is not in: %s", known, dsc_message());
    for (int i = 0; i < 3 && bad->words[i] != NULL; i++)
        CHECK(strstr(dsc_message(), bad->words[i]) != NULL, "\"%s\": no \"%s\" in: %s", bad->text,
              bad->words[i], dsc_message());
}

static void bad_descriptions_are_refused(void)
{
    static const bad_case bad_cases[] = {
        {"gpt9", {"gpt9", "did you mean", "gpt2"}},
        {"frobnicate", {"frobnicate", "--list-models"}},
        {"", {"unknown model"}},
        {"absent.json", {"absent.json", "No such file"}},
        {"/nowhere/at/all", {"/nowhere/at/all", "No such file"}},
        {"layers=2,hidden=64,heads=3,vocab=256,seq=32", {"64", "3", "heads"}},
        {"layers=2,hidden=64,heads=4,kv_heads=3,vocab=256,seq=32", {"heads 4", "kv_heads 3"}},
        {"layers=2,hidden=12,heads=4,vocab=256,seq=32,pos=rope", {"12", "4", "odd"}},
        {"layers=2,hidden=64,heads=4,vocab=256,seq=32,rope_theta=500", {"rope_theta", "pos is learned"}},
        {"layers=2,hidden=64,heads=4,vocab=256,seq=32,pos=rope,rope_theta=0", {"rope_theta", "0"}},
        {"layers=2,hidden=64,heads=4,vocab=256", {"missing", "seq"}},
        {"layers=2,hidden=64,heads=4,vocab=256,seq=32,depth=2", {"depth"}},
        {"layers=2,hiden=64,heads=4,vocab=256,seq=32", {"hiden", "did you mean \"hidden\""}},
        {"layers=2,layers=2,hidden=64,heads=4,vocab=256,seq=32", {"layers", "twice"}},
        {"layers=99999999999999999999,hidden=64,heads=4,vocab=256,seq=32", {"layers", "99999999999999999999"}},
        {"layers=4611686018427387904,hidden=64,heads=4,vocab=256,seq=32", {"layers", "4611686018427387904", "4096"}},
        {"layers=2,hidden=64,heads=4,vocab=4294967296,seq=32", {"vocab", "4294967296", "2147483647"}},
        {"layers=4096,hidden=1099511627776,ffn=64,heads=4,vocab=256,seq=32", {"4096", "1099511627776", "2^63"}},
        {"layers=0,hidden=64,heads=4,vocab=256,seq=32", {"layers", "0 is outside"}},
        {"layers=-2,hidden=64,heads=4,vocab=256,seq=32", {"layers", "-2"}},
        {"layers=nan,hidden=64,heads=4,vocab=256,seq=32", {"layers", "nan"}},
        {"layers=2.5,hidden=64,heads=4,vocab=256,seq=32", {"layers", "2.5"}},
        {"layers=,hidden=64,heads=4,vocab=256,seq=32", {"layers"}},
        {"layers=2,hidden=64,heads=4,vocab=256,seq=32,norm=batch", {"norm", "batch", "layer"}},
        {"layers=2,hidden=64,heads=4,vocab=256,seq=32,tied=2", {"tied", "2"}},
        {"layers=2,hidden=64,heads=4,vocab=256,seq=32,", {"key=value"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(bad_cases); i++) {
        dsc_model model;

        check_refusal(&bad_cases[i], dsc_model_load(bad_cases[i].text, &model), NULL);
    }
}

static void bad_files_are_refused(void)
{
    static const bad_case bad_cases[] = {
        {"{\"model_type\":\"gpt2\",\"n_layer\":2,\"n_head\":2,\"n_positions\":32,\"vocab_size\":256}",
         {"missing", "n_embd"}},
        {"{\"model_type\":\"mamba\",\"hidden_size\":64}", {"model_type", "mamba", "llama"}},
        {"{\"hidden_size\":64}", {"missing", "model_type"}},
        {"{\"model_type\":7}", {"model_type"}},
        {"[]", {"an array"}},
        {"{\"model_type\": \"gpt2\",", {":1:"}},
        {"", {"config.json"}},
        {"{" GPT2 ",\"activation_function\":\"relu\"}", {"activation_function", "relu"}},
        {"{" GPT2 ",\"scale_attn_by_inverse_layer_idx\":true}", {"scale_attn_by_inverse_layer_idx"}},
        {"{" GPT2 ",\"n_inner\":-4}", {"n_inner", "-4"}},
        {"{" GPT2 ",\"tie_word_embeddings\":3}", {"tie_word_embeddings"}},
        {"{" LLAMA ",\"num_key_value_heads\":5}", {"32", "5"}},
        {"{" LLAMA ",\"head_dim\":64}", {"head_dim", "64", "128"}},
        {"{" LLAMA ",\"attention_bias\":true}", {"attention_bias"}},
        {"{" BERT ",\"hidden_act\":\"relu\"}", {"hidden_act", "relu"}},
        {"{" BERT ",\"is_decoder\":true}", {"is_decoder", "true"}},
        {"{" BERT ",\"position_embedding_type\":\"relative_key\"}", {"position_embedding_type", "relative_key"}},
        {"{\"layers\":2,\"hidden\":[]}", {"hidden", "an array"}},
        {"{\"layers\":2,\"hidden\":64,\"heads\":4,\"vocab\":256,\"seq\":32,\"tide\":1}", {"tide", "tied"}},
        {"{\"layers\":4611686018427387904,\"hidden\":64,\"heads\":4,\"vocab\":256,\"seq\":32}",
         {"layers", "4611686018427387904"}},
    };

    for (int64_t i = 0; i < DSC_COUNT(bad_cases); i++) {
        dsc_model model;

        check_refusal(&bad_cases[i], load_text(bad_cases[i].text, &model), "config.json");
    }
}

static const tap_case cases[] = {
    {"presets have their published numbers of parameters", presets_have_published_sizes},
    {"every preset loads under its name", every_preset_loads},
    {"sizes left out follow from the others", sizes_left_out_follow},
    {"a model's JSON reads back as the same model", json_reads_back},
    {"a model's inline keys read back as the same model", words_read_back},
    {"a Hugging Face config equals the preset", hugging_face_equals_preset},
    {"BERT's is the preset, and what it has more is reported once", bert_is_the_preset_and_reports_the_rest},
    {"a folder stands for its config.json", folder_stands_for_its_config},
    {"dropout is reported and ignored", dropout_is_reported_and_ignored},
    {"bad descriptions are refused in one line that names the cause", bad_descriptions_are_refused},
    {"bad files are refused in one line that names file and key", bad_files_are_refused},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
