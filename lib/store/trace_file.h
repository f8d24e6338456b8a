/* Traces on disk: HDF5 trace, schema 1. One writer, no MPI, readable while a run goes on and after it was killed. What
 * rows mean is lib/trace's affair; which columns there are stands in trace/schema.h. */
#ifndef DSC_STORE_TRACE_FILE_H
#define DSC_STORE_TRACE_FILE_H

#include "trace/trace.h"

/* A file under construction. Every dataset and attribute is made when it is opened; a measured file then goes into SWMR
 * mode (single writer, multiple readers), in which each flushed append survives SIGKILL. Not for NFS. */
typedef struct dsc_trace_writer dsc_trace_writer;

/* Creates or replaces the file at path.
 *
 * head     borrowed during the call; an empty `created` of a measurement becomes the present time
 * groups   [group_count] one row a member, and ranks [rank_count]; borrowed during the call, written once
 * returns  DSC_OK; DSC_EINVAL when the path cannot be written (the text names it); DSC_EIO; *out only on success */
dsc_status dsc_trace_writer_open(const char *path, const dsc_trace_head *head, const dsc_group_row *groups,
                                 int64_t group_count, const dsc_rank_row *ranks, int64_t rank_count,
                                 dsc_trace_writer **out);

/* Appends the rows of ops, memory, links and steps (head, groups and ranks of *rows are not looked at) and flushes
 * them, steps last: a step that stands in /steps is there with all its rows. Whole steps at a time, then; once a step
 * is the intended rhythm. Costs a few milliseconds; no part of it belongs inside a step. DSC_EIO, after which only
 * close is allowed. */
dsc_status dsc_trace_writer_append(dsc_trace_writer *writer, const dsc_trace *rows);

/* Closes, frees and sets *writer to NULL, whatever it returns; takes NULL. After DSC_OK the file opens without SWMR,
 * unless an append failed: then it is as a killed writer would have left it. DSC_EIO. */
dsc_status dsc_trace_writer_close(dsc_trace_writer **writer);

/* Writes a whole trace. A prediction has no date unless head.created or SOURCE_DATE_EPOCH gives one: the same trace
 * gives the same bytes. Errors as the writer's. */
dsc_status dsc_trace_save(const char *path, const dsc_trace *trace);

/* Reads a whole trace, also one that is being written or that a killed run left: then up to the last whole step, which
 * dsc_log notes. Names are checked against the codes that use them, so that every code in *out indexes its list.
 * DSC_EINVAL when it cannot be read, is no HDF5 file, no trace of schema 1, or damaged; the text names file and part.
 * *out only on success; the caller frees it by dsc_trace_fini. */
dsc_status dsc_trace_load(const char *path, dsc_trace *out);

#endif
