/* From a step to a run: days until so many tokens, with failures, checkpoints and energy (doc/feasibility.md). What
 * nobody describes is taken from published runs. */
#include "base/parse.h"
#include "sim/goodput.h"
#include "store/checkpoint.h"
#include "tools/plan/plan.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Of a GPU, or a node without any: 419 unexpected interruptions in 54 days of 16,384 GPUs (Llama 3, 2024, section
 * 3.3.4). */
static const double device_mtbf_h = 54.0 * 24 * 16384 / 419;
/* Of a node's share in the file system: 384 nodes wrote checkpoints at 273 GB/s and read them at 1 TB/s (Narayanan et
 * al. 2021, section 5.10). */
static const double node_write_bytes_per_s = 273e9 / 384, node_read_bytes_per_s = 1e12 / 384;
/* From a failure to the start of reading: detection and diagnosis take less than ten minutes on average (MegaScale,
 * Jiang et al. 2024). */
static const double default_restart_s = 600;

static const double hour = 3600, day = 86400;

/* ---- Nodes */

static double mtbf_of(const dsc_node_type *node, double given_h)
{
    int64_t gpus = 0;

    if (given_h > 0) return given_h * hour;
    if (node->mtbf_h > 0) return node->mtbf_h * hour;
    for (int64_t i = 0; i < node->device_types; i++) gpus += node->devices[i].is_gpu ? node->devices[i].count : 0;
    return device_mtbf_h / (double)DSC_MAX(gpus, 1) * hour;
}

/* Of a node; 0: not known. */
static double power_of(const dsc_node_type *node, bool *is_of_devices)
{
    double sum = 0;

    if (node->power_w > 0) return node->power_w;
    *is_of_devices = true;
    for (int64_t i = 0; i < node->device_types; i++) {
        if (!(node->devices[i].power_w > 0)) return 0;
        sum += node->devices[i].power_w * (double)node->devices[i].count;
    }
    return sum;
}

/* Ranks take devices node by node: how many nodes they use, how often one of these fails, and what they draw. */
static dsc_status count_nodes(const evaluation *e, double given_h, campaign *run)
{
    const dsc_cluster *cluster = e->cluster;
    dsc_status status = DSC_OK;
    double failures_per_s = 0;
    bool is_known = true;
    dsc_place last;
    int64_t left;

    DSC_TRY(dsc_cluster_place(cluster, e->plan->ranks - 1, &last));
    run->nodes = left = last.node + 1;
    for (int64_t i = 0; left > 0; left -= cluster->nodes[i++].count) {
        const dsc_node_type *node = &cluster->node_types[cluster->nodes[i].type];
        const double count = (double)DSC_MIN(left, cluster->nodes[i].count);
        const double power_w = power_of(node, &run->is_power_of_devices);

        failures_per_s += count / mtbf_of(node, given_h);
        run->power_w += count * power_w;
        is_known = is_known && power_w > 0;
    }
    run->mtbf_s = 1 / failures_per_s;
    if (!is_known) run->power_w = 0;
out:
    return status;
}

/* ---- Checkpoints: what dsc-run saves, into a folder that all nodes see */

/* What the drives of a node write and read together, for ranks that are all there. */
static dsc_status find_drives(const evaluation *e, const campaign *run, double *write, double *read)
{
    const dsc_node_type *node = &e->cluster->node_types[e->cluster->nodes[0].type];
    const dsc_nvme *nvme = &node->nvme;
    const double count = (double)nvme->count, bytes = count * (double)nvme->bytes;

    if (run->nodes > 1)
        return DSC_FAIL(DSC_ENOTSUP, "--checkpoint-rate nvme: ranks are on %" PRId64 " nodes, and dsc-run saves into "
                        "one folder that all of them see; give the SIZE of what they share", run->nodes);
    if (nvme->count == 0 || !(nvme->write_bytes_per_s > 0) || !(nvme->read_bytes_per_s > 0))
        return DSC_FAIL(DSC_EINVAL, "--checkpoint-rate nvme: the cluster's description of %s has no nvme with "
                        "read_bytes_per_s and write_bytes_per_s", node->name);
    if ((double)run->checkpoint_bytes > bytes)
        return DSC_FAIL(DSC_EINFEASIBLE, "--checkpoint-rate nvme: a checkpoint has %s, the node's %" PRId64
                        " drives %s", dsc_bytes_str(run->checkpoint_bytes).str, nvme->count,
                        dsc_bytes_str((int64_t)bytes).str);
    *write = count * nvme->write_bytes_per_s;
    *read = count * nvme->read_bytes_per_s;
    return DSC_OK;
}

