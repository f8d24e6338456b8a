/* dsc-checkpoint: which checkpoints there are, whether they are what was written, and what two differ in. Works from
 * the manifests and the bytes alone: HDF5 is not needed, so a damaged file cannot do harm. */
#include "store/checkpoint.h"
#include "store/manifest.h"
#include "store/paths.h"
#include "tools/common.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const tool self = {
    "dsc-checkpoint",
    "dsc-checkpoint list DIR | verify PATH | diff A B",
    "Lists, verifies and compares checkpoints.\n\n"
    "  list DIR     the steps in a folder that dsc-run --save wrote\n"
    "  verify PATH  compares every byte of DIR/step-N with its hashes and names the tensors that are\n"
    "               damaged; status 1 when there is one\n"
    "  diff A B     the tensors of two steps (DIR/step-N) that differ; status 1 when there is one"};

typedef struct options { double rtol; bool json; } options;

static const dsc_field fields[] = {
    {.name = "rtol", .type = DSC_FIELD_REAL, .offset = offsetof(options, rtol), .low = 0, .high = 1e6, .argument = "X",
     .help = "of diff: accepted distance of two tensors, relative in norm (0: equal)"},
    {.name = "json", .type = DSC_FIELD_FLAG, .offset = offsetof(options, json), .help = "JSON on standard output"},
    {0}};

/* Takes the reference. */
static dsc_status print_json(json_t *value)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));

    json_decref(value);
    if (text == NULL) return DSC_FAIL(DSC_EINTERNAL, "a name is no UTF-8, or memory is out");
    puts(text);
    free(text);
    return DSC_OK;
}

/* ---- A checkpoint as bytes */

typedef struct checkpoint { dsc_manifest manifest; int file; struct stat facts; } checkpoint;

static void close_checkpoint(checkpoint *checkpoint)
{
    if (checkpoint->file >= 0) close(checkpoint->file);
    dsc_manifest_fini(&checkpoint->manifest);
}

static dsc_status open_checkpoint(const char *folder, checkpoint *out)
{
    dsc_path manifest, data;
    dsc_status status = DSC_OK;

    out->file = -1;
    DSC_TRY(dsc_path_join(folder, "manifest.json", &manifest));
    DSC_TRY(dsc_path_join(folder, "checkpoint.h5", &data));
    DSC_TRY(dsc_manifest_load(manifest.str, &out->manifest));
    out->file = open(data.str, O_RDONLY | O_CLOEXEC);
    if (out->file < 0 || fstat(out->file, &out->facts) != 0)
        status = DSC_FAIL(DSC_EINVAL, "%s: cannot read: %s", data.str, strerror(errno));
out:
    return status;
}

static bool is_tensor(const dsc_range *range)
{
    return range->name[0] == '/';
}

static int64_t count_tensors(const dsc_manifest *manifest)
{
    int64_t count = 0;

    for (int64_t i = 0; i < manifest->range_count; i++) count += is_tensor(&manifest->ranges[i]);
    return count;
}

/* ---- list */

/* NULL when the manifest is whole and the file as long as it says; else why not. Bytes are not compared. */
static const char *fault_of(dsc_status status, const checkpoint *checkpoint)
{
    if (status != DSC_OK) return dsc_message();
    return (int64_t)checkpoint->facts.st_size == checkpoint->manifest.bytes ? NULL : "the file's size is another";
}

static void list_one(const char *name, const char *fault, const checkpoint *checkpoint, dsc_text *rows, json_t *array)
{
    char saved[32] = "";
    struct tm parts;

    if (gmtime_r(&checkpoint->facts.st_mtime, &parts) != NULL)
        strftime(saved, sizeof saved, "%Y-%m-%dT%H:%M:%SZ", &parts);
    dsc_text_add(rows, "%s\t%" PRId64 "\t%s\t%s\t%s\n", name, count_tensors(&checkpoint->manifest),
                 dsc_bytes_str(checkpoint->manifest.bytes).str, saved, fault == NULL ? "complete" : fault);
    json_array_append_new(array, json_pack("{s:s, s:I, s:I, s:s, s:b, s:s?}", "name", name, "tensors",
                                           (json_int_t)count_tensors(&checkpoint->manifest), "bytes",
                                           (json_int_t)checkpoint->manifest.bytes, "saved", saved, "complete",
                                           fault == NULL, "reason", fault));
}

