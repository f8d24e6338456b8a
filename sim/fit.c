#include "sim/fit.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TERMS = 6, MAX_AXES = 3 };

/* What a kernel's time is made of, and the sizes by which two shapes are near or far. A digit is a dimension's number,
 * a word the product of its digits, `-` the constant 1. */
static const struct { const char *terms, *axes; } forms[DSC_KERNEL_COUNT] = {
    [DSC_K_GEMM] = {"- 01 02 12 012", "0 1 2"},
    [DSC_K_NORM_FWD] = {"- 0 01", "01 1"},
    [DSC_K_NORM_BWD_X] = {"- 0 01", "01 1"},
    [DSC_K_NORM_BWD_W] = {"- 0 1 01", "01 1"},
    [DSC_K_ATTENTION_FWD] = {"- 02 0124 0112 01124", "02 1 4"},
    [DSC_K_ATTENTION_BWD] = {"- 02 0124 0112 01124", "02 1 4"},
    [DSC_K_SCORES_FWD] = {"- 02 0124 0112 01124", "02 1 4"},
    [DSC_K_SCORES_BWD] = {"- 02 0124 0112 01124", "02 1 4"},
    [DSC_K_ROPE] = {"- 014 0124 0134", "01 2 4"}, /* angles of a row, then heads */
    [DSC_K_BLOCK_SDD] = {"- 02 0123 0455 03455", "3 5 0455"},
    [DSC_K_BLOCK_DSD] = {"- 02 0123 0455 03455", "3 5 0455"},
    [DSC_K_BLOCK_DDS] = {"- 02 0123 0455 03455", "3 5 0455"},
    [DSC_K_BLOCK_SOFTMAX_FWD] = {"- 012 0455", "5 0455"},
    [DSC_K_BLOCK_SOFTMAX_BWD] = {"- 012 0455", "5 0455"},
    [DSC_K_GELU_FWD] = {"- 0", "0"},
    [DSC_K_GELU_BWD] = {"- 0", "0"},
    [DSC_K_SWIGLU_FWD] = {"- 0", "0"},
    [DSC_K_SWIGLU_BWD] = {"- 0", "0"},
    [DSC_K_JOIN] = {"- 0 01", "01 1"},
    [DSC_K_COLUMN_SUM] = {"- 0 1 01", "01 1"},
    [DSC_K_EMBED_FWD] = {"- 01 012", "01 2 3"},
    [DSC_K_EMBED_BWD] = {"- 01 012 12 23", "01 2 3"},
    [DSC_K_CROSS_ENTROPY] = {"- 01 013", "01 3"},
    [DSC_K_CROSS_ENTROPY_PART] = {"- 01 014", "01 4"},
    [DSC_K_CROSS_ENTROPY_JOIN] = {"- 01 013", "01 3"},
    [DSC_K_SQUARE_SUM] = {"- 0", "0"},
    [DSC_K_CLEAR] = {"- 0", "0"},
    [DSC_K_ADAM] = {"- 0", "0"},
    [DSC_K_CAST] = {"- 0", "0"},
    [DSC_K_MOMENTUM] = {"- 0", "0"},
    [DSC_K_DRIFT] = {"- 0", "0"},
    [DSC_K_REJOIN] = {"- 0", "0"},
    [DSC_K_LAMB_NORMS] = {"- 0 1", "0"},
    [DSC_K_LAMB_TRUST] = {"- 01", "01"},
    [DSC_K_LAMB_STEP] = {"- 0 1", "0"},
    [DSC_K_SIGN_COMPRESS] = {"- 1 3", "1"},
    [DSC_K_SIGN_AVERAGE] = {"- 0 2", "0 1 2"},
    [DSC_K_SIGN_EXPAND] = {"- 0 34", "0"},
    [DSC_K_LOAD] = {"- 01", "01"},
};

/* Attention over present blocks: its time is theirs, of keys and of scores. */
static const struct { const char *terms, *axes; } sparse_form = {"- 012 0124 0456 0566 04566", "6 4 0566"};

static const char *terms_of(const dsc_shape *shape)
{
    return shape->flags & DSC_HAS_LAYOUT ? sparse_form.terms : forms[shape->kernel].terms;
}

static const char *axes_of(const dsc_shape *shape)
{
    return shape->flags & DSC_HAS_LAYOUT ? sparse_form.axes : forms[shape->kernel].axes;
}

