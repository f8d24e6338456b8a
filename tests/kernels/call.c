#include "tests/kernels/call.h"
#include "base/rng.h"
#include "kernel/blocks.h"
#include "kernel/convert.h"
#include "kernel/held.h"
#include "kernel/units.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 128, MARK = 0xa5, WORKSPACE = DSC_KERNEL_OPERANDS };

const dsc_step call_step = {
    .number = 3,
    .optimizer_step = 3,
    .lr = 1e-3,
    .beta1 = 0.9,
    .beta2 = 0.999,
    .eps = 1e-8,
    .weight_decay = 0.01,
    .bias_correction1 = 0.271,
    .bias_correction2 = 18.27,
    .loss_scale = 1,
    .loss_gradient = 0.125f,
    .gradient_scale = 0.5f,
    .rates = 0.01,
    .fresh_correction2 = 15.3,
    .trust = {.max_coeff = 2, .min_coeff = 0.5, .coeff_beta = 0.9, .factor_max = 4, .factor_min = 0.5,
              .factor_threshold = 0.1},
};

/* ---- Memory */

static void *take(call *c, int slot, int64_t bytes, int64_t misalignment)
{
    c->memory[slot].offset = GUARD + misalignment;
    c->memory[slot].bytes = bytes;
    c->memory[slot].block_bytes = dsc_round_up(2 * GUARD + misalignment + bytes, 64);
    c->memory[slot].block = aligned_alloc(64, (size_t)c->memory[slot].block_bytes);
    if (c->memory[slot].block == NULL) abort();
    memset(c->memory[slot].block, MARK, (size_t)c->memory[slot].block_bytes);
    return c->memory[slot].block + c->memory[slot].offset;
}

static bool guards_hold(const call *c, int slot)
{
    const unsigned char *block = c->memory[slot].block;
    const int64_t end = c->memory[slot].offset + c->memory[slot].bytes;

    if (block == NULL) return true;
    for (int64_t i = 0; i < c->memory[slot].block_bytes; i++)
        if ((i < c->memory[slot].offset || i >= end) && block[i] != MARK) return false;
    return true;
}

void call_fini(call *c)
{
    for (int i = 0; i <= WORKSPACE; i++) free(c->memory[i].block);
}

/* ---- Elements */

static bool is_named(const call *c, int operand, const char *name)
{
    char word[32];

    return strcmp(dsc_kernel_operand_name((dsc_kernel)c->shape.kernel, operand, word), name) == 0;
}

static const char *const accumulators[] = {"dgamma", "dbeta", "dwte", "dwpe", "gradient"};
static const char *const singles[] = {"stats", "lse", "part", "parts", "mask", "param", "exp_avg", "exp_avg_sq",
                                      "anchor", "fresh", "state", "trust"};

static bool is_sign(int kernel) { return kernel >= DSC_K_SIGN_COMPRESS && kernel <= DSC_K_SIGN_EXPAND; }

static bool is_packets(const call *c, int operand)
{
    return is_sign(c->shape.kernel) && !is_named(c, operand, "units") && !is_named(c, operand, "x") &&
           !is_named(c, operand, "error");
}

/* Packets are bytes here: x of compression alone is of the storage type. */
static dsc_dtype find_sign_type(const call *c, int operand)
{
    if (is_named(c, operand, "units")) return DSC_INT64;
    if (is_packets(c, operand)) return DSC_UINT8;
    return (dsc_dtype)(c->shape.kernel == DSC_K_SIGN_COMPRESS && operand == 0 ? c->shape.type : c->shape.out);
}

static dsc_dtype find_type(const call *c, int operand)
{
    const int kernel = c->shape.kernel;

    if (is_sign(kernel)) return find_sign_type(c, operand);
    if (is_named(c, operand, "tokens") || is_named(c, operand, "layout")) return DSC_INT32;
    if (is_named(c, operand, "held")) return DSC_INT64;
    if (is_named(c, operand, "sums")) return DSC_FP64;
    if (is_named(c, operand, "loss") || (kernel == DSC_K_SQUARE_SUM && operand == 1)) return DSC_FP64;
    if (kernel == DSC_K_CLEAR) return (dsc_dtype)c->shape.type;
    if (is_named(c, operand, "out") || kernel == DSC_K_SQUARE_SUM) return (dsc_dtype)c->shape.out;
    for (int i = 0; i < DSC_COUNT(accumulators); i++)
        if (is_named(c, operand, accumulators[i])) return (dsc_dtype)c->shape.out;
    for (int i = 0; i < DSC_COUNT(singles); i++)
        if (is_named(c, operand, singles[i])) return c->shape.type == DSC_FP64 ? DSC_FP64 : DSC_FP32;
    return (dsc_dtype)c->shape.type;
}

