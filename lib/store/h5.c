#include "store/h5.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A file that could not be written, as when the disk is full, cannot be closed either: libhdf5 1.10 keeps half of it,
 * and crashes on that half when it cleans up at exit or, where MPI was there before it, in MPI_Finalize. So it is
 * started before main, and told not to clean up: our files are all closed by then. */
__attribute__((constructor)) static void start_without_clean_up(void)
{
    H5dont_atexit();
    H5open();
}

/* ---- Errors */

typedef struct reason { char text[512]; } reason;

static herr_t keep_description(unsigned depth, const H5E_error2_t *error, void *out)
{
    (void)depth;
    snprintf(((reason *)out)->text, sizeof(reason), "%s", error->desc);
    return 0;
}

/* The stack is walked from the API down, so that the last one kept is the cause. Of a system call's long line, which
 * names file and time, the system's own words are enough. */
static reason innermost_reason(void)
{
    static const char quoted[] = "error message = '";
    reason why = {"unknown"};
    char *start;

    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_description, &why);
    start = strstr(why.text, quoted);
    if (start != NULL) memmove(why.text, start + sizeof quoted - 1, strlen(start + sizeof quoted - 1) + 1);
    why.text[strcspn(why.text, start != NULL ? "'" : "\n")] = '\0';
    return why;
}

/* "path: " and the caller's sentence. */
static dsc_status write_message(dsc_status code, hid_t object, const char *format, va_list arguments, const char *why)
{
    char what[512], path[1024] = "HDF5";

    vsnprintf(what, sizeof what, format, arguments);
    H5Fget_name(object, path, sizeof path);
    return DSC_FAIL(code, "%s: %s%s", path, what, why);
}

dsc_status dsc_h5_fail(dsc_status code, hid_t object, const char *format, ...)
{
    reason cause = innermost_reason(), why;
    va_list arguments;
    dsc_status status;

    snprintf(why.text, sizeof why.text, ": %.500s", cause.text);
    va_start(arguments, format);
    status = write_message(code, object, format, arguments, why.text);
    va_end(arguments);
    return status;
}

dsc_status dsc_h5_refuse(hid_t object, const char *format, ...)
{
    va_list arguments;
    dsc_status status;

    va_start(arguments, format);
    status = write_message(DSC_EINVAL, object, format, arguments, "");
    va_end(arguments);
    return status;
}

/* ---- Files */

/* The library prints what it is told to close and was never opened, so nothing of it is called before this. */
static dsc_status make_access(hid_t *out)
{
    hid_t access;

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* the library never prints; the reasons go into our messages */
    access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0 || H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) < 0 ||
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0) {
        dsc_status status = DSC_FAIL(DSC_EINTERNAL, "HDF5 does not start: %s", innermost_reason().text);

        if (access >= 0) H5Pclose(access);
        return status;
    }
    *out = access;
    return DSC_OK;
}

/* The system's own reason is better than HDF5's, which repeats it within a long line. */
static dsc_status check_writable(const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

    if (file < 0) return DSC_FAIL(DSC_EINVAL, "%s: cannot write: %s", path, strerror(errno));
    close(file);
    return DSC_OK;
}

enum { PAGE_BYTES = 4096 };

dsc_status dsc_h5_create(const char *path, bool is_live, hid_t *out)
{
    hid_t access = H5I_INVALID_HID, creation = H5I_INVALID_HID, file = H5I_INVALID_HID;
    dsc_status status = DSC_OK;

    DSC_TRY(make_access(&access));
    DSC_TRY(check_writable(path));
    creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(creation, false);
    if (is_live) { /* a kill may end a write between two pages, never within one: small metadata crosses none */
        H5Pset_file_space_strategy(creation, H5F_FSPACE_STRATEGY_PAGE, false, 1);
        H5Pset_file_space_page_size(creation, PAGE_BYTES);
    }
    file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (file < 0)
        status = DSC_FAIL(DSC_EINVAL, "%s: cannot write: %s", path, innermost_reason().text);
    else
        *out = file;
out:
    if (creation >= 0) H5Pclose(creation);
    if (access >= 0) H5Pclose(access);
    return status;
}

static dsc_status check_readable(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    bool is_file;

    if (file < 0) return DSC_FAIL(DSC_EINVAL, "%s: cannot read: %s", path, strerror(errno));
    is_file = fstat(file, &facts) == 0 && S_ISREG(facts.st_mode);
    close(file);
    if (!is_file) return DSC_FAIL(DSC_EINVAL, "%s: not a regular file", path);
    if (H5Fis_hdf5(path) <= 0) return DSC_FAIL(DSC_EINVAL, "%s: not an HDF5 file", path);
    return DSC_OK;
}

/* Beside a writer, libhdf5 reads again what does not match its checksum, after pauses of 1, 2, 4, ... ns: these are
 * about a second in all. By default they are 100, and a damaged file is waited for until the end of days. */
enum { SWMR_ATTEMPTS = 30 };

dsc_status dsc_h5_open(const char *path, hid_t *out, bool *is_live)
{
    hid_t access = H5I_INVALID_HID, file;
    dsc_status status = DSC_OK;

    DSC_TRY(make_access(&access));
    DSC_TRY(check_readable(path));
    file = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (is_live != NULL) *is_live = file < 0;
    if (file < 0) {
        H5Pset_metadata_read_attempts(access, SWMR_ATTEMPTS);
        file = H5Fopen(path, H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, access);
    }
    if (file < 0)
        status = DSC_FAIL(DSC_EINVAL, "%s: damaged, or not closed by its writer: %s", path, innermost_reason().text);
    else
        *out = file;
out:
    if (access >= 0) H5Pclose(access);
    return status;
}

dsc_status dsc_h5_close(hid_t *file)
{
    char path[1024] = "HDF5";
    dsc_status status = DSC_OK;

    if (*file < 0) return DSC_OK;
    H5Fget_name(*file, path, sizeof path);
    if (H5Fclose(*file) < 0) status = DSC_FAIL(DSC_EIO, "%s: cannot write: %s", path, innermost_reason().text);
    *file = H5I_INVALID_HID;
    return status;
}

void dsc_h5_discard(hid_t *file)
{
    if (*file >= 0) H5Fclose(*file);
    *file = H5I_INVALID_HID;
}

/* ---- Parts that several files share */

hid_t dsc_h5_text_type(size_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, bytes);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

bool dsc_h5_is_text(hid_t type)
{
    return H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0;
}

void dsc_h5_date(bool only_epoch, char out[32])
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    time_t when = epoch != NULL ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm parts;

    out[0] = '\0';
    if (only_epoch && epoch == NULL) return;
    if (gmtime_r(&when, &parts) != NULL) strftime(out, 32, "%Y-%m-%dT%H:%M:%S+00:00", &parts);
}

dsc_status dsc_h5_make_group(hid_t file, const char *path, hid_t *out)
{
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE), group;
    dsc_status status = DSC_OK;

    H5Pset_obj_track_times(creation, false);
    group = H5Gcreate2(file, path, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (group < 0)
        status = dsc_h5_fail(DSC_EIO, file, "cannot make group %s", path);
    else if (out != NULL)
        *out = group;
    else
        H5Gclose(group);
    H5Pclose(creation);
    return status;
}
