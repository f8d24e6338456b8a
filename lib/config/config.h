/* One training configuration: strategy, optimizer, scheduler, precision, batch, from DeepSpeed's JSON and from long
 * options, into one struct. Each field is registered once (dsc_config_fields): that row feeds JSON, command line,
 * --help and the copy stored in every trace. */
#ifndef DSC_CONFIG_CONFIG_H
#define DSC_CONFIG_CONFIG_H

#include "base/json.h"
#include "base/text.h"
#include "kernel/kernel.h"
#include "kernel/step.h"

typedef enum dsc_schedule { DSC_SCHEDULE_AUTO, DSC_GPIPE, DSC_1F1B, DSC_INTERLEAVED, DSC_ZB_H1 } dsc_schedule;
typedef enum dsc_partition { DSC_PARTITION_UNIFORM, DSC_PARTITION_PARAMETERS, DSC_PARTITION_COST } dsc_partition;
typedef enum dsc_offload { DSC_OFFLOAD_NONE, DSC_OFFLOAD_OPTIMIZER, DSC_OFFLOAD_PARAMS } dsc_offload;
typedef enum dsc_recompute { DSC_RECOMPUTE_NONE, DSC_RECOMPUTE_SELECTIVE, DSC_RECOMPUTE_FULL } dsc_recompute;
typedef enum dsc_checkpoints {
    DSC_CHECKPOINTS_AUTO, DSC_CHECKPOINTS_WHOLE, DSC_CHECKPOINTS_CUT, DSC_CHECKPOINTS_HOST
} dsc_checkpoints;
typedef enum dsc_communication { DSC_COMMUNICATION_DIRECT, DSC_COMMUNICATION_STAGED } dsc_communication;
typedef enum dsc_optimizer { DSC_ADAM, DSC_ADAMW, DSC_ONEBIT_ADAM, DSC_ZERO_ONE_ADAM, DSC_ONEBIT_LAMB } dsc_optimizer;
typedef enum dsc_exchange { DSC_EXCHANGE_AUTO, DSC_EXCHANGE_FLAT, DSC_EXCHANGE_HIERARCHICAL } dsc_exchange;
typedef enum dsc_semantics { DSC_SEMANTICS_PAPER, DSC_SEMANTICS_REFERENCE } dsc_semantics;

/* What an interpreter needs to place and build a step; 0 in a degree or size means "not given". */
typedef struct dsc_strategy {
    int64_t tp, pp, dp, cp;
    int64_t micro_batch;      /* sequences of a replica */
    int64_t global_batch;     /* sequences */
    int64_t seq_len;          /* 0: the model's */
    int64_t virtual_stages;
    int schedule, partition, zero, offload, recompute, optimizer; /* the enums above; zero 0..3 */
    int64_t recompute_layers; /* of each chunk, the first ones; 0: all, where recompute says how */
    int checkpoints;          /* dsc_checkpoints: where layers' inputs wait to be recomputed from; matters where
                                 recompute is full */
    bool keeps_outputs;       /* what a stage sends waits for its gradient; else for the message alone */
    bool recomputes_outputs;  /* of a layer that is recomputed in full the last product too, which nothing needs */
    bool scatters_messages;   /* tensor ranks send a part each of what they have alike to the next stage */
    bool widens_logits;       /* 16-bit logits stand beside copies in fp32 and what a loss in steps makes of them */
    bool widens_gradients;    /* 16-bit gradients stand beside copies in fp32 while the update is made */
    bool late_gather;         /* ZeRO 1 and 2: updated weights are gathered beside the next first passes */
    int communication;        /* dsc_communication: of device memory by itself, or by way of the host's */
    bool sequence_parallel;
    int precision;            /* dsc_dtype: DSC_FP32, DSC_FP16, DSC_BF16, DSC_FP8 */
    int grad_accum_dtype;     /* dsc_dtype; -1: by the rule of the plan */
    char attention[256];      /* as model/attention.h reads it; "": sparse_attention where there is one, else dense */
    bool reference_layout;    /* sparse layouts as the reference has them: no causal mask is laid over them */
    char rank_order[32];      /* "tp,dp,pp"; empty: chosen */
    int64_t device_memory_bytes, host_memory_bytes; /* hard capacities; 0: the cluster's */
    int64_t bucket_elems;     /* reduce_bucket_size: gradients of a data-parallel message; 0: the default */
    double offload_ratio;     /* share of the optimizer's states that goes to the host; DSC_AUTO: to be found */
    int64_t delay_update;     /* updates made at once before updates overlap the next step's passes; 0: never */
    int64_t prefetch;         /* buckets of parameters fetched ahead of the passes; DSC_AUTO: not given */
    int semantics, exchange;  /* dsc_semantics, dsc_exchange of optimizers that compress */
    bool l2_decay;            /* weight decay through the gradient (adam_w_mode false); else decoupled, for Adam too */
} dsc_strategy;

