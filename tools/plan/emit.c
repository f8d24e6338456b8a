/* --emit: an evaluated plan as a folder that dsc-run executes, with scripts that start it. */
#include "base/hash.h"
#include "model/attention.h"
#include "store/plan_folder.h"
#include "tools/plan/plan.h"
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = DSC_PATTERNS + 5 };

/* Texts are owned. */
typedef struct emission {
    const evaluation *e;
    char path[4096];       /* without slashes at its end */
    char absolute[4096];
    dsc_plan_file files[MOST_FILES]; char *texts[MOST_FILES]; int64_t count;
} emission;

static dsc_status add_file(emission *m, const char *name, char *text, bool is_script)
{
    dsc_plan_file *file = &m->files[m->count];

    if (text == NULL) return DSC_FAIL(DSC_ENOMEM, "--emit %s: %s", m->path, name);
    m->texts[m->count++] = text;
    *file = (dsc_plan_file){.text = text, .is_script = is_script};
    snprintf(file->name, sizeof file->name, "%s", name);
    return DSC_OK;
}

/* Takes the text, of which nothing was lost. */
static dsc_status add_text(emission *m, const char *name, dsc_text *text, bool is_script)
{
    if (!text->failed) return add_file(m, name, text->bytes, is_script);
    dsc_text_fini(text);
    return add_file(m, name, NULL, is_script);
}

/* Takes a JSON text, and ends its last line. */
static dsc_status add_json(emission *m, const char *name, char *json)
{
    dsc_text text = {0};

    if (json == NULL) return add_file(m, name, NULL, false);
    dsc_text_add(&text, "%s\n", json);
    free(json);
    return add_text(m, name, &text, false);
}

/* ---- What decides the program */

static bool is_file(const dsc_pattern *p)
{
    return p->layout != NULL || strchr(p->word, '/') != NULL || strchr(p->word, '.') != NULL;
}

/* The layout, or the section that the file has. */
static dsc_status pattern_text(const dsc_pattern *p, char **out)
{
    json_t *json = NULL, *section;
    dsc_status status = DSC_OK;

    if (p->layout != NULL) json = dsc_layout_json(p->layout);
    else DSC_TRY(dsc_json_load(p->word, &json));
    section = json_object_get(json, "sparse_attention");
    *out = json_dumps(section != NULL ? section : json, JSON_COMPACT);
out:
    json_decref(json);
    return status;
}

/* The words of --attention, with files that lie in the folder: ./attention-N.json. */
static dsc_status add_attention(emission *m, const dsc_attention *a, char words[256])
{
    dsc_status status = DSC_OK;
    dsc_text all = {0};

    for (int i = 0; i < a->count; i++) {
        const dsc_pattern *p = &a->patterns[i];
        char name[32], *text = NULL;

        if (i > 0) dsc_text_add(&all, ",%" PRId64 "-%" PRId64 "=", a->layers[i].first, a->layers[i].last);
        if (is_file(p)) {
            snprintf(name, sizeof name, "attention-%d.json", i);
            DSC_TRY(pattern_text(p, &text));
            DSC_TRY(add_json(m, name, text));
            dsc_text_add(&all, "./%s", name);
        } else {
            dsc_text_add(&all, "%s", p->word);
        }
    }
    if (all.count >= 256)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--emit %s: --attention would become %" PRId64 " bytes long, at most 255 are read",
                         m->path, all.count));
    snprintf(words, 256, "%s", dsc_text_str(&all));
out:
    dsc_text_fini(&all);
    return status;
}

static dsc_status add_descriptions(emission *m, const dsc_attention *attention)
{
    dsc_config config = m->e->plan->config;
    dsc_status status = DSC_OK;

    write_order(m->e->plan, config.strategy.rank_order);
    DSC_TRY(add_attention(m, attention, config.strategy.attention));
    DSC_TRY(add_json(m, DSC_PLAN_CONFIG, dsc_config_deepspeed(&config)));
    DSC_TRY(add_json(m, DSC_PLAN_MODEL, dsc_model_json(&m->e->model)));
    DSC_TRY(add_json(m, DSC_PLAN_CLUSTER, dsc_cluster_json(m->e->cluster)));
out:
    return status;
}

