#include "store/checkpoint.h"
#include "tests/store/scratch.h"
#include "tests/tap.h"
#include <hdf5.h>
#include <string.h>

static const dsc_tensor tensors[] = {
    {.name = "transformer.wte.weight", .dims = 2, .shape = {65, 33}},
    {.name = "transformer.wpe.weight", .dims = 2, .shape = {16, 33}},
    {.name = "transformer.ln_f.bias", .dims = 1, .shape = {33, 1}},
};
enum { TENSORS = DSC_COUNT(tensors), MOST_ELEMS = 65 * 33, WORKERS = 3 };

static const dsc_copies copies = {WORKERS, true}, no_copies = {1, false};

/* The copies of a tensor: of the workers' errors each is one; the last is LAMB's variance. */
enum { FIRST_WORKER = DSC_STATE_WORKER_ERROR + 1, FRESH = FIRST_WORKER + WORKERS, COPIES };
static int64_t worker_of(int copy) { return copy == FRESH ? 0 : DSC_MAX(copy - FIRST_WORKER, 0); }
static int which_of(int copy)
{
    if (copy == FRESH) return DSC_STATE_FRESH;
    if (copy >= FIRST_WORKER) return DSC_STATE_WORKER_ERROR;
    return copy == FIRST_WORKER - 1 ? DSC_STATE_SERVER_ERROR : copy;
}

/* Element i of a tensor as saved at a step. */
static float value_of(int64_t step, int copy, int64_t tensor, int64_t i)
{
    return (float)(step * 1000 + copy * 100 + tensor * 10) + (float)i / 4096;
}

static dsc_checkpoint_state state_of(int64_t step)
{
    return (dsc_checkpoint_state){.step = step,
                                  .optimizer_step = step - 1,
                                  .samples_seen = 7 * step,
                                  .seed = UINT64_MAX - 5,
                                  .data_hash = "00112233445566778899aabbccddeeff",
                                  .sampler_version = 1,
                                  .loss_scale = 65536.5,
                                  .scaler_iteration = 3,
                                  .scaler_last_overflow = -1,
                                  .scaler_hysteresis = 2,
                                  .frozen_updates = 4,
                                  .frozen_at = 5,
                                  .variance_norm = 0.125,
                                  .variance_interval = 2,
                                  .variance_updates = 7,
                                  .sync_interval = 8,
                                  .own_steps = 9,
                                  .config = "{\"lr\": 1}",
                                  .schedule = "",
                                  .model = "{}"};
}

static dsc_checkpoint_piece whole_of(const dsc_tensor *tensor, int copy, int64_t index, float *values)
{
    bool is_vector = tensor->dims < 2;
    int64_t rows = is_vector ? 1 : tensor->shape[0], columns = is_vector ? tensor->shape[0] : tensor->shape[1];

    return (dsc_checkpoint_piece){which_of(copy), index, 0, 0, rows, columns, values, columns, worker_of(copy)};
}

static void fill(int64_t step, int copy, int64_t tensor, float whole[MOST_ELEMS])
{
    for (int64_t i = 0; i < dsc_tensor_elems(&tensors[tensor]); i++) whole[i] = value_of(step, copy, tensor, i);
}

static dsc_status write_all(dsc_checkpoint_writer *writer, int64_t step)
{
    float whole[MOST_ELEMS];
    dsc_status status = DSC_OK;

    for (int copy = 0; copy < COPIES; copy++)
        for (int64_t t = 0; t < TENSORS; t++) {
            dsc_checkpoint_piece piece = whole_of(&tensors[t], copy, t, whole);

            fill(step, copy, t, whole);
            DSC_TRY(dsc_checkpoint_write(writer, &piece));
        }
out:
    return status;
}

/* As one process alone does. */
static dsc_status finish(dsc_checkpoint_writer **writer)
{
    const dsc_hash *hashes;
    int64_t count;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_checkpoint_flush(*writer));
    DSC_TRY(dsc_checkpoint_hash(*writer, 0, 1, &hashes, &count));
    DSC_TRY(dsc_checkpoint_commit(writer, hashes, count));
out:
    return status;
}

static dsc_status save(const char *folder, int64_t step)
{
    dsc_checkpoint_state state = state_of(step);
    dsc_checkpoint_writer *writer = NULL;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_checkpoint_begin(folder, step, tensors, TENSORS, copies, &state, &writer));
    DSC_TRY(write_all(writer, step));
    DSC_TRY(finish(&writer));
out:
    dsc_checkpoint_abandon(&writer);
    return status;
}

static bool holds(const dsc_checkpoint_reader *reader, int64_t step)
{
    float whole[MOST_ELEMS], wanted[MOST_ELEMS];

    for (int copy = 0; copy < COPIES; copy++)
        for (int64_t t = 0; t < TENSORS; t++) {
            dsc_checkpoint_piece piece = whole_of(&tensors[t], copy, t, whole);

            fill(step, copy, t, wanted);
            if (dsc_checkpoint_read(reader, &piece) != DSC_OK) return false;
            if (memcmp(whole, wanted, sizeof(float) * (size_t)dsc_tensor_elems(&tensors[t])) != 0) return false;
        }
    return true;
}

static dsc_checkpoint_piece trust_of(int64_t tensor, float values[DSC_TRUST_VALUES])
{
    return (dsc_checkpoint_piece){DSC_STATE_TRUST, tensor, 0, 0, 1, DSC_TRUST_VALUES, values, DSC_TRUST_VALUES, 0};
}

