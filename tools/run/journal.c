/* What a run tells: a line a step on stdout, JSON lines, a trace. Each rank packs its part behind a small header, rank
 * 0 receives all and writes. */
#include "tools/run/run.h"
#include "base/log.h"
#include "base/parse.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a rank sends: this, then its rows of ops, then of memory, on rank 0's clock. */
typedef struct packet_head {
    dsc_step_report report;
    int64_t op_count, memory_count;
} packet_head;

struct journal {
    FILE *log;
    dsc_trace_writer *writer;
    bool is_tracing;             /* some rank's rows are wanted */
    bool *is_rank_traced;        /* [ranks]; NULL: all */
    int64_t first_traced, last_traced;
    int64_t clock_offset_ns, clock_uncertainty_ns, start_ns; /* to rank 0's clock; the run's start on it */
    dsc_trace mine, all;
};

/* ---- Options */

/* "A:B", "A:", ":B" or "A". */
static dsc_status parse_steps(journal *g, const char *words)
{
    char first[64], *colon;
    dsc_status status = DSC_OK;

    g->first_traced = 1;
    g->last_traced = INT64_MAX;
    if (words[0] == '\0') return DSC_OK;
    snprintf(first, sizeof first, "%s", words);
    colon = strchr(first, ':');
    if (colon != NULL) *colon = '\0';
    if (first[0] != '\0') DSC_TRY(dsc_parse_int("--trace-steps", first, 1, INT64_MAX, &g->first_traced));
    if (colon == NULL) g->last_traced = g->first_traced;
    else if (colon[1] != '\0')
        DSC_TRY(dsc_parse_int("--trace-steps", colon + 1, g->first_traced, INT64_MAX, &g->last_traced));
out:
    return status;
}

/* "all" or "0,3,8-15". */
static dsc_status parse_ranks(journal *g, const char *words, int64_t ranks)
{
    char copy[4096], *rest = copy, *word;
    dsc_status status = DSC_OK;
    int64_t first, last;

    if (words[0] == '\0' || strcmp(words, "all") == 0) return DSC_OK;
    g->is_rank_traced = calloc((size_t)ranks, sizeof *g->is_rank_traced);
    if (g->is_rank_traced == NULL) return DSC_FAIL(DSC_ENOMEM, "--trace-ranks of %" PRId64 " ranks", ranks);
    snprintf(copy, sizeof copy, "%s", words);
    while ((word = strsep(&rest, ",")) != NULL) {
        DSC_TRY(dsc_parse_range("--trace-ranks", word, 0, ranks - 1, &first, &last));
        for (int64_t rank = first; rank <= last; rank++) g->is_rank_traced[rank] = true;
    }
out:
    return status;
}

/* ---- Opening */

/* Keeps the lines of steps up to `last`: they are written beside and renamed, so that a kill leaves one or the
 * other. */
static dsc_status cut_log(const char *path, int64_t last)
{
    dsc_status status = DSC_OK;
    dsc_text beside = {0};
    FILE *in = fopen(path, "r"), *out = NULL;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    bool is_written;

    if (in == NULL && errno == ENOENT) return DSC_OK;
    dsc_text_add(&beside, "%s.tmp", path);
    if (in == NULL || (out = fopen(dsc_text_str(&beside), "w")) == NULL)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--log %s: %s", path, strerror(errno)));
    while ((length = getline(&line, &room, in)) > 0) {
        json_t *row = json_loads(line, 0, NULL);
        const json_t *step = json_object_get(row, "step");

        if (json_is_integer(step) && json_integer_value(step) <= last) fwrite(line, 1, (size_t)length, out);
        json_decref(row);
    }
    is_written = !ferror(in) && fflush(out) == 0 && !ferror(out);
    if (!is_written || rename(dsc_text_str(&beside), path) != 0)
        status = DSC_FAIL(DSC_EIO, "--log %s: %s", path, strerror(errno));
out:
    if (out != NULL) fclose(out);
    if (in != NULL) fclose(in);
    free(line);
    dsc_text_fini(&beside);
    return status;
}

static dsc_status open_log(const job *j, journal *g)
{
    const char *path = j->options.log;
    bool is_resumed = j->first_step > 0;
    dsc_status status = DSC_OK;

    if (path[0] == '\0') return DSC_OK;
    if (is_resumed) DSC_TRY(cut_log(path, j->first_step));
    g->log = fopen(path, is_resumed ? "a" : "w");
    if (g->log == NULL) status = DSC_FAIL(DSC_EINVAL, "--log %s: %s", path, strerror(errno));
out:
    return status;
}

