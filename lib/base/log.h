/* Where the library's notes go. It never prints: a tool installs a sink, else notes are dropped. */
#ifndef DSC_BASE_LOG_H
#define DSC_BASE_LOG_H

typedef enum dsc_level { DSC_DEBUG, DSC_NOTE, DSC_WARNING } dsc_level;
typedef void dsc_log_sink(dsc_level level, const char *line, void *context);

/* Process-wide; sink NULL drops everything. The sink may be called from several threads, one at a time. */
void dsc_log_to(dsc_log_sink *sink, void *context, dsc_level lowest);
void dsc_log(dsc_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
