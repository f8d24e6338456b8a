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
#include <sys/stat.h>
#include <unistd.h>

struct dsc_checkpoint_writer {
    dsc_path folder, beside, place; /* DIR, DIR/step-N.tmp, DIR/step-N */
    dsc_step_name name;             /* step-N */
    bool is_made;                   /* `beside` is ours to remove */
    int file;                       /* checkpoint.h5; -1: not open */
    dsc_layout layout;
    dsc_manifest manifest;          /* its ranges cover the file */
    dsc_hash *hashes;               /* [dsc_manifest_blocks]; those of the hashed part */
};

/* Frees the writer and leaves the disk as it is; takes NULL. */
static void free_writer(dsc_checkpoint_writer *writer)
{
    if (writer == NULL) return;
    if (writer->file >= 0) close(writer->file);
    dsc_layout_fini(&writer->layout);
    free(writer->hashes);
    dsc_manifest_fini(&writer->manifest);
    free(writer);
}

/* Removes a folder that holds no more than a checkpoint does. What else someone put there stays, and so does the
 * folder. */
static void remove_checkpoint(const char *folder)
{
    static const char *const files[] = {DSC_CHECKPOINT_FILE, DSC_MANIFEST_FILE};
    dsc_path path;

    for (int64_t i = 0; i < DSC_COUNT(files); i++)
        if (dsc_path_join(folder, files[i], &path) == DSC_OK) unlink(path.str);
    rmdir(folder);
}

/* step-N.tmp and step-N.tmp.old are what killed saves leave; a save of ours that is still running is not expected. */
static bool is_left_over(const char *name)
{
    return strncmp(name, "step-", 5) == 0 && strstr(name, ".tmp") != NULL;
}

static dsc_status remove_left_overs(const char *folder)
{
    DIR *entries = opendir(folder);
    dsc_path path;

    if (entries == NULL) return DSC_FAIL(DSC_EINVAL, "%s: cannot read the folder: %s", folder, strerror(errno));
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;)
        if (is_left_over(entry->d_name) && dsc_path_join(folder, entry->d_name, &path) == DSC_OK)
            remove_checkpoint(path.str);
    closedir(entries);
    return DSC_OK;
}

/* ---- Begin */

static dsc_status name_paths(dsc_checkpoint_writer *writer, const char *folder, int64_t step)
{
    char beside[48];
    dsc_status status = DSC_OK;

    writer->name = dsc_step_name_of(step);
    snprintf(beside, sizeof beside, "%s.tmp", writer->name.str);
    snprintf(writer->folder.str, sizeof writer->folder.str, "%s", folder); /* shorter than the two that follow */
    DSC_TRY(dsc_path_join(folder, beside, &writer->beside));
    DSC_TRY(dsc_path_join(folder, writer->name.str, &writer->place));
out:
    return status;
}

static dsc_status lay_out(dsc_checkpoint_writer *writer, const dsc_checkpoint_state *state)
{
    dsc_path path;
    dsc_status status = DSC_OK;

    if (mkdir(writer->beside.str, 0777) != 0)
        return DSC_FAIL(DSC_EINVAL, "%s: cannot make the folder: %s", writer->beside.str, strerror(errno));
    writer->is_made = true;
    DSC_TRY(dsc_path_join(writer->beside.str, DSC_CHECKPOINT_FILE, &path));
    DSC_TRY(dsc_checkpoint_file_create(path.str, state, &writer->layout));
out:
    return status;
}

/* What the manifest will say of the tensors, and of what lies between them. */
static dsc_status list_ranges(dsc_checkpoint_writer *writer)
{
    const dsc_layout *layout = &writer->layout;
    struct stat facts;
    dsc_status status = DSC_OK;

    for (int which = 0; which < DSC_STATE_COUNT; which++)
        for (int64_t i = 0; dsc_layout_holds(layout, which) && i < layout->count; i++)
            DSC_TRY(dsc_manifest_add(&writer->manifest, dsc_tensor_path_of(which, layout->datasets[i].stored.name).str,
                                     layout->offsets[which * layout->count + i], dsc_layout_bytes(layout, which, i)));
    if (fstat(writer->file, &facts) != 0)
        return DSC_FAIL(DSC_EIO, "%s/%s: %s", writer->beside.str, DSC_CHECKPOINT_FILE, strerror(errno));
    DSC_TRY(dsc_manifest_cover(&writer->manifest, facts.st_size));
out:
    return status;
}

/* The file that is laid out. */
static dsc_status open_file(dsc_checkpoint_writer *writer)
{
    dsc_path path;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_path_join(writer->beside.str, DSC_CHECKPOINT_FILE, &path));
    writer->file = open(path.str, O_RDWR | O_CLOEXEC);
    if (writer->file < 0) status = DSC_FAIL(DSC_EIO, "%s: cannot write: %s", path.str, strerror(errno));
out:
    return status;
}

