/* Traffic is counted by hand from what the software's kernels read and write, in bytes a score, a logit or a parameter;
 * the comments say how. Shares of links are of what NCCL's tests reach. */
#include "sim/stack.h"
#include "plan/plan.h"
#include <string.h>

/* Ours writes 2 bytes a score forward, and reads 2 backward. Apart, in 16 bits and with dropout: product w 2, softmax
 * with its mask r 2 w 2, dropout r 2 w 2 and its mask w 1, product r 2: 13. Backward, product w 2, dropout r 2 + 1 w 2,
 * softmax r 4 w 2, products r 2 + 2 + 2: 19. The softmax that takes scale and mask along has rows of up to 2048 keys
 * (Megatron-LM, fused_softmax.py); those of longer ones scale r 2 w 2 and mask 2 x (r 2 w 2) apart: 25 forward, and 27
 * backward, where the mask's difference has nothing. */
#define UNFUSED_SCORES                                                                                         \
    {DSC_K_SCORES_FWD, 6.5, 4}, {DSC_K_SCORES_FWD, 12.5, 7, .above = 2048}, {DSC_K_SCORES_BWD, 9.5, 6},        \
        {DSC_K_SCORES_BWD, 13.5, 8, .above = 2048}
/* Block-sparse attention by separate kernels, scores of present blocks stored in 16 bits (DeepSpeed's
 * ops/sparse_attention): product w 2, softmax with scale and masks r 2 w 2, product r 2: 8 a score. Backward, product
 * w 2, softmax r 4 w 2, three products r 2: 14. */
#define BLOCK_SCORES {DSC_K_ATTENTION_FWD, 1, 3, .each = 8}, {DSC_K_ATTENTION_BWD, 1, 5, .each = 14}
/* 1-bit compression by element-wise kernels in fp32 (DeepSpeed's onebit_adam.py of 2020), bytes an element. Worker:
 * error added 12, norm 4, sign to bool 8 + 8 + 5, to float and to one 5 + 8 + 8, error 8 + 12, sign to bool again
 * 8 + 8 + 5, packing 1: 100. Server: unpacking 1, to float and to one 5 + 8 + 8, scales 8, sum 4: 34 of all elements,
 * and of its chunk's, of which ours moves 8, as the worker without packing: 99 (ours reads 1/8 of all besides, so that
 * 99 / 64 of the 34 are there already). What comes back: 30. Momentum: unscaled gradient 6 + 8, norm 4, decay 8, sum
 * 12: 38, where ours moves 10. */
#define COMPRESSION                                                                                           \
    {DSC_K_SIGN_COMPRESS, 0, 14, .each = 100}, {DSC_K_SIGN_AVERAGE, 99 / 8.0, 20, .each = 34 - 99 / 64.0},    \
        {DSC_K_SIGN_EXPAND, 0, 5, .each = 30}, {DSC_K_MOMENTUM, 3.8, 6}
/* Ours reads x, bias and residual, and writes: with dropout's mask 7 bytes an element for 6. Backward ours has nothing
 * where dropout reads 2 + 1 and writes 2: counted with the norm beside it, which moves 8. */
#define DROPOUT {DSC_K_JOIN, 7 / 6.0, 1}, {DSC_K_NORM_BWD_X, 13 / 8.0, 2}
/* Vocabulary parallel cross-entropy in fp32: cast r 2 w 4, maximum r 4, difference r 4 w 4, exponentials r 4 w 4, sum
 * r 4, quotient r 4 w 4, backward r 4 w 4, cast r 4 w 2: 52 bytes a logit where ours moves 4, or 6 in two parts. */
#define FP32_LOSS {DSC_K_CROSS_ENTROPY, 13, 10}, {DSC_K_CROSS_ENTROPY_PART, 10, 4}, {DSC_K_CROSS_ENTROPY_JOIN, 8, 6}
/* PyTorch's in steps, of fp32 copies that the program makes (widens_logits). On one rank, with rows longer than shared
 * memory: log-softmax r 3 x 4 w 4, its gradient w 4, that of its input r 4 and 4 + 4 w 4: 36 bytes a logit where ours
 * moves 24. Over tensor ranks (loss_parallel) maximum r 4, difference r 4 w 4, exponentials r 4 w 4, sum r 4: 24 where
 * ours moves 4; then log-probabilities r 4 w 4, one-hot w 4, exponentials r 4 w 4, sum r 8 w 4, product r 4 w 4: 40
 * where ours moves 32. */
