#include "tests/golden/workers.h"
#include "base/array.h"
#include "kernel/convert.h"
#include "kernel/units.h"
#include "kernel/workspace.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Numbers */

static void *take_bytes(workers *w, int64_t bytes)
{
    void *memory = calloc(1, (size_t)dsc_round_up(bytes, 64));

    if (memory == NULL || w->allocations == DSC_COUNT(w->memory)) abort();
    w->memory[w->allocations++] = memory;
    return memory;
}

void *workers_take(workers *w, int64_t elems) { return take_bytes(w, elems * dsc_dtype_bytes(w->type)); }

void workers_fini(workers *w)
{
    for (int i = 0; i < w->allocations; i++) free(w->memory[i]);
}

double workers_get(const workers *w, const void *from, int64_t index)
{
    return w->type == DSC_FP64 ? ((const double *)from)[index] : dsc_load(from, index, w->type);
}

void workers_set(const workers *w, void *to, int64_t index, double value)
{
    if (w->type == DSC_FP64) ((double *)to)[index] = value;
    else dsc_store(to, index, w->type, value);
}

static bool are_numbers(const workers *w, const char *what, const json_t *array, int64_t elems)
{
    if (!CHECK(json_is_array(array) && (int64_t)json_array_size(array) == elems, "%s: %s is no array of %lld numbers",
               w->name, what, (long long)elems))
        return false;
    for (int64_t i = 0; i < elems; i++)
        if (!CHECK(json_is_number(json_array_get(array, (size_t)i)), "%s: element %lld of %s is no number", w->name,
                   (long long)i, what))
            return false;
    return true;
}

static double number(const json_t *array, int64_t index)
{
    return json_number_value(json_array_get(array, (size_t)index));
}

bool workers_read(const workers *w, const char *what, const json_t *array, int64_t elems, void *out)
{
    if (!are_numbers(w, what, array, elems)) return false;
    for (int64_t i = 0; i < elems; i++) workers_set(w, out, i, number(array, i));
    return true;
}

bool workers_compare(const workers *w, const char *what, const json_t *array, int64_t elems, const void *got)
{
    const double rounding = w->type == DSC_FP64 ? 1e-15 : 1e-6; /* of what all but cancels */
    double largest = 0, bound;

    if (!are_numbers(w, what, array, elems)) return false;
    for (int64_t i = 0; i < elems; i++) largest = fmax(largest, fabs(number(array, i)));
    bound = fmax(rounding, w->tolerance * largest);
    for (int64_t i = 0; i < elems; i++)
        if (!CHECK(fabs(workers_get(w, got, i) - number(array, i)) <= bound,
                   "%s, %s, step %lld: element %lld of %s is %.17g, not %.17g", w->name, w->set->name,
                   (long long)w->step.number, (long long)i, what, workers_get(w, got, i), number(array, i)))
            return false;
    return true;
}

/* ---- Kernels */

void workers_run(const workers *w, dsc_kernel kernel, int32_t flags, const int64_t d[DSC_KERNEL_DIMS],
                 void *const operands[DSC_KERNEL_OPERANDS])
{
    double workspace[2 * DSC_SUM_CHUNKS];
    dsc_shape shape = {.kernel = (int16_t)kernel, .type = (int8_t)w->type, .out = (int8_t)w->type, .flags = flags};

    memcpy(shape.d, d, sizeof shape.d);
    if (!CHECK_OK(dsc_shape_check(&shape))) return;
    CHECK(dsc_kernel_workspace_bytes(&shape) <= (int64_t)sizeof workspace, "%s", dsc_kernel_name(kernel));
    CHECK_OK(w->set->run[kernel](&shape, operands, workspace, &w->step));
}

static int64_t packet_bytes(const workers *w) { return dsc_packet_bytes(w->padded, w->count, 1, w->type); }
static int64_t chunk_of(const workers *w) { return w->padded / w->count; }

