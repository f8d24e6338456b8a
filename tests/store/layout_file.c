/* Layouts in HDF5 as others write them, and what others could write instead. */
#include "base/text.h"
#include "store/layout_file.h"
#include "tests/store/scratch.h"
#include "tests/tap.h"
#include <hdf5.h>
#include <string.h>
#include <time.h>

enum { HEADS = 3, BLOCKS = 70, CELLS = HEADS * BLOCKS * BLOCKS, MUTANTS = 500 };

/* ---- Files */

static hid_t create(const char *path)
{
    hid_t file;

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* by the library, once a file of its own is open */
    file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    CHECK(file >= 0, "%s cannot be written", path);
    return file;
}

/* A dataset of that type; values, int64_t each or none, are converted. creation: H5P_DEFAULT or how it is stored. */
static hid_t put(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t creation,
                 const int64_t *values)
{
    hid_t space = H5Screate_simple(rank, dims, NULL), link = H5Pcreate(H5P_LINK_CREATE), dataset;

    H5Pset_create_intermediate_group(link, 1);
    dataset = H5Dcreate2(file, name, type, space, link, creation, H5P_DEFAULT);
    CHECK(dataset >= 0, "dataset %s cannot be made", name);
    if (values != NULL)
        CHECK(H5Dwrite(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, "no values");
    H5Pclose(link);
    H5Sclose(space);
    return dataset;
}

static void put_block(hid_t dataset, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR), attribute;

    attribute = H5Acreate2(dataset, "block", type, space, H5P_DEFAULT, H5P_DEFAULT);
    CHECK(H5Awrite(attribute, type, value) >= 0, "no attribute");
    H5Aclose(attribute);
    H5Sclose(space);
}

/* Chunked, and compressed as h5py does with compression="gzip". */
static hid_t chunked(hsize_t heads, hsize_t rows, hsize_t columns)
{
    const hsize_t chunk[] = {heads, rows, columns};
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_chunk(creation, 3, chunk);
    H5Pset_deflate(creation, 4);
    return creation;
}

static int64_t *random_cells(void)
{
    int64_t *cells = malloc(CELLS * sizeof *cells);

    for (int i = 0; i < CELLS; i++) cells[i] = tap_random_between(0, 1);
    return cells;
}

static void holds(const char *path, const int64_t *cells, int64_t block)
{
    dsc_layout *l = NULL;
    int64_t wrong = 0;

    if (!CHECK_OK(dsc_layout_load(path, &l))) return;
    if (CHECK(l->heads == HEADS && l->blocks == BLOCKS && l->block == block, "%lld heads, %lld blocks of %lld",
              (long long)l->heads, (long long)l->blocks, (long long)l->block))
        for (int i = 0; i < CELLS; i++)
            wrong += dsc_layout_has(l, i / BLOCKS / BLOCKS, i / BLOCKS % BLOCKS, i % BLOCKS) != (cells[i] != 0);
    CHECK(wrong == 0, "%s: %lld of %d blocks are wrong", path, (long long)wrong, CELLS);
    dsc_layout_destroy(l);
}

/* ---- What is read */

static const hsize_t DIMS[] = {HEADS, BLOCKS, BLOCKS};

static void integers_read_back(void)
{
    const hid_t types[] = {H5T_STD_I8LE,  H5T_STD_U8LE,  H5T_STD_I16BE, H5T_STD_U16LE, H5T_STD_I32LE,
                           H5T_STD_U32BE, H5T_STD_I64LE, H5T_STD_I64BE, H5T_STD_U64LE};
    int64_t *cells = random_cells();
    scratch s = scratch_begin();

    for (int64_t i = 0; i < DSC_COUNT(types); i++)
        for (int compressed = 0; compressed < 2; compressed++) {
            const char *path = scratch_path(&s, "l.h5");
            hid_t file = create(path), creation = compressed ? chunked(1, 16, 33) : H5P_DEFAULT;

            H5Dclose(put(file, "layout", types[i], 3, DIMS, creation, cells));
            if (compressed) H5Pclose(creation);
            H5Fclose(file);
            holds(path, cells, 16);
        }
    free(cells);
    scratch_end(&s);
}

