#include "kernel/blocks.h"
#include "kernels/ref/ref.h"
#include <math.h>

/* A row of scores lies on the stack: longer sequences are for the overlays. */
enum { LONGEST = 1 << 16 };

/* Where query head h of one sequence lies: rows of qkv hold q | k | v, and query heads in order share key heads. */
typedef struct head {
    const void *qkv;
    int type;
    int64_t t_max, d_max, width;   /* width of a row of qkv */
    int64_t q, k, v;               /* index in qkv of element 0 of row 0 */
    int64_t context, context_width;
    int64_t rows;                  /* index of (b, h, 0) in [B, H, T] */
    double scale;
    bool causal;
    bool is_sparse;
    dsc_blocks blocks;
    int64_t list;                  /* the head's first */
    const float *mask;             /* of the sequence's keys; NULL */
    const float *lse;              /* the probabilities are exp(score - lse), or */
    const void *probabilities;     /* stored */
} head;

/* The operands of attention, by name. */
typedef struct call {
    const void *dcontext, *qkv;
    void *context;                 /* forward writes it */
    float *lse;                    /* forward writes these too, whichever is not NULL */
    void *probabilities;
    void *layout;
    const float *mask;
    void *dqkv;
} call;

static head find_head(const dsc_shape *shape, const call *c, int64_t b, int64_t h)
{
    const int64_t t = shape->d[1], heads = shape->d[2], kv_heads = shape->d[3], d = shape->d[4];
    const int64_t width = (heads + 2 * kv_heads) * d, kv = h / (heads / kv_heads);

    const bool is_sparse = shape->flags & DSC_HAS_LAYOUT;
    const dsc_blocks blocks = is_sparse ? dsc_blocks_of(shape, c->layout) : (dsc_blocks){0};

    return (head){
        .qkv = c->qkv, .type = shape->type,
        .t_max = t, .d_max = d, .width = width,
        .q = b * t * width + h * d,
        .k = b * t * width + (heads + kv) * d,
        .v = b * t * width + (heads + kv_heads + kv) * d,
        .context = (b * t * heads + h) * d, .context_width = heads * d,
        .rows = (b * heads + h) * t,
        .scale = 1 / sqrt((double)d),
        .causal = shape->flags & DSC_CAUSAL,
        .is_sparse = is_sparse, .blocks = blocks, .list = h * blocks.n,
        .mask = c->mask == NULL ? NULL : c->mask + b * t,
        .lse = c->lse, .probabilities = c->probabilities,
    };
}

static bool sees(const head *at, int64_t query, int64_t key)
{
    const dsc_blocks *blocks = &at->blocks;

    if (at->causal && key > query) return false;
    if (!at->is_sparse) return true;
    const int64_t row = at->list + query / blocks->side;
    for (int64_t i = blocks->row_start[row]; i < blocks->row_start[row + 1]; i++)
        if (blocks->columns[i] == key / blocks->side) return true;
    return false;
}

static dsc_status check_length(const dsc_shape *shape)
{
    const int64_t rows = shape->d[2] / shape->d[3] * shape->d[1];

    if (rows > LONGEST)
        return DSC_FAIL(DSC_ENOTSUP, "%s: reference kernels hold %d rows of T * H / Hkv, not %lld",
                        dsc_kernel_name((dsc_kernel)shape->kernel), LONGEST, (long long)rows);
    return DSC_OK;
}

static double dot(const void *x, int64_t i, const void *y, int64_t j, int64_t count, int type)
{
    double sum = 0;

    for (int64_t c = 0; c < count; c++) sum += (double)dsc_load(x, i + c, type) * dsc_load(y, j + c, type);
    return sum;
}

/* Minus infinity where the query does not see the key. */
static double score(const head *at, int64_t query, int64_t key)
{
    if (!sees(at, query, key)) return -INFINITY;
    return (at->mask == NULL ? 0 : at->mask[key]) +
           at->scale * dot(at->qkv, at->q + query * at->width, at->qkv, at->k + key * at->width, at->d_max, at->type);
}

/* p[key] = softmax of the query's scores, 0 where it sees no key at all; returns the log of the sum of exponentials,
 * infinity there. */
static double softmax(const head *at, int64_t query, double *p)
{
    double largest = -INFINITY, sum = 0;

    for (int64_t key = 0; key < at->t_max; key++) p[key] = score(at, query, key);
    for (int64_t key = 0; key < at->t_max; key++) largest = fmax(largest, p[key]);
    for (int64_t key = 0; key < at->t_max; key++) sum += p[key] = p[key] == -INFINITY ? 0 : exp(p[key] - largest);
    if (sum == 0) return INFINITY;
    for (int64_t key = 0; key < at->t_max; key++) p[key] /= sum;
    return largest + log(sum);
}

/* context[query] = sum over keys of p v. */
static void store_context(const head *at, int64_t query, const double *p, void *context)
{
    for (int64_t c = 0; c < at->d_max; c++) {
        double sum = 0;

        for (int64_t key = 0; key < at->t_max; key++)
            sum += p[key] == 0 ? 0 : p[key] * dsc_load(at->qkv, at->v + key * at->width + c, at->type);
        dsc_store(context, at->context + query * at->context_width + c, at->type, sum);
    }
}

