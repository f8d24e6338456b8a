/* Layouts of sparse attention in HDF5: a dataset [heads, blocks, blocks] of 0 and 1, of any integer type, with the
 * attribute `block`, tokens of a block's side (16 where it is missing). */
#ifndef DSC_STORE_LAYOUT_FILE_H
#define DSC_STORE_LAYOUT_FILE_H

#include "model/sparsity.h"

/* path is FILE.h5, whose dataset is /layout, or FILE.h5:DATASET. A dsc_layout_reader.
 * returns  DSC_EINVAL naming the file, and what is no such dataset or which element is neither 0 nor 1 */
dsc_status dsc_layout_load(const char *path, dsc_layout **out);

#endif
