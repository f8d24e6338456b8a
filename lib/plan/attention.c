/* How layers attend, on tensor ranks: layouts of the plan's sequence, and heads dealt out so that ranks have about as
 * many blocks each. */
#include "plan/parts.h"
#include "base/hash.h"
#include "base/log.h"
#include "kernel/blocks.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const dsc_layer_attention *dsc_plan_attention(const dsc_plan *plan, int64_t layer)
{
    return &plan->attention[plan->attention_of[layer]];
}

int64_t dsc_plan_head(const dsc_plan *plan, const dsc_layer_attention *a, int64_t tp_index, int64_t index)
{
    int64_t place = tp_index * (plan->model.heads / plan->config.strategy.tp) + index;

    return a->heads == NULL ? place : a->heads[place];
}

/* ---- Heads to ranks */

typedef struct weight { int64_t head, blocks; } weight;

/* Most blocks first. */
static int compare_weights(const void *a, const void *b)
{
    const weight *x = a, *y = b;

    if (x->blocks != y->blocks) return x->blocks < y->blocks ? 1 : -1;
    return x->head < y->head ? -1 : x->head > y->head;
}

/* The rank with the fewest blocks among those that may have another head. */
static int64_t find_least(const int64_t *blocks, const int64_t *counts, int64_t tp, int64_t each)
{
    int64_t least = -1;

    for (int64_t r = 0; r < tp; r++)
        if (counts[r] < each && (least < 0 || blocks[r] < blocks[least])) least = r;
    return least;
}

/* Longest processing time first (Graham 1969), with as many heads for each rank; within a rank they ascend. */
static void deal_heads(const weight *weights, int64_t heads, int64_t tp, int64_t *ranks, int64_t *out)
{
    int64_t *blocks = ranks + heads, *counts = blocks + tp, at = 0;

    for (int64_t i = 0; i < heads; i++) {
        int64_t rank = find_least(blocks, counts, tp, heads / tp);

        ranks[weights[i].head] = rank;
        blocks[rank] += weights[i].blocks;
        counts[rank]++;
    }
    for (int64_t r = 0; r < tp; r++)
        for (int64_t h = 0; h < heads; h++)
            if (ranks[h] == r) out[at++] = h;
}

static int64_t most_present(const dsc_plan *plan, const dsc_layer_attention *a)
{
    int64_t most = 1, each = plan->model.heads / plan->config.strategy.tp;

    for (int64_t r = 0; r < plan->config.strategy.tp; r++) {
        int64_t sum = 0;

        if (a->layout->kinds == 1) return DSC_MAX(each * dsc_layout_count(a->layout, 0), 1);
        for (int64_t i = 0; i < each; i++) sum += dsc_layout_count(a->layout, dsc_plan_head(plan, a, r, i));
        most = DSC_MAX(most, sum);
    }
    return most;
}

/* Heads stay in order unless another makes the largest rank's part smaller, and where heads share keys. */
static dsc_status balance(const dsc_plan *plan, dsc_layer_attention *a)
{
    int64_t heads = plan->model.heads, tp = plan->config.strategy.tp, in_order;
    weight *weights = calloc((size_t)heads, sizeof *weights);
    int64_t *ranks = calloc((size_t)(heads + 2 * tp), sizeof *ranks);
    dsc_status status = DSC_OK;

    in_order = a->present = most_present(plan, a);
    if (tp == 1 || a->layout->kinds == 1 || plan->model.kv_heads != heads) goto out;
    a->heads = calloc((size_t)heads, sizeof *a->heads);
    if (weights == NULL || ranks == NULL || a->heads == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "plan: blocks of %" PRId64 " heads", heads));
    for (int64_t h = 0; h < heads; h++) weights[h] = (weight){h, dsc_layout_count(a->layout, h)};
    qsort(weights, (size_t)heads, sizeof *weights, compare_weights);
    deal_heads(weights, heads, tp, ranks, a->heads);
    a->present = most_present(plan, a);
    if (a->present < in_order) goto out;
    free(a->heads);
    a->heads = NULL;
    a->present = in_order;
out:
    free(weights);
    free(ranks);
    return status;
}

/* ---- Ways to attend */

static dsc_status check_block(const dsc_pattern *pattern, int64_t block)
{
    if (block % DSC_BLOCK_UNIT == 0 && block <= DSC_BLOCK_MOST) return DSC_OK;
    return DSC_FAIL(DSC_ENOTSUP, "%s: blocks of %" PRId64 " tokens, kernels take multiples of %d up to %d",
                    pattern->where, block, DSC_BLOCK_UNIT, DSC_BLOCK_MOST);
}

static int64_t bits_bytes(const dsc_layout *l)
{
    return l->kinds * l->blocks * l->words * (int64_t)sizeof *l->bits;
}

/* As the reference does, but not without a word. */
static void warn_of_globals(const dsc_pattern *pattern, int64_t blocks)
{
    const dsc_sparsity *s = &pattern->sparsity;
    bool has_lists = s->mode == DSC_SPARSITY_VARIABLE || s->mode == DSC_SPARSITY_BSLONGFORMER;

    for (int64_t i = 0; pattern->layout == NULL && has_lists && i < s->globals.count; i++) {
        int64_t last = s->global_ends.count > 0 ? s->global_ends.of[i] - 1 : s->globals.of[i];

        if (last >= blocks)
            dsc_log(DSC_WARNING, "%s: global block %" PRId64 " has no effect: there are %" PRId64 ", from 0 on",
                    pattern->where, last, blocks);
    }
}

