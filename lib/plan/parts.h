/* The steps of dsc_plan_create, one file each. Internal to lib/plan. */
#ifndef DSC_PLAN_PARTS_H
#define DSC_PLAN_PARTS_H

#include "plan/plan.h"

/* Degrees, batch and defaults: after it no degree or size of the strategy is 0. */
dsc_status dsc_plan_resolve(dsc_plan *plan, const dsc_cluster *cluster);

/* Layouts of sparse attention, and which heads are whose. */
dsc_status dsc_plan_attend(dsc_plan *plan);
void dsc_plan_attention_fini(dsc_plan *plan);
void dsc_plan_print_attention(const dsc_plan *plan, dsc_text *out);

/* The order of the axes that moves bytes over the fastest links, when none is given: plan->order and why. */
void dsc_plan_choose_order(dsc_plan *plan, const dsc_cluster *cluster);
/* Whether cp and dp are neighbours in it, where both are more than 1. Pure. */
bool dsc_plan_order_is_legal(const dsc_plan *plan);

/* Layers to stages and chunks, tensors to shards. */
dsc_status dsc_plan_cut(dsc_plan *plan);

/* A stage's shards to buckets: places in the flat order, and where each state of each bucket is kept. */
dsc_status dsc_plan_fill_buckets(const dsc_plan *plan, dsc_stage *stage);
/* What of a bucket is compressed: its units, and their elements. */
void dsc_plan_pack(const dsc_plan *plan, const dsc_stage *stage, dsc_bucket *bucket);
/* Leading elements of a tensor rank's shard that are trained: its padded rows, and positions past the sequence, are
 * not. Pure. */
int64_t dsc_shard_real_elems(const dsc_plan *plan, const dsc_shard *shard, int64_t tp_index);
/* More than the bytes of a micro-batch's activations in all layers. Pure. */
double dsc_plan_pass_bytes(const dsc_plan *plan);
/* Whether stages make a bucket's gradients in two passes (ZB-H1), each of several micro-batches in flight. */
bool dsc_plan_splits(const dsc_plan *plan);

#endif
