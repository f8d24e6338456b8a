/* The one table of what can be configured: its rows make the command line, --help, JSON and the copy in every trace. */
#include "base/parse.h"
#include "base/text.h"
#include "config/config.h"
#include <float.h>
#include <stddef.h>
#include <string.h>

const dsc_config DSC_CONFIG_DEFAULT = {
    .strategy = {.optimizer = DSC_ADAMW, .grad_accum_dtype = -1, .offload_ratio = 1,
                 .prefetch = DSC_AUTO},
    .lr = 1e-3,
    .beta1 = 0.9,
    .beta2 = 0.999,
    .eps = 1e-8,
    .bias_correction = true,
    .seed = 1234,
    .freeze_step = 100000,
    .var_freeze_step = 100000,
    .var_update_scaler = 16,
    .local_step_scaler = 32678,
    .local_step_clipper = 16,
    .trust = {.max_coeff = 10, .min_coeff = 0.01, .coeff_beta = 0.9, .factor_max = 4, .factor_min = 0.5,
              .factor_threshold = 0.1},
    .scheduler = {.warmup_max_lr = 1e-3,
                  .warmup_num_steps = 1000,
                  .cos_min_ratio = 1e-4,
                  .range_min_lr = 1e-3,
                  .range_step_rate = 1,
                  .range_step_size = 2000,
                  .cycle_first_step_size = 2000,
                  .cycle_momentum = true,
                  .cycle_min_mom = 0.8,
                  .cycle_max_mom = 0.9},
    .initial_scale_power = 16,
    .loss_scale_window = 1000,
    .hysteresis = 2,
    .min_loss_scale = 1,
};

/* ---- Words of choices, in the order of their enums unless values say otherwise */

static const char *const schedules[] = {"auto", "gpipe", "1f1b", "interleaved", "zb-h1", NULL};
static const char *const partitions[] = {"uniform", "parameters", "cost", NULL};
static const char *const stages[] = {"0", "1", "2", "3", NULL};
static const char *const offloads[] = {"none", "optimizer", "params", NULL};
static const char *const recomputes[] = {"none", "selective", "full", NULL};
static const char *const checkpoints[] = {"auto", "whole", "cut", "host", NULL};
static const char *const communications[] = {"direct", "staged", NULL};
static const char *const optimizers[] = {"adam", "adamw", "onebit-adam", "zero-one-adam", "onebit-lamb", NULL};
static const char *const semantics[] = {"paper", "reference", NULL};
static const char *const exchanges[] = {"auto", "flat", "hierarchical", NULL};
static const char *const precisions[] = {"fp32", "fp16", "bf16", "fp8", NULL};
static const int precision_values[] = {DSC_FP32, DSC_FP16, DSC_BF16, DSC_FP8};
static const char *const accumulations[] = {"auto", "fp32", "fp16", "bf16", NULL};
static const int accumulation_values[] = {-1, DSC_FP32, DSC_FP16, DSC_BF16};
static const char *const automatic[] = {"auto", NULL};
static const char *const schedulers[] = {"constant",    "WarmupLR", "WarmupDecayLR", "WarmupCosineLR",
                                         "LRRangeTest", "OneCycle", NULL};
static const char *const warmups[] = {"log", "linear", NULL};

/* ---- Rows */

#define AT(member) offsetof(dsc_config, member)
#define INT(name, member, low, high, help) {name, DSC_FIELD_INT, AT(member), 0, low, high, NULL, NULL, "N", help, NULL}
#define REAL(name, member, low, high, help) \
    {name, DSC_FIELD_REAL, AT(member), 0, low, high, NULL, NULL, "X", help, NULL}
#define BOOL(name, member, help) {name, DSC_FIELD_BOOL, AT(member), 0, 0, 0, NULL, NULL, "0|1", help, NULL}
#define FLAG(name, member, help) {name, DSC_FIELD_FLAG, AT(member), 0, 0, 0, NULL, NULL, NULL, help, NULL}
#define BYTES(name, member, help) {name, DSC_FIELD_BYTES, AT(member), 0, 1, 0x1p60, NULL, NULL, "SIZE", help, NULL}
#define CHOICE(name, member, words, values, help) \
    {name, DSC_FIELD_CHOICE, AT(member), 0, 0, 0, words, values, NULL, help, NULL}
