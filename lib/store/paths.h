/* Files and folders for what must survive a power cut: synced writes, atomic renames. Internal. */
#ifndef DSC_STORE_PATHS_H
#define DSC_STORE_PATHS_H

#include "base/text.h"
#include <sys/types.h>

typedef struct dsc_path { char str[4096]; } dsc_path;

/* folder/name; DSC_EINVAL when it is too long. */
dsc_status dsc_path_join(const char *folder, const char *name, dsc_path *out);

/* Makes the folder and its parents where they are not there. DSC_EINVAL names the one that cannot be made. */
dsc_status dsc_make_folders(const char *path);

/* Syncs what is written to a path, or a folder's entries. DSC_EIO. */
dsc_status dsc_sync_path(const char *path);

/* Writes all of it at an offset of an open file. DSC_EIO. */
dsc_status dsc_write_at(int file, const void *bytes, int64_t count, int64_t offset);

/* Reads all of it from an offset of an open file. DSC_EIO. */
dsc_status dsc_read_at(int file, void *bytes, int64_t count, int64_t offset);

/* Creates or replaces a file in place and syncs it. DSC_EIO. */
dsc_status dsc_write_synced(const char *path, const char *bytes, int64_t count);

/* Replaces a small file so that a reader sees the old text or the new, whatever happens. DSC_EIO. */
dsc_status dsc_replace_file(const char *folder, const char *name, const char *text);

/* Adds a file's bytes to *out. DSC_EINVAL when it cannot be read. */
dsc_status dsc_read_whole(const char *path, dsc_text *out);

/* Puts folder `from` in the place of `to`, which may be there: then `from` is what `to` was. In one atomic step where
 * the file system can exchange; else a kill in between leaves `to` absent. DSC_EIO. */
dsc_status dsc_exchange_folders(const char *from, const char *to);

#endif
