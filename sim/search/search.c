/* A search and its strategies: as configurations, and with their scores. */
#include "sim/search/parts.h"
#include "config/keys.h"
#include "sim/search/walk.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Strategies as configurations */

dsc_config dsc_search_config(const dsc_search *search, const dsc_candidate *c)
{
    dsc_config config = search->config;
    dsc_strategy *s = &config.strategy;

    s->tp = c->tp;
    s->pp = c->pp;
    s->dp = c->dp;
    s->micro_batch = c->micro_batch;
    s->virtual_stages = c->virtual_stages;
    s->schedule = c->schedule;
    s->zero = c->zero;
    s->offload = c->offload;
    s->recompute = c->recompute;
    s->sequence_parallel = c->sequence_parallel;
    config.gradient_accumulation_steps = 0;
    return config;
}

/* search->outline and search->tried become the candidate's. */
dsc_status search_look_at(dsc_search *search, const dsc_candidate *c, const dsc_stack **stack)
{
    dsc_status status = DSC_OK;

    search->tried = dsc_search_config(search, c);
    *stack = dsc_stack_find(search->stack, &search->tried.strategy, search->cluster);
    dsc_stack_apply(*stack, search->model->layers, dsc_cluster_devices(search->cluster), &search->tried.strategy);
    DSC_TRY(dsc_plan_outline(search->model, search->cluster, &search->tried, &search->outline));
out:
    return status;
}

/* ---- Scores */

dsc_shape_of_step search_shape_of(const dsc_search *search, const dsc_candidate *c, const machine *m,
                                  int64_t messages_ns)
{
    return (dsc_shape_of_step){.layers = search->model->layers, .pp = c->pp, .virtual_stages = c->virtual_stages,
                               .micro_batches = c->micro_batches, .schedule = c->schedule, .messages_ns = messages_ns,
                               .agree_ns = m->agree_ns, .pause_ns = m->pause_ns};
}

void search_set_bytes(const dsc_search *search, dsc_candidate *c, const dsc_costs *costs,
                      const dsc_shape_of_step *shape)
{
    c->fits = true;
    for (int space = 0; space < DSC_SPACE_COUNT; space++) {
        c->bytes[space] = dsc_score_bytes(costs, shape, space) + search->libraries_bytes[space];
        c->fits = c->fits && c->bytes[space] <= search->capacity_bytes[space];
    }
}

bool search_is_walkable(const dsc_candidate *c)
{
    return c->pp > 1 && (c->schedule == DSC_INTERLEAVED || c->schedule == DSC_ZB_H1);
}

dsc_status search_score(dsc_search *search, dsc_candidate *c, bool walks, dsc_score *parts)
{
    const bool is_open = search->config.strategy.bucket_elems == 0;
    const dsc_stack *stack;
    const family_costs *family;
    dsc_shape_of_step shape;
    dsc_status status = DSC_OK;
    int64_t machine, before;

    DSC_TRY(search_look_at(search, c, &stack));
    DSC_TRY(search_find_machine(search, stack, &machine));
    do { /* buckets in pieces, as dsc_programs_place makes them, as long as that helps */
        before = c->bytes[DSC_SPACE_DEVICE];
        DSC_TRY(search_find_family(search, &machine, 1, &family));
        shape = search_shape_of(search, c, &search->machines[machine], family->messages_ns);
        search_set_bytes(search, c, &family->costs, &shape);
        if (c->is_scored && c->bytes[DSC_SPACE_DEVICE] >= before) break;
        c->is_scored = true;
        search->outline.config.strategy.bucket_elems /= 2;
    } while (!c->fits && is_open && dsc_plan_has_streams(&search->outline) &&
             search->outline.config.strategy.bucket_elems >= DSC_LEAST_BUCKET_ELEMS);
    if (walks && search_is_walkable(c)) DSC_TRY(dsc_walk_passes(&family->costs, &shape, parts));
    else *parts = dsc_score_time(&family->costs, &shape);
    c->is_scored = true;
    c->is_walked = walks;
    c->step_ns = parts->step_ns;
out:
    return status;
}

/* ---- Life */