#define STRING(name, member, argument, help)                                                                           \
    {name, DSC_FIELD_STRING, AT(member), sizeof((dsc_config *)0)->member, 0, 0, NULL, NULL, argument, help, NULL}
#define HEADED(heading, name, member, words, help) \
    {name, DSC_FIELD_CHOICE, AT(member), 0, 0, 0, words, NULL, NULL, help, heading}

#define MOST_RANKS 0x1p20 /* of a degree */
#define MOST 0x1p40       /* of a count */
#define ANY_REAL 1e30     /* of a factor: keeps float products finite */

static const dsc_field fields[] = {
    INT("tp", strategy.tp, 1, MOST_RANKS, "tensor parallel degree (1)"),
    INT("pp", strategy.pp, 1, MOST_RANKS, "pipeline stages (1)"),
    INT("dp", strategy.dp, 1, MOST_RANKS, "data parallel degree (devices / (tp pp cp))"),
    INT("cp", strategy.cp, 1, MOST_RANKS, "context parallel degree (1)"),
    INT("micro-batch", strategy.micro_batch, 1, MOST, "sequences of a replica at a time (1)"),
    INT("global-batch", strategy.global_batch, 1, MOST, "sequences of a step (micro-batch x dp)"),
    INT("gradient-accumulation-steps", gradient_accumulation_steps, 1, MOST, "micro-batches of a step (by the batch)"),
    INT("seq-len", strategy.seq_len, 1, MOST, "tokens of a sequence (the model's)"),
    INT("virtual-stages", strategy.virtual_stages, 1, MOST_RANKS, "chunks of layers on each stage (1)"),
    CHOICE("schedule", strategy.schedule, schedules, NULL, "of the pipeline (1f1b, or interleaved for virtual stages)"),
    CHOICE("partition", strategy.partition, partitions, NULL, "by which chunks of layers are even (uniform: number)"),
    CHOICE("zero", strategy.zero, stages, NULL, "ZeRO stage: what is sharded over data parallel ranks (0)"),
    CHOICE("offload", strategy.offload, offloads, NULL, "to host memory; params means optimizer too (none)"),
    {"offload-ratio", DSC_FIELD_REAL, AT(strategy.offload_ratio), 0, 0, 1, automatic, NULL, "X|auto",
     "share of the optimizer's states that is offloaded; auto: dsc-plan finds the fastest (1)", NULL},
    INT("delay-update", strategy.delay_update, 0, MOST,
        "updates before those in host memory overlap the next step's passes; 0 is never (0)"),
    {"prefetch", DSC_FIELD_INT, AT(strategy.prefetch), 0, 0, 64, automatic, NULL, "N|auto",
     "buckets of parameters that are fetched ahead of the passes (auto: 1, or as --stack does)", NULL},
    CHOICE("recompute", strategy.recompute, recomputes, NULL, "activations in backward (none)"),
    INT("recompute-layers", strategy.recompute_layers, 0, MOST,
        "layers of each chunk that are recomputed, the first ones; 0 is all (0)"),
    CHOICE("activation-checkpoints", strategy.checkpoints, checkpoints, NULL,
           "a layer's input under full recomputation: whole, cut over tensor ranks, or cut and in host memory (auto: "
           "whole, or as --stack does)"),
    FLAG("keep-outputs", strategy.keeps_outputs,
         "a stage's outputs are kept until their gradients come, as frameworks keep graphs (off, or as --stack does)"),
    FLAG("recompute-outputs", strategy.recomputes_outputs,
         "a layer's last product is recomputed too, as frameworks do (off, or as --stack does)"),
    FLAG("scatter-messages", strategy.scatters_messages,
         "tensor ranks send a part each of what stages pass on, and gather it there (off, or as --stack does)"),
    FLAG("widen-logits", strategy.widens_logits,
         "16-bit logits are copied to fp32 for a loss whose steps stand apart, as eager frameworks have it (off, or as "
         "--stack does)"),
    FLAG("widen-gradients", strategy.widens_gradients,
         "all 16-bit gradients are copied to fp32 before the update (off, or as --stack does)"),
    FLAG("late-gather", strategy.late_gather,
         "--zero 1, 2: updated weights are gathered beside the next step's first passes (off, or as --stack does)"),
    CHOICE("communication", strategy.communication, communications, NULL,
           "of what is in device memory: direct, or staged, copied to the host's memory and back (direct)"),
    FLAG("sequence-parallel", strategy.sequence_parallel, "shard activations between tensor parallel products"),
    CHOICE("precision", strategy.precision, precisions, precision_values, "of weights and activations (fp32)"),
    CHOICE("grad-accum-dtype", strategy.grad_accum_dtype, accumulations, accumulation_values,
           "of accumulated gradients (auto: the precision for one micro-batch, else fp32, or as --stack does)"),
    STRING("attention", strategy.attention, "KIND",
           "dense, dense-unfused, fixed, variable, bigbird, bslongformer, local, sparse, or a file of a layout; then "
           "for some layers another, as ,0=dense,4-7=local (sparse where CONFIG has sparse_attention, else dense)"),
    STRING("sparse-attention", sparse_attention, "JSON",
           "what --attention sparse is: DeepSpeed's section sparse_attention, as "
           "{\"mode\": \"bigbird\", \"block\": 64}"),
    FLAG("reference-layout", strategy.reference_layout,
         "sparse layouts as DeepSpeed computes them, in which a causal model looks ahead"),
    STRING("rank-order", strategy.rank_order, "AXES", "axes of the ranks, fastest first, as tp,dp,pp (by links)"),
    BYTES("device-memory", strategy.device_memory_bytes, "hard capacity of a rank's device (the cluster's)"),
    BYTES("host-memory", strategy.host_memory_bytes, "hard capacity of a rank's host memory (the cluster's)"),
    INT("bucket-size", strategy.bucket_elems, 1, MOST,
        "gradients in one data parallel message (by the model's size, or as --stack does)"),

    HEADED("Optimizer", "optimizer", strategy.optimizer, optimizers, "update rule (adamw)"),
    REAL("lr", lr, 0, ANY_REAL, "learning rate (1e-3)"),
    REAL("beta1", beta1, 0, 1, "decay of the first moment (0.9)"),
    REAL("beta2", beta2, 0, 1, "decay of the second moment (0.999)"),
    REAL("eps", eps, 0, ANY_REAL, "added to the root of the second moment (1e-8)"),
    REAL("weight-decay", weight_decay, 0, ANY_REAL, "on all tensors (0)"),
    FLAG("l2-decay", strategy.l2_decay, "weight decay through the gradient: DeepSpeed's adam_w_mode false"),
    BOOL("bias-correction", bias_correction, "of Adam's moments (1)"),
    REAL("gradient-clipping", clip, 0, ANY_REAL, "largest global gradient norm; 0 is off (0)"),
    {"freeze-step", DSC_FIELD_INT, AT(freeze_step), 0, 0, MOST, automatic, NULL, "N|auto",
     "last step of 1-bit Adam's and LAMB's warm-up; auto: when the variance has settled (100000)", NULL},
    INT("var-freeze-step", var_freeze_step, 1, MOST, "last step of 0/1 Adam at which the variance moves (100000)"),
    INT("var-update-scaler", var_update_scaler, 1, MOST,
        "0/1 Adam: updates of the variance until the interval between them doubles (16)"),
    INT("local-step-scaler", local_step_scaler, 1, MOST,
        "0/1 Adam: replicas' own steps until the interval between their exchanges doubles (32678)"),
    INT("local-step-clipper", local_step_clipper, 1, MOST, "0/1 Adam: longest interval between exchanges (16)"),
    REAL("max-coeff", trust.max_coeff, 0, ANY_REAL, "1-bit LAMB: largest ratio of weights' norm to update's (10)"),
    REAL("min-coeff", trust.min_coeff, 0, ANY_REAL, "1-bit LAMB: smallest (0.01)"),
    REAL("coeff-beta", trust.coeff_beta, 0, 1, "1-bit LAMB: decay of its mean, by which compressed steps go (0.9)"),
    REAL("factor-max", trust.factor_max, 0, ANY_REAL, "1-bit LAMB: what they multiply it by, at most (4)"),
    REAL("factor-min", trust.factor_min, 0, ANY_REAL, "1-bit LAMB: at least (0.5)"),
    REAL("factor-threshold", trust.factor_threshold, 0, 1,
         "1-bit LAMB: by what share of itself that changes in a step at most (0.1)"),
    CHOICE("onebit-semantics", strategy.semantics, semantics, NULL,
           "of 1-bit Adam: the paper's, or DeepSpeed's with all that it loses (paper)"),
    CHOICE("onebit-exchange", strategy.exchange, exchanges, NULL,
           "hierarchical: exact inside a node, 1 bit between nodes (auto: where replicas share nodes)"),
    INT("seed", seed, 0, 0x1p63, "of initial weights and sample order (1234)"),
    INT("steps-per-print", steps_per_print, 0, MOST, "steps between lines on standard output; 0 is every step (0)"),

    HEADED("Learning rate", "scheduler", scheduler.type, schedulers, "DeepSpeed's class of that name (constant)"),
    REAL("warmup-min-lr", scheduler.warmup_min_lr, 0, ANY_REAL, "WarmupLR, WarmupDecayLR: first rate (0)"),
    REAL("warmup-max-lr", scheduler.warmup_max_lr, 0, ANY_REAL, "WarmupLR, WarmupDecayLR: rate after it (1e-3)"),
    INT("warmup-num-steps", scheduler.warmup_num_steps, 0, MOST, "length of the warm-up (1000)"),
    CHOICE("warmup-type", scheduler.warmup_type, warmups, NULL, "shape of the warm-up (log)"),
    INT("total-num-steps", scheduler.total_num_steps, 1, MOST, "WarmupDecayLR, WarmupCosineLR: end of the decay"),
    REAL("warmup-min-ratio", scheduler.warmup_min_ratio, 0, ANY_REAL, "WarmupCosineLR: first share of lr (0)"),
    REAL("cos-min-ratio", scheduler.cos_min_ratio, 0, ANY_REAL, "WarmupCosineLR: last share of lr (1e-4)"),
    REAL("lr-range-test-min-lr", scheduler.range_min_lr, 0, ANY_REAL, "LRRangeTest: first rate (1e-3)"),
    INT("lr-range-test-step-size", scheduler.range_step_size, 1, MOST, "LRRangeTest: steps of one increase (2000)"),
    REAL("lr-range-test-step-rate", scheduler.range_step_rate, 0, ANY_REAL, "LRRangeTest: size of one increase (1)"),
    BOOL("lr-range-test-staircase", scheduler.range_staircase, "LRRangeTest: increase in stairs (0)"),
    REAL("cycle-min-lr", scheduler.cycle_min_lr, 0, ANY_REAL, "OneCycle: first and last rate"),
    REAL("cycle-max-lr", scheduler.cycle_max_lr, 0, ANY_REAL, "OneCycle: rate at the peak"),
    INT("cycle-first-step-size", scheduler.cycle_first_step_size, 1, MOST, "OneCycle: steps up (2000)"),
    INT("cycle-second-step-size", scheduler.cycle_second_step_size, 1, MOST, "OneCycle: steps down (as many)"),
    INT("decay-step-size", scheduler.decay_step_size, 0, MOST, "OneCycle: steps of one decay; 0 is off (0)"),
    REAL("decay-lr-rate", scheduler.decay_lr_rate, 0, ANY_REAL, "OneCycle: size of one decay (0)"),
    BOOL("cycle-momentum", scheduler.cycle_momentum, "OneCycle: cycle beta1 against the rate (1)"),
    REAL("cycle-min-mom", scheduler.cycle_min_mom, 0, 1, "OneCycle: beta1 at the peak (0.8)"),
    REAL("cycle-max-mom", scheduler.cycle_max_mom, 0, 1, "OneCycle: beta1 at the end (0.9)"),
    REAL("decay-mom-rate", scheduler.decay_mom_rate, 0, ANY_REAL, "OneCycle: growth of beta1 in a decay (0)"),

    {"loss-scale", DSC_FIELD_REAL, AT(loss_scale), 0, 0, ANY_REAL, NULL, NULL, "X", "fixed; 0 is dynamic (0)",
     "Loss scale of fp16"},
    INT("initial-scale-power", initial_scale_power, 0, 100, "of the dynamic scale: 2^N (16)"),
    INT("loss-scale-window", loss_scale_window, 1, MOST, "steps without overflow until the scale doubles (1000)"),
    INT("hysteresis", hysteresis, 1, MOST, "overflows until the scale is halved (2)"),
    BOOL("consecutive-hysteresis", consecutive_hysteresis, "refill hysteresis after each step without overflow (0)"),
    REAL("min-loss-scale", min_loss_scale, 0x1p-100, ANY_REAL, "an overflow there is an error (1)"),
    {0},
};

