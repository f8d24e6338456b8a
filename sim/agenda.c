#include "sim/agenda.h"
#include <stdlib.h>

void dsc_agenda_fini(dsc_agenda *agenda)
{
    free(agenda->heap);
    *agenda = (dsc_agenda){0};
}

static bool is_before(const dsc_event *a, const dsc_event *b)
{
    if (a->time_ns != b->time_ns) return a->time_ns < b->time_ns;
    return a->rank != b->rank ? a->rank < b->rank : a->op < b->op;
}

static void set(dsc_agenda *agenda, int64_t i, dsc_event *event)
{
    agenda->heap[i] = event;
    event->place = i + 1;
}

static void rise(dsc_agenda *agenda, int64_t i)
{
    dsc_event *event = agenda->heap[i];

    for (; i > 0 && is_before(event, agenda->heap[(i - 1) / 2]); i = (i - 1) / 2)
        set(agenda, i, agenda->heap[(i - 1) / 2]);
    set(agenda, i, event);
}

static void sink(dsc_agenda *agenda, int64_t i)
{
    dsc_event *event = agenda->heap[i];

    for (int64_t child; (child = 2 * i + 1) < agenda->count; i = child) {
        if (child + 1 < agenda->count && is_before(agenda->heap[child + 1], agenda->heap[child])) child++;
        if (!is_before(agenda->heap[child], event)) break;
        set(agenda, i, agenda->heap[child]);
    }
    set(agenda, i, event);
}

dsc_status dsc_agenda_put(dsc_agenda *agenda, dsc_event *event, int64_t time_ns)
{
    dsc_status status = DSC_OK;

    event->time_ns = time_ns;
    if (event->place == 0) {
        DSC_TRY(DSC_PUSH(agenda->heap, agenda->count, agenda->capacity, event));
        event->place = agenda->count;
    }
    rise(agenda, event->place - 1);
    sink(agenda, event->place - 1);
out:
    return status;
}

dsc_event *dsc_agenda_take(dsc_agenda *agenda)
{
    dsc_event *first;

    if (agenda->count == 0) return NULL;
    first = agenda->heap[0];
    first->place = 0;
    if (--agenda->count > 0) {
        set(agenda, 0, agenda->heap[agenda->count]);
        sink(agenda, 0);
    }
    return first;
}
