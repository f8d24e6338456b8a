/* A pipeline's passes walked one by one, where no formula says how long they take together: interleaved chunks and
 * split backward passes. Costs are those of the closed form, the order that of the schedule; passes wait for messages,
 * messages for both ends and for a slot, as the program's do. */
#ifndef DSC_SIM_SEARCH_WALK_H
#define DSC_SIM_SEARCH_WALK_H

#include "sim/search/score.h"

/* Cost: linear in stages x micro-batches x chunks. DSC_EINVAL as dsc_schedule_create; DSC_ENOMEM. */
dsc_status dsc_walk_passes(const dsc_costs *costs, const dsc_shape_of_step *shape, dsc_score *out);

#endif
