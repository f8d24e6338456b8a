#include "plan/parts.h"
#include "base/hash.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Which blocks are computed where. */
static void hash_attention(const dsc_plan *plan, dsc_text *text)
{
    for (int64_t i = 0; i < plan->attention_count; i++) {
        const dsc_layer_attention *a = &plan->attention[i];
        const dsc_layout *l = a->layout;

        dsc_text_add(text, "attention %d %d", a->kind, a->is_causal);
        if (l == NULL) continue;
        dsc_text_add(text, " %" PRId64 " %s", l->block, a->hash);
    }
    for (int64_t layer = 0; layer < plan->model.layers; layer++) dsc_text_add(text, " %d", plan->attention_of[layer]);
}

/* What decides placement and sizes, and nothing that does not: no data, seed, rate, steps or capacity. */
static void hash_plan(dsc_plan *plan)
{
    const dsc_strategy *s = &plan->config.strategy;
    const dsc_model *m = &plan->model;
    dsc_text text = {0};

    dsc_text_add(&text, "model %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64
                 " %d %d %d %d %d\n", m->layers, m->hidden, m->heads, m->kv_heads, m->ffn, m->vocab, m->seq, m->gated,
                 m->causal, m->tied, m->norm, m->pos);
    if (m->pos == DSC_POS_ROPE) dsc_text_add(&text, "theta %" PRId64 "\n", m->rope_theta);
    dsc_text_add(&text, "grid %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " order %d %d %d %d\n", s->tp, s->cp, s->dp,
                 s->pp, plan->order[0], plan->order[1], plan->order[2], plan->order[3]);
    dsc_text_add(&text, "batch %" PRId64 " %" PRId64 " %" PRId64 " seq %" PRId64 "\n", s->micro_batch,
                 plan->micro_batches, s->global_batch, s->seq_len);
    dsc_text_add(&text, "how %d %d %d %d %d %d %d %d %d %" PRId64 " %" PRId64 " %d\n", s->schedule, s->zero,
                 s->offload, s->recompute, s->optimizer, s->l2_decay, s->sequence_parallel, plan->product_type,
                 plan->gradient_type, s->virtual_stages, s->bucket_elems, s->partition);
    if (s->recompute_layers > 0) dsc_text_add(&text, "recompute layers %" PRId64 "\n", s->recompute_layers);
    if (s->keeps_outputs || s->widens_gradients)
        dsc_text_add(&text, "kept %d %d\n", s->keeps_outputs, s->widens_gradients);
    if (s->widens_logits) dsc_text_add(&text, "wide logits\n");
    if (s->recomputes_outputs) dsc_text_add(&text, "outputs again\n");
    if (s->scatters_messages) dsc_text_add(&text, "scattered\n");
    if (s->late_gather) dsc_text_add(&text, "gathered late\n");
    if (s->communication == DSC_COMMUNICATION_STAGED) dsc_text_add(&text, "staged\n");
    if (s->checkpoints > DSC_CHECKPOINTS_WHOLE) dsc_text_add(&text, "checkpoints %d\n", s->checkpoints);
    if (plan->compresses)
        dsc_text_add(&text, "semantics %d %d intra %" PRId64 "\n", s->semantics,
                     plan->config.freeze_step == DSC_AUTO && !plan->has_own_steps, plan->intra);
    dsc_text_add(&text, "offload %a %" PRId64 " %" PRId64 "\n", s->offload_ratio, s->delay_update, s->prefetch);
    hash_attention(plan, &text);
    strcpy(plan->hash, dsc_hash_of(dsc_text_str(&text), (size_t)text.count).hex);
    dsc_text_fini(&text);
}

dsc_status dsc_plan_create(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config, dsc_plan **out)
{
    dsc_status status = DSC_OK;
    dsc_plan *plan = calloc(1, sizeof *plan);

    if (plan == NULL) {
        status = DSC_FAIL(DSC_ENOMEM, "plan: %zu bytes", sizeof *plan);
        goto out;
    }
    plan->model = *model;
    plan->config = *config;
    DSC_TRY(dsc_model_check(model));
    DSC_TRY(dsc_config_check(config));
    DSC_TRY(dsc_plan_resolve(plan, cluster));
    DSC_TRY(dsc_plan_check_legal(plan));
    DSC_TRY(dsc_plan_attend(plan));
    DSC_TRY(dsc_model_tensors(model, &plan->tensors, &plan->tensor_count));
    DSC_TRY(dsc_plan_cut(plan));
    hash_plan(plan);
    *out = plan;
    plan = NULL;
out:
    dsc_plan_destroy(plan);
    return status;
}

