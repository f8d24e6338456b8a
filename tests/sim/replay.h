/* What another simulator is asked: messages and computations that wait for each other, on links between hosts. Plain
 * numbers, of which neither our simulator nor theirs knows where they come from. */
#ifndef TESTS_SIM_REPLAY_H
#define TESTS_SIM_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct replay_link { double bytes_per_s; } replay_link;

/* Of one direction; links[first .. first + count) of replay.hops. */
typedef struct replay_route { int from, to; double latency_s; int64_t first, count; } replay_route;

/* A message's first half pays the latency of its route, its second takes bytes over the links: TCP, and SimGrid with
 * it, gives a flow of the longer latency the smaller share of a link, while here all have the same. */
typedef enum replay_kind { REPLAY_COMPUTE, REPLAY_WAIT, REPLAY_MOVE } replay_kind;

typedef struct replay_task { replay_kind kind; int from, to; double amount; } replay_task; /* ns, nothing, bytes */

/* A task does not begin before the other is over. */
typedef struct replay_order { int64_t task, after; } replay_order;

/* {0} is empty. */
typedef struct replay {
    int hosts;
    replay_link *links; int64_t link_count, link_capacity;
    int *hops; int64_t hop_count, hop_capacity;
    replay_route *routes; int64_t route_count, route_capacity;
    replay_task *tasks; int64_t task_count, task_capacity;
    replay_order *orders; int64_t order_count, order_capacity;
} replay;

/* Seconds until all tasks are over, in SimGrid; below 0 where it fails. In a process of its own: SimGrid has one
 * simulation a process. */
double replay_run(const replay *r);

#endif
