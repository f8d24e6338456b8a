#include "tools/plan/plan.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BAR = 64 };

/* A share of a whole, drawn in a bar by its letter. */
typedef struct part { char letter; const char *name; int64_t amount; } part;

/* [PPPPGGOOOOOOOOAAAA.....]: letters in proportion, the rest of the whole as dots. What there is of a part shows. */
static void print_bar(const part *parts, int64_t count, int64_t whole, dsc_text *out)
{
    char bar[BAR + 1];
    int64_t drawn = 0, sum = 0;

    memset(bar, '.', BAR);
    bar[BAR] = '\0';
    for (int64_t i = 0; i < count && whole > 0; i++) {
        int64_t end;

        if (parts[i].amount <= 0) continue;
        sum += parts[i].amount;
        end = DSC_MAX((int64_t)((double)sum / (double)whole * BAR + 0.5), drawn + 1);
        for (; drawn < DSC_MIN(end, BAR); drawn++) bar[drawn] = parts[i].letter;
    }
    dsc_text_add(out, "           [%s]\n", bar);
}

static void print_parts(const part *parts, int64_t count, int64_t whole, dsc_short (*str)(int64_t), dsc_text *out)
{
    for (int64_t i = 0; i < count; i++)
        if (parts[i].amount != 0)
            dsc_text_add(out, "           %c  %-14s %10s  %5.1f %%\n", parts[i].letter, parts[i].name,
                         str(parts[i].amount).str, 100 * (double)parts[i].amount / (double)DSC_MAX(whole, 1));
}

static void print_memory(const evaluation *e, int space, dsc_text *out)
{
    const worst *worst = &e->worst[space];
    const int64_t *classes = worst->ledger.classes;
    int64_t libraries = e->plan->libraries_bytes[space], capacity = e->plan->capacity_bytes[space];
    int64_t peak = worst->ledger.arena_bytes + libraries;
    const part parts[] = {{'P', "parameters", classes[DSC_CLASS_PARAMETERS]},
                          {'G', "gradients", classes[DSC_CLASS_GRADIENTS]},
                          {'O', "optimizer", classes[DSC_CLASS_OPTIMIZER]},
                          {'A', "activations", classes[DSC_CLASS_ACTIVATIONS]},
                          {'B', "buffers", classes[DSC_CLASS_BUFFERS]},
                          {'L', "libraries", libraries}};

    if (peak == 0) return;
    dsc_text_add(out, "%-10s %s of %s, %.1f %%, on rank %" PRId64 "%s\n", space == DSC_SPACE_DEVICE ? "memory" : "host",
                 dsc_bytes_str(peak).str, dsc_bytes_str(capacity).str,
                 100 * (double)peak / (double)DSC_MAX(capacity, 1), worst->rank,
                 peak > capacity ? ": DOES NOT FIT" : "");
    print_bar(parts, DSC_COUNT(parts), DSC_MAX(capacity, peak), out);
    print_parts(parts, DSC_COUNT(parts), peak, dsc_bytes_str, out);
}

static void print_time(const evaluation *e, dsc_text *out)
{
    const dsc_timing *t = &e->timing;
    const part parts[] = {{'C', "compute", t->compute_ns},
                          {'T', "tensor comm", t->tp_comm_ns},
                          {'P', "pipeline comm", t->pp_comm_ns},
                          {'D', "data comm", t->dp_comm_ns},
                          {'b', "bubble", t->bubble_ns},
                          {'F', "offload", t->offload_ns},
                          {'O', "optimizer", t->optimizer_ns},
                          {'o', "other", t->other_ns}};

    dsc_text_add(out, "time       %s a step, of the critical rank\n", dsc_ns_str(t->step_ns).str);
    print_bar(parts, DSC_COUNT(parts), t->step_ns, out);
    print_parts(parts, DSC_COUNT(parts), t->step_ns, dsc_ns_str, out);
    for (int64_t i = 1; i < e->trace.step_count; i++)
        dsc_text_add(out, "           %s by the path %s, %s on the wire\n",
                     dsc_ns_str(e->trace.steps[i].t_end_ns - e->trace.steps[i].t_start_ns).str, e->trace.steps[i].path,
                     dsc_bytes_str(e->trace.steps[i].wire_bytes).str);
}

static bool is_sparse(const dsc_plan *plan)
{
    for (int64_t i = 0; i < plan->attention_count; i++)
        if (plan->attention[i].layout != NULL) return true;
    return false;
}

