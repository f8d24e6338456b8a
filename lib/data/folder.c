#include "data/internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct listing {
    char **paths;
    int64_t count, capacity;
} listing;

static dsc_status walk(const char *folder, listing *found);

static char *join(const char *folder, const char *name)
{
    size_t length = strlen(folder);
    char *path;

    while (length > 1 && folder[length - 1] == '/') length--;
    return asprintf(&path, "%.*s/%s", (int)length, folder, name) < 0 ? NULL : path;
}

/* Takes path. What is neither a file nor a folder (a socket, a dangling link) is no text and is passed over. */
static dsc_status visit(char *path, listing *found)
{
    dsc_status status = DSC_OK;
    struct stat own, target;

    if (lstat(path, &own) != 0) {
        status = DSC_FAIL(DSC_EINVAL, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (S_ISDIR(own.st_mode)) {
        DSC_TRY(walk(path, found));
    } else if (stat(path, &target) == 0 && S_ISREG(target.st_mode)) {
        DSC_TRY(DSC_PUSH(found->paths, found->count, found->capacity, path));
        path = NULL;
    }
out:
    free(path);
    return status;
}

static dsc_status walk(const char *folder, listing *found)
{
    dsc_status status = DSC_OK;
    DIR *stream = opendir(folder);

    if (stream == NULL) return DSC_FAIL(DSC_EINVAL, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        char *path;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        path = join(folder, entry->d_name);
        if (path == NULL) {
            status = DSC_FAIL(DSC_ENOMEM, "no memory for a path in %s", folder);
            goto out;
        }
        DSC_TRY(visit(path, found));
    }
out:
    closedir(stream);
    return status;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

dsc_status dsc_folder_list(const char *path, char ***out, int64_t *count)
{
    dsc_status status = DSC_OK;
    listing found = {0};

    DSC_TRY(walk(path, &found));
    if (found.count > 1) qsort(found.paths, (size_t)found.count, sizeof *found.paths, compare);
    *out = found.paths;
    *count = found.count;
    found = (listing){0};
out:
    for (int64_t i = 0; i < found.count; i++) free(found.paths[i]);
    free(found.paths);
    return status;
}
