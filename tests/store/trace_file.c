#include "store/guard.h"
#include "store/trace_file.h"
#include "tests/store/scratch.h"
#include "tests/tap.h"
#include <hdf5.h>
#include <math.h>
#include <string.h>

enum { OPS = 60, MEMORY = 5 }; /* rows of one step */

/* Rows are functions of their step and place, so that any part of a file can be checked by itself. */
static dsc_op_row op_row(int32_t step, int32_t i)
{
    int64_t start = (int64_t)step * 1000000 + i * 1000;

    return (dsc_op_row){step, i % 2, i / 2, i % 3 == 0, i % 4, i % 7 - 1, i % 5, 0, -1, start, start + 17 * i, i * 4096,
                        (int64_t)step << 33};
}

static dsc_step_row step_row(int32_t step)
{
    return (dsc_step_row){.step = step,
                          .path = "micro/update",
                          .loss = 5.5 / step,
                          .lr = 1e-3,
                          .grad_norm = NAN,
                          .tokens = 512,
                          .t_start_ns = (int64_t)step * 1000000,
                          .t_end_ns = (int64_t)step * 1000000 + 900000,
                          .wire_bytes = 77};
}

static void add_step(dsc_trace *trace, int32_t step)
{
    dsc_memory_row memory = {.step = step, .space = step % 2, .t_ns = step, .bytes = 1 << 20};
    dsc_link_row link = {0, (int64_t)step * 1000000, (int64_t)step * 1000000 + 5, 99};

    for (int32_t i = 0; i < OPS; i++) DSC_PUSH(trace->ops, trace->op_count, trace->op_capacity, op_row(step, i));
    for (int i = 0; i < MEMORY; i++) DSC_PUSH(trace->memory, trace->memory_count, trace->memory_capacity, memory);
    DSC_PUSH(trace->link_rows, trace->link_row_count, trace->link_row_capacity, link);
    DSC_PUSH(trace->steps, trace->step_count, trace->step_capacity, step_row(step));
}

static void clear_rows(dsc_trace *trace)
{
    trace->op_count = trace->memory_count = trace->link_row_count = trace->step_count = 0;
}

static void make_head(dsc_trace *trace, bool is_measured)
{
    static const char *const kinds[] = {"attention", "mlp", "all_reduce", "unattributed", NULL};
    static const char *const lanes[] = {"compute", "all_reduce", NULL}, *const spaces[] = {"device", "host", NULL};
    static const char *const axes[] = {"dp", NULL}, *const links[] = {"memory", NULL};
    dsc_trace_head *head = &trace->head;
    dsc_group_row group = {0, 0, 0};
    dsc_rank_row rank = {0, 0};

    dsc_trace_init(trace);
    dsc_names_copy(kinds, &head->kinds, &head->kind_count);
    dsc_names_copy(lanes, &head->lanes, &head->lane_count);
    dsc_names_copy(spaces, &head->spaces, &head->space_count);
    dsc_names_copy(axes, &head->axes, &head->axis_count);
    dsc_names_copy(links, &head->links, &head->link_count);
    head->is_measured = is_measured;
    strcpy(head->dsc_version, "0.1.0");
    strcpy(head->program_hash, "0123456789abcdef0123456789abcdef");
    head->config = strdup("{}");
    head->model = strdup("{\"layers\":2}");
    head->cluster = calloc(100001, 1); /* more than an object header holds */
    memset(head->cluster, ' ', 100000);
    memcpy(head->cluster, "{}", 2);
    head->clock_uncertainty_ns = 250;
    DSC_PUSH(trace->groups, trace->group_count, trace->group_capacity, group);
    DSC_PUSH(trace->ranks, trace->rank_count, trace->rank_capacity, rank);
}

