/* TAP on the ranks of an MPI job: rank 0 prints, a case fails when it fails anywhere. */
#ifndef TESTS_COMM_JOB_H
#define TESTS_COMM_JOB_H

#include "comm/comm.h"
#include "tests/tap.h"

extern dsc_comm *job; /* while job_run runs */

/* Starts MPI, runs the cases and ends the process. */
void job_run(int argc, char **argv, const tap_case *cases, int64_t count) __attribute__((noreturn));

/* Whether all ranks hold the same bytes. Collective. */
bool job_holds_same(const void *bytes, int64_t count);

#endif
