#include "store/plan_folder.h"
#include "base/hash.h"
#include "base/json.h"
#include "store/paths.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX "plan.json"
enum { FORMAT = 1 };

/* ---- The index: {"dsc_plan": 1, ..., "files": {NAME: hash}, "hash": of all before it} */

static const char *text_of(const json_t *value) { return json_is_string(value) ? json_string_value(value) : ""; }

/* Of the object without its member "hash", in one spelling. */
static dsc_hash hash_of_index(const json_t *index)
{
    json_t *rest = json_copy((json_t *)index); /* the function wants it mutable, and does not change it */
    dsc_hash hash = {""};
    char *text;

    json_object_del(rest, "hash");
    text = json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS);
    if (text != NULL) hash = dsc_hash_of(text, strlen(text));
    free(text);
    json_decref(rest);
    return hash;
}

static char *index_text(const dsc_plan_facts *facts, const dsc_plan_file *files, int64_t count)
{
    json_t *hashes = json_object(), *index;
    char *text;

    for (int64_t i = 0; i < count; i++)
        if (!files[i].is_script)
            json_object_set_new(hashes, files[i].name,
                                json_string(dsc_hash_of(files[i].text, strlen(files[i].text)).hex));
    index = json_pack("{s:i, s:s, s:I, s:s, s:s, s:o}", "dsc_plan", FORMAT, "dsc_version", PACKAGE_VERSION, "ranks",
                      (json_int_t)facts->ranks, "program_hash", facts->program_hash, "plan_hash", facts->plan_hash,
                      "files", hashes);
    json_object_set_new(index, "hash", json_string(hash_of_index(index).hex));
    text = json_dumps(index, JSON_INDENT(2));
    json_decref(index);
    return text;
}

/* *out is the index of a folder, whole and of this version; the caller's. */
static dsc_status load_index(const char *folder, json_t **out)
{
    int64_t format = FORMAT;
    json_t *index = NULL;
    dsc_status status = DSC_OK;
    dsc_path path;

    DSC_TRY(dsc_path_join(folder, INDEX, &path));
    DSC_TRY(dsc_json_load(path.str, &index));
    DSC_TRY(dsc_json_object(path.str, index));
    if (json_object_get(index, "dsc_plan") == NULL)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "%s: missing key \"dsc_plan\": this is no plan's folder", path.str));
    DSC_TRY(dsc_json_int(path.str, index, "dsc_plan", FORMAT, FORMAT, &format));
    if (!dsc_equal(text_of(json_object_get(index, "hash")), hash_of_index(index).hex))
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "%s: not as dsc-plan wrote it: its hash is %s, it says \"%s\"", path.str,
                         hash_of_index(index).hex, text_of(json_object_get(index, "hash"))));
    *out = index;
    index = NULL;
out:
    json_decref(index);
    return status;
}

static dsc_status compare_file(const char *folder, const char *name, const char *hash)
{
    dsc_status status = DSC_OK;
    dsc_text text = {0};
    dsc_path path;
    dsc_hash found;

    DSC_TRY(dsc_path_join(folder, name, &path));
    DSC_TRY(dsc_read_whole(path.str, &text));
    found = dsc_hash_of(dsc_text_str(&text), (size_t)text.count);
    if (!dsc_equal(found.hex, hash))
        status = DSC_FAIL(DSC_EINVAL, "%s: not as dsc-plan wrote it: its hash is %s, " INDEX " says %s", path.str,
                          found.hex, hash);
out:
    dsc_text_fini(&text);
    return status;
}

dsc_status dsc_plan_folder_load(const char *path, dsc_plan_facts *out)
{
    json_t *index = NULL, *hash;
    dsc_plan_facts facts = {0};
    dsc_status status = DSC_OK;
    const char *name;

    DSC_TRY(load_index(path, &index));
    DSC_TRY(dsc_json_int(path, index, "ranks", 1, INT64_MAX, &facts.ranks));
    DSC_TRY(dsc_json_string(path, index, "program_hash", facts.program_hash, sizeof facts.program_hash));
    DSC_TRY(dsc_json_string(path, index, "plan_hash", facts.plan_hash, sizeof facts.plan_hash));
    json_object_foreach(json_object_get(index, "files"), name, hash)
        DSC_TRY(compare_file(path, name, text_of(hash)));
    *out = facts;
out:
    json_decref(index);
    return status;
}

/* ---- What is in the way */

static bool is_ours(const json_t *index, const char *name)
{
    const char *const own[] = {INDEX, DSC_PLAN_LAUNCH, DSC_PLAN_JOB};

    for (int64_t i = 0; i < DSC_COUNT(own); i++)
        if (dsc_equal(own[i], name)) return true;
    return json_object_get(json_object_get(index, "files"), name) != NULL;
}

