/* 1-bit compression with error feedback. What is to be sent is made, and its squares summed by parts, in one launch;
 * signs, and what they leave out, in the next: block (i, u) has the i-th part of unit u. */
extern "C" {
#include "kernel/units.h"
}
#include "kernels/cuda/device.cuh"

/* The dimensions that all three have. Packets are `bytes` long, their scales begin at `scales`. */
typedef struct form { int64_t packed, ranks, units, bytes, scales; } form;

static form form_of(const dsc_shape *s, const int64_t *d)
{
    const dsc_dtype out = (dsc_dtype)s->out;

    return (form){d[0], d[1], d[2], dsc_packet_bytes(d[0], d[1], d[2], out), dsc_packet_scales(d[0], d[1])};
}

static dim3 parts_of(const form &f) { return dim3(DSC_SUM_CHUNKS, (unsigned)f.units); }

/* Of the elements first .. first + count of a unit, those that are not padding. */
__device__ static int64_t real_of(int32_t flags, const dsc_unit &unit, int64_t first, int64_t count)
{
    if (flags & DSC_COUNT_PADDING) return count;
    return DSC_MAX(0, DSC_MIN(unit.real - first, count));
}

__device__ static float scale_at(const form &f, const char *packet, int64_t unit)
{
    return ((const float *)(packet + f.scales))[unit];
}

/* The byte of element i of the unit's chunk; the first of its elements is its highest bit. */
__device__ static int64_t byte_of(const form &f, const dsc_unit &unit, int64_t i)
{
    return (unit.place / f.ranks + i) / 8;
}

__device__ static bool bit_at(const form &f, const dsc_unit &unit, const char *packet, int64_t i)
{
    return packet[byte_of(f, unit, i)] >> (7 - i % 8) & 1;
}

/* ---- What is to be sent, and its squares */

__global__ static void add_errors(dsc_shape s, const void *x, const dsc_units *units, float *error, double *partial)
{
    double squares = 0;

    if (blockIdx.y >= units->count) return;
    const dsc_unit unit = units->unit[blockIdx.y];
    const int64_t real = real_of(s.flags, unit, 0, unit.padded);
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < unit.padded; i += DSC_SUM_CHUNKS * THREADS) {
        const float own = i < unit.real ? load(x, unit.first + i, s.type) : 0;
        const float v = i < real ? own + error[unit.place + i] : 0;

        error[unit.place + i] = v;
        squares += (double)v * (double)v;
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) partial[blockIdx.y * DSC_SUM_CHUNKS + blockIdx.x] = squares;
}

__global__ static void add_signs(dsc_shape s, form f, const char *sent, const dsc_units *units, float *error,
                                 double *partial)
{
    double squares = 0;

    if (blockIdx.y >= units->count) return;
    const dsc_unit unit = units->unit[blockIdx.y];
    const int64_t chunk = unit.padded / f.ranks, real = real_of(s.flags, unit, units->server * chunk, chunk);
    float *own = error + unit.place / f.ranks;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < chunk; i += DSC_SUM_CHUNKS * THREADS) {
        double v = own[i];

        for (int64_t r = 0; r < f.ranks; r++) {
            const double part = scale_at(f, sent + r * f.bytes, blockIdx.y) / (double)f.ranks;

            v += bit_at(f, unit, sent + r * f.bytes, i) ? part : -part;
        }
        own[i] = i < real ? (float)v : 0;
        squares += (double)own[i] * (double)own[i];
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) partial[blockIdx.y * DSC_SUM_CHUNKS + blockIdx.x] = squares;
}

/* ---- Signs, and what they leave out, of the server's chunk or of all, each of which has a packet */

