/* What dsc-plan knows of one strategy once it is evaluated, and how it shows that. */
#ifndef TOOLS_PLAN_PLAN_H
#define TOOLS_PLAN_PLAN_H

#include "base/json.h"
#include "sim/search/search.h"
#include "tools/common.h"
#include <stdio.h>

typedef struct plan_options {
    bool json, explain, check, list_models, list_clusters, list_stacks, longest_seq, break_even, search;
    bool smallest_cluster, largest_model;
    char deadline[32];                  /* of --smallest-cluster; "": not given */
    char show_layout[4096], svg[4096];  /* of sparse attention */
    int64_t num_heads;
    char trace[4096], trace_ranks[4096], calibration[4096], stack[64];
    char html[4096];                    /* a page of the result; "-" is standard output */
    char **words;                       /* the command line, borrowed: the page shows it */
    char batch[4096], out[4096];        /* a table of trainings, and where it goes: "" is standard output */
    int64_t eval_every;                 /* 0: the run does not evaluate */
    char tokens[32];                    /* of the whole run; "": not asked */
    double mtbf_h, restart_s;           /* of a node; 0 and -1: not given */
    int64_t checkpoint_rate;            /* bytes a second; 0: the cluster's; DSC_AUTO: its nodes' drives' */
    double energy_price;                /* of a kWh; 0: not asked */
    char emit[4096];
    bool what_if;
    int64_t top;                        /* strategies that --search prints; 0: the default */
    bool trusts_builders;               /* the check of the whole machine is left out */
} plan_options;

/* Memory of the lowest rank that needs most of a space. */
typedef struct worst { int64_t rank; dsc_ledger ledger; } worst;

/* A run of many steps on machines that fail (tools/plan/campaign.c). */
typedef struct campaign {
    int64_t tokens, steps;              /* 0: not asked, and what depends on them is 0 */
    double step_s;                      /* mean over the paths that are known to be taken */
    int64_t nodes;                      /* that the ranks use */
    double mtbf_s;                      /* between failures of any of them */
    int64_t checkpoint_bytes;
    double rate, save_s, restart_s;     /* bytes a second; of a checkpoint; from a failure to the next step */
    double young_s, daly_s;             /* intervals */
    int64_t interval_steps;
    double goodput, days;               /* days are INFINITY where it never ends */
    double power_w;                     /* at most; 0: not known */
    bool is_power_of_devices;           /* nobody says what their nodes draw */
    double energy_mwh, cost;            /* cost 0: no price was given */
} campaign;

typedef struct evaluation {
    dsc_model model;
    dsc_cluster *cluster;
    dsc_calibration calibration;
    dsc_plan *plan;
    const dsc_program *const *programs; /* [plan->ranks] */
    double launches;                    /* of what a launch takes the host, this share; 1 by evaluation_init */
    const dsc_stack *stack;             /* software: */
    dsc_stack software;
    dsc_prices *prices;
    worst worst[DSC_SPACE_COUNT];
    bool feasible;
    char reason[1024];                  /* why not */
    dsc_timing timing;                  /* of the path that is taken most often */
    int64_t wire_bytes;
    dsc_trace trace;
    campaign run;                       /* by plan_campaign */
} evaluation;

/* Plans, checks the whole machine, and simulates. What does not fit is evaluated too: out->feasible says so. Ended by
 * evaluation_fini, also after a failure. */
dsc_status evaluate(const tool_inputs *inputs, const plan_options *options, evaluation *out);
void evaluation_fini(evaluation *evaluation);

/* The same for a caller that has model and cluster: it sets them between these two. The cluster is taken. */
void evaluation_init(evaluation *out);
dsc_status evaluate_on(const dsc_config *config, const plan_options *options, evaluation *evaluation);

/* Whether it fits, and nothing else; as evaluate_on. */
dsc_status fits_on(const dsc_config *config, const plan_options *options, evaluation *evaluation, bool *out);

/* The plan's order of ranks as --rank-order takes it: a chosen one becomes a given one, which links do not change. */
void write_order(const dsc_plan *plan, char out[32]);

/* --batch: evaluates each row of a table of trainings (published measurements) and prints the table with columns of the
 * prediction behind its own, to -o or standard output; a row that cannot be evaluated has a reason. The command line's
 * configuration is what rows do not say; given: of recomputation, too. DSC_EINVAL for a file that cannot be read or
 * lacks columns, and for what no row could be evaluated with. */
dsc_status evaluate_table(const tool_inputs *inputs, const plan_options *options, const dsc_given *given);

/* Whether a file can be written, before any work; "" and "-" can. What is there stays. DSC_EINVAL names the file. */
dsc_status check_output(const char *path);
/* Writes a text to a file or, "-", standard output. DSC_EIO names it. */
dsc_status write_text(const char *path, const dsc_text *text);

/* Of the tool's own tables, with what was given: that one question is asked, and that all options go with it.
 * DSC_EINVAL names the one that does not. */
dsc_status check_question(const dsc_field_table *own);

/* --show-layout: prints a sparse layout of so many heads over seq_len tokens (0: what the file has), as text, JSON or
 * into an SVG file. */
dsc_status show_layout(const plan_options *options, int64_t seq_len);

/* --longest-seq: prints the longest sequence that fits, in multiples of 128 tokens and of blocks, with what it takes
 * and how fast it would be: of --attention, and of both kinds of dense attention. Learned positions grow with it.
 * DSC_EINFEASIBLE when none does; DSC_EINVAL for a file's layout, which is of one length. */
