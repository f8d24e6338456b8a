/* The contracts of kernels: what the planner and the executor both rely on. */
#include "kernel/units.h"
#include "kernel/workspace.h"
#include "tests/tap.h"
#include <string.h>

static dsc_shape make(dsc_kernel kernel, dsc_dtype type, dsc_dtype out, int32_t flags, int64_t d0, int64_t d1,
                      int64_t d2, int64_t d3, int64_t d4)
{
    return (dsc_shape){.kernel = (int16_t)kernel, .type = (int8_t)type, .out = (int8_t)out, .flags = flags,
                       .d = {d0, d1, d2, d3, d4}};
}

static dsc_shape make_join(int64_t vocab, int64_t stride, int64_t n, int64_t ranks)
{
    dsc_shape shape = make(DSC_K_CROSS_ENTROPY_JOIN, DSC_BF16, DSC_BF16, 0, 2, 8, vocab, stride, n);

    shape.d[5] = ranks;
    return shape;
}

static dsc_shape make_shard(int64_t rows, int64_t n, int64_t positions)
{
    dsc_shape shape = make(DSC_K_EMBED_FWD, DSC_BF16, DSC_BF16, DSC_SHARD, 2, 8, 16, rows, n);

    shape.d[5] = positions;
    return shape;
}

static dsc_shape make_block(dsc_kernel kernel, int32_t flags, int64_t d, int64_t present, int64_t block)
{
    dsc_shape shape = make(kernel, DSC_BF16, DSC_BF16, flags, 2, 100, 3, d, present);

    shape.d[5] = block;
    return shape;
}

static void names(void)
{
    char word[32];

    for (int i = 0; i < DSC_KERNEL_COUNT; i++) {
        CHECK(dsc_kernel_find(dsc_kernel_name((dsc_kernel)i)) == i, "%s", dsc_kernel_name((dsc_kernel)i));
        CHECK(dsc_kernel_operands((dsc_kernel)i) <= DSC_KERNEL_OPERANDS, "%s", dsc_kernel_name((dsc_kernel)i));
        for (int j = 0; j < dsc_kernel_operands((dsc_kernel)i); j++)
            CHECK(strlen(dsc_kernel_operand_name((dsc_kernel)i, j, word)) > 0 && strchr(word, ' ') == NULL, "\"%s\"",
                  word);
    }
    CHECK(dsc_kernel_find("gem") == -1, "a name that is none");
    CHECK(strcmp(dsc_kernel_operand_name(DSC_K_GEMM, 3, word), "residual") == 0, "%s", word);
}

static void optional_operands(void)
{
    const dsc_shape plain = make(DSC_K_GEMM, DSC_BF16, DSC_BF16, 0, 2, 3, 4, 0, 0);
    const dsc_shape full =
        make(DSC_K_GEMM, DSC_BF16, DSC_FP32, DSC_HAS_BIAS | DSC_HAS_RESIDUAL | DSC_ACCUMULATE, 2, 3, 4, 0, 0);
    const dsc_shape rms = make(DSC_K_NORM_FWD, DSC_FP32, DSC_FP32, DSC_RMS, 2, 3, 0, 0, 0);
    const dsc_shape bare = make(DSC_K_EMBED_FWD, DSC_FP32, DSC_FP32, DSC_NO_POSITIONS, 1, 4, 8, 100, 0);
    const dsc_shape adam = make(DSC_K_ADAM, DSC_BF16, DSC_FP32, 0, 10, 0, 0, 0, 0);
    const dsc_shape adam32 = make(DSC_K_ADAM, DSC_FP32, DSC_FP32, 0, 10, 0, 0, 0, 0);

    CHECK(!dsc_operand_present(&plain, 2) && !dsc_operand_present(&plain, 3), "bias and residual without their flags");
    CHECK(dsc_operand_present(&full, 2) && dsc_operand_present(&full, 3), "bias and residual with their flags");
    CHECK(dsc_operand_is_written(&plain, 4) && !dsc_operand_is_read(&plain, 4), "out is written");
    CHECK(dsc_operand_is_written(&full, 4) && dsc_operand_is_read(&full, 4), "out is updated");
    CHECK(dsc_operand_bytes(&plain, 4) == 12 && dsc_operand_bytes(&full, 4) == 24, "out has its own type");
    CHECK(!dsc_operand_present(&rms, 2), "RMSNorm has no beta");
    CHECK(!dsc_operand_present(&bare, 2) && dsc_operand_bytes(&bare, 1) == 100 * 8 * 4, "no table of positions");
    CHECK(dsc_operand_bytes(&adam, 4) == 20 && !dsc_operand_present(&adam32, 4), "a copy where the type is not fp32");
}