/* Two values of a tensor, whatever its shape; where another optimizer trained there are none. */
static void trust_reads_back(void)
{
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = state_of(7), read_state = {0};
    dsc_checkpoint_writer *writer = NULL;
    dsc_checkpoint_reader *reader = NULL;
    float values[TENSORS][DSC_TRUST_VALUES], read[DSC_TRUST_VALUES], more[4];
    dsc_checkpoint_piece piece = trust_of(1, more);

    if (!CHECK_OK(dsc_checkpoint_begin(scratch.folder, 7, tensors, TENSORS, copies, &state, &writer))) goto out;
    for (int64_t t = 0; t < TENSORS; t++) {
        values[t][0] = (float)t + 0.5f;
        values[t][1] = (float)t - 0.25f;
        CHECK_OK(dsc_checkpoint_write(writer, &(dsc_checkpoint_piece[]){trust_of(t, values[t])}[0]));
    }
    piece.rows = 2;
    CHECK(dsc_checkpoint_write(writer, &piece) == DSC_EINTERNAL, "a second row of two values is written");
    if (!CHECK_OK(finish(&writer))) goto out;
    if (!CHECK_OK(dsc_checkpoint_open(scratch_path(&scratch, "step-00000007"), tensors, TENSORS, &read_state, &reader)))
        goto out;
    for (int64_t t = 0; t < TENSORS; t++) {
        const dsc_checkpoint_piece in = trust_of(t, read);

        CHECK_OK(dsc_checkpoint_read(reader, &in));
        CHECK(memcmp(read, values[t], sizeof read) == 0, "of tensor %d %g and %g", (int)t, (double)read[0],
              (double)read[1]);
    }
out:
    dsc_checkpoint_abandon(&writer);
    dsc_checkpoint_close(&reader);
    dsc_checkpoint_state_fini(&read_state);
    scratch_end(&scratch);
}

static void reads_back(void)
{
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = {0}, wrote = state_of(10);
    dsc_checkpoint_reader *reader = NULL;
    const char *path;

    CHECK_OK(save(scratch_path(&scratch, "deep/folder"), 10));
    path = scratch_path(&scratch, "deep/folder/step-00000010");
    if (!CHECK_OK(dsc_checkpoint_open(path, tensors, TENSORS, &state, &reader))) goto out;
    CHECK(holds(reader, 10), "the tensors are others");
    CHECK(state.step == 10 && state.optimizer_step == 9 && state.samples_seen == 70 && state.seed == wrote.seed,
          "step %lld, seed %llx", (long long)state.step, (unsigned long long)state.seed);
    CHECK(state.loss_scale == wrote.loss_scale && state.scaler_iteration == 3 && state.scaler_last_overflow == -1 &&
          state.scaler_hysteresis == 2 && state.sampler_version == 1, "scale %g", state.loss_scale);
    CHECK(state.variance_interval == 2 && state.variance_updates == 7 && state.sync_interval == 8 &&
          state.own_steps == 9, "%lld own steps", (long long)state.own_steps);
    CHECK(state.frozen_updates == 4 && state.frozen_at == 5 && state.variance_norm == 0.125 &&
          dsc_checkpoint_copies(reader).workers == WORKERS && dsc_checkpoint_copies(reader).has_trust,
          "frozen at %lld", (long long)state.frozen_at);
    CHECK(dsc_equal(state.config, wrote.config) && dsc_equal(state.schedule, "") && dsc_equal(state.model, "{}") &&
          dsc_equal(state.data_hash, wrote.data_hash), "config %s, data %s", state.config, state.data_hash);
out:
    dsc_checkpoint_state_fini(&state);
    dsc_checkpoint_close(&reader);
    scratch_end(&scratch);
}

static dsc_status open_with(const char *path, const dsc_tensor *others, int64_t count)
{
    dsc_checkpoint_state state = {0};
    dsc_checkpoint_reader *reader = NULL;
    dsc_status status = dsc_checkpoint_open(path, others, count, &state, &reader);

    dsc_checkpoint_state_fini(&state);
    dsc_checkpoint_close(&reader);
    return status;
}

static void refuses_other_tensors(void)
{
    scratch scratch = scratch_begin();
    dsc_tensor others[TENSORS];
    const char *path;
    dsc_status status;

    memcpy(others, tensors, sizeof others);
    CHECK_OK(save(scratch.folder, 3));
    path = scratch_path(&scratch, "step-00000003");

    others[1].shape[0] = 17;
    status = open_with(path, others, TENSORS);
    CHECK(status == DSC_EINVAL && strstr(dsc_message(), "/model/transformer.wpe.weight is [16, 33]") &&
          strstr(dsc_message(), "[17, 33]"), "%s", dsc_message());
    strcpy(others[1].name, "transformer.wpf.weight");
    status = open_with(path, others, TENSORS);
    CHECK(status == DSC_EINVAL && strstr(dsc_message(), "/model/transformer.wpf.weight is missing"), "%s",
          dsc_message());
    status = open_with(path, tensors, TENSORS - 1);
    CHECK(status == DSC_EINVAL && strstr(dsc_message(), "/model/transformer.ln_f.bias is not a tensor of the model"),
          "%s", dsc_message());
    scratch_end(&scratch);
}

/* ---- Tensors that files hold turned, and in parts: twice as many queries as keys; sides longer than a tile's */

enum { TURNED_ROWS = 24, FUSED_COLUMNS = TURNED_ROWS + 2 * 12, WIDE_ROWS = 3000, WIDE_COLUMNS = 19 };
static const dsc_tensor turned[] = {
    {.name = "model.layers.0.self_attn.qkv_proj.weight", .role = DSC_ROLE_QKV_W, .dims = 2, .is_turned = true,
     .shape = {TURNED_ROWS, FUSED_COLUMNS}},
    {.name = "model.layers.0.mlp.down_proj.weight", .role = DSC_ROLE_OUT_W, .dims = 2, .is_turned = true,
     .shape = {WIDE_ROWS, WIDE_COLUMNS}},
};
enum { TURNED = DSC_COUNT(turned), MOST_TURNED = WIDE_ROWS * WIDE_COLUMNS, TURNED_WORKERS = 2 };

/* Exact in fp32, and so are means of two workers. */
static float turned_value(int64_t tensor, int64_t worker, int64_t row, int64_t column)
{
    return (float)(tensor * 100000 + worker * 200000 + row * 32 + column);
}

/* What a rank may hold: rows [row, end) of columns [column, last). */
static dsc_checkpoint_piece cut_of(int64_t tensor, int which, int64_t worker, const int64_t at[4], float *values)
{
    return (dsc_checkpoint_piece){which, tensor, at[0], at[2], at[1] - at[0], at[3] - at[2],
                                  values + at[0] * turned[tensor].shape[1] + at[2], turned[tensor].shape[1], worker};
}

