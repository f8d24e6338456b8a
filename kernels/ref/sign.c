/* 1-bit compression with error feedback, element by element. */
#include "kernels/ref/ref.h"
#include "kernel/units.h"
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

/* ---- Packets */

/* The dimensions that all three have. */
typedef struct form { int64_t packed, ranks, units; int out; int64_t bytes, scales; } form;

static form form_of(const dsc_shape *s, const int64_t *d)
{
    return (form){d[0], d[1], d[2], s->out, dsc_packet_bytes(d[0], d[1], d[2], s->out), dsc_packet_scales(d[0], d[1])};
}

static int64_t chunk_of(const form *f, const dsc_unit *unit) { return unit->padded / f->ranks; }

/* Of the elements first .. first + count of a unit, those that are not padding. */
static int64_t real_of(const dsc_shape *s, const dsc_unit *unit, int64_t first, int64_t count)
{
    if (s->flags & DSC_COUNT_PADDING) return count;
    return DSC_MAX(0, DSC_MIN(unit->real - first, count));
}

/* Element i of the unit's chunk in a packet; the first of a byte's elements is its highest bit. */
static uint8_t *byte_at(const form *f, const dsc_unit *unit, void *packet, int64_t i)
{
    return (uint8_t *)packet + (unit->place / f->ranks + i) / 8;
}

static bool bit_at(const form *f, const dsc_unit *unit, const void *packet, int64_t i)
{
    return *byte_at(f, unit, (void *)packet, i) >> (7 - i % 8) & 1;
}

static double scale_at(const form *f, const void *packet, int64_t unit)
{
    return load((const char *)packet + f->scales, unit, f->out);
}

/* error[n], which holds what is to be sent, becomes signs and a scale in packets of chunks, and what these leave out;
 * elements from `real` on are padding. */
static void compress(const form *f, const dsc_units *units, int64_t index, void *error, int64_t n, int64_t real,
                     char *packets)
{
    const dsc_unit *unit = &units->unit[index];
    const int64_t chunk = chunk_of(f, unit);
    double squares = 0, scale;

    for (int64_t i = 0; i < real; i++) squares += load(error, i, f->out) * load(error, i, f->out);
    for (int64_t j = 0; j < n / chunk; j++)
        store(packets + j * f->bytes + f->scales, index, f->out, real == 0 ? 0 : sqrt(squares / (double)real));
    scale = scale_at(f, packets, index);
    for (int64_t i = 0; i < n; i++) {
        uint8_t *byte = byte_at(f, unit, packets + i / chunk * f->bytes, i % chunk);
        const double v = load(error, i, f->out);

        if (i % 8 == 0) *byte = 0;
        if (v >= 0) *byte |= (uint8_t)(0x80 >> i % 8);
        store(error, i, f->out, i < real ? v - (v >= 0 ? scale : -scale) : 0);
    }
}

static char *elem_at(void *base, int64_t index, int type) { return (char *)base + index * dsc_dtype_bytes(type); }

/* ---- The kernels */

dsc_status dsc_ref_sign_compress(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const form f = form_of(s, s->d + 1);
    const dsc_units *units = o[1];

    (void)workspace, (void)step;
    memset(o[3], 0, (size_t)(f.ranks * f.bytes));
    for (int64_t u = 0; u < units->count; u++) {
        const dsc_unit *unit = &units->unit[u];
        const int64_t real = real_of(s, unit, 0, unit->padded);
        char *error = elem_at(o[2], unit->place, s->out);

        for (int64_t i = 0; i < unit->padded; i++) {
            const double x = i < unit->real ? load(o[0], unit->first + i, s->type) : 0;

            store(error, i, s->out, i < real ? x + load(error, i, s->out) : 0);
        }
        compress(&f, units, u, error, unit->padded, real, o[3]);
    }
    return DSC_OK;
}

static void add_signs(const form *f, const dsc_units *units, int64_t u, const char *sent, int64_t real, char *error)
{
    const dsc_unit *unit = &units->unit[u];

    for (int64_t i = 0; i < chunk_of(f, unit); i++) {
        double v = load(error, i, f->out);

        for (int64_t r = 0; r < f->ranks; r++) {
            const double part = scale_at(f, sent + r * f->bytes, u) / (double)f->ranks;

            v += bit_at(f, unit, sent + r * f->bytes, i) ? part : -part;
        }
        store(error, i, f->out, i < real ? v : 0);
    }
}

dsc_status dsc_ref_sign_average(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const form f = form_of(s, s->d);
    const dsc_units *units = o[1];

    (void)workspace, (void)step;
    memset(o[3], 0, (size_t)f.bytes);
    for (int64_t u = 0; u < units->count; u++) {
        const dsc_unit *unit = &units->unit[u];
        const int64_t chunk = chunk_of(&f, unit), real = real_of(s, unit, units->server * chunk, chunk);
        char *error = elem_at(o[2], unit->place / f.ranks, s->out);

        add_signs(&f, units, u, o[0], real, error);
        compress(&f, units, u, error, chunk, real, o[3]);
    }
    return DSC_OK;
}

static void expand(const dsc_shape *s, const form *f, const dsc_units *units, const char *packets, void *x)
{
    for (int64_t u = 0; u < units->count; u++) {
        const dsc_unit *unit = &units->unit[u];
        const int64_t chunk = chunk_of(f, unit);

        for (int64_t i = 0; i < unit->real; i++) {
            const char *packet = packets + i / chunk * f->bytes;
            const double scale = scale_at(f, packet, u);

            store(x, unit->first + i, s->out, bit_at(f, unit, packet, i % chunk) ? scale : -scale);
        }
    }
}

dsc_status dsc_ref_sign_expand(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const form f = form_of(s, s->d + 1);

    (void)workspace, (void)step;
    for (int64_t i = 0; i < s->d[0]; i++) store(o[2], i, s->out, 0);
    for (int64_t l = 0; l < s->d[4]; l++)
        expand(s, &f, (const dsc_units *)((const int64_t *)o[1] + l * dsc_units_elems(f.units)),
               (const char *)o[0] + l * f.ranks * f.bytes, o[2]);
    return DSC_OK;
}
