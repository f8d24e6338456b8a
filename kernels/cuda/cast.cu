#include "kernels/cuda/device.cuh"

/* Of in[t, n] the tensor rank's own row. */
__global__ static void cast(dsc_shape s, const void *in, void *out, const dsc_step *step)
{
    const int64_t i = pack_index(), n = s.d[0], from = s.flags & DSC_SHARD ? step->tp_index * n : 0;
    pack p, sum;

    if (i >= n) return;
    p = load_pack(in, from + i, n - i, s.type);
    if (s.flags & DSC_ACCUMULATE) {
        sum = load_pack(out, i, n - i, s.out);
#pragma unroll
        for (int j = 0; j < PACK; j++) p.v[j] += sum.v[j];
    }
    store_pack(out, i, n - i, s.out, p);
}

dsc_status dsc_cuda_cast(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace;
    return LAUNCH(cast, blocks_of_packs(s->d[0]), THREADS, 0, *s, o[0], o[1], step);
}

dsc_status dsc_cuda_clear(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    return DSC_CUDA(cudaMemsetAsync(o[0], 0, (size_t)dsc_operand_bytes(s, 0), dsc_cuda_stream()));
}