static dsc_status forward(const dsc_shape *shape, const call *c)
{
    const int64_t t_max = shape->d[1], heads = shape->d[2];
    dsc_status status = DSC_OK;

    DSC_TRY(check_length(shape));
#pragma omp parallel for
    for (int64_t unit = 0; unit < shape->d[0] * heads; unit++) {
        const head at = find_head(shape, c, unit / heads, unit % heads);
        double p[t_max];

        for (int64_t query = 0; query < t_max; query++) {
            const double row_lse = softmax(&at, query, p);

            store_context(&at, query, p, c->context);
            if (c->lse != NULL) c->lse[at.rows + query] = (float)row_lse;
            for (int64_t key = 0; c->probabilities != NULL && key < t_max; key++)
                dsc_store(c->probabilities, (at.rows + query) * t_max + key, at.type, p[key]);
        }
    }
out:
    return status;
}

static double probability(const head *at, int64_t query, int64_t key)
{
    if (!sees(at, query, key)) return 0;
    if (at->probabilities != NULL)
        return dsc_load(at->probabilities, (at->rows + query) * at->t_max + key, at->type);
    return exp(score(at, query, key) - at->lse[at->rows + query]);
}

/* The gradient of a probability: dcontext . v. */
static double dp(const head *at, const void *dcontext, int64_t query, int64_t key)
{
    return dot(dcontext, at->context + query * at->context_width, at->qkv, at->v + key * at->width, at->d_max,
               at->type);
}

/* ds = p (dp - delta) scale, the gradient of the unscaled score. */
static double score_gradient(const head *at, const void *dcontext, double delta, int64_t query, int64_t key)
{
    if (!sees(at, query, key)) return 0;
    return probability(at, query, key) * (dp(at, dcontext, query, key) - delta) * at->scale;
}

/* dq[query] = sum over keys of ds k. */
static void store_dq(const head *at, const call *c, const double *delta)
{
    double ds[at->t_max];

    for (int64_t query = 0; query < at->t_max; query++) {
        for (int64_t key = 0; key < at->t_max; key++)
            ds[key] = score_gradient(at, c->dcontext, delta[query], query, key);
        for (int64_t column = 0; column < at->d_max; column++) {
            double sum = 0;

            for (int64_t key = 0; key < at->t_max; key++)
                if (sees(at, query, key))
                    sum += ds[key] * dsc_load(at->qkv, at->k + key * at->width + column, at->type);
            dsc_store(c->dqkv, at->q + query * at->width + column, at->type, sum);
        }
    }
}

/* dk[key] = sum of ds q, dv[key] = sum of p dcontext, over the queries of the `count` heads that share the key. */
static void store_dkv(const head *heads, int64_t count, const call *c, const double *delta)
{
    const int64_t t_max = heads->t_max;
    double p[count * t_max], ds[count * t_max];

    for (int64_t key = 0; key < t_max; key++) {
        for (int64_t i = 0; i < count * t_max; i++) {
            p[i] = probability(&heads[i / t_max], i % t_max, key);
            ds[i] = score_gradient(&heads[i / t_max], c->dcontext, delta[i], i % t_max, key);
        }
        for (int64_t column = 0; column < heads->d_max; column++) {
            double dk = 0, dv = 0;

            for (int64_t i = 0; i < count * t_max; i++) {
                const head *at = &heads[i / t_max];

                if (!sees(at, i % t_max, key)) continue;
                dk += ds[i] * dsc_load(at->qkv, at->q + i % t_max * at->width + column, at->type);
                dv += p[i] * dsc_load(c->dcontext, at->context + i % t_max * at->context_width + column, at->type);
            }
            dsc_store(c->dqkv, heads->k + key * heads->width + column, heads->type, dk);
            dsc_store(c->dqkv, heads->v + key * heads->width + column, heads->type, dv);
        }
    }
}

/* Both backward kernels; a unit is the query heads that share a key head. delta[query] = sum over keys of p dp. */
static dsc_status backward(const dsc_shape *shape, const call *c)
{
    const int64_t t_max = shape->d[1], kv_heads = shape->d[3], count = shape->d[2] / kv_heads;
    dsc_status status = DSC_OK;

    DSC_TRY(check_length(shape));
#pragma omp parallel for
    for (int64_t unit = 0; unit < shape->d[0] * kv_heads; unit++) {
        head heads[count];
        double delta[count * t_max];

        for (int64_t h = 0; h < count; h++) {
            heads[h] = find_head(shape, c, unit / kv_heads, unit % kv_heads * count + h);
            for (int64_t query = 0; query < t_max; query++) {
                double sum = 0;

                for (int64_t key = 0; key < t_max; key++)
                    if (sees(&heads[h], query, key))
                        sum += probability(&heads[h], query, key) * dp(&heads[h], c->dcontext, query, key);
                delta[h * t_max + query] = sum;
            }
            store_dq(&heads[h], c, delta + h * t_max);
        }
        store_dkv(heads, count, c, delta);
    }
out:
    return status;
}

dsc_status dsc_ref_attention_fwd(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return forward(shape, &(call){.qkv = o[0], .context = o[1], .lse = o[2], .layout = o[3], .mask = o[4]});
}

dsc_status dsc_ref_attention_bwd(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return backward(shape, &(call){.dcontext = o[0], .qkv = o[1], .lse = o[3], .dqkv = o[4], .layout = o[5],
                                   .mask = o[6]});
}

dsc_status dsc_ref_scores_fwd(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return forward(shape, &(call){.qkv = o[0], .context = o[1], .probabilities = o[2]});
}

dsc_status dsc_ref_scores_bwd(const dsc_shape *shape, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return backward(shape, &(call){.dcontext = o[0], .qkv = o[1], .probabilities = o[2], .dqkv = o[3]});
}