void workers_init(workers *w)
{
    const int64_t bytes = w->count * packet_bytes(w);

    for (int64_t i = 0; i < w->count; i++) {
        w->x[i] = workers_take(w, w->elems);
        w->error[i] = workers_take(w, w->padded);
        w->server_error[i] = workers_take(w, chunk_of(w));
        w->packets[i] = take_bytes(w, bytes);
    }
    w->out = workers_take(w, w->elems);
    w->replies = take_bytes(w, bytes);
}

/* A server has of each worker the packet that is for it. */
static void serve(workers *w, const dsc_units *units, int64_t server)
{
    const int64_t bytes = packet_bytes(w), d[DSC_KERNEL_DIMS] = {w->padded, w->count, 1};
    unsigned char *sent = malloc((size_t)(w->count * bytes));

    if (sent == NULL) abort();
    for (int64_t i = 0; i < w->count; i++) memcpy(sent + i * bytes, w->packets[i] + server * bytes, (size_t)bytes);
    workers_run(w, DSC_K_SIGN_AVERAGE, DSC_COUNT_PADDING, d,
                (void *[DSC_KERNEL_OPERANDS]){sent, (void *)units, w->server_error[server],
                                              w->replies + server * bytes});
    free(sent);
}

void workers_exchange(workers *w)
{
    const int64_t d[DSC_KERNEL_DIMS] = {w->elems, w->padded, w->count, 1};
    const int64_t expanded[DSC_KERNEL_DIMS] = {w->elems, w->padded, w->count, 1, 1};
    dsc_units *units = malloc((size_t)dsc_units_elems(1) * sizeof(int64_t));

    if (units == NULL) abort();
    *units = (dsc_units){.count = 1};
    units->unit[0] = (dsc_unit){.real = w->real, .padded = w->padded};
    for (int64_t i = 0; i < w->count; i++)
        workers_run(w, DSC_K_SIGN_COMPRESS, DSC_COUNT_PADDING, d,
                    (void *[DSC_KERNEL_OPERANDS]){w->x[i], units, w->error[i], w->packets[i]});
    for (units->server = 0; units->server < w->count; units->server++) serve(w, units, units->server);
    workers_run(w, DSC_K_SIGN_EXPAND, 0, expanded, (void *[DSC_KERNEL_OPERANDS]){w->replies, units, w->out});
    free(units);
}

/* ---- What was sent */

static void add_hex(char **at, const unsigned char *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i++) *at += sprintf(*at, "%02x", bytes[i]);
}

/* Bit by bit, of one packet or several. */
static void compare_bits(const workers *w, const json_t *record, const char *what, int64_t who,
                         const unsigned char *packets, int64_t count)
{
    const char *expected = json_string_value(json_array_get(json_object_get(record, what), (size_t)who));
    char *hex = malloc((size_t)(2 * w->padded / 8) + 1), *at = hex;

    if (hex == NULL) abort();
    for (int64_t i = 0; i < count; i++) add_hex(&at, packets + i * packet_bytes(w), chunk_of(w) / 8);
    CHECK(expected != NULL && strcmp(hex, expected) == 0, "%s, %s, step %lld: %s of %lld are %s, not %s", w->name,
          w->set->name, (long long)w->step.number, what, (long long)who, hex, expected == NULL ? "there" : expected);
    free(hex);
}

static void put_scale(const workers *w, void *scales, int64_t who, const unsigned char *packet)
{
    workers_set(w, scales, who, workers_get(w, packet + dsc_packet_scales(w->padded, w->count), 0));
}

void workers_compare_sent(const workers *w, const json_t *record)
{
    double of_workers[WORKERS_MOST], of_servers[WORKERS_MOST]; /* room for any type */

    for (int64_t i = 0; i < w->count; i++) {
        const unsigned char *reply = w->replies + i * packet_bytes(w);

        compare_bits(w, record, "worker_bits", i, w->packets[i], w->count);
        compare_bits(w, record, "server_bits", i, reply, 1);
        put_scale(w, of_workers, i, w->packets[i]);
        put_scale(w, of_servers, i, reply);
    }
    workers_compare(w, "worker_scale", json_object_get(record, "worker_scale"), w->count, of_workers);
    workers_compare(w, "server_scale", json_object_get(record, "server_scale"), w->count, of_servers);
}
