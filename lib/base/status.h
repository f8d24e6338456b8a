/* How a function says that it failed, and why.
 *
 * A function that can fail returns dsc_status. The one that first knows the cause writes the message, with both numbers
 * that disagree; everybody above passes the status on. The message belongs to the calling thread. The library itself
 * never prints and never exits. */
#ifndef DSC_BASE_STATUS_H
#define DSC_BASE_STATUS_H

typedef enum dsc_status {
    DSC_OK = 0,
    DSC_EINVAL,      /* bad input: a file, an option, a description; exit status 2 */
    DSC_ENOTSUP,     /* well-formed, but refused with a reason; exit status 2 */
    DSC_EINFEASIBLE, /* well-formed "no": does not fit, differs, does not verify; exit status 1 */
    DSC_ENOMEM,      /* the system gave no memory; exit status 3 */
    DSC_EIO,         /* reading or writing failed; exit status 3 */
    DSC_ECOMM,       /* communication failed, or another rank did; exit status 3 */
    DSC_EINTERNAL,   /* an invariant of ours does not hold; exit status 3 */
    DSC_ESTOPPED,    /* stopped by a signal after saving; exit status 4 */
    DSC_EDIVERGED    /* training came to what is no number; exit status 3 */
} dsc_status;

/* Writes the thread's message and returns code, so that `return DSC_FAIL(...)` and `status = DSC_FAIL(...)` read well.
 * The message has no trailing newline; several complaints are separated by newlines. At most 4095 bytes are kept. */
dsc_status dsc_fail(dsc_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define DSC_FAIL(code, ...) dsc_fail((code), __VA_ARGS__)

/* In a function with `dsc_status status` and a label `out`: passes a failure on. */
#define DSC_TRY(expression)             \
    do {                                \
        status = (expression);          \
        if (status != DSC_OK) goto out; \
    } while (0)

/* The calling thread's last message; "" when there was none. Borrowed until the thread's next dsc_fail. */
const char *dsc_message(void);

/* Puts `prefix: ` before the thread's message and returns code: for a caller that knows the file or the rank. */
dsc_status dsc_fail_in(dsc_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The exit status of a tool that ends with this status. Pure. */
int dsc_exit_status(dsc_status status);

/* "invalid", "infeasible", ... for logs. Pure. */
const char *dsc_status_name(dsc_status status);

#endif
