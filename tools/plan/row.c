#include "tools/plan/row.h"
#include "base/parse.h"
#include "model/attention.h"
#include <inttypes.h>
#include <string.h>

/* ---- Columns */

static const char *const names[ROW_COLUMNS] = {
    [ROW_LAYERS] = "layers", [ROW_HIDDEN] = "hidden", [ROW_HEADS] = "heads", [ROW_SEQ] = "seq",
    [ROW_VOCAB] = "vocab", [ROW_GPU] = "gpu", [ROW_GPUS_TOTAL] = "gpus_total", [ROW_GPUS_PER_NODE] = "gpus_per_node",
    [ROW_TP] = "tp", [ROW_PP] = "pp", [ROW_DP] = "dp", [ROW_MICRO_BATCH] = "micro_batch",
    [ROW_GLOBAL_BATCH] = "global_batch", [ROW_PRECISION] = "precision", [ROW_MODEL] = "model",
    [ROW_KV_HEADS] = "kv_heads", [ROW_HEAD_DIM] = "head_dim", [ROW_FFN_HIDDEN] = "ffn_hidden",
    [ROW_GATED_FFN] = "gated_ffn", [ROW_GPU_MEM_GB] = "gpu_mem_GB", [ROW_PEAK_TFLOPS] = "peak_tflops",
    [ROW_INTRA_NODE] = "intra_node", [ROW_INTER_NODE] = "inter_node_Gbps_per_node", [ROW_CP] = "cp", [ROW_EP] = "ep",
    [ROW_VIRTUAL_PP] = "virtual_pp", [ROW_ZERO_STAGE] = "zero_stage", [ROW_OFFLOAD] = "offload",
    [ROW_RECOMPUTE] = "recompute", [ROW_SEQUENCE_PARALLEL] = "sequence_parallel", [ROW_FLASH_ATTN] = "flash_attn",
    [ROW_OPTIMIZER] = "optimizer", [ROW_STACK] = "stack", [ROW_NOTES] = "notes",
    [ROW_INFERRED_FIELDS] = "inferred_fields"};

dsc_status row_init(const dsc_csv *csv, row *out)
{
    dsc_status status = DSC_OK;
    dsc_text missing = {0};

    *out = (row){.csv = csv};
    for (int i = 0; i < ROW_COLUMNS; i++) {
        out->at[i] = dsc_csv_find(csv, names[i]);
        if (i < ROW_NEEDED && out->at[i] < 0) dsc_text_add(&missing, "%s%s", missing.count > 0 ? ", " : "", names[i]);
    }
    if (missing.count > 0)
        status = DSC_FAIL(DSC_EINVAL, "%s:1:1: the first line does not name the column%s %s", csv->name,
                          strchr(missing.bytes, ',') != NULL ? "s" : "", missing.bytes);
    dsc_text_fini(&missing);
    return status;
}

const char *row_cell(const row *row, row_column column)
{
    return dsc_csv_text(row->csv, row->index, row->at[column]);
}

const char *row_column_name(row_column column)
{
    return names[column];
}

static bool is_empty(const row *row, row_column column)
{
    return row_cell(row, column)[0] == '\0';
}

bool row_is_printed(const row *row, row_column column)
{
    return !is_empty(row, column) && strstr(row_cell(row, ROW_INFERRED_FIELDS), names[column]) == NULL;
}

/* ---- What there has to be */

static dsc_status check_missing(const row *row)
{
    dsc_status status = DSC_OK;
    dsc_text missing = {0};

    for (int i = 0; i < ROW_NEEDED; i++)
        if (is_empty(row, i)) dsc_text_add(&missing, "%s%s", missing.count > 0 ? ", " : "", names[i]);
    if (missing.count > 0) status = DSC_FAIL(DSC_EINVAL, "missing: %s", missing.bytes);
    dsc_text_fini(&missing);
    return status;
}

/* A count; empty: 1. */
static dsc_status read_count(const row *row, row_column column, int64_t *out)
{
    *out = 1;
    if (is_empty(row, column)) return DSC_OK;
    return dsc_parse_int(names[column], row_cell(row, column), 1, 1 << 20, out);
}

/* A row with another number of GPUs than ranks has a slip in one of them: leaving GPUs idle would hide it. */
static dsc_status check_ranks(const row *row)
{
    static const row_column degrees[] = {ROW_TP, ROW_PP, ROW_DP, ROW_CP};
    int64_t total, degree, ranks = 1;
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(degrees); i++) {
        DSC_TRY(read_count(row, degrees[i], &degree));
        if (!dsc_mul(ranks, degree, &ranks)) ranks = INT64_MAX;
    }
    DSC_TRY(read_count(row, ROW_GPUS_TOTAL, &total));
    if (ranks != total)
        status = DSC_FAIL(DSC_EINVAL, "tp x pp x dp x cp is %" PRId64 ", and gpus_total %" PRId64, ranks, total);
out:
    return status;
}

dsc_status row_check(const row *row)
{
    dsc_status status = DSC_OK;
    int64_t experts;

    DSC_TRY(check_missing(row));
    DSC_TRY(check_ranks(row));
    DSC_TRY(read_count(row, ROW_EP, &experts));
    if (experts > 1) return DSC_FAIL(DSC_ENOTSUP, "ep %" PRId64 ": layers of experts are not planned", experts);
out:
    return status;
}

/* ---- The model */

static void add_key(const row *row, row_column column, const char *key, dsc_text *out)
{
    if (!is_empty(row, column)) dsc_text_add(out, ",%s=%s", key, row_cell(row, column));
}