/* Whether the trace is exactly steps 1 to its last. */
static bool holds_whole_steps(const dsc_trace *trace)
{
    if (trace->op_count != trace->step_count * OPS || trace->memory_count != trace->step_count * MEMORY ||
        trace->link_row_count != trace->step_count)
        return false;
    for (int64_t i = 0; i < trace->op_count; i++) {
        dsc_op_row wanted = op_row((int32_t)(i / OPS) + 1, (int32_t)(i % OPS)), *row = &trace->ops[i];

        if (row->step != wanted.step || row->op != wanted.op || row->lane != wanted.lane || row->kind != wanted.kind ||
            row->layer != wanted.layer || row->t_start_ns != wanted.t_start_ns || row->t_end_ns != wanted.t_end_ns ||
            row->bytes != wanted.bytes || row->flops != wanted.flops || row->group != -1)
            return false;
    }
    for (int64_t i = 0; i < trace->step_count; i++) {
        dsc_step_row wanted = step_row((int32_t)i + 1), *row = &trace->steps[i];

        if (row->step != wanted.step || !dsc_equal(row->path, wanted.path) || row->loss != wanted.loss ||
            !isnan(row->grad_norm) || row->t_end_ns != wanted.t_end_ns || row->wire_bytes != 77)
            return false;
    }
    return true;
}

static void reads_back(void)
{
    scratch scratch = scratch_begin();
    const char *path = scratch_path(&scratch, "t.h5");
    dsc_trace wrote, read;

    make_head(&wrote, true);
    for (int32_t step = 1; step <= 300; step++) add_step(&wrote, step);
    CHECK_OK(dsc_trace_save(path, &wrote));
    if (!CHECK_OK(dsc_trace_load(path, &read))) goto out;
    CHECK(holds_whole_steps(&read) && read.step_count == 300, "%lld steps, %lld ops", (long long)read.step_count,
          (long long)read.op_count);
    CHECK(read.head.is_measured && dsc_equal(read.head.program_hash, wrote.head.program_hash) &&
          dsc_equal(read.head.cluster, wrote.head.cluster) && dsc_equal(read.head.model, wrote.head.model) &&
          strlen(read.head.created) == 25 && read.head.clock_uncertainty_ns == 250, "created %s", read.head.created);
    CHECK(read.head.kind_count == 4 && dsc_equal(read.head.kinds[3], "unattributed") && read.head.axis_count == 1,
          "%lld kinds", (long long)read.head.kind_count);
    dsc_trace_fini(&read);
out:
    dsc_trace_fini(&wrote);
    scratch_end(&scratch);
}

/* ---- Schema */

static bool has_filter(hid_t creation, H5Z_filter_t wanted)
{
    for (int i = 0; i < H5Pget_nfilters(creation); i++) {
        unsigned flags, config;
        size_t values = 0;

        if (H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL, 0, NULL, &config) == wanted) return true;
    }
    return false;
}

static bool is_list(const char *name)
{
    static const char *const lists[] = {"ops/kinds", "ops/lanes", "memory/spaces", "groups/axes", "links/links"};

    for (int64_t i = 0; i < DSC_COUNT(lists); i++)
        if (dsc_equal(name, lists[i])) return true;
    return false;
}

static herr_t check_object(hid_t file, const char *name, const H5O_info_t *info, void *columns)
{
    hid_t dataset, creation, space, type;

    CHECK(info->ctime == 0 && info->mtime == 0, "%s has object times", name);
    if (info->type != H5O_TYPE_DATASET) return 0;
    dataset = H5Dopen2(file, name, H5P_DEFAULT);
    creation = H5Dget_create_plist(dataset);
    space = H5Dget_space(dataset);
    type = H5Dget_type(dataset);
    *(int *)columns += !is_list(name);
    CHECK(H5Pget_layout(creation) == H5D_CHUNKED && has_filter(creation, H5Z_FILTER_DEFLATE), "%s", name);
    CHECK(H5Sget_simple_extent_ndims(space) == 1, "%s", name);
    CHECK((H5Aexists(dataset, "units") > 0) == !is_list(name), "%s", name);
    CHECK(H5Tget_class(type) != H5T_STRING || !H5Tis_variable_str(type), "%s has strings of variable length", name);
    H5Tclose(type);
    H5Sclose(space);
    H5Pclose(creation);
    H5Dclose(dataset);
    return 0;
}