/* The tensor in four rectangles around a random element, in each of which the values are moved. */
static void move_in_four(int64_t tensor, int which, int64_t worker, float *values, dsc_checkpoint_writer *writer,
                         const dsc_checkpoint_reader *reader)
{
    const int64_t *shape = turned[tensor].shape;
    const int64_t row = tap_random_between(0, shape[0]), column = tap_random_between(0, shape[1]);
    const int64_t cuts[4][4] = {{0, row, 0, column}, {0, row, column, shape[1]},
                                {row, shape[0], 0, column}, {row, shape[0], column, shape[1]}};

    for (int i = 0; i < 4; i++) {
        const dsc_checkpoint_piece piece = cut_of(tensor, which, worker, cuts[i], values);

        if (writer != NULL) CHECK_OK(dsc_checkpoint_write(writer, &piece));
        else if (worker < 0) CHECK_OK(dsc_checkpoint_read_mean(reader, &(dsc_checkpoint_piece[]){
                                          cut_of(tensor, which, 0, cuts[i], values)}[0], TURNED_WORKERS));
        else CHECK_OK(dsc_checkpoint_read(reader, &piece));
    }
}

static bool read_turned(hid_t file, const char *path, float *out, hsize_t shape[3])
{
    hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT), space = dataset < 0 ? -1 : H5Dget_space(dataset);
    bool is_read = space >= 0 && H5Sget_simple_extent_dims(space, shape, NULL) == 2 &&
                   H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0;

    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    return CHECK(is_read, "%s is not there, or no matrix", path);
}

/* As other programs see it: element (i, j) is the tensor's (j, first + i). */
static void check_in_hdf5(const char *path)
{
    static const struct { const char *path; int64_t tensor, first, columns; } held[] = {
        {"/model/model.layers.0.self_attn.q_proj.weight", 0, 0, 24},
        {"/model/model.layers.0.self_attn.k_proj.weight", 0, 24, 12},
        {"/optimizer/exp_avg/model.layers.0.self_attn.v_proj.weight", 0, 36, 12},
        {"/model/model.layers.0.mlp.down_proj.weight", 1, 0, WIDE_COLUMNS},
    };
    static float values[MOST_TURNED];
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);

    if (!CHECK(file >= 0, "cannot open %s", path)) return;
    for (int h = 0; h < DSC_COUNT(held); h++) {
        const int64_t rows = turned[held[h].tensor].shape[0];
        hsize_t shape[3] = {0};
        int64_t wrong = 0;

        if (!read_turned(file, held[h].path, values, shape)) continue;
        CHECK((int64_t)shape[0] == held[h].columns && (int64_t)shape[1] == rows, "%s is [%lld, %lld]", held[h].path,
              (long long)shape[0], (long long)shape[1]);
        for (int64_t i = 0; i < held[h].columns * rows; i++)
            wrong += values[i] != turned_value(held[h].tensor, 0, i % rows, held[h].first + i / rows);
        CHECK(wrong == 0, "%s: %lld values are others", held[h].path, (long long)wrong);
    }
    H5Fclose(file);
}

static void fill_turned(int64_t tensor, int64_t worker, float *values)
{
    for (int64_t i = 0; i < dsc_tensor_elems(&turned[tensor]); i++)
        values[i] = turned_value(tensor, worker, i / turned[tensor].shape[1], i % turned[tensor].shape[1]);
}

static dsc_status save_turned(const char *folder)
{
    static float values[MOST_TURNED];
    const dsc_checkpoint_state state = state_of(1);
    dsc_checkpoint_writer *writer = NULL;
    dsc_status status = DSC_OK;

    CHECK(dsc_checkpoint_datasets(turned, TURNED) == 4, "%lld", (long long)dsc_checkpoint_datasets(turned, TURNED));
    DSC_TRY(dsc_checkpoint_begin(folder, 1, turned, TURNED, (dsc_copies){TURNED_WORKERS, true}, &state, &writer));
    for (int which = 0; which <= DSC_STATE_WORKER_ERROR; which++)
        for (int64_t w = 0; w < (which == DSC_STATE_WORKER_ERROR ? TURNED_WORKERS : 1); w++)
            for (int64_t t = 0; t < TURNED; t++) {
                fill_turned(t, w, values);
                move_in_four(t, which, w, values, writer, NULL);
            }
    DSC_TRY(dsc_checkpoint_write(writer, &(dsc_checkpoint_piece[]){trust_of(0, (float[]){3, 4})}[0]));
    DSC_TRY(finish(&writer));
out:
    dsc_checkpoint_abandon(&writer);
    return status;
}

/* worker -1: the mean, in which the second worker's 200000 is halved. */
static void check_turned(const dsc_checkpoint_reader *reader, int which, int64_t worker)
{
    static float values[MOST_TURNED];

    for (int64_t t = 0; t < TURNED; t++) {
        int64_t wrong = 0;

        memset(values, 0, sizeof values);
        move_in_four(t, which, worker, values, NULL, reader);
        for (int64_t i = 0; i < dsc_tensor_elems(&turned[t]); i++)
            wrong += values[i] != turned_value(t, DSC_MAX(worker, 0), i / turned[t].shape[1], i % turned[t].shape[1]) +
                                      (worker < 0 ? 100000 : 0);
        CHECK(wrong == 0, "copy %d, worker %d, %s: %lld values are others", which, (int)worker, turned[t].name,
              (long long)wrong);
    }
}

static void turns_products(void)
{
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = {0};
    dsc_checkpoint_reader *reader = NULL;
    float trust[DSC_TRUST_VALUES] = {0};
    const dsc_checkpoint_piece piece = trust_of(0, trust);

    if (!CHECK_OK(save_turned(scratch.folder))) goto out;
    check_in_hdf5(scratch_path(&scratch, "step-00000001/checkpoint.h5"));
    if (!CHECK_OK(dsc_checkpoint_open(scratch_path(&scratch, "step-00000001"), turned, TURNED, &state, &reader)))
        goto out;
    check_turned(reader, DSC_STATE_MODEL, 0);
    check_turned(reader, DSC_STATE_WORKER_ERROR, 1);
    check_turned(reader, DSC_STATE_WORKER_ERROR, -1);
    CHECK_OK(dsc_checkpoint_read(reader, &piece));
    CHECK(trust[0] == 3 && trust[1] == 4, "%g and %g", (double)trust[0], (double)trust[1]);
out:
    dsc_checkpoint_state_fini(&state);
    dsc_checkpoint_close(&reader);
    scratch_end(&scratch);
}

