/* HDF5 with our errors: what the files of this module share. Internal. HDF5 is not thread-safe here: one thread at a
 * time.
 *
 * Files are written as libver latest, whose metadata carry checksums, and never with object times, so that equal
 * contents give equal bytes. They are opened with H5F_CLOSE_STRONG: closing the file closes every object in it, which
 * is how functions that fail half-way clean up. */
#ifndef DSC_STORE_H5_H
#define DSC_STORE_H5_H

#include "trace/schema.h"
#include <hdf5.h>

/* Writes "path: SENTENCE: HDF5's innermost reason" and returns code: to be called before HDF5 is called again. */
dsc_status dsc_h5_fail(dsc_status code, hid_t object, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Writes "path: SENTENCE" about something that HDF5 has nothing against, and returns DSC_EINVAL. */
dsc_status dsc_h5_refuse(hid_t object, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Strangers' files are not to make us allocate without bound; no text of ours comes near. */
#define DSC_H5_MOST_TEXT_BYTES (1 << 28)

/* UTF-8 of fixed length, padded with NUL; the caller closes it. Whether a type is of fixed-length texts. */
hid_t dsc_h5_text_type(size_t bytes);
bool dsc_h5_is_text(hid_t type);

/* ---- Files */

/* Creates or replaces; is_live: it is read while it is written, and survives a killed writer. DSC_EINVAL when the path
 * cannot be written. */
dsc_status dsc_h5_create(const char *path, bool is_live, hid_t *out);

/* Opens for reading; *is_live (optional) says that a writer has it open, or was killed: SWMR is needed to read it.
 * DSC_EINVAL when the path cannot be read, is no HDF5 file or is damaged. */
dsc_status dsc_h5_open(const char *path, hid_t *out, bool *is_live);

/* Writes what is still to be written, closes *file and all in it, and sets it to H5I_INVALID_HID; takes that too.
 * DSC_EIO. */
dsc_status dsc_h5_close(hid_t *file);

/* Closes after a failure, whose message stays; what was not written yet is lost. Takes H5I_INVALID_HID. */
void dsc_h5_discard(hid_t *file);

/* ---- Attributes of an object (attribute.c). get: DSC_EINVAL when it is missing or of another kind. */

/* Adds an attribute that is not there yet. */
dsc_status dsc_h5_put_int(hid_t object, const char *name, int64_t value);
dsc_status dsc_h5_put_unsigned(hid_t object, const char *name, uint64_t value);
dsc_status dsc_h5_put_real(hid_t object, const char *name, double value);
dsc_status dsc_h5_put_text(hid_t object, const char *name, const char *value); /* of fixed length; NULL is "" */

/* The value of an attribute, which the caller frees where it is on the heap. */
dsc_status dsc_h5_get_int(hid_t object, const char *name, int64_t *out);
dsc_status dsc_h5_get_unsigned(hid_t object, const char *name, uint64_t *out);
dsc_status dsc_h5_get_real(hid_t object, const char *name, double *out);
dsc_status dsc_h5_get_text(hid_t object, const char *name, char **out); /* heap */
dsc_status dsc_h5_get_string(hid_t object, const char *name, char *out, size_t size); /* refuses what is longer */

/* schema_version must be 1; `what` ("a trace") is what the file is taken for. */
dsc_status dsc_h5_check_version(hid_t file, const char *what);

/* The present time, or SOURCE_DATE_EPOCH's, as ISO 8601; only_epoch: "" without SOURCE_DATE_EPOCH. */
void dsc_h5_date(bool only_epoch, char out[32]);

/* ---- Groups, lists of names, tables (table.c) */

/* A group whose parent is there; *out (optional) stays open. */
dsc_status dsc_h5_make_group(hid_t file, const char *path, hid_t *out);

/* A dataset of texts of fixed length; *names is a heap array of heap texts. */
dsc_status dsc_h5_put_names(hid_t file, const char *path, char *const *names, int64_t count);
dsc_status dsc_h5_get_names(hid_t file, const char *path, char ***names, int64_t *count);

/* Makes the group and an empty, growable, compressed dataset for each column, with its units; columns[column_count]
 * receives them, open. */
dsc_status dsc_h5_table_create(hid_t file, const dsc_table *table, hid_t *columns);

/* Writes rows[0..count) behind the first `at`. */
dsc_status dsc_h5_table_append(const dsc_table *table, const hid_t *columns, int64_t at, const char *rows,
                               int64_t count);

/* Reads the whole table into owner's array (empty before), as many rows as the shortest column has; *is_ragged
 * (optional) becomes true when others have more. Text ends with NUL. DSC_EINVAL names the column that is missing or
 * damaged. */
dsc_status dsc_h5_table_read(hid_t file, const dsc_table *table, void *owner, bool *is_ragged);

/* Table written at once from owner's array. */
dsc_status dsc_h5_table_save(hid_t file, const dsc_table *table, const void *owner);

#endif