static void embedding_gradient(void)
{
    const dsc_shape added = make(DSC_K_EMBED_BWD, DSC_FP32, DSC_FP32, 0, 1, 4, 8, 100, 0);
    const dsc_shape first = make(DSC_K_EMBED_BWD, DSC_FP32, DSC_FP32, DSC_FIRST, 1, 4, 8, 100, 0);

    CHECK(dsc_operand_is_read(&added, 2) && dsc_operand_is_written(&added, 2), "dwte is added to");
    CHECK(!dsc_operand_is_read(&first, 2) && dsc_operand_is_written(&first, 2), "with DSC_FIRST it is written");
    CHECK(!dsc_operand_is_read(&added, 3), "dwpe is written");
    CHECK(dsc_kernel_bytes(&added) == 5 * 4 + 4 * 8 * 4 + 2 * 4 * 8 * 4 + 4 * 8 * 4,
          "%lld: four rows of dwte are touched", (long long)dsc_kernel_bytes(&added));
}

/* A rank's share of the tables, and the parts of all ranks. */
static void shards(void)
{
    const dsc_shape embed = make_shard(64, 51, 4), loss = make_join(101, 64, 51, 2);
    const dsc_shape part = make(DSC_K_CROSS_ENTROPY_PART, DSC_BF16, DSC_BF16, 0, 2, 8, 101, 64, 51);
    const dsc_shape large = make(DSC_K_CROSS_ENTROPY_PART, DSC_BF16, DSC_BF16, 0, 8, 1 << 15, 1 << 20, 1 << 17,
                                 1 << 17);

    CHECK_OK(dsc_shape_check(&embed));
    CHECK_OK(dsc_shape_check(&loss));
    CHECK_OK(dsc_shape_check(&part));
    CHECK_OK(dsc_shape_check(&large)); /* whose product of all dimensions is above 2^58 */
    CHECK(dsc_operand_bytes(&embed, 1) == 64 * 16 * 2 && dsc_operand_bytes(&embed, 2) == 4 * 16 * 2, "%lld, %lld",
          (long long)dsc_operand_bytes(&embed, 1), (long long)dsc_operand_bytes(&embed, 2));
    CHECK(dsc_operand_bytes(&part, 2) == 16 * 3 * 4, "%lld", (long long)dsc_operand_bytes(&part, 2));
    CHECK(dsc_operand_bytes(&loss, 1) == 2 * dsc_operand_bytes(&part, 2), "%lld",
          (long long)dsc_operand_bytes(&loss, 1));
    CHECK(dsc_operand_is_read(&loss, 2) && dsc_operand_is_written(&loss, 2), "logits become their gradient");
    CHECK(!dsc_operand_is_read(&loss, 3) && dsc_operand_is_written(&loss, 3), "the loss is written");
}

/* Beside logits of 2 x 8 rows of 64: log-probabilities and their gradient; over tensor ranks that of the sum too. */
static void losses_in_steps(void)
{
    const dsc_shape whole = make(DSC_K_CROSS_ENTROPY, DSC_FP32, DSC_FP32, 0, 2, 8, 51, 64, 0);
    dsc_shape in_steps = whole, join = make_join(101, 64, 51, 2);
    const int64_t step_bytes = 2 * 8 * 64 * 4, sums_bytes = dsc_kernel_workspace_bytes(&whole);

    in_steps.flags |= DSC_APART;
    join.type = join.out = DSC_FP32;
    join.flags |= DSC_APART;
    CHECK_OK(dsc_shape_check(&in_steps));
    CHECK_OK(dsc_shape_check(&join));
    CHECK(dsc_loss_steps(&whole) == 0 && dsc_loss_steps(&in_steps) == 2 && dsc_loss_steps(&join) == 3, "how many");
    CHECK(dsc_kernel_workspace_bytes(&in_steps) == sums_bytes + 2 * step_bytes, "%lld",
          (long long)dsc_kernel_workspace_bytes(&in_steps));
    CHECK(dsc_kernel_workspace_bytes(&join) == sums_bytes + 3 * step_bytes, "%lld",
          (long long)dsc_kernel_workspace_bytes(&join));
    CHECK(dsc_kernel_bytes(&in_steps) == dsc_kernel_bytes(&whole) + 2 * 2 * step_bytes, "%lld",
          (long long)dsc_kernel_bytes(&in_steps));
}

/* 100 tokens are seven blocks of 16: of 3 heads 147, of which there are 20. */
static void block_products(void)
{
    const dsc_shape sdd = make_block(DSC_K_BLOCK_SDD, DSC_TRANS_B, 64, 20, 16);
    const dsc_shape softmax = make_block(DSC_K_BLOCK_SOFTMAX_FWD, DSC_HAS_MASK, 64, 20, 16);
    const dsc_shape plain = make_block(DSC_K_BLOCK_SOFTMAX_FWD, DSC_CAUSAL, 64, 20, 16);
    const int64_t dense = 2 * 3 * 100 * 64, blocks = 2 * 20 * 16 * 16, lists = (3 * 7 * 3 + 2 + 2 * 20) * 4;

    CHECK_OK(dsc_shape_check(&sdd));
    CHECK_OK(dsc_shape_check(&softmax));
    CHECK(dsc_operand_bytes(&sdd, 0) == 2 * dense && dsc_operand_bytes(&sdd, 1) == 2 * dense, "%lld",
          (long long)dsc_operand_bytes(&sdd, 0));
    CHECK(dsc_operand_bytes(&sdd, 2) == lists, "%lld", (long long)dsc_operand_bytes(&sdd, 2));
    CHECK(dsc_operand_bytes(&sdd, 3) == 2 * blocks, "%lld", (long long)dsc_operand_bytes(&sdd, 3));
    CHECK(dsc_kernel_flops(&sdd) == 2 * blocks * 64, "%lld: blocks count whole", (long long)dsc_kernel_flops(&sdd));
    CHECK(dsc_kernel_bytes(&sdd) == 4 * dense + 2 * blocks + lists, "%lld", (long long)dsc_kernel_bytes(&sdd));
    CHECK(dsc_operand_bytes(&softmax, 3) == 2 * 100 * 4 && !dsc_operand_present(&plain, 3), "a mask with its flag");
}

