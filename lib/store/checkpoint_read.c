#include "store/checkpoint_file.h"
#include "store/manifest.h"
#include "store/paths.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Verifying */

/* There is no checkpoint file in the folder: perhaps there are checkpoints. */
static dsc_status refuse_folder(const char *folder, const char *file, int error)
{
    int64_t *steps = NULL, count = 0;
    dsc_status status = error == ENOENT ? dsc_checkpoint_steps(folder, &steps, &count) : DSC_OK;

    if (status == DSC_OK && count > 0)
        status = DSC_FAIL(DSC_EINVAL, "%s: a folder of %" PRId64 " checkpoint%s, of which one is taken; the newest is "
                          "%s/%s", folder, count, count > 1 ? "s" : "", folder, dsc_step_name_of(steps[0]).str);
    else if (status == DSC_OK)
        status = DSC_FAIL(DSC_EINVAL, "%s: cannot read: %s", file, strerror(error));
    free(steps);
    return status;
}

static dsc_status open_data(const char *folder, int *out)
{
    dsc_path path;
    dsc_status status = dsc_path_join(folder, DSC_CHECKPOINT_FILE, &path);

    if (status != DSC_OK) return status;
    *out = open(path.str, O_RDONLY | O_CLOEXEC);
    return *out < 0 ? refuse_folder(folder, path.str, errno) : DSC_OK;
}

static void report_good(const dsc_manifest *manifest, dsc_text *report)
{
    int64_t tensors = 0;

    for (int64_t i = 0; i < manifest->range_count; i++) tensors += manifest->ranges[i].name[0] == '/';
    dsc_text_add(report, "verified: %" PRId64 " tensors, %s, hash %s\n", tensors, dsc_bytes_str(manifest->bytes).str,
                 manifest->hash.hex);
}

/* *manifest is the caller's, who ends it. */
static dsc_status verify_share(const char *path, int64_t part, int64_t parts, dsc_manifest *manifest, dsc_text *report)
{
    dsc_path manifest_path;
    int file = -1;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_path_join(path, DSC_MANIFEST_FILE, &manifest_path));
    DSC_TRY(open_data(path, &file));
    status = dsc_manifest_load(manifest_path.str, manifest);
    if (status == DSC_EINFEASIBLE && part == 0) dsc_text_add(report, "%s\n", dsc_message());
    if (status != DSC_OK) goto out;
    status = dsc_manifest_verify(file, manifest, part, parts, report);
    if (status != DSC_OK) dsc_fail_in(status, "%s does not verify", path);
out:
    if (file >= 0) close(file);
    return status;
}

dsc_status dsc_checkpoint_verify(const char *path, dsc_text *report)
{
    dsc_manifest manifest = {0};
    dsc_status status = verify_share(path, 0, 1, &manifest, report);

    if (status == DSC_OK) report_good(&manifest, report);
    dsc_manifest_fini(&manifest);
    return status;
}

dsc_status dsc_checkpoint_verify_part(const char *path, int64_t part, int64_t parts, dsc_text *report)
{
    dsc_manifest manifest = {0};
    dsc_status status = verify_share(path, part, parts, &manifest, report);

    dsc_manifest_fini(&manifest);
    return status;
}

/* ---- Finding */

/* The step of a folder that is called exactly as we call it. */
static bool parse_step(const char *name, int64_t *step)
{
    if (strncmp(name, "step-", 5) != 0) return false;
    *step = strtoll(name + 5, NULL, 10);
    return dsc_equal(dsc_step_name_of(*step).str, name);
}

static int compare_descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x < y) - (x > y);
}

dsc_status dsc_checkpoint_steps(const char *folder, int64_t **out, int64_t *count)
{
    DIR *entries = opendir(folder);
    int64_t *steps = NULL, found = 0, capacity = 0, step;
    dsc_status status = DSC_OK;

    if (entries == NULL && errno != ENOENT)
        return DSC_FAIL(DSC_EINVAL, "%s: cannot read the folder: %s", folder, strerror(errno));
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;)
        if (parse_step(entry->d_name, &step)) DSC_TRY(DSC_PUSH(steps, found, capacity, step));
    if (found > 0) qsort(steps, (size_t)found, sizeof *steps, compare_descending);
    *out = steps;
    *count = found;
    steps = NULL;