dsc_status show_longest(const tool_inputs *inputs, const plan_options *options);

/* --break-even: prints exact and compressed steps of 1-bit Adam side by side while the rates between replicas change
 * (of NICs and tiers; on one node of the links between devices), the rate below which compressed ones are faster, and
 * the bytes that replicas, or nodes of several, send each other in both. DSC_EINVAL where nothing is compressed. */
dsc_status show_break_even(const tool_inputs *inputs, const plan_options *options);

/* --search: ranks strategies over the axes that are not given, by simulating the best of those that dsc_search_rank
 * finds; prints them as a table, with why the neighbours of the best lose, or as JSON. What it took is noted. Notes of
 * single strategies go nowhere. DSC_EINFEASIBLE when nothing fits. */
dsc_status show_search(const tool_inputs *inputs, const plan_options *options, const dsc_given *given,
                       const tool *self);

/* The fastest strategy that fits, as --search finds it; days of --tokens, or 0. json (with --json): the caller's. */
typedef struct best { bool fits; dsc_candidate c; int64_t step_ns, peak_bytes; double days; json_t *json; } best;

/* Borrows model and cluster; --calibration may change what the cluster's libraries take. Where nothing fits out->fits
 * is false. DSC_EINVAL where no strategy is legal. */
dsc_status find_best(const tool_inputs *inputs, const plan_options *options, const dsc_given *given,
                     const dsc_model *model, dsc_cluster *cluster, best *out);

/* The columns of a strategy in a table, after a space, without the line's end. */
void print_candidate_heading(dsc_text *out);
void print_candidate(const dsc_candidate *c, dsc_text *out);

/* --smallest-cluster: prints the fewest nodes of the cluster's kind on which some strategy trains --tokens before the
 * --deadline, what was tried, and the strategy. Nodes are doubled, then halved between in sixteenths.
 * DSC_EINFEASIBLE when the most nodes are too few. Notes of single strategies go nowhere. */
dsc_status show_smallest(const tool_inputs *inputs, const plan_options *options, const dsc_given *given);

/* --largest-model: prints the model of most layers, of hidden 128 x layers, that some strategy fits on the cluster.
 * DSC_EINFEASIBLE when that of one layer does not. */
dsc_status show_largest(const tool_inputs *inputs, const plan_options *options, const dsc_given *given);

/* The offload ratio that --offload-ratio auto stands for: of 0, 1/16, ..., 1 that of the fastest step among those that
 * fit, else what comes nearest to fitting. Where the ratio is given, that. Evaluates them all: notes of these go
 * nowhere, so the caller installs its log again. */
dsc_status choose_ratio(const tool_inputs *inputs, const plan_options *options, double *out);

/* --tokens and what goes with it: fills e->run, of an evaluated strategy. DSC_EINVAL for fewer tokens than a step
 * has. */
dsc_status plan_campaign(const plan_options *options, evaluation *e);
/* The object "run"; the caller's. */
json_t *campaign_json(const campaign *run);
/* Four lines for people. */
void print_campaign(const campaign *run, const plan_options *options, dsc_text *out);

/* --emit: whether a plan can be written there, before the work; DSC_EINVAL says why not. */
dsc_status check_emit(const char *path);
/* Writes the folder of store/plan_folder.h for a feasible strategy, whole or not at all, and reads it back as dsc-run
 * will. attention: what --attention and CONFIG say. DSC_EINVAL, DSC_EIO; DSC_ENOTSUP for ranks on nodes of several
 * sizes. */
dsc_status emit(const evaluation *e, const struct dsc_attention *attention, const char *path);

/* --what-if: prints step time, memory and feasibility with one thing of the cluster changed at a time.
 * DSC_EINFEASIBLE when what is described does not fit. */
dsc_status show_what_if(const tool_inputs *inputs, const plan_options *options);

double tokens_per_s(const evaluation *evaluation);
double flops_per_s(const evaluation *evaluation); /* model FLOPs of one device */
/* Share of the dense peak of the precision; NaN where the cluster does not say it. */
double flops_utilization(const evaluation *evaluation);

/* --calibration: one file or several, apart by commas, added up. */
dsc_status read_calibration(const char *paths, dsc_calibration *into);
/* The same, and what libraries take by it. */
dsc_status load_calibration(const char *paths, evaluation *evaluation);

/* The software of --stack, "" being auto. DSC_EINVAL for a label that is none. */
dsc_status find_stack(const char *name, const dsc_config *config, const dsc_cluster *cluster, const dsc_stack **out);

/* The object of --json, and the strategy's keys in it. A new reference. */
json_t *evaluation_json(const evaluation *evaluation);
dsc_status print_json(const evaluation *evaluation, FILE *out);
json_t *strategy_json(const dsc_plan *plan);
/* One screen for people. */
void print_summary(const evaluation *evaluation, const plan_options *options, dsc_text *out);
/* Placement, ledger, program, prices and cluster. */
dsc_status print_explanation(const evaluation *evaluation, dsc_text *out);

/* A strategy that was searched: what it is called, and what it takes. */
typedef struct html_point { const char *label; int64_t step_ns, peak_bytes; bool feasible; } html_point;

/* --html: writes one page for a browser, which loads nothing: memory, time, timeline and placement; the trace holds the
 * ranks of its timeline. The page names the command that it was made by, `name` and the options, as a shell takes it
 * but for --html: pages of one plan are alike, wherever they go. points: those of a search; none (count 0) without. */
dsc_status write_page(const char *name, const evaluation *evaluation, const html_point *points, int64_t count,
                      const plan_options *options);

#endif