static void follows_the_schema(void)
{
    scratch scratch = scratch_begin();
    static const char *const attributes[] = {"schema_version", "kind",   "dsc_version", "program_hash",
                                             "plan_hash",      "config", "cluster",     "model"};
    dsc_trace trace;
    int columns = 0;
    hid_t file;

    make_head(&trace, false);
    add_step(&trace, 1);
    CHECK_OK(dsc_trace_save(scratch_path(&scratch, "p.h5"), &trace));
    file = H5Fopen(scratch.path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (!CHECK(file >= 0, "a plain open fails")) goto out;
    H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, check_object, &columns, H5O_INFO_BASIC | H5O_INFO_TIME);
    CHECK(columns == 13 + 5 + 9 + 4 + 3 + 2, "%d columns", columns);
    for (int64_t i = 0; i < DSC_COUNT(attributes); i++) CHECK(H5Aexists(file, attributes[i]) > 0, "%s", attributes[i]);
    CHECK(H5Aexists(file, "created") == 0, "a prediction has a date");
    CHECK(H5Aexists_by_name(file, "/ops", "clock_uncertainty_ns", H5P_DEFAULT) > 0, "no clock_uncertainty_ns");
    H5Fclose(file);
out:
    dsc_trace_fini(&trace);
    scratch_end(&scratch);
}

static bool are_same_bytes(const char *a, const char *b)
{
    FILE *x = fopen(a, "rb"), *y = fopen(b, "rb");
    int left, right;

    do {
        left = fgetc(x);
        right = fgetc(y);
    } while (left == right && left != EOF);
    fclose(x);
    fclose(y);
    return left == right;
}

static void predicts_the_same_bytes(void)
{
    scratch scratch = scratch_begin();
    char first[512];
    dsc_trace trace;

    make_head(&trace, false);
    for (int32_t step = 1; step <= 9; step++) add_step(&trace, step);
    strcpy(first, scratch_path(&scratch, "first.h5"));
    CHECK_OK(dsc_trace_save(first, &trace));
    sleep(1); /* HDF5's object times count in seconds */
    memset(trace.steps[2].path + 20, 'x', 20); /* what stands behind a text's end is no part of it */
    CHECK_OK(dsc_trace_save(scratch_path(&scratch, "second.h5"), &trace));
    CHECK(are_same_bytes(first, scratch_path(&scratch, "second.h5")), "the files differ");
    setenv("SOURCE_DATE_EPOCH", "86400", 1);
    CHECK_OK(dsc_trace_save(first, &trace));
    unsetenv("SOURCE_DATE_EPOCH");
    dsc_trace_fini(&trace);
    if (CHECK_OK(dsc_trace_load(first, &trace)))
        CHECK(dsc_equal(trace.head.created, "1970-01-02T00:00:00+00:00"), "%s", trace.head.created);
    dsc_trace_fini(&trace);
    scratch_end(&scratch);
}

/* ---- Readers and kills while a writer runs */

/* Writes a step, and then its number into the pipe, until it is killed or has written `steps`; leaves the file
 * unclosed. */
static pid_t start_writing(const char *path, int32_t steps, int *reached)
{
    int ends[2];
    pid_t child;

    if (pipe(ends) != 0 || (child = fork()) < 0) exit(3);
    if (child == 0) {
        dsc_trace_writer *writer;
        dsc_trace trace;

        make_head(&trace, true);
        if (dsc_trace_writer_open(path, &trace.head, trace.groups, 1, trace.ranks, 1, &writer) != DSC_OK) _exit(1);
        for (int32_t step = 0; step <= steps; step++) {
            clear_rows(&trace);
            if (step > 0) add_step(&trace, step);
            if (dsc_trace_writer_append(writer, &trace) != DSC_OK) _exit(1);
            if (write(ends[1], &step, sizeof step) != sizeof step) _exit(1);
        }
        pause();
    }
    close(ends[1]);
    *reached = ends[0];
    return child;
}