const dsc_field *dsc_config_fields(void)
{
    return fields;
}

static bool same_name(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++)
        if (*a != *b && !(strchr("-_", *a) && strchr("-_", *b))) return false;
    return *a == *b;
}

const dsc_field *dsc_field_find(const dsc_field *rows, const char *name)
{
    for (; rows->name != NULL; rows++)
        if (same_name(rows->name, name)) return rows;
    return NULL;
}

/* ---- Setting */

static bool is_bounded(const dsc_field *field)
{
    return field->low < 0 || field->low > 0 || field->high > 0;
}

static int64_t clamp_int(double bound)
{
    if (bound >= 0x1p63) return INT64_MAX;
    if (bound <= -0x1p63) return INT64_MIN;
    return (int64_t)bound;
}

static dsc_status set_int(const dsc_field *field, int64_t *out, const char *what, const char *word)
{
    int64_t low = is_bounded(field) ? clamp_int(field->low) : INT64_MIN;
    int64_t high = is_bounded(field) ? clamp_int(field->high) : INT64_MAX;

    if (field->choices != NULL && dsc_equal(word, field->choices[0])) {
        *out = DSC_AUTO;
        return DSC_OK;
    }
    return dsc_parse_int(what, word, low, high, out);
}

static dsc_status set_real(const dsc_field *field, double *out, const char *what, const char *word)
{
    double low = is_bounded(field) ? field->low : -DBL_MAX;
    double high = is_bounded(field) ? field->high : DBL_MAX;

    if (field->choices != NULL && dsc_equal(word, field->choices[0])) {
        *out = DSC_AUTO;
        return DSC_OK;
    }
    return dsc_parse_real(what, word, low, high, out);
}