static dsc_status size_checkpoint(const evaluation *e, const plan_options *options, campaign *run)
{
    const dsc_copies copies = {e->plan->workers, e->plan->has_trust};
    const dsc_storage *storage = &e->cluster->storage;
    const double nodes = (double)run->nodes;
    double read = storage->read_bytes_per_s > 0 ? storage->read_bytes_per_s : node_read_bytes_per_s * nodes;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_checkpoint_bytes(e->plan->tensors, e->plan->tensor_count, copies, &run->checkpoint_bytes));
    run->rate = storage->write_bytes_per_s > 0 ? storage->write_bytes_per_s : node_write_bytes_per_s * nodes;
    if (options->checkpoint_rate > 0) run->rate = read = (double)options->checkpoint_rate;
    if (options->checkpoint_rate == DSC_AUTO) DSC_TRY(find_drives(e, run, &run->rate, &read));
    run->save_s = (double)run->checkpoint_bytes / run->rate;
    run->restart_s = (options->restart_s < 0 ? default_restart_s : options->restart_s) +
                     (double)run->checkpoint_bytes / read;
out:
    return status;
}

/* ---- The run */

static double seconds_of_path(const evaluation *e, const char *path)
{
    for (int64_t i = 0; i < e->trace.step_count; i++)
        if (dsc_equal(e->trace.steps[i].path, path))
            return (double)(e->trace.steps[i].t_end_ns - e->trace.steps[i].t_start_ns) / 1e9;
    return (double)e->timing.step_ns / 1e9;
}

/* Where 1-bit Adam or LAMB says when its warm-up ends, steps up to there are exact; all others are those that a run
 * takes most often. */
static double mean_step_s(const evaluation *e, int64_t steps)
{
    const double often_s = (double)e->timing.step_ns / 1e9;
    const bool has_warmup = e->plan->compresses && !e->plan->has_own_steps && e->plan->config.freeze_step > 0;
    const double exact = has_warmup ? (double)DSC_MIN(e->plan->config.freeze_step, steps) / (double)steps : 0;

    return exact * seconds_of_path(e, "gradients/update") + (1 - exact) * often_s;
}

static dsc_status count_steps(const evaluation *e, const char *tokens, campaign *run)
{
    const dsc_strategy *s = &e->plan->config.strategy;
    const int64_t most_tokens = INT64_C(1) << 60, of_step = s->global_batch * s->seq_len;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_parse_count("--tokens", tokens, 1, most_tokens, &run->tokens));
    if (run->tokens < of_step)
        return DSC_FAIL(DSC_EINVAL, "--tokens %s: a step has global batch %" PRId64 " x %" PRId64 " = %" PRId64
                        " tokens", tokens, s->global_batch, s->seq_len, of_step);
    run->steps = dsc_ceil_div(run->tokens, of_step);
    run->step_s = mean_step_s(e, run->steps);
out:
    return status;
}

static void add_up(double price, campaign *run)
{
    run->young_s = dsc_young_interval(run->save_s, run->mtbf_s);
    run->daly_s = dsc_daly_interval(run->save_s, run->mtbf_s);
    run->interval_steps = dsc_interval_steps(run->step_s, run->save_s, run->mtbf_s, run->steps);
    run->goodput = dsc_goodput((double)run->interval_steps * run->step_s, run->save_s, run->restart_s, run->mtbf_s);
    run->days = run->goodput > 0 ? (double)run->steps * run->step_s / run->goodput / day : INFINITY;
    run->energy_mwh = run->power_w > 0 ? run->power_w / 1e6 * run->days * 24 : 0;
    run->cost = price * 1e3 * run->energy_mwh;
}

dsc_status plan_campaign(const plan_options *options, evaluation *e)
{
    dsc_status status = DSC_OK;
    campaign run = {0};

    DSC_TRY(count_nodes(e, options->mtbf_h, &run));
    DSC_TRY(size_checkpoint(e, options, &run));
    if (options->tokens[0] != '\0') {
        DSC_TRY(count_steps(e, options->tokens, &run));
        add_up(options->energy_price, &run);
    }
    e->run = run;
out:
    return status;
}

/* ---- Shown */

static json_t *real_or_null(double value) { return isfinite(value) && value > 0 ? json_real(value) : json_null(); }

