#include "plan/parts.h"
#include <inttypes.h>
#include <string.h>

enum { MOST_RANKS = 1 << 20, MOST_MICRO_BATCHES = 1 << 16 };

/* "tp,dp,pp": each axis at most once; those not named follow in the default order. */
static dsc_status resolve_order(dsc_plan *plan)
{
    static const int by_default[] = {DSC_AXIS_TP, DSC_AXIS_CP, DSC_AXIS_DP, DSC_AXIS_PP};
    char words[sizeof plan->config.strategy.rank_order];
    bool used[4] = {false};
    char *rest = words, *word;
    int count = 0;

    memcpy(words, plan->config.strategy.rank_order, sizeof words);
    while ((word = strsep(&rest, ",")) != NULL && words[0] != '\0') {
        int axis = 0;

        while (axis < 4 && !dsc_equal(word, DSC_AXIS_NAMES[axis])) axis++;
        if (axis == 4 || used[axis])
            return DSC_FAIL(DSC_EINVAL, "--rank-order %s: \"%s\" is %s", plan->config.strategy.rank_order, word,
                            axis == 4 ? "none of tp, cp, dp, pp" : "there twice");
        used[axis] = true;
        plan->order[count++] = axis;
    }
    for (int i = 0; i < 4; i++)
        if (!used[by_default[i]]) plan->order[count++] = by_default[i];
    return DSC_OK;
}

static dsc_status resolve_degrees(dsc_plan *plan, const dsc_cluster *cluster)
{
    dsc_strategy *strategy = &plan->config.strategy;
    int64_t devices = dsc_cluster_devices(cluster), others = 1;

    strategy->tp = DSC_MAX(strategy->tp, 1);
    strategy->cp = DSC_MAX(strategy->cp, 1);
    strategy->pp = DSC_MAX(strategy->pp, 1);
    if (!dsc_mul(strategy->tp, strategy->cp, &others) || !dsc_mul(others, strategy->pp, &others))
        return DSC_FAIL(DSC_EINVAL, "tp %" PRId64 " x cp %" PRId64 " x pp %" PRId64 " is too large", strategy->tp,
                        strategy->cp, strategy->pp);
    if (strategy->dp == 0) {
        if (others > devices)
            return DSC_FAIL(DSC_EINVAL,
                            "tp %" PRId64 " x pp %" PRId64 " x cp %" PRId64 " = %" PRId64
                            " ranks, more than the %" PRId64 " that there are",
                            strategy->tp, strategy->pp, strategy->cp, others, devices);
        if (devices % others != 0)
            return DSC_FAIL(DSC_EINVAL, "tp x cp x pp = %" PRId64 " does not divide the cluster's %" PRId64
                            " devices; give --dp to leave some idle", others, devices);
        strategy->dp = devices / others;
    }
    if (!dsc_mul(others, strategy->dp, &plan->ranks)) plan->ranks = INT64_MAX;
    if (plan->ranks > devices)
        return DSC_FAIL(DSC_EINVAL,
                        "tp %" PRId64 " x pp %" PRId64 " x cp %" PRId64 " x dp %" PRId64 " = %" PRId64
                        " ranks, more than the %" PRId64 " that there are",
                        strategy->tp, strategy->pp, strategy->cp, strategy->dp, plan->ranks, devices);
    if (plan->ranks > MOST_RANKS)
        return DSC_FAIL(DSC_EINVAL, "%" PRId64 " ranks, at most %d can be planned; give --dp to leave devices idle",
                        plan->ranks, MOST_RANKS);
    return DSC_OK;
}