typedef struct point { double at[MAX_AXES], miss, weight; } point; /* miss: log of time over base */

struct dsc_fit {
    const dsc_fit *like;              /* the base, or NULL: */
    double coefficients[MAX_TERMS];   /* of the base's terms */
    double mean_miss;
    int64_t count;
    point points[];
};

/* Values of the words of a form for a shape; returns how many. */
static int evaluate(const char *form, const dsc_shape *shape, double *out)
{
    int count = 0;

    out[0] = 1;
    for (; *form != '\0'; form++) {
        if (*form == ' ') out[++count] = 1;
        else if (*form != '-') out[count] *= (double)shape->d[*form - '0'];
    }
    return count + 1;
}

/* ---- The base: least squares with coefficients that are not negative */

/* Of the relative errors: rows x with right side 1. matrix = sum x x', right = sum x. */
typedef struct equations { int terms; double matrix[MAX_TERMS][MAX_TERMS], right[MAX_TERMS]; int64_t rows; } equations;

static void add_row(equations *e, const double *terms, double time_ns)
{
    for (int i = 0; i < e->terms; i++) {
        for (int j = 0; j < e->terms; j++) e->matrix[i][j] += terms[i] / time_ns * (terms[j] / time_ns);
        e->right[i] += terms[i] / time_ns;
    }
    e->rows++;
}

/* Solves the equations over the terms in `set`, the others 0, by elimination of the symmetric matrix scaled to a
 * diagonal of 1. False when they do not determine a solution. */
static bool solve(const equations *e, unsigned set, double *out)
{
    double a[MAX_TERMS][MAX_TERMS + 1];
    int index[MAX_TERMS], count = 0;

    for (int i = 0; i < e->terms; i++)
        if (set >> i & 1) index[count++] = i;
#define SCALE(i) sqrt(e->matrix[index[i]][index[i]])
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < count; j++) a[i][j] = e->matrix[index[i]][index[j]] / SCALE(i) / SCALE(j);
        a[i][count] = e->right[index[i]] / SCALE(i);
    }
    for (int pivot = 0; pivot < count; pivot++) {
        if (a[pivot][pivot] < 1e-11) return false;
        for (int i = pivot + 1; i < count; i++) {
            const double factor = a[i][pivot] / a[pivot][pivot];

            for (int j = pivot; j <= count; j++) a[i][j] -= factor * a[pivot][j];
        }
    }
    memset(out, 0, MAX_TERMS * sizeof *out);
    for (int i = count - 1; i >= 0; i--) {
        double sum = a[i][count];

        for (int j = i + 1; j < count; j++) sum -= a[i][j] * out[index[j]] * SCALE(j);
        out[index[i]] = sum / a[i][i] / SCALE(i);
    }
#undef SCALE
    return true;
}

static bool is_non_negative(const double *values, int count)
{
    for (int i = 0; i < count; i++)
        if (values[i] < 0) return false;
    return true;
}

/* At a solution the squared error is rows - sum of coefficient times right side. */
static double squared_error(const equations *e, const double *coefficients)
{
    double error = (double)e->rows;

    for (int i = 0; i < e->terms; i++) error -= coefficients[i] * e->right[i];
    return error;
}

/* The optimum is the unconstrained one over some set of terms: with at most 6 of them all 63 sets are tried. */
static void fit_base(const equations *e, double *out)
{
    double least = INFINITY;

    for (unsigned set = 1; set < 1u << e->terms; set++) {
        double candidate[MAX_TERMS];

        if (!solve(e, set, candidate) || !is_non_negative(candidate, e->terms)) continue;
        if (squared_error(e, candidate) < least) {
            least = squared_error(e, candidate);
            memcpy(out, candidate, sizeof candidate);
        }
    }
}

/* ---- The correction: a Gaussian process over the logarithms of sizes (kriging; Rasmussen and Williams 2006, algorithm
 * 2.1). Two points' misses have covariance exp(-distance / RANGE), which makes the interpolation nearly piecewise
 * linear; NOISE is the share of a miss that is its measurement's. */

static const double RANGE = 8, NOISE = 0.01;

