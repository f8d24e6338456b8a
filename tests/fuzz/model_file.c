/* Any bytes as the file of a model, ours or Hugging Face's, and as an inline description: refused with a message, or a
 * model whose JSON reads back as itself and whose tensors have as many elements as are counted. For libFuzzer;
 * model_file.sh builds and runs it. */
#include "model/parts.h"
#include "tests/fuzz/file.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_reads_back(const dsc_model *model)
{
    char *text = dsc_model_json(model);
    dsc_model again;

    if (text == NULL || dsc_model_load(path_of(text, strlen(text)), &again) != DSC_OK) abort();
    memcpy(again.name, model->name, sizeof again.name);
    free(text);
    text = dsc_model_json(&again);
    if (dsc_model_parameters(&again) != dsc_model_parameters(model) || again.causal != model->causal ||
        again.norm != model->norm || again.pos != model->pos || again.heads != model->heads)
        abort();
    free(text);
}

static void check_tensors(const dsc_model *model)
{
    dsc_tensor *tensors = NULL;
    int64_t count = 0, elems = 0;

    if (model->layers > 64) return; /* more of the same */
    if (dsc_model_tensors(model, &tensors, &count) != DSC_OK) abort();
    for (int64_t i = 0; i < count; i++) elems += dsc_tensor_elems(&tensors[i]);
    if (elems != dsc_model_parameters(model)) abort();
    free(tensors);
}

static void judge(dsc_status status, const dsc_model *model)
{
    dsc_text line = {0};

    if (status != DSC_OK) {
        if ((status != DSC_EINVAL && status != DSC_ENOTSUP) || dsc_message()[0] == '\0') abort();
        return;
    }
    dsc_model_print(model, &line);
    if (line.failed || !(dsc_model_flops_per_token(model, model->seq) > 0)) abort();
    dsc_text_fini(&line);
    check_tensors(model);
    check_reads_back(model);
}

/* As the command line has it: what stands before the first NUL. */
static void read_inline(const uint8_t *data, size_t size)
{
    char *text = calloc(1, size + 1);
    dsc_model model = {.name = "inline"};
    dsc_status status;

    memcpy(text, data, size);
    status = dsc_model_from_inline("inline", text, &model);
    if (status == DSC_OK) status = dsc_model_check(&model);
    judge(status, &model);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dsc_model model = {0};

    judge(dsc_model_load(path_of(data, size), &model), &model);
    read_inline(data, size);
    return 0;
}
