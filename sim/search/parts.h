/* What the files of the search share: catalog.c (what has been built and priced), look.c (bounds of all candidates of
 * a degree of tensor parallelism), degrees.c (all degrees, on several threads), search.c (scores), rank.c (which are
 * scored, on several threads). Internal to sim/search. */
#ifndef DSC_SIM_SEARCH_PARTS_H
#define DSC_SIM_SEARCH_PARTS_H

#include "sim/search/search.h"

/* Classes of ZeRO that software tells apart: 0 and 1, 2, 3. */
enum { CLASSES = 3 };

/* Software, prices and transfers of so many ranks. */
typedef struct machine {
    const dsc_stack *stack;
    int64_t ranks, pause_ns;
    dsc_prices *prices;
    dsc_transfers *transfers;
    int64_t agree_ns;
} machine;

/* Everything that decides a family and the grid that its transfers go over. */
typedef struct family_key {
    int64_t tp, pp, dp, micro_batch, bucket_elems, gradient_type;
    int64_t recompute, again, sequence_parallel, zero, offload, is_split, is_several, shallow, deep, stack, order;
} family_key;

/* What is kept of a family: its costs, and its messages over all boundaries. */
typedef struct family_costs { family_key key; bool is_used; dsc_costs costs; int64_t messages_ns; } family_costs;

struct dsc_search {
    const dsc_model *model;
    const dsc_cluster *cluster;
    const dsc_calibration *calibration;
    const char *stack;
    dsc_config config;
    dsc_given given;
    machine *machines; int64_t machine_count, machine_capacity;
    family_costs *families; int64_t family_slots, family_count; /* open addressing */
    dsc_candidate *candidates; int64_t candidate_count, candidate_capacity;
    dsc_search_counts counts;
    bool is_first_look;         /* families are for bounds */
    int threads;
    dsc_search *parts;          /* [SEARCH_PARTS]: a candidate's has its families; NULL before any is scored */
    int64_t capacity_bytes[DSC_SPACE_COUNT], libraries_bytes[DSC_SPACE_COUNT];
    dsc_plan outline;           /* of the strategy at hand */
    dsc_config tried;           /* its configuration */
};

/* Parts that threads score candidates in: so many, whatever the number of threads, as their counts depend on it. */
enum { SEARCH_PARTS = 4 };

/* ---- search.c */

/* Of schedules that formulas say little of passes are walked, where that is asked for. Pure. */
bool search_is_walkable(const dsc_candidate *c);
/* The candidate's step, bytes, and whether it fits, by the formulas, or by a walk over its passes. */
dsc_status search_score(dsc_search *search, dsc_candidate *c, bool walks, dsc_score *parts);
/* A copy owns nothing of what it was copied from, and has counted nothing. */
void search_forget(dsc_search *copy);

/* search->outline and search->tried become the candidate's; its software. */
dsc_status search_look_at(dsc_search *search, const dsc_candidate *c, const dsc_stack **stack);
/* What a score is of, and a candidate's bytes by it: bounds and scores alike. */
dsc_shape_of_step search_shape_of(const dsc_search *search, const dsc_candidate *c, const machine *m,
                                  int64_t messages_ns);
void search_set_bytes(const dsc_search *search, dsc_candidate *c, const dsc_costs *costs,
                      const dsc_shape_of_step *shape);

/* ---- catalog.c: of the outline at hand. What is found is the search's, until another is asked for. */

/* The index of that software on as many ranks, made where there is none. */
dsc_status search_find_machine(dsc_search *search, const dsc_stack *stack, int64_t *out);
/* The outline is the same for all `count` machines: the first one's family. What is made is made for all. */
dsc_status search_find_family(dsc_search *search, const int64_t *machines, int count, const family_costs **out);
/* Nanoseconds of a message over all boundaries, one after the other. */
dsc_status search_price_messages(dsc_search *search, const machine *m, int64_t bytes, int64_t *out);
/* How many layers of each chunk are computed again, where not all or none are; else 0. Pure. */
int64_t search_layers_again(const dsc_strategy *s, int64_t layers);
/* All of them; a search may go on without families, and not without machines. */
void search_drop_families(dsc_search *search);
void search_drop_machines(dsc_search *search);

/* ---- rank.c */

void search_drop_parts(dsc_search *search);

/* ---- look.c */

/* Appends all legal candidates of that degree, with bounds of time and bytes, and counts them. */
dsc_status search_look_at_degree(dsc_search *search, int64_t tp);
/* Whether an axis may have that value. Pure. */
bool search_is_tried(bool is_given, int64_t given, int64_t value);

/* ---- degrees.c */

/* The same of all degrees, whatever the number of threads. DSC_EINVAL where there is no candidate; the message is of
 * the degrees that are given, or of a strategy that was passed over. */
dsc_status search_look_at_all(dsc_search *search, int threads);

#endif
