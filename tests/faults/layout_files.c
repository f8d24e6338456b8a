/* Writes the HDF5 layouts of badinput.txt where it runs: one that is right, and others with one thing wrong each. */
#include "base/array.h"
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of one value throughout; a chunked one is never written. */
typedef struct spec {
    const char *file, *dataset;
    int rank;
    hsize_t dims[4];
    bool is_real, is_chunked;
    int64_t value, block;
} spec;

static const spec SPECS[] = {
    {"good.h5", "layout", 3, {5, 1, 1}, false, false, 1, 16},
    {"elsewhere.h5", "mask", 3, {5, 1, 1}, false, false, 1, 16},
    {"flat.h5", "layout", 2, {5, 5}, false, false, 1, 16},
    {"real.h5", "layout", 3, {5, 1, 1}, true, false, 1, 16},
    {"oblong.h5", "layout", 3, {5, 2, 1}, false, false, 1, 16},
    {"endless.h5", "layout", 3, {5, INT64_C(1) << 40, INT64_C(1) << 40}, false, true, 0, 16},
    {"unwritten.h5", "layout", 3, {65536, 32768, 32768}, false, true, 0, 16},
    {"two.h5", "layout", 3, {5, 1, 1}, false, false, 2, 16},
    {"negative.h5", "layout", 3, {5, 1, 1}, false, false, 1, -16},
    {"eight.h5", "layout", 3, {5, 2, 2}, false, false, 1, 8},
    {"heads.h5", "layout", 3, {4, 1, 1}, false, false, 1, 16},
    {"long.h5", "layout", 3, {5, 3, 3}, false, false, 1, 16},
};

static void must(bool holds, const char *file)
{
    if (holds) return;
    fprintf(stderr, "%s cannot be written\n", file);
    exit(1);
}

static void put_block(hid_t dataset, int64_t block)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(dataset, "block", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);

    H5Awrite(attribute, H5T_NATIVE_INT64, &block);
    H5Aclose(attribute);
    H5Sclose(space);
}

static void write_one(const spec *s)
{
    static const hsize_t chunk[] = {1, 1, 1};
    hid_t file = H5Fcreate(s->file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(s->rank, s->dims, NULL), how = H5Pcreate(H5P_DATASET_CREATE), dataset;
    int64_t values[64];

    for (int i = 0; i < DSC_COUNT(values); i++) values[i] = s->value;
    if (s->is_chunked) H5Pset_chunk(how, 3, chunk);
    dataset = H5Dcreate2(file, s->dataset, s->is_real ? H5T_IEEE_F64LE : H5T_STD_I8LE, space, H5P_DEFAULT, how,
                         H5P_DEFAULT);
    must(file >= 0 && dataset >= 0, s->file);
    if (!s->is_chunked)
        must(H5Dwrite(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, s->file);
    put_block(dataset, s->block);
    H5Dclose(dataset);
    H5Pclose(how);
    H5Sclose(space);
    must(H5Fclose(file) >= 0, s->file);
}

int main(void)
{
    for (int64_t i = 0; i < DSC_COUNT(SPECS); i++) write_one(&SPECS[i]);
    return 0;
}