/* The first entry of a folder that no plan has; "" when there is none. *is_empty: it has none at all. */
static dsc_status find_foreign(const char *path, const json_t *index, char out[256], bool *is_empty)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    out[0] = '\0';
    *is_empty = true;
    if (folder == NULL) return DSC_FAIL(DSC_EINVAL, "--emit %s: cannot read the folder: %s", path, strerror(errno));
    while ((entry = readdir(folder)) != NULL) {
        if (dsc_equal(entry->d_name, ".") || dsc_equal(entry->d_name, "..")) continue;
        *is_empty = false;
        if (!is_ours(index, entry->d_name)) snprintf(out, 256, "%s", entry->d_name);
    }
    closedir(folder);
    return DSC_OK;
}

dsc_status dsc_plan_folder_check(const char *path)
{
    json_t *index = NULL;
    dsc_status status = DSC_OK;
    struct stat facts;
    char foreign[256];
    bool is_empty;

    if (lstat(path, &facts) != 0 && errno == ENOENT) return DSC_OK;
    if (!S_ISDIR(facts.st_mode)) return DSC_FAIL(DSC_EINVAL, "--emit %s: there is something that is no folder", path);
    DSC_TRY(find_foreign(path, NULL, foreign, &is_empty));
    if (is_empty) goto out;
    if (load_index(path, &index) != DSC_OK)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--emit %s: the folder is neither empty nor an earlier plan's", path));
    DSC_TRY(find_foreign(path, index, foreign, &is_empty));
    if (foreign[0] != '\0')
        status = DSC_FAIL(DSC_EINVAL, "--emit %s: beside an earlier plan it holds %s, which would be lost; move it",
                          path, foreign);
out:
    json_decref(index);
    return status;
}

/* ---- Writing */

static dsc_status write_file(const char *folder, const char *name, const char *text, bool is_script)
{
    dsc_status status = DSC_OK;
    dsc_path path;

    DSC_TRY(dsc_path_join(folder, name, &path));
    DSC_TRY(dsc_write_synced(path.str, text, (int64_t)strlen(text)));
    if (is_script && chmod(path.str, 0755) != 0)
        status = DSC_FAIL(DSC_EIO, "%s: cannot make it executable: %s", path.str, strerror(errno));
out:
    return status;
}

static dsc_status write_files(const char *folder, const char *index, const dsc_plan_file *files, int64_t count)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < count; i++)
        DSC_TRY(write_file(folder, files[i].name, files[i].text, files[i].is_script));
    DSC_TRY(write_file(folder, INDEX, index, false));
    DSC_TRY(dsc_sync_path(folder));
out:
    return status;
}

dsc_status dsc_plan_folder_write(const char *path, const dsc_plan_facts *facts, const dsc_plan_file *files,
                                 int64_t count, char out[4096])
{
    char *index = index_text(facts, files, count), beside[4096];
    dsc_status status = DSC_OK;

    if (index == NULL) return DSC_FAIL(DSC_ENOMEM, "--emit %s: the index", path);
    if (snprintf(beside, sizeof beside, "%s.tmp-%ld", path, (long)getpid()) >= (int)sizeof beside)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--emit %.60s...: a path has at most %zu bytes", path, sizeof beside - 1));
    if (mkdir(beside, 0777) != 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--emit %s: cannot make %s: %s", path, beside, strerror(errno)));
    status = write_files(beside, index, files, count);
    if (status != DSC_OK) dsc_plan_folder_abandon(beside);
    else strcpy(out, beside);
out:
    free(index);
    return status;
}

dsc_status dsc_plan_folder_commit(const char *written, const char *path)
{
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_plan_folder_check(path));
    rmdir(path); /* an empty one gives way */
    DSC_TRY(dsc_exchange_folders(written, path));
    dsc_plan_folder_abandon(written); /* is the earlier plan now, if there was one */
out:
    return status;
}

/* Its files only: a folder holds no folders. */
void dsc_plan_folder_abandon(const char *written)
{
    DIR *folder = written[0] == '\0' ? NULL : opendir(written);
    struct dirent *entry;
    dsc_path path;

    while (folder != NULL && (entry = readdir(folder)) != NULL)
        if (!dsc_equal(entry->d_name, ".") && !dsc_equal(entry->d_name, "..") &&
            dsc_path_join(written, entry->d_name, &path) == DSC_OK)
            unlink(path.str);
    if (folder != NULL) closedir(folder);
    if (written[0] != '\0') rmdir(written);
}