/* F.h5 or, where a resumed run finds it taken, F.2.h5, F.3.h5, ... */
static void name_trace(const job *j, dsc_text *out)
{
    const char *path = j->options.trace, *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
    int stem = dot != NULL && (slash == NULL || dot > slash) ? (int)(dot - path) : (int)strlen(path);

    dsc_text_add(out, "%s", path);
    for (int i = 2; j->first_step > 0 && access(dsc_text_str(out), F_OK) == 0; i++) {
        out->count = 0;
        dsc_text_add(out, "%.*s.%d%s", stem, path, i, path + stem);
    }
}

static dsc_status open_trace(const job *j, journal *g)
{
    dsc_trace facts;
    dsc_text path = {0};
    dsc_status status = DSC_OK;

    dsc_trace_init(&facts);
    DSC_TRY(dsc_program_head(j->plan, j->cluster, j->programs, &facts.head));
    DSC_TRY(dsc_program_groups(j->plan, &facts));
    facts.head.is_measured = true;
    facts.head.clock_uncertainty_ns = g->clock_uncertainty_ns;
    for (int64_t rank = 0; rank < j->plan->ranks; rank++) {
        dsc_rank_row row = {(int32_t)rank, (int32_t)rank};

        DSC_TRY(DSC_PUSH(facts.ranks, facts.rank_count, facts.rank_capacity, row));
    }
    name_trace(j, &path);
    DSC_TRY(dsc_trace_writer_open(dsc_text_str(&path), &facts.head, facts.groups, facts.group_count, facts.ranks,
                                  facts.rank_count, &g->writer));
out:
    dsc_text_fini(&path);
    dsc_trace_fini(&facts);
    return status;
}

static dsc_status open_files(job *j, journal *g)
{
    dsc_status status = DSC_OK;

    DSC_TRY(parse_steps(g, j->options.trace_steps));
    DSC_TRY(parse_ranks(g, j->options.trace_ranks, j->plan->ranks));
    if (j->rank != 0) goto out;
    DSC_TRY(open_log(j, g));
    if (g->is_tracing) DSC_TRY(open_trace(j, g));
out:
    return status;
}

dsc_status journal_open(job *j, journal **out)
{
    dsc_status status = DSC_OK;
    journal *g = calloc(1, sizeof *g);

    if (g == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "journal: %zu bytes", sizeof *g);
        goto out;
    }
    dsc_trace_init(&g->mine);
    dsc_trace_init(&g->all);
    g->is_tracing = j->options.trace[0] != '\0';
    DSC_TRY(dsc_clock_align(j->comm, &g->clock_offset_ns, &g->clock_uncertainty_ns));
    g->clock_uncertainty_ns += dsc_run_clock_uncertainty_ns(j->run);
    DSC_TRY(dsc_comm_max(j->comm, &g->clock_uncertainty_ns, 1));
    g->start_ns = dsc_clock_ns();
    DSC_TRY(dsc_comm_broadcast(j->comm, &g->start_ns, sizeof g->start_ns, 0));
    DSC_TRY(dsc_comm_agree(j->comm, open_files(j, g), false));
    *out = g;
    g = NULL;
out:
    journal_close(&g);
    return status;
}

dsc_status journal_close(journal **owner)
{
    journal *g = *owner;
    dsc_status status = DSC_OK;

    if (g == NULL) return DSC_OK;
    if (g->log != NULL && fclose(g->log) != 0) status = DSC_FAIL(DSC_EIO, "--log: %s", strerror(errno));
    if (g->writer != NULL && dsc_trace_writer_close(&g->writer) != DSC_OK) status = DSC_EIO;
    dsc_trace_fini(&g->mine);
    dsc_trace_fini(&g->all);
    free(g->is_rank_traced);
    free(g);
    *owner = NULL;
    return status;
}

dsc_trace *journal_rows(job *j, int64_t step)
{
    journal *g = j->journal;
    bool is_wanted = g->is_tracing && step >= g->first_traced && step <= g->last_traced;

    return is_wanted && (g->is_rank_traced == NULL || g->is_rank_traced[j->rank]) ? &g->mine : NULL;
}

/* ---- Gathering */

static void to_run_time(const journal *g, int64_t *t_ns) { *t_ns += g->clock_offset_ns - g->start_ns; }

