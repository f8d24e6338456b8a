/* 1-bit compression with error feedback, element by element. */
#include "kernels/ref/ref.h"
#include <math.h>
#include <string.h>

/* Errors and scales may be fp64 here. */
static double load(const void *from, int64_t index, int type)
{
    return type == DSC_FP64 ? ((const double *)from)[index] : dsc_load(from, index, type);
}

static void store(void *to, int64_t index, int type, double value)
{
    if (type == DSC_FP64) ((double *)to)[index] = value;
    else dsc_store(to, index, type, value);
}

/* The first of a byte's elements is its highest bit. */
static bool bit_at(const void *bits, int64_t index)
{
    return ((const uint8_t *)bits)[index / 8] >> (7 - index % 8) & 1;
}

static bool is_real(const dsc_shape *s, const void *mask, int64_t index)
{
    return !(s->flags & DSC_HAS_MASK) || bit_at(mask, index);
}

/* error[n], which holds what is to be sent, becomes bits and scale, and what they leave out. */
static void compress(const dsc_shape *s, void *error, const void *mask, void *bits, void *scale)
{
    double squares = 0, size;
    int64_t count = 0;

    for (int64_t i = 0; i < s->d[0]; i++) {
        const double v = load(error, i, s->out);

        if (!is_real(s, mask, i)) continue;
        squares += v * v;
        count++;
    }
    store(scale, 0, s->out, count == 0 ? 0 : sqrt(squares / (double)count));
    size = load(scale, 0, s->out);
    memset(bits, 0, (size_t)s->d[0] / 8);
    for (int64_t i = 0; i < s->d[0]; i++) {
        const double v = load(error, i, s->out);

        if (v >= 0) ((uint8_t *)bits)[i / 8] |= (uint8_t)(0x80 >> i % 8);
        store(error, i, s->out, is_real(s, mask, i) ? v - (v >= 0 ? size : -size) : 0);
    }
}

dsc_status dsc_ref_sign_compress(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    for (int64_t i = 0; i < s->d[0]; i++)
        store(o[1], i, s->out, is_real(s, o[2], i) ? load(o[0], i, s->type) + load(o[1], i, s->out) : 0);
    compress(s, o[1], o[2], o[3], o[4]);
    return DSC_OK;
}

dsc_status dsc_ref_sign_average(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t n = s->d[0], ranks = s->d[1];

    (void)workspace, (void)step;
    for (int64_t i = 0; i < n; i++) {
        double v = load(o[2], i, s->out);

        for (int64_t r = 0; r < ranks; r++) {
            const double part = load(o[1], r, s->out) / (double)ranks;

            v += bit_at((const uint8_t *)o[0] + r * (n / 8), i) ? part : -part;
        }
        store(o[2], i, s->out, is_real(s, o[3], i) ? v : 0);
    }
    compress(s, o[2], o[3], o[4], o[5]);
    return DSC_OK;
}

dsc_status dsc_ref_sign_expand(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t chunk = s->d[0] / s->d[1];

    (void)workspace, (void)step;
    for (int64_t i = 0; i < s->d[0]; i++) {
        const double scale = load(o[1], i / chunk, s->out);

        store(o[3], i, s->out, !is_real(s, o[2], i) ? 0 : bit_at(o[0], i) ? scale : -scale);
    }
    return DSC_OK;
}
