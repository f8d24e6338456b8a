/* Products by cuBLASLt: bias, and one matrix that is added, in its epilogue; what it does not take is left to our own.
 * The library is opened when the first product is prepared, so that the tools start where it is not. */
#include "base/array.h"
#include "device/cuda.h"
#include "kernel/step.h"
#include "kernels/cuda/set.h"
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16 }; /* of all addresses; others are for our own product */

/* ---- The library */

#define FUNCTIONS(F)                                                                                            \
    F(Create) F(MatmulDescCreate) F(MatmulDescSetAttribute) F(MatrixLayoutCreate) F(MatmulPreferenceCreate)     \
    F(MatmulPreferenceSetAttribute) F(MatmulPreferenceDestroy) F(MatmulAlgoGetHeuristic) F(Matmul)

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

/* The first of the library's own ranking: timing several would choose differently from run to run, and their bits
 * differ. No reduction within the result, whose order is nobody's. */
static dsc_status choose(product *p)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t alignment = ALIGNMENT;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    const uint64_t workspace = (uint64_t)dsc_kernel_workspace_bytes(&p->shape);
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    cublasStatus_t found;
    int count = 0;
    dsc_status status = DSC_OK;

    TRY_LT(MatmulPreferenceCreate, &preference);
    TRY_LT(MatmulPreferenceSetAttribute, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
           sizeof workspace);
    TRY_LT(MatmulPreferenceSetAttribute, preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
           sizeof reductions);
    for (int i = 0; i < DSC_COUNT(alignments); i++)
        TRY_LT(MatmulPreferenceSetAttribute, preference, alignments[i], &alignment, sizeof alignment);
    found = lt.MatmulAlgoGetHeuristic(lt.handle, p->desc, p->b, p->a, p->out, p->out, preference, 1, &result, &count);
    if (found != CUBLAS_STATUS_NOT_SUPPORTED) DSC_TRY(status_of(found, "cublasLtMatmulAlgoGetHeuristic"));
    p->is_taken = count > 0;
    if (p->is_taken) p->algo = result.algo;
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
out:
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

dsc_status dsc_cuda_gemm(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const float one = 1, added = s->flags & (DSC_HAS_RESIDUAL | DSC_ACCUMULATE) ? 1 : 0;
    const void *residual = s->flags & DSC_HAS_RESIDUAL ? o[3] : o[4];
    product *p;
    dsc_status status = DSC_OK;

    DSC_TRY(find_product(s, &p));
    if (!p->is_taken || !are_aligned(o)) return dsc_cuda_product(s, o, workspace, step);
    if (s->flags & DSC_HAS_BIAS)
        TRY_LT(MatmulDescSetAttribute, p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o[2], sizeof o[2]);
    TRY_LT(Matmul, lt.handle, p->desc, &one, o[1], p->b, o[0], p->a, &added, residual, p->out, o[4], p->out, &p->algo,
           workspace, (size_t)dsc_kernel_workspace_bytes(s), dsc_cuda_stream());
out:
    return status;
}
