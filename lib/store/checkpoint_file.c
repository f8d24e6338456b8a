#include "store/checkpoint_file.h"
#include "store/h5.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERRORS "/error_feedback"

const char *const DSC_STATE_PATHS[DSC_STATE_COUNT] = {"/model", "/optimizer/exp_avg", "/optimizer/exp_avg_sq",
                                                      ERRORS "/worker", ERRORS "/server",
                                                      "/optimizer/exp_avg_sq_fresh", "/optimizer/trust"};

dsc_step_name dsc_step_name_of(int64_t step)
{
    dsc_step_name name;

    snprintf(name.str, sizeof name.str, "step-%08" PRId64, step);
    return name;
}

dsc_tensor_path dsc_tensor_path_of(int which, const char *name)
{
    dsc_tensor_path path;

    snprintf(path.str, sizeof path.str, "%s/%s", DSC_STATE_PATHS[which], name);
    return path;
}

/* ---- /state */

typedef enum field_type { FIELD_INT, FIELD_UNSIGNED, FIELD_REAL, FIELD_STRING, FIELD_TEXT } field_type;

/* Attributes of /state. A STRING is an array of `bytes`, a TEXT is on the heap; what older checkpoints lack is 0. */
typedef struct state_field { const char *name; field_type type; size_t offset, bytes; bool is_optional; } state_field;

#define ROW(type, member, is_optional) \
    {#member, type, offsetof(dsc_checkpoint_state, member), sizeof ((dsc_checkpoint_state *)0)->member, is_optional}
#define FIELD(type, member) ROW(type, member, false)
#define OPTIONAL(type, member) ROW(type, member, true)

static const state_field state_fields[] = {
    FIELD(FIELD_INT, step),
    FIELD(FIELD_INT, optimizer_step),
    FIELD(FIELD_INT, samples_seen),
    FIELD(FIELD_UNSIGNED, seed),
    FIELD(FIELD_STRING, data_hash),
    FIELD(FIELD_INT, sampler_version),
    FIELD(FIELD_REAL, loss_scale),
    FIELD(FIELD_INT, scaler_iteration),
    FIELD(FIELD_INT, scaler_last_overflow),
    FIELD(FIELD_INT, scaler_hysteresis),
    OPTIONAL(FIELD_INT, frozen_updates),
    OPTIONAL(FIELD_INT, frozen_at),
    OPTIONAL(FIELD_REAL, variance_norm),
    OPTIONAL(FIELD_INT, variance_interval),
    OPTIONAL(FIELD_INT, variance_updates),
    OPTIONAL(FIELD_INT, sync_interval),
    OPTIONAL(FIELD_INT, own_steps),
    FIELD(FIELD_TEXT, config),
    FIELD(FIELD_TEXT, schedule),
    FIELD(FIELD_TEXT, model),
};

void dsc_checkpoint_state_fini(dsc_checkpoint_state *state)
{
    free(state->config);
    free(state->schedule);
    free(state->model);
    *state = (dsc_checkpoint_state){0};
}

static dsc_status put_field(hid_t group, const state_field *field, const void *value)
{
    switch (field->type) {
    case FIELD_INT: return dsc_h5_put_int(group, field->name, *(const int64_t *)value);
    case FIELD_UNSIGNED: return dsc_h5_put_unsigned(group, field->name, *(const uint64_t *)value);
    case FIELD_REAL: return dsc_h5_put_real(group, field->name, *(const double *)value);
    case FIELD_STRING: return dsc_h5_put_text(group, field->name, value);
    case FIELD_TEXT: return dsc_h5_put_text(group, field->name, *(char *const *)value);
    }
    return DSC_EINTERNAL;
}

static dsc_status get_field(hid_t group, const state_field *field, void *value)
{
    switch (field->type) {
    case FIELD_INT: return dsc_h5_get_int(group, field->name, value);
    case FIELD_UNSIGNED: return dsc_h5_get_unsigned(group, field->name, value);
    case FIELD_REAL: return dsc_h5_get_real(group, field->name, value);
    case FIELD_STRING: return dsc_h5_get_string(group, field->name, value, field->bytes);
    case FIELD_TEXT: return dsc_h5_get_text(group, field->name, value);
    }
    return DSC_EINTERNAL;
}

static dsc_status put_state(hid_t file, const dsc_checkpoint_state *state)
{
    hid_t group;
    dsc_status status = dsc_h5_make_group(file, "/state", &group);

    for (int64_t i = 0; status == DSC_OK && i < DSC_COUNT(state_fields); i++)
        status = put_field(group, &state_fields[i], (const char *)state + state_fields[i].offset);
    return status;
}

static dsc_status get_state(hid_t file, dsc_checkpoint_state *state)
{
    hid_t group = H5Gopen2(file, "/state", H5P_DEFAULT);
    dsc_status status = DSC_OK;

    if (group < 0) return dsc_h5_fail(DSC_EINVAL, file, "cannot read /state");
    for (int64_t i = 0; status == DSC_OK && i < DSC_COUNT(state_fields); i++) {
        if (state_fields[i].is_optional && H5Aexists(group, state_fields[i].name) == 0) continue;
        status = get_field(group, &state_fields[i], (char *)state + state_fields[i].offset);
    }
    return status;
}

/* ---- Tensors */

/* Contiguous, unfiltered, allocated now and never filled: the values are written past HDF5. */
static hid_t make_tensor_properties(void)
{
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_layout(properties, H5D_CONTIGUOUS);
    H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(properties, false);
    return properties;
}

static dsc_status find_offset(hid_t dataset, const char *path, int64_t *out)
{
    haddr_t offset = H5Dget_offset(dataset);

    if (offset == HADDR_UNDEF) return dsc_h5_refuse(dataset, "%s is not contiguous", path);
    *out = (int64_t)offset;
    return DSC_OK;
}

typedef struct data_shape { int dims; hsize_t of[3]; } data_shape;

static data_shape shape_of(int which, const dsc_layout *layout, int64_t dataset)
{
    const dsc_stored *stored = &layout->datasets[dataset].stored;
    const hsize_t rows = (hsize_t)stored->shape[0], columns = (hsize_t)stored->shape[1];
    const hsize_t workers = (hsize_t)layout->copies.workers;

    if (which == DSC_STATE_WORKER_ERROR) return (data_shape){stored->dims + 1, {workers, rows, columns}};
    if (which == DSC_STATE_TRUST) return (data_shape){1, {DSC_TRUST_VALUES}};
    return (data_shape){stored->dims, {rows, columns}};
}

static dsc_tensor_path path_of(int which, const dsc_layout *layout, int64_t dataset)
{
    return dsc_tensor_path_of(which, layout->datasets[dataset].stored.name);
}

static dsc_status make_tensor(hid_t file, hid_t properties, const char *path, data_shape shape, int64_t *offset)
{
    hid_t space = H5Screate_simple(shape.dims, shape.of, NULL);
    hid_t dataset = H5Dcreate2(file, path, H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    dsc_status status = DSC_OK;

    if (dataset < 0)
        status = dsc_h5_fail(DSC_EIO, file, "cannot make %s", path);
    else
        status = find_offset(dataset, path, offset);
    H5Dclose(dataset);
    H5Sclose(space);
    return status;
}

static dsc_status make_tensors(hid_t file, dsc_layout *layout)
{
    hid_t properties = make_tensor_properties();
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_h5_make_group(file, "/optimizer", NULL));
    if (layout->copies.workers > 1) DSC_TRY(dsc_h5_make_group(file, ERRORS, NULL));
    for (int which = 0; which < DSC_STATE_COUNT; which++) {
        if (!dsc_layout_holds(layout, which)) continue;
        DSC_TRY(dsc_h5_make_group(file, DSC_STATE_PATHS[which], NULL));
        for (int64_t i = 0; i < layout->count; i++)
            DSC_TRY(make_tensor(file, properties, path_of(which, layout, i).str, shape_of(which, layout, i),
                                &layout->offsets[which * layout->count + i]));
    }
out:
    H5Pclose(properties);
    return status;
}

dsc_status dsc_checkpoint_file_create(const char *path, const dsc_checkpoint_state *state, dsc_layout *layout)
{
    hid_t file = H5I_INVALID_HID;
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_h5_create(path, false, &file));
    DSC_TRY(dsc_h5_put_int(file, "schema_version", 1));
    DSC_TRY(put_state(file, state));
    DSC_TRY(make_tensors(file, layout));
    DSC_TRY(dsc_h5_close(&file));
out:
    dsc_h5_discard(&file);
    return status;
}