dsc_status dsc_plan_outline(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                            dsc_plan *out)
{
    memset(out, 0, sizeof *out);
    out->model = *model;
    out->config = *config;
    return dsc_plan_resolve(out, cluster);
}

void dsc_plan_destroy(dsc_plan *plan)
{
    if (plan == NULL) return;
    for (int64_t s = 0; plan->stages != NULL && s < plan->config.strategy.pp; s++) {
        free(plan->stages[s].chunks);
        free(plan->stages[s].shards);
        free(plan->stages[s].buckets);
    }
    free(plan->stages);
    free(plan->tensors);
    dsc_plan_attention_fini(plan);
    free(plan);
}

/* One node of one type of device, which ranks share. */
static bool is_shared(const dsc_cluster *cluster)
{
    return cluster->is_local && cluster->node_type_count == 1 && cluster->node_types[0].device_types == 1 &&
           dsc_cluster_nodes(cluster) == 1;
}

/* Ranks that the strategy asks for, where what is not given is 1. */
static dsc_status count_ranks(const dsc_strategy *strategy, int64_t *out)
{
    const int64_t degrees[] = {strategy->tp, strategy->pp, strategy->cp, strategy->dp};
    int64_t ranks = 1;

    for (int64_t i = 0; i < DSC_COUNT(degrees); i++)
        if (!dsc_mul(ranks, DSC_MAX(degrees[i], 1), &ranks) || ranks > 1 << 20)
            return DSC_FAIL(DSC_EINVAL, "tp x pp x cp x dp is over %d ranks on one machine", 1 << 20);
    *out = ranks;
    return DSC_OK;
}

dsc_status dsc_plan_load_cluster(const char *description, const dsc_config *config, dsc_cluster **out)
{
    dsc_cluster *described = NULL;
    dsc_status status = DSC_OK;
    int64_t ranks = 1;

    DSC_TRY(dsc_cluster_load(description, &described));
    if (is_shared(described)) {
        DSC_TRY(count_ranks(&config->strategy, &ranks));
        status = dsc_cluster_of_ranks(described, 1, ranks, out);
    } else {
        *out = described;
        described = NULL;
    }
out:
    dsc_cluster_destroy(described);
    return status;
}

static void print_order(const int *order, dsc_text *out)
{
    for (int i = 0; i < 4; i++) dsc_text_add(out, "%s%s", i == 0 ? "" : ",", DSC_AXIS_NAMES[order[i]]);
}

/* The axis that loses most in the next best order says why that one was not taken. */
static void print_choice(const dsc_plan *plan, dsc_text *out)
{
    const dsc_order_cost *here = &plan->order_cost, *next = &plan->next_cost;
    int worst = 0;

    for (int axis = 1; axis < 4; axis++)
        if (next->axis_ns[axis] - here->axis_ns[axis] > next->axis_ns[worst] - here->axis_ns[worst]) worst = axis;
    dsc_text_add(out, ": %.3g ms of messages a step by links alone", here->ns / 1e6);
    for (int axis = 0; axis < 4; axis++)
        if (here->link[axis][0] != '\0')
            dsc_text_add(out, ", %s %.3g over %s", DSC_AXIS_NAMES[axis], here->axis_ns[axis] / 1e6, here->link[axis]);
    dsc_text_add(out, "\n           next ");
    print_order(next->order, out);
    if (next->axis_ns[worst] > here->axis_ns[worst])
        dsc_text_add(out, ": %.3g ms, %s %.3g over %s\n", next->ns / 1e6, DSC_AXIS_NAMES[worst],
                     next->axis_ns[worst] / 1e6, next->link[worst]);
    else dsc_text_add(out, ": as much, on the same links\n");
}

static void print_why(const dsc_plan *plan, dsc_text *out)
{
    dsc_text_add(out, "order      fastest first ");
    print_order(plan->order, out);
    if (plan->order_reason == DSC_ORDER_CHOSEN) print_choice(plan, out);
    else if (plan->order_reason == DSC_ORDER_GIVEN) dsc_text_add(out, ", as --rank-order says\n");
    else dsc_text_add(out, " by default: there is nothing to choose by\n");
}

