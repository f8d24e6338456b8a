/* Every kernel of a GPU at the shapes that training GPT-2 calls it with: time, rate of memory or arithmetic beside a
 * copy's and the best of cuBLASLt's algorithms, and whether a second call gives the same bits.
 *
 *     gpu [124m | 1558m] [KERNEL]
 *
 * Times are medians of calls one behind another, each between two events; operands are larger than the L2 cache or were
 * written by the call before, as in training. */
#include "base/array.h"
#include "base/rng.h"
#include "device/cuda.h"
#include "kernel/step.h"
#include "kernels/kernels.h"
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 21, WARM = 3, CANDIDATES = 16 };

typedef struct model { const char *name; int64_t batch, seq, hidden, heads, vocab, padded, parameters; } model;

static const model models[] = {
    {"124m", 64, 1024, 768, 12, 50257, 50304, 124475904},
    {"1558m", 8, 1024, 1600, 25, 50257, 50304, 1557686400},
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "gpu: %s: %s\n", what, why);
    exit(3);
}

static void must(cudaError_t error)
{
    if (error != cudaSuccess) fail("CUDA", cudaGetErrorString(error));
}

static void try(dsc_status status)
{
    if (status != DSC_OK) fail("a kernel", dsc_message());
}

/* ---- Memory, of which each operand takes a part */

static char *operand_memory, *workspace;
static int64_t memory_bytes = 44LL << 30, taken;
static dsc_step *step;
static int32_t *tokens;

/* Normal numbers of a type, repeated. */
static void fill(void *to, int64_t bytes, int type, double size)
{
    enum { BLOCK = 1 << 20 };
    const int64_t each = BLOCK * dsc_dtype_bytes((dsc_dtype)type);
    static float normal[BLOCK];
    static uint16_t half[BLOCK];

    dsc_random_normal(7, (uint64_t)type, 0, BLOCK, normal);
    for (int64_t i = 0; i < BLOCK; i++) {
        union { float f; uint32_t u; } value = {.f = (float)(normal[i] * size)};

        normal[i] = value.f;
        half[i] = (uint16_t)(value.u >> 16); /* bf16 */
    }
    must(cudaMemcpy(to, type == DSC_BF16 ? (void *)half : (void *)normal, (size_t)DSC_MIN(each, bytes),
                    cudaMemcpyHostToDevice));
    for (int64_t at = each; at < bytes; at *= 2)
        must(cudaMemcpy((char *)to + at, to, (size_t)DSC_MIN(at, bytes - at), cudaMemcpyDeviceToDevice));
}

static void *take(int64_t bytes)
{
    void *address = operand_memory + taken;

    taken += dsc_round_up(bytes, 256);
    if (taken > memory_bytes) fail("memory", "operands do not fit");
    return address;
}

static void open_memory(const model *m)
{
    static const dsc_step scalars = {.number = 3, .optimizer_step = 3, .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999,
                                     .eps = 1e-8, .bias_correction1 = 0.271, .bias_correction2 = 18.27,
                                     .loss_scale = 1, .loss_gradient = 1e-5f, .gradient_scale = 1, .rates = 1e-3};
    const int64_t count = m->batch * (m->seq + 1);
    int32_t *list = malloc((size_t)count * sizeof *list);

    if (list == NULL) fail("memory", "no list of tokens");
    must(cudaMalloc((void **)&operand_memory, (size_t)memory_bytes));
    must(cudaMalloc((void **)&workspace, 64 << 20));
    must(cudaMalloc((void **)&step, sizeof *step));
    must(cudaMalloc((void **)&tokens, (size_t)count * sizeof *tokens));
    must(cudaMemcpy(step, &scalars, sizeof scalars, cudaMemcpyHostToDevice));
    for (int64_t i = 0; i < count; i++) /* a few are frequent, as words are */
        list[i] = (int32_t)(dsc_random_bits(1, 2, (uint64_t)i) %
                            (dsc_random_bits(1, 3, (uint64_t)i) % (uint64_t)m->vocab + 1));
    must(cudaMemcpy(tokens, list, (size_t)count * sizeof *list, cudaMemcpyHostToDevice));
    free(list);
}

