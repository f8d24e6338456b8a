/* dsc-trace: what a trace says, what two differ in, and traces for other viewers. Files may be a stranger's or damaged:
 * they are parsed in a child process, which hands the text over. */
#include "store/guard.h"
#include "store/trace_file.h"
#include "tools/common.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const tool self = {
    "dsc-trace",
    "dsc-trace summary F.h5 | diff PREDICTED MEASURED | export F.h5 -o OUT",
    "Shows where the time of a predicted or measured step goes, and compares the two.\n\n"
    "  summary F.h5             time by lane and kind, overlap, idle time, the slowest ops\n"
    "  diff PREDICTED MEASURED  per lane and op kind, then the ops that differ most; status 1\n"
    "                           when the median step differs by more than the tolerance\n"
    "  export F.h5 -o OUT       Chrome and Perfetto's JSON when OUT ends in .json, a table in .csv"};

typedef struct options {
    char out[4096];
    double tolerance;
    bool json;
} options;

static const dsc_field fields[] = {
    {.name = "tolerance", .type = DSC_FIELD_REAL, .offset = offsetof(options, tolerance), .low = 0, .high = 1e6,
     .argument = "X", .help = "of diff: relative error of the median step that is accepted (0.15)"},
    {.name = "o", .type = DSC_FIELD_STRING, .offset = offsetof(options, out), .size = sizeof ((options *)0)->out,
     .argument = "OUT", .help = "of export: file to write, - is standard output, as JSON"},
    {.name = "json", .type = DSC_FIELD_FLAG, .offset = offsetof(options, json),
     .help = "of summary and diff: one JSON object on standard output"},
    {0}};

/* A sub-command's work, done in the child: *value is diff's relative error. */
typedef struct request { const options *options; const char *const *files; } request;

static dsc_status summarize(void *context, dsc_text *text, double *value)
{
    const request *request = context;
    dsc_trace trace;
    dsc_status status;

    (void)value;
    if ((status = dsc_trace_load(request->files[0], &trace)) != DSC_OK) return status;
    status = request->options->json ? dsc_trace_summary_json(&trace, text) : dsc_trace_summary(&trace, text);
    if (status != DSC_OK) dsc_fail_in(status, "%s", request->files[0]);
    dsc_trace_fini(&trace);
    return status;
}

static dsc_status check_kind(const char *path, const dsc_trace *trace, bool is_measured)
{
    if (trace->head.is_measured == is_measured) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s: a %s trace where a %s one is taken: dsc-trace diff PREDICTED MEASURED", path,
                    trace->head.is_measured ? "measured" : "predicted", is_measured ? "measured" : "predicted");
}

static dsc_status compare(void *context, dsc_text *text, double *value)
{
    const request *request = context;
    dsc_trace predicted, measured;
    dsc_status status = DSC_OK;

    dsc_trace_init(&predicted);
    dsc_trace_init(&measured);
    DSC_TRY(dsc_trace_load(request->files[0], &predicted));
    DSC_TRY(dsc_trace_load(request->files[1], &measured));
    DSC_TRY(check_kind(request->files[0], &predicted, false));
    DSC_TRY(check_kind(request->files[1], &measured, true));
    status = request->options->json ? dsc_trace_diff_json(&predicted, &measured, text, value)
                                    : dsc_trace_diff(&predicted, &measured, text, value);
    if (status != DSC_OK) dsc_fail_in(status, "%s and %s do not join", request->files[0], request->files[1]);
out:
    dsc_trace_fini(&predicted);
    dsc_trace_fini(&measured);
    return status;
}

static bool has_suffix(const char *path, const char *suffix)
{
    size_t length = strlen(path), end = strlen(suffix);

    return length >= end && dsc_equal(path + length - end, suffix);
}

static dsc_status convert(void *context, dsc_text *text, double *value)
{
    const request *request = context;
    dsc_trace trace;
    dsc_status status;

    (void)value;
    if ((status = dsc_trace_load(request->files[0], &trace)) != DSC_OK) return status;
    status = has_suffix(request->options->out, ".csv") ? dsc_trace_export_csv(&trace, text)
                                                       : dsc_trace_export_json(&trace, text);
    if (status != DSC_OK) dsc_fail_in(status, "%s", request->files[0]);
    dsc_trace_fini(&trace);
    return status;
}

/* ---- The sub-commands, in the parent */

static dsc_status write_text(const dsc_text *text, const char *path)
{
    bool is_stdout = path[0] == '\0' || dsc_equal(path, "-");
    FILE *file = is_stdout ? stdout : fopen(path, "we");
    bool is_written;

    if (file == NULL) return DSC_FAIL(DSC_EINVAL, "%s: cannot write: %s", path, strerror(errno));
    is_written = fwrite(dsc_text_str(text), 1, (size_t)text->count, file) == (size_t)text->count;
    if (is_stdout) return DSC_OK; /* tool_end looks at it */
    if (fclose(file) != 0 || !is_written) return DSC_FAIL(DSC_EIO, "%s: cannot write: %s", path, strerror(errno));
    return DSC_OK;
}

/* Does the work in the child and writes its text to out. */
static dsc_status show(const char *what, dsc_guarded *work, request request, const char *out, double *value)
{
    dsc_text text = {0};
    dsc_status status = dsc_guard(what, DSC_GUARD_SECONDS, work, &request, &text, value);

    if (status == DSC_OK) status = write_text(&text, out);
    dsc_text_fini(&text);
    return status;
}

static dsc_status run_summary(const void *options, const char *const *files)
{
    double none;

    return show(files[0], summarize, (request){options, files}, "", &none);
}

static dsc_status run_diff(const void *context, const char *const *files)
{
    const options *options = context;
    char what[256];
    double relative = 0;
    dsc_status status;

    snprintf(what, sizeof what, "%.120s or %.120s", files[0], files[1]);
    status = show(what, compare, (request){options, files}, "", &relative);
    if (status == DSC_OK && relative > options->tolerance)
        status = DSC_FAIL(DSC_EINFEASIBLE, "the median step differs by %.1f %%, more than the tolerance of %.1f %%",
                          100 * relative, 100 * options->tolerance);
    return status;
}

static dsc_status run_export(const void *context, const char *const *files)
{
    const options *options = context;
    double none;

    if (options->json) return DSC_FAIL(DSC_EINVAL, "--json: export writes JSON when OUT ends in .json");
    if (!dsc_equal(options->out, "-") && !has_suffix(options->out, ".json") && !has_suffix(options->out, ".csv"))
        return DSC_FAIL(DSC_EINVAL, "-o: \"%s\" ends neither in .json nor in .csv", options->out);
    return show(files[0], convert, (request){options, files}, options->out, &none);
}

static const char kind[] = "a trace is an HDF5 file";
static const tool_command commands[] = {{"summary", "F.h5", 1, kind, run_summary},
                                        {"diff", "PREDICTED MEASURED", 2, kind, run_diff},
                                        {"export", "F.h5 -o OUT", 1, kind, run_export},
                                        {0}};

int main(int argc, char **argv)
{
    options options = {.tolerance = 0.15};
    const dsc_field_table tables[] = {{"Options", fields, &options, NULL}, {0}};

    return tool_run(&self, argc, argv, tables, commands);
}
