#include "store/h5.h"
#include <stdlib.h>
#include <string.h>

static dsc_status put(hid_t object, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    dsc_status status = DSC_OK;

    if (attribute < 0 || H5Awrite(attribute, type, value) < 0)
        status = dsc_h5_fail(DSC_EIO, object, "cannot write attribute %s", name);
    H5Aclose(attribute);
    H5Sclose(space);
    return status;
}

dsc_status dsc_h5_put_int(hid_t object, const char *name, int64_t value)
{
    return put(object, name, H5T_NATIVE_INT64, &value);
}

dsc_status dsc_h5_put_unsigned(hid_t object, const char *name, uint64_t value)
{
    return put(object, name, H5T_NATIVE_UINT64, &value);
}

dsc_status dsc_h5_put_real(hid_t object, const char *name, double value)
{
    return put(object, name, H5T_NATIVE_DOUBLE, &value);
}

dsc_status dsc_h5_put_text(hid_t object, const char *name, const char *value)
{
    const char *text = value == NULL ? "" : value;
    hid_t type = dsc_h5_text_type(DSC_MAX(strlen(text), (size_t)1)); /* HDF5 has no texts of length 0 */
    dsc_status status = put(object, name, type, text);

    H5Tclose(type);
    return status;
}

/* Opens an attribute that holds one value. */
static dsc_status open_scalar(hid_t object, const char *name, hid_t *out, hid_t *type)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT), space;
    dsc_status status = DSC_OK;

    if (attribute < 0) return dsc_h5_fail(DSC_EINVAL, object, "cannot read attribute %s", name);
    space = H5Aget_space(attribute);
    if (H5Sget_simple_extent_npoints(space) == 1) {
        *out = attribute;
        *type = H5Aget_type(attribute);
    } else {
        status = dsc_h5_refuse(object, "attribute %s is not one value", name);
        H5Aclose(attribute);
    }
    H5Sclose(space);
    return status;
}

/* HDF5 converts widths, and whole numbers to reals. */
static dsc_status get_number(hid_t object, const char *name, hid_t memory_type, void *out)
{
    hid_t attribute, type;
    H5T_class_t class;
    dsc_status status = open_scalar(object, name, &attribute, &type);

    if (status != DSC_OK) return status;
    class = H5Tget_class(type);
    if (class != H5T_INTEGER && class != H5Tget_class(memory_type))
        status = dsc_h5_refuse(object, "attribute %s is no number of the kind that is wanted", name);
    else if (H5Aread(attribute, memory_type, out) < 0)
        status = dsc_h5_fail(DSC_EINVAL, object, "cannot read attribute %s", name);
    H5Tclose(type);
    H5Aclose(attribute);
    return status;
}

dsc_status dsc_h5_get_int(hid_t object, const char *name, int64_t *out)
{
    return get_number(object, name, H5T_NATIVE_INT64, out);
}

dsc_status dsc_h5_get_unsigned(hid_t object, const char *name, uint64_t *out)
{
    return get_number(object, name, H5T_NATIVE_UINT64, out);
}

dsc_status dsc_h5_get_real(hid_t object, const char *name, double *out)
{
    return get_number(object, name, H5T_NATIVE_DOUBLE, out);
}

dsc_status dsc_h5_get_text(hid_t object, const char *name, char **out)
{
    hid_t attribute, type;
    char *text = NULL;
    size_t bytes;
    dsc_status status = open_scalar(object, name, &attribute, &type);

    if (status != DSC_OK) return status;
    bytes = H5Tget_size(type);
    if (!dsc_h5_is_text(type) || bytes > DSC_H5_MOST_TEXT_BYTES)
        status = dsc_h5_refuse(object, "attribute %s is no text of fixed length", name);
    else if ((text = calloc(bytes + 1, 1)) == NULL)
        status = DSC_FAIL(DSC_ENOMEM, "no memory for %zu bytes of attribute %s", bytes, name);
    else if (H5Aread(attribute, type, text) < 0)
        status = dsc_h5_fail(DSC_EINVAL, object, "cannot read attribute %s", name);
    if (status == DSC_OK)
        *out = text;
    else
        free(text);
    H5Tclose(type);
    H5Aclose(attribute);
    return status;
}

dsc_status dsc_h5_get_string(hid_t object, const char *name, char *out, size_t size)
{
    char *text = NULL;
    dsc_status status = dsc_h5_get_text(object, name, &text);

    if (status != DSC_OK) return status;
    if (strlen(text) < size)
        strcpy(out, text);
    else
        status = dsc_h5_refuse(object, "attribute %s has %zu bytes, at most %zu fit", name, strlen(text), size - 1);
    free(text);
    return status;
}

dsc_status dsc_h5_check_version(hid_t file, const char *what)
{
    int64_t version = 0;

    if (H5Aexists(file, "schema_version") <= 0)
        return dsc_h5_refuse(file, "not %s: there is no attribute schema_version", what);
    if (dsc_h5_get_int(file, "schema_version", &version) != DSC_OK) return DSC_EINVAL;
    if (version != 1)
        return dsc_h5_refuse(file, "%s of schema %lld; schema 1 is what can be read", what, (long long)version);
    return DSC_OK;
}
