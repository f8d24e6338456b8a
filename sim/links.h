/* Sharing of resources (links, NICs, cores) by flows, max-min fair.
 *
 * Resource r has capacity C_r. Flow f asks for a rate x_f; it uses a_fr x_f of r, has a bound b_f of its own and a
 * weight w_f. Rates are the weighted max-min fair ones: the unique x with
 *
 *     sum over f of a_fr x_f <= C_r for every r,   x_f <= b_f for every f,
 *
 * in which every f has x_f = b_f or a bottleneck: a resource that is full, and on which no flow has a larger x/w.
 * They come from progressive filling: raise the level l = x/w of all flows together until a resource is full or a
 * bound is reached, freeze the flows concerned, go on with the others (Bertsekas and Gallager, Data Networks, 6.5.2).
 *
 * A start or an end changes rates only within the flows that are connected by shared resources: only those are solved
 * again, and a flow that shares nothing costs no solving.
 * The same calls give the same rates. */
#ifndef DSC_SIM_LINKS_H
#define DSC_SIM_LINKS_H

#include "base/array.h"

/* a_fr of one resource; the amounts of a flow are positive. */
typedef struct dsc_demand { int32_t resource; double amount; } dsc_demand;

typedef struct dsc_links dsc_links;

dsc_status dsc_links_create(dsc_links **out);
void dsc_links_destroy(dsc_links *links); /* takes NULL */

/* Adds a resource; *out is its number, dense from 0. capacity > 0. */
dsc_status dsc_links_add(dsc_links *links, double capacity, int32_t *out);

/* Starts a flow. bound may be INFINITY where there are demands. demands are borrowed until the flow's end, name no
 * resource twice. *out is a number that ended flows give back. */
dsc_status dsc_links_start(dsc_links *links, const dsc_demand *demands, int64_t count, double bound, double weight,
                           int32_t *out);
void dsc_links_end(dsc_links *links, int32_t flow);

double dsc_links_rate(const dsc_links *links, int32_t flow);
/* The rate that the flow would have alone: min(bound, C_r / a_r). */
double dsc_links_alone(const dsc_links *links, const dsc_demand *demands, int64_t count, double bound);

/* The flows that the last start or end gave another rate, a started one among them, in order of number. Borrowed
 * until the next. */
const int32_t *dsc_links_changed(const dsc_links *links, int64_t *count);

#endif