/* Over 5 ranks, 3 units in 400 elements, packed: packets of 10 bytes of signs and 3 scales, both to multiples of 8. */
static void compression(void)
{
    const dsc_shape compress = make(DSC_K_SIGN_COMPRESS, DSC_BF16, DSC_FP32, DSC_COUNT_PADDING, 333, 400, 5, 3, 0);
    const dsc_shape average = make(DSC_K_SIGN_AVERAGE, DSC_FP32, DSC_FP32, 0, 400, 5, 3, 0, 0);
    const dsc_shape expand = make(DSC_K_SIGN_EXPAND, DSC_FP32, DSC_FP32, 0, 666, 400, 5, 3, 2);
    const dsc_shape wide = make(DSC_K_SIGN_AVERAGE, DSC_FP64, DSC_FP64, 0, 400, 5, 3, 0, 0);
    const int64_t packet = 16 + 16, list = 8 * (2 + 3 * 4);

    CHECK_OK(dsc_shape_check(&compress));
    CHECK_OK(dsc_shape_check(&average));
    CHECK_OK(dsc_shape_check(&expand));
    CHECK_OK(dsc_shape_check(&wide));
    CHECK(dsc_packet_bytes(400, 5, 3, DSC_FP32) == packet && dsc_packet_scales(400, 5) == 16, "%lld",
          (long long)dsc_packet_bytes(400, 5, 3, DSC_FP32));
    CHECK(dsc_operand_bytes(&compress, 0) == 333 * 2 && dsc_operand_bytes(&compress, 2) == 400 * 4, "x, error");
    CHECK(dsc_operand_bytes(&compress, 1) == list && dsc_operand_bytes(&average, 1) == list, "units");
    CHECK(dsc_operand_bytes(&compress, 3) == 5 * packet && dsc_operand_bytes(&average, 0) == 5 * packet, "packets");
    CHECK(dsc_operand_bytes(&average, 2) == 400 / 5 * 4 && dsc_operand_bytes(&average, 3) == packet, "a server's");
    CHECK(dsc_operand_bytes(&wide, 3) == 16 + 24, "%lld", (long long)dsc_operand_bytes(&wide, 3));
    CHECK(dsc_operand_bytes(&expand, 0) == 2 * 5 * packet && dsc_operand_bytes(&expand, 1) == 2 * list, "two lists");
    CHECK(dsc_operand_bytes(&expand, 2) == 666 * 4, "%lld", (long long)dsc_operand_bytes(&expand, 2));
    CHECK(dsc_operand_is_read(&compress, 2) && dsc_operand_is_written(&compress, 2), "errors are updated");
    CHECK(!dsc_operand_is_read(&compress, 3) && !dsc_operand_is_written(&compress, 1), "packets are written");
}

static void frozen(void)
{
    const dsc_shape adam = make(DSC_K_ADAM, DSC_BF16, DSC_FP32, DSC_FROZEN | DSC_DECOUPLED, 10, 0, 0, 0, 0);
    const dsc_shape momentum = make(DSC_K_MOMENTUM, DSC_FP16, DSC_FP16, 0, 10, 8, 0, 0, 0);

    CHECK_OK(dsc_shape_check(&adam));
    CHECK(!dsc_operand_present(&adam, 0), "frozen, adam has no gradient");
    CHECK(dsc_operand_is_written(&adam, 1) && dsc_operand_is_written(&adam, 4), "it writes parameters and their copy");
    for (int moment = 2; moment <= 3; moment++)
        CHECK(dsc_operand_is_read(&adam, moment) && !dsc_operand_is_written(&adam, moment), "and reads moments");
    CHECK_OK(dsc_shape_check(&momentum));
    CHECK(dsc_operand_bytes(&momentum, 0) == 20 && dsc_operand_bytes(&momentum, 1) == 40, "momentum is of fp32");
}

