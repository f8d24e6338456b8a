/* Below which rate of the links between replicas compressed steps are faster than exact ones, by simulating both while
 * the rates change and all else stays. */
#include "tools/plan/plan.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Factors on the cluster's rates: two a decade around 1 are shown, and as far is searched. */
enum { SHOWN = 4, HALVINGS = 20 };
static const double FARTHEST = 1e4;

/* A step of each kind at one factor. */
typedef struct sample { double factor; int64_t exact_ns, compressed_ns; } sample;

/* What workers of compression send to each other in a step of each kind: replicas, or, hierarchically, nodes. */
typedef struct traffic { int64_t exact, compressed; } traffic;

/* The rates of before, of NICs and their tiers or, where devices' own ports join all nodes, of the links between
 * devices and theirs. */
typedef struct rates { evaluation *e; bool is_network; double rate; double before[1024]; int64_t count; } rates;

static void scale(rates *r, double *rate, double factor, bool is_first)
{
    if (r->count == DSC_COUNT(r->before)) return;
    if (is_first) r->before[r->count] = *rate;
    *rate = r->before[r->count++] * factor;
}

static void set_factor(rates *r, double factor, bool is_first)
{
    dsc_cluster *cluster = r->e->cluster;

    r->count = 0;
    for (int64_t t = 0; t < cluster->node_type_count; t++) {
        dsc_node_type *type = &cluster->node_types[t];

        for (int64_t i = 0; r->is_network && i < type->nic_count; i++)
            scale(r, &type->nics[i].bytes_per_s, factor, is_first);
        for (int64_t i = 0; !r->is_network && i < type->link_count; i++)
            if (dsc_equal(type->links[i].between[0], "device") && dsc_equal(type->links[i].between[1], "device"))
                scale(r, &type->links[i].bytes_per_s, factor, is_first);
    }
    for (int64_t i = 0; i < cluster->tier_count; i++)
        if (r->is_network == (cluster->network[i].port == DSC_PORT_NIC))
            scale(r, &cluster->network[i].bytes_per_s, factor, is_first);
}

/* What collectives were measured to take holds for the rates of then: here all are computed. */
static dsc_status simulate(rates *r, double factor, sample *out)
{
    const dsc_sim_options nobody = {.ranks = DSC_RANKS_LIST};
    evaluation *e = r->e;
    dsc_calibration calibration = e->calibration;
    dsc_prices *prices = NULL;
    dsc_status status = DSC_OK;
    dsc_timing timing;
    int64_t wire_bytes;
    dsc_trace trace;

    dsc_trace_init(&trace);
    calibration.collective_count = 0;
    set_factor(r, factor, false);
    DSC_TRY(dsc_prices_create(e->plan, e->cluster, calibration.machine == NULL ? NULL : &calibration, e->stack,
                              &prices));
    DSC_TRY(dsc_simulate(e->plan, e->cluster, e->programs, prices, &nobody, &timing, &wire_bytes, &trace));
    *out = (sample){.factor = factor};
    for (int64_t i = 0; i < trace.step_count; i++) {
        const dsc_step_row *step = &trace.steps[i];
        const bool is_exact = dsc_equal(step->path, "gradients/update");

        if (!is_exact && !dsc_equal(step->path, "local/exchange")) continue;
        *(is_exact ? &out->exact_ns : &out->compressed_ns) = step->t_end_ns - step->t_start_ns;
    }
out:
    dsc_prices_destroy(prices);
    dsc_trace_fini(&trace);
    return status;
}

static bool is_faster(const sample *s) { return s->compressed_ns < s->exact_ns; }

/* *out: the factor below which compressed steps are faster; 0: never; INFINITY: always, as far as was looked. */
static dsc_status find_factor(rates *r, double *out)
{
    double low = 1 / FARTHEST, high = FARTHEST;
    dsc_status status = DSC_OK;
    sample s;

    DSC_TRY(simulate(r, low, &s));
    *out = 0;
    if (!is_faster(&s)) goto out;
    DSC_TRY(simulate(r, high, &s));
    *out = INFINITY;
    if (is_faster(&s)) goto out;
    for (int i = 0; i < HALVINGS; i++) {
        const double middle = sqrt(low * high);

        DSC_TRY(simulate(r, middle, &s));
        *(is_faster(&s) ? &low : &high) = middle;
    }
    *out = sqrt(low * high);
out:
    return status;
}

/* ---- Bytes */

/* Payload of a segment's ops over an axis. */
static int64_t payload_of(const dsc_program *program, int segment, int axis)
{
    int64_t bytes = 0;

    for (int64_t u = 0; u < program->segments[segment].use_count; u++) {
        const dsc_template *t = &program->templates[program->segments[segment].uses[u].template_];

        for (int64_t i = 0; i < t->op_count; i++) bytes += t->ops[i].axis == axis ? t->ops[i].bytes : 0;
    }
    return bytes;
}

/* Of all data-parallel groups, by the rules of doc/comm.md with workers for members: a gradient is summed over them in
 * 2 (n - 1) of its bytes; of packets each group of one place in its node sends n - 1 of theirs. */
static traffic count_traffic(const dsc_plan *plan, const dsc_program *const *programs)
{
    const int axis = plan->intra > 1 ? DSC_AXIS_INTER : DSC_AXIS_DP;
    traffic sum = {0};

    for (int64_t rank = 0; rank < plan->ranks; rank++) {
        const int64_t replica = dsc_plan_coord(plan, rank).of[DSC_AXIS_DP];

        if (replica >= plan->intra) continue; /* one of each group of workers */
        sum.compressed += (plan->workers - 1) * payload_of(programs[rank], DSC_SEGMENT_EXCHANGE, axis);
        if (replica == 0)
            sum.exact += 2 * (plan->workers - 1) * payload_of(programs[rank], DSC_SEGMENT_GRADIENTS, DSC_AXIS_DP);
    }
    return sum;
}

