/* What a rank holds of the tensors of a bucket, for kernels that work tensor by tensor: a list that they read from an
 * operand of int64, made once and kept for all steps. */
#ifndef DSC_KERNEL_HELD_H
#define DSC_KERNEL_HELD_H

#include <stdint.h>

/* Elements first .. first + elems of the bucket's flat order are one tensor's; of these the first `real` are trained,
 * past them are rows past the vocabulary's end, which are zero, or positions past the sequence. A list ascends. */
typedef struct dsc_held { int64_t first, elems, real; } dsc_held;

enum { DSC_HELD_ELEMS = sizeof(dsc_held) / sizeof(int64_t) }; /* of the operand, for each tensor */

#endif
