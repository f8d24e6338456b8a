/* One training configuration: strategy, optimizer, scheduler, precision, batch, from DeepSpeed's JSON and from long
 * options, into one struct. Each field is registered once (dsc_config_fields): that row feeds JSON, command line, --help
 * and the copy stored in every trace. */
#ifndef DSC_CONFIG_CONFIG_H
#define DSC_CONFIG_CONFIG_H

#include "base/json.h"
#include "base/text.h"
#include "kernel/kernel.h"

typedef enum dsc_schedule { DSC_SCHEDULE_AUTO, DSC_GPIPE, DSC_1F1B, DSC_INTERLEAVED, DSC_ZB_H1 } dsc_schedule;
typedef enum dsc_offload { DSC_OFFLOAD_NONE, DSC_OFFLOAD_OPTIMIZER, DSC_OFFLOAD_PARAMS } dsc_offload;
typedef enum dsc_recompute { DSC_RECOMPUTE_NONE, DSC_RECOMPUTE_SELECTIVE, DSC_RECOMPUTE_FULL } dsc_recompute;
typedef enum dsc_optimizer { DSC_ADAM, DSC_ADAMW, DSC_ONEBIT_ADAM, DSC_ZERO_ONE_ADAM, DSC_ONEBIT_LAMB } dsc_optimizer;

/* What an interpreter needs to place and build a step; 0 in a degree or size means "not given". */
typedef struct dsc_strategy {
    int64_t tp, pp, dp, cp;
    int64_t micro_batch;      /* sequences of a replica */
    int64_t global_batch;     /* sequences */
    int64_t seq_len;          /* 0: the model's */
    int64_t virtual_stages;
    int schedule, zero, offload, recompute, optimizer; /* the enums above; zero 0..3 */
    bool sequence_parallel;
    int precision;            /* dsc_dtype: DSC_FP32, DSC_FP16, DSC_BF16, DSC_FP8 */
    int grad_accum_dtype;     /* dsc_dtype; -1: by the rule of the plan */
    char attention[256];      /* dense, dense-unfused, fixed, ..., or a file */
    char rank_order[32];      /* "tp,dp,pp"; empty: chosen */
    int64_t device_memory_bytes, host_memory_bytes; /* hard capacities; 0: the cluster's */
    int64_t bucket_elems;     /* reduce_bucket_size: gradients of a data-parallel message; 0: the default */
} dsc_strategy;

typedef enum dsc_scheduler_type {
    DSC_LR_CONSTANT, DSC_LR_WARMUP, DSC_LR_WARMUP_DECAY, DSC_LR_WARMUP_COSINE, DSC_LR_RANGE_TEST, DSC_LR_ONE_CYCLE
} dsc_scheduler_type;

/* DeepSpeed's schedulers by their own parameter names. */
typedef struct dsc_scheduler {
    int type;
    double warmup_min_lr, warmup_max_lr; int64_t warmup_num_steps; bool warmup_linear; int64_t total_num_steps;
    double warmup_min_ratio, cos_min_ratio;
    double range_min_lr, range_step_rate; int64_t range_step_size; bool range_staircase;
    double cycle_min_lr, cycle_max_lr, decay_lr_rate; int64_t cycle_first_step_size, cycle_second_step_size, decay_step_size;
    bool cycle_momentum; double cycle_min_mom, cycle_max_mom, decay_mom_rate;
} dsc_scheduler;

typedef struct dsc_config {
    dsc_strategy strategy;
    int64_t gradient_accumulation_steps; /* 0: follows from the batch */
    double lr, beta1, beta2, eps, weight_decay;
    bool bias_correction;
    double clip;                         /* gradient_clipping; 0: off */
    uint64_t seed;
    dsc_scheduler scheduler;
    /* fp16 loss scaling, as DeepSpeed's ZeRO path */
    double loss_scale;                   /* static; 0: dynamic */
    int64_t initial_scale_power, loss_scale_window, hysteresis;
    bool consecutive_hysteresis;
    double min_loss_scale;
    int64_t steps_per_print;
} dsc_config;

