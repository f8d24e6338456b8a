#include "tests/plan/make.h"
#include "tests/tap.h"
#include <stdio.h>
#include <stdlib.h>

#define MODEL "layers=8,hidden=96,heads=12,vocab=1001,seq=64"

/* Ascending members that all know the group by the same id, and differ along the axis only. */
static void check_group(const dsc_plan *plan, int64_t rank, dsc_axis axis, const int64_t *members, int64_t count)
{
    bool is_there = false;

    for (int64_t i = 0; i < count; i++) {
        dsc_coord mine = dsc_plan_coord(plan, rank), other = dsc_plan_coord(plan, members[i]);

        is_there = is_there || members[i] == rank;
        CHECK(i == 0 || members[i] > members[i - 1], "members descend");
        CHECK(dsc_plan_group(plan, members[i], axis) == dsc_plan_group(plan, rank, axis), "%s: %lld and %lld",
              DSC_AXIS_NAMES[axis], (long long)rank, (long long)members[i]);
        for (int a = 0; a < 4 && axis != DSC_AXIS_WORLD; a++)
            CHECK(mine.of[a] == other.of[a] || a == (int)axis || (axis == DSC_AXIS_TIED && a == DSC_AXIS_PP),
                  "%s: %lld and %lld differ along %s", DSC_AXIS_NAMES[axis], (long long)rank, (long long)members[i],
                  DSC_AXIS_NAMES[a]);
    }
    CHECK(is_there, "%s: rank %lld is not in its group", DSC_AXIS_NAMES[axis], (long long)rank);
}

/* Ids of all axes are 0, 1, ... in the order in which axes and lowest ranks first show them. */
static void check_groups(const dsc_plan *plan)
{
    int64_t *members = calloc((size_t)plan->ranks, sizeof *members), next = 0;

    for (int axis = 0; axis < DSC_AXIS_COUNT; axis++)
        for (int64_t rank = 0; rank < plan->ranks; rank++) {
            int64_t group = dsc_plan_group(plan, rank, axis);
            int64_t count = dsc_plan_group_ranks(plan, rank, axis, members);

            CHECK(count == (group < 0 ? 1 : dsc_plan_degree(plan, axis)), "%s: %lld members", DSC_AXIS_NAMES[axis],
                  (long long)count);
            if (group >= 0 && members[0] == rank)
                CHECK(group == next++, "%s: rank %lld's group is %lld", DSC_AXIS_NAMES[axis], (long long)rank,
                      (long long)group);
            check_group(plan, rank, axis, members, count);
        }
    CHECK(dsc_plan_group_count(plan) == next, "%lld groups, %lld were seen", (long long)dsc_plan_group_count(plan),
          (long long)next);
    free(members);
}

static void groups_are_dense(void)
{
    static const char *const orders[] = {"", "dp,tp,pp", "pp,dp,tp", "pp,tp,dp", "tp,pp,dp", "dp,pp,tp"};
    static const int64_t degrees[] = {1, 2, 3, 4};

    for (int64_t i = 0; i < 100; i++) {
        dsc_strategy s = make_strategy(degrees[tap_random() % 4], degrees[tap_random() % 4], degrees[tap_random() % 4]);
        dsc_plan *plan;

        snprintf(s.rank_order, sizeof s.rank_order, "%s", orders[tap_random() % 6]);
        plan = make_plan(MODEL, NULL, &s);
        if (plan == NULL) return;
        for (int64_t rank = 0; rank < plan->ranks; rank++)
            CHECK(dsc_plan_rank(plan, dsc_plan_coord(plan, rank)) == rank, "rank %lld", (long long)rank);
        check_groups(plan);
        dsc_plan_destroy(plan);
    }
}

static void both_ends_are_tied(void)
{
    dsc_strategy s = make_strategy(2, 3, 4);
    dsc_plan *plan = make_plan(MODEL, NULL, &s);
    int64_t members[2];

    if (plan == NULL) return;
    for (int64_t rank = 0; rank < plan->ranks; rank++) {
        int64_t stage = dsc_plan_coord(plan, rank).of[DSC_AXIS_PP];
        int64_t count = dsc_plan_group_ranks(plan, rank, DSC_AXIS_TIED, members);

        CHECK((count == 2) == (stage == 0 || stage == 3), "stage %lld: %lld members", (long long)stage,
              (long long)count);
        if (count == 2)
            CHECK(dsc_plan_coord(plan, members[0]).of[DSC_AXIS_PP] == 0 &&
                      dsc_plan_coord(plan, members[1]).of[DSC_AXIS_PP] == 3,
                  "ranks %lld and %lld", (long long)members[0], (long long)members[1]);
    }
    dsc_plan_destroy(plan);
}

static void replicas_are_represented(void)
{
    dsc_strategy s = make_strategy(2, 3, 4);
    dsc_plan *plan = make_plan(MODEL, NULL, &s);

    if (plan == NULL) return;
    for (int64_t rank = 0; rank < plan->ranks; rank++) {
        dsc_coord mine = dsc_plan_coord(plan, rank), first = dsc_plan_coord(plan, dsc_plan_representative(plan, rank));

        CHECK(first.of[DSC_AXIS_PP] == mine.of[DSC_AXIS_PP] && first.of[DSC_AXIS_TP] == 0 && first.of[DSC_AXIS_DP] == 0,
              "rank %lld", (long long)rank);
    }
    dsc_plan_destroy(plan);
}

static const tap_case cases[] = {
    {"groups of all axes have dense ids and ascending members, in any order of axes", groups_are_dense},
    {"both ends of a pipeline's column are tied, and no stage between", both_ends_are_tied},
    {"the first rank of a stage stands for the others", replicas_are_represented},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
