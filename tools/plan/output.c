/* Files that are written. That one cannot be is bad input as long as no work has been done, and a failure later. */
#include "tools/plan/plan.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

dsc_status check_output(const char *path)
{
    int file;

    if (path[0] == '\0' || dsc_equal(path, "-")) return DSC_OK;
    if (access(path, F_OK) == 0) {
        file = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe nobody reads yet is none of our affair */
        if (file < 0 && errno == ENXIO) return DSC_OK;
    } else {
        file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0 && errno == EEXIST) return DSC_OK; /* a link to what is not there yet */
        if (file >= 0) unlink(path);
    }
    if (file < 0) return DSC_FAIL(DSC_EINVAL, "%s: cannot write: %s", path, strerror(errno));
    close(file);
    return DSC_OK;
}

dsc_status write_text(const char *path, const dsc_text *text)
{
    const bool is_stdout = dsc_equal(path, "-");
    FILE *file = is_stdout ? stdout : fopen(path, "w");
    bool is_written = file != NULL && fputs(dsc_text_str(text), file) >= 0;

    if (file != NULL && (is_stdout ? fflush(file) : fclose(file)) != 0) is_written = false;
    if (is_written) return DSC_OK;
    return DSC_FAIL(DSC_EIO, "%s: cannot write: %s", is_stdout ? "standard output" : path, strerror(errno));
}
