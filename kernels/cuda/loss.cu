/* A block has a row of logits. It passes over it twice, of which the second finds it in the L2 cache: logits are read
 * from memory once, and become their gradient there. */
extern "C" {
#include "kernels/shard.h"
}
#include "kernels/cuda/device.cuh"

enum { ROW_THREADS = 512 };

/* The largest of some logits (of none: the lowest number), and the sum of exponentials relative to it. */
typedef struct softmax { float largest, sum; } softmax;

__device__ static softmax join(softmax a, softmax b)
{
    const float largest = fmaxf(a.largest, b.largest);

    return (softmax){largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest)};
}

__device__ static softmax add_pack(softmax all, const pack &p, int64_t count)
{
    float largest = all.largest, sum;

#pragma unroll
    for (int k = 0; k < PACK; k++)
        if (k < count) largest = fmaxf(largest, p.v[k]);
    sum = all.sum * expf(all.largest - largest);
#pragma unroll
    for (int k = 0; k < PACK; k++)
        if (k < count) sum += expf(p.v[k] - largest);
    return (softmax){largest, sum};
}

/* Of the block's row; every thread has the result. */
__device__ static softmax row_softmax(const void *logits, int64_t first, int64_t columns, int type)
{
    __shared__ softmax of_warp[ROW_THREADS / WARP];
    softmax all = {-FLT_MAX, 0};

    for (int64_t v = threadIdx.x * PACK; v < columns; v += ROW_THREADS * PACK)
        all = add_pack(all, load_pack(logits, first + v, columns - v, type), columns - v);
    for (int step = WARP / 2; step > 0; step /= 2)
        all = join(all, (softmax){__shfl_xor_sync(0xffffffff, all.largest, step),
                                  __shfl_xor_sync(0xffffffff, all.sum, step)});
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = all;
    __syncthreads();
    all = of_warp[0];
    for (int w = 1; w < ROW_THREADS / WARP; w++) all = join(all, of_warp[w]);
    return all;
}

/* (p - onehot) * scale, and zero from `columns` to `stride`. target lies outside of them where another rank owns it. */
__device__ static void differentiate(void *logits, int64_t first, int64_t columns, int64_t stride, int type,
                                     int64_t target, softmax all, float scale)
{
    const float inverse = 1 / all.sum;

    for (int64_t v = threadIdx.x * PACK; v < stride; v += ROW_THREADS * PACK) {
        pack p = load_pack(logits, first + v, stride - v, type);

#pragma unroll
        for (int k = 0; k < PACK; k++)
            p.v[k] = v + k < columns ? (expf(p.v[k] - all.largest) * inverse - (v + k == target)) * scale : 0;
        store_pack(logits, first + v, stride - v, type, p);
    }
}

__device__ static int64_t token_of(const int32_t *tokens, int64_t row, int64_t t_max)
{
    return tokens[row + row / t_max + 1];
}

/* A target outside the vocabulary makes NaN of the loss. */
__global__ static void loss_rows(dsc_shape s, const int32_t *tokens, void *logits, double *losses,
                                 const dsc_step *step)
{
    const int64_t row = blockIdx.x, first = row * s.d[3], target = token_of(tokens, row, s.d[1]);
    const bool is_token = target >= 0 && target < s.d[2];
    const float target_logit = is_token ? load(logits, first + target, s.type) : NAN;
    const softmax all = row_softmax(logits, first, s.d[2], s.type); /* and a barrier before the logits are written */

    differentiate(logits, first, s.d[2], s.d[3], s.type, is_token ? target : -1, all, step->loss_gradient);
    if (threadIdx.x == 0) losses[row] = log((double)all.sum) + all.largest - target_logit;
}

__global__ static void sum_losses(int64_t rows, int32_t flags, const double *losses, double *loss)
{
    double sum = 0;

    for (int64_t i = threadIdx.x; i < rows; i += 1024) sum += losses[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss = flags & DSC_ACCUMULATE ? *loss + sum : sum;
}

dsc_status dsc_cuda_cross_entropy(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t rows = s->d[0] * s->d[1];
    double *losses = (double *)workspace;
    dsc_status status = DSC_OK;

    DSC_TRY(LAUNCH(loss_rows, (unsigned)rows, ROW_THREADS, 0, *s, (const int32_t *)o[0], o[1], losses, step));
    DSC_TRY(LAUNCH(sum_losses, 1, 1024, 0, rows, s->flags, losses, (double *)o[2]));
out:
    return status;
}

/* ---- Over tensor ranks */

__global__ static void part_rows(dsc_shape s, const int32_t *tokens, const void *logits, float *part,
                                 const dsc_step *step)
{
    const int64_t row = blockIdx.x, first = row * s.d[3], token = token_of(tokens, row, s.d[1]);
    const int64_t target = dsc_own_row(token, s.d[4], step->tp_index);
    const softmax all = row_softmax(logits, first, dsc_real_columns(&s, step), s.type);

    if (threadIdx.x > 0) return;
    part[3 * row] = all.largest;
    part[3 * row + 1] = all.sum;
    part[3 * row + 2] = token < 0 || token >= s.d[2] ? NAN : target < 0 ? 0 : load(logits, first + target, s.type);
}

/* Ranks' parts joined in their order, in double: so all of them have the same bits. */
__device__ static double join_parts(const float *parts, int64_t step, int64_t ranks, int64_t owner, softmax *all)
{
    double sum = 0;

    all->largest = parts[0];
    for (int64_t i = 1; i < ranks; i++) all->largest = fmaxf(all->largest, parts[i * step]);
    for (int64_t i = 0; i < ranks; i++) sum += parts[i * step + 1] * exp((double)parts[i * step] - all->largest);
    all->sum = (float)sum;
    return log(sum) + all->largest - parts[owner * step + 2];
}

__global__ static void join_rows(dsc_shape s, const int32_t *tokens, const float *parts, void *logits, double *losses,
                                 const dsc_step *step)
{
    const int64_t row = blockIdx.x, rows = gridDim.x, token = token_of(tokens, row, s.d[1]);
    const bool is_token = token >= 0 && token < s.d[2];
    softmax all;
    const double loss = join_parts(parts + 3 * row, 3 * rows, s.d[5], is_token ? token / s.d[4] : 0, &all);

    differentiate(logits, row * s.d[3], dsc_real_columns(&s, step), s.d[3], s.type,
                  dsc_own_row(token, s.d[4], step->tp_index), all, step->loss_gradient);
    if (threadIdx.x == 0) losses[row] = is_token ? loss : NAN;
}

dsc_status dsc_cuda_cross_entropy_part(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace;
    return LAUNCH(part_rows, (unsigned)(s->d[0] * s->d[1]), ROW_THREADS, 0, *s, (const int32_t *)o[0], o[1],
                  (float *)o[2], step);
}

dsc_status dsc_cuda_cross_entropy_join(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t rows = s->d[0] * s->d[1];
    double *losses = (double *)workspace;
    dsc_status status = DSC_OK;

    DSC_TRY(LAUNCH(join_rows, (unsigned)rows, ROW_THREADS, 0, *s, (const int32_t *)o[0], (const float *)o[1], o[2],
                   losses, step));
    DSC_TRY(LAUNCH(sum_losses, 1, 1024, 0, rows, s->flags, losses, (double *)o[3]));
out:
    return status;
}