/* ---- Checking what a file holds */

typedef struct shape_text { char str[64]; } shape_text;

static shape_text shape_str(int dims, const hsize_t *shape)
{
    shape_text out = {"["};
    int length = 1;

    for (int i = 0; i < dims && length < (int)sizeof out.str - 24; i++)
        length += snprintf(out.str + length, sizeof out.str - (size_t)length, "%s%" PRIu64, i > 0 ? ", " : "",
                           (uint64_t)shape[i]);
    snprintf(out.str + length, sizeof out.str - (size_t)length, "]");
    return out;
}

static dsc_status check_shape(hid_t dataset, const char *path, data_shape wanted)
{
    hid_t space = H5Dget_space(dataset);
    hsize_t shape[H5S_MAX_RANK] = {0};
    int dims = H5Sget_simple_extent_dims(space, shape, NULL);

    H5Sclose(space);
    if (dims == wanted.dims && memcmp(shape, wanted.of, sizeof *shape * (size_t)dims) == 0) return DSC_OK;
    return dsc_h5_refuse(dataset, "%s is %s in the checkpoint, %s in the model", path, shape_str(dims, shape).str,
                         shape_str(wanted.dims, wanted.of).str);
}

/* Divides, as shapes of strangers' files may be of any size. */
static bool is_within(const data_shape *shape, int64_t offset, int64_t file_bytes)
{
    hsize_t room = offset < 0 || offset > file_bytes ? 0 : (hsize_t)(file_bytes - offset) / sizeof(float);

    for (int i = 0; i < shape->dims; i++) room /= shape->of[i];
    return room > 0;
}