/* What a rank has, and what libraries take, is asked of the smallest plan. */
static dsc_status note_capacity(dsc_search *search)
{
    const dsc_candidate one = {.tp = 1, .pp = 1, .dp = 1, .micro_batch = 1, .virtual_stages = 1,
                               .schedule = DSC_1F1B};
    dsc_config config = dsc_search_config(search, &one);
    dsc_status status = DSC_OK;

    config.strategy.cp = 1;
    config.strategy.dp = dsc_cluster_devices(search->cluster);
    if (search->given.dp) config.strategy.dp = DSC_MIN(config.strategy.dp, search->config.strategy.dp);
    config.strategy.global_batch = config.strategy.dp;
    DSC_TRY(dsc_plan_outline(search->model, search->cluster, &config, &search->outline));
    memcpy(search->capacity_bytes, search->outline.capacity_bytes, sizeof search->capacity_bytes);
    memcpy(search->libraries_bytes, search->outline.libraries_bytes, sizeof search->libraries_bytes);
out:
    return status;
}

void search_forget(dsc_search *copy)
{
    copy->families = NULL;
    copy->machines = NULL;
    copy->candidates = NULL;
    copy->parts = NULL;
    copy->family_slots = copy->family_count = copy->machine_count = copy->machine_capacity = 0;
    copy->candidate_count = copy->candidate_capacity = 0;
    copy->counts = (dsc_search_counts){0};
}

/* Whether some strategy would be legal, were that axis free. */
static bool is_legal_without(const dsc_search *search, size_t axis, int threads)
{
    dsc_search *other = malloc(sizeof *other);
    bool is_legal = false;

    if (other == NULL) return false;
    *other = *search;
    search_forget(other);
    *(bool *)((char *)&other->given + axis) = false;
    is_legal = search_look_at_all(other, threads) == DSC_OK;
    dsc_search_destroy(other);
    return is_legal;
}

static void add_option(const dsc_search *search, const char *name, dsc_text *out)
{
    const dsc_field *field = dsc_field_find(dsc_config_fields(), name);
    json_t *value = dsc_field_json(field, &search->config);

    dsc_text_add(out, "%s%s%s", out->count > 0 ? " or " : "", json_is_false(value) ? "--no-" : "--", name);
    if (json_is_string(value)) dsc_text_add(out, " %s", json_string_value(value));
    if (json_is_integer(value)) dsc_text_add(out, " %" JSON_INTEGER_FORMAT, json_integer_value(value));
    json_decref(value);
}

static int64_t common_divisor(int64_t a, int64_t b) { return b == 0 ? a : common_divisor(b, a % b); }

/* What is free as a single strategy would have it: few ranks, and as many replicas as take whole micro-batches. */
static dsc_config plain(const dsc_search *search)
{
    const dsc_given *given = &search->given;
    const int64_t devices = dsc_cluster_devices(search->cluster);
    dsc_config config = search->config;
    dsc_strategy *s = &config.strategy;
    const bool is_chunked = given->virtual_stages && s->virtual_stages > 1;
    const bool interleaves = is_chunked || (given->schedule && s->schedule == DSC_INTERLEAVED);
    int64_t batch;

    if (!given->tp) s->tp = 1;
    if (!given->pp) s->pp = interleaves && devices / (s->tp * DSC_MAX(given->dp ? s->dp : 1, 1)) > 1 ? 2 : 1;
    if (!given->virtual_stages) s->virtual_stages = interleaves ? 2 : 1;
    if (!given->micro_batch) s->micro_batch = 1;
    batch = s->global_batch % s->micro_batch == 0 ? s->global_batch / s->micro_batch : 1;
    if (!given->dp) s->dp = common_divisor(batch, DSC_MAX(devices / (s->tp * s->pp * DSC_MAX(s->cp, 1)), 1));
    return config;
}

/* Why that one is not legal; DSC_OK where it is, or devices are too few. */
static dsc_status check_plain(dsc_search *search)
{
    const dsc_config config = plain(search);
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_plan_outline(search->model, search->cluster, &config, &search->outline));
    DSC_TRY(dsc_plan_check_legal(&search->outline));
out:
    return status;
}