static double covariance(const double *a, const double *b)
{
    double square = 0;

    for (int axis = 0; axis < MAX_AXES; axis++) square += (a[axis] - b[axis]) * (a[axis] - b[axis]);
    return exp(-sqrt(square) / RANGE);
}

/* Solves A x = b; A is positive definite, row major, its lower half; A becomes its Cholesky factor, b becomes x. */
static void solve_positive(int64_t count, double *a, double *b)
{
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = a[i * count + j];

            for (int64_t k = 0; k < j; k++) sum -= a[i * count + k] * a[j * count + k];
            a[i * count + j] = i == j ? sqrt(sum) : sum / a[j * count + j];
        }
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < i; k++) b[i] -= a[i * count + k] * b[k];
        b[i] /= a[i * count + i];
    }
    for (int64_t i = count - 1; i >= 0; i--) {
        for (int64_t k = i + 1; k < count; k++) b[i] -= a[k * count + i] * b[k];
        b[i] /= a[i * count + i];
    }
}

/* From the points' misses to their weights. */
static dsc_status fit_correction(dsc_fit *fit)
{
    const int64_t count = fit->count;
    double *matrix = malloc((size_t)(count * count + count) * sizeof *matrix), *weights = matrix + count * count;

    if (matrix == NULL) return DSC_FAIL(DSC_ENOMEM, "fit: %lld samples", (long long)count);
    for (int64_t i = 0; i < count; i++) fit->mean_miss += fit->points[i].miss / (double)count;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j <= i; j++) matrix[i * count + j] = covariance(fit->points[i].at, fit->points[j].at);
        matrix[i * count + i] += NOISE;
        weights[i] = fit->points[i].miss - fit->mean_miss;
    }
    solve_positive(count, matrix, weights);
    for (int64_t i = 0; i < count; i++) fit->points[i].weight = weights[i];
    free(matrix);
    return DSC_OK;
}

/* ---- The fit */

static double base_ns(const dsc_fit *fit, const dsc_shape *shape)
{
    double terms[MAX_TERMS], sum = 0;

    if (fit->like != NULL) return dsc_fit_ns(fit->like, shape);
    const int count = evaluate(terms_of(shape), shape, terms);
    for (int i = 0; i < count; i++) sum += fit->coefficients[i] * terms[i];
    return sum;
}

static void locate(const dsc_shape *shape, double at[MAX_AXES])
{
    memset(at, 0, MAX_AXES * sizeof *at);
    const int count = evaluate(axes_of(shape), shape, at);
    for (int i = 0; i < count; i++) at[i] = log2(at[i]);
}

static void add_point(dsc_fit *fit, const dsc_kernel_sample *sample)
{
    point *p = &fit->points[fit->count++];

    locate(&sample->shape, p->at);
    p->miss = log((double)sample->time_ns / base_ns(fit, &sample->shape));
}

dsc_status dsc_fit_create(const dsc_kernel_sample *const *samples, int64_t count, int64_t left_out, const dsc_fit *like,
                          dsc_fit **out)
{
    dsc_fit *fit = calloc(1, sizeof *fit + (size_t)count * sizeof *fit->points);
    equations e = {0};
    double terms[MAX_TERMS];
    dsc_status status = DSC_OK;

    if (fit == NULL) return DSC_FAIL(DSC_ENOMEM, "fit: %lld samples", (long long)count);
    fit->like = like;
    for (int64_t i = 0; i < count; i++) {
        if (i == left_out) continue;
        e.terms = evaluate(terms_of(&samples[i]->shape), &samples[i]->shape, terms);
        add_row(&e, terms, (double)samples[i]->time_ns);
    }
    fit_base(&e, fit->coefficients);
    for (int64_t i = 0; i < count; i++)
        if (i != left_out) add_point(fit, samples[i]);
    DSC_TRY(fit_correction(fit));
    *out = fit;
    fit = NULL;
out:
    dsc_fit_destroy(fit);
    return status;
}

void dsc_fit_destroy(dsc_fit *fit) { free(fit); }

double dsc_fit_ns(const dsc_fit *fit, const dsc_shape *shape)
{
    double at[MAX_AXES], miss = fit->mean_miss;

    locate(shape, at);
    for (int64_t i = 0; i < fit->count; i++) miss += fit->points[i].weight * covariance(at, fit->points[i].at);
    return base_ns(fit, shape) * exp(miss);
}