/* ---- Timing */

typedef void work(void *context);

static int compare(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static double median_ms(work *run, void *context)
{
    cudaEvent_t events[REPEATS + 1];
    float times[REPEATS];

    for (int i = 0; i <= REPEATS; i++) must(cudaEventCreate(&events[i]));
    for (int i = 0; i < WARM; i++) run(context);
    for (int i = 0; i < REPEATS; i++) {
        must(cudaEventRecord(events[i], NULL));
        run(context);
    }
    must(cudaEventRecord(events[REPEATS], NULL));
    must(cudaDeviceSynchronize());
    for (int i = 0; i < REPEATS; i++) must(cudaEventElapsedTime(&times[i], events[i], events[i + 1]));
    for (int i = 0; i <= REPEATS; i++) cudaEventDestroy(events[i]);
    qsort(times, REPEATS, sizeof *times, compare);
    return times[REPEATS / 2];
}

/* ---- A kernel */

typedef struct test { dsc_shape shape; void *operands[DSC_KERNEL_OPERANDS]; } test;

static void run_kernel(void *context)
{
    const test *t = context;

    try(dsc_kernels_cuda()->run[t->shape.kernel](&t->shape, t->operands, workspace, step));
}

/* A checksum of what a call wrote. */
static uint64_t sum_bits(const test *t, char *copy)
{
    uint64_t sum = 0;

    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++) {
        const int64_t bytes = t->operands[i] == NULL ? 0 : dsc_operand_bytes(&t->shape, i);

        if (bytes == 0 || !dsc_operand_is_written(&t->shape, i)) continue;
        must(cudaMemcpy(copy, t->operands[i], (size_t)DSC_MIN(bytes, 64 << 20), cudaMemcpyDeviceToHost));
        for (int64_t at = 0; at + 8 <= DSC_MIN(bytes, 64 << 20); at += 8)
            sum = sum * 0x9e3779b97f4a7c15 + *(uint64_t *)(copy + at);
    }
    return sum;
}

static int type_of_operand(const dsc_shape *s, int operand)
{
    char name[32];

    dsc_kernel_operand_name((dsc_kernel)s->kernel, operand, name);
    if (strcmp(name, "stats") == 0 || strcmp(name, "lse") == 0 || strcmp(name, "param") == 0 ||
        strncmp(name, "exp_avg", 7) == 0)
        return DSC_FP32;
    if (strcmp(name, "dgamma") == 0 || strcmp(name, "dbeta") == 0 || strcmp(name, "dwte") == 0 ||
        strcmp(name, "dwpe") == 0 || strcmp(name, "out") == 0 || strcmp(name, "gradient") == 0)
        return s->out;
    return s->type;
}

static void make_operands(test *t)
{
    const int kernel = t->shape.kernel;
    const bool has_tokens = kernel == DSC_K_EMBED_FWD || kernel == DSC_K_EMBED_BWD || kernel == DSC_K_CROSS_ENTROPY ||
                            kernel == DSC_K_CROSS_ENTROPY_PART;

    taken = 0;
    memset(t->operands, 0, sizeof t->operands);
    for (int i = 0; i < dsc_kernel_operands((dsc_kernel)kernel); i++) {
        if (!dsc_operand_present(&t->shape, i)) continue;
        t->operands[i] = has_tokens && i == 0 ? (void *)tokens : take(dsc_operand_bytes(&t->shape, i));
        if (t->operands[i] != tokens)
            fill(t->operands[i], dsc_operand_bytes(&t->shape, i), type_of_operand(&t->shape, i),
                 kernel == DSC_K_GEMM && i == 1 ? 0.02 : kernel == DSC_K_ADAM ? 1e-3 : 1);
    }
    if (kernel == DSC_K_ATTENTION_BWD) { /* what forward leaves */
        test forward = {.shape = t->shape};

        forward.shape.kernel = DSC_K_ATTENTION_FWD;
        memcpy(forward.operands, (void *[]){t->operands[1], t->operands[2], t->operands[3]}, 3 * sizeof(void *));
        run_kernel(&forward);
    }
    if (kernel == DSC_K_ADAM) must(cudaMemset(t->operands[3], 0, (size_t)dsc_operand_bytes(&t->shape, 3)));
}

