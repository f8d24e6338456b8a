/* A row of a table of trainings, as published measurements have them, for dsc-plan --batch: what model, cluster and
 * configuration its cells say. Columns are found by name, and those that a file lacks are empty in every row. What
 * cannot be planned is refused with DSC_EINVAL or DSC_ENOTSUP, whose message is the row's reason. */
#ifndef TOOLS_PLAN_ROW_H
#define TOOLS_PLAN_ROW_H

#include "base/csv.h"
#include "tools/plan/plan.h"

typedef enum row_column {
    ROW_LAYERS, ROW_HIDDEN, ROW_HEADS, ROW_SEQ, ROW_VOCAB, ROW_GPU, ROW_GPUS_TOTAL, ROW_GPUS_PER_NODE, ROW_TP, ROW_PP,
    ROW_DP, ROW_MICRO_BATCH, ROW_GLOBAL_BATCH, ROW_PRECISION,
    ROW_NEEDED, /* so many have to be there */
    ROW_MODEL = ROW_NEEDED, ROW_KV_HEADS, ROW_HEAD_DIM, ROW_FFN_HIDDEN, ROW_GATED_FFN, ROW_GPU_MEM_GB, ROW_PEAK_TFLOPS,
    ROW_INTRA_NODE, ROW_INTER_NODE, ROW_CP, ROW_EP, ROW_VIRTUAL_PP, ROW_ZERO_STAGE, ROW_OFFLOAD, ROW_RECOMPUTE,
    ROW_SEQUENCE_PARALLEL, ROW_FLASH_ATTN, ROW_OPTIMIZER, ROW_STACK, ROW_NOTES,
    ROW_INFERRED_FIELDS,
    ROW_COLUMNS
} row_column;

typedef struct row {
    const dsc_csv *csv;
    int64_t index;            /* in csv */
    int64_t at[ROW_COLUMNS];  /* where the file has the column; -1: nowhere */
} row;

/* Finds the columns. DSC_EINVAL names the file and those that it needs and lacks. */
dsc_status row_init(const dsc_csv *csv, row *out);

/* What a cell says; "" when there is none. Borrowed. */
const char *row_cell(const row *row, row_column column);
const char *row_column_name(row_column column);
/* Whether the source says what the column holds: the cell is not empty, nor named in inferred_fields. */
bool row_is_printed(const row *row, row_column column);

/* That no cell that is needed is empty, and what is asked for can be planned. */
dsc_status row_check(const row *row);

/* A gated MLP makes it one of LLaMA's family: RMSNorm, rotary positions, a head of its own. */
dsc_status row_model(const row *row, dsc_model *out);

/* The row's strategy over what *config holds, with its attention, which the caller destroys after the configuration's
 * last use. An empty recompute leaves that of *config. */
dsc_status row_config(const row *row, dsc_config *config, dsc_attention **attention);

/* The preset that has the row's GPU and is nearest in GPUs a node, as large, and with links and NICs as fast as the row
 * says; GPUs that one NVLink domain joins over nodes are one node. What is taken from elsewhere is added to notes. */
dsc_status row_cluster(const row *row, dsc_dtype precision, dsc_cluster **out, dsc_text *notes);

#endif