/* As h5py stores booleans. The other widths are nobody's, but enums of them are integers too. */
static void boolean_enums_read_back(void)
{
    const hid_t bases[] = {H5T_STD_I8LE, H5T_STD_I16BE, H5T_STD_I32LE, H5T_STD_I64BE};
    int64_t *cells = random_cells();
    int8_t *bytes = malloc(CELLS);
    scratch s = scratch_begin();

    for (int i = 0; i < CELLS; i++) bytes[i] = (int8_t)cells[i];
    for (int64_t i = 0; i < DSC_COUNT(bases); i++) {
        const char *path = scratch_path(&s, "l.h5");
        hid_t file = create(path), type = H5Tenum_create(bases[i]), memory = H5Tenum_create(H5T_NATIVE_INT8), dataset;

        for (int8_t value = 0; value < 2; value++) {
            int64_t wide = value;

            H5Tconvert(H5T_NATIVE_INT64, bases[i], 1, &wide, NULL, H5P_DEFAULT);
            H5Tenum_insert(type, value ? "TRUE" : "FALSE", &wide);
            H5Tenum_insert(memory, value ? "TRUE" : "FALSE", &value);
        }
        dataset = put(file, "layout", type, 3, DIMS, H5P_DEFAULT, NULL);
        CHECK(H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes) >= 0, "no values");
        H5Tclose(memory);
        H5Tclose(type);
        H5Dclose(dataset);
        H5Fclose(file);
        holds(path, cells, 16);
    }
    free(bytes);
    free(cells);
    scratch_end(&s);
}

/* A folder may have a colon in its name, a dataset a name that ends as a file's. */
static void paths_name_datasets(void)
{
    static const char *const datasets[] = {"layout", "/layout", "a/b/c", "/a.h5"};
    static const char *const names[] = {"l.h5", "l.hdf5"};
    int64_t *cells = random_cells(), *none = calloc(CELLS, sizeof *none);
    scratch s = scratch_begin();
    char path[600], folder[300];

    snprintf(folder, sizeof folder, "%s/a:b", s.folder);
    mkdir(folder, 0777);
    for (int i = 0; i < 2 * DSC_COUNT(datasets); i++) {
        hid_t file;

        snprintf(path, sizeof path, "%s/%s", folder, names[i % 2]);
        file = create(path);
        H5Dclose(put(file, datasets[i / 2], H5T_STD_I8LE, 3, DIMS, H5P_DEFAULT, cells));
        H5Dclose(put(file, "another", H5T_STD_I8LE, 3, DIMS, H5P_DEFAULT, none));
        H5Fclose(file);
        if (i < 2) holds(path, cells, 16);
        strcat(strcat(path, ":"), datasets[i / 2]);
        holds(path, cells, 16);
        *strrchr(path, ':') = '\0';
        holds(strcat(path, ":another"), none, 16);
    }
    free(none);
    free(cells);
    scratch_end(&s);
}

static void blocks_have_a_side(void)
{
    static const int64_t sides[] = {1, 16, 32, 64, 128, 65536};
    int64_t *cells = random_cells();
    scratch s = scratch_begin();

    for (int64_t i = 0; i < DSC_COUNT(sides); i++) {
        const char *path = scratch_path(&s, "l.h5");
        hid_t file = create(path), dataset = put(file, "layout", H5T_STD_U8LE, 3, DIMS, H5P_DEFAULT, cells);

        put_block(dataset, H5T_NATIVE_INT64, &sides[i]);
        H5Dclose(dataset);
        H5Fclose(file);
        holds(path, cells, sides[i]);
    }
    free(cells);
    scratch_end(&s);
}

