/* The list of a model's tensors. */
#include "model/model.h"
#include "tests/tap.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {
    "gpt2",
    "llama3-8b",
    "layers=3,hidden=64,heads=4,vocab=100,seq=32",
    "layers=3,hidden=64,heads=4,kv_heads=2,vocab=100,seq=32,gated=1,tied=0",
    "layers=3,hidden=64,heads=4,vocab=100,seq=32,norm=rms,causal=0",
    "layers=3,hidden=64,heads=4,kv_heads=1,vocab=100,seq=32,norm=rms,pos=rope,gated=1,tied=0",
};

typedef struct tensor_list { dsc_model model; dsc_tensor *items; int64_t count; } tensor_list;

static bool make_list(const char *description, tensor_list *out)
{
    *out = (tensor_list){.items = NULL};
    return CHECK_OK(dsc_model_load(description, &out->model)) &&
           CHECK_OK(dsc_model_tensors(&out->model, &out->items, &out->count));
}

static const dsc_tensor *find(const tensor_list *list, const char *name)
{
    for (int64_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0) return &list->items[i];
    CHECK(false, "no tensor %s", name);
    return NULL;
}

static void elements_sum_to_parameters(void)
{
    for (int64_t k = 0; k < DSC_COUNT(kinds); k++) {
        tensor_list list;
        int64_t sum = 0;

        if (!make_list(kinds[k], &list)) return;
        for (int64_t i = 0; i < list.count; i++) sum += dsc_tensor_elems(&list.items[i]);
        CHECK(sum == dsc_model_parameters(&list.model), "%s: %lld elements, %lld parameters", kinds[k], (long long)sum,
              (long long)dsc_model_parameters(&list.model));
        free(list.items);
    }
}

/* Outside the layers first (embeddings), then by layer and role, then outside again. */
static void order_is_flat(void)
{
    for (int64_t k = 0; k < DSC_COUNT(kinds); k++) {
        tensor_list list;

        if (!make_list(kinds[k], &list)) return;
        for (int64_t i = 1; i < list.count; i++) {
            const dsc_tensor *a = &list.items[i - 1], *b = &list.items[i];
            bool starts_layer = b->layer == (a->layer < 0 ? 0 : a->layer + 1) && b->role == DSC_ROLE_NORM1_W;

            CHECK(starts_layer || a->role < b->role, "%s: %s before %s", kinds[k], a->name, b->name);
        }
        free(list.items);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const dsc_tensor *)a)->name, ((const dsc_tensor *)b)->name);
}

static void names_are_unique(void)
{
    for (int64_t k = 0; k < DSC_COUNT(kinds); k++) {
        tensor_list list;

        if (!make_list(kinds[k], &list)) return;
        qsort(list.items, (size_t)list.count, sizeof *list.items, by_name);
        for (int64_t i = 1; i < list.count; i++)
            CHECK(strcmp(list.items[i - 1].name, list.items[i].name) != 0, "%s twice", list.items[i].name);
        free(list.items);
    }
}

static void check_tensor(const tensor_list *list, const char *name, int dims, int64_t rows, int64_t columns,
                         dsc_cut cut)
{
    const dsc_tensor *tensor = find(list, name);

    if (tensor == NULL) return;
    CHECK(tensor->dims == dims && tensor->shape[0] == rows && tensor->shape[1] == columns, "%s: %d dims, %lld x %lld",
          name, tensor->dims, (long long)tensor->shape[0], (long long)tensor->shape[1]);
    CHECK(tensor->cut == cut, "%s: cut %d", name, tensor->cut);
}

static void gpt2_has_its_names_and_shapes(void)
{
    tensor_list list;

    if (!make_list("gpt2", &list)) return;
    CHECK(list.count == 148, "%lld tensors, the checkpoint has 148", (long long)list.count);
    check_tensor(&list, "transformer.wte.weight", 2, 50257, 768, DSC_CUT_ROWS);
    check_tensor(&list, "transformer.wpe.weight", 2, 1024, 768, DSC_CUT_ROWS);
    check_tensor(&list, "transformer.h.0.ln_1.bias", 1, 768, 1, DSC_CUT_NONE);
    check_tensor(&list, "transformer.h.0.attn.c_attn.weight", 2, 768, 2304, DSC_CUT_QKV);
    check_tensor(&list, "transformer.h.11.attn.c_attn.bias", 1, 2304, 1, DSC_CUT_QKV);
    check_tensor(&list, "transformer.h.11.attn.c_proj.weight", 2, 768, 768, DSC_CUT_ROWS);
    check_tensor(&list, "transformer.h.11.mlp.c_fc.weight", 2, 768, 3072, DSC_CUT_COLUMNS);
    check_tensor(&list, "transformer.h.11.mlp.c_fc.bias", 1, 3072, 1, DSC_CUT_COLUMNS);
    check_tensor(&list, "transformer.h.11.mlp.c_proj.weight", 2, 3072, 768, DSC_CUT_ROWS);
    check_tensor(&list, "transformer.h.11.mlp.c_proj.bias", 1, 768, 1, DSC_CUT_NONE);
    check_tensor(&list, "transformer.ln_f.weight", 1, 768, 1, DSC_CUT_NONE);
    free(list.items);
}