static dsc_status make_way(const dsc_plan *plan, const dsc_pattern *pattern, dsc_layer_attention *out)
{
    bool is_sparse = pattern->kind == DSC_ATTENTION_SPARSE;
    dsc_status status = DSC_OK;

    out->kind = pattern->kind;
    memcpy(out->word, pattern->word, sizeof out->word);
    out->is_causal = plan->model.causal && !(is_sparse && plan->config.strategy.reference_layout);
    if (!is_sparse) goto out;
    DSC_TRY(dsc_pattern_layout(pattern, plan->model.heads, plan->config.strategy.seq_len, &out->layout));
    DSC_TRY(check_block(pattern, out->layout->block));
    warn_of_globals(pattern, out->layout->blocks);
    if (out->is_causal) dsc_layout_make_causal(out->layout);
    strcpy(out->hash, dsc_hash_of(out->layout->bits, (size_t)bits_bytes(out->layout)).hex);
    DSC_TRY(balance(plan, out));
    if (out->present > INT32_MAX)
        DSC_TRY(DSC_FAIL(DSC_ENOTSUP, "%s: %" PRId64 " present blocks on a rank, kernels take %d", pattern->where,
                         out->present, INT32_MAX));
out:
    return status;
}

/* A pattern that no layer takes has no layout to be wrong. */
static dsc_status make_ways(dsc_plan *plan, const dsc_attention *attention)
{
    dsc_status status = DSC_OK;

    plan->attention = calloc((size_t)attention->count, sizeof *plan->attention);
    plan->attention_of = calloc((size_t)plan->model.layers, sizeof *plan->attention_of);
    if (plan->attention == NULL || plan->attention_of == NULL)
        DSC_TRY(DSC_FAIL(DSC_ENOMEM, "plan: attention of %" PRId64 " layers", plan->model.layers));
    plan->attention_count = attention->count;
    for (int i = 0; i < attention->count; i++) {
        bool is_taken = false;

        if (i > 0 && attention->layers[i].last >= plan->model.layers)
            DSC_TRY(DSC_FAIL(DSC_EINVAL, "--attention: layer %" PRId64 ", but the model has %" PRId64 ", from 0 on",
                             attention->layers[i].last, plan->model.layers));
        for (int64_t layer = 0; layer < plan->model.layers; layer++)
            if (dsc_attention_of(attention, layer) == i) {
                plan->attention_of[layer] = i;
                is_taken = true;
            }
        if (is_taken) DSC_TRY(make_way(plan, &attention->patterns[i], &plan->attention[i]));
    }
out:
    return status;
}

dsc_status dsc_plan_attend(dsc_plan *plan)
{
    const dsc_config *config = &plan->config;
    dsc_attention *own = NULL;
    dsc_status status = DSC_OK;

    if (config->attention == NULL)
        DSC_TRY(dsc_attention_create(config->strategy.attention, "--sparse-attention", config->sparse_attention, NULL,
                                     &own));
    DSC_TRY(make_ways(plan, own == NULL ? config->attention : own));
out:
    dsc_attention_destroy(own);
    plan->config.attention = NULL; /* the caller's, who may not keep it as long */
    return status;
}

/* ---- For people */

/* "0, 4 to 7" */
static void print_layers(const dsc_plan *plan, int way, dsc_text *out)
{
    const int32_t *of = plan->attention_of;
    const char *comma = "";

    for (int64_t first = 0, end; first < plan->model.layers; first = end) {
        for (end = first + 1; end < plan->model.layers && of[end] == of[first];) end++;
        if (of[first] != way) continue;
        dsc_text_add(out, "%s%" PRId64, comma, first);
        if (end - first > 1) dsc_text_add(out, " to %" PRId64, end - 1);
        comma = ", ";
    }
}

static void print_way(const dsc_plan *plan, int way, dsc_text *out)
{
    const dsc_layer_attention *a = &plan->attention[way];
    const dsc_layout *l = a->layout;

    dsc_text_add(out, "attention  layers ");
    print_layers(plan, way, out);
    dsc_text_add(out, ": %s", a->word);
    if (l != NULL)
        dsc_text_add(out, ", %" PRId64 " x %" PRId64 " blocks of %" PRId64 ", %.3g %% present%s; %" PRId64
                     " on a tensor rank at most", l->blocks, l->blocks, l->block,
                     100 * dsc_layout_density(l),
                     a->is_causal ? "" : ", later keys are seen", a->present);
    dsc_text_add(out, "\n");
}

void dsc_plan_print_attention(const dsc_plan *plan, dsc_text *out)
{
    for (int way = 0; way < plan->attention_count; way++)
        for (int64_t layer = 0; layer < plan->model.layers; layer++)
            if (plan->attention_of[layer] == way) {
                print_way(plan, way, out);
                break;
            }
}

void dsc_plan_attention_fini(dsc_plan *plan)
{
    for (int64_t i = 0; i < plan->attention_count; i++) {
        dsc_layout_destroy(plan->attention[i].layout);
        free(plan->attention[i].heads);
    }
    free(plan->attention);
    free(plan->attention_of);
}
