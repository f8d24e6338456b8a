/* What memory this process can still fill, before the kernel kills it. */
#include "device/device.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a version of cgroups tells a group's limit, and what of it is taken; cached files among that can be dropped. */
typedef struct hierarchy { const char *controller, *folder, *limit, *used, *cached; } hierarchy;

static const hierarchy versions[] = {
    {"", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"},
    {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"},
};

/* The number behind `key` in a file of "key number" lines, or the file's only one for key NULL; -1: it has none, or
 * the word "max". */
static int64_t read_number(const char *path, const char *key)
{
    char line[256];
    int64_t number = -1;
    size_t length = key != NULL ? strlen(key) : 0;
    FILE *file = fopen(path, "r");

    if (file == NULL) return -1;
    while (number < 0 && fgets(line, sizeof line, file) != NULL)
        if (key == NULL || (strncmp(line, key, length) == 0 && strchr(": ", line[length]) != NULL))
            if (sscanf(line + length + (key != NULL), "%" SCNd64, &number) != 1) break;
    fclose(file);
    return number;
}

/* This process' group in a hierarchy, as "/path"; false: it is in none. */
static bool find_group(const char *root, const hierarchy *version, char *group, size_t bytes)
{
    char path[PATH_MAX], line[PATH_MAX + 64];
    bool is_found = false;
    FILE *file;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if ((file = fopen(path, "r")) == NULL) return false;
    while (!is_found && fgets(line, sizeof line, file) != NULL) {
        char *controllers = strchr(line, ':'), *name = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

        if (name == NULL) continue;
        *name++ = '\0';
        name[strcspn(name, "\n")] = '\0';
        is_found = strcmp(controllers + 1, version->controller) == 0 && strlen(name) < bytes;
        if (is_found) strcpy(group, name);
    }
    fclose(file);
    return is_found;
}

/* The least that the group or one above it leaves; INT64_MAX: none has a limit. */
static int64_t room_of_groups(const char *root, const hierarchy *version)
{
    char group[PATH_MAX], path[2 * PATH_MAX];
    int64_t room = INT64_MAX;

    if (!find_group(root, version, group, sizeof group)) return room;
    for (char *end = group + strlen(group); end != NULL; end = strrchr(group, '/')) {
        int64_t limit, used, cached;

        *end = '\0';
        snprintf(path, sizeof path, "%s%s%s/%s", root, version->folder, group, version->limit);
        limit = read_number(path, NULL);
        snprintf(path, sizeof path, "%s%s%s/%s", root, version->folder, group, version->used);
        used = read_number(path, NULL);
        snprintf(path, sizeof path, "%s%s%s/memory.stat", root, version->folder, group);
        cached = DSC_MAX(read_number(path, version->cached), 0);
        if (limit >= 0 && used >= 0) room = DSC_MIN(room, DSC_MAX(limit - DSC_MAX(used - cached, 0), 0));
    }
    return room;
}

int64_t dsc_memory_room(const char *root)
{
    char path[PATH_MAX];
    int64_t available, room = INT64_MAX;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    available = read_number(path, "MemAvailable");
    if (available >= 0 && available <= INT64_MAX / 1024) room = available * 1024;
    for (int64_t i = 0; i < DSC_COUNT(versions); i++) room = DSC_MIN(room, room_of_groups(root, &versions[i]));
    return room;
}
