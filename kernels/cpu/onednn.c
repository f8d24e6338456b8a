#include "kernels/cpu/cpu.h"
#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* A shape's primitive. Memory objects are made with it, and only their addresses change from call to call. */
typedef struct product {
    struct product *next; /* in its bucket */
    dsc_shape shape;
    dnnl_primitive_t primitive; /* NULL: oneDNN has no fast way within the workspace */
    int threads;                /* it was compiled for */
    int arguments;
    struct { int id, operand; dnnl_memory_t memory; } argument[6];
} product;

enum { BUCKETS = 256, WORKSPACE = -1 /* in place of an operand */ };

static struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    product *buckets[BUCKETS];
} state;

#define CALL(expression) DSC_TRY(check((expression), #expression))

static dsc_status check(dnnl_status_t code, const char *expression)
{
    if (code == dnnl_success) return DSC_OK;
    if (code == dnnl_out_of_memory) return DSC_FAIL(DSC_ENOMEM, "oneDNN has no memory for %s", expression);
    return DSC_FAIL(DSC_EINTERNAL, "oneDNN error %d in %s", (int)code, expression);
}

static dsc_status open_engine(void)
{
    dsc_status status = DSC_OK;

    if (state.engine == NULL) CALL(dnnl_engine_create(&state.engine, dnnl_cpu, 0));
    if (state.stream == NULL) CALL(dnnl_stream_create(&state.stream, state.engine, dnnl_stream_default_flags));
out:
    return status;
}

static product **bucket_of(const dsc_shape *shape)
{
    const unsigned char *bytes = (const unsigned char *)shape;
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */

    for (size_t i = 0; i < sizeof *shape; i++) hash = (hash ^ bytes[i]) * 0x100000001b3;
    return &state.buckets[hash % BUCKETS];
}

static product *find(const dsc_shape *shape)
{
    product *p = *bucket_of(shape);

    while (p != NULL && memcmp(&p->shape, shape, sizeof *shape) != 0) p = p->next;
    return p;
}

static void destroy(product *p)
{
    if (p == NULL) return;
    for (int i = 0; i < p->arguments; i++) dnnl_memory_destroy(p->argument[i].memory);
    if (p->primitive != NULL) dnnl_primitive_destroy(p->primitive);
    free(p);
}

void dsc_onednn_forget(void)
{
    for (int i = 0; i < BUCKETS; i++)
        while (state.buckets[i] != NULL) {
            product *p = state.buckets[i];

            state.buckets[i] = p->next;
            destroy(p);
        }
}

/* ---- Describing a product */

static dnnl_data_type_t type_of(int type) { return type == DSC_FP32 ? dnnl_f32 : dnnl_bf16; }

/* A row-major matrix, or one stored transposed. */
static dsc_status describe(int64_t rows, int64_t cols, bool transposed, int type, dnnl_memory_desc_t *out)
{
    const dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : cols, transposed ? rows : 1};
    dsc_status status = DSC_OK;

    CALL(dnnl_memory_desc_init_by_strides(out, 2, dims, type_of(type), strides));
out:
    return status;
}

typedef struct matrices { dnnl_memory_desc_t a, b, bias, residual, out; } matrices;

static dsc_status describe_all(const dsc_shape *s, matrices *m)
{
    const int64_t *d = s->d;
    dsc_status status = DSC_OK;

    DSC_TRY(describe(d[0], d[2], s->flags & DSC_TRANS_A, s->type, &m->a));
    DSC_TRY(describe(d[2], d[1], s->flags & DSC_TRANS_B, s->type, &m->b));
    DSC_TRY(describe(1, d[1], false, s->type, &m->bias));
    DSC_TRY(describe(d[0], d[1], false, s->type, &m->residual));
    DSC_TRY(describe(d[0], d[1], false, s->out, &m->out));
out:
    return status;
}

static dsc_status set_attributes(const dsc_shape *s, const matrices *m, dnnl_primitive_attr_t attributes)
{
    dnnl_post_ops_t after = NULL;
    dsc_status status = DSC_OK;

    CALL(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user));
    CALL(dnnl_post_ops_create(&after));
    if (s->flags & DSC_ACCUMULATE) CALL(dnnl_post_ops_append_sum(after, 1));
    if (s->flags & DSC_HAS_RESIDUAL) CALL(dnnl_post_ops_append_binary(after, dnnl_binary_add, &m->residual));
    CALL(dnnl_primitive_attr_set_post_ops(attributes, after));
out:
    if (after != NULL) dnnl_post_ops_destroy(after);
    return status;
}

static bool is_fast(const_dnnl_primitive_desc_t description)
{
    const char *name = "";

    return dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
           strncmp(name, "ref", 3) != 0;
}

static const dnnl_memory_desc_t *scratch_of(const_dnnl_primitive_desc_t description)
{
    return dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
}

/* The fastest formulation that keeps to the workspace: oneDNN's scratch grows with its threads, so half of them if
 * need be; with less, our own product is faster. *out is NULL when there is none. Leaves OpenMP's number of threads
 * as the one that was found. */