static dsc_status resolve_batch(dsc_plan *plan)
{
    dsc_strategy *strategy = &plan->config.strategy;
    int64_t accumulation = plan->config.gradient_accumulation_steps;

    if (strategy->micro_batch == 0 && strategy->global_batch == 0) strategy->micro_batch = 1;
    if (strategy->micro_batch > 0 && accumulation == 0 && strategy->global_batch > 0 &&
        strategy->global_batch % (strategy->micro_batch * strategy->dp) != 0)
        return DSC_FAIL(DSC_EINVAL, "global batch %" PRId64 " is no multiple of micro-batch %" PRId64 " x dp %" PRId64
                        " = %" PRId64, strategy->global_batch, strategy->micro_batch, strategy->dp,
                        strategy->micro_batch * strategy->dp);
    dsc_status status = dsc_batch_resolve(&strategy->global_batch, &strategy->micro_batch, &accumulation, strategy->dp);
    plan->micro_batches = accumulation;
    plan->config.gradient_accumulation_steps = accumulation;
    return status;
}

static dsc_status resolve_sequence(dsc_plan *plan)
{
    dsc_strategy *strategy = &plan->config.strategy;

    if (strategy->seq_len == 0) strategy->seq_len = plan->model.seq;
    if (strategy->seq_len > plan->model.seq && plan->model.pos == DSC_POS_LEARNED)
        return DSC_FAIL(DSC_EINVAL, "--seq-len %" PRId64 ": the model has %" PRId64 " positions", strategy->seq_len,
                        plan->model.seq);
    if (strategy->seq_len % strategy->cp != 0)
        return DSC_FAIL(DSC_EINVAL, "--cp %" PRId64 " does not divide the sequence of %" PRId64 " tokens", strategy->cp,
                        strategy->seq_len);
    return DSC_OK;
}

/* What gradients leave for the host in: 16 bits where passes have 16. Where sums have fp32's range fp16 does not: one
 * placement of the states would skip steps that another takes. */
static dsc_dtype to_host_type(const dsc_plan *plan)
{
    return plan->type == DSC_FP16 && plan->gradient_type != DSC_FP16 ? DSC_BF16 : plan->type;
}

/* Gradients of a single micro-batch stay in the training precision; sums of several are kept in fp32. Between replicas
 * they go as they are kept, so that all stages of ZeRO round alike. */
static void resolve_types(dsc_plan *plan)
{
    const dsc_strategy *strategy = &plan->config.strategy;

    plan->type = strategy->precision == DSC_FP8 ? DSC_BF16 : strategy->precision;
    plan->product_type = strategy->precision;
    plan->gradient_type = plan->micro_batches > 1 ? DSC_FP32 : plan->type;
    if (strategy->grad_accum_dtype >= 0 && plan->type != DSC_FP32) plan->gradient_type = strategy->grad_accum_dtype;
    plan->stream_type = strategy->offload == DSC_OFFLOAD_NONE ? plan->gradient_type : to_host_type(plan);
}

double dsc_plan_pass_bytes(const dsc_plan *plan)
{
    const dsc_model *m = &plan->model;
    const dsc_strategy *s = &plan->config.strategy;
    /* of a token, every buffer that a pass makes for a layer, and more, in 8 bytes an element */
    double columns =
        32 * (double)m->hidden + 8 * (double)m->ffn + 4 * (double)m->vocab + 2 * (double)m->heads * (double)s->seq_len;

    return 8 * (double)s->micro_batch * (double)s->seq_len * columns * (double)(m->layers + 1);
}

/* Sizes past which no machine goes: below them no product or sum of a program's bytes, flops or op numbers leaves its
 * type, so that nothing behind a plan needs a check of its own. */
