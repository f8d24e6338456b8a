#include "tools/bench/bench.h"
#include "device/device.h"
#include "store/calibration_file.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORDS = 64, NOT_FOUND = 127 };

typedef struct command {
    char launcher[1024], self[4096], count[16]; /* what words point into */
    char *words[MAX_WORDS];
    int word_count;
} command;

/* DSC_MPIEXEC may be several words, "srun --mpi=pmi2"; later words are dropped where there is no room for them. */
static void add(command *c, const char *word)
{
    if (c->word_count < MAX_WORDS - 1) c->words[c->word_count++] = (char *)word;
}

static dsc_status make_command(command *c, int ranks, const char *path, const bench_request *request)
{
    const char *launcher = getenv("DSC_MPIEXEC");
    const ssize_t length = readlink("/proc/self/exe", c->self, sizeof c->self - 1);

    if (length < 0) return DSC_FAIL(DSC_EIO, "this program's path is unknown: %s", strerror(errno));
    snprintf(c->launcher, sizeof c->launcher, "%s", launcher != NULL ? launcher : "mpiexec");
    snprintf(c->count, sizeof c->count, "%d", ranks);
    for (char *rest = c->launcher, *word; ranks > 1 && (word = strsep(&rest, " ")) != NULL;)
        if (*word != '\0') add(c, word);
    if (ranks > 1) add(c, "-n");
    if (ranks > 1) add(c, c->count);
    add(c, c->self);
    add(c, "--worker");
    add(c, path);
    add(c, "--device");
    add(c, request->device->calls->kind);
    if (request->quick) add(c, "--quick");
    if (request->shows_progress) add(c, "--progress");
    for (int i = 0; i < DSC_KERNEL_COUNT; i++)
        if (request->kernels[i]) add(c, dsc_kernel_name(i));
    if (request->collectives) add(c, "collectives");
    if (request->copies) add(c, "copies");
    return DSC_OK;
}

/* ---- Signals: held back while there is a child and a file, and waited for together with the child's end */

typedef struct signals { sigset_t held, before; int last; } signals;

/* Not those that are ignored, as nohup and a shell's background jobs do. */
static void hold_signals(signals *out)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;

    out->last = 0;
    sigemptyset(&out->held);
    sigaddset(&out->held, SIGCHLD);
    for (int i = 0; i < DSC_COUNT(ending); i++)
        if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&out->held, ending[i]);
    sigprocmask(SIG_BLOCK, &out->held, &out->before);
}

/* Ends this process as the signal that came does by default: UCX has a handler of its own for SIGHUP. */
static void release_signals(const signals *signals)
{
    if (signals->last != 0) signal(signals->last, SIG_DFL), raise(signals->last);
    sigprocmask(SIG_SETMASK, &signals->before, NULL);
}

/* A launcher passes SIGTERM on to its ranks; what has not ended after two more seconds is killed. */
static void end_group(pid_t child)
{
    const struct timespec grace = {.tv_sec = 2};
    sigset_t ends;

    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    kill(-child, SIGTERM);
    while (sigtimedwait(&ends, NULL, &grace) < 0 && errno == EINTR) continue;
    kill(-child, SIGKILL);
}

static dsc_status wait_for(pid_t child, const char *name, signals *signals, int *code)
{
    for (;;) {
        const pid_t ended = waitpid(child, code, WNOHANG);
        int number;

        if (ended == child) return DSC_OK;
        if (ended < 0 && errno != EINTR) return DSC_FAIL(DSC_EIO, "waiting for %s: %s", name, strerror(errno));
        number = sigwaitinfo(&signals->held, NULL);
        if (number < 0 || number == SIGCHLD) continue;
        signals->last = number;
        end_group(child);
        waitpid(child, code, 0);
        return DSC_FAIL(DSC_EIO, "ended by signal %d", number);
    }
}

/* The child leads a group of its own, which ends with this process; standard output is not its to write to, nor the
 * terminal its to read. Threads that wait for others of their team give up the core after some ten microseconds: where
 * others use the machine too, who spins on keeps back the very thread that it waits for. */
static void become(char *const *words, const signals *signals)
{
    const int nothing = open("/dev/null", O_RDONLY);

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(nothing, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    setenv("GOMP_SPINCOUNT", "2000", 0);
    sigprocmask(SIG_SETMASK, &signals->before, NULL);
    execvp(words[0], words);
    _exit(NOT_FOUND);
}

static dsc_status run(char *const *words, signals *signals)
{
    int code = 0;
    dsc_status status;
    const pid_t child = fork();

    if (child < 0) return DSC_FAIL(DSC_EIO, "no process for %s: %s", words[0], strerror(errno));
    if (child == 0) become(words, signals);
    setpgid(child, child); /* by whoever comes first */
    status = wait_for(child, words[0], signals, &code);
    if (status != DSC_OK) return status;
    if (WIFEXITED(code) && WEXITSTATUS(code) == NOT_FOUND)
        return DSC_FAIL(DSC_ENOTSUP, "%s is not there: DSC_MPIEXEC may name another launcher", words[0]);
    if (WIFSIGNALED(code)) return DSC_FAIL(DSC_EIO, "%s was ended by signal %d", words[0], WTERMSIG(code));
    if (WEXITSTATUS(code) != 0) return DSC_FAIL(DSC_EIO, "%s ended with status %d", words[0], WEXITSTATUS(code));
    return DSC_OK;
}

/* What the ranks measured, behind what is there. */
static dsc_status append(const dsc_calibration *from, dsc_calibration *to)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < from->kernel_count; i++)
        DSC_TRY(DSC_PUSH(to->kernels, to->kernel_count, to->kernel_capacity, from->kernels[i]));
    for (int64_t i = 0; i < from->collective_count; i++)
        DSC_TRY(DSC_PUSH(to->collectives, to->collective_count, to->collective_capacity, from->collectives[i]));
    for (int64_t i = 0; i < from->copy_count; i++)
        DSC_TRY(DSC_PUSH(to->copies, to->copy_count, to->copy_capacity, from->copies[i]));
    to->libraries_bytes = DSC_MAX(to->libraries_bytes, from->libraries_bytes);
    to->op_overhead_ns = DSC_MAX(to->op_overhead_ns, from->op_overhead_ns);
out:
    return status;
}

dsc_status bench_launch(int ranks, const bench_request *request, dsc_calibration *out)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    command c = {.word_count = 0};
    dsc_calibration measured;
    signals signals;
    dsc_status status = DSC_OK;
    int file;

    dsc_calibration_init(&measured);
    hold_signals(&signals);
    snprintf(path, sizeof path, "%s/dsc-bench.XXXXXX", folder != NULL && folder[0] != '\0' ? folder : "/tmp");
    if ((file = mkstemp(path)) < 0) DSC_TRY(DSC_FAIL(DSC_EIO, "%s: %s", path, strerror(errno)));
    close(file);
    DSC_TRY(make_command(&c, ranks, path, request));
    status = run(c.words, &signals);
    if (status != DSC_OK) {
        status = dsc_fail_in(status, "measuring on %d rank%s", ranks, ranks > 1 ? "s" : "");
        goto out;
    }
    DSC_TRY(dsc_calibration_load(path, &measured));
    DSC_TRY(append(&measured, out));
out:
    if (file >= 0) unlink(path);
    dsc_calibration_fini(&measured);
    release_signals(&signals);
    return status;
}
