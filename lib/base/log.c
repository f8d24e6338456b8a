#include "base/log.h"
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    dsc_log_sink *write;
    void *context;
    dsc_level lowest;
} sink; /* guarded by lock */

void dsc_log_to(dsc_log_sink *write, void *context, dsc_level lowest)
{
    pthread_mutex_lock(&lock);
    sink.write = write;
    sink.context = context;
    sink.lowest = lowest;
    pthread_mutex_unlock(&lock);
}

void dsc_log(dsc_level level, const char *format, ...)
{
    char line[4096];
    va_list arguments;

    pthread_mutex_lock(&lock);
    if (sink.write != NULL && level >= sink.lowest) {
        va_start(arguments, format);
        vsnprintf(line, sizeof line, format, arguments);
        va_end(arguments);
        sink.write(level, line, sink.context);
    }
    pthread_mutex_unlock(&lock);
}