static void own_steps(void)
{
    const dsc_shape first = make(DSC_K_MOMENTUM, DSC_BF16, DSC_BF16, DSC_FIRST, 10, 8, 0, 0, 0);
    const dsc_shape rejoin = make(DSC_K_REJOIN, DSC_BF16, DSC_BF16, 0, 10, 0, 0, 0, 0);

    CHECK_OK(dsc_shape_check(&first));
    CHECK(dsc_operand_is_read(&first, 0) && !dsc_operand_is_read(&first, 1) && dsc_operand_is_written(&first, 1),
          "with DSC_FIRST momentum is written");
    CHECK_OK(dsc_shape_check(&rejoin));
    CHECK(dsc_operand_bytes(&rejoin, 0) == 40 && dsc_operand_bytes(&rejoin, 4) == 20, "a copy of another type");
    CHECK(dsc_operand_is_read(&rejoin, 2) && dsc_operand_is_written(&rejoin, 2), "the anchor is updated");
    CHECK(!dsc_operand_is_read(&rejoin, 3) && !dsc_operand_is_written(&rejoin, 1), "weights are written by variances");
}

/* Of 3 tensors, over 2 tensor ranks. */
static void lamb(void)
{
    const dsc_shape norms = make(DSC_K_LAMB_NORMS, DSC_BF16, DSC_BF16, 0, 10, 3, 0, 0, 0);
    const dsc_shape frozen = make(DSC_K_LAMB_NORMS, DSC_FP32, DSC_FP32, DSC_FROZEN, 10, 3, 0, 0, 0);
    const dsc_shape trust = make(DSC_K_LAMB_TRUST, DSC_FP32, DSC_FP32, DSC_FROZEN, 3, 2, 0, 0, 0);
    const dsc_shape step = make(DSC_K_LAMB_STEP, DSC_FP16, DSC_FP16, 0, 10, 3, 0, 0, 0);
    const dsc_shape wide = make(DSC_K_LAMB_STEP, DSC_FP64, DSC_FP64, 0, 10, 3, 0, 0, 0);

    const dsc_shape *all[] = {&norms, &frozen, &trust, &step, &wide};

    for (int i = 0; i < DSC_COUNT(all); i++) CHECK_OK(dsc_shape_check(all[i]));
    CHECK(dsc_operand_bytes(&norms, 0) == 20 && dsc_operand_bytes(&norms, 4) == 40, "a gradient of its type");
    CHECK(dsc_operand_bytes(&norms, 5) == 3 * 24 && dsc_operand_bytes(&norms, 6) == 3 * 32, "a list, and sums");
    CHECK(!dsc_operand_is_read(&norms, 4) && dsc_operand_is_written(&norms, 3), "the variance is copied");
    CHECK(dsc_operand_is_read(&frozen, 4) && dsc_operand_is_written(&frozen, 4), "beside a frozen one it moves");
    CHECK(dsc_operand_is_read(&frozen, 3) && !dsc_operand_is_written(&frozen, 3), "which does not");
    CHECK(dsc_operand_is_written(&frozen, 2) && !dsc_operand_is_written(&frozen, 1), "momentum is made");
    CHECK(dsc_operand_bytes(&trust, 0) == 2 * 3 * 32 && dsc_operand_bytes(&trust, 1) == 3 * 8, "sums of two ranks");
    CHECK(dsc_operand_is_written(&trust, 1) && dsc_operand_is_written(&trust, 2), "a state and a ratio of each tensor");
    CHECK(dsc_operand_bytes(&step, 4) == 40 && dsc_operand_bytes(&step, 5) == 20, "a copy of another type");
    CHECK(dsc_operand_bytes(&wide, 3) == 24 && !dsc_operand_present(&wide, 5), "in fp64 there is no copy");
    CHECK(dsc_kernel_workspace_bytes(&norms) == (1 + 3) * 64 * 32, "%lld",
          (long long)dsc_kernel_workspace_bytes(&norms));
}

static void wide_state(void)
{
    const dsc_shape adam = make(DSC_K_ADAM, DSC_FP64, DSC_FP64, 0, 10, 0, 0, 0, 0);
    const dsc_shape momentum = make(DSC_K_MOMENTUM, DSC_FP64, DSC_FP64, 0, 10, 8, 0, 0, 0);

    CHECK_OK(dsc_shape_check(&adam));
    CHECK_OK(dsc_shape_check(&momentum));
    for (int i = 0; i < 4; i++) CHECK(dsc_operand_bytes(&adam, i) == 80, "operand %d", i);
    CHECK(!dsc_operand_present(&adam, 4), "in fp64 there is no copy");
    CHECK(dsc_operand_bytes(&momentum, 0) == 80 && dsc_operand_bytes(&momentum, 1) == 80, "momentum of fp64");
}

