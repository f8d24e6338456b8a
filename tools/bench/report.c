#include "tools/bench/bench.h"
#include "base/json.h"
#include "sim/measured.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_progress(const bench_request *request, const char *what, int64_t done, int64_t of)
{
    if (!request->shows_progress) return;
    if (request->every_line) fprintf(stderr, "dsc-bench: %s %lld of %lld\n", what, (long long)done, (long long)of);
    else fprintf(stderr, "\r\033[K%s %lld of %lld", what, (long long)done, (long long)of);
    if (done == of && !request->every_line) fputs("\r\033[K", stderr);
}

/* ---- How well unmeasured shapes are priced: each sample by the others */

typedef void error_visit(const char *kernel, const dsc_price_error *error, void *context);

static dsc_status visit_errors(const dsc_calibration *calibration, error_visit *visit, void *context)
{
    dsc_measured *measured = NULL;
    dsc_price_error errors[DSC_KERNEL_COUNT];
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_measured_create(calibration, &measured));
    DSC_TRY(dsc_measured_errors(measured, errors));
    for (int kernel = 0; kernel < DSC_KERNEL_COUNT; kernel++)
        if (errors[kernel].samples > 0) visit(dsc_kernel_name(kernel), &errors[kernel], context);
out:
    dsc_measured_destroy(measured);
    return status;
}

/* ---- For people */

static void add_kernels(const dsc_calibration *calibration, dsc_text *out)
{
    dsc_text rows = {0};

    dsc_text_add(&rows, "kernel\tranks\ttime\tGFLOP/s\tGB/s\n");
    for (int64_t i = 0; i < calibration->kernel_count; i++) {
        const dsc_kernel_sample *sample = &calibration->kernels[i];
        const double ns = (double)sample->time_ns;
        char shape[128];

        dsc_shape_print(&sample->shape, shape, sizeof shape);
        dsc_text_add(&rows, "%s\t%d\t%s\t%.1f\t%.1f\n", shape, sample->ranks, dsc_ns_str(sample->time_ns).str,
                     (double)dsc_kernel_flops(&sample->shape) / ns, (double)dsc_kernel_bytes(&sample->shape) / ns);
    }
    if (calibration->kernel_count > 0) dsc_table_print(dsc_text_str(&rows), out);
    dsc_text_fini(&rows);
}

static void add_transfers(const dsc_calibration *calibration, dsc_text *out)
{
    dsc_text rows = {0};

    dsc_text_add(&rows, "transfer\tranks\tnodes\tat work\tbytes\ttime\tGB/s\n");
    for (int64_t i = 0; i < calibration->copy_count; i++) {
        const dsc_copy_sample *copy = &calibration->copies[i];

        dsc_text_add(&rows, "copy %s to %s\t1\t1\t1\t%s\t%s\t%.2f\n", copy->from, copy->to,
                     dsc_bytes_str(copy->bytes).str, dsc_ns_str(copy->time_ns).str,
                     (double)copy->bytes / (double)copy->time_ns);
    }
    for (int64_t i = 0; i < calibration->collective_count; i++) {
        const dsc_collective_sample *c = &calibration->collectives[i];

        dsc_text_add(&rows, "%s\t%d\t%d\t%d\t%s\t%s\t%.2f\n", c->kind, c->ranks, c->nodes, c->at_work,
                     dsc_bytes_str(c->bytes).str, dsc_ns_str(c->time_ns).str, (double)c->bytes / (double)c->time_ns);
    }
    if (calibration->copy_count + calibration->collective_count > 0) {
        dsc_text_add(out, "\n");
        dsc_table_print(dsc_text_str(&rows), out);
    }
    dsc_text_fini(&rows);
}

static void add_error(const char *kernel, const dsc_price_error *error, void *context)
{
    dsc_text_add(context, "%s\t%lld\t%.1f %%\t%.1f %%\n", kernel, (long long)error->samples, 100 * error->median,
                 100 * error->ninety);
}

