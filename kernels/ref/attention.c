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
    const float *lse;              /* the probabilities are exp(score - lse), or */
    const void *probabilities;     /* stored */
} head;

static head find_head(const dsc_shape *shape, const void *qkv, int64_t b, int64_t h)
{
    const int64_t t = shape->d[1], heads = shape->d[2], kv_heads = shape->d[3], d = shape->d[4];
    const int64_t width = (heads + 2 * kv_heads) * d, kv = h / (heads / kv_heads);

    return (head){
        .qkv = qkv, .type = shape->type,
        .t_max = t, .d_max = d, .width = width,
        .q = b * t * width + h * d,
        .k = b * t * width + (heads + kv) * d,
        .v = b * t * width + (heads + kv_heads + kv) * d,
        .context = (b * t * heads + h) * d, .context_width = heads * d,
        .rows = (b * heads + h) * t,
        .scale = 1 / sqrt((double)d),
        .causal = shape->flags & DSC_CAUSAL,
    };
}

static int64_t keys_of(const head *at, int64_t query) { return at->causal ? query + 1 : at->t_max; }

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

static double score(const head *at, int64_t query, int64_t key)
{
    return at->scale *
           dot(at->qkv, at->q + query * at->width, at->qkv, at->k + key * at->width, at->d_max, at->type);
}

/* p[key] = softmax of the query's scores, 0 where masked; returns the log of the sum of exponentials. */
static double softmax(const head *at, int64_t query, double *p)
{
    const int64_t keys = keys_of(at, query);
    double largest = -INFINITY, sum = 0;

    for (int64_t key = 0; key < keys; key++) p[key] = score(at, query, key);
    for (int64_t key = 0; key < keys; key++) largest = fmax(largest, p[key]);
    for (int64_t key = 0; key < keys; key++) sum += p[key] = exp(p[key] - largest);
    for (int64_t key = 0; key < keys; key++) p[key] /= sum;
    for (int64_t key = keys; key < at->t_max; key++) p[key] = 0;
    return largest + log(sum);
}

/* context[query] = sum over keys of p v. */
static void store_context(const head *at, int64_t query, const double *p, void *context)
{
    for (int64_t c = 0; c < at->d_max; c++) {
        double sum = 0;

        for (int64_t key = 0; key < keys_of(at, query); key++)
            sum += p[key] * dsc_load(at->qkv, at->v + key * at->width + c, at->type);
        dsc_store(context, at->context + query * at->context_width + c, at->type, sum);
    }
}

/* Both forward kernels: keeps lse or the probabilities, whichever is not NULL. */
static dsc_status forward(const dsc_shape *shape, const void *qkv, void *context, float *lse, void *probabilities)
{
    const int64_t t_max = shape->d[1], heads = shape->d[2];
    dsc_status status = DSC_OK;

    DSC_TRY(check_length(shape));
#pragma omp parallel for
    for (int64_t unit = 0; unit < shape->d[0] * heads; unit++) {
        const head at = find_head(shape, qkv, unit / heads, unit % heads);
        double p[t_max];

        for (int64_t query = 0; query < t_max; query++) {
            const double row_lse = softmax(&at, query, p);

            store_context(&at, query, p, context);
            if (lse != NULL) lse[at.rows + query] = (float)row_lse;
            for (int64_t key = 0; probabilities != NULL && key < t_max; key++)
                dsc_store(probabilities, (at.rows + query) * t_max + key, at.type, p[key]);
        }
    }
out:
    return status;
}

static double probability(const head *at, int64_t query, int64_t key)
{
    if (key >= keys_of(at, query)) return 0;
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

/* dq[query] = sum over keys of ds k with ds = p (dp - delta) scale, the gradient of the unscaled score. */
static void store_dq(const head *at, const void *dcontext, const double *delta, void *dqkv)
{
    double ds[at->t_max];

    for (int64_t query = 0; query < at->t_max; query++) {
        for (int64_t key = 0; key < keys_of(at, query); key++)
            ds[key] = probability(at, query, key) * (dp(at, dcontext, query, key) - delta[query]) * at->scale;
        for (int64_t c = 0; c < at->d_max; c++) {
            double sum = 0;

            for (int64_t key = 0; key < keys_of(at, query); key++)
                sum += ds[key] * dsc_load(at->qkv, at->k + key * at->width + c, at->type);
            dsc_store(dqkv, at->q + query * at->width + c, at->type, sum);
        }
    }
}

/* dk[key] = sum of ds q, dv[key] = sum of p dcontext, over the queries of the `count` heads that share the key. */
static void store_dkv(const head *heads, int64_t count, const void *dcontext, const double *delta, void *dqkv)
{
    const int64_t t_max = heads->t_max;
    double p[count * t_max], ds[count * t_max];

    for (int64_t key = 0; key < t_max; key++) {
        for (int64_t i = 0; i < count * t_max; i++) {
            const head *at = &heads[i / t_max];

            p[i] = probability(at, i % t_max, key);
            ds[i] = p[i] * (dp(at, dcontext, i % t_max, key) - delta[i]) * at->scale;
        }
        for (int64_t c = 0; c < heads->d_max; c++) {
            double dk = 0, dv = 0;

            for (int64_t i = 0; i < count * t_max; i++) {
                const head *at = &heads[i / t_max];

                dk += ds[i] * dsc_load(at->qkv, at->q + i % t_max * at->width + c, at->type);
                dv += p[i] * dsc_load(dcontext, at->context + i % t_max * at->context_width + c, at->type);
            }
            dsc_store(dqkv, heads->k + key * heads->width + c, heads->type, dk);
            dsc_store(dqkv, heads->v + key * heads->width + c, heads->type, dv);
        }
    }
}

/* Both backward kernels; a unit is the query heads that share a key head. delta[query] = sum over keys of p dp. */
static dsc_status backward(const dsc_shape *shape, const void *dcontext, const void *qkv, const float *lse,
                           const void *probabilities, void *dqkv)
{
    const int64_t t_max = shape->d[1], kv_heads = shape->d[3], count = shape->d[2] / kv_heads;
    dsc_status status = DSC_OK;

    DSC_TRY(check_length(shape));
#pragma omp parallel for
    for (int64_t unit = 0; unit < shape->d[0] * kv_heads; unit++) {
        head heads[count];
        double delta[count * t_max];

        for (int64_t h = 0; h < count; h++) {
            heads[h] = find_head(shape, qkv, unit / kv_heads, unit % kv_heads * count + h);
            heads[h].lse = lse;
            heads[h].probabilities = probabilities;
            for (int64_t query = 0; query < t_max; query++) {
                double sum = 0;

                for (int64_t key = 0; key < keys_of(&heads[h], query); key++)
                    sum += probability(&heads[h], query, key) * dp(&heads[h], dcontext, query, key);
                delta[h * t_max + query] = sum;
            }
            store_dq(&heads[h], dcontext, delta + h * t_max, dqkv);
        }
        store_dkv(heads, count, dcontext, delta, dqkv);
    }
out:
    return status;
}

dsc_status dsc_ref_attention_fwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return forward(shape, operands[0], operands[1], operands[2], NULL);
}

dsc_status dsc_ref_attention_bwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return backward(shape, operands[0], operands[1], operands[3], NULL, operands[4]);
}

dsc_status dsc_ref_scores_fwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return forward(shape, operands[0], operands[1], NULL, operands[2]);
}

dsc_status dsc_ref_scores_bwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return backward(shape, operands[0], operands[1], NULL, operands[2], operands[3]);
}