static void llama_has_its_names_and_shapes(void)
{
    tensor_list list;

    if (!make_list("llama3-8b", &list)) return;
    CHECK(list.count == 3 + 32 * 7, "%lld tensors", (long long)list.count);
    check_tensor(&list, "model.embed_tokens.weight", 2, 128256, 4096, DSC_CUT_ROWS);
    check_tensor(&list, "model.layers.31.self_attn.qkv_proj.weight", 2, 4096, 4096 + 2 * 1024, DSC_CUT_QKV);
    check_tensor(&list, "model.layers.31.mlp.gate_proj.weight", 2, 4096, 14336, DSC_CUT_COLUMNS);
    check_tensor(&list, "model.layers.31.mlp.down_proj.weight", 2, 14336, 4096, DSC_CUT_ROWS);
    check_tensor(&list, "lm_head.weight", 2, 128256, 4096, DSC_CUT_ROWS);
    free(list.items);
}

static void check_stored(const dsc_stored *stored, const char *name, int64_t column, int64_t rows, int64_t columns)
{
    CHECK(strcmp(stored->name, name) == 0, "%s", stored->name);
    CHECK(stored->column == column && stored->shape[0] == rows && stored->shape[1] == columns,
          "%s: column %lld, [%lld, %lld]", name, (long long)stored->column, (long long)stored->shape[0],
          (long long)stored->shape[1]);
}

/* Names, shapes and orientation of Hugging Face's state dict. */
static void files_hold_the_family(void)
{
    dsc_stored stored[DSC_STORED_MOST];
    tensor_list list;

    if (!make_list("llama3-8b", &list)) return;
    CHECK(dsc_tensor_stored(find(&list, "model.layers.5.self_attn.qkv_proj.weight"), stored) == 3, "q, k, v");
    check_stored(&stored[0], "model.layers.5.self_attn.q_proj.weight", 0, 4096, 4096);
    check_stored(&stored[1], "model.layers.5.self_attn.k_proj.weight", 4096, 1024, 4096);
    check_stored(&stored[2], "model.layers.5.self_attn.v_proj.weight", 5120, 1024, 4096);
    CHECK(dsc_tensor_stored(find(&list, "model.layers.5.mlp.up_proj.weight"), stored) == 1, "up_proj is several");
    check_stored(&stored[0], "model.layers.5.mlp.up_proj.weight", 0, 14336, 4096);
    CHECK(dsc_tensor_stored(find(&list, "lm_head.weight"), stored) == 1, "lm_head is several");
    check_stored(&stored[0], "lm_head.weight", 0, 128256, 4096);
    free(list.items);
    if (!make_list("gpt2", &list)) return;
    CHECK(dsc_tensor_stored(find(&list, "transformer.h.0.attn.c_attn.weight"), stored) == 1, "c_attn is several");
    check_stored(&stored[0], "transformer.h.0.attn.c_attn.weight", 0, 768, 2304);
    free(list.items);
}

static double deviation_of(const dsc_tensor *tensor)
{
    enum { SAMPLE = 30000 };
    float *values = malloc(SAMPLE * sizeof *values);
    double sum = 0;

    if (values == NULL) return NAN;
    dsc_tensor_init(tensor, 1234, 0, SAMPLE, values);
    for (int i = 0; i < SAMPLE; i++) sum += (double)values[i] * values[i];
    free(values);
    return sqrt(sum / SAMPLE);
}

/* Five standard errors of 30000 draws are 2 %. */
static void residual_projections_start_smaller(void)
{
    tensor_list list;
    const dsc_tensor *plain, *residual;

    if (!make_list("gpt2", &list)) return;
    plain = find(&list, "transformer.h.3.mlp.c_fc.weight");
    residual = find(&list, "transformer.h.3.mlp.c_proj.weight");
    CHECK(fabs(deviation_of(plain) / 0.02 - 1) < 0.02, "deviation %g", deviation_of(plain));
    CHECK(fabs(deviation_of(residual) / (0.02 / sqrt(24)) - 1) < 0.02, "deviation %g", deviation_of(residual));
    CHECK(find(&list, "transformer.ln_f.weight")->init_value == 1, "norms do not start at 1");
    free(list.items);
}

static void parts_have_the_values_of_the_whole(void)
{
    enum { WHOLE = 4096 };
    static float whole[WHOLE], part[WHOLE];
    tensor_list list;
    const dsc_tensor *tensor;

    if (!make_list("gpt2", &list)) return;
    tensor = find(&list, "transformer.wte.weight");
    dsc_tensor_init(tensor, 7, 0, WHOLE, whole);
    for (int draw = 0; draw < 100; draw++) {
        int64_t first = tap_random_between(0, WHOLE - 1), count = tap_random_between(1, WHOLE - first);

        dsc_tensor_init(tensor, 7, first, count, part);
        CHECK(memcmp(part, whole + first, (size_t)count * sizeof *part) == 0, "elements %lld + %lld differ",
              (long long)first, (long long)count);
    }
    free(list.items);
}

static void flops_count_all_pairs(void)
{
    dsc_model model;
    double expected = 6.0 * 124439808 + 12.0 * 12 * 768 * 1024;

    if (!CHECK_OK(dsc_model_load("gpt2", &model))) return;
    CHECK(dsc_model_flops_per_token(&model, 1024) == expected, "%.17g", dsc_model_flops_per_token(&model, 1024));
}

static const tap_case cases[] = {
    {"elements of the tensors sum to the model's parameters", elements_sum_to_parameters},
    {"tensors come by layer, then by role", order_is_flat},
    {"no two tensors have one name", names_are_unique},
    {"GPT-2 has its checkpoint's names and shapes", gpt2_has_its_names_and_shapes},
    {"LLaMA has its names and shapes", llama_has_its_names_and_shapes},
    {"files hold tensors as their family does", files_hold_the_family},
    {"residual projections start smaller by sqrt(2 L)", residual_projections_start_smaller},
    {"any part of a tensor has the values of the whole", parts_have_the_values_of_the_whole},
    {"a token costs 6 N + 12 L C T flops", flops_count_all_pairs},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
