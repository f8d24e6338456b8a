#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include "kernel/units.h"
#include <math.h>

/* What is sent of a unit needs its mean square first, so there are two passes over it, of which the second finds in the
 * caches what the first has read. Elements are taken in words of 64, whose signs are one machine word. Sums are over
 * fixed pieces in a fixed order, so that no thread count changes a bit. */
enum { WORD = 64, PIECE = DSC_BLOCK };

/* ---- Words */

#ifdef __AVX512F__
typedef __m512 floats;
DSC_INLINE floats load(const float *from) { return _mm512_loadu_ps(from); }
DSC_INLINE void store(float *to, floats x) { _mm512_storeu_ps(to, x); }
DSC_INLINE floats all(float x) { return _mm512_set1_ps(x); }
DSC_INLINE floats plus(floats x, floats y) { return _mm512_add_ps(x, y); }
DSC_INLINE floats minus(floats x, floats y) { return _mm512_sub_ps(x, y); }
DSC_INLINE uint64_t signs(floats x) { return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ); }
DSC_INLINE floats choose(uint64_t bits, floats one, floats zero)
{
    return _mm512_mask_blend_ps((__mmask16)bits, zero, one);
}
DSC_INLINE void add_squares(floats x, __m512d sums[2])
{
    const floats square = _mm512_mul_ps(x, x);

    sums[0] = _mm512_add_pd(sums[0], _mm512_cvtps_pd(_mm512_castps512_ps256(square)));
    sums[1] = _mm512_add_pd(sums[1], _mm512_cvtps_pd(_mm512_extractf32x8_ps(square, 1)));
}
typedef __m512d doubles;
#else
typedef __m256 floats;
DSC_INLINE floats load(const float *from) { return _mm256_loadu_ps(from); }
DSC_INLINE void store(float *to, floats x) { _mm256_storeu_ps(to, x); }
DSC_INLINE floats all(float x) { return _mm256_set1_ps(x); }
DSC_INLINE floats plus(floats x, floats y) { return _mm256_add_ps(x, y); }
DSC_INLINE floats minus(floats x, floats y) { return _mm256_sub_ps(x, y); }
DSC_INLINE uint64_t signs(floats x)
{
    return (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ));
}
DSC_INLINE floats choose(uint64_t bits, floats one, floats zero)
{
    const __m256i place = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i there = _mm256_and_si256(_mm256_set1_epi32((int)(bits & 0xff)), place);

    return _mm256_blendv_ps(zero, one, _mm256_castsi256_ps(_mm256_cmpeq_epi32(there, place)));
}
typedef __m256d doubles;
DSC_INLINE void add_squares(floats x, doubles sums[2])
{
    const floats square = _mm256_mul_ps(x, x);

    sums[0] = _mm256_add_pd(sums[0], _mm256_cvtps_pd(_mm256_castps256_ps128(square)));
    sums[1] = _mm256_add_pd(sums[1], _mm256_cvtps_pd(_mm256_extractf128_ps(square, 1)));
}
#endif

DSC_INLINE double sum_of(const doubles sums[2])
{
    double lanes[2 * sizeof(doubles) / sizeof(double)], sum = 0;

    memcpy(lanes, sums, sizeof lanes);
    for (int64_t i = 0; i < DSC_COUNT(lanes); i++) sum += lanes[i];
    return sum;
}

/* In memory the first of a byte's elements is its highest bit, in a machine word the lowest. */
DSC_INLINE uint64_t turn_bytes(uint64_t x)
{
    x = (x >> 1 & 0x5555555555555555) | (x & 0x5555555555555555) << 1;
    x = (x >> 2 & 0x3333333333333333) | (x & 0x3333333333333333) << 2;
    return (x >> 4 & 0x0f0f0f0f0f0f0f0f) | (x & 0x0f0f0f0f0f0f0f0f) << 4;
}

DSC_INLINE uint64_t load_bits(const uint8_t *from)
{
    uint64_t x;

    memcpy(&x, from, sizeof x);
    return turn_bytes(x);
}

DSC_INLINE void store_bits(uint64_t x, uint8_t *to)
{
    x = turn_bytes(x);
    memcpy(to, &x, sizeof x);
}

DSC_INLINE bool bit_at(const uint8_t *bits, int64_t i) { return bits[i / 8] >> (7 - i % 8) & 1; }

/* ---- Pieces: at most PIECE elements of a unit's chunk, of which the first `real` are no padding; `counted` count */

/* Elements from which on each has to be looked at by itself, in steps of `unit`. */
DSC_INLINE int64_t plain_elems(const float *x, int64_t real, int64_t counted, int64_t unit)
{
    return (x == NULL ? counted : real) / unit * unit;
}