int64_t call_count(const call *c, int operand)
{
    return dsc_operand_bytes(&c->shape, operand) / dsc_dtype_bytes(c->type[operand]);
}

double call_get(const call *c, int operand, int64_t index)
{
    const void *from = c->operand[operand];

    switch (c->type[operand]) {
    case DSC_FP64: return ((const double *)from)[index];
    case DSC_INT32: return ((const int32_t *)from)[index];
    case DSC_INT64: return (double)((const int64_t *)from)[index];
    case DSC_UINT8: return ((const uint8_t *)from)[index];
    default: return dsc_load(from, index, c->type[operand]);
    }
}

void call_set(call *c, int operand, int64_t index, double value)
{
    void *to = c->operand[operand];

    switch (c->type[operand]) {
    case DSC_FP64: ((double *)to)[index] = value; break;
    case DSC_INT32: ((int32_t *)to)[index] = (int32_t)value; break;
    case DSC_INT64: ((int64_t *)to)[index] = (int64_t)value; break;
    case DSC_UINT8: ((uint8_t *)to)[index] = (uint8_t)value; break;
    default: dsc_store(to, index, c->type[operand], value);
    }
}

/* ---- Packets */

const int64_t *call_sign_dims(const call *c) { return c->shape.d + (c->shape.kernel == DSC_K_SIGN_AVERAGE ? 0 : 1); }

int64_t call_packets(const call *c, int operand)
{
    const int64_t *d = call_sign_dims(c);

    if (!is_packets(c, operand)) return 0;
    return dsc_operand_bytes(&c->shape, operand) / dsc_packet_bytes(d[0], d[1], d[2], (dsc_dtype)c->shape.out);
}

uint8_t *call_packet(const call *c, int operand, int64_t packet)
{
    const int64_t *d = call_sign_dims(c);

    return (uint8_t *)c->operand[operand] + packet * dsc_packet_bytes(d[0], d[1], d[2], (dsc_dtype)c->shape.out);
}

void *call_scales(const call *c, int operand, int64_t packet)
{
    return call_packet(c, operand, packet) + dsc_packet_scales(call_sign_dims(c)[0], call_sign_dims(c)[1]);
}

const dsc_units *call_units(const call *c, int64_t list)
{
    return (const dsc_units *)((const int64_t *)c->operand[1] + list * dsc_units_elems(call_sign_dims(c)[2]));
}

/* ---- Filling */

static bool is_loss(int kernel) { return kernel >= DSC_K_CROSS_ENTROPY && kernel <= DSC_K_CROSS_ENTROPY_JOIN; }

static int64_t vocabulary_of(const dsc_shape *shape)
{
    if (shape->flags & DSC_SHARD) return CALL_RANKS * shape->d[4];
    return shape->d[is_loss(shape->kernel) ? 2 : 3];
}

static int64_t pick_index(const dsc_shape *shape)
{
    switch ((dsc_kernel)shape->kernel) {
    case DSC_K_CROSS_ENTROPY_PART: return tap_random_between(0, dsc_ceil_div(shape->d[2], shape->d[4]));
    case DSC_K_CROSS_ENTROPY_JOIN: return tap_random_between(0, shape->d[5] - 1);
    case DSC_K_CAST: return shape->flags & DSC_SHARD ? tap_random_between(0, shape->d[1] - 1) : 0;
    default: return shape->flags & DSC_SHARD ? tap_random_between(0, CALL_RANKS) : 0;
    }
}

static void fill_tokens(call *c, int operand, uint64_t stream)
{
    const uint64_t vocabulary = (uint64_t)vocabulary_of(&c->shape);

    for (int64_t i = 0; i < call_count(c, operand); i++)
        call_set(c, operand, i, (double)(dsc_random_bits(1, stream, (uint64_t)i) % vocabulary));
}

static void fill_normal(call *c, int operand, uint64_t stream)
{
    const float mean = is_named(c, operand, "x") ? 0.5f : 0; /* which the norms have to remove */
    const bool positive = is_named(c, operand, "exp_avg_sq") || is_named(c, operand, "fresh") ||
                          is_named(c, operand, "sums") || is_named(c, operand, "state");
    const int64_t count = call_count(c, operand);
    float *normal = malloc((size_t)count * sizeof *normal);

    if (normal == NULL) abort();
    dsc_random_normal(1, stream, 0, count, normal);
    for (int64_t i = 0; i < count; i++) call_set(c, operand, i, (positive ? fabsf(normal[i]) : normal[i]) + mean);
    free(normal);
}