/* The name of the data set that holds a byte of the file, by its values: they differ between any two tensors. */
static const char *tensor_at(const char *path, long byte, char name[160])
{
    FILE *file = fopen(path, "rb");
    float found;

    strcpy(name, "the file's structure");
    for (int copy = 0; copy < COPIES; copy++)
        for (int64_t t = 0; t < TENSORS; t++)
            for (int64_t i = 0; i < dsc_tensor_elems(&tensors[t]); i++)
                for (int back = 0; back < 4; back++) {
                    if (fseek(file, byte - back, SEEK_SET) != 0 || fread(&found, sizeof found, 1, file) != 1) continue;
                    if (found == value_of(5, copy, t, i))
                        snprintf(name, 160, "%s/%.95s", DSC_STATE_PATHS[which_of(copy)], tensors[t].name);
                }
    fclose(file);
    return name;
}

/* Of several who share the work, one reports the fault that `all` found, and the others nothing. */
static void check_parts(const char *path, const char *all)
{
    dsc_text reports = {0};
    int64_t parts = tap_random_between(2, 8), faulty = 0;

    for (int64_t part = 0; part < parts; part++)
        faulty += dsc_checkpoint_verify_part(path, part, parts, &reports) != DSC_OK;
    CHECK(faulty > 0 && dsc_equal(dsc_text_str(&reports), all), "%lld of %lld parts: %s, but in one: %s",
          (long long)faulty, (long long)parts, dsc_text_str(&reports), all);
    dsc_text_fini(&reports);
}

static void finds_flipped_bits(void)
{
    enum { FLIPS = 200 };
    scratch scratch = scratch_begin();
    char file[600], name[160];
    const char *path;
    int in_tensors = 0;

    CHECK_OK(save(scratch.folder, 5));
    path = scratch_path(&scratch, "step-00000005");
    for (int flip = 0; flip < FLIPS; flip++) {
        dsc_text report = {0};
        bool is_manifest = flip % 4 == 0;
        long byte;
        int bit = (int)tap_random_between(0, 7);
        dsc_status status;

        snprintf(file, sizeof file, "%s/%s", path, is_manifest ? "manifest.json" : "checkpoint.h5");
        byte = (long)tap_random_between(0, scratch_size(file) - 1);
        if (is_manifest) strcpy(name, "the manifest is damaged");
        else in_tensors += tensor_at(file, byte, name)[0] == '/';
        scratch_flip(file, byte, bit);
        status = dsc_checkpoint_verify(path, &report);
        CHECK(status == DSC_EINFEASIBLE && strstr(dsc_text_str(&report), name) != NULL,
              "byte %ld, bit %d of %s (%s): %s: %s", byte, bit, file, name, dsc_status_name(status),
              dsc_text_str(&report));
        check_parts(path, dsc_text_str(&report));
        scratch_flip(file, byte, bit);
        dsc_text_fini(&report);
    }
    for (int64_t part = 0; part < 3; part++) CHECK_OK(dsc_checkpoint_verify_part(path, part, 3, NULL));
    tap_note("%d flips, %d of them in tensors", FLIPS, in_tensors);
    scratch_end(&scratch);
}

static void finds_truncation(void)
{
    scratch scratch = scratch_begin();
    dsc_text report = {0};
    char file[600];

    CHECK_OK(save(scratch.folder, 5));
    snprintf(file, sizeof file, "%s/step-00000005/checkpoint.h5", scratch.folder);
    if (truncate(file, scratch_size(file) - 1) != 0) perror(file);
    CHECK(dsc_checkpoint_verify(scratch_path(&scratch, "step-00000005"), &report) == DSC_EINFEASIBLE, "%s",
          dsc_text_str(&report));
    CHECK(dsc_checkpoint_verify(scratch_path(&scratch, "step-00000006"), &report) == DSC_EINVAL, "%s", dsc_message());
    CHECK(dsc_checkpoint_verify(scratch.folder, &report) == DSC_EINVAL && strstr(dsc_message(), "/step-0000") != NULL,
          "%s", dsc_message());
    dsc_text_fini(&report);
    scratch_end(&scratch);
}

static void takes_the_newest_that_verifies(void)
{
    scratch scratch = scratch_begin();
    dsc_text skipped = {0};
    char found[512] = "x", file[600];

    CHECK_OK(dsc_checkpoint_find(scratch_path(&scratch, "absent"), NULL, NULL, found, sizeof found, &skipped));
    CHECK(found[0] == '\0' && skipped.count == 0, "found %s", found);
    CHECK_OK(save(scratch.folder, 9));
    CHECK_OK(save(scratch.folder, 10));
    CHECK_OK(save(scratch.folder, 123456789));
    snprintf(file, sizeof file, "%s/step-123456789/checkpoint.h5", scratch.folder);
    scratch_flip(file, scratch_size(file) / 2, 3);
    snprintf(file, sizeof file, "%s/step-00000011", scratch.folder);
    if (rename(scratch_path(&scratch, "step-00000009"), file) != 0) perror(file);
    snprintf(file, sizeof file, "%s/step-00000011/manifest.json", scratch.folder);
    remove(file);
    CHECK_OK(dsc_checkpoint_find(scratch.folder, NULL, NULL, found, sizeof found, &skipped));
    CHECK(dsc_equal(found, scratch_path(&scratch, "step-00000010")), "found %s", found);
    CHECK(strstr(dsc_text_str(&skipped), "skipped step-123456789: /") &&
              strstr(dsc_text_str(&skipped), "skipped step-00000011: "),
          "%s", dsc_text_str(&skipped));
    dsc_text_fini(&skipped);
    scratch_end(&scratch);
}