static void print_chunk(const dsc_chunk *chunk, dsc_text *out)
{
    if (chunk->layers > 0)
        dsc_text_add(out, "layers %" PRId64 " to %" PRId64, chunk->first_layer,
                     chunk->first_layer + chunk->layers - 1);
    else dsc_text_add(out, "no layers");
    dsc_text_add(out, "%s%s", chunk->has_embedding ? ", embedding" : "", chunk->has_head ? ", head" : "");
}

static void print_stage(const dsc_plan *plan, int64_t stage, dsc_text *out)
{
    dsc_text_add(out, "stage %-4" PRId64 " ", stage);
    for (int64_t c = 0; c < plan->stages[stage].chunk_count; c++) {
        dsc_text_add(out, "%s", c > 0 ? "; " : "");
        print_chunk(&plan->stages[stage].chunks[c], out);
    }
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        dsc_static_bytes bytes = dsc_plan_static_bytes(plan, stage, space);

        if (space == DSC_SPACE_HOST && plan->config.strategy.offload == DSC_OFFLOAD_NONE) break;
        dsc_text_add(out, "%s parameters %s, gradients %s, optimizer %s",
                     space == DSC_SPACE_HOST ? "; in host memory" : ":", dsc_bytes_str(bytes.parameters).str,
                     dsc_bytes_str(bytes.gradients).str, dsc_bytes_str(bytes.optimizer).str);
    }
    dsc_text_add(out, "\n");
}

/* Which states are cut and which are in host memory; nothing where all is whole and on the device. */
static void print_states(const dsc_plan *plan, dsc_text *out)
{
    const dsc_strategy *s = &plan->config.strategy;

    if (s->zero == 0 && s->offload == DSC_OFFLOAD_NONE) return;
    dsc_text_add(out, "states     ZeRO %d, in %" PRId64 " part%s", s->zero, plan->parts, plan->parts > 1 ? "s" : "");
    if (s->offload == DSC_OFFLOAD_OPTIMIZER)
        dsc_text_add(out, "; of the optimizer's %.4g %% in host memory", 100 * s->offload_ratio);
    if (s->offload == DSC_OFFLOAD_PARAMS) dsc_text_add(out, "; parameters and the optimizer's in host memory");
    if (s->offload == DSC_OFFLOAD_PARAMS || (s->zero == 3 && dsc_plan_degree(plan, DSC_AXIS_DP) > 1))
        dsc_text_add(out, "; parameters fetched %" PRId64 " bucket%s ahead", s->prefetch, s->prefetch == 1 ? "" : "s");
    if (s->delay_update > 0)
        dsc_text_add(out, "; updates one step late after the first %" PRId64, s->delay_update);
    dsc_text_add(out, "\n");
}

void dsc_plan_print(const dsc_plan *plan, dsc_text *out)
{
    const dsc_strategy *s = &plan->config.strategy;
    enum { SHOWN = 2 }; /* stages at each end, where there are many */

    dsc_text_add(out, "placement  %" PRId64 " ranks = tp %" PRId64 " x cp %" PRId64 " x dp %" PRId64 " x pp %" PRId64
                 "\n", plan->ranks, s->tp, s->cp, s->dp, s->pp);
    print_why(plan, out);
    dsc_text_add(out,
                 "batch      %" PRId64 " sequences of %" PRId64 " tokens = %" PRId64 " replicas x %" PRId64
                 " micro-batches x %" PRId64 "\n",
                 s->global_batch, s->seq_len, s->dp, plan->micro_batches, s->micro_batch);
    dsc_text_add(out, "precision  %s, gradients %s, buckets of %" PRId64 " elements\n",
                 dsc_dtype_name(plan->product_type), dsc_dtype_name(plan->gradient_type), s->bucket_elems);
    dsc_plan_print_attention(plan, out);
    print_states(plan, out);
    for (int64_t i = 0; i < s->pp; i++) {
        if (i == SHOWN && s->pp > 4 * SHOWN) {
            dsc_text_add(out, "...\n");
            i = s->pp - SHOWN;
        }
        print_stage(plan, i, out);
    }
}

int dsc_plan_recompute(const dsc_plan *plan, int64_t index)
{
    const dsc_strategy *s = &plan->config.strategy;

    return s->recompute_layers == 0 || index < s->recompute_layers ? s->recompute : DSC_RECOMPUTE_NONE;
}