static void print_speed(const evaluation *e, dsc_text *out)
{
    double utilization = flops_utilization(e);

    dsc_text_add(out, "speed      %s tokens/s, %sFLOP/s a device", dsc_count_str(tokens_per_s(e)).str,
                 dsc_count_str(flops_per_s(e)).str);
    if (isfinite(utilization)) dsc_text_add(out, ", MFU %.1f %%", 100 * utilization);
    if (is_sparse(e->plan)) dsc_text_add(out, " (all pairs counted, present or not)");
    dsc_text_add(out, "; %s on the wire a step\n", dsc_bytes_str(e->wire_bytes).str);
}

/* What dsc_program_check has proved before anything is shown. */
static void print_check(const evaluation *e, dsc_text *out)
{
    int64_t ops = 0;

    for (int64_t rank = 0; rank < e->plan->ranks; rank++) ops += e->programs[rank]->op_count;
    dsc_text_add(out, "check      %" PRId64 " ops on %" PRId64 " ranks: operands in their buffers, buffers in arenas;\n"
                 "           no read before write, no race, no cycle; groups see their collectives in one order;\n"
                 "           every send meets its receive\n", ops,
                 e->plan->ranks);
}

void print_summary(const evaluation *e, const plan_options *options, dsc_text *out)
{
    dsc_text_add(out, "model      ");
    dsc_model_print(&e->model, out);
    dsc_text_add(out, "\ncluster    ");
    dsc_cluster_print(e->cluster, out);
    dsc_plan_print(e->plan, out);
    if (!dsc_equal(e->stack->name, "dsc")) dsc_text_add(out, "software   %s: %s\n", e->stack->name, e->stack->what);
    print_memory(e, DSC_SPACE_DEVICE, out);
    print_memory(e, DSC_SPACE_HOST, out);
    print_time(e, out);
    print_speed(e, out);
    if (e->run.tokens > 0) print_campaign(&e->run, options, out);
    if (options->check) print_check(e, out);
}

/* ---- The explanation */

static void add_ledger_row(const evaluation *e, int64_t rank, int space, const dsc_ledger *ledger, dsc_text *rows)
{
    int64_t libraries = e->plan->libraries_bytes[space];

    dsc_text_add(rows, "%" PRId64 "\t%s", e->programs[rank]->stage, DSC_SPACE_NAMES[space]);
    for (int class_ = 0; class_ < DSC_CLASS_COUNT; class_++) dsc_text_add(rows, "\t%" PRId64, ledger->classes[class_]);
    dsc_text_add(rows, "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\n", ledger->arena_bytes, libraries,
                 ledger->arena_bytes + libraries, e->plan->capacity_bytes[space]);
}

enum { SHOWN_STAGES = 2 }; /* at each end, where there are many */

/* Stages in the middle of a long pipeline are like their neighbours. */
static bool is_shown(const evaluation *e, int64_t stage)
{
    int64_t stages = e->plan->config.strategy.pp;

    return stages <= 4 * SHOWN_STAGES || stage < SHOWN_STAGES || stage >= stages - SHOWN_STAGES;
}

/* Bytes at the peak of each stage. */
static dsc_status print_ledger(const evaluation *e, dsc_text *out)
{
    dsc_text rows = {0};
    dsc_status status = DSC_OK;

    dsc_text_add(&rows, "stage\tspace\tparameters\tgradients\toptimizer\tactivations\tbuffers\tarena\tlibraries\tpeak\t"
                 "capacity\n");
    for (int64_t rank = 0; rank < e->plan->ranks; rank++)
        for (int space = 0; space < DSC_SPACE_COUNT; space++) {
            dsc_ledger ledger;

            if (dsc_plan_representative(e->plan, rank) != rank || !is_shown(e, e->programs[rank]->stage)) continue;
            DSC_TRY(dsc_program_ledger(e->programs[rank], space, &ledger));
            if (ledger.arena_bytes + e->plan->libraries_bytes[space] > 0)
                add_ledger_row(e, rank, space, &ledger, &rows);
        }
    dsc_text_add(out, "\nMemory, bytes of a rank at its peak\n");
    dsc_table_print(dsc_text_str(&rows), out);
out:
    dsc_text_fini(&rows);
    return status;
}

/* What a rank of each stage keeps from step to step, in which memory. */
static void print_kept(const evaluation *e, dsc_text *out)
{
    dsc_text rows = {0};

    dsc_text_add(&rows, "stage\tspace");
    for (int kept = 0; kept < DSC_KEPT_COUNT; kept++) dsc_text_add(&rows, "\t%s", DSC_KEPT_NAMES[kept]);
    for (int64_t stage = 0; stage < e->plan->config.strategy.pp; stage++)
        for (int space = 0; space < DSC_SPACE_COUNT && is_shown(e, stage); space++) {
            if (space == DSC_SPACE_HOST && e->plan->config.strategy.offload == DSC_OFFLOAD_NONE) continue;
            dsc_text_add(&rows, "\n%" PRId64 "\t%s", stage, DSC_SPACE_NAMES[space]);
            for (int kept = 0; kept < DSC_KEPT_COUNT; kept++)
                dsc_text_add(&rows, "\t%" PRId64, e->plan->stages[stage].kept_elems[kept][space] *
                                                      dsc_dtype_bytes(dsc_kept_type(e->plan, kept)));
        }
    dsc_text_add(out, "\nKept, bytes of a rank\n");
    dsc_table_print(dsc_text_str(&rows), out);
    dsc_text_fini(&rows);
}