static bool verifies_as(const char *folder, int64_t step)
{
    dsc_checkpoint_state state = {0};
    dsc_checkpoint_reader *reader = NULL;
    dsc_text report = {0};
    char path[600];
    bool is_good;

    snprintf(path, sizeof path, "%s/step-%08lld", folder, (long long)step);
    is_good = dsc_checkpoint_verify(path, &report) == DSC_OK &&
              dsc_checkpoint_open(path, tensors, TENSORS, &state, &reader) == DSC_OK && holds(reader, step);
    dsc_checkpoint_close(&reader);
    dsc_checkpoint_state_fini(&state);
    dsc_text_fini(&report);
    return is_good;
}

static void replaces_a_step(void)
{
    scratch scratch = scratch_begin();
    char file[600], latest[64] = "";
    FILE *text;

    CHECK_OK(save(scratch.folder, 8));
    snprintf(file, sizeof file, "%s/step-00000008/checkpoint.h5", scratch.folder);
    scratch_flip(file, scratch_size(file) / 2, 0);
    CHECK(!verifies_as(scratch.folder, 8), "the flip was not found");
    CHECK_OK(save(scratch.folder, 8));
    CHECK(verifies_as(scratch.folder, 8), "%s", dsc_message());
    CHECK(access(scratch_path(&scratch, "step-00000008.tmp"), F_OK) != 0, "the old one is still there");
    text = fopen(scratch_path(&scratch, "latest"), "r");
    if (CHECK(text != NULL && fgets(latest, sizeof latest, text) != NULL, "no latest"))
        CHECK(dsc_equal(latest, "step-00000008\n"), "latest is %s", latest);
    if (text != NULL) fclose(text);
    scratch_end(&scratch);
}

/* Saves step after step until it is killed. */
static pid_t start_saving(const char *folder)
{
    pid_t child = fork();

    if (child != 0) return child;
    for (int64_t step = 1;; step++)
        if (save(folder, 1 + step % 3) != DSC_OK) _exit(1);
}

static void killed_saves_leave_the_old(void)
{
    enum { KILLS = 30 };
    scratch scratch = scratch_begin();
    int torn = 0;

    for (int64_t step = 1; step <= 3; step++) CHECK_OK(save(scratch.folder, step));
    for (int i = 0; i < KILLS; i++) {
        pid_t child = start_saving(scratch.folder);

        usleep((useconds_t)tap_random_between(1000, 40000));
        scratch_kill(child);
        for (int64_t step = 1; step <= 3; step++)
            CHECK(verifies_as(scratch.folder, step), "kill %d, step %lld: %s", i, (long long)step, dsc_message());
        for (int64_t step = 1; step <= 3; step++) {
            char left[64];

            snprintf(left, sizeof left, "step-%08lld.tmp", (long long)step);
            torn += access(scratch_path(&scratch, left), F_OK) == 0;
        }
    }
    CHECK_OK(save(scratch.folder, 4));
    for (int64_t step = 1; step <= 3; step++) {
        char left[64];

        snprintf(left, sizeof left, "step-%08lld.tmp", (long long)step);
        CHECK(access(scratch_path(&scratch, left), F_OK) != 0, "%s is still there", left);
    }
    tap_note("%d of %d kills hit a save that was under way", torn, KILLS);
    scratch_end(&scratch);
}

static int save_to_the_brim(const char *folder)
{
    dsc_status status = save(folder, 7);

    return status == DSC_EIO && strstr(dsc_message(), "File too large") ? 0 : 1;
}

static void survives_a_full_disk(void)
{
    scratch scratch = scratch_begin();
    int64_t *steps = NULL, count = 0;

    CHECK_OK(save(scratch.folder, 6));
    for (long bytes = 100; bytes < 76000; bytes += 3000) {
        int how = scratch_run_limited(bytes, save_to_the_brim, scratch.folder);

        CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0, "%ld bytes: wait status %x", bytes, (unsigned)how);
    }
    CHECK_OK(dsc_checkpoint_steps(scratch.folder, &steps, &count));
    CHECK(count == 1 && steps[0] == 6 && verifies_as(scratch.folder, 6), "%lld steps", (long long)count);
    CHECK(access(scratch_path(&scratch, "step-00000007.tmp"), F_OK) != 0, "something was left");
    free(steps);
    scratch_end(&scratch);
}

static void abandons(void)
{
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = state_of(6);
    dsc_checkpoint_writer *writer = NULL;
    char found[512];
    dsc_text skipped = {0};

    CHECK_OK(dsc_checkpoint_begin(scratch.folder, 6, tensors, TENSORS, copies, &state, &writer));
    dsc_checkpoint_abandon(&writer);
    CHECK(writer == NULL && access(scratch_path(&scratch, "step-00000006.tmp"), F_OK) != 0, "something was left");
    CHECK_OK(dsc_checkpoint_find(scratch.folder, NULL, NULL, found, sizeof found, &skipped));
    CHECK(found[0] == '\0', "found %s", found);
    CHECK(dsc_checkpoint_begin("/proc/none", 6, tensors, TENSORS, copies, &state, &writer) == DSC_EINVAL &&
          writer == NULL, "%s", dsc_message());
    scratch_end(&scratch);
}

/* Tensors of more than a block: 5 M values are 20 MB. */
static void hashes_by_block(void)
{
    enum { ELEMS = 5000000 };
    const dsc_tensor large = {.name = "transformer.wte.weight", .dims = 1, .shape = {ELEMS, 1}};
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = state_of(1);
    dsc_checkpoint_writer *writer = NULL;
    dsc_text report = {0};
    float *whole = calloc(ELEMS, sizeof *whole);
    char file[600];

    if (!CHECK_OK(dsc_checkpoint_begin(scratch.folder, 1, &large, 1, no_copies, &state, &writer))) goto out;
    for (int copy = 0; copy < FIRST_WORKER - 1; copy++) {
        dsc_checkpoint_piece piece = whole_of(&large, copy, 0, whole);

        CHECK_OK(dsc_checkpoint_write(writer, &piece));
    }
    CHECK_OK(finish(&writer));
    CHECK_OK(dsc_checkpoint_verify(scratch_path(&scratch, "step-00000001"), &report));
    snprintf(file, sizeof file, "%s/step-00000001/checkpoint.h5", scratch.folder);
    scratch_flip(file, 19000000, 6);
    CHECK(dsc_checkpoint_verify(scratch_path(&scratch, "step-00000001"), &report) == DSC_EINFEASIBLE &&
          strstr(dsc_text_str(&report), "/model/transformer.wte.weight is damaged"), "%s", dsc_text_str(&report));
out:
    dsc_checkpoint_abandon(&writer);
    dsc_text_fini(&report);
    free(whole);
    scratch_end(&scratch);
}