/* ---- What is refused */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* In one line, soon, by the file and what is wrong with it. */
static void refused(const char *path, const char *file, const char *words)
{
    double start = now();
    dsc_layout *l = NULL;

    CHECK(dsc_layout_load(path, &l) == DSC_EINVAL && l == NULL, "%s is taken, or its status is another", path);
    CHECK(strstr(dsc_message(), words) != NULL && strstr(dsc_message(), file) != NULL, "no \"%s\" in \"%s\"", words,
          dsc_message());
    CHECK(strchr(dsc_message(), '\n') == NULL, "several lines: %s", dsc_message());
    CHECK(now() - start < 5, "%s took %.1f s", path, now() - start);
}

static void bad_extents_are_refused(void)
{
    static const struct { int rank; hsize_t dims[4]; const char *words; } rows[] = {
        {2, {4, 4}, "dataset layout has 2 dimensions, a layout has 3"},
        {4, {1, 2, 4, 4}, "dataset layout has 4 dimensions, a layout has 3"},
        {3, {2, 4, 3}, "2 x 4 x 3"},
        {3, {0, 4, 4}, "0 x 4 x 4"},
        {3, {2, 0, 0}, "2 x 0 x 0"},
        {3, {65537, 1, 1}, "65537 x 1 x 1"},
        {3, {1, 32769, 32769}, "1 x 32769 x 32769"},
        {3, {1, UINT64_C(1) << 40, UINT64_C(1) << 40}, "1099511627776 x 1099511627776"},
        {3, {UINT64_C(1) << 40, 4, 4}, "1099511627776 x 4 x 4"},
        {3, {65536, 32768, 32768}, "65536 x 32768 x 32768, but only 0 bytes"},
    };
    scratch s = scratch_begin();

    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        const char *path = scratch_path(&s, "l.h5");
        hid_t file = create(path), creation = H5P_DEFAULT;

        if (rows[i].rank == 3) creation = chunked(1, 1, 1);
        H5Dclose(put(file, "layout", H5T_STD_I8LE, rows[i].rank, rows[i].dims, creation, NULL));
        if (creation != H5P_DEFAULT) H5Pclose(creation);
        H5Fclose(file);
        refused(path, path, rows[i].words);
    }
    scratch_end(&s);
}

/* One chunk of many, with 4 GiB of addresses. */
static void extents_beyond_what_is_stored_are_refused(void)
{
    const hsize_t dims[] = {64, 32768, 32768}, start[] = {63, 0, 0}, count[] = {1, 64, 64};
    scratch s = scratch_begin();
    const char *path = scratch_path(&s, "l.h5");
    hid_t file = create(path), creation = chunked(1, 64, 64);
    hid_t dataset = put(file, "layout", H5T_STD_I64LE, 3, dims, creation, NULL), space = H5Dget_space(dataset);
    hid_t memory = H5Screate_simple(3, count, NULL);
    int64_t *cells = calloc(64 * 64, sizeof *cells);
    struct rlimit before;

    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    CHECK(H5Dwrite(dataset, H5T_NATIVE_INT64, memory, space, H5P_DEFAULT, cells) >= 0, "no chunk");
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Pclose(creation);
    H5Fclose(file);
    free(cells);
    getrlimit(RLIMIT_AS, &before);
#ifndef __SANITIZE_ADDRESS__ /* whose shadow has terabytes of addresses */
    setrlimit(RLIMIT_AS, &(struct rlimit){(rlim_t)1 << 32, before.rlim_max});
#endif
    refused(path, path, "64 x 32768 x 32768, but only");
    setrlimit(RLIMIT_AS, &before);
    scratch_end(&s);
}

