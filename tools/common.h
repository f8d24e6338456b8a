/* What the tools share: messages on stderr with the tool's name before them, the options --model, --cluster and
 * --config, CONFIG with the command line over it, and the exit status. */
#ifndef TOOLS_COMMON_H
#define TOOLS_COMMON_H

#include "config/config.h"
#include "store/plan_folder.h"

typedef struct tool {
    const char *name;    /* "dsc-plan" */
    const char *usage;   /* "dsc-plan --model M --cluster C [OPTION]..." */
    const char *summary; /* one line, for --help and the man page */
} tool;

/* Sends notes and warnings to stderr, as `NAME: line`. Of several ranks only the one that speaks calls it. */
void tool_log(const tool *self);

/* What the user asked for, apart from the tool's own options. The strings are empty where an option was not given. */
typedef struct tool_inputs {
    char model[4096], cluster[4096], config_path[4096];
    char plan[4096];   /* --plan, of tools that have tool_plan_fields: model, cluster and config_path are its files */
    dsc_plan_facts facts; /* and this is what it says of itself */
    bool progress;     /* --progress */
    struct dsc_attention *attention; /* config's */
    dsc_config config; /* the defaults, CONFIG over them, the command line over both */
    int asked;         /* 'h', 'v': to be answered by tool_answer, nothing else is valid; else 0 */
} tool_inputs;

/* Parses the command line, with the tool's own tables (terminated by a NULL .fields), and reads CONFIG.
 *
 * The batch triple is left for dsc_plan_create to resolve, by these rules. Micro-batch is 1 where nothing but a global
 * batch of the command line is given of the triple; a CONFIG that gives nothing but train_batch_size follows DeepSpeed
 * (one micro-batch a step). Where all three are known, what CONFIG says gives way to the command line: accumulation
 * first, then the global batch.
 *
 * Where --plan names a plan's folder (store/plan_folder.h), it says what --model, --cluster and --config would, which
 * are refused beside it; other options go before what it says, as before CONFIG.
 *
 * What is said of attention is read too, files of layouts included: config.attention, which tool_unload frees.
 *
 * returns  DSC_EINVAL naming option or key; no words that are no options are taken */
dsc_status tool_load(int argc, char **argv, const dsc_field_table *own, tool_inputs *out);

/* What CONFIG and the command line of a tool_load that succeeded say, over what *config holds: rows that neither names
 * stay as they are. Nothing is checked or noted twice. */
dsc_status tool_said(int argc, char **argv, const dsc_field_table *own, const tool_inputs *inputs, dsc_config *config);

void tool_unload(tool_inputs *inputs);

/* --progress, alike in all tools: one row, whose value is a bool. tool_load and tool_run have it among theirs. */
extern const dsc_field tool_progress_fields[];

/* --plan, for a table whose base is the tool_inputs that tool_load fills. */
extern const dsc_field tool_plan_fields[];

/* A line on stderr of what begins now, where the user asked for it. */
void tool_progress(const tool *self, bool is_asked, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Prints the help or the version on stdout. tool_answer lists the options of tool_load beside the tool's own. */
void tool_answer_alone(const tool *self, const dsc_field_table *tables, int asked);
void tool_answer(const tool *self, const dsc_field_table *own, int asked);

/* Refuses `-` where a stream cannot be taken. kind says why: "a trace is an HDF5 file". DSC_EINVAL. */
dsc_status tool_check_path(const char *what, const char *path, const char *kind);

/* A tool of commands, `NAME COMMAND OPERAND... [OPTION]...`: list, diff, ... */
typedef struct tool_command {
    const char *name, *operands; /* "diff", "A B" */
    int count;                   /* of operands */
    const char *kind;            /* of tool_check_path: why `-` is none */
    dsc_status (*run)(const void *options, const char *const *operands);
} tool_command;

enum { TOOL_COMMANDS = 8, TOOL_OPERANDS = 4 }; /* at most; a command's own name is an operand, too */

/* All that main does in such a tool: parses the command line into the struct behind `options` (one table), whose
 * defaults are set, answers --help and --version, or runs the one command. commands end with a NULL name. Returns the
 * exit status. */
int tool_run(const tool *self, int argc, char **argv, const dsc_field_table *options, const tool_command *commands);

/* Prints the message of a failure on stderr; returns the exit status, also when stdout could not be written. */
int tool_end(const tool *self, dsc_status status);

#endif
