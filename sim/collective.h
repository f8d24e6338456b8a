/* Collectives and messages on the topology: what they put on which links, phase by phase. With n members, k nodes of g
 * members each, payload S, latency a and rate b of the slowest path, an all-reduce costs
 *
 *     ring       2 (n-1) a + 2 (n-1)/n S/b       every member passes on to the next, all at the slowest's pace
 *     tree       2 ceil(log2 n) a + 2 S/b        a pipelined double binary tree: loads each port about as the ring
 *                                                does; the latency is that of its longest way up and down again
 *     hierarchy  reduce-scatter inside nodes, all-reduce of S/g between them on all NICs, all-gather inside; a node is
 *                here what devices' own ports join: a rack whose NVLink spans its nodes is one
 *
 * (Thakur, Rabenseifner, Gropp 2005; Sanders, Speck, Traeff 2009). Reduce-scatter and all-gather are the halves of the
 * ring and of the hierarchy; no tree makes them. A message from a to b costs a + S/b.
 * An all-to-all is n-1 rounds in each of which every member sends S/n to the one so many places further on: (n-1) a,
 * each round's own, and the links' loads by all pairs; of a large group's pairs enough distances, evenly spread, stand
 * for all.
 *
 * A phase is one flow: its rings, trees or messages run in step, each at the latency of its slowest path and the rate
 * of its narrowest, even where these are two; the next phase begins when all are done. Its load counts every group that
 * runs at the same time by symmetry, so that a folded group's flow moves at the pace it has among its replicas.
 *
 * Where this machine's collectives were measured, that time counts instead. */
#ifndef DSC_SIM_COLLECTIVE_H
#define DSC_SIM_COLLECTIVE_H

#include "sim/fabric.h"
#include "trace/calibration.h"

typedef enum dsc_motion {
    DSC_MOVE_ALL_REDUCE, DSC_MOVE_REDUCE_SCATTER, DSC_MOVE_ALL_GATHER, DSC_MOVE_ALL_TO_ALL, DSC_MOVE_MESSAGE,
    DSC_MOTION_COUNT
} dsc_motion;
extern const char *const DSC_MOTION_NAMES[]; /* as measurements have them: "all_reduce", ..., "send" */

/* Of a message there is the ring only: from its first member to its second; of an all-to-all too. */
typedef enum dsc_algorithm { DSC_BY_RING, DSC_BY_TREE, DSC_BY_HIERARCHY, DSC_ALGORITHM_COUNT } dsc_algorithm;

typedef struct dsc_phase {
    int64_t latency_ns;  /* before anything moves */
    double share;        /* bytes that the flow moves, over the payload */
    double rate;         /* bytes per ns alone */
    double weight;       /* among flows: 1, or where cores are shared too, rate: then those take turns evenly */
    dsc_load load;       /* of one byte of the flow */
    dsc_load binding;    /* what of it decides the rate (dsc_expansion_bind) */
} dsc_phase;

enum { DSC_PHASES = 3 };

/* {0} is empty; phase_count 0: the algorithm does not apply to the group. */
typedef struct dsc_expansion { dsc_phase phases[DSC_PHASES]; int phase_count; } dsc_expansion;

/* Adds the motion among members[0..count) (count > 1, ascending but for a message) by that algorithm to *inout, beside
 * what it holds of groups that run at the same time. */
dsc_status dsc_expand(dsc_fabric *fabric, dsc_motion motion, dsc_algorithm algorithm, const int64_t *members,
                      int64_t count, dsc_expansion *inout);
void dsc_expansion_fini(dsc_expansion *expansion);

/* What of a collective over that axis the software moves while the product beside it computes is not sent again: of all
 * algorithms, before they are sealed. */
void dsc_expansions_hide(const dsc_stack *stack, int axis, dsc_expansion inout[DSC_ALGORITHM_COUNT]);

/* After the last group: computes the rates. On cores[0..count) (of the members; may be none) the transfer is work, a
 * thread on each that takes turns with the others there. */
dsc_status dsc_expansion_seal(dsc_fabric *fabric, const dsc_links *links, const int32_t *cores, int64_t count,
                              dsc_expansion *inout);

/* The closed form: nanoseconds of a payload with no other flow about; INT64_MAX where the algorithm does not apply.
 * Pure. */
int64_t dsc_expansion_ns(const dsc_expansion *expansion, int64_t bytes);

/* The one of expansions[DSC_ALGORITHM_COUNT] that the closed form finds fastest, the first of equals. */
const dsc_expansion *dsc_expansion_fastest(const dsc_expansion *expansions, int64_t bytes);

/* A group as measurements know it. */
typedef struct dsc_setting {
    int64_t ranks, nodes; /* of the group */
    int64_t at_work;      /* ranks of each of its nodes that do the same at once */
    double cores;         /* that these share */
} dsc_setting;

/* The measured time of a motion of that payload, by the samples of the nearest setting on as many nodes, interpolated
 * in the logarithms of bytes and time; above the largest sample time grows with the bytes, below the smallest it does
 * not fall. From that setting to the one asked for it goes as what a member passes on, (n-1)/n, and as ranks at work to
 * a core where there are more than one. false when nothing of the kind was measured (calibration NULL is nothing).
 * Pure. */
bool dsc_collective_measured(const dsc_calibration *calibration, dsc_motion motion, const dsc_setting *setting,
                             int64_t bytes, int64_t *out);

#endif