static void arithmetic(void)
{
    const dsc_shape gemm = make(DSC_K_GEMM, DSC_FP32, DSC_FP32, 0, 100, 200, 300, 0, 0);
    const dsc_shape whole = make(DSC_K_ATTENTION_FWD, DSC_FP32, DSC_FP32, 0, 2, 10, 4, 4, 8);
    const dsc_shape causal = make(DSC_K_ATTENTION_BWD, DSC_FP32, DSC_FP32, DSC_CAUSAL, 2, 10, 4, 4, 8);
    const dsc_shape rope = {DSC_K_ROPE, DSC_BF16, DSC_BF16, 0, {2, 10, 4, 2, 6, 10000}};
    const dsc_shape gated = make(DSC_K_SWIGLU_BWD, DSC_BF16, DSC_BF16, 0, 100, 0, 0, 0, 0);

    CHECK(dsc_kernel_flops(&gemm) == 12000000, "%lld", (long long)dsc_kernel_flops(&gemm));
    CHECK(dsc_kernel_bytes(&gemm) == 4 * (100 * 300 + 300 * 200 + 100 * 200), "%lld",
          (long long)dsc_kernel_bytes(&gemm));
    CHECK(dsc_kernel_flops(&whole) == 2 * 2 * 100 * 2 * 4 * 8, "%lld", (long long)dsc_kernel_flops(&whole));
    CHECK_OK(dsc_shape_check(&rope));
    CHECK(dsc_operand_bytes(&rope, 0) == 2 * 10 * 8 * 6 * 2 && dsc_kernel_bytes(&rope) == 2 * (2 * 10 * 6 * 6 * 2),
          "%lld of %lld: v is not touched", (long long)dsc_kernel_bytes(&rope), (long long)dsc_operand_bytes(&rope, 0));
    CHECK(dsc_kernel_bytes(&gated) == 5 * 100 * 2, "%lld", (long long)dsc_kernel_bytes(&gated));
    CHECK(dsc_kernel_flops(&causal) == 5 * 2 * 55 * 2 * 4 * 8, "%lld: pairs that are computed",
          (long long)dsc_kernel_flops(&causal));
}

static void workspaces(void)
{
    const dsc_shape many_heads = make(DSC_K_ATTENTION_BWD, DSC_BF16, DSC_BF16, 0, 1024, 64, 64, 64, 16);
    const dsc_shape sums = make(DSC_K_NORM_BWD_W, DSC_BF16, DSC_FP32, 0, 1 << 20, 768, 0, 0, 0);
    const dsc_shape few = make(DSC_K_COLUMN_SUM, DSC_BF16, DSC_FP32, 0, 40, 768, 0, 0, 0);
    const dsc_shape loss = make(DSC_K_CROSS_ENTROPY, DSC_BF16, DSC_BF16, 0, 64, 1024, 50257, 50304, 0);
    const dsc_shape small = make(DSC_K_GEMM, DSC_FP32, DSC_FP32, 0, 16, 16, 16, 0, 0);
    const dsc_shape head = make(DSC_K_GEMM, DSC_FP16, DSC_FP16, 0, 1024, 50257, 768, 0, 0);
    const dsc_shape long_context = make(DSC_K_ATTENTION_BWD, DSC_BF16, DSC_BF16, DSC_CAUSAL, 64, 1 << 20, 128, 8, 128);
    const dsc_shape gelu = make(DSC_K_GELU_FWD, DSC_BF16, DSC_BF16, 0, 1 << 20, 0, 0, 0, 0);

    CHECK(dsc_kernel_workspace_bytes(&small) < 128 << 10, "%lld", (long long)dsc_kernel_workspace_bytes(&small));
    CHECK(dsc_kernel_workspace_bytes(&head) == 16 << 20, "%lld", (long long)dsc_kernel_workspace_bytes(&head));
    CHECK(dsc_kernel_workspace_bytes(&long_context) ==
              DSC_ATTENTION_UNITS * dsc_attention_unit_floats(long_context.d) * 4,
          "%lld", (long long)dsc_kernel_workspace_bytes(&long_context));
    CHECK(dsc_kernel_workspace_bytes(&many_heads) == 1024 * 64 * 64 * 4, "%lld: a value for each query",
          (long long)dsc_kernel_workspace_bytes(&many_heads));
    CHECK(dsc_kernel_workspace_bytes(&sums) == 512 * 768 * 4 * 2, "%lld: sums of 512 parts of the rows",
          (long long)dsc_kernel_workspace_bytes(&sums));
    CHECK(dsc_kernel_workspace_bytes(&few) == 2 * 768 * 4, "%lld", (long long)dsc_kernel_workspace_bytes(&few));
    CHECK(dsc_kernel_workspace_bytes(&loss) == 128 * 8 + 64 * 1024 * 8, "%lld: a row's loss",
          (long long)dsc_kernel_workspace_bytes(&loss));
    CHECK(dsc_kernel_workspace_bytes(&gelu) == 0, "%lld", (long long)dsc_kernel_workspace_bytes(&gelu));
}

static void refuse(dsc_shape shape, const char *expected)
{
    CHECK(dsc_shape_check(&shape) == DSC_EINVAL, "%s", expected);
    CHECK(strstr(dsc_message(), expected) != NULL, "\"%s\" does not say \"%s\"", dsc_message(), expected);
}

