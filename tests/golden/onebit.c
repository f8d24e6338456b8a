/* Golden 1-bit exchange: golden-onebit FILE.json... performs compressed all-reduces of the reference in fp64, all
 * workers here. A file is an array of cases: what each worker brings, its error and its server's; then signs, scales,
 * what is left out and the result. */
#include "base/json.h"
#include "kernels/kernels.h"
#include "kernel/step.h"
#include "tests/tap.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 16 }; /* elements of a case */

/* n: padded; chunk: of a server. */
typedef struct exchange {
    const json_t *item;
    int64_t workers, n, chunk;
    double error[MOST], server_error[MOST], scales[MOST], server_scales[MOST], out[MOST];
    uint8_t sent[MOST], bits[MOST]; /* of all workers; of all servers, one behind another */
} exchange;

static const json_t *at(const json_t *item, const char *key, int64_t index)
{
    return json_array_get(json_object_get(item, key), (size_t)index);
}

static double number(const json_t *array, int64_t index)
{
    return json_number_value(json_array_get(array, (size_t)index));
}

static void near(const exchange *e, const char *what, int64_t who, double got, double expected)
{
    CHECK(fabs(got - expected) <= 1e-12 * fmax(1, fabs(expected)), "%" PRId64 " workers: %s of %" PRId64 " is %.17g, "
          "not %.17g", e->workers, what, who, got, expected);
}

static void same_bits(const exchange *e, const char *what, int64_t who, const uint8_t *bits, int64_t bytes)
{
    const char *expected = json_string_value(at(e->item, what, who));
    char hex[2 * MOST / 8 + 1] = "";

    for (int64_t i = 0; i < bytes; i++) snprintf(hex + 2 * i, 3, "%02x", bits[i]);
    CHECK(expected != NULL && strcmp(hex, expected) == 0, "%" PRId64 " workers: %s of %" PRId64 " are %s", e->workers,
          what, who, hex);
}

static void run(dsc_kernel kernel, int64_t n, int64_t ranks, void *const operands[DSC_KERNEL_OPERANDS])
{
    const dsc_shape shape = {.kernel = (int16_t)kernel, .type = DSC_FP64, .out = DSC_FP64, .d = {n, ranks}};
    const dsc_step step = {0};

    if (CHECK_OK(dsc_shape_check(&shape))) CHECK_OK(dsc_kernels_ref()->run[kernel](&shape, operands, NULL, &step));
}

static void send(exchange *e, int64_t worker)
{
    const json_t *input = at(e->item, "input", worker), *error = at(e->item, "worker_error_in", worker);
    const json_t *left = at(e->item, "worker_error_out", worker);
    static double x[MOST];
    uint8_t *bits = e->sent + worker * (e->n / 8);

    for (int64_t i = 0; i < e->n; i++) {
        x[i] = i < (int64_t)json_array_size(input) ? number(input, i) : 0;
        e->error[i] = number(error, i);
    }
    run(DSC_K_SIGN_COMPRESS, e->n, 0, (void *[DSC_KERNEL_OPERANDS]){x, e->error, NULL, bits, &e->scales[worker]});
    same_bits(e, "worker_bits", worker, bits, e->n / 8);
    near(e, "worker_scale", worker, e->scales[worker], number(json_object_get(e->item, "worker_scale"), worker));
    for (int64_t i = 0; i < e->n; i++) near(e, "worker_error_out", worker, e->error[i], number(left, i));
}

/* A server has its chunk of what each worker has sent. */
static void serve(exchange *e, int64_t server)
{
    const json_t *error = at(e->item, "server_error_in", server), *left = at(e->item, "server_error_out", server);
    const int64_t bytes = e->chunk / 8;
    static uint8_t sent[MOST];
    uint8_t *bits = e->bits + server * bytes;

    for (int64_t w = 0; w < e->workers; w++)
        memcpy(sent + w * bytes, e->sent + w * (e->n / 8) + server * bytes, (size_t)bytes);
    for (int64_t i = 0; i < e->chunk; i++) e->server_error[i] = number(error, i);
    run(DSC_K_SIGN_AVERAGE, e->chunk, e->workers,
        (void *[DSC_KERNEL_OPERANDS]){sent, e->scales, e->server_error, NULL, bits, &e->server_scales[server]});
    same_bits(e, "server_bits", server, bits, bytes);
    near(e, "server_scale", server, e->server_scales[server],
         number(json_object_get(e->item, "server_scale"), server));
    for (int64_t i = 0; i < e->chunk; i++) near(e, "server_error_out", server, e->server_error[i], number(left, i));
}

static void compare(const json_t *item)
{
    static exchange e;
    const json_t *output = json_object_get(item, "output");

    e.item = item;
    e.workers = json_integer_value(json_object_get(item, "workers"));
    e.n = json_integer_value(json_object_get(item, "padded"));
    e.chunk = json_integer_value(json_object_get(item, "chunk"));
    if (!CHECK(e.workers > 0 && e.workers * e.n <= MOST && e.chunk * e.workers == e.n, "%" PRId64 " workers",
               e.workers))
        return;
    for (int64_t w = 0; w < e.workers; w++) send(&e, w);
    for (int64_t s = 0; s < e.workers; s++) serve(&e, s);
    run(DSC_K_SIGN_EXPAND, e.n, e.workers, (void *[DSC_KERNEL_OPERANDS]){e.bits, e.server_scales, NULL, e.out});
    CHECK(json_array_size(output) > 0, "there is no output");
    for (int64_t i = 0; i < (int64_t)json_array_size(output); i++) near(&e, "output", i, e.out[i], number(output, i));
}

static void compare_file(const char *path)
{
    json_t *file = NULL, *item;
    size_t index;

    if (!CHECK_OK(dsc_json_load(path, &file))) return;
    CHECK(json_array_size(file) > 0, "%s: nothing to compare", path);
    json_array_foreach(file, index, item) compare(item);
    json_decref(file);
}

int main(int argc, char **argv) { return tap_run_files(argc, argv, compare_file); }
