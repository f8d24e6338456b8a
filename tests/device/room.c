/* What memory is left, read in a tree of files as Linux has them. */
#include "device/device.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char root[] = "device-room.tmp";

/* Writes a file of the tree, and the folders above it. */
static void put(const char *path, const char *text)
{
    char name[512];
    FILE *file;

    snprintf(name, sizeof name, "mkdir -p $(dirname %s%s)", root, path);
    if (!CHECK(system(name) == 0, "%s", name)) return;
    snprintf(name, sizeof name, "%s%s", root, path);
    if (!CHECK((file = fopen(name, "w")) != NULL, "%s", name)) return;
    fputs(text, file);
    fclose(file);
}

static void clear(void)
{
    char command[64];

    snprintf(command, sizeof command, "rm -rf %s", root);
    CHECK(system(command) == 0, "%s", command);
}

static void expect(int64_t bytes)
{
    int64_t room = dsc_memory_room(root);

    CHECK(room == bytes, "%lld bytes, not %lld", (long long)room, (long long)bytes);
}

static void machine_tells_what_is_available(void)
{
    expect(INT64_MAX);
    put("/proc/meminfo", "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\n");
    expect(INT64_C(20000000) * 1024);
    clear();
}

static void least_of_nested_groups_counts(void)
{
    put("/proc/meminfo", "MemAvailable:   20000000 kB\n");
    put("/proc/self/cgroup", "0::/slurm/job_7\n");
    put("/sys/fs/cgroup/slurm/job_7/memory.max", "max\n");
    put("/sys/fs/cgroup/slurm/job_7/memory.current", "5000\n");
    expect(INT64_C(20000000) * 1024);
    put("/sys/fs/cgroup/slurm/memory.max", "1000000\n");
    put("/sys/fs/cgroup/slurm/memory.current", "700000\n");
    expect(300000);
    put("/sys/fs/cgroup/slurm/memory.stat", "anon 1\nfile 250000\ninactive_file 200000\n");
    expect(500000);
    put("/sys/fs/cgroup/slurm/job_7/memory.max", "4000\n");
    expect(0);
    clear();
}

static void first_version_of_groups_is_read(void)
{
    put("/proc/self/cgroup", "9:cpu,cpuacct:/a\n8:memory:/batch\n1:name=systemd:/b\n");
    put("/sys/fs/cgroup/memory/batch/memory.limit_in_bytes", "1000\n");
    put("/sys/fs/cgroup/memory/batch/memory.usage_in_bytes", "600\n");
    put("/sys/fs/cgroup/memory/batch/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
    expect(500);
    clear();
}

static void this_machine_has_some(void)
{
    int64_t room = dsc_memory_room("");

    CHECK(room > 1 << 20, "%lld bytes", (long long)room);
}

static const tap_case cases[] = {
    {"the machine tells what is available", machine_tells_what_is_available},
    {"of nested control groups the least counts, without cached files", least_of_nested_groups_counts},
    {"the first version of control groups is read too", first_version_of_groups_is_read},
    {"this machine has some", this_machine_has_some},
};

int main(void)
{
    clear();
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
