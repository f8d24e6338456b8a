/* Parsing a stranger's file in a child process: a fault inside libhdf5 ends the child, and becomes a message here. */
#ifndef DSC_STORE_GUARD_H
#define DSC_STORE_GUARD_H

#include "base/text.h"

/* Does the work: adds to *text and sets *value; a failure's message stays with the calling thread. */
typedef dsc_status dsc_guarded(void *context, dsc_text *text, double *value);

enum { DSC_GUARD_SECONDS = 60 }; /* for files of people, who wait at a terminal */

/* Runs work in a child with bounded memory and time, and brings status, message, text and value back. What work changes
 * elsewhere stays in the child.
 *
 * seconds  of the clock, after which the child is killed: asleep or at work, it is stuck
 * returns  DSC_EINVAL naming `what` when the child dies or is killed; DSC_EIO when there can be none
 *
 * Not in a program that runs MPI or threads. */
dsc_status dsc_guard(const char *what, int seconds, dsc_guarded *work, void *context, dsc_text *text, double *value);

#endif
