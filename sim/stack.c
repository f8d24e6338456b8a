/* Traffic is counted by hand from what the software's kernels read and write, in bytes a score, a logit or a parameter;
 * the comments say how. Shares of links are of what NCCL's tests reach. */
#include "sim/stack.h"

/* Ours writes 2 bytes a score forward, and reads 2 backward. Apart, in 16 bits and with dropout: product w 2, softmax
 * with its mask r 2 w 2, dropout r 2 w 2 and its mask w 1, product r 2: 13. Backward, product w 2, dropout r 2 + 1 w 2,
 * softmax r 4 w 2, products r 2 + 2 + 2: 19. */
#define UNFUSED_SCORES {DSC_K_SCORES_FWD, 6.5, 4}, {DSC_K_SCORES_BWD, 9.5, 6}
/* Ours reads x, bias and residual, and writes: with dropout's mask 7 bytes an element for 6. Backward ours has nothing
 * where dropout reads 2 + 1 and writes 2: counted with the norm beside it, which moves 8. */
#define DROPOUT {DSC_K_JOIN, 7 / 6.0, 1}, {DSC_K_NORM_BWD_X, 13 / 8.0, 2}
/* Vocabulary parallel cross-entropy in fp32: cast r 2 w 4, maximum r 4, difference r 4 w 4, exponentials r 4 w 4, sum
 * r 4, quotient r 4 w 4, backward r 4 w 4, cast r 4 w 2: 52 bytes a logit where ours moves 4, or 6 in two parts. */
#define FP32_LOSS {DSC_K_CROSS_ENTROPY, 13, 10}, {DSC_K_CROSS_ENTROPY_PART, 10, 4}, {DSC_K_CROSS_ENTROPY_JOIN, 8, 6}
/* 16-bit gradients to fp32 ones r 2 w 4, unscaling r 4 w 4, norm r 4, clipping r 4 w 4, Adam r 16 w 12, weights back
 * r 4 w 2: 60 bytes a parameter where ours moves 28. */
#define MIXED_ADAM {DSC_K_ADAM, 60 / 28.0, 6}

/* Apart, adding bias and residual and dropout read 2 + 2 and write 2 + 1; adding to gradients reads 2 + 2 and writes 2,
 * and reads 2 + 4 and writes 4 where they add up in fp32. */
static const dsc_stack stacks[] = {
    {.name = "dsc", .what = "dsc's own kernels, as the program has them", .link = 1, .network = 1},
    {.name = "megatron-2021",
     .what = "Megatron-LM of 2020 to 2022: unfused attention, dropout, fp16 gradients summed after the backward passes",
     .spread = 0.035, .host_ns = 65000, .residual = 7, .accumulation = 6, .reduces_late = true,
     .has_short_gradients = true, .link = 0.50, .network = 0.80,
     .handlings = {UNFUSED_SCORES, DROPOUT, FP32_LOSS, MIXED_ADAM}},
    {.name = "deepspeed-2022",
     .what = "DeepSpeed's pipeline with Megatron's model, in bf16 with gradients in fp32",
     .spread = 0.035, .host_ns = 65000, .residual = 7, .accumulation = 10, .reduces_late = true,
     .link = 0.50, .network = 0.80, .handlings = {UNFUSED_SCORES, DROPOUT, FP32_LOSS, MIXED_ADAM}},
    {.name = "deepspeed-2021",
     .what = "DeepSpeed's ZeRO 2 and 3 with Megatron's model: gathers of single tensors, as by one NIC of a node",
     .spread = 0.035, .host_ns = 65000, .residual = 7, .accumulation = 6,
     .link = 0.50, .network = 0.092, .handlings = {UNFUSED_SCORES, DROPOUT, FP32_LOSS, MIXED_ADAM}},
    {.name = "megatron-2024",
     .what = "Megatron-Core with Transformer Engine: flash attention, fused norms, no dropout",
     .spread = 0.03, .host_ns = 15000, .residual = 6, .hidden = 0.7, .has_short_gradients = true, .link = 0.82,
     .network = 0.95, .handlings = {FP32_LOSS}},
    {.name = "fsdp-2023",
     .what = "PyTorch FSDP with flash attention: eager, weights gathered layer by layer",
     .spread = 0.03, .beside = 0.08, .host_ns = 15000, .residual = 6, .accumulation = 6, .ahead = 8,
     .link = 0.80, .network = 0.80, .handlings = {FP32_LOSS}},
    {.name = "fsdp-2025",
     .what = "FSDP of Megatron and TorchTitan on GPUs with fp8: compiled, weights gathered beside the passes",
     .spread = 0.03, .host_ns = 15000, .residual = 6, .ahead = 8, .selects_layers = true, .has_short_gradients = true,
     .link = 0.82, .network = 0.95, .handlings = {FP32_LOSS}},
};

#define ONE_BUCKET (INT64_C(1) << 40) /* no replica has more gradients */

const dsc_stack *dsc_stacks(int64_t *count)
{
    *count = DSC_COUNT(stacks);
    return stacks;
}

static const char *choose(const dsc_strategy *s, const dsc_cluster *cluster)
{
    const bool is_sharded = s->zero >= 2;
    dsc_place place;

    if (dsc_cluster_place(cluster, 0, &place) != DSC_OK || !place.device->is_gpu) return "dsc";
    if (dsc_equal(s->attention, "dense-unfused"))
        return is_sharded ? "deepspeed-2021" : s->precision == DSC_BF16 ? "deepspeed-2022" : "megatron-2021";
    if (!is_sharded) return "megatron-2024";
    return place.device->peak_flops[DSC_FP8] > 0 ? "fsdp-2025" : "fsdp-2023";
}

const dsc_stack *dsc_stack_find(const char *name, const dsc_strategy *strategy, const dsc_cluster *cluster)
{
    if (dsc_equal(name, "auto")) name = choose(strategy, cluster);
    for (int64_t i = 0; i < DSC_COUNT(stacks); i++)
        if (dsc_equal(stacks[i].name, name)) return &stacks[i];
    return NULL;
}

/* Half of each chunk's layers, whichever they are. */
static void select_layers(int64_t layers, dsc_strategy *strategy)
{
    const int64_t chunks = DSC_MAX(strategy->pp, 1) * DSC_MAX(strategy->virtual_stages, 1);

    strategy->recompute = DSC_RECOMPUTE_FULL;
    strategy->recompute_layers = dsc_ceil_div(layers, 2 * chunks);
}

void dsc_stack_apply(const dsc_stack *stack, int64_t layers, dsc_strategy *strategy)
{
    if (stack->selects_layers && strategy->recompute == DSC_RECOMPUTE_SELECTIVE && strategy->recompute_layers == 0)
        select_layers(layers, strategy);
    if (stack->reduces_late && strategy->bucket_elems == 0 && strategy->zero == 0) strategy->bucket_elems = ONE_BUCKET;
    if (strategy->prefetch == 1) strategy->prefetch = DSC_MAX(stack->ahead, 1);
    if (stack->has_short_gradients && strategy->grad_accum_dtype < 0 && strategy->precision != DSC_FP32)
        strategy->grad_accum_dtype = strategy->precision == DSC_FP16 ? DSC_FP16 : DSC_BF16;
}

dsc_handling dsc_stack_handling(const dsc_stack *stack, int kernel)
{
    for (const dsc_handling *h = stack->handlings; h->launches > 0; h++)
        if (h->kernel == kernel) return *h;
    return (dsc_handling){kernel, 1, 1};
}