static int32_t wait_for_step(int reached, int32_t wanted)
{
    int32_t step = -1;

    while (step < wanted && read(reached, &step, sizeof step) == sizeof step) continue;
    return step;
}

static void reads_while_written(void)
{
    enum { STEPS = 120, READS = 12 };
    scratch scratch = scratch_begin();
    const char *path = scratch_path(&scratch, "live.h5");
    int reached;
    pid_t child = start_writing(path, STEPS, &reached);

    for (int i = 0; i <= READS; i++) {
        int32_t written = wait_for_step(reached, i * STEPS / READS);
        dsc_trace trace;

        if (!CHECK_OK(dsc_trace_load(path, &trace))) continue;
        CHECK(trace.step_count >= written && holds_whole_steps(&trace),
              "%d steps were written, %lld read, with %lld ops", written, (long long)trace.step_count,
              (long long)trace.op_count);
        dsc_trace_fini(&trace);
    }
    close(reached);
    scratch_kill(child);
    scratch_end(&scratch);
}

static void survives_kills(void)
{
    enum { KILLS = 30 };
    scratch scratch = scratch_begin();
    const char *path = scratch_path(&scratch, "killed.h5");
    int64_t steps = 0;

    for (int i = 0; i < KILLS; i++) {
        int reached;
        pid_t child = start_writing(path, 100000, &reached);
        int32_t written;
        dsc_trace trace;

        wait_for_step(reached, 0);
        usleep((useconds_t)tap_random_between(0, 100000));
        scratch_kill(child);
        written = wait_for_step(reached, INT32_MAX);
        close(reached);
        if (!CHECK_OK(dsc_trace_load(path, &trace))) continue;
        CHECK(trace.step_count >= written && holds_whole_steps(&trace),
              "%d steps were written, %lld read, with %lld ops", written, (long long)trace.step_count,
              (long long)trace.op_count);
        steps += trace.step_count;
        dsc_trace_fini(&trace);
    }
    tap_note("%lld steps were read from %d files", (long long)steps, KILLS);
    scratch_end(&scratch);
}

/* Whether a trace that was not closed reads while one of its bytes is another for some milliseconds. */
static bool reads_over(const char *path, long byte, unsigned microseconds)
{
    dsc_status status;
    dsc_trace trace;
    pid_t child;

    scratch_flip(path, byte, 0);
    child = fork();
    if (child == 0) {
        usleep(microseconds);
        scratch_flip(path, byte, 0);
        _exit(0);
    }
    status = dsc_trace_load(path, &trace);
    waitpid(child, NULL, 0);
    if (status != DSC_OK) return false;
    CHECK(holds_whole_steps(&trace), "with byte %ld another for a moment: other rows", byte);
    dsc_trace_fini(&trace);
    return true;
}

/* A byte is as a half-written chunk is: what is read does not match its checksum. */
static void reads_torn_chunks_again(void)
{
    scratch scratch = scratch_begin();
    const char *path = scratch_path(&scratch, "torn.h5");
    int reached, torn = 0, read_again = 0;
    pid_t child = start_writing(path, 100000, &reached);

    wait_for_step(reached, 40);
    scratch_kill(child);
    close(reached);
    for (long byte = scratch_size(path) / 2; torn < 5 && byte < scratch_size(path); byte += 97) {
        bool is_damage;
        dsc_trace trace;

        dsc_trace_init(&trace);
        scratch_flip(path, byte, 0);
        is_damage = dsc_trace_load(path, &trace) != DSC_OK && strstr(dsc_message(), "Fletcher32") != NULL;
        scratch_flip(path, byte, 0);
        dsc_trace_fini(&trace);
        if (!is_damage) continue;
        torn++;
        read_again += reads_over(path, byte, 10000);
    }
    CHECK(torn == 5 && read_again == torn, "%d of %d traces read, whose damage had passed", read_again, torn);
    scratch_end(&scratch);
}