static dsc_status check_tensor(hid_t dataset, const char *path, data_shape shape, int64_t file_bytes, int64_t *offset)
{
    hid_t type = H5Dget_type(dataset);
    bool is_float32 = H5Tequal(type, H5T_IEEE_F32LE) > 0;
    dsc_status status = DSC_OK;

    H5Tclose(type);
    DSC_TRY(check_shape(dataset, path, shape));
    if (!is_float32) return dsc_h5_refuse(dataset, "%s is not of type float32", path);
    DSC_TRY(find_offset(dataset, path, offset));
    if (!is_within(&shape, *offset, file_bytes)) status = dsc_h5_refuse(dataset, "%s lies outside the file", path);
out:
    return status;
}

static bool is_wanted(const dsc_layout *layout, const char *name)
{
    for (int64_t i = 0; i < layout->count; i++)
        if (dsc_equal(layout->datasets[i].stored.name, name)) return true;
    return false;
}

/* Names one that the model lacks, where the group holds more members than the model has tensors. */
static dsc_status check_members(hid_t file, const char *path, const dsc_layout *layout)
{
    H5G_info_t info;
    char name[256];

    if (H5Gget_info_by_name(file, path, &info, H5P_DEFAULT) < 0)
        return dsc_h5_fail(DSC_EINVAL, file, "cannot read %s", path);
    for (hsize_t i = 0; (int64_t)info.nlinks > layout->count && i < info.nlinks; i++)
        if (H5Lget_name_by_idx(file, path, H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT) > 0 &&
            !is_wanted(layout, name))
            return dsc_h5_refuse(file, "%s/%s is not a tensor of the model", path, name);
    return DSC_OK;
}

static dsc_status open_dataset(hid_t file, const char *path, hid_t *out)
{
    if (H5Lexists(file, path, H5P_DEFAULT) <= 0) return dsc_h5_refuse(file, "%s is missing", path);
    *out = H5Dopen2(file, path, H5P_DEFAULT);
    return *out < 0 ? dsc_h5_fail(DSC_EINVAL, file, "cannot read %s", path) : DSC_OK;
}

static dsc_status open_tensor(hid_t file, const char *path, data_shape shape, int64_t *offset)
{
    hsize_t file_bytes = 0;
    hid_t dataset;
    dsc_status status = open_dataset(file, path, &dataset);

    if (status != DSC_OK) return status;
    H5Fget_filesize(file, &file_bytes);
    status = check_tensor(dataset, path, shape, (int64_t)file_bytes, offset);
    H5Dclose(dataset);
    return status;
}

/* The first tensor's errors tell how many workers there are, for all. */
static dsc_status find_workers(hid_t file, dsc_layout *layout)
{
    const char *path;
    dsc_tensor_path first;
    hsize_t shape[H5S_MAX_RANK] = {0};
    hid_t dataset, space;
    dsc_status status;

    layout->copies.workers = 1;
    if (layout->count == 0 || H5Lexists(file, ERRORS, H5P_DEFAULT) <= 0) return DSC_OK;
    first = path_of(DSC_STATE_WORKER_ERROR, layout, 0);
    path = first.str;
    status = open_dataset(file, path, &dataset);
    if (status != DSC_OK) return status;
    space = H5Dget_space(dataset);
    H5Sget_simple_extent_dims(space, shape, NULL);
    H5Sclose(space);
    layout->copies.workers = (int64_t)shape[0];
    if (shape[0] < 2) status = dsc_h5_refuse(dataset, "%s is of %lld workers", path, (long long)shape[0]);
    H5Dclose(dataset);
    return status;
}

dsc_status dsc_checkpoint_file_open(const char *path, dsc_checkpoint_state *state, dsc_layout *layout)
{
    const int64_t count = layout->count;
    hid_t file = H5I_INVALID_HID;
    dsc_checkpoint_state loaded = {0};
    dsc_status status = DSC_OK;

    DSC_TRY(dsc_h5_open(path, &file, NULL));
    DSC_TRY(dsc_h5_check_version(file, "a checkpoint"));
    DSC_TRY(get_state(file, &loaded));
    DSC_TRY(find_workers(file, layout));
    layout->copies.has_trust = H5Lexists(file, DSC_STATE_PATHS[DSC_STATE_TRUST], H5P_DEFAULT) > 0;
    for (int which = 0; which < DSC_STATE_COUNT; which++) {
        if (!dsc_layout_holds(layout, which)) continue;
        for (int64_t i = 0; i < count; i++)
            DSC_TRY(open_tensor(file, path_of(which, layout, i).str, shape_of(which, layout, i),
                                &layout->offsets[which * count + i]));
        DSC_TRY(check_members(file, DSC_STATE_PATHS[which], layout));
    }
    *state = loaded;
    loaded = (dsc_checkpoint_state){0};
out:
    dsc_h5_discard(&file);
    dsc_checkpoint_state_fini(&loaded);
    return status;
}
