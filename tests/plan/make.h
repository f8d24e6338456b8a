/* Plans for tests, without programs. */
#ifndef TESTS_PLAN_MAKE_H
#define TESTS_PLAN_MAKE_H

#include "plan/plan.h"

/* One micro-batch of one sequence, in fp32, on so many replicas, stages and tensor ranks. */
dsc_strategy make_strategy(int64_t tp, int64_t dp, int64_t pp);

/* A plan on the described cluster, or on as many devices of one node as it needs where that is NULL. NULL, and a failed
 * check, when it cannot be made. */
dsc_plan *make_plan(const char *model, const char *cluster, const dsc_strategy *strategy);

/* The same where layers attend in these ways, on as many devices as it needs. */
dsc_plan *make_plan_with(const char *model, const dsc_strategy *strategy, const dsc_attention *attention);

/* All layers attend by one layout, which the result borrows. */
dsc_attention attend_by(dsc_layout *layout);
/* A layout for each head, of as many blocks a row; heads differ in how many are present, which chance decides. */
dsc_layout *make_random_layout(int64_t block, int64_t blocks, int64_t heads);

#endif
