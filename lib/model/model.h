/* What a transformer is: sizes, variants, its tensors with logical names. Knows nothing of ranks, precision or batches,
 * beyond the rule by which each tensor would be cut. */
#ifndef DSC_MODEL_MODEL_H
#define DSC_MODEL_MODEL_H

#include "base/text.h"

typedef enum dsc_norm { DSC_NORM_LAYER, DSC_NORM_RMS } dsc_norm;
typedef enum dsc_pos { DSC_POS_LEARNED, DSC_POS_ROPE } dsc_pos;

/* Sizes of a decoder (or, with causal false, encoder) stack. Plain facts; valid once dsc_model_check has passed. */
typedef struct dsc_model {
    char name[128];   /* as the user wrote it, shortened */
    int64_t layers, hidden, heads, kv_heads, ffn, vocab, seq;
    bool gated;       /* three-matrix MLP (SwiGLU) */
    bool causal;
    bool tied;        /* head shares the embedding */
    dsc_norm norm;
    dsc_pos pos;
    int64_t rope_theta; /* pos rope: base of the angles */
} dsc_model;

enum { DSC_ROPE_THETA_DEFAULT = 10000 };

/* Which part of a layer a tensor belongs to; also its place in the flat order. */
typedef enum dsc_role {
    DSC_ROLE_WTE, DSC_ROLE_WPE,
    DSC_ROLE_NORM1_W, DSC_ROLE_NORM1_B, DSC_ROLE_QKV_W, DSC_ROLE_QKV_B, DSC_ROLE_PROJ_W, DSC_ROLE_PROJ_B,
    DSC_ROLE_NORM2_W, DSC_ROLE_NORM2_B, DSC_ROLE_FC_W, DSC_ROLE_FC_B, DSC_ROLE_GATE_W, DSC_ROLE_GATE_B,
    DSC_ROLE_OUT_W, DSC_ROLE_OUT_B,
    DSC_ROLE_NORMF_W, DSC_ROLE_NORMF_B, DSC_ROLE_HEAD_W,
    DSC_ROLE_COUNT
} dsc_role;

/* How tensor parallelism cuts a tensor (techniques: Megatron's column and row parallel products). */
typedef enum dsc_cut {
    DSC_CUT_NONE,    /* whole on every rank */
    DSC_CUT_ROWS,    /* dimension 0: row-parallel products, vocabulary */
    DSC_CUT_COLUMNS, /* the last dimension: column-parallel products and their biases */
    DSC_CUT_QKV      /* the last dimension, each of q, k, v by heads */
} dsc_cut;

typedef struct dsc_tensor {
    char name[96];    /* Hugging Face's for the family: transformer.h.0.attn.c_attn.weight */
    dsc_role role;
    int64_t layer;    /* -1 outside the layers */
    int dims;
    int64_t shape[2];
    dsc_cut cut;
    bool is_turned;   /* files hold it as [out, in] (dsc_tensor_stored) */
    double init_std;  /* normal with mean 0; 0: constant init_value */
    float init_value;
} dsc_tensor;

/* Reads a description: a preset's name, a Hugging Face config.json or its folder, or inline `layers=12,hidden=768,...`.
 * DSC_EINVAL names the preset and its neighbours, the file and key, or the inline key. */
dsc_status dsc_model_load(const char *description, dsc_model *out);

/* Sizes positive and within 2^40, heads divide hidden, kv_heads divide heads, parameters fit 63 bits. */
dsc_status dsc_model_check(const dsc_model *model);

/* NULL-terminated names of presets, and a line about each. */
const char *const *dsc_model_presets(void);
void dsc_model_print(const dsc_model *model, dsc_text *out); /* one line: "gpt2: 12 layers, ..., 124.4 M parameters" */

/* The description as JSON text, by its inline keys: {"layers":12,...}. A file of it loads as the same model. Heap; NULL
 * when memory is out. */
char *dsc_model_json(const dsc_model *model);
/* The same inline, as dsc_model_load takes it: sizes, and what is not as by default. */
void dsc_model_words(const dsc_model *model, dsc_text *out);

/* All tensors in flat order: wte, wpe, then layer by layer in the order of dsc_role, final norm, head (untied only).
 * Owned by the caller (free). A 10^6-layer model is refused by dsc_model_check before it gets here.
 * GPT-2's names and [in, out] orientation; LLaMA's names where norm=rms, pos=rope, gated=1, whose fused q, k, v are one
 * tensor here, `model.layers.0.self_attn.qkv_proj.weight` [in, q + k + v], taken apart by checkpoints. */
dsc_status dsc_model_tensors(const dsc_model *model, dsc_tensor **out, int64_t *count);

/* What files of the family hold of a tensor, a vector being one row: some of its columns under a name, as they are, or,
 * where the tensor is turned, as rows. */
typedef struct dsc_stored {
    char name[96];
    int64_t column, columns; /* of the tensor */
    int dims;
    int64_t shape[2];        /* in the file */
} dsc_stored;
enum { DSC_STORED_MOST = 3 };
int dsc_tensor_stored(const dsc_tensor *tensor, dsc_stored out[DSC_STORED_MOST]); /* how many. Pure. */

int64_t dsc_model_parameters(const dsc_model *model); /* all, tied ones once. Pure. */

/* Model FLOPs of a token, forward and backward: 6 N + 12 L C T (PaLM, appendix B), not halved for causality. Pure. */
double dsc_model_flops_per_token(const dsc_model *model, int64_t seq);

/* Elements first .. first + count - 1 of the tensor's initial value, fp32: of (seed, name, element) alone. Pure. */
void dsc_tensor_init(const dsc_tensor *tensor, uint64_t seed, int64_t first, int64_t count, float *out);
int64_t dsc_tensor_elems(const dsc_tensor *tensor);

#endif