DSC_INLINE float value_at(const float *x, const float *error, int64_t i, int64_t real)
{
    return error[i] + (x != NULL && i < real ? x[i] : 0);
}

/* Sum of (x + error)^2; x NULL: of error. */
DSC_INLINE double squares_of(const float *x, const float *error, int64_t real, int64_t counted)
{
    const int64_t plain = plain_elems(x, real, counted, DSC_WIDTH);
    doubles sums[2] = {{0}, {0}};
    double rest = 0;

    for (int64_t i = 0; i < plain; i += DSC_WIDTH)
        add_squares(x == NULL ? load(error + i) : plus(load(x + i), load(error + i)), sums);
    for (int64_t i = plain; i < counted; i++) {
        const float v = value_at(x, error, i, real);

        rest += (double)(v * v);
    }
    return sum_of(sums) + rest;
}

/* Signs of a word of x + error, and what they leave out. */
DSC_INLINE uint64_t pack_word(const float *x, float *error, floats up, floats down)
{
    uint64_t word = 0;

    for (int64_t i = 0; i < WORD; i += DSC_WIDTH) {
        const floats v = x == NULL ? load(error + i) : plus(load(x + i), load(error + i));
        const uint64_t sign = signs(v);

        word |= sign << i;
        store(error + i, minus(v, choose(sign, up, down)));
    }
    return word;
}

DSC_INLINE void pack(const float *x, float *error, int64_t real, int64_t counted, int64_t count, float scale,
                     uint8_t *bits)
{
    const int64_t plain = plain_elems(x, real, counted, WORD);
    const floats up = all(scale), down = all(-scale);

    for (int64_t i = 0; i < plain; i += WORD)
        store_bits(pack_word(x == NULL ? NULL : x + i, error + i, up, down), bits + i / 8);
    memset(bits + plain / 8, 0, (size_t)(count - plain) / 8);
    for (int64_t i = plain; i < count; i++) {
        const float v = i < counted ? value_at(x, error, i, real) : 0;

        if (v >= 0) bits[i / 8] |= (uint8_t)(0x80 >> i % 8);
        error[i] = i < counted ? v - (v >= 0 ? scale : -scale) : 0;
    }
}

/* ---- Units */

/* What a kernel's shape says of packets, and where they are. */
typedef struct packets {
    int64_t ranks, bytes, scales;
    uint8_t *base;
} packets;

static packets packets_of(const dsc_shape *s, const int64_t *d, void *base)
{
    return (packets){d[1], dsc_packet_bytes(d[0], d[1], d[2], s->out), dsc_packet_scales(d[0], d[1]), base};
}

DSC_INLINE uint8_t *bits_of(const packets *p, int64_t packet, const dsc_unit *unit, int64_t i)
{
    return p->base + packet * p->bytes + (unit->place / p->ranks + i) / 8;
}

DSC_INLINE float *scale_of(const packets *p, int64_t packet, int64_t unit)
{
    return (float *)(p->base + packet * p->bytes + p->scales) + unit;
}

/* A unit, or a server's chunk of one, that is to be sent: x and error, of which chunk j is for packet j. */
typedef struct sending {
    const dsc_unit *unit;
    const void *x; int type;            /* NULL: error holds what is to be sent */
    float *error;
    int64_t chunks, chunk, real, counted; /* elements */
    const packets *to;
    int64_t index;                      /* of the unit */
} sending;

typedef struct piece { int64_t packet, in_chunk, first, count, real, counted; } piece;

DSC_INLINE int64_t pieces_of(const sending *u) { return u->chunks * dsc_ceil_div(u->chunk, PIECE); }

DSC_INLINE piece piece_at(const sending *u, int64_t index)
{
    const int64_t each = dsc_ceil_div(u->chunk, PIECE);
    piece p = {.packet = index / each, .in_chunk = index % each * PIECE};

    p.first = p.packet * u->chunk + p.in_chunk;
    p.count = DSC_MIN(PIECE, u->chunk - p.in_chunk);
    p.real = DSC_MAX(0, DSC_MIN(u->real - p.first, p.count));
    p.counted = DSC_MAX(0, DSC_MIN(u->counted - p.first, p.count));
    return p;
}

static double piece_squares(const sending *u, int64_t index)
{
    const piece p = piece_at(u, index);
    const float *error = u->error + p.first;
    float block[PIECE];

    if (u->x == NULL) return squares_of(NULL, error, p.real, p.counted);
    return squares_of(dsc_view(u->x, u->unit->first + p.first, p.real, u->type, block), error, p.real, p.counted);
}