static dsc_status pack(journal *g, const dsc_step_report *report, const dsc_trace *rows, char **out, int64_t *bytes)
{
    packet_head head = {.report = *report, .op_count = rows != NULL ? rows->op_count : 0,
                        .memory_count = rows != NULL ? rows->memory_count : 0};
    int64_t op_bytes = head.op_count * (int64_t)sizeof(dsc_op_row),
            memory_bytes = head.memory_count * (int64_t)sizeof(dsc_memory_row);
    char *packet = malloc(sizeof head + (size_t)(op_bytes + memory_bytes));

    if (packet == NULL) return DSC_FAIL(DSC_ENOMEM, "journal: %" PRId64 " rows", head.op_count);
    to_run_time(g, &head.report.t_start_ns);
    to_run_time(g, &head.report.t_end_ns);
    for (int64_t i = 0; i < head.op_count; i++) {
        to_run_time(g, &rows->ops[i].t_start_ns);
        to_run_time(g, &rows->ops[i].t_end_ns);
    }
    for (int64_t i = 0; i < head.memory_count; i++) to_run_time(g, &rows->memory[i].t_ns);
    memcpy(packet, &head, sizeof head);
    if (op_bytes > 0) memcpy(packet + sizeof head, rows->ops, (size_t)op_bytes);
    if (memory_bytes > 0) memcpy(packet + sizeof head + op_bytes, rows->memory, (size_t)memory_bytes);
    *out = packet;
    *bytes = (int64_t)sizeof head + op_bytes + memory_bytes;
    return DSC_OK;
}

/* All ranks' packets, one behind another, into rows, the reports of all, and the step as a whole in *total. */
static dsc_status unpack(journal *g, const char *packets, int ranks, dsc_step_report *reports, dsc_step_report *total)
{
    dsc_status status = DSC_OK;

    g->all.op_count = g->all.memory_count = g->all.step_count = 0;
    for (int rank = 0; rank < ranks; rank++) {
        packet_head head;

        memcpy(&head, packets, sizeof head);
        packets += sizeof head;
        reports[rank] = head.report;
        DSC_TRY(
            dsc_array_reserve(&g->all.ops, &g->all.op_capacity, g->all.op_count + head.op_count, sizeof(dsc_op_row)));
        DSC_TRY(dsc_array_reserve(&g->all.memory, &g->all.memory_capacity, g->all.memory_count + head.memory_count,
                                  sizeof(dsc_memory_row)));
        if (head.op_count > 0)
            memcpy(g->all.ops + g->all.op_count, packets, (size_t)head.op_count * sizeof(dsc_op_row));
        packets += head.op_count * (int64_t)sizeof(dsc_op_row);
        if (head.memory_count > 0)
            memcpy(g->all.memory + g->all.memory_count, packets, (size_t)head.memory_count * sizeof(dsc_memory_row));
        packets += head.memory_count * (int64_t)sizeof(dsc_memory_row);
        g->all.op_count += head.op_count;
        g->all.memory_count += head.memory_count;
        if (rank == 0) {
            *total = head.report;
            continue;
        }
        total->t_start_ns = DSC_MIN(total->t_start_ns, head.report.t_start_ns);
        total->t_end_ns = DSC_MAX(total->t_end_ns, head.report.t_end_ns);
        total->wire_bytes += head.report.wire_bytes;
        for (int way = 0; way < 2; way++) total->copied_bytes[way] += head.report.copied_bytes[way];
    }
out:
    return status;
}

/* ---- Writing */

static void make_line(const job *j, const dsc_step_report *total, const dsc_step_report *reports, dsc_text *line)
{
    double seconds = (double)(total->t_end_ns - total->t_start_ns) * 1e-9, tokens = (double)total->tokens;
    double flops = tokens * dsc_model_flops_per_token(&j->plan->model, j->plan->config.strategy.seq_len);
    int64_t peak = 0;

    for (int64_t rank = 0; rank < j->plan->ranks; rank++)
        peak = DSC_MAX(peak, reports[rank].peak_bytes[DSC_SPACE_DEVICE]);
    dsc_text_add(line,
                 "step %" PRId64 "/%" PRId64 "  loss %.6f  lr %.3e  grad %.4f  %.0f tokens/s  %.3f TFLOP/s  peak %s",
                 total->step, j->options.steps, total->loss, total->lr, total->grad_norm, tokens / seconds,
                 flops / seconds / (double)j->plan->ranks * 1e-12, dsc_bytes_str(peak).str);
    if (total->is_skipped) dsc_text_add(line, "  skipped");
    if (!isnan(total->evaluation_loss)) dsc_text_add(line, "  eval %.6f", total->evaluation_loss);
    dsc_text_add(line, "\n");
}

/* Of --steps-per-print, and the last. */
static bool is_printed(const job *j, int64_t step)
{
    int64_t each = j->plan->config.steps_per_print;

    return each == 0 || step % each == 0 || step == j->options.steps;
}

/* JSON has no word for what is no number. */
static void add_real(dsc_text *line, const char *key, double value)
{
    if (isfinite(value)) dsc_text_add(line, ",\"%s\":%.9g", key, value);
    else dsc_text_add(line, ",\"%s\":null", key);
}

static void add_peaks(dsc_text *line, const char *key, const dsc_step_report *reports, int64_t ranks, int space)
{
    dsc_text_add(line, ",\"%s\":[", key);
    for (int64_t rank = 0; rank < ranks; rank++)
        dsc_text_add(line, "%s%" PRId64, rank > 0 ? "," : "", reports[rank].peak_bytes[space]);
    dsc_text_add(line, "]");
}

