/* What device code of all families shares: elements of any storage type, packs of them, sums over a warp and a block,
 * launches. The storage type is a value, not a template's argument: its branch is the same for all threads and costs
 * nothing beside memory. */
#ifndef DSC_KERNELS_CUDA_DEVICE_CUH
#define DSC_KERNELS_CUDA_DEVICE_CUH

extern "C" {
#include "base/array.h"
#include "kernel/step.h"
#include "kernel/workspace.h"
#include "kernels/cuda/set.h"
}
#include "device/cuda.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <float.h>
#include <math.h>

enum { WARP = 32, PACK = 8, THREADS = 256 };

/* ---- Elements */

__device__ inline float load(const void *from, int64_t i, int type)
{
    if (type == DSC_FP32) return ((const float *)from)[i];
    if (type == DSC_BF16) return __bfloat162float(((const __nv_bfloat16 *)from)[i]);
    return __half2float(((const __half *)from)[i]);
}

__device__ inline void store(void *to, int64_t i, int type, float value)
{
    if (type == DSC_FP32) ((float *)to)[i] = value;
    else if (type == DSC_BF16) ((__nv_bfloat16 *)to)[i] = __float2bfloat16_rn(value);
    else ((__half *)to)[i] = __float2half_rn(value);
}

/* The value that a store and a load leave. */
__device__ inline float stored(float value, int type)
{
    if (type == DSC_BF16) return __bfloat162float(__float2bfloat16_rn(value));
    if (type == DSC_FP16) return __half2float(__float2half_rn(value));
    return value;
}

/* ---- Packs: up to 8 neighbours, by accesses of 16 bytes where the address allows it */

typedef struct pack { float v[PACK]; } pack;

__device__ inline bool is_aligned(const void *address) { return ((uintptr_t)address & 15) == 0; }

__device__ inline const char *address_of(const void *base, int64_t i, int type)
{
    return (const char *)base + i * (type == DSC_FP32 ? 4 : 2);
}

__device__ inline float2 widen(uint32_t two, int type)
{
    if (type == DSC_BF16) return make_float2(__uint_as_float(two << 16), __uint_as_float(two & 0xffff0000));
    return __half22float2(*(const __half2 *)&two);
}

__device__ inline uint32_t narrow(float a, float b, int type)
{
    uint32_t two;

    if (type == DSC_BF16) *(__nv_bfloat162 *)&two = __floats2bfloat162_rn(a, b);
    else *(__half2 *)&two = __floats2half2_rn(a, b);
    return two;
}

/* Zero behind the first `count`. */
__device__ inline pack load_pack(const void *from, int64_t i, int64_t count, int type)
{
    const char *address = address_of(from, i, type);
    pack p;

    if (count >= PACK && is_aligned(address)) {
        if (type == DSC_FP32) {
            const float4 a = ((const float4 *)address)[0], b = ((const float4 *)address)[1];

            return (pack){{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
        }
        const uint4 raw = *(const uint4 *)address;
        const float2 a = widen(raw.x, type), b = widen(raw.y, type), c = widen(raw.z, type), d = widen(raw.w, type);

        return (pack){{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
    }
#pragma unroll
    for (int j = 0; j < PACK; j++) p.v[j] = j < count ? load(address, j, type) : 0;
    return p;
}

__device__ inline void store_pack(void *to, int64_t i, int64_t count, int type, const pack &p)
{
    char *address = (char *)address_of(to, i, type);

    if (count >= PACK && is_aligned(address)) {
        if (type == DSC_FP32) {
            ((float4 *)address)[0] = make_float4(p.v[0], p.v[1], p.v[2], p.v[3]);
            ((float4 *)address)[1] = make_float4(p.v[4], p.v[5], p.v[6], p.v[7]);
        } else
            *(uint4 *)address = make_uint4(narrow(p.v[0], p.v[1], type), narrow(p.v[2], p.v[3], type),
                                           narrow(p.v[4], p.v[5], type), narrow(p.v[6], p.v[7], type));
        return;
    }
#pragma unroll
    for (int j = 0; j < PACK; j++)
        if (j < count) store(address, j, type, p.v[j]);
}

/* A thread's pack of a row of n elements, where all threads of the grid stand in a line. */
__device__ inline int64_t pack_index() { return ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * PACK; }

/* ---- Sums, always in one order */

template <typename T> __device__ inline T warp_sum(T value)
{
    for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffff, value, step);
    return value;
}

__device__ inline float warp_max(float value)
{
    for (int step = WARP / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, step));
    return value;
}

/* Of all threads of a block whose warps are whole; the result is every thread's. */
template <typename T> __device__ inline T block_sum(T value)
{
    __shared__ T sums[WARP];
    const int warps = blockDim.x / WARP;
    T sum = 0;

    value = warp_sum(value);
    __syncthreads(); /* what an earlier call left is read */
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = value;
    __syncthreads();
    for (int i = 0; i < warps; i++) sum += sums[i];
    return sum;
}

/* ---- Launches */

static inline unsigned blocks_for(int64_t items, int64_t each) { return (unsigned)dsc_ceil_div(items, each); }
static inline unsigned blocks_of_packs(int64_t n) { return blocks_for(n, (int64_t)THREADS * PACK); }

/* kernel<<<blocks, threads, shared bytes>>>(...) into the thread's stream; what failed is told by the kernel's name. */
#define LAUNCH(kernel, blocks, threads, shared_bytes, ...)                              \
    (kernel<<<(blocks), (threads), (shared_bytes), dsc_cuda_stream()>>>(__VA_ARGS__),   \
     DSC_CUDA_LAUNCHED(#kernel))

#endif
