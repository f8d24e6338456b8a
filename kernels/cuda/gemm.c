/* Products by cuBLASLt: bias, and one matrix that is added, in its epilogue; what it does not take is left to our own.
 * The library is opened when the first product is prepared, so that the tools start where it is not. */
#include "base/array.h"
#include "base/log.h"
#include "device/cuda.h"
#include "kernel/step.h"
#include "kernels/cuda/set.h"
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, CANDIDATES = 16 }; /* of all addresses, others are for our own product; algorithms looked at */

/* ---- The library */

#define FUNCTIONS(F)                                                                                            \
    F(Create) F(MatmulDescCreate) F(MatmulDescDestroy) F(MatmulDescSetAttribute) F(MatrixLayoutCreate)          \
    F(MatrixLayoutDestroy) F(MatmulPreferenceCreate) F(MatmulPreferenceSetAttribute)                            \
    F(MatmulPreferenceDestroy) F(MatmulAlgoGetHeuristic) F(Matmul)

static struct {
    cublasLtHandle_t handle;
#define F(name) __typeof__(&cublasLt##name) name;
    FUNCTIONS(F)
#undef F
} lt;

static dsc_status status_of(cublasStatus_t error, const char *what)
{
    if (error == CUBLAS_STATUS_SUCCESS) return DSC_OK;
    return DSC_FAIL(DSC_EINTERNAL, "%s: cuBLASLt's status %d", what, (int)error);
}

#define TRY_LT(name, ...) DSC_TRY(status_of(lt.name(__VA_ARGS__), "cublasLt" #name))

#define WORD_(x) #x
#define WORD(x) WORD_(x)

