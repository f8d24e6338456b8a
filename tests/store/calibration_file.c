#include "base/text.h"
#include "store/calibration_file.h"
#include "tests/store/scratch.h"
#include "tests/tap.h"
#include <hdf5.h>
#include <string.h>

static void fill(dsc_calibration *calibration)
{
    dsc_kernel_sample gemm = {{DSC_K_GEMM, DSC_BF16, DSC_FP32, DSC_TRANS_B | DSC_HAS_BIAS, {128, 64, 32}}, 2, 12345};
    dsc_kernel_sample attention = {{DSC_K_ATTENTION_FWD, DSC_FP32, DSC_FP32, DSC_CAUSAL, {4, 256, 12, 12, 64}}, 1, 999};
    dsc_copy_sample copy = {"device", "host", 1 << 20, 777};
    dsc_collective_sample collective = {"all_reduce", 8, 2, 4, INT64_C(1) << 40, 31};

    dsc_calibration_init(calibration);
    calibration->machine = strdup("{\"dsc_cluster\": 1}");
    strcpy(calibration->dsc_version, "0.1.0");
    calibration->libraries_bytes = 123;
    calibration->op_overhead_ns = 456;
    DSC_PUSH(calibration->kernels, calibration->kernel_count, calibration->kernel_capacity, gemm);
    DSC_PUSH(calibration->kernels, calibration->kernel_count, calibration->kernel_capacity, attention);
    DSC_PUSH(calibration->copies, calibration->copy_count, calibration->copy_capacity, copy);
    DSC_PUSH(calibration->collectives, calibration->collective_count, calibration->collective_capacity, collective);
}

static void reads_back(void)
{
    scratch scratch = scratch_begin();
    const char *path = scratch_path(&scratch, "m.h5");
    dsc_calibration wrote, read;

    fill(&wrote);
    CHECK_OK(dsc_calibration_save(path, &wrote));
    if (!CHECK_OK(dsc_calibration_load(path, &read))) goto out;
    CHECK(dsc_equal(read.machine, wrote.machine) && dsc_equal(read.dsc_version, "0.1.0") && strlen(read.created) == 25,
          "created %s", read.created);
    CHECK(read.libraries_bytes == 123 && read.op_overhead_ns == 456, "%lld", (long long)read.libraries_bytes);
    if (CHECK(read.kernel_count == 2, "%lld kernels", (long long)read.kernel_count))
        for (int i = 0; i < 2; i++)
            CHECK(memcmp(&read.kernels[i].shape, &wrote.kernels[i].shape, sizeof(dsc_shape)) == 0 &&
                      read.kernels[i].ranks == wrote.kernels[i].ranks &&
                      read.kernels[i].time_ns == wrote.kernels[i].time_ns,
                  "kernel %d", i);
    CHECK(read.copy_count == 1 && memcmp(read.copies, wrote.copies, sizeof *read.copies) == 0, "copies");
    CHECK(read.collective_count == 1 && memcmp(read.collectives, wrote.collectives, sizeof *read.collectives) == 0,
          "collectives");
    dsc_calibration_fini(&read);
out:
    dsc_calibration_fini(&wrote);
    scratch_end(&scratch);
}

static void reads_an_empty_one(void)
{
    scratch scratch = scratch_begin();
    const char *path = scratch_path(&scratch, "m.h5");
    dsc_calibration empty, read;

    dsc_calibration_init(&empty);
    CHECK_OK(dsc_calibration_save(path, &empty));
    if (CHECK_OK(dsc_calibration_load(path, &read))) {
        CHECK(read.kernel_count == 0 && read.copy_count == 0 && read.collective_count == 0, "rows out of nothing");
        dsc_calibration_fini(&read);
    }
    scratch_end(&scratch);
}

static void refuses(const char *path, const char *why)
{
    dsc_calibration read;

    CHECK(dsc_calibration_load(path, &read) == DSC_EINVAL && strstr(dsc_message(), path) && strstr(dsc_message(), why),
          "%s", dsc_message());
}

/* Renames the kernel of the first row. */
static void put_unknown_kernel(const char *path)
{
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), dataset = H5Dopen2(file, "/kernels/kernel", H5P_DEFAULT);
    hid_t type = H5Dget_type(dataset);
    char names[2][24] = {"transmogrify", "gemm"};

    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, names);
    H5Tclose(type);
    H5Dclose(dataset);
    H5Fclose(file);
}

static void refuses_others(void)
{
    scratch scratch = scratch_begin();
    const char *path = scratch_path(&scratch, "m.h5");
    FILE *text = fopen(path, "w");
    dsc_calibration calibration;

    fputs("{}", text);
    fclose(text);
    refuses(path, "not an HDF5 file");
    refuses("/nowhere/m.h5", "No such file");
    fill(&calibration);
    CHECK_OK(dsc_calibration_save(path, &calibration));
    put_unknown_kernel(path);
    refuses(path, "/kernels, row 0: unknown kernel \"transmogrify\"");
    calibration.collectives[0].ranks = 0;
    CHECK_OK(dsc_calibration_save(path, &calibration));
    refuses(path, "/collectives, row 0");
    dsc_calibration_fini(&calibration);
    scratch_end(&scratch);
}

static const tap_case cases[] = {
    {"a calibration reads back as it was written", reads_back},
    {"a calibration without rows reads back", reads_an_empty_one},
    {"what is no calibration is refused by file and reason", refuses_others},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