static bool has_block(const dsc_blocks *b, int64_t list, int64_t column)
{
    for (int32_t i = b->row_start[list]; i < b->row_start[list + 1]; i++)
        if (b->columns[i] == column) return true;
    return false;
}

/* Blocks at random, of which the lists may hold as many or fewer: rows and columns without any are among them. */
static void fill_layout(call *c, int operand)
{
    const dsc_blocks b = dsc_blocks_of(&c->shape, c->operand[operand]);
    const int64_t lists = b.heads * b.n, of = tap_random_between(1, 4 * lists * b.n / b.present + 1);
    int32_t at = 0;

    for (int64_t list = 0; list < lists; list++) {
        b.row_start[list] = at;
        for (int64_t column = 0; column < b.n; column++)
            if (at < b.present && tap_random_between(1, of) == 1) b.columns[at++] = (int32_t)column;
        b.order[list] = (int32_t)(lists - 1 - list);
    }
    b.row_start[lists] = at;
    at = 0;
    for (int64_t list = 0; list < lists; list++) {
        b.column_start[list] = at;
        for (int64_t row = 0; row < b.n; row++)
            if (has_block(&b, list / b.n * b.n + row, list % b.n)) b.rows[at++] = (int32_t)row;
    }
    b.column_start[lists] = at;
}

/* A third is padding. */
static void fill_mask(call *c, int operand)
{
    for (int64_t i = 0; i < call_count(c, operand); i++)
        call_set(c, operand, i, tap_random_between(0, 2) == 0 ? -INFINITY : (double)tap_random_between(-1, 1));
}

static void fill_bytes(call *c, int operand)
{
    for (int64_t i = 0; i < call_count(c, operand); i++) call_set(c, operand, i, (double)tap_random_between(0, 255));
}

/* Adds a unit of at most so many of the list's places, 8 for each rank; its elements are among begin .. end. */
static void add_unit(dsc_units *list, int64_t unit, int64_t places, int64_t begin, int64_t end)
{
    const dsc_unit *last = list->count > 0 ? &list->unit[list->count - 1] : NULL;
    const int64_t padded = unit * tap_random_between(1, places);
    const int64_t gap = tap_random_between(0, 1) * tap_random_between(0, 20);
    const int64_t first = DSC_MIN(end, gap + (last == NULL ? begin : last->first + last->real));
    const int64_t few = tap_random_between(0, 1) * tap_random_between(0, padded);
    const int64_t most = padded - tap_random_between(0, unit), real = tap_random_between(0, 3) ? most : few;

    list->unit[list->count++] = (dsc_unit){.first = first, .real = DSC_MIN(real, end - first),
                                           .place = last == NULL ? 0 : last->place + last->padded, .padded = padded};
}

/* Units of many sizes, of which some have nothing but padding; fewer than there is room for, and lists without any. */
static void fill_units(call *c, int operand)
{
    const int64_t *d = call_sign_dims(c), lists = c->shape.kernel == DSC_K_SIGN_EXPAND ? d[3] : 1;
    const int64_t n = c->shape.kernel == DSC_K_SIGN_AVERAGE ? 2 * d[0] : c->shape.d[0];

    memset(c->operand[operand], MARK, (size_t)dsc_operand_bytes(&c->shape, operand));
    for (int64_t l = 0; l < lists; l++) {
        dsc_units *list = (dsc_units *)call_units(c, l);
        const int64_t count = tap_random_between(0, 5) ? tap_random_between((d[2] + 1) / 2, d[2]) : 0;
        int64_t places = d[0] / (8 * d[1]);

        list->count = 0;
        list->server = tap_random_between(0, d[1] - 1);
        for (int64_t left = count; left > 0 && places > 0; left--) {
            const int64_t share = tap_random_between(1, 4);

            add_unit(list, 8 * d[1], dsc_ceil_div(places, DSC_MIN(left, share)), n * l / lists, n * (l + 1) / lists);
            places -= list->unit[list->count - 1].padded / (8 * d[1]);
        }
    }
}

/* Scales are numbers where a unit has one. Sums of averages are exact, of multiples of 1/1024: else signs of what is
 * nearly zero would be a matter of rounding. */