static void refusals(void)
{
    dsc_shape none = make(DSC_K_GEMM, DSC_FP32, DSC_FP32, 0, 1, 1, 1, 0, 0);

    CHECK_OK(dsc_shape_check(&none));
    none.kernel = DSC_KERNEL_COUNT;
    refuse(none, "does not exist");
    refuse(make(DSC_K_GEMM, DSC_FP32, DSC_FP32, 0, 1, 0, 1, 0, 0), "n is 0");
    refuse(make(DSC_K_GEMM, DSC_FP32, DSC_FP32, 0, 1, 1, -5, 0, 0), "k is -5");
    refuse(make(DSC_K_GEMM, DSC_FP32, DSC_FP32, 0, 1, 1, 1, 1, 0), "dimension 3 is 1");
    refuse(make(DSC_K_GEMM, DSC_FP32, DSC_FP32, 0, INT64_MAX, INT64_MAX, 1, 0, 0), "exceeds 2^58");
    refuse(make(DSC_K_GEMM, DSC_INT32, DSC_FP32, 0, 1, 1, 1, 0, 0), "fp32, bf16 or fp16");
    refuse(make(DSC_K_CROSS_ENTROPY, DSC_FP32, DSC_FP32, 0, 1, 1, 101, 100, 0), "stride 100 is below V 101");
    refuse(make(DSC_K_CROSS_ENTROPY_PART, DSC_FP32, DSC_FP32, 0, 1, 1, 101, 50, 51), "stride 50 is below n 51");
    refuse(make(DSC_K_CROSS_ENTROPY, DSC_BF16, DSC_BF16, DSC_APART, 1, 1, 8, 8, 0), "of fp32, the logits of bf16");
    refuse(make(DSC_K_CROSS_ENTROPY_PART, DSC_FP32, DSC_FP32, DSC_APART, 1, 1, 8, 8, 8), "no steps to stand apart");
    refuse(make_join(101, 50, 50, 2), "t 2 ranks of n 50 own less than V 101");
    refuse(make_join(101, 50, 51, 2), "stride 50 is below n 51");
    refuse(make_join(101, 64, 51, 0), "t is 0");
    refuse(make_shard(64, 65, 4), "V 64 is below n 65");
    refuse(make_shard(64, 64, 0), "P is 0");
    refuse(make(DSC_K_EMBED_FWD, DSC_FP32, DSC_FP32, 0, 1, 4, 8, 64, 64), "dimension 4 is 64");
    refuse(make(DSC_K_ATTENTION_FWD, DSC_FP32, DSC_FP32, 0, 1, 1, 4, 3, 8), "H 4 is no multiple of Hkv 3");
    refuse(make(DSC_K_ATTENTION_BWD, DSC_FP32, DSC_FP32, 0, 1, 1, 4, 4, 2048), "D is 2048");
    refuse((dsc_shape){DSC_K_ROPE, DSC_FP32, DSC_FP32, 0, {1, 1, 4, 4, 7, 10000}}, "D is 7, must be even");
    refuse((dsc_shape){DSC_K_ROPE, DSC_FP32, DSC_FP32, 0, {1, 1, 4, 4, 2048, 10000}}, "D is 2048");
    refuse(make(DSC_K_ROPE, DSC_FP32, DSC_FP32, 0, 1, 1, 4, 4, 8), "theta is 0");
    refuse(make(DSC_K_GELU_FWD, DSC_FP32, DSC_FP32, DSC_INVERSE, 1, 0, 0, 0, 0), "gelu_fwd turns nothing");
    refuse(make(DSC_K_GELU_FWD, DSC_FP32, DSC_FP32, DSC_NO_POSITIONS, 1, 0, 0, 0, 0), "gelu_fwd has no operand wpe");
    refuse(make(DSC_K_EMBED_FWD, DSC_FP32, DSC_FP32, DSC_NO_POSITIONS | DSC_SHARD, 1, 4, 8, 64, 0), "n is 0");
    refuse(make_block(DSC_K_BLOCK_SDD, 0, 2048, 20, 16), "D is 2048");
    refuse(make_block(DSC_K_BLOCK_DSD, 0, 64, 0, 16), "present is 0");
    refuse(make_block(DSC_K_BLOCK_DSD, 0, 64, 20, 0), "block is 0");
    refuse(make_block(DSC_K_BLOCK_DDS, 0, 64, 20, 24), "block is 24, must be a multiple of 16");
    refuse(make_block(DSC_K_BLOCK_DDS, 0, 64, 20, 144), "block is 144");
    refuse(make_block(DSC_K_BLOCK_SOFTMAX_FWD, 0, 64, 148, 16), "148 present blocks of 3 heads with 7 x 7");
    refuse(make_block(DSC_K_BLOCK_SDD, DSC_TRANS_A, 64, 20, 16), "block_sdd: the flags have 0x1");
    refuse(make_block(DSC_K_BLOCK_DSD, DSC_TRANS_B, 64, 20, 16), "block_dsd: the flags have 0x2");
    refuse(make_block(DSC_K_BLOCK_DDS, DSC_ACCUMULATE, 64, 20, 16), "block_dds: the flags have 0x4");
    refuse(make_block(DSC_K_BLOCK_SOFTMAX_BWD, DSC_CAUSAL, 64, 20, 16), "block_softmax_bwd: the flags have 0x8");
}

