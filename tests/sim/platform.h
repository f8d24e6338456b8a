/* A cluster as links and routes of a replay, by what doc/clusters.md says of its description; written without
 * sim/fabric.c, whose paths it is compared with. */
#ifndef TESTS_SIM_PLATFORM_H
#define TESTS_SIM_PLATFORM_H

#include "cluster/cluster.h"
#include "tests/sim/replay.h"

/* Nodes of one type, tiers that NICs enter and that are trees. Appends to *out a host for each device, and a route from
 * each to each other. */
void platform_of(const dsc_cluster *cluster, replay *out);

#endif