/* ---- Scripts */

/* Steps and saves, where --tokens says of how long a run. */
static void add_length(const campaign *run, bool saves, dsc_text *out)
{
    if (run->tokens > 0) dsc_text_add(out, " --steps %" PRId64, run->steps);
    if (run->tokens > 0 && saves) dsc_text_add(out, " --save-every %" PRId64, run->interval_steps);
}

static dsc_status add_launch(emission *m)
{
    const int64_t ranks = m->e->plan->ranks;
    dsc_text out = {0};

    dsc_text_add(&out, "#!/bin/sh\n"
                 "# launch.sh --data DATA --steps K [OPTION of dsc-run]...: runs the plan of this folder.\n"
                 "# MPIEXEC and DSC_RUN may name another launcher, with its options, and another dsc-run.\n"
                 "plan=$(cd \"$(dirname \"$0\")\" && pwd) || exit 3\n"
                 "exec ${MPIEXEC:-mpiexec} -n %" PRId64 " \"${DSC_RUN:-dsc-run}\" --plan \"$plan\"", ranks);
    add_length(&m->e->run, false, &out);
    dsc_text_add(&out, " \"$@\"\n");
    return add_text(m, DSC_PLAN_LAUNCH, &out, true);
}

/* What Slurm has one number of for all nodes of a job: tasks, GPUs, and cores, of which some may have more. */
typedef struct shape { int64_t tasks, gpus, cores; } shape;

static shape shape_of(const dsc_node_type *node, int64_t ranks)
{
    shape s = {.tasks = DSC_MIN(dsc_node_devices(node), ranks), .cores = node->cores};

    for (int64_t i = 0, before = 0; before < s.tasks; before += node->devices[i++].count)
        if (node->devices[i].is_gpu) s.gpus += DSC_MIN(node->devices[i].count, s.tasks - before);
    return s;
}

/* A node type's name is anybody's, and stays in its line. */
typedef struct kind { char str[sizeof ((dsc_node_type *)0)->name]; } kind;

static kind kind_of(const dsc_node_type *node)
{
    kind k;

    memcpy(k.str, node->name, sizeof k.str);
    for (char *c = k.str; *c != '\0'; c++)
        if ((unsigned char)*c < ' ') *c = '?';
    return k;
}

/* Of the nodes that have ranks. */
static dsc_status find_shape(const emission *m, shape *out)
{
    const dsc_cluster *cluster = m->e->cluster;
    const dsc_node_type *first = &cluster->node_types[cluster->nodes[0].type];
    const int64_t ranks = m->e->plan->ranks;
    int64_t left = m->e->run.nodes, before = 0;

    *out = shape_of(first, ranks);
    for (int64_t i = 0; left > 0; left -= cluster->nodes[i++].count) {
        const dsc_node_type *node = &cluster->node_types[cluster->nodes[i].type];
        const shape other = shape_of(node, ranks);

        if (other.tasks != out->tasks || other.gpus != out->gpus)
            return DSC_FAIL(DSC_ENOTSUP, "--emit %s: ranks on nodes of %" PRId64 " devices (%s) and of %" PRId64
                            " (%s), and Slurm has one number of tasks and of GPUs for all nodes of a job; at most %"
                            PRId64 " ranks keep to the former", m->path, out->tasks, kind_of(first).str, other.tasks,
                            kind_of(node).str, before);
        out->cores = DSC_MIN(out->cores, other.cores);
        before += cluster->nodes[i].count * other.tasks;
    }
    return DSC_OK;
}

/* Where there are several kinds of nodes, which ones the plan is for: what they are called at the site nobody knows. */
static void add_kinds(const emission *m, dsc_text *out)
{
    const dsc_cluster *cluster = m->e->cluster;
    int64_t left = m->e->run.nodes;

    if (cluster->node_type_count == 1) return;
    dsc_text_add(out, "# The plan's nodes, in this order (--constraint, --partition, --nodelist):");
    for (int64_t i = 0; left > 0; left -= cluster->nodes[i++].count)
        dsc_text_add(out, "%s %" PRId64 " of %s", i > 0 ? "," : "", DSC_MIN(left, cluster->nodes[i].count),
                     kind_of(&cluster->node_types[cluster->nodes[i].type]).str);
    dsc_text_add(out, "\n");
}