static void add_buckets_row(const dsc_stage *stage, int64_t number, dsc_text *rows)
{
    int64_t least = INT64_MAX, most = 0, gathered = 0, streamed = 0, away = 0;

    for (int64_t i = 0; i < stage->bucket_count; i++) {
        const dsc_bucket *bucket = &stage->buckets[i];

        least = DSC_MIN(least, bucket->elems);
        most = DSC_MAX(most, bucket->elems);
        gathered += bucket->is_gathered;
        streamed += bucket->is_streamed;
        away += bucket->space[DSC_KEPT_MASTER] == DSC_SPACE_HOST;
    }
    dsc_text_add(rows, "%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\n",
                 number, stage->bucket_count, least, most, gathered, streamed, away);
}

/* Gathered: parameters are whole only while passes need them. Streamed: gradients leave after each pass. Offloaded: the
 * optimizer's states are in host memory. */
static void print_buckets(const evaluation *e, dsc_text *out)
{
    dsc_text rows = {0};

    dsc_text_add(&rows, "stage\tbuckets\tleast elements\tmost\tgathered\tstreamed\toffloaded\n");
    for (int64_t stage = 0; stage < e->plan->config.strategy.pp; stage++)
        if (is_shown(e, stage)) add_buckets_row(&e->plan->stages[stage], stage, &rows);
    dsc_text_add(out,
                 "\nBuckets of at least %" PRId64 " elements where the model has them, in %" PRId64 " part%s each\n",
                 e->plan->config.strategy.bucket_elems, e->plan->parts, e->plan->parts > 1 ? "s" : "");
    dsc_table_print(dsc_text_str(&rows), out);
    dsc_text_fini(&rows);
}

/* A kernel call, and whether the host makes it. */
typedef struct priced { const dsc_shape *shape; bool is_host; int64_t times, ns; } priced;

typedef struct priced_list { priced *rows; int64_t count, capacity; } priced_list;

static int64_t price_of(const evaluation *e, const priced *p)
{
    return p->is_host ? dsc_price_host_call(e->prices, p->shape) : dsc_price_call(e->prices, p->shape);
}

static const char *source_of(const evaluation *e, const priced *p)
{
    return p->is_host ? dsc_price_host_source(e->prices, p->shape) : dsc_price_source(e->prices, p->shape);
}

/* Adds a call that is made so many times. */
static dsc_status add_priced(const evaluation *e, const dsc_shape *shape, bool is_host, int64_t times,
                             priced_list *list)
{
    priced row = {shape, is_host, times, 0};

    for (int64_t i = 0; i < list->count; i++)
        if (memcmp(list->rows[i].shape, shape, sizeof *shape) == 0 && list->rows[i].is_host == is_host) {
            list->rows[i].times += times;
            return DSC_OK;
        }
    row.ns = price_of(e, &row);
    return DSC_PUSH(list->rows, list->count, list->capacity, row);
}

/* The calls of a template, each distinct one once. */
static dsc_status add_calls(const evaluation *e, const dsc_template *template_, int64_t times, priced_list *list)
{
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < template_->op_count; i++)
        for (int32_t c = 0; c < template_->ops[i].calls; c++)
            DSC_TRY(add_priced(e, &template_->calls[template_->ops[i].first_call + c].shape,
                               template_->ops[i].lane == DSC_LANE_HOST, times, list));
out:
    return status;
}

/* What each distinct call of a template costs, and how that is known. */
static dsc_status print_prices(const evaluation *e, const dsc_program *program, dsc_text *out)
{
    dsc_text rows = {0};
    dsc_status status = DSC_OK;
    priced_list list = {0};

    dsc_text_add(&rows, "template\tcall\tlane\tprice\tsource\n");
    for (int64_t t = 0; t < program->template_count; t++) {
        list.count = 0;
        DSC_TRY(add_calls(e, &program->templates[t], 1, &list));
        for (int64_t i = 0; i < list.count; i++) {
            char words[128];

            dsc_shape_print(list.rows[i].shape, words, sizeof words);
            dsc_text_add(&rows, "%s\t%s\t%s\t%s\t%s\n", program->templates[t].name, words,
                         list.rows[i].is_host ? "host" : "compute", dsc_ns_str(list.rows[i].ns).str,
                         source_of(e, &list.rows[i]));
        }
    }
    dsc_text_add(out, "\nPrices of stage %" PRId64 "\n", program->stage);
    dsc_table_print(dsc_text_str(&rows), out);
out:
    free(list.rows);
    dsc_text_fini(&rows);
    return status;
}

