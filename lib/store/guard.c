#include "store/guard.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The parent ends a child that is late; this is for one whose parent is gone. */
enum { PROCESSOR_SECONDS = 600 };

/* What stands in the pipe before the message and the text. */
typedef struct answer { dsc_status status; double value; int64_t message_bytes, text_bytes; } answer;

/* AddressSanitizer maps terabytes that it never touches. */
static void bound_memory(void)
{
#ifndef __SANITIZE_ADDRESS__
    rlim_t bytes = (rlim_t)sysconf(_SC_PHYS_PAGES) * (rlim_t)sysconf(_SC_PAGESIZE);

    setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes});
#endif
}

static void bound_child(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setrlimit(RLIMIT_CPU, &(struct rlimit){PROCESSOR_SECONDS, PROCESSOR_SECONDS});
    bound_memory();
}

static bool write_all(int pipe, const void *bytes, int64_t count)
{
    for (const char *next = bytes; count > 0;) {
        ssize_t done = write(pipe, next, (size_t)count);

        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        next += done;
        count -= done;
    }
    return true;
}

static int64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* The parent's end of the pipe, and until when it reads. */
typedef struct source { int pipe; int64_t deadline_ms; bool is_late; } source;

/* Until there is something to read, or the child has ended; false when it is too late. */
static bool await(source *from)
{
    for (;;) {
        int64_t left_ms = DSC_MAX(from->deadline_ms - clock_ms(), 0);
        int ready = poll(&(struct pollfd){.fd = from->pipe, .events = POLLIN}, 1, (int)left_ms);

        if (ready < 0 && errno == EINTR) continue;
        from->is_late = ready == 0;
        return !from->is_late;
    }
}

static bool read_all(source *from, void *bytes, int64_t count)
{
    for (char *next = bytes; count > 0;) {
        ssize_t done = await(from) ? read(from->pipe, next, (size_t)count) : 0;

        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        next += done;
        count -= done;
    }
    return true;
}

static void answer_from_child(int pipe, dsc_guarded *work, void *context)
{
    dsc_text text = {0};
    answer answer = {.status = DSC_OK};

    bound_child();
    answer.status = work(context, &text, &answer.value);
    answer.message_bytes = answer.status == DSC_OK ? 0 : (int64_t)strlen(dsc_message());
    answer.text_bytes = text.count;
    if (write_all(pipe, &answer, sizeof answer) && write_all(pipe, dsc_message(), answer.message_bytes))
        write_all(pipe, text.bytes, text.count);
    _exit(0); /* neither the parent's buffers nor HDF5's end-of-process work are the child's to flush */
}

/* false when the child died, or time was over, before it had said all; status and message are then not set. */
static bool read_answer(source *from, dsc_text *text, double *value, dsc_status *status)
{
    answer answer;
    char message[4096];

    if (!read_all(from, &answer, sizeof answer) || answer.message_bytes >= (int64_t)sizeof message) return false;
    if (!read_all(from, message, answer.message_bytes)) return false;
    message[answer.message_bytes] = '\0';
    *status = dsc_array_reserve(&text->bytes, &text->capacity, text->count + answer.text_bytes + 1, 1);
    if (*status != DSC_OK) return true;
    if (!read_all(from, text->bytes + text->count, answer.text_bytes)) return false;
    text->count += answer.text_bytes;
    text->bytes[text->count] = '\0';
    *value = answer.value;
    *status = answer.status == DSC_OK ? DSC_OK : DSC_FAIL(answer.status, "%s", message);
    return true;
}

static dsc_status report_death(const char *what, int how)
{
    if (WIFSIGNALED(how))
        return DSC_FAIL(DSC_EINVAL, "%s: damaged: reading it ended with signal %d (%s)", what, WTERMSIG(how),
                        strsignal(WTERMSIG(how)));
    return DSC_FAIL(DSC_EINVAL, "%s: damaged: reading it ended with status %d", what, WEXITSTATUS(how));
}

dsc_status dsc_guard(const char *what, int seconds, dsc_guarded *work, void *context, dsc_text *text, double *value)
{
    source from = {.deadline_ms = clock_ms() + seconds * INT64_C(1000)};
    int ends[2], how = 0;
    dsc_status status = DSC_OK;
    bool is_answered;
    pid_t child;

    if (pipe(ends) != 0) return DSC_FAIL(DSC_EIO, "no pipe: %s", strerror(errno));
    child = fork();
    if (child == 0) {
        close(ends[0]);
        answer_from_child(ends[1], work, context);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return DSC_FAIL(DSC_EIO, "no child process: %s", strerror(errno));
    }
    from.pipe = ends[0];
    is_answered = read_answer(&from, text, value, &status);
    close(ends[0]);
    if (from.is_late) kill(child, SIGKILL);
    while (waitpid(child, &how, 0) < 0 && errno == EINTR) continue;
    if (is_answered) return status;
    if (from.is_late) return DSC_FAIL(DSC_EINVAL, "%s: damaged: reading it did not end in %d s", what, seconds);
    return report_death(what, how);
}