static void fill_scales(call *c)
{
    const int64_t *d = call_sign_dims(c), each = c->shape.kernel == DSC_K_SIGN_AVERAGE ? 1 : d[1];

    for (int64_t packet = 0; packet < call_packets(c, 0); packet++) {
        const dsc_units *units = call_units(c, c->shape.kernel == DSC_K_SIGN_AVERAGE ? 0 : packet / each);

        for (int64_t u = 0; u < units->count; u++)
            ((float *)call_scales(c, 0, packet))[u] = (float)(d[1] * tap_random_between(0, 2048)) / 1024;
    }
    for (int64_t i = 0; c->shape.kernel == DSC_K_SIGN_AVERAGE && i < call_count(c, 2); i++)
        call_set(c, 2, i, rint(call_get(c, 2, i) * 1024) / 1024);
}

/* Tensors of many sizes, of which some have nothing that is trained, or nothing at all; what is in none is before,
 * between and behind them. */
static void fill_held(call *c, int operand)
{
    const int64_t n = c->shape.d[0], tensors = c->shape.d[1];
    dsc_held *held = c->operand[operand];
    int64_t at = 0;

    for (int64_t t = 0; t < tensors; t++) {
        const int64_t most = (n - at) / tap_random_between(1, tensors - t);
        const int64_t gap = tap_random_between(0, 1) * tap_random_between(0, DSC_MIN(20, most));
        const int64_t elems = tap_random_between(0, most - gap), few = tap_random_between(0, elems);

        held[t] = (dsc_held){.first = at + gap, .elems = elems, .real = tap_random_between(0, 2) ? elems : few};
        at += gap + elems;
    }
}

static void fill(call *c, int operand)
{
    if (c->type[operand] == DSC_UINT8) fill_bytes(c, operand);
    else if (is_named(c, operand, "held")) fill_held(c, operand);
    else if (c->type[operand] == DSC_INT64) fill_units(c, operand);
    else if (is_named(c, operand, "layout")) fill_layout(c, operand);
    else if (is_named(c, operand, "mask")) fill_mask(c, operand);
    else if (c->type[operand] == DSC_INT32) fill_tokens(c, operand, tap_random());
    else fill_normal(c, operand, tap_random());
}

static void find_stats(call *c)
{
    const int64_t rows = c->shape.d[0], cols = c->shape.d[1];

    for (int64_t i = 0; i < rows; i++) {
        double mean = 0, variance = 0;

        for (int64_t j = 0; !(c->shape.flags & DSC_RMS) && j < cols; j++)
            mean += call_get(c, 1, i * cols + j) / (double)cols;
        for (int64_t j = 0; j < cols; j++) variance += pow(call_get(c, 1, i * cols + j) - mean, 2) / (double)cols;
        call_set(c, 2, 2 * i, mean);
        call_set(c, 2, 2 * i + 1, 1 / sqrt(variance + 1e-5));
    }
}

/* qkv is operand 1 of both backward kernels; what forward wrote goes where they read it. */
static void run_attention_forward(call *c)
{
    const bool dense = c->shape.kernel == DSC_K_SCORES_BWD;
    call forward;
    dsc_shape shape = c->shape;

    shape.kernel = dense ? DSC_K_SCORES_FWD : DSC_K_ATTENTION_FWD;
    call_init(&forward, shape);
    memcpy(forward.operand[0], c->operand[1], (size_t)dsc_operand_bytes(&c->shape, 1));
    for (int i = 3; !dense && i <= 4; i++) /* layout and mask */
        if (forward.operand[i] != NULL)
            memcpy(forward.operand[i], c->operand[i + 2], (size_t)dsc_operand_bytes(&shape, i));
    call_run(&forward, dsc_kernels_ref());
    if (!dense) memcpy(c->operand[2], forward.operand[1], (size_t)dsc_operand_bytes(&c->shape, 2));
    memcpy(c->operand[dense ? 2 : 3], forward.operand[2], (size_t)dsc_operand_bytes(&c->shape, dense ? 2 : 3));
    call_fini(&forward);
}

/* The parts of all ranks, with this rank's logits for its own. */
static void find_parts(call *c)
{
    const int64_t bytes = dsc_operand_bytes(&c->shape, 1) / c->shape.d[5];
    dsc_shape shape = c->shape;
    call part;

    shape.kernel = DSC_K_CROSS_ENTROPY_PART;
    shape.flags = 0;
    shape.d[5] = 0;
    for (int64_t i = 0; i < c->shape.d[5]; i++) {
        call_init(&part, shape);
        part.tp_index = i;
        memcpy(part.operand[0], c->operand[0], (size_t)dsc_operand_bytes(&shape, 0));
        if (i == c->tp_index) memcpy(part.operand[1], c->operand[2], (size_t)dsc_operand_bytes(&shape, 1));
        call_run(&part, dsc_kernels_ref());
        memcpy((char *)c->operand[1] + i * bytes, part.operand[2], (size_t)bytes);
        call_fini(&part);
    }
}