/* Between Slurm's warning and the end a step ends and a checkpoint is written; Slurm may be a minute late. */
static int64_t warning_s(const evaluation *e)
{
    const double needed = (double)e->timing.step_ns / 1e9 + e->run.save_s + 60;

    return needed < 86400 ? DSC_MAX((int64_t)ceil(needed), 120) : 86400;
}

/* A word in single quotes, for the shell. */
static void add_quoted(const char *word, dsc_text *out)
{
    dsc_text_add(out, "'");
    for (; *word != '\0'; word++) dsc_text_add(out, *word == '\'' ? "'\\''" : "%c", *word);
    dsc_text_add(out, "'");
}

static void add_directives(const emission *m, const shape *node, dsc_text *out)
{
    dsc_text_add(out, "#SBATCH --job-name=dsc\n#SBATCH --nodes=%" PRId64 "\n#SBATCH --ntasks=%" PRId64
                 "\n#SBATCH --ntasks-per-node=%" PRId64 "\n", m->e->run.nodes, m->e->plan->ranks, node->tasks);
    if (node->gpus > 0) dsc_text_add(out, "#SBATCH --gpus-per-node=%" PRId64 "\n", node->gpus);
    dsc_text_add(out, "#SBATCH --cpus-per-task=%" PRId64 "\n#SBATCH --signal=B:USR1@%" PRId64
                 "\n#SBATCH --requeue\n#SBATCH --open-mode=append\n", DSC_MAX(node->cores / node->tasks, 1),
                 warning_s(m->e));
}

/* srun hands USR1 on to all tasks, and does not take the batch script's cores a task by itself. Tasks all end with one
 * status, some milliseconds apart: without --kill-on-bad-exit=0 the first 4 would have Slurm kill the others, whose
 * status would then count. A trap ends a `wait` early; the last one has the status. */
static dsc_status add_job(emission *m)
{
    dsc_status status = DSC_OK;
    dsc_text out = {0};
    shape node;

    DSC_TRY(find_shape(m, &node));
    dsc_text_add(&out, "#!/bin/bash\n"
                 "# sbatch [--account A --time T]... job.slurm --data DATA --steps K [OPTION of dsc-run]...\n"
                 "# Ahead of the time limit all ranks save and end with 4, upon which the job is queued again and\n"
                 "# goes on from there. SRUN may name another launcher (SRUN='srun --mpi=pmi2'), DSC_RUN another\n"
                 "# dsc-run, DSC_PLAN this folder where it was moved, DSC_SAVE the folder of checkpoints, which all\n"
                 "# nodes share.\n");
    add_kinds(m, &out);
    add_directives(m, &node, &out);
    dsc_text_add(&out, "\nplan=");
    add_quoted(m->absolute, &out);
    dsc_text_add(&out, "\n${SRUN:-srun} --kill-on-bad-exit=0 --wait=60 --distribution=block \\\n"
                 "    --cpus-per-task=\"${SLURM_CPUS_PER_TASK:-1}\" \"${DSC_RUN:-dsc-run}\" \\\n"
                 "    --plan \"${DSC_PLAN:-$plan}\" --save \"${DSC_SAVE:-${SLURM_SUBMIT_DIR:-.}/checkpoints}\" \\\n"
                 "    --resume auto");
    add_length(&m->e->run, true, &out);
    dsc_text_add(&out, " \"$@\" &\n"
                 "run=$!\n"
                 "trap 'kill -USR1 \"$run\"' USR1\n"
                 "trap 'kill -TERM \"$run\"' TERM\n"
                 "while kill -0 \"$run\" 2>/dev/null; do wait \"$run\"; done\n"
                 "wait \"$run\"\n"
                 "status=$?\n"
                 "[ \"$status\" -ne 4 ] || scontrol requeue \"$SLURM_JOB_ID\"\n"
                 "exit \"$status\"\n");
    status = add_text(m, DSC_PLAN_JOB, &out, true);
out:
    return status;
}