static dsc_status list_steps(const char *folder, const int64_t *steps, int64_t count, dsc_text *rows, json_t *array)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < count; i++) {
        char name[32];
        dsc_path path;
        checkpoint checkpoint = {.file = -1};

        snprintf(name, sizeof name, "step-%08" PRId64, steps[i]);
        DSC_TRY(dsc_path_join(folder, name, &path));
        list_one(name, fault_of(open_checkpoint(path.str, &checkpoint), &checkpoint), &checkpoint, rows, array);
        close_checkpoint(&checkpoint);
    }
out:
    return status;
}

static dsc_status run_list(const void *context, const char *const *operands)
{
    const options *options = context;
    int64_t *steps = NULL, count = 0;
    json_t *array = json_array();
    dsc_text rows = {0}, table = {0};
    dsc_status status = DSC_OK;

    if (access(operands[0], R_OK) != 0) {
        status = DSC_FAIL(DSC_EINVAL, "%s: cannot read: %s", operands[0], strerror(errno));
        goto out;
    }
    DSC_TRY(dsc_checkpoint_steps(operands[0], &steps, &count));
    dsc_text_add(&rows, "step\ttensors\tsize\tsaved\tstate\n");
    DSC_TRY(list_steps(operands[0], steps, count, &rows, array));
    if (options->json) {
        status = print_json(json_incref(array));
    } else if (count == 0) {
        printf("no checkpoint in %s\n", operands[0]);
    } else {
        dsc_table_print(dsc_text_str(&rows), &table);
        fputs(dsc_text_str(&table), stdout);
    }
out:
    json_decref(array);
    dsc_text_fini(&rows);
    dsc_text_fini(&table);
    free(steps);
    return status;
}

/* ---- verify */

static dsc_status run_verify(const void *context, const char *const *operands)
{
    const options *options = context;
    dsc_text report = {0};
    dsc_status status = dsc_checkpoint_verify(operands[0], &report), printed = DSC_OK;

    if (options->json && (status == DSC_OK || status == DSC_EINFEASIBLE))
        printed = print_json(json_pack("{s:s, s:b, s:s}", "path", operands[0], "verifies", status == DSC_OK, "report",
                                       dsc_text_str(&report)));
    else
        fputs(dsc_text_str(&report), stdout);
    dsc_text_fini(&report);
    return status != DSC_OK ? status : printed;
}

/* ---- diff */

/* How far two tensors are apart. */
typedef struct distance { double relative, largest; } distance; /* in norm, of A's; of one element; infinite: none */

enum { PIECE = 1 << 18 };

static void add_squares(const float *a, const float *b, int64_t count, double *apart, double *norm, double *largest)
{
    for (int64_t i = 0; i < count; i++) {
        double difference = memcmp(&a[i], &b[i], sizeof *a) == 0 ? 0 : (double)a[i] - (double)b[i];

        *norm += (double)a[i] * a[i];
        *apart += difference * difference;
        *largest = isnan(difference) ? INFINITY : fmax(*largest, fabs(difference));
    }
}

static dsc_status measure(const checkpoint *a, const dsc_range *x, const checkpoint *b, const dsc_range *y,
                          distance *out)
{
    static float left[PIECE], right[PIECE];
    double apart = 0, norm = 0, largest = 0;
    dsc_status status = DSC_OK;

    for (int64_t at = 0; at < x->bytes; at += (int64_t)sizeof left) {
        int64_t bytes = DSC_MIN((int64_t)sizeof left, x->bytes - at);

        DSC_TRY(dsc_read_at(a->file, left, bytes, x->offset + at));
        DSC_TRY(dsc_read_at(b->file, right, bytes, y->offset + at));
        add_squares(left, right, bytes / (int64_t)sizeof *left, &apart, &norm, &largest);
    }
    out->relative = largest == 0 ? 0 : apart < INFINITY && norm > 0 ? sqrt(apart / norm) : INFINITY;
    out->largest = largest;
out:
    return status;
}

static const dsc_range *find_range(const dsc_manifest *manifest, const char *name)
{
    for (int64_t i = 0; i < manifest->range_count; i++)
        if (dsc_equal(manifest->ranges[i].name, name)) return &manifest->ranges[i];
    return NULL;
}

static dsc_short number_str(double value)
{
    dsc_short out = {"-"};

    if (isfinite(value)) snprintf(out.str, sizeof out.str, "%.3e", value);
    return out;
}

static json_t *number_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static const distance NO_DISTANCE = {INFINITY, INFINITY};