#define LOSS_IN_STEPS                                                                                          \
    {DSC_K_CROSS_ENTROPY, 1.5, 3}, {DSC_K_CROSS_ENTROPY_PART, 6, 4}, {DSC_K_CROSS_ENTROPY_JOIN, 1.25, 5}
/* Unscaling r 4 w 4, norm r 4, clipping r 4 w 4, Adam r 16 w 12, weights back r 4 w 2: 54 bytes a parameter where ours
 * moves 30 of fp32 gradients. Those of 16 bits are copied before (widens_gradients; Megatron's
 * Float16OptimizerWithFloat16Params, DeepSpeed's FP16_Optimizer and ZeRO). */
#define MIXED_ADAM {DSC_K_ADAM, 54 / 30.0, 5}

/* Apart, adding bias and residual and dropout read 2 + 2 and write 2 + 1; adding to gradients reads 2 + 2 and writes 2,
 * and reads 2 + 4 and writes 4 where they add up in fp32. */
static const dsc_stack stacks[] = {
    {.name = "dsc", .what = "dsc's own kernels, as the program has them", .link = 1, .network = 1},
    {.name = "megatron-2021",
     .what = "Megatron-LM of 2020 to 2022: unfused attention, dropout, fp16 gradients summed after the backward passes",
     .spread = 0.035, .host_ns = 65000, .message_ns = 1200000, .residual = 7, .accumulation = 6, .reduces_late = true,
     .has_fp16_gradients = true, .widens_gradients = true, .keeps_outputs = true, .scatters_messages = true,
     .recomputes_outputs = true, .link = 0.50, .network = 0.80,
     .handlings = {UNFUSED_SCORES, DROPOUT, FP32_LOSS, MIXED_ADAM}},
    {.name = "deepspeed-2020",
     .what = "DeepSpeed's block-sparse attention and 1-bit Adam of 2020, in Megatron's model and in BERT",
     .spread = 0.035, .host_ns = 65000, .residual = 7, .accumulation = 6, .reduces_late = true,
     .has_fp16_gradients = true, .widens_gradients = true, .keeps_outputs = true, .recomputes_outputs = true,
     .link = 0.50, .network = 0.80,
     .handlings = {UNFUSED_SCORES, DROPOUT, FP32_LOSS, MIXED_ADAM, BLOCK_SCORES, COMPRESSION}},
    {.name = "deepspeed-2022",
     .what = "DeepSpeed's pipeline with Megatron's model, gradients in fp32, between nodes as by one NIC of a node",
     .spread = 0.035, .host_ns = 65000, .message_ns = 1200000, .residual = 7, .accumulation = 10, .reduces_late = true,
     .has_fp16_gradients = true, .widens_gradients = true, .keeps_outputs = true, .scatters_messages = true,
     .recomputes_outputs = true, .link = 0.50, .network = 0.092,
     .handlings = {UNFUSED_SCORES, DROPOUT, FP32_LOSS, MIXED_ADAM}},
    {.name = "deepspeed-2021",
     .what = "DeepSpeed's ZeRO 2 and 3 with Megatron's model: gathers of single tensors, as by one NIC of a node",
     .spread = 0.035, .host_ns = 65000, .residual = 7, .accumulation = 6, .checkpoints = DSC_CHECKPOINTS_HOST,
     .widens_gradients = true, .recomputes_outputs = true, .link = 0.50, .network = 0.092,
     .handlings = {UNFUSED_SCORES, DROPOUT, FP32_LOSS, MIXED_ADAM}},
    {.name = "megatron-2024",
     .what = "Megatron-Core with Transformer Engine: flash attention, fused norms, no dropout",
     .spread = 0.03, .host_ns = 15000, .residual = 6, .hidden = 0.7, .has_fp16_gradients = true,
     .has_bf16_gradients = true, .recomputes_outputs = true, .late_gather = true, .interleaves = true,
     .bucket = 40000000, .bucket_each = 1000000, .link = 0.82, .network = 0.95, .handlings = {FP32_LOSS}},
    {.name = "fsdp-2023",
     .what = "PyTorch FSDP with flash attention: eager, weights gathered layer by layer",
     .spread = 0.03, .beside = 0.14, .host_ns = 15000, .residual = 6, .accumulation = 6, .ahead = 8,
     .link = 0.80, .network = 0.80, .handlings = {FP32_LOSS}},
    {.name = "fsdp-2025",
     .what = "FSDP of Megatron and TorchTitan on GPUs with fp8: compiled, weights gathered beside the passes",
     .spread = 0.03, .host_ns = 15000, .residual = 6, .ahead = 8, .selects_layers = true, .widens_logits = true,
     .keeps_gathered = true, .cuts_by_stages = true, .has_fp16_gradients = true, .has_bf16_gradients = true,
     .link = 0.82, .network = 0.95, .handlings = {LOSS_IN_STEPS}},
};