/* By its name, as the loader finds it, else where the toolkit was at build time. */
static dsc_status open_library(void)
{
    static const char *const names[] = {"libcublasLt.so." WORD(CUBLAS_VER_MAJOR),
                                        CUDA_LIBDIR "/libcublasLt.so." WORD(CUBLAS_VER_MAJOR)};
    void *library = NULL;
    dsc_status status = DSC_OK;

    if (lt.handle != NULL) return DSC_OK;
    for (int i = 0; library == NULL && i < DSC_COUNT(names); i++) library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return DSC_FAIL(DSC_ENOTSUP, "matrix products on CUDA: %s", dlerror());
#define F(name)                                                                  \
    lt.name = (__typeof__(lt.name))dlsym(library, "cublasLt" #name);             \
    if (lt.name == NULL) return DSC_FAIL(DSC_ENOTSUP, "matrix products on CUDA: %s", dlerror());
    FUNCTIONS(F)
#undef F
    TRY_LT(Create, &lt.handle);
out:
    return status;
}

/* ---- Shapes that were prepared */

typedef struct product {
    dsc_shape shape;
    bool is_taken; /* by cuBLASLt */
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, out; /* of the library's order: out' = b' a' */
    cublasLtMatmulAlgo_t algo;
} product;

static struct { product *items; int64_t count, capacity; } products;

static cudaDataType_t type_of(int type)
{
    return type == DSC_FP32 ? CUDA_R_32F : type == DSC_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

/* One matrix can be added, of the result's type, which a bias has to be of too. */
static bool is_for_lt(const dsc_shape *s)
{
    const int32_t both = DSC_HAS_RESIDUAL | DSC_ACCUMULATE;

    if ((s->flags & both) == both) return false;
    return s->type == s->out || !(s->flags & (DSC_HAS_BIAS | DSC_HAS_RESIDUAL));
}

/* Row-major matrices are what the library sees turned: its left side is our b. */
static dsc_status describe(product *p)
{
    const dsc_shape *s = &p->shape;
    const int64_t m = s->d[0], n = s->d[1], k = s->d[2];
    const bool trans_a = s->flags & DSC_TRANS_A, trans_b = s->flags & DSC_TRANS_B;
    const cublasOperation_t left = trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, right = trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    dsc_status status = DSC_OK;

    TRY_LT(MatmulDescCreate, &p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    TRY_LT(MatmulDescSetAttribute, p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left);
    TRY_LT(MatmulDescSetAttribute, p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right);
    if (s->flags & DSC_HAS_BIAS)
        TRY_LT(MatmulDescSetAttribute, p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    TRY_LT(MatrixLayoutCreate, &p->b, type_of(s->type), (uint64_t)(trans_b ? k : n), (uint64_t)(trans_b ? n : k),
           trans_b ? k : n);
    TRY_LT(MatrixLayoutCreate, &p->a, type_of(s->type), (uint64_t)(trans_a ? m : k), (uint64_t)(trans_a ? k : m),
           trans_a ? m : k);
    TRY_LT(MatrixLayoutCreate, &p->out, type_of(s->out), (uint64_t)n, (uint64_t)m, n);
out:
    return status;
}

static void fini(product *p)
{
    if (p->desc != NULL) lt.MatmulDescDestroy(p->desc);
    if (p->a != NULL) lt.MatrixLayoutDestroy(p->a);
    if (p->b != NULL) lt.MatrixLayoutDestroy(p->b);
    if (p->out != NULL) lt.MatrixLayoutDestroy(p->out);
}

/* The library wants more of the workspace's address than the contract promises. */
enum { WORKSPACE_ALIGNMENT = 256 };

static void *workspace_at(void *workspace)
{
    return (void *)(((uintptr_t)workspace + WORKSPACE_ALIGNMENT - 1) / WORKSPACE_ALIGNMENT * WORKSPACE_ALIGNMENT);
}

static size_t workspace_left(const dsc_shape *shape)
{
    return (size_t)dsc_kernel_workspace_bytes(shape) - WORKSPACE_ALIGNMENT;
}

static dsc_status multiply(const product *p, void *const *o, void *workspace, cublasStatus_t *out)
{
    const float one = 1, added = p->shape.flags & (DSC_HAS_RESIDUAL | DSC_ACCUMULATE) ? 1 : 0;
    const void *residual = p->shape.flags & DSC_HAS_RESIDUAL ? o[3] : o[4];
    dsc_status status = DSC_OK;

    if (p->shape.flags & DSC_HAS_BIAS)
        TRY_LT(MatmulDescSetAttribute, p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o[2], sizeof o[2]);
    *out = lt.Matmul(lt.handle, p->desc, &one, o[1], p->b, o[0], p->a, &added, residual, p->out, o[4], p->out,
                     &p->algo, workspace_at(workspace), workspace_left(&p->shape), dsc_cuda_stream());
out:
    return status;
}

/* ---- Whether an algorithm rounds once. Some round a 16-bit product, or its sum with the bias, before they add the
 * rest, which can be seen where terms all but cancel: with e the storage type's last place at 1, (1 + e)^2 - (1 + 2 e)
 * is e^2, and 0 where the square was rounded. */

enum { PROBE_ROWS = 128 };

typedef struct probe { product p; void *operands[DSC_KERNEL_OPERANDS], *workspace; } probe;

static const struct { uint16_t one_e, added, square; } probe_bits[] = {
    [DSC_BF16] = {0x3f81, 0xbf82, 0x3880}, /* e = 2^-7 */
    [DSC_FP16] = {0x3c01, 0xbc02, 0x0010}, /* e = 2^-10 */
};

/* Of a product over the first row and column only. */
static dsc_status put_line(void *to, bool is_row, int64_t count, int64_t width, uint16_t bits)
{
    uint16_t *line = malloc((size_t)count * sizeof *line);
    dsc_status status = DSC_OK;

    if (line == NULL) return DSC_FAIL(DSC_ENOMEM, "%lld halves", (long long)count);
    for (int64_t i = 0; i < count; i++) line[i] = bits;
    if (is_row) DSC_TRY(DSC_CUDA(cudaMemcpy(to, line, (size_t)count * sizeof bits, cudaMemcpyHostToDevice)));
    else
        DSC_TRY(DSC_CUDA(cudaMemcpy2D(to, (size_t)width * sizeof bits, line, sizeof bits, sizeof bits, (size_t)count,
                                      cudaMemcpyHostToDevice)));
out:
    free(line);
    return status;
}

static dsc_status open_probe(const product *p, probe *out)
{
    dsc_shape *s = &out->p.shape;
    dsc_status status = DSC_OK;

    *s = p->shape;
    s->d[0] = DSC_MIN(s->d[0], PROBE_ROWS);
    DSC_TRY(describe(&out->p));
    for (int i = 0; i < 5; i++) {
        const size_t bytes = (size_t)dsc_operand_bytes(s, i);

        if (bytes == 0) continue;
        DSC_TRY(DSC_CUDA(cudaMalloc(&out->operands[i], bytes)));
        DSC_TRY(DSC_CUDA(cudaMemset(out->operands[i], 0, bytes)));
    }
    DSC_TRY(DSC_CUDA(cudaMalloc(&out->workspace, (size_t)dsc_kernel_workspace_bytes(&p->shape))));
    DSC_TRY(put_line(out->operands[0], s->flags & DSC_TRANS_A, s->d[0], s->d[2], probe_bits[s->type].one_e));
    DSC_TRY(put_line(out->operands[1], !(s->flags & DSC_TRANS_B), s->d[1], s->d[2], probe_bits[s->type].one_e));
out:
    return status;
}

static void close_probe(probe *b)
{
    fini(&b->p);
    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++) cudaFree(b->operands[i]);
    cudaFree(b->workspace);
}

static dsc_status put_added(probe *b, int operand, uint16_t bits)
{
    const int64_t elems = dsc_operand_bytes(&b->p.shape, operand) / (int64_t)sizeof bits;

    return elems > 0 ? put_line(b->operands[operand], true, elems, elems, bits) : DSC_OK;
}

/* Whether all of the result is e^2. */
static dsc_status check_squares(probe *b, bool *out)
{
    const size_t bytes = (size_t)dsc_operand_bytes(&b->p.shape, 4);
    uint16_t *result = malloc(bytes);
    dsc_status status = DSC_OK;

    if (result == NULL) return DSC_FAIL(DSC_ENOMEM, "%zu bytes", bytes);
    DSC_TRY(DSC_CUDA(cudaMemcpy(result, b->operands[4], bytes, cudaMemcpyDeviceToHost)));
    *out = true;
    for (size_t i = 0; i < bytes / sizeof *result; i++) *out &= result[i] == probe_bits[b->p.shape.type].square;
out:
    free(result);
    return status;
}

/* Where the bias, or what else is added, cancels the product; the others are zero. */
static dsc_status rounds_once(probe *b, const cublasLtMatmulAlgo_t *algo, bool *out)
{
    enum { BIAS = 2, RESIDUAL, OUT };
    const int32_t flags = b->p.shape.flags;
    const int others = flags & DSC_HAS_RESIDUAL ? RESIDUAL : OUT;
    cublasStatus_t done;
    dsc_status status = DSC_OK;

    *out = true;
    b->p.algo = *algo;
    for (int added = BIAS; *out && added <= OUT; added++) {
        if (added == BIAS ? !(flags & DSC_HAS_BIAS) : added != others || !(flags & (DSC_HAS_RESIDUAL | DSC_ACCUMULATE)))
            continue;
        for (int i = BIAS; i <= OUT; i++)
            DSC_TRY(put_added(b, i, i == added ? probe_bits[b->p.shape.type].added : 0));
        DSC_TRY(DSC_CUDA(cudaDeviceSynchronize()));
        DSC_TRY(multiply(&b->p, b->operands, b->workspace, &done));
        DSC_TRY(DSC_CUDA(cudaStreamSynchronize(dsc_cuda_stream())));
        if (done != CUBLAS_STATUS_SUCCESS) *out = false; /* not for fewer rows */
        else DSC_TRY(check_squares(b, out));
    }
out:
    return status;
}

/* The first that does, of `count`; count: none. */
static dsc_status find_rounding(const product *p, const cublasLtMatmulHeuristicResult_t *found, int count, int *out)
{
    probe b = {0};
    bool is_found = false;
    dsc_status status = DSC_OK;

    *out = 0;
    if (p->shape.out == DSC_FP32 || !(p->shape.flags & (DSC_HAS_BIAS | DSC_HAS_RESIDUAL | DSC_ACCUMULATE)))
        return DSC_OK;
    DSC_TRY(open_probe(p, &b));
    for (; *out < count; ++*out) {
        DSC_TRY(rounds_once(&b, &found[*out].algo, &is_found));
        if (is_found) break;
    }
out:
    close_probe(&b);
    return status;
}

/* The first of the library's own ranking that rounds once: timing several would choose differently from run to run,
 * and their bits differ. Parts of a sum are reduced in fp32, in the workspace: the result is rounded once. */
static dsc_status choose(product *p)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t alignment = ALIGNMENT;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint64_t workspace = workspace_left(&p->shape);
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t results[CANDIDATES];
    cublasStatus_t found;
    int count = 0, first;
    dsc_status status = DSC_OK;

    TRY_LT(MatmulPreferenceCreate, &preference);
    TRY_LT(MatmulPreferenceSetAttribute, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
           sizeof workspace);
    TRY_LT(MatmulPreferenceSetAttribute, preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
           sizeof reductions);
    for (int i = 0; i < DSC_COUNT(alignments); i++)
        TRY_LT(MatmulPreferenceSetAttribute, preference, alignments[i], &alignment, sizeof alignment);
    found = lt.MatmulAlgoGetHeuristic(lt.handle, p->desc, p->b, p->a, p->out, p->out, preference, CANDIDATES,
                                      results, &count);
    if (found != CUBLAS_STATUS_NOT_SUPPORTED) DSC_TRY(status_of(found, "cublasLtMatmulAlgoGetHeuristic"));
    DSC_TRY(find_rounding(p, results, count, &first));
    p->is_taken = first < count;
    if (p->is_taken) p->algo = results[first].algo;
out:
    if (preference != NULL) lt.MatmulPreferenceDestroy(preference);
    return status;
}

static dsc_status find_product(const dsc_shape *shape, product **out)
{
    product p = {.shape = *shape};
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < products.count; i++)
        if (memcmp(&products.items[i].shape, shape, sizeof *shape) == 0) return *out = &products.items[i], DSC_OK;
    if (is_for_lt(shape)) {
        DSC_TRY(open_library());
        DSC_TRY(describe(&p));
        DSC_TRY(choose(&p));
    }
    DSC_TRY(DSC_PUSH(products.items, products.count, products.capacity, p));
    *out = &products.items[products.count - 1];
    p = (product){0}; /* ownership has moved */
out:
    fini(&p);
    return status;
}

dsc_status dsc_cuda_gemm_prepare(const dsc_shape *shape)
{
    product *p;

    return find_product(shape, &p);
}

static bool are_aligned(void *const *operands)
{
    for (int i = 0; i < 5; i++)
        if ((uintptr_t)operands[i] % ALIGNMENT != 0) return false;
    return true;
}

/* A slow way is no secret. */
static void tell(const dsc_shape *shape, const char *why)
{
    static bool is_told;
    char name[256];

    if (is_told) return;
    is_told = true;
    dsc_shape_print(shape, name, sizeof name);
    dsc_log(DSC_WARNING, "%s, and others: %s, so our own slower product makes it", name, why);
}

dsc_status dsc_cuda_gemm(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    cublasStatus_t done;
    product *p;
    dsc_status status = DSC_OK;

    DSC_TRY(find_product(s, &p));
    if (!p->is_taken || !are_aligned(o)) {
        tell(s, p->is_taken ? "its operands are at no multiples of 16 bytes" : "cuBLASLt does not have it");
        return dsc_cuda_product(s, o, workspace, step);
    }
    DSC_TRY(multiply(p, o, workspace, &done));
    status = status_of(done, "cublasLtMatmul");
out:
    return status;
}
