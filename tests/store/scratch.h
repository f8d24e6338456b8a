/* A folder of a test's own, and child processes to be killed. */
#ifndef TESTS_STORE_SCRATCH_H
#define TESTS_STORE_SCRATCH_H

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct scratch { char folder[256], path[512]; } scratch;

static inline scratch scratch_begin(void)
{
    const char *parent = getenv("TMPDIR");
    scratch scratch;

    snprintf(scratch.folder, sizeof scratch.folder, "%s/dsc-test-XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(scratch.folder) == NULL) {
        perror(scratch.folder);
        exit(3);
    }
    return scratch;
}

/* folder/name, valid until the next call for the same scratch. */
static inline const char *scratch_path(scratch *scratch, const char *name)
{
    snprintf(scratch->path, sizeof scratch->path, "%s/%s", scratch->folder, name);
    return scratch->path;
}

static inline int scratch_remove_one(const char *path, const struct stat *facts, int type, struct FTW *where)
{
    (void)facts, (void)type, (void)where;
    return remove(path);
}

static inline void scratch_end(scratch *scratch)
{
    nftw(scratch->folder, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void scratch_kill(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* Runs work(folder) in a child whose files may have `bytes`, as if the disk were full then; returns how the child
 * ended. */
static inline int scratch_run_limited(long bytes, int (*work)(const char *folder), const char *folder)
{
    int how = -1;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)bytes, (rlim_t)bytes});
        exit(work(folder)); /* through the handlers that libraries leave */
    }
    waitpid(child, &how, 0);
    return how;
}

/* Flips one bit of a file. */
static inline void scratch_flip(const char *path, long byte, int bit)
{
    FILE *file = fopen(path, "r+b");
    int value;

    fseek(file, byte, SEEK_SET);
    value = fgetc(file) ^ (1 << bit);
    fseek(file, byte, SEEK_SET);
    fputc(value, file);
    fclose(file);
}

static inline long scratch_size(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size;

    if (file == NULL) return -1;
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    fclose(file);
    return size;
}

#endif
