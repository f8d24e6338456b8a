#include "store/guard.h"
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

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

static bool read_all(int pipe, void *bytes, int64_t count)
{
    for (char *next = bytes; count > 0;) {
        ssize_t done = read(pipe, next, (size_t)count);

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

/* false when the child died before it had said all; status and message are then not set. */
static bool read_answer(int pipe, dsc_text *text, double *value, dsc_status *status)
{
    answer answer;
    char message[4096];

    if (!read_all(pipe, &answer, sizeof answer) || answer.message_bytes >= (int64_t)sizeof message) return false;
    if (!read_all(pipe, message, answer.message_bytes)) return false;
    message[answer.message_bytes] = '\0';
    *status = dsc_array_reserve(&text->bytes, &text->capacity, text->count + answer.text_bytes + 1, 1);
    if (*status != DSC_OK) return true;
    if (!read_all(pipe, text->bytes + text->count, answer.text_bytes)) return false;
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

dsc_status dsc_guard(const char *what, dsc_guarded *work, void *context, dsc_text *text, double *value)
{
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
    is_answered = read_answer(ends[0], text, value, &status);
    close(ends[0]);
    while (waitpid(child, &how, 0) < 0 && errno == EINTR) continue;
    return is_answered ? status : report_death(what, how);
}