extern const dsc_config DSC_CONFIG_DEFAULT;

/* ---- Options: one row each */

typedef enum dsc_field_type { DSC_FIELD_INT, DSC_FIELD_REAL, DSC_FIELD_BOOL, DSC_FIELD_BYTES, DSC_FIELD_CHOICE,
                              DSC_FIELD_STRING, DSC_FIELD_FLAG } dsc_field_type;

typedef struct dsc_field {
    const char *name;           /* long option without dashes; `_` for `-` in JSON's "dsc" object */
    dsc_field_type type;
    size_t offset, size;        /* in the struct; size of a string */
    double low, high;           /* bounds of a number */
    const char *const *choices; /* NULL-terminated; the value stored is the index, or values[index] where values is set */
    const int *values;
    const char *argument;       /* "N", "SIZE", "FILE"; NULL for a flag */
    const char *help;           /* with unit and default, one line */
} dsc_field;

/* Rows of dsc_config (strategy, lr, seed, ...), terminated by a NULL name. */
const dsc_field *dsc_config_fields(void);

/* Sets the field named `name` in base from a word; `what` is how the user wrote it ("--tp"). */
dsc_status dsc_field_set(const dsc_field *field, void *base, const char *what, const char *word);

/* Parses argv[1..] by several tables (terminated by a NULL .fields), each with its struct. GNU long options: `--x v`,
 * `--x=v`, flags without a value (and --no-x), an option given twice: the last counts, unknown ones refused with the
 * nearest name. Words that are no options go to operands (argv pointers), at most *operand_count of them.
 * --help and --version set *asked to 'h' or 'v' and stop. DSC_EINVAL otherwise. given (optional) receives, for each row of
 * all tables in order, whether it was on the command line. */
typedef struct dsc_field_table { const char *title; const dsc_field *fields; void *base; bool *given; } dsc_field_table;
dsc_status dsc_options_parse(int argc, char **argv, const dsc_field_table *tables, const char **operands, int *operand_count,
                             int *asked);
/* The --help text: usage, then tables with titles; GNU form (help2man reads it). */
void dsc_options_help(const char *usage, const char *summary, const dsc_field_table *tables, dsc_text *out);

/* Reads DeepSpeed's JSON into *config (over what it holds). Every key is taken, warned about through dsc_log, or refused by
 * name with a suggestion and the line. All complaints come at once, at most four. */
dsc_status dsc_config_load(const char *path, dsc_config *config);

/* The configuration as JSON: every registered row, so that two configurations print equal when they are. Heap. */
char *dsc_config_json(const dsc_config *config);

/* Bounds and pairs that need no model or cluster (fp16 with bf16, betas below 1, finite lr). */
dsc_status dsc_config_check(const dsc_config *config);

/* ---- Pure functions of training */

/* DeepSpeed's batch triple; 0 is "not given"; dp > 0. DSC_EINVAL names all numbers (golden: config/). */
dsc_status dsc_batch_resolve(int64_t *train_batch, int64_t *micro_batch, int64_t *accumulation, int64_t dp);

/* Rate (and beta1 where OneCycle cycles momentum; else untouched) that the k-th applied update uses, k = 0, 1, ...: what
 * DeepSpeed's optimizer holds then (golden: lr/schedules.json; update 0 uses lr_before_first_step, update k > 0 what is
 * held after step k - 1's scheduler call). */
double dsc_lr_at(const dsc_config *config, int64_t update, double *beta1, double *beta2);

/* Dynamic loss scale, DeepSpeed's ZeRO path (golden: lr/loss_scale.json). */
typedef struct dsc_scaler {
    double scale, min_scale;
    int64_t window, hysteresis, delayed_shift, iteration, last_overflow;
    bool consecutive_hysteresis, dynamic, error_at_min;
} dsc_scaler;
void dsc_scaler_init(const dsc_config *config, dsc_scaler *out);
/* After a step. An overflow at the minimum scale is a run-time failure (DSC_EIO) when error_at_min. */
dsc_status dsc_scaler_update(dsc_scaler *scaler, bool overflow);

#endif