/* Appends until it fails; the exit status says whether it failed as it should. */
static int write_to_the_brim(const char *folder)
{
    dsc_trace_writer *writer = NULL;
    dsc_status status;
    dsc_trace trace;
    char path[512];

    snprintf(path, sizeof path, "%s/full.h5", folder);
    make_head(&trace, true);
    status = dsc_trace_writer_open(path, &trace.head, trace.groups, 1, trace.ranks, 1, &writer);
    for (int32_t step = 1; status == DSC_OK; step++) {
        clear_rows(&trace);
        add_step(&trace, step);
        status = dsc_trace_writer_append(writer, &trace);
    }
    dsc_trace_writer_close(&writer);
    dsc_trace_fini(&trace);
    return status == DSC_EIO && strstr(dsc_message(), "full.h5") && strstr(dsc_message(), "File too large") ? 0 : 1;
}

static void survives_a_full_disk(void)
{
    scratch scratch = scratch_begin();

    for (long kilobytes = 1; kilobytes <= 400; kilobytes += 57) {
        int how = scratch_run_limited(kilobytes << 10, write_to_the_brim, scratch.folder);
        dsc_trace trace;

        CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0, "%ld KiB: wait status %x", kilobytes, (unsigned)how);
        if (kilobytes < 300) continue;
        if (!CHECK_OK(dsc_trace_load(scratch_path(&scratch, "full.h5"), &trace))) continue;
        CHECK(trace.step_count > 0 && holds_whole_steps(&trace), "%ld KiB: %lld steps", kilobytes,
              (long long)trace.step_count);
        dsc_trace_fini(&trace);
    }
    scratch_end(&scratch);
}

/* ---- Files that are no traces */

static dsc_status load_into_nothing(void *path, dsc_text *text, double *is_as_written)
{
    dsc_trace trace;
    dsc_status status = dsc_trace_load(path, &trace);

    (void)text;
    if (status != DSC_OK) return status;
    *is_as_written = holds_whole_steps(&trace);
    dsc_trace_fini(&trace);
    return DSC_OK;
}

static void finds_flipped_bits(void)
{
    enum { FLIPS = 100 };
    scratch scratch = scratch_begin();
    const char *path = scratch_path(&scratch, "t.h5");
    int refused = 0;
    dsc_trace trace;

    make_head(&trace, false);
    for (int32_t step = 1; step <= 20; step++) add_step(&trace, step);
    CHECK_OK(dsc_trace_save(path, &trace));
    for (int flip = 0; flip < FLIPS; flip++) {
        long byte = (long)tap_random_between(0, scratch_size(path) - 1);
        int bit = (int)tap_random_between(0, 7);
        double is_as_written = 0;
        dsc_text text = {0};
        dsc_status status;

        scratch_flip(path, byte, bit);
        status = dsc_guard(path, DSC_GUARD_SECONDS, load_into_nothing, (void *)path, &text, &is_as_written);
        CHECK(status == DSC_EINVAL || (status == DSC_OK && is_as_written == 1), "byte %ld, bit %d: %s", byte, bit,
              dsc_status_name(status));
        refused += status == DSC_EINVAL;
        scratch_flip(path, byte, bit);
        dsc_text_fini(&text);
    }
    tap_note("%d of %d flips were refused, the others changed no row", refused, FLIPS);
    dsc_trace_fini(&trace);
    scratch_end(&scratch);
}

static void refuses(const char *path, const char *why)
{
    dsc_trace trace;

    CHECK(dsc_trace_load(path, &trace) == DSC_EINVAL && strstr(dsc_message(), path) && strstr(dsc_message(), why), "%s",
          dsc_message());
}