/* A head's size follows from the others in every model that can be planned. */
static dsc_status check_head_dim(const row *row, const dsc_model *model)
{
    dsc_status status = DSC_OK;
    int64_t size;

    if (is_empty(row, ROW_HEAD_DIM)) return DSC_OK;
    DSC_TRY(read_count(row, ROW_HEAD_DIM, &size));
    if (size != model->hidden / model->heads)
        status = DSC_FAIL(DSC_ENOTSUP, "head_dim %" PRId64 ": only heads of hidden / heads = %" PRId64 " are planned",
                          size, model->hidden / model->heads);
out:
    return status;
}

dsc_status row_model(const row *row, dsc_model *out)
{
    dsc_text words = {0};
    dsc_status status = DSC_OK;
    int64_t gated = 0;

    dsc_text_add(&words, "layers=%s", row_cell(row, ROW_LAYERS));
    add_key(row, ROW_HIDDEN, "hidden", &words);
    add_key(row, ROW_HEADS, "heads", &words);
    add_key(row, ROW_KV_HEADS, "kv_heads", &words);
    add_key(row, ROW_FFN_HIDDEN, "ffn", &words);
    add_key(row, ROW_VOCAB, "vocab", &words);
    add_key(row, ROW_SEQ, "seq", &words);
    if (!is_empty(row, ROW_GATED_FFN))
        DSC_TRY(dsc_parse_int(names[ROW_GATED_FFN], row_cell(row, ROW_GATED_FFN), 0, 1, &gated));
    if (gated) dsc_text_add(&words, ",gated=1,norm=rms,pos=rope,tied=0");
    if (words.failed) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "the row's model"));
    DSC_TRY(dsc_model_load(words.bytes, out));
    if (!is_empty(row, ROW_MODEL)) snprintf(out->name, sizeof out->name, "%s", row_cell(row, ROW_MODEL));
    DSC_TRY(check_head_dim(row, out));
out:
    dsc_text_fini(&words);
    return status;
}

/* ---- The configuration */

/* Words of tables for words of options. accumulation: of --grad-accum-dtype, where the word says that too. FSDP's
 * PURE keeps and sums gradients in the precision of the passes, DEFAULT in fp32; ways to scale fp8 multiply alike. */
typedef struct synonym { const char *word, *option, *accumulation; } synonym;

static const synonym precisions[] = {
    {"bf16/PURE", "bf16", "bf16"}, {"amp_bf16/PURE", "bf16", "bf16"}, {"bf16/DEFAULT", "bf16", "fp32"},
    {"amp_bf16/DEFAULT", "bf16", "fp32"}, {"mxfp8", "fp8", NULL}, {"fp8-cs", "fp8", NULL}, {"fp8-mx", "fp8", NULL},
    {"fp8-cs (fp8-mx)", "fp8", NULL}, {0}};
static const synonym offloads[] = {
    {"cpu:optimizer", "optimizer", NULL}, {"cpu:param+optimizer", "params", NULL},
    {"cpu:optimizer+param", "params", NULL}, {0}};
static const synonym optimizers[] = { /* a distributed one is ZeRO's first stage, which zero_stage says */
    {"distributed adam", "adam", NULL}, {"adamw(decoupled)", "adamw", NULL}, {0}};
static const synonym attentions[] = {{"1", "dense", NULL}, {"0", "dense-unfused", NULL}, {0}};
static const synonym none[] = {{0}};

static const struct { row_column column; const char *option; const synonym *synonyms; } rows[] = {
    {ROW_TP, "tp", none}, {ROW_PP, "pp", none}, {ROW_DP, "dp", none}, {ROW_CP, "cp", none},
    {ROW_VIRTUAL_PP, "virtual-stages", none}, {ROW_MICRO_BATCH, "micro-batch", none},
    {ROW_GLOBAL_BATCH, "global-batch", none}, {ROW_ZERO_STAGE, "zero", none}, {ROW_OFFLOAD, "offload", offloads},
    {ROW_RECOMPUTE, "recompute", none}, {ROW_SEQUENCE_PARALLEL, "sequence-parallel", none},
    {ROW_FLASH_ATTN, "attention", attentions}, {ROW_PRECISION, "precision", precisions},
    {ROW_OPTIMIZER, "optimizer", optimizers}};

static dsc_status set_option(const char *option, const char *column, const char *word, dsc_config *config)
{
    return dsc_field_set(dsc_field_find(dsc_config_fields(), option), config, column, word);
}

static dsc_status set_cell(const row *row, row_column column, const char *option, const synonym *synonyms,
                           dsc_config *config)
{
    const char *word = row_cell(row, column);
    dsc_status status = DSC_OK;

    while (synonyms->word != NULL && !dsc_equal(synonyms->word, word)) synonyms++;
    if (synonyms->word != NULL) word = synonyms->option;
    DSC_TRY(set_option(option, names[column], word, config));
    if (synonyms->accumulation != NULL)
        DSC_TRY(set_option("grad-accum-dtype", names[column], synonyms->accumulation, config));
out:
    return status;
}

dsc_status row_config(const row *row, dsc_config *config, dsc_attention **attention)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < DSC_COUNT(rows); i++)
        if (!is_empty(row, rows[i].column))
            DSC_TRY(set_cell(row, rows[i].column, rows[i].option, rows[i].synonyms, config));
    config->strategy.seq_len = 0;            /* the row's model has it */
    config->gradient_accumulation_steps = 0; /* follows from the row's batch */
    DSC_TRY(dsc_config_check(config));
    if (is_empty(row, ROW_FLASH_ATTN)) return DSC_OK;
    DSC_TRY(dsc_attention_create(config->strategy.attention, names[ROW_FLASH_ATTN], "", NULL, attention));
    config->attention = *attention;
out:
    return status;
}
