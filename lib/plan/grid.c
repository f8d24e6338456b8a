#include "plan/plan.h"
#include <string.h>

const char *const DSC_AXIS_NAMES[] = {"tp", "cp", "dp", "pp", "tied", "dp_intra", "dp_inter", "world", NULL};
const char *const DSC_SPACE_NAMES[] = {"device", "host", NULL};

int64_t dsc_plan_degree(const dsc_plan *plan, dsc_axis axis)
{
    const dsc_strategy *strategy = &plan->config.strategy;
    int64_t tied = strategy->pp > 1 && plan->model.tied ? 2 : 1;
    const int64_t degrees[] = {strategy->tp, strategy->cp, strategy->cp * strategy->dp, strategy->pp, tied,
                               plan->intra, plan->intra > 1 ? plan->workers : 1, plan->ranks};

    return degrees[axis];
}

int64_t dsc_plan_tokens(const dsc_plan *plan)
{
    return plan->config.strategy.seq_len / plan->config.strategy.cp;
}

int64_t dsc_plan_coords(const dsc_plan *plan, int axis)
{
    const dsc_strategy *strategy = &plan->config.strategy;
    const int64_t counts[] = {strategy->tp, strategy->cp, strategy->dp, strategy->pp};

    return counts[axis];
}

/* Distance in ranks between neighbours along an axis of the grid: the product of the counts of all faster axes. */
static int64_t stride_of(const dsc_plan *plan, dsc_axis axis)
{
    int64_t stride = 1;

    for (int place = 0; plan->order[place] != (int)axis; place++) stride *= dsc_plan_coords(plan, plan->order[place]);
    return stride;
}

/* Data groups go along two axes of the grid, which are neighbours in its order. */
static int64_t stride_of_groups(const dsc_plan *plan, dsc_axis along)
{
    const dsc_strategy *s = &plan->config.strategy;

    if (along != DSC_AXIS_DP || s->cp == 1) return stride_of(plan, along);
    if (s->dp == 1) return stride_of(plan, DSC_AXIS_CP);
    return DSC_MIN(stride_of(plan, DSC_AXIS_DP), stride_of(plan, DSC_AXIS_CP));
}

/* How an axis' groups lie among the ranks: a group begins at each of the first `stride` ranks of every `period`, and
 * goes on `apart` ranks further. */
typedef struct line { int64_t stride, period, apart; } line;

static line line_of(const dsc_plan *plan, dsc_axis axis)
{
    const dsc_strategy *s = &plan->config.strategy;
    dsc_axis along = axis == DSC_AXIS_TIED ? DSC_AXIS_PP : axis > DSC_AXIS_TIED ? DSC_AXIS_DP : axis;
    int64_t stride, degree = dsc_plan_degree(plan, along);

    if (axis == DSC_AXIS_WORLD) return (line){1, plan->ranks, 1};
    stride = stride_of_groups(plan, along);
    switch (axis) {
    case DSC_AXIS_TIED: return (line){stride, stride * degree, stride * (s->pp - 1)};
    case DSC_AXIS_INTRA: return (line){stride, stride * plan->intra, stride};
    case DSC_AXIS_INTER: return (line){stride * plan->intra, stride * degree, stride * plan->intra};
    default: return (line){stride, stride * degree, stride};
    }
}

/* A rank is a number of mixed radix whose digits are the coordinates, the fastest axis first. */
dsc_coord dsc_plan_coord(const dsc_plan *plan, int64_t rank)
{
    dsc_coord coord;

    for (int place = 0; place < 4; place++) {
        int64_t count = dsc_plan_coords(plan, plan->order[place]);

        coord.of[plan->order[place]] = rank % count;
        rank /= count;
    }
    return coord;
}

int64_t dsc_plan_rank(const dsc_plan *plan, dsc_coord coord)
{
    int64_t rank = 0;

    for (int axis = 0; axis < 4; axis++) rank += coord.of[axis] * stride_of(plan, axis);
    return rank;
}

/* Stages between the first and the last hold no embedding. */
static bool is_member(const dsc_plan *plan, int64_t rank, dsc_axis axis)
{
    int64_t stage = dsc_plan_coord(plan, rank).of[DSC_AXIS_PP];

    if (dsc_plan_degree(plan, axis) < 2) return false;
    return axis != DSC_AXIS_TIED || stage == 0 || stage == plan->config.strategy.pp - 1;
}

static int64_t groups_on(const dsc_plan *plan, dsc_axis axis)
{
    line l = line_of(plan, axis);

    return dsc_plan_degree(plan, axis) > 1 ? plan->ranks / l.period * l.stride : 0;
}

int64_t dsc_plan_group(const dsc_plan *plan, int64_t rank, dsc_axis axis)
{
    line l = line_of(plan, axis);
    int64_t first = 0;

    if (!is_member(plan, rank, axis)) return -1;
    for (int before = 0; before < (int)axis; before++) first += groups_on(plan, before);
    return first + rank / l.period * l.stride + rank % l.stride;
}

int64_t dsc_plan_group_count(const dsc_plan *plan)
{
    int64_t count = 0;

    for (int axis = 0; axis < DSC_AXIS_COUNT; axis++) count += groups_on(plan, axis);
    return count;
}

int64_t dsc_plan_group_ranks(const dsc_plan *plan, int64_t rank, dsc_axis axis, int64_t *out)
{
    line l = line_of(plan, axis);
    int64_t degree = is_member(plan, rank, axis) ? dsc_plan_degree(plan, axis) : 1;
    int64_t lowest = degree > 1 ? rank / l.period * l.period + rank % l.stride : rank;

    for (int64_t i = 0; i < degree; i++) out[i] = lowest + i * l.apart;
    return degree;
}

int64_t dsc_plan_place(const dsc_plan *plan, int64_t rank, dsc_axis axis)
{
    line l = line_of(plan, axis);

    return is_member(plan, rank, axis) ? rank % l.period / l.apart : 0;
}

int64_t dsc_plan_representative(const dsc_plan *plan, int64_t rank)
{
    dsc_coord first = {{0}};

    first.of[DSC_AXIS_PP] = dsc_plan_coord(plan, rank).of[DSC_AXIS_PP];
    return dsc_plan_rank(plan, first);
}