/* ---- Errors */

static void has_none_of_one(void)
{
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = state_of(2);
    dsc_checkpoint_writer *writer = NULL;
    dsc_checkpoint_reader *reader = NULL;
    float whole[MOST_ELEMS] = {0};
    dsc_checkpoint_piece piece = whole_of(&tensors[2], FIRST_WORKER, 2, whole);

    if (!CHECK_OK(dsc_checkpoint_begin(scratch.folder, 2, tensors, TENSORS, no_copies, &state, &writer))) goto out;
    CHECK(dsc_checkpoint_write(writer, &piece) == DSC_EINTERNAL && strstr(dsc_message(), "errors of 1") != NULL, "%s",
          dsc_message());
    CHECK_OK(finish(&writer));
    if (!CHECK_OK(dsc_checkpoint_open(scratch_path(&scratch, "step-00000002"), tensors, TENSORS, &state, &reader)))
        goto out;
    CHECK(dsc_checkpoint_copies(reader).workers == 1 && !dsc_checkpoint_copies(reader).has_trust, "%lld workers",
          (long long)dsc_checkpoint_copies(reader).workers);
    CHECK(dsc_checkpoint_read(reader, &piece) == DSC_EINTERNAL, "%s", dsc_message());
    dsc_checkpoint_state_fini(&state);
out:
    dsc_checkpoint_abandon(&writer);
    dsc_checkpoint_close(&reader);
    scratch_end(&scratch);
}

/* A vector that is read in several goes, and a rectangle. */
static void reads_means(void)
{
    enum { ELEMS = 5000 };
    const dsc_tensor both[] = {{.name = "long", .dims = 1, .shape = {ELEMS, 1}},
                               {.name = "flat", .dims = 2, .shape = {50, 100}}};
    static float values[ELEMS];
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = state_of(1);
    dsc_checkpoint_writer *writer = NULL;
    dsc_checkpoint_reader *reader = NULL;
    dsc_checkpoint_piece piece;

    if (!CHECK_OK(dsc_checkpoint_begin(scratch.folder, 1, both, 2, copies, &state, &writer))) goto out;
    for (int64_t t = 0; t < 2; t++)
        for (int64_t w = 0; w < WORKERS; w++) {
            piece = whole_of(&both[t], FIRST_WORKER, t, values);
            piece.worker = w;
            for (int64_t i = 0; i < ELEMS; i++) values[i] = (float)((i + 7 * t) << (2 * w));
            CHECK_OK(dsc_checkpoint_write(writer, &piece));
        }
    CHECK_OK(finish(&writer));
    if (!CHECK_OK(dsc_checkpoint_open(scratch_path(&scratch, "step-00000001"), both, 2, &state, &reader))) goto out;
    piece = whole_of(&both[0], FIRST_WORKER, 0, values);
    CHECK_OK(dsc_checkpoint_read_mean(reader, &piece, WORKERS));
    for (int64_t i = 0; i < ELEMS; i++)
        if (!CHECK(values[i] == (float)(7 * i), "element %lld: %g", (long long)i, values[i])) break;
    piece = (dsc_checkpoint_piece){DSC_STATE_WORKER_ERROR, 1, 3, 4, 5, 6, values, 10, 1};
    CHECK_OK(dsc_checkpoint_read_mean(reader, &piece, 2));
    CHECK(values[4 * 10 + 5] == (float)(10 * (7 * 100 + 9 + 7)), "the rectangle's last is %g", values[4 * 10 + 5]);
    CHECK(dsc_checkpoint_read_mean(reader, &piece, WORKERS) == DSC_EINTERNAL &&
          strstr(dsc_message(), "3 workers from 1 on") != NULL, "%s", dsc_message());
    dsc_checkpoint_state_fini(&state);
out:
    dsc_checkpoint_abandon(&writer);
    dsc_checkpoint_close(&reader);
    scratch_end(&scratch);
}