static dsc_status create_writer(const char *folder, int64_t step, const dsc_tensor *tensors, int64_t count,
                                dsc_copies copies, dsc_checkpoint_writer **out)
{
    dsc_checkpoint_writer *writer = calloc(1, sizeof *writer);
    dsc_status status = DSC_OK;

    if (writer == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %zu bytes", sizeof *writer);
    writer->file = -1;
    DSC_TRY(dsc_layout_init(tensors, count, copies, &writer->layout));
    DSC_TRY(name_paths(writer, folder, step));
    *out = writer;
    writer = NULL;
out:
    free_writer(writer);
    return status;
}

dsc_status dsc_checkpoint_begin(const char *folder, int64_t step, const dsc_tensor *tensors, int64_t count,
                                dsc_copies copies, const dsc_checkpoint_state *state, dsc_checkpoint_writer **out)
{
    dsc_checkpoint_writer *writer = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(create_writer(folder, step, tensors, count, copies, &writer));
    DSC_TRY(dsc_make_folders(folder));
    DSC_TRY(remove_left_overs(folder));
    DSC_TRY(lay_out(writer, state));
    DSC_TRY(open_file(writer));
    DSC_TRY(list_ranges(writer));
    *out = writer;
    writer = NULL;
out:
    dsc_checkpoint_abandon(&writer);
    return status;
}

const int64_t *dsc_checkpoint_offsets(const dsc_checkpoint_writer *writer)
{
    return writer->layout.offsets;
}

dsc_status dsc_checkpoint_join(const char *folder, int64_t step, const dsc_tensor *tensors, int64_t count,
                               dsc_copies copies, const int64_t *offsets, dsc_checkpoint_writer **out)
{
    dsc_checkpoint_writer *writer = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(create_writer(folder, step, tensors, count, copies, &writer));
    memcpy(writer->layout.offsets, offsets, sizeof *offsets * (size_t)writer->layout.count * DSC_STATE_COUNT);
    DSC_TRY(open_file(writer));
    DSC_TRY(list_ranges(writer));
    *out = writer;
    writer = NULL;
out:
    free_writer(writer);
    return status;
}

/* ---- Data and hashes */

/* A failure in the file's bytes, with the file's name before it. */
static dsc_status name_file(const dsc_checkpoint_writer *writer, dsc_status status)
{
    return status == DSC_OK ? DSC_OK : dsc_fail_in(status, "%s/%s", writer->beside.str, DSC_CHECKPOINT_FILE);
}

dsc_status dsc_checkpoint_write(dsc_checkpoint_writer *writer, const dsc_checkpoint_piece *piece)
{
    return name_file(writer, dsc_checkpoint_piece_write(writer->file, &writer->layout, piece));
}

dsc_status dsc_checkpoint_flush(dsc_checkpoint_writer *writer)
{
    if (fsync(writer->file) == 0) return DSC_OK;
    return name_file(writer, DSC_FAIL(DSC_EIO, "cannot sync: %s", strerror(errno)));
}

dsc_status dsc_checkpoint_hash(dsc_checkpoint_writer *writer, int64_t part, int64_t parts, const dsc_hash **out,
                               int64_t *count)
{
    const dsc_manifest *manifest = &writer->manifest;
    const int64_t blocks = dsc_manifest_blocks(manifest);

    if (writer->hashes == NULL) writer->hashes = calloc((size_t)blocks + 1, sizeof *writer->hashes);
    if (writer->hashes == NULL) return DSC_FAIL(DSC_ENOMEM, "no memory for %" PRId64 " hashes", blocks);
    *out = writer->hashes;
    return name_file(writer, dsc_manifest_hash_part(writer->file, manifest, part, parts, writer->hashes, count));
}

/* ---- Commit */

/* The manifest follows the data, which others have synced, beside the place where both will stand. */
static dsc_status seal(dsc_checkpoint_writer *writer, const dsc_hash *hashes, int64_t count)
{
    dsc_path path;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_manifest_close(&writer->manifest, hashes, count));
    DSC_TRY(dsc_path_join(writer->beside.str, DSC_MANIFEST_FILE, &path));
    DSC_TRY(dsc_manifest_save(path.str, &writer->manifest));
    DSC_TRY(dsc_sync_path(writer->beside.str));
out:
    return status;
}

dsc_status dsc_checkpoint_commit(dsc_checkpoint_writer **writer, const dsc_hash *hashes, int64_t count)
{
    dsc_checkpoint_writer *w = *writer;
    dsc_text name = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(seal(w, hashes, count));
    DSC_TRY(dsc_exchange_folders(w->beside.str, w->place.str));
    DSC_TRY(dsc_sync_path(w->folder.str));
    dsc_text_add(&name, "%s\n", w->name.str);
    status = dsc_replace_file(w->folder.str, "latest", dsc_text_str(&name));
    if (status != DSC_OK) status = dsc_fail_in(status, "%s is saved, but `latest` does not say so", w->place.str);
out:
    dsc_text_fini(&name);
    dsc_checkpoint_abandon(writer); /* removes what failed, or what was replaced */
    return status;
}

void dsc_checkpoint_abandon(dsc_checkpoint_writer **writer)
{
    if (*writer != NULL && (*writer)->is_made) remove_checkpoint((*writer)->beside.str);
    free_writer(*writer);
    *writer = NULL;
}