static dsc_status set_bytes(const dsc_field *field, int64_t *out, const char *what, const char *word)
{
    int64_t bytes;

    if (field->choices != NULL && dsc_equal(word, field->choices[0])) {
        *out = DSC_AUTO;
        return DSC_OK;
    }
    if (dsc_parse_bytes(what, word, &bytes) != DSC_OK) return DSC_EINVAL;
    if (is_bounded(field) && ((double)bytes < field->low || (double)bytes > field->high))
        return DSC_FAIL(DSC_EINVAL, "%s: %s is outside %s .. %s", what, word, dsc_bytes_str(clamp_int(field->low)).str,
                        dsc_bytes_str(clamp_int(field->high)).str);
    *out = bytes;
    return DSC_OK;
}

static dsc_status set_bool(bool *out, const char *what, const char *word)
{
    static const char *const words[] = {"0", "1", "false", "true", NULL};
    int index = 0;

    if (dsc_parse_choice(what, word, words, &index) != DSC_OK) return DSC_EINVAL;
    *out = index % 2 == 1;
    return DSC_OK;
}

static dsc_status set_choice(const dsc_field *field, int *out, const char *what, const char *word)
{
    int index = 0;

    if (dsc_parse_choice(what, word, field->choices, &index) != DSC_OK) return DSC_EINVAL;
    *out = field->values != NULL ? field->values[index] : index;
    return DSC_OK;
}

static dsc_status set_string(const dsc_field *field, char *out, const char *what, const char *word)
{
    size_t length = strlen(word);

    if (length >= field->size)
        return DSC_FAIL(DSC_EINVAL, "%s: %zu bytes are longer than %zu", what, length, field->size - 1);
    memcpy(out, word, length + 1);
    return DSC_OK;
}

dsc_status dsc_field_set(const dsc_field *field, void *base, const char *what, const char *word)
{
    void *at = (char *)base + field->offset;

    switch (field->type) {
    case DSC_FIELD_INT: return set_int(field, at, what, word);
    case DSC_FIELD_REAL: return set_real(field, at, what, word);
    case DSC_FIELD_BYTES: return set_bytes(field, at, what, word);
    case DSC_FIELD_BOOL:
    case DSC_FIELD_FLAG: return set_bool(at, what, word);
    case DSC_FIELD_CHOICE: return set_choice(field, at, what, word);
    case DSC_FIELD_STRING: return set_string(field, at, what, word);
    }
    return DSC_FAIL(DSC_EINTERNAL, "%s: a field of type %d", what, (int)field->type);
}