typedef enum dsc_scheduler_type {
    DSC_LR_CONSTANT, DSC_LR_WARMUP, DSC_LR_WARMUP_DECAY, DSC_LR_WARMUP_COSINE, DSC_LR_RANGE_TEST, DSC_LR_ONE_CYCLE
} dsc_scheduler_type;

typedef enum dsc_warmup { DSC_WARMUP_LOG, DSC_WARMUP_LINEAR } dsc_warmup;

/* DeepSpeed's schedulers by their own parameter names (lr_range_test_ is range_ here). */
typedef struct dsc_scheduler {
    int type;                       /* dsc_scheduler_type */
    double warmup_min_lr, warmup_max_lr;
    int64_t warmup_num_steps;       /* fewer than 2 count as 2 */
    int warmup_type;                /* dsc_warmup */
    int64_t total_num_steps;        /* of WarmupDecayLR and WarmupCosineLR, which need it */
    double warmup_min_ratio, cos_min_ratio; /* of lr, in WarmupCosineLR */
    double range_min_lr, range_step_rate;
    int64_t range_step_size;
    bool range_staircase;
    double cycle_min_lr, cycle_max_lr, decay_lr_rate;
    int64_t cycle_first_step_size, cycle_second_step_size; /* second 0: as the first */
    int64_t decay_step_size;        /* 0: no decay */
    bool cycle_momentum;
    double cycle_min_mom, cycle_max_mom, decay_mom_rate;
} dsc_scheduler;

typedef struct dsc_config {
    dsc_strategy strategy;
    int64_t gradient_accumulation_steps; /* 0: follows from the batch */
    double lr, beta1, beta2, eps, weight_decay;
    bool bias_correction;
    double clip;                         /* gradient_clipping; 0: off */
    uint64_t seed;                       /* below 2^63 */
    int64_t freeze_step;                 /* of 1-bit Adam and LAMB: compression begins after it; DSC_AUTO: when the
                                            variance has settled */
    int64_t var_freeze_step, var_update_scaler, local_step_scaler, local_step_clipper; /* of 0/1 Adam: dsc_intervals */
    dsc_trust trust;                     /* of 1-bit LAMB */
    dsc_scheduler scheduler;
    /* fp16 loss scaling, as DeepSpeed's ZeRO path */
    double loss_scale;                   /* static; 0: dynamic */
    int64_t initial_scale_power, loss_scale_window, hysteresis;
    bool consecutive_hysteresis;
    double min_loss_scale;
    int64_t steps_per_print;
    char sparse_attention[4096];         /* the section's JSON; "": there is none */
    const struct dsc_attention *attention; /* what all that says, when files were read for it: borrowed until the plan
                                              is made; or NULL */
} dsc_config;

enum { DSC_AUTO = -1 }; /* a number that the planner is asked to find */

/* The defaults: degrees and batch not given, AdamW with lr 1e-3, constant. */
extern const dsc_config DSC_CONFIG_DEFAULT;

/* ---- Options: one row each */

typedef enum dsc_field_type { DSC_FIELD_INT, DSC_FIELD_REAL, DSC_FIELD_BOOL, DSC_FIELD_BYTES, DSC_FIELD_CHOICE,
                              DSC_FIELD_STRING, DSC_FIELD_FLAG } dsc_field_type;

/* A row. Where a word is stored: INT and BYTES in an int64_t, REAL in a double, BOOL and FLAG in a bool, CHOICE in an
 * int, STRING in a char[size]. */
typedef struct dsc_field {
    const char *name;           /* long option without dashes, or one letter: -o; `_` for `-` in JSON's "dsc" object */
    dsc_field_type type;
    size_t offset, size;        /* in the struct; size of a string */
    double low, high;           /* bounds of a number, both included; both 0: none */
    const char *const *choices; /* ended by NULL; what is stored is the index, or values[index] where values is set. Of
                                   a number: a word beside the numbers, stored as DSC_AUTO */
    const int *values;
    const char *argument;       /* "N", "SIZE", "FILE"; NULL for a flag, and for a choice, which lists its words */
    const char *help;           /* with unit and default, one line */
    const char *heading;        /* of the part of --help that begins with this row, or NULL */
} dsc_field;

