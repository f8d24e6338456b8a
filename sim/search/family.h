/* What the templates of a strategy cost, from small real programs: the normal builders make a few stages of two or
 * three layers, the normal prices are summed along the lanes of their ops, and all that a step takes is linear in the
 * layers of a stage. Strategies that differ in depth, schedule, micro-batches and replicas share these. */
#ifndef DSC_SIM_SEARCH_FAMILY_H
#define DSC_SIM_SEARCH_FAMILY_H

#include "sim/search/transfer.h"

/* Stages of a pipeline, and the one stage of none. */
typedef enum dsc_stage_kind { DSC_STAGE_FIRST, DSC_STAGE_MIDDLE, DSC_STAGE_LAST, DSC_STAGE_ONLY, DSC_STAGE_KINDS }
    dsc_stage_kind;

/* Of several backward passes the first does not add to gradients, and the last sends them off. */
enum { DSC_TURN_FIRST, DSC_TURN_MIDDLE, DSC_TURN_LAST, DSC_TURNS };

/* Times in ns, from one pass' end on the compute lane to the next one's where nothing is waited for but the rank's own
 * lanes; sizes in bytes. */
typedef enum dsc_quantity {
    DSC_Q_BEGIN,                               /* before the first forward pass, and what that takes longer */
    DSC_Q_FORWARD,
    DSC_Q_GAP,                                 /* before a forward pass, for tokens, whose slot is just free */
    DSC_Q_BACKWARD,                            /* [turn] */
    DSC_Q_SENT = DSC_Q_BACKWARD + DSC_TURNS,   /* [turn] of a backward pass, until the inputs' gradient leaves */
    DSC_Q_ANSWER = DSC_Q_SENT + DSC_TURNS,     /* [turn] from a late gradient until that of inputs leaves, */
    DSC_Q_TAIL = DSC_Q_ANSWER + DSC_TURNS,     /* and [turn] until the pass is over */
    DSC_Q_INPUTS = DSC_Q_TAIL + DSC_TURNS,     /* halves of a backward pass that is split, or could be; */
    DSC_Q_WEIGHTS, DSC_Q_INPUTS_TAIL,          /* of the first half, what comes after a late gradient */
    DSC_Q_LAUNCHES,                            /* the host's, of a forward pass; [turn] of a backward pass */
    DSC_Q_LAUNCHES_BACK,
    DSC_Q_REST = DSC_Q_LAUNCHES_BACK + DSC_TURNS, /* from the last backward pass until ranks can agree */
    DSC_Q_UPDATE,                              /* the segment after that */
    DSC_Q_MESSAGE,                             /* bytes to the next stage */
    DSC_Q_STATIC,                              /* [space] regions of the arena; copies of these: */
    DSC_Q_TRANSIENT = DSC_Q_STATIC + DSC_SPACE_COUNT, /* [space] */
    DSC_Q_SLOT = DSC_Q_TRANSIENT + DSC_SPACE_COUNT,
    DSC_Q_DEFERRED, DSC_Q_BOX,
    DSC_Q_COUNT
} dsc_quantity;

/* base + slope * layers */
typedef struct dsc_linear { int64_t base, slope; } dsc_linear;
static inline int64_t dsc_linear_at(dsc_linear l, int64_t layers) { return l.base + l.slope * layers; }

typedef struct dsc_costs { dsc_linear of[DSC_STAGE_KINDS][DSC_Q_COUNT]; } dsc_costs;

/* Chunks of more than `layers` layers whose first `layers` are computed again: whole's costs up to there, those of
 * `none` beyond. Pure. */
void dsc_costs_mix(const dsc_costs *whole, const dsc_costs *none, int64_t layers, dsc_costs *out);

/* Layers of the stages that a family builds. */
typedef struct dsc_depths { int64_t shallow, deep; } dsc_depths;

/* Those for chunks of up to `longest` layers: as deep as these, but where buckets come again before; and of two, so
 * that the first layer is not the last, where chunks have more. 0: whatever there will be, for bounds, which are of one
 * bucket. Pure. */
dsc_depths dsc_family_depths(const dsc_model *model, const dsc_config *config, int64_t longest);

/* The programs of a family: of a pipeline, or of a single stage. */
typedef struct dsc_family dsc_family;

/* The same nodes, as many times as a family's small pipeline may be longer than the wanted one. The caller frees
 * out->nodes; all else is the cluster's. */
dsc_status dsc_family_cluster(const dsc_cluster *cluster, dsc_cluster *out);

/* config is that of any strategy of the family, resolved (dsc_plan_outline) but for bucket_elems, which is the wanted
 * strategy's; of pp it counts only whether there is a pipeline, of micro-batches whether there are several, of the
 * schedule whether it splits backward passes. Stages are built of depths.shallow and depths.deep layers, between which
 * and beyond costs are a line. Model and cluster are read. */
dsc_status dsc_family_create(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                             bool is_several, dsc_depths depths, dsc_family **out);
void dsc_family_destroy(dsc_family *family);

/* Priced, transfers on the grid of `plan` (dsc_plan_outline). Where the family is of a pipeline all kinds but ONLY are
 * set, else that one. */
dsc_status dsc_family_costs(const dsc_family *family, dsc_prices *prices, dsc_transfers *transfers,
                            const dsc_plan *plan, dsc_costs *out);

#endif