/* A row of the answer. */
static void report(const char *name, const char *what, distance distance, dsc_text *rows, json_t *array)
{
    dsc_text_add(rows, "%s\t%s\t%s\t%s\n", name, number_str(distance.relative).str, number_str(distance.largest).str,
                 what);
    json_array_append_new(array, json_pack("{s:s, s:s, s:o, s:o}", "name", name, "what", what, "relative",
                                           number_json(distance.relative), "largest", number_json(distance.largest)));
}

static dsc_status compare(const checkpoint *a, const checkpoint *b, double rtol, dsc_text *rows, json_t *array)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < a->manifest.range_count; i++) {
        const dsc_range *x = &a->manifest.ranges[i], *y = find_range(&b->manifest, x->name);
        distance distance;

        if (!is_tensor(x) || (y != NULL && dsc_equal(x->hash.hex, y->hash.hex))) continue;
        if (y == NULL || x->bytes != y->bytes) {
            report(x->name, y == NULL ? "only in A" : "of another size", NO_DISTANCE, rows, array);
            continue;
        }
        DSC_TRY(measure(a, x, b, y, &distance));
        if (!(distance.relative <= rtol)) report(x->name, "differs", distance, rows, array);
    }
    for (int64_t i = 0; i < b->manifest.range_count; i++)
        if (is_tensor(&b->manifest.ranges[i]) && find_range(&a->manifest, b->manifest.ranges[i].name) == NULL)
            report(b->manifest.ranges[i].name, "only in B", NO_DISTANCE, rows, array);
out:
    return status;
}

/* What does not verify is not compared. */
static dsc_status open_verified(const char *path, checkpoint *out)
{
    dsc_text report = {0};
    dsc_status status = dsc_checkpoint_verify(path, &report);

    dsc_text_fini(&report);
    return status == DSC_OK ? open_checkpoint(path, out) : status;
}

static dsc_status print_diff(const options *options, const checkpoint *a, const dsc_text *rows, json_t *array)
{
    dsc_text table = {0};
    size_t unlike = json_array_size(array);
    dsc_status status = DSC_OK;

    if (options->json) {
        status =
            print_json(json_pack("{s:b, s:f, s:O}", "equal", unlike == 0, "rtol", options->rtol, "tensors", array));
    } else if (unlike == 0) {
        printf("%" PRId64 " tensors are %s\n", count_tensors(&a->manifest),
               options->rtol > 0 ? "close enough" : "equal");
    } else {
        dsc_table_print(dsc_text_str(rows), &table);
        fputs(dsc_text_str(&table), stdout);
    }
    dsc_text_fini(&table);
    return status;
}

static dsc_status run_diff(const void *context, const char *const *operands)
{
    const options *options = context;
    checkpoint a = {.file = -1}, b = {.file = -1};
    json_t *array = json_array();
    dsc_text rows = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(open_verified(operands[0], &a));
    DSC_TRY(open_verified(operands[1], &b));
    dsc_text_add(&rows, "tensor\trelative in norm\tlargest difference\t\n");
    DSC_TRY(compare(&a, &b, options->rtol, &rows, array));
    DSC_TRY(print_diff(options, &a, &rows, array));
    if (json_array_size(array) > 0)
        status = DSC_FAIL(DSC_EINFEASIBLE, "%zu of %" PRId64 " tensors differ", json_array_size(array),
                          count_tensors(&a.manifest));
out:
    close_checkpoint(&a);
    close_checkpoint(&b);
    json_decref(array);
    dsc_text_fini(&rows);
    return status;
}

static const char kind[] = "a checkpoint is a folder with an HDF5 file";
static const tool_command commands[] = {{"list", "DIR", 1, kind, run_list},
                                        {"verify", "PATH", 1, kind, run_verify},
                                        {"diff", "A B", 2, kind, run_diff},
                                        {0}};

/* The contract has these; this version does not. They are refused before their options would be. */
static const char *const later[] = {"export", "import"};

static dsc_status refuse_later(const char *word)
{
    for (int i = 0; i < DSC_COUNT(later); i++)
        if (word != NULL && dsc_equal(word, later[i]))
            return DSC_FAIL(DSC_ENOTSUP, "%s is not implemented in this version of dsc-checkpoint: tensors stand under "
                            "Hugging Face's names in checkpoint.h5 and can be read from there", word);
    return DSC_OK;
}

int main(int argc, char **argv)
{
    options options = {.rtol = 0};
    const dsc_field_table tables[] = {{"Options", fields, &options, NULL}, {0}};
    dsc_status status = refuse_later(argc > 1 ? argv[1] : NULL);

    return status == DSC_OK ? tool_run(&self, argc, argv, tables, commands) : tool_end(&self, status);
}