static dsc_status check_sizes(const dsc_plan *plan)
{
    const dsc_model *m = &plan->model;
    const dsc_strategy *s = &plan->config.strategy;
    const double most_parameters = 0x1p56, most_bytes = 0x1p60, most_flops = 0x1p62, most_tokens = 0x1p53;
    double rows = (double)s->micro_batch * (double)s->seq_len, tokens = (double)s->global_batch * (double)s->seq_len;
    double bytes = dsc_plan_pass_bytes(plan), flops = rows * dsc_model_flops_per_token(m, s->seq_len);

    if ((double)dsc_model_parameters(m) > most_parameters)
        return DSC_FAIL(DSC_EINVAL, "%s: %.3g parameters, at most %.3g can be planned", m->name,
                        (double)dsc_model_parameters(m), most_parameters);
    if (tokens > most_tokens)
        return DSC_FAIL(DSC_EINVAL,
                        "global batch %" PRId64 " of %" PRId64 " tokens: %.3g tokens in a step, at most %.3g can be "
                        "planned",
                        s->global_batch, s->seq_len, tokens, most_tokens);
    if (bytes > most_bytes || flops > most_flops)
        return DSC_FAIL(DSC_EINVAL,
                        "micro-batch %" PRId64 " of %" PRId64 " tokens: about %.3g bytes and %.3g flops, at most %.3g "
                        "and %.3g can be planned",
                        s->micro_batch, s->seq_len, bytes, flops, most_bytes, most_flops);
    if (plan->micro_batches > MOST_MICRO_BATCHES)
        return DSC_FAIL(DSC_EINVAL,
                        "%" PRId64 " micro-batches of a replica in a step, at most %d can be planned: a larger "
                        "--micro-batch makes fewer",
                        plan->micro_batches, MOST_MICRO_BATCHES);
    return DSC_OK;
}

/* An eighth of the stage's parameters, so that a small model's reduction overlaps with its backward too, but no message
 * smaller than 2^16 elements, where latency would rule, or larger than 2^22. */
static int64_t default_bucket_elems(const dsc_plan *plan)
{
    int64_t eighth = dsc_model_parameters(&plan->model) / plan->config.strategy.pp / 8;

    return DSC_MIN(DSC_MAX(eighth, INT64_C(1) << 16), INT64_C(1) << 22);
}

/* Of a node whose first devices, so many, have ranks: what each has, and what libraries take of it. */
static void note_least(dsc_plan *plan, const dsc_node_type *node, int64_t ranks)
{
    int64_t *device = &plan->capacity_bytes[DSC_SPACE_DEVICE], *host = &plan->capacity_bytes[DSC_SPACE_HOST];
    int64_t *libraries = &plan->libraries_bytes[DSC_SPACE_DEVICE];

    *host = DSC_MIN(*host, node->host_memory_bytes / ranks);
    for (int64_t i = 0, before = 0; before < ranks; before += node->devices[i++].count) {
        *device = DSC_MIN(*device, node->devices[i].memory_bytes);
        *libraries = DSC_MAX(*libraries, node->devices[i].libraries_bytes);
    }
}

static dsc_status resolve_capacity(dsc_plan *plan, const dsc_cluster *cluster)
{
    const dsc_strategy *strategy = &plan->config.strategy;
    dsc_status status = DSC_OK;
    int64_t devices = 0;

    for (int space = 0; space < DSC_SPACE_COUNT; space++) plan->capacity_bytes[space] = INT64_MAX;
    for (int64_t first = 0; first < plan->ranks; first += devices) { /* node by node */
        dsc_place place;

        DSC_TRY(dsc_cluster_place(cluster, first, &place));
        devices = dsc_node_devices(place.node_type);
        note_least(plan, place.node_type, DSC_MIN(plan->ranks - first, devices));
    }
    if (strategy->device_memory_bytes > 0) plan->capacity_bytes[DSC_SPACE_DEVICE] = strategy->device_memory_bytes;
    if (strategy->host_memory_bytes > 0) plan->capacity_bytes[DSC_SPACE_HOST] = strategy->host_memory_bytes;
out:
    return status;
}

/* Whether every `count` replicas one behind another share a node, in all data groups. */
static bool share_nodes(const dsc_plan *plan, const dsc_cluster *cluster, int64_t count)
{
    for (int64_t rank = 0; rank < plan->ranks; rank++) {
        dsc_coord coord = dsc_plan_coord(plan, rank);
        dsc_place here, first;

        coord.of[DSC_AXIS_DP] -= coord.of[DSC_AXIS_DP] % count;
        if (dsc_cluster_place(cluster, rank, &here) != DSC_OK ||
            dsc_cluster_place(cluster, dsc_plan_rank(plan, coord), &first) != DSC_OK || here.node != first.node)
            return false;
    }
    return true;
}