/* ---- Shown */

static const char *name_of(const rates *r) { return r->is_network ? "NIC" : "link between devices"; }

static json_t *sample_json(const rates *r, const sample *s)
{
    return json_pack("{s:f, s:f, s:f}", "bytes_per_s", s->factor * r->rate, "exact_step_s", (double)s->exact_ns / 1e9,
                     "compressed_step_s", (double)s->compressed_ns / 1e9);
}

static void print_sample(const rates *r, const sample *s)
{
    printf("%10s/s %12s %12s %8.2f\n", dsc_bytes_str((int64_t)(s->factor * r->rate)).str,
           dsc_ns_str(s->exact_ns).str, dsc_ns_str(s->compressed_ns).str,
           (double)s->exact_ns / (double)s->compressed_ns);
}

/* Over a run of which a share is warm-up. */
static double fewer_over(const traffic *t, double warmup)
{
    const double ratio = (double)t->exact / (double)t->compressed;

    return 1 / (warmup + (1 - warmup) / ratio);
}

static void print_end(const rates *r, double factor)
{
    const traffic t = count_traffic(r->e->plan, r->e->programs);

    if (factor > 0 && isfinite(factor))
        printf("compressed steps are faster where a %s has less than %s/s\n", name_of(r),
               dsc_bytes_str((int64_t)(factor * r->rate)).str);
    else printf("compressed steps are %s, at any rate that was tried\n", factor > 0 ? "faster" : "no faster");
    printf("between %s a step: exact %s, compressed %s, %.1f times less; over a run %.1f times less with 20 %% of "
           "warm-up, %.1f with 15 %%\n", r->e->plan->intra > 1 ? "nodes" : "replicas", dsc_bytes_str(t.exact).str,
           dsc_bytes_str(t.compressed).str, fewer_over(&t, 0), fewer_over(&t, 0.2), fewer_over(&t, 0.15));
}

static dsc_status print_all(const rates *r, const sample *samples, double factor)
{
    const traffic t = count_traffic(r->e->plan, r->e->programs);
    json_t *list = json_array(), *object;

    for (int i = 0; i <= 2 * SHOWN; i++) json_array_append_new(list, sample_json(r, &samples[i]));
    object = json_pack("{s:s, s:f, s:o, s:I, s:I, s:f, s:o}", "link", name_of(r), "bytes_per_s", r->rate,
                       "break_even_bytes_per_s", isfinite(factor) ? json_real(factor * r->rate) : json_null(),
                       "exact_wire_bytes", (json_int_t)t.exact, "compressed_wire_bytes",
                       (json_int_t)t.compressed, "times_fewer_bytes", fewer_over(&t, 0), "rates", list);
    if (object == NULL) return DSC_FAIL(DSC_ENOMEM, "--break-even: JSON");
    const bool is_printed = json_dumpf(object, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF;
    json_decref(object);
    return is_printed ? DSC_OK : DSC_FAIL(DSC_EIO, "standard output cannot be written");
}

static dsc_status show(rates *r, const plan_options *options)
{
    sample samples[2 * SHOWN + 1];
    dsc_status status = DSC_OK;
    double factor;

    for (int i = 0; i <= 2 * SHOWN; i++) DSC_TRY(simulate(r, pow(10, (double)(i - SHOWN) / 2), &samples[i]));
    DSC_TRY(find_factor(r, &factor));
    if (options->json) return print_all(r, samples, factor);
    printf("%12s %12s %12s %8s   by the rate of a %s\n", "rate", "exact step", "compressed", "times", name_of(r));
    for (int i = 0; i <= 2 * SHOWN; i++) print_sample(r, &samples[i]);
    print_end(r, factor);
out:
    return status;
}

/* The slowest of those that are scaled is the one that is named. */
static double slowest(const rates *r)
{
    double rate = r->before[0];

    for (int64_t i = 1; i < r->count; i++) rate = fmin(rate, r->before[i]);
    return rate;
}

dsc_status show_break_even(const tool_inputs *inputs, const plan_options *options)
{
    evaluation *e = calloc(1, sizeof *e);
    rates r = {.e = e};
    dsc_status status = DSC_OK;

    if (e == NULL) return DSC_FAIL(DSC_ENOMEM, "--break-even: %zu bytes", sizeof *e);
    DSC_TRY(evaluate(inputs, options, e));
    if (e->plan->has_own_steps)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--break-even: replicas of 0/1 Adam step by themselves, at no rate; it takes "
                         "--optimizer onebit-adam or onebit-lamb"));
    if (!e->plan->compresses)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--break-even compares exact steps with compressed ones: it takes --optimizer "
                         "onebit-adam or onebit-lamb"));
    if (e->plan->workers < 2)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--break-even is of what replicas exchange: it takes --dp of at least 2, and dp "
                         "is %" PRId64, e->plan->config.strategy.dp));
    r.is_network = dsc_cluster_nodes(e->cluster) > dsc_cluster_domain_nodes(e->cluster);
    set_factor(&r, 1, true);
    if (r.count == 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--break-even: %s names no link that replicas use", inputs->cluster));
    r.rate = slowest(&r);
    DSC_TRY(show(&r, options));
out:
    evaluation_fini(e);
    free(e);
    return status;
}