/* Called twice on the same input. */
static bool repeats_bits(test *t, char *copy)
{
    uint64_t sums[2];

    for (int i = 0; i < 2; i++) {
        make_operands(t);
        run_kernel(t);
        must(cudaDeviceSynchronize());
        sums[i] = sum_bits(t, copy);
    }
    return sums[0] == sums[1];
}

/* ---- cuBLASLt's best: every algorithm that it proposes is timed */

typedef struct candidate {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, out;
    const test *t;
    const cublasLtMatmulAlgo_t *algo;
    bool fails;
} candidate;

static void run_candidate(void *context)
{
    candidate *c = context;
    const float one = 1, added = c->t->shape.flags & (DSC_ACCUMULATE | DSC_HAS_RESIDUAL) ? 1 : 0;
    void *const *o = c->t->operands;
    const void *residual = c->t->shape.flags & DSC_HAS_RESIDUAL ? o[3] : o[4];

    c->fails |= cublasLtMatmul(c->handle, c->desc, &one, o[1], c->b, o[0], c->a, &added, residual, c->out, o[4], c->out,
                               c->algo, workspace, 32 << 20, NULL) != CUBLAS_STATUS_SUCCESS;
}

static double best_ms(const test *t)
{
    static cublasLtHandle_t handle;
    const dsc_shape *s = &t->shape;
    const int64_t m = s->d[0], n = s->d[1], k = s->d[2];
    const bool trans_a = s->flags & DSC_TRANS_A, trans_b = s->flags & DSC_TRANS_B;
    const cudaDataType_t type = s->type == DSC_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const cublasOperation_t left = trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, right = trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const uint64_t bytes = 32 << 20;
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    cublasLtMatmulPreference_t preference;
    candidate c = {.t = t};
    double best = 1e9;
    int count = 0;

    if (handle == NULL) cublasLtCreate(&handle);
    c.handle = handle;
    cublasLtMatmulDescCreate(&c.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatmulDescSetAttribute(c.desc, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left);
    cublasLtMatmulDescSetAttribute(c.desc, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right);
    if (s->flags & DSC_HAS_BIAS) {
        cublasLtMatmulDescSetAttribute(c.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
        cublasLtMatmulDescSetAttribute(c.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &t->operands[2], sizeof(void *));
    }
    cublasLtMatrixLayoutCreate(&c.b, type, trans_b ? k : n, trans_b ? n : k, trans_b ? k : n);
    cublasLtMatrixLayoutCreate(&c.a, type, trans_a ? m : k, trans_a ? k : m, trans_a ? m : k);
    cublasLtMatrixLayoutCreate(&c.out, s->out == DSC_BF16 ? CUDA_R_16BF : CUDA_R_32F, n, m, n);
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    cublasLtMatmulAlgoGetHeuristic(handle, c.desc, c.b, c.a, c.out, c.out, preference, CANDIDATES, found, &count);
    for (int i = 0; i < count; i++) {
        c.algo = &found[i].algo;
        c.fails = false;
        const double time = median_ms(run_candidate, &c);

        if (!c.fails) best = DSC_MIN(best, time);
    }
    return best;
}

/* ---- The table */

static double copy_bytes_per_s;
static char *host_copy;

static void run_copy(void *context)
{
    (void)context;
    must(cudaMemcpyAsync(operand_memory, operand_memory + (4LL << 30), 2LL << 30, cudaMemcpyDeviceToDevice, NULL));
}

static void measure(dsc_shape shape)
{
    test t = {.shape = shape};
    char name[256], best[64] = "";

    dsc_shape_print(&shape, name, sizeof name);
    try(dsc_kernels_cuda()->prepare(&shape));
    const bool same = repeats_bits(&t, host_copy);
    const double ms = median_ms(run_kernel, &t);
    const double flops = (double)dsc_kernel_flops(&shape), bytes = (double)dsc_kernel_bytes(&shape);

    if (shape.kernel == DSC_K_GEMM) {
        const double least = best_ms(&t);

        snprintf(best, sizeof best, "Lt's best %.3f ms (%.2f)", least, ms / least);
    }
    printf("%-66s %9.3f ms %8.1f TFLOP/s %7.0f GB/s (%3.0f %% of a copy) %s %s\n", name, ms, flops / ms / 1e9,
           bytes / ms / 1e6, 100 * bytes / ms / 1e-3 / copy_bytes_per_s, same ? "same bits" : "OTHER BITS", best);
    fflush(stdout);
}

static dsc_shape shape_of(dsc_kernel kernel, int out, int32_t flags, int64_t d0, int64_t d1, int64_t d2, int64_t d3,
                          int64_t d4)
{
    return (dsc_shape){.kernel = (int16_t)kernel, .type = DSC_BF16, .out = (int8_t)out, .flags = flags,
                       .d = {d0, d1, d2, d3, d4}};
}

/* y = x w + b, its two gradients and that of the bias. */
static int64_t add_linear(dsc_shape *list, int64_t count, int64_t rows, int64_t n, int64_t k, int32_t flags)
{
    list[count++] = shape_of(DSC_K_GEMM, DSC_BF16, flags, rows, n, k, 0, 0);
    list[count++] = shape_of(DSC_K_GEMM, DSC_BF16, DSC_TRANS_B, rows, k, n, 0, 0);
    list[count++] = shape_of(DSC_K_GEMM, DSC_FP32, DSC_TRANS_A | DSC_ACCUMULATE, k, n, rows, 0, 0);
    list[count++] = shape_of(DSC_K_COLUMN_SUM, DSC_FP32, DSC_ACCUMULATE, rows, n, 0, 0, 0);
    return count;
}

static int64_t list_shapes(const model *m, dsc_shape *list)
{
    const int64_t rows = m->batch * m->seq, c = m->hidden, d = c / m->heads, b = m->batch, t = m->seq;
    int64_t i = 0;

    i = add_linear(list, i, rows, 3 * c, c, DSC_HAS_BIAS);
    i = add_linear(list, i, rows, c, c, DSC_HAS_BIAS | DSC_HAS_RESIDUAL);
    i = add_linear(list, i, rows, 4 * c, c, DSC_HAS_BIAS);
    i = add_linear(list, i, rows, c, 4 * c, DSC_HAS_BIAS | DSC_HAS_RESIDUAL);
    list[i++] = shape_of(DSC_K_GEMM, DSC_BF16, DSC_TRANS_B, rows, m->padded, c, 0, 0);
    list[i++] = shape_of(DSC_K_GEMM, DSC_BF16, 0, rows, c, m->padded, 0, 0);
    list[i++] = shape_of(DSC_K_GEMM, DSC_FP32, DSC_TRANS_A, m->padded, c, rows, 0, 0);
    list[i++] = shape_of(DSC_K_NORM_FWD, DSC_BF16, 0, rows, c, 0, 0, 0);
    list[i++] = shape_of(DSC_K_NORM_BWD_X, DSC_BF16, DSC_HAS_RESIDUAL, rows, c, 0, 0, 0);
    list[i++] = shape_of(DSC_K_NORM_BWD_W, DSC_FP32, DSC_ACCUMULATE, rows, c, 0, 0, 0);
    list[i++] = shape_of(DSC_K_ATTENTION_FWD, DSC_BF16, DSC_CAUSAL, b, t, m->heads, m->heads, d);
    list[i++] = shape_of(DSC_K_ATTENTION_BWD, DSC_BF16, DSC_CAUSAL, b, t, m->heads, m->heads, d);
    list[i++] = shape_of(DSC_K_ATTENTION_FWD, DSC_BF16, 0, b, t, m->heads, m->heads, d);
    list[i++] = shape_of(DSC_K_ATTENTION_BWD, DSC_BF16, 0, b, t, m->heads, m->heads, d);
    list[i++] = shape_of(DSC_K_ATTENTION_FWD, DSC_BF16, DSC_CAUSAL, b, t, DSC_MAX(m->heads / 2, 1),
                         DSC_MAX(m->heads / 2, 1), 128);
    list[i++] = shape_of(DSC_K_ATTENTION_BWD, DSC_BF16, DSC_CAUSAL, b, t, DSC_MAX(m->heads / 2, 1),
                         DSC_MAX(m->heads / 2, 1), 128);
    list[i] = shape_of(DSC_K_ATTENTION_FWD, DSC_FP32, DSC_CAUSAL, b, t, m->heads, m->heads, d);
    list[i++].type = DSC_FP32;
    list[i] = shape_of(DSC_K_ATTENTION_BWD, DSC_FP32, DSC_CAUSAL, b, t, m->heads, m->heads, d);
    list[i++].type = DSC_FP32;
    list[i++] = shape_of(DSC_K_SCORES_FWD, DSC_BF16, DSC_CAUSAL, b, t, m->heads, m->heads, d);
    list[i++] = shape_of(DSC_K_SCORES_BWD, DSC_BF16, DSC_CAUSAL, b, t, m->heads, m->heads, d);
    list[i] = shape_of(DSC_K_ROPE, DSC_BF16, 0, b, t, m->heads, m->heads, d);
    list[i++].d[5] = 10000;
    list[i++] = shape_of(DSC_K_GELU_FWD, DSC_BF16, 0, rows * 4 * c, 0, 0, 0, 0);
    list[i++] = shape_of(DSC_K_GELU_BWD, DSC_BF16, 0, rows * 4 * c, 0, 0, 0, 0);
    list[i++] = shape_of(DSC_K_SWIGLU_FWD, DSC_BF16, 0, rows * 4 * c, 0, 0, 0, 0);
    list[i++] = shape_of(DSC_K_SWIGLU_BWD, DSC_BF16, 0, rows * 4 * c, 0, 0, 0, 0);
    list[i++] = shape_of(DSC_K_JOIN, DSC_BF16, DSC_HAS_BIAS | DSC_HAS_RESIDUAL, rows, c, 0, 0, 0);
    list[i++] = shape_of(DSC_K_EMBED_FWD, DSC_BF16, 0, b, t, c, m->vocab, 0);
    list[i++] = shape_of(DSC_K_EMBED_BWD, DSC_FP32, 0, b, t, c, m->vocab, 0);
    list[i++] = shape_of(DSC_K_CROSS_ENTROPY, DSC_BF16, DSC_ACCUMULATE, b, t, m->vocab, m->padded, 0);
    list[i++] = shape_of(DSC_K_CROSS_ENTROPY_PART, DSC_BF16, 0, b, t, m->vocab, m->padded, m->padded);
    list[i++] = shape_of(DSC_K_SQUARE_SUM, DSC_FP32, 0, m->parameters, 0, 0, 0, 0);
    list[i++] = shape_of(DSC_K_ADAM, DSC_FP32, DSC_DECOUPLED, m->parameters, 0, 0, 0, 0);
    list[i++] = shape_of(DSC_K_CAST, DSC_FP32, DSC_ACCUMULATE, m->parameters, 0, 0, 0, 0);
    list[i] = shape_of(DSC_K_CLEAR, DSC_FP32, 0, m->parameters, 0, 0, 0, 0);
    list[i++].type = DSC_FP32;
    return i;
}

int main(int argc, char **argv)
{
    const model *m = &models[argc > 1 && strcmp(argv[1], models[1].name) == 0];
    struct cudaDeviceProp device;
    dsc_shape list[64];
    const int64_t count = list_shapes(m, list);

    must(cudaGetDeviceProperties(&device, 0));
    open_memory(m);
    host_copy = malloc(64 << 20);
    if (host_copy == NULL) fail("memory", "no copy");
    copy_bytes_per_s = 2 * (double)(2LL << 30) / median_ms(run_copy, NULL) * 1e3;
    printf("%s, GPT-2 %s, %lld x %lld tokens; a copy moves %.0f GB/s\n", device.name, m->name, (long long)m->batch,
           (long long)m->seq, copy_bytes_per_s / 1e9);
    for (int64_t i = 0; i < count; i++)
        if (argc < 3 || strcmp(argv[2], dsc_kernel_name((dsc_kernel)list[i].kernel)) == 0) measure(list[i]);
    return 0;
}
