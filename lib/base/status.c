#include "base/status.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_SIZE = 4096 };

static _Thread_local char message[MESSAGE_SIZE];

dsc_status dsc_fail(dsc_status code, const char *format, ...)
{
    char next[MESSAGE_SIZE]; /* the arguments may point into the message that this one replaces */
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(next, sizeof next, format, arguments);
    va_end(arguments);
    memcpy(message, next, strlen(next) + 1);
    return code;
}

dsc_status dsc_fail_in(dsc_status code, const char *format, ...)
{
    char prefix[MESSAGE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    return dsc_fail(code, "%s: %s", prefix, message);
}

const char *dsc_message(void)
{
    return message;
}

int dsc_exit_status(dsc_status status)
{
    switch (status) {
    case DSC_OK: return 0;
    case DSC_EINFEASIBLE: return 1;
    case DSC_EINVAL:
    case DSC_ENOTSUP: return 2;
    case DSC_ENOMEM:
    case DSC_EIO:
    case DSC_ECOMM:
    case DSC_EDIVERGED:
    case DSC_EINTERNAL: return 3;
    case DSC_ESTOPPED: return 4;
    }
    return 3;
}

const char *dsc_status_name(dsc_status status)
{
    switch (status) {
    case DSC_OK: return "ok";
    case DSC_EINVAL: return "invalid";
    case DSC_ENOTSUP: return "unsupported";
    case DSC_EINFEASIBLE: return "infeasible";
    case DSC_ENOMEM: return "out of memory";
    case DSC_EIO: return "input or output failed";
    case DSC_ECOMM: return "communication failed";
    case DSC_EDIVERGED: return "diverged";
    case DSC_EINTERNAL: return "internal error";
    case DSC_ESTOPPED: return "stopped";
    }
    return "unknown";
}