static void bad_types_are_refused(void)
{
    hid_t text = H5Tcopy(H5T_C_S1), pair = H5Tcreate(H5T_COMPOUND, 2), list = H5Tvlen_create(H5T_STD_I8LE);
    const hid_t types[] = {H5T_IEEE_F32LE, H5T_IEEE_F64LE, text, pair, list, H5T_STD_B8LE, H5T_STD_REF_OBJ};
    scratch s = scratch_begin();

    H5Tinsert(pair, "a", 0, H5T_STD_I8LE);
    H5Tinsert(pair, "b", 1, H5T_STD_I8LE);
    for (int64_t i = 0; i < DSC_COUNT(types); i++) {
        const char *path = scratch_path(&s, "l.h5");
        hid_t file = create(path);

        H5Dclose(put(file, "layout", types[i], 3, DIMS, H5P_DEFAULT, NULL));
        H5Fclose(file);
        refused(path, path, "dataset layout is of no integer type");
    }
    H5Tclose(text);
    H5Tclose(pair);
    H5Tclose(list);
    scratch_end(&s);
}

/* Also those that are 0 or 1 in their last bytes. */
static void bad_values_are_refused(void)
{
    static const struct { int64_t value; bool is_wide; } rows[] = {
        {2, false}, {-1, false}, {127, false}, {256, true}, {257, true}, {-255, true}, {INT64_C(1) << 32, true},
        {(INT64_C(1) << 32) + 1, true}, {INT64_MIN, true}, {INT64_MAX, true}};
    int64_t *cells = random_cells();
    scratch s = scratch_begin();

    cells[(1 * BLOCKS + 68) * BLOCKS + 3] = 0;
    for (int64_t i = 0; i < DSC_COUNT(rows); i++) {
        const char *path = scratch_path(&s, "l.h5");
        hid_t file = create(path);

        cells[(1 * BLOCKS + 68) * BLOCKS + 3] = rows[i].value;
        H5Dclose(put(file, "layout", rows[i].is_wide ? H5T_STD_I64LE : H5T_STD_I8LE, 3, DIMS, H5P_DEFAULT, cells));
        H5Fclose(file);
        refused(path, path, "head 1, row 68, column 3 is neither 0 nor 1");
    }
    free(cells);
    scratch_end(&s);
}

static void bad_sides_are_refused(void)
{
    static const struct { int64_t value; const char *words; } rows[] = {
        {0, "attribute block is 0, must be within 1 and 65536"},
        {-16, "attribute block is -16"},
        {65537, "attribute block is 65537"},
        {INT64_MAX, "attribute block is 9223372036854775807"},
    };
    const double real = 16;
    int64_t *cells = random_cells();
    scratch s = scratch_begin();

    for (int64_t i = 0; i < DSC_COUNT(rows) + 2; i++) {
        const char *path = scratch_path(&s, "l.h5");
        hid_t file = create(path), dataset = put(file, "layout", H5T_STD_I8LE, 3, DIMS, H5P_DEFAULT, cells);

        if (i < DSC_COUNT(rows)) put_block(dataset, H5T_NATIVE_INT64, &rows[i].value);
        else if (i == DSC_COUNT(rows)) put_block(dataset, H5T_C_S1, "1");
        else put_block(dataset, H5T_NATIVE_DOUBLE, &real);
        H5Dclose(dataset);
        H5Fclose(file);
        refused(path, path, i < DSC_COUNT(rows) ? rows[i].words : "attribute block is no number of the kind");
    }
    free(cells);
    scratch_end(&s);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    fputs(text, file);
    fclose(file);
}

