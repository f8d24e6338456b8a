/* checkpoint.h5 as HDF5 sees it: made and opened once, to learn where the tensors lie; then as bytes. Internal. */
#ifndef DSC_STORE_CHECKPOINT_FILE_H
#define DSC_STORE_CHECKPOINT_FILE_H

#include "store/checkpoint.h"

#define DSC_CHECKPOINT_FILE "checkpoint.h5"
#define DSC_MANIFEST_FILE "manifest.json"

/* "step-00000010" */
typedef struct dsc_step_name { char str[32]; } dsc_step_name;
dsc_step_name dsc_step_name_of(int64_t step);

/* "/model/transformer.wte.weight" */
typedef struct dsc_tensor_path { char str[128]; } dsc_tensor_path;
dsc_tensor_path dsc_tensor_path_of(int which, const char *name);

/* What the file holds of a tensor. */
typedef struct dsc_dataset {
    dsc_stored stored;
    bool is_turned;      /* its rows are columns of the tensor */
    int64_t shape[2];    /* rows and columns in the file, a vector as one row */
} dsc_dataset;

/* Where tensors lie in the file. */
typedef struct dsc_layout {
    int64_t count;         /* of data sets */
    dsc_copies copies;
    int64_t *offsets;      /* [DSC_STATE_COUNT * count], owned: values of state `which` at which * count + data set */
    dsc_dataset *datasets; /* [count], owned: in the tensors' order */
    struct dsc_held_tensor { int64_t first, end, shape[2]; } *tensors; /* owned: its data sets, rows and columns */
} dsc_layout;

/* With offsets of 0. */
dsc_status dsc_layout_init(const dsc_tensor *tensors, int64_t count, dsc_copies copies, dsc_layout *out);
void dsc_layout_fini(dsc_layout *layout); /* takes {0} */
bool dsc_layout_holds(const dsc_layout *layout, int which);
int64_t dsc_layout_bytes(const dsc_layout *layout, int which, int64_t dataset);

/* Moves a piece between memory and the open file. DSC_EIO; DSC_EINTERNAL when it passes the tensor's edge. */
dsc_status dsc_checkpoint_piece_write(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece);
dsc_status dsc_checkpoint_piece_read(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece);
/* As dsc_checkpoint_read_mean. */
dsc_status dsc_checkpoint_piece_mean(int file, const dsc_layout *layout, const dsc_checkpoint_piece *piece,
                                     int64_t workers);

/* Creates the file with its state and with room for all tensors; sets the layout's offsets. */
dsc_status dsc_checkpoint_file_create(const char *path, const dsc_checkpoint_state *state, dsc_layout *layout);

/* Opens a verified file; sets the layout's copies and offsets. Errors as dsc_checkpoint_open. */
dsc_status dsc_checkpoint_file_open(const char *path, dsc_checkpoint_state *state, dsc_layout *layout);

#endif