static void sign_refusals(void)
{
    refuse(make(DSC_K_SIGN_COMPRESS, DSC_FP32, DSC_FP32, 0, 10, 72, 5, 1, 0),
           "sign_compress: packed is 72, no multiple of 8 x N = 40");
    refuse(make(DSC_K_SIGN_AVERAGE, DSC_FP32, DSC_FP32, 0, 36, 1, 1, 0, 0), "sign_average: packed is 36");
    refuse(make(DSC_K_SIGN_EXPAND, DSC_FP32, DSC_FP32, 0, 10, 72, 5, 1, 1), "sign_expand: packed is 72");
    refuse(make(DSC_K_SIGN_COMPRESS, DSC_FP32, DSC_FP32, 0, 10, 80, 5, 0, 0), "units is 0");
    refuse(make(DSC_K_SIGN_COMPRESS, DSC_FP32, DSC_FP32, 0, 10, 80, 5, 1, 1), "dimension 4 is 1");
    refuse(make(DSC_K_SIGN_AVERAGE, DSC_FP32, DSC_FP32, 0, 80, 0, 1, 0, 0), "N is 0");
    refuse(make(DSC_K_SIGN_EXPAND, DSC_FP32, DSC_FP32, 0, 10, 80, 5, 1, 0), "L is 0");
    refuse(make(DSC_K_SIGN_EXPAND, DSC_FP32, DSC_FP32, 0, 10, 80, 5, 1, INT64_MAX), "exceeds 2^58");
    refuse(make(DSC_K_SIGN_COMPRESS, DSC_BF16, DSC_BF16, 0, 10, 80, 5, 1, 0), "types 1 and 1");
    refuse(make(DSC_K_SIGN_COMPRESS, DSC_FP32, DSC_FP64, 0, 10, 80, 5, 1, 0), "types 0 and 5");
    refuse(make(DSC_K_MOMENTUM, DSC_FP32, DSC_FP32, 0, 10, 0, 0, 0, 0), "N is 0");
    refuse(make(DSC_K_ADAM, DSC_FP32, DSC_FP32, DSC_SCALED, 10, 0, 0, 0, 0), "adam scales no gradient");
    refuse(make(DSC_K_MOMENTUM, DSC_FP64, DSC_FP32, 0, 10, 2, 0, 0, 0), "types 5 and 0");
    refuse(make(DSC_K_ADAM, DSC_FP64, DSC_FP32, 0, 10, 0, 0, 0, 0), "types 5 and 0");
    refuse(make(DSC_K_ADAM, DSC_FP32, DSC_FP64, 0, 10, 0, 0, 0, 0), "types 0 and 5");
    refuse(make(DSC_K_GELU_FWD, DSC_FP64, DSC_FP64, 0, 10, 0, 0, 0, 0), "types 5 and 5");
    refuse(make(DSC_K_SIGN_EXPAND, DSC_FP32, DSC_FP32, DSC_COUNT_PADDING, 10, 32, 4, 1, 1), "counts no padding");
    refuse(make(DSC_K_MOMENTUM, DSC_FP32, DSC_FP32, DSC_FROZEN, 10, 2, 0, 0, 0), "no moments to be frozen");
    refuse(make(DSC_K_LAMB_STEP, DSC_FP32, DSC_FP32, DSC_FROZEN, 10, 2, 0, 0, 0), "no moments to be frozen");
    refuse(make(DSC_K_LAMB_NORMS, DSC_FP32, DSC_FP32, 0, 10, 0, 0, 0, 0), "tensors is 0");
    refuse(make(DSC_K_LAMB_TRUST, DSC_FP32, DSC_FP32, 0, INT64_MAX, INT64_MAX, 0, 0, 0), "exceeds 2^58");
}