static void no_files_are_refused(void)
{
    int64_t *cells = random_cells();
    scratch s = scratch_begin();
    const char *path = scratch_path(&s, "l.h5");
    char other[600], longest[5000];
    hid_t file;

    refused(path, path, "No such file");
    write_text(path, "{\"layout\": [[[1]]]}");
    refused(path, path, "not an HDF5 file");
    write_text(path, "");
    refused(path, path, "not an HDF5 file");
    refused(s.folder, s.folder, "not a regular file");
    file = create(path);
    H5Gclose(H5Gcreate2(file, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Dclose(put(file, "mask", H5T_STD_I8LE, 3, DIMS, H5P_DEFAULT, cells));
    H5Fclose(file);
    refused(path, path, "cannot read dataset layout");
    snprintf(other, sizeof other, "%s:group", path);
    refused(other, path, "cannot read dataset group");
    snprintf(other, sizeof other, "%s:group/layout", path);
    refused(other, path, "cannot read dataset group/layout");
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    refused(longest, "aaa...", "4999 characters, at most 4095");
    for (long size = scratch_size(path) - 1; size > 0; size /= 2) {
        CHECK(truncate(path, size) == 0, "%s cannot be cut", path);
        refused(path, path, size > 1000 ? "damaged" : "");
    }
    free(cells);
    scratch_end(&s);
}

/* Some bits flipped, or the end cut off, of files of both formats. */
static void mutate(const char *path)
{
    long size = scratch_size(path);

    if (tap_random_between(0, 7) == 0) CHECK(truncate(path, tap_random_between(0, size)) == 0, "%s", path);
    else
        for (int64_t i = tap_random_between(0, 2); i >= 0; i--)
            scratch_flip(path, tap_random_between(0, size - 1), (int)tap_random_between(0, 7));
}

static void write_valid(const char *path, bool is_latest, const int64_t *cells)
{
    const hsize_t dims[] = {2, 6, 6};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = chunked(1, 6, 6), file, dataset;

    if (is_latest) H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    dataset = put(file, "layout", H5T_STD_I8LE, 3, dims, is_latest ? creation : H5P_DEFAULT, cells);
    put_block(dataset, H5T_NATIVE_INT64, &(int64_t){32});
    H5Dclose(dataset);
    H5Fclose(file);
    H5Pclose(creation);
    H5Pclose(access);
}

static void mutants_are_refused_or_read(void)
{
#ifdef __SANITIZE_ADDRESS__
    tap_skip("no-asan", "libhdf5 reads past its own buffers in damaged attributes");
    return;
#endif
    int64_t cells[2 * 6 * 6], opened = 0;
    scratch s = scratch_begin();
    const char *path = scratch_path(&s, "m.h5");

    for (int i = 0; i < DSC_COUNT(cells); i++) cells[i] = tap_random_between(0, 1);
    for (int round = 0; round < MUTANTS; round++) {
        dsc_layout *l = NULL;
        dsc_status status;

        write_valid(path, round % 2, cells);
        mutate(path);
        status = dsc_layout_load(path, &l);
        if (status == DSC_OK) {
            opened++;
            CHECK(l->blocks >= 1 && l->heads >= 1 && l->block >= 1 && dsc_layout_count(l, 0) <= l->blocks * l->blocks,
                  "%lld blocks", (long long)l->blocks);
        } else if (!CHECK(status == DSC_ENOMEM || (status == DSC_EINVAL && strstr(dsc_message(), path) != NULL),
                          "status %d: %s", status, dsc_message())) {
            break;
        }
        dsc_layout_destroy(l);
    }
    CHECK(opened > 0 && opened < MUTANTS, "%lld of %d opened", (long long)opened, MUTANTS);
    scratch_end(&s);
}

#ifdef __SANITIZE_ADDRESS__
/* libhdf5 itself forgets some memory of metadata that are damaged. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5\n"; }
#endif

static const tap_case cases[] = {
    {"layouts of any integer type read back, packed or not", integers_read_back},
    {"booleans as h5py writes them read back", boolean_enums_read_back},
    {"what stands behind .h5: names the dataset", paths_name_datasets},
    {"attribute block is a block's side", blocks_have_a_side},
    {"extents that no layout has are refused with their numbers", bad_extents_are_refused},
    {"an extent beyond what is stored is refused without memory or time", extents_beyond_what_is_stored_are_refused},
    {"types that are no integers are refused", bad_types_are_refused},
    {"values but 0 and 1 are refused by head, row and column", bad_values_are_refused},
    {"blocks without a positive side are refused", bad_sides_are_refused},
    {"what is no file, no HDF5, no dataset or cut off is refused", no_files_are_refused},
    {"500 mutants of layout files are refused or read", mutants_are_refused_or_read},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