/* ---- Writing */

/* As dsc-run will read it: the program has to be the same. */
static dsc_status check_written(const char *written, const dsc_plan_facts *facts)
{
    static tool_inputs inputs;
    const dsc_field_table tables[] = {{.title = "", .fields = tool_plan_fields, .base = &inputs}, {0}};
    char plan[] = "--plan", folder[4096], *words[] = {plan, plan, folder, NULL}, hash[33];
    const dsc_program *const *programs = NULL;
    dsc_cluster *cluster = NULL;
    dsc_plan *placed = NULL;
    dsc_status status = DSC_OK;
    dsc_model model;

    snprintf(folder, sizeof folder, "%s", written);
    DSC_TRY(tool_load(3, words, tables, &inputs));
    DSC_TRY(dsc_model_load(inputs.model, &model));
    DSC_TRY(dsc_cluster_load(inputs.cluster, &cluster));
    DSC_TRY(dsc_programs_place(&model, cluster, &inputs.config, &placed, &programs));
    dsc_programs_hash(placed, programs, hash);
    if (!dsc_equal(hash, facts->program_hash))
        status = DSC_FAIL(DSC_EINTERNAL, "--emit: what was written makes program %s, not %s", hash,
                          facts->program_hash);
out:
    dsc_programs_destroy(placed, programs);
    dsc_plan_destroy(placed);
    dsc_cluster_destroy(cluster);
    tool_unload(&inputs);
    return status;
}

static dsc_status write_folder(emission *m)
{
    dsc_plan_facts facts = {.ranks = m->e->plan->ranks};
    char written[4096] = "";
    dsc_status status = DSC_OK;

    dsc_programs_hash(m->e->plan, m->e->programs, facts.program_hash);
    memcpy(facts.plan_hash, m->e->plan->hash, sizeof facts.plan_hash);
    DSC_TRY(dsc_plan_folder_write(m->path, &facts, m->files, m->count, written));
    DSC_TRY(check_written(written, &facts));
    DSC_TRY(dsc_plan_folder_commit(written, m->path));
    written[0] = '\0';
out:
    dsc_plan_folder_abandon(written);
    return status;
}

/* Slurm runs a copy of its script, which cannot ask where it lies. */
static dsc_status find_paths(const char *path, emission *m)
{
    char folder[PATH_MAX], *slash;
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/') length--;
    snprintf(m->path, sizeof m->path, "%.*s", (int)length, path);
    snprintf(folder, sizeof folder, "%s", m->path);
    slash = strrchr(folder, '/');
    if (slash != NULL) slash[slash == folder] = '\0';
    if (realpath(slash == NULL ? "." : folder, m->absolute) == NULL)
        return DSC_FAIL(DSC_EINVAL, "--emit %s: there is no folder for it", path);
    length = strlen(m->absolute);
    slash = strrchr(m->path, '/');
    snprintf(m->absolute + length, sizeof m->absolute - length, "%s%s", length > 1 ? "/" : "",
             slash == NULL ? m->path : slash + 1);
    return DSC_OK;
}

dsc_status check_emit(const char *path)
{
    emission *m = calloc(1, sizeof *m);
    dsc_status status = m == NULL ? DSC_FAIL(DSC_ENOMEM, "--emit: %zu bytes", sizeof *m) : DSC_OK;

    if (status == DSC_OK) status = find_paths(path, m);
    if (status == DSC_OK) status = dsc_plan_folder_check(m->path);
    free(m);
    return status;
}

dsc_status emit(const evaluation *e, const dsc_attention *attention, const char *path)
{
    emission *m = calloc(1, sizeof *m);
    dsc_status status = DSC_OK;

    if (m == NULL) return DSC_FAIL(DSC_ENOMEM, "--emit: %zu bytes", sizeof *m);
    m->e = e;
    DSC_TRY(find_paths(path, m));
    DSC_TRY(add_descriptions(m, attention));
    DSC_TRY(add_launch(m));
    DSC_TRY(add_job(m));
    DSC_TRY(write_folder(m));
out:
    for (int64_t i = 0; i < m->count; i++) free(m->texts[i]);
    free(m);
    return status;
}