json_t *campaign_json(const campaign *run)
{
    const double mtbf_h = run->mtbf_s / hour;
    json_t *object = json_pack(
        "{s:I, s:I, s:f, s:f, s:o, s:f, s:f, s:f, s:f, s:I, s:f, s:I, s:f, s:f, s:f, s:I, s:f, s:f}", "tokens",
        (json_int_t)run->tokens, "steps", (json_int_t)run->steps, "step_s", run->step_s, "days_of_steps",
        (double)run->steps * run->step_s / day, "days", real_or_null(run->days), "goodput", run->goodput,
        "failures_per_day", day / run->mtbf_s, "mtbf_h", mtbf_h, "node_mtbf_h", mtbf_h * (double)run->nodes, "nodes",
        (json_int_t)run->nodes, "restart_s", run->restart_s, "checkpoint_bytes", (json_int_t)run->checkpoint_bytes,
        "checkpoint_bytes_per_s", run->rate, "checkpoint_s", run->save_s, "checkpoint_interval_s",
        (double)run->interval_steps * run->step_s, "checkpoint_interval_steps", (json_int_t)run->interval_steps,
        "young_interval_s", run->young_s, "daly_interval_s", run->daly_s);

    json_object_set_new(object, "power_kw", real_or_null(run->power_w / 1e3));
    json_object_set_new(object, "power_of",
                        run->power_w > 0 ? json_string(run->is_power_of_devices ? "devices" : "nodes") : json_null());
    json_object_set_new(object, "energy_mwh", real_or_null(run->energy_mwh));
    json_object_set_new(object, "energy_cost", real_or_null(run->cost));
    return object;
}

/* Seconds as "4.2 min", in the unit that people would use. */
static dsc_short span_str(double s)
{
    static const struct { double s; const char *name; } units[] = {{1, "s"}, {60, "min"}, {3600, "h"}, {86400, "days"}};
    int64_t i = DSC_COUNT(units) - 1;
    dsc_short out;

    while (i > 0 && s < 2 * units[i].s) i--;
    if (isfinite(s)) snprintf(out.str, sizeof out.str, "%.3g %s", s / units[i].s, units[i].name);
    else snprintf(out.str, sizeof out.str, "no end");
    return out;
}

/* "653 kW", "7.25 GWh": suffix "" or "h". */
static dsc_short watts_str(double watts, const char *suffix)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    int64_t i = 0;
    dsc_short out;

    while (i < DSC_COUNT(units) - 1 && watts >= 1000) watts /= 1000, i++;
    snprintf(out.str, sizeof out.str, "%.3g %sW%s", watts, units[i], suffix);
    return out;
}

static void print_energy(const campaign *run, const plan_options *options, dsc_text *out)
{
    if (!(run->power_w > 0)) {
        dsc_text_add(out, "energy     not known: the cluster does not say what its nodes or devices draw (power_w)\n");
        return;
    }
    dsc_text_add(out, "energy     %s at most%s", watts_str(run->power_w, "").str,
                 run->is_power_of_devices ? ", of devices alone" : "");
    if (isfinite(run->energy_mwh)) dsc_text_add(out, ", %s", watts_str(run->energy_mwh * 1e6, "h").str);
    if (isfinite(run->cost) && run->cost > 0)
        dsc_text_add(out, ", %s at %g a kWh", dsc_count_str(run->cost).str, options->energy_price);
    dsc_text_add(out, "\n");
}

void print_campaign(const campaign *run, const plan_options *options, dsc_text *out)
{
    dsc_text_add(out, "run        %s tokens, %" PRId64 " steps: %s of steps, %s with failures (goodput %.1f %%)\n",
                 dsc_count_str((double)run->tokens).str, run->steps,
                 span_str((double)run->steps * run->step_s).str, span_str(run->days * day).str, 100 * run->goodput);
    dsc_text_add(out, "failures   %.3g a day, one every %s: %" PRId64 " node%s, each every %s; %s until the next "
                 "step\n", day / run->mtbf_s, span_str(run->mtbf_s).str, run->nodes, run->nodes == 1 ? "" : "s",
                 span_str(run->mtbf_s * (double)run->nodes).str, span_str(run->restart_s).str);
    dsc_text_add(out, "checkpoint %s in %s at %s/s, best every %s, %" PRId64 " step%s (Young %s, Daly %s)\n",
                 dsc_bytes_str(run->checkpoint_bytes).str, span_str(run->save_s).str,
                 dsc_bytes_str((int64_t)run->rate).str, span_str((double)run->interval_steps * run->step_s).str,
                 run->interval_steps, run->interval_steps == 1 ? "" : "s", span_str(run->young_s).str,
                 span_str(run->daly_s).str);
    print_energy(run, options, out);
}