/* The most replicas that share nodes everywhere, or 1. */
static int64_t find_intra(const dsc_plan *plan, const dsc_cluster *cluster)
{
    const int64_t dp = plan->config.strategy.dp;

    for (int64_t count = dp; count > 1; count--)
        if (dp % count == 0 && share_nodes(plan, cluster, count)) return count;
    return 1;
}

/* Replicas on one node alone exchange signs all the same: there is nothing else to compress. The reference knows no
 * nodes. */
static dsc_status resolve_workers(dsc_plan *plan, const dsc_cluster *cluster)
{
    dsc_strategy *s = &plan->config.strategy;
    const bool is_flat = s->exchange == DSC_EXCHANGE_FLAT ||
                         (s->exchange == DSC_EXCHANGE_AUTO && s->semantics == DSC_SEMANTICS_REFERENCE);
    const bool may_nest = plan->compresses && !is_flat;
    const int64_t intra = may_nest ? find_intra(plan, cluster) : 1;
    const bool nests = intra > 1 && intra < s->dp;

    if (plan->compresses && s->exchange == DSC_EXCHANGE_HIERARCHICAL && !nests)
        return DSC_FAIL(DSC_EINVAL,
                        "--onebit-exchange hierarchical: of the %" PRId64 " replicas %" PRId64
                        " share a node; it takes several on each of several nodes",
                        s->dp, intra);
    plan->intra = nests ? intra : 1;
    plan->workers = plan->compresses ? s->dp / plan->intra : 1;
    if (plan->compresses) s->exchange = nests ? DSC_EXCHANGE_HIERARCHICAL : DSC_EXCHANGE_FLAT;
    return DSC_OK;
}

dsc_status dsc_plan_resolve(dsc_plan *plan, const dsc_cluster *cluster)
{
    dsc_strategy *strategy = &plan->config.strategy;
    dsc_status status = DSC_OK;

    plan->intra = plan->workers = 1; /* until the order of ranks is known */
    DSC_TRY(resolve_degrees(plan, cluster));
    DSC_TRY(resolve_order(plan));
    DSC_TRY(resolve_batch(plan));
    DSC_TRY(resolve_sequence(plan));
    DSC_TRY(check_sizes(plan));
    resolve_types(plan);
    plan->parts = strategy->zero > 0 ? dsc_plan_degree(plan, DSC_AXIS_DP) : 1;
    plan->compresses = dsc_optimizer_compresses(strategy->optimizer);
    plan->has_own_steps = strategy->optimizer == DSC_ZERO_ONE_ADAM;
    plan->has_trust = strategy->optimizer == DSC_ONEBIT_LAMB;
    strategy->virtual_stages = DSC_MAX(strategy->virtual_stages, 1);
    if (strategy->schedule == DSC_SCHEDULE_AUTO)
        strategy->schedule = strategy->virtual_stages > 1 ? DSC_INTERLEAVED : DSC_1F1B;
    if (strategy->checkpoints == DSC_CHECKPOINTS_AUTO || strategy->recompute != DSC_RECOMPUTE_FULL)
        strategy->checkpoints = DSC_CHECKPOINTS_WHOLE;
    if (strategy->attention[0] == '\0')
        strcpy(strategy->attention, dsc_attention_words("", plan->config.sparse_attention));
    if (strategy->prefetch == DSC_AUTO) strategy->prefetch = 1;
    if (strategy->bucket_elems == 0) strategy->bucket_elems = default_bucket_elems(plan);
    DSC_TRY(resolve_capacity(plan, cluster));
    if (strategy->rank_order[0] == '\0') dsc_plan_choose_order(plan, cluster);
    DSC_TRY(resolve_workers(plan, cluster));
out:
    return status;
}