/* Packets have scales in them. */
static int64_t alignment_of(const call *c, int operand)
{
    return is_packets(c, operand) ? 8 : dsc_dtype_bytes(c->type[operand]);
}

/* Only what the contract says is read holds numbers: all else starts as the mark. */
void call_init(call *c, dsc_shape shape)
{
    const int64_t most = tap_random_between(0, 1) ? 7 : 0; /* all aligned to 64 bytes, or each to its elements */

    memset(c, 0, sizeof *c);
    c->shape = shape;
    c->tp_index = pick_index(&shape);
    CHECK_OK(dsc_shape_check(&shape));
    for (int i = 0; i < dsc_kernel_operands((dsc_kernel)shape.kernel); i++) {
        if (!dsc_operand_present(&shape, i)) continue;
        c->type[i] = find_type(c, i);
        c->operand[i] = take(c, i, dsc_operand_bytes(&shape, i), tap_random_between(0, most) * alignment_of(c, i));
        if (dsc_operand_is_read(&shape, i)) fill(c, i);
    }
    c->workspace = take(c, WORKSPACE, dsc_kernel_workspace_bytes(&shape), 0);
    if (shape.kernel == DSC_K_NORM_BWD_X || shape.kernel == DSC_K_NORM_BWD_W) find_stats(c);
    if (shape.kernel == DSC_K_ATTENTION_BWD || shape.kernel == DSC_K_SCORES_BWD) run_attention_forward(c);
    if (shape.kernel == DSC_K_CROSS_ENTROPY_JOIN) find_parts(c);
    if (shape.kernel == DSC_K_SIGN_AVERAGE || shape.kernel == DSC_K_SIGN_EXPAND) fill_scales(c);
}

void call_copy(const call *from, call *to)
{
    memset(to, 0, sizeof *to);
    to->shape = from->shape;
    to->tp_index = from->tp_index;
    memcpy(to->type, from->type, sizeof to->type);
    for (int i = 0; i < DSC_KERNEL_OPERANDS; i++) {
        if (from->operand[i] == NULL) continue;
        to->operand[i] = take(to, i, from->memory[i].bytes, from->memory[i].offset - GUARD);
        memcpy(to->operand[i], from->operand[i], (size_t)from->memory[i].bytes);
    }
    to->workspace = take(to, WORKSPACE, from->memory[WORKSPACE].bytes, 0);
}

bool call_run(call *c, const dsc_kernel_set *set)
{
    dsc_step step = call_step;
    char name[256], word[32];
    dsc_status status;

    step.tp_index = c->tp_index;
    dsc_shape_print(&c->shape, name, sizeof name);
    status = set->run[c->shape.kernel](&c->shape, c->operand, c->workspace, &step);
    if (!CHECK(status == DSC_OK, "%s: %s: %s", set->name, name, dsc_message())) return false;
    for (int i = 0; i <= WORKSPACE; i++) {
        const char *which = i == WORKSPACE || !dsc_operand_present(&c->shape, i)
                                ? "workspace"
                                : dsc_kernel_operand_name((dsc_kernel)c->shape.kernel, i, word);

        if (!CHECK(guards_hold(c, i), "%s: %s wrote outside of %s", set->name, name, which)) return false;
    }
    return true;
}

int call_sets(const dsc_kernel_set *out[CALL_SETS])
{
    static const char *const names[] = {"cpu-avx2", "cpu-avx512", "cpu-avx512bf16", "cpu"};
    int count = 0;

    for (int i = 0; i < DSC_COUNT(names); i++)
        if (dsc_kernels_find(names[i], &out[count]) == DSC_OK) count++;
    if (call_staged() != NULL) out[count++] = call_staged();
    return count;
}

dsc_shape call_shape(dsc_kernel kernel, int32_t flags, int64_t d0, int64_t d1, int64_t d2, int64_t d3, int64_t d4)
{
    return (dsc_shape){
        .kernel = (int16_t)kernel, .type = DSC_FP32, .out = DSC_FP32, .flags = flags, .d = {d0, d1, d2, d3, d4}};
}

void call_near(const call *c, int64_t i, double value, double expected)
{
    CHECK(fabs(value - expected) < 1e-6 * (1 + fabs(expected)), "%s, flags %d: element %lld is %g, not %g",
          dsc_kernel_name((dsc_kernel)c->shape.kernel), c->shape.flags, (long long)i, value, expected);
}