const dsc_stack *dsc_stacks(int64_t *count)
{
    *count = DSC_COUNT(stacks);
    return stacks;
}

/* Scores that are stored are of before flash attention. DeepSpeed's pipelines ran on GPUs before A100 or in bf16; they
 * are not interleaved, and have no sequence parallelism. */
static const char *choose_unfused(const dsc_strategy *s, const dsc_device_type *gpu)
{
    const bool is_plain_pipeline = s->pp > 1 && s->virtual_stages < 2 && !s->sequence_parallel;
    const bool is_old = gpu->peak_flops[DSC_BF16] == 0;

    if (s->zero >= 2) return "deepspeed-2021";
    return is_plain_pipeline && (s->precision == DSC_BF16 || is_old) ? "deepspeed-2022" : "megatron-2021";
}

static const char *choose(const dsc_strategy *s, const dsc_cluster *cluster)
{
    const bool is_sparse = s->attention[0] != '\0' && strncmp(s->attention, "dense", 5) != 0;
    const bool compresses = s->optimizer != DSC_ADAM && s->optimizer != DSC_ADAMW;
    dsc_place place;

    if (dsc_cluster_place(cluster, 0, &place) != DSC_OK || !place.device->is_gpu) return "dsc";
    if (is_sparse || compresses) return "deepspeed-2020";
    if (dsc_equal(s->attention, "dense-unfused")) return choose_unfused(s, place.device);
    if (s->zero < 2) return "megatron-2024";
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

/* -1: as the plan has it. */
static int accumulation_of(const dsc_stack *stack, int precision)
{
    switch (precision) {
    case DSC_FP16: return stack->has_fp16_gradients ? DSC_FP16 : -1;
    case DSC_BF16:
    case DSC_FP8: return stack->has_bf16_gradients ? DSC_BF16 : -1;
    default: return -1;
    }
}

/* How many sum a gradient. A degree that is not given is what the devices leave. */
static int64_t replicas_of(const dsc_strategy *s, int64_t devices)
{
    const int64_t tp = DSC_MAX(s->tp, 1), pp = DSC_MAX(s->pp, 1), cp = DSC_MAX(s->cp, 1);

    return s->dp > 0 ? s->dp * cp : DSC_MAX(devices / tp / pp, 1);
}

/* Whether a replica has room for all of its gradients; what streams through buffers goes in messages as small as
 * these. */
static bool keeps_gradients(const dsc_strategy *s) { return s->zero < 2 && s->offload == DSC_OFFLOAD_NONE; }

/* Whether replicas hold all weights, and update a part each. */
static bool updates_parts_of_wholes(const dsc_strategy *s, int64_t devices)
{
    return replicas_of(s, devices) > 1 && (s->zero == 1 || s->zero == 2) && s->offload == DSC_OFFLOAD_NONE;
}

/* Weights that stay gathered from a step's first pass to its last are what ZeRO 1 gathers beside its first passes.
 * Whole gradients wait for the last pass, in fp32, as they are reduced (TorchTitan's apply_fsdp:
 * reshard_after_forward not under a pipeline, reduce_dtype float32; PyTorch's backward_maybe_with_nosync). */
static void keep_gathered(int64_t devices, dsc_strategy *strategy)
{
    dsc_strategy kept = *strategy;

    kept.zero = 1;
    kept.late_gather = true;
    if (kept.grad_accum_dtype < 0) kept.grad_accum_dtype = DSC_FP32;
    if (strategy->zero == 3 && strategy->pp > 1 && updates_parts_of_wholes(&kept, devices)) *strategy = kept;
}

/* DeepSpeed's script for ZeRO 3 with Megatron's model cuts checkpoints and keeps them in host memory
 * (DeepSpeedExamples, Megatron-LM-v1.1.5-ZeRO3/examples/ds_pretrain_gpt2-zero3.sh: PA, PA_CPU), those for ZeRO 2 and 3D
 * do not. */
void dsc_stack_apply(const dsc_stack *stack, int64_t layers, int64_t devices, dsc_strategy *strategy)
{
    const bool checkpoints = strategy->zero == 3 && strategy->recompute == DSC_RECOMPUTE_FULL;

    if (checkpoints && strategy->checkpoints == DSC_CHECKPOINTS_AUTO) strategy->checkpoints = stack->checkpoints;
    if (stack->selects_layers && strategy->recompute == DSC_RECOMPUTE_SELECTIVE && strategy->recompute_layers == 0)
        select_layers(layers, strategy);
    if (stack->keeps_gathered) keep_gathered(devices, strategy);
    if (stack->reduces_late && strategy->bucket_elems == 0 && strategy->zero == 0)
        strategy->bucket_elems = DSC_ONE_BUCKET_ELEMS;
    if (strategy->bucket_elems == 0 && keeps_gradients(strategy))
        strategy->bucket_elems = DSC_MAX(stack->bucket, stack->bucket_each * replicas_of(strategy, devices));
    if (strategy->prefetch == DSC_AUTO && stack->ahead > 0) strategy->prefetch = stack->ahead;
    if (strategy->grad_accum_dtype < 0) strategy->grad_accum_dtype = accumulation_of(stack, strategy->precision);
    strategy->widens_logits |= stack->widens_logits;
    strategy->widens_gradients |= stack->widens_gradients;
    strategy->keeps_outputs |= stack->keeps_outputs;
    strategy->recomputes_outputs |= stack->recomputes_outputs;
    strategy->scatters_messages |= stack->scatters_messages;
    strategy->late_gather |= stack->late_gather && updates_parts_of_wholes(strategy, devices);
}

static int64_t sequence_of(const dsc_shape *shape)
{
    return shape->kernel == DSC_K_SCORES_FWD || shape->kernel == DSC_K_SCORES_BWD ? shape->d[1] : 0;
}

dsc_handling dsc_stack_handling(const dsc_stack *stack, const dsc_shape *shape)
{
    dsc_handling found = {shape->kernel, 1, 1, 0, 0};

    for (const dsc_handling *h = stack->handlings; h->launches > 0; h++)
        if (h->kernel == shape->kernel && (h->above == 0 || sequence_of(shape) > h->above)) found = *h;
    return found;
}

double dsc_stack_elems(const dsc_shape *shape)
{
    const int64_t *d = shape->d;
    const bool has_layout = shape->flags & DSC_HAS_LAYOUT;

    switch ((dsc_kernel)shape->kernel) {
    case DSC_K_ATTENTION_FWD:
    case DSC_K_ATTENTION_BWD: return has_layout ? (double)d[0] * (double)d[5] * (double)d[6] * (double)d[6] : 0;
    case DSC_K_SIGN_COMPRESS:
    case DSC_K_SIGN_EXPAND: return (double)d[1];
    case DSC_K_SIGN_AVERAGE: return (double)d[0];
    default: return 0;
    }
}