/* A thread has a byte. */
__global__ static void compress(dsc_shape s, form f, bool is_server, const dsc_units *units, float *error,
                                const double *partial, char *packets)
{
    double squares = 0;

    if (blockIdx.y >= units->count) return;
    const dsc_unit unit = units->unit[blockIdx.y];
    const int64_t chunk = unit.padded / f.ranks, n = is_server ? chunk : unit.padded;
    const int64_t real = real_of(s.flags, unit, is_server ? units->server * chunk : 0, n);
    float *own = error + (is_server ? unit.place / f.ranks : unit.place);
    for (int i = 0; i < DSC_SUM_CHUNKS; i++) squares += partial[blockIdx.y * DSC_SUM_CHUNKS + i];
    const float scale = real == 0 ? 0 : (float)sqrt(squares / (double)real);
    if (blockIdx.x == 0)
        for (int64_t j = threadIdx.x; j < n / chunk; j += THREADS)
            ((float *)(packets + j * f.bytes + f.scales))[blockIdx.y] = scale;
    for (int64_t b = (int64_t)blockIdx.x * THREADS + threadIdx.x; b < n / 8; b += DSC_SUM_CHUNKS * THREADS) {
        char byte = 0;

        for (int64_t i = 8 * b; i < 8 * b + 8; i++) {
            const float v = own[i];

            if (v >= 0) byte |= (char)(0x80 >> i % 8);
            own[i] = i < real ? v - (v >= 0 ? scale : -scale) : 0;
        }
        packets[8 * b / chunk * f.bytes + byte_of(f, unit, 8 * b % chunk)] = byte;
    }
}

dsc_status dsc_cuda_sign_compress(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const form f = form_of(s, s->d + 1);
    const dsc_units *units = (const dsc_units *)o[1];
    double *partial = (double *)workspace;
    dsc_status status = DSC_OK;

    (void)step;
    DSC_TRY(DSC_CUDA(cudaMemsetAsync(o[3], 0, (size_t)(f.ranks * f.bytes), dsc_cuda_stream())));
    DSC_TRY(LAUNCH(add_errors, parts_of(f), THREADS, 0, *s, o[0], units, (float *)o[2], partial));
    DSC_TRY(LAUNCH(compress, parts_of(f), THREADS, 0, *s, f, false, units, (float *)o[2], partial, (char *)o[3]));
out:
    return status;
}

dsc_status dsc_cuda_sign_average(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const form f = form_of(s, s->d);
    const dsc_units *units = (const dsc_units *)o[1];
    double *partial = (double *)workspace;
    dsc_status status = DSC_OK;

    (void)step;
    DSC_TRY(DSC_CUDA(cudaMemsetAsync(o[3], 0, (size_t)f.bytes, dsc_cuda_stream())));
    DSC_TRY(LAUNCH(add_signs, parts_of(f), THREADS, 0, *s, f, (const char *)o[0], units, (float *)o[2], partial));
    DSC_TRY(LAUNCH(compress, parts_of(f), THREADS, 0, *s, f, true, units, (float *)o[2], partial, (char *)o[3]));
out:
    return status;
}

__global__ static void expand(dsc_shape s, form f, int64_t list_elems, const char *packets, const int64_t *lists,
                              void *x)
{
    const dsc_units *units = (const dsc_units *)(lists + blockIdx.z * list_elems);
    const char *own = packets + blockIdx.z * f.ranks * f.bytes;

    if (blockIdx.y >= units->count) return;
    const dsc_unit unit = units->unit[blockIdx.y];
    const int64_t chunk = unit.padded / f.ranks;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < unit.real; i += DSC_SUM_CHUNKS * THREADS) {
        const char *packet = own + i / chunk * f.bytes;
        const float scale = scale_at(f, packet, blockIdx.y);

        store(x, unit.first + i, s.out, bit_at(f, unit, packet, i % chunk) ? scale : -scale);
    }
}

dsc_status dsc_cuda_sign_expand(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const form f = form_of(s, s->d + 1);
    const dim3 parts(DSC_SUM_CHUNKS, (unsigned)f.units, (unsigned)s->d[4]);
    dsc_status status = DSC_OK;

    (void)workspace, (void)step;
    DSC_TRY(DSC_CUDA(cudaMemsetAsync(o[2], 0, (size_t)dsc_operand_bytes(s, 2), dsc_cuda_stream())));
    DSC_TRY(LAUNCH(expand, parts, THREADS, 0, *s, f, dsc_units_elems(f.units), (const char *)o[0],
                   (const int64_t *)o[1], o[2]));
out:
    return status;
}