/* "--tp 8 or --zero 3": what is given and stands in the way of all, found by leaving out one after another. A dp that
 * follows from the batch nobody gives. */
static void add_obstacles(const dsc_search *search, int threads, dsc_text *out)
{
    static const struct { const char *name; size_t at; } axes[] = {
#define AXIS(name, member) {name, offsetof(dsc_given, member)}
        AXIS("tp", tp), AXIS("pp", pp), AXIS("dp", dp), AXIS("micro-batch", micro_batch),
        AXIS("virtual-stages", virtual_stages), AXIS("schedule", schedule), AXIS("zero", zero),
        AXIS("offload", offload), AXIS("recompute", recompute), AXIS("sequence-parallel", sequence_parallel)};
#undef AXIS

    for (int64_t i = 0; i < DSC_COUNT(axes); i++) {
        if (axes[i].at == offsetof(dsc_given, dp) && search->config.gradient_accumulation_steps > 0) continue;
        if (*(const bool *)((const char *)&search->given + axes[i].at) && is_legal_without(search, axes[i].at, threads))
            add_option(search, axes[i].name, out);
    }
}

/* No strategy is legal: why a plain one is not, where it is not, else the thread's message, of some other. */
static dsc_status refuse_all(dsc_search *search, int threads)
{
    dsc_text why = {0}, obstacles = {0};
    dsc_status status;

    dsc_text_add(&why, "%s", dsc_message());
    if (search->counts.considered > 0) {
        const bool is_other = check_plain(search) == DSC_OK;

        if (!is_other) dsc_text_fini(&why), why = (dsc_text){0};
        if (!is_other) dsc_text_add(&why, "%s", dsc_message());
    }
    add_obstacles(search, threads, &obstacles);
    if (obstacles.count > 0) dsc_text_add(&why, "; without %s there are some", dsc_text_str(&obstacles));
    status = search->counts.considered == 0
                 ? DSC_FAIL(DSC_EINVAL, "--search: %s", dsc_text_str(&why))
                 : DSC_FAIL(DSC_EINVAL, "--search: of %" PRId64 " strategies none is legal: %s",
                            search->counts.considered, dsc_text_str(&why));
    dsc_text_fini(&why);
    dsc_text_fini(&obstacles);
    return status;
}

dsc_status dsc_search_create(const dsc_model *model, const dsc_cluster *cluster, const dsc_config *config,
                             const dsc_given *given, const char *stack, const dsc_calibration *calibration,
                             int threads, dsc_search **out)
{
    dsc_search *search = calloc(1, sizeof *search);
    dsc_status status = DSC_OK;

    if (search == NULL) return DSC_FAIL(DSC_ENOMEM, "search: %zu bytes", sizeof *search);
    search->model = model;
    search->cluster = cluster;
    search->calibration = calibration;
    search->stack = stack;
    search->config = *config;
    search->given = *given;
    search->threads = threads;
    if (config->strategy.global_batch <= 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "--search compares strategies by their step, so all take one batch: give "
                         "--global-batch"));
    if (dsc_stack_find(stack, &config->strategy, cluster) == NULL)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "unknown --stack \"%s\"; --list-stacks lists them", stack));
    DSC_TRY(note_capacity(search));
    status = search_look_at_all(search, threads);
    if (status == DSC_EINVAL) status = refuse_all(search, threads);
    DSC_TRY(status);
    *out = search;
    search = NULL;
out:
    dsc_search_destroy(search);
    return status;
}

void dsc_search_destroy(dsc_search *search)
{
    if (search == NULL) return;
    search_drop_parts(search);
    search_drop_machines(search);
    free(search->families);
    free(search->candidates);
    free(search);
}

/* ---- What it holds */

const dsc_candidate *dsc_search_candidates(const dsc_search *search, int64_t *count)
{
    *count = search->candidate_count;
    return search->candidates;
}

dsc_search_counts dsc_search_count(const dsc_search *search)
{
    dsc_search_counts counts = search->counts;

    for (int i = 0; search->parts != NULL && i < SEARCH_PARTS; i++) counts.families += search->parts[i].counts.families;
    return counts;
}

int64_t dsc_search_capacity(const dsc_search *search, int space) { return search->capacity_bytes[space]; }