out:
    free(steps);
    if (entries != NULL) closedir(entries);
    return status;
}

/* Says why in one line: the first fault, or the message where there is no report. */
static void add_skipped(const char *name, const dsc_text *report, dsc_text *skipped)
{
    const char *why = report->count > 0 ? report->bytes : dsc_message();

    dsc_text_add(skipped, "skipped %s: %.*s\n", name, (int)strcspn(why, "\n"), why);
}

static dsc_status verify_alone(void *context, const char *path, dsc_text *report)
{
    (void)context;
    return dsc_checkpoint_verify(path, report);
}

dsc_status dsc_checkpoint_find(const char *folder, dsc_checkpoint_verifier verify, void *context, char *path,
                               size_t size, dsc_text *skipped)
{
    int64_t *steps = NULL, count = 0;
    dsc_path place = {""};
    bool is_found = false;
    dsc_status status = DSC_OK;

    if (verify == NULL) verify = verify_alone;
    DSC_TRY(dsc_checkpoint_steps(folder, &steps, &count));
    for (int64_t i = 0; !is_found && i < count; i++) {
        dsc_text report = {0};

        DSC_TRY(dsc_path_join(folder, dsc_step_name_of(steps[i]).str, &place));
        is_found = verify(context, place.str, &report) == DSC_OK;
        if (!is_found) add_skipped(dsc_step_name_of(steps[i]).str, &report, skipped);
        dsc_text_fini(&report);
    }
    if (!is_found) place.str[0] = '\0';
    if (strlen(place.str) < size)
        strcpy(path, place.str);
    else
        status = DSC_FAIL(DSC_EINVAL, "%s: a path of %zu bytes, %zu fit", place.str, strlen(place.str), size - 1);
out:
    free(steps);
    return status;
}

/* ---- Reading */

struct dsc_checkpoint_reader { int file; dsc_layout layout; };

static dsc_status create_reader(const dsc_tensor *tensors, int64_t count, dsc_checkpoint_reader **out)
{
    dsc_checkpoint_reader *reader = calloc(1, sizeof *reader);
    dsc_status status = DSC_OK;

    if (reader == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %zu bytes", sizeof *reader);
    reader->file = -1;
    DSC_TRY(dsc_layout_init(tensors, count, (dsc_copies){.workers = 1}, &reader->layout));
    *out = reader;
    reader = NULL;
out:
    dsc_checkpoint_close(&reader);
    return status;
}

dsc_status dsc_checkpoint_open(const char *path, const dsc_tensor *tensors, int64_t count, dsc_checkpoint_state *state,
                               dsc_checkpoint_reader **out)
{
    dsc_checkpoint_reader *reader = NULL;
    dsc_path file;
    dsc_status status = DSC_OK;

    DSC_TRY(create_reader(tensors, count, &reader));
    DSC_TRY(dsc_path_join(path, DSC_CHECKPOINT_FILE, &file));
    DSC_TRY(open_data(path, &reader->file));
    DSC_TRY(dsc_checkpoint_file_open(file.str, state, &reader->layout));
    *out = reader;
    reader = NULL;
out:
    dsc_checkpoint_close(&reader);
    return status;
}

dsc_copies dsc_checkpoint_copies(const dsc_checkpoint_reader *reader) { return reader->layout.copies; }

dsc_status dsc_checkpoint_read(const dsc_checkpoint_reader *reader, const dsc_checkpoint_piece *piece)
{
    return dsc_checkpoint_piece_read(reader->file, &reader->layout, piece);
}

dsc_status dsc_checkpoint_read_mean(const dsc_checkpoint_reader *reader, const dsc_checkpoint_piece *piece,
                                    int64_t workers)
{
    return dsc_checkpoint_piece_mean(reader->file, &reader->layout, piece, workers);
}

void dsc_checkpoint_close(dsc_checkpoint_reader **reader)
{
    dsc_checkpoint_reader *r = *reader;

    if (r == NULL) return;
    if (r->file >= 0) close(r->file);
    dsc_layout_fini(&r->layout);
    free(r);
    *reader = NULL;
}