dsc_status bench_print(const dsc_calibration *calibration, dsc_text *out)
{
    dsc_text rows = {0};
    dsc_status status = DSC_OK;

    add_kernels(calibration, out);
    add_transfers(calibration, out);
    if (calibration->kernel_count > 0) {
        dsc_text_add(&rows, "price of a shape by its neighbours\tsamples\tmedian error\tnine in ten below\n");
        DSC_TRY(visit_errors(calibration, add_error, &rows));
        dsc_text_add(out, "\n");
        dsc_table_print(dsc_text_str(&rows), out);
    }
    dsc_text_add(out, "\nlibraries of a rank %s, overhead of an op %s\n",
                 dsc_bytes_str(calibration->libraries_bytes).str, dsc_ns_str(calibration->op_overhead_ns).str);
out:
    dsc_text_fini(&rows);
    return status;
}

/* ---- For machines */

static json_t *kernels_json(const dsc_calibration *calibration)
{
    json_t *array = json_array();

    for (int64_t i = 0; i < calibration->kernel_count; i++) {
        const dsc_kernel_sample *sample = &calibration->kernels[i];
        const dsc_shape *shape = &sample->shape;
        json_t *d = json_array();
        char text[128];

        for (int j = 0; j < DSC_KERNEL_DIMS && shape->d[j] > 0; j++)
            json_array_append_new(d, json_integer(shape->d[j]));
        dsc_shape_print(shape, text, sizeof text);
        json_array_append_new(
            array, json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:i, s:I, s:I, s:I}",
                             "kernel", dsc_kernel_name(shape->kernel), "shape", text,
                             "dtype", dsc_dtype_name(shape->type), "out", dsc_dtype_name(shape->out),
                             "flags", shape->flags, "d", d, "ranks", sample->ranks,
                             "time_ns", (json_int_t)sample->time_ns, "flops", (json_int_t)dsc_kernel_flops(shape),
                             "bytes", (json_int_t)dsc_kernel_bytes(shape)));
    }
    return array;
}

static json_t *copies_json(const dsc_calibration *calibration)
{
    json_t *array = json_array();

    for (int64_t i = 0; i < calibration->copy_count; i++) {
        const dsc_copy_sample *copy = &calibration->copies[i];

        json_array_append_new(array, json_pack("{s:s, s:s, s:I, s:I}", "from", copy->from, "to", copy->to, "bytes",
                                               (json_int_t)copy->bytes, "time_ns", (json_int_t)copy->time_ns));
    }
    return array;
}

static json_t *collectives_json(const dsc_calibration *calibration)
{
    json_t *array = json_array();

    for (int64_t i = 0; i < calibration->collective_count; i++) {
        const dsc_collective_sample *c = &calibration->collectives[i];

        json_array_append_new(array, json_pack("{s:s, s:i, s:i, s:i, s:I, s:I}", "kind", c->kind, "ranks", c->ranks,
                                               "nodes", c->nodes, "at_work", c->at_work, "bytes", (json_int_t)c->bytes,
                                               "time_ns", (json_int_t)c->time_ns));
    }
    return array;
}

static void append_error(const char *kernel, const dsc_price_error *error, void *context)
{
    json_array_append_new(context, json_pack("{s:s, s:I, s:f, s:f}", "kernel", kernel,
                                             "samples", (json_int_t)error->samples, "median", error->median,
                                             "ninety", error->ninety));
}

dsc_status bench_print_json(const dsc_calibration *calibration, dsc_text *out)
{
    json_t *errors = json_array(), *root = NULL;
    char *text = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(visit_errors(calibration, append_error, errors));
    root = json_pack("{s:o?, s:I, s:I, s:o, s:o, s:o, s:O}", "machine", json_loads(calibration->machine, 0, NULL),
                     "libraries_bytes", (json_int_t)calibration->libraries_bytes, "op_overhead_ns",
                     (json_int_t)calibration->op_overhead_ns, "kernels", kernels_json(calibration), "copies",
                     copies_json(calibration), "collectives", collectives_json(calibration), "errors", errors);
    text = root == NULL ? NULL : json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    if (text != NULL) dsc_text_add(out, "%s\n", text);
    else status = DSC_FAIL(DSC_ENOMEM, "no memory for the report");
out:
    free(text);
    json_decref(root);
    json_decref(errors);
    return status;
}