static void refuses_other_files(void)
{
    scratch scratch = scratch_begin();
    FILE *text = fopen(scratch_path(&scratch, "text.h5"), "w");
    dsc_trace trace;
    hid_t file;

    fputs("not HDF5\n", text);
    fclose(text);
    refuses(scratch.path, "not an HDF5 file");
    refuses(scratch.folder, "not a regular file");
    refuses(scratch_path(&scratch, "absent.h5"), "No such file");
    file = H5Fcreate(scratch_path(&scratch, "other.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    refuses(scratch.path, "not a trace");

    make_head(&trace, false);
    add_step(&trace, 1);
    trace.ops[7].kind = 4;
    CHECK_OK(dsc_trace_save(scratch_path(&scratch, "codes.h5"), &trace));
    refuses(scratch.path, "/ops/kind, row 7: 4 is outside 0 .. 3");
    trace.ops[7].kind = 0;
    trace.ops[8].t_end_ns = trace.ops[8].t_start_ns - 1;
    CHECK_OK(dsc_trace_save(scratch_path(&scratch, "times.h5"), &trace));
    refuses(scratch.path, "/ops, row 8 ends");
    CHECK(dsc_trace_save("/nowhere/t.h5", &trace) == DSC_EINVAL && strstr(dsc_message(), "/nowhere/t.h5"), "%s",
          dsc_message());
    dsc_trace_fini(&trace);
    scratch_end(&scratch);
}

static dsc_status crash(void *context, dsc_text *text, double *value)
{
    (void)context, (void)text, (void)value;
    signal(SIGABRT, SIG_DFL);
    raise(SIGABRT);
    return DSC_OK;
}

static dsc_status say(void *context, dsc_text *text, double *value)
{
    for (int i = 0; i < 100000; i++) dsc_text_add(text, "%s", (const char *)context); /* more than a pipe holds */
    *value = 0.5;
    return DSC_FAIL(DSC_EINFEASIBLE, "no");
}

static dsc_status sleep_for_ever(void *context, dsc_text *text, double *value)
{
    (void)context, (void)text, (void)value;
    while (pause() != 0) continue;
    return DSC_OK;
}

static void guards(void)
{
    dsc_text text = {0};
    double value = 0;

    CHECK(dsc_guard("x.h5", DSC_GUARD_SECONDS, crash, NULL, &text, &value) == DSC_EINVAL, "a crash is no failure");
    CHECK(strstr(dsc_message(), "x.h5: damaged"), "%s", dsc_message());
    CHECK(dsc_guard("x.h5", 1, sleep_for_ever, NULL, &text, &value) == DSC_EINVAL, "sleep is no failure");
    CHECK(strstr(dsc_message(), "x.h5: damaged: reading it did not end in 1 s"), "%s", dsc_message());
    CHECK(dsc_guard("x.h5", DSC_GUARD_SECONDS, say, "word", &text, &value) == DSC_EINFEASIBLE, "no's status is lost");
    CHECK(dsc_equal(dsc_message(), "no"), "%s", dsc_message());
    CHECK(text.count == 400000 && value == 0.5, "%lld bytes, %g", (long long)text.count, value);
    dsc_text_fini(&text);
}

static const tap_case cases[] = {
    {"a trace reads back as it was written", reads_back},
    {"a file has the attributes and columns of schema 1, chunked and compressed, with units", follows_the_schema},
    {"two predictions of the same rows are the same bytes", predicts_the_same_bytes},
    {"a trace that is being written reads to a whole step, at any moment", reads_while_written},
    {"a trace whose writer was killed at any moment reads to the last flushed step", survives_kills},
    {"a chunk that was being written is read again", reads_torn_chunks_again},
    {"a full disk is an error that names the file, and leaves whole steps", survives_a_full_disk},
    {"a flipped bit never gives other rows", finds_flipped_bits},
    {"what is no trace is refused by file and reason", refuses_other_files},
    {"a crash or a sleep while reading becomes a message", guards},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
