/* The events to come, earliest first; ties broken by rank, then by op: a total order, so that the same inputs replay
 * alike. */
#ifndef DSC_SIM_AGENDA_H
#define DSC_SIM_AGENDA_H

#include "base/array.h"

/* Lives in the caller's own struct. place: 1 + its place in the heap; 0 while it is not on the agenda. */
typedef struct dsc_event { int64_t time_ns, rank, op, place; } dsc_event;

typedef struct dsc_agenda { dsc_event **heap; int64_t count, capacity; } dsc_agenda; /* {0} is empty */

void dsc_agenda_fini(dsc_agenda *agenda);
/* Adds the event, or moves it if it is there, to time_ns. Borrowed until taken. O(log n). */
dsc_status dsc_agenda_put(dsc_agenda *agenda, dsc_event *event, int64_t time_ns);
/* Takes the first; NULL when there is none. */
dsc_event *dsc_agenda_take(dsc_agenda *agenda);

#endif