static void make_json(const job *j, const dsc_step_report *total, const dsc_step_report *reports, dsc_text *line)
{
    dsc_text_add(line, "{\"step\":%" PRId64, total->step);
    add_real(line, "loss", total->loss);
    add_real(line, "lr", total->lr);
    add_real(line, "grad_norm", total->grad_norm);
    dsc_text_add(line, ",\"tokens\":%" PRId64, total->tokens);
    add_real(line, "step_s", (double)(total->t_end_ns - total->t_start_ns) * 1e-9);
    dsc_text_add(line, ",\"wire_bytes\":%" PRId64, total->wire_bytes);
    dsc_text_add(line, ",\"copy_in_bytes\":%" PRId64 ",\"copy_out_bytes\":%" PRId64, total->copied_bytes[0],
                 total->copied_bytes[1]);
    add_peaks(line, "peak_device_bytes", reports, j->plan->ranks, DSC_SPACE_DEVICE);
    add_peaks(line, "peak_host_bytes", reports, j->plan->ranks, DSC_SPACE_HOST);
    dsc_text_add(line, ",\"loss_scale\":%.17g", total->loss_scale); /* a power of two: exactly */
    dsc_text_add(line, ",\"skipped\":%s,\"path\":\"%s\"", total->is_skipped ? "true" : "false", total->path);
    if (!isnan(total->evaluation_loss)) add_real(line, "eval_loss", total->evaluation_loss);
    dsc_text_add(line, "}\n");
}

/* The step's line on stdout, for people or, with --json, for programs; and in the log. */
static dsc_status write_lines(const job *j, const dsc_step_report *total, const dsc_step_report *reports)
{
    FILE *log = j->journal->log;
    dsc_text json = {0}, line = {0};
    dsc_status status = DSC_OK;

    make_json(j, total, reports, &json);
    make_line(j, total, reports, &line);
    if (is_printed(j, total->step) &&
        (fputs(dsc_text_str(j->options.json ? &json : &line), stdout) < 0 || fflush(stdout) != 0))
        status = DSC_FAIL(DSC_EIO, "standard output: %s", strerror(errno));
    if (log != NULL && (json.failed || fputs(dsc_text_str(&json), log) < 0 || fflush(log) != 0))
        status = DSC_FAIL(DSC_EIO, "--log %s: %s", j->options.log, strerror(errno));
    dsc_text_fini(&json);
    dsc_text_fini(&line);
    return status;
}

static dsc_status trace_step(journal *g, const dsc_step_report *total)
{
    dsc_step_row row = {.step = (int32_t)total->step,
                        .loss = total->loss,
                        .lr = total->lr,
                        .grad_norm = total->grad_norm,
                        .tokens = total->tokens,
                        .t_start_ns = total->t_start_ns,
                        .t_end_ns = total->t_end_ns,
                        .wire_bytes = total->wire_bytes};

    if (g->writer == NULL || total->step < g->first_traced || total->step > g->last_traced) return DSC_OK;
    memcpy(row.path, total->path, sizeof row.path);
    if (DSC_PUSH(g->all.steps, g->all.step_count, g->all.step_capacity, row) != DSC_OK) return DSC_ENOMEM;
    return dsc_trace_writer_append(g->writer, &g->all);
}

static dsc_status write_step(job *j, const char *packets)
{
    dsc_step_report *reports = calloc((size_t)j->plan->ranks, sizeof *reports), total;
    dsc_status status = DSC_OK;

    if (reports == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "journal: %" PRId64 " reports", j->plan->ranks));
    DSC_TRY(unpack(j->journal, packets, (int)j->plan->ranks, reports, &total));
    DSC_TRY(trace_step(j->journal, &total)); /* first: whatever kills a run, its trace is not behind its log */
    DSC_TRY(write_lines(j, &total, reports));
out:
    free(reports);
    return status;
}

dsc_status journal_step(job *j, const dsc_step_report *report, const dsc_trace *rows)
{
    int64_t bytes = 0, *counts = calloc((size_t)j->plan->ranks, sizeof *counts);
    char *packet = NULL;
    void *packets = NULL;
    dsc_status status = DSC_OK;

    if (counts == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "journal: %" PRId64 " counts", j->plan->ranks));
    DSC_TRY(pack(j->journal, report, rows, &packet, &bytes));
    DSC_TRY(dsc_comm_gather(j->comm, packet, bytes, &packets, counts));
    DSC_TRY(dsc_comm_agree(j->comm, j->rank == 0 ? write_step(j, packets) : DSC_OK, false));
out:
    free(counts);
    free(packet);
    free(packets);
    return status;
}