static void pack_piece(const sending *u, int64_t index, float scale)
{
    const piece p = piece_at(u, index);
    float block[PIECE], *error = u->error + p.first;
    uint8_t *bits = bits_of(u->to, p.packet, u->unit, p.in_chunk);

    if (p.in_chunk == 0) *scale_of(u->to, p.packet, u->index) = scale;
    if (u->x == NULL) pack(NULL, error, p.real, p.counted, p.count, scale, bits);
    else pack(dsc_view(u->x, u->unit->first + p.first, p.real, u->type, block), error, p.real, p.counted, p.count,
              scale, bits);
}

/* Pieces first .. end are one of DSC_SUM_CHUNKS runs. */
typedef struct run { int64_t first, end; } run;

DSC_INLINE run run_at(int64_t pieces, int64_t index)
{
    const int64_t each = dsc_ceil_div(pieces, DSC_SUM_CHUNKS);

    return (run){DSC_MIN(index * each, pieces), DSC_MIN((index + 1) * each, pieces)};
}

static double run_squares(const sending *u, int64_t index)
{
    const run r = run_at(pieces_of(u), index);
    double sum = 0;

    for (int64_t i = r.first; i < r.end; i++) sum += piece_squares(u, i);
    return sum;
}

static void pack_run(const sending *u, int64_t index, float scale)
{
    const run r = run_at(pieces_of(u), index);

    for (int64_t i = r.first; i < r.end; i++) pack_piece(u, i, scale);
}

static float scale_from(const sending *u, const double *partial)
{
    double sum = 0;

    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) sum += partial[i];
    return u->counted == 0 ? 0 : (float)sqrt(sum / (double)u->counted);
}

/* Threads that share a unit meet twice; for a small one that costs more than the work. */
static bool is_shared(const sending *u) { return u->chunks * u->chunk > 1 << 15; }

/* By a team of threads, all of which call it. */
static void send_together(const sending *u, double *partial)
{
#pragma omp for schedule(static)
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) partial[i] = run_squares(u, i);
    const float scale = scale_from(u, partial);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) pack_run(u, i, scale);
}

static void send_alone(const sending *u)
{
    double partial[DSC_SUM_CHUNKS];
    float scale;

    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) partial[i] = run_squares(u, i);
    scale = scale_from(u, partial);
    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) pack_run(u, i, scale);
}

DSC_INLINE int64_t counted_of(const dsc_shape *s, const dsc_unit *unit)
{
    return s->flags & DSC_COUNT_PADDING ? unit->padded : unit->real;
}

/* What no unit fills: a rank may have fewer than its program has room for. */
static void clear_rest(const packets *to, const dsc_units *units, int64_t count)
{
    const dsc_unit *last = units->count > 0 ? &units->unit[units->count - 1] : NULL;
    const int64_t bits = last == NULL ? 0 : (last->place + last->padded) / to->ranks / 8;
    const int64_t scales = to->scales + units->count * (int64_t)sizeof(float);

    for (int64_t j = 0; j < count; j++) {
        memset(to->base + j * to->bytes + bits, 0, (size_t)(to->scales - bits));
        memset(to->base + j * to->bytes + scales, 0, (size_t)(to->bytes - scales));
    }
}

/* ---- The kernels */

static sending whole_unit(const dsc_shape *s, const packets *to, const dsc_units *units, int64_t index,
                          void *const *o)
{
    const dsc_unit *unit = &units->unit[index];

    return (sending){.unit = unit, .x = o[0], .type = s->type, .error = (float *)o[2] + unit->place,
                     .chunks = to->ranks, .chunk = unit->padded / to->ranks, .real = unit->real,
                     .counted = counted_of(s, unit), .to = to, .index = index};
}

dsc_status DSC_OVERLAY(sign_compress)(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const packets to = packets_of(s, s->d + 1, o[3]);
    const dsc_units *units = o[1];

    (void)step;
    clear_rest(&to, units, to.ranks);
#pragma omp parallel
    {
#pragma omp for schedule(dynamic) nowait
        for (int64_t u = 0; u < units->count; u++) {
            const sending unit = whole_unit(s, &to, units, u, o);

            if (!is_shared(&unit)) send_alone(&unit);
        }
        for (int64_t u = 0; u < units->count; u++) {
            const sending unit = whole_unit(s, &to, units, u, o);

            if (is_shared(&unit)) send_together(&unit, workspace);
        }
    }
    return DSC_OK;
}