/* Rows of dsc_config (strategy, lr, seed, ...), terminated by a NULL name. */
const dsc_field *dsc_config_fields(void);

/* The row of that name (with `_` or `-`), or NULL. Borrowed from fields. */
const dsc_field *dsc_field_find(const dsc_field *fields, const char *name);

/* Sets the field in base from a word; `what` is how the user wrote it ("--tp"), and opens the message. A failure leaves
 * the field as it was. */
dsc_status dsc_field_set(const dsc_field *field, void *base, const char *what, const char *word);

typedef struct dsc_field_table {
    const char *title;
    const dsc_field *fields; /* ended by a NULL name */
    void *base;              /* the struct that receives the values */
    bool *given;             /* NULL, or one for each row: set to true where the row was on the command line */
} dsc_field_table;

/* Parses argv[1..] by several tables (terminated by a NULL .fields), each with its struct. GNU long options: `--x v`,
 * `--x=v`, flags without a value (and --no-x), `-o v` for rows of one letter, `--` before words that are no options, an
 * option given twice: the last counts, unknown ones refused with the nearest name. Words that are no options go to
 * operands (argv pointers), at most *operand_count of them, which then says how many there were.
 * --help and --version set *asked to 'h' or 'v' and stop; else *asked is 0. Values are set up to the first failure,
 * which is DSC_EINVAL. To let options override a file, parse, load the file that --config names, and parse again. */
dsc_status dsc_options_parse(int argc, char **argv, const dsc_field_table *tables, const char **operands,
                             int *operand_count, int *asked);

/* The --help text: usage, then tables with titles; GNU form (help2man reads it). */
void dsc_options_help(const char *usage, const char *summary, const dsc_field_table *tables, dsc_text *out);

/* Reads DeepSpeed's JSON into *config (over what it holds). Every key is taken, warned about through dsc_log where it
 * asks for what we do not do, or refused by name with a suggestion; null and "auto" leave the default. The first
 * complaint is told, in a line, and how many more there are; *config is then unspecified. What single values do not
 * show is for dsc_config_check. */
dsc_status dsc_config_load(const char *path, dsc_config *config);

/* The same from JSON that is parsed already; `where` opens each message. */
dsc_status dsc_config_read(const char *where, const json_t *object, dsc_config *config);

/* The configuration as JSON: {"dsc": every registered row}, so that two configurations print equal when they are, and
 * dsc_config_load reads it back. Heap; NULL when memory is out. */
char *dsc_config_json(const dsc_config *config);

/* The same as DeepSpeed's users write it: its keys, as far as it has such, and behind them "dsc" with every row, which
 * goes before them. dsc_config_load reads it back as it was. Heap; NULL when memory is out. */
char *dsc_config_deepspeed(const dsc_config *config);

/* What one field alone does not say and no model or cluster is needed for: betas below 1, a scheduler's parameters, the
 * axes of the rank order. Pure. */
dsc_status dsc_config_check(const dsc_config *config);
/* Warns through dsc_log of what is given and has no effect beside the rest: an lr that a scheduler replaces,
 * checkpoints of what is not recomputed. For whoever has read a configuration, once. */
void dsc_config_report(const dsc_config *config);

/* ---- Pure functions of training */

/* DeepSpeed's batch triple; 0 is "not given"; dp > 0. DSC_EINVAL names all numbers (golden: config/). */
dsc_status dsc_batch_resolve(int64_t *train_batch, int64_t *micro_batch, int64_t *accumulation, int64_t dp);

/* Rate (and betas where OneCycle cycles momentum; else untouched) that the k-th applied update uses, k = 0, 1, ...:
 * what DeepSpeed's optimizer holds then (golden: lr/schedules.json; update 0 uses lr_before_first_step, update k > 0
 * what is held after step k - 1's scheduler call: so the first two updates of a warm-up run at its lowest rate). beta1
 * and beta2 may be NULL. Pure. */
double dsc_lr_at(const dsc_config *config, int64_t update, double *beta1, double *beta2);