/* As files were before there were compressed steps. */
static void reads_older_ones(void)
{
    static const char *const later[] = {"frozen_updates", "frozen_at", "variance_norm", "variance_interval",
                                        "variance_updates", "sync_interval", "own_steps"};
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = {0};
    dsc_checkpoint_reader *reader = NULL;
    hid_t file;

    CHECK_OK(save(scratch.folder, 4));
    file = H5Fopen(scratch_path(&scratch, "step-00000004/checkpoint.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
    for (int i = 0; i < DSC_COUNT(later); i++) H5Adelete_by_name(file, "/state", later[i], H5P_DEFAULT);
    H5Ldelete(file, "/error_feedback", H5P_DEFAULT);
    H5Ldelete(file, "/optimizer/exp_avg_sq_fresh", H5P_DEFAULT);
    H5Ldelete(file, "/optimizer/trust", H5P_DEFAULT);
    H5Fclose(file);
    if (!CHECK_OK(dsc_checkpoint_open(scratch_path(&scratch, "step-00000004"), tensors, TENSORS, &state, &reader)))
        goto out;
    CHECK(state.optimizer_step == 3 && state.frozen_updates == 0 && state.frozen_at == 0 && state.variance_norm == 0,
          "frozen at %lld", (long long)state.frozen_at);
    CHECK(state.variance_interval == 0 && state.variance_updates == 0 && state.sync_interval == 0 &&
          state.own_steps == 0, "%lld own steps", (long long)state.own_steps);
    CHECK(dsc_checkpoint_copies(reader).workers == 1 && !dsc_checkpoint_copies(reader).has_trust, "%lld workers",
          (long long)dsc_checkpoint_copies(reader).workers);
out:
    dsc_checkpoint_state_fini(&state);
    dsc_checkpoint_close(&reader);
    scratch_end(&scratch);
}

static void refuses_part_of_the_errors(void)
{
    static const char *const lost[] = {"/error_feedback/server/transformer.wpe.weight",
                                       "/error_feedback/worker/transformer.ln_f.bias",
                                       "/error_feedback/worker/transformer.wte.weight"};

    for (int i = 0; i < DSC_COUNT(lost); i++) {
        scratch scratch = scratch_begin();
        hid_t file;
        dsc_status status;

        CHECK_OK(save(scratch.folder, 4));
        file = H5Fopen(scratch_path(&scratch, "step-00000004/checkpoint.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
        H5Ldelete(file, lost[i], H5P_DEFAULT);
        if (i == 1) /* another tensor's in its place */
            H5Lcreate_soft("/error_feedback/worker/transformer.wte.weight", file, lost[i], H5P_DEFAULT, H5P_DEFAULT);
        H5Fclose(file);
        status = open_with(scratch_path(&scratch, "step-00000004"), tensors, TENSORS);
        CHECK(status == DSC_EINVAL && strstr(dsc_message(), lost[i]) != NULL, "%s: %s", lost[i], dsc_message());
        scratch_end(&scratch);
    }
}

/* ---- Many writers */

typedef struct cut { dsc_checkpoint_piece pieces[1000]; int64_t count; } cut;

/* Cuts a rectangle in two at random, and those again, down to pieces of chance sizes. */
static void cut_at_random(cut *cut, dsc_checkpoint_piece piece)
{
    bool by_rows = piece.rows > 1 && (piece.columns < 2 || tap_random_between(0, 1) == 0);
    int64_t extent = by_rows ? piece.rows : piece.columns, first;
    dsc_checkpoint_piece left = piece, right = piece;

    if (extent < 2 || tap_random_between(0, 3) == 0 || cut->count > 700) {
        cut->pieces[cut->count++] = piece;
        return;
    }
    first = tap_random_between(1, extent - 1);
    *(by_rows ? &left.rows : &left.columns) = first;
    *(by_rows ? &right.rows : &right.columns) = extent - first;
    *(by_rows ? &right.row : &right.column) += first;
    cut_at_random(cut, left);
    cut_at_random(cut, right);
}

static void cut_all(cut *cut)
{
    cut->count = 0;
    for (int copy = 0; copy < COPIES; copy++)
        for (int64_t t = 0; t < TENSORS; t++) cut_at_random(cut, whole_of(&tensors[t], copy, t, NULL));
    for (int64_t i = cut->count - 1; i > 0; i--) {
        int64_t other = tap_random_between(0, i);
        dsc_checkpoint_piece piece = cut->pieces[i];

        cut->pieces[i] = cut->pieces[other];
        cut->pieces[other] = piece;
    }
}

/* The piece with memory of its own, in rows that are up to 5 values apart: values is where they start. */
static dsc_checkpoint_piece place_piece(dsc_checkpoint_piece piece, float *values)
{
    piece.stride = piece.columns + tap_random_between(0, 5);
    piece.values = values;
    return piece;
}

static float *element_of(const dsc_checkpoint_piece *piece, int64_t row, int64_t column)
{
    return &piece->values[row * piece->stride + column];
}

static int copy_of(const dsc_checkpoint_piece *piece)
{
    for (int copy = 0; copy < COPIES; copy++)
        if (which_of(copy) == piece->which && worker_of(copy) == piece->worker) return copy;
    return -1;
}

static float wanted_of(int64_t step, const dsc_checkpoint_piece *piece, int64_t row, int64_t column)
{
    int64_t width = whole_of(&tensors[piece->tensor], 0, 0, NULL).columns;

    return value_of(step, copy_of(piece), piece->tensor, (piece->row + row) * width + piece->column + column);
}

static dsc_status write_cut(dsc_checkpoint_writer *const *writers, int64_t count, int64_t step, const cut *cut)
{
    static float values[65 * (33 + 5)];
    dsc_status status = DSC_OK;

    for (int64_t i = 0; i < cut->count; i++) {
        dsc_checkpoint_piece piece = place_piece(cut->pieces[i], values);

        for (int64_t k = 0; k < piece.rows * piece.columns; k++)
            *element_of(&piece, k / piece.columns, k % piece.columns) =
                wanted_of(step, &piece, k / piece.columns, k % piece.columns);
        DSC_TRY(dsc_checkpoint_write(writers[tap_random_between(0, count - 1)], &piece));
    }
out:
    return status;
}

/* The hashes of all shares, one behind another, in hashes; returns how many. */
static int64_t hash_all(dsc_checkpoint_writer *const *writers, int64_t count, dsc_hash *hashes)
{
    int64_t total = 0, some = 0;
    const dsc_hash *part;

    for (int64_t w = 0; w < count; w++) {
        CHECK_OK(dsc_checkpoint_hash(writers[w], w, count, &part, &some));
        memcpy(hashes + total, part, sizeof *part * (size_t)some);
        total += some;
    }
    return total;
}

enum { WRITERS = 8 };

static void save_by_many(const char *folder, int64_t step, int64_t count, const cut *cut)
{
    dsc_checkpoint_writer *writers[WRITERS] = {NULL};
    dsc_checkpoint_state state = state_of(step);
    dsc_hash hashes[64];
    int64_t total;

    if (!CHECK_OK(dsc_checkpoint_begin(folder, step, tensors, TENSORS, copies, &state, &writers[0]))) return;
    for (int64_t w = 1; w < count; w++)
        if (!CHECK_OK(dsc_checkpoint_join(folder, step, tensors, TENSORS, copies,
                                          dsc_checkpoint_offsets(writers[0]), &writers[w]))) goto out;
    CHECK_OK(write_cut(writers, count, step, cut));
    for (int64_t w = 0; w < count; w++) CHECK_OK(dsc_checkpoint_flush(writers[w]));
    total = hash_all(writers, count, hashes);
    CHECK_OK(dsc_checkpoint_commit(&writers[0], hashes, total));
out:
    for (int64_t w = 0; w < count; w++) dsc_checkpoint_abandon(&writers[w]);
}

static bool equal_files(const char *a, const char *b)
{
    FILE *x = fopen(a, "rb"), *y = fopen(b, "rb");
    bool equal = x != NULL && y != NULL;

    for (int left = 0; equal && left != EOF;) {
        left = fgetc(x);
        equal = left == fgetc(y);
    }
    if (x != NULL) fclose(x);
    if (y != NULL) fclose(y);
    return equal;
}

static void equals_one_writer(void)
{
    static cut cut;
    static const char *const files[] = {"checkpoint.h5", "manifest.json"};
    scratch one = scratch_begin(), many = scratch_begin();
    char a[600], b[600];

    CHECK_OK(save(one.folder, 5));
    for (int64_t count = 1; count <= WRITERS; count++) {
        cut_all(&cut);
        save_by_many(many.folder, 5, count, &cut);
        for (int64_t i = 0; i < DSC_COUNT(files); i++) {
            snprintf(a, sizeof a, "%s/step-00000005/%s", one.folder, files[i]);
            snprintf(b, sizeof b, "%s/step-00000005/%s", many.folder, files[i]);
            CHECK(equal_files(a, b), "%lld writers of %lld pieces: %s is another", (long long)count,
                  (long long)cut.count, files[i]);
        }
        CHECK(access(scratch_path(&many, "step-00000005.tmp"), F_OK) != 0, "the old one is still there");
    }
    scratch_end(&one);
    scratch_end(&many);
}

static void reads_pieces(void)
{
    static cut cut;
    static float values[65 * (33 + 5)];
    scratch scratch = scratch_begin();
    dsc_checkpoint_state state = {0};
    dsc_checkpoint_reader *reader = NULL;
    dsc_checkpoint_piece piece;

    CHECK_OK(save(scratch.folder, 5));
    if (!CHECK_OK(dsc_checkpoint_open(scratch_path(&scratch, "step-00000005"), tensors, TENSORS, &state, &reader)))
        goto out;
    cut_all(&cut);
    for (int64_t i = 0; i < cut.count; i++) {
        piece = place_piece(cut.pieces[i], values);
        for (int64_t k = 0; k < DSC_COUNT(values); k++) values[k] = -1;
        CHECK_OK(dsc_checkpoint_read(reader, &piece));
        for (int64_t k = 0; k < piece.rows * piece.stride; k++) {
            int64_t row = k / piece.stride, column = k % piece.stride;
            float wanted = column < piece.columns ? wanted_of(5, &piece, row, column) : -1;

            if (!CHECK(values[k] == wanted, "piece %lld, row %lld, column %lld: %g, %g was written", (long long)i,
                       (long long)row, (long long)column, values[k], wanted)) goto out;
        }
    }
    piece = whole_of(&tensors[1], DSC_STATE_MODEL, 1, values);
    piece.row = 1;
    CHECK(dsc_checkpoint_read(reader, &piece) == DSC_EINTERNAL && strstr(dsc_message(), "rows 1 + 16") != NULL &&
          strstr(dsc_message(), "16 x 33") != NULL, "%s", dsc_message());
out:
    dsc_checkpoint_state_fini(&state);
    dsc_checkpoint_close(&reader);
    scratch_end(&scratch);
}

/* What others do after a failure of the first must not make a checkpoint, nor disturb one. */
static void commits_all_or_nothing(void)
{
    scratch scratch = scratch_begin();
    dsc_checkpoint_writer *first = NULL, *second = NULL;
    dsc_checkpoint_state state = state_of(6);
    const dsc_hash *hashes;
    int64_t offsets[DSC_STATE_COUNT * TENSORS], count = 0;

    CHECK_OK(save(scratch.folder, 6));
    if (!CHECK_OK(dsc_checkpoint_begin(scratch.folder, 6, tensors, TENSORS, copies, &state, &first))) goto out;
    memcpy(offsets, dsc_checkpoint_offsets(first), sizeof offsets);
    CHECK_OK(dsc_checkpoint_join(scratch.folder, 6, tensors, TENSORS, copies, offsets, &second));
    CHECK_OK(dsc_checkpoint_hash(first, 0, 2, &hashes, &count));
    CHECK(dsc_checkpoint_commit(&first, hashes, count) == DSC_EINTERNAL && first == NULL &&
          strstr(dsc_message(), "hashes for") != NULL, "%s", dsc_message());
    CHECK_OK(write_all(second, 7));
    dsc_checkpoint_abandon(&second);
    CHECK(verifies_as(scratch.folder, 6), "step 6 is no longer what it was: %s", dsc_message());
    CHECK(access(scratch_path(&scratch, "step-00000006.tmp"), F_OK) != 0, "something was left");
    CHECK(dsc_checkpoint_join(scratch.folder, 6, tensors, TENSORS, copies, offsets, &second) == DSC_EIO &&
          second == NULL, "%s", dsc_message());
out:
    dsc_checkpoint_abandon(&first);
    dsc_checkpoint_abandon(&second);
    scratch_end(&scratch);
}

static const tap_case cases[] = {
    {"a checkpoint reads back as it was written, state included", reads_back},
    {"two values of each tensor too", trust_reads_back},
    {"tensors of other shapes, missing and unknown ones are refused by name", refuses_other_tensors},
    {"LLaMA's products are held as [out, in], q, k and v apart, whatever rectangles they come in", turns_products},
    {"each of 200 flipped bits is found, by one or by several, and its tensor named", finds_flipped_bits},
    {"a file that is too short does not verify, and no file is bad input", finds_truncation},
    {"the newest checkpoint that verifies is found, and the skipped ones are named", takes_the_newest_that_verifies},
    {"a step that is there is replaced, and latest follows", replaces_a_step},
    {"a save killed at any moment leaves every older checkpoint whole, and the next one tidies up",
     killed_saves_leave_the_old},
    {"a full disk is an error, and leaves older checkpoints as they were", survives_a_full_disk},
    {"an abandoned save leaves nothing behind", abandons},
    {"tensors of several blocks are verified block by block", hashes_by_block},
    {"where one worker trains there are no errors", has_none_of_one},
    {"means of workers' errors are read by the piece", reads_means},
    {"a checkpoint from before there were errors is read", reads_older_ones},
    {"errors that are missing, or of another shape, are refused by name", refuses_part_of_the_errors},
    {"random pieces by 1 to 8 writers make the same files as one who writes tensors whole", equals_one_writer},
    {"random pieces read back, and nothing beside them is touched", reads_pieces},
    {"with hashes missing there is no checkpoint, and what others still write harms none", commits_all_or_nothing},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
