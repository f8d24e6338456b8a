#include "kernels/cpu/overlay.h"
#include "kernels/cpu/vector.h"
#include <math.h>

/* Two passes over what is sent: its mean square has to be known before anything is left out. Elements are taken in
 * words of 64, whose signs are one machine word; sums over fixed chunks in a fixed order, so that no thread count
 * changes a bit. */
enum { WORD = 64 };

/* Words of a thread's turn: the first, and one past the last. */
typedef struct span { int64_t first, end; } span;

static span chunk_of(int64_t n, int64_t index)
{
    const int64_t chunk = dsc_ceil_div(dsc_ceil_div(n, WORD), DSC_SUM_CHUNKS);

    return (span){DSC_MIN(index * chunk, dsc_ceil_div(n, WORD)), DSC_MIN((index + 1) * chunk, dsc_ceil_div(n, WORD))};
}

/* ---- Bits: in memory the first of a byte's elements is its highest bit, in a machine word the lowest */

DSC_INLINE uint64_t turn_bytes(uint64_t x)
{
    x = (x >> 1 & 0x5555555555555555) | (x & 0x5555555555555555) << 1;
    x = (x >> 2 & 0x3333333333333333) | (x & 0x3333333333333333) << 2;
    return (x >> 4 & 0x0f0f0f0f0f0f0f0f) | (x & 0x0f0f0f0f0f0f0f0f) << 4;
}

/* The bits of `count` elements, a multiple of 8; all ones where there are none. */
DSC_INLINE uint64_t load_bits(const uint8_t *bits, int64_t word, int64_t count)
{
    uint64_t x = 0;

    if (bits == NULL) return ~UINT64_C(0);
    memcpy(&x, bits + word * (WORD / 8), (size_t)count / 8);
    return turn_bytes(x);
}

DSC_INLINE void store_bits(uint64_t x, uint8_t *bits, int64_t word, int64_t count)
{
    x = turn_bytes(x);
    memcpy(bits + word * (WORD / 8), &x, (size_t)count / 8);
}

DSC_INLINE bool bit_at(uint64_t word, int64_t i) { return word >> i & 1; }

/* ---- What is sent */

/* v = error + x, 0 where there is padding; returns the sum of squares of a word. */
DSC_INLINE double add_word(const float *x, uint64_t real, int64_t count, float *error)
{
    double sum = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) {
        const float v = bit_at(real, i) ? error[i] + x[i] : 0;

        error[i] = v;
        sum += (double)v * v;
    }
    return sum;
}

/* Signs of a word, and what they leave out. */
DSC_INLINE uint64_t compress_word(float scale, uint64_t real, int64_t count, float *error)
{
    uint64_t bits = 0;

    for (int64_t i = 0; i < count; i++) bits |= (uint64_t)(error[i] >= 0) << i;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const float left = error[i] - (error[i] >= 0 ? scale : -scale);

        error[i] = bit_at(real, i) ? left : 0;
    }
    return bits;
}

/* partial: sums of squares and numbers of elements, by chunk. */
static float find_scale(const double (*partial)[2])
{
    double sum = 0, count = 0;

    for (int64_t i = 0; i < DSC_SUM_CHUNKS; i++) {
        sum += partial[i][0];
        count += partial[i][1];
    }
    return count == 0 ? 0 : (float)sqrt(sum / count);
}

/* The second pass. */
static void compress(int64_t n, const double (*partial)[2], float *error, const uint8_t *mask, uint8_t *bits,
                     float *scale)
{
    *scale = find_scale(partial);
#pragma omp parallel for
    for (int64_t chunk = 0; chunk < DSC_SUM_CHUNKS; chunk++)
        for (int64_t word = chunk_of(n, chunk).first; word < chunk_of(n, chunk).end; word++) {
            const int64_t count = DSC_MIN(n - word * WORD, WORD);

            store_bits(compress_word(*scale, load_bits(mask, word, count), count, error + word * WORD), bits, word,
                       count);
        }
}

/* ---- The first pass: what there is to send, and its mean square */

/* Elements, or, where `scales` is there, what ranks have sent of them. */
typedef struct source { const void *x; int type; const uint8_t *sent; const float *scales; int64_t n, ranks; } source;

/* The sum over ranks of a word's signs times their scales. */
DSC_INLINE void average_word(const source *from, int64_t word, int64_t count, float *sum)
{
    memset(sum, 0, WORD * sizeof *sum);
    for (int64_t r = 0; r < from->ranks; r++) {
        const uint64_t bits = load_bits(from->sent + r * (from->n / 8), word, count);
        const float part = from->scales[r] / (float)from->ranks;

#pragma omp simd
        for (int64_t i = 0; i < WORD; i++) sum[i] += bit_at(bits, i) ? part : -part;
    }
}

DSC_INLINE const float *take_word(const source *from, int64_t word, int64_t count, float *block)
{
    if (from->scales == NULL) return dsc_view(from->x, word * WORD, count, from->type, block);
    average_word(from, word, count, block);
    return block;
}

static void add(const source *from, const uint8_t *mask, float *error, double (*partial)[2])
{
#pragma omp parallel for
    for (int64_t chunk = 0; chunk < DSC_SUM_CHUNKS; chunk++) {
        partial[chunk][0] = partial[chunk][1] = 0;
        for (int64_t word = chunk_of(from->n, chunk).first; word < chunk_of(from->n, chunk).end; word++) {
            const int64_t count = DSC_MIN(from->n - word * WORD, WORD);
            const uint64_t real = load_bits(mask, word, count);
            float block[WORD];

            partial[chunk][0] += add_word(take_word(from, word, count, block), real, count, error + word * WORD);
            partial[chunk][1] += mask == NULL ? (double)count : __builtin_popcountll(real);
        }
    }
}

/* ---- The kernels */

dsc_status DSC_OVERLAY(sign_compress)(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const source from = {.x = o[0], .type = s->type, .n = s->d[0]};

    (void)step;
    add(&from, o[2], o[1], workspace);
    compress(s->d[0], workspace, o[1], o[2], o[3], o[4]);
    return DSC_OK;
}

dsc_status DSC_OVERLAY(sign_average)(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const source from = {.sent = o[0], .scales = o[1], .n = s->d[0], .ranks = s->d[1]};

    (void)step;
    add(&from, o[3], o[2], workspace);
    compress(s->d[0], workspace, o[2], o[3], o[4], o[5]);
    return DSC_OK;
}

dsc_status DSC_OVERLAY(sign_expand)(const dsc_shape *s, void *const *o, void *workspace, const dsc_step *step)
{
    const int64_t n = s->d[0], chunk = n / s->d[1];
    const float *scales = o[1];
    float *x = o[3];

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t word = 0; word < dsc_ceil_div(n, WORD); word++) {
        const int64_t count = DSC_MIN(n - word * WORD, WORD);
        const uint64_t bits = load_bits(o[0], word, count), real = load_bits(o[2], word, count);

        for (int64_t i = 0; i < count; i += 8) { /* a byte is of one chunk */
            const float scale = scales[(word * WORD + i) / chunk];

#pragma omp simd
            for (int64_t j = 0; j < 8; j++)
                x[word * WORD + i + j] = !bit_at(real, i + j) ? 0 : bit_at(bits, i + j) ? scale : -scale;
        }
    }
    return DSC_OK;
}