/* error += the mean of what ranks sent of count elements from `first` of the chunk on; 0 from `counted` on. */
static void add_mean(const packets *sent, const sending *u, int64_t first, int64_t count, int64_t counted)
{
    float *error = u->error + first;
    const int64_t plain = counted / WORD * WORD;

    for (int64_t i = counted; i < count; i++) error[i] = 0;
    for (int64_t r = 0; r < sent->ranks; r++) {
        const uint8_t *bits = bits_of(sent, r, u->unit, first);
        const float part = *scale_of(sent, r, u->index) / (float)sent->ranks;
        const floats up = all(part), down = all(-part);

        for (int64_t i = 0; i < plain; i += WORD) {
            const uint64_t word = load_bits(bits + i / 8);

            for (int64_t k = 0; k < WORD; k += DSC_WIDTH)
                store(error + i + k, plus(load(error + i + k), choose(word >> k, up, down)));
        }
        for (int64_t i = plain; i < counted; i++) error[i] += bit_at(bits, i) ? part : -part;
    }
}

static sending served_chunk(const dsc_shape *s, const packets *to, const dsc_units *units, int64_t index,
                            int64_t ranks, float *error)
{
    const dsc_unit *unit = &units->unit[index];
    const int64_t chunk = unit->padded / ranks, counted = counted_of(s, unit) - units->server * chunk;

    return (sending){.unit = unit, .error = error + unit->place / ranks, .chunks = 1, .chunk = chunk,
                     .counted = DSC_MAX(0, DSC_MIN(counted, chunk)), .to = to, .index = index};
}

dsc_status DSC_OVERLAY(sign_average)(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const packets sent = packets_of(s, s->d, o[0]), to = packets_of(s, s->d, o[3]);
    const dsc_units *units = o[1];

    (void)step;
    clear_rest(&to, units, 1);
#pragma omp parallel
    for (int64_t u = 0; u < units->count; u++) {
        const sending chunk = served_chunk(s, &to, units, u, sent.ranks, o[2]);

#pragma omp for schedule(static)
        for (int64_t i = 0; i < pieces_of(&chunk); i++) {
            const piece p = piece_at(&chunk, i);

            add_mean(&sent, &chunk, p.first, p.count, p.counted);
        }
        send_together(&chunk, workspace);
    }
    return DSC_OK;
}

/* x of count elements of a unit's chunk, from `first` of the unit on. */
static void expand_piece(const packets *from, const sending *u, const piece *p, float *x)
{
    const uint8_t *bits = bits_of(from, p->packet, u->unit, p->in_chunk);
    const float scale = *scale_of(from, p->packet, u->index);
    const floats up = all(scale), down = all(-scale);
    const int64_t plain = p->real / WORD * WORD;

    for (int64_t i = 0; i < plain; i += WORD) {
        const uint64_t word = load_bits(bits + i / 8);

        for (int64_t k = 0; k < WORD; k += DSC_WIDTH) store(x + i + k, choose(word >> k, up, down));
    }
    for (int64_t i = plain; i < p->real; i++) x[i] = bit_at(bits, i) ? scale : -scale;
}

/* Units ascend: what lies between them is zero. Called by a team; returns where the last unit ends. */
static int64_t expand_list(const packets *from, const dsc_units *units, int64_t end, float *x)
{
    for (int64_t u = 0; u < units->count; u++) {
        const dsc_unit *unit = &units->unit[u];
        const sending whole = {.unit = unit, .chunks = from->ranks, .chunk = unit->padded / from->ranks,
                               .real = unit->real, .index = u};

#pragma omp single nowait
        memset(x + end, 0, (size_t)(unit->first - end) * sizeof *x);
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < pieces_of(&whole); i++) {
            const piece p = piece_at(&whole, i);

            expand_piece(from, &whole, &p, x + unit->first + p.first);
        }
        end = unit->first + unit->real;
    }
    return end;
}

dsc_status DSC_OVERLAY(sign_expand)(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const packets all_packets = packets_of(s, s->d + 1, o[0]);
    float *x = o[2];

    (void)workspace, (void)step;
#pragma omp parallel
    {
        int64_t end = 0;

        for (int64_t l = 0; l < s->d[4]; l++) {
            packets from = all_packets;

            from.base += l * from.ranks * from.bytes;
            end = expand_list(&from, (const dsc_units *)((const int64_t *)o[1] + l * dsc_units_elems(s->d[3])), end, x);
        }
#pragma omp single
        memset(x + end, 0, (size_t)(s->d[0] - end) * sizeof *x);
    }
    return DSC_OK;
}