static dsc_status choose(const dsc_shape *s, const matrices *m, dnnl_primitive_desc_t *out)
{
    const size_t bound = (size_t)dsc_kernel_workspace_bytes(s);
    const int most = omp_get_max_threads();
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_matmul_desc_t operation;
    dsc_status status = DSC_OK;

    *out = NULL;
    CALL(dnnl_primitive_attr_create(&attributes));
    DSC_TRY(set_attributes(s, m, attributes));
    CALL(dnnl_matmul_desc_init(&operation, &m->a, &m->b, s->flags & DSC_HAS_BIAS ? &m->bias : NULL, &m->out));
    for (int threads = most; threads > 0 && threads >= most / 2; threads /= 2) {
        dnnl_primitive_desc_t found = NULL;

        omp_set_num_threads(threads);
        if (dnnl_primitive_desc_create(&found, &operation, attributes, state.engine, NULL) != dnnl_success) break;
        if (is_fast(found) && dnnl_memory_desc_get_size(scratch_of(found)) <= bound) {
            *out = found;
            break;
        }
        dnnl_primitive_desc_destroy(found);
    }
out:
    if (attributes != NULL) dnnl_primitive_attr_destroy(attributes);
    return status;
}

/* ---- Making and running */

static dsc_status add_argument(product *p, int id, int operand, const dnnl_memory_desc_t *description)
{
    dsc_status status = DSC_OK;

    CALL(dnnl_memory_create(&p->argument[p->arguments].memory, description, state.engine, DNNL_MEMORY_NONE));
    p->argument[p->arguments].id = id;
    p->argument[p->arguments].operand = operand;
    p->arguments++;
out:
    return status;
}

static dsc_status add_arguments(product *p, const matrices *m, const_dnnl_primitive_desc_t description)
{
    const int residual = DNNL_ARG_ATTR_MULTIPLE_POST_OP(p->shape.flags & DSC_ACCUMULATE ? 1 : 0) | DNNL_ARG_SRC_1;
    dsc_status status = DSC_OK;

    DSC_TRY(add_argument(p, DNNL_ARG_SRC, 0, &m->a));
    DSC_TRY(add_argument(p, DNNL_ARG_WEIGHTS, 1, &m->b));
    if (p->shape.flags & DSC_HAS_BIAS) DSC_TRY(add_argument(p, DNNL_ARG_BIAS, 2, &m->bias));
    if (p->shape.flags & DSC_HAS_RESIDUAL) DSC_TRY(add_argument(p, residual, 3, &m->residual));
    DSC_TRY(add_argument(p, DNNL_ARG_DST, 4, &m->out));
    DSC_TRY(add_argument(p, DNNL_ARG_SCRATCHPAD, WORKSPACE, scratch_of(description)));
out:
    return status;
}

/* fp16 and mixed types other than bf16 to fp32 are not oneDNN's, or only its reference's. */
static bool is_native(const dsc_shape *s)
{
    return s->type == DSC_FP32 ? s->out == DSC_FP32 : s->type == DSC_BF16 && s->out != DSC_FP16;
}

static dsc_status compile(product *p)
{
    dnnl_primitive_desc_t description = NULL;
    matrices m;
    dsc_status status = DSC_OK;

    DSC_TRY(open_engine());
    DSC_TRY(describe_all(&p->shape, &m));
    DSC_TRY(choose(&p->shape, &m, &description));
    if (description == NULL) goto out;
    DSC_TRY(add_arguments(p, &m, description));
    p->threads = omp_get_max_threads();
    CALL(dnnl_primitive_create(&p->primitive, description));
out:
    if (description != NULL) dnnl_primitive_desc_destroy(description);
    return status;
}

dsc_status dsc_onednn_prepare(const dsc_shape *shape)
{
    const int threads = omp_get_max_threads();
    product **bucket = bucket_of(shape), *p = NULL;
    dsc_status status = DSC_OK;

    if (find(shape) != NULL) return DSC_OK;
    p = calloc(1, sizeof *p);
    if (p == NULL) return DSC_FAIL(DSC_ENOMEM, "oneDNN: %zu bytes for a product", sizeof *p);
    p->shape = *shape;
    if (is_native(shape)) DSC_TRY(compile(p));
    p->next = *bucket;
    *bucket = p;
    p = NULL;
out:
    omp_set_num_threads(threads);
    destroy(p);
    return status;
}

static dsc_status execute(product *p, void *const *operands, void *workspace)
{
    dnnl_exec_arg_t arguments[DSC_COUNT(p->argument)];
    dsc_status status = DSC_OK;

    for (int i = 0; i < p->arguments; i++) {
        void *address = p->argument[i].operand == WORKSPACE ? workspace : operands[p->argument[i].operand];

        CALL(dnnl_memory_set_data_handle_v2(p->argument[i].memory, address, state.stream));
        arguments[i] = (dnnl_exec_arg_t){p->argument[i].id, p->argument[i].memory};
    }
    CALL(dnnl_primitive_execute(p->primitive, state.stream, p->arguments, arguments));
    CALL(dnnl_stream_wait(state.stream));
out:
    return status;
}

dsc_status dsc_onednn_gemm(const dsc_shape *shape, void *const *operands, void *workspace, bool *done)
{
    const int threads = omp_get_max_threads();
    dsc_status status = DSC_OK;
    product *p;

    *done = false;
    DSC_TRY(dsc_onednn_prepare(shape));
    p = find(shape);
    if (p->primitive == NULL) goto out;
    if (p->threads != threads) omp_set_num_threads(p->threads);
    status = execute(p, operands, workspace);
    if (p->threads != threads) omp_set_num_threads(threads);
    *done = status == DSC_OK;
out:
    return status;
}