/* At the largest sizes that dsc_shape_check lets pass, counts stay positive. */
static void no_overflow(void)
{
    const int64_t big = (int64_t)1 << 58;
    const dsc_shape shapes[] = {
        make(DSC_K_GEMM, DSC_FP32, DSC_FP32, DSC_HAS_RESIDUAL | DSC_ACCUMULATE, big, 1, 1, 0, 0),
        make(DSC_K_GEMM, DSC_FP32, DSC_FP32, 0, 1, big >> 20, 1 << 20, 0, 0),
        make(DSC_K_ATTENTION_BWD, DSC_FP32, DSC_FP32, 0, 1, (int64_t)1 << 29, 1, 1, 1),
        make(DSC_K_GELU_BWD, DSC_FP32, DSC_FP32, 0, big, 0, 0, 0, 0),
        make(DSC_K_SWIGLU_BWD, DSC_FP32, DSC_FP32, 0, big, 0, 0, 0, 0),
        {DSC_K_ROPE, DSC_FP32, DSC_FP32, 0, {1, big >> 1, 1, 1, 2, (int64_t)1 << 40}},
        make(DSC_K_ADAM, DSC_BF16, DSC_FP32, 0, big, 0, 0, 0, 0),
        make(DSC_K_JOIN, DSC_FP32, DSC_FP32, DSC_HAS_BIAS | DSC_HAS_RESIDUAL, 1, big, 0, 0, 0),
        make(DSC_K_CROSS_ENTROPY_PART, DSC_FP32, DSC_FP32, 0, big, 1, 1, 1, 1),
        make(DSC_K_CROSS_ENTROPY, DSC_FP32, DSC_FP32, DSC_APART, big >> 1, 1, 1, 1, 0),
        {DSC_K_CROSS_ENTROPY_JOIN, DSC_FP32, DSC_FP32, DSC_APART, {big >> 1, 1, 1, 1, 1, 1}},
        {DSC_K_BLOCK_SOFTMAX_FWD, DSC_FP32, DSC_FP32, DSC_HAS_MASK, {big >> 8, 1, 1, 1, 1, 16}},
        {DSC_K_BLOCK_DDS, DSC_FP32, DSC_FP32, 0, {1, 16, 1, big >> 8, 1, 16}},
        {DSC_K_CROSS_ENTROPY_JOIN, DSC_FP32, DSC_FP32, 0, {1, 1, 1, 1, 1, big}},
        make(DSC_K_MOMENTUM, DSC_FP32, DSC_FP32, 0, big, big, 0, 0, 0),
        make(DSC_K_SIGN_COMPRESS, DSC_FP64, DSC_FP64, 0, 8, big >> 3, 1, 1, 0),
        make(DSC_K_SIGN_COMPRESS, DSC_FP64, DSC_FP64, 0, big >> 3, 8, 1, 1, 0),
        make(DSC_K_SIGN_COMPRESS, DSC_FP32, DSC_FP32, 0, 8, 8, 1, (big - 32) / 2, 0),
        make(DSC_K_SIGN_AVERAGE, DSC_FP64, DSC_FP64, 0, big >> 3, big >> 6, 1, 0, 0),
        make(DSC_K_SIGN_EXPAND, DSC_FP32, DSC_FP32, 0, 8, 8, 1, 1, big / 34),
        {DSC_K_EMBED_BWD, DSC_FP32, DSC_FP32, DSC_SHARD | DSC_ACCUMULATE, {1, 1, big, 1, 1, 1}},
        {DSC_K_EMBED_BWD, DSC_FP32, DSC_FP32, DSC_SHARD | DSC_ACCUMULATE, {1, 1, 1, 1, 1, big}},
    };

    for (int i = 0; i < DSC_COUNT(shapes); i++) {
        const char *name = dsc_kernel_name((dsc_kernel)shapes[i].kernel);

        CHECK_OK(dsc_shape_check(&shapes[i]));
        CHECK(dsc_kernel_flops(&shapes[i]) > 0, "%s: %lld", name, (long long)dsc_kernel_flops(&shapes[i]));
        CHECK(dsc_kernel_bytes(&shapes[i]) > 0, "%s: %lld", name, (long long)dsc_kernel_bytes(&shapes[i]));
        CHECK(dsc_kernel_workspace_bytes(&shapes[i]) >= 0, "%s", name);
    }
}

static void printing(void)
{
    const dsc_shape shape = make(DSC_K_GEMM, DSC_BF16, DSC_FP32, DSC_TRANS_A | DSC_ACCUMULATE, 768, 2304, 1024, 0, 0);
    const dsc_shape shard = make_shard(64, 51, 4);
    char text[256], cut[8];

    dsc_shape_print(&shape, text, sizeof text);
    CHECK(strcmp(text, "gemm bf16>fp32 768x2304x1024 tA +=") == 0, "%s", text);
    dsc_shape_print(&shard, text, sizeof text);
    CHECK(strcmp(text, "embed_fwd bf16 2x8x16x64x51x4 shard") == 0, "%s", text);
    dsc_shape_print(&shape, cut, sizeof cut);
    CHECK(strcmp(cut, "gemm bf") == 0, "%s", cut);
}

static const tap_case cases[] = {
    {"every kernel is found by its name, and has named operands", names},
    {"flags and types decide which operands take part", optional_operands},
    {"the token table's gradient is added to unless it is first", embedding_gradient},
    {"shards have the rank's share of the tables, and parts of all ranks", shards},
    {"losses in steps have room for each of them, in fp32 alone", losses_in_steps},
    {"flops and bytes are those of the formulas", arithmetic},
    {"compression has packets of signs and scales, and lists of units", compression},
    {"frozen, adam reads moments and no gradient", frozen},
    {"LAMB's variance is frozen or copied, its sums are of tensors", lamb},
    {"where replicas step by themselves a gradient is written, and an anchor updated", own_steps},
    {"the optimizer's state is of fp64 where all of it is", wide_state},
    {"block products have dense operands, blocks and lists", block_products},
    {"workspaces stay bounded", workspaces},
    {"impossible shapes are refused by name", refusals},
    {"so are those of compression", sign_refusals},
    {"no count overflows at the largest sizes", no_overflow},
    {"a shape prints as its measurement is called", printing},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