/* Dynamic loss scale, DeepSpeed's ZeRO path (golden: lr/loss_scale.json). A plain struct, which checkpoints keep. */
typedef struct dsc_scaler {
    double scale, min_scale;
    int64_t window;             /* steps without overflow after which the scale doubles */
    int64_t delayed_shift;      /* overflows in a row that the scale bears: fp16's "hysteresis" */
    int64_t hysteresis;         /* how many are left */
    int64_t iteration, last_overflow; /* steps so far, and the last one that overflowed (-1: none) */
    int64_t delay;              /* 0; 1: doubles a step later, as DeepSpeed's wrapper without ZeRO does */
    bool consecutive_hysteresis, dynamic, error_at_min;
} dsc_scaler;

/* fp16 starts at loss_scale or, where that is 0, dynamically at 2^initial_scale_power; other precisions stay at 1. */
void dsc_scaler_init(const dsc_config *config, dsc_scaler *out);

/* After a step. An overflow at the minimum scale is a run-time failure (DSC_EIO) when error_at_min. */
dsc_status dsc_scaler_update(dsc_scaler *scaler, bool overflow);

/* When 1-bit Adam's warm-up ends, and 0/1 Adam's first phase (config/freezer.c). A plain struct, which checkpoints
 * keep. The former by --freeze-step, or once the variance has settled: over as many steps as it remembers,
 * 1 / (1 - beta2), its norm has changed by less than 4 % (Tang et al. 2021, section 7.1), and the rate's warm-up is
 * over; the latter by --var-freeze-step. */
typedef struct dsc_freezer {
    int64_t frozen_at;    /* updates after which momenta are compressed; 0: not known yet */
    int64_t interval;     /* updates between two looks at the variance; 0: never */
    int64_t earliest;     /* updates before which nothing is frozen */
    double beta2, norm;   /* norm of the variance at the last look, its bias corrected; 0: there was none */
} dsc_freezer;

/* An optimizer that does not compress is never frozen. */
void dsc_freezer_init(const dsc_config *config, dsc_freezer *out);
/* Whether the update that follows `updates` is a compressed one. Pure. */
bool dsc_freezer_is_frozen(const dsc_freezer *freezer, int64_t updates);
/* Whether that update only loses its gradient: DeepSpeed's optimizer takes its first call for an introduction. Pure. */
bool dsc_freezer_discards(const dsc_config *config, int64_t updates);
/* The sum of the variance's squares after so many updates. */
void dsc_freezer_look(dsc_freezer *freezer, int64_t updates, double squares);
/* The update behind which the variance is frozen, once it is so, or, with auto, known; else 0. Pure. */
int64_t dsc_freezer_found(const dsc_freezer *freezer, int64_t updates);
/* Goes on from what a checkpoint found. A --freeze-step given now counts more. */
void dsc_freezer_resume(dsc_freezer *freezer, int64_t found, double norm);
/* How many updates more than were made the reference's optimizer has counted. Pure. */
int64_t dsc_freezer_ahead(const dsc_config *config);
/* Whether the optimizer compresses. Pure. */
bool dsc_optimizer_compresses(int optimizer);

/* When 0/1 Adam's replicas meet (config/intervals.c; Lu et al. 2022, section 5, as DeepSpeed counts). Until it is
 * frozen the variance moves, by exact gradients, at the optimizer's updates that an interval divides, which doubles
 * after every so many of them; from then on replicas step by themselves, and meet at those that another one divides,
 * which doubles after every so many own steps up to the longest. A plain struct, which checkpoints keep. */
typedef struct dsc_intervals {
    int64_t variance, variances; /* the interval, and the variance's updates since it changed */
    int64_t sync, steps;         /* the same of meetings and own steps */
    int64_t variance_scaler, step_scaler, longest;
    int64_t ahead;               /* as dsc_freezer_ahead */
} dsc_intervals;

void dsc_intervals_init(const dsc_config *config, dsc_intervals *out);
/* Whether the update that follows `updates` moves the variance, if that is not frozen; whether replicas meet behind
 * it, if it is. Pure. */
bool dsc_intervals_is_exact(const dsc_intervals *intervals, int64_t updates);
bool dsc_intervals_syncs(const dsc_intervals *intervals, int64_t updates);
/* That update has been made. */
void dsc_intervals_count(dsc_intervals *intervals, int64_t updates, bool is_frozen);
/* Goes on from what a checkpoint found; its 0: from the start. Scalers and longest are those given now. */
void dsc_intervals_resume(dsc_intervals *intervals, int64_t variance, int64_t variances, int64_t sync, int64_t steps);

#endif
