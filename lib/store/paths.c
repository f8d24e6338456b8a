#include "store/paths.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

dsc_status dsc_path_join(const char *folder, const char *name, dsc_path *out)
{
    dsc_path path;
    int length = snprintf(path.str, sizeof path.str, "%s/%s", folder, name);

    if (length < 0 || length >= (int)sizeof path.str)
        return DSC_FAIL(DSC_EINVAL, "%.60s…: a path has at most %zu bytes", folder, sizeof path.str - 1);
    *out = path;
    return DSC_OK;
}

static dsc_status make_folder(const char *path)
{
    struct stat facts;

    if (mkdir(path, 0777) == 0) return DSC_OK;
    if (errno == EEXIST && stat(path, &facts) == 0 && S_ISDIR(facts.st_mode)) return DSC_OK;
    return DSC_FAIL(DSC_EINVAL, "%s: cannot make the folder: %s", path, strerror(errno));
}

dsc_status dsc_make_folders(const char *path)
{
    dsc_path parent;

    for (size_t i = 1; path[i] != '\0' && i < sizeof parent.str; i++) {
        if (path[i] != '/') continue;
        memcpy(parent.str, path, i);
        parent.str[i] = '\0';
        if (make_folder(parent.str) != DSC_OK) return DSC_EINVAL;
    }
    return make_folder(path);
}

static dsc_status fail(const char *path, const char *verb)
{
    return DSC_FAIL(DSC_EIO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

dsc_status dsc_sync_path(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    dsc_status status = DSC_OK;

    if (file < 0) return fail(path, "open");
    if (fsync(file) != 0) status = fail(path, "sync");
    close(file);
    return status;
}

dsc_status dsc_write_at(int file, const void *bytes, int64_t count, int64_t offset)
{
    for (const char *next = bytes; count > 0;) {
        ssize_t done = pwrite(file, next, (size_t)count, offset);

        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return DSC_FAIL(DSC_EIO, "cannot write: %s", strerror(done == 0 ? ENOSPC : errno));
        next += done;
        count -= done;
        offset += done;
    }
    return DSC_OK;
}

dsc_status dsc_read_at(int file, void *bytes, int64_t count, int64_t offset)
{
    for (char *next = bytes; count > 0;) {
        ssize_t done = pread(file, next, (size_t)count, offset);

        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return DSC_FAIL(DSC_EIO, "cannot read: %s", done == 0 ? "the file ends" : strerror(errno));
        next += done;
        count -= done;
        offset += done;
    }
    return DSC_OK;
}

dsc_status dsc_write_synced(const char *path, const char *bytes, int64_t count)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    dsc_status status;

    if (file < 0) return fail(path, "write");
    status = dsc_write_at(file, bytes, count, 0);
    if (status != DSC_OK) dsc_fail_in(status, "%s", path);
    if (status == DSC_OK && fsync(file) != 0) status = fail(path, "sync");
    close(file);
    return status;
}

dsc_status dsc_replace_file(const char *folder, const char *name, const char *text)
{
    dsc_path path, beside;
    char temporary[64];
    dsc_status status = DSC_OK;

    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    DSC_TRY(dsc_path_join(folder, name, &path));
    DSC_TRY(dsc_path_join(folder, temporary, &beside));
    DSC_TRY(dsc_write_synced(beside.str, text, (int64_t)strlen(text)));
    if (rename(beside.str, path.str) != 0) return fail(path.str, "replace");
    DSC_TRY(dsc_sync_path(folder));
out:
    return status;
}

dsc_status dsc_read_whole(const char *path, dsc_text *out)
{
    FILE *file = fopen(path, "re");
    struct stat facts;
    dsc_status status = DSC_OK;

    if (file == NULL) return DSC_FAIL(DSC_EINVAL, "%s: cannot read: %s", path, strerror(errno));
    if (fstat(fileno(file), &facts) != 0 || !S_ISREG(facts.st_mode)) {
        status = DSC_FAIL(DSC_EINVAL, "%s: not a regular file", path);
        goto out;
    }
    DSC_TRY(dsc_array_reserve(&out->bytes, &out->capacity, out->count + facts.st_size + 1, 1));
    if (fread(out->bytes + out->count, 1, (size_t)facts.st_size, file) != (size_t)facts.st_size) {
        status = DSC_FAIL(DSC_EINVAL, "%s: cannot read: it ends before its %lld bytes", path, (long long)facts.st_size);
        goto out;
    }
    out->count += facts.st_size;
    out->bytes[out->count] = '\0';
out:
    fclose(file);
    return status;
}

dsc_status dsc_exchange_folders(const char *from, const char *to)
{
    dsc_path old;

    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return DSC_OK;
    if (errno == EEXIST && renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0) return DSC_OK;
    if (errno != EINVAL && errno != ENOSYS) return fail(to, "put in place");
    snprintf(old.str, sizeof old.str, "%s.old", from); /* without flags: by way of a third name */
    if (rename(to, old.str) != 0 && errno != ENOENT) return fail(to, "move away");
    if (rename(from, to) != 0) {
        dsc_status status = fail(to, "put in place");

        rename(old.str, to); /* what stood there stands there again */
        return status;
    }
    if (rename(old.str, from) != 0 && errno != ENOENT) return fail(old.str, "move");
    return DSC_OK;
}