/* ---- Of programs too long to be read op by op */

static int by_total(const void *a, const void *b)
{
    const priced *x = a, *y = b;
    int64_t left = x->times * x->ns, right = y->times * y->ns;

    return left != right ? (left < right ? 1 : -1) : (x->shape > y->shape) - (x->shape < y->shape);
}

/* What takes most of a step, of what computes and of what the host does. */
static dsc_status print_dearest(const evaluation *e, const dsc_program *program, dsc_text *out)
{
    enum { DEAREST = 8 };
    int64_t *uses = calloc((size_t)program->template_count + 1, sizeof *uses);
    priced_list list = {0};
    dsc_text table = {0};
    dsc_status status = DSC_OK;

    if (uses == NULL) DSC_TRY(DSC_FAIL(DSC_ENOMEM, "prices of %" PRId64 " templates", program->template_count));
    for (int s = DSC_SEGMENT_GRADIENTS; s <= DSC_SEGMENT_UPDATE; s++)
        for (int64_t u = 0; u < program->segments[s].use_count && s != DSC_SEGMENT_DELAYED; u++)
            uses[program->segments[s].uses[u].template_]++;
    for (int64_t t = 0; t < program->template_count; t++)
        if (uses[t] > 0) DSC_TRY(add_calls(e, &program->templates[t], uses[t], &list));
    if (list.count > 0) qsort(list.rows, (size_t)list.count, sizeof *list.rows, by_total);
    dsc_text_add(&table, "call\tlane\ttimes\tprice\tin a step\tsource\n");
    for (int64_t i = 0; i < DSC_MIN(list.count, DEAREST); i++) {
        const priced *row = &list.rows[i];
        char words[128];

        dsc_shape_print(row->shape, words, sizeof words);
        dsc_text_add(&table, "%s\t%s\t%" PRId64 "\t%s\t%s\t%s\n", words, row->is_host ? "host" : "compute",
                     row->times, dsc_ns_str(row->ns).str, dsc_ns_str(row->times * row->ns).str, source_of(e, row));
    }
    dsc_text_add(out, "\nDearest kernel calls of stage %" PRId64 ", of %" PRId64 " different ones\n", program->stage,
                 list.count);
    dsc_table_print(dsc_text_str(&table), out);
out:
    dsc_text_fini(&table);
    free(list.rows);
    free(uses);
    return status;
}

/* Ops that would have to be listed. */
static bool is_long(const evaluation *e)
{
    const int64_t readable = 2000;
    int64_t ops = 0;

    for (int64_t rank = 0; rank < e->plan->ranks; rank++)
        if (dsc_plan_representative(e->plan, rank) == rank)
            for (int64_t t = 0; t < e->programs[rank]->template_count; t++)
                ops += e->programs[rank]->templates[t].op_count;
    return ops > readable;
}

static dsc_status print_digest(const evaluation *e, dsc_text *out)
{
    dsc_text_add(out, "\nPrograms\n");
    dsc_programs_print(e->plan, e->programs, out);
    return print_dearest(e, e->programs[e->worst[DSC_SPACE_DEVICE].rank], out);
}

static dsc_status print_in_full(const evaluation *e, dsc_text *out)
{
    char *cluster = dsc_cluster_json(e->cluster);
    dsc_status status = DSC_OK;

    if (cluster == NULL) return DSC_FAIL(DSC_ENOMEM, "cluster: its description");
    for (int64_t rank = 0; rank < e->plan->ranks; rank++) {
        if (dsc_plan_representative(e->plan, rank) != rank) continue;
        dsc_text_add(out, "\nProgram of stage %" PRId64 "\n", e->programs[rank]->stage);
        dsc_program_print(e->programs[rank], out);
        DSC_TRY(print_prices(e, e->programs[rank], out));
    }
    dsc_text_add(out, "\nCluster\n%s\n", cluster);
out:
    free(cluster);
    return status;
}

dsc_status print_explanation(const evaluation *e, dsc_text *out)
{
    dsc_status status = DSC_OK;

    DSC_TRY(print_ledger(e, out));
    print_kept(e, out);
    print_buckets(e, out);
    DSC_TRY(is_long(e) ? print_digest(e, out) : print_in_full(e, out));
out:
    return status;
}
